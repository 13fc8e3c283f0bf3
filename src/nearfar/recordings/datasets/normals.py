"""Recordings that are said to be normal, wherever they lie: files, and folders of the challenge's clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nearfar.recordings.clips import Clip, DatasetError, is_clip_name, parse_clip
from nearfar.recordings.datasets.layout import few, is_machine, machine_name, recordings_below


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
