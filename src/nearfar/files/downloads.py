"""Files from the network: every request times out, is repeated if its fault may pass, and goes on where it stopped.

Conventions
-----------
A file that is on its way is a part: the beginning of the whole. Whoever asked for it checks the whole.
Nothing is retried but the network: another size than was published, or a full disk, is an error at once.
"""

from __future__ import annotations

import http.client
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nearfar.files.atomic import no_space_names

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0  # without a byte
RETRIES = 5  # in a row that bring nothing new
BACKOFF_SECONDS = 1.0  # before the first retry; doubled before each further one
MAX_BACKOFF_SECONDS = 60.0  # limits of servers are by the minute
BLOCK = 1 << 20  # bytes read at a time

PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
RETRIED_STATUS = (408, RANGE_NOT_SATISFIABLE, 429, 500, 502, 503, 504)
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)

Progress = Callable[[str, int, int], None]


class DownloadError(ValueError):
    """What an address offers is not what was to be fetched from it."""


@dataclass(frozen=True)
class Client:
    """Asks servers.

    Parameters
    ----------
    opener : OpenerDirector
        Opens the addresses; by default one that knows the system's proxies.
    timeout : float
        Seconds without a byte after which a connection is given up.
    sleep : callable(seconds)
        Waits before a retry.
    progress : callable(name, bytes that are there, bytes in all), optional
    """

    opener: urllib.request.OpenerDirector = field(default_factory=urllib.request.build_opener)
    timeout: float = TIMEOUT_SECONDS
    sleep: Callable[[float], None] = time.sleep
    progress: Progress | None = None

    def read(self, url: str, *, accept: str = "*/*") -> bytes:
        """What a server answers, if it is small.

        Raises
        ------
        ConnectionError
            If the server cannot be reached, refuses, or keeps breaking off.
        DownloadError
            If this is not an address to download from.
        """
        failures = 0
        while True:
            try:
                with self._open(url, {"Accept": accept}) as response:
                    return response.read()
            except NETWORK_ERRORS as error:
                failures += 1
                self._wait(url, error, failures)

    def fetch(self, url: str, part: Path, *, name: str, size: int | None) -> None:
        """Make ``part`` the whole file, from where it ends.

        Parameters
        ----------
        name : str
            For the progress.
        size : int or None
            In bytes; None if only the server knows it.

        Raises
        ------
        ConnectionError
            If the server cannot be reached, refuses, or keeps breaking off; what has come stays in ``part``.
        DownloadError
            If this is not an address to download from, or the server has a file of another size.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        failures, most = 0, _size(part)
        while _size(part) != size:
            error: Exception = ConnectionError("the connection was closed early")
            try:
                size = self._append(url, part, name, size)
            except NETWORK_ERRORS as caught:
                error = caught
            if isinstance(error, urllib.error.HTTPError) and error.code == RANGE_NOT_SATISFIABLE:
                if size is None and _total(error.headers.get("Content-Range")) == _size(part):
                    error.close()
                    return  # what is there is all of it
                part.write_bytes(b"")  # what is there is no beginning of what the server has
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if _size(part) != size:
                self._wait(url, error, failures)

    def _append(self, url: str, part: Path, name: str, size: int | None) -> int:
        """Add to the part until the connection ends; the size of the whole."""
        have = _size(part)
        if size is not None and have > size:
            have = 0
        with self._open(url, {"Range": f"bytes={have}-"} if have else {}) as response:
            have = _begins_at(response, have)
            total = _total(response.headers.get("Content-Range", "")) if have else response.length
            _refuse_other_size(url, total, size)
            with no_space_names(part), part.open("ab" if have else "wb") as file:
                for block in iter(lambda: response.read(BLOCK), b""):
                    file.write(block)
                    have += len(block)
                    self._tell(name, have, size or total or have)
        return size or total or have

    def _tell(self, name: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(name, done, total)

    def _open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        if not url.startswith(("http://", "https://")):
            raise DownloadError(f"{url}: not an address to download from; it must be http or https")
        request = urllib.request.Request(url, headers={"User-Agent": "nearfar", **headers})
        response: http.client.HTTPResponse = self.opener.open(request, timeout=self.timeout)
        return response

    def _wait(self, url: str, error: Exception, failures: int) -> None:
        """Before the next try; raises if there is none."""
        pause = BACKOFF_SECONDS * 2**failures
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code not in RETRIED_STATUS:
                raise ConnectionError(f"{url}: the server answers {error.code} {error.reason}") from error
            after = error.headers.get("Retry-After", "")
            pause = float(after) if after.isdecimal() else pause
        if failures > RETRIES:
            raise ConnectionError(
                f"{url}: {error}; gave up after {RETRIES} retries. What has been downloaded is kept; run the same "
                "command again to continue"
            ) from error
        pause = min(pause, MAX_BACKOFF_SECONDS)
        logger.warning("%s: %s; trying again in %g s", url, error, pause)
        self.sleep(pause)


def _begins_at(response: http.client.HTTPResponse, asked: int) -> int:
    """The byte with which an answer begins: the one that was asked for, or 0 if the server starts over."""
    if response.status != PARTIAL_CONTENT:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
        raise http.client.HTTPException(f"the server sent other bytes than those from {asked} on")
    return asked


def _refuse_other_size(url: str, total: int | None, published: int | None) -> None:
    if published is not None and total not in (None, published):
        raise DownloadError(f"{url}: has {total} bytes, but {published} were published")


def _size(file: Path) -> int:
    return file.stat().st_size


def _total(content_range: str | None) -> int | None:
    """Of ``bytes 5-9/10``, or ``bytes */10``."""
    match = re.fullmatch(r"bytes .+/(\d+)", content_range or "")
    return int(match[1]) if match else None
