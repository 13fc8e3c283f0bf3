"""How far a data set is like the real one: level of far against near, coherence, duration, by machine.

    python benchmarks/realism.py FOLDER [--clips 30]

The real figures are medians over the 200 labelled test clips of each machine of the development set of DCASE 2026
Task 2. They come from the repository NADUNGVN/care-asd (commit 31286a4, MIT licence), whose authors computed them
from the published recordings. The measures follow the description and the code there:

* Frames of 1,024 samples, 512 apart, under a symmetric Hann window; none reaches beyond the clip, and one more lies
  at its end. Samples are relative to full scale.
* Coherence: cross-spectrum and powers are averaged exponentially over the frames with the factor 0.95, beginning
  with the first frame itself. ``|cross|^2 / (near far + 1e-8)``, mean over frames and over the bins of a band, the
  upper edge left out. The constant 1e-8 pulls quiet bins towards 0. Independent channels have about 0.05, not 0.
* Level: the median over frames and bins of ``|far|^2 / max(|near|^2, 1e-8)``.

The test clips of each machine are measured, at most so many of each domain and label. A median is within the real
spread if it lies between the smallest and the largest median of the seven real machines; in parentheses: of the
five machines whose far microphone is about as loud as the near one.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from nearfar.recordings import datasets
from nearfar.recordings.audio import FAR, NEAR, read
from nearfar.recordings.clips import Clip

FRAME, HOP = 1024, 512
MEMORY = 0.95
SMALLEST = 1e-8
BANDS_HZ = ((0, 1000), (1000, 4000), (4000, 8000))
COLUMNS = ("duration (s)", "far / near", "below 1 kHz", "1 to 4 kHz", "4 to 8 kHz")
FAINT = ("ToyCar", "ToyCarEmu")  # the real machines whose far microphone is much quieter
REAL = {  # medians, rounded; where from, see above
    "ToyCar": (11.0, 0.0068, 0.268, 0.123, 0.061),
    "ToyCarEmu": (12.0, 0.156, 0.258, 0.250, 0.324),
    "bearingEmu": (10.0, 0.765, 0.437, 0.400, 0.460),
    "fan": (10.0, 1.149, 0.641, 0.291, 0.281),
    "gearboxEmu": (10.0, 1.044, 0.500, 0.302, 0.307),
    "sliderEmu": (10.0, 0.841, 0.383, 0.291, 0.405),
    "valveEmu": (10.0, 0.945, 0.478, 0.214, 0.360),
}

Spectra = NDArray[np.complex128]


def spectra(samples: NDArray[np.float64]) -> Spectra:
    """(2, frames, bins) array of a recording's (2, samples)."""
    last = samples.shape[-1] - FRAME
    starts = np.append(np.arange(0, last, HOP), last)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME, axis=-1)[:, starts]
    return np.fft.rfft(frames * np.hanning(FRAME), axis=-1)


def averaged(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """The exponential average over the frames of (frames, bins) values, which begins with the first of them."""
    begun = MEMORY * values[:1]
    average, _ = lfilter([1 - MEMORY], [1, -MEMORY], values, axis=0, zi=begun)
    return average


def coherence(near: Spectra, far: Spectra) -> NDArray[np.float64]:
    """Of every frame and bin."""
    crossed = averaged(near * far.conj())
    powers = averaged(np.abs(near) ** 2) * averaged(np.abs(far) ** 2)
    return np.clip(np.abs(crossed) ** 2 / (powers + SMALLEST), 0.0, 1.0)


def measured(samples: NDArray[np.float64], rate: int) -> tuple[float, ...]:
    """Of one clip, in the order of ``COLUMNS``."""
    of_clip = spectra(samples)
    near, far = of_clip[NEAR], of_clip[FAR]
    ratio = np.median(np.abs(far) ** 2 / np.maximum(np.abs(near) ** 2, SMALLEST))
    frequencies = np.fft.rfftfreq(FRAME, 1 / rate)
    found = coherence(near, far)
    in_bands = [found[:, (low <= frequencies) & (frequencies < high)].mean() for low, high in BANDS_HZ]
    return (samples.shape[-1] / rate, float(ratio), *map(float, in_bands))


def chosen(clips: tuple[Clip, ...], most: int) -> list[Clip]:
    """At most so many of each domain and label."""
    cells: dict[tuple[str, str | None], list[Clip]] = defaultdict(list)
    for clip in clips:
        cells[clip.domain, clip.label].append(clip)
    return [clip for cell in cells.values() for clip in cell[:most]]


def medians(clips: list[Clip]) -> tuple[float, ...]:
    """Of all clips of a machine."""
    rows = []
    for clip in clips:
        samples, rate = read(clip.path)
        rows.append(measured(samples.astype(np.float64), rate))
    return tuple(np.median(rows, axis=0).tolist())


def spread(machines: list[str]) -> list[tuple[float, float]]:
    """Smallest and largest median of the real machines, for each of ``COLUMNS``."""
    columns = zip(*(REAL[machine] for machine in machines), strict=True)
    return [(min(column), max(column)) for column in columns]


def row(machine: str, values: tuple[float, ...], verdict: str = "") -> str:
    """Of the table."""
    return f"| {machine} | {' | '.join(f'{value:.3g}' for value in values)} | {verdict} |"


def verdict(values: tuple[float, ...]) -> str:
    """How many of the medians lie within the spread of all real machines, and of the five."""
    alike = []
    for machines in (list(REAL), [machine for machine in REAL if machine not in FAINT]):
        limits = spread(machines)
        alike.append(sum(low <= value <= high for value, (low, high) in zip(values, limits, strict=True)))
    return f"{alike[0]} of {len(values)} ({alike[1]})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--clips", type=int, default=30, help="of each domain and label, at most (default: 30)"
    )
    asked = parser.parse_args()
    print(f"| machine | {' | '.join(COLUMNS)} | within |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for machine, values in REAL.items():
        print(row(f"{machine} (real)", values))
    for found in datasets.load(asked.folder).machines:
        values = medians(chosen(found.test, asked.clips))
        print(row(found.name, values, verdict(values)))


if __name__ == "__main__":
    main()
