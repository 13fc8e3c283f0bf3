"""Front ends as nodes of a graph: what ``features`` and the networks compute of a waveform, with matrices for transforms.

ONNX Runtime's own transforms are inexact for frames whose length is no power of two. A Fourier transform is linear, and
so is all that stands before it in a frame: its mean, pre-emphasis, window. Together they are one matrix, and frames of
one advance times a matrix are a convolution. Frequencies that no band hears are left out of it.

Conventions
-----------
Waveforms are ``(clips, samples)``; spectrograms ``(clips, bands, frames)``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nearfar.encoders.features import (
    DB_PER_NEPER,
    KALDI_WINDOWS,
    Fbank,
    Mel,
    kaldi_filters,
    mel_filters,
)
from nearfar.encoders.graphs import Graph, Value
from nearfar.recordings import audio

Double = NDArray[np.float64]

FAINTEST = 1e-7  # of a resampler's response, of its largest: float32 rounds to as much
CLOSE = 1e-6  # of a resampled waveform, of its largest sample
MOST_PLACES = 64  # between given samples, at which a resampler makes some: each has taps of its own
AT_ONCE = 32  # groups of places that are one product
TRIED = 4096  # samples, to see a resampler's response, and whether it is that everywhere


def transform(window: Double, n_fft: int, bins: slice) -> Double:
    """Cosines, then sines, of these bins under a window: (2 * bins, samples)."""
    samples, every = np.arange(len(window)), np.arange(1 + n_fft // 2)[bins]
    turns = np.outer(every, samples) % n_fft / n_fft
    return np.concatenate([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)]) * window


def heard(filters: Double) -> slice:
    """The bins that any band hears."""
    weighty = np.flatnonzero(filters.any(axis=0))
    return slice(int(weighty[0]), int(weighty[-1]) + 1)


def bands_of(graph: Graph, waveforms: Value, matrix: Double, filters: Double, hop: int) -> Value:
    """(clips, samples) to the power in bands, (clips, bands, frames).

    Parameters
    ----------
    matrix : (2 * bins, length) array
        From a frame to its spectrum, as of ``transform``.
    filters : (bands, bins) array
    hop : int
    """
    kernels = matrix[:, None].astype(np.float32)
    line = graph.add("Unsqueeze", waveforms, np.array([1]))
    spectrum = graph.add("Conv", line, kernels, kernel_shape=[matrix.shape[1]], strides=[hop])
    squares = graph.add("Mul", spectrum, spectrum)
    real, imaginary = graph.add("Split", squares, axis=1, num_outputs=2, outputs=2)
    return graph.add("MatMul", filters.astype(np.float32), graph.add("Add", real, imaginary))


def padded(graph: Graph, waveforms: Value, half: int, mode: str) -> Value:
    """So many samples before and after each waveform: its mirror image ("reflect"), or zeros ("constant")."""
    return graph.add("Pad", waveforms, np.array([0, half, 0, half]), mode=mode)


def mel_power(graph: Graph, waveforms: Value, mel: Mel) -> Value:
    """As of ``features.mel_spectrogram``."""
    length = mel.win_length or mel.n_fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = (mel.n_fft - length) // 2
    window = np.pad(hann, (before, mel.n_fft - length - before))
    filters = mel_filters(mel)
    bins = heard(filters)
    frames = padded(graph, waveforms, mel.n_fft // 2, mel.pad)
    return bands_of(graph, frames, transform(window, mel.n_fft, bins), filters[:, bins], mel.hop)


def mel_levels(
    graph: Graph, waveforms: Value, mel: Mel, *, floor: float, top_db: float | None = None
) -> Value:
    """As of ``features.log_mel``, in dB."""
    power = graph.add("Max", mel_power(graph, waveforms, mel), np.float32(floor))
    levels = graph.add("Mul", graph.add("Log", power), np.float32(DB_PER_NEPER))
    if top_db is None:
        return levels
    highest = graph.add("ReduceMax", levels, np.array([1, 2]), keepdims=1)
    return graph.add("Max", levels, graph.add("Sub", highest, np.float32(top_db)))


def kaldi(graph: Graph, waveforms: Value, fbank: Fbank, *, full_scale: float = 1.0) -> Value:
    """As of ``features.kaldi_fbank``, of the waveforms times ``full_scale``; but with bands first."""
    length = fbank.length
    centred = np.eye(length) - 1 / length
    before = np.concatenate([centred[:1], centred[:-1]])
    emphasized = centred - fbank.pre_emphasis * before
    filters = kaldi_filters(fbank)
    bins = heard(filters)
    window = np.hanning(length) ** KALDI_WINDOWS[fbank.window]
    matrix = full_scale * transform(window, fbank.n_fft, bins) @ emphasized
    power = bands_of(graph, waveforms, matrix, filters[:, bins], fbank.hop)
    return graph.add("Log", graph.add("Max", power, np.float32(fbank.log_floor)))


def resampled(graph: Graph, waveforms: Value, rate: int, to: int) -> Value:
    """As of ``audio.resample``, upwards: a convolution for every place between samples, with the response of soxr there.

    Raises
    ------
    ValueError
        As of ``response``.
    """
    if rate == to:
        return waveforms
    given, made = _of_places(rate, to)
    kernels, before = response(rate, to)
    kernels = _at_once(kernels, given)
    advance = AT_ONCE * given
    line = graph.add("Unsqueeze", waveforms, np.array([1]))
    after = kernels.shape[1] - before + advance
    line = graph.add("Pad", line, np.array([0, 0, before, 0, 0, after]))
    places = graph.add("Conv", line, kernels[:, None], kernel_shape=[kernels.shape[1]], strides=[advance])
    in_order = graph.add("Reshape", graph.add("Transpose", places, perm=[0, 2, 1]), np.array([0, -1]))
    length = graph.add("Shape", waveforms, start=1)
    rounded = graph.add("Add", graph.add("Mul", length, np.array([2 * made])), np.array([given]))
    ends = graph.add("Div", rounded, np.array([2 * given]))
    return graph.add("Slice", in_order, np.array([0]), ends, np.array([1]))


def _at_once(kernels: NDArray[np.float32], given: int) -> NDArray[np.float32]:
    """The taps of several groups of places, one after the other in time: one large product is faster than many small."""
    places, taps = kernels.shape
    found = np.zeros((AT_ONCE * places, taps + (AT_ONCE - 1) * given), np.float32)
    for group in range(AT_ONCE):
        found[group * places : (group + 1) * places, group * given : group * given + taps] = kernels
    return found


def _of_places(rate: int, to: int) -> tuple[int, int]:
    """Of how few samples that are given how many are made."""
    common = math.gcd(rate, to)
    return rate // common, to // common


def response(rate: int, to: int) -> tuple[NDArray[np.float32], int]:
    """What a resampler makes of samples, as it was seen to do.

    Returns
    -------
    kernels : (places, taps) array
        So many samples are made of every few that are given.
    before : int
        Taps before the first of these few.

    Raises
    ------
    ValueError
        If the rates have little in common, so that there are many places; soxr then finds its taps for each by
        interpolation. Or if what it makes of noise is not what its responses tell.
    """
    given, made = _of_places(rate, to)
    if made > MOST_PLACES:
        raise ValueError(
            f"sample_rate={rate}: cannot be exported, because it has too little in common with the network's rate, "
            f"{to} Hz; fit a detector with sample_rate={to // 2}"
        )
    kernels, before = _seen(rate, to)
    noise = np.random.default_rng(0).standard_normal((1, TRIED))
    expected = audio.resample(noise.astype(np.float32), rate, to)[0]
    frames = np.pad(noise[0], (before, kernels.shape[1]))
    places = np.lib.stride_tricks.sliding_window_view(frames, kernels.shape[1])[::given] @ kernels.T
    error = np.abs(places.reshape(-1)[: len(expected)] - expected).max() / np.abs(expected).max()
    if not error <= CLOSE:
        raise ValueError(
            f"sample_rate={rate}: cannot be exported, because soxr resamples it to {to} Hz in a way that is not one "
            f"convolution for each place (difference {error:.1e}, of at most {CLOSE:g}); fit a detector with "
            f"sample_rate={to // 2}"
        )
    return kernels.astype(np.float32), before


def _seen(rate: int, to: int) -> tuple[Double, int]:
    """As ``response``, from impulses at each sample of a few."""
    given, made = _of_places(rate, to)
    middle = TRIED // given * given
    impulses = np.zeros((given, 2 * middle))
    impulses[np.arange(given), middle + np.arange(given)] = 1.0
    answers = audio.resample(impulses, rate, to)  # type: ignore[arg-type]  # in double precision
    reach = np.flatnonzero((np.abs(answers) > FAINTEST).any(axis=0))
    first, last = int(reach[0]) // made, int(reach[-1]) // made
    before, after = last * given - middle, middle + given - first * given
    kernels = np.zeros((made, before + after))
    for group in range(first, last + 1):
        taps = middle + np.arange(given) - group * given + before
        kernels[:, taps] = answers[:, group * made : (group + 1) * made].T
    return kernels, before
