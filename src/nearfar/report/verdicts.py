"""Verdicts of a detector on recordings: as a table, as CSV, as JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nearfar.detector.fitted import Verdict
from nearfar.files.names import encodable, one_line

STYLES = {"anomaly": "bold red", "normal": "green", "unusable": "yellow", "": ""}
COLUMNS = ("recording", "score", "p_value", "decision", "faults", "error")


def show(verdicts: Iterable[Verdict], form: str, console: Console) -> set[str]:
    """Print verdicts: CSV and JSON line by line as they arrive, a table at the end.

    Parameters
    ----------
    verdicts : iterable of Verdict
    form : {"table", "csv", "json"}
    console : rich.console.Console

    Returns
    -------
    set of str
        The decisions that occurred.
    """
    if form == "table":
        found = list(verdicts)
        console.print(table(found))
        return {v.decision for v in found}
    line: Callable[[Verdict], str] = {"csv": csv_line, "json": json_line}[form]
    if form == "csv":
        console.file.write(_csv(COLUMNS))  # not print: rich would expand tabs and colour the numbers
    decisions: set[str] = set()
    for verdict in verdicts:
        console.file.write(line(verdict))
        console.file.flush()
        decisions.add(verdict.decision)
    return decisions


def table(verdicts: Sequence[Verdict]) -> Table:
    """One row per recording, and the number of each decision."""
    folder = _common_folder([v.name for v in verdicts])
    shown = Table(Column("recording", overflow="fold"), "score", "p-value", "decision", "what was found")
    shown.title = escape(one_line(folder)) or None
    for v in verdicts:
        shown.add_row(*_cells(v, folder))
    counts = Counter(v.decision or "without a decision" for v in verdicts)
    total = "1 recording" if len(verdicts) == 1 else f"{len(verdicts)} recordings"
    shown.caption = f"{total}: " + ", ".join(f"{n} {d}" for d, n in sorted(counts.items()))
    return shown


def _cells(v: Verdict, folder: str) -> tuple[Text, ...]:
    """The row of one verdict; its recording is named relative to the folder."""
    health = v.error or "; ".join(f.message for f in v.faults) or "ok"
    score, p_value = (Text("-" if math.isnan(x) else f"{x:.4g}") for x in (v.score, v.p_value))
    decision = Text(v.decision or "-", STYLES[v.decision])
    name, health = one_line(v.name.removeprefix(folder)), one_line(health)
    return Text(name), score, p_value, decision, Text(health)


def _common_folder(names: Sequence[str]) -> str:
    """The folder that contains all these paths, with a slash at the end; empty if there is none."""
    parents = [Path(name).parent for name in names]
    if len(names) < 2 or len({parent.anchor for parent in parents}) > 1:  # relative, absolute, another drive
        return ""
    folder = os.path.commonpath(parents)
    return folder.rstrip(os.sep) + os.sep if folder else ""


def csv_line(verdict: Verdict) -> str:
    """One line with the columns ``COLUMNS``: unknown numbers are empty, faults are joined by semicolons."""
    faults = ";".join(f"{f.microphone} {f.kind}" for f in verdict.faults)
    numbers = ("" if math.isnan(x) else repr(x) for x in (verdict.score, verdict.p_value))
    row = (encodable(verdict.name), *numbers, verdict.decision, encodable(faults), encodable(verdict.error))
    return _csv(row)


def _csv(row: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue()


def json_line(verdict: Verdict) -> str:
    """One object on one line; an unknown number is null."""
    score, p_value = (None if math.isnan(x) else x for x in (verdict.score, verdict.p_value))
    faults = [
        {"kind": f.kind, "microphone": f.microphone, "message": encodable(f.message)} for f in verdict.faults
    ]
    content = {
        "recording": encodable(verdict.name),
        "score": score,
        "p_value": p_value,
        "decision": verdict.decision or None,
        "faults": faults,
        "error": encodable(verdict.error) or None,
    }
    return json.dumps(content, ensure_ascii=False) + "\n"
