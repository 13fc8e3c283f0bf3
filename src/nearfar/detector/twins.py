"""Copies of clips whose recordings are gone: clips with the same embedding.

Copies among recordings are found by their samples or waveforms (``recordings.inspection.copies``). Of an old clip
there are only embeddings. The same sound in another format has the same embedding, to the rounding of its samples;
two recordings of one machine do not. How far apart these are is learnt from the clips themselves: the median over
clips of the distance to the nearest other one. It does not grow with differences between conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating[Any]]
Float = NDArray[np.float64]

SAME = 0.02  # of the median distance to the nearest other clip; see docs/learning.md for that of copies and others
SINGLE = 1e-6  # of the length of an embedding: what is computed in single precision, in another order
ROWS_AT_ONCE = 256
ROWS_COMPARED = 1024  # for the median


def find_twins(
    new: Sequence[Embeddings | None], old: Sequence[Embeddings | None], *, among: Sequence[Embeddings | None]
) -> dict[int, int]:
    """For each new clip that has the embedding of an old one, by every branch that keeps some, which one that is.

    Parameters
    ----------
    new : sequence of (n_new, ...) array or None
        Of each branch; ``None`` where it keeps no embeddings.
    old : sequence of (n_old, ...) array or None
        Of the same branches.
    among : sequence of (n, ...) array or None
        Embeddings of different clips by the same branches, which tell how far apart such are.

    Returns
    -------
    dict
        Empty if no branch keeps embeddings: then nothing can be told.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.detector.twins import find_twins
    >>> old = np.array([[0.0, 1.0], [2.0, 3.0], [5.0, 1.0]])
    >>> find_twins([np.array([[2.001, 3.0], [2.5, 3.0]])], [old], among=[old])
    {0: 1}
    """
    same: NDArray[np.bool_] | None = None
    for X, Y, Z in zip(new, old, among, strict=True):
        if X is None or Y is None or Z is None:
            continue
        alike = _alike(X, Y, Z)
        same = alike if same is None else same & alike
    if same is None or not same.size:
        return {}
    return {int(i): int(same[i].argmax()) for i in np.flatnonzero(same.any(axis=1))}


def _alike(X: Embeddings, Y: Embeddings, Z: Embeddings) -> NDArray[np.bool_]:
    """Which of X are which of Y, (n_new, n_old)."""
    if X.shape[1:] != Y.shape[1:] or Y.shape[1:] != Z.shape[1:] or not len(Z):
        return np.zeros((len(X), len(Y)), bool)
    x, y, z = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (X, Y, Z))
    limit = SAME * _nearest(z)
    rounding = SINGLE * np.linalg.norm(x, axis=1)
    centre = z.mean(axis=0)
    found = [d <= np.maximum(limit, rounding[r])[:, None] for r, d in _distances(x - centre, y - centre)]
    return np.concatenate(found) if found else np.zeros((0, len(y)), bool)


def _nearest(z: Float) -> float:
    """The median over clips of the distance to the nearest other one; 0 of a single clip."""
    if len(z) < 2:
        return 0.0
    which = np.arange(0, len(z), -(-len(z) // ROWS_COMPARED))
    centred, nearest = z - z.mean(axis=0), []
    for rows, distance in _distances(centred[which], centred):
        distance[np.arange(len(distance)), which[rows]] = np.inf
        nearest.append(distance.min(axis=1))
    return float(np.median(np.concatenate(nearest)))


def _distances(x: Float, y: Float) -> Iterator[tuple[slice, Float]]:
    """Euclidean distances of some rows at a time to all of the others, with which rows these are."""
    of_x, of_y = np.vecdot(x, x), np.vecdot(y, y)
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        squares = of_x[rows, None] + of_y - 2 * x[rows] @ y.T
        yield rows, np.sqrt(np.maximum(squares, 0))
