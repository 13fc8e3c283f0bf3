"""Where the sound of a machine comes from. A source is a module and a line.

A source is a class whose keyword arguments are its options in a site's file (``systems.options``). It gives
recordings, one after the other, in order of time, each as a ``windows.streaming.Stream``: of a file, all of it; of
what is live, as it comes, without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from nearfar.recordings.recording import Channel, Recording
from nearfar.windows.streaming import Stream

SOURCES: dict[str, str] = {
    "folder": "nearfar.watching.sources.folder:Folder",
    "replay": "nearfar.watching.sources.replay:Replay",
    "pipe": "nearfar.watching.sources.pipe:Pipe",
    "tcp": "nearfar.watching.sources.network:Tcp",
    "udp": "nearfar.watching.sources.network:Udp",
    "soundcard": "nearfar.watching.sources.soundcard:SoundCard",
}


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A recording that is there, or begins to come in.

    Attributes
    ----------
    key : str
        The same recording has the same key, whenever it is found; another one has another.
    name : str
        What people read.
    began_at : float
        When its first sample was recorded, in seconds since 1970 (UTC).
    stream : Stream or None
        ``None`` if nothing of it can be read; then ``error`` says why.
    recording : Recording or None
        If it is a file, which can be read again.
    error : str
    """

    key: str
    name: str
    began_at: float
    stream: Stream | None
    recording: Recording | None = None
    error: str = ""


class SourceError(OSError):
    """A source cannot give anything now: the message says why. It is tried again later."""


@dataclass(slots=True)
class Ear:
    """What a source is given: how to know what was heard, and when to stop.

    Attributes
    ----------
    is_finished : callable
        Whether a recording, by its key, was heard to its end.
    stopping : callable
        Whether watching ends: a source then returns within half a second, wherever it waits.
    sleep : callable
        Wait so many seconds, or until watching ends.
    now : callable
        The time in seconds since 1970 (UTC).
    heard : callable
        To be called whenever sound has come in, with the time of its last sample: so it is known since when there
        is none. A live source calls it from a thread of its own.
    selected : tuple of int or str
        Which channels are near, far, and so on, by the detector; empty: all, as they are.
    """

    is_finished: Callable[[str], bool]
    stopping: Callable[[], bool]
    sleep: Callable[[float], None]
    now: Callable[[], float]
    heard: Callable[[float], None] = field(default=lambda _at: None)
    selected: tuple[Channel, ...] = ()


class Source(Protocol):
    """What gives the recordings of one machine.

    Attributes
    ----------
    is_live : bool
        Whether sound that nobody takes is lost: it comes by itself, and cannot be read again.
    follows_clock : bool
        Whether sound is to be expected now. Of a replay it is not: there, only gaps between recordings are silence.
    """

    is_live: bool
    follows_clock: bool

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """Recordings in order of time; it waits for the next, and ends only if there never is another.

        Raises
        ------
        SourceError
            If it cannot give anything now. ``arrivals`` is then called again, after a while.
        """
