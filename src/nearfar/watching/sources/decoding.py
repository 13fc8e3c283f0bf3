"""What a stream of bytes is: raw samples, a WAV of any length, FLAC; decoded as it comes.

A stream that begins with the header of a WAV or of FLAC is known by it. All others are raw samples, whose rate,
channels and format are given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Lost
from nearfar.recordings.containers import (
    EXTENSIBLE,
    FULL_32,
    MOST_CHUNKS,
    MOST_CONTENT,
    UNKNOWN_LENGTH,
    is_container,
)
from nearfar.watching.sources.buffered import Part
from nearfar.watching.sources.flac_stream import MAGIC, FlacStream, Read
from nearfar.watching.sources.pcm import Format, frame_bytes, frames_of

StreamFormat = Literal[Format, "wav", "flac"]

BEGINNING = 12  # bytes by which a WAV is known
AT_ONCE = 2**16  # bytes
WAVES = (b"RIFF", b"RF64", b"BW64")
PCM, FLOATS = 1, 3  # format tags of a WAV
# By format tag and bits of a sample.
OF_WAV: dict[tuple[int, int], Format] = {
    (PCM, 8): "u8", (PCM, 16): "s16le", (PCM, 24): "s24le", (PCM, 32): "s32le", (FLOATS, 32): "f32le",
}  # fmt: skip
MOST_CHANNELS, MOST_RATE = 256, 10_000_000


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a stream before it comes.

    Attributes
    ----------
    rate, channels : int or None
        In Hz; of raw samples they must be known.
    format : str
        "wav" and "flac" are known by their headers, whatever this is; then nothing else may come.

    Raises
    ------
    ValueError
        If they cannot be.
    """

    rate: int | None
    channels: int | None
    format: StreamFormat

    def __post_init__(self) -> None:
        if self.format not in get_args(StreamFormat):
            raise ValueError(f"format={self.format!r}: must be one of {', '.join(get_args(StreamFormat))}")
        for name, value, most in (("rate", self.rate, MOST_RATE), ("channels", self.channels, MOST_CHANNELS)):
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"{name}={value}: must be from 1 to {most}")


def required(rate: int | None, channels: int | None) -> tuple[int, int]:
    """Rate, in Hz, and channels of what has no header.

    Raises
    ------
    ValueError
        If one is not given, or cannot be.
    """
    Expected(rate, channels, "s16le")
    if rate is None or channels is None:
        raise ValueError(
            f"rate={rate}, channels={channels}: both must be given, because the sound has no header"
        )
    return rate, channels


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording in a stream, of which the header has come.

    Attributes
    ----------
    rate : int
        In Hz.
    channels : int
    format : str
        As in a ``Header``.
    parts : iterator of Frames or Lost
        To be taken to its end before the next recording.
    """

    rate: int
    channels: int
    format: str
    parts: Iterator[Part]


def sounds_of(read: Read, expected: Expected, name: str) -> Iterator[Sound]:
    """The recordings in a stream, as they come: one, unless WAVs of known length follow each other.

    Parameters
    ----------
    read : callable
        ``read(most)`` waits for at least a byte and gives at most so many; none at the end of the stream.
    expected : Expected
    name : str
        What messages call the stream.

    Raises
    ------
    AudioError
        If it is something else, or not whole, or contradicts what is expected.
    """
    stream = _Bytes(read)
    while beginning := stream.peek(BEGINNING):
        if beginning.startswith(MAGIC):
            yield _agreed(_of_flac(stream, name), expected, "flac", name)
            return
        if beginning[:4] in WAVES and beginning[8:12] == b"WAVE":
            yield _agreed(_of_wav(stream, name), expected, "wav", name)
            if not _skip_to_next(stream):
                return
        else:
            yield _raw(stream, expected, name)
            return


class _Bytes:
    """A stream of bytes, of which some can be looked at before they are read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """What comes next: at least so many bytes, or all to the end of the stream."""
        while len(self._ahead) < size and (some := self._read(AT_ONCE)):
            self._ahead += some
        return self._ahead

    def read(self, most: int) -> bytes:
        """At least a byte, and at most so many; none at the end."""
        if not self._ahead:
            return self._read(most)
        some, self._ahead = self._ahead[:most], self._ahead[most:]
        return some

    def exactly(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        content = b""
        while len(content) < size and (some := self.read(size - len(content))):
            content += some
        return content

    def skip(self, size: int) -> bool:
        """Read so many bytes; whether they were there."""
        while size and (some := self.read(min(size, AT_ONCE))):
            size -= len(some)
        return size == 0


def _agreed(sound: Sound, expected: Expected, format: str, name: str) -> Sound:
    """The same, unless its header contradicts what is expected."""
    if expected.format in ("wav", "flac") and expected.format != format:
        raise AudioError(f"{name}: format={expected.format}, but {format.upper()} came", fault="unreadable")
    for what, said, is_so in (
        ("rate", expected.rate, sound.rate),
        ("channels", expected.channels, sound.channels),
    ):
        if said is not None and said != is_so:
            raise AudioError(
                f"{name}: {what}={said}, but its header says {is_so}; leave out {what}, or send what it says"
            )
    return sound


def _raw(stream: _Bytes, expected: Expected, name: str) -> Sound:
    if expected.format == "wav" or expected.format == "flac":
        raise AudioError(
            f"{name}: format={expected.format}, but what came does not begin as that", fault="unreadable"
        )
    if is_container(stream.peek(1)):
        raise AudioError(
            f"{name}: it begins as a sound file of a format that cannot be decoded as it comes; send raw samples, "
            "WAV or FLAC",
            fault="unreadable",
        )
    if expected.rate is None or expected.channels is None:
        raise AudioError(
            f"{name}: it begins without a header, so it must be raw samples; give rate and channels, or send WAV "
            "or FLAC"
        )
    kind: Format = expected.format
    parts = _pcm(stream, kind, expected.channels, name, None)
    return Sound(expected.rate, expected.channels, f"RAW/{kind}", parts)


def _pcm(stream: _Bytes, format: Format, channels: int, name: str, size: int | None) -> Iterator[Part]:
    """Raw samples as they come, up to so many bytes; what is no whole frame at the end is lost."""
    of_frame, left, content = frame_bytes(format, channels), size, b""
    while some := stream.read(AT_ONCE if left is None else min(left, AT_ONCE)):
        left = None if left is None else left - len(some)
        content += some
        whole = len(content) // of_frame * of_frame
        if whole:
            yield frames_of(content[:whole], format, channels)
            content = content[whole:]
        if left == 0:
            break
    if content:
        yield Lost(1, AudioError(
            f"{name}: it ended with {len(content)} bytes that are no whole frame: {channels} channels of {format} "
            f"have {of_frame}",
            fault="unreadable",
        ))  # fmt: skip


def _of_flac(stream: _Bytes, name: str) -> Sound:
    flac = FlacStream(stream.read, name)
    return Sound(flac.rate, flac.channels, flac.format, iter(flac.frames()))


def _of_wav(stream: _Bytes, name: str) -> Sound:
    """A WAV, read up to its samples."""
    magic = stream.exactly(BEGINNING)[:4]
    form, large = b"", None
    for _ in range(MOST_CHUNKS):
        head = stream.exactly(8)
        if len(head) < 8:
            break
        chunk, size = struct.unpack("<4sI", head)
        if chunk == b"data":
            if magic != b"RIFF" and size == FULL_32:
                size = large if large is not None else 0
            is_known = 0 < size < UNKNOWN_LENGTH or (magic != b"RIFF" and 0 < size < 2**62)
            return _wav(stream, form, name, size if is_known else None)
        if size > MOST_CONTENT:
            break
        content = stream.exactly(size + size % 2)
        if chunk == b"fmt ":
            form = content
        elif chunk == b"ds64":
            large = int.from_bytes(content[8:16], "little")
    raise AudioError(f"{name}: it begins as a WAV, but no samples follow its header", fault="unreadable")


def _wav(stream: _Bytes, form: bytes, name: str, size: int | None) -> Sound:
    """The samples of a WAV with that chunk ``fmt``."""
    if len(form) < 16:
        raise AudioError(f"{name}: the header of the WAV does not say its format", fault="unreadable")
    tag, channels, rate, _, of_frame, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    format = OF_WAV.get((tag, bits))
    if format is None:
        raise AudioError(
            f"{name}: a WAV of format {tag} with {bits} bits cannot be decoded as it comes; send PCM of 8, 16, 24 "
            "or 32 bits, or floating point of 32",
            fault="unreadable",
        )
    if not (
        1 <= channels <= MOST_CHANNELS
        and 1 <= rate <= MOST_RATE
        and of_frame == frame_bytes(format, channels)
    ):
        raise AudioError(
            f"{name}: the header of the WAV contradicts itself: {channels} channels at {rate} Hz, {bits} bits, "
            f"{of_frame} bytes a frame",
            fault="unreadable",
        )
    return Sound(rate, channels, f"WAV/{format}", _padded(stream, format, channels, name, size))


def _padded(stream: _Bytes, format: Format, channels: int, name: str, size: int | None) -> Iterator[Part]:
    yield from _pcm(stream, format, channels, name, size)
    if size is not None and size % 2:
        stream.skip(1)


def _skip_to_next(stream: _Bytes) -> bool:
    """Skip what stands behind the samples of a WAV; whether another WAV follows."""
    for _ in range(MOST_CHUNKS):
        head = stream.peek(8)[:8]
        if head[:4] in WAVES:
            return True
        if len(head) < 8:
            return False
        stream.skip(8)
        size = int.from_bytes(head[4:], "little")
        if not stream.skip(size + size % 2):
            return False
    return False
