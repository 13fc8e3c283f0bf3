"""The commands of one machine: fit a detector, adapt a network beforehand, score new clips."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfar.cli.console import ANOMALOUS, FAILED, out
from nearfar.cli.options import (
    CORES,
    AdapterFile,
    Cache,
    MachineNames,
    Preset,
    Seed,
    Settings,
    Workers,
    chosen_data,
    chosen_system,
)
from nearfar.cli.progress import CONTINUE, shown_progress

if TYPE_CHECKING:
    from nearfar.detector.detector import Verdict
    from nearfar.systems.branches import Progress


def fit(
    folder: Annotated[Path, typer.Argument(help="Normal clips of one machine; or its folder with train/.")],
    into: Annotated[Path, typer.Option("--out", "-o", help="New folder for the detector.")],
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
    from nearfar.report import fitted
    from nearfar.training.adapters import Adapter

    chosen = chosen_system(system, preset, settings, false_alarm_rate)
    refuse_to_replace(into, replace=replace)
    with shown_progress(f"Finished trainings are kept; {CONTINUE}") as progress:
        machine = datasets.load_machine(folder)
        detector = Detector.fit(
            machine, chosen, adapters=[Adapter.load(adapter)] if adapter else [], seed=seed, workers=workers,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    detector.save(into, replace=replace)
    out.print(fitted.detector(detector))
    out.print(f"wrote {into}; now try `nearfar score {into} CLIPS`", soft_wrap=True)


def adapt(
    system: Annotated[str, typer.Argument(help="Of `nearfar systems`, as dualmic, or a TOML file.")],
    data: Annotated[Path, typer.Option(help="Folder of a data set, with a folder a machine.")],
    file: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="New file, as dualmic.safetensors.")
    ],
    preset: Preset = None,
    machine: MachineNames = None,
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
    from nearfar.report import fitted
    from nearfar.research import adaptation

    chosen = chosen_system(system, preset, settings)
    atomic.refuse_existing(file, replace=replace)
    with shown_progress(f"The training so far is kept; {CONTINUE}") as progress:
        adapter = adaptation.train(
            chosen, chosen_data(data, machine).machines, seed=seed, workers=workers, jobs=steps.Jobs(cache),
            progress=progress,
        )  # fmt: skip
    adapter.save(file)
    out.print(fitted.adapter(adapter))
    out.print(f"wrote {file}; now try `nearfar run {system} --data OTHERS --adapter {file}`", soft_wrap=True)


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
        n_clips, found = 1, iter([loaded.score_stream(sys.stdin.buffer, rate=rate, channels=channels)])
    else:
        paths = _recordings(clips)
        n_clips, found = len(paths), loaded.score_files(paths, workers=workers)
    if as_csv or as_json:
        decisions = verdicts.show(found, "csv" if as_csv else "json", out)
    else:
        with shown_progress() as progress:
            listed = list(_counted(found, n_clips, progress))
        decisions = verdicts.show(listed, "table", out)
    raise typer.Exit(_exit_code(decisions, fail_on_anomaly))


def _counted(verdicts: Iterable[Verdict], n_clips: int, progress: Progress) -> Iterator[Verdict]:
    """The same, and their progress."""
    for number, verdict in enumerate(verdicts, start=1):
        yield verdict
        progress("scoring", number, n_clips)


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
