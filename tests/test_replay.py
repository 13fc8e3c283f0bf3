"""Replays: recordings are played in order of time, at any speed, and give the same samples."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from nearfar.recordings import audio
from nearfar.recordings.blocks import Lost
from nearfar.watching.sources import Arrival, Ear, SourceError
from nearfar.watching.sources import replay as module
from nearfar.watching.sources.replay import Replay, parse_speed
from nearfar.windows.clock import ClockError
from nearfar.windows.cutting import Cut
from nearfar.windows.streaming import windows

BERLIN = ZoneInfo("Europe/Berlin")
RATE = 1000
NAMES = "%Y%m%d_%H%M%S"


@dataclass
class Time:
    """A clock that goes on only when somebody waits."""

    now: float = 0.0
    heard: list[tuple[float, float]] = field(default_factory=list)  # the clock, and what was heard up to
    finished: set[str] = field(default_factory=set)
    stop_at: float = math.inf

    def ear(self) -> Ear:
        return Ear(
            is_finished=self.finished.__contains__,
            stopping=lambda: self.now >= self.stop_at,
            sleep=self.sleep,
            now=lambda: self.now,
            heard=lambda at: self.heard.append((self.now, at)),
        )

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(module, "monotonic", lambda: found.now)
    return found


def write(path: Path, seconds: float = 10.0, *, seed: int = 0, changed: float | None = None) -> Path:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, round(seconds * RATE))).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, samples, RATE)
    if changed is not None:
        os.utime(path, (changed, changed))
    return path


def played(source: Replay, time: Time) -> Iterator[tuple[Arrival, np.ndarray]]:
    """Each recording that comes, and its samples."""
    for arrival in source.arrivals(time.ear()):
        assert arrival.stream is not None
        found = list(arrival.stream.recorded.blocks(0))
        assert not any(isinstance(block, Lost) for block in found)
        yield arrival, np.concatenate(found, axis=1) if found else np.empty((2, 0))


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """Three recordings of ten seconds, in the night in which clocks are set back, and a pause before the last."""
    for number, shown in enumerate(("20261025_025950", "20261025_020000", "20261025_030000")):
        write(tmp_path / "day" / f"{number}_{shown}.wav", seed=number)
    return tmp_path / "day"


def local(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize("speed", [0.5, 1, "60", 1e6, "max"])
def test_what_is_played_does_not_depend_on_the_speed(day: Path, time: Time, speed: float | str) -> None:
    source = Replay(day, speed, NAMES, BERLIN)
    found = list(played(source, time))
    assert [arrival.began_at for arrival, _ in found] == [
        local("2026-10-25 02:59:50"),
        local("2026-10-25 02:00:00", fold=1),
        local("2026-10-25 03:00:00"),
    ]
    assert [arrival.name for arrival, _ in found] == [path.name for path in sorted(day.iterdir())]
    for (arrival, samples), path in zip(found, sorted(day.iterdir()), strict=True):
        np.testing.assert_array_equal(samples, audio.read(path)[0])
        assert arrival.recording is not None
        assert arrival.recording.path == path
    assert source.tells_times
    assert source.seconds == 30
    assert time.now == pytest.approx(30 / parse_speed(speed))


@pytest.mark.parametrize("speed", [1, 60])
def test_a_window_is_there_when_its_end_has_passed(day: Path, time: Time, speed: float) -> None:
    source = Replay(day, speed, NAMES, BERLIN)
    passed = 0.0
    for arrival in source.arrivals(time.ear()):
        assert arrival.stream is not None
        for window in windows(arrival.stream, Cut.of(2.0, 1.0)):
            assert time.now * speed == pytest.approx(passed + window.span.ends, abs=module.BLOCK_S * speed)
            assert time.now * speed >= passed + window.span.ends - 1e-6
        passed += 10
    for now, at in time.heard:
        gone = now * speed
        assert any(at - one.began_at == pytest.approx(gone - 10 * k) for k, one in enumerate(source.played))


def test_whoever_is_slow_does_not_wait_for_what_is_late(day: Path, time: Time) -> None:
    arrivals = Replay(day, 1, NAMES, BERLIN).arrivals(time.ear())
    first = next(arrivals)
    assert first.stream is not None
    blocks = first.stream.recorded.blocks(0)
    next(blocks)
    time.now += 7  # scoring takes that long
    before = time.now
    list(itertools.islice(blocks, 12))
    assert time.now == before
    list(blocks)
    assert time.now == pytest.approx(10)


def test_it_goes_on_where_it_was(day: Path, time: Time) -> None:
    source = Replay(day, 1, NAMES, BERLIN)
    keys = [one.key for one in source.played]
    assert len({*keys}) == 3
    time.finished.add(keys[0])
    arrivals = Replay(day, 1, NAMES, BERLIN).arrivals(time.ear())
    second = next(arrivals)
    assert (second.key, second.began_at) == (keys[1], source.played[1].began_at)
    assert second.stream is not None
    rest = np.concatenate([b for b in second.stream.recorded.blocks(4000) if not isinstance(b, Lost)], axis=1)
    np.testing.assert_array_equal(rest, audio.read(sorted(day.iterdir())[1])[0][:, 4000:])
    assert time.now == pytest.approx(6)  # it does not wait for what was heard before


def test_it_ends_within_half_a_second(day: Path, time: Time) -> None:
    time.stop_at = 3.2
    found = list(played(Replay(day, 1, NAMES, BERLIN), time))
    assert len(found) == 1
    assert found[0][1].shape[1] == 3000
    assert time.now <= 3.7


def test_clips_without_times_are_played_one_after_the_other(tmp_path: Path, time: Time) -> None:
    write(tmp_path / "10.wav", 2.0, changed=1_700_000_100.25)
    write(tmp_path / "9.wav", 3.5, changed=1_700_000_000.0)
    source = Replay(tmp_path, "max")
    found = [(arrival.name, arrival.began_at) for arrival, _ in played(source, time)]
    assert found == [("9.wav", 1_700_000_094.0), ("10.wav", 1_700_000_097.5)]
    assert not source.tells_times


def test_names_in_no_order_of_time_are_sorted_by_it(tmp_path: Path, time: Time) -> None:
    write(tmp_path / "b_20260301_100000.wav")
    write(tmp_path / "a_20260301_110000.wav")
    found = [arrival.name for arrival, _ in played(Replay(tmp_path, "max", NAMES, BERLIN), time)]
    assert found == ["b_20260301_100000.wav", "a_20260301_110000.wav"]


def test_tracks_are_one_recording(tmp_path: Path, time: Time) -> None:
    for track in (1, 2):
        audio.write(
            tmp_path / f"20260301_100000_Tr{track}.wav", np.full((1, RATE), track / 4, np.float32), RATE
        )
    ((arrival, samples),) = played(Replay(tmp_path, "max", NAMES, BERLIN), time)
    assert samples.shape == (2, RATE)
    assert samples[:, 0] == pytest.approx([0.25, 0.5], abs=1e-4)
    assert arrival.name == "20260301_100000_Tr1.wav"


def test_chosen_channels_are_played(tmp_path: Path, time: Time) -> None:
    path = write(tmp_path / "20260301_100000.wav")
    ((_, samples),) = played(Replay(tmp_path, "max", NAMES, BERLIN, selected=(2,)), time)
    np.testing.assert_array_equal(samples, audio.read(path)[0][1:])


def test_what_cannot_be_read_is_told_and_comes_last(day: Path, time: Time) -> None:
    (day / "0_20261025_010000.wav").write_bytes(b"RIFF")
    *_, last = Replay(day, "max", NAMES, BERLIN).arrivals(time.ear())
    assert last.stream is None
    assert last.name == "0_20261025_010000.wav"
    assert last.error
    assert last.began_at == local("2026-10-25 03:00:10")


def test_recordings_that_contradict_each_other_are_refused(tmp_path: Path, time: Time) -> None:
    write(tmp_path / "20260301_100000.wav", 120.0)
    write(tmp_path / "20260301_100030.wav")
    source = Replay(tmp_path, "max", NAMES, BERLIN)
    with pytest.raises(ClockError, match="before it had ended"):
        _ = source.played
    with pytest.raises(SourceError, match="before it had ended"):
        next(source.arrivals(time.ear()))


def test_all_tell_their_times_or_none(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    with pytest.raises(SourceError, match="no recordings"):
        _ = Replay(tmp_path / "nothing").played
    with pytest.raises(ClockError, match=f"no date of the form {NAMES}"):
        _ = Replay(tmp_path, began=NAMES).played
    described = tmp_path / "b.wav"
    described.write_bytes(_with_bext((tmp_path / "a.wav").read_bytes()))
    with pytest.raises(
        SourceError, match=r"a\.wav: does not say when it began, as 1 of 2 recordings here do"
    ):
        _ = Replay(tmp_path).played
    (tmp_path / "a.wav").unlink()
    (one,) = Replay(tmp_path, zone=BERLIN).played
    assert one.began_at == local("2026-03-01 10:00:00")


def _with_bext(wav: bytes) -> bytes:
    """The same file with a chunk ``bext`` (EBU Tech 3285) after its header."""
    chunk = bytes(320) + b"2026-03-01" + b"10:00:00" + bytes(264)
    described = wav[:12] + b"bext" + len(chunk).to_bytes(4, "little") + chunk + wav[12:]
    return described[:4] + (len(described) - 8).to_bytes(4, "little") + described[8:]


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan", 0.0, ""])
def test_a_speed_is_a_number_above_zero(speed: float | str) -> None:
    with pytest.raises(ValueError, match="must be a number above 0, such as 60, or max"):
        Replay(Path(), speed)
