"""Recordings are decoded in processes of their own: a library that crashes or hangs costs one file, which is told.

What crashes or hangs here is a stand-in: a decoder that ends its own process, or sleeps, when it is given a file of
a certain name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.detector.fitted import Detector
from nearfar.recordings import apart, audio, sound_files
from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Lost
from nearfar.recordings.datasets import load_machine
from nearfar.recordings.recording import Recording, Span
from nearfar.systems import configuration

BAD = "bad"
MESSAGE = r"bad\.wav: the library that decodes it crashed \(SIGSEGV\), and nothing of it is used"
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def decoding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It is on, and a file called bad crashes what reads it."""
    genuine = sound_files._opened

    def opened(source: sound_files.Source) -> object:
        if BAD in Path(source.name).stem and apart._is_decoder:
            os.kill(os.getpid(), signal.SIGSEGV)
        return genuine(source)

    apart.close()
    monkeypatch.setattr(sound_files, "_opened", opened)
    monkeypatch.setenv(apart.VARIABLE, apart.APART)
    yield
    apart.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "good.wav", clip(1).T, RATE)
    soundfile.write(tmp_path / "bad.wav", clip(2).T, RATE)
    return tmp_path / "good.wav"


def test_all_is_read_as_it_is_read_here(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Recording((path,), (2, 1), Span(100, 300, RATE))
    there = [audio.read_recorded(path), audio.read_recorded(part)]
    headers = [audio.read_header(path), audio.read_header(part), audio.in_blocks(path).header]
    blocks = [*audio.in_blocks(path).blocks(5000)]
    pieces = audio.read_part(path, 10, 20)
    with path.open("rb") as stream:
        piped = audio.read_stream(stream, "it", rate=RATE, channels=2)
    monkeypatch.delenv(apart.VARIABLE)
    for one, here in zip(there, [audio.read_recorded(path), audio.read_recorded(part)], strict=True):
        np.testing.assert_array_equal(one.samples, here.samples)
        assert (one.header, one.notes, one.rate) == (here.header, here.notes, here.rate)
        assert one.samples.flags.writeable == here.samples.flags.writeable
    assert headers == [audio.read_header(path), audio.read_header(part), audio.in_blocks(path).header]
    np.testing.assert_array_equal(
        np.concatenate(blocks, 1), np.concatenate([*audio.in_blocks(path).blocks(5000)], 1)
    )
    np.testing.assert_array_equal(pieces, audio.read_part(path, 10, 20))
    np.testing.assert_array_equal(piped.samples, there[0].samples)


def test_errors_are_those_of_the_reader(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such file"):
        audio.read(path.with_name("none.wav"))
    path.write_bytes(b"")
    with pytest.raises(AudioError, match="the file is empty") as raised:
        audio.read(path)
    assert raised.value.fault == "empty"


def test_a_crash_costs_one_file(path: Path) -> None:
    bad = path.with_name("bad.wav")
    for read_it in (audio.read, audio.read_header, audio.in_blocks):
        with pytest.raises(AudioError, match=MESSAGE) as raised:
            read_it(bad)  # type: ignore[operator]
        assert raised.value.fault == "unreadable"
    assert audio.read(path)[0].shape == (2, RATE)
    with bad.open("rb") as stream, pytest.raises(AudioError, match=MESSAGE):
        audio.read_stream(stream, "bad.wav", rate=RATE, channels=2)


def test_a_crash_within_a_recording_loses_what_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = sound_files._Reader.read

    def read(reader: sound_files._Reader, start: int, frames: int) -> object:
        if start >= 8000 and apart._is_decoder:
            os.kill(os.getpid(), signal.SIGABRT)
        return genuine(reader, start, frames)

    monkeypatch.setattr(sound_files, "STREAMED", 4000)
    monkeypatch.setattr(sound_files._Reader, "read", read)
    apart.close()
    *whole, lost = audio.in_blocks(path).blocks(0)
    assert [block.shape[1] for block in whole if not isinstance(block, Lost)] == [4000, 4000]
    assert isinstance(lost, Lost)
    assert lost.samples == RATE - 8000
    assert "crashed (SIGABRT)" in str(lost.error)


SLEEP = 600.0  # s of a decoder that hangs
HANGS = r"the library that decodes it gave nothing for \d+ s and was ended, and nothing of it is used"


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file called slow is never read to its end; four seconds without an answer are too long."""
    genuine = sound_files._opened

    def opened(source: sound_files.Source) -> object:
        if "slow" in Path(source.name).stem and apart._is_decoder:
            time.sleep(SLEEP)
        return genuine(source)

    monkeypatch.setattr(sound_files, "_opened", opened)
    monkeypatch.setattr(apart, "SECONDS", 4.0)
    monkeypatch.setattr(apart, "LOOK_EVERY", 0.05)


@pytest.mark.usefixtures("hanging")
def test_a_decoder_that_hangs_costs_one_file(path: Path) -> None:
    slow = path.with_name("slow.wav")
    slow.write_bytes(path.read_bytes())
    begun = time.monotonic()
    for read_it in (audio.read, audio.read_header, audio.in_blocks):
        with pytest.raises(AudioError, match=rf"slow\.wav: {HANGS}") as raised:
            read_it(slow)  # type: ignore[operator]
        assert raised.value.fault == "unreadable"
    assert time.monotonic() - begun < SLEEP / 2
    assert audio.read(path)[0].shape == (2, RATE)
    with slow.open("rb") as stream, pytest.raises(AudioError, match=HANGS):
        audio.read_stream(stream, "slow.wav", rate=RATE, channels=2)


@pytest.mark.usefixtures("hanging")
def test_the_process_that_hangs_is_ended(path: Path) -> None:
    slow = path.rename(path.with_name("slow.wav"))
    before = children()
    with pytest.raises(AudioError, match=HANGS):
        audio.read(slow)
    assert children() == before


@pytest.mark.usefixtures("hanging")
def test_a_hang_within_a_recording_loses_what_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = sound_files._Reader.read

    def read(reader: sound_files._Reader, start: int, frames: int) -> object:
        if start >= 8000 and apart._is_decoder:
            time.sleep(SLEEP)
        return genuine(reader, start, frames)

    monkeypatch.setattr(sound_files, "STREAMED", 4000)
    monkeypatch.setattr(sound_files._Reader, "read", read)
    *whole, lost = audio.in_blocks(path).blocks(0)
    assert [block.shape[1] for block in whole if not isinstance(block, Lost)] == [4000, 4000]
    assert isinstance(lost, Lost)
    assert lost.samples == RATE - 8000
    assert "gave nothing for" in str(lost.error)


def slept(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.usefixtures("hanging")
def test_large_files_get_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.2)
    assert apart.called(slept, 2.0, name="it", size=lambda: int(SLEEP * apart.BYTES_PER_SECOND)) == 2.0
    with pytest.raises(AudioError, match="gave nothing"):
        apart.called(slept, SLEEP, name="it", size=lambda: apart.BYTES_PER_SECOND // 10)


@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize("state", ["D", "T"])
def test_waiting_for_a_disk_is_no_hang(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux tells it of a network disk, or of a process that is stopped."""
    monkeypatch.setattr(apart, "SECONDS", 0.2)
    monkeypatch.setattr(apart, "_state", lambda _: state)
    assert apart.called(slept, 2.0, name="it", size=int) == 2.0


def stopped(seconds: float) -> str:
    """Stop this process; another one lets it go on."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return f"went on after {seconds:g} s"


@pytest.mark.usefixtures("hanging")
def test_a_decoder_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    apart.called(int, name="it", size=int)
    pid = apart._idle[0]._pid
    monkeypatch.setattr(apart, "SECONDS", 3.0)

    def go_on() -> None:
        while apart._state(pid) != "T":
            time.sleep(0.05)
        time.sleep(6.0)
        os.kill(pid, signal.SIGCONT)

    helper = threading.Thread(target=go_on, daemon=True)
    helper.start()
    assert apart.called(stopped, 3.0, name="it", size=int) == "went on after 3 s"
    helper.join()


@pytest.mark.usefixtures("hanging")
def test_seconds_in_which_this_process_is_stopped_do_not_count(tmp_path: Path) -> None:
    """Its decoder hangs from its point of view: it answers long after the limit, of which most was a stop."""
    script = tmp_path / "stopped.py"
    script.write_text(
        "import time\n"
        "from nearfar.recordings import apart\n"
        "apart.SECONDS, apart.CANNOT_WORK = 6.0, ''\n"
        "print('begun', flush=True)\n"
        "print(apart.called(time.sleep, 9.0, name='it', size=int))\n"
    )
    environment = os.environ | {apart.VARIABLE: apart.APART}
    with subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGSTOP)
        time.sleep(6.0)
        process.send_signal(signal.SIGCONT)
        assert process.communicate()[0] == "None\n"


@pytest.mark.usefixtures("hanging")
def test_what_a_command_tells_of_a_file_that_hangs(path: Path) -> None:
    path.with_name("slow.wav").write_bytes(path.read_bytes())
    path.with_name("bad.wav").unlink()
    checked = CliRunner().invoke(app, ["check", str(path.parent), "--json"])
    assert "slow.wav" in checked.output
    assert "gave nothing for" in checked.output


def test_what_the_parent_does_when_it_crashes_is_not_done_for_a_decoder(tmp_path: Path) -> None:
    """Such a handler prints stacks, and may itself fail in a process that was forked."""
    script = tmp_path / "crashing.py"
    script.write_text(
        "import os\n"
        "from nearfar.recordings import apart\n"
        "try:\n"
        "    apart.called(os.abort, name='it', size=int)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", script],
        env=os.environ | {apart.VARIABLE: apart.APART},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "crashed (SIGABRT)" in done.stdout
    assert not done.stderr


def test_an_iteration_that_is_left_ends_its_process(path: Path) -> None:
    audio.read_header(path)  # by a process that stays
    before = children()
    blocks = audio.in_blocks(path).blocks(0)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    audio.read_header(path)
    assert len(children()) == len(before)


def children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()


def test_processes_are_used_again_and_end_when_asked(path: Path) -> None:
    for _ in range(20):
        audio.read(path)
    assert len(apart._idle) == 1
    list(audio.each([path] * 20, audio.read, workers=3))
    assert 1 <= len(apart._idle) <= 4
    apart.close()
    assert not apart._idle


def test_they_end_with_their_parent(path: Path) -> None:
    code = (
        "import os, pathlib, sys; from nearfar.recordings import apart, audio;"
        " audio.read(pathlib.Path(sys.argv[1])); print(apart._idle[0]._pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    decoder = int(done.stdout)
    assert wait_until_gone(decoder), f"process {decoder} still runs"


def wait_until_gone(pid: int) -> bool:
    """A process of nobody's ends in moments; a zombie counts as gone."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        threading.Event().wait(0.05)
    return False


def test_what_a_command_is_told_of_such_a_file(tmp_path: Path) -> None:
    """``check`` lists it, ``fit`` leaves it out, ``score`` goes on with the others."""
    machine = write_machine(tmp_path / "data", "fan", train=18, target=6, test=1, seconds=0.5)
    soundfile.write(
        machine / "train" / "section_00_source_train_normal_9999_bad.wav", clip(3, seconds=0.5).T, RATE
    )
    soundfile.write(machine / "test" / "bad.wav", clip(4, seconds=0.5).T, RATE)
    (machine / "test" / "bad.wav").rename(tmp_path / "bad.wav")
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "data"), "--json"])
    assert "9999_bad.wav" in checked.output
    assert "crashed (SIGSEGV)" in checked.output
    system = configuration.load("spectral", {"branch.encoder_options.n_mels": 8, "threshold.folds": 4})
    fitted = Detector.fit(load_machine(machine), system)
    assert "9999_bad.wav" in str(fitted.trained_on["left_out"])
    fitted.save(tmp_path / "detector")
    good = str(next((machine / "test").iterdir()))
    scored = CliRunner().invoke(
        app, ["score", str(tmp_path / "detector"), good, str(tmp_path / "bad.wav"), "--json"]
    )
    assert scored.exit_code == 1
    assert scored.output.count('"decision"') == 2
    assert "crashed (SIGSEGV)" in scored.output
