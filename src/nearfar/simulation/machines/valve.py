"""A solenoid valve that lets compressed air through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.signal import lfilter

from nearfar.simulation.continued import Continued, of_events, passing
from nearfar.simulation.faults import (
    STRENGTH_SPREAD,
    Fault,
    Leak,
    Rebound,
    Running,
    refuse_severity,
    with_part,
)
from nearfar.simulation.machines.mechanics import (
    Condition,
    Offer,
    daily,
    harmonics_db,
    shaft_angle,
)
from nearfar.simulation.signals import (
    Signal,
    bump,
    coloured,
    from_db,
    lines,
    normalized,
    ringing,
    tabled_lines,
)

MAINS_HZ = 50.0
HUM_DB = -6.0  # of the first line of the hum, relative to the hiss; our choice
FLOOR_DB = -20.0  # of the compressor and the pipes around, relative to the hiss; our choice
WHISTLE_SECONDS = 0.02  # in which a whistle follows the flow, our choice


def _follow(course: Signal, *, seconds: float, rate: int) -> Signal:
    """A first-order lag behind ``course``: ``1 - 1/e`` of a step after ``seconds``."""
    kept = float(np.exp(-1 / (seconds * rate)))
    lag: Signal = lfilter([1 - kept], [1, -kept], course, zi=[kept * course[0]])[0]
    return lag


@dataclass(frozen=True, slots=True)
class Sticking:
    """A dirty plunger that squeaks in its tube: whenever it moves, a narrow noise, and gone.

    After each of the machine's events narrow noise begins, ``exp(-t / seconds)`` loud: our model, of the
    friction noise of A. Akay, "Acoustics of friction", J. Acoust. Soc. Am. 111 (2002).

    Attributes
    ----------
    hertz, octaves : float
        Centre and half width of the squeak.
    seconds : float
        In which it decays.
    level : float
        Of all squeaks.
    """

    hertz: float
    octaves: float
    seconds: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        samples, rate = len(running.sound), running.rate
        begun = np.zeros(samples)
        strengths = 1 + STRENGTH_SPREAD * passing(rng).standard_normal(len(running.events))
        np.add.at(begun, running.events.astype(int), strengths)
        loudness = lfilter([1.0], [1.0, -np.exp(-1 / (self.seconds * rate))], begun)
        squeaks = loudness * bump(self.hertz, octaves=self.octaves, samples=samples, rate=rate, rng=rng)
        return with_part(running, squeaks, severity * self.level)


@dataclass(frozen=True, slots=True)
class Whistle:
    """A clogged outlet that whistles while air flows: narrow noise, as loud as the machine is.

    An edge in a jet sings at a frequency (M. S. Howe, "Acoustics of Fluid-Structure Interactions", 1998). That
    its amplitude follows the machine's own, within ``WHISTLE_SECONDS``, is our model.

    Attributes
    ----------
    hertz, octaves : float
        Centre and half width of the whistle.
    level : float
    """

    hertz: float
    octaves: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        sound, rate = running.sound, running.rate
        loudness = np.sqrt(_follow(sound**2, seconds=WHISTLE_SECONDS, rate=rate))
        whistle = loudness * bump(self.hertz, octaves=self.octaves, samples=len(sound), rate=rate, rng=rng)
        return with_part(running, whistle, severity * self.level)


@dataclass(frozen=True, slots=True)
class Valve:
    """A solenoid valve that lets compressed air through, in a pattern.

    In the mean it opens ``n / 60`` times a second; the load is the pattern. Each time:

    * The plunger strikes its stop as it opens and its seat as it closes: two clicks, each with a resonance.
    * While open, air escapes with a hiss, which builds up and dies down exponentially, as a volume fills.
    * While open, the coil hums: its force goes with the square of an alternating current, so at twice the mains,
      100 Hz, with harmonics.

    Under all that lies a faint noise of compressor and pipes. This is our model, as is the jitter.

    Attributes
    ----------
    opening_hz, closing_hz : float
        What rings at the stop and at the seat.
    click : float
        Amplitude of the clicks, relative to the RMS of the hiss.
    hiss_hz : float
        Middle of the hiss.
    build_up : float
        Time in seconds in which the hiss builds up.
    hum_db : (harmonics,) tuple
        Levels of the hum's lines.
    """

    PATTERNS: ClassVar[dict[int, tuple[float, ...]]] = {1: (1.0,), 2: (0.6, 1.4), 3: (0.7, 0.7, 1.6)}
    """By load: from one opening to the next, in mean cycles."""
    OPEN: ClassVar[float] = 0.4  # mean cycles from opening to closing, our choice
    JITTER: ClassVar[float] = 0.01  # mean cycles, of every opening and closing; our choice
    DAMPING: ClassVar[float] = 0.04  # of the clicks, our choice
    SPEED_UNIT: ClassVar[str] = "cpm"
    SPEEDS: ClassVar[Offer] = Offer((160, 200, 240), (180, 220))
    LOADS: ClassVar[Offer] = Offer((1, 2), (3,))

    opening_hz: float
    closing_hz: float
    click: float
    hiss_hz: float
    build_up: float
    hum_db: tuple[float, ...]

    @classmethod
    def manufacture(cls, rng: np.random.Generator) -> Self:
        """Draw a specimen."""
        return cls(
            opening_hz=rng.uniform(1500, 1900),
            closing_hz=rng.uniform(900, 1200),
            click=rng.uniform(6, 9),
            hiss_hz=rng.uniform(2000, 2500),
            build_up=rng.uniform(0.008, 0.015),
            hum_db=harmonics_db(3, rng),
        )

    def faults(self) -> Mapping[str, Fault]:
        """A leak, a loose plunger, a dirty plunger, a worn seat, a clogged outlet."""
        return {
            "leak": Leak(1.4 * self.hiss_hz, octaves=0.4, level=0.12),
            "looseness": Rebound(0.02, self.opening_hz, damping=0.04, level=0.16),
            "sticking": Sticking(1.5 * self.opening_hz, octaves=0.1, seconds=0.04, level=0.15),
            "wear": Rebound(0.001, 3.0 * self.closing_hz, damping=0.02, level=0.12, count=1),
            "clogging": Whistle(0.6 * self.hiss_hz, octaves=0.05, level=0.18),
        }

    def frequencies(self, condition: Condition) -> dict[str, float]:
        """Mean cycle, hum, both clicks, and the middle of the hiss."""
        return {
            "cycle": condition.speed / 60,
            "hum": 2 * MAINS_HZ,
            "opening": self.opening_hz,
            "closing": self.closing_hz,
            "hiss": self.hiss_hz,
        }

    def run(self, condition: Condition, *, samples: int, rate: int, rng: np.random.Generator) -> Running:
        """The healthy valve, of RMS one; the angle is ``2 pi`` per mean cycle, the events are the clicks."""
        pattern = self.PATTERNS[condition.load]
        angle = shaft_angle(condition.speed, samples=samples, rate=rate, rng=rng)
        angle += 2 * np.pi * rng.integers(len(pattern))
        openings, closings = self._actuations(angle, pattern, rng=rng)
        opened = np.searchsorted(openings, angle) - np.searchsorted(closings, angle)
        flow = _follow(opened.astype(float), seconds=self.build_up, rate=rate)
        hiss = bump(self.hiss_hz, octaves=0.8, samples=samples, rate=rate, rng=rng)
        floor = coloured(3.0, samples=samples, rate=rate, rng=rng)
        sound = (hiss + self._hum(samples, rate, rng)) * flow + from_db(FLOOR_DB) * floor
        struck = []
        for at, hertz in ((openings, self.opening_hz), (closings, self.closing_hz)):
            within = at[(angle[0] <= at) & (at <= angle[-1])]
            onsets = np.interp(within, angle, np.arange(samples))
            strengths = self.click * (1 + STRENGTH_SPREAD * of_events(within, rng))
            sound += ringing(
                onsets,
                strengths,
                hertz=hertz,
                damping=self.DAMPING,
                samples=samples,
                rate=rate,
                quick=isinstance(rng, Continued),
            )
            struck.append(onsets)
        return Running(normalized(sound), angle, rate, np.sort(np.concatenate(struck)))

    def _actuations(
        self, angle: Signal, pattern: tuple[float, ...], *, rng: np.random.Generator
    ) -> tuple[Signal, Signal]:
        """Angles at which it opens and closes, from before the clip until after it."""
        first = int(angle[0] / (2 * np.pi) // len(pattern)) - 1
        last = int(angle[-1] / (2 * np.pi) // len(pattern)) + 1
        starts = len(pattern) * np.arange(first, last + 1)
        cycles = (starts[:, None] + np.cumsum((0.0, *pattern[:-1]))).ravel()
        openings = cycles + self.JITTER * of_events(cycles, rng)
        closings = openings + self.OPEN + self.JITTER * of_events(cycles, rng)
        return 2 * np.pi * openings, 2 * np.pi * closings

    def _hum(self, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        alternating = 2 * np.pi * 2 * MAINS_HZ / rate * np.arange(samples, dtype=np.float64)
        orders = np.arange(1.0, len(self.hum_db) + 1)
        phases = rng.uniform(0, 2 * np.pi, len(orders))
        summed = tabled_lines if isinstance(rng, Continued) else lines
        return summed(alternating, orders, from_db(HUM_DB + daily(self.hum_db, rng)), phases)
