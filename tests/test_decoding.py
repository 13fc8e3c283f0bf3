"""Recordings from outside are decoded in a process that may be lost: its limits, and what is said beyond them."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

import served  # needs them
import synthetic
from served import FILE, until

from nearfar.recordings import audio
from nearfar.serving.decoding import Worker, WorkerError, reduced_environment

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
VERDICT = "/api/machines/pump/verdict"


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.the_detector(tmp_path_factory)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker(memory_bytes=2**30)
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = served.filled(tmp_path_factory.mktemp("decoding"), detector)
    app = made.app(upload_bytes=2_000_000, upload_seconds=3.0, uploads=2, recording_seconds=20.0)
    with served.running(app) as address, served.client(address) as client:
        yield client
    made.database.close()


def job(detector: Path, file: Path, **more: Any) -> dict[str, Any]:
    how = {"at": None, "last": None, "seconds": 600.0, "page": False}
    return {
        "do": "explain", "detector": str(detector), "folder": str(file.parent), "file": file.name, **how, **more,
    }  # fmt: skip


def test_a_worker_that_was_killed_is_replaced(worker: Worker, detector: Path) -> None:
    file = served.recording_of(detector)
    first = worker.ask(job(detector, file), seconds=60.0)
    before = worker.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: worker._process is None or worker._process.poll() is not None)
    assert worker.ask(job(detector, file), seconds=60.0) == first
    assert worker.pid != before


@linux
def test_a_job_that_takes_too_long_is_ended(detector: Path) -> None:
    worker = Worker(memory_bytes=2**30)
    file = served.recording_of(detector)
    expected = worker.ask(job(detector, file), seconds=60.0)
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"it took longer than 0\.3 s") as caught:
        worker.ask(job(detector, file), seconds=0.3)
    assert caught.value.is_too_large
    assert not Path(f"/proc/{pid}").exists(), "it is gone, not only left"
    assert worker.ask(job(detector, file), seconds=60.0) == expected
    worker.close()


@linux
def test_a_job_that_needs_too_much_memory_is_refused(detector: Path, tmp_path: Path) -> None:
    """A second of 30 MHz: short enough, and more samples than there is memory."""
    rate, channels = 30_000_000, 2
    file = tmp_path / "fast.wav"
    head = wav(np.zeros((channels, 0)), rate)
    with file.open("wb") as sparse:
        size = 2 * channels * rate
        sparse.write(head[:4] + struct.pack("<I", 36 + size) + head[8:40] + struct.pack("<I", size))
        sparse.truncate(44 + size)
    worker = Worker(memory_bytes=400 * 2**20)
    with pytest.raises(WorkerError, match="memory") as caught:
        worker.ask(job(detector, file), seconds=60.0)
    assert caught.value.is_too_large
    assert worker.ask(job(detector, served.recording_of(detector)), seconds=60.0)["content"]
    worker.close()


@linux
def test_computing_is_limited_too(detector: Path) -> None:
    """The system ends a worker that computes for longer than its job may, whatever this process does meanwhile."""
    worker = Worker(memory_bytes=2**30)
    worker.ask(job(detector, served.recording_of(detector)), seconds=60.0)
    limits = Path(f"/proc/{worker.pid}/limits").read_text(encoding="utf-8").splitlines()
    soft = next(int(line.split()[3]) for line in limits if line.startswith("Max cpu time"))
    assert soft <= 60 + 30
    told = {line[:26].strip(): line[26:].split()[0] for line in limits}
    assert told["Max data size"] == str(2**30)
    assert told["Max file size"] == "0"
    assert told["Max core file size"] == "0"
    worker.close()


@linux
def test_a_worker_has_no_network(worker: Worker, detector: Path) -> None:
    worker.ask(job(detector, served.recording_of(detector)), seconds=60.0)
    if worker.lacks:
        pytest.skip(f"this system does not allow it: {worker.lacks}")
    own, its = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", worker.pid))
    assert own != its
    devices = Path(f"/proc/{worker.pid}/net/dev").read_text(encoding="utf-8").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] in ([], ["lo"])


@linux
def test_a_worker_knows_nothing_of_the_environment(detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFAR_SECRET", "hunter2")
    worker = Worker(memory_bytes=2**30)
    worker.ask(job(detector, served.recording_of(detector)), seconds=60.0)
    assert b"hunter2" not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    assert "NEARFAR_SECRET" not in reduced_environment()
    worker.close()


@linux
def test_a_worker_ends_with_its_parent() -> None:
    code = (
        "import sys, time\nfrom nearfar.serving.decoding import Worker\n"
        "worker = Worker(memory_bytes=2**30)\nworker._started()\nprint(worker.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    until(
        lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    )


# By HTTP


def wav(samples: np.ndarray[Any, Any], rate: int = synthetic.RATE) -> bytes:
    """A WAV file of 16 bits, (channels, samples), by hand."""
    data = (np.clip(samples.T, -1, 1) * 32767).astype("<i2").tobytes()
    channels = samples.shape[0]
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data"
        + struct.pack("<I", len(data)) + data
    )  # fmt: skip


GOOD = wav(synthetic.clip(5))
HOSTILE = {
    "empty": b"",
    "no sound": b"GIF89a" + bytes(100),
    "a page": b"<html><script>alert(1)</script>",
    "cut off": GOOD[:20000],
    "head alone": GOOD[:44],
    "half a head": GOOD[:30],
    "lies of its length": GOOD[:40] + struct.pack("<I", 10_000_000) + GOOD[44:],
    "no channels": GOOD[:22] + struct.pack("<H", 0) + GOOD[24:],
    "60000 channels": GOOD[:22] + struct.pack("<H", 60000) + GOOD[24:],
    "no rate": GOOD[:24] + struct.pack("<I", 0) + GOOD[28:],
    "a rate of 4 GHz": GOOD[:24] + struct.pack("<I", 2**32 - 1) + GOOD[28:],
    "no bits": GOOD[:34] + struct.pack("<H", 0) + GOOD[36:],
    "a code that is not known": GOOD[:20] + struct.pack("<H", 0xFFFE) + GOOD[22:],
    "not a number": GOOD[:20] + struct.pack("<H", 3) + GOOD[22:34] + struct.pack("<H", 32) + GOOD[36:44]
    + struct.pack("<f", float("nan")) * 32000,
    "another rate": wav(synthetic.clip(5), rate=1000),
    "one sample": wav(synthetic.clip(5)[:, :1]),
    "FLAC that is none": b"fLaC" + bytes(range(256)) * 20,
    "Ogg that is none": b"OggS" + bytes(range(256)) * 20,
    "MP3 that is none": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(5000),
    "a table of HDF5": b"\x89HDF\r\n\x1a\n" + bytes(5000),
    "a pickle": b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.",
    "too long": wav(np.zeros((1, 21 * 16000), np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_recording_is_refused_in_a_sentence(api: Any, what: str) -> None:
    answer = api.post(VERDICT, content=HOSTILE[what], headers=FILE)
    assert answer.status_code in ((413,) if what == "too long" else (422,)), answer.text[:300]
    error = answer.json()["error"]
    assert error
    assert "/tmp" not in error
    assert "Traceback" not in error


def test_a_good_one_is_answered_after_all_of_them(api: Any) -> None:
    answer = api.post(VERDICT, content=GOOD, headers=FILE)
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["decision"] in ("normal", "anomaly")


def test_flac_is_the_same_recording(api: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    audio.write(path, synthetic.clip(5), synthetic.RATE)
    flac, plain = (api.post(VERDICT, content=c, headers=FILE).json() for c in (path.read_bytes(), GOOD))
    assert flac["score"] == pytest.approx(plain["score"], rel=0.02)


def test_more_than_is_allowed_is_refused_as_it_comes(api: Any) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(100_000)

    assert api.post(VERDICT, content=endless(), headers=FILE).status_code == 413


def test_so_many_at_once_and_no_file_is_left(
    api: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two are slow; a third one is told to come again. The slow ones are given up, and take their files along."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    more, answers = threading.Event(), []

    def slow() -> Iterator[bytes]:
        yield GOOD[:1000]
        more.wait(20.0)

    def upload() -> None:
        with served.client(str(api.base_url)) as own:
            answers.append(own.post(VERDICT, content=slow(), headers=FILE).status_code)

    threads = [threading.Thread(target=upload) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    third = api.post(VERDICT, content=GOOD, headers=FILE)
    assert (third.status_code, third.headers["retry-after"]) == (429, "5")
    until(lambda: not list(tmp_path.iterdir()))  # the time is over
    more.set()
    for thread in threads:
        thread.join()
    assert answers == [408, 408]
    assert api.post(VERDICT, content=GOOD, headers=FILE).status_code == 200
    until(lambda: not list(tmp_path.iterdir()))
