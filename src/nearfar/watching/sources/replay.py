"""Recordings of a folder, played as if they came in now, at any speed.

What is heard does not depend on the speed, nor on when it is played: each recording has its own clock time. Only
when its sound is there depends on the speed. A clock of its own runs so many times faster than that of this
computer. It stands at the beginning of the first recording, and it skips the time between recordings, in which
there is nothing to hear. A block of samples is given once this clock has reached its end. It does not wait for
whoever is slower: what is late comes at once.

When a recording began
----------------------
Either all recordings tell it, by the chunk ``bext`` or their names (``windows.clock``), and are played in that
order. Or none does, as of a folder of clips. Then they are played one after the other, in the order of their names,
and the last one ends at the time at which one of them was last changed: so times are the same whenever they are
played, and none lies in the future.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from pathlib import Path
from time import monotonic

from nearfar.files.listing import list_below
from nearfar.files.names import by_numbers
from nearfar.listening import session
from nearfar.recordings import tracks
from nearfar.recordings.blocks import Block, InBlocks, closing, length_of, part_of_block
from nearfar.recordings.clips import USUAL_SUFFIXES, is_audio
from nearfar.recordings.recording import Channel, Recording
from nearfar.watching.sources import Arrival, Ear, SourceError
from nearfar.windows import clock, streaming
from nearfar.windows.clock import Clock
from nearfar.windows.streaming import Stream

MAX = "max"
BLOCK_S = 0.5  # of a replay: what is given at once, so that sound comes in as it does from a recorder


@dataclass(frozen=True, slots=True)
class Played:
    """A recording that is played.

    Attributes
    ----------
    key, name : str
    recording : Recording
    began_at, seconds : float
        By its own clock, in seconds since 1970 (UTC), and how long it is: 0 if that cannot be told.
    """

    key: str
    name: str
    recording: Recording
    began_at: float
    seconds: float


class Replay:
    """A folder of recordings, played.

    Parameters
    ----------
    folder : Path
    speed : float or "max"
        How many times faster than it was recorded. "max": as fast as it is heard.
    began : str
        What tells when a recording began, as of ``windows.clock.clock_of``.
    zone : tzinfo
        Of recordings that do not tell theirs.
    selected : sequence of int or str
        Channels.

    Attributes
    ----------
    tells_times : bool
        Whether the recordings tell when they began, or are played one after the other; known with ``played``.

    Raises
    ------
    ValueError
        If the speed is none.
    """

    is_live = False
    follows_clock = False

    def __init__(
        self,
        folder: Path,
        speed: float | str = 1.0,
        began: str = "bext",
        zone: tzinfo = UTC,
        selected: Sequence[Channel] = (),
    ) -> None:
        self.folder, self.speed = folder, parse_speed(speed)
        self.tells_times = False
        self._way, self._zone, self._selected = began, zone, tuple(selected)

    @cached_property
    def played(self) -> tuple[Played, ...]:
        """What is played, in order of time.

        Raises
        ------
        SourceError
            If there are no recordings, or some tell when they began and others do not.
        ClockError
            If what they tell is wrong.
        """
        below = list_below(self.folder, is_audio)
        paths = sorted(below.files, key=by_numbers)
        if not paths:
            raise SourceError(f"{self.folder}: no recordings ({', '.join(USUAL_SUFFIXES)}) to replay")
        recordings = [Recording(files, self._selected) for files in tracks.grouped(paths)]
        lengths = {str(one): session.length_of(one) for one in recordings}
        clocks = self._clocks(recordings, lengths)
        self.tells_times = bool(clocks)
        if clocks:
            return self._by_clock(recordings, lengths, clocks)
        return self._one_after_the_other(recordings, lengths)

    @property
    def seconds(self) -> float:
        """Of all that is played."""
        return sum(one.seconds for one in self.played)

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """All recordings that were not heard to their end, in order of time.

        Raises
        ------
        SourceError
            If there are none, or they do not tell their times as they should.
        """
        try:
            played = self.played
        except clock.ClockError as error:
            raise SourceError(str(error)) from error
        pace = _Pace(self.speed, ear)
        for one in played:
            if ear.stopping():
                return
            if not ear.is_finished(one.key):
                yield _arrival(one, pace)

    def _clocks(
        self, recordings: Sequence[Recording], lengths: Mapping[str, float | None]
    ) -> dict[str, Clock]:
        """When they began, of those that can be read; of all or of none."""
        readable = [one for one in recordings if lengths[str(one)] is not None]
        found = {}
        for one in readable:
            told = clock.clock_of(one, self._way, seconds=lengths[str(one)] or 0.0)
            if told is not None:
                found[str(one)] = told
        silent = [str(one) for one in readable if str(one) not in found]
        if found and silent:
            raise SourceError(
                f"{silent[0]}: does not say when it began, as {len(found)} of {len(readable)} recordings here do; "
                "say where it stands with --began (a pattern for the date in the name, or mtime), or play all of "
                "them one after the other with --began none"
            )
        return found

    def _by_clock(
        self,
        recordings: Sequence[Recording],
        lengths: Mapping[str, float | None],
        clocks: Mapping[str, Clock],
    ) -> tuple[Played, ...]:
        """In the order in which they began; those that cannot be read come last."""
        clock.require_zones(clocks)
        readable = [one for one in recordings if str(one) in clocks]
        found = self._timed(readable, lengths, clocks)
        if any(later.began_at < one.began_at for one, later in itertools.pairwise(found)):
            readable.sort(key=lambda one: clocks[str(one)].began)  # names are in no order of time
            found = self._timed(readable, lengths, clocks)
        for one, later in itertools.pairwise(found):
            if one.began_at + one.seconds - later.began_at > clock.MOST_OVERLAP:
                raise clock.ClockError(
                    f"{one.name} began at {self._shown(one.began_at)} and lasts {one.seconds:.0f} s, but "
                    f"{later.name} began at {self._shown(later.began_at)}, before it had ended. Recordings of one "
                    "machine follow each other: give the folder of one machine, or play all one after the other "
                    "with --began none"
                )
        end = found[-1].began_at + found[-1].seconds
        unreadable = [one for one in recordings if str(one) not in clocks]
        return (*found, *(_played(one, end, lengths[str(one)], self.folder) for one in unreadable))

    def _timed(
        self,
        recordings: Sequence[Recording],
        lengths: Mapping[str, float | None],
        clocks: Mapping[str, Clock],
    ) -> list[Played]:
        """With their times, in this order; in the hour that autumn repeats, it tells which of the two is meant."""
        found: list[Played] = []
        for one in recordings:
            end = found[-1].began_at + found[-1].seconds if found else None
            began_at = clock.timestamp(clocks[str(one)].began, self._zone, not_before=end)
            found.append(_played(one, began_at, lengths[str(one)], self.folder))
        return found

    def _one_after_the_other(
        self, recordings: Sequence[Recording], lengths: Mapping[str, float | None]
    ) -> tuple[Played, ...]:
        """In the order of their names; the last one ends when one of the files was last changed."""
        total = sum(length or 0.0 for length in lengths.values())
        at = float(math.floor(max(path.stat().st_mtime for one in recordings for path in one.paths) - total))
        found = []
        for one in recordings:
            found.append(_played(one, at, lengths[str(one)], self.folder))
            at += found[-1].seconds
        return tuple(found)

    def _shown(self, at: float) -> str:
        return clock.shown(datetime.fromtimestamp(at, self._zone))


def parse_speed(speed: float | str) -> float:
    """How many times faster; "max" is without end.

    Raises
    ------
    ValueError
        If it is no number above 0.

    Examples
    --------
    >>> from nearfar.watching.sources.replay import parse_speed
    >>> parse_speed("60"), parse_speed("max")
    (60.0, inf)
    """
    try:
        found = math.inf if speed == MAX else float(speed)
    except ValueError:
        found = math.nan
    if not found > 0:
        raise ValueError(f"speed={speed!r}: must be a number above 0, such as 60, or max")
    return found


class _Pace:
    """A clock that runs so many times faster, and skips what is between recordings."""

    def __init__(self, speed: float, ear: Ear) -> None:
        self._speed, self._ear = speed, ear
        self._began: tuple[float, float] | None = None  # a time of recordings, and of this computer

    def begin(self, at: float) -> None:
        """A recording begins, or goes on, at this time of its own: no later is it on this clock."""
        now = monotonic()
        if self._began is None or at > self._began[0] + (now - self._began[1]) * self._speed:
            self._began = at, now

    def reaches(self, at: float) -> bool:
        """Wait until the clock shows this time; whether it does, or else watching ends."""
        began, since = self._began or (at, 0.0)
        while not self._ear.stopping():
            left = (at - began) / self._speed - (monotonic() - since)
            if left <= 0:
                return True
            self._ear.sleep(left)
        return False

    def paced(self, recorded: InBlocks, began_at: float) -> InBlocks:
        """The same recording, whose blocks come when their time has come."""
        rate = recorded.header.rate
        most = max(1, round(BLOCK_S * rate * self._speed)) if math.isfinite(self._speed) else None

        def blocks(start: int) -> Iterator[Block]:
            at, found = start, recorded.blocks(start)
            self.begin(began_at + start / rate)
            with closing([found]):
                for block in _at_most(most, found):
                    at += length_of(block)
                    if not self.reaches(began_at + at / rate):
                        return
                    self._ear.heard(began_at + at / rate)
                    yield block

        return replace(recorded, blocks=blocks)


def _at_most(size: int | None, blocks: Iterator[Block]) -> Iterator[Block]:
    """The same in blocks of at most so many samples; as they are without a size."""
    for block in blocks:
        length = length_of(block)
        for begin in range(0, length, size or max(1, length)):
            yield part_of_block(block, begin, min(length, begin + (size or length)))


def _played(recording: Recording, began_at: float, length: float | None, folder: Path) -> Played:
    files = []
    for path in recording.paths:
        with suppress(OSError):
            status = path.stat()
            files.append(f"{path.relative_to(folder).as_posix()} {status.st_size} {status.st_mtime_ns}")
    name = recording.path.relative_to(folder).as_posix()
    return Played("\n".join(files) or name, name, recording, began_at, length or 0.0)


def _arrival(one: Played, pace: _Pace) -> Arrival:
    try:
        whole = streaming.of_recording(one.recording)
    except session.UNREADABLE as error:
        return Arrival(one.key, one.name, one.began_at, None, one.recording, str(error))
    stream = Stream(whole.name, pace.paced(whole.recorded, one.began_at), whole.hint)
    return Arrival(one.key, one.name, one.began_at, stream, one.recording)
