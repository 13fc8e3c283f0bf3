"""What lies in a cache beside embeddings and steps: files that each stand for themselves, and can be made again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nearfar.files.steps import default_cache

MEASURED, LOGS, SHIPPED = "arithmetics", "logs", "shipped"  # folders of the cache
KINDS = {
    MEASURED: "measured arithmetics",
    LOGS: "logs of tasks",
    SHIPPED: "files of other computers",
}
A_DAY = 86400  # seconds


@dataclass(frozen=True, slots=True)
class CacheFile:
    """A file in a cache.

    Attributes
    ----------
    path : Path
    kind : str
        Of ``KINDS``, in words.
    size : int
        In bytes.
    unused_days : float
        Since it was read, as far as the file system notes that, or came into the cache.
    """

    path: Path
    kind: str
    size: int
    unused_days: float


def found(root: Path | None = None) -> list[CacheFile]:
    """All such files of a cache, by kind and place.

    Parameters
    ----------
    root : Path or None
        The cache; ``None``: ``default_cache()``.
    """
    root, now = default_cache() if root is None else root, time.time()
    files = []
    for folder, kind in KINDS.items():
        for path in _below(root / folder):
            with suppress(FileNotFoundError):  # another process has just taken it away
                status = path.stat()
                used = max(status.st_atime, status.st_ctime)
                files.append(CacheFile(path, kind, status.st_size, max(0.0, (now - used) / A_DAY)))
    return files


def remove_unused(root: Path | None = None, *, days: float) -> list[CacheFile]:
    """Remove those that were not used for so many days, and folders that are empty then; returns them.

    Parameters
    ----------
    root : Path or None
        As of ``found``.
    days : float
    """
    removed = [file for file in found(root) if file.unused_days >= days]
    for file in removed:
        file.path.unlink(missing_ok=True)
    for folder in {file.path.parent for file in removed}:
        _remove_empty(folder, below=default_cache() if root is None else root)
    return removed


def _below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in sorted(names))


def _remove_empty(folder: Path, *, below: Path) -> None:
    """A folder, and those around it, as far as they are empty."""
    while folder != below and below in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # something is in it
            return
        folder = folder.parent
