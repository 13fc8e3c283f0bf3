"""Recordings that are read a block at a time: what cannot be read of one does not hide the rest.

Conventions
-----------
A *block* is an array of (channels, samples), or says how many samples are lost. Blocks follow each other without a
gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from nearfar.recordings.recording import Recording
from nearfar.recordings.sound import AudioError, Header, Note, Samples, header_of_part


@dataclass(frozen=True, slots=True, eq=False)
class Lost:
    """Samples that a recording promises, and that cannot be read: how many follow each other, and why."""

    samples: int
    error: AudioError


Block = Samples | Lost


@dataclass(frozen=True, slots=True, eq=False)
class InBlocks:
    """A recording that is read a block at a time.

    Attributes
    ----------
    header : Header
        Of the chosen channels. It counts the samples that are missing, too.
    is_counted : bool
        Whether the header tells how many samples there are; otherwise they are known at the end.
    notes : tuple of Note
    blocks : callable
        ``blocks(start)`` gives the blocks from that sample on. The samples are not checked for being finite. Each
        call reads the recording anew; closing the iterator closes the files.
    """

    header: Header
    is_counted: bool
    notes: tuple[Note, ...]
    blocks: Callable[[int], Iterator[Block]]


def length_of(block: Block) -> int:
    """How many samples a block has, read or lost."""
    return block.samples if isinstance(block, Lost) else block.shape[1]


def part_of(whole: InBlocks, recording: Recording) -> InBlocks:
    """The part of a recording that it chooses, if it chooses one.

    Raises
    ------
    AudioError
        If the part is not there.
    """
    span = recording.span
    if span is None:
        return whole
    header = header_of_part(whole.header, span, str(recording), is_counted=whole.is_counted)

    def blocks(start: int) -> Iterator[Block]:
        left = len(span) - start
        found = whole.blocks(span.start + start)
        with closing([found]):
            while left > 0 and (block := next(found, None)) is not None:
                first = part_of_block(block, 0, min(left, length_of(block)))
                left -= length_of(first)
                yield first
        if left > 0:
            message = f"{recording}: the recording ends before this part does; cut it again"
            yield Lost(left, AudioError(message, fault="truncated"))

    return replace(whole, header=header, is_counted=True, blocks=blocks)


def side_by_side(tracks: Sequence[Iterator[Block]]) -> Iterator[Block]:
    """The channels of several files, as far as all have them; where one is lost, all are."""
    waiting: list[Block | None] = [None] * len(tracks)
    while True:
        heads = [next(t, None) if w is None else w for t, w in zip(tracks, waiting, strict=True)]
        there = [head for head in heads if head is not None]
        if len(there) < len(heads):
            return
        size = min(map(length_of, there))
        firsts = [part_of_block(head, 0, size) for head in there]
        lost = [first for first in firsts if isinstance(first, Lost)]
        yield lost[0] if lost else np.concatenate([f for f in firsts if not isinstance(f, Lost)])
        waiting = [part_of_block(head, size, n) if (n := length_of(head)) > size else None for head in there]


def part_of_block(block: Block, start: int, stop: int) -> Block:
    """The samples of a block from one to before another."""
    return Lost(stop - start, block.error) if isinstance(block, Lost) else block[:, start:stop]


@contextmanager
def closing(iterators: Iterable[Iterator[Block]]) -> Iterator[None]:
    """Close generators at the end, and with them the files that they read."""
    try:
        yield
    finally:
        for one in iterators:
            if (close := getattr(one, "close", None)) is not None:
                close()
