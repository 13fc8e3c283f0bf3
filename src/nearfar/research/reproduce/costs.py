"""What a published study costs, before it begins: a projection from the times that its systems name.

Conventions
-----------
A system's ``needs.minutes`` are of one core, for a machine of ``CLIPS`` clips of ``SECONDS``, with a threshold;
``needs.adapter_minutes`` for an adapter that is trained on ``ADAPTER_CLIPS`` such clips. Both are scaled by clips
and seconds. Test clips count as training clips. Systems that share an encoder, with equal options and training,
count once, with the longest of their times: the others find its weights or its embeddings in the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nearfar.encoders import encoder_class
from nearfar.files.digests import digest
from nearfar.recordings import audio
from nearfar.recordings.clips import Dataset
from nearfar.recordings.datasets import DATASETS
from nearfar.research.reproduce.files import PublishedStudy
from nearfar.research.reproduce.runs import Run, is_here, runs_of, runs_of_row, weights_named
from nearfar.systems.configuration import System, what_is_adapted

CLIPS, SECONDS = 1000, 10.0  # of ``systems.Needs``
ADAPTER_CLIPS = 7000  # ditto; the normal clips of seven machines
PUBLISHED_SECONDS = 10.0  # a clip of the challenge's 2026 set, arXiv:2606.01578


@dataclass(frozen=True, slots=True)
class Size:
    """A machine in numbers: training and test clips, and how long one is."""

    machine: str
    train: int
    test: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes
    ----------
    study : str
    data : str
        On which the numbers are based.
    machines, clips : int
    rows, possible : int
        How many there are, and how many have all their weights here.
    branches : tuple of str
        The distinct ones.
    trainings : int
        Of encoders that are fitted to each machine, for one machine.
    adapters : int
        To be trained over machines.
    weights : mapping from name to bool
        Whether they are here.
    minutes, minutes_possible : float
        Of one core, projected, for all rows and for those that are possible.
    measured_on : tuple of str
        On what the times were measured that the projection is from.
    """

    study: str
    data: str
    machines: int
    clips: int
    rows: int
    possible: int
    branches: tuple[str, ...]
    trainings: int
    adapters: int
    weights: dict[str, bool]
    minutes: float
    minutes_possible: float
    measured_on: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return asdict(self)


def plan(study: PublishedStudy, dataset: Dataset | None) -> Plan:
    """Count what the study has to do, and project how long that takes; nothing is run.

    What is in the cache is not subtracted.

    Parameters
    ----------
    study : PublishedStudy
    dataset : Dataset or None
        None: as if it were the one of the published values.
    """
    sizes = _sizes_as_published(study) if dataset is None else _sizes(dataset)
    runs = runs_of(study).values()
    weights = {name: is_here(name) for run in runs for name in sorted(weights_named(run.system))}
    rows = [row for row in study.rows if _has_weights(runs_of_row(study, row), weights)]
    possible = runs_of(study, rows).values()
    return Plan(
        study=study.name,
        data=f"{study.data}, as published" if dataset is None else dataset.name,
        machines=len(sizes),
        clips=sum(size.train + size.test for size in sizes),
        rows=len(study.rows),
        possible=len(rows),
        branches=tuple(run.name for run in runs),
        trainings=len({training for run in runs for training in _trainings(run)}),
        adapters=sum(map(len, _adapters(runs, sizes).values())),
        weights=weights,
        minutes=_minutes(runs, sizes),
        minutes_possible=_minutes(possible, sizes),
        measured_on=tuple(sorted({run.system.needs.measured_on for run in runs})),
    )


def _has_weights(runs: Iterable[Run], here: dict[str, bool]) -> bool:
    return all(here[name] for run in runs for name in weights_named(run.system))


def _sizes(dataset: Dataset) -> list[Size]:
    """The length is that of each machine's first clip."""
    return [
        Size(m.name, len(m.train), len(m.test), audio.read_header(m.clips[0].recording).seconds)
        for m in dataset
    ]


def _sizes_as_published(study: PublishedStudy) -> list[Size]:
    published = DATASETS[study.data].PUBLISHED
    counts = published.counts
    if counts is None:
        return []
    train = counts.source + counts.target
    return [Size(name, train, counts.test, PUBLISHED_SECONDS) for name in published.machines["dev"]]


def _trainings(run: Run) -> set[str]:
    """All that are done for one machine: each a digest of what its outcome depends on, but for the clips."""
    if not encoder_class(run.system.branch.encoder).fitted_per_machine:
        return set()
    named = {"encoder", "encoder_options", "training", "view"}
    return {
        digest([config.model_dump(mode="json", include=named), of_member, part])
        for seed in run.seeds
        for config, of_member in run.system.members(seed)
        for part in (None, *_unseen_parts(run.system))
    }


def _unseen_parts(system: System) -> list[Any]:
    """What is left out by the trainings that give scores of unseen clips for a threshold."""
    threshold = system.threshold
    if threshold.method == "none":
        return []
    parts = 1 if threshold.calibration == "held_out" else threshold.folds
    return [[threshold.calibration, threshold.folds, part] for part in range(parts)]


def _adapters(runs: Collection[Run], sizes: list[Size]) -> dict[str, set[tuple[int, str]]]:
    """For each distinct adaptation its adapters: the seed, and the machine that is left out, if one is."""
    found: dict[str, set[tuple[int, str]]] = {}
    for run in runs:
        if run.adapted_on is not None:
            left_out = [""] if run.adapted_on == "all" else [size.machine for size in sizes]
            of = found.setdefault(_adaptation(run), set())
            of |= {(seed, machine) for seed in run.seeds for machine in left_out}
    return found


def _adaptation(run: Run) -> str:
    return digest(what_is_adapted(run.system.branch))


def _minutes(runs: Collection[Run], sizes: list[Size]) -> float:
    """Of one core, for all machines: adapters, then everything else."""
    adapters = _adapters(runs, sizes)
    of_adapter = {_adaptation(run): run.system.needs.adapter_minutes for run in runs if run.adapted_on}
    amount = {size.machine: size.train * size.seconds / SECONDS / ADAPTER_CLIPS for size in sizes}
    whole = sum(amount.values())
    adapting = sum(
        of_adapter[adaptation] * (whole - amount.get(left_out, 0.0))
        for adaptation, trained in adapters.items()
        for _, left_out in trained
    )
    machines = sum((size.train + size.test) * size.seconds / SECONDS / CLIPS for size in sizes)
    longest: dict[str, float] = {}
    for run in runs:
        for encoder in _encoders(run):
            longest[encoder] = max(longest.get(encoder, 0.0), run.system.needs.minutes)
    return adapting + machines * sum(longest.values())


def _encoders(run: Run) -> set[str]:
    """What is computed once for each machine, whatever comes after it: one for each seed if it is trained."""
    config = run.system.branch
    is_trained = encoder_class(config.encoder).fitted_per_machine or run.adapted_on is not None
    fixed = [config.encoder, config.encoder_options, config.training, config.adaptation, run.adapted_on]
    return {digest([fixed, seed]) for seed in (run.seeds if is_trained else ("any",))}
