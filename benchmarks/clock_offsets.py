"""How well the drift between the clocks of two channels is measured, on simulated clips.

    python benchmarks/clock_offsets.py [--seed 4] [--clips 2]

The far channel of each clip is stretched by a known drift, by interpolation of eight times as many samples.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import scipy.signal

from nearfar.evidence.clock_offsets import clock_offset
from nearfar.simulation.dataset import Cell, Settings, plan, record, site_of

RATE, SECONDS = 16000, 10.0
MACHINES = ("fan", "pump", "slider", "valve")
DRIFTS = (0.0, -20.0, 100.0)  # ppm


def stretched(x: np.ndarray, ppm: float) -> np.ndarray:
    """The same sound by another clock."""
    finer = scipy.signal.resample(x, 8 * len(x))
    return np.interp(8 * np.arange(len(x)) * (1 + 1e-6 * ppm), np.arange(len(finer)), finer)


def clips(machine: str, seed: int, count: int) -> list[np.ndarray]:
    """Normal clips of a machine, (2, samples)."""
    settings = Settings(
        machines=(machine,), source_clips=count, target_clips=1, test_clips=1, seconds=SECONDS, rate=RATE,
        snr=(-8.0, 0.0), seed=seed, shift=None, noise=None, microphone_faults=(), microphone_fault_share=0.0,
        sources=False,
    )  # fmt: skip
    site, cell = site_of(settings, machine), Cell(machine, "train", "source", "normal")
    return [record(site, plan(settings, site, cell, i), samples=settings.samples).clip for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--clips", type=int, default=2)
    given = parser.parse_args()
    found = []
    for machine in MACHINES:
        for (near, far), ppm in product(clips(machine, given.seed, given.clips), DRIFTS):
            measured = clock_offset(np.stack([near, stretched(far, ppm)]).astype(np.float32), RATE)
            found.append((measured.drift - ppm, measured.error))
            print(f"{machine:8s}{ppm:7.0f} ppm: {measured.drift:8.2f} +- {measured.error:.2f} ppm, "
                  f"delay {1000 * measured.delay:.2f} ms")  # fmt: skip
    error, said = np.abs(np.array(found)).T
    told = ~np.isnan(error)
    print(f"told {told.sum()} of {len(told)}; error median {np.median(error[told]):.2f} ppm, "
          f"95 % {np.quantile(error[told], 0.95):.2f} ppm; within two standard errors "
          f"{np.mean(error[told] < 2 * said[told]):.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
