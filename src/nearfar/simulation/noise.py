"""Sounds without a machine in them: coloured noise, slow changes, hum and impacts, and their mixing.

Conventions
-----------
A signal is a ``(samples,)`` float64 array, frequencies are in Hz, times in seconds, levels in dB of power.
Randomness comes in as a generator; equal generators give equal signals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import lfilter

from nearfar.clips import Domain

Signal = NDArray[np.float64]

DB_PER_OCTAVE = 20 * math.log10(2)  # of a spectrum whose amplitude falls as 1 / frequency
FLAT_BELOW_HZ = 60.0  # our choice: else steep noise is nothing but rumble

MODULATION_DB = 3.0  # standard deviation of the level of the surroundings, our choice
MODULATION_HZ = 0.5  # how often it changes, our choice

HUM_HZ = 100.0  # twice the mains' 50 Hz: magnetostriction does not know the sign of the field
HUM_HARMONICS = (1.0, 0.5, 0.3, 0.2)  # amplitudes, our choice

IMPACTS_PER_SECOND = 0.5  # our choice: a workshop, not a forge
IMPACT_DECAY_SECONDS = 0.03  # our choice
IMPACT_LEVEL = (2.0, 6.0)  # of an impact's onset, in multiples of the coloured noise's RMS; our choice

# Colour of the surroundings in dB per octave, our choice; it shifts between the domains.
SLOPES: dict[Domain, tuple[float, float]] = {"source": (2.5, 3.5), "target": (3.5, 4.5)}
HUM_LEVEL = (0.2, 0.4)  # RMS, relative to the coloured noise; our choice


def from_db(level: Any) -> Any:
    """Amplitude of a level in dB, a number or an array."""
    return 10 ** (level / 20)


def rms(signal: Signal) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(signal))))


def shaped(
    amplitude: Callable[[Signal], Signal], *, samples: int, rate: int, rng: np.random.Generator
) -> Signal:
    """Gaussian noise of RMS one with the amplitude spectrum ``amplitude(frequencies)``.

    The spectrum is drawn, not filtered, so there is no transient; its value at 0 Hz is not used.
    """
    length = scipy.fft.next_fast_len(samples, real=True)
    frequencies = np.arange(length // 2 + 1) * (rate / length)
    spectrum = np.zeros(len(frequencies), dtype=np.complex128)
    parts = rng.standard_normal((2, len(frequencies) - 1))
    spectrum[1:] = amplitude(frequencies[1:]) * (parts[0] + 1j * parts[1])
    signal = scipy.fft.irfft(spectrum, length)[:samples]
    return signal / rms(signal)


def coloured(slope: float, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Gaussian noise of RMS one that falls by ``slope`` dB per octave (0 white, 3 pink, 6 brown)."""
    return shaped(
        lambda f: np.maximum(f, FLAT_BELOW_HZ) ** (-slope / DB_PER_OCTAVE),
        samples=samples,
        rate=rate,
        rng=rng,
    )


def drift(hertz: float, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """A smooth random course, about standard normal, with ``hertz`` independent values a second."""
    step = rate / hertz
    knots = rng.standard_normal(int(samples / step) + 4)  # a spline needs four
    course: Signal = CubicSpline(np.arange(len(knots)) * step, knots)(np.arange(samples))
    return course


def hum(*, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Lines at multiples of ``HUM_HZ``, of RMS one: a transformer or a ballast."""
    turn = 2 * np.pi * HUM_HZ / rate * np.arange(samples)
    phases = rng.uniform(0, 2 * np.pi, len(HUM_HARMONICS))
    lines = sum(
        a * np.cos(k * turn + p) for k, (a, p) in enumerate(zip(HUM_HARMONICS, phases, strict=True), 1)
    )
    return lines / rms(lines)


def impacts(*, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Bursts of white noise that start at random and decay: things that are put down, dropped, hit.

    Onsets are a Poisson process of ``IMPACTS_PER_SECOND``; the level decays by 1 / e in
    ``IMPACT_DECAY_SECONDS``.
    """
    onsets = rng.integers(0, samples, rng.poisson(IMPACTS_PER_SECOND * samples / rate))
    strikes = np.zeros(samples)
    np.add.at(strikes, onsets, rng.uniform(*IMPACT_LEVEL, len(onsets)))
    envelope = lfilter([1.0], [1.0, -np.exp(-1 / (IMPACT_DECAY_SECONDS * rate))], strikes)
    bursts: Signal = envelope * rng.standard_normal(samples)
    return bursts


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What can be heard beside the machine, in one domain.

    Attributes
    ----------
    slope : float
        Colour of the noise, in dB per octave downwards.
    hum_level : float
        RMS of the hum, relative to the coloured noise.
    """

    slope: float
    hum_level: float

    @classmethod
    def draw(cls, domain: Domain, rng: np.random.Generator) -> Surroundings:
        """The surroundings of one installation."""
        return cls(slope=rng.uniform(*SLOPES[domain]), hum_level=rng.uniform(*HUM_LEVEL))

    def ambient(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """Coloured noise whose level changes slowly, with impacts: all from one place."""
        level_db = MODULATION_DB * drift(MODULATION_HZ, samples=samples, rate=rate, rng=rng)
        steady = coloured(self.slope, samples=samples, rate=rate, rng=rng)
        return steady * from_db(level_db) + impacts(samples=samples, rate=rate, rng=rng)

    def hum(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """The hum at its level: from another place than the ambient noise."""
        return self.hum_level * hum(samples=samples, rate=rate, rng=rng)


def noise_gain(wanted: Signal, noise: Signal, *, snr_db: float) -> float:
    """The factor on ``noise`` that makes it ``snr_db`` weaker than ``wanted``, in RMS over the clip.

    Raises
    ------
    ValueError
        If either is silent: no factor makes such a ratio.
    """
    levels = rms(wanted), rms(noise)
    if min(levels) == 0:
        raise ValueError(
            f"rms(wanted)={levels[0]}, rms(noise)={levels[1]}: both must be above 0 for a ratio of {snr_db} dB"
        )
    return float(levels[0] / levels[1] * from_db(-snr_db))
