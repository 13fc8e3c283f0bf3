"""Real named pipes and a real standard input: writers that come, go, are killed, write slowly, or too fast."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ears import PATIENCE, as_samples, listening, noise
from test_sources_pcm import flac, wav

from nearfar.watching.sources import SourceError
from nearfar.watching.sources import live as live_module
from nearfar.watching.sources import pipe as pipe_module
from nearfar.watching.sources.pipe import Pipe

SECOND = 16000

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "sound")
    return tmp_path / "sound"


def raw(path: Path | str, **options: object) -> Pipe:
    return Pipe(Path(path), **{"rate": SECOND, "channels": 2, **options})


def written(fifo: Path, content: bytes, *, size: int = 3000) -> None:
    with fifo.open("wb", buffering=0) as file:
        for start in range(0, len(content), size):
            file.write(content[start : start + size])


def test_opening_waits_for_no_writer_and_stops_at_once(fifo: Path) -> None:
    with listening(raw(fifo)) as listener:
        time.sleep(0.05)
        assert listener.stop() < 1.0
    assert listener.heard == []


@pytest.mark.parametrize("kind", ["raw", "wav", "flac"])
def test_each_writer_is_a_recording(fifo: Path, kind: str) -> None:
    encode = {"raw": np.ndarray.tobytes, "wav": lambda one: wav(one, size=0xFFFFFFFF), "flac": flac}[kind]
    parts = [noise(3000 * number, seed=number) for number in (3, 1, 2)]
    options = {} if kind == "raw" else {"rate": None, "channels": None}
    with listening(raw(fifo, **options)) as listener:
        for number, frames in enumerate(parts, start=1):
            written(fifo, encode(frames))
            listener.until_ended(number)
    for one, frames in zip(listener.heard, parts, strict=True):
        np.testing.assert_array_equal(one.sound, as_samples(frames))
    assert len({one.arrival.key for one in listener.heard}) == 3


def test_a_writer_that_follows_at_once_is_never_turned_away(fifo: Path) -> None:
    """Between two writers there is always a reader: nobody gets a broken pipe. Some may become one recording."""
    with listening(raw(fifo)) as listener:
        for number in range(50):
            written(fifo, noise(100, seed=number).tobytes())
        listener.until(lambda: sum(one.length for one in listener.heard) == 5000, "all is heard")
    found = np.concatenate([one.sound for one in listener.heard], axis=1)
    expected = np.concatenate([noise(100, seed=number) for number in range(50)])
    np.testing.assert_array_equal(found, as_samples(expected))


def test_sound_is_heard_as_it_comes(fifo: Path) -> None:
    frames = noise(500)
    with listening(raw(fifo)) as listener, fifo.open("wb", buffering=0) as writer:
        for start in range(0, 500, 100):
            writer.write(frames[start : start + 100].tobytes())
            listener.until(lambda n=start + 100: sum(h.length for h in listener.heard) == n, "it is heard")
        assert not listener.heard[0].is_ended


def test_a_writer_that_is_killed_ends_its_recording(fifo: Path) -> None:
    program = "import sys, time; f = open(sys.argv[1], 'wb', 0); f.write(bytes(4001)); time.sleep(600)"
    with listening(raw(fifo)) as listener:
        with subprocess.Popen([sys.executable, "-c", program, str(fifo)]) as process:
            listener.until(lambda: bool(listener.heard) and listener.heard[0].length == 1000, "it is heard")
            process.kill()
        listener.until_ended(1)
        written(fifo, bytes(400))
        listener.until_ended(2)
    assert [one.length for one in listener.heard] == [1001, 100]
    assert "ended with 1 bytes that are no whole frame" in str(listener.heard[0].lost[0].error)


def test_what_cannot_be_understood_is_told_and_the_next_writer_is_heard(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_module, "AFTER_GARBAGE", 0.05)
    with listening(raw(fifo)) as listener:
        written(fifo, b"OggS" + bytes(300_000))
        listener.until_ended(1)
        end = time.monotonic() + PATIENCE
        while (
            len(listener.heard) < 2 and time.monotonic() < end
        ):  # as long as the end of the first is not seen
            written(fifo, bytes(400))
            time.sleep(0.1)
        listener.until_ended(2)
    assert "send raw samples, WAV or FLAC" in listener.heard[0].arrival.error
    assert listener.heard[1].length == 100


def test_a_writer_that_was_gone_before_the_pipe_was_opened_anew_has_an_end(fifo: Path) -> None:
    """Its sound is there, and Linux reports no end of it."""
    pipe = pipe_module._NamedPipe(fifo)
    try:
        for content in (b"first", b"second"):
            written(fifo, content)
            assert pipe.opens(lambda: False)
            assert pipe.read(100, lambda: False) == content
            end = time.monotonic() + PATIENCE
            assert pipe.read(100, lambda end=end: time.monotonic() > end) == b""
            assert time.monotonic() < end
    finally:
        pipe.close()


def test_a_pause_of_the_writer_begins_another_recording(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "PAUSE", 0.2)
    with listening(raw(fifo)) as listener, fifo.open("wb", buffering=0) as writer:
        writer.write(bytes(400))
        listener.until(lambda: bool(listener.heard), "it is heard")
        time.sleep(0.3)
        writer.write(bytes(400))
        listener.until(lambda: len(listener.heard) == 2, "another is heard")


def test_a_writer_that_is_faster_than_time_is_made_to_wait(fifo: Path) -> None:
    frames = noise(60 * SECOND)
    source = raw(fifo, live=False, buffer=1.0)
    assert not source.follows_clock
    with listening(source) as listener:
        written(fifo, frames.tobytes(), size=2**16)
        listener.until_ended(1)
    (one,) = listener.heard
    np.testing.assert_array_equal(one.sound, as_samples(frames))


def stdin_from(monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    class Stdin:
        def fileno(self) -> int:
            return file

    monkeypatch.setattr(sys, "stdin", Stdin())


def test_standard_input_is_heard_to_its_end_which_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    frames = noise(SECOND)

    def send() -> None:
        with os.fdopen(write, "wb") as file:
            file.write(frames.tobytes())

    stdin_from(monkeypatch, read)
    with listening(raw("-")) as listener:
        threading.Thread(target=send, daemon=True).start()
        listener.until(lambda: listener.is_done, "it has ended by itself")
    os.close(read)
    (one,) = listener.heard
    assert one.arrival.name.startswith("standard input ")
    np.testing.assert_array_equal(one.sound, as_samples(frames))


def test_standard_input_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = noise(SECOND)
    (tmp_path / "sound.wav").write_bytes(wav(frames))
    with (tmp_path / "sound.wav").open("rb") as file:
        stdin_from(monkeypatch, file.fileno())
        with listening(Pipe(Path("-"))) as listener:
            listener.until(lambda: listener.is_done, "it has ended by itself")
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(frames))


def test_watching_that_ends_waits_for_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    stdin_from(monkeypatch, read)
    with listening(raw("-")) as listener:
        os.write(write, bytes(400))
        listener.until(lambda: bool(listener.heard), "it is heard")
        assert listener.stop() < 1.0
    os.close(read)
    os.close(write)


def test_a_terminal_is_no_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    main, other = os.openpty()
    stdin_from(monkeypatch, other)
    with listening(raw("-")) as listener:
        error = listener.until_error()
    os.close(main)
    os.close(other)
    assert isinstance(error, SourceError)
    assert "standard input: it is a terminal" in str(error)


@pytest.mark.parametrize("is_file", [True, False])
def test_what_is_no_pipe_is_an_error_that_says_what_to_do(tmp_path: Path, is_file: bool) -> None:
    path = tmp_path / "sound"
    if is_file:
        path.touch()
    with listening(raw(path)) as listener:
        error = listener.until_error()
    assert isinstance(error, SourceError)
    message = "is no named pipe; make one with mkfifo" if is_file else "make it with: mkfifo"
    assert message in str(error)


def test_no_file_stays_open(fifo: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list open files")
    before = len(list(descriptors.iterdir()))
    with listening(raw(fifo)) as listener:
        for number in range(1, 11):
            written(fifo, bytes(400))
            listener.until_ended(number)
    end = time.monotonic() + PATIENCE
    while len(list(descriptors.iterdir())) > before and time.monotonic() < end:
        time.sleep(0.01)
    assert len(list(descriptors.iterdir())) <= before
