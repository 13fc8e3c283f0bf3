"""Draw the diagrams of the documentation, ``docs/images``: ``python docs/drawings.py``, by hand."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

OUT = Path(__file__).parent / "images"
INK, FAINT = "#262626", "#8a8a8a"
NEAR, FAR, BOTH = "#d7e6f4", "#e9e9e9", "#f6ead2"  # fill of what is of one microphone, or of both
BOX_HEIGHT = 0.62

# Of DCA-128 (DCA-256): what happens, and the shape after it, of one microphone
STEPS = [
    ("log-mel spectrogram", "128 (256) bands x 1024 frames"),
    ("five convolutions", "8 (16) x 128 x 256 channels"),
    ("tokens", "1024 (2048) x 256"),
    ("cross-attention, layer 1", "1024 (2048) x 256"),
    ("cross-attention, layer 2", "1024 (2048) x 256"),
    ("mean, projection, length 1", "256"),
]
ATTENTION = (3, 4)  # of the steps
SHARED = {1: "same weights", 5: "same weights"}
LEFT, RIGHT, WIDTH = 0.0, 5.2, 3.6


def box(axes: Axes, x: float, y: float, text: str, below: str, colour: str, width: float = WIDTH) -> None:
    """A box whose upper left corner is (x, y), with what is in it and the shape that comes out."""
    shape = FancyBboxPatch(
        (x, y - BOX_HEIGHT),
        width,
        BOX_HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.08",
        fc=colour,
        ec=INK,
        lw=0.8,
    )
    axes.add_patch(shape)
    axes.text(x + width / 2, y - 0.21, text, ha="center", va="center", fontsize=9, color=INK)
    axes.text(x + width / 2, y - 0.45, below, ha="center", va="center", fontsize=7.5, color=FAINT)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": INK, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def dca() -> None:
    """The network of ``encoders.dca``, from two waveforms to the embedding of a clip."""
    figure, axes = pyplot.subplots(figsize=(7.2, 6.4))
    for x, name, colour in ((LEFT, "near", NEAR), (RIGHT, "far", FAR)):
        axes.text(
            x + WIDTH / 2, 0.35, f"{name} microphone", ha="center", fontsize=10, color=INK, weight="bold"
        )
        for i, (text, shape) in enumerate(STEPS):
            box(axes, x, -i, text, shape, colour)
            if i:
                arrow(axes, (x + WIDTH / 2, -i + 1 - BOX_HEIGHT), (x + WIDTH / 2, -i))
    middle = (LEFT + WIDTH + RIGHT) / 2
    for i in ATTENTION:  # keys and values come from the other side
        before, here = -(i - 1) - BOX_HEIGHT / 2, -i - BOX_HEIGHT / 2
        for start, end in ((LEFT + WIDTH, RIGHT), (RIGHT, LEFT + WIDTH)):
            arrow(axes, (start, before), (end, here))
        axes.text(middle, before - 0.12, "keys, values", ha="center", fontsize=7.5, color=FAINT)
    for i, text in SHARED.items():
        axes.plot([LEFT + WIDTH, RIGHT], [-i - BOX_HEIGHT / 2] * 2, color=FAINT, lw=0.8, ls=":")
        axes.text(middle, -i - 0.22, text, ha="center", fontsize=7.5, color=FAINT)
    last = len(STEPS)
    box(axes, middle - WIDTH / 2, -last - 0.15, "mean of both microphones", "256", BOTH)
    for x in (LEFT, RIGHT):
        arrow(
            axes,
            (x + WIDTH / 2, -last + 1 - BOX_HEIGHT),
            (middle + (x - middle + WIDTH / 2) * 0.25, -last - 0.15),
        )
    axes.set(xlim=(-0.1, RIGHT + WIDTH + 0.1), ylim=(-last - 0.9, 0.65))
    axes.axis("off")
    figure.savefig(OUT / "dca.png", dpi=150, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    matplotlib.use("agg")
    dca()
