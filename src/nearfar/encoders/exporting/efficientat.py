"""EfficientAT as nodes of a graph, for any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import nn

from nearfar.encoders.efficientat import (
    LOG_OFFSET,
    SCALE,
    SHIFT,
    EfficientAt,
    InvertedBottleneck,
    Network,
    SqueezeExcitation,
)
from nearfar.encoders.exporting import front_ends
from nearfar.encoders.exporting.layers import LAST, convolution, doubles, from_to, stacked
from nearfar.encoders.features import Fbank, kaldi_filters
from nearfar.encoders.frozen import Frozen
from nearfar.encoders.graphs import Graph, Value

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "Relu", nn.Hardswish: "HardSwish"}


def tokens(graph: Graph, encoder: Frozen, waveforms: Value) -> Value:
    """As ``efficientat.Network``."""
    network, own = cast(Network, encoder.network), cast(EfficientAt, encoder).GEOMETRY.fbank
    at_rate = front_ends.resampled(graph, waveforms, encoder.sample_rate, own.rate)
    levels = graph.add("Transpose", _levels(graph, at_rate, own), perm=[0, 2, 1])
    maps = graph.add("Unsqueeze", levels, np.array([1]))
    found = {}
    for number in range(max(encoder.blocks) + 1):
        maps = _block(graph, network.features[number], maps)
        if number in encoder.blocks:
            found[number] = graph.add("Transpose", maps, perm=[0, 3, 2, 1])
    return stacked(graph, [found[number] for number in encoder.blocks])


def _levels(graph: Graph, waveforms: Value, fbank: Fbank) -> Value:
    """As ``efficientat.LogMel``: its window is shorter than its frames, and so are the frames here."""
    later = from_to(graph, waveforms, 1, LAST, axis=1)
    before = graph.add("Mul", from_to(graph, waveforms, 0, -1, axis=1), np.float32(fbank.pre_emphasis))
    mirrored = front_ends.padded(graph, graph.add("Sub", later, before), fbank.length // 2, "reflect")
    frames = front_ends.frames_of(graph, mirrored, fbank.length, fbank.hop)
    power = front_ends.bands_of(graph, frames, np.hanning(fbank.length), fbank.n_fft, kaldi_filters(fbank))
    logarithm = graph.add("Log", graph.add("Add", power, np.float32(LOG_OFFSET)))
    return graph.add("Div", graph.add("Add", logarithm, np.float32(SHIFT)), np.float32(SCALE))


def _block(graph: Graph, block: nn.Module, maps: Value) -> Value:
    """(1, channels, bands, frames) to those of the next block."""
    if not isinstance(block, InvertedBottleneck):
        return _convolved(graph, cast(Sequence[nn.Module], block), maps)
    found = maps
    for layer in block.block:
        if isinstance(layer, SqueezeExcitation):
            found = _weighed(graph, layer, found)
        else:
            found = _convolved(graph, cast(Sequence[nn.Module], layer), found)
    return graph.add("Add", maps, found) if block.is_residual else found


def _convolved(graph: Graph, layers: Sequence[nn.Module], maps: Value) -> Value:
    """Convolution, normalization, and activation, if there is one."""
    convolved, norm, *activation = layers
    found = convolution(graph, maps, cast(nn.Conv2d, convolved), cast(nn.BatchNorm2d, norm))
    return graph.add(ACTIVATIONS[type(activation[0])], found) if activation else found


def _weighed(graph: Graph, layer: SqueezeExcitation, maps: Value) -> Value:
    """Maps times a weight of each channel, which is made of the means of all."""
    excitation = layer.conc_se_layers[0]
    means = graph.add("GlobalAveragePool", maps)
    squeezed = graph.add("Relu", _pixel(graph, means, cast(nn.Linear, excitation.fc1)))
    weights = graph.add("Sigmoid", _pixel(graph, squeezed, cast(nn.Linear, excitation.fc2)))
    return graph.add("Mul", maps, weights)


def _pixel(graph: Graph, maps: Value, layer: nn.Linear) -> Value:
    """A linear layer of the channels of a single pixel."""
    weight = doubles(layer.weight).astype(np.float32)[:, :, None, None]
    return graph.add("Conv", maps, weight, doubles(layer.bias).astype(np.float32), kernel_shape=[1, 1])
