"""Verdicts of a detector on recordings: as a table, as CSV, as JSON lines."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nearfar.decisions.alarms import AlarmRule
from nearfar.detector.fitted import Verdict
from nearfar.files.names import encodable, one_line
from nearfar.recordings.clips import counted
from nearfar.recordings.inspection.measured import Levels

STYLES = {"anomaly": "bold red", "normal": "green", "unusable": "yellow", "": ""}
COLUMNS = ("recording", "score", "p_value", "decision", "faults", "error")
LEVELS = tuple(
    field.name for field in dataclasses.fields(Levels)
)  # more columns, after those of alarm and branches
DIGITS = 3  # of levels: a thousandth of a dB
ALARM = "alarm"  # one more column, with a rule for alarms
BY_BRANCH = "p by branch"  # one more, of a fused system
OF_BRANCH = ("score", "p_value", "contribution")  # columns of CSV for each of its branches
LEAST_SHOWN = 1e-6  # a rate that is smaller is shown as smaller than that


def show(
    verdicts: Iterable[Verdict],
    form: str,
    console: Console,
    rule: AlarmRule | None = None,
    branches: Sequence[str] = (),
) -> set[str]:
    """Print verdicts: CSV and JSON line by line as they arrive, a table at the end.

    Parameters
    ----------
    verdicts : iterable of Verdict
    form : {"table", "csv", "json"}
    console : rich.console.Console
    rule : AlarmRule or None
        That the verdicts have alarms by.
    branches : sequence of str
        Of a fused system, what its branches are called.

    Returns
    -------
    set of str
        The decisions that occurred, and ``ALARM`` if there was an alarm.
    """
    if form == "table":
        found = list(verdicts)
        console.print(table(found))
        return set().union(*map(_occurred, found))
    line: Callable[[Verdict], str] = json_line
    if form == "csv":  # not print: rich would expand tabs and colour the numbers
        line = partial(csv_line, branches=branches)
        console.file.write(csv_text(heading(branches, [] if rule is None else [ALARM])))
    occurred: set[str] = set()
    for verdict in verdicts:
        console.file.write(line(verdict))
        console.file.flush()
        occurred |= _occurred(verdict)
    return occurred


def _occurred(verdict: Verdict) -> set[str]:
    return {verdict.decision, ALARM} if verdict.alarm else {verdict.decision}


def alarm_rates(rule: AlarmRule, false_alarm_rate: float) -> str:
    """What a rule for alarms promises, in plain words.

    Parameters
    ----------
    rule : AlarmRule
    false_alarm_rate : float
        That the detector was asked for.
    """
    group = (
        "one normal clip" if rule.of_last == 1 else f"one group of {rule.of_last} consecutive normal clips"
    )
    independent, at_most = rule.rate_if_independent(false_alarm_rate), rule.rate_at_most(false_alarm_rate)
    return (
        f"Alarm: at least {rule.needed} of the last {counted(rule.of_last, 'clip')} anomalous. If "
        f"{_percent(false_alarm_rate)} of normal clips are flagged, {group} alarms by mistake in "
        f"{_percent(independent)} of cases if the clips are independent, and in at most {_percent(at_most)} "
        "whatever they have in common."
    )


def _percent(rate: float) -> str:
    """A rate in percent, with two digits however small it is."""
    if 0 < rate < LEAST_SHOWN:
        return f"less than {100 * LEAST_SHOWN:.4f} %"
    if rate < 0.0001:
        return f"{100 * rate:.4f}".rstrip("0").rstrip(".") + " %"
    return f"{100 * rate:.2g} %" if rate < 0.1 else f"{100 * rate:.0f} %"


def table(verdicts: Sequence[Verdict]) -> Table:
    """One row per recording, and the number of each decision."""
    folder = common_folder([v.name for v in verdicts])
    with_alarms = any(v.alarm is not None for v in verdicts)
    with_branches = any(v.branches for v in verdicts)
    shown = Table(Column("recording", overflow="fold"), "score", "p-value", "decision")
    for heading in [BY_BRANCH] * with_branches + [ALARM] * with_alarms + ["what was found"]:
        shown.add_column(heading, no_wrap=heading == BY_BRANCH)
    shown.title = escape(one_line(folder)) or None
    for v in verdicts:
        *cells, health = cells_of(v, folder)
        alarm = [Text("ALARM", STYLES["anomaly"]) if v.alarm else Text("-")] * with_alarms
        by_branch = [Text("\n".join(f"{b.name} {b.p_value:.2g}" for b in v.branches) or "-")] * with_branches
        shown.add_row(*cells, *by_branch, *alarm, health)
    counts = Counter(v.decision or "without a decision" for v in verdicts)
    total = "1 recording" if len(verdicts) == 1 else f"{len(verdicts)} recordings"
    shown.caption = f"{total}: " + ", ".join(f"{n} {d}" for d, n in sorted(counts.items()))
    if with_alarms:
        shown.caption += f"; alarm after {sum(v.alarm is True for v in verdicts)} of them"
    return shown


def cells_of(v: Verdict, folder: str) -> tuple[Text, ...]:
    """The row of one verdict; its recording is named relative to the folder."""
    health = v.error or "; ".join(f.message for f in v.faults) or "ok"
    score, p_value = (Text("-" if math.isnan(x) else f"{x:.4g}") for x in (v.score, v.p_value))
    decision = Text(v.decision or "-", STYLES[v.decision])
    name, health = one_line(v.name.removeprefix(folder)), one_line(health)
    return Text(name), score, p_value, decision, Text(health)


def common_folder(names: Sequence[str]) -> str:
    """The folder that contains all these paths, with a slash at the end; empty if there is none."""
    parents = [Path(name).parent for name in names]
    if len(names) < 2 or len({parent.anchor for parent in parents}) > 1:  # relative, absolute, another drive
        return ""
    folder = os.path.commonpath(parents)
    return folder.rstrip(os.sep) + os.sep if folder else ""


def heading(branches: Sequence[str] = (), alarms: Sequence[str] = ()) -> list[str]:
    """The columns of ``row``; ``alarms`` are those that a verdict has with rules for alarms."""
    return [*COLUMNS, *alarms, *(f"{kind}_{name}" for name in branches for kind in OF_BRANCH), *LEVELS]


def csv_line(verdict: Verdict, branches: Sequence[str] = ()) -> str:
    """The line of ``row``."""
    return csv_text(row(verdict, branches))


def row(verdict: Verdict, branches: Sequence[str] = (), alarms: Sequence[str] | None = None) -> list[str]:
    """A row with the columns ``COLUMNS``: unknown numbers are empty, faults are joined by semicolons.

    With a rule for alarms there is one column more, 1 if there is an alarm, else 0; or ``alarms``, if given. Of a
    fused system there are three more for each of its ``branches``: score, p-value and contribution. The columns
    ``LEVELS`` come last.
    """
    faults = ";".join(f"{f.microphone} {f.kind}" for f in verdict.faults)
    numbers = ("" if math.isnan(x) else repr(x) for x in (verdict.score, verdict.p_value))
    first = (encodable(verdict.name), *numbers, verdict.decision, encodable(faults), encodable(verdict.error))
    if alarms is None:
        alarms = [] if verdict.alarm is None else [str(int(verdict.alarm))]
    said = {b.name: [repr(b.score), repr(b.p_value), repr(b.contribution)] for b in verdict.branches}
    of_branches = [x for name in branches for x in said.get(name, [""] * len(OF_BRANCH))]
    levels = ["" if x is None else repr(x) for x in levels_of(verdict.levels).values()]
    return [*first, *alarms, *of_branches, *levels]


def levels_of(levels: Levels | None) -> dict[str, float | None]:
    """Of each of ``LEVELS``, what is known of it."""
    known = {} if levels is None else dataclasses.asdict(levels)
    return {
        name: round(x, DIGITS) if math.isfinite(x := known.get(name, math.nan)) else None for name in LEVELS
    }


def csv_text(row: Sequence[str]) -> str:
    """A row as a line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue()


def json_line(verdict: Verdict) -> str:
    """The object of ``content`` on one line."""
    return json_text(content(verdict))


def json_text(content: dict[str, Any]) -> str:
    """An object on one line."""
    return json.dumps(content, ensure_ascii=False) + "\n"


def content(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values; an unknown number is null. ``alarm`` is there with a rule for alarms only.

    ``levels`` is there if the recording could be read.

    ``branches`` is there for a fused system only: of each branch its score, p-value and contribution to the score.
    """
    score, p_value = (None if math.isnan(x) else x for x in (verdict.score, verdict.p_value))
    faults = [
        {"kind": f.kind, "microphone": f.microphone, "message": encodable(f.message)} for f in verdict.faults
    ]
    told: dict[str, Any] = {
        "recording": encodable(verdict.name),
        "score": score,
        "p_value": p_value,
        "decision": verdict.decision or None,
        "faults": faults,
        "error": encodable(verdict.error) or None,
    }
    if verdict.levels is not None:
        told["levels"] = levels_of(verdict.levels)
    if verdict.alarm is not None:
        told[ALARM] = verdict.alarm
    if verdict.branches:
        told["branches"] = {
            b.name: dict(zip(OF_BRANCH, (b.score, b.p_value, b.contribution), strict=True))
            for b in verdict.branches
        }
    return told
