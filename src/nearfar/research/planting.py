"""Anomalies where there are none: normal recordings with a planted fault, to compare one detector with another.

Every other normal clip is kept for the test, and once more with a fault in it: a whine, blows, or hiss in a band,
at three levels below the sound of the clip. So a clip and its faulty twin differ by the fault alone. How well such
faults are found says nothing about real ones; that two detectors find them equally well says that they hear alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings import audio
from nearfar.recordings.audio import NEAR
from nearfar.recordings.clips import Clip, Dataset, DatasetError, Machine

LEVELS_DB = (-12.0, -18.0, -24.0)  # of a fault, to the near channel of the clip
FAR_DB = -15.0  # of the fault at any other microphone, to the near one
MOST_FITTED, MOST_HELD = 200, 50  # clips of a machine
LEAST_CLIPS = 20  # of a machine: half of them are fitted to
PEAK = 0.99  # that a clip with its fault may have; it is scaled down where it has more

Float = NDArray[np.float64]


def whine(n: int, rate: int, rng: np.random.Generator) -> Float:
    """Three harmonics of a tone that no other clip has."""
    fundamental = rng.uniform(0.04, 0.12) * rate
    time = np.arange(n) / rate
    return np.sum([np.sin(2 * np.pi * k * fundamental * time + k) / k for k in (1, 2, 3)], axis=0)


def blows(n: int, rate: int, rng: np.random.Generator) -> Float:
    """Short rings that follow each other evenly, as of a damaged bearing."""
    since = np.mod(np.arange(n) / rate, 1 / rng.uniform(8, 40))
    rings: Float = np.exp(-250 * since) * np.sin(2 * np.pi * rng.uniform(0.1, 0.35) * rate * since)
    return rings


def hiss(n: int, rate: int, rng: np.random.Generator) -> Float:  # noqa: ARG001  # as the others
    """Noise in a band of a third of an octave, as of a leak."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.fft.rfftfreq(n)
    centre = rng.uniform(0.1, 0.35)
    spectrum[abs(np.log2(np.maximum(frequency, 1e-9) / centre)) > 1 / 6] = 0
    return np.fft.irfft(spectrum, n)


FAULTS: dict[str, Callable[[int, int, np.random.Generator], Float]] = {
    "whine": whine,
    "blows": blows,
    "hiss": hiss,
}


def planted(dataset: Dataset, folder: Path, *, seed: int = 0) -> Dataset:
    """The normal training clips of a data set, half of them as test clips with and without a fault.

    Parameters
    ----------
    dataset : Dataset
        Its test clips have no part.
    folder : Path
        Where the clips with faults are written.
    seed : int
        Of the faults.

    Returns
    -------
    Dataset
        Its test clips tell no domain.

    Raises
    ------
    DatasetError
        If a machine has too few training clips.
    AudioError
        If a clip cannot be read.
    """
    if few := [m for m in dataset if len(m.train) < LEAST_CLIPS]:
        raise DatasetError(
            f"{m.name}: {len(m.train)} normal clips, but it takes {LEAST_CLIPS} to fit to half of them and to "
            "plant faults into the others"
            for m in few
        )
    machines = (_planted(machine, folder, np.random.default_rng(seed)) for machine in dataset)
    return replace(dataset, machines=tuple(machines))


def _planted(machine: Machine, folder: Path, rng: np.random.Generator) -> Machine:
    held = evenly(machine.train[1::2], MOST_HELD)
    normal = [replace(clip, split="test", domain=None, name=f"normal_{clip.name}") for clip in held]
    kinds = [(fault, level) for level in LEVELS_DB for fault in FAULTS]
    faulty = [
        _with_fault(clip, folder / f"{machine.name}_{i}.wav", *kinds[i % len(kinds)], rng)
        for i, clip in enumerate(held)
    ]
    return Machine(machine.name, (*evenly(machine.train[::2], MOST_FITTED), *normal, *faulty))


def _with_fault(clip: Clip, file: Path, fault: str, level: float, rng: np.random.Generator) -> Clip:
    """A clip with a fault, written to a file."""
    samples, rate = audio.read(clip.recording)
    sound = FAULTS[fault](samples.shape[1], rate, rng)
    loudness = 10 ** (level / 20) * np.sqrt(np.mean(samples[NEAR].astype(np.float64) ** 2))
    sound *= loudness / np.sqrt(np.mean(sound**2))
    share = np.full(len(samples), 10 ** (FAR_DB / 20))
    share[NEAR] = 1.0
    made = samples + share[:, None] * sound
    made *= min(1.0, PEAK / max(np.abs(made).max(), 1e-12))
    audio.write(file, made.astype(np.float32), rate, bits=32)
    return Clip(
        path=file,
        machine=clip.machine,
        section=clip.section,
        split="test",
        name=f"{fault}_{-level:g}dB_{clip.name}",
        label="anomaly",
        attributes=clip.attributes,
    )


def evenly(clips: Sequence[Clip], n: int) -> list[Clip]:
    """At most n clips, evenly from the first to the last."""
    if len(clips) <= n:
        return list(clips)
    return [clips[round(i)] for i in np.linspace(0, len(clips) - 1, n)]
