"""Whether maps point at the truth: on simulated faults whose place in time and frequency is known.

    python benchmarks/evidence_maps.py [--machines fan,pump] [--systems spectral,mn04] [--seeds 2,3] [--clips 4]
        [--folder DIR] [--severity 1 | planned] [--set KEY=VALUE]

For each machine, detectors are fitted to 110 simulated normal clips. Faults of all kinds are recorded, source and
target in turn, and the region of each is known (``planted.py``). The *gain* of a map is the share of its mass that
lies in the region, divided by the region's share of the area; 1 is what a map that knows nothing has. Area is time
times mel, up to half of the rate. The mass of a cell is spread evenly over it, so that maps of other grids are
measured alike. Each row is the mean over the clips of one fault that have a region:

random
    Numbers drawn from an exponential distribution.
levels, levels shown
    Log-mel levels of near, less their mean over all training clips in each band, and less the clip's own mean of
    that: where a spectrogram is above the normal one. Its positive part; and smoothed and cut as maps are.
SYSTEM, SYSTEM shown
    The positive part of a map (``BranchMap.values``), and what a picture shows of it (``BranchMap.shown``).
SYSTEM flagged, SYSTEM found
    The share of these clips that the detector takes for anomalies; and the gain of what is shown of only those.

What is shown of a map was chosen on seed 1. Seeds 2 and 3 are for reports.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import planted
from numpy.typing import NDArray
from planted import Planted, Region

from nearfar.detector.fitted import Detector
from nearfar.encoders.features import BASELINE, log_mel, mel_frequencies
from nearfar.evidence.maps import BranchMap, maps_of
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import NEAR, Samples
from nearfar.recordings.clips import Machine
from nearfar.simulation.catalogue import SCENARIOS
from nearfar.systems.fusion import load_any
from nearfar.systems.settings import parse_settings

Float = NDArray[np.float64]
WANTED = 3.0


def within(found: Float, truth: Float) -> Float:
    """What share of each interval of some edges lies in each interval of others: (intervals, of the truth)."""
    low, high = found[:-1, None], found[1:, None]
    overlap = np.minimum(high, truth[1:]) - np.maximum(low, truth[:-1])
    return np.clip(overlap, 0.0, None) / (high - low)


def mel(hertz: Float) -> Float:
    return mel_frequencies(hertz, BASELINE.scale)


def gain(times: Float, frequencies: Float, mass: Float, region: Region) -> float:
    """Share of a map's mass within a region, over the region's share of the area; 1 of a map without mass."""
    edges = mel(region.frequencies)
    area = np.diff(edges)[:, None] * np.diff(region.times)
    of_bands, of_frames = within(mel(frequencies), edges), within(times, region.times)
    inside = (mass * (of_bands @ region.cells @ of_frames.T)).sum()
    return float(inside / mass.sum() / (area[region.cells].sum() / area.sum())) if mass.any() else 1.0


class Levels:
    """The mean log-mel levels of near over the training clips, and what of a clip is above them."""

    def __init__(self, machine: Machine) -> None:
        each = [
            log_mel(audio.load(clip.recording, BASELINE.rate)[NEAR]).mean(axis=1) for clip in machine.train
        ]
        self.normal = np.mean(each, axis=0)[:, None]

    def map(self, samples: Samples, region: Region) -> BranchMap:
        above = log_mel(samples[NEAR]) - self.normal
        above = (above - above.mean()).astype(np.float64)
        nan = float("nan")
        return BranchMap("levels", "near", "", region.times, region.frequencies, above, nan, nan)


def gains_of(one: BranchMap, region: Region) -> tuple[float, float]:
    """Of its positive part, and of what is shown."""
    return (
        gain(one.times, one.frequencies, np.maximum(one.values, 0.0), region),
        gain(one.times, one.frequencies, one.shown, region),
    )


def measured(
    clip: Planted, detectors: dict[str, Detector], levels: Levels, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """The gain of each kind of map, and whether each detector takes the clip for an anomaly."""
    region = clip.region
    yield "random", gain(region.times, region.frequencies, rng.exponential(size=region.cells.shape), region)
    yield from zip(
        ("levels", "levels shown"), gains_of(levels.map(clip.samples, region), region), strict=True
    )
    for name, detector in detectors.items():
        found = maps_of(detector, clip.samples, clip.rate)
        yield from zip((name, f"{name} shown"), gains_of(found[0], region), strict=True)
        flagged = detector.score(clip.samples, clip.rate).decision == "anomaly"
        yield f"{name} flagged", float(flagged)


def measure(
    one: Planted,
    row: dict[str, list[float]],
    detectors: dict[str, Detector],
    levels: Levels,
    rng: np.random.Generator,
) -> None:
    """Add what was measured of a clip to the row of its fault."""
    row.setdefault("clips", []).append(1.0)
    if not one.region.cells.any():
        return
    row.setdefault("area, %", []).append(100 * one.region.share)
    of_clip = dict(measured(one, detectors, levels, rng))
    found = {f"{n} found": of_clip[f"{n} shown"] for n in detectors if of_clip[f"{n} flagged"]}
    for name, value in (of_clip | found).items():
        row.setdefault(name, []).append(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machines", default=",".join(SCENARIOS))
    parser.add_argument("--systems", default="spectral")
    parser.add_argument("--seeds", default="2,3")
    parser.add_argument("--clips", type=int, default=4, help="of each fault and seed")
    parser.add_argument("--folder", type=Path, help="where training clips and fits are kept for another run")
    parser.add_argument("--severity", default="1")
    parser.add_argument("--set", action="append", default=[], help="a setting of all systems")
    asked = parser.parse_args()
    machines, systems = asked.machines.split(","), asked.systems.split(",")
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    severity = None if asked.severity == "planned" else float(asked.severity)
    rows: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for machine, seed in product(machines, seeds):
            of = planted.settings(tuple(machines), seed=seed, test_clips=4 * asked.clips)
            trained = planted.training_folder(folder / f"seed_{seed}", of, machine)
            jobs, levels = Jobs(folder / "cache"), Levels(trained)
            detectors = {
                name: Detector.fit(trained, load_any(name, parse_settings(asked.set)), jobs=jobs)
                for name in systems
            }
            rng, count = np.random.default_rng(seed), Counter[str]()
            for clip in planted.clips_of(of, machine, "test", "anomaly"):
                fault = str(clip.fault)
                count[fault] += 1
                if count[fault] <= asked.clips:
                    row = rows.setdefault(f"{machine:<9} {fault}", {})
                    measure(planted.plant(of, clip, severity=severity), row, detectors, levels, rng)
            if seed == seeds[-1]:
                print_rows({k: v for k, v in rows.items() if k.startswith(f"{machine:<9} ")}, systems)
    print_kinds(rows, systems)
    print_means(rows, systems)


def columns(systems: list[str]) -> list[str]:
    of_systems = [f"{name}{what}" for name in systems for what in ("", " shown", " flagged", " found")]
    return ["area, %", "random", "levels", "levels shown", *of_systems]


def print_rows(rows: dict[str, dict[str, list[float]]], systems: list[str]) -> None:
    if not rows:
        return
    named = columns(systems)
    print(f"{'machine   fault':<27}{'clips':>6}{'region':>7}" + "".join(f"  {name}" for name in named))
    for name, row in rows.items():
        values = "".join(f"{np.mean(row.get(c, [np.nan])):>{len(c) + 2}.2f}" for c in named)
        print(f"{name:<27}{len(row['clips']):>6}{len(row.get('random', [])):>7}{values}", flush=True)


def print_kinds(rows: dict[str, dict[str, list[float]]], systems: list[str]) -> None:
    """The same by the name of the fault: the mean over the machines that suffer from it, and their number."""
    named = columns(systems)
    print(f"\n{'fault':<18}{'machines':>9}" + "".join(f"  {name}" for name in named))
    for kind in sorted({name.split()[1] for name in rows}):
        own = [row for name, row in rows.items() if name.split()[1] == kind and "random" in row]
        means = [[np.mean(row[c]) for row in own if c in row] for c in named]
        values = "".join(
            f"{np.mean(m) if m else np.nan:>{len(c) + 2}.2f}" for c, m in zip(named, means, strict=True)
        )
        print(f"{kind:<18}{len(own):>9}{values}")


def print_means(rows: dict[str, dict[str, list[float]]], systems: list[str]) -> None:
    """Over the faults that have a region: the mean of their gains, and how many are at least what is wanted."""
    have = [row for row in rows.values() if "random" in row]
    print(f"\n{len(have)} of {len(rows)} faults have a region")
    for column in columns(systems)[1:]:
        if column.endswith("flagged"):
            print(f"{column:<24} {np.mean([np.mean(row[column]) for row in have]):6.2f}")
            continue
        gains = np.array([np.mean(row[column]) for row in have if column in row])
        if not len(gains):  # no threshold, or nothing was found
            continue
        print(f"{column:<24} mean {gains.mean():6.2f}  median {np.median(gains):6.2f}  "
              f"{(gains >= WANTED).sum():>3} of {len(gains)} at least {WANTED:g}")  # fmt: skip


if __name__ == "__main__":
    main()
