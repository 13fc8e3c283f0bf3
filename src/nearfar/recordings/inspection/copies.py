"""Copies among recordings: the same samples, or the same sound with another gain or encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.audio import INT16_SCALE, Samples
from nearfar.recordings.inspection.measured import Float, Measured

SAME_DB = (
    0.3  # RMS difference of the levels of blocks, without their mean, of clips that are looked at closely
)
SAME = 0.98  # correlation of the waveforms of copies: encoding with loss leaves more
BLOCK = 500  # recordings that are compared at once with all before them
ROUNDING = 1e-12  # relative: of products, beyond which they cannot hide a pair
LARGEST_SHIFT = 4096  # samples that an encoder may add at the beginning


def digest(samples: Samples) -> bytes:
    """SHA-256 of the samples in steps of 16 bits: equal for copies in other containers."""
    with np.errstate(over="ignore"):
        whole = samples * np.float32(1 / INT16_SCALE)
    np.rint(whole, out=whole)
    if np.abs(whole).max() < 2**15:
        integers = whole.astype(np.int16)
    else:  # full scale, or beyond; what is far beyond is no sound
        integers = np.clip(whole, -32 / INT16_SCALE, 32 / INT16_SCALE).astype(np.int32)
    return hashlib.sha256(np.ascontiguousarray(integers).data).digest()


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
        first = _first_near(rows, of, SAME_DB**2 * rows.shape[1])
        found += [(numbers[later], numbers[earlier]) for later, earlier in first]
    return found


def _first_near(rows: Float, of: NDArray[np.str_], limit: float) -> Iterator[tuple[int, int]]:
    """Of each row the first earlier one that is less than the root of ``limit`` away: (later, earlier).

    Rows of one recording are not compared, nor those that hardly vary. Products of blocks find what may be near;
    differences decide.
    """
    squares = (rows**2).sum(axis=1)
    varied = np.flatnonzero(squares > limit)
    near: dict[int, int] = {}
    for start in range(0, len(varied), BLOCK):
        later = varied[start : start + BLOCK]
        earlier = varied[: start + BLOCK]
        both = squares[later][:, None] + squares[earlier]
        found = both - 2 * rows[later] @ rows[earlier].T < limit + ROUNDING * both
        for i, j in zip(
            later[np.nonzero(found)[0]].tolist(), earlier[np.nonzero(found)[1]].tolist(), strict=True
        ):
            apart = j < i and (of[i] != of[j] or not of[i])
            if apart and i not in near and ((rows[i] - rows[j]) ** 2).sum() < limit:
                near[i] = j
    yield from near.items()


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
