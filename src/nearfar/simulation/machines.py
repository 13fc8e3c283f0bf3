"""Machines with rotating parts, as they sound without a room.

Conventions
-----------
``n`` is the speed of a shaft in revolutions per minute, so ``n / 60`` is its frequency in Hz. A machine is one
specimen: what manufacturing decides is drawn once, by ``manufacture``; what a day decides is drawn by ``run``.
Every sound has RMS one, so its level says nothing about the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.simulation.faults import SLIP, Fault, Impacts, Running, Unbalance, outer_race_order
from nearfar.simulation.noise import Signal, coloured, drift, from_db, rms, shaped

SETPOINT_SPREAD = 0.003  # relative error of a clip's mean speed, our choice
SPEED_DRIFT = 0.002  # relative fluctuation within a clip, our choice
SPEED_DRIFT_HZ = 0.5  # how often it changes, our choice
LINE_SLOPE_DB = 3.0  # by which each harmonic is weaker than the one before; our choice
LINE_SPREAD_DB = 2.0  # of every line's level, from specimen to specimen; our choice
DAILY_SPREAD_DB = 1.0  # of every line's level, from clip to clip; our choice
LOAD_DB = 3.0  # what one step of load changes between the parts of a sound; our choice

# Of vortices behind a blade profile, about: "Preliminary Design Guidelines for Considering the Vibration and
# Noise of Low-Speed Axial Fans Due to Profile Vortex Shedding", Int. J. Turbomach. Propuls. Power 7 (2022) 2.
STROUHAL = 0.2

# Ball bearing 6205: 9 balls of 7.94 mm on a pitch circle of 39.04 mm, as in the drive end of the test stand of
# the Case Western Reserve University Bearing Data Center.
OUTER_RACE_6205 = outer_race_order(balls=9, ball_diameter=7.94, pitch_diameter=39.04)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a machine is operated: ``rpm`` revolutions per minute, at a ``load`` in steps from 1."""

    rpm: int
    load: int


class Machine(Protocol):
    """One specimen of a machine type."""

    SOURCE_RPM: ClassVar[tuple[int, ...]]
    TARGET_RPM: ClassVar[tuple[int, ...]]
    LOADS: ClassVar[tuple[int, ...]]

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        ...

    def faults(self) -> Mapping[str, Fault]:
        """What this specimen can suffer from."""
        ...

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy machine, of RMS one."""
        ...


def shaft_angle(rpm: float, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Unwrapped angle in radians of a shaft that does not quite keep its speed."""
    mean = 1 + SETPOINT_SPREAD * rng.standard_normal()
    around = SPEED_DRIFT * drift(SPEED_DRIFT_HZ, samples=samples, rate=rate, rng=rng)
    angle: Signal = rng.uniform(0, 2 * np.pi) + np.cumsum(2 * np.pi * rpm / 60 / rate * (mean + around))
    return angle


def _harmonics_db(count: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Levels of a specimen's harmonics."""
    levels = -LINE_SLOPE_DB * np.arange(count) + LINE_SPREAD_DB * rng.standard_normal(count)
    return tuple(levels.tolist())


def _below_nyquist(orders: Signal, rpm: float, rate: int) -> NDArray[np.bool_]:
    """Which orders can be sampled; the tenth below the limit is for sidebands and drift."""
    return orders * rpm / 60 < 0.9 * rate / 2


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
    SOURCE_RPM: ClassVar[tuple[int, ...]] = (1200, 1400, 1600)
    TARGET_RPM: ClassVar[tuple[int, ...]] = (1500, 1800)
    LOADS: ClassVar[tuple[int, ...]] = (1, 2)

    harmonics_db: tuple[float, ...]
    unbalance: float
    wake: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            harmonics_db=_harmonics_db(10, rng),
            unbalance=rng.uniform(0.02, 0.08),
            wake=rng.uniform(0.007, 0.009),
            resonance_hz=rng.uniform(1300, 1700),
        )

    def faults(self) -> Mapping[str, Fault]:
        """An unbalanced rotor, a damaged blade, a worn bearing."""
        return {
            "unbalance": Unbalance(depth=0.7, line=0.4),
            "blade": Impacts(1.0, self.resonance_hz, damping=0.05, level=0.22),
            "bearing": Impacts(
                OUTER_RACE_6205, 2.2 * self.resonance_hz, damping=0.03, level=0.18, jitter=SLIP
            ),
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy fan, of RMS one."""
        angle = shaft_angle(condition.rpm, samples=samples, rate=rate, rng=rng)
        tones = self._tones(angle, condition, rate=rate, rng=rng)
        share = from_db(LOAD_DB * (condition.load - 1))
        sound = tones / rms(tones) + share * self._turbulence(condition, samples=samples, rate=rate, rng=rng)
        sound = sound * (1 + self.unbalance * np.cos(angle)) + self.unbalance * np.cos(angle)
        return Running(sound / rms(sound), angle, rate)

    def _tones(self, angle: Signal, condition: Condition, *, rate: int, rng: np.random.Generator) -> Signal:
        orders = self.BLADES * np.arange(1.0, len(self.harmonics_db) + 1)
        levels = np.asarray(self.harmonics_db) + DAILY_SPREAD_DB * rng.standard_normal(len(orders))
        phases = rng.uniform(0, 2 * np.pi, len(orders))
        kept = _below_nyquist(orders, condition.rpm, rate)
        return _lines(angle, orders[kept], from_db(levels[kept]), phases[kept])

    def _turbulence(
        self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator
    ) -> Signal:
        tip_speed = np.pi * self.DIAMETER * condition.rpm / 60
        shedding_hz = STROUHAL * tip_speed / self.wake
        return shaped(lambda f: 1 / (1 + np.log2(f / shedding_hz) ** 2), samples=samples, rate=rate, rng=rng)


def _lines(angle: Signal, orders: Sequence[float] | Signal, amplitudes: Signal, phases: Signal) -> Signal:
    """Sum of ``amplitude cos(order angle + phase)``."""
    total = np.zeros_like(angle)
    for order, amplitude, phase in zip(orders, amplitudes, phases, strict=True):
        total += amplitude * np.cos(order * angle + phase)
    return total


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
      ``a_k (1 + m cos theta) cos(k z theta + b sin theta + phi_k)`` with that shaft's angle ``theta`` (P. D.
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
    SOURCE_RPM: ClassVar[tuple[int, ...]] = (1400, 1800, 2200)
    TARGET_RPM: ClassVar[tuple[int, ...]] = (1600, 2000)
    LOADS: ClassVar[tuple[int, ...]] = (1, 2)

    harmonics_db: tuple[tuple[float, ...], ...]
    amplitude_depth: float
    phase_depth: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            harmonics_db=tuple(_harmonics_db(8, rng) for _ in cls.STAGES),
            amplitude_depth=rng.uniform(0.1, 0.3),
            phase_depth=rng.uniform(0.05, 0.2),
            resonance_hz=rng.uniform(1800, 2400),
        )

    def faults(self) -> Mapping[str, Fault]:
        """Of the input shaft: unbalance, a cracked tooth of its pinion, a worn bearing."""
        return {
            "unbalance": Unbalance(depth=0.6, line=0.35),
            "tooth": Impacts(1.0, self.resonance_hz, damping=0.05, level=0.28),
            "bearing": Impacts(
                OUTER_RACE_6205, 1.5 * self.resonance_hz, damping=0.03, level=0.2, jitter=SLIP
            ),
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy gearbox, of RMS one; the angle is the input shaft's."""
        angle = shaft_angle(condition.rpm, samples=samples, rate=rate, rng=rng)
        mesh, ratio = np.zeros(samples), 1.0
        for stage, levels in zip(self.STAGES, self.harmonics_db, strict=True):
            mesh += self._mesh(angle * ratio, condition.rpm * ratio, stage, levels, rate=rate, rng=rng)
            ratio *= stage.driving / stage.driven
        hiss = coloured(3.0, samples=samples, rate=rate, rng=rng)
        sound = mesh / rms(mesh) + from_db(-LOAD_DB * (condition.load - 1)) * hiss
        return Running(sound / rms(sound), angle, rate)

    def _mesh(
        self,
        angle: Signal,
        rpm: float,
        stage: Stage,
        levels: Sequence[float],
        *,
        rate: int,
        rng: np.random.Generator,
    ) -> Signal:
        """The mesh lines of one stage, whose driving shaft has this angle and speed."""
        orders = stage.driving * np.arange(1.0, len(levels) + 1)
        daily = np.asarray(levels) + DAILY_SPREAD_DB * rng.standard_normal(len(orders))
        phases = rng.uniform(0, 2 * np.pi, len(orders))
        kept = _below_nyquist(orders, rpm, rate)
        amplitudes = from_db(daily) * self._housing(orders * rpm / 60)
        total = np.zeros_like(angle)
        wobble = self.phase_depth * np.sin(angle)
        for order, amplitude, phase in zip(orders[kept], amplitudes[kept], phases[kept], strict=True):
            total += amplitude * np.cos(order * angle + wobble + phase)
        return total * (1 + self.amplitude_depth * np.cos(angle))

    def _housing(self, frequencies: Signal) -> Signal:
        """Magnification of an oscillator with one degree of freedom."""
        ratio = frequencies / self.resonance_hz
        return 1 / np.hypot(1 - ratio**2, 2 * self.HOUSING_DAMPING * ratio)


def dry_sound(
    machine: Machine,
    condition: Condition,
    *,
    fault: str | None = None,
    severity: float = 0.0,
    samples: int,
    rate: int,
    rng: np.random.Generator,
) -> Signal:
    """A machine without a room, healthy or not, of RMS one.

    The healthy part of the sound depends on the generator only, not on the fault or its severity.
    """
    of_run, of_fault = rng.spawn(2)
    running = machine.run(condition, samples=samples, rate=rate, rng=of_run)
    if fault is None:
        return running.sound
    faulty = machine.faults()[fault](running, severity=severity, rng=of_fault)
    return faulty / rms(faulty)


MACHINES: dict[str, type[Machine]] = {"fan": Fan, "gearbox": Gearbox}
