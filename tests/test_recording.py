"""A recording: its files and the channels that are chosen of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfar.files.digests import digest_file
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError
from nearfar.recordings.clips import Clip
from nearfar.recordings.recording import Recording, digests, parse_channels
from nearfar.recordings.sound import chosen_channels

RATE = 16000


@pytest.fixture
def four(tmp_path):
    """A recording of four channels, each of which holds its number: its path."""
    path = tmp_path / "four.wav"
    audio.write(path, np.arange(1, 5, dtype=np.float32)[:, None].repeat(100, axis=1) / 32768, RATE)
    return path


def track(path: Path, number: int, *, samples: int = 100, rate: int = RATE, channels: int = 1) -> Path:
    audio.write(path, np.full((channels, samples), number / 32768, np.float32), rate)
    return path


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("3,1", (3, 1)),
        (" 2 ", (2,)),
        ("near, far", ("near", "far")),
        ('"Acc, bearing",4', ("Acc, bearing", 4)),
        ("Channel 1,Channel 2", ("Channel 1", "Channel 2")),
    ],
)
def test_channels_are_written_as_numbers_and_names(text, channels):
    assert parse_channels(text) == channels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3,3", "channel 3 is there 2 times; near and far must be different ones"),
        ("near,near", "channel near is there 2 times"),
        ("0,1", "channel 0; the first channel is 1"),
        ("-1", "channel -1; the first channel is 1"),
        ("", "a channel is empty; give numbers from 1, or names"),
        ("1,,2", "a channel is empty"),
    ],
)
def test_strange_channels_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_channels(text)


@pytest.mark.parametrize("channels", [(3, 1), (2,), (4, 3, 2, 1), ()])
def test_the_chosen_channels_are_read_in_their_order(four, channels):
    recording = Recording((four,), channels)
    expected = list(channels or (1, 2, 3, 4))
    recorded = audio.read_recorded(recording)
    np.testing.assert_array_equal(recorded.samples[:, 0] * 32768, expected)
    assert recorded.samples.flags.c_contiguous
    assert recorded.header == audio.read_header(recording)
    assert recorded.header.channels == len(expected)
    np.testing.assert_array_equal(audio.load(recording, RATE), audio.read(recording)[0])


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ((5, 1), r"four\.wav: no channel 5; it has 4 channels"),
        (
            ("near", 1),
            r"four\.wav: no channel 'near': this file does not name its channels; give numbers from 1 to 4",
        ),
    ],
)
@pytest.mark.parametrize("read", [audio.read, audio.read_header])
def test_a_channel_that_is_not_there_is_told_with_those_that_are(four, read, channels, message):
    with pytest.raises(AudioError, match=message):
        read(Recording((four,), channels))


@pytest.mark.parametrize(
    ("channels", "places"), [(("far", "near"), [1, 0]), (("near", 3), [0, 2]), ((), [0, 1, 2])]
)
def test_channels_are_chosen_by_name_where_there_are_names(channels, places):
    assert chosen_channels(channels, count=3, names=("near", "far", "speed"), where="a.tdms") == places


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (("left",), r"a\.tdms: no channel 'left'; it has 3 channels: 1 near, 2 x, 3 x"),
        (("x",), r"a\.tdms: 2 channels 'x'; it has 3 channels"),
        (("near", 1), r"a\.tdms: channels=near,1 names a channel twice"),
    ],
)
def test_a_name_must_be_that_of_one_channel(channels, message):
    with pytest.raises(AudioError, match=message):
        chosen_channels(channels, count=3, names=("near", "x", "x"), where="a.tdms")


def test_the_tracks_of_a_recording_are_its_channels(tmp_path):
    tracks = tuple(track(tmp_path / f"a_Tr{number}.wav", number) for number in (1, 2, 3))
    samples, rate = audio.read(Recording(tracks))
    np.testing.assert_array_equal(samples[:, 0] * 32768, [1, 2, 3])
    assert rate == RATE
    chosen = Recording(tracks, (3, 1))
    np.testing.assert_array_equal(audio.read(chosen)[0][:, 0] * 32768, [3, 1])
    assert audio.read_header(chosen).channels == 2
    assert str(chosen) == str(tracks[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"samples": 99},
            r"a_Tr1\.wav: 100 samples at 16000 Hz, but the other track a_Tr2\.wav has 99 at 16000 Hz",
        ),
        (
            {"rate": 8000},
            r"a_Tr1\.wav: 100 samples at 16000 Hz, but the other track a_Tr2\.wav has 100 at 8000 Hz",
        ),
        ({"channels": 2}, r"a_Tr2\.wav: 2 channels; a track of a recording must have one"),
    ],
)
@pytest.mark.parametrize("read", [audio.read, audio.read_header])
def test_tracks_that_do_not_belong_together_are_refused(tmp_path, read, other, message):
    tracks = track(tmp_path / "a_Tr1.wav", 1), track(tmp_path / "a_Tr2.wav", 2, **other)
    with pytest.raises(AudioError, match=message):
        read(Recording(tracks))


def test_the_digest_of_a_file_is_that_of_the_recording_and_another_one_of_tracks_and_channels(tmp_path, four):
    jobs = Jobs(tmp_path / "cache")
    one, two = track(tmp_path / "a_Tr1.wav", 1), track(tmp_path / "a_Tr2.wav", 2)
    recordings = [
        Recording((four,)), Recording((four,), (3, 1)), Recording((four,), (1, 3)), Recording((one, two)),
        Recording((two, one)), Recording((one,)), Recording((one, two), (2, 1)),
    ]  # fmt: skip
    found = digests(recordings, jobs)
    assert [found[0], found[5]] == [digest_file(four), digest_file(one)]
    assert len({*found}) == len(recordings)
    assert digests(recordings, jobs) == found


def test_a_clip_is_read_from_its_tracks_and_channels():
    clip = Clip(
        Path("a_Tr1.wav"), "fan", 0, "test", "a_Tr1.wav", tracks=(Path("a_Tr2.wav"),), channels=(2, 1)
    )
    assert clip.recording == Recording((Path("a_Tr1.wav"), Path("a_Tr2.wav")), (2, 1))
    assert Clip(Path("a.wav"), "fan", 0, "test", "a.wav").recording == Recording((Path("a.wav"),))
