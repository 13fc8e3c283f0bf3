"""Metrics: what an independent parser of the format reads is what the logbook says."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import told
from told import Site, soon

pytest.importorskip("prometheus_client", reason="needs prometheus-client")

from prometheus_client.parser import text_string_to_metric_families

from nearfar.logbook import heard
from nearfar.watching.deliveries import Deliveries, LogbookState
from nearfar.watching.sinks import SinkDownError
from nearfar.watching.sinks.prometheus import CONTENT_TYPE, Prometheus, render

NASTY = 'pump "7"\\n\n{x="y"} 1'  # a name that would end a label, if it were not escaped


@pytest.fixture
def logbook(tmp_path: Path) -> Iterator[told.Logbook]:
    with told.logbook(tmp_path, "pump-1", NASTY) as made:
        yield made


def read(text: str) -> dict[tuple[str, ...], float]:
    """Name and labels of each sample, and its value."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def test_the_state_of_machines_and_alerts(logbook: told.Logbook) -> None:
    logbook.hear(2, score=0.75)
    logbook.activate()
    logbook.activate(NASTY, "microphones")
    logbook.clear(NASTY, "microphones")
    found = read(render(LogbookState("Hall 3", logbook.database)).decode())
    assert found["nearfar_machine_score", "machine=pump-1"] == 0.75
    assert found["nearfar_machine_threshold", "machine=pump-1"] == 1.5
    assert found["nearfar_machine_evidence", "machine=pump-1"] == 0.1
    assert found["nearfar_machine_running", "machine=pump-1"] == 1
    assert found["nearfar_machine_heard_until_timestamp_seconds", "machine=pump-1"] == told.BEGAN + 20
    assert ("nearfar_machine_score", f"machine={NASTY}") not in found  # there is none yet
    assert found["nearfar_machine_mode", f"machine={NASTY}", "mode=listening"] == 1
    assert found["nearfar_machine_mode", f"machine={NASTY}", "mode=paused"] == 0
    assert found["nearfar_alerts_active", "condition=anomaly", "machine=pump-1"] == 1
    assert found["nearfar_alerts_active", "condition=microphones", f"machine={NASTY}"] == 0
    assert found["nearfar_alerts_unacknowledged", "condition=microphones", f"machine={NASTY}"] == 1
    (info,) = [key for key in found if key[0] == "nearfar_info"]
    assert "site=Hall 3" in info
    assert not [key for key in found if key[0] == "nearfar_windows_total"]  # is counted by the sink alone


def test_a_machine_that_was_removed_has_no_metrics(logbook: told.Logbook) -> None:
    with logbook.database.writing() as c:
        heard.remove_others(c, ["pump-1"], now=told.BEGAN)
    found = read(render(LogbookState("Hall 3", logbook.database)).decode())
    assert {part for key in found for part in key if part.startswith("machine=")} == {"machine=pump-1"}


def test_the_sink_offers_them_and_counts(logbook: told.Logbook) -> None:
    sink = Prometheus(listen="127.0.0.1:0")

    def down(_message: object) -> None:
        raise SinkDownError("away")

    deliveries = Deliveries(Site.of(metrics=sink, away=told.Listener(before=down)), logbook.database)
    deliveries.start()
    logbook.hear(5)
    logbook.activate()
    deliveries.wake()
    soon(lambda: logbook.standing("away")["attempts"])
    soon(lambda: logbook.standing("metrics", "windows")["behind"] == 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=30) as answer:
        found = read(answer.read().decode())
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert found["nearfar_windows_total", "decision=normal", "machine=pump-1"] == 5
    assert found["nearfar_alerts_total", "condition=anomaly", "machine=pump-1"] == 1
    assert found["nearfar_sink_backlog", "sink=away", "stream=journal"] == 1
    assert found["nearfar_sink_failing", "sink=away", "stream=journal"] == 1
    assert found["nearfar_sink_failing", "sink=metrics", "stream=journal"] == 0
    assert found["nearfar_sink_dropped_total", "sink=away", "stream=journal"] == 0
    port = sink.port
    deliveries.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_port_that_is_taken_is_down(logbook: told.Logbook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sink = Prometheus(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(SinkDownError, match="Address already in use"):
            sink.open(LogbookState("Hall 3", logbook.database))
        sink.close()


@pytest.mark.parametrize(
    "listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "[::1]"]
)
def test_addresses_that_are_none(listen: str) -> None:
    with pytest.raises(ValueError, match=r"must be HOST:PORT, such as '127\.0\.0\.1:9464'"):
        Prometheus(listen=listen)


def test_the_type_of_the_content_is_that_of_the_text_format() -> None:
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

    assert CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4
