"""Files of data acquisition: TDMS, universal files (UFF 58), MDF, MATLAB, HDF5.

Conventions
-----------
A file holds channels with a name, a unit and a rate of their own. Near and far are chosen by name or number.
Without a choice, all channels are taken as they are, if they have one rate and length. Time stamps are no channel.
Samples are in their unit, such as V, Pa or g, and may exceed [-1, 1); bare integers of a converter are divided by
their full scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from nearfar.files import extras
from nearfar.files.extras import MissingPackageError
from nearfar.recordings.acquisition.channels import Channel, Contents, choose
from nearfar.recordings.blocks import Block, InBlocks, Lost
from nearfar.recordings.recording import Channel as Chosen
from nearfar.recordings.recording import Span, part_name
from nearfar.recordings.sound import AudioError, Header, Note, Recorded, Samples, header_of_part

# By suffix, the function that opens a file and gives its ``Contents``: loaded when one is read.
READERS = {
    ".tdms": "nearfar.recordings.acquisition.tdms:opened",
    ".uff": "nearfar.recordings.acquisition.uff:opened",
    ".unv": "nearfar.recordings.acquisition.uff:opened",
    ".uf58": "nearfar.recordings.acquisition.uff:opened",
    ".mf4": "nearfar.recordings.acquisition.mdf:opened",
    ".mdf": "nearfar.recordings.acquisition.mdf:opened",
    ".mat": "nearfar.recordings.acquisition.matlab:opened",
    ".h5": "nearfar.recordings.acquisition.hdf5:opened",
    ".hdf5": "nearfar.recordings.acquisition.hdf5:opened",
}
MOST_SAMPLES = 2**28  # of all chosen channels: 1 GiB in single precision
BLOCK = 2**18  # samples of a channel, of a recording that is read in blocks
MATLAB_7_3 = b"MATLAB 7.3"  # begins a MATLAB file that is HDF5
_ONE_AT_A_TIME = Lock()
READ_WHOLE = (".uff", ".unv", ".uf58")  # also .mat up to version 7: their libraries read no part of a file


def read_header(path: Path, channels: Sequence[Chosen] = (), span: Span | None = None) -> Header:
    """What a file promises of the chosen channels, or of a part of them, without reading their samples.

    Raises
    ------
    FileNotFoundError
    MissingPackageError
        If the package that reads this format is not installed.
    AudioError
        If the file can't be read or is cut short, or the channels can't be used together.
    """
    if span is not None and _is_read_whole(path):
        return _part(path, channels, span).header
    with _opened(path) as contents:
        return _header(contents, choose(contents, channels, path), path, span)


def read(path: Path, channels: Sequence[Chosen] = (), span: Span | None = None) -> Recorded:
    """The samples of the chosen channels, or of a part of them, in their unit.

    Raises
    ------
    FileNotFoundError
    MissingPackageError
    AudioError
        As ``read_header``; and if samples are missing, NaN or infinite.
    """
    if span is not None and _is_read_whole(path):
        return _part(path, channels, span)
    with _opened(path) as contents:
        used = choose(contents, channels, path)
        header = _header(contents, used, path, span)
        if len(used) * header.samples > MOST_SAMPLES:
            raise AudioError(
                f"{path}: {len(used) * header.samples} samples in {len(used)} channels; at most {MOST_SAMPLES} are "
                "read at once: choose fewer channels, or cut the recording into windows"
            )
        start, stop = (0, header.samples) if span is None else (span.start, span.stop)
        samples = np.stack([_samples(channel, path, start, stop) for channel in used])
    return Recorded(samples, header.rate, header, _notes(used))


def in_blocks(path: Path, channels: Sequence[Chosen] = ()) -> InBlocks:
    """The chosen channels, some of their samples at a time.

    Memory does not grow with the file where its library reads parts: of TDMS, MDF, HDF5 and MATLAB 7.3. Universal
    files and older MATLAB files are read whole; they have a limit of their own.

    Raises
    ------
    FileNotFoundError
    MissingPackageError
    AudioError
        As ``read_header``.
    """
    with _opened(path) as contents:
        used = choose(contents, channels, path)
        header, notes = _header(contents, used, path, None), _notes(used)

    def blocks(start: int) -> Iterator[Block]:
        at = start
        try:
            with _opened(path) as contents:
                used = choose(contents, channels, path)
                size = header.samples if _is_read_whole(path) else BLOCK
                while at < header.samples:
                    stop = min(at // size * size + size, header.samples)
                    yield np.stack([_values(channel, path, at, stop) for channel in used])
                    at = stop
        except AudioError as error:
            yield Lost(header.samples - at, error)

    return InBlocks(header, True, notes, blocks)


def _is_read_whole(path: Path) -> bool:
    """Whether a part of a file takes as long as all of it."""
    if path.suffix.lower() != ".mat" or not path.is_file():
        return path.suffix.lower() in READ_WHOLE and path.is_file()
    with path.open("rb") as file:
        return file.read(len(MATLAB_7_3)) != MATLAB_7_3


def _part(path: Path, channels: Sequence[Chosen], span: Span) -> Recorded:
    """A part of a file that is read whole; the file that was read last is remembered for its other parts."""
    status = path.stat()
    with _ONE_AT_A_TIME:
        whole = _whole(path, tuple(channels), (status.st_size, status.st_mtime_ns))
    header = header_of_part(whole.header, span, part_name(str(path), span))
    return replace(whole, samples=whole.samples[:, span.start : span.stop], header=header)


@lru_cache(maxsize=1)
def _whole(path: Path, channels: tuple[Chosen, ...], state: tuple[int, int]) -> Recorded:  # noqa: ARG001  # a key
    return read(path, channels)


@contextmanager
def _opened(path: Path) -> Iterator[Contents]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise AudioError(f"{path}: not a file on disk; files of data acquisition can't be read from a pipe")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); record it again or remove it", fault="empty")
    suffix = path.suffix.lower()
    reader = extras.resolve(READERS[suffix], needed_by=f"{path}: a {suffix} file")
    try:
        with reader(path) as contents:
            yield contents
    except (AudioError, MissingPackageError):
        raise
    except Exception as error:  # of five libraries, which raise whatever a damaged file leads to
        said = " ".join(str(error).split())[:200]
        message = f"{path}: not a readable {suffix} file ({type(error).__name__}: {said})"
        raise AudioError(message, fault="unreadable") from error


def _header(contents: Contents, used: Sequence[Channel], path: Path, span: Span | None) -> Header:
    first = used[0]
    if first.rate is None:  # a channel without a rate has a problem, and was refused
        raise AudioError(f"{path}: channel {first.name!r} has no rate")
    header = Header(first.rate, len(used), first.samples, contents.format)
    return header if span is None else header_of_part(header, span, part_name(str(path), span))


def _values(channel: Channel, path: Path, start: int, stop: int) -> NDArray[np.float32]:
    """As many as were promised; lost ones are NaN."""
    values = np.asarray(channel.read(start, stop))
    if values.shape != (stop - start,):
        raise AudioError(
            f"{path}: channel {channel.name!r}: {values.shape} values were read, {stop - start} samples are "
            "promised; the file is cut short or contradicts itself",
            fault="truncated" if values.size < stop - start else "unreadable",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _samples(channel: Channel, path: Path, start: int, stop: int) -> NDArray[np.float32]:
    samples = _values(channel, path, start, stop)
    if not np.isfinite(samples).all():
        lost = ~np.isfinite(samples)
        raise AudioError(
            f"{path}: channel {channel.name!r}: {lost.sum()} of {lost.size} samples are marked as lost, NaN or "
            f"infinite, the first is number {start + lost.argmax() + 1}; record it again, or cut out a part "
            "without them",
            fault="not_finite",
        )
    return samples


def _notes(used: Sequence[Channel]) -> tuple[Note, ...]:
    notes = [note for channel in used for note in channel.notes]
    units = {channel.unit: channel.name for channel in used if channel.unit}
    if units:
        shown = " and ".join(units)
        notes.append(Note("unit", f"samples are in {shown}, as the file has them, and not in [-1, 1)"))
    starts = [channel.start for channel in used if channel.start is not None and channel.rate is not None]
    if len(starts) > 1 and max(starts) - min(starts) > 0.5 / (used[0].rate or 1):
        apart = max(starts) - min(starts)
        notes.append(Note("start", f"its channels begin {apart:.4g} s apart, by their own time stamps"))
    return tuple(dict.fromkeys(notes))


__all__ = ["MOST_SAMPLES", "READERS", "Samples", "in_blocks", "read", "read_header"]
