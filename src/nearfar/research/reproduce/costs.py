"""What a published study costs, before it begins: a projection, less what is in the cache.

Conventions
-----------
Times are of one core (``constants``). Work is made of *pieces*: an adapter, a training, the embeddings of a
machine's clips for one microphone, the fits for one machine. Branches share a piece if they have the same network:
it counts once, with the longest of their times. ``finished`` says which pieces are in the cache; a branch whose
scores are there needs none. What depends on an adapter cannot be looked up until that is trained, and counts as not
finished.

Branches are run one after the other: first their adapters, then machines and seeds, each by one core. So the time
on several cores is at least that of the longest of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from nearfar.embedding.embeddings import VIEWS
from nearfar.encoders import encoder_class
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.clips import Dataset
from nearfar.recordings.datasets import DATASETS
from nearfar.research.reproduce.constants import SECONDS, Constant, Constants
from nearfar.research.reproduce.files import PublishedStudy
from nearfar.research.reproduce.finished import Finished, State
from nearfar.research.reproduce.runs import Run, is_here, runs_of, runs_of_row, weights_named
from nearfar.systems.configuration import System, what_is_adapted

PUBLISHED_SECONDS = 10.0  # a clip of the challenge's 2026 set, arXiv:2606.01578
MINUTE = 60.0
WHAT: tuple[Literal["fit", "score"], ...] = ("fit", "score")
Kind = Literal["adapters", "trainings", "embeddings", "detectors", "scores"]


@dataclass(frozen=True, slots=True)
class Size:
    """A machine in numbers: training and test clips, and how long one is."""

    machine: str
    train: int
    test: int
    seconds: float

    @property
    def clips(self) -> int:
        return self.train + self.test

    @property
    def of_clip(self) -> float:
        """How much more a clip is than one of ``SECONDS``."""
        return self.seconds / SECONDS


@dataclass(frozen=True, slots=True)
class Progress:
    """How many there are of something, and how many are finished."""

    total: int
    finished: int


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
        Of one core, projected, for all rows and for those that are possible, as if nothing were in the cache.
    minutes_left : float
        Of one core, for those that are possible, less what is in the cache.
    cores : int
    minutes_on_cores : float
        What is left, on so many.
    steps : mapping from kind to Progress
        Of the possible rows. Embeddings are counted by clip and microphone, those of an encoder that is trained for
        each machine left out, which are not kept.
    constants : mapping from what to sources
        Where the times are from: each was measured on this computer or elsewhere.
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
    minutes_left: float
    cores: int
    minutes_on_cores: float
    steps: dict[Kind, Progress]
    constants: dict[str, tuple[str, ...]]

    @property
    def share_done(self) -> float:
        """Of the time of the possible rows, as if that had been done which is not needed any more."""
        return 1 - self.minutes_left / self.minutes_possible if self.minutes_possible else 1.0

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {**asdict(self), "share_done": self.share_done}


def plan(study: PublishedStudy, dataset: Dataset | None, *, jobs: Jobs | None = None, cores: int = 1) -> Plan:
    """Count what the study has to do, and project how long that takes; nothing is run, no recording is read.

    Parameters
    ----------
    study : PublishedStudy
    dataset : Dataset or None
        None: as if it were the one of the published values.
    jobs : Jobs or None
        Whose finished steps are subtracted; ``None``: nothing is.
    cores : int
        On which it is to run.
    """
    sizes = _sizes_as_published(study) if dataset is None else _sizes(dataset)
    runs = runs_of(study).values()
    weights = {name: is_here(name) for run in runs for name in sorted(weights_named(run.system))}
    rows = [row for row in study.rows if _has_weights(runs_of_row(study, row), weights)]
    constants = Constants(None if jobs is None else jobs.root)
    everything = _Work(constants, Finished(None, None)).added(runs, sizes)
    possible = _Work(constants, Finished(jobs, dataset)).added(runs_of(study, rows).values(), sizes)
    return Plan(
        study=study.name,
        data=f"{study.data}, as published" if dataset is None else dataset.name,
        machines=len(sizes),
        clips=sum(size.clips for size in sizes),
        rows=len(study.rows),
        possible=len(rows),
        branches=tuple(run.name for run in runs),
        trainings=len({training for run in runs for training in _trainings(run)}),
        adapters=everything.steps["adapters"].total,
        weights=weights,
        minutes=everything.seconds / MINUTE,
        minutes_possible=possible.seconds / MINUTE,
        minutes_left=possible.left / MINUTE,
        cores=cores,
        minutes_on_cores=possible.elapsed(cores) / MINUTE,
        steps=possible.steps,
        constants={what: tuple(sorted(found)) for what, found in everything.sources.items()},
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
    return {key for seed in run.seeds for key in _trainings_of(run, seed).values()}


def _trainings_of(run: Run, seed: int) -> dict[tuple[int, int], str]:
    """The same of one seed, by member and part, as of ``finished.State``."""
    if not encoder_class(run.system.branch.encoder).fitted_per_machine:
        return {}
    named = {"encoder", "encoder_options", "training", "view"}
    parts = [None, *_unseen_parts(run.system)]
    return {
        (member, part): digest([config.model_dump(mode="json", include=named), of_member, left_out])
        for member, (config, of_member) in enumerate(run.system.members(seed))
        for part, left_out in enumerate(parts)
    }


def _unseen_parts(system: System) -> list[Any]:
    """What is left out by the trainings that give scores of unseen clips for a threshold."""
    threshold = system.threshold
    if threshold.method == "none":
        return []
    parts = 1 if threshold.calibration == "held_out" else threshold.folds
    return [[threshold.calibration, threshold.folds, part] for part in range(parts)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Seconds of one core, in all and left; and the number of steps, in all and lacking."""

    kind: Kind
    seconds: float
    left: float
    total: int = 1
    lacking: int = 1


@dataclass
class _Work:
    """The pieces of all branches, each once; and the tasks that do what is left of them."""

    constants: Constants
    done: Finished
    pieces: dict[tuple[str, ...], _Piece] = field(default_factory=dict)
    rounds: list[list[float]] = field(default_factory=list)  # of tasks that can be done at the same time, s
    sources: dict[str, set[str]] = field(default_factory=dict)

    def added(self, runs: Collection[Run], sizes: Collection[Size]) -> _Work:
        """This, with the pieces of these branches."""
        for run in runs:
            self._add_adapters(run, sizes)
            tasks = [self._add_machine(run, seed, size) for seed in run.seeds for size in sizes]
            self.rounds.append(tasks)
        return self

    @property
    def seconds(self) -> float:
        return sum(piece.seconds for piece in self.pieces.values())

    @property
    def left(self) -> float:
        return sum(piece.left for piece in self.pieces.values())

    @property
    def steps(self) -> dict[Kind, Progress]:
        found = {
            kind: [piece for piece in self.pieces.values() if piece.kind == kind] for kind in get_args(Kind)
        }
        return {
            kind: Progress(sum(p.total for p in some), sum(p.total - p.lacking for p in some))
            for kind, some in found.items()
        }

    def elapsed(self, cores: int) -> float:
        """Seconds on so many cores: in each round at least the longest task."""
        return sum(max(sum(tasks) / cores, max(tasks, default=0.0)) for tasks in self.rounds)

    def _add(self, key: tuple[str, ...], piece: _Piece) -> float:
        """Seconds that are left of it beyond what another branch has to do of it anyway."""
        before = self.pieces.get(key)
        if before is None:
            self.pieces[key] = piece
            return piece.left
        self.pieces[key] = _Piece(
            piece.kind,
            max(before.seconds, piece.seconds),
            max(before.left, piece.left),
            max(before.total, piece.total),
            max(before.lacking, piece.lacking),
        )
        return self.pieces[key].left - before.left

    def _constant(self, what: str, found: Constant) -> float:
        self.sources.setdefault(what, set()).add(found.source)
        return found.seconds

    def _add_adapters(self, run: Run, sizes: Collection[Size]) -> None:
        if run.adapted_on is None:
            return
        of_clip = self._constant("adapters", self.constants.adapting(run.system))
        tasks = []
        for seed in run.seeds:
            for size in sizes:
                key = "adapters", *_adapter(run, seed, size.machine)
                heard = [other for other in sizes if run.adapted_on == "all" or other != size]
                seconds = of_clip * sum(other.train * other.of_clip for other in heard)
                if key not in self.pieces:
                    is_done = self.done.adapter(run, seed, size.machine)
                    piece = _Piece("adapters", seconds, 0.0 if is_done else seconds, lacking=int(not is_done))
                    tasks.append(self._add(key, piece))
        self.rounds.append(tasks)

    def _add_machine(self, run: Run, seed: int, size: Size) -> float:
        """All that one task does; seconds that are left of it."""
        state = self.done.state(run, seed, size.machine)
        left = self._add_fits(run, seed, size, state)
        if encoder_class(run.system.branch.encoder).fitted_per_machine:
            return left + self._add_trainings(run, seed, size, state)
        return left + self._add_embeddings(run, seed, size, state)

    def _add_fits(self, run: Run, seed: int, size: Size, state: State) -> float:
        members = len(run.system.members(seed))
        fits = members * (1 + len(_unseen_parts(run.system)))
        of_clip = self._constant("fits", self.constants.fitting(run.system.branch))
        by_fit, by_score = (
            size.of_clip * self._constant("inspection", self.constants.inspecting(what)) for what in WHAT
        )
        pieces: list[tuple[Kind, bool, float]] = [
            ("detectors", state.detector or state.scores, size.train * (fits * of_clip + by_fit)),
            ("scores", state.scores, size.test * (members * of_clip + by_score)),
        ]
        left = 0.0
        for kind, is_done, seconds in pieces:
            piece = _Piece(kind, seconds, 0.0 if is_done else seconds, lacking=int(not is_done))
            left += self._add((kind, run.key, str(seed), size.machine), piece)
        return left

    def _add_trainings(self, run: Run, seed: int, size: Size, state: State) -> float:
        found, left = _trainings_of(run, seed), 0.0
        members = run.system.members(seed)
        share = 1 - 1 / run.system.threshold.folds  # of the clips that a training for the threshold hears
        for (member, part), key in found.items():
            constant = self.constants.training(run.system, members[member][0], len(found))
            heard = size.train * (share if part else 1.0) * size.of_clip
            seconds = heard * self._constant("trainings", constant)
            is_done = state.scores or state.detector or (member, part) in state.trained
            piece = _Piece("trainings", seconds, 0.0 if is_done else seconds, lacking=int(not is_done))
            left += self._add(("trainings", size.machine, key), piece)
        return left

    def _add_embeddings(self, run: Run, seed: int, size: Size, state: State) -> float:
        system, left = run.system, 0.0
        encoding = self.constants.encoding(system, system.branch, size.clips, size.seconds)
        of_encoder = self._constant(f"embeddings by {system.branch.encoder}", encoding)
        for microphone in VIEWS[system.branch.view].microphones:
            heard = self._constant("reading and listening", self.constants.hearing(microphone))
            a_clip = (of_encoder + heard) * size.of_clip
            train, test = state.embedded.get(microphone, (0, 0))
            lacking = size.test - test + (0 if state.detector else size.train - train)
            lacking = 0 if state.scores else lacking
            key = "embeddings", _network(run, seed, size.machine), microphone, size.machine
            piece = _Piece("embeddings", size.clips * a_clip, lacking * a_clip, size.clips, lacking)
            left += self._add(key, piece)
        return left


def _adapter(run: Run, seed: int, machine: str) -> tuple[str, str, str]:
    """Equal for machines and branches that have the same adapter."""
    left_out = "" if run.adapted_on == "all" else machine
    return digest(what_is_adapted(run.system.branch)), str(seed), left_out


def _network(run: Run, seed: int, machine: str) -> str:
    """Equal where embeddings are."""
    config = run.system.branch
    adapter = None if run.adapted_on is None else _adapter(run, seed, machine)
    return digest([config.encoder, config.encoder_options, config.pooling, adapter])
