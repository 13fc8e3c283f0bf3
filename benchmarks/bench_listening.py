"""What listening to hours costs: beside scoring the same windows file by file, and one long recording by itself.

    python benchmarks/bench_listening.py ratio [--minutes 4] [--rounds 5] [--before SRC]
    python benchmarks/bench_listening.py hours [--hours 12] [--hop 10]

Everything is `spectral`, on one thread, with windows of 10 s of two channels at 16 kHz.

``ratio``: milliseconds of processor time a window, of ``listen`` and of ``score_file`` of the same windows in files
of their own. The processes take turns, window by window, so that a busy computer slows all of them. With
``--before SRC``, the folder ``src`` of an older nearfar, its ``score_file`` is measured, too. ``hours``: one long
recording that is made first; the time, how many times real time that is, and the largest memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

RATE, SECONDS = 16_000, 10.0
HOPS = (10.0, 5.0, 5.12, 2.048, 1.024)  # those that are multiples of 0.064 s share the spectra of frames
CLIPS = 40  # of the fit
BLOCK_MINUTES = 5  # of sound that is repeated to make hours


def sound(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A bright machine near, dull surroundings in both channels: (samples, 2) of int16."""
    machine = 0.1 * rng.standard_normal(samples)
    hall = np.convolve(0.05 * rng.standard_normal(samples + 63), np.hanning(64), "valid") / 4
    own = 0.002 * rng.standard_normal((2, samples))
    heard = np.stack([machine + 0.5 * np.roll(hall, 40), 0.2 * np.roll(machine, 60) + hall]) + own
    return np.rint(32768 * heard.clip(-1, 0.999)).astype(np.int16).T


def make_clips(folder: Path) -> Path:
    """Training clips of 10 s."""
    folder.mkdir()
    for i in range(CLIPS):
        clip = sound(np.random.default_rng(i), round(SECONDS * RATE))
        soundfile.write(folder / f"{i:03d}.wav", clip, RATE)
    return folder


def make_recording(path: Path, minutes: float) -> Path:
    """A long recording: the same minutes of sound, louder and softer."""
    rng, left = np.random.default_rng(CLIPS), round(60 * minutes * RATE)
    block = sound(rng, min(left, BLOCK_MINUTES * 60 * RATE))
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while left > 0:
            some = (block[:left] * rng.uniform(0.8, 1.0)).astype(np.int16)
            file.write(some)
            left -= len(some)
    return path


# what runs in processes of its own


def worker(kind: str, clips: Path, recording: Path, hop: float) -> None:
    """Do the next window for each line that is read, and tell the milliseconds of processor time that it took."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        steps = listening(clips, recording, hop) if kind == "listen" else file_by_file(clips, recording)
        for _ in sys.stdin:
            begin = time.process_time()
            is_left = next(steps, None) is not None
            print(json.dumps(1e3 * (time.process_time() - begin) if is_left else None), flush=True)


def listening(clips: Path, recording: Path, hop: float) -> Iterator[object]:
    from nearfar.detector.fitted import Detector
    from nearfar.listening.scoring import listen
    from nearfar.windows.cutting import Cut

    return listen(Detector.fit(clips, "spectral"), recording, cut=Cut(SECONDS, hop))


def file_by_file(clips: Path, folder: Path) -> Iterator[object]:
    from nearfar.detector.fitted import Detector

    detector = Detector.fit(clips, "spectral")
    return (detector.score_file(path) for path in sorted(folder.iterdir()))


def hear_all(clips: Path, recording: Path, hop: float) -> None:
    """All windows of a recording; tells what it took."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        windows = listening(clips, recording, hop)
        begin, cpu = time.perf_counter(), time.process_time()
        count = sum(1 for _ in windows)
        took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(json.dumps({"windows": count, "wall": took, "cpu": cpu, "peak": peak_memory()}))


def peak_memory() -> int:
    """Of this process, in bytes. What ``getrusage`` says begins with that of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def started(*arguments: object, src: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if src is not None:
        environment["PYTHONPATH"] = str(src)
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


# what is printed


def ratio(minutes: float, rounds: int, before: Path | None) -> None:
    """The table of hops."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = make_clips(folder / "clips")
        recording = make_recording(folder / "long.wav", minutes)
        samples, _ = soundfile.read(recording, dtype="int16")
        print(f"milliseconds of processor time a window of {SECONDS:g} s, median of {rounds} rounds")
        print("hop, s    windows   listen   score_file   ratio" + ("   before   ratio" if before else ""))
        for hop in HOPS:
            files = folder / f"windows_{hop}"
            files.mkdir()
            length, step = round(SECONDS * RATE), round(hop * RATE)
            for i, start in enumerate(range(0, len(samples) - length + 1, step)):
                soundfile.write(files / f"{i:05d}.wav", samples[start : start + length], RATE)
            rows = [take_turns(clips, recording, files, hop, before) for _ in range(rounds)]
            times = np.median(rows, axis=0)
            told = "".join(f"{t:13.2f}{t / times[0]:8.2f}" for t in times[1:])
            print(f"{hop:<10g}{len(list(files.iterdir())):7d}{times[0]:9.2f}{told}", flush=True)


def take_turns(
    clips: Path, recording: Path, files: Path, hop: float, before: Path | None
) -> tuple[float, ...]:
    """Mean milliseconds a window: of listening, of file by file, and of file by file before."""
    workers = [started("listen", clips, recording, hop), started("files", clips, files, hop)]
    workers += [] if before is None else [started("files", clips, files, hop, src=before)]
    times: list[list[float]] = [[] for _ in workers]
    while True:
        answers = [asked(one) for one in workers]
        if None in answers:
            break
        for own, answer in zip(times, answers, strict=True):
            own.append(answer)
    for one in workers:
        one.communicate()
    return tuple(float(np.mean(own[1:])) for own in times)  # the first one fills caches


def asked(one: subprocess.Popen[str]) -> float | None:
    assert one.stdin is not None
    assert one.stdout is not None
    one.stdin.write("\n")
    one.stdin.flush()
    return json.loads(one.stdout.readline())


def hours(count: float, hop: float) -> None:
    """One long recording."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = make_clips(folder / "clips")
        recording = make_recording(folder / "long.wav", 60 * count)
        output, _ = started("all", clips, recording, hop).communicate()
        told = json.loads(output)
    print(f"{count:g} h of two channels at {RATE} Hz, {told['windows']} windows, hop {hop:g} s, one thread")
    print(f"wall       {told['wall']:8.1f} s   {3600 * count / told['wall']:8.0f} times real time")
    print(f"processor  {told['cpu']:8.1f} s   {3600 * count / told['cpu']:8.0f} times real time")
    print(f"memory     {told['peak'] / 1e6:8.0f} MB at most, with the fit of {CLIPS} clips")


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in ("listen", "files"):
        kind, clips, recording, hop = sys.argv[1:]
        worker(kind, Path(clips), Path(recording), float(hop))
        return
    if sys.argv[1:2] == ["all"]:
        hear_all(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("ratio", "hours"))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--hop", type=float, default=SECONDS)
    given = parser.parse_args()
    if given.what == "ratio":
        ratio(given.minutes, given.rounds, given.before)
    else:
        hours(given.hours, given.hop)


if __name__ == "__main__":
    main()
