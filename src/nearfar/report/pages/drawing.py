"""What all charts are drawn with: elements of SVG, axes with their ticks, and the frame around a plot.

Conventions
-----------
A chart is one ``<svg>`` as wide as the page lets it be. Text keeps its size, on a phone as on a large screen: so
nothing is scaled. Within the plot, x is in percent of its width and y in pixels from its upper edge; the frame
around it is the padding of the element. Lines and areas lie in a nested ``<svg class="stretch">`` of ``WIDE`` by
the plot's height, which is stretched to the width; ``non-scaling-stroke`` keeps their strokes as they are.

Colours are classes (``look-clip``), so that the style sheet knows light and dark. What is not finite is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

from nearfar.report.pages.text import MINUS, file_stem, name_of

Float = NDArray[np.float64]
Look = Literal[
    "clip", "normal", "far", "limit", "source", "target", "anomaly", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"
]  # fmt: skip

WIDE = 1000  # units of the stretched part
HEIGHT = 230  # px of a plot
LOW = 200  # px: a lower plot stands beside others, and its headings are short
TOP, BOTTOM = 34, 46  # px around it, as in style.css (.chart)
STEP = 8  # px of the left padding: .left-1, .left-2, ...
CHARACTER = 7.0  # px of a digit of a tick
MARGIN = 0.05  # of the range, beyond the data
SERIES: tuple[Look, ...] = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An element of SVG or HTML. Children and values are escaped unless they are markup; None leaves out.

    Names of attributes are written with ``_`` for ``-`` and with a trailing one where Python has the word.

    Examples
    --------
    >>> from nearfar.report.pages.drawing import element
    >>> print(element("text", "<b>", x=1.5, text_anchor="end", class_=None))
    <text x="1.5" text-anchor="end">&lt;b&gt;</text>
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = "".join(str(escape(name_of(c) if type(c) is str else c)) for c in children)
    return Markup(f"<{name}{written}>{content}</{name}>")


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(escape(name_of(value) if type(value) is str else value))


def joined(parts: Iterable[Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def percent(share: float) -> str:
    """A place in percent of the width."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def finite(values: ArrayLike) -> Float:
    """In double precision, with NaN for what is no finite number."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows, and how.

    Attributes
    ----------
    label, unit : str
    scale : {"linear", "log"}
        On a logarithmic axis, what is not above 0 is a gap.
    low, high : float or None
        Its ends; None: those of the data.

    Examples
    --------
    >>> from nearfar.report.pages.drawing import Axis
    >>> axis = Axis("Frequency", "Hz", "log", 100, 1000)
    >>> axis.heading, axis.share([100, 1000]).tolist(), axis.ticks()
    ('Frequency (Hz)', [0.0, 1.0], ((100.0, '100'), (200.0, '200'), (500.0, '500'), (1000.0, '1000')))
    """

    label: str
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    low: float | None = None
    high: float | None = None

    @property
    def heading(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends, of an axis that has been fitted."""
        if self.low is None or self.high is None:
            raise ValueError(f"axis '{self.label}': has no ends yet; fit it to the data first")
        return float(self.low), float(self.high)

    def fitted(self, *values: ArrayLike, margin: float = 0.0) -> Self:
        """With ends: where it has none, those of the data, and a margin beyond them.

        Raises
        ------
        ValueError
            If the lower end is not below the upper one, or a logarithmic axis does not begin above 0.
        """
        given = [float(end) for end in (self.low, self.high) if end is not None]
        data = np.concatenate([np.ravel(finite(part)) for part in values] or [np.zeros(0)])
        data = np.concatenate([data, given])
        data = data[~np.isnan(data)] if self.scale == "linear" else data[data > 0]
        if not len(data):
            data = np.ones(1)
        low, high = self._around(float(data.min()), float(data.max()), margin)
        low = float(self.low) if self.low is not None else low
        high = float(self.high) if self.high is not None else high
        if not low < high or (self.scale == "log" and low <= 0):
            raise ValueError(
                f"axis '{self.label}' from {low:g} to {high:g} ({self.scale}): must ascend"
                + (", and begin above 0" if self.scale == "log" else "")
            )
        return replace(self, low=low, high=high)

    def _around(self, low: float, high: float, margin: float) -> tuple[float, float]:
        """With a margin; a range that is a point gets a width."""
        if self.scale == "log":
            factor = (high / low) ** margin if high > low else 2.0
            return low / factor, high * factor
        width = margin * (high - low) if high > low else 0.5 * abs(high) or 1.0
        return low - width, high + width

    def share(self, values: ArrayLike) -> Float:
        """Where values lie between the ends: 0 at the lower, 1 at the upper; NaN for a gap."""
        array, (low, high) = finite(values), self.limits
        if self.scale == "linear":
            return (array - low) / (high - low)
        positive = np.where(array > 0, array, np.nan)
        return np.asarray(np.log(positive / low) / math.log(high / low))

    def value(self, share: ArrayLike) -> Float:
        """What lies at a share of the way: the inverse of ``share``."""
        array, (low, high) = np.asarray(share, np.float64), self.limits
        return low + array * (high - low) if self.scale == "linear" else low * (high / low) ** array

    def ticks(self, count: int = 6) -> tuple[tuple[float, str], ...]:
        """Round numbers between the ends, about so many, with their text."""
        low, high = self.limits
        if self.scale == "log":
            places = _log_ticks(low, high, count)
            if len(places) >= 3:
                return tuple((place, _plain(place, 0 if place >= 1 else 6)) for place in places)
        places, decimals = _linear_ticks(low, high, count)
        return tuple((place, _plain(place, decimals)) for place in places)


def _linear_ticks(low: float, high: float, count: int) -> tuple[list[float], int]:
    raw = (high - low) / max(count, 1)
    power = math.floor(math.log10(raw))
    step = next(s for s in (1, 2, 2.5, 5, 10) if s * 10.0**power >= raw * 0.9999)
    decimals = max(0, -power + (1 if step == 2.5 else 0) - (1 if step == 10 else 0))
    wide = step * 10.0**power
    first, last = math.ceil(low / wide - 1e-9), math.floor(high / wide + 1e-9)
    return [number * wide for number in range(first, last + 1)], decimals


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    """1, 2, 5 of each decade, or only as many as there is room for."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        places = [step * 10.0**decade for decade in decades for step in steps]
        places = [place for place in places if low * (1 - 1e-9) <= place <= high * (1 + 1e-9)]
        if len(places) <= count + 2:
            return places
    return places[:: math.ceil(len(places) / count)]


def _plain(value: float, decimals: int) -> str:
    if value and (abs(value) >= 1e7 or abs(value) < 1e-4):
        return f"{value:.3g}".replace("-", MINUS)
    text = f"{value:.{decimals}f}"
    if decimals == 6:  # below 1 on a logarithmic axis: as many as it takes
        text = text.rstrip("0")
    return f"{MINUS}{text[1:]}" if text.startswith("-") and float(text) else text.removeprefix("-")


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of a page: what is drawn, what it says, and its numbers.

    Attributes
    ----------
    svg : Markup
    title, description : str
        What a screen reader says of it.
    numbers : dict
        What rides along: "columns" and "rows" for the CSV, and what the script needs to read a place.
    legend : tuple of (str, Look, str)
        Name, look and shape: "line", "area", "circle", "square", "ring".
    layers : tuple of str
        Names of what lies over the picture and can be switched off.
    """

    svg: Markup
    title: str
    description: str
    numbers: Mapping[str, Any] = field(repr=False)
    legend: tuple[tuple[str, Look, str], ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the files that it is saved to, without suffix."""
        return file_stem(self.title)

    @property
    def kind(self) -> str:
        """How the script reads a place: "line", "image", "points" or "rows"."""
        return str(self.numbers.get("kind", "rows"))

    @property
    def has_numbers(self) -> bool:
        """Whether there is anything to save."""
        return len(self.numbers["rows"]) > 0 or bool(self.numbers.get("layers"))


def left_of(texts: Iterable[str]) -> int:
    """How many steps of padding these ticks need on the left."""
    return math.ceil((16 + CHARACTER * max((len(text) for text in texts), default=0)) / STEP)


def framed(
    content: Markup, *, x: Axis, y: Axis | None, height: int, title: str, description: str, kind: str
) -> Markup:
    """The ``<svg>``: grid, ticks and headings, and what is drawn between them.

    Without ``y`` the rows tell what they are.
    """
    y_ticks = y.ticks(5) if y is not None else ()
    left = left_of(text for _, text in y_ticks) if y is not None else 2
    parts = [_x_axis(x, height)]
    if y is not None:
        parts.append(_y_axis(y, y_ticks, height, STEP * left))
    return element(
        "svg",
        element("g", *parts, class_="frame", aria_hidden="true"),
        content,
        class_=f"chart {kind} left-{left}",
        role="group" if kind in ("scatter", "strip") else "img",
        aria_label=f"{title}. {description}".strip() if description else title,
        height=height + TOP + BOTTOM,
        data_plot=height,
        xmlns="http://www.w3.org/2000/svg",
    )


def _x_axis(x: Axis, height: int) -> Markup:
    parts = []
    for value, text in x.ticks():
        place = percent(float(x.share(value)))
        parts.append(element("line", x1=place, x2=place, y1=0, y2=height, class_="rule"))
        parts.append(element("text", text, x=place, y=height + 17, text_anchor="middle", class_="tick"))
    parts.append(element("line", x1=0, x2="100%", y1=height, y2=height, class_="axis"))
    parts.append(element("text", x.heading, x="100%", y=height + 38, text_anchor="end", class_="label"))
    return joined(parts)


def _y_axis(y: Axis, ticks: Sequence[tuple[float, str]], height: int, left: int) -> Markup:
    parts = []
    for value, text in ticks:
        place = height * (1 - float(y.share(value)))
        parts.append(element("line", x1=0, x2="100%", y1=place, y2=place, class_="rule"))
        parts.append(element("text", text, x=-8, y=place + 4, text_anchor="end", class_="tick"))
    heading = y.heading if height >= LOW else y.unit or y.label
    parts.append(element("text", heading, x=2 - left, y=-16, class_="label"))
    return joined(parts)


def stretched(content: Iterable[Markup], height: int) -> Markup:
    """What is stretched to the width of the plot, and cut off at its edges."""
    return element(
        "svg",
        *content,
        class_="stretch",
        viewBox=f"0 0 {WIDE} {height}",
        preserveAspectRatio="none",
        width="100%",
        height=height,
    )


def nothing(title: str, *, x: Axis, y: Axis | None = None, columns: Sequence[str] = ()) -> Chart:
    """A chart without data: it says so."""
    text = element("text", "no data", x="50%", y=HEIGHT // 2, text_anchor="middle", class_="label")
    svg = framed(
        text,
        x=x.fitted(),
        y=y.fitted() if y is not None else None,
        height=HEIGHT,
        title=title,
        description="No data.",
        kind="empty",
    )
    return Chart(svg, title, "No data.", {"columns": list(columns), "rows": []})
