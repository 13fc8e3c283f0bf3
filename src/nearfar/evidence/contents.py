"""Evidence as JSON values: dataclasses by the names of their fields, arrays rounded, what is not known as null."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.files.names import encodable

if TYPE_CHECKING:
    from nearfar.detector.fitted import Verdict

DIGITS = 6  # significant ones, of what arrays hold: more than any of it is known to


def plain(value: Any) -> Any:
    """A value as JSON has it.

    Dataclasses are objects with their fields in order. Numbers that are not finite are null. Bytes of a name that
    are not UTF-8 are escaped.

    Raises
    ------
    TypeError
        If it is of a type that JSON has no form for.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.evidence.contents import plain
    >>> plain({"levels": np.array([-20.123456789, np.nan])})
    {'levels': [-20.1235, None]}
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return _rounded(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__}: has no form in JSON")


def _rounded(array: np.ndarray[Any, Any]) -> Any:
    if array.ndim > 1:
        return [_rounded(row) for row in array]
    if array.dtype.kind != "f":
        return array.tolist()
    return [float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None for x in array.tolist()]


def of_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict, with the keys that ``nearfar score --json`` has."""
    told = {name: plain(getattr(verdict, name)) for name in ("score", "p_value")}
    faults = plain(verdict.faults)
    branches = {
        b.name: {"score": b.score, "p_value": b.p_value, "contribution": b.contribution}
        for b in verdict.branches
    }
    return {
        "recording": encodable(verdict.name),
        **told,
        "decision": verdict.decision or None,
        "faults": faults,
        "error": encodable(verdict.error) or None,
        "levels": plain(verdict.levels),
        "branches": plain(branches),
    }
