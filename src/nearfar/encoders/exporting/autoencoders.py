"""Autoencoders of one machine as nodes of a graph, for any length."""

from __future__ import annotations

from typing import cast

import numpy as np
from torch import nn

from nearfar.encoders.autoencoder import N_FRAMES, Autoencoder
from nearfar.encoders.exporting import front_ends
from nearfar.encoders.exporting.layers import LAST, doubles, from_to, of_statistics, product
from nearfar.encoders.features import DB_FLOOR
from nearfar.encoders.graphs import Graph, Value


def tokens(graph: Graph, encoder: Autoencoder, waveforms: Value) -> Value:
    """As ``autoencoder.Autoencoder``."""
    return _residual(graph, encoder, _levels(graph, encoder, waveforms))


def tokens_of_difference(graph: Graph, encoder: Autoencoder, waveforms: Value) -> Value:
    """As ``autoencoder.DifferenceAutoencoder``, of (1, 2, samples)."""
    both = _levels(graph, encoder, graph.add("Squeeze", waveforms, np.array([0])))
    near, far = graph.add("Split", both, axis=0, num_outputs=2, outputs=2)
    return _residual(graph, encoder, graph.add("Sub", near, far))


def _levels(graph: Graph, encoder: Autoencoder, waveforms: Value) -> Value:
    """(waveforms, samples) to (waveforms, frames, bands)."""
    return front_ends.mel_levels(graph, waveforms, encoder.mel, floor=DB_FLOOR)


def _residual(graph: Graph, encoder: Autoencoder, frames: Value) -> Value:
    """What the autoencoder does not rebuild of (1, frames, bands): (1, 1, N_FRAMES * vectors, 1, bands)."""
    ends = [place - N_FRAMES + 1 or LAST for place in range(N_FRAMES)]
    places = [from_to(graph, frames, place, end, axis=1) for place, end in enumerate(ends)]
    vectors = graph.add("Concat", *places, axis=2)
    missed = graph.add("Sub", vectors, _rebuilt(graph, encoder.network, vectors))
    return graph.add("Reshape", missed, np.array([1, 1, -1, 1, encoder.n_mels]))


def _rebuilt(graph: Graph, network: nn.Sequential, vectors: Value) -> Value:
    """(1, vectors, inputs) to the same; normalizations are in the weights before them."""
    layers = list(network)
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            weight, bias = doubles(layer.weight), doubles(layer.bias)
            if number + 1 < len(layers):
                scale, shift = of_statistics(cast(nn.BatchNorm1d, layers[number + 1]))
                weight, bias = weight * scale[:, None], bias * scale + shift
            vectors = product(graph, vectors, weight, bias)
        elif isinstance(layer, nn.ReLU):
            vectors = graph.add("Relu", vectors)
    return vectors
