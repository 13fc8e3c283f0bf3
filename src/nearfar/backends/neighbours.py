"""Nearest neighbours, exact and in bounded memory.

Distances are squared Euclidean distances. The search has two steps. First, a Gram matrix, ``|q|^2 + |r|^2 - 2 q
r``, finds every pair that could be among the nearest, with a margin for its rounding errors. Then the distances of
these few pairs are computed from differences; equal ones are ordered by index. This has four consequences:

* Neighbours and distances depend neither on which clips are scored together nor on the number of threads.
* The distance between a clip and its copy is exactly 0.
* Of two near-duplicates, the nearer one is found.
* Memory does not grow with the number of queries.

Among the references themselves (``nearest_others``) each pair is looked at once, for both of them, and the Gram
matrix is in single precision, of centred vectors. Where that is too coarse, it is repeated in double precision. In
large banks of many dimensions, the principal components are looked at first: where distances differ much, they
leave few pairs.

A cosine is a distance between vectors of length one: ``1 - cos(q, r) = |q - r|^2 / 2``. Unlike ``1 - cos``, this
keeps its digits when two vectors are nearly equal.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]
Index = NDArray[np.intp]
Metric = Literal["euclidean", "cosine"]
Rescaled = Callable[[Float, Any], Float]  # squared distances, and which references they are of

METRICS = ("euclidean", "cosine")
BLOCK = 2**20  # numbers in a temporary array, 8 MB; some six of them are alive at once
# of the pairs of two blocks; if more could be among the nearest, single precision is too coarse
COARSE = 1 / 32
MANY = 512  # dimensions, for which a first look at two blocks by principal components is worth its time
SHARE = 1 / 4  # of the components, for a first look
FEW = 1 / 200  # of the pairs of two blocks, that a first look may leave: for more, products are faster
PATIENCE = 4  # first looks in vain, for each block, more than of others, before there are no more


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


def require_metric(metric: str) -> None:
    """Raise a ``ValueError`` if this is none of ``METRICS``."""
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: must be 'euclidean' or 'cosine'")


def require_normalization(normalization: str) -> None:
    """Raise a ``ValueError`` if distances cannot be normalized by local density in this way."""
    if normalization not in ("ratio", "difference"):
        raise ValueError(f"normalization={normalization!r}: must be 'ratio' or 'difference'")


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
    queries: Float, references: Float, k: int, *, rescaled: Rescaled | None = None
) -> tuple[Index, Float]:
    """The k nearest references of each query.

    Parameters
    ----------
    queries : (n, dim) array
    references : (m, dim) array
    k : int
        Between 1 and m.
    rescaled : callable or None
        What is compared in place of squared distances: ``rescaled(squared, which)``, where ``which`` are the
        references, as an index of the last axis of ``squared``. It must not fall where a squared distance rises.

    Returns
    -------
    indices : (n, k) array
        The nearest first. Of equally near references, the first comes first.
    squared : (n, k) array
        Squared distances.

    Raises
    ------
    ValueError
        If squares overflow.
    """
    compared = rescaled or (lambda squared, _: squared)
    lengths = _squares(references)
    indices = np.empty((len(queries), k), np.intp)
    squared = np.empty((len(queries), k))
    size = max(1, BLOCK // len(references))
    for start in range(0, len(queries), size):
        some = slice(start, start + size)
        rows, columns = _candidates(queries[some], references, lengths, k, compared)
        exact = _square_distances(queries[some], references, rows, columns)
        best = _first(rows, columns, compared(exact, columns), k)
        indices[some], squared[some] = columns[best].reshape(-1, k), exact[best].reshape(-1, k)
    return indices, squared


def smallest(queries: Float, references: Float, rescaled: Rescaled) -> Float:
    """The smallest rescaled distance of each query to any reference: (n,). See ``nearest``."""
    indices, squared = nearest(queries, references, 1, rescaled=rescaled)
    return rescaled(squared[:, 0], indices[:, 0])


def nearest_others(references: Float, k: int) -> tuple[Index, Float]:
    """The k nearest *other* references of each reference: as ``nearest``, but none is its own neighbour.

    A copy at another index is a neighbour, at distance 0. Each pair is looked at once, so this takes half as many
    products as a comparison of all with all, and in single precision. ``k`` is below the number of references.

    The time grows with the square of the number of references. The memory is that of a copy in single precision, of
    some blocks of about 1,450 x 1,450 numbers (or 2k x 2k, if that is more), and of what is returned.
    """
    _squares(references)  # raises if they overflow
    side = max(isqrt(2 * BLOCK), 2 * k)
    blocks = [slice(start, start + side) for start in range(0, len(references), side)]
    search = _Others(references, k, patience=PATIENCE * len(blocks))
    for step in range(len(blocks)):  # so that the bounds of all fall alike
        for some, others in zip(blocks[: len(blocks) - step], blocks[step:], strict=True):
            search.compare(some, others)
    return search.found()


class _Others:
    """The search of ``nearest_others``: what it knows after the blocks that were compared.

    Attributes
    ----------
    shift, exponent : (dim,) array, int
        Vectors are compared after ``shift`` is taken off, divided by two to the power ``exponent``: none of their
        numbers is above 1 then. A difference of two vectors keeps all its digits, whatever they have in common.
    coarse, slack : arrays
        ``_terms`` of all references in single precision.
    reduced : array or None
        For a first look: ``_terms`` of the principal components of each reference, and of the length of the rest.
        Their distances are lower bounds, because two rests differ at least as much as their lengths. ``None``: a
        first look is not worth its time.
    patience : int
        How many more first looks may leave many pairs than few, before there are no more.
    uppers : (n, k) array
        For each reference the k smallest upper bounds of its distances to others so far, in order.
    pairs : list of (rows, columns, lower bounds)
        All that can be among the nearest so far; a few more, where bounds have fallen since.
    held : int
        How many pairs these are.
    """

    def __init__(self, references: Float, k: int, *, patience: int) -> None:
        n, dim = references.shape
        self.references, self.k = references, k
        self.shift = references.mean(axis=0)
        largest = max(np.abs(references[rows] - self.shift).max() for rows in _rows(references))
        self.exponent = int(np.frexp(largest)[1])
        self.coarse, self.slack = np.empty((n, dim + 2), np.float32), np.empty(n)
        for rows in _rows(references):
            self.coarse[rows], self.slack[rows] = _terms(self._centred(rows), np.float32)
        self.reduced = self._reduce() if dim >= MANY and n >= 8 * dim else None
        self.patience = patience
        self.uppers = np.full((n, k), np.inf)
        self.pairs: list[tuple[Index, Index, Float]] = []
        self.held = 0

    def _centred(self, rows: slice) -> Float:
        return np.ldexp(self.references[rows] - self.shift, -self.exponent)

    def _reduce(self) -> Array:
        n, dim = self.references.shape
        some = self._centred(slice(None, None, max(1, n // (4 * dim))))
        axes = np.linalg.eigh(some.T @ some)[1][:, -int(SHARE * dim) :]
        reduced = np.empty((n, axes.shape[1] + 3), np.float32)
        for rows in _rows(self.references):
            z = self._centred(rows)
            components = z @ axes
            rest = np.linalg.norm(z - components @ axes.T, axis=1, keepdims=True)
            reduced[rows], _ = _terms(np.hstack([components, rest]), np.float32)
        return reduced

    def compare(self, some: slice, others: slice) -> None:
        """Learn from all pairs of two blocks of references; a block with itself comes first."""
        if self.reduced is not None and some != others and self._is_seen_at_once(self.reduced, some, others):
            return
        slack = self.slack[some], self.slack[others]
        lower = _opposite(self.coarse[some]) @ self.coarse[others].T
        pairs = self._within(lower, slack, some, others)
        if len(pairs[0]) > COARSE * lower.size + 4 * self.k * sum(lower.shape):
            (left, of_left), (right, of_right) = (
                _terms(self._centred(block), np.float64) for block in (some, others)
            )
            slack = of_left, of_right
            lower = _opposite(left) @ right.T
            pairs = self._within(lower, slack, some, others)
        rows, columns, turned = pairs
        bounds = lower[rows, columns].astype(np.float64)
        uppers = bounds + slack[0][rows] + slack[1][columns]
        self._keep(*_turned(rows + some.start, columns + others.start, turned), bounds, uppers)

    def _is_seen_at_once(self, reduced: Array, some: slice, others: slice) -> bool:
        """Whether a first look at two blocks leaves few pairs; if so, learn from these."""
        lower = _opposite(reduced[some]) @ reduced[others].T
        rows, columns, turned = self._within(lower, None, some, others)
        is_enough = len(rows) <= FEW * lower.size
        self.patience += 1 if is_enough else -1
        if self.patience < 0:
            self.reduced = None
        if is_enough:
            rows, columns = _turned(rows + some.start, columns + others.start, turned)
            exact = _square_distances(self.references, self.references, rows, columns)
            scaled = np.ldexp(exact, -2 * self.exponent)
            self._keep(rows, columns, scaled, scaled)
        return is_enough

    def _within(
        self, lower: Array, slack: tuple[Float, Float] | None, some: slice, others: slice
    ) -> tuple[Index, Index, int]:
        """The pairs of two blocks that can be among the nearest, and how many of them are so for the first block.

        The others are so for the second. ``slack`` is needed only for a block with itself.
        """
        of_rows = self.uppers[some, -1]
        if some == others and slack is not None:
            np.fill_diagonal(lower, np.inf)  # none is its own neighbour
            if self.k < len(lower):
                upper = lower + slack[0][:, None] + slack[1]
                of_rows = np.partition(upper, self.k - 1, axis=1)[:, self.k - 1]
        rows, columns = _at_most(lower, of_rows[:, None])
        if some == others:
            return rows, columns, len(rows)
        others_rows, others_columns = _at_most(lower, self.uppers[others, -1])
        return np.append(rows, others_rows), np.append(columns, others_columns), len(rows)

    def _keep(self, rows: Index, columns: Index, lower: Float, upper: Float) -> None:
        """Take up pairs, each a new one, and lower the bounds of their rows."""
        self.pairs.append((rows, columns, lower))
        self.held += len(rows)
        order = np.lexsort((upper, rows))
        places, starts = _places(rows[order])
        among_first = places < self.k
        touched = rows[order][starts]
        new = np.full((len(touched), self.k), np.inf)
        number = np.cumsum(places == 0) - 1
        new[number[among_first], places[among_first]] = upper[order][among_first]
        both = np.sort(np.hstack([self.uppers[touched], new]), axis=1)
        self.uppers[touched] = both[:, : self.k]
        if self.held > self._most:
            self._tidy()

    @property
    def _most(self) -> int:
        """How many pairs are held before they are looked through."""
        return max(BLOCK, 4 * self.uppers.size)

    def _tidy(self) -> tuple[Index, Index]:
        """Let go the pairs that can no longer be among the nearest."""
        rows, columns, lower = (np.concatenate(parts) for parts in zip(*self.pairs, strict=True))
        left = lower <= self.uppers[rows, -1]
        rows, columns, lower = rows[left], columns[left], lower[left]
        if len(rows) > self._most // 2:  # many are equally far: of those, the first are taken
            exact = _square_distances(self.references, self.references, rows, columns)
            best = _first(rows, columns, exact, self.k)
            rows, columns, lower = rows[best], columns[best], lower[best]
        self.pairs, self.held = [(rows, columns, lower)], len(rows)
        return rows, columns

    def found(self) -> tuple[Index, Float]:
        """Indices and squared distances of the nearest: (n, k) each."""
        rows, columns = self._tidy()
        exact = _square_distances(self.references, self.references, rows, columns)
        best = _first(rows, columns, exact, self.k)
        return columns[best].reshape(-1, self.k), exact[best].reshape(-1, self.k)


def _terms(z: Float, dtype: type[np.floating[Any]]) -> tuple[Array, Float]:
    """Of vectors: ``[z, 1, |z|^2]``, whose products are squared distances, and their slack.

    The squares are lowered by more than all rounding can add, so each product with ``_opposite`` terms is a lower
    bound; with the slack of both, it is an upper bound. A product of ``dim + 2`` terms is off by at most as many
    roundings of ``2 |z|^2 + 2 |y|^2``, and z itself by one; the distances that decide in the end are off by ``dim``
    roundings in double precision. Eight roundings more are for the sums.
    """
    squares, dim = np.einsum("nd,nd->n", z, z), z.shape[1]
    of_square = (dim + 8) * (float(np.finfo(dtype).eps) + 4 * float(np.finfo(np.float64).eps))
    error = of_square * squares + (dim + 8) * float(np.finfo(dtype).tiny)
    terms = np.empty((len(z), dim + 2), dtype)
    terms[:, :dim], terms[:, dim], terms[:, dim + 1] = z, 1, squares - error
    return terms, 2 * error


def _opposite(terms: Array) -> Array:
    """The other factor of products that are squared distances: ``[-2 z, |z|^2, 1]``."""
    turned = -2 * terms
    turned[:, -2], turned[:, -1] = terms[:, -1], 1
    return turned


def _turned(rows: Index, columns: Index, first: int) -> tuple[Index, Index]:
    """Pairs whose row is the reference that the other can be near to: all after the first are turned around."""
    return np.append(rows[:first], columns[first:]), np.append(columns[:first], rows[first:])


def _at_most(values: Array, limits: Float) -> tuple[Index, Index]:
    """Rows and columns of the values that are not above a limit, a few; limits broadcast against the values."""
    if values.dtype == np.float32:
        with np.errstate(over="ignore"):
            limits = np.nextafter(limits.astype(np.float32), np.float32(np.inf))
    return np.divmod(np.flatnonzero(values <= limits), values.shape[1])


def _rows(X: Array) -> list[slice]:
    """Blocks of rows of bounded size."""
    size = max(1, BLOCK // X.shape[1])
    return [slice(start, start + size) for start in range(0, len(X), size)]


def _squares(X: Float) -> Float:
    squares = np.einsum("nd,nd->n", X, X)
    if not np.isfinite(squares).all():
        raise ValueError(f"X has numbers up to {np.abs(X).max():g}, whose squares overflow; scale it down")
    return squares


def _candidates(
    queries: Float, references: Float, lengths: Float, k: int, compared: Rescaled
) -> tuple[Index, Index]:
    """All pairs that can be among the k nearest, by rows: at least k for each query.

    Rounding moves each of the two squares and the product by at most ``dim eps / 2`` of ``|q|^2 + |r|^2``. It moves
    the differences that decide in the end by as much. Twice that also covers the few roundings of the sums.
    """
    upper = _squares(queries)[:, None] + lengths
    lower = upper - 2 * (queries @ references.T)
    upper *= 2 * (references.shape[1] + 4) * np.finfo(np.float64).eps  # how far rounding can have moved it
    lower -= upper
    upper *= 2
    upper += lower
    np.maximum(lower, 0, out=lower)
    lower, upper = compared(lower, slice(None)), compared(upper, slice(None))
    limits = np.partition(upper, k - 1, axis=1)[:, k - 1 : k]
    rows, columns = np.nonzero(lower <= limits)
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
    """The positions of the k smallest values of each row, or of all if there are fewer: row by row, in order."""
    order = np.lexsort((columns, values, rows))
    places, _ = _places(rows[order])
    return order[places < k]


def _places(rows: Index) -> tuple[Index, Index]:
    """Of sorted rows: the place of each entry in its row, from 0; and where each row starts."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(starts, append=len(rows))
    return np.arange(len(rows)) - np.repeat(starts, lengths), starts
