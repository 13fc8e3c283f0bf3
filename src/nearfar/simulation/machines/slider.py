"""A slide that goes to and fro on a rail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from nearfar.simulation.continued import Continued, of_events, passing
from nearfar.simulation.faults import (
    BEARING_6205,
    STRENGTH_SPREAD,
    Fault,
    Geometry,
    Rebound,
    Running,
    Squeal,
    outer_race,
    refuse_severity,
    with_part,
)
from nearfar.simulation.machines.mechanics import (
    LOAD_DB,
    Condition,
    Offer,
    daily,
    harmonics_db,
    shaft_angle,
    tones,
)
from nearfar.simulation.signals import Signal, bump, coloured, from_db, normalized, ringing

RAMP = 0.2  # share of a stroke that speeds up, and share that slows down; our choice
TURNS = 10  # of the screw in a stroke, our choice
FLOOR_DB = -20.0  # of the drive's electronics at rest, relative to what moves; our choice


def speed(angle: Signal) -> Signal:
    """How fast the carriage is, from 0 to 1 as between its ramps: a trapezium per stroke.

    It starts a stroke wherever the angle of the cycle is a multiple of ``pi``.
    """
    stroke = angle / np.pi % 1
    trapezium: Signal = np.minimum(np.minimum(stroke, 1 - stroke) / RAMP, 1.0)
    return trapezium


def travelled(angle: Signal) -> Signal:
    """Strokes that the carriage has travelled to and fro since the clip began: it never falls."""
    way: Signal = np.cumsum(speed(angle) * np.diff(angle, prepend=angle[0])) / (np.pi * (1 - RAMP))
    return way


def strokes(angle: Signal) -> Signal:
    """Strokes that the carriage has travelled since the angle was 0: by formula, for a sound without end."""
    whole = np.floor(angle / np.pi)
    part = angle / np.pi - whole
    up, down = np.minimum(part, RAMP), np.maximum(part - (1 - RAMP), 0.0)
    way: Signal = whole + (up**2 / (2 * RAMP) + np.maximum(part - RAMP, 0.0) - down**2 / (2 * RAMP)) / (
        1 - RAMP
    )
    return way


@dataclass(frozen=True, slots=True)
class OfScrew:
    """A fault of the screw: what else depends on a shaft here depends on the screw, which turns as it travels.

    Attributes
    ----------
    fault : Fault
        Its orders are multiples of the screw's frequency.
    """

    fault: Fault

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        screw = replace(running, angle=2 * np.pi * TURNS * travelled(running.angle))
        return self.fault(screw, severity=severity, rng=rng)


@dataclass(frozen=True, slots=True)
class DryRail:
    """A rail without grease: noise as of ``Friction``, whose amplitude is proportional to the carriage's speed.

    Attributes
    ----------
    hertz, octaves : float
        Centre and half width of the noise.
    level : float
    """

    hertz: float
    octaves: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        samples, rate = len(running.sound), running.rate
        noise = bump(self.hertz, octaves=self.octaves, samples=samples, rate=rate, rng=rng)
        return with_part(running, noise * speed(running.angle), severity * self.level)


@dataclass(frozen=True, slots=True)
class RailDamage:
    """A pit in the middle third of the rail: it is hit twice per cycle, on the way there and on the way back.

    Attributes
    ----------
    resonance_hz, damping, level : float
        As in ``Impacts``.
    """

    resonance_hz: float
    damping: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        angle, samples = running.angle, len(running.sound)
        pit = np.pi * rng.uniform(1 / 3, 2 / 3)
        cycles = np.arange(int(angle[0] / (2 * np.pi)), int(angle[-1] / (2 * np.pi)) + 1)
        at = (2 * np.pi * cycles[:, None] + [pit, 2 * np.pi - pit]).ravel()
        at = at[(angle[0] <= at) & (at <= angle[-1])]
        rings = ringing(
            np.interp(at, angle, np.arange(samples)),
            1 + STRENGTH_SPREAD * passing(rng).standard_normal(len(at)),
            hertz=self.resonance_hz,
            damping=self.damping,
            samples=samples,
            rate=running.rate,
        )
        return with_part(running, rings, severity * self.level)


@dataclass(frozen=True, slots=True)
class Slider:
    """A carriage that a ball screw moves to and fro on a rail, ``n / 60`` cycles of two strokes a second.

    Its velocity is a trapezium: with ``RAMP`` the share of a stroke in which it speeds up, it is
    ``v = 2 stroke n / 60 / (1 - RAMP)`` between the ramps. There:

    * Rollers run over rough surfaces: noise around ``v / roughness`` Hz. It is played over the way, not over
      time, so it slows down with the carriage; its level falls by 30 dB per decade of the velocity (D. Thompson,
      "Railway Noise and Vibration", 2009, of wheels and rails).
    * The screw turns at ``2 TURNS n / 60 / (1 - RAMP)``, and the balls enter the nut one after another: lines at
      multiples of the screw's frequency times ``BALLS.outer``: our model, after a bearing's; they
      chirp with the velocity, and their amplitude goes with it. They grow with the load.
    * At each reversal the backlash closes with a blow.
    * The drive is under current at rest, too: a faint noise.

    Attributes
    ----------
    harmonics_db : (harmonics,) tuple
        Levels of the balls' lines.
    roughness : float
        Wavelength in metres.
    blow : float
        Amplitude of the blows, relative to the RMS of the rolling at full speed.
    resonance_hz : float
        Of the frame.
    """

    STROKE: ClassVar[float] = 0.2  # metres
    BALLS: ClassVar[Geometry] = Geometry(balls=16, ball_diameter=4.0, pitch_diameter=20.4)
    DAMPING: ClassVar[float] = 0.04  # of the frame, our choice
    SPEED_UNIT: ClassVar[str] = "cpm"
    SPEEDS: ClassVar[Offer] = Offer((90, 110, 130), (100, 120))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    harmonics_db: tuple[float, ...]
    roughness: float
    blow: float
    resonance_hz: float

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            harmonics_db=harmonics_db(6, rng),
            roughness=rng.uniform(0.8e-3, 1.0e-3),
            blow=rng.uniform(4, 6),
            resonance_hz=rng.uniform(1100, 1500),
        )

    def faults(self) -> Mapping[str, Fault]:
        """No grease, a loose carriage, the belt from motor to screw, a pit in the rail, the screw's bearing."""
        return {
            "lubrication": DryRail(2.2 * self.resonance_hz, octaves=0.5, level=0.32),
            "looseness": Rebound(0.03, 1.6 * self.resonance_hz, damping=0.04, level=0.24),
            "belt": Squeal(0.8 * self.resonance_hz, level=0.22),
            "rail": RailDamage(1.8 * self.resonance_hz, damping=0.03, level=0.27),
            "bearing": OfScrew(outer_race(BEARING_6205, resonance_hz=2.5 * self.resonance_hz, level=0.15)),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """Cycle, and between the ramps: screw, balls, the screw's bearing, and the middle of the rolling."""
        cycle = condition.speed / 60
        strokes = 2 * cycle / (1 - RAMP)
        screw = TURNS * strokes
        return {
            "cycle": cycle,
            "screw": screw,
            "balls": self.BALLS.outer * screw,
            "outer_race": BEARING_6205.outer * screw,
            "rolling": self.STROKE * strokes / self.roughness,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy slider, of RMS one; the angle is ``2 pi`` per cycle, the events are the reversals."""
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        moving = speed(angle)
        way = strokes(angle) if isinstance(rng, Continued) else travelled(angle)
        rolling = self._rolling(way, condition, rate=rate, rng=rng) * moving * np.sqrt(moving)
        balls = self._balls(way, condition, rate=rate, rng=rng) * moving
        reversals = np.pi * np.arange(np.ceil(angle[0] / np.pi), np.floor(angle[-1] / np.pi) + 1)
        events = np.interp(reversals, angle, np.arange(samples))
        blows = ringing(
            events,
            self.blow * (1 + STRENGTH_SPREAD * of_events(reversals, rng)),
            hertz=self.resonance_hz,
            damping=self.DAMPING,
            samples=samples,
            rate=rate,
            quick=isinstance(rng, Continued),
        )
        floor = from_db(FLOOR_DB) * coloured(3.0, samples=samples, rate=rate, rng=rng)
        sound = rolling + from_db(LOAD_DB * (condition.load - 1)) * balls + blows + floor
        return Running(normalized(sound), angle, rate, events)

    def _rolling(self, way: Signal, condition: Condition, *, rate: int, rng: np.random.Generator) -> Signal:
        """The noise of the surfaces, of RMS one, where the carriage is."""
        full_speed = 2 * condition.speed / 60 / (1 - RAMP) / rate  # strokes a sample
        places = way / full_speed
        first, end = int(places[0]), int(places[-1]) + 2
        surface = bump(
            self.frequencies(condition)["rolling"],
            octaves=0.8,
            samples=end - first,
            rate=rate,
            rng=rng,
            start=first,
        )
        return np.interp(places, np.arange(first, end), surface)

    def _balls(self, way: Signal, condition: Condition, *, rate: int, rng: np.random.Generator) -> Signal:
        orders = self.BALLS.outer * np.arange(1.0, len(self.harmonics_db) + 1)
        amplitudes = from_db(daily(self.harmonics_db, rng))
        screw_hz = self.frequencies(condition)["screw"]
        screw = 2 * np.pi * TURNS * way
        return normalized(tones(screw, orders, amplitudes, shaft_hz=screw_hz, rate=rate, rng=rng))
