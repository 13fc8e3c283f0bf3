"""The challenge's metrics for many score vectors, or for many resamples of the clips, at once.

A search over fusion weights scores the same clips hundreds of times. A bootstrap counts them a thousand times. Both
need only the three metrics of ``metrics``. So these are computed here for a whole array. Its first axis is called
*rows*: a row is a score vector, or a resample, or both.

The values are those of ``metrics``: the area under a polygon with a corner at each group of equal scores. Numbers
of clips are whole, so each AUC is one division of exact sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nearfar.evaluation import metrics
from nearfar.evaluation.metrics import FLOOR, MAX_FPR

CHUNK = 2**15  # numbers in a working array: some dozen of them stay within a processor's cache

Float = NDArray[np.float64]
Counts = NDArray[Any]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Section:
    """What the metrics need to know about the test clips of one machine and section.

    Attributes
    ----------
    machine : str
    section : int
    positions : (n_clips,) array of int
        Positions of these clips in the table of all clips.
    anomalous : (n_clips,) array of 0.0 and 1.0
    normals : (n_scopes, n_clips) array of 0.0 and 1.0
        The normal clips behind each AUC. Every normal clip is in one scope.
    metrics : tuple of str
        Names of the metrics: an AUC for each scope, then pAUC.
    """

    machine: str
    section: int
    positions: NDArray[np.intp]
    anomalous: Float
    normals: Float
    metrics: tuple[str, ...]


def sections(clips: pd.DataFrame) -> tuple[Section, ...]:
    """The machines and sections of a table of clips, in the order of ``metrics.evaluate``.

    Raises
    ------
    ValueError
        If ``metrics.evaluate`` would refuse the table.
    """
    metrics.require_described(clips)
    metrics.require_classes(clips)
    table = clips.assign(position=np.arange(len(clips)))
    return tuple(_section(t) for _, t in table.groupby(["machine", "section"]))


def _section(table: pd.DataFrame) -> Section:
    anomalous, scopes = metrics.is_anomalous(table), metrics.scopes(table)
    return Section(
        machine=str(table["machine"].iloc[0]),
        section=int(table["section"].iloc[0]),
        positions=table["position"].to_numpy(),
        anomalous=anomalous.astype(float),
        normals=np.stack([~anomalous & inside for inside in scopes.values()]).astype(float),
        metrics=(*(f"auc{suffix}" for suffix in scopes), "pauc"),
    )


def all_metrics(of: Sequence[Section], scores: Float, counts: Counts | None = None) -> Float:
    """The metrics of every section.

    Parameters
    ----------
    of : sequence of Section
    scores : (n_rows, n_clips) or (n_clips,) array
        Finite scores of all clips.
    counts : (n_rows, n_clips) array of whole numbers, optional
        How often each clip counts; once if not given.

    Returns
    -------
    (n_rows, n_sections, n_metrics) array
    """
    scores = np.atleast_2d(scores)
    found = []
    for s in of:
        part = None if counts is None else counts[:, s.positions]
        found.append(section_metrics(s, scores[:, s.positions], part))
    return np.stack(found, axis=1)


def section_metrics(section: Section, scores: Float, counts: Counts | None = None) -> Float:
    """The metrics of one section: (n_rows, n_metrics), in the order of ``section.metrics``.

    Parameters
    ----------
    section : Section
    scores : (n_rows, n_clips) array, or (1, n_clips) with ``counts``
        Finite scores of the section's clips.
    counts : (n_rows, n_clips) array of whole numbers, optional

    Raises
    ------
    ValueError
        If the shapes do not fit, if a score is not finite, or if the counts leave a metric without clips.
    """
    n_clips = len(section.anomalous)
    _require_fitting(scores, counts, n_clips)
    n_rows, rows_at_once = len(scores if counts is None else counts), max(1, CHUNK // n_clips)
    found = np.empty((n_rows, len(section.metrics)))
    for start in range(0, n_rows, rows_at_once):
        rows = slice(start, start + rows_at_once)
        part = scores if len(scores) == 1 else scores[rows]
        found[rows] = _metrics(section, part, None if counts is None else counts[rows])
    return found


def harmonic_means(values: Float) -> Float:
    """Harmonic mean of each row over all other axes: (n_rows, ...) to (n_rows,). Each value is raised to ``FLOOR``.

    Applied to the result of ``all_metrics`` it is the official score.
    """
    flat = values.reshape(len(values), -1)
    return flat.shape[1] / (1 / np.maximum(flat, FLOOR)).sum(axis=1)


def _metrics(section: Section, scores: Float, counts: Counts | None) -> Float:
    order = np.argsort(
        -scores, axis=1
    )  # equal scores in any order: below, only the ends of their groups count
    ordered = np.take_along_axis(scores, order, axis=1)
    is_last = np.ones(ordered.shape, dtype=bool)  # (n_rows, n_clips), of a group of equal scores
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=is_last[:, :-1])
    anomalies = section.anomalous.take(order)
    normals = section.normals.take(order, axis=1)  # (n_scopes, n_rows, n_clips)
    n_seen = np.arange(1.0 + scores.shape[1])[None]
    if counts is not None:
        there = np.take_along_axis(counts, np.broadcast_to(order, counts.shape), axis=1)
        anomalies, normals = anomalies * there, normals * there
        n_seen = _running(there)
    hits = _running(anomalies)
    n_normals = normals.sum(axis=2)  # (n_scopes, n_rows)
    _require_left(section, hits[:, -1], n_normals)
    aucs = np.einsum("srn,rn->sr", normals, _anomalies_above(hits, is_last)) / (n_normals * hits[:, -1])
    return np.stack([*aucs, _pauc(n_seen - hits, hits, is_last)], axis=1)


def _running(values: Counts) -> Float:
    """Running sums of each row, from none of its values to all: (n_rows, n) to (n_rows, n + 1)."""
    sums = np.zeros((len(values), 1 + values.shape[1]))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _anomalies_above(hits: Float, is_last: Bool) -> Float:
    """The number of anomalies that score higher than each clip, plus half of those that score the same.

    ``hits``, (n_rows, n_clips + 1), never falls. So the number before a group of equal scores is the running
    maximum of the numbers before groups. The number at its end is the running minimum, from behind, of the numbers
    at ends.
    """
    if is_last.all():
        return hits[:, 1:]
    is_first = np.ones_like(is_last)
    is_first[:, 1:] = is_last[:, :-1]
    higher = np.maximum.accumulate(np.where(is_first, hits[:, :-1], 0), axis=1)
    not_lower = np.minimum.accumulate(np.where(is_last, hits[:, 1:], np.inf)[:, ::-1], axis=1)[:, ::-1]
    return (higher + not_lower) / 2


def _pauc(false_alarms: Float, hits: Float, is_last: Bool) -> Float:
    """Area up to ``MAX_FPR``, standardized after McClish: (n_rows,). As ``metrics.pauc``."""
    x, y = _corners(false_alarms, is_last), _corners(hits, is_last)
    limit = MAX_FPR * x[:, -1:]
    stop = 1 + int(
        (x < limit).sum(axis=1).max()
    )  # the first corner that is at the limit or beyond in all rows
    x, y = x[:, :stop], y[:, :stop]
    width = np.diff(x, axis=1)
    inside = np.clip(limit - x[:, :-1], 0, width)
    share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    area = (inside * (y[:, :-1] + share * np.diff(y, axis=1) / 2)).sum(axis=1)
    area /= false_alarms[:, -1] * hits[:, -1]
    chance, perfect = MAX_FPR**2 / 2, MAX_FPR
    return 0.5 * (1 + (area - chance) / (perfect - chance))


def _corners(numbers: Float, is_last: Bool) -> Float:
    """Running numbers at the ends of groups. Within a group, the number before it, which adds no area."""
    if is_last.all():
        return numbers
    corners = np.zeros_like(numbers)
    np.maximum.accumulate(np.where(is_last, numbers[:, 1:], 0), axis=1, out=corners[:, 1:])
    return corners


def _require_fitting(scores: Float, counts: Counts | None, n_clips: int) -> None:
    if scores.ndim != 2 or scores.shape[1] != n_clips:
        raise ValueError(f"scores {scores.shape} must be (n_rows, {n_clips}), for as many clips")
    if counts is not None and (
        counts.ndim != 2 or counts.shape[1] != n_clips or len(scores) not in (1, len(counts))
    ):
        raise ValueError(f"counts {counts.shape} must be (n_rows, {n_clips}), beside scores {scores.shape}")
    if len(bad := np.argwhere(~np.isfinite(scores))):
        row, clip = bad[0]
        raise ValueError(
            f"{len(bad)} of {scores.size} scores are not finite, the first in row {row}, of the clip at position "
            f"{clip}"
        )


def _require_left(section: Section, n_anomalies: Float, n_normals: Float) -> None:
    if (n_anomalies == 0).any() or (n_normals == 0).any():
        raise ValueError(
            f"{section.machine}, section {section.section:02d}: the counts leave no anomalous clip, or no normal "
            "clip of a domain: AUC is not defined"
        )
