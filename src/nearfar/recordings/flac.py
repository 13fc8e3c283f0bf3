"""FLAC: what it can hold, and recordings as FLAC that give back the same samples.

Conventions
-----------
FLAC has integers of 16 or 24 bits. Samples that are such integers are kept exactly, as those of 16- and 24-bit PCM
are. Others, of floating-point files and of data acquisition, are multiplied by a power of two, so that their
largest one just fits, and are rounded to 24 bits: the error is at least 138 dB below the largest sample. Nothing
clips.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from nearfar.recordings.sound import AudioError, Samples, not_finite

FLAC_CHANNELS, FLAC_RATE = 8, 655_350  # the most that the format has
ANY_RATE = 65_535  # up to which it has every rate, in Hz; above, frames tell rates in steps of 10 Hz


@dataclass(frozen=True, slots=True)
class Encoded:
    """A recording as a FLAC file.

    Attributes
    ----------
    content : bytes
        Of the file.
    bits : {16, 24}
    exponent : int
        The recording is what the file holds, times ``2 ** exponent``; 0 where it is the same.
    """

    content: bytes
    bits: int
    exponent: int


def holds(channels: int, rate: int) -> bool:
    """Whether a FLAC file can have so many channels, and such a rate in Hz.

    Examples
    --------
    >>> from nearfar.recordings.flac import holds
    >>> holds(2, 48_000), holds(2, 65_536), holds(16, 48_000)
    (True, False, False)
    """
    known = 1 <= rate <= ANY_RATE or (rate <= FLAC_RATE and rate % 10 == 0)
    return 1 <= channels <= FLAC_CHANNELS and known


def encoded(samples: Samples, rate: int) -> Encoded:
    """A recording as FLAC; equal samples give equal bytes.

    Parameters
    ----------
    samples : (channels, samples) array
    rate : int
        In Hz.

    Raises
    ------
    AudioError
        If samples are not finite, or FLAC does not have so many channels, or such a rate.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.flac import decoded, encoded
    >>> volts = np.array([[0.1, -7.5, 3.0]], dtype=np.float32)  # beyond full scale
    >>> found = encoded(volts, 48_000)
    >>> found.bits, found.exponent
    (24, 3)
    >>> float(np.abs(decoded(found.content, found.exponent)[0] - volts).max()) < 7.5 / 2**23
    True
    """
    channels = len(samples)
    if not holds(channels, rate):
        raise AudioError(
            f"channels={channels}, rate={rate}: FLAC holds up to {FLAC_CHANNELS} channels and {FLAC_RATE} Hz, and "
            f"above {ANY_RATE} Hz only multiples of 10 Hz"
        )
    if not np.isfinite(samples).all():
        raise AudioError(not_finite(samples))
    bits, exponent = _bits_and_exponent(samples)
    whole = as_integers(np.ldexp(samples, -exponent), few=bits == 16)
    file = io.BytesIO()
    soundfile.write(file, whole, rate, subtype=f"PCM_{bits}", format="FLAC")
    return Encoded(file.getvalue(), bits, exponent)


def decoded(content: bytes, exponent: int = 0) -> tuple[Samples, int]:
    """The samples that ``encoded`` was given, (channels, samples), and their rate in Hz.

    Raises
    ------
    AudioError
        If it is no sound file.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(f"no sound file: {error}", fault="unreadable") from error
    return np.ascontiguousarray(np.ldexp(samples.T, exponent), dtype=np.float32), int(rate)


def _bits_and_exponent(samples: Samples) -> tuple[int, int]:
    for bits in (16, 24):
        scaled = np.ldexp(samples, bits - 1)
        if _are_integers(scaled, 2 ** (bits - 1)):
            return bits, 0
    return 24, int(np.frexp(np.abs(samples).max(initial=0))[1])


def _are_integers(scaled: Samples, scale: int) -> bool:
    """Whether all are whole numbers from ``-scale`` to below ``scale``."""
    return bool((np.rint(scaled) == scaled).all() and (scaled >= -scale).all() and (scaled < scale).all())


def as_integers(block: Samples, *, few: bool) -> NDArray[np.int16] | NDArray[np.int32]:
    """Samples in [-1, 1] as libsndfile takes them: exactly the integers that they were read from.

    Parameters
    ----------
    block : (channels, samples) array
    few : bool
        16 bits; else 24.

    Returns
    -------
    (samples, channels) array
    """
    scale = 2.0**15 if few else 2.0**23
    whole = np.clip(np.rint(block.T.astype(np.float64) * scale), -scale, scale - 1)
    return whole.astype(np.int16) if few else whole.astype(np.int32) << 8
