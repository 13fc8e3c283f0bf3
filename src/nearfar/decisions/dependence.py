"""How dependent normal windows are, measured on the statistic of alerts itself.

Windows that follow each other are alike: the same truck, the same load, the same shift. So evidence comes in runs,
and the statistic climbs more often than it would if windows were exchangeable. How often it climbs how high is
measured on normal recordings in order of time: each part of them is heard against all others, as a detector would.

An *excursion* is a climb of the statistic above 1, until it is at 1 or below again. The tail of the heights of the
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

from nearfar.decisions.betting import Calibrator, RankBets, shiryaev_roberts

FEWEST_WINDOWS = 360  # an hour of ten seconds each: below it nothing is measured; our choice
PARTS = 5  # of normal windows, where they are not of several recordings; our choice
TAIL = 0.2  # share of the excursions whose peaks make the tail ...
FEWEST_PEAKS = 20  # ... if they are as many; our choice
PRIOR_PEAKS = 1.0  # weight of the independent case (rate 1) beside the measured peaks
MARGIN = 2.0  # times the asked time is aimed at: a few hours tell the tail to about that; docs/alerts.md
HIGHEST = 1e300  # of a statistic


@dataclass(frozen=True, slots=True)
class Dependence:
    """The tail of the excursions of the statistic on normal windows.

    Attributes
    ----------
    window_s, hop_s : float
        Length of a window, and from the start of one to the start of the next, in seconds.
    windows : int
        That were heard in order of time.
    parts : int
        In which they were dealt: each was heard against the others.
    excursions : int
        Of the statistic above 1.
    peaks : int
        Those that make the tail.
    above : float
        Logarithm of the statistic, from which on the tail is counted.
    excess : float
        Sum over the peaks of the logarithm above that.
    highest : float
        Logarithm of the highest peak.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.decisions.dependence import Dependence
    >>> scores = np.random.default_rng(0).normal(size=3000)
    >>> measured = Dependence.measure(scores, np.arange(3000) // 600, window_s=10, hop_s=10)
    >>> round(measured.rate, 1)
    0.8
    """

    window_s: float
    hop_s: float
    windows: int
    parts: int
    excursions: int
    peaks: int
    above: float
    excess: float
    highest: float

    @property
    def rate(self) -> float:
        """Of the exponential tail: about 1 or more for independent windows, less for dependent ones."""
        return (self.peaks + PRIOR_PEAKS) / (self.excess + PRIOR_PEAKS)

    def log_threshold(self, windows: float) -> float:
        """The height that excursions exceed once in ``MARGIN`` times so many windows, by the tail.

        The rate of the tail is known from few peaks only. That is allowed for: the chance to exceed a height is its
        mean over the rates that agree with the peaks (Bayesian, with a gamma prior of weight ``PRIOR_PEAKS``), so
        ``(1 + x / excess) ** -peaks`` in place of ``exp(-rate x)``.

        Parameters
        ----------
        windows : float
            Mean number of windows between two false alerts.
        """
        expected = self.peaks * MARGIN * windows / self.windows  # peaks of the tail in that time
        if expected <= 1:
            return self.above
        shape, scale = self.peaks + PRIOR_PEAKS, self.excess + PRIOR_PEAKS
        return self.above + scale * math.expm1(math.log(expected) / shape)

    @classmethod
    def measure(
        cls,
        scores: NDArray[np.float64],
        parts: NDArray[Any],
        *,
        window_s: float,
        hop_s: float,
        calibrator: Calibrator | None = None,
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
        calibrator : Calibrator or None
            Of the bets.

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
        tops: list[float] = []
        for name in np.unique(parts):
            bets = RankBets(scores[parts != name], memory=len(scores), calibrator=calibrator)
            tops += peaks(bets, scores[parts == name].tolist())
        descending = np.sort(np.log(tops))[::-1]
        m = min(len(descending), max(FEWEST_PEAKS, math.ceil(TAIL * len(descending))))
        above = float(descending[m]) if m < len(descending) else 0.0
        excess = float((descending[:m] - above).sum())
        highest = float(descending[0]) if len(descending) else 0.0
        n, dealt = len(scores), len(np.unique(parts))
        return cls(window_s, hop_s, n, dealt, len(descending), m, above, excess, highest)

    def describe(self) -> dict[str, Any]:
        """All numbers, JSON-able."""
        return asdict(self)

    @classmethod
    def restore(cls, told: Mapping[str, Any]) -> Self:
        """What ``describe`` gave."""
        return cls(**told)


def peaks(bets: RankBets, scores: Sequence[float]) -> list[float]:
    """The highest value of the statistic in each of its excursions above 1, in order of time.

    Parameters
    ----------
    bets : RankBets
        They learn each score after they have paid for it.
    scores : sequence of float
        Of windows in order of time.
    """
    tops: list[float] = []
    statistic = 0.0
    for score in scores:
        at_rest = statistic <= 1
        statistic = min(shiryaev_roberts(statistic, bets.pay(score)), HIGHEST)
        bets.learn(score)
        if statistic <= 1:
            bets.place_bets()
        elif at_rest:
            tops.append(statistic)
        else:
            tops[-1] = max(tops[-1], statistic)
    return tops


def _several(parts: NDArray[Any]) -> NDArray[Any]:
    """The same parts, or stretches of time if all are one."""
    if (parts != parts[0]).any():
        return parts
    return np.arange(len(parts)) * PARTS // len(parts)
