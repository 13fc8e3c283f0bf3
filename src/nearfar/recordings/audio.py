"""Reading, resampling and writing of recordings.

Conventions
-----------
Samples are ``(channels, samples)`` float32 in [-1, 1). Channels are never mixed down: channel ``NEAR`` is the
microphone near the machine, channel ``FAR`` the one that hears mostly the surroundings.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Literal, TypeVar, cast

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from nearfar.files.atomic import atomic_file
from nearfar.recordings import apart, sound_files
from nearfar.recordings.blocks import Block, InBlocks, Lost, closing, part_of, side_by_side
from nearfar.recordings.clips import ACQUISITION_SUFFIXES
from nearfar.recordings.containers import BEGINNING, is_container
from nearfar.recordings.recording import Channel, Recording, missing_track
from nearfar.recordings.sound import AudioError, Header, Note, Recorded, Samples, chosen_channels, not_finite
from nearfar.recordings.sound_files import INT16_SCALE, MOST_BYTES, MOST_SAMPLES, Source

__all__ = [  # with what other rooms take from here of a recording that is read
    "INT16_SCALE",
    "AudioError",
    "Header",
    "Note",
    "Recorded",
    "Samples",
    "at_rate",
    "each",
    "in_blocks",
    "is_stream",
    "load",
    "read",
    "read_header",
    "read_part",
    "read_recorded",
    "read_stream",
    "require_length",
    "require_samples",
    "resample",
    "select",
    "write",
]

HIGHEST_RATE = 100_000_000  # Hz; converters for acoustic emission reach 40 MHz
S = TypeVar("S")
T = TypeVar("T")

NEAR, FAR = 0, 1  # DCASE 2026 Task 2: left and right channel
WORDS = {16: "16-bit PCM", 32: "32-bit floating point"}
RESAMPLING_QUALITY = "HQ"  # of soxr: a tone above the new Nyquist frequency is 148 dB down
PEAK_WITHIN = 256  # bytes from the beginning of a file
RAW_FORMAT = "RAW/PCM_16"  # of a header
READ_AT_ONCE = 2**20  # bytes of a stream
# By suffix, the module that reads such files, with ``read_header(path, channels, span) -> Header`` and
# ``read(path, channels, span) -> Recorded``, which select channels by number or name. All others are sound files.
READERS = dict.fromkeys(ACQUISITION_SUFFIXES, "nearfar.recordings.acquisition")


def read_header(recording: Recording | Path) -> Header:
    """The header of a recording, checked against the length of its files; of the channels and part that are chosen.

    Raises
    ------
    FileNotFoundError
    AudioError
        If a file is empty, not audio, or shorter than its header promises; if a chosen channel or the part is not
        there.
    """
    recording = Recording.of(recording)
    return _with_a_rate(apart.called(_read_header, recording, **_of(recording)), str(recording))


def _read_header(recording: Recording) -> Header:
    if len(recording.paths) == 1 and (reader := _reader(recording.path)) is not None:
        return cast(Header, reader.read_header(recording.path, recording.channels, recording.span))
    span = recording.span
    headers = [sound_files.read_header(Source.at(path, span), span) for path in recording.paths]
    header = _common_header(recording, headers)
    return replace(header, channels=len(_places(recording, header.channels)))


def _reader(path: Path) -> ModuleType | None:
    """The module that reads files with this suffix; ``None`` for a sound file."""
    name = READERS.get(path.suffix.lower())
    return None if name is None else import_module(name)


def _common_header(recording: Recording, headers: Sequence[Header]) -> Header:
    """Of all files of a recording together."""
    first = headers[0]
    if len(headers) == 1:
        return first
    for path, header in zip(recording.paths, headers, strict=True):
        if header.channels != 1:
            raise AudioError(f"{path}: {header.channels} channels; a track of a recording must have one")
        if (header.rate, header.samples) != (first.rate, first.samples):
            raise AudioError(
                f"{recording}: {first.samples} samples at {first.rate} Hz, but the other track {path.name} has "
                f"{header.samples} at {header.rate} Hz; tracks of a recording must have the same rate and length"
            )
    return replace(first, channels=len(headers))


def read(recording: Recording | Path) -> tuple[Samples, int]:
    """The chosen channels of a recording, or of the part that is chosen, and its rate; all channels if none is.

    Returns
    -------
    samples : (channels, samples) float32 array
    rate : int
        In Hz.

    Raises
    ------
    FileNotFoundError
    AudioError
        If the recording is empty, unreadable, truncated, or has samples that are not finite; or no such part.
    """
    recorded = read_recorded(recording)
    return recorded.samples, recorded.rate


def read_recorded(recording: Recording | Path) -> Recorded:
    """All that is known of a recording after reading it; arguments and errors as of ``read``."""
    recording = Recording.of(recording)
    recorded = apart.called(_read_recorded, recording, **_of(recording))
    _with_a_rate(recorded.header, str(recording))
    return recorded


def _read_recorded(recording: Recording) -> Recorded:
    if len(recording.paths) == 1 and (reader := _reader(recording.path)) is not None:
        return cast(Recorded, reader.read(recording.path, recording.channels, recording.span))
    span = recording.span
    if len(recording.paths) > 1:
        _read_header(replace(recording, span=None))  # refuses tracks that differ before any is read
    files = [sound_files.read(Source.at(path, span), span) for path in recording.paths]
    header = _common_header(recording, [file.header for file in files])
    samples = files[0].samples if len(files) == 1 else np.concatenate([file.samples for file in files])
    notes = dict.fromkeys(note for file in files for note in file.notes)
    recorded = Recorded(samples, header.rate, header, tuple(notes))
    return _with(recorded, _places(recording, header.channels)) if recording.channels else recorded


def in_blocks(recording: Recording | Path) -> InBlocks:
    """The chosen channels of a recording, or of the part that is chosen, some samples at a time.

    A block that cannot be read, or is missing at the end, does not hide the others. Memory does not grow with the
    recording, but for universal files and old MATLAB files, which are read whole.

    Raises
    ------
    FileNotFoundError
    AudioError
        If nothing of it can be read, tracks differ, or a chosen channel or the part is not there.
    """
    recording = Recording.of(recording)
    if not apart.is_on():
        found = _in_blocks(recording)
        _with_a_rate(found.header, str(recording))
        return found
    header, is_counted, notes = apart.called(_without_blocks, recording, **_of(recording))
    _with_a_rate(header, str(recording))

    def blocks(start: int) -> Iterator[Block]:
        left = header.samples - start
        return apart.blocks(_blocks_from, recording, start, left=left, **_of(recording))

    return InBlocks(header, is_counted, notes, blocks)


def _with_a_rate(header: Header, name: str) -> Header:
    """The header, if a converter can have had its rate; others would ask for frames of gigabytes."""
    if header.rate > HIGHEST_RATE:
        raise AudioError(
            f"{name}: {header.rate} Hz is no sampling rate; the header is damaged, or of another kind of file: "
            "record it again, or correct the header",
            fault="unreadable",
        )
    return header


def _of(recording: Recording) -> dict[str, Any]:
    """What a process that decodes it is told of: its name, and how to find the size of its files."""

    def size() -> int:
        with suppress(OSError):  # which the process that reads them tells
            return sum(path.stat().st_size for path in recording.paths)
        return 0

    return {"name": str(recording), "size": size}


def _without_blocks(recording: Recording) -> tuple[Header, bool, tuple[Note, ...]]:
    found = _in_blocks(recording)
    return found.header, found.is_counted, found.notes


def _blocks_from(recording: Recording, start: int) -> Iterator[Block]:
    return _in_blocks(recording).blocks(start)


def _in_blocks(recording: Recording) -> InBlocks:
    if len(recording.paths) == 1 and (reader := _reader(recording.path)) is not None:
        return part_of(cast(InBlocks, reader.in_blocks(recording.path, recording.channels)), recording)
    files = [sound_files.in_blocks(Source.at(path)) for path in recording.paths]
    header = _common_header(recording, [file.header for file in files])
    places = _places(recording, header.channels)
    notes = tuple(dict.fromkeys(note for file in files for note in file.notes))
    every = places == list(range(header.channels))

    def blocks(start: int) -> Iterator[Block]:
        tracks = [file.blocks(start) for file in files]
        with closing(tracks):
            for block in tracks[0] if len(tracks) == 1 else side_by_side(tracks):
                yield block if every or isinstance(block, Lost) else np.ascontiguousarray(block[places])

    is_counted = all(file.is_counted for file in files)
    whole = InBlocks(replace(header, channels=len(places)), is_counted, notes, blocks)
    return part_of(whole, recording)


def _places(recording: Recording, count: int) -> list[int]:
    """Where its channels are, of so many; an error says so if a track is missing."""
    try:
        return chosen_channels(recording.channels, count=count, where=str(recording))
    except AudioError as error:
        raise AudioError(f"{error}{missing_track(recording)}", fault=error.fault) from None


def read_part(path: Path, start: int, frames: int) -> Samples:
    """At most so many samples of a file from that one on: (channels, samples); errors as of ``read``."""
    if _reader(path) is not None:
        return read(path)[0][:, start : start + frames]
    return apart.called(_read_part, path, start, frames, **_of(Recording((path,))))


def _read_part(path: Path, start: int, frames: int) -> Samples:
    return sound_files.read_part(Source.at(path), start, frames)


def is_stream(path: Path) -> bool:
    """Whether there is a named pipe or a device, which can be read once from beginning to end."""
    return path.is_fifo() or path.is_char_device() or path.is_block_device()


def read_stream(stream: BinaryIO, name: str, *, rate: int, channels: int) -> Recorded:
    """All channels of what a pipe or device gives until it ends: a sound file, or raw samples.

    Parameters
    ----------
    stream : binary file
    name : str
        What messages call it.
    rate, channels : int
        Of raw samples, which are interleaved little-endian 16-bit PCM.

    Raises
    ------
    AudioError
        If there are no bytes, or more than a recording may have; if raw samples are not whole frames; as ``read``.
    """
    content = bytearray()
    _read_up_to(BEGINNING, stream, content)
    is_file = is_container(content)
    most = MOST_BYTES if is_file else 2 * MOST_SAMPLES
    _read_up_to(most + 1, stream, content)
    if len(content) > most:
        raise AudioError(f"{name}: it does not end within {most} bytes; give clips of some seconds")
    if not content:
        raise AudioError(f"{name}: it ended without a single byte; is the recorder running?", fault="empty")
    if is_file:
        recorded = apart.called(sound_files.read, Source(name, content), name=name, size=lambda: len(content))
        _with_a_rate(recorded.header, name)
        return recorded
    if len(content) % (2 * channels):
        raise AudioError(
            f"{name}: {len(content)} bytes are no sound file, and not whole frames of {channels} 16-bit channels: "
            f"raw little-endian PCM must be a multiple of {2 * channels} bytes",
            fault="unreadable",
        )
    frames = np.frombuffer(content, "<i2").reshape(-1, channels)
    samples = np.ascontiguousarray(frames.T * np.float32(INT16_SCALE), dtype=np.float32)
    return Recorded(samples, rate, Header(rate, channels, len(frames), RAW_FORMAT))


def _read_up_to(size: int, stream: BinaryIO, content: bytearray) -> None:
    """Add to the content what a stream gives, until it has that size or the stream ends."""
    while len(content) < size and (block := stream.read(min(READ_AT_ONCE, size - len(content)))):
        content += block


def select(recorded: Recorded, channels: Sequence[Channel], where: str) -> Recorded:
    """The same with these channels only; all, if none is chosen."""
    if not channels:
        return recorded
    return _with(recorded, chosen_channels(channels, count=len(recorded.samples), where=where))


def _with(recorded: Recorded, places: Sequence[int]) -> Recorded:
    """The same with the channels at these places."""
    samples = np.ascontiguousarray(recorded.samples[places])
    return replace(recorded, samples=samples, header=replace(recorded.header, channels=len(places)))


def resample(samples: Samples, rate: int, to: int) -> Samples:
    """The same sound at another rate, by soxr.

    Parameters
    ----------
    samples : (channels, samples) array
    rate, to : int
        In Hz.
    """
    if rate == to:
        return samples
    return np.ascontiguousarray(soxr.resample(samples.T, rate, to, quality=RESAMPLING_QUALITY).T)


def load(recording: Recording | Path, rate: int) -> Samples:
    """The channels of a recording at ``rate`` Hz, as of ``read``: (channels, samples).

    Raises
    ------
    FileNotFoundError
    AudioError
        As ``read``; and if the recording has a lower rate, because what lies above its Nyquist frequency was
        never recorded.
    """
    samples, recorded = read(recording)
    return at_rate(samples, recorded, rate, str(recording))


def require_samples(samples: Samples, name: str) -> None:
    """Raise unless this is sound: (channels, samples), of floating point, finite.

    Raises
    ------
    AudioError
        With what is wrong; ``name`` says with which recording.
    """
    if samples.ndim != 2 or samples.size == 0 or samples.shape[0] > samples.shape[1]:
        raise AudioError(
            f"{name}: an array of shape {samples.shape}; expected (channels, samples), and no fewer samples than "
            "channels"
        )
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"{name}: {samples.dtype} samples; expected floating point in [-1, 1)")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: {not_finite(samples)}")


def require_length(samples: Samples, fewest: int, rate: int, name: str) -> None:
    """Raise an ``AudioError`` if there are fewer samples than that at this rate."""
    if samples.shape[-1] < fewest:
        raise AudioError(
            f"{name}: {samples.shape[-1] / rate:.3f} s long; at least {fewest / rate:.3f} s are needed"
        )


def at_rate(samples: Samples, recorded: int, rate: int, name: str) -> Samples:
    """As ``resample``, but only downwards; ``name`` says in the error which recording it was."""
    require_rate(recorded, rate, name)
    return resample(samples, recorded, rate)


def require_rate(recorded: int, rate: int, name: str) -> None:
    """Raise an ``AudioError`` if a recording has a lower rate than is needed, both in Hz."""
    if recorded < rate:
        raise AudioError(
            f"{name}: recorded at {recorded} Hz, but {rate} Hz are needed; record at {rate} Hz or more, "
            f"or fit a system with one branch, such as spectral, with --set "
            f"branch.encoder_options.sample_rate={recorded}"
        )


def each(items: Iterable[S], function: Callable[[S], T], *, workers: int = 1) -> Iterator[T]:
    """``function(item)`` of every item, in their order; ``workers`` threads work ahead.

    For functions that read a recording and compute on it: NumPy, SciPy and libsndfile release the interpreter.
    A few results are in memory at a time, however many items there are.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def write(path: Path, samples: Samples, rate: int, *, bits: Literal[16, 32] = 16) -> None:
    """Write (channels, samples), as 16-bit PCM or 32-bit floating point; the suffix names the format.

    The file is whole or, if there is no space for it, what stood there stays.

    Raises
    ------
    AudioError
        If a sample is not finite, or is outside [-1, 1] in PCM: the file would not hold what was given. If the
        format does not exist, or cannot hold such samples: FLAC has no floating point.
    OSError
        If it cannot be written, because the disk is full for example.
    """
    if bits not in (16, 32):
        raise AudioError(f"{path}: bits={bits}; it must be 16 (PCM) or 32 (floating point)")
    format_, subtype = path.suffix[1:].upper(), "FLOAT" if bits == 32 else "PCM_16"
    if not (format_ in soundfile.available_formats() and soundfile.check_format(format_, subtype)):
        raise AudioError(
            f"{path}: bits={bits}, but the format {path.suffix!r} has no {WORDS[bits]}; write .wav, which has "
            "16-bit PCM and 32-bit floating point, or .flac, which has 16-bit PCM only"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: {not_finite(samples)}")
    data: NDArray[Any] = samples.T
    if bits == 16:
        if np.abs(samples).max(initial=0) > 1:
            raise AudioError(f"{path}: samples must be within [-1, 1] to be written as 16-bit PCM")
        data = np.clip(np.rint(data / INT16_SCALE), -32768, 32767).astype(np.int16)
    encoded = io.BytesIO()  # libsndfile does not tell why it could not write to a file
    try:
        soundfile.write(encoded, data, rate, subtype=subtype, format=format_)
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path}: {len(samples)} channels at {rate} Hz cannot be written: {error}"
        ) from error
    content = _without_time(encoded.getvalue())
    if path.exists() and not path.is_file():  # a device or a pipe keeps its place
        path.write_bytes(content)
        return
    with atomic_file(path) as part:
        part.write_bytes(content)


def _without_time(content: bytes) -> bytes:
    """The same file without the time at which libsndfile wrote it, so that equal samples give equal bytes.

    Files of floating point have it in a chunk PEAK before the samples: its size, its version, the time.
    """
    at = content.find(b"PEAK", 0, PEAK_WITHIN)
    if at < 0:
        return content
    return content[: at + 12] + bytes(4) + content[at + 16 :]
