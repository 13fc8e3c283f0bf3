"""Folders as people have them: what can be fitted can be checked; labels in names; tables of domains; odd names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from nearfar.recordings import datasets
from nearfar.recordings.clips import DatasetError
from nearfar.recordings.datasets import layout
from nearfar.recordings.datasets.listed import ListedNames


def plant(root, *names):
    """Empty files: a layout is told from names alone."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def normal_clip(number, split="train", label="normal"):
    return f"section_00_source_{split}_{label}_{number:04}_rpm_1.wav"


# What can be fitted can be checked


LAYOUTS = {
    "a plain folder": ("saw", ["saw/a.wav", "saw/monday/b.wav"]),
    "the folder of one machine": ("saw", ["saw/train/a.wav", "saw/test/normal/b.wav"]),
    "the challenge's folder of one machine": ("saw", [f"saw/train/{normal_clip(0)}"]),
    "the challenge's training clips": ("saw/train", [f"saw/train/{normal_clip(i)}" for i in range(3)]),
    "a copy of training clips": ("copy", [f"copy/{normal_clip(i)}" for i in range(3)]),
    "normal clips of 2020": ("copy", ["copy/normal_id_02_00000001.wav"]),
}


@pytest.mark.parametrize(("given", "names"), LAYOUTS.values(), ids=LAYOUTS)
def test_what_is_one_machine_is_a_data_set_of_one_machine(tmp_path, given, names):
    plant(tmp_path, *names)
    machine = datasets.load_machine(tmp_path / given)
    dataset = datasets.load_any(tmp_path / given)
    assert len(machine.clips) == len(names)
    assert [(m.name, m.clips) for m in dataset] == [(machine.name, machine.clips)]


def test_a_folder_of_machines_is_loaded_as_ever(tmp_path):
    plant(tmp_path, "saw/train/a.wav", "mill/train/b.wav")
    assert datasets.load_any(tmp_path) == datasets.load(tmp_path)
    with pytest.raises(
        DatasetError, match=r"contains the folders of 2 machines \(mill, saw\); .* such as .*/mill$"
    ):
        datasets.load_machine(tmp_path)


def test_the_machine_may_be_the_working_folder(tmp_path, monkeypatch):
    plant(tmp_path, "saw/train/a.wav")
    monkeypatch.chdir(tmp_path / "saw")
    dataset = datasets.load_any(".")
    assert (dataset.root / dataset.name).samefile(tmp_path / "saw")
    assert [clip.key for clip in dataset.clips] == ["saw/train/a.wav"]


def test_training_clips_are_the_same_from_their_folder_as_from_the_machines(tmp_path, monkeypatch):
    plant(tmp_path, *(f"saw/train/{normal_clip(i)}" for i in range(3)))
    machine = datasets.load_machine(tmp_path / "saw")
    assert datasets.load_machine(tmp_path / "saw/train") == machine
    assert machine.train[0].domain == "source"
    assert machine.train[0].attributes == "rpm_1"
    monkeypatch.chdir(tmp_path / "saw/train")
    assert [clip.key for clip in datasets.load_machine(".").clips] == [clip.key for clip in machine.clips]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            f"copy/{normal_clip(1, 'test')}",
            r"copy: 1 of 2 recordings .*\n  section\S+: a test clip, by its name",
        ),
        (f"copy/{normal_clip(1, 'test', 'anomaly')}", r"section\S+: an anomaly, by its name"),
        ("copy/anomaly_id_00_00000001.wav", r"anomaly_id_00_00000001\.wav: an anomaly, by its name"),
        ("copy/section_00_0001.wav", r"section_00_0001\.wav: the name does not say whether it is normal"),
        ("copy/mine.wav", r"mine\.wav: no name of the challenge's data, as other recordings have here"),
        (
            f"copy/deep/{normal_clip(1)}",
            r"deep/section\S+: in a folder below; clips of the challenge lie side by",
        ),
    ],
)
def test_a_folder_that_is_not_only_training_clips_is_refused_with_the_reason(tmp_path, name, message):
    plant(tmp_path, f"copy/{normal_clip(0)}", name)
    for load in (datasets.load_machine, datasets.load_any):
        with pytest.raises(DatasetError, match=message):
            load(tmp_path / "copy")


def test_a_folder_of_test_clips_says_which_folder_to_give(tmp_path):
    plant(tmp_path, f"saw/train/{normal_clip(0)}", "saw/test/section_00_0001.wav")
    with pytest.raises(
        DatasetError, match=r"give \S+/saw, which contains train\n  \S+: a test clip, by its folder 'test'"
    ):
        datasets.load_machine(tmp_path / "saw/test")


@pytest.mark.parametrize("load", [datasets.load_any, datasets.load_machine])
def test_what_is_no_folder_of_recordings_says_so(tmp_path, load):
    plant(tmp_path, "a.wav", "det/detector.json", "det/x.wav", "music/x.mp3")
    (tmp_path / "link").symlink_to("gone")
    for name, error, message in (
        ("none", FileNotFoundError, "none: no such folder; give "),
        ("link", FileNotFoundError, "link: a link to gone, which is not there"),
        (
            "a.wav",
            DatasetError,
            r"a\.wav is a file; give .*; to score one recording, `nearfar score DETECTOR FILE`",
        ),
        ("det", DatasetError, "det is the folder of a detector; give "),
        ("music", DatasetError, r"no \.wav or \.flac file to learn from.*; convert the \.mp3 files to \.wav"),
    ):
        with pytest.raises(error, match=message):
            load(tmp_path / name)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    plant(tmp_path, "saw/train/a.wav", "saw/train/secret/b.wav", "mill/train/a.wav")
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "secret":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing)
        with pytest.raises(
            DatasetError, match=r"secret: this folder cannot be read \(permission denied\); change"
        ):
            datasets.load_any(tmp_path)
    monkeypatch.setattr(layout.os, "access", lambda path, _: Path(path).name != "mill")
    with pytest.raises(DatasetError, match="mill: this folder cannot be read"):
        datasets.load(tmp_path)
    with pytest.raises(DatasetError, match="mill: this folder cannot be read"):
        datasets.load_machine(tmp_path / "mill")


def test_linked_folders_are_followed_and_nothing_is_taken_twice(tmp_path):
    plant(tmp_path, "store/a.wav", "store/deep/b.wav")
    plant(tmp_path, "saw/train/c.wav", "saw/train/__MACOSX/._c.wav", "saw/train/@eaDir/x.wav")
    (tmp_path / "saw/train/monday").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "saw/train/again").symlink_to(tmp_path / "saw/train", target_is_directory=True)
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant/mill").symlink_to(tmp_path / "saw", target_is_directory=True)
    names = ["c.wav", "monday/a.wav", "monday/deep/b.wav"]
    assert [clip.name for clip in datasets.load_any(tmp_path / "saw").clips] == names
    assert [clip.key for clip in datasets.load(tmp_path / "plant").clips] == [
        f"mill/train/{n}" for n in names
    ]


# Folders and files that are not normal, by their names


@pytest.mark.parametrize(
    "place", ["abnormal", "01_NG", "n.g.", "fault_ball", "AnomalousSound", "deep/Broken"]
)
@pytest.mark.parametrize("below", ["", "train/"])
def test_recordings_in_a_folder_of_faults_are_not_taken_for_normal_ones(tmp_path, place, below):
    plant(
        tmp_path / "saw",
        f"{below}normal/a.wav",
        f"{below}b.wav",
        f"{below}{place}/c.wav",
        f"{below}{place}/d.wav",
    )
    with pytest.raises(
        DatasetError, match="2 of 4 recordings are not normal, by the name of their folder"
    ) as caught:
        datasets.load_any(tmp_path / "saw")
    assert f"'{place}'" in str(caught.value)


def test_the_folder_of_normal_ones_beside_faults_is_what_to_give(tmp_path):
    plant(tmp_path, "id_00/normal/a.wav", "id_00/abnormal/b.wav")
    with pytest.raises(
        DatasetError, match=r"'abnormal'; use the normal ones alone: `nearfar fit \S+/id_00/normal`"
    ):
        datasets.load_machine(tmp_path / "id_00")
    assert [clip.name for clip in datasets.load_machine(tmp_path / "id_00/normal").clips] == ["a.wav"]
    plant(tmp_path, "x/a.wav", "x/NG/b.wav")
    with pytest.raises(DatasetError, match=r"'NG'; move them out of this folder .* to test/anomaly"):
        datasets.load_machine(tmp_path / "x")


@pytest.mark.parametrize(
    "name", ["abnormal_001.wav", "NG_003.wav", "pump_fault2.flac", "monday/anomaly_1.wav"]
)
def test_files_that_are_called_faults_beside_others_are_refused(tmp_path, name):
    plant(tmp_path / "saw", "normal_001.wav", "002.wav", name)
    with pytest.raises(
        DatasetError, match=f"1 of 3 recordings are not normal, by their own names, such as '{name}'"
    ):
        datasets.load_machine(tmp_path / "saw")


def test_names_that_only_contain_such_words_are_taken(tmp_path):
    plant(
        tmp_path / "saw", "normal_fan/a.wav", "failover_hall/b.wav", "bangkok/default.wav", "no_fault/c.wav"
    )
    assert len(datasets.load_machine(tmp_path / "saw").train) == 4


def test_a_folder_where_all_is_called_faulty_is_taken_with_a_warning(tmp_path, caplog):
    plant(tmp_path, "id_00/abnormal/a.wav", "saw/fault_1.wav", "saw/fault_2.wav")
    for name, count in (("id_00/abnormal", 1), ("saw", 2)):
        caplog.clear()
        assert len(datasets.load_machine(tmp_path / name).train) == count
        assert "taken for normal recordings, though the name says otherwise" in caplog.text


def test_folders_beside_normal_that_say_nothing_are_named(tmp_path, caplog):
    plant(tmp_path / "saw", "good/a.wav", "heavyload/b.wav")
    assert len(datasets.load_machine(tmp_path / "saw").train) == 2
    assert (
        "recordings in heavyload are taken for normal ones, though another folder is called good"
        in caplog.text
    )


# The table of domains

NAMES = ("train/00.wav", "train/01.wav", "train/Lüfter 03.wav", "test/normal/a, b.wav")
ROWS = [("train/00.wav", "source"), ("train/01.wav", "target"), ("train/Lüfter 03.wav", "source"),
        ("test/normal/a, b.wav", "target")]  # fmt: skip


def written(separator=",", end="\n", change=str, quote='"'):
    cells = [("file_name", "domain"), *((change(name), domain) for name, domain in ROWS)]
    quoted = [tuple(f"{quote}{c}{quote}" if separator in c else c for c in row) for row in cells]
    return "".join(separator.join(row) + end for row in quoted)


def decomposed(text):
    return unicodedata.normalize("NFD", text)


TABLES = {
    "plain": written().encode(),
    "backslashes": written(change=lambda name: name.replace("/", "\\")).encode(),
    "backslashes after a dot": written(change=lambda name: ".\\" + name.replace("/", "\\")).encode(),
    "decomposed": written(change=decomposed).encode(),
    "empty rows": (written() + ",\n\n,,\n").encode(),
    "byte order mark": written(end="\r\n").encode("utf-8-sig"),
    "Unicode text": written("\t").encode("utf-16"),
    "semicolons": written(";", end="\r\n").encode(),
    "Windows-1252": written(";", end="\r\n").encode("cp1252"),
    "capitals": written(change=lambda name: name.replace(".wav", ".WAV"))
    .replace("source", "Source")
    .encode(),
    "capital header": written().replace("file_name,domain", "File_Name, Domain").encode(),
    "the machine's name": written(change="saw/{}".format).encode(),
    "more columns": written(end=",x,,\n").replace("domain,x", "domain,remark").encode(),
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("on_disk", [str, decomposed])
def test_the_table_of_domains_is_read_however_it_is_saved(tmp_path, content, on_disk):
    plant(tmp_path / "saw", *map(on_disk, NAMES))
    (tmp_path / "saw/domains.csv").write_bytes(content)
    clips = datasets.load_any(tmp_path / "saw").clips
    said = {unicodedata.normalize("NFC", f"{clip.split}/{clip.name}"): clip.domain for clip in clips}
    assert said == dict(ROWS)


def test_a_name_that_is_not_utf8_is_found_by_its_bytes_or_its_escape(tmp_path):
    plant(tmp_path / "saw", "train/L\udcfcfter.wav")
    for row in (b"train/L\xfcfter.wav", rb"train/L\xfcfter.wav", "train/Lüfter.wav".encode()):
        (tmp_path / "saw/domains.csv").write_bytes(b"file_name,domain\n" + row + b",target\n")
        assert [clip.domain for clip in datasets.load_any(tmp_path / "saw").clips] == ["target"]


def test_a_spelling_that_fits_two_recordings_is_refused(tmp_path):
    one, two = "\u00e9.wav", "e\u0301.wav"  # one character, and two that look alike
    plant(tmp_path / "saw", f"train/{one}", f"train/{two}")
    table = tmp_path / "saw/domains.csv"
    table.write_text(f"file_name,domain\ntrain/{one},source\ntrain/{two},target\n", encoding="utf-8")
    said = {clip.name: clip.domain for clip in datasets.load_machine(tmp_path / "saw").clips}
    assert said == {one: "source", two: "target"}
    table.write_text(f"file_name,domain\ntrain\\{one},source\n", encoding="utf-8")
    with pytest.raises(
        DatasetError, match=r"row 2: .* may mean 'train/e\S+' or 'train/\S+'; write the name as it is"
    ):
        datasets.load_machine(tmp_path / "saw")


def test_names_of_a_table_that_is_not_utf8_are_in_doubt(tmp_path):
    plant(tmp_path / "saw", "train/音.wav")
    (tmp_path / "saw/domains.csv").write_bytes("file_name,domain\ntrain/音.wav,source\n".encode("cp932"))
    with pytest.raises(
        DatasetError, match=r"row 2: no recording .*; the table is not UTF-8: save it as CSV UTF-8"
    ):
        datasets.load_any(tmp_path / "saw")


def test_a_plain_folder_may_have_a_table_too(tmp_path):
    plant(tmp_path / "saw", "a.wav", "monday/b.wav")
    (tmp_path / "saw/Domains.CSV").write_text("file_name,domain\na.wav,source\nmonday/b.wav,target\n")
    assert [clip.domain for clip in datasets.load_machine(tmp_path / "saw").clips] == ["source", "target"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["domains.xlsx"], r"domains\.xlsx is not read; save it as domains\.csv, or remove it"),
        (["domains.csv", "Domains.csv"], r"Domains\.csv and domains\.csv are both there; keep one"),
    ],
)
def test_a_table_that_would_be_passed_over_is_named(tmp_path, files, message):
    plant(tmp_path / "saw", "train/a.wav", *files)
    with pytest.raises(DatasetError, match=message):
        datasets.load_any(tmp_path / "saw")


def test_of_tracks_the_first_one_must_be_listed_and_the_others_may(tmp_path):
    plant(tmp_path / "saw", "train/1_Tr1.wav", "train/1_Tr2.wav", "train/2_Tr1.wav", "train/2_Tr2.wav")
    table = tmp_path / "saw/domains.csv"
    table.write_text(
        "file_name,domain\ntrain/1_Tr1.wav,source\ntrain/2_Tr1.wav,target\ntrain/2_Tr2.wav,target\n"
    )
    said = {clip.name: clip.domain for clip in datasets.load_machine(tmp_path / "saw").clips}
    assert said == {"1_Tr1.wav": "source", "2_Tr1.wav": "target"}
    table.write_text("file_name,domain\ntrain/1_Tr1.wav,source\ntrain/2_Tr2.wav,target\n")
    with pytest.raises(DatasetError, match=r"'train/2_Tr1\.wav' is missing"):
        datasets.load_machine(tmp_path / "saw")


def test_a_table_that_is_a_link_to_nothing_is_not_passed_over(tmp_path):
    plant(tmp_path / "saw", "train/a.wav")
    (tmp_path / "saw/domains.csv").symlink_to("gone.csv")
    with pytest.raises(FileNotFoundError, match=r"domains\.csv"):
        datasets.load_machine(tmp_path / "saw")


def test_faults_among_others_are_refused_whatever_the_folder_is_called(tmp_path):
    plant(tmp_path / "fault_study", "NG_1.wav", "2.wav")
    with pytest.raises(
        DatasetError, match=r"1 of 2 recordings are not normal, by their own names, such as 'NG_1\.wav'"
    ):
        datasets.load_machine(tmp_path / "fault_study")


def test_listed_names_prefer_the_name_as_it_is():
    names = ListedNames(["train/a.wav", "train/A.wav", "saw/train/b.wav", "train/b.wav"], "saw")
    assert names.meant("train/A.wav") == ("train/A.wav",)
    assert names.meant("saw/train/b.wav") == ("saw/train/b.wav",)
    assert names.meant("TRAIN/B.WAV") == ("train/b.wav",)
    assert names.meant("TRAIN/a.WAV") == ("train/A.wav", "train/a.wav")
    assert names.meant("train/c.wav") == names.meant("") == ()
