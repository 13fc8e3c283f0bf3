"""Adapters for the machines of a data set: trained over several machines before any one of them is fitted.

On whose normal clips an adapter may be trained is a question of protocol. To report a machine as one that nobody
has met, its adapter must come from other machines (``"others"``, which trains one adapter a machine: leave one
machine out); ``"all"`` trains one adapter on all machines, those that are reported included; and an adapter in a
file was trained before. Labels have no part in any of them. An adapter is a step that is kept
(``files.steps.Jobs``), under the clips that it was trained on, so whoever asks for the same adapter again finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from threadpoolctl import threadpool_limits

from nearfar.evaluation.protocols import FIXED_LEAVE_ONE_MACHINE_OUT
from nearfar.evaluation.record import AdapterRecord, ProtocolRecord
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.places.tasks import each
from nearfar.recordings.clips import Dataset, DatasetError, Machine
from nearfar.recordings.recording import known_digests
from nearfar.systems.branches import Branch, Progress
from nearfar.systems.configuration import System
from nearfar.systems.resolved import ResolvedBranch, ResolvedSystem, resolve
from nearfar.training.adapters import Adapter
from nearfar.windows.long_recordings import cut_long

AdaptedOn = Literal["others", "all"] | Path
Adapters = dict[tuple[int, str], tuple[Path, ...]]

ON_ALL = ProtocolRecord(
    name="fixed configuration, adapted on all machines",
    selected_on="nothing: an adapter is trained on the normal training clips of all machines that are reported, "
    "then each machine is fitted to its own; test labels only evaluate",
)
ON_OTHERS = ProtocolRecord(
    name=FIXED_LEAVE_ONE_MACHINE_OUT.name,
    selected_on=FIXED_LEAVE_ONE_MACHINE_OUT.selected_on,
)


@dataclass(frozen=True, slots=True)
class AdapterTraining:
    """One adapter to be trained."""

    branch: ResolvedBranch
    machines: tuple[Machine, ...]
    cache: Path
    readers: int = 1

    @property
    def name(self) -> str:
        return f"adapter of {', '.join(machine.name for machine in self.machines)}, seed {self.branch.seed}"


def train(
    system: System,
    machines: Sequence[Machine],
    *,
    seed: int,
    workers: Place | int = 1,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Adapter:
    """Train the adapter of a system of one branch on the normal training clips of machines.

    Recordings longer than 30 s are cut into windows, as by a fit; ``for_machines`` takes each as one clip.

    Parameters
    ----------
    system : System
    machines : sequence of Machine
    seed : int
    workers : Place or int
        Threads that read recordings ahead; or the cluster where it is trained.
    jobs : Jobs or None
        Where it is kept; ``None``: the user's cache.
    progress : callable or None

    Raises
    ------
    ValueError
        If the system is not adapted, or has several branches that are.
    DatasetError
        If there are no training clips.
    """
    jobs = jobs or Jobs()
    resolved = resolve(system, seed=seed, jobs=jobs)
    if not resolved.is_adapted or len(resolved.branches) > 1:
        adapted = len(resolved.branches) if resolved.is_adapted else 0
        raise ValueError(
            f"{system.name} has {adapted} branches that are adapted, but a file holds the adapter of one; take a "
            "system such as dualmic"
        )
    (branch,) = resolved.branches
    _refuse_untrainable(machines)
    cut = tuple(replace(m, clips=(*cut_long(m.train)[0], *m.test)) for m in machines)
    place = Place.of(workers)
    training = AdapterTraining(branch, cut, jobs.root, 1 if place.is_cluster else place.workers)
    (file,) = each(
        _train, [training], workers=place, named=lambda task: task.name, cache=jobs.root, tell=progress
    )
    return Adapter.load(file)


def for_machines(
    system: System,
    dataset: Dataset,
    seeds: Sequence[int],
    adapted_on: AdaptedOn,
    *,
    jobs: Jobs,
    workers: Place | int = 1,
    progress: Progress | None = None,
) -> Adapters:
    """The files of the adapters of every seed and machine, one a branch of the ensemble; missing ones are trained.

    Parameters
    ----------
    system : System
        Of one that is not adapted the files are none.
    dataset : Dataset
    seeds : sequence of int
    adapted_on : {"others", "all"} or Path
        See the module.
    jobs : Jobs
    workers : Place or int
        Where adapters are trained, each by one process; a number: so many processes of this computer.
    progress : callable or None

    Raises
    ------
    ValueError
        If ``adapted_on`` is none of these, or "others" and there is one machine only.
    DatasetError
        If a machine has no training clips.
    """
    keys = [(seed, machine.name) for seed in seeds for machine in dataset]
    if isinstance(adapted_on, Path):
        resolve(system, seed=seeds[0], jobs=jobs).with_adapters([Adapter.load(adapted_on)])  # does it suit?
        return dict.fromkeys(keys, (adapted_on,))
    if system.branch.adaptation is None:
        return dict.fromkeys(keys, ())
    _refuse_untrainable(dataset.machines)
    wanted = trainings(system, dataset, seeds, adapted_on, jobs)
    distinct = {_identity(task): task for tasks in wanted.values() for task in tasks}
    with threadpool_limits(1):
        made = each(
            _train,
            list(distinct.values()),
            workers=workers,
            named=lambda task: task.name,
            cache=jobs.root,
            tell=progress,
        )
    path_of = dict(zip(distinct, made, strict=True))
    return {key: tuple(path_of[_identity(task)] for task in tasks) for key, tasks in wanted.items()}


def trainings(
    system: System, dataset: Dataset, seeds: Sequence[int], adapted_on: Literal["others", "all"], jobs: Jobs
) -> dict[tuple[int, str], list[AdapterTraining]]:
    """The trainings that each seed and machine needs, one a branch; many of them are the same."""
    machines = machines_for([machine.name for machine in dataset], adapted_on)
    wanted = {}
    for seed in seeds:
        for name, trained_on in machines.items():
            branches = resolve(system, seed=seed, jobs=jobs, machine=name).branches
            heard = tuple(dataset[other] for other in trained_on)
            wanted[seed, name] = [AdapterTraining(branch, heard, jobs.root) for branch in branches]
    return wanted


def read_adapted_on(given: AdaptedOn | str) -> AdaptedOn:
    """On what adapters are trained: "others", "all", or the path of an adapter.

    Raises
    ------
    ValueError
        If it is another word.
    """
    if isinstance(given, Path) or given in ("others", "all"):
        return given  # type: ignore[return-value]
    if Path(given).suffix or Path(given).exists():
        return Path(given)
    raise ValueError(f"adapted_on={given!r}: must be 'others', 'all', or the file of an adapter")


def bind(
    resolved: Mapping[tuple[int, str], ResolvedSystem], adapters: Adapters
) -> dict[tuple[int, str], ResolvedSystem]:
    """Systems by seed and machine, each with its adapters.

    Raises
    ------
    ValueError, AdapterError
        As ``ResolvedSystem.with_adapters``.
    """
    loaded = {path: Adapter.load(path) for paths in adapters.values() for path in paths}
    return {
        key: system.with_adapters([loaded[path] for path in adapters[key]])
        for key, system in resolved.items()
    }


def machines_for(names: Sequence[str], adapted_on: Literal["others", "all"]) -> dict[str, tuple[str, ...]]:
    """For each machine those whose normal clips its adapter is trained on.

    Raises
    ------
    ValueError
        As ``for_machines``.
    """
    if adapted_on == "all":
        return dict.fromkeys(names, tuple(names))
    if adapted_on != "others":
        raise ValueError(f"adapted_on={adapted_on!r}: must be 'others', 'all', or the file of an adapter")
    if len(names) < 2:
        raise ValueError(
            f"adapted_on='others', but {', '.join(names)} is the only machine; give more machines, or an adapter "
            "that was trained on others, or take 'all'"
        )
    return {name: tuple(other for other in names if other != name) for name in names}


def protocol_of(adapted_on: AdaptedOn) -> ProtocolRecord:
    """What a result says of how its adapters were trained."""
    if isinstance(adapted_on, Path):
        adapter = Adapter.load(adapted_on)
        machines = ", ".join(adapter.machines)
        return ProtocolRecord(
            name="fixed configuration, adapter trained before",
            selected_on=f"nothing: the adapter was trained on normal clips of {machines}; each machine is "
            "fitted to its own, test labels only evaluate",
            adapter=adapter.digest,
        )
    return ON_OTHERS if adapted_on == "others" else ON_ALL


def _identity(task: AdapterTraining) -> tuple[str, tuple[str, ...], int]:
    """Equal for equal adapters."""
    branch = task.branch.describe()
    made_of = {key: branch[key] for key in ("encoder", "weights", "adaptation")}
    made_of["microphones"] = task.branch.adapted_on_microphones
    return digest(made_of), tuple(m.name for m in task.machines), task.branch.seed


def _train(task: AdapterTraining, progress: Progress) -> Path:
    def told(step: str, done: int, total: int) -> None:
        progress(f"{task.name}: {step}", done, total)

    clips = [clip for machine in task.machines for clip in machine.train]
    return Branch(task.branch).train_adapter(
        clips, workers=task.readers, jobs=Jobs(task.cache), progress=told
    )


def finished(task: AdapterTraining) -> Path | None:
    """The file of an adapter, if it is in the cache; no recording is read."""
    jobs, clips = Jobs(task.cache), [clip for machine in task.machines for clip in machine.train]
    if None in known_digests((clip.recording for clip in clips), jobs):
        return None
    return Branch(task.branch).finished_adapter(clips, jobs)


def _refuse_untrainable(machines: Sequence[Machine]) -> None:
    if without := [m.name for m in machines if not m.train]:
        raise DatasetError(f"{name}: no training clips to adapt on" for name in without)


def describe(adapters: Adapters) -> dict[str, dict[str, tuple[AdapterRecord, ...]]]:
    """By seed and machine, what each adapter was trained on and its digest."""
    loaded: Mapping[Path, Adapter] = {p: Adapter.load(p) for paths in adapters.values() for p in paths}
    found: dict[str, dict[str, tuple[AdapterRecord, ...]]] = {}
    for (seed, machine), paths in adapters.items():
        if paths:
            told = tuple(AdapterRecord(machines=loaded[p].machines, digest=loaded[p].digest) for p in paths)
            found.setdefault(str(seed), {})[machine] = told
    return found
