"""Slow, obvious twins of what ``nearfar.evidence`` computes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def envelope(waveform: Float, rate: int, low: float, high: float, times: Float) -> Float:
    """The power of a band at some times: the sum of its bins, as rotating vectors."""
    n = len(waveform)
    bins = np.fft.fft(waveform)
    value = np.zeros(len(times), dtype=complex)
    for k in range(1, n // 2):
        if low <= k * rate / n < high:
            value += 2 / n * bins[k] * np.exp(2j * np.pi * k * rate / n * times)
    return np.abs(value) ** 2 / 2


def residual(levels: Float, median: Float, axes: Float, *, sweeps: int, tuning: float, least: float) -> Float:
    """What is left of the levels of one clip, (n_bands,), after a fit of the axes by reweighted least squares."""
    deviation = levels - median
    weights = np.ones(len(levels))
    left = deviation
    for _ in range(sweeps):
        root = np.sqrt(weights)
        # the ridge of 1e-6 as rows of their own
        A = np.vstack([axes.T * root[:, None], np.sqrt(1e-6) * np.eye(len(axes))])
        b = np.append(deviation * root, np.zeros(len(axes)))
        coefficients = np.linalg.lstsq(A, b, rcond=None)[0]
        left = deviation - axes.T @ coefficients
        spread = 1.4826 * np.median(np.abs(left)) + least / 2
        weights = np.array([1.0 if abs(e) <= tuning * spread else tuning * spread / abs(e) for e in left])
    return left


def strength(
    clip: Float, normal: Float, groups: list[list[int]], widest: int
) -> dict[tuple[int, int], float]:
    """Of residuals of a clip, (n_bands,), and normal clips, (n_normal, n_bands): by interval, see ``unusual``."""

    def mean(row: Float, first: int, stop: int) -> float:
        return float(sum(row[first:stop]) / (stop - first))

    bands = len(clip)
    deviations: dict[tuple[int, int], list[float]] = {}
    for first in range(bands):
        for stop in range(first + 1, min(bands, first + widest) + 1):
            of_normal = [mean(row, first, stop) for row in normal]
            middle = float(np.median(of_normal))
            below = above = 0.0
            for group in groups:
                around = np.array([of_normal[i] - middle for i in group])
                usual = 1.4826 * np.median(np.abs(around))
                least = 0.2 / np.sqrt(stop - first)
                below = max(below, max(usual, -np.quantile(around, 0.025) / 2) + least)
                above = max(above, max(usual, np.quantile(around, 0.975) / 2) + least)
            every = [mean(clip, first, stop), *of_normal]
            deviations[first, stop] = [(x - middle) / (above if x > middle else below) for x in every]
    limits = []
    for group in groups:
        furthest = [max(abs(z[1 + i]) for z in deviations.values()) for i in group]
        limits.append(float(np.quantile(furthest, 0.95)))
    return {bounds: abs(z[0]) / max(limits) for bounds, z in deviations.items()}
