"""Live sound is watched as it comes, and what goes wrong with one machine stops no other."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from synthetic import RATE
from watched import (  # noqa: F401
    FALSE_ALERTS,
    FIRST,
    TAPES,
    Logbook,
    Watching,
    evidence_is_made_here,
    live_site,
    site_of,
    sound,
    watch,
    write_site,
)

from nearfar.detector.fitted import Detector
from nearfar.logbook import sqlite
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError
from nearfar.watching import engine, listener
from nearfar.watching.engine import WatchError
from nearfar.watching.hearing import AFRESH, Hearing, load_lean
from nearfar.watching.site import SourceSite, of_one
from nearfar.watching.sources import SOURCES, Arrival, SourceError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    write_site(folder)
    return folder


@pytest.fixture(autouse=True)
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(SOURCES, "test", "watched:Live")
    monkeypatch.setattr(listener, "AGAIN_S", 0.05)
    TAPES.clear()
    yield
    TAPES.clear()


def play(tape: str, samples: audio.Samples) -> None:
    """A quarter of a second at a time."""
    for start in range(0, samples.shape[1], RATE // 4):
        TAPES[tape].put(samples[:, start : start + RATE // 4])


def test_an_alert_of_live_sound(place: Path, tmp_path: Path) -> None:
    played = sound(12, faulty=range(8, 12))
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        play("fan", played)
        watching.until("activated", condition="anomaly")
        watching.until("evidence")
    logbook = Logbook.of(tmp_path / "s.db")
    (alert,) = logbook["alerts"]
    begins_at = logbook["recordings"][0]["began_at"]
    assert alert["began_at"] == pytest.approx(begins_at + 10)
    assert alert["evidence"] is not None
    assert len(logbook["windows"]) == 12
    assert [row["decision"] for row in logbook["windows"]] == ["normal"] * 8 + ["anomaly"] * 4
    kept, _ = audio.read(tmp_path / "s-sounds" / alert["sound"])
    places = [_place(kept[:, -RATE:], played[:, second * RATE : (second + 1) * RATE]) for second in (8, 9)]
    assert any(places)
    assert kept.shape[1] == 6 * RATE
    (event,) = logbook["events"]  # told at the end of watching
    assert event["begins_at"] == pytest.approx(begins_at + 8)
    kept, _ = audio.read(tmp_path / "s-sounds" / event["sound"])
    assert kept.shape[1] == 6 * RATE
    assert logbook["recordings"][0]["finished"]
    assert [row["content"]["mode"] for row in logbook.journal("mode")] == ["listening", "stopped"]


def _place(kept: audio.Samples, played: audio.Samples) -> bool:
    """Whether it is the same sound, but for the 16 bits in which it is kept."""
    return bool(np.abs(kept - played).max() < 1 / 32768)


def test_an_alert_is_written_at_once(place: Path, tmp_path: Path) -> None:
    """What is measured in ``benchmarks/bench_watch.py`` is less than this test asks for, on a busy computer."""
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        play("fan", sound(9, faulty=[8]))
        last = sound(1, faulty=[0], seed=9100)
        began = time.time()
        play("fan", last)
        message = watching.until("activated", condition="anomaly")
    assert Logbook.of(tmp_path / "s.db").journal("activated")[0]["written_at"] - began < 30
    assert message.content["alert"]["message"].startswith(
        "The machine sounds unlike its normal recordings: score"
    )


def test_an_error_of_one_machine_stops_no_other(place: Path, tmp_path: Path) -> None:
    site = live_site(place, tmp_path / "s.db", "fan")
    other = live_site(place, tmp_path / "s.db", "pump").machines["pump"]
    site = site.model_copy(update={"machines": {**site.machines, "pump": other}})
    with Watching(site) as watching:
        watching.until("mode", machine="fan", mode="listening")
        watching.until("mode", machine="pump", mode="listening")
        TAPES["fan"].put(RuntimeError("a fault in the source"))
        message = watching.until("mode", machine="fan", mode="stopped")
        assert message.content["content"]["told"] == "RuntimeError: a fault in the source"
        play("pump", sound(12, faulty=range(8, 12)))
        watching.until("activated", machine="pump")
        watching.until("mode", 2, machine="fan", mode="listening")
        play("fan", sound(12, faulty=range(8, 12)))
        watching.until("activated", machine="fan")


def test_a_detector_that_was_damaged_meanwhile_leaves_the_others_watched(place: Path, tmp_path: Path) -> None:
    """After a power cut, for example; it is heard as soon as it can be read again."""
    own = tmp_path / "own"
    shutil.copytree(place / "detector", own)
    site, state = live_site(place, tmp_path / "s.db", "pump"), tmp_path / "s.db"
    other = live_site(place, state, "fan").machines["fan"].model_copy(update={"detector": own})
    site = site.model_copy(update={"machines": {**site.machines, "fan": other}})
    with Watching(site) as watching:
        for tape in ("fan", "pump"):
            watching.until("mode", machine=tape, mode="listening")
            play(tape, sound(5, faulty=[1]))
            watching.until("event", machine=tape)
    whole = (own / "arrays.safetensors").read_bytes()
    (own / "arrays.safetensors").write_bytes(b"x")
    with Watching(site) as watching:
        watching.until("mode", machine="pump", mode="listening")
        message = watching.until("mode", machine="fan", mode="stopped")
        assert "damaged" in message.content["content"]["told"]
        play("pump", sound(12, faulty=range(8, 12)))
        watching.until("activated", machine="pump")
        (own / "arrays.safetensors").write_bytes(whole)
        watching.until("mode", machine="fan", mode="listening")


def test_what_is_expected_to_fail_shows_no_traceback(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that says it all is one line; of an error of the program, one wants to know where."""
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        TAPES["fan"].put(ValueError("rate=0: must be above 0"))
        message = watching.until("mode", mode="stopped")
    assert message.content["content"]["told"] == "rate=0: must be above 0"
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "rate=0: must be above 0" in record.getMessage()
    assert not record.exc_info


def test_why_there_is_no_sound_is_logged_once(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        for _ in range(4):
            TAPES["fan"].put(SourceError("the cable is out"))
        play("fan", sound(3))
        watching.until("mode", 2, mode="listening")
    assert sum("the cable is out" in record.getMessage() for record in caplog.records) == 1


def test_a_source_that_gives_nothing_is_asked_again(place: Path, tmp_path: Path) -> None:
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        play("fan", sound(3))
        TAPES["fan"].put(SourceError("the cable is out"))
        message = watching.until("mode", mode="no sound")
        assert message.content["content"]["told"] == "the cable is out"
        play("fan", sound(3))
        watching.until("mode", 2, mode="listening")
    first, second = Logbook.of(tmp_path / "s.db")["recordings"]
    assert (first["error"], first["seconds"]) == ("the cable is out", 3.0)
    assert second["error"] == ""


def test_no_sound_is_told_by_the_clock(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TICK_S", 0.05)
    with Watching(live_site(place, tmp_path / "s.db", "fan", no_sound_after="0.5 s")) as watching:
        message = watching.until("activated", condition="no sound")
        assert message.content["alert"]["message"].startswith("No sound since ")
        watching.until("mode", mode="no sound")
        play("fan", sound(2))
        watching.until("cleared", condition="no sound")
        watching.until("mode", 2, mode="listening")
    alert = Logbook.of(tmp_path / "s.db")["alerts"][0]
    assert alert["began_at"] - alert["since_at"] == pytest.approx(0.5)
    assert alert["ended_at"] >= alert["began_at"]


def test_recordings_in_another_order_are_no_silence(place: Path, tmp_path: Path) -> None:
    """Such as one of hours ago, which somebody copied into the folder now; also after a kill."""
    (machine,) = live_site(place, tmp_path / "s.db", "fan").machines.values()
    hearing = Hearing(machine, load_lean(place / "detector"), tmp_path)

    def silences(began_at: float) -> list[float | None]:
        hearing.begin(
            Arrival("key", "name", began_at, None, None, "damaged"), None, is_whole=False, is_live=False
        )
        noted = hearing.unreadable(AudioError("damaged"))
        return [change.since for change in noted.before if change.what == "activate"]

    assert [silences(FIRST + at) for at in (0.0, -7200.0, 10.0, -7200.0)] == [[]] * 4
    state = hearing.state()
    hearing = Hearing(machine, load_lean(place / "detector"), tmp_path)
    hearing.go_on(state, FIRST + 10.0, "listening", set())
    assert [silences(FIRST + at) for at in (20.0, 1000.0)] == [[], [FIRST + 20.0]]


def test_what_is_heard_late_is_told_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LATE_S", 0.0)
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        TAPES["fan"].put(sound(1))
        time.sleep(2.5)  # the source said when it began; the rest comes too late
        play("fan", sound(3))
        watching.until("heard late")
    rows = Logbook.of(tmp_path / "s.db").journal("heard late")
    assert len(rows) == 1
    assert rows[0]["content"]["seconds"] > 1


def test_another_detector_begins_afresh(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SEEN_S", 0.0)
    Detector.load(place / "detector").save(tmp_path / "detector")
    source = SourceSite.of({"kind": "test", "tape": "fan"})
    site = of_one(
        tmp_path / "detector", source, name="fan", state=tmp_path / "s.db", false_alerts=FALSE_ALERTS
    )
    with Watching(site) as watching:
        watching.until("mode", mode="listening")
        play("fan", sound(12, faulty=range(8, 12)))
        watching.until("activated", condition="anomaly")
        other = Detector.load(place / "detector").with_false_alarm_rate(0.2)
        other.save(tmp_path / "detector", replace=True)
        play("fan", sound(1))
        watching.until("detector", 2)
        play("fan", sound(2))
        assert watching.until("cleared", condition="anomaly").content["content"]["reason"] == AFRESH
    machine = Logbook.of(tmp_path / "s.db")["machines"][0]
    assert other.threshold is not None
    assert machine["threshold"] == other.threshold.value
    assert json.loads(machine["steps"])["steps"]["rules"][FALSE_ALERTS]["on"] is False


def test_pauses(place: Path, tmp_path: Path) -> None:
    """Also those that only touch a pause; a recording that cannot be read is told in pauses, too."""
    watch(site_of(place, tmp_path / "s.db", pauses=["10:00 - 10:01", "12:00 - 12:02"]))
    rows = Logbook.of(tmp_path / "s.db")
    *windows, unreadable = rows["windows"]
    begins = [row["begins_at"] - FIRST for row in windows]
    paused = [begin < 60 or 7200 <= begin < 7320 for begin in begins]
    assert [row["decision"] == "paused" for row in windows] == paused
    assert sum(paused) == len(windows) - 2
    assert {(row["score"], row["evidence"]) for row in windows if row["decision"] == "paused"} == {
        (None, None)
    }
    assert unreadable["decision"] == "unusable"
    assert [row["content"]["mode"] for row in rows.journal("mode")] == [
        "paused", "listening", "paused", "listening", "stopped",
    ]  # fmt: skip
    assert [row["condition"] for row in rows["alerts"]] == ["no sound"]  # between the pauses


def test_two_watches_of_one_logbook_are_refused(place: Path, tmp_path: Path) -> None:
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        with pytest.raises(WatchError, match="another process watches with this logbook"):
            watch(live_site(place, tmp_path / "s.db", "fan"))


def test_a_full_disk_is_told_and_watching_goes_on_later(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(site_of(place, tmp_path / "whole.db"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "PRAGMA max_page_count = 45"))
        with pytest.raises(WatchError, match=r"nothing can be written to .*No space left"):
            watch(site_of(place, tmp_path / "s.db"))
    with sqlite3.connect(tmp_path / "s.db") as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    c.close()
    watch(site_of(place, tmp_path / "s.db"))
    assert Logbook.of(tmp_path / "s.db").lasting() == Logbook.of(tmp_path / "whole.db").lasting()


def test_who_is_stopped_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    watch(site_of(place, tmp_path / "whole.db"))
    site = site_of(place, tmp_path / "s.db", speed=40)
    with Watching(site) as watching:
        watching.until("activated", condition="anomaly")
    logbook, whole = Logbook.of(tmp_path / "s.db"), Logbook.of(tmp_path / "whole.db")
    assert 0 < len(logbook["windows"]) < len(whole["windows"])
    watch(site_of(place, tmp_path / "s.db"))
    ended = Logbook.of(tmp_path / "s.db")
    for name in ("windows", "events", "alerts", "recordings"):
        assert ended.lasting()[name] == whole.lasting()[name], name
