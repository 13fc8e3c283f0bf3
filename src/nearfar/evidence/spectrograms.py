"""Spectrograms to look at: levels in bands of a logarithmic axis, over time.

Conventions
-----------
Levels are in dBFS: ten times the logarithm of the mean square of what lies in the band, where full scale is 1. So
the bands of a column add up, as powers, to the mean square of its frame. Silence has the level ``SILENCE``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.transforms import Waveform, hann, transform

FRAME_SECONDS = 0.064  # the frame is the power of two that is next to this
LOWEST = 50.0  # Hz, the lower end of the axis
SILENCE = -160.0  # dBFS; what 24 bits can hold begins at -144


@dataclass(frozen=True, slots=True)
class Spectrogram:
    """Levels of one microphone.

    Attributes
    ----------
    times : (columns + 1,) array
        Edges in s, from 0 to the end of the recording.
    frequencies : (bands + 1,) array
        Edges in Hz, from ``LOWEST`` to half the rate; their ratios are equal.
    levels : (bands, columns) float32 array
        dBFS.
    """

    times: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    levels: NDArray[np.float32]


def spectrogram(samples: Waveform, rate: int, *, bands: int = 96, columns: int = 400) -> Spectrogram:
    """The spectrogram of one microphone.

    Bands at low frequencies are narrower than a bin of the transform: they take their share of it.

    Parameters
    ----------
    samples : (samples,) array
    rate : int
        Hz.
    bands : int
    columns : int
        At most; frames that are more are averaged, so that nothing short is missed.

    Raises
    ------
    ValueError
        If there are no samples or more than one dimension of them, or the rate is too low for a band.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.evidence.spectrograms import spectrogram
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    >>> found = spectrogram(tone, 16000, bands=8)
    >>> found.levels.shape, found.frequencies[found.levels[:, 10].argmax()].round()
    ((8, 32), np.float64(632.0))
    """
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"samples of shape {samples.shape}: must be one microphone with at least one sample")
    if rate <= 2 * LOWEST:
        raise ValueError(f"rate={rate}: must be more than {2 * LOWEST:g} Hz to show anything")
    n_fft = 2 ** max(4, round(math.log2(rate * FRAME_SECONDS)))
    hop = n_fft // 2
    frames = _frames(np.asarray(samples, np.float32), n_fft)
    spectra = np.empty((len(frames), hop + 1), np.complex64)
    transform(frames, spectra)
    power = (spectra.real**2 + spectra.imag**2) * np.float32(2 / (n_fft * float(np.sum(hann(n_fft) ** 2))))
    power[:, [0, -1]] /= 2  # they have no twin at negative frequencies
    together = math.ceil(len(frames) / columns)
    starts = np.arange(0, len(frames), together)
    power = np.add.reduceat(power, starts, axis=0) / np.diff(np.append(starts, len(frames)))[:, None]
    edges = np.geomspace(LOWEST, rate / 2, bands + 1)
    return Spectrogram(
        times=np.append(starts * hop / rate, len(samples) / rate),
        frequencies=edges,
        levels=_levels(power, edges * n_fft / rate),
    )


def _frames(samples: Waveform, n_fft: int) -> NDArray[np.float32]:
    """(frames, n_fft), each centred in its column of half its length, with zeros around the recording."""
    hop = n_fft // 2
    padded = np.pad(samples, (hop // 2, hop - hop // 2 + -len(samples) % hop))
    return np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]


def _levels(power: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Power of bins, (columns, bins), in bands between edges in bins: bin k reaches from k - 0.5 to k + 0.5."""
    below = np.zeros((power.shape[1] + 1, len(power)))
    np.cumsum(power.T, axis=0, out=below[1:])
    at = np.clip(edges + 0.5, 0, power.shape[1])
    whole = np.minimum(at.astype(int), power.shape[1] - 1)
    reached = below[whole] + (at - whole)[:, None] * power.T[whole]
    return np.asarray(10 * np.log10(np.maximum(np.diff(reached, axis=0), 10 ** (SILENCE / 10))), np.float32)
