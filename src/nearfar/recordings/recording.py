"""Which files and channels make one recording, and which part of them.

Conventions
-----------
Channels are chosen by number, from 1, or by name where a file names them. The first one chosen is the near
microphone, the second one the far. A part is called as a media fragment [1]_: ``press.wav#t=600,610`` is 10 s long.

References
----------
.. [1] R. Troncy et al., "Media Fragments URI 1.0 (basic)," W3C Recommendation, 2012.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfar.files.digests import digest, digest_file

if TYPE_CHECKING:  # the command line begins without SQLite
    from nearfar.files.steps import Jobs

Channel = int | str

TRACK = re.compile(r"(?P<name>.+)[-_ ]tr(?:ack)?(?P<number>\d{1,2})", re.IGNORECASE)  # without the suffix


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part of a recording, in samples of its files: exact, whatever the rate.

    Attributes
    ----------
    start, stop : int
        The first sample, and the one after the last.
    rate : int
        Of the recording, in Hz.

    Raises
    ------
    ValueError
        If it holds no sample, or begins before the recording.

    Examples
    --------
    >>> from nearfar.recordings.recording import Span
    >>> part = Span(9_600_000, 9_760_000, rate=16_000)
    >>> str(part), part.begins, part.seconds
    ('t=600,610', 600.0, 10.0)
    """

    start: int
    stop: int
    rate: int

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.stop and self.rate >= 1):
            raise ValueError(
                f"start={self.start}, stop={self.stop}, rate={self.rate}: a part of a recording must have at least "
                "one sample, from sample 0 on"
            )

    def __str__(self) -> str:
        return f"t={_seconds(self.begins)},{_seconds(self.ends)}"

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def begins(self) -> float:
        """In seconds of the recording."""
        return self.start / self.rate

    @property
    def ends(self) -> float:
        """In seconds of the recording."""
        return self.stop / self.rate

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self) / self.rate


def _seconds(value: float) -> str:
    """As short as possible, to the microsecond, which tells samples apart."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording, or a part of one: its files, and which of its channels are used.

    Attributes
    ----------
    paths : tuple of Path
        One file; or the mono files of the tracks of one recording, in order.
    channels : tuple of int or str
        Which channels are near, far, and so on; empty: all, as they are.
    span : Span or None
        The part that is meant; ``None``: all of it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.recordings.recording import Recording, Span, parse_channels
    >>> str(Recording((Path("press_Tr1.wav"), Path("press_Tr2.wav"))))
    'press_Tr1.wav'
    >>> str(Recording((Path("press.wav"),), span=Span(0, 160_000, rate=16_000)))
    'press.wav#t=0,10'
    >>> parse_channels("3,1")
    (3, 1)
    """

    paths: tuple[Path, ...]
    channels: tuple[Channel, ...] = ()
    span: Span | None = None

    def __post_init__(self) -> None:
        refuse_strange(self.channels)

    def __str__(self) -> str:
        return part_name(str(self.path), self.span)

    @property
    def path(self) -> Path:
        """Its first file, by which it is called."""
        return self.paths[0]

    @classmethod
    def of(cls, what: Recording | Path) -> Recording:
        """The recording in that file, with all its channels; or the recording itself."""
        return what if isinstance(what, Recording) else cls((what,))


def part_name(name: str, span: Span | None) -> str:
    """What a part of a recording of that name is called; all of it, as the recording.

    Examples
    --------
    >>> from nearfar.recordings.recording import Span, part_name
    >>> part_name("press.wav", Span(24_000, 48_000, rate=48_000))
    'press.wav#t=0.5,1'
    """
    return name if span is None else f"{name}#{span}"


def is_track(path: Path) -> bool:
    """Whether the name of a file says that it is one track of a recording, as recorders with several inputs do."""
    return TRACK.fullmatch(path.stem) is not None


def missing_track(recording: Recording) -> str:
    """What to add to an error about missing channels if the one file is called like a track; else nothing."""
    if len(recording.paths) > 1 or not is_track(recording.path):
        return ""
    return (
        f". By its name, {recording.path.name} is one of several tracks, but no other one, mono and numbered "
        "without a gap, is beside it; copy it there"
    )


def parse_channels(text: str) -> tuple[Channel, ...]:
    """Numbers and names of channels, separated by commas; a name that contains a comma is in double quotes.

    Raises
    ------
    ValueError
        If one is empty, less than 1, or there twice.
    """
    fields = [field.strip() for field in next(csv.reader([text], skipinitialspace=True)) or [""]]
    channels = tuple(int(field) if field.lstrip("+-").isdecimal() else field for field in fields)
    refuse_strange(channels)
    return channels


def refuse_strange(channels: Sequence[Channel]) -> None:
    """Raise a ``ValueError`` if a channel is empty, less than 1, or there twice."""
    shown = ",".join(map(str, channels))
    if "" in channels:
        raise ValueError(
            f"channels={shown!r}: a channel is empty; give numbers from 1, or names, such as 3,1"
        )
    for channel, count in Counter(channels).items():
        if isinstance(channel, int) and channel < 1:
            raise ValueError(f"channels={shown}: channel {channel}; the first channel is 1")
        if count > 1:
            raise ValueError(
                f"channels={shown}: channel {channel} is there {count} times; near and far must be different ones"
            )


def digests(recordings: Iterable[Recording], jobs: Jobs | None, *, workers: int = 1) -> list[str]:
    """What each recording contains: SHA-256 of its file; of several files, channels, a part: of all that together.

    Parameters
    ----------
    recordings : iterable of Recording
    jobs : Jobs or None
        Which remembers the digests of files; ``None``: they are computed.
    workers : int
        Threads that read files whose digests are not remembered.
    """
    asked = list(recordings)
    paths = _paths_of(asked)
    found = map(digest_file, paths) if jobs is None else jobs.digests_of(paths, workers=workers)
    shas = dict(zip(paths, found, strict=True))  # of many parts of one file, once
    return [_combined(recording, [shas[path] for path in recording.paths]) for recording in asked]


def known_digests(recordings: Iterable[Recording], jobs: Jobs) -> list[str | None]:
    """The same as far as it is remembered: nothing is read, and ``None`` stands for the others."""
    asked = list(recordings)
    paths = _paths_of(asked)
    shas = dict(zip(paths, jobs.known_digests(paths), strict=True))
    of_each = [[shas[path] for path in recording.paths] for recording in asked]
    return [
        None if None in of_files else _combined(recording, [sha for sha in of_files if sha is not None])
        for recording, of_files in zip(asked, of_each, strict=True)
    ]


def _paths_of(recordings: Iterable[Recording]) -> list[Path]:
    return list(dict.fromkeys(path for recording in recordings for path in recording.paths))


def fingerprints(recordings: Iterable[Recording], jobs: Jobs | None = None) -> list[int]:
    """The first 64 bits of the digest of each recording's files, whichever channels and part are chosen.

    That is enough to find a recording among millions, and small enough to be kept of each.
    """
    whole = (Recording(recording.paths) for recording in recordings)
    return [int(sha[:16], 16) for sha in digests(whole, jobs)]


def _combined(recording: Recording, shas: list[str]) -> str:
    if len(shas) == 1 and not recording.channels and recording.span is None:
        return shas[0]
    combined: dict[str, object] = {"files": shas, "channels": list(recording.channels)}
    if recording.span is not None:
        combined["span"] = [recording.span.start, recording.span.stop]
    return digest(combined)
