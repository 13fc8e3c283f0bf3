"""What was heard in long recordings: windows or events, and alerts; as tables, as CSV, as JSON lines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nearfar.detector.fitted import BranchScore, Verdict
from nearfar.files.names import encodable, one_line
from nearfar.listening.events import OK, Event
from nearfar.listening.steps import Alert, Heard, HeardWindow
from nearfar.recordings.clips import counted
from nearfar.report import verdicts
from nearfar.report.verdicts import ALARM, BY_BRANCH, LEVELS, OF_BRANCH, STYLES, csv_text, json_text
from nearfar.windows import clock
from nearfar.windows.clock import Clock

ALERT = "alert"  # with `--false-alerts`
TIMES = ("start", "end", "clock")  # of a window, after the recording's name
OF_EVENT = (  # columns of CSV and keys of JSON
    "kind", "recording", "start", "end", "clock", "clock_end", "peak_score", "p_value", "peak_start", "peak_end",
    "windows", "anomalous", "unusable", "near", "far", "before", "after", "rule", "since",
)  # fmt: skip
BESIDE = {  # what is said of the windows beside an event, if they are not normal
    "unusable": "an unusable window",
    "anomaly": "another event",
}
MILLISECOND = 3  # digits of seconds that are written
LEAST_WIDTHS = {  # of columns of tables, in characters
    "score": 6, "peak score": 5, "p-value": 7, "decision": 8, "windows": 7, "alarm": 5, "alert": 5,
    "alarm\nalert": 5, "what was found": 9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of what is heard.

    Attributes
    ----------
    events : bool
        Events and alerts, in place of windows.
    clocks : mapping from str to Clock
        Of recordings whose beginning is known.
    rules : mapping from {"alarm", "alert"} to str
        What the rules for alerts are called: "3/5", "1 per 30 days".
    branches : sequence of str
        Of a fused system, what its branches are called.
    """

    events: bool = False
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    branches: Sequence[str] = ()

    def clock(self, recording: str, seconds: float) -> datetime | None:
        """The clock time of a time in a recording, if it is known."""
        known = self.clocks.get(recording)
        return None if known is None or math.isnan(seconds) else known.at(seconds)


def show(found: Iterable[Heard], form: str, console: Console, shown: Shown) -> tuple[set[str], list[Table]]:
    """Print what is heard, as CSV and JSON: line by line as it comes. Tables are there at the end.

    Parameters
    ----------
    found : iterable of HeardWindow, Event and Alert
    form : {"table", "csv", "json"}
    console : rich.console.Console
    shown : Shown

    Returns
    -------
    set of str
        The decisions that occurred, and "alarm" or "alert" if there was one.
    list of Table
        To be printed.
    """
    kept: list[Heard] = []
    line = _line_of(form, shown)
    rest = iter(found)
    first = list(islice(rest, 1))  # raises if it cannot begin: then there is no heading
    if form == "csv":
        console.file.write(csv_text(_heading(shown)))
    occurred: set[str] = set()
    for heard in chain(first, rest):
        if isinstance(heard, HeardWindow):
            occurred |= {heard.verdict.decision, *_on(heard, shown)}
        if isinstance(heard, HeardWindow) is shown.events:
            continue
        if form == "table":
            kept.append(heard)
        else:
            console.file.write(line(heard))
            console.file.flush()
    return occurred, _tables(kept, shown) if form == "table" else []


def _line_of(form: str, shown: Shown) -> Callable[[Heard], str]:
    """What makes a line of what was heard."""

    def line(heard: Heard) -> str:
        if isinstance(heard, HeardWindow):
            return (
                csv_text(window_row(heard, shown))
                if form == "csv"
                else json_text(window_content(heard, shown))
            )
        return csv_text(event_row(heard, shown)) if form == "csv" else json_text(event_content(heard, shown))

    return line


def _heading(shown: Shown) -> list[str]:
    if shown.events:
        return [*OF_EVENT, *(f"{kind}_{name}" for name in shown.branches for kind in OF_BRANCH), *LEVELS]
    first, *others = verdicts.heading(shown.branches, _columns(shown))
    return [first, *TIMES, *others]


def _columns(shown: Shown) -> list[str]:
    """Of the rules for alerts, in a table of windows."""
    return [column for kind in shown.rules for column in ((ALARM,) if kind == ALARM else (ALERT, "evidence"))]


def _on(heard: HeardWindow, shown: Shown) -> set[str]:
    """Which rules give an alert after a window."""
    return {kind for kind, rule in shown.rules.items() if heard.rules[rule][0]}


def window_content(heard: HeardWindow, shown: Shown) -> dict[str, Any]:
    """A window as JSON values: those of a verdict, with the times of the window and what rules for alerts say."""
    told = verdicts.content(_of_recording(heard))
    times = dict(zip(TIMES, _times(heard, shown), strict=True))
    content = {"recording": told.pop("recording"), **times, **told}
    for kind, rule in shown.rules.items():
        is_on, evidence = heard.rules[rule]
        content[kind] = is_on
        if kind == ALERT:
            content["evidence"] = _number(evidence)
    return content


def window_row(heard: HeardWindow, shown: Shown) -> list[str]:
    """A window as a row of CSV, with the columns of ``verdicts.row`` and those of its times."""
    alarms = []
    for kind, rule in shown.rules.items():
        is_on, evidence = heard.rules[rule]
        alarms += [str(int(is_on))] + [_cell(_number(evidence))] * (kind == ALERT)
    first, *others = verdicts.row(_of_recording(heard), shown.branches, alarms)
    return [first, *map(_cell, _times(heard, shown)), *others]


def _of_recording(heard: HeardWindow) -> Verdict:
    """The verdict under the name of its recording."""
    return replace(heard.verdict, name=heard.window.recording)


def _times(heard: HeardWindow, shown: Shown) -> tuple[float | None, float | None, str | None]:
    """When a window begins and ends, in seconds of its recording, and when it begins by the clock."""
    window = heard.window
    began = shown.clock(window.recording, window.start)
    return (
        _seconds(window.start),
        _seconds(window.end),
        None if began is None else clock.shown(began),
    )


def event_content(heard: Event | Alert | HeardWindow, shown: Shown) -> dict[str, Any]:
    """An event, or the beginning or end of an alert, as JSON values; ``kind`` says which."""
    if isinstance(heard, Alert):
        window = heard.window
        return {
            "kind": "alert_begins" if heard.begins else "alert_ends",
            **_place(window.recording, window.start, window.end, shown),
            "rule": heard.rule,
            "since": heard.since,
        }
    assert isinstance(heard, Event)
    content = {
        "kind": "event",
        **_place(heard.recording, heard.start, heard.end, shown),
        "peak_score": heard.peak_score,
        "p_value": _number(heard.p_value),
        "peak_start": _seconds(heard.peak_start),
        "peak_end": _seconds(heard.peak_end),
        "windows": heard.windows,
        "anomalous": heard.anomalous,
        "unusable": heard.unusable,
        "microphones": dict(heard.microphones),
        "before": heard.before,
        "after": heard.after,
    }
    if heard.levels is not None:
        content["levels"] = verdicts.levels_of(heard.levels)
    if heard.branches:
        content["branches"] = {
            b.name: dict(zip(OF_BRANCH, (b.score, b.p_value, b.contribution), strict=True))
            for b in heard.branches
        }
    return content


def event_row(heard: Event | Alert | HeardWindow, shown: Shown) -> list[str]:
    """An event, or the beginning or end of an alert, as a row of CSV."""
    content = event_content(heard, shown)
    content |= content.get("microphones", {})
    said = content.get("branches", {})
    of_branches = [said.get(name, {}).get(kind) for name in shown.branches for kind in OF_BRANCH]
    levels = map(content.get("levels", {}).get, LEVELS)
    return [_cell(value) for value in (*map(content.get, OF_EVENT), *of_branches, *levels)]


def _place(recording: str, start: float, end: float, shown: Shown) -> dict[str, Any]:
    clocks = [shown.clock(recording, seconds) for seconds in (start, end)]
    began, ended = (None if one is None else clock.shown(one) for one in clocks)
    return {
        "recording": encodable(recording), "start": _seconds(start), "end": _seconds(end), "clock": began,
        "clock_end": ended,
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _seconds(value: float) -> float | None:
    return None if math.isnan(value) else round(value, MILLISECOND)


def _cell(value: Any) -> str:
    """A value in CSV; empty if it is not known."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _tables(kept: Sequence[Heard], shown: Shown) -> list[Table]:
    if not shown.events:
        return [window_table([one for one in kept if isinstance(one, HeardWindow)], shown)]
    alerts = [one for one in kept if isinstance(one, Alert)]
    tables = [event_table([one for one in kept if isinstance(one, Event)], shown)]
    return [*tables, alert_table(alerts, shown)] if shown.rules else tables


def window_table(found: Sequence[HeardWindow], shown: Shown) -> Table:
    """One row per window, and the number of each decision."""
    names = [one.window.recording for one in found]
    folder = verdicts.common_folder(list(dict.fromkeys(names)))
    rules = ["\n".join(shown.rules)] * bool(shown.rules)
    table = _table(names, folder, [_when(shown), "score", _p(shown), "decision", *rules, "what was found"])
    for one in found:
        name, score, p_value, decision, health = verdicts.cells_of(_of_recording(one), folder)
        window = one.window
        row = [_when_cell(window.recording, window.start, window.end, shown), score]
        row += [_p_cell(p_value, one.verdict.branches, shown), decision]
        on = _on(one, shown)
        told = [Text(kind.upper(), STYLES["anomaly"]) if kind in on else Text("-") for kind in shown.rules]
        row += [Text("\n").join(told)] * bool(told)
        table.add_row(*([name] if len({*names}) > 1 else []), *row, health)
    counts = Counter(one.verdict.decision or "without a decision" for one in found)
    total = ", ".join(f"{n} {decision}" for decision, n in sorted(counts.items()))
    table.caption = f"{counted(len(found), 'window')}: {total}"
    for kind in shown.rules:
        table.caption += f"; {kind} after {sum(kind in _on(one, shown) for one in found)} of them"
    return table


def event_table(events: Sequence[Event], shown: Shown) -> Table:
    """One row per event."""
    names = [event.recording for event in events]
    folder = verdicts.common_folder(list(dict.fromkeys(names)))
    table = _table(names, folder, [_when(shown), "peak score", _p(shown), "windows", "what was found"])
    for event in events:
        row = [_when_cell(event.recording, event.start, event.end, shown)]
        row += [Text(f"{event.peak_score:.4g}")]
        row += [_p_cell(Text(f"{event.p_value:.4g}"), event.branches, shown)]
        row += [Text(f"{event.anomalous} of {event.windows}")]
        name = Text(one_line(event.recording.removeprefix(folder)))
        table.add_row(*([name] if len({*names}) > 1 else []), *row, Text(one_line(_of_event(event))))
    table.caption = counted(len(events), "event")
    return table


def alert_table(changes: Sequence[Alert], shown: Shown) -> Table:
    """One row per alert: when it began and ended."""
    names = [one.window.recording for one in changes]
    folder = verdicts.common_folder(list(dict.fromkeys(names)))
    table = Table("rule", Column("alert begins", overflow="fold"), Column("ends", overflow="fold"))
    for number, one in enumerate(changes):
        if not one.begins:
            continue
        end = next((other for other in changes[number:] if other.rule == one.rule and not other.begins), None)
        table.add_row(
            one.rule, *(_of_alert(change, folder, shown, len({*names}) > 1) for change in (one, end))
        )
    table.caption = counted(table.row_count, "alert")
    return table


def _of_alert(change: Alert | None, folder: str, shown: Shown, many: bool) -> Text:
    """When an alert begins or ends: after the window that did it."""
    if change is None:
        return Text("not yet")
    window = change.window
    end = window.end
    moment = shown.clock(window.recording, end)
    told = [one_line(window.recording.removeprefix(folder))] * many + [time_of(end)]
    return Text(" ".join(told + ([] if moment is None else [f"({_moment(moment)})"])))


def _table(names: Sequence[str], folder: str, columns: Sequence[str]) -> Table:
    table = Table()
    if len({*names}) > 1:
        table.add_column("recording", overflow="fold")
    for column in columns:
        table.add_column(
            column,
            no_wrap=column == columns[0] or BY_BRANCH in column,
            overflow="fold",  # on a narrow terminal, nothing is cut off
            min_width=LEAST_WIDTHS.get(column),
        )
    title = folder if len({*names}) > 1 else (names[0] if names else "")
    table.title = escape(one_line(title)) or None
    return table


def _when(shown: Shown) -> str:
    """The heading of ``_when_cell``."""
    return "time\nclock" if shown.clocks else "time"


def _when_cell(recording: str, start: float, end: float, shown: Shown) -> Text:
    """Time in the recording; below it, if the clock time of any recording is known, that of the start."""
    told = [times(start, end)]
    if shown.clocks:
        moment = shown.clock(recording, start)
        told.append("-" if moment is None else _moment(moment))
    return Text("\n".join(told))


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _p(shown: Shown) -> str:
    """The heading of ``_p_cell``."""
    return f"p-value\n{BY_BRANCH}" if shown.branches else "p-value"


def _p_cell(p_value: Text, branches: Sequence[BranchScore], shown: Shown) -> Text:
    """The p-value; of a fused system, those of its branches below it."""
    told = [Text(f"{b.name} {b.p_value:.2g}") for b in branches] if shown.branches else []
    return Text("\n").join([p_value, *told])


def _of_event(event: Event) -> str:
    """What is to be said of an event beside its numbers."""
    told = [f"{name} {state}" for name, state in event.microphones.items() if state != OK]
    if event.unusable:
        told.append(f"{counted(event.unusable, 'window')} in it unusable")
    for beside, what in ((event.before, "begins"), (event.after, "ends")):
        if beside == "recording":
            told.append(f"{what} with the recording")
        elif beside != "normal":
            told.append(f"{what} at {BESIDE[beside]}")
    return "; ".join(told) or OK


def times(start: float, end: float) -> str:
    """From when to when, in hours, minutes and seconds."""
    return "-" if math.isnan(start) or math.isnan(end) else f"{time_of(start)}-{time_of(end)}"


def time_of(seconds: float) -> str:
    """A time in hours, minutes and seconds, with as many digits as it has, up to three.

    Examples
    --------
    >>> from nearfar.report.listening import time_of
    >>> time_of(3725.0), time_of(9.25)
    ('1:02:05', '0:00:09.25')
    """
    hours, rest = divmod(round(seconds * 1000), 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    told = f"{hours}:{minutes:02d}:{rest // 1000:02d}"
    return told if rest % 1000 == 0 else f"{told}.{rest % 1000:03d}".rstrip("0")
