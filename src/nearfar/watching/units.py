"""Lengths of time, sizes and time zones, as people write them in the file of a site."""

from __future__ import annotations

import difflib
import os
import re
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from nearfar.decisions.alerts import UNITS

SIZES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
LOCAL_ZONE = Path("/etc/localtime")

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")


def parse_duration(given: str) -> float:
    """A length of time in seconds, as people write it, with a unit of ``decisions.alerts.UNITS``.

    Raises
    ------
    ValueError
        If it is none, or not above 0.

    Examples
    --------
    >>> from nearfar.watching.units import parse_duration
    >>> parse_duration("10 min"), parse_duration("14 days")
    (600.0, 1209600.0)
    """
    match = _NUMBER.fullmatch(given)
    factor = None if match is None else UNITS.get(match[2].lower())
    if match is None or factor is None or float(match[1]) == 0:
        raise ValueError(
            f'{given!r} is no length of time; write a number above 0 and a unit, such as "10 min" or "14 days"'
        )
    return float(match[1]) * factor


def parse_size(given: str) -> int:
    """A number of bytes, as people write it; GB are 10**9, GiB are 2**30.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> from nearfar.watching.units import parse_size
    >>> parse_size("5 GB"), parse_size("1 GiB")
    (5000000000, 1073741824)
    """
    match = _NUMBER.fullmatch(given)
    factors = {unit.lower(): size for unit, size in SIZES.items()}
    factor = None if match is None else factors.get(match[2].lower())
    if match is None or factor is None:
        raise ValueError(
            f'{given!r} is no size; write a number and a unit, such as "5 GB" ({", ".join(SIZES)})'
        )
    return round(float(match[1]) * factor)


def local_zone() -> tzinfo:
    """The time zone of this computer, with its changes in spring and autumn.

    It is the one that the environment variable TZ names, or else that of ``/etc/localtime``. Where there is no such
    file, the C library takes UTC (tzset(3)), and so does this.

    Raises
    ------
    ValueError
        If TZ names none, or the computer does not tell it in this way.
    """
    asked = os.environ.get("TZ", "").removeprefix(":")
    if asked:
        return zone_named(asked)
    if os.name == "nt":
        raise ValueError('this computer does not tell its time zone; write it, such as "Europe/Berlin"')
    if not LOCAL_ZONE.is_file():
        return UTC
    name = str(LOCAL_ZONE.resolve()).rpartition("zoneinfo/")[2]
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):  # a copy of a file, which has no name
        with LOCAL_ZONE.open("rb") as file:
            return ZoneInfo.from_file(file)


def zone_named(name: str) -> ZoneInfo:
    """A time zone of the IANA's list.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = (
            f"; did you mean {near[0]!r}?"
            if near
            else "; write a name of the IANA's list, such as Europe/Berlin or UTC"
        )
        raise ValueError(f"no time zone {name!r}{hint}") from error
