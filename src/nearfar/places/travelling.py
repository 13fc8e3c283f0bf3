"""Tasks and outcomes on their way to another computer: paths in them are found there, whatever they are called.

A path to a file means what the file holds. Where a worker sees the same file, it reads it there. Where it does
not, it asks for the content, once, and keeps it in its own cache. A path in the cache means a place in the worker's
cache, which is the same folder if both see it. Paths to what does not exist, such as a file to write, stay as they
are.
"""

from __future__ import annotations

import contextvars
import copyreg
import io
import pickle
from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, Protocol


class Finder(Protocol):
    """Where paths are found on this computer."""

    def in_cache(self, relative: str) -> Path:
        """A place in the cache."""

    def file(self, told: str, size: int, changed: int) -> Path:
        """A file that is called so where the task comes from, with its bytes and time of change in ns."""


_finder: contextvars.ContextVar[Finder] = contextvars.ContextVar("finder")


def pack(
    content: Any,
    *,
    cache: Path | None,
    pickler: type[pickle.Pickler] = pickle.Pickler,
    names: list[str] | None = None,
) -> bytes:
    """Anything that can be pickled, as bytes.

    Parameters
    ----------
    content
    cache : Path or None
        Paths in it are told as places in the cache.
    pickler : type
        Of ``pickle.Pickler``, or one that sends functions of scripts, too.
    names : list of str or None
        Takes the names of all files in it.
    """
    here = None if cache is None else cache.absolute()

    def reduce(path: Path) -> Any:
        whole = path.absolute()
        if here is not None and (whole == here or here in whole.parents):
            return _in_cache, (whole.relative_to(here).as_posix(),)
        try:
            status = path.stat()
        except OSError:
            return _as_told, (str(path),)
        if not path.is_file():
            return _as_told, (str(path),)
        if names is not None:
            names.append(str(whole))
        return _file, (str(whole), status.st_size, status.st_mtime_ns)

    known = getattr(pickler, "dispatch_table", copyreg.dispatch_table)  # of a class: pickle looks there alone
    table = ChainMap({PosixPath: reduce, WindowsPath: reduce}, known)
    packed = io.BytesIO()
    type("Packer", (pickler,), {"dispatch_table": table})(packed, protocol=5).dump(content)
    return packed.getvalue()


def unpack(packed: bytes, finder: Finder) -> Any:
    """What was packed, with paths of this computer; only for what our own tasks have packed."""
    with _found_by(finder):
        return pickle.loads(packed)


@contextmanager
def _found_by(finder: Finder) -> Iterator[None]:
    before = _finder.set(finder)
    try:
        yield
    finally:
        _finder.reset(before)


def _in_cache(relative: str) -> Path:
    return _finder.get().in_cache(relative)


def _file(told: str, size: int, changed: int) -> Path:
    return _finder.get().file(told, size, changed)


def _as_told(told: str) -> Path:
    return Path(told)
