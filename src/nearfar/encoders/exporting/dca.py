"""Dual-channel cross-attention as nodes of a graph, for one length: the advance of its frames depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from torch import nn

from nearfar.encoders.dca import CrossAttention, Dca, Exchange, Network
from nearfar.encoders.exporting import front_ends
from nearfar.encoders.exporting.layers import (
    attended,
    by_head,
    convolution,
    doubles,
    from_to,
    gelu,
    linear,
    normalized,
    product,
)
from nearfar.encoders.features import DB_FLOOR
from nearfar.encoders.graphs import Graph, Value

SHORTEST = 1e-12  # of what is made of length 1; torch's ``normalize``


def tokens(graph: Graph, encoder: Dca, waveforms: Value, samples: int) -> Value:
    """As ``dca.Dca``, of (1, 2, samples): (1, 1, 1, 1, channels)."""
    network = encoder.network
    maps = graph.add("Unsqueeze", _levels(graph, encoder, waveforms, samples), np.array([1]))
    for layer in network.convolutions:
        convolved, norm, _ = cast(Sequence[nn.Module], layer)
        found = convolution(graph, maps, cast(nn.Conv2d, convolved), cast(nn.BatchNorm2d, norm))
        maps = gelu(graph, found)
    flat = graph.add("Reshape", maps, np.array([0, 0, -1]))
    both = graph.add("Transpose", flat, perm=[0, 2, 1])
    for exchange in network.attention:
        both = _exchanged(graph, cast(Exchange, exchange), both)
    return _mean_embedding(graph, network, both)


def _levels(graph: Graph, encoder: Dca, waveforms: Value, samples: int) -> Value:
    """(1, 2, samples) to (2, bands, frames), on the scale of the training clips."""
    mel = replace(encoder.mel, hop=max(1, samples // encoder.frames))
    both = graph.add("Squeeze", waveforms, np.array([0]))
    levels = graph.add("Transpose", front_ends.mel_levels(graph, both, mel, floor=DB_FLOOR), perm=[0, 2, 1])
    found = 1 + samples // mel.hop
    if found > encoder.frames:
        levels = from_to(graph, levels, 0, encoder.frames, axis=2)
    elif found < encoder.frames:
        missing = np.array([0, 0, 0, 0, 0, encoder.frames - found])
        levels = graph.add("Pad", levels, missing, mode="edge")
    mean, deviation = doubles(encoder.network.level).astype(np.float32)
    return graph.add("Div", graph.add("Sub", levels, mean), deviation)


def _exchanged(graph: Graph, exchange: Exchange, both: Value) -> Value:
    """(2, tokens, channels) to the same; both directions hear what the other was before."""
    near, far = graph.add("Split", both, axis=0, num_outputs=2, outputs=2)
    if len(exchange.listeners) == 1:
        others = graph.add("Concat", far, near, axis=0)
        return _listened(graph, cast(CrossAttention, exchange.listeners[0]), both, others)
    of_near, of_far = (cast(CrossAttention, listener) for listener in exchange.listeners)
    return graph.add(
        "Concat", _listened(graph, of_near, near, far), _listened(graph, of_far, far, near), axis=0
    )


def _listened(graph: Graph, layer: CrossAttention, own: Value, others: Value) -> Value:
    """(clips, tokens, channels) to the same; the scale is in the weights of the keys."""
    width = layer.key.out_features // layer.heads
    weight, bias = doubles(layer.key.weight) * width**-0.5, doubles(layer.key.bias) * width**-0.5
    asking, asked = (normalized(graph, one, layer.norm_attention) for one in (own, others))
    heard = attended(
        graph,
        by_head(graph, linear(graph, asking, layer.query), layer.heads),
        by_head(graph, product(graph, asked, weight, bias), layer.heads, keys=True),
        by_head(graph, linear(graph, asked, layer.value), layer.heads),
    )
    own = graph.add("Add", own, linear(graph, heard, layer.output))
    widen, _, narrow = layer.feed_forward
    hidden = gelu(
        graph, linear(graph, normalized(graph, own, layer.norm_feed_forward), cast(nn.Linear, widen))
    )
    return graph.add("Add", own, linear(graph, hidden, cast(nn.Linear, narrow)))


def _mean_embedding(graph: Graph, network: Network, both: Value) -> Value:
    """(2, tokens, channels) to the mean of two vectors of length 1: (1, 1, 1, 1, channels)."""
    means = graph.add("ReduceMean", both, np.array([1]), keepdims=0)
    projected = linear(graph, means, network.projection)
    length = graph.add("ReduceL2", projected, np.array([1]), keepdims=1)
    unit = graph.add("Div", projected, graph.add("Max", length, np.float32(SHORTEST)))
    return graph.add("Reshape", graph.add("ReduceMean", unit, np.array([0])), np.array([1, 1, 1, 1, -1]))
