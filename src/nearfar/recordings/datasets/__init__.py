"""Data sets: the challenge's of every year, and folders of one's own recordings.

``DATASETS`` names the published ones; each is a module with ``BIBTEX``, ``LICENSE``, ``REMOTES``, ``MACHINES``
and ``COUNTS``, and with all of them in ``PUBLISHED``. ``load`` reads any of them from disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from nearfar.recordings.clips import Clip, Dataset, DatasetError, Machine, is_clip_name
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
    normals,
)
from nearfar.recordings.datasets.layout import (
    few,
    further_down,
    is_machine,
    machine_folders,
    machines_in,
    recordings,
    recordings_below,
    refuse_machines,
    refuse_no_folder,
)
from nearfar.recordings.recording import Channel, is_track, refuse_strange

DATASETS: dict[str, ModuleType] = {
    "dcase2020": dcase2020,
    "dcase2021": dcase2021,
    "dcase2022": dcase2022,
    "dcase2023": dcase2023,
    "dcase2024": dcase2024,
    "dcase2025": dcase2025,
    "dcase2026": dcase2026,
}

ONE = "the folder of a machine, or a folder of normal recordings"
ANY = f"a folder that contains a folder for each machine, {ONE}"


def load(root: Path | str, channels: Sequence[Channel] = ()) -> Dataset:
    """The data set whose machines' folders lie right below ``root``.

    One name of the challenge's grammar makes it the challenge's layout, in which every recording must have
    one; without any, what a clip is follows from its folder alone (``datasets.folder``).

    Parameters
    ----------
    root : Path or str
    channels : sequence of int or str
        Which channels of the recordings are near, far, and so on: numbers from 1, or names; empty: all of them.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong, and what to do.
    ValueError
        If a channel is less than 1, or there twice.
    """
    refuse_strange(channels)
    root = Path(root)
    is_dcase = any(_is_dcase(machine) for machine in machine_folders(root))
    found = dcase.load(root) if is_dcase else folder.load(root)
    return replace(found, machines=tuple(_as_recorded(machine, channels) for machine in found.machines))


def load_machine(path: Path | str, channels: Sequence[Channel] = ()) -> Machine:
    """One machine: its folder, in either layout, or a plain folder of normal recordings (``FAN/train``, too).

    Parameters
    ----------
    path : Path or str
    channels : sequence of int or str
        As of ``load``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong.
    ValueError
        If a channel is less than 1, or there twice.
    """
    refuse_strange(channels)
    return _as_recorded(_machine(Path(path)), channels)


def load_any(path: Path | str, channels: Sequence[Channel] = ()) -> Dataset:
    """Whatever ``load`` or ``load_machine`` takes; one machine is a data set of one machine.

    Parameters
    ----------
    path : Path or str
        A folder of machines' folders, the folder of one machine, or a plain folder of normal recordings.
    channels : sequence of int or str
        As of ``load``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong, and what to do.
    ValueError
        If a channel is less than 1, or there twice.
    """
    path = Path(path)
    refuse_no_folder(path, "path", ANY)
    if is_machine(path):
        above = path.parent if path.name not in ("", "..") else path.resolve().parent
    elif machines_in(path) or further_down(path):
        return load(path, channels)
    else:
        above = path
    machine = load_machine(path, channels)
    return Dataset(machine.name, above, (machine,))


def load_normals(
    paths: Iterable[Path | str], channels: Sequence[Channel] = (), *, command: str = "calibrate"
) -> tuple[Clip, ...]:
    """Normal recordings of one machine, in their order: files, and folders of them.

    Names of the challenge's grammar and ``domains.csv`` tell domains and groups. Where several folders are given
    and nothing tells groups, each folder is one.

    Parameters
    ----------
    paths : iterable of Path or str
        Files; or folders of normal recordings, or of a machine, whose normal recordings are taken.
    channels : sequence of int or str
        As of ``load``.
    command : str
        The command of ``nearfar`` that messages advise to give other recordings to.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    DatasetError
        If recordings are not normal by their names or those of their folders, or a folder has none.
    ValueError
        If a channel is less than 1, or there twice.
    """
    refuse_strange(channels)
    given = [Path(path) for path in paths]
    if absent := [str(path) for path in given if not (path.exists() or path.is_symlink())]:
        raise FileNotFoundError(f"{', '.join(few(absent))}: no such file or folder")
    normals.refuse_anomalous_places(given)
    folders = [path for path in given if path.is_dir()]
    clips: list[Clip] = []
    for path in given:
        if not path.is_dir():
            clips.append(normals.by_name(path))
            continue
        found = normals.in_folder(path) or _normals_of_machine(path, command)
        if len(folders) > 1 and not any(clip.group for clip in found):
            found = [replace(clip, group=f"folder {path}") for clip in found]
        clips += found
    normals.refuse_anomalies(clips)
    return _as_recorded(Machine("", tuple(clips)), channels).clips


def _normals_of_machine(path: Path, command: str) -> list[Clip]:
    try:
        return [clip for clip in _machine(path).clips if clip.label == "normal"]
    except DatasetError as error:  # which names the command that takes one folder of normal recordings
        told = (p.replace("`nearfar fit ", f"`nearfar {command} DETECTOR ") for p in error.problems)
        raise DatasetError(told) from error


def _machine(path: Path) -> Machine:
    refuse_no_folder(path, "path", ONE)
    if is_machine(path):
        return dcase.machine(path) if _is_dcase(path) else folder.machine(path)
    refuse_machines(path)
    if any(is_clip_name(file.name) for file in recordings_below(path)):
        return dcase.training_clips(path)
    return folder.machine(path)


def _as_recorded(machine: Machine, channels: Sequence[Channel]) -> Machine:
    """The same machine, with one clip for the tracks of a recording, these channels of each, and names of text."""
    clips = machine.clips
    if any(is_track(clip.path) for clip in clips):
        from nearfar.recordings import tracks  # reads headers: the command line begins without NumPy

        clips = tracks.joined(clips)
    described = (
        replace(
            clip,
            machine=_as_text(clip.machine),
            name=_as_text(clip.name),
            attributes=_as_text(clip.attributes),
            group=_as_text(clip.group),
            channels=tuple(channels),
        )
        for clip in clips
    )
    return Machine(_as_text(machine.name), tuple(described))


def _as_text(name: str) -> str:
    """The same name, in which bytes that are not UTF-8 are escaped: keys are written into tables."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_dcase(machine: Path) -> bool:
    return any(is_clip_name(file.name) for file in recordings(machine))
