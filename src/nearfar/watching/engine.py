"""Machines are watched, for months: a thread for each, one that writes, one that makes evidence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from nearfar.watching.sinks import Message

if TYPE_CHECKING:
    from nearfar.watching.site import Site


class WatchError(RuntimeError):
    """Watching cannot begin, or cannot go on: another process watches with this logbook, the disk is full."""


class Watch:
    """Detectors hear the machines of a site.

    Parameters
    ----------
    site : Site
    workers : int
        How many windows are scored at a time.
    told : callable or None
        Called with each message of the journal, in order, after it is written; in a thread of the watch.

    Raises
    ------
    ValueError
        If there are fewer than one worker.
    """

    def __init__(
        self, site: Site, *, workers: int = 1, told: Callable[[Message], None] | None = None
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers}: must be at least 1")
        self._site, self._workers, self._told = site, workers, told

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set, or all sources have ended.

        Raises
        ------
        WatchError
            If another process watches with this logbook, or nothing can be written any more.
        """
        raise NotImplementedError
