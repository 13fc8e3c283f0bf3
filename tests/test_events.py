"""Windows become events."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import naive_events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.detector.fitted import BranchScore, Verdict
from nearfar.listening.events import Event, Events, events_of
from nearfar.listening.labels import label_files, label_track
from nearfar.listening.scoring import WindowVerdict
from nearfar.recordings.inspection.faults import RecordingFault
from nearfar.recordings.inspection.measured import Levels
from nearfar.recordings.recording import Recording
from nearfar.windows.cutting import Window

LETTERS = {"n": "normal", "A": "anomaly", "u": "unusable"}


def windows(
    letters: str, *, seconds: float = 10.0, hop: float = 10.0, recording: str = "a.wav", score: float = 5.0
) -> list[WindowVerdict]:
    """A window for each letter: normal, anomalous, unusable."""
    return [
        WindowVerdict(
            Window(recording, i, hop * i, seconds),
            Verdict(recording, score + i, 0.01 * i, LETTERS[letter]),  # type: ignore[arg-type]
        )
        for i, letter in enumerate(letters)
    ]


def spans(found: list[WindowVerdict], gap: float | None = None) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in events_of(found, gap=gap)]


@pytest.mark.parametrize(
    ("letters", "gap", "expected"),
    [
        ("nnnn", 0, []),
        ("nAAn", 0, [(10, 30)]),
        ("AnA", 0, [(0, 10), (20, 30)]),
        ("AnA", 9.9, [(0, 10), (20, 30)]),
        ("AnA", 10, [(0, 30)]),
        ("AnnA", 10, [(0, 10), (30, 40)]),
        ("AnA", None, [(0, 30)]),
        ("AnnA", None, [(0, 10), (30, 40)]),
        ("uAu", 0, [(10, 20)]),
        ("AuA", 0, [(0, 10), (20, 30)]),  # an unusable window is no evidence
        ("AuA", 10, [(0, 30)]),
        ("uuu", 0, []),
    ],
)
def test_anomalous_windows_belong_together_up_to_a_gap(
    letters: str, gap: float | None, expected: list[tuple[float, float]]
) -> None:
    assert spans(windows(letters), gap) == expected


def test_a_stop_and_the_minute_after_it_are_an_event_of_their_own() -> None:
    found = windows("nAAAAAAAAAAAn")
    stop = (RecordingFault("not_running", "near", ""),)
    found[2] = WindowVerdict(found[2].window, replace(found[2].verdict, faults=stop))
    before, stopped, after = events_of(found)
    assert [(event.start, event.end) for event in (before, stopped, after)] == [(10, 20), (20, 90), (90, 120)]
    assert [event.microphones["near"] for event in (before, stopped, after)] == ["ok", "not_running", "ok"]
    assert (before.after, stopped.before, stopped.after, after.before) == ("anomaly",) * 4


def test_overlapping_windows() -> None:
    found = windows("nAnnA", hop=5.0)  # 5-15 and 20-30
    assert spans(found, 4.9) == [(5, 15), (20, 30)]
    assert spans(found, 5.0) == [(5, 30)]


def test_windows_that_touch_belong_together_whatever_the_rounding() -> None:
    hop = 44_099 / 44_100 * 0.7
    assert len(spans(windows("A" * 2000, seconds=hop, hop=hop), 0)) == 1


def test_the_last_window_of_a_recording_overlaps_the_one_before() -> None:
    found = windows("nA")
    found.append(WindowVerdict(Window("a.wav", 2, 12.5, 10.0), Verdict("a.wav", 1.0, 0.5, "normal")))
    (event,) = events_of(found)
    assert (event.start, event.end, event.after) == (10, 20, "normal")


def test_what_was_beside_an_event_is_told() -> None:
    found = [(event.before, event.after) for event in events_of(windows("AnnuAunnA"), gap=0)]
    assert found == [("recording", "normal"), ("unusable", "unusable"), ("normal", "recording")]


def test_sound_that_no_window_hears_is_told() -> None:
    first, second = events_of(windows("AA", hop=15.0), gap=0)
    assert (first.after, second.before) == ("anomaly", "anomaly")


def test_no_event_goes_from_one_recording_to_the_next() -> None:
    found = windows("nA") + windows("An", recording="b.wav")
    events = list(events_of(found, gap=1000))
    assert [(e.recording, e.start, e.before, e.after) for e in events] == [
        ("a.wav", 10, "normal", "recording"),
        ("b.wav", 0, "recording", "normal"),
    ]


def test_an_event_has_what_its_peak_has() -> None:
    branches = (BranchScore("near", 1.0, 0.02, 0.5),)
    found = windows("AAA")
    found[1] = WindowVerdict(found[1].window, Verdict("a.wav", 99.0, 0.001, "anomaly", branches=branches))
    (event,) = events_of(found)
    assert (event.peak_score, event.p_value, event.peak_start, event.peak_end) == (99.0, 0.001, 10.0, 20.0)
    assert event.branches == branches
    assert event.seconds == 30.0


def test_the_state_of_the_microphones_is_that_of_all_windows_in_an_event() -> None:
    clipped, dead, offset = (
        RecordingFault(kind, microphone, "")
        for kind, microphone in (("clipped", "near"), ("dead", "far"), ("offset", "both"))
    )
    faults = [(offset,), (clipped,), (dead, clipped), (offset, clipped), (dead,)]
    found = [
        WindowVerdict(heard.window, Verdict("a.wav", 1.0, 0.1, heard.verdict.decision, faults=own))
        for heard, own in zip(windows("nAuAn"), faults, strict=True)
    ]
    (event,) = events_of(found)
    assert event.microphones == {"near": "clipped, offset", "far": "dead, offset"}
    assert (event.windows, event.anomalous, event.unusable) == (3, 2, 1)


def test_without_a_threshold_there_are_no_events() -> None:
    with pytest.raises(
        ValueError, match=r"a\.wav: no events without a threshold; set one with `nearfar calib"
    ):
        list(
            events_of([WindowVerdict(Window("a.wav", 0, 0.0, 1.0), Verdict("a.wav", 1.0, float("nan"), ""))])
        )


def test_the_gap_is_a_window_also_after_a_recording_that_cannot_be_read() -> None:
    broken = Verdict("b.wav", float("nan"), float("nan"), "unusable", error="no sound file")
    unread = WindowVerdict(Window("b.wav", 0, 0.0, 0.0), broken)
    assert spans([unread, *windows("AnA")]) == spans(windows("AnA")) == [(0.0, 30.0)]


@pytest.mark.parametrize("gap", [-1.0, float("nan"), float("inf")])
def test_a_gap_that_is_none_is_refused(gap: float) -> None:
    with pytest.raises(ValueError, match=r"gap=.*: must be a number of seconds, 0 or more"):
        Events(gap)


DECISIONS = st.lists(st.sampled_from("nnAAu"), max_size=30).map("".join)
GAPS = st.sampled_from([0.0, 2.5, 5.0, 10.0, 30.0])
KINDS = st.sampled_from(["clipped", "dead", "not_running"])


@st.composite
def several(draw: st.DrawFn) -> list[WindowVerdict]:
    """Windows of two recordings, with faults, and with equal scores among them."""
    found = []
    for recording in ("a.wav", "b.wav"):
        hop = draw(st.sampled_from([2.5, 5.0, 10.0]))
        for heard in windows(draw(DECISIONS), hop=hop, recording=recording):
            score = float(draw(st.integers(0, 4)))
            microphones = draw(st.lists(st.sampled_from(["near", "far", "both"]), max_size=2))
            faults = tuple(RecordingFault(draw(KINDS), microphone, "") for microphone in microphones)
            levels = draw(st.sampled_from([None, Levels(-30.0, math.nan, math.nan, -3.0, math.nan)]))
            verdict = Verdict(recording, score, score / 10, heard.verdict.decision, faults, levels=levels)
            found.append(WindowVerdict(heard.window, verdict))
    return found


@settings(max_examples=50)
@given(several(), GAPS)
def test_events_are_those_of_a_look_at_all_windows(found: list[WindowVerdict], gap: float) -> None:
    expected = naive_events.events(found, gap)
    assert repr([vars_of(event) for event in events_of(found, gap=gap)]) == repr(expected)


def vars_of(event: Event) -> dict[str, object]:
    return {one.name: getattr(event, one.name) for one in fields(event)}


@settings(max_examples=50)
@given(several(), GAPS, st.integers(0, 60))
def test_a_state_goes_on_as_if_nothing_had_been(found: list[WindowVerdict], gap: float, stop: int) -> None:
    first = Events(gap)
    events = [event for heard in found[:stop] for event in first.after(heard)]
    later = Events(gap)
    later.restore(json.loads(json.dumps(first.state(), sort_keys=True, allow_nan=False)))
    events += [event for heard in found[stop:] for event in later.after(heard)]
    events += later.end()
    expected = list(events_of(found, gap=gap))
    assert repr(events) == repr(expected)  # also in the order of its microphones


def test_a_label_track() -> None:
    """Tabs and new lines in a text would break the lines of Audacity."""
    event = Event(
        "a.wav", 4210.5, 4250.0, 4, 3, 1, 12.345678, 0.0123, 0, 0, {"near": "clipped", "far": "a\tb\nc"}
    )
    assert label_track([event, event]).splitlines() == [
        "4210.500000\t4250.000000\tanomaly, peak 12.35, p 0.012, near clipped, far a\\x09b\\x0ac"
    ] * 2  # fmt: skip
    assert label_track([]) == ""


def test_where_label_tracks_go(tmp_path: Path) -> None:
    one, other = (Recording((tmp_path / day / "a.wav",)) for day in ("monday", "tuesday"))
    assert label_files(tmp_path / "l.txt", [one]) == {str(one): tmp_path / "l.txt"}
    assert label_files(tmp_path / "l", [one, other]) == {
        str(one): tmp_path / "l" / "monday" / "a.wav.txt",
        str(other): tmp_path / "l" / "tuesday" / "a.wav.txt",
    }
    assert label_files(tmp_path, [one]) == {str(one): tmp_path / "a.wav.txt"}
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file: a file, but 2 recordings need a folder"):
        label_files(tmp_path / "file", [one, other])


def test_an_event_is_json() -> None:
    (event,) = events_of(windows("A"))
    assert json.loads(json.dumps(asdict(event)))["microphones"] == {"near": "ok", "far": "ok"}
