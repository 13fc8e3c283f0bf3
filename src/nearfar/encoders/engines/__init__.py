"""Engines: what computes the layers of a frozen network, from its spectrogram to its tokens.

An engine is made of a network once, and then hears. The front end, from samples to the spectrogram, is no business
of it: that stays in float32, in torch, whatever computes the rest. A clip has the same tokens alone and in company.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nearfar.encoders.frozen import Tokens


class Engine(Protocol):
    """What computes a network in some arithmetic."""

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to the tokens of these blocks, in this order, in float32."""

    def outputs(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """(batch, bands, frames) to the grid of each of these blocks, (batch, frames, bands, dim), in float32.

        Unlike ``hear`` it takes blocks of different sizes together.
        """
