"""The commands for one machine: fit a detector, calibrate it; adapt a network before that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nearfar.cli.console import FAILED, err, out, say, show
from nearfar.cli.options import (
    CORES,
    AdapterFile,
    AsJson,
    Cache,
    Channels,
    FalseAlarmRate,
    Gpus,
    Hop,
    MachineNames,
    On,
    Preset,
    Seed,
    Settings,
    TaskMemory,
    Workers,
    chosen_channels,
    chosen_cut,
    chosen_data,
    chosen_place,
    chosen_system,
    fitted_system,
)
from nearfar.cli.progress import CONTINUE, shown_progress
from nearfar.files.names import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfar.detector.fitted import Detector
    from nearfar.detector.fitting import Keep
    from nearfar.detector.fleet import FittedMachine

FittedWindow = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Cut recordings that are longer into windows of this length, such as 5 or 0.5min (default: 10 s, if "
        "there are recordings longer than 30 s).",
    ),
]
NoLearning = Annotated[
    bool,
    typer.Option(
        "--no-learning",
        help="Keep nothing of the clips: a smaller detector, which cannot `learn`, nor show how a recording "
        "differs from them.",
    ),
]
NoRecordings = Annotated[
    bool,
    typer.Option(
        "--no-recordings",
        help="Keep no clips as sound. Otherwise the detector has up to 24 of them as FLAC, to hear beside a "
        "recording: whoever has the detector can hear them. It has two seconds of one clip in any case, to check "
        "itself.",
    ),
]


def fit(
    folder: Annotated[
        Path, typer.Argument(help="Folder of normal clips of one machine, directly or in train/.")
    ],
    into: Annotated[Path, typer.Option("--out", "-o", help="New folder for the detector.")],
    system: Annotated[
        str | None,
        typer.Option(
            help="Name from `nearfar systems`, or a TOML file (default: best, if PyTorch and the weights mn04_as "
            "are on this computer and neither --set nor --preset is given; otherwise spectral)."
        ),
    ] = None,
    preset: Preset = None,
    false_alarm_rate: FalseAlarmRate = None,
    settings: Settings = None,
    adapter: AdapterFile = None,
    channels: Channels = None,
    window: FittedWindow = None,
    hop: Hop = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse training clips that would be left out."),
    ] = False,
    no_learning: NoLearning = False,
    no_recordings: NoRecordings = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing detector.")] = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Fit a detector to normal clips of one machine, or to long recordings, which are cut into windows.

    Clips that are certainly broken, or copies, are named and left out.
    Clips that are most unlike the others, where faults may hide, are listed and kept.
    """
    from nearfar.detector.file_format import refuse_to_replace
    from nearfar.detector.fitted import Detector
    from nearfar.files import steps
    from nearfar.recordings import datasets
    from nearfar.report import fitted
    from nearfar.training.adapters import Adapter
    from nearfar.windows.cutting import WINDOW_SECONDS

    chosen = fitted_system(system, preset, settings, false_alarm_rate)
    cut = chosen_cut(window, hop, WINDOW_SECONDS)
    refuse_to_replace(into, replace=replace)
    with shown_progress(f"Finished trainings are kept; {CONTINUE}.") as progress:
        machine = datasets.load_machine(folder, chosen_channels(channels))
        detector = Detector.fit(
            machine, chosen, adapters=[Adapter.load(adapter)] if adapter else [], seed=seed, workers=workers,
            workers_are="processes", odd_clips="refuse" if strict else "leave out",
            keep=_kept(no_learning, no_recordings), cut=cut or "long", jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    detector.save(into, replace=replace)
    out.print(fitted.detector(detector, into))
    say(f"Wrote {into}. Next: `{_to_score(into, detector)}`")


def fit_all(
    hall: Annotated[
        Path, typer.Argument(help="Folder with a folder for each machine, as `nearfar fit` takes it.")
    ],
    into: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the detectors, one for each machine.")
    ],
    system: Annotated[
        str | None,
        typer.Option(help="Name from `nearfar systems`, or a TOML file (default: as `nearfar fit`)."),
    ] = None,
    preset: Preset = None,
    false_alarm_rate: FalseAlarmRate = None,
    settings: Settings = None,
    adapter: AdapterFile = None,
    machine: MachineNames = None,
    channels: Channels = None,
    window: FittedWindow = None,
    hop: Hop = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse training clips that would be left out.")
    ] = False,
    no_learning: NoLearning = False,
    no_recordings: NoRecordings = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other detectors that are there.")
    ] = False,
    as_json: AsJson = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    on: On = "local",
    gpus: Gpus = 0.0,
    task_memory: TaskMemory = 0.0,
    cache: Cache = None,
) -> None:
    """Fit a detector to each machine of a hall.

    A machine that cannot be fitted does not stop the others. What is fitted already is not fitted again, so the
    same command goes on after an interruption, also elsewhere: see --on.
    """
    from nearfar.detector import fleet
    from nearfar.files import steps
    from nearfar.training.adapters import Adapter
    from nearfar.windows.cutting import WINDOW_SECONDS

    place = chosen_place(on, workers, gpus, task_memory)
    chosen = fitted_system(system, preset, settings, false_alarm_rate)
    cut = chosen_cut(window, hop, WINDOW_SECONDS)
    how = fleet.HowToFit(
        channels=chosen_channels(channels), adapter=Adapter.load(adapter) if adapter else None, cut=cut or "long",
        odd_clips="refuse" if strict else "leave out", keep=_kept(no_learning, no_recordings), seed=seed,
    )  # fmt: skip
    with shown_progress(f"Finished detectors are kept; {CONTINUE}.") as progress:
        fits = fleet.fit_all(
            hall, into, chosen, how, machines=machine or (), replace=replace, workers=place,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
        _show_fleet(fits, as_json=as_json)


def _show_fleet(fits: Iterator[FittedMachine], *, as_json: bool) -> None:
    """What became of machines, also if an error ends them."""
    from nearfar.report import fitted

    found: list[FittedMachine] = []
    try:
        found.extend(fits)
    finally:
        if found:
            show(fitted.fleet(found), fitted.fleet_json(found), as_json=as_json)
    if any(one.became in ("another is there", "not a detector") for one in found):
        say("What was there before was left as it is; --replace replaces detectors", err)
        raise typer.Exit(FAILED)


def _kept(no_learning: bool, no_recordings: bool) -> Keep:
    """What a detector keeps of its clips, by the two options."""
    if no_learning:
        return "nothing"
    return "embeddings" if no_recordings else "recordings"


def adapt(
    system: Annotated[
        str, typer.Argument(help="Name from `nearfar systems`, such as dualmic, or a TOML file.")
    ],
    data: Annotated[Path, typer.Option(help="Folder of a data set, with one folder per machine.")],
    file: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="New file, such as dualmic.safetensors.")
    ],
    preset: Preset = None,
    machine: MachineNames = None,
    settings: Settings = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing file.")] = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    on: On = "local",
    gpus: Gpus = 0.0,
    task_memory: TaskMemory = 0.0,
    cache: Cache = None,
) -> None:
    """Adapt a pretrained network to machines: train low-rank adapters on the normal clips of all machines."""
    from nearfar.files import atomic, steps
    from nearfar.report import fitted
    from nearfar.research import adaptation

    place = chosen_place(on, workers, gpus, task_memory)
    chosen = chosen_system(system, preset, settings)
    atomic.refuse_existing(file, replace=replace)
    with shown_progress(f"The training so far is kept; {CONTINUE}.") as progress:
        adapter = adaptation.train(
            chosen, chosen_data(data, machine).machines, seed=seed, workers=place, jobs=steps.Jobs(cache),
            progress=progress,
        )  # fmt: skip
    adapter.save(file)
    out.print(fitted.adapter(adapter))
    say(f"Wrote {file}. Next: `nearfar run {system} --data OTHERS --adapter {quoted(file)}`")


def calibrate(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    normals: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders of normal recordings that the fit has not seen, of a later session for example."
        ),
    ],
    into: Annotated[
        Path | None, typer.Option("--out", "-o", help="New folder for the calibrated detector.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the detector itself, or the one at --out.")
    ] = False,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of normal clips that may be flagged by mistake (default: the detector's own)."
        ),
    ] = None,
    method: Annotated[
        Literal["conformal", "gamma"] | None,
        typer.Option(
            help="conformal: from the ranks of the scores. gamma: from a distribution that is fitted to them, for "
            "rates that so few recordings do not attain (default: the detector's own)."
        ),
    ] = None,
    workers: Workers = CORES,
) -> None:
    """Set the threshold of a detector on normal recordings of a later session. Nothing is fitted again.

    These recordings replace the clips of the fit behind the threshold.
    What cannot be used, and copies, are named and left out. Training clips are refused.
    """
    from nearfar.detector.fitted import Detector
    from nearfar.report import fitted

    place = _place(detector, into, replace=replace)
    if Path("-") in normals:
        raise typer.BadParameter("- is one recording; give files or folders of normal recordings")
    with shown_progress() as progress:
        made = Detector.load(detector).calibrate(
            normals, false_alarm_rate=false_alarm_rate, method=method, workers=workers,
            progress=progress,
        )  # fmt: skip
    made.save(place, replace=replace)
    out.print(fitted.calibrated(made))
    say(f"Wrote {place}. Next: `{_to_score(place, made)}`")


def learn(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders of normal recordings, of a new speed or another condition for example."
        ),
    ],
    into: Annotated[
        Path | None, typer.Option("--out", "-o", help="New folder for the detector that has learnt.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the detector itself, or the one at --out.")
    ] = False,
    domain: Annotated[
        Literal["source", "target"] | None,
        typer.Option(help="Domain of all these recordings (default: as their names or domains.csv say)."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse recordings that would be left out.")
    ] = False,
    keep_odd: Annotated[
        bool,
        typer.Option("--keep-odd", help="Also learn recordings whose sound is odd, such as much too loud."),
    ] = False,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Add normal recordings to a detector. The recordings of the fit are not needed.

    The threshold is learnt again, from old and new clips. The detector keeps a history of what was added.
    Recordings that it knows already, copies, and broken ones are named and left out.
    """
    from nearfar.detector.fitted import Detector
    from nearfar.files import steps
    from nearfar.report import fitted

    place = _place(detector, into, replace=replace)
    if strict and keep_odd:
        raise typer.BadParameter("give either --strict or --keep-odd, not both")
    odd: Literal["refuse", "keep", "leave out"] = "keep" if keep_odd else "leave out"
    with shown_progress() as progress:
        made = Detector.load(detector).learn(
            recordings, domain=domain, odd_clips="refuse" if strict else odd, workers=workers,
            workers_are="processes", jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    made.save(place, replace=replace)
    out.print(fitted.learnt(made, place))
    say(f"Wrote {place}. Next: `{_to_score(place, made)}`")


def _to_score(place: Path, detector: Detector) -> str:
    """The command that comes next: hours are heard as events."""
    if detector.trained_on.get("recordings"):
        return f"nearfar score {quoted(place)} RECORDINGS --events"
    return f"nearfar score {quoted(place)} CLIPS"


def _place(detector: Path, into: Path | None, *, replace: bool) -> Path:
    """Where a changed detector is written: to a new folder, or over the one that is there."""
    from nearfar.detector.file_format import refuse_to_replace

    if into is None and not replace:
        raise typer.BadParameter(
            "give --out for a new detector (-o NEW), or --replace to change the one that is there"
        )
    if into is not None:
        refuse_to_replace(into, replace=replace)
    return into or detector
