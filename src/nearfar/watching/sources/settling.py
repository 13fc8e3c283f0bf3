"""Which files in a folder are complete: cheap, however many there are that are known.

A recorder writes into the folder meanwhile, perhaps on another computer. So a file is complete when its size and
time have not changed for some seconds, and its header, if it is one that tells the length, is filled in.

What it costs
-------------
A look reads only folders whose own time has changed since they were read, and asks the system only about files that
are not known: a folder's time changes when a file comes into it. Files that are known may be written over, and some
network drives do not keep the times of folders: so now and then all is looked at, as seldom as that is dear.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from nearfar.files.listing import DETECTOR, is_left_alone
from nearfar.files.names import encodable
from nearfar.recordings.clips import AUDIO_SUFFIXES
from nearfar.recordings.containers import extent_of
from nearfar.recordings.recording import TRACK
from nearfar.watching.sources import SourceError

logger = logging.getLogger(__name__)

SHARE = 50  # a look at all takes at most one part in so many of the time
ALL_EVERY = 30.0  # seconds between two of them, at least
COARSE = 2 * 10**9  # ns: times of files can be that coarse (FAT)
FLAC_HEAD = 26  # bytes, up to the number of samples


@dataclass(slots=True, eq=False)
class Found:
    """A file that is not known yet.

    Attributes
    ----------
    path : Path
    name : str
        Below the folder, with slashes.
    size, mtime_ns : int
    since : float
        Since when these are known to be as they are, by the monotonic clock: the end of the look that saw them
        first, so files that were there together settle together, however long a look takes.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
    since: float

    @property
    def key(self) -> str:
        """The same file has the same, until it is changed."""
        return key_of(self.name, self.size, self.mtime_ns)


def key_of(name: str, size: int, mtime_ns: int) -> str:
    """What tells a file from others, and from itself when it has changed."""
    return f"{encodable(name)} {size} {mtime_ns}"


@dataclass(slots=True, eq=False)
class _Known:
    """A folder as it was when it was read.

    Attributes
    ----------
    mtime_ns : int
    read_ns : int
        When it was read, by the clock of this computer.
    folders : list of str
        The names of those in it.
    files : dict
        Of each file that is known, by name, the hash of size and time.
    waiting : dict
        The files that are not known yet, by name.
    """

    mtime_ns: int = 0
    read_ns: int = 0
    folders: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, Found] = field(default_factory=dict)

    def is_unchanged(self, mtime_ns: int) -> bool:
        """Whether no file can have come since."""
        return mtime_ns == self.mtime_ns and mtime_ns + COARSE < self.read_ns


class Settling:
    """The files of a folder that are not known yet, until they are.

    Parameters
    ----------
    folder : Path
    pattern : str
        Of file names, as of a shell.
    recursive : bool
        Whether folders in it are looked at, too.
    is_known : callable
        Whether a file, by its key, need not be looked at; asked once for each.
    grows : callable
        Called when a file has grown.
    stopping : callable
        Whether to stop looking.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pattern: str,
        recursive: bool,
        is_known: Callable[[str], bool],
        grows: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._pattern = pattern
        self._recursive = recursive
        self._is_known = is_known
        self._grows = grows
        self._stopping = stopping
        self._folders: dict[str, _Known] = {}  # by name below the folder, with a slash at the end
        self._new: list[Found] = []  # of this look
        self._all_at = -float("inf")
        self._told: set[str] = set()

    def look(self) -> tuple[float, float]:
        """See what has come; gives when the look began, by the monotonic clock, and the seconds that it took.

        Raises
        ------
        SourceError
            If the folder is not there.
        """
        begun = time.monotonic()
        is_all = begun >= self._all_at
        self._new = []
        for place, mtime_ns, known in self._places():
            if self._stopping():
                return begun, 0.0
            if is_all or not known.is_unchanged(mtime_ns):
                known.mtime_ns, known.read_ns = mtime_ns, time.time_ns()
                self._read(place, known, is_all)
            else:
                self._look_again(place, known)
        ended = time.monotonic()
        took = ended - begun
        for found in self._new:
            found.since = ended
        if is_all:
            self._all_at = ended + max(ALL_EVERY, SHARE * took)
        return begun, took

    def waiting(self) -> list[Found]:
        """The files that are not known yet, by name."""
        found = [one for known in self._folders.values() for one in known.waiting.values()]
        return sorted(found, key=lambda one: one.name)

    def know(self, found: Found) -> None:
        """A file need not be looked at until it changes."""
        place, slash, name = found.name.rpartition("/")
        known = self._folders.get(place + slash)
        if known is not None:
            known.waiting.pop(name, None)
            known.files[name] = hash((found.size, found.mtime_ns))

    def _places(self) -> Iterator[tuple[str, int, _Known]]:
        """The folders, each with the time of its last change, before those in it; what is gone is forgotten."""
        places, been, present = [""], set(), set()
        while places:
            place = places.pop()
            try:
                found = self._folder.joinpath(place).stat()
                if not stat.S_ISDIR(found.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "it is no folder")
            except OSError as error:
                self._is_gone(place, error)
                continue
            if (found.st_dev, found.st_ino) in been:  # by a link
                continue
            been.add((found.st_dev, found.st_ino))
            present.add(place)
            known = self._folders.setdefault(place, _Known())
            yield place, found.st_mtime_ns, known
            if self._recursive:
                places += [f"{place}{name}/" for name in known.folders]
        for gone in self._folders.keys() - present:
            del self._folders[gone]

    def _is_gone(self, place: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        if not place:
            raise SourceError(f"{self._folder}: the folder cannot be looked into ({reason})") from error
        if not isinstance(error, FileNotFoundError) and place not in self._told:
            self._told.add(place)
            logger.warning(
                "%s: cannot be looked into (%s); what is in it is not heard", self._folder / place, reason
            )

    def _read(self, place: str, known: _Known, is_all: bool) -> None:
        """Read one folder."""
        now = _Known(known.mtime_ns, known.read_ns)
        try:
            with os.scandir(self._folder / place) as entries:
                for entry in entries:
                    name = entry.name
                    if not is_all and (before := known.files.get(name)) is not None:
                        now.files[name] = before
                    elif name == DETECTOR:
                        now = _Known(known.mtime_ns, known.read_ns)
                        break
                    elif not is_left_alone(name):
                        self._take(entry, place, known, now)
        except OSError as error:
            known.mtime_ns = 0
            self._is_gone(place, error)
            return
        known.folders, known.files, known.waiting = now.folders, now.files, now.waiting

    def _take(self, entry: os.DirEntry[str], place: str, before: _Known, now: _Known) -> None:
        """One entry of a folder that is not known, or is to be looked at again."""
        name = entry.name
        try:
            if entry.is_dir():
                now.folders.append(name)
                return
            if not self._is_wanted(name) or not entry.is_file():
                return
            found = entry.stat()
        except OSError:  # it has vanished, or is a link in a circle
            return
        identity = hash((found.st_size, found.st_mtime_ns))
        waiting = before.waiting.get(name)
        if waiting is None and (
            before.files.get(name) == identity
            or self._is_known(key_of(f"{place}{name}", found.st_size, found.st_mtime_ns))
        ):
            now.files[name] = identity
        else:
            now.waiting[name] = self._as_it_is(f"{place}{name}", found, waiting)

    def _is_wanted(self, name: str) -> bool:
        return f".{name.rpartition('.')[2].lower()}" in AUDIO_SUFFIXES and fnmatchcase(name, self._pattern)

    def _look_again(self, place: str, known: _Known) -> None:
        """At the files that wait in a folder to which none has come."""
        for name, waiting in list(known.waiting.items()):
            try:
                known.waiting[name] = self._as_it_is(f"{place}{name}", waiting.path.stat(), waiting)
            except OSError:
                del known.waiting[name]

    def _as_it_is(self, name: str, found: os.stat_result, before: Found | None) -> Found:
        """A file that waits; the same as before, if it has not changed."""
        if before is not None and (before.size, before.mtime_ns) == (found.st_size, found.st_mtime_ns):
            return before
        if before is not None and found.st_size > before.size:
            self._grows()
        new = Found(self._folder / name, name, found.st_size, found.st_mtime_ns, since=float("inf"))
        self._new.append(new)
        return new


def track_of(found: Found) -> tuple[str, str] | None:
    """What all tracks of one recording share, if a file is called like one."""
    match = TRACK.fullmatch(found.path.stem)
    if match is None:
        return None
    return f"{found.name.rpartition('/')[0]}/{match['name']}", found.path.suffix.lower()


def is_filled_in(path: Path) -> bool:
    """Whether the header of a file, if it tells the length, tells one that is there; not of an empty file.

    What cannot be opened is for the reader to tell.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(FLAC_HEAD)
            if head[:4] == b"fLaC":
                return len(head) == FLAC_HEAD and int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF > 0
            extent = extent_of(file, size)
    except OSError:
        return True
    if extent is None:
        return size > 0
    return extent.claimed is not None and not extent.is_unfinished and not extent.is_truncated
