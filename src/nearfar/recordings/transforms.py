"""Short-time spectra of a recording: computed once for all that look at them, and once where windows overlap.

Conventions
-----------
Frames are Hann windows that overlap by half, centred in zeros: frame t is centred at sample ``t * hop``. It is
*inner* if it lies wholly within the recording. Samples are ``(channels, samples)``, as in ``audio``.

Two windows of a recording have the same inner frames where they overlap, if their distance is a multiple of the
hop. The same frames give the same bits, so that it makes no difference whether another window was looked at before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from functools import cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import Samples

Waveform = NDArray[np.float32]
Spectra = NDArray[np.complex64]  # (frames, bins)

BLOCK = 64  # frames of 1,024 at a time: fits the cache; larger temporaries cost page faults
BLOCK_SAMPLES = BLOCK * 1024  # where frames are longer
USUAL_MARGIN = 2  # frames of zeros around, as many as any microphone view asks for


@cache
def hann(n_fft: int) -> NDArray[np.float32]:
    """The periodic window."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    window.setflags(write=False)
    return window


def framed(waveform: Waveform, n_fft: int) -> NDArray[np.float32]:
    """Centred in zeros, the last one reaching past the end: a view of (frames, n_fft)."""
    hop, length = n_fft // 2, len(waveform)
    padded = np.empty(hop + length + -length % hop + hop, waveform.dtype)
    padded[:hop] = padded[hop + length :] = 0
    padded[hop : hop + length] = waveform
    halves = padded.reshape(-1, hop)
    # two halves side by side; NumPy's own ways to say this take as long as to transform some frames
    shape, strides = (len(halves) - 1, 2 * hop), (halves.strides[0], padded.strides[0])
    frames: NDArray[np.float32] = np.ndarray(shape, padded.dtype, padded, strides=strides)
    return frames


def frames_at_once(n_fft: int) -> int:
    """How many frames are worked on together."""
    return max(1, BLOCK_SAMPLES // n_fft)


def transform(frames: NDArray[np.float32], out: Spectra) -> None:
    """The spectra of frames, (frames, n_fft) to (frames, bins), under the window."""
    n_fft = frames.shape[1]
    window, size = hann(n_fft), frames_at_once(n_fft)
    for i in range(0, len(frames), size):
        out[i : i + size] = scipy.fft.rfft(frames[i : i + size] * window, overwrite_x=True)


def powers(spectra: NDArray[np.complexfloating[Any]]) -> NDArray[np.floating[Any]]:
    """Squared magnitudes, of the same shape; the last axis is contiguous."""
    squares = np.square(spectra.view(spectra.real.dtype))
    total: NDArray[np.floating[Any]] = squares[..., 0::2] + squares[..., 1::2]
    return total


class Overlap:
    """Spectra of inner frames of one recording, kept from one window to the next, in order of time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], _Frames] = {}

    def spectra(
        self, channel: int, frames: NDArray[np.float32], base: int, inner: int, margin: int
    ) -> Spectra:
        """Of the frames of a window, with frames of zeros around.

        Parameters
        ----------
        channel : int
        frames : (frames, n_fft) array
        base : int
            Which frame of the recording the first one is; not before that of the window before.
        inner : int
            Frames from 1 to before that one lie within the window.
        margin : int
            How many frames of zeros there are to be before and behind.

        Returns
        -------
        (margin + frames + margin, bins) array
            Which holds until the next window.
        """
        kept = self._kept.setdefault((channel, frames.shape[1]), _Frames(frames.shape[1]))
        return kept.of_window(frames, base, inner, margin)


class _Frames:
    """Spectra of frames that follow each other, of which those from ``first`` to before ``stop`` are of inner ones.

    What is not of an inner frame of the recording, or is of one that no later window needs, is written over.
    """

    def __init__(self, n_fft: int) -> None:
        self._first = self._stop = 0
        self._array: Spectra = np.empty((0, n_fft // 2 + 1), np.complex64)
        self._zero = 0  # where in the array frame 0 of the recording would be

    def of_window(self, frames: NDArray[np.float32], base: int, inner: int, margin: int) -> Spectra:
        begin, end = base - margin, base + len(frames) + margin
        if not self._first <= base + 1 <= self._stop:
            self._first = self._stop = base + 1
        self._first = base + 1
        self._make_room(begin, end)
        own = self._array[begin + self._zero : end + self._zero]
        new = self._stop - base  # the first one that no window had
        transform(frames[new:], own[margin + new : margin + len(frames)])
        transform(frames[:1], own[margin : margin + 1])
        own[:margin] = own[margin + len(frames) :] = 0
        self._stop = base + max(new, inner)
        return own

    def _make_room(self, begin: int, end: int) -> None:
        """For frames from one to before another."""
        if begin + self._zero >= 0 and end + self._zero <= len(self._array):
            return
        there = self._array[self._first + self._zero : self._stop + self._zero]
        if 2 * (end - begin) > len(self._array):
            self._array = np.empty((2 * (end - begin), self._array.shape[1]), np.complex64)
        self._zero = -begin
        self._array[self._first - begin : self._stop - begin] = there


class Transforms:
    """The short-time spectra of one recording, or of one window of a recording.

    Parameters
    ----------
    samples : (channels, samples) array
    wanted : collection of int
        Lengths of frames that will be asked for in any case: others may look at these, too.
    overlap : Overlap or None
        What windows before have left.
    origin : int
        Which sample of the recording the first one is.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        wanted: Collection[int] = (),
        overlap: Overlap | None = None,
        origin: int = 0,
    ) -> None:
        self.samples = samples
        self.wanted = frozenset(wanted)
        self._overlap = overlap
        self._origin = origin
        self._found: dict[tuple[int, int], tuple[int, Spectra]] = {}
        self._derived: dict[Hashable, Transforms] = {}

    def spectra(self, channel: int, n_fft: int, *, margin: int = 0) -> Spectra:
        """Of one channel, (margin + frames + margin, bins), with so many frames of zeros around; only to read."""
        there, spectra = self._found.get((channel, n_fft), (-1, None))
        if spectra is None or there < margin:
            there = max(margin, USUAL_MARGIN)
            spectra = self._spectra(channel, n_fft, there)
            self._found[channel, n_fft] = there, spectra
        return spectra[there - margin : len(spectra) - (there - margin)]

    def derived(self, how: Hashable, make: Callable[[], Waveform]) -> Transforms:
        """Of a waveform that is made of these samples: made once for all that name it alike; only to read.

        Parameters
        ----------
        how : hashable
            What makes it, such as a ``Canceller``.
        make : callable
            Gives it, (samples,), if nobody has asked for it before.
        """
        if how not in self._derived:
            self._derived[how] = Transforms(make()[None])
        return self._derived[how]

    def _spectra(self, channel: int, n_fft: int, margin: int) -> Spectra:
        hop, frames = n_fft // 2, framed(self.samples[channel], n_fft)
        inner = self.samples.shape[1] // hop
        if self._overlap is not None and self._origin % hop == 0 and inner > 1:
            return self._overlap.spectra(channel, frames, self._origin // hop, inner, margin)
        spectra = np.empty((margin + len(frames) + margin, hop + 1), np.complex64)
        spectra[:margin] = spectra[margin + len(frames) :] = 0
        transform(frames, spectra[margin : margin + len(frames)])
        return spectra
