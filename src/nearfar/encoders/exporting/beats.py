"""BEATs as nodes of a graph, for any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from nearfar.encoders.beats import (
    FBANK,
    FBANK_MEAN,
    FBANK_STD,
    FULL_SCALE,
    GATE_TERMS,
    Attention,
    BeatsNetwork,
    Block,
    Encoder,
    PositionalConvolution,
    bucket,
)
from nearfar.encoders.exporting import front_ends
from nearfar.encoders.exporting.layers import (
    attended,
    by_head,
    convolution,
    doubles,
    gelu,
    linear,
    normalized,
    product,
    stacked,
)
from nearfar.encoders.frozen import Frozen
from nearfar.encoders.graphs import Graph, Value


def tokens(graph: Graph, encoder: Frozen, waveforms: Value) -> Value:
    """As ``beats.BeatsNetwork``."""
    network = cast(BeatsNetwork, encoder.network)
    values = front_ends.kaldi(graph, graph.add("Mul", waveforms, np.float32(FULL_SCALE)), FBANK)
    image = graph.add("Div", graph.add("Sub", values, np.float32(FBANK_MEAN)), np.float32(2 * FBANK_STD))
    maps = convolution(graph, graph.add("Unsqueeze", image, np.array([1])), network.patch_embedding)
    bands = FBANK.n_mels // network.patch_embedding.kernel_size[1]
    by_time = graph.add("Transpose", maps, perm=[0, 2, 3, 1])
    flat = graph.add("Reshape", by_time, np.array([1, -1, network.patch_embedding.out_channels]))
    projected = linear(graph, normalized(graph, flat, network.layer_norm), network.post_extract_proj)
    found = _blocks(graph, network.encoder, projected, encoder.blocks)
    grid = np.array([1, -1, bands, network.encoder.settings.encoder_embed_dim])
    return stacked(graph, [graph.add("Reshape", one, grid) for one in found])


def _blocks(graph: Graph, encoder: Encoder, tokens: Value, blocks: Sequence[int]) -> list[Value]:
    """(1, tokens, dim) to as many, of each block asked for."""
    placed = graph.add("Add", tokens, _positions(graph, encoder.pos_conv[0], tokens))
    tokens = normalized(graph, placed, encoder.layer_norm)
    bias, outputs = _bias(graph, encoder, tokens), {}
    for number in range(1, max(blocks) + 1):
        outputs[number] = tokens = _block(graph, cast(Block, encoder.layers[number - 1]), tokens, bias)
    return [outputs[number] for number in blocks]


def _positions(graph: Graph, layer: nn.Module, tokens: Value) -> Value:
    """As ``PositionalConvolution``, whose last output is dropped if its length is even."""
    positional = cast(PositionalConvolution, layer)
    direction = doubles(positional.weight_v)
    norm = np.sqrt(np.square(direction).sum(axis=(0, 1), keepdims=True))
    weight = (direction * (doubles(positional.weight_g) / norm)).astype(np.float32)
    bias, length = doubles(positional.bias).astype(np.float32), weight.shape[-1]
    channels = graph.add("Transpose", tokens, perm=[0, 2, 1])
    convolved = graph.add(
        "Conv", channels, weight, bias, kernel_shape=[length], group=positional.groups,
        pads=[length // 2, length - 1 - length // 2],
    )  # fmt: skip
    return graph.add("Transpose", gelu(graph, convolved), perm=[0, 2, 1])


def _bias(graph: Graph, encoder: Encoder, tokens: Value) -> Value:
    """Of all distances, without a query's scale: (heads, tokens, tokens), query before key."""
    farthest = encoder.settings.max_distance  # from where on all are of one kind
    table = cast(nn.Embedding, cast(Block, encoder.layers[0]).self_attn.relative_attention_bias)
    kinds = bucket(torch.arange(-farthest, farthest + 1), encoder.settings).numpy()
    of_distances = doubles(table.weight).T[:, kinds].astype(np.float32)
    count = graph.add("Squeeze", graph.add("Shape", tokens, start=1, end=2), np.array([0]))
    places = graph.add("Range", np.array(0), count, np.array(1))
    queries = graph.add("Unsqueeze", places, np.array([1]))
    distances = graph.add("Clip", graph.add("Sub", places, queries), np.array(-farthest), np.array(farthest))
    return graph.add("Gather", of_distances, graph.add("Add", distances, np.array(farthest)), axis=1)


def _block(graph: Graph, block: Block, tokens: Value, bias: Value) -> Value:
    """(1, tokens, dim) to the same."""
    scale = np.float32(block.residual_scale)
    heard = _attention(graph, block.self_attn, tokens, bias)
    summed = graph.add("Add", graph.add("Mul", tokens, scale), heard)
    tokens = normalized(graph, summed, block.self_attn_layer_norm)
    hidden = linear(graph, gelu(graph, linear(graph, tokens, block.fc1)), block.fc2)
    summed = graph.add("Add", graph.add("Mul", tokens, scale), hidden)
    return normalized(graph, summed, block.final_layer_norm)


def _attention(graph: Graph, layer: Attention, tokens: Value, bias: Value) -> Value:
    """(1, tokens, dim) to the same; the scale is in the weights of the keys."""
    width = layer.q_proj.out_features // layer.heads
    weight, offset = doubles(layer.k_proj.weight) * width**-0.5, doubles(layer.k_proj.bias) * width**-0.5
    query = by_head(graph, linear(graph, tokens, layer.q_proj), layer.heads)
    keys = by_head(graph, product(graph, tokens, weight, offset), layer.heads, keys=True)
    value = by_head(graph, linear(graph, tokens, layer.v_proj), layer.heads)
    mask = graph.add("Mul", _gate(graph, layer, query), bias) if layer.gated else bias
    return linear(graph, attended(graph, query, keys, value, mask), layer.out_proj)


def _gate(graph: Graph, layer: Attention, query: Value) -> Value:
    """As ``Attention.gate``, with the sums of its terms in the weights."""
    weight = doubles(layer.grep_linear.weight).reshape(2, GATE_TERMS, -1).sum(axis=1)
    bias = doubles(layer.grep_linear.bias).reshape(2, GATE_TERMS).sum(axis=1)
    gates = graph.add("Sigmoid", product(graph, query, weight, bias))
    update, reset = graph.add("Split", gates, axis=3, num_outputs=2, outputs=2)
    scaled = graph.add("Mul", reset, doubles(layer.grep_a).astype(np.float32))
    lowered = graph.add("Sub", scaled, np.float32(1))
    return graph.add("Add", graph.add("Mul", update, lowered), np.float32(2))
