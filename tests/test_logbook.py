"""What is written to the logbook, and what is read of it: the same in SQLite and in PostgreSQL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import logbooks
import naive_logbook
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from logbooks import BEGAN, HOP, NOW
from naive_logbook import Heard
from sqlalchemy.exc import IntegrityError

from nearfar.listening.events import event_from
from nearfar.logbook import asked, compaction, conditions, cursors, heard, schema, sqlite, streams
from nearfar.logbook.database import Database
from nearfar.logbook.heard import Latest

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A logbook in each of the two. What is written need not be on the disk: that is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "sqlite":
            patched.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "PRAGMA synchronous = OFF"))
            where: Path | str = tmp_path_factory.mktemp("logbook") / "hall.db"
        else:
            where = request.getfixturevalue("postgres").new_database()
        made = Database.open(where)
        yield made
        made.close()


@pytest.fixture
def database(opened: Database) -> Database:
    """The same, empty."""
    tables = [table for table in reversed(schema.metadata.sorted_tables) if table.name != schema.MARK]
    with opened.writing() as c:
        for table in tables:
            c.execute(sql.delete(table))
    return opened


# What the watcher writes


def test_a_machine_is_known_by_its_name_and_goes_on_where_it_was(database: Database) -> None:
    steps = {"events": None, "rules": {"1 per 30 days": {"statistic": 0.1 + 0.2, "least": -math.inf}}}
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        assert (machine.is_new, machine.was_changed, machine.steps, machine.mode) == (
            True,
            False,
            None,
            "stopped",
        )
        assert (recording.next_window, recording.finished) == (0, False)
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(n) for n in range(3)])
        heard.save_progress(
            c, machine.id, recording.id, next_window=3, steps=steps, latest=logbooks.latest(2), now=NOW
        )
    with database.writing() as c:
        again, same = logbooks.machine(c)
    assert (again.id, again.is_new, again.was_changed) == (machine.id, False, False)
    assert again.steps == steps
    assert again.heard_until_at == BEGAN + 3 * HOP
    assert (same.id, same.next_window, same.finished) == (recording.id, 3, False)


@pytest.mark.parametrize(
    "change",
    [{"detector_digest": "1" * 64}, {"window_s": 5.0}, {"hop_s": 5.0}, {"false_alerts": "1 per day"}],
)
def test_what_was_known_of_another_way_of_hearing_is_not_gone_on_with(
    database: Database, change: dict[str, Any]
) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.save_progress(
            c, machine.id, recording.id, next_window=1, steps={"a": 1}, latest=logbooks.latest(), now=NOW
        )
        changed = heard.open_machine(c, logbooks.told(**change), now=NOW + 1)
        again = heard.open_machine(c, logbooks.told(**change), now=NOW + 2)
        rows = asked.journal(c, after=0)
    assert (changed.steps, changed.was_changed, changed.is_new) == (None, True, False)
    assert (again.steps, again.was_changed) == (None, False)
    assert [row["what"] for row in rows] == ["detector", "detector"]
    assert rows[0]["content"]["before"] is None
    (name,) = change
    assert rows[1]["content"][name] == change[name]
    assert rows[1]["content"]["before"][name] == getattr(logbooks.told(), name)


def test_another_folder_or_threshold_is_no_other_way_of_hearing(database: Database) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.save_progress(
            c, machine.id, recording.id, next_window=1, steps={"a": 1}, latest=logbooks.latest(), now=NOW
        )
        moved = heard.open_machine(c, logbooks.told(detector="elsewhere", threshold=None), now=NOW)
        row = asked.machine(c, "pump 1")
    assert (moved.steps, moved.was_changed) == ({"a": 1}, False)
    assert row is not None
    assert (row["detector"], row["threshold"]) == ("elsewhere", None)


def test_a_recording_is_known_by_its_key_and_may_move(database: Database) -> None:
    with database.writing() as c:
        machine, first = logbooks.machine(c, key="a")
        assert not heard.is_finished(c, machine.id, "a")
        assert not heard.is_finished(c, machine.id, "never begun")
        other = logbooks.recording(c, machine.id, key="b")
        moved = logbooks.recording(c, machine.id, key="a", name="A.wav", path="/new/A.wav", began_at=5.0)
        assert (moved.id, moved.name, moved.began_at) == (first.id, "A.wav", BEGAN)
        assert [row.key for row in heard.unfinished(c, machine.id)] == ["a", "b"]
        heard.finish_recording(c, first.id, seconds=90.0, error="", now=NOW)
        assert heard.is_finished(c, machine.id, "a")
        assert [row.id for row in heard.unfinished(c, machine.id)] == [other.id]
        elsewhere, _ = logbooks.machine(c, "pump 2")
        assert not heard.is_finished(c, elsewhere.id, "a")
        row = c.execute(sql.select(schema.recordings).where(schema.recordings.c.key == "a")).one()
    assert (row.path, row.seconds, row.finished, row.error) == ("/new/A.wav", 90.0, True, "")


def test_a_window_cannot_be_written_twice(database: Database) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(0)])
        heard.add_windows(c, machine.id, recording.id, [])
    with pytest.raises(IntegrityError, match=r"(?i)unique"), database.writing() as c:
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(1), logbooks.window(0)])
    with database.reading() as c:
        assert [row["number"] for row in streams.after(c, "windows", 0, most=10)] == [0]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_null(database: Database, unknown: float | None) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        row = logbooks.window(
            0, unknown, "unusable", p_value=unknown, evidence=unknown, near_db=unknown, far_db=unknown
        )
        heard.add_windows(c, machine.id, recording.id, [row])
        nothing = Latest(BEGAN + HOP, unknown, "unusable", unknown, None)
        heard.save_progress(c, machine.id, recording.id, next_window=1, steps={}, latest=nothing, now=NOW)
        event_id = heard.add_event(
            c,
            machine.id,
            recording.id,
            logbooks.event(peak_score=unknown),
            began_at=BEGAN,
            sound=None,
            now=NOW,
        )
    with database.reading() as c:
        (window,) = streams.after(c, "windows", 0, most=1)
        event = asked.event(c, event_id)
        known = asked.machine(c, "pump 1")
    assert event is not None
    assert known is not None
    assert {window[name] for name in ("score", "p_value", "evidence", "near_db", "far_db")} == {None}
    assert (event["peak_score"], event["p_value"], event["content"]["p_value"]) == (None, None, None)
    assert (known["score"], known["evidence"], known["running"]) == (None, None, None)


def test_the_last_score_stays_while_windows_have_none(database: Database) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        for number, score in enumerate((1.25, None, math.nan)):
            latest = logbooks.latest(number, score)
            heard.save_progress(
                c, machine.id, recording.id, next_window=number, steps={}, latest=latest, now=NOW
            )
        row = asked.machine(c, "pump 1")
    assert row is not None
    assert (row["score"], row["heard_until_at"]) == (1.25, BEGAN + 3 * HOP)


def test_names_that_no_database_can_hold_are_escaped_and_found_again(database: Database) -> None:
    key, name = "k\udcfc\0", "L\udcfcfter\0.wav"
    with database.writing() as c:
        machine = heard.open_machine(c, logbooks.told("M\udcfchle"), now=NOW)
        begun = logbooks.recording(c, machine.id, key=key, name=name, path=f"/{name}")
        heard.finish_recording(c, begun.id, seconds=None, error=f"{name}: nothing\0", now=NOW)
    with database.writing() as c:
        assert heard.open_machine(c, logbooks.told("M\udcfchle"), now=NOW).id == machine.id
        assert heard.is_finished(c, machine.id, key)
        assert asked.machine(c, "M\udcfchle") is not None
        assert c.execute(sql.select(schema.recordings.c.name)).scalar_one() == r"L\xfcfter\x00.wav"


def test_an_event_is_kept_whole_and_told_at_its_end(database: Database) -> None:
    event = logbooks.event(p_value=0.01)
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        event_id = heard.add_event(
            c, machine.id, recording.id, event, began_at=BEGAN, sound="pump_1.flac", now=NOW
        )
    with database.reading() as c:
        row, told = asked.event(c, event_id), asked.journal(c, after=0)[-1]
    assert row is not None
    assert event_from(row["content"]) == event
    assert (row["begins_at"], row["ends_at"]) == (BEGAN + 20, BEGAN + 50)
    assert (row["peak_begins_at"], row["peak_ends_at"]) == (BEGAN + 30, BEGAN + 40)
    assert (row["machine"], row["recording"], row["recording_began_at"]) == ("pump 1", "live.wav", BEGAN)
    assert (told["what"], told["event_id"], told["at"], told["written_at"]) == (
        "event",
        event_id,
        BEGAN + 50,
        NOW,
    )
    assert told["event"] == {name: value for name, value in row.items() if name in told["event"]}
    assert told["content"]["sound"] == "pump_1.flac"


def test_a_mode_is_told_when_it_changes(database: Database) -> None:
    with database.writing() as c:
        machine, _ = logbooks.machine(c)
        assert heard.set_mode(c, machine.id, "listening", at=BEGAN, now=NOW)
        assert not heard.set_mode(c, machine.id, "listening", at=BEGAN + 1, now=NOW)
        assert heard.set_mode(c, machine.id, "paused", at=BEGAN + 2, now=NOW, told="Sat 00:00 - Mon 05:00")
        with pytest.raises(ValueError, match="mode='asleep': must be one of listening, paused"):
            heard.set_mode(c, machine.id, "asleep", at=BEGAN, now=NOW)
        row, rows = asked.machine(c, "pump 1"), asked.journal(c, after=0)
    assert row is not None
    assert (row["mode"], row["mode_since_at"]) == ("paused", BEGAN + 2)
    assert [(one["what"], one["at"], one["content"]) for one in rows[1:]] == [
        ("mode", BEGAN, {"mode": "listening", "before": "stopped", "told": ""}),
        ("mode", BEGAN + 2, {"mode": "paused", "before": "listening", "told": "Sat 00:00 - Mon 05:00"}),
    ]


def test_machines_that_are_not_in_the_file_any_more_are_removed_and_may_come_back(database: Database) -> None:
    with database.writing() as c:
        ids = [logbooks.machine(c, name)[0].id for name in ("a", "b", "c")]
        assert heard.remove_others(c, ["b"], now=NOW) == [ids[0], ids[2]]
        assert heard.remove_others(c, ["b"], now=NOW) == []
        assert [row["name"] for row in asked.machines(c)] == ["b"]
        assert [row["name"] for row in asked.machines(c, removed=True)] == ["a", "b", "c"]
        assert heard.open_machine(c, logbooks.told("a"), now=NOW).mode == "removed"


# What is read


def test_the_hall_has_alerts_conditions_and_what_nobody_has_acknowledged(database: Database) -> None:
    with database.writing() as c:
        first, second = (logbooks.machine(c, name)[0].id for name in ("a", "b"))
        old = _alert(c, first, at=BEGAN)
        conditions.clear(c, first, "anomaly", at=BEGAN + 1, now=NOW)
        new = _alert(c, first, at=BEGAN + 2)
        done = _alert(c, second, at=BEGAN)
        conditions.acknowledge(c, done, now=NOW, by="Ada")
        conditions.clear(c, second, "anomaly", at=BEGAN + 1, now=NOW)
        conditions.shelve(c, first, "anomaly", now=NOW, by="Ada", until=NOW + HOUR)
    with database.reading() as c:
        a, b = asked.machines(c)
        assert asked.machine(c, "a") == a
        assert asked.machine(c, "nobody") is None
        assert asked.conditions(c, first) == a["conditions"]
        assert asked.conditions(c) == a["conditions"] + b["conditions"]
    assert "steps" not in a
    assert [one["id"] for one in a["alerts"]] == [new, old]
    assert [one["shelving"] for one in a["alerts"]] == ["timed", "timed"]
    assert (a["unacknowledged"], b["unacknowledged"], b["alerts"]) == (2, 0, [])
    standing = {row["condition"]: row for row in a["conditions"]}
    assert list(standing) == ["anomaly", "microphones", "no sound"]
    assert (standing["anomaly"]["active"], standing["anomaly"]["alert_id"]) == (True, new)
    assert standing["anomaly"]["shelved_until_at"] == NOW + HOUR
    assert standing["microphones"] == {
        "machine_id": first, "machine": "a", "condition": "microphones", "shelving": "unshelved",
        "shelved_until_at": None, "suppressed": False, "out_of_service": False, "active": False, "alert_id": None,
    }  # fmt: skip


def test_active_alerts_are_there_however_many_others_nobody_has_acknowledged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "MOST", 2)
    with database.writing() as c:
        quiet, loud = (logbooks.machine(c, name)[0].id for name in ("quiet", "loud"))
        first = _alert(c, quiet, at=BEGAN)
        for number in range(3):
            last = _alert(c, loud, at=BEGAN + 10 + number)
            conditions.clear(c, loud, "anomaly", at=BEGAN + 10.5 + number, now=NOW)
    with database.reading() as c:
        rows = {row["name"]: row for row in asked.machines(c)}
    assert [one["id"] for one in rows["quiet"]["alerts"]] == [first]
    assert [one["id"] for one in rows["loud"]["alerts"]] == [last, last - 1]
    assert rows["loud"]["unacknowledged"] == 3


def test_lists_are_the_newest_first_and_go_on(database: Database) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c, "a")
        other, of_other = logbooks.machine(c, "b")
        starts = [30.0, 10.0, 20.0, 40.0]  # of a card that was read late
        ids = {
            start: heard.add_event(
                c, machine.id, recording.id, logbooks.event(start), began_at=BEGAN, sound=None, now=NOW
            )
            for start in starts
        }
        twin = heard.add_event(
            c, other.id, of_other.id, logbooks.event(20.0), began_at=BEGAN, sound=None, now=NOW
        )
        expected = [ids[40.0], ids[30.0], twin, ids[20.0], ids[10.0]]
        assert _pages(lambda **page: asked.events(c, **page), most=2) == [
            expected[:2],
            expected[2:4],
            expected[4:],
        ]
        of_one = _pages(lambda **page: asked.events(c, machine_id=machine.id, **page), most=3)
        assert of_one == [[ids[40.0], ids[30.0], ids[20.0]], [ids[10.0]]]
        within = asked.events(c, begin=BEGAN + 20, end=BEGAN + 40)
        assert [row["id"] for row in within] == expected[1:4]
        assert asked.events(c, before_id=12345) == []
        assert "content" not in within[0]
        assert within[1]["machine"] == "b"


def test_alerts_by_state_and_machine(database: Database) -> None:
    with database.writing() as c:
        a, b = (logbooks.machine(c, name)[0].id for name in ("a", "b"))
        over = _alert(c, a, at=BEGAN)
        conditions.acknowledge(c, over, now=NOW, by="Ada")
        conditions.clear(c, a, "anomaly", at=BEGAN + 1, now=NOW)
        waits = _alert(c, a, at=BEGAN + 2)
        conditions.clear(c, a, "anomaly", at=BEGAN + 3, now=NOW)
        active = _alert(c, b, at=BEGAN + 1)
        conditions.add_evidence(c, waits, at=NOW, now=NOW, evidence={"reasons": [{"words": "It hums."}]})

        def ids(**options: Any) -> list[int]:
            return [row["id"] for row in asked.alerts(c, **options)]

        assert ids() == [waits, active]
        assert ids(state="active") == [active]
        assert ids(state="all") == [waits, active, over]
        assert ids(state="all", machine_id=a) == [waits, over]
        assert ids(machine_id=b) == [active]
        assert _pages(lambda **page: asked.alerts(c, state="all", **page), most=2) == [
            [waits, active],
            [over],
        ]
        rows = {row["id"]: row for row in asked.alerts(c, state="all")}
        whole = asked.alert(c, waits)
        assert asked.alert(c, 12345) is None
        assert asked.words(c, list(rows)) == {waits: ["It hums."]}
        with pytest.raises(ValueError, match="state='new': must be retained, active or all"):
            asked.alerts(c, state="new")  # type: ignore[arg-type]
    assert whole is not None
    assert (rows[waits]["has_evidence"], rows[active]["has_evidence"]) == (True, False)
    assert "evidence" not in rows[waits]
    assert whole["evidence"] == {"reasons": [{"words": "It hums."}]}
    assert [row["what"] for row in whole["journal"]] == ["activated", "cleared", "evidence"]
    assert {name: whole[name] for name in rows[waits]} == rows[waits]


def test_what_was_normal_waits_until_it_is_learnt(database: Database) -> None:
    with database.writing() as c:
        machine, _ = logbooks.machine(c)
        alert = _alert(c, machine.id, at=BEGAN, sound="pump.flac")
        conditions.mark_normal(c, now=NOW, by="Ada", alert_id=alert)
        (row,) = asked.normals_to_learn(c, machine.id)
        assert (row["sound"], row["alert_id"], row["by"]) == ("pump.flac", alert, "Ada")
        c.execute(sql.update(schema.normals).values(learnt_at=NOW))
        assert asked.normals_to_learn(c, machine.id) == []


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: asked.scores(c, 1, points=0), "points=0: must be 1 to 5000"),
        (lambda c: asked.scores(c, 1, points=5001), "points=5001: must be 1 to 5000"),
        (lambda c: asked.scores(c, 1, begin=math.nan), "begin=nan: must be a time in seconds since 1970"),
        (lambda c: asked.scores(c, 1, end=math.inf), "end=inf: must be a time in seconds since 1970"),
        (lambda c: asked.events(c, end=math.nan), "end=nan: must be a time in seconds since 1970"),
        (lambda c: asked.events(c, most=1001), "most=1001: must be 1 to 1000"),
        (lambda c: asked.alerts(c, most=0), "most=0: must be 1 to 1000"),
        (lambda c: asked.journal(c, after=0, most=-1), "most=-1: must be 1 to 1000"),
        (lambda c: streams.after(c, "windows", 0, most=10_001), "most=10001: must be 1 to 10000"),
        (lambda c: streams.newest(c, "sounds"), "stream='sounds': must be one of journal, windows"),
    ],
)
def test_limits_are_enforced(
    database: Database, ask: Callable[[sql.Connection], object], message: str
) -> None:
    with database.reading() as c, pytest.raises(ValueError, match=message):
        ask(c)


# Trends and summaries

Fill = Callable[[list[Heard]], tuple[int, int]]
MOMENTS = st.integers(0, 40 * 360).map(lambda n: BEGAN + HOP * n)  # 40 hours
SCORES = st.one_of(st.none(), st.floats(-100, 100))
WINDOWS = st.lists(
    st.builds(
        Heard, begins_at=MOMENTS, seconds=st.sampled_from([HOP, 4.0]), score=SCORES,
        decision=st.sampled_from(["normal", "anomaly", "unusable", "paused"]),
        evidence=st.one_of(st.none(), st.floats(0, 1)),
    ),
    max_size=40,
    unique_by=lambda one: one.begins_at,
)  # fmt: skip


@pytest.fixture
def filled(database: Database) -> Fill:
    """A function that puts windows in place of all that were there; it returns the ids of machine and recording."""

    def fill(windows: list[Heard]) -> tuple[int, int]:
        with database.writing() as c:
            for table in (schema.windows, schema.summaries):
                c.execute(sql.delete(table))
            machine, recording = logbooks.machine(c)
            other, of_other = logbooks.machine(c, "pump 2")
            rows = [
                logbooks.window(
                    number,
                    one.score,
                    one.decision,
                    begins_at=one.begins_at,
                    seconds=one.seconds,
                    evidence=one.evidence,
                )
                for number, one in enumerate(windows)
            ]
            heard.add_windows(c, machine.id, recording.id, rows)
            heard.add_windows(c, other.id, of_other.id, [logbooks.window(0, 1000.0)])
        return machine.id, recording.id

    return fill


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    windows=WINDOWS,
    late=WINDOWS,
    kept_hours=st.integers(1, 42),
    begin=st.one_of(st.none(), MOMENTS),
    end=st.one_of(st.none(), MOMENTS),
    points=st.integers(1, 30),
)
def test_trends_are_those_of_the_naive_twin(
    database: Database,
    filled: Fill,
    windows: list[Heard],
    late: list[Heard],
    kept_hours: int,
    begin: float | None,
    end: float | None,
    points: int,
) -> None:
    """Of windows that are kept, of those that have become summaries, and of those that were heard late."""
    machine_id, recording_id = filled(windows)
    newest = BEGAN + 40 * HOUR
    before = math.floor((newest - kept_hours * HOUR) / HOUR) * HOUR
    old = [one for one in windows if one.begins_at < before]
    compaction.compact(database, now=newest, keep_windows_s=kept_hours * HOUR)
    with database.writing() as c:
        late = [one for one in late if one.begins_at not in {w.begins_at for w in windows}]
        late_rows = [
            logbooks.window(
                number,
                one.score,
                one.decision,
                begins_at=one.begins_at,
                seconds=one.seconds,
                evidence=one.evidence,
            )
            for number, one in enumerate(late, len(windows))
        ]
        heard.add_windows(c, machine_id, recording_id, late_rows)
        found = asked.scores(c, machine_id, begin=begin, end=end, points=points)
    kept = [one for one in windows if one not in old] + late
    assert len(found) <= points
    assert _sorted(found) == [
        pytest.approx(point, abs=1e-9)
        for point in _sorted(naive_logbook.trend(kept, old, begin, end, points))
    ]
    compaction.compact(database, now=newest, keep_windows_s=kept_hours * HOUR)
    with database.reading() as c:
        again = asked.scores(c, machine_id, points=5000)
    old, kept = (
        old + [one for one in late if one.begins_at < before],
        [o for o in kept if o.begins_at >= before],
    )
    assert _sorted(again) == [
        pytest.approx(point, abs=1e-9) for point in _sorted(naive_logbook.trend(kept, old, None, None, 5000))
    ]


def test_a_peak_stays_however_few_points_there_are(database: Database, filled: Fill) -> None:
    scores = [0.0] * 5000
    scores[3210], scores[77] = 50.0, -50.0
    machine_id, _ = filled(
        [Heard(BEGAN + HOP * n, HOP, score, "normal", None) for n, score in enumerate(scores)]
    )
    with database.reading() as c:
        for points in (1, 7, 100, 1000):
            found = asked.scores(c, machine_id, points=points)
            assert points / 3 <= len(found) <= points
            (peak,) = (one for one in found if one["highest"] == 50.0)
            assert peak["begins_at"] <= BEGAN + HOP * 3210 < peak["begins_at"] + peak["seconds"]
            assert min(one["lowest"] for one in found) == -50.0
            assert sum(one["windows"] for one in found) == 5000


def test_compaction_is_done_in_short_transactions_and_tells_how_many(
    database: Database, filled: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 100)
    machine_id, _ = filled(
        [Heard(BEGAN + 60 * n, 60.0, 1.0, "normal", None) for n in range(600)]
    )  # ten hours
    transactions: list[str] = []

    def commits(_: object) -> None:
        transactions.append("commit")

    sql.event.listen(database._writer, "commit", commits)
    now = BEGAN + 10 * HOUR
    count = compaction.compact(database, now=now, keep_windows_s=2 * HOUR)
    sql.event.remove(database._writer, "commit", commits)
    assert compaction.compact(database, now=now, keep_windows_s=2 * HOUR) == 0
    with database.reading() as c:
        kept = c.execute(
            sql.select(sql.func.count()).where(schema.windows.c.machine_id == machine_id)
        ).scalar_one()
        hours = c.execute(sql.select(schema.summaries.c.begins_at)).scalars().all()
    assert count + kept == 600 + 1  # with the one of the other machine
    assert 450 <= count <= 482
    assert count / 160 <= len(transactions) <= count / 100 + 1  # an hour has 60 windows
    assert all(hour % HOUR == 0 for hour in hours)


@pytest.mark.parametrize("keep", [0.0, 3599.0, math.nan])
def test_an_hour_at_least_is_kept(database: Database, keep: float) -> None:
    with pytest.raises(ValueError, match=f"keep_windows_s={keep}: keep windows for at least an hour"):
        compaction.compact(database, now=NOW, keep_windows_s=keep)


def test_numbers_are_not_given_twice_even_if_all_windows_have_become_summaries(database: Database) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(n) for n in range(5)])
        last = streams.newest(c, "windows")
        cursors.register(c, "pager", ("windows",))
    assert compaction.compact(database, now=BEGAN + 9 * DAY, keep_windows_s=DAY) == 5
    with database.writing() as c:
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(5)])
        pending = cursors.pending(c, "pager", "windows", most=100, at_once=100)
    assert [row["id"] for row in pending.rows] == [last + 1]


# Sinks


def test_a_new_sink_begins_at_the_end_and_an_old_one_where_it_was(database: Database) -> None:
    with database.writing() as c:
        machine, _ = logbooks.machine(c)
        cursors.register(c, "pager", ("journal", "windows"))
        assert _pending(c, "pager") == ([], 0)
        numbers = [_tell(c, machine.id) for _ in range(5)]
        cursors.register(c, "pager", ("journal", "windows"))
        assert _pending(c, "pager") == (numbers, 0)
        assert _pending(c, "pager", at_once=2) == (numbers[:2], 0)
        cursors.delivered(c, "pager", "journal", numbers[1])
        cursors.delivered(c, "pager", "journal", numbers[0])  # late: a cursor never goes back
        assert _pending(c, "pager") == (numbers[2:], 0)
        cursors.register(c, "pager", ("journal",))
        cursors.register(c, "board", ("journal",))
        assert [(row["sink"], row["stream"], row["behind"]) for row in cursors.standing(c)] == [
            ("board", "journal", 0), ("pager", "journal", 3),
        ]  # fmt: skip
        cursors.forget_others(c, ["board"])
        assert [row["sink"] for row in cursors.standing(c)] == ["board"]
        with pytest.raises(LookupError, match="sink 'pager' does not take journal; register it first"):
            _pending(c, "pager")


def test_of_too_many_rows_the_oldest_are_dropped_and_counted(database: Database) -> None:
    with database.writing() as c:
        machine, _ = logbooks.machine(c)
        cursors.register(c, "pager", ("journal",))
        numbers = [_tell(c, machine.id) for _ in range(10)]
    with database.reading() as c:  # that it only reads is what lets it be asked often
        assert _pending(c, "pager", most=4) == (numbers[6:], 6)
        assert _pending(c, "pager", most=4, at_once=1) == ([numbers[6]], 6)
    with database.writing() as c:
        cursors.delivered(c, "pager", "journal", numbers[6], dropped=6)
        assert _pending(c, "pager", most=4) == (numbers[7:], 0)
        cursors.refused(c, "pager", "journal", numbers[7], error="no such key")
        (row,) = cursors.standing(c)
    assert (row["dropped"], row["refused"], row["behind"], row["error"]) == (6, 1, 2, "no such key")


def test_a_sink_that_is_down_says_since_when_and_how_often(database: Database) -> None:
    with database.writing() as c:
        machine, _ = logbooks.machine(c)
        cursors.register(c, "pager", ("journal",))
        number = _tell(c, machine.id)
        cursors.failed(c, "pager", "journal", error="refused", now=NOW)
        cursors.failed(c, "pager", "journal", error="timed out", now=NOW + 5)
        (down,) = cursors.standing(c)
        cursors.works(c, "pager", "journal")
        (works,) = cursors.standing(c)
        cursors.failed(c, "pager", "journal", error="refused", now=NOW + 9)
        cursors.delivered(c, "pager", "journal", number)
        (told,) = cursors.standing(c)
    state = ("attempts", "failing_since_at", "error", "behind")
    assert [down[name] for name in state] == [2, NOW, "timed out", 1]
    assert [works[name] for name in state] == [0, None, "", 1]
    assert [told[name] for name in state] == [0, None, "", 0]


def test_a_row_of_the_journal_has_what_it_is_of(database: Database) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        alert_id = _alert(c, machine.id, at=BEGAN)
        event_id = heard.add_event(
            c, machine.id, recording.id, logbooks.event(), began_at=BEGAN, sound=None, now=NOW
        )
    with database.reading() as c:
        detector, activated, event = asked.journal(c, after=0)
        assert asked.journal(c, after=detector["id"], most=1) == [activated]
        assert asked.latest(c) == (event["id"], 0)
    assert (detector["machine"], detector["alert"], detector["event"]) == ("pump 1", None, None)
    assert (activated["alert"]["id"], activated["alert"]["active"], activated["event"]) == (
        alert_id,
        True,
        None,
    )
    assert "evidence" not in activated["alert"]
    assert (event["event"]["id"], event["alert"]) == (event_id, None)
    assert activated["content"]["alert"]["severity"] == 700


# Plans

SMALL = {
    "machines",
    "conditions",
    "cursors",
    "logbook",
    "tokens",
}  # as many rows as there are machines or sinks
QUESTIONS: dict[str, Callable[[sql.Connection], object]] = {
    "machines": lambda c: asked.machines(c),
    "machine": lambda c: asked.machine(c, "pump 1"),
    "conditions": lambda c: asked.conditions(c),
    "scores, few": lambda c: asked.scores(c, 1, begin=BEGAN, end=BEGAN + HOUR),
    "scores, many": lambda c: asked.scores(c, 1, begin=BEGAN, end=BEGAN + DAY, points=2),
    "scores, all": lambda c: asked.scores(c, 1, points=2),
    "events": lambda c: asked.events(c),
    "events of a machine": lambda c: asked.events(c, machine_id=1, before_id=1),
    "events of a day": lambda c: asked.events(c, begin=BEGAN, end=BEGAN + DAY),
    "event": lambda c: asked.event(c, 1),
    "alerts": lambda c: asked.alerts(c, before_id=1),
    "alerts, active": lambda c: asked.alerts(c, state="active"),
    "alerts, all": lambda c: asked.alerts(c, state="all", before_id=1),
    "alerts of a machine": lambda c: asked.alerts(c, state="all", machine_id=1, before_id=1),
    "alert": lambda c: asked.alert(c, 1),
    "words": lambda c: asked.words(c, [1, 2]),
    "normals": lambda c: asked.normals_to_learn(c, 1),
    "journal": lambda c: asked.journal(c, after=1),
    "windows": lambda c: streams.after(c, "windows", 1, most=10),
    "latest": lambda c: asked.latest(c),
    "pending": lambda c: cursors.pending(c, "pager", "windows", most=10, at_once=10),
    "is_finished": lambda c: heard.is_finished(c, 1, "live"),
    "unfinished": lambda c: heard.unfinished(c, 1),
    "due": lambda c: compaction._due(c, BEGAN + DAY),
    "summarize": lambda c: compaction._compact(c, BEGAN + DAY),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_plan_uses_an_index(database: Database, question: str) -> None:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        cursors.register(c, "pager", ("journal", "windows"))
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(n) for n in range(20)])
        heard.add_event(c, machine.id, recording.id, logbooks.event(), began_at=BEGAN, sound=None, now=NOW)
        _alert(c, machine.id, at=BEGAN)
        if c.dialect.name == "postgresql":  # tables are so small that it would not care
            c.exec_driver_sql("SET LOCAL enable_seqscan = off")
            c.exec_driver_sql("SET LOCAL enable_sort = off")
        asked_for: list[tuple[str, Any]] = []

        def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            asked_for.append((statement, parameters))

        sql.event.listen(c, "before_cursor_execute", note)
        QUESTIONS[question](c)
        sql.event.remove(c, "before_cursor_execute", note)
        assert asked_for
        prefix = "EXPLAIN QUERY PLAN " if c.dialect.name == "sqlite" else "EXPLAIN "
        plans = [c.exec_driver_sql(prefix + one, parameters).fetchall() for one, parameters in asked_for]
    for (statement, _), plan in zip(asked_for, plans, strict=True):
        told = "\n".join(str(row[-1]) for row in plan)
        scanned = {*re.findall(r"^SCAN (\w+)(?! USING| AS| \w)$|Seq Scan on (\w+)", told, re.MULTILINE)}
        names = {name for pair in scanned for name in pair} - {""}
        assert not names & {*schema.metadata.tables} - SMALL, f"{statement}\n{told}"
        if " LIMIT " in statement and "UNION" not in statement:
            assert "ORDER BY" not in told, f"sorts all to show a few: {statement}\n{told}"


# Helpers


def _alert(c: sql.Connection, machine_id: int, *, at: float, sound: str | None = None) -> int:
    alert_id = conditions.activate(
        c, machine_id, "anomaly", at=at, since=at - 60, message="It hums.", now=NOW, score=3.0, sound=sound
    )
    assert alert_id is not None
    return alert_id


def _tell(c: sql.Connection, machine_id: int) -> int:
    """Something, in the journal; its number."""
    mode = c.execute(sql.select(schema.machines.c.mode)).scalar_one()
    heard.set_mode(c, machine_id, "paused" if mode != "paused" else "listening", at=NOW, now=NOW)
    return streams.newest(c, "journal")


def _pending(c: sql.Connection, sink: str, *, most: int = 100, at_once: int = 100) -> tuple[list[int], int]:
    pending = cursors.pending(c, sink, "journal", most=most, at_once=at_once)
    return [row["id"] for row in pending.rows], pending.dropped


def _pages(ask: Callable[..., list[dict[str, Any]]], *, most: int) -> list[list[int]]:
    """All pages of a list, as ids."""
    pages: list[list[int]] = []
    before = None
    while rows := ask(most=most, before_id=before):
        pages.append([row["id"] for row in rows])
        before = pages[-1][-1]
    return pages


def _sorted(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By time; a summary may begin with a window."""
    return sorted(points, key=lambda point: (point["begins_at"], point["seconds"]))
