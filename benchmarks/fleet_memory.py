"""The memory of `nearfar fit-all` while it fits very many machines.

    python benchmarks/fleet_memory.py [--machines 1000] [--clips 100] [--on local] [--workers 2]

Clips are 0.5 s of noise, two channels at 16 kHz, and the encoder has 8 bands: so little that 100,000 clips take
minutes. Ten machines are written, and linked under a hundred names each. It prints the resident memory of the
driver after each tenth of the clips, and at the end that of the largest worker. It ends with 1 if the driver has
grown by more than 5 % from the first tenth to the end.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nearfar.detector.fleet import HowToFit, fit_all
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.recordings import audio
from nearfar.systems import configuration

SETTINGS = {"branch.encoder_options.n_mels": 8, "threshold.folds": 3}
DISTINCT, RATE, SECONDS = 10, 16000, 0.5
MOST_GROWTH = 1.05


def write_hall(root: Path, machines: int, clips: int) -> None:
    """Folders of machines; each file of a few is there under many names."""
    for number in range(machines):
        folder = root / f"machine-{number:05d}"
        folder.mkdir(parents=True)
        for clip in range(clips):
            path, first = (
                folder / f"{clip:05d}.wav",
                root / f"machine-{number % DISTINCT:05d}" / f"{clip:05d}.wav",
            )
            if number < DISTINCT:
                rng = np.random.default_rng((number, clip))
                audio.write(path, 0.1 * rng.standard_normal((2, int(SECONDS * RATE))).clip(-3, 3), RATE)
            else:
                path.hardlink_to(first)


def resident() -> float:
    """Of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--on", default="local")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_hall(root / "hall", chosen.machines, chosen.clips)
        system = configuration.load("spectral", SETTINGS)
        place = Place(chosen.on, chosen.workers)
        found = fit_all(
            root / "hall",
            root / "out",
            system,
            HowToFit(keep="nothing"),
            workers=place,
            jobs=Jobs(root / "cache"),
        )
        begun, measured = time.monotonic(), []
        for number, _ in enumerate(found, start=1):
            if number % max(1, chosen.machines // 10) == 0:
                measured.append(resident())
                seconds = time.monotonic() - begun
                print(
                    f"{number * chosen.clips:7d} clips  {measured[-1]:7.1f} MB  {seconds:6.0f} s", flush=True
                )
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        growth = measured[-1] / measured[0]
        print(f"from the first tenth to the end: x {growth:.3f}; largest worker {largest:.0f} MB")
        return int(growth > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
