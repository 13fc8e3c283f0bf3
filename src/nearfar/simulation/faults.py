"""What breaks: faults that are planted into the sound of a running machine.

Conventions
-----------
A fault is called with a healthy machine that runs, and returns its faulty sound. The severity lies in [0, 1]:
0 changes nothing, 1 is the worst that is simulated, and what a fault adds has an amplitude proportional to it.
Orders are multiples of the shaft's frequency; angles are unwrapped, in radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.signal import lfilter

from nearfar.simulation.noise import Signal, rms

STRENGTH_SPREAD = 0.2  # relative standard deviation of one impact's amplitude, our choice

# Rolling elements slip, by 1 to 2 % of the kinematic frequency: R. B. Randall, J. Antoni, "Rolling element
# bearing diagnostics - a tutorial", Mech. Syst. Signal Process. 25 (2011).
SLIP = 0.01


@dataclass(frozen=True, slots=True)
class Running:
    """A machine that runs.

    Attributes
    ----------
    sound, angle : (samples,) array
        What it sounds like, and how far its shaft has turned.
    rate : int
        In Hz.
    """

    sound: Signal
    angle: Signal
    rate: int


class Fault(Protocol):
    """What a machine can suffer from."""

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        """The sound of the machine with this fault, from severity 0 (as it was) to 1: (samples,) array."""
        ...


def refuse_severity(severity: float) -> None:
    """Raise ``ValueError`` if the severity is not within [0, 1]."""
    if not 0 <= severity <= 1:
        raise ValueError(f"severity={severity}: must be between 0 (no change) and 1 (worst)")


@dataclass(frozen=True, slots=True)
class Unbalance:
    """A centre of mass beside the axis: everything swells once per revolution.

    The centrifugal force turns with the shaft. It shakes the housing at the order 1, and because it
    changes clearances and loads, it modulates the sound ``x`` of the machine. With the severity ``s``::

        x (1 + depth s cos theta) + line s rms(x) sqrt(2) sum_k ratio^(k-1) cos(k theta),  k = 1 .. harmonics

    where the line has harmonics because a mount is not linear.

    Attributes
    ----------
    depth : float
        Of the modulation, at severity 1.
    line : float
        RMS of the line at order 1, relative to the healthy sound, at severity 1.
    harmonics : int
        Of the line, itself included.
    ratio : float
        Amplitude of a harmonic relative to the one before.
    """

    depth: float
    line: float
    harmonics: int = 4
    ratio: float = 0.6

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        theta = running.angle + rng.uniform(0, 2 * np.pi)  # the heavy side may be anywhere
        shake = sum(self.ratio ** (k - 1) * np.cos(k * theta) for k in range(1, self.harmonics + 1))
        swollen = running.sound * (1 + self.depth * severity * np.cos(theta))
        return swollen + self.line * severity * rms(running.sound) * np.sqrt(2) * shake


@dataclass(frozen=True, slots=True)
class Impacts:
    """Something hits something, again and again, and a resonance rings.

    Every impact at ``t_i`` adds ``a_i exp(-zeta w (t - t_i)) sin(w (t - t_i))`` with ``w = 2 pi resonance_hz``,
    the response of a resonance to a blow (bearings: P. D. McFadden, J. D. Smith, "Model for the vibration
    produced by a single point defect in a rolling element bearing", J. Sound Vib. 96 (1984); teeth: W. Wang,
    "Early detection of gear tooth cracking using the resonance demodulation technique", Mech. Syst. Signal
    Process. 15 (2001)). Between two impacts the shaft turns by ``2 pi / per_revolution (1 + jitter N(0, 1))``;
    deviations add up, as in J. Antoni, R. B. Randall, "A stochastic model for simulation and diagnostics of
    rolling element bearings with localized faults", J. Vib. Acoust. 125 (2003). The amplitudes ``a_i`` scatter
    by ``STRENGTH_SPREAD``.

    Attributes
    ----------
    per_revolution : float
        Order of the impacts: 1 for a damaged blade or tooth, ``outer_race_order`` for a bearing.
    resonance_hz, damping : float
        Frequency of what rings, and its damping ratio ``zeta``.
    level : float
        RMS of the ringing, relative to the healthy sound, at severity 1.
    jitter : float
        Relative standard deviation of the angle between impacts.
    """

    per_revolution: float
    resonance_hz: float
    damping: float
    level: float
    jitter: float = 0.0

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        onsets = self.onsets(running.angle, rng=rng)
        if len(onsets) == 0:  # the shaft did not turn far enough
            return running.sound
        ringing = self._ringing(onsets, samples=len(running.sound), rate=running.rate, rng=rng)
        return running.sound + severity * self.level * rms(running.sound) / rms(ringing) * ringing

    def onsets(self, angle: Signal, *, rng: np.random.Generator) -> Signal:
        """When it hits, in samples and fractions of them: (impacts,) array."""
        step = 2 * np.pi / self.per_revolution
        enough = int((angle[-1] - angle[0]) / step * (1 + self.jitter)) + 2
        steps = step * (1 + self.jitter * rng.standard_normal(enough))
        at = angle[0] + rng.uniform(0, step) + np.cumsum(steps) - steps[0]
        return np.interp(at[at < angle[-1]], angle, np.arange(len(angle)))

    def _ringing(self, onsets: Signal, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """A complex one-pole filter gives the damped sines exactly, also of onsets between two samples."""
        exponent = complex(-self.damping, 1.0) * 2 * np.pi * self.resonance_hz / rate
        strengths = 1 + STRENGTH_SPREAD * rng.standard_normal(len(onsets))
        first = np.ceil(onsets).astype(int)  # the sample that hears an impact first
        begun = np.zeros(samples, dtype=np.complex128)
        np.add.at(begun, first, strengths * np.exp(exponent * (first - onsets)))
        ringing: Signal = lfilter([1.0], [1.0, -np.exp(exponent)], begun).imag
        return ringing


def outer_race_order(*, balls: int, ball_diameter: float, pitch_diameter: float) -> float:
    """Impacts per revolution of a defect in a bearing's outer race, "BPFO", at contact angle 0.

    ``balls / 2 (1 - ball_diameter / pitch_diameter)``: R. B. Randall, J. Antoni, "Rolling element bearing
    diagnostics - a tutorial", Mech. Syst. Signal Process. 25 (2011).
    """
    return balls / 2 * (1 - ball_diameter / pitch_diameter)
