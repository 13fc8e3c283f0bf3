"""Real folders that are filled while they are watched."""

from __future__ import annotations

import io
import logging
import os
import shutil
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import soundfile
from ears import PATIENCE, Listener, as_samples, listening, noise
from test_sources_pcm import wav

from nearfar.watching.sources import SourceError, settling
from nearfar.watching.sources.folder import Folder

PATTERN = "%Y%m%d_%H%M%S"
LONG_AGO = 1_700_000_000.0


def fast(folder: Path, **options: object) -> Folder:
    """That looks often, and does not wait long."""
    return Folder(str(folder), **{"settle": 0.05, "poll": 0.01, "began": PATTERN, "zone": UTC, **options})


def named(second: int, *, after: str = "") -> str:
    return f"pump_{datetime.fromtimestamp(LONG_AGO + second, UTC):{PATTERN}}{after}.wav"


def put(path: Path, frames: np.ndarray | None = None, *, at: float | None = None) -> Path:
    """A recording, whole at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    part.write_bytes(wav(noise(160) if frames is None else frames))
    if at is not None:
        os.utime(part, (at, at))
    part.rename(path)
    return path


def names(listener: Listener) -> list[str]:
    return [one.arrival.name for one in listener.heard]


def test_a_backlog_is_heard_oldest_first_in_folders_of_days_too(tmp_path: Path) -> None:
    places = ["2023/11/14/", "", "2023/11/15/", "old/"]
    rng = np.random.default_rng(0)
    seconds = rng.permutation(40)
    for second in seconds:
        put(tmp_path / places[rng.integers(4)] / named(int(second)))
    twins = put(tmp_path / "b" / named(50)), put(tmp_path / "a" / named(50))
    with listening(fast(tmp_path)) as listener:
        listener.until_ended(42)
    assert [one.arrival.began_at - LONG_AGO for one in listener.heard] == [*range(40), 50, 50]
    assert names(listener)[-2:] == [f"a/{named(50)}", f"b/{named(50)}"]
    assert listener.heard[-1].arrival.recording.path == twins[0]
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(noise(160)))
    assert listener.heard_at[:2] == pytest.approx([LONG_AGO + 0.01, LONG_AGO + 1.01])


def test_a_look_that_takes_longer_than_files_settle_still_hears_the_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, the newest comes first in a folder; all were there before the first look."""
    for second in range(6):
        put(tmp_path / f"{9 - second}_{named(second)}")

    def slowly(self: settling.Settling, name: str) -> bool:
        time.sleep(0.03)
        return wanted(self, name)

    wanted = settling.Settling._is_wanted
    monkeypatch.setattr(settling.Settling, "_is_wanted", slowly)
    with listening(fast(tmp_path, settle=0.1)) as listener:
        listener.until_ended(6)
    assert [one.arrival.began_at - LONG_AGO for one in listener.heard] == [*range(6)]


def test_nothing_is_heard_twice_also_not_by_the_next_watcher(tmp_path: Path) -> None:
    finished: set[str] = set()
    for second in range(5):
        put(tmp_path / "day" / named(second))
    with listening(fast(tmp_path), finished=finished) as listener:
        listener.until_ended(5)
        put(tmp_path / "day" / named(5))
        listener.until_ended(6)
    with listening(fast(tmp_path), finished=finished) as listener:
        put(tmp_path / "day" / named(6))
        listener.until_ended(1)
        time.sleep(0.1)
        assert names(listener) == [f"day/{named(6)}"]
    assert len(finished) == 7


def test_what_was_begun_and_not_finished_is_offered_again_with_the_same_key(tmp_path: Path) -> None:
    put(tmp_path / named(0))
    with listening(fast(tmp_path)) as first:
        first.until_ended(1)
    with listening(fast(tmp_path)) as second:
        second.until_ended(1)
    assert first.heard[0].arrival.key == second.heard[0].arrival.key


def test_a_file_that_is_written_over_is_another_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "ALL_EVERY", 0.05)
    put(tmp_path / named(0), at=LONG_AGO)
    with listening(fast(tmp_path)) as listener:
        listener.until_ended(1)
        (tmp_path / named(0)).write_bytes(wav(noise(80)))
        listener.until_ended(2)
    assert [one.length for one in listener.heard] == [160, 80]


def written_slowly(path: Path, content: bytes, *, pieces: int = 40, pause: float = 0.01) -> None:
    with path.open("wb", buffering=0) as file:
        for piece in np.array_split(np.frombuffer(content, np.uint8), pieces):
            file.write(piece.tobytes())
            time.sleep(pause)


@pytest.mark.parametrize("header", ["filled in", "at the end", "never"])
def test_a_file_that_grows_is_heard_when_it_is_complete(tmp_path: Path, header: str) -> None:
    """Its writer pauses for longer than files settle, so only the header tells; without one, that it rests."""
    frames, patience = noise(4000), 3.0 if header == "never" else PATIENCE
    size = None if header == "filled in" else 0
    path = tmp_path / named(0)
    with listening(fast(tmp_path, settle=0.1, patience=patience)) as listener:
        begun = time.monotonic()
        written_slowly(path, wav(frames, size=size), pieces=4, pause=0.15)
        assert listener.heard == [] or header == "filled in"
        if header == "at the end":
            with path.open("r+b") as file:
                file.write(wav(frames)[:44])
        listener.until_ended(1)
        took = time.monotonic() - begun
        listener.until(lambda: len(listener.heard_at) > 1, "sound is known to come")
    assert [one.length for one in listener.heard] == [4000]
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(frames))
    assert took > patience or header != "never"
    notes = [note.kind for note in listener.heard[0].arrival.stream.notes]
    assert notes == (["unfinished_header"] if header == "never" else [])


def test_a_header_that_promises_more_than_there_is_is_waited_for_and_the_rest_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / named(0)).write_bytes(wav(noise(4000))[: 44 + 4 * 1000])
    begun = time.monotonic()
    with listening(fast(tmp_path, patience=0.5)) as listener:
        listener.until_ended(1)
    assert time.monotonic() - begun > 0.5
    (one,) = listener.heard
    assert one.length == 4000
    assert sum(lost.samples for lost in one.lost) == 3000
    assert "it has not grown for 0.5 s; heard as it is" in caplog.text


@pytest.mark.parametrize("name", [".{}", "{}.part", "{}.tmp", "{}~", ".rsync/{}", "@eaDir/{}"])
def test_a_temporary_name_is_left_alone_until_it_is_renamed(tmp_path: Path, name: str) -> None:
    hidden = tmp_path / name.format(named(0))
    hidden.parent.mkdir(exist_ok=True)
    hidden.write_bytes(wav(noise(160)))
    with listening(fast(tmp_path, settle=0)) as listener:
        put(tmp_path / named(1))
        listener.until_ended(1)
        hidden.rename(tmp_path / named(0))
        listener.until_ended(2)
    assert names(listener) == [named(1), named(0)]


def test_tracks_are_one_recording_when_all_are_there(tmp_path: Path) -> None:
    near, far = noise(160, 1, seed=1), noise(160, 1, seed=2)
    with listening(fast(tmp_path, patience=PATIENCE)) as pair:
        put(tmp_path / named(0, after="_Tr1"), near)
        time.sleep(0.2)
        put(tmp_path / named(0, after="_Tr2"), far)
        pair.until_ended(1)
    np.testing.assert_array_equal(pair.heard[0].sound, as_samples(np.hstack([near, far])))
    with listening(fast(tmp_path, patience=0.5), finished=pair.finished) as listener:
        put(tmp_path / named(1, after="_Tr1"), near)  # alone
        stereo = [put(tmp_path / named(2, after=f"_Tr{number}")) for number in (1, 2)]
        listener.until_ended(3)
        finished = set(listener.finished)
    alone = next(one for one in listener.heard if one.arrival.began_at == LONG_AGO + 1)
    assert "one of several tracks, but no other one" in alone.arrival.stream.hint
    files = [one.arrival.recording.paths for one in listener.heard if one.arrival.began_at == LONG_AGO + 2]
    assert files == [(stereo[0],), (stereo[1],)]
    with listening(fast(tmp_path, patience=0.2), finished=finished) as again:
        time.sleep(0.6)
        assert names(again) == []


def test_what_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    (tmp_path / named(0)).write_bytes(b"")
    (tmp_path / named(1)).write_bytes(b"no sound at all, but long enough to be one")
    (tmp_path / "nodate.wav").write_bytes(wav(noise(160)))
    with listening(fast(tmp_path, patience=0.1)) as listener:
        listener.until_ended(3)
        time.sleep(0.1)
    errors = {one.arrival.name: one.arrival.error for one in listener.heard}
    assert len(errors) == len(listener.heard) == 3
    assert all(one.arrival.stream is None for one in listener.heard)
    assert "the file is empty (0 bytes)" in errors[named(0)]
    assert f"{named(1)}: not a readable recording" in errors[named(1)]
    assert f"no date of the form {PATTERN} in its name" in errors["nodate.wav"]


def test_a_file_that_vanishes_is_forgotten(tmp_path: Path) -> None:
    gone = [put(tmp_path / named(second)) for second in (1, 2)]
    put(tmp_path / named(0))
    put(tmp_path / named(3))
    with listening(fast(tmp_path)) as listener:
        listener.may_take.clear()
        listener.until(lambda: bool(listener.heard), "the first is there")
        for path in gone:
            path.unlink()
        listener.may_take.set()
        listener.until_ended(2)
    assert names(listener) == [named(0), named(3)]


def test_a_folder_that_goes_is_an_error_and_heard_again_when_it_is_back(tmp_path: Path) -> None:
    folder, away = tmp_path / "drive", tmp_path / "away"
    put(folder / "day" / named(0))
    with listening(fast(folder)) as listener:
        listener.until_ended(1)
        folder.rename(away)
        error = listener.until_error()
    assert isinstance(error, SourceError)
    assert str(error) == f"{folder}: the folder cannot be looked into (No such file or directory)"
    put(away / "day" / named(1))
    away.rename(folder)
    with listening(fast(folder), finished=listener.finished) as again:
        again.until_ended(1)
        shutil.rmtree(folder / "day")
        put(folder / "day" / named(2))
        again.until_ended(2)
    assert names(again) == [f"day/{named(1)}", f"day/{named(2)}"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    put(tmp_path / named(0))
    with listening(fast(tmp_path / named(0))) as listener:
        assert "it is no folder" in str(listener.until_error())


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    for name in ("pump1_a.wav", "pump2_a.wav", "sub/pump1_b.wav", "pump1_notes.txt"):
        put(tmp_path / name)
    options = {"began": "mtime", "pattern": "pump1_*"}
    with listening(fast(tmp_path, **options)) as listener:
        listener.until_ended(2)
        time.sleep(0.05)
        assert sorted(names(listener)) == ["pump1_a.wav", "sub/pump1_b.wav"]
    with listening(fast(tmp_path, recursive=False, **options)) as listener:
        listener.until_ended(1)
        time.sleep(0.05)
        assert names(listener) == ["pump1_a.wav"]


def test_links_in_circles_and_detectors_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "a" / named(0))
    (tmp_path / "a" / "circle").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "itself").symlink_to("itself")
    put(tmp_path / "det" / named(1))
    (tmp_path / "det" / "detector.json").write_text("{}")
    with listening(fast(tmp_path)) as listener:
        listener.until_ended(1)
        time.sleep(0.05)
        assert names(listener) == [f"a/{named(0)}"]


def bext(day: str, clock: str) -> bytes:
    content = bytearray(602)
    content[320:330], content[330:338] = day.encode(), clock.encode()
    return b"bext" + struct.pack("<I", 602) + bytes(content)


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), ("Europe/Berlin", 1), ("Asia/Kolkata", 5.5)])
def test_the_clock_of_the_recorder_has_the_zone_of_the_site(tmp_path: Path, zone: str, hours: float) -> None:
    (tmp_path / "a.wav").write_bytes(wav(noise(160), extra=bext("2026-03-01", "10:15:00")))
    with listening(fast(tmp_path, began="bext", zone=ZoneInfo(zone))) as listener:
        listener.until_ended(1)
    expected = datetime(2026, 3, 1, 10, 15, tzinfo=UTC).timestamp() - 3600 * hours
    assert listener.heard[0].arrival.began_at == expected


@pytest.mark.parametrize("began", ["bext", "mtime", "none"])
def test_without_a_clock_the_last_change_is_the_end(tmp_path: Path, began: str) -> None:
    put(tmp_path / "a.wav", noise(16000), at=LONG_AGO)
    with listening(fast(tmp_path, began=began)) as listener:
        listener.until_ended(1)
    assert listener.heard[0].arrival.began_at == LONG_AGO - 1


def test_channels_are_those_of_the_detector_or_of_the_option(tmp_path: Path) -> None:
    frames = noise(160, 3)
    put(tmp_path / named(0), frames)
    with listening(fast(tmp_path), selected=(3, 2)) as listener:
        listener.until_ended(1)
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(frames[:, [2, 1]]))
    with listening(fast(tmp_path, select=(2,)), selected=(3, 2)) as listener:
        listener.until_ended(1)
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(frames[:, [1]]))
    assert listener.heard[0].arrival.recording.channels == (2,)


def test_a_name_that_is_not_utf8_is_told_in_escapes(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/L\xfcfter_20231114_221320.wav"))
    try:
        path.write_bytes(wav(noise(160)))
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with listening(fast(tmp_path)) as listener:
        listener.until_ended(1)
    arrival = listener.heard[0].arrival
    assert arrival.name == "L\\xfcfter_20231114_221320.wav"
    arrival.key.encode("utf-8")


def counted(function: Callable[..., object]) -> tuple[mock.Mock, Callable[..., object]]:
    count = mock.Mock()

    def counting(*args: object, **options: object) -> object:
        count()
        return function(*args, **options)

    return count, counting


def test_a_look_at_what_is_known_asks_for_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files: one question for each folder. And of a folder to which one has come, one more."""
    monkeypatch.setattr(settling, "COARSE", 0)
    for day in range(5):
        for second in range(40):
            put(tmp_path / str(day) / named(second), at=LONG_AGO)
    asked: list[str] = []
    looking = settling.Settling(
        tmp_path, pattern="*", recursive=True, is_known=lambda key: not asked.append(key),
        grows=lambda: None, stopping=lambda: False,
    )  # fmt: skip
    looking.look()
    assert len(asked) == 200
    scans, scandir = counted(os.scandir)
    monkeypatch.setattr(os, "scandir", scandir)
    looking.look()
    assert scans.call_count == 0
    put(tmp_path / "3" / named(99))
    looking.look()
    assert scans.call_count == 1
    assert len(asked) == 201
    assert f"3/{named(99)}" in asked[-1]


def test_flac_whose_header_is_not_finished_is_waited_for(tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(1600) / 32768, 16000, format="FLAC")
    content = bytearray(file.getvalue())
    total = bytes(content[21:26])
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = (tmp_path / named(0)).with_suffix(".flac")
    path.write_bytes(content)
    with listening(fast(tmp_path, patience=30)) as listener:
        time.sleep(0.2)
        assert listener.heard == []
        with path.open("r+b") as flac_file:
            flac_file.seek(21)
            flac_file.write(total)
        listener.until_ended(1)
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(noise(1600)))


def test_a_folder_that_may_not_be_looked_into_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    put(tmp_path / "closed" / named(0))
    put(tmp_path / named(1))
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with listening(fast(tmp_path)) as listener:
        listener.until_ended(1)
        put(tmp_path / named(2))
        listener.until_ended(2)
    assert caplog.text.count("cannot be looked into (Permission denied); what is in it is not heard") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settle": -1}, "settle=-1: must be at least 0"),
        ({"patience": float("nan")}, "patience=nan: must be at least 0"),
        ({"poll": 0}, "poll=0: must be above 0"),
        ({"began": "%H"}, "must give year, month and day"),
        ({"select": (0,)}, "the first channel is 1"),
    ],
)
def test_strange_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Folder(Path("recordings"), **options)
