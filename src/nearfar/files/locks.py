"""Locks between processes: whoever has one has it until its process ends, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

AGAIN_S = 0.05  # between two tries


class LockedError(OSError):
    """Another process has the lock."""


@contextmanager
def locked(path: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Nobody else has this lock as long as the body runs. The file stays.

    Parameters
    ----------
    path : Path
    patience_s : float
        How long it is tried.

    Raises
    ------
    LockedError
        If another process has it.
    """
    until = time.monotonic() + patience_s
    with path.open("ab") as file:
        while not _lock(file):
            if time.monotonic() >= until:
                raise LockedError(f"{path}: another process has this lock")
            time.sleep(AGAIN_S)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process has this lock; it is one's own for a moment if none has it."""
    try:
        with path.open("rb") as file:
            return not _lock(file)
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> bool:
    """Take a lock that ends with the file; whether it could be had."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
