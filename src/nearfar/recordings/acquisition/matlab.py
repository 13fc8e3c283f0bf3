"""MATLAB files: version 4 to 7 by SciPy, version 7.3, which is HDF5, by h5py.

Numeric variables and fields of structures may be channels, see ``arrays``. Text, cells and objects are left out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import mat_struct, matfile_version

from nearfar.files import extras
from nearfar.recordings.acquisition.arrays import FEWEST_SAMPLES, Array, Place, Tree, channels
from nearfar.recordings.acquisition.channels import Contents
from nearfar.recordings.sound import AudioError

HEADER = 128  # bytes of text and version, before the variables of version 5 to 7
COMPRESSED = 15
MOST_BYTES = 2**31  # of all variables together, unpacked: SciPy reads all
MOST_ELEMENTS = 1000  # of a structure array
HDF5_BASED = 2  # major version that SciPy names


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """The channels of a MATLAB file, while it is open."""
    with path.open("rb") as file:
        start = file.read(HEADER)
    major, _ = (2, 0) if start.startswith(b"MATLAB 7.3") else matfile_version(str(path))
    if major == HDF5_BASED:
        hdf5 = extras.resolve(
            "nearfar.recordings.acquisition.hdf5", needed_by=f"{path}: a MATLAB file of version 7.3"
        )
        with hdf5.hdf5(path) as file:
            yield hdf5.contents_of(file, "MATLAB7.3", ".")
        return
    if major == 1:
        _refuse_cut(path)
    elif path.stat().st_size > MOST_BYTES:
        raise AudioError(f"{path}: more than {MOST_BYTES} bytes; cut it into clips")
    tree = Tree(".")
    # whole numbers are stored as small integers, whatever their type; mat_dtype gives the type of the variable
    variables = loadmat(path, mat_dtype=True, struct_as_record=False, squeeze_me=False)
    for name, value in variables.items():
        if not name.startswith("__"):
            _add(tree, (name,), value)
    places = [array.place for array in tree.arrays]
    is_ordered = len(places) == 1 or places != sorted(places)
    yield Contents(f"MATLAB{'5' if major == 1 else '4'}", channels(tree), is_ordered=is_ordered)


def _refuse_cut(path: Path) -> None:
    """Follow the variables of a file of version 5 to 7: all must be in it, and small enough unpacked."""
    size = path.stat().st_size
    unpacked = 0
    with path.open("rb") as file:
        order = "<" if file.read(HEADER)[126:128] == b"IM" else ">"
        place = HEADER
        while place < size:
            file.seek(place)
            tag = file.read(8)
            kind, length = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (0, size)
            place += 8 + length
            if place > size:
                raise AudioError(
                    f"{path}: truncated, {place - size} bytes are missing; save or copy it again",
                    fault="truncated",
                )
            unpacked += _unpacked(file.read(256), order, length) if kind == COMPRESSED else length
    if unpacked > MOST_BYTES:
        raise AudioError(
            f"{path}: {unpacked} bytes of variables; at most {MOST_BYTES} are read: cut it into clips"
        )


def _unpacked(packed: bytes, order: str, length: int) -> int:
    """How many bytes a compressed variable has, as its own tag says."""
    try:
        tag = zlib.decompressobj().decompress(packed, 8)
    except zlib.error:
        return length  # SciPy says what is wrong
    return int(struct.unpack(f"{order}II", tag)[1]) if len(tag) == 8 else length


def _add(tree: Tree, place: Place, value: Any) -> None:
    if isinstance(value, mat_struct):
        for name in value._fieldnames:
            _add(tree, (*place, name), getattr(value, name))
    elif isinstance(value, np.ndarray) and value.dtype == object:
        if value.size and all(isinstance(item, mat_struct) for item in value.flat):
            for number, item in enumerate(value.reshape(-1)[:MOST_ELEMENTS], start=1):
                numbered = place if value.size == 1 else (*place[:-1], f"{place[-1]}({number})")
                _add(tree, numbered, item)
    elif isinstance(value, np.ndarray) and value.size == 1:
        tree.note(place[:-1], place[-1], value.reshape(-1)[0])
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size >= FEWEST_SAMPLES:
        tree.arrays.append(Array(place, value.shape, value.dtype, lambda index: value[index]))
