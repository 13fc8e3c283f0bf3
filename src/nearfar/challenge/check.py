"""Check a package against the rules of the challenge."""

from __future__ import annotations

import errno
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from nearfar.challenge.schema import (
    CLIP_NAMES,
    DEVELOPMENT_MACHINES,
    EVALUATION_MACHINES,
    LABEL,
    SYSTEMS,
    Meta,
    find_problems,
    nearest,
)
from nearfar.files import tables

MOST_BYTES = 2**28  # of what is in a package; the largest that keeps the rules has some MiB
_FILE = re.compile(r"task2/(?P<label>[^/]+)/(?P<file>[^/]+)")
_REPORT = re.compile(r"task2/([^/]+/)?[^/]+\.technical_report\.pdf")


def check(package: Path) -> list[str]:
    """List every rule that a package breaks, whoever wrote it; an empty list means that it keeps all rules.

    Raises
    ------
    FileNotFoundError
        If there is no file at ``package``.
    """
    if not package.is_file():
        raise FileNotFoundError(f"{package}: no such file")
    try:
        names, files = _read(package)
    except Exception as e:  # of a library that raises whatever a damaged or encrypted archive leads to
        if (
            isinstance(e, OSError) and e.errno != errno.EINVAL
        ):  # of the disk, and not of a place beyond any file
            raise
        return [f"not a readable zip archive: {e}"]
    problems = [f"{name}: in the archive {n} times" for name, n in Counter(names).items() if n > 1]
    systems: dict[str, dict[str, bytes]] = {}
    for name, content in sorted(files.items()):
        if match := _FILE.fullmatch(name):
            systems.setdefault(match["label"], {})[match["file"]] = content
        elif not _REPORT.fullmatch(name):
            problems.append(f"{name}: unexpected; all files must be in task2/LABEL/")
    if not 1 <= len(systems) <= SYSTEMS:
        problems.append(f"{len(systems)} systems (folders task2/LABEL); a package must have 1 to {SYSTEMS}")
    return problems + [p for label, files in systems.items() for p in _system_problems(label, files)]


def _read(package: Path) -> tuple[list[str], dict[str, bytes]]:
    """The names of the files in an archive, and their contents by name."""
    with zipfile.ZipFile(package) as archive:
        names = [member.filename for member in archive.infolist() if not member.is_dir()]
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError(f"unpacked it has more than {MOST_BYTES >> 20} MiB")
        return names, {name: archive.read(name) for name in names}


def _system_problems(label: str, files: Mapping[str, bytes]) -> list[str]:
    checks: dict[str, Callable[[bytes], list[str]]] = {
        f"{label}.meta.yaml": lambda content: _meta_problems(content, label),
    }
    for machine in EVALUATION_MACHINES:
        checks[f"anomaly_score_{machine}_section_00_test.csv"] = _score_problems
        checks[f"decision_result_{machine}_section_00_test.csv"] = _decision_problems
    problems = []
    if not LABEL.fullmatch(label):
        problems.append(f"task2/{label}: not a label LASTNAME_INSTITUTE_task2_N with N from 1 to 4")
    for name, find in checks.items():
        found = find(files[name]) if name in files else ["missing"]
        problems += [f"task2/{label}/{name}: {problem}" for problem in found]
    for name in files:
        if name not in checks and not _REPORT.fullmatch(f"task2/{label}/{name}"):
            problems.append(f"task2/{label}/{name}: unexpected{nearest(name, checks.keys() - files.keys())}")
    return problems


def _meta_problems(content: bytes, label: str) -> list[str]:
    try:
        meta = yaml.safe_load(content)
    except yaml.YAMLError as e:
        return [f"not readable as YAML: {' '.join(str(e).split())}"]
    if not isinstance(meta, dict):
        return [f"expected the keys {', '.join(Meta.model_fields)}, found {type(meta).__name__}"]
    problems = []
    match meta:
        case {"submission": {"label": said}} if said != label:
            problems.append(f"submission.label: {said!r}, but the folder is {label!r}")
    match meta:
        case {"results": {"development_dataset": dict() as machines}}:
            # other entries, such as means over machines, may have any form
            known = {m: machines[m] for m in DEVELOPMENT_MACHINES if m in machines}
            meta = meta | {"results": {"development_dataset": known}}
            absent = [m for m in DEVELOPMENT_MACHINES if m not in machines]
            problems += [f"results.development_dataset.{m}: missing" for m in absent]
    return problems + find_problems(meta, extra=False)


def _score_problems(content: bytes) -> list[str]:
    values, problems = _rows(content)
    bad = [f"{n},{v}" for n, v in values if not math.isfinite(_number(v))]
    if bad:
        problems.append(f"{len(bad)} scores are not finite numbers, the first in {bad[0]!r}")
    elif len(values) > 1 and len({_number(v) for _, v in values}) == 1:
        problems.append("all scores are equal, so the system detects nothing")
    return problems


def _decision_problems(content: bytes) -> list[str]:
    values, problems = _rows(content)
    if bad := [f"{n},{v}" for n, v in values if v not in ("0", "1")]:
        problems.append(f"{len(bad)} decisions are neither 0 nor 1, the first in {bad[0]!r}")
    return problems


def _rows(content: bytes) -> tuple[list[tuple[str, str]], list[str]]:
    """The rows ``name,value`` of a file, and the problems of everything except the values.

    A table that a spreadsheet saved in another form is read, too, so that its form is the only problem.
    """
    try:
        table = tables.parse(content)
    except tables.TableError as error:
        return [], [f"not UTF-8 text: {error}"]
    rows, problems = list(table.rows), _form_problems(table)
    if rows and _is_header(rows[0].cells):
        problems.append(f"the first line is a header, {','.join(rows.pop(0).cells)!r}; there must be none")
    if bad := [row for row in rows if len(row.cells) != 2]:
        problems.append(f"{len(bad)} lines are not 'name,value', the first is {','.join(bad[0].cells)!r}")
    pairs = [(row.cell(0), row.cell(1)) for row in rows if len(row.cells) == 2]
    if len(rows) != len(CLIP_NAMES):
        problems.append(f"{len(rows)} rows; expected {len(CLIP_NAMES)}")
    return pairs, problems + _name_problems(Counter(name for name, _ in pairs))


def _form_problems(table: tables.Table) -> list[str]:
    """How a file is saved otherwise than as UTF-8 with commas."""
    problems = []
    if table.encoding == "utf-8-sig":
        problems.append("begins with a byte order mark; save it as UTF-8 without one")
    elif table.encoding != "utf-8":
        problems.append(f"not UTF-8 text, but {table.encoding}; save it as UTF-8")
    if table.separator != "," and table.rows:
        first = table.separator.join(table.rows[0].cells)
        problems.append(
            f"{len(table.rows)} lines are not 'name,value', the first is {first!r}: separate by commas, and write "
            "decimal points"
        )
    if table.empty_rows:
        problems.append(f"{table.empty_rows} lines are empty")
    return problems


def _is_header(cells: Sequence[str]) -> bool:
    return not cells[0].startswith("section_") and math.isnan(_number(cells[-1]))


def _name_problems(names: Mapping[str, int]) -> list[str]:
    found = {
        "missing": [name for name in CLIP_NAMES if name not in names],
        "repeated": sorted(name for name, n in names.items() if n > 1),
        "unknown": sorted(set(names) - set(CLIP_NAMES)),
    }
    return [f"{len(some)} names are {what}, the first is {some[0]!r}" for what, some in found.items() if some]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
