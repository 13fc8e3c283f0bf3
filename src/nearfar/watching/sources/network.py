"""Sound from the network."""

from __future__ import annotations

from collections.abc import Iterator

from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear
from nearfar.watching.sources.pcm import Format


class Tcp:
    """A sender that is connected by TCP."""

    is_live = True

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        connect: bool = False,
        rate: int | None = None,
        channels: int | None = None,
        format: Format = "s16le",
        select: tuple[Channel, ...] = (),
        sender: str = "",
        live: bool = True,
        silence: float = 10.0,
        buffer: float = 60.0,
    ) -> None:
        self.follows_clock = live
        raise NotImplementedError

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        raise NotImplementedError


class Udp:
    """Datagrams of raw samples."""

    is_live = True
    follows_clock = True

    def __init__(
        self,
        port: int,
        *,
        rate: int,
        channels: int,
        host: str = "127.0.0.1",
        format: Format = "s16le",
        select: tuple[Channel, ...] = (),
        sender: str = "",
        silence: float = 10.0,
        buffer: float = 60.0,
    ) -> None:
        raise NotImplementedError

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        raise NotImplementedError
