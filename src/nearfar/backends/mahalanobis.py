"""Mahalanobis distance to the nearest domain, under one shrunk covariance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from nearfar.backends.normal_model import NormalClips, NormalModel


class Mahalanobis(NormalModel):
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

    MIN_CLIPS: ClassVar[int] = 2

    def _learn(self, clips: NormalClips) -> None:
        X, domains, index = clips.X, clips.counts, clips.domain_number
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

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        residuals = X - self.means_[:, None]  # (n_domains, n_clips, dim)
        return np.einsum("mnd,mnd->mn", residuals @ self.precision_, residuals).min(axis=0)
