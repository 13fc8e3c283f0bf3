"""The log-mel spectrogram itself: no weights, no training, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.encoders import Array
from nearfar.encoders.axes import TimeFrequency, frame_edges, located, mel_edges
from nearfar.encoders.features import Mel, levels_of, mel_filters, mel_of_spectra, mel_spectrogram
from nearfar.recordings.transforms import Transforms


class Spectral:
    """Log-mel levels as tokens of one dimension.

    Parameters
    ----------
    sample_rate : int
        In Hz; recordings of a higher rate are resampled to it.
    n_fft, hop, n_mels : int
        Of the spectrogram. The defaults are the official DCASE baseline's, for 16 kHz.
    floor_db : float or None
        Pink noise is added to the power, before the logarithm: so many dB, on average over the bands, against the
        mean power of the waveform. (Nothing is random: it is the noise's mean power that is added.) Where
        cancellation took nearly all of a band away, what is left is its error and changes by many dB from clip to
        clip. A logarithm shows these changes as large as any fault; the floor hides them. Pink noise has equal
        power in each octave, as machines and halls have roughly. ``None``, the default, adds nothing.
        ``spectral.toml`` takes -10, our choice: see ``benchmarks/default_system.py``.

    Raises
    ------
    ValueError
        If ``floor_db`` is not finite.
    """

    fitted_per_machine: ClassVar[bool] = False
    microphones: ClassVar[int] = 1
    path: ClassVar[None] = None
    blocks: ClassVar[tuple[int, ...]] = (1,)
    parameters: ClassVar[int] = 0

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop: int = 512,
        n_mels: int = 128,
        floor_db: float | None = None,
    ) -> None:
        if floor_db is not None and not np.isfinite(floor_db):
            raise ValueError(f"floor_db={floor_db}: must be finite; leave it out for no floor")
        self.sample_rate = sample_rate
        self.min_samples = n_fft
        self.mel = Mel(rate=sample_rate, n_fft=n_fft, hop=hop, n_mels=n_mels, f_max=sample_rate / 2)
        self.floor_db = floor_db

    def __call__(self, waveforms: Array) -> Array:
        """(batch, samples) to (batch, 1, frames, n_mels, 1), in dB."""
        return self._tokens(mel_spectrogram(waveforms, self.mel))

    def of_spectra(self, heard: Transforms) -> Array:
        """The tokens of one waveform, (1, samples), by spectra that others look at, too: the same as by itself."""
        n_fft, hop = self.mel.n_fft, self.mel.hop
        if 2 * hop != n_fft:
            return self(heard.samples)
        frames = 1 + heard.samples.shape[1] // hop  # one that reaches further is not among them
        return self._tokens(mel_of_spectra(heard.spectra(0, n_fft)[:frames], self.mel)[None])

    def _tokens(self, power: Array) -> Array:
        """Of power in bands, (batch, n_mels, frames), which is written over."""
        level = levels_of(power) if self.floor_db is None else self._above_floor(power)
        return level.swapaxes(-1, -2)[:, None, :, :, None]

    def _above_floor(self, power: Array) -> Array:
        """(batch, n_mels, frames), in dB."""
        assert self.floor_db is not None
        pink = mel_filters(self.mel)[:, 1:] @ (1 / np.arange(1, 1 + self.mel.n_fft // 2))
        floor = (10 ** (self.floor_db / 10) * pink / pink.mean()).astype(power.dtype)
        power += power.mean(axis=(-2, -1), keepdims=True) * floor[:, None]
        return levels_of(power)

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell for each frame and mel band: see ``encoders.Located``."""
        _, frames, bands, _ = terms.shape
        times = frame_edges(self.mel, np.arange(frames + 1), n_samples, centred=True)
        return located(terms, times, mel_edges(self.mel, np.arange(bands + 1)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        if arrays:
            raise ValueError(f"a spectral encoder has no arrays, but was given {sorted(arrays)}")
        return self
