"""Figures of the scores of one machine: how they spread, ROC curves, where embeddings lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

from nearfar.evaluation.curves import ALL, Curve, curves
from nearfar.evaluation.metrics import MAX_FPR
from nearfar.report.figures import given, style
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
    NORMAL,
    ORANGE,
    PALE,
    STYLE,
    beside,
    grid,
    in_rows,
    key,
    one,
    row_height,
    shown,
    styled,
)

TRAINING = "training clips, unseen"
COLOUR_OF = {"normal": NORMAL, "anomaly": ANOMALY}
MARKER_OF = {"source": "o", "target": "^"}
CURVE_STYLES = {"source": (BLUE, "-"), "target": (ORANGE, "--"), ALL: (INK, "-.")}
JITTER = 0.3  # of a row's height, to both sides
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, without their whole part, spread evenly
MANY = 2000  # points that become an image in files of vectors


@styled(STYLE)
def score_distributions(
    score: ArrayLike,
    label: Sequence[str | None] | None = None,
    domain: Sequence[str | None] | None = None,
    *,
    references: ArrayLike | None = None,
    threshold: float | tuple[float, float] | None = None,
    logarithmic: bool = False,
    title: str = "",
) -> Figure:
    """The scores of a machine's test clips: a row for each domain and label, a point for each clip.

    Parameters
    ----------
    score : (n_clips,) array
        Higher for a more anomalous clip.
    label : (n_clips,) sequence of {"normal", "anomaly"}, or None
        ``None`` where it is not known.
    domain : (n_clips,) sequence of str, or None
        ``None`` where it is not known.
    references : (n_references,) array or None
        Scores of normal training clips by a fit without them: what the threshold was learnt from.
    threshold : float, (float, float) or None
        A score above it is an anomaly. Two values: it lies between them.
    logarithmic : bool
        For scores that spread over powers of ten.
    title : str

    Returns
    -------
    Figure
        In each row a thick line from the lower to the upper quartile, with the median. Beside it: how many are
        above the threshold.

    Raises
    ------
    ValueError
        If there is no score, lengths differ, a score is not finite, or is not positive on a logarithmic axis.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.score_distributions(
    ...     [1.0, 2.0, 3.5, 5.0], ["normal", "normal", "anomaly", "anomaly"], references=[1.1, 1.4], threshold=3.0
    ... )
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['training clips, unseen', 'normal', 'anomaly']
    """
    scores = given.vector("score", score)
    rows = _rows(scores, label, domain)
    if references is not None and np.size(references):
        rows.insert(0, (TRAINING, given.vector("references", references), GREEN, "o"))
    ends = _ends(threshold)
    figure, axes = one(row_height(len(rows), others=1.15, each=0.42), "")
    style.headed(axes, title, pad=20 if ends else 8)
    _draw_rows(axes, rows, ends)
    if logarithmic:
        _logarithmic(axes, [*(row[1] for row in rows), *([np.array(ends)] if ends else [])])
    axes.set_xlabel("anomaly score" + (" (logarithmic)" if logarithmic else ""))
    return figure


def _draw_rows(
    axes: Axes, rows: Sequence[tuple[str, Float, str, str]], ends: tuple[float, float] | None
) -> None:
    for place, (_, values, colour, marker) in enumerate(rows):
        _strip(axes, place, values, colour, marker)
        if ends:
            beside(axes, place, f"{int((values > ends[0]).sum())} of {len(values)} above")
    if ends:
        _draw_threshold(axes, *ends)
    in_rows(axes, [row[0] for row in rows])
    grid(axes, "x")


def _ends(threshold: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Between which scores the threshold lies."""
    if threshold is None:
        return None
    low, high = (float(x) for x in (threshold if isinstance(threshold, tuple) else (threshold, threshold)))
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(
            f"threshold={threshold}: must be finite, or two finite values that ascend, or None where there are no "
            "decisions"
        )
    return low, high


def _draw_threshold(axes: Axes, low: float, high: float) -> None:
    if low == high:
        axes.axvline(low, color=INK, ls="--", lw=1.1, label="_threshold")
        text = f"threshold {low:.4g}"
    else:
        axes.axvspan(low, high, color=LINES, lw=0, zorder=0, label="_threshold")
        text = f"threshold between {low:.4g} and {high:.4g}"
    axes.annotate(
        text, ((low + high) / 2, 1.0), (0, 3), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
        fontsize=8.5, ha="center", va="bottom",
    )  # fmt: skip


def _rows(
    scores: Float, label: Sequence[str | None] | None, domain: Sequence[str | None] | None
) -> list[tuple[str, Float, str, str]]:
    """Name, scores, colour and marker of each combination of domain and label that occurs."""
    labels, domains = (_known(n, of, len(scores)) for n, of in (("label", label), ("domain", domain)))
    if strange := sorted(set(labels) - {"normal", "anomaly", ""}):
        raise ValueError(f"label: {strange[0]!r}; must be 'normal', 'anomaly' or None")
    known_domains = sorted(set(domains), key=lambda name: (name == "", name))
    found = []
    for of_domain in known_domains:
        for of_label in ("normal", "anomaly", ""):
            here = np.array([x == (of_domain, of_label) for x in zip(domains, labels, strict=True)])
            if here.any():
                name = ", ".join(filter(None, (of_domain, of_label or "label not known")))
                colour, marker = COLOUR_OF.get(of_label, GREY), MARKER_OF.get(of_domain, "s")
                found.append((name, scores[here], colour, marker if of_domain else "o"))
    return found


def _known(name: str, values: Sequence[str | None] | None, length: int) -> list[str]:
    """A text for each clip, empty where nothing is known: None, or NaN as of a table."""
    if values is None:
        return [""] * length
    if isinstance(values, str) or len(values) != length:
        raise ValueError(f"{name}: {len(values)} for {length} scores; there must be one for each")
    return [value if isinstance(value, str) else "" for value in values]


def _strip(axes: Axes, place: int, values: Float, colour: str, marker: str) -> None:
    """The points of a row, each at a height of its own, with quartiles and median."""
    heights = place + JITTER * (2 * ((np.arange(len(values)) * GOLDEN) % 1) - 1)
    axes.plot(
        np.sort(values), heights, marker, color=colour, ms=4, mew=0, alpha=0.65, ls="none",
        rasterized=len(values) > MANY, label="_clips",
    )  # fmt: skip
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    axes.plot([low, high], [place, place], color=INK, lw=3, solid_capstyle="butt", label="_quartiles")
    axes.plot([middle], [place], "o", color="white", mec=INK, ms=5.5, label="_median")


def _logarithmic(axes: Axes, shown_there: Sequence[Float]) -> None:
    low, high = (float(end) for end in (min(x.min() for x in shown_there), max(x.max() for x in shown_there)))
    if low <= 0:
        raise ValueError(f"logarithmic=True: there is a score of {low:g}; all must be above 0")
    style.powers(axes, low / 1.05, high * 1.05)


@styled(STYLE)
def roc(
    anomalous: ArrayLike, score: ArrayLike, domain: Sequence[str | None] | None = None, *, title: str = ""
) -> Figure:
    """ROC curves of one machine, as the official metrics count them, with the part that pAUC counts.

    Parameters
    ----------
    anomalous : (n_clips,) array of bool
    score : (n_clips,) array
        Higher for a more anomalous clip.
    domain : (n_clips,) sequence of {"source", "target"}, or None
        A curve of a domain compares its normal clips with the anomalies of both domains.
    title : str

    Raises
    ------
    ValueError
        As ``evaluation.curves.curves``: among others, if all clips are of one class.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.roc([False, False, True, True], [1.0, 3.0, 2.0, 4.0])
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['all: AUC 75.0 %, pAUC 73.7 % (2 normal, 2 anomalous)', 'what pAUC counts']
    """
    figure, axes = one(5.4, title, width=5.2)
    draw_roc(axes, curves(anomalous, score, domain))
    key(figure, axes, columns=1)
    return figure


def draw_roc(axes: Axes, found: Sequence[Curve]) -> None:
    """Draw what ``roc`` shows into given axes, without a legend."""
    for curve in found:
        colour, line = CURVE_STYLES[curve.name]
        partial = f", pAUC {100 * curve.pauc:.1f} %" if curve.name == ALL else ""
        clips = f"({curve.normals} normal, {curve.anomalies} anomalous)"
        name = f"{curve.name}: AUC {100 * curve.auc:.1f} %{partial} {clips}"
        axes.plot(curve.false_alarms, curve.hits, color=colour, ls=line, label=name, clip_on=False)
    x, y = found[-1].partial
    axes.fill_between(x, y, color=PALE, lw=0, zorder=0, label="what pAUC counts")
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":", label="_chance")
    axes.axvline(MAX_FPR, color=GREY, lw=0.8, label="_end")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(xlabel="false alarms (share of normal clips)", ylabel="hits (share of anomalous clips)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    grid(axes)


@styled(STYLE)
def embeddings(
    points: ArrayLike,
    group: Sequence[str],
    *,
    variance: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    """Embeddings of clips in a plane, such as by their first two principal components.

    Parameters
    ----------
    points : (n_clips, 2) array
    group : (n_clips,) sequence of str
        Such as "training, source". Each has a colour and a marker; of more than seven groups, combinations repeat.
    variance : (float, float) or None
        Shares of the variance that the two axes hold, in [0, 1].
    title : str

    Raises
    ------
    ValueError
        If shapes do not match, or a point is not finite.

    Examples
    --------
    >>> from nearfar.report import figures
    >>> figure = figures.embeddings([[0, 1], [2, 0], [5, 5]], ["normal", "normal", "anomaly"], variance=(0.6, 0.2))
    >>> figure.axes[0].get_xlabel()
    'first component (60 % of the variance)'
    """
    places = given.finite(
        "points", given.matrix("points", points, shape=(None, 2), of="two coordinates of each clip")
    )
    names = np.array(given.names("group", group, length=len(places), of="points"))
    figure, axes = one(4.4, title, width=5.6)
    for n, name in enumerate(dict.fromkeys(names.tolist())):
        here = places[names == name]
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        text = f"{shown(name)} ({len(here)})"
        axes.plot(
            here[:, 0], here[:, 1], marker, color=colour, ms=4.5, mew=0, alpha=0.7, ls="none",
            label=f" {text}" if text.startswith("_") else text, rasterized=len(here) > MANY,
        )  # fmt: skip
    shares = (
        ["", ""] if variance is None else [f" ({100 * share:.0f} % of the variance)" for share in variance]
    )
    axes.set(xlabel=f"first component{shares[0]}", ylabel=f"second component{shares[1]}")
    grid(axes)
    key(figure, axes, columns=3)
    return figure


def is_anomalous(label: Sequence[str | None]) -> NDArray[np.bool_]:
    """Of known labels: (n_clips,) array.

    Raises
    ------
    ValueError
        If a label is not known.
    """
    labels = _known("label", label, len(label))
    if unknown := labels.count(""):
        raise ValueError(f"label: of {unknown} of {len(labels)} clips it is not known; a ROC curve needs all")
    return np.array([name == "anomaly" for name in labels], dtype=bool)
