"""Where the recordings lie below a folder of machines; shared by the two layouts.

Conventions
-----------
A machine's folder is one that holds a split's folder: ``train`` or ``test``, in 2021 also ``source_test`` and
``target_test``. A plain folder holds none: it is recordings of one machine. What counts as a file is told in
``files.listing``: hidden files and what systems leave are left alone, links to folders are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nearfar.files.listing import folders_in, is_detector, list_below
from nearfar.files.names import quoted
from nearfar.recordings.clips import AUDIO_SUFFIXES, SPLIT_FOLDERS, Dataset, DatasetError, Machine, is_audio

EXPECTED = "ROOT/MACHINE/train/*.wav, and ROOT/MACHINE/test/*.wav where there are test clips"
SHOWN = 5  # offenders that an error names; it counts the others
DEPTH = 2  # how far below a root without machines to look for them: dev_data/raw
OTHER_SOUND = frozenset((".mp3", ".m4a", ".ogg", ".opus", ".wma", ".aac", ".amr", ".mp4", ".3gp"))  # not read


def is_machine(folder: Path) -> bool:
    """Whether the folder holds a split's folder."""
    return any((folder / split).is_dir() for split in SPLIT_FOLDERS)


def machine_folders(root: Path) -> list[Path]:
    """The machines' folders right below ``root``, ordered by name.

    Raises
    ------
    FileNotFoundError
        If there is no ``root``.
    DatasetError
        If it holds no machines; says which folder to pass instead, or what is expected.
    """
    refuse_no_folder(root, "root", "the folder that contains a folder for each machine")
    if is_machine(root):
        raise DatasetError([f"root={root} is the folder of one machine; give the folder that contains it"])
    machines = machines_in(root)
    if not machines:
        raise DatasetError([_no_machines(root)])
    return machines


def machines_in(folder: Path) -> list[Path]:
    """The machines' folders right below a folder, ordered by name; perhaps none.

    Raises
    ------
    DatasetError
        If folders cannot be read.
    """
    below = _folders(folder)
    if unreadable := [f"{f}: {_denied('permission denied')}" for f in below if not os.access(f, os.X_OK)]:
        raise DatasetError(few(unreadable))
    return [f for f in below if is_machine(f)]


def refuse_no_folder(path: Path, name: str, expected: str) -> None:
    """Raise if this is no folder; ``expected`` is what to give.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    DatasetError
        If it is a file, or the folder of a detector.
    """
    if not path.exists():
        if path.is_symlink():
            raise FileNotFoundError(f"{name}={path}: a link to {path.readlink()}, which is not there")
        raise FileNotFoundError(f"{name}={path}: no such folder; give {expected}")
    if not path.is_dir():
        one = "; to score one recording, `nearfar score DETECTOR FILE`" if is_audio(path) else ""
        raise DatasetError([f"{name}={path} is a file; give {expected}{one}"])
    if not os.access(path, os.R_OK | os.X_OK):
        raise DatasetError([f"{name}={path}: {_denied('permission denied')}"])
    if is_detector(path):
        raise DatasetError([f"{name}={path} is the folder of a detector; give {expected}"])


def refuse_machines(folder: Path) -> None:
    """Raise a ``DatasetError`` if a folder that is to be plain contains machines' folders; says which to give."""
    if machines := machines_in(folder):
        names = ", ".join(few(f.name for f in machines))
        what = f"the folders of {len(machines)} machines" if len(machines) > 1 else "the folder of a machine"
        raise DatasetError(
            [f"{folder} contains {what} ({names}); give one of them, such as {quoted(machines[0])}"]
        )


def _folders(folder: Path) -> list[Path]:
    try:
        return folders_in(folder)
    except OSError as error:
        raise DatasetError([f"{folder}: {_denied(error.strerror or str(error))}"]) from error


def _denied(why: str) -> str:
    return f"this folder cannot be read ({why.lower()}); change its permissions, or move it elsewhere"


def _no_machines(root: Path) -> str:
    if deeper := further_down(root):
        return f"root={root} contains no folder of a machine, but some are deeper; give {' or '.join(deeper)}"
    if any(is_audio(file) for file in root.iterdir()):
        return f"root={root} contains recordings but no folder of a machine; expected {EXPECTED}"
    return f"root={root} contains no folder of a machine; expected {EXPECTED}"


def further_down(root: Path) -> list[str]:
    """Folders some way below ``root`` that contain machines' folders."""
    found, level = [], [root]
    try:
        for _ in range(DEPTH):
            level = [below for folder in level for below in folders_in(folder)]
            found += [str(folder) for folder in level if any(is_machine(f) for f in folders_in(folder))]
    except OSError:  # a root far from any data, such as /
        return []
    return found


def recordings(machine: Path) -> list[Path]:
    """All recordings at any depth in the splits' folders of a machine, ordered by path."""
    return [file for split in SPLIT_FOLDERS for file in recordings_below(machine / split)]


def recordings_below(folder: Path) -> list[Path]:
    """All recordings at any depth below a folder, ordered by path.

    Raises
    ------
    DatasetError
        If a folder cannot be read: what is in it would be missing without a word.
    """
    found = list_below(folder, is_audio)
    if found.unreadable:
        raise DatasetError(few(f"{path}: {_denied(why)}" for path, why in found.unreadable.items()))
    return list(found.files)


def what_else(folder: Path) -> str:
    """To be added to a message that a folder contains no recordings: what it contains in their place."""
    if is_detector(folder):
        return "; it is the folder of a detector"
    other = OTHER_SOUND.difference(AUDIO_SUFFIXES)
    found = list_below(folder, lambda path: path.suffix.lower() in other).files
    kinds = ", ".join(sorted({file.suffix.lower() for file in found}))
    return f"; convert the {kinds} files to .wav or .flac" if kinds else ""


def few(lines: Iterable[str]) -> list[str]:
    """The first lines, and how many more there are."""
    lines = list(lines)
    rest = len(lines) - SHOWN
    return lines if rest <= 0 else [*lines[:SHOWN], f"... and {rest} more"]


def machine_name(path: Path) -> str:
    """The name of the folder, also where it is given as ``.`` or ``..``."""
    return path.name if path.name not in ("", "..") else path.resolve().name


def collect(root: Path, machines: Iterable[tuple[Machine, list[str]]]) -> Dataset:
    """The data set of these machines, if none of them has a problem.

    Raises
    ------
    DatasetError
        With all problems of all machines.
    """
    described = list(machines)
    problems = [problem for _, found in described for problem in found]
    if problems:
        raise DatasetError(problems)
    return Dataset(machine_name(root), root, tuple(machine for machine, _ in described))
