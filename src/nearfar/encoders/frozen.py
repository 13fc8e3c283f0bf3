"""What all pretrained encoders share: weights from a file, arrays in, tokens out.

Conventions
-----------
Blocks are counted from 1: the first transformer block gives 1, the last one the number of blocks. A network
says in ``known_blocks`` which it has; it has its front end inside, takes waveforms of its own rate, and gives
tokens of every block that it is asked for. Under autocast it keeps its front end in float32 itself.

A network is frozen, but it can be *adapted*: low-rank adapters (``lora``), which were learnt elsewhere, are taken
up as arrays and added to the weights of the file.

What a network computes in is an option, ``precision``: see ``arithmetic``. "float32", the default, gives nearly
equal numbers everywhere. All others are faster where there is hardware for them, and change the tokens: a detector
decides as it did when it was fitted only with the same precision. "auto" is what is measured to be fastest here
(``choosing``), so it may be different on two computers; a resolved system has a name in its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.encoders import Array, checkpoints, engines, int8, kept, lora
from nearfar.encoders.arithmetic import ARITHMETICS, Arithmetic, ArithmeticName, Precision
from nearfar.encoders.devices import chosen
from nearfar.encoders.engines import Engine
from nearfar.encoders.pretrained import PRETRAINED, Pretrained, find, refuse_unknown
from nearfar.files.digests import digest_arrays, digest_file
from nearfar.files.memory import keep_freed_memory

RECORDINGS_AT_ONCE = 16  # on a GPU
SAMPLES_AT_ONCE = 16 * 256_000  # 16 s at 16 kHz each; of longer recordings fewer are computed at once


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a network gives.

    Attributes
    ----------
    grid : (batch, blocks, frames, bands, dim) tensor
    cls : (batch, blocks, dim) tensor or None
        Where the architecture has such a token.
    """

    grid: Tensor
    cls: Tensor | None = None


class Network(lora.Adaptable, Protocol):
    """What ``Frozen.build`` gives, beside being an ``nn.Module``."""

    def __call__(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) to the tokens of these blocks, in this order: ``hear`` of the ``spectrogram``."""

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to (batch, bands, frames), on the network's scale, on which 0 is about the mean."""

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to the tokens of these blocks, in this order."""


MADE = ("network", "engine", "path", "digest", "_adapter", "_measured_choice")  # what options do not say


class Frozen(ABC):
    """An encoder whose weights come from a file; no recording of a machine changes it.

    Nothing is read before it is first needed. Its arrays are those of low-rank adapters, as ``lora.arrays`` gives
    them, if it was given any: they are added to the weights as these are read.

    Parameters
    ----------
    weights : str
        A name of ``pretrained.PRETRAINED``, or the path of a file.
    blocks : tuple of int
        Whose tokens are given.
    precision : str
        What it computes in, a name of ``arithmetic.ARITHMETICS``, or "auto"; tokens are float32.
    device : str
        As of ``devices.chosen``.

    Notes
    -----
    A subclass sets ``ENCODER``, ``sample_rate`` and ``min_samples``, and writes ``build``. A network whose blocks
    have different sizes has ``outputs(spectrogram, blocks)`` beside, which gives them as a list.
    """

    ENCODER: ClassVar[str]
    fitted_per_machine: ClassVar[bool] = False
    microphones: ClassVar[int] = 1
    sample_rate: int
    min_samples: int

    def __init__(
        self,
        *,
        weights: str,
        blocks: tuple[int, ...],
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        self.weights = weights
        self.blocks = tuple(blocks)
        self.precision = precision
        self.device = device
        self._adapter: dict[str, Array] = {}
        self._check_options()

    def _check_options(self) -> None:
        refuse_unknown(self.weights)
        if self.record is not None and self.record.encoder != self.ENCODER:
            own = (
                ", ".join(name for name, record in PRETRAINED.items() if record.encoder == self.ENCODER)
                or "none"
            )
            raise ValueError(
                f"weights={self.weights!r} are of {self.record.encoder!r}; {self.ENCODER!r} has: {own}"
            )
        if not self.blocks or len(set(self.blocks)) < len(self.blocks):
            raise ValueError(f"blocks={self.blocks}: give the numbers of one block or more, each once")
        if self.precision not in ("auto", *ARITHMETICS):
            raise ValueError(f"precision={self.precision!r}: must be one of auto, {', '.join(ARITHMETICS)}")

    @property
    def record(self) -> Pretrained | None:
        """What is known of the weights; None for a file of the user's own."""
        return PRETRAINED.get(self.weights)

    @cached_property
    def path(self) -> Path:
        """The file of the weights; may be set to another.

        Raises
        ------
        WeightsError
            If it is not there; says how to get it.
        """
        return find(self.weights)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file of the weights."""
        return digest_file(self.path)

    @property
    def adapter_digest(self) -> str | None:
        """SHA-256 of the adapter; None without one."""
        return digest_arrays(self._adapter) if self._adapter else None

    @abstractmethod
    def build(self, tensors: Mapping[str, Tensor], where: str) -> nn.Module:
        """A ``Network`` with these weights, in whatever layout they were published.

        Parameters
        ----------
        tensors : name -> tensor
        where : str
            The file, for errors.

        Raises
        ------
        CheckpointError
            If they are not the weights of this architecture, exactly.
        """

    @cached_property
    def network(self) -> nn.Module:
        """The network, in evaluation mode and without gradients, on its device, with weights for its precision.

        Raises
        ------
        WeightsError, CheckpointError
            If there are no weights, or they are of another network.
        MissingPackageError
            If the precision needs a package that is not installed.
        ValueError
            If there is no such device, it has not that precision, the network has not the blocks that are asked
            for, or the adapter is of another network.
        """
        device = chosen(self.device)
        arithmetic = ARITHMETICS[self.precision_on(device)]
        if device.type == "cpu":
            keep_freed_memory()  # of tokens between layers: an eighth of the time of EAT-base goes into new pages
        if device.type not in kept.DEVICES:
            return self._built(arithmetic, device)
        status = self.path.stat()
        file = self.path.resolve(), status.st_size, status.st_mtime_ns
        options = {name: value for name, value in vars(self).items() if name not in MADE}
        key = (
            type(self),
            file,
            repr(sorted(options.items())),
            self.adapter_digest,
            arithmetic.name,
            str(device),
        )
        return kept.kept(key, lambda: self._built(arithmetic, device))

    def _built(self, arithmetic: Arithmetic, device: torch.device) -> nn.Module:
        network = self.build(checkpoints.read(self.path), str(self.path)).eval().requires_grad_(False)
        self._refuse_strange(self.blocks, cast(Network, network))
        lora.merge(network, self._adapter, f"the adapter of {self.path}")
        return engines.with_weights_for(network, arithmetic, device)

    @cached_property
    def engine(self) -> Engine:
        """What computes the network from its spectrogram on.

        Raises
        ------
        WeightsError, CheckpointError, MissingPackageError, ValueError
            As ``network``; also if the precision needs a C++ compiler, and there is none.
        """
        device = chosen(self.device)
        return engines.prepare(self.network, ARITHMETICS[self.precision_on(device)], device)

    def _refuse_strange(self, blocks: Collection[int], network: Network) -> None:
        known = network.known_blocks
        if strange := [block for block in blocks if block not in known]:
            raise ValueError(f"blocks={strange}: {self.path} has the blocks {known[0]} to {known[-1]}")

    def precision_on(self, device: torch.device) -> ArithmeticName:
        """The arithmetic that it computes in there, a name of ``ARITHMETICS``; never "auto".

        Raises
        ------
        ValueError
            If the precision is for the processor, and the device is none.
        """
        if self.precision == "auto":
            return self._measured_choice
        if not ARITHMETICS[self.precision].computes_on(device.type):
            raise ValueError(
                f"precision={self.precision!r} is for the processor, but device={str(device)!r}; take "
                "device='cpu', or precision='bfloat16'"
            )
        return self.precision

    @cached_property
    def _measured_choice(self) -> ArithmeticName:
        """What "auto" is here; another process that gets the encoder takes it over."""
        from nearfar.encoders import choosing  # which measures encoders

        return choosing.chosen(self)

    def computing_in(self, precision: Precision) -> Self:
        """The same encoder, with its weights and its adapter, in another arithmetic; nothing is read yet.

        Raises
        ------
        ValueError
            If there is no such precision.
        """
        other = copy(self)
        other.precision = precision
        other._check_options()
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Without the network: another process reads the file itself; an adapter goes with it."""
        return {name: value for name, value in vars(self).items() if name not in ("network", "engine")}

    def tokens(self, waveforms: Array) -> Tokens:
        """(batch, samples) to tokens of ``blocks``, float32, on the device.

        Raises
        ------
        ValueError
            If the waveforms are too short, or not of this shape.
        """
        batch, engine = self._batch(waveforms), self.engine
        with torch.inference_mode():
            return engine.hear(cast(Network, self.network).spectrogram(batch), self.blocks)

    def by_block(self, waveforms: Array, blocks: Collection[int]) -> dict[int, Array]:
        """(batch, samples) to the tokens of each of these blocks, (batch, 1, frames, bands, dim), float32.

        Raises
        ------
        ValueError
            If the waveforms are too short, or not of this shape; or the network has not these blocks.
        """
        batch, engine, network = self._batch(waveforms), self.engine, cast(Network, self.network)
        self._refuse_strange(blocks, network)
        with torch.inference_mode():
            grids = engine.outputs(network.spectrogram(batch), tuple(blocks))
        found = (grid.cpu().contiguous().numpy()[:, None] for grid in grids)
        return dict(zip(blocks, found, strict=True))

    def batch_size(self, n_samples: int) -> int:
        """How many recordings of so many samples are to be given at once.

        On a processor one, so that what is kept is to the last bit what is made of a recording by itself.
        """
        if chosen(self.device).type == "cpu":
            return 1
        return max(1, min(RECORDINGS_AT_ONCE, SAMPLES_AT_ONCE // max(1, n_samples)))

    def _batch(self, waveforms: Array) -> Tensor:
        """Waveforms as the network takes them, on its device."""
        if waveforms.ndim != 2 or waveforms.shape[1] < self.min_samples:
            raise ValueError(
                f"waveforms of shape {waveforms.shape}: {self.ENCODER!r} takes (batch, samples), at least "
                f"{self.min_samples} samples ({self.min_samples / self.sample_rate:.2f} s at {self.sample_rate} Hz)"
            )
        return torch.tensor(self.prepared(waveforms), dtype=torch.float32, device=chosen(self.device))

    def prepared(self, waveforms: Array) -> Array:
        """What the network is given of these waveforms: them, unless it wants another rate."""
        return waveforms

    def __call__(self, waveforms: Array) -> Array:
        """(batch, samples) to (batch, blocks, frames, bands, dim), float32."""
        return self.tokens(waveforms).grid.cpu().numpy()

    @property
    def parameters(self) -> int:
        """Weights of the network, without the heads that are dropped; an adapter adds to them, and has none."""
        return int8.n_weights(self.network)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The adapter; empty without one: the weights stay in their file."""
        return dict(self._adapter)

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take up an adapter instead of the one before; none of an empty mapping.

        Raises
        ------
        ValueError
            If these are not pairs of ``{layer}.down`` and ``{layer}.up``. Whether they suit the network is found
            out when this is built.
        """
        pairs = lora.paired(arrays, f"the arrays of {self.ENCODER!r}")
        if pairs or self._adapter:
            for made in ("network", "engine"):
                vars(self).pop(made, None)
        self._adapter = {name: np.array(array, np.float32) for name, array in arrays.items()}
        return self
