"""Messages and states by MQTT 3.1.1 (OASIS), and machines that Home Assistant finds by itself.

Topics
------
Below ``PREFIX/SITE``, where names are made safe (``safe``):

``availability``
    "online" or "offline", retained. "offline" is the last will: the broker says it if the watcher is gone.
``MACHINE/state``
    The state as it is now, as JSON, retained.
``MACHINE/alert``
    Each message about an alert or a condition, as JSON.
``MACHINE/event``
    Each other message of the journal.
``MACHINE/window``
    Each window, if these are asked for.

All is published with QoS 1. A message has arrived when the broker has acknowledged it (PUBACK).

Each connection has a client of its own (paho-mqtt), in the sink's thread. When it is lost, so is what the client
still wanted to send: the logbook has it, and it is told again. So nothing waits in two queues, and nothing is sent
twice but a message whose acknowledgement was lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import selectors
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTMessageInfo, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from nearfar.files.times import iso
from nearfar.logbook.life_cycle import CONDITIONS
from nearfar.watching.sinks import (
    Message,
    SinkDownError,
    SinkRefusedError,
    SiteState,
    Stream,
    as_json,
    encoded,
    home_assistant,
)

PORT, PORT_TLS = 1883, 8883  # registered with IANA
LONGEST_TOPIC = 65_535  # bytes, MQTT 3.1.1 section 1.5.3
UNSAFE = frozenset("+#/%\0")
AT_ONCE_S = 0.2  # between two looks at the states, however much happens; there may be hundreds of machines
CLOSING_S = 2.0  # for "offline" and the end of the connection
STATE_FORMAT = 1


class Mqtt:
    """Tell a broker.

    Parameters
    ----------
    host : str
    port : int or None
        1883, with ``tls`` 8883.
    user : str
    password_file : Path or None
    tls : bool
        Whether the connection is encrypted and the broker's certificate verified.
    ca_file : Path or None
        Certificates to trust in place of the system's, as PEM.
    cert_file, key_file : Path or None
        A certificate of our own, as PEM, if the broker asks for one.
    prefix : str
        Topics begin with it.
    home_assistant : str
        The prefix of Home Assistant's discovery. Empty: none.
    windows : bool
        Whether windows are told, too.
    every : float
        How many seconds lie between two states of a machine, at least, if nothing happens but windows.
    keepalive : int
        Seconds. A broker takes a watcher for gone after one and a half of it without a sign (MQTT 3.1.1, 3.1.2.10).
    timeout : float
        Seconds for a connection, and for an acknowledgement.
    client_id : str
        Empty: made of the site's name. Two watchers must not have the same.

    Raises
    ------
    ValueError
        If an option is none.
    FileNotFoundError
    """

    def __init__(  # noqa: PLR0913  # the options
        self,
        host: str,
        *,
        port: int | None = None,
        user: str = "",
        password_file: Path | None = None,
        tls: bool = False,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        prefix: str = "nearfar",
        home_assistant: str = "homeassistant",
        windows: bool = False,
        every: float = 5.0,
        keepalive: int = 30,
        timeout: float = 10.0,
        client_id: str = "",
    ) -> None:
        _check_options(host, prefix, home_assistant, every=every, timeout=timeout, keepalive=keepalive)
        if not tls and (ca_file or cert_file or key_file):
            raise ValueError("ca_file, cert_file and key_file are of encrypted connections: set tls = true")
        if password_file is not None and not user:
            raise ValueError("password_file: a password needs a user")
        self.streams: tuple[Stream, ...] = ("journal", "windows") if windows else ("journal",)
        self._broker = _Broker(
            host=host,
            port=port or (PORT_TLS if tls else PORT),
            user=user,
            password=None if password_file is None else _password(password_file),
            context=_context(ca_file, cert_file, key_file) if tls else None,
            keepalive=keepalive,
            timeout=timeout,
            client_id=client_id,
        )
        self._prefix = prefix
        self._discovery = home_assistant
        self._every = every
        self._site: SiteState | None = None
        self._connection: _Connection | None = None
        self._published: dict[str, bytes] = {}  # retained, by topic, by this connection
        self._configurations: dict[tuple[str, str], tuple[str, bytes]] = {}  # by name and system
        self._looked_at = -1e9
        self._is_due = False  # whether states are to be published, however short a time ago that was

    def open(self, site: SiteState) -> None:
        """Connect, and publish what there is."""
        self._site = site
        self._connected()

    def deliver(self, message: Message) -> None:
        """Publish a message, wait until it is acknowledged, and publish the state of its machine."""
        topic = self._topic_of(message)
        if len(topic.encode()) > LONGEST_TOPIC:
            raise SinkRefusedError(f"the topic has more than {LONGEST_TOPIC} bytes")
        connection = self._connected()
        try:
            connection.publish(topic, as_json(message))
            connection.settle()
        except SinkDownError:
            self._lose()
            raise
        if message.stream == "journal":
            self._publish_states_soon()

    def idle(self) -> None:
        """Read what the broker says, keep the connection alive, and publish states that have changed."""
        connection = self._connected()
        try:
            connection.turn(0)
        except SinkDownError:
            self._lose()
            raise
        if self._discovery and connection.take(f"{self._discovery}/status") == home_assistant.BIRTH:
            self._published.clear()
            self._publish_states()
        elif self._is_due or time.monotonic() - self._looked_at >= self._every:
            self._publish_states()

    def close(self) -> None:
        """Say that we are offline, and end the connection."""
        if self._connection is not None:
            with contextlib.suppress(SinkDownError):
                self._connection.publish(self._availability, b"offline", retain=True)
                self._connection.end()
            self._lose()

    @property
    def _base(self) -> str:
        assert self._site is not None
        return f"{self._prefix}/{safe(self._site.name)}"

    @property
    def _availability(self) -> str:
        return f"{self._base}/availability"

    def _topic_of(self, message: Message) -> str:
        kind = "alert" if message.content.get("condition") else "event"
        kind = "window" if message.stream == "windows" and message.what == "window" else kind
        return "/".join((self._base, *([safe(message.machine)] if message.machine else []), kind))

    def _connected(self) -> _Connection:
        """The connection; a new one if there is none."""
        if self._connection is None:
            assert self._site is not None
            self._published.clear()
            self._connection = _Connection.make(self._broker, site=self._site.name, will=self._availability)
            try:
                self._connection.publish(self._availability, b"online", retain=True)
                if self._discovery:
                    self._connection.subscribe(f"{self._discovery}/status")
                self._connection.settle()
            except SinkDownError:
                self._lose()
                raise
            self._publish_states()
        return self._connection

    def _lose(self) -> None:
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    def _publish_states_soon(self) -> None:
        """At once; or, if that was done just now, when nothing is to be told for a moment.

        The message that led to it has arrived. If the states do not, they are published when there is a connection
        again.
        """
        if time.monotonic() - self._looked_at < AT_ONCE_S:
            self._is_due = True
            return
        with contextlib.suppress(SinkDownError):
            self._publish_states()

    def _publish_states(self) -> None:
        """Publish each state, and each message of discovery, that the broker does not have yet."""
        assert self._site is not None
        if self._connection is None:
            return
        try:
            for topic, payload in self._retained(self._site.machines()):
                if self._published.get(topic) != payload and len(topic.encode()) <= LONGEST_TOPIC:
                    self._connection.publish(topic, payload, retain=True)
                    self._published[topic] = payload
            self._connection.settle()
        except SinkDownError:
            self._lose()
            raise
        self._looked_at, self._is_due = time.monotonic(), False

    def _retained(self, machines: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, bytes]]:
        """What the broker is to keep: nothing of a machine that was removed."""
        assert self._site is not None
        for row in machines:
            topic = f"{self._base}/{safe(row['name'])}/state"
            is_there = row["mode"] != "removed"
            if self._discovery:
                yield self._discovered(row, topic) if is_there else (self._discovered(row, topic)[0], b"")
            yield topic, encoded(state_of(row, self._site.name)) if is_there else b""

    def _discovered(self, row: Mapping[str, Any], state: str) -> tuple[str, bytes]:
        """Topic and payload of a machine's discovery, made once."""
        assert self._site is not None
        key = (row["name"], row["system"])
        if key not in self._configurations:
            found = home_assistant.device(self._site.name, row, state=state, availability=self._availability)
            id = home_assistant.identifier(self._site.name, row["name"])
            self._configurations[key] = f"{self._discovery}/device/{id}/config", encoded(found)
        return self._configurations[key]


def safe(name: str) -> str:
    """A name as one level of a topic: what has a meaning there, and what cannot be printed, is percent-encoded.

    Different names stay different.

    Examples
    --------
    >>> from nearfar.watching.sinks.mqtt import safe
    >>> safe("Hall 3"), safe("pump/1+2#"), safe("100 %")
    ('Hall 3', 'pump%2F1%2B2%23', '100 %25')
    """
    return "".join(
        character
        if character.isprintable() and character not in UNSAFE
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in name
    )


def state_of(row: Mapping[str, Any], site_name: str) -> dict[str, Any]:
    """The state of a machine, as it is published.

    Parameters
    ----------
    row : mapping
        As ``logbook.asked.machines`` gives it.
    site_name : str
    """
    return {
        "format": STATE_FORMAT,
        "site": site_name,
        "machine": row["name"],
        "mode": row["mode"],
        "mode_since": iso(row["mode_since_at"]),
        "heard_until": iso(row["heard_until_at"]),
        "decision": row["decision"],
        "score": row["score"],
        "threshold": row["threshold"],
        "evidence": row["evidence"],
        "running": None if row["running"] is None else bool(row["running"]),
        "conditions": {condition: _condition(row, condition) for condition in CONDITIONS},
        "alerts": len(row["alerts"]),
    }


def _condition(row: Mapping[str, Any], condition: str) -> dict[str, Any]:
    """A condition: its active alert, and whether people are to be told (``problem``)."""
    standing = next((each for each in row["conditions"] if each["condition"] == condition), None)
    is_hidden = standing is not None and (
        standing["shelving"] != "unshelved" or standing["suppressed"] or standing["out_of_service"]
    )
    alert = next((each for each in row["alerts"] if each["condition"] == condition and each["active"]), None)
    return {
        "active": alert is not None,
        "problem": alert is not None and not is_hidden,
        "annunciated": not is_hidden,
        "acked": alert is None or bool(alert["acked"]),
        "alert": None if alert is None else alert["id"],
        "severity": None if alert is None else alert["severity"],
        "since": None if alert is None else iso(alert["since_at"]),
        "message": None if alert is None else alert["message"],
    }


@dataclass(frozen=True, slots=True)
class _Broker:
    """Where the broker is, and how it is asked."""

    host: str
    port: int
    user: str
    password: str | None
    context: ssl.SSLContext | None
    keepalive: int
    timeout: float
    client_id: str

    def __str__(self) -> str:
        return f"mqtt{'s' if self.context else ''}://{self.host}:{self.port}"


@dataclass(slots=True)
class _Connection:
    """One connection to a broker. All of it happens in the calling thread."""

    broker: _Broker
    client: Client
    waiting: list[MQTTMessageInfo] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    answer: ReasonCode | None = None
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    @classmethod
    def make(cls, broker: _Broker, *, site: str, will: str) -> _Connection:
        """Connect, and wait until the broker has accepted that.

        Raises
        ------
        SinkDownError
        """
        digest = hashlib.sha256(site.encode()).hexdigest()[
            :16
        ]  # with 7 letters, 23 characters: MQTT 3.1.1, 3.1.3.1
        client = Client(CallbackAPIVersion.VERSION2, client_id=broker.client_id or f"nearfar{digest}")
        client.will_set(will, b"offline", qos=1, retain=True)
        client.connect_timeout = broker.timeout
        if broker.user:
            client.username_pw_set(broker.user, broker.password)
        if broker.context is not None:
            client.tls_set_context(broker.context)
        connection = cls(broker, client)
        client.on_connect = connection._answered
        client.on_message = connection._heard
        try:
            client.connect(broker.host, broker.port, broker.keepalive)
        except (OSError, ssl.CertificateError) as error:
            connection.drop()
            raise SinkDownError(f"{broker}: {error}") from error
        try:
            connection._selector.register(connection._socket, selectors.EVENT_READ)
            connection._accepted()
        except SinkDownError:
            connection.drop()
            raise
        return connection

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send; ``settle`` waits until it is acknowledged."""
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        self._check(info.rc)
        self.waiting.append(info)

    def subscribe(self, topic: str) -> None:
        """Ask for what is published there from now on; what is retained there counts, too."""
        self._check(self.client.subscribe(topic, qos=1)[0])

    def settle(self) -> None:
        """Wait until all that was sent is acknowledged.

        Raises
        ------
        SinkDownError
            If it is not, within the time limit.
        """
        end = time.monotonic() + self.broker.timeout
        while self.waiting:
            self.turn(max(0.0, end - time.monotonic()))
            self.waiting = [info for info in self.waiting if not info.is_published()]
            if self.waiting and time.monotonic() >= end:
                raise SinkDownError(
                    f"{self.broker}: {len(self.waiting)} messages are not acknowledged within "
                    f"{self.broker.timeout:g} s"
                )

    def turn(self, wait_s: float) -> None:
        """Read and write what can be read and written, after waiting for it for so many seconds at most."""
        reads = selectors.EVENT_READ
        self._selector.modify(
            self._socket, reads | (selectors.EVENT_WRITE if self.client.want_write() else 0)
        )
        pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        ready = self._selector.select(0 if pending else wait_s)
        mask = ready[0][1] if ready else 0
        if pending or mask & reads:
            self._check(self.client.loop_read())
        if mask & selectors.EVENT_WRITE:
            self._check(self.client.loop_write())
        self._check(self.client.loop_misc())

    def take(self, topic: str) -> str | None:
        """What was said there last, once."""
        return self.said.pop(topic, None)

    def end(self) -> None:
        """End it as the protocol wants it, so that the last will is not said."""
        end = time.monotonic() + CLOSING_S
        while self.waiting and time.monotonic() < end:
            self.turn(max(0.0, end - time.monotonic()))
            self.waiting = [info for info in self.waiting if not info.is_published()]
        self.client.disconnect()
        while self.client.want_write() and time.monotonic() < end:
            self.turn(max(0.0, end - time.monotonic()))

    def drop(self) -> None:
        """Leave it as it is."""
        self._selector.close()
        socket = self.client.socket()
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.close()

    @property
    def _socket(self) -> Any:
        socket = self.client.socket()
        if socket is None:
            raise SinkDownError(f"{self.broker}: the connection is lost")
        return socket

    def _accepted(self) -> None:
        end = time.monotonic() + self.broker.timeout
        while self.answer is None:
            if time.monotonic() >= end:
                raise SinkDownError(f"{self.broker}: it does not answer within {self.broker.timeout:g} s")
            self.turn(max(0.0, end - time.monotonic()))
        self._refuse()

    def _refuse(self) -> None:
        if self.answer is not None and self.answer.is_failure:
            raise SinkDownError(f"{self.broker}: it refuses the connection: {str(self.answer).lower()}")

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._refuse()  # the better reason, if there is one
            raise SinkDownError(f"{self.broker}: {error_string(code)}")

    def _answered(
        self,
        _client: Client,
        _data: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.answer = reason

    def _heard(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.said[message.topic] = message.payload[:64].decode("utf-8", "replace")


def _check_options(
    host: str, prefix: str, discovery: str, *, every: float, timeout: float, keepalive: int
) -> None:
    if not host or "/" in host:
        raise ValueError(f"host={host!r}: must be the name or the address of a computer, such as 'localhost'")
    for name, topic in (("prefix", prefix), ("home_assistant", discovery)):
        if any(character in "+#\0$" for character in topic) or topic.startswith("/") or topic.endswith("/"):
            raise ValueError(f"{name}={topic!r}: no +, #, $ in it, and no / around it")
    if not prefix:
        raise ValueError("prefix: topics must begin with something")
    if not every >= 0 or not timeout > 0 or keepalive < 1:
        raise ValueError(
            f"every={every}, timeout={timeout}, keepalive={keepalive}: must be at least 0, more than 0, at least 1"
        )


def _password(path: Path) -> str:
    password = path.read_text(encoding="utf-8").rstrip("\r\n")
    if not password:
        raise ValueError(f"{path}: it is empty; it must hold the password")
    return password


def _context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    elif key_file is not None:
        raise ValueError("key_file: a key needs its certificate, cert_file")
    return context
