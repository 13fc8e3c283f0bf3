"""Arrays as pictures: a PNG in a chart with axes, which tells its numbers under the pointer.

Colours are interpolated between a few of ours in Oklab (B. Ottosson, "A perceptual color space for image
processing", 2020), so that equal steps of a number look equal, also in grey. A PNG has a palette and one byte for
each cell.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from nearfar.evidence.spectrograms import spectrogram
from nearfar.report.pages.charts import Span
from nearfar.report.pages.drawing import (
    HEIGHT,
    LOW,
    Axis,
    Chart,
    Float,
    element,
    finite,
    framed,
    joined,
    nothing,
)
from nearfar.report.pages.text import number

Colours = Literal["sequential", "diverging", "grey", "over"]

# sRGB, from low to high. "over" lies on another picture: its alpha ascends with the number.
ANCHORS: dict[Colours, tuple[str, ...]] = {
    "sequential": ("#0b1026", "#30246b", "#7a2a80", "#c2426b", "#f07f47", "#fbc255", "#fdf6c4"),
    "diverging": ("#1b4f9c", "#7fb2de", "#f2f2f2", "#f0a070", "#a81c1c"),
    "grey": ("#ffffff", "#5b6470"),
    "over": ("#ffd23f", "#e4432b", "#b00020"),
}
MOST_ALPHA = 0.9
STEPS = 255  # of a palette; index 255 is a gap
MOST_ROWS, MOST_COLUMNS = 300, 1200  # of a PNG
FINE = 200  # pixels along an axis at least, where cells are not equal
RIDES_ALONG = 65534  # steps of the numbers between the lowest and the highest; one more is a gap
QUIETEST, LOUDEST = 5.0, 99.9  # percentiles of the levels that get the first and the last colour
RANGE_DB = (30.0, 90.0)  # between these two colours
BAR, SHORT_BAR = 96, 40  # px of the bar of colours; of a low picture, which is narrow, too


@dataclass(frozen=True, slots=True)
class Picture:
    """A field of numbers, and how it is shown.

    Attributes
    ----------
    name : str
        What its numbers are, such as "level".
    values : (rows, columns) array
        Row 0 is at the bottom; NaN is a gap.
    x_edges : (columns + 1,) array
    y_edges : (rows + 1,) array
        Both ascend.
    x, y : Axis
    low, high : float
        The numbers with the first and the last colour.
    unit : str
    colours : {"sequential", "diverging", "grey", "over"}
    """

    name: str
    values: NDArray[Any]
    x_edges: NDArray[Any]
    y_edges: NDArray[Any]
    x: Axis
    y: Axis
    low: float
    high: float
    unit: str = ""
    colours: Colours = "sequential"

    def __post_init__(self) -> None:
        expected = (len(self.y_edges) - 1, len(self.x_edges) - 1)
        if np.shape(self.values) != expected:
            raise ValueError(
                f"'{self.name}': values of shape {np.shape(self.values)} between {len(self.y_edges)} and "
                f"{len(self.x_edges)} edges: must be {expected}"
            )
        for edges in (self.x_edges, self.y_edges):
            if not np.all(np.diff(edges) > 0):
                raise ValueError(f"'{self.name}': edges must ascend")

    @property
    def with_unit(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def fitted(self) -> tuple[Axis, Axis]:
        """Both axes, from the first edge to the last."""
        return self.x.fitted(self.x_edges), self.y.fitted(self.y_edges)


def spectrogram_picture(
    samples: NDArray[np.float32],
    rate: int,
    *,
    low: float | None = None,
    high: float | None = None,
    name: str = "level",
    colours: Colours = "sequential",
) -> Picture:
    """The spectrogram of a microphone, in dBFS.

    Parameters
    ----------
    samples : (samples,) array
    rate : int
    low, high : float or None
        Levels with the first and the last colour, so that several pictures can be compared; None: those of
        ``limits_of`` this one.
    name : str
    colours : {"sequential", "grey"}

    Raises
    ------
    ValueError
        As of ``evidence.spectrograms.spectrogram``.
    """
    found = spectrogram(samples, rate)
    if low is None or high is None:
        own = limits_of([found.levels])
        low, high = own[0] if low is None else low, own[1] if high is None else high
    return Picture(
        name=name,
        values=found.levels,
        x_edges=found.times,
        y_edges=found.frequencies,
        x=Axis("Time", "s"),
        y=Axis("Frequency", "Hz", "log"),
        low=low,
        high=high,
        unit="dBFS",
        colours=colours,
    )


def limits_of(levels: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Levels in dB with the first and the last colour of pictures that are compared."""
    parts = [part[np.isfinite(part)] for part in levels]
    together = np.concatenate([np.ravel(part) for part in parts]) if parts else np.zeros(0)
    if not len(together):
        return -RANGE_DB[1], 0.0
    quiet, loud = (float(p) for p in np.percentile(together, [QUIETEST, LOUDEST]))
    return loud - min(max(loud - quiet, RANGE_DB[0]), RANGE_DB[1]), loud


def image_chart(
    title: str,
    picture: Picture,
    *,
    over: Picture | None = None,
    told: Picture | None = None,
    spans: Sequence[Span] = (),
    description: str = "",
    carried: Literal["numbers", "nothing"] = "numbers",
    height: int = HEIGHT,
) -> Chart:
    """A picture between axes.

    Parameters
    ----------
    title : str
    picture : Picture
    over : Picture or None
        Lies on it, and can be switched off; it has the axes of ``picture``.
    told : Picture or None
        Whose numbers are told in place of those of ``over``, such as those that it was smoothed from.
    spans : sequence of Span
        Stretches of y that are marked at both sides, such as bands of frequencies.
    description : str
    carried : {"numbers", "nothing"}
        Numbers ride along to be read under the pointer and saved, with two bytes for each cell: one step is the
        65,534th part of their range.
    height : int
        px.
    """
    if not np.isfinite(picture.values).any():
        return nothing(title, x=picture.x, y=picture.y, columns=[picture.name])
    x, y = picture.fitted()
    layers = [picture] if over is None else [picture, over]
    parts = [_image(layer, x, y, height, "layer" if index else "base") for index, layer in enumerate(layers)]
    parts += [_side(span, y, height) for span in spans]
    parts.append(_colour_bar(layers[-1], BAR if height >= LOW else SHORT_BAR))
    svg = framed(
        joined(parts), x=x, y=y, height=height, title=title, description=description, kind="image-chart"
    )
    numbers: dict[str, Any] = {"kind": "image", "layers": [], "columns": [], "rows": []}
    numbers["x"] = {"low": x.low, "high": x.high, "scale": x.scale, "unit": x.unit, "label": x.label}
    numbers["y"] = {"low": y.low, "high": y.high, "scale": y.scale, "unit": y.unit, "label": y.label}
    if carried == "numbers":
        numbers["layers"] = [_carried(layer) for layer in (layers if told is None else [picture, told])]
    names = () if over is None else (over.name,)
    return Chart(svg, title, description, numbers, (), names)


def _image(picture: Picture, x: Axis, y: Axis, height: int, kind: str) -> Markup:
    return element(
        "image",
        href=_source(_indices(picture, x, y), picture.colours),
        x=0,
        y=0,
        width="100%",
        height=height,
        preserveAspectRatio="none",
        class_=kind,
        aria_hidden="true",
    )


def _indices(picture: Picture, x: Axis, y: Axis) -> NDArray[np.uint8]:
    """One byte for each pixel, the upper row first: cells as they lie on the axes."""
    rows = _cells(picture.y_edges, y, MOST_ROWS)[::-1]
    columns = _cells(picture.x_edges, x, MOST_COLUMNS)
    width = picture.high - picture.low
    scaled = (finite(picture.values) - picture.low) / (width if width > 0 else 1.0)
    whole = np.where(np.isnan(scaled), STEPS, np.rint((STEPS - 1) * np.clip(np.nan_to_num(scaled), 0, 1)))
    whole = np.where((rows < 0)[:, None] | (columns < 0), STEPS, whole[np.ix_(rows, columns)])
    return np.asarray(whole, np.uint8)


def _cells(edges: NDArray[Any], axis: Axis, most: int) -> NDArray[np.intp]:
    """Which cell each pixel along the axis shows; -1 beyond them. A pixel for each cell if cells are equal."""
    places = axis.share(edges)
    widths = np.diff(places[~np.isnan(places)])
    pixels = min(most, max(FINE, int(np.ceil(2 / max(widths.min(initial=1.0), 1e-4)))))
    if abs(places[0]) < 1e-9 and abs(places[-1] - 1) < 1e-9:
        equal = np.ptp(widths[:-1]) <= 0.02 * widths[0] if len(widths) > 1 else True
        if equal and widths[-1] <= 1.02 * widths[0] and len(widths) <= most:  # the last may be cut off
            pixels = len(widths)
    values = axis.value((np.arange(pixels) + 0.5) / pixels)
    found = np.searchsorted(edges, values, side="right") - 1
    return np.asarray(np.where((found >= 0) & (found < len(edges) - 1), found, -1), np.intp)


def png(indices: NDArray[np.uint8], colours: Colours) -> bytes:
    """A PNG with the palette of ``colours``: index 0 is the first colour, 254 the last, 255 see-through.

    Parameters
    ----------
    indices : (rows, columns) uint8 array
        The upper row first.
    colours : str
    """
    from PIL import Image

    rgb, alpha = palette(colours)
    picture = Image.fromarray(indices)
    picture.putpalette(rgb.tobytes())
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=False, compress_level=3, transparency=alpha.tobytes())
    return written.getvalue()


@cache
def palette(colours: Colours) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colours, (256, 3), and how opaque they are, (256,); the last one is see-through."""
    anchors = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in ANCHORS[colours]]) / 255
    lab = _to_oklab(anchors)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    steps = np.linspace(0, along[-1], STEPS)
    mixed = np.stack([np.interp(steps, along, lab[:, i]) for i in range(3)], axis=1)
    rgb = np.zeros((STEPS + 1, 3), np.uint8)
    rgb[:STEPS] = np.rint(255 * np.clip(_from_oklab(mixed), 0, 1))
    alpha = np.full(STEPS + 1, 255, np.uint8)
    if colours == "over":
        alpha[:STEPS] = np.rint(255 * MOST_ALPHA * np.linspace(0, 1, STEPS))
    alpha[STEPS] = 0
    return rgb, alpha


# Oklab: linear sRGB to the responses of cones, whose cube roots are mixed to lightness and two opponents
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _to_oklab(srgb: Float) -> Float:
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T)


def _from_oklab(lab: Float) -> Float:
    linear = (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_CONES).T
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _side(span: Span, y: Axis, height: int) -> Markup:
    """A bracket at the right edge, over a stretch of y."""
    bottom, top = (height * (1 - min(max(float(y.share(end)), 0.0), 1.0)) for end in (span.low, span.high))
    lines = [element("line", x1=0, x2="100%", y1=place, y2=place, class_="edge") for place in (bottom, top)]
    return element("g", element("title", span.name), *lines, class_="bracket")


def _colour_bar(picture: Picture, width: int) -> Markup:
    """The colours with their two ends, above the picture at the right."""
    digits = 0 if picture.high - picture.low >= 20 else None
    high = number(picture.high, digits, picture.unit)
    room = 7 * len(high) + 6
    return element(
        "g",
        element("text", high, x="100%", y=-15, text_anchor="end", class_="tick"),
        element(
            "image",
            href=_strip_of(picture.colours),
            x="100%",
            y=-24,
            width=width,
            height=10,
            preserveAspectRatio="none",
            transform=f"translate({-room - width} 0)",
        ),
        element(
            "text",
            number(picture.low, digits),
            x="100%",
            y=-15,
            text_anchor="end",
            transform=f"translate({-room - width - 6} 0)",
            class_="tick",
        ),
        aria_hidden="true",
    )


@cache
def _strip_of(colours: Colours) -> Markup:
    """All colours, from the first to the last, as a picture."""
    return _source(np.arange(STEPS, dtype=np.uint8)[None], colours)


def _source(indices: NDArray[np.uint8], colours: Colours) -> Markup:
    return Markup(f"data:image/png;base64,{base64.b64encode(png(indices, colours)).decode()}")


def _carried(picture: Picture) -> dict[str, Any]:
    """The numbers of a picture, as the script reads them: little-endian, two bytes each, row 0 first."""
    values = finite(picture.values)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scaled = np.nan_to_num((values - low) / (high - low if high > low else 1.0))
    whole = np.where(np.isnan(values), RIDES_ALONG + 1, np.rint(RIDES_ALONG * scaled)).astype("<u2")
    return {
        "name": picture.with_unit,
        "unit": picture.unit,
        "low": low,
        "high": high,
        "steps": RIDES_ALONG,
        "x": picture.x_edges,
        "y": picture.y_edges,
        "cells": Markup(base64.b64encode(whole.tobytes()).decode()),
    }
