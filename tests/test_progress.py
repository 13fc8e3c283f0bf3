"""What long work says where no bars can be drawn, by a clock that the test sets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nearfar.cli.progress import MAX_SILENCE, ProgressLines

WORK = """
import signal, sys, time, typer
from nearfar.cli.console import TERMINATED
from nearfar.cli import progress
progress.MAX_SILENCE = 0.2
signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # as program.main does
try:
    with progress.shown_progress("All of it was kept.") as told:
        told("training", 1, 4)
        time.sleep(60)
except typer.Exit as exit:
    sys.exit(exit.exit_code)
"""


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def told(clock: Clock, lines: list[str]) -> ProgressLines:
    return ProgressLines(lines.append, clock=clock)


def test_a_finished_step_is_a_line(told: ProgressLines, lines: list[str]) -> None:
    for done in (1, 2, 3):
        told("reading", done, 3)
    told("[fan]: training", 5, 5)
    assert lines == ["reading: 3 done", "[fan]: training: 5 done"]


def test_a_running_step_is_a_line_every_thirty_seconds(
    told: ProgressLines, lines: list[str], clock: Clock
) -> None:
    assert MAX_SILENCE == 30
    for done in range(1, 91):  # one a second
        clock.now += 1
        told("training", done, 600)
        told.report()
    assert lines == [
        "training: 30 of 600, about 10 min left",
        "training: 60 of 600, about 9 min left",
        "training: 90 of 600, about 8 min left",
    ]


def test_what_is_left_counts_down_while_an_item_takes_long(
    told: ProgressLines, lines: list[str], clock: Clock
) -> None:
    told("training", 1, 4)
    clock.now += 60
    told("training", 2, 4)  # a minute each
    for _ in range(3):
        clock.now += 30
        told.report()
    assert lines == [
        "training: 2 of 4, about 90 s left",
        "training: 2 of 4, about 60 s left",
        "training: 2 of 4, about 60 s left",  # the third is late, but the fourth will take a minute
    ]


def test_there_is_a_sign_of_life_before_the_first_item(
    told: ProgressLines, lines: list[str], clock: Clock
) -> None:
    for _ in range(5):
        clock.now += 30
        told.report()
    told("training", 1, 4)
    clock.now += 30
    told.report()
    assert lines == [
        "still working, 30 s so far",
        "still working, 60 s so far",
        "still working, 90 s so far",
        "still working, 2 min so far",
        "still working, 2 min so far",
        "training: 1 of 4",  # how long an item takes is not known yet
    ]


def test_nothing_is_said_soon_after_a_line(told: ProgressLines, lines: list[str], clock: Clock) -> None:
    clock.now += 29
    told("reading", 3, 3)
    clock.now += 29
    told("training", 1, 2)
    told.report()
    assert lines == ["reading: 3 done"]
    clock.now += 1
    told.report()
    assert lines == ["reading: 3 done", "training: 1 of 2"]


def test_all_steps_that_move_are_told_else_the_last_one(
    told: ProgressLines, lines: list[str], clock: Clock
) -> None:
    told("fan: training", 1, 5)
    told("pump: training", 1, 5)
    clock.now += 15
    told("fan: training", 2, 5)
    told("pump: training", 2, 5)
    clock.now += 15
    told.report()
    clock.now += 10
    told("pump: training", 3, 5)
    clock.now += 20
    told.report()
    clock.now += 30
    told.report()
    assert lines == [
        "fan: training: 2 of 5, about 30 s left; pump: training: 2 of 5, about 30 s left",
        "pump: training: 3 of 5, about 20 s left",
        "pump: training: 3 of 5, about 20 s left",
    ]


def test_hours_are_told_as_hours(told: ProgressLines, lines: list[str], clock: Clock) -> None:
    told("training", 0, 100)
    clock.now += 600
    told("training", 1, 100)
    told.report()
    assert lines == ["training: 1 of 100, about 16 h left"]


def test_a_thread_reports_until_the_body_ends() -> None:
    lines: list[str] = []
    told = ProgressLines(lines.append, max_silence=0.05)
    with told.reporting():
        told("training", 1, 4)
        deadline = time.monotonic() + 30
        while len(lines) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    n_lines = len(lines)
    assert n_lines >= 3
    assert set(lines) == {"training: 1 of 4"}
    time.sleep(0.2)
    assert len(lines) == n_lines
    assert not [thread for thread in threading.enumerate() if "_report_until" in thread.name]


def test_a_reader_who_has_gone_ends_the_reports() -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    told = ProgressLines(closed, max_silence=0.01)
    with told.reporting():  # pytest makes an error of an exception in a thread
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGINT, "Interrupted", 130), (signal.SIGTERM, "Terminated", 143)]
)
def test_a_signal_ends_silent_work_at_once(number: int, word: str, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WORK],
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"training: 1 of 4\n"
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert said.endswith(f"{word}. All of it was kept.\n".encode())
    assert process.returncode == code
