"""Read the ground truth of an evaluation set from a folder that the user provides.

The organizers publish the ground truth with their evaluators (since 2023). The licence of these does not allow
redistribution, so this package contains none of it. The layout of the folder::

    ground_truth_data/ground_truth_MACHINE_section_SS_test.csv         NAME.wav,0|1     normal | anomaly
    ground_truth_domain/ground_truth_MACHINE_section_SS_test.csv       NAME.wav,0|1     source | target
    ground_truth_attributes/ground_truth_MACHINE_section_SS_test.csv   NAME.wav,RELEASED_NAME

The files have no header. ``RELEASED_NAME`` is a name without suffix as in a development set, with domain, label and
attributes. The official baseline uses these names for its scores of an evaluation set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from nearfar.evaluation.metrics import clip_table
from nearfar.files import tables
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
        Read only these machines; the folder must have all of them.

    Returns
    -------
    DataFrame
        Machine, section, domain and label, indexed by key.

    Raises
    ------
    FileNotFoundError
        If the folder, ``ground_truth_data`` or ``ground_truth_domain`` does not exist.
    DatasetError
        If a file is wrong; the message lists every problem.
    """
    problems: list[str] = []
    labels = _read(folder / DATA, machines, LABEL_OF, problems)
    domains = _read(folder / DOMAIN, machines, DOMAIN_OF, problems)
    if not labels and not problems:
        problems.append(f"{folder / DATA}: no file ground_truth_MACHINE_section_SS_test.csv")
    for key in sorted(labels.keys() ^ domains.keys()):
        problems.append(f"{folder}: {key}: in {DATA if key in labels else DOMAIN} only")
    if problems:
        raise DatasetError(problems)
    clips = {key: parse_clip(Path(key)) for key in sorted(labels)}
    return clip_table(
        replace(clip, domain=domains[key], label=labels[key])  # type: ignore[arg-type]  # str, but checked
        for key, clip in clips.items()
    )


def read_released_names(folder: Path, machines: Collection[str] | None = None) -> dict[str, str]:
    """Read, for the key with each clip's released name, the key in the evaluation set.

    Parameters
    ----------
    folder, machines
        As in ``read_truth``.

    Raises
    ------
    FileNotFoundError, DatasetError
        As in ``read_truth``.
    """
    problems: list[str] = []
    names = _read(folder / ATTRIBUTES, machines, None, problems)
    strange = [name for name in names.values() if not name or PurePosixPath(name).name != name]
    if strange:
        raise DatasetError(
            [*problems, *(f"{folder / ATTRIBUTES}: {name!r} is no name of a file" for name in strange)]
        )
    released = {str(PurePosixPath(key).with_name(f"{name}.wav")): key for key, name in names.items()}
    if len(released) < len(names):
        problems.append(f"{folder / ATTRIBUTES}: {len(names) - len(released)} released names are repeated")
    if problems:
        raise DatasetError(problems)
    return released


def read_pairs(file: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the rows ``name,value`` of a file without header, as spreadsheets save it (``files.tables``).

    Other rows, repeated names, and a file that cannot be read become problems.
    """
    try:
        table = tables.read(file)
    except tables.TableError as error:
        problems.append(f"{file}: {error}")
        return
    seen: dict[str, int] = {}
    for row in table.rows:
        where = f"{file}, row {row.number}"
        if len(row.cells) != 2:
            problems.append(f"{where}: {table.separator.join(row.cells)!r} is not a row 'name,value'")
            continue
        name, value = row.cells
        if name in seen:
            problems.append(f"{where}: {name} occurs twice, first in row {seen[name]}")
        else:
            seen[name] = row.number
            yield name, value


def _read(
    folder: Path, machines: Collection[str] | None, meaning: Mapping[str, str] | None, problems: list[str]
) -> dict[str, str]:
    """The value of every key in ``folder``, translated by ``meaning`` (such as "0" to "normal")."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one with files ground_truth_*.csv")
    found: dict[str, str] = {}
    there = set()
    for file in sorted(folder.glob("ground_truth_*.csv")):
        match = _FILE.fullmatch(file.name)
        if match is None:
            problems.append(f"{file}: the name must be ground_truth_MACHINE_section_SS_test.csv")
        elif machines is None or match["machine"] in machines:
            there.add(match["machine"])
            found |= _read_section(file, match["machine"], int(match["section"]), meaning, problems)
    problems += [f"{folder}: no file for the machine {m}" for m in sorted(set(machines or ()) - there)]
    return found


def _read_section(
    file: Path, machine: str, section: int, meaning: Mapping[str, str] | None, problems: list[str]
) -> dict[str, str]:
    found = {}
    for name, value in read_pairs(file, problems):
        try:
            clip = parse_clip(Path(machine, "test", name))
        except ValueError:
            problems.append(f"{file}: {name!r} is not a name of a test clip")
            continue
        if clip.section != section:
            problems.append(f"{file}: {name} is a clip of section {clip.section:02d}")
        elif meaning is not None and value not in meaning:
            problems.append(f"{file}: {name} has the value {value!r}; expected {' or '.join(meaning)}")
        else:
            found[clip.key] = value if meaning is None else meaning[value]
    return found
