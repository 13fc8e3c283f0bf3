"""Mahalanobis distance to the nearest domain, with one shrunk covariance."""

from __future__ import annotations

from nearfar.backends.normal_model import Float
from nearfar.backends.shared_covariance import SharedCovariance
from nearfar.backends.terms import Terms


class Mahalanobis(SharedCovariance):
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

    def _score(self, X: Float) -> Float:
        return self._distances(X, self.means_).min(axis=0)

    def _terms(self, X: Float) -> Terms:
        return self._terms_of(self.means_[self._distances(X, self.means_)[:, 0].argmin()])
