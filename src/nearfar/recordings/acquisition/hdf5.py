"""HDF5 files, by h5py.

Every dataset of real numbers may be a channel, see ``arrays``; attributes and datasets of a single number tell the
rate. Units are attributes (``units``, ``unit``); ``scale_factor`` and ``add_offset`` of the CF conventions are
applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nearfar.recordings.acquisition.arrays import Array, Place, Tree, channels
from nearfar.recordings.acquisition.channels import Contents, number
from nearfar.recordings.sound import AudioError

UNITS = ("units", "unit", "Unit", "Units")
MOST_ITEMS = 10_000  # groups and datasets that are looked at
DEEPEST = 16  # groups within groups: they may contain themselves


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """The channels of an HDF5 file, while it is open."""
    with hdf5(path) as file:
        yield contents_of(file, "HDF5", "/")


def contents_of(file: Any, name: str, joined_by: str) -> Contents:
    """The channels of an open file; what it is called, and what stands between the names of a place."""
    tree = _tree(file, joined_by)
    ordered = bool(file["/"].id.get_create_plist().get_link_creation_order()) or len(tree.arrays) == 1
    return Contents(name, channels(tree), is_ordered=ordered)


@contextmanager
def hdf5(path: Path) -> Iterator[Any]:
    """The open file; what is cut short is an error of its own."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if "truncated file" in str(error):
            raise AudioError(
                f"{path}: truncated, the end of the file is missing; record it again, or copy it again",
                fault="truncated",
            ) from error
        raise
    with file:
        yield file


def _tree(file: Any, joined_by: str) -> Tree:
    """Arrays and single values of a file, also below its groups."""
    tree = Tree(joined_by)
    for place, item in _items(file):
        attributes = _attributes(item)
        if isinstance(item, h5py.Dataset):
            _add(tree, place, item, attributes)
        else:
            for name, value in attributes.items():
                tree.note(place, name, value)
    return tree


def _items(file: Any) -> Iterator[tuple[Place, Any]]:
    """Groups and datasets in the order of the file; links to other places and to other files are not followed."""
    waiting: list[tuple[Place, Any]] = [((), file)]
    seen = 0
    while waiting and seen < MOST_ITEMS:
        place, item = waiting.pop()
        seen += 1
        yield place, item
        if isinstance(item, h5py.Group) and len(place) < DEEPEST:
            below = [name for name in item if isinstance(item.get(name, getlink=True), h5py.HardLink)]
            hidden = "#"  # begins the names of what MATLAB keeps for itself
            waiting += [
                ((*place, name), item[name]) for name in reversed(below) if not name.startswith(hidden)
            ]


def _add(tree: Tree, place: Place, dataset: Any, attributes: dict[str, object]) -> None:
    is_text = (
        attributes.get("MATLAB_class") in (b"char", "char", b"cell", "cell") or "MATLAB_empty" in attributes
    )
    if dataset.shape is None or is_text:
        return
    if dataset.size == 1:
        tree.note(place[:-1], place[-1], dataset[()])
    elif dataset.dtype.kind in "fiu" and dataset.ndim >= 1:
        problem, fault = _unwritten(dataset)
        tree.arrays.append(
            Array(
                place,
                dataset.shape,
                dataset.dtype,
                lambda index: dataset[index],
                unit=next((_text(attributes[name]) for name in UNITS if name in attributes), ""),
                properties=attributes,
                scaling=_scaling(attributes),
                problem=problem,
                fault=fault,  # type: ignore[arg-type]
            )
        )


def _attributes(item: Any) -> dict[str, object]:
    """Those that can be read: of types that h5py does not know, it raises."""
    read: dict[str, object] = {}
    for name in item.attrs:
        try:
            read[str(name)] = item.attrs[name]
        except (OSError, TypeError, ValueError):
            continue
    return read


def _text(value: object) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode(errors="replace").strip() if isinstance(value, bytes) else str(value).strip()


def _scaling(attributes: dict[str, object]) -> tuple[float, float] | None:
    factor, offset = number(attributes.get("scale_factor", "")), number(attributes.get("add_offset", ""))
    return None if factor is None and offset is None else (offset or 0.0, factor or 1.0)


def _unwritten(dataset: Any) -> tuple[str, str]:
    """HDF5 gives fill values, silently, for what was never written and for other files that are not there."""
    if dataset.is_virtual or dataset.external:
        return "its samples are in other files, which are not read; copy them into one file", "refused"
    if dataset.chunks is not None:
        places = [-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
        there, all_of_them = dataset.id.get_num_chunks(), int(np.prod(places))
        if there < all_of_them:
            return (
                f"{all_of_them - there} of {all_of_them} blocks were never written; record it again",
                "truncated",
            )
    elif dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        return "its samples were never written; record it again", "truncated"
    return "", "refused"
