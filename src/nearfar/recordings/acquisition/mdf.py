"""MDF files of ASAM, version 4 and before, by asammdf.

A channel's rate comes from the time channel of its group, its unit and conversion from the file. A channel array,
such as a stereo block, is one channel for each of its places, named ``mic[0]``, ``mic[1]`` as asammdf does.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asammdf
import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.acquisition import rates
from nearfar.recordings.acquisition.channels import Channel, Contents, full_scale, is_time
from nearfar.recordings.acquisition.interleaving import takes_turns
from nearfar.recordings.acquisition.rates import Rate, RateError
from nearfar.recordings.sound import AudioError, Note

IDENTIFICATION = 64  # bytes, before the first block
BLOCK = struct.Struct("<4s4xQQ")  # name, length, links
MASTERS = (2, 3)  # channel types of version 4 that hold time stamps: stored, virtual
NUMBERS = tuple(range(6))  # data types of version 4: integers and floating point, of both byte orders
INTEGERS = {0: np.dtype("u8"), 1: np.dtype("u8"), 2: np.dtype("i8"), 3: np.dtype("i8")}
TEXT_CONVERSIONS = 7  # and above: values become text
TIME = (0, 1)  # what a master counts: not told, time
MOST_PLACES = 64  # of a channel array that holds microphones
MOST_STAMPS = 2**27
MOST_RATES = 1000  # of groups, that are remembered
ASAMMDF = b"amdf"  # begins the name of the program that wrote a file

FoundRate = tuple[Rate | None, float | None, str]
_RATES: dict[tuple[Path, int, int, int], FoundRate] = {}


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """The channels of an MDF file, while it is open."""
    with path.open("rb") as file:
        head = file.read(IDENTIFICATION)
        if not head.startswith((b"MDF ", b"UnFinMF ")) or len(head) < IDENTIFICATION:
            raise AudioError(
                f"{path}: not a readable MDF file (it does not begin with MDF)", fault="unreadable"
            )
        if head.startswith(b"UnFinMF "):
            raise AudioError(
                f"{path}: truncated: the recording was not ended properly, as by a power cut (the file is marked "
                "unfinished); finish it with the program that recorded it, or record it again",
                fault="truncated",
            )
        if head[8:9] >= b"4":
            _refuse_cut(file, path)
    with asammdf.MDF(path) as mdf:
        channels = [channel for number in range(len(mdf.groups)) for channel in _group(mdf, number, path)]
        yield Contents(f"MDF{mdf.version}", _named(channels))


def _refuse_cut(file: Any, path: Path) -> None:
    """Follow all links of a version 4 file: what they name must be in it."""
    size = file.seek(0, 2)
    waiting, seen = [IDENTIFICATION], {0, IDENTIFICATION}
    while waiting:
        place = waiting.pop()
        file.seek(place)
        head = file.read(BLOCK.size)
        name, length, links = BLOCK.unpack(head) if len(head) == BLOCK.size else (b"##", BLOCK.size, 0)
        if not name.startswith(b"##") or BLOCK.size + 8 * links > length:
            raise AudioError(
                f"{path}: not a readable MDF file (no block at byte {place})", fault="unreadable"
            )
        if place + length > size:
            raise AudioError(
                f"{path}: truncated, {place + length - size} bytes are missing; record it again, or finish it with "
                "the program that recorded it",
                fault="truncated",
            )
        for (link,) in struct.iter_unpack("<Q", file.read(8 * links)):
            if link not in seen:
                seen.add(link)
                waiting.append(link)


def _group(mdf: Any, number: int, path: Path) -> Iterator[Channel]:
    group = mdf.groups[number]
    samples = int(group.channel_group.cycles_nr)
    master = mdf.masters_db.get(number)
    arrays = {
        channel.name: _places(group.channel_dependencies[index])
        for index, channel in enumerate(group.channels)
        if group.channel_dependencies[index]
    }
    elements = {f"{name}[{place}]" for name, places in arrays.items() for place in range(places)}
    rate, start, problem = _known_rate(mdf, number, samples, path)
    for index, channel in enumerate(group.channels):
        if (
            index == master
            or channel.name in elements
            or is_time(channel.name)
            or not _is_number(mdf, channel)
        ):
            continue
        unit = str(mdf.get_channel_unit(group=number, index=index) or "").strip()
        offset, factor, notes = _scale(mdf, channel, unit)
        one = Channel(
            name=channel.name,
            unit=unit,
            rate=rate.hz if rate else None,
            samples=samples,
            read=_reader(mdf, (number, index), None, (offset, factor), path),
            problem=problem,
            start=start,
            aliases=(f"{number + 1}/{channel.name}",),
            notes=(*(rate.notes if rate else ()), *notes),
        )
        places = arrays.get(channel.name)
        if places is None:
            yield one
        elif places:
            for place in range(places):
                name = f"{channel.name}[{place}]"
                read = _reader(mdf, (number, index), place, (offset, factor), path)
                yield replace(one, name=name, read=read, aliases=(f"{number + 1}/{name}",))


def _scale(mdf: Any, channel: Any, unit: str) -> tuple[float, float, tuple[Note, ...]]:
    """As ``full_scale``: of integers that have no conversion."""
    kind = INTEGERS.get(channel.data_type) if mdf.version >= "4" and channel.conversion is None else None
    return (0.0, 1.0, ()) if kind is None else full_scale(kind, unit, bits=channel.bit_count)


def _places(dependencies: Any) -> int:
    """How many channels an array holds; 0 for a structure, of which the members are channels, and for a table."""
    block = dependencies[0]
    if not isinstance(block, asammdf.blocks.v4_blocks.ChannelArrayBlock) or block.dims != 1:
        return 0
    return int(block.dim_size_0) if block.dim_size_0 <= MOST_PLACES else 0


def _is_number(mdf: Any, channel: Any) -> bool:
    if mdf.version < "4":
        return channel.data_type not in (7, 8)  # text, bytes
    conversion = channel.conversion
    text = conversion is not None and conversion.conversion_type >= TEXT_CONVERSIONS
    return channel.data_type in NUMBERS and channel.channel_type not in MASTERS and not text


def _known_rate(mdf: Any, number: int, samples: int, path: Path) -> FoundRate:
    """As ``_rate``; remembered, because all time stamps are read for it, whatever part of the samples is."""
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns, number)
    if key not in _RATES:
        if len(_RATES) >= MOST_RATES:
            _RATES.clear()
        _RATES[key] = _rate(mdf, number, samples)
    return _RATES[key]


def _rate(mdf: Any, number: int, samples: int) -> FoundRate:
    """Rate and beginning of a group, or what is wrong with its time channel."""
    home = (
        number if mdf.version < "4" else mdf.virtual_groups_map.get(number, number)
    )  # of the columns of a table
    master = mdf.masters_db.get(home)
    if master is None:
        return None, None, "its group has no time channel; export it with one"
    if mdf.version >= "4" and mdf.groups[home].channels[master].sync_type not in TIME:
        return None, None, "it is recorded over angle, distance or an index, not over time"
    if samples == 0:
        return None, None, "it holds no samples"
    if samples > MOST_STAMPS:
        return (
            None,
            None,
            f"it has {samples} samples; at most {MOST_STAMPS} are read: cut the recording into clips",
        )
    stamps = np.asarray(mdf.get_master(number))
    try:
        return rates.from_stamps(stamps), float(stamps[0]), ""
    except RateError as error:
        return None, None, str(error)


def _reader(mdf: Any, at: tuple[int, int], place: int | None, scale: tuple[float, float], path: Path) -> Any:
    """A function that gives the samples of a channel, or of one place of a channel array."""

    def read(start: int, stop: int) -> NDArray[Any]:
        # by default, asammdf leaves out samples that are marked as invalid, and closes the gap
        signal = mdf.get(
            group=at[0],
            index=at[1],
            ignore_invalidation_bits=True,
            record_offset=start,
            record_count=stop - start,
        )
        values = signal.samples
        if values.dtype.names:
            values = values[values.dtype.names[0]]
        if place is not None:
            values = values[:, place]
        values = (
            values.astype(np.float64) if scale[1] == 1 else (values.astype(np.float64) - scale[0]) * scale[1]
        )
        if signal.invalidation_bits is not None:
            values = np.where(np.asarray(signal.invalidation_bits, dtype=bool), np.nan, values)
        if (
            place is None
            and mdf.version >= "4"
            and mdf.identification.program_identification.startswith(ASAMMDF)
        ):
            _refuse_interleaved(values, signal.name, path)
        return values

    return read


def _refuse_interleaved(values: NDArray[Any], name: str, path: Path) -> None:
    if values.ndim != 1 or takes_turns(values):
        raise AudioError(
            f"{path}: channel {name!r} holds the samples of several channels in turn, and a part of the recording: "
            "asammdf makes that of a signal of shape (samples, channels). The rest is lost; write each channel as "
            "a signal of its own, and record again what has no other copy"
        )


def _named(channels: list[Channel]) -> tuple[Channel, ...]:
    """With the number of the group before names that several groups have."""
    counts = Counter(channel.name for channel in channels)
    return tuple(
        replace(c, name=c.aliases[0], aliases=(c.name,)) if counts[c.name] > 1 else c for c in channels
    )
