"""Recordings that are said to be normal, wherever they lie: files, and folders of the challenge's clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nearfar.recordings.clips import SPLIT_FOLDERS, Clip, DatasetError, is_clip_name, parse_clip
from nearfar.recordings.datasets.labels import is_normal, says_anomaly
from nearfar.recordings.datasets.layout import few, is_machine, machine_name, recordings_below

RENAME = "give normal recordings alone; what is normal though its name says otherwise must be renamed"


def by_name(file: Path) -> Clip:
    """The clip in a file; a name of the challenge's grammar tells its domain, label and attributes."""
    clip = Clip(file, machine_name(file.parent), section=0, split="train", name=str(file), label="normal")
    if not is_clip_name(file.name):
        return clip
    try:
        told = parse_clip(Path(clip.machine, "train", file.name))
    except ValueError:  # a test clip
        told = parse_clip(Path(clip.machine, "test", file.name))
    return replace(told, path=file, name=str(file))


def in_folder(folder: Path) -> list[Clip]:
    """The clips of a folder that is not a machine's, if one has a name of the challenge's grammar; else none."""
    if is_machine(folder):
        return []
    files = recordings_below(folder)
    return [by_name(file) for file in files] if any(is_clip_name(file.name) for file in files) else []


def refuse_anomalies(clips: Sequence[Clip]) -> None:
    """Raise if clips are anomalous by their names: a threshold above them would find no such fault.

    Raises
    ------
    DatasetError
    """
    anomalous = [clip for clip in clips if clip.label == "anomaly"]
    if anomalous:
        first = [f"{clip.path}: an anomaly, by its name" for clip in anomalous]
        raise DatasetError(
            [
                f"{len(anomalous)} of {len(clips)} recordings are not normal; give the normal ones alone",
                *few(first),
            ]
        )


def refuse_anomalous_places(paths: Sequence[Path]) -> None:
    """Raise if files or folders that are given are anomalous by their own names or by that of their folder.

    Nothing is said against the folder of a machine, nor of one of its splits: what is in there tells the labels.
    Nor do words count in names of the challenge's grammar, which tell a label (``refuse_anomalies``).

    Raises
    ------
    DatasetError
    """
    wrong = [why for path in paths if (why := _why_anomalous(path)) is not None]
    if wrong:
        raise DatasetError([*few(wrong), RENAME])


def _why_anomalous(path: Path) -> str | None:
    whole = path.resolve() if ".." in path.parts else path.absolute()  # links keep their names
    own, folder = whole.name, whole.parent.name
    if not path.is_dir():
        if not is_clip_name(own) and says_anomaly(whole.stem):
            return f"{path}: not normal, by its own name"
        return f"{path}: not normal, by the name of its folder {folder!r}" if says_anomaly(folder) else None
    if is_machine(path) or own in SPLIT_FOLDERS:
        return None
    if says_anomaly(own):
        return f"{path}: not normal, by the name of the folder"
    files = recordings_below(path)
    if any(is_clip_name(file.name) for file in files):
        return None
    if says_anomaly(folder) and not is_normal(own):
        return f"{path}: not normal, by the name of the folder {folder!r} that it is in"
    if files and all(says_anomaly(file.stem) for file in files):
        first = files[0].relative_to(path).as_posix()
        return f"{path}: no recording is normal, by their own names, such as {first!r}"
    return None
