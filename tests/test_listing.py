"""Files below a folder: what systems leave is left alone, links are followed, nothing is lost silently."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nearfar.files import listing
from nearfar.files.listing import folders_in, list_below


def plant(root, *names):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def is_wav(path):
    return path.suffix == ".wav"


def below(folder):
    return [file.relative_to(folder).as_posix() for file in list_below(folder, is_wav).files]


LEFT = [
    "__MACOSX/x.wav", "monday/._a.wav", ".DS_Store", ".Trash-1000/x.wav", "Thumbs.db", "@eaDir/a.wav",
    "monday/@eaDir/x.wav", "$RECYCLE.BIN/x.wav", "System Volume Information/x.wav", "lost+found/x.wav",
    "FOUND.000/x.wav", "#recycle/x.wav", "LOST.DIR/x.wav",
]  # fmt: skip


def test_what_systems_leave_is_left_alone(tmp_path):
    plant(tmp_path, "a.wav", "monday/b.wav", "monday/notes.txt", "found.1/c.wav", *LEFT)
    assert below(tmp_path) == ["a.wav", "found.1/c.wav", "monday/b.wav"]
    assert [folder.name for folder in folders_in(tmp_path)] == ["found.1", "monday"]


def test_a_link_to_a_folder_is_followed_at_any_depth(tmp_path):
    plant(tmp_path / "store", "a.wav", "deep/b.wav")
    plant(tmp_path / "set", "monday/c.wav")
    (tmp_path / "set/monday/tuesday").symlink_to(tmp_path / "store", target_is_directory=True)
    assert below(tmp_path / "set") == ["monday/c.wav", "monday/tuesday/a.wav", "monday/tuesday/deep/b.wav"]
    assert [folder.name for folder in folders_in(tmp_path / "set/monday")] == ["tuesday"]


def test_a_folder_that_two_paths_lead_to_is_taken_once_by_its_own_path(tmp_path):
    plant(tmp_path, "zz/a.wav", "zz/deep/b.wav")
    for link in ("aa", "zz/mm", "zz/deep/nn"):
        (tmp_path / link).symlink_to(
            tmp_path / ("zz/deep" if "mm" in link else "zz"), target_is_directory=True
        )
    assert below(tmp_path) == ["zz/a.wav", "zz/deep/b.wav"]


def test_a_link_to_a_folder_above_is_not_followed_but_named(tmp_path, caplog):
    plant(tmp_path, "train/a.wav", "test/b.wav")
    (tmp_path / "train/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "train/circle").symlink_to("circle")
    assert below(tmp_path / "train") == ["a.wav"]
    assert f"{tmp_path / 'train/up'}: a link to {tmp_path}, which contains it; not followed" in caplog.text


def test_a_link_to_nothing_is_a_file_if_it_is_wanted_and_named_if_not(tmp_path, caplog):
    plant(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to("gone.wav")
    (tmp_path / "monday").symlink_to("gone")
    assert below(tmp_path) == ["a.wav", "b.wav"]
    assert f"{tmp_path / 'monday'}: a link to gone, which is not there; left out" in caplog.text


def test_what_is_no_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("pipe.wav")
    assert below(tmp_path) == []
    assert below(tmp_path / "nowhere") == []


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, monkeypatch):
    plant(tmp_path, "a/x.wav", "secret/y.wav", "z/z.wav")
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "secret":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(listing.os, "scandir", refusing)
    found = list_below(tmp_path, is_wav)
    assert [file.name for file in found.files] == ["x.wav", "z.wav"]
    assert found.unreadable == {tmp_path / "secret": "Permission denied"}
    with pytest.raises(PermissionError, match="Permission denied"):
        folders_in(tmp_path / "secret")


def test_a_detector_is_left_alone_with_the_sounds_in_it(tmp_path: Path) -> None:
    for name in ("monday/a.wav", "fan.detector/normal/0000.wav", "fan.detector/detector.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert below(tmp_path) == ["monday/a.wav"]
    assert below(tmp_path / "fan.detector") == []
    assert below(tmp_path / "fan.detector/normal") == ["0000.wav"]  # if it is asked for by its name
    assert [folder.name for folder in folders_in(tmp_path)] == ["monday"]
