"""Metrics for Prometheus, in its text format: how machines, alerts and sinks are, now.

``render`` makes them of a site's state, for whoever has an HTTP server (``serving``: ``GET /metrics``). The sink
``Prometheus`` has one of its own, and counts, too: what came in through its cursor since the process began.

Names and units follow https://prometheus.io/docs/practices/naming/. Times are time stamps, so that a query says how
old they are: ``time() - nearfar_machine_heard_until_timestamp_seconds``. Labels have few values: machines of the
site, conditions, decisions, modes, sinks.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from nearfar import __version__
from nearfar.logbook.life_cycle import CONDITIONS
from nearfar.logbook.schema import MODES
from nearfar.watching.sinks import Message, SinkDownError, SiteState, Stream

LISTEN = "127.0.0.1:9464"  # of exporters of OpenTelemetry, in the list of Prometheus' default ports
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LONGEST_LABEL = 200  # characters of a value
DECISIONS = {
    "normal": "normal",
    "anomaly": "anomaly",
    "unusable": "unusable",
    "paused": "paused",
    "": "undecided",
}
OTHER = "other"  # in place of a decision or condition that is none of these

_MACHINE_GAUGES = (  # name, what it says, column
    ("score", "Anomaly score of the last window that has one.", "score"),
    ("threshold", "Scores above it are anomalies.", "threshold"),
    ("evidence", "Evidence of the rule for alerts, 0 to 1; at 1 an alert is raised.", "evidence"),
    ("running", "1 if the machine seems to run, 0 if not.", "running"),
    ("heard_until_timestamp_seconds", "End of the last window, in seconds since 1970.", "heard_until_at"),
    ("mode_since_timestamp_seconds", "Since when the mode holds, in seconds since 1970.", "mode_since_at"),
)  # fmt: skip


class Prometheus:
    """Offer metrics by HTTP, at ``/metrics``.

    Parameters
    ----------
    listen : str
        ``HOST:PORT``; port 0 lets the system choose. Whoever can reach it can read it: there is no token.

    Raises
    ------
    ValueError
        If it is no such address.
    """

    streams: tuple[Stream, ...] = ("journal", "windows")

    def __init__(self, *, listen: str = LISTEN) -> None:
        self._host, self._port = _address(listen)
        self._counts = Counts()
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """On which it listens, once it is open."""
        return self._server.server_port if self._server is not None else self._port

    def open(self, site: SiteState) -> None:
        """Listen."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(site, self._counts))
        try:
            self._server, self._thread = start_http_server(self._port, self._host, registry)
        except OSError as error:
            raise SinkDownError(f"{self._host}:{self._port}: {error.strerror or error}") from error

    def deliver(self, message: Message) -> None:
        """Count it."""
        self._counts.add(message)

    def idle(self) -> None:
        """Nothing is to be done: the server has threads of its own."""

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None


class Counts:
    """What was told since the process began. Counters of Prometheus may begin at 0 again with a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: Counter[tuple[str, str]] = Counter()
        self._events: Counter[str] = Counter()
        self._alerts: Counter[tuple[str, str]] = Counter()

    def add(self, message: Message) -> None:
        """Count a message."""
        machine = message.machine[:LONGEST_LABEL]
        with self._lock:
            if message.what == "window":
                self._windows[machine, DECISIONS.get(message.content["window"]["decision"], OTHER)] += 1
            elif message.what == "event":
                self._events[machine] += 1
            elif message.what == "activated":
                self._alerts[machine, _condition(message.content["condition"])] += 1

    def collect(self) -> Iterator[Metric]:
        """The counters."""
        with self._lock:
            windows, events, alerts = dict(self._windows), dict(self._events), dict(self._alerts)
        yield _counter("windows", "Windows that were heard.", ("machine", "decision"), windows)
        yield _counter(
            "events", "Events that have ended.", ("machine",), {(m,): n for m, n in events.items()}
        )
        yield _counter("alerts", "Alerts that became active.", ("machine", "condition"), alerts)


def render(state: SiteState) -> bytes:
    """The metrics of a site, as ``CONTENT_TYPE``.

    Parameters
    ----------
    state : SiteState
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(state))
    return generate_latest(registry)


class _Collected(Collector):
    """Asks for the state when it is asked."""

    def __init__(self, state: SiteState, counts: Counts | None = None) -> None:
        self._state = state
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "nearfar", "The watcher.", {"version": __version__, "site": _label(self._state.name)}
        )
        yield from _machines(self._state.machines())
        yield from _sinks(self._state.sinks())
        if self._counts is not None:
            yield from self._counts.collect()

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not ask for the state."""
        return []


def _machines(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    rows = [row for row in rows if row["mode"] != "removed"]
    for name, told, column in _MACHINE_GAUGES:
        gauge = GaugeMetricFamily(f"nearfar_machine_{name}", told, labels=("machine",))
        for row in rows:
            if row[column] is not None:
                gauge.add_metric((_label(row["name"]),), float(row[column]))
        yield gauge
    modes = GaugeMetricFamily(
        "nearfar_machine_mode", "1 for the mode of a machine.", labels=("machine", "mode")
    )
    for row in rows:
        for mode in MODES:
            modes.add_metric((_label(row["name"]), mode), float(row["mode"] == mode))
    yield modes
    for name, told, counts in (
        ("active", "1 if a condition is active.", lambda alert: alert["active"]),
        ("unacknowledged", "Alerts that nobody has acknowledged.", lambda alert: not alert["acked"]),
    ):
        gauge = GaugeMetricFamily(f"nearfar_alerts_{name}", told, labels=("machine", "condition"))
        for row in rows:
            for condition in CONDITIONS:
                found = [
                    alert for alert in row["alerts"] if alert["condition"] == condition and counts(alert)
                ]
                gauge.add_metric((_label(row["name"]), condition), float(len(found)))
        yield gauge


def _sinks(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ("sink", "stream")
    backlog = GaugeMetricFamily("nearfar_sink_backlog", "Messages that wait for a sink.", labels=labels)
    failing = GaugeMetricFamily("nearfar_sink_failing", "1 if a sink is down.", labels=labels)
    dropped = CounterMetricFamily("nearfar_sink_dropped", "Messages that a sink has missed.", labels=labels)
    refused = CounterMetricFamily(
        "nearfar_sink_refused", "Messages that a receiver has refused.", labels=labels
    )
    for row in rows:
        of = (_label(row["sink"]), row["stream"])
        backlog.add_metric(of, float(row["behind"]))
        failing.add_metric(of, float(row["failing_since_at"] is not None))
        dropped.add_metric(of, float(row["dropped"]))
        refused.add_metric(of, float(row["refused"]))
    yield from (backlog, failing, dropped, refused)


def _counter(name: str, told: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    counter = CounterMetricFamily(f"nearfar_{name}", told, labels=labels)
    for values, count in sorted(counts.items()):
        counter.add_metric(values, float(count))
    return counter


def _label(value: str) -> str:
    return value[:LONGEST_LABEL]


def _condition(value: str | None) -> str:
    return value if value in CONDITIONS else OTHER


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"listen={listen!r}: must be HOST:PORT, such as {LISTEN!r} or '[::1]:9464'")
    return host, int(port)
