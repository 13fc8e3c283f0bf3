"""TDMS files of LabVIEW, DIAdem and other recorders, by npTDMS.

A channel's rate is 1 / ``wf_increment``; without it, a rate or an interval among the properties of the channel, its
group or the file, by its usual names; or a channel of time stamps in its group. Scalings, also those of DAQmx, are
applied by npTDMS.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import nptdms
import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.acquisition import rates
from nearfar.recordings.acquisition.channels import Channel, Contents, full_scale, is_time, named_rate
from nearfar.recordings.acquisition.rates import Rate, RateError
from nearfar.recordings.sound import AudioError

LEAD_IN = struct.Struct("<4sIIQQ")  # tag, contents, version, bytes to the next segment, bytes to its samples
UNFINISHED = 0xFFFFFFFFFFFFFFFF  # in place of the length of a segment that was being written
MOST_STAMPS = 2**26  # time stamps that are read to find a rate
UNITS = ("unit_string", "NI_UnitDescription", "Unit", "unit", "units")


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """The channels of a TDMS file, while it is open."""
    with path.open("rb") as file:
        _refuse_cut(file, path)
        with nptdms.TdmsFile.open(
            file
        ) as tdms:  # of a file, not of a path: an old index beside it is not believed
            groups = [group for group in tdms.groups() if group.channels()]
            yield Contents("TDMS", tuple(c for group in groups for c in _group(group, tdms, len(groups) > 1)))


def _refuse_cut(file: BinaryIO, path: Path) -> None:
    """npTDMS reads what is left after a power cut, with a line in its log; the lengths of the segments tell."""
    size = file.seek(0, 2)
    position = number = 0
    while position < size:
        file.seek(position)
        number += 1
        lead_in = file.read(LEAD_IN.size)
        if not b"TDSm".startswith(lead_in[:4]):
            raise AudioError(
                f"{path}: not a readable TDMS file (no segment begins at byte {position})", fault="unreadable"
            )
        length = LEAD_IN.unpack(lead_in)[3] if len(lead_in) == LEAD_IN.size else UNFINISHED
        position += LEAD_IN.size + length
        if position > size:
            lost = (
                "its length was never written"
                if length == UNFINISHED
                else f"{position - size} bytes are missing"
            )
            raise AudioError(
                f"{path}: truncated in segment {number}: {lost}; the recording was not ended properly, as by a "
                "power cut: repair it with the program that recorded it, or record it again",
                fault="truncated",
            )
    file.seek(0)


def _group(group: Any, tdms: Any, several: bool) -> Iterator[Channel]:
    numeric = [channel for channel in group.channels() if len(channel) == 0 or channel.dtype.kind in "fiu"]
    stamps = [channel for channel in numeric if is_time(channel.name)]
    for channel in numeric:
        if channel in stamps:
            continue
        own = channel.properties
        unit = next((str(own[name]).strip() for name in UNITS if own.get(name)), "")
        rate: Rate | None = None
        problem = ""
        try:
            rate = _rate(channel, (own, group.properties, tdms.properties), stamps)
        except RateError as error:
            problem = str(error)
        offset, factor, notes = full_scale(channel.dtype, unit)
        full = f"{group.name}/{channel.name}"
        yield Channel(
            name=full if several else channel.name,
            unit=unit,
            rate=rate.hz if rate else None,
            samples=len(channel),
            read=partial(_scaled, channel, offset, factor),
            problem=problem,
            start=_start(own),
            aliases=(channel.name,) if several else (full,),
            notes=(*(rate.notes if rate else ()), *notes),
        )


def _scaled(channel: Any, offset: float, factor: float, start: int, stop: int) -> NDArray[Any]:
    values: NDArray[Any] = channel.read_data(start, stop - start)
    return values if factor == 1 else (values.astype(np.float64) - offset) * factor


def _rate(channel: Any, properties: tuple[Mapping[str, Any], ...], stamps: list[Any]) -> Rate:
    increment = channel.properties.get("wf_increment")
    if increment:
        return rates.from_interval(float(increment))
    for level in properties:
        if (found := named_rate({k: v for k, v in level.items() if k != "wf_increment"})) is not None:
            return found
    for stamp in stamps:
        if len(stamp) == len(channel) and len(stamp) <= MOST_STAMPS:
            return rates.from_stamps(stamp[:])
    raise RateError(
        "the file has no wf_increment for it, no other rate among its properties and no time channel of its "
        "length; save it as a waveform, or add the property wf_increment, in seconds"
    )


def _start(own: Mapping[str, Any]) -> float | None:
    """Seconds since 1970 or, without a time, since an unknown moment; ``None`` without either."""
    if "wf_start_time" not in own and "wf_start_offset" not in own:
        return None
    moment = own.get("wf_start_time", 0)
    seconds = (
        moment.astype("datetime64[us]").astype(float) * 1e-6 if isinstance(moment, np.datetime64) else 0.0
    )
    return float(seconds + float(own.get("wf_start_offset", 0.0)))
