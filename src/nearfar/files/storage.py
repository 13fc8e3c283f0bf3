"""What is on disk: files and folders that are whole or absent, digests, and the cache of finished steps.

Conventions
-----------
Nothing is ever seen half written: a file or folder appears under its name by one rename, after all of it is
on disk. A digest is the SHA-256 of the content, in hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:  # the command line begins without NumPy
    from numpy.typing import NDArray

CACHE_VARIABLE = "NEARFAR_CACHE"
NO_MAKERS = ("encoders/pretrained.py", "encoders/weights.py")  # they describe and fetch; files have a digest
MAKERS = (  # what stands between recordings and scores: a change in it makes every step anew
    "recordings/audio.py",
    "recordings/microphones.py",
    "encoders/*.py",
    "training/*.py",
    "embedding/embeddings.py",
    "embedding/conditioning.py",
    "backends/*.py",
    "systems/branches.py",
    "decisions/thresholds.py",
    "detector/*.py",
    "research/experiment.py",
    "research/sweep.py",
)
DONE = "job.json"
UNFINISHED = (".*.part", ".*.old", "*.unfinished")  # names of what is not complete, or about to go
HOURS_AT_WORK = 24.0  # after so long without a new file, a step is taken for killed
LIBRARIES = ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "torch")  # that compute scores


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there becomes ``path`` at the end.

    If the body raises (a full disk, Ctrl-C), nothing appears and what stood there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, "part")
    try:
        part.touch()
        yield part
        _sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False, unless: str | None = None) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it becomes ``path`` at the end.

    Parameters
    ----------
    replace : bool
        Take the place of a folder that is there; it is only removed once the new one is complete.
    unless : str or None
        But leave it alone if it has a file of this name: somebody else was first.

    Raises
    ------
    FileExistsError
        If something is there and ``replace`` is not asked for.
    """
    refuse_existing(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, "part")
    try:
        part.mkdir()
        yield part
        _sync_all(part)
        _take_place(part, path, unless)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path, *, parameters: Any, kept_in: str) -> Iterator[Path]:
    """Yield a folder beside ``path`` that becomes ``path`` at the end, and stays where it is if the body raises.

    It is named ``path.unfinished``. The next call finds there what this one has done, if it asks for the same.

    Parameters
    ----------
    parameters : JSON value
        What determines the content.
    kept_in : str
        Name of the file in the folder that holds them, from the beginning.

    Raises
    ------
    FileExistsError
        If ``path`` is there, or what is unfinished was to be something else.
    """
    refuse_existing(path)
    unfinished = path.with_name(path.name + ".unfinished")
    begun = unfinished / kept_in
    if not unfinished.exists():
        with atomic_folder(unfinished) as part:
            write_json(part / kept_in, parameters)
    elif not begun.is_file() or digest(json.loads(begun.read_text())) != digest(parameters):
        raise FileExistsError(
            f"{unfinished} was begun with other parameters; finish it with those, remove it, or choose another name"
        )
    yield unfinished
    _sync_all(unfinished)
    unfinished.rename(path)


def refuse_existing(path: Path, *, replace: bool = False) -> None:
    """Raise before long work whose outcome would have no place.

    Raises
    ------
    FileExistsError
        If something is there and ``replace`` is not asked for.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} is there already; choose another name, or ask to replace it")
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Raise before long work whose outcome cannot be written to ``path``.

    Raises
    ------
    NotADirectoryError, PermissionError
        If the nearest folder above it that is there is no folder, or not ours to write to.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{path}: {above} is a file, not a folder; choose another name")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: {above} cannot be written to; choose another place")


def _take_place(part: Path, path: Path, unless: str | None) -> None:
    """Rename ``part`` to ``path``; look only after it failed, because other processes do the same meanwhile."""
    while True:
        try:
            part.rename(path)  # fails where a folder with something in it stands
            return
        except OSError:
            if not path.is_dir():
                raise
        if unless is not None and (path / unless).is_file():
            return
        old = _beside(path, "old")
        try:
            path.rename(old)
        except FileNotFoundError:  # another one has just moved it away
            continue
        try:
            part.rename(path)
            return
        except OSError:
            if not path.exists():
                old.rename(path)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder; whoever looks finds it whole or not at all. That it is gone already is no error."""
    old = _beside(folder, "old")
    try:
        folder.rename(old)
    except FileNotFoundError:
        return
    shutil.rmtree(old)


def _beside(path: Path, kind: str) -> Path:
    """A hidden name of its own in the same folder, hence on the same disk."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.{kind}")


def _sync(file: Path) -> None:
    with file.open("rb") as f:
        os.fsync(f.fileno())


def _sync_all(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON: sorted keys, so that equal content is equal bytes."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def digest(content: Any) -> str:
    """SHA-256 of anything that JSON can say, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of arrays by name: names, kinds of number, shapes and bytes."""
    told = {
        name: [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in arrays.items()
    }
    return digest(told)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def default_cache() -> Path:
    """``$NEARFAR_CACHE``, or the user's cache folder of this operating system."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("nearfar"))


@lru_cache
def code_digest(makers: tuple[str, ...] = MAKERS) -> str:
    """Of the source files, and the versions of the libraries, that have a part in the outcome of a step."""
    package = Path(__file__).parents[1]
    files = {file for pattern in makers for file in package.glob(pattern)}
    files -= {package / name for name in NO_MAKERS}
    own = [[str(file.relative_to(package)), digest_file(file)] for file in sorted(files)]
    return digest([own, library_versions()])


def library_versions() -> dict[str, str]:
    """Of the libraries that compute scores."""
    return {name: version(name) for name in LIBRARIES}


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """An error of the database as one of ours, with what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"{place}: {error}; it only remembers digests: remove it and run again") from error


@dataclass(frozen=True, slots=True)
class Job:
    """A step in the cache.

    Attributes
    ----------
    folder : Path
    step : str
    code : str
        Digest of the code that did it; empty if it is not finished, or damaged.
    size : int
        Bytes.
    """

    folder: Path
    step: str
    code: str
    size: int


class Jobs:
    """Finished steps, each in a folder named by what made it: its inputs and the code.

    A step is asked for with everything that determines its outcome. The first time it is done, in a temporary
    folder that is renamed when complete; after that its folder is found. An interrupted run therefore goes on
    where it stopped, and a run of another system takes the steps that both share.

    Parameters
    ----------
    root : Path or None
        Folder of the cache, made when first needed; ``None``: ``default_cache()``.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_cache() if root is None else root

    def digests_of(self, paths: Iterable[Path]) -> list[str]:
        """SHA-256 of each file, remembered for as long as its size and modification time stay the same."""
        self.root.mkdir(parents=True, exist_ok=True)
        place = self.root / "digests.sqlite"
        # in autocommit mode it is locked for moments only
        with _told(place), closing(sqlite3.connect(place, timeout=60, isolation_level=None)) as known:
            known.execute("PRAGMA synchronous = OFF")  # what is lost is only computed again
            known.execute("CREATE TABLE IF NOT EXISTS digests (path PRIMARY KEY, size, mtime, sha256)")
            return [self._digest_of(known, path) for path in paths]

    def _digest_of(self, known: sqlite3.Connection, path: Path) -> str:
        place, status = str(path.resolve()), path.stat()
        row = known.execute("SELECT size, mtime, sha256 FROM digests WHERE path = ?", (place,)).fetchone()
        if row is not None and row[:2] == (status.st_size, status.st_mtime_ns):
            return row[2]
        found = digest_file(path)
        new = (place, status.st_size, status.st_mtime_ns, found)
        known.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", new)
        return found

    def folder(self, step: str, inputs: Mapping[str, Any]) -> Path:
        """Where the outcome of this step lies or will lie."""
        return self._place("jobs", step, inputs)

    def unfinished(self, step: str, inputs: Mapping[str, Any]) -> Path:
        """Where a step may keep what it has reached, to go on from there when it is asked for again."""
        return self._place("unfinished", step, inputs)

    def _place(self, kind: str, step: str, inputs: Mapping[str, Any]) -> Path:
        name = digest({"step": step, "inputs": inputs, "code": code_digest()})
        return self.root / kind / step / name[:2] / name

    def do(self, step: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder of this step's outcome; ``make(folder)`` fills it if it is not there yet."""
        folder = self.folder(step, inputs)
        if not (folder / DONE).is_file():
            with atomic_folder(folder, replace=True, unless=DONE) as part:
                make(part)
                write_json(part / DONE, {"step": step, "inputs": inputs, "code": code_digest()})
        return folder

    def finished(self) -> list[Job]:
        """All that are in the cache, of whatever code."""
        return [_job(folder)[0] for folder in self._folders() if not _is_unfinished(folder)]

    def leftovers(self) -> list[Job]:
        """What killed processes left: unfinished, and without a new file for ``HOURS_AT_WORK``."""
        since = time.time() - 3600 * HOURS_AT_WORK
        unfinished = [_job(folder) for folder in self._folders() if _is_unfinished(folder)]
        return [job for job, newest in unfinished if newest < since]

    def _folders(self) -> list[Path]:
        return sorted(self.root.glob("jobs/*/*/*")) + sorted(self.root.glob("unfinished/*/*/*"))


def _is_unfinished(folder: Path) -> bool:
    return folder.parts[-4] == "unfinished" or any(fnmatch(folder.name, pattern) for pattern in UNFINISHED)


def _job(folder: Path) -> tuple[Job, float]:
    """What is in that folder, and the time of its newest file."""
    try:
        code = json.loads((folder / DONE).read_text())["code"]
    except (OSError, ValueError, KeyError, TypeError):
        code = ""
    statuses = _statuses(folder)
    size = sum(status.st_size for status in statuses)
    return Job(folder, folder.parts[-3], code, size), max((s.st_mtime for s in statuses), default=math.inf)


def _statuses(folder: Path) -> list[os.stat_result]:
    """Of the folder and all in it, without what another process has just taken away."""
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in names)):
            with suppress(FileNotFoundError):
                found.append(path.stat())
    return found
