r"""Names of files as text that every terminal, table and file can hold.

A file name is bytes. Python replaces bytes that are not UTF-8 by surrogates, which no output can encode. Here they
are escaped: the byte 0xFC becomes ``\xfc``. Control characters are escaped, too.
"""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import Path

ERRORS = "nearfar.escape"  # what escapes, for `encode(errors=...)` and streams

_UNPRINTABLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_DIGITS = re.compile("([0-9]+)")
_UNENCODABLE = re.compile("[\ud800-\udfff]")
_IN_TEXT = re.compile(f"[{_UNPRINTABLE}]")
_IN_NAME = re.compile(f"[{_UNPRINTABLE}\t\n\u2028\u2029]")


def encodable(text: str) -> str:
    """The same text, in which bytes that are not UTF-8 are escaped: it can be written to any file."""
    return _UNENCODABLE.sub(_escaped, text)


def printable(text: str) -> str:
    r"""The text of a message, in which also control characters are escaped, except for ends of lines and tabs.

    Examples
    --------
    >>> from nearfar.files.names import printable
    >>> print(printable("L\udcfcfter.wav: truncated"))
    L\xfcfter.wav: truncated
    """
    return _IN_TEXT.sub(_escaped, text)


def one_line(name: str) -> str:
    """A name on one line: all control characters are escaped."""
    return _IN_NAME.sub(_escaped, name)


def quoted(path: Path | str) -> str:
    """A path as an argument for a shell: in quotes where it needs them.

    Examples
    --------
    >>> from nearfar.files.names import quoted
    >>> print(quoted("det"), quoted("det [old]"))
    det 'det [old]'
    """
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if one_line(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{one_line(escaped)}'"


def by_numbers(path: Path) -> tuple[tuple[str | int, ...], ...]:
    """To sort paths by: numbers in names count as numbers, so that "2.wav" comes before "10.wav".

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.files.names import by_numbers
    >>> [path.name for path in sorted([Path("day10.wav"), Path("day9.wav")], key=by_numbers)]
    ['day9.wav', 'day10.wav']
    """
    return tuple(
        tuple(int(part) if number % 2 else part for number, part in enumerate(_DIGITS.split(name)))
        for name in (*path.parts, str(path))  # the path itself last: "01" and "1" are equal numbers
    )


def _escaped(found: re.Match[str]) -> str:
    return _escape(found.group())


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _escape_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_escape(c) if ord(c) < 0x10000 else f"\\U{ord(c):08x}" for c in bad), error.end


codecs.register_error(ERRORS, _escape_error)
