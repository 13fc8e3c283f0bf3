"""A folder of recordings is watched: the logbook holds what listening to the same recordings says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import RATE
from watched import FALSE_ALERTS, FIRST, Logbook, site_of, watch, write_site

from nearfar.detector.fitted import Detector
from nearfar.evidence.explanation import explain
from nearfar.listening import session
from nearfar.listening.events import Event, event_to
from nearfar.listening.session import Listening
from nearfar.listening.steps import Alert, Heard, HeardWindow
from nearfar.recordings import audio
from nearfar.recordings.recording import Recording

HOUR = 3600.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    write_site(folder)
    return folder


@pytest.fixture(scope="module")
def told() -> list[Any]:
    return []


@pytest.fixture(scope="module")
def state(place: Path, told: list[Any]) -> Path:
    """Of an unbroken run."""
    path = place / "unbroken.db"
    watch(site_of(place, path), told=told.append)
    return path


@pytest.fixture(scope="module")
def logbook(state: Path) -> Logbook:
    return Logbook.of(state)


@pytest.fixture(scope="module")
def twin(place: Path) -> list[Heard]:
    """What listening to the same recordings gives, one after the other."""
    detector = Detector.load(place / "detector")
    recordings = [Recording((path,)) for path in sorted((place / "recordings").iterdir())]
    rules = {FALSE_ALERTS: detector.alerts(FALSE_ALERTS)}
    return list(session.run(Listening(detector, recordings, rules=rules)))


def began_at(recording: str) -> float:
    """When a recording began, by its name."""
    hours, minutes, seconds = (int(Path(recording).stem[-6:][i : i + 2]) for i in (0, 2, 4))
    return FIRST - 10 * HOUR + HOUR * hours + 60 * minutes + seconds


def test_windows_are_those_of_listening(logbook: Logbook, twin: list[Heard]) -> None:
    names = {row["id"]: row["name"] for row in logbook["recordings"]}
    found = [
        (names[row["recording_id"]], row["number"], row["begins_at"], row["seconds"], row["decision"])
        for row in logbook["windows"]
    ]
    windows = [one for one in twin if isinstance(one, HeardWindow)]
    assert found == [
        (
            Path(one.window.recording).name, one.window.index,
            began_at(one.window.recording) + one.window.start, one.window.seconds, one.verdict.decision,
        )
        for one in windows
    ]  # fmt: skip
    numbers = [(row["score"], row["p_value"], row["evidence"]) for row in logbook["windows"]]
    expected = [(one.verdict.score, one.verdict.p_value, one.rules[FALSE_ALERTS][1]) for one in windows]
    np.testing.assert_array_equal(np.array(numbers, float), np.array(expected, float))  # None as NaN
    assert len(found) == 20 + 1 + 1 + 40 + 75 + 20 + 1
    assert {one.verdict.decision for one in windows} == {"normal", "anomaly", "unusable"}


def test_events_are_those_of_listening(logbook: Logbook, twin: list[Heard]) -> None:
    events = [one for one in twin if isinstance(one, Event)]
    assert [json.loads(row["content"]) for row in logbook["events"]] == [
        json.loads(json.dumps(event_to(one))) for one in events
    ]
    assert [row["begins_at"] for row in logbook["events"]] == [
        began_at(one.recording) + one.start for one in events
    ]
    assert [row["event_id"] for row in logbook.journal("event")] == [row["id"] for row in logbook["events"]]
    assert len(events) >= 4


def test_alerts_are_those_of_listening(logbook: Logbook, twin: list[Heard]) -> None:
    alerts = [one for one in twin if isinstance(one, Alert)]
    expected = [
        ("activated" if one.begins else "cleared", began_at(one.window.recording) + one.window.end)
        for one in alerts
    ]
    rows = logbook.journal("activated", "cleared")
    assert [(row["what"], row["at"]) for row in rows if row["condition"] == "anomaly"] == expected
    assert [one.begins for one in alerts] == [True, False, True]


def test_an_alert_says_since_when_and_its_peak(logbook: Logbook, place: Path) -> None:
    first, second = (row for row in logbook["alerts"] if row["condition"] == "anomaly")
    assert (first["since_at"], first["began_at"]) == (FIRST + 6, FIRST + 8)
    assert not first["active"]
    assert second["active"]
    scores = {row["begins_at"]: row["score"] for row in logbook["windows"]}
    assert first["score"] == max(scores[FIRST + 6], scores[FIRST + 7])
    sound = place / "unbroken-sounds" / first["sound"]
    peak = max((6, 7), key=lambda second: scores[FIRST + second])
    samples, rate = audio.read(sound)
    recorded, _ = audio.read(place / "recordings" / "fan_20260301_100000.wav")
    assert rate == RATE
    np.testing.assert_array_equal(samples, recorded[:, (peak - 5) * RATE : (peak + 1) * RATE])


def test_evidence_is_of_the_peak(logbook: Logbook, place: Path) -> None:
    detector = Detector.load(place / "detector")
    for row in logbook["alerts"]:
        if row["condition"] != "anomaly":
            assert row["evidence"] is None
            continue
        samples, rate = audio.read(place / "unbroken-sounds" / row["sound"])
        expected = explain(detector, samples[:, -RATE:], rate, name=row["sound"]).content()
        assert json.loads(row["evidence"]) == json.loads(json.dumps(expected))
        assert json.loads(row["evidence"])["score"] == pytest.approx(row["score"], rel=1e-6)
    assert len(logbook.journal("evidence")) == 2


def test_the_sound_of_a_clip_is_the_clip(logbook: Logbook, place: Path) -> None:
    row = next(row for row in logbook["events"] if row["begins_at"] == FIRST + 21)
    samples, _ = audio.read(place / "unbroken-sounds" / row["sound"])
    recorded, _ = audio.read(place / "recordings" / "fan_20260301_100021.wav")
    np.testing.assert_array_equal(samples, recorded)


def test_a_silence_between_recordings_is_told(logbook: Logbook) -> None:
    rows = [row for row in logbook.journal("activated", "cleared") if row["condition"] == "no sound"]
    end = FIRST + 62
    assert [(row["what"], row["at"]) for row in rows] == [
        ("activated", end + 600),
        ("cleared", FIRST + 2 * HOUR),
    ]
    alert = next(row for row in logbook["alerts"] if row["condition"] == "no sound")
    assert alert["since_at"] == end
    assert alert["message"] == "No sound since 2026-03-01 10:01:02+00:00"


def test_broken_microphones_suppress_alerts(logbook: Logbook) -> None:
    begin = FIRST + 2 * HOUR
    rows = logbook.journal("activated", "cleared", "suppressed", "unsuppressed")
    found = [(row["what"], row["condition"], row["at"] - begin) for row in rows if row["at"] > begin]
    assert found[:4] == [
        ("activated", "microphones", 62.0),
        ("suppressed", "anomaly", 62.0),
        ("cleared", "microphones", 71.0),
        ("unsuppressed", "anomaly", 71.0),
    ]
    alert = next(row for row in logbook["alerts"] if row["condition"] == "microphones")
    assert alert["since_at"] == begin + 2


def test_an_unreadable_recording_is_told(logbook: Logbook) -> None:
    recording, window = logbook["recordings"][-1], logbook["windows"][-1]
    assert recording["finished"]
    assert recording["seconds"] is None
    assert recording["error"] == window["told"] != ""
    assert (window["decision"], window["seconds"], window["score"]) == ("unusable", 0.0, None)


def test_the_machine_as_it_was_left(logbook: Logbook) -> None:
    (machine,) = logbook["machines"]
    assert (machine["mode"], machine["heard_until_at"]) == ("stopped", FIRST + 2 * HOUR + 95)
    assert [row["content"]["mode"] for row in logbook.journal("mode")] == ["listening", "stopped"]
    assert all(row["finished"] for row in logbook["recordings"])


def test_what_is_told_is_the_journal(logbook: Logbook, told: list[Any]) -> None:
    assert [message.id for message in told] == [f"journal-{row['id']}" for row in logbook["journal"]]
    assert {message.what for message in told} >= {"activated", "cleared", "evidence", "event", "mode"}


def test_nothing_is_heard_twice(place: Path, state: Path, logbook: Logbook) -> None:
    watch(site_of(place, state))
    again = Logbook.of(state)
    assert again.lasting() == logbook.lasting()


def test_scores_are_finite_or_not_known(logbook: Logbook) -> None:
    for row in logbook["windows"]:
        assert row["score"] is None or math.isfinite(row["score"])
