"""Windows of a recording that is read once, from beginning to end: memory does not grow with its length.

Conventions
-----------
Samples are ``(channels, samples)`` at the recording's own rate, as in ``audio``. They are not resampled here: a
window is resampled by itself, as a clip is, so that it sounds the same whatever comes before it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings import audio
from nearfar.recordings.audio import INT16_SCALE, RAW_FORMAT, AudioError, Header, Note, Samples
from nearfar.recordings.blocks import Block, InBlocks, Lost, closing, length_of, part_of_block
from nearfar.recordings.containers import BEGINNING, is_container
from nearfar.recordings.recording import Channel, Recording, Span, missing_track
from nearfar.recordings.sound import chosen_channels
from nearfar.windows.cutting import Cut

READ_AT_ONCE = 2**18  # bytes of a pipe, at most
COPIED_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A recording, and what it is called.

    Attributes
    ----------
    name : str
    recorded : InBlocks
    hint : str
        What to add to an error about missing channels.
    """

    name: str
    recorded: InBlocks
    hint: str = ""

    @property
    def rate(self) -> int:
        """In Hz."""
        return self.recorded.header.rate

    @property
    def samples(self) -> int | None:
        """As its header promises; ``None`` if that is known at its end only."""
        return self.recorded.header.samples if self.recorded.is_counted else None

    @property
    def notes(self) -> tuple[Note, ...]:
        """Of its reader."""
        return self.recorded.notes


def of_recording(recording: Recording | Path) -> Stream:
    """A recording on disk, with its chosen channels, or the part of it that is chosen.

    Raises
    ------
    FileNotFoundError
    AudioError
        If nothing of it can be read.
    """
    recording = Recording.of(recording)
    return Stream(str(recording), audio.in_blocks(recording), missing_track(recording))


@contextmanager
def of_pipe(
    pipe: BinaryIO,
    name: str,
    *,
    rate: int,
    channels: int,
    selected: Sequence[Channel] = (),
    of_file: Sequence[Channel] = (),
) -> Iterator[Stream]:
    """What a pipe or device gives: a sound file, or raw interleaved little-endian 16-bit PCM.

    Raw samples are passed on as they come. A sound file is copied to a temporary one first, because it cannot be
    read without looking back and forth.

    Parameters
    ----------
    pipe : binary file
    name : str
        What messages call it.
    rate, channels : int
        Of raw samples.
    selected : sequence of int or str
        Which channels are near, far, and so on; empty: all.
    of_file : sequence of int or str
        The same of a sound file, if none is selected.

    Raises
    ------
    AudioError
        If it ends without a byte, a channel is not there, or a sound file cannot be read.
    """
    beginning = _read(pipe, BEGINNING)
    if not beginning:
        raise AudioError(f"{name}: it ended without a single byte; is the recorder running?", fault="empty")
    if not is_container(beginning):
        yield Stream(name, _of_pcm(_Pcm(pipe, beginning, name, channels), rate, selected))
        return
    with tempfile.TemporaryDirectory(prefix="nearfar-") as folder:
        path = Path(folder) / "recording"
        with path.open("wb") as copy:
            copy.write(beginning)
            while some := pipe.read(COPIED_AT_ONCE):
                copy.write(some)
        yield Stream(name, _of_copy(path, name, tuple(selected or of_file)))


def _of_copy(path: Path, name: str, channels: tuple[Channel, ...]) -> InBlocks:
    """What is in a copy; its errors name what was copied, since nobody knows of the copy."""
    with _renamed(path, name):
        found = audio.in_blocks(Recording((path,), channels))

    def blocks(start: int) -> Iterator[Block]:
        heard = found.blocks(start)
        with closing([heard]), _renamed(path, name):
            for block in heard:
                yield (
                    Lost(block.samples, _error_of(block.error, path, name))
                    if isinstance(block, Lost)
                    else block
                )

    return replace(found, blocks=blocks)


@contextmanager
def _renamed(path: Path, name: str) -> Iterator[None]:
    """An error that is raised about a path, with a name in its place."""
    try:
        yield
    except AudioError as error:
        raise _error_of(error, path, name) from error


def _error_of(error: AudioError, path: Path, name: str) -> AudioError:
    return AudioError(str(error).replace(str(path), name), fault=error.fault)


def _read(pipe: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer if it ends before."""
    content = b""
    while len(content) < size and (some := pipe.read(size - len(content))):
        content += some
    return content


def _of_pcm(pcm: _Pcm, rate: int, selected: Sequence[Channel]) -> InBlocks:
    places = chosen_channels(selected, count=pcm.channels, where=pcm.name)

    def blocks(start: int) -> Iterator[Block]:
        skipped = start
        for block in pcm.blocks():
            gone = min(skipped, length_of(block))
            skipped -= gone
            if isinstance(block, Lost):
                yield block
            elif gone < block.shape[1]:
                yield np.ascontiguousarray(block[places, gone:])

    return InBlocks(Header(rate, len(places), 0, RAW_FORMAT), False, (), blocks)


class _Pcm:
    """Raw samples from a pipe, of which the beginning is read already. They can be read once."""

    def __init__(self, pipe: BinaryIO, beginning: bytes, name: str, channels: int) -> None:
        self.name = name
        self.channels = channels
        self._pipe = pipe
        self._beginning = beginning

    def blocks(self) -> Iterator[Block]:
        """As many as there are, as soon as they are there; the last one is lost if it is not whole."""
        read = getattr(self._pipe, "read1", self._pipe.read)  # does not wait for more than there is
        size, content = 2 * self.channels, self._beginning
        while content:
            whole = len(content) // size * size
            if whole:
                frames: NDArray[np.int16] = np.frombuffer(content[:whole], "<i2").reshape(-1, self.channels)
                yield np.ascontiguousarray(frames.T * np.float32(INT16_SCALE), dtype=np.float32)
            some = read(READ_AT_ONCE)
            if not some and whole < len(content):
                yield Lost(1, self._not_whole(len(content) - whole))
            content = content[whole:] + some if some else b""

    def _not_whole(self, left: int) -> AudioError:
        message = (
            f"{self.name}: it ended with {left} bytes that are no whole frame of {self.channels} 16-bit channels: "
            f"raw little-endian PCM must be a multiple of {2 * self.channels} bytes"
        )
        return AudioError(message, fault="unreadable")


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A window of a recording.

    Attributes
    ----------
    index : int
        Which window it is, from 0.
    span : Span
    samples : (channels, samples) array or None
        ``None`` if some of them could not be read.
    error : AudioError or None
        Then why.
    """

    index: int
    span: Span
    samples: Samples | None
    error: AudioError | None = None


def windows(stream: Stream, cut: Cut, *, first: int = 0) -> Iterator[Heard]:
    """The windows of a recording, as soon as they are there, in order of time.

    The samples of each window are a copy. What they are does not depend on ``first``.

    Parameters
    ----------
    stream : Stream
        Which is read once.
    cut : Cut
    first : int
        The index of the first window, to go on with a recording.
    """
    if first < 0:
        raise ValueError(f"first={first}: must be at least 0, the index of a window")
    buffer = _Buffer(stream, cut, first)
    index, rate = first, stream.rate
    length, hop = cut.window_samples(rate), cut.hop_samples(rate)
    found = stream.recorded.blocks(buffer.start)
    with closing([found]):
        for block in _at_most(length, found):
            buffer.add(block)
            while index * hop + length <= buffer.stop:
                yield buffer.window(index, Span(index * hop, index * hop + length, rate))
                index += 1
            buffer.forget(before=min(index * hop, buffer.stop - length))
    for last in range(index, cut.count(buffer.stop, rate)):
        yield buffer.window(last, cut.span(last, buffer.stop, rate))


def _at_most(size: int, blocks: Iterator[Block]) -> Iterator[Block]:
    """The same in blocks of at most so many samples: a header may promise any number of samples that are lost."""
    for block in blocks:
        for start in range(0, length_of(block), size):
            yield part_of_block(block, start, min(start + size, length_of(block)))


class _Buffer:
    """The last samples of a recording, as many as a window needs.

    Attributes
    ----------
    start, stop : int
        Which samples of the recording there are: the first one, and the one after the last.
    """

    def __init__(self, stream: Stream, cut: Cut, first: int) -> None:
        rate, samples = stream.rate, stream.samples
        length = cut.window_samples(rate)
        start = first * cut.hop_samples(rate)
        if samples is None:  # its last window may begin before this one would
            start -= length
        elif first < cut.count(samples, rate):
            start = cut.span(first, samples, rate).start
        else:
            start = samples
        self.start = self.stop = max(0, start)
        self._samples: Samples = np.empty((stream.recorded.header.channels, 2 * length), np.float32)
        self._begin = 0  # of what is kept, in the array
        self._lost: list[tuple[int, int, AudioError]] = []

    def add(self, block: Block) -> None:
        """What follows: no more than a window; no more than a window is kept, so there is room for both."""
        size, kept = length_of(block), self.stop - self.start
        if self._begin + kept + size > self._samples.shape[1]:
            self._samples[:, :kept] = self._samples[:, self._begin : self._begin + kept]
            self._begin = 0
        end = self._begin + kept
        if isinstance(block, Lost):
            self._lost.append((self.stop, self.stop + size, block.error))
        else:
            self._samples[:, end : end + size] = block
        self.stop += size

    def window(self, index: int, span: Span) -> Heard:
        """A window that is there."""
        for begin, end, error in self._lost:
            if begin < span.stop and span.start < end:
                return Heard(index, span, None, error)
        first = self._begin + span.start - self.start
        return Heard(index, span, self._samples[:, first : first + len(span)].copy())

    def forget(self, *, before: int) -> None:
        """What lies before that sample is no longer needed."""
        gone = max(0, before - self.start)
        self.start += gone
        self._begin += gone
        self._lost = [one for one in self._lost if one[1] > self.start]
