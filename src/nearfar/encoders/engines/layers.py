"""The layers of a network as one function of the spectrogram, for engines that take a function."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nearfar.encoders.arithmetic import Arithmetic
from nearfar.encoders.frozen import Network, Tokens

FUNCTIONS_KEPT = 4  # each has the weights in its own layout

Function = Callable[[Tensor], Sequence[Tensor]]

# Threads of a fit ask at once: a function is made once, and exporters are not thread-safe
_one_at_a_time = threading.Lock()


def grids_and_cls(
    network: Network, spectrogram: Tensor, blocks: tuple[int, ...]
) -> tuple[list[Tensor], Tensor | None]:
    """The grid of each block, (batch, frames, bands, dim), and the CLS tokens, (batch, blocks, dim), or None."""
    if outputs := getattr(network, "outputs", None):  # blocks of different sizes
        return outputs(spectrogram, blocks), None
    heard = network.hear(spectrogram, blocks)
    return list(heard.grid.unbind(dim=1)), heard.cls


class Layers(nn.Module):
    """From a spectrogram to a plain tuple: the grids of these blocks, then their CLS tokens, if there are any.

    Parameters
    ----------
    network : nn.Module
        A ``Network``.
    blocks : tuple of int
    """

    def __init__(self, network: nn.Module, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.blocks = blocks

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, ...]:
        """(batch, bands, frames) to grids, (batch, frames, bands, dim), and (batch, blocks, dim)."""
        grids, cls = grids_and_cls(cast(Network, self.network), spectrogram, self.blocks)
        return (*grids, cls) if cls is not None else tuple(grids)


class OfOneShape(ABC):
    """An engine that makes a function of the layers for each shape of spectrogram, and keeps the last few.

    Parameters
    ----------
    network : nn.Module
        A ``Network``.
    arithmetic : Arithmetic
    """

    def __init__(self, network: nn.Module, arithmetic: Arithmetic) -> None:
        self.network = network
        self.arithmetic = arithmetic
        self._functions: dict[tuple[torch.Size, tuple[int, ...]], Function] = {}

    @abstractmethod
    def made(self, layers: Layers, spectrogram: Tensor) -> Function:
        """What computes these layers for spectrograms of this shape."""

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """See ``Engine``."""
        found = self._computed(spectrogram, blocks)
        grids, cls = found[: len(blocks)], found[len(blocks) :]
        return Tokens(torch.stack(grids, dim=1), cls[0] if cls else None)

    def outputs(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """See ``Engine``."""
        return self._computed(spectrogram, blocks)[: len(blocks)]

    def _computed(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        key = (spectrogram.shape, blocks)
        with _one_at_a_time:
            function = self._functions.pop(key, None) or self.made(Layers(self.network, blocks), spectrogram)
            self._functions[key] = function  # the last one of them
            if len(self._functions) > FUNCTIONS_KEPT:
                del self._functions[next(iter(self._functions))]
        return [tensor.float() for tensor in function(spectrogram)]
