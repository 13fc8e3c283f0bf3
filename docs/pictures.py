"""Draw the picture of the README, ``docs/images/near-far.png``: ``python docs/pictures.py``, by hand.

One simulated clip, twice: as it is, and with a fault. The fault changes neither speed nor noise, so that whatever
differs between the rows is the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from nearfar.features import Mel, log_mel, mel_frequencies
from nearfar.microphones import cancelled, far, near
from nearfar.simulation.dataset import Cell, Planned, Site, plan, record

Level = NDArray[np.float32]  # (bands, frames), in dB

OUT = Path(__file__).parent / "images" / "near-far.png"

MACHINE, FAULT, SEVERITY = "gearbox", "unbalance", 1.0
RPM, LOAD, SNR_DB, SEED = 1400, 1, -4.0, 1  # of twelve seeds one where the eye finds the fault easily
RATE, SECONDS = 16000, 4.0
SHOWN = (1.0, 1.8)  # seconds: some twenty revolutions, few enough to be told apart

MEL = Mel(rate=RATE, n_fft=512, hop=80, n_mels=56, f_min=120.0)  # finer in time than the detector's
RANGE_DB = 30.0  # of the colours
KHZ = (0.25, 0.5, 1, 2, 4, 8)

COLUMNS = {"far microphone": far, "near microphone": near, "near, noise cancelled": cancelled}
MICROPHONE = {"far microphone": 0, "near microphone": 1, "near, noise cancelled": 1}  # whose level is 0 dB
ROWS = {"normal": None, "shaft out of balance": FAULT}
INK = "#262626"


def main() -> None:
    """Simulate, draw, write."""
    OUT.parent.mkdir(exist_ok=True)
    draw(levels()).savefig(OUT, dpi=150, pil_kwargs={"optimize": True})
    print(f"wrote {OUT}, {OUT.stat().st_size / 1024:.0f} KiB")


def levels() -> list[list[Level]]:
    """Of each row and column what is drawn."""
    site = Site.draw(MACHINE, rate=RATE, seed=SEED)
    clip = plan(site.machine, Cell(MACHINE, "test", "source", "normal"), 1, snr=(SNR_DB, SNR_DB), seed=SEED)
    clip = replace(clip, rpm=RPM, load=LOAD)
    return [[shown(site, clip, fault, view) for view in COLUMNS.values()] for fault in ROWS.values()]


def shown(site: Site, clip: Planned, fault: str | None, view: Callable[..., Level]) -> Level:
    """The part of one panel that is drawn."""
    clip = replace(clip, fault=fault, severity=SEVERITY if fault else 0.0)
    samples = record(site, clip, samples=round(SECONDS * RATE), rate=RATE).astype(np.float32)
    first, last = (round(s * RATE / MEL.hop) for s in SHOWN)
    return log_mel(view(samples), MEL)[:, first:last]


def draw(panels: list[list[Level]]) -> Figure:
    """All panels; each microphone has its colour scale, because nobody calibrated it."""
    matplotlib.rcParams.update({"font.size": 9.5, "text.color": INK, "axes.labelcolor": INK})
    matplotlib.rcParams.update({"axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK})
    figure, axes = pyplot.subplots(
        len(ROWS), len(COLUMNS), figsize=(9, 5.4), sharex=True, sharey=True, layout="constrained"
    )
    for j, title in enumerate(COLUMNS):
        loudest = max(np.percentile(row[MICROPHONE[title]], 99.5) for row in panels)
        for i, row in enumerate(panels):
            drawn = panel(axes[i, j], row[j] - loudest)
        axes[0, j].set_title(title, fontsize=11, fontweight="bold", pad=8)
        axes[-1, j].set_xlabel("time (s)")
    for axis, name in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(f"{name}\n", fontsize=11, fontweight="bold")
        axis.annotate("frequency (kHz)", (-0.2, 0.5), xycoords="axes fraction", rotation=90, va="center")
    revolutions(axes[-1, -1])
    bar = figure.colorbar(
        drawn, ax=axes, label="level (dB), loudest of the microphone = 0", pad=0.015, aspect=35
    )
    bar.outline.set_visible(False)
    figure.supxlabel(
        f"A simulated {MACHINE}, {RPM} revolutions a minute. Out of balance, it swells once per revolution.\n"
        f"At the near microphone the noise of the hall is {-SNR_DB:g} dB louder than the machine.",
        fontsize=9.5,
    )
    return figure


def panel(axis: Axes, level: Level) -> AxesImage:
    """One spectrogram; the frequency axis is the mel scale, its ticks are in kHz."""
    low, high = mel_frequencies(np.array([MEL.f_min, MEL.f_max]), MEL.scale)
    drawn = axis.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(0.0, SHOWN[1] - SHOWN[0], low, high),
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0.0,
        interpolation="nearest",
    )
    axis.set_yticks(mel_frequencies(1000 * np.array(KHZ), MEL.scale), [f"{k:g}" for k in KHZ])
    axis.tick_params(length=3)
    return drawn


def revolutions(axis: Axes) -> None:
    """A ruler of revolutions in the panel of the fault."""
    turn = 60 / RPM
    start, y = 2 * turn, mel_frequencies(np.array([6200.0]), MEL.scale)[0]
    ruler = {"arrowstyle": "|-|,widthA=.3,widthB=.3", "color": "white", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (start, y), (start + turn, y), arrowprops=ruler)
    axis.text(start + 1.35 * turn, y, "one revolution", color="white", va="center", fontsize=9.5)


if __name__ == "__main__":
    main()
