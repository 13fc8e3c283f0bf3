"""When a recording began: by the chunk bext, by its name, by the time of its file."""

from __future__ import annotations

import os
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from nearfar.recordings import audio
from nearfar.recordings.recording import Recording
from nearfar.windows import clock
from nearfar.windows.clock import Clock, ClockError

RATE = 48_000


def bext(date: str, time: str, reference: int = 0) -> bytes:
    """The chunk, by the table of EBU Tech 3285, section 2.3."""
    texts = b"a hall".ljust(256, b"\0") + b"a recorder".ljust(32, b"\0") + bytes(32)
    times = date.encode().ljust(10, b"\0") + time.encode().ljust(8, b"\0")
    low, high = reference & 0xFFFFFFFF, reference >> 32
    rest = struct.pack("<IIH", low, high, 1) + bytes(64) + bytes(190) + b"A=PCM,F=48000\r\n"
    return texts + times + rest


def chunk(name: bytes, content: bytes, *, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + bytes(len(content) % 2)


def wav(*, before: bytes = b"", after: bytes = b"", seconds: float = 0.1, rate: int = RATE) -> bytes:
    """A WAV of two channels, with other chunks before and after the samples."""
    head = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, rate, 4 * rate, 4, 16))
    body = b"WAVE" + before + head + chunk(b"data", bytes(4 * round(seconds * rate))) + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def rf64(*, before: bytes = b"", after: bytes = b"", magic: bytes = b"RF64") -> bytes:
    """The same with sizes of 64 bits (EBU Tech 3306): the size of the samples is in the chunk ds64."""
    samples = bytes(4 * 4800)
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(samples), 4800, 0))
    head = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16))
    body = b"WAVE" + sizes + before + head + chunk(b"data", samples, size=0xFFFFFFFF) + after
    return magic + struct.pack("<I", 0xFFFFFFFF) + body


def began(content: bytes, folder: Path) -> datetime | None:
    path = folder / "r.wav"
    path.write_bytes(content)
    found = clock.clock_of(path, seconds=0.1)
    assert found is None or found.said_by == "bext"
    return None if found is None else found.began


NOON = datetime(2026, 3, 1, 12, 30, 15)
CHUNK = chunk(b"bext", bext("2026-03-01", "12:30:15"))


@pytest.mark.parametrize(
    "content",
    [
        wav(before=CHUNK),
        wav(after=CHUNK),  # as some editors write it
        wav(before=chunk(b"LIST", b"odd"), after=chunk(b"iXML", b"x") + CHUNK),
        rf64(before=CHUNK),
        rf64(after=CHUNK),
        rf64(before=CHUNK, magic=b"BW64"),
    ],
    ids=["before", "after", "odd", "rf64", "rf64 after", "bw64"],
)
def test_the_chunk_is_found_wherever_it_is(content: bytes, tmp_path: Path) -> None:
    assert began(content, tmp_path) == NOON


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("2026:03:01", "12-30-15"),
        ("2026/03/01", "12.30.15"),
        ("2026 03 01", "12 30 15"),
        ("2026_03_01", "12_30_15"),
    ],
)
def test_separators_of_the_standard(date: str, time: str, tmp_path: Path) -> None:
    assert began(wav(before=chunk(b"bext", bext(date, time))), tmp_path) == NOON


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("", ""),
        ("0000-00-00", "00:00:00"),
        ("----------", "--------"),
        ("2026-03-01", ""),
        ("          ", "12:30:15"),
    ],
)
def test_what_was_never_filled_in_is_not_known(date: str, time: str, tmp_path: Path) -> None:
    assert began(wav(before=chunk(b"bext", bext(date, time))), tmp_path) is None


@pytest.mark.parametrize(
    ("date", "time", "message"),
    [
        ("2026-02-30", "12:30:15", "'2026-02-30' at '12:30:15', which is no date and time .*day"),
        ("2026-03-01", "25:00:00", "hour must be in"),
        ("01.03.2026", "12:30:15", "expected yyyy-mm-dd and hh:mm:ss.*--began none"),
    ],
)
def test_a_wrong_date_is_an_error(date: str, time: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ClockError, match=message):
        began(wav(before=chunk(b"bext", bext(date, time))), tmp_path)


def test_a_timecode_of_the_same_time_gives_the_fraction_of_the_second(tmp_path: Path) -> None:
    samples = round((12 * 3600 + 30 * 60 + 15.25) * RATE)
    found = began(wav(before=chunk(b"bext", bext("2026-03-01", "12:30:15", samples))), tmp_path)
    assert found == NOON + timedelta(seconds=0.25)


def test_a_timecode_just_before_midnight_belongs_to_the_day_before(tmp_path: Path) -> None:
    samples = round((24 * 3600 - 0.5) * RATE)
    found = began(wav(before=chunk(b"bext", bext("2026-03-01", "00:00:00", samples))), tmp_path)
    assert found == datetime(2026, 2, 28, 23, 59, 59, 500_000)


@pytest.mark.parametrize(
    ("date", "time", "reference"),
    [
        # Two real files. Sound Devices 702T, timecode 23.976 beside 48 kHz: 44.6 s from the recorder's clock
        # (wavinfo.readthedocs.io, "Broadcast WAV Extension Metadata").
        ("2018-12-31", "12:40:00", 2_190_940_753),
        # Pro Tools: a place in the session, not a time of day (MediaArea/MediaConch_SourceCode, issue 788).
        ("2024-09-13", "15:17:54", 171_050_880),
        ("2026-03-01", "12:30:15", 0),
    ],
    ids=["film", "programme", "empty"],
)
def test_another_timecode_does_not_count(date: str, time: str, reference: int, tmp_path: Path) -> None:
    found = began(wav(before=chunk(b"bext", bext(date, time, reference))), tmp_path)
    assert found == datetime.fromisoformat(f"{date} {time}")


@pytest.mark.parametrize(
    "content",
    [
        wav(),
        wav(before=chunk(b"bext", b"short")),
        CHUNK,
        b"",
        b"RIFF" + bytes(4) + b"AVI " + CHUNK,
        wav(after=CHUNK)[:-700],
    ],
    ids=["none", "short", "no file", "empty", "no wav", "cut off"],
)
def test_without_the_chunk_nothing_is_known(content: bytes, tmp_path: Path) -> None:
    assert began(content, tmp_path) is None


def test_a_flac_says_nothing(tmp_path: Path) -> None:
    audio.write(tmp_path / "r.flac", np.zeros((2, 100), np.float32), RATE)
    assert clock.clock_of(tmp_path / "r.flac", seconds=0.1) is None


def test_the_samples_are_read_whatever_the_chunk(tmp_path: Path) -> None:
    (tmp_path / "r.wav").write_bytes(wav(before=CHUNK, after=CHUNK))
    assert audio.read_header(tmp_path / "r.wav").samples == 4800


def test_the_last_change_is_the_end(tmp_path: Path) -> None:
    paths = (tmp_path / "a_Tr1.wav", tmp_path / "a_Tr2.wav")
    for number, path in enumerate(paths):
        path.write_bytes(wav())
        os.utime(path, (1_772_368_200 + number,) * 2)
    found = clock.clock_of(Recording(paths), "mtime", seconds=600.0)
    assert found is not None
    assert found.said_by == "mtime"
    assert found.began == datetime(2026, 3, 1, 12, 20, 1, tzinfo=UTC)
    assert found.began.tzinfo is not None


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("20260301_123015.wav", "%Y%m%d_%H%M%S", NOON),
        ("PUMP_20260301_123015_Tr1.wav", "%Y%m%d_%H%M%S", NOON),
        ("rec 2026-03-01T12.30.15 2026-03-01T12.30.15.wav", "%Y-%m-%dT%H.%M.%S", NOON),
        ("pump(01-Mar-26)12h30.wav", "(%d-%b-%y)%Hh%M", NOON.replace(second=0)),
        ("060-2026 12PM.wav", "%j-%Y %I%p", NOON.replace(minute=0, second=0)),
        ("100%_20260301_12.wav", "%%_%Y%m%d_%H", NOON.replace(minute=0, second=0)),
        ("20260301T123015.5.wav", "%Y%m%dT%H%M%S.%f", NOON.replace(microsecond=500_000)),
        ("20260301T123015+0100.wav", "%Y%m%dT%H%M%S%z", NOON.replace(tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_date_in_the_name(name: str, pattern: str, expected: datetime) -> None:
    found = clock.clock_of(Path(name), pattern, seconds=1.0)
    assert found == Clock(expected, "name")


def test_a_date_in_the_folder() -> None:
    path = Path("hall", "2026-03-01", "12.wav")
    assert clock.date_in_name(path, "%Y-%m-%d/%H") == NOON.replace(minute=0, second=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pump.wav", r"pump\.wav: no date of the form %Y%m%d_%H%M%S in its name"),
        ("120260301_1230150.wav", "no date of the form"),  # digits of a longer number
        ("20261301_123015.wav", "'20261301_123015' in its name is no date of the form"),
        ("20260301_123015_to_20260301_124015.wav", "2 dates, 20260301_123015 and 20260301_124015"),
    ],
)
def test_a_name_without_one_date_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ClockError, match=message):
        clock.date_in_name(Path(name), "%Y%m%d_%H%M%S")


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("ctime", "began='ctime': must be bext, mtime, none, or a pattern"),
        ("%Y%m%d", "must give the hour"),
        ("%H%M%S", "must give year, month and day"),
        ("%Y%m%d_%H%Q", "%Q is not known here; there are %Y, %y"),
        ("%Y%m%d_%H_%Y", "%Y is there more than once"),
        ("%Y%m%d_%I", "must give the hour"),
        ("%Y%m%d_%H%", "% is not known here"),
    ],
)
def test_a_way_that_is_none_is_refused(way: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clock.require_way(way)


def test_none_asks_nothing() -> None:
    assert clock.clock_of(Path("20260301_123015.wav"), "none", seconds=1.0) is None


def test_recordings_that_overlap_are_refused() -> None:
    first, later = Clock(NOON, "name"), Clock(NOON + timedelta(minutes=9), "name")
    clock.require_order([("a", first, 600.0), ("b", later, 1.0)])  # by a minute: names without seconds
    with pytest.raises(ClockError, match=r"a began at 2026-03-01T12:30:15\.000 and lasts 601 s, but b began"):
        clock.require_order([("a", first, 601.0), ("b", later, 1.0)])


def test_times_with_and_without_a_zone_have_no_order() -> None:
    zoned = Clock(NOON.replace(tzinfo=UTC), "mtime")
    clock.require_zones({"a": zoned, "b": zoned})
    clock.require_zones({})
    with pytest.raises(ClockError, match="a and b: the time of one has a zone"):
        clock.require_zones({"a": zoned, "b": Clock(NOON, "bext")})


def test_times_are_shown_by_iso_8601() -> None:
    assert clock.shown(NOON) == "2026-03-01T12:30:15.000"
    assert clock.shown(NOON.replace(tzinfo=UTC)) == "2026-03-01T12:30:15.000+00:00"
