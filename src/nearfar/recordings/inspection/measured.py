"""One pass over the samples of a recording gives the few numbers that all judgements are made of.

Conventions
-----------
Levels are in dB re full scale (dBFS; 0 is an RMS of one). ``C`` channels, ``B`` bands that are equally wide on the
logarithmic axis, ``F`` bins of the transform. Frames are some 0.13 s long and Hann-windowed; they do not overlap,
except in recordings of a few seconds. So the pass takes about as long as reading the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import FAR, INT16_SCALE, NEAR, Samples
from nearfar.recordings.transforms import Transforms, hann

Float = NDArray[np.float64]

FRAME_SECONDS = 0.128  # rooms of plants ring for longer, but their first reflections fit
OVERLAP_BELOW_SECONDS = 4.0  # shorter recordings have overlapping frames, or there would be too few
LARGE_OFFSET = 0.01  # of full scale
BLOCK_SECONDS = 0.05  # of the levels that show a gap
BANDS = 24
LOWEST_HZ = 62.5  # below lies wind and handling noise
PARTS = 4  # of a recording that are judged one by one
FRAMES_AT_ONCE = 24  # fit the cache; larger temporaries cost more in page faults than in work
FEWEST_FRAMES = 2 * PARTS  # of which coherence can be estimated at all
STUCK_SECONDS = 0.005  # of one and the same sample: no sound stands still for so long
QUIETEST = 1e-10  # power, -100 dBFS: far below a step of 16 bits
NEAR_TOP = (
    24.5 * INT16_SCALE
)  # of the samples this close to the extreme a quarter lies at it if the top is smooth,
AT_TOP_SHARE = 0.6  # and nearly all do if it is cut off
INT16_STEP = 1.5 * INT16_SCALE  # two samples that differ by less are the same to a 16-bit converter
ALIKE_AT_ALL = 0.5  # coherence below which two channels cannot be one signal
FLAT_TOP = 3  # equal samples in a row at the recording's own extreme
FLAT_SHARE = 1e-4  # of samples in flat tops; a peak-normalized clean recording has none
QUIET_PEAK = 200 * INT16_SCALE  # below it a flat top is coarse quantization, not clipping


@dataclass(frozen=True, slots=True)
class Spectra:
    """Sums of short-time spectra over the frames of each part of a recording.

    Attributes
    ----------
    frames : int
    power : (C, parts, F) array
    cross : (parts, F) complex array
        Near times the conjugate of far.
    """

    frames: int
    power: Float
    cross: NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Pair:
    """How the two channels of a recording belong together.

    Attributes
    ----------
    phase : (F,) complex array
        The complex coherence of near and far: between 0, nothing in common, and magnitude one.
    contrast : (B,) array
        Level of near over far in each band, in dB.
    presence : (1 + PARTS, 3 B) array
        Of the recording, and of its parts: what far does not explain of near, relative to far; its share of near;
        how much more tonal near is than far. In dB, by band.
    likeness : float
        Median over bands of the coherence of near and far, between 0 and 1.
    correlation : float
        Of the two waveforms at the delay at which they agree best; 0 if the coherence rules out that they are one.
    """

    phase: NDArray[np.complex64]
    contrast: Float
    presence: Float
    likeness: float
    correlation: float


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What is told of the sound of a recording beside its score, so that a slow change of it can be seen.

    NaN where it is not known: of the far microphone, if there is one channel only. Two that are both not known are
    equal.

    Attributes
    ----------
    near_dbfs, far_dbfs : float
        Levels of the microphones, in dB re full scale, without the mean.
    coherence : float
        ``Pair.likeness``; NaN also of a recording that is too short for it.
    near_tilt, far_tilt : float
        By how many dB per octave the power density rises, by a line through ``Measured.bands``. A membrane with
        dust or oil on it loses high frequencies first.
    """

    near_dbfs: float
    far_dbfs: float
    coherence: float
    near_tilt: float
    far_tilt: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Levels) and self._comparable() == other._comparable()

    def __hash__(self) -> int:
        return hash(self._comparable())

    def _comparable(self) -> tuple[float | None, ...]:
        return tuple(None if math.isnan(number) else number for number in astuple(self))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pass over a recording gives.

    Attributes
    ----------
    rate : int
        In Hz.
    samples : int
    mean, peak : (C,) array
        The offset of each channel, and its largest sample without sign.
    level : (C,) array
        In dBFS, without the mean.
    blocks : (C, n_blocks) array
        Levels of blocks of ``BLOCK_SECONDS``, in dBFS.
    stuck : (C,) array
        Seconds of the longest run of one sample value, other than a flat top; 0 below ``STUCK_SECONDS``.
    flat : (C,) array
        Share of samples in flat tops: where the channel clips.
    bands : (C, B) array
        Mean power density in each band, in dB.
    pair : Pair or None
        Of the first two channels, unless the recording is too short.
    """

    rate: int
    samples: int
    mean: Float
    peak: Float
    level: Float
    blocks: Float
    stuck: Float
    flat: Float
    bands: Float
    pair: Pair | None = field(repr=False)

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    def loud(self, channel: int) -> float:
        """The level that nine tenths of the blocks of a channel stay below, in dBFS."""
        levels = np.sort(self.blocks[channel])
        return float(levels[int(0.9 * (len(levels) - 1))])

    def summary(self) -> Levels:
        """The few numbers that stay comparable over months, for the first two channels."""
        level, tilt = (np.resize([*x, np.nan], 2) for x in (self.level, _tilt(self.bands, self.rate)))
        coherence = np.nan if self.pair is None else self.pair.likeness
        return Levels(*map(float, (level[NEAR], level[FAR], coherence, tilt[NEAR], tilt[FAR])))


def measure(samples: Samples, rate: int, transforms: Transforms | None = None) -> Measured:
    """Measure a recording.

    Parameters
    ----------
    samples : (channels, samples) array
        Finite.
    rate : int
        In Hz, the one that it was recorded at.
    transforms : Transforms or None
        Of these samples: their spectra are used if somebody else wants them anyhow.
    """
    samples = samples[: FAR + 1].astype(np.float32, copy=False)
    mean = centre = samples.mean(axis=1).astype(np.float64)
    if np.abs(mean).max() > LARGE_OFFSET:  # the sound would drown in the squares
        samples, transforms = samples - mean[:, None].astype(np.float32), None
        centre = samples.mean(axis=1).astype(np.float64)
    peaks = np.stack([samples.max(axis=1), -samples.min(axis=1)], axis=1)
    spectra, edges = _spectra(samples, rate, transforms), band_edges(rate)
    density = spectra.power.sum(axis=1) / spectra.frames
    level = decibels(np.maximum(np.vecdot(samples, samples) / samples.shape[1] - centre**2, 0))
    return Measured(
        rate=rate,
        samples=samples.shape[1],
        mean=mean,
        peak=peaks.max(axis=1).astype(np.float64) + np.abs(mean - centre),
        level=level,
        blocks=_block_levels(samples, rate),
        stuck=np.array([_longest_stuck(x, rate, p) for x, p in zip(samples, peaks, strict=True)]),
        flat=np.array([_flat_share(x, *p) for x, p in zip(samples, peaks, strict=True)]),
        bands=decibels(_by_band(density, edges) / np.diff(edges)),
        pair=_pair(samples, spectra, edges),
    )


def decibels(power: Float) -> Float:
    """Of a power; nothing is below ``QUIETEST``."""
    return 10 * np.log10(np.maximum(power, QUIETEST))


def frame_length(rate: int) -> int:
    """The power of two that is nearest to ``FRAME_SECONDS``."""
    return 1 << max(6, round(float(np.log2(FRAME_SECONDS * rate))))


def _normalized(length: int) -> float:
    """By what a Hann window is multiplied so that the powers of all bins sum to the RMS^2."""
    return float(1 / np.sqrt((hann(length).astype(np.float64) ** 2).sum() * length / 2))


@lru_cache(maxsize=8)
def _window(length: int) -> NDArray[np.float32]:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return (window / np.sqrt((window**2).sum() * length / 2)).astype(np.float32)


def band_edges(rate: int) -> NDArray[np.intp]:
    """Bins at which the bands begin, and the end of the last: (B + 1,)."""
    length = frame_length(rate)
    lowest = max(1, round(LOWEST_HZ * length / rate))
    edges = np.geomspace(lowest, length // 2, BANDS + 1).round().astype(np.intp)
    return np.maximum.accumulate(np.maximum(edges, lowest + np.arange(BANDS + 1)))  # none is empty


def _tilt(bands: Float, rate: int) -> Float:
    """Slope of the best line through the levels of the bands, over octaves: (C, B) to (C,)."""
    edges = band_edges(rate)
    octaves = np.log2(np.sqrt(edges[:-1] * edges[1:]))
    octaves -= octaves.mean()
    return (bands @ octaves) / (octaves @ octaves)


def _frames(samples: Samples, rate: int) -> NDArray[np.float32]:
    """(channels, frames, length), a view. A recording shorter than a frame is padded with zeros."""
    length = frame_length(rate)
    hop = length // 2 if samples.shape[1] < OVERLAP_BELOW_SECONDS * rate else length
    if samples.shape[1] < length:
        samples = np.pad(samples, ((0, 0), (0, length - samples.shape[1])))
    return np.lib.stride_tricks.sliding_window_view(samples, length, axis=1)[:, ::hop]


def _spectra(samples: Samples, rate: int, transforms: Transforms | None = None) -> Spectra:
    frames = _frames(samples, rate)
    n_frames, length, window = frames.shape[1], frames.shape[2], _window(frames.shape[2])
    ready: Sequence[NDArray[np.complex64]] = ()
    if (
        transforms is not None
        and length in transforms.wanted
        and samples.shape[1] >= OVERLAP_BELOW_SECONDS * rate
    ):
        ready = [
            transforms.spectra(c, length)[1::2] for c in range(len(samples))
        ]  # every other one, side by side
    starts = np.unique(np.linspace(0, n_frames, PARTS + 1).astype(int)[:-1]).tolist()
    shape = (len(starts), length // 2 + 1)
    power = np.zeros((len(samples), *shape))
    cross = np.zeros(shape, np.complex64)
    for part, (start, end) in enumerate(pairwise([*starts, n_frames])):
        for i in range(start, end, FRAMES_AT_ONCE):
            stop = min(end, i + FRAMES_AT_ONCE)
            ones = np.ones(stop - i, np.float32)  # a product sums faster than a sum over the first axis
            spectrum = [one[i:stop] for one in ready] or scipy.fft.rfft(frames[:, i:stop] * window)
            crossed = spectrum[NEAR] * spectrum[-1].conj()
            cross[part] += (ones @ crossed.view(np.float32)).view(np.complex64)
            for of_channel, one in zip(power, spectrum, strict=True):
                squares = ones @ np.square(one.view(np.float32))
                of_channel[part] += squares[0::2] + squares[1::2]
    if ready:  # they are under a window that has another factor
        factor = _normalized(length) ** 2
        power, cross = power * factor, cross * np.float32(factor)
    return Spectra(n_frames, power, cross)


def _unit(cross: NDArray[np.complex64], power: NDArray[np.float32]) -> NDArray[np.complex64]:
    """A cross-spectrum with magnitude one; 0 stays 0."""
    size = power[NEAR] * power[-1]
    np.sqrt(np.maximum(size, np.float32(1e-30), out=size), out=size)
    return cross / size


def unit_phases(samples: Samples, rate: int) -> NDArray[np.complex64]:
    """The cross-spectrum of each frame with magnitude one: (2, samples) to (frames, F)."""
    frames = _frames(samples, rate)
    spectrum = scipy.fft.rfft(frames * _window(frames.shape[2]))
    return _unit(spectrum[NEAR] * spectrum[FAR].conj(), spectrum.real**2 + spectrum.imag**2)


def frame_contrasts(samples: Samples, rate: int) -> Float:
    """``Pair.contrast`` of each frame: (2, samples) to (frames, B)."""
    frames, edges = _frames(samples, rate), band_edges(rate)
    spectrum = scipy.fft.rfft(frames * _window(frames.shape[2]))
    levels = decibels(_by_band(spectrum.real**2 + spectrum.imag**2, edges))
    contrast: Float = levels[NEAR] - levels[FAR]
    return contrast


def _by_band(bins: NDArray[np.floating[Any]], edges: NDArray[np.intp]) -> Float:
    """Sums over the bins of each band: (..., F) to (..., B)."""
    return np.add.reduceat(bins[..., : edges[-1]], edges[:-1], axis=-1).astype(np.float64)


def _block_levels(samples: Samples, rate: int) -> Float:
    size = min(samples.shape[1], max(1, round(BLOCK_SECONDS * rate)))
    blocks = samples[:, : samples.shape[1] // size * size].reshape(len(samples), -1, size)
    means = (blocks @ np.ones(size, np.float32)).astype(np.float64) / size
    return decibels(np.maximum(np.vecdot(blocks, blocks) / size - means**2, 0))


def _longest_stuck(channel: NDArray[np.float32], rate: int, peaks: NDArray[np.float32]) -> float:
    """Seconds; 0 if no run is as long as ``STUCK_SECONDS``. A run at an extreme is a flat top."""
    half = max(2, int(STUCK_SECONDS * rate / 2))
    every = channel[::half]
    candidates = np.flatnonzero(every[1:] == every[:-1]) * half  # a long run holds two of these samples
    if not (channel[candidates[:, None] + np.arange(half)] == channel[candidates, None]).all(axis=1).any():
        return 0.0
    same = channel[1:] == channel[:-1]
    changes = np.flatnonzero(np.concatenate(([True], ~same, [True])))
    values, lengths = channel[changes[:-1]], np.diff(changes)
    at_top = (values >= peaks[0]) | (-values >= peaks[1])
    if peaks.max() > 0 and not at_top.all():
        lengths = np.where(at_top, 0, lengths)
    longest = float(lengths.max()) / rate
    return longest if longest >= STUCK_SECONDS else 0.0


def _flat_share(channel: NDArray[np.float32], highest: float, lowest: float) -> float:
    """Share of samples in runs at the highest or lowest value, where the signal was cut off there."""
    share = 0.0
    for sign, peak in ((1, highest), (-1, lowest)):
        if peak < QUIET_PEAK or len(channel) < FLAT_TOP:
            continue
        near = channel >= peak - NEAR_TOP if sign > 0 else channel <= NEAR_TOP - peak
        n_near = np.count_nonzero(near)
        if n_near <= FLAT_SHARE * len(channel):
            continue
        at_top = channel >= peak - INT16_STEP if sign > 0 else channel <= INT16_STEP - peak
        n_top = np.count_nonzero(at_top)
        if FLAT_SHARE * len(channel) < n_top < len(channel) and n_top >= AT_TOP_SHARE * n_near:
            runs = np.lib.stride_tricks.sliding_window_view(at_top, FLAT_TOP)
            share += float(runs.all(axis=-1).mean())
    return share


def _pair(samples: Samples, spectra: Spectra, edges: NDArray[np.intp]) -> Pair | None:
    if len(samples) < 2 or spectra.frames < FEWEST_FRAMES:
        return None
    power = np.concatenate(
        [spectra.power.sum(axis=1, keepdims=True), spectra.power], axis=1
    )  # whole, and parts
    cross = np.concatenate([spectra.cross.sum(axis=0, keepdims=True), spectra.cross])
    near, far = power
    both = np.maximum(near * far, QUIETEST**2)
    common = np.minimum((cross.real**2 + cross.imag**2) / both, 1)  # coherence
    likeness = float(np.median(_by_band(common[0], edges) / np.diff(edges)))
    levels = decibels(_by_band(power[:, 0] / spectra.frames, edges))
    return Pair(
        phase=(cross[0] / np.sqrt(both[0])).astype(np.complex64),
        contrast=levels[NEAR] - levels[FAR],
        presence=_presence(near, far, 1 - common, edges),
        likeness=likeness,
        correlation=_best_correlation(samples, cross[0]) if likeness > ALIKE_AT_ALL else 0.0,
    )


def _presence(near: Float, far: Float, alone: Float, edges: NDArray[np.intp]) -> Float:
    """What near hears beyond far, (rows, F) to (rows, 3 B): see ``Pair.presence``.

    ``alone`` is the share of near's power that far does not explain.
    """
    near, far, alone = np.maximum(near, QUIETEST), np.maximum(far, QUIETEST), np.maximum(alone, 1e-4)
    count = np.diff(edges)
    ratio = decibels(_by_band(near * alone, edges) / _by_band(far, edges))
    flat = [decibels(_by_band(p, edges) / count) - _by_band(decibels(p), edges) / count for p in (near, far)]
    return np.concatenate([ratio, _by_band(decibels(alone), edges) / count, flat[0] - flat[1]], axis=1)


def _best_correlation(samples: Samples, cross: NDArray[np.complex64]) -> float:
    """Of the waveforms, without their means, at the delay at which their cross-correlation is largest."""
    lags = scipy.fft.irfft(cross)
    lag = int(np.abs(lags).argmax())
    lag -= len(lags) if lag > len(lags) // 2 else 0  # near is that many samples later than far
    near, far = samples[NEAR][max(0, lag) :], samples[FAR][max(0, -lag) :]
    length = min(len(near), len(far))
    near, far = near[:length] - near[:length].mean(), far[:length] - far[:length].mean()
    scale = float(np.sqrt((near @ near) * (far @ far)))
    return abs(float(near @ far)) / scale if scale > 0 else 0.0
