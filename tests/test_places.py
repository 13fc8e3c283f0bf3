"""Where tasks run: addresses, failures, lost workers, logs, and how tasks travel. Ray itself: ``test_ray``."""

from __future__ import annotations

import copyreg
import errno
import itertools
import json
import logging
import os
import pickle
import re
import signal
import socket
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nearfar.files.processes import Tell
from nearfar.files.steps import DONE, Jobs
from nearfar.places import tasks
from nearfar.places.mailbox import Mailbox
from nearfar.places.place import Needs, Place, PlaceError
from nearfar.places.shipping import Here, There, pack_folder, unpack_folder
from nearfar.places.task_logs import log_of
from nearfar.places.tasks import TasksError, as_done, cores_of, each
from nearfar.places.travelling import pack, unpack


@pytest.mark.parametrize(
    "address", ["local", "ray", "auto", "10.0.0.7:6379", "ray://head:10001", "[::1]:6379"]
)
def test_addresses(address: str) -> None:
    assert Place(address).is_cluster == (address != "local")


@pytest.mark.parametrize(
    "address", ["", "Ray", "head", "ray://head", "head:0", "head:66000", "http://head:1", "a b:1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match=r"expected local \(worker processes\), ray .*, auto .*, HOST:PORT"):
        Place(address)


def test_needs_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="more than 0 cores"):
        Needs(cores=0)
    with pytest.raises(ValueError, match="no less than 0 of memory and GPUs"):
        Needs(gpus=-1)
    with pytest.raises(ValueError, match=r"gpus=1\.5: above 1 they must be whole"):
        Needs(gpus=1.5)
    with pytest.raises(ValueError, match="workers=0"):
        Place(workers=0)
    with pytest.raises(ValueError, match=r"tasks that need 1 core, 0\.5 GPU are for a cluster"):
        Place(needs=Needs(gpus=0.5))
    assert str(Needs(2, 3 * 2**30, 2)) == "2 cores, 3 GiB, 2 GPU"


def test_a_head_that_does_not_answer_is_told_at_once() -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(PlaceError, match=rf"place '127\.0\.0\.1:{port}': nobody answers there"):
        each(double, [1, 2], workers=Place(f"127.0.0.1:{port}"))


def test_a_place_that_cannot_be_a_cache_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        each(double, [1, 2], cache=tmp_path / "file" / "cache")


def test_of_a_long_error_the_first_lines_are_told() -> None:
    errors = [ValueError("\n".join(["30 problems:", *map(str, range(30))])), ValueError("one")]
    for error, name in zip(errors, ("fan", "pump"), strict=True):
        error.add_note(name)
    told = str(TasksError("2 tasks failed", errors)).splitlines()
    assert told[1:3] == ["  fan: 30 problems:", "  0"]
    assert told[-2:] == ["    and 25 more lines, which its log has", "  pump: one"]


# ---- failures, and lost workers ----


def double(item: int, tell: Tell) -> int:
    tell("doubling", item)
    return 2 * item


def fail_at_odd(item: int, _: Tell) -> int:
    if item % 2:
        raise ValueError(f"{item} is odd")
    return item


def full(item: int, _: Tell) -> int:
    if item == 1:
        raise OSError(errno.ENOSPC, "No space left on device", "there")
    return item


class OddError(Exception):
    """One that cannot be sent: it takes two arguments, and keeps one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def fail_oddly(_: int, __: Tell) -> None:
    raise OddError("so", "odd")


def killed_at_first(item: tuple[Path, int], _: Tell) -> int:
    """Its worker is killed, the first time."""
    folder, number = item
    marks = len([*folder.glob(f"{number}-*")])
    (folder / f"{number}-{marks}").touch()
    if number % 3 == 0 and marks < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def collect(into: list[Any], *arguments: Any, **options: Any) -> None:
    """What was done before an error."""
    for outcome in as_done(*arguments, **options):
        into.append(outcome)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_fails_does_not_end_the_others(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    done: list[tuple[int, int]] = []
    with pytest.raises(TasksError, match="2 of 5 tasks failed") as raised:
        collect(done, fail_at_odd, range(5), workers=workers, named=lambda item: f"number {item}")
    assert sorted(done) == [(0, 0), (2, 2), (4, 4)]
    assert str(raised.value).splitlines() == [
        "2 of 5 tasks failed", "  number 1: 1 is odd", "  number 3: 3 is odd",
    ]  # fmt: skip
    assert [type(error) for error in raised.value.exceptions] == [ValueError, ValueError]
    assert re.search("number [13] failed; the others go on", caplog.text)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_only_failure_is_raised_itself_with_the_name_of_its_task(workers: int) -> None:
    with pytest.raises(ValueError, match="1 is odd") as raised:
        each(fail_at_odd, [0, 1, 2], workers=workers, named=lambda item: f"number {item}")
    assert raised.value.__notes__ == ["number 1"]
    assert "fail_at_odd" in "".join(traceback.format_exception(raised.value))  # where it was raised


def test_a_full_disk_ends_everything() -> None:
    done: list[tuple[int, int]] = []
    with pytest.raises(OSError, match="No space left") as raised:
        collect(done, full, itertools.count(), workers=1)
    assert raised.value.filename == "there"
    assert done == [(0, 0)]


def test_an_error_that_cannot_be_sent_is_told() -> None:
    with pytest.raises(TasksError, match="2 of 2") as raised:
        each(fail_oddly, [1, 2], workers=2)
    assert "  item 1; item 2: OddError: so odd" in str(raised.value)  # what is the same is said once


def test_the_task_of_a_worker_that_was_killed_runs_again(tmp_path: Path) -> None:
    finished: list[tuple[int, int]] = []
    items = [(tmp_path, number) for number in range(7)]
    found = each(killed_at_first, items, workers=2, finished=lambda *count: finished.append(count))
    assert found == list(range(7))
    assert finished == [(number, 7) for number in range(1, 8)]


def kill_or_not(item: int, _: Tell) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item


def test_only_the_task_that_kills_its_worker_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_KILLED", 2)
    done: list[tuple[int, int]] = []
    with pytest.raises(OSError, match="its worker process was killed 2 times") as raised:
        collect(done, kill_or_not, range(6), workers=3)
    assert raised.value.__notes__ == ["item 2"]
    assert sorted(done) == [(number, number) for number in (0, 2, 3, 4, 5)]


def test_cores_of_a_place_that_is_not_joined_are_its_workers() -> None:
    assert cores_of(Place(workers=3)) == 3
    assert cores_of(Place("ray", workers=2)) == 2


def test_a_task_that_loses_workers_as_others_do_is_not_blamed_soon() -> None:
    queue: Any = tasks._Queue(iter(()), is_known=True)
    one, other = (tasks._Task(number, number, str(number)) for number in range(2))
    lost = 0
    while queue.take_back(one):
        lost += 1
        assert queue.take_back(other)
        assert lost < 2 * tasks.MOST_BY_CHANCE
    assert lost == tasks.MOST_BY_CHANCE - 1
    alone: Any = tasks._Queue(iter(()), is_known=True)
    third = tasks._Task(3, 3, "3")
    assert [alone.take_back(third) for _ in range(tasks.MOST_KILLED)] == [True] * (tasks.MOST_KILLED - 1) + [
        False
    ]


def test_items_are_taken_as_workers_are_free() -> None:
    taken = []

    def items() -> Any:
        for number in itertools.count():
            taken.append(number)
            yield number

    outcomes = as_done(double, items(), workers=2)
    assert len({number for number, _ in itertools.islice(outcomes, 20)}) == 20
    outcomes.close()
    assert len(taken) <= 24


# ---- logs ----


def talk(item: int, _: Tell) -> int:
    logging.getLogger("nearfar.somewhere").info("fine %d", item)
    logging.getLogger("nearfar.somewhere").warning("strange %d", item)
    if item == 3:
        warnings.warn("of a library", stacklevel=1)
        raise KeyError("gone")
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_each_task_has_a_log(tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture) -> None:
    context = pytest.warns(UserWarning, match="of a library") if workers == 1 else warnings.catch_warnings()
    with context, pytest.raises(KeyError, match="gone"):
        each(talk, [1, 2, 3], workers=workers, named=lambda item: f"fan, seed {item}", cache=tmp_path)
    first, third = (log_of(tmp_path, __name__, f"fan, seed {item}").read_text() for item in (1, 3))
    assert "fan, seed 1: begun on " in first
    assert "INFO nearfar.somewhere: fine 1" in first or workers == 1
    assert "WARNING nearfar.somewhere: strange 1" in first
    assert "finished after 0.0 s" in first
    assert "failed after 0.0 s\nTraceback (most recent call last):" in third
    assert "KeyError: 'gone'" in third
    assert {f"strange {item}" for item in (1, 2, 3)} <= {record.getMessage() for record in caplog.records}


def test_names_of_logs(tmp_path: Path) -> None:
    plain, *others = (
        log_of(tmp_path, "nearfar.research.experiment", name)
        for name in ("fan, seed 1", "../fan", "a" * 300, "fän")
    )
    assert plain == tmp_path / "logs" / "experiment" / "fan,_seed_1.log"
    assert len({plain, *others}) == 4
    assert all(
        path.parent == plain.parent and len(path.name) < 120 and path.name.isascii() for path in others
    )


# ---- how tasks travel ----


@dataclass(frozen=True)
class Elsewhere:
    """A computer whose files have other names."""

    root: Path

    def in_cache(self, relative: str) -> Path:
        return self.root / "cache" / relative

    def file(self, told: str, size: int, changed: int) -> Path:
        assert (size, changed) == (Path(told).stat().st_size, Path(told).stat().st_mtime_ns)
        return self.root / "files" / Path(told).name


class OtherPickler(pickle.Pickler):
    """With a table of its own, as that of Ray."""

    dispatch_table = copyreg.dispatch_table.copy()


@pytest.mark.parametrize("pickler", [pickle.Pickler, OtherPickler])
def test_paths_mean_the_same_elsewhere(tmp_path: Path, pickler: type[pickle.Pickler]) -> None:
    cache, clip = tmp_path / "own", tmp_path / "clip.wav"
    clip.write_bytes(b"sound")
    names: list[str] = []
    content = {
        "clip": clip,
        "cache": cache,
        "step": (cache / "jobs" / "a",),
        "new": tmp_path / "new",
        "text": "cache",
    }
    found = unpack(pack(content, cache=cache, pickler=pickler, names=names), Elsewhere(Path("there")))
    assert found == {
        "clip": Path("there/files/clip.wav"), "cache": Path("there/cache"), "step": (Path("there/cache/jobs/a"),),
        "new": tmp_path / "new", "text": "cache",
    }  # fmt: skip
    assert names == [str(clip)]
    assert pickle.loads(pickle.dumps(content)) == content  # elsewhere in the process paths are as ever


@pytest.fixture
def driver(tmp_path: Path) -> There:
    (tmp_path / "driver").mkdir()
    return There(tmp_path / "driver")


@pytest.fixture
def worker(tmp_path: Path, driver: There) -> Here:
    return Here(tmp_path / "worker", False, lambda request: driver.answer(*request))


class SlowDict(dict[str, int]):
    """Lets other threads in between a look and what is written after it."""

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key, default)
        time.sleep(0.01)
        return found


def test_files_are_those_of_tasks_in_hand_whichever_thread_counts(driver: There) -> None:
    driver.files = SlowDict()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(driver.name, [["a", "b"]] * 4))
    assert driver.files == {"a": 4, "b": 4}
    driver.forget(["a"])
    for _ in range(4):
        driver.forget(["b"])
    assert driver.files == {"a": 3}


def test_a_recording_that_is_not_there_is_sent_once(tmp_path: Path, driver: There, worker: Here) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(os.urandom(1000))
    driver.files[str(clip)] = 1
    status = clip.stat()
    assert worker.file(str(clip), status.st_size, status.st_mtime_ns) == clip  # it sees it
    os.utime(clip, ns=(0, 0))
    assert worker.file(str(clip), status.st_size, status.st_mtime_ns) == clip  # the same bytes
    moved = clip.rename(tmp_path / "moved")
    driver.files[str(moved)] = 1
    asked: list[tuple[str, Any]] = []

    def ask(request: tuple[str, Any]) -> Any:  # as if the driver had it under a name that the worker has not
        asked.append(request)
        what, of = request
        return driver.answer(what, str(moved) if what == "digest" else (str(moved), of[1]))

    for _ in range(2):
        found = replace(worker, ask=ask, found={}).file(str(clip), status.st_size, status.st_mtime_ns)
        assert (found.name, found.read_bytes()) == ("clip.wav", moved.read_bytes())
        assert tmp_path / "worker" in found.parents
    assert [what for what, _ in asked] == ["digest", "bytes", "digest"]


def test_a_recording_that_changes_while_it_is_sent_is_told_and_not_kept(
    tmp_path: Path, driver: There, worker: Here
) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(os.urandom(1000))
    driver.files[str(clip)] = 1

    def ask(request: tuple[str, Any]) -> Any:
        answer = driver.answer(*request)
        return answer[::-1] if request[0] == "bytes" else answer

    with pytest.raises(OSError, match=r"clip\.wav: changed .* while it was sent; run again"):
        replace(worker, ask=ask).file(str(clip), 999, 0)
    assert [
        path for path in (tmp_path / "worker").rglob("*") if path.is_file() and path.suffix != ".sqlite"
    ] == []


def test_steps_go_there_and_back(
    tmp_path: Path, driver: There, worker: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("made")
        made.append(folder)

    made: list[Path] = []
    there = Jobs(driver.cache)
    told = {"inputs": {"a": 1}, "made_by": ["nearfar.files.names"]}
    there.do("score", make=make, **told)
    monkeypatch.setattr("nearfar.files.steps.exchange", worker)
    here = Jobs(worker.cache)
    assert (here.do("score", make=make, **told) / "inner" / "a").read_text() == "made"
    assert len(made) == 1  # it came from the driver
    folder = here.do("score", {"a": 2}, make, made_by=told["made_by"])
    assert len(made) == 2
    monkeypatch.setattr("nearfar.files.steps.exchange", None)
    again = there.do("score", {"a": 2}, make, made_by=told["made_by"])
    assert len(made) == 2  # it went back
    assert json.loads((again / DONE).read_text()) == json.loads((folder / DONE).read_text())
    monkeypatch.setattr("nearfar.files.steps.exchange", replace(worker, cache=tmp_path / "another"))
    place = replace(worker, cache=tmp_path / "third").in_cache(
        (folder / "inner" / "a").relative_to(here.root).as_posix()
    )
    assert place.read_text() == "made"  # a path into a step brings the step


def test_a_worker_gets_nothing_else(tmp_path: Path, driver: There) -> None:
    (tmp_path / "secret").write_text("secret")
    for request in (
        ("digest", str(tmp_path / "secret")), ("bytes", (str(tmp_path / "secret"), 0)), ("step", "../secret"),
        ("step", "jobs/a/../../.."), ("keep", ("logs/a/b/c", b"")), ("run", "this"),
    ):  # fmt: skip
        with pytest.raises(
            PermissionError, match=r"no task names this file|no place of a|nothing that a worker may"
        ):
            driver.answer(*request)


def test_a_folder_of_a_worker_is_whole_or_absent(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / DONE).write_text("{}")
    packed = pack_folder(tmp_path / "from")
    assert packed == pack_folder(tmp_path / "from")
    with pytest.raises(Exception, match=r"truncated|unexpected end|empty|invalid|read"):
        unpack_folder(packed[:100], tmp_path / "to")
    assert not (tmp_path / "to").exists()
    unpack_folder(packed, tmp_path / "to")
    assert (tmp_path / "to" / DONE).read_text() == "{}"


def test_a_cache_that_both_see_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path / "own"))
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / ".mark").touch()
    seen = Here.of(str(tmp_path / "driver"), ".mark", lambda _: None)
    other = Here.of(str(tmp_path / "driver"), ".other", lambda _: None)
    assert (seen.cache, seen.is_shared) == (tmp_path / "driver", True)
    assert (other.cache, other.is_shared) == (tmp_path / "own", False)
    assert not Here.of(None, ".mark", lambda _: None).is_shared


def test_messages_keep_their_order() -> None:
    import asyncio

    async def talk() -> None:
        box = Mailbox()
        await box.tell([("a", 1)])
        asking = asyncio.create_task(box.ask("why"))
        await asyncio.sleep(0)
        first = await box.take()
        assert [message for _, message in first] == [[("a", 1)], "why"]
        await box.answer(first[1][0] or 0, "because")
        await box.answer(99, "nobody asked")
        assert await asking == "because"
        await box.tell([("b", 2)])
        assert await box.rest() == [(None, [("b", 2)])]
        assert await box.rest() == []

    asyncio.run(talk())


def test_the_error_of_a_place_ends_everything() -> None:
    def refuse(item: int, _: Tell) -> int:
        started.append(item)
        raise PlaceError("another version")

    started: list[int] = []
    with pytest.raises(PlaceError, match="another version"):
        tasks.each(refuse, range(3))
    assert started == [0]
