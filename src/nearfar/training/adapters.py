"""Adapters: what a training over several machines adds to a frozen encoder, in a file of its own.

Conventions
-----------
An adapter holds arrays of two owners: ``lora.LAYER.down`` and ``.up``, the low-rank changes of the encoder's
layers (``encoders.lora``), and, of the recipe ``arcface``, ``head.weight`` and ``head.bias``, the linear head that
they were trained with. The network itself is not in it. Beside them stands what they were made with, so that an
adapter is never put on another network. A file is safetensors; nothing in it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nearfar.files.arrays import save_arrays
from nearfar.files.atomic import atomic_file
from nearfar.files.digests import digest, digest_arrays

FORMAT = 1
DESCRIPTION, DIGEST = "nearfar", "digest"  # keys of the file's metadata; files before 0.2 have no digest
LAYERS, HEAD = "lora", "head"  # owners of the arrays
TRAINS_HEAD = {
    "view": "near_and_far",
    "pooling": "global_mean_std",
}  # of ``training.adaptation.AdapterRecipe``


@dataclass(frozen=True)
class HeardClips:
    """Normal clips of several machines, as the training of an adapter takes them.

    Attributes
    ----------
    hear : callable
        From the number of a clip to (microphones, samples) at the encoder's rate. Called from several threads, once
        an epoch for each clip; once more for k-means, if a recipe makes pseudo-classes.
    machine, domain, attributes : (n_clips,) arrays of str
    microphones : int
        Waveforms of a clip; by default near and far.
    """

    hear: Callable[[int], NDArray[np.float32]]
    machine: NDArray[np.str_]
    domain: NDArray[np.str_]
    attributes: NDArray[np.str_]
    microphones: int = 2


class AdapterError(ValueError):
    """A file that is no adapter, or an adapter of another network."""


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes of a frozen encoder, and the head that was trained with them, if the recipe keeps one.

    Attributes
    ----------
    arrays : mapping from name to array
        See the module.
    made_with : dict
        JSON-able: ``encoder`` (a name), ``options`` (of its network), ``weights`` (SHA-256 of its file),
        ``blocks``, ``adaptation`` (settings of the training), its ``recipe`` and the ``microphones`` that it heard
        (not in files from the time of one recipe), ``seed``, and ``machines``, of each how many normal ``clips``
        were heard, and their ``digest``.
    """

    arrays: Mapping[str, NDArray[Any]]
    made_with: dict[str, Any]

    @property
    def machines(self) -> tuple[str, ...]:
        """That it was trained on."""
        return tuple(self.made_with["machines"])

    @cached_property
    def digest(self) -> str:
        """Of everything in it."""
        return digest({"arrays": digest_arrays(self.arrays), "made_with": self.made_with})

    def describe(self) -> dict[str, Any]:
        """What it was made with, and its digest: JSON-able."""
        return {**self.made_with, "digest": self.digest}

    def save(self, path: Path) -> None:
        """Write the file: whole, or not at all."""
        told = json.dumps({"format": FORMAT, **self.made_with}, sort_keys=True)
        with atomic_file(path) as part:
            save_arrays(part, self.arrays, metadata={DESCRIPTION: told, DIGEST: self.digest})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that ``save`` wrote.

        Raises
        ------
        FileNotFoundError
            If there is none.
        AdapterError
            If it is damaged, no adapter, or of a newer format.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no adapter here; `nearfar adapt` trains one")
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
            arrays = load_file(path)
        except (SafetensorError, OSError, ValueError, TypeError, LookupError) as error:
            raise AdapterError(f"{path}: damaged, or no adapter ({error}); train it again") from error
        if DESCRIPTION not in metadata:
            raise AdapterError(f"{path}: no adapter, but other tensors; `nearfar adapt` trains one")
        try:
            made_with = json.loads(metadata[DESCRIPTION])
            written = int(made_with.pop("format"))
            found = cls(arrays, made_with)
            is_whole = metadata.get(DIGEST) in (None, found.digest)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
            raise AdapterError(f"{path}: its description is damaged; train it again") from error
        if written > FORMAT:
            raise AdapterError(
                f"{path}: an adapter of format {written}; this nearfar reads up to format {FORMAT}: install a "
                "newer nearfar"
            )
        if not is_whole:
            raise AdapterError(
                f"{path}: damaged (its digest has changed); restore it from a copy, or train it again"
            )
        return found

    def require_blocks(self, blocks: Sequence[int]) -> None:
        """Raise if its head was trained on other blocks than these.

        Raises
        ------
        AdapterError
        """
        if self.made_with["blocks"] != list(blocks):
            raise AdapterError(
                f"the adapter's head was trained on blocks={self.made_with['blocks']}, but here "
                f"blocks={list(blocks)}; take the blocks that it was trained on, or train another"
            )
