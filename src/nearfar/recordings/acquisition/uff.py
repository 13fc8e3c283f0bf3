"""Universal files: data sets of type 58 (function at nodal DOF), as text or binary, by pyuff.

Each data set that is a function of time is a channel. Its name is the first ID line, or the response's entity, node
and direction, such as ``mic:1+X``. Its rate comes from an interval of six digits, or from uneven abscissa values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyuff
from numpy.typing import NDArray

from nearfar.recordings.acquisition import rates
from nearfar.recordings.acquisition.channels import Channel, Contents
from nearfar.recordings.acquisition.rates import Rate, RateError
from nearfar.recordings.sound import AudioError

FUNCTION = 58
MOST_BYTES = 2**31  # of a file: pyuff reads all of it
TIME_FUNCTIONS = (0, 1)  # general or unknown, time response
TIME_AXES = (0, 17)  # unknown, time
REAL = (2, 4)  # ordinates of single and of double precision
DIRECTIONS = {1: "+X", -1: "-X", 2: "+Y", -2: "-Y", 3: "+Z", -3: "-Z", 0: ""}
DELIMITER = b"    -1"


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """The functions of time in a universal file."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise AudioError(
            f"{path}: {size} bytes; universal files are read up to {MOST_BYTES}: cut it into clips"
        )
    file = pyuff.UFF(str(path))
    _refuse_cut(file, path)
    numbers = [int(n) for n in np.flatnonzero(np.asarray(file.get_set_types()) == FUNCTION)]
    heads = {n: file.read_sets(n, header_only=True) for n in numbers}
    channels = tuple(_channel(file, n, head) for n, head in heads.items())
    yield Contents("UFF58", _named(channels))


def _refuse_cut(file: Any, path: Path) -> None:
    """pyuff leaves out a data set without an end, without a word."""
    data = path.read_bytes()
    if not data.rstrip().endswith(DELIMITER.strip()):
        if data.lstrip().startswith(DELIMITER.strip()):
            message = (
                f"{path}: truncated, the line -1 that ends a data set is missing at its end; export it again"
            )
            raise AudioError(message, fault="truncated")
        raise AudioError(
            f"{path}: not a readable universal file (it begins with no line -1)", fault="unreadable"
        )
    if not file.get_n_sets():
        raise AudioError(f"{path}: not a readable universal file (no data set)", fault="unreadable")


def _channel(file: Any, n: int, head: dict[str, Any]) -> Channel:
    samples = int(head["num_pts"])
    rate: Rate | None = None
    problem = _not_sound(head)
    if not problem:
        try:
            rate = _rate(file, n, head)
        except RateError as error:
            problem = str(error)
    place = f"{_text(head['rsp_ent_name']) or 'node'}:{head['rsp_node']}{DIRECTIONS.get(head['rsp_dir'], '')}"
    return Channel(
        name=_text(head["id1"]) or place,
        unit=_text(head["ordinate_axis_units_lab"]),
        rate=rate.hz if rate else None,
        samples=samples,
        read=lambda start, stop: _values(file, n, samples)[start:stop],
        problem=problem,
        start=float(head["abscissa_min"]) if head["abscissa_spacing"] else None,
        aliases=(place,),
        notes=rate.notes if rate else (),
    )


def _text(value: str) -> str:
    text = str(value).strip()
    return "" if text == "NONE" else text


def _not_sound(head: dict[str, Any]) -> str:
    """Why a data set is no function of time with real values; empty if it is one."""
    if head["func_type"] not in TIME_FUNCTIONS or head["abscissa_spec_data_type"] not in TIME_AXES:
        return (
            f"it is no function of time (function type {head['func_type']}, abscissa type "
            f"{head['abscissa_spec_data_type']}); export time responses (type 1 over 17, time)"
        )
    if head["ord_data_type"] not in REAL:
        return "its values are complex; export real time responses"
    return ""


def _rate(file: Any, n: int, head: dict[str, Any]) -> Rate:
    if head["abscissa_spacing"] == 1:
        return rates.from_interval(float(head["abscissa_inc"]))
    stamps = np.asarray(file.read_sets(n)["x"], dtype=np.float64)
    last = float(np.abs(stamps).max(initial=0.0))
    written = 10.0 ** (np.floor(np.log10(last)) - 5) if last > 0 and not head["binary"] else 0.0  # E13.5
    return rates.from_stamps(stamps, resolution=written)


def _values(file: Any, n: int, promised: int) -> NDArray[Any]:
    values = np.asarray(file.read_sets(n)["data"])
    if values.shape != (promised,):
        raise AudioError(
            f"{file.get_file_name()}: data set {n + 1}: {values.shape} values were read, {promised} samples are "
            "promised; the file contradicts itself: export it again",
            fault="unreadable",
        )
    return values


def _named(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """With the response's place as the name, where ID lines repeat."""
    names = Counter(channel.name for channel in channels)
    places = Counter(channel.aliases for channel in channels)
    return tuple(
        replace(c, name=c.aliases[0], aliases=(c.name,))
        if names[c.name] > 1 and places[c.aliases] == 1
        else c
        for c in channels
    )
