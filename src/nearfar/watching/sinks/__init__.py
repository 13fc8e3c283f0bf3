"""Whom it is told. A sink is a module and a line.

A sink is a class whose keyword arguments are its options in a site's file (``systems.options``). It is given
messages one by one, in order, and says whether each has arrived. The queue is the logbook: a sink that was down
finds there what it has missed (``watching.deliveries``).
"""

from __future__ import annotations

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


class SinkDownError(OSError):
    """A message did not arrive, and may arrive later: it is told again."""


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
        """Called once, before the first message, in the sink's own thread."""

    def deliver(self, message: Message) -> None:
        """Tell one message; returns when it has arrived.

        Raises
        ------
        SinkDownError, SinkRefusedError
        """

    def idle(self) -> None:
        """Called at least once a second while there is nothing to tell: for what keeps a connection alive."""

    def close(self) -> None:
        """Watching ends."""


class SiteState(Protocol):
    """What a sink may ask, at any moment: the state as it is now."""

    name: str

    def machines(self) -> list[Mapping[str, Any]]:
        """Each machine as ``logbook.asked.machines`` gives it."""

    def sinks(self) -> list[Mapping[str, Any]]:
        """How far each sink is, as ``logbook.cursors.standing`` gives it."""
