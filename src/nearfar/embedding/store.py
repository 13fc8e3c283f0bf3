"""The embedding store: what encoders made of recordings, kept under everything that it depends on.

Conventions
-----------
An embedding is a float32 array of any shape. Its ``Origin`` says what made it, its ``Key`` of what: the recording,
by the SHA-256 of its file, the block and the pooling. All embeddings of one origin lie on one *shelf*, a file to
which arrays are only appended; ``index.sqlite`` knows where each one begins, and its checksum. So there are as many
files as origins, however many embeddings.

An embedding is in the store from the moment when the index names it, which it does in one transaction, after the
array is on disk. What a killed process leaves at the end of a shelf is seen by nobody, and overwritten by the next
writer. One process writes at a time, the others wait; any number reads.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import math
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearfar import __version__
from nearfar.encoders import ENCODERS
from nearfar.files.atomic import no_space_names, refuse_unwritable, remove_folder
from nearfar.files.digests import digest
from nearfar.files.provenance import code_digest
from nearfar.files.steps import Jobs, default_cache

FORMAT = 1
FOLDER, INDEX, SHELF = "embeddings", "index.sqlite", ".f32"  # the folder in the cache, and the files in it
VIEWS_AND_POOLING = "nearfar.embedding.embeddings"  # the module
PATIENCE = 60.0  # seconds to wait for another process that writes
SECONDS_A_DAY = 86400.0
VERIFIED_AT_ONCE = 1000  # embeddings; in between, others may write
TABLES = (
    "CREATE {}TABLE shelves (number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT UNIQUE, size INTEGER)",
    "CREATE {}TABLE embeddings (number INTEGER PRIMARY KEY AUTOINCREMENT, shelf INTEGER, audio BLOB, "
    "block INTEGER, pooling TEXT, start INTEGER, size INTEGER, shape TEXT, checksum BLOB, "
    "UNIQUE (shelf, audio, block, pooling))",
)
PLACE = "start, size, shape, checksum"  # the columns of a ``_Place``
SHA256 = re.compile("[0-9a-f]{64}")
REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)

Array = NDArray[np.float32]

logger = logging.getLogger(__name__)


class Key(NamedTuple):
    """Of what an embedding is.

    Attributes
    ----------
    audio : str
        SHA-256 of the recording's file, in hexadecimal.
    block : int
        Of the encoder.
    pooling : str
    """

    audio: str
    block: int
    pooling: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What makes an embedding of a recording.

    Attributes
    ----------
    encoder : str
    microphone : str
        The microphone view that it hears.
    code : str
        Digest of the code that computes, as of ``current_code``.
    weights : str or None
        SHA-256 of the encoder's weights, if they come from a file, ``+`` that of an adapter.
    precision : str
        In which it computes; what is kept is float32.
    options : mapping
        Of the encoder, as JSON can say them.
    """

    encoder: str
    microphone: str
    code: str
    weights: str | None = None
    precision: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """What the store has of one origin.

    Attributes
    ----------
    origin : Origin
    entries : int
    size : int
        Bytes on disk.
    unused_days : float
        Since it was last read or written; a day's reads are noted once.
    """

    origin: Origin
    entries: int
    size: int
    unused_days: float

    @property
    def is_current(self) -> bool:
        """Whether the code that made it is the code that is installed."""
        return self.origin.code == current_code(self.origin.encoder)


@dataclass(frozen=True, slots=True)
class DamagedEmbedding:
    """Something that is damaged.

    Attributes
    ----------
    path : Path
    what : str
    number : int or None
        Of the embedding in the index; ``None`` for the index itself.
    """

    path: Path
    what: str
    number: int | None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class _Place(NamedTuple):
    """Where an embedding lies on its shelf; a damaged index may say anything here."""

    start: Any
    size: Any
    shape: Any
    checksum: Any


class Store:
    """Embeddings on disk, for any number of processes.

    It holds nothing open between calls, and may be sent to other processes. Each method raises ``ValueError`` if
    what is there is of a newer format, and ``OSError`` if the index is damaged beyond reading, or another process
    does not stop writing.

    Parameters
    ----------
    root : Path or None
        The cache, in which the store is a folder, made when first written to; ``None``: ``default_cache()``.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.folder = (default_cache() if root is None else root) / FOLDER
        self.index = self.folder / INDEX

    def get(self, origin: Origin, keys: Iterable[Key]) -> dict[Key, Array]:
        """Those embeddings that are there, read-only; ask for many at once, since each call opens the store.

        A damaged one counts as absent, with a warning in the log.
        """
        with self._reading() as index:
            shelf = _shelf(index, origin)
            if shelf is None:
                return {}
            path = self._path(shelf)
            places = _places(index, shelf, keys)
            data = _open(path)  # nobody can remove what was opened before the transaction ends
        with data:
            found = _whole(data, places)
        if damaged := len(places) - len(found):
            logger.warning(
                "%s: %d of %d embeddings are damaged and count as absent; `nearfar cache verify` lists them",
                path, damaged, len(places),
            )  # fmt: skip
        _note_use(path)
        return found

    def put(self, origin: Origin, embeddings: Mapping[Key, Array]) -> None:
        """Add embeddings: all of them or, if this raises or is killed, none. What is there, and whole, stays.

        Other writers wait meanwhile, so put hundreds at once, but not gigabytes.

        Raises
        ------
        ValueError
            If one is not float32, or its ``audio`` is no SHA-256.
        PermissionError
            If the folder cannot be written to.
        OSError
            If the disk is full.
        """
        _refuse_unfit(embeddings)
        with self._writing() as index:
            shelf = _shelf(index, origin) or _new_shelf(index, origin)
            path = self._path(shelf)
            with _open(path) as data:
                there = _whole(data, _places(index, shelf, embeddings))
            new = {key: array for key, array in embeddings.items() if key not in there}
            if new:
                (end,) = index.execute("SELECT size FROM shelves WHERE number = ?", (shelf,)).fetchone()
                if not isinstance(end, int) or end < 0:
                    raise self._damaged(f"a shelf of size {end!r}")
                places = _append(path, end, new)
                _enter(index, shelf, places)

    def contents(self) -> list[Content]:
        """What is in the store, in the order in which it was begun."""
        with self._reading() as index:
            rows = index.execute(
                "SELECT shelves.number, origin, count(embeddings.number) FROM shelves "
                "LEFT JOIN embeddings ON shelf = shelves.number GROUP BY shelves.number"
            ).fetchall()
            return [self._content(*row) for row in rows]

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[DamagedEmbedding]:
        """Read everything, and tell what is damaged.

        Parameters
        ----------
        progress : callable or None
            Called with how many embeddings are read, and how many there are.
        """
        with self._reading() as index:
            (said,) = index.execute("PRAGMA integrity_check(1)").fetchone()
            (total,) = index.execute("SELECT count(*) FROM embeddings").fetchone()
        problems = (
            [] if said == "ok" else [DamagedEmbedding(self.index, f"the index is damaged: {said}", None)]
        )
        last, done = 0, 0
        while rows := self._verify_after(last, problems):
            last, done = rows[-1], done + len(rows)
            if progress is not None:
                progress(done, max(done, total))
        return problems

    def drop_damaged(self) -> list[DamagedEmbedding]:
        """Take what ``verify`` finds out of the store, and mend the index."""
        problems = self.verify()
        if problems:
            with self._writing() as index:
                index.execute("REINDEX")
                rows = [(problem.number,) for problem in problems]
                index.executemany("DELETE FROM embeddings WHERE number = ?", rows)
        return problems

    def remove(self, origins: Iterable[Origin]) -> None:
        """Take all embeddings of these origins out of the store, and what killed processes left."""
        if not self.index.is_file():
            return
        with self._writing() as index:
            for shelf in [_shelf(index, origin) for origin in origins]:
                index.execute("DELETE FROM embeddings WHERE shelf = ?", (shelf,))
                index.execute("DELETE FROM shelves WHERE number = ?", (shelf,))
        with self._writing() as index:  # only now is it certain that the index names them no more
            numbers = index.execute("SELECT number FROM shelves").fetchall()
            for path in {*self.folder.glob(f"*{SHELF}")} - {self._path(shelf) for (shelf,) in numbers}:
                path.unlink()
        with self._connected(self.index) as index:
            index.execute("VACUUM")

    def _path(self, shelf: int) -> Path:
        return self.folder / f"{shelf!s:0>6}{SHELF}"

    def _content(self, shelf: int, origin: str, entries: int) -> Content:
        try:
            made_by = Origin(**json.loads(origin))
        except (ValueError, TypeError) as error:
            raise self._damaged(f"origin {origin!r}") from error
        path = self._path(shelf)
        if not path.exists():
            return Content(made_by, entries, 0, math.inf)
        status = path.stat()
        return Content(made_by, entries, status.st_size, (time.time() - status.st_mtime) / SECONDS_A_DAY)

    def _verify_after(self, last: int, problems: list[DamagedEmbedding]) -> list[int]:
        """The numbers of the embeddings that follow, at most ``VERIFIED_AT_ONCE``; adds their problems."""
        with ExitStack() as opened:
            with self._reading() as index:
                rows = index.execute(
                    f"SELECT number, shelf, lower(hex(audio)), block, pooling, {PLACE} FROM embeddings "
                    "WHERE number > ? ORDER BY number LIMIT ?",
                    (last, VERIFIED_AT_ONCE),
                ).fetchall()
                files = {s: opened.enter_context(_open(self._path(s))) for s in {row[1] for row in rows}}
            numbers = [row[0] for row in rows]
            if [last, *numbers] != sorted(
                {last, *numbers}
            ):  # else the next ones might be these again, for ever
                raise self._damaged("its rows are out of order")
            for number, shelf, *columns in rows:
                key, place = Key(*columns[:3]), _Place(*columns[3:])
                if not _whole(files[shelf], {key: place}):
                    what = f"damaged: block {key.block}, {key.pooling}, of the recording {key.audio}"
                    problems.append(DamagedEmbedding(self._path(shelf), what, number))
        return numbers

    # The index

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The index as it is at one moment; an empty one if there is none yet."""
        place = self.index if self.index.is_file() else ":memory:"
        with self._connected(place) as index:
            index.execute("BEGIN")
            if self._format(index) == 0:
                _make_tables(index, "TEMP ")
            yield index

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The index in a transaction, in which this process alone writes to the store."""
        refuse_unwritable(self.index)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._connected(self.index) as index:
            index.execute("BEGIN IMMEDIATE")
            if self._format(index) == 0:
                _make_tables(index, "")
                index.execute(f"PRAGMA user_version = {FORMAT}")
            yield index
            index.execute("COMMIT")

    @contextmanager
    def _connected(self, place: Path | str) -> Iterator[sqlite3.Connection]:
        """Autocommit mode; whatever SQLite raises becomes an error of ours."""
        try:
            with closing(sqlite3.connect(place, timeout=PATIENCE, isolation_level=None)) as index:
                index.text_factory = _text
                yield index
        except sqlite3.Error as error:
            if not hasattr(error, "sqlite_errorcode"):  # not of the file
                raise
            raise self._told(error, error.sqlite_errorcode & 0xFF) from error
        except UnicodeDecodeError as error:  # in a message of SQLite, which cites what is there
            raise self._damaged(str(error)) from error

    def _told(self, error: sqlite3.Error, code: int) -> OSError:
        """An error of the index, by its primary code, as one of ours, with what to do."""
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.index))
        if code == sqlite3.SQLITE_BUSY:
            return TimeoutError(
                f"{self.index}: another process has been writing for more than {PATIENCE:g} s; wait for its "
                "end, or end it, and run again"
            )
        if code in REFUSED:
            return PermissionError(f"{self.index}: {error}; make it writable, or choose another cache")
        if code == sqlite3.SQLITE_IOERR:
            return OSError(f"{self.index}: {error}; see what is wrong with the disk, and run again")
        return self._damaged(str(error))

    def _damaged(self, what: str) -> OSError:
        return OSError(
            f"{self.index}: damaged ({what}); try `nearfar cache clean --damaged`, else remove {self.folder}: "
            "embeddings are computed again"
        )

    def _format(self, index: sqlite3.Connection) -> int:
        """Of what is there, 0 if it is empty."""
        (written,) = index.execute("PRAGMA user_version").fetchone()
        if written > FORMAT:
            raise ValueError(
                f"{self.folder}: a store of format {written}; this nearfar {__version__} reads up to format "
                f"{FORMAT}: install a newer nearfar, or choose another cache"
            )
        return int(written)


def current_code(encoder: str) -> str:
    """Digest of the code that makes embeddings by this encoder here and now; empty if there is no such encoder."""
    if encoder not in ENCODERS:
        return ""
    module, _, name = ENCODERS[encoder].partition(":")
    return digest([name, code_digest(module, VIEWS_AND_POOLING)])


@dataclass(frozen=True, slots=True)
class Removed:
    """What ``clean`` took away: how many, and their bytes."""

    what: str
    count: int
    size: int


def clean(
    root: Path | None = None, *, encoder: str | None = None, unused_days: float | None = None
) -> list[Removed]:
    """Take out of a cache what nothing here can use any more: of other code, or left by killed processes.

    Parameters
    ----------
    root : Path or None
        The cache; ``None``: ``default_cache()``.
    encoder : str or None
        Also all embeddings of this one.
    unused_days : float or None
        Also all embeddings that were not used for so long.
    """
    jobs, store = Jobs(root), Store(root)
    embeddings = [c for c in store.contents() if _is_unwanted(c, encoder, unused_days)]
    store.remove(content.origin for content in embeddings)
    leftovers = jobs.leftovers()
    outdated = [job for job in jobs.finished() if not job.is_current]
    for job in [*leftovers, *outdated]:
        remove_folder(job.folder)
    return [
        Removed("embeddings", sum(c.entries for c in embeddings), sum(c.size for c in embeddings)),
        Removed("steps", len(outdated), sum(job.size for job in outdated)),
        Removed("unfinished steps", len(leftovers), sum(job.size for job in leftovers)),
    ]


def _is_unwanted(content: Content, encoder: str | None, unused_days: float | None) -> bool:
    unused = unused_days is not None and content.unused_days >= unused_days
    return not content.is_current or unused or content.origin.encoder == encoder or content.entries == 0


def _text(content: bytes) -> str:
    """Of the index, even if it is damaged: then a checksum tells."""
    return content.decode(errors="replace")


def _make_tables(index: sqlite3.Connection, kind: str) -> None:
    for table in TABLES:
        index.execute(table.format(kind))


def _canonical(origin: Origin) -> str:
    return json.dumps(asdict(origin), sort_keys=True, allow_nan=False)


def _shelf(index: sqlite3.Connection, origin: Origin) -> int | None:
    row = index.execute("SELECT number FROM shelves WHERE origin = ?", (_canonical(origin),)).fetchone()
    return None if row is None else int(row[0])


def _new_shelf(index: sqlite3.Connection, origin: Origin) -> int:
    made = index.execute("INSERT INTO shelves (origin, size) VALUES (?, 0)", (_canonical(origin),))
    return int(made.lastrowid or 0)


def _columns(key: Key) -> tuple[bytes, int, str]:
    if not SHA256.fullmatch(key.audio):
        raise ValueError(f"audio={key.audio!r}: expected the SHA-256 of a file, 64 digits of 0-9a-f")
    return bytes.fromhex(key.audio), int(key.block), key.pooling


def _places(index: sqlite3.Connection, shelf: int, keys: Iterable[Key]) -> dict[Key, _Place]:
    """Of those embeddings that the index names."""
    query = f"SELECT {PLACE} FROM embeddings WHERE shelf = ? AND audio = ? AND block = ? AND pooling = ?"
    rows = ((key, index.execute(query, (shelf, *_columns(key))).fetchone()) for key in keys)
    return {key: _Place(*row) for key, row in rows if row is not None}


def _enter(index: sqlite3.Connection, shelf: int, places: Mapping[Key, _Place]) -> None:
    """Name embeddings that now lie at the end of their shelf."""
    index.executemany(
        f"INSERT OR REPLACE INTO embeddings (shelf, audio, block, pooling, {PLACE}) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(shelf, *_columns(key), *place) for key, place in places.items()],
    )
    added = sum(place.size for place in places.values())
    index.execute("UPDATE shelves SET size = size + ? WHERE number = ?", (added, shelf))


def _refuse_unfit(embeddings: Mapping[Key, Array]) -> None:
    for key, array in embeddings.items():
        if array.dtype != np.float32:
            raise ValueError(f"{key}: the embedding is {array.dtype}; the store keeps float32 only")


def _checksum(key: Key, shape: str, content: bytes) -> bytes:
    """Of an embedding and of what the index says about it, so that it tells an exchange, too."""
    summed = hashlib.sha256(f"{key.audio} {key.block} {key.pooling} {shape}\n".encode())
    summed.update(content)
    return summed.digest()


def _append(path: Path, end: int, embeddings: Mapping[Key, Array]) -> dict[Key, _Place]:
    """Write embeddings behind the first ``end`` bytes of a shelf."""
    places = {}
    with no_space_names(path), path.open("ab") as data:
        data.truncate(end)  # a killed process may have left something there
        for key, array in embeddings.items():
            content, shape = np.asarray(array, "<f4").tobytes(), " ".join(map(str, array.shape))
            places[key] = _Place(end, len(content), shape, _checksum(key, shape, content))
            data.write(content)
            end += len(content)
        data.flush()
        os.fsync(data.fileno())
    return places


def _open(path: Path) -> IO[bytes]:
    """A shelf to be read; an empty one if the file is lost."""
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return io.BytesIO()


def _whole(data: IO[bytes], places: Mapping[Key, _Place]) -> dict[Key, Array]:
    """Those embeddings that are as they were written."""
    end = data.seek(0, os.SEEK_END)
    found = {}
    for key, place in places.items():
        content = _content_of(data, place, end)
        if content is not None and _checksum(key, place.shape, content) == place.checksum:
            shape = [int(length) for length in place.shape.split()]
            found[key] = np.frombuffer(content, "<f4").reshape(shape)
    return found


def _content_of(data: IO[bytes], place: _Place, end: int) -> bytes | None:
    """The bytes that lie there, or ``None`` if nothing can."""
    numbers = isinstance(place.start, int) and isinstance(place.size, int)
    if not numbers or not 0 <= place.start <= place.start + place.size <= end:
        return None
    try:
        data.seek(place.start)
        return data.read(place.size)
    except OSError:  # a bad sector
        return None


def _note_use(path: Path) -> None:
    """Once a day; not where that is forbidden, since then nothing can be cleaned either."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > SECONDS_A_DAY:
            os.utime(path)
