"""Sound between a thread that must not wait and one that takes its time: what does not fit is lost, and told.

A thread that hears adds sound as it comes; the listener's thread takes it. Between them lie at most so many seconds
of sound. Beyond that, the oldest is lost, and the listener is given ``Lost`` blocks in its place: so every sample
that follows keeps its time. Where the sender can wait, it is made to wait, and nothing is lost.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Block, Lost
from nearfar.watching.sources.pcm import Frames, samples_of

logger = logging.getLogger(__name__)

SLICE = 0.25  # seconds, at most, between two looks at whether watching ends
SMALL = 0.05  # seconds of a part below which what follows is put into the same
ROUNDING = 1e-6  # seconds: less than a sample
MOST_RECORDINGS = 16  # that wait; a sender that comes and goes faster is made to wait
Part = Frames | Lost
Stopping = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Beginning:
    """A recording begins to come in.

    Attributes
    ----------
    sender : str
        What messages call what it comes from.
    began_at : float
        When its first sample was recorded, in seconds since 1970 (UTC).
    rate : int
        In Hz.
    channels : int
    format : str
        As in a ``Header``.
    error : str
        Why nothing of it can be heard; else empty.
    """

    sender: str
    began_at: float
    rate: int = 0
    channels: int = 0
    format: str = ""
    error: str = ""


def length_of(part: Part) -> int:
    """How many samples a part has, there or lost."""
    return part.samples if isinstance(part, Lost) else len(part)


@dataclass(slots=True, eq=False)
class Incoming:
    """A recording that is coming in: what waits of it, and how much of it was taken.

    Attributes
    ----------
    beginning : Beginning
    parts : deque of Frames or Lost
    taken : int
        Samples that were taken.
    is_ended : bool
        Whether nothing more is added.
    is_refused : bool
        Whether nobody will take it.
    """

    beginning: Beginning
    parts: deque[Part] = field(default_factory=deque)
    taken: int = 0
    is_ended: bool = False
    is_refused: bool = False


def _append(recording: Incoming, part: Part) -> None:
    """Add a part; small ones become one, because each array needs memory beside its samples."""
    last = recording.parts[-1] if recording.parts else None
    if isinstance(part, Lost):
        if isinstance(last, Lost):
            recording.parts.pop()
            part = Lost(last.samples + part.samples, part.error)
    elif (
        last is not None
        and not isinstance(last, Lost)
        and len(last) + len(part) <= SMALL * recording.beginning.rate
    ):
        recording.parts.pop()
        part = np.concatenate([last, part])
    recording.parts.append(part)


class Inbox:
    """Recordings that come in, one after the other, from one thread to another.

    Parameters
    ----------
    seconds : float
        How much sound may wait.
    sender_waits : bool
        Whether who adds more is made to wait; else the oldest sound is lost.

    Raises
    ------
    ValueError
        If it could hold nothing.
    """

    def __init__(self, seconds: float, *, sender_waits: bool = False) -> None:
        if not seconds > 0:
            raise ValueError(f"buffer={seconds}: must be above 0, the seconds of sound that may wait")
        self.seconds = seconds
        self.sender_waits = sender_waits
        self._recordings: deque[Incoming] = deque()
        self._waiting = 0.0  # seconds of sound that are there
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._is_closed = False

    # By the thread that hears.

    def begin(self, beginning: Beginning, stopping: Stopping = lambda: False) -> None:
        """A recording begins, and the one before has ended; waits if too many wait to be heard."""
        with self._changed:
            self._end()
            while len(self._recordings) >= MOST_RECORDINGS and not stopping():
                self._changed.wait(SLICE)
            self._recordings.append(Incoming(beginning, is_ended=bool(beginning.error)))
            self._changed.notify_all()

    def add(self, part: Part, stopping: Stopping = lambda: False) -> None:
        """What follows in the recording that has begun last; waits only if the sender is to wait."""
        with self._changed:
            latest = self._recordings[-1]
            if latest.is_refused or length_of(part) == 0:
                return
            self._waiting += self._size(latest, part)
            _append(latest, part)
            if not self.sender_waits:
                while self._waiting > self.seconds + ROUNDING:
                    self._lose_oldest()
            self._changed.notify_all()
            while self.sender_waits and self._waiting > self.seconds and not stopping():
                self._changed.wait(SLICE)

    def end(self) -> None:
        """The recording that has begun last has ended."""
        with self._changed:
            self._end()
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """There never is another recording; or, with an error, none now. What is there can still be taken."""
        with self._changed:
            self._end()
            self._error = error
            self._is_closed = True
            self._changed.notify_all()

    def _end(self) -> None:
        if self._recordings:
            self._recordings[-1].is_ended = True

    @staticmethod
    def _size(recording: Incoming, part: Part) -> float:
        """How many seconds of the buffer a part fills."""
        return 0.0 if isinstance(part, Lost) else len(part) / recording.beginning.rate

    def _lose_oldest(self) -> None:
        """The oldest sound that is there becomes lost: as much as does not fit, or one part of it."""
        for recording in self._recordings:
            gone = 0
            while recording.parts:
                part = recording.parts.popleft()
                if isinstance(part, Lost):
                    gone += part.samples
                    continue
                rate = recording.beginning.rate
                excess = min(max(math.ceil((self._waiting - self.seconds - ROUNDING) * rate), 1), len(part))
                if excess < len(part):
                    recording.parts.appendleft(part[excess:])
                recording.parts.appendleft(Lost(gone + excess, self._overflow(recording)))
                self._waiting -= excess / rate
                return
            if gone:
                recording.parts.append(Lost(gone, self._overflow(recording)))
        self._waiting = 0.0  # but for errors of rounding

    def _overflow(self, recording: Incoming) -> AudioError:
        return AudioError(
            f"{recording.beginning.sender}: this sound was lost before it was heard: sound came in faster than it "
            f"was heard, and no more than {self.seconds:g} s of it may wait (option buffer). If it is sent faster "
            "than it was recorded, set live = false",
            fault="truncated",
        )

    # By the thread that takes.

    def recordings(self, stopping: Stopping) -> Iterator[Incoming]:
        """Each recording as it begins; ends when watching does, or when there never is another.

        A recording that is left before its end goes on as another one.

        Raises
        ------
        BaseException
            The error with which it was closed, after all that came before.
        """
        current: Incoming | None = None
        while True:
            with self._changed:
                if current is not None:
                    self._leave(current)
                while (current := self._first()) is None:
                    if self._is_closed or stopping():
                        break
                    self._changed.wait(SLICE)
            if stopping():
                return
            if current is None:
                if self._error is not None:
                    raise self._error
                return
            yield current

    def refuse(self, recording: Incoming) -> None:
        """Nobody takes this recording: what comes of it, until its end, is not kept."""
        with self._changed:
            recording.is_refused = True
            self._forget(recording)

    def _first(self) -> Incoming | None:
        """The first recording that is to be taken, if there is one."""
        while self._recordings and self._recordings[0].is_refused and self._recordings[0].is_ended:
            self._recordings.popleft()
            self._changed.notify_all()
        return self._recordings[0] if self._recordings and not self._recordings[0].is_refused else None

    def _leave(self, recording: Incoming) -> None:
        """Make place for the next; the rest of one that goes on is the next."""
        if recording.is_refused:
            return
        if recording.is_ended:
            if recording.parts:
                left = sum(map(length_of, recording.parts))
                logger.warning("%s: %d samples were left unheard", recording.beginning.sender, left)
            self._forget(recording)
            self._recordings.popleft()
        else:
            began_at = recording.beginning.began_at + recording.taken / recording.beginning.rate
            self._recordings[0] = Incoming(replace(recording.beginning, began_at=began_at), recording.parts)
            recording.is_ended, recording.parts = True, deque()
        self._changed.notify_all()

    def _forget(self, recording: Incoming) -> None:
        self._waiting -= sum(self._size(recording, part) for part in recording.parts)
        recording.parts.clear()

    def blocks(self, recording: Incoming, places: list[int], stopping: Stopping) -> Iterator[Block]:
        """The chosen channels of a recording, as they come; ends with it, or when watching ends."""
        while (part := self._take(recording, stopping)) is not None:
            yield part if isinstance(part, Lost) else samples_of(part[:, places])

    def _take(self, recording: Incoming, stopping: Stopping) -> Part | None:
        with self._changed:
            while not recording.parts:
                if recording.is_ended or stopping():
                    return None
                self._changed.wait(SLICE)
            part = recording.parts.popleft()
            recording.taken += length_of(part)
            self._waiting -= self._size(recording, part)
            self._changed.notify_all()
            return part
