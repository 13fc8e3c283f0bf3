"""What all pretrained encoders share: weights from a file, arrays in, tokens out.

Conventions
-----------
Blocks are counted from 1: the first transformer block gives 1, the last one the number of blocks. A network
says in ``known_blocks`` which it has; it has its front end inside, takes waveforms of its own rate, and gives
tokens of every block that it is asked for. Under autocast it keeps its front end in float32 itself.

What a network computes in is an option, ``precision``. "float32", the default, gives nearly equal numbers
everywhere. "bfloat16" and "int8" are faster where there is hardware for them, and change the tokens: a detector
decides as it did when it was fitted only with the same precision. "auto" is bfloat16 on a device that multiplies
in it, else float32, and so may be different on two devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, cast, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.encoders import Array, checkpoints, int8
from nearfar.encoders.devices import chosen, has_bfloat16
from nearfar.encoders.pretrained import PRETRAINED, Pretrained, find, refuse_unknown
from nearfar.storage import digest_file

Precision = Literal["auto", "float32", "bfloat16", "int8"]


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


class Network(Protocol):
    """What ``Frozen.build`` gives, beside being an ``nn.Module``.

    Attributes
    ----------
    known_blocks : range
    """

    known_blocks: range

    def __call__(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) to the tokens of these blocks, in this order."""


class Frozen:
    """An encoder whose weights come from a file; no recording changes it.

    Nothing is read before it is first needed.

    Parameters
    ----------
    weights : str
        A name of ``pretrained.PRETRAINED``, or the path of a file.
    blocks : tuple of int
        Whose tokens are given.
    precision : {"auto", "float32", "bfloat16", "int8"}
        What it computes in; tokens are float32. See ``precision_on``.
    device : str
        As of ``devices.chosen``.

    Notes
    -----
    A subclass sets ``ENCODER``, ``sample_rate`` and ``min_samples``, and writes ``build``.
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
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision={self.precision!r}: must be one of {', '.join(get_args(Precision))}")

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
        raise NotImplementedError(f"{type(self).__name__} does not say how its network is built")

    @cached_property
    def network(self) -> nn.Module:
        """The network, in evaluation mode and without gradients, on its device.

        Raises
        ------
        WeightsError, CheckpointError
            If there are no weights, or they are of another network.
        ValueError
            If there is no such device, it has not that precision, or the network has not the blocks that are asked
            for.
        """
        device = chosen(self.device)
        precision = self.precision_on(device)
        network = self.build(checkpoints.read(self.path), str(self.path)).eval().requires_grad_(False)
        known = cast(Network, network).known_blocks
        if strange := [block for block in self.blocks if block not in known]:
            raise ValueError(f"blocks={strange}: {self.path} has the blocks {known[0]} to {known[-1]}")
        return int8.with_integers(network) if precision == "int8" else network.to(device)

    def precision_on(self, device: torch.device) -> Precision:
        """What it computes in there; never "auto".

        "bfloat16" is by autocast. "int8" is of matrix products and for the processor, by ``encoders.int8``.

        Raises
        ------
        ValueError
            If the precision is "int8" and the device is no processor.
        """
        if self.precision == "int8" and device.type != "cpu":
            raise ValueError(
                f"precision='int8' is for the processor, but device={str(device)!r}; take device='cpu', or "
                "precision='bfloat16'"
            )
        if self.precision == "auto":
            return "bfloat16" if has_bfloat16(device) else "float32"
        return self.precision

    def __getstate__(self) -> dict[str, Any]:
        """Without the network: another process reads the file itself."""
        return {name: value for name, value in vars(self).items() if name != "network"}

    def tokens(self, waveforms: Array) -> Tokens:
        """(batch, samples) to tokens of ``blocks``, float32, on the device.

        Raises
        ------
        ValueError
            If the waveforms are too short, or not of this shape.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] < self.min_samples:
            raise ValueError(
                f"waveforms of shape {waveforms.shape}: {self.ENCODER!r} takes (batch, samples), at least "
                f"{self.min_samples} samples ({self.min_samples / self.sample_rate:.2f} s at {self.sample_rate} Hz)"
            )
        network = cast(Network, self.network)
        batch = torch.tensor(self.prepared(waveforms), dtype=torch.float32, device=chosen(self.device))
        with torch.inference_mode(), self._precision(batch.device):
            found = network(batch, self.blocks)
        return Tokens(found.grid.float(), None if found.cls is None else found.cls.float())

    def prepared(self, waveforms: Array) -> Array:
        """What the network is given of these waveforms: them, unless it wants another rate."""
        return waveforms

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.precision_on(device) == "bfloat16":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    def __call__(self, waveforms: Array) -> Array:
        """(batch, samples) to (batch, blocks, frames, bands, dim), float32."""
        return self.tokens(waveforms).grid.cpu().numpy()

    @property
    def parameters(self) -> int:
        """Weights of the network, without the heads that are dropped."""
        return int8.n_weights(self.network)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing: the weights stay in their file."""
        return {}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        if arrays:
            raise ValueError(f"{self.ENCODER!r} has no arrays of its own, but was given {sorted(arrays)}")
        return self
