"""A disk that is full: every writer tells so, names its target, leaves nothing, and keeps what was there.

A limit on the size of files is a full disk that needs no disk. It holds for a process, so each writer runs in one
of its own.
"""

import errno
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError

from nearfar.detector import file_format
from nearfar.embedding.store import Key, Origin, Store
from nearfar.files import arrays, atomic
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.training.adapters import Adapter

LIMIT = 2**16  # bytes of a file
LARGE = {"a": np.zeros(LIMIT), "b": np.ones(3)}
NOISE = 0.1 * np.random.default_rng(0).standard_normal((2, 40000)).astype(np.float32)


def save_arrays(folder: Path) -> None:
    with atomic.atomic_file(folder / "target.safetensors") as part:
        arrays.save_arrays(part, LARGE)


def save_folder(folder: Path) -> None:
    with atomic.atomic_folder(folder / "target", replace=True) as part:
        arrays.save_arrays(part / "arrays.safetensors", LARGE)


def save_adapter(folder: Path) -> None:
    Adapter(LARGE, {}).save(folder / "target.safetensors")


def write_json(folder: Path) -> None:
    atomic.write_json(folder / "target.json", "x" * 10 * LIMIT)


def write_table(folder: Path) -> None:
    with atomic.atomic_file(folder / "target.csv") as part:
        pd.DataFrame(LARGE["a"]).to_csv(part)


def write_wav(folder: Path) -> None:
    audio.write(folder / "target.wav", NOISE, 16000)


def write_float(folder: Path) -> None:
    audio.write(folder / "target.wav", NOISE, 16000, bits=32)


def write_flac(folder: Path) -> None:
    audio.write(folder / "target.flac", NOISE, 16000)


def write_detector(folder: Path) -> None:
    sounds = {f"normal/{'0' * 16}.flac": bytes(2 * LIMIT)}
    file_format.write(folder / "target", {}, {"a": np.ones(3)}, sounds, take_place=True)


WRITERS = [
    save_arrays,
    save_folder,
    save_adapter,
    write_json,
    write_table,
    write_wav,
    write_float,
    write_flac,
    write_detector,
]


@pytest.fixture
def full() -> Iterator[None]:
    """No file can grow beyond the limit. Python ignores the signal that would end the process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def require_no_space(writer: Callable[[Path], None], folder: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as raised:
        writer(folder)
    assert raised.value.errno == errno.EFBIG
    assert str(raised.value.filename).startswith(str(folder))
    assert "target" in Path(raised.value.filename).relative_to(folder).parts[0]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.usefixtures("full")
def test_a_full_disk_names_the_target_and_leaves_nothing(
    writer: Callable[[Path], None], tmp_path: Path
) -> None:
    require_no_space(writer, tmp_path)
    assert list(contents(tmp_path)) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_keeps_what_was_there(
    writer: Callable[[Path], None], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    writer(tmp_path)
    before = contents(tmp_path)
    request.getfixturevalue("full")
    require_no_space(writer, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("full")
def test_a_step_that_finds_no_space_is_done_again(tmp_path: Path) -> None:
    def make(part: Path) -> None:
        arrays.save_arrays(part / "target.safetensors", LARGE)

    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        Jobs(tmp_path).do("step", {}, make, made_by=[atomic.__name__])
    assert list(contents(tmp_path)) == []


def test_a_shelf_that_finds_no_space_keeps_its_embeddings(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, origin = Store(tmp_path), Origin("e", "near", "0" * 64)
    small, large = (Key(digit * 64, 0, "mean") for digit in "01")
    store.put(origin, {small: np.ones(3, np.float32)})
    request.getfixturevalue("full")
    with pytest.raises(OSError, match=rf"{os.strerror(errno.EFBIG)}: '{tmp_path}.*000001"):
        store.put(origin, {large: np.zeros(LIMIT, np.float32)})
    assert list(store.get(origin, [small, large])) == [small]


def test_digests_that_find_no_space_tell_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> str:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(Jobs, "_remember", no_space)
    with pytest.raises(OSError, match=r"No space left.*digests\.sqlite"):
        Jobs(tmp_path).digests_of([Path(__file__)])


@pytest.mark.parametrize("writer", [save_arrays, save_adapter, save_folder])
def test_files_of_arrays_have_the_permissions_that_the_user_asks_for(
    writer: Callable[[Path], None], tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        writer(tmp_path)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o640}


def test_another_error_of_safetensors_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="invalid"), arrays.errors_of_the_system(tmp_path / "a"):
        raise SafetensorError("invalid header")


def test_an_error_that_is_none_of_space_keeps_its_name(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic.atomic_file(tmp_path / "target"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "elsewhere")

    with pytest.raises(FileNotFoundError, match="elsewhere"):
        fail()


def test_want_of_space_elsewhere_keeps_its_name(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic.atomic_folder(tmp_path / "target"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/index")

    with pytest.raises(OSError, match="/elsewhere/index"):
        fail()
