"""A detector for each of many machines: every fit is a step that is kept, wherever it was done.

The driver holds a few machines at a time, however many there are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from filecmp import cmp, dircmp
from pathlib import Path
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from nearfar.detector import fitting
from nearfar.detector.file_format import refuse_to_replace
from nearfar.detector.fitted import Detector
from nearfar.detector.fitting import Keep
from nearfar.files.atomic import atomic_folder, refuse_unwritable
from nearfar.files.processes import Tell
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.places.tasks import as_done
from nearfar.recordings import datasets
from nearfar.recordings.clips import DatasetError, Machine
from nearfar.recordings.inspection.training import OddClips
from nearfar.recordings.recording import Channel, digests
from nearfar.systems.branches import Progress
from nearfar.systems.configuration import System
from nearfar.systems.fusion import FusedSystem
from nearfar.systems.named import SEED
from nearfar.systems.resolved import ResolvedSystem, resolve
from nearfar.training.adapters import Adapter
from nearfar.windows.long_recordings import HowToCut

Became = Literal["fitted", "is there", "another is there", "not a detector"]
UNIT = "machines"  # of progress


@dataclass(frozen=True, kw_only=True)
class HowToFit:
    """What is the same for all machines.

    Attributes
    ----------
    channels : tuple of int or str
        Near and far.
    adapter : Adapter or None
        For a system that is adapted.
    cut, odd_clips, keep, seed
        As of ``Detector.fit``.
    """

    channels: tuple[Channel, ...] = ()
    adapter: Adapter | None = None
    cut: HowToCut = "long"
    odd_clips: OddClips = "leave out"
    keep: Keep = "recordings"
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class MachineFit:
    """One machine, and how it is to be fitted.

    Attributes
    ----------
    folder : Path
        Of its recordings.
    machine : Machine or Exception
        Or why it could not be read, which is this task's failure and no other's.
    system : ResolvedSystem or None
        ``None`` of a machine that could not be read.
    how : HowToFit
    cache : Path
    """

    folder: Path
    machine: Machine | Exception
    system: ResolvedSystem | None
    how: HowToFit
    cache: Path

    @property
    def name(self) -> str:
        """Of the machine."""
        return self.folder.name


@dataclass(frozen=True, slots=True)
class FittedMachine:
    """What became of one machine.

    Attributes
    ----------
    name : str
    detector : Path
    became : {"fitted", "is there", "another is there", "not a detector"}
        "is there": the same detector, which stays. "another is there": it was fitted otherwise, or calibrated or
        taught since, and stays, too. "not a detector": what is there is damaged, or something else, and stays.
    """

    name: str
    detector: Path
    became: Became


def folders_of(hall: Path | str) -> list[Path]:
    """The folders of a hall's machines, in the order of their names.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        If it has no folders in it.
    """
    hall = Path(hall)
    if not hall.is_dir():
        raise FileNotFoundError(f"{hall}: no such folder")
    with os.scandir(hall) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DatasetError(
            [f"{hall}: no folders here; expected one for each machine, with its normal recordings"]
        )
    return [hall / name for name in names]


def fit_all(  # noqa: PLR0913  # its keyword-only options are its interface
    hall: Path | str,
    out: Path | str,
    system: System | FusedSystem,
    how: HowToFit = HowToFit(),
    *,
    machines: Collection[str] = (),
    replace: bool = False,
    workers: Place | int = 1,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Iterator[FittedMachine]:
    """Fit a system to each machine of a hall, and write its detector; yields what became of each, as it is done.

    A machine whose detector is there, fitted in the same way to the same recordings, is left as it is: what was
    interrupted goes on. A machine that cannot be fitted does not stop the others.

    Parameters
    ----------
    hall : Path or str
        A folder for each machine, as ``Detector.fit`` takes it.
    out : Path or str
        Of the detectors, ``out/MACHINE``.
    system : System or FusedSystem
    how : HowToFit
    machines : collection of str
        Only these; empty: all.
    replace : bool
        Whether to write over other detectors.
    workers : Place or int
        Where machines are fitted, each by one process; a number: so many processes of this computer.
    jobs : Jobs or None
        Where finished fits are kept; ``None``: the user's cache.
    progress : callable or None

    Raises
    ------
    FileNotFoundError, DatasetError
        If there are no machines, or not one of a name.
    Exception
        What the fit of a machine has raised, if it was one, after all others are done; a ``TasksError`` of several.
    """
    jobs, out = jobs or Jobs(), Path(out)
    folders = _chosen(folders_of(hall), machines)
    _refuse_out(out, Path(hall))

    def finished(done: int, total: int) -> None:
        if progress is not None:
            progress(UNIT, done, total)

    means: dict[str, Any] = {"workers": workers, "cache": jobs.root, "tell": progress, "finished": finished}
    done = as_done(_fit, _Fits(folders, system, how, jobs), named=lambda task: task.name, **means)
    out.mkdir(parents=True, exist_ok=True)
    for number, made in done:
        yield _written(made, out / folders[number].name, replace=replace)


def _refuse_out(out: Path, hall: Path) -> None:
    """Raise before long work whose outcome has no place, or would lie among recordings."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out}: is a file, not a folder for detectors; choose another name")
    refuse_unwritable(out / "detector")
    place, recordings = out.resolve(), hall.resolve()
    if place == recordings or recordings in place.parents:
        raise ValueError(f"{out}: lies in the hall {hall}, among recordings; choose a folder outside of it")


def _chosen(folders: list[Path], names: Collection[str]) -> list[Path]:
    known = {folder.name: folder for folder in folders}
    if missing := [name for name in names if name not in known]:
        raise DatasetError(f"{name}: no folder of such a machine in {folders[0].parent}" for name in missing)
    return [known[name] for name in dict.fromkeys(names)] if names else folders


@dataclass(frozen=True)
class _Fits:
    """The tasks: each is made when it is about to run."""

    folders: list[Path]
    system: System | FusedSystem
    how: HowToFit
    jobs: Jobs

    def __len__(self) -> int:
        return len(self.folders)

    def __iter__(self) -> Iterator[MachineFit]:
        for folder in self.folders:
            try:
                machine = datasets.load_machine(folder, self.how.channels)
            except (ValueError, OSError) as error:
                yield MachineFit(folder, error, None, self.how, self.jobs.root)
            else:
                yield MachineFit(folder, machine, self._resolved(machine), self.how, self.jobs.root)

    def _resolved(self, machine: Machine) -> ResolvedSystem:
        with threadpool_limits(1):  # as tasks compute
            found = resolve(
                self.system, seed=self.how.seed, jobs=self.jobs, machine=machine.name, clips=machine.train
            )
        return found if self.how.adapter is None else found.with_adapters([self.how.adapter])


def _fit(task: MachineFit, tell: Tell) -> Path:
    """Of one machine: the folder of its detector among the finished steps."""
    if isinstance(task.machine, Exception):
        raise task.machine
    machine, system, how = task.machine, task.system, task.how
    assert system is not None

    def told(step: str, done: int, total: int) -> None:
        tell(f"{task.name}: {step}", done, total)

    def make(folder: Path) -> None:
        detector = Detector.fit(
            machine, system, cut=how.cut, odd_clips=how.odd_clips, keep=how.keep, jobs=jobs, progress=told
        )
        detector.save(folder / "detector")

    jobs = Jobs(task.cache)
    with threadpool_limits(1):
        clips = machine.train
        shas = digests((clip.recording for clip in clips), jobs)
        rows = [[c.key, sha, c.domain, c.attributes, c.group] for c, sha in zip(clips, shas, strict=True)]
        inputs: dict[str, Any] = {
            "system": system.describe(), "machine": machine.name, "clips": rows,
            "cut": str(how.cut), "odd_clips": how.odd_clips, "keep": how.keep,
        }  # fmt: skip
        made_by = (__name__, fitting.__name__, "nearfar.detector.fitted", *system.modules)
        return jobs.do("fleet", inputs, make, made_by=made_by) / "detector"


def _written(made: Path, place: Path, *, replace: bool) -> FittedMachine:
    if place.is_dir() and _is_same(made, place):
        return FittedMachine(place.name, place, "is there")
    if place.exists() and not replace:
        return FittedMachine(
            place.name, place, "another is there" if _is_detector(place) else "not a detector"
        )
    refuse_to_replace(place, replace=replace)
    with atomic_folder(place, replace=replace) as part:
        shutil.copytree(made, part, dirs_exist_ok=True)
    return FittedMachine(place.name, place, "fitted")


def _is_detector(place: Path) -> bool:
    """Whether a detector can be loaded from there."""
    try:
        Detector.load(place)
    except (ValueError, OSError, LookupError):
        return False
    return True


def _is_same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same bytes under the same names."""
    compared = dircmp(one, other, ignore=[])
    if compared.left_only or compared.right_only or compared.common_funny:
        return False
    files = all(cmp(one / name, other / name, shallow=False) for name in compared.common_files)
    return files and all(_is_same(one / name, other / name) for name in compared.common_dirs)
