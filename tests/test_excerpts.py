"""Each event as a file of its own."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nearfar.listening.events import Event
from nearfar.listening.excerpts import cut_out, name_of
from nearfar.recordings.recording import Recording

RATE = 1000


def event(start: float, end: float, recording: str = "a.wav") -> Event:
    return Event(recording, start, end, 1, 1, 0, 9.0, 0.01, start, end, {"near": "ok", "far": "ok"})


def cut(found: Event, recording: Recording, file: Path) -> Path:
    """The file of an excerpt that has all samples."""
    made = cut_out(found, recording, file)
    assert made.silent == 0
    return made.file


def noise(seconds: float = 60.0, channels: int = 2, peak: float = 0.9) -> np.ndarray:
    """(samples, channels)"""
    found = np.random.default_rng(0).uniform(-1, 1, (round(seconds * RATE), channels))
    return peak * found / np.abs(found).max()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize(
    ("subtype", "dtype", "expected"),
    [("PCM_16", "int16", "PCM_16"), ("PCM_24", "int32", "PCM_24"), ("PCM_S8", "int16", "PCM_16")],
)
def test_an_excerpt_has_every_sample_as_it_was(
    suffix: str, subtype: str, dtype: str, expected: str, tmp_path: Path
) -> None:
    if (suffix, subtype) == (".wav", "PCM_S8"):
        subtype = "PCM_U8"
    soundfile.write(tmp_path / f"a{suffix}", noise(channels=3), RATE, subtype=subtype)
    whole = soundfile.read(tmp_path / f"a{suffix}", dtype=dtype)[0]
    made = cut(event(20.5, 31.25), Recording((tmp_path / f"a{suffix}",), (2, 1)), tmp_path / "cut" / "e")
    assert made == tmp_path / "cut" / "e.flac"
    found, rate = soundfile.read(made, dtype=dtype)
    assert (rate, soundfile.info(made).subtype) == (RATE, expected)
    np.testing.assert_array_equal(found, whole[15_500:36_250])


def test_what_flac_does_not_hold_is_wav(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(10.0), 65_536, subtype="PCM_24")
    made = cut(event(0.0, 0.05), Recording((tmp_path / "a.wav",)), tmp_path / "cut" / "e")
    assert made.suffix == ".wav"
    assert soundfile.info(made).samplerate == 65_536


@pytest.mark.parametrize(
    ("start", "end", "first", "last"), [(2.0, 3.0, 0, 8000), (50.0, 60.0, 45_000, 60_000)]
)
def test_an_excerpt_ends_with_the_recording(
    start: float, end: float, first: int, last: int, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(), RATE, subtype="PCM_16")
    whole = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    made = cut(event(start, end), Recording((tmp_path / "a.wav",)), tmp_path / "e")
    np.testing.assert_array_equal(soundfile.read(made, dtype="int16")[0], whole[first:last])


def test_an_excerpt_of_a_file_that_does_not_tell_its_length_ends_with_it(tmp_path: Path) -> None:
    """A FLAC that was streamed; its header counts no samples."""
    soundfile.write(tmp_path / "a.flac", noise(), RATE, subtype="PCM_16")
    whole = soundfile.read(tmp_path / "a.flac", dtype="int16")[0]
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples: the 36 bits before the digest
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    made = cut(event(50, 60), Recording((tmp_path / "a.flac",)), tmp_path / "e")
    np.testing.assert_array_equal(soundfile.read(made, dtype="int16")[0], whole[45_000:])


def test_what_flac_cannot_hold_is_a_wav_of_floating_point(tmp_path: Path) -> None:
    """Beyond full scale, or more than eight channels; the same twice is the same bytes."""
    loud = noise(peak=1.5).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", loud, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", noise(channels=9), RATE, subtype="PCM_16")
    made = cut(event(20, 30), Recording((tmp_path / "a.wav",)), tmp_path / "e")
    assert made.suffix == ".wav"
    np.testing.assert_array_equal(soundfile.read(made, dtype="float32")[0], loud[15_000:35_000])
    before = made.read_bytes()
    assert bytes(4) == before[before.index(b"PEAK") + 12 :][:4]  # no time of writing
    cut_out(event(20, 30), Recording((tmp_path / "a.wav",)), tmp_path / "e")
    assert made.read_bytes() == before
    assert cut(event(20, 30), Recording((tmp_path / "b.wav",)), tmp_path / "f").suffix == ".wav"


def test_floating_point_within_full_scale_is_flac_of_24_bits(tmp_path: Path) -> None:
    sound = noise(peak=1.0).astype(np.float32)
    sound[20_000], sound[20_001] = 1.0, -1.0
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    made = cut(event(20, 30), Recording((tmp_path / "a.wav",)), tmp_path / "e")
    assert (made.suffix, soundfile.info(made).subtype) == (".flac", "PCM_24")
    found = soundfile.read(made, dtype="float64")[0]
    np.testing.assert_allclose(found, sound[15_000:35_000], atol=1.01 / 2**23)


def test_tracks_of_a_recording_are_channels(tmp_path: Path) -> None:
    sound = noise()
    paths = tuple(tmp_path / f"a_Tr{number}.wav" for number in (1, 2))
    for path, channel in zip(paths, sound.T, strict=True):
        soundfile.write(path, channel, RATE, subtype="PCM_16")
    made = cut(event(20, 30), Recording(paths), tmp_path / "e")
    expected = np.stack([soundfile.read(path, dtype="int16")[0] for path in paths], axis=1)[15_000:35_000]
    np.testing.assert_array_equal(soundfile.read(made, dtype="int16")[0], expected)


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(), RATE, subtype="PCM_16")
    recording = Recording((tmp_path / "a.wav",))
    made = cut(event(20, 30), recording, tmp_path / "e")
    time = made.stat().st_mtime_ns
    cut_out(event(20, 30), recording, tmp_path / "e")  # the same, once more
    with pytest.raises(FileExistsError, match=r"e\.flac is there already, with another content; choose"):
        cut_out(event(20, 31), recording, tmp_path / "e")
    assert len(soundfile.read(made)[0]) == 20_000
    cut_out(event(20, 31), recording, tmp_path / "e", replace=True)
    assert len(soundfile.read(made)[0]) == 21_000
    assert made.stat().st_mtime_ns >= time
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "e.flac"]


def test_the_recording_itself_is_never_replaced(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(), RATE, subtype="PCM_16")
    before = (tmp_path / "a.flac").read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.flac is the recording itself"):
        cut_out(event(20, 30), Recording((tmp_path / "a.flac",)), tmp_path / "a", replace=True)
    assert (tmp_path / "a.flac").read_bytes() == before


def test_samples_that_cannot_be_read_are_silence(tmp_path: Path) -> None:
    """NaN in one channel; and the end of a file that was never written."""
    sound = noise().astype(np.float32)
    sound[18_000:19_000, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    made = cut_out(event(20, 30), Recording((tmp_path / "a.wav",)), tmp_path / "e")
    assert (made.silent, made.file.suffix) == (1000, ".flac")
    sound[18_000:19_000] = 0
    np.testing.assert_allclose(soundfile.read(made.file)[0], sound[15_000:35_000], atol=1.01 / 2**23)

    soundfile.write(tmp_path / "b.wav", noise(), RATE, subtype="PCM_16")
    whole = soundfile.read(tmp_path / "b.wav", dtype="int16")[0]
    content = (tmp_path / "b.wav").read_bytes()
    (tmp_path / "b.wav").write_bytes(content[: 44 + 4 * 33_000])
    made = cut_out(event(20, 30), Recording((tmp_path / "b.wav",)), tmp_path / "f")
    assert made.silent == 2000
    whole[33_000:] = 0
    np.testing.assert_array_equal(soundfile.read(made.file, dtype="int16")[0], whole[15_000:35_000])


@pytest.fixture
def full() -> Iterator[None]:
    """No file can grow beyond 16 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_full_disk_is_told_and_leaves_nothing(
    subtype: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(peak=1.5), RATE, subtype=subtype)
    request.getfixturevalue("full")
    with pytest.raises(OSError, match=os.strerror(27)) as raised:
        cut_out(event(10, 50), Recording((tmp_path / "a.wav",)), tmp_path / "e")
    assert str(raised.value.filename).startswith(str(tmp_path / "e"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_names_tell_when_an_event_begins() -> None:
    assert name_of(event(3599.9996, 3610)) == "a_1h00m00s"
    assert name_of(event(0, 1)) == "a_0h00m00s"
    assert (
        name_of(event(36_061.25, 36_071), datetime(2026, 3, 1, 1, 2, 3))
        == "a_10h01m01.25s_2026-03-01T01.02.03"
    )
