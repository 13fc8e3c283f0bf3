"""Which bands of a clip are unusual: its band levels against those that the normal clips let expect.

Conventions
-----------
Levels are ``(n_clips, n_bands)`` in dB, one row a clip. The *expected* levels of a clip are the median of the
normal clips, plus an overall gain, plus what normal clips have in common when they differ: the first principal
components of their levels, such as speed, load, or how loud the hall is. They are fitted to the clip robustly, so
that a band that is far off hardly counts. What is left, the *residual*, is what the rest of the clip does not
explain.

An interval of neighbouring bands is judged by its mean residual, in units of its usual spread among the normal
clips. There are many intervals, so that some are unusual in every clip by chance. Therefore the limit is on the
largest value over all intervals: ``COVERAGE`` of the normal clips stay within it everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Direction = Literal["louder", "quieter"]

# The first six limits were chosen on one simulated data set (seed 1717), see benchmarks/evidence_words.py.
COMPONENTS = 8  # at most
CLIPS_PER_COMPONENT = 10  # fewer clips have fewer components: they could not tell them from noise
WIDEST = 12  # bands of an interval: two octaves
MOST = 3  # intervals that are told
BY_SHARE = 0.5  # power of the share of the score
LEAST_SHARE = 0.01  # added to it: a map is no certain truth
COVERAGE = 0.95  # share of the normal clips that have no unusual interval
MOST_CLIPS = 400  # normal clips that the limits are taken from; the others would change them little
FOLDS = 5  # by which normal clips are compared with others
FEWEST_CLIPS = 2 * FOLDS  # normal clips, to know how much they differ; with fewer no clip is compared
FEWEST_OF_DOMAIN = 5  # clips, for a spread and a shift of its own
SMALL_DOMAIN = 50  # clips, of which all count
LEAST_LIMIT = 2.0  # in standard deviations: a single normal clip tells nothing of how far others go
LEAST_SPREAD_DB = 0.2  # of the residual of one band: differences below are never heard
SWEEPS = 10  # of the robust fit
TUNING = 1.5  # of Huber's weights, in standard deviations
TO_STANDARD = 1.4826  # from a median absolute deviation to a standard deviation, of a normal distribution


@dataclass(frozen=True, slots=True)
class Interval:
    """Neighbouring bands that are unusual together.

    Attributes
    ----------
    first, stop : int
        The first band, and the one after the last.
    strength : float
        Above 1: further out than in ``COVERAGE`` of the normal clips anywhere.
    residual_db : float
        Mean over the bands, against what the rest of the clip lets expect.
    score_share : float or None
        Share of the detector's score that comes from these bands; ``None`` if that is not known.
    worth : float
        By which intervals are chosen.
    """

    first: int
    stop: int
    strength: float
    residual_db: float
    score_share: float | None = None
    worth: float = 0.0

    @property
    def direction(self) -> Direction:
        """Whether there is more energy than expected, or less."""
        return "louder" if self.residual_db > 0 else "quieter"


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the levels of a clip should be, by the normal clips.

    Attributes
    ----------
    median : (n_bands,) array
    axes : (n_axes, n_bands) array
        Of length one: the overall gain, by what each further domain differs from the largest, the components.
    """

    median: Float
    axes: Float

    @classmethod
    def of(cls, levels: Float, domain: Sequence[str]) -> Expectation:
        """Learn from normal clips, (n_clips, n_bands), each with its domain."""
        n, bands = levels.shape
        median = np.median(levels, axis=0)
        shapes = levels - median
        shapes -= np.median(shapes, axis=1, keepdims=True)
        axes = [np.ones(bands)]
        for rows in _of_domains(domain)[1:]:
            axes.append(np.median(shapes[rows], axis=0))
            shapes[rows] -= axes[-1]
        count = min(COMPONENTS, n // CLIPS_PER_COMPONENT, bands // 4)
        axes += list(np.linalg.svd(shapes - shapes.mean(axis=0), full_matrices=False)[2][:count])
        found = np.array([axis / max(float(np.linalg.norm(axis)), 1e-9) for axis in axes])
        return cls(median, found)

    def residuals(self, levels: Float) -> Float:
        """What is left of the levels of clips, (n_clips, n_bands)."""
        deviations = levels - self.median
        weights, left = np.ones_like(deviations), deviations
        k, bands = self.axes.shape
        products = (self.axes[:, None] * self.axes[None]).reshape(k * k, bands)
        for _ in range(SWEEPS):
            gram = (weights @ products.T).reshape(-1, k, k) + 1e-6 * np.eye(k)
            right = (weights * deviations) @ self.axes.T
            left = deviations - np.linalg.solve(gram, right[..., None])[..., 0] @ self.axes
            spread = TO_STANDARD * np.median(np.abs(left), axis=1, keepdims=True) + LEAST_SPREAD_DB / 2
            weights = 1 / np.maximum(1, np.abs(left) / (TUNING * spread))
        return left


@dataclass(frozen=True, eq=False)
class Scan:
    """Every interval of neighbouring bands, of one clip and of the normal clips.

    Attributes
    ----------
    bounds : (n_intervals, 2) array of int
        First band, and the one after the last.
    clip : (n_intervals,) array
        Mean residuals, in dB.
    normal : (n_normal, n_intervals) array
        The same of normal clips.
    strength : (n_intervals,) array
        Of the clip, see ``Interval``.
    """

    bounds: NDArray[np.int64]
    clip: Float
    normal: Float
    strength: Float

    @classmethod
    def of(cls, clip: Float, normal: Float, domain: Sequence[str]) -> Scan:
        """Compare a clip with normal clips.

        Parameters
        ----------
        clip : (n_bands,) array
            Its levels.
        normal : (n_normal, n_bands) array
        domain : sequence of str
            Of the normal clips.
        """
        rows = _some(domain)
        kept, domains = normal[rows], [domain[row] for row in rows]
        own = Expectation.of(kept, domains).residuals(clip[None])
        left = np.vstack([own, _unseen_residuals(kept, domains)])
        bounds = _intervals(left.shape[1])
        means = _means(left, bounds)
        of_clip, of_normal = means[0], means[1:]
        middle = np.median(of_normal, axis=0)
        groups = _of_domains(domains)
        below, above = np.max([_spreads(of_normal[group] - middle, bounds) for group in groups], axis=0)
        z = (means - middle) / np.where(means > middle, above, below)
        furthest = np.abs(z[1:]).max(axis=1)
        limit = max(LEAST_LIMIT, *(float(np.quantile(furthest[group], COVERAGE)) for group in groups))
        return cls(bounds, of_clip, of_normal, np.abs(z[0]) / limit)

    def chosen(self, mass: Float | None = None, *, most: int = MOST) -> tuple[Interval, ...]:
        """The most telling intervals that do not touch each other, the first one first.

        Parameters
        ----------
        mass : (n_bands,) array or None
            Share of the detector's score that comes from each band. Of two intervals that are equally strange,
            the one is told that the detector goes by: strength counts by ``share ** BY_SHARE``.
        most : int
        """
        share = self.share_of_score(mass)
        value = self.strength if share is None else self.strength * (share + LEAST_SHARE) ** BY_SHARE
        value = value.copy()
        found: list[Interval] = []
        while len(found) < most and value.max() > 0:
            at = int(value.argmax())
            first, stop = self.bounds[at].tolist()
            of_score = None if share is None else float(share[at])
            worth = float(value[at])
            found.append(
                Interval(first, stop, float(self.strength[at]), float(self.clip[at]), of_score, worth)
            )
            value[(self.bounds[:, 0] <= stop) & (self.bounds[:, 1] >= first)] = 0
        return tuple(found)

    def share_of_score(self, mass: Float | None) -> Float | None:
        """Of every interval; ``None`` if nothing is known of bands."""
        if mass is None or not mass.sum() > 0:
            return None
        summed = np.append(0.0, np.cumsum(mass)) / mass.sum()
        return summed[self.bounds[:, 1]] - summed[self.bounds[:, 0]]

    def bands(self, first: int, stop: int) -> Float:
        """The residual of each band from that one to before another."""
        return self.clip[first:stop]  # the first intervals are single bands

    def at(self, first: int, stop: int) -> tuple[float, Float]:
        """Mean residual of one interval: of the clip, and of the normal clips, (n_normal,)."""
        (at,) = np.flatnonzero((self.bounds == (first, stop)).all(axis=1))
        return float(self.clip[at]), self.normal[:, at]


def _unseen_residuals(levels: Float, domain: Sequence[str]) -> Float:
    """What is left of each normal clip by the others; an expectation leaves too little of what it has seen."""
    n = len(levels)
    if n < FEWEST_CLIPS:
        return Expectation.of(levels, domain).residuals(levels)
    left, fold = np.empty_like(levels), np.arange(n) % FOLDS
    for k in range(FOLDS):
        seen = np.flatnonzero(fold != k)
        expectation = Expectation.of(levels[seen], [domain[i] for i in seen.tolist()])
        left[fold == k] = expectation.residuals(levels[fold == k])
    return left


def _of_domains(domain: Sequence[str]) -> list[NDArray[np.int64]]:
    """The rows of each domain, the largest first; those with few clips tell nothing of their own."""
    names = np.asarray(domain)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(domain)]
    groups.sort(key=len, reverse=True)
    return [group for group in groups if len(group) >= FEWEST_OF_DOMAIN] or [np.arange(len(names))]


def _some(domain: Sequence[str]) -> NDArray[np.int64]:
    """At most ``MOST_CLIPS`` rows, of each domain in proportion, but all of a small one."""
    names = np.asarray(domain)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(domain)]
    share = min(1.0, MOST_CLIPS / len(names))
    few = [group[evenly(len(group), max(round(share * len(group)), SMALL_DOMAIN))] for group in groups]
    return np.sort(np.concatenate(few))


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of the numbers from 0 to ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _intervals(bands: int) -> NDArray[np.int64]:
    widths = range(1, 1 + min(WIDEST, bands))
    return np.array([(i, i + width) for width in widths for i in range(bands - width + 1)])


def _means(left: Float, bounds: NDArray[np.int64]) -> Float:
    """Over the bands of every interval: (n_clips, n_bands) to (n_clips, n_intervals)."""
    summed = np.pad(np.cumsum(left, axis=1), ((0, 0), (1, 0)))
    return (summed[:, bounds[:, 1]] - summed[:, bounds[:, 0]]) / (bounds[:, 1] - bounds[:, 0])


def _spreads(deviations: Float, bounds: NDArray[np.int64]) -> tuple[Float, Float]:
    """How far normal clips go below and above their median: by their middle, or their tails if these are longer."""
    middle = TO_STANDARD * np.median(np.abs(deviations), axis=0)
    low, high = np.quantile(deviations, [0.025, 0.975], axis=0)
    least = LEAST_SPREAD_DB / np.sqrt(bounds[:, 1] - bounds[:, 0])
    return np.maximum(middle, -low / 2) + least, np.maximum(middle, high / 2) + least
