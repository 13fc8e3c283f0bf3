"""How all figures look: light, readable in print, with colours that colour-blind people can tell apart.

Nothing here changes matplotlib's settings: they hold while a figure is made, drawn or saved, and no longer. Names
of files and machines are shown as they are: no text is read as mathematics, whatever dollar signs are in it.

References
----------
.. [1] M. Okabe, K. Ito, "Color universal design: how to make figures and presentations that are friendly to
   colorblind people," 2008: the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nearfar.files.names import one_line

INK, GREY, LINES, PALE = "#262626", "#6b6b6b", "#e3e3e3", "#d9e6f2"
BLUE, RED, GREEN, ORANGE, SKY, PINK = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
COLOURS = (BLUE, RED, GREEN, ORANGE, PINK, SKY, INK)  # reference 1; in this order
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
NORMAL, ANOMALY = BLUE, RED
WIDTH = 7.0  # inches: a page of text
DOTS_PER_INCH = 120
MARGIN = 0.07  # inches
LONGEST = 44  # characters of a name that are shown
MOST_HERTZ_LABELS = 9

FONT = "DejaVu Sans"  # comes with matplotlib
FONTS_FOR_NAMES = (  # of other scripts, for the names of files, if the computer has them
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "IPAGothic", "TakaoGothic", "Hiragino Sans",
    "Yu Gothic", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC", "Malgun Gothic",
)  # fmt: skip


@cache
def fonts() -> tuple[str, ...]:
    """The families that are used, the first that has a letter for it."""
    here = {font.name for font in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in FONTS_FOR_NAMES if name in here))


@cache
def _letters() -> frozenset[int]:
    """All code points that one of the fonts can show."""
    found: set[int] = set()
    for family in fonts():
        found |= FT2Font(font_manager.findfont(family)).get_charmap().keys()
    return frozenset(found)


STYLE: Any = {  # of matplotlib
    "figure.facecolor": "white", "axes.facecolor": "white",
    "savefig.facecolor": "auto", "savefig.edgecolor": "auto",
    "savefig.transparent": False, "savefig.bbox": None, "figure.dpi": DOTS_PER_INCH, "savefig.dpi": "figure",
    "font.family": list(fonts()), "font.size": 9.5, "font.weight": "normal",
    "text.color": INK, "text.usetex": False, "text.parse_math": False,
    "axes.labelcolor": INK, "axes.edgecolor": GREY, "axes.linewidth": 0.8, "axes.labelsize": 9.5,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
    "axes.titlepad": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": False, "axes.formatter.use_mathtext": False, "axes.unicode_minus": True,
    "axes.xmargin": 0.03, "axes.ymargin": 0.05, "axes.autolimit_mode": "data",
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "xtick.direction": "out", "ytick.direction": "out",
    "xtick.minor.visible": False, "ytick.minor.visible": False,
    "grid.color": LINES, "grid.linewidth": 0.7, "grid.linestyle": "-", "grid.alpha": 1.0,
    "lines.linewidth": 1.5, "lines.linestyle": "-", "lines.marker": "None", "lines.markersize": 5,
    "legend.frameon": False, "legend.fontsize": 9, "legend.labelcolor": INK, "legend.handlelength": 1.6,
    "hatch.linewidth": 0.6, "path.sketch": None, "path.effects": [],
}  # fmt: skip
styled = matplotlib.rc_context  # ``with styled(STYLE)``, or ``@styled(STYLE)`` of a function that draws


class _Drawing(Figure):
    """A matplotlib figure that keeps its look, whatever matplotlib is set to when it is drawn or saved.

    Notebooks show it without pyplot.
    """

    def draw(self, renderer: Any) -> None:
        with styled(STYLE):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """As of ``matplotlib.figure.Figure``."""
        with styled(STYLE):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        drawn = BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue()


def new(height: float, *, width: float = WIDTH) -> _Drawing:
    """An empty figure, in inches; its parts make room for each other."""
    engine = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN)
    return _Drawing(figsize=(width, height), dpi=DOTS_PER_INCH, layout=engine)


def one(height: float, title: str, *, width: float = WIDTH) -> tuple[_Drawing, Axes]:
    """A figure with one pair of axes and a title."""
    figure = new(height, width=width)
    axes = figure.add_subplot()
    headed(axes, title)
    return figure, axes


def headed(axes: Axes, title: str, *, pad: float = 8) -> None:
    """Give a title, so many points above the axes; nothing if it is empty."""
    if title:
        axes.set_title(shown(title, 2 * LONGEST), pad=pad)


def shown(name: str, longest: int = LONGEST) -> str:
    r"""A name as a figure can show it: on one line, in the letters of its fonts, and not too long.

    What cannot be shown is escaped. Of a name that is too long the middle is left out: machine and number are at
    the ends.

    Examples
    --------
    >>> from nearfar.report.figures.style import shown
    >>> shown("section_00_source_test_anomaly_0012_speed_1200rpm.wav", 30)
    'section_00_sour…ed_1200rpm.wav'
    >>> print(shown("a\nb"))
    a\x0ab
    """
    letters = _letters()
    text = "".join(c if ord(c) in letters else _escaped(c) for c in one_line(str(name)))
    if len(text) <= longest:
        return text
    behind = (longest - 1) // 2
    return f"{text[: longest - 1 - behind]}…{text[-behind:]}"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def grid(axes: Axes, which: str = "both") -> None:
    """Thin lines behind the data, of ``"x"``, ``"y"`` or ``"both"``; no lines around it but two."""
    axes.grid(True, axis=which)  # type: ignore[arg-type]  # one of three
    axes.set_axisbelow(True)


def hertz(axes: Axes, low: float, high: float, which: str = "x") -> None:
    """A logarithmic axis of frequency from ``low`` to ``high``, in Hz; its labels are 50, 100, ... 1k, 2k."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(_steps(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: in_hertz(value)))
    axis.set_label_text("frequency (Hz)")


def in_hertz(frequency: float) -> str:
    """Such as "50", "1k", "2.5k"."""
    return f"{frequency:g}" if frequency < 1000 else f"{frequency / 1000:g}k"


def _steps(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between both; every other one if there were too many."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high) + 1)
    steps = [float(f) for f in (powers[:, None] * (1, 2, 5)).ravel() if low * 0.999 <= f <= high * 1.001]
    if len(steps) > MOST_HERTZ_LABELS:
        steps = [float(p) for p in powers if low * 0.999 <= p <= high * 1.001]
    return steps if len(steps) > 1 else [low, high]


def in_rows(axes: Axes, names: Sequence[str]) -> None:
    """A row for each name, the first on top."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [shown(name) for name in names])
    axes.tick_params(axis="y", length=0, pad=8)
    axes.spines["left"].set_visible(False)


def beside(axes: Axes, row: int, text: str) -> None:
    """Write something to the right of a row."""
    place, across = (1.01, row), axes.get_yaxis_transform()
    axes.annotate(text, place, xycoords=across, va="center", fontsize=8.5, color=GREY)


def row_height(rows: int, *, others: float = 1.0, each: float = 0.32) -> float:
    """Inches for so many rows."""
    return others + each * max(rows, 2)


def powers(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis for values from ``low`` to ``high``, whose labels are numbers such as 0.02 and 50."""
    axes.set_xscale("log")
    steps = _steps(low, high)
    if len(steps) < 3:
        steps = [float(value) for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high]
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def key(figure: Figure, axes: Axes, handles: Sequence[Artist] | None = None, columns: int = 4) -> None:
    """The legend, below the axes, where it hides nothing."""
    entries = axes.get_legend_handles_labels()[0] if handles is None else handles
    if entries:
        figure.legend(handles=list(entries), loc="outside lower center", ncols=min(columns, len(entries)))
