"""Reading, resampling and writing of recordings.

Conventions
-----------
Samples are ``(channels, samples)`` float32 in [-1, 1). Channels are never mixed down: channel ``NEAR`` is the
microphone near the machine, channel ``FAR`` the one that hears mostly the surroundings.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Literal, TypeVar, cast

import numpy as np
import soundfile
import soxr

from nearfar.recordings.clips import ACQUISITION_SUFFIXES
from nearfar.recordings.recording import Recording
from nearfar.recordings.sound import AudioError, Header, Note, Recorded, Samples, chosen_channels

__all__ = [  # with what other rooms take from here of a recording that is read
    "AudioError", "Header", "Note", "Recorded", "Samples", "at_rate", "each", "load", "read", "read_header",
    "read_pcm16", "read_recorded", "require_length", "require_samples", "resample", "write",
]  # fmt: skip

S = TypeVar("S")
T = TypeVar("T")

NEAR, FAR = 0, 1  # DCASE 2026 Task 2: left and right channel
INT16_SCALE = 1 / 32768
UNKNOWN_LENGTH = 0x7FFFF000  # bytes; from here on a placeholder of a program that could not seek back
RESAMPLING_QUALITY = "HQ"  # of soxr: a tone above the new Nyquist frequency is 148 dB down
# By suffix, the module that reads such files, with ``read_header(path, channels) -> Header`` and
# ``read(path, channels) -> Recorded``, which select the channels by number or name. All others are sound files.
READERS = dict.fromkeys(ACQUISITION_SUFFIXES, "nearfar.recordings.acquisition")


def read_header(recording: Recording | Path) -> Header:
    """The header of a recording, checked against the length of its files; of the channels that are chosen.

    Raises
    ------
    FileNotFoundError
    AudioError
        If a file is empty, not audio, or shorter than its header promises; if a chosen channel is not there.
    """
    recording = Recording.of(recording)
    if len(recording.paths) == 1 and (reader := _reader(recording.path)) is not None:
        return cast(Header, reader.read_header(recording.path, recording.channels))
    headers = [_read_header(path) for path in recording.paths]
    return _of_channels(_common_header(recording, headers), recording)


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


def _of_channels(header: Header, recording: Recording) -> Header:
    """The same header with the number of channels that are chosen."""
    places = chosen_channels(recording.channels, count=header.channels, where=str(recording))
    return replace(header, channels=len(places))


def _read_header(path: Path) -> Header:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); record it again or remove it", fault="empty")
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        message = f"{path}: not a readable recording ({error.error_string})"
        raise AudioError(message, fault="unreadable") from error
    if info.format in ("WAV", "WAVEX"):
        _refuse_truncated_wav(path)
    if info.frames == 0:
        raise AudioError(f"{path}: holds no samples; record it again or remove it", fault="empty")
    return Header(info.samplerate, info.channels, info.frames, f"{info.format}/{info.subtype}")


def _refuse_truncated_wav(path: Path) -> None:
    """libsndfile reads what is left of a truncated file without a word; the chunk sizes tell."""
    size = path.stat().st_size
    with path.open("rb") as f:
        f.seek(12)
        while len(chunk := f.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":
                missing = f.tell() + length - size
                if missing > 0 and length < UNKNOWN_LENGTH:
                    message = f"{path}: truncated, {missing} of {length} bytes of audio are missing"
                    raise AudioError(message, fault="truncated")
                return
            f.seek(length + length % 2, 1)


def read(recording: Recording | Path) -> tuple[Samples, int]:
    """The chosen channels of a recording and its rate; all channels if none is chosen.

    Returns
    -------
    samples : (channels, samples) float32 array
    rate : int
        In Hz.

    Raises
    ------
    FileNotFoundError
    AudioError
        If the recording is empty, unreadable, truncated, or has samples that are not finite.
    """
    recorded = read_recorded(recording)
    return recorded.samples, recorded.rate


def read_recorded(recording: Recording | Path) -> Recorded:
    """All that is known of a recording after reading it; arguments and errors as of ``read``."""
    recording = Recording.of(recording)
    if len(recording.paths) == 1 and (reader := _reader(recording.path)) is not None:
        return cast(Recorded, reader.read(recording.path, recording.channels))
    if len(recording.paths) > 1:
        read_header(recording)  # refuses tracks that differ before any is read
    files = [_read(path) for path in recording.paths]
    header = _common_header(recording, [file.header for file in files])
    places = chosen_channels(recording.channels, count=header.channels, where=str(recording))
    samples = files[0].samples if len(files) == 1 else np.concatenate([file.samples for file in files])
    if recording.channels:
        samples = np.ascontiguousarray(samples[places])
    notes = dict.fromkeys(note for file in files for note in file.notes)
    return Recorded(samples, header.rate, replace(header, channels=len(places)), tuple(notes))


def _read(path: Path) -> Recorded:
    """All channels of a sound file."""
    header = _read_header(path)
    sixteen_bit = header.format.endswith("PCM_16")
    try:
        data, rate = soundfile.read(path, dtype="int16" if sixteen_bit else "float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        message = f"{path}: damaged, its samples cannot be decoded ({error.error_string})"
        raise AudioError(message, fault="unreadable") from error
    if len(data) != header.samples:
        message = f"{path}: truncated, {len(data)} of {header.samples} samples could be read"
        raise AudioError(message, fault="truncated")
    samples = np.ascontiguousarray(data.T, dtype=np.float32)
    if sixteen_bit:
        samples *= np.float32(INT16_SCALE)
    elif not np.isfinite(samples).all():
        message = f"{path}: {(~np.isfinite(samples)).sum()} samples are NaN or infinite"
        raise AudioError(message, fault="not_finite")
    return Recorded(samples, rate, header)


def read_pcm16(stream: BinaryIO, *, channels: int) -> Samples:
    """Raw interleaved little-endian 16-bit PCM up to the end of the stream: (channels, samples)."""
    raw = stream.read()
    if not raw or len(raw) % (2 * channels):
        raise AudioError(
            f"{len(raw)} bytes on standard input are not whole frames of {channels} 16-bit channels; "
            f"expected a positive multiple of {2 * channels} bytes of little-endian PCM"
        )
    return np.ascontiguousarray(
        np.frombuffer(raw, "<i2").reshape(-1, channels).T * np.float32(INT16_SCALE), dtype=np.float32
    )


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
        raise AudioError(f"{name}: an array of shape {samples.shape}; expected (channels, samples)")
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"{name}: {samples.dtype} samples; expected floating point in [-1, 1)")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: {(~np.isfinite(samples)).sum()} samples are NaN or infinite")


def require_length(samples: Samples, fewest: int, rate: int, name: str) -> None:
    """Raise an ``AudioError`` if there are fewer samples than that at this rate."""
    if samples.shape[-1] < fewest:
        raise AudioError(
            f"{name}: {samples.shape[-1] / rate:.3f} s long; at least {fewest / rate:.3f} s are needed"
        )


def at_rate(samples: Samples, recorded: int, rate: int, name: str) -> Samples:
    """As ``resample``, but only downwards; ``name`` says in the error which recording it was."""
    if recorded < rate:
        raise AudioError(
            f"{name}: recorded at {recorded} Hz, but {rate} Hz are needed; record at {rate} Hz or more, "
            f"or fit with --set branch.encoder_options.sample_rate={recorded}"
        )
    return resample(samples, recorded, rate)


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

    Raises
    ------
    AudioError
        If a sample is not finite, or is outside [-1, 1] in PCM: the file would not hold what was given.
    """
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: {(~np.isfinite(samples)).sum()} samples are NaN or infinite")
    if bits == 32:
        soundfile.write(path, samples.T, rate, subtype="FLOAT")
        return
    if np.abs(samples).max(initial=0) > 1:
        raise AudioError(f"{path}: samples must be within [-1, 1] to be written as 16-bit PCM")
    data = np.clip(np.rint(samples.T / INT16_SCALE), -32768, 32767).astype(np.int16)
    soundfile.write(path, data, rate, subtype="PCM_16")
