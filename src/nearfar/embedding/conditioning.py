"""Conditioning: what is done to embeddings between pooling and back end.

All classes are scikit-learn transformers. ``PrincipalComponents`` and ``Whitening`` are fitted to the embeddings of
the normal clips, in double precision, by one singular value decomposition. The sign of a component is
scikit-learn's: its largest loading is positive. ``Head`` is not fitted here; an adapter brings what it has learnt.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding.estimators import (
    Transformer,
    checked_for_fit,
    checked_like_fit,
    is_plain_like_fit,
    learnt_by,
    require_fitted,
)
from nearfar.embedding.linear_steps import Step, chained

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]


class Standardize(Transformer):
    """Each dimension minus its mean, divided by its standard deviation.

    It is scikit-learn's ``StandardScaler``, to the bit, and that class fits it. But to transform finite floats, as
    those of a verdict are, scikit-learn need not be loaded. Single precision stays single.

    Attributes
    ----------
    mean_, var_, scale_ : (dim,) arrays
        The scale is the standard deviation; 1 where a dimension is constant.
    n_samples_seen_ : int

    Examples
    --------
    >>> from nearfar.embedding.conditioning import Standardize
    >>> Standardize().fit_transform([[0.0, 10.0], [2.0, 10.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    mean_: Float
    scale_: Float

    def fit(self, X: Any, y: None = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Learn mean and standard deviation of each dimension, of (n_clips, dim).

        Raises
        ------
        ValueError
            If X is no matrix, or a number is infinite.
        """
        from sklearn.preprocessing import StandardScaler  # here, because it takes a second to load

        vars(self).update(learnt_by(StandardScaler().fit(X)))
        return self

    def transform(self, X: Any) -> Array:
        """The standardized embeddings, (n_clips, dim)."""
        require_fitted(self)
        if is_plain_like_fit(self, X) and X.dtype in (np.float32, np.float64):
            standardized: Array = X - self.mean_.astype(X.dtype)
            standardized /= self.scale_.astype(X.dtype)
            return standardized
        from sklearn.preprocessing import StandardScaler  # here, because it takes a second to load

        scaler = StandardScaler()
        vars(scaler).update(learnt_by(self))
        return np.asarray(scaler.transform(X))

    def traced(self, x: Float) -> Step:  # noqa: ARG002  # as of every conditioning
        """The step for one clip, (dim,): see ``tracing``."""
        return Step.scaling(1.0 / self.scale_)


class PrincipalComponents(Transformer):
    """Coordinates along the directions in which the normal clips vary most.

    Parameters
    ----------
    components : int or None
        Number of components. ``None`` takes all dimensions that the clips span. Around their mean, n clips span at
        most n - 1 dimensions. More components are refused, because their directions would only be rounding errors.

    Attributes
    ----------
    mean_ : (dim,) array
    components_ : (n_components, dim) array
        Unit vectors, the largest variance first.
    explained_variance_ : (n_components,) array
        Variance of the normal clips along each component.

    Examples
    --------
    The normal clips vary along one diagonal only. So they have one principal component.

    >>> import numpy as np
    >>> from nearfar.embedding.conditioning import PrincipalComponents
    >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> components = PrincipalComponents().fit(X)
    >>> components.components_.round(3)
    array([[0.707, 0.707]])
    >>> components.transform([[3.0, 3.0]]).round(3)
    array([[2.828]])
    """

    def __init__(self, components: int | None = None) -> None:
        self.components = components

    def fit(self, X: Array, y: None = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Learn the directions.

        Parameters
        ----------
        X : (n_clips, dim) array
        y : None
            Ignored.

        Raises
        ------
        ValueError
            If the clips do not span that many dimensions, or none.
        """
        from sklearn.decomposition import PCA  # here, because it takes a second to load

        X = checked_for_fit(self, X, at_least=2)
        if not np.ptp(X, axis=0).any():
            raise ValueError(
                f"{len(X)} normal clips of {X.shape[1]} dimensions do not differ; are they copies of one recording?"
            )
        pca = PCA(svd_solver="full").fit(X)
        spanned = _count_spanned(pca.singular_values_, X.shape)
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
        """The coordinates: (n_clips, dim) to (n_clips, n_components)."""
        require_fitted(self)
        X = checked_like_fit(self, X)
        return (X - self.mean_) @ self.components_.T

    def traced(self, x: Float) -> Step:  # noqa: ARG002  # others need it
        """The step for one clip, (dim,): see ``linear_steps``."""
        return Step(lambda residual: residual @ self.components_, lambda weights: weights @ self.components_)


class Whitening(PrincipalComponents):
    """Principal components, each divided by the standard deviation of the normal clips along it.

    Examples
    --------
    The normal clips vary ten times as much in the first dimension as in the second. After whitening, they vary
    equally in both.

    >>> import numpy as np
    >>> from nearfar.embedding.conditioning import Whitening
    >>> X = np.array([[10.0, 1.0], [10.0, -1.0], [-10.0, 1.0], [-10.0, -1.0]])
    >>> Whitening().fit_transform(X).std(axis=0, ddof=1).round(3)
    array([1., 1.])
    """

    def transform(self, X: Array) -> NDArray[np.float64]:
        """The whitened coordinates: (n_clips, dim) to (n_clips, n_components).

        Those of the normal clips have mean 0 and variance 1.
        """
        return super().transform(X) / np.sqrt(self.explained_variance_)

    def traced(self, x: Float) -> Step:
        return chained([super().traced(x), Step.scaling(1.0 / np.sqrt(self.explained_variance_))])


class Head(Transformer):
    """The linear head that an adapter was trained with. Its output is scaled to length 1, as in the training loss.

    It is not fitted to the clips of a machine. ``weight_`` and ``bias_`` come from the adapter
    (``branches.Branch.adapt``).

    Attributes
    ----------
    weight_ : (n_outputs, dim) array
    bias_ : (n_outputs,) array
    """

    weight_: NDArray[np.floating[Any]]
    bias_: NDArray[np.floating[Any]]

    def fit(self, X: Array, y: None = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Check that the embeddings have the dimensions that the head was trained on.

        Parameters
        ----------
        X : (n_clips, dim) array
        y : None
            Ignored.

        Raises
        ------
        NotFittedError
            If there is no adapter.
        ValueError
            If the embeddings have another dimension.
        """
        if not hasattr(self, "weight_"):
            from sklearn.exceptions import NotFittedError  # here, because it takes a second to load

            raise NotFittedError("conditioning 'head' has no weights; it needs an adapter, which brings them")
        X = checked_for_fit(self, X)
        if X.shape[1] != self.weight_.shape[1]:
            raise ValueError(
                f"conditioning 'head' was trained on {self.weight_.shape[1]} dimensions, but the embeddings have "
                f"{X.shape[1]}; it takes view='near_and_far', pooling='global_mean_std' and the adapter's block"
            )
        return self

    def transform(self, X: Array) -> NDArray[np.float64]:
        """The output of the head: (n_clips, dim) to (n_clips, n_outputs), each of length 1."""
        require_fitted(self)
        X = checked_like_fit(self, X)
        z = X @ self.weight_.astype(np.float64).T + self.bias_
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    def traced(self, x: Float) -> Step:
        """The step for one clip, (dim,), with the length that it is scaled by held as it is: see ``linear_steps``.

        The deviation is the smallest that explains a residual, or nearly explains one that nothing does.
        """
        weight: Float = self.weight_.astype(np.float64)
        length = float(np.linalg.norm(x @ weight.T + self.bias_))
        return Step(
            lambda residual: np.asarray(np.linalg.lstsq(weight, length * residual, rcond=None)[0]),
            lambda weights: weights / length @ weight,
        )


def _count_spanned(singular_values: Array, shape: tuple[int, ...]) -> int:
    """The rank of the centred clips, as ``matrix_rank`` computes it, but below n whatever rounding leaves."""
    tolerance = singular_values[0] * max(shape) * np.finfo(np.float64).eps
    return min(int((singular_values > tolerance).sum()), shape[0] - 1)
