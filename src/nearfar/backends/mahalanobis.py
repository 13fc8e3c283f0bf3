"""Mahalanobis distance to the nearest domain, under one shrunk covariance."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.covariance import ledoit_wolf
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

Array = NDArray[np.floating[Any]]


class Mahalanobis(BaseEstimator):
    """Squared Mahalanobis distance to the nearest domain mean.

    Each domain has its mean; all share the covariance of the clips around their own domain's mean, shrunk
    towards a multiple of the identity as far as Ledoit and Wolf's formula says, so that it can be inverted
    with fewer clips than dimensions. Standardize first where dimensions differ in scale.

    Attributes
    ----------
    means_ : (n_domains, dim) array
    precision_ : (dim, dim) array
    shrinkage_ : float
        Between 0 (the sample covariance) and 1 (a multiple of the identity).

    References
    ----------
    .. [1] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices,"
       Journal of Multivariate Analysis 88, 2004.
    """

    def fit(
        self,
        X: Array,
        domain: NDArray[np.str_],
        attributes: NDArray[np.str_] | None = None,  # noqa: ARG002  # of the contract; domains suffice here
    ) -> Self:
        """Learn from normal clips.

        Parameters
        ----------
        X : (n_clips, dim) array
        domain : (n_clips,) array of str
        attributes : ignored

        Raises
        ------
        ValueError
            If there are fewer clips than domains plus two, or all clips of each domain are equal.
        """
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        check_consistent_length(X, domain)
        domains, index = np.unique(domain, return_inverse=True)
        if len(X) < len(domains) + 2:  # of two residuals one is the other's negative: nothing to shrink by
            raise ValueError(
                f"{len(X)} normal clips in {len(domains)} domains: a covariance around the domains' means needs at "
                f"least {len(domains) + 2}; give more normal clips"
            )
        self.means_ = np.stack([X[index == i].mean(axis=0) for i in range(len(domains))])
        centred = X - self.means_[index]
        if not centred.any():
            raise ValueError(
                f"the {len(X)} normal clips do not differ within their domains, so there is no covariance; "
                "are they copies of one recording?"
            )
        covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
        self.precision_ = np.linalg.inv(covariance)
        self.shrinkage_ = float(shrinkage)
        return self

    def anomaly_score(self, X: Array) -> NDArray[np.float64]:
        """Squared distances: (n_clips, dim) to (n_clips,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        residuals = X - self.means_[:, None]  # (n_domains, n_clips, dim)
        return np.einsum("mnd,mnd->mn", residuals @ self.precision_, residuals).min(axis=0)
