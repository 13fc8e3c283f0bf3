"""What happens to conditions and alerts, in a real database, against a naive twin."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_life_cycle import RefusedError, Twin
from postgres_server import running_server
from sqlalchemy.exc import IntegrityError

from nearfar.logbook import conditions, journal, schema
from nearfar.logbook.database import Database
from nearfar.logbook.life_cycle import LONGEST_SHELF_S, LifeCycleError

NOW = 1_800_000_000.0
HEARD = 1_700_000_000.0  # a replay: what is heard is of another time
RECORDING = {
    "key": "monday.flac", "name": "monday.flac", "began_at": HEARD, "next_window": 0, "finished": False,
    "error": "", "written_at": NOW,
}  # fmt: skip
EVENT = {
    "begins_at": HEARD, "ends_at": HEARD + 10, "peak_begins_at": HEARD, "peak_ends_at": HEARD + 10,
    "peak_score": 2.5, "windows": 1, "anomalous": 1, "unusable": 0, "content": "{}",
}  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database.open(tmp_path_factory.mktemp("logbook") / "hall.db")
    yield opened
    opened.close()


@pytest.fixture
def c(database: Database) -> Iterator[sql.Connection]:
    """A connection that writes; nothing of it stays."""
    with database.writing() as connection, connection.begin_nested() as nested:
        yield connection
        nested.rollback()


@pytest.fixture
def pump(c: sql.Connection) -> int:
    return machine(c)


def machine(c: sql.Connection, name: str = "pump-1") -> int:
    row = {
        "name": name, "detector": "det", "detector_digest": "0" * 64, "system": "spectral", "window_s": 10.0,
        "hop_s": 10.0, "false_alerts": "1 per 30 days", "mode": "listening", "mode_since_at": HEARD,
        "written_at": NOW,
    }  # fmt: skip
    return int(c.execute(sql.insert(schema.machines).values(row)).inserted_primary_key[0])


def activated(c: sql.Connection, machine_id: int, at: float = HEARD, **options: Any) -> int | None:
    told = {"since": at - 30, "message": "sounds unlike before", "now": NOW, "score": 2.5, **options}
    return conditions.activate(c, machine_id, told.pop("condition", "anomaly"), at=at, **told)


def rows(c: sql.Connection, machine_id: int) -> list[dict[str, Any]]:
    """Of the journal, in order."""
    table = schema.journal
    found = c.execute(
        sql.select(table).where(table.c.machine_id == machine_id).order_by(table.c.id)
    ).mappings()
    return [{**row, "content": json.loads(row["content"])} for row in found]


def told(c: sql.Connection, machine_id: int) -> list[str]:
    """The same, in short; what people are not told is in brackets."""
    return [row["what"] if row["annunciated"] else f"({row['what']})" for row in rows(c, machine_id)]


def alert(c: sql.Connection, alert_id: int) -> dict[str, Any]:
    return dict(c.execute(sql.select(schema.alerts).where(schema.alerts.c.id == alert_id)).mappings().one())


def test_no_alert_ends_before_it_began(c: sql.Connection, pump: int) -> None:
    """A recorder that was away brings what it recorded meanwhile, from before anybody missed it."""
    alert_id = activated(c, pump, condition="no sound")
    assert alert_id is not None
    conditions.clear(c, pump, "no sound", at=HEARD - 300, now=NOW)
    assert alert(c, alert_id)["ended_at"] == HEARD


# against the twin

AGO = st.sampled_from(
    [0, 0, 0, 1, 2, 5]
)  # so that times repeat, and the recorder's clock is set back now and then
STEPS = st.one_of(
    st.tuples(st.sampled_from(["activate", "clear", "suppress", "unsuppress"]), AGO),
    st.tuples(st.sampled_from(["activate", "clear", "activate", "clear"]), st.just(0)),
    st.tuples(st.sampled_from(["acknowledge", "comment"]), st.integers(0, 3)),
    st.tuples(
        st.just("shelve"), st.sampled_from([None, None, 2, 4, 8, 0, LONGEST_SHELF_S, LONGEST_SHELF_S + 1])
    ),
    st.tuples(st.sampled_from(["unshelve", "take_out_of_service", "return_to_service", "expire"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 9, LONGEST_SHELF_S])),
)


class Both:
    """The module and its twin, which do the same to one condition."""

    def __init__(self, c: sql.Connection, machine_id: int) -> None:
        self.c, self.machine_id, self.twin = c, machine_id, Twin()
        self.clock = 0.0

    def step(self, what: str, argument: Any = None) -> None:
        now, key = NOW + self.clock, (self.machine_id, "anomaly")
        if what == "wait":
            self.clock += argument
        elif what == "expire":
            assert conditions.expire(self.c, now=now) == self.twin.look_at_the_clock(now)
        elif what in ("activate", "clear", "suppress", "unsuppress"):
            self.heard(what, HEARD + self.clock - argument, now)
        elif what in ("acknowledge", "comment"):
            numbers = list(range(len(self.twin.alerts())))
            if numbers:
                number = numbers[-1 - argument % len(numbers)]
                said = {"now": now, "by": "Ada", "comment": "seen"}
                self.does(what, (self.ids()[number],), said, (number, now))
        elif what == "shelve":
            until = None if argument is None else now + argument
            self.does(what, key, {"now": now, "by": "Ada", "until": until}, (until, now))
        else:
            self.does(what, key, {"now": now, "by": "Ada"}, (now,))

    def heard(self, what: str, at: float, now: float) -> None:
        """Twice: what is heard again changes nothing."""
        more = {
            "activate": {"since": at - 30, "message": "m", "score": 2.5},
            "suppress": {"reason": "silent"},
        }
        for again in (False, True):
            before = rows(self.c, self.machine_id)
            made = getattr(conditions, what)(
                self.c, self.machine_id, "anomaly", at=at, now=now, **more.get(what, {})
            )
            getattr(self.twin, what)(at, now)
            assert (made is None) == (rows(self.c, self.machine_id) == before)
            assert not (again and made is not None)

    def does(self, what: str, args: tuple, options: dict[str, Any], of_twin: tuple) -> None:
        before, refused = (list(self.twin.history), list(self.twin.rows)), ""
        try:
            getattr(self.twin, what)(*of_twin)
        except RefusedError as error:
            (self.twin.history, self.twin.rows), refused = before, str(error)
        if not refused:
            written = getattr(conditions, what)(self.c, *args, **options)
            assert written in [row["id"] for row in rows(self.c, self.machine_id)]
            return
        with pytest.raises(LifeCycleError, match="it ") as raised, self.c.begin_nested():
            getattr(conditions, what)(self.c, *args, **options)
        assert raised.value.code == refused

    def ids(self) -> list[int]:
        table = schema.alerts
        where = table.c.machine_id == self.machine_id
        return list(self.c.execute(sql.select(table.c.id).where(where).order_by(table.c.id)).scalars())

    def compare(self) -> None:
        found, ids, twin = rows(self.c, self.machine_id), self.ids(), self.twin
        numbers = {None: None, **{key: number for number, key in enumerate(ids)}}
        assert [(r["what"], r["at"], numbers[r["alert_id"]], r["annunciated"]) for r in found] == twin.rows
        alerts = [alert(self.c, key) for key in ids]
        assert [(a["began_at"], a["ended_at"], a["acked"]) for a in alerts] == twin.alerts()
        assert [number for number, a in enumerate(alerts) if a["retained"]] == twin.retained()
        assert sum(a["active"] for a in alerts) == (twin.active() is not None)
        assert conditions.is_active(self.c, self.machine_id, "anomaly") == (twin.active() is not None)
        for row in found:
            assert set(row["content"]) == set(journal.CONTENT[row["what"]])
            assert row["content"]["alert"] is None or set(row["content"]["alert"]) == set(journal.ALERT)
            assert set(row["content"]["standing"]) == set(journal.STANDING)
        self.compare_what_people_were_told(found)

    def compare_what_people_were_told(self, found: list[dict[str, Any]]) -> None:
        for number, row in enumerate(found):
            earlier = [r for r in found[:number] if r["alert_id"] == row["alert_id"] and r["annunciated"]]
            was_told = any(r["what"] in ("activated", "annunciated") for r in earlier)
            assert row["content"]["was_annunciated"] == (row["alert_id"] is not None and was_told)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
def test_any_sequence_is_as_its_twin_tells_it(database: Database, steps: list[tuple]) -> None:
    with database.writing() as c, c.begin_nested() as nested:
        both = Both(c, machine(c))
        for step in steps:
            both.step(*step)
        both.compare()
        nested.rollback()


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["activate", "clear", "suppress", "unsuppress"])), max_size=12)
)
def test_what_was_heard_can_be_heard_again_from_any_moment(database: Database, steps: list[tuple]) -> None:
    """Whatever had an effect has none the second time, in the same order."""
    with database.writing() as c, c.begin_nested() as nested:
        both, effective = Both(c, machine(c)), []
        for number, (what,) in enumerate(steps):
            known = len(rows(c, both.machine_id))
            both.heard(what, HEARD + number, NOW)
            if len(rows(c, both.machine_id)) > known:
                effective.append((what, HEARD + number))
        before = rows(c, both.machine_id)
        for what, at in effective:
            both.heard(what, at, NOW)
        assert rows(c, both.machine_id) == before
        both.compare()
        nested.rollback()


def test_postgresql_tells_the_same() -> None:
    """Sequences of random steps, on a server of its own."""
    rng = random.Random(0)
    steps = [
        *[("activate", 0), ("clear", 0)] * 3, ("activate", 1), ("acknowledge", 0), ("acknowledge", 1),
        ("comment", 0), ("suppress", 0), ("unsuppress", 0), ("shelve", None), ("shelve", 4), ("unshelve",),
        ("take_out_of_service",), ("return_to_service",), ("expire",), ("wait", 1), ("wait", 3),
        ("wait", LONGEST_SHELF_S),
    ]  # fmt: skip
    with running_server() as server, contextlib.closing(Database.open(server.new_database())) as database:
        for _ in range(5):
            with database.writing() as c, c.begin_nested() as nested:
                both = Both(c, machine(c))
                for step in rng.choices(steps, k=40):
                    both.step(*step)
                both.compare()
                nested.rollback()


# one at a time


def test_a_life_from_activation_to_re_arming(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump, content={"rule": "1 per 30 days"}, sound="pump.flac")
    assert number is not None
    assert conditions.is_active(c, pump, "anomaly")
    conditions.acknowledge(c, number, now=NOW + 5, by=" Ada ", comment="on my way\r\nsoon\n")
    assert conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW + 60) == number
    assert told(c, pump) == ["activated", "acknowledged", "cleared", "re-armed"]
    first, acked, _, last = rows(c, pump)
    assert first["content"]["more"] == {"rule": "1 per 30 days"}
    assert first["content"]["alert"] == {
        "id": number, "severity": 700, "message": "sounds unlike before", "since_at": HEARD - 30, "began_at": HEARD,
        "ended_at": None, "active": True, "acked": False, "retained": True, "score": 2.5, "sound": "pump.flac",
    }  # fmt: skip
    assert (first["at"], first["written_at"], first["by"]) == (HEARD, NOW, "")
    assert (acked["at"], acked["by"], acked["comment"]) == (NOW + 5, "Ada", "on my way\nsoon")
    assert last["content"]["after"] == "cleared"
    assert last["content"]["alert"]["retained"] is False
    assert not conditions.is_active(c, pump, "anomaly")


def test_a_former_alert_stays_until_it_is_acknowledged(c: sql.Connection, pump: int) -> None:
    former = activated(c, pump)
    conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW)
    newer = activated(c, pump, HEARD + 120)
    assert former is not None
    assert newer is not None
    assert [alert(c, number)["retained"] for number in (former, newer)] == [True, True]
    conditions.acknowledge(c, former, now=NOW, by="Ada")
    assert [alert(c, number)["retained"] for number in (former, newer)] == [False, True]
    assert alert(c, newer)["acked"] is False
    assert told(c, pump) == ["activated", "cleared", "activated", "acknowledged", "re-armed"]


def test_another_alert_at_the_same_time_is_one_by_a_clock_that_was_set_back(
    c: sql.Connection, pump: int
) -> None:
    first = activated(c, pump, score=2.5)
    conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW)
    assert activated(c, pump, score=2.5) is None  # the same again
    second = activated(c, pump, score=2.6)
    assert second not in (first, None)
    assert conditions.clear(c, pump, "anomaly", at=HEARD - 60, now=NOW) == second


def test_a_score_that_is_no_number_is_known_again(c: sql.Connection, pump: int) -> None:
    assert activated(c, pump, score=float("nan")) is not None
    conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW)
    assert activated(c, pump, score=float("nan")) is None


def test_the_database_itself_refuses_two_active_alerts(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump)
    assert number is not None
    row = {**alert(c, number)}
    del row["id"]
    with pytest.raises(IntegrityError, match="UNIQUE"), c.begin_nested():
        c.execute(sql.insert(schema.alerts).values(row))
    c.execute(sql.insert(schema.alerts).values({**row, "active": False}))
    assert activated(c, pump, condition="microphones") is not None


def test_a_timed_shelf_hides_and_then_tells_again(c: sql.Connection, pump: int) -> None:
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada", until=NOW + 3600, comment="known noise")
    activated(c, pump)
    assert conditions.expire(c, now=NOW + 3599) == 0
    assert conditions.expire(c, now=NOW + 3700) == 1
    assert conditions.expire(c, now=NOW + 3700) == 0
    assert told(c, pump) == ["(shelved)", "(activated)", "unshelved", "annunciated"]
    *_, over, again = rows(c, pump)
    assert over["content"]["ended"] == "time"
    assert (over["at"], over["written_at"], over["by"]) == (NOW + 3600, NOW + 3700, "")
    assert again["content"]["after"] == "unshelved"
    assert again["content"]["was_annunciated"] is False


def test_a_shelf_whose_time_is_over_hides_nothing(c: sql.Connection, pump: int) -> None:
    """Also if nobody called `expire`, such as after a night without power."""
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada", until=NOW + 3600)
    activated(c, pump, now=NOW + 3600)
    assert told(c, pump) == ["(shelved)", "unshelved", "activated"]


def test_one_shot_ends_when_the_condition_becomes_inactive(c: sql.Connection, pump: int) -> None:
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada")
    for hour in (0, 1):
        activated(c, pump, HEARD + 3600 * hour)
        conditions.clear(c, pump, "anomaly", at=HEARD + 3600 * hour + 60, now=NOW)
    assert told(c, pump) == ["(shelved)", "(activated)", "(cleared)", "unshelved", "activated", "cleared"]
    assert rows(c, pump)[3]["content"]["ended"] == "cleared"


def test_one_shot_ends_after_thirty_days_at_the_latest(c: sql.Connection, pump: int) -> None:
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada")
    activated(c, pump)
    assert conditions.expire(c, now=NOW + LONGEST_SHELF_S - 1) == 0
    assert conditions.expire(c, now=NOW + LONGEST_SHELF_S) == 1
    assert told(c, pump)[-2:] == ["unshelved", "annunciated"]


def test_an_alert_is_annunciated_once_nothing_hides_it(c: sql.Connection, pump: int) -> None:
    conditions.suppress(c, pump, "anomaly", at=HEARD, now=NOW, reason="near is silent")
    conditions.take_out_of_service(c, pump, "anomaly", now=NOW, by="Ada")
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada", until=NOW + 60)
    activated(c, pump)
    conditions.return_to_service(c, pump, "anomaly", now=NOW + 1, by="Ada")
    conditions.unsuppress(c, pump, "anomaly", at=HEARD + 2, now=NOW + 2)
    conditions.unshelve(c, pump, "anomaly", now=NOW + 3, by="Ada")
    assert told(c, pump) == [
        "(suppressed)", "(out of service)", "(shelved)", "(activated)", "(in service)", "(unsuppressed)",
        "unshelved", "annunciated",
    ]  # fmt: skip
    assert rows(c, pump)[0]["content"]["reason"] == "near is silent"


def test_people_who_were_told_of_an_alert_are_told_its_end(c: sql.Connection, pump: int) -> None:
    activated(c, pump)
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada", until=NOW + 3600)
    conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW + 60)
    last = rows(c, pump)[-1]
    assert (last["what"], last["annunciated"], last["content"]["was_annunciated"]) == ("cleared", False, True)


def test_conditions_and_machines_do_not_touch_each_other(c: sql.Connection, pump: int) -> None:
    fan = machine(c, "fan-1")
    conditions.suppress(c, pump, "anomaly", at=HEARD, now=NOW, reason="near is silent")
    conditions.shelve(c, fan, "no sound", now=NOW, by="Ada", until=NOW + 60)
    activated(c, pump, condition="microphones")
    activated(c, fan)
    assert told(c, pump) == ["(suppressed)", "activated"]
    assert told(c, fan) == ["(shelved)", "activated"]
    assert not conditions.is_active(c, pump, "anomaly")
    assert conditions.unsuppress(c, fan, "anomaly", at=HEARD, now=NOW) is None


def test_what_led_to_a_newer_alert_can_be_heard_again(c: sql.Connection, pump: int) -> None:
    """The end of the former alert does not end the newer one."""
    activated(c, pump)
    conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW)
    newer = activated(c, pump, HEARD + 120)
    assert activated(c, pump) is None
    assert conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW) is None
    assert conditions.is_active(c, pump, "anomaly")
    assert conditions.clear(c, pump, "anomaly", at=HEARD + 180, now=NOW) == newer


def test_who_was_told_after_a_shelf_is_told_the_end(c: sql.Connection, pump: int) -> None:
    conditions.shelve(c, pump, "anomaly", now=NOW, by="Ada", until=NOW + 60)
    activated(c, pump)
    conditions.expire(c, now=NOW + 60)
    conditions.suppress(c, pump, "anomaly", at=HEARD + 70, now=NOW + 70, reason="near is silent")
    conditions.clear(c, pump, "anomaly", at=HEARD + 80, now=NOW + 80)
    last = rows(c, pump)[-1]
    assert (last["what"], last["annunciated"], last["content"]["was_annunciated"]) == ("cleared", False, True)


# evidence, comments, normal sounds

EVIDENCE = {
    "format": 1,
    "reasons": [{"words": "8 kHz is 12 dB louder"}],
    "levels": float("nan"),
    "odd": "a\udcfc\0",
}


def test_evidence_is_kept_once(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump)
    assert number is not None
    assert conditions.add_evidence(c, number, at=HEARD, now=NOW, error="its sound is gone") is not None
    assert conditions.add_evidence(c, number, at=HEARD, now=NOW, error="its sound is gone") is None
    assert conditions.add_evidence(c, number, at=HEARD, now=NOW, evidence=EVIDENCE) is not None
    assert conditions.add_evidence(c, number, at=HEARD, now=NOW, evidence={}) is None
    assert conditions.add_evidence(c, number, at=HEARD, now=NOW, error="late") is None
    kept = alert(c, number)
    assert json.loads(kept["evidence"]) == {**EVIDENCE, "levels": None, "odd": "a\\xfc\0"}
    assert kept["evidence_error"] == ""
    _, failed, made = rows(c, pump)
    assert (failed["content"]["error"], failed["content"]["words"]) == ("its sound is gone", [])
    assert made["content"]["words"] == ["8 kHz is 12 dB louder"]
    with pytest.raises(ValueError, match="give either the evidence, or the error"):
        conditions.add_evidence(c, number, at=HEARD, now=NOW)
    with pytest.raises(ValueError, match="give either the evidence, or the error"):
        conditions.add_evidence(c, number, at=HEARD, now=NOW, evidence={}, error="both")


def test_a_comment_can_be_made_in_any_state(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump)
    assert number is not None
    conditions.clear(c, pump, "anomaly", at=HEARD + 60, now=NOW)
    conditions.acknowledge(c, number, now=NOW, by="Ada")
    conditions.comment(c, number, now=NOW + 86400, by="Bo", comment="it was the belt")
    assert rows(c, pump)[-1]["comment"] == "it was the belt"
    with pytest.raises(ValueError, match="comment: it is empty; say something"):
        conditions.comment(c, number, now=NOW, by="Bo", comment=" \n")


def test_normal_sounds_are_kept_for_learning(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump, sound="pump.flac")
    silent = activated(c, pump, condition="no sound")
    recording = c.execute(sql.insert(schema.recordings).values({**RECORDING, "machine_id": pump}))
    key = recording.inserted_primary_key[0]
    event = {**EVENT, "machine_id": pump, "recording_id": key}
    found = c.execute(sql.insert(schema.events).values({**event, "sound": "event.flac"}))
    event_id = int(found.inserted_primary_key[0])
    conditions.mark_normal(c, now=NOW, by="Ada", alert_id=number)
    conditions.mark_normal(c, now=NOW, by="Bo", event_id=event_id, comment="a forklift")
    kept = c.execute(sql.select(schema.normals).order_by(schema.normals.c.id)).mappings().all()
    assert [(k["alert_id"], k["event_id"], k["sound"], k["by"], k["learnt_at"]) for k in kept] == [
        (number, None, "pump.flac", "Ada", None),
        (None, event_id, "event.flac", "Bo", None),
    ]
    *_, first, second = rows(c, pump)
    assert first["content"] == {"normal_id": kept[0]["id"], "sound": "pump.flac"}
    assert set(second["content"]) == set(journal.CONTENT["normal"])
    assert (second["event_id"], second["by"], second["comment"]) == (event_id, "Bo", "a forklift")
    with pytest.raises(LifeCycleError, match=f"alert {number}: Ada has marked it as normal already"):
        conditions.mark_normal(c, now=NOW, by="Bo", alert_id=number)
    with pytest.raises(LifeCycleError, match=f"event {event_id}: Bo has marked it as normal already"):
        conditions.mark_normal(c, now=NOW, by="Bo", event_id=event_id)
    with pytest.raises(LifeCycleError, match="its sound is not kept, so nothing can be learnt of it"):
        conditions.mark_normal(c, now=NOW, by="Bo", alert_id=silent)
    with pytest.raises(ValueError, match="give either an alert or an event"):
        conditions.mark_normal(c, now=NOW, by="Bo")
    with pytest.raises(LookupError, match="event 999999: there is no such event"):
        conditions.mark_normal(c, now=NOW, by="Bo", event_id=999999)


# what cannot be taken


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("", "say who does it; the name is empty"),
        (" \t", "say who does it; the name is empty"),
        ("A" * 101, "the name has 101 characters, at most 100 are allowed"),
        ("Ada\nroot", r"the name 'Ada\\\\x0aroot' holds control characters; leave them out"),
        ("Ada\x1b[31m", "holds control characters"),
        ("Ada\udcff", "holds control characters"),
    ],
)
def test_names_that_are_refused(c: sql.Connection, pump: int, by: str, message: str) -> None:
    number = activated(c, pump)
    assert number is not None
    with pytest.raises(ValueError, match=message):
        conditions.acknowledge(c, number, now=NOW, by=by)
    with pytest.raises(ValueError, match=message):
        conditions.shelve(c, pump, "anomaly", now=NOW, by=by)
    assert told(c, pump) == ["activated"]


def test_comments_are_bounded_and_escaped(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump)
    assert number is not None
    with pytest.raises(ValueError, match="it has 4001 characters, at most 4000 are allowed; shorten it"):
        conditions.acknowledge(c, number, now=NOW, by="Ada", comment="x" * 4001)
    assert alert(c, number)["acked"] is False
    conditions.acknowledge(c, number, now=NOW, by="A" * 100, comment="\0" * 4000)  # longer once it is escaped
    conditions.comment(c, number, now=NOW, by="Ada", comment="bell\x07 \ud800\ttab\nend 漏油 ")
    *_, long, last = rows(c, pump)
    assert long["comment"] == "\\x00" * 4000
    assert last["comment"] == "bell\\x07 \\ud800\ttab\nend 漏油"


def test_messages_are_escaped(c: sql.Connection, pump: int) -> None:
    number = activated(c, pump, message="L\udcfcfter.wav: \x1b[31mloud")
    assert number is not None
    assert alert(c, number)["message"] == "L\\xfcfter.wav: \\x1b[31mloud"


def test_what_is_not_there(c: sql.Connection, pump: int) -> None:
    with pytest.raises(LookupError, match="alert 999999: there is no such alert in the logbook"):
        conditions.acknowledge(c, 999999, now=NOW, by="Ada")
    with pytest.raises(LookupError, match=r"alert 9{20}: there is no such alert"):
        conditions.comment(c, int("9" * 20), now=NOW, by="Ada", comment="lost")
    with pytest.raises(LookupError, match="machine 999999: there is no such machine in the logbook"):
        activated(c, 999999)
    with pytest.raises(ValueError, match="condition 'smell': must be one of anomaly, microphones, no sound"):
        activated(c, pump, condition="smell")
    with pytest.raises(ValueError, match="severity=1001: must be 1 to 1000"):
        activated(c, pump, severity=1001)
    with pytest.raises(ValueError, match="what='exploded': the journal knows activated"):
        journal.note(c, machine_id=pump, what="exploded", at=HEARD, now=NOW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="condition 'smell': must be one of"):
        journal.note(c, machine_id=pump, what="event", condition="smell", at=HEARD, now=NOW)  # type: ignore[arg-type]


def test_a_refusal_says_which_condition_of_which_machine(c: sql.Connection, pump: int) -> None:
    with pytest.raises(LifeCycleError, match=r"^pump-1, no sound: it is not shelved$"):
        conditions.unshelve(c, pump, "no sound", now=NOW, by="Ada")
    with pytest.raises(LifeCycleError, match=r"^pump-1, no sound: it is in service already$"):
        conditions.return_to_service(c, pump, "no sound", now=NOW, by="Ada")


# more than one process


ACKNOWLEDGE = """
import sys
from pathlib import Path
from nearfar.logbook import conditions
from nearfar.logbook.database import Database

path, alert_id, by = sys.argv[1:]
database = Database.open(Path(path))
print("ready", flush=True)
try:
    with database.writing() as c:
        conditions.acknowledge(c, int(alert_id), now=1_800_000_000.0, by=by)
    print("acknowledged")
except ValueError as error:
    print(error)
database.close()
"""


def test_of_two_processes_that_acknowledge_at_once_one_does(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    database = Database.open(path)
    with database.writing() as c:
        pump = machine(c)
        number = activated(c, pump)
    command = [sys.executable, "-c", ACKNOWLEDGE, str(path), str(number)]
    both = [subprocess.Popen([*command, by], stdout=subprocess.PIPE, text=True) for by in ("Ada", "Bo")]
    with database.writing():  # both wait for this turn to end
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert answers == ["acknowledged", f"alert {number}: it is acknowledged already"]
    with database.reading() as c:
        assert told(c, pump) == ["activated", "acknowledged"]
    database.close()


def test_whether_a_condition_is_active_is_asked_of_an_index(c: sql.Connection, pump: int) -> None:
    activated(c, pump)
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:  # noqa: ARG001
        seen.append((statement, parameters))

    sql.event.listen(c, "before_cursor_execute", note)
    conditions.is_active(c, pump, "anomaly")
    sql.event.remove(c, "before_cursor_execute", note)
    (statement, parameters), *_ = seen
    plan = [row[-1] for row in c.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert any("one_active_alert" in step for step in plan), plan
