"""Arrays on disk, as safetensors; with a digest of what they hold, if nothing beside them has one.

The library names neither the file nor the cause when a disk is full: it raises an error of its own kind, with the
number of the operating system's error in the text. Here it becomes that error.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nearfar.files.digests import digest_arrays

DIGEST = "digest"  # the key of the metadata
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # as Rust writes it

logger = logging.getLogger(__name__)


class DamagedArraysError(ValueError):
    """A file of arrays that is unreadable, or does not hold what was written."""


def save_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as safetensors, which stores memory as it lies: hence in C order.

    Parameters
    ----------
    path : Path
        In a folder, or under a name, that is temporary: see ``atomic_file`` and ``atomic_folder``.
    arrays : mapping from name to array
    metadata : mapping or None

    Raises
    ------
    OSError
        If the disk is full, or cannot be written to; names the file.
    """
    in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with errors_of_the_system(path):
        save_file(in_order, path, metadata=None if metadata is None else dict(metadata))


def save_with_digest(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """As ``save_arrays``, with a digest that ``load_with_digest`` checks."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    save_arrays(path, arrays, metadata={DIGEST: digest_arrays(arrays)})


def load_with_digest(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, as they were written; of a file without a digest, as they are.

    Raises
    ------
    FileNotFoundError
    DamagedArraysError
        If it is unreadable, or its content is not that of its digest.
    """
    try:
        with safe_open(path, "numpy") as file:
            said = (file.metadata() or {}).get(DIGEST)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it has no other way
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DamagedArraysError(f"{path}: damaged, or no arrays ({error})") from error
    if said not in (None, digest_arrays(arrays)):
        raise DamagedArraysError(f"{path}: damaged (its digest has changed)")
    return arrays


def load_if_whole(path: Path) -> dict[str, NDArray[Any]] | None:
    """The same of what can be made again; ``None`` if it is not there, or damaged, with a warning in the log."""
    if not path.is_file():
        return None
    try:
        return load_with_digest(path)
    except DamagedArraysError as error:
        logger.warning("%s; it counts as absent, and is made again", error)
        return None


@contextmanager
def errors_of_the_system(path: Path) -> Iterator[None]:
    """Raise what safetensors tells of the operating system as an ``OSError`` that names the file.

    The file gets the permissions that the user asks for: safetensors may make it for its owner alone.
    """
    path.touch()
    mode = path.stat().st_mode & 0o777
    try:
        yield
    except SafetensorError as error:
        if found := SYSTEM_ERROR.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    path.chmod(mode)
