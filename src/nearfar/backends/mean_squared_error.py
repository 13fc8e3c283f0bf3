"""Mean of squared residuals."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

Array = NDArray[np.floating[Any]]


class MeanSquaredError(BaseEstimator):
    """Mean square of everything that an encoder gives for a clip: the reconstruction error of an autoencoder.

    Nothing is learnt but the number of dimensions.

    Attributes
    ----------
    dim_ : int
    """

    def fit(
        self,
        X: Array,
        domain: NDArray[np.str_],
        attributes: NDArray[np.str_] | None = None,  # noqa: ARG002  # of the contract
    ) -> Self:
        """Take note of the dimensions: X is (n_clips, rows, dim), a list of (rows, dim), or (n_clips, dim)."""
        check_consistent_length(X, domain)
        dims = [check_array(np.atleast_2d(x)).shape[-1] for x in X]
        self.dim_ = int(dims[0])
        return self

    def anomaly_score(self, X: Array) -> NDArray[np.float64]:
        """Mean squares: X as for ``fit``, to (n_clips,).

        Raises
        ------
        ValueError
            If the residuals have not the dimensions of those that it was fitted on.
        """
        check_is_fitted(self)
        return np.array([self._score(check_array(np.atleast_2d(x))) for x in X])

    def _score(self, residuals: Array) -> float:
        if residuals.shape[-1] != self.dim_:
            raise ValueError(f"X has {residuals.shape[-1]} dimensions; it was fitted with {self.dim_}")
        return float(np.mean(residuals**2, dtype=np.float64))
