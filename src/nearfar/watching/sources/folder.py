"""Sound from a folder."""

from __future__ import annotations

from collections.abc import Iterator

from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear
from nearfar.watching.sources.pcm import Format


class Folder:
    """The recordings that come into a folder."""

    is_live = False
    follows_clock = True

    def __init__(
        self,
        folder: str,
        *,
        settle: float = 2.0,
        began: str = "bext",
        time_zone: str = "",
        pattern: str = "*",
        recursive: bool = True,
        select: tuple[Channel, ...] = (),
        patience: float = 60.0,
        poll: float = 1.0,
    ) -> None:
        raise NotImplementedError

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        raise NotImplementedError
