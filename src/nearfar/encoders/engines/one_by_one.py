"""Clips that are computed one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.encoders.engines import Engine
from nearfar.encoders.frozen import Tokens


class OneByOne:
    """An engine that is given one clip at a time, so that no clip depends on those beside it.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """See ``Engine``."""
        found = [self.engine.hear(clip, blocks) for clip in spectrogram.split(1)]
        cls = [tokens.cls for tokens in found if tokens.cls is not None]
        return Tokens(torch.cat([tokens.grid for tokens in found]), torch.cat(cls) if cls else None)

    def outputs(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """See ``Engine``."""
        found = [self.engine.outputs(clip, blocks) for clip in spectrogram.split(1)]
        return [torch.cat(grids) for grids in zip(*found, strict=True)]
