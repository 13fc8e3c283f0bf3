"""Windows of a recording by a loop, and their samples by loading the whole."""

from __future__ import annotations

from pathlib import Path

from nearfar.recordings import audio


def windows(samples: int, length: int, hop: int) -> list[tuple[int, int]]:
    """First sample of each window, and the one after its last."""
    if samples <= length:
        return [(0, samples)] if samples else []
    found = []
    start = 0
    while start + length <= samples:
        found.append((start, start + length))
        start += hop
    rest = samples - found[-1][1]
    if rest and rest >= 0.01 * length:
        found.append((samples - length, samples))
    return found


def window_samples(path: Path, start: int, stop: int) -> audio.Samples:
    """Of one window: (channels, samples)."""
    return audio.read(path)[0][:, start:stop]
