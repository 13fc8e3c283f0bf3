"""Reading of sound files: WAV, FLAC and what else libsndfile reads, as recorders and power cuts leave them.

Conventions
-----------
Nothing is read without bound: what is read at once has at most ``MOST_SAMPLES`` over all channels, whatever the
header says. Of a longer recording a part is read (``span``), by seeking where the coding allows it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from nearfar.recordings.blocks import Block, InBlocks, Lost
from nearfar.recordings.containers import BEGINNING, Extent, extent_of, is_container
from nearfar.recordings.recording import Span, part_name
from nearfar.recordings.sound import (
    AudioError,
    Header,
    Note,
    Recorded,
    Samples,
    header_of_part,
    not_finite,
)

INT16_SCALE = 1 / 32768
INT32_SCALE = 1 / 2**31
MOST_SAMPLES = (
    2**28
)  # of all channels together, in memory at once: 1 GiB, 46 minutes of two channels at 48 kHz
MOST_BYTES = 4 * MOST_SAMPLES  # of a file that is read into memory as it is
BLOCK = 2**18  # frames that are decoded at once
STREAMED = 2**16  # frames of a block of a recording that is read in blocks
TRIED = 2**12  # frames that are tried one after the other where a block cannot be decoded
FRAME_BYTES = {  # of one channel, by coding
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1,
}  # fmt: skip
FEWEST_BITS = 0.01  # a sample, in a file as its header counts them; if fewer, the header's length is not true
RAW_SUFFIXES = (".raw", ".pcm")
LOSSY = ("MPEG", "ADPCM", "VORBIS", "OPUS", "ULAW", "ALAW", "GSM", "G721", "G723", "DWVW", "DPCM", "VOX")
SEEKABLE = (
    "PCM_",
    "FLOAT",
    "DOUBLE",
    "ULAW",
    "ALAW",
)  # codings in which libsndfile finds any sample, also in FLAC
CONVERTER_BITS = 24  # of what measures sound; a sample of 32 bits has some to spare
LOWEST_BITS = 12  # a recording that uses no more is only quiet


@dataclass(frozen=True, slots=True)
class Source:
    """A sound file: on disk, or its bytes.

    Attributes
    ----------
    name : str
        What messages call it.
    content : Path, bytes or bytearray
    patches : mapping from place to bytes
        What stands there in place of what the file has.
    """

    name: str
    content: Path | bytes | bytearray
    patches: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, span: Span | None = None) -> Source:
        """The file at a path, if it is one; named after the part of it that is to be read.

        Raises
        ------
        FileNotFoundError
        AudioError
            If it is empty, or a pipe or device.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        if path.is_dir():
            raise AudioError(f"{path}: a folder; give a recording", fault="unreadable")
        if not path.is_file():
            raise AudioError(
                f"{path}: a pipe or device, and no file; only `nearfar score` reads one", fault="unreadable"
            )
        return cls(part_name(str(path), span), path)

    @property
    def size(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def open(self) -> BinaryIO:
        """Its bytes, to be read anywhere.

        Raises
        ------
        FileNotFoundError
        AudioError
            If the operating system does not allow it.
        """
        file = self._opened()
        return _Patched(file, self.patches) if self.patches else file  # type: ignore[return-value]

    def _opened(self) -> BinaryIO:
        if not isinstance(self.content, Path):
            return io.BytesIO(self.content)
        try:
            return self.content.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:  # one file that cannot be opened is no reason to end a batch
            raise AudioError(
                f"{self.name}: cannot be opened ({error.strerror})", fault="unreadable"
            ) from error


class _Patched(io.RawIOBase):
    """A file in which other bytes stand at some places, without a copy of it.

    Parameters
    ----------
    file : binary file
    patches : mapping from place to bytes
    """

    def __init__(self, file: BinaryIO, patches: Mapping[int, bytes]) -> None:
        self._file = file
        self._patches = patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        begin = self._file.tell()
        content = self._file.read(len(buffer))
        end = begin + len(content)
        view = memoryview(buffer).cast("B")
        view[: len(content)] = content
        for place, patch in self._patches.items():
            first, last = max(begin, place), min(end, place + len(patch))
            if first < last:
                view[first - begin : last - begin] = patch[first - place : last - place]
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known of a file before its samples are read.

    Attributes
    ----------
    source : Source
        With a header that libsndfile understands.
    header : Header
    is_counted : bool
        Whether the header's number of samples can be true.
    valid_bits : int or None
    notes : tuple of Note
    missing : AudioError or None
        What is wrong with a file that is shorter than its header says.
    """

    source: Source
    header: Header
    is_counted: bool
    valid_bits: int | None
    notes: tuple[Note, ...]
    missing: AudioError | None = None

    @property
    def coding(self) -> str:
        return self.header.format.partition("/")[2]

    @property
    def is_seekable(self) -> bool:
        """Whether any sample can be found without those before it."""
        return self.is_counted and self.coding.startswith(SEEKABLE)

    @property
    def dtype(self) -> str:
        """What its samples are decoded to."""
        return {"PCM_16": "int16", "PCM_32": "int32"}.get(self.coding, "float32")

    def part(self, span: Span) -> Header:
        """The header of a part."""
        return header_of_part(self.header, span, self.source.name, is_counted=self.is_counted)


def read_header(source: Source, span: Span | None = None) -> Header:
    """The header of a sound file or of a part, checked against the length of the file.

    Raises
    ------
    AudioError
        If the file is empty, not audio, or shorter than its header promises; if it has no such part.
    """
    look = _look_at(source)
    if span is not None:
        return look.part(span)
    if look.is_counted:
        return look.header
    return replace(look.header, samples=sum(map(len, _decoded(look, "float32", most=None))))


def read(source: Source, span: Span | None = None) -> Recorded:
    """All channels of a sound file, or of a part of it.

    Raises
    ------
    AudioError
        As ``read_header``; and if it is too long, damaged, or has samples that are not finite.
    """
    look = _look_at(source)
    header, notes = look.header if span is None else look.part(span), look.notes
    data = _all(look, look.dtype) if span is None else _part(look, look.dtype, span.start, len(span))
    if (look.is_counted or span is not None) and len(data) != header.samples:
        message = f"{source.name}: truncated, {len(data)} of {header.samples} samples could be read"
        raise AudioError(message, fault="truncated")
    header = replace(header, samples=len(data))
    shift = 0
    if look.dtype == "int32":
        used = _bits_used([data]) if span is None else _bits_of_all(look)
        shift, found = _alignment(used, look.valid_bits)
        notes += found
    samples = _as_samples(data, shift)
    if look.dtype == "float32" and not np.isfinite(samples).all():
        message = f"{source.name}: {not_finite(samples)}"
        raise AudioError(message, fault="not_finite")
    return Recorded(samples, header.rate, header, notes)


def _as_samples(data: NDArray[Any], shift: int = 0) -> Samples:
    """(frames, channels) as libsndfile gives them, to (channels, frames); ``shift`` moves samples of 32 bits."""
    if shift:
        data = data << shift
    samples: Samples = np.ascontiguousarray(data.T, dtype=np.float32)
    if data.dtype.kind == "i":
        samples *= np.float32(INT16_SCALE if data.dtype == np.int16 else INT32_SCALE)
    return samples


def in_blocks(source: Source) -> InBlocks:
    """All channels of a sound file, some at a time, however long it is.

    Where any sample can be found without those before it, a block is decoded from its own beginning: so what is
    read does not depend on where one begins. Behind a block that cannot be decoded, reading goes on. In other
    codings, all that follows is lost.

    Raises
    ------
    AudioError
        If nothing can be read: the file is empty or not audio.
    """
    look = _look_at(source, may_be_cut=True)
    shift, notes = 0, look.notes
    if look.dtype == "int32":
        shift, found = _alignment(_bits_of_all(look), look.valid_bits)
        notes += found

    def blocks(start: int) -> Iterator[Block]:
        first = start // STREAMED * STREAMED if look.is_seekable else 0
        skipped = start - first
        for block in _found_blocks(look, first) if look.is_seekable else _blocks_in_a_row(look):
            size = block.samples if isinstance(block, Lost) else len(block)
            gone = min(skipped, size)
            skipped -= gone
            if gone == size:
                continue
            if isinstance(block, Lost):
                yield Lost(size - gone, block.error)
            else:
                yield _as_samples(block[gone:], shift)

    return InBlocks(look.header, look.is_counted, notes, blocks)


def _found_blocks(look: _Look, start: int) -> Iterator[NDArray[Any] | Lost]:
    """The blocks of a file in which any sample can be found; those around a damage in smaller pieces."""
    total = look.header.samples
    with _Reader(look) as reader:
        for first in range(start, total, STREAMED):
            last = min(first + STREAMED, total)
            if look.missing is not None and first >= reader.samples:
                yield Lost(total - first, look.missing)
                return
            whole = reader.read(first, last - first)
            if len(whole) == last - first:
                yield whole
                continue
            for begin in range(first, last, TRIED):
                end = min(begin + TRIED, last)
                piece = reader.read(begin, end - begin)
                if len(piece):
                    yield piece
                if begin + len(piece) < end:
                    yield Lost(end - begin - len(piece), look.missing or reader.error)


def _blocks_in_a_row(look: _Look) -> Iterator[NDArray[Any] | Lost]:
    """The blocks of a file that is decoded from its beginning on, up to the first damage."""
    done = 0
    try:
        for block in _decoded(look, look.dtype, most=None):
            done += len(block)
            yield block
    except AudioError as error:
        if done == 0 and error.fault == "empty":
            raise
        yield Lost(max(look.header.samples - done, 1) if look.is_counted else STREAMED, error)
        return
    if look.is_counted and done < look.header.samples:
        yield Lost(look.header.samples - done, look.missing or _cut_short(look, done))


def _cut_short(look: _Look, done: int) -> AudioError:
    message = f"{look.source.name}: truncated, {done} of {look.header.samples} samples could be read"
    return AudioError(message, fault="truncated")


class _Reader:
    """Reads parts of a file in which any sample can be found, and goes on behind what cannot be decoded.

    Attributes
    ----------
    error : AudioError
        Why the last part that was not whole is not.
    """

    def __init__(self, look: _Look) -> None:
        self.error = _cut_short(look, 0)
        self._look = look
        self._opened = ExitStack()
        self._file: soundfile.SoundFile | None = None
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def samples(self) -> int:
        """How many the file has, as libsndfile counts them."""
        return self._found().frames

    def read(self, start: int, frames: int) -> NDArray[Any]:
        """(frames, channels), fewer if they cannot be decoded."""
        look = self._look
        data: NDArray[Any] = np.empty((0, look.header.channels), look.dtype)
        try:
            file = self._found()
            with _explained(look.source.name):
                if self._at != start:
                    file.seek(start)
                    self._at = start
                data = np.asarray(file.read(frames, dtype=look.dtype, always_2d=True))
            self.error = _cut_short(look, start + len(data))
        except AudioError as error:
            self.error = error
        self._at += len(data)
        if len(data) < frames:  # its decoder may be beyond help; a new one looks for the next part
            self._close()
        return data

    def _found(self) -> soundfile.SoundFile:
        if self._file is None:
            self._file = self._opened.enter_context(_opened(self._look.source))
            self._at = 0
        return self._file

    def _close(self) -> None:
        self._file = None
        self._opened.close()


def read_part(source: Source, start: int, frames: int) -> Samples:
    """At most so many samples of all channels of a sound file, from that sample on.

    Raises
    ------
    AudioError
        As ``read``, of this part.
    """
    data = _part(_look_at(source), "float32", start, frames)
    if not np.isfinite(data).all():
        message = f"{source.name}: {(~np.isfinite(data)).sum()} samples from {start} on are NaN or infinite"
        raise AudioError(message, fault="not_finite")
    return np.ascontiguousarray(data.T, dtype=np.float32)


def _look_at(source: Source, *, may_be_cut: bool = False) -> _Look:
    """What a file is; one that is shorter than its header says is an error, unless it ``may_be_cut``."""
    if source.size == 0:
        raise AudioError(
            f"{source.name}: the file is empty (0 bytes); record it again or remove it", fault="empty"
        )
    if isinstance(source.content, Path) and source.content.suffix.lower() in RAW_SUFFIXES:
        source = _named_raw(source)
    extent, missing = _extent(source)
    if missing is not None and not may_be_cut:
        raise missing
    notes = _notes_on(extent) if missing is None else ()
    if extent is not None and extent.patches:
        source = replace(source, patches=extent.patches)
    with _opened(source) as file:
        header = Header(file.samplerate, file.channels, file.frames, f"{file.format}/{file.subtype}")
    if any(coding in header.format for coding in LOSSY):
        coding = header.format.partition("/")[2]
        message = (
            f"coded with loss ({coding}), which changes what a detector hears; record as WAV (PCM) or FLAC"
        )
        notes += (Note("lossy", message),)
    is_counted = extent is not None or _is_plausible(header, source.size)
    if is_counted and header.samples == 0:
        raise AudioError(f"{source.name}: holds no samples; record it again or remove it", fault="empty")
    if not is_counted:
        message = "its header does not tell its length; it was read to the end of the file"
        notes += (Note("unfinished_header", message),)
    valid_bits = None if extent is None else extent.valid_bits
    if extent is not None and missing is not None:
        header = replace(header, samples=_promised(header, extent))
    return _Look(source, header, is_counted, valid_bits, notes, missing)


def _promised(header: Header, extent: Extent) -> int:
    """How many samples the header of a file promises of which the end is missing."""
    size = FRAME_BYTES.get(header.format.partition("/")[2])
    claimed = extent.claimed or 0
    if size is not None:
        return claimed // (size * header.channels)
    return round(header.samples * claimed / extent.available)  # of blocks of bytes that are samples together


def _is_plausible(header: Header, size: int) -> bool:
    """Whether a file of that many bytes can hold as many samples as its header says."""
    return 0 < FEWEST_BITS * header.samples * header.channels <= 8 * size


def _extent(source: Source) -> tuple[Extent | None, AudioError | None]:
    """Where the samples are, and what is wrong with a file that has fewer than it says."""
    with source.open() as file:
        extent = extent_of(file, source.size)
    if extent is None or not extent.is_truncated:
        return extent, None
    message = f"{source.name}: truncated, {extent.missing} of {extent.claimed} bytes of audio are missing"
    return extent, AudioError(message, fault="truncated")


def _notes_on(extent: Extent | None) -> tuple[Note, ...]:
    if extent is None:
        return ()
    if extent.is_unfinished:
        message = (
            f"its header says that it holds no sound: it was never finished. The {extent.available} bytes that "
            "follow were read; the recorder may have lost power"
        )
        return (Note("unfinished_header", message),)
    if extent.missing:
        message = f"its header counts {extent.missing} bytes more than there are; what is there was read"
        return (Note("wrong_length", message),)
    return ()


def in_memory(source: Source) -> Source:
    """The same file in memory.

    Raises
    ------
    AudioError
        If it is too large for that.
    """
    if source.size > MOST_BYTES:
        raise AudioError(f"{source.name}: {source.size} bytes, too long; cut it into clips of some seconds")
    with source.open() as file:
        return replace(source, content=file.read(MOST_BYTES))


def _refuse_too_long(name: str, samples: int, header: Header) -> None:
    most = MOST_SAMPLES // header.channels
    if samples > most:
        raise AudioError(
            f"{name}: {samples / header.rate:.0f} s of {header.channels} channels at {header.rate} Hz, too long: "
            f"at most {most / header.rate:.0f} s are read at once; cut it into windows of some seconds"
        )


class _Forwards(soundfile.SoundFile):
    """Reads forwards only: libsndfile cannot seek in a file whose length it does not know."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(source: Source) -> Iterator[soundfile.SoundFile]:
    """The file as libsndfile sees it.

    Raises
    ------
    AudioError
        If it sees none.
    """
    by_name = (
        isinstance(source.content, Path) and not source.patches
    )  # which is faster than by a file of Python
    with nullcontext(_file_name(source.content)) if by_name else source.open() as what:  # type: ignore[arg-type]
        try:
            with _Forwards(what) as file:
                yield file
        except soundfile.LibsndfileError as error:
            message = f"{source.name}: not a readable recording ({error.error_string})"
            raise AudioError(message, fault="unreadable") from error


def _file_name(path: Path) -> str | bytes:
    """The name of a file as libsndfile takes it, also if it is not UTF-8."""
    return str(path) if sys.platform == "win32" else os.fsencode(path)


def _named_raw(source: Source) -> Source:
    """A file whose name means raw samples to libsndfile, without the name.

    Raises
    ------
    AudioError
        If that is what it has.
    """
    with source.open() as file:
        beginning = file.read(BEGINNING)
    if not is_container(beginning):
        raise AudioError(
            f"{source.name}: raw samples tell neither their rate nor their channels; pipe them, as in "
            "`nearfar score DETECTOR - --rate 48000 --channels 2 < FILE`, or convert them to WAV",
            fault="unreadable",
        )
    return in_memory(source)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """An error of decoding as one of ours."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        message = f"{name}: damaged, its samples cannot be decoded ({error.error_string})"
        raise AudioError(message, fault="unreadable") from error


def _all(look: _Look, dtype: str) -> NDArray[Any]:
    """All samples, (frames, channels)."""
    if look.is_counted:
        return _part(look, dtype, 0, look.header.samples)
    return np.concatenate(list(_decoded(look, dtype, most=MOST_SAMPLES // look.header.channels)))


def _part(look: _Look, dtype: str, start: int, frames: int) -> NDArray[Any]:
    """At most so many samples from that one on, (frames, channels)."""
    name = look.source.name
    _refuse_too_long(name, frames, look.header)
    with _opened(look.source) as file, _explained(name):
        if look.is_seekable:
            file.seek(min(start, look.header.samples))
        else:
            _skip(file, start, dtype)
        return np.asarray(file.read(frames, dtype=dtype, always_2d=True))


def _skip(file: soundfile.SoundFile, frames: int, dtype: str) -> None:
    """Read so many samples and let them go."""
    while frames > 0 and (got := len(file.read(min(BLOCK, frames), dtype=dtype, always_2d=True))):
        frames -= got


def _decoded(look: _Look, dtype: str, *, most: int | None) -> Iterator[NDArray[Any]]:
    """The samples in blocks, each (frames, channels); an error if there are more than so many."""
    name, header = look.source.name, look.header
    done = 0
    with _opened(look.source) as file:
        while True:
            with _explained(name):
                block = file.read(BLOCK, dtype=dtype, always_2d=True)
            done += len(block)
            if most is not None:
                _refuse_too_long(name, done, header)
            if done == 0:
                message = f"{name}: holds no samples; record it again or remove it"
                raise AudioError(message, fault="empty")
            if len(block):
                yield block
            if len(block) < BLOCK:
                return


@dataclass(frozen=True, slots=True)
class _BitsUsed:
    """Which bits of 32 some samples use: the largest without its sign, and all that are set in any of them."""

    peak: int
    any: int


def _bits_used(blocks: Iterable[NDArray[Any]]) -> _BitsUsed:
    """Of samples of 32 bits; where the upper ones are used, no further block is looked at."""
    peak = found = 0
    for data in blocks:
        peak = max(peak, int(data.max(initial=0)), -int(data.min(initial=0)) - 1)
        found |= int(np.bitwise_or.reduce(data, axis=None))
        if peak >= 2**30:
            break
    return _BitsUsed(peak, found)


def _bits_of_all(look: _Look) -> _BitsUsed:
    """Of the whole file of which a part is read: a quiet part alone may look as if it were at the lower end."""
    content = look.source.content
    if not isinstance(content, Path) or look.missing is not None:
        return _bits_used(_decoded(look, "int32", most=None))
    status = content.stat()
    return _bits_of_file(content, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _bits_of_file(path: Path, state: tuple[int, int]) -> _BitsUsed:  # noqa: ARG001  # of the file: a key
    """As ``_bits_of_all``; remembered as long as the file stays as it is."""
    return _bits_used(_decoded(_look_at(Source.at(path)), "int32", most=None))


def _alignment(used: _BitsUsed, valid_bits: int | None) -> tuple[int, tuple[Note, ...]]:
    """By how many bits samples of 32 bits are to be moved so that the most significant one is the first.

    Samples of fewer bits belong to the left. If the header says how many bits are used and they lie to the right,
    they are moved; if it does not, a recording of a quiet place looks the same, and is only noted.
    """
    bits = valid_bits if valid_bits is not None and valid_bits < 32 else CONVERTER_BITS
    peak = used.peak
    if peak >= 2 ** (bits - 1) or not used.any & (2 ** (32 - bits) - 1):
        return 0, ()
    if valid_bits is not None and valid_bits < 32:
        message = f"its samples of {bits} bits are at the lower end of 32; they were moved to the upper end"
        return 32 - bits, (Note("right_aligned", message),)
    if peak < 2**LOWEST_BITS:
        return 0, ()
    message = (
        f"no sample uses more than the lower {bits} of its 32 bits, so that the recording is more than 48 dB below "
        f"full scale; if the recorder put samples of {bits} bits there, it must put them to the upper end"
    )
    return 0, (Note("right_aligned", message),)
