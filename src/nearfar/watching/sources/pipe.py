"""Sound from standard input or a named pipe."""

from __future__ import annotations

from collections.abc import Iterator

from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear
from nearfar.watching.sources.pcm import Format


class Pipe:
    """What a program writes to standard input or a named pipe."""

    is_live = True

    def __init__(
        self,
        path: str = "-",
        *,
        rate: int | None = None,
        channels: int | None = None,
        format: Format = "s16le",
        select: tuple[Channel, ...] = (),
        live: bool = True,
        buffer: float = 60.0,
    ) -> None:
        self.follows_clock = live
        raise NotImplementedError

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        raise NotImplementedError
