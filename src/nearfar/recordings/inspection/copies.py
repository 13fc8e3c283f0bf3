"""Copies among recordings: the same samples, or the same sound with another gain or encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from nearfar.recordings.audio import INT16_SCALE, Samples
from nearfar.recordings.inspection.measured import Float, Measured

SAME_DB = (
    0.3  # RMS difference of the levels of blocks, without their mean, of clips that are looked at closely
)
SAME = 0.98  # correlation of the waveforms of copies: encoding with loss leaves more
LARGEST_SHIFT = 4096  # samples that an encoder may add at the beginning


def digest(samples: Samples) -> bytes:
    """SHA-256 of the samples as 16-bit integers: equal for copies in other containers."""
    rounded = np.rint(np.clip(samples, -32, 32) * np.float32(1 / INT16_SCALE)).astype(np.int32)
    return hashlib.sha256(rounded.tobytes()).digest()


def originals_first(name: str) -> tuple[int, str]:
    """To sort by: "a (1).wav" is the copy of "a.wav"."""
    return len(name), name


def find_copies(
    digests: Sequence[bytes],
    measured: Sequence[Measured],
    read: Callable[[int], Samples],
    *,
    recordings: Sequence[str] | None = None,
) -> dict[int, int]:
    """For each copy, the number of the first recording that it is a copy of.

    Parameters
    ----------
    digests : sequence of bytes
    measured : sequence of Measured
        Of each recording, in the same order.
    read : callable
        Gives the samples of a recording, for a comparison of waveforms.
    recordings : sequence of str or None
        What each is a part of; empty: of nothing. Parts of one recording are no copies, however alike they are.
    """
    known = [""] * len(digests) if recordings is None else recordings
    copies = _same_samples(digests, known)
    for number, like in _alike(measured, known):
        if number not in copies and like not in copies and _same_sound(read(number), read(like)):
            copies[number] = like
    return copies


def _same_samples(digests: Sequence[bytes], recordings: Sequence[str]) -> dict[int, int]:
    """For each one with the samples of an earlier one, which is no part of the same recording, the first such."""
    seen: dict[bytes, list[int]] = {}
    copies = {}
    for number, sha in enumerate(digests):
        earlier = seen.setdefault(sha, [])
        if (like := next((n for n in earlier if _apart(recordings, n, number)), None)) is not None:
            copies[number] = like
        earlier.append(number)
    return copies


def _apart(recordings: Sequence[str], one: int, other: int) -> bool:
    """Whether two are not parts of one recording."""
    return not recordings[one] or recordings[one] != recordings[other]


def _alike(measured: Sequence[Measured], recordings: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (later, earlier) whose levels go up and down alike, block by block."""
    found = []
    sizes = sorted({one.blocks.shape for one in measured})
    for size in sizes:
        numbers = [number for number, one in enumerate(measured) if one.blocks.shape == size]
        rows = np.stack([_pattern(measured[number].blocks) for number in numbers])
        of = np.array([recordings[number] for number in numbers])
        squares = (rows**2).sum(axis=1)
        limit = SAME_DB**2 * rows.shape[1]
        for later in range(1, len(numbers)):
            distance = squares[later] + squares[:later] - 2 * rows[:later] @ rows[later]
            varied = np.minimum(squares[later], squares[:later]) > limit
            apart = (of[:later] != of[later]) | (of[later] == "")
            near = np.flatnonzero((distance < limit) & varied & apart)
            found += [(numbers[later], numbers[int(earlier)]) for earlier in near[:1]]
    return found


def _pattern(blocks: Float) -> Float:
    return (blocks - blocks.mean(axis=1, keepdims=True)).ravel()


def _same_sound(one: Samples, other: Samples) -> bool:
    """Whether the first channels are one waveform, but for gain and a small shift."""
    a, b = (x[0] - x[0].mean() for x in (one, other))
    length = 1 << int(np.ceil(np.log2(len(a) + len(b))))
    cross = np.fft.irfft(np.fft.rfft(a, length) * np.fft.rfft(b, length).conj())
    near = np.concatenate([cross[:LARGEST_SHIFT], cross[-LARGEST_SHIFT:]])
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return scale > 0 and float(np.abs(near).max()) / scale > SAME
