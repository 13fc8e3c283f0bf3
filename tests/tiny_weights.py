"""Weights of every pretrained architecture, as small as it allows, with random numbers."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from nearfar.encoders import beats, ced, checkpoints, eat, efficientat, m2d

TINY_VIT = {"dim": 64, "heads": 1, "depth": 2}
BEATS = replace(
    beats.ITERATION_3,
    embed_dim=16,
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=16,
    encoder_attention_heads=2,
    encoder_layers=2,
    conv_pos=8,
    conv_pos_groups=2,
)
NETWORKS = {
    "beats": lambda: beats.BeatsNetwork(BEATS),
    "ced": lambda: ced.CedNetwork(replace(ced.BASE, **TINY_VIT)),
    "eat": lambda: eat.EatNetwork(replace(eat.BASE, **TINY_VIT), frames="clip", classes=None),
    "efficientat": lambda: efficientat.Network(efficientat.MN04),
    "m2d": lambda: m2d.M2dNetwork(replace(m2d.BASE, **TINY_VIT)),
}
CONFIGURATIONS = {"beats": asdict(BEATS)}
FOLDER = TemporaryDirectory(prefix="tiny-weights-")  # of this process, which removes it when it ends


@cache
def written(encoder: str) -> Path:
    """The file of such weights, for this process."""
    path = Path(FOLDER.name) / f"{encoder}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # biases are as torch draws them, in whatever order tests run
        network: nn.Module = NETWORKS[encoder]()
    generator = torch.Generator().manual_seed(7)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.2 if is_drawn(name, tensor) else tensor
        for name, tensor in network.state_dict().items()
    }
    checkpoints.write(path, tensors, configuration=CONFIGURATIONS.get(encoder, {}))
    return path


def is_drawn(name: str, tensor: torch.Tensor) -> bool:
    """Weights are; normalizations, positions and statistics are as they begin."""
    return tensor.ndim > 1 and "pos" not in name and "norm" not in name
