r"""Text and numbers on a page: names are data and never markup, and each number is written once in one form.

Names come from files, and a file name may hold anything: markup, bytes that are not UTF-8, line ends, marks that
turn the direction of writing. Nothing here drops a character; what cannot be shown, or would change what stands
beside it, is escaped as in ``files.names``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from nearfar.files.names import one_line, printable

DIGITS = 6  # significant ones of numbers that ride along with a figure
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

# Marks that turn the direction of what follows them, even outside of a name (Unicode Annex 9, explicit formatting)
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
# What could end a script element or begin one, and the two line ends that JSON has and JavaScript had not
_NOT_IN_SCRIPTS = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def readable(text: str) -> str:
    r"""A text as a page shows it: on its own lines, with what cannot be shown escaped.

    Examples
    --------
    >>> from nearfar.report.pages.text import readable
    >>> print(readable("L\udcfcfter\u202evaw.exe"))
    L\xfcfter\u202evaw.exe
    """
    return _TURNING.sub(_escaped, printable(text))


def name_of(text: str) -> str:
    """The same on one line: ends of lines and tabs are escaped, too."""
    return _TURNING.sub(_escaped, one_line(text))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def file_stem(text: str) -> str:
    """A name for a file that a browser saves: letters, digits, dots, hyphens and underscores of ASCII.

    Examples
    --------
    >>> from nearfar.report.pages.text import file_stem
    >>> file_stem("Score of <img src=x>.wav"), file_stem("...")
    ('Score-of-img-src-x-.wav', 'figure')
    """
    return _NOT_IN_FILE_NAMES.sub("-", text).strip("-.")[:80] or "figure"


def as_json(content: Any) -> Markup:
    """JSON for a ``<script type="application/json">``: it cannot end the element; NaN and infinity are null.

    Examples
    --------
    >>> from nearfar.report.pages.text import as_json
    >>> print(as_json({"name": "</script>", "level": float("nan")}))
    {"name":"\\u003c/script\\u003e","level":null}
    """
    text = json.dumps(_plain(content), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.translate(_NOT_IN_SCRIPTS))


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):  # also of NumPy, in double precision
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Markup):  # made here, and encoded
        return str(value)
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(key)): _plain(content) for key, content in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return _rounded(np.asarray(value, np.float64))
    if hasattr(value, "tolist"):  # other arrays, and numbers of NumPy
        return _plain(value.tolist())
    return [_plain(content) for content in value]


def _rounded(values: NDArray[np.float64]) -> Any:
    """The same for many numbers: nested lists, with None for what is no finite number."""
    known = np.isfinite(values)
    safe = np.where(known & (values != 0), values, 1.0)
    decimals = DIGITS - 1 - np.floor(np.log10(np.abs(safe)))
    power = 10.0 ** np.abs(decimals)
    rounded = np.where(decimals >= 0, np.rint(safe * power) / power, np.rint(safe / power) * power)
    rounded = np.where(values == 0, 0.0, rounded)
    if known.all():
        return rounded.tolist()
    told = rounded.astype(object)
    told[~known] = None
    return told.tolist()


def number(value: float | None, digits: int | None = None, unit: str = "") -> str:
    """A number as it is read: a real minus sign, a dash where it is not known.

    Parameters
    ----------
    value : float or None
    digits : int or None
        Behind the decimal point; None: three significant ones.
    unit : str

    Examples
    --------
    >>> from nearfar.report.pages.text import number
    >>> number(12.34, 1, "dB"), number(0.01234), number(123456.0)
    ('12.3 dB', '0.0123', '123456')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        text = "∞" if value > 0 else f"{MINUS}∞"
    else:
        text = _significant(float(value)) if digits is None else f"{value:.{digits}f}"
        text = text.replace("-", MINUS)
    return f"{text} {unit}" if unit else text


def _significant(value: float) -> str:
    """Three digits, but all of those before the point; powers of ten only where zeros would be many."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 <= exponent <= 6:
        return f"{value:.2e}"
    text = f"{value:.{max(0, 2 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
