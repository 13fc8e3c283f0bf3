"""What people read: verdict lines that parse back, and tables with the right numbers in them."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from nearfar.decisions.alarms import AlarmRule
from nearfar.decisions.calibration import Calibration
from nearfar.decisions.thresholds import Conformal
from nearfar.detector.fitted import Detector, Verdict
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.official import Evaluation
from nearfar.evaluation.protocols import CROSS_FITTED, Finding, Selection, scope_of
from nearfar.evaluation.record import RunRecord
from nearfar.evaluation.results import Result
from nearfar.recordings.datasets import DATASETS
from nearfar.recordings.inspection.faults import RecordingFault
from nearfar.recordings.inspection.measured import Levels
from nearfar.report import catalogues, fitted, recordings, results, verdicts
from nearfar.systems import configuration, named
from nearfar.systems.resolved import resolve

NAN = float("nan")
DEAD, CLIPPED = (
    RecordingFault("dead", "near", "the near one is silent"),
    RecordingFault("clipped", "far", "the far one clips"),
)
AWKWARD = [
    "a,b.wav",
    'say "hi".wav',
    "two\nlines.wav",
    "tab\there.wav",
    " spaces .wav",
    "Lüfter 音 🎧.wav",
    "[bold]fan[/].wav",
    "'; --.wav",
    "x" * 200 + ".wav",
]
# a carriage return alone is not quoted by Python's csv before 3.13; half a surrogate pair is no text
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1)
numbers = st.one_of(st.just(NAN), st.floats(allow_nan=False, allow_infinity=False))


def plain(renderable):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


LEVELS = Levels(-30.12345, NAN, 0.5, -3.0, NAN)  # of a recording with one channel


def shown(found, form, rule=None):
    """What ``show`` writes, and what it returns."""
    file = io.StringIO(newline="")
    decisions = verdicts.show(found, form, Console(file=file, width=40), rule)
    return file.getvalue(), decisions


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def found():
    return [
        Verdict("one.wav", 1.25, 0.04, "anomaly", (DEAD, CLIPPED)),
        Verdict("two.wav", 0.5, 0.75, "normal"),
        Verdict("three.wav", NAN, NAN, "unusable", error="the file is empty, record it again"),
        Verdict("four.wav", 2.0, NAN, ""),
    ]


# verdicts


@given(names, numbers, numbers, names)
@example("a,b.wav", 0.1 + 0.2, 5e-324, 'he said "no",\nand left')
def test_lines_parse_back(name, score, p_value, error):
    verdict = Verdict(name, score, p_value, "anomaly", (DEAD, CLIPPED), error, levels=LEVELS)
    (row,) = csv.reader(io.StringIO(verdicts.csv_line(verdict), newline=""))
    assert dict(zip([*verdicts.COLUMNS, *verdicts.LEVELS], row, strict=True)) == {
        "recording": name,
        "score": "" if math.isnan(score) else repr(score),
        "p_value": "" if math.isnan(p_value) else repr(p_value),
        "decision": "anomaly",
        "faults": "near dead;far clipped",
        "error": error,
        "near_dbfs": "-30.123", "far_dbfs": "", "coherence": "0.5", "near_tilt": "-3.0", "far_tilt": "",
    }  # fmt: skip
    line = verdicts.json_line(verdict)
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert json.loads(line, parse_constant=pytest.fail) == {  # NaN is no JSON
        "recording": name,
        "score": None if math.isnan(score) else score,
        "p_value": None if math.isnan(p_value) else p_value,
        "decision": "anomaly",
        "faults": [
            {"kind": "dead", "microphone": "near", "message": DEAD.message},
            {"kind": "clipped", "microphone": "far", "message": CLIPPED.message},
        ],
        "error": error,
        "levels": {
            "near_dbfs": -30.123, "far_dbfs": None, "coherence": 0.5, "near_tilt": -3.0, "far_tilt": None,
        },
    }  # fmt: skip


def test_lines_of_a_verdict_with_nothing_to_say():
    verdict = Verdict("a.wav", 1.0, NAN, "")
    assert verdicts.csv_line(verdict) == "a.wav,1.0,,,,,,,,,\n"
    said = json.loads(verdicts.json_line(verdict))
    assert [said[key] for key in ("p_value", "decision", "faults", "error")] == [None, None, [], None]


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("terminal", [False, True])
def test_shown_lines_are_the_lines_as_they_are(found, form, terminal):
    found += [Verdict(name, 0.1, 0.2, "normal") for name in AWKWARD]
    file = io.StringIO(newline="")
    console = Console(file=file, width=40, force_terminal=terminal, color_system="truecolor")
    verdicts.show(found, form, console)
    line = {"csv": verdicts.csv_line, "json": verdicts.json_line}[form]
    header = ",".join([*verdicts.COLUMNS, *verdicts.LEVELS]) + "\n" if form == "csv" else ""
    assert file.getvalue() == header + "".join(map(line, found))


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_come_back(name):
    found = [Verdict(name, 0.1, 0.2, "normal"), Verdict("next.wav", 0.3, 0.4, "normal")]
    assert [row["recording"] for row in csv_rows(shown(found, "csv")[0])] == [name, "next.wav"]
    said = [json.loads(line) for line in shown(found, "json")[0].splitlines()]
    assert [row["recording"] for row in said] == [name, "next.wav"]


@pytest.mark.parametrize("name", [name for name in AWKWARD if name.isprintable() and len(name) < 100])
def test_awkward_names_are_no_markup_in_the_table(name):
    assert name in plain(verdicts.table([Verdict(name, 0.1, 0.2, "normal")]))


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_show_returns_the_decisions(found, form):
    assert shown(found, form)[1] == {"anomaly", "normal", "unusable", ""}
    assert shown([], form)[1] == set()


@pytest.mark.parametrize("form", ["csv", "json"])
def test_lines_are_shown_as_they_come(found, form):
    file = io.StringIO()

    def watched():
        for i, verdict in enumerate(found):
            assert len(file.getvalue().splitlines()) == i + (form == "csv")
            yield verdict

    verdicts.show(watched(), form, Console(file=file))
    assert len(file.getvalue().splitlines()) == 4 + (form == "csv")


@pytest.fixture
def alarmed(found):
    return [
        replace(verdict, alarm=alarm)
        for verdict, alarm in zip(found, [False, True, True, False], strict=True)
    ]


def test_lines_with_alarms_have_one_more_field(alarmed):
    rule = AlarmRule(1, 2)
    text, occurred = shown(alarmed, "csv", rule=rule)
    assert [row["alarm"] for row in csv_rows(text)] == ["0", "1", "1", "0"]
    assert occurred == {"anomaly", "normal", "unusable", "", "alarm"}
    lines = shown(alarmed, "json", rule=rule)[0].splitlines()
    assert [json.loads(line)["alarm"] for line in lines] == [False, True, True, False]
    assert "alarm" not in shown(alarmed[:1], "json", rule=rule)[1]


def test_table_with_alarms(alarmed):
    text = plain(verdicts.table(alarmed))
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert [row[4] for row in rows] == ["-", "ALARM", "ALARM", "-"]
    assert "alarm after 2 of them" in text


@pytest.mark.parametrize(
    ("rule", "rate", "group", "independent", "at_most"),
    [
        ((3, 5), 0.01, "one group of 5 consecutive normal clips", "0.001 %", "1.7 %"),
        ((3, 5), 0.05, "one group of 5 consecutive normal clips", "0.12 %", "8.3 %"),
        ((1, 1), 0.05, "one normal clip", "5 %", "5 %"),
        ((1, 5), 0.3, "one group of 5 consecutive normal clips", "83 %", "100 %"),
        ((5, 5), 0.01, "one group of 5 consecutive normal clips", "less than 0.0001 %", "1 %"),
    ],
)
def test_the_rates_of_alarms_in_words(rule, rate, group, independent, at_most):
    text = verdicts.alarm_rates(AlarmRule(*rule), rate)
    assert f"{group} alarms by mistake in {independent} of cases if the clips are independent" in text
    assert f"in at most {at_most} whatever they have in common" in text


def test_table_of_verdicts(found):
    text = plain(verdicts.table(found))
    rows = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in text.splitlines()
        if "│" in line
    }
    assert rows["one.wav"] == ["1.25", "0.04", "anomaly", "the near one is silent; the far one clips"]
    assert rows["two.wav"] == ["0.5", "0.75", "normal", "ok"]
    assert rows["three.wav"] == ["-", "-", "unusable", "the file is empty, record it again"]
    assert rows["four.wav"] == ["2", "-", "-", "ok"]
    assert "4 recordings: 1 anomaly, 1 normal, 1 unusable, 1 without a decision" in text
    assert "1 recording: 1 anomaly" in plain(verdicts.table(found[:1]))
    assert "0 recordings" in plain(verdicts.table([]))


@pytest.mark.parametrize(
    ("names", "title", "rows"),
    [
        (["data/fan/a.wav", "data/fan/b.wav"], "data/fan/", ["a.wav", "b.wav"]),
        (["data/fan/a.wav", "data/pump/b.wav"], "data/", ["fan/a.wav", "pump/b.wav"]),
        (["/fan [old]/a.wav", "/fan [old]/b.wav"], "/fan [old]/", ["a.wav", "b.wav"]),
        (["/fan/a.wav", "/pump/b.wav"], "/", ["fan/a.wav", "pump/b.wav"]),
        (["/fan/a.wav", "b.wav"], "", ["/fan/a.wav", "b.wav"]),  # one absolute, one not
        (["fan/a.wav", "fan2/b.wav"], "", ["fan/a.wav", "fan2/b.wav"]),
        (["fan/a.wav"], "", ["fan/a.wav"]),
    ],
)
def test_a_common_folder_is_named_once(names, title, rows):
    text = plain(verdicts.table([Verdict(name, 1.0, 0.5, "normal") for name in names]))
    assert [line.split("│")[1].strip() for line in text.splitlines() if "│" in line] == rows
    assert text.splitlines()[0].strip().strip("┏━┳┓") == title


# tables


def test_table_of_systems():
    described = named.describe()
    text = " ".join(plain(catalogues.systems(described)).replace("│", " ").split())
    for d in described:
        assert d.name in text
        assert d.summary.split()[0] in text
        minutes = d.needs.minutes
        assert (f"{minutes / 60:.0f} hours" if minutes > 120 else f"{minutes:g} minutes") in text
        assert all(f"--preset {preset}" in text for preset in d.presets)


def test_table_of_published_data_sets():
    text = plain(catalogues.published(DATASETS))
    for name, module in DATASETS.items():
        assert name in text
        for machines in module.PUBLISHED.machines.values():
            assert all(machine in text for machine in machines)
    assert "by hand" in text
    assert "CC BY-NC-SA 4.0" in " ".join(text.split()) or "BY-NC-SA 4.0" in text


def a_detector(machine="fan", threshold=None, faults=None, left_out=()):
    return Detector(
        machine=machine,
        system=resolve(configuration.load("spectral"), seed=0),
        branches=(),
        threshold=threshold,
        usual=None,
        trained_on={
            "clips": 1000,
            "domains": {"source": 990, "target": 10},
            "rate": 16000,
            "channels": 2,
            "faults": faults or {},
            "left_out": left_out,
            "unlike": [],
            "taken": {},
        },
        sample=np.zeros((2, 16), np.float32),
    )


def text_of(detector):
    return " ".join(plain(fitted.detector(detector)).replace("│", " ").split())


def test_table_of_a_detector():
    threshold = Conformal.fit(np.arange(1000.0), false_alarm_rate=0.05)
    text = text_of(a_detector(threshold=threshold, faults={"near clipped": 3}))
    assert "Detector of 'fan'" in text
    assert "spectral: Log-mel band statistics" in text
    assert "1000 normal clips (990 source, 10 target) of 2 channels at 16000 Hz" in text
    assert (
        "anomaly if the score is above 950. The threshold comes from 1000 normal clips, each scored by"
        in text
    )
    assert (
        "By construction, 49 of these are above it, for the 5 % you ask. No p-value is below 0.001." in text
    )
    assert "near clipped in 3 clips" in text.split("warning")[1]
    assert (
        "would have been flagged" not in text
    )  # a detector of an older format does not know of which domain


def calibrated(how, *, n_source=190, n_target=10, above=(9, 1), groups=None):
    """A detector with a threshold of 1.5, of whose clips so many are above it."""
    scores = np.concatenate(
        [1.0 + (np.arange(n) < k) for n, k in zip((n_source, n_target), above, strict=True)]
    )
    domain = np.repeat(["source", "target"], [n_source, n_target])
    found = a_detector(threshold=Conformal.fit(scores, false_alarm_rate=0.05))
    found.threshold.value = 1.5
    found.calibration = Calibration.of(scores, domain, groups, how)
    return found


AT_RANDOM = {"by": "random", "fits": 10, "groups": {}, "random_in": {}}


def test_table_of_a_detector_tells_the_rate_of_each_domain():
    text = text_of(calibrated(AT_RANDOM))
    assert "unseen clips dealt at random to 10 fits" in text
    of_source = "of 190 unseen clips 9 would have been flagged (4.7 %; 95 % interval 2.2 to 8.8 %)."
    assert f"source {of_source} With 1000 such clips, the interval would be about 3.5 to 6.2 %" in text
    of_target = "of 10 unseen clips 1 would have been flagged (10 %; 95 % interval 0.3 to 44.5 %): "
    assert f"target {of_target}10 clips tell no rate below 10 %. With 100 such clips, the interval" in text
    assert "would be about 4.9 to 17.6 %" in text
    assert "holds for clips like these, of the same days and conditions." in text
    assert "nearfar calibrate DETECTOR NORMALS" in text
    assert "groups" not in text
    assert "at most" not in text.lower()


def test_table_of_a_detector_says_what_was_kept_together():
    how = {"by": "group", "fits": 4, "groups": {"source": 2}, "random_in": {"target": "no group is known"}}
    groups = ["day [b]1"] * 100 + ["day 2"] * 90 + [""] * 10
    text = text_of(calibrated(how, groups=groups))
    assert "kept together by group (2 of source), in 4 fits. At random in target: no group is known" in text
    assert (
        "groups the one that is flagged most, of 2: day [b]1, 9 of 100 clips (9 %; 95 % interval 4.2 to"
        in text
    )
    told = {**AT_RANDOM, "random_in": {"source": "only one group is known, 'day 1'"}}
    text = text_of(calibrated(told))
    assert (
        "dealt at random to 10 fits. Groups were not used in source: only one group is known, 'day 1'" in text
    )


def test_of_clips_that_tell_no_domain_the_words_are_about_all_clips():
    found = a_detector(threshold=Conformal.fit(np.arange(30.0), false_alarm_rate=0.05))
    found.trained_on |= {
        "clips": 30,
        "domains": {"undisclosed": 30},
        "channels": 1,
        "faults": {"near late": 1},
    }
    how = {"by": "group", "fits": 5, "groups": {"undisclosed": 5}, "random_in": {}}
    days = np.repeat([f"day {i}" for i in range(5)], 6)
    found.calibration = Calibration.of(np.arange(30.0), np.repeat("undisclosed", 30), days.tolist(), how)
    text = text_of(found)
    assert "undisclosed" not in text
    assert "30 normal clips of 1 channel at" in text
    assert "near late in 1 clip " in text
    assert "kept together by group (5 groups), in 5 fits" in text
    assert "groups none of the 5 has a clip above the threshold" in text
    # the threshold comes from these clips alone: of 100, it would leave four above it, as of 30 none
    assert "all clips of 30 unseen clips 0 would have been flagged (0 %; 95 % interval 0 to 11.6 %)" in text
    assert "With 100 such clips, the interval would be about 1.1 to 9.9 %" in text
    found.calibration = Calibration.of(
        np.arange(30.0),
        np.repeat("undisclosed", 30),
        None,
        {**AT_RANDOM, "random_in": {"undisclosed": "why"}},
    )
    assert "dealt at random to 10 fits. Groups were not used: why all clips" in text_of(found)


def test_a_cancellation_that_takes_nothing_is_told_as_such():
    found = a_detector(threshold=None)
    found.trained_on["taken"] = {"cancelled_3taps": {"below 1 kHz": 0.0, "above 4 kHz": 0.4}}
    text = text_of(found)
    assert "cancelled less than 0.5 dB in each band, on a median clip: near stays about as it is" in text
    assert "If your plant is quiet" not in text
    found.trained_on["taken"] = {"cancelled_3taps": {"below 1 kHz": 5.2, "above 4 kHz": 0.4}}
    assert (
        "cancelled near becomes quieter by 5 dB (below 1 kHz), 0 dB (above 4 kHz), on a median clip"
        in text_of(found)
    )


def test_one_clip_and_many_clips_tell_what_they_can():
    text = text_of(calibrated(AT_RANDOM, n_source=19999, n_target=1, above=(1000, 0)))
    assert "(5 %; 95 % interval 4.7 to 5.3 %) target" in text  # more clips would tell little
    assert (
        "of 1 unseen clip 0 would have been flagged (0 %; 95 % interval 0 to 97.5 %): 1 clip tells no" in text
    )


def test_table_of_a_detector_names_what_was_left_out():
    suspects = [{"clip": f"{i}.wav", "kind": "copy", "message": f"a copy of {i}0.wav"} for i in range(7)]
    text = plain(fitted.detector(a_detector(left_out=suspects)))
    assert "4.wav: a copy of 40.wav" in text
    assert "5.wav" not in text
    assert "7 clips in all: 7 copy" in text


def test_table_of_a_detector_without_threshold():
    text = plain(fitted.detector(a_detector()))
    assert "none: the detector has no threshold" in text
    assert "warning" not in text


def test_table_of_problems():
    one = pd.DataFrame({"where": ["[train]/a.wav"], "what": ["too, short"], "n": [3]})
    text = plain(recordings.problems(one))
    assert "1 problem" in text
    assert "[train]/a.wav" in text
    assert "3" in text
    assert "2 problems" in plain(recordings.problems(pd.concat([one, one])))
    assert "No problems." in plain(recordings.problems(one.iloc[:0]))


def test_names_of_problems_are_whole_on_a_narrow_terminal():
    where = f"fan/train/section_00_source_train_normal_{'x' * 40}_0007_speed_1.wav"
    console = Console(width=60, file=io.StringIO())
    console.print(recordings.problems(pd.DataFrame({"where": [where], "message": ["too short " * 9]})))
    cells = [line.split("│")[1].strip() for line in console.file.getvalue().splitlines() if "│" in line]
    assert "".join(cells) == where


@pytest.fixture
def measured():
    """Metrics of two machines with two seeds."""
    rows = [
        (1, "fan", 0, 0.8, 0.6, 0.5, 0.7),
        (1, "pump", 0, 0.9, 0.7, 0.55, 0.6),
        (2, "fan", 0, 0.82, 0.64, 0.51, 0.72),
        (2, "pump", 0, 0.94, 0.72, 0.6, 0.66),
    ]
    columns = ["seed", "machine", "section", "auc_source", "auc_target", "pauc", "f1"]
    return pd.DataFrame(rows, columns=columns)


def test_table_of_metrics(measured):
    one = measured[measured["seed"] == 1]
    text = plain(results.metrics(one, "spectral"))
    assert "spectral (percent)" in text
    fan = next(line for line in text.splitlines() if "fan" in line)
    assert [cell.strip() for cell in fan.split("│")[1:-1]] == ["fan", "80.00", "60.00", "50.00", "70.00"]
    assert f"Omega {100 * omega(one):.2f}" in text
    assert "±" not in text


def test_table_of_metrics_of_several_seeds(measured):
    text = plain(results.metrics(measured, "spectral"))
    assert "percent, mean of 2 seeds" in text
    fan = next(line for line in text.splitlines() if "fan" in line)
    assert [cell.strip() for cell in fan.split("│")[1:-1]] == ["fan", "81.00", "62.00", "50.50", "71.00"]
    of_seeds = [100 * omega(measured[measured["seed"] == seed]) for seed in (1, 2)]
    assert f"Omega {np.mean(of_seeds):.2f} ± {np.std(of_seeds, ddof=1):.2f}" in text


def test_table_of_metrics_of_several_sections(measured):
    sections = measured[measured["seed"] == 1].assign(machine="fan", section=[0, 3])
    text = plain(results.metrics(sections, "spectral"))
    assert "fan 00" in text
    assert "fan 03" in text


def test_table_of_metrics_without_domains(measured):
    one = measured[measured["seed"] == 1].rename(columns={"auc_source": "auc"}).drop(columns="auc_target")
    text = plain(results.metrics(one, "own"))
    assert "AUC source" not in text
    assert f"Omega {100 * omega(one):.2f}" in text


def test_table_of_metrics_of_machines_with_and_without_domains(measured):
    one = measured[measured["seed"] == 1].copy()
    one.loc[one["machine"] == "pump", ["auc_source", "auc_target"]] = np.nan
    one["auc"] = [np.nan, 0.75]
    assert "75.00" in plain(results.metrics(one, "own"))


@pytest.mark.parametrize("machine", ["fan [old]", "[bold]fan[/]", "[/]"])
def test_names_of_machines_are_no_markup(measured, machine):
    assert machine in plain(results.metrics(measured.assign(machine=machine), "spectral"))
    assert machine in plain(fitted.detector(a_detector(machine)))
    assert machine in plain(results.result(a_result(measured.iloc[:0], machine)))


def a_result(metrics, machine="fan"):
    scores = pd.DataFrame({"machine": [machine] * 4, "key": ["a", "b", "a", "b"], "seed": [1, 1, 2, 2]})
    of_clips = {"training_clips": 4, "test_clips": 2, "training_digest": "a", "test_digest": "b"}
    run = RunRecord.model_validate(
        {
            "system": {"name": "spectral"}, "seeds": [1, 2], "data": {"name": "x", "machines": {machine: of_clips}},
            "sample_rate": 16000, "parameters": {machine: 0}, "versions": {},
            "protocol": {"name": "none", "selected_on": "nothing at all"},
        }
    )  # fmt: skip
    return Result(Path("results"), scores, metrics, run, pd.DataFrame())


def test_table_of_a_result_says_what_was_selected_and_where_it_is(measured):
    text = plain(results.result(a_result(measured)))
    assert "81.00" in text
    assert "Selected on nothing at all." in text
    assert "results/scores.csv" in text


def test_table_of_a_result_without_labels_counts_clips(measured):
    text = plain(results.result(a_result(measured.iloc[:0])))
    fan = next(line for line in text.splitlines() if "fan" in line)
    assert [cell.strip() for cell in fan.split("│")[1:-1]] == ["fan", "2"]
    assert "no metrics" in " ".join(text.split())


@pytest.mark.parametrize("decided", [False, True])
def test_official_evaluation(measured, decided):
    one = measured[measured["seed"] == 1].drop(columns="seed").set_index(["machine", "section"])
    found = Evaluation(one.drop(columns="f1"), one[["f1"]] if decided else None)
    text = plain(results.evaluation(found))
    assert "Official metrics (percent)" in text
    assert "55.00" in text
    assert ("F1" in text) == decided
    said = json.loads(results.evaluation_json(found))
    assert said["omega"] == omega(one)
    expected = one if decided else one.drop(columns="f1")
    pd.testing.assert_frame_equal(
        pd.DataFrame(said["sections"]).set_index(["machine", "section"]), expected, check_exact=True
    )


def test_a_fusion_is_never_shown_without_its_scope():
    folds = CROSS_FITTED.folds(["fan", "[b]pump"])
    index = pd.MultiIndex.from_tuples([("[b]pump", 0), ("fan", 0)], names=["machine", "section"])
    measured = pd.DataFrame({"auc_source": [0.6, 0.7], "auc_target": 0.5, "pauc": 0.52}, index=index)
    chosen = [
        {"weights": {"ae": 0.3, "ced": 0.7}, "candidate": "k=8"},
        {"weights": {"ae": 1.0}, "candidate": "k=5"},
    ]
    selections = tuple(Selection(f, c) for f, c in zip(folds, chosen, strict=True))
    found = Finding(measured, CROSS_FITTED, scope_of(("weights",), folds), selections, pd.Series(dtype=float))
    text = plain(results.fusion(found))
    assert re.search(r"fan\W+70.00\W+50.00\W+52.00\W+0.3\W+0.7\W+k=8", text)
    assert re.search(r"\[b\]pump\W+60.00\W+50.00\W+52.00\W+1\W+0\W+k=5", text)
    assert f"Omega {100 * omega(measured):.2f}: weights selected on 1 other machine for each of 2" in text
    assert "Protocol: cross-fitted, leave one machine out; selected on the other" in " ".join(text.split())
