"""Conditioning of the embeddings of two microphones: what near has beyond far.

Conventions
-----------
X is (n_clips, 2 * dim): the embedding of near, then that of far, as the view ``near_and_far`` gives them. What
comes out is (n_clips, dim). Both classes are scikit-learn transformers, in double precision.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding.estimators import Transformer, checked_for_fit, checked_like_fit, require_fitted
from nearfar.embedding.linear_steps import Step

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]

FRACTION = 0.5  # of a public system of 2026 on three encoders (Kim, LUDO; second-hand); not tuned here
STRENGTHS = 10 ** np.arange(-4, 4.5, 0.5)  # from next to none to next to the mean alone
FEWEST = 3  # clips: with one left out, two have a direction


class NearMinusFar(Transformer):
    """The near embedding minus a fraction of the far one. It is not fitted to clips.

    Parameters
    ----------
    fraction : float
        Of the far embedding; 0 leaves near as it is. Embeddings have no unit in which a sound adds up, so the
        fraction is a matter of experience, not of acoustics.

    Examples
    --------
    >>> from nearfar.embedding.microphone_pairs import NearMinusFar
    >>> NearMinusFar(fraction=0.5).fit_transform([[3.0, 4.0, 2.0, 8.0]])
    array([[2., 0.]])
    """

    def __init__(self, fraction: float = FRACTION) -> None:
        self.fraction = fraction

    def fit(self, X: Array, y: None = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Check the embeddings, (n_clips, 2 * dim).

        Raises
        ------
        ValueError
            If the fraction is not finite, or the embeddings are not two halves.
        """
        if not np.isfinite(self.fraction):
            raise ValueError(f"fraction={self.fraction}: must be a finite number, such as {FRACTION}")
        _halves(checked_for_fit(self, X))
        return self

    def transform(self, X: Array) -> Float:
        """(n_clips, 2 * dim) to (n_clips, dim)."""
        near, far = _halves(checked_like_fit(self, X))
        return near - self.fraction * far

    def traced(self, x: Float) -> Step:  # noqa: ARG002  # others need it
        """The step for one clip, (2 * dim,): see ``linear_steps``. The deviation is the smallest that there is."""
        signs = np.array([1.0, -self.fraction])

        def back(residual: Float) -> Float:
            return np.concatenate([sign * residual / (signs**2).sum() for sign in signs])

        return Step(back, lambda weights: np.concatenate([sign * weights for sign in signs], axis=-1))


class Residual(Transformer):
    r"""What a linear prediction of one microphone's embedding from the other's leaves, by ridge regression.

    With the embeddings a of one microphone and b of the other, of normal clips and around their means, the matrix W
    minimizes

    .. math:: \sum_i \lVert b_i - W a_i \rVert^2 + \lambda \lVert W \rVert^2,

    and the residual of a clip is :math:`b - W a`. On normal clips the two microphones belong together in some way.
    A residual is large where they do not: where near has changed and far has not, or the reverse.

    The residual of a normal clip that the regression was fitted to is too small, the more so the fewer clips there
    are. So ``fit_transform`` gives for each normal clip the residual of a regression on all others, which costs
    nothing more. It is therefore *not* the same as ``fit`` and then ``transform``.

    Parameters
    ----------
    regularization : float or None
        Lambda, in units of the mean variance of a dimension of the predicting embeddings, times the number of
        clips. ``None``: that of ``STRENGTHS`` whose predictions of clips that are left out, one by one, have the
        smallest mean squared error, over all dimensions together. So it is chosen on normal clips alone.
    predicts : {"far", "near"}
        Which microphone's embedding is predicted from the other's. ``"far"``: from near, as published
        (second-hand). ``"near"``: what is left is what near has and far does not explain, as in noise
        cancellation.

    Attributes
    ----------
    predictor_mean_, predicted_mean_ : (dim,) arrays
    directions_, images_ : (rank, dim) arrays
        W is the sum over the rank of an image times a direction: it is kept in this form because rank is at most
        the number of clips.
    regularization_ : float
        The one that was used.

    Examples
    --------
    Far hears twice what near hears, in normal clips. In the new clip it hears 1 more.

    >>> import numpy as np
    >>> from nearfar.embedding.microphone_pairs import Residual
    >>> near = np.array([[-3.0], [-1.0], [0.0], [1.0], [3.0]])
    >>> residual = Residual(regularization=1e-9).fit(np.hstack([near, 2 * near]))
    >>> residual.transform([[2.0, 5.0]]).round(3)
    array([[1.]])
    """

    def __init__(
        self, regularization: float | None = None, *, predicts: Literal["far", "near"] = "far"
    ) -> None:
        self.regularization = regularization
        self.predicts = predicts

    def fit(self, X: Array, y: None = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Learn the prediction from normal clips, (n_clips, 2 * dim).

        Raises
        ------
        ValueError
            If an option is out of its range, the embeddings are not two halves, or there are fewer than 3 clips.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Array, y: None = None) -> Float:  # noqa: ARG002  # scikit-learn's signature
        """Learn the prediction; of each clip the residual that it has without itself, (n_clips, dim)."""
        return self._fit(X)

    def transform(self, X: Array) -> Float:
        """The residuals of clips that were not fitted to, (n_clips, 2 * dim) to (n_clips, dim)."""
        require_fitted(self)
        predictor, predicted = self._ordered(checked_like_fit(self, X))
        explained = (predictor - self.predictor_mean_) @ self.directions_.T @ self.images_
        return np.asarray(predicted - self.predicted_mean_ - explained)

    def traced(self, x: Float) -> Step:
        """The step for one clip, (2 * dim,): see ``linear_steps``.

        The predicting embedding is off from its mean, the predicted one by the residual and what was predicted.
        """
        predictor = self._ordered(x[None])[0][0] - self.predictor_mean_
        predicts_far = self.predicts == "far"

        def in_order(predicting: Float, predicted: Float) -> Float:
            pair = (predicting, predicted) if predicts_far else (predicted, predicting)
            return np.concatenate(pair, axis=-1)

        def back(residual: Float) -> Float:
            return in_order(predictor, residual + predictor @ self.directions_.T @ self.images_)

        def transposed(weights: Float) -> Float:
            return in_order(-weights @ self.images_.T @ self.directions_, weights)

        return Step(back, transposed)

    def _ordered(self, X: Float) -> tuple[Float, Float]:
        near, far = _halves(X)
        return (near, far) if self.predicts == "far" else (far, near)

    def _fit(self, X: Array) -> Float:
        """Everything learnt; the residuals of clips that are left out."""
        self._check_options()
        predictor, predicted = self._ordered(checked_for_fit(self, X, at_least=FEWEST))
        self.predictor_mean_, self.predicted_mean_ = predictor.mean(axis=0), predicted.mean(axis=0)
        left, sizes, right = np.linalg.svd(predictor - self.predictor_mean_, full_matrices=False)
        centred = predicted - self.predicted_mean_
        images = left.T @ centred
        rounding = max(predictor.shape) * np.finfo(np.float64).eps * np.abs(predictor).max()
        sizes[sizes <= rounding] = 0.0  # what does not vary predicts nothing
        unit = float((sizes**2).sum() / predictor.shape[1]) or 1.0
        given = self.regularization
        best, smallest, left_out = 0.0, np.inf, centred
        for strength in STRENGTHS if given is None else [given]:
            shares = sizes**2 / (sizes**2 + strength * unit)
            # of a clip in its own prediction: the diagonal of the hat matrix
            own = 1 / len(X) + (left**2) @ shares
            residuals = (centred - (left * shares) @ images) / (1 - own)[:, None]
            error = float(np.mean(residuals**2))
            if error < smallest:
                best, smallest, left_out = float(strength), error, residuals
        self.regularization_ = best
        weights = sizes / (sizes**2 + best * unit)
        self.directions_ = np.ascontiguousarray(right)
        self.images_ = weights[:, None] * images
        return np.asarray(left_out)

    def _check_options(self) -> None:
        if self.regularization is not None and not 0 < self.regularization < np.inf:
            raise ValueError(
                f"regularization={self.regularization}: must be positive and finite; or omit it, to choose it "
                "on normal clips"
            )
        if self.predicts not in ("far", "near"):
            raise ValueError(f"predicts={self.predicts!r}: must be 'far' or 'near'")


def _halves(X: Float) -> tuple[Float, Float]:
    if X.shape[1] % 2:
        raise ValueError(
            f"X has {X.shape[1]} dimensions; expected an even number: the embedding of near, then that of far, as "
            "the view 'near_and_far' gives them"
        )
    dim = X.shape[1] // 2
    return X[:, :dim], X[:, dim:]
