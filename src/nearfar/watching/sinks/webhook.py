"""Messages by HTTP POST to an address of one's own, signed.

Each message is one request. Its body is the message as JSON. Headers:

``X-Nearfar-Delivery``
    The id of the message. A message that is told again has the same, so that a receiver can leave out what it has.
``X-Nearfar-Signature``
    With a secret: ``t=SECONDS,v1=HEX``. HEX is the HMAC (RFC 2104) with SHA-256 of ``SECONDS``, a dot, and the
    body. The time of sending is signed with the body, so a receiver can refuse what somebody recorded and sends
    again later. The form is the one that Stripe uses, so that code for it is easy to find.

It is built on ``http.client``: one connection that is kept open, which takes about a millisecond a message, without
redirects, pools and proxies, each of which would have to be switched off in a larger library.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nearfar import __version__
from nearfar.logbook.life_cycle import WHAT
from nearfar.watching.sinks import Message, SinkDownError, SinkRefusedError, SiteState, Stream, as_json

SIGNATURE = "X-Nearfar-Signature"
DELIVERY = "X-Nearfar-Delivery"
PORTS = {"http": 80, "https": 443}
MOST_BYTES = 2**16  # of an answer that are read; its text is of no interest
FIRST_CHARACTERS = 200  # of an answer that are shown
# What says nothing about the message: the way to the receiver is wrong or not ready (RFC 9110, RFC 6585, RFC 8470).
# Other 4xx say that this message is refused.
DOWN = (401, 403, 404, 405, 407, 408, 410, 421, 423, 425, 426, 429)
ENDS = (
    "cleared",
    "re-armed",
    "acknowledged",
)  # told to those who were told the alert, even if it is shelved since
TOLD_WHAT = (*WHAT, "dropped", "window")


class Webhook:
    """Send messages to an address.

    Parameters
    ----------
    url : str
        ``https://...``, or ``http://...``.
    secret_file : Path or None
        Holds the secret of the signature. ``None``: messages are not signed.
    bearer_file : Path or None
        Holds a token that is sent as ``Authorization: Bearer TOKEN``.
    windows : bool
        Whether windows are told, too.
    only_annunciated : bool
        Leave out what concerns alerts that are shelved, suppressed or out of service. Of an alert that was told
        before it was shelved, the end is told.
    what : tuple of str
        Only messages that say so, such as "activated" and "cleared". Empty: all.
    timeout : float
        Seconds for one message, from the connection to the end of the answer. The name of the host is looked up
        beside it, by the system.
    ca_file : Path or None
        Certificates to trust in place of the system's, as PEM.
    proxy : str
        ``http://host:port`` of a proxy. Variables of the environment are not looked at.

    Raises
    ------
    ValueError
        If an option is none, or a file is empty.
    FileNotFoundError
    """

    def __init__(  # noqa: PLR0913  # the options
        self,
        url: str,
        *,
        secret_file: Path | None = None,
        bearer_file: Path | None = None,
        windows: bool = False,
        only_annunciated: bool = True,
        what: tuple[str, ...] = (),
        timeout: float = 10.0,
        ca_file: Path | None = None,
        proxy: str = "",
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout={timeout}: must be more than 0 seconds")
        if wrong := [name for name in what if name not in TOLD_WHAT]:
            raise ValueError(
                f"what: there is no {', '.join(map(repr, wrong))}; there are {', '.join(TOLD_WHAT)}"
            )
        self.streams: tuple[Stream, ...] = ("journal", "windows") if windows else ("journal",)
        self._connection = _Connection(_Target.of(url), _proxy(proxy), timeout, _context(url, ca_file))
        self._secret = None if secret_file is None else _secret(secret_file)
        self._bearer = None if bearer_file is None else _secret(bearer_file).decode("latin-1")
        self._only_annunciated = only_annunciated
        self._what = frozenset(what)

    def open(self, site: SiteState) -> None:
        """The connection is made with the first message."""

    def deliver(self, message: Message) -> None:
        """Send it, and read the answer."""
        if not self._is_wanted(message):
            return
        body = as_json(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"nearfar/{__version__}",
            DELIVERY: message.id,
        }
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret, body, at=int(time.time()))
        if self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer}"
        self._judge(self._connection.post(body, headers))

    def idle(self) -> None:
        """Nothing is to be done: a connection that the receiver closes is made anew."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _is_wanted(self, message: Message) -> bool:
        if self._what and message.what not in self._what:
            return False
        if not self._only_annunciated or message.content.get("annunciated", True):
            return True
        alert = message.content.get("alert") or {}
        return message.what in ENDS and bool(alert.get("was_annunciated"))

    def _judge(self, answer: _Answer) -> None:
        """Whether the message has arrived."""
        if 200 <= answer.status < 300:
            return
        told = f"{self._connection.target.origin} answers {answer.status} {answer.told}".rstrip()
        if 300 <= answer.status < 400:
            raise SinkDownError(f"{told}: redirects are not followed; set url to the address itself")
        if answer.status in DOWN or not 400 <= answer.status < 500:
            raise SinkDownError(told, retry_after=answer.retry_after)
        raise SinkRefusedError(told)


def signature(secret: bytes, body: bytes, *, at: int) -> str:
    """The value of ``X-Nearfar-Signature``.

    Parameters
    ----------
    secret, body : bytes
    at : int
        Seconds since 1970.

    Examples
    --------
    >>> from nearfar.watching.sinks.webhook import signature
    >>> signature(b"secret", b"{}", at=1)
    't=1,v1=1122767b193110cfec322b6f199b599edbf608ed087f2d27afb0b97d99523908'
    """
    digest = hmac.new(secret, b"%d.%b" % (at, body), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@dataclass(frozen=True, slots=True)
class _Target:
    """Where requests go."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str, *, option: str = "url") -> _Target:
        """The parts of an address.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{option}={url!r}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{option}={url!r}: must begin with https:// or http://, and name a host")
        if parts.username is not None:
            raise ValueError(f"{option}: no user and password in it, as it is shown; use bearer_file")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ValueError(f"{option}={url!r}: write spaces, and letters beyond ASCII, as %20 and so on")
        return cls(parts.scheme, parts.hostname, port or PORTS[parts.scheme], path)

    @property
    def origin(self) -> str:
        """Without the path, which may hold a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a receiver says: its status, the beginning of its text, and how many seconds it asks to wait."""

    status: int
    told: str
    retry_after: float | None


class _Connection:
    """One connection that is kept open, with one time limit for all of a request."""

    def __init__(
        self, target: _Target, proxy: _Target | None, timeout: float, context: ssl.SSLContext | None
    ) -> None:
        self.target = target
        self._proxy = proxy
        self._timeout = timeout
        self._context = context
        self._http: http.client.HTTPConnection | None = None

    def post(self, body: bytes, headers: dict[str, str]) -> _Answer:
        """Send it; once more, if a connection that was kept open turns out to have been closed meanwhile.

        Raises
        ------
        SinkDownError
        """
        was_open = self._http is not None
        try:
            return self._post(body, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not was_open:
                raise self._down(error) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._down(error) from error
        try:
            return self._post(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._down(error) from error

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _post(self, body: bytes, headers: dict[str, str]) -> _Answer:
        connection = self._http = self._http or self._made()
        with self._ended_in_time(connection) as is_over:
            if connection.sock is None:
                connection.connect()
            if is_over.is_set():
                raise TimeoutError
            path = self.target.path
            if self._proxy is not None and self.target.scheme == "http":
                path = f"{self.target.origin}{path}"
            connection.request("POST", path, body=body, headers=headers)
            response = connection.getresponse()
            text = self._text(response)
        retry_after = _seconds(response.headers.get("Retry-After"))
        return _Answer(response.status, f"{response.reason} {text}".strip(), retry_after)

    def _text(self, response: http.client.HTTPResponse) -> str:
        """The beginning of the answer's text. The status counts, even if the text breaks off."""
        text = b""
        try:
            text = response.read(MOST_BYTES)
        except (OSError, http.client.HTTPException):
            self.close()
        if not response.isclosed():  # there is more, which nobody wants
            self.close()
        return " ".join(text[:FIRST_CHARACTERS].decode("utf-8", "replace").split())

    def _made(self) -> http.client.HTTPConnection:
        to = self._proxy or self.target
        if self._context is None:
            return http.client.HTTPConnection(to.host, to.port, timeout=self._timeout)
        connection = http.client.HTTPSConnection(
            to.host, to.port, timeout=self._timeout, context=self._context
        )
        if self._proxy is not None:
            connection.set_tunnel(self.target.host, self.target.port)
        return connection

    @contextlib.contextmanager
    def _ended_in_time(self, connection: http.client.HTTPConnection) -> Iterator[threading.Event]:
        """Cut the connection when the time is over: a socket's own limit begins anew with every byte."""
        is_over = threading.Event()

        def end() -> None:
            is_over.set()
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._timeout, end)
        timer.daemon = True
        timer.start()
        try:
            yield is_over
        except (OSError, http.client.HTTPException) as error:
            if is_over.is_set():
                raise TimeoutError(f"no whole answer within {self._timeout:g} s") from error
            raise
        finally:
            timer.cancel()

    def _down(self, error: Exception) -> SinkDownError:
        told = str(error) or type(error).__name__
        return SinkDownError(f"{self.target.origin}: {told}")


def _proxy(url: str) -> _Target | None:
    if not url:
        return None
    proxy = _Target.of(url, option="proxy")
    if proxy.scheme != "http":
        raise ValueError(f"proxy={url!r}: must begin with http://")
    return proxy


def _context(url: str, ca_file: Path | None) -> ssl.SSLContext | None:
    """Certificates and the name of the host are verified; there is no way to switch that off."""
    if urlsplit(url).scheme != "https":
        return None
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


def _secret(path: Path) -> bytes:
    secret = path.read_bytes().strip()
    if not secret:
        raise ValueError(f"{path}: it is empty; a secret of 32 random bytes is made by: openssl rand -hex 32")
    if any(byte < 0x20 or byte > 0x7E for byte in secret):
        raise ValueError(f"{path}: it must hold printable ASCII on one line")
    return secret


def _seconds(retry_after: str | None) -> float | None:
    """What ``Retry-After`` asks for: seconds, or a date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
