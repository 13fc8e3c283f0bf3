"""What two microphones give: near, far, near without what the far one explains; and whether they work.

Conventions
-----------
Samples are ``(channels, samples)`` as in ``audio``. A *microphone view* is a function from them to one
waveform, ``(samples,)``; ``MICROPHONES`` names the views and says how many channels each needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import FAR, NEAR, Samples

Waveform = NDArray[np.float32]

N_FFT, HOP = 1024, 512  # of the cancellation; W1 of the DCASE 2026 recipes
EPSILON = 1e-12  # added to the far channel's energy in a bin; the same source
BINS = 1 + N_FFT // 2
HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)  # periodic
BLOCK = 64  # frames at a time: fits the cache, and larger temporaries cost more in page faults than in work

DEAD_RMS = 1 / 32768  # one step of 16-bit PCM, without the mean: nothing but converter noise
CLIPPED_SHARE = 1e-4  # of samples in flat tops; a peak-normalized clean recording has none
NEAR_TOP = 24.5 / 32768  # of the samples this close to the extreme a quarter lies at it if the top is smooth,
AT_TOP_SHARE = 0.6  # and nearly all do if it is cut off
INT16_STEP = 1.5 / 32768  # two samples that differ by less are the same to a 16-bit converter
FLAT_TOP = 3  # equal samples in a row at the recording's own extreme
QUIET_PEAK = 0.05  # below it a flat top is coarse quantization, not clipping
IDENTICAL = 0.9999  # correlation of the two channels; real ones differ in their own noise

BANDS = 24  # of the contrast of near to far, equally wide on the logarithmic axis
LOWEST_BIN = 4  # of N_FFT; below lies wind and handling noise
CONTRAST_FLOOR = 1.0  # dB^2, added to the contrast's variance in each band: ten clips cannot know it better
SWAP_LOG_ODDS = (
    11.5  # nats, odds of 100,000 to 1: cables are rarely exchanged, and a clip is soon judged again
)
PLAUSIBLE = 51.2  # the 99.9 % quantile of chi-square with BANDS degrees of freedom

NAMES = ("near", "far")  # by channel


class MicrophoneError(ValueError):
    """The channels that a recording has are not those that a view needs."""


def near(samples: Samples) -> Waveform:
    """The near microphone."""
    return samples[NEAR]


def far(samples: Samples) -> Waveform:
    """The far microphone."""
    return samples[FAR]


def cancelled(samples: Samples) -> Waveform:
    r"""The near microphone without what the far one explains: least-squares noise cancellation, W1.

    With C and F the short-time spectra of near and far, one complex coefficient a bin over the recording,

    .. math:: H(f) = \frac{\sum_t C(f,t) \overline{F(f,t)}}{\sum_t |F(f,t)|^2 + 10^{-12}}, \quad Y = C - H F.

    It has no parameters to learn and looks at one recording at a time. Where the machine itself reaches the
    far microphone it cancels a part of the machine as well: keep the raw near channel beside it.

    Parameters
    ----------
    samples : (2, samples) array

    Returns
    -------
    (samples,) array
        Equal to the near channel where the far one is silent.
    """
    length = samples.shape[-1]
    frames_of_near, frames_of_far = _frames(samples[NEAR]), _frames(samples[FAR])
    n = 1 + length // HOP  # the frame beyond them only closes the overlap at the end
    cross = np.zeros(BINS, np.complex64)
    energy = np.zeros(BINS, np.float32)
    of_far = np.empty((len(frames_of_far), BINS), np.complex64)
    for i in range(0, len(of_far), BLOCK):
        of_near = scipy.fft.rfft(frames_of_near[i : i + BLOCK] * HANN)
        of_far[i : i + BLOCK] = block = scipy.fft.rfft(frames_of_far[i : i + BLOCK] * HANN)
        cross += (of_near * block.conj())[: max(0, n - i)].sum(axis=0)
        energy += (block.real**2 + block.imag**2)[: max(0, n - i)].sum(axis=0)
    return samples[NEAR] - _istft(of_far, cross / (energy + np.float32(EPSILON)), length)


def _frames(waveform: Waveform) -> NDArray[np.float32]:
    """Centred in zeros, the last one reaching past the end: a view of (frames, N_FFT)."""
    padded = np.pad(waveform, (N_FFT // 2, N_FFT // 2 + -len(waveform) % HOP))
    return np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]


def _istft(spectrum: NDArray[np.complex64], response: NDArray[np.complex64], length: int) -> Waveform:
    """The waveform of ``spectrum * response``: least-squares overlap-add of half-overlapping frames."""
    summed = np.zeros((len(spectrum) + 1, HOP), np.float32)
    for i in range(0, len(spectrum), BLOCK):
        frames = scipy.fft.irfft(spectrum[i : i + BLOCK] * response, n=N_FFT) * HANN
        summed[i : i + len(frames)] += frames[:, :HOP]
        summed[i + 1 : i + 1 + len(frames)] += frames[:, HOP:]
    return (summed[1:-1] / (HANN[:HOP] ** 2 + HANN[HOP:] ** 2)).ravel()[:length]


@dataclass(frozen=True, slots=True)
class Microphone:
    """A microphone view, ``view(samples)`` is (samples,), and the microphones that it hears."""

    view: Callable[[Samples], Waveform]
    hears: tuple[str, ...]

    @property
    def channels(self) -> int:
        """How many channels a recording must have."""
        return 1 + max(NAMES.index(name) for name in self.hears)

    def is_spoilt_by(self, fault: MicrophoneFault) -> bool:
        """Whether the view is worthless with this fault: a dead microphone, or two that are one."""
        if fault.kind == "identical":
            return len(self.hears) > 1
        return fault.kind == "dead" and fault.microphone in self.hears


MICROPHONES = {
    "near": Microphone(near, ("near",)),
    "far": Microphone(far, ("far",)),
    "cancelled": Microphone(cancelled, ("near", "far")),
}


def listen(samples: Samples, microphone: str) -> Waveform:
    """The waveform of a microphone view, (samples,).

    Raises
    ------
    MicrophoneError
        If the recording has fewer channels than the view needs.
    """
    chosen = MICROPHONES[microphone]
    if len(samples) < chosen.channels:
        raise MicrophoneError(
            f"microphone {microphone!r} needs {chosen.channels} channels (near, far), but the recording has "
            f"{len(samples)}; record both microphones, or take a system that listens to the near one alone"
        )
    return chosen.view(samples)


@dataclass(frozen=True, slots=True)
class MicrophoneFault:
    """Something wrong with the microphones themselves.

    Attributes
    ----------
    kind : {"dead", "clipped", "identical", "swapped"}
    microphone : {"near", "far", "both"}
    message : str
        What was measured, and what to look at.
    """

    kind: Literal["dead", "clipped", "identical", "swapped"]
    microphone: str
    message: str


def health(samples: Samples, placement: Placement | None = None) -> tuple[MicrophoneFault, ...]:
    """Everything that is wrong with the microphones in this recording; empty if nothing is.

    Parameters
    ----------
    samples : (channels, samples) array
    placement : Placement or None
        What normal recordings of this installation sound like; without it swapped microphones go unseen.
    """
    names = NAMES if len(samples) > 1 else NAMES[:1]
    dead = [_find_silence(channel, name) for name, channel in zip(names, samples, strict=False)]
    faults = [*dead, *(_find_clipping(channel, name) for name, channel in zip(names, samples, strict=False))]
    if len(samples) > 1 and not any(dead):
        faults.append(_find_doubling(samples))
        if placement is not None and faults[-1] is None:
            faults.append(placement.swapped(samples))
    return tuple(f for f in faults if f is not None)


def _find_silence(channel: Waveform, name: str) -> MicrophoneFault | None:
    rms = float(np.std(channel))
    if rms >= DEAD_RMS:
        return None
    return MicrophoneFault(
        "dead", name, f"the {name} microphone is silent (RMS {rms:.1e}); check its cable and supply"
    )


def _find_clipping(channel: Waveform, name: str) -> MicrophoneFault | None:
    share = _flat_share(channel) + _flat_share(-channel)
    if share <= CLIPPED_SHARE:
        return None
    return MicrophoneFault(
        "clipped", name, f"the {name} microphone clips ({share:.2%} of the time); turn its gain down"
    )


def _flat_share(channel: Waveform) -> float:
    """Share of samples in runs at the highest value, if that is where the signal was cut off."""
    peak = float(channel.max())
    at_top = channel >= peak - INT16_STEP
    if peak < QUIET_PEAK or len(channel) < FLAT_TOP or at_top.mean() <= CLIPPED_SHARE or at_top.all():
        return 0.0
    if at_top.sum() < AT_TOP_SHARE * (channel >= peak - NEAR_TOP).sum():
        return 0.0
    return float(np.lib.stride_tricks.sliding_window_view(at_top, FLAT_TOP).all(axis=-1).mean())


def _find_doubling(samples: Samples) -> MicrophoneFault | None:
    of_near, of_far = (samples[c] - samples[c].mean() for c in (NEAR, FAR))
    correlation = float(of_near @ of_far / np.sqrt((of_near @ of_near) * (of_far @ of_far)))
    if abs(correlation) < IDENTICAL:
        return None
    return MicrophoneFault(
        "identical",
        "both",
        f"near and far are one signal (correlation {correlation:.5f}); a mono recording was probably doubled",
    )


@dataclass(frozen=True)
class Placement:
    """How near differs from far in normal recordings: which microphone is which.

    Attributes
    ----------
    mean : (BANDS,) array
        Level of near over far in each band, in dB.
    precision : (BANDS, BANDS) array
        The inverse of its covariance from clip to clip.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    @classmethod
    def of(cls, contrasts: Iterable[NDArray[np.float64]]) -> Placement:
        """Learnt from the ``contrast`` of normal recordings."""
        rows = np.stack(list(contrasts))
        centred = rows - rows.mean(axis=0)
        covariance = centred.T @ centred / len(rows) + CONTRAST_FLOOR * np.eye(BANDS)
        return cls(rows.mean(axis=0), np.linalg.inv(covariance))

    def swapped(self, samples: Samples) -> MicrophoneFault | None:
        """A fault if the recording is implausible as it is, and plausible with its channels exchanged.

        The odds are those of two Gaussians, one the mirror image of the other. Where both microphones hear
        much the same, many a swap goes unseen in a single clip; it is never claimed without cause.
        """
        heard = contrast(samples)
        as_is, exchanged = (float(r @ self.precision @ r) for r in (heard - self.mean, -heard - self.mean))
        if exchanged > PLAUSIBLE or (as_is - exchanged) / 2 < SWAP_LOG_ODDS:
            return None
        return MicrophoneFault(
            "swapped", "both", "near and far seem to be exchanged; check which cable is in which input"
        )


def contrast(samples: Samples) -> NDArray[np.float64]:
    """Level of the near channel over the far one in ``BANDS`` bands, in dB: (BANDS,)."""
    edges = np.geomspace(LOWEST_BIN, N_FFT // 2, BANDS + 1).round().astype(int)
    near_level, far_level = (
        10 * np.log10(np.add.reduceat(_mean_power(samples[c])[: edges[-1]], edges[:-1]) + EPSILON)
        for c in (NEAR, FAR)
    )
    return near_level - far_level


def _mean_power(waveform: Waveform) -> NDArray[np.float64]:
    frames = _frames(waveform)
    total = np.zeros(BINS)
    for i in range(0, len(frames), BLOCK):
        block = scipy.fft.rfft(frames[i : i + BLOCK] * HANN)
        total += (block.real**2 + block.imag**2).sum(axis=0)
    return total / len(frames)
