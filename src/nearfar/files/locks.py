"""Locks between processes: whoever has one has it until its process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class LockedError(OSError):
    """Another process has the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else has this lock as long as the body runs. The file stays.

    Raises
    ------
    LockedError
        If another process has it.
    """
    with path.open("ab") as file:
        try:
            _lock(file)
        except OSError as error:
            raise LockedError(f"{path}: another process has this lock") from error
        yield


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
