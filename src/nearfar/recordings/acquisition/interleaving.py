"""Whether one channel holds the samples of several in turn.

asammdf writes a block of shape (samples, 2) as one channel: the first half of the recording, near and far in turn.
Nothing in such a file says so. But the power of its even and of its odd samples differs as near and far do, or
neighbours correlate in every second pair only. No sound does that: a sample does not know whether it is even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LOOKED_AT = 2**18  # samples
FEWEST_LOOKED_AT = 512
MOST_CHANNELS = 4
OWN_IMAGE = (
    0.02  # of the sampling rate, around tones that meet themselves when every n-th sample is told apart
)
PERIODIC = 0.05  # of the power; two microphones of 0.43 dB difference reach it
CHANCE = 8.0  # standard deviations of noise


def interleaved(values: NDArray[Any]) -> int:
    """How many channels take turns in these samples: 1 for sound as it was recorded.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.acquisition.interleaving import interleaved
    >>> near, far = np.random.default_rng(0).standard_normal((2, 4000)) * [[1.0], [0.5]]
    >>> interleaved(near), interleaved(np.stack([near, far], axis=1).ravel())
    (1, 2)
    """
    x = np.asarray(values[:MOST_LOOKED_AT], dtype=np.float64)
    if x.size < FEWEST_LOOKED_AT or not np.isfinite(x).all():
        return 1
    limit = max(PERIODIC, CHANCE / np.sqrt(x.size))
    for count in range(2, MOST_CHANNELS + 1):
        if _turns(x, count) > limit:
            return count
    return 1


def _turns(x: NDArray[np.float64], count: int) -> float:
    """How strongly power, or the product of neighbours, repeats with every ``count`` samples; at most 1."""
    x = x[: x.size // (2 * count) * 2 * count]
    spectrum = np.fft.rfft(x - x.mean())
    frequency = np.arange(spectrum.size) / x.size
    for image in np.arange(0, count + 1) / (2 * count):
        spectrum[np.abs(frequency - image) < OWN_IMAGE] = 0
    x = np.fft.irfft(spectrum, n=x.size)
    power = float((x**2).sum())
    if power == 0:
        return 0.0
    turn = np.exp(-2j * np.pi * np.arange(x.size) / count)
    return max(abs(turn @ (x * np.roll(x, lag))) for lag in (0, 1)) / power
