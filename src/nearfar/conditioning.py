"""What is done to embeddings between pooling and back end, beside standardization.

Both are scikit-learn transformers that are fitted to the embeddings of the normal clips, in double precision,
by one singular value decomposition. Signs are scikit-learn's: of each component the largest loading is positive.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[np.floating[Any]]


class PrincipalComponents(TransformerMixin, BaseEstimator):
    """Coordinates along the directions in which the normal clips vary most.

    Parameters
    ----------
    components : int or None
        How many; ``None``: all that the clips span, which n clips do in at most n - 1 dimensions around their
        mean. A direction that they do not span is an accident of rounding, so it cannot be asked for.

    Attributes
    ----------
    mean_ : (dim,) array
    components_ : (n_components, dim) array
        Unit vectors, the largest variance first.
    explained_variance_ : (n_components,) array
        Variance of the normal clips along each.
    """

    def __init__(self, components: int | None = None) -> None:
        self.components = components

    def fit(self, X: Array, y: None = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Learn directions: X is (n_clips, dim).

        Raises
        ------
        ValueError
            If the clips do not span that many dimensions, or none.
        """
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if not np.ptp(X, axis=0).any():
            raise ValueError(
                f"{len(X)} normal clips of {X.shape[1]} dimensions do not differ; are they copies of one recording?"
            )
        pca = PCA(svd_solver="full").fit(X)
        spanned = _spanned(pca.singular_values_, X.shape)
        n = spanned if self.components is None else self.components
        if not 1 <= n <= spanned:
            raise ValueError(
                f"components={self.components}, but {len(X)} normal clips of {X.shape[1]} dimensions span "
                f"{spanned} around their mean (n clips at most n - 1), and the variance of any further one is "
                f"0; it must be between 1 and {spanned}"
            )
        self.mean_ = pca.mean_
        self.components_ = np.ascontiguousarray(pca.components_[:n])  # as a file has it: products round alike
        self.explained_variance_ = pca.explained_variance_[:n]
        return self

    def transform(self, X: Array) -> NDArray[np.float64]:
        """(n_clips, dim) to (n_clips, n_components)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return (X - self.mean_) @ self.components_.T


class Whitening(PrincipalComponents):
    """Principal components, each divided by the standard deviation of the normal clips along it."""

    def transform(self, X: Array) -> NDArray[np.float64]:
        """(n_clips, dim) to (n_clips, n_components), for the normal clips of mean 0 and variance 1."""
        return super().transform(X) / np.sqrt(self.explained_variance_)


def _spanned(singular_values: Array, shape: tuple[int, ...]) -> int:
    """The rank of centred clips: as ``matrix_rank`` has it, but below n whatever rounding left of their sum."""
    tolerance = singular_values[0] * max(shape) * np.finfo(np.float64).eps
    return min(int((singular_values > tolerance).sum()), shape[0] - 1)
