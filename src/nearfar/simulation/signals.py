"""What sounds are built of: coloured noise, slow changes, lines, ringing, and their levels.

Conventions
-----------
A signal is a ``(samples,)`` float64 array, frequencies are in Hz, times in seconds, levels in dB of power.
Randomness comes in as a generator; equal generators give equal signals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import lfilter

from nearfar.simulation.continued import Continued

Signal = NDArray[np.float64]

SPEED_OF_SOUND = 343.0  # m/s, in air of 20 degrees Celsius
DB_PER_OCTAVE = 20 * math.log10(2)  # of a spectrum whose amplitude falls as 1 / frequency
FLAT_BELOW_HZ = 60.0  # our choice: else steep noise is nothing but rumble
BLOCK = 8192  # samples
TABLE_ERROR = 1e-4  # of a period that is read from a table: -80 dB
MOST_MULTIPLES = 64  # the highest line in a table against the lowest
RUNG_OUT = 1e-5  # of what an impact began with: -100 dB
FEW_LINES = 4  # from here on Horner's rule is faster


def from_db(level: Any) -> Any:
    """Amplitude of a level in dB, a number or an array."""
    return 10 ** (level / 20)


def rms(signal: Signal) -> float:
    """Root of the mean square."""
    return math.sqrt(np.dot(signal, signal) / len(signal))


def normalized(signal: Signal) -> Signal:
    """The signal at RMS one; silence stays silence."""
    level = rms(signal)
    return signal / level if level else signal


def shaped(
    amplitude: Callable[[Signal], Signal],
    *,
    samples: int,
    rate: int,
    rng: np.random.Generator,
    start: int | None = None,
) -> Signal:
    """Gaussian noise of RMS one with the amplitude spectrum ``amplitude(frequencies)``.

    The spectrum is drawn, not filtered, so there is no transient; its value at 0 Hz is not used. What a
    ``Continued`` draws goes on from block to block. ``start`` is the first sample, if that is not the first of the
    clip or block.
    """
    if isinstance(rng, Continued):
        return rng.shaped(amplitude, samples=samples, rate=rate, start=start)
    samples += start or 0
    length = scipy.fft.next_fast_len(samples, real=True)
    frequencies = np.arange(length // 2 + 1) * (rate / length)
    spectrum = np.zeros(len(frequencies), dtype=np.complex128)
    parts = rng.standard_normal((2, len(frequencies) - 1))
    spectrum[1:] = amplitude(frequencies[1:]) * (parts[0] + 1j * parts[1])
    return normalized(scipy.fft.irfft(spectrum, length)[:samples])[start or 0 :]


def coloured(slope: float, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Gaussian noise of RMS one that falls by ``slope`` dB per octave (0 white, 3 pink, 6 brown)."""
    return shaped(
        lambda f: np.maximum(f, FLAT_BELOW_HZ) ** (-slope / DB_PER_OCTAVE),
        samples=samples,
        rate=rate,
        rng=rng,
    )


def bump(
    hertz: float,
    *,
    octaves: float,
    samples: int,
    rate: int,
    rng: np.random.Generator,
    start: int | None = None,
) -> Signal:
    """Gaussian noise of RMS one around ``hertz``, whose power has halved ``octaves`` away from there."""
    return shaped(
        lambda f: 1 / np.hypot(1.0, np.log2(f / hertz) / octaves),
        samples=samples,
        rate=rate,
        rng=rng,
        start=start,
    )


def drift(hertz: float, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """A smooth random course, about standard normal, with ``hertz`` independent values a second."""
    if isinstance(rng, Continued):
        return rng.drift(hertz, samples=samples, rate=rate)
    step = rate / hertz
    knots = rng.standard_normal(int(samples / step) + 4)  # a spline needs four
    course: Signal = CubicSpline(np.arange(len(knots)) * step, knots)(np.arange(samples))
    return course


def lines(angle: Signal, orders: Sequence[float] | Signal, amplitudes: Signal, phases: Signal) -> Signal:
    """Sum of ``amplitude cos(order angle + phase)``.

    Orders that are multiples of the first, as harmonics are, cost little more than one line: they are a polynomial
    in ``exp(i order angle)``, by Horner's rule.
    """
    if len(orders) < FEW_LINES or not _are_harmonics(np.asarray(orders)):
        total = np.zeros_like(angle)
        for order, amplitude, phase in zip(orders, amplitudes, phases, strict=True):
            total += amplitude * np.cos(order * angle + phase)
        return total
    degrees = np.rint(np.asarray(orders) / orders[0]).astype(int)
    polynomial = np.zeros(degrees.max() + 1, dtype=np.complex128)
    np.add.at(polynomial, degrees, np.asarray(amplitudes) * np.exp(1j * np.asarray(phases)))
    return _real_polynomial(orders[0] * angle, polynomial)


def tabled_lines(
    angle: Signal, orders: Sequence[float] | Signal, amplitudes: Signal, phases: Signal
) -> Signal:
    """As ``lines``, several times as fast, and exact to ``TABLE_ERROR`` of the sum of the amplitudes.

    Lines whose orders are multiples of one of them are one periodic function of the angle. It is read from a table
    of one period, between whose values it is taken as straight.
    """
    orders = np.asarray(orders, dtype=np.float64)
    total = np.zeros_like(angle)
    left = np.argsort(orders)
    while len(left):
        multiples = orders[left] / orders[left[0]]
        in_table = np.isclose(multiples, np.rint(multiples), rtol=1e-12) & (multiples <= MOST_MULTIPLES)
        chosen, left = left[in_table], left[~in_table]
        degrees = np.rint(multiples[in_table])
        _add_from_table(total, angle, orders[chosen[0]], (degrees, amplitudes[chosen], phases[chosen]))
    return total


def _add_from_table(
    total: Signal, angle: Signal, order: float, lines_of_period: tuple[Signal, Signal, Signal]
) -> None:
    """Add the lines of these degrees, amplitudes and phases to the total."""
    degrees, amplitudes, phases = lines_of_period
    size = 1 << math.ceil(math.log2(2 * np.pi * degrees.max() / math.sqrt(8 * TABLE_ERROR)))
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    np.add.at(spectrum, degrees.astype(int), size / 2 * amplitudes * np.exp(1j * phases))
    values = scipy.fft.irfft(spectrum, size)
    slopes = np.diff(values, append=values[0])
    for first in range(0, len(angle), BLOCK):
        place = angle[first : first + BLOCK] * (order * size / (2 * np.pi))
        whole = np.floor(place)
        place -= whole
        index = whole.astype(np.int64) & (size - 1)
        total[first : first + BLOCK] += values[index] + place * slopes[index]


def _are_harmonics(orders: Signal) -> bool:
    """Whether all are multiples of the first, and most multiples are there."""
    multiples = orders / orders[0]
    return bool(multiples.max() <= 2 * len(orders) and np.allclose(multiples, np.rint(multiples), rtol=1e-12))


def _real_polynomial(angle: Signal, coefficients: NDArray[np.complex128]) -> Signal:
    """Real part of the polynomial in ``exp(i angle)``, lowest degree first; in blocks that fit the cache."""
    total = np.empty_like(angle)
    for first in range(0, len(angle), BLOCK):
        block = angle[first : first + BLOCK]
        turned = np.empty(len(block), dtype=np.complex128)
        turned.real, turned.imag = np.cos(block), np.sin(block)
        value = np.full(len(block), coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value *= turned
            value += coefficient
        total[first : first + BLOCK] = value.real
    return total


def ringing(
    onsets: Signal,
    strengths: Signal,
    *,
    hertz: float,
    damping: float,
    samples: int,
    rate: int,
    quick: bool = False,
) -> Signal:
    """A resonance that is hit: the sum of ``a exp(-zeta w (t - t_i)) sin(w (t - t_i))``, ``w = 2 pi hertz``.

    Parameters
    ----------
    onsets : (impacts,) array
        In samples and fractions of them; those outside the signal are not heard.
    strengths : (impacts,) array
        The amplitudes ``a``.
    hertz, damping : float
        Of what rings, and its damping ratio ``zeta``.
    quick : bool
        Compute it with real numbers, and rare impacts one by one, which is several times as fast; equal to 1e-5.
    """
    exponent = complex(-damping, 1.0) * 2 * np.pi * hertz / rate
    first = np.ceil(onsets).astype(int)  # the sample that hears an impact first
    heard = (first >= 0) & (first < samples)
    started = (strengths * np.exp(exponent * (first - onsets)))[heard]
    if quick:
        return _ringing(first[heard], started, np.exp(exponent), samples)
    begun = np.zeros(samples, dtype=np.complex128)
    np.add.at(begun, first[heard], started)
    decaying: Signal = lfilter([1.0], [1.0, -np.exp(exponent)], begun).imag  # exact, between samples too
    return decaying


def _ringing(
    first: NDArray[np.int64], started: NDArray[np.complex128], pole: complex, samples: int
) -> Signal:
    """The sum of ``Im(a p^(n - first))``, each from its sample ``first`` on.

    Where impacts are rare each is added by itself, until it has decayed to ``RUNG_OUT``; else a filter of order two
    adds them all.
    """
    rings = math.ceil(math.log(RUNG_OUT) / math.log(abs(pole)))
    if len(first) * rings > samples:
        begun = np.zeros(samples + 1)
        np.add.at(begun, first, started.imag)
        np.add.at(begun, first + 1, (started * pole).imag - 2 * pole.real * started.imag)
        decaying: Signal = lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], begun[:samples])
        return decaying
    total = np.zeros(samples + rings)
    decay = np.exp(np.log(pole) * np.arange(rings))
    cosine, sine = decay.real.copy(), decay.imag.copy()
    for at, amplitude in zip(first, started, strict=True):
        total[at : at + rings] += amplitude.imag * cosine + amplitude.real * sine
    return total[:samples]
