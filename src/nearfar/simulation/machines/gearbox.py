"""A gearbox of two stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.faults import (
    BEARING_6205,
    Fault,
    Friction,
    Impacts,
    Running,
    Wear,
    misalignment,
    outer_race,
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
from nearfar.simulation.signals import Signal, coloured, from_db, normalized


@dataclass(frozen=True, slots=True)
class Stage:
    """One pair of gears: ``driving`` and ``driven`` teeth."""

    driving: int
    driven: int


@dataclass(frozen=True, slots=True)
class Gearbox:
    """A gearbox of two stages, behind a motor.

    * Teeth meet: lines at the mesh frequencies ``k z1 n / 60`` and ``k z3 (z1 / z2) n / 60``, k = 1, 2, ...,
      with z1, z2 the teeth of the first stage and z3, z4 of the second.
    * No gear is round: each mesh line has sidebands at multiples of its driving shaft's frequency,
      ``a_k (1 + m cos theta) cos(k (z theta + b sin theta) + phi_k)`` with its angle ``theta`` (P. D.
      McFadden, "Detecting fatigue cracks in gears by amplitude and phase demodulation of the meshing
      vibration", J. Vib. Acoust. 108 (1986)).
    * The housing is a resonance (one degree of freedom) that the lines pass; its surface also hisses.
    * Load bends the teeth, which makes the mesh louder against the hiss.

    Attributes
    ----------
    harmonics_db : (stages, harmonics) tuple
        Levels of the mesh lines before the housing.
    amplitude_depth, phase_depth : float
        ``m`` and ``b`` (radians).
    resonance_hz : float
        Of the housing.
    """

    STAGES: ClassVar[tuple[Stage, ...]] = (Stage(19, 47), Stage(23, 61))  # prime, against uneven wear
    HOUSING_DAMPING: ClassVar[float] = 0.1
    SPEED_UNIT: ClassVar[str] = "rpm"
    SPEEDS: ClassVar[Offer] = Offer((1400, 1800, 2200), (1600, 2000))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    harmonics_db: tuple[tuple[float, ...], ...]
    amplitude_depth: float
    phase_depth: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            harmonics_db=tuple(harmonics_db(8, rng) for _ in cls.STAGES),
            amplitude_depth=rng.uniform(0.1, 0.3),
            phase_depth=rng.uniform(0.05, 0.2),
            resonance_hz=rng.uniform(1800, 2400),
        )

    def faults(self) -> Mapping[str, Fault]:
        """Of the input shaft and its pinion: a cracked tooth, worn teeth, a bearing, alignment, no oil."""
        return {
            "tooth": Impacts(1.0, self.resonance_hz, damping=0.05, level=0.24),
            "wear": Wear(self.STAGES[0].driving, level=0.3),
            "bearing": outer_race(BEARING_6205, resonance_hz=1.5 * self.resonance_hz, level=0.16),
            "misalignment": misalignment(depth=0.5, level=0.36),
            "lubrication": Friction(2.0 * self.resonance_hz, octaves=0.7, level=0.25),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """Both driving shafts and both meshes."""
        first, second = self.STAGES
        shaft = condition.speed / 60
        slower = shaft * first.driving / first.driven
        return {
            "shaft": shaft,
            "mesh_1": first.driving * shaft,
            "shaft_2": slower,
            "mesh_2": second.driving * slower,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy gearbox, of RMS one; the angle is the input shaft's."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        mesh, ratio = np.zeros(samples), 1.0
        for stage, levels in zip(self.STAGES, self.harmonics_db, strict=True):
            mesh += self._mesh(angle * ratio, condition.speed / 60 * ratio, stage, levels, rate=rate, rng=rng)
            ratio *= stage.driving / stage.driven
        hiss = coloured(3.0, samples=samples, rate=rate, rng=rng)
        sound = normalized(mesh) + from_db(-LOAD_DB * (condition.load - 1)) * hiss
        return Running(normalized(sound), angle, rate)

    def _mesh(
        self,
        angle: Signal,
        shaft_hz: float,
        stage: Stage,
        levels_db: tuple[float, ...],
        *,
        rate: int,
        rng: np.random.Generator,
    ) -> Signal:
        """The mesh lines of one stage, whose driving shaft has this angle and speed."""
        orders = stage.driving * np.arange(1.0, len(levels_db) + 1)
        amplitudes = from_db(daily(levels_db, rng))
        amplitudes *= magnification(orders * shaft_hz, self.resonance_hz, self.HOUSING_DAMPING)
        wobble = self.phase_depth / stage.driving * np.sin(angle)
        mesh = tones(angle + wobble, orders, amplitudes, shaft_hz=shaft_hz, rate=rate, rng=rng)
        return mesh * (1 + self.amplitude_depth * np.cos(angle))
