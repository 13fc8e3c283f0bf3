"""Hostile requests: is any of them answered by an error of the server, and does watching go on?

    python benchmarks/hostile_requests.py [REQUESTS]

Three processes: one serves, one writes what a watcher writes (`serving_hall.py`), this one asks. Most requests are
made by schemathesis from the description of the service in OpenAPI: half of them are allowed by it, half are not.
The others are a list of its own: bodies that are too large, cut off or in chunks without end, lying and malformed
heads, paths that try to leave their folder, names of other hosts and pages, recordings that are none. Counted are
the answers by status; those from 500 on are listed, and end this with an error. In the end the service answers
as before, and the watcher has written windows all the time.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
import schemathesis
import serving_hall
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import HypothesisException
from schemathesis import GenerationMode

REQUESTS, OWN, MACHINES = 2000, 600, 5
PATIENCE = 3.0  # s for an answer, before a request is ended: whoever ends it first is not answered
HEADERS = {"X-Nearfar": "1"}
STREAM = "/api/changes"
PATHS = [
    "/static/../pages.py",
    "/static/..%2f..%2fapp.py",
    "/static/%2e%2e/app.py",
    "/static//etc/passwd",
    "//etc/passwd",
    "/..%00",
    "/%ff%fe",
    "/api/machines/..",
    "/api/machines/%2e%2e%2f%2e%2e",
    "/api/machines/%00",
    "/api/machines/%ed%a0%80",
    "/api/machines/" + "a" * 5000,
    "/api/machines/con",
    "/api/machines/machine%20000/../..",
    "/api/alerts/1;ls",
    "/api/alerts/-1",
    "/api/alerts/1e3",
    "/api/alerts/" + "9" * 400,
    "/api/alerts/\uff11",
    "/api/events/0x1",
    "/api/alerts/1%2e",
    "/api/journal?after=1&after=2",
    "/api/journal?after=",
    "/api/journal?most=1'--",
    "/api/machines/machine%20000/scores?begin=-1e308&end=1e308",
    "/api/machines/machine%20000/scores?begin=inf",
    "/api/machines/machine%20000/scores?points=" + "1" * 5000,
    "/?a[]=1&%",
    "/login?then=//evil.example",
    "/login?then=" + "%0d%0aSet-Cookie:x",
    "/alerts?before=99999999999999999999",
    "/machines/<script>",
    "/metrics?x=%",
]


def made_by_schemathesis(address: str, count: int) -> Iterator[tuple[str, int]]:
    """What was asked, and the status of the answer, of so many requests that were made from the description."""
    schema = schemathesis.openapi.from_url(f"{address}openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [each for each in operations if each.path != STREAM]  # it does not end
    ways = [
        (each, mode) for each in operations for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]
    session, told = requests.Session(), []
    for operation, mode in ways:
        examples = -(-count // len(ways))

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case) -> None:
            kinds = {"Content-Type": "application/json"} if "verdict" not in case.operation.path else {}
            try:
                answer = case.call(
                    base_url=address.rstrip("/"), session=session, headers={**HEADERS, **kinds}
                )
            except (requests.RequestException, ValueError) as error:  # not to be sent as HTTP
                told.append((f"{case.method} {case.path}: {type(error).__name__}", 0))
            else:
                told.append((f"{case.method} {case.path}", answer.status_code))

        try:
            ask()
        except HypothesisException as error:  # nothing that the description does not allow
            print(
                f"{operation.method} {operation.path}, {mode.value}: {type(error).__name__}", file=sys.stderr
            )
        yield from told
        told.clear()


def own(rng: random.Random, sound: bytes) -> bytes:
    """A request of our own list, as bytes."""
    kind = rng.randrange(6)
    if kind == 0:
        return _request(rng.choice(["GET", "POST", "HEAD", "PUT", "OPTIONS"]), rng.choice(PATHS))
    if kind == 1:
        return _lying_head(rng)
    if kind == 2:
        return _request("POST", "/api/machines/machine%20000/verdict", _damaged(rng, sound))
    if kind == 3:
        body = rng.choice(
            [
                b"{" * 60_000,
                b"[" * 60_000,
                b'{"by": "\\ud800"}',
                b"\xff\xfe",
                b'{"by": 1e999}',
                b"{}" * 40_000,
                b'{"by": "a", "comment": "' + b"\\u0000" * 1000 + b'"}',
                b"null",
                b"",
            ]
        )
        what = rng.choice(
            [
                "alerts/1/acknowledge",
                "alerts/1/comment",
                "machines/machine%20000/learn",
                "machines/machine%20000/conditions/anomaly/shelve",
            ]
        )
        return _request("POST", f"/api/{what}", body)
    if kind == 4:
        name, value = rng.choice(
            [
                ("Host", "evil.example"),
                ("Origin", "http://evil.example"),
                ("Cookie", "nearfar-session=\x7f"),
                ("Authorization", "Bearer \xff"),
                ("Range", "bytes=0-0," * 2000),
                ("Range", "bytes=9-1"),
                ("If-None-Match", "\xff" * 5000),
                ("Last-Event-ID", "9" * 300),
            ]
        )
        path = rng.choice(["/api/alerts/1/sound", "/api/machines", "/", "/static/style.css"])
        return _request("GET", path, more=[f"{name}: {value}"])
    return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))) + b"\r\n\r\n"


def _request(method: str, path: str, body: bytes | None = None, more: list[str] | None = None) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Connection: close",
        "X-Nearfar: 1",
        "Content-Type: application/json",
    ]
    if not any(line.startswith("Host") for line in more or []):
        lines.append("Host: localhost")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *(more or []), "", ""]).encode("latin-1", "replace") + (body or b"")


def _lying_head(rng: random.Random) -> bytes:
    lie = rng.choice(
        [
            "Content-Length: -5",
            "Content-Length: 99999999999",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: a",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: x",
            "Expect: 100-continue\r\nContent-Length: 60000000",
            "X" * 20_000 + ": 1",
            "A: 1\r\n" * 3000,
            " folded: 1",
            "No colon",
            "Upgrade: h2c\r\nConnection: Upgrade",
            "Upgrade: websocket\r\nConnection: Upgrade",
            "Content-Encoding: gzip\r\nContent-Length: 2",
        ]
    )
    path = rng.choice(["/api/alerts/1/comment", "/api/machines/machine%20000/verdict", "/login"])
    return _request("POST", path, more=[lie]) + rng.choice([b"{}", b"ffffffff\r\n", b"5\r\nab", b""])


def _damaged(rng: random.Random, sound: bytes) -> bytes:
    """A recording with bytes that are others, or missing."""
    found = bytearray(sound)
    for _ in range(rng.randrange(1, 20)):
        at = rng.randrange(min(len(found), rng.choice([48, len(found)])))
        found[at : at + 4] = struct.pack(
            "<I", rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)])
        )
    return bytes(found[: rng.choice([len(found), rng.randrange(len(found))])])


def answered(address: str, request: bytes) -> int:
    """The status of the answer; 0 if the connection was closed without one."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=60.0) as connection:
        try:
            connection.sendall(request)
            connection.settimeout(PATIENCE)
            try:
                head = connection.recv(65536)
            except TimeoutError:  # it waits for what was promised: there is no more
                connection.settimeout(60.0)
                connection.shutdown(socket.SHUT_WR)
                head = connection.recv(65536)
        except (ConnectionError, BrokenPipeError):
            return 0
    return int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="nearfar-hostile-") as folder:
        serving_hall.make(Path(folder), MACHINES)
        sound = next((Path(folder) / "data" / "pump" / "test").glob("*.wav")).read_bytes()
        with (
            serving_hall.process("watch", Path(folder)) as (_, watcher),
            serving_hall.process("serve", Path(folder)) as (address, server),
        ):
            asked = list(made_by_schemathesis(address, count))
            rng = random.Random(0)
            for _ in range(OWN):
                request = own(rng, sound)
                asked.append((repr(request[:100]), answered(address, request)))
            alive = requests.get(f"{address}api/machines", timeout=60).status_code
            still = server.poll() is None
            watcher.terminate()
            assert watcher.stdout is not None
            written = json.loads(watcher.stdout.readline())
    wrong = [(what, status) for what, status in asked if status >= 500]
    print(
        f"{len(asked)} requests; answers by status (0: none): {dict(sorted(Counter(s for _, s in asked).items()))}"
    )
    print(f"{len(wrong)} of 500 and above; in the end: {alive}, serving: {still}; the watcher: {written}")
    for what, status in wrong[:20]:
        print(status, what)
    sys.exit(bool(wrong) or alive != 200 or not still)


if __name__ == "__main__":
    main()
