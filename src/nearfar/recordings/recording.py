"""Which files and channels make one recording.

Conventions
-----------
Channels are chosen by number, from 1, or by name where a file names them. The first one chosen is the near
microphone, the second one the far.
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


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: its files, and which of its channels are used.

    Attributes
    ----------
    paths : tuple of Path
        One file; or the mono files of the tracks of one recording, in order.
    channels : tuple of int or str
        Which channels are near, far, and so on; empty: all, as they are.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.recordings.recording import Recording, parse_channels
    >>> str(Recording((Path("press_Tr1.wav"), Path("press_Tr2.wav"))))
    'press_Tr1.wav'
    >>> parse_channels("3,1")
    (3, 1)
    """

    paths: tuple[Path, ...]
    channels: tuple[Channel, ...] = ()

    def __post_init__(self) -> None:
        refuse_strange(self.channels)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """Its first file, by which it is called."""
        return self.paths[0]

    @classmethod
    def of(cls, what: Recording | Path) -> Recording:
        """The recording in that file, with all its channels; or the recording itself."""
        return what if isinstance(what, Recording) else cls((what,))


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


def digests(recordings: Iterable[Recording], jobs: Jobs | None) -> list[str]:
    """What each recording contains: SHA-256 of its file; with several files or chosen channels, of all of them.

    Parameters
    ----------
    recordings : iterable of Recording
    jobs : Jobs or None
        Which remembers the digests of files; ``None``: they are computed.
    """
    asked = list(recordings)
    paths = (path for recording in asked for path in recording.paths)
    shas = iter(map(digest_file, paths) if jobs is None else jobs.digests_of(paths))
    return [_combined(recording, [next(shas) for _ in recording.paths]) for recording in asked]


def fingerprints(recordings: Iterable[Recording], jobs: Jobs | None = None) -> list[int]:
    """The first 64 bits of the digest of each recording's files, whichever channels are chosen.

    That is enough to find a recording among millions, and small enough to be kept of each.
    """
    whole = (Recording(recording.paths) for recording in recordings)
    return [int(sha[:16], 16) for sha in digests(whole, jobs)]


def _combined(recording: Recording, shas: list[str]) -> str:
    if len(shas) == 1 and not recording.channels:
        return shas[0]
    return digest({"files": shas, "channels": list(recording.channels)})
