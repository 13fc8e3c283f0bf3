"""Who may ask by HTTP. A token is shown once, when it is made; the logbook keeps its SHA-256.

A token has 256 random bits, so nobody finds it by trying, and a fast digest is enough: slow ones are for passwords,
which people choose.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sql

from nearfar.logbook.schema import tokens

Role = Literal["operator", "reader"]
ROLES: tuple[Role, ...] = get_args(Role)
PREFIX = "nearfar_"  # so that programs that look for leaked secrets can recognize one
RANDOM_BYTES = 32
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a token.

    Attributes
    ----------
    name : str
        What the logbook says of whoever did something.
    role : {"operator", "reader"}
        A reader sees everything and changes nothing.
    """

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Known:
    """What the logbook keeps of a token."""

    holder: Holder
    digest: str


def make(c: sql.Connection, name: str, role: Role = "operator", *, now: float) -> str:
    """Make a token, which is told here and never again.

    Parameters
    ----------
    c : Connection
        One that writes.
    name : str
        Whose it is, such as "anna" or "wall display".
    role : {"operator", "reader"}
    now : float
        Seconds since 1970 (UTC).

    Raises
    ------
    ValueError
        If the name is empty, too long, or has characters that cannot be printed; if it has a token already; if
        there is no such role.
    """
    if role not in ROLES:
        raise ValueError(f"role={role!r}: must be one of {', '.join(ROLES)}")
    if not 0 < len(name) <= LONGEST_NAME or name != name.strip() or not _is_printable(name):
        raise ValueError(
            f"name={name!r}: must have 1 to {LONGEST_NAME} characters that can be printed, no space around them"
        )
    if any(known["name"] == name for known in names(c)):
        raise ValueError(f"{name} has a token already; remove it first, or choose another name")
    token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    c.execute(tokens.insert().values(name=name, digest=_digest(token), role=role, made_at=now))
    return token


def known(c: sql.Connection) -> list[Known]:
    """All tokens, as the logbook keeps them."""
    rows = c.execute(sql.select(tokens.c.name, tokens.c.role, tokens.c.digest).order_by(tokens.c.name))
    return [Known(Holder(row.name, row.role), row.digest) for row in rows]


def holder_among(tokens_known: Sequence[Known], token: str) -> Holder | None:
    """Who has this token; ``None`` if nobody has.

    It is compared with all of them, each in constant time: how long it takes tells nothing about any.
    """
    digest = _digest(token)
    found = None
    for each in tokens_known:
        if hmac.compare_digest(each.digest, digest):
            found = each.holder
    return found


def holder(c: sql.Connection, token: str) -> Holder | None:
    """As ``holder_among``, of all in the logbook."""
    return holder_among(known(c), token)


def remove(c: sql.Connection, name: str) -> bool:
    """Remove a token, which is then worth nothing; whether there was one of that name."""
    return c.execute(tokens.delete().where(tokens.c.name == name)).rowcount > 0


def names(c: sql.Connection) -> list[dict[str, Any]]:
    """Whose tokens there are: each with ``name``, ``role`` and ``made_at``."""
    asked = sql.select(tokens.c.name, tokens.c.role, tokens.c.made_at).order_by(tokens.c.name)
    return [dict(row) for row in c.execute(asked).mappings()]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _is_printable(text: str) -> bool:
    return all(not unicodedata.category(char).startswith("C") for char in text)
