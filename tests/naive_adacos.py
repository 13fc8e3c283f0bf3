"""Slow and obvious twins of sub-cluster AdaCos and of attentive statistics pooling, number by number."""

from __future__ import annotations

import math


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def share(embedding, centers, own, scale):
    """Of the softmax over all sub-clusters, that of the sub-clusters of one class."""
    powers = [[math.exp(scale * cosine(embedding, c)) for c in of_class] for of_class in centers]
    return sum(powers[own]) / sum(sum(of_class) for of_class in powers)


def adacos(embeddings, centers, labels, scale):
    losses = [
        -sum(y * math.log(share(e, centers, c, scale)) for c, y in enumerate(of_clip))
        for e, of_clip in zip(embeddings, labels, strict=True)
    ]
    return sum(losses) / len(losses)


def next_scale(embeddings, centers, labels, scale):
    sums, angles = [], []
    for e, of_clip in zip(embeddings, labels, strict=True):
        sums.append(sum(math.exp(scale * cosine(e, c)) for of_class in centers for c in of_class))
        nearest = [min(math.acos(cosine(e, c)) for c in of_class) for of_class in centers]
        angles.append(sum(y * angle for y, angle in zip(of_clip, nearest, strict=True)))
    median = sorted(angles)[(len(angles) - 1) // 2]
    return math.log(sum(sums) / len(sums)) / math.cos(min(math.pi / 4, median))


def attentive_statistics(tokens, weight, bias, score):
    """Of a list of tokens: weighted means of each number, then weighted deviations."""
    energies = []
    for token in tokens:
        hidden = [
            math.tanh(sum(w * x for w, x in zip(row, token, strict=True)) + b)
            for row, b in zip(weight, bias, strict=True)
        ]
        energies.append(sum(v * h for v, h in zip(score, hidden, strict=True)))
    total = sum(math.exp(e) for e in energies)
    shares = [math.exp(e) / total for e in energies]
    columns = list(zip(*tokens, strict=True))
    means = [sum(a * x for a, x in zip(shares, column, strict=True)) for column in columns]
    squares = [
        sum(a * (x - mean) ** 2 for a, x in zip(shares, column, strict=True))
        for column, mean in zip(columns, means, strict=True)
    ]
    return means + [math.sqrt(square) for square in squares]
