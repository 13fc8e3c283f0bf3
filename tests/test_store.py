"""The embedding store gives back what was put into it, or nothing."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.embedding import store
from nearfar.embedding.store import Array, DamagedEmbedding, Key, Origin, Store
from nearfar.encoders import ENCODERS
from nearfar.files import atomic, steps
from nearfar.files.steps import Jobs

KILL = Path(__file__).parents[1] / "benchmarks" / "kill_store.py"
NEAR = Origin(
    encoder="eat", microphone="near", code="1", weights="f" * 64, options={"blocks": [11, 12], "a": 1}
)
FAR = dataclasses.replace(NEAR, microphone="far")
KEPT = 12


def key(number: int, block: int = 12, pooling: str = "mean") -> Key:
    return Key(hashlib.sha256(str(number).encode()).hexdigest(), block, pooling)


def array(number: int, *shape: int) -> Array:
    return np.random.default_rng(number).normal(size=shape or (10 + number,)).astype(np.float32)


def some(n: int = KEPT) -> dict[Key, Array]:
    """Embeddings of different sizes."""
    return {key(number): array(number) for number in range(n)}


def assert_equal(found: Mapping[Key, Array], expected: Mapping[Key, Array]) -> None:
    assert set(found) == set(expected)
    for name, numbers in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == numbers.shape
        assert found[name].tobytes() == numbers.tobytes()


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def filled(empty: Store) -> Store:
    empty.put(NEAR, some())
    return empty


def shelf(place: Store) -> Path:
    """The file of the first origin."""
    return place.folder / "000001.f32"


def change(path: Path, position: int, bit: int = 0) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def sql(place: Store, *statements: str) -> None:
    """As nobody should do it."""
    with closing(sqlite3.connect(place.index)) as index, index:
        for statement in statements:
            index.execute(statement)


# What comes back


@pytest.mark.parametrize("shape", [(5,), (1536,), (7, 3), (2, 0), (0,), (), (2, 3, 4)])
def test_an_embedding_of_any_shape_comes_back(empty: Store, shape: tuple[int, ...]) -> None:
    numbers = np.full(shape, 0.1, np.float32) if shape == () else array(1, *shape)
    empty.put(NEAR, {key(1): numbers})
    assert_equal(Store(empty.folder.parent).get(NEAR, [key(1)]), {key(1): numbers})


def test_each_bit_comes_back_whatever_the_order_in_memory(empty: Store) -> None:
    odd = np.array([np.nan, -0.0, np.inf, -np.inf, 1e-45, 3.4e38, 0.1, -1], np.float32)
    given_ = {
        key(1): odd,
        key(2): np.asfortranarray(array(2, 5, 4)),
        key(3): array(3, 20)[::-2],
        key(4): array(4, 6).astype(">f4"),
    }
    native = {name: numbers.astype(np.float32) for name, numbers in given_.items()}
    empty.put(NEAR, {**given_, key(4): native[key(4)]})
    assert_equal(empty.get(NEAR, given_), native)


def test_what_comes_back_cannot_be_changed_by_accident(filled: Store) -> None:
    with pytest.raises(ValueError, match="read-only"):
        filled.get(NEAR, [key(1)])[key(1)][0] = 1


def test_what_is_not_there_does_not_come_back(filled: Store) -> None:
    asked = [key(1), key(KEPT), key(1, block=11), key(1, pooling="std")]
    assert set(filled.get(NEAR, asked)) == {key(1)}
    assert filled.get(NEAR, []) == {}


def test_reading_makes_nothing(empty: Store) -> None:
    assert empty.get(NEAR, [key(1)]) == {}
    assert empty.contents() == empty.verify() == []
    empty.remove([NEAR])
    assert not empty.folder.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "ced"}, {"microphone": "far"}, {"code": "2"}, {"weights": None}, {"precision": "bfloat16"},
        {"options": {"a": 1}},
    ],
)  # fmt: skip
def test_other_origins_have_nothing_to_do_with_each_other(filled: Store, change: dict[str, str]) -> None:
    other = dataclasses.replace(NEAR, **change)
    assert filled.get(other, some()) == {}
    filled.put(other, {key(1): array(99, 3)})
    assert_equal(filled.get(other, some()), {key(1): array(99, 3)})
    assert_equal(filled.get(NEAR, some()), some())


def test_the_order_of_options_does_not_matter(filled: Store) -> None:
    same = dataclasses.replace(NEAR, options=dict(reversed(NEAR.options.items())))
    assert_equal(filled.get(same, some()), some())


def test_options_must_be_json(empty: Store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        empty.get(dataclasses.replace(NEAR, options={"a": float("nan")}), [key(1)])


def test_what_is_there_stays(filled: Store) -> None:
    before = shelf(filled).read_bytes()
    filled.put(NEAR, {key(1): array(99), key(2): array(2)})
    assert_equal(filled.get(NEAR, some()), some())
    assert shelf(filled).read_bytes() == before


def test_there_are_as_many_files_as_origins(filled: Store) -> None:
    for number in range(20):
        filled.put(FAR, {key(number): array(number)})
    assert {path.name for path in filled.folder.iterdir()} == {"index.sqlite", "000001.f32", "000002.f32"}


actions = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "remove"]),
        st.sampled_from([NEAR, FAR]),
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(1, 2), st.sampled_from(["mean", "rows"])), max_size=4
        ),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(actions)
def test_it_does_what_a_dictionary_does(tmp_path_factory: pytest.TempPathFactory, actions: list) -> None:
    place = Store(tmp_path_factory.mktemp("cache"))
    twin: dict[str, dict[Key, Array]] = {"near": {}, "far": {}}
    for number, (verb, origin, names) in enumerate(actions):
        keys, there = [key(*name) for name in names], twin[origin.microphone]
        if verb == "put":
            new = {name: array(number) for name in keys}
            place.put(origin, new)
            there.update({name: numbers for name, numbers in new.items() if name not in there})
        elif verb == "remove":
            place.remove([origin])
            there.clear()
        assert_equal(place.get(origin, keys), {name: there[name] for name in keys if name in there})
    assert place.verify() == []
    assert sum(content.entries for content in place.contents()) == sum(map(len, twin.values()))


# What does not go in


def test_only_float32_goes_in(empty: Store) -> None:
    with pytest.raises(ValueError, match=r"block=12.*the embedding is float64; the store keeps float32 only"):
        empty.put(NEAR, {key(1): array(1), key(2): np.zeros(3)})
    assert not empty.folder.exists()


@pytest.mark.parametrize("audio", ["", "1.wav", "F" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_recording_is_named_by_its_digest(filled: Store, audio: str) -> None:
    wrong = {key(KEPT): array(1), Key(audio, 12, "mean"): array(2)}
    with pytest.raises(ValueError, match=r"audio=.*: expected the SHA-256 of a file, 64 digits"):
        filled.put(NEAR, wrong)
    with pytest.raises(ValueError, match=r"audio=.*: expected the SHA-256"):
        filled.get(NEAR, wrong)
    assert filled.get(NEAR, [key(KEPT)]) == {}


def test_a_key_of_the_wrong_type_is_not_taken_for_damage(filled: Store) -> None:
    with pytest.raises(sqlite3.Error, match=r"type 'list' is not supported"):
        filled.get(NEAR, [Key(key(1).audio, 12, [])])  # type: ignore[arg-type]


def test_a_block_may_be_of_numpy(filled: Store) -> None:
    assert_equal(filled.get(NEAR, [key(1, block=np.int64(12))]), {key(1): array(1)})


def test_an_interrupted_put_adds_nothing(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        filled.put(NEAR, {key(KEPT): array(KEPT)})
    monkeypatch.undo()
    assert shelf(filled).stat().st_size > sum(numbers.nbytes for numbers in some().values())
    assert_equal(filled.get(NEAR, some(KEPT + 1)), some())
    assert filled.verify() == []
    filled.put(NEAR, {key(KEPT): array(KEPT)})
    assert_equal(filled.get(NEAR, some(KEPT + 1)), some(KEPT + 1))
    assert shelf(filled).stat().st_size == sum(numbers.nbytes for numbers in some(KEPT + 1).values())


def test_the_array_is_on_disk_before_the_index_names_it(
    empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    enter, fsync = store._enter, os.fsync

    def synced(number: int) -> None:
        seen.append(os.fstat(number).st_size)
        fsync(number)

    def entered(*arguments: object) -> None:
        seen.append("entered")
        enter(*arguments)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(store, "_enter", entered)
    empty.put(NEAR, {key(1): array(1, 100)})
    assert seen == [400, "entered"]


# Damage


def lost(place: Store, caplog: pytest.LogCaptureFixture) -> set[Key]:
    """What is damaged by all accounts, which must agree; the rest must be as it was."""
    caplog.clear()
    found = place.get(NEAR, some())
    gone = set(some()) - set(found)
    assert_equal(found, {name: numbers for name, numbers in some().items() if name not in gone})
    problems = place.verify()
    assert {name for name in some() for problem in problems if name.audio in str(problem)} == gone
    assert len(problems) == len(gone)
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    told = f"{len(gone)} of {KEPT} embeddings are damaged and count as absent"
    assert [told in message for message in said] == [True] * bool(gone)
    return gone


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_costs_one_embedding(filled: Store, caplog: pytest.LogCaptureFixture, bit: int) -> None:
    assert lost(filled, caplog) == set()
    ends = np.cumsum([numbers.nbytes for numbers in some().values()])
    for number, end in enumerate(ends):
        change(shelf(filled), end - 1, bit)
        assert lost(filled, caplog) == {key(n) for n in range(number + 1)}


@pytest.mark.parametrize("length", [0, 1, 300, -1])
def test_a_cut_file_costs_what_lay_behind(
    filled: Store, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    content = shelf(filled).read_bytes()[:length]
    shelf(filled).write_bytes(content)
    ends = np.cumsum([numbers.nbytes for numbers in some().values()])
    assert lost(filled, caplog) == {key(n) for n, end in enumerate(ends) if end > len(content)}


def test_a_lost_file_costs_all_that_was_in_it(filled: Store, caplog: pytest.LogCaptureFixture) -> None:
    shelf(filled).unlink()
    assert lost(filled, caplog) == set(some())
    (content,) = filled.contents()
    assert (content.entries, content.size) == (KEPT, 0)


def test_a_bad_sector_costs_what_lies_on_it(
    filled: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = store._open

    class Bad:
        def __init__(self, path: Path) -> None:
            self.file = opened(path)

        def __enter__(self) -> Bad:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def seek(self, *position: int) -> int:
            return self.file.seek(*position)

        def read(self, size: int) -> bytes:
            if self.file.tell() == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self.file.read(size)

    monkeypatch.setattr(store, "_open", Bad)
    assert lost(filled, caplog) == {key(0)}


def test_exchanged_embeddings_are_damaged(empty: Store) -> None:
    same_size = {key(number): array(number, 8) for number in range(3)}
    empty.put(NEAR, same_size)
    content = shelf(empty).read_bytes()
    shelf(empty).write_bytes(content[32:64] + content[:32] + content[64:])
    assert set(empty.get(NEAR, same_size)) == {key(2)}
    shelf(empty).write_bytes(content)
    sql(empty, "UPDATE embeddings SET block = 13 WHERE number = 3")
    assert set(empty.get(NEAR, [*same_size, key(2, block=13)])) == {key(0), key(1)}
    assert len(empty.verify()) == 1


@pytest.mark.parametrize("shape", ["5 2", "2 5 1", "", "x"])
def test_the_shape_is_checked_too(empty: Store, shape: str) -> None:
    empty.put(NEAR, {key(1): array(1, 2, 5)})
    sql(empty, f"UPDATE embeddings SET shape = '{shape}'")
    assert empty.get(NEAR, [key(1)]) == {}


@pytest.mark.parametrize("column", ["start", "size", "shape", "checksum"])
@pytest.mark.parametrize("value", ["NULL", "-1", "1e300", "9223372036854775807", "'text'", "x'00ff'"])
def test_nonsense_in_the_index_is_damage(filled: Store, column: str, value: str) -> None:
    sql(filled, f"UPDATE embeddings SET {column} = {value} WHERE number = 3")
    assert set(some()) - set(filled.get(NEAR, some())) == {key(2)}
    assert [problem.number for problem in filled.verify()] == [3]


def test_a_damaged_embedding_can_be_put_again(filled: Store, caplog: pytest.LogCaptureFixture) -> None:
    change(shelf(filled), 0)
    change(shelf(filled), 500)
    assert len(lost(filled, caplog)) == 2
    filled.put(NEAR, some())
    assert lost(filled, caplog) == set()


def test_a_lost_or_cut_file_can_be_filled_again(filled: Store, caplog: pytest.LogCaptureFixture) -> None:
    shelf(filled).unlink()
    filled.put(NEAR, some())
    assert lost(filled, caplog) == set()
    os.truncate(shelf(filled), 100)
    filled.put(NEAR, some())
    assert lost(filled, caplog) == set()


def test_damaged_embeddings_can_be_dropped(filled: Store, caplog: pytest.LogCaptureFixture) -> None:
    change(shelf(filled), 0)
    assert [problem.number for problem in filled.drop_damaged()] == [1]
    assert filled.verify() == filled.drop_damaged() == []
    caplog.clear()
    assert set(filled.get(NEAR, some())) == set(some()) - {key(0)}
    assert caplog.messages == []


def test_verifying_many_tells_how_far_it_is(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "VERIFIED_AT_ONCE", 5)
    filled.put(FAR, some(3))
    change(filled.folder / "000002.f32", 0)
    told: list[tuple[int, int]] = []
    problems = filled.verify(lambda *progress: told.append(progress))
    assert told == [(5, 15), (10, 15), (15, 15)]
    expected = f"damaged: block 12, mean, of the recording {key(0).audio}"
    assert problems == [DamagedEmbedding(filled.folder / "000002.f32", expected, KEPT + 1)]


def outcome(place: Store) -> str:
    """What reading and verifying comes to; an error must say what to do."""
    try:
        found = place.get(NEAR, some())
        place.verify()
    except (OSError, ValueError) as error:
        told = ("else remove", "make it writable", "install a newer nearfar", "wrong with the disk")
        return "error" if any(advice in str(error) for advice in told) else str(error)
    assert_equal(found, {name: some()[name] for name in found})
    return "right" if len(found) == KEPT else "absent"


def test_a_damaged_index_never_gives_a_wrong_embedding(filled: Store) -> None:
    whole, rng = filled.index.read_bytes(), np.random.default_rng(0)
    used, outcomes = [n for n, byte in enumerate(whole) if byte], set()
    for position in rng.choice(used, 60):
        filled.index.write_bytes(whole)
        change(filled.index, int(position), int(rng.integers(8)))
        outcomes.add(outcome(filled))
    assert outcomes == {"right", "absent", "error"}


def test_a_mended_index_keeps_what_is_whole(filled: Store) -> None:
    """A flipped bit of a recording's digest: once in the row, which then is damaged, once where rows are found."""
    whole, name = filled.index.read_bytes(), bytes.fromhex(key(3).audio)
    kept = []
    for place in [n for n in range(len(whole)) if whole.startswith(name, n)]:
        filled.index.write_bytes(whole)
        change(filled.index, place)
        first = filled.verify()[0]
        assert first.number is None
        assert "index.sqlite: the index is damaged: " in str(first)
        filled.drop_damaged()
        assert filled.verify() == []
        kept.append(len(filled.get(NEAR, some())))
    assert sorted(kept) == [KEPT - 1, KEPT]


def test_an_index_that_repeats_itself_is_an_error(filled: Store) -> None:
    """One that leads in a circle would be read for ever."""
    sql(
        filled,
        "CREATE TABLE twice AS SELECT * FROM embeddings",
        "INSERT INTO twice SELECT * FROM embeddings",
        "DROP TABLE embeddings",
        "ALTER TABLE twice RENAME TO embeddings",
    )
    with pytest.raises(OSError, match=r"damaged \(its rows are out of order\)"):
        filled.verify()


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_an_index_that_is_none_is_an_error_that_says_what_to_do(filled: Store, content: bytes) -> None:
    filled.index.write_bytes(content)
    match = r"index\.sqlite: damaged \(.*\); try `nearfar cache clean --damaged`, else remove .*embeddings: "
    for action in (
        lambda: filled.get(NEAR, some()),
        lambda: filled.put(NEAR, some()),
        filled.verify,
        filled.contents,
        filled.drop_damaged,
        lambda: filled.remove([NEAR]),
    ):
        with pytest.raises(OSError, match=match):
            action()


def test_a_cut_index_is_an_error(filled: Store) -> None:
    os.truncate(filled.index, filled.index.stat().st_size // 2)
    with pytest.raises(OSError, match=r"index\.sqlite: damaged \("):
        filled.get(NEAR, some())


def test_an_index_that_was_never_begun_is_empty(empty: Store) -> None:
    """A process may have been killed between making the file and writing to it."""
    empty.folder.mkdir(parents=True)
    empty.index.touch()
    assert empty.get(NEAR, some()) == {}
    assert empty.verify() == []
    empty.put(NEAR, some())
    assert_equal(empty.get(NEAR, some()), some())


@pytest.mark.parametrize("origin", ["{", '{"encoder": 1}', "[]"])
def test_an_origin_that_nobody_can_read_is_damage(filled: Store, origin: str) -> None:
    sql(filled, f"UPDATE shelves SET origin = '{origin}'")
    with pytest.raises(OSError, match=r"damaged \(origin"):
        filled.contents()


# Errors that are told


def test_a_newer_format_is_refused(filled: Store) -> None:
    sql(filled, f"PRAGMA user_version = {store.FORMAT + 1}")
    for action in (
        lambda: filled.get(NEAR, some()),
        lambda: filled.put(NEAR, some()),
        filled.verify,
        filled.contents,
        lambda: filled.remove([NEAR]),
        lambda: store.clean(filled.folder.parent),
    ):
        with pytest.raises(
            ValueError, match=r"a store of format 2; this nearfar .* up to format 1: install a newer"
        ):
            action()


def test_a_full_disk_adds_nothing(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        filled.put(NEAR, {key(KEPT): array(KEPT)})
    monkeypatch.undo()
    assert_equal(filled.get(NEAR, some(KEPT + 1)), some())


def test_a_disk_that_is_too_full_for_the_index_is_told_alike(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = store._enter

    def entered(index: sqlite3.Connection, *arguments: object) -> None:
        index.execute("PRAGMA max_page_count = 1")  # no larger than it is
        enter(index, *arguments)

    monkeypatch.setattr(store, "_enter", entered)
    with pytest.raises(OSError, match=r"No space left.*index\.sqlite") as raised:
        filled.put(NEAR, {key(n): array(n, 1) for n in range(200)})
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert_equal(filled.get(NEAR, some(KEPT + 1)), some())


@pytest.mark.parametrize(
    ("code", "error", "match"),
    [
        (sqlite3.SQLITE_READONLY, PermissionError, "make it writable, or choose another cache"),
        (sqlite3.SQLITE_READONLY_ROLLBACK, PermissionError, "make it writable"),
        (sqlite3.SQLITE_CANTOPEN, PermissionError, "make it writable"),
        (sqlite3.SQLITE_IOERR_FSYNC, OSError, "see what is wrong with the disk"),
        (sqlite3.SQLITE_CORRUPT, OSError, "else remove"),
    ],
)
def test_errors_of_the_database_say_what_to_do(
    filled: Store, monkeypatch: pytest.MonkeyPatch, code: int, error: type[OSError], match: str
) -> None:
    def fails(*_: object) -> None:
        raised = sqlite3.OperationalError("of SQLite")
        raised.sqlite_errorcode = code
        raise raised

    monkeypatch.setattr(store, "_shelf", fails)
    with pytest.raises(error, match=rf"index\.sqlite: .*of SQLite.*{match}"):
        filled.get(NEAR, some())


def test_a_folder_that_cannot_be_written_to_is_told(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to; choose another place"):
        filled.put(NEAR, some())
    with pytest.raises(PermissionError, match="cannot be written to"):
        filled.remove([NEAR])


def test_a_store_that_may_only_be_read_can_be_read(filled: Store) -> None:
    os.utime(shelf(filled), (0, 0))  # would be noted as used
    paths = [*filled.folder.iterdir(), filled.folder]
    try:
        for path in paths:
            path.chmod(0o555)
        assert_equal(filled.get(NEAR, some()), some())
        assert filled.verify() == []
        assert len(filled.contents()) == 1
    finally:
        filled.folder.chmod(0o755)


def test_a_process_that_does_not_stop_writing_is_told(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.05)
    with closing(sqlite3.connect(filled.index, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_equal(filled.get(NEAR, some()), some())
        with pytest.raises(TimeoutError, match=r"another process has been writing for more than 0\.05 s"):
            filled.put(NEAR, {key(KEPT): array(1)})
        other.execute("COMMIT")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TimeoutError, match="another process has been writing"):
            filled.get(NEAR, some())
    filled.put(NEAR, {key(KEPT): array(1)})


# What it costs


def test_reading_writes_nothing_but_once_a_day_that_it_was_used(filled: Store) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in filled.folder.iterdir()}

    before = state()
    filled.get(NEAR, some())
    assert state() == before
    yesterday = time.time() - 86500
    os.utime(shelf(filled), (yesterday, yesterday))
    assert filled.contents()[0].unused_days == pytest.approx(86500 / 86400, abs=1e-3)
    filled.get(NEAR, some())
    assert filled.contents()[0].unused_days == pytest.approx(0, abs=1e-3)
    assert {name: content for name, (_, content) in state().items()} == {n: c for n, (_, c) in before.items()}


def test_the_content_does_not_tell_the_hour(tmp_path: Path) -> None:
    for name in "ab":
        Store(tmp_path / name).put(NEAR, some())
        time.sleep(0.01)
    one, other = (sorted((tmp_path / name).rglob("*.*")) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_it_does_not_load_torch() -> None:
    loaded = "[m for m in ('torch', 'pandas', 'scipy') if m in sys.modules]"
    code = f"import sys, nearfar.embedding.store; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# What is in it, and cleaning


def test_contents(filled: Store) -> None:
    filled.put(FAR, {key(1): array(1, 100)})
    filled.put(NEAR, {key(KEPT): array(KEPT)})
    near, far = filled.contents()
    assert (near.origin, near.entries, near.size) == (
        NEAR,
        KEPT + 1,
        sum(a.nbytes for a in some(KEPT + 1).values()),
    )
    assert (far.origin, far.entries, far.size) == (FAR, 1, 400)
    assert 0 <= far.unused_days < 0.1


def test_removing_gives_back_the_space(filled: Store) -> None:
    filled.put(FAR, {key(n): array(n, 3) for n in range(300)})
    before = filled.index.stat().st_size
    filled.remove([FAR, dataclasses.replace(NEAR, code="unknown")])
    assert filled.get(FAR, some()) == {}
    assert_equal(filled.get(NEAR, some()), some())
    assert {path.name for path in filled.folder.iterdir()} == {"index.sqlite", "000001.f32"}
    assert filled.index.stat().st_size < before / 2
    filled.put(FAR, some())
    assert (filled.folder / "000003.f32").exists()  # a number is not given twice


def test_removing_takes_what_killed_processes_left(filled: Store) -> None:
    (filled.folder / "000007.f32").write_bytes(b"of a shelf that was never in the index")
    assert filled.verify() == []
    filled.remove([])
    assert {path.name for path in filled.folder.iterdir()} == {"index.sqlite", "000001.f32"}
    assert_equal(filled.get(NEAR, some()), some())


def test_what_is_being_read_can_be_removed(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = store._whole

    def removed_before(*arguments: object) -> dict[Key, Array]:
        monkeypatch.setattr(store, "_whole", whole)
        filled.remove([NEAR])
        return whole(*arguments)

    monkeypatch.setattr(store, "_whole", removed_before)
    assert_equal(filled.get(NEAR, some()), some())
    assert filled.get(NEAR, some()) == {}


@pytest.mark.parametrize("read", [lambda place: place.get(NEAR, some()), lambda place: place.verify()])
def test_nothing_is_removed_between_finding_and_opening_it(
    filled: Store, monkeypatch: pytest.MonkeyPatch, read: Callable[[Store], object]
) -> None:
    opened = store._open
    tried = []

    def opened_while_removed(path: Path) -> object:
        with pytest.raises(TimeoutError, match="another process has been writing"):
            filled.remove([NEAR])
        tried.append(path)
        return opened(path)

    monkeypatch.setattr(store, "PATIENCE", 0.05)
    monkeypatch.setattr(store, "_open", opened_while_removed)
    read(filled)
    assert tried == [shelf(filled)]


def test_cleaning_takes_what_is_of_no_use(tmp_path: Path) -> None:
    current = dataclasses.replace(NEAR, code=store.current_code(NEAR.encoder))
    place, jobs = Store(tmp_path), Jobs(tmp_path)
    place.put(NEAR, some())
    place.put(current, some(3))
    kept, old, left = (
        jobs.do("step", {"number": n}, str, made_by=["nearfar.files.digests"]) for n in range(3)
    )
    atomic.write_json(old / steps.DONE, {"step": "step", "inputs": {}, "code": "other"})
    left = left.rename(left.with_name(".name.0123.part"))
    os.utime(left / steps.DONE, (0, 0))
    os.utime(left, (0, 0))
    removed = {r.what: (r.count, r.size) for r in store.clean(tmp_path)}
    assert removed["embeddings"] == (KEPT, sum(numbers.nbytes for numbers in some().values()))
    assert [removed[what][0] for what in ("steps", "unfinished steps")] == [1, 1]
    assert min(size for _, size in removed.values()) > 0
    assert [content.origin for content in place.contents()] == [current]
    assert [path.exists() for path in (kept, old, left)] == [True, False, False]
    assert all((r.count, r.size) == (0, 0) for r in store.clean(tmp_path))


def test_cleaning_takes_what_is_asked_for(tmp_path: Path) -> None:
    eat = dataclasses.replace(NEAR, code=store.current_code(NEAR.encoder))
    ced = dataclasses.replace(eat, encoder="ced", code=store.current_code("ced"))
    place = Store(tmp_path)
    place.put(eat, some())
    place.put(ced, some(2))
    assert store.clean(tmp_path, unused_days=1)[0].count == 0
    assert store.clean(tmp_path, encoder="ced")[0].count == 2
    long_ago = time.time() - 3 * 86400
    os.utime(shelf(place), (long_ago, long_ago))
    assert store.clean(tmp_path, unused_days=4)[0].count == 0
    assert store.clean(tmp_path, unused_days=2)[0].count == KEPT
    assert place.contents() == []


def test_a_shelf_without_anything_whole_goes(tmp_path: Path) -> None:
    current, place = dataclasses.replace(NEAR, code=store.current_code(NEAR.encoder)), Store(tmp_path)
    place.put(current, some())
    shelf(place).unlink()
    place.drop_damaged()
    assert len(place.contents()) == 1
    store.clean(tmp_path)
    assert place.contents() == []


def test_an_empty_cache_can_be_cleaned(tmp_path: Path) -> None:
    assert [r.count for r in store.clean(tmp_path / "none")] == [0, 0, 0]
    assert not (tmp_path / "none").exists()


def test_each_encoder_has_code_of_its_own() -> None:
    codes = [store.current_code(encoder) for encoder in ENCODERS]
    assert "" not in codes
    assert len(set(codes)) == len(codes)
    assert store.current_code("hydra") == ""


# Several processes

SEVERAL = """
import sys
from pathlib import Path
import numpy as np
from nearfar.embedding.store import Key, Origin, Store

store, number = Store(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for step in range(16):
    origin = Origin(encoder="e", microphone="near", code=str(step % 2))
    keys = [Key(f"{n:064x}", step // 2, "mean") for n in range(number, number + 6)]
    store.put(origin, {key: np.full(300, int(key.audio, 16) + step, np.float32) for key in keys})
    others = [Key(f"{n:064x}", step // 2, "mean") for n in range(10)]
    found = store.get(origin, others)
    assert set(keys) <= set(found), "lost"
    assert all((array == int(key.audio, 16) + step).all() for key, array in found.items()), "wrong"
    if number == 0 and step == 12:
        store.remove([Origin(encoder="e", microphone="far", code="0")])
"""


@pytest.fixture
def several(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    begun = [
        subprocess.Popen([sys.executable, "-c", SEVERAL, str(tmp_path), str(n)], text=True, **pipes)
        for n in (0, 2, 4)
    ]
    yield begun
    for process in begun:
        process.kill()
        process.communicate()


def test_processes_that_read_and_write_at_once(several: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    for process in several:
        assert process.stdout.readline() == "ready\n"
    for process in several:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in several]
    assert [e.splitlines()[-1:] for e in errors] == [[], [], []]
    assert Store(tmp_path).verify() == []
    assert sum(content.entries for content in Store(tmp_path).contents()) == 16 * 10
    assert sum(content.size for content in Store(tmp_path).contents()) == 16 * 10 * 1200  # each one once


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_processes_leave_a_whole_store() -> None:
    done = subprocess.run([sys.executable, str(KILL), "30"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems, 0 not what they must be" in done.stdout
    assert int(done.stdout.split("s; ")[1].split(" of ")[0]) > 0  # some were killed in the middle of a write


@pytest.mark.parametrize("size", ["'text'", "NULL", "-1", "0.5"])
def test_a_shelf_whose_size_is_no_number_is_damage(filled: Store, size: str) -> None:
    sql(filled, f"UPDATE shelves SET size = {size}")
    with pytest.raises(OSError, match=r"index\.sqlite: damaged \(a shelf of size"):
        filled.put(NEAR, {key(99): array(3)})
