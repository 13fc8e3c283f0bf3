"""Tables of text as people have them: saved by spreadsheets, on any system, in any language.

Read alike are: UTF-8 with or without byte order mark, UTF-16 ("Unicode text"), Windows-1252; columns separated by
commas, semicolons or tabs; quoted cells; spaces around cells; empty rows; a first line ``sep=;``; and decimal
commas where the comma does not separate. What is ambiguous is left as it is; the reader of the values refuses it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SEPARATORS = ("\t", ";", ",")  # a comma can be in a number, a tab in nothing
MOST_BYTES = 64 * 2**20  # a row for each of half a million recordings
LEGACY = "cp1252"  # of Western Europe's Windows; everything else today writes Unicode

_MARKS = {  # those of UTF-32 first: they begin like those of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")  # 1,234 is also how English writes one thousand


class TableError(ValueError):
    """A file is not a table that can be read; says what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is not empty.

    Attributes
    ----------
    number : int
        As a spreadsheet counts, from 1, with empty rows and the header.
    cells : tuple of str
        Without spaces around them, and without empty cells at the end.
    """

    number: int
    cells: tuple[str, ...]

    def cell(self, place: int) -> str:
        """The cell in this column; empty if the row is shorter."""
        return self.cells[place] if place < len(self.cells) else ""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table.

    Attributes
    ----------
    header : tuple of str
        Names of the columns, in lower case; empty if none were asked for.
    rows : tuple of Row
        Without the header.
    empty_rows : int
    separator : str
    encoding : str
        ``"cp1252"`` is a guess: the file does not say, and is not Unicode.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    empty_rows: int
    separator: str
    encoding: str

    def place(self, column: str) -> int:
        """Which column has this name, from 0."""
        return self.header.index(column)

    @property
    def doubt(self) -> str:
        """What to add to a message about names that are not found."""
        return "; the table is not UTF-8: save it as CSV UTF-8" if self.encoding == LEGACY else ""


def read(file: Path, columns: Sequence[str] = ()) -> Table:
    """The table in a file.

    Parameters
    ----------
    file : Path
    columns : sequence of str
        Which the first row must name, in any order and case; there may be others. Empty: there is no header.

    Raises
    ------
    TableError
        If it is too large, no text, or lacks a column.
    """
    with file.open("rb") as opened:
        content = opened.read(MOST_BYTES + 1)
    return parse(content, columns)


def parse(content: bytes, columns: Sequence[str] = ()) -> Table:
    """The table in the content of a file; see ``read``.

    Examples
    --------
    >>> from nearfar.files.tables import parse
    >>> table = parse("clip;score\\r\\n;\\r\\na.wav;0,5\\r\\n".encode("utf-16"), ("clip", "score"))
    >>> table.rows, table.separator, table.encoding
    ((Row(number=3, cells=('a.wav', '0.5')),), ';', 'utf-16')
    """
    if len(content) > MOST_BYTES:
        raise TableError(f"larger than {MOST_BYTES >> 20} MiB, so this is not a table of recordings")
    text, encoding = _decode(content)
    said = re.match(r"sep=([^\r\n])\r?\n?", text)
    candidates = (said[1],) if said else SEPARATORS
    lines = text if said is None else text[said.end() :]
    skipped = 0 if said is None else 1
    if not columns:
        separator = next((s for s in candidates if s in _first_line(lines)), candidates[-1])
        rows, empty = _rows(lines, separator, skipped)
        return Table((), rows, empty, separator, encoding)
    for separator in candidates:
        rows, empty = _rows(lines, separator, skipped)
        header = tuple(map(column_name, rows[0].cells)) if rows else ()
        if set(columns) <= set(header):
            _refuse_repeated(header, columns)
            return Table(header, rows[1:], empty, separator, encoding)
    raise _no_columns(_rows(lines, candidates[-1], skipped)[0], columns)


def _decode(content: bytes) -> tuple[str, str]:
    """The text, and how it was encoded."""
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "") or _guess(
        content
    )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise TableError(f"not readable as text ({error}); save it as CSV UTF-8") from error
    text = text.rstrip("\x00\x1a")  # what DOS ended text with
    if "\0" in text:
        raise TableError("not text: it contains zero bytes; save it as CSV UTF-8")
    return text, encoding


def _guess(content: bytes) -> str:
    """The encoding of a file without byte order mark."""
    start = content[:1000]
    if b"\0" in start:  # of UTF-16, every other byte of names in Latin letters is zero
        even, odd = start[::2].count(0), start[1::2].count(0)
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        content.decode()
    except UnicodeDecodeError:
        return LEGACY
    return "utf-8"


def _first_line(text: str) -> str:
    """The first line that is not empty, without what is in quotes."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return re.sub(r'"[^"]*"', "", first)


def _rows(text: str, separator: str, skipped: int) -> tuple[tuple[Row, ...], int]:
    """The rows that are not empty, and the number of empty ones."""
    reader = csv.reader(
        io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=separator, skipinitialspace=True
    )
    found = []
    number = skipped
    try:
        for number, cells in enumerate(reader, start=1 + skipped):
            kept = _kept(cells, separator)
            if kept:
                found.append(Row(number, kept))
    except csv.Error as error:
        raise TableError(f"row {number + 1}: {error}") from error
    if found and text.count('"') % 2 and any("\n" in cell or "\r" in cell for cell in found[-1].cells):
        raise TableError(f"row {found[-1].number}: a quotation mark is not closed")
    return tuple(found), number - skipped - len(found)


def _kept(cells: Sequence[str], separator: str) -> tuple[str, ...]:
    """The cells as they are meant, without those that are empty at the end."""
    kept = [_number(cell.strip(), separator) for cell in cells]
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def _number(cell: str, separator: str) -> str:
    """A number with a decimal point, if the comma can be nothing else than a decimal comma."""
    if separator == "," or not _DECIMAL_COMMA.fullmatch(cell):
        return cell
    is_ambiguous = separator != ";" and _THOUSANDS.fullmatch(
        cell
    )  # who separates by semicolons has decimal commas
    return cell if is_ambiguous else cell.replace(",", ".")


def column_name(cell: str) -> str:
    """The name that a header has a column by: in lower case, with underscores."""
    return re.sub(r"[\s-]+", "_", cell.lower())


def _refuse_repeated(header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise TableError(f"{header.count(column)} columns are called {column}; keep one")


def _no_columns(rows: Sequence[Row], columns: Sequence[str]) -> TableError:
    first = ",".join(rows[0].cells) if rows else ""
    header = tuple(map(column_name, rows[0].cells)) if rows else ()
    missing = [column for column in columns if column not in header]
    found = f"the first row is {first[:80]!r}" if first else "the file is empty"
    return TableError(
        f"no column {' and '.join(missing)}: {found}; the first row must be {','.join(columns)}, separated by "
        "commas, semicolons or tabs"
    )
