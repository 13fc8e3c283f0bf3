"""Reading of sound files: WAV, FLAC and what else libsndfile reads, as recorders and power cuts leave them.

Conventions
-----------
Nothing is read without bound: a recording has at most ``MOST_SAMPLES`` over all channels, whatever its header says.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from nearfar.recordings.containers import BEGINNING, Extent, extent_of, is_container
from nearfar.recordings.sound import AudioError, Header, Note, Recorded, Samples, not_finite

INT16_SCALE = 1 / 32768
INT32_SCALE = 1 / 2**31
MOST_SAMPLES = (
    2**28
)  # of all channels together, in memory at once: 1 GiB, 46 minutes of two channels at 48 kHz
MOST_BYTES = 4 * MOST_SAMPLES  # of a file that is read into memory as it is
BLOCK = 2**18  # frames that are decoded at once
FEWEST_BITS = 0.01  # a sample, in a file as its header counts them; if fewer, the header's length is not true
RAW_SUFFIXES = (".raw", ".pcm")
LOSSY = ("MPEG", "ADPCM", "VORBIS", "OPUS", "ULAW", "ALAW", "GSM", "G721", "G723", "DWVW", "DPCM", "VOX")
CONVERTER_BITS = 24  # of what measures sound; a sample of 32 bits has some to spare
LOWEST_BITS = 12  # a recording that uses no more is only quiet


@dataclass(frozen=True, slots=True)
class Source:
    """A sound file: on disk, or its bytes; ``name`` is what messages call it."""

    name: str
    content: Path | bytes | bytearray

    @classmethod
    def at(cls, path: Path) -> Source:
        """The file at a path, if it is one.

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
        return cls(str(path), path)

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
    """

    source: Source
    header: Header
    is_counted: bool
    valid_bits: int | None
    notes: tuple[Note, ...]


def read_header(source: Source) -> Header:
    """The header of a sound file, checked against the length of the file.

    Raises
    ------
    AudioError
        If the file is empty, not audio, or shorter than its header promises.
    """
    look = _look_at(source)
    if look.is_counted:
        return look.header
    return replace(look.header, samples=sum(map(len, _decoded(look, "float32"))))


def read(source: Source) -> Recorded:
    """All channels of a sound file.

    Raises
    ------
    AudioError
        As ``read_header``; and if it is too long, damaged, or has samples that are not finite.
    """
    look = _look_at(source)
    bits = {"PCM_16": 16, "PCM_32": 32}.get(look.header.format.partition("/")[2])
    dtype = f"int{bits}" if bits else "float32"
    blocks = list(_decoded(look, dtype))
    data: NDArray[Any] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    del blocks
    header, notes = look.header, look.notes
    if look.is_counted and len(data) != header.samples:
        message = f"{source.name}: truncated, {len(data)} of {header.samples} samples could be read"
        raise AudioError(message, fault="truncated")
    if not look.is_counted:
        header = replace(header, samples=len(data))
    if bits == 32:
        data, found = _aligned(data, look.valid_bits)
        notes += found
    samples: Samples = np.ascontiguousarray(data.T, dtype=np.float32)
    if bits:
        samples *= np.float32(INT16_SCALE if bits == 16 else INT32_SCALE)
    elif not np.isfinite(samples).all():
        message = f"{source.name}: {not_finite(samples)}"
        raise AudioError(message, fault="not_finite")
    return Recorded(samples, header.rate, header, notes)


def read_part(source: Source, start: int, frames: int) -> Samples:
    """At most so many samples of all channels of a sound file, from that sample on.

    Raises
    ------
    AudioError
        As ``read``, of this part.
    """
    look = _look_at(source)
    if look.is_counted:
        with _opened(look.source) as file, _explained(source.name):
            file.seek(start)
            data = file.read(frames, dtype="float32", always_2d=True)
    else:
        data = np.concatenate(list(_decoded(look, "float32")))[start : start + frames]
    if not np.isfinite(data).all():
        message = f"{source.name}: {(~np.isfinite(data)).sum()} samples from {start} on are NaN or infinite"
        raise AudioError(message, fault="not_finite")
    return np.ascontiguousarray(data.T, dtype=np.float32)


def _look_at(source: Source) -> _Look:
    if source.size == 0:
        raise AudioError(
            f"{source.name}: the file is empty (0 bytes); record it again or remove it", fault="empty"
        )
    if isinstance(source.content, Path) and source.content.suffix.lower() in RAW_SUFFIXES:
        source = _named_raw(source)
    extent = _extent(source)
    notes = _notes_on(extent)
    if extent is not None and extent.patches:
        source = in_memory(source, extent.patches)
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
    return _Look(source, header, is_counted, None if extent is None else extent.valid_bits, notes)


def _is_plausible(header: Header, size: int) -> bool:
    """Whether a file of that many bytes can hold as many samples as its header says."""
    return 0 < FEWEST_BITS * header.samples * header.channels <= 8 * size


def _extent(source: Source) -> Extent | None:
    """Where the samples are, of a file that has as many as it says."""
    with source.open() as file:
        extent = extent_of(file, source.size)
    if extent is not None and extent.is_truncated:
        message = f"{source.name}: truncated, {extent.missing} of {extent.claimed} bytes of audio are missing"
        raise AudioError(message, fault="truncated")
    return extent


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


def in_memory(source: Source, patches: Mapping[int, bytes] | None = None) -> Source:
    """The same file in memory, with these bytes at these places.

    Raises
    ------
    AudioError
        If it is too large for that.
    """
    if source.size > MOST_BYTES:
        raise AudioError(f"{source.name}: {source.size} bytes, too long; cut it into clips of some seconds")
    with source.open() as file:
        content = bytearray(file.read(MOST_BYTES))
    for place, patch in (patches or {}).items():
        content[place : place + len(patch)] = patch
    return replace(source, content=content)


def _refuse_too_long(name: str, samples: int, header: Header) -> None:
    most = MOST_SAMPLES // header.channels
    if samples > most:
        raise AudioError(
            f"{name}: {samples / header.rate:.0f} s of {header.channels} channels at {header.rate} Hz, too long: a "
            f"recording may have {most / header.rate:.0f} s; cut it into clips of some seconds"
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
    by_name = isinstance(source.content, Path)  # which is faster than by a file of Python
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


def _decoded(look: _Look, dtype: str) -> Iterator[NDArray[Any]]:
    """The samples in blocks, each (frames, channels); never more than a recording may have."""
    name, header = look.source.name, look.header
    if look.is_counted:
        _refuse_too_long(name, header.samples, header)
    size, done = (header.samples if look.is_counted else BLOCK), 0
    with _opened(look.source) as file:
        while True:
            with _explained(name):
                block = file.read(size, dtype=dtype, always_2d=True)
            done += len(block)
            _refuse_too_long(name, done, header)
            if done == 0:
                message = f"{name}: holds no samples; record it again or remove it"
                raise AudioError(message, fault="empty")
            if len(block):
                yield block
            if look.is_counted or len(block) < size:
                return


def _aligned(data: NDArray[Any], valid_bits: int | None) -> tuple[NDArray[Any], tuple[Note, ...]]:
    """Samples of 32 bits whose most significant bit is the first one, also where a recorder put them to the right.

    Samples of fewer bits belong to the left. If the header says how many bits are used and they lie to the right,
    they are moved; if it does not, a recording of a quiet place looks the same, and is only noted.
    """
    bits = valid_bits if valid_bits is not None and valid_bits < 32 else CONVERTER_BITS
    peak = max(int(data.max(initial=0)), -int(data.min(initial=0)) - 1)
    if peak >= 2 ** (bits - 1) or not (data & (2 ** (32 - bits) - 1)).any():
        return data, ()
    if valid_bits is not None and valid_bits < 32:
        message = f"its samples of {bits} bits are at the lower end of 32; they were moved to the upper end"
        return data << (32 - bits), (Note("right_aligned", message),)
    if peak < 2**LOWEST_BITS:
        return data, ()
    message = (
        f"no sample uses more than the lower {bits} of its 32 bits, so that the recording is more than 48 dB below "
        f"full scale; if the recorder put samples of {bits} bits there, it must put them to the upper end"
    )
    return data, (Note("right_aligned", message),)
