"""What a fit to a long recording takes: time and memory, beside a fit to the same windows as files.

    python benchmarks/bench_windows.py [MINUTES ...]

For each length, a recording of two channels at 16 kHz is written, and `spectral` is fitted to it, in a process of
its own and with one thread; then to its windows of 10 s, written as files. Memory is the largest resident set of
the process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

import nearfar
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.recording import Recording
from nearfar.windows.cutting import Cut

RATE, AT_ONCE = 16000, 5  # Hz, seconds


def write(path: Path, minutes: float) -> None:
    """A tone with harmonics in noise that both microphones hear, of changing level."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for step in range(round(60 * minutes / AT_ONCE)):
            time_ = step * AT_ONCE + np.arange(AT_ONCE * RATE) / RATE
            machine = 0.05 * np.sin(2 * np.pi * 120 * time_) + 0.03 * np.sin(2 * np.pi * 360 * time_)
            common = 0.02 * (1 + 0.3 * np.sin(step / 2)) * rng.standard_normal(len(time_))
            own = rng.standard_normal((2, len(time_)))
            near = machine + 0.01 * own[0] + 0.5 * common
            far = 0.2 * machine + common + 0.003 * own[1]
            file.write(np.stack([near, far], axis=1).astype(np.float32))


def as_files(path: Path, folder: Path) -> None:
    """The windows of a recording, each in a file."""
    folder.mkdir()
    header = audio.read_header(path)
    for number, span in enumerate(Cut.of().spans(header.samples, header.rate)):
        audio.write(folder / f"{number:05}.wav", *audio.read(Recording((path,), span=span)))


def fit(folder: Path) -> None:
    """Print what a fit takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    with tempfile.TemporaryDirectory() as cache, threadpool_limits(1):
        detector = nearfar.fit(folder, "spectral", jobs=Jobs(Path(cache)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.process_time() - start
    print(f"{detector.trained_on['clips']:8} {seconds:14.1f} {peak:9.0f} {before:14.0f}", flush=True)


def main() -> None:
    """Write recordings, and fit to each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", nargs="*", type=float, default=[10, 60, 240])
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fit is not None:
        fit(asked.fit)
        return
    print("minutes, as          windows  processor time, s  peak, MB  before the fit, MB", flush=True)
    for minutes in asked.minutes:
        with tempfile.TemporaryDirectory() as place:
            whole = Path(place, "recording")
            whole.mkdir()
            write(whole / "a.wav", minutes)
            as_files(whole / "a.wav", Path(place, "files"))
            for kind in ("recording", "files"):
                print(f"{minutes:7g}, {kind:10}", end=" ", flush=True)
                subprocess.run([sys.executable, __file__, "--fit", str(Path(place, kind))], check=True)


if __name__ == "__main__":
    main()
