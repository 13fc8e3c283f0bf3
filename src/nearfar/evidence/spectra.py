"""Spectra of a clip against those of the normal clips: in bands for all of them, finely for those that are kept.

Conventions
-----------
Levels are in dB re full scale, where a mean square of 1 is 0 dB. Those of fine spectra are power densities, per Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.transforms import hann

Float = NDArray[np.float64]
Waveform = NDArray[np.float32]

QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)  # of the normal clips
RESOLUTION_HZ = 4.0  # of fine spectra, about: lines of a shaft and its harmonics stand apart
QUIETEST_DB = -160.0  # per Hz; below the noise of 24 bits


@dataclass(frozen=True, eq=False)
class BandLevels:
    """What one microphone view hears in each band, against all normal clips.

    Attributes
    ----------
    view : str
        "near", "far", or another microphone view.
    edges : (n_bands + 1,) array
        In Hz.
    clip, peaks : (n_bands,) array
        Mean level, and the level that the loudest 5 % of the frames exceed.
    normal : (5, n_bands) array
        ``QUANTILES`` of the mean levels of the normal clips of all domains.
    lowest, highest : (n_bands,) array
        The most extreme of them.
    clips : int
        How many normal clips there are.
    """

    view: str
    edges: Float
    clip: Float
    peaks: Float
    normal: Float
    lowest: Float
    highest: Float
    clips: int

    @classmethod
    def of(cls, view: str, edges: Float, clip: Float, peaks: Float, normal: Float) -> BandLevels:
        """Compare the levels of a clip, (n_bands,), with those of normal clips, (n_clips, n_bands)."""
        quantiles = np.quantile(normal, QUANTILES, axis=0)
        extremes = normal.min(axis=0), normal.max(axis=0)
        return cls(view, edges, clip, peaks, quantiles, *extremes, len(normal))


@dataclass(frozen=True, eq=False)
class FineSpectrum:
    """The spectrum of one microphone view, against those of some normal recordings.

    Attributes
    ----------
    view : str
    frequencies : (n_bins,) array
        In Hz.
    clip : (n_bins,) array
        Power density in dB.
    low, median, high : (n_bins,) array or None
        Quantiles 0.05, 0.5 and 0.95 of the normal recordings, by linear interpolation: of few, nearly the lowest
        and the highest of them. ``None`` without recordings.
    clips : int
        How many normal recordings these are.
    """

    view: str
    frequencies: Float
    clip: Float
    low: Float | None
    median: Float | None
    high: Float | None
    clips: int

    @classmethod
    def of(cls, view: str, waveform: Waveform, normal: Sequence[Waveform], rate: int) -> FineSpectrum:
        """Compare waveforms, all at one rate."""
        n_fft = bins_for(rate)
        frequencies = np.arange(1, n_fft // 2 + 1) * rate / n_fft
        clip = density(waveform, rate)
        if not normal:
            return cls(view, frequencies, clip, None, None, None, 0)
        levels = np.array([density(one, rate) for one in normal])
        low, median, high = np.quantile(levels, (0.05, 0.5, 0.95), axis=0)
        return cls(view, frequencies, clip, low, median, high, len(normal))


def bins_for(rate: int) -> int:
    """Samples of a frame: a power of two, for about ``RESOLUTION_HZ``."""
    return int(2 ** round(np.log2(rate / RESOLUTION_HZ)))


def density(waveform: Waveform, rate: int) -> Float:
    """Power density in dB per Hz of all bins above 0 Hz, by Welch's method: Hann windows that overlap by half."""
    n_fft = bins_for(rate)
    window = hann(n_fft)
    padded = np.pad(waveform, (0, max(0, n_fft - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: n_fft // 2]
    bins = scipy.fft.rfft(frames * window)[:, 1:]
    power = (bins.real**2 + bins.imag**2).mean(axis=0, dtype=float)
    power *= 2 / (rate * float((window.astype(float) ** 2).sum()))
    power[-1] /= 2  # half the sampling rate has no mirror image
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (QUIETEST_DB / 10))))
