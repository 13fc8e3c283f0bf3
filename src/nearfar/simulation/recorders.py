"""Two microphones and their recorder, and how they fail.

Conventions
-----------
A fault is called with a recording, the channel that it befalls, and a generator; it returns the clip:
``(2, samples)``, the near microphone first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearfar.simulation.signals import from_db, rms

Channels = NDArray[np.float64]

LEAD_SECONDS = 0.05  # of sound before a clip
DELAY_SECONDS = (0.005, LEAD_SECONDS)  # of a late channel: a buffer of a cheap converter; our choice
OVERLOAD_DB = (15.0, 25.0)  # by which a channel that clips is too loud; our choice
MAINS_HZ = 50.0
GROUND_LOOP_DB = (0.0, 12.0)  # of hum against the channel's sound; our choice
CONVERTER_NOISE = 0.3 / 32768  # RMS of a channel without a signal: about one step of 16 bits, peak to peak
FULL_SCALE = 0.99


@dataclass(frozen=True, slots=True)
class Recording:
    """What two microphones hear.

    Attributes
    ----------
    samples : (2, lead + samples) array
        The clip, and before it what a late channel holds.
    lead, rate : int
    """

    samples: Channels
    lead: int
    rate: int

    @property
    def clip(self) -> Channels:
        """(2, samples) array, a copy."""
        return self.samples[:, self.lead :].copy()


MicrophoneFault = Callable[[Recording, int, np.random.Generator], Channels]


def dead(recording: Recording, channel: int, rng: np.random.Generator) -> Channels:
    """A cable is loose: the channel holds nothing but the converter's noise."""
    clip = recording.clip
    clip[channel] = CONVERTER_NOISE * rng.standard_normal(clip.shape[-1])
    return clip


def clipped(recording: Recording, channel: int, rng: np.random.Generator) -> Channels:
    """The gain of the channel is much too high: it lies at full scale again and again."""
    clip = recording.clip
    gain = FULL_SCALE / np.abs(clip[channel]).max() * from_db(rng.uniform(*OVERLOAD_DB))
    clip[channel] = np.clip(gain * clip[channel], -FULL_SCALE, FULL_SCALE)
    return clip


def hum(recording: Recording, channel: int, rng: np.random.Generator) -> Channels:
    """A ground loop: the mains and its odd harmonics in the channel."""
    clip = recording.clip
    turn = 2 * np.pi * MAINS_HZ / recording.rate * np.arange(clip.shape[-1]) + rng.uniform(0, 2 * np.pi)
    mains = np.cos(turn) + np.cos(3 * turn) / 3 + np.cos(5 * turn) / 5
    clip[channel] += from_db(rng.uniform(*GROUND_LOOP_DB)) * rms(clip[channel]) / rms(mains) * mains
    return clip


def swapped(recording: Recording, _channel: int, _rng: np.random.Generator) -> Channels:
    """The two plugs are exchanged."""
    return recording.clip[::-1]


def delayed(recording: Recording, channel: int, rng: np.random.Generator) -> Channels:
    """The channel comes late: the two are not synchronized."""
    clip = recording.clip
    late = recording.lead - round(rng.uniform(*DELAY_SECONDS) * recording.rate)
    clip[channel] = recording.samples[channel, late : late + clip.shape[-1]]
    return clip


MICROPHONE_FAULTS: dict[str, MicrophoneFault] = {
    "dead": dead,
    "clipped": clipped,
    "hum": hum,
    "swapped": swapped,
    "delayed": delayed,
}


def fitting_gain(clip: Channels) -> float:
    """The factor that makes a clip fit into a file: 1 unless it is too loud."""
    return min(1.0, FULL_SCALE / float(np.abs(clip).max()))
