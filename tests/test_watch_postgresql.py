"""A watch whose logbook is in PostgreSQL."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from postgres_server import Postgres
from watched import Logbook, Watching, evidence_is_made_here, site_of, watch, write_site  # noqa: F401

from nearfar.logbook.watcher import WATCHER
from nearfar.watching.engine import WatchError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("postgresql")
    write_site(folder)
    return folder


def test_a_server_that_ends_all_connections_meanwhile(place: Path, postgres: Postgres) -> None:
    """The logbook is that of SQLite, though all connections are lost meanwhile; a second watch is refused."""
    watch(site_of(place, place / "whole.db"))
    state = postgres.new_database()
    site = site_of(place, state, speed=30).model_copy(update={"sounds": place / "sounds"})
    with Watching(site) as watching:
        watching.until("activated", condition="anomaly")
        with pytest.raises(WatchError, match="another process watches with this logbook"):
            watch(site)
        name = state.partition("@/")[2].partition("?")[0]
        postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        watching.until("mode", told="its source has ended")
    found, expected = Logbook.of(state).lasting(), Logbook.of(place / "whole.db").lasting()
    for table in ("windows", "events", "alerts", "recordings", "conditions", "evidence"):
        assert _unnumbered(found[table]) == _unnumbered(expected[table]), table


def test_who_loses_the_lock_to_another_one_stops(place: Path, postgres: Postgres) -> None:
    """The lock goes with its connection; if nobody else has taken it, it is taken again."""
    state = postgres.new_database()
    site = site_of(place, state, speed=1).model_copy(update={"sounds": place / "sounds-2"})
    engine = sql.create_engine(state.replace("postgresql:", "postgresql+pg8000:"))
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    taken = (
        f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = {WATCHER % 2**32}"
    )
    with Watching(site) as watching:
        watching.until("mode", mode="listening")
        with engine.connect() as c:
            c.exec_driver_sql(terminate)
            c.commit()
            while not c.exec_driver_sql(taken).scalar():
                c.commit()
                time.sleep(0.05)
            assert watching.error is None
            while not c.exec_driver_sql(f"SELECT pg_try_advisory_lock({WATCHER})").scalar():
                c.exec_driver_sql(terminate)
                c.commit()
            watching.thread.join(60)
        error, watching.error = watching.error, None
    engine.dispose()
    assert isinstance(error, WatchError)
    assert "another process watches with this logbook" in str(error)


def _unnumbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without numbers of rows: those of a transaction that was lost are not given again."""
    numbers = ("id", "recording_id", "alert_id", "event_id")
    return [{name: value for name, value in row.items() if name not in numbers} for row in rows]
