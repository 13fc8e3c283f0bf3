# Copyright the nearfar authors.
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance
# with the License. You may obtain a copy of the License at
#
#     https://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed
# on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for
# the specific language governing permissions and limitations under the License.
"""Says whether a machine sounds as usual, by a detector that `nearfar export` has written.

    python nearfar_edge.py pump.onnx recording.wav another.wav
    arecord -t raw -f S16_LE -c 2 -r 16000 | python nearfar_edge.py pump.onnx - --pcm s16le
    python nearfar_edge.py pump.onnx                  # what the detector was fitted to

This file is all that is needed, with Python 3.9 or newer, NumPy and ONNX Runtime (`pip install numpy onnxruntime`).
As a module:

    from nearfar_edge import Detector
    verdict = Detector("pump.onnx").score(samples)    # (channels, samples), float32 in [-1, 1)

It judges as `nearfar score` does, and leaves out what that does beside: it does not resample, reads WAV and raw
samples only, and looks at a recording no more closely than to refuse what is no sound at all. Microphones that are
exchanged, deaf or drifting, and other faults of recordings, are found by `nearfar score`.

Conventions
-----------
Samples are ``(channels, samples)`` float32 in [-1, 1). Times are in seconds of the recording. Channels are counted
from 1, as `nearfar` does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

FORMAT = "1"  # of the exported file that this runner knows

# Samples as they are stored, by the names that ffmpeg gives them: type in NumPy, bytes, size of a step.
CODINGS = {
    "u8": ("u1", 1, 2.0**-7),
    "s16le": ("<i2", 2, 2.0**-15),
    "s24le": ("<i4", 3, 2.0**-31),  # a zero byte is put before each sample
    "s32le": ("<i4", 4, 2.0**-31),
    "f32le": ("<f4", 4, 1.0),
    "f64le": ("<f8", 8, 1.0),
}
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # format tags of WAV
OF_TAG = {
    (PCM, 1): "u8", (PCM, 2): "s16le", (PCM, 3): "s24le", (PCM, 4): "s32le",
    (FLOAT, 4): "f32le", (FLOAT, 8): "f64le",
}  # fmt: skip
GUID = bytes.fromhex("000000001000800000aa00389b71")  # what follows the tag in an extensible format

# As in `nearfar.recordings.containers`, which says why.
UNKNOWN_LENGTH, UNKNOWN_LENGTH_64 = 0x7FFFF000, 1 << 62  # sizes from here on are placeholders of streams
FULL_32 = 0xFFFFFFFF  # in RF64: the size is in the chunk ds64
MOST_CHUNKS, MOST_CONTENT = 1000, 2**20  # before the samples; bytes of the content of one that is read
TOLERATED, SMALL_SHARE, TINY_SHARE = 1024, 10, 1000  # bytes, and parts, that a header may count too many
SKIPPED = 2**16  # bytes that are read at once and let go

LEAST_REST = 0.01  # of a window: less sound after the last one is dropped
LENGTH_MARGIN = 1.2  # a recording that is shorter than those of the fit by more is not judged
MOST_PEAK = 8.0  # of full scale: a sample above it was stored in other units
MOST_COUNT = 10_000_000  # Hz, channels
FINE, ANOMALOUS, FAILED, STOPPED = 0, 1, 2, 130  # exit codes

Samples = NDArray[np.float32]


class EdgeError(ValueError):
    """A model or a recording cannot be used; the message says why."""


class Verdict(NamedTuple):
    """What a detector says of one recording, or of one window of it.

    Attributes
    ----------
    score : float
        The anomaly score; higher is more anomalous.
    p_value : float or None
        How often a normal recording would score as high; ``None`` of a detector without a threshold.
    is_anomaly : bool or None
        Whether the score is above the threshold; ``None`` of a detector without one.
    seconds : float
        How much sound was judged.
    branch_scores : tuple of float
        Of a fused system, the scores of its parts; empty of any other.
    """

    score: float
    p_value: float | None
    is_anomaly: bool | None
    seconds: float
    branch_scores: tuple[float, ...] = ()


class Heard(NamedTuple):
    """A window of a recording: when it begins and ends, and its verdict, or why there is none."""

    start: float
    end: float
    verdict: Verdict | None
    error: str = ""


class Stored(NamedTuple):
    """How samples are stored.

    Attributes
    ----------
    coding : str
        Of ``CODINGS``.
    rate : int
        In Hz.
    channels : int
        Interleaved.
    bits : int
        Of each sample, that are used.
    """

    coding: str
    rate: int
    channels: int
    bits: int = 32

    @property
    def frame_bytes(self) -> int:
        """Of a sample of every channel."""
        return self.channels * CODINGS[self.coding][1]


class Sound:
    """Samples that are read forwards, from a file or from a stream without end.

    Parameters
    ----------
    file : binary file
        At its first sample.
    stored : Stored
    size : int or None
        Bytes of samples; ``None``: as many as come.
    pending : bytes
        What was read of them already.

    Attributes
    ----------
    frames : int or None
        How many samples each channel has, if that is known.
    """

    def __init__(self, file: BinaryIO, stored: Stored, size: int | None = None, pending: bytes = b"") -> None:
        self.stored = stored
        self.frames = None if size is None else size // stored.frame_bytes
        self._file, self._pending = file, pending
        self._left = self.frames

    def read(self, frames: int) -> Samples:
        """(channels, frames) that come next; fewer where it ends.

        Raises
        ------
        EdgeError
            If it ends before its header says, or within a frame.
        """
        wanted = frames if self._left is None else min(frames, self._left)
        size = self.stored.frame_bytes
        content = self._take(wanted * size)
        got, rest = divmod(len(content), size)
        if self._left is None or self.frames is None:
            if rest:
                raise EdgeError(
                    f"ends within a frame: it was cut off, or has not {self.stored.channels} channels"
                )
        else:
            self._left -= got
            if got < wanted:
                refuse_truncated(self._left * size, self.frames * size)
                self._left = 0
        return decoded(content[: got * size], self.stored)

    def _take(self, size: int) -> bytes:
        taken, self._pending = self._pending[:size], self._pending[size:]
        return taken + self._file.read(size - len(taken))


def refuse_truncated(missing: int, claimed: int) -> None:
    """Raise if of so many bytes so many are missing that they were lost, and not miscounted."""
    if missing > max(min(TOLERATED, claimed // SMALL_SHARE), claimed // TINY_SHARE):
        raise EdgeError(f"truncated, {missing} of {claimed} bytes of sound are missing")


def decoded(content: bytes, stored: Stored) -> Samples:
    """Stored samples as (channels, samples).

    Parameters
    ----------
    content : bytes
        Whole frames.
    stored : Stored

    Raises
    ------
    EdgeError
        If samples of fewer bits than 32 lie at the lower end of these.

    Examples
    --------
    >>> from nearfar.export.nearfar_edge import Stored, decoded
    >>> decoded(bytes([0, 64, 0, 128]), Stored("s16le", rate=16000, channels=2))
    array([[ 0.5],
           [-1. ]], dtype=float32)
    """
    dtype, width, step = CODINGS[stored.coding]
    if width == 3:
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content = padded.tobytes()
    values = np.frombuffer(content, dtype).reshape(-1, stored.channels)
    if stored.coding == "s32le" and stored.bits < 32:
        _refuse_lower_end(values, stored.bits)
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number, or too large, is refused later
        samples = np.array(values.T, dtype=np.float32, order="C")
        if stored.coding == "u8":
            samples -= 128
        samples *= np.float32(step)
    return samples


def _refuse_lower_end(values: NDArray[Any], bits: int) -> None:
    """Raise if samples of so many bits of 32 lie where those that count least should be."""
    peak = max(int(values.max(initial=0)), -int(values.min(initial=0)) - 1)
    if peak < 2 ** (bits - 1) and (values & (2 ** (32 - bits) - 1)).any():
        raise EdgeError(
            f"its samples of {bits} bits lie at the lower end of 32: the recorder must put them to the upper"
        )


def open_pcm(file: BinaryIO, stored: Stored) -> Sound:
    """Raw interleaved samples, of a file or of a pipe.

    Raises
    ------
    EdgeError
        If there are none, or it begins as a WAV.
    """
    size = _bytes_left(file)
    beginning = file.read(12)
    if not beginning:
        raise EdgeError("empty, not a single byte; is the recorder running?")
    if _is_wav(beginning):
        raise EdgeError("begins as a WAV file; omit --pcm, or record raw samples (arecord -t raw)")
    if size is not None and size % stored.frame_bytes:
        raise EdgeError(
            f"{size} bytes are not whole frames of {stored.frame_bytes} bytes; is --channels right?"
        )
    return Sound(file, stored, size, pending=beginning)


def open_wav(file: BinaryIO) -> Sound:
    """A WAV file, also one that is piped, or whose header was never finished.

    Raises
    ------
    EdgeError
        If it is empty, no WAV, coded otherwise than as PCM or floating point, truncated, or without samples.
    """
    size = _bytes_left(file)
    beginning = file.read(12)
    if not beginning:
        raise EdgeError("empty (0 bytes); record it again")
    if not _is_wav(beginning):
        raise EdgeError("not a WAV file; record WAV, or say with --pcm how raw samples are stored")
    format_, large, claimed, read = _chunks_before_samples(file)
    stored = _format_of(format_)
    available = None if size is None else size - len(beginning) - read
    unknown = UNKNOWN_LENGTH
    if beginning[:4] != b"RIFF" and claimed == FULL_32 and large is not None:
        claimed, unknown = large, UNKNOWN_LENGTH_64
    if claimed == 0 or (claimed >= unknown and (available is None or claimed > available)):
        length = available
    else:
        length = claimed if available is None else min(claimed, available)
        refuse_truncated(claimed - length, claimed)
    sound = Sound(file, stored, length)
    if sound.frames == 0:
        raise EdgeError("holds no samples; record it again")
    return sound


def _is_wav(beginning: bytes) -> bool:
    return beginning[:4] in (b"RIFF", b"RF64", b"BW64") and beginning[8:12] == b"WAVE"


def _bytes_left(file: BinaryIO) -> int | None:
    """How many bytes follow in a file; ``None`` in a pipe, whose end is not known."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):  # no file of the operating system
        return None
    return found.st_size - file.tell() if stat.S_ISREG(found.st_mode) else None


def _chunks_before_samples(file: BinaryIO) -> tuple[bytes, int | None, int, int]:
    """Content of the format; 64-bit size of the samples, if any; their 32-bit size; how many bytes were read."""
    format_, large, read = b"", None, 0
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, size = struct.unpack("<4sI", head)
        read += 8
        if name == b"data":
            return format_, large, size, read
        padded = size + size % 2
        if name in (b"fmt ", b"ds64"):
            content = file.read(min(padded, MOST_CONTENT))
            padded -= len(content)
            read += len(content)
            if name == b"fmt ":
                format_ = content
            elif len(content) >= 16:
                large = int.from_bytes(content[8:16], "little")
        while padded > 0 and (skipped := len(file.read(min(padded, SKIPPED)))):
            padded -= skipped
            read += skipped
    raise EdgeError("damaged: it has no chunk of samples")


def _format_of(content: bytes) -> Stored:
    """How samples are stored, from the chunk of the format."""
    if len(content) < 16:
        raise EdgeError("damaged: before its samples, nothing says how they are stored")
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", content[:16])
    valid = 0
    if tag == EXTENSIBLE and content[26:40] == GUID:
        valid, _, tag = struct.unpack("<HIH", content[18:26])
    width = -(-bits // 8)
    coding = OF_TAG.get((tag, width))
    if coding is None:
        raise EdgeError(f"format {tag:#x} with {bits} bits: record PCM of 8 to 32 bits, or floating point")
    if channels == 0 or rate == 0 or align != channels * width:
        raise EdgeError(f"damaged: its header says {channels} channels at {rate} Hz, {align} bytes a frame")
    return Stored(coding, rate, channels, valid if 0 < valid < bits else bits)


def windows_of(sound: Sound, length: int, hop: int) -> Iterator[tuple[int, Samples]]:
    """The first sample of each window, and the window, (channels, length), as soon as it is complete.

    They are those of `nearfar score`: the last window ends where the sound ends, unless there is hardly a rest. A
    sound that is shorter is one window.

    Parameters
    ----------
    sound : Sound
    length, hop : int
        Of a window, and from one to the next, in samples.
    """
    window = sound.read(length)
    start = 0
    if 0 < window.shape[1] < length:
        yield start, window
    while window.shape[1] == length:
        yield start, window
        new = sound.read(hop)
        got = new.shape[1]
        if got < hop and (got == 0 or got < LEAST_REST * length):
            return
        start += got
        window = np.concatenate([window[:, got:], new], axis=1)
        if got < hop:
            yield start, window
            return


class Detector:
    """A detector of one machine, as `nearfar export` has written it.

    Parameters
    ----------
    path : str or path
        The ONNX file.
    threads : int
        Of the processor, that compute.
    select : sequence of int
        Which channels of recordings it hears, from 1, the near one first; empty: as for its fit.

    Attributes
    ----------
    machine, system : str
        What it was fitted to, and what was fitted.
    rate : int
        In Hz, of what it hears.
    channels : int
        How many it hears.
    samples : int or None
        How many it hears at once; ``None``: any number from ``least_samples`` on.
    window_seconds, shortest_seconds, longest_seconds : float or None
        Of the recordings of the fit: the length of a window, and of the shortest and longest recording.
    threshold, false_alarm_rate : float or None
        A score above it is an anomaly; the share of normal recordings for which that may be so.

    Raises
    ------
    EdgeError
        If ONNX Runtime is missing or cannot read the file, or `nearfar export` has not written it.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1, select: Sequence[int] = ()) -> None:
        self.path = os.fspath(path)
        self._session = _session(self.path, threads)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        found = self.metadata.get("nearfar.format")
        if found is None:
            raise EdgeError(f"{self.path}: an ONNX file, but none that `nearfar export` has written")
        if found != FORMAT:
            raise EdgeError(
                f"{self.path}: format {found} of nearfar, but this runner knows {FORMAT}; use the one that was "
                "written beside the file"
            )
        self.machine, self.system = self._text("machine"), self._text("system")
        self.rate, self.channels = int(self._number("rate")), int(self._number("channels"))
        self.least_samples = int(self._known("least_samples") or 1)
        samples = self._known("samples")
        self.samples = None if samples is None else int(samples)
        self.window_seconds = self._known("window_seconds")
        self.shortest_seconds = self._known("shortest_seconds") or self.window_seconds
        self.longest_seconds = self._known("longest_seconds") or self.window_seconds
        self.threshold, self.false_alarm_rate = self._known("threshold"), self._known("false_alarm_rate")
        self._selected = list(select) or json.loads(self._text("selected") or "[]")
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _text(self, name: str) -> str:
        return self.metadata.get(f"nearfar.{name}", "")

    def _known(self, name: str) -> float | None:
        """A number of the metadata; ``None`` if it is not told."""
        text = self._text(name)
        try:
            return float(text) if text else None
        except ValueError:
            raise EdgeError(f"{self.path}: damaged, its metadata say nearfar.{name}={text!r}") from None

    def _number(self, name: str) -> float:
        known = self._known(name)
        if known is None:
            raise EdgeError(f"{self.path}: damaged, its metadata do not say nearfar.{name}")
        return known

    def score(self, samples: Samples) -> Verdict:
        """What it says of samples at its rate, of the channels that it hears.

        Parameters
        ----------
        samples : (channels, samples) array
            In [-1, 1); if there are more channels than it hears, the first ones count.

        Raises
        ------
        EdgeError
            If these are too few samples or channels, or no sound.
        """
        samples = np.asarray(samples)
        if samples.ndim != 2 or len(samples) < self.channels or not np.issubdtype(samples.dtype, np.floating):
            raise EdgeError(
                f"{samples.dtype} samples of shape {samples.shape}; expected floating point, ({self.channels}, "
                "samples)"
            )
        samples = np.ascontiguousarray(samples[: self.channels], dtype=np.float32)
        self._refuse_length(samples.shape[1])
        _refuse_no_sound(samples)
        found = dict(zip(self._outputs, self._run(samples)))
        score = float(found["score"])
        if not math.isfinite(score):
            raise EdgeError("cannot be scored: it has no finite score")
        p_value, is_anomaly = found.get("p_value"), found.get("is_anomaly")
        return Verdict(
            score,
            None if p_value is None else float(p_value),
            None if is_anomaly is None else bool(is_anomaly),
            samples.shape[1] / self.rate,
            tuple(float(one) for one in found.get("branch_scores", ())),
        )

    def _run(self, samples: Samples) -> list[Any]:
        try:
            return list(self._session.run(None, {"samples": samples}))
        except Exception as error:  # whatever ONNX Runtime raises, the next recording may be fine
            raise EdgeError(f"ONNX Runtime fails: {_first_line(error)}") from error

    def _refuse_length(self, samples: int) -> None:
        seconds, fixed = samples / self.rate, self.samples
        if fixed is not None and samples != fixed:
            raise EdgeError(f"{seconds:.4g} s long; the detector hears {fixed / self.rate:.4g} s at once")
        if samples < self.least_samples:
            raise EdgeError(
                f"{seconds:.4g} s long; at least {self.least_samples / self.rate:.4g} s are needed"
            )
        if self.shortest_seconds is not None and seconds * LENGTH_MARGIN < self.shortest_seconds:
            raise EdgeError(
                f"{seconds:.4g} s long, but the detector was fitted to recordings of {self.shortest_seconds:.4g} s "
                "or more, so its threshold does not hold; record as long as for the fit"
            )

    def listen(
        self, sound: Sound, *, window: float | None = None, hop: float | None = None
    ) -> Iterator[Heard]:
        """Verdicts on the windows of a sound, each as soon as its window is complete.

        A window that cannot be judged does not hide the others. A recording of the usual length is one window.

        Parameters
        ----------
        sound : Sound
        window, hop : float or None
            Length of a window, and time from one to the next, in seconds; ``None``: as for the fit, side by side.

        Raises
        ------
        EdgeError
            If the sound has another rate or too few channels, is truncated, or has no sample.
        """
        rate = sound.stored.rate
        if rate != self.rate:
            raise EdgeError(
                f"{rate} Hz, but the detector hears {self.rate} Hz and this runner does not resample; record at "
                f"{self.rate} Hz"
            )
        places = self._places(sound.stored.channels)
        length = self._window_samples(sound, window)
        step = length if hop is None else max(1, round(hop * self.rate))
        if step > length:
            raise EdgeError(
                f"a hop of {hop:g} s would skip sound between windows of {length / self.rate:.4g} s"
            )
        is_empty = True
        for start, samples in windows_of(sound, length, step):
            is_empty = False
            begin, end = start / self.rate, (start + samples.shape[1]) / self.rate
            try:
                yield Heard(begin, end, self.score(samples[places]))
            except EdgeError as error:
                yield Heard(begin, end, None, str(error))
        if is_empty:
            raise EdgeError("holds no samples; record it again")

    @property
    def fewest_channels(self) -> int:
        """How many a recording must have."""
        return 1 + max(self._places(sys.maxsize))

    def _places(self, count: int) -> list[int]:
        """Where the channels that it hears are among so many, from 0."""
        chosen = self._selected or list(range(1, self.channels + 1))
        named = [one for one in chosen if isinstance(one, str)]
        if named:
            raise EdgeError(
                f"the detector was fitted to channels that have names ({', '.join(named)}), and these have none; "
                "say with --select which they are, such as --select 1,2"
            )
        if len(chosen) != self.channels or min(chosen) < 1 or len({*chosen}) < len(chosen):
            raise EdgeError(
                f"channels {chosen}: the detector hears {self.channels} different ones, from 1 on"
            )
        if max(chosen) > count:
            there = "1 channel" if count == 1 else f"{count} channels"
            raise EdgeError(f"{there}, but the detector hears channel {' and '.join(map(str, chosen))}")
        return [one - 1 for one in chosen]

    def _window_samples(self, sound: Sound, window: float | None) -> int:
        """How long the windows are into which a sound is cut; a short one, and one of unknown kind, is not cut."""
        if window is not None:
            asked = max(1, round(window * self.rate))
            if self.samples not in (None, asked):
                raise EdgeError(
                    f"a window of {window:g} s; the file was exported for {self.samples} samples at once"
                )
            return asked
        if self.samples is not None:
            return self.samples
        lengths = [one for one in (self.window_seconds, self.longest_seconds) if one is not None]
        longest = (1 + LEAST_REST) * max(lengths, default=math.inf) * self.rate
        if sound.frames is not None and sound.frames <= longest:
            return sound.frames
        if self.window_seconds is None:
            raise EdgeError("the detector does not say into which windows to cut it; give --window SECONDS")
        return max(1, round(self.window_seconds * self.rate))

    def describe(self) -> str:
        """What it was fitted to, in words, a line each."""
        of_any = "any" if self.window_seconds is None else f"any; windows of {self.window_seconds:.4g} s"
        length = of_any if self.samples is None else f"{self.samples / self.rate:.4g} s"
        decides = "no threshold"
        if self.threshold is not None and self.false_alarm_rate is not None:
            decides = f"above {self.threshold:.6g} (false-alarm rate {self.false_alarm_rate:g})"
        selected = ", ".join(map(str, self._selected)) or "the first ones"
        told = {
            "machine": self.machine,
            "system": f"{self.system} ({self._text('arithmetic')})",
            "hears": f"{self.channels} channels ({selected}) at {self.rate} Hz",
            "length": length,
            "anomaly": decides,
            "nearfar": self._text("version"),
        }
        return "\n".join(f"{name:<9}{what}" for name, what in told.items())


def _session(path: str, threads: int) -> Any:
    try:
        import onnxruntime  # here, so that --help and reading of recordings do not wait for it
    except ImportError as error:
        raise EdgeError(
            f"{path}: needs ONNX Runtime ({error}); install it with: pip install onnxruntime"
        ) from error
    if not os.path.isfile(path):  # noqa: PTH113  # one import less
        raise EdgeError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class for each kind of failure, and no common one
        version = onnxruntime.__version__
        raise EdgeError(f"{path}: ONNX Runtime {version} cannot read it: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse_no_sound(samples: Samples) -> None:
    """Raise if samples are not finite, in other units, or stand still."""
    wrong = int(samples.size - np.isfinite(samples).sum())
    if wrong:
        raise EdgeError(f"{wrong} {'sample is' if wrong == 1 else 'samples are'} NaN or infinite")
    highest, lowest = samples.max(axis=1), samples.min(axis=1)
    peak = float(max(highest.max(), -lowest.min()))
    if peak > MOST_PEAK:
        raise EdgeError(f"samples up to {peak:.6g}, far outside [-1, 1): they are stored in other units")
    still = [str(number) for number, moves in enumerate(highest > lowest, start=1) if not moves]
    if still:
        raise EdgeError(
            f"silent: of the channels that are heard, {' and '.join(still)} "
            f"{'stands' if len(still) == 1 else 'stand'} still; check the cable"
        )


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    usage, _, _ = (__doc__ or "").partition("\n\nConventions")
    made = argparse.ArgumentParser(
        prog="nearfar_edge.py", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("model", metavar="FILE.onnx", help="detector, as `nearfar export` has written it")
    add("recordings", metavar="RECORDING", nargs="*", help="WAV files, or - for one on standard input")
    add("--json", action="store_true", help="print a JSON object a line")
    add("--fail", action="store_true", help="exit with code 1 if anything is an anomaly")
    add("--window", type=_seconds, metavar="SECONDS", help="length of a window (default: as for the fit)")
    add(
        "--hop",
        type=_seconds,
        metavar="SECONDS",
        help="time from one window to the next (default: the window)",
    )
    add("--select", type=_numbers, default=(), metavar="NEAR,FAR", help="channels that are heard, from 1")
    add("--threads", type=_threads, default=1, metavar="N", help="that compute (default: 1)")
    add("--pcm", choices=sorted(CODINGS), help="recordings are raw samples, interleaved, stored like this")
    add("--rate", type=_count, metavar="HZ", help="of raw samples (default: as the detector hears)")
    add(
        "--channels", type=_count, metavar="N", help="of raw samples (default: as many as the detector needs)"
    )
    made.epilog = "exit code: 0; 1 with --fail if anything is an anomaly; 2 if anything could not be judged"
    return made


def _seconds(text: str) -> float:
    seconds = float(text) if _is_number(text) else math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 s")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_COUNT:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to {MOST_COUNT}")
    return int(text)


def _threads(text: str) -> int:
    most = os.cpu_count() or 1
    if _count(text) > most:
        raise argparse.ArgumentTypeError(f"{text}: this computer has {most} cores")
    return int(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(text: str) -> list[int]:
    return [_count(one) for one in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    made = parser()
    options = made.parse_intermixed_args(arguments)
    if options.pcm is None and (options.rate or options.channels):
        made.error("--rate and --channels are of raw samples; say with --pcm how they are stored")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        return _judge(options)
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:  # whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except OSError as error:  # of what is printed: recordings tell theirs
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _tell(f"error: verdicts cannot be written: {error.strerror or error}", sys.stderr)
        return FAILED


def _judge(options: argparse.Namespace) -> int:
    """Print verdicts on all recordings; one that cannot be judged does not hide the others."""
    try:
        detector = Detector(options.model, threads=options.threads, select=options.select)
    except EdgeError as error:
        _tell(f"error: {error}", sys.stderr)
        return FAILED
    if not options.recordings:
        _tell(detector.describe(), sys.stdout)
    codes = {FINE}
    for name in options.recordings:
        for heard in _heard(detector, name, options):
            if heard.verdict is None:
                codes.add(FAILED)
            elif heard.verdict.is_anomaly and options.fail:
                codes.add(ANOMALOUS)
            is_told = options.json or heard.verdict is not None
            _tell((_json if options.json else _line)(name, heard), sys.stdout if is_told else sys.stderr)
    return ANOMALOUS if ANOMALOUS in codes else max(codes)


def _heard(detector: Detector, name: str, options: argparse.Namespace) -> Iterator[Heard]:
    """What is heard in one recording; what is wrong with it as a whole comes last."""
    end = 0.0
    try:
        with _opened(name) as file:
            if options.pcm is None:
                sound = open_wav(file)
            else:
                channels = options.channels or detector.fewest_channels
                sound = open_pcm(file, Stored(options.pcm, options.rate or detector.rate, channels))
            for heard in detector.listen(sound, window=options.window, hop=options.hop):
                end = heard.end
                yield heard
    except BrokenPipeError:
        raise
    except OSError as error:
        yield Heard(end, end, None, error.strerror or str(error))
    except EdgeError as error:
        yield Heard(end, end, None, str(error))


def _opened(name: str) -> BinaryIO:
    """A file, or standard input, which is closed like one."""
    if name != "-":
        return open(name, "rb")  # noqa: PTH123  # one import less
    if sys.stdin is None:
        raise EdgeError("there is no standard input")
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def _tell(line: str, stream: Any) -> None:
    stream.write(line + "\n")
    stream.flush()


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds, with as many decimals as it takes, up to milliseconds."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{minutes // 60}:{minutes % 60:02d}:{rest / 1000:06.3f}"
    return text.rstrip("0").rstrip(".") if rest % 1000 else text[:-4]


def _line(name: str, heard: Heard) -> str:
    """What is heard, for people."""
    when = f"{_clock(heard.start)}-{_clock(heard.end)}"
    verdict = heard.verdict
    name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    if verdict is None:
        return f"error: {name}{f' {when}' if heard.end > heard.start else ''}: {heard.error}"
    p_value = "" if verdict.p_value is None else f"  p {verdict.p_value:.3g}"
    return f"{name}  {when}  {_decision(verdict) or '-':<7}  score {verdict.score:.6g}{p_value}"


def _decision(verdict: Verdict) -> str | None:
    return None if verdict.is_anomaly is None else "anomaly" if verdict.is_anomaly else "normal"


def _json(name: str, heard: Heard) -> str:
    """The same, with the names of `nearfar score --json`."""
    verdict = heard.verdict
    told: dict[str, Any] = {
        "recording": name,
        "start": round(heard.start, 3),
        "end": round(heard.end, 3),
        "score": None if verdict is None else verdict.score,
        "p_value": None if verdict is None else verdict.p_value,
        "decision": "unusable" if verdict is None else _decision(verdict),
        "error": heard.error or None,
    }
    if verdict is not None and verdict.branch_scores:
        told["branch_scores"] = verdict.branch_scores
    return json.dumps(told, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
