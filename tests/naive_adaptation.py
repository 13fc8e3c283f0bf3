"""Slow and obvious twins of the losses that adapters are trained by, in double precision, from their equations."""

from __future__ import annotations

import math

import naive_dca


def statistics(tokens):
    """Tokens as frames of bands of numbers: the means of each number, then its standard deviations."""
    vectors = [vector for frame in tokens for vector in frame]
    means = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
    squares = [
        sum((x - mean) ** 2 for x in column) / len(vectors)
        for column, mean in zip(zip(*vectors, strict=True), means, strict=True)
    ]
    return means + [math.sqrt(square) for square in squares]


def linear(weight, bias, vector):
    return [
        sum(w * x for w, x in zip(row, vector, strict=True)) + offset
        for row, offset in zip(weight, bias, strict=True)
    ]


def cross_entropy(logits, classes):
    losses = [
        math.log(sum(math.exp(x) for x in of_clip)) - of_clip[own]
        for of_clip, own in zip(logits, classes, strict=True)
    ]
    return sum(losses) / len(losses)


def arcface(embeddings, proxies, classes, scale, margin):
    """One proxy a class."""
    return naive_dca.sub_center_arcface(embeddings, [[proxy] for proxy in proxies], classes, scale, margin)


def consistency(near, far):
    losses = [1 - math.cos(naive_dca.angle(n, f)) for n, f in zip(near, far, strict=True)]
    return sum(losses) / len(losses)
