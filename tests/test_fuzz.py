"""The fuzzer finds what it looks for; and a minute of it finds nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzz import cases, damage
from fuzz.cases import Outcome, tried, undamaged
from fuzz.surfaces import Surface, damaged
from hypothesis import given
from hypothesis import strategies as st

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of a process with threads, from 3.12 on
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux counts it"),
]
VALID = b"the content of a file, which is long enough to be damaged in many places"
WAYS = [
    *damage.BLIND,
    damage.any_bytes,
    damage.cells,
    damage.settings,
    damage.values,
    damage.tensors,
    damage.chunks,
]


def read(case: Path) -> str:
    return (case / "a.txt").read_text(errors="replace")


def surface(use: Callable[[Path], Any], *, is_guarded: bool = False) -> Surface:
    """One file, which is used in that way."""
    return Surface("text", lambda _: None, ("a.txt",), {"use": use}, is_guarded=is_guarded)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "valid"
    folder.mkdir()
    (folder / "a.txt").write_bytes(VALID)
    return folder


def outcome(made: Path, use: Callable[[Path], Any], *, is_guarded: bool = False) -> Outcome:
    """Of the first case of such a surface."""
    one = surface(use, is_guarded=is_guarded)
    return tried(one, made, made.parent / "cases", seed=1, number=0, expected={"use": VALID.decode()})


# damage


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@given(content=st.binary(max_size=300), seed=st.integers(0, 999))
def test_a_seed_names_the_damage_of_anything(way: damage.Way, content: bytes, seed: int) -> None:
    assert way(content, Random(seed)) == way(content, Random(seed))


@given(
    told=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda t: st.lists(t) | st.dictionaries(st.text(), t),
    ),
    seed=st.integers(0, 999),
)
def test_any_json_can_be_changed_and_written(told: Any, seed: int) -> None:
    json.dumps(damage.other_value(told, Random(seed)))


def test_a_case_is_damaged_and_again_in_the_same_way(made: Path) -> None:
    found = []
    for _ in range(2):
        (made / "a.txt").write_bytes(VALID)
        assert damaged(surface(read), made, Random("1/text/0")) == [made / "a.txt"]
        found.append((made / "a.txt").read_bytes())
    assert found[0] == found[1] != VALID


# what comes of a case


def test_a_result(made: Path) -> None:
    found = outcome(made, read)
    assert (found.kind, found.use, found.changed) == ("result", "use", ["a.txt"])
    assert not list((made.parent / "cases").iterdir())


def test_an_error_that_names_the_file_is_told(made: Path) -> None:
    def use(case: Path) -> None:
        raise ValueError(f"{case / 'a.txt'}: damaged")

    assert outcome(made, use).kind == "told"


def unnamed(_: Path) -> None:
    raise ValueError("something is wrong")


def unexpected(case: Path) -> None:
    raise TypeError(f"{case / 'a.txt'}")


def crash(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(_: Path) -> None:
    os._exit(3)


def fill(_: Path) -> int:
    return len(bytearray(1 << 33))


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (unnamed, "unnamed"),
        (unexpected, "traceback"),
        (crash, "crash (SIGSEGV)"),
        (leave, "crash (exit 3)"),
        (fill, "memory"),
    ],
)
def test_a_fault(made: Path, use: Callable[[Path], Any], why: str) -> None:
    found = outcome(made, use)
    assert (found.kind, found.why) == ("fault", why)
    assert (made.parent / "cases" / "text-0" / "a.txt").exists()


def test_a_hang_is_ended_with_all_that_it_started(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "SECONDS", 0.3)

    def use(_: Path) -> None:
        subprocess.run(["sleep", "60"], check=True)

    begun = time.monotonic()
    assert outcome(made, use).why == "hang"
    assert time.monotonic() - begun < 20


def test_a_damage_that_nobody_tells(made: Path) -> None:
    assert outcome(made, read, is_guarded=True).why == "silent"
    assert outcome(made, lambda _: VALID.decode(), is_guarded=True).kind == "result"


def test_a_surface_whose_valid_files_are_refused_is_wrong(made: Path) -> None:
    with pytest.raises(ValueError, match="something is wrong"):
        undamaged(surface(unnamed), made, made.parent)


# all surfaces

SECONDS = 40  # with what it takes to make all valid files, some 15 s on two idle cores


@pytest.mark.slow
def test_a_minute_of_damage_does_no_harm() -> None:
    for name in ("torch", "h5py", "nptdms", "pyuff", "asammdf", "fastapi", "uvicorn", "httpx"):
        pytest.importorskip(name)
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--seconds", str(SECONDS), "--seed", "20"],
        cwd=here, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": _path()}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def _path() -> str:
    """Where this process finds its modules."""
    return os.pathsep.join(path for path in sys.path if path)
