"""HTTP/1.1 by uvicorn that does not wait for ever for a client, nor keep more connections than it can bear."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 1000
SECONDS_FOR_HEAD = 10.0  # within which the head of a request must have come in
SECONDS_TO_TAKE = 60.0  # within which a client must take some of what it asked for


class Protocol(H11Protocol):
    """uvicorn waits as long as it takes for the head of a request, and for a client to take an answer."""

    _head: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        # asyncio does this only for sockets that were made with the number of TCP; without it, an answer of two
        # packets waits for an acknowledgement that the other side delays by 40 ms
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(SECONDS_TO_TAKE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._taking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        """Begin to wait for the head of a request, or end it where there is one."""
        waits = self.conn.their_state is h11.IDLE
        if waits and self._head is None:
            self._head = self.loop.call_later(SECONDS_FOR_HEAD, self.transport.abort)
        elif not waits and self._head is not None:
            self._head.cancel()
            self._head = None
