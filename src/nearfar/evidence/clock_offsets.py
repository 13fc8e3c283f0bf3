r"""How the clocks of two channels differ: the delay between them, and by how much one runs faster.

With :math:`U_t(f)` the cross-spectrum of near and far in frame t, with magnitude one in each bin, the phase of

.. math:: A(f) = \sum_t U_{t + m}(f)\, \overline{U_t(f)}

does not depend on where machine, surroundings and microphones are, as long as they stay there. If one clock
runs faster by d, it is :math:`-2 \pi f d m \Delta`, where frames are :math:`\Delta` apart. So the inverse
transform of A has its peak at the lag :math:`d m \Delta`. Here m is half of the frames. The error is a
jackknife's, over stretches of the recording.

The *delay* is the lag at which the mean of U, with that drift taken out, has its peak: what the generalized
cross-correlation with phase transform gives [1]_. It is that of the sound and that of the clocks together; only
changes of it, from recording to recording, tell about clocks.

References
----------
.. [1] C. Knapp and G. Carter, "The generalized correlation method for estimation of time delay," IEEE
   Transactions on Acoustics, Speech, and Signal Processing 24, 1976.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import Samples
from nearfar.recordings.inspection.measured import OVERLAP_BELOW_SECONDS, frame_length, unit_phases

STRETCHES = 8  # of the jackknife
FEWEST_SECONDS = 2.0
STANDS_OUT = (
    8.0  # times the root mean square of all lags: of two noises, the largest of 65,536 lags is 4.3 times
)
FINE = 32  # steps of a sample
LOWEST_HZ = 50.0  # below lie wind, handling, and the couplings of inputs

Phases = NDArray[np.complex64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Delay and drift between two channels of one recording.

    Attributes
    ----------
    delay : float
        Seconds by which near is later than far; NaN if it cannot be told.
    drift : float
        Parts per million by which near falls behind far, in each second; NaN if it cannot be told.
    error : float
        Standard error of the drift, in parts per million.
    why_not : str
        Why something cannot be told; empty if all can.
    """

    delay: float = np.nan
    drift: float = np.nan
    error: float = np.nan
    why_not: str = ""


def clock_offset(samples: Samples, rate: int) -> ClockOffset:
    """Delay and drift between the channels of a recording.

    Parameters
    ----------
    samples : (2, samples) array
    rate : int
        In Hz.

    Examples
    --------
    The same noise, in near five samples later.

    >>> import numpy as np
    >>> from nearfar.evidence.clock_offsets import clock_offset
    >>> noise = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    >>> found = clock_offset(np.stack([np.roll(noise, 5), noise]), 16000)
    >>> round(found.delay * 1000, 3), abs(found.drift) < 1
    (0.312, True)
    """
    if len(samples) < 2:
        return ClockOffset(why_not="there is one channel only")
    if samples.shape[1] < FEWEST_SECONDS * rate:
        return ClockOffset(why_not=f"clips are shorter than {FEWEST_SECONDS:g} s")
    hertz = np.arange(frame_length(rate) // 2 + 1) * rate / frame_length(rate)
    phases = np.where(hertz >= LOWEST_HZ, unit_phases(samples[:2], rate), 0)
    hop = _hop(samples.shape[1], rate)
    half = len(phases) // 2
    products = phases[half : 2 * half] * phases[:half].conj()
    lag, stands_out = _peak(products.sum(axis=0))
    if not stands_out:
        return ClockOffset(why_not="near and far have too little in common")
    stretches = np.array_split(np.arange(half), STRETCHES)
    left_out = np.array([_fine_peak(np.delete(products, one, axis=0).sum(axis=0), lag) for one in stretches])
    spread = float(np.sqrt((STRETCHES - 1) / STRETCHES * np.sum((left_out - left_out.mean()) ** 2)))
    drift = lag / rate / (half * hop)  # seconds in a second
    since_beginning = (
        np.arange(len(phases)) * hop + 0.5 * frame_length(rate) / rate
    )  # of the middle of a frame
    turned = phases * np.exp(2j * np.pi * drift * np.outer(since_beginning, hertz))
    delay, is_one = _peak(turned.sum(axis=0))
    return ClockOffset(
        delay=delay / rate if is_one else np.nan,
        drift=1e6 * drift,
        error=1e6 * spread / rate / (half * hop),
        why_not="" if is_one else "no single delay stands out",
    )


def _hop(samples: int, rate: int) -> float:
    """Seconds between the frames of ``unit_phases``, which overlap in short recordings."""
    overlap = 2 if samples < OVERLAP_BELOW_SECONDS * rate else 1
    return frame_length(rate) / overlap / rate


def _peak(spectrum: NDArray[np.complexfloating]) -> tuple[float, bool]:
    """The lag in samples, to a fraction, at which the inverse transform is largest; and whether it stands out."""
    lags = scipy.fft.irfft(spectrum)
    at = int(lags.argmax())
    signed = at - len(lags) if at > len(lags) // 2 else at
    stands_out = bool(lags[at] > STANDS_OUT * np.sqrt(np.mean(lags**2)) and lags[at] > 0)
    return _fine_peak(spectrum, float(signed)), stands_out


def _fine_peak(spectrum: NDArray[np.complexfloating], around: float) -> float:
    """The lag within a sample of ``around`` at which the inverse transform is largest: by a parabola."""
    steps = around + np.arange(-FINE, FINE + 1) / FINE
    angles = np.outer(steps, np.arange(len(spectrum)) * np.pi / (len(spectrum) - 1))
    values: Float = (np.exp(1j * angles) @ spectrum).real
    at = int(np.clip(values.argmax(), 1, len(values) - 2))
    below, top, above = values[at - 1 : at + 2]
    bend = below - 2 * top + above
    return float(steps[at] + (0.5 * (below - above) / bend / FINE if bend < 0 else 0.0))
