"""The grammar of file names, of every year; clips, machines and data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfar.recordings.clips import (
    Clip,
    Dataset,
    DatasetError,
    Machine,
    is_audio,
    is_clip_name,
    parse_clip,
    unknown,
)

FORMS = [
    # 2020
    ("ToyCar/train/normal_id_01_00000123.wav", (1, "train", None, "normal", "")),
    ("ToyCar/test/anomaly_id_04_00000000.wav", (4, "test", None, "anomaly", "")),
    ("ToyCar/test/id_05_00000514.wav", (5, "test", None, None, "")),
    # 2021
    (
        "fan/train/section_02_target_train_normal_0002_strength_1_ambient.wav",
        (2, "train", "target", "normal", "strength_1_ambient"),
    ),
    ("fan/source_test/section_00_source_test_normal_0099.wav", (0, "test", "source", "normal", "")),
    ("fan/target_test/section_00_target_test_anomaly_0000.wav", (0, "test", "target", "anomaly", "")),
    ("fan/source_test/section_03_source_test_0199.wav", (3, "test", "source", None, "")),
    ("fan/target_test/section_03_target_test_0199.wav", (3, "test", "target", None, "")),
    # 2022
    (
        "bearing/train/section_01_source_train_normal_0989_vel_12.wav",
        (1, "train", "source", "normal", "vel_12"),
    ),
    ("bearing/test/section_05_test_0199.wav", (5, "test", None, None, "")),
    # 2023 to 2025
    (
        "ToyCar/test/section_00_source_test_normal_0000_car_A2_spd_28V_mic_1_noise_1.wav",
        (0, "test", "source", "normal", "car_A2_spd_28V_mic_1_noise_1"),
    ),
    (
        "slider/train/section_00_target_train_normal_0009_noAttribute.wav",
        (0, "train", "target", "normal", ""),
    ),
    ("slider/train/section_00_target_train_normal_0009_.wav", (0, "train", "target", "normal", "")),
    ("shaker/test/section_00_0000.wav", (0, "test", None, None, "")),
    # 2026
    (
        "gearboxEmu/test/section_00_target_test_anomaly_0049_pro_y.wav",
        (0, "test", "target", "anomaly", "pro_y"),
    ),
    ("Sander/test/section_00_0199.wav", (0, "test", None, None, "")),
    ("Sander/test/section_00_0199.FLAC", (0, "test", None, None, "")),
]


@pytest.mark.parametrize(("path", "expected"), FORMS, ids=[path for path, _ in FORMS])
def test_parse_clip_understands_every_year(path, expected):
    clip = parse_clip(Path("root") / path)
    assert (clip.section, clip.split, clip.domain, clip.label, clip.attributes) == expected
    assert clip.machine == path.split("/")[0]
    assert clip.key == f"{clip.machine}/{clip.split}/{Path(path).name}"
    assert is_clip_name(clip.name)


WORDS = st.text("abcXYZ0189.-", min_size=1, max_size=5)


@given(
    section=st.integers(0, 99),
    domain=st.sampled_from(["source", "target"]),
    place=st.sampled_from([("train", "normal"), ("test", "normal"), ("test", "anomaly")]),
    number=st.integers(0, 9999),
    words=st.lists(WORDS, max_size=6),
    suffix=st.sampled_from([".wav", ".flac", ".WAV"]),
)
def test_what_is_written_in_a_name_is_read_from_it(section, domain, place, number, words, suffix):
    split, label = place
    attributes = "_".join(words)
    stem = "_".join([f"section_{section:02}_{domain}_{split}_{label}_{number:04}", *words])
    clip = parse_clip(Path("data", "pump", split, stem + suffix))
    assert clip == Clip(clip.path, "pump", section, split, stem + suffix, domain, label, attributes)


@given(name=st.text(max_size=60))
def test_any_name_is_parsed_or_refused(name):
    path = Path("data", "pump", "test") / name.replace("/", "").replace("\0", "")
    try:
        clip = parse_clip(path)
    except ValueError:
        return
    assert clip.name == path.name


@pytest.mark.parametrize(
    "name",
    [
        "recording.wav",
        "section_0_source_train_normal_0000.wav",
        "section_00_source_train_normal_000.wav",
        "section_00_Source_train_normal_0000.wav",
        "section_00_source_train_broken_0000.wav",
        "my_section_00_source_train_normal_0000.wav",
        "section_00_source_train_normal_0000.mp3",
        "section_00_source_train_normal_0000.wav.part",
        "normal_id_01_0000.wav",
    ],
)
def test_a_name_outside_the_grammar_is_refused_and_the_grammar_shown(name):
    assert not is_clip_name(name)
    with pytest.raises(ValueError, match=r"not the name of a clip; expected one of\nsection_SS_DOMAIN"):
        parse_clip(Path("pump/train") / name)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "pump/else/section_00_0000.wav",
            "a clip must be in train, test, source_test, target_test, not in 'else'",
        ),
        (
            "pump/test/section_00_source_train_normal_0000.wav",
            "the name says 'train', but the folder is 'test'",
        ),
        ("pump/train/section_00_test_0000.wav", "the name says 'test', but the folder is 'train'"),
        (
            "pump/source_test/section_00_target_test_normal_0000.wav",
            "the name says 'target', but the folder is 'source_test'",
        ),
        ("pump/train/section_00_source_train_anomaly_0000.wav", "'anomaly', but training clips are normal"),
        ("pump/train/anomaly_id_00_00000000.wav", "'anomaly', but training clips are normal"),
    ],
)
def test_a_name_that_contradicts_its_folder_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        parse_clip(Path(path))


def test_is_audio_knows_suffixes_and_leaves_hidden_files():
    assert [is_audio(Path(p)) for p in ("a.wav", "a.FLAC", ".a.wav", "._a.wav", "a.csv", "wav")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def make_dataset() -> Dataset:
    def machine(name):
        clips = [Clip(Path(f"{s}.wav"), name, 0, s, f"{s}.wav") for s in ("test", "train")]
        return Machine(name, tuple(clips))

    return Dataset("plant", Path("plant"), (machine("fan"), machine("pump")))


def test_a_machine_has_its_clips_by_split():
    fan = make_dataset()["fan"]
    assert [c.name for c in fan.train] == ["train.wav"]
    assert [c.name for c in fan.test] == ["test.wav"]


def test_a_dataset_finds_machines_and_keeps_their_order():
    dataset = make_dataset()
    assert [m.name for m in dataset] == ["fan", "pump"]
    assert [m.name for m in dataset.only(["pump", "fan"])] == ["fan", "pump"]
    assert [c.key for c in dataset.only(["pump"]).clips] == ["pump/test/test.wav", "pump/train/train.wav"]


def test_an_unknown_machine_is_named_with_the_nearest():
    with pytest.raises(KeyError, match=r"no machine 'pumb'; did you mean 'pump'\? There are: fan, pump"):
        make_dataset()["pumb"]
    assert unknown("machine", "x", []) == "no machine 'x'. There are: none"


def test_dataset_error_carries_all_problems():
    error = DatasetError(["one thing", "another"])
    assert error.problems == ("one thing", "another")
    assert str(error) == "2 problems in the data:\n  one thing\n  another"
    assert str(DatasetError(["only"])).startswith("1 problem in the data:")


def test_one_thing_is_no_things(tmp_path):
    names = ("train/section_00_source_train_normal_0000.wav", "test/section_00_source_test_normal_0000.wav")
    clips = tuple(parse_clip(tmp_path / "fan" / name) for name in names)
    machine = Machine("fan", clips)
    assert repr(machine) == "Machine('fan', 1 training clip, 1 test clip)"
    assert repr(Dataset("plant", tmp_path, (machine,))) == "Dataset('plant', 1 machine: fan)"
    assert repr(Dataset("plant", tmp_path, (machine, machine))) == "Dataset('plant', 2 machines: fan, fan)"
