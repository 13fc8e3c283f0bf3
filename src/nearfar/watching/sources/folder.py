"""Sound from a folder that a recorder fills.

Only complete files are heard (``settling``), each once, the oldest first by its clock. A file is known by its name
below the folder, its size and the time of its last change: if a recorder writes over it, it is another recording.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from nearfar.files.extras import MissingPackageError
from nearfar.files.names import one_line
from nearfar.recordings import audio, tracks
from nearfar.recordings.audio import AudioError
from nearfar.recordings.recording import Channel, Recording, refuse_strange
from nearfar.watching.sources import Arrival, Ear
from nearfar.watching.sources.settling import Found, Settling, is_filled_in, track_of
from nearfar.windows import streaming
from nearfar.windows.clock import Clock, ClockError, clock_of, require_way

logger = logging.getLogger(__name__)

REST_EVERY = 0.2  # seconds of work
SHARE = 10  # looks take at most one part in so many of the time


class Folder:
    """The recordings that come into a folder.

    Parameters
    ----------
    folder : Path
    settle : float
        Seconds for which size and time of a file must not change until it is complete. Writers that pause for
        longer need more. Of files that are renamed into the folder once they are complete, 0.
    began : {"bext", "mtime"} or str
        What tells when a recording began, as of ``windows.clock.clock_of``: the chunk ``bext``, the time of the
        last change, or a pattern of ``strptime`` for a date in the name. A recording without a chunk ``bext`` has
        ended at its last change.
    zone : tzinfo, optional
        Of times that do not tell theirs; else that of this computer.
    pattern : str
        Only files with such a name, as of a shell: "pump1_*".
    recursive : bool
        Whether folders in the folder are looked into, such as those of days.
    select : tuple of int or str
        Which channels are near and far, by number from 1 or by name; empty: those of the detector.
    patience : float
        Seconds after its last change that a file is waited for whose header says that it is not complete, or that
        is one of several tracks, of which the others are not there. Then it is heard as it is.
    poll : float
        Seconds between two looks into the folder, at least.

    Raises
    ------
    ValueError
        If an option makes no sense.
    """

    is_live = False
    follows_clock = True

    def __init__(
        self,
        folder: Path,
        *,
        settle: float = 2.0,
        began: str = "bext",
        zone: tzinfo | None = None,
        pattern: str = "*",
        recursive: bool = True,
        select: tuple[Channel, ...] = (),
        patience: float = 60.0,
        poll: float = 1.0,
    ) -> None:
        for name, value in (("settle", settle), ("patience", patience)):
            if not value >= 0:
                raise ValueError(f"{name}={value}: must be at least 0, in seconds")
        if not poll > 0:
            raise ValueError(f"poll={poll}: must be above 0, in seconds")
        refuse_strange(select)
        self._folder = Path(folder)
        self._settle, self._patience, self._poll = settle, patience, poll
        self._began = require_way(began)
        self._zone = zone
        self._pattern, self._recursive = pattern, recursive
        self._select = select

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """Each recording when it is complete; without end.

        Raises
        ------
        SourceError
            If the folder is not there.
        """
        settling = Settling(
            self._folder,
            pattern=self._pattern,
            recursive=self._recursive,
            is_known=ear.is_finished,
            grows=lambda: ear.heard(ear.now()),
            stopping=ear.stopping,
        )
        queue: list[_Complete] = []
        while not ear.stopping():
            begun, took = settling.look()
            looked = time.monotonic()
            for complete in self._complete(settling, begun, ear):
                heapq.heappush(queue, complete)
            pause = max(self._poll, SHARE * took)
            while queue and not ear.stopping():
                arrival = self._arrival(heapq.heappop(queue), ear)
                if arrival is not None:
                    yield arrival
                if time.monotonic() - looked >= pause:
                    break
            if not queue:
                ear.sleep(max(min(pause, looked + pause - time.monotonic()), 0.0))

    def _complete(self, settling: Settling, begun: float, ear: Ear) -> Iterator[_Complete]:
        """The recordings that were complete when the last look began."""
        now = rested = time.monotonic()
        for group in _groups(settling.waiting()):
            if ear.stopping():
                return
            if time.monotonic() - rested > REST_EVERY:  # of many files; others have their turn
                ear.sleep(0.0)
                rested = time.monotonic()
            if self._settle and any(begun - found.since < self._settle for found in group):
                continue
            if track_of(group[0]) is not None and ear.is_finished(_key(group)):
                for found in group:
                    settling.know(found)
                continue
            unfinished = [found for found in group if not is_filled_in(found.path)]
            is_alone = len(group) == 1 and track_of(group[0]) is not None
            if (unfinished or is_alone) and any(now - found.since < self._patience for found in group):
                continue
            for found in unfinished:
                logger.warning(
                    "%s: by its header it is not complete, but it has not grown for %g s; heard as it is",
                    found.path, self._patience,
                )  # fmt: skip
            for found in group:
                settling.know(found)
            yield from self._recordings(group, ear)

    def _recordings(self, group: list[Found], ear: Ear) -> Iterator[_Complete]:
        """One recording; or several, if files that are called like tracks are none."""
        by_path = {found.path: found for found in group}
        for paths in tracks.grouped(by_path) if len(group) > 1 else [tuple(by_path)]:
            files = [by_path[path] for path in paths]
            key = _key(files)
            if len(files) < len(group) and ear.is_finished(key):
                continue
            recording = Recording(paths, self._select or ear.selected)
            began_at, error = self._clock(recording, files)
            yield _Complete(began_at, files[0].name, files, recording, error)

    def _clock(self, recording: Recording, files: list[Found]) -> tuple[float, str]:
        """When a recording began, and why it cannot be known; then the time of its last change stands for it."""
        changed_at = max(found.mtime_ns for found in files) / 1e9
        try:
            clock = None
            if self._began not in ("mtime", "none"):
                clock = clock_of(recording, self._began, seconds=0.0)
            if clock is None:
                return changed_at - audio.read_header(recording).seconds, ""
        except ClockError as error:
            return changed_at, str(error)
        except (AudioError, MissingPackageError, OSError):  # to be told by who opens it
            return changed_at, ""
        return self._seconds(clock), ""

    def _seconds(self, clock: Clock) -> float:
        """A time in seconds since 1970."""
        began = clock.began
        return (began if began.tzinfo is not None else began.replace(tzinfo=self._zone)).timestamp()

    def _arrival(self, complete: _Complete, ear: Ear) -> Arrival | None:
        """A recording to hear; ``None`` if it has vanished, or has changed since: then it is found again."""
        if any(_differs(found) for found in complete.files):
            return None
        key, name = _key(complete.files), one_line(complete.name)
        stream, error = None, complete.error
        if not error:
            try:
                stream = streaming.of_recording(complete.recording)
            except (AudioError, MissingPackageError, OSError) as reason:
                if not all(path.exists() for path in complete.recording.paths):
                    return None
                error = str(reason)
        if stream is not None and stream.samples is not None:
            ear.heard(complete.began_at + stream.samples / stream.rate)
        recording = complete.recording if stream is not None else None
        return Arrival(key, name, complete.began_at, stream, recording, one_line(error))


@dataclass(order=True, slots=True)
class _Complete:
    """A recording that is complete; the oldest is the first, then by name."""

    began_at: float
    name: str
    files: list[Found] = field(compare=False)
    recording: Recording = field(compare=False)
    error: str = field(compare=False)


def _groups(waiting: Iterable[Found]) -> list[list[Found]]:
    """Files that may be one recording, by their names."""
    groups: dict[object, list[Found]] = {}
    for found in waiting:
        groups.setdefault(track_of(found) or found.name, []).append(found)
    return list(groups.values())


def _key(files: list[Found]) -> str:
    return " + ".join(found.key for found in files)


def _differs(found: Found) -> bool:
    """Whether a file is not what it was."""
    try:
        now = found.path.stat()
    except OSError:
        return True
    return (now.st_size, now.st_mtime_ns) != (found.size, found.mtime_ns)
