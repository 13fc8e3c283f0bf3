"""Figures of what experiments found: tables of metrics, false alarms, weights, seeds, comparisons.

Shares and metrics are given as fractions, and shown in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from nearfar.decisions.rates import CONFIDENCE, FlaggedShare
from nearfar.report.figures import given
from nearfar.report.figures.given import Float
from nearfar.report.figures.style import (
    ANOMALY,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    LINES,
    MARKERS,
    STYLE,
    beside,
    grid,
    headed,
    in_rows,
    key,
    one,
    row_height,
    shown,
    styled,
)

HEAT = "YlGnBu"
HATCHES = ("", "///", "...", "xx")
DARK = 0.179  # of the luminance: on darker cells white text has the higher contrast, else black: 4.5 or more
LUMINANCE = np.array(
    [0.2126, 0.7152, 0.0722]
)  # of red, green, blue without gamma: WCAG 2.2, relative luminance
CELL, LETTER = 1.05, 0.08  # inches: width of a cell, and of a letter
FITS = 1.0  # inches of a name above a cell
SHORT = 28  # characters of a name, where many are side by side


@styled(STYLE)
def heat_map(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    limits: tuple[float, float] = (0.4, 1.0),
    title: str = "",
) -> Figure:
    """A table whose colours show how high its numbers are, such as machines x metrics.

    Parameters
    ----------
    values : (n_rows, n_columns) array
        Fractions; NaN where nothing is known.
    rows, columns : sequences of str
        Their names.
    limits : (float, float)
        Values of the lightest and the darkest colour.
    title : str

    Raises
    ------
    ValueError
        If shapes do not match, a value lies outside [0, 1], or the limits do not ascend.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.heat_map([[0.9, 0.7], [0.6, float("nan")]], ["fan", "pump"], ["AUC source", "pAUC"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['90.0', '70.0', '60.0', '-']
    """
    shape = (len(rows), len(columns))
    cells = given.matrix("values", values, shape=shape, of="a row and a column for each name")
    if not (np.isnan(cells) | ((cells >= 0) & (cells <= 1))).all():
        raise ValueError("values: must be fractions in [0, 1] (not percent), or NaN where nothing is known")
    if not limits[0] < limits[1]:
        raise ValueError(f"limits={limits}: must ascend, such as (0.4, 1.0)")
    of_rows = given.names("rows", rows, length=len(cells), of="rows of values")
    of_columns = given.names("columns", columns, length=cells.shape[1], of="columns of values")
    figure, axes = _room_for(of_rows, of_columns, title)
    colours = matplotlib.colormaps[HEAT].with_extremes(bad=LINES)
    known = np.ma.masked_invalid(cells)
    image = axes.imshow(known, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    is_dark = _luminance(image.to_rgba(known)[..., :3]) < DARK
    for (row, column), value in np.ndenumerate(cells):
        colour = "white" if is_dark[row, column] else "black"
        text = f"{100 * value:.1f}" if np.isfinite(value) else "-"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    in_rows(axes, of_rows)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("percent")
    return figure


def _room_for(rows: Sequence[str], columns: Sequence[str], title: str) -> tuple[Figure, Axes]:
    """A figure in which the names of a table have room: long ones of columns are slanted."""
    names = [shown(name, SHORT) for name in columns]
    longest = LETTER * max(map(len, names))  # inches
    over = longest if longest > FITS else 0.0  # above and beside the cells
    width = 0.6 + LETTER * max(len(shown(name)) for name in rows) + CELL * len(names) + over
    figure, axes = one(row_height(len(rows), others=0.9 + over / 2), title, width=max(4.0, width))
    axes.set_xticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0)
    for label in axes.get_xticklabels() if over else ():
        label.set(rotation=25, ha="left")
    return figure, axes


def _luminance(colours: Float) -> Float:
    """(..., 3) array of red, green, blue in [0, 1] to (...,)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ LUMINANCE)


@styled(STYLE)
def false_alarm_rates(
    names: Sequence[str],
    asked: ArrayLike,
    flagged: ArrayLike,
    clips: ArrayLike,
    *,
    domain: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """The false-alarm rates that were asked for, and those that were got, with their exact intervals.

    Parameters
    ----------
    names : (n,) sequence of str
        Of the rows, such as machines. Rows that follow each other with one name share a label.
    asked : (n,) array, or float
        The rates that were asked for; NaN where none is recorded.
    flagged, clips : (n,) arrays
        Of so many normal clips, how many were flagged. A mean over seeds is rounded for its interval, because more
        seeds of the same clips do not make it narrower.
    domain : (n,) sequence of str, or None
        For colour and marker.
    title : str

    Raises
    ------
    ValueError
        If lengths differ, or more clips are flagged than there are.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.false_alarm_rates(["fan", "pump"], 0.05, [1, 4], [20, 20])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1 of 20', '4 of 20']
    """
    n = len(names)
    rows = given.names("names", names, length=n, of="rows")
    wanted = np.asarray(asked, dtype=float)
    if wanted.shape not in ((), (n,)):
        raise ValueError(
            f"asked: has the shape {wanted.shape}; must be a number, or ({n},), one for each name"
        )
    got = given.vector("flagged", flagged, length=n, of="names")
    number = given.vector("clips", clips, length=n, of="names")
    of_domain = [""] * n if domain is None else given.names("domain", domain, length=n, of="names")
    figure, axes = one(row_height(n, others=1.1, each=0.3), title)
    known = list(dict.fromkeys(of_domain))
    for place, rate in enumerate(np.broadcast_to(wanted, (n,))):
        _rate(axes, place, rate, got[place], number[place], known.index(of_domain[place]))
    in_rows(axes, ["" if i and rows[i] == rows[i - 1] else rows[i] for i in range(n)])
    axes.set_xlim(0, None)
    axes.set_xlabel(f"flagged normal clips (percent), with the {100 * CONFIDENCE:g} % interval")
    grid(axes, "x")
    key(figure, axes, _handles_of_rates(known))
    return figure


def _rate(axes: Axes, place: int, asked: float, flagged: float, clips: float, kind: int) -> None:
    """A row: the interval of the rate, the rate that was got, and the one that was asked for."""
    low, high = FlaggedShare(round(flagged), round(clips)).interval()
    colour, marker = COLOURS[kind % len(COLOURS)], MARKERS[kind % len(MARKERS)]
    got = 100 * flagged / clips
    axes.plot([100 * low, 100 * high], [place, place], color=colour, lw=1.6, label="_interval")
    axes.plot([got], [place], marker, color=colour, ms=6, clip_on=False, label="_got")
    axes.plot([100 * asked] * 2, [place - 0.36, place + 0.36], color=INK, lw=2, label="_asked")
    beside(axes, place, f"{flagged:.4g} of {clips:.4g}")


def _handles_of_rates(domains: Sequence[str]) -> list[Line2D]:
    handles = [Line2D([], [], color=INK, marker="|", ms=10, mew=2, ls="none", label="asked")]
    for n, name in enumerate(domains):
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        handles.append(Line2D([], [], color=colour, marker=marker, label=shown(name) or "got"))
    return handles


@styled(STYLE)
def branch_weights(
    weights: ArrayLike, machines: Sequence[str], branches: Sequence[str], *, title: str = ""
) -> Figure:
    """The weights of a fusion's branches, for each machine: a bar whose parts add up to 1.

    Parameters
    ----------
    weights : (n_machines, n_branches) array
        Not negative; the sum of each row is 1.
    machines, branches : sequences of str
    title : str

    Raises
    ------
    ValueError
        If shapes do not match, or a row is not of weights.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.branch_weights([[0.25, 0.75], [0.0, 1.0]], ["fan", "pump"], ["far", "near"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.25', '0.75', '1.00']
    """
    shape = (len(machines), len(branches))
    cells = given.finite("weights", given.matrix("weights", weights, shape=shape, of="machines and branches"))
    if (cells < 0).any() or not np.allclose(cells.sum(axis=1), 1, atol=1e-3):
        raise ValueError("weights: must not be negative, and the sum of each row must be 1")
    rows = given.names("machines", machines, length=len(cells), of="rows of weights")
    parts = given.names("branches", branches, length=cells.shape[1], of="columns of weights")
    figure, axes = one(row_height(len(rows), others=1.2), title)
    for n, (name, begin) in enumerate(zip(parts, np.cumsum(cells, axis=1).T - cells.T, strict=True)):
        colour, hatch = COLOURS[n % len(COLOURS)], HATCHES[n // len(COLOURS) % len(HATCHES)]
        text = shown(name, SHORT)
        axes.barh(
            range(len(rows)), cells[:, n], left=begin, color=colour, hatch=hatch, edgecolor="white", height=0.7,
            label=f" {text}" if text.startswith("_") else text,
        )  # fmt: skip
    for row, column in np.argwhere(cells >= 0.06):
        middle = cells[row, :column].sum() + cells[row, column] / 2
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
        axes.text(middle, row, f"{cells[row, column]:.2f}", ha="center", va="center", fontsize=8.5, bbox=box)
    in_rows(axes, rows)
    axes.set_xlim(0, 1)
    axes.set_xlabel("weight")
    key(figure, axes)
    return figure


@styled(STYLE)
def left_out(
    omega: float,
    without: Mapping[str, float],
    *,
    adds: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
) -> Figure:
    """What each branch adds to a fusion: Omega without it, against Omega with all.

    Parameters
    ----------
    omega : float
        With all branches, a fraction.
    without : mapping from branch to float
        Omega of the other branches; NaN where it is not known.
    adds : mapping from branch to (float, float), or None
        The interval of what a branch adds, ``omega`` less ``without``, as fractions; of some branches or of all.
    title : str

    Returns
    -------
    Figure
        A bar to the left of the line: the fusion loses without this branch.

    Raises
    ------
    ValueError
        If nothing is known of any branch, a value lies outside [0, 1], or an interval's ends do not ascend.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.left_out(0.72, {"near": 0.60, "far": 0.73}, adds={"near": (0.08, 0.15)})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['-12.0', '+1.0', 'all: 72.0 %']
    """
    known = {name: value for name, value in without.items() if not np.isnan(value)}
    if not known:
        raise ValueError("without: empty, or all unknown; must have one or more branches")
    values = _fractions("without", list(known.values()))
    whole = float(_fractions("omega", [omega])[0])
    figure, axes = one(row_height(len(without), others=1.0), title)
    for place, name in enumerate(without):
        if name in known:
            _left_out_bar(axes, place, whole, known[name], (adds or {}).get(name))
    axes.axvline(100 * whole, color=INK, lw=1.1)
    axes.annotate(
        f"all: {100 * whole:.1f} %", (100 * whole, 1.0), (0, 3), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", ha="center", va="bottom", fontsize=8.5,
    )  # fmt: skip
    headed(axes, title, pad=20)
    in_rows(axes, [f"without {name}" for name in without])
    axes.margins(x=0.2 if np.ptp([*values, whole]) else 2)
    axes.set_xlabel("Omega (percent)" + ", with the interval of the difference" * bool(adds))
    grid(axes, "x")
    return figure


def _left_out_bar(
    axes: Axes, place: int, whole: float, without: float, adds: tuple[float, float] | None
) -> None:
    """From Omega with all branches to Omega without one, and how much that difference is certain."""
    change = 100 * (without - whole)
    ends = [100 * without]
    axes.barh(place, change, left=100 * whole, color=ANOMALY if change < 0 else BLUE, height=0.6)
    if adds is not None:
        if not adds[0] <= adds[1]:
            raise ValueError(f"adds: {adds}; must be low and high, low not above high")
        ends += [100 * (whole - adds[1]), 100 * (whole - adds[0])]
        axes.plot(ends[1:], [place, place], color=INK, lw=1.6, label="_interval")
    text = f"{round(change, 1) + 0.0:+.1f}"  # no "-0.0"
    axes.annotate(
        text, (max(ends) if change > 0 else min(ends), place), (4 if change > 0 else -4, 0),
        textcoords="offset points", ha="left" if change > 0 else "right", va="center", fontsize=8.5,
    )  # fmt: skip


@styled(STYLE)
def seeds(of: Mapping[str, ArrayLike], *, label: str = "Omega (percent)", title: str = "") -> Figure:
    """How much a number changes from one training to the next: a point for each seed.

    Parameters
    ----------
    of : mapping from name to (n_seeds,) array
        Fractions, such as Omega of each seed; of a machine, or of a system.
    label : str
        What the values are, in percent.
    title : str

    Returns
    -------
    Figure
        With the mean, and one sample standard deviation to both sides, of two seeds or more.

    Raises
    ------
    ValueError
        If there is nothing to show, or a value lies outside [0, 1].

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.seeds({"baseline": [0.58, 0.61, 0.60], "ours": [0.66]})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['59.67 ± 1.53', '66.00']
    """
    if not of:
        raise ValueError("of: empty; must name one or more to show")
    figure, axes = one(row_height(len(of), others=1.0), title)
    for place, (name, values) in enumerate(of.items()):
        points = 100 * _fractions(f"of[{name!r}]", values)
        mean, text = points.mean(), f"{points.mean():.2f}"
        axes.plot(
            points, np.full(len(points), place), "o", color=BLUE, ms=5, mew=0, alpha=0.7, label="_seeds"
        )
        if len(points) > 1:
            deviation = points.std(ddof=1)
            text += f" ± {deviation:.2f}"
            axes.plot(
                [mean - deviation, mean + deviation],
                [place + 0.25] * 2,
                color=INK,
                lw=1.2,
                label="_deviation",
            )
        axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=INK, lw=1.8, label="_mean")
        beside(axes, place, text)
    in_rows(axes, list(of))
    axes.margins(x=0.1)
    axes.set_xlabel(shown(label, 60))
    grid(axes, "x")
    return figure


@styled(STYLE)
def comparison(
    machines: Sequence[str],
    difference: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    better: ArrayLike | None = None,
    names: tuple[str, str] = ("A", "B"),
    title: str = "",
) -> Figure:
    """The difference of two systems, B - A, with its interval: for each machine, and for all.

    Parameters
    ----------
    machines : (n,) sequence of str
        Names of the rows.
    difference, low, high : (n,) arrays
        B - A and the ends of its interval, as fractions: the columns of ``statistics.Comparison.table``.
    better : (n,) array or None
        How sure it is that B is better, in [0, 1].
    names : (str, str)
        Of A and B.
    title : str

    Returns
    -------
    Figure
        A point is filled if its interval does not hold 0.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or the ends of an interval do not ascend.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> ends = [0.005, -0.02], [0.04, 0.03]
    >>> figure = figures.comparison(["fan", "all"], [0.02, 0.01], *ends, names=("near", "both"))
    >>> figure.axes[0].get_xlabel()
    'both - near (percentage points)'
    """
    rows = given.names("machines", machines, length=len(machines), of="rows")
    columns = {"difference": difference, "low": low, "high": high}
    ends = [100 * given.vector(name, x, length=len(rows), of="machines") for name, x in columns.items()]
    if (ends[1] > ends[2]).any():
        raise ValueError("low: above high in a row; must be the lower end of the interval")
    sure = () if better is None else given.vector("better", better, length=len(rows), of="machines")
    figure, axes = one(row_height(len(rows), others=1.0), title)
    for place, (middle, lower, upper) in enumerate(zip(*ends, strict=True)):
        _difference(axes, place, middle, lower, upper)
    for place, share in enumerate(sure):
        beside(axes, place, f"{100 * share:.0f} %")
    axes.axvline(0, color=INK, lw=1.0)
    grid(axes, "x")
    in_rows(axes, rows)
    axes.margins(x=0.08)
    axes.set_xlabel(_difference_of(*names, is_sure=better is not None))
    return figure


def _difference_of(first: str, second: str, *, is_sure: bool) -> str:
    a, b = shown(first, SHORT), shown(second, SHORT)
    return f"{b} - {a} (percentage points)" + f"; right: how sure it is that {b} is better" * is_sure


def _difference(axes: Axes, place: int, value: float, low: float, high: float) -> None:
    colour = BLUE if low > 0 else ANOMALY if high < 0 else GREY
    inside = "white" if colour == GREY else colour
    axes.plot([low, high], [place, place], color=colour, lw=2, label="_interval")
    axes.plot([value], [place], "o", ms=6.5, mec=colour, mfc=inside, label="_difference")


@styled(STYLE)
def omegas(of: Mapping[str, tuple[float, float, float]], *, title: str = "") -> Figure:
    """Omega of several systems, each with its interval.

    Parameters
    ----------
    of : mapping from name to (value, low, high)
        Fractions.
    title : str

    Raises
    ------
    ValueError
        If there is nothing to show, or a value lies outside [0, 1].

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.omegas({"near": (0.60, 0.55, 0.64), "both": (0.66, 0.62, 0.70)})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['60.0', '66.0']
    """
    if not of:
        raise ValueError("of: empty; must name one or more to show")
    figure, axes = one(row_height(len(of), others=0.9), title)
    for place, (name, values) in enumerate(of.items()):
        value, low, high = 100 * _fractions(f"of[{name!r}]", values, length=3)
        axes.plot([low, high], [place, place], color=GREEN, lw=2, label="_interval")
        axes.plot([value], [place], "o", color=GREEN, ms=6.5, label="_omega")
        beside(axes, place, f"{value:.1f}")
    in_rows(axes, list(of))
    axes.margins(x=0.08)
    axes.set_xlabel("Omega (percent), with its interval")
    grid(axes, "x")
    return figure


def _fractions(name: str, values: ArrayLike, *, length: int | None = None) -> Float:
    x = given.vector(name, values, length=length, of="value, low and high")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(
            f"{name}: from {x.min():g} to {x.max():g}; must be fractions in [0, 1] (not percent)"
        )
    return x
