"""Mahalanobis distance of reconstruction residuals: the second score of the official DCASE baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from nearfar.backends.normal_model import Array, Float, Index, NormalClips, RowModel, Text
from nearfar.backends.terms import Quadratic, Terms


class SelectiveMahalanobis(RowModel):
    r"""Squared Mahalanobis length of a clip's residual rows; the smallest over the domains.

    There are two ways to make one number from the N rows D of a clip. The official code averages all entries of the
    N x N matrix :math:`D P D^T`, where P is the inverse covariance. That equals :math:`\bar d^T P \bar d` of the
    mean row (``reduction="clip_mean"``), which needs one product with a vector and no N x N matrix. It is *not* the
    mean of the rows' own lengths (``reduction="per_frame"``), as textbooks would suggest.

    Parameters
    ----------
    reduction : {"clip_mean", "per_frame"}
    batch_size : int or None
        Number of vectors in a batch when the covariances are computed. The official code subtracts from the rows
        the mean of their domain *in their batch* (256 vectors, shuffled). ``None`` subtracts the mean of the whole
        domain.
    rows_per_vector : int
        Number of consecutive rows that form a vector and stay together in a batch; 5 in the official code. As
        there, covariances are divided by the number of *vectors* minus one. That is a factor common to all domains.
    sample_share : float
        Share of the vectors that the covariances are computed from. The official code uses its training part, 0.9.
    shrinkage : float
        Between 0 (none, as in the official code) and 1. Share of a multiple of the identity in each covariance.
    random_state : int
        Seed of the shuffling.

    Attributes
    ----------
    precisions_ : (n_domains, dim, dim) array
        The inverse covariances.

    Raises
    ------
    ValueError
        By ``fit``, if an option is out of its range, if the sample misses a domain, or if a covariance is singular.

    References
    ----------
    .. [1] N. Harada et al., "First-shot anomaly sound detection for machine condition monitoring: A domain
       generalization baseline," Proc. EUSIPCO, 2023, pp. 191-195.

    Examples
    --------
    Residuals that cancel each other out over time have a mean of zero. So they score 0 by their mean row, but not
    row by row.

    >>> import numpy as np
    >>> from nearfar.backends.selective_mahalanobis import SelectiveMahalanobis
    >>> X = np.random.default_rng(0).normal(size=(20, 50, 2))  # 20 clips of 50 rows
    >>> domain = np.array(["source"] * 20)
    >>> alternating = [[[3.0, 0.0], [-3.0, 0.0]]]
    >>> SelectiveMahalanobis("clip_mean").fit(X, domain).anomaly_score(alternating)
    array([0.])
    >>> SelectiveMahalanobis("per_frame").fit(X, domain).anomaly_score(alternating).round(1)
    array([8.7])
    """

    def __init__(
        self,
        reduction: Literal["clip_mean", "per_frame"] = "clip_mean",
        *,
        batch_size: int | None = None,
        rows_per_vector: int = 1,
        sample_share: float = 1.0,
        shrinkage: float = 0.0,
        random_state: int = 0,
    ) -> None:
        self.reduction = reduction
        self.batch_size = batch_size
        self.rows_per_vector = rows_per_vector
        self.sample_share = sample_share
        self.shrinkage = shrinkage
        self.random_state = random_state

    @property
    def _dim(self) -> int:
        return self.precisions_.shape[-1]

    def _learn(self, clips: NormalClips) -> None:
        X: list[Array] = clips.X
        if odd := [len(x) for x in X if len(x) % self.rows_per_vector]:
            raise ValueError(
                f"rows_per_vector={self.rows_per_vector}: a clip has {odd[0]} rows, which is not a multiple of it"
            )
        vectors = np.concatenate([x.reshape(-1, self.rows_per_vector, x.shape[-1]) for x in X])
        of_vector = np.repeat(clips.domain, [len(x) // self.rows_per_vector for x in X])
        order = np.random.default_rng(self.random_state).permutation(len(vectors))
        order = order[: max(1, int(self.sample_share * len(order)))]
        if missed := set(clips.counts) - set(of_vector[order].tolist()):
            raise ValueError(
                f"sample_share={self.sample_share}: the sample has no vector of domain {sorted(missed)[0]!r}; "
                "raise it, or give more clips of that domain"
            )
        self.precisions_ = np.stack([self._precision(vectors, order, of_vector, d) for d in clips.counts])

    def _check_options(self) -> None:
        if self.reduction not in ("clip_mean", "per_frame"):
            raise ValueError(f"reduction={self.reduction!r}: must be 'clip_mean' or 'per_frame'")
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage={self.shrinkage}: must be between 0 and 1")
        if not 0 < self.sample_share <= 1:
            raise ValueError(f"sample_share={self.sample_share}: must be above 0 and at most 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1, or None for whole domains")
        if self.rows_per_vector < 1:
            raise ValueError(f"rows_per_vector={self.rows_per_vector}: must be at least 1")

    def _precision(self, vectors: Array, order: Index, of_vector: Text, domain: str) -> Array:
        """The inverse covariance of one domain's rows, which are centred in each batch."""
        dim = vectors.shape[-1]
        scatter, n_vectors, n_batches = np.zeros((dim, dim)), 0, 0
        size = self.batch_size or len(order)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            rows = vectors[batch[of_vector[batch] == domain]].reshape(-1, dim).astype(np.float64)
            if len(rows):
                rows -= rows.mean(axis=0)
                scatter += rows.T @ rows
                n_vectors += len(rows) // self.rows_per_vector
                n_batches += 1
        covariance = scatter / max(1, n_vectors - 1)
        covariance = (1 - self.shrinkage) * covariance + self.shrinkage * np.trace(covariance) / dim * np.eye(
            dim
        )
        return self._inverse(covariance, domain, n_vectors * self.rows_per_vector, n_batches)

    def _inverse(self, covariance: Array, domain: str, n_rows: int, n_batches: int) -> Array:
        dim = len(covariance)
        if np.linalg.matrix_rank(covariance, hermitian=True) < dim:
            raise ValueError(
                f"the covariance of domain {domain!r} is singular: {dim} dimensions, but {n_rows} rows centred "
                f"in {n_batches} batches; give more normal clips, or set shrinkage (now {self.shrinkage}) to "
                "0.1, say"
            )
        return np.linalg.inv(covariance)

    def _score(self, X: Sequence[Array]) -> Float:
        return np.array([self._score_of(rows) for rows in X])

    def _score_of(self, rows: Array) -> float:
        return float(self._by_domain(rows).min())

    def _by_domain(self, rows: Array) -> Float:
        if self.reduction == "clip_mean":
            rows = rows.mean(axis=0, keepdims=True, dtype=np.float64)
        return np.asarray(np.einsum("mrd,rd->mr", rows @ self.precisions_, rows).mean(axis=1))

    def _terms(self, X: Sequence[Array]) -> Terms:
        rows, zero = X[0], np.zeros(self._dim)
        precision = self.precisions_[self._by_domain(rows).argmin()]
        if self.reduction == "clip_mean":
            return Terms((Quadratic(zero, precision, rows="mean"),))
        return Terms((Quadratic(zero, precision, 1.0 / len(rows), rows="sum"),))
