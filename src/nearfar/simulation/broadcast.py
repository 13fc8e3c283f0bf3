"""Broadcast Wave: a WAV file that says when it began, written piece by piece.

The chunk ``bext`` is that of EBU Tech 3285, version 2 (2011): the date and time of the first sample, and how many
samples lie between the midnight before and it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np

from nearfar.files.atomic import atomic_file
from nearfar.simulation.streams import Samples

ORIGINATOR = "nearfar simulate"
BITS = 16
SCALE = 32768
MOST_BYTES = 2**32 - 1024  # of the samples: RIFF counts with 32 bits


def write(
    path: Path, pieces: Iterable[Samples], *, samples: int, channels: int, rate: int, began: datetime
) -> int:
    """Write these pieces of (channels, n) samples as 16-bit PCM; what is beyond full scale is clipped.

    Returns
    -------
    int
        How many samples were clipped.

    Raises
    ------
    ValueError
        If the file would be too large for WAV, or if the pieces are shorter or longer than ``samples``.
    """
    size = samples * channels * BITS // 8
    if size > MOST_BYTES:
        raise ValueError(f"{path}: {size} bytes of samples, but WAV holds {MOST_BYTES}; write shorter files")
    clipped = written = 0
    with atomic_file(path) as part, part.open("wb") as file:
        file.write(_header(size, channels, rate, began))
        for piece in pieces:
            scaled = np.rint(piece.T * np.float32(SCALE))
            clipped += int(np.count_nonzero((scaled > SCALE - 1) | (scaled < -SCALE)))
            file.write(np.clip(scaled, -SCALE, SCALE - 1).astype("<i2").tobytes())
            written += piece.shape[-1]
        if written != samples:
            raise ValueError(f"{path}: {written} samples were written, but {samples} were announced")
    return clipped


def _header(size: int, channels: int, rate: int, began: datetime) -> bytes:
    """All that stands before the samples."""
    frame = channels * BITS // 8
    chunks = _chunk(b"bext", bext(began, rate)) + _chunk(
        b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, rate * frame, frame, BITS)
    )
    data = b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(data) + size) + b"WAVE" + chunks + data


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def bext(began: datetime, rate: int) -> bytes:
    """The content of the chunk: 602 bytes, without a coding history."""
    midnight = began.replace(hour=0, minute=0, second=0, microsecond=0)
    return struct.pack(
        "<256s32s32s10s8sQH64s5h180s",
        b"",
        ORIGINATOR.encode(),
        b"",
        began.strftime("%Y-%m-%d").encode(),
        began.strftime("%H:%M:%S").encode(),
        round((began - midnight).total_seconds() * rate),
        2,
        b"",
        *[0x7FFF] * 5,  # loudness, not measured
        b"",
    )
