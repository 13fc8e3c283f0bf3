"""Slow and obvious twins of the DCA encoder and of its losses, in double precision, from their equations."""

from __future__ import annotations

import math

import numpy as np

# losses


def length(vector):
    return math.sqrt(sum(x * x for x in vector))


def angle(a, b):
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (length(a) * length(b))
    return math.acos(max(-1.0, min(1.0, cosine)))


def sub_center_arcface(embeddings, centers, classes, scale, margin):
    """Mean over embeddings of -log softmax of the own class, whose angle is larger by the margin."""
    losses = []
    for embedding, own in zip(embeddings, classes, strict=True):
        logits = []
        for c, of_class in enumerate(centers):
            theta = min(angle(embedding, center) for center in of_class)  # the nearest of them
            logit = math.cos(theta)
            if c == own and theta + margin < math.pi:
                logit = math.cos(theta + margin)
            elif c == own:  # the straight line of the authors' implementation
                logit = math.cos(theta) - margin * math.sin(margin)
            logits.append(scale * logit)
        losses.append(math.log(sum(math.exp(x - logits[own]) for x in logits)))
    return sum(losses) / len(losses)


def center_loss(embeddings, centers, classes):
    distances = [
        sum((x - y) ** 2 for x, y in zip(embedding, centers[own], strict=True))
        for embedding, own in zip(embeddings, classes, strict=True)
    ]
    return sum(distances) / len(distances) / 2


# the network, layer by layer


def gelu(x):
    """x times the share of a standard normal distribution below it."""
    return np.vectorize(lambda value: value * (1 + math.erf(value / math.sqrt(2))) / 2)(x)


def convolved(maps, kernels, stride):
    """Maps (before, bands, frames), kernels (after, before, 3, 3); zeros stand around the maps."""
    _, bands, frames = maps.shape
    around = np.pad(maps, [(0, 0), (1, 1), (1, 1)])
    rows, columns = range(0, bands, stride[0]), range(0, frames, stride[1])
    return np.array([
        [[(kernel * around[:, row : row + 3, column : column + 3]).sum() for column in columns] for row in rows]
        for kernel in kernels
    ])  # fmt: skip


def batch_normalized(maps, state):
    """Each map by the statistics of the training, not by its own."""
    normalized = []
    for i, one in enumerate(maps):
        deviation = math.sqrt(state["running_var"][i] + 1e-5)
        normalized.append(
            (one - state["running_mean"][i]) / deviation * state["weight"][i] + state["bias"][i]
        )
    return np.array(normalized)


def layer_normalized(tokens, state):
    normalized = []
    for token in tokens:
        mean = sum(token) / len(token)
        variance = sum((x - mean) ** 2 for x in token) / len(token)
        normalized.append((token - mean) / math.sqrt(variance + 1e-5) * state["weight"] + state["bias"])
    return np.array(normalized)


def linear(tokens, state):
    return np.array([state["weight"] @ token + state["bias"] for token in tokens])


def softmax(logits):
    powers = [math.exp(x - max(logits)) for x in logits]
    return [p / sum(powers) for p in powers]


def attended(own, others, state, heads):
    """What normalized tokens, (tokens, channels), hear of others: each head has channels of its own."""
    query, key = linear(own, part(state, "query")), linear(others, part(state, "key"))
    value = linear(others, part(state, "value"))
    width = own.shape[1] // heads
    heard = np.zeros_like(own)
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        for i in range(len(own)):
            shares = softmax([query[i, mine] @ k[mine] / math.sqrt(width) for k in key])
            heard[i, mine] = sum(share * v[mine] for share, v in zip(shares, value, strict=True))
    return linear(heard, part(state, "output"))


def listened(own, others, state, heads):
    """A layer of cross-attention: its norm stands before, its input is added; and so for the feed-forward."""
    norm = part(state, "norm_attention")
    own = own + attended(layer_normalized(own, norm), layer_normalized(others, norm), state, heads)
    hidden = linear(layer_normalized(own, part(state, "norm_feed_forward")), part(state, "feed_forward.0"))
    return own + linear(gelu(hidden), part(state, "feed_forward.2"))


def exchanged(near, far, state, heads):
    """Both directions at once, with equal weights or with weights of their own."""
    to_near = part(state, "listeners.0")
    to_far = part(state, "listeners.1") or to_near
    return listened(near, far, to_near, heads), listened(far, near, to_far, heads)


def tokens_of(spectrogram, state, strides):
    """A normalized spectrogram, (bands, frames), to (tokens, channels): band by band, each with its frames."""
    maps = spectrogram[None]
    for i, stride in enumerate(strides):
        maps = convolved(maps, state[f"convolutions.{i}.0.weight"], stride)
        maps = gelu(batch_normalized(maps, part(state, f"convolutions.{i}.1")))
    _, bands, frames = maps.shape
    return np.array([maps[:, band, frame] for band in range(bands) for frame in range(frames)])


def channel_embeddings(levels, state, strides, heads, layers):
    """Levels of both microphones, (2, bands, frames) in dB, to (2, channels)."""
    mean, deviation = state["level"]
    near, far = (tokens_of((one - mean) / deviation, state, strides) for one in levels)
    for i in range(layers):
        near, far = exchanged(near, far, part(state, f"attention.{i}"), heads)
    embeddings = []
    for tokens in (near, far):
        (projected,) = linear([sum(tokens) / len(tokens)], part(state, "projection"))
        embeddings.append(projected / length(projected))
    return np.array(embeddings)


def part(state, name):
    """The arrays of one part of a network, by the rest of their names."""
    return {key.removeprefix(f"{name}."): array for key, array in state.items() if key.startswith(f"{name}.")}


# spectrograms


def of_frames(levels, frames):
    """The first so many frames of (bands, frames); the last one again and again where they are too few."""
    return np.stack([levels[:, min(i, levels.shape[1] - 1)] for i in range(frames)], axis=1)
