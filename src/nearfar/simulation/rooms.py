"""A room with a machine, two microphones and the places that noise comes from.

Conventions
-----------
Positions are ``(x, y, z)`` in metres from one corner of a shoebox. An impulse response is relative to the
sound pressure at 1 m in the free field; each begins with ``HALF_WIDTH`` samples more than the sound needs, to
hold both halves of the interpolation of the earliest arrival. Of two microphones the first is near, the
second far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from nearfar.clips import Domain
from nearfar.simulation.noise import Signal, from_db

SPEED_OF_SOUND = 343.0  # m/s, in air of 20 degrees Celsius
HALF_WIDTH = 32  # samples on each side of a windowed sinc; our choice
DECAY_60_DB = 3 * np.log(10)  # of amplitude: a reverberation time is the time of a decay to 1 / 1000
DIFFUSE_FROM_SECONDS = 0.004  # after the direct sound; our choice

# H. Kuttruff, "Room Acoustics", 5th ed., 2009: the critical distance is 0.057 sqrt(volume / T) metres, and
# Eyring's reverberation time T is 0.161 volume / (-surface ln(1 - absorption)) seconds.
CRITICAL_DISTANCE = 0.057
EYRING = 0.161

# Ranges that an installation is drawn from; our choice: a test room with absorbing walls. Between hard walls
# one factor per frequency explains little of one microphone by another. Distances are chosen so that
# everything stays inside the smallest room.
SIZE = ((9.0, 7.0, 4.0), (11.0, 8.0, 5.0))  # smallest and largest, in metres
WALL_REFLECTION = (0.4, 0.55)  # of sound pressure
MACHINE_X = 2.0
NEAR_DISTANCE = (0.2, 0.4)
FAR_DISTANCE = (2.0, 3.0)
NOISE_DISTANCE = (0.6, 1.0)  # from the far microphone
# Where noise comes from, around the far microphone: degrees off the axis of the room.
NOISE_ANGLE: dict[Domain, tuple[float, float]] = {"source": (-20.0, 20.0), "target": (50.0, 80.0)}
HUM_ANGLE = (-80.0, -50.0)
GAIN_DB = (-6.0, 6.0)  # of a microphone: nobody calibrated it

Position = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Room:
    """A shoebox.

    Attributes
    ----------
    size : (3,) array
        In metres.
    reflection : float
        Factor on the sound pressure at a wall.
    """

    size: Position
    reflection: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Room:
        return cls(size=rng.uniform(*SIZE), reflection=rng.uniform(*WALL_REFLECTION))

    @property
    def reverberation_seconds(self) -> float:
        """Time of a decay by 60 dB."""
        x, y, z = self.size
        exponent = -2 * np.log(self.reflection)  # the reflection's square is 1 - absorption
        return float(EYRING * x * y * z / (2 * (x * y + y * z + z * x) * exponent))

    @property
    def critical_distance(self) -> float:
        """Where direct and diffuse sound are equally strong, in metres."""
        return CRITICAL_DISTANCE * float(np.sqrt(np.prod(self.size) / self.reverberation_seconds))

    def taps(self, rate: int) -> int:
        """Length of every impulse response: the way through the room, and the decay."""
        seconds = 2 * np.linalg.norm(self.size) / SPEED_OF_SOUND + self.reverberation_seconds
        return int(seconds * rate) + 2 * HALF_WIDTH


def impulse_response(
    room: Room, source: Position, microphone: Position, *, rate: int, rng: np.random.Generator
) -> Signal:
    """From a source to a microphone: direct sound, the six first reflections, and a diffuse tail.

    Reflections are those of image sources (J. B. Allen, D. A. Berkley, "Image method for efficiently
    simulating small-room acoustics", J. Acoust. Soc. Am. 65 (1979)). The tail is Gaussian noise that decays
    exponentially, Polack's model (J.-M. Jot, L. Cerveau, O. Warusfel, "Analysis and synthesis of room
    reverberation based on a statistical time-frequency model", AES 103rd Convention, 1997); its energy is that
    of the direct sound at the room's critical distance, wherever source and microphone are.

    Returns
    -------
    (taps,) array
    """
    response = np.zeros(room.taps(rate))
    distance = float(np.linalg.norm(source - microphone))
    add_arrival(response, distance, 1 / distance, rate=rate)
    for image in first_images(room, source):
        away = float(np.linalg.norm(image - microphone))
        add_arrival(response, away, room.reflection / away, rate=rate)
    return response + _diffuse_tail(room, distance, rate=rate, rng=rng)


def first_images(room: Room, source: Position) -> NDArray[np.float64]:
    """The source's mirror images in the six walls: (6, 3) array."""
    images = np.tile(source, (6, 1))
    for axis in range(3):
        images[2 * axis, axis] = -source[axis]
        images[2 * axis + 1, axis] = 2 * room.size[axis] - source[axis]
    return images


def add_arrival(response: Signal, distance: float, amplitude: float, *, rate: int) -> None:
    """Add a sound that travelled ``distance`` metres, in place, at its exact time between the samples.

    A sinc under a Hann window of ``2 HALF_WIDTH + 1`` samples: T. I. Laakso et al., "Splitting the unit
    delay", IEEE Signal Process. Mag. 13 (1996).
    """
    delay = HALF_WIDTH + distance / SPEED_OF_SOUND * rate
    nearest = round(delay)
    taps = np.arange(nearest - HALF_WIDTH, nearest + HALF_WIDTH + 1)
    away = taps - delay
    window = np.cos(np.pi / 2 * away / (HALF_WIDTH + 1)) ** 2
    response[taps] += amplitude * np.sinc(away) * window


def _diffuse_tail(room: Room, distance: float, *, rate: int, rng: np.random.Generator) -> Signal:
    samples = room.taps(rate)
    begins = HALF_WIDTH + (distance / SPEED_OF_SOUND + DIFFUSE_FROM_SECONDS) * rate
    seconds = (np.arange(samples) - begins) / rate
    decay = np.where(seconds < 0, 0.0, np.exp(-DECAY_60_DB * seconds / room.reverberation_seconds))
    energy = 1 / room.critical_distance**2
    return decay * rng.standard_normal(samples) * np.sqrt(energy / np.sum(decay**2))


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything of a recording site that stays: the ways of sound and the gains of two microphones.

    Attributes
    ----------
    machine, hum : (2, taps) array
        Impulse responses from these sources to the two microphones.
    ambient : dict of (2, taps) arrays
        From the place of the ambient noise in each domain.
    gains : (2,) array
        Of the microphones; uncalibrated.
    """

    machine: Signal
    hum: Signal
    ambient: Mapping[Domain, Signal]
    gains: Signal

    @classmethod
    def draw(cls, *, rate: int, rng: np.random.Generator) -> Installation:
        """Set up a room: the machine at one end, the far microphone and the noise towards the other."""
        room = Room.draw(rng)
        machine = np.array([MACHINE_X, room.size[1] / 2, 1.0])
        near = machine + rng.uniform(*NEAR_DISTANCE) * _direction(rng.uniform(-60, 60))
        far = machine + rng.uniform(*FAR_DISTANCE) * _direction(rng.uniform(-5, 5))

        def ways(source: Position) -> Signal:
            return np.stack([impulse_response(room, source, m, rate=rate, rng=rng) for m in (near, far)])

        def beside_far(angle: tuple[float, float]) -> Position:
            return far + rng.uniform(*NOISE_DISTANCE) * _direction(rng.uniform(*angle))

        return cls(
            machine=ways(machine),
            hum=ways(beside_far(HUM_ANGLE)),
            ambient={domain: ways(beside_far(angle)) for domain, angle in NOISE_ANGLE.items()},
            gains=from_db(rng.uniform(*GAIN_DB, 2)),
        )


def _direction(degrees: float) -> Position:
    """The unit vector in the horizontal plane, 0 degrees along the room."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0.0])


def heard(sound: Signal, ways: Signal) -> Signal:
    """What both microphones hear of a source.

    Parameters
    ----------
    sound : (samples + taps - 1,) array
        It begins before the recording does, so that the room is already filled.
    ways : (2, taps) array

    Returns
    -------
    (2, samples) array
    """
    recorded: Signal = fftconvolve(sound[None], ways, mode="valid", axes=-1)
    return recorded
