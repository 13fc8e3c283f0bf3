"""Whom it is told. A sink is a module and a line.

A sink is a class whose keyword arguments are its options in a site's file (``systems.options``). It is given
messages one by one, in order, and says whether each has arrived. The queue is the logbook: a sink that was down
finds there what it has missed (``watching.deliveries``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

SINKS: dict[str, str] = {
    "jsonl": "nearfar.watching.sinks.json_lines:JsonLines",
    "webhook": "nearfar.watching.sinks.webhook:Webhook",
    "mqtt": "nearfar.watching.sinks.mqtt:Mqtt",
    "prometheus": "nearfar.watching.sinks.prometheus:Prometheus",
}
Stream = Literal["journal", "windows"]


@dataclass(frozen=True, slots=True)
class Message:
    """What is told once.

    Attributes
    ----------
    id : str
        The same whenever it is told again, such as "journal-17".
    stream : {"journal", "windows"}
    what : str
        Of the journal, one of ``logbook.life_cycle.WHAT``; "window" of windows.
    machine : str
    content : mapping
        JSON values, all of the message: see ``docs/messages.md``.
    """

    id: str
    stream: Stream
    what: str
    machine: str
    content: Mapping[str, Any]


def as_json(message: Message) -> bytes:
    """The message as JSON (RFC 8259) on one line, in UTF-8, without the end of the line.

    Examples
    --------
    >>> from nearfar.watching.sinks import Message, as_json
    >>> as_json(Message("journal-1", "journal", "activated", "pump", {"format": 1, "id": "journal-1"}))
    b'{"format":1,"id":"journal-1"}'
    """
    return encoded(message.content)


def encoded(content: Mapping[str, Any]) -> bytes:
    """Any object as JSON, in the same way."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class SinkDownError(OSError):
    """A message did not arrive, and may arrive later: it is told again.

    Parameters
    ----------
    told : str
        Who did not take it, and why.
    retry_after : float or None
        Seconds after which it is worth trying again, if the sink knows better than ``deliveries.Backoff``.
    """

    def __init__(self, told: str, *, retry_after: float | None = None) -> None:
        super().__init__(told)
        self.retry_after = retry_after


class SinkRefusedError(ValueError):
    """A message was refused, and would be refused again: it is counted, and the next one is told."""


class Sink(Protocol):
    """What takes messages.

    Attributes
    ----------
    streams : tuple of {"journal", "windows"}
        Which it takes.
    """

    streams: tuple[Stream, ...]

    def open(self, site: SiteState) -> None:
        """Called before the first message, in the sink's own thread; and again, later, if it could not be opened.

        Raises
        ------
        SinkDownError
        """

    def deliver(self, message: Message) -> None:
        """Tell one message; returns when it has arrived.

        Raises
        ------
        SinkDownError, SinkRefusedError
        """

    def idle(self) -> None:
        """Called at least once a second while the sink is not failing: for what keeps a connection alive.

        Raises
        ------
        SinkDownError
        """

    def close(self) -> None:
        """Watching ends."""


class SiteState(Protocol):
    """What a sink may ask, at any moment: the state as it is now."""

    @property
    def name(self) -> str:
        """Of the site."""

    def machines(self) -> list[dict[str, Any]]:
        """Each machine as ``logbook.asked.machines`` gives it."""

    def sinks(self) -> list[dict[str, Any]]:
        """How far each sink is, as ``logbook.cursors.standing`` gives it."""
