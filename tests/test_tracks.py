"""Tracks: mono files of one recorder that are one recording."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nearfar.recordings import audio, datasets, tracks
from nearfar.recordings.recording import Recording, missing_track

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Makes mono recordings of these names below a folder; a number after a colon is that of the channels."""

    def make(*names: str) -> Path:
        for name in names:
            file, _, channels = name.partition(":")
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            audio.write(path, np.full((int(channels or 1), 100), 0.1, np.float32), RATE)
        return tmp_path

    return make


def grouped(root: Path) -> list[list[str]]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return [[file.relative_to(root).as_posix() for file in files] for files in tracks.grouped(files)]


@pytest.mark.parametrize(
    "names",
    [
        ["ZOOM0001_Tr1.WAV", "ZOOM0001_Tr2.WAV"],
        ["a_TR1.wav", "a_tr2.wav"],
        ["a-Tr1.wav", "a-Tr2.wav"],
        ["a Tr1.wav", "a Tr2.wav"],
        ["a_Track1.wav", "a_Track2.wav"],
        ["a_Tr01.wav", "a_Tr02.wav", "a_Tr03.wav"],
        ["a_Tr3.wav", "a_Tr4.wav"],
        ["a_Tr8.wav", "a_Tr9.wav", "a_Tr10.wav"],
        ["a_Tr1.flac", "a_Tr2.flac"],
    ],
)
def test_mono_tracks_numbered_without_a_gap_are_one_recording(folder, names):
    assert grouped(folder(*names)) == [names]


@pytest.mark.parametrize(
    "names",
    [
        ["a_Tr1.wav", "a_Tr3.wav"],
        ["a_Tr1.wav", "b_Tr2.wav"],
        ["a_Tr1.wav", "a_Tr2.flac"],
        ["1/a_Tr1.wav", "2/a_Tr2.wav"],
        ["Tr1.wav", "Tr2.wav"],
        ["a1.wav", "a2.wav"],
        ["attr1.wav", "attr2.wav"],
        ["a_Tr1.wav"],
        ["a_Tr1.wav:2", "a_Tr2.wav"],
        ["a_Tr1.wav", "a_Tr2.wav:2"],
        ["a_TrLR.wav", "a_Tr1.wav"],
        [f"a_Track{number}.wav" for number in range(1, 10)],
    ],
)
def test_others_stay_recordings_by_themselves(folder, names):
    assert sorted(grouped(folder(*names))) == sorted([name.partition(":")[0]] for name in names)


def test_recordings_keep_their_order(tmp_path, folder):
    folder("b.wav", "a_Tr1.wav", "a_Tr2.wav")
    paths = [tmp_path / name for name in ("b.wav", "a_Tr2.wav", "a_Tr1.wav", "b.wav", "a_Tr1.wav")]
    assert tracks.grouped(paths) == [(paths[0],), (paths[2], paths[1]), (paths[0],)]


def test_a_track_that_cannot_be_read_does_not_leave_its_recording(folder):
    root = folder("a_Tr1.wav", "a_Tr2.wav")
    whole = (root / "a_Tr2.wav").read_bytes()
    (root / "a_Tr2.wav").write_bytes(whole[:100])
    assert grouped(root) == [["a_Tr1.wav", "a_Tr2.wav"]]
    with pytest.raises(audio.AudioError, match=r"a_Tr2\.wav: truncated, 144 of 200 bytes"):
        audio.read(Recording((root / "a_Tr1.wav", root / "a_Tr2.wav")))


def test_a_machine_has_one_clip_of_the_tracks_of_a_recording(folder):
    root = folder("fan/train/1_Tr1.wav", "fan/train/1_Tr2.wav", "fan/train/2.wav:2", "fan/test/3_Tr1.wav")
    machine = datasets.load_machine(root / "fan", channels=(2, 1))
    assert [clip.key for clip in machine.clips] == [
        "fan/test/3_Tr1.wav",
        "fan/train/1_Tr1.wav",
        "fan/train/2.wav",
    ]
    assert [audio.read_header(clip.recording).channels for clip in machine.train] == [2, 2]
    assert machine.train[0].tracks == (root / "fan/train/1_Tr2.wav",)
    assert {clip.channels for clip in machine.clips} == {(2, 1)}
    assert datasets.load(root).clips[1].recording.paths == (
        root / "fan/train/1_Tr1.wav",
        root / "fan/train/1_Tr2.wav",
    )


def test_a_plain_folder_has_one_clip_of_the_tracks_of_a_recording(folder):
    machine = datasets.load_machine(folder("1_Tr1.wav", "1_Tr2.wav", "2_Tr1.wav", "2_Tr2.wav"))
    assert [clip.name for clip in machine.clips] == ["1_Tr1.wav", "2_Tr1.wav"]


@pytest.mark.parametrize("load", [datasets.load, datasets.load_machine])
def test_strange_channels_are_refused_before_anything_is_looked_at(tmp_path, load):
    with pytest.raises(ValueError, match="channels=0,1: channel 0; the first channel is 1"):
        load(tmp_path / "none", channels=(0, 1))


def test_a_missing_track_is_told_where_a_channel_is_missing(folder):
    root = folder("a_Tr1.wav", "b.wav")
    message = r"no channel 2; it has 1 channel\. .*a_Tr1\.wav is one of several tracks, but no other one"
    with pytest.raises(audio.AudioError, match=message):
        audio.read(Recording((root / "a_Tr1.wav",), (1, 2)))
    with pytest.raises(audio.AudioError, match=r"the near one first$"):
        audio.read(Recording((root / "b.wav",), (1, 2)))
    assert missing_track(Recording((root / "a_Tr1.wav", root / "a_Tr2.wav"))) == ""


def test_pipes_in_a_folder_are_not_opened(folder):
    root = folder("fan/train/1.wav", "fan/train/2.wav")
    for name in ("3.wav", "4_Tr1.wav", "4_Tr2.wav"):
        os.mkfifo(root / "fan/train" / name)
    assert [clip.name for clip in datasets.load_machine(root / "fan").clips] == ["1.wav", "2.wav"]
    assert tracks.grouped([root / "fan/train/4_Tr1.wav"]) == [(root / "fan/train/4_Tr1.wav",)]
