"""Each event as a sound file of its own, with some seconds before and after.

Conventions
-----------
An excerpt has all channels of the recording, at its rate. It is FLAC, which loses nothing: of 16 bits if the
recording has 16 bits or fewer, else of 24. What FLAC cannot hold, because it is beyond full scale, or has more
than eight channels, is WAV of 32-bit floating point. Samples of 32 bits are kept to 24. Samples that cannot be
read, or are no numbers, are silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from nearfar.files.atomic import atomic_file
from nearfar.files.digests import digest_file
from nearfar.listening.events import Event
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Header, Samples
from nearfar.recordings.blocks import Lost, length_of
from nearfar.recordings.flac import as_integers, holds
from nearfar.recordings.recording import Recording, Span

MARGIN = 5.0  # seconds before and after an event
PIECE = 2**18  # samples that are in memory at a time
FEW_BITS = re.compile(r"PCM_(?:16|S8|U8)|ULAW|ALAW|VORBIS|OPUS|MPEG")  # that 16 bits hold


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A file with an event.

    Attributes
    ----------
    file : Path
    silent : int
        How many samples of it are silence, because the recording cannot be read there.
    """

    file: Path
    silent: int


def name_of(event: Event, began: datetime | None = None) -> str:
    """The name of an event's excerpt, without suffix: the recording's, and when the event begins.

    Parameters
    ----------
    event : Event
    began : datetime or None
        When the event began in clock time, if that is known.

    Examples
    --------
    >>> from datetime import datetime
    >>> from nearfar.listening.events import Event
    >>> from nearfar.listening.excerpts import name_of
    >>> event = Event("pump.wav", 4210.5, 4250.5, 4, 3, 0, 9.0, 0.01, 4220.5, 4230.5, {})
    >>> name_of(event), name_of(event, datetime(2026, 3, 1, 10, 0, 0))
    ('pump_1h10m10.5s', 'pump_1h10m10.5s_2026-03-01T10.00.00')
    """
    hours, rest = divmod(round(event.start, 3), 3600)
    minutes, seconds = divmod(rest, 60)
    told = f"{seconds:06.3f}".rstrip("0").rstrip(".")
    clock = "" if began is None else "_" + began.strftime("%Y-%m-%dT%H.%M.%S")
    return f"{Path(event.recording).stem}_{hours:.0f}h{minutes:02.0f}m{told}s{clock}"


def cut_out(
    event: Event, recording: Recording, file: Path, *, margin: float = MARGIN, replace: bool = False
) -> Excerpt:
    """Write an event with some seconds before and after it, or as many as the recording has.

    Parameters
    ----------
    event : Event
    recording : Recording
        That it is in. Its chosen channels do not matter: all are written.
    file : Path
        Without suffix, which depends on what must be held.
    margin : float
        Seconds.
    replace : bool
        Take the place of another file.

    Returns
    -------
    Excerpt
        Its file is whole, or not there.

    Raises
    ------
    AudioError
        If nothing of the recording can be read.
    FileExistsError
        If a file with other content is there, unless ``replace``; and never in place of the recording.
    OSError
        If it cannot be written; if the disk is full, for example.
    """
    recorded = audio.in_blocks(Recording(recording.paths))
    header = recorded.header
    samples = header.samples if recorded.is_counted else sum(map(length_of, recorded.blocks(0)))
    start = max(0, round((event.start - margin) * header.rate))
    stop = min(samples, round((event.end + margin) * header.rate))
    part = Recording(recording.paths, span=Span(start, stop, header.rate))
    is_flac = holds(header.channels, header.rate)
    silent = 0
    for block, lost in _readable(part, header.channels):
        silent += lost
        is_flac = is_flac and bool(np.abs(block).max(initial=0) <= 1)
    file = file.with_name(file.name + (".flac" if is_flac else ".wav"))
    if file.exists() and any(file.samefile(path) for path in recording.paths):
        raise FileExistsError(f"{file} is the recording itself; choose another name")
    _write(file, (block for block, _ in _readable(part, header.channels)), header, replace=replace)
    return Excerpt(file, silent)


def write(samples: Samples, header: Header, file: Path) -> Path:
    """Write samples that are in memory, in place of what is there.

    Parameters
    ----------
    samples : (channels, samples) array
        Those that are no numbers become silence.
    header : Header
        Of the recording that they are of: its rate, and how many bits it has.
    file : Path
        Without suffix.

    Returns
    -------
    file : Path
        With its suffix: ".flac", or ".wav" for what FLAC cannot hold. It is whole, or not there.

    Raises
    ------
    OSError
        If it cannot be written; if the disk is full, for example.
    """
    channels, rate = len(samples), header.rate
    readable = np.where(np.isfinite(samples), samples, np.float32(0))
    is_flac = holds(channels, rate) and bool(np.abs(readable).max(initial=0) <= 1)
    file = file.with_name(file.name + (".flac" if is_flac else ".wav"))
    _write(
        file, [readable], replace_fields(header, channels=channels, samples=samples.shape[1]), replace=True
    )
    return file


def _readable(part: Recording, channels: int) -> Iterator[tuple[Samples, int]]:
    """The blocks of a part, with silence where samples cannot be read or are no numbers; how many those are."""
    for block in audio.in_blocks(part).blocks(0):
        if isinstance(block, Lost):
            for size in _pieces(block.samples):
                yield np.zeros((channels, size), np.float32), size
        else:
            known = np.isfinite(block).all(axis=0)
            yield np.where(known, block, np.float32(0)), int((~known).sum())


def _pieces(samples: int) -> Iterator[int]:
    """So many samples in pieces that are in memory at a time."""
    for first in range(0, samples, PIECE):
        yield min(PIECE, samples - first)


def _write(file: Path, blocks: Iterable[Samples], header: Header, *, replace: bool) -> None:
    """Write the blocks as FLAC or WAV, by the suffix; a file with the same content stays as it is."""
    is_flac = file.suffix == ".flac"
    few = FEW_BITS.search(header.format.partition("/")[2]) is not None
    subtype = ("PCM_16" if few else "PCM_24") if is_flac else "FLOAT"
    with atomic_file(file) as part:
        with part.open("w+b") as raw, _telling(raw) as told:
            with soundfile.SoundFile(
                told, "w", header.rate, header.channels, subtype, format="FLAC" if is_flac else "WAV"
            ) as out:
                for block in blocks:
                    out.write(as_integers(block, few=few) if is_flac else block.T)
                    told.require()
            told.require()
        _take_time_out(part)
        if file.exists() and not replace and digest_file(file) != digest_file(part):
            raise FileExistsError(
                f"{file} is there already, with another content; choose another folder, or replace it with "
                "--replace (in Python: replace=True)"
            )


def _take_time_out(file: Path) -> None:
    """The time at which libsndfile wrote a file of floating point, so that equal samples give equal bytes."""
    with file.open("r+b") as raw:
        at = raw.read(audio.PEAK_WITHIN).find(b"PEAK")
        if at >= 0:
            raw.seek(at + 12)
            raw.write(bytes(4))


class _Telling:
    """A file that remembers why it could not be written: libsndfile does not say it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None
        self.name = str(file.name)

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = self.error or error
            return 0

    def require(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _telling(file: BinaryIO) -> Iterator[_Telling]:
    told = _Telling(file)
    try:
        yield told
        file.flush()
    except (soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
        told.require()
        raise AudioError(f"{file.name}: cannot be written: {error}") from error
