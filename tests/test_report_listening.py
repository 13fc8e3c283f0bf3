"""What is shown of long recordings."""

from __future__ import annotations

import io
import json
import math
from datetime import datetime

import pytest
from rich.console import Console

from nearfar.detector.fitted import BranchScore, Verdict
from nearfar.listening.events import Event
from nearfar.listening.steps import Alert, Heard, HeardWindow
from nearfar.recordings.inspection.faults import RecordingFault
from nearfar.recordings.inspection.measured import Levels
from nearfar.report.listening import Shown, show, time_of, times
from nearfar.windows.clock import Clock
from nearfar.windows.cutting import Window

BRANCHES = (BranchScore("near", 1.5, 0.25, 0.5), BranchScore("far", 2.5, 0.125, 1.0))
LEVELS = Levels(-30.0, -40.0, math.nan, -3.0, -4.0)
RULES = {"alarm": "3/5", "alert": "1 per 30 days"}
CLOCKS = {"hall/a.wav": Clock(datetime(2026, 3, 1, 23, 59, 50), "bext")}


def window(recording: str, index: int, *, on: bool = False, error: str = "") -> HeardWindow:
    fault = RecordingFault("clipped", "near", "near is clipped")
    verdict = Verdict(recording, 1.25, 0.5, "normal", (fault,), branches=BRANCHES)
    if error:
        verdict = Verdict(recording, math.nan, math.nan, "unusable", error=error)
    rules = {"3/5": (on, 0.5), "1 per 30 days": (False, 0.125)}
    return HeardWindow(Window(recording, index, 10.0 * index, 0.0 if error else 10.0), verdict, rules)


def event(recording: str, **others: object) -> Event:
    told = {"near": "clipped", "far": "ok"}
    return Event(recording, 10.0, 40.5, 4, 2, 1, 9.0, 0.01, 20.0, 30.0, told, BRANCHES, LEVELS, **others)  # type: ignore[arg-type]


HEARD: list[Heard] = [
    window("hall/a.wav", 0),
    window("hall/a.wav", 1, on=True),
    Alert("3/5", True, Window("hall/a.wav", 1, 10.0, 10.0), 3),
    event("hall/a.wav", before="normal", after="unusable"),
    window("hall/b.wav", 0, error="no sound"),
    Alert("3/5", False, Window("hall/b.wav", 0, 0.0, 10.0)),
    Alert("1 per 30 days", True, Window("hall/b.wav", 0, 0.0, 10.0)),
    event("hall/b.wav", after="normal"),
]


def printed(form: str, shown: Shown) -> str:
    console = Console(file=io.StringIO(), width=300)
    _, tables = show(iter(HEARD), form, console, shown)
    for table in tables:
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_windows_as_a_table() -> None:
    lines = printed("table", Shown(False, CLOCKS, RULES, ["near", "far"])).splitlines()
    text = "\n".join(" ".join(line.replace("│", " ").split()) for line in lines)
    assert "hall/" in lines[0]
    assert "a.wav 0:00:10-0:00:20 1.25 0.5 normal ALARM near is clipped" in text
    assert "2026-03-02 00:00:00 near 0.25 -" in text
    assert "b.wav 0:00:00-0:00:00 - - unusable - no sound" in text
    assert "3 windows: 2 normal, 1 unusable; alarm after 1 of them; alert after 0 of them" in text


def test_events_as_a_table() -> None:
    text = " ".join(printed("table", Shown(True, CLOCKS, RULES, ["near", "far"])).replace("│", " ").split())
    assert "a.wav 0:00:10-0:00:40.5 9 0.01 2 of 4 near clipped; 1 window in it unusable;" in text
    assert "2026-03-02 00:00:00 near 0.25" in text
    assert "ends at an unusable window" in text
    assert "begins with the recording" in text
    assert "3/5 a.wav 0:00:20 (2026-03-02 00:00:10) b.wav 0:00:10" in text
    assert "1 per 30 days b.wav 0:00:10 not yet" in text
    assert "2 alerts" in text


@pytest.mark.parametrize("events", [True, False])
def test_nothing_is_cut_off_on_a_narrow_terminal(events: bool) -> None:
    """80 columns, with clock time, branches and rules."""
    one = [heard for heard in HEARD if not hasattr(heard, "verdict") or "a.wav" in heard.verdict.name]
    file = io.StringIO()
    console = Console(file=file, width=80)
    _, tables = show(iter(one), "table", console, Shown(events, CLOCKS, RULES, ["near", "far"]))
    for table in tables:
        console.print(table)
    assert "…" not in file.getvalue()
    assert "2026-03-02 00:00:00" in file.getvalue()


def test_windows_as_csv_and_json() -> None:
    shown = Shown(False, CLOCKS, RULES, ["near", "far"])
    heading, *rows = printed("csv", shown).splitlines()
    assert heading == (
        "recording,start,end,clock,score,p_value,decision,faults,error,alarm,alert,evidence,score_near,p_value_near,"
        "contribution_near,score_far,p_value_far,contribution_far,near_dbfs,far_dbfs,coherence,near_tilt,far_tilt"
    )
    assert rows[1].startswith(
        "hall/a.wav,10.0,20.0,2026-03-02T00:00:00.000,1.25,0.5,normal,near clipped,,1,0,0.125,1.5"
    )
    assert rows[2].startswith("hall/b.wav,0.0,0.0,,,,unusable,,no sound,0,0,0.125,,")
    assert {row.count(",") for row in (heading, *rows)} == {22}
    second = json.loads(printed("json", shown).splitlines()[1])
    assert (second["clock"], second["alarm"], second["alert"], second["evidence"]) == (
        "2026-03-02T00:00:00.000", True, False, 0.125,
    )  # fmt: skip
    assert second["branches"]["far"] == {"score": 2.5, "p_value": 0.125, "contribution": 1.0}


def test_events_as_csv_and_json() -> None:
    shown = Shown(True, CLOCKS, RULES, ["near", "far"])
    heading, *rows = printed("csv", shown).splitlines()
    assert [row.split(",")[0] for row in rows] == [
        "alert_begins", "event", "alert_ends", "alert_begins", "event",
    ]  # fmt: skip
    assert rows[1] == (
        "event,hall/a.wav,10.0,40.5,2026-03-02T00:00:00.000,2026-03-02T00:00:30.500,9.0,0.01,20.0,30.0,4,2,1,clipped,ok,"
        "normal,unusable,,,1.5,0.25,0.5,2.5,0.125,1.0,-30.0,-40.0,,-3.0,-4.0"
    )
    assert {row.count(",") for row in (heading, *rows)} == {29}
    found = [json.loads(line) for line in printed("json", shown).splitlines()]
    assert found[0] == {
        "kind": "alert_begins", "recording": "hall/a.wav", "start": 10.0, "end": 20.0,
        "clock": "2026-03-02T00:00:00.000", "clock_end": "2026-03-02T00:00:10.000", "rule": "3/5", "since": 3,
    }  # fmt: skip
    assert found[1]["microphones"] == {"near": "clipped", "far": "ok"}
    assert found[1]["levels"]["far_dbfs"] == -40.0
    assert found[1]["branches"]["near"]["p_value"] == 0.25


def test_what_occurred() -> None:
    found, _ = show(iter(HEARD), "json", Console(file=io.StringIO()), Shown(True, {}, RULES))
    assert found == {"normal", "unusable", "alarm"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00:00"),
        (59.9996, "0:01:00"),
        (3600.125, "1:00:00.125"),
        (360_000, "100:00:00"),
        (0.05, "0:00:00.05"),
    ],
)
def test_times(seconds: float, shown: str) -> None:
    assert time_of(seconds) == shown
    assert times(seconds, seconds) == f"{shown}-{shown}"
    assert times(math.nan, seconds) == "-"
