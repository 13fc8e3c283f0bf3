"""Which files lie below a folder.

Conventions
-----------
Hidden files and folders, and what systems leave on disks and in archives, are left alone: ``__MACOSX``, ``@eaDir``,
recycle bins, ``lost+found``. Links to folders are followed, but each folder is taken once, by its own path rather
than by that of a link. A link to a folder that contains the link is not followed. The folder of a
detector is left alone, too: the sound of normal clips in it is not there to be listed.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

LEFT_ALONE = frozenset(  # in lower case
    {
        "__macosx",  # macOS, in archives
        "$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db", "desktop.ini",  # Windows
        "lost+found", "lost.dir",  # file systems of Linux and Android
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot",  # network storage
    }
)  # fmt: skip
DETECTOR = "detector.json"  # in the folder of a detector
_CHECKED_DISK = re.compile(r"found\.\d{3}")  # FOUND.000, of Windows

Wanted = Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies below a folder.

    Attributes
    ----------
    files : tuple of Path
        Ordered by path. A link to a file that is not there is among them: whoever reads it can name it.
    unreadable : dict from Path to str
        Folders that could not be looked into, and why.
    """

    files: tuple[Path, ...]
    unreadable: dict[Path, str]


def is_left_alone(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left by a system."""
    small = name.lower()
    return name.startswith(".") or small in LEFT_ALONE or _CHECKED_DISK.fullmatch(small) is not None


def list_below(folder: Path, wanted: Wanted) -> Listing:
    """The wanted files at any depth below a folder; none if the folder is not there, or is that of a detector."""
    walk = _Walk(wanted)
    if folder.is_dir():
        walk.all_below(folder)
    return Listing(tuple(sorted(walk.files)), walk.unreadable)


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, links to folders among them, ordered by name; without those of detectors.

    Raises
    ------
    OSError
        If it cannot be looked into.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_left_alone(entry.name) and _is_folder(entry)]
    return [folder / name for name in sorted(names) if not is_detector(folder / name)]


def is_detector(folder: Path) -> bool:
    """Whether a folder is that of a detector; not one that cannot be looked into."""
    return os.path.isfile(folder / DETECTOR)  # noqa: PTH113  # the method raises where looking is not allowed


@dataclass
class _Walk:
    """A walk through folders: what was found, which folders were seen, which links wait."""

    wanted: Wanted
    files: list[Path] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)
    folders: deque[Path] = field(default_factory=deque)
    links: deque[Path] = field(default_factory=deque)

    def all_below(self, folder: Path) -> None:
        """Look into all folders; into those that are reached by links once there are no others."""
        self.folders.append(folder)
        while self.folders or self.links:
            if self.folders:
                self._look_into(self.folders.popleft())
            elif not _contains_itself(link := self.links.popleft()):
                self._look_into(link)

    def _look_into(self, folder: Path) -> None:
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self.seen:
                return
            self.seen.add((status.st_dev, status.st_ino))
            entries = list(_entries(folder))
        except OSError as error:
            self.unreadable[folder] = error.strerror or str(error)
            return
        if any(entry.name == DETECTOR for entry in entries):
            return
        for entry in entries:
            self._take(entry, folder / entry.name)

    def _take(self, entry: os.DirEntry[str], path: Path) -> None:
        if _is_folder(entry):
            (self.links if entry.is_symlink() else self.folders).append(path)
        elif _is_file(entry):
            if self.wanted(path):
                self.files.append(path)
        elif entry.is_symlink() and not _is_there(path):
            if self.wanted(path):
                self.files.append(path)
            else:
                logger.warning("%s: a link to %s, which is not there; left out", path, path.readlink())


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted((e for e in entries if not is_left_alone(e.name)), key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _contains_itself(link: Path) -> bool:
    """Whether a link leads to a folder that contains the link."""
    target, place = Path(os.path.realpath(link)), Path(os.path.realpath(link.parent))
    is_circle = target == place or target in place.parents
    if is_circle:
        logger.warning("%s: a link to %s, which contains it; not followed", link, target)
    return is_circle
