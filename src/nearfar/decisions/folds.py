"""Which clips are scored by a fit on which others.

A threshold needs scores of normal clips that a fit has not seen. A clip is not unseen if the fit has learnt from
another piece of the same recording, or from a recording of the same day. So clips that belong together can be kept
in one part: by their groups, by their attributes, or by what the far microphone hears.

References
----------
.. [1] D. R. Roberts et al., "Cross-validation strategies for data with temporal, spatial, hierarchical, or
   phylogenetic structure," Ecography 40, 2017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.thresholds import Indices, ThresholdConfig

Text = NDArray[np.str_]

LEFT = 3  # clips of a domain, at least, in every fit by groups: the fewest that have a covariance
CLUSTERS = 4  # of what the far microphone hears; our choice
STARTS = 10  # of k-means, of which the best is taken

KINDS = {  # by what a setting keeps together
    "random": "random",
    "group_if_known": "group",
    "group": "group",
    "attributes": "attributes",
    "far": "far noise",
}


@dataclass(frozen=True)
class Folds:
    """Fits, and the clips that each scores.

    Attributes
    ----------
    pairs : tuple of (indices, indices)
        For each fit, the clips to fit on and the clips to score.
    by : {"random", "group", "attributes", "far noise"}
        What was kept together.
    groups : mapping from domain to int
        How many groups each domain has, where they were kept together.
    random_in : mapping from domain to str
        The domains whose clips were dealt at random all the same, and why.
    """

    pairs: tuple[tuple[Indices, Indices], ...]
    by: str = "random"
    groups: Mapping[str, int] = field(default_factory=dict)
    random_in: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_unseen(self) -> int:
        """How many clips are scored."""
        return sum(len(held_out) for _, held_out in self.pairs)

    def describe(self) -> dict[str, Any]:
        """How the clips came to be unseen, JSON-able."""
        return {
            "by": self.by,
            "fits": len(self.pairs),
            "groups": dict(self.groups),
            "random_in": dict(self.random_in),
        }


def deal(
    domain: Text,
    config: ThresholdConfig,
    *,
    seed: int,
    groups: Sequence[str] | None = None,
    recordings: Sequence[str] | None = None,
) -> Folds:
    """Deal clips to parts, the domains spread evenly over them; each part is scored by a fit on the others.

    Parameters
    ----------
    domain : (n_clips,) array of str
    config : ThresholdConfig
    seed : int
        Of the order in which clips are dealt out.
    groups : sequence of str or None
        What each clip belongs to, of the kind that ``config.folds_by`` names; empty: nothing. Clips of one group
        come to one part, also across domains. A domain's groups count only if there are two or more, and every fit
        keeps some of its clips; its other clips are dealt at random.
    recordings : sequence of str or None
        What each clip contains, such as its digest: equal ones come to one part.

    Raises
    ------
    ValueError
        If groups are required (``folds_by`` other than ``"random"`` and ``"group_if_known"``) and no domain has
        any; or if all clips are copies of one.

    Examples
    --------
    Six clips of three days: a fit never sees a day that it scores.

    >>> import numpy as np
    >>> from nearfar.decisions.folds import deal
    >>> from nearfar.decisions.thresholds import ThresholdConfig
    >>> days = ["mon", "mon", "tue", "tue", "wed", "wed"]
    >>> found = deal(np.array(["source"] * 6), ThresholdConfig(), seed=0, groups=days)
    >>> sorted(held_out.tolist() for _, held_out in found.pairs)
    [[0, 1], [2, 3], [4, 5]]
    """
    copies = _first_alike([""] * len(domain) if recordings is None else recordings)
    part: Indices | None = None
    counts: dict[str, int] = {}
    why: dict[str, str] = {}
    if groups is not None and config.folds_by != "random":
        part, counts, why = _by_group(np.asarray(domain), groups, copies, config.folds, seed)
        if part is None and config.folds_by != "group_if_known":
            raise ValueError(_no_groups(config.folds_by, why))
    if part is None:
        part = _at_random(np.asarray(domain), copies, config.folds, seed)
        return Folds(_pairs(part, config), random_in=why if any(groups or ()) else {})
    return Folds(_pairs(part, config), KINDS[config.folds_by], counts, why)


def clusters(vectors: NDArray[Any], *, seed: int) -> list[str]:
    """Four groups of clips by k-means, named "far noise 1" to "far noise 4".

    Parameters
    ----------
    vectors : (n_clips, dim) array
        What the far microphone of each clip hears.
    seed : int
    """
    from sklearn.cluster import KMeans  # here, because it takes long to load

    distinct = len(np.unique(vectors, axis=0))
    model = KMeans(min(CLUSTERS, distinct), n_init=STARTS, random_state=seed)
    return [f"far noise {1 + number}" for number in model.fit_predict(vectors)]


def _first_alike(recordings: Sequence[str]) -> Indices:
    """The number of the first clip with the same recording; of an empty one, its own."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(what, i) if what else i for i, what in enumerate(recordings)], dtype=np.intp
    )


def _at_random(domain: Text, copies: Indices, folds: int, seed: int) -> Indices:
    """The part of each clip; copies go with the first of them."""
    originals = np.flatnonzero(copies == np.arange(len(copies)))
    rng = np.random.default_rng(seed)
    n_parts = min(folds, len(originals))
    part = np.zeros(len(domain), dtype=np.intp)
    dealt = 0
    for d in np.unique(domain):
        members = rng.permutation(originals[domain[originals] == d])
        part[members] = (dealt + np.arange(len(members))) % n_parts
        dealt += len(members)
    return part[copies]


def _by_group(
    domain: Text, groups: Sequence[str], copies: Indices, folds: int, seed: int
) -> tuple[Indices | None, dict[str, int], dict[str, str]]:
    """The part of each clip, or ``None`` if no domain has groups; groups by domain; why other domains have none."""
    counts, why = {}, {}
    for d in np.unique(domain).tolist():
        known = [group for group, of in zip(groups, domain, strict=True) if of == d and group]
        counts[d] = len(set(known))
        if not known:
            why[d] = "no group is known"
        elif counts[d] < 2:
            why[d] = f"only one group is known, {known[0]!r}"
        elif counts[d] == len(known):
            why[d] = "each group has one clip"
    while len(why) < len(counts):
        units = _units([g if d not in why else "" for g, d in zip(groups, domain, strict=True)], copies)
        part = _spread(units, domain, folds, seed)
        emptied = _emptied(part, domain, folds)
        if not (emptied := {d: told for d, told in emptied.items() if d not in why}):
            return part, {d: n for d, n in counts.items() if d not in why}, why
        why |= emptied
    return None, {}, why


def _units(groups: Sequence[str], copies: Indices) -> Indices:
    """A number for each clip, equal for clips that belong together: of one group, or copies, or both in a chain."""
    unit = np.arange(len(groups))
    of_group = _first_alike(groups)
    while True:
        before = unit.copy()
        for together in (of_group, copies):
            lowest = np.arange(len(unit))
            np.minimum.at(lowest, together, unit)
            unit = np.minimum(unit, lowest[together])
        if (unit == before).all():
            return unit


def _spread(units: Indices, domain: Text, folds: int, seed: int) -> Indices:
    """The part of each clip: units from the largest on, each to the first part that has the least of its domains.

    So the first part, which is the one that is held out, has clips of every domain.
    """
    numbers, of_domain = np.unique(units), np.unique(domain)
    sizes = np.array([[((units == u) & (domain == d)).sum() for d in of_domain] for u in numbers])
    shares = sizes / sizes.sum(axis=0)
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    load = np.zeros((min(folds, len(numbers)), len(of_domain)))
    part_of = np.empty(len(numbers), dtype=np.intp)
    for u in sorted(shuffled, key=lambda u: -sizes[u].sum()):
        fullest = load[:, sizes[u] > 0].max(axis=1)
        part_of[u] = fullest.argmin()
        load[part_of[u]] += shares[u]
    return part_of[np.searchsorted(numbers, units)]


def _emptied(part: Indices, domain: Text, folds: int) -> dict[str, str]:
    """The domains of which a fit would keep too few clips, and fewer than by random folds; and what it keeps."""
    found = {}
    for d, n in Counter(domain.tolist()).items():
        left = n - int(np.bincount(part[domain == d]).max())
        at_random = n - -(-n // min(folds, len(domain)))
        if left < min(LEFT, at_random):
            found[d] = f"its groups are too unequal: a fit without one part of them keeps {left} of {n} clips"
    return found


def _pairs(part: Indices, config: ThresholdConfig) -> tuple[tuple[Indices, Indices], ...]:
    numbers = np.unique(part)
    if len(numbers) == 1 and len(part) > 1:
        raise ValueError(
            f"the {len(part)} normal clips are copies of one recording, so none of them is unseen by a fit to the "
            "others; give other normal clips"
        )
    scored = numbers[:1] if config.calibration == "held_out" else numbers
    return tuple((np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in scored)


def _no_groups(folds_by: str, why: Mapping[str, str]) -> str:
    told = "; ".join(f"{domain}: {reason}" for domain, reason in why.items())
    needed = {
        "group": "name groups of the clips in the column 'group' of domains.csv",
        "attributes": "it takes at least two combinations of attributes in the names of the clips",
        "far": "the far microphone hears the same in all clips",
    }
    return (
        f"threshold.folds_by={folds_by!r}: no domain has two groups that a fit could do without ({told}); "
        f"{needed[folds_by]}, or choose folds_by='random'"
    )
