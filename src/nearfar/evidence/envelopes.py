r"""How the loudness of a band changes in time, and how often: its envelope, and the spectrum of that.

Conventions
-----------
The *envelope* of a band is its power over time, :math:`|z(t)|^2 / 2`, where z is the analytic signal of the band:
the inverse transform of the bins within it, at a rate just high enough for the square. Its spectrum is that of
:math:`|z|^2 / \overline{|z|^2} - 1`, under a Hann window, in dB: 0 dB is a sinusoidal change by 100 % of the mean
(squared envelope spectrum: J. Antoni, "Cyclic spectral analysis of rolling-element bearing signals: facts and
fictions," J. Sound Vib. 304, 2007).

A band of noise has such a spectrum, too. In one bin its power is distributed exponentially around a smooth floor,
which is the running median divided by ln 2. A peak *stands out* if it is so far above the floor that, in a whole
spectrum of noise, a peak as high comes up in ``BY_CHANCE`` of cases. Lines that are spread over some bins,
because a shaft's speed is never constant or because rolling elements slip, are looked for in sums over several
bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import gammaincc

Float = NDArray[np.float64]
Waveform = NDArray[np.float32]

HIGHEST_HZ = 400.0  # of a spectrum; faster changes are heard as a tone
FEWEST_LINES = 2  # of a train of bursts that lie within the band: the beat of two tones is no burst
SLOWEST_PERIODS = 8  # that a recording must hold of a rate: the level of any noise wanders slowly
FLOOR_BINS = 121  # of the running median
WIDTHS = (1, 3, 9)  # bins that are summed
HANN_BINS = 1.5  # equivalent noise bandwidth: neighbouring bins of a Hann window are not independent
BY_CHANCE = 0.001
HARMONICS = 4
MOST_PEAKS = 8
CAP = 12.0  # of the surprise of one line: one very strong line must not outweigh a series of harmonics
MISSING = -1.0  # of a harmonic that is not there
OWN_LINE = 2.0  # surprise of a rate that is only known by its harmonics
TOLERANCE = 0.007  # relative: rolling elements slip by 1 to 2 %, and a shaft's speed wanders
LEAST_POWER = 1e-10  # of a line, a change by a thousandth of a percent: below that a sound is steady
ABOVE_NORMAL_DB = 6.0  # twice the modulation


@dataclass(frozen=True, eq=False)
class Envelope:
    """The power of a band over time.

    Attributes
    ----------
    power : (samples,) array
        Full scale is 1 for a mean square of 1.
    rate : float
        In Hz.
    """

    power: Float
    rate: float

    def blocks(self, seconds: float) -> tuple[Float, float]:
        """Mean power of blocks of about that length, (n_blocks,), and their length in seconds.

        What fills no block at the end is left out.
        """
        size = min(max(1, round(seconds * self.rate)), len(self.power))
        count = len(self.power) // size
        return self.power[: count * size].reshape(count, size).mean(axis=1), size / self.rate


@dataclass(frozen=True, slots=True)
class EnvelopePeak:
    """A rate at which the loudness of a band changes.

    Attributes
    ----------
    hz, level_db : float
    above_floor_db : float
        Above the noise of this clip.
    above_normal_db : float or None
        Above the highest of the nearest normal clips at about this rate; ``None`` without such clips.
    order : int or None
        Which harmonic of ``EnvelopeSpectrum.rate_hz`` it is.
    """

    hz: float
    level_db: float
    above_floor_db: float
    above_normal_db: float | None
    order: int | None = None


@dataclass(frozen=True, eq=False)
class EnvelopeSpectrum:
    """The squared-envelope spectrum of a band.

    Attributes
    ----------
    view : str
        The microphone view.
    low_hz, high_hz : float
        The band.
    frequencies : (bins,) array
        Of the change of loudness, in Hz.
    clip, floor : (bins,) array
        In dB.
    normal : (n_normal, bins) array
        Of the nearest normal clips, in dB; none if there are no such clips.
    peaks : tuple of EnvelopePeak
        Those that stand out of the floor and of the normal clips, the strongest first.
    rate_hz : float or None
        Of the series of harmonics that explains the peaks best; ``None`` without peaks.
    """

    view: str
    low_hz: float
    high_hz: float
    frequencies: Float
    clip: Float
    floor: Float
    normal: Float
    peaks: tuple[EnvelopePeak, ...]
    rate_hz: float | None


def spectrum_of(waveform: Waveform) -> NDArray[np.complex64]:
    """The bins of a whole recording, of which ``envelope`` takes some."""
    return np.asarray(scipy.fft.rfft(waveform, scipy.fft.next_fast_len(len(waveform), real=True)))


def envelope(
    spectrum: NDArray[np.complex64], samples: int, rate: int, low_hz: float, high_hz: float
) -> Envelope:
    """Of a band of a recording.

    Parameters
    ----------
    spectrum : (bins,) array
        Of ``spectrum_of``.
    samples, rate : int
        Of the recording.
    low_hz, high_hz : float
    """
    length = scipy.fft.next_fast_len(samples, real=True)
    first = max(1, int(np.ceil(low_hz * length / rate)))
    bins = spectrum[first : max(first + 1, int(np.ceil(high_hz * length / rate)))]
    size = scipy.fft.next_fast_len(2 * len(bins))
    analytic = scipy.fft.ifft(np.pad(bins, (0, size - len(bins)))) * (2 * size / length)
    power = (analytic.real.astype(float) ** 2 + analytic.imag.astype(float) ** 2) / 2
    return Envelope(power[: max(1, size * samples // length)], rate * size / length)


def envelope_spectrum(
    of_clip: Envelope, of_normal: tuple[Envelope, ...], *, view: str, low_hz: float, high_hz: float
) -> EnvelopeSpectrum:
    """With its peaks, and the rate that they have in common."""
    frequencies, power = _spectrum(of_clip, high_hz - low_hz)
    normal = [np.interp(frequencies, *_spectrum(one, high_hz - low_hz)) for one in of_normal]
    floor = _floor(power)
    surprise = _surprise(power, floor)
    peaks = _peaks(frequencies, power, floor, surprise, normal, seconds=len(of_clip.power) / of_clip.rate)
    rate = _common_rate(frequencies, surprise, peaks)
    told = tuple(_with_order(peak, rate) for peak in peaks)
    rows = np.array([_db(one) for one in normal]).reshape(len(normal), len(frequencies))
    return EnvelopeSpectrum(view, low_hz, high_hz, frequencies, _db(power), _db(floor), rows, told, rate)


def _spectrum(envelope: Envelope, bandwidth: float) -> tuple[Float, Float]:
    """Frequencies, and power: 1 for a change by 100 %."""
    n = len(envelope.power)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    relative = envelope.power / max(envelope.power.mean(), np.finfo(float).tiny) - 1
    size = scipy.fft.next_fast_len(n, real=True)
    bins = scipy.fft.rfft(relative * window, size)
    kept = max(2, int(min(bandwidth / FEWEST_LINES, HIGHEST_HZ) / envelope.rate * size))
    frequencies = np.arange(1, len(bins)) * envelope.rate / size
    return frequencies[: kept - 1], np.abs(bins[1:kept] * 2 / max(window.sum(), 1e-9)) ** 2


def _floor(power: Float) -> Float:
    """Of exponentially distributed noise: the running median is ln 2 times its mean."""
    half = min(FLOOR_BINS, len(power) // 2 * 2 - 1) // 2
    if half < 1:
        return np.full(len(power), power.mean() if len(power) else 0.0) + LEAST_POWER
    padded = np.pad(power, half, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    return np.asarray(np.median(around, axis=1)) / np.log(2) + LEAST_POWER


def _surprise(power: Float, floor: Float) -> Float:
    """How unlikely noise is to be as strong, in powers of ten, by the width of sums that says most."""
    said = []
    for width in WIDTHS:
        if width > len(power):
            break
        relative = np.convolve(power / floor, np.ones(width) / width, mode="same")
        independent = max(1.0, width / HANN_BINS)
        chance = gammaincc(independent, independent * relative)
        said.append(-np.log10(np.maximum(chance, 1e-300)))
    return np.max(said, axis=0) if said else np.zeros(len(power))


def _peaks(
    frequencies: Float, power: Float, floor: Float, surprise: Float, normal: list[Float], *, seconds: float
) -> tuple[EnvelopePeak, ...]:
    """Local maxima that stand out, the strongest first."""
    needed = np.log10(len(WIDTHS) * len(power) / BY_CHANCE)
    apart = max(1, round(0.25 * seconds))  # bins: a quarter of a hertz
    found: list[EnvelopePeak] = []
    for at in np.argsort(-power / floor):
        hz = float(frequencies[at])
        if len(found) == MOST_PEAKS or surprise[at] < needed:
            if len(found) == MOST_PEAKS:
                break
            continue
        near = slice(max(0, at - apart), at + apart + 1)
        if hz < SLOWEST_PERIODS / seconds or power[at] < power[near].max():
            continue
        same = np.abs(frequencies - hz) <= max(2 * TOLERANCE * hz, 2 / seconds)
        above = min((float(_db(power[at]) - _db(one[same].max())) for one in normal), default=None)
        if above is None or above >= ABOVE_NORMAL_DB:
            found.append(EnvelopePeak(hz, float(_db(power[at])), float(_db(power[at] / floor[at])), above))
    return tuple(found)


def _common_rate(frequencies: Float, surprise: Float, peaks: tuple[EnvelopePeak, ...]) -> float | None:
    """Of the peaks and their halves and thirds, the one with most harmonics that stand out."""
    best, rate = 0.0, None
    for peak in peaks:
        for divisor in (1, 2, 3):
            hz = peak.hz / divisor
            total = sum(_at(frequencies, surprise, order * hz) for order in range(1, HARMONICS + 1))
            if divisor > 1 and _at(frequencies, surprise, hz) < OWN_LINE:
                continue  # a rate without its own line is a guess
            if total > best:
                best, rate = total, hz
    return rate


def _at(frequencies: Float, surprise: Float, hz: float) -> float:
    """How much a line at about this frequency surprises: from ``MISSING`` to ``CAP``; 0 beyond the spectrum."""
    if hz > frequencies[-1]:
        return 0.0
    step = frequencies[0]
    near = surprise[np.abs(frequencies - hz) <= max(TOLERANCE * hz, 1.5 * step)]
    expected = np.log10(len(near) * len(WIDTHS)) + 1  # the largest of so many is about that by chance
    return float(np.clip(near.max() - expected, MISSING, CAP))


def _with_order(peak: EnvelopePeak, rate: float | None) -> EnvelopePeak:
    if rate is None:
        return peak
    order = round(peak.hz / rate)
    fits = order >= 1 and abs(peak.hz - order * rate) <= max(2 * TOLERANCE * peak.hz, 0.2)
    fields = (peak.hz, peak.level_db, peak.above_floor_db, peak.above_normal_db)
    return EnvelopePeak(*fields, order if fits else None)


def _db(power: Float | float) -> Float:
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)))
