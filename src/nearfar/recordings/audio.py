"""Reading, resampling and writing of recordings.

Conventions
-----------
Samples are ``(channels, samples)`` float32 in [-1, 1). Channels are never mixed down: channel ``NEAR`` is the
microphone near the machine, channel ``FAR`` the one that hears mostly the surroundings.
"""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from nearfar.files.atomic import atomic_file

Samples = NDArray[np.float32]
S = TypeVar("S")
T = TypeVar("T")

NEAR, FAR = 0, 1  # DCASE 2026 Task 2: left and right channel
INT16_SCALE = 1 / 32768
UNKNOWN_LENGTH = 0x7FFFF000  # bytes; from here on a placeholder of a program that could not seek back
WORDS = {16: "16-bit PCM", 32: "32-bit floating point"}
RESAMPLING_QUALITY = "HQ"  # of soxr: a tone above the new Nyquist frequency is 148 dB down
AudioFault = Literal["empty", "unreadable", "truncated", "not_finite", "refused"]


class AudioError(ValueError):
    """A recording cannot be used; the message says which and why, ``fault`` what kind of wrong it is."""

    def __init__(self, message: str, *, fault: AudioFault = "refused") -> None:
        super().__init__(message)
        self.fault: AudioFault = fault


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording's header promises: ``samples`` of ``channels`` at ``rate`` Hz."""

    rate: int
    channels: int
    samples: int
    format: str

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def read_header(path: Path) -> Header:
    """The header of a WAV or FLAC file, checked against the length of the file.

    Raises
    ------
    FileNotFoundError
    AudioError
        If the file is empty, not audio, or shorter than its header promises.
    """
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


def read(path: Path) -> tuple[Samples, int]:
    """All channels of a recording and its rate.

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
    header = read_header(path)
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
    return samples, rate


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


def load(path: Path, rate: int) -> Samples:
    """All channels of a recording at ``rate`` Hz: (channels, samples).

    Raises
    ------
    FileNotFoundError
    AudioError
        As ``read``; and if the recording has a lower rate, because what lies above its Nyquist frequency was
        never recorded.
    """
    samples, recorded = read(path)
    return at_rate(samples, recorded, rate, str(path))


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
        raise AudioError(f"{path}: {(~np.isfinite(samples)).sum()} samples are NaN or infinite")
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
    if path.exists() and not path.is_file():  # a device or a pipe keeps its place
        path.write_bytes(encoded.getbuffer())
        return
    with atomic_file(path) as part:
        part.write_bytes(encoded.getbuffer())
