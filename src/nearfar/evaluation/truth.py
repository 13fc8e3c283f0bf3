"""Ground truth of an evaluation set, from a folder that the user has.

The organizers publish it with their evaluators (2023 on), whose licence does not let anyone pass it on; so it
is read from where the user put it, and nothing of it is part of this package. The layout::

    ground_truth_data/ground_truth_MACHINE_section_SS_test.csv         NAME.wav,0|1     normal | anomaly
    ground_truth_domain/ground_truth_MACHINE_section_SS_test.csv       NAME.wav,0|1     source | target
    ground_truth_attributes/ground_truth_MACHINE_section_SS_test.csv   NAME.wav,RELEASED_NAME

without header. ``RELEASED_NAME``, without its suffix, says domain, label and attributes, as in a development
set; the official baseline names its scores of an evaluation set so.
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
    """Domain and label of every clip of an evaluation set.

    Parameters
    ----------
    folder : Path
        In the layout of the official evaluators.
    machines : collection of str, optional
        Only these; each must be there.

    Returns
    -------
    DataFrame
        Indexed by key: machine, section, domain, label.

    Raises
    ------
    FileNotFoundError
        If the folder, or one of the two that it must have, is not there.
    DatasetError
        If anything in it is wrong; a ``ValueError`` that lists every problem.
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
    """From the key that a clip's released name makes to the key of the evaluation set.

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
    """Yield the rows ``name,value`` of a file without header; report others, and repeated names."""
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
    """Value of every key below ``folder``, put into words by ``meaning``."""
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
