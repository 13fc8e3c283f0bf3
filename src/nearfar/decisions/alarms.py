"""Alarms by several clips: "k of n".

A machine that fails goes on failing, so its clips are flagged one after the other. A normal clip that is flagged by
mistake often stands alone. So an alarm that needs several of the last clips is less often a mistake. The price is
that it comes later.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Self

MOST = 1000  # clips of a group: at ten seconds a clip almost three hours
FORM = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """An alarm is given if at least ``needed`` of the last ``of_last`` clips are anomalous.

    Attributes
    ----------
    needed, of_last : int
        k and n.

    Raises
    ------
    ValueError
        Unless ``1 <= needed <= of_last <= MOST``.

    Examples
    --------
    >>> from nearfar.decisions.alarms import AlarmRule
    >>> rule = AlarmRule.parse("3/5")
    >>> f"{rule.rate_if_independent(0.01):.2e}"
    '9.85e-06'
    >>> round(rule.rate_at_most(0.01), 4)
    0.0167
    """

    needed: int
    of_last: int

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.of_last <= MOST:
            raise ValueError(
                f"alarm={self}: {self.needed} of the last {self.of_last} clips; the first number must be at least "
                f"1 and at most the second, and the second at most {MOST}, such as 3/5"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """A rule from text such as ``"3/5"``.

        Raises
        ------
        ValueError
            If it is not two whole numbers with a slash between them, or no rule.
        """
        match = FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                f"alarm={text!r}: expected two whole numbers with a slash between them, such as 3/5: an alarm if "
                "at least 3 of the last 5 clips are anomalous"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.needed}/{self.of_last}"

    def rate_if_independent(self, rate: float) -> float:
        """How often a full group of normal clips alarms, if each is flagged with this rate, whatever the others.

        Parameters
        ----------
        rate : float
            Share of normal clips that are flagged, in [0, 1].

        Returns
        -------
        float
            The upper tail of a binomial distribution.

        Raises
        ------
        ValueError
            If the rate is not between 0 and 1.
        """
        rate, n = _require_share(rate), self.of_last
        tail = (math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(self.needed, n + 1))
        return min(1.0, math.fsum(tail))

    def rate_at_most(self, rate: float) -> float:
        """The same, however much the clips of a group have in common: Markov's inequality.

        Of n clips ``n * rate`` are flagged on average. If a share of the groups has k flagged clips or more, the
        average is at least k times that share.
        """
        return min(1.0, self.of_last * _require_share(rate) / self.needed)


class Alarms:
    """Which alarms there are after each clip, in each of several places: the clips of two places are never mixed.

    Until ``of_last`` clips have come, those that have come count. A clip whose decision is not known, because its
    recording could not be used, counts neither as normal nor as anomalous: it takes no place among the last clips,
    and leaves an alarm as it was.

    Parameters
    ----------
    rule : AlarmRule

    Examples
    --------
    >>> from nearfar.decisions.alarms import AlarmRule, Alarms
    >>> alarms = Alarms(AlarmRule(2, 3))
    >>> [alarms.after("hall", flagged) for flagged in (True, None, True, False, False)]
    [False, False, True, True, False]
    """

    def __init__(self, rule: AlarmRule) -> None:
        self.rule = rule
        self._last: dict[Hashable, deque[bool]] = {}

    def after(self, place: Hashable, flagged: bool | None) -> bool:
        """Whether there is an alarm in a place after its next clip.

        Parameters
        ----------
        place : hashable
            What the clips of one machine or session have in common, such as their folder.
        flagged : bool or None
            Whether the clip is anomalous; ``None`` if that is not known.
        """
        last = self._last.setdefault(place, deque(maxlen=self.rule.of_last))
        if flagged is not None:
            last.append(flagged)
        return sum(last) >= self.rule.needed


def _require_share(rate: float) -> float:
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate}: the share of normal clips that are flagged must be from 0 to 1")
    return rate
