"""Levels in narrow bands, by microphone view: how a recording sounds, in a few dozen numbers.

Conventions
-----------
Levels are in dB re full scale (dBFS; 0 is an RMS of one), and nothing is below -100 dB. Frames are Hann windows of
some 128 ms (``inspection.measured.frame_length``) that overlap by half and lie wholly within the recording.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.audio import Samples
from nearfar.recordings.inspection.measured import decibels, frame_length
from nearfar.recordings.microphones import NAMES, listen
from nearfar.recordings.transforms import Spectra, Transforms, Waveform, hann

LOWEST_HZ = 50.0  # below lie wind, handling, and the hum of the mains
PER_OCTAVE = 6
FEWEST_BINS = 2  # of the spectrum in a band: a single one does not resolve it
LEAST_WIDTH = 0.5  # of a band's, that the last one has
PEAK_QUANTILE = 0.95  # of frames

Levels = NDArray[np.float32]


@lru_cache(maxsize=8)
def band_edges(rate: int) -> NDArray[np.float64]:
    """Edges of bands of 1/6 octave from 50 Hz to half the rate, in Hz: (bands + 1,), ascending; only to read.

    At the low end, bands are wider, so that each has at least two bins of the spectrum. The last one ends at half
    the rate: it is between 1/12 and 1/4 octave wide.

    Parameters
    ----------
    rate : int
        In Hz.

    Examples
    --------
    >>> from nearfar.recordings.bands import band_edges
    >>> edges = band_edges(16_000)
    >>> len(edges), edges[:4].round().tolist(), edges[-3:].round().tolist()
    (42, [50.0, 63.0, 79.0, 100.0], [6400.0, 7184.0, 8000.0])
    """
    top, bin_hz = rate / 2, rate / frame_length(rate)
    lowest = min(LOWEST_HZ, top / 8)
    steps = np.arange(math.ceil(PER_OCTAVE * math.log2(top / lowest)))
    nominal = lowest * 2.0 ** (steps / PER_OCTAVE)
    edges = [float(nominal[0])]
    for edge in nominal[1:].tolist():
        if _first_bin(edge, bin_hz) - _first_bin(edges[-1], bin_hz) >= FEWEST_BINS:
            edges.append(edge)
    if math.log2(top / edges[-1]) < LEAST_WIDTH / PER_OCTAVE:
        edges.pop()
    found = np.array([*edges, top])
    found.setflags(write=False)
    return found


def _first_bin(hertz: float, bin_hz: float) -> int:
    """The first bin at or above a frequency."""
    return math.ceil(hertz / bin_hz)


def measured_bands(
    samples: Samples,
    rate: int,
    views: Sequence[str],
    edges: NDArray[np.float64],
    *,
    transforms: Transforms | None = None,
    waveforms: Mapping[str, Waveform] | None = None,
) -> tuple[Levels, Levels]:
    """How loud a recording is in each band, by each microphone view.

    A bin of the spectrum belongs to the band that it lies in, from the lower edge to below the upper one; half the
    rate to the last. The powers of all bands add up to that of the view between the outer edges.

    Parameters
    ----------
    samples : (channels, samples) array
        Finite. A recording shorter than a frame is one frame, filled up with zeros, with the power that it has
        under the window.
    rate : int
        In Hz.
    views : sequence of str
        Of ``MICROPHONES``.
    edges : (bands + 1,) array
        As of ``band_edges``.
    transforms : Transforms or None
        Of these samples, if others look at them, too.
    waveforms : mapping from view to (samples,) array, or None
        Of these samples, as far as others have computed them.

    Returns
    -------
    levels : (views, bands) float32 array
        Mean power over frames, in dBFS.
    peaks : (views, bands) float32 array
        95 % quantile over frames of the level, in dBFS: what sounds for a short time stands out in it.

    Raises
    ------
    MicrophoneError
        If the recording has fewer channels than a view needs.
    """
    length = frame_length(rate)
    present = min(samples.shape[1], length)
    if transforms is None or samples.shape[1] < length:
        transforms, waveforms = Transforms(_filled(samples, length)), None
    bins = _bins(edges, rate, length)
    scale = _scale(length, present)
    levels, peaks = np.empty((2, len(views), len(edges) - 1), np.float32)
    for i, view in enumerate(views):
        powers = scale * _band_powers(_inner(transforms, waveforms or {}, view, length), bins)
        levels[i] = decibels(powers.mean(axis=0, dtype=np.float64))
        peaks[i] = _quantile(decibels(powers.astype(np.float64)), PEAK_QUANTILE)
    return levels, peaks


def _quantile(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Over the first axis, as ``np.quantile`` to the last bit, of finite numbers: (n, bands) to (bands,)."""
    place = share * (len(values) - 1)
    below, above = math.floor(place), min(math.floor(place) + 1, len(values) - 1)
    there = np.partition(values, (below, above), axis=0)
    low, high, weight = there[below], there[above], place - below
    step = high - low
    return low + step * weight if weight < 0.5 else high - step * (1 - weight)  # NumPy's two ways, too


def _filled(samples: Samples, length: int) -> Samples:
    """The samples; if they are fewer than that, in the middle of zeros."""
    lacking = length - samples.shape[1]
    if lacking <= 0:
        return samples
    return np.pad(samples, ((0, 0), (lacking // 2, lacking - lacking // 2)))


def _bins(edges: NDArray[np.float64], rate: int, length: int) -> list[int]:
    """The first bin of each band, and the end of the last."""
    found = [_first_bin(edge, rate / length) for edge in edges.tolist()]
    return [*found[:-1], length // 2 + 1] if edges[-1] >= rate / 2 else found


@lru_cache(maxsize=32)
def _scale(length: int, present: int) -> np.float32:
    """By what the powers of bins are multiplied, so that those between 0 and half the rate sum to the RMS^2."""
    first = (length - present) // 2
    window = hann(length)[first : first + present].astype(np.float64)
    return np.float32(2 / (length * (window @ window)))


def _inner(heard: Transforms, known: Mapping[str, Waveform], view: str, length: int) -> Spectra:
    """Spectra of the frames of a view that lie wholly within the recording: (frames, bins)."""
    if view in NAMES and len(heard.samples) > NAMES.index(view):
        spectra = heard.spectra(NAMES.index(view), length)
    else:
        waveform = known[view] if view in known else listen(heard.samples, view, heard)
        spectra = Transforms(waveform[None]).spectra(0, length)
    return spectra[1 : heard.samples.shape[1] // (length // 2)]


def _band_powers(spectra: Spectra, bins: Sequence[int]) -> NDArray[np.float32]:
    """Sums of squares over the bins of each band, (frames, bands); half the rate is there once, so counts half."""
    squares = np.square(np.ascontiguousarray(spectra[:, : bins[-1]]).view(np.float32))
    if bins[-1] == spectra.shape[1]:
        squares[:, -2:] *= 0.5
    return np.add.reduceat(squares, [2 * first for first in bins[:-1]], axis=1)
