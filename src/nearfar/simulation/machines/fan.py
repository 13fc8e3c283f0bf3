"""An axial fan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.faults import BEARING_6205, Fault, Impacts, Running, Surge, outer_race, unbalance
from nearfar.simulation.machines.mechanics import (
    LOAD_DB,
    Condition,
    Offer,
    daily,
    harmonics_db,
    shaft_angle,
    tones,
)
from nearfar.simulation.signals import Signal, bump, from_db, normalized

# Of vortices behind a blade profile, about: "Preliminary Design Guidelines for Considering the Vibration and
# Noise of Low-Speed Axial Fans Due to Profile Vortex Shedding", Int. J. Turbomach. Propuls. Power 7 (2022) 2.
STROUHAL = 0.2


@dataclass(frozen=True, slots=True)
class Fan:
    """An axial fan.

    * Every blade cuts the air at the same place: lines at the blade-passing frequency ``k blades n / 60``,
      k = 1, 2, ... (W. Neise, "Review of fan noise generation mechanisms and control methods", Fan Noise
      Symposium, Senlis 1992).
    * No rotor is balanced perfectly: a line at ``n / 60``, and a slight modulation with it.
    * Vortices leave the blades: broadband noise around ``STROUHAL u / wake`` Hz with the tip speed
      ``u = pi diameter n / 60``. It grows with the load, against which the air works.

    Attributes
    ----------
    harmonics_db : (harmonics,) tuple
        Levels of the blade-passing lines.
    unbalance : float
        Residual modulation depth, and amplitude of the line at order 1.
    wake : float
        Width in metres of what sheds the vortices.
    resonance_hz : float
        Of the hub, which blows set ringing.
    """

    BLADES: ClassVar[int] = 7
    DIAMETER: ClassVar[float] = 0.3  # metres
    SPEED_UNIT: ClassVar[str] = "rpm"
    SPEEDS: ClassVar[Offer] = Offer((1200, 1400, 1600), (1500, 1800))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    harmonics_db: tuple[float, ...]
    unbalance: float
    wake: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            harmonics_db=harmonics_db(10, rng),
            unbalance=rng.uniform(0.02, 0.08),
            wake=rng.uniform(0.007, 0.009),
            resonance_hz=rng.uniform(1300, 1700),
        )

    def faults(self) -> Mapping[str, Fault]:
        """An unbalanced rotor, a damaged blade, a worn bearing, a clogged grille."""
        return {
            "unbalance": unbalance(depth=0.6, level=0.4),
            "blade": Impacts(1.0, self.resonance_hz, damping=0.05, level=0.28),
            "bearing": outer_race(BEARING_6205, resonance_hz=2.2 * self.resonance_hz, level=0.2),
            "clogging": Surge(depth=0.55, level=0.55, hertz=0.2 * self.resonance_hz),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """Shaft, blade passing, and the middle of the vortex noise."""
        shaft = condition.speed / 60
        return {
            "shaft": shaft,
            "blade_passing": self.BLADES * shaft,
            "vortices": STROUHAL * np.pi * self.DIAMETER * shaft / self.wake,
            "outer_race": BEARING_6205.outer * shaft,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy fan, of RMS one."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        passing = self._tones(angle, condition, rate=rate, rng=rng)
        vortices_hz = self.frequencies(condition)["vortices"]
        vortices = bump(vortices_hz, octaves=1.0, samples=samples, rate=rate, rng=rng)
        share = from_db(LOAD_DB * (condition.load - 1))
        shake = self.unbalance * np.cos(angle)
        sound = (normalized(passing) + share * vortices) * (1 + shake) + shake
        return Running(normalized(sound), angle, rate)

    def _tones(self, angle: Signal, condition: Condition, *, rate: int, rng: np.random.Generator) -> Signal:
        orders = self.BLADES * np.arange(1.0, len(self.harmonics_db) + 1)
        amplitudes = from_db(daily(self.harmonics_db, rng))
        return tones(angle, orders, amplitudes, shaft_hz=condition.speed / 60, rate=rate, rng=rng)
