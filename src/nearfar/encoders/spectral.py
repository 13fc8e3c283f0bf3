"""The log-mel spectrogram itself, plain or above a floor: no weights, no training, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.encoders import Array
from nearfar.encoders.features import DB_FLOOR, DB_PER_NEPER, Mel, log_mel, mel_filters, mel_spectrogram


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


class FlooredSpectral(Spectral):
    """Log-mel levels of a view, above a floor that near sets.

    It hears two waveforms: near, and what is left of near, such as ``cancelled_3taps``. Where nearly all of near
    was taken away, what is left is the error of the cancellation and changes by many dB from clip to clip. A
    logarithm shows these changes as large as any fault. So pink noise is added to the power before the logarithm.
    (Its power, not its samples: nothing is random.) Pink noise has equal power in each octave, as machines and
    halls have roughly.

    Parameters
    ----------
    floor_db : float
        Mean over bands of the pink noise, against the mean over bands and time of near's power. Our choice, -20:
        see ``benchmarks/default_system.py``.
    sample_rate, n_fft, hop, n_mels : int
        As of ``Spectral``.

    Raises
    ------
    ValueError
        If ``floor_db`` is not finite.
    """

    microphones: ClassVar[int] = 2

    def __init__(
        self,
        *,
        floor_db: float = -20.0,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop: int = 512,
        n_mels: int = 128,
    ) -> None:
        super().__init__(sample_rate=sample_rate, n_fft=n_fft, hop=hop, n_mels=n_mels)
        if not np.isfinite(floor_db):
            raise ValueError(f"floor_db={floor_db}: must be finite; for no floor take the encoder 'spectral'")
        frequencies = np.arange(1, 1 + n_fft // 2)
        pink = mel_filters(self.mel)[:, 1:] @ (1 / frequencies)
        self.floor = (10 ** (floor_db / 10) * pink / pink.mean()).astype(np.float32)

    def __call__(self, waveforms: Array) -> Array:
        """(batch, 2, samples), near and what is left of it, to (batch, 1, frames, n_mels, 1), in dB."""
        near, left = np.moveaxis(mel_spectrogram(waveforms, self.mel), 1, 0)
        left = left + near.mean(axis=(-2, -1), keepdims=True) * self.floor[:, None]
        level: Array = DB_PER_NEPER * np.log(np.maximum(left, np.float32(DB_FLOOR)))
        return level.swapaxes(-1, -2)[:, None, :, :, None]
