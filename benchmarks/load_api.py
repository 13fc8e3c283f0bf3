"""Fifty clients read the API while watching goes on.

    python benchmarks/load_api.py [SECONDS [CLIENTS [PAUSE]]]

Three processes: one serves, one writes what a watcher of 400 machines writes (`serving_hall.py`), this one asks.
Each client asks for what the page asks for, one request after the other over one connection: the machines, one of
them, its scores, its events, the alerts, one of them, the journal, the hall as a page. It waits PAUSE seconds
between two (default 0.2). Two clients follow what changes, meanwhile. Errors are answers other than 200, and
connections that fail.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import serving_hall

SECONDS, CLIENTS, PAUSE, FOLLOWERS = 60.0, 50, 0.2, 2
PATHS = {
    "machines": "/api/machines",
    "machine": "/api/machines/machine%20{m:03}",
    "scores of an hour": "/api/machines/machine%20{m:03}/scores?begin={hour}&points=500",
    "scores of a day": "/api/machines/machine%20{long:03}/scores?points=500",
    "events": "/api/machines/machine%20{m:03}/events",
    "alerts": "/api/alerts",
    "alert": "/api/alerts/{a}",
    "journal": "/api/journal?after=10&most=100",
    "hall, as a page": "/",
}


class Client:
    """One connection that is kept."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.port = parts.hostname, parts.port
        self.reader: asyncio.StreamReader | None = None

    async def get(self, path: str) -> int:
        """The status; the body is read."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=2**24)
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        await self.reader.readexactly(length)
        return int(lines[0].split()[1])


async def reads(address: str, seconds: float, clients: int, pause: float) -> tuple[dict, list[str], int]:
    """Times in seconds by what was asked, errors, and how many events followers got."""
    times: dict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        rng, own = random.Random(number), Client(address)
        await asyncio.sleep(rng.random() * pause)
        while time.perf_counter() < end:
            what = rng.choice(list(PATHS))
            path = PATHS[what].format(
                m=rng.randrange(serving_hall.MACHINES), long=rng.randrange(serving_hall.LONG),
                a=rng.randrange(1, 50), hour=round(time.time() - 3600),
            )  # fmt: skip
            begun = time.perf_counter()
            try:
                status = await own.get(path)
            except (OSError, asyncio.IncompleteReadError) as error:
                errors.append(f"{path}: {error!r}")
                own.reader = None
                continue
            times[what].append(time.perf_counter() - begun)
            if status != 200:
                errors.append(f"{path}: {status}")
            await asyncio.sleep(pause * (0.5 + rng.random()))

    async def follower() -> int:
        parts, events = urlsplit(address), 0
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
        writer.write(f"GET /api/changes HTTP/1.1\r\nHost: {parts.hostname}\r\n\r\n".encode())
        try:
            async with asyncio.timeout(seconds):
                while line := await reader.readline():
                    events += line.startswith(b"event: ")
        except TimeoutError:
            pass
        writer.close()
        return events

    *_, heard = await asyncio.gather(
        *(client(i) for i in range(clients)), asyncio.gather(*(follower() for _ in range(FOLLOWERS)))
    )
    return times, errors, min(heard)


def main() -> None:
    given = [float(text) for text in sys.argv[1:]]
    seconds, clients, pause = (*given, *(SECONDS, CLIENTS, PAUSE)[len(given) :])
    with tempfile.TemporaryDirectory(prefix="nearfar-load-") as folder:
        serving_hall.make(Path(folder))
        with (
            serving_hall.process("watch", Path(folder)) as (_, watcher),
            serving_hall.process("serve", Path(folder)) as (address, server),
        ):
            asyncio.run(reads(address, 2.0, 5, 0.1))  # what is loaded when it is first needed
            before = _processor_seconds(server.pid)
            times, errors, heard = asyncio.run(reads(address, seconds, int(clients), pause))
            used = _processor_seconds(server.pid) - before
            watcher.terminate()
            assert watcher.stdout is not None
            written = json.loads(watcher.stdout.readline())
    _say(times, errors, seconds, used)
    print(f"followers heard at least {heard} events; the watcher: {written}")
    sys.exit(bool(errors))


def _say(times: dict, errors: list[str], seconds: float, used: float) -> None:
    every = np.concatenate(list(times.values()))
    print(f"{'asked for':20} {'requests':>8} {'p50 ms':>8} {'p99 ms':>8} {'longest':>8}")
    for what, each in [*times.items(), ("all", every)]:
        p50, p99 = 1000 * np.percentile(each, [50, 99])
        print(f"{what:20} {len(each):8} {p50:8.1f} {p99:8.1f} {1000 * max(each):8.1f}")
    print(f"{len(every) / seconds:.0f} requests/s; {len(errors)} errors {errors[:3]}; "
          f"the serving process used {100 * used / seconds:.0f} % of a core")  # fmt: skip


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
