"""A logbook as a database: opening, versions, one writer at a time, kills, full disks, servers that go away."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import logbooks
import pytest
import sqlalchemy as sql
from logbooks import BEGAN, HOP
from sqlalchemy.exc import OperationalError

from nearfar.files.extras import MissingPackageError
from nearfar.logbook import heard, postgresql, schema, sqlite, streams
from nearfar.logbook.database import Database
from nearfar.logbook.schema import LogbookError

if TYPE_CHECKING:
    from postgres_server import Postgres

GOLDEN = Path(__file__).parent / "golden"
PATIENCE = 60.0  # seconds


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """A file that is not there yet, or an empty database."""
    if request.param == "sqlite":
        yield tmp_path / "hall.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
        yield url
        server.drop(url)


@contextlib.contextmanager
def opened(where: Path | str) -> Iterator[Database]:
    database = Database.open(where)
    try:
        yield database
    finally:
        database.close()


def put(database: Database, number: int) -> None:
    """One window of one machine, in a transaction."""
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(number)])


def numbers(database: Database) -> list[int]:
    """Of all windows, in the order of their ids."""
    with database.reading() as c:
        return [row["number"] for row in streams.after(c, "windows", 0, most=10_000)]


# Opening


def test_what_was_written_is_there_when_it_is_opened_again(where: Path | str) -> None:
    with opened(where) as database:
        put(database, 7)
    with opened(where) as database:
        assert numbers(database) == [7]
        assert Database.open(where, make=False).close() is None


def test_a_url_of_sqlite_is_a_file(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/hall.db") as database:
        put(database, 1)
    with opened(str(tmp_path / "hall.db")) as database:
        assert numbers(database) == [1]


@pytest.mark.parametrize("name", ["a b.db", "100% #1?.db", "Ü.db", "L\udcfcfter.db", "new/folder/hall.db"])
def test_any_name_of_a_file(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / name) as database:
        put(database, 1)
    assert (tmp_path / name).is_file()
    with opened(tmp_path / name) as database:
        assert numbers(database) == [1]


def test_many_open_a_new_one_at_the_same_time(where: Path | str) -> None:
    made: list[Database] = []
    errors: list[BaseException] = []

    def make() -> None:
        try:
            made.append(Database.open(where))
        except BaseException as error:
            errors.append(error)

    _at_once([make] * 6)
    assert not errors
    for number, database in enumerate(made):
        put(database, number)
    assert numbers(made[0]) == list(range(6))
    for database in made:
        database.close()


def test_every_connection_to_a_file_has_its_settings(tmp_path: Path) -> None:
    with opened(tmp_path / "hall.db") as database:
        for connected, only_reads in ((database.writing, 0), (database.reading, 1)):
            with connected() as c:
                found = {
                    name: c.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                    for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only")
                }
            assert found == {
                "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 60000,
                "query_only": only_reads,
            }  # fmt: skip


def test_one_that_is_not_there_is_not_made_if_it_is_only_looked_for(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(FileNotFoundError, match=r"hall\.db: there is no logbook; `nearfar watch` makes it"):
        Database.open(tmp_path / "hall.db", make=False)
    assert not (tmp_path / "hall.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(
        FileNotFoundError, match=r"empty\.db: there is no logbook yet; `nearfar watch` makes it"
    ):
        Database.open(tmp_path / "empty.db", make=False)
    with opened(tmp_path / "empty.db") as database:
        put(database, 1)
    url = request.getfixturevalue("postgres").new_database()
    with pytest.raises(FileNotFoundError, match="there is no logbook yet; `nearfar watch` makes it"):
        Database.open(url, make=False)


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    path.write_text("name = 'Hall 3'\n" * 100)
    with pytest.raises(LogbookError, match=r"hall\.db: is no logbook, but a file of another kind"):
        Database.open(path)
    assert path.read_text() == "name = 'Hall 3'\n" * 100


@pytest.mark.parametrize("table", ["pictures (id INTEGER)", "logbook (id INTEGER)"])
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, table: str) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as c:
        c.execute(f"CREATE TABLE {table}")
    with pytest.raises(LogbookError, match=r"other\.db: is no logbook, but a database of another program"):
        Database.open(path)
    with contextlib.closing(sqlite3.connect(path)) as c:
        assert [f"{name} (id INTEGER)" for (name,) in c.execute("SELECT name FROM sqlite_master")] == [table]


def test_tables_of_another_program_in_postgresql_are_left_as_they_are(postgres: Postgres) -> None:
    url = postgres.new_database()
    name = sql.make_url(url).database
    assert name is not None
    postgres.run("CREATE TABLE unrelated (id INTEGER)", name)
    Database.open(url).close()
    url = postgres.new_database()
    name = sql.make_url(url).database
    assert name is not None
    postgres.run("CREATE TABLE events (id INTEGER)", name)
    with pytest.raises(LogbookError, match="another program has the tables events; choose another database"):
        Database.open(url)


def test_a_folder_and_what_lies_below_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder; the logbook is a file: choose another name"):
        Database.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file, not a folder; choose another name"):
        Database.open(tmp_path / "file" / "hall.db")


def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "hall.db"):
        pass
    monkeypatch.setattr(
        os, "access", lambda path, _mode: Path(path).name == "hall.db"
    )  # root may write anywhere
    with pytest.raises(PermissionError, match=r"hall\.db: make the file and its folder writable"):
        Database.open(tmp_path / "hall.db")
    with pytest.raises(PermissionError, match=r"new\.db: .* cannot be written to; choose another place"):
        Database.open(tmp_path / "new.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@host:port/x", r"postgresql://\.\.\.: no URL of a database"),
        ("nosuch://me:secret@host/x", "a logbook is a file of SQLite, given as its path"),
        (
            "mysql://me:secret@host/x",
            "a logbook is a file of SQLite, given as its path, or a database of Postg",
        ),
        ("sqlite://", "a logbook is a file of SQLite, given as its path"),
        ("sqlite:///:memory:", "a logbook is a file of SQLite, given as its path"),
        ("sqlite:///hall.db?mode=ro", "a logbook is a file of SQLite, given as its path"),
    ],
)
def test_other_urls_are_refused_and_passwords_are_not_told(url: str, message: str) -> None:
    with pytest.raises(LogbookError, match=message) as raised:
        Database.open(url)
    assert "secret" not in str(raised.value)


def test_postgresql_needs_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(MissingPackageError, match=r"needs pg8000, .*pip install 'nearfar\[postgres\]'"):
        Database.open("postgresql://me@localhost/hall")


# Versions


def test_the_tables_are_those_of_their_version(tmp_path: Path) -> None:
    """Whoever changes a table raises ``schema.VERSION``, writes a migration, and adds the golden file of it."""
    with opened(tmp_path / "hall.db"):
        pass
    golden = GOLDEN / f"logbook_{schema.VERSION}.sql"
    assert _tables_of(tmp_path / "hall.db") == golden.read_text()
    assert len(schema.MIGRATIONS) == schema.VERSION - 1


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_logbook_of_each_version_becomes_the_newest(tmp_path: Path, version: int) -> None:
    path = tmp_path / "hall.db"
    with contextlib.closing(sqlite3.connect(path)) as c:
        c.executescript((GOLDEN / f"logbook_{version}.sql").read_text())
        c.execute("INSERT INTO logbook (version, made_at, nearfar) VALUES (?, 0, 'older')", (version,))
        c.commit()
    with opened(path) as database:
        put(database, 1)
        assert _version(database) == schema.VERSION
    with opened(tmp_path / "new.db"):
        pass
    assert {*_columns_of(path)} == {*_columns_of(tmp_path / "new.db")}


def add_room(c: sql.Connection) -> None:
    c.exec_driver_sql("ALTER TABLE machines ADD COLUMN room TEXT")
    c.exec_driver_sql("UPDATE machines SET room = 'hall'")


def make_machines_anew(c: sql.Connection) -> None:
    """The only way of SQLite to change a column; windows refer to these rows meanwhile."""
    if c.dialect.name == "postgresql":
        c.exec_driver_sql("ALTER TABLE machines ALTER COLUMN room SET NOT NULL")
        return
    c.exec_driver_sql(
        "CREATE TABLE anew (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, room TEXT NOT NULL)"
    )
    c.exec_driver_sql("INSERT INTO anew SELECT id, name, room FROM machines")
    c.exec_driver_sql("DROP TABLE machines")
    c.exec_driver_sql("ALTER TABLE anew RENAME TO machines")


def lose_machines(c: sql.Connection) -> None:
    c.exec_driver_sql("DELETE FROM machines")


def fail(c: sql.Connection) -> None:
    c.exec_driver_sql("CREATE TABLE half_done (id INTEGER)")
    raise ValueError("something else went wrong")


def test_an_older_logbook_is_brought_up_to_date_step_by_step(
    where: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(where) as database:
        put(database, 3)
    monkeypatch.setattr(schema, "VERSION", 3)
    monkeypatch.setattr(schema, "MIGRATIONS", (add_room, make_machines_anew))
    with opened(where) as database:
        assert _version(database) == 3
        assert numbers(database) == [3]
        with database.reading() as c:
            assert c.exec_driver_sql("SELECT name, room FROM machines").fetchall() == [("pump 1", "hall")]
    Database.open(where).close()  # once is enough


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (fail, ValueError, "something else went wrong"),
        (lose_machines, (LogbookError, sql.exc.DBAPIError), "would refer to what is not there|foreign key"),
    ],
)
def test_a_step_that_fails_leaves_the_older_logbook_as_it_was(
    where: Path | str, monkeypatch: pytest.MonkeyPatch, step: Any, error: Any, message: str
) -> None:
    with opened(where) as database:
        put(database, 3)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "VERSION", 3)
        patched.setattr(schema, "MIGRATIONS", (add_room, step))
        with pytest.raises(error, match=message):
            Database.open(where)
    with opened(where) as database:
        assert (_version(database), numbers(database)) == (1, [3])
        with database.reading() as c:
            assert "room" not in {column["name"] for column in sql.inspect(c).get_columns("machines")}
            assert not sql.inspect(c).has_table("half_done")


def test_a_newer_logbook_is_refused_and_left_as_it_is(where: Path | str) -> None:
    with opened(where) as database:
        put(database, 3)
        with database.writing() as c:
            c.execute(sql.update(schema.logbook).values(version=99))
    with pytest.raises(
        LogbookError, match=r"tables have version 99; this nearfar, .*, knows versions up to 1"
    ):
        Database.open(where)


# One writes at a time


def test_numbers_can_be_seen_in_their_order_whoever_writes(where: Path | str) -> None:
    """Whoever has read up to a number has missed nothing, while several write through connections of their own."""
    databases = [Database.open(where) for _ in range(3)]
    with databases[0].writing() as c:
        machine, recording = logbooks.machine(c)
    each, seen = 15, list[int]()

    def write(database: Database, first: int) -> None:
        for number in range(first, first + each):
            with database.writing() as c:
                heard.add_windows(c, machine.id, recording.id, [logbooks.window(number)])
                time.sleep(random.random() / 500)  # the one who comes next would overtake it
                heard.add_windows(c, machine.id, recording.id, [logbooks.window(number + 10_000)])

    def follow() -> None:
        last, end = 0, time.monotonic() + PATIENCE
        while len(seen) < 2 * 4 * each and time.monotonic() < end:
            with databases[0].reading() as c:
                rows = streams.after(c, "windows", last, most=10_000)
            last = rows[-1]["id"] if rows else last
            seen.extend(row["number"] for row in rows)

    writers = [
        lambda number=number: write(databases[number % 3], 1000 * number)  # type: ignore[misc]
        for number in range(4)
    ]
    _at_once([follow, *writers])
    expected = {1000 * n + k + extra for n in range(4) for k in range(each) for extra in (0, 10_000)}
    assert len(seen) == len(expected)
    assert {*seen} == expected
    for database in databases:
        database.close()


def test_a_reader_sees_one_moment_and_does_not_wait(where: Path | str) -> None:
    with opened(where) as database, opened(where) as other:
        put(database, 1)
        with database.reading() as c:
            assert len(streams.after(c, "windows", 0, most=10)) == 1
            put(other, 2)
            put(database, 3)
            assert len(streams.after(c, "windows", 0, most=10)) == 1
        assert numbers(database) == [1, 2, 3]
        with database.writing() as c:
            machine, recording = logbooks.machine(c)
            heard.add_windows(c, machine.id, recording.id, [logbooks.window(4)])
            assert numbers(database) == [1, 2, 3]


def test_a_reader_cannot_write(where: Path | str) -> None:
    with (
        opened(where) as database,
        pytest.raises(Exception, match=r"readonly database|read-only transaction|cannot execute INSERT"),
        database.reading() as c,
    ):
        logbooks.machine(c)


def test_what_raises_has_never_been(where: Path | str) -> None:
    with opened(where) as database:
        put(database, 1)

        def fail() -> None:
            with database.writing() as c:
                machine, recording = logbooks.machine(c)
                heard.add_windows(c, machine.id, recording.id, [logbooks.window(2)])
                raise KeyError("oops")

        with pytest.raises(KeyError, match="oops"):
            fail()
        put(database, 3)
        assert numbers(database) == [1, 3]


def test_one_who_writes_within_writing_would_wait_for_himself(where: Path | str) -> None:
    with opened(where) as database:
        with (
            pytest.raises(RuntimeError, match="this thread is writing to the logbook already"),
            database.writing(),
            database.writing(),
        ):
            pass
        put(database, 1)
        assert numbers(database) == [1]


def test_one_who_writes_for_too_long_is_told_by_the_others(
    where: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite, postgresql):
        monkeypatch.setattr(module, "PATIENCE", 0.2)
    monkeypatch.setattr(sqlite, "PRAGMAS", ("PRAGMA busy_timeout = 200",))
    with opened(where) as database, opened(where) as other:
        with (
            database.writing(),
            pytest.raises(TimeoutError, match=r"another process has been writing for more than 0\.2 s; wait"),
        ):
            put(other, 1)
        put(other, 2)
        assert numbers(database) == [2]


def test_many_threads_read_and_write(where: Path | str) -> None:
    with opened(where) as database:
        found: list[int] = []

        def work(number: int) -> None:
            put(database, number)
            found.append(len(numbers(database)))

        _at_once([lambda n=n: work(n) for n in range(24)])  # type: ignore[misc]
        assert sorted(numbers(database)) == list(range(24))
        assert len(found) == 24


def test_whether_something_has_changed(where: Path | str) -> None:
    with opened(where) as database, opened(where) as other:
        before = database.changed()
        assert database.changed() == before
        with database.reading() as c:
            streams.newest(c, "windows")
        assert database.changed() == before
        put(other, 1)
        after_other = database.changed()
        assert after_other != before
        put(database, 2)
        assert database.changed() != after_other


# Kills, full disks, servers that go away

WRITER = """
import os
import sys
sys.path.insert(0, sys.argv[2])
import logbooks
from pathlib import Path
from nearfar.logbook import heard
from nearfar.logbook.database import Database

where = sys.argv[1]
for _ in sys.stdin:  # each line asks for a process that writes until it is killed
    pid = os.fork()
    if pid == 0:
        break
    print(-pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
else:
    sys.exit()
database = Database.open(where if "://" in where else Path(where))
while True:
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        for number in range(recording.next_window, recording.next_window + 3):
            heard.add_windows(c, machine.id, recording.id, [logbooks.window(number)])
        heard.save_progress(c, machine.id, recording.id, next_window=number + 1, steps={"heard": number + 1},
                            latest=logbooks.latest(number), now=logbooks.NOW)
    print(number + 1, flush=True)
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_said_to_be_written(where: Path | str) -> None:
    arguments = [sys.executable, "-c", WRITER, str(where), str(Path(__file__).parent)]
    said, chance = 0, random.Random(0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, text=True, bufsize=1, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            process.stdin.write("write\n")
            pid, wrote = 0, False
            for line in process.stdout:
                pid, said = (-int(line), said) if int(line) < 0 else (pid, int(line))
                wrote = wrote or int(line) > 0
                if pid and wrote and chance.random() < 0.1:
                    break
            time.sleep(chance.random() / 100)
            os.kill(pid, signal.SIGKILL)
            rest = [line.strip() for line in iter(process.stdout.readline, "ended\n")]
            said = int(rest[-1]) if rest else said
            with opened(where) as database:
                with database.writing() as c:
                    machine, recording = logbooks.machine(c)
                kept = numbers(database)
            assert said <= recording.next_window <= said + 3
            assert kept == list(range(recording.next_window))
            assert machine.steps == {"heard": recording.next_window}
            assert machine.heard_until_at == BEGAN + HOP * recording.next_window
        process.stdin.close()
        assert not process.stderr.read()
    assert said > 0
    if isinstance(where, Path):
        with contextlib.closing(sqlite3.connect(where)) as c:
            assert c.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert c.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_full_disk_is_told_loses_nothing_and_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    with opened(path) as database:
        put(database, 0)
        with database.writing() as c:
            pages = c.exec_driver_sql("PRAGMA page_count").scalar_one()
            c.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match=rf"{os.strerror(errno.ENOSPC)}: '{path}'") as raised:
            fill(database)
        assert raised.value.errno == errno.ENOSPC
        assert numbers(database) == [0]
        with database.writing() as c:
            c.exec_driver_sql("PRAGMA max_page_count = 1000000")
        put(database, 1)
        assert numbers(database) == [0, 1]


def test_a_file_that_may_not_grow_is_told_loses_nothing_and_is_gone_on_with(tmp_path: Path) -> None:
    """The operating system refuses, as of a quota."""
    path = tmp_path / "hall.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(path) as database:
        put(database, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, before[1]))
        try:
            with pytest.raises(OSError, match=rf"see what is wrong with the disk: '{path}'"):
                fill(database)
            assert numbers(database) == [0]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        put(database, 1)
        assert numbers(database) == [0, 1]
    with opened(path) as database:
        assert numbers(database) == [0, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    with opened(small_disk / "hall.db") as database:
        put(database, 0)
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(OSError, match=rf"{os.strerror(errno.ENOSPC)}: '{small_disk}/hall\.db'"):
            fill(database)
        assert numbers(database) == [0]
        ballast.unlink()
        put(database, 1)
        assert numbers(database) == [0, 1]


def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    with opened(path) as database:
        fill(database)
    content = bytearray(path.read_bytes())
    content[8192:] = bytes(random.Random(0).randbytes(len(content) - 8192))
    path.write_bytes(content)
    with (
        pytest.raises(LogbookError, match=r"damaged .*put the last backup in its place"),
        opened(path) as database,
    ):
        numbers(database)


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_file_that_is_taken_away_is_told(tmp_path: Path, change: str) -> None:
    """Else SQLite would write to a file that has no name any more, and say nothing."""
    path = tmp_path / "hall.db"
    with opened(path) as database:
        put(database, 0)
        path.rename(tmp_path / "moved.db")
        if change == "replaced":
            path.touch()
        with pytest.raises(FileNotFoundError, match="was moved, removed or replaced while it was in use"):
            put(database, 1)


def test_a_backup_that_is_made_while_windows_are_written_is_whole(tmp_path: Path) -> None:
    with opened(tmp_path / "hall.db") as database:
        put(database, 0)
        with contextlib.closing(sqlite3.connect(tmp_path / "hall.db")) as c:
            c.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
        put(database, 1)
    with opened(tmp_path / "copy.db") as copy:
        assert numbers(copy) == [0]
        put(copy, 1)


def test_a_server_that_ends_connections_is_told_and_found_again(postgres: Postgres) -> None:
    url = postgres.new_database()
    name = sql.make_url(url).database
    end_all = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    with opened(url) as database:
        put(database, 0)
        before = database.changed()

        def write_while_it_ends() -> None:
            with database.writing() as c:
                machine, recording = logbooks.machine(c)
                heard.add_windows(c, machine.id, recording.id, [logbooks.window(1)])
                postgres.run(end_all)
                heard.add_windows(c, machine.id, recording.id, [logbooks.window(2)])

        with pytest.raises(ConnectionError, match="see whether the server runs and can be reached"):
            write_while_it_ends()
        assert numbers(database) == [0]
        postgres.run(end_all)
        put(database, 3)
        assert numbers(database) == [0, 3]
        assert database.changed() != before


def test_a_server_that_is_not_there_and_a_database_that_is_not(postgres: Postgres, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="see whether the server runs and can be reached"):
        Database.open(f"postgresql://me:secret@/hall?unix_sock={tmp_path}/no-socket")
    with pytest.raises(LogbookError, match=r'database "nosuch" does not exist; make it with createdb'):
        Database.open(postgres.url("nosuch"))


def test_a_refusal_is_told_though_the_server_has_hung_up(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver takes leave, and raises what this raises; which of both is quicker is chance."""
    core = pytest.importorskip("pg8000.core")
    close = core.CoreConnection.close

    def too_late(connection: Any) -> None:
        close(connection)
        try:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        except OSError as error:
            raise core.InterfaceError("network error") from error

    monkeypatch.setattr(core.CoreConnection, "close", too_late)
    with pytest.raises(LogbookError, match=r'database "nosuch" does not exist; make it with createdb'):
        Database.open(postgres.url("nosuch"))


def test_one_who_may_not_write_is_told(postgres: Postgres) -> None:
    url = postgres.new_database()
    Database.open(url).close()
    postgres.run("CREATE ROLE guest LOGIN")
    with pytest.raises(PermissionError, match=r"permission denied .*what they may do"):
        Database.open(url.replace("nearfar@", "guest@"))


def test_another_driver_of_postgresql(postgres: Postgres) -> None:
    pytest.importorskip("psycopg")
    name = sql.make_url(postgres.new_database()).database
    url = f"postgresql+psycopg://nearfar@/{name}?host={postgres.folder}"
    with opened(url) as database:
        put(database, 1)
        assert numbers(database) == [1]
        assert database.changed()
    with pytest.raises(ConnectionError, match='database "nosuch" does not exist'):
        Database.open(url.replace(str(name), "nosuch"))


def test_an_error_of_a_statement_stays_what_it_is(where: Path | str) -> None:
    with (
        opened(where) as database,
        pytest.raises((OperationalError, sql.exc.ProgrammingError), match="no_such_table"),
        database.reading() as c,
    ):
        c.exec_driver_sql("SELECT * FROM no_such_table")


# Disks on a network


def test_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        f"35 22 {os.major(device)}:{os.minor(device)} / /mnt/hall rw shared:7 - nfs4 nas:/hall rw,vers=4.2\n"
    )
    monkeypatch.setattr(sqlite, "MOUNTS", mounts)
    with opened(tmp_path / "hall.db"):
        pass
    assert "lies on a network file system (nfs4)" in caplog.text


@pytest.mark.parametrize(
    ("device", "kind"), [("0:46", "nfs4"), ("0:47", "cifs"), ("254:1", None), ("9:9", None), ("0:48", None)]
)
def test_the_kind_of_a_file_system(device: str, kind: str | None) -> None:
    mounts = [
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw",
        "35 22 0:46 / /mnt/a rw,relatime - nfs4 nas:/a rw",
        "36 22 0:47 / /mnt/b rw,relatime shared:9 master:3 - cifs //nas/b rw",
        "37 22 0:48 /x /mnt/c rw - fuse.something x rw",
    ]
    assert sqlite.network_kind(device, mounts) == kind


# Helpers


def fill(database: Database) -> None:
    """A megabyte, in one transaction."""
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        rows = [logbooks.window(number, told="x" * 1000) for number in range(1, 1001)]
        heard.add_windows(c, machine.id, recording.id, rows)


def _at_once(tasks: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def _version(database: Database) -> int:
    with database.reading() as c:
        return int(c.execute(sql.select(schema.logbook.c.version)).scalar_one())


def _tables_of(path: Path) -> str:
    """The statements that make the tables of a file."""
    with contextlib.closing(sqlite3.connect(path)) as c:
        rows = c.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
            "ORDER BY type DESC, name"
        )
        return "".join(f"{' '.join(statement.split())};\n" for (statement,) in rows)


def _columns_of(path: Path) -> list[tuple[Any, ...]]:
    """Tables, and what their columns are, in whatever order."""
    with contextlib.closing(sqlite3.connect(path)) as c:
        names = [name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(name, *row[1:]) for name in names for row in c.execute(f"PRAGMA table_info({name})")]


def changed(path: Path, statement: str) -> None:
    """A logbook with a window and an event, after somebody else's statement."""
    with opened(path) as database:
        put(database, 0)
        with database.writing() as c:
            machine, recording = logbooks.machine(c, "pump 2")
            told = logbooks.event()
            heard.add_event(c, machine.id, recording.id, told, began_at=0.0, sound=None, now=30.0)
    with contextlib.closing(sqlite3.connect(path)) as c:
        c.execute(statement)
        c.commit()


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE windows RENAME COLUMN score TO other", "DROP TABLE windows"],
)
def test_a_file_without_the_tables_of_a_logbook_is_damaged(tmp_path: Path, statement: str) -> None:
    changed(tmp_path / "hall.db", statement)
    with (
        opened(tmp_path / "hall.db") as database,
        pytest.raises(LogbookError, match=r"hall\.db: damaged .*put the last backup"),
    ):
        numbers(database)


def test_a_column_that_should_hold_json_is_damaged(tmp_path: Path) -> None:
    changed(tmp_path / "hall.db", "UPDATE journal SET content = 'no JSON'")
    with (
        opened(tmp_path / "hall.db") as database,
        pytest.raises(LogbookError, match=r"hall\.db: damaged .*put the last backup"),
        database.reading() as c,
    ):
        streams.after(c, "journal", 0, most=100)


def test_a_version_that_is_no_number_is_damaged(tmp_path: Path) -> None:
    changed(tmp_path / "hall.db", "UPDATE logbook SET version = x'00'")
    with pytest.raises(
        LogbookError, match=r"hall\.db: does not say its version, so it is no logbook, or damaged"
    ):
        Database.open(tmp_path / "hall.db")


def test_a_damaged_name_of_a_table_is_told_with_the_file(tmp_path: Path) -> None:
    """SQLite cites it in a message, which Python cannot decode."""
    Database.open(tmp_path / "hall.db").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "hall.db")) as c:
        c.execute("PRAGMA writable_schema = ON")
        c.execute(
            "UPDATE sqlite_master SET sql = CAST(x'435245415445205441424c4520ff80' AS TEXT) WHERE type = 'table'"
        )
        c.commit()
    with pytest.raises(LogbookError, match=r"hall\.db: damaged .*put the last backup"):
        Database.open(tmp_path / "hall.db")
