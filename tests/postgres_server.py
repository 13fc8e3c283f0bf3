"""A PostgreSQL server of its own, in a temporary folder, reached by a socket there."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

DEBIAN = Path("/usr/lib/postgresql")  # where the server's programs are, beside those in PATH
USER = "nearfar"
PATIENCE = 60.0  # seconds
SOCKET = ".s.PGSQL.5432"


class Postgres:
    """A server that runs.

    Parameters
    ----------
    folder : Path
        Of the socket.
    process : Popen
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.process = folder, process
        self._numbers = itertools.count()

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?unix_sock={self.folder / SOCKET}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"logbook_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """A database that is not needed any more, whoever uses it."""
        self.run(f"DROP DATABASE {sql.make_url(url).database} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        """One statement outside of transactions; its rows."""
        with contextlib.closing(self.connect(database)) as c:
            c.autocommit = True
            cursor = c.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def connect(self, database: str = "postgres") -> Any:
        import pg8000

        return pg8000.connect(USER, database=database, unix_sock=str(self.folder / SOCKET))


def bin_folder() -> Path | None:
    """Where the programs of a server are."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max((path.parent for path in DEBIAN.glob("*/bin/initdb")), default=None)


@contextlib.contextmanager
def running_server() -> Iterator[Postgres]:
    """A new server; skips the test if that cannot be."""
    pytest.importorskip("pg8000", reason="needs pg8000 (extra postgres), which is not installed")
    programs = bin_folder()
    if programs is None:
        pytest.skip("needs the programs of a PostgreSQL server (initdb, postgres), which are not installed")
    as_user = _unprivileged()
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # each database is 8 MB
    folder = Path(tempfile.mkdtemp(prefix="nearfar-postgres-", dir=in_memory))
    process = None
    try:
        if as_user:
            os.chown(folder, as_user["user"], as_user["group"])
        data = folder / "data"
        arguments = ["-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [programs / "initdb", *arguments], check=True, capture_output=True, cwd=folder, timeout=PATIENCE,
            **as_user,
        )  # fmt: skip
        settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder, **as_user
            )
        server = Postgres(folder, process)
        _wait(server)
        yield server
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGQUIT)  # at once, as its data are not kept
            process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> dict[str, Any]:
    """Options of a process: a server of PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait(server: Postgres) -> None:
    import pg8000

    end = time.monotonic() + PATIENCE
    while True:
        try:
            server.run("SELECT 1")
            return
        except (OSError, pg8000.Error):
            if server.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((server.folder / "log").read_text()) from None
        time.sleep(0.02)
