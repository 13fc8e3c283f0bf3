"""Sound that a program writes to standard input or into a named pipe.

Raw samples are heard as they come; so are WAV and FLAC, which are known by their headers. When the writer of a
named pipe closes it, the recording ends, and the next writer begins another one. When standard input ends, watching
does.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear, SourceError
from nearfar.watching.sources.buffered import SLICE, Inbox, Stopping
from nearfar.watching.sources.decoding import Expected, StreamFormat
from nearfar.watching.sources.live import AFTER_GARBAGE, arrivals_of, hear_stream, receiving, wait

logger = logging.getLogger(__name__)

STDIN = Path("-")


class Pipe:
    """What a program writes to standard input or into a named pipe.

    Parameters
    ----------
    path : Path
        "-" is standard input.
    rate, channels : int, optional
        Of raw samples, in Hz; WAV and FLAC say theirs.
    format : {"s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "u8", "wav", "flac"}
        Of raw samples, interleaved. What begins with the header of a WAV or of FLAC is known by it; "wav" and
        "flac" refuse all else.
    select : tuple of int
        Which channels are near and far, numbered from 1; empty: those of the detector.
    live : bool
        Whether the sound is sent as it is recorded. Then what is not heard in time is lost, and told. Otherwise the
        writer is made to wait, nothing is lost, and time is what the samples count.
    buffer : float
        Seconds of sound that may wait to be heard.

    Raises
    ------
    ValueError
        If an option makes no sense.
    """

    is_live = True

    def __init__(
        self,
        path: Path = STDIN,
        *,
        rate: int | None = None,
        channels: int | None = None,
        format: StreamFormat = "s16le",
        select: tuple[Channel, ...] = (),
        live: bool = True,
        buffer: float = 60.0,
    ) -> None:
        self.path = Path(path)
        self.follows_clock = live
        self._expected = Expected(rate, channels, format)
        self._select = select
        self._buffer = buffer
        Inbox(buffer)  # refuses what makes no sense

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """A recording for each writer.

        Raises
        ------
        SourceError
            If the pipe is not there, or is none.
        """
        inbox = Inbox(self._buffer, sender_waits=not self.follows_clock)
        pipe = _Stdin() if self.path == STDIN else _NamedPipe(self.path)

        def receive(stopping: Stopping) -> None:
            try:
                while pipe.opens(stopping):
                    if not hear_stream(
                        lambda most: pipe.read(most, stopping),
                        self._expected,
                        inbox,
                        ear,
                        sender=pipe.name,
                        by_clock=self.follows_clock,
                        stopping=stopping,
                    ):
                        pipe.drain(stopping)
            finally:
                pipe.close()

        with receiving(receive, inbox, ear, pipe.name):
            yield from arrivals_of(inbox, ear, self._select, "pipe")


class _Stdin:
    """Standard input, which is read once, to its end."""

    name = "standard input"

    def __init__(self) -> None:
        try:
            self._file = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError) as error:
            raise SourceError(
                f"{self.name}: it is closed; write sound to it, or give another source"
            ) from error
        if os.isatty(self._file):
            raise SourceError(
                f"{self.name}: it is a terminal; write sound to it, as in: arecord -t raw | nearfar watch"
            )
        self._is_read = False

    def opens(self, stopping: Stopping) -> bool:
        """Whether there is something to hear: once."""
        first, self._is_read = not self._is_read, True
        return first and not stopping()

    def read(self, most: int, stopping: Stopping) -> bytes:
        """At least a byte, and at most so many; none at the end, or when watching ends."""
        return os.read(self._file, most) if _comes(self._file, stopping) else b""

    def drain(self, stopping: Stopping) -> None:
        """What cannot be understood is read, so that its writer is not held up."""
        while self.read(2**16, stopping):
            pass

    def close(self) -> None:
        """It is not ours to close."""


class _NamedPipe:
    """A named pipe, which one writer after the other opens.

    It is open all the time, and anew after each writer: the next may already have come.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file = self._opened()
        self._is_used = False

    def _opened(self) -> int:
        try:
            found = self._path.stat().st_mode
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror}; make it with: mkfifo {self.name}") from error
        if not stat.S_ISFIFO(found):
            raise SourceError(
                f"{self.name}: is no named pipe; make one with mkfifo, or watch a folder of recordings with the "
                "source folder"
            )
        try:
            return os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be opened ({error.strerror})") from error

    def opens(self, stopping: Stopping) -> bool:
        """Be there for the next writer; whether watching goes on."""
        if stopping():
            return False
        if self._is_used:
            before, self._file = self._file, self._opened()
            os.close(before)
        self._is_used = True
        return _comes(self._file, stopping)

    def read(self, most: int, stopping: Stopping) -> bytes:
        """At least a byte, and at most so many; none when the writer has closed it, or watching ends.

        Linux does not report the end of a writer that was gone before this file was opened, so it is read for.
        """
        while not stopping():
            _waited(self._file)
            try:
                return os.read(self._file, most)
            except BlockingIOError:
                continue
        return b""

    def drain(self, stopping: Stopping) -> None:
        """What cannot be understood is read, so that its writer is not held up."""
        while self.read(2**16, stopping):
            pass
        wait(AFTER_GARBAGE, stopping)

    def close(self) -> None:
        os.close(self._file)


def _comes(file: int, stopping: Stopping) -> bool:
    """Wait until something can be read, or its end; ``False`` if watching ends before."""
    while not stopping():
        if _waited(file):
            return True
    return False


def _waited(file: int) -> bool:
    """Whether something can be read, or an end is reported, within a moment."""
    import select

    if not hasattr(select, "poll"):  # Windows, where reading waits
        return True
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(1000 * SLICE))
