"""A toy car on a roller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.faults import Fault, Friction, Impacts, Rattle, Running, Shaking, Squeal
from nearfar.simulation.machines.mechanics import (
    LOAD_DB,
    Condition,
    Offer,
    daily,
    harmonics_db,
    magnification,
    shaft_angle,
    tones,
)
from nearfar.simulation.signals import Signal, bump, from_db, normalized

TYRE_DB = -3.0  # of the tyres' noise at load 1, relative to the lines; our choice


@dataclass(frozen=True, slots=True)
class ToyCar:
    """A toy car whose driven wheels turn a roller: a small motor with brushes, one pair of gears, an axle.

    * Each of the commutator's segments leaves each of the brushes once per revolution, and with an odd number
      of segments no two do so at once: lines at ``k lcm(segments, brushes) n / 60``, k = 1, 2, ...
    * Teeth of the pinion meet those of the spur gear: lines at ``k pinion n / 60``, modulated by the spur
      gear's eccentricity, ``1 + m cos w`` with the axle's angle ``w = theta pinion / spur`` (P. D. McFadden,
      "Detecting fatigue cracks in gears by amplitude and phase demodulation of the meshing vibration", J. Vib.
      Acoust. 108 (1986)).
    * The body is a resonance (one degree of freedom) that the lines pass.
    * Tyres make noise around 1 kHz (U. Sandberg, J. A. Ejsmont, "Tyre/Road Noise Reference Book", 2002); no
      wheel is round, so it swells with the axle, and there is a line at ``pinion / spur n / 60``.
    * Load, the roller's brake, raises the lines, which carry the torque, above the tyres' noise.

    Speed and angle are the motor's, so what turns with the axle has the order ``pinion / spur``. Damaged
    gears and something wound round a wheel are faults of the ToyADMOS data set, too (Y. Koizumi et al.,
    "ToyADMOS: A dataset of miniature-machine operating sounds for anomalous sound detection", WASPAA 2019).

    Attributes
    ----------
    commutation_db, mesh_db : (harmonics,) tuple
        Levels of the lines before the body.
    eccentricity : float
        ``m``; also the depth by which the tyres' noise swells.
    unbalance : float
        Amplitude of the axle's line.
    tyre_hz : float
        Centre of the tyres' noise.
    resonance_hz : float
        Of the body.
    """

    SEGMENTS: ClassVar[int] = 3
    BRUSHES: ClassVar[int] = 2
    PINION: ClassVar[int] = 11
    SPUR: ClassVar[int] = 43  # prime, against uneven wear
    AXLE: ClassVar[float] = PINION / SPUR
    BODY_DAMPING: ClassVar[float] = 0.15  # our choice: plastic damps well
    SPEED_UNIT: ClassVar[str] = "rpm"
    SPEEDS: ClassVar[Offer] = Offer((6000, 8000, 10000), (7000, 9000, 12000))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    commutation_db: tuple[float, ...]
    mesh_db: tuple[float, ...]
    eccentricity: float
    unbalance: float
    tyre_hz: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            commutation_db=harmonics_db(3, rng),
            mesh_db=harmonics_db(3, rng),
            eccentricity=rng.uniform(0.1, 0.3),
            unbalance=rng.uniform(0.05, 0.15),
            tyre_hz=rng.uniform(900, 1100),
            resonance_hz=rng.uniform(1900, 2300),
        )

    def faults(self) -> Mapping[str, Fault]:
        """A chipped spur gear, a bent wheel, slipping tyres, dry gears, a loose body, hair round the axle."""
        of_axle = tuple(self.AXLE * np.arange(1.0, 5.0))
        return {
            "tooth": Impacts(self.AXLE, self.resonance_hz, damping=0.05, level=0.2),
            "wheel": Shaking(0.4, 0.27, swell=self.AXLE, orders=of_axle, amplitudes=(1.0, 0.6, 0.36, 0.216)),
            "slip": Squeal(1.5 * self.tyre_hz, level=0.16),
            "lubrication": Friction(2.2 * self.resonance_hz, octaves=0.7, level=0.26),
            "looseness": Rattle(0.2, resonance_hz=0.3 * self.resonance_hz, damping=0.05, level=0.22),
            "clogging": Friction(0.4 * self.tyre_hz, octaves=0.8, level=0.35, swell=self.AXLE, depth=0.9),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """The motor's shaft, the axle, commutation and mesh."""
        shaft = condition.speed / 60
        return {
            "shaft": shaft,
            "axle": self.AXLE * shaft,
            "commutation": math.lcm(self.SEGMENTS, self.BRUSHES) * shaft,
            "mesh": self.PINION * shaft,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy car, of RMS one; the angle is the motor's."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        axle = np.cos(self.AXLE * angle + rng.uniform(0, 2 * np.pi))
        swell = 1 + self.eccentricity * axle
        hertz = self.frequencies(condition)
        commutation = self._tones(angle, hertz["commutation"], self.commutation_db, condition, rate, rng)
        mesh = self._tones(angle, hertz["mesh"], self.mesh_db, condition, rate, rng)
        tyres = bump(self.tyre_hz, octaves=0.8, samples=samples, rate=rate, rng=rng)
        share = from_db(TYRE_DB - LOAD_DB * (condition.load - 1))
        sound = normalized(commutation + mesh * swell) + share * tyres * swell + self.unbalance * axle
        return Running(normalized(sound), angle, rate)

    def _tones(
        self,
        angle: Signal,
        hertz: float,
        levels_db: tuple[float, ...],
        condition: Condition,
        rate: int,
        rng: np.random.Generator,
    ) -> Signal:
        """The harmonics of ``hertz``, through the body."""
        frequencies = hertz * np.arange(1.0, len(levels_db) + 1)
        amplitudes = from_db(daily(levels_db, rng))
        amplitudes *= magnification(frequencies, self.resonance_hz, self.BODY_DAMPING)
        shaft_hz = condition.speed / 60
        return tones(angle, frequencies / shaft_hz, amplitudes, shaft_hz=shaft_hz, rate=rate, rng=rng)
