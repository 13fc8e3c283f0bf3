"""Settings with which any system is fitted to a few short clips in moments."""

from __future__ import annotations

from typing import Any

from nearfar import systems

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
}


def settings(name: str) -> dict[str, Any]:
    """Of a named system: a small encoder, a moment's training, as few members as show that there are several."""
    return dict(TINY[systems.load(name).branch.encoder])
