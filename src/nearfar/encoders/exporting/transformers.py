"""EAT, CED and M2D as nodes of a graph: front end and vision transformer, for one length.

A clip that is longer than the positions of a network is computed in parts, each by nodes of its own with the same
weights. So the length must be known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from nearfar.encoders import ced, eat, m2d
from nearfar.encoders.exporting import front_ends
from nearfar.encoders.exporting.layers import (
    LAST,
    attended,
    by_head,
    doubles,
    from_to,
    gelu,
    linear,
    normalized,
    product,
    stacked,
)
from nearfar.encoders.frozen import Frozen
from nearfar.encoders.graphs import Graph, Value
from nearfar.encoders.vit import Attention, Block, Geometry, ViT


def eat_tokens(graph: Graph, encoder: Frozen, waveforms: Value, samples: int) -> Value:
    """As ``eat.EatNetwork``."""
    network, fbank = cast(eat.EatNetwork, encoder.network), eat.FBANK
    mean = graph.add("ReduceMean", waveforms, np.array([1]), keepdims=1)
    values = front_ends.kaldi(graph, graph.add("Sub", waveforms, mean), fbank)
    found = 1 + (samples - fbank.length) // fbank.hop
    frames = eat.target_frames(found, network.frames)
    filled = _cut_or_filled(graph, values, found, frames)
    spectrogram = _standardized(graph, filled, eat.MEAN, 2 * eat.STD)
    return _encoded(graph, network, spectrogram, _parts(frames, network.geometry.frames), encoder.blocks)


def ced_tokens(graph: Graph, encoder: Frozen, waveforms: Value, samples: int) -> Value:
    """As ``ced.CedNetwork``."""
    network = cast(ced.CedNetwork, encoder.network)
    levels = front_ends.mel_levels(graph, waveforms, ced.MEL, floor=ced.POWER_FLOOR, top_db=ced.DYNAMIC_RANGE)
    norm = network.init_bn
    scale = doubles(norm.weight) / np.sqrt(doubles(norm.running_var) + ced.NORM_EPSILON)
    shift = doubles(norm.bias) - doubles(norm.running_mean) * scale
    scaled = graph.add("Mul", levels, scale.astype(np.float32))
    spectrogram = graph.add("Add", scaled, shift.astype(np.float32))
    frames, longest = 1 + samples // ced.MEL.hop, network.geometry.frames
    whole = frames if frames <= longest else math.ceil(frames / longest) * longest
    filled = _cut_or_filled(graph, spectrogram, frames, whole)
    return _encoded(graph, network, filled, _parts(whole, longest), encoder.blocks)


def m2d_tokens(graph: Graph, encoder: Frozen, waveforms: Value, samples: int) -> Value:
    """As ``m2d.M2dNetwork``."""
    network = cast(m2d.M2dNetwork, encoder.network)
    power = front_ends.mel_power(graph, waveforms, m2d.MEL)
    mean, deviation = doubles(network.norm_stats)
    values = graph.add("Log", graph.add("Add", power, np.float32(m2d.LOG_OFFSET)))
    spectrogram = _standardized(graph, values, mean, deviation)
    frames, longest = 1 + samples // m2d.MEL.hop, network.geometry.frames
    parts = _parts(frames, longest)
    parts[-1] += min(-parts[-1] % network.geometry.patch[1], longest - parts[-1])
    filled = _cut_or_filled(graph, spectrogram, frames, sum(parts))
    return _encoded(graph, network, filled, parts, encoder.blocks)


def _parts(frames: int, longest: int) -> list[int]:
    """Lengths of parts of at most so many frames, of which only the last may be shorter."""
    return [min(longest, frames - first) for first in range(0, frames, longest)]


def _cut_or_filled(graph: Graph, spectrogram: Value, frames: int, wanted: int) -> Value:
    """(1, frames, bands) to so many frames, with zeros at the end if they are more."""
    if wanted < frames:
        return from_to(graph, spectrogram, 0, wanted, axis=1)
    missing = np.array([0, 0, 0, 0, wanted - frames, 0])
    return graph.add("Pad", spectrogram, missing) if wanted > frames else spectrogram


def _standardized(graph: Graph, values: Value, mean: float, deviation: float) -> Value:
    return graph.add("Div", graph.add("Sub", values, np.float32(mean)), np.float32(deviation))


def _encoded(
    graph: Graph, network: ViT, spectrogram: Value, parts: Sequence[int], blocks: Sequence[int]
) -> Value:
    """(1, frames, bands) to (1, blocks, frames, bands, dim), part by part in time."""
    first, found = 0, []
    for frames in parts:
        part = spectrogram
        if len(parts) > 1:
            part = from_to(graph, spectrogram, first, first + frames, axis=1)
        if network.geometry.rows == "frequency":
            part = graph.add("Transpose", part, perm=[0, 2, 1])
        found.append(_part(graph, network, part, frames, blocks))
        first += frames
    return graph.add("Concat", *found, axis=2) if len(found) > 1 else found[0]


def _part(graph: Graph, network: ViT, image: Value, frames: int, blocks: Sequence[int]) -> Value:
    """(1, rows, columns) to (1, blocks, frames, bands, dim)."""
    geometry = network.geometry
    size = (frames, geometry.bands) if geometry.rows == "time" else (geometry.bands, frames)
    rows, columns = (n // patch for n, patch in zip(size, geometry.patch, strict=True))
    tokens, found = _embedded(graph, network, image, (rows, columns)), {}
    for number in range(1, max(blocks) + 1):
        tokens = _block(graph, cast(Block, network.blocks[number - 1]), tokens)
        if number in blocks:
            last = number == geometry.depth
            given = normalized(graph, tokens, network.norm) if last else tokens
            found[number] = _on_grid(graph, given, geometry, (rows, columns))
    return stacked(graph, [found[number] for number in blocks])


def _embedded(graph: Graph, network: ViT, image: Value, grid: tuple[int, int]) -> Value:
    """What enters the first block: (1, rows, columns) to (1, [CLS +] patches, dim)."""
    layer = network.patch_embed.proj
    pixels = graph.add("Unsqueeze", image, np.array([1]))
    weight = doubles(layer.weight).astype(np.float32)
    patches = graph.add("Conv", pixels, weight, kernel_shape=layer.kernel_size, strides=layer.kernel_size)
    positions = doubles(network.positions(*grid)) + doubles(layer.bias)[:, None, None]
    placed = graph.add("Add", patches, positions.astype(np.float32))
    flat = graph.add("Reshape", placed, np.array([0, 0, -1]))
    tokens = graph.add("Transpose", flat, perm=[0, 2, 1])
    if network.geometry.has_cls:
        tokens = graph.add("Concat", doubles(network.placed_cls()).astype(np.float32), tokens, axis=1)
    return normalized(graph, tokens, network.pre_norm)


def _block(graph: Graph, block: Block, tokens: Value) -> Value:
    """(1, tokens, dim) to the same."""
    if block.norm == "pre":
        heard = _attention(graph, block.attn, normalized(graph, tokens, block.norm1))
        tokens = graph.add("Add", tokens, heard)
        return graph.add("Add", tokens, _perceptron(graph, block, normalized(graph, tokens, block.norm2)))
    heard = _attention(graph, block.attn, tokens)
    tokens = normalized(graph, graph.add("Add", tokens, heard), block.norm1)
    return normalized(graph, graph.add("Add", tokens, _perceptron(graph, block, tokens)), block.norm2)


def _perceptron(graph: Graph, block: Block, tokens: Value) -> Value:
    return linear(graph, gelu(graph, linear(graph, tokens, block.mlp.fc1)), block.mlp.fc2)


def _attention(graph: Graph, layer: Attention, tokens: Value) -> Value:
    """(1, tokens, dim) to the same; the scale is in the weights of the keys."""
    weight, bias = doubles(layer.qkv.weight).copy(), doubles(layer.qkv.bias).copy()
    dim = weight.shape[1]
    keys = slice(dim, 2 * dim)
    weight[keys] *= (dim // layer.heads) ** -0.5
    bias[keys] *= (dim // layer.heads) ** -0.5
    projected = product(graph, tokens, weight, bias)
    query, key, value = graph.add("Split", projected, axis=2, num_outputs=3, outputs=3)
    heard = attended(
        graph,
        by_head(graph, query, layer.heads),
        by_head(graph, key, layer.heads, keys=True),
        by_head(graph, value, layer.heads),
    )
    return linear(graph, heard, layer.proj)


def _on_grid(graph: Graph, tokens: Value, geometry: Geometry, grid: tuple[int, int]) -> Value:
    """(1, [CLS +] patches, dim) to (1, frames, bands, dim)."""
    patches = from_to(graph, tokens, 1, LAST, axis=1) if geometry.has_cls else tokens
    placed = graph.add("Reshape", patches, np.array([1, *grid, geometry.dim]))
    return placed if geometry.rows == "time" else graph.add("Transpose", placed, perm=[0, 2, 1, 3])
