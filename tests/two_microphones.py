"""Made recordings of a machine with two microphones: quick to make, each with other noise."""

from __future__ import annotations

import numpy as np
import scipy.signal

RATE = 16_000


def decibels(waveform):
    return 10 * np.log10(np.mean(np.asarray(waveform, np.float64) ** 2))


def tone(frequency, amplitude=1.0, seconds=2.0, rate=RATE):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate + 0.3)


def pcm(waveform, bits=16):
    """What a converter gives: rounded to steps, and cut off at full scale."""
    steps = 2 ** (bits - 1)
    return (np.clip(np.rint(waveform * steps), -steps, steps - 1) / steps).astype(np.float32)


def coloured(rng, corner, samples):
    """Noise below ``corner`` Hz, of RMS one."""
    noise = scipy.signal.lfilter(*scipy.signal.butter(2, corner, fs=RATE), rng.standard_normal(samples))
    return noise / noise.std()


def recording(rng, samples=2 * RATE, *, runs=1.0, gain=1.0, bits=16):
    """A bright machine close to the near microphone, dull surroundings in both: (2, samples).

    Parameters
    ----------
    rng : Generator
    samples : int
    runs : float or (samples,) array
        How loud the machine is; 0: it is switched off.
    gain : float or (2, 1) array
        Of the recorder.
    bits : int
        Of its converters.
    """
    machine = rng.standard_normal(samples) * rng.uniform(0.08, 0.12) * runs
    surroundings = coloured(rng, 1500, samples) * rng.uniform(0.05, 0.1)
    late = np.roll(surroundings, 40)
    own = 0.002 * rng.standard_normal((2, samples))
    heard = np.stack([machine + 0.5 * late, 0.2 * np.roll(machine, 60) + surroundings])
    return pcm(gain * (heard + own), bits)
