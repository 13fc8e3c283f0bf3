"""What all live sources share: a thread that hears, the clock of a recording, and arrivals.

Times
-----
A live recording begins when its first samples came, less their length. From then on its samples are its clock. The
sender's clock and that of this computer part by some parts in a million, 1 s in hours. And samples that the sender
lost without a word shift all that follows. So the two clocks are compared: sound may be late, because it waits
somewhere, but the least late sound of a minute tells how far the clocks are apart. When that is more than a second,
the recording ends and another begins, without a pause. After a pause of some seconds, another begins, too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nearfar.files.times import iso
from nearfar.recordings.audio import AudioError, Header
from nearfar.recordings.blocks import Block, InBlocks, Lost
from nearfar.recordings.recording import Channel
from nearfar.recordings.sound import chosen_channels
from nearfar.watching.sources import Arrival, Ear
from nearfar.watching.sources.buffered import SLICE, Beginning, Inbox, Incoming, Part, Stopping, length_of
from nearfar.watching.sources.decoding import Expected, sounds_of
from nearfar.watching.sources.flac_stream import Read
from nearfar.windows.streaming import Stream

logger = logging.getLogger(__name__)

MOST_APART = 1.0  # seconds that the clocks of a sender and of this computer may be apart
COMPARED_EVERY = 60.0  # seconds of which the least late sound counts
PAUSE = 10.0  # seconds without sound after which another recording begins
AFTER_GARBAGE = 1.0  # seconds until the next sender is heard
LET_GO = 1.0  # seconds that a thread is waited for, which ends by itself


@dataclass(slots=True, eq=False)
class Sending:
    """The sound of one sender, which becomes one recording after the other.

    Attributes
    ----------
    inbox : Inbox
    ear : Ear
    sender : str
        What messages call it.
    rate : int
        In Hz.
    channels : int
    format : str
        As in a ``Header``.
    by_clock : bool
        Whether sound comes as fast as it is recorded.
    stopping : callable
    """

    inbox: Inbox
    ear: Ear
    sender: str
    rate: int
    channels: int
    format: str
    by_clock: bool
    stopping: Stopping
    _began_at: float = 0.0
    _samples: int = 0
    _is_begun: bool = False
    _heard_at: float = 0.0
    _compared_at: float = 0.0
    _least_late: float = 0.0
    _follows_at: float | None = None  # when the next recording begins, if it follows without a pause

    def hear(self, part: Part, *, late: float = 0.0) -> None:
        """Sound that has come just now; ``late``: how many seconds after its last sample was recorded."""
        now = self.ear.now()
        if self._heard_at and self.by_clock and now - self._heard_at > PAUSE:
            logger.info(
                "%s: no sound for %.1f s; another recording begins", self.sender, now - self._heard_at
            )
            self.end()
        if not self._is_begun:
            follows_at, self._follows_at = self._follows_at, None
            self._begin(now - late - length_of(part) / self.rate if follows_at is None else follows_at, now)
        self._heard_at = now
        self._samples += length_of(part)
        ended_at = self._began_at + self._samples / self.rate
        self.inbox.add(part, self.stopping)
        if not isinstance(part, Lost):
            self.ear.heard(ended_at)
        if self.by_clock:
            self._compare(ended_at - (now - late), now)

    def _begin(self, began_at: float, now: float) -> None:
        self._began_at, self._samples, self._is_begun = began_at, 0, True
        self._compared_at, self._least_late = now, -float("inf")
        beginning = Beginning(self.sender, began_at, self.rate, self.channels, self.format)
        self.inbox.begin(beginning, self.stopping)

    def _compare(self, ahead: float, now: float) -> None:
        """The clocks: by how many seconds that of the samples is ahead of this computer's."""
        self._least_late = max(self._least_late, ahead)
        if now - self._compared_at < COMPARED_EVERY:
            return
        if abs(self._least_late) > MOST_APART:
            logger.info(
                "%s: after %.0f s its samples are %+.2f s from this computer's clock; another recording begins",
                self.sender, self._samples / self.rate, self._least_late,
            )  # fmt: skip
            self.end()
            self._follows_at = self._began_at + self._samples / self.rate - self._least_late
        self._compared_at, self._least_late = now, -float("inf")

    @property
    def is_begun(self) -> bool:
        """Whether a recording is coming in."""
        return self._is_begun

    def end(self) -> None:
        """Nothing more comes of this recording."""
        if self._is_begun:
            self.inbox.end()
            self._is_begun = False


def hear_stream(
    read: Read, expected: Expected, inbox: Inbox, ear: Ear, *, sender: str, by_clock: bool, stopping: Stopping
) -> bool:
    """Hear a stream of bytes to its end; whether it could be understood. Arguments as of ``sounds_of``."""
    sending: Sending | None = None
    try:
        for sound in sounds_of(read, expected, sender):
            sending = Sending(
                inbox, ear, sender, sound.rate, sound.channels, sound.format, by_clock, stopping
            )
            for part in sound.parts:
                sending.hear(part)
            sending.end()
    except AudioError as error:
        logger.warning("%s", error)
        if sending is not None and sending.is_begun:
            sending.hear(Lost(1, error))
            sending.end()
        else:
            inbox.begin(Beginning(sender, ear.now(), error=str(error)), stopping)
        return False
    return True


def wait(seconds: float, stopping: Stopping) -> None:
    """Wait so long, or until watching ends."""
    until = time.monotonic() + seconds
    while not stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, SLICE))


@contextmanager
def receiving(receive: Callable[[Stopping], None], inbox: Inbox, ear: Ear, name: str) -> Iterator[None]:
    """While the body runs, a thread hears and fills the inbox; how it ends, the inbox tells."""
    let_go = threading.Event()

    def stopping() -> bool:
        return let_go.is_set() or ear.stopping()

    def run() -> None:
        try:
            receive(stopping)
        except BaseException as error:  # to be raised by the thread that takes
            inbox.close(error)
        else:
            inbox.close()

    thread = threading.Thread(target=run, name=f"hears {name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        let_go.set()
        thread.join(LET_GO)


def arrivals_of(inbox: Inbox, ear: Ear, select: tuple[Channel, ...], kind: str) -> Iterator[Arrival]:
    """The recordings in an inbox as arrivals, as they begin."""
    for recording in inbox.recordings(ear.stopping):
        yield _arrival(recording, inbox, ear, select, kind)


def _arrival(recording: Incoming, inbox: Inbox, ear: Ear, select: tuple[Channel, ...], kind: str) -> Arrival:
    begun = recording.beginning
    name = f"{begun.sender} {iso(begun.began_at)}"
    key = f"{kind} {begun.sender} {begun.began_at:.6f}"
    if begun.error:
        return Arrival(key, name, begun.began_at, None, error=begun.error)
    try:
        places = chosen_channels(select or ear.selected, count=begun.channels, where=begun.sender)
    except AudioError as error:
        inbox.refuse(recording)
        return Arrival(key, name, begun.began_at, None, error=str(error))

    def blocks(start: int) -> Iterator[Block]:
        found = inbox.blocks(recording, places, ear.stopping)
        return found if start == 0 else _from(start, found)

    recorded = InBlocks(Header(begun.rate, len(places), 0, begun.format), False, (), blocks)
    return Arrival(key, name, begun.began_at, Stream(name, recorded))


def _from(start: int, blocks: Iterator[Block]) -> Iterator[Block]:
    """What follows after so many samples; the same sound cannot be heard again."""
    for block in blocks:
        size = block.samples if isinstance(block, Lost) else block.shape[1]
        gone = min(start, size)
        start -= gone
        if gone < size:
            yield Lost(size - gone, block.error) if isinstance(block, Lost) else block[:, gone:]
