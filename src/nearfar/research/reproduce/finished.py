"""What of a study is in a cache already. Nothing is computed, and no recording is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nearfar.detector.fitting import Fit, folds_of_parts
from nearfar.embedding import embeddings
from nearfar.embedding.embeddings import VIEWS
from nearfar.embedding.store import Store
from nearfar.encoders import encoder_class
from nearfar.encoders.pretrained import WeightsError
from nearfar.encoders.remembering import Remembered
from nearfar.files.steps import Jobs
from nearfar.recordings.clips import Clip, Dataset, Machine
from nearfar.recordings.recording import known_digests
from nearfar.research import adaptation, experiment
from nearfar.research.experiment import MachineRun
from nearfar.research.reproduce.runs import Run, is_here, weights_named
from nearfar.systems.arithmetics import is_auto, work_of
from nearfar.systems.branches import Branch
from nearfar.systems.components import Component
from nearfar.systems.resolved import ResolvedBranch, ResolvedSystem, resolve
from nearfar.training.adapters import Adapter


@dataclass(frozen=True)
class State:
    """What is finished of one branch of a study, for one machine and seed.

    Attributes
    ----------
    scores, detector : bool
        With scores, nothing else is needed.
    trained : set of (member, part)
        Of an encoder that is trained for each machine: by which member of the ensemble, and of which part of the
        clips: 0 stands for all, others for the fits of a threshold.
    embedded : mapping from microphone to (training clips, test clips)
        How many have their embedding in the store.
    """

    scores: bool = False
    detector: bool = False
    trained: frozenset[tuple[int, int]] = frozenset()
    embedded: Mapping[str, tuple[int, int]] = field(default_factory=dict)


NOTHING = State()


class Finished:
    """What a cache has of the branches of a study.

    Parameters
    ----------
    jobs : Jobs or None
        ``None``: nothing is finished.
    dataset : Dataset or None
    """

    def __init__(self, jobs: Jobs | None, dataset: Dataset | None) -> None:
        is_empty = jobs is None or not (jobs.root / "digests.sqlite").is_file()
        self._jobs = None if is_empty else jobs
        self._dataset = dataset
        self._resolved: dict[tuple[str, int, str], ResolvedSystem | None] = {}

    def adapter(self, run: Run, seed: int, machine: str) -> bool:
        """Whether the adapters that a branch has for a machine are trained."""
        system = self._system(run, seed, machine)
        return system is not None and system.is_adapted and _is_bound(system)

    def state(self, run: Run, seed: int, machine: str) -> State:
        """What is finished of a branch for one machine and seed."""
        system = self._system(run, seed, machine)
        if system is None or self._jobs is None or self._dataset is None:
            return NOTHING
        if system.is_adapted and not _is_bound(system):
            return NOTHING  # all else depends on the adapter
        task = MachineRun(self._dataset[machine], system, self._jobs.root)
        detector, scores = experiment.finished(task)
        if scores:
            return State(scores=True, detector=detector)
        return State(
            detector=detector,
            trained=frozenset() if detector else _trained(task, self._jobs),
            embedded=_embedded(system.branches[0], task.machine, self._jobs),
        )

    def _system(self, run: Run, seed: int, machine: str) -> ResolvedSystem | None:
        """As it would be fitted, as far as that is known; ``None`` where nothing can be finished."""
        key = run.key, seed, machine
        if key not in self._resolved:
            self._resolved[key] = self._resolve(run, seed, machine)
        return self._resolved[key]

    def _resolve(self, run: Run, seed: int, machine: str) -> ResolvedSystem | None:
        jobs, dataset = self._jobs, self._dataset
        if jobs is None or dataset is None or not all(map(is_here, weights_named(run.system))):
            return None
        if not _arithmetics_are_known(run, self._most, jobs):
            return None
        system = resolve(run.system, seed=seed, jobs=jobs, machine=machine, clips=self._most)
        if run.adapted_on is None:
            return system
        try:
            wanted = adaptation.trainings(run.system, dataset, [seed], run.adapted_on, jobs)[seed, machine]
        except ValueError:  # one machine alone has no others; a run says so
            return None
        files = [adaptation.finished(training) for training in wanted]
        found = [Adapter.load(file) for file in files if file is not None]
        return system.with_adapters(found) if len(found) == len(files) else system

    @cached_property
    def _most(self) -> Sequence[Clip]:
        """The clips of the largest machine, by which a run chooses an arithmetic."""
        return max((machine.clips for machine in self._dataset or ()), key=len, default=())


def _is_bound(system: ResolvedSystem) -> bool:
    return all(branch.adapter is not None for branch in system.branches)


def _arithmetics_are_known(run: Run, clips: Sequence[Clip], jobs: Jobs) -> bool:
    """Whether what is "auto" was measured here: a run would have done so before anything else."""
    for config, _ in run.system.members(0):
        encoder = Component.resolve("encoder", config.encoder, config.encoder_options)
        if is_auto(encoder):
            try:
                made = Remembered(encoder.make(), work_of(clips).length, threads=1, cache=jobs.root)
            except (WeightsError, OSError):
                return False
            if not made.rows:
                return False
    return True


def _trained(task: MachineRun, jobs: Jobs) -> frozenset[tuple[int, int]]:
    """The trainings of the encoders that are finished, as of ``State``."""
    branches, machine = task.system.branches, task.machine
    if not encoder_class(branches[0].encoder.name).fitted_per_machine:
        return frozenset()
    clips = machine.train
    if None in known_digests((clip.recording for clip in clips), jobs):
        return frozenset()
    parts: list[Sequence[Clip]] = [clips]
    if task.system.threshold.folds_by != "far":  # whose folds are found by listening
        (folds,) = folds_of_parts(Fit(machine, task.system, 1, jobs, None))
        parts += [[clips[i] for i in fitted_on] for fitted_on, _ in folds.pairs]
    return frozenset(
        (member, part)
        for member, branch in enumerate(map(Branch, branches))
        for part, some in enumerate(parts)
        if branch.has_trained(some, jobs)
    )


def _embedded(resolved: ResolvedBranch, machine: Machine, jobs: Jobs) -> dict[str, tuple[int, int]]:
    """How many training and test clips have their embedding in the store, by microphone."""
    branch = Branch(resolved)
    if not branch.uses_store:
        return {}
    store, made_by = Store(jobs.root), branch.origins()
    found = {}
    shas = [known_digests((clip.recording for clip in some), jobs) for some in (machine.train, machine.test)]
    everything = {sha for some in shas for sha in some if sha is not None}
    for microphone in VIEWS[resolved.view].microphones:
        origin = {microphone: made_by[microphone]}
        has = embeddings.stored(
            everything, branch.encoder, origin, store, view=microphone, pooling=resolved.pooling
        )
        train, test = (sum(sha in has for sha in some) for some in shas)
        found[microphone] = train, test
    return found
