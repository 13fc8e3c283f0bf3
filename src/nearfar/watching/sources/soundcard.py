"""Sound from a sound card."""

from __future__ import annotations

from collections.abc import Iterator

from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear
from nearfar.watching.sources.pcm import Format


class SoundCard:
    """What a sound card records."""

    is_live = True
    follows_clock = True

    def __init__(
        self,
        *,
        rate: int,
        channels: int,
        device: str | int = "",
        select: tuple[Channel, ...] = (),
        buffer: float = 60.0,
    ) -> None:
        raise NotImplementedError

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        raise NotImplementedError
