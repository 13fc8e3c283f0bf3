"""One's own machines: a folder each, whose place says what a clip is.

``MACHINE/train/*.wav``
    Normal recordings, at any depth.
``MACHINE/test/{normal,anomaly}/*.wav``, or ``MACHINE/test/*.wav`` where the label is not known
    Optional.
``MACHINE/domains.csv``
    Optional: columns ``file_name`` (relative to MACHINE) and ``domain`` (source or target), a row for every
    recording. Without it the domain is not known.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath
from typing import cast, get_args

from nearfar.recordings.clips import (
    SPLIT_FOLDERS,
    USUAL_SUFFIXES,
    Clip,
    Dataset,
    DatasetError,
    Domain,
    Label,
    Machine,
    Split,
    is_clip_name,
    unknown,
)
from nearfar.recordings.datasets.layout import (
    collect,
    few,
    is_machine,
    machine_folders,
    machine_name,
    recordings,
    recordings_below,
)

DOMAINS_FILE = "domains.csv"
DOMAINS_HEADER = ("file_name", "domain")
OWN_SPLITS = get_args(Split)
SECTION = 0  # own machines have one


def load(root: Path) -> Dataset:
    """All machines below ``root``.

    Raises
    ------
    FileNotFoundError
    DatasetError
        With everything that is wrong.
    """
    return collect(root, [_describe(folder, folder.name) for folder in machine_folders(root)])


def machine(path: Path) -> Machine:
    """The one machine whose folder this is, or that all recordings of a plain folder are normal clips of.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"path={path}: no such folder; give the folder of a machine, or a folder of normal recordings"
        )
    name = machine_name(path)
    described, problems = _describe(path, name) if is_machine(path) else _plain(path, name)
    if problems:
        raise DatasetError(problems)
    return described


def _plain(folder: Path, name: str) -> tuple[Machine, list[str]]:
    files = recordings_below(folder)
    clips = tuple(_clip(file, folder, name, "train", "normal") for file in files)
    meant = [file for file in files if _is_meant(file, folder)]
    if meant:
        other = f"{folder}: {meant[0].relative_to(folder).as_posix()} is no normal recording, by its name or folder"
        return Machine(name, clips), [f"{other}; give the folder of one machine, which contains train"]
    return Machine(name, clips), [] if clips else [_nothing(folder)]


def _is_meant(file: Path, folder: Path) -> bool:
    """Whether name or place says what a recording is, so that it can't be taken for just a normal one."""
    places = (place.lower() for place in file.relative_to(folder).parts[:-1])
    return is_clip_name(file.name) or not {*SPLIT_FOLDERS, "anomaly"}.isdisjoint(places)


def _nothing(folder: Path) -> str:
    return f"{folder}: no {' or '.join(USUAL_SUFFIXES)} file to learn from; put normal recordings there"


def _describe(folder: Path, name: str) -> tuple[Machine, list[str]]:
    train = [
        _clip(file, folder / "train", name, "train", "normal") for file in recordings_below(folder / "train")
    ]
    test, problems = _test(folder / "test", name)
    place = {clip.path: clip.path.relative_to(folder).as_posix() for clip in train + test}
    strays = [file for file in recordings(folder) if file.relative_to(folder).parts[0] not in OWN_SPLITS]
    problems += few(
        f"{file}: recordings must be in train or test; domains.csv gives their domains" for file in strays
    )
    if not place and not problems:
        problems.append(_nothing(folder / "train"))
    domains, wrong = _domains(folder, set(place.values()))
    clips = [replace(clip, domain=domains.get(place[clip.path])) for clip in train + test]
    return Machine(name, tuple(sorted(clips, key=lambda clip: clip.key))), problems + wrong


def _test(folder: Path, name: str) -> tuple[list[Clip], list[str]]:
    clips, problems = [], []
    for file in recordings_below(folder):
        below = file.relative_to(folder).parts[0]
        if file.parent == folder:
            clips.append(_clip(file, folder, name, "test", None))
        elif below in get_args(Label):
            clips.append(_clip(file, folder, name, "test", cast(Label, below)))
        else:
            problems.append(f"{file}: {unknown('label', below, get_args(Label))}")
    return clips, few(problems)


def _clip(file: Path, split_folder: Path, name: str, split: Split, label: Label | None) -> Clip:
    return Clip(
        path=file,
        machine=name,
        section=SECTION,
        split=split,
        name=file.relative_to(split_folder).as_posix(),
        label=label,
    )


def _domains(folder: Path, known: set[str]) -> tuple[dict[str, Domain], list[str]]:
    """What ``domains.csv`` says of each recording, by its path below the machine, and all that is wrong."""
    table = folder / DOMAINS_FILE
    if not table.is_file():
        return {}, []
    try:
        said = _rows(table)
    except (ValueError, csv.Error) as error:
        return {}, [f"{table}: {error}"]
    counts = Counter(name for name, _ in said)
    wrong = [
        *(f"no recording {name!r} in train or test" for name in counts if name not in known),
        *(f"{name!r} is missing" for name in sorted(known.difference(counts))),
        *(f"{name!r} is listed {n} times" for name, n in counts.items() if n > 1),
        *(
            f"domain={domain!r} of {name!r}; it must be source or target"
            for name, domain in said
            if domain not in get_args(Domain)
        ),
    ]
    return cast(dict[str, Domain], dict(said)), [f"{table}: {problem}" for problem in wrong]


def _rows(table: Path) -> list[tuple[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="")
        missing = [column for column in DOMAINS_HEADER if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"no column {' and '.join(missing)}; the first line must be {','.join(DOMAINS_HEADER)}"
            )
        return [(PurePath(row["file_name"].strip()).as_posix(), row["domain"].strip()) for row in reader]
