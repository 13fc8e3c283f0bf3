"""What is read of a recording, whatever its format: samples, header, notes, errors.

Conventions
-----------
Samples are ``(channels, samples)`` float32 in [-1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.recording import Channel, Span, refuse_strange

Samples = NDArray[np.float32]
AudioFault = Literal["empty", "unreadable", "truncated", "not_finite", "refused"]


def not_finite(samples: Samples) -> str:
    """How many samples are not numbers, in words."""
    count = int((~np.isfinite(samples)).sum())
    return f"{count} {'sample is' if count == 1 else 'samples are'} NaN or infinite"


class AudioError(ValueError):
    """A recording cannot be used; the message says which and why, ``fault`` what kind of wrong it is."""

    def __init__(self, message: str, *, fault: AudioFault = "refused") -> None:
        super().__init__(message)
        self.fault: AudioFault = fault


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording's header promises: ``samples`` of ``channels`` at ``rate`` Hz."""

    rate: int
    channels: int
    samples: int
    format: str

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def header_of_part(header: Header, span: Span, name: str, *, is_counted: bool = True) -> Header:
    """The header of a part of a recording, from that of all of it; ``name`` is what messages call the part.

    Parameters
    ----------
    header : Header
    span : Span
    name : str
    is_counted : bool
        Whether the header tells how many samples there are.

    Raises
    ------
    AudioError
        If the recording has another rate, or ends before the part does.
    """
    if span.rate != header.rate:
        raise AudioError(f"{name}: a part at {span.rate} Hz of a recording at {header.rate} Hz; cut it again")
    if is_counted and span.stop > header.samples:
        raise AudioError(
            f"{name}: the recording ends at {header.seconds:.6g} s, before this part does; cut it again"
        )
    return replace(header, samples=len(span))


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a file that was repaired, or is worth saying.

    Attributes
    ----------
    kind : str
        In snake case, such as "unfinished_header", "right_aligned" or "lossy".
    message : str
        What was found, and what was done about it; without the name of the file.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What was read of a recording.

    Attributes
    ----------
    samples : (channels, samples) array
        The chosen channels.
    rate : int
        In Hz.
    header : Header
        As of ``audio.read_header``.
    notes : tuple of Note
    """

    samples: Samples
    rate: int
    header: Header
    notes: tuple[Note, ...] = ()


def chosen_channels(
    channels: Sequence[Channel], *, count: int, names: Sequence[str] = (), where: str
) -> list[int]:
    """The places of the chosen channels, from 0; all, if none is chosen.

    Parameters
    ----------
    channels : sequence of int or str
        Numbers from 1, or names.
    count : int
        How many channels there are.
    names : sequence of str
        Of the channels; empty if the file does not name them.
    where : str
        The file, for messages.

    Raises
    ------
    AudioError
        If a channel is not there, or its name is there more than once; says which there are.
    """
    refuse_strange(channels)
    if not channels:
        return list(range(count))
    there = "1 channel" if count == 1 else f"{count} channels"
    if names:
        there += f": {', '.join(f'{number} {name}' for number, name in enumerate(names, start=1))}"
    places = []
    for channel in channels:
        if isinstance(channel, str):
            if not names:
                raise AudioError(
                    f"{where}: no channel {channel!r}: this file does not name its channels; give numbers from 1 "
                    f"to {count}"
                )
            if names.count(channel) != 1:
                found = "no channel" if channel not in names else f"{names.count(channel)} channels"
                raise AudioError(f"{where}: {found} {channel!r}; it has {there}")
            places.append(names.index(channel))
        elif channel > count:
            raise AudioError(
                f"{where}: no channel {channel}; it has {there}. Choose others with --channels, the near one first"
            )
        else:
            places.append(channel - 1)
    if len({*places}) < len(places):
        raise AudioError(
            f"{where}: channels={','.join(map(str, channels))} names a channel twice; near and far must be "
            "different channels"
        )
    return places
