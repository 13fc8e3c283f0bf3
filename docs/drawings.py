"""Draw the diagrams of the documentation, ``docs/images``: ``python docs/drawings.py``, by hand."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
# Of DualMic-EAT: what happens to a clip of 10 s, and the shape after it, of one microphone
ADAPTED_STEPS = [
    ("Kaldi filter bank, normalized", "1024 frames x 128 bands"),
    ("patches, positions", "513 tokens x 768"),
    ("blocks 1 to 5, frozen", "513 tokens x 768"),
    ("blocks 6 to 10, with adapters", "513 tokens x 768"),
    ("mean, deviation of 512 tokens", "1536"),
]
ADAPTED_SHARED = {2: "same weights", 3: "same adapters", 4: "consistency"}
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


def columns(axes: Axes, steps: list[tuple[str, str]], shared: dict[int, str]) -> None:
    """What happens to either microphone, step by step, and what they share."""
    for x, name, colour in ((LEFT, "near", NEAR), (RIGHT, "far", FAR)):
        axes.text(
            x + WIDTH / 2, 0.35, f"{name} microphone", ha="center", fontsize=10, color=INK, weight="bold"
        )
        for i, (text, shape) in enumerate(steps):
            box(axes, x, -i, text, shape, colour)
            if i:
                arrow(axes, (x + WIDTH / 2, -i + 1 - BOX_HEIGHT), (x + WIDTH / 2, -i))
    for i, text in shared.items():
        axes.plot([LEFT + WIDTH, RIGHT], [-i - BOX_HEIGHT / 2] * 2, color=FAINT, lw=0.8, ls=":")
        axes.text((LEFT + WIDTH + RIGHT) / 2, -i - 0.22, text, ha="center", fontsize=7.5, color=FAINT)


def saved(figure: Figure, axes: Axes, lowest: float, name: str) -> None:
    axes.set(xlim=(-0.1, RIGHT + WIDTH + 0.1), ylim=(lowest, 0.65))
    axes.axis("off")
    figure.savefig(OUT / name, dpi=150, bbox_inches="tight", pad_inches=0.05)


def dca() -> None:
    """The network of ``encoders.dca``, from two waveforms to the embedding of a clip."""
    figure, axes = pyplot.subplots(figsize=(7.2, 6.4))
    columns(axes, STEPS, SHARED)
    middle = (LEFT + WIDTH + RIGHT) / 2
    for i in ATTENTION:  # keys and values come from the other side
        before, here = -(i - 1) - BOX_HEIGHT / 2, -i - BOX_HEIGHT / 2
        for start, end in ((LEFT + WIDTH, RIGHT), (RIGHT, LEFT + WIDTH)):
            arrow(axes, (start, before), (end, here))
        axes.text(middle, before - 0.12, "keys, values", ha="center", fontsize=7.5, color=FAINT)
    last = len(STEPS)
    box(axes, middle - WIDTH / 2, -last - 0.15, "mean of both microphones", "256", BOTH)
    for x in (LEFT, RIGHT):
        arrow(
            axes,
            (x + WIDTH / 2, -last + 1 - BOX_HEIGHT),
            (middle + (x - middle + WIDTH / 2) * 0.25, -last - 0.15),
        )
    saved(figure, axes, -last - 0.9, "dca.png")


def dualmic() -> None:
    """Training and scoring of DualMic-EAT: ``training.adaptation`` and the system ``dualmic``."""
    figure, axes = pyplot.subplots(figsize=(7.2, 6.6))
    columns(axes, ADAPTED_STEPS, ADAPTED_SHARED)
    last = len(ADAPTED_STEPS)
    below, wide = -last - 0.55, 4.6
    middle = RIGHT + WIDTH - wide / 2
    axes.text(LEFT + WIDTH / 2, below + 0.16, "scores", ha="center", fontsize=9, color=INK, weight="bold")
    axes.text(middle, below + 0.16, "trains", ha="center", fontsize=9, color=INK, weight="bold")
    box(axes, LEFT, below, "standardized, whitened", "768", NEAR)
    box(axes, LEFT, below - 1, "local density, by domain", "1", NEAR)
    box(axes, middle - wide / 2, below, "head: near beside far", "256", BOTH, wide)
    box(
        axes,
        middle - wide / 2,
        below - 1,
        "ArcFace of machine, domain, attribute",
        "classifiers of machine, of domain",
        BOTH,
        wide,
    )
    for x in (LEFT + WIDTH / 2, middle):
        arrow(axes, (x, below - BOX_HEIGHT), (x, below - 1))
    statistics = -last + 1 - BOX_HEIGHT
    arrow(axes, (LEFT + WIDTH / 2, statistics), (LEFT + WIDTH / 2, below + 0.36))
    arrow(axes, (LEFT + 0.75 * WIDTH, statistics), (middle - 0.6, below + 0.36))
    arrow(axes, (RIGHT + WIDTH / 2, statistics), (middle + 0.3, below + 0.36))
    saved(figure, axes, below - 1.75, "dualmic.png")


if __name__ == "__main__":
    matplotlib.use("agg")
    dca()
    dualmic()
