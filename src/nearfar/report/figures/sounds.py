"""Figures of sounds: maps of what is abnormal, spectra, envelopes, levels, coherence.

Levels are in dB relative to full scale (dBFS) unless a parameter says otherwise. Axes of frequency are logarithmic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nearfar.report.figures import given
from nearfar.report.figures.given import Float
from nearfar.report.figures.style import (
    ANOMALY,
    BLUE,
    COLOURS,
    INK,
    MARKERS,
    ORANGE,
    PALE,
    STYLE,
    grid,
    hertz,
    key,
    one,
    shown,
    styled,
)

Bands = Sequence[tuple[float, float]]  # low and high, in Hz

QUANTILES = (0.05, 0.5, 0.95)
LOWEST = 20.0  # Hz: an axis does not begin lower, because a logarithmic one cannot begin at 0
FROM_ZERO, BOTH_WAYS = "OrRd", "PuOr_r"  # colours of what is only positive, and of what has both signs
SPECTROGRAM = "magma"
RANGE_DB = 60.0  # of the colours of a spectrogram
LOWEST_SHARE, UNDER_DB = 0.02, 6.0  # of an envelope, what lies lower is noise that nobody looks at
DENSE = 800  # values, whose line is thin
FEW = 40  # values that are marked one by one


@styled(STYLE)
def abnormal_map(
    times: ArrayLike,
    frequencies: ArrayLike,
    values: ArrayLike,
    *,
    label: str = "part of the score",
    title: str = "",
) -> Figure:
    """What is abnormal, in time and frequency.

    Parameters
    ----------
    times : (n_frames + 1,) array
        When frames begin and end, in seconds.
    frequencies : (n_bands + 1,) array
        Where bands begin and end, in Hz, ascending. What lies below 20 Hz is cut off.
    values : (n_bands, n_frames) array
        Such as each cell's part of a score. If all are positive, white is 0; else white is 0 and the two signs have
        two colours.
    label : str
        What ``values`` are, with their unit.
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, or ``times`` or ``frequencies`` do not ascend.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.report import figures
    >>> values = np.zeros((4, 10))
    >>> values[2, 5] = 1.0
    >>> figure = figures.abnormal_map(np.arange(11) / 10, [50, 100, 400, 1600, 8000], values)
    >>> figure.axes[0].get_ylabel()
    'frequency (Hz)'
    """
    figure, axes = one(3.5, title)
    mesh = draw_map(axes, times, frequencies, values)
    _bar(figure.colorbar(mesh, ax=axes, pad=0.015, aspect=30), label)
    return figure


def draw_map(axes: Axes, times: ArrayLike, frequencies: ArrayLike, values: ArrayLike) -> QuadMesh:
    """Draw what ``abnormal_map`` shows into given axes; the colours are returned."""
    t, f = given.edges("times", times), given.edges("frequencies", frequencies)
    cells = given.matrix(
        "values", values, shape=(len(f) - 1, len(t) - 1), of="bands and frames between the edges"
    )
    cells = given.finite("values", cells)
    low, high = float(cells.min()), float(cells.max())
    if low < 0:
        half = max(high, -low)
        norm: Normalize = CenteredNorm(halfrange=half)
    else:
        norm = Normalize(0.0, high or 1.0)
    mesh = axes.pcolormesh(
        t, _from_lowest(f), cells, cmap=BOTH_WAYS if low < 0 else FROM_ZERO, norm=norm, rasterized=True
    )
    hertz(axes, _from_lowest(f)[0], f[-1], "y")
    axes.set_xlim(t[0], t[-1])
    axes.set_xlabel("time (s)")
    return mesh


def draw_spectrogram(axes: Axes, times: ArrayLike, frequencies: ArrayLike, levels: ArrayLike) -> QuadMesh:
    """Draw a spectrogram into given axes: ``levels`` (bands, frames) in dB, between the edges as of a map."""
    t, f = given.edges("times", times), given.edges("frequencies", frequencies)
    cells = given.matrix(
        "levels", levels, shape=(len(f) - 1, len(t) - 1), of="bands and frames between the edges"
    )
    loudest = float(given.finite("levels", cells).max())
    mesh = axes.pcolormesh(
        t,
        _from_lowest(f),
        cells,
        cmap=SPECTROGRAM,
        norm=Normalize(loudest - RANGE_DB, loudest),
        rasterized=True,
    )
    hertz(axes, _from_lowest(f)[0], f[-1], "y")
    axes.set_xlim(t[0], t[-1])
    axes.set_xlabel("time (s)")
    return mesh


def _from_lowest(edges: Float) -> Float:
    """The edges of bands, without what lies below ``LOWEST``; their number stays."""
    if edges[-1] <= LOWEST:
        raise ValueError(f"frequencies: end at {edges[-1]:g}; must be in Hz, and reach beyond {LOWEST:g} Hz")
    return np.maximum(edges, LOWEST)


def _bar(bar: Colorbar, label: str) -> None:
    bar.set_label(shown(label, 60))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)


@styled(STYLE)
def spectra(
    edges: ArrayLike,
    clip: ArrayLike,
    normal: ArrayLike,
    *,
    quantiles: Sequence[float] = QUANTILES,
    abnormal: Bands = (),
    label: str = "level in the band (dBFS)",
    title: str = "",
) -> Figure:
    """The spectrum of a clip against those of normal clips.

    Parameters
    ----------
    edges : (n_bands + 1,) array
        Where bands begin and end, in Hz, ascending.
    clip : (n_bands,) array
        Levels of the clip, in dBFS.
    normal : (n_quantiles, n_bands) array
        Quantiles over the normal clips, of the level in each band, in dBFS.
    quantiles : sequence of float
        Which ones they are: in [0, 1], ascending, an odd number of them.
    abnormal : sequence of (float, float)
        Ranges to mark, in Hz.
    label : str
        What the levels are.
    title : str

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, or the quantiles are not as above.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> normal = [[-62, -55], [-60, -52], [-58, -50]]
    >>> figure = figures.spectra([100, 200, 400], [-59, -41], normal, abnormal=[(200, 400)])
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['normal clips: median', 'normal clips: 5 to 95 %', 'this clip', 'abnormal']
    """
    figure, axes = one(3.5, title)
    draw_spectra(axes, edges, clip, normal, quantiles=quantiles, abnormal=abnormal)
    axes.set_ylabel(shown(label, 60))
    key(figure, axes)
    return figure


def draw_spectra(
    axes: Axes,
    edges: ArrayLike,
    clip: ArrayLike,
    normal: ArrayLike,
    *,
    quantiles: Sequence[float] = QUANTILES,
    abnormal: Bands = (),
) -> None:
    """Draw what ``spectra`` shows into given axes, without a legend."""
    f = given.edges("edges", edges)
    level = given.vector("clip", clip, length=len(f) - 1, of="the bands between the edges")
    share = (
        given.edges("quantiles", quantiles) if len(quantiles) > 1 else given.vector("quantiles", quantiles)
    )
    if len(share) % 2 == 0 or share[0] < 0 or share[-1] > 1:
        raise ValueError(
            f"quantiles={tuple(quantiles)}: must be an odd number of values in [0, 1], such as {QUANTILES}"
        )
    known = given.matrix("normal", normal, shape=(len(share), len(f) - 1), of="a row for each quantile")
    known = given.finite("normal", known)
    pairs, middle = len(share) // 2, len(share) // 2
    f = _from_lowest(f)
    axes.stairs(
        known[middle],
        f,
        baseline=None,
        color=BLUE,
        lw=1.3,
        zorder=2.5,
        label=f"normal clips: {_named(share[middle])}",
    )
    for i in range(pairs):
        axes.stairs(
            known[-1 - i], f, baseline=known[i], fill=True, color=PALE, alpha=0.5 if i < pairs - 1 else 1.0,
            label=f"normal clips: {100 * share[i]:g} to {100 * share[-1 - i]:g} %", zorder=1,
        )  # fmt: skip
    axes.stairs(level, f, baseline=None, color=ANOMALY, lw=1.6, label="this clip", zorder=3)
    _mark(axes, abnormal)
    grid(axes)
    hertz(axes, f[0], f[-1])


def _named(quantile: float) -> str:
    return "median" if quantile == 0.5 else f"{100 * quantile:g} %"


def _mark(axes: Axes, ranges: Bands) -> None:
    """Shade ranges of frequency; only the first is in the legend."""
    for n, (low, high) in enumerate(ranges):
        if not 0 <= low < high < np.inf:
            raise ValueError(f"abnormal: {(low, high)}; must be low and high in Hz, low below high")
        axes.axvspan(low, high, color=ORANGE, alpha=0.18, lw=0, zorder=0, label="_" * bool(n) + "abnormal")


@styled(STYLE)
def envelope_spectrum(
    frequencies: ArrayLike,
    clip: ArrayLike,
    *,
    normal: ArrayLike | None = None,
    peaks: Sequence[float] = (),
    label: str = "modulation (dB)",
    title: str = "",
) -> Figure:
    """How often the level of a band swells: the spectrum of its envelope.

    Parameters
    ----------
    frequencies : (n_bins,) array
        Of the modulation, in Hz, ascending: how many times per second.
    clip : (n_bins,) array
        Of the clip, in dB.
    normal : (n_normal, n_bins) or (n_bins,) array, or None
        The same of normal clips; a thin line each.
    peaks : sequence of float
        Where to name a peak, in Hz.
    label : str
        What the levels are.
    title : str

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, or a peak lies outside.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.report import figures
    >>> rates = np.arange(1.0, 101)
    >>> level = np.where(rates % 29 == 0, -10.0, -40.0)
    >>> figure = figures.envelope_spectrum(rates, level, peaks=[29, 58])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['29 Hz', '58 Hz']
    """
    figure, axes = one(3.1, title)
    draw_envelope(axes, frequencies, clip, normal=normal, peaks=peaks)
    axes.set_ylabel(shown(label, 60))
    key(figure, axes)
    return figure


def draw_envelope(
    axes: Axes,
    frequencies: ArrayLike,
    clip: ArrayLike,
    *,
    normal: ArrayLike | None = None,
    peaks: Sequence[float] = (),
) -> None:
    """Draw what ``envelope_spectrum`` shows into given axes, without a legend."""
    f = given.edges("frequencies", frequencies)
    level = given.vector("clip", clip, length=len(f), of="the frequencies")
    if normal is not None and np.size(normal):
        rows = given.matrix(
            "normal", np.atleast_2d(normal), shape=(None, len(f)), of="a row for each normal clip"
        )
        for n, row in enumerate(given.finite("normal", rows)):
            axes.plot(f, row, color=BLUE, lw=0.8, alpha=0.6, label="_" * bool(n) + "normal clips")
    axes.plot(f, level, color=ANOMALY, lw=1.3 if len(f) <= DENSE else 0.7, label="this clip")
    for peak in peaks:
        if not f[0] <= peak <= f[-1]:
            raise ValueError(f"peaks: {peak:g} Hz; must be between {f[0]:g} and {f[-1]:g} Hz")
        height = float(np.interp(peak, f, level))
        axes.plot([peak], [height], "o", color=INK, ms=3.5, label="_peak")
        axes.annotate(
            f"{peak:.3g} Hz", (peak, height), (0, 4), textcoords="offset points", ha="center", fontsize=8.5
        )
    axes.margins(y=0.15)
    axes.set_ylim(bottom=float(np.quantile(level, LOWEST_SHARE)) - UNDER_DB)
    axes.set_xlim(f[0], f[-1])
    axes.set_xlabel("modulation frequency (Hz)")
    grid(axes)


@styled(STYLE)
def levels(
    times: ArrayLike,
    of: Mapping[str, ArrayLike],
    *,
    over: str = "",
    label: str = "level (dBFS)",
    title: str = "",
) -> Figure:
    """Levels over time, such as those of near and far in each recording of a data set.

    Parameters
    ----------
    times : (n,) array
        In seconds, or of ``datetime64``. Where none are known, the numbers of the recordings: see ``over``.
    of : mapping from name to (n,) array
        In dBFS. NaN where a recording has none.
    over : str
        What ``times`` are, unless they are seconds or dates.
    label : str
        What the values are.
    title : str

    Raises
    ------
    ValueError
        If there is nothing to show, or shapes do not match.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.levels([0, 10, 20], {"near": [-30, -31, -29], "far": [-40, -41, -20]})
    >>> figure.axes[0].get_xlabel()
    'time (s)'
    """
    figure, axes = one(3.1, title)
    _require_some("of", of)
    t = np.asarray(times)
    is_date = np.issubdtype(t.dtype, np.datetime64)
    t = t if is_date else given.vector("times", times)
    for n, (name, values) in enumerate(of.items()):
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        level = _with_gaps(f"of[{name!r}]", values, len(t))
        axes.plot(
            t,
            level,
            color=colour,
            lw=1.0,
            marker=marker if len(t) <= FEW else "None",
            ms=3.5,
            label=_legend(name),
        )
    if is_date:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel(shown(over) or ("date and time" if is_date else "time (s)"))
    axes.set_ylabel(shown(label, 60))
    grid(axes)
    key(figure, axes)
    return figure


@styled(STYLE)
def coherence(frequencies: ArrayLike, of: Mapping[str, ArrayLike], *, title: str = "") -> Figure:
    """The magnitude-squared coherence of two microphones, at each frequency.

    Parameters
    ----------
    frequencies : (n_bins,) array
        In Hz, ascending; what lies below 20 Hz is not shown.
    of : mapping from name to (n_bins,) array
        In [0, 1]: 1 where one microphone hears what the other hears, but for a filter.
    title : str

    Raises
    ------
    ValueError
        If there is nothing to show, shapes do not match, or a value lies outside [0, 1].

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.coherence([100, 1000, 8000], {"fan": [0.9, 0.4, 0.1]})
    >>> figure.axes[0].get_ylabel()
    'coherence of near and far'
    """
    figure, axes = one(3.1, title)
    _require_some("of", of)
    f = given.edges("frequencies", frequencies)
    for n, (name, values) in enumerate(of.items()):
        colour = COLOURS[n % len(COLOURS)]
        shares = given.vector(f"of[{name!r}]", values, length=len(f), of="the frequencies")
        if shares.min() < 0 or shares.max() > 1 + 1e-6:
            raise ValueError(f"of[{name!r}]: from {shares.min():g} to {shares.max():g}; must lie in [0, 1]")
        axes.plot(f, shares, color=colour, label=_legend(name))
    hertz(axes, max(f[f > 0][0], LOWEST), f[-1])
    axes.set_ylim(0, 1)
    axes.set_ylabel("coherence of near and far")
    grid(axes)
    key(figure, axes)
    return figure


@styled(STYLE)
def spectra_by_domain(
    edges: ArrayLike,
    of: Mapping[str, ArrayLike],
    *,
    label: str = "level in the band (dBFS)",
    title: str = "",
) -> Figure:
    """Spectra of groups of clips, such as of the domains: the median of each group, and 5 to 95 % of its clips.

    Parameters
    ----------
    edges : (n_bands + 1,) array
        Where bands begin and end, in Hz, ascending.
    of : mapping from name to (n_clips, n_bands) array
        Levels in dBFS; of each group any number of clips.
    label : str
        What the levels are.
    title : str

    Raises
    ------
    ValueError
        If there is nothing to show, shapes do not match, or a value is not finite.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> groups = {"source": [[-60, -50], [-62, -51]], "target": [[-55, -58]]}
    >>> figure = figures.spectra_by_domain([100, 200, 400], groups)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['source (2 clips)', 'target (1 clip)']
    """
    figure, axes = one(3.5, title)
    _require_some("of", of)
    f = _from_lowest(given.edges("edges", edges))
    for n, (name, values) in enumerate(of.items()):
        colour = COLOURS[n % len(COLOURS)]
        shape = (None, len(f) - 1)
        clips = given.matrix(
            f"of[{name!r}]", values, shape=shape, of="a row for each clip, a column for each band"
        )
        low, middle, high = np.quantile(given.finite(f"of[{name!r}]", clips), QUANTILES, axis=0)
        if len(clips) > 1:
            axes.stairs(high, f, baseline=low, fill=True, color=colour, alpha=0.15, lw=0, zorder=1)
        number = f"{len(clips)} clip{'s' if len(clips) > 1 else ''}"
        axes.stairs(
            middle, f, baseline=None, color=colour, lw=1.4, label=f"{_legend(name)} ({number})", zorder=2
        )
    hertz(axes, f[0], f[-1])
    axes.set_ylabel(shown(label, 60))
    grid(axes)
    key(figure, axes)
    return figure


def _require_some(name: str, of: Mapping[str, ArrayLike]) -> None:
    if not of:
        raise ValueError(f"{name}: empty; must name one or more to show")


def _with_gaps(name: str, values: ArrayLike, length: int) -> Float:
    """A (n,) array that may hold NaN, but not only NaN, and no infinity."""
    x = np.asarray(values, dtype=float)
    if x.shape != (length,):
        raise ValueError(f"{name}: has the shape {x.shape}; must be ({length},), as the times")
    if np.isinf(x).any() or np.isnan(x).all():
        raise ValueError(
            f"{name}: no finite value, or infinity; give NaN where nothing is known, and leave out silence"
        )
    return x


def _legend(name: str) -> str:
    """A name in a legend: matplotlib leaves out those that begin with an underscore."""
    text = shown(name)
    return f" {text}" if text.startswith("_") else text
