"""A machine where it stands: its specimens, the room, two microphones, and what can be heard beside it.

Conventions
-----------
A site has a scene for each domain. What the domains differ in is said by name, in ``SHIFTS``; all else is the same
in both. Places are in metres, as in ``rooms``. Of two microphones the first is near, the second far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nearfar.recordings.audio import FAR, NEAR
from nearfar.recordings.clips import Domain
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
    """

    units: tuple[str, ...]
    speeds: tuple[int, ...]
    loads: tuple[int, ...]
    microphones: tuple[Place, Place]
    sources: tuple[Source, ...]
    machine_ways: Ways
    noise_ways: Ways
    gains: Signal


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
        """
        of_units, of_room, of_places, of_noise = map(np.random.default_rng, seeds.spawn(4))
        kind = MACHINES[machine]
        units = {name: kind.manufacture(of_units) for names in UNITS.values() for name in names}
        size = tuple(of_room.uniform(*SIZE).tolist())
        room = Room.build(size, of_room.uniform(*REVERBERATION_SECONDS), rate=rate)
        place = _machine_place(room, of_room)
        usual, other = (recordings, recordings)
        if recordings is not None and "noise" in shift:
            usual, other = recordings.halves()

        microphones = _microphone_places(room, place, of_places)
        sources = _sources(room, place, microphones[FAR], machine, usual, of_noise)
        gain_db = of_places.uniform(*GAIN_DB)
        scenes: dict[Domain, Scene] = {}
        ways = _ways(room, place, sources, microphones, rate)
        for domain in ("source", "target"):
            shifted = frozenset(shift if domain == "target" else ())
            if "microphones" in shifted:
                microphones = _move(room, place, microphones, of_places)
            if "noise" in shifted:
                sources = _sources(room, place, microphones[FAR], machine, other, of_noise)
            if shifted & {"microphones", "noise"}:
                ways = _ways(room, place, sources, microphones, rate)
            scenes[domain] = Scene(
                units=_units(shift, domain),
                speeds=kind.SPEEDS.shifted if "speed" in shifted else kind.SPEEDS.usual,
                loads=kind.LOADS.shifted if "load" in shifted else kind.LOADS.usual,
                microphones=microphones,
                sources=sources,
                machine_ways=ways[0],
                noise_ways=ways[1:],
                gains=_gains(ways, sources, snr_db=snr_db, gain_db=gain_db),
            )
        return cls(units=units, room=room, place=place, scenes=scenes, rate=rate)

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
        return {
            "room": asdict(self.room),
            "machine_place": self.place,
            "microphone_places": scene.microphones,
            "gains_db": (20 * np.log10(scene.gains)).tolist(),
            "noises": [source.described() for source in scene.sources],
        }


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
) -> tuple[Source, ...]:
    """The loudest, which is steady, beside the far microphone, the others anywhere; none close to the machine."""
    sources: list[Source] = []
    for index in range(rng.integers(NOISE_SOURCES[0], NOISE_SOURCES[1], endpoint=True)):
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


def _ways(
    room: Room, machine: Place, sources: Sequence[Source], microphones: Sequence[Place], rate: int
) -> Ways:
    """From the machine, then from every source of noise: (1 + sources, 2, taps) array."""
    return room.ways([machine, *(source.place for source in sources)], microphones, rate=rate)


def _gains(ways: Ways, sources: Sequence[Source], *, snr_db: float, gain_db: float) -> Signal:
    """Of both channels, so that white sound makes the far one ``gain_db`` louder than the near one."""
    energy = np.sum(ways**2, axis=-1)
    machine = energy[0]
    noise = sum(energy[1:] * from_db(2 * np.array([[source.level_db] for source in sources])))
    heard = machine + noise * machine[NEAR] / noise[NEAR] * from_db(-2 * snr_db)
    return np.array([1.0, from_db(gain_db) * np.sqrt(heard[NEAR] / heard[FAR])])
