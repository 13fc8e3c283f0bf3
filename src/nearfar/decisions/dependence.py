"""How dependent normal windows are, measured on the statistic of alerts itself.

Windows that follow each other are alike: the same truck, the same load, the same shift. So evidence comes in runs,
and the statistic climbs more often than it would if windows were exchangeable. How often it climbs how high is
measured on normal recordings in order of time: each part of them is heard against all others, as a detector would.

An *excursion* is a time in which a detector is not at rest (``betting.EDetector``). The tail of the heights of the
peaks, on the scale of the logarithm, is exponential: with rate 1 for independent windows, with a lower rate for
windows of short memory (the root in Cramer's and Lundberg's inequality). So an exponential tail is fitted to the
highest peaks, and the height that is exceeded as rarely as asked is read from it. This is an extrapolation: it
holds if what was not recorded acts like what was.

References
----------
.. [1] S. Asmussen, Ruin Probabilities, 2000, chapters III and VI (the tail of such peaks; modulated by a regime).
.. [2] S. Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapters 4 and 5 (peaks over a
   threshold; clusters of dependent values).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.betting import BETS, Bet, EDetector, RankBets

FEWEST_WINDOWS = 360  # an hour of ten seconds each: below it nothing is measured; our choice
PARTS = 5  # of normal windows, where they are not of several recordings; our choice
TAIL = 0.2  # share of the excursions whose peaks make the tail ...
FEWEST_PEAKS = 20  # ... if they are as many; our choice
ALIKE = 0.01  # lengths that differ by less
PRIOR_PEAKS = 1.0  # weight of the independent case (rate 1) beside the measured peaks
BEYOND = 2 / 3  # the highest rate of a tail that is believed where nothing was heard; our choice
MARGIN = 2.0  # times the asked time is aimed at: a few hours tell the tail to about that; docs/alerts.md


@dataclass(frozen=True, slots=True)
class Tail:
    """The highest excursions of one statistic on normal windows.

    Attributes
    ----------
    excursions : int
        Times that the detector was not at rest.
    peaks : int
        Those that make the tail.
    above : float
        Logarithm of the statistic, from which on the tail is counted.
    excess : float
        Sum over the peaks of the logarithm above that.
    highest : float
        Logarithm of the highest peak.
    """

    excursions: int
    peaks: int
    above: float
    excess: float
    highest: float

    @classmethod
    def of(cls, tops: Sequence[float]) -> Self:
        """Of the highest value in each excursion, in any order."""
        descending = np.sort(np.log(tops))[::-1]
        m = min(len(descending), max(FEWEST_PEAKS, math.ceil(TAIL * len(descending))))
        above = float(descending[m]) if m < len(descending) else 0.0
        highest = float(descending[0]) if len(descending) else 0.0
        return cls(len(descending), m, above, float((descending[:m] - above).sum()), highest)

    @property
    def rate(self) -> float:
        """Of the exponential tail: about 1 or more for independent windows, less for dependent ones."""
        return (self.peaks + PRIOR_PEAKS) / (self.excess + PRIOR_PEAKS)

    def exceeded(self, expected: float) -> float:
        """The height that one of so many peaks of the tail exceeds.

        The rate of the tail is known from few peaks only. That is allowed for: the chance to exceed a height is its
        mean over the rates that agree with the peaks (Bayesian, with a gamma prior of weight ``PRIOR_PEAKS``), so
        ``(1 + x / excess) ** -peaks`` in place of ``exp(-rate x)``.
        """
        if expected <= 1:
            return self.above
        shape, scale = self.peaks + PRIOR_PEAKS, self.excess + PRIOR_PEAKS
        return self.above + scale * math.expm1(math.log(expected) / shape)


@dataclass(frozen=True, slots=True)
class Dependence:
    """How high the statistics climb on normal windows in order of time.

    Attributes
    ----------
    window_s, hop_s : float
        Length of a window, and from the start of one to the start of the next, in seconds.
    windows : int
        That were heard.
    parts : int
        In which they were dealt: each was heard against the others.
    tails : tuple of Tail
        Of the statistic of each bet, in the order of ``BETS``.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.decisions.dependence import Dependence
    >>> scores = np.random.default_rng(0).normal(size=3000)
    >>> measured = Dependence.measure(scores, np.arange(3000) // 600, window_s=10, hop_s=10)
    >>> [round(tail.rate, 1) for tail in measured.tails]
    [2.2, 0.8]
    """

    window_s: float
    hop_s: float
    windows: int
    parts: int
    tails: tuple[Tail, ...]

    def is_of(self, window_s: float, hop_s: float) -> bool:
        """Whether it was measured on such windows, up to 1 % (lengths are whole numbers of samples)."""
        pairs = ((self.window_s, window_s), (self.hop_s, hop_s))
        return all(math.isclose(*pair, rel_tol=ALIKE) for pair in pairs)

    def log_thresholds(self, windows: float) -> list[float]:
        """The heights that each statistic exceeds once in ``MARGIN`` times so many windows, by its tail.

        Most peaks have other causes than the rarest ones. So beyond what was heard, a height is at least the
        highest peak and what a tail of the rate ``BEYOND`` adds in that time.

        Parameters
        ----------
        windows : float
            Mean number of windows between two false alerts of one statistic.
        """
        longer = MARGIN * windows / self.windows  # times what was heard
        heights = [tail.exceeded(tail.peaks * longer) for tail in self.tails]
        if longer <= 1:  # what was heard has peaks enough
            return heights
        beyond = math.log(longer) / BEYOND
        return [max(height, tail.highest + beyond) for height, tail in zip(heights, self.tails, strict=True)]

    @classmethod
    def measure(
        cls,
        scores: NDArray[np.float64],
        parts: NDArray[Any],
        *,
        window_s: float,
        hop_s: float,
        bets: Sequence[Bet] = BETS,
    ) -> Self | None:
        """Hear each part of the normal windows against all others.

        Parameters
        ----------
        scores : (n,) array
            In order of time within each part; NaN for a window that could not be used.
        parts : (n,) array
            What each window belongs to, such as its recording. If all belong to one, time is cut in ``PARTS``.
        window_s, hop_s : float
            Length of a window, and from the start of one to the start of the next, in seconds.
        bets : sequence of Bet

        Returns
        -------
        Dependence or None
            ``None`` if there are fewer than ``FEWEST_WINDOWS`` usable windows.

        Raises
        ------
        ValueError
            If there is not one part for each score.
        """
        if scores.shape != parts.shape or scores.ndim != 1:
            raise ValueError(
                f"scores of shape {scores.shape}, parts of shape {parts.shape}: give one part for each"
            )
        usable = np.isfinite(scores)
        scores, parts = scores[usable], parts[usable]
        if len(scores) < FEWEST_WINDOWS:
            return None
        parts = _several(parts)
        dealt = [(scores[parts != name], scores[parts == name].tolist()) for name in np.unique(parts)]
        tails = [
            Tail.of(
                [
                    top
                    for rest, own in dealt
                    for top in peaks(EDetector(RankBets(rest, memory=len(scores), bet=bet)), own)
                ]
            )
            for bet in bets
        ]
        return cls(window_s, hop_s, len(scores), len(dealt), tuple(tails))

    def describe(self) -> dict[str, Any]:
        """All numbers, JSON-able."""
        return {**asdict(self), "tails": [asdict(tail) for tail in self.tails]}

    @classmethod
    def restore(cls, told: Mapping[str, Any]) -> Self:
        """What ``describe`` gave."""
        return cls(**{**told, "tails": tuple(Tail(**tail) for tail in told["tails"])})


def peaks(detector: EDetector, scores: Sequence[float]) -> list[float]:
    """The highest value of a statistic in each of its excursions, in order of time.

    Parameters
    ----------
    detector : EDetector
        At its start; it learns each score.
    scores : sequence of float
        Of windows in order of time.
    """
    tops: list[float] = []
    at_rest = True
    for score in scores:
        statistic = detector.take(score)
        detector.learn(score)
        if not detector.at_rest:
            if at_rest:
                tops.append(0.0)
            tops[-1] = max(tops[-1], statistic)
        at_rest = detector.at_rest
    return tops


def _several(parts: NDArray[Any]) -> NDArray[Any]:
    """The same parts, or stretches of time if all are one."""
    if (parts != parts[0]).any():
        return parts
    return np.arange(len(parts)) * PARTS // len(parts)
