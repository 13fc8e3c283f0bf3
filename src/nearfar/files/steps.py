"""Finished steps: what was computed once, kept under everything that determines it."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import platformdirs

from nearfar.files.atomic import atomic_folder, remove_folder, write_json
from nearfar.files.digests import digest, digest_file
from nearfar.files.provenance import code_digest

CACHE_VARIABLE = "NEARFAR_CACHE"
DONE = "job.json"
FILES = "files"  # its digests of all others
UNFINISHED = (".*.part", ".*.old", "*.unfinished")  # names of what is not complete, or about to go
DIGESTS_AT_ONCE = 100  # files, of which a killed run computes the digests again
HOURS_AT_WORK = 24.0  # after so long without a new file, a step is taken for killed

SHA256 = re.compile("[0-9a-f]{64}")

logger = logging.getLogger(__name__)

_Row = tuple[str | bytes, int, int, str]


class Exchange(Protocol):
    """Between the cache of a worker and that of the process that it works for, where these are two."""

    def fetch(self, folder: Path) -> None:
        """Bring the finished step of this folder here, if it is there."""

    def offer(self, folder: Path) -> None:
        """Send the finished step of this folder there, if it is not there."""


exchange: Exchange | None = None  # of a worker that does not see the cache of the process that it works for


def default_cache() -> Path:
    """``$NEARFAR_CACHE``, or the user's cache folder of this operating system."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("nearfar"))


@contextmanager
def _explain_errors(place: Path) -> Iterator[None]:
    """An error of the database as one of ours, with what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # which is in a message that cites what is there
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error
        raise OSError(
            f"{place}: {error}; it only caches digests, so remove it and run the same command again"
        ) from error


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
    made_by : tuple of str
        The modules that it named.
    """

    folder: Path
    step: str
    code: str
    size: int
    made_by: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether the code that did it is the code that is installed."""
        try:
            return bool(self.code) and self.code == code_digest(*self.made_by)
        except ModuleNotFoundError:  # the code that did it is gone
            return False


class Jobs:
    """Finished steps, each in a folder named by what made it: its inputs and the code.

    A step is asked for with everything that determines its outcome. The first time it is done, in a temporary
    folder that is renamed when complete; after that its folder is found. An interrupted run therefore goes on
    where it stopped, and a run of another system takes the steps that both share. A step of which a file is no
    longer what was written is told in the log, and done again.

    Parameters
    ----------
    root : Path or None
        Folder of the cache, made when first needed; ``None``: ``default_cache()``.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_cache() if root is None else root
        above = next(place for place in (self.root, *self.root.absolute().parents) if place.exists())
        if not above.is_dir():
            raise NotADirectoryError(
                f"the cache {self.root} cannot be used: {above} is a file; choose another folder with --cache"
            )

    def digests_of(self, paths: Iterable[Path], *, workers: int = 1) -> list[str]:
        """SHA-256 of each file, remembered for as long as its size and modification time stay the same.

        Parameters
        ----------
        paths : iterable of Path
        workers : int
            Threads that read what is not remembered.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        place = self.root / "digests.sqlite"
        # in autocommit mode it is locked for moments only
        with (
            _explain_errors(place),
            closing(sqlite3.connect(place, timeout=60, isolation_level=None)) as known,
        ):
            known.execute("PRAGMA synchronous = OFF")  # what is lost is only computed again
            known.execute("CREATE TABLE IF NOT EXISTS digests (path PRIMARY KEY, size, mtime, sha256)")
            asked = list(paths)
            found = {path: _remembered(known, path) for path in asked}
            missing = [path for path, sha in found.items() if sha is None]
            with ThreadPoolExecutor(workers) as pool:
                for start in range(0, len(missing), DIGESTS_AT_ONCE):
                    some = missing[start : start + DIGESTS_AT_ONCE]
                    rows = list(pool.map(_row_of, some))
                    self._remember(known, rows)
                    found |= {path: row[-1] for path, row in zip(some, rows, strict=True)}
            return [sha for path in asked if (sha := found[path]) is not None]

    def known_digests(self, paths: Iterable[Path]) -> list[str | None]:
        """The same as far as they are remembered; nothing is read, and ``None`` stands for the others."""
        asked, place = list(paths), self.root / "digests.sqlite"
        if not place.is_file():
            return [None] * len(asked)
        with _explain_errors(place), closing(sqlite3.connect(place, timeout=60)) as known:
            if not known.execute("SELECT 1 FROM sqlite_master WHERE name = 'digests'").fetchone():
                return [None] * len(asked)
            return [_remembered(known, path) if path.exists() else None for path in asked]

    def _remember(self, known: sqlite3.Connection, rows: Collection[_Row]) -> None:
        """In one transaction, which is as long as a moment."""
        known.execute("BEGIN IMMEDIATE")
        known.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", rows)
        known.execute("COMMIT")

    def folder(self, step: str, inputs: Mapping[str, Any], *, made_by: Sequence[str]) -> Path:
        """Where the outcome of this step lies or will lie; arguments as of ``do``."""
        return self._place("jobs", step, inputs, made_by)

    def has(self, step: str, inputs: Mapping[str, Any], *, made_by: Sequence[str]) -> bool:
        """Whether this step is finished; arguments as of ``do``."""
        return (self.folder(step, inputs, made_by=made_by) / DONE).is_file()

    def unfinished(self, step: str, inputs: Mapping[str, Any], *, made_by: Sequence[str]) -> Path:
        """Where a step may keep what it has reached, to go on from there when it is asked for again."""
        return self._place("unfinished", step, inputs, made_by)

    def _place(self, kind: str, step: str, inputs: Mapping[str, Any], made_by: Sequence[str]) -> Path:
        name = digest({"step": step, "inputs": inputs, "code": code_digest(*made_by)})
        return self.root / kind / step / name[:2] / name

    def do(
        self, step: str, inputs: Mapping[str, Any], make: Callable[[Path], None], *, made_by: Sequence[str]
    ) -> Path:
        """The folder of this step's outcome; ``make(folder)`` fills it if it is not there yet.

        Parameters
        ----------
        step : str
        inputs : mapping
            Everything that the outcome depends on, JSON-able.
        make : callable
        made_by : sequence of str
            Names of the modules that make it: see ``provenance.code_digest``.
        """
        folder = self.folder(step, inputs, made_by=made_by)
        if (folder / DONE).is_file() and (damaged := _damaged(folder)):
            logger.warning("%s: damaged (%s); this step is done again", folder, damaged)
            remove_folder(folder)
        if exchange is not None and not (folder / DONE).is_file():
            exchange.fetch(folder)
        if not (folder / DONE).is_file():
            with atomic_folder(folder, replace=True, unless=DONE) as part:
                make(part)
                code = {"code": code_digest(*made_by), "made_by": list(made_by)}
                write_json(part / DONE, {"step": step, "inputs": inputs, **code, FILES: _digests(part)})
        if exchange is not None:
            exchange.offer(folder)
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


def _remembered(known: sqlite3.Connection, path: Path) -> str | None:
    """The digest of a file, if it is known and the file has not changed since."""
    place, status = _as_key(path.resolve()), path.stat()
    row = known.execute("SELECT size, mtime, sha256 FROM digests WHERE path = ?", (place,)).fetchone()
    if row is None or row[:2] != (status.st_size, status.st_mtime_ns):
        return None
    return row[2] if isinstance(row[2], str) and SHA256.fullmatch(row[2]) else None


def _row_of(path: Path) -> _Row:
    """What is remembered of a file: its path, size, time of modification and digest."""
    place, status = _as_key(path.resolve()), path.stat()
    return place, status.st_size, status.st_mtime_ns, digest_file(path)


def _as_key(path: Path) -> str | bytes:
    """A path as SQLite takes it: as text, but as bytes where it is not UTF-8."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:  # as Python stands for bytes that are not UTF-8
        return os.fsencode(path)
    return text


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an outcome, by its place in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / DONE)
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def _damaged(folder: Path) -> str:
    """What is not as it was written; nothing of steps that were done before digests were kept."""
    try:
        said = json.loads((folder / DONE).read_bytes()).get(FILES)
        changed = (
            [] if said is None else [name for name, sha in said.items() if _digest_of(folder / name) != sha]
        )
    except (OSError, ValueError, AttributeError, RecursionError):
        return DONE
    return ", ".join(changed)


def _digest_of(file: Path) -> str:
    """SHA-256 of a file; nothing if it cannot be read."""
    try:
        return digest_file(file)
    except OSError:
        return ""


def _is_unfinished(folder: Path) -> bool:
    return folder.parts[-4] == "unfinished" or any(fnmatch(folder.name, pattern) for pattern in UNFINISHED)


def _job(folder: Path) -> tuple[Job, float]:
    """What is in that folder, and the time of its newest file."""
    try:
        done = json.loads((folder / DONE).read_text())
        code, made_by = str(done["code"]), tuple(map(str, done["made_by"]))
    except (OSError, ValueError, KeyError, TypeError):
        code, made_by = "", ()
    statuses = _statuses(folder)
    size = sum(status.st_size for status in statuses)
    return Job(folder, folder.parts[-3], code, size, made_by), max(
        (s.st_mtime for s in statuses), default=math.inf
    )


def _statuses(folder: Path) -> list[os.stat_result]:
    """Of the folder and all in it, without what another process has just taken away."""
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in names)):
            with suppress(FileNotFoundError):
                found.append(path.stat())
    return found
