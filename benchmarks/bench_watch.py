"""How many machines one core can watch, in how much memory, and how soon an alert is told.

    python benchmarks/bench_watch.py [capacity | latency] [MACHINES]

*Capacity*: so many machines are played from clips of 10 s (two channels, 16 kHz), as fast as they are heard, and
scored by `spectral`, one window at a time; the logbook is on the disk. The time of the processor is all of it:
reading, scoring, writing, events with their sounds. Clips of 10 s, divided by it, are the machines that a core can
watch. What a start takes for each machine, most of it to load its detector, is told apart: it is what machines with
one clip take beyond their windows.

*Memory*: what the process has at its highest beyond what it has with one machine, for each further machine.

*Latency*: machines are sent to TCP ports on 127.0.0.1 as fast as they would be recorded, each by its own clock, in
blocks of 20 ms. Windows of 2 s are shorter than the clips of the fit, so that it does not take minutes: what comes
after a window is the same. When a machine has sounded faulty for long enough, there is an alert. It is the time from
the moment at which the block was sent that ends the window, until the alert can be read in SQLite by another process,
and until a webhook on 127.0.0.1 has it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sql

from nearfar import Detector
from nearfar.files.steps import Jobs
from nearfar.logbook import schema
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.simulation import simulate
from nearfar.watching import site
from nearfar.watching.engine import Watch

MACHINES, CLIPS, WINDOW, RATE = 100, 20, 10.0, 16_000
LIVE, SHORT = 24, 2.0  # machines, and seconds of a window, of which the latency is measured
FALSE_ALERTS = "1 per 1 h"
QUIET_S, BLOCK_S = 8.0, 0.02
PATIENCE_S = 90.0  # until all have had an alert
LOOK_S = 0.002  # between two looks into the logbook


def prepare(folder: Path) -> None:
    """A detector of a simulated pump, and clips."""
    simulate(
        folder / "hall",
        machines=["pump"],
        source_clips=60,
        target_clips=4,
        test_clips=10,
        seconds=WINDOW,
        seed=3,
    )
    Detector.fit(folder / "hall" / "pump", "spectral", jobs=Jobs(folder / "cache")).save(folder / "detector")


def watching(path: Path) -> subprocess.Popen[str]:
    """A process that watches a site."""
    return subprocess.Popen(
        [sys.executable, __file__, "--watch", str(path)], stdout=subprocess.PIPE, text=True
    )


def watch(path: str) -> None:
    """Watch a site to its end, and say what it took."""
    found, before = site.load(path), resource.getrusage(resource.RUSAGE_SELF)
    Watch(found).run(threading.Event())
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "rss": after.ru_maxrss / 1024}))


# capacity


def replayed(folder: Path, machines: int, count: int) -> tuple[float, float]:
    """Seconds of the processor, and the highest memory in MB, of machines that are played so many clips each."""
    clips = sorted((folder / "hall" / "pump" / "train").glob("*.wav"))[:count]
    place = folder / f"{machines}-of-{count}"
    lines = ['state = "logbook.db"', "[defaults]", f'detector = "{folder / "detector"}"']
    for number in range(machines):
        recordings = place / "recordings" / f"{number}"
        recordings.mkdir(parents=True)
        for clip in clips:
            os.link(clip, recordings / clip.name)
        source = f'{{ kind = "replay", folder = "{recordings}", speed = "max" }}'
        lines += [f"[machines.{number}]", f"source = {source}"]
    (place / "site.toml").write_text("\n".join(lines))
    output, _ = watching(place / "site.toml").communicate()
    told = json.loads(output.splitlines()[-1])
    return told["cpu"], told["rss"]


def capacity(folder: Path, machines: int) -> None:
    _, alone = replayed(folder, 1, 1)
    short, _ = replayed(folder, machines, 1)
    cpu, rss = replayed(folder, machines, CLIPS)
    window = (cpu - short) / (machines * (CLIPS - 1))
    print(
        f"{machines} machines, {machines * CLIPS} windows, load {os.getloadavg()[0]:.1f}: {1000 * window:.1f} ms of "
        f"the processor for a window, so {WINDOW / window:.0f} machines a core; to start, "
        f"{1000 * (short / machines - window):.0f} ms for each; {(rss - alone) / (machines - 1):.1f} MB for each",
        flush=True,
    )


# latency


class Hook:
    """A webhook, and when it was told of alerts of which machine; without Nagle's algorithm."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body["what"] == "activated":
                    hook.told.setdefault(body["machine"], time.time())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@dataclass
class Sender:
    """One machine's sound, sent as fast as it would be recorded, until there is an alert."""

    port: int
    blocks: list[bytes]  # of normal clips, then faulty ones again and again
    normal: int
    sent_at: list[float] = field(default_factory=list)  # of each block
    begins: float = 0.0

    def send_next(self, connection: socket.socket) -> None:
        number = len(self.sent_at)
        faulty = len(self.blocks) - self.normal
        block = self.blocks[number if number < self.normal else self.normal + (number - self.normal) % faulty]
        connection.sendall(block)
        self.sent_at.append(time.time())

    def sent_until(self, seconds: float) -> float:
        """When the sample was sent that ends so many seconds."""
        return self.sent_at[round(seconds / BLOCK_S) - 1]


def blocks_of(clips: Sequence[Path]) -> list[bytes]:
    samples = np.concatenate([audio.read(clip)[0].T for clip in clips])
    pcm = np.rint(samples * 32768).clip(-32768, 32767).astype("<i2")
    size = round(BLOCK_S * RATE)
    return [pcm[start : start + size].tobytes() for start in range(0, len(pcm) - size + 1, size)]


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def connected(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return found


def send_all(senders: Sequence[Sender], connections: Sequence[socket.socket], stop: threading.Event) -> None:
    """One thread sends for all, each when its next block is due."""
    now, rng = time.monotonic(), random.Random(0)
    for sender in senders:
        sender.begins = now + rng.uniform(0, SHORT)
    while not stop.is_set():
        now = time.monotonic()
        for sender, connection in zip(senders, connections, strict=True):
            while sender.begins + (len(sender.sent_at) + 1) * BLOCK_S <= now:
                sender.send_next(connection)
        stop.wait(BLOCK_S / 4)


def written_alerts(database: Database, known: dict[str, tuple[float, float]]) -> None:
    """Alerts that are in the logbook: the second of the recording at which each began, and when it was seen."""
    machines, alerts, recordings = schema.machines, schema.alerts, schema.recordings
    query = (
        sql.select(machines.c.name, alerts.c.began_at - recordings.c.began_at)
        .join_from(machines, alerts)
        .join(recordings, recordings.c.machine_id == machines.c.id)
        .where(alerts.c.condition == "anomaly")
    )
    with database.reading() as c:
        rows = c.execute(query).all()
    now = time.time()
    for name, seconds in rows:
        known.setdefault(name, (seconds, now))


def latency(folder: Path, machines: int) -> None:
    hook, place, test = Hook(), folder / "live", folder / "hall" / "pump" / "test"
    place.mkdir()
    normal, faulty = (blocks_of(sorted(test.glob(f"*_{label}_*"))) for label in ("normal", "anomaly"))
    quiet = round(QUIET_S / BLOCK_S)
    senders = [Sender(port, normal[:quiet] + faulty, quiet) for port in free_ports(machines)]
    lines = [
        'state = "logbook.db"', "[defaults]", f'detector = "{folder / "detector"}"',
        f'false_alerts = "{FALSE_ALERTS}"', f"window = {SHORT}", f"hop = {SHORT}",
        "[sinks.hook]", 'kind = "webhook"', f'url = "http://127.0.0.1:{hook.server.server_port}/"',
    ]  # fmt: skip
    for number, sender in enumerate(senders):
        source = f'{{ kind = "tcp", port = {sender.port}, rate = {RATE}, channels = 2, live = false }}'
        lines += [f"[machines.{number}]", f"source = {source}"]
    (place / "site.toml").write_text("\n".join(lines))
    process, stop, seen = watching(place / "site.toml"), threading.Event(), dict[str, tuple[float, float]]()
    try:
        connections = [connected(sender.port) for sender in senders]
        database = Database.open(place / "logbook.db", make=False)
        thread = threading.Thread(target=send_all, args=(senders, connections, stop))
        thread.start()
        follow(database, seen, hook, machines)
        stop.set()
        thread.join()
        database.close()
    finally:
        process.kill()
        process.wait()
    sent = {name: senders[int(name)].sent_until(seconds) for name, (seconds, _) in seen.items()}
    print(
        f"{len(seen)} alerts of {machines} machines, windows of {SHORT:g} s, load {os.getloadavg()[0]:.1f}; from "
        f"the last sample to SQLite: {told([at - sent[name] for name, (_, at) in seen.items()])}; to the webhook: "
        f"{told([at - sent[name] for name, at in hook.told.items() if name in sent])}"
    )


def follow(database: Database, seen: dict[str, tuple[float, float]], hook: Hook, machines: int) -> None:
    """Look into the logbook whenever it changes, until all machines have had an alert, or for a while."""
    moment, deadline = "", time.monotonic() + PATIENCE_S
    while min(len(seen), len(hook.told)) < machines and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        if (now := database.changed()) != moment:
            moment = now
            written_alerts(database, seen)


def told(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "too few"
    most = statistics.quantiles(seconds, n=20)[-1]
    return f"median {1000 * statistics.median(seconds):.0f} ms, p95 {1000 * most:.0f} ms ({len(seconds)})"


def main(what: Sequence[str], machines: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        if "capacity" in what:
            capacity(Path(name), machines or MACHINES)
        if "latency" in what:
            latency(Path(name), machines or LIVE)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2])
    else:
        numbers = [int(one) for one in sys.argv[1:] if one.isdecimal()]
        names = [one for one in sys.argv[1:] if not one.isdecimal()]
        main(names or ["capacity", "latency"], *(numbers or [None]))
