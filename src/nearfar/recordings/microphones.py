"""What two microphones give: near, far, near without what the far one explains.

Conventions
-----------
Samples are ``(channels, samples)`` as in ``audio``. A *microphone view* is a function from them to one
waveform, ``(samples,)``; ``MICROPHONES`` names the views and says how many channels each needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.cancellation import Canceller, overlap_added
from nearfar.recordings.coherence import FORGETTING, CoherenceWeighting
from nearfar.recordings.transforms import BLOCK, Transforms, framed, hann

Waveform = NDArray[np.float32]

N_FFT, HOP = 1024, 512  # of the cancellation; W1 of the DCASE 2026 recipes
EPSILON = 1e-12  # added to the far channel's energy in a bin; the same source
BINS = 1 + N_FFT // 2
HANN = hann(N_FFT)

NAMES = ("near", "far")  # by channel


class MicrophoneError(ValueError):
    """The channels that a recording has are not those that a view needs."""


def near(samples: Samples) -> Waveform:
    """The near microphone."""
    return samples[NEAR]


def far(samples: Samples) -> Waveform:
    """The far microphone."""
    return samples[FAR]


def cancelled(samples: Samples) -> Waveform:
    r"""The near microphone without what the far one explains: least-squares noise cancellation, W1.

    With C and F the short-time spectra of near and far, one complex coefficient a bin over the recording,

    .. math:: H(f) = \frac{\sum_t C(f,t) \overline{F(f,t)}}{\sum_t |F(f,t)|^2 + 10^{-12}}, \quad Y = C - H F.

    It has no parameters to learn and looks at one recording at a time. Where the machine itself reaches the
    far microphone it cancels a part of the machine as well: keep the raw near channel beside it.

    Parameters
    ----------
    samples : (2, samples) array

    Returns
    -------
    (samples,) array
        Equal to the near channel where the far one is silent.
    """
    length = samples.shape[-1]
    frames_of_near, frames_of_far = framed(samples[NEAR], N_FFT), framed(samples[FAR], N_FFT)
    n = 1 + length // HOP  # the frame beyond them only closes the overlap at the end
    cross = np.zeros(BINS, np.complex64)
    energy = np.zeros(BINS, np.float32)
    of_far = np.empty((len(frames_of_far), BINS), np.complex64)
    for i in range(0, len(of_far), BLOCK):
        of_near = scipy.fft.rfft(frames_of_near[i : i + BLOCK] * HANN)
        of_far[i : i + BLOCK] = block = scipy.fft.rfft(frames_of_far[i : i + BLOCK] * HANN)
        cross += (of_near * block.conj())[: max(0, n - i)].sum(axis=0)
        energy += (block.real**2 + block.imag**2)[: max(0, n - i)].sum(axis=0)
    response = cross / (energy + np.float32(EPSILON))
    explained = (of_far[i : i + BLOCK] * response for i in range(0, len(of_far), BLOCK))
    return samples[NEAR] - overlap_added(explained, len(of_far), N_FFT, length)


@dataclass(frozen=True, slots=True)
class Microphone:
    """A microphone view, ``view(samples)`` is (samples,), and the microphones that it hears."""

    view: Callable[[Samples], Waveform]
    hears: tuple[str, ...]

    @property
    def channels(self) -> int:
        """How many channels a recording must have."""
        return 1 + max(NAMES.index(name) for name in self.hears)


MICROPHONES = {
    "near": Microphone(near, ("near",)),
    "far": Microphone(far, ("far",)),
    "cancelled": Microphone(cancelled, ("near", "far")),
    "cancelled_3taps": Microphone(Canceller(2048, (-1, 0, 1)), ("near", "far")),
    "cancelled_5taps": Microphone(Canceller(1024, (-2, -1, 0, 1, 2)), ("near", "far")),
    "cancelled_4096": Microphone(Canceller(4096, (0,)), ("near", "far")),
    "coherence_weighted": Microphone(CoherenceWeighting(), ("near", "far")),
    "coherence_weighted_running": Microphone(CoherenceWeighting(forgetting=FORGETTING), ("near", "far")),
}


def listen(samples: Samples, microphone: str, transforms: Transforms | None = None) -> Waveform:
    """The waveform of a microphone view, (samples,).

    Parameters
    ----------
    samples : (channels, samples) array
    microphone : str
        Of ``MICROPHONES``.
    transforms : Transforms or None
        Of these samples, if others look at them, too.

    Raises
    ------
    MicrophoneError
        If the recording has fewer channels than the view needs.
    """
    chosen = MICROPHONES[microphone]
    if len(samples) < chosen.channels:
        raise MicrophoneError(
            f"microphone {microphone!r} needs {chosen.channels} channels (near, far), but the recording has "
            f"{len(samples)}; record both microphones, or choose a system that uses only the near one"
        )
    if isinstance(chosen.view, Canceller):
        return chosen.view(samples, transforms)
    return chosen.view(samples)


def heard_through(transforms: Transforms, microphone: str) -> Transforms:
    """The waveform of a microphone view as ``listen`` gives it, with its spectra, for all that look at the samples.

    Parameters
    ----------
    transforms : Transforms
        Of the samples.
    microphone : str
        Of ``MICROPHONES``.

    Returns
    -------
    Transforms
        Of (1, samples).

    Raises
    ------
    MicrophoneError
        As ``listen``.
    """
    view = MICROPHONES[microphone].view
    if isinstance(view, Canceller) and len(transforms.samples) > FAR:
        return view.heard(transforms)
    return transforms.derived(microphone, lambda: listen(transforms.samples, microphone))


def frame_lengths(microphone: str) -> tuple[int, ...]:
    """Of which lengths a microphone view looks at the spectra of a recording's frames."""
    view = MICROPHONES[microphone].view
    return (view.n_fft,) if isinstance(view, Canceller) else ()
