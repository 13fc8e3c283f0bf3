"""The tour: two simulated machines, from recordings to decisions, in about a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from nearfar.detector.fitted import Detector
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.results import Result
from nearfar.files.atomic import refuse_existing
from nearfar.files.names import quoted
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Clip, Dataset
from nearfar.report import fitted, verdicts
from nearfar.research import experiment
from nearfar.simulation import simulate
from nearfar.systems import configuration, named
from nearfar.systems.branches import Progress

MACHINES, SECONDS = ("fan", "gearbox"), 4.0  # a small data set, so that the tour takes a minute
SPEED = 60  # of the replay that it offers: what takes an hour is seen in a minute
COMPARED = {  # microphones, and the view of the default system that uses them
    "far microphone": "far",
    "near microphone": "near",
    "near, noise cancelled": "cancelled_3taps",
}


def demonstrate(folder: Path, *, seed: int, workers: int, progress: Progress) -> Iterator[RenderableType]:
    """Simulate, fit, score, evaluate; yields each thing to print as soon as it is known.

    Parameters
    ----------
    folder : Path
        A new folder, for ``recordings``, ``detector``, ``results`` and ``cache``.
    seed : int
    workers : int
    progress : callable
    """
    refuse_existing(folder)
    yield (
        "[bold]1.[/] Simulate two machines, a fan and a gearbox, in a noisy hall; one microphone is near, one far."
    )
    simulate(
        folder / "recordings",
        machines=MACHINES,
        seconds=SECONDS,
        seed=seed,
        workers=workers,
        progress=lambda done, total: progress("recording", done, total),
    )
    recordings = datasets.load(folder / "recordings")
    yield _inventory(recordings)
    yield "[bold]2.[/] Fit a detector to the fan, from normal recordings only."
    jobs = Jobs(folder / "cache")
    machine = recordings.machines[0]
    detector = Detector.fit(
        machine, configuration.load(named.DEFAULT), seed=seed, workers=workers, jobs=jobs, progress=progress
    )
    detector.save(folder / "detector")
    yield fitted.detector(detector)
    yield "[bold]3.[/] Score new recordings of the fan: three normal ones, and three with a simulated fault."
    scored = [detector.score_file(path) for path in _examples(machine.test)]
    yield verdicts.table(scored)
    yield "[bold]4.[/] Evaluate all test recordings of both machines: what is gained by two microphones?"
    results = {}  # with one worker each: to start more takes longer than the work on so few clips
    for name, view in COMPARED.items():
        system = configuration.load(named.DEFAULT, {"branch.view": view})
        into = folder / "results" / view
        results[name] = experiment.run(
            system, recordings, into, seeds=[seed], workers=1, jobs=jobs, progress=progress
        )
    yield _comparison(results)
    most = max(scored, key=lambda verdict: verdict.score).name
    yield "What speaks for a verdict, to see and to hear:"
    yield Text(_explain(folder, most), "bold")  # on one line, however long
    yield "What a watch would have told: a replay of the fan's test clips, one after the other, in seconds:"
    yield Text(_watch(folder), "bold")
    yield (
        f"Everything is in {folder}/. For your own machine: [bold]nearfar fit FOLDER -o DETECTOR[/], then "
        "[bold]nearfar score DETECTOR CLIPS[/]."
    )


def _explain(folder: Path, clip: str) -> str:
    """The command that explains a verdict on a page."""
    detector, page = folder / "detector", folder / "evidence.html"
    return f"nearfar explain {quoted(detector)} {quoted(clip)} -o {quoted(page)}"


def _watch(folder: Path) -> str:
    """The command that plays the fan's test clips as if they came in now."""
    detector, clips = folder / "detector", folder / "recordings" / MACHINES[0] / "test"
    return f"nearfar watch {quoted(detector)} --replay {quoted(clips)} --speed {SPEED}"


def _inventory(recordings: Dataset) -> Table:
    table = Table("machine", "normal training clips", "test clips", "test clips with a fault")
    for machine in recordings:
        faulty = sum(clip.label == "anomaly" for clip in machine.test)
        table.add_row(machine.name, str(len(machine.train)), str(len(machine.test)), str(faulty))
    return table


def _examples(clips: tuple[Clip, ...]) -> list[Path]:
    normal = [clip.path for clip in clips if clip.label == "normal"][:3]
    return normal + [clip.path for clip in clips if clip.label == "anomaly"][:3]


def _comparison(results: dict[str, Result]) -> Table:
    machines = sorted({machine for result in results.values() for machine in result.metrics["machine"]})
    table = Table("microphones", *machines, "all (Omega)", title="How well faults are told from normal clips")
    for name, result in results.items():
        rows = {machine: omega(t) for machine, t in result.metrics.groupby("machine")}
        row = [f"{100 * rows[machine]:.1f}" for machine in machines]
        table.add_row(name, *row, f"[bold]{100 * omega(result.metrics):.1f}[/]")
    table.caption = (
        "Harmonic mean of AUC (source, target) and partial AUC, in percent: 100 is perfect, 50 is chance"
    )
    return table
