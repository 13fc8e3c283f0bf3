"""Sound from the network, by TCP or UDP.

By TCP a sender sends raw samples, a WAV of any length, or FLAC. It connects to a port here; or, with ``connect``,
it waits itself to be connected to. By UDP it sends datagrams of whole frames of raw samples. One sender is heard at
a time; others are refused until it has gone, or has been silent for some time.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Lost
from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear, SourceError
from nearfar.watching.sources.buffered import SLICE, Inbox, Stopping
from nearfar.watching.sources.decoding import Expected, StreamFormat, required
from nearfar.watching.sources.live import AFTER_GARBAGE, Sending, arrivals_of, hear_stream, receiving, wait
from nearfar.watching.sources.pcm import Format, frame_bytes, frames_of

logger = logging.getLogger(__name__)

CONNECTS_WITHIN = 5.0  # seconds
TOLD_EVERY = 60.0  # seconds between two messages about senders that are refused
LARGEST_DATAGRAM = 2**16
KERNEL_BUFFER = 2**20  # bytes that the system is asked to keep of datagrams


class Tcp:
    """A sender that is connected by TCP.

    Parameters
    ----------
    port : int
        On which senders are awaited, or to which to connect. 0: any that is free; ``address`` says which.
    host : str
        The address of this computer on which senders are awaited: "127.0.0.1" for those on it, "0.0.0.0" for all.
        Or, with ``connect``, the sender.
    connect : bool
        Whether to connect to the sender, instead of waiting for it.
    rate, channels : int, optional
        Of raw samples, in Hz; WAV and FLAC say theirs.
    format : {"s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "u8", "wav", "flac"}
        Of raw samples, interleaved. What begins with the header of a WAV or of FLAC is known by it; "wav" and
        "flac" refuse all else.
    select : tuple of int
        Which channels are near and far, numbered from 1; empty: those of the detector.
    sender : str
        The only computer that may send, by name or address; empty: any.
    live : bool
        Whether the sound is sent as it is recorded. Then what is not heard in time is lost, and told. Otherwise the
        sender is made to wait, nothing is lost, and time is what the samples count.
    silence : float
        Seconds without a byte after which the connection is closed, and the next sender awaited.
    buffer : float
        Seconds of sound that may wait to be heard.

    Attributes
    ----------
    address : tuple of str and int, or None
        On which senders are awaited, while they are.

    Raises
    ------
    ValueError
        If an option makes no sense.
    """

    is_live = True

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        connect: bool = False,
        rate: int | None = None,
        channels: int | None = None,
        format: StreamFormat = "s16le",
        select: tuple[Channel, ...] = (),
        sender: str = "",
        live: bool = True,
        silence: float = 10.0,
        buffer: float = 60.0,
    ) -> None:
        _refuse_strange(port, silence, fewest=1 if connect else 0)
        if connect and sender:
            raise ValueError(f"sender={sender!r}: with connect, host is the sender; leave sender out")
        self._host, self._port = host, port
        self._connect = connect
        self._expected = Expected(rate, channels, format)
        self._select = select
        self._sender = sender
        self.follows_clock = live
        self._silence = silence
        self._buffer = buffer
        Inbox(buffer)  # refuses what makes no sense
        self.address: tuple[str, int] | None = None

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """A recording for each connection.

        Raises
        ------
        SourceError
            If the port is in use or the address is none of this computer; with ``connect``, if the sender is not
            there.
        """
        inbox = Inbox(self._buffer, sender_waits=not self.follows_clock)
        listening = None if self._connect else _bound(socket.SOCK_STREAM, self._host, self._port)

        def receive(stopping: Stopping) -> None:
            while not stopping():
                connection = self._to_sender() if listening is None else self._next(listening, stopping)
                if connection is None:
                    return
                with connection:
                    understood = self._hear(connection, listening, inbox, ear, stopping)
                if self._connect or not understood:
                    wait(AFTER_GARBAGE, stopping)

        try:
            if listening is not None:
                self.address = listening.getsockname()[:2]
            with receiving(receive, inbox, ear, f"tcp {self._host}:{self._port}"):
                yield from arrivals_of(inbox, ear, self._select, "tcp")
        finally:
            self.address = None
            if listening is not None:
                listening.close()

    def _hear(
        self,
        connection: socket.socket,
        listening: socket.socket | None,
        inbox: Inbox,
        ear: Ear,
        stopping: Stopping,
    ) -> bool:
        """Hear one sender until it goes; whether it could be understood."""
        peer = _named(connection)
        logger.info("%s: connected", peer)
        read = _Connection(connection, peer, listening, self._silence, stopping).read
        by_clock = self.follows_clock
        return hear_stream(
            read, self._expected, inbox, ear, sender=peer, by_clock=by_clock, stopping=stopping
        )

    def _to_sender(self) -> socket.socket:
        try:
            return socket.create_connection((self._host, self._port), CONNECTS_WITHIN)
        except OSError as error:
            raise SourceError(
                f"tcp {self._host}:{self._port}: the sender is not there ({error.strerror or error})"
            ) from error

    def _next(self, listening: socket.socket, stopping: Stopping) -> socket.socket | None:
        """The next sender that may send; ``None`` if watching ends before."""
        refused = _Refused(self._sender)
        while not stopping():
            if not select.select([listening], [], [], SLICE)[0]:
                continue
            connection = _accepted(listening)
            if connection is None:
                continue
            if refused.may_send(connection.getpeername()[0]):
                return connection
            refused.tell(_named(connection), f"only {self._sender} may send")
            connection.close()
        return None


class _Connection:
    """A sender that is connected. Reading never raises: whatever happens to the connection ends it."""

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        listening: socket.socket | None,
        silence: float,
        stopping: Stopping,
    ) -> None:
        connection.setblocking(False)
        self._connection, self._peer = connection, peer
        self._listening = listening
        self._silence = silence
        self._stopping = stopping
        self._refused = _Refused()

    def read(self, most: int) -> bytes:
        """At least a byte, and at most so many; none at the end, after silence, or when watching ends."""
        watched = [self._connection] if self._listening is None else [self._connection, self._listening]
        until = time.monotonic() + self._silence
        while not self._stopping():
            ready = select.select(watched, [], [], SLICE)[0]
            content = self._received(most) if self._connection in ready else None
            if content == b"":  # so the next sender is not refused
                return content
            if self._listening in ready:
                self._refuse_other()
            if content is not None:
                return content
            if time.monotonic() > until:
                logger.warning("%s: no sound for %g s; the connection is closed", self._peer, self._silence)
                return b""
        return b""

    def _received(self, most: int) -> bytes | None:
        """What has come; none if the connection has ended, ``None`` if nothing has."""
        try:
            return self._connection.recv(most)
        except BlockingIOError:
            return None
        except OSError as error:
            logger.warning("%s: the connection broke (%s)", self._peer, error.strerror)
            return b""

    def _refuse_other(self) -> None:
        assert self._listening is not None
        other = _accepted(self._listening)
        if other is not None:
            self._refused.tell(_named(other), f"{self._peer} is sending")
            other.close()


class Udp:
    """Datagrams of raw samples, each of whole frames.

    A datagram that the network loses leaves no trace in raw samples: what follows is then earlier than it should
    be, until the clocks are a second apart and another recording begins. Over a network that loses datagrams, send
    by TCP.

    Parameters
    ----------
    port : int
        On which datagrams are awaited. 0: any that is free; ``address`` says which.
    host : str
        The address of this computer on which datagrams are awaited; "0.0.0.0" for all.
    rate, channels : int
        In Hz.
    format : {"s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "u8"}
        Interleaved.
    select : tuple of int
        Which channels are near and far, numbered from 1; empty: those of the detector.
    sender : str
        The only computer that may send, by name or address; empty: the one that sends first, until it is silent.
    silence : float
        Seconds without a datagram after which the recording ends.
    buffer : float
        Seconds of sound that may wait to be heard.

    Attributes
    ----------
    address : tuple of str and int, or None
        On which datagrams are awaited, while they are.

    Raises
    ------
    ValueError
        If an option makes no sense.
    """

    is_live = True
    follows_clock = True

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        rate: int | None = None,
        channels: int | None = None,
        format: Format = "s16le",
        select: tuple[Channel, ...] = (),
        sender: str = "",
        silence: float = 10.0,
        buffer: float = 60.0,
    ) -> None:
        _refuse_strange(port, silence)
        self._rate, self._channels = required(rate, channels)
        self._format = format
        Inbox(buffer)  # refuses what makes no sense
        self._host, self._port = host, port
        self._select = select
        self._sender = sender
        self._silence = silence
        self._buffer = buffer
        self.address: tuple[str, int] | None = None

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """A recording for each sender, until it is silent.

        Raises
        ------
        SourceError
            If the port is in use or the address is none of this computer.
        """
        inbox = Inbox(self._buffer)
        listening = _bound(socket.SOCK_DGRAM, self._host, self._port)

        def receive(stopping: Stopping) -> None:
            self._receive(listening, inbox, ear, stopping)

        try:
            self.address = listening.getsockname()[:2]
            with receiving(receive, inbox, ear, f"udp {self._host}:{self._port}"):
                yield from arrivals_of(inbox, ear, self._select, "udp")
        finally:
            self.address = None
            listening.close()

    def _receive(self, listening: socket.socket, inbox: Inbox, ear: Ear, stopping: Stopping) -> None:
        refused = _Refused(self._sender)
        sending: Sending | None = None
        address, until = None, 0.0
        while not stopping():
            found = _datagram(listening)
            if sending is not None and time.monotonic() > until:
                logger.info("%s: no datagram for %g s", sending.sender, self._silence)
                sending.end()
                sending = None
            if found is None:
                continue
            content, source = found
            name = f"udp {source[0]}:{source[1]}"
            if not refused.may_send(source[0]):
                refused.tell(name, f"only {self._sender} may send")
                continue
            if sending is None:
                address = source
                sending = Sending(
                    inbox, ear, name, self._rate, self._channels, f"RAW/{self._format}", True, stopping
                )
            elif source != address:
                refused.tell(name, f"{sending.sender} is sending")
                continue
            until = time.monotonic() + self._silence
            self._hear(content, sending)

    def _hear(self, content: bytes, sending: Sending) -> None:
        of_frame = frame_bytes(self._format, self._channels)
        if content and len(content) % of_frame == 0:
            sending.hear(frames_of(content, self._format, self._channels))
        elif content:
            error = AudioError(
                f"{sending.sender}: a datagram of {len(content)} bytes, which are no whole frames: "
                f"{self._channels} channels of {self._format} have {of_frame}",
                fault="unreadable",
            )
            sending.hear(Lost(max(len(content) // of_frame, 1), error))


class _Refused:
    """Who may send, and those who may not: told now and then, however many there are."""

    def __init__(self, only: str = "") -> None:
        self._only = only
        self._addresses: set[str] | None = None
        self._count = 0
        self._told_at = -float("inf")

    def may_send(self, address: str) -> bool:
        if not self._only:
            return True
        if self._addresses is None:
            try:
                self._addresses = {str(one[4][0]) for one in socket.getaddrinfo(self._only, None)}
            except OSError as error:
                raise SourceError(f"sender={self._only!r}: no such computer ({error.strerror})") from error
        return address in self._addresses

    def tell(self, who: str, why: str) -> None:
        self._count += 1
        if time.monotonic() - self._told_at >= TOLD_EVERY:
            logger.warning("%s: refused, because %s (refused: %d)", who, why, self._count)
            self._told_at = time.monotonic()


def _refuse_strange(port: int, silence: float, *, fewest: int = 0) -> None:
    if not fewest <= port <= 65535:
        raise ValueError(f"port={port}: must be from {fewest} to 65535")
    if not silence > 0:
        raise ValueError(f"silence={silence}: must be above 0, in seconds")


def _bound(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """A socket on an address of this computer."""
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind)
        try:
            if kind == socket.SOCK_STREAM:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                found.bind(address)
                found.listen()
                found.setblocking(False)
            else:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
                found.bind(address)
                found.settimeout(SLICE)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise SourceError(
            f"{protocol} {host}:{port}: sound cannot be awaited there ({error.strerror}); give another port, or an "
            "address of this computer"
        ) from error
    return found


def _accepted(listening: socket.socket) -> socket.socket | None:
    """The connection that waits; ``None`` if it has gone again."""
    with suppress(OSError):
        return listening.accept()[0]
    return None


def _named(connection: socket.socket) -> str:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # it has gone
        return "tcp, a sender that has gone"
    return f"tcp {host}:{port}"


def _datagram(listening: socket.socket) -> tuple[bytes, tuple[str, int]] | None:
    """The next datagram and who sent it; ``None`` if none came for a while."""
    try:
        content, source = listening.recvfrom(LARGEST_DATAGRAM)
    except TimeoutError:
        return None
    except OSError as error:
        raise SourceError(f"udp: datagrams cannot be received ({error.strerror})") from error
    return content, source[:2]
