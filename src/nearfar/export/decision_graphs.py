"""What becomes of scores, as nodes: their mean, their fusion, the p-value and the decision, in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.fusing import LEAST_RATIO, NormalCalibration, Scale
from nearfar.decisions.thresholds import Conformal, Gamma, Threshold
from nearfar.export.expressions import Expression, joined, where

Float = NDArray[np.float64]

LARGEST_Z, STEP_Z = 37.0, 0.01  # of the knots of a table of p-values; beyond, they are below 1e-299
TABLE_ERROR = 1e-6  # relative, of a p-value from a table
RESOLUTION = 1e-9  # relative, of a score: knots that are closer are not told apart


def average(scores: list[Expression]) -> Expression:
    """The mean of scores, scalars: a scalar."""
    return joined([one.reshape(1) for one in scores], axis=0).mean(0)


def fused(
    of_parts: Expression, normals: Float, weights: Mapping[str, float], calibration: NormalCalibration
) -> Expression:
    """The fused score, a scalar, of the scores of parts, (parts,): see ``fusing.fuse``."""
    return (_calibrated(of_parts, normals, list(weights), calibration) * np.array([*weights.values()])).sum(0)


def _calibrated(
    of_parts: Expression, normals: Float, names: list[str], calibration: NormalCalibration
) -> Expression:
    if calibration == "own_normals":
        scale = Scale.of(normals, names, "the normal clips")
        median, iqr = (np.array([of[name] for name in names]) for of in (scale.median, scale.iqr))
        return 1 / (1 + (-((of_parts - median) / iqr)).exp())
    if calibration == "own_normals_log":
        return (of_parts / np.median(normals, axis=0)).at_least(LEAST_RATIO).log()
    above = (of_parts.reshape(1, -1) > normals).astype(np.float64)
    not_below = (of_parts.reshape(1, -1) >= normals).astype(np.float64)
    return (above + not_below).sum(0) / (2 * len(normals))


def is_anomaly(score: Expression, threshold: Threshold) -> Expression:
    """Whether a score, a scalar, is above the threshold."""
    return score > threshold.value


def p_value(score: Expression, threshold: Threshold) -> Expression:
    """How often a normal clip would score as high as this score, a scalar.

    Raises
    ------
    ValueError
        If the kind of threshold is not exported, or its p-values are no smooth function of the score.
    """
    if isinstance(threshold, Gamma) and threshold.fitted_by != "ranks":
        return _from_table(score, threshold)
    if isinstance(threshold, Conformal | Gamma):
        below = (score > threshold.normal_scores).astype(np.float64).sum(0)
        n = len(threshold.normal_scores)
        return (1 + n - below) / (n + 1)
    raise ValueError(
        f"threshold {type(threshold).__name__} is not exported; those that are: Conformal, Gamma"
    )


def _from_table(score: Expression, threshold: Gamma) -> Expression:
    """The upper tail of a distribution, between knots by cubics that have its values and densities there.

    ONNX has no incomplete gamma function. What is interpolated is the logarithm, so that the error is relative.
    """
    knots, logs, slopes = table(threshold)
    place = (score >= knots).astype(np.int64).sum(0, keepdims=True) - 1
    place = place.at_least(0).at_most(len(knots) - 2)
    left, width, value, rise, slope, slope_after = (
        place.picks(one)
        for one in (knots[:-1], np.diff(knots), logs[:-1], np.diff(logs), slopes[:-1], slopes[1:])
    )
    t = (score - left) / width
    bend = t * (1 - t) * ((1 - t) * (slope * width - rise) - t * (slope_after * width - rise))
    within = (value + t * rise + bend).at_most(0.0).exp()
    return where(score > knots[-1], 0.0, where(score >= knots[0], within, 1.0)).reshape()


def table(threshold: Any) -> tuple[Float, Float, Float]:
    """Knots, and the logarithm of the p-value and its slope at each, (n,) each; a knot for each small step of z.

    Raises
    ------
    ValueError
        If the cubics between the knots are off by more than ``TABLE_ERROR``.
    """
    from scipy.special import ndtr

    distribution = threshold._distribution
    z = np.arange(-LARGEST_Z / 4, LARGEST_Z, STEP_Z)
    knots = np.unique(np.where(z < 0, distribution.ppf(ndtr(z)), distribution.isf(ndtr(-z))))
    logs = distribution.logsf(knots)
    slopes = -np.exp(distribution.logpdf(knots) - logs)
    usable = np.isfinite(knots) & np.isfinite(logs) & np.isfinite(slopes)
    knots, logs, slopes = knots[usable], logs[usable], slopes[usable]
    middle, width = (knots[1:] + knots[:-1]) / 2, np.diff(knots)
    found = np.exp((logs[1:] + logs[:-1]) / 2 + width * (slopes[:-1] - slopes[1:]) / 8)
    apart = width > RESOLUTION * np.abs(middle)
    error = float(np.abs(found / distribution.sf(middle) - 1)[apart].max(initial=0.0))
    if not error < TABLE_ERROR:
        raise ValueError(
            f"the p-values of this gamma distribution cannot be exported: a table of them is off by {error:.2g}; "
            "calibrate with threshold.method='conformal'"
        )
    return knots, logs, slopes
