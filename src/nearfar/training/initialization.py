"""Weights before a training, from a generator of their own."""

from __future__ import annotations

import torch
from torch import nn


def undrawn_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer whose weights are to be drawn yet, not from torch's own generator."""
    return nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device="cpu")


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of convolutions and linear layers as torch does by default; all others as they begin."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / module.weight[0].numel() ** 0.5
            for parameter in module.parameters(recurse=False):
                drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                parameter.data.copy_(drawn)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
