"""Raw samples: which formats there are, and what they become.

Conventions
-----------
*Frames* are (samples, channels), as they lie in a stream: 16-bit and 32-bit integers, unsigned bytes, or floating
point. *Samples* are (channels, samples) float32 in [-1, 1), as everywhere else. Formats are called as ``ffmpeg``
calls them.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.audio import Samples

Format = Literal["s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "u8"]
Frames = NDArray[Any]

# Of each format, the type of a sample. Samples of 24 bits have none: they become the upper ones of 32.
_TYPES: dict[str, str] = {
    "s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "s32be": ">i4", "f32le": "<f4", "f32be": ">f4", "u8": "u1",
}  # fmt: skip
_ORDERS = {"s24le": "little", "s24be": "big"}
_SCALES = {np.dtype(np.int16): 2.0**-15, np.dtype(np.int32): 2.0**-31, np.dtype(np.uint8): 2.0**-7}
MIDDLE = 128  # of unsigned bytes


def frame_bytes(format: Format, channels: int) -> int:
    """How many bytes a frame has."""
    return channels * (3 if format in _ORDERS else np.dtype(_TYPES[format]).itemsize)


def frames_of(content: bytes, format: Format, channels: int) -> Frames:
    """The frames that bytes are: (samples, channels), in the order of bytes of this computer.

    Parameters
    ----------
    content : bytes
        Whole frames: a multiple of ``frame_bytes``.
    format : str
    channels : int

    Examples
    --------
    >>> from nearfar.watching.sources.pcm import frames_of
    >>> frames_of(bytes([0, 128, 255, 127]), "s16le", 2).tolist()
    [[-32768, 32767]]
    >>> (frames_of(bytes([0, 0, 128]), "s24le", 1) / 2**31).tolist()
    [[-1.0]]
    """
    if format not in _ORDERS:
        found = np.frombuffer(content, _TYPES[format]).reshape(-1, channels)
        return found.astype(found.dtype.newbyteorder("="), copy=False)
    thirds = np.frombuffer(content, np.uint8).reshape(-1, 3)
    whole = np.zeros((len(thirds), 4), np.uint8)
    upper = slice(1, 4) if sys.byteorder == "little" else slice(0, 3)
    whole[:, upper] = thirds if _ORDERS[format] == sys.byteorder else thirds[:, ::-1]
    return whole.view(np.int32).reshape(-1, channels)


def samples_of(frames: Frames) -> Samples:
    """Frames as samples: (channels, samples) float32."""
    samples: Samples = np.ascontiguousarray(frames.T, dtype=np.float32)
    if frames.dtype.kind == "u":
        samples -= MIDDLE
    scale = _SCALES.get(frames.dtype)
    if scale is not None:
        samples *= np.float32(scale)
    return samples
