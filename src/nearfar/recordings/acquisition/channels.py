"""The channels of a file of data acquisition, and the choice among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.acquisition import rates
from nearfar.recordings.acquisition.rates import RateError
from nearfar.recordings.recording import Channel as Chosen
from nearfar.recordings.recording import refuse_strange
from nearfar.recordings.sound import AudioError, AudioFault, Note

MOST_LISTED = 20  # channels in a message
TIME_NAMES = ("t", "time", "times", "timestamp", "timestamps", "timevector", "timeaxis", "timesec", "tsec")
RATE_NAMES = (
    "fs", "sr", "rate", "samplerate", "samplingrate", "samplefrequency", "samplingfrequency", "samplefreq",
    "samplingfreq", "sampfreq", "fsamp", "fsample", "fsampling", "srate", "framerate", "wfsamplerate",
)  # fmt: skip
INTERVAL_NAMES = (
    "dt", "ts", "interval", "sampleinterval", "samplinginterval", "sampleperiod", "samplingperiod", "sampletime",
    "deltat", "timestep", "increment", "xincrement", "wfincrement",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One channel of a file.

    Attributes
    ----------
    name : str
    unit : str
        Empty if the file names none.
    rate : int or None
        In Hz; ``None`` if the file does not tell, then ``problem`` says why.
    samples : int
        How many there are.
    read : callable
        ``read(start, stop)`` gives them from one to before another, in their unit; lost samples are NaN.
    problem : str
        Why it can't be used; without the name of the file.
    fault : str
        Of which kind the problem is.
    start : float or None
        When it begins, in seconds on a clock of the file.
    aliases : tuple of str
        Other names for it.
    notes : tuple of Note
    """

    name: str
    unit: str
    rate: int | None
    samples: int
    read: Callable[[int, int], NDArray[Any]]
    problem: str = ""
    fault: AudioFault = "refused"
    start: float | None = None
    aliases: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    def __str__(self) -> str:
        told = (self.unit, f"{self.rate} Hz" if self.rate else "no rate", f"{self.samples} samples")
        return f"{self.name} ({', '.join(filter(None, told))})"


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a file holds.

    Attributes
    ----------
    format : str
        As it is shown.
    channels : tuple of Channel
    is_ordered : bool
        Whether their order is that of the recorder, and not of the alphabet: then far comes before near.
    """

    format: str
    channels: tuple[Channel, ...]
    is_ordered: bool = True


def choose(contents: Contents, chosen: Sequence[Chosen], path: Path) -> list[Channel]:
    """The chosen channels in their order; all, if none is chosen and they belong together.

    Raises
    ------
    AudioError
        If a channel is not there or can't be used, or if channels differ in rate or length; lists what there is.
    """
    refuse_strange(chosen)
    there = contents.channels
    if not there:
        raise AudioError(f"{path}: no channel with numbers in this {contents.format} file", fault="empty")
    used = [_one(there, channel, path) for channel in chosen] if chosen else _in_order(contents, path)
    if len({id(channel) for channel in used}) < len(used):
        raise AudioError(
            f"{path}: channels={','.join(map(str, chosen))} names a channel twice; {_list(there)}"
        )
    for channel in used:
        if channel.problem:
            message = f"{path}: channel {channel.name!r}: {channel.problem}"
            others = _choice(there) if len(there) > len(chosen) else ""
            raise AudioError(message + others, fault=channel.fault)
    first = used[0]
    for channel in used:
        if (channel.rate, channel.samples) != (first.rate, first.samples):
            raise AudioError(
                f"{path}: channels {first} and {channel} differ in rate or length; near and far must be "
                f"recorded together{_choice(there)}"
            )
    if first.samples == 0:
        raise AudioError(
            f"{path}: channel {first.name!r} holds no samples; record it again or remove it", fault="empty"
        )
    return used


def _in_order(contents: Contents, path: Path) -> list[Channel]:
    """All channels, the near one first where two names say which it is."""
    there = contents.channels
    said = [_microphone(channel.name) for channel in there]
    if sorted(said) == ["far", "near"]:
        return [there[said.index("near")], there[said.index("far")]]
    numbers = [int("".join(filter(str.isdecimal, channel.name)) or 0) for channel in there]
    if contents.is_ordered or len(there) == 1 or all(a < b for a, b in pairwise(numbers)):
        return list(there)
    raise AudioError(
        f"{path}: a {contents.format} file keeps its {len(there)} channels in the order of the alphabet, and their "
        f"names do not tell which microphone is near{_choice(there)}"
    )


def _microphone(name: str) -> str:
    """``"near"`` or ``"far"``, if a channel's name says one of them as a word."""
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()))
    found = words & {"near", "far"}
    return found.pop() if len(found) == 1 else ""


def _one(there: Sequence[Channel], wanted: Chosen, path: Path) -> Channel:
    if isinstance(wanted, int):
        if wanted > len(there):
            raise AudioError(f"{path}: no channel {wanted}; {_list(there)}")
        return there[wanted - 1]
    for same in (
        [c for c in there if wanted == c.name],
        [c for c in there if wanted in c.aliases],
        [c for c in there if wanted.casefold() in (name.casefold() for name in (c.name, *c.aliases))],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            raise AudioError(
                f"{path}: {len(same)} channels {wanted!r}; choose them by number: {_list(there)}"
            )
    raise AudioError(f"{path}: no channel {wanted!r}; {_list(there)}")


def _list(there: Sequence[Channel]) -> str:
    shown = ", ".join(f"{number} {channel}" for number, channel in enumerate(there[:MOST_LISTED], start=1))
    more = f", and {len(there) - MOST_LISTED} more" if len(there) > MOST_LISTED else ""
    return f"there are: {shown}{more}"


def _choice(there: Sequence[Channel]) -> str:
    return f"; choose the microphones with --channels NEAR,FAR, by name or number; {_list(there)}"


def plain(name: object) -> str:
    """A name as it is compared: letters and digits, lower case."""
    return "".join(character for character in str(name).casefold() if character.isalnum())


def is_time(name: str) -> bool:
    """Whether a channel of that name holds time stamps."""
    return plain(name) in TIME_NAMES


def number(value: object) -> float | None:
    """A single real number, also where it is written as text or in an array of one; ``None`` for all else."""
    if isinstance(value, bytes | str):
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        text, _, unit = text.strip().partition(" ")
        factor = {"": 1.0, "hz": 1.0, "khz": 1000.0, "s": 1.0}.get(unit.strip().casefold())
        try:
            return None if factor is None else float(text) * factor
        except ValueError:
            return None
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        return number(array.item()) if array.size == 1 and array.dtype.kind in "SUO" and array.ndim else None
    return float(array.item())


def named_rate(values: dict[str, object]) -> rates.Rate | None:
    """The rate that properties of a file name: as a rate, or as an interval; ``None`` if they do not.

    Raises
    ------
    RateError
        If they name several rates, or one that is not whole.
    """
    found: dict[str, rates.Rate] = {}
    for name, value in values.items():
        key = plain(name)
        factor = 1000.0 if key.endswith("khz") else 1.0
        key = key.removesuffix("khz").removesuffix("hz")
        told = number(value) if key in RATE_NAMES or key in INTERVAL_NAMES else None
        if told is None:
            continue
        found[name] = rates.from_rate(told * factor) if key in RATE_NAMES else rates.from_interval(told)
    if len({rate.hz for rate in found.values()}) > 1:
        said = ", ".join(f"{name} means {rate.hz} Hz" for name, rate in found.items())
        raise RateError(f"its rate is not clear: {said}")
    return next(iter(found.values()), None)


def full_scale(dtype: np.dtype[Any], unit: str, *, bits: int = 0) -> tuple[float, float, tuple[Note, ...]]:
    """Offset and factor that bring bare integers of a converter to [-1, 1); a note says so.

    Integers with a unit are values in this unit, and stay.
    """
    if dtype.kind not in "iu" or unit:
        return 0.0, 1.0, ()
    bits = bits or 8 * dtype.itemsize
    scale = 2.0 ** (bits - 1)
    message = f"integers of {bits} bits without a unit were divided by {scale:.0f}, full scale"
    return (scale if dtype.kind == "u" else 0.0), 1 / scale, (Note("integers_scaled", message),)
