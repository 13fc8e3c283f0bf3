"""A machine that runs for days, heard by two microphones: its sound, block by block.

Conventions
-----------
Blocks are those of ``continued``. Whatever sounds is computed from the index of the block alone, so a stream can
begin at any block and sounds as if all blocks before had been made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import NEAR
from nearfar.simulation.continued import Blocks, Continued, Signal, straight
from nearfar.simulation.faults import Running
from nearfar.simulation.machines.mechanics import Condition
from nearfar.simulation.noise import Alarms, Vehicles
from nearfar.simulation.rooms import Place, Room
from nearfar.simulation.schedules import HOUR, Hall, Happening, Onset, Operation
from nearfar.simulation.signals import from_db, rms
from nearfar.simulation.sites import AWAY, MARGIN, SENSOR_DB, Scene, Site

Samples = NDArray[np.float32]

LEVEL_DB = (
    -36.0
)  # RMS of the near channel against full scale, in the early shift; leaves room for what passes
PASSERS = ("vehicles", "alarms")  # kinds of noise that come and go; where they are is drawn once for a hall
TRANSFORM = 4  # length of a transform against that of the room's response, at least
FADE_SECONDS = 5.0  # in which a vehicle that is far away becomes audible
COARSE = 64  # samples between two values of a gain; it is straight between them


@dataclass(frozen=True, slots=True)
class Drift:
    """A slow change: from nothing at the beginning to ``db`` after ``hours``, and then no more.

    Attributes
    ----------
    kinds : tuple of str
        Of ``DRIFTS``.
    db : float
        By which the highest frequencies of the machine, or the level of a microphone, fall.
    hours : float
    """

    kinds: tuple[str, ...]
    db: float
    hours: float

    def course_db(self, kind: str, seconds: Any) -> Any:
        """By how much it has fallen at these times."""
        if kind not in self.kinds:
            return np.zeros_like(np.asarray(seconds, dtype=np.float64))
        return self.db * np.clip(np.asarray(seconds) / (HOUR * self.hours), 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Days:
    """What happens in a stream."""

    operation: Operation
    hall: Hall
    onsets: tuple[Onset, ...]
    drift: Drift


class Joined:
    """Blocks of one sound without end, faded into each other where they overlap."""

    def __init__(self, make: Callable[[int], Signal], blocks: Blocks) -> None:
        self._make, self._blocks = make, blocks
        self._next: int | None = None
        self._rest = np.zeros(blocks.overlap)

    def begin(self, block: int) -> Signal:
        """The end of the block before this one, which is to be the next."""
        before = self._make(block - 1)
        self._next, self._rest = block, before[self._blocks.samples :]
        return before[: self._blocks.samples]

    def __call__(self, block: int) -> Signal:
        """(samples,) array: the block without what it holds of the next."""
        if block != self._next:
            raise ValueError(f"block {block} after block {self._next}: blocks must follow each other")
        sound = self._make(block)
        fade = (np.arange(self._blocks.overlap) + 0.5) / self._blocks.overlap
        head = fade * sound[: self._blocks.overlap] + (1 - fade) * self._rest
        self._next, self._rest = block + 1, sound[self._blocks.samples :].copy()
        sound = sound[: self._blocks.samples].copy()
        sound[: self._blocks.overlap] = head
        return sound


class Hearing:
    """What two microphones hear of several sounds, each from its own place; blocks of any sound without end."""

    def __init__(self, ways: Sequence[Signal], samples: int) -> None:
        self.held = ways[0].shape[-1] - 1
        self._length = scipy.fft.next_fast_len(TRANSFORM * (self.held + 1), real=True)
        self._hop = self._length - self.held
        self._samples = samples
        self._spectra = [scipy.fft.rfft(way.astype(np.float32), self._length, axis=-1) for way in ways]
        self._before = np.zeros((len(ways), self.held), dtype=np.float32)

    def begin(self, sounds: Sequence[Signal]) -> None:
        """Fill the room with the ends of these sounds."""
        for before, sound in zip(self._before, sounds, strict=True):
            before[:] = sound[-self.held :]

    def __call__(self, sounds: Sequence[Signal | None]) -> Samples:
        """(2, samples) array; ``None`` is silent, and was silent for as long as the room holds a sound."""
        pieces = -(-self._samples // self._hop)
        total = np.zeros((2, pieces, self._length // 2 + 1), dtype=np.complex64)
        line = np.zeros(self.held + pieces * self._hop, dtype=np.float32)
        for before, spectra, sound in zip(self._before, self._spectra, sounds, strict=True):
            if sound is None and not before.any():
                continue
            line[: self.held] = before
            line[self.held : self.held + self._samples] = 0.0 if sound is None else sound
            before[:] = line[self._samples : self._samples + self.held]
            cut = np.lib.stride_tricks.sliding_window_view(line, self._length)[:: self._hop]
            heard = scipy.fft.rfft(cut, axis=-1)
            for channel in range(2):
                total[channel] += heard * spectra[channel]
        sounds_heard = scipy.fft.irfft(total, self._length, axis=-1, overwrite_x=True)[..., self.held :]
        return np.ascontiguousarray(sounds_heard).reshape(2, -1)[:, : self._samples]


@dataclass(frozen=True)
class Stream:
    """A machine at its site, for days.

    Attributes
    ----------
    site : Site
    snr_db : float
        Of the machine against the steady noise at the near microphone, in the early shift.
    days : Days
    of_site, of_days : SeedSequence
        What stays, and what happens.
    """

    site: Site
    snr_db: float
    days: Days
    of_site: np.random.SeedSequence
    of_days: np.random.SeedSequence

    @cached_property
    def grid(self) -> Blocks:
        """How its time is cut."""
        return Blocks(self.site.rate)

    @property
    def scene(self) -> Scene:
        """All is recorded in the source domain."""
        return self.site.scenes["source"]

    @property
    def unit(self) -> str:
        """The one specimen that is heard."""
        return self.scene.units[0]

    @cached_property
    def steady(self) -> tuple[int, ...]:
        """Which of the scene's sources never pause."""
        return tuple(i for i, source in enumerate(self.scene.sources) if source.kind not in PASSERS)

    @cached_property
    def passers(self) -> tuple[Vehicles, Alarms, tuple[Place, Place]]:
        """What passes and what beeps in this hall, and where."""
        rng = np.random.default_rng(_part(self.of_site, 1))
        places = tuple(_anywhere(self.site.room, self.site.place, rng) for _ in PASSERS)
        return Vehicles.draw(rng), Alarms.draw(rng), (places[0], places[1])

    @cached_property
    def _ways(self) -> list[Signal]:
        """From the machine, the steady sources, and what passes and beeps."""
        scene = self.scene
        ways = [scene.machine_ways, *(scene.noise_ways[i] for i in self.steady)]
        if self.days.hall.happenings:
            ways += list(self.site.room.ways(self.passers[2], scene.microphones, rate=self.site.rate))
        return [scene.gains[:, None] * way for way in ways]

    @cached_property
    def levels(self) -> tuple[float, float, float]:
        """Factors of the machine and of all noise, and the RMS of a microphone's own noise.

        They are set once for a site, on a block in the first usual condition: whatever happens later, nobody turns
        at the recorder.
        """
        kind = self.site.units[self.unit]
        usual = Condition(kind.SPEEDS.usual[0], kind.LOADS.usual[0])
        samples = self.grid.samples
        of_run, *of_noise = _part(self.of_site, 0).spawn(1 + len(self.steady))
        machine = kind.run(
            usual, samples=samples, rate=self.site.rate, rng=Continued(of_run, 0, self.grid)
        ).sound
        noises = [
            self._noise(i, Continued(seeds, 0, self.grid))[:samples]
            for i, seeds in zip(self.steady, of_noise, strict=True)
        ]
        ways = self._ways[: 1 + len(noises)]
        heard_machine = Hearing(ways[:1], samples)([machine])[NEAR].astype(np.float64)
        heard_noise = Hearing(ways[1:], samples)(noises)[NEAR].astype(np.float64)
        against = rms(heard_machine) / rms(heard_noise) * from_db(-self.snr_db)
        level = from_db(LEVEL_DB) / rms(heard_machine + against * heard_noise)
        return level, level * against, from_db(SENSOR_DB) * level * rms(heard_machine)

    def blocks(self, first: int) -> Iterator[Samples]:
        """(2, samples) arrays from this block on, against full scale 1; never an end."""
        machine = Joined(self._machine, self.grid)
        noises = [Joined(self._noise_of_days(i), self.grid) for i in self.steady]
        passing = [_Passing(self, kind) for kind in ("vehicle", "alarm")] if self.days.hall.happenings else []
        of_machine, of_noise, own = self.levels
        hearing = Hearing(self._ways, self.grid.samples)
        machine_before = machine.begin(first)
        dull = _Dull(self, float(machine_before[-hearing.held - 1]))
        ends = [dull(first - 1, machine_before[-hearing.held :]) * of_machine]
        ends += [self._level(first - 1) * of_noise * noise.begin(first) for noise in noises]
        ends += [of_noise * passes.begin(first) for passes in passing]
        hearing.begin(ends)
        block = first
        while True:
            loud = of_noise * self._level(block)
            sounds: list[Signal | None] = [of_machine * dull(block, machine(block))]
            sounds += [loud * noise(block) for noise in noises]
            sounds += [passes(block, of_noise) for passes in passing]
            heard = hearing(sounds)
            rng = np.random.Generator(np.random.SFC64(_part(self.of_days, 2, block)))
            white = rng.random(heard.shape, dtype=np.float32)  # evenly distributed; nobody hears by what law
            white -= np.float32(0.5)
            white *= np.float32(own * math.sqrt(12))
            heard += white
            self._turn_down(block, heard)
            yield heard
            block += 1

    def _turn_down(self, block: int, heard: Samples) -> None:
        """The drift of the microphones."""
        drift = self.days.drift
        for channel, kind in enumerate(("near", "far")):
            if kind in drift.kinds:
                lost = self._course(block, partial(drift.course_db, kind))
                heard[channel] *= from_db(-lost).astype(np.float32)

    def _course(self, block: int, course: Callable[[Signal], Signal], samples: int | None = None) -> Signal:
        """A slow course, a function of seconds, over a block."""
        rate = self.site.rate
        return straight(
            lambda at: course(at / rate), block * self.grid.samples, samples or self.grid.samples, COARSE
        )

    def _level(self, block: int) -> Signal | float:
        """The factor of the steady noise in a block, by the hall's shift."""
        hall = self.days.hall
        if not hall.changing:
            return 1.0
        seconds = self.grid.samples / self.site.rate
        begin, end = (float(from_db(hall.level_db(seconds * at))) for at in (block, block + 1))
        return begin if begin == end else np.linspace(begin, end, self.grid.samples, endpoint=False)

    def _noise(self, source: int, rng: Continued) -> Signal:
        """A steady source in a block."""
        found = self.scene.sources[source]
        samples = self.grid.samples + self.grid.overlap
        return from_db(found.level_db) * found.noise(samples=samples, rate=self.site.rate, rng=rng)

    def _noise_of_days(self, source: int) -> Callable[[int], Signal]:
        seeds = _part(self.of_days, 1, source)
        return lambda block: self._noise(source, Continued(seeds, block, self.grid))

    def _machine(self, block: int) -> Signal:
        """The machine in a block, healthy or not."""
        operation, rate = self.days.operation, self.site.rate
        samples = self.grid.samples + self.grid.overlap
        condition = operation.condition(block)
        if condition is None:
            return np.zeros(samples)
        rng = Continued(_part(self.of_days, 0), block, self.grid, operation)
        running = self.site.units[self.unit].run(condition, samples=samples, rate=rate, rng=rng)
        sound = self._broken(block, running)
        loudness = straight(operation.loudness, block * self.grid.samples, samples, COARSE)
        return sound if loudness.min() == 1 else loudness * sound

    def _broken(self, block: int, running: Running) -> Signal:
        """The sound with the faults that have begun, of RMS one: what they add grows with the severity."""
        samples = len(running.sound)
        added: Signal | None = None
        power: Signal | float = 1.0
        faults = self.site.units[self.unit].faults()
        for index, onset in enumerate(self.days.onsets):
            severity = self._course(block, onset.course, samples)
            if not severity.any():
                continue
            rng = Continued(_part(self.of_days, 3, index), block, self.grid, self.days.operation)
            worst = faults[onset.fault](running, severity=1.0, rng=rng) - running.sound
            in_common, alone = (float(np.dot(part, worst)) / samples for part in (running.sound, worst))
            power = power + 2 * in_common * severity + alone * severity**2
            worst *= severity
            added = worst if added is None else added + worst
        return running.sound if added is None else (running.sound + added) / np.sqrt(power)


class _Dull:
    """The drift of the machine's sound: ``(x[n] + a x[n - 1]) / (1 + a)``."""

    def __init__(self, stream: Stream, before: float) -> None:
        self._stream, self._before = stream, before

    def __call__(self, block: int, sound: Signal) -> Signal:
        drift = self._stream.days.drift
        if "machine" not in drift.kinds:
            return sound
        late = np.concatenate([[self._before], sound[:-1]])
        self._before = float(sound[-1])

        def course(seconds: Signal) -> Signal:
            least = from_db(-drift.course_db("machine", seconds))  # the gain at the highest frequency
            share: Signal = (1 - least) / (1 + least)
            return share

        share = self._stream._course(block, course)[-len(sound) :]
        return (sound + share * late) / (1 + share)


class _Passing:
    """The vehicles, or the alarms, of a stream."""

    def __init__(self, stream: Stream, kind: str) -> None:
        self._stream, self._kind = stream, kind
        self._kept: dict[Happening, Signal] = {}

    def begin(self, block: int) -> Signal:
        """The block before this one."""
        before = self(block - 1, 1.0)
        return np.zeros(self._stream.grid.samples) if before is None else before

    def __call__(self, block: int, factor: float) -> Signal | None:
        """A block, or ``None`` if nothing of the kind is heard in it."""
        stream, rate = self._stream, self._stream.site.rate
        begin = block * stream.grid.samples
        end = begin + stream.grid.samples
        now = [
            h
            for h in stream.days.hall.happenings
            if h.kind == self._kind and round(h.start * rate) < end and round(h.end * rate) > begin
        ]
        self._kept = {h: self._kept[h] if h in self._kept else self._sound(h) for h in now}
        if not now:
            return None
        total = np.zeros(stream.grid.samples)
        for happening, sound in self._kept.items():
            at = round(happening.start * rate)
            low, high = max(begin, at), min(end, at + len(sound))
            total[low - begin : high - begin] += sound[low - at : high - at]
        return factor * total

    def _sound(self, happening: Happening) -> Signal:
        """All of it, with its level at the loudest."""
        rate = self._stream.site.rate
        vehicles, alarms, _ = self._stream.passers
        rng = np.random.default_rng(happening.seed)
        samples = round((happening.end - happening.start) * rate)
        if happening.kind == "alarm":
            beeps = alarms.beeps(samples=samples, rate=rate, rng=rng)
            return from_db(happening.level_db) * math.sqrt(alarms.duty) * beeps
        since = np.arange(samples) / rate - (happening.end - happening.start) / 2
        fade = np.clip((samples / 2 - np.abs(since * rate)) / (FADE_SECONDS * rate), 0.0, 1.0)
        return from_db(happening.level_db) * fade * vehicles.passage(since, rate=rate, rng=rng)


def _part(seeds: np.random.SeedSequence, *place: int) -> np.random.SeedSequence:
    """The seeds of a part, the same whenever they are asked for."""
    return np.random.SeedSequence(
        seeds.entropy, spawn_key=(*seeds.spawn_key, *(number % 2**32 for number in place))
    )


def _anywhere(room: Room, machine: Place, rng: np.random.Generator) -> Place:
    """A place in the room, not close to the machine."""
    while True:
        place: Place = tuple(float(rng.uniform(MARGIN, length - MARGIN)) for length in room.size)
        if math.dist(place, machine) >= AWAY:
            return place
