"""Streams of FLAC, decoded as they come.

libsndfile decodes them. It reads a stream only forwards once it has looked at its first bytes, if nobody asks it
to seek; and it takes as few bytes as there are. So samples are there as soon as their frame of FLAC is: of 4096
samples, if the encoder is not told otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import soundfile

from nearfar.recordings.audio import AudioError
from nearfar.watching.sources.pcm import Frames

Read = Callable[[int], bytes]  # at least a byte, and at most so many; none at the end

MAGIC = b"fLaC"
AT_ONCE = 0.05  # seconds that are decoded together
NO_END = 2**62  # how long a stream says that it is
MOST_HEAD = 2**24  # bytes before the samples: pictures and comments of a file


class _Forwards(io.RawIOBase):
    """A stream as a file that can be read again from its beginning, until that is forgotten."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._head: bytes | None = b""
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: NO_END}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        if self._head is None:
            content = self._read(size)
        else:
            content = self._head[self._place : self._place + size]
            if not content and self._place == len(self._head) < MOST_HEAD:
                content = self._read(size)
                self._head += content
        memoryview(buffer).cast("B")[: len(content)] = content
        self._place += len(content)
        return len(content)

    def forget_beginning(self) -> None:
        """It is only read forwards from here on."""
        self._head = None


class _Unseekable(soundfile.SoundFile):
    """A sound file in which soundfile does not seek after each read."""

    def seekable(self) -> bool:
        return False


class FlacStream:
    """A stream of FLAC, of which the header has come.

    Parameters
    ----------
    read : callable
        ``read(most)`` waits for at least a byte and gives at most so many; none at the end of the stream. It must
        not raise an error.
    name : str
        What messages call it.

    Attributes
    ----------
    rate : int
        In Hz.
    channels : int
    format : str
        As in a ``Header``, such as "FLAC/PCM_24".

    Raises
    ------
    AudioError
        If it is no FLAC.
    """

    def __init__(self, read: Read, name: str) -> None:
        self._name = name
        self._bytes = _Forwards(read)
        try:
            self._file = _Unseekable(self._bytes)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{name}: it begins as FLAC, and its header cannot be read ({_told(error)})",
                fault="unreadable",
            ) from error
        self._bytes.forget_beginning()
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.format = f"FLAC/{self._file.subtype}"

    def frames(self) -> Iterator[Frames]:
        """Its frames, exactly, as they come: (samples, channels).

        Raises
        ------
        AudioError
            If it is damaged: what follows cannot be decoded.
        """
        most = max(int(AT_ONCE * self.rate), 1)
        dtype = "int16" if self._file.subtype == "PCM_16" else "int32"
        with self._file:
            while True:
                try:
                    found = self._file.read(most, dtype=dtype, always_2d=True)
                except soundfile.LibsndfileError as error:
                    raise AudioError(
                        f"{self._name}: the stream of FLAC is damaged ({_told(error)})", fault="unreadable"
                    ) from error
                if len(found):
                    yield found
                if len(found) < most:
                    return


def _told(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().removeprefix("Error : ").rstrip(".")
