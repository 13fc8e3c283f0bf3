"""Mahalanobis distance to the nearest domain, with one shrunk covariance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.covariance import ledoit_wolf

from nearfar.backends.normal_model import Float, NormalClips, NormalModel

ROUNDING = 8 * np.finfo(np.float64).eps  # relative: a mean of equal numbers is not quite equal to them


class Mahalanobis(NormalModel):
    """Squared Mahalanobis distance to the nearest domain mean.

    Each domain has its own mean. All domains share one covariance: that of the clips around the mean of their
    domain. It is shrunk towards a multiple of the identity, by as much as the formula of Ledoit and Wolf says [1]_.
    So it can be inverted even with fewer clips than dimensions. Standardize the embeddings first if their
    dimensions differ in scale.

    Attributes
    ----------
    means_ : (n_domains, dim) array
    precision_ : (dim, dim) array
        The inverse covariance.
    shrinkage_ : float
        Between 0 (the sample covariance) and 1 (a multiple of the identity).

    Raises
    ------
    ValueError
        By ``fit``, if there are fewer clips than domains plus two, or if the clips of each domain are all equal.

    References
    ----------
    .. [1] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices,"
       Journal of Multivariate Analysis 88, 2004.

    Examples
    --------
    The normal clips vary ten times as much in the first dimension as in the second. So the same step away from
    their mean is normal in the first dimension and anomalous in the second.

    >>> import numpy as np
    >>> from nearfar.backends.mahalanobis import Mahalanobis
    >>> X = np.random.default_rng(0).normal(size=(100, 2)) * [10, 1]
    >>> model = Mahalanobis().fit(X, domain=np.array(["source"] * 100))
    >>> model.anomaly_score([[5, 0], [0, 5]]).round(1)
    array([0.4, 9.6])
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
        centred[np.abs(centred) <= ROUNDING * np.abs(X).max(axis=0)] = 0.0  # where clips are equal
        if not centred.any():
            raise ValueError(
                f"the {len(X)} normal clips do not differ within their domains, so there is no covariance; "
                "are they copies of one recording?"
            )
        covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
        try:
            self.precision_ = np.linalg.inv(covariance)
        except np.linalg.LinAlgError as error:
            raise FloatingPointError(f"the covariance of {len(X)} normal clips cannot be inverted") from error
        self.shrinkage_ = float(shrinkage)

    def _score(self, X: Float) -> Float:
        residuals = X - self.means_[:, None]  # (n_domains, n_clips, dim)
        return np.einsum("mnd,mnd->mn", residuals @ self.precision_, residuals).min(axis=0)
