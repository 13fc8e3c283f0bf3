"""Files and folders are whole or absent, and a finished step is found again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.files import arrays, atomic, provenance, steps
from nearfar.files.atomic import atomic_file, atomic_folder, resumable_folder
from nearfar.files.digests import digest, digest_file
from nearfar.files.steps import Jobs

MADE_BY = ("nearfar.files.digests",)  # any module
few = settings(max_examples=40, deadline=None)
names = st.text("abc", max_size=2)
numbers = st.integers(-2, 2) | st.sampled_from([0.5, 1.0, 1e300])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "cache")


@pytest.fixture
def disk_full(monkeypatch):
    """From here on nothing reaches the disk."""

    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(steps.os, "fsync", fsync)


def contents(folder: Path) -> dict[str, str]:
    """Every file below the folder, hidden ones too."""
    return {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}


def write(text: str):
    def make(folder: Path) -> None:
        (folder / "a.txt").write_text(text)

    return make


# atomic_file


def test_a_file_appears_at_the_end_and_in_new_folders(tmp_path):
    path = tmp_path / "x" / "y" / "a.txt"
    with atomic_file(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert contents(tmp_path) == {"x/y/a.txt": "whole"}


def test_a_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"a.txt": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}])
def test_an_interrupted_file_leaves_what_was_there(tmp_path, before, error):
    for name, text in before.items():
        (tmp_path / name).write_text(text)

    def interrupted() -> None:
        with atomic_file(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise error("half way")

    with pytest.raises(error, match="half way"):
        interrupted()
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("disk_full")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        atomic.write_json(tmp_path / "a.json", {"x": 1})
    assert contents(tmp_path) == {"a.json": "old"}


def test_files_and_folders_have_the_permissions_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "a.txt"):
            pass
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


# atomic_folder


def test_a_folder_appears_at_the_end(tmp_path):
    with atomic_folder(tmp_path / "new") as part:
        (part / "sub").mkdir()
        (part / "sub" / "a.txt").write_text("whole")
        assert not (tmp_path / "new").exists()
    assert contents(tmp_path) == {"new/sub/a.txt": "whole"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("replace", [False, True])
def test_an_interrupted_folder_leaves_what_was_there(tmp_path, replace, error):
    if replace:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "a.txt").write_text("old")
    before = contents(tmp_path)

    def interrupted() -> None:
        with atomic_folder(tmp_path / "kept", replace=replace) as part:
            (part / "a.txt").write_text("half")
            raise error("half way")

    with pytest.raises(error, match="half way"):
        interrupted()
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["kept"] * replace


@pytest.mark.usefixtures("disk_full")
def test_a_full_disk_leaves_the_old_folder(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a.txt").write_text("old")
    with (
        pytest.raises(OSError, match="No space left"),
        atomic_folder(tmp_path / "kept", replace=True) as part,
    ):
        (part / "a.txt").write_text("new")
    assert contents(tmp_path) == {"kept/a.txt": "old"}


def test_a_folder_is_replaced_when_asked_for(tmp_path):
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "folder", replace=True) as part:
            (part / f"{text}.txt").write_text(text)
    assert contents(tmp_path) == {"folder/new.txt": "new"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_there_is_not_replaced_unasked(tmp_path):
    entered = False
    with (
        pytest.raises(FileExistsError, match="is there already; choose another name, or remove it first"),
        atomic_folder(tmp_path),
    ):
        entered = True
    assert not entered


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    old = tmp_path / "folder"
    old.mkdir()
    (old / "a.txt").write_text("old")
    rename = Path.rename

    def fails_for_the_new_one(self, target):
        if self.suffix == ".part":
            raise OSError(errno.EIO, "no rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="no rename"), atomic_folder(old, replace=True) as part:
        (part / "a.txt").write_text("new")
    assert contents(tmp_path) == {"folder/a.txt": "old"}


# digests


@few
@given(st.dictionaries(names, json_values, max_size=6), st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_the_order_of_keys(content, shuffler):
    keys = list(content)
    shuffler.shuffle(keys)
    assert digest({k: content[k] for k in keys}) == digest(content)


@few
@given(json_values, json_values)
def test_digests_differ_when_json_differs(a, b):
    said = [json.dumps(x, sort_keys=True) for x in (a, b)]
    assert (digest(a) == digest(b)) == (said[0] == said[1])


def test_a_digest_refuses_what_json_cannot_say():
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"x": float("nan")})


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # of FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_file(tmp_path / "a") == expected


def test_equal_content_is_equal_json(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"b": 1, "a": [2.5, None]})
    atomic.write_json(tmp_path / "b.json", {"a": [2.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": [2.5, None]}


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are really read for their digest."""
    names = []

    def counted(path):
        names.append(path.name)
        return digest_file(path)

    monkeypatch.setattr(steps, "digest_file", counted)
    return names


def test_digests_of_files_are_remembered(tmp_path, jobs, hashed):
    for name in "ab":
        (tmp_path / name).write_text(name)
    first = jobs.digests_of([tmp_path / "a", tmp_path / "b"])
    again = Jobs(jobs.root).digests_of([tmp_path / "b", tmp_path / "a"])
    assert first == [digest_file(tmp_path / "a"), digest_file(tmp_path / "b")]
    assert again == first[::-1]
    assert hashed == ["a", "b"]


def test_threads_read_files_for_their_digests_and_all_are_remembered(tmp_path, jobs, hashed, monkeypatch):
    monkeypatch.setattr(steps, "DIGESTS_AT_ONCE", 3)
    paths = [tmp_path / str(i) for i in range(8)]
    for path in paths:
        path.write_text(path.name)
    found = jobs.digests_of([*paths, *paths], workers=3)
    assert found == 2 * [digest_file(path) for path in paths]
    assert jobs.known_digests(paths) == found[:8]
    assert sorted(hashed) == [path.name for path in paths]


@pytest.mark.parametrize("text", ["longer than before", "two"])
def test_a_changed_file_has_another_digest(tmp_path, jobs, text):
    file = tmp_path / "a"
    file.write_text("one")
    os.utime(file, ns=(10**9, 10**9))
    before = jobs.digests_of([file])
    file.write_text(text)
    os.utime(file, ns=(10**9, 10**9 + (len(text) == 3)))  # the longer one is told by its size alone
    assert jobs.digests_of([file]) == [digest_file(file)] != before


def test_a_missing_file_has_no_digest(tmp_path, jobs, hashed):
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError, match=r"No such file.*none"):
        jobs.digests_of([tmp_path / "a", tmp_path / "none"])
    assert hashed == []  # it is told before anything is read


# the cache


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv(steps.CACHE_VARIABLE, str(tmp_path))
    assert steps.default_cache() == Jobs().root == tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_the_cache_lies_where_the_operating_system_says(monkeypatch, value):
    monkeypatch.delenv(steps.CACHE_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(steps.CACHE_VARIABLE, value)
    monkeypatch.setattr(steps.platformdirs, "user_cache_path", lambda name: Path("/caches") / name)
    assert steps.default_cache() == Jobs().root == Path("/caches/nearfar")


def test_a_step_is_done_once(jobs):
    inputs = {"x": 1, "y": [2.5, "z"]}
    assert not (jobs.folder("step", inputs, made_by=MADE_BY) / steps.DONE).is_file()
    folder = jobs.do("step", inputs, write("first"), made_by=MADE_BY)
    assert (jobs.folder("step", inputs, made_by=MADE_BY) / steps.DONE).is_file()
    assert folder == jobs.do("step", dict(reversed(inputs.items())), write("second"), made_by=MADE_BY)
    assert (folder / "a.txt").read_text() == "first"
    assert json.loads((folder / steps.DONE).read_text())["inputs"] == inputs


def test_a_folder_without_the_mark_of_a_finished_step_is_made_again(jobs):
    folder = jobs.do("step", {}, write("whole"), made_by=MADE_BY)
    (folder / steps.DONE).unlink()
    assert not (jobs.folder("step", {}, made_by=MADE_BY) / steps.DONE).is_file()
    assert (jobs.do("step", {}, write("again"), made_by=MADE_BY) / "a.txt").read_text() == "again"
    assert (jobs.folder("step", {}, made_by=MADE_BY) / steps.DONE).is_file()


def test_other_inputs_another_step_and_other_code_lie_elsewhere(jobs, monkeypatch):
    folders = {
        jobs.folder("step", {"x": 1}, made_by=MADE_BY),
        jobs.folder("step", {"x": 2}, made_by=MADE_BY),
        jobs.folder("other", {"x": 1}, made_by=MADE_BY),
        jobs.folder("step", {"x": 1}, made_by=["nearfar.files.atomic"]),
    }
    monkeypatch.setattr(steps, "code_digest", lambda *_: "changed")
    assert len(folders | {jobs.folder("step", {"x": 1}, made_by=MADE_BY)}) == 5


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_step_is_done_again(jobs, error):
    def interrupted(folder: Path) -> None:
        write("half")(folder)
        raise error("half way")

    with pytest.raises(error, match="half way"):
        jobs.do("step", {}, interrupted, made_by=MADE_BY)
    assert not (jobs.folder("step", {}, made_by=MADE_BY) / steps.DONE).is_file()
    assert contents(jobs.root) == {}
    assert (jobs.do("step", {}, write("whole"), made_by=MADE_BY) / "a.txt").read_text() == "whole"


@pytest.mark.usefixtures("disk_full")
def test_a_step_on_a_full_disk_is_not_done(jobs):
    with pytest.raises(OSError, match="No space left"):
        jobs.do("step", {}, write("lost"), made_by=MADE_BY)
    assert contents(jobs.root) == {}


# cleaning


def test_finished_steps_are_found_again(jobs):
    folder = jobs.do("step", {"x": 1}, write("12345"), made_by=MADE_BY)
    (found,) = jobs.finished()
    assert (found.folder, found.step, found.code) == (folder, "step", provenance.code_digest(*MADE_BY))
    assert found.size > len("12345") + (folder / steps.DONE).stat().st_size
    assert jobs.leftovers() == Jobs(jobs.root / "none").finished() == []


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_step_that_does_not_tell_its_code_is_of_none(jobs, content):
    folder = jobs.do("step", {"x": 1}, write("whole"), made_by=MADE_BY)
    (folder / steps.DONE).unlink()
    if content is not None:
        (folder / steps.DONE).write_text(content)
    assert [job.code for job in jobs.finished()] == [""]


@pytest.mark.parametrize("name", [".{}.0123.part", ".{}.0123.old", "{}.unfinished"])
def test_what_a_killed_process_left_is_told_from_what_is_being_done(jobs, name):
    whole = jobs.do("step", {"x": 1}, write("whole"), made_by=MADE_BY)
    left = jobs.do("step", {"x": 2}, write("left"), made_by=MADE_BY)
    left = left.rename(left.with_name(name.format(left.name)))
    long_ago = time.time() - 3600 * steps.HOURS_AT_WORK - 1
    for path in (left / steps.DONE, left):
        assert jobs.leftovers() == []  # the other file in it is new
        os.utime(path, (long_ago, long_ago))
    os.utime(left / "a.txt", (long_ago, long_ago))
    assert [job.folder for job in jobs.leftovers()] == [left]
    assert [job.folder for job in jobs.finished()] == [whole]


def test_what_vanishes_while_it_is_looked_at_is_no_leftover(jobs, monkeypatch):
    folder = jobs.do("step", {}, write("whole"), made_by=MADE_BY)
    gone = folder.with_name(f".{folder.name}.0123.part")
    monkeypatch.setattr(Jobs, "_folders", lambda _: [gone])
    assert jobs.leftovers() == []


def test_a_folder_is_removed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for _ in range(2):  # the second time it is gone
        atomic.remove_folder(tmp_path / "a")
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_quite_removed_is_not_there_any_more(jobs, monkeypatch):
    folder = jobs.do("step", {}, write("whole"), made_by=MADE_BY)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.remove_folder(folder)
    assert jobs.finished() == []
    monkeypatch.setattr(steps, "HOURS_AT_WORK", -1)
    assert [job.folder.suffix for job in jobs.leftovers()] == [".old"]


# several processes

SEVERAL = """
import os, sys, time
from pathlib import Path
from nearfar.files.steps import Jobs

def make(folder):
    for i in range(20):
        (folder / f"{i}.txt").write_text(f"{os.getpid()}")
    time.sleep(0.02 * int(sys.argv[2]))

jobs = Jobs(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for step in range(15):
    folder = jobs.do("step", {"number": step}, make, made_by=["nearfar.files.digests"])
    makers = {(folder / f"{i}.txt").read_text() for i in range(20)}
    assert len(makers) == 1, makers
    jobs.digests_of(sorted(folder.iterdir()))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **pipes)


def test_processes_that_do_the_same_steps_at_once_find_whole_outcomes(jobs):
    processes = [start(SEVERAL, jobs.root, delay) for delay in (0, 0, 1)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=30)[1] for process in processes]
    assert [e.splitlines()[-1:] for e in errors] == [[], [], []]
    left = {p.name for p in jobs.root.rglob("*") if p.suffix in (".part", ".old")}
    assert left == set()


def test_a_step_that_another_process_finished_meanwhile_is_left_alone(jobs):
    """What the other one returned may be read right now."""

    def overtaken(folder: Path) -> None:
        write("slow")(folder)
        jobs.do("step", {}, write("fast"), made_by=MADE_BY)

    folder = jobs.do("step", {}, overtaken, made_by=MADE_BY)
    assert (folder / "a.txt").read_text() == "fast"


def test_a_step_that_another_process_finishes_in_the_last_moment_is_no_error(jobs, monkeypatch):
    """Between the look at the place and the rename to it, the other one's folder appears there."""
    rename = Path.rename
    raced = []

    def overtaken(self, target):
        if self.suffix == ".part" and not raced:
            raced.append(target)
            jobs.do("step", {}, write("fast"), made_by=MADE_BY)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    folder = jobs.do("step", {}, write("slow"), made_by=MADE_BY)
    assert (folder / "a.txt").read_text() in ("slow", "fast")
    assert raced


KILLED = """
import sys
from pathlib import Path
from nearfar.files.steps import Jobs

def make(folder):
    print("begun", flush=True)
    for i in range(100):
        (folder / f"{i}.txt").write_text("x" * 2000)

Jobs(Path(sys.argv[1])).do("step", {"number": int(sys.argv[2])}, make, made_by=["nearfar.files.digests"])
"""


def test_a_killed_process_leaves_no_half_step(jobs):
    for number, seconds in enumerate([0.0, 0.001, 0.002, 0.004, 0.008, 0.016]):
        process = start(KILLED, jobs.root, number)
        assert process.stdout.readline() == "begun\n"
        time.sleep(seconds)
        process.kill()
        process.communicate()
        folder, inputs = jobs.folder("step", {"number": number}, made_by=MADE_BY), {"number": number}
        assert folder.exists() == (jobs.folder("step", inputs, made_by=MADE_BY) / steps.DONE).is_file()
        if folder.exists():
            assert len(list(folder.glob("*.txt"))) == 100
        again = jobs.do("step", inputs, write("done again"), made_by=MADE_BY)
        assert len(list(again.glob("*.txt"))) in (1, 100)


# Folders that are finished later


def test_a_resumable_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with resumable_folder(tmp_path / "out", parameters={"a": 1}, kept_in="made.json") as folder:
        assert not (tmp_path / "out").exists()
        assert folder == tmp_path / "out.unfinished"
        (folder / "x").write_text("x")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x", "made.json"}
    assert json.loads((tmp_path / "out" / "made.json").read_text()) == {"a": 1}
    assert not (tmp_path / "out.unfinished").exists()


def _write_and_stop(path: Path) -> None:
    with resumable_folder(path, parameters={"a": [1]}, kept_in="made.json") as folder:
        (folder / "x").write_text("x")
        raise KeyboardInterrupt


def test_a_resumable_folder_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write_and_stop(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with resumable_folder(tmp_path / "out", parameters={"a": (1,)}, kept_in="made.json") as folder:
        assert (folder / "x").read_text() == "x"
    assert (tmp_path / "out" / "x").read_text() == "x"


@pytest.mark.parametrize("begun", ['{"a": 2}', None])
def test_what_was_begun_otherwise_is_left_alone(begun: str | None, tmp_path: Path) -> None:
    (tmp_path / "out.unfinished").mkdir()
    if begun is not None:
        (tmp_path / "out.unfinished" / "made.json").write_text(begun)
    with (
        pytest.raises(FileExistsError, match=r"out\.unfinished was begun with other parameters"),
        resumable_folder(tmp_path / "out", parameters={"a": 1}, kept_in="made.json"),
    ):
        pytest.fail("the body must not run")
    assert (tmp_path / "out.unfinished").is_dir()


def test_the_option_to_replace_is_named_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(
        FileExistsError, match=r"out is there already; .*, or replace it with --replace \(in Python"
    ):
        atomic.refuse_existing(tmp_path / "out", replace=False)
    with pytest.raises(
        FileExistsError, match=r"out is there already; choose another name, or remove it first$"
    ):
        atomic.refuse_existing(tmp_path / "out")
    atomic.refuse_existing(tmp_path / "out", replace=True)


def test_a_resumable_folder_does_not_replace(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(FileExistsError, match="is there already"),
        resumable_folder(tmp_path / "out", parameters={}, kept_in="made.json"),
    ):
        pytest.fail("the body must not run")
    assert not (tmp_path / "out.unfinished").exists()


@pytest.mark.parametrize("damaged", ["a.txt", steps.DONE])
def test_a_step_that_is_not_as_it_was_written_is_told_and_done_again(jobs, damaged, caplog):
    folder = jobs.do("step", {}, write("whole"), made_by=MADE_BY)
    content = bytearray((folder / damaged).read_bytes())
    content[0] ^= 1
    (folder / damaged).write_bytes(content)
    assert (jobs.do("step", {}, write("again"), made_by=MADE_BY) / "a.txt").read_text() == "again"
    assert f"{folder}: damaged ({damaged}); this step is done again" in caplog.text


def test_a_step_of_which_a_file_is_gone_is_done_again(jobs, caplog):
    folder = jobs.do("step", {}, write("whole"), made_by=MADE_BY)
    (folder / "a.txt").unlink()
    assert (jobs.do("step", {}, write("again"), made_by=MADE_BY) / "a.txt").read_text() == "again"
    assert "damaged (a.txt)" in caplog.text


def test_a_step_from_before_digests_were_kept_is_taken_as_it_is(jobs):
    folder = jobs.do("step", {}, write("old"), made_by=MADE_BY)
    told = json.loads((folder / steps.DONE).read_text())
    del told[steps.FILES]
    (folder / steps.DONE).write_text(json.dumps(told))
    (folder / "a.txt").write_text("other")
    assert (jobs.do("step", {}, write("again"), made_by=MADE_BY) / "a.txt").read_text() == "other"


@pytest.mark.parametrize("value", ["NULL", "7", "'text'", "x'00'"])
def test_a_digest_that_is_none_is_computed_again(tmp_path, jobs, value):
    (tmp_path / "a").write_bytes(b"content")
    (first,) = jobs.digests_of([tmp_path / "a"])
    with contextlib.closing(sqlite3.connect(jobs.root / "digests.sqlite")) as known:
        known.execute(f"UPDATE digests SET sha256 = {value}")
        known.commit()
    assert jobs.digests_of([tmp_path / "a"]) == [first]


# arrays with a digest


def test_arrays_are_checked_against_their_digest(tmp_path, caplog):
    path = tmp_path / "a.safetensors"
    kept = {"x": np.arange(6.0).reshape(2, 3).T, "n": np.array(3)}
    arrays.save_with_digest(path, kept)
    assert all(np.array_equal(kept[name], array) for name, array in arrays.load_with_digest(path).items())
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        arrays.DamagedArraysError, match=r"a\.safetensors: damaged \(its digest has changed\)"
    ):
        arrays.load_with_digest(path)
    assert arrays.load_if_whole(path) is None
    assert "it counts as absent, and is made again" in caplog.text
    path.write_bytes(content[:40])
    with pytest.raises(arrays.DamagedArraysError, match=r"a\.safetensors: damaged, or no arrays"):
        arrays.load_with_digest(path)
    path.unlink()
    assert arrays.load_if_whole(path) is None
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors|No such file"):
        arrays.load_with_digest(path)


def test_arrays_without_a_digest_are_taken_as_they_are(tmp_path):
    arrays.save_arrays(tmp_path / "a.safetensors", {"x": np.ones(2)})
    assert arrays.load_with_digest(tmp_path / "a.safetensors")["x"].tolist() == [1.0, 1.0]
