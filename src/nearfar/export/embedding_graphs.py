"""What becomes of tokens, as nodes: pooling, what a view makes of its microphones, and conditioning.

Conventions
-----------
Tokens are (1, blocks, frames, bands, dim); what a pooling makes of one block is (1, dim), or (rows, dim) for
``"rows"``. Functions have the names of those of ``embedding``, whose outcome they give.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from nearfar.embedding import embeddings
from nearfar.embedding.conditioning import Head, PrincipalComponents, Standardize, Whitening
from nearfar.embedding.embeddings import DEVIATION_POWER, VIEWS
from nearfar.embedding.microphone_pairs import NearMinusFar, Residual
from nearfar.export.expressions import Expression, joined, where


def mean(tokens: Expression) -> Expression:
    return tokens.mean(2).reshape(1, -1)


def mean_std(tokens: Expression) -> Expression:
    return joined([mean(tokens), _std(tokens, 2)], axis=1)


def shape_mean_std(tokens: Expression) -> Expression:
    means = tokens.mean(2)
    shape = means - means.mean(2, keepdims=True)
    return joined([shape.reshape(1, -1), _std(tokens, 2)], axis=1)


def global_mean(tokens: Expression) -> Expression:
    return tokens.mean(2, 3).reshape(1, -1)


def global_mean_std(tokens: Expression) -> Expression:
    return joined([global_mean(tokens), _std(tokens, 2, 3)], axis=1)


def relative_deviation(tokens: Expression) -> Expression:
    distance = (tokens - tokens.mean(2, keepdims=True)).sum_of_squares(4, keepdims=True).sqrt()
    largest = distance.max(2, keepdims=True)
    differ = largest > 0.0
    relative = where(differ, distance / where(differ, largest, 1.0), 0.0)
    weight = (1 + relative).to_the_power(DEVIATION_POWER)
    return ((weight * tokens).sum(2) / weight.sum(2)).reshape(1, -1)


def rows(tokens: Expression) -> Expression:
    return tokens.flattened()


def _std(tokens: Expression, *axes: int) -> Expression:
    """The standard deviation over axes, (1, dim)."""
    centred = tokens - tokens.mean(*axes, keepdims=True)
    return centred.squared().mean(*axes).sqrt().reshape(1, -1)


POOLINGS: dict[str, Callable[[Expression], Expression]] = {
    "mean": mean,
    "mean_std": mean_std,
    "shape_mean_std": shape_mean_std,
    "global_mean": global_mean,
    "global_mean_std": global_mean_std,
    "relative_deviation": relative_deviation,
    "rows": rows,
}


def pooled(tokens: Expression, pooling: str, n_blocks: int) -> Expression:
    """What a pooling makes of tokens, the blocks side by side.

    Parameters
    ----------
    tokens : (1, blocks, frames, bands, dim) expression
    pooling : str
        Of ``embeddings.POOLINGS``.
    n_blocks : int

    Raises
    ------
    ValueError
        If the pooling is not exported.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling {pooling!r} is not exported; those that are: {', '.join(POOLINGS)}")
    blocks = [tokens.cut(1, i, i + 1) for i in range(n_blocks)] if n_blocks > 1 else [tokens]
    return joined([POOLINGS[pooling](block) for block in blocks], axis=-1)


def combined(view: str, heard: list[Expression]) -> Expression:
    """What a view makes of the embeddings of its microphones.

    Raises
    ------
    ValueError
        If the view is not exported.
    """
    match VIEWS[view].combine:
        case embeddings.joined:
            return joined(heard, axis=-1)
        case embeddings.contrasted:
            near, far = heard
            return joined([near, near - far], axis=-1)
    raise ValueError(f"view {view!r} is not exported")


@singledispatch
def conditioned(step: Any, x: Expression) -> Expression:  # noqa: ARG001  # those that are registered look at it
    """What a fitted step of conditioning makes of an embedding, (1, dim) to (1, dim').

    Raises
    ------
    ValueError
        If the step is not exported; names those that are.
    """
    known = ", ".join(sorted(one.__name__ for one in conditioned.registry if one is not object))
    raise ValueError(f"conditioning {type(step).__name__} is not exported; those that are: {known}")


@conditioned.register
def _(step: Standardize, x: Expression) -> Expression:
    return (x - step.mean_) / step.scale_


@conditioned.register
def _(step: PrincipalComponents, x: Expression) -> Expression:
    return (x.astype(np.float64) - step.mean_) @ step.components_.T


@conditioned.register
def _(step: Whitening, x: Expression) -> Expression:
    return (x.astype(np.float64) - step.mean_) @ step.components_.T / np.sqrt(step.explained_variance_)


@conditioned.register
def _(step: Head, x: Expression) -> Expression:
    z = x.astype(np.float64) @ step.weight_.astype(np.float64).T + step.bias_
    return z / z.sum_of_squares(1, keepdims=True).sqrt()


@conditioned.register
def _(step: NearMinusFar, x: Expression) -> Expression:
    near, far = _halves(x, vars(step)["n_features_in_"])
    return near - step.fraction * far


@conditioned.register
def _(step: Residual, x: Expression) -> Expression:
    near, far = _halves(x, vars(step)["n_features_in_"])
    predictor, predicted = (near, far) if step.predicts == "far" else (far, near)
    explained = (predictor - step.predictor_mean_) @ step.directions_.T @ step.images_
    return predicted - step.predicted_mean_ - explained


def _halves(x: Expression, dim: int) -> tuple[Expression, Expression]:
    """The embeddings of near and far, in double precision."""
    x = x.astype(np.float64)
    return x.cut(1, 0, dim // 2), x.cut(1, dim // 2, dim)
