"""What happens on simulated days: at what a machine runs, who passes, what beeps, what breaks and how it grows.

Conventions
-----------
Times are in seconds of the stream, unless they say hours. A schedule is drawn before anything sounds; it is short
even for weeks. The machine changes its regime at the borders of blocks (``continued.BLOCK_SECONDS``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.clips import unknown
from nearfar.simulation.continued import BLOCK_SECONDS, Signal
from nearfar.simulation.machines.mechanics import Condition, Machine

HOUR = 3600.0

# The machine's regimes, our choice: in every round it runs in all its conditions once, and stops once.
REGIME_SECONDS = (320.0, 1280.0)
STOP_SECONDS = (96.0, 320.0)
RAMP_SECONDS = 4.0  # from one speed to another, and from or to rest; our choice
RUN_UP = 1.5  # exponent: the amplitude of a machine that runs up or down goes with the speed to this power

# The hall's shifts, our choice: from this hour on, the level of the noise, and how many vehicles and alarms an hour
# brings. On Saturdays and Sundays all hours are like the night's.
SHIFTS_OF_DAY = (
    ("night", 22, -6.0, 1.0, 0.25),
    ("early", 6, 0.0, 8.0, 1.0),
    ("late", 14, -2.0, 4.0, 0.5),
)
CHANGE_SECONDS = 600.0  # from one shift's level to the next
PASSING_SECONDS = (
    40.0  # a vehicle is heard from half of this before it is nearest until half after; our choice
)
ALARM_SECONDS = (8.0, 40.0)
VEHICLE_DB = (-6.0, 3.0)  # while it is nearest, against the loudest source of steady noise; our choice
ALARM_DB = (-9.0, 0.0)
VEHICLE_SPREAD = 0.2  # of one vehicle's speed and engine against the usual one; our choice
MOST_AT_AN_HOUR = 8.0  # vehicles, or alarms; others are drawn and left out

Profile = Literal["step", "linear", "exponential"]
PROFILES: tuple[Profile, ...] = ("step", "linear", "exponential")
DRIFTS = {
    "machine": "the machine's sound becomes duller",
    "near": "the near microphone loses level",
    "far": "the far microphone loses level",
}


@dataclass(frozen=True, slots=True)
class Onset:
    """A fault that starts at a known time and grows.

    Attributes
    ----------
    fault : str
        One of the machine's, or ``any``: one that the seed chooses.
    start_hours : float
        When it starts.
    profile : str
        With the time ``t`` since its start, the time ``T`` and the greatest severity ``s``: ``step`` is ``s`` at
        once, ``linear`` is ``s t / T``, and ``exponential`` is ``s (exp(3 t / T) - 1) / (exp(3) - 1)``: the larger
        it is, the faster it grows. Both reach ``s`` at ``T`` and keep it.
    hours : float
        ``T``; of no use to a step.
    severity : float
        ``s``, up to 1.
    machine : str or None
        The only machine that has it; all have it otherwise.
    """

    STEEPNESS = 3.0

    fault: str
    start_hours: float
    profile: Profile = "step"
    hours: float = 0.0
    severity: float = 1.0
    machine: str | None = None

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(unknown("profile", self.profile, PROFILES))
        if not 0 <= self.start_hours < np.inf:
            raise ValueError(
                f"start_hours={self.start_hours}: must be finite and not negative (when {self.fault} starts)"
            )
        if self.profile == "step" and self.hours != 0:
            raise ValueError(
                f"hours={self.hours}: a step takes no time; leave it out, or choose linear or exponential"
            )
        if self.profile != "step" and not 0 < self.hours < np.inf:
            raise ValueError(
                f"hours={self.hours}: {self.profile} growth needs the hours until the fault is fully grown, above 0"
            )
        if not 0 < self.severity <= 1:
            raise ValueError(f"severity={self.severity}: must be above 0 (no change) and at most 1 (worst)")

    @classmethod
    def parse(cls, text: str) -> Self:
        """A fault as the command line takes it.

        Examples
        --------
        >>> from nearfar.simulation import Onset
        >>> Onset.parse("bearing@3")
        Onset(fault='bearing', start_hours=3.0, profile='step', hours=0.0, severity=1.0, machine=None)
        >>> Onset.parse("fan/blade@3,exponential=2,severity=0.5").profile
        'exponential'

        Raises
        ------
        ValueError
            If it is not ``[MACHINE/]FAULT@HOURS[,PROFILE[=HOURS]][,severity=S]``, or a value is out of its range.
        """
        what, *options = text.split(",")
        name, at, start = what.partition("@")
        machine, slash, fault = name.rpartition("/")
        given: dict[str, Any] = {}
        try:
            given["start_hours"] = float(start)
            for option in options:
                key, _, value = (part.strip() for part in option.partition("="))
                if key == "severity":
                    given[key] = float(value)
                else:
                    given |= {"profile": key, "hours": float(value) if value else 0.0}
        except ValueError:
            at = ""
        if not at or not fault.strip() or (slash and not machine.strip()) or len(given) > 4:
            raise ValueError(
                f"fault={text!r}: expected [MACHINE/]FAULT@HOURS[,PROFILE=HOURS][,severity=S], for example "
                "bearing@3 (at once) or fan/bearing@3,linear=2,severity=0.8 (grows for 2 hours)"
            )
        return cls(fault.strip(), machine=machine.strip() or None, **given)

    def course(self, seconds: Any) -> Any:
        """The severity at these times."""
        since = np.asarray(seconds, dtype=np.float64) - HOUR * self.start_hours
        if self.profile == "step":
            return self.severity * (since >= 0)
        grown = np.clip(since / (HOUR * self.hours), 0.0, 1.0)
        if self.profile == "exponential":
            grown = np.expm1(self.STEEPNESS * grown) / math.expm1(self.STEEPNESS)
        return self.severity * grown


@dataclass(frozen=True, slots=True)
class Regime:
    """From ``start`` to ``end`` a machine runs in one condition, or stands still (``None``)."""

    start: float
    end: float
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something passes or beeps.

    Attributes
    ----------
    kind : str
        ``vehicle`` or ``alarm``.
    start, end : float
        When it can be heard; a vehicle is nearest in the middle.
    level_db : float
        Against the loudest source of the steady noise.
    seed : int
        Of its sound.
    """

    kind: str
    start: float
    end: float
    level_db: float
    seed: int


@dataclass(frozen=True, slots=True)
class Operation:
    """How a machine is operated, block by block; the ``Turning`` of its shaft.

    Attributes
    ----------
    speeds : (blocks,) array
        0 while it stands still.
    loads : (blocks,) array of int
    turned : (blocks + 1,) array
        How far the shaft has turned when a block begins, in revolutions.
    nominal : float
        A usual speed.
    rate : int
    """

    speeds: Signal
    loads: NDArray[np.int64]
    turned: Signal
    nominal: float
    rate: int

    @classmethod
    def of(cls, regimes: Sequence[Regime], *, nominal: float, rate: int) -> Self:
        """The operation in these regimes, whose lengths are whole numbers of blocks."""
        counts = [round((regime.end - regime.start) / BLOCK_SECONDS) for regime in regimes]
        speeds = np.repeat([r.condition.speed if r.condition else 0.0 for r in regimes], counts).astype(
            np.float64
        )
        loads = np.repeat([r.condition.load if r.condition else 1 for r in regimes], counts)
        before = np.concatenate([speeds[:1], speeds[:-1]])
        turns = (speeds * BLOCK_SECONDS - (speeds - before) * RAMP_SECONDS / 2) / 60
        return cls(speeds, loads, np.concatenate([[0.0], np.cumsum(turns)]), nominal, rate)

    def _at(self, samples: Signal) -> tuple[NDArray[np.int64], Signal]:
        """The block of each sample, and the seconds since its beginning."""
        block = np.clip(
            np.floor(samples / (BLOCK_SECONDS * self.rate)).astype(np.int64), 0, len(self.speeds) - 1
        )
        return block, samples / self.rate - BLOCK_SECONDS * block

    def turns(self, samples: Signal) -> Signal:
        """How far the shaft has turned at these samples of the stream, in revolutions."""
        block, since = self._at(samples)
        ahead = self.speeds[block] - self.speeds[np.maximum(block - 1, 0)]
        ramp = np.clip(since, 0.0, RAMP_SECONDS)
        missing = ahead * (ramp - ramp**2 / (2 * RAMP_SECONDS))
        turns: Signal = self.turned[block] + (self.speeds[block] * since - missing) / 60
        return turns

    def loudness(self, samples: Signal) -> Signal:
        """The amplitude of a machine that runs up, runs down or stands still; 1 while it runs."""
        block, since = self._at(samples)
        now, before = self.speeds[block] > 0, self.speeds[np.maximum(block - 1, 0)] > 0
        ramp = np.clip(since / RAMP_SECONDS, 0.0, 1.0)
        loudness: Signal = (
            np.where(now, np.where(before, 1.0, ramp), np.where(before, 1 - ramp, 0.0)) ** RUN_UP
        )
        return loudness

    def condition(self, block: int) -> Condition | None:
        """In which the machine is heard in a block; ``None`` while it stands still all the time."""
        block = min(max(block, 0), len(self.speeds) - 1)
        if self.speeds[block] == 0:
            block -= 1  # it may still run down
        if block < 0 or self.speeds[block] == 0:
            return None
        return Condition(int(self.speeds[block]), int(self.loads[block]))


def regimes(
    kind: type[Machine], seconds: float, *, changing: bool, rng: np.random.Generator
) -> tuple[Regime, ...]:
    """At what a machine runs until then, or some time longer.

    Parameters
    ----------
    changing : bool
        Else it runs in its first usual condition all the time.
    """
    conditions = [Condition(*pair) for pair in product(kind.SPEEDS.usual, kind.LOADS.usual)]
    end = BLOCK_SECONDS * (math.ceil(seconds / BLOCK_SECONDS) + 1.0)
    if not changing:
        return (Regime(0.0, end, conditions[0]),)
    found: list[Regime] = []
    at = 0.0
    while at < end:
        order = rng.permutation(len(conditions))
        stop = int(rng.integers(1, len(conditions)))  # never first: a stream begins with a machine that runs
        steps: list[Condition | None] = [conditions[i] for i in order]
        if found and steps[0] == found[-1].condition:
            steps.append(steps.pop(0))
        for step in [*steps[:stop], None, *steps[stop:]]:
            length = BLOCK_SECONDS * round(
                rng.uniform(*(REGIME_SECONDS if step else STOP_SECONDS)) / BLOCK_SECONDS
            )
            found.append(Regime(at, at + length, step))
            at += length
    return tuple(regime for regime in found if regime.start < end)


@dataclass(frozen=True, slots=True)
class Hall:
    """A hall whose noise depends on the time of day.

    Attributes
    ----------
    begins : datetime
        When the stream begins.
    changing : bool
        Else it is always as in the early shift, and nothing passes or beeps.
    happenings : tuple of Happening
    """

    begins: datetime
    changing: bool
    happenings: tuple[Happening, ...]

    @classmethod
    def draw(cls, begins: datetime, seconds: float, *, changing: bool, rng: np.random.Generator) -> Self:
        """A hall in which something may pass or beep until then."""
        happenings: list[Happening] = []
        for hour in range(math.ceil(seconds / HOUR) + 1 if changing else 0):
            for kind in ("vehicle", "alarm"):
                happenings += _of_hour(begins, hour, kind, rng)
        return cls(begins, changing, tuple(sorted(happenings, key=lambda h: h.start)))

    def level_db(self, seconds: float) -> float:
        """Of the steady noise, against the early shift."""
        if not self.changing:
            return 0.0
        beside = CHANGE_SECONDS * (np.arange(8) / 7 - 0.5)
        return float(np.mean([_shift(self.begins, seconds + s)[2] for s in beside]))

    def shifts(self, start: float, end: float) -> list[tuple[float, float, str]]:
        """The shifts between two times: from, to, name."""
        if not self.changing:
            return [(start, end, "steady")]
        into_hour = (self.begins - self.begins.replace(minute=0, second=0, microsecond=0)).total_seconds()
        found: list[tuple[float, float, str]] = []
        at = start
        while at < end:  # a shift begins at a full hour
            following = min(end, (math.floor((at + into_hour) / HOUR) + 1) * HOUR - into_hour)
            name = _shift(self.begins, at)[0]
            begin = found.pop()[0] if found and found[-1][2] == name else at
            found.append((begin, following, name))
            at = following
        return found


def _shift(begins: datetime, seconds: float) -> tuple[str, int, float, float, float]:
    """The shift that works at this time."""
    now = begins + timedelta(seconds=seconds)
    night, early, late = SHIFTS_OF_DAY
    if now.weekday() >= 5 or not early[1] <= now.hour < night[1]:
        return night
    return early if now.hour < late[1] else late


def _of_hour(begins: datetime, hour: int, kind: str, rng: np.random.Generator) -> list[Happening]:
    """What passes or beeps in one hour of the stream; rarer shifts leave out more of what is drawn."""
    found = []
    for at in np.sort(rng.uniform(0, HOUR, rng.poisson(MOST_AT_AN_HOUR))):
        middle = HOUR * hour + float(at)
        *_, vehicles, alarms = _shift(begins, middle)
        kept = rng.uniform(0, MOST_AT_AN_HOUR) < (vehicles if kind == "vehicle" else alarms)
        length = PASSING_SECONDS if kind == "vehicle" else rng.uniform(*ALARM_SECONDS)
        level_db = rng.uniform(*(VEHICLE_DB if kind == "vehicle" else ALARM_DB))
        seed = int(rng.integers(2**53))
        if kept and middle > length / 2:
            found.append(Happening(kind, middle - length / 2, middle + length / 2, level_db, seed))
    return found
