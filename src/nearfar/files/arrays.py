"""Arrays on disk, as safetensors.

The library names neither the file nor the cause when a disk is full: it raises an error of its own kind, with the
number of the operating system's error in the text. Here it becomes that error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # as Rust writes it


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
