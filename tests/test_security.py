"""Who may ask what: tokens, sessions, foreign pages and names, bodies that are too large or too slow, headers."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

import served  # noqa: E402  # needs them
from served import ACT, Served, until  # noqa: E402

from nearfar.logbook import tokens  # noqa: E402
from nearfar.serving import run, security  # noqa: E402
from nearfar.serving.security import RefusedError, Sessions  # noqa: E402

ACKNOWLEDGE = "/api/alerts/1/acknowledge"


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.the_detector(tmp_path_factory)


@pytest.fixture
def hall(detector: Path, tmp_path: Path) -> Iterator[Served]:
    made = served.filled(tmp_path, detector, serve='allow_hosts = ["hall.example"]')
    yield made
    made.database.close()


@pytest.fixture
def api(hall: Served) -> Iterator[Any]:
    with served.running(hall.app(body_seconds=1.0)) as address, served.client(address) as client:
        yield client


@pytest.fixture(scope="module")
def unchanged(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """As ``api``, of a logbook that no test changes."""
    made = served.filled(
        tmp_path_factory.mktemp("unchanged"), detector, serve='allow_hosts = ["hall.example"]'
    )
    with served.running(made.app(body_seconds=1.0)) as address, served.client(address) as client:
        yield client
    made.database.close()


def token_of(hall: Served, name: str, role: tokens.Role = "operator") -> str:
    with hall.database.writing() as c:
        return tokens.make(c, name, role, now=hall.now[0])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Tokens


def test_a_token_is_kept_as_its_digest_alone(hall: Served, tmp_path: Path) -> None:
    token = token_of(hall, "anna")
    with hall.database.reading() as c:
        assert tokens.holder(c, token) == tokens.Holder("anna", "operator")
        assert tokens.names(c) == [{"name": "anna", "role": "operator", "made_at": hall.now[0]}]
    kept = sqlite3.connect(tmp_path / "hall.db").execute("SELECT digest FROM tokens").fetchone()[0]
    assert kept == hashlib.sha256(token.encode()).hexdigest()
    hall.database.close()
    for path in tmp_path.glob("hall.db*"):
        assert token.encode() not in path.read_bytes()


def test_no_two_tokens_are_alike_and_a_wrong_one_is_nobodys(hall: Served) -> None:
    made = {token_of(hall, f"name {i}") for i in range(20)}
    assert len(made) == 20
    assert min(map(len, made)) >= 43
    with hall.database.reading() as c:
        for wrong in ("", "nearfar_", next(iter(made))[:-1], next(iter(made)) + "x", "\udcff"):
            assert tokens.holder(c, wrong) is None


@pytest.mark.parametrize("name", ["", " anna", "a\nb", "a" * 101, "\u202eanna"])
def test_a_name_that_the_logbook_could_not_show_is_refused(hall: Served, name: str) -> None:
    with pytest.raises(ValueError, match=r"name=.*: must have 1 to 100 characters that can be printed"):
        token_of(hall, name)


def test_a_name_has_one_token(hall: Served) -> None:
    token_of(hall, "anna")
    with pytest.raises(ValueError, match="anna has a token already; remove it first"):
        token_of(hall, "anna")
    with pytest.raises(ValueError, match="role='admin': must be one of operator, reader"):
        token_of(hall, "bert", "admin")  # type: ignore[arg-type]


# Open on this computer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost:8765", 200), ("LOCALHOST", 200), ("[::1]:8765", 200), ("hall.example", 200),
        ("hall.example:80", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil", 421),
        ("127.0.0.1@evil.example", 421), ("", 421), ("0.0.0.0", 421),
    ],
)  # fmt: skip
def test_only_names_of_this_computer_are_answered(unchanged: Any, host: str, status: int) -> None:
    """A foreign name that points here is how a foreign page would come to read the answers."""
    assert unchanged.get("/api/machines", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-Nearfar": "1"}, 415),
        ({"X-Nearfar": "1", "Content-Type": "text/plain"}, 415),
        ({"X-Nearfar": "0", "Content-Type": "application/json"}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({**ACT, "Origin": "http://evil.example"}, 403),
        ({**ACT, "Origin": "null"}, 403),
        ({**ACT, "Origin": "http://127.0.0.1:1"}, 403),
        ({**ACT, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**ACT, "Sec-Fetch-Site": "same-site"}, 403),
    ],
)  # fmt: skip
def test_what_a_foreign_page_could_send_does_nothing(
    unchanged: Any, headers: dict[str, str], status: int
) -> None:
    assert unchanged.post(ACKNOWLEDGE, content=b'{"by": "x"}', headers=headers).status_code == status
    assert unchanged.get("/api/alerts/1").json()["acked"] is False


def test_our_own_page_may_act(api: Any) -> None:
    host = str(api.base_url).partition("://")[2].rstrip("/")
    own = {**ACT, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert api.post(ACKNOWLEDGE, json={"by": "anna"}, headers=own).status_code == 200


# With tokens


def test_with_a_token_in_the_logbook_everyone_needs_one(api: Any, hall: Served) -> None:
    token = token_of(hall, "anna")
    until(lambda: api.get("/api/machines").status_code == 401)
    for path in (
        "/api/machines",
        "/api/changes",
        "/api/alerts/1/sound",
        "/metrics",
        "/openapi.json",
        "/api/nothing",
    ):
        assert api.get(path).status_code == 401, path
        assert api.get(path, headers=bearer(token[:-1] + "!")).status_code == 401
        assert api.get(path, headers={"Authorization": f"Basic {token}"}).status_code == 401
    assert api.get("/api/machines", headers=bearer(token)).status_code == 200
    assert api.get("/static/style.css").status_code == 200
    sent = api.get("/machines/pump?x=1")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?then=%2Fmachines%2Fpump")


def test_the_logbook_keeps_the_name_of_the_token(api: Any, hall: Served) -> None:
    token = token_of(hall, "anna")
    until(lambda: api.get("/api/machines").status_code == 401)
    done = api.post(ACKNOWLEDGE, json={"by": "somebody else"}, headers=ACT | bearer(token))
    assert done.status_code == 200
    assert api.get("/api/alerts/1", headers=bearer(token)).json()["journal"][-1]["by"] == "anna"


def test_a_reader_sees_all_and_changes_nothing(api: Any, hall: Served) -> None:
    token = token_of(hall, "wall", "reader")
    until(lambda: api.get("/api/machines").status_code == 401)
    assert api.get("/api/alerts", headers=bearer(token)).status_code == 200
    schema = api.get("/openapi.json", headers=bearer(token)).json()
    for path in [path for path, what in schema["paths"].items() if "post" in what]:
        at = path.replace("{name}", "pump").replace("{number}", "1").replace("{condition}", "anomaly")
        answer = api.post(at, json={"by": "x"}, headers=ACT | bearer(token))
        assert (answer.status_code, answer.json()["error"]) == (403, "a reader cannot change anything"), path


def test_a_token_that_is_removed_ends_at_once_and_so_do_its_sessions(api: Any, hall: Served) -> None:
    token, other = token_of(hall, "anna"), token_of(hall, "bert")
    until(lambda: api.get("/api/machines").status_code == 401)
    api.post("/login", data={"token": token})
    assert api.get("/api/machines").status_code == 200
    with hall.database.writing() as c:
        assert tokens.remove(c, "anna")
        assert not tokens.remove(c, "nobody")
    until(lambda: api.get("/api/machines").status_code == 401)
    assert api.get("/api/machines", headers=bearer(token)).status_code == 401
    assert api.get("/api/machines", headers=bearer(other)).status_code == 200


def test_a_log_in_gives_a_session_that_scripts_do_not_see(api: Any, hall: Served) -> None:
    token = token_of(hall, "anna")
    until(lambda: api.get("/api/machines").status_code == 401)
    wrong = api.post("/login", data={"token": "nearfar_x"})
    assert wrong.status_code == 403
    assert "set-cookie" not in wrong.headers
    done = api.post("/login", data={"token": token, "then": "/alerts"})
    assert (done.status_code, done.headers["location"]) == (303, "/alerts")
    cookie = done.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert token not in cookie
    assert api.get("/").status_code == 200
    assert api.post(ACKNOWLEDGE, json={}).status_code == 403, "a session alone does not act"
    assert api.post(ACKNOWLEDGE, json={}, headers=ACT).status_code == 200
    assert api.post("/logout", headers=ACT).status_code == 204
    assert api.get("/api/machines", headers={"Cookie": cookie.partition(";")[0]}).status_code == 401


def test_behind_https_the_cookie_is_for_https_alone(api: Any, hall: Served) -> None:
    token = token_of(hall, "anna")
    until(lambda: api.get("/api/machines").status_code == 401)
    done = api.post("/login", data={"token": token}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in done.headers["set-cookie"].split("; ")


@pytest.mark.parametrize(
    "then", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "x", ""]
)
def test_a_log_in_leads_to_our_own_pages(api: Any, hall: Served, then: str) -> None:
    token = token_of(hall, "anna")
    until(lambda: api.get("/api/machines").status_code == 401)
    assert api.post("/login", data={"token": token, "then": then}).headers["location"] == "/"


def test_a_form_of_many_fields_is_no_log_in(unchanged: Any) -> None:
    answer = unchanged.post(
        "/login", content="a=1&" * 1000, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 422
    assert "Token" in answer.text


def test_log_ins_that_fail_are_few_and_a_session_lasts_its_time(api: Any, hall: Served) -> None:
    token = token_of(hall, "anna")
    until(lambda: api.get("/api/machines").status_code == 401)
    assert {api.post("/login", data={"token": "x"}).status_code for _ in range(10)} == {403}
    refused = api.post("/login", data={"token": token})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    hall.now[0] += 61
    assert api.post("/login", data={"token": token}).status_code == 303
    hall.now[0] += 12 * 3600 - 1
    assert api.get("/api/machines").status_code == 200
    hall.now[0] += 2
    assert api.get("/api/machines").status_code == 401


def test_sessions_and_failures_do_not_grow_without_end() -> None:
    sessions = Sessions(lambda: 0.0, seconds=1.0, log_ins=2)
    first = sessions.begin("digest")
    assert sessions.digest(first) == "digest"
    for _ in range(security.MOST_SESSIONS):
        sessions.begin("digest")
    assert sessions.digest(first) is None
    sessions.failed("client")
    sessions.refuse_too_many("client")
    sessions.failed("client")
    with pytest.raises(RefusedError, match="too many log-ins failed"):
        sessions.refuse_too_many("client")
    for i in range(security.MOST_CLIENTS):
        sessions.failed(str(i))
    sessions.refuse_too_many("client")


def test_another_address_needs_a_token(hall: Served) -> None:
    with pytest.raises(
        run.NoTokenError, match=r"others could reach 0\.0\.0\.0, and nobody has a token; make one"
    ):
        run.serve(hall.site, host="0.0.0.0", port=0)


def test_at_another_address_nothing_is_open_even_without_any_token(hall: Served) -> None:
    """If the last token is removed while it serves, nobody may ask."""
    site = run.replace_serve(hall.site, "0.0.0.0", 0)
    with served.running(Served(site, hall.database).app()) as address, served.client(address) as api:
        assert api.get("/api/machines").status_code == 401


# Bodies and heads


def raw(api: Any, data: bytes, *, then: bytes = b"", pause: float = 0.0) -> bytes:
    """What is answered to these bytes."""
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=30.0) as connection:
        connection.sendall(data)
        time.sleep(pause)
        answer = b""
        try:
            if then:
                connection.sendall(then)
            while block := connection.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
        return answer


def head(*more: str, path: str = ACKNOWLEDGE, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "X-Nearfar: 1", "Content-Type: application/json"]
    return ("\r\n".join([*lines, "Connection: close", *more]) + "\r\n\r\n").encode()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(unchanged: Any) -> None:
    for length in ("65537", "9" * 20):
        assert status(raw(unchanged, head(f"Content-Length: {length}"))) == 413
    upload = head("Content-Length: 50000001", path="/api/machines/pump/verdict")
    assert status(raw(unchanged, upload)) == 413


def test_a_body_in_chunks_is_counted_as_it_comes(unchanged: Any) -> None:
    chunks = b"".join(b"2000\r\n" + b"x" * 0x2000 + b"\r\n" for _ in range(9))
    assert status(raw(unchanged, head("Transfer-Encoding: chunked"), then=chunks)) == 413


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_said(unchanged: Any) -> None:
    began = time.monotonic()
    assert status(raw(unchanged, head("Content-Length: 10"), then=b"{}")) == 408
    assert time.monotonic() - began < 20


def test_a_body_that_is_cut_off_does_nothing_even_if_it_makes_sense(
    unchanged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (ACKNOWLEDGE, "/api/machines/pump/verdict"):
        with socket.create_connection((unchanged.base_url.host, unchanged.base_url.port)) as connection:
            connection.sendall(head("Content-Length: 100", path=path) + b'{"by": "x"}')
        assert unchanged.get("/api/alerts/1").json()["acked"] is False
    time.sleep(0.2)
    assert unchanged.get("/api/alerts/1").json()["acked"] is False
    assert "failed" not in caplog.text


@pytest.mark.parametrize(
    "lie",
    [
        ("Content-Length: -1",), ("Content-Length: 1e3",), ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: 2", "Transfer-Encoding: chunked"), ("Transfer-Encoding: gzip",), ("Bad Header: x",),
        ("Host: evil.example",), (f"X: {'x' * 20_000}",),
    ],
)  # fmt: skip
def test_heads_that_lie_are_refused(unchanged: Any, lie: tuple[str, ...]) -> None:
    assert 400 <= status(raw(unchanged, head(*lie), then=b"{}")) < 500


def test_a_head_that_does_not_come_is_not_waited_for(unchanged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.serving.protocol.SECONDS_FOR_HEAD", 0.2)
    assert raw(unchanged, b"GET /api/machines HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") == b""
    assert raw(unchanged, b"") == b""


def test_a_web_socket_is_an_ordinary_request(unchanged: Any) -> None:
    upgrade = head("Upgrade: websocket", "Sec-WebSocket-Key: x", path="/api/machines", method="GET")
    answer = raw(unchanged, upgrade.replace(b"Connection: close", b"Connection: Upgrade, close"))
    assert status(answer) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/alerts",
        "/login",
        "/static/style.css",
        "/api/machines",
        "/api/none",
        "/none",
        "/api/alerts/1/sound",
    ],
)
def test_every_answer_has_the_headers_that_protect_it(unchanged: Any, path: str) -> None:
    answer = unchanged.get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == (
        "no-store" if path.startswith(("/api", "/none", "/login")) else "no-cache"
    )
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


def test_methods_that_are_not_offered_are_refused(unchanged: Any) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "NONSENSE"):
        answer = unchanged.request(method, "/api/machines", headers=ACT)
        assert answer.status_code == 405, method


def test_an_error_of_the_program_tells_nothing_of_its_inside(
    hall: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("nearfar.logbook.asked.machines", broken)
    with served.running(hall.app()) as address, served.client(address) as api:
        answer = api.get("/api/machines")
    assert answer.status_code == 500
    assert answer.json() == {"error": "the service failed", "hint": "its log says why"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "/secret/path" in caplog.text
