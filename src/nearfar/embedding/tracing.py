"""Where an embedding comes from: deviations are traced back through conditioning, view and pooling, to the tokens.

A back end says how far an embedding is from what it is compared with. Conditioning and view are linear steps
(``linear_steps``). A pooling makes statistics of tokens; a deviation of these is spread over the tokens.

Conventions
-----------
The *pooled statistics* of a clip are (microphones, blocks, statistics, bands, dim) of a pooling that keeps the
bands, flattened, or (microphones, blocks, statistics, dim) of one that does not; a statistic is a mean or a
standard deviation. Both are sums over tokens, so that a deviation of theirs can be spread over the tokens exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding.embeddings import VIEWS, contrasted, joined, weights_of_deviation
from nearfar.embedding.linear_steps import Step

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pooled:
    """What a pooling makes of the tokens of a block.

    Attributes
    ----------
    statistics : tuple of str
        "mean", "std".
    keeps_bands : bool
        Whether each band has its own.
    is_shape : bool
        Whether the mean over the bands is taken out of the means.
    weighs : callable or None
        The weight of each token, (blocks, frames, bands, dim) to (blocks, frames, bands, 1), held as it is;
        ``None``: all weigh the same.
    """

    statistics: tuple[str, ...]
    keeps_bands: bool = True
    is_shape: bool = False
    weighs: Callable[[Array], Array] | None = None


POOLED = {
    "mean": Pooled(("mean",)),
    "mean_std": Pooled(("mean", "std")),
    "shape_mean_std": Pooled(("mean", "std"), is_shape=True),
    "global_mean": Pooled(("mean",), keeps_bands=False),
    "global_mean_std": Pooled(("mean", "std"), keeps_bands=False),
    "relative_deviation": Pooled(("mean",), weighs=weights_of_deviation),
}  # of ``embeddings.POOLINGS``; "rows" makes nothing that would have to be traced


def of_conditioning(step: Any, x: Float) -> Step | None:
    """A conditioning for one clip, (dim,) before it; ``None`` if it is not known to be linear."""
    traced: Step | None = step.traced(x) if hasattr(step, "traced") else None
    return traced


def of_view(view: str, n_microphones: int) -> Step | None:
    """How a view combines the embeddings of its microphones; ``None`` if it is not known to be linear."""
    combine = VIEWS[view].combine
    if combine is joined or n_microphones == 1:
        return Step.scaling(1.0)
    if combine is contrasted:  # near beside near - far

        def back(residual: Float) -> Float:
            near, difference = np.split(residual, 2)
            return np.concatenate([near, near - difference])

        def transposed(weights: Float) -> Float:
            near, difference = np.split(weights, 2, axis=-1)
            return np.concatenate([near + difference, -difference], axis=-1)

        return Step(back, transposed)
    return None


def of_pooling(pooling: str, shape: tuple[int, ...]) -> Step:
    """From the statistics of tokens of this shape, (microphones, blocks, frames, bands, dim), to what is pooled."""
    if not POOLED[pooling].is_shape:
        return Step.scaling(1.0)
    microphones, blocks, _, bands, dim = shape

    def transposed(weights: Float) -> Float:
        by_band = weights.reshape(*weights.shape[:-1], microphones, blocks, -1, bands, dim).copy()
        by_band[..., 0, :, :] -= by_band[..., 0, :, :].mean(axis=-2, keepdims=True)
        return by_band.reshape(weights.shape)

    return Step(lambda residual: residual, transposed)


def spread(tokens: Array, deviation: Float, pooling: str) -> Float:
    """A deviation of pooled statistics, spread over the tokens that they were made of.

    A mean is off by the mean of how far tokens are off, a standard deviation by the mean of how far their squared
    distances from the mean, divided by it, are off: exactly so.

    Parameters
    ----------
    tokens : (microphones, blocks, frames, bands, dim) array
    deviation : (n,) array
        From what the clip is compared with to what it is: a number for each pooled statistic, in their order.
    pooling : str
        Of ``POOLED``.

    Returns
    -------
    (microphones, blocks, statistics, frames, bands, dim) array
        Its sum over frames (and over bands, if the pooling does not keep them) is the deviation.
    """
    pooled = POOLED[pooling]
    tokens = np.asarray(tokens, dtype=np.float64)
    over = (2,) if pooled.keeps_bands else (2, 3)
    weights = np.ones((*tokens.shape[:-1], 1)) if pooled.weighs is None else pooled.weighs(tokens)
    weights = np.asarray(weights / weights.sum(axis=over, keepdims=True), dtype=np.float64)
    mean = (weights * tokens).sum(axis=over, keepdims=True)
    off = deviation.reshape(*tokens.shape[:2], len(pooled.statistics), 1, -1, tokens.shape[-1])
    found = np.empty((*tokens.shape[:2], len(pooled.statistics), *tokens.shape[2:]))
    for i, statistic in enumerate(pooled.statistics):
        of_token, value = tokens, mean
        if statistic == "std":
            squares = (tokens - mean) ** 2
            value = np.sqrt((weights * squares).sum(axis=over, keepdims=True))
            of_token = np.divide(squares, value, out=np.zeros_like(squares), where=value > 0)
        found[:, :, i] = weights * (of_token - value + off[:, :, i])
    return found
