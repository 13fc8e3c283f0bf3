"""Whether a program watches with a logbook, as another process sees it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from postgres_server import Postgres

from nearfar.files.locks import is_locked, locked
from nearfar.logbook.database import Database
from nearfar.logbook.watcher import WatchedError, alone, is_watched

WATCHER = """
import sys
from nearfar.logbook.database import Database
from nearfar.logbook.watcher import alone
with alone(Database.open(sys.argv[1])):
    print("alone", flush=True)
    sys.stdin.read()
"""


def killed_watcher(state: str | Path, database: Database) -> None:
    """A process watches, is seen, keeps others away, and is killed."""
    command = [sys.executable, "-c", WATCHER, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "alone\n"
        assert is_watched(database)
        with pytest.raises(WatchedError, match="another process watches with this logbook"), alone(database):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_watcher_is_seen_until_it_is_killed(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "hall.db")
    assert not is_watched(database)  # none has ever watched
    killed_watcher(tmp_path / "hall.db", database)
    assert not is_watched(database)
    with alone(database):
        assert is_watched(database)
    assert not is_watched(database)
    database.close()


def test_a_watcher_of_postgresql_is_seen_until_it_is_killed(postgres: Postgres) -> None:
    state = postgres.new_database()
    database = Database.open(state)
    other = Database.open(postgres.new_database())
    with alone(other):
        assert not is_watched(database)  # the lock is that of one database
    killed_watcher(state, database)
    for _ in range(1000):  # the server ends what was locked when it sees that nobody is there
        if not is_watched(database):
            break
    assert not is_watched(database)
    database.close()
    other.close()


def test_whoever_looks_does_not_keep_a_watcher_from_starting(tmp_path: Path) -> None:
    """The one who looks has the lock for a moment; a watcher waits that long."""
    lock = tmp_path / "hall.db-watch.lock"
    database = Database.open(tmp_path / "hall.db")
    with locked(lock):
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(tmp_path / "hall.db")], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "alone\n"
    assert is_locked(lock)
    process.communicate("")
    assert process.returncode == 0
    database.close()
