"""Charts of a page: inline SVG, drawn without a plotting library, which would take longer to load than to use.

Each function returns a ``Chart``: the SVG, the text that a screen reader says, and the numbers that a click saves.
Arrays are plain; NaN and infinity are gaps; without data the chart says "no data". ``report.figures`` has the
figures for print.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from nearfar.report.pages.drawing import (
    HEIGHT,
    MARGIN,
    WIDE,
    Axis,
    Chart,
    Float,
    Look,
    element,
    finite,
    framed,
    joined,
    nothing,
    percent,
    stretched,
)
from nearfar.report.pages.text import name_of, number

__all__ = [
    "Axis",
    "Band",
    "Bar",
    "Chart",
    "Line",
    "Mark",
    "Point",
    "Span",
    "Strip",
    "bar_chart",
    "histogram",
    "line_chart",
    "scatter_chart",
    "strip_chart",
]

MOST_PLACES = 1500  # of a line across the plot; of more, the lowest and the highest of each place are drawn
ROW, STRIP_ROW = 40, 52  # px of a bar and of a strip, with the name above
SHAPES = ("circle", "square", "ring", "square-ring")  # of the groups, in their order
LONGEST = 60  # characters of the name of a row
ROOM_OF_NAME = "60%"  # of the width; the value of the row stands beside it


@dataclass(frozen=True, slots=True)
class Line:
    """A line: ``x`` and ``y`` are (n,) arrays."""

    name: str
    x: ArrayLike
    y: ArrayLike
    look: Look = "s1"


@dataclass(frozen=True, slots=True)
class Band:
    """What lies between two lines: ``x``, ``low`` and ``high`` are (n,) arrays."""

    name: str
    x: ArrayLike
    low: ArrayLike
    high: ArrayLike
    look: Look = "normal"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of x that is marked over the whole height."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on a line chart with a few words."""

    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a scatter chart; ``target`` is the identifier of the element that a click on it leads to."""

    x: float
    y: float
    group: str
    name: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """The values of a group: (n,) array, with names and targets of the points, if they have any."""

    name: str
    values: ArrayLike
    look: Look = "s1"
    names: Sequence[str] = ()
    targets: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, and the interval around it if it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    look: Look = "s1"


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x: Axis,
    y: Axis,
    bands: Sequence[Band] = (),
    spans: Sequence[Span] = (),
    marks: Sequence[Mark] = (),
    description: str = "",
) -> Chart:
    """Lines over areas over marked stretches; the first line lies on top.

    Raises
    ------
    ValueError
        If a line or a band has arrays of several lengths.
    """
    curves = _curves(lines, bands)
    for name, places, values in curves:
        if np.shape(places) != np.shape(values):
            raise ValueError(f"'{name}': has {np.size(places)} places and {np.size(values)} values")
    ys = [values for _, _, values in curves]
    if not any(np.isfinite(np.asarray(part, float)).any() for part in ys):
        return nothing(title, x=x, y=y)
    x = x.fitted(*(places for _, places, _ in curves))
    y = y.fitted(*ys, margin=MARGIN)
    inner = [element("rect", element("title", s.name), **_stretch_of(s, x), class_="span") for s in spans]
    inner += [_area(band, x, y) for band in bands] + [_curve(line, x, y) for line in reversed(lines)]
    content = stretched(inner, HEIGHT) + joined(_marked(mark, x, y) for mark in marks)
    svg = framed(content, x=x, y=y, height=HEIGHT, title=title, description=description, kind="line-chart")
    legend = tuple((one.name, one.look, "line") for one in lines) + tuple(
        (band.name, band.look, "area") for band in bands
    )
    return Chart(svg, title, description, _line_numbers(curves, x, y), legend)


def _curves(lines: Sequence[Line], bands: Sequence[Band]) -> list[tuple[str, ArrayLike, ArrayLike]]:
    """Name, places and values of all lines, and of both ends of all bands."""
    curves = [(line.name, line.x, line.y) for line in lines]
    for band in bands:
        curves += [(f"{band.name}, low", band.x, band.low), (f"{band.name}, high", band.x, band.high)]
    return curves


def _stretch_of(span: Span, x: Axis) -> dict[str, float]:
    low, high = (WIDE * min(max(float(x.share(end)), 0.0), 1.0) for end in (span.low, span.high))
    return {"x": low, "y": 0.0, "width": high - low, "height": float(HEIGHT)}


def _places(xs: ArrayLike, ys: ArrayLike, x: Axis, y: Axis) -> tuple[Float, Float]:
    """In the units of the stretched part, from left to right as they come."""
    return WIDE * x.share(xs), HEIGHT * (1 - y.share(ys))


def _runs(*arrays: Float) -> Iterator[tuple[Float, ...]]:
    """The stretches without a gap."""
    there = np.flatnonzero(np.all([~np.isnan(array) for array in arrays], axis=0))
    for run in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
        if len(run):
            yield tuple(array[run] for array in arrays)


def _thinned(px: Float, py: Float) -> tuple[Float, Float]:
    """Of very many points in order, the lowest and the highest of each place: what is drawn looks the same."""
    if len(px) <= 2 * MOST_PLACES or np.any(np.diff(px) < 0):
        return px, py
    place = np.clip(px * MOST_PLACES / WIDE, 0, MOST_PLACES - 1).astype(int)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    ends = np.append(starts[1:], len(px))
    kept = [
        index
        for start, end in zip(starts, ends, strict=True)
        for index in sorted({start + int(py[start:end].argmin()), start + int(py[start:end].argmax())})
    ]
    return px[kept], py[kept]


def _points(px: Float, py: Float) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px.tolist(), py.tolist(), strict=True))


def _curve(line: Line, x: Axis, y: Axis) -> Markup:
    runs = []
    for px, py in _runs(*_places(line.x, line.y, x, y)):
        px, py = _thinned(px, py)
        points = _points(px, py) if len(px) > 1 else _points(np.repeat(px, 2), np.repeat(py, 2))  # a dot
        runs.append(element("polyline", points=points, vector_effect="non-scaling-stroke"))
    return element("g", *runs, class_=f"line look-{line.look}")


def _area(band: Band, x: Axis, y: Axis) -> Markup:
    px, low = _places(band.x, band.low, x, y)
    _, high = _places(band.x, band.high, x, y)
    runs = []
    for along, bottom, top in _runs(px, low, high):
        a, b = _thinned(along, bottom), _thinned(along, top)
        points = _points(np.append(a[0], b[0][::-1]), np.append(a[1], b[1][::-1]))
        runs.append(element("polygon", points=points))
    return element("g", *runs, class_=f"area look-{band.look}")


def _marked(mark: Mark, x: Axis, y: Axis) -> Markup:
    """A point with its words, which stay within the plot at both ends."""
    across, up = float(x.share(mark.x)), float(y.share(mark.y))
    if not (0 <= across <= 1 and math.isfinite(up)):
        return Markup("")
    place, height = percent(across), HEIGHT * (1 - min(max(up, 0.0), 1.0))
    anchor = "start" if across < 0.1 else "end" if across > 0.9 else "middle"
    return element(
        "g",
        element("circle", cx=place, cy=height, r=4),
        element("text", mark.name, x=place, y=max(height - 9, 10.0), text_anchor=anchor),
        class_="mark look-clip",
    )


def _line_numbers(columns: Sequence[tuple[str, ArrayLike, ArrayLike]], x: Axis, y: Axis) -> dict[str, Any]:
    """A column for each line where all have the same places; else a row for each point."""
    first = np.asarray(columns[0][1], float)
    axis = {"low": x.low, "high": x.high, "scale": x.scale, "unit": x.unit}
    if all(np.array_equal(first, np.asarray(places, float), equal_nan=True) for _, places, _ in columns):
        rows = np.column_stack([first, *(finite(values) for _, _, values in columns)])
        heads = [x.heading, *(name for name, _, _ in columns)]
        return {"kind": "line", "columns": heads, "rows": rows, "x": axis, "unit": y.unit}
    long = [
        [name, a, b]
        for name, places, values in columns
        for a, b in zip(finite(places).tolist(), finite(values).tolist(), strict=True)
    ]
    return {"kind": "points", "columns": ["line", x.heading, y.heading], "rows": long}


def scatter_chart(
    title: str,
    points: Sequence[Point],
    *,
    x: Axis,
    y: Axis,
    groups: Mapping[str, Look],
    lines: Sequence[Line] = (),
    description: str = "",
) -> Chart:
    """Points of several groups; those with a target are links.

    Parameters
    ----------
    title : str
    points : sequence of Point
    x, y : Axis
    groups : mapping of str to Look
        Every group, in the order of the legend; each has its own shape, so that colour alone tells nothing.
    lines : sequence of Line
        Below the points.

    Raises
    ------
    ValueError
        If a point is of a group that is not there.
    """
    unknown = sorted({point.group for point in points} - set(groups))
    if unknown:
        raise ValueError(f"points of the group '{unknown[0]}': must be one of {', '.join(groups)}")
    columns = ["name", "group", x.heading, y.heading]
    shown = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not shown:
        return nothing(title, x=x, y=y, columns=columns)
    x = x.fitted([p.x for p in shown], *(line.x for line in lines), margin=MARGIN)
    y = y.fitted([p.y for p in shown], *(line.y for line in lines), margin=MARGIN)
    shape = {name: SHAPES[n % len(SHAPES)] for n, name in enumerate(groups)}
    across, up = x.share([p.x for p in shown]).tolist(), (1 - y.share([p.y for p in shown])).tolist()
    drawn = [
        _point(a, HEIGHT * b, groups[p.group], shape[p.group], f"{p.name} ({p.group})", p.target)
        for a, b, p in zip(across, up, shown, strict=True)
    ]
    content = stretched([_curve(line, x, y) for line in lines], HEIGHT) + element(
        "g", *drawn, class_="points"
    )
    svg = framed(content, x=x, y=y, height=HEIGHT, title=title, description=description, kind="scatter")
    rows = [[p.name, p.group, p.x, p.y] for p in points]
    legend = tuple((name, look, shape[name]) for name, look in groups.items())
    legend += tuple((line.name, line.look, "line") for line in lines)
    return Chart(svg, title, description, {"kind": "points", "columns": columns, "rows": rows}, legend)


def _point(across: float, height: float, look: Look, shape: str, name: str, target: str) -> Markup:
    """A circle or a square around its place, with its name; a link if it leads anywhere."""
    place = percent(across)
    if shape.startswith("square"):
        drawn = element(
            "rect",
            element("title", name),
            x=place,
            y=height,
            width=8,
            height=8,
            transform="translate(-4 -4)",
            class_=shape,
        )
    else:
        drawn = element("circle", element("title", name), cx=place, cy=height, r=4.5, class_=shape)
    if target:
        return element("a", drawn, href=f"#{target}", class_=f"point look-{look}", aria_label=name)
    return element("g", drawn, class_=f"point look-{look}")


def strip_chart(
    title: str,
    rows: Sequence[Strip],
    *,
    x: Axis,
    threshold: float | None = None,
    spans: Sequence[Span] = (),
    description: str = "",
) -> Chart:
    """A row of points for each group, such as the scores of a domain; points do not hide each other.

    Parameters
    ----------
    title : str
    rows : sequence of Strip
    x : Axis
    threshold : float or None
        A line through all rows.
    spans : sequence of Span
    """
    columns = ["group", "name", x.heading]
    values = [finite(row.values) for row in rows]
    if not any((~np.isnan(part)).any() for part in values):
        return nothing(title, x=x, columns=columns)
    x = x.fitted(*values, [] if threshold is None else [threshold], margin=MARGIN)
    height = STRIP_ROW * len(rows)
    parts = [_tall_span(span, x, height) for span in spans]
    numbers = []
    for index, (row, of_row) in enumerate(zip(rows, values, strict=True)):
        names = list(row.names) or [""] * len(of_row)
        targets = list(row.targets) or [""] * len(of_row)
        known = int((~np.isnan(of_row)).sum())
        parts.append(_row_name(row.name, STRIP_ROW * index, f"{known}"))
        for order, (share, name, target) in enumerate(
            zip(x.share(of_row).tolist(), names, targets, strict=True)
        ):
            if not math.isnan(share):
                place = STRIP_ROW * index + 24 + 20 * (order * 0.618034 % 1)
                shown = f"{name}: {number(float(of_row[order]))}" if name else number(float(of_row[order]))
                parts.append(_point(share, place, row.look, "circle", shown, target))
            numbers.append([row.name, names[order], float(of_row[order])])
    parts.append(_limit(threshold, x, height))
    content = element("g", *parts, class_="points")
    svg = framed(content, x=x, y=None, height=height, title=title, description=description, kind="strip")
    legend: tuple[tuple[str, Look, str], ...] = (
        (("threshold", "limit", "line"),) if threshold is not None else ()
    )
    return Chart(svg, title, description, {"kind": "points", "columns": columns, "rows": numbers}, legend)


def _tall_span(span: Span, x: Axis, height: int) -> Markup:
    low, high = (min(max(float(x.share(end)), 0.0), 1.0) for end in (span.low, span.high))
    return element(
        "rect",
        element("title", span.name),
        x=percent(low),
        width=percent(high - low),
        y=0,
        height=height,
        class_="span",
    )


def _row_name(name: str, top: int, right: str) -> Markup:
    """What a row is, above it, and its number at the right."""
    shown = name_of(name)
    short = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    written = element("text", short, element("title", shown), x=0, y=15, class_="row")
    cut_off = element("svg", written, x=0, y=top, width=ROOM_OF_NAME, height=20)  # where the row is narrow
    return cut_off + element("text", right, x="100%", y=top + 15, text_anchor="end", class_="row value")


def _limit(threshold: float | None, x: Axis, height: int) -> Markup:
    if threshold is None:
        return Markup("")
    place = percent(float(x.share(threshold)))
    return element("line", x1=place, x2=place, y1=0, y2=height, class_="limit")


def histogram(
    title: str,
    groups: Sequence[Strip],
    *,
    x: Axis,
    threshold: float | None = None,
    bins: int = 30,
    description: str = "",
) -> Chart:
    """How often values are met: one outline for each group, in shares of the group.

    Raises
    ------
    ValueError
        If ``bins`` is less than 1.
    """
    if bins < 1:
        raise ValueError(f"bins={bins}: must be at least 1")
    values = [finite(group.values) for group in groups]
    values = [part[~np.isnan(part)] for part in values]
    share = Axis("Share", "%", low=0.0)
    if not any(len(part) for part in values):
        return nothing(title, x=x, y=share)
    x = x.fitted(*values, [] if threshold is None else [threshold])
    edges = x.value(np.linspace(0, 1, bins + 1))
    edges[[0, -1]] = x.limits  # not rounded: the lowest and the highest value are counted
    counts = [100 * np.histogram(part, edges)[0] / max(len(part), 1) for part in values]
    y = share.fitted(*counts, [1.0], margin=MARGIN)
    inner = []
    for group, count in zip(groups, counts, strict=True):
        outline = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(count, 2), [0.0]])
        inner.append(_area(Band(group.name, outline[0], 0 * outline[1], outline[1], group.look), x, y))
        inner.append(_curve(Line(group.name, *outline, group.look), x, y))
    content = stretched(inner, HEIGHT) + _limit(threshold, x, HEIGHT)
    svg = framed(content, x=x, y=y, height=HEIGHT, title=title, description=description, kind="line-chart")
    legend: list[tuple[str, Look, str]] = [(group.name, group.look, "area") for group in groups]
    if threshold is not None:
        legend.append(("threshold", "limit", "line"))
    columns = [f"{x.heading}, from", f"{x.heading}, to", *(f"{group.name} (%)" for group in groups)]
    rows = np.column_stack([edges[:-1], edges[1:], *counts])
    return Chart(svg, title, description, {"kind": "rows", "columns": columns, "rows": rows}, tuple(legend))


def bar_chart(
    title: str,
    bars: Sequence[Bar],
    *,
    x: Axis,
    reference: float | None = None,
    begin: float | None = None,
    description: str = "",
) -> Chart:
    """A bar for each row, from where bars begin to its value, with its interval.

    Parameters
    ----------
    title : str
    bars : sequence of Bar
    x : Axis
    reference : float or None
        A line; such as the value that is asked for.
    begin : float or None
        Where bars begin. ``None``: at the reference; without one, at the lower end of the axis, or at 0.
    """
    columns = ["name", x.heading, "low", "high"]
    if not any(math.isfinite(bar.value) for bar in bars):
        return nothing(title, x=x, columns=columns)
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    if begin is None:
        begin = reference if reference is not None else x.low if x.low is not None else 0.0
    x = x.fitted(ends, [begin] if reference is None else [begin, reference])
    height, parts = ROW * len(bars), []
    for index, bar in enumerate(bars):
        parts.append(_row_name(bar.name, ROW * index, _value_of(bar, x.unit)))
        if math.isfinite(bar.value):
            parts.append(_bar(bar, x, begin, ROW * index + 20))
    if reference is not None:
        parts.append(_limit(reference, x, height))
    content = element("g", *parts, class_="bars")
    svg = framed(content, x=x, y=None, height=height, title=title, description=description, kind="bar-chart")
    rows = [[bar.name, bar.value, bar.low, bar.high] for bar in bars]
    return Chart(svg, title, description, {"kind": "rows", "columns": columns, "rows": rows})


def _value_of(bar: Bar, unit: str) -> str:
    if bar.low is None or bar.high is None:
        return number(bar.value, unit=unit)
    return f"{number(bar.value)} ({number(bar.low)} to {number(bar.high, unit=unit)})"


def _bar(bar: Bar, x: Axis, begin: float, top: int) -> Markup:
    low, high = sorted(min(max(float(x.share(end)), 0.0), 1.0) for end in (begin, bar.value))
    drawn = element(
        "rect",
        element("title", bar.name),
        x=percent(low),
        width=percent(high - low),
        y=top,
        height=14,
        class_="bar",
    )
    if bar.low is not None and bar.high is not None:
        left, right = (percent(min(max(float(x.share(end)), 0.0), 1.0)) for end in (bar.low, bar.high))
        drawn += element("line", x1=left, x2=right, y1=top + 7, y2=top + 7, class_="whisker")
        for end in (left, right):
            drawn += element("line", x1=end, x2=end, y1=top + 3, y2=top + 11, class_="whisker")
    return element("g", drawn, class_=f"look-{bar.look}")
