"""Who may ask what. Everything is decided before a route sees the request, and before its body is read.

* On a loopback address without tokens, whoever is at this computer may do everything. Web pages of others must not:
  the name in ``Host`` must be this computer's, so that a foreign name that points here is refused (DNS rebinding).
* With tokens, or on any other address, a request needs a token, or the session of one who has logged in with one.
* What changes something needs ``X-Nearfar: 1`` and JSON, which a form of a foreign page cannot send, and must come
  from a page of ours if it comes from a page.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from nearfar.logbook.tokens import Holder, holder_among
from nearfar.serving.service import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import TypeAlias

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nearfar.serving.service import Service

    Headers: TypeAlias = Mapping[str, str]

log = logging.getLogger(__name__)

COOKIE = "nearfar-session"
UPLOADS = "/verdict"  # the end of the one path whose body may be large: it is read by its route
OPEN_TO_ALL = ("/login", "/static/")  # what one needs in order to log in
FORMS = ("/login",)  # whose body is a form, and which need no header of ours
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MOST_SESSIONS = 1000
MOST_CLIENTS = 10_000  # of which failed log-ins are counted
MINUTE = 60.0

POLICY = (  # of our pages, and of everything that names no other one
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # without any, Chromium sends the log-in with "Origin: null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class RefusedError(Exception):
    """A request that is not answered.

    Parameters
    ----------
    status : int
        Of HTTP: 400 to 499.
    error, hint : str
        What is wrong, and what to do about it.
    headers : mapping, optional
        Of the answer.
    """

    def __init__(self, status: int, error: str, hint: str = "", headers: Headers | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks.

    Attributes
    ----------
    name : str or None
        Of the token; ``None`` without one: then actions say who does them.
    may_act : bool
    has_session : bool
        Whether it has logged in, and can log out.
    """

    name: str | None = None
    may_act: bool = True
    has_session: bool = False


class Sessions:
    """Who has logged in, in memory: all must do it again when the service starts again.

    Parameters
    ----------
    now : callable
        Seconds.
    seconds : float
        How long a log-in lasts.
    log_ins : int
        How many may fail in a minute, for each client.
    """

    def __init__(self, now: Callable[[], float], *, seconds: float, log_ins: int) -> None:
        self._now, self._seconds, self._most = now, seconds, log_ins
        self._by_id: OrderedDict[str, tuple[float, str]] = OrderedDict()  # until when, and the token's digest
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, digest: str) -> str:
        """A new session of the token with this digest: a random number, as text."""
        name = secrets.token_urlsafe(32)
        self._by_id[name] = (self._now() + self._seconds, digest)
        while len(self._by_id) > MOST_SESSIONS:
            self._by_id.popitem(last=False)
        return name

    def digest(self, name: str) -> str | None:
        """The digest of the token whose session it is; ``None`` if there is none, or none any more."""
        until, digest = self._by_id.get(name, (0.0, ""))
        if self._now() < until:
            return digest
        self._by_id.pop(name, None)
        return None

    def end(self, name: str) -> None:
        """Log out."""
        self._by_id.pop(name, None)

    def refuse_too_many(self, client: str) -> None:
        """Refuse a client of which many log-ins have failed.

        Raises
        ------
        RefusedError
            429, with the time after which it may try again.
        """
        failed = self._failed.get(client, deque())
        while failed and failed[0] <= self._now() - MINUTE:
            failed.popleft()
        if len(failed) >= self._most:
            wait = max(1, round(failed[0] + MINUTE - self._now()))
            raise RefusedError(
                429, "too many log-ins failed", f"try again in {wait} s", {"Retry-After": str(wait)}
            )

    def failed(self, client: str) -> None:
        """Count a log-in that failed."""
        self._failed.setdefault(client, deque(maxlen=self._most)).append(self._now())
        self._failed.move_to_end(client)
        while len(self._failed) > MOST_CLIENTS:
            self._failed.popitem(last=False)


class Guard:
    """Lets in what may come in, and puts the headers on every answer; ASGI."""

    def __init__(self, app: ASGIApp, service: Service, sessions: Sessions) -> None:
        self.app, self.service, self.sessions = app, service, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket: there is none here
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except RefusedError as refused:
            await answer.problem(refused.status, refused.error, refused.hint, refused.headers)
        except Exception:  # whatever it was, one who asks is answered
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.begun:
                raise
            await answer.problem(500, "the service failed", "its log says why", {})

    async def _answer(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        headers = headers_of(scope)
        path, is_safe = scope["path"], scope["method"] in SAFE_METHODS
        refuse_strange(headers)
        known = await self.service.known_tokens()
        is_open = self.service.is_local and not known
        if is_open:
            refuse_foreign_host(headers, self.service.site.serve.allow_hosts)
        if not is_safe:
            refuse_foreign_page(headers)
        viewer = Viewer() if is_open else self._viewer(headers, known)
        if viewer is None and not path.startswith(OPEN_TO_ALL):
            if is_safe and not path.startswith(("/api/", "/metrics", "/openapi.json")):
                await send.redirect(scope)
                return
            raise RefusedError(
                401,
                "who are you?",
                "send a token as `Authorization: Bearer TOKEN`, or log in at /login",
                {"WWW-Authenticate": "Bearer"},
            )
        if not is_safe and path not in FORMS:
            refuse_other_than_action(headers, is_upload=path.endswith(UPLOADS))
            if viewer is not None and not viewer.may_act:
                raise RefusedError(403, "a reader cannot change anything", "use the token of an operator")
        scope.setdefault("state", {})["viewer"] = viewer
        if is_safe or not path.endswith(UPLOADS):
            receive = await self._bounded(headers, receive, is_safe=is_safe)
        await self.app(scope, receive, send)

    def _viewer(self, headers: Headers, known: Any) -> Viewer | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            holder = holder_among(known, token.strip())
            return None if holder is None else _viewer_of(holder, has_session=False)
        digest = self.sessions.digest(session_of(headers))
        if digest is None:
            return None
        holder = next((each.holder for each in known if each.digest == digest), None)
        return None if holder is None else _viewer_of(holder, has_session=True)

    async def _bounded(self, headers: Headers, receive: Receive, *, is_safe: bool) -> Receive:
        """What gives the body of an action, which is read here: within the time, and no more than the limit."""
        limits = self.service.limits
        refuse_too_large(headers, limits.json_bytes)
        if is_safe:  # a body would mean nothing, and nobody reads it
            return receive
        body = bytearray()
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise cut_off()
                    body += message.get("body", b"")
                    if len(body) > limits.json_bytes:
                        raise too_large(limits.json_bytes)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise too_slow(limits.body_seconds) from None
        given = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        return again


class _Answer:
    """Sends an answer with the headers of ``HEADERS``, but those that it has itself."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            own = list(message.get("headers", []))
            named = {name.lower() for name, _ in own}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in named]
            message = {**message, "headers": own + more}
        await self._send(message)

    async def problem(self, status: int, error: str, hint: str, headers: Headers) -> None:
        if self.begun:
            return
        body = json.dumps({"error": error, "hint": hint}).encode()
        # what is left of the body is not read, so the connection is of no more use
        own = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        told = [(k.lower().encode(), v.encode()) for k, v in {**own, **headers}.items()]
        await self({"type": "http.response.start", "status": status, "headers": told})
        await self({"type": "http.response.body", "body": body})

    async def redirect(self, scope: Scope) -> None:
        from urllib.parse import quote

        then = quote(scope["path"].encode("utf-8", "replace"), safe="")
        headers = [(b"location", f"/login?then={then}".encode()), (b"content-length", b"0")]
        await self({"type": "http.response.start", "status": 303, "headers": headers})
        await self({"type": "http.response.body", "body": b""})


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request; of those that come twice, both, with a comma between them."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def refuse_strange(headers: Headers) -> None:
    """Refuse headers that two readers might understand in two ways."""
    if "content-length" in headers and not headers["content-length"].isascii():
        raise RefusedError(400, "Content-Length is not a number")
    if "content-length" in headers and not headers["content-length"].isdigit():
        raise RefusedError(400, "Content-Length is not a number")
    if "content-length" in headers and "transfer-encoding" in headers:
        raise RefusedError(400, "give either Content-Length or Transfer-Encoding")


def refuse_too_large(headers: Headers, most: int) -> None:
    """Refuse a body that says that it is too large, before it is read."""
    length = headers.get("content-length", "0")
    if len(length) > 18 or int(length) > most:
        raise too_large(most)


def too_large(most: int) -> RefusedError:
    """The refusal of a body that is too large."""
    told = f"{most / 1e6:g} MB" if most >= 1_000_000 else f"{most // 1024} KB"
    return RefusedError(413, "the body of the request is too large", f"at most {told}")


def too_slow(seconds: float) -> RefusedError:
    """The refusal of a body that takes too long."""
    return RefusedError(408, "the body of the request took too long", f"send it within {seconds:g} s")


def cut_off() -> RefusedError:
    """The refusal of a body whose end never came; what there is of it may mean something else."""
    return RefusedError(400, "the body of the request was cut off", "send it again")


def refuse_foreign_host(headers: Headers, allowed: tuple[str, ...] = ()) -> None:
    """Refuse a name in ``Host`` that is not this computer's: a foreign one that was made to point here."""
    host = host_name(headers.get("host", ""))
    if host not in LOOPBACK and host not in allowed:
        raise RefusedError(
            421,
            "this name is not known here",
            "use http://127.0.0.1 or http://localhost, or add the name to allow_hosts of [serve]",
        )


def host_name(host: str) -> str:
    """A ``Host`` without its port and brackets, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def refuse_foreign_page(headers: Headers) -> None:
    """Refuse what a page of somebody else sends."""
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin")
    is_ours = origin is None or origin.partition("://")[2].lower() == headers.get("host", "").strip().lower()
    if site not in ("same-origin", "none") or not is_ours:
        raise RefusedError(403, "this comes from a page of another site", "use the page of this service")


def refuse_other_than_action(headers: Headers, *, is_upload: bool) -> None:
    """Refuse what a form of a foreign page could send."""
    if headers.get("x-nearfar") != "1":
        raise RefusedError(403, "the header X-Nearfar is missing", "send `X-Nearfar: 1` with every action")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not is_upload and kind != "application/json":
        raise RefusedError(415, "the body must be JSON", "send `Content-Type: application/json`")


def session_of(headers: Headers) -> str:
    """What the cookie says; empty without one."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _viewer_of(holder: Holder, *, has_session: bool) -> Viewer:
    return Viewer(holder.name, holder.role == "operator", has_session)
