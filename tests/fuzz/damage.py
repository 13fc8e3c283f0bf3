"""Ways to damage a file. All chance comes from a ``random.Random``, so a seed names the damage.

Conventions
-----------
Each way takes content and chance, and returns other content. ``any_bytes`` knows nothing of what it changes; the
others know a format, and leave the rest of it intact, so that the damage gets past the first check.
"""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

Way = Callable[[bytes, Random], bytes]

EDGES = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
HEAD = 600  # bytes, in which most formats say what they are
TEXTS = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "0.5",
    "1e-320",
    "99999999999999999999",
    "true",
    "null",
    "None",
    "normal",
    "anomaly",
    "source",
    "target",
    "../x",
    "/",
    "a/b/c",
    "x" * 300,
    "\u00e4\u6f22\U0001f600",
    '"',
    "'",
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    "\0",
    "=1+1",
    "#",
    "[",
    "{",
    "\ufeff",
    "0x10",
    "1_000",
    "1,5",
    "2026-11-29",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**64,
    -(2**63),
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    "nan",
    "\0",
    "a" * 1000,
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
    [None],
    ["x"],
)
KEYS = ("x", "name", "branch", "kind", "0", '"a b"', "_")
NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e30, -1e30, 1e-40)


def any_bytes(content: bytes, chance: Random) -> bytes:
    """One to three ways that know nothing of the format."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content = chance.choice(BLIND)(content, chance)
    return content


def flipped(content: bytes, chance: Random) -> bytes:
    """One to eight bits are flipped."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[_place(changed, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwritten(content: bytes, chance: Random) -> bytes:
    """A number of 1, 2, 4 or 8 bytes, or a float of 4 or 8, is at the edge of what it can be."""
    kind = chance.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d"))
    if kind in ("<f", "<d"):
        number = struct.pack(kind, chance.choice(NUMBERS))
    else:
        number = struct.pack(kind, chance.choice(EDGES) % (1 << 8 * struct.calcsize(kind)))
    place = _place(content, chance)
    return content[:place] + number + content[place + len(number) :]


def cut_short(content: bytes, chance: Random) -> bytes:
    """The end is missing."""
    return content[: _place(content, chance)]


def doubled(content: bytes, chance: Random) -> bytes:
    """A piece stands there twice."""
    begin, end = _piece(content, chance)
    return content[:end] + content[begin:]


def holed(content: bytes, chance: Random) -> bytes:
    """A piece is missing."""
    begin, end = _piece(content, chance)
    return content[:begin] + content[end:]


def zeroed(content: bytes, chance: Random) -> bytes:
    """A piece is zeros, as after a power cut."""
    begin, end = _piece(content, chance)
    return content[:begin] + bytes(end - begin) + content[end:]


def random_piece(content: bytes, chance: Random) -> bytes:
    """A piece is noise."""
    begin, end = _piece(content, chance)
    return content[:begin] + chance.randbytes(min(end - begin, 4096)) + content[end:]


def swapped_halves(content: bytes, chance: Random) -> bytes:
    """The end comes first."""
    place = _place(content, chance)
    return content[place:] + content[:place]


BLIND: tuple[Way, ...] = (
    flipped,
    flipped,
    overwritten,
    overwritten,
    overwritten,
    cut_short,
    doubled,
    holed,
    zeroed,
    random_piece,
    swapped_halves,
)


def spliced(content: bytes, other: bytes, chance: Random) -> bytes:
    """The beginning of one file and the end of another."""
    return content[: _place(content, chance)] + other[_place(other, chance) :]


def _place(content: bytes | bytearray, chance: Random) -> int:
    """Somewhere; half of the times near the beginning."""
    return chance.randrange(max(1, min(HEAD, len(content)) if chance.random() < 0.5 else len(content)))


def _piece(content: bytes, chance: Random) -> tuple[int, int]:
    begin = _place(content, chance)
    return begin, min(len(content), begin + chance.choice((1, 4, 16, 100, 1000, 10_000)))


def chunks(content: bytes, chance: Random) -> bytes:
    """RIFF and its kin: a chunk is lost, doubled, moved, misnamed, or lies about its size."""
    found = _chunks_of(content)
    if len(found) < 2:
        return any_bytes(content, chance)
    head, parts = found[0], found[1:]
    at = chance.randrange(len(parts))
    match chance.randrange(6):
        case 0:
            del parts[at]
        case 1:
            parts.insert(chance.randrange(len(parts) + 1), parts[at])
        case 2:
            chance.shuffle(parts)
        case 3:
            parts[at] = chance.choice((b"junk", b"data", b"fmt ", b"LIST", b"\0\0\0\0")) + parts[at][4:]
        case 4:
            size = (
                chance.choice(EDGES) if chance.random() < 0.7 else len(parts[at]) - 8 + chance.randint(-9, 9)
            )
            parts[at] = parts[at][:4] + struct.pack("<I", size % 2**32) + parts[at][8:]
        case _:
            parts[at] = parts[at][:8] + any_bytes(parts[at][8:], chance)
    return head + b"".join(parts)


def _chunks_of(content: bytes) -> list[bytes]:
    """The head of a RIFF file, and its chunks; one piece if it is none."""
    if content[:4] not in (b"RIFF", b"RF64"):
        return [content]
    found, at = [content[:12]], 12
    while at + 8 <= len(content):
        size = struct.unpack("<I", content[at + 4 : at + 8])[0]
        size = len(content) - at - 8 if size == 0xFFFFFFFF else size + size % 2
        found.append(content[at : at + 8 + size])
        at += 8 + size
    return found


def cells(content: bytes, chance: Random) -> bytes:
    """A table as text: cells, rows, columns, separators or the encoding are others."""
    text = content.decode("utf-8", "replace")
    lines = text.split("\n")
    for _ in range(chance.choice((1, 1, 2, 4))):
        lines = _other_lines(lines, chance)
    return _encoded("\n".join(lines), chance)


def _other_lines(lines: list[str], chance: Random) -> list[str]:
    if not lines:
        return lines
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    separator = "\t" if "\t" in lines[0] else ","
    match chance.randrange(9):
        case 0 | 1 | 2 | 3:
            row = lines[at].split(separator)
            row[chance.randrange(len(row))] = chance.choice(TEXTS)
            lines[at] = separator.join(row)
        case 4:
            del lines[at]
        case 5:
            lines.insert(other, lines[at])
        case 6:
            column = chance.randrange(4)
            lines = [
                separator.join(c for i, c in enumerate(line.split(separator)) if i != column)
                for line in lines
            ]
        case 7:
            lines = [line.replace(separator, chance.choice((";", "\t", "|", " "))) for line in lines]
        case _:
            lines[at] += separator + chance.choice(TEXTS)
    return lines


def _encoded(text: str, chance: Random) -> bytes:
    way = chance.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig", "latin-1"))
    return text.encode(way, "replace" if way == "latin-1" else "surrogatepass")


def settings(content: bytes, chance: Random) -> bytes:
    """TOML: a value, a key or a table is another one, missing, or there twice."""
    lines = content.decode("utf-8", "replace").split("\n")
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = [i for i, line in enumerate(lines) if "=" in line or line.startswith("[")]
        if not places:
            break
        at = chance.choice(places)
        key, equals, value = lines[at].partition("=")
        match chance.randrange(7):
            case 0 | 1 | 2:
                lines[at] = f"{key}= {_toml(chance)}" if equals else f"[{chance.choice(TEXTS)}]"
            case 3:
                del lines[at]
            case 4:
                lines.insert(at, lines[at])
            case 5:
                lines[at] = chance.choice(KEYS) + " =" + value
            case _:
                lines[at] = lines[at].replace(
                    *chance.choice((("=", ""), ("=", "=="), ('"', ""), ("]", ""), (".", ""), ("0", "9")))
                )
    return _encoded("\n".join(lines), chance)


def _toml(chance: Random) -> str:
    return chance.choice(
        (
            "0",
            "-1",
            "1e400",
            "nan",
            "inf",
            "true",
            '""',
            '"x"',
            "[]",
            "[[]]",
            "{}",
            "{ a = 1 }",
            '["x", "x"]',
            "[1, 2, 3]",
            "99999999999999999999999",
            "2026-11-29",
            "12:00:00",
            "1.5",
            '"\\u0000"',
            '"/"',
            '"../.."',
            '"detector"',
            "[nan]",
            '{ name = "x" }',
            '{ kind = "x" }',
            "",
            "'",
            '"""',
            "1_000_000_000",
            '"' + "a" * 500 + '"',
        )
    )


def values(content: bytes, chance: Random) -> bytes:
    """JSON: a value is another one, missing, of another type, or deep."""
    try:
        told = json.loads(content)
    except ValueError:
        return any_bytes(content, chance)
    for _ in range(chance.choice((1, 1, 2))):
        told = other_value(told, chance)
    return json.dumps(told).encode()


def other_value(told: Any, chance: Random) -> Any:
    """The same with one other value somewhere."""
    if isinstance(told, dict) and told and chance.random() < 0.9:
        key = chance.choice(list(told))
        match chance.randrange(8):
            case 0:
                return {name: value for name, value in told.items() if name != key}
            case 1:
                return {
                    (chance.choice(TEXTS) if name == key else name): value for name, value in told.items()
                }
            case _:
                return told | {key: other_value(told[key], chance)}
    if isinstance(told, list) and told and chance.random() < 0.9:
        at = chance.randrange(len(told))
        match chance.randrange(6):
            case 0:
                return told[:at] + told[at + 1 :]
            case 1:
                return [*told, told[at]]
            case _:
                return [*told[:at], other_value(told[at], chance), *told[at + 1 :]]
    if chance.random() < 0.1:
        return json.loads("[" * 60 + "]" * 60)
    return chance.choice(VALUES)


def tensors(content: bytes, chance: Random) -> bytes:
    """Safetensors: the header lies about its length, types, shapes or places; numbers are NaN, infinite or huge."""
    if len(content) < 8:
        return any_bytes(content, chance)
    size = struct.unpack("<Q", content[:8])[0]
    head, data = content[8 : 8 + size], content[8 + size :]
    match chance.randrange(5):
        case 0:
            return struct.pack("<Q", chance.choice((*EDGES, size - 1, size + 8)) % 2**64) + content[8:]
        case 1 | 2:
            head = values(head, chance)
        case 3:
            number = struct.pack("<f", chance.choice(NUMBERS))
            place = 4 * chance.randrange(max(1, len(data) // 4))
            data = data[:place] + number + data[place + 4 :]
        case _:
            head = re.sub(
                rb'"(F32|F64|I64)"',
                chance.choice((b'"F16"', b'"BF16"', b'"U8"', b'"BOOL"', b'"F64"')),
                head,
                count=1,
            )
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def rows(path: Path, chance: Random) -> None:
    """A database, in place: cells are of another type or missing, rows and tables are gone."""
    with closing(sqlite3.connect(path)) as database:
        names = [
            name
            for (name,) in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
        ]
        names = [name for name in names if not name.startswith("sqlite_")]
        if not names:
            return
        for _ in range(chance.randint(1, 3)):
            _other_row(database, chance.choice(names), chance)
        database.commit()


def _other_row(database: sqlite3.Connection, table: str, chance: Random) -> None:
    columns = [row[1] for row in database.execute(f"PRAGMA table_info('{table}')")]
    if not columns:
        return
    column, value = (
        chance.choice(columns),
        chance.choice((None, -1, 0, 2**62, 0.5, "", "x", "{}", "[", b"\0\xff")),
    )
    orders = (
        (
            f'UPDATE OR IGNORE "{table}" SET "{column}" = ? WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT 1)',
            (value,),
        ),
        (f'UPDATE OR IGNORE "{table}" SET "{column}" = ?', (value,)),
        (f'DELETE FROM "{table}" WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT 1)', ()),
        (f'DELETE FROM "{table}"', ()),
        (f'DROP TABLE "{table}"', ()),
        (f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "other"', ()),
    )
    weights = (6, 2, 3, 1, 1, 1)
    try:
        database.execute(*chance.choices(orders, weights)[0])
    except sqlite3.Error:  # such as a rule of the table that forbids it: then it is as it was
        return
