"""A machine where it stands: its specimens, the room, two microphones, and what can be heard beside it.

Conventions
-----------
A site has a scene for each domain. What the domains differ in is said by name, in ``SHIFTS``; all else is the same
in both. Places are in metres, as in ``rooms``. Of two microphones the first is near, the second far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nearfar.recordings.audio import FAR, NEAR
from nearfar.recordings.clips import Domain
from nearfar.simulation.fields import Crowd, Field
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition, Machine, dry_sound
from nearfar.simulation.noise import NOISES, Noise, OtherMachine, Recordings, noise_gain
from nearfar.simulation.recorders import LEAD_SECONDS, Channels
from nearfar.simulation.rooms import Place, Room, Ways, heard
from nearfar.simulation.signals import Signal, from_db, rms

SHIFTS = {
    "none": "both domains are alike",
    "speed": "the target runs at other speeds",
    "load": "the target runs at another load",
    "unit": "the target has other specimens of the machine",
    "noise": "other noise, from other places, surrounds the target",
    "microphones": "the microphones stand elsewhere in the target",
}

NOISE_FIELDS = {
    "places": "one to four sources, the loudest beside the far microphone",
    "diffuse": "many sources in all directions, and one or two others",
}

# Ranges that a site is drawn from, our choice where nothing else is said.
SIZE = ((6.0, 5.0, 3.0), (11.0, 8.0, 5.0))  # smallest and largest room, metres
REVERBERATION_SECONDS = (0.2, 0.35)
MACHINE_HEIGHT = (0.8, 1.2)
MACHINE_MARGIN = 1.0  # to the walls
MARGIN = 0.4  # of everything else
NEAR_DISTANCE = (0.1, 0.5)  # of the microphone from the machine
FAR_DISTANCE = (1.0, 4.0)
MOVED = ((0.03, 0.1), (0.3, 1.0))  # near and far, when they stand elsewhere in the target
NOISE_SOURCES = (1, 4)  # fewest and most
BESIDE_FAR = (0.5, 1.2)  # distance of the loudest source from the far microphone, which was put up to hear it
ANYWHERE = (0.5, 12.0)
STEADY = "factory"  # the loudest source: between alarms and impacts alone every fault would be heard
AWAY = 1.5  # of every source from the machine, at least
FAINTER_DB = (-12.0, -3.0)  # every other source against the loudest
GAIN_DB = (-8.0, 8.0)  # the far channel against the near one, on an average clip: nobody calibrated them
SENSOR_DB = -50.0  # a microphone's own noise against the machine at the near one
FRAME = 1024  # samples, to compare levels in
LEVELLED_SECONDS = 4.0  # of a clip that the gain is set on
# In the field that is diffuse. The levels of far against near are those of the development set of 2026.
BESIDES = (1, 2)  # single sources, fewest and most, as without this field
FIELD_DB = (-9.0, -6.0)  # of the many sources against the others, at the near microphone
FAR_DB = (-0.9, 0.4)  # the far channel against the near one: the median over time and frequency
FAINT_FAR_DB = (-20.0, -9.0)  # the same for the machines that are named next
FAINT_FAR = ("toycar",)
UNITS: dict[Domain, tuple[str, ...]] = {"source": ("A", "B", "C"), "target": ("D", "E")}


@dataclass(frozen=True, slots=True)
class Source:
    """A source of noise at its place.

    Attributes
    ----------
    kind : str
        Of ``NOISES``, or ``recordings``.
    level_db : float
        Against the loudest source, at 1 m.
    """

    kind: str
    noise: Noise
    place: Place
    level_db: float

    def described(self) -> dict[str, Any]:
        """The parameters, in values that JSON can hold."""
        parameters = {} if isinstance(self.noise, Recordings) else asdict(self.noise)
        return {"kind": self.kind, "place": self.place, "level_db": self.level_db, "parameters": parameters}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a domain is recorded from.

    Attributes
    ----------
    units : tuple of str
        Names of the specimens that are heard.
    speeds, loads : tuple of int
    microphones : (2,) tuple of places
    sources : tuple of Source
    machine_ways : (2, taps) array
    noise_ways : (sources, 2, taps) array
    gains : (2,) array
        Factors of the channels.
    field : Field or None
        Noise from many places at once, beside ``sources``.
    """

    units: tuple[str, ...]
    speeds: tuple[int, ...]
    loads: tuple[int, ...]
    microphones: tuple[Place, Place]
    sources: tuple[Source, ...]
    machine_ways: Ways
    noise_ways: Ways
    gains: Signal
    field: Field | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """What sounded when a clip was recorded, in the unit of the machine's RMS at 1 m.

    Attributes
    ----------
    dry : (lead + samples,) array
        The machine at 1 m, without the room.
    machine, noise : (2, lead + samples) array
        At the two microphones; the noise with that of the microphones themselves.
    """

    dry: Signal
    machine: Channels
    noise: Channels


@dataclass(frozen=True, slots=True)
class Site:
    """A machine where it stands.

    Attributes
    ----------
    units : mapping from str to Machine
        Its specimens.
    room : Room
    place : Place
        Of the machine.
    scenes : mapping from Domain to Scene
    rate : int
        In Hz.
    """

    units: Mapping[str, Machine]
    room: Room
    place: Place
    scenes: Mapping[Domain, Scene]
    rate: int

    @classmethod
    def draw(
        cls,
        machine: str,
        *,
        shift: Sequence[str],
        snr_db: float,
        rate: int,
        seeds: np.random.SeedSequence,
        recordings: Recordings | None = None,
        noise_field: str = "places",
    ) -> Site:
        """Set up a machine in a room.

        Parameters
        ----------
        machine : str
            Of ``MACHINES``.
        shift : sequence of str
            Of ``SHIFTS``.
        snr_db : float
            Of an average clip: whoever set the gains heard that.
        recordings : Recordings or None
            To be heard instead of synthesized noise.
        noise_field : str
            Of ``NOISE_FIELDS``.
        """
        of_units, of_room, of_places, of_noise, of_field = map(np.random.default_rng, seeds.spawn(5))
        kind = MACHINES[machine]
        units = {name: kind.manufacture(of_units) for names in UNITS.values() for name in names}
        size = tuple(of_room.uniform(*SIZE).tolist())
        room = Room.build(size, of_room.uniform(*REVERBERATION_SECONDS), rate=rate)
        place = _machine_place(room, of_room)
        usual, other = _usual_and_other(recordings, shift)
        microphones = _microphone_places(room, place, of_places)
        hall = _Hall(room, place, machine, noise_field == "diffuse", snr_db, rate)
        surroundings = hall.draw(microphones, usual, (of_noise, of_field))
        gain_db = hall.gain_db(of_places)  # in a diffuse field, the level that is reached in the end
        arrival = hall.arrival(surroundings, microphones, gain_db)
        scenes: dict[Domain, Scene] = {}
        for domain in ("source", "target"):
            shifted = frozenset(shift if domain == "target" else ())
            if "microphones" in shifted:
                microphones = _move(room, place, microphones, of_places)
            if "noise" in shifted:
                surroundings = hall.draw(microphones, other, (of_noise, of_field))
            if shifted & {"microphones", "noise"}:
                arrival = hall.arrival(surroundings, microphones, gain_db)
            scenes[domain] = Scene(
                units=_units(shift, domain),
                speeds=kind.SPEEDS.shifted if "speed" in shifted else kind.SPEEDS.usual,
                loads=kind.LOADS.shifted if "load" in shifted else kind.LOADS.usual,
                microphones=microphones,
                sources=surroundings.sources,
                machine_ways=arrival.ways[0],
                noise_ways=arrival.ways[1:],
                gains=arrival.gains,
                field=arrival.field,
            )
        site = cls(units=units, room=room, place=place, scenes=scenes, rate=rate)
        return site._levelled(gain_db, snr_db, of_field) if hall.is_diffuse else site

    def _levelled(self, far_db: float, snr_db: float, rng: np.random.Generator) -> Site:
        """The site after the gain of the far channel was set: so that an average clip has the level ``far_db``.

        A domain has another gain only if it has other noise or other places of the microphones.
        """
        source, target = self.scenes["source"], self.scenes["target"]
        levels = {domain: self._far_level_db(domain, snr_db, rng) for domain in self.scenes}
        if (source.microphones, source.sources) == (target.microphones, target.sources):
            levels = dict.fromkeys(levels, float(np.mean(list(levels.values()))))
        return replace(
            self,
            scenes={
                domain: replace(scene, gains=scene.gains * from_db(np.array([0.0, far_db - levels[domain]])))
                for domain, scene in self.scenes.items()
            },
        )

    def _far_level_db(self, domain: Domain, snr_db: float, rng: np.random.Generator) -> float:
        """Of an average clip, with the gains as they are."""
        scene, rngs = self.scenes[domain], rng.spawn(3)
        found = self.take(
            domain, scene.units[0], Condition(scene.speeds[0], scene.loads[0]), fault=None, severity=0.0,
            snr_db=snr_db, samples=round(LEVELLED_SECONDS * self.rate), rngs=(rngs[0], rngs[1], rngs[2]),
        )  # fmt: skip
        return far_level_db((found.machine + found.noise)[:, self.lead :])

    def take(
        self,
        domain: Domain,
        unit: str,
        condition: Condition,
        *,
        fault: str | None,
        severity: float,
        snr_db: float,
        samples: int,
        rngs: tuple[np.random.Generator, np.random.Generator, np.random.Generator],
    ) -> Take:
        """Let the machine run and the hall be noisy.

        Parameters
        ----------
        snr_db : float
            Of the machine against the sources of noise, at the near microphone over the clip.
        rngs : (3,) tuple
            Of the machine, the noise, and the microphones.
        """
        of_machine, of_noise, of_sensors = rngs
        scene, lead = self.scenes[domain], self.lead
        filled = self._filled(domain, samples)
        dry = dry_sound(
            self.units[unit],
            condition,
            fault=fault,
            severity=severity,
            samples=filled,
            rate=self.rate,
            rng=of_machine,
        )
        machine = heard(dry, scene.machine_ways)
        noise = np.zeros_like(machine)
        rngs_of_sources = of_noise.spawn(len(scene.sources))
        for source, ways, rng in zip(scene.sources, scene.noise_ways, rngs_of_sources, strict=True):
            sound = source.noise(samples=filled, rate=self.rate, rng=rng)
            noise += heard(from_db(source.level_db) * sound, ways)
        if scene.field is not None:
            noise += scene.field(samples=noise.shape[-1], rng=of_noise.spawn(1)[0])
        noise *= noise_gain(machine[NEAR, lead:], noise[NEAR, lead:], snr_db=snr_db)
        own = from_db(SENSOR_DB) * rms(machine[NEAR, lead:])
        noise += own * of_sensors.standard_normal(noise.shape)
        gains = scene.gains[:, None]
        return Take(dry=dry[-lead - samples :], machine=gains * machine, noise=gains * noise)

    @property
    def lead(self) -> int:
        """Samples before a clip, which a late channel holds."""
        return round(LEAD_SECONDS * self.rate)

    def _filled(self, domain: Domain, samples: int) -> int:
        """Samples of every sound: so many more that the room is filled when a clip begins."""
        return self.lead + samples + self.scenes[domain].machine_ways.shape[-1] - 1

    def excerpts(self, domain: Domain, *, samples: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """What ``take`` reads from recordings of noise, with the same generator."""
        sources = self.scenes[domain].sources
        filled = self._filled(domain, samples)
        found = [
            source.noise.excerpt(samples=filled, rate=self.rate, rng=of_source)
            for source, of_source in zip(sources, rng.spawn(len(sources)), strict=True)
            if isinstance(source.noise, Recordings)
        ]
        return [{"path": str(excerpt.path), "start": excerpt.start} for excerpt in found]

    def described(self, domain: Domain) -> dict[str, Any]:
        """What a manifest tells of a scene, in values that JSON can hold."""
        scene = self.scenes[domain]
        field = {} if scene.field is None else {"noise_field": scene.field.described()}
        return {
            "room": asdict(self.room),
            "machine_place": self.place,
            "microphone_places": scene.microphones,
            "gains_db": (20 * np.log10(scene.gains)).tolist(),
            "noises": [source.described() for source in scene.sources],
            **field,
        }


def far_level_db(samples: Channels) -> float:
    """The level of far against near: the median over time and frequency of the ratio of their powers, in dB."""
    frames = samples[:, : samples.shape[-1] // FRAME * FRAME].reshape(2, -1, FRAME)
    powers = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=-1)) ** 2
    return float(10 * np.log10(np.median(powers[FAR] / powers[NEAR])))


def _usual_and_other(
    recordings: Recordings | None, shift: Sequence[str]
) -> tuple[Recordings | None, Recordings | None]:
    """The recordings of noise for source and target."""
    if recordings is not None and "noise" in shift:
        return recordings.halves()
    return recordings, recordings


def _units(shift: Sequence[str], domain: Domain) -> tuple[str, ...]:
    """Several specimens, others in each domain, where that is what shifts; else one."""
    return UNITS[domain] if "unit" in shift else UNITS["source"][:1]


def _inside(room: Room, place: Place, margin: float) -> bool:
    return all(margin <= at <= length - margin for at, length in zip(place, room.size, strict=True))


def _around(
    room: Room, centre: Place, distances: tuple[float, float], margin: float, rng: np.random.Generator
) -> Place:
    """A place at such a distance, in any direction that stays inside the room."""
    while True:  # a few tries: from anywhere, most directions or smaller distances do
        direction = rng.standard_normal(3)
        step = rng.uniform(*distances) * direction / np.linalg.norm(direction)
        place: Place = tuple((np.array(centre) + step).tolist())
        if _inside(room, place, margin):
            return place


def _machine_place(room: Room, rng: np.random.Generator) -> Place:
    x, y, _ = room.size
    margin = MACHINE_MARGIN
    return (
        rng.uniform(margin, x - margin),
        rng.uniform(margin, y - margin),
        rng.uniform(*MACHINE_HEIGHT),
    )


def _microphone_places(room: Room, machine: Place, rng: np.random.Generator) -> tuple[Place, Place]:
    """Near and far."""
    near, far = (_around(room, machine, d, MARGIN, rng) for d in (NEAR_DISTANCE, FAR_DISTANCE))
    return near, far


def _move(
    room: Room, machine: Place, microphones: tuple[Place, Place], rng: np.random.Generator
) -> tuple[Place, Place]:
    """Both microphones a step away, still within the distances of near and far."""
    moved = []
    for place, step, (least, most) in zip(microphones, MOVED, (NEAR_DISTANCE, FAR_DISTANCE), strict=True):
        new = _around(room, place, step, MARGIN, rng)
        while not least <= math.dist(new, machine) <= most:
            new = _around(room, place, step, MARGIN, rng)
        moved.append(new)
    return moved[0], moved[1]


def _sources(
    room: Room,
    machine: Place,
    far: Place,
    name: str,
    recordings: Recordings | None,
    rng: np.random.Generator,
    counts: tuple[int, int] = NOISE_SOURCES,
) -> tuple[Source, ...]:
    """The loudest, which is steady, beside the far microphone, the others anywhere; none close to the machine."""
    sources: list[Source] = []
    for index in range(rng.integers(counts[0], counts[1], endpoint=True)):
        distances = BESIDE_FAR if index == 0 else ANYWHERE
        place = _around(room, far, distances, MARGIN, rng)
        while math.dist(place, machine) < AWAY:
            place = _around(room, far, distances, MARGIN, rng)
        level_db = 0.0 if index == 0 else rng.uniform(*FAINTER_DB)
        kind, noise = _noise(name, recordings, rng, steady=index == 0)
        sources.append(Source(kind, noise, place, level_db))
    return tuple(sources)


def _noise(
    machine: str, recordings: Recordings | None, rng: np.random.Generator, *, steady: bool
) -> tuple[str, Noise]:
    """Any kind of noise; another machine is of another type than the one that is listened to."""
    if recordings is not None:
        return "recordings", recordings
    kind = STEADY if steady else str(rng.choice(list(NOISES)))
    if kind == "machine":
        return kind, OtherMachine.draw(rng, without=machine)
    return kind, NOISES[kind].draw(rng)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What is heard beside the machine: single sources, and the crowd of a diffuse field."""

    sources: tuple[Source, ...]
    crowd: Crowd | None


@dataclass(frozen=True, slots=True)
class _Arrival:
    """How the machine and its surroundings reach the microphones."""

    ways: Ways
    field: Field | None
    gains: Signal


@dataclass(frozen=True, slots=True)
class _Hall:
    """Where a machine stands, before noise and microphones are there."""

    room: Room
    machine: Place
    name: str
    is_diffuse: bool
    snr_db: float
    rate: int

    def draw(
        self,
        microphones: tuple[Place, Place],
        recordings: Recordings | None,
        rngs: tuple[np.random.Generator, np.random.Generator],
    ) -> _Surroundings:
        """Noise, with the generators of the sources and of the crowd."""
        of_noise, of_field = rngs
        if not self.is_diffuse:
            of_places = _sources(self.room, self.machine, microphones[FAR], self.name, recordings, of_noise)
            return _Surroundings(of_places, None)
        near, far = microphones
        middle: Place = tuple(((np.array(near) + np.array(far)) / 2).tolist())
        away_from = (self.machine, far)
        crowd = Crowd.draw(self.room, middle, away_from=away_from, away=AWAY, margin=MARGIN, rng=of_field)
        if recordings is not None:
            pairs = zip(crowd.places, crowd.levels_db, strict=True)
            return _Surroundings(tuple(Source("recordings", recordings, *pair) for pair in pairs), None)
        sources = _sources(self.room, self.machine, far, self.name, None, of_noise, BESIDES)
        return _Surroundings(sources, replace(crowd, share_db=of_field.uniform(*FIELD_DB)))

    def gain_db(self, rng: np.random.Generator) -> float:
        """Of the far channel against the near one, on an average clip."""
        if not self.is_diffuse:
            return rng.uniform(*GAIN_DB)
        return rng.uniform(*(FAINT_FAR_DB if self.name in FAINT_FAR else FAR_DB))

    def arrival(self, around: _Surroundings, microphones: tuple[Place, Place], gain_db: float) -> _Arrival:
        """The ways of everything to these microphones, and their gains."""
        ways = _ways(self.room, self.machine, around.sources, microphones, self.rate)
        energy = np.sum(ways**2, axis=-1)
        levels = from_db(2 * np.array([[source.level_db] for source in around.sources]))
        noise = sum(energy[1:] * levels)
        field = None
        if around.crowd is not None:
            crowded = self.room.ways(around.crowd.places, microphones, rate=self.rate)
            field = Field.build(around.crowd, crowded, power=float(noise[NEAR]), rate=self.rate)
            noise = noise + field.power
        return _Arrival(ways, field, _gains(energy[0], noise, snr_db=self.snr_db, gain_db=gain_db))


def _ways(
    room: Room, machine: Place, sources: Sequence[Source], microphones: Sequence[Place], rate: int
) -> Ways:
    """From the machine, then from every source of noise: (1 + sources, 2, taps) array."""
    return room.ways([machine, *(source.place for source in sources)], microphones, rate=rate)


def _gains(machine: Signal, noise: Signal, *, snr_db: float, gain_db: float) -> Signal:
    """Of both channels, so that white sound of these energies is ``gain_db`` louder far than near."""
    heard = machine + noise * machine[NEAR] / noise[NEAR] * from_db(-2 * snr_db)
    return np.array([1.0, from_db(gain_db) * np.sqrt(heard[NEAR] / heard[FAR])])
