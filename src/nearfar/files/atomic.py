"""Files and folders that are whole or absent.

Nothing is ever seen half written: a file or folder appears under its name by one rename, after all of it is on
disk. If there is no space for it, the error names it, and not the temporary name that it had.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line begins without NumPy
    pass

from nearfar.files.digests import digest

NO_SPACE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)  # the disk is full, the user's quota is, or the file too large


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there becomes ``path`` at the end.

    If the body raises (a full disk, Ctrl-C), nothing appears and what stood there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, "part")
    try:
        part.touch()
        with no_space_names(path, part):
            yield part
            _sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool | None = None, unless: str | None = None) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it becomes ``path`` at the end.

    Parameters
    ----------
    replace : bool or None
        Take the place of a folder that is there; it is only removed once the new one is complete. None or False: do
        not; see ``refuse_existing``.
    unless : str or None
        But leave it alone if it has a file of this name: somebody else was first.

    Raises
    ------
    FileExistsError
        If something is there, unless ``replace``.
    """
    refuse_existing(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, "part")
    try:
        part.mkdir()
        with no_space_names(path, part):
            yield part
            _sync_all(part)
        _take_place(part, path, unless)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path, *, parameters: Any, kept_in: str) -> Iterator[Path]:
    """Yield a folder beside ``path`` that becomes ``path`` at the end, and stays where it is if the body raises.

    It is named ``path.unfinished``. The next call finds there what this one has done, if it asks for the same.

    Parameters
    ----------
    parameters : JSON value
        What determines the content.
    kept_in : str
        Name of the file in the folder that holds them, from the beginning.

    Raises
    ------
    FileExistsError
        If ``path`` is there, or what is unfinished was to be something else.
    """
    refuse_existing(path)
    unfinished = path.with_name(path.name + ".unfinished")
    begun = unfinished / kept_in
    if not unfinished.exists():
        with atomic_folder(unfinished) as part:
            write_json(part / kept_in, parameters)
    elif not begun.is_file() or digest(json.loads(begun.read_text())) != digest(parameters):
        raise FileExistsError(
            f"{unfinished} was begun with other parameters; continue with those, remove it, or choose another name"
        )
    with no_space_names(path):
        yield unfinished
        _sync_all(unfinished)
    unfinished.rename(path)


@contextmanager
def no_space_names(path: Path, part: Path | None = None) -> Iterator[None]:
    """Raise errors for want of space with the name that the user knows: of ``path``, or of what is in it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        written = Path(str(error.filename)) if error.filename is not None else None
        if written is None:
            name = path
        elif part is not None and written.is_relative_to(part):
            name = path / written.relative_to(part)
        else:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(name)) from error


def refuse_existing(path: Path, *, replace: bool | None = None) -> None:
    """Raise before long work whose outcome would have no place.

    Parameters
    ----------
    path : Path
    replace : bool or None
        Whether the user wants to replace what is there; None if the caller does not offer that.

    Raises
    ------
    FileExistsError
        If something is there, unless ``replace``; says what to do.
    """
    if path.exists() and not replace:
        remedy = (
            "remove it first" if replace is None else "replace it with --replace (in Python: replace=True)"
        )
        raise FileExistsError(f"{path} is there already; choose another name, or {remedy}")
    refuse_unwritable(path)


def refuse_file(path: Path, suffix: str, what: str, *, replace: bool) -> None:
    """Raise before long work whose outcome is one file that would have no place, or a misleading name.

    Parameters
    ----------
    path : Path
    suffix : str
        With which its name must end, in small or capital letters, so that no file of another kind is replaced.
    what : str
        What it holds, such as "a page".
    replace : bool

    Raises
    ------
    ValueError
        If the name ends otherwise.
    IsADirectoryError
        If it is a folder, also with ``replace``.
    FileExistsError, PermissionError, NotADirectoryError
        As of ``refuse_existing``.
    """
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path}: {what} is a file that ends in {suffix}; choose such a name")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; choose another name for {what}")
    refuse_existing(path, replace=replace)


def refuse_unwritable(path: Path, named: Path | None = None) -> None:
    """Raise before long work whose outcome cannot be written to ``path``.

    Parameters
    ----------
    path : Path
    named : Path or None
        What a message names in place of ``path``, such as the folder that the user gave.

    Raises
    ------
    NotADirectoryError, PermissionError
        If the nearest folder above it that is there is no folder, or not ours to write to.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    name = named or path
    if not above.is_dir():
        raise NotADirectoryError(f"{name}: {above} is a file, not a folder; choose another name")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{name}: {above} cannot be written to; choose another place")


def _take_place(part: Path, path: Path, unless: str | None) -> None:
    """Rename ``part`` to ``path``; look only after it failed, because other processes do the same meanwhile."""
    while True:
        try:
            part.rename(path)  # fails where a folder with something in it stands
            return
        except OSError:
            if not path.is_dir():
                raise
        if unless is not None and (path / unless).is_file():
            return
        old = _beside(path, "old")
        try:
            path.rename(old)
        except FileNotFoundError:  # another one has just moved it away
            continue
        try:
            part.rename(path)
            return
        except OSError:
            if not path.exists():
                old.rename(path)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder; whoever looks finds it whole or not at all. That it is gone already is no error."""
    old = _beside(folder, "old")
    try:
        folder.rename(old)
    except FileNotFoundError:
        return
    shutil.rmtree(old)


def _beside(path: Path, kind: str) -> Path:
    """A hidden name of its own in the same folder, hence on the same disk."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.{kind}")


def _sync(file: Path) -> None:
    with file.open("rb") as f:
        os.fsync(f.fileno())


def _sync_all(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON: sorted keys, so that equal content is equal bytes."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
