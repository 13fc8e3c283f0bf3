"""Messages as JSON lines, one a line, in a file or on standard output.

A file that is only ever extended by whole lines. A kill in the middle of a line leaves half of one: it is cut off
when the file is opened again, and the message is told again. A message whose line is there already, because the
kill came before the logbook knew of it, is not written a second time: the last ``REMEMBERED`` lines are read for
that.

Lines of the journal are on the disk (``fsync``) when ``deliver`` returns; lines of windows only when the system
writes them. So a power cut may lose windows of the last seconds, but no alert.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nearfar.watching.sinks import Message, SinkDownError, SiteState, Stream, as_json

REMEMBERED = (
    1000  # messages; more than are told between two commits of a cursor (``deliveries.BATCH``, by stream)
)
TAIL_BYTES = 4 * 2**20  # of a file, in which these lie: a line has about a kilobyte
BEGINNING = b'{"format":'  # of each line
STANDARD_OUTPUT = Path("-")


class JsonLines:
    """Append messages to a file, or write them to standard output.

    Parameters
    ----------
    path : Path
        "-" is standard output.
    windows : bool
        Whether windows are told, too, not only what happens.
    most_mb : float or None
        The file is renamed before it grows beyond so many megabytes, to the same name with ".1" behind it; what was
        ".1" becomes ".2", and so on. ``None``: never. If another program renames it, a new one is begun, too.
    keep : int
        How many renamed files are kept.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        path: Path = STANDARD_OUTPUT,
        *,
        windows: bool = False,
        most_mb: float | None = None,
        keep: int = 5,
    ) -> None:
        if most_mb is not None and not most_mb > 0:
            raise ValueError(
                f"most_mb={most_mb}: must be more than 0; leave it out for a file without a limit"
            )
        if keep < 1:
            raise ValueError(f"keep={keep}: must be at least 1")
        self.streams: tuple[Stream, ...] = ("journal", "windows") if windows else ("journal",)
        self._path = Path(path)
        self._most = None if most_mb is None else int(most_mb * 1e6)
        self._keep = keep
        self._file: int | None = None
        self._told: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._unwritten = b""  # of a line on standard output

    def open(self, site: SiteState) -> None:  # noqa: ARG002
        """Open the file, and mend its end."""
        if self._path == STANDARD_OUTPUT:
            return
        with self._down_if_it_fails():
            self._begin()

    def deliver(self, message: Message) -> None:
        """Write one line."""
        line = as_json(message) + b"\n"
        with self._down_if_it_fails():
            if self._path == STANDARD_OUTPUT:
                self._print(line)
                return
            if _key(message.content) in self._told:
                return
            file = self._current(len(line))
            self._append(file, line)
            if message.stream == "journal":
                os.fsync(file)
        self._remember(message.content)

    def idle(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _print(self, line: bytes) -> None:
        """All of the line; if there was room for a part of it only, its rest when it is told again."""
        if not (self._unwritten and line.endswith(self._unwritten)):
            self._unwritten += line
        sys.stdout.flush()
        while self._unwritten:
            written = os.write(sys.stdout.fileno(), self._unwritten)
            self._unwritten = self._unwritten[written:]

    def _begin(self) -> None:
        self.close()
        self._told.clear()
        for path in (self._renamed(1), self._path):  # it may have been renamed just before a kill
            if path.exists():
                for content in _last_lines(path):
                    self._remember(content)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(
            self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644
        )
        os.ftruncate(self._file, _whole_bytes(self._file, self._path))

    def _current(self, more: int) -> int:
        """The file to write to, which is the one that the path names, and has room for so many bytes."""
        if self._file is None or not self._is_the_one():
            self._begin()
        assert self._file is not None
        size = os.fstat(self._file).st_size
        if self._most is not None and size and size + more > self._most:
            self.close()
            for number in range(self._keep, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._renamed(number - 1).replace(self._renamed(number))
            self._path.replace(self._renamed(1))
            self._begin()
        return self._file

    def _is_the_one(self) -> bool:
        """Whether the path still names the open file: programs like logrotate rename it."""
        assert self._file is not None
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _append(self, file: int, line: bytes) -> None:
        """All of the line, or nothing of it."""
        before = os.fstat(file).st_size
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError:
            os.ftruncate(file, before)
            raise

    def _remember(self, content: Mapping[str, Any]) -> None:
        self._told[_key(content)] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    def _renamed(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @contextlib.contextmanager
    def _down_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            raise SinkDownError(f"{self._path}: {error.strerror or error}") from error


def _key(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells messages apart, also those of another logbook, whose numbers begin at 1 again."""
    return tuple(str(content.get(name)) for name in ("id", "site", "machine", "what", "at_s", "written"))


def _last_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The messages of the last whole lines of a file."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - TAIL_BYTES)
        file.seek(begin)
        lines = file.read().split(b"\n")[:-1]  # the last one is empty, or half a line
    for line in lines[1 if begin else 0 :][-REMEMBERED:]:
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if not isinstance(content, dict) or "format" not in content:
            raise SinkDownError(
                f"{path}: a line of it is no message of nearfar ({line[:40]!r}...); nothing is added to a file of "
                "something else: name another one, or move it away"
            )
        yield content


def _whole_bytes(file: int, path: Path) -> int:
    """The length of a file without the half line at its end."""
    size = end = os.fstat(file).st_size
    half = b""
    while end > 0 and b"\n" not in half:
        begin = max(0, end - 2**16)
        os.lseek(file, begin, os.SEEK_SET)
        half = os.read(file, end - begin) + half
        end = begin
    half = half.rpartition(b"\n")[2]
    if not (half.startswith(BEGINNING) or BEGINNING.startswith(half)):
        raise SinkDownError(
            f"{path}: its end is no message of nearfar ({half[:40]!r}...); nothing is cut off from a file of "
            "something else: name another one, or move it away"
        )
    return size - len(half)
