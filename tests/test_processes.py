"""Worker processes: order, progress, failures, and that none outlives its parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from nearfar.files import processes
from nearfar.files.processes import Aside, Tell
from nearfar.places import tasks


@pytest.fixture(autouse=True)
def new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of ``forked_workers``."""
    monkeypatch.setattr(processes, "ProcessPoolExecutor", ProcessPoolExecutor)


def double(item: int, tell: Tell) -> int:
    tell("doubling", item)
    return 2 * item


def fail_at_three(item: int, _: Tell) -> int:
    if item == 3:
        raise ValueError(f"item {item} is bad")
    return item


def kill_oneself(_: int, __: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def process_id(_: int, __: Tell) -> int:
    time.sleep(0.2)
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_outcomes_come_in_order_and_all_that_is_told_arrives(workers: int) -> None:
    told: list[tuple[str, int]] = []
    found = tasks.each(double, range(10), workers=workers, tell=lambda *message: told.append(message))
    assert found == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert sorted(told) == [("doubling", item) for item in range(10)]


def tell_nothing(item: int, tell: Tell) -> int:
    tell()
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_that_something_is_done_may_be_all_that_is_told(workers: int) -> None:
    told: list[tuple[object, ...]] = []
    tasks.each(tell_nothing, range(3), workers=workers, tell=lambda *message: told.append(message))
    assert told == [(), (), ()]


def test_nothing_gives_nothing() -> None:
    assert tasks.each(double, [], workers=4) == []


def test_one_item_needs_no_other_process() -> None:
    assert tasks.each(process_id, [1], workers=4) == [os.getpid()]


def test_several_processes_work() -> None:
    ids = tasks.each(process_id, range(6), workers=2)
    assert len(set(ids)) == 2
    assert os.getpid() not in ids


def test_finished_items_are_counted() -> None:
    counts: list[tuple[int, int]] = []
    tasks.each(double, range(4), workers=2, finished=lambda *count: counts.append(count))
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match="item 3 is bad"):
        tasks.each(fail_at_three, range(10), workers=workers)


def test_a_worker_that_was_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_KILLED", 2)
    with pytest.raises(tasks.TasksError, match="2 of 2 tasks failed") as raised:
        tasks.each(kill_oneself, [1, 2], workers=2)
    told = "item 1; item 2: its worker process was killed 2 times, .* run again with fewer workers"
    assert re.search(told, str(raised.value))


ONE_IS_KILLED = """
import os, signal, sys, time
from pathlib import Path
from nearfar.files import processes
from nearfar.places import tasks

def work(item, tell):
    idle = Path(sys.argv[1])
    if item == 0:
        while not idle.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    processes.SECONDS_TO_CLEAN_UP = 0.2  # of this worker
    idle.touch()

if __name__ == "__main__":
    tasks.SUSPECT_AFTER = tasks.MOST_KILLED = 1
    begun = time.monotonic()
    try:
        tasks.each(work, [0, 1], workers=2)
    except OSError as error:
        print(str(error)[:29], time.monotonic() - begun < processes.SECONDS_TO_CLEAN_UP)
"""


def test_an_idle_worker_ends_when_another_was_killed(tmp_path: Path) -> None:
    """It ignores the signal of the pool. From Python 3.12 on the parent waited, too, and for ever."""
    script = tmp_path / "script.py"
    script.write_text(ONE_IS_KILLED)
    command = [sys.executable, script, tmp_path / "idle"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("its worker process was killed True\n", "")


@pytest.fixture
def of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_stopped", False)
    monkeypatch.setattr(processes, "_busy", False)


@pytest.mark.usefixtures("of_a_worker")
def test_a_worker_that_was_told_to_end_begins_nothing_new() -> None:
    processes._stop(signal.SIGTERM, None)
    with pytest.raises(SystemExit, match="stopped"):
        processes._in_worker(double, 1)


@pytest.mark.usefixtures("of_a_worker")
def test_only_the_first_signal_ends_an_item_and_none_ends_an_idle_worker() -> None:
    """An exception in a worker that is already leaving made it wait for ever for its own messages."""
    cleaned = []

    def interrupted(_: int, __: Tell) -> None:
        try:
            processes._stop(signal.SIGTERM, None)
        finally:
            processes._stop(signal.SIGTERM, None)  # the next signal must not cut cleaning up short
            cleaned.append(True)

    with pytest.raises(SystemExit, match="stopped"):
        processes._in_worker(interrupted, 1)
    assert cleaned
    processes._stop(signal.SIGTERM, None)


HAIL_OF_SIGNALS = """
import multiprocessing, os, signal, sys, time
from threading import Thread
from nearfar.files import processes
from nearfar.places import tasks

def tell_much(item, tell):
    for number in range(10000):
        tell("told", item, number)

def hail():
    for _ in range(300):
        for child in multiprocessing.active_children():
            child.terminate()
        time.sleep(0.002)

heard = set()
def told(_, item, number):
    if item not in heard:
        heard.add(item)
        if len(heard) == 2:  # both workers are at work
            Thread(target=hail).start()
            os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    try:
        tasks.each(tell_much, range(20), workers=2, tell=told)
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
def test_workers_end_in_a_hail_of_signals(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(HAIL_OF_SIGNALS)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_hear_ctrl_c
    ) as process:
        try:
            said, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert said == b"interrupted\n"
    assert b"Traceback" not in errors


def _hear_ctrl_c() -> None:
    """A test run in the background is told to ignore Ctrl-C, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, sys, time
from pathlib import Path
from nearfar.files import processes
from nearfar.places import tasks

def sleep(item, tell):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    tasks.each(sleep, [1, 2], workers=2)
"""
    )
    (tmp_path / "ids").mkdir()
    parent = subprocess.Popen([sys.executable, script, tmp_path / "ids"])
    ids = _wait(lambda: len(list((tmp_path / "ids").iterdir())) == 2)
    assert ids
    parent.kill()
    parent.wait()
    workers = [int(path.name) for path in (tmp_path / "ids").iterdir()]
    assert _wait(lambda: not any(_lives(worker) for worker in workers))


def _wait(condition, seconds: float = 30.0) -> bool:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_a_process_aside_calls_one_function_after_the_other() -> None:
    aside = Aside()
    try:
        first, second = aside.call(_who), aside.call(_who)
        assert first == second != os.getpid()
        with pytest.raises(ZeroDivisionError, match="by zero"):
            aside.call(divmod, 1, 0)
        assert aside.call(divmod, 7, 2) == (3, 1)
    finally:
        aside.close()


def test_a_process_aside_that_is_killed_is_replaced() -> None:
    aside = Aside()
    try:
        first = aside.call(_who)
        with pytest.raises(OSError, match="its process was killed"):
            aside.call(os.kill, first, signal.SIGKILL)
        assert aside.call(_who) != first
    finally:
        aside.close()


def test_a_process_aside_ends_with_its_parent() -> None:
    code = """
import os, signal
from nearfar.files.processes import Aside
if __name__ == "__main__":
    print(Aside().call(os.getpid), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid = int(parent.stdout)
    until = time.monotonic() + 30
    while time.monotonic() < until and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def _who() -> int:
    return os.getpid()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
