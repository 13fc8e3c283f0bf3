"""The layout of DCASE Challenge Task 2: ``ROOT/MACHINE/SPLIT/NAME.wav``, where the name says what a clip is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from nearfar.recordings.clips import (
    GRAMMAR,
    SPLIT_FOLDERS,
    USUAL_SUFFIXES,
    Clip,
    Dataset,
    DatasetError,
    Machine,
    is_clip_name,
    parse_clip,
)
from nearfar.recordings.datasets.layout import collect, few, machine_folders, machine_name, recordings


def load(root: Path) -> Dataset:
    """All machines below ``root``.

    Raises
    ------
    FileNotFoundError
    DatasetError
        With everything that is wrong: recordings without a name of the grammar, names that contradict their
        folder, clips that are there twice, machines without recordings.
    """
    return collect(root, [_describe(folder, folder.name) for folder in machine_folders(root)])


def machine(path: Path) -> Machine:
    """The one machine whose folder this is.

    Raises
    ------
    DatasetError
        As ``load``.
    """
    described, problems = _describe(path, machine_name(path))
    if problems:
        raise DatasetError(problems)
    return described


def _describe(folder: Path, name: str) -> tuple[Machine, list[str]]:
    files = recordings(folder)
    strangers = [file for file in files if not is_clip_name(file.name)]
    clips, contradictions = _parse(folder, set(files).difference(strangers), name)
    problems = few(contradictions) + few(_twice(clips))
    if strangers:
        problems += [
            f"{folder}: {len(strangers)} of {len(files)} recordings have no name of the challenge's data; rename "
            "them, or keep them below another root",
            *few(f"{file.relative_to(folder).as_posix()}" for file in strangers),
            f"expected\n{GRAMMAR}",
        ]
    if not files:
        problems.append(f"{folder}: no {' or '.join(USUAL_SUFFIXES)} file in {', '.join(SPLIT_FOLDERS)}")
    return Machine(name, tuple(clips)), problems


def _parse(folder: Path, files: set[Path], name: str) -> tuple[list[Clip], list[str]]:
    clips, problems = [], []
    for file in sorted(files):
        if file.parent.parent != folder:
            problems.append(
                f"{file}: a clip must be directly in {', '.join(SPLIT_FOLDERS)}, not in a folder below"
            )
            continue
        try:
            clips.append(replace(parse_clip(file), machine=name))
        except ValueError as error:
            problems.append(str(error))
    return sorted(clips, key=lambda clip: clip.key), problems


def _twice(clips: list[Clip]) -> list[str]:
    counts = Counter(clip.key for clip in clips)
    return [
        f"{key}: {n} recordings with this name, in different folders" for key, n in counts.items() if n > 1
    ]
