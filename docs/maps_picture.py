"""Draw the picture of docs/evidence-maps.md: ``python docs/maps_picture.py [FOLDER]``, by hand.

Of three kinds of faults the first simulated clip of seed 2, which nothing was chosen on. FOLDER keeps the
recordings that the detectors are fitted to.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import planted

from nearfar.detector.fitted import Detector
from nearfar.encoders.features import BASELINE, log_mel, mel_frequencies
from nearfar.evidence.maps import BranchMap, maps_of
from nearfar.files.steps import Jobs
from nearfar.recordings.audio import NEAR

OUT = Path(__file__).parent / "images" / "evidence-maps.png"
SHOWN = {"fan": "blade", "slider": "looseness", "gearbox": "wear"}
SEED, COLOURS = 2, 256
SECONDS = 4.0  # of each clip
KHZ = (0.25, 0.5, 1, 2, 4, 8)
RANGE_DB = 40.0


def main() -> None:
    figure = Figure(figsize=(9.6, 7.2), layout="constrained")
    axes = figure.subplots(len(SHOWN), 2, sharex=True, sharey=True)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(*sys.argv[1:2] or [folder])
        for row, (machine, fault) in zip(axes, SHOWN.items(), strict=True):
            of = planted.settings((machine,), seed=SEED, test_clips=16)
            trained = planted.training_folder(at / f"seed_{SEED}", of, machine)
            detector = Detector.fit(trained, "spectral", jobs=Jobs(at / "cache"))
            clip = next(planted.clips_of(of, machine, "test", "anomaly", faults=(fault,)))
            one = planted.plant(of, clip)
            (found,) = maps_of(detector, one.samples, one.rate)
            draw_spectrogram(row[0], one)
            draw_map(row[1], found, one.region)
            row[0].set_ylabel(f"{machine}: {fault}\nkHz")
    axes[0, 0].set_title("near microphone, and where the fault is", fontsize=10)
    axes[0, 1].set_title("what the map shows (spectral)", fontsize=10)
    for under in axes[-1]:
        under.set_xlabel("s")
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100)
    Image.open(drawn).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(OUT, optimize=True)
    print(f"wrote {OUT}, {OUT.stat().st_size / 1024:.0f} KiB")


def draw_spectrogram(axes: Axes, one: planted.Planted) -> None:
    level = log_mel(one.samples[NEAR])
    edges = mel_frequencies(one.region.frequencies, BASELINE.scale)
    axes.pcolormesh(one.region.times, edges, level, cmap="gray", vmin=level.max() - RANGE_DB, rasterized=True)
    outline(axes, one.region, "#ffb000")
    kilohertz = mel_frequencies(1000 * np.array(KHZ), BASELINE.scale)
    axes.set_yticks(kilohertz, [f"{k:g}" for k in KHZ])
    axes.set_xlim(0, SECONDS)


def draw_map(axes: Axes, found: BranchMap, region: planted.Region) -> None:
    edges = mel_frequencies(found.frequencies, BASELINE.scale)
    axes.pcolormesh(found.times, edges, np.sqrt(found.shown), cmap="magma", rasterized=True)
    outline(axes, region, "#9ec9ff")


def outline(axes: Axes, region: planted.Region, colour: str) -> None:
    edges = mel_frequencies(region.frequencies, BASELINE.scale)
    middle = [(e[1:] + e[:-1]) / 2 for e in (region.times, edges)]
    axes.contour(*middle, region.cells, levels=[0.5], colors=colour, linewidths=0.7)


if __name__ == "__main__":
    main()
