"""Linear steps between embeddings, and how a deviation goes back through them.

A residual r is how far an embedding is from what it is compared with, (dim,). Each step that made the embedding is
linear, or linear for this clip with a number held as it is, such as the length by which a head divides. ``back``
gives a deviation of what the step was given that explains the residual of what it made; ``transposed`` carries
weights the other way, so that both give the same sum::

    (step.back(r) * step.transposed(g)).sum() == (r * g).sum()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Step:
    """A linear step from (dim_in,) to (dim_out,), for one clip.

    Attributes
    ----------
    back : callable
        From a residual of what it made, (dim_out,), to a deviation of what it was given, (dim_in,).
    transposed : callable
        From weights of what it made, (..., dim_out), to weights of what it was given, (..., dim_in).
    is_diagonal : bool
        Whether each number of the one comes from one number of the other, in the same order.
    """

    back: Callable[[Float], Float]
    transposed: Callable[[Float], Float]
    is_diagonal: bool = False

    @classmethod
    def scaling(cls, scale: Float | float) -> Step:
        """Each number is multiplied; by 0, it explains nothing."""
        factors = np.asarray(scale, dtype=np.float64)

        def back(residual: Float) -> Float:
            whole = np.broadcast_to(factors, residual.shape)
            return np.divide(residual, whole, out=np.zeros_like(residual), where=whole != 0)

        return cls(back, lambda weights: weights * factors, is_diagonal=True)


def chained(steps: Sequence[Step]) -> Step:
    """Steps one after the other, the first one first."""

    def back(residual: Float) -> Float:
        for step in reversed(steps):
            residual = step.back(residual)
        return residual

    def transposed(weights: Float) -> Float:
        for step in reversed(steps):
            weights = step.transposed(weights)
        return weights

    return Step(back, transposed, all(step.is_diagonal for step in steps))
