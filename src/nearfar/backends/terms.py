"""How a back end makes the score of one clip: quadratic forms of its embedding, which can be split.

Distances are quadratic forms, or, divided by themselves, parts of one: :math:`|r| = r^\\top r / |r|`. So the score
of most back ends is a sum

.. math:: A(x) = a + \\sum_k f_k\\, r_k^\\top P_k\\, r_k, \\qquad r_k = u_k x - c_k

over the references c that decide the clip's score, with all scales held as they are for this clip. It says which
dimensions of an embedding the score comes from, and so where in time and frequency.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Rows = Literal["none", "mean", "sum"]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """One quadratic form of a clip's embedding.

    Attributes
    ----------
    centre : (dim,) array
        What the clip is compared with, c.
    precision : (dim, dim) array or None
        P, symmetric; ``None`` is the identity.
    factor : float
        f.
    scale : float or (dim,) array
        u, such as one divided by the clip's length, for a cosine.
    rows : {"none", "mean", "sum"}
        Of a clip that is a matrix of rows: the form of their mean, or the sum of their forms. "none": it is a
        vector.
    """

    centre: Float
    precision: Float | None = None
    factor: float = 1.0
    scale: Float | float = 1.0
    rows: Rows = "none"

    def residual(self, x: NDArray[np.floating[Any]]) -> Float:
        """How far an embedding is from the centre: (dim,) of a vector or of a mean, (rows, dim) of rows."""
        x = np.asarray(x, dtype=np.float64)
        if self.rows == "mean":
            x = np.atleast_2d(x).mean(axis=0)
        return np.asarray(self.scale * x - self.centre)

    def value(self, x: NDArray[np.floating[Any]]) -> float:
        """Of an embedding, (dim,) or (rows, dim)."""
        residual = self.residual(x)
        pulled = residual if self.precision is None else residual @ self.precision
        return float(self.factor * (residual * pulled).sum())


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of the score of one clip.

    Attributes
    ----------
    quadratics : tuple of Quadratic
    constant : float
        a, what is added whatever the clip is; a density that is subtracted, for example.
    """

    quadratics: tuple[Quadratic, ...]
    constant: float = 0.0

    def total(self, x: NDArray[np.floating[Any]]) -> float:
        """The score of the clip that they were made for, (dim,) or (rows, dim)."""
        return self.constant + sum(quadratic.value(x) for quadratic in self.quadratics)

    def divided_by(self, divisor: float) -> Terms:
        """The terms of a score that is divided."""
        quadratics = tuple(replace(q, factor=q.factor / divisor) for q in self.quadratics)
        return Terms(quadratics, self.constant / divisor)


def of_distances(x: Float, references: Float, squared: Float, metric: str, divisor: float = 1.0) -> Terms:
    """The terms of the mean distance of a clip from some references, divided by a number.

    Parameters
    ----------
    x : (dim,) array
        The clip, as it was given to the back end.
    references : (k, dim) array
        As they are compared: of length one for the cosine.
    squared : (k,) array
        Squared distances, as ``neighbours.nearest`` gives them.
    metric : {"euclidean", "cosine"}
    divisor : float
    """
    share = 1.0 / (len(references) * divisor)
    if metric == "cosine":
        scale = 1.0 / float(np.sqrt(x @ x))
        return Terms(tuple(Quadratic(r, None, share / 2, scale) for r in references))
    lengths = np.sqrt(squared)
    factors = np.divide(share, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return Terms(tuple(Quadratic(r, None, float(f)) for r, f in zip(references, factors, strict=True)))
