"""Which few clips stand for all: those that the others are nearest to, of every domain and condition.

The number is divided among domains, and within a domain among its conditions (attributes), as evenly as their clips
allow: so a domain of ten clips beside one of a thousand is not lost. Within a condition the clips are medoids: one
after the other, the clip is taken that most lowers the mean distance from each clip to the nearest one taken
(greedy facility location [1]_). Clips that are far from all others, which hidden faults may be, are not taken if
there are enough of the rest. Nothing is random.

References
----------
.. [1] G. Cornuejols, M. L. Fisher, G. L. Nemhauser, "Location of bank accounts to optimize float," Management
   Science 23(8), 1977.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_COMPARED = 2000  # clips of a condition, evenly spread over all: the distance of each pair takes memory
LEAST_USUAL = 0.5  # of the clips of a domain that are not suspect, so that suspects can be left out
NEIGHBOURS, FAR_APART = 3, 3.0  # a clip is alone if the third nearest is so many times as far as usual

Float = NDArray[np.float64]


def representatives(
    domain: Sequence[str],
    attributes: Sequence[str],
    embeddings: Sequence[NDArray[np.floating[Any]]],
    many: int,
    *,
    available: NDArray[np.bool_] | None = None,
    taken: Collection[int] = (),
    suspects: Collection[int] = (),
) -> list[int]:
    """Positions of the clips that stand for all, ascending.

    Parameters
    ----------
    domain, attributes : sequence of str
        Of each clip.
    embeddings : sequence of (n_clips, ...) arrays
        Each dimension counts in units of its standard deviation, each array as much as any other.
    many : int
        How many there are to be at most.
    available : (n_clips,) array of bool or None
        Which clips can be taken; ``None``: all.
    taken : collection of int
        Clips that were taken before. They stay, but where their condition has more than its share.
    suspects : collection of int
        Clips that are not to be taken, unless half of a domain are such.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.detector.representatives import representatives
    >>> level = np.array([[1.0], [1.1], [1.2], [5.0], [5.1], [5.2], [9.0]])
    >>> representatives(["source"] * 6 + ["target"], [""] * 7, [level], 3)
    [1, 3, 6]
    """
    can = np.ones(len(domain), bool) if available is None else available.copy()
    for name in set(domain):
        of_domain = [i for i, own in enumerate(domain) if own == name]
        doubtful = [i for i in of_domain if i in suspects and i not in taken]
        if len(doubtful) <= (1 - LEAST_USUAL) * len(of_domain):
            can[doubtful] = False
    found: list[int] = []
    for members, share in _conditions(domain, attributes, can, many):
        kept = [i for i in members if i in taken]
        candidates = kept if len(kept) > share else [i for i in members if can[i]]
        first = [] if len(kept) > share else kept
        found += _medoids(members, candidates, first, embeddings, share)
    return sorted(found)


def _conditions(
    domain: Sequence[str], attributes: Sequence[str], can: NDArray[np.bool_], many: int
) -> list[tuple[list[int], int]]:
    """The clips of each condition, and how many of them are to be taken."""
    found = []
    for name, share in shares(Counter(d for d, ok in zip(domain, can, strict=True) if ok), many).items():
        members = [i for i, own in enumerate(domain) if own == name]
        counts = Counter(attributes[i] for i in members if can[i])
        if len(counts) > share:  # one of each is too many
            found.append((members, share))
            continue
        found += [
            ([i for i in members if attributes[i] == one], own) for one, own in shares(counts, share).items()
        ]
    return found


def shares(counts: Mapping[str, int], many: int) -> dict[str, int]:
    """How many of each kind make ``many``, as evenly as their counts allow; the rarest kind first.

    Examples
    --------
    >>> from nearfar.detector.representatives import shares
    >>> shares({"source": 990, "target": 10}, 24)
    {'target': 10, 'source': 14}
    """
    found = {}
    left = many
    kinds = sorted(counts, key=lambda kind: (counts[kind], kind))
    for number, kind in enumerate(kinds):
        found[kind] = min(counts[kind], left // (len(kinds) - number))
        left -= found[kind]
    return found


def _medoids(
    members: Sequence[int],
    candidates: Sequence[int],
    first: Sequence[int],
    embeddings: Sequence[NDArray[np.floating[Any]]],
    many: int,
) -> list[int]:
    """So many of the candidates, those in ``first`` among them, that the members are nearest to."""
    some = sorted({*first, *_thinned(candidates)})
    if many >= len(some):
        return list(some)
    distances = _distances(_thinned(members), some, embeddings)
    banned = _alone(distances, many) - {some.index(i) for i in first}
    chosen = [some.index(i) for i in first]
    nearest = distances[:, chosen].min(axis=1, initial=np.inf)
    while len(chosen) < many:
        totals = np.minimum(distances, nearest[:, None]).sum(axis=0)
        totals[[*chosen, *banned]] = np.inf
        chosen.append(int(totals.argmin()))
        nearest = np.minimum(nearest, distances[:, chosen[-1]])
    return [some[i] for i in chosen]


def _alone(distances: Float, many: int) -> set[int]:
    """Which of the columns are far from all rows, unless fewer than ``many`` would be left."""
    own = min(NEIGHBOURS, len(distances) - 1)  # the nearest one is the clip itself
    apart = np.partition(distances, own, axis=0)[own]
    far = np.flatnonzero(apart > FAR_APART * np.median(apart))
    return set(far.tolist()) if len(apart) - len(far) >= many else set()


def _thinned(which: Sequence[int]) -> list[int]:
    """At most ``MOST_COMPARED``, evenly spread."""
    if len(which) <= MOST_COMPARED:
        return list(which)
    return [which[i] for i in np.linspace(0, len(which) - 1, MOST_COMPARED).round().astype(int).tolist()]


def _distances(
    rows: Sequence[int], columns: Sequence[int], embeddings: Sequence[NDArray[np.floating[Any]]]
) -> Float:
    """Between clips, root mean square over the dimensions in units of their standard deviation."""
    total = np.zeros((len(rows), len(columns)))
    for X in embeddings:
        one, other = (X[list(which)].reshape(len(which), -1).astype(np.float64) for which in (rows, columns))
        mean, spread = one.mean(axis=0), one.std(axis=0)
        scale = 1 / np.where(spread > 0, spread, 1.0)
        one, other = (one - mean) * scale, (other - mean) * scale
        squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
        total += np.maximum(squares, 0) / one.shape[1]
    return np.asarray(np.sqrt(total / len(embeddings)))
