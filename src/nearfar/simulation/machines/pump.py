"""A centrifugal pump."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.continued import passing
from nearfar.simulation.faults import (
    BEARING_6205,
    Fault,
    Leak,
    Running,
    Surge,
    outer_race,
    refuse_severity,
    unbalance,
    with_part,
)
from nearfar.simulation.machines.mechanics import (
    LINE_SPREAD_DB,
    LOAD_DB,
    Condition,
    Offer,
    daily,
    harmonics_db,
    shaft_angle,
    tones,
)
from nearfar.simulation.signals import Signal, bump, from_db, normalized, ringing

SHAFT_DB = -9.0  # of the line at order 1, relative to the first vane-passing line; our choice
HUM_DB = -6.0  # of the motor's line, likewise; our choice


@dataclass(frozen=True, slots=True)
class Cavitation:
    """Vapour bubbles collapse: a crackle at high frequencies that comes and goes with the vanes.

    A bubble's collapse is a pulse of pressure (C. E. Brennen, "Hydrodynamics of Pumps", 1994). Collapses are a
    Poisson process with ``collapses (1 + depth cos(vanes theta)) / (2 pi)`` of them per radian of the shaft's
    angle ``theta``, and exponentially distributed strengths of either sign; the casing rings, heavily damped:
    our model.

    Attributes
    ----------
    vanes : int
        Order of the modulation.
    collapses : float
        Mean number per revolution.
    resonance_hz, damping : float
        As in ``Impacts``.
    level : float
        Of the crackle.
    depth : float
        Of the modulation, below 1.
    """

    vanes: int
    collapses: float
    resonance_hz: float
    damping: float
    level: float
    depth: float = 0.8

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        theta, samples = running.angle, len(running.sound)
        expected = theta + self.depth / self.vanes * np.sin(self.vanes * theta)  # collapses, as an angle
        rng = passing(rng)
        turns = (expected[-1] - expected[0]) / (2 * np.pi)
        at = rng.uniform(expected[0], expected[-1], rng.poisson(self.collapses * turns))
        crackle = ringing(
            np.interp(np.sort(at), expected, np.arange(samples)),
            rng.laplace(size=len(at)),
            hertz=self.resonance_hz,
            damping=self.damping,
            samples=samples,
            rate=running.rate,
        )
        return with_part(running, crackle, severity * self.level)


@dataclass(frozen=True, slots=True)
class Pump:
    """A centrifugal pump, driven by an induction motor at a converter.

    * Every vane passes the tongue of the volute: lines at the vane-passing frequency ``k vanes n / 60``,
      k = 1, 2, ..., and one at ``n / 60`` as no impeller is perfect (J. F. Gülich, "Centrifugal Pumps", 3rd ed.,
      2014).
    * The motor's magnetic force has twice the frequency of its supply: a line at
      ``2 pole_pairs n / 60 / (1 - slip)``.
    * The flow is turbulent: broadband noise. A throttled pump runs beside its best point, where the flow
      separates: the load raises this noise.

    Attributes
    ----------
    harmonics_db : (harmonics,) tuple
        Levels of the vane-passing lines.
    shaft_db, hum_db : float
        Levels of the shaft's line and the motor's.
    flow_hz : float
        Middle of the flow's noise.
    resonance_hz : float
        Of the casing.
    """

    VANES: ClassVar[int] = 6
    POLE_PAIRS: ClassVar[int] = 2
    SLIP: ClassVar[float] = 1 / 30  # 1450 rpm at 50 Hz
    SPEED_UNIT: ClassVar[str] = "rpm"
    SPEEDS: ClassVar[Offer] = Offer((1450, 1750, 2050), (1600, 2200))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    harmonics_db: tuple[float, ...]
    shaft_db: float
    hum_db: float
    flow_hz: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            harmonics_db=harmonics_db(8, rng),
            shaft_db=rng.normal(SHAFT_DB, LINE_SPREAD_DB),
            hum_db=rng.normal(HUM_DB, LINE_SPREAD_DB),
            flow_hz=rng.uniform(500, 700),
            resonance_hz=rng.uniform(1400, 1800),
        )

    def faults(self) -> Mapping[str, Fault]:
        """Cavitation, a clogged inlet, an impeller that lost a part, a leaking seal, a worn bearing."""
        return {
            "cavitation": Cavitation(
                self.VANES, collapses=150, resonance_hz=1.8 * self.resonance_hz, damping=0.3, level=0.35
            ),
            "clogging": Surge(depth=0.4, level=0.4, hertz=0.2 * self.resonance_hz),
            "impeller": unbalance(depth=0.4, level=0.26),
            "leak": Leak(2.0 * self.resonance_hz, octaves=0.5, level=0.3),
            "bearing": outer_race(BEARING_6205, resonance_hz=2.0 * self.resonance_hz, level=0.18),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """Shaft, vane passing, and the motor's hum."""
        shaft = condition.speed / 60
        return {
            "shaft": shaft,
            "vane_passing": self.VANES * shaft,
            "hum": 2 * self.POLE_PAIRS * shaft / (1 - self.SLIP),
            "outer_race": BEARING_6205.outer * shaft,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy pump, of RMS one."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        passing = self._tones(angle, condition, rate=rate, rng=rng)
        flow = bump(self.flow_hz, octaves=1.0, samples=samples, rate=rate, rng=rng)
        sound = normalized(passing) + from_db(LOAD_DB * (condition.load - 1)) * flow
        return Running(normalized(sound), angle, rate)

    def _tones(self, angle: Signal, condition: Condition, *, rate: int, rng: np.random.Generator) -> Signal:
        hum = 2 * self.POLE_PAIRS / (1 - self.SLIP)
        vanes = self.VANES * np.arange(1.0, len(self.harmonics_db) + 1)
        orders = np.concatenate([[1.0, hum], vanes])
        amplitudes = from_db(daily((self.shaft_db, self.hum_db, *self.harmonics_db), rng))
        return tones(angle, orders, amplitudes, shaft_hz=condition.speed / 60, rate=rate, rng=rng)
