"""Tables of scores, as ``nearfar score --csv`` and ``--json`` print them, read back as numbers by time.

A month of windows is a million rows. So a table is not kept as text, and may be of any size.

Conventions
-----------
The time of a row is that of its window's beginning, in seconds. It is clock time, counted from ``ORIGIN``, where
the table has it (``clock``, ISO 8601); a time zone is passed over, so that a day is one on the plant's clock.
Otherwise the caller says how far rows are apart (``every``), or it is time in the recording (``start``, or
``#t=600,610`` at the end of its name), which orders the windows of one recording only.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nearfar.files.names import one_line
from nearfar.files.tables import SEPARATORS, column_name
from nearfar.recordings.inspection.measured import Levels

Float = NDArray[np.float64]

ORIGIN = datetime(1970, 1, 1)
SCORE, P_VALUE, CLOCK, START = "score", "p_value", "clock", "start"
LEVELS = tuple(Levels.__dataclass_fields__)
NUMBERS = (SCORE, P_VALUE, *LEVELS)
UNUSABLE = "unusable"
FRAGMENT = re.compile(r"#t=(?:npt:)?(\d+(?:\.\d+)?)(?:,[\d.]*)?$")  # W3C media fragments, in seconds
LONGEST_CELL = 2**20  # characters: names and messages are shorter


class ScoreTableError(ValueError):
    """A file is not a table of scores that can be used; says what to do."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The rows of one or several tables, in order of time.

    Attributes
    ----------
    times : (n,) array
        In seconds; NaN for a row whose time is not known.
    values : dict of (n,) arrays
        By ``NUMBERS``; NaN where there is none.
    usable : (n,) array of bool
        Whether the recording could be used.
    by_clock : bool
        Whether times are clock time, from ``ORIGIN``.
    recordings : int
    """

    times: Float
    values: Mapping[str, Float]
    usable: NDArray[np.bool_]
    by_clock: bool
    recordings: int


class _Rows:
    """What is kept of rows while they are read."""

    def __init__(self) -> None:
        self.clock, self.start = array("d"), array("d")
        self.values = {name: array("d") for name in NUMBERS}
        self.usable = array("b")
        self.recordings: set[str] = set()

    def add(self, row: Mapping[str, Any], where: str) -> None:
        name = str(row.get("recording") or "")
        fragment = FRAGMENT.search(name)
        self.recordings.add(name[: fragment.start()] if fragment else name)
        start = _number(row.get(START), START, where)
        if math.isnan(start) and fragment:
            start = float(fragment[1])
        self.clock.append(_seconds(row.get(CLOCK), where))
        self.start.append(start)
        levels = row.get("levels")
        found = {**row, **levels} if isinstance(levels, Mapping) else row
        for column, values in self.values.items():
            values.append(_number(found.get(column), column, where))
        self.usable.append(row.get("decision") != UNUSABLE)


def read(tables: Iterable[Path | str], *, every: float | None = None) -> ScoreTable:
    """The rows of tables, which belong to one machine.

    Parameters
    ----------
    tables : iterable of Path or str
        Files; ``-`` is standard input. CSV with a header, or JSON lines.
    every : float or None
        Seconds from one row to the next, in the order of files and rows: for clips without clock time.

    Raises
    ------
    FileNotFoundError
    ScoreTableError
        If one is no table of scores; if it does not say when its rows were recorded.
    ValueError
        If ``every`` is not above 0, or the tables have clock time.
    """
    if every is not None and not 0 < every < math.inf:
        raise ValueError(f"every={every:g}: must be above 0, in seconds from one clip to the next")
    rows, tables = _Rows(), list(tables)
    for table in tables:
        before = len(rows.usable)
        with _opened(table) as file:
            for number, row in _parsed(file, str(table)):
                rows.add(row, f"{table}, row {number}")
        if len(rows.usable) == before:
            raise ScoreTableError(f"{table}: a table without rows; there is nothing to look at")
    if not len(rows.usable):
        raise ScoreTableError("no table of scores; give at least one, as `nearfar score --csv` prints it")
    times, by_clock = _times(rows, every, ", ".join(map(str, tables)))
    order = np.argsort(times, kind="stable")
    values = {name: np.array(column)[order] for name, column in rows.values.items()}
    usable = np.array(rows.usable, dtype=bool)[order]
    return ScoreTable(times[order], values, usable, by_clock, len(rows.recordings))


def _times(rows: _Rows, every: float | None, called: str) -> tuple[Float, bool]:
    """Of each row, in seconds, and whether they are clock time; ``called`` is what errors call the tables."""
    clock, start = np.array(rows.clock, np.float64), np.array(rows.start, np.float64)
    if np.isfinite(clock).any():
        if every is not None:
            raise ValueError(f"every={every:g}: the tables have clock time; omit it")
        return clock, True
    if every is not None:
        return every * np.arange(len(clock), dtype=np.float64), False
    if not np.isfinite(start).any():
        raise ScoreTableError(
            f"{called}: the tables do not say when their rows were recorded: they have neither clock time "
            "(column clock) nor a time in the recording (column start). Score again with --began, or say with "
            "--every how many seconds lie between two clips"
        )
    if len(rows.recordings) > 1:
        raise ScoreTableError(
            f"{called}: {len(rows.recordings)} recordings, and no column clock that says when each of them began. "
            "Score again with --began, or say with --every how many seconds lie between two rows"
        )
    return start, False


@contextmanager
def _opened(table: Path | str) -> Iterator[TextIO]:
    if str(table) == "-":
        yield sys.stdin
        return
    with Path(table).open(encoding="utf-8-sig", newline="") as file:
        yield file


def _parsed(file: TextIO, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their numbers, as a spreadsheet or an editor counts them."""
    try:
        first = file.readline()
        if first.lstrip().startswith("{"):
            yield from _json(first, file, name)
        else:
            yield from _csv(first, file, name)
    except UnicodeDecodeError as error:
        raise ScoreTableError(f"{name}: not readable as text ({error}); save it as CSV UTF-8") from error


def _json(first: str, file: TextIO, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number, line = 1, first
    while line:
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ScoreTableError(f"{name}, row {number}: no JSON ({error})") from error
            if not isinstance(row, dict):
                raise ScoreTableError(f"{name}, row {number}: no JSON object, {one_line(line[:40])!r}")
            _require_scores(row, f"{name}, row {number}")
            yield number, row
        number, line = number + 1, file.readline()


def _csv(first: str, file: TextIO, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    separator = next((s for s in SEPARATORS if s in first), SEPARATORS[-1])
    header = [column_name(cell.strip()) for cell in next(csv.reader([first], delimiter=separator), [])]
    _require_scores(header, name)
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        for number, cells in enumerate(csv.reader(file, delimiter=separator), start=2):
            if any(cells):
                _require_width(cells, header, f"{name}, row {number}")
                texts = cells if separator == "," else [cell.replace(",", ".") for cell in cells]
                yield number, dict(zip(header, texts, strict=True))
    except csv.Error as error:
        raise ScoreTableError(
            f"{name}: {error}; it is no table that `nearfar score --csv` printed"
        ) from error
    finally:
        csv.field_size_limit(before)


def _require_width(cells: Sequence[str], header: Sequence[str], where: str) -> None:
    """Raise unless a row has a cell for each column: half a row has a number that is cut off, or none."""
    if len(cells) != len(header):
        raise ScoreTableError(
            f"{where}: {len(cells)} cells, but {len(header)} columns; the table is damaged, or was still being "
            "written: remove this row, or print the table again"
        )


def _require_scores(columns: Iterable[str], where: str) -> None:
    columns = list(columns)
    if SCORE in columns:
        return
    if "peak_score" in columns:
        raise ScoreTableError(
            f"{where}: a table of events; give the one of windows, which `nearfar score --csv` prints without "
            "--events"
        )
    shown = one_line(", ".join(columns))[:80]
    raise ScoreTableError(
        f"{where}: no column score, but {shown or 'nothing'}; give a table that `nearfar score --csv` or --json "
        "printed"
    )


def _number(cell: Any, column: str, where: str) -> float:
    """The number in a cell; NaN for an empty one."""
    if cell is None or cell == "":
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError):
        shown = one_line(str(cell))[:40]
        raise ScoreTableError(f"{where}: {column} is {shown!r}; expected a number, or nothing") from None


def _seconds(cell: Any, where: str) -> float:
    """Clock time in seconds from ``ORIGIN``; NaN for an empty cell."""
    if cell is None or cell == "":
        return math.nan
    try:
        return (datetime.fromisoformat(str(cell)).replace(tzinfo=None) - ORIGIN).total_seconds()
    except ValueError:
        shown = one_line(str(cell))[:40]
        raise ScoreTableError(
            f"{where}: clock is {shown!r}; expected a date and a time, such as 2026-03-01T10:15:00"
        ) from None
