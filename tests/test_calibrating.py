"""Calibration: the threshold of a fitted detector, from normal recordings that the fit never saw."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner, Result

from nearfar.cli import app
from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import Conformal
from nearfar.detector import calibrating
from nearfar.detector.fitted import Detector, Verdict
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import DatasetError
from nearfar.recordings.inspection.faults import RecordingFault
from nearfar.recordings.recording import Recording
from nearfar.report import fitted as report
from nearfar.systems import configuration

N = 24  # recordings of the later session


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan")


@pytest.fixture(scope="module")
def fitted(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector.fit(fan, jobs=Jobs(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal recordings of another day, at another speed, so that the detector finds them unusual."""
    folder = tmp_path_factory.mktemp("later")
    for number in range(N):
        samples = clip(77_000 + number, speed=1.05 + 0.01 * (number % 5))
        audio.write(folder / f"{number:02}.wav", samples, RATE)
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})


def plain(detector: Detector) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.calibrated(detector))
    return " ".join(console.export_text().replace("│", " ").split())


def with_copies(later: Path, place: Path, *, of: Sequence[int]) -> Path:
    folder = shutil.copytree(later, place)
    for number in of:
        shutil.copy(folder / f"{number:02}.wav", folder / f"{number:02} copy.wav")
    return folder


def test_the_threshold_comes_from_the_new_recordings_alone(fitted: Detector, later: Path) -> None:
    made = fitted.calibrate(later)
    scores = [fitted.score_file(path).score for path in sorted(later.iterdir())]
    expected = Conformal.fit(np.array(scores), false_alarm_rate=0.05)
    assert made.threshold is not None
    assert made.threshold.normal_scores.tolist() == sorted(scores)
    assert made.threshold.value == expected.value
    assert sum(v.decision == "anomaly" for v in made.score_files(sorted(later.iterdir()))) == 0
    assert made.branches is fitted.branches


def test_it_says_what_the_old_threshold_would_have_flagged(fitted: Detector, later: Path) -> None:
    made = fitted.calibrate(later)
    assert made.calibrated_on is not None
    assert fitted.threshold is not None
    flagged = sum(v.decision == "anomaly" for v in fitted.score_files(sorted(later.iterdir())))
    assert flagged > 0.5 * N  # it needs the calibration
    before = made.calibrated_on["before"]
    assert before["flagged"] == flagged
    assert before["value"] == fitted.threshold.value
    text = plain(made)
    assert f"Of the new recordings it would have flagged {FlaggedShare(flagged, N)}" in text
    assert "from 28 clips of the fit, 5 % asked" in text
    again = made.calibrate(later, false_alarm_rate=0.1)
    assert f"from {N} clips of the last calibration, 5 % asked" in plain(again)
    assert "By construction, 1 of them are above it, for the 10 % you ask" in plain(again)


def test_a_calibrated_detector_is_saved_and_scores_as_it_did(
    fitted: Detector, later: Path, fan: Path, tmp_path: Path
) -> None:
    made = fitted.calibrate(later)
    made.save(tmp_path / "calibrated")
    loaded = Detector.load(tmp_path / "calibrated")
    assert loaded.calibrated_on == made.calibrated_on
    assert loaded.describe_threshold() == made.describe_threshold()
    assert loaded.seen.tolist() == fitted.seen.tolist()
    clips = sorted((fan / "test").iterdir())
    assert list(loaded.score_files(clips)) == list(made.score_files(clips))
    assert [v.score for v in loaded.score_files(clips)] == [v.score for v in fitted.score_files(clips)]
    with pytest.raises(DatasetError, match="1 recording known to the fit"):
        loaded.calibrate([next((fan / "train").iterdir())])


def test_another_rate_later_takes_the_new_scores(fitted: Detector, later: Path) -> None:
    made = fitted.calibrate(later).with_false_alarm_rate(0.5)
    expected = fitted.calibrate(later, false_alarm_rate=0.5).threshold
    assert made.threshold is not None
    assert expected is not None
    assert made.threshold.value == expected.value
    with pytest.raises(ValueError, match=r"false_alarm_rate=0.01: 24 normal recordings .* give 99 or more"):
        made.with_false_alarm_rate(0.01)


def test_training_clips_are_refused_wherever_they_lie(
    fitted: Detector, fan: Path, later: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(later, tmp_path / "later")
    shutil.copy(sorted((fan / "train").iterdir())[0], folder / "renamed.wav")
    with pytest.raises(
        DatasetError, match=r"1 recording known to the fit(.|\n)*renamed.wav: among the training clips"
    ):
        fitted.calibrate(folder)


def test_copies_count_once(fitted: Detector, later: Path, tmp_path: Path) -> None:
    folder = with_copies(later, tmp_path / "later", of=(3, 5))
    made, expected = fitted.calibrate(folder), fitted.calibrate(later)
    assert made.describe_threshold() == expected.describe_threshold()
    assert made.calibrated_on is not None
    assert expected.calibrated_on is not None
    assert made.calibrated_on["digest"] == expected.calibrated_on["digest"]
    assert [one["kind"] for one in made.calibrated_on["left_out"]] == ["copy", "copy"]
    assert "03.wav: a copy of" in plain(made)


def test_what_cannot_be_used_is_left_out_and_named(fitted: Detector, later: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(later, tmp_path / "later")
    (folder / "empty.wav").write_bytes(b"")
    dead = clip(1)
    dead[1] = 0
    audio.write(folder / "dead.wav", dead, RATE)
    made = fitted.calibrate(folder)
    assert made.threshold is not None
    assert len(made.threshold.normal_scores) == N
    assert made.calibrated_on is not None
    left_out = {Path(one["clip"]).name: one["message"] for one in made.calibrated_on["left_out"]}
    assert sorted(left_out) == ["dead.wav", "empty.wav"]
    assert "the file is empty" in left_out["empty.wav"]


def test_a_machine_that_does_not_run_is_left_out(later: Path) -> None:
    """Its score is above all others: a few stops would raise the threshold above most faults."""
    clips = datasets.load_normals([later])
    off = RecordingFault("not_running", "near", "the machine seems not to run")
    clipped = RecordingFault("clipped", "near", "it clips")

    def score(recordings: Sequence[Recording]) -> list[Verdict]:
        faults = {1: (clipped,), 2: (clipped, off)}
        return [Verdict(str(r), float(i), 0.5, "normal", faults.get(i, ())) for i, r in enumerate(recordings)]

    found = calibrating.score_normals(clips, score, seen=np.empty(0, dtype=np.uint64))
    assert [one["kind"] for one in found.left_out] == ["not_running"]
    assert found.left_out[0]["clip"].endswith(clips[2].path.name)
    np.testing.assert_array_equal(found.scores, [0, 1, *range(3, len(clips))])


def test_too_few_recordings_say_how_many_it_takes(fitted: Detector, later: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    few = [*sorted(later.iterdir())[:7], tmp_path / "empty.wav"]
    with pytest.raises(
        ValueError,
        match=r"7 normal recordings that can be used attain no rate below 1/8 = 0.125; give 19 or more(.|\n)*"
        r"left out \S+empty.wav: the file is empty",
    ):
        fitted.calibrate(few)
    with pytest.raises(ValueError, match="no normal recording that can be used"):
        fitted.calibrate([tmp_path / "empty.wav"])


def test_domains_are_told_by_names_or_by_a_table(
    fitted: Detector, fan: Path, later: Path, tmp_path: Path
) -> None:
    named = [path for path in sorted((fan / "test").iterdir()) if "normal" in path.name]
    made = fitted.calibrate(named, false_alarm_rate=0.2)
    assert made.calibrated_on is not None
    assert made.calibrated_on["domains"] == {"source": 3, "target": 3}
    folder = shutil.copytree(later, tmp_path / "later")
    rows = [f"{path.name},{'source' if path.name < '20' else 'target'}" for path in sorted(folder.iterdir())]
    (folder / "domains.csv").write_text("\n".join(["file_name,domain", *rows]))
    made = fitted.calibrate(folder)
    assert made.calibrated_on is not None
    assert made.calibrated_on["domains"] == {"source": 20, "target": 4}
    assert {d: share.clips for d, share in made.flagged().items()} == {"source": 20, "target": 4}
    assert "before, target" in plain(made)


def test_several_folders_are_several_groups(fitted: Detector, later: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(later.iterdir())):
        day = tmp_path / ("monday" if number < 14 else "tuesday")
        day.mkdir(exist_ok=True)
        shutil.copy(path, day)
    made = fitted.calibrate([tmp_path / "monday", tmp_path / "tuesday"], false_alarm_rate=0.2)
    assert made.calibration is not None
    assert made.threshold is not None
    groups = made.calibration.by_group(above=made.threshold.value)
    assert [share.clips for share in groups.values()] == [14, 10]
    assert f"the one that is flagged most, of 2: folder {tmp_path}" in plain(made)


def test_clips_of_a_machine_may_be_given(fitted: Detector, fan: Path) -> None:
    normal = [one for one in datasets.load_machine(fan).test if one.label == "normal"]
    made = fitted.calibrate(normal, false_alarm_rate=0.2)
    assert made.calibrated_on is not None
    assert made.calibrated_on["clips"] == 6


@pytest.mark.parametrize("as_files", [True, False])
def test_anomalies_by_their_names_are_refused(fitted: Detector, fan: Path, as_files: bool) -> None:
    given = sorted((fan / "test").iterdir()) if as_files else fan / "test"
    with pytest.raises(DatasetError, match=r"6 of 12 recordings are not normal; give the normal ones alone"):
        fitted.calibrate(given)


def test_a_folder_of_anomalies_is_refused_with_what_to_give(
    fitted: Detector, later: Path, tmp_path: Path
) -> None:
    shutil.copytree(later, tmp_path / "test" / "normal")
    shutil.copytree(later, tmp_path / "test" / "anomaly")
    with pytest.raises(
        DatasetError, match=r"use the normal ones alone: `nearfar calibrate DETECTOR \S+test/normal`"
    ):
        fitted.calibrate(tmp_path / "test")


@pytest.mark.parametrize("do", ["calibrate", "learn"])
@pytest.mark.parametrize(
    ("place", "given", "why"),
    [
        ("anomaly/x.wav", "anomaly/x.wav", "by the name of its folder 'anomaly'"),
        ("fehlerhaft/x.wav", "fehlerhaft", "by the name of the folder;?\n"),
        ("01_NG/monday/x.wav", "01_NG/monday", "by the name of the folder '01_NG' that it is in"),
        ("press/faulty_3.wav", "press/faulty_3.wav", "by its own name"),
        ("press/faulty_3.wav", "press", "by their own names, such as 'faulty_3.wav'"),
    ],
)
def test_files_and_folders_that_are_called_anomalous_are_refused(
    fitted: Detector, later: Path, tmp_path: Path, do: str, place: str, given: str, why: str
) -> None:
    root = tmp_path / "data"
    (root / place).parent.mkdir(parents=True)
    shutil.copy(later / "00.wav", root / place)
    with pytest.raises(
        DatasetError, match=f"{why}(.|\n)*give normal recordings alone; what is normal though"
    ):
        getattr(fitted, do)(root / given)


def test_what_is_called_normal_is_taken_though_it_lies_beside_faults(later: Path, tmp_path: Path) -> None:
    for place in (
        "faults/normal/00.wav",
        "faults/train/00.wav",
        "no_fault/00.wav",
        "faults/fan/train/00.wav",
    ):
        (tmp_path / "data" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(later / "00.wav", tmp_path / "data" / place)
    root = tmp_path / "data"
    given = [root / "faults/normal", root / "faults/normal/00.wav", root / "no_fault", root / "faults/fan"]
    assert len(datasets.load_normals(given)) == 4


def test_a_mixed_folder_is_told_the_command_that_was_called(
    fitted: Detector, later: Path, tmp_path: Path
) -> None:
    shutil.copytree(later, tmp_path / "sound" / "normal")
    shutil.copytree(later, tmp_path / "sound" / "anomaly")
    for do in ("calibrate", "learn"):
        with pytest.raises(DatasetError, match=rf"`nearfar {do} DETECTOR \S+sound/normal`"):
            getattr(fitted, do)(tmp_path / "sound")


def test_a_detector_without_a_threshold_gets_one(fan: Path, later: Path, tmp_path: Path) -> None:
    system = configuration.load("spectral", {"threshold.method": "none"})
    made = Detector.fit(fan, system, jobs=Jobs(tmp_path / "cache")).calibrate(later)
    assert isinstance(made.threshold, Conformal)
    assert made.system.threshold.method == "conformal"
    assert "no threshold" in plain(made)
    made.save(tmp_path / "made")
    assert isinstance(Detector.load(tmp_path / "made").threshold, Conformal)


def test_an_older_detector_cannot_know_its_training_clips(
    fitted: Detector, fan: Path, later: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Detector(**{**vars(fitted), "seen": np.empty(0, dtype=np.uint64)})
    old.calibrate([later, *(fan / "train").iterdir()])
    assert "does not know its training clips one by one" in caplog.text


def test_the_chosen_channels_are_those_of_the_fit(fan: Path, later: Path, tmp_path: Path) -> None:
    def swap(source: Path, place: Path) -> Path:
        place.mkdir(parents=True)
        for path in source.iterdir():
            audio.write(place / path.name, audio.read(path)[0][::-1].copy(), RATE)
        return place

    swap(fan / "train", tmp_path / "fan" / "train")
    machine = datasets.load_machine(tmp_path / "fan", (2, 1))
    swapped = Detector.fit(machine, jobs=Jobs(tmp_path / "cache")).calibrate(swap(later, tmp_path / "later"))
    straight = Detector.fit(fan, jobs=Jobs(tmp_path / "cache")).calibrate(later)
    assert swapped.threshold is not None
    assert straight.threshold is not None
    np.testing.assert_allclose(swapped.threshold.normal_scores, straight.threshold.normal_scores)
    with pytest.raises(DatasetError, match="known to the fit"):
        swapped.calibrate([next((tmp_path / "fan" / "train").iterdir())])


def test_calibrate_on_the_command_line(fitted: Detector, later: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "detector")
    found = invoke("calibrate", tmp_path / "detector", later, "-o", tmp_path / "new", "--workers", "2")
    assert found.exit_code == 0, found.output
    text = " ".join(found.output.replace("│", " ").split())
    assert "calibrated on 24 normal recordings" in text
    assert "Next: `nearfar score" in text
    assert invoke("score", tmp_path / "new", later, "--fail-on-anomaly").exit_code == 0
    assert invoke("score", tmp_path / "detector", later, "--fail-on-anomaly").exit_code == 3
    found = invoke("calibrate", tmp_path / "detector", later, "--replace", "--false-alarm-rate", "0.5")
    assert found.exit_code == 0, found.output
    changed = Detector.load(tmp_path / "detector")
    assert changed.threshold is not None
    assert changed.threshold.false_alarm_rate == 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("LATER",), 2, "give --out for a new detector (-o NEW), or --replace"),
        (("-", "-o", "NEW"), 2, "- is one recording; give files or folders"),
        (("LATER", "-o", "DETECTOR"), 1, "is there"),
        (("LATER", "-o", "NEW", "--false-alarm-rate", "0.01"), 1, "give 99 or more"),
        (("LATER", "-o", "NEW", "--false-alarm-rate", "7"), 1, "must be above 0 and below 1"),
    ],
)
def test_what_calibrate_refuses(
    fitted: Detector, later: Path, tmp_path: Path, arguments: Sequence[str], code: int, message: str
) -> None:
    fitted.save(tmp_path / "detector")
    before = sorted(path.read_bytes() for path in (tmp_path / "detector").rglob("*.*"))
    places = {"LATER": later, "NEW": tmp_path / "new", "DETECTOR": tmp_path / "detector"}
    found = invoke("calibrate", tmp_path / "detector", *(places.get(a, a) for a in arguments))
    assert found.exit_code == code
    assert message in " ".join(f"{found.output} {found.exception}".replace("│", " ").split())
    assert not (tmp_path / "new").exists()
    assert sorted(path.read_bytes() for path in (tmp_path / "detector").rglob("*.*")) == before


def test_a_gamma_distribution_gives_rates_that_ranks_of_few_recordings_do_not(
    fitted: Detector, later: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"attain no rate below 1/25 .* give 99 or more, .* take the method gamma"
    ):
        fitted.calibrate(later, false_alarm_rate=0.01)
    by_ranks = fitted.calibrate(later)
    made = fitted.calibrate(later, false_alarm_rate=0.01, method="gamma")
    assert made.system.threshold.method == "gamma"
    assert by_ranks.system.threshold.method == "conformal"
    assert made.threshold is not None
    assert by_ranks.threshold is not None
    assert made.threshold.value > by_ranks.threshold.value
    fitted.save(tmp_path / "detector")
    arguments = ("--false-alarm-rate", 0.01, "--method", "gamma", "-o", tmp_path / "new")
    assert invoke("calibrate", tmp_path / "detector", later, *arguments).exit_code == 0
    loaded = Detector.load(tmp_path / "new").threshold
    assert loaded is not None
    assert loaded.value == pytest.approx(made.threshold.value)


def test_a_path_that_is_not_there_is_an_error(fitted: Detector, later: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"typo.*: no such file or folder"):
        fitted.calibrate([later, later.with_name("typo")])
