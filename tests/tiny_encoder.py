"""A pretrained encoder with a few dozen weights."""

from __future__ import annotations

import torch
from torch import nn

from nearfar.encoders.arithmetic import Precision
from nearfar.encoders.checkpoints import matched
from nearfar.encoders.frozen import Frozen, Tokens


class Net(nn.Module):
    """Two blocks on a grid of 2 bands; block n is n times the frames."""

    known_blocks = range(1, 3)

    def __init__(self):
        super().__init__()
        self.frames = nn.Linear(8, 6, bias=False)
        self.norm = nn.BatchNorm1d(8)

    def spectrogram(self, waveforms):
        return waveforms.unfold(1, 8, 8).mT

    def forward(self, waveforms, blocks):
        return self.hear(self.spectrogram(waveforms), blocks)

    def hear(self, spectrogram, blocks):
        frames = spectrogram.mT
        grid = self.frames(self.norm(frames.mT).mT).unflatten(-1, (2, 3))
        of_blocks = torch.stack([n * grid for n in blocks], dim=1)
        return Tokens(of_blocks, of_blocks.mean(dim=(2, 3)))


class Tiny(Frozen):
    ENCODER = "tiny"
    sample_rate = 100
    min_samples = 8
    built = 0

    def __init__(
        self,
        *,
        weights: str = "tiny.safetensors",
        blocks: tuple[int, ...] = (2,),
        precision: Precision = "float32",
        device: str = "cpu",
    ):
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)

    def build(self, tensors, where):
        Tiny.built += 1
        network = Net()
        matched(tensors, network, where=where)
        return network
