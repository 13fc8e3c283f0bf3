"""The two layouts on disk, what the published sets are, and the errors that say which folder to pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nearfar.recordings import datasets
from nearfar.recordings.clips import DatasetError
from nearfar.recordings.datasets import DATASETS, dcase, folder


def plant(root, *names):
    """Empty files: a layout is told from names alone."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


SOURCE = "section_00_source_train_normal_0000_rpm_1.wav"
TARGET = "section_00_target_train_normal_0000_rpm_2.wav"
ANONYMOUS = "section_00_0000.wav"


# The challenge's layout


def test_the_challenges_layout_is_read_in_the_order_of_keys(tmp_path):
    plant(
        tmp_path,
        f"pump/train/{TARGET}",
        f"pump/train/{SOURCE}",
        f"pump/test/{ANONYMOUS}",
        f"fan/train/{SOURCE}",
    )
    dataset = datasets.load(tmp_path)
    assert (dataset.name, dataset.root) == (tmp_path.name, tmp_path)
    assert [clip.key for clip in dataset.clips] == [
        f"fan/train/{SOURCE}",
        f"pump/test/{ANONYMOUS}",
        f"pump/train/{SOURCE}",
        f"pump/train/{TARGET}",
    ]
    assert [clip.domain for clip in dataset["pump"].train] == ["source", "target"]
    assert dataset["pump"].test[0].label is None


def test_files_that_are_no_clips_are_left_alone(tmp_path):
    plant(
        tmp_path,
        f"fan/train/{SOURCE}",
        "fan/train/notes.txt",
        "fan/train/._section_00_source_train_normal_0000.wav",
        "fan/train/.cache/other.wav",
        "fan/attributes_00.csv",
        "fan/supplemental/noise_0000.wav",
        ".hidden/train/x.wav",
        "results/plot.png",
        "README.md",
    )
    assert [clip.key for clip in datasets.load(tmp_path).clips] == [f"fan/train/{SOURCE}"]


def test_2021_has_a_test_folder_for_each_domain(tmp_path):
    plant(
        tmp_path,
        "fan/train/section_03_source_train_normal_0000_a.wav",
        "fan/source_test/section_03_source_test_0000.wav",
        "fan/target_test/section_03_target_test_0000.wav",
    )
    test = datasets.load(tmp_path)["fan"].test
    assert [(clip.domain, clip.section) for clip in test] == [("source", 3), ("target", 3)]


def test_2020_has_ids_and_no_domains(tmp_path):
    plant(tmp_path, "fan/train/normal_id_02_00000000.wav", "fan/test/anomaly_id_02_00000001.wav")
    clips = datasets.load(tmp_path).clips
    assert [(clip.section, clip.domain, clip.label) for clip in clips] == [
        (2, None, "anomaly"),
        (2, None, "normal"),
    ]


def test_a_mixture_is_refused_with_the_offenders_and_the_grammar(tmp_path):
    plant(
        tmp_path,
        f"fan/train/{SOURCE}",
        *(f"fan/train/mine_{i}.wav" for i in range(8)),
        "pump/train/other.wav",
    )
    with pytest.raises(DatasetError, match="recordings have no name of the challenge's data") as caught:
        datasets.load(tmp_path)
    message = str(caught.value)
    assert "8 of 9 recordings have no name of the challenge's data" in message
    assert "train/mine_4.wav\n  ... and 3 more" in message
    assert "1 of 1 recordings have no name" in message
    assert "train/other.wav" in message
    assert "section_SS_DOMAIN_SPLIT_LABEL_NNNN" in message


def test_every_contradiction_is_listed_at_once(tmp_path):
    plant(
        tmp_path,
        "fan/train/section_00_source_test_normal_0000.wav",
        "fan/train/section_00_source_train_anomaly_0000.wav",
        f"fan/test/normal/{ANONYMOUS}",
        "pump/test/section_00_source_test_normal_0000.wav",
        "pump/source_test/section_00_source_test_normal_0000.wav",
    )
    with pytest.raises(DatasetError, match="the name says 'test', but the folder is 'train'") as caught:
        datasets.load(tmp_path)
    found = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for message in (
        "the name says 'test', but the folder is 'train'",
        "training clips are normal",
        "not in a folder below",
        "pump/test/section_00_source_test_normal_0000.wav: 2 recordings with this name",
    ):
        assert message in found


def test_a_machine_without_recordings_is_refused(tmp_path):
    plant(tmp_path, f"fan/train/{SOURCE}", "pump/train/README")
    with pytest.raises(
        DatasetError, match=r"pump: no \.wav or \.flac file in train, test, source_test, target_test"
    ):
        datasets.load(tmp_path)


# Own machines


def test_own_machines_are_told_by_their_folders(tmp_path):
    plant(
        tmp_path,
        "saw/train/monday/a.wav",
        "saw/train/b.flac",
        "saw/test/normal/c.wav",
        "saw/test/anomaly/deep/d.wav",
        "saw/test/e.wav",
        "mill/train/a.wav",
    )
    dataset = datasets.load(tmp_path)
    assert [m.name for m in dataset] == ["mill", "saw"]
    said = {clip.key: (clip.split, clip.label, clip.domain, clip.section) for clip in dataset["saw"].clips}
    assert said == {
        "saw/test/anomaly/deep/d.wav": ("test", "anomaly", None, 0),
        "saw/test/e.wav": ("test", None, None, 0),
        "saw/test/normal/c.wav": ("test", "normal", None, 0),
        "saw/train/b.flac": ("train", "normal", None, 0),
        "saw/train/monday/a.wav": ("train", "normal", None, 0),
    }
    assert list(said) == sorted(said)


def test_a_test_folder_that_is_no_label_is_refused(tmp_path):
    plant(tmp_path, "saw/train/a.wav", "saw/test/norml/b.wav", "saw/test/normal_and_faulty/c.wav")
    with pytest.raises(DatasetError, match=r"no label 'norml'; did you mean 'normal'\?") as caught:
        datasets.load(tmp_path)
    assert "no label 'normal_and_faulty'" in str(caught.value)


@pytest.mark.parametrize(
    ("normal", "anomalous"),
    [("Normal", "Abnormal"), ("good", "broken_large"), ("OK", "NG"), ("NormalSound", "AnomalousSound"),
     ("gut", "defekt"), ("seijou", "ijou")],
)  # fmt: skip
def test_test_folders_may_be_called_as_in_other_data_sets(tmp_path, normal, anomalous):
    plant(tmp_path, "saw/train/a.wav", f"saw/test/{normal}/b.wav", f"saw/test/{anomalous}/deep/c.wav")
    said = {clip.name: clip.label for clip in datasets.load(tmp_path)["saw"].test}
    assert said == {f"{normal}/b.wav": "normal", f"{anomalous}/deep/c.wav": "anomaly"}


def test_own_recordings_do_not_lie_in_the_folders_of_2021(tmp_path):
    plant(tmp_path, "saw/train/a.wav", "saw/source_test/b.wav")
    with pytest.raises(DatasetError, match=r"source_test/b\.wav: recordings must be in train or test"):
        datasets.load(tmp_path)


def test_an_own_machine_without_recordings_is_refused(tmp_path):
    plant(tmp_path, "saw/train/README")
    with pytest.raises(DatasetError, match=r"saw/train: no \.wav or \.flac file to learn from"):
        datasets.load(tmp_path)


def test_domains_are_read_from_their_table(tmp_path):
    plant(tmp_path, "saw/train/a.wav", "saw/train/b.wav", "saw/test/normal/c.wav")
    rows = "train/a.wav,source,\n./train/b.wav, target\n\ntest/normal/c.wav,source,x\n"
    (tmp_path / "saw/domains.csv").write_text(f"\ufefffile_name,domain,remark\n{rows}", encoding="utf-8")
    assert {c.name: c.domain for c in datasets.load(tmp_path).clips} == {
        "a.wav": "source",
        "b.wav": "target",
        "normal/c.wav": "source",
    }


def test_everything_wrong_with_the_domains_is_listed_at_once(tmp_path):
    plant(tmp_path, "saw/train/a.wav", "saw/train/b.wav", "saw/train/c.wav", "mill/train/a.wav")
    rows = "train/a.wav,source\ntrain/a.wav,target\ntrain/b.wav,near\n/else/x.wav,source\n../y.wav,source\n"
    (tmp_path / "saw/domains.csv").write_text(f"file_name,domain\n{rows}")
    (tmp_path / "mill/domains.csv").write_text("name,domain\ntrain/a.wav,source\n")
    with pytest.raises(DatasetError, match=r"'train/a\.wav' is listed 2 times") as caught:
        datasets.load(tmp_path)
    assert [re.sub(r".*domains\.csv: ", "", problem) for problem in caught.value.problems] == [
        "no column file_name: the first row is 'name,domain'; the first row must be file_name,domain, separated by "
        "commas, semicolons or tabs",
        "row 4: domain='near' of 'train/b.wav'; it must be source or target",
        "row 5: no recording '/else/x.wav' in train or test",
        "row 6: no recording '../y.wav' in train or test",
        "'train/c.wav' is missing",
        "'train/a.wav' is listed 2 times, in rows 2 and 3",
    ]


def test_a_table_of_domains_that_is_no_text_is_refused(tmp_path):
    plant(tmp_path, "saw/train/a.wav")
    (tmp_path / "saw/domains.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"domains\.csv: not readable as text .*truncated data"):
        datasets.load(tmp_path)


# One machine


def test_one_machine_of_the_challenge(tmp_path, monkeypatch):
    plant(tmp_path, f"fan/train/{SOURCE}", f"fan/test/{ANONYMOUS}")
    machine = datasets.load_machine(tmp_path / "fan")
    assert (machine.name, machine.train[0].domain, machine.train[0].attributes) == ("fan", "source", "rpm_1")
    monkeypatch.chdir(tmp_path / "fan")
    assert datasets.load_machine(Path()).train[0].key == machine.train[0].key
    plant(tmp_path, "fan/train/other.wav")
    with pytest.raises(DatasetError, match="1 of 3 recordings have no name"):
        dcase.machine(tmp_path / "fan")


def test_one_own_machine(tmp_path):
    plant(tmp_path, "saw/train/a.wav", "saw/test/anomaly/b.wav")
    assert [c.label for c in datasets.load_machine(tmp_path / "saw").clips] == ["anomaly", "normal"]


def test_a_plain_folder_is_normal_recordings(tmp_path):
    plant(tmp_path, "saw/monday/a.wav", "saw/b.wav", "saw/notes.txt")
    machine = folder.machine(tmp_path / "saw")
    assert [(c.key, c.label) for c in machine.clips] == [
        ("saw/train/b.wav", "normal"),
        ("saw/train/monday/a.wav", "normal"),
    ]
    assert machine.train == machine.clips


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/train/x.wav", r"saw contains the folder of a machine \(a\); give one of them, such as .*saw/a$"),
        (
            "a/b/test/x.wav",
            r"the folder 'a/b/test' is called like a split of a machine; .* contains it, .*saw/a/b$",
        ),
        ("a/Train/x.wav", r"the folder 'a/Train' is called .* contains it, .*saw/a, and rename it to train$"),
        (
            f"x/{ANONYMOUS}",
            "2 of 2 recordings are not training clips of the challenge; give a folder of training",
        ),
    ],
)
def test_a_folder_that_is_more_than_normal_recordings_is_not_taken_for_them(tmp_path, name, message):
    plant(tmp_path, f"saw/{name}", "saw/zz.wav")
    with pytest.raises(DatasetError, match=re.compile(message, re.MULTILINE)):
        datasets.load_machine(tmp_path / "saw")


def test_a_machine_must_be_a_folder_with_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path=.*none: no such folder; give the folder of a machine"):
        datasets.load_machine(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"no \.wav or \.flac file to learn from"):
        datasets.load_machine(tmp_path)


# The wrong root


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"root=.*none: no such folder; give the folder that contains"
    ):
        datasets.load(tmp_path / "none")


def test_a_root_that_is_a_file(tmp_path):
    plant(tmp_path, "a.zip")
    with pytest.raises(DatasetError, match=r"root=.*a\.zip is a file; give the folder"):
        datasets.load(tmp_path / "a.zip")


def test_a_root_that_is_one_machine(tmp_path):
    plant(tmp_path, "train/a.wav")
    with pytest.raises(DatasetError, match="is the folder of one machine; give the folder that contains it"):
        datasets.load(tmp_path)


def test_an_empty_root(tmp_path):
    with pytest.raises(DatasetError, match=r"contains no folder of a machine; expected ROOT/MACHINE/train"):
        datasets.load(tmp_path)


def test_a_root_with_recordings_but_no_machine(tmp_path):
    plant(tmp_path, "a.wav")
    with pytest.raises(DatasetError, match="contains recordings but no folder of a machine; expected ROOT"):
        datasets.load(tmp_path)


@pytest.mark.parametrize("below", ["dev_data/raw", "raw", "dev"])
def test_a_root_whose_machines_are_further_down_names_the_folder(tmp_path, below):
    plant(tmp_path, f"{below}/fan/train/{SOURCE}")
    with pytest.raises(DatasetError, match=f"some are deeper; give {re.escape(str(tmp_path / below))}$"):
        datasets.load(tmp_path)


# The published sets


@pytest.mark.parametrize("name", DATASETS)
def test_a_published_set_says_all_that_is_asked_of_it(name):
    module = DATASETS[name]
    published = module.PUBLISHED
    assert published.name == name
    assert (published.bibtex, published.license) == (module.BIBTEX, module.LICENSE)
    assert (published.machines, published.counts, published.remotes) == (
        module.MACHINES,
        module.COUNTS,
        module.REMOTES,
    )
    assert re.search(r"eprint = \{\d{4}\.\d{5}\}", module.BIBTEX)
    assert f"year = {{{name[-4:]}}}" in module.BIBTEX
    assert "CC BY-NC-SA 4.0" in module.LICENSE
    assert set(module.MACHINES) == {"dev", "eval"}
    for machines in module.MACHINES.values():
        assert list(machines) == sorted(set(machines))
    assert set(module.REMOTES) == ({"dev", "train", "eval"} if name >= "dcase2023" else set())
    assert published.channels == (2 if name == "dcase2026" else 1)


def test_the_sums_of_2026_are_known_beforehand():
    remotes = DATASETS["dcase2026"].REMOTES
    assert {subset: len(remote.md5) for subset, remote in remotes.items()} == {
        "dev": 1,
        "train": 5,
        "eval": 5,
    }
    sums = [md5 for remote in remotes.values() for md5 in remote.md5.values()]
    assert len(set(sums)) == 11
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)


# Real clips


def test_motors_is_in_the_challenges_layout(motors):
    dataset = datasets.load(motors)
    assert [machine.name for machine in dataset] == ["motorA", "motorB"]
    for machine in dataset:
        assert (len(machine.train), len(machine.test)) == (200, 160)
        assert sum(clip.domain == "target" for clip in machine.train) == 10
        assert {clip.attributes.split("_")[0] for clip in machine.clips} == {"rpm"}
