"""Encoders: a waveform becomes tokens on a time x band grid.

An encoder is made from keyword options and called with waveforms::

    encoder(waveforms) -> tokens      (batch, samples) float32 -> (batch, blocks, frames, bands, dim) float32

``blocks`` numbers the layers whose tokens it gives, in their order; it is (1,) where there is no choice.

It is *frozen* (its weights, if any, come from the file ``path``) or *fitted per machine* (``training.TRAINERS``
has the function that fits it). Microphones are not its business, it hears the one waveform that a view gives it;
but for a network of two microphones, which takes ``(batch, 2, samples)``.

One that gives any of its blocks in one run, even blocks of different sizes, is ``Layered`` as well. One that can
cut or fill clips is ``Limited``. One that can begin with spectra that others look at, too, is ``Overhearing``. One
that says where its tokens lie in time and frequency is ``Located``.

A new encoder is one module and one line in ``ENCODERS``. The line names the class instead of importing it, so
that a system that needs no torch does not load torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, runtime_checkable

from nearfar.files import extras
from nearfar.recordings.clips import unknown

if TYPE_CHECKING:  # the list of weights loads no NumPy
    import numpy as np
    from numpy.typing import NDArray

    from nearfar.encoders.axes import TimeFrequency
    from nearfar.recordings.transforms import Transforms

Array: TypeAlias = "NDArray[np.float32]"


class Encoder(Protocol):
    """What every encoder has."""

    fitted_per_machine: ClassVar[bool]
    microphones: ClassVar[int]
    path: Path | None
    blocks: tuple[int, ...]
    sample_rate: int
    min_samples: int

    def __call__(self, waveforms: Array) -> Array:
        """(batch, samples), or (batch, 2, samples), to (batch, blocks, frames, bands, dim)."""

    @property
    def parameters(self) -> int:
        """How many numbers were learnt, anywhere, to make it."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What must be saved beside the options to have the same encoder again; empty if nothing."""

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take up what ``arrays`` gave."""


@runtime_checkable
class Layered(Protocol):
    """What an encoder has beside, if it gives the tokens of any blocks in one run, and of several recordings."""

    def by_block(self, waveforms: Array, blocks: Collection[int]) -> dict[int, Array]:
        """(batch, samples) to the tokens of each of these blocks, (batch, 1, frames, bands, dim)."""

    def batch_size(self, n_samples: int) -> int:
        """How many recordings of so many samples are to be given at once."""


@runtime_checkable
class Overhearing(Protocol):
    """What an encoder has beside, if it can begin with spectra that others look at, too."""

    def of_spectra(self, heard: Transforms) -> Array:
        """The tokens of one waveform, (1, samples), by its spectra: the same as by itself."""


@runtime_checkable
class Limited(Protocol):
    """What an encoder has beside, if it can cut a clip, or fill it up with zeros."""

    @property
    def takes_any_length(self) -> bool:
        """Whether, with its options, it does neither."""

    @property
    def length_advice(self) -> str:
        """What to know or to do about clips that it cuts or fills; the end of a sentence."""

    def cut_and_filled(self, n_samples: int) -> tuple[float, float]:
        """Of a clip of so many samples at its rate, what it does not hear, and what it adds, in seconds.

        Less than a token, or what the network was trained with, counts as none.
        """


@runtime_checkable
class Located(Protocol):
    """What an encoder has beside, if its tokens lie somewhere in time and frequency."""

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """Numbers of tokens on a grid of time and frequency, on which they have the same sum.

        Parameters
        ----------
        terms : (blocks, frames, bands, dim) array
            A number for each number of the tokens.
        n_samples : int
            Of the waveform, at ``sample_rate``.
        """


ENCODERS = {
    "autoencoder": "nearfar.encoders.autoencoder:Autoencoder",
    "beats": "nearfar.encoders.beats:Beats",
    "ced": "nearfar.encoders.ced:Ced",
    "dca": "nearfar.encoders.dca:Dca",
    "difference_autoencoder": "nearfar.encoders.autoencoder:DifferenceAutoencoder",
    "eat": "nearfar.encoders.eat:Eat",
    "efficientat": "nearfar.encoders.efficientat:EfficientAt",
    "m2d": "nearfar.encoders.m2d:M2d",
    "spectral": "nearfar.encoders.spectral:Spectral",
}


def encoder_class(name: str) -> type[Encoder]:
    """The class of that name, loaded now.

    Raises
    ------
    ValueError
        If there is none; names the nearest.
    MissingPackageError
        If it needs torch, and torch is not installed.
    """
    if name not in ENCODERS:
        raise ValueError(unknown("encoder", name, ENCODERS))
    return extras.resolve(ENCODERS[name], needed_by=f"encoder {name!r}")
