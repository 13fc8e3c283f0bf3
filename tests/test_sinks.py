"""What every sink keeps to: all of ``SINKS``, made of the options of ``EXAMPLES``."""

from __future__ import annotations

import inspect
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import told
from told import Site, soon

from nearfar.files import extras
from nearfar.files.extras import MissingPackageError
from nearfar.systems.options import options_model, validate_options
from nearfar.watching.deliveries import Backoff, Deliveries
from nearfar.watching.sinks import SINKS

# Of each sink, options that it works with, or that lead to where nobody is. Paths are in an empty folder.
EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "jsonl": lambda folder: {"path": folder / "told.jsonl"},
    "webhook": lambda _: {"url": f"http://127.0.0.1:{free_port()}/hook", "timeout": 1.0},
    "mqtt": lambda _: {"host": "127.0.0.1", "port": free_port(), "timeout": 1.0},
    "prometheus": lambda _: {"listen": "127.0.0.1:0"},
}
NEEDS = {"mqtt": "paho", "prometheus": "prometheus_client"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def sink_class(kind: str) -> Any:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    return extras.resolve(SINKS[kind], needed_by=f"sink {kind!r}")


@pytest.mark.parametrize("kind", SINKS)
def test_its_options_are_its_signature_and_each_is_described(kind: str, tmp_path: Path) -> None:
    owner = sink_class(kind)
    options = options_model(owner).model_fields
    parameters = {name for name in inspect.signature(owner.__init__).parameters if name != "self"}
    assert options.keys() == parameters
    for name in options:
        assert re.search(
            rf"^    (\w+, )*{name}(, \w+)* : ", inspect.getdoc(owner).replace("\n", "\n    "), re.MULTILINE
        )
    with pytest.raises(ValueError, match="pth"):
        validate_options(f"sinks.{kind}", {**EXAMPLES[kind](tmp_path), "pth": 1}, owner)


@pytest.mark.parametrize("kind", SINKS)
def test_making_it_touches_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, options = sink_class(kind), EXAMPLES[kind](tmp_path)

    def refused(*_arguments: object) -> None:
        raise AssertionError("a constructor must not connect")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "bind", refused)
    sink = owner(**options)
    assert set(sink.streams) <= {"journal", "windows"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", SINKS)
def test_it_is_told_or_known_to_be_down_and_ends_in_time(kind: str, tmp_path: Path) -> None:
    sink = sink_class(kind)(**EXAMPLES[kind](tmp_path))
    with told.logbook(tmp_path) as logbook:
        deliveries = Deliveries(Site.of(sink=sink), logbook.database, backoff=Backoff(0.01, 0.05))
        deliveries.start()
        alert = logbook.activate()
        logbook.comment(alert, "Größe")
        logbook.clear()
        logbook.hear(3)
        deliveries.wake()
        stream = sink.streams[0]
        soon(
            lambda: (
                logbook.standing("sink", stream)["behind"] == 0 or logbook.standing("sink", stream)["error"]
            )
        )
        before = time.monotonic()
        deliveries.stop(timeout_s=told.PATIENCE_S)
        assert time.monotonic() - before < told.PATIENCE_S / 2
        assert not any(courier.thread.is_alive() for courier in deliveries._couriers)


@pytest.mark.parametrize("kind", NEEDS)
def test_a_missing_package_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SINKS[kind].partition(":")[0]
    for name in [name for name in sys.modules if name == module or name.partition(".")[0] == NEEDS[kind]]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        """A finder of a Python where the package is not installed."""

        def find_spec(self, name: str, *_rest: object) -> None:
            if name.partition(".")[0] == NEEDS[kind]:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(
        MissingPackageError, match=rf"sink '{kind}' needs {NEEDS[kind]}, .* 'nearfar\[{kind}\]'"
    ):
        extras.resolve(SINKS[kind], needed_by=f"sink {kind!r}")
