"""Settings of a system by dotted path, as ``branch.view=near``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from nearfar.backends import FORMER_NAMES

OPTIONS_OF = {"encoder": "encoder_options", "backend": "backend_options"}


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings from ``key=value`` strings; a value is TOML, and a bare word is a string.

    Raises
    ------
    ValueError
        If there is no ``=``.
    """
    return {key: _value(text) for key, text in map(_split, assignments)}


def parse_options(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Settings to be varied, from ``key=value;value;...`` strings; values are as of ``parse_settings``.

    Raises
    ------
    ValueError
        If there is no ``=``, a key is given twice, or a value is empty.
    """
    options: dict[str, list[Any]] = {}
    for key, text in map(_split, assignments):
        if key in options:
            raise ValueError(f"{key}: given twice; join its values by semicolons")
        parts = text.split(";")
        if not all(part.strip() for part in parts):
            raise ValueError(
                f"'{key}={text}': a value is empty; expected some joined by semicolons, as 1;2;4"
            )
        options[key] = [_value(part) for part in parts]
    return options


def apply(content: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Set what stands at dotted paths of nested tables.

    Another encoder or back end does not take the options of the one before: it has its defaults, and those that
    ``settings`` give.

    Raises
    ------
    ValueError
        If a path leads through a value.
    """
    for key, value in settings.items():
        table, _, last = key.rpartition(".")
        within = _table(content, table)
        if last in OPTIONS_OF and not _is_the_same(within.get(last, value), value):
            within.pop(OPTIONS_OF[last], None)
    for key, value in settings.items():
        replace(content, key, value)


def _is_the_same(name: Any, other: Any) -> bool:
    """Whether two names mean one thing; what is no name is refused later."""
    return name == other or any(pair in ((name, other), (other, name)) for pair in FORMER_NAMES.items())


def _table(content: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The table at a dotted path; an empty one if there is none."""
    found: Any = content
    for name in path.split(".") if path else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


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
    content[last] = deepcopy(value)  # what is within may be replaced later


def places_of(key: str, value: Any, tables: Mapping[str, Collection[str]]) -> list[str]:
    """The dotted paths that were perhaps meant, where a table has no such key.

    Parameters
    ----------
    key : str
    value : object
        If it is a table, its keys count: of ``k`` in ``backend_options`` the path is ``branch.backend_options.k``.
    tables : mapping from dotted path to keys
        All tables that there are; the path of the outermost is empty.
    """
    paths = [f"{table}.{name}".lstrip(".") for table, keys in tables.items() for name in keys]
    found: dict[str, None] = {}
    for given in _leaves(key, value):
        ends = [path for path in paths if path.endswith(f".{given}")]
        last = given.rpartition(".")[2]
        found |= dict.fromkeys(ends or [path for path in paths if path.endswith(f".{last}")])
    return list(found)


def _leaves(key: str, value: Any) -> Iterator[str]:
    """The dotted paths of all values below a key."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _leaves(f"{key}.{name}", below)
    else:
        yield key


def _split(assignment: str) -> tuple[str, str]:
    key, equals, value = assignment.partition("=")
    if not (equals and key):
        raise ValueError(f"{assignment!r}: expected key=value, such as branch.view=near")
    return key.strip(), value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
