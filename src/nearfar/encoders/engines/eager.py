"""Torch itself, operation by operation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from nearfar.encoders.arithmetic import Arithmetic
from nearfar.encoders.engines.layers import grids_and_cls
from nearfar.encoders.frozen import Network, Tokens


class Eager:
    """A network as it is: in float32, with integers, or with weights in bfloat16.

    Parameters
    ----------
    network : nn.Module
        A ``Network``, with its weights as the arithmetic needs them.
    arithmetic : Arithmetic
    """

    def __init__(self, network: nn.Module, arithmetic: Arithmetic) -> None:
        self.network = cast(Network, network)
        self.arithmetic = arithmetic

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """See ``Engine``."""
        with self._autocast(spectrogram):
            found = self.network.hear(spectrogram, blocks)
        return Tokens(found.grid.float(), None if found.cls is None else found.cls.float())

    def outputs(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """See ``Engine``."""
        with self._autocast(spectrogram):
            grids, _ = grids_and_cls(self.network, spectrogram, blocks)
        return [grid.float() for grid in grids]

    def _autocast(self, spectrogram: Tensor) -> AbstractContextManager[Any]:
        if self.arithmetic.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(spectrogram.device.type, torch.bfloat16)
