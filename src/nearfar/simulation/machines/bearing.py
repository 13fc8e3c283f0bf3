"""A rolling bearing on a test stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.faults import (
    BEARING_6205,
    Fault,
    Friction,
    Geometry,
    Rattle,
    Running,
    cage,
    inner_race,
    outer_race,
    rolling_element,
)
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
from nearfar.simulation.signals import Signal, from_db, normalized, shaped

HUM_DB = -6.0  # of the drive, relative to the rolling noise at load 1; our choice
COMPLIANCE_DB = -14.0  # of the varying compliance, relative to the rolling noise; our choice


@dataclass(frozen=True, slots=True)
class Bearing:
    """A rolling bearing on a test stand: a motor turns its inner race, a spring loads it.

    * Surfaces are not smooth: their waviness under the balls is broadband noise, which the structure's
      resonances colour (N. Tandon, A. Choudhury, "A review of vibration and acoustic measurement methods for
      the detection of defects in rolling element bearings", Tribol. Int. 32 (1999)).
    * The stiffness depends on where the balls are, in a perfect bearing too: faint lines at the ball-pass
      frequency ``k balls / 2 (1 - q) n / 60``, k = 1, 2, ..., with ``q`` as in ``faults.Geometry`` (C. S.
      Sunnersjö, "Varying compliance vibrations of rolling bearings", J. Sound Vib. 58 (1978)).
    * The drive, a synchronous motor with p pole pairs, hums with the pull of its poles: lines at
      ``k 2 p n / 60`` (J. F. Gieras, C. Wang, J. C. Lai, "Noise of Polyphase Electric Motors", 2006).
    * No shaft is balanced perfectly: a line at ``n / 60``.
    * Load presses the balls into the races: rolling noise and compliance rise above hum and unbalance.

    Attributes
    ----------
    hum_db, compliance_db : (harmonics,) tuple
        Levels of the lines.
    unbalance : float
        Amplitude of the line at order 1.
    resonances_hz : (2,) tuple
        Of the pedestal and, higher, of the outer race in it.
    """

    GEOMETRY: ClassVar[Geometry] = BEARING_6205
    DRIVE_POLE_PAIRS: ClassVar[int] = 2
    DAMPING: ClassVar[float] = 0.08  # of both resonances, our choice
    SPEED_UNIT: ClassVar[str] = "rpm"
    SPEEDS: ClassVar[Offer] = Offer((900, 1200, 1500), (1050, 1350, 1800))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    hum_db: tuple[float, ...]
    compliance_db: tuple[float, ...]
    unbalance: float
    resonances_hz: tuple[float, float]

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            hum_db=harmonics_db(3, rng),
            compliance_db=harmonics_db(3, rng),
            unbalance=rng.uniform(0.1, 0.3),
            resonances_hz=(rng.uniform(1050, 1150), rng.uniform(2850, 3150)),
        )

    def faults(self) -> Mapping[str, Fault]:
        """A pit in a race or a ball, a cracked cage, no grease, a loose seat."""
        pedestal_hz, race_hz = self.resonances_hz
        return {
            "outer_race": outer_race(self.GEOMETRY, resonance_hz=race_hz, level=0.5),
            "inner_race": inner_race(self.GEOMETRY, resonance_hz=race_hz, level=0.44),
            "rolling_element": rolling_element(self.GEOMETRY, resonance_hz=race_hz, level=0.44),
            "cage": cage(self.GEOMETRY, resonance_hz=1.6 * pedestal_hz, level=0.33),
            "lubrication": Friction(1.5 * race_hz, octaves=0.7, level=0.24),
            "looseness": Rattle(2.0, resonance_hz=0.5 * pedestal_hz, damping=0.05, level=0.2),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """The shaft, the hum, and what the bearing's geometry says."""
        shaft = condition.speed / 60
        return {
            "shaft": shaft,
            "hum": 2 * self.DRIVE_POLE_PAIRS * shaft,
            "outer_race": self.GEOMETRY.outer * shaft,
            "inner_race": self.GEOMETRY.inner * shaft,
            "ball": self.GEOMETRY.ball * shaft,
            "cage": self.GEOMETRY.cage * shaft,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy bearing, of RMS one."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        hum = self._tones(angle, 2 * self.DRIVE_POLE_PAIRS, self.hum_db, condition, rate=rate, rng=rng)
        compliance = self._tones(
            angle, self.GEOMETRY.outer, self.compliance_db, condition, rate=rate, rng=rng
        )
        rolling = shaped(self._colour, samples=samples, rate=rate, rng=rng)
        loaded = from_db(LOAD_DB * (condition.load - 1)) * (rolling + from_db(COMPLIANCE_DB) * compliance)
        sound = loaded + from_db(HUM_DB) * hum + self.unbalance * np.cos(angle)
        return Running(normalized(sound), angle, rate)

    def _colour(self, frequencies: Signal) -> Signal:
        """Amplitude of the rolling noise: white forces, both resonances, and one for what else there is."""
        pedestal, race = (magnification(frequencies, hertz, self.DAMPING) for hertz in self.resonances_hz)
        return np.sqrt(1 + pedestal**2 + race**2)

    def _tones(
        self,
        angle: Signal,
        order: float,
        levels_db: tuple[float, ...],
        condition: Condition,
        *,
        rate: int,
        rng: np.random.Generator,
    ) -> Signal:
        """The harmonics of an order, together of RMS one."""
        orders = order * np.arange(1.0, len(levels_db) + 1)
        amplitudes = from_db(daily(levels_db, rng))
        return normalized(tones(angle, orders, amplitudes, shaft_hz=condition.speed / 60, rate=rate, rng=rng))
