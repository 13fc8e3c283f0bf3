"""A brushless motor on its inverter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.faults import (
    BEARING_6205,
    Fault,
    Friction,
    Running,
    Shaking,
    inner_race,
    refuse_severity,
    unbalance,
)
from nearfar.simulation.machines.mechanics import (
    LOAD_DB,
    Condition,
    Offer,
    below_nyquist,
    daily,
    harmonics_db,
    magnification,
    shaft_angle,
    tones,
)
from nearfar.simulation.signals import Signal, coloured, from_db, normalized, rms

CARRIER_DB = -12.0  # of the inverter's whine at load 1, relative to all other lines; our choice
HISS_DB = -6.0  # of air and bearings, relative to the lines; our choice


@dataclass(frozen=True, slots=True)
class WeakMagnet:
    """One magnet has lost its strength: the pull is missing where it passes, once per revolution.

    The pull goes as the square of the field, so one of ``magnets`` misses ``d = sin(magnets theta / 2)^2`` on
    its part of the circumference, and 0 elsewhere. With the severity ``s`` the sound ``x`` becomes::

        x (1 - depth s d) - level s rms(x) (d - mean(d)) / rms

    All orders up to twice the number of magnets appear: rotor faults are heard at the multiples of ``n / 60``
    (W. le Roux, R. G. Harley, T. G. Habetler, "Detecting rotor faults in low power permanent magnet synchronous
    machines", IEEE Trans. Power Electron. 22 (2007)); this shape is our model.

    Attributes
    ----------
    magnets : int
    depth : float
        By which everything is weaker while the magnet passes, at severity 1.
    level : float
        Of the lines.
    """

    magnets: int
    depth: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        passed = (running.angle * self.magnets / (2 * np.pi) + rng.uniform(0, self.magnets)) % self.magnets
        dip = np.where(passed < 1, np.sin(np.pi * passed) ** 2, 0.0)
        weakened = running.sound * (1 - self.depth * severity * dip)
        return weakened - self.level * severity * rms(running.sound) * normalized(dip - dip.mean())


@dataclass(frozen=True, slots=True)
class BrushlessMotor:
    """A brushless motor with permanent magnets, p pole pairs and s slots; ``f = p n / 60`` is its supply.

    * Every magnet pulls at the stator: lines at ``k 2 f``, k = 1, 2, ... No rotor is centred, which modulates
      them with ``n / 60`` (J. F. Gieras, C. Wang, J. C. Lai, "Noise of Polyphase Electric Motors", 2006).
    * Magnets snap to teeth: cogging lines at ``k lcm(s, 2 p) n / 60`` (D. C. Hanselman, "Brushless
      Permanent-Magnet Motor Design", 1994).
    * The field is no pure sine: its 5th and 7th harmonics make the torque of the three phases ripple at
      ``6 f``, as commutation in six steps does (Hanselman, as above).
    * The inverter switches with the carrier ``c``. Between its phases the currents' ripple is at ``c +- 2 f``
      (D. G. Holmes, T. A. Lipo, "Pulse Width Modulation for Power Converters", 2003); with the magnets' field
      at ``f`` it pulls at ``c +- f`` and ``c +- 3 f``.
    * The frame is a resonance (one degree of freedom) that all but the carrier pass; air and bearings hiss.
    * Load needs current: it raises ripple and carrier, but not what the magnets do alone.

    Attributes
    ----------
    pull_db, cogging_db, ripple_db : (harmonics,) tuple
        Levels of the lines before the frame.
    eccentricity : float
        Residual modulation depth of the lines.
    unbalance : float
        Amplitude of the line at order 1.
    resonance_hz : float
        Of the frame.
    """

    POLE_PAIRS: ClassVar[int] = 5
    SLOTS: ClassVar[int] = 12
    CARRIER_HZ: ClassVar[float] = 6000.0
    FRAME_DAMPING: ClassVar[float] = 0.15  # our choice
    COGGING_DB: ClassVar[float] = -3.0  # of its first line, relative to the pull's; our choice
    RIPPLE_DB: ClassVar[float] = -6.0  # of its first line at load 1, relative to the pull's; our choice
    SPEED_UNIT: ClassVar[str] = "rpm"
    SPEEDS: ClassVar[Offer] = Offer((1500, 2000, 2500), (1750, 2250, 3000))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    pull_db: tuple[float, ...]
    cogging_db: tuple[float, ...]
    ripple_db: tuple[float, ...]
    eccentricity: float
    unbalance: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            pull_db=harmonics_db(2, rng),
            cogging_db=harmonics_db(2, rng),
            ripple_db=harmonics_db(1, rng),
            eccentricity=rng.uniform(0.05, 0.15),
            unbalance=rng.uniform(0.05, 0.15),
            resonance_hz=rng.uniform(1700, 2100),
        )

    def faults(self) -> Mapping[str, Fault]:
        """An unbalanced or eccentric rotor, a weak magnet, a worn bearing, no grease."""
        magnets = 2 * self.POLE_PAIRS
        return {
            "unbalance": unbalance(depth=0.6, level=0.4),
            "eccentricity": Shaking(
                0.5, 0.35, swell=1.0, orders=(magnets - 1, magnets + 1), amplitudes=(1, 1)
            ),
            "demagnetization": WeakMagnet(magnets, depth=0.5, level=0.35),
            "bearing": inner_race(BEARING_6205, resonance_hz=1.7 * self.resonance_hz, level=0.15),
            "lubrication": Friction(2.2 * self.resonance_hz, octaves=0.7, level=0.18),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """The shaft, the supply, the first line of each kind, the carrier, and the bearing."""
        shaft = condition.speed / 60
        return {
            "shaft": shaft,
            "electric": self.POLE_PAIRS * shaft,
            "pull": 2 * self.POLE_PAIRS * shaft,
            "ripple": 6 * self.POLE_PAIRS * shaft,
            "cogging": math.lcm(self.SLOTS, 2 * self.POLE_PAIRS) * shaft,
            "carrier": self.CARRIER_HZ,
            "inner_race": BEARING_6205.inner * shaft,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy motor, of RMS one."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        magnetic = normalized(self._tones(angle, condition, rate=rate, rng=rng))
        carrier = from_db(CARRIER_DB + LOAD_DB * (condition.load - 1)) * self._carrier(angle, condition, rate)
        hiss = from_db(HISS_DB) * coloured(3.0, samples=samples, rate=rate, rng=rng)
        turning = np.cos(angle)
        sound = (magnetic + carrier) * (1 + self.eccentricity * turning) + self.unbalance * turning + hiss
        return Running(normalized(sound), angle, rate)

    def _tones(self, angle: Signal, condition: Condition, *, rate: int, rng: np.random.Generator) -> Signal:
        """Pull, cogging and ripple, through the frame."""
        hertz = self.frequencies(condition)
        levels = {
            "pull": daily(self.pull_db, rng),
            "cogging": self.COGGING_DB + daily(self.cogging_db, rng),
            "ripple": self.RIPPLE_DB + LOAD_DB * (condition.load - 1) + daily(self.ripple_db, rng),
        }
        frequencies = np.concatenate([hertz[kind] * np.arange(1, len(db) + 1) for kind, db in levels.items()])
        amplitudes = from_db(np.concatenate(list(levels.values())))
        amplitudes *= magnification(frequencies, self.resonance_hz, self.FRAME_DAMPING)
        shaft_hz = hertz["shaft"]
        return tones(angle, frequencies / shaft_hz, amplitudes, shaft_hz=shaft_hz, rate=rate, rng=rng)

    def _carrier(self, angle: Signal, condition: Condition, rate: int) -> Signal:
        """The carrier's four sidebands, together of RMS one, or silence if they cannot be sampled."""
        electric_hz = self.frequencies(condition)["electric"]
        if not below_nyquist(np.array(self.CARRIER_HZ + 3 * electric_hz), rate):
            return np.zeros_like(angle)
        electric = self.POLE_PAIRS * angle
        carrier = np.cos(2 * np.pi * self.CARRIER_HZ / rate * np.arange(len(angle)))
        return normalized(carrier * (np.cos(electric) + np.cos(3 * electric)))
