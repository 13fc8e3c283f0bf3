"""Front ends as nodes of a graph: what ``features`` and the networks compute of a waveform.

ONNX Runtime's own Fourier transforms are inexact for frames whose length is no power of two. Here they are two
products by small matrices, as a fast transform has many: that takes a tenth of the work of one large matrix, and
rounds like a fast one.

Conventions
-----------
Waveforms are ``(waveforms, samples)``; spectrograms ``(waveforms, frames, bands)``, with frames first.
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


def frames_of(graph: Graph, waveforms: Value, length: int, hop: int) -> Value:
    """(waveforms, samples) to frames that lie wholly within, (waveforms, frames, length).

    They are put together of pieces that divide both length and advance.
    """
    piece = math.gcd(length, hop)
    samples = graph.add("Shape", waveforms, start=1)
    later = graph.add("Div", graph.add("Sub", samples, np.array([length])), np.array([hop]))
    used = graph.add("Add", graph.add("Mul", later, np.array([hop])), np.array([length]))
    whole = graph.add("Slice", waveforms, np.array([0]), used, np.array([1]))
    pieces = graph.add("Reshape", whole, np.array([0, -1, piece]))
    count = graph.add("Squeeze", graph.add("Add", later, np.array([1])), np.array([0]))
    first = graph.add("Mul", graph.add("Range", np.array(0), count, np.array(1)), np.array(hop // piece))
    places = graph.add("Add", graph.add("Unsqueeze", first, np.array([1])), np.arange(length // piece))
    gathered = graph.add("Gather", pieces, places, axis=1)
    return graph.add("Reshape", gathered, np.array([0, 0, length]))


def bands_of(graph: Graph, frames: Value, window: Double, n_fft: int, filters: Double) -> Value:
    """(waveforms, frames, length) to the power in bands, (waveforms, frames, bands).

    Parameters
    ----------
    window : (length,) array
    n_fft : int
        Of the transform; frames are filled up with zeros.
    filters : (bands, 1 + n_fft // 2) array
    """
    windowed = graph.add("Mul", frames, window.astype(np.float32))
    missing = n_fft - len(window)
    if missing:
        windowed = graph.add("Pad", windowed, np.array([0, 0, 0, 0, 0, missing]))
    columns = columns_of(n_fft)
    of_rows, of_columns, order = transforms(n_fft, columns)
    halves, rows = len(of_columns), n_fft // columns
    inner = graph.add("MatMul", of_rows, graph.add("Reshape", windowed, np.array([0, 0, rows, columns])))
    parts = graph.add("Reshape", inner, np.array([0, 0, 2, halves, columns]))
    by_row = graph.add("Transpose", parts, perm=[3, 0, 1, 2, 4])
    outer = graph.add("MatMul", graph.add("Reshape", by_row, np.array([0, 0, 0, -1])), of_columns[:, None])
    real, imaginary = graph.add("Split", graph.add("Mul", outer, outer), axis=3, num_outputs=2, outputs=2)
    power = graph.add("Transpose", graph.add("Add", real, imaginary), perm=[1, 2, 0, 3])
    in_line = graph.add("Reshape", power, np.array([0, 0, -1]))
    once = np.zeros((1, order.size, len(filters)), np.float32)  # of three axes: see ``layers.product``
    bins, places = np.unique(order, return_index=True)  # some are there twice
    once[0, places] = filters.T[bins]
    return graph.add("MatMul", in_line, once)


def columns_of(n_fft: int) -> int:
    """Of a frame as a matrix, those with which its transform takes the fewest products."""
    divisors = [n for n in range(1, n_fft + 1) if n_fft % n == 0]
    return min(divisors, key=lambda n: (1 + n_fft // n // 2) * (2 * n_fft + 4 * n * n))


def transforms(
    n_fft: int, columns: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """A Fourier transform of real samples as two, of the rows and of the columns of a frame.

    Sample ``columns a + b`` of a frame is in row a and column b. Bin ``k + rows m`` of its spectrum is the sum
    over b of ``exp(-2 pi i (b k / n_fft + b m / columns))`` times the sum over a of ``exp(-2 pi i a k / rows)``
    times the sample. Because samples are real, k from 0 to rows / 2 is enough: the other bins are conjugates.

    Returns
    -------
    of_rows : (2 * halves, rows) array
        Real parts of all k, then imaginary ones.
    of_columns : (halves, 2 * columns, 2 * columns) array
        Of each k: from real and imaginary parts of the columns to those of m.
    order : (halves * columns,) array
        Which bin each k and m is, as it is or conjugated.
    """
    rows = n_fft // columns
    k, b, m = np.arange(1 + rows // 2), np.arange(columns), np.arange(columns)
    inner = 2 * np.pi * (np.outer(k, np.arange(rows)) % rows) / rows
    turns = b[None, :, None] * (k[:, None, None] + rows * m) % n_fft
    cosines, sines = np.cos(2 * np.pi * turns / n_fft), np.sin(2 * np.pi * turns / n_fft)
    of_columns = np.concatenate(
        [np.concatenate([cosines, -sines], axis=2), np.concatenate([sines, cosines], axis=2)], axis=1
    )
    order = (k[:, None] + rows * m).reshape(-1)
    of_rows = np.concatenate([np.cos(inner), -np.sin(inner)]).astype(np.float32)
    return of_rows, of_columns.astype(np.float32), np.minimum(order, n_fft - order)


def padded(graph: Graph, waveforms: Value, half: int, mode: str) -> Value:
    """So many samples before and after each waveform: its mirror image ("reflect"), or zeros ("constant")."""
    return graph.add("Pad", waveforms, np.array([0, half, 0, half]), mode=mode)


def mel_power(graph: Graph, waveforms: Value, mel: Mel) -> Value:
    """As of ``features.mel_spectrogram``."""
    length = mel.win_length or mel.n_fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    whole = padded(graph, waveforms, mel.n_fft // 2, mel.pad)
    before = (mel.n_fft - length) // 2
    if before:  # the window is zero there
        after = mel.n_fft - length - before
        whole = graph.add("Slice", whole, np.array([before]), np.array([-after]), np.array([1]))
    frames = frames_of(graph, whole, length, mel.hop)
    return bands_of(graph, frames, hann, mel.n_fft, mel_filters(mel))


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


def kaldi(graph: Graph, waveforms: Value, fbank: Fbank) -> Value:
    """As of ``features.kaldi_fbank``."""
    frames = frames_of(graph, waveforms, fbank.length, fbank.hop)
    mean = graph.add("ReduceMean", frames, np.array([2]), keepdims=1)
    centred = graph.add("Sub", frames, mean)
    own, others = (
        graph.add("Slice", centred, np.array([0]), np.array([end]), np.array([2])) for end in (1, -1)
    )
    before = graph.add("Mul", graph.add("Concat", own, others, axis=2), np.float32(fbank.pre_emphasis))
    emphasized = graph.add("Sub", centred, before)
    window = np.hanning(fbank.length) ** KALDI_WINDOWS[fbank.window]
    power = bands_of(graph, emphasized, window, fbank.n_fft, kaldi_filters(fbank))
    return graph.add("Log", graph.add("Max", power, np.float32(fbank.log_floor)))


def resampled(graph: Graph, waveforms: Value, rate: int, to: int) -> Value:
    """As of ``audio.resample``, upwards: a convolution for every place between samples, with soxr's response there.

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
    """The taps of several groups of places, one after the other: a large product is faster than many small ones."""
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
            f"sample_rate={rate}: cannot be exported, because soxr resamples it to {to} Hz in a way that is not "
            f"one convolution for each place (difference {error:.1e}, of at most {CLOSE:g}); fit a detector with "
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
