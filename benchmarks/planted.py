"""What a simulated fault adds to a recording, and where: the truth that evidence is measured against.

    python benchmarks/planted.py [--machines fan,pump] [--seed 0] [--clips 5]

prints, for each machine and fault, how many clips have a region, the region's share of the area, and its band.

A clip is recorded twice with the same seeds, with its fault and without. What the fault adds at the near microphone
is what the machine with the fault has beyond the machine without it. The simulator scales a machine with a fault to
the level of one without, and the clip to a drawn level; so the machine without is scaled to where it explains most
of the machine with (least squares), and the rest of the clip is everything but the planted part.

The *region* of a fault is defined on log-mel cells, those of the DCASE baseline (128 bands, frames of 64 ms every
32 ms). A cell *stands out* if the planted part raises its level by ``RAISE_DB`` or more. The region is the smallest
set of cells that stand out and hold ``SHARE`` of the planted energy of all that stand out. If cells that stand out
hold less than ``LEAST`` of all planted energy, the fault is hidden in noise: it has no region. These numbers were
fixed before any map was looked at. With the level of noise that ``simulate`` has by default, many faults of less
than the worst severity have no region; so the severity is 1 here unless another is asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.encoders.features import BASELINE, hertz, mel_frequencies, mel_spectrogram
from nearfar.recordings import audio
from nearfar.recordings.audio import NEAR, Samples
from nearfar.recordings.clips import Machine
from nearfar.recordings.datasets import load_machine
from nearfar.simulation import dataset
from nearfar.simulation.catalogue import SCENARIOS, describe

RAISE_DB = 1.0  # of a cell's level, from which on the fault stands out
SHARE = 0.8  # of the energy that stands out: most of it
WORST = 1.0  # severity
LEAST = 0.25  # of the planted energy, that must stand out
RATE = BASELINE.rate
MEL = replace(BASELINE, norm=None)  # bands of equal height, so that energies add up

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Planted:
    """A clip with a fault, and what of it the fault is.

    Attributes
    ----------
    clip : dataset.Planned
        Fault, severity, and everything else.
    samples : (2, samples) float32 array
        With the fault, as recorded.
    without : (2, samples) float32 array
        The same clip without the fault, at its own level.
    planted : (samples,) array
        What the fault adds at the near microphone, in the unit of ``samples``.
    rest : (samples,) array
        ``samples[NEAR] - planted``.
    """

    clip: dataset.Planned
    samples: Samples
    without: Samples
    planted: Float
    rest: Float
    rate: int = RATE

    @cached_property
    def region(self) -> Region:
        """Where the fault is."""
        return region(self)


@dataclass(frozen=True, eq=False)
class Region:
    """The cells where a fault is.

    Attributes
    ----------
    times : (frames + 1,) array
        Edges, in seconds.
    frequencies : (bands + 1,) array
        Edges, in Hz: the ends of the axis, and midway in mel between the centres of bands.
    cells : (bands, frames) bool array
        True in the region; nowhere if the fault has none.
    energy : (bands, frames) array
        Of the planted part.
    stands_out : float
        Share of the planted energy in cells that stand out.
    """

    times: Float
    frequencies: Float
    cells: NDArray[np.bool_]
    energy: Float
    stands_out: float

    @property
    def share(self) -> float:
        """Of the area, in cells: mel and time."""
        return float(self.cells.mean())

    def band(self, share: float = SHARE) -> tuple[float, float]:
        """The narrowest interval of Hz with so much of the energy within the region."""
        of_band = np.where(self.cells, self.energy, 0.0).sum(axis=1)
        total = np.append(0.0, np.cumsum(of_band))
        best = (0, len(of_band))
        for low in range(len(of_band)):
            high = int(np.searchsorted(total, total[low] + share * total[-1] * (1 - 1e-12)))
            if high <= len(of_band) and high - low < best[1] - best[0]:
                best = (low, high)
        return float(self.frequencies[best[0]]), float(self.frequencies[best[1]])


def settings(
    machines: tuple[str, ...],
    *,
    seed: int,
    source_clips: int = 100,
    target_clips: int = 10,
    test_clips: int = 20,
    seconds: float = 10.0,
) -> dataset.Settings:
    """Of a simulated set as ``nearfar simulate`` makes it, which is recorded on the fly."""
    return dataset.Settings(
        machines=machines, source_clips=source_clips, target_clips=target_clips, test_clips=test_clips,
        seconds=seconds, rate=RATE, snr=(-8.0, 0.0), seed=seed, shift=None, noise=None, microphone_faults=(),
        microphone_fault_share=0.0, sources=False,
    )  # fmt: skip


def clips_of(
    of: dataset.Settings, machine: str, split: str, label: str, *, faults: tuple[str, ...] | None = None
) -> Iterator[dataset.Planned]:
    """The planned clips of a kind, source and target in turn."""
    kept = [c for c in dataset.planned(of, machine) if (c.split, c.label) == (split, label)]
    by_domain = [[c for c in kept if c.domain == d] for d in dataset.DOMAINS]
    longest = max(map(len, by_domain))
    for index in range(longest):
        for clips in by_domain:
            if index < len(clips) and (faults is None or clips[index].fault in faults):
                yield clips[index]


def recorded(of: dataset.Settings, clip: dataset.Planned) -> dataset.Recorded:
    """The sound of a planned clip, and its parts."""
    return dataset.record(dataset.site_of(of, clip.machine), clip, samples=of.samples)


def samples_of(of: dataset.Settings, clip: dataset.Planned) -> Samples:
    """The samples of a planned clip, (2, samples)."""
    return recorded(of, clip).clip.astype(np.float32)


def training_folder(folder: Path, of: dataset.Settings, machine: str) -> Machine:
    """The normal training clips of a machine, written into a folder, as a machine to fit to."""
    train = folder / machine / "train"
    train.mkdir(parents=True, exist_ok=True)
    for clip in dataset.planned(of, machine):
        path = folder / clip.key
        if clip.split == "train" and not path.exists():
            audio.write(path, samples_of(of, clip), of.rate)
    return load_machine(folder / machine)


def plant(of: dataset.Settings, clip: dataset.Planned, *, severity: float | None = WORST) -> Planted:
    """A planned clip with its fault, and what the fault adds; ``None``: with the severity that is planned."""
    clip = clip if severity is None else replace(clip, severity=severity)
    faulty, healthy = recorded(of, clip), recorded(of, replace(clip, fault=None, severity=0.0))
    of_fault, of_health = faulty.machine[NEAR], healthy.machine[NEAR]
    explained = (of_fault @ of_health) / (of_health @ of_health) * of_health
    planted = of_fault - explained
    samples = faulty.clip.astype(np.float32)
    return Planted(
        clip, samples, healthy.clip.astype(np.float32), planted, faulty.clip[NEAR] - planted, of.rate
    )


def grid(n_samples: int) -> tuple[Float, Float]:
    """Edges of the cells: in seconds and in Hz."""
    seconds = n_samples / MEL.rate
    frames = 1 + n_samples // MEL.hop
    times = np.clip((np.arange(frames + 1) - 0.5) * MEL.hop / MEL.rate, 0.0, seconds)
    low, high = mel_frequencies(np.array([MEL.f_min, MEL.f_max]), MEL.scale)
    centres = np.linspace(low, high, MEL.n_mels + 2)[1:-1]
    edges = hertz(np.concatenate([[low], (centres[1:] + centres[:-1]) / 2, [high]]), MEL.scale)
    return times, edges


def region(planted: Planted) -> Region:
    """Where the fault is: see the module."""
    energy = mel_spectrogram(planted.planted.astype(np.float64), MEL)
    rest = mel_spectrogram(planted.rest.astype(np.float64), MEL)
    outstanding = np.where(energy > (10 ** (RAISE_DB / 10) - 1) * rest, energy, 0.0)
    stands_out = float(outstanding.sum() / energy.sum())
    cells = np.zeros(energy.shape, dtype=bool)
    if stands_out >= LEAST:
        order = np.argsort(outstanding, axis=None)[::-1]
        held = np.cumsum(outstanding.ravel()[order])
        cells.ravel()[order[: 1 + int(np.searchsorted(held, SHARE * held[-1]))]] = True
    times, frequencies = grid(len(planted.planted))
    return Region(times, frequencies, cells, energy, stands_out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machines", default=",".join(SCENARIOS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=4, help="of each fault")
    asked = parser.parse_args()
    machines = tuple(asked.machines.split(","))
    faults = {machine.name: machine.faults for machine in describe()}
    print(f"{'machine':<10}{'fault':<18}{'clips':>6}{'region':>8}{'area %':>8}{'stands out %':>14}  band, Hz")
    for machine in machines:
        n = len(faults[machine]) * asked.clips
        of = settings(machines, seed=asked.seed, test_clips=(n + 1) // 2)
        found: dict[str, list[Region]] = {fault: [] for fault in faults[machine]}
        for clip in clips_of(of, machine, "test", "anomaly"):
            found[str(clip.fault)].append(plant(of, clip).region)
        for fault, regions in found.items():
            have = [r for r in regions if r.cells.any()]
            area = 100 * np.mean([r.share for r in have]) if have else np.nan
            stands_out = 100 * np.mean([r.stands_out for r in regions])
            bands = ", ".join(f"{low:.0f}-{high:.0f}" for low, high in (r.band() for r in have))
            print(
                f"{machine:<10}{fault:<18}{len(regions):>6}{len(have):>8}{area:>8.2f}{stands_out:>14.0f}  {bands}",
                flush=True,
            )


if __name__ == "__main__":
    main()
