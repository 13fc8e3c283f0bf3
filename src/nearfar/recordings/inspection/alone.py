"""What one recording shows by itself, without any other to compare it with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nearfar.recordings.inspection.faults import BOTH, RecordingFault
from nearfar.recordings.inspection.measured import BLOCK_SECONDS, FLAT_SHARE, Float, Measured
from nearfar.recordings.microphones import NAMES

# Our own limits, no one's standard.
DEAD_DBFS = -90.3  # one step of 16 bits: nothing but converter noise
DEAF_DBFS = -60.0  # a channel below it is deaf if it also hears nothing but white noise
WHITE_DB = 2.0  # largest deviation of a band of white noise from the mean of all
UNLIKE = 0.2  # coherence of two microphones that hear nothing in common, at most
IDENTICAL = 0.9999  # correlation of two channels that are one; real ones differ in their own noise
ALIKE = 0.998  # coherence, in most bands, of two channels that are one
GAP_DB = 30.0  # by which a part of a clip is quieter than the clip, if it is gone
GAP_BLOCKS = 2  # at least so many in a row
LOUDER_DB = 12.0  # than dead, of a clip in which a gap can be told
OFFSET = 0.05  # of full scale


def faults_alone(measured: Measured) -> list[RecordingFault]:
    """Everything that is wrong with a recording whatever the others are like; empty if nothing is."""
    names = NAMES[: len(measured.level)]
    silent = [_silence(measured, channel, name) for channel, name in enumerate(names)]
    found = [fault for fault in silent if fault is not None]
    for channel, name in enumerate(names):
        if silent[channel] is None:
            found += _of_channel(measured, channel, name)
    if measured.pair is not None and not any(silent) and (doubled := _doubling(measured)):
        found.append(doubled)
    return found


def has_two_signals(measured: Measured) -> bool:
    """Whether neither channel is silent, and they are not one signal: else nothing can be said of both together."""
    silent = any(
        _silence(measured, channel, name) for channel, name in enumerate(NAMES[: len(measured.level)])
    )
    return not silent and (measured.pair is None or _doubling(measured) is None)


def _silence(measured: Measured, channel: int, name: str) -> RecordingFault | None:
    level = float(measured.level[channel])
    if level < DEAD_DBFS:
        return RecordingFault(
            "dead", name, f"the {name} microphone is silent ({level:.0f} dBFS); check its cable and supply"
        )
    if level < DEAF_DBFS and is_white(measured.bands[channel]) and _hears_nothing(measured):
        return RecordingFault(
            "deaf",
            name,
            f"the {name} microphone hears nothing but the noise of its converter ({level:.0f} dBFS, white); check "
            "its cable, its supply and its gain",
        )
    return None


def is_white(bands: Float) -> bool:
    """Whether the power density is the same in all bands: (B,)."""
    return float(np.abs(bands - bands.mean()).max()) < WHITE_DB


def _hears_nothing(measured: Measured) -> bool:
    """Whether the two channels have nothing in common, as far as it can be told."""
    return measured.pair is None or measured.pair.likeness < UNLIKE


def _of_channel(measured: Measured, channel: int, name: str) -> Iterator[RecordingFault]:
    if gap := _gap(measured, channel):
        yield RecordingFault(
            "gone", name, f"the {name} microphone is gone {gap}; check for a loose plug or lost samples"
        )
    if measured.flat[channel] > FLAT_SHARE:
        yield RecordingFault(
            "clipped",
            name,
            f"the {name} microphone clips ({measured.flat[channel]:.2%} of the time); turn its gain down",
        )
    offset = float(measured.mean[channel])
    if abs(offset) > max(OFFSET, 10 ** (measured.level[channel] / 20)):
        yield RecordingFault(
            "offset",
            name,
            f"the {name} channel has an offset of {offset:.2g}, more than its sound; check the input's coupling",
        )


def _gap(measured: Measured, channel: int) -> str:
    """How long and where the channel is gone, in words; empty if it is not."""
    levels, usual = measured.blocks[channel], float(np.median(measured.blocks[channel]))
    loudest = measured.loud(channel)
    if loudest < DEAD_DBFS + LOUDER_DB:
        return ""
    if measured.stuck[channel] > 0:
        return f"for {measured.stuck[channel]:.3g} s (its samples stand still)"
    start, length = longest_run(levels < min(DEAD_DBFS + LOUDER_DB / 2, usual - GAP_DB, loudest - GAP_DB))
    return describe_gap(start, length) if length >= GAP_BLOCKS else ""


def longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest run of true values; length 0 if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    if len(starts) == 0:
        return 0, 0
    longest = int((ends - starts).argmax())
    return int(starts[longest]), int(ends[longest] - starts[longest])


def describe_gap(start: int, length: int) -> str:
    """A run of blocks in words."""
    return f"for {length * BLOCK_SECONDS:.3g} s from {start * BLOCK_SECONDS:.3g} s on"


def _doubling(measured: Measured) -> RecordingFault | None:
    pair = measured.pair
    assert pair is not None
    if pair.correlation < IDENTICAL and pair.likeness < ALIKE:
        return None
    return RecordingFault(
        "identical",
        BOTH,
        f"near and far are one signal (correlation {pair.correlation:.5f}, coherence {pair.likeness:.4f}); a mono "
        "recording was probably doubled",
    )
