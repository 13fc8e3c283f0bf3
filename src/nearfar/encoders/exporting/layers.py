"""Layers of torch as nodes of a graph: the weights go over, and what follows another linearly is folded into it.

Conventions
-----------
A function takes the graph, the value that it continues from, and modules of torch; it gives the value of the
result.
Weights are folded in double precision, and stored in single.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.encoders.graphs import Graph, Value

Double = NDArray[np.float64]

LAST = 2**63 - 1  # the end of an axis, whatever its length


def doubles(tensor: Tensor | None) -> Double:
    """The numbers of a tensor, in double precision; 0 of none."""
    return np.zeros(()) if tensor is None else tensor.detach().cpu().double().numpy()


def product(graph: Graph, x: Value, weight: Double, bias: Double) -> Value:
    """(..., inputs) to (..., outputs), by a weight as torch has it, (outputs, inputs).

    Constants of two axes on the right of a product are weights, which may be made integers (``export.integers``).
    """
    found = graph.add("MatMul", x, weight.T.astype(np.float32))
    return graph.add("Add", found, bias.astype(np.float32)) if bias.any() else found


def linear(graph: Graph, x: Value, layer: nn.Linear) -> Value:
    """(..., inputs) to (..., outputs)."""
    return product(graph, x, doubles(layer.weight), doubles(layer.bias))


def normalized(graph: Graph, x: Value, layer: nn.Module) -> Value:
    """Layer normalization of the last axis; nothing for ``nn.Identity``."""
    if isinstance(layer, nn.Identity):
        return x
    norm = cast(nn.LayerNorm, layer)
    weight, bias = (doubles(tensor).astype(np.float32) for tensor in (norm.weight, norm.bias))
    return graph.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)


def gelu(graph: Graph, x: Value) -> Value:
    """By the error function, in the five nodes that runtimes know as one."""
    inner = graph.add("Erf", graph.add("Div", x, np.float32(math.sqrt(2))))
    return graph.add("Mul", graph.add("Mul", x, graph.add("Add", inner, np.float32(1))), np.float32(0.5))


def convolution(graph: Graph, maps: Value, layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Value:
    """(1, inputs, ..., ...) to (1, outputs, ..., ...), with the normalization that follows, if any."""
    weight, bias = doubles(layer.weight), doubles(layer.bias)
    if norm is not None:
        scale, shift = of_statistics(norm)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    before, kernel = cast(tuple[int, int], layer.padding), layer.kernel_size
    offset = bias.astype(np.float32) if bias.any() else None
    return graph.add(
        "Conv", maps, weight.astype(np.float32), offset, kernel_shape=kernel, strides=layer.stride,
        pads=[*before, *before], group=layer.groups,
    )  # fmt: skip


def of_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Double, Double]:
    """Scale and shift of a batch normalization in evaluation: of each channel, x becomes ``scale x + shift``."""
    scale = doubles(norm.weight) / np.sqrt(doubles(norm.running_var) + norm.eps)
    return scale, doubles(norm.bias) - doubles(norm.running_mean) * scale


def by_head(graph: Graph, x: Value, heads: int, *, keys: bool = False) -> Value:
    """(clips, tokens, dim) to (clips, heads, tokens, dim / heads); of keys, the last two the other way round."""
    split = graph.add("Reshape", x, np.array([0, 0, heads, -1]))
    return graph.add("Transpose", split, perm=[0, 2, 3, 1] if keys else [0, 2, 1, 3])


def attended(graph: Graph, query: Value, keys: Value, value: Value, bias: Value | None = None) -> Value:
    """By head, with the scale in the keys already: to (clips, tokens, dim)."""
    scores = graph.add("MatMul", query, keys)
    if bias is not None:
        scores = graph.add("Add", scores, bias)
    heard = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    return graph.add("Reshape", graph.add("Transpose", heard, perm=[0, 2, 1, 3]), np.array([0, 0, -1]))


def from_to(graph: Graph, x: Value, first: int, end: int, *, axis: int) -> Value:
    """A part of an axis, as of a slice."""
    return graph.add("Slice", x, np.array([first]), np.array([end]), np.array([axis]))


def stacked(graph: Graph, blocks: list[Value]) -> Value:
    """(1, frames, bands, dim) each to (1, blocks, frames, bands, dim)."""
    axis = np.array([1])
    each = [graph.add("Unsqueeze", block, axis) for block in blocks]
    return graph.add("Concat", *each, axis=1) if len(each) > 1 else each[0]
