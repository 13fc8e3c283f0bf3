"""The sounds of alerts and events: files in one folder, whose names are in the logbook.

Conventions
-----------
* A sound ends with the peak, the window with the highest score. Before the peak it has up to ``MARGIN`` seconds of
  the same recording. The sound of a clip that is heard as a whole is this clip.
* A sound lies where ``Detector.selected_channels`` finds it: if channels 3 and 4 were chosen for the fit, the sound
  has four channels, and the first two are silent. So it can be scored, explained and learnt as any other recording.
* It is FLAC, or WAV of floating point for what FLAC cannot hold (``listening.excerpts``).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from nearfar.listening import excerpts
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Header, Samples
from nearfar.recordings.flac import as_integers
from nearfar.recordings.recording import Channel, Recording, Span
from nearfar.recordings.sound_files import INT16_SCALE

Kind = Literal["alert", "event"]
MARGIN = excerpts.MARGIN  # seconds before the peak
LIVE_S = 30.0  # of live sound that is kept in memory, at least; our choice
LONGEST_NAME = 100  # characters of a machine's name in the name of a file


def name_of(machine: str, kind: Kind, at: float) -> str:
    """The name of a sound, without suffix.

    Parameters
    ----------
    machine : str
    kind : {"alert", "event"}
    at : float
        When the alert began, or the event, in seconds since 1970 (UTC).

    Examples
    --------
    >>> from nearfar.watching.sounds import name_of
    >>> name_of("hall/pump 1", "alert", 1772361000.25)
    'hall%2Fpump%201_alert_2026-03-01T10.30.00.250Z'
    """
    quoted = quote(machine, safe="").replace(".", "%2E")
    if len(quoted) > LONGEST_NAME:
        digest = hashlib.sha256(machine.encode(errors="surrogateescape")).hexdigest()[:16]
        quoted = f"{quoted[:LONGEST_NAME]}-{digest}"
    moment = datetime.fromtimestamp(at, UTC)
    return f"{quoted}_{kind}_{moment:%Y-%m-%dT%H.%M.%S}.{moment.microsecond // 1000:03}Z"


def write(folder: Path, name: str, samples: Samples, header: Header, selected: Sequence[Channel]) -> str:
    """Write a sound; the name of its file.

    Parameters
    ----------
    folder : Path
    name : str
        As of ``name_of``.
    samples : (channels, samples) array
        Those channels that the detector hears.
    header : Header
        Of the recording.
    selected : sequence of int or str
        ``Detector.selected_channels``.

    Raises
    ------
    OSError
        If it cannot be written; if the disk is full, for example.
    """
    return excerpts.write(_placed(samples, selected), header, folder / name).name


def _placed(samples: Samples, selected: Sequence[Channel]) -> Samples:
    """The channels at the places from which they were chosen, by number; silence at the others."""
    numbers = [one for one in selected if isinstance(one, int)]
    if not numbers or len(numbers) != len(samples):
        return samples
    placed = np.zeros((max(numbers), samples.shape[1]), samples.dtype)
    placed[[number - 1 for number in numbers]] = samples
    return placed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window lies that may be the peak of an alert, and what was said of it.

    Attributes
    ----------
    begins_at, seconds, score : float
    start, stop : int
        Its samples, of the recording.
    key : str
        Of the recording.
    paths : list of str
        Of a recording that can be read again; empty of one that cannot.
    channels : list of int or str
        Those that were chosen.
    """

    begins_at: float
    seconds: float
    score: float
    start: int
    stop: int
    key: str
    paths: list[str]
    channels: list[Channel]

    @property
    def recording(self) -> Recording | None:
        """If it can be read again."""
        return Recording(tuple(map(Path, self.paths)), tuple(self.channels)) if self.paths else None


class LiveSound:
    """The last seconds of a recording that cannot be read again.

    Parameters
    ----------
    header : Header
        Samples of 16 bits are kept as such, others as 32-bit floating point.
    window : int
        Samples of a window.
    """

    def __init__(self, header: Header, window: int) -> None:
        self._few = excerpts.FEW_BITS.search(header.format.partition("/")[2]) is not None
        self._most = max(round(LIVE_S * header.rate), window + round(MARGIN * header.rate))
        self._parts: deque[tuple[int, NDArray[np.int16] | Samples]] = deque()
        self._stop = 0

    def add(self, span: Span, samples: Samples | None) -> None:
        """A window, in order of time; what it shares with the one before is kept once. ``None``: it is lost."""
        first = max(0, min(self._stop, span.stop) - span.start)
        if samples is None:
            part: Samples = np.zeros((0, 0), np.float32)
        else:
            part = samples[:, first:]
        self._parts.append((span.start + first, self._kept(part)))
        self._stop = max(self._stop, span.stop)
        while self._parts and self._parts[0][0] + self._parts[0][1].shape[1] <= self._stop - self._most:
            self._parts.popleft()

    def _kept(self, part: Samples) -> NDArray[np.int16] | Samples:
        if not self._few or np.abs(part).max(initial=0) > 1:
            return part.copy()
        return as_integers(part, few=True).T.astype(np.int16)

    def cut(self, start: int, stop: int) -> Samples | None:
        """These samples, without those at the beginning that are gone; ``None`` if the last one is not there."""
        found: list[Samples] = []
        expected = None
        for begin, kept in self._parts:
            part = kept[:, max(0, start - begin) : max(0, stop - begin)]
            if not part.shape[1]:
                continue
            if expected is not None and max(begin, start) != expected:
                found = []  # before this, some were lost
            expected = max(begin, start) + part.shape[1]
            found.append(_floating(part))
        return np.concatenate(found, axis=1) if found and expected == stop else None


def _floating(part: NDArray[np.int16] | Samples) -> Samples:
    """Samples in [-1, 1), as they were before they were kept."""
    return np.asarray(part * np.float32(INT16_SCALE) if part.dtype == np.int16 else part, dtype=np.float32)


def header_of(recording: Recording) -> Header | None:
    """The header of a file; ``None`` if it is gone, or cannot be read."""
    try:
        return audio.in_blocks(recording).header
    except (AudioError, OSError):
        return None


def read_again(
    recording: Recording, start: int, stop: int, *, margin: float = 0.0
) -> tuple[Samples, Header] | None:
    """Samples of a file, and its header; ``None`` if the file is gone, or they cannot be read.

    Parameters
    ----------
    recording : Recording
    start, stop : int
        The first sample, and the one after the last.
    margin : float
        Seconds before the first one that are wanted, too, if the file has them.
    """
    try:
        rate = audio.in_blocks(recording).header.rate
        start = max(0, start - round(margin * rate))
        begin = 0 if recording.span is None else recording.span.start
        part = Recording(recording.paths, recording.channels, Span(begin + start, begin + stop, rate))
        found = audio.read_recorded(part)
    except (AudioError, OSError):
        return None
    return found.samples, found.header


def remove_oldest(folder: Path, names: Sequence[str], most_bytes: int) -> list[str]:
    """Remove sounds, the first ones first, until the others have at most so many bytes together.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        The oldest first.
    most_bytes : int

    Returns
    -------
    removed : list of str
        Also those that were not there any more.
    """
    sizes = {name: _size(folder / name) for name in names}
    total, removed = sum(size or 0 for size in sizes.values()), []
    for name, size in sizes.items():
        if size is None or total > most_bytes:
            (folder / name).unlink(missing_ok=True)
            total -= size or 0
            removed.append(name)
    return removed


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def remove_unfinished(folder: Path) -> None:
    """Remove what a kill left half written; nobody else may be writing there."""
    for file in folder.glob(".*.part") if folder.is_dir() else ():
        file.unlink(missing_ok=True)
