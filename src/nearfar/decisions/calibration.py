"""The unseen normal clips behind a threshold: what they scored, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.rates import FlaggedShare

Text = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of normal clips that no fit had seen, in ascending order.

    Attributes
    ----------
    scores : (n,) array
        Those that the threshold is learnt from.
    domain : (n,) array of str
    group : (n,) array of str
        What each clip belongs to; empty where nothing is known.
    how : mapping
        How the clips came to be unseen, JSON-able; as of ``Folds.describe``.

    Examples
    --------
    The threshold is one for all clips, but the domains need not be flagged alike.

    >>> from nearfar.decisions.calibration import Calibration
    >>> known = Calibration.of([1, 2, 3, 9], ["source", "source", "target", "target"])
    >>> {domain: str(share) for domain, share in known.by_domain(above=5).items()}["target"]
    '1 of 2 clips (50 %; 95 % interval 1.3 to 98.7 %)'
    """

    scores: NDArray[np.float64]
    domain: Text
    group: Text
    how: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        scores: Sequence[float] | NDArray[np.float64],
        domain: Sequence[str] | Text,
        group: Sequence[str] | Text | None = None,
        how: Mapping[str, Any] | None = None,
    ) -> Self:
        """Of clips in any order."""
        array = np.asarray(scores, dtype=np.float64)
        order = np.argsort(array, kind="stable")
        groups = np.full(len(array), "") if group is None else np.asarray(group, dtype=np.str_)
        return cls(array[order], np.asarray(domain, dtype=np.str_)[order], groups[order], dict(how or {}))

    def by_domain(self, *, above: float) -> dict[str, FlaggedShare]:
        """Of each domain, in the order of the names, how many clips score above a threshold."""
        return _shares(self.domain, self.scores > above)

    def by_group(self, *, above: float) -> dict[str, FlaggedShare]:
        """As ``by_domain``, of each group; clips of no known group are left out."""
        known = self.group != ""
        return _shares(self.group[known], self.scores[known] > above)

    def between_domains(self) -> float | None:
        """The Kolmogorov-Smirnov distance between the scores of source and target clips, 0 to 1.

        It is the largest difference of the two shares of clips that score at most as high. 0: the domains score
        alike; 1: every clip of one domain scores higher than all of the other. ``None`` if one of them has none.

        Examples
        --------
        >>> from nearfar.decisions.calibration import Calibration
        >>> known = Calibration.of([1, 2, 3, 9], ["source", "source", "target", "target"])
        >>> known.between_domains()
        1.0
        """
        source, target = (self.scores[self.domain == name] for name in ("source", "target"))
        if not len(source) or not len(target):
            return None
        at_most = (np.searchsorted(own, self.scores, side="right") / len(own) for own in (source, target))
        return float(np.abs(np.subtract(*at_most)).max())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a detector saves beside the scores: which of the names of ``describe`` each clip has."""
        of_domain, of_group = (np.unique(x, return_inverse=True)[1] for x in (self.domain, self.group))
        return {"domain": of_domain.astype(np.int32), "group": of_group.astype(np.int32)}

    def describe(self) -> dict[str, Any]:
        """The names of the domains and groups, and how the clips came to be unseen, JSON-able."""
        return {
            "domain_names": np.unique(self.domain).tolist(),
            "group_names": np.unique(self.group).tolist(),
            "unseen": dict(self.how),
        }

    @classmethod
    def restore(
        cls, scores: NDArray[np.float64], arrays: Mapping[str, NDArray[Any]], content: Mapping[str, Any]
    ) -> Self:
        """What ``arrays`` and ``describe`` gave, of ascending scores."""
        domain, group = (
            np.array(content[f"{what}_names"], dtype=np.str_)[arrays[what]] for what in ("domain", "group")
        )
        return cls(scores, domain, group, content["unseen"])


def _shares(names: Text, flags: NDArray[np.bool_]) -> dict[str, FlaggedShare]:
    return {name: FlaggedShare.of(flags[names == name]) for name in np.unique(names).tolist()}
