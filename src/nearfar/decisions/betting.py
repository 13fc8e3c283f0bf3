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
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 32  # at 10,000 scores about 0.3 between the logarithms of two edges' p-values
COARSE = 0.5  # a bin between p-values whose logarithms are further apart is cut, where scores are forgotten
RENEWED = 0.005  # of the places: after so many scores what bins pay is chosen anew ...
CHANGED = 10**9  # ... and if a bin was cut, as if after so many
HIGHEST = 1e300  # of a statistic
SECONDS_OF_MEMORY = 24 * 3600.0  # a day of windows is kept exactly; our choice

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bet:
    """A part of the capital is bet on "the next score is among the highest"; the rest is kept.

    A score among them pays ``1 - stake + stake / share``, any other ``1 - stake``. It is a calibrator of p-values
    with two steps (reference 3 above).

    Attributes
    ----------
    share : float
        Which part of the scores counts as the highest, above 0 and below 1.
    stake : float
        Above 0 and below 1. The larger, the sooner a fault is told, and the more is lost with each normal window.

    Raises
    ------
    ValueError
        If one of them is out of range.

    Examples
    --------
    >>> from nearfar.decisions.betting import Bet
    >>> bet = Bet(share=0.03, stake=0.75)
    >>> round(bet.mean(0.0, 0.01), 2), round(bet.mean(0.5, 1.0), 2)
    (25.25, 0.25)
    """

    share: float
    stake: float

    def __post_init__(self) -> None:
        for name in ("share", "stake"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name}={value}: must be above 0 and below 1")

    def up_to(self, p: Scores) -> Scores:
        """The integral of what it pays, from 0 to each p-value; 1 at ``p = 1``."""
        return np.asarray((1 - self.stake) * p + self.stake * np.minimum(p, self.share) / self.share)

    def mean(self, low: float, high: float) -> float:
        """What it pays on average for p-values between two limits, ``0 <= low < high <= 1``."""
        ends = self.up_to(np.array([low, high]))
        return float(ends[1] - ends[0]) / (high - low)


# One for faults that most windows show, one for weak ones; chosen on series of random numbers, see docs/alerts.md.
BETS = (Bet(share=0.02, stake=0.75), Bet(share=0.1, stake=0.6))


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
    bet : Bet
        Which one is placed, again and again.

    Raises
    ------
    ValueError
        If there are no normal scores, some are not finite, or the memory is below 1.

    Examples
    --------
    Nine normal scores: a tenth above all of them has probability 1/10, and pays most.

    >>> import numpy as np
    >>> from nearfar.decisions.betting import Bet, RankBets
    >>> bets = RankBets([1, 2, 3, 4, 5, 6, 7, 8, 9], memory=100, bet=Bet(share=0.1, stake=0.5))
    >>> round(bets.pay(10.0), 2), round(bets.pay(5.0), 2)
    (5.5, 0.5)
    >>> sum(bets.pay(score) for score in np.arange(0.5, 10)) / 10  # one in each place
    1.0
    """

    def __init__(self, normal_scores: Sequence[float] | Scores, *, memory: int, bet: Bet) -> None:
        scores = _require_normal(normal_scores)
        if memory < 1:
            raise ValueError(f"memory={memory}: must be at least 1 window")
        self.bet = bet
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
        paid = np.append(self.bet.up_to(at_least / at_least[0]), 0.0)
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
        """Exponential smoothing, once and twice (Brown 1956): the two are apart by the trend over the memory.

        A score that is infinite tells no trend.
        """
        if abs(score) == sys.float_info.max:
            return
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
            "bet": asdict(self.bet),
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
        bets.bet = Bet(**state["bet"])
        bets._memory, bets._learnt = state["memory"], state["learnt"]
        bets._since_placed = state["since_placed"]
        bets._level, bets._late = state["level"], state["late"]
        bets._edges, bets._places, bets._pays = (list(state[name]) for name in ("edges", "places", "pays"))
        return bets


class EDetector:
    """The statistic of Shiryaev and Roberts: each window places a new bet of 1, and all that was won is bet again.

    After an e-value it is ``pay * (before + 1)``. Under exchangeability its mean grows by at most 1 in each window.
    So it reaches c after c windows or more, on average (Shin, Ramdas, Rinaldo, arXiv:2203.03532: an e-detector of
    Shiryaev-Roberts kind).

    Parameters
    ----------
    bets : RankBets

    Attributes
    ----------
    statistic : float
        0 at the start.
    cusum : float
        What the best beginning of a change has won until now: ``pay * max(cusum before, 1)``. At 1 or below,
        nothing points to a change: the detector is *at rest*.
    since : int
        Windows from that beginning up to the last one, both counted; 0 at rest.

    Examples
    --------
    >>> from nearfar.decisions.betting import Bet, EDetector, RankBets
    >>> detector = EDetector(RankBets(range(99), memory=1000, bet=Bet(share=0.03, stake=0.75)))
    >>> [round(detector.take(score), 1) for score in (50, 200, 201)]
    [0.2, 31.6, 822.2]
    >>> detector.since
    2
    """

    def __init__(self, bets: RankBets) -> None:
        self.bets = bets
        self.restart()

    def restart(self) -> None:
        """Forget all that was won, but not the scores that were learnt."""
        self.statistic = self.cusum = 0.0
        self.since = 0

    def take(self, score: float) -> float:
        """The statistic after the next window, whose score is not learnt yet."""
        pay = self.bets.pay(score)
        self.statistic = min(pay * (self.statistic + 1), HIGHEST)
        self.cusum = min(pay * max(self.cusum, 1.0), HIGHEST)
        self.since = 0 if self.at_rest else self.since + 1
        return self.statistic

    def learn(self, score: float) -> None:
        """Count the score; at rest, choose anew what is paid."""
        self.bets.learn(score)
        if self.at_rest:
            self.bets.place_bets()

    def wait(self) -> None:
        """A window could not be used: nothing changes, but time goes on."""
        self.since += self.since > 0

    def hold(self, most: float) -> None:
        """Lower what was won to this, if it is more."""
        self.statistic, self.cusum = min(self.statistic, most), min(self.cusum, most)

    @property
    def at_rest(self) -> bool:
        return self.cusum <= 1

    def state(self) -> dict[str, Any]:
        """All numbers, JSON-able."""
        won = {"statistic": self.statistic, "cusum": self.cusum, "since": self.since}
        return {**won, "bets": self.bets.state()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """What ``state`` gave."""
        detector = cls(RankBets.restore(state["bets"]))
        detector.statistic, detector.cusum, detector.since = (
            state[name] for name in ("statistic", "cusum", "since")
        )
        return detector


def _require_normal(normal_scores: Sequence[float] | Scores) -> Scores:
    scores = np.sort(np.asarray(normal_scores, dtype=np.float64).ravel())
    if not len(scores):
        raise ValueError("no normal scores: bets on ranks need the scores of normal windows")
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} normal scores are not finite")
    return scores
