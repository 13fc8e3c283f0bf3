"""How many clips were flagged, and what so few tell about the rate.

Conventions
-----------
An interval is the exact one of a binomial count (Clopper and Pearson): it contains the true rate with at least the
stated confidence, if the clips were drawn independently. Clips of one recording or one day are more alike than
that, so for them the truth may lie outside more often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nearfar.recordings.clips import counted

if TYPE_CHECKING:  # the command line begins without NumPy
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95  # of an interval, unless another is asked for


@dataclass(frozen=True, slots=True)
class FlaggedShare:
    """Clips, and how many of them were flagged.

    Attributes
    ----------
    flagged : int
    clips : int
        At least 1, the flagged ones included.

    Raises
    ------
    ValueError
        If there are no clips, or more are flagged than there are.

    Examples
    --------
    One of ten: 10 %, but the true rate may be anything from 0.3 to 44.5 %.

    >>> from nearfar.decisions.rates import FlaggedShare
    >>> found = FlaggedShare(flagged=1, clips=10)
    >>> found.share
    0.1
    >>> [round(limit, 3) for limit in found.interval()]
    [0.003, 0.445]
    """

    flagged: int
    clips: int

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"clips={self.clips}: a share needs at least 1 clip; leave out what has none")
        if not 0 <= self.flagged <= self.clips:
            raise ValueError(f"flagged={self.flagged} of clips={self.clips}: must be from 0 to {self.clips}")

    @classmethod
    def of(cls, flags: Iterable[bool] | NDArray[np.bool_]) -> Self:
        """Count flags, one for each clip."""
        each = [bool(flag) for flag in flags]
        return cls(sum(each), len(each))

    @property
    def share(self) -> float:
        """Of the clips, the part that was flagged, in [0, 1]."""
        return self.flagged / self.clips

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The exact interval of the true rate: its lower and its upper limit, in [0, 1].

        Raises
        ------
        ValueError
            If the confidence is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence={confidence}: must be above 0 and below 1, such as {CONFIDENCE}")
        from scipy import stats  # here, because it takes half a second to load

        found = stats.binomtest(self.flagged, self.clips).proportion_ci(confidence, method="exact")
        return float(found.low), float(found.high)

    def with_clips(self, clips: int) -> Self:
        """About the same share among another number of clips: what so many would show if the share stayed."""
        return type(self)(round(self.share * clips), clips)

    def __str__(self) -> str:
        """Such as "1 of 10 clips (10 %; 95 % interval 0.3 to 44.5 %)"."""
        low, high = self.interval()
        share = f"{percent(self.share)}; {percent(CONFIDENCE)} interval {between(low, high)}"
        return f"{self.flagged} of {counted(self.clips, 'clip')} ({share})"


def percent(share: float) -> str:
    """A share in percent, with one decimal where there is one: "10 %", "4.7 %", "0.3 %"."""
    return f"{round(100 * share, 1):g} %"


def between(low: float, high: float) -> str:
    """Two limits in percent: "0.3 to 44.5 %"."""
    return f"{percent(low).removesuffix(' %')} to {percent(high)}"
