"""How a band sounds in time: steady, in bursts, once, for a part of the clip, rising; and whether it is a tone.

All limits are our choice, by reason: what a listener would call so. They were looked at on simulated clips of one
seed only (``benchmarks/evidence_words.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.evidence.envelopes import Envelope, EnvelopeSpectrum

Float = NDArray[np.float64]
Kind = Literal["steady", "bursts", "irregular", "rising", "falling", "once", "part"]

BLOCK_SECONDS = 0.1  # of the course of the level
FEWEST_WAVES = 20  # bandwidth times time of a block: of fewer, the power of noise scatters by more than 1 dB
CLEAR_DB = 6.0  # twice the amplitude: a change that nobody misses
SLOPE_DB = 3.0  # twice the power, from the beginning to the end
SLOPE_SHARE = 0.6  # of the variance of the level in time that a straight line explains
ONCE_SECONDS = 1.0  # at most
ONCE_SHARE = 0.6  # of the energy above the median that one event holds
SHORTEST_PART, LONGEST_PART = 0.05, 0.9  # of the clip
HEARD_DB = (
    -20.0
)  # of the strongest peak of bursts, 10 % of the power: less is hardly heard (Viemeister, JASA 66, 1979)
TONE_SHARE = 0.5  # of the band's energy in one line
TONE_WIDTH = 0.0075  # half of it, relative to its frequency: a shaft's speed wanders by 0.5 %
NARROWEST_HZ = 0.5  # half of it, at least
TONE_OF_BAND = 0.3  # of the band's width, at most: else any sound in a narrow band would be a tone
SHORT_BLOCK = 0.01  # seconds, of a single knock
KNOCKS_DB = 5.0  # by which the loudest 1 % of short blocks exceeds that of noise, or of the normal clips


@dataclass(frozen=True, slots=True)
class Course:
    """How a band sounds in time.

    Attributes
    ----------
    kind : {"steady", "bursts", "irregular", "rising", "falling", "once", "part"}
    tone_hz : float or None
        Of the line that most of its energy is in; ``None`` if there is none.
    rate_hz : float or None
        Of bursts: how many there are in a second.
    begin_s, end_s : float or None
        Of what is there once or for a part of the clip, in seconds of the clip.
    change_db : float or None
        Of what rises or falls, from the beginning to the end; of what is there once or in part: against the rest.
    """

    kind: Kind
    tone_hz: float | None = None
    rate_hz: float | None = None
    begin_s: float | None = None
    end_s: float | None = None
    change_db: float | None = None


def course_of(
    envelope: Envelope,
    normal: tuple[Envelope, ...],
    spectrum: EnvelopeSpectrum,
    tone_hz: float | None,
) -> Course:
    """What is heard of a band in time.

    Parameters
    ----------
    envelope : Envelope
    normal : tuple of Envelope
        Of the nearest normal clips, in the same band.
    spectrum : EnvelopeSpectrum
    tone_hz : float or None
        Of ``tone_in``.
    """
    bandwidth = spectrum.high_hz - spectrum.low_hz
    seconds = max(BLOCK_SECONDS, FEWEST_WAVES / bandwidth)
    power, step = envelope.blocks(seconds)
    if len(power) >= 10:
        local = _once(power, step) or _part(power, step)
        if local is not None:
            return Course(local[0], tone_hz, None, *local[1:])
    if spectrum.rate_hz is not None and max(peak.level_db for peak in spectrum.peaks) >= HEARD_DB:
        return Course("bursts", tone_hz, spectrum.rate_hz)
    if tone_hz is None and _knocks(envelope, normal, bandwidth):
        return Course("irregular")
    if len(power) >= 10 and (slope := _slope(power)) is not None:
        return Course("rising" if slope > 0 else "falling", tone_hz, change_db=slope)
    return Course("steady", tone_hz)


def tone_in(
    spectrum: NDArray[np.complex64], samples: int, rate: int, low: float, high: float
) -> float | None:
    """The frequency of the line that holds most of a band's energy; ``None`` if there is none.

    Parameters
    ----------
    spectrum : (bins,) array
        Of ``envelopes.spectrum_of``.
    samples, rate : int
        Of the recording.
    low, high : float
        The band, in Hz.
    """
    step = rate / (2 * (len(spectrum) - 1))
    first, stop = int(np.ceil(low / step)), int(np.ceil(high / step))
    power = np.abs(spectrum[first:stop].astype(complex)) ** 2
    if len(power) < 10 or not power.sum() > 0:
        return None
    half_hz = max(NARROWEST_HZ, 2 * rate / samples, TONE_WIDTH * np.sqrt(low * high))
    half = round(half_hz / step)
    if 2 * half + 1 > TONE_OF_BAND * len(power):
        return None
    held = np.convolve(power, np.ones(2 * half + 1), mode="same")
    at = int(held.argmax())
    if held[at] < TONE_SHARE * power.sum():
        return None
    near = slice(max(0, at - half), at + half + 1)
    return float((power[near] @ np.arange(first, stop)[near]) / power[near].sum() * step)


def _once(power: Float, step: float) -> tuple[Kind, float, float, float] | None:
    """One short event that stands out of everything else."""
    usual = float(np.median(power))
    above = np.maximum(power - usual, 0.0)
    at, reach = int(power.argmax()), max(1, round(ONCE_SECONDS / 2 / step))
    first, stop = max(0, at - reach), min(len(power), at + reach + 1)
    clear = power[at] > 10 ** (CLEAR_DB / 10) * max(usual, 1e-20)
    if not clear or stop - first > len(power) / 4 or above[first:stop].sum() < ONCE_SHARE * above.sum():
        return None
    loud = first + np.flatnonzero(power[first:stop] > np.sqrt(power[at] * max(usual, 1e-20)))
    return "once", loud[0] * step, (loud[-1] + 1) * step, float(10 * np.log10(power[at] / max(usual, 1e-20)))


def _part(power: Float, step: float) -> tuple[Kind, float, float, float] | None:
    """One stretch of the clip that is clearly louder than all before and after it."""
    level = 10 * np.log10(np.maximum(power, 1e-20))
    n, summed = len(level), np.append(0.0, np.cumsum(level))
    first, stop = np.triu_indices(n + 1, k=max(2, int(SHORTEST_PART * n)))
    kept = stop - first <= LONGEST_PART * n
    first, stop = first[kept], stop[kept]
    length = stop - first
    inside = (summed[stop] - summed[first]) / length
    outside = (summed[-1] - inside * length) / (n - length)
    best = int(((inside - outside) * np.sqrt(length * (n - length))).argmax())
    begin, end, change = int(first[best]), int(stop[best]), float((inside - outside)[best])
    within = np.concatenate(
        [level[begin:end] - inside[best], np.delete(level, np.s_[begin:end]) - outside[best]]
    )
    if change < CLEAR_DB or within.std() > change / 3:
        return None
    return "part", begin * step, end * step, change


def _slope(power: Float) -> float | None:
    """By how many dB the level rises from the beginning to the end; ``None`` if it does not steadily."""
    level = 10 * np.log10(np.maximum(power, 1e-20))
    size = max(1, len(level) // 10)
    coarse = level[: len(level) // size * size].reshape(-1, size).mean(axis=1)
    x = np.linspace(-0.5, 0.5, len(coarse))
    slope = float(x @ coarse / (x @ x))
    explained = (slope * x).var() / max(float(coarse.var()), 1e-12)
    return slope if abs(slope) >= SLOPE_DB and explained >= SLOPE_SHARE else None


def _knocks(envelope: Envelope, normal: tuple[Envelope, ...], bandwidth: float) -> bool:
    """Whether single short blocks stand out by more than those of noise and of the normal clips."""
    seconds = max(SHORT_BLOCK, 2 / bandwidth)
    freedom = max(1.0, bandwidth * seconds)
    of_noise = 10 * np.log10(
        1 + 2.33 / np.sqrt(freedom) + 0.9 / freedom
    )  # 99 % of a gamma distribution, nearly
    usual = [of_noise, *(_crest(one, seconds) for one in normal)]
    return _crest(envelope, seconds) > max(usual) + KNOCKS_DB


def _crest(envelope: Envelope, seconds: float) -> float:
    """How far the loudest 1 % of blocks stand above the median, in dB."""
    blocks, _ = envelope.blocks(seconds)
    return float(10 * np.log10(np.quantile(blocks, 0.99) / max(float(np.median(blocks)), 1e-20)))
