"""Long recordings in a fit: cut into windows that stay together, equal to the same windows as files."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import quick
import synthetic
from naive_windows import window_samples, windows
from rich.console import Console
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.decisions import folds
from nearfar.decisions.alerts import AlertRule
from nearfar.decisions.dependence import Dependence
from nearfar.detector import fitting
from nearfar.detector.fitted import Detector, Verdict
from nearfar.detector.time_order import dependence_of
from nearfar.files.steps import Jobs
from nearfar.listening.scoring import listen
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, Dataset, DatasetError, Machine
from nearfar.recordings.inspection.faults import RecordingFault
from nearfar.recordings.inspection.training import look
from nearfar.recordings.recording import Recording, Span, digests, fingerprints
from nearfar.report import fitted as report
from nearfar.research import adaptation
from nearfar.systems import configuration
from nearfar.systems.fusion import load_any
from nearfar.windows.cutting import Cut
from nearfar.windows.long_recordings import STRETCHES, Cutting, cut_dataset, cut_if, cut_long

RATE = synthetic.RATE


def long_recording(path: Path, seed: int, seconds: float, *, rate: int = RATE) -> Path:
    """Seconds of a machine that differ from each other, as those of a real one do."""
    samples = np.concatenate([synthetic.clip(1000 * seed + k) for k in range(int(np.ceil(seconds)))], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, samples[:, : round(seconds * rate)], rate)
    return path


def silent(path: Path, seconds: float, *, rate: int = 100) -> Path:
    """A recording of which only the header counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, np.zeros((1, round(seconds * rate)), np.float32), rate)
    return path


def clip(path: Path, **known: str) -> Clip:
    return Clip(path, "press", 0, "train", path.name, label="normal", **known)  # type: ignore[arg-type]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "cache")


# which recordings are cut


def test_clips_of_a_challenge_stay_as_they_are(tmp_path):
    clips = [clip(silent(tmp_path / f"{s}.wav", s)) for s in (6, 10, 12, 18, 30)]
    assert cut_long(clips) == (tuple(clips), None)
    assert cut_long(clips, None) == (tuple(clips), None)


def test_recordings_longer_than_30_s_are_cut_into_windows_of_10_s(tmp_path):
    clips = [clip(silent(tmp_path / "a.wav", 95)), clip(silent(tmp_path / "b.wav", 30.01))]
    found, cutting = cut_long(clips)
    assert str(cutting) == "2 recordings of 30 s to 95 s: 13 windows of 10 s"
    assert [c.name for c in found if c.path == clips[1].path] == [
        "b.wav#t=0,10", "b.wav#t=10,20", "b.wav#t=20,30",
    ]  # fmt: skip
    assert [(c.span.start, c.span.stop) for c in found if c.path == clips[0].path] == windows(
        9500, 1000, 1000
    )
    assert cutting == Cutting(Cut.of(10), (95.0, 30.01), 13, cutting.stretches)
    told = json.loads(json.dumps(cutting.describe()))
    assert str(Cutting.restore(told)) == str(cutting)


def test_windows_are_as_long_as_the_clips_where_most_are_clips(tmp_path):
    clips = [clip(silent(tmp_path / f"{n}.wav", 6)) for n in range(3)] + [
        clip(silent(tmp_path / "a.wav", 60))
    ]
    found, cutting = cut_long(clips)
    assert str(cutting) == "1 recording of 60 s: 10 windows of 6 s"
    assert found[:3] == tuple(clips[:3])
    rest_of_a_recorder = [
        clip(silent(tmp_path / "b.wav", 60)),
        clip(silent(tmp_path / "c.wav", 90)),
        clips[0],
    ]
    assert str(cut_long(rest_of_a_recorder)[1]) == "2 recordings of 60 s to 90 s: 15 windows of 10 s"


def test_a_cut_that_is_asked_for(tmp_path):
    clips = [clip(silent(tmp_path / "a.wav", 12)), clip(silent(tmp_path / "b.wav", 4.8))]
    found, cutting = cut_long(clips, Cut(4, 2))
    assert str(cutting) == "1 recording of 12 s: 3 windows of 4 s, one every 2 s"  # of three stretches
    assert found[-1] == clips[1]  # as long as a window, by and large
    assert cut_long(clips, Cut.of(10)) == (tuple(clips), None)
    assert len(cut_if(clips, Cut.of(10), lambda seconds: seconds > 11)[0]) == 3


def test_what_cannot_be_read_stays_for_others_to_tell(tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    clips = [clip(silent(tmp_path / "a.wav", 60)), clip(broken), clip(tmp_path / "missing.wav")]
    found, _ = cut_long(clips)
    assert found[-2:] == tuple(clips[1:])


def test_parts_that_are_given_are_not_cut_again(tmp_path):
    whole = clip(silent(tmp_path / "a.wav", 200))
    part = whole.part(Span(0, 10_000, 100))
    assert cut_long([part]) == ((part,), None)
    found, cutting = cut_long([part, whole])
    assert (found[0], cutting.windows) == (part, 20)


def test_another_word_is_refused():
    with pytest.raises(
        ValueError, match=r"cut='short': must be a Cut, such as Cut.of\(10\), or 'long', or None"
    ):
        cut_long([], "short")  # type: ignore[arg-type]


# what stays together


def groups(found: tuple[Clip, ...]) -> dict[str, list[str]]:
    """The recordings of which each group has windows."""
    names: dict[str, list[str]] = {}
    for one in found:
        names.setdefault(one.group, [])
        if one.path.name not in names[one.group]:
            names[one.group].append(one.path.name)
    return names


def test_each_recording_is_a_group(tmp_path):
    clips = [clip(silent(tmp_path / f"{n}.wav", 60)) for n in "ab"]
    found, cutting = cut_long(clips)
    assert groups(found) == {"recording a.wav": ["a.wav"], "recording b.wav": ["b.wav"]}
    assert cutting.stretches == {}


def test_a_known_group_stays(tmp_path):
    clips = [
        clip(silent(tmp_path / f"{day}{n}.wav", 60), group=f"day {day}") for day in (1, 2) for n in range(2)
    ]
    found, _ = cut_long(clips)
    assert groups(found) == {"day 1": ["10.wav", "11.wav"], "day 2": ["20.wav", "21.wav"]}


def test_a_group_that_has_all_clips_of_a_domain_is_divided_into_its_recordings(tmp_path):
    clips = [clip(silent(tmp_path / f"{n}.wav", 60), group="day 1", domain="source") for n in range(2)]
    clips += [clip(silent(tmp_path / f"t{n}.wav", 60), group=f"day {n}", domain="target") for n in range(2)]
    found, cutting = cut_long(clips)
    assert groups(found) == {
        "recording 0.wav": ["0.wav"], "recording 1.wav": ["1.wav"], "day 0": ["t0.wav"], "day 1": ["t1.wav"],
    }  # fmt: skip
    assert cutting.stretches == {}


@pytest.mark.parametrize("others", [0, 3])
def test_a_recording_that_has_nearly_all_clips_is_divided_into_stretches(tmp_path, others):
    clips = [clip(silent(tmp_path / f"short{n}.wav", 10), domain="target") for n in range(others)]
    clips += [clip(silent(tmp_path / "a.wav", 605), domain="target"), clip(silent(tmp_path / "b.wav", 60)),
              clip(silent(tmp_path / "c.wav", 60))]  # fmt: skip
    found, cutting = cut_long(clips, Cut.of(10))
    assert cutting.stretches == {"target": "a.wav"}
    of_a = [one for one in found if one.path.name == "a.wav"]
    names = list(dict.fromkeys(one.group for one in of_a))
    assert names == [f"recording a.wav, part {k + 1} of {STRETCHES}" for k in range(STRETCHES)]
    assert [sum(one.group == name for one in of_a) for name in names] == [6] * 9 + [7]
    assert [(o.span.start, o.span.stop) for o in of_a] == windows(60_500, 1000, 1000)


def test_stretches_share_no_sound_although_windows_overlap(tmp_path):
    found, cutting = cut_long([clip(silent(tmp_path / "a.wav", 333))], Cut(10, 2.5))
    stretches = {}
    for one in found:
        start, stop = stretches.get(one.group, (one.span.start, one.span.stop))
        stretches[one.group] = (min(start, one.span.start), max(stop, one.span.stop))
    bounds = sorted(stretches.values())
    assert len(bounds) == STRETCHES
    assert (bounds[0][0], bounds[-1][1]) == (0, 33_300)
    assert all(one[1] == after[0] for one, after in pairwise(bounds))
    assert cutting.windows == len(found)


def test_a_short_recording_has_as_many_stretches_as_windows(tmp_path):
    found, _ = cut_long([clip(silent(tmp_path / "a.wav", 45))])
    assert [(one.span.begins, one.group[-6:]) for one in found] == [
        (0, "1 of 4"), (10, "2 of 4"), (20, "3 of 4"), (30, "4 of 4"), (35, "4 of 4"),
    ]  # fmt: skip


# contents of parts


def test_digests_tell_parts_apart_and_fingerprints_do_not(tmp_path):
    path = silent(tmp_path / "a.wav", 60)
    parts = [Recording((path,), span=span) for span in Cut.of(10).spans(6000, 100)]
    shas = digests([Recording((path,)), *parts], None)
    assert len({*shas}) == 7
    assert len({*fingerprints([Recording((path,)), *parts])}) == 1
    assert digests([Recording((path,), (1,), parts[0].span)], None)[0] not in shas


# fits


def machine(folder: Path, seconds: float = 12.0, recordings: int = 3) -> Machine:
    for n in range(recordings):
        long_recording(folder / "press" / f"{n}.wav", n, seconds)
    return datasets.load_machine(folder / "press")


def windows_as_files(clips: tuple[Clip, ...], folder: Path) -> tuple[Clip, ...]:
    """Each window in a file of its own, of the same group; named so that they keep their order."""
    folder.mkdir()
    found = []
    for number, one in enumerate(clips):
        path = folder / f"{number:04}.wav"
        audio.write(path, window_samples(one.path, one.span.start, one.span.stop), one.span.rate)
        found.append(replace(one, path=path, name=path.name, span=None))
    return tuple(found)


@pytest.mark.parametrize(("system", "cut"), [
    ("spectral", Cut.of(1)), ("spectral", Cut(1, 0.5)), ("spectral_near", Cut.of(1)), ("baseline_mse", Cut.of(1)),
])  # fmt: skip
def test_a_fit_to_recordings_is_a_fit_to_their_windows_as_files(tmp_path, jobs, system, cut):
    press = machine(tmp_path)
    clips, _ = cut_long(press.train, cut)
    files = replace(press, clips=windows_as_files(clips, tmp_path / "files"))
    if system == "baseline_mse":
        pytest.importorskip("torch", reason="needs the extra torch")
    chosen = load_any(system, quick.settings(system))
    detectors = [
        Detector.fit(one, chosen, cut=how, false_alarm_rate=0.1, jobs=jobs)
        for one, how in ((press, cut), (files, None))
    ]
    one, other = (d.threshold.normal_scores for d in detectors)
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert detectors[0].calibration.how == detectors[1].calibration.how
    later = long_recording(tmp_path / "later.wav", 9, 5)
    span = Span(RATE, 2 * RATE, RATE)
    scores = [d.score(Recording((later,), span=span)).score for d in detectors]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-12)


@pytest.fixture(scope="module")
def press(tmp_path_factory) -> Machine:
    return machine(tmp_path_factory.mktemp("plant"))


@pytest.fixture(scope="module")
def detector(press, tmp_path_factory) -> Detector:
    return Detector.fit(press, "spectral", cut=Cut.of(1), jobs=Jobs(tmp_path_factory.mktemp("cache")))


def test_no_fit_scores_windows_of_a_recording_that_it_has_heard(press, jobs, monkeypatch):
    pairs = []

    def remembered(*args, **options):
        found = folds.deal(*args, **options)
        pairs.extend((found.by, set(map(int, a)), set(map(int, b))) for a, b in found.pairs)
        return found

    monkeypatch.setattr(fitting, "deal", remembered)
    Detector.fit(press, "spectral", cut=Cut.of(1), jobs=jobs)
    of = [n // 12 for n in range(36)]  # 12 windows a recording
    assert len(pairs) == 3
    for by, rest, held_out in pairs:
        assert by == "group"
        assert {of[i] for i in rest}.isdisjoint(of[i] for i in held_out)


def test_no_more_than_a_window_is_in_memory(press, jobs, monkeypatch):
    longest = []
    read = audio.read_recorded

    def measured(recording):
        longest.append(read(recording).samples.shape[1])
        return read(recording)

    monkeypatch.setattr(audio, "read_recorded", measured)
    Detector.fit(press, "spectral", cut=Cut.of(1), jobs=jobs)
    assert len(longest) >= 72  # inspected, and heard
    assert max(longest) == RATE


def test_what_a_detector_knows_of_its_windows(detector, tmp_path):
    assert detector.window_seconds == 1.0
    assert detector.cut == Cut.of(1)
    assert not detector.is_long(1.01)
    assert detector.is_long(1.02)
    assert len(detector.seen) == 3
    detector.save(tmp_path / "detector")
    again = Detector.load(tmp_path / "detector")
    assert again.cut == detector.cut
    told = again.trained_on["recordings"]
    assert str(Cutting.restore(told)) == "3 recordings of 12 s: 36 windows of 1 s"


def test_a_detector_that_does_not_know_its_window(detector):
    older = {name: value for name, value in detector.trained_on.items() if name != "window_seconds"}
    usual = replace(detector.usual, seconds=np.array([6.0, 12.0]))
    assert replace(detector, trained_on=older, usual=usual).window_seconds == 9.0
    assert replace(detector, trained_on=older, usual=None).window_seconds == 10.0
    assert replace(detector, usual=usual).is_long(12.2)
    assert not replace(detector, usual=usual).is_long(12.1)


def test_a_long_recording_has_one_verdict_that_says_so(detector, press):
    verdict = detector.score_file(press.clips[0].path)
    (fault,) = (fault for fault in verdict.faults if fault.kind == "long")
    assert "12 s long, but the training clips are 1 s: this is one score for all of it" in fault.message
    assert "`nearfar score` gives a score for each window" in fault.message
    assert verdict.decision != "unusable"


def test_a_file_that_is_given_twice_is_a_copy_and_windows_of_one_are_none(tmp_path, jobs):
    press = machine(tmp_path, seconds=8, recordings=2)
    second = tmp_path / "press" / "copy of 0.wav"
    second.write_bytes((tmp_path / "press" / "0.wav").read_bytes())
    doubled = datasets.load_machine(tmp_path / "press")
    found = Detector.fit(doubled, "spectral", cut=Cut.of(1), false_alarm_rate=0.1, jobs=jobs)
    assert [one["kind"] for one in found.trained_on["left_out"]] == ["copy"] * 8
    assert found.trained_on["left_out"][0]["message"] == "a copy of 0.wav#t=0,1"
    assert found.trained_on["clips"] == 16
    assert len(press.train) == 2


def test_a_recording_that_repeats_itself_is_no_copy_of_itself(tmp_path):
    (tmp_path / "press").mkdir()
    for n in range(2):
        audio.write(tmp_path / "press" / f"{n}.wav", np.tile(synthetic.clip(n), 6), RATE)
    press = datasets.load_machine(tmp_path / "press")
    clips, _ = cut_long(press.train, Cut.of(1))
    assert look(replace(press, clips=clips)).left_out == ()
    files = windows_as_files(clips, tmp_path / "files")
    assert Counter(one.kind for one in look(replace(press, clips=files)).left_out) == {"copy": 10}


def test_one_recording_is_told(tmp_path, jobs, caplog):
    long_recording(tmp_path / "press" / "a.wav", 0, 24)
    with caplog.at_level(logging.WARNING):
        found = Detector.fit(tmp_path / "press", "spectral", cut=Cut.of(1), jobs=jobs)
    assert "nearly all clips are of one recording, a.wav. Stretches of it are kept together" in caplog.text
    assert found.calibration.how["by"] == "group"
    assert found.trained_on["recordings"]["one_recording"] == {"": "a.wav"}
    assert found.calibration.how["fits"] == 10


def test_a_window_that_no_recording_exceeds_is_told(press, jobs, caplog):
    with caplog.at_level(logging.WARNING):
        clips = replace(press, clips=tuple(c.part(Span(k * RATE, (k + 1) * RATE, RATE)) for c in press.clips
                                           for k in range(8)))  # fmt: skip
        Detector.fit(clips, "spectral", cut=Cut.of(1), jobs=jobs)
    assert "press: no recording is clearly longer than a window of 1 s, so none is cut" in caplog.text


def test_a_protocol_takes_recordings_as_they_are_and_says_so(tmp_path, jobs, caplog):
    for n in range(4):
        long_recording(tmp_path / "press" / f"{n}.wav", n, 31)
    with caplog.at_level(logging.WARNING):
        found = Detector.fit(tmp_path / "press", "spectral", cut=None, false_alarm_rate=0.2, jobs=jobs)
    assert found.trained_on["clips"] == 4
    assert "press: training clips of up to 31 s. Each has one score here" in caplog.text


# thresholds from later recordings


def test_a_calibration_takes_long_recordings(detector, tmp_path, press):
    later = [long_recording(tmp_path / f"later {n}.wav", 20 + n, 12) for n in range(2)]
    found = detector.calibrate(later)
    assert len(found.threshold.normal_scores) == 24
    assert {*found.calibration.group.tolist()} == {f"recording {path}" for path in later}
    assert (
        str(Cutting.restore(found.calibrated_on["recordings"])) == "2 recordings of 12 s: 24 windows of 1 s"
    )
    by_hand = [
        detector.score(Recording((path,), span=span)).score
        for path in later
        for span in Cut.of(1).spans(12 * RATE, RATE)
    ]
    np.testing.assert_array_equal(found.threshold.normal_scores, np.sort(by_hand))
    again = detector.calibrate([*later, later[0]])
    assert len(again.threshold.normal_scores) == 24
    assert [one["kind"] for one in again.calibrated_on["left_out"]] == ["copy"] * 12
    assert again.calibrated_on["digest"] == found.calibrated_on["digest"]
    with pytest.raises(DatasetError, match="1 recording known to the fit"):
        detector.calibrate([press.clips[0].path])


def test_an_adapter_is_trained_on_windows(tmp_path, jobs, monkeypatch):
    for n in range(2):
        long_recording(tmp_path / "press" / f"{n}.wav", n, 31)
    trained_on = []

    def remembered(task, _progress):
        trained_on.extend(one for machine in task.machines for one in machine.train)
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptation, "_train", remembered)
    system = load_any("dualmic", quick.settings("dualmic"))
    with pytest.raises(KeyboardInterrupt, match=r"^$"):  # the training itself is tested elsewhere
        adaptation.train(system, [datasets.load_machine(tmp_path / "press")], seed=0, jobs=jobs)
    assert [one.name for one in trained_on[:4]] == [
        "0.wav#t=0,10",
        "0.wav#t=10,20",
        "0.wav#t=20,30",
        "0.wav#t=21,31",
    ]


# the command line


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], terminal_width=200)
    assert done.exit_code == code, done.output
    return " ".join(done.output.replace("│", " ").split())


def test_fit_and_calibrate_say_what_they_cut(press, tmp_path):
    folder, into = press.clips[0].path.parent, tmp_path / "detector"
    cache = ("--cache", tmp_path / "cache")
    said = run("fit", folder, "-o", into, "--system", "spectral", "--window", "1", "--hop", "0.5s", *cache)
    assert "cut 3 recordings of 12 s: 69 windows of 1 s, one every 0.5 s" in said
    assert f"Next: `nearfar score {into} RECORDINGS --events`" in said
    later = long_recording(tmp_path / "later.wav", 30, 30)
    said = run("calibrate", into, later, "-o", tmp_path / "calibrated")
    assert "calibrated on 50 normal clips" in said  # no window is of two of the ten stretches
    assert "cut 1 recording of 30 s: 50 windows of 1 s, one every 0.5 s" in said
    assert "Stretches of it are kept together, but all are of one session: give recordings of several" in said


@pytest.mark.parametrize(("options", "match"), [
    (("--window", "0"), "--window=0: must be a time above 0 s"),
    (("--window", "ten"), "--window='ten': no time"),
    (("--hop", "11"), r"--hop=11: must be above 0 s, and at most the window (10 s)"),
    (("--window", "1", "--hop", "x"), "--hop='x': no time"),
])  # fmt: skip
def test_times_that_are_none_are_refused_before_the_work(press, tmp_path, options, match):
    said = run("fit", press.clips[0].path.parent, "-o", tmp_path / "d", *options, code=2)
    assert match in said


def test_check_looks_at_windows(tmp_path):
    for n in range(2):
        long_recording(tmp_path / "press" / "train" / f"{n}.wav", n, 40)
    samples = audio.read(tmp_path / "press" / "train" / "1.wav")[0].copy()
    samples[1, 20 * RATE : 30 * RATE] = 0
    audio.write(tmp_path / "press" / "train" / "1.wav", samples, RATE)
    said = run("check", tmp_path / "press", code=1)
    assert "press: 2 recordings of 40 s: 8 windows of 10 s" in said
    assert "dead" in said
    assert "1.wav#t=20,30" in said


def test_long_test_recordings_are_cut_as_the_training_clips_are(tmp_path):
    train = tuple(clip(silent(tmp_path / f"{n}.wav", 8)) for n in range(4))
    test = replace(clip(silent(tmp_path / "test.wav", 80)), split="test")
    dataset, cuttings = cut_dataset(Dataset("plant", tmp_path, (Machine("press", (*train, test)),)))
    assert (len(dataset["press"].train), len(dataset["press"].test)) == (4, 10)
    assert str(cuttings["press"]) == "1 recording of 80 s: 10 windows of 8 s"


# alerts


def test_a_fit_measures_how_dependent_windows_are_and_a_detector_keeps_it(tmp_path, jobs, monkeypatch):
    monkeypatch.setattr("nearfar.decisions.dependence.FEWEST_WINDOWS", 60)
    for day in range(3):
        long_recording(tmp_path / "press" / f"day{day}.wav", day, 25)
    one_second = Cut.of(1)
    detector = Detector.fit(tmp_path / "press", "spectral_near", cut=one_second, jobs=jobs)
    unseen = detector.unseen
    ordered = [unseen[key] for key in sorted(unseen, key=lambda key: (key.split("#")[0], _start(key)))]
    expected = Dependence.measure(np.array(ordered), np.repeat(range(3), 25), window_s=1, hop_s=1)
    assert detector.dependence == expected
    assert expected.windows == 75
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert loaded.dependence == expected
    alerts = loaded.alerts("1 per day")
    assert alerts.rule == AlertRule(86400, 1, 1)
    assert alerts.dependence == expected
    assert loaded.alerts(3600.0, cut=Cut(1, 0.5)).dependence is None
    told = _plain(report.detector(loaded))
    assert 'With nearfar score --false-alerts "1 per 30 days": Promised: if windows are' in told
    assert "exchangeable with the 75 normal ones" in told
    assert "Measured on 1.25 min of normal windows in order of time" in told
    assert "Windows of one recording are alike" in told


def test_a_verdict_says_whether_the_machine_runs():
    ran = Verdict("a.wav", 1.5, 0.2, "normal")
    off = RecordingFault("not_running", "near", "the machine seems not to run")
    assert ran.is_running
    assert replace(ran, faults=(RecordingFault("clipped", "near", "it clips"),)).is_running
    assert not replace(ran, faults=(RecordingFault("clipped", "near", "it clips"), off)).is_running


def test_the_minute_after_windows_that_are_missing_does_not_count():
    """Windows of 10 s of three recordings; of the second, those from 200 to 230 s were left out."""
    rng = np.random.default_rng(0)
    clips = [
        replace(clip(Path(f"{name}.wav")), span=Span(10 * k, 10 * k + 10, 1), group=name)
        for name in "abc"
        for k in range(150)
        if name != "b" or not 20 <= k < 23
    ]
    scores = rng.normal(size=len(clips))
    expected = scores.copy()
    expected[150 + 20 : 150 + 26] = np.nan
    groups = np.array([one.group for one in clips])
    cutting = Cutting(Cut.of(10), (1500.0,) * 3, 450)
    assert dependence_of(clips[::-1], scores[::-1], cutting) == Dependence.measure(
        expected, groups, window_s=10, hop_s=10
    )
    assert dependence_of(clips, scores, None) is None


def _start(key):
    return float(key.split("t=")[1].split(",")[0])


def _plain(table):
    console = Console(width=2000, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_detector_cuts_as_its_fit_did(tmp_path, jobs):
    for day in range(3):
        long_recording(tmp_path / "press" / f"day{day}.wav", day, 20)
    detector = Detector.fit(tmp_path / "press", "spectral_near", cut=Cut(1, 0.5), jobs=jobs)
    assert detector.cut == Cut(1, 0.5)
    assert len(list(listen(detector, tmp_path / "press" / "day0.wav"))) == 39


def test_a_detector_without_threshold_has_no_alerts(tmp_path, jobs):
    long_recording(tmp_path / "press" / "a.wav", 0, 40)
    system = configuration.load("spectral_near", {"threshold.method": "none"})
    detector = Detector.fit(tmp_path / "press", system, cut=Cut.of(1), jobs=jobs)
    assert detector.dependence is None
    with pytest.raises(
        ValueError, match="fitted without a threshold, so it has no scores of normal clips to bet on"
    ):
        detector.alerts("1 per day")
