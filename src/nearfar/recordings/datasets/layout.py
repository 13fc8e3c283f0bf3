"""Where the recordings lie below a folder of machines; shared by the two layouts.

Conventions
-----------
A machine's folder is one that holds a split's folder: ``train`` or ``test``, in 2021 also ``source_test`` and
``target_test``. Hidden files and folders, and files that are not recordings, are left alone; links to folders
are followed down to a split's folder, not below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nearfar.recordings.clips import SPLIT_FOLDERS, Dataset, DatasetError, Machine, is_audio

EXPECTED = "ROOT/MACHINE/train/*.wav, and ROOT/MACHINE/test/*.wav where there are test clips"
SHOWN = 5  # offenders that an error names; it counts the others
DEPTH = 2  # how far below a root without machines to look for them: dev_data/raw


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
    if not root.exists():
        raise FileNotFoundError(
            f"root={root}: no such folder; give the folder that contains a folder for each machine"
        )
    if not root.is_dir():
        raise DatasetError(
            [f"root={root} is a file; give the folder that contains a folder for each machine"]
        )
    if is_machine(root):
        raise DatasetError([f"root={root} is the folder of one machine; give the folder that contains it"])
    machines = [folder for folder in _folders(root) if is_machine(folder)]
    if not machines:
        raise DatasetError([_no_machines(root)])
    return machines


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _no_machines(root: Path) -> str:
    if deeper := _further_down(root):
        return f"root={root} contains no folder of a machine, but some are deeper; give {' or '.join(deeper)}"
    if any(is_audio(file) for file in root.iterdir()):
        return f"root={root} contains recordings but no folder of a machine; expected {EXPECTED}"
    return f"root={root} contains no folder of a machine; expected {EXPECTED}"


def _further_down(root: Path) -> list[str]:
    found, level = [], [root]
    try:
        for _ in range(DEPTH):
            level = [below for folder in level for below in _folders(folder)]
            found += [str(folder) for folder in level if any(is_machine(f) for f in _folders(folder))]
    except PermissionError:  # a root far from any data, such as /
        return []
    return found


def recordings(machine: Path) -> list[Path]:
    """All recordings at any depth in the splits' folders of a machine, ordered by path."""
    return [file for split in SPLIT_FOLDERS for file in recordings_below(machine / split)]


def recordings_below(folder: Path) -> list[Path]:
    """All recordings at any depth below a folder, ordered by path."""
    return sorted(
        file
        for file in folder.rglob("*")
        if is_audio(file)
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


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
