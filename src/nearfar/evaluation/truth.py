"""Ground truth of an evaluation set, from a folder that the user has.

The organizers publish it with their evaluators (since 2023). Their licence does not allow others to pass it on. So
it is read from the user's folder, and this package contains none of it. The layout, without headers::

    ground_truth_data/ground_truth_MACHINE_section_SS_test.csv         NAME.wav,0|1     normal | anomaly
    ground_truth_domain/ground_truth_MACHINE_section_SS_test.csv       NAME.wav,0|1     source | target
    ground_truth_attributes/ground_truth_MACHINE_section_SS_test.csv   NAME.wav,RELEASED_NAME

``RELEASED_NAME`` has no suffix. It tells domain, label and attributes, like the names of a development set. The
official baseline uses these names in its score files of an evaluation set.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from nearfar.evaluation.metrics import clip_table
from nearfar.recordings.clips import DatasetError, parse_clip

DATA, DOMAIN, ATTRIBUTES = "ground_truth_data", "ground_truth_domain", "ground_truth_attributes"
LABEL_OF = {"0": "normal", "1": "anomaly"}
DOMAIN_OF = {"0": "source", "1": "target"}

_FILE = re.compile(r"ground_truth_(?P<machine>.+)_section_(?P<section>\d{2})_test\.csv")


def read_truth(folder: Path, machines: Collection[str] | None = None) -> pd.DataFrame:
    """Read domain and label of every clip of an evaluation set.

    Parameters
    ----------
    folder : Path
        In the layout of the official evaluators.
    machines : collection of str, optional
        Read only these. Each must be there.

    Returns
    -------
    DataFrame
        Machine, section, domain and label, indexed by key.

    Raises
    ------
    FileNotFoundError
        If the folder, or one of the two that it must contain, is missing.
    DatasetError
        If anything in it is wrong. The message lists every problem.
    """
    problems: list[str] = []
    labels = _read(folder / DATA, machines, LABEL_OF, problems)
    domains = _read(folder / DOMAIN, machines, DOMAIN_OF, problems)
    if not labels and not problems:
        problems.append(f"{folder / DATA}: no file ground_truth_MACHINE_section_SS_test.csv")
    for key in sorted(labels.keys() ^ domains.keys()):
        problems.append(f"{key}: in {DATA if key in labels else DOMAIN} only")
    if problems:
        raise DatasetError(problems)
    clips = {key: parse_clip(Path(key)) for key in sorted(labels)}
    return clip_table(
        replace(clip, domain=domains[key], label=labels[key])  # type: ignore[arg-type]  # str, but checked
        for key, clip in clips.items()
    )


def read_released_names(folder: Path, machines: Collection[str] | None = None) -> dict[str, str]:
    """Map the key of each clip's released name to its key in the evaluation set.

    Raises
    ------
    FileNotFoundError, DatasetError
        As ``read_truth``.
    """
    problems: list[str] = []
    names = _read(folder / ATTRIBUTES, machines, None, problems)
    released = {str(PurePosixPath(key).with_name(f"{name}.wav")): key for key, name in names.items()}
    if len(released) < len(names):
        problems.append(f"{folder / ATTRIBUTES}: {len(names) - len(released)} released names occur twice")
    if problems:
        raise DatasetError(problems)
    return released


def read_pairs(file: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the rows ``name,value`` of a file without header. Report other rows, and names that repeat."""
    seen = set()
    with file.open(newline="", encoding="utf-8-sig") as f:
        for row in csv.reader(f):
            if not row:
                continue
            if len(row) != 2:
                problems.append(f"{file}: {','.join(row)!r} is not 'name,value'")
            elif row[0] in seen:
                problems.append(f"{file}: {row[0]} occurs twice")
            else:
                seen.add(row[0])
                yield row[0], row[1].strip()


def _read(
    folder: Path, machines: Collection[str] | None, meaning: Mapping[str, str] | None, problems: list[str]
) -> dict[str, str]:
    """The value of every key below ``folder``, put into words by ``meaning``."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there; expected a folder of ground_truth_*.csv")
    found: dict[str, str] = {}
    there = set()
    for file in sorted(folder.glob("ground_truth_*.csv")):
        match = _FILE.fullmatch(file.name)
        if match is None:
            problems.append(f"{file}: expected a name ground_truth_MACHINE_section_SS_test.csv")
        elif machines is None or match["machine"] in machines:
            there.add(match["machine"])
            found |= _read_section(file, match["machine"], int(match["section"]), meaning, problems)
    problems += [f"{folder}: nothing of {m}" for m in sorted(set(machines or ()) - there)]
    return found


def _read_section(
    file: Path, machine: str, section: int, meaning: Mapping[str, str] | None, problems: list[str]
) -> dict[str, str]:
    found = {}
    for name, value in read_pairs(file, problems):
        try:
            clip = parse_clip(Path(machine, "test", name))
        except ValueError:
            problems.append(f"{file}: {name!r} is not the name of a test clip")
            continue
        if clip.section != section:
            problems.append(f"{file}: {name} is of section {clip.section:02d}")
        elif meaning is not None and value not in meaning:
            problems.append(f"{file}: {name} has {value!r}; expected {' or '.join(meaning)}")
        else:
            found[clip.key] = value if meaning is None else meaning[value]
    return found
