"""The log-mel spectrogram itself: no weights, no training, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from nearfar.encoders import Array
from nearfar.encoders.features import Mel, log_mel


class Spectral:
    """Log-mel levels as tokens of one dimension.

    Parameters
    ----------
    sample_rate : int
        In Hz; recordings of a higher rate are resampled to it.
    n_fft, hop, n_mels : int
        Of the spectrogram. The defaults are the official DCASE baseline's, for 16 kHz.
    """

    fitted_per_machine: ClassVar[bool] = False
    microphones: ClassVar[int] = 1
    path: ClassVar[None] = None
    blocks: ClassVar[tuple[int, ...]] = (1,)
    parameters: ClassVar[int] = 0

    def __init__(
        self, *, sample_rate: int = 16000, n_fft: int = 1024, hop: int = 512, n_mels: int = 128
    ) -> None:
        self.sample_rate = sample_rate
        self.min_samples = n_fft
        self.mel = Mel(rate=sample_rate, n_fft=n_fft, hop=hop, n_mels=n_mels, f_max=sample_rate / 2)

    def __call__(self, waveforms: Array) -> Array:
        """(batch, samples) to (batch, 1, frames, n_mels, 1), in dB."""
        return log_mel(waveforms, self.mel).swapaxes(-1, -2)[:, None, :, :, None]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        if arrays:
            raise ValueError(f"a spectral encoder has no arrays, but was given {sorted(arrays)}")
        return self
