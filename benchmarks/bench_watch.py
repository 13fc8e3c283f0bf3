"""How many machines one core can watch, in how much memory, and how soon an alert is told.

    python benchmarks/bench_watch.py [MACHINES]

*Capacity*: so many machines are played from clips of 10 s (two channels, 16 kHz), as fast as they are heard, and
scored by `spectral`, one window at a time. The time of the processor is all of it: reading, scoring, writing,
events with their sounds. Clips of 10 s, one after the other, divided by it, are the machines that a core can watch.

*Memory*: what the process has at its highest beyond what it has with one machine, for each further machine.

*Latency*: windows of 10 s are sent to a TCP port, one after the other. It is the time from the moment at which the
last samples of the window are sent that gives an alert, until the alert can be read in SQLite, and until a webhook
on 127.0.0.1 has it.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from nearfar import Detector
from nearfar.files.steps import Jobs
from nearfar.logbook import asked
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.simulation import simulate
from nearfar.watching import site
from nearfar.watching.engine import Watch

MACHINES, CLIPS, WINDOW, RATE = 100, 20, 10.0, 16_000
ALERTS = 10  # of which the latency is measured
FALSE_ALERTS = "1 per 30 days"
QUIET, MOST_FAULTY = 45, 60  # windows between two alerts, and until there is one
LAST, PATIENCE = 400, 60.0  # bytes that are sent last; seconds


def prepare(folder: Path) -> None:
    """A detector of a simulated pump, and clips."""
    simulate(
        folder / "hall",
        machines=["pump"],
        source_clips=100,
        target_clips=10,
        test_clips=20,
        seconds=WINDOW,
        seed=3,
    )
    Detector.fit(folder / "hall" / "pump", "spectral", jobs=Jobs(folder / "cache")).save(folder / "detector")


def replayed(folder: Path, machines: int) -> tuple[float, float]:
    """Seconds of the processor for a window, and the highest memory in MB, of a process of its own."""
    clips = sorted((folder / "hall" / "pump" / "train").glob("*.wav"))[:CLIPS]
    place = folder / f"of-{machines}"
    lines = ['state = "logbook.db"', "[defaults]", f'detector = "{folder / "detector"}"']
    for number in range(machines):
        recordings = place / "recordings" / f"{number}"
        recordings.mkdir(parents=True)
        for clip in clips:
            os.link(clip, recordings / clip.name)
        lines += [
            f"[machines.{number}]",
            f'source = {{ kind = "replay", folder = "{recordings}", speed = "max" }}',
        ]
    (place / "site.toml").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, __file__, "--watch", str(place / "site.toml")],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["cpu"] / (machines * len(clips)), told["rss"]


def watch(path: str) -> None:
    """Watch a site to its end, and say what it took."""
    found, before = site.load(path), resource.getrusage(resource.RUSAGE_SELF)
    Watch(found).run(threading.Event())
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "rss": after.ru_maxrss / 1024}))


class Hook:
    """A webhook, and when it was told of alerts."""

    def __init__(self) -> None:
        self.told: list[float] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body["what"] == "activated":
                    hook.told.append(time.time())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def latencies(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds from the last sample of a window to the alert in SQLite, and at a webhook."""
    hook, place = Hook(), folder / "live"
    place.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = f'{{ kind = "tcp", port = {port}, rate = {RATE}, channels = 2, live = false }}'
    lines = [
        'state = "logbook.db"', "[machines.pump]", f'detector = "{folder / "detector"}"', f"source = {source}",
        f'false_alerts = "{FALSE_ALERTS}"', "[sinks.hook]", 'kind = "webhook"',
        f'url = "http://127.0.0.1:{hook.server.server_port}/"',
    ]  # fmt: skip
    (place / "site.toml").write_text("\n".join(lines))
    stop = threading.Event()
    thread = threading.Thread(target=Watch(site.load(place / "site.toml")).run, args=(stop,))
    thread.start()
    database = Database.open(place / "logbook.db")
    try:
        with connected(port) as sender:
            written = [one_alert(folder, database, sender, seed) for seed in range(ALERTS)]
        deadline = time.monotonic() + PATIENCE
        while len(hook.told) < ALERTS and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
        database.close()
    sent = [one[0] for one in written]
    return [one[1] - one[0] for one in written], [b - a for a, b in zip(sent, hook.told, strict=True)]


def connected(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def one_alert(folder: Path, database: Database, sender: socket.socket, seed: int) -> tuple[float, float]:
    """Send normal windows, then faulty ones until there is an alert; when its last one was sent, and written."""
    rng, test = np.random.default_rng(seed), folder / "hall" / "pump" / "test"
    clips = {
        label: [pcm(path) for path in sorted(test.glob(f"*_{label}_*"))] for label in ("normal", "anomaly")
    }
    for _ in range(QUIET):
        send(database, sender, clips["normal"][rng.integers(len(clips["normal"]))])
    before = count(database, "activated")
    for _ in range(MOST_FAULTY):
        sent, written = send(database, sender, clips["anomaly"][rng.integers(len(clips["anomaly"]))])
        if count(database, "activated") > before:
            return sent, written
    sys.exit("the faulty clips gave no alert")


def pcm(path: Path) -> bytes:
    return np.rint(audio.read(path)[0].T * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def send(database: Database, sender: socket.socket, window: bytes) -> tuple[float, float]:
    """Send a window, its last samples apart; when these were sent, and when the window was in the logbook."""
    with database.reading() as c:
        before = asked.latest(c)[1]
    sender.sendall(window[:-LAST])
    time.sleep(0.02)
    sent = time.time()
    sender.sendall(window[-LAST:])
    deadline = time.monotonic() + PATIENCE
    token = database.changed()
    while time.monotonic() < deadline:
        with database.reading() as c:
            if asked.latest(c)[1] > before:
                return sent, time.time()
        while database.changed() == token and time.monotonic() < deadline:
            time.sleep(0.001)
        token = database.changed()
    sys.exit("a window was not heard")


def count(database: Database, what: str) -> int:
    with database.reading() as c:
        return sum(row["what"] == what for row in asked.journal(c, after=0, most=1000))


def told(seconds: Sequence[float]) -> str:
    return f"median {1000 * statistics.median(seconds):.0f} ms, at most {1000 * max(seconds):.0f} ms"


def main(machines: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        _, alone = replayed(folder, 1)
        cpu, rss = replayed(folder, machines)
        print(
            f"{machines} machines, {machines * CLIPS} windows: {1000 * cpu:.1f} ms of the processor for a window, "
            f"so {WINDOW / cpu:.0f} machines a core; {(rss - alone) / (machines - 1):.1f} MB for each machine"
        )
        sqlite, hook = latencies(folder)
        print(
            f"{ALERTS} alerts, from the last sample to SQLite: {told(sqlite)}; to the webhook: {told(hook)}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else MACHINES)
