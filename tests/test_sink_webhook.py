"""Webhooks: signed, told again, never redirected; and receivers that answer anything, or nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import told
from receivers import Certificates, Receiver, liar, receiver
from told import Site, soon

from nearfar.watching.deliveries import Backoff, Deliveries
from nearfar.watching.sinks import Message, SinkDownError, SinkRefusedError, as_json
from nearfar.watching.sinks.webhook import Webhook


def message(
    number: int = 17, *, what: str = "activated", annunciated: bool = True, before: bool = False
) -> Message:
    content = {
        "format": 1, "id": f"journal-{number}", "annunciated": annunciated, "words": "Größe",
        "alert": {"was_annunciated": before},
    }  # fmt: skip
    return Message(f"journal-{number}", "journal", what, "pump", content)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "hook.secret"
    path.write_text("5up3r secret\n")
    return path


@pytest.fixture(autouse=True)
def a_proxy_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there


def test_a_message_is_a_request(hook: Receiver) -> None:
    sink = Webhook(hook.url)
    sink.deliver(message())
    sink.close()
    (request,) = hook.requests
    assert request.path == "/hook?to=pager"
    assert request.body == as_json(message())
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Nearfar-Delivery"] == "journal-17"
    assert request.headers["Host"] == f"127.0.0.1:{hook.server_port}"
    assert "X-Nearfar-Signature" not in request.headers
    assert "Authorization" not in request.headers


def test_the_signature_is_that_of_openssl(hook: Receiver, secret: Path) -> None:
    before = int(time.time())
    sink = Webhook(hook.url, secret_file=secret)
    sink.deliver(message())
    sink.close()
    (request,) = hook.requests
    parts = dict(part.split("=", 1) for part in request.headers["X-Nearfar-Signature"].split(","))
    assert before <= int(parts["t"]) <= time.time()
    signed = parts["t"].encode() + b"." + request.body
    assert parts["v1"] == hmac.new(b"5up3r secret", signed, hashlib.sha256).hexdigest()
    if shutil.which("openssl"):
        command = ["openssl", "dgst", "-sha256", "-hmac", "5up3r secret", "-r"]
        done = subprocess.run(command, input=signed, capture_output=True, check=True)
        assert parts["v1"] == done.stdout.decode().split()[0]


def test_the_verification_of_the_documentation(hook: Receiver, secret: Path) -> None:
    """What the page shows accepts what is sent, and nothing else: another body, another time, an old one."""
    page = (Path(__file__).parents[1] / "docs" / "messages.md").read_text(encoding="utf-8")
    code = page[page.index("import hashlib") :].partition("```")[0]
    names: dict[str, object] = {}
    exec(code, names)
    is_genuine = names["is_genuine"]
    assert callable(is_genuine)
    sink = Webhook(hook.url, secret_file=secret)
    sink.deliver(message())
    sink.close()
    (request,) = hook.requests
    header = request.headers["X-Nearfar-Signature"]
    assert is_genuine(b"5up3r secret", header, request.body)
    assert not is_genuine(b"another secret", header, request.body)
    assert not is_genuine(b"5up3r secret", header, request.body + b" ")
    stamp = int(header[2:].partition(",")[0])
    assert not is_genuine(b"5up3r secret", header.replace(str(stamp), str(stamp + 1)), request.body)
    old = hmac.new(b"5up3r secret", b"%d." % (stamp - 3600) + request.body, hashlib.sha256).hexdigest()
    assert not is_genuine(b"5up3r secret", f"t={stamp - 3600},v1={old}", request.body)
    for wrong in ("", "v1=", "t=x,v1=y", "t=1"):
        assert not is_genuine(b"5up3r secret", wrong, request.body)


def test_a_token_is_sent_as_bearer(hook: Receiver, secret: Path) -> None:
    sink = Webhook(hook.url, bearer_file=secret)
    sink.deliver(message())
    sink.close()
    assert hook.requests[0].headers["Authorization"] == "Bearer 5up3r secret"


def test_one_connection_serves_many_messages_in_milliseconds(hook: Receiver) -> None:
    sink = Webhook(hook.url)
    took = []
    for number in range(50):
        before = time.perf_counter()
        sink.deliver(message(number))
        took.append(time.perf_counter() - before)
    sink.close()
    assert len({request.peer for request in hook.requests}) == 1
    assert statistics.median(took) < 0.05  # one to two milliseconds, on a computer with other things to do


def test_a_connection_that_was_closed_meanwhile_is_made_anew(hook: Receiver) -> None:
    hook.closes = True
    sink = Webhook(hook.url)
    for number in range(5):
        sink.deliver(message(number))
    sink.close()
    assert [request.headers["X-Nearfar-Delivery"] for request in hook.requests] == [
        f"journal-{n}" for n in range(5)
    ]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226])
def test_what_has_arrived(hook: Receiver, status: int) -> None:
    hook.answers.waiting = [(status, {}, b"")]
    sink = Webhook(hook.url)
    sink.deliver(message())
    sink.deliver(message())
    sink.close()
    assert len(hook.requests) == 2


@pytest.mark.parametrize("status", [400, 402, 406, 409, 411, 413, 414, 415, 422, 451])
def test_what_is_refused(hook: Receiver, status: int) -> None:
    hook.answers.waiting = [(status, {}, b"I do not\nlike it")]
    sink = Webhook(hook.url)
    with pytest.raises(
        SinkRefusedError, match=rf"http://127\.0\.0\.1:\d+ answers {status} .*I do not like it"
    ):
        sink.deliver(message())
    sink.deliver(message())
    sink.close()


@pytest.mark.parametrize("status", [401, 403, 404, 408, 410, 425, 429, 500, 502, 503, 504, 599, 600])
def test_what_is_down(hook: Receiver, status: int) -> None:
    hook.answers.waiting = [(status, {}, b"x" * 100_000)]  # more than is read
    sink = Webhook(hook.url)
    with pytest.raises(SinkDownError, match=f"answers {status}"):
        sink.deliver(message())
    sink.deliver(message())
    sink.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(hook: Receiver, status: int) -> None:
    with receiver() as elsewhere:
        hook.answers.waiting = [(status, {"Location": elsewhere.url}, b"")]
        sink = Webhook(hook.url)
        with pytest.raises(SinkDownError, match="redirects are not followed; set url"):
            sink.deliver(message())
        sink.close()
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 30, 999999999.0),
        (None, None),
        ("²", None),
    ],
)
def test_the_wait_that_a_receiver_asks_for(
    hook: Receiver, header: str | None, expected: float | None
) -> None:
    encoded = None if header is None else header.encode().decode("latin-1")
    hook.answers.waiting = [(503, {} if encoded is None else {"Retry-After": encoded}, b"")]
    sink = Webhook(hook.url)
    with pytest.raises(SinkDownError, match="answers 503") as raised:
        sink.deliver(message())
    sink.close()
    assert raised.value.retry_after == expected


def test_the_wait_as_a_date(hook: Receiver) -> None:
    hook.answers.waiting = [(429, {"Retry-After": formatdate(time.time() + 30, usegmt=True)}, b"")]
    sink = Webhook(hook.url)
    with pytest.raises(SinkDownError, match="answers 429") as raised:
        sink.deliver(message())
    sink.close()
    assert raised.value.retry_after is not None
    assert 25 < raised.value.retry_after <= 30


def say(text: bytes):
    """Read something, say something, and go."""

    def says(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return says


def drip(connection: socket.socket) -> None:
    """A byte now and then, so that no single wait is long."""
    connection.recv(65536)
    for _ in range(1000):
        connection.sendall(b"H")
        time.sleep(0.05)


def hang(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize(
    ("says", "match"),
    [
        (say(b""), "closed connection without response"),
        (say(b"HTP/1.1 200 OK\r\n\r\n"), "HTP/1.1 200 OK"),
        (say(b"HTTP/1.1 abc OK\r\n\r\n"), "HTTP/1.1 abc OK"),
        (say(b"X" * 100_000), "got more than 65536 bytes|reset"),
        (say(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"), "got more than 100 headers|reset"),
        (drip, "no whole answer within 0.3 s"),
        (hang, "no whole answer within 0.3 s|timed out"),
        (lambda _connection: None, "reset|closed|Broken pipe"),
    ],
)
def test_a_receiver_that_talks_nonsense_or_not_at_all_is_down(says, match: str) -> None:
    with liar(says) as url:
        sink = Webhook(url, timeout=0.3)
        before = time.monotonic()
        with pytest.raises(SinkDownError, match=match):
            sink.deliver(message())
        assert time.monotonic() - before < 5
        sink.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_the_status_counts_whatever_the_text_is(answer: bytes) -> None:
    with liar(say(answer)) as url:
        sink = Webhook(url, timeout=2)
        sink.deliver(message(1))
        sink.deliver(message(2))  # by a new connection
        sink.close()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sink = Webhook(f"http://127.0.0.1:{port}/", timeout=1)
    with pytest.raises(SinkDownError, match=rf"http://127\.0\.0\.1:{port}: .*refused"):
        sink.deliver(message())


def test_errors_do_not_show_the_path_which_may_be_a_secret() -> None:
    sink = Webhook("http://127.0.0.1:1/services/T00/B00/XXXX?token=hush", timeout=1)
    with pytest.raises(SinkDownError, match=r"http://127\.0\.0\.1:1: ") as raised:
        sink.deliver(message())
    assert "XXXX" not in str(raised.value)
    assert "hush" not in str(raised.value)


# What is told


@pytest.mark.parametrize(
    ("options", "told_it", "is_told"),
    [
        ({}, message(), True),
        ({}, message(annunciated=False), False),
        ({"only_annunciated": False}, message(annunciated=False), True),
        ({}, message(what="cleared", annunciated=False, before=True), True),
        ({}, message(what="cleared", annunciated=False, before=False), False),
        ({}, message(what="commented", annunciated=False, before=True), False),
        ({"what": ("activated", "cleared")}, message(what="cleared"), True),
        ({"what": ("activated", "cleared")}, message(what="event"), False),
    ],
)
def test_what_is_sent(hook: Receiver, options: dict, told_it: Message, is_told: bool) -> None:
    sink = Webhook(hook.url, **options)
    sink.deliver(told_it)
    sink.close()
    assert bool(hook.requests) == is_told


def test_streams(hook: Receiver) -> None:
    assert Webhook(hook.url).streams == ("journal",)
    assert Webhook(hook.url, windows=True).streams == ("journal", "windows")


# With the logbook


def test_from_the_commit_to_the_receiver(tmp_path: Path, hook: Receiver) -> None:
    """Down for a while, refusing something, up again: each message arrives, in order, once."""
    with told.logbook(tmp_path) as logbook:
        site = Site.of(pager=Webhook(hook.url))
        deliveries = Deliveries(site, logbook.database, backoff=Backoff(0.01, 0.05))
        deliveries.start()
        hook.answers.waiting = [
            (500, {}, b""),
            (503, {"Retry-After": "0"}, b""),
            (200, {}, b""),
            (422, {}, b""),
        ]
        alert = logbook.activate()
        logbook.comment(alert, "refused")
        logbook.clear()
        deliveries.wake()
        soon(lambda: len(hook.requests) == 5)
        assert deliveries.drain(told.PATIENCE_S)
        told_it = [json.loads(request.body)["what"] for request in hook.requests]
        assert told_it == ["activated", "activated", "activated", "commented", "cleared"]
        assert len({request.headers["X-Nearfar-Delivery"] for request in hook.requests}) == 3
        assert logbook.standing("pager")["refused"] == 1
        deliveries.stop()


# TLS, and proxies


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made by openssl, of this hour."""
    return certificates_in(tmp_path_factory.mktemp("certificates"))


def certificates_in(folder: Path) -> Certificates:
    if not shutil.which("openssl"):
        pytest.skip("needs the command openssl, to make certificates")
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # which Python 3.13 asks for (RFC 5280)
    for command in (
        [*new, "-x509", "-days", "2", "-subj", "/CN=test authority", *usage, "-keyout", folder / "ca.key",
         "-out", made.ca],
        [*new, "-subj", "/CN=test server", "-keyout", made.key, "-out", folder / "asked.pem"],
        ["openssl", "x509", "-req", "-in", folder / "asked.pem", "-CA", made.ca, "-CAkey", folder / "ca.key",
         "-CAcreateserial", "-days", "2", "-extfile", folder / "names", "-out", made.cert],
    ):  # fmt: skip
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return made


def test_https_is_verified(certificates: Certificates) -> None:
    with receiver(certificates.context()) as server:
        url = server.url.replace("http:", "https:")
        trusting = Webhook(url, ca_file=certificates.ca)
        trusting.deliver(message())
        trusting.deliver(message())
        trusting.close()
        assert len({request.peer for request in server.requests}) == 1
        with pytest.raises(SinkDownError, match="certificate verify failed"):
            Webhook(url).deliver(message())
        with pytest.raises(SinkDownError, match=r"Hostname mismatch|not valid for"):
            Webhook(url.replace("127.0.0.1", "localhost"), ca_file=certificates.ca).deliver(message())
        assert len(server.requests) == 2


def test_a_proxy_that_is_asked_for_is_used(hook: Receiver) -> None:
    """Of http, it gets the whole address."""
    proxy = f"http://127.0.0.1:{hook.server_port}"
    sink = Webhook("http://receiver.invalid/hook", proxy=proxy)
    sink.deliver(message())
    sink.close()
    (request,) = hook.requests
    assert request.path == "http://receiver.invalid/hook"
    assert request.headers["Host"] == "receiver.invalid"


# Options


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"url": "ftp://example.org/"}, "must begin with https://"),
        ({"url": "example.org/hook"}, "must begin with https://"),
        ({"url": "https:///hook"}, "name a host"),
        ({"url": "https://example.org:http/"}, "url='https://example.org:http/': "),
        ({"url": "https://user:pass@example.org/"}, "no user and password"),
        ({"url": "https://example.org/größe"}, "write spaces"),
        ({"url": "https://example.org/a b"}, "write spaces"),
        ({"url": "http://example.org/", "timeout": 0.0}, "timeout=0.0"),
        ({"url": "http://example.org/", "what": ("alarm",)}, "there is no 'alarm'; there are activated"),
        ({"url": "http://example.org/", "proxy": "https://proxy/"}, "must begin with http://"),
    ],
)
def test_options_that_are_none(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Webhook(**options)


@pytest.mark.parametrize(
    ("content", "match"), [("\n", "it is empty"), ("a\nb", "printable ASCII on one line")]
)
def test_secrets_that_are_none(tmp_path: Path, content: str, match: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        Webhook("http://example.org/", secret_file=path)
    with pytest.raises(FileNotFoundError, match="absent"):
        Webhook("http://example.org/", secret_file=tmp_path / "absent")
    assert os.environ["http_proxy"]
