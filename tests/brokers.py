"""Real brokers, and whoever listens to them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from told import soon

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """A mosquitto on this computer that can be stopped and started; it keeps what is retained."""

    def __init__(self, folder: Path, *more: str) -> None:
        if MOSQUITTO is None:
            pytest.skip("needs the broker mosquitto (Debian: apt install mosquitto)")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._log = folder / "mosquitto.log"
        self._configuration = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            *(more or ("allow_anonymous true",)),
            "persistence true",
            f"persistence_location {folder}/",
            "user root",
        ]
        self._configuration.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [str(MOSQUITTO), "-c", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        soon(self._listens, self._log.read_text(errors="replace"))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _listens(self) -> bool:
        assert self.process.poll() is None, self._log.read_text(errors="replace")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False


@contextmanager
def broker(folder: Path, *more: str) -> Iterator[Broker]:
    """A broker that runs. ``more`` are lines of its configuration."""
    made = Broker(folder, *more)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Subscriber:
    """Hears everything, with a client of its own, in a thread of its own; it comes back when a broker does."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard: list[tuple[str, bytes, bool, int]] = []  # topic, payload, retained, QoS
        self.is_on = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_rest: client.subscribe("#", qos=1)
        self.client.on_disconnect = lambda *_rest: self.is_on.clear()
        self.client.on_subscribe = lambda *_rest: self.is_on.set()
        self.client.on_message = self._hear
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.is_on.wait(30)

    def _hear(self, _client: object, _data: object, message: Any) -> None:
        self.heard.append((message.topic, message.payload, bool(message.retain), message.qos))

    def of(self, topic: str) -> list[bytes]:
        """All payloads of a topic, in order."""
        return [payload for where, payload, _, _ in list(self.heard) if where == topic]

    def last(self, topic: str) -> Any:
        """The last payload of a topic as JSON; None if there is none."""
        found = self.of(topic)
        return json.loads(found[-1]) if found and found[-1] else None

    def publish(self, topic: str, payload: str) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(30)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def subscriber(port: int) -> Iterator[Subscriber]:
    made = Subscriber(port)
    try:
        yield made
    finally:
        made.close()


def retained(port: int) -> dict[str, bytes]:
    """What a broker keeps, as one who comes now is told it."""
    with subscriber(port) as new:
        new.publish("marker", "end")
        soon(lambda: new.of("marker"))
        return {topic: payload for topic, payload, is_retained, _ in new.heard if is_retained}
