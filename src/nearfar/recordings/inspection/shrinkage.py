r"""The covariance of few vectors of many dimensions, shrunk by the formula of Ledoit and Wolf [1]_.

With the sample covariance S of n centred vectors of p dimensions and its mean variance :math:`\mu`,

.. math:: (1 - s)\, S + s\, \mu I, \qquad s = \frac{\min(\beta, \delta)}{\delta}, \qquad
    \delta = \frac{\lVert S - \mu I \rVert^2}{p}, \qquad
    \beta = \frac{1}{p\, n} \Big( \frac{1}{n} \sum_k \lVert x_k x_k^\top \rVert^2 - \lVert S \rVert^2 \Big).

scikit-learn has it, too, and takes as long to load as two hundred recordings to be heard. This gives the same bits:
its sums are in the same order.

References
----------
.. [1] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices," Journal of
   Multivariate Analysis 88, 2004.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

BLOCK = 1000  # dimensions that are multiplied at once, as in scikit-learn


def shrunk_covariance(centred: Float) -> tuple[Float, float]:
    """The shrunk covariance of centred vectors, (n, dim) to (dim, dim); and the shrinkage, between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.inspection.shrinkage import shrunk_covariance
    >>> vectors = np.random.default_rng(0).normal(size=(50, 2)) @ np.diag([1.0, 3.0])
    >>> covariance, shrinkage = shrunk_covariance(vectors - vectors.mean(axis=0))
    >>> covariance.round(2), round(shrinkage, 3)
    (array([[1.15, 0.44],
           [0.44, 8.48]]), 0.072)
    """
    n, dim = centred.shape
    if dim == 1:
        return np.atleast_2d((centred**2).mean()), 0.0
    shrinkage = shrinkage_of(centred)
    covariance = np.dot(centred.T, centred) / n
    mean_variance = np.trace(covariance) / dim
    shrunk: Float = (1.0 - shrinkage) * covariance
    shrunk.flat[:: dim + 1] += shrinkage * mean_variance
    return shrunk, shrinkage


def shrinkage_of(centred: Float) -> float:
    """How far the covariance of centred vectors, (n, dim), is to be shrunk: between 0 and 1."""
    n, dim = centred.shape
    if dim == 1:
        return 0.0
    squares = centred**2
    variances = np.sum(squares, axis=0) / n
    mean_variance = np.sum(variances) / dim
    fourth = norm = 0.0  # sums over k of |x_k x_k'|^2, and |sum over k of x_k x_k'|^2
    for rows, columns in _blocks(dim):
        fourth += np.sum(np.dot(squares.T[rows], squares[:, columns]))
        norm += np.sum(np.dot(centred.T[rows], centred[:, columns]) ** 2)
    norm /= n**2
    beta = 1.0 / (dim * n) * (fourth / n - norm)
    delta = (norm - 2.0 * mean_variance * variances.sum() + dim * mean_variance**2) / dim
    beta = min(beta, delta)
    return 0.0 if beta == 0 else float(beta / delta)


def _blocks(dim: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a matrix, in the order in which scikit-learn adds them up; its last block is the rest."""
    whole = dim // BLOCK
    parts = [slice(BLOCK * i, BLOCK * (i + 1)) for i in range(whole)]
    rest = slice(BLOCK * whole, None)
    for rows in (*parts, rest):
        for columns in (*parts, rest):
            yield rows, columns
