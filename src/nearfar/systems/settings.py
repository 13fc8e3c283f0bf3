"""Settings of a system by dotted path, as ``branch.view=near``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings from ``key=value`` strings; a value is TOML, and a bare word is a string.

    Raises
    ------
    ValueError
        If there is no ``=``.
    """
    return {key: _value(text) for key, text in map(_assigned, assignments)}


def parse_options(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Settings to be varied, from ``key=value;value;...`` strings; values are as of ``parse_settings``.

    Raises
    ------
    ValueError
        If there is no ``=``, a key is given twice, or a value is empty.
    """
    options: dict[str, list[Any]] = {}
    for key, text in map(_assigned, assignments):
        if key in options:
            raise ValueError(f"{key}: given twice; join its values by semicolons")
        parts = text.split(";")
        if not all(part.strip() for part in parts):
            raise ValueError(
                f"'{key}={text}': a value is empty; expected some joined by semicolons, as 1;2;4"
            )
        options[key] = [_value(part) for part in parts]
    return options


def replace(content: dict[str, Any], key: str, value: Any) -> None:
    """Set what stands at a dotted path of nested tables.

    Raises
    ------
    ValueError
        If the path leads through a value.
    """
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise ValueError(  # noqa: TRY004  # of the user's setting, not of an argument's type
                f"{key!r}: {table!r} is a value, not a table"
            )
    content[last] = value


def _assigned(assignment: str) -> tuple[str, str]:
    key, equals, value = assignment.partition("=")
    if not (equals and key):
        raise ValueError(f"{assignment!r}: expected key=value, such as branch.view=near")
    return key.strip(), value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
