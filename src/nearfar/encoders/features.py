"""Mel spectrograms and what is made of them.

Conventions
-----------
Waveforms are ``(..., samples)``, features ``(..., bands, frames)``, levels in dB; but Kaldi's features are as
Kaldi has them, ``(..., frames, bands)`` and natural logarithms of power. Every function takes NumPy arrays and
torch tensors alike (of any device, and differentiably), and returns the kind, precision and device that it was
given: the array-API namespace of the argument does the arithmetic, so this module does not import torch. What
NumPy lacks or does slowly (framing, Fourier transform, sparse filters) has a short function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.sparse
from array_api_compat import array_namespace, device, is_torch_array
from numpy.typing import NDArray

from nearfar.recordings.clips import unknown
from nearfar.recordings.transforms import powers

DB_FLOOR = (
    2.220446049250313e-16  # of power, before the logarithm; the official DCASE baseline (float64's epsilon)
)

DB_PER_NEPER = 10.0 / math.log(
    10.0
)  # of power; the natural logarithm is five times as fast as the decadic one

KALDI_FLOOR = 1.1920929e-07  # of power, before the logarithm; Kaldi (float32's epsilon)
KALDI_WINDOWS = {"hanning": 1.0, "povey": 0.85}  # the exponent of a symmetric Hann window; Kaldi

BLOCK = 64  # frames at a time: fits the cache, and larger temporaries cost more in page faults than in work


@dataclass(frozen=True, slots=True)
class Mel:
    """Parameters of a mel spectrogram; the same names and meaning as librosa's.

    Attributes
    ----------
    rate : int
        Sampling rate in Hz.
    n_fft, hop : int
        Frame length and advance in samples; frames are centred.
    n_mels : int
        Number of bands.
    f_min, f_max : float
        Edges of the lowest and the highest band in Hz.
    win_length : int or None
        Length of the periodic Hann window, centred in the frame; ``None``: ``n_fft``.
    scale : {"slaney", "htk"}
        The mel scale.
    norm : {"slaney", None}
        Bands of equal area, or of equal height.
    pad : {"constant", "reflect"}
        What stands beyond the ends of the waveform: zeros, or its mirror image.
    """

    rate: int = 16000
    n_fft: int = 1024
    hop: int = 512
    n_mels: int = 128
    f_min: float = 0.0
    f_max: float = 8000.0
    win_length: int | None = None
    scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    pad: Literal["constant", "reflect"] = "constant"

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.rate / 2:
            raise ValueError(
                f"f_min={self.f_min}, f_max={self.f_max}: expected 0 <= f_min < f_max <= {self.rate / 2} Hz, "
                f"half of rate={self.rate}"
            )
        if not 0 < (self.win_length or self.n_fft) <= self.n_fft:
            raise ValueError(f"win_length={self.win_length}: must be between 1 and n_fft={self.n_fft}")
        if min(self.hop, self.n_mels) < 1:
            raise ValueError(f"hop={self.hop}, n_mels={self.n_mels}: both must be at least 1")


BASELINE = Mel()  # of the official DCASE Task 2 baseline, 2020-2026


def mel_frequencies(hz: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    """Hz to mel: HTK's formula, or Slaney's (linear below 1 kHz, logarithmic above)."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    return np.where(
        hz < 1000.0, hz * 3 / 200, 15.0 + 27.0 / np.log(6.4) * np.log(np.maximum(hz, 1e-9) / 1000.0)
    )


def hertz(mel: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    """Mel to Hz: the inverse of ``mel_frequencies``."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * 200 / 3, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)))


@lru_cache(maxsize=32)
def mel_filters(mel: Mel) -> NDArray[np.float64]:
    """The bank of triangular filters: (n_mels, 1 + n_fft // 2)."""
    low, high = mel_frequencies(np.array([mel.f_min, mel.f_max]), mel.scale)
    edges = hertz(np.linspace(low, high, mel.n_mels + 2), mel.scale)
    bins = np.arange(1 + mel.n_fft // 2) * (mel.rate / mel.n_fft)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if mel.norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    filters.setflags(write=False)
    return filters


@lru_cache(maxsize=32)
def _window(length: int, n_fft: int) -> NDArray[np.float64]:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = (n_fft - length) // 2
    return np.pad(hann, (before, n_fft - length - before))


def _pad(xp: Any, waveform: Any, mel: Mel) -> Any:
    half, samples = mel.n_fft // 2, waveform.shape[-1]
    if samples <= (half if mel.pad == "reflect" else 0):
        raise ValueError(
            f"{samples} samples are too few for frames of n_fft={mel.n_fft} with pad={mel.pad!r}"
        )
    if mel.pad == "reflect":
        before, after = (
            xp.flip(waveform[..., 1 : half + 1], axis=-1),
            xp.flip(waveform[..., -half - 1 : -1], axis=-1),
        )
    else:
        before = after = xp.zeros((*waveform.shape[:-1], half), dtype=waveform.dtype, device=device(waveform))
    return xp.concat([before, waveform, after], axis=-1)


def _frames(padded: Any, length: int, hop: int) -> Any:
    """Overlapping views: (..., frames, length); neither library has the other's function for it."""
    if is_torch_array(padded):
        return padded.unfold(-1, length, hop)
    return np.lib.stride_tricks.sliding_window_view(padded, length, axis=-1)[..., ::hop, :]


def mel_spectrogram(waveform: Any, mel: Mel = BASELINE) -> Any:
    """Power in mel bands, of centred frames under a periodic Hann window.

    Parameters
    ----------
    waveform : (..., samples) array, NumPy or torch
    mel : Mel

    Returns
    -------
    (..., n_mels, frames) array
        With ``frames = 1 + samples // hop``.

    Raises
    ------
    ValueError
        If the waveform is empty, too short for reflect padding, or not of floating point.
    """
    name = _float_name(waveform)
    frames = _frames(_pad(array_namespace(waveform), waveform, mel), mel.n_fft, mel.hop)
    return (
        _bands_by_torch(frames, mel, name) if is_torch_array(waveform) else _bands_by_numpy(frames, mel, name)
    )


def mel_of_spectra(spectra: NDArray[np.complex64], mel: Mel) -> NDArray[np.float32]:
    """As ``mel_spectrogram`` of one waveform, by spectra of its frames: (frames, bins) to (n_mels, frames)."""
    filters = _sparse_filters_of(mel, "float32")
    bands = np.empty((mel.n_mels, len(spectra)), np.float32)
    for i in range(0, len(spectra), BLOCK):
        bands[:, i : i + BLOCK] = filters @ powers(spectra[i : i + BLOCK]).T
    return bands


def _bands_by_torch(frames: Any, mel: Mel, name: str) -> Any:
    """(..., frames, n_fft) to (..., n_mels, frames), all at once and differentiably."""
    xp, where = array_namespace(frames), device(frames)
    spectrum = xp.fft.rfft(frames * xp.asarray(_window_of(mel, name), device=where))
    power = xp.real(spectrum) ** 2 + xp.imag(spectrum) ** 2
    return xp.asarray(_filters_of(mel, name), device=where) @ xp.matrix_transpose(power)


def _bands_by_numpy(frames: NDArray[Any], mel: Mel, name: str) -> NDArray[Any]:
    """The same a few frames at a time, with SciPy's faster transform and filters as sparse as they are."""
    window, filters = _window_of(mel, name), _sparse_filters_of(mel, name)
    bands = np.empty((*frames.shape[:-2], mel.n_mels, frames.shape[-2]), name)
    for one in np.ndindex(frames.shape[:-2]):
        for i in range(0, frames.shape[-2], BLOCK):
            spectrum = scipy.fft.rfft(frames[one][i : i + BLOCK] * window)
            bands[one][:, i : i + BLOCK] = filters @ powers(spectrum).T
    return bands


def _float_name(waveform: Any) -> str:
    name = str(waveform.dtype).removeprefix("torch.")
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype={name}: a waveform is float32 or float64")
    return name


@lru_cache(maxsize=32)
def _window_of(mel: Mel, dtype: str) -> NDArray[Any]:
    return _window(mel.win_length or mel.n_fft, mel.n_fft).astype(dtype)


@lru_cache(maxsize=32)
def _filters_of(mel: Mel, dtype: str) -> NDArray[Any]:
    return mel_filters(mel).astype(dtype)


@lru_cache(maxsize=32)
def _sparse_filters_of(mel: Mel, dtype: str) -> Any:
    return scipy.sparse.csr_array(_filters_of(mel, dtype))


def log_mel(
    waveform: Any, mel: Mel = BASELINE, *, floor: float = DB_FLOOR, top_db: float | None = None
) -> Any:
    """Level in mel bands, in dB: ``10 log10(max(power, floor))``.

    Parameters
    ----------
    waveform : (..., samples) array, NumPy or torch
    mel : Mel
    floor : float
        Smallest power.
    top_db : float or None
        Clip each waveform's levels this far under its own maximum (of each waveform, not of the batch).

    Returns
    -------
    (..., n_mels, frames) array
    """
    power, xp = mel_spectrogram(waveform, mel), array_namespace(waveform)
    if is_torch_array(power):
        level = DB_PER_NEPER * xp.log(xp.clip(power, min=floor))
    else:
        level = levels_of(power, floor=floor)
    if top_db is None:
        return level
    return xp.maximum(level, xp.max(level, axis=(-2, -1), keepdims=True) - top_db)


def levels_of(power: NDArray[Any], *, floor: float = DB_FLOOR) -> NDArray[Any]:
    """Power in dB, as of ``log_mel``; it is written over."""
    level: NDArray[Any] = np.log(np.maximum(power, power.dtype.type(floor), out=power), out=power)
    level *= DB_PER_NEPER
    return level


def stack_frames(features: Any, n_frames: int) -> Any:
    """Join every ``n_frames`` consecutive frames, one frame on at a time.

    Parameters
    ----------
    features : (..., bands, frames) array, NumPy or torch
    n_frames : int

    Returns
    -------
    (..., frames - n_frames + 1, n_frames * bands) array
        Frame by frame, each with all of its bands: the order of the official DCASE baseline.

    Raises
    ------
    ValueError
        If there are fewer frames than that.
    """
    frames = features.shape[-1]
    if not 1 <= n_frames <= frames:
        raise ValueError(
            f"n_frames={n_frames}: must be between 1 and the number of frames, which is {frames}"
        )
    xp = array_namespace(features)
    by_frame = xp.matrix_transpose(features)
    vectors = frames - n_frames + 1
    return xp.concat([by_frame[..., i : i + vectors, :] for i in range(n_frames)], axis=-1)


@dataclass(frozen=True, slots=True)
class Fbank:
    """Parameters of Kaldi's filter-bank features.

    Attributes
    ----------
    rate : int
        Sampling rate in Hz.
    n_mels : int
        Number of bands.
    window : {"hanning", "povey"}
        A symmetric Hann window, or that to the power of 0.85.
    frame_ms, hop_ms : float
        Frame length and advance in milliseconds, cut to whole samples.
    pre_emphasis : float
        How much of the sample before is subtracted from each sample of a frame.
    f_min : float
    f_max : float or None
        Edges of the lowest and the highest band in Hz; ``None``: half of ``rate``.
    log_floor : float
        Smallest power.
    """

    rate: int = 16000
    n_mels: int = 128
    window: Literal["hanning", "povey"] = "hanning"
    frame_ms: float = 25.0
    hop_ms: float = 10.0
    pre_emphasis: float = 0.97
    f_min: float = 20.0
    f_max: float | None = None
    log_floor: float = KALDI_FLOOR

    def __post_init__(self) -> None:
        if self.window not in KALDI_WINDOWS:
            raise ValueError(unknown("window", self.window, KALDI_WINDOWS))
        if not 0 <= self.f_min < self.highest <= self.rate / 2:
            raise ValueError(
                f"f_min={self.f_min}, f_max={self.highest}: expected 0 <= f_min < f_max <= {self.rate / 2} Hz, "
                f"half of rate={self.rate}"
            )
        if self.length < 2 or self.hop < 1 or self.n_mels < 1:
            raise ValueError(
                f"frame_ms={self.frame_ms}, hop_ms={self.hop_ms}, n_mels={self.n_mels}: at rate={self.rate}, a "
                "frame must have at least 2 samples, a hop 1; and there must be at least 1 band"
            )
        if not self.log_floor > 0:
            raise ValueError(f"log_floor={self.log_floor}: must be above 0, to have a logarithm")

    @property
    def highest(self) -> float:
        """Upper edge of the highest band in Hz."""
        return self.rate / 2 if self.f_max is None else self.f_max

    @property
    def length(self) -> int:
        """Of a frame, in samples."""
        return int(self.rate * self.frame_ms / 1000)

    @property
    def hop(self) -> int:
        """From frame to frame, in samples."""
        return int(self.rate * self.hop_ms / 1000)

    @property
    def n_fft(self) -> int:
        """The first power of two that holds a frame."""
        return 1 << (self.length - 1).bit_length()


KALDI = Fbank()


@lru_cache(maxsize=32)
def _kaldi_window(fbank: Fbank, dtype: str) -> NDArray[Any]:
    return (np.hanning(fbank.length) ** KALDI_WINDOWS[fbank.window]).astype(dtype)


@lru_cache(maxsize=32)
def kaldi_filters(fbank: Fbank) -> NDArray[np.float64]:
    """The bank of filters that are triangles over mel, not over Hz: (n_mels, 1 + n_fft // 2).

    Kaldi's mel, 1127 ln(1 + f / 700), is HTK's but for a factor, which makes no difference to a triangle.
    The bin at half of the rate has no weight.
    """
    low, high = mel_frequencies(np.array([fbank.f_min, fbank.highest]), "htk")
    edges, width = np.linspace(low, high, fbank.n_mels + 2, retstep=True)
    hz = np.linspace(0.0, fbank.rate / 2, fbank.n_fft // 2, endpoint=False)
    bins = mel_frequencies(hz, "htk")
    triangles = np.maximum(0.0, 1.0 - np.abs(bins - edges[1:-1, None]) / width)
    filters = np.pad(triangles, ((0, 0), (0, 1)))
    filters.setflags(write=False)
    return filters


@lru_cache(maxsize=32)
def _kaldi_filters_of(fbank: Fbank, dtype: str) -> NDArray[Any]:
    return kaldi_filters(fbank).astype(dtype)


def kaldi_fbank(waveform: Any, fbank: Fbank = KALDI, **parameters: Any) -> Any:
    """Kaldi's filter-bank features: logarithms of power in mel bands, without dither.

    Each frame loses its mean, then is pre-emphasized (its first sample is its own predecessor), windowed, and
    padded with zeros to the next power of two. Frames lie wholly within the waveform ("snip edges").

    Parameters
    ----------
    waveform : (..., samples) array, NumPy or torch
    fbank : Fbank
    **parameters
        Of ``fbank``, to change: ``kaldi_fbank(waveform, window="povey")``.

    Returns
    -------
    (..., frames, n_mels) array
        With ``frames = 1 + (samples - length) // hop``.

    Raises
    ------
    ValueError
        If the waveform is shorter than a frame, or not of floating point.
    """
    fbank = replace(fbank, **parameters)
    name, xp, where = _float_name(waveform), array_namespace(waveform), device(waveform)
    if waveform.shape[-1] < fbank.length:
        raise ValueError(
            f"{waveform.shape[-1]} samples are too few for a frame of {fbank.length} samples "
            f"({fbank.frame_ms} ms at {fbank.rate} Hz)"
        )
    frames = _emphasize(xp, _frames(waveform, fbank.length, fbank.hop), fbank.pre_emphasis)
    spectrum = xp.fft.rfft(frames * xp.asarray(_kaldi_window(fbank, name), device=where), n=fbank.n_fft)
    power = xp.real(spectrum) ** 2 + xp.imag(spectrum) ** 2
    bands = power @ xp.asarray(_kaldi_filters_of(fbank, name).T, device=where)
    return xp.log(xp.clip(bands, min=fbank.log_floor))


def _emphasize(xp: Any, frames: Any, pre_emphasis: float) -> Any:
    centred = frames - xp.mean(frames, axis=-1, keepdims=True)
    before = xp.concat([centred[..., :1], centred[..., :-1]], axis=-1)
    return centred - pre_emphasis * before
