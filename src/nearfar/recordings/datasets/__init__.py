"""Data sets: the challenge's of every year, and folders of one's own recordings.

``DATASETS`` names the published ones; each is a module with ``BIBTEX``, ``LICENSE``, ``REMOTES``, ``MACHINES``
and ``COUNTS``, and with all of them in ``PUBLISHED``. ``load`` reads any of them from disk.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from nearfar.recordings.clips import Dataset, Machine, is_clip_name
from nearfar.recordings.datasets import (
    dcase,
    dcase2020,
    dcase2021,
    dcase2022,
    dcase2023,
    dcase2024,
    dcase2025,
    dcase2026,
    folder,
)
from nearfar.recordings.datasets.layout import machine_folders, recordings

DATASETS: dict[str, ModuleType] = {
    "dcase2020": dcase2020,
    "dcase2021": dcase2021,
    "dcase2022": dcase2022,
    "dcase2023": dcase2023,
    "dcase2024": dcase2024,
    "dcase2025": dcase2025,
    "dcase2026": dcase2026,
}


def load(root: Path | str) -> Dataset:
    """The data set whose machines' folders lie right below ``root``.

    One name of the challenge's grammar makes it the challenge's layout, in which every recording must have
    one; without any, what a clip is follows from its folder alone (``datasets.folder``).

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong, and what to do.
    """
    root = Path(root)
    is_dcase = any(_is_dcase(machine) for machine in machine_folders(root))
    return dcase.load(root) if is_dcase else folder.load(root)


def load_machine(path: Path | str) -> Machine:
    """One machine: its folder, in either layout, or a plain folder of normal recordings.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong.
    """
    path = Path(path)
    return dcase.machine(path) if _is_dcase(path) else folder.machine(path)


def _is_dcase(machine: Path) -> bool:
    return any(is_clip_name(file.name) for file in recordings(machine))
