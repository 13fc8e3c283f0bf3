"""The layout of DCASE Challenge Task 2: ``ROOT/MACHINE/SPLIT/NAME.wav``, where the name says what a clip is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from nearfar.files.names import quoted
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
from nearfar.recordings.datasets.layout import (
    collect,
    few,
    machine_folders,
    machine_name,
    recordings,
    recordings_below,
    what_else,
)

TRAIN = "train"


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


def training_clips(folder: Path) -> Machine:
    """The machine whose training clips lie in this folder, which has no folders of splits: ``FAN/train``.

    The machine is called like the folder, or like the one above if the folder is called ``train``.

    Raises
    ------
    DatasetError
        If a recording is none by its name; says which, and why.
    """
    name = machine_name(folder)
    if name in SPLIT_FOLDERS:
        name = machine_name(folder.resolve().parent)
    files = recordings_below(folder)
    clips, problems = [], []
    for file in files:
        try:
            clips.append(_training_clip(file, folder, name))
        except ValueError as error:
            problems.append(str(error))
    problems = few(problems) + few(_twice(clips))
    if problems:
        refused = (
            f"{folder}: {len(files) - len(clips)} of {len(files)} recordings are not training clips of the "
            f"challenge; {_remedy(folder)}"
        )
        raise DatasetError([refused, *problems] if len(clips) < len(files) else problems)
    return Machine(name, tuple(sorted(clips, key=lambda clip: clip.key)))


def _remedy(folder: Path) -> str:
    if (folder.parent / TRAIN).is_dir() and folder.name in SPLIT_FOLDERS:
        return f"give {quoted(folder.parent)}, which contains train"
    return "give a folder of training clips only, or the folder of one machine, which contains train"


def _training_clip(file: Path, folder: Path, name: str) -> Clip:
    """The training clip in a folder whose name need not say so.

    Raises
    ------
    ValueError
        If it is none by its name, or lies in a folder below.
    """
    shown = file.relative_to(folder).as_posix()
    if not is_clip_name(file.name):
        raise ValueError(f"{shown}: no name of the challenge's data, as other recordings have here")
    if file.parent != folder:
        raise ValueError(f"{shown}: in a folder below; clips of the challenge lie side by side")
    try:
        clip = parse_clip(Path(name, TRAIN, file.name))
    except ValueError:
        raise ValueError(f"{shown}: {_other_clip(file.name)}, by its name") from None
    place = folder.resolve().name
    if place in SPLIT_FOLDERS and place != TRAIN:
        raise ValueError(f"{shown}: a test clip, by its folder {place!r}")
    if clip.label is None and place != TRAIN:
        raise ValueError(
            f"{shown}: the name does not say whether it is normal, as names of training clips do"
        )
    return replace(clip, path=file, machine=name)


def _other_clip(name: str) -> str:
    """What a clip is that cannot be a training clip."""
    return "an anomaly" if "anomaly" in name.split("_") else "a test clip"


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
        missing = f"no {' or '.join(USUAL_SUFFIXES)} file in {', '.join(SPLIT_FOLDERS)}"
        problems.append(f"{folder}: {missing}{what_else(folder)}")
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
