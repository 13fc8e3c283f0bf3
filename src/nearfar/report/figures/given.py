"""What figures are given: arrays of the right shape, finite, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def vector(name: str, values: ArrayLike, *, length: int | None = None, of: str = "", least: int = 1) -> Float:
    """A finite (n,) array.

    Parameters
    ----------
    name : str
        For errors.
    values : array-like
    length : int or None
        That it must have.
    of : str
        What it must be as long as, for errors.
    least : int
        That n must be at least.

    Raises
    ------
    ValueError
        If it is not one.
    """
    x = _numbers(name, values)
    if x.ndim != 1:
        raise ValueError(f"{name}: has the shape {x.shape}; must be an array (n,)")
    if length is not None and len(x) != length:
        raise ValueError(f"{name}: has {len(x)} values; must have {length}, as {of}")
    if len(x) < least:
        raise ValueError(f"{name}: has {len(x)} values; must have at least {least}")
    return finite(name, x)


def matrix(name: str, values: ArrayLike, *, shape: tuple[int | None, int | None], of: str) -> Float:
    """A (n, m) array; ``None`` in ``shape`` is any number from 1 on. It may hold NaN: see ``finite``."""
    x = _numbers(name, values)
    if x.ndim != 2 or any(s not in (None, n) or n == 0 for s, n in zip(shape, x.shape, strict=True)):
        wanted = ", ".join("n" if s is None else str(s) for s in shape)
        raise ValueError(f"{name}: has the shape {x.shape}; must be ({wanted}), {of}")
    return x


def edges(name: str, values: ArrayLike) -> Float:
    """A finite, ascending (n + 1,) array of two values or more: where parts begin and end."""
    x = vector(name, values, least=2)
    if (np.diff(x) <= 0).any():
        raise ValueError(f"{name}: must ascend, and each value once; sort them")
    return x


def finite(name: str, values: Float) -> Float:
    """The same array.

    Raises
    ------
    ValueError
        If it holds NaN or infinity.
    """
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{name}: {bad} of {values.size} values are not finite; leave them out")
    return values


def names(name: str, values: Sequence[str], *, length: int, of: str) -> list[str]:
    """As many texts as ``of`` has."""
    if isinstance(values, str) or len(values) != length:
        found = "a text" if isinstance(values, str) else f"{len(values)} names"
        raise ValueError(f"{name}: {found}; must be a list of {length} names, as many as {of}")
    return [str(value) for value in values]


def _numbers(name: str, values: ArrayLike) -> Float:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: not an array of numbers: {error}") from error
