"""The command line: each command parses, calls one function and prints.

What a command needs is imported in its body, so that ``nearfar --help`` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from nearfar.files.extras import MissingPackageError

if TYPE_CHECKING:
    from nearfar.recordings.clips import Dataset
    from nearfar.research.fused import Study
    from nearfar.systems.branches import Progress
    from nearfar.systems.configuration import System

FAILED, ANOMALOUS, INTERRUPTED, TERMINATED = (
    1,
    3,
    130,
    143,
)  # exit codes, beside 0 and typer's 2 for wrong usage
DEBUG = "NEARFAR_DEBUG"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hears that a machine is failing: learns from normal recordings, of a near and a far microphone.",
    epilog="Try `nearfar demo` first. A detector of your own: `nearfar fit FOLDER -o DETECTOR`, then "
    "`nearfar score DETECTOR CLIPS`.",
)
data_app = typer.Typer(no_args_is_help=True, help="Published data sets: list them, download them.")
app.add_typer(data_app, name="data")
cache_app = typer.Typer(
    no_args_is_help=True, help="What is kept of finished work: look at it, verify it, clean it."
)
app.add_typer(cache_app, name="cache")
weights_app = typer.Typer(no_args_is_help=True, help="Pretrained weights: list them, get them, check them.")
app.add_typer(weights_app, name="weights")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# Options that several commands have
Workers = Annotated[int, typer.Option(min=1, help="Processes or threads that work side by side.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Where finished steps are kept (default: $NEARFAR_CACHE, or the user's cache)."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the system, as branch.view=near."),
]
Preset = Annotated[
    str | None, typer.Option(help="Settings that the system's file has under this name, as small.")
]
AdapterFile = Annotated[
    Path | None,
    typer.Option("--adapter", metavar="FILE", help="For a system that is adapted: of `nearfar adapt`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Weights = Annotated[str, typer.Argument(help="Of `nearfar weights list`, as eat.")]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="You have read the licence, and accept it.")
]

CORES = os.cpu_count() or 1


def main() -> None:
    """The console script: one error line instead of a traceback, unless ``NEARFAR_DEBUG`` is set."""
    for variable in ONE_THREAD:  # clips are worked on side by side; more threads for one only get in the way
        os.environ.setdefault(variable, "1")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(TERMINATED)
    )  # so that workers end and nothing is left half done
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (ValueError, OSError, LookupError, MissingPackageError) as error:
        if os.environ.get(DEBUG):
            raise
        err.print(f"[bold red]error:[/] {_said(error)}", markup=True, soft_wrap=True)
        sys.exit(FAILED)


def _said(error: Exception) -> str:
    from rich.markup import escape

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return escape(
            f"the disk is full ({error}); free some space and run the same command again: it goes on"
        )
    return escape(str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error))


@contextmanager
def _progress(kept: str = "nothing is kept") -> Iterator[Progress]:
    """A callback (step, done, total) that draws bars on a terminal, and prints finished steps elsewhere.

    A bar tells how many are done, how many a second, and the time left. ``kept`` is what Ctrl-C tells.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        speed,
        TimeRemainingColumn(),
    )
    bars: dict[
        str, tuple[TaskID, int, float]
    ] = {}  # with how many were done when it appeared, and when that was
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as drawn:

        def told(step: str, done: int, total: int) -> None:
            if not err.is_terminal:
                if done == total:
                    err.print(f"{step}: {total} done", soft_wrap=True)
                return
            if step not in bars:
                bars[step] = drawn.add_task(step, rate=""), done, time.monotonic()
            bar, before, begun = bars[step]
            rate = f"{(done - before) / (time.monotonic() - begun):.3g}/s" if done > before else ""
            drawn.update(bar, completed=done, total=total, rate=rate)
            if done >= total:
                drawn.remove_task(bars.pop(step)[0])

        try:
            yield told
        except KeyboardInterrupt:
            drawn.stop()
            err.print(f"interrupted; {kept}")
            raise typer.Exit(INTERRUPTED) from None


def _version(wanted: bool) -> None:
    if wanted:
        from nearfar import __version__

        out.print(f"nearfar {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hears that a machine is failing."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for recordings and results.")] = Path("demo"),
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Simulate two machines, learn what is normal, score new clips, and say how well that went."""
    from nearfar.cli.demo import demonstrate

    with _progress() as progress:
        for shown in demonstrate(folder, seed=seed, workers=workers, progress=progress):
            out.print(shown)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the recordings.")],
    preset: Annotated[
        str, typer.Option(help="small, or dcase2026-like: 7 machines x (990 + 10 + 200) clips of 10 s.")
    ] = "small",
    machines: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Of `nearfar machines` (default: seven of them).")
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="Source-domain training clips a machine (small: 100).")
    ] = None,
    test_clips: Annotated[
        int | None,
        typer.Option(help="Test clips a domain and label (default: 50 to 990 --clips, at least 20)."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a clip (10).")] = None,
    rate: Annotated[int, typer.Option(help="Sampling rate in Hz.")] = 16000,
    snr: Annotated[
        tuple[float, float], typer.Option(metavar="LO HI", help="Machine against noise, near, in dB.")
    ] = (-8, 0),
    shift: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...",
            help="What differs in the target domain: speed, load, unit, noise, microphones; or none. "
            "By default each machine has its own.",
        ),
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Recordings to be heard instead of made noise.")
    ] = None,
    microphone_faults: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...", help="In a tenth of the test clips: dead, clipped, hum, swapped, delayed."
        ),
    ] = None,
    sources: Annotated[
        bool,
        typer.Option("--sources", help="Also write what each clip is made of: dry machine, machine, noise."),
    ] = False,
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Record machines that do not exist, with two microphones, in the layout of the challenge."""
    from nearfar.simulation import simulate

    kept = "recordings that are finished are kept: the same command goes on where it stopped"
    with _progress(kept) as progress:
        made = simulate(
            folder, preset=preset, machines=_names(machines), source_clips=clips, test_clips=test_clips,
            seconds=seconds, rate=rate, snr=snr, seed=seed, shift=_names(shift), noise=noise,
            microphone_faults=_names(microphone_faults) or (), sources=sources, workers=workers,
            progress=lambda done, total: progress("simulating", done, total),
        )  # fmt: skip
    out.print(f"wrote {made}; now try `nearfar run spectral --data {made}`", soft_wrap=True)


def _names(text: str | None) -> list[str] | None:
    """Of a list that is joined by commas."""
    return None if text is None else [name.strip() for name in text.split(",")]


@app.command()
def machines() -> None:
    """The machines that can be simulated: their speeds, faults, and what shifts in the target domain."""
    from nearfar.report import tables
    from nearfar.simulation import describe

    out.print(tables.simulated(describe()))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set.")],
    as_json: AsJson = False,
    workers: Workers = CORES,
) -> None:
    """List everything that is wrong with a data set. Exit code 1 if there is an error."""
    from nearfar.recordings import datasets
    from nearfar.recordings.datasets import validation
    from nearfar.report import tables

    with _progress() as progress:
        found = validation.validate(
            datasets.load(folder),
            workers=workers,
            progress=lambda done, total: progress("checking", done, total),
        )
    out.print_json(validation.to_json(found)) if as_json else out.print(
        tables.problems(validation.to_table(found))
    )
    raise typer.Exit(FAILED if any(p.severity == "error" for p in found) else 0)


@data_app.command("list")
def data_list() -> None:
    """The published data sets that nearfar knows."""
    from nearfar.recordings.datasets import DATASETS
    from nearfar.report import tables

    out.print(tables.published(DATASETS))


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="Of `nearfar data list`, as dcase2026.")],
    subset: Annotated[
        Literal["dev", "train", "eval"] | None, typer.Option("--set", help="This part only.")
    ] = None,
    machine: Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")] = None,
    root: Annotated[Path, typer.Option(help="Folder for data sets.")] = Path("data"),
) -> None:
    """Download a data set, with checksums; an interrupted download goes on where it stopped."""
    from nearfar.recordings.datasets import DATASETS
    from nearfar.recordings.datasets.download import download

    with _progress("what has come is kept: the same command goes on where it stopped") as progress:
        folders = download(name, root=root, subset=subset, machines=machine, progress=progress)
    out.print(f"licence: {DATASETS[name].LICENSE}", soft_wrap=True)
    for folder in folders:
        out.print(f"{folder}", soft_wrap=True)


@weights_app.command("list")
def weights_list() -> None:
    """The pretrained weights that nearfar knows, and which of them are here."""
    from nearfar.encoders.pretrained import PRETRAINED, stored, weights_folder
    from nearfar.report import tables

    here = {name for name in PRETRAINED if stored(name) is not None}
    out.print(tables.weights(PRETRAINED.values(), here, weights_folder()))


@weights_app.command("get")
def weights_get(name: Weights, accept_licence: AcceptLicence = False) -> None:
    """Fetch weights, and check them; an interrupted download goes on where it stopped."""
    from nearfar.encoders import weights
    from nearfar.files.downloads import Client

    accepted = _accepted(name, accept_licence)
    with _progress("what has come is kept: the same command goes on where it stopped") as progress:
        path = weights.get(name, accepted=accepted, client=Client(progress=progress))
    out.print(f"{path}", soft_wrap=True)


@weights_app.command("add")
def weights_add(
    name: Weights,
    file: Annotated[Path, typer.Argument(help="A .safetensors, or a .pt that holds tensors alone.")],
    accept_licence: AcceptLicence = False,
) -> None:
    """Take weights from a file of yours, if their network loads it; in place of any that are here."""
    from nearfar.encoders import weights

    path = weights.add(name, file, accepted=_accepted(name, accept_licence))
    out.print(f"{path}", soft_wrap=True)


@weights_app.command("verify")
def weights_verify(
    name: Weights,
    golden: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With a recording, and the authors' tokens of it.")
    ] = None,
) -> None:
    """Load weights strictly and check that they have not changed; compare their tokens with the authors'."""
    from nearfar.encoders import weights
    from nearfar.report import tables

    out.print(tables.verified(name, weights.verify(name)), soft_wrap=True)
    if golden is not None:
        out.print(tables.likeness(weights.compare(name, golden)), soft_wrap=True)


def _accepted(name: str, accept: bool) -> str:
    """Show the licence of these weights; how it was accepted, if it must be."""
    from nearfar.encoders.pretrained import PRETRAINED

    if name not in PRETRAINED:
        return ""
    record = PRETRAINED[name]
    out.print(
        f"licence: {record.licence.name}, {record.licence.url}\n{record.licence.summary}", soft_wrap=True
    )
    if not record.must_accept:
        return ""
    if accept:
        return "--accept-licence"
    typer.confirm("Have you read this licence, and do you accept it?", abort=True)
    return "asked"


@app.command()
def fit(
    folder: Annotated[Path, typer.Argument(help="Normal clips of one machine; or its folder with train/.")],
    detector: Annotated[Path, typer.Option("--out", "-o", help="New folder for the detector.")],
    system: Annotated[str, typer.Option(help="Of `nearfar systems`, or a TOML file.")] = "spectral",
    preset: Preset = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Share of normal clips to flag.")] = None,
    settings: Settings = None,
    adapter: AdapterFile = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a detector that is there.")
    ] = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Learn what is normal: from a folder of normal clips to a detector."""
    from nearfar.detector.file_format import refuse_to_replace
    from nearfar.detector.fitted import Detector
    from nearfar.files import steps
    from nearfar.recordings import datasets
    from nearfar.report import tables
    from nearfar.training.adapters import Adapter

    chosen = _system(system, preset, settings, false_alarm_rate)
    refuse_to_replace(detector, replace=replace)
    with _progress("trainings that are finished are kept") as progress:
        machine = datasets.load_machine(folder)
        fitted = Detector.fit(
            machine, chosen, adapters=[Adapter.load(adapter)] if adapter else [], seed=seed, workers=workers,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    fitted.save(detector, replace=replace)
    out.print(tables.detector(fitted))
    out.print(f"wrote {detector}; now try `nearfar score {detector} CLIPS`", soft_wrap=True)


def _system(
    name: str, preset: str | None, settings: list[str] | None, false_alarm_rate: float | None = None
) -> System:
    from nearfar.systems import configuration
    from nearfar.systems.settings import parse_settings

    replaced = parse_settings(settings or ())
    if false_alarm_rate is not None:
        replaced["threshold.false_alarm_rate"] = false_alarm_rate
    return configuration.load(name, replaced, preset=preset)


@app.command()
def adapt(
    system: Annotated[str, typer.Argument(help="Of `nearfar systems`, as dualmic, or a TOML file.")],
    data: Annotated[Path, typer.Option(help="Folder of a data set, with a folder a machine.")],
    file: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="New file, as dualmic.safetensors.")
    ],
    preset: Preset = None,
    machine: Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")] = None,
    settings: Settings = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a file that is there.")
    ] = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Adapt a frozen network to machines: trains low-rank adapters on the normal clips of all of them."""
    from nearfar.files import atomic, steps
    from nearfar.report import tables
    from nearfar.research import adaptation

    chosen = _system(system, preset, settings)
    atomic.refuse_existing(file, replace=replace)
    with _progress("what is trained is kept: the same command goes on where it stopped") as progress:
        adapter = adaptation.train(
            chosen, _machines(data, machine).machines, seed=seed, workers=workers, jobs=steps.Jobs(cache),
            progress=progress,
        )  # fmt: skip
    adapter.save(file)
    out.print(tables.adapter(adapter))
    out.print(f"wrote {file}; now try `nearfar run {system} --data OTHERS --adapter {file}`", soft_wrap=True)


@app.command()
def score(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    clips: Annotated[
        list[str], typer.Argument(help="Files and folders of recordings; - for raw PCM on stdin.")
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, line by line.")] = False,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Of stdin, in Hz (default: as in training).")
    ] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Of stdin (default: as in training).")] = None,
    fail_on_anomaly: Annotated[bool, typer.Option("--fail-on-anomaly", help="Then exit with 3.")] = False,
    workers: Workers = CORES,
) -> None:
    """Score new clips: anomaly score, p-value, decision, and the state of the microphones.

    Exit code 0, or 1 if a recording could not be used, or 3 with --fail-on-anomaly if one is an anomaly.
    """
    from nearfar.detector.fitted import Detector
    from nearfar.report import verdicts

    loaded = Detector.load(detector)
    if clips == ["-"]:
        found = iter([loaded.score_stream(sys.stdin.buffer, rate=rate, channels=channels)])
    else:
        found = loaded.score_files(_recordings(clips), workers=workers)
    form = "csv" if as_csv else "json" if as_json else "table"
    shown = verdicts.show(found, form, out)
    raise typer.Exit(_exit_code(shown, fail_on_anomaly))


def _recordings(names: list[str]) -> list[Path]:
    """The audio files that these files and folders are or hold, in order."""
    from nearfar.recordings.datasets.layout import recordings_below

    if "-" in names:
        raise typer.BadParameter("- stands for standard input, and then for the only recording")
    found = []
    for path in map(Path, names):
        within = recordings_below(path) if path.is_dir() else [path]
        if not within:
            raise FileNotFoundError(f"{path}: no recordings (.wav, .flac) in this folder")
        found += within
    return found


def _exit_code(decisions: set[str], fail_on_anomaly: bool) -> int:
    if fail_on_anomaly and "anomaly" in decisions:
        return ANOMALOUS
    return FAILED if "unusable" in decisions else 0


@app.command()
def run(
    system: Annotated[
        str, typer.Argument(help="Of `nearfar systems`, or a TOML file of a system or of a study.")
    ],
    data: Annotated[Path, typer.Option(help="Folder of a data set, with a folder a machine.")],
    preset: Preset = None,
    machine: Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Joined by commas (default: 13711).")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Default: results/SYSTEM.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth, as the official evaluator has it.")
    ] = None,
    settings: Settings = None,
    adapted_on: Annotated[
        Literal["others", "all"] | None,
        typer.Option(
            help="On whose normal clips the adapter of each machine is trained, if there is one (default: others, "
            "or as a study's protocol has it)."
        ),
    ] = None,
    adapter: AdapterFile = None,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Fit a system to every machine of a data set, score its test clips, evaluate.

    A study has several systems as branches, and fuses their scores; its file names seeds and settings.
    """
    from nearfar.files import steps
    from nearfar.report import tables
    from nearfar.research import experiment, fused

    is_study = fused.is_study(system)
    chosen = _study(system, preset, seeds, settings) if is_study else _system(system, preset, settings)
    if adapter is not None and adapted_on is not None:
        raise typer.BadParameter("--adapter is trained already: give it, or --adapted-on, not both")
    if adapted_on is not None and not isinstance(chosen, fused.Study) and chosen.branch.adaptation is None:
        raise typer.BadParameter(f"{chosen.name} is not adapted: leave --adapted-on away")
    into = folder or Path("results") / chosen.name
    with _progress("finished steps are kept: the same command goes on where it stopped") as progress:
        found = _machines(data, machine)
        if isinstance(chosen, fused.Study):
            of_study = fused.run(
                chosen, found, into, adapted_on=adapter or adapted_on, workers=workers, truth=truth,
                jobs=steps.Jobs(cache), progress=progress,
            )  # fmt: skip
        else:
            result = experiment.run(
                chosen, found, into, seeds=experiment.parse_seeds(seeds or "13711"),
                adapted_on=adapter or adapted_on or "others", workers=workers, truth=truth,
                jobs=steps.Jobs(cache), progress=progress,
            )  # fmt: skip
    out.print(tables.study(of_study) if isinstance(chosen, fused.Study) else tables.result(result))


def _study(path: str, preset: str | None, seeds: str | None, settings: list[str] | None) -> Study:
    from nearfar.research import fused

    if preset or seeds or settings:
        raise typer.BadParameter(
            "a study names its presets, seeds and settings in its file: change them there"
        )
    return fused.load(path)


@app.command("study")
def published_study(
    name: Annotated[str | None, typer.Argument(help="Of `nearfar study`, or a TOML file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of a data set with labels.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what would be done, and the time.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[ENCODER:]KEY=VALUE",
            help="Replace a setting in all branches, or in those with this encoder, as eat:branch.view=near.",
        ),
    ] = None,
    machine: Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Default: results/NAME.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth, as the official evaluator has it.")
    ] = None,
    as_json: AsJson = False,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Find the numbers of a published report again: its values beside ours. Without a name: list the studies.

    What a row needs and is not here, weights or data, is told in its place; the other rows run.
    """
    from nearfar.files import steps
    from nearfar.report import tables
    from nearfar.research import reproduce
    from nearfar.systems.settings import parse_settings

    if name is None:
        out.print(tables.studies(reproduce.describe()))
        return
    chosen = reproduce.load(name, parse_settings(settings or ()))
    found = None if data is None else _machines(data, machine)
    planned = reproduce.plan(chosen, found)
    if plan:
        out.print_json(tables.plan_json(planned)) if as_json else out.print(tables.plan(planned))
        return
    (err if as_json else out).print(tables.plan(planned))
    with _progress("finished steps are kept: the same command goes on where it stopped") as progress:
        again = reproduce.run(
            chosen, found, folder or Path("results") / chosen.name, workers=workers, truth=truth,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    out.print_json(tables.reproduction_json(again)) if as_json else out.print(tables.reproduction(again))


def _machines(data: Path, machines: list[str] | None) -> Dataset:
    """The data set, or some of its machines."""
    from nearfar.recordings import datasets

    found = datasets.load(data)
    return found.only(machines) if machines else found


@app.command()
def sweep(
    system: Annotated[str, typer.Argument(help="Of `nearfar systems`, or a TOML file.")],
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=A;B;...",
            help="As 'branch.backend_options.k=1;2;4'; repeat it for every combination with further settings.",
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder of a data set with labels.")],
    preset: Preset = None,
    machine: Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")] = None,
    settings: Settings = None,
    adapter: AdapterFile = None,
    by_recording: Annotated[
        bool, typer.Option("--by-recording", help="Intervals: clips of one recording come and go together.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Try settings of a system, from embeddings that are computed once. Its best row is no honest result."""
    from nearfar.files import steps
    from nearfar.report import tables
    from nearfar.research.sweep import sweep
    from nearfar.systems.settings import parse_options, parse_settings

    with _progress("embeddings that are finished are kept") as progress:
        swept = sweep(
            system, _machines(data, machine), parse_options(vary),
            preset=preset, settings=parse_settings(settings or ()), seed=seed,
            adapted_on=adapter or "others", unit="recording" if by_recording else "clip", workers=workers,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    if as_csv:
        typer.echo(swept.table.to_csv(index=False), nl=False)
        err.print(f"scope: {swept.scope}", soft_wrap=True)
    else:
        out.print(tables.sweep(swept))


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="SCORES", help="Folder of anomaly_score_*.csv.")],
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth, as the official evaluator has it.")
    ] = None,
    machine: Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate anyone's score files by the official metric.

    Without --truth the names of the clips must tell domain and label, as those of development sets do.
    """
    from nearfar.evaluation.official import evaluate_folder
    from nearfar.report import tables

    found = evaluate_folder(folder, truth, machines=machine)
    out.print_json(tables.evaluation_json(found)) if as_json else out.print(tables.evaluation(found))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RESULT_A", help="Folder of `nearfar run`.")],
    b: Annotated[Path, typer.Argument(metavar="RESULT_B", help="Another, of the same clips.")],
    by_recording: Annotated[
        bool, typer.Option("--by-recording", help="Clips of one recording come and go together.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=1, help="Of the test clips.")] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Is B better than A? The difference of two results, with its interval.

    Clips of a machine with the same attributes in their names count as one recording.
    """
    from nearfar.report import tables
    from nearfar.research import experiment

    results = experiment.Result.load(a), experiment.Result.load(b)
    unit: Literal["clip", "recording"] = "recording" if by_recording else "clip"
    found = experiment.compare(*results, unit=unit, n_resamples=resamples, seed=seed)
    if as_json:
        out.print_json(tables.comparison_json(found, *results))
    else:
        out.print(tables.comparison(found, *results))


@app.command()
def submit(
    results: Annotated[list[Path] | None, typer.Argument(metavar="RESULT...", help="Result folders.")] = None,
    package: Annotated[Path | None, typer.Option("--out", "-o", help="The package, a new zip file.")] = None,
    label: Annotated[str, typer.Option(help="LASTNAME_INSTITUTE_task2_N.")] = "",
    meta: Annotated[Path | None, typer.Option(help="Who and how: a YAML or TOML file.")] = None,
    report: Annotated[Path | None, typer.Option(help="The technical report, a PDF.")] = None,
    check: Annotated[Path | None, typer.Option(metavar="PACKAGE", help="Check this one instead.")] = None,
) -> None:
    """Write the challenge's package from results, or check one: every rule, every problem."""
    from nearfar.challenge import submission

    if check is not None:
        found = submission.check(check)
        out.print("\n".join(found) or f"{check}: no problems", soft_wrap=True)
        raise typer.Exit(FAILED if found else 0)
    if not (results and package and meta and label):
        raise typer.BadParameter("needs RESULT..., --out, --label and --meta; or --check PACKAGE")
    entry = submission.Entry(label, results, submission.read_meta(meta), report)
    submission.write([entry], package)
    out.print(f"wrote {package}; it keeps every rule that `nearfar submit --check` knows", soft_wrap=True)


@app.command()
def systems() -> None:
    """The systems that can be fitted, and what each needs."""
    from nearfar.report import tables
    from nearfar.systems import named

    out.print(tables.systems(named.describe()))


@cache_app.command("info")
def cache_info(cache: Cache = None) -> None:
    """What is in the cache: embeddings by what made them, and finished steps."""
    from nearfar.embedding import store
    from nearfar.files import steps
    from nearfar.report import tables

    out.print(tables.embeddings(store.Store(cache).contents()))
    out.print(tables.steps(steps.Jobs(cache).finished()))


@cache_app.command("verify")
def cache_verify(cache: Cache = None) -> None:
    """Read all embeddings, and list those that are damaged. Exit code 1 if there are any."""
    from nearfar.embedding.store import Store

    with _progress("nothing was changed") as progress:
        found = Store(cache).verify(lambda done, total: progress("verifying", done, total))
    out.print("\n".join(map(str, found)) or "all embeddings are whole", markup=False, soft_wrap=True)
    raise typer.Exit(FAILED if found else 0)


@cache_app.command("clean")
def cache_clean(
    encoder: Annotated[str | None, typer.Option(help="Also all embeddings of this encoder.")] = None,
    unused: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="Also embeddings that nobody used for so long."),
    ] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also damaged embeddings: reads all.")] = False,
    cache: Cache = None,
) -> None:
    """Remove what this version cannot use, because other code made it or a killed run left it unfinished."""
    from nearfar.embedding import store
    from nearfar.report import tables

    if damaged:
        out.print(f"removed {len(store.Store(cache).drop_damaged())} damaged embeddings")
    out.print(tables.removed(store.clean(cache, encoder=encoder, unused_days=unused)))
