"""Each kind of problem is planted, and each is found; a sound data set has none."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import soundfile

from nearfar.recordings import audio, datasets
from nearfar.recordings.datasets import dcase2026
from nearfar.recordings.datasets.published import Counts
from nearfar.recordings.datasets.validation import Problem, to_json, to_table, validate
from nearfar.recordings.inspection import training

RATE = 16000


class Plant:
    """Writes small machines in the layout of 2026: every clip other noise, all of them sound."""

    def __init__(self, root):
        self.root = root
        self.rng = np.random.default_rng(0)

    def noise(self, channels=2, samples=800):
        return (0.1 * self.rng.standard_normal((channels, samples))).clip(-1, 1).astype(np.float32)

    def write(self, name, samples=None, rate=RATE, **how):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, (self.noise() if samples is None else samples).T, rate, **how)
        return path

    def machine(self, machine="saw", *, source=3, target=2, cell=1, attributes="spd_1", **how):
        for domain, count in (("source", source), ("target", target)):
            for i in range(count):
                self.write(f"{machine}/train/section_00_{domain}_train_normal_{i:04}_{attributes}.wav", **how)
        for domain, label, i in product(("source", "target"), ("normal", "anomaly"), range(cell)):
            self.write(f"{machine}/test/section_00_{domain}_test_{label}_{i:04}_{attributes}.wav", **how)
        return self.root / machine

    def attributes(self, machine="saw", rows=None, header="file_name,d1p,d1v"):
        clips = sorted((self.root / machine).rglob("*.wav"))
        names = [clip.relative_to(self.root).as_posix() for clip in clips]
        lines = [f"{name},spd,1" for name in names] if rows is None else rows
        (self.root / machine / "attributes_00.csv").write_text("\n".join([header, *lines]) + "\n")
        return names

    def problems(self, **how):
        return validate(datasets.load(self.root), **how)

    def found(self):
        return [(p.severity, p.kind, p.where) for p in self.problems()]


@pytest.fixture
def plant(tmp_path):
    return Plant(tmp_path)


FIRST = "saw/train/section_00_source_train_normal_0000_spd_1.wav"


def test_a_sound_data_set_has_no_problem(plant):
    plant.machine()
    plant.attributes()
    assert plant.problems() == []


def test_own_machines_have_no_problem_either(plant):
    tested = ("test/c.wav", "test/normal/d.wav", "test/anomaly/e.wav")
    for name in (*(f"train/{i}.wav" for i in range(4)), *tested):
        plant.write(f"mill/{name}")
    assert plant.problems() == []


def empty(path):
    path.write_bytes(b"")


def no_samples(path):
    soundfile.write(path, np.zeros((0, 2), np.int16), RATE)


def garbage(path):
    path.write_bytes(b"RIFF, but no more than that")


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def not_finite(path):
    soundfile.write(path, np.full((800, 2), np.nan, np.float32), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (empty, "empty"),
        (no_samples, "empty"),
        (garbage, "unreadable"),
        (truncated, "truncated"),
        (not_finite, "not_finite"),
    ],
)
def test_a_clip_that_cannot_be_read_is_an_error(plant, damage, kind):
    plant.machine()
    damage(plant.root / FIRST)
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("error", kind, FIRST)
    assert FIRST not in problem.message  # where says it


def test_a_clip_that_is_gone_is_an_error(plant):
    plant.machine()
    dataset = datasets.load(plant.root)
    (plant.root / FIRST).unlink()
    assert [(p.kind, p.where) for p in validate(dataset)] == [("missing", FIRST)]


def test_another_rate_than_the_machines_is_an_error(plant):
    plant.machine()
    plant.write(FIRST, plant.noise(samples=400), rate=8000)
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("error", "rate", FIRST)
    assert problem.message == "8000 Hz, but most training clips have 16000"


def test_machines_may_differ_in_rate(plant):
    plant.machine("saw")
    plant.machine("mill", rate=48000)
    assert plant.found() == []


def test_other_channels_than_the_machines_are_an_error(plant):
    plant.machine()
    plant.write(FIRST, plant.noise(channels=1))
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("error", "channels", FIRST)
    assert problem.message == "1 channels, but most training clips have 2"


def test_another_length_than_most_training_clips_have_is_an_error(plant):
    plant.machine()
    plant.write(FIRST, plant.noise(samples=1600))
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("error", "length", FIRST)
    assert problem.message == "0.1 s long, but most training clips are 0.05 s long"


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(600, ("error", "short")), (700, None), (940, None), (1600, ("warning", "long"))],
)
def test_a_test_clip_is_as_long_as_the_training_clips(plant, samples, expected):
    """Within a factor of 1.2; a short clip cannot be judged, a long one can."""
    plant.machine()
    name = "saw/test/section_00_source_test_normal_0000_spd_1.wav"
    plant.write(name, plant.noise(samples=samples))
    assert plant.found() == ([] if expected is None else [(*expected, name)])


@pytest.mark.parametrize("floor", [0.0, 0.25, "dither"])
def test_a_dead_channel_is_an_error(plant, floor):
    plant.machine()
    samples = plant.noise()
    samples[1] = plant.rng.integers(-1, 2, 800) / 32768 if floor == "dither" else floor
    plant.write(FIRST, samples)
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("error", "dead", FIRST)
    assert problem.message.startswith("the far microphone is silent (")


def test_silence_is_two_dead_channels(plant):
    plant.machine()
    plant.write("saw/test/section_00_source_test_normal_0000_spd_1.wav", np.zeros((2, 800), np.float32))
    assert [(p.kind, p.message.split(" is ")[0]) for p in plant.problems()] == [
        ("dead", "the near microphone"),
        ("dead", "the far microphone"),
    ]


def test_clipping_is_a_warning_and_single_peaks_are_none(plant):
    plant.machine()
    samples = plant.noise()
    samples[0, [10, 200, 500]] = 1.0
    plant.write(FIRST, samples)
    assert plant.found() == []
    samples[0] = np.clip(12 * samples[0], -1, 1)
    plant.write(FIRST, samples)
    clipped = [p for p in plant.problems() if p.kind == "clipped"]
    assert [(p.severity, p.where) for p in clipped] == [("warning", FIRST)]
    assert clipped[0].message.startswith("the near microphone clips (")


def test_the_same_recording_twice_is_a_warning_in_training_and_an_error_across(plant):
    folder = plant.machine()
    copy = FIRST.replace("0000", "0009")
    test = "saw/test/section_00_target_test_normal_0009.wav"
    samples, _ = audio.read(plant.root / FIRST)
    shutil.copy(plant.root / FIRST, plant.root / copy)
    plant.write(test, samples, format="WAVEX")  # the samples count, not the bytes
    assert (folder.parent / test).read_bytes() != (plant.root / FIRST).read_bytes()
    assert [(p.severity, p.kind, p.where, p.message) for p in plant.problems()] == [
        ("error", "copy", FIRST, f"a copy of {test}: a test clip is also a training clip"),
        ("error", "copy", copy, f"a copy of {test}: a test clip is also a training clip"),
    ]
    (plant.root / test).unlink()
    assert [(p.severity, p.message) for p in plant.problems()] == [("warning", f"a copy of {FIRST}")]


def test_the_clip_with_the_shortest_name_is_the_original(plant):
    """As for `nearfar fit`, though "0000 (1).wav" comes before "0000.wav"."""
    plant.machine()
    copy = FIRST.replace(".wav", " (1).wav")
    shutil.copy(plant.root / FIRST, plant.root / copy)
    assert [(p.where, p.message) for p in plant.problems() if p.kind == "copy"] == [
        (copy, f"a copy of {FIRST}")
    ]


def test_clips_that_differ_in_the_far_channel_alone_are_not_the_same(plant):
    plant.machine()
    samples, _ = audio.read(plant.root / FIRST)
    samples[1] = plant.noise()[0]
    plant.write(FIRST.replace("0000", "0009"), samples)
    assert plant.found() == []


def test_machines_may_share_a_recording(plant):
    plant.machine("saw")
    shutil.copytree(plant.root / "saw", plant.root / "mill")
    assert plant.found() == []


def test_clips_that_the_attributes_leave_out_or_make_up(plant):
    plant.machine()
    names = plant.attributes()
    plant.attributes(rows=[f"{name},spd,1" for name in names[2:]] + ["saw/train/gone.wav,spd,1"])
    problems = plant.problems()
    assert [(p.severity, p.kind, p.where) for p in problems] == [
        ("warning", "attributes_extra", "saw/attributes_00.csv"),
        ("warning", "attributes_missing", "saw/attributes_00.csv"),
    ]
    assert problems[0].message == "1 listed files are not on disk, e.g. saw/train/gone.wav"
    assert problems[1].message == f"2 clips are not listed, e.g. {names[0]}, {names[1]}"


def test_attributes_need_not_cover_the_test_clips_nor_other_sections(plant):
    plant.machine()
    names = [name for name in plant.attributes() if "/train/" in name]
    plant.attributes(rows=[f"{name},spd,1" for name in names])
    plant.write("saw/train/section_01_source_train_normal_0000_spd_1.wav")
    assert plant.found() == []


def test_attributes_that_contradict_the_name(plant):
    plant.machine()
    names = plant.attributes()
    plant.attributes(rows=[f"{names[0]},spd,2", *(f"{name},spd,1" for name in names[1:])])
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("warning", "attributes_contradict", names[0])
    assert problem.message == "the name says spd_1, but saw/attributes_00.csv says spd_2"


@pytest.mark.parametrize(
    "row",
    ["{},spd,1,car,A2", "{}, car,A2, spd,1,,", '"{}","car","A2","spd","1"', "{}", "{},noAttribute", "{},,"],
)
def test_attributes_are_read_leniently(plant, row):
    plant.machine(attributes="car_A2_spd_1")
    names = plant.attributes()
    rows = [row.format(name) for name in names]
    plant.attributes(rows=["", *rows], header="\ufefffile_name,d1p,d1v,d2p,d2v")
    assert plant.found() == []


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_attributes_may_be_saved_by_a_spreadsheet(plant, separator, encoding):
    plant.machine()
    names = plant.attributes()
    rows = [f"{name},spd,1".replace("/", "\\") for name in ["file_name,d1p,d1v", *names]]
    table = "\r\n".join(rows).replace("file_name,d1p,d1v,spd,1", "file_name,d1p,d1v").replace(",", separator)
    (plant.root / "saw/attributes_00.csv").write_bytes(f"{table}\r\n{separator}\r\n".encode(encoding))
    assert plant.found() == []


def test_attributes_may_say_more_than_the_names(plant):
    plant.machine(attributes="noAttribute")
    plant.attributes()
    assert plant.found() == []


@pytest.mark.parametrize("content", [b"", b"name,d1p\n", b"\xff\xfe"])
def test_an_attribute_file_that_cannot_be_read_is_a_warning(plant, content):
    plant.machine()
    (plant.root / "saw/attributes_00.csv").write_bytes(content)
    assert plant.found() == [("warning", "attributes_unreadable", "saw/attributes_00.csv")]


def test_training_of_the_source_domain_alone_is_a_warning(plant):
    plant.machine(source=4, target=0)
    assert plant.found() == [("warning", "target_domain", "saw")]


def test_too_few_training_clips_are_an_error(plant):
    plant.machine(source=1, target=2)
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("error", "training", "saw")
    assert problem.message.startswith("training clips: 3; at least 4 are needed")


def test_test_clips_of_one_class_are_a_warning(plant):
    folder = plant.machine()
    for clip in folder.glob("test/*anomaly*"):
        clip.unlink()
    (problem,) = plant.problems()
    assert (problem.severity, problem.kind, problem.where) == ("warning", "one_class", "saw")
    assert problem.message == "all 2 test clips are labelled 'normal': no AUC can be computed"


# Against what was published


@pytest.fixture
def small_2026(plant, monkeypatch):
    """The development part of 2026, with as few clips as ``Plant.machine`` writes."""
    small = replace(dcase2026.PUBLISHED, counts=Counts(source=3, target=2, cell=1))
    monkeypatch.setattr(dcase2026, "PUBLISHED", small)
    for machine in dcase2026.MACHINES["dev"]:
        plant.machine(machine)
    return plant


def test_a_published_set_that_is_whole_has_no_problem(small_2026):
    assert small_2026.problems() == []


def test_counts_that_differ_from_the_published_ones_are_errors(small_2026):
    root = small_2026.root
    (root / "fan/train/section_00_target_train_normal_0001_spd_1.wav").unlink()
    (root / "fan/test/section_00_target_test_anomaly_0000_spd_1.wav").unlink()
    small_2026.write("ToyCar/train/section_01_source_train_normal_0000.wav")
    assert [(p.severity, p.kind, p.where, p.message) for p in small_2026.problems()] == [
        ("error", "count", "ToyCar", "section 01: 1 source training clips, not 0 as in dcase2026"),
        ("error", "count", "fan", "section 00: 1 target training clips, not 2 as in dcase2026"),
        ("error", "count", "fan", "section 00: 0 target anomaly test clips, not 1 as in dcase2026"),
    ]


def test_rate_and_channels_of_a_published_set_are_known(small_2026):
    for clip in (small_2026.root / "fan").rglob("*.wav"):
        samples, _ = audio.read(clip)
        small_2026.write(clip, samples[:1], rate=48000)
    small_2026.write(
        "ToyCar/train/section_00_source_train_normal_0000_spd_1.wav", small_2026.noise(channels=3)
    )
    assert [(p.kind, p.where, p.message) for p in small_2026.problems()] == [
        (
            "channels",
            "ToyCar/train/section_00_source_train_normal_0000_spd_1.wav",
            "3 channels, but most training clips have 2",
        ),
        ("rate", "fan", "all clips have 48000 Hz, not 16000 Hz as published"),
        ("channels", "fan", "all clips have 1 channels, not 2 channels as published"),
    ]


def test_a_part_of_a_published_set_is_not_measured_against_it(small_2026):
    shutil.rmtree(small_2026.root / "fan")
    (small_2026.root / "ToyCar/train/section_00_target_train_normal_0001_spd_1.wav").unlink()
    assert small_2026.found() == []


def test_evaluation_clips_are_counted_without_labels_and_only_once_they_are_there(plant, monkeypatch):
    small = replace(dcase2026.PUBLISHED, counts=Counts(source=3, target=2, cell=1))
    monkeypatch.setattr(dcase2026, "PUBLISHED", small)
    for machine in dcase2026.MACHINES["eval"]:
        plant.machine(machine, cell=0)
    assert plant.found() == []
    for machine in dcase2026.MACHINES["eval"]:
        for i in range(4 if machine != "Sander" else 3):
            plant.write(f"{machine}/test/section_00_{i:04}.wav")
    (problem,) = plant.problems()
    assert (problem.where, problem.message) == ("Sander", "section 00: 3 test clips, not 4 as in dcase2026")


def test_training_clips_that_were_not_fetched_are_not_counted(plant, monkeypatch):
    monkeypatch.setattr(dcase2026, "PUBLISHED", replace(dcase2026.PUBLISHED, counts=Counts(3, 2, cell=1)))
    for machine in dcase2026.MACHINES["eval"]:
        for i in range(4):
            plant.write(f"{machine}/test/section_00_{i:04}.wav")
    assert {kind for _, kind, _ in plant.found()} == {"training"}


def test_years_with_the_same_machines_are_told_apart_by_their_counts(plant, monkeypatch):
    few = Counts(source=3, target=2, cell=1)
    for module in (datasets.dcase2022, datasets.dcase2023, datasets.dcase2024, datasets.dcase2025):
        monkeypatch.setattr(module, "PUBLISHED", replace(module.PUBLISHED, counts=few))
    for machine in datasets.dcase2023.MACHINES["dev"]:
        plant.machine(machine)
        for clip in (plant.root / machine).rglob("*.wav"):
            plant.write(clip, plant.noise(channels=1))
    assert plant.found() == []


def test_2020_and_2021_have_counts_that_differ_and_are_not_checked(plant):
    for machine in datasets.dcase2020.MACHINES["dev"]:
        for i in range(4):
            plant.write(f"{machine}/train/normal_id_00_{i:08}.wav", plant.noise(channels=1))
    assert plant.found() == []


# All together


def test_all_problems_are_found_at_once_whatever_the_threads(plant):
    folder = plant.machine(source=9)
    names = plant.attributes()
    train = sorted(folder.glob("train/*source*"))
    empty(train[0])
    garbage(train[1])
    truncated(train[2])
    not_finite(train[3])
    plant.write(train[4], np.zeros((2, 800), np.float32))
    plant.write(train[5], plant.noise(samples=400), rate=8000)
    shutil.copy(train[6], train[7])
    plant.write(train[8], plant.noise(channels=1))
    plant.attributes(rows=[f"{name},spd,2" for name in names[:1]])
    plant.write("mill/train/section_00_source_train_normal_0000.wav")
    problems = plant.problems()
    assert {p.kind for p in problems} == {
        "attributes_contradict",
        "attributes_missing",
        "channels",
        "copy",
        "dead",
        "empty",
        "not_finite",
        "rate",
        "target_domain",
        "training",
        "truncated",
        "unreadable",
    }
    assert plant.problems(workers=4) == problems


def test_progress_is_told_clip_by_clip(plant):
    plant.machine()
    told: list[tuple[int, int]] = []
    plant.problems(workers=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 9) for i in range(1, 10)]


def test_samples_are_let_go_clip_by_clip(plant, monkeypatch):
    plant.machine(source=30)
    read, held, most = audio.read_recorded, [], []

    def watched(recording):
        recorded = read(recording)
        held.append(weakref.ref(recorded.samples))
        most.append(sum(ref() is not None for ref in held))
        return recorded

    monkeypatch.setattr(audio, "read_recorded", watched)
    assert plant.problems(workers=2) == []
    assert len(most) == 36
    assert max(most) <= 3


@pytest.mark.parametrize("bits", ["PCM_16", "FLOAT"])
def test_a_listener_that_holds_the_samples_finds_the_same_and_reads_each_clip_once(plant, monkeypatch, bits):
    plant.machine(source=4, target=4)
    samples = plant.noise(samples=RATE) * np.linspace(0.1, 1, RATE, dtype=np.float32)
    plant.write(FIRST, samples, subtype=bits)
    plant.write(FIRST.replace("0000", "0009"), 1.7 * samples, subtype=bits)  # a copy: a closer look
    expected, reads = plant.problems(), []
    read_recorded = audio.read_recorded
    monkeypatch.setattr(audio, "read_recorded", lambda r: reads.append(r.path) or read_recorded(r))
    monkeypatch.setattr(audio, "read", lambda r: pytest.fail(f"{r} is read again"))

    def listen(clip):
        found = training.read(clip)
        return found if isinstance(found, training.Seen) else training.seen(clip, found, hold=True)

    assert plant.problems(listen=listen) == expected
    assert any(problem.kind == "copy" for problem in expected)
    assert len(reads) == len(set(reads)) == 13


@pytest.mark.parametrize("bits", ["PCM_16", "FLOAT", "PCM_24"])
def test_samples_that_are_held_are_those_of_the_file(plant, bits):
    plant.machine(source=1, target=0, cell=0, subtype=bits)
    (clip,) = datasets.load(plant.root).clips
    recorded = audio.read_recorded(clip.recording)
    held = training.seen(clip, recorded, hold=True)
    np.testing.assert_array_equal(held.again(), audio.read(clip.recording)[0])
    assert held.again().dtype == np.float32
    assert (held.held.dtype == np.int16) == (bits == "PCM_16")


def test_names_that_are_not_utf8_are_escaped():
    problem = Problem("error", "missing", "saw/train/L\udcfc.wav", "L\udcfc.wav: no such file")
    assert json.loads(to_json([problem]))[0]["where"] == r"saw/train/L\xfc.wav"
    assert to_table([problem])["message"].tolist() == [r"L\xfc.wav: no such file"]


def test_problems_as_a_table_and_as_json():
    problems = [Problem("error", "rate", "saw", "all wrong"), Problem("warning", "length", "saw", "differ")]
    table = to_table(problems)
    assert list(table.columns) == ["severity", "kind", "where", "message"]
    assert table.loc[1].tolist() == ["warning", "length", "saw", "differ"]
    assert json.loads(to_json(problems))[0] == {
        "severity": "error",
        "kind": "rate",
        "where": "saw",
        "message": "all wrong",
    }
    assert list(to_table([]).columns) == list(table.columns)
    assert json.loads(to_json([])) == []


def test_motors_has_next_to_no_problem(motors):
    """No training clip is called odd, and no more of the others than one in a hundred."""
    dataset = datasets.load(motors)
    odd = {p.where for p in validate(dataset, workers=2)}
    assert not odd & {clip.key for machine in dataset for clip in machine.train}
    assert len(odd) <= sum(len(machine.test) for machine in dataset) / 100
