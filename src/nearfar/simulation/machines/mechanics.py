"""What all machines have in common: a condition to run in, a shaft that does not quite keep its speed, lines.

Conventions
-----------
``n`` is the speed of a shaft in revolutions per minute, so ``n / 60`` is its frequency in Hz. A machine is one
specimen: what manufacturing decides is drawn once, by ``manufacture``; what a day decides is drawn by ``run``.
Every sound has RMS one, so its level says nothing about the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.simulation.continued import Continued
from nearfar.simulation.faults import Fault, Running
from nearfar.simulation.signals import Signal, drift, lines, normalized, tabled_lines

SETPOINT_SPREAD = 0.003  # relative error of a clip's mean speed, our choice
SPEED_DRIFT = 0.002  # relative fluctuation within a clip, our choice
SPEED_DRIFT_HZ = 0.5  # how often it changes, our choice
LINE_SLOPE_DB = 3.0  # by which each harmonic is weaker than the one before; our choice
LINE_SPREAD_DB = 2.0  # of every line's level, from specimen to specimen; our choice
DAILY_SPREAD_DB = 1.0  # of every line's level, from clip to clip; our choice
LOAD_DB = 3.0  # what one step of load changes between the parts of a sound; our choice


@dataclass(frozen=True, slots=True)
class Condition:
    """How a machine is operated: its ``speed``, in the machine's ``SPEED_UNIT``, at a ``load`` in steps from 1."""

    speed: int
    load: int


@dataclass(frozen=True, slots=True)
class Offer:
    """Values of one setting: the ``usual`` ones, and those that only a ``shifted`` domain has."""

    usual: tuple[int, ...]
    shifted: tuple[int, ...]


class Machine(Protocol):
    """One specimen of a machine type: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    SPEED_UNIT: ClassVar[str]
    """``rpm`` for revolutions, ``cpm`` for cycles a minute: the name of the attribute."""
    SPEEDS: ClassVar[Offer]
    LOADS: ClassVar[Offer]

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        ...

    def faults(self) -> Mapping[str, Fault]:
        """What this specimen can suffer from: at least three faults."""
        ...

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """The characteristic frequencies in Hz, by the formulas of the class; names without blanks."""
        ...

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy machine, of RMS one."""
        ...


def shaft_angle(rpm: float, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Unwrapped angle in radians of a shaft that does not quite keep its speed."""
    if isinstance(rng, Continued):
        fluctuation = (SPEED_DRIFT, SPEED_DRIFT_HZ)
        return rng.angle(rpm, samples=samples, rate=rate, fluctuation=fluctuation, setpoint=SETPOINT_SPREAD)
    mean = 1 + SETPOINT_SPREAD * rng.standard_normal()
    around = SPEED_DRIFT * drift(SPEED_DRIFT_HZ, samples=samples, rate=rate, rng=rng)
    angle: Signal = rng.uniform(0, 2 * np.pi) + np.cumsum(2 * np.pi * rpm / 60 / rate * (mean + around))
    return angle


def harmonics_db(count: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Levels of a specimen's harmonics."""
    levels = -LINE_SLOPE_DB * np.arange(count) + LINE_SPREAD_DB * rng.standard_normal(count)
    return tuple(levels.tolist())


def daily(levels_db: tuple[float, ...], rng: np.random.Generator) -> Signal:
    """The levels in dB that a specimen's lines have in one clip, or in one block of a sound without end."""
    count = len(levels_db)
    drawn = rng.daily(count) if isinstance(rng, Continued) else rng.standard_normal(count)
    return np.asarray(levels_db) + DAILY_SPREAD_DB * drawn


def below_nyquist(frequencies: Signal, rate: int) -> NDArray[np.bool_]:
    """Which lines can be sampled; the tenth below the limit is for sidebands and drift."""
    return frequencies < 0.9 * rate / 2


def tones(
    angle: Signal,
    orders: Signal,
    amplitudes: Signal,
    *,
    shaft_hz: float,
    rate: int,
    rng: np.random.Generator,
) -> Signal:
    """Lines with random phases, those that can be sampled; silence if none can."""
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    kept = below_nyquist(orders * shaft_hz, rate)
    summed = tabled_lines if isinstance(rng, Continued) else lines
    return summed(angle, orders[kept], amplitudes[kept], phases[kept])


def magnification(frequencies: Signal, resonance_hz: float, damping: float) -> Signal:
    """Of the vibration of an oscillator with one degree of freedom."""
    ratio = frequencies / resonance_hz
    return 1 / np.hypot(1 - ratio**2, 2 * damping * ratio)


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
    return normalized(machine.faults()[fault](running, severity=severity, rng=of_fault))
