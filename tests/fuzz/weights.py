"""Weights of networks and adapters, which people get from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import quick
import tiny_weights
import torch
from safetensors.torch import load_file
from synthetic import clip

from fuzz import damage
from fuzz.surfaces import Surface
from nearfar.encoders import encoder_class
from nearfar.files.steps import Jobs
from nearfar.systems import configuration
from nearfar.training.adapters import Adapter

FOLDER = TemporaryDirectory(prefix="nearfar-fuzz-weights-")
SOUND = clip(5)[:1]
BLOCKS = {"efficientat": (12,)}
WAYS = {".safetensors": (damage.tensors,)}


def _checkpoint(encoder: str) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        shutil.copyfile(tiny_weights.written(encoder), folder / "weights.safetensors")

    return made


def _pickled(folder: Path) -> None:
    """As people publish them: tensors in a pickle, of which only tensors are read."""
    tensors = load_file(tiny_weights.written("efficientat"))
    torch.save({"model": tensors}, folder / "weights.pt")


def embedded(encoder: str, suffix: str = ".safetensors") -> Callable[[Path], Any]:
    """A use: the network is loaded, and hears a second; whether its tokens are numbers."""

    def use(case: Path) -> Any:
        made = encoder_class(encoder)(
            weights=str(case / f"weights{suffix}"), blocks=BLOCKS.get(encoder, (1,))
        )  # type: ignore[call-arg]
        tokens = made(SOUND)
        return [list(tokens.shape), bool(np.isfinite(tokens).all())]

    return use


@cache
def adapter() -> Path:
    """The file of an adapter with random numbers."""
    system = configuration.load("dualmic", quick.settings("dualmic"))
    path = Path(FOLDER.name) / "adapter.safetensors"
    quick.adapters(system, Jobs(Path(FOLDER.name) / "cache"))[0].save(path)
    return path


def _adapter(folder: Path) -> None:
    shutil.copyfile(adapter(), folder / "adapter.safetensors")


def adapted(case: Path) -> Any:
    """What it was made with, and the digest of all of it."""
    found = Adapter.load(case / "adapter.safetensors")
    return [found.digest, found.describe()]


SURFACES = (
    *(
        Surface(f"weights-{name}", _checkpoint(name), ("weights.*",), {"embedded": embedded(name)}, WAYS)
        for name in ("eat", "beats", "efficientat")
    ),
    Surface("weights-pickled", _pickled, ("weights.*",), {"embedded": embedded("efficientat", ".pt")}),
    Surface("adapter", _adapter, ("adapter.*",), {"adapted": adapted}, WAYS, is_guarded=True),
)
