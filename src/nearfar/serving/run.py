"""The service runs, until Ctrl-C."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nearfar.files.extras import resolve
from nearfar.logbook import tokens
from nearfar.logbook.database import Database
from nearfar.serving.service import LOOPBACK

if TYPE_CHECKING:
    from nearfar.watching.site import Site

HEAD_BYTES = 16 * 1024  # of the head of a request
BACKLOG = 512


class NoTokenError(ValueError):
    """Others could ask, and nobody has a token."""


def serve(
    site: Site, *, host: str | None = None, port: int | None = None, told: Callable[[str], None] = print
) -> None:
    """Serve a site until Ctrl-C or the signal to end.

    Parameters
    ----------
    site : Site
    host : str or None
        The address it answers at; ``None``: as the site says.
    port : int or None
        0: one that is free; ``None``: as the site says.
    told : callable
        Called once with the address, when it answers.

    Raises
    ------
    NoTokenError
        If others than this computer can ask, and there is no token.
    OSError
        If the address cannot be had.
    MissingPackageError
        If FastAPI or uvicorn is not installed.
    """
    make_app = resolve("nearfar.serving.app:make_app", needed_by="nearfar serve")
    host = site.serve.host if host is None else host
    port = site.serve.port if port is None else port
    site = replace_serve(site, host, port)
    database = Database.open(site.state)
    try:
        with database.reading() as c:
            has_tokens = bool(tokens.names(c))
        if host not in LOOPBACK and not has_tokens:
            raise NoTokenError(
                f"others could reach {host}, and nobody has a token; make one with "
                f"`nearfar serve {site.path or 'SITE.toml'} --add-token NAME`, or serve 127.0.0.1"
            )
        with listen(host, port) as listening:
            app = make_app(site, database)
            _run(server_of(app), listening, told)
    finally:
        database.close()


def replace_serve(site: Site, host: str, port: int) -> Site:
    """The same site at another address."""
    return site.model_copy(update={"serve": site.serve.model_copy(update={"host": host, "port": port})})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    OSError
        If the address is taken, or not of this computer; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(
            f"{host}:{port}: {error.strerror or error}; give another one with --host and --port"
        ) from error


def address_of(listening: socket.socket) -> str:
    """What a browser is given."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _run(server: Any, listening: socket.socket, told: Callable[[str], None]) -> None:
    async def both() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            told(address_of(listening))
        await serving

    try:
        asyncio.run(both())
    except KeyboardInterrupt:
        logging.getLogger(__name__).debug("stopped by Ctrl-C")


def server_of(app: Any) -> Any:
    """What serves an application of ``make_app``; end it by ``should_exit = True``."""
    import uvicorn

    from nearfar.serving.protocol import Protocol

    class Server(uvicorn.Server):
        """Ends streams of what changes before it waits for all that it still answers."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.changes.cut_all()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app, http=Protocol, ws="none", lifespan="on", log_config=None, access_log=False, server_header=False,
        h11_max_incomplete_event_size=HEAD_BYTES, timeout_graceful_shutdown=5, backlog=BACKLOG,
    )  # fmt: skip
    return Server(config)
