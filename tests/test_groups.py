"""What belongs together, by names and by the table of domains."""

import numpy as np
import pytest

from nearfar.recordings import audio, datasets
from nearfar.recordings.datasets.groups import groups_of_names

RUN = range(1, 4)


def numbered(*stems):
    return [f"{stem}_{number:04}.wav" for stem in stems for number in RUN]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (numbered("2026-03-01_morning", "2026-03-02_morning"), {"day 2026-03-01", "day 2026-03-02"}),
        (numbered("2026-03-01_a", "2026-03-01_b"), {"recording 2026-03-01_a", "recording 2026-03-01_b"}),
        (["20260301_235900.wav", "20260302T000010.wav"], {"day 2026-03-01", "day 2026-03-02"}),
        (["20260301235900.wav", "202603020000.wav"], {"day 2026-03-01", "day 2026-03-02"}),
        (["2026.03.01/0.wav", "2026_03_02/0.wav"], {"day 2026-03-01", "day 2026-03-02"}),
        (["hall 1/day/0.wav", "hall 1/night/0.wav"], {"folder hall 1/day", "folder hall 1/night"}),
        (["a/x/0.wav", "a/y/0.wav", "b/0.wav", "1.wav"], {"folder a", "folder b", "folder ."}),
        (numbered("press_03", "press_04"), {"recording press_03", "recording press_04"}),
        (["run (1).wav", "run (2).wav", "stop (1).wav", "stop (2).wav"], {"recording run", "recording stop"}),
        (
            [f"{stem}_{number}_Tr{track}.wav" for stem in "ab" for number in RUN for track in (1, 2)],
            {"recording a", "recording b"},
        ),
    ],
)  # fmt: skip
def test_names_tell_days_folders_and_recordings(names, expected):
    found = groups_of_names(names)
    assert list(found) == names
    assert set(found.values()) == expected


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a.wav"],
        [f"{number:02}.wav" for number in range(100)],
        [f"clip_{number:03}.wav" for number in range(100)],  # one recording is no group
        [*numbered("a", "b"), "c.wav"],  # a rule that does not fit all
        [f"rpm_{number}.wav" for number in range(5)],
        ["a_1.wav", "b_1.wav", "c_1.wav"],  # each a recording of its own
        ["-1.wav", "_2.wav", "(3).wav", "4.wav"],
        ["1234567890.wav", "19991332.wav", "20260230000000000.wav"],  # not dates
        numbered("2026-03-01"),  # one day
    ],
)
def test_names_that_tell_nothing_are_no_groups(names):
    assert groups_of_names(names) == {}


def written(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).normal(scale=0.1, size=(2, 1600)).astype(np.float32)
        audio.write(folder / name, samples, 16000)
    return folder


def groups_in(folder):
    return {clip.name: clip.group for clip in datasets.load_machine(folder).clips}


def test_a_plain_folder_has_groups_by_name(tmp_path):
    found = groups_in(written(tmp_path / "saw", ["mon/0.wav", "mon/1.wav", "tue/0.wav"]))
    assert found == {"mon/0.wav": "folder mon", "mon/1.wav": "folder mon", "tue/0.wav": "folder tue"}


def test_names_group_training_clips_only(tmp_path):
    names = ["train/mon/0.wav", "train/tue/0.wav", "test/normal/0.wav", "test/anomaly/0.wav"]
    found = groups_in(written(tmp_path / "saw", names))
    assert found == {
        "mon/0.wav": "folder mon",
        "tue/0.wav": "folder tue",
        "normal/0.wav": "",
        "anomaly/0.wav": "",
    }


def test_names_of_the_challenge_are_no_groups(tmp_path):
    names = [f"train/section_00_source_train_normal_{n:04}_speed_{1 + n % 2}.wav" for n in range(6)]
    assert set(groups_in(written(tmp_path / "fan", names)).values()) == {""}


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("group", ("a", "b"), ("a", "b")),
        ("Day", ("1", "2"), ("day 1", "day 2")),
        ("recording,session", ("r1,s1", "r2,s1"), ("session s1", "session s1")),
        ("day;group", ("1;g", "1;"), ("g", "")),  # an empty cell: it belongs to nothing
        ("note", ("x", "y"), ("folder mon", "folder tue")),  # no such column: by name
    ],
)
def test_a_column_of_the_table_is_what_belongs_together(tmp_path, header, cells, expected):
    folder = written(tmp_path / "saw", ["mon/0.wav", "tue/0.wav"])
    separator = ";" if ";" in header else ","
    rows = [
        ["file_name", "domain", header],
        ["mon/0.wav", "source", cells[0]],
        ["tue/0.wav", "target", cells[1]],
    ]
    (folder / "domains.csv").write_text("\n".join(separator.join(row) for row in rows))
    machine = datasets.load_machine(folder)
    assert tuple(clip.group for clip in machine.train) == expected
    assert tuple(clip.domain for clip in machine.train) == ("source", "target")
