"""Deliveries: in order, at once, again until it has arrived; and nothing that a sink does stops anything else."""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import told
from told import Listener, Site, soon

from nearfar.logbook import cursors
from nearfar.watching import deliveries as module
from nearfar.watching.deliveries import Backoff, Deliveries
from nearfar.watching.sinks import Message, SinkDownError, SinkRefusedError
from nearfar.watching.sinks.json_lines import JsonLines

QUICK = Backoff(first_s=0.01, longest_s=0.05)


@pytest.fixture
def logbook(tmp_path: Path) -> Iterator[told.Logbook]:
    with told.logbook(tmp_path) as made:
        yield made


@pytest.fixture
def running(logbook: told.Logbook) -> Iterator[object]:
    """Starts deliveries to sinks, and stops them all at the end."""
    started = []

    def start(most: int = 10_000, backoff: Backoff = QUICK, **sinks: object) -> Deliveries:
        made = Deliveries(Site.of(**sinks), logbook.database, most=most, backoff=backoff)
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()


def fails_with(*errors: Exception | None):
    """For ``Listener.before``: raise these, one after the other, and then none."""
    waiting = list(errors)

    def before(_message: Message) -> None:
        if waiting and (error := waiting.pop(0)) is not None:
            raise error

    return before


def test_a_new_sink_is_told_what_happens_from_now_on_in_order(logbook, running) -> None:
    logbook.note(3)
    sink = Listener()
    deliveries = running(sink=sink)
    logbook.activate()
    logbook.note(150)  # more than a batch
    logbook.clear()
    deliveries.wake()
    assert deliveries.drain(told.PATIENCE_S)
    expected = [message.id for message in logbook.messages()]
    assert sink.ids == expected[-len(sink.ids) :]
    assert len(sink.ids) == len(expected) - 3 - 2  # the notes; "detector" and "mode" of the machine
    assert logbook.standing("sink")["behind"] == 0


def test_a_commit_is_told_within_milliseconds(logbook, running) -> None:
    times: dict[str, float] = {}
    sink = Listener(before=lambda message: times.setdefault(message.id, time.monotonic()))
    deliveries = running(sink=sink)
    took = []
    for count in range(1, 31):
        logbook.note(1)
        committed = time.monotonic()
        deliveries.wake()
        soon(lambda count=count: len(sink.told) == count)
        took.append(times[sink.told[-1].id] - committed)
    quarter = statistics.quantiles(took)[0]  # not the median: the computer may have other things to do
    assert quarter < 0.05  # it would be 0.12 s if nobody woke it


def test_rows_of_other_processes_are_found(logbook, running) -> None:
    """``wake`` is not called: nobody in this process knows of the row."""
    sink = Listener()
    running(sink=sink)
    soon(lambda: sink.idled)
    logbook.activate()
    soon(lambda: sink.told)
    assert sink.told[0].what == "activated"


def test_windows_are_told_to_those_who_ask_for_them(logbook, running) -> None:
    both, one = Listener(streams=("journal", "windows")), Listener()
    deliveries = running(both=both, one=one)
    logbook.hear(120)
    logbook.activate()
    assert deliveries.drain(told.PATIENCE_S)
    windows = [message.id for message in both.told if message.stream == "windows"]
    assert windows == [message.id for message in logbook.messages("windows")]
    assert one.ids == [message.id for message in both.told if message.stream == "journal"]


def test_a_sink_that_is_down_is_told_all_of_it_later_and_others_at_once(logbook, running) -> None:
    is_down = threading.Event()
    is_down.set()

    def before(_message: Message) -> None:
        if is_down.is_set():
            raise SinkDownError("nobody is there")

    slow, good = Listener(before=before), Listener()
    deliveries = running(slow=slow, good=good)
    logbook.note(5)
    deliveries.wake()
    soon(lambda: len(good.told) == 5)
    soon(lambda: logbook.standing("slow")["attempts"] >= 2)
    failing = logbook.standing("slow")
    assert (failing["error"], failing["behind"]) == ("nobody is there", 5)
    assert failing["failing_since_at"] is not None
    assert slow.told == []
    assert not deliveries.drain(timeout_s=0.0)
    is_down.clear()
    soon(lambda: slow.ids == good.ids)
    soon(lambda: logbook.standing("slow")["failing_since_at"] is None)
    works = logbook.standing("slow")
    assert (works["attempts"], works["error"], works["behind"], works["dropped"]) == (0, "", 0, 0)


def test_a_refusal_is_counted_and_passed_over(logbook, running) -> None:
    sink = Listener(before=fails_with(None, SinkRefusedError("too long"), None))
    deliveries = running(sink=sink)
    logbook.note(3)
    deliveries.wake()
    soon(lambda: len(sink.told) == 2)
    assert deliveries.drain(told.PATIENCE_S)
    first, _, third = (message.id for message in logbook.messages()[-3:])
    assert sink.ids == [first, third]
    assert logbook.standing("sink")["refused"] == 1
    assert logbook.standing("sink")["behind"] == 0


def test_what_nobody_expected_is_a_failure_too(logbook, running, caplog: pytest.LogCaptureFixture) -> None:
    sink = Listener(before=fails_with(ZeroDivisionError("a bug"), RecursionError("another")))
    deliveries = running(sink=sink)
    logbook.note(2)
    deliveries.wake()
    soon(lambda: len(sink.told) == 2)
    assert "failed in a way that nobody expected" in caplog.text
    assert "ZeroDivisionError: a bug" in caplog.text


def test_a_row_that_cannot_be_told_does_not_hold_up_the_next(
    logbook, running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = module.messages.of_journal

    def of_journal(row, site):
        if row["comment"] == "broken":
            raise KeyError("began_at")
        return made(row, site)

    monkeypatch.setattr(module.messages, "of_journal", of_journal)
    sink = Listener()
    deliveries = running(sink=sink)
    alert = logbook.activate()
    logbook.comment(alert, "broken")
    logbook.comment(alert, "whole")
    deliveries.wake()
    soon(lambda: [message.content["comment"] for message in sink.told] == ["", "whole"])
    assert "cannot be told" in caplog.text


def test_a_sink_that_is_far_behind_misses_the_oldest_and_is_told_so(
    logbook, running, caplog: pytest.LogCaptureFixture
) -> None:
    is_down = threading.Event()
    is_down.set()

    def before(_message: Message) -> None:
        if is_down.is_set():
            raise SinkDownError("nobody is there")

    sink = Listener(before=before)
    deliveries = running(most=10, sink=sink)
    logbook.note(25)
    deliveries.wake()
    soon(lambda: logbook.standing("sink")["attempts"])
    is_down.clear()
    soon(lambda: len(sink.told) >= 11)
    assert deliveries.drain(told.PATIENCE_S)
    dropped, *rest = sink.told
    assert dropped.what == "dropped"
    assert (dropped.content["dropped"], dropped.content["stream"]) == (15, "journal")
    assert [message.id for message in rest] == [message.id for message in logbook.messages()[-10:]]
    assert logbook.standing("sink")["dropped"] == 15
    assert "misses the oldest 15" in caplog.text


def test_dropped_is_counted_once_with_a_refusal_right_after_it(logbook, running) -> None:
    sink = Listener(before=fails_with(SinkDownError("down"), None, SinkRefusedError("no")))
    deliveries = running(most=10, sink=sink, backoff=Backoff(first_s=0.2, longest_s=0.2))
    logbook.note(12)
    deliveries.wake()
    soon(lambda: len(sink.told) == 1 + 9)
    assert deliveries.drain(told.PATIENCE_S)
    standing = logbook.standing("sink")
    assert (standing["dropped"], standing["refused"], standing["behind"]) == (2, 1, 0)


def test_a_sink_that_cannot_be_opened_is_opened_later(logbook, running) -> None:
    class Late(Listener):
        def open(self, site) -> None:
            super().open(site)
            if self.opened < 3:
                raise SinkDownError("not yet")

    sink = Late()
    deliveries = running(sink=sink)
    logbook.note(2)
    deliveries.wake()
    soon(lambda: len(sink.told) == 2)
    assert sink.opened == 3
    deliveries.stop()
    assert (sink.opened, sink.closed) == (3, 1)


def test_a_failure_while_nothing_is_told_is_known_and_ends(logbook, running) -> None:
    """A broker goes away and comes back on a quiet day."""
    is_down = threading.Event()
    is_down.set()

    class Quiet(Listener):
        def idle(self) -> None:
            super().idle()
            if is_down.is_set():
                raise SinkDownError("the connection is lost")

    running(sink=Quiet())
    soon(lambda: logbook.standing("sink")["failing_since_at"] is not None)
    assert logbook.standing("sink")["error"] == "the connection is lost"
    is_down.clear()
    soon(lambda: logbook.standing("sink")["failing_since_at"] is None)


def test_commits_that_are_of_no_interest_cost_nearly_nothing(
    logbook, running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of machines write windows all the time; each wakes all sinks."""
    asked_for: list[str] = []
    pending = module.cursors.pending

    def counted(c, sink, stream, **options):
        asked_for.append(sink)
        return pending(c, sink, stream, **options)

    sinks = {f"sink{number}": Listener() for number in range(4)}
    deliveries = running(**sinks)
    logbook.note(1)
    assert deliveries.drain(told.PATIENCE_S)
    monkeypatch.setattr(module.cursors, "pending", counted)
    for _ in range(20):
        logbook.hear(1)
        deliveries.wake()
    assert deliveries.drain(told.PATIENCE_S)
    assert asked_for == []
    logbook.note(1)
    assert deliveries.drain(told.PATIENCE_S)
    assert set(asked_for) == sinks.keys()
    assert all(len(sink.told) == 2 for sink in sinks.values())


def test_idle_is_called_about_once_a_second(running) -> None:
    sink = Listener()
    deliveries = running(sink=sink)
    begun = time.monotonic()
    while sink.idled < 3 and time.monotonic() < begun + told.PATIENCE_S:  # however much happens
        deliveries.wake()
        time.sleep(0.01)
    assert 3 <= sink.idled <= 2 + 2 * (time.monotonic() - begun)


def test_stop_ends_after_the_message_at_hand_and_the_next_start_goes_on(logbook, running) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def before(_message: Message) -> None:
        begun.set()
        assert go_on.wait(told.PATIENCE_S)

    slow = Listener(before=before)
    deliveries = running(sink=slow)
    logbook.note(3)
    deliveries.wake()
    assert begun.wait(told.PATIENCE_S)
    stopping = threading.Thread(target=deliveries.stop, kwargs={"timeout_s": told.PATIENCE_S})
    stopping.start()
    soon(lambda: all(courier.stopping.is_set() for courier in deliveries._couriers))
    go_on.set()
    stopping.join(told.PATIENCE_S)
    assert (len(slow.told), slow.closed) == (1, 1)
    rest = Listener()
    again = running(sink=rest)
    assert again.drain(told.PATIENCE_S)
    assert slow.ids + rest.ids == [message.id for message in logbook.messages()[-3:]]


def test_stop_does_not_wait_for_a_sink_that_hangs(logbook, running, caplog: pytest.LogCaptureFixture) -> None:
    hangs, begun = threading.Event(), threading.Event()

    def before(_message: Message) -> None:
        begun.set()
        hangs.wait(told.PATIENCE_S)

    hanging = Listener(before=before)
    deliveries = running(sink=hanging)
    logbook.note(1)
    deliveries.wake()
    assert begun.wait(told.PATIENCE_S)
    before_stop = time.monotonic()
    deliveries.stop(timeout_s=0.1)
    assert time.monotonic() - before_stop < told.PATIENCE_S / 2
    assert "sink sink is still busy" in caplog.text
    hangs.set()
    soon(lambda: hanging.closed)


def test_drain_waits_for_what_is_there(logbook, running) -> None:
    sink = Listener(streams=("journal", "windows"), before=lambda _message: time.sleep(0.002))
    deliveries = running(sink=sink)
    logbook.note(130)
    logbook.hear(130)
    assert deliveries.drain(told.PATIENCE_S)
    assert len(sink.told) == 260


def test_one_sink_that_cannot_be_made_stops_the_start(logbook) -> None:
    class Wrong:
        name = "wrong"

        def make(self):
            raise ValueError("url='x': must begin with https://")

    site = Site({"wrong": Wrong()})
    with pytest.raises(ValueError, match="must begin with https://"):
        Deliveries(site, logbook.database)


KILLED = """
import sys, time
from pathlib import Path
from types import SimpleNamespace as Some
from nearfar.logbook.database import Database
from nearfar.watching.deliveries import Deliveries
from nearfar.watching.sinks.json_lines import JsonLines

class Slow(JsonLines):
    def deliver(self, message):
        super().deliver(message)
        print(message.id, flush=True)
        time.sleep(0.002)

folder = Path(sys.argv[1])
site = Some(name="Hall 3", sinks={"lines": Some(make=lambda: Slow(folder / "told.jsonl"))})
Deliveries(site, Database.open(folder / "logbook.db")).start()
time.sleep(60)
"""


def test_a_kill_at_any_moment_loses_no_message_and_doubles_no_line(logbook, running, tmp_path: Path) -> None:
    """Kills in the middle of 400 messages, of real processes, and what is in the file at the end."""
    with logbook.database.writing() as c:
        cursors.register(c, "lines", ("journal",))
    logbook.note(400)
    rng = random.Random(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(20, 120)):
                assert process.stdout.readline()
            process.kill()
    assert 0 < logbook.standing("lines")["behind"] < 400
    assert running(lines=JsonLines(tmp_path / "told.jsonl")).drain(told.PATIENCE_S)
    lines = (tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [message.id for message in logbook.messages()[-400:]]


@pytest.mark.parametrize("attempt", [1, 2, 3, 8, 50, 10**6])
def test_waits_double_up_to_a_bound_and_half_of_them_is_random(attempt: int) -> None:
    rng = random.Random(attempt)
    waits = [Backoff(0.5, 60.0).wait_s(attempt, rng) for _ in range(200)]
    bound = min(0.5 * 2.0 ** min(attempt - 1, 20), 60.0)
    assert bound / 2 <= min(waits) < 0.55 * bound
    assert 0.95 * bound < max(waits) <= bound


@pytest.mark.parametrize(("asked", "waits"), [(5.0, 5.0), (0.0, 0.5), (1e9, 60.0)])
def test_a_receiver_may_ask_for_a_wait_within_bounds(asked: float, waits: float) -> None:
    assert Backoff(0.5, 60.0).wait_s(1, random.Random(0), asked_s=asked) == waits


def test_the_log_says_once_that_a_sink_is_down_and_once_that_it_works(
    logbook, running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = Listener(before=fails_with(SinkDownError("away"), SinkDownError("away"), SinkDownError("away")))
    deliveries = running(sink=sink)
    logbook.note(1)
    deliveries.wake()
    soon(lambda: "works again, after 3 attempts in vain" in caplog.text)
    assert caplog.text.count("is down: away") == 1
