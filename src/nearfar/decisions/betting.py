"""Betting against "this window is like the normal ones": ranks become e-values.

An *e-value* is a non-negative number whose mean is at most 1 if the windows are exchangeable: it is what a bet of 1
pays. A bet is placed on the *rank* of the next score among all scores before it, those of the fit and those that
were heard since. Under exchangeability every rank is equally likely, whatever the distribution of the scores and
whatever the ranks before it (references 1 and 2). So the mean pay is exactly 1, given all that was heard.

The scores themselves are not kept. Some of them, the *edges*, cut the line into bins, and a bin keeps how many
scores lie in it. The next score falls into a bin of w of the n + 1 places with probability ``w / (n + 1)``.

Conventions
-----------
* Bins are half open, ``(edge below, edge]``. The highest has no upper edge, and counts one place more than scores.
* A score that equals an edge lies below it: a tie is evidence for "normal".

References
----------
.. [1] V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005, section 7.1 (conformal test
   martingales, power martingale).
.. [2] V. Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection," COPA 2021.
.. [3] V. Vovk, R. Wang, "E-values: calibration, combination and applications," Annals of Statistics 49, 2021
   (calibrators: how a p-value becomes an e-value).
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

POWER = 0.05  # of the calibrator; chosen on simulated machines, see docs/alerts.md
FLOOR = 0.002  # p-values below it pay alike; chosen there, too
MOST_BINS = 48  # at 10,000 scores about 0.2 between the logarithms of two edges' p-values
COARSE = 0.5  # a bin between p-values whose logarithms are further apart is cut, where scores are forgotten
RENEWED = 0.005  # of the places: after so many scores what bins pay is chosen anew ...
CHANGED = 10**9  # ... and if a bin was cut, as if after so many
SECONDS_OF_MEMORY = 24 * 3600.0  # a day of windows is kept exactly; our choice

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibrator:
    """How much a bet pays for a p-value: ``max(p, floor) ** (power - 1)``, scaled so that its integral is 1.

    Attributes
    ----------
    power : float
        Above 0 and below 1. The smaller, the more the bet is on very small p-values.
    floor : float
        From 0 to 1: so that one window alone pays no more than a known amount.

    Raises
    ------
    ValueError
        If one of them is out of range.

    Examples
    --------
    >>> from nearfar.decisions.betting import Calibrator
    >>> calibrator = Calibrator(power=0.05, floor=0.002)
    >>> round(calibrator.mean(0.0, 0.001), 1), round(calibrator.mean(0.5, 1.0), 2)
    (60.3, 0.22)
    """

    power: float = POWER
    floor: float = FLOOR

    def __post_init__(self) -> None:
        if not 0 < self.power < 1:
            raise ValueError(f"power={self.power}: must be above 0 and below 1, such as {POWER}")
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor={self.floor}: must be from 0 to below 1, such as {FLOOR}")

    def up_to(self, p: Scores) -> Scores:
        """The integral from 0 to each p-value; 1 at ``p = 1``."""
        k, low = self.power, self.floor
        at_low = low**k
        whole = 1 - at_low * (1 - k)
        below = k * p * low ** (k - 1) if low > 0 else 0.0
        return np.asarray(np.where(p <= low, below, np.maximum(p, low) ** k - at_low * (1 - k)) / whole)

    def mean(self, low: float, high: float) -> float:
        """What it pays on average for p-values between two limits, ``0 <= low < high <= 1``."""
        ends = self.up_to(np.array([low, high]))
        return float(ends[1] - ends[0]) / (high - low)


class RankBets:
    """Bets on the rank of the next score among all before it; a few numbers, however many scores there were.

    Until ``memory`` scores are learnt, all count alike, and the mean pay is exactly 1 under exchangeability. After
    that, each counts less with every other that is learnt, and the edges move with the trend of the scores. So a
    slow season is followed; the mean pay is then about 1.

    Parameters
    ----------
    normal_scores : (n,) array
        Of windows that are known to be normal, in any order.
    memory : int
        Scores that are learnt before any is forgotten; after that the mean age of those that count.
    calibrator : Calibrator

    Raises
    ------
    ValueError
        If there are no normal scores, some are not finite, or the memory is below 1.

    Examples
    --------
    Nine normal scores: a tenth above all of them has probability 1/10, and pays most.

    >>> from nearfar.decisions.betting import RankBets
    >>> bets = RankBets([1, 2, 3, 4, 5, 6, 7, 8, 9], memory=100)
    >>> round(bets.pay(10.0), 2), round(bets.pay(5.0), 2)
    (6.42, 0.29)
    >>> sum(bets.pay(score) for score in np.arange(0.5, 10)) / 10  # one in each place
    1.0
    """

    def __init__(
        self, normal_scores: Sequence[float] | Scores, *, memory: int, calibrator: Calibrator | None = None
    ) -> None:
        scores = _require_normal(normal_scores)
        if memory < 1:
            raise ValueError(f"memory={memory}: must be at least 1 window")
        self.calibrator = calibrator or Calibrator()
        self._memory, self._learnt = memory, 0
        self._level = self._late = float(scores.mean())  # smoothed once and twice; apart by the trend
        places = np.unique(np.rint(np.geomspace(1, len(scores) + 1, MOST_BINS)).astype(int))[:-1]
        edges = np.unique(scores[len(scores) - places])
        above = len(scores) - np.searchsorted(scores, edges, side="right") + 1
        self._edges: list[float] = edges.tolist()
        self._places: list[float] = (-np.diff([len(scores) + 1, *above.tolist(), 0])).astype(float).tolist()
        self._pays: list[float] = []
        self._since_placed = CHANGED  # scores
        self.place_bets()

    def place_bets(self) -> None:
        """Choose anew what each bin pays, by its p-values as they are now. Until the next time, they stay.

        As long as hardly any score was learnt since the last time, and no bin changed, they stay as well.
        """
        if self._since_placed < RENEWED * math.fsum(self._places):
            return
        self._since_placed = 0
        at_least = np.cumsum(self._places[::-1])[::-1]
        paid = np.append(self.calibrator.up_to(at_least / at_least[0]), 0.0)
        self._pays = (-np.diff(paid) / (np.array(self._places) / at_least[0])).tolist()

    def pay(self, score: float) -> float:
        """The e-value of the next score: what its bin pays, over what is paid on average."""
        average = math.fsum(w * pay for w, pay in zip(self._places, self._pays, strict=True))
        return self._pays[bisect_left(self._edges, score)] * math.fsum(self._places) / average

    def p_value(self, score: float) -> float:
        """The share of places in its bin and above it: at least the conformal p-value."""
        return math.fsum(self._places[bisect_left(self._edges, score) :]) / math.fsum(self._places)

    def learn(self, score: float) -> None:
        """Count a score among those before the next one.

        Where a bin holds one place only, the score cuts it in two, and the two closest bins elsewhere become one.
        So the highest scores are always known one by one.
        """
        score = min(max(score, -sys.float_info.max), sys.float_info.max)
        forgetting = self._learnt >= self._memory
        self._smooth(score)
        if forgetting:
            trend = (self._level - self._late) / self._memory
            self._edges = [edge + trend for edge in self._edges]
            self._places[:-1] = [w * (1 - 1 / self._memory) for w in self._places[:-1]]
        self._learnt += 1
        self._since_placed += 1
        i = bisect_left(self._edges, score)
        alone, tied = self._places[i] <= 1, i < len(self._edges) and self._edges[i] == score
        if alone and not tied:
            self._cut(i, score, below=1.0, above=self._places[i])
        elif forgetting and not tied and self._is_coarse(i):
            half = (self._places[i] + 1) / 2
            self._cut(i, score, below=half, above=half)
        else:
            self._places[i] += 1

    def _smooth(self, score: float) -> None:
        """Exponential smoothing, once and twice (Brown 1956): the two are apart by the trend over the memory."""
        within = min(max(score, self._edges[0]), self._edges[-1])
        self._level += (within - self._level) / self._memory
        self._late += (self._level - self._late) / self._memory

    def _is_coarse(self, i: int) -> bool:
        if i == len(self._places) - 1:
            return False
        above = math.fsum(self._places[i + 1 :])
        return math.log((above + self._places[i]) / above) > COARSE

    def _cut(self, i: int, score: float, *, below: float, above: float) -> None:
        self._since_placed = CHANGED
        self._edges.insert(i, score)
        self._places[i : i + 1] = [below, above]
        self._pays.insert(i, self._pays[i])
        if len(self._places) > MOST_BINS:
            self._join_closest()

    def _join_closest(self) -> None:
        """Make one bin of two neighbours, whose p-values are closest; the highest bin stays alone."""
        at_least = list(accumulate(reversed(self._places)))[::-1]
        i = min(range(len(self._places) - 2), key=lambda i: at_least[i] / at_least[i + 2])
        w, pays = self._places[i : i + 2], self._pays[i : i + 2]
        self._pays[i : i + 2] = [(w[0] * pays[0] + w[1] * pays[1]) / (w[0] + w[1])]
        self._places[i : i + 2] = [w[0] + w[1]]
        del self._edges[i]

    def state(self) -> dict[str, Any]:
        """All numbers, JSON-able: ``restore`` gives bets that pay exactly the same."""
        return {
            "power": self.calibrator.power,
            "floor": self.calibrator.floor,
            "memory": self._memory,
            "learnt": self._learnt,
            "since_placed": self._since_placed,
            "level": self._level,
            "late": self._late,
            "edges": list(self._edges),
            "places": list(self._places),
            "pays": list(self._pays),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """What ``state`` gave."""
        bets = cls.__new__(cls)
        bets.calibrator = Calibrator(state["power"], state["floor"])
        bets._memory, bets._learnt = state["memory"], state["learnt"]
        bets._since_placed = state["since_placed"]
        bets._level, bets._late = state["level"], state["late"]
        bets._edges, bets._places, bets._pays = (list(state[name]) for name in ("edges", "places", "pays"))
        return bets


def shiryaev_roberts(before: float, pay: float) -> float:
    """The statistic after one more e-value: ``pay * (before + 1)``, where 0 is the start.

    Each window places a new bet of 1, and all that was won before is bet again. Under exchangeability the mean of
    the statistic grows by at most 1 in each window. So it reaches c after c windows or more, on average (Shin,
    Ramdas, Rinaldo, arXiv:2203.03532, proposition 2.4: an e-detector of Shiryaev-Roberts kind).
    """
    return pay * (before + 1)


def _require_normal(normal_scores: Sequence[float] | Scores) -> Scores:
    scores = np.sort(np.asarray(normal_scores, dtype=np.float64).ravel())
    if not len(scores):
        raise ValueError("no normal scores: bets on ranks need the scores of normal windows")
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} normal scores are not finite")
    return scores
