"""Nearest neighbours, exact and in bounded memory.

Distances are squared Euclidean distances. The search has two steps. First, a Gram matrix, ``|q|^2 + |r|^2 - 2 q
r``, finds every pair that could be among the nearest, with a margin for its rounding errors. Then the distances of
these few pairs are computed from differences; equal ones are ordered by index. This has four consequences:

* Neighbours and distances depend neither on which clips are scored together nor on the number of threads.
* The distance between a clip and its copy is exactly 0.
* Of two near-duplicates, the nearer one is found.
* Memory does not grow with the number of queries.

A cosine is a distance between vectors of length one: ``1 - cos(q, r) = |q - r|^2 / 2``. Unlike ``1 - cos``, this
keeps its digits when two vectors are nearly equal.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]
Index = NDArray[np.intp]
Metric = Literal["euclidean", "cosine"]

METRICS = ("euclidean", "cosine")
BLOCK = 2**20  # numbers in a temporary array, 8 MB; some six of them are alive at once


def unit(X: Array, *, out: Float | None = None) -> Float:
    """Scale vectors to length one: (..., dim) to the same shape.

    Raises
    ------
    ValueError
        If a vector is all zeros or not finite, so that it has no direction.
    """
    return np.divide(X, _lengths(X)[..., None], out=out)


def _lengths(X: Array) -> Float:
    lengths: Float = np.sqrt(np.einsum("...d,...d->...", X, X))
    if len(bad := np.argwhere(~(np.isfinite(lengths) & (lengths > 0)))):
        raise ValueError(
            f"X[{', '.join(map(str, bad[0]))}] has length {lengths[tuple(bad[0])]:g}, so it has no direction and "
            f"no cosine ({len(bad)} such vectors); is a recording silent?"
        )
    return lengths


def prepared(X: Array, metric: Metric) -> Float:
    """The vectors that ``nearest`` compares for a metric: (..., dim) to the same shape."""
    return unit(X) if metric == "cosine" else X.astype(np.float64, copy=False)


def bank(X: Array, domain: NDArray[np.str_], metric: Metric) -> tuple[Float, Index]:
    """The references, domain by domain, and their number in each domain. Makes one copy of X.

    Parameters
    ----------
    X : (n_clips, dim) array
    domain : (n_clips,) array of str
    metric : {"euclidean", "cosine"}

    Returns
    -------
    references : (n_clips, dim) array
        Prepared for the metric. The domains are in the order of ``np.unique(domain)``.
    counts : (n_domains,) array of int
    """
    order = np.argsort(domain, kind="stable")
    references: Float = X[order].astype(np.float64, copy=False)
    if metric == "cosine":
        references /= _lengths(X)[order, None]
    return references, np.unique(domain, return_counts=True)[1]


def of_each_domain(counts: Index) -> list[slice]:
    """The slice of each domain in a bank."""
    ends = np.cumsum(counts).tolist()
    return [slice(end - count, end) for end, count in zip(ends, np.atleast_1d(counts).tolist(), strict=True)]


def distances(squared: Float, metric: Metric) -> Float:
    """Distances of the metric, from squared Euclidean ones between prepared vectors; 1 - cos for the cosine."""
    return squared / 2 if metric == "cosine" else np.sqrt(squared)


def nearest(
    queries: Float, references: Float, k: int, *, offsets: Float | None = None
) -> tuple[Index, Float]:
    """The k nearest references of each query.

    Parameters
    ----------
    queries : (n, dim) array
    references : (m, dim) array
    k : int
        Between 1 and m.
    offsets : (m,) array or None
        Added to the squared distances of each reference before the smallest are searched.

    Returns
    -------
    indices : (n, k) array
        The nearest first. Of equally near references, the first comes first.
    squared : (n, k) array
        Squared distances, without offsets.

    Raises
    ------
    ValueError
        If squares overflow.
    """
    return _nearest(queries, references, k, offsets, others=False)


def nearest_others(references: Float, k: int) -> tuple[Index, Float]:
    """The k nearest *other* references of each reference: as ``nearest``, but none is its own neighbour.

    A copy at another index is a neighbour, at distance 0.
    """
    return _nearest(references, references, k, None, others=True)


def _nearest(
    queries: Float, references: Float, k: int, offsets: Float | None, *, others: bool
) -> tuple[Index, Float]:
    offsets = np.zeros(len(references)) if offsets is None else offsets
    lengths = _squares(references)
    indices = np.empty((len(queries), k), np.intp)
    squared = np.empty((len(queries), k))
    size = max(1, BLOCK // len(references))
    for start in range(0, len(queries), size):
        some = slice(start, start + size)
        own = np.arange(len(queries))[some] if others else None
        rows, columns = _candidates(queries[some], references, lengths, k, offsets, own)
        exact = _square_distances(queries[some], references, rows, columns)
        best = _first(rows, columns, exact + offsets[columns], k)
        indices[some], squared[some] = columns[best], exact[best]
    return indices, squared


def _squares(X: Float) -> Float:
    squares = np.einsum("nd,nd->n", X, X)
    if not np.isfinite(squares).all():
        raise ValueError(f"X has numbers up to {np.abs(X).max():g}, whose squares overflow; scale it down")
    return squares


def _candidates(
    queries: Float, references: Float, lengths: Float, k: int, offsets: Float, own: Index | None
) -> tuple[Index, Index]:
    """All pairs that can be among the k nearest, by rows: at least k for each query.

    Rounding moves each of the two squares and the product by at most ``dim eps / 2`` of ``|q|^2 + |r|^2``. It moves
    the differences that decide in the end by as much. Twice that also covers the few roundings of the sums.
    """
    upper = _squares(queries)[:, None] + lengths
    lower = upper - 2 * (queries @ references.T)
    lower += offsets
    upper += np.abs(offsets)
    upper *= 2 * (references.shape[1] + 4) * np.finfo(np.float64).eps  # how far rounding can have moved it
    lower -= upper
    upper *= 2
    upper += lower
    if own is not None:
        lower[np.arange(len(own)), own] = upper[np.arange(len(own)), own] = np.inf
    upper.partition(k - 1, axis=1)
    rows, columns = np.nonzero(lower <= upper[:, k - 1 : k])
    return rows, columns


def _square_distances(queries: Float, references: Float, rows: Index, columns: Index) -> Float:
    squared = np.empty(len(rows))
    size = max(1, BLOCK // queries.shape[1])
    for start in range(0, len(rows), size):
        some = slice(start, start + size)
        difference = queries[rows[some]] - references[columns[some]]
        squared[some] = np.einsum("nd,nd->n", difference, difference)
    return squared


def _first(rows: Index, columns: Index, values: Float, k: int) -> Index:
    """The positions of the k smallest values of each row: (n_rows, k)."""
    order = np.lexsort((columns, values, rows))
    starts = np.flatnonzero(np.diff(rows, prepend=-1))  # rows are sorted, and each occurs
    return order[starts[:, None] + np.arange(k)]
