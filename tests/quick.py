"""Settings with which any system is fitted to a few short clips in moments."""

from __future__ import annotations

from typing import Any

import tiny_weights

from nearfar import systems
from nearfar.branches import Step

TINY = {
    "autoencoder": {"branch.encoder_options.n_mels": 32, "branch.training.epochs": 1},
    "dca": {
        "branch.encoder_options.n_mels": 16,
        "branch.encoder_options.n_fft": 512,
        "branch.encoder_options.frames": 16,
        "branch.encoder_options.channels": 16,
        "branch.training.epochs": 1,
        "branch.backend_options.n_clusters": 1,
        "ensemble.seeds": [1, 2],
    },
    "spectral": {"branch.encoder_options.n_mels": 32},
    "efficientat": {"branch.encoder_options.blocks": [12]},
}
FEW_COMPONENTS, FEW_NEIGHBOURS = 2, {"k": 1, "k_target": 1}


def settings(name: str) -> dict[str, Any]:
    """Of a named system: a small encoder, a moment's training, and no more of anything than ten clips allow."""
    branch = systems.load(name).branch
    found = dict(TINY.get(branch.encoder, {"branch.encoder_options.blocks": [1]}))
    if branch.encoder in tiny_weights.NETWORKS:
        found["branch.encoder_options.weights"] = str(tiny_weights.written(branch.encoder))
    if any(isinstance(step, Step) for step in branch.conditioning):
        found["branch.conditioning"] = [_few(step) for step in branch.conditioning]
    found |= {
        f"branch.backend_options.{k}": n for k, n in FEW_NEIGHBOURS.items() if k in branch.backend_options
    }
    return found


def _few(step: str | Step) -> str | dict[str, Any]:
    return step if isinstance(step, str) else {"name": step.name, "components": FEW_COMPONENTS}
