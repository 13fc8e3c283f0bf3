"""A fused system is one detector: it scores as the branches and their fusion do, saved and loaded, clip by clip."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner

import nearfar
from nearfar.cli import app
from nearfar.decisions import fusing
from nearfar.decisions.fusing import fuse, fuse_left_out
from nearfar.detector import fitting
from nearfar.detector.fitted import Detector
from nearfar.encoders import pretrained
from nearfar.files.extras import is_installed
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, Machine
from nearfar.recordings.inspection.training import Suspect
from nearfar.research import fused
from nearfar.systems import defaults, fusion, named
from nearfar.systems.named import DEFAULT
from nearfar.systems.resolved import ResolvedSystem, resolve

FILE = """
name = "near_and_cancelled"
summary = "The near microphone beside the cancelled one."
protocol = "fixed configuration"

[fusion]
weights = {{near = 0.25, cancelled = 0.75}}
calibration = "{calibration}"
false_alarm_rate = {rate}

[branches.near]
system = "spectral_near"
[branches.near.settings]
"branch.encoder_options.n_mels" = 16
"branch.encoder_options.sample_rate" = 8000
"threshold.method" = "{method}"
"threshold.folds" = {folds}

[branches.cancelled]
system = "spectral_w1"
[branches.cancelled.settings]
"branch.encoder_options.n_mels" = 16
"threshold.folds" = 4
{more}
"""
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_machine(root, "fan", train=16, target=4, test=2, seconds=0.5)
    return root


@pytest.fixture(scope="module")
def fan(root: Path) -> Machine:
    return datasets.load(root).machines[0]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    def written(
        *,
        calibration: str = "own_normals_log",
        rate: str = "0.2",
        method: str = "conformal",
        folds: int = 4,
        more: str = "",
    ) -> Path:
        path = tmp_path_factory.mktemp("file") / "own.toml"
        told = {"calibration": calibration, "rate": rate, "method": method, "folds": folds, "more": more}
        path.write_text(FILE.format(**told))
        return path

    return written


@pytest.fixture(scope="module")
def detector(fan: Machine, jobs: Jobs, write: Write) -> Detector:
    return Detector.fit(fan, write(), jobs=jobs)


# the scale, and what is summed


@pytest.mark.parametrize("calibration", fusing.CALIBRATIONS)
def test_fused_scores_equal_a_naive_twin(calibration: Any, rng: np.random.Generator) -> None:
    normals, scores = rng.gamma(3, size=(30, 3)), rng.gamma(5, size=(7, 3))
    scores[0] = normals[0]  # ties
    weights = {"a": 0.5, "b": 0.2, "c": 0.3}
    found = fuse(scores, normals, weights=weights, calibration=calibration)
    expected = [naive.fused(normals, x, list(weights.values()), calibration) for x in scores]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("calibration", fusing.CALIBRATIONS)
def test_a_normal_clip_has_no_part_in_its_own_scale(calibration: Any, rng: np.random.Generator) -> None:
    normals, weights = rng.gamma(3, size=(9, 2)), {"a": 0.5, "b": 0.5}
    found = fuse_left_out(normals, weights=weights, calibration=calibration)
    expected = [
        naive.fused(np.delete(normals, i, axis=0), normals[i], [0.5, 0.5], calibration) for i in range(9)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_clip_at_distance_zero_has_a_score(rng: np.random.Generator) -> None:
    normals = rng.gamma(3, size=(9, 1))
    low, zero = fuse(np.array([[1e-3], [0.0]]), normals, weights={"a": 1.0}, calibration="own_normals_log")
    assert np.isfinite(zero)
    assert zero < low


def test_scores_without_a_logarithm_are_refused(rng: np.random.Generator) -> None:
    normals = rng.normal(size=(9, 2))
    with pytest.raises(
        ValueError, match=r"branch 'a': a score of -.* scores must be above 0: take a back end"
    ):
        fuse(normals, normals, weights={"a": 0.5, "b": 0.5}, calibration="own_normals_log")


# one detector


@pytest.mark.parametrize(
    ("calibration", "more"),
    [*((name, "") for name in fusing.CALIBRATIONS), ("own_normals", '"threshold.folds_by" = "far"')],
)
def test_saved_and_loaded_it_scores_one_clip_as_run_does(
    calibration: str, more: str, fan: Machine, root: Path, jobs: Jobs, write: Write, tmp_path: Path
) -> None:
    path = write(calibration=calibration, more=more)
    ran = fused.run(fused.load(path), datasets.load(root), tmp_path / "out", jobs=jobs).result
    Detector.fit(fan, path, odd_clips="keep", jobs=jobs).save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert len(ran.scores) == len(fan.test) == 8
    for row in ran.scores.itertuples():
        verdict = loaded.score_file(root / str(row.key))
        assert verdict.score == pytest.approx(row.score, rel=1e-12)
        assert verdict.decision == {0: "normal", 1: "anomaly"}[row.decision]
    unseen = ran.references.set_index("key")["score"]
    assert loaded.threshold is not None
    np.testing.assert_allclose(loaded.threshold.normal_scores, np.sort(unseen), rtol=1e-12)


def test_many_clips_score_as_each_alone(detector: Detector, fan: Machine, jobs: Jobs) -> None:
    together = detector.score_clips(fan.test, jobs=jobs)
    alone = [detector.score_file(clip.path).score for clip in fan.test]
    np.testing.assert_array_equal(together, alone)


def test_each_branch_says_its_score_its_p_value_and_what_it_adds(
    detector: Detector, fan: Machine, jobs: Jobs, write: Write
) -> None:
    verdict = detector.score_file(fan.test[-1].path)
    assert [b.name for b in verdict.branches] == ["near", "cancelled"]
    assert sum(b.contribution for b in verdict.branches) == pytest.approx(verdict.score, rel=1e-12)
    of_file = fusion.load(write())
    assert detector.normals is not None
    for (name, branch), said, normals in zip(
        of_file.branches.items(), verdict.branches, detector.normals.T, strict=True
    ):
        alone = Detector.fit(fan, branch.load(), jobs=jobs)
        of_branch = alone.score_file(fan.test[-1].path)
        assert said.name == name
        assert said.score == pytest.approx(of_branch.score, rel=1e-12)
        assert said.p_value == pytest.approx(of_branch.p_value, rel=1e-12)
        np.testing.assert_allclose(np.sort(normals), np.sort(list(alone.unseen.values())), rtol=1e-12)


def test_branches_may_listen_at_rates_of_their_own(detector: Detector) -> None:
    assert [branch.encoder.sample_rate for branch in detector.branches] == [8000, 16000]
    assert detector.sample_rate == 16000
    assert detector.sample.shape[1] == 8000  # half a second


def test_the_clips_that_every_branch_has_left_out_make_the_scale(
    fan: Machine, jobs: Jobs, write: Write
) -> None:
    some = '"threshold.calibration" = "held_out"'
    fitted = Detector.fit(fan, write(more=some), jobs=jobs)
    assert fitted.normals is not None
    assert len(fitted.normals) == 5  # of 20: the first of four folds
    assert fitted.calibration is not None
    assert fitted.calibration.how["fits"] == 1
    branch = fusion.load(write(more=some)).branches["cancelled"].load()
    alone = Detector.fit(fan, branch, false_alarm_rate=0.2, jobs=jobs)
    assert set(fitted.unseen) == set(alone.unseen)


def test_too_few_of_these_for_the_rate_are_refused(fan: Machine, jobs: Jobs, write: Write) -> None:
    with pytest.raises(ValueError, match=r"false_alarm_rate=0\.1.* 5 "):
        Detector.fit(fan, write(more='"threshold.calibration" = "held_out"', rate="0.1"), jobs=jobs)


def test_another_rate_and_another_threshold(detector: Detector, fan: Machine, tmp_path: Path) -> None:
    other = detector.with_false_alarm_rate(0.4)
    assert other.threshold is not None
    assert detector.threshold is not None
    assert other.threshold.value < detector.threshold.value
    later = [clip for clip in fan.test if clip.label == "normal"]
    calibrated = detector.calibrate(later, false_alarm_rate=0.25)
    assert calibrated.threshold is not None
    scores = sorted(detector.score_file(clip.path).score for clip in later)
    np.testing.assert_array_equal(calibrated.threshold.normal_scores, scores)
    calibrated.save(tmp_path / "calibrated")
    again = Detector.load(tmp_path / "calibrated").score_file(later[0].path)
    assert again == calibrated.score_file(later[0].path)


def test_a_resolved_system_comes_back(write: Write) -> None:
    resolved = resolve(fusion.load(write()), seed=3)
    again = ResolvedSystem.restore(json.loads(json.dumps(resolved.describe())))
    assert again.describe() == resolved.describe()
    assert again.fusion == resolved.fusion
    assert again.identity == resolved.identity


def test_weights_and_scale_are_part_of_its_identity(write: Write) -> None:
    resolved = resolve(fusion.load(write()), seed=3)
    assert resolved.fusion is not None
    other = replace(resolved, fusion=replace(resolved.fusion, calibration="own_normals"))
    assert other.identity != resolved.identity


def test_clips_unlike_the_others_are_those_that_a_branch_finds(
    tmp_path: Path, jobs: Jobs, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def most(clips: Sequence[Clip], scores: Mapping[str, float]) -> list[Suspect]:
        """The four clips with the largest scores, whether they stand apart or not."""
        ordered = sorted(clips, key=lambda clip: -scores[clip.key])
        return [Suspect(clip, "unlike", "by its score") for clip in ordered[:4]]

    monkeypatch.setattr(fitting, "unlike_by_score", most)
    folder = write_machine(tmp_path, "pump", train=24, target=4, test=1, seconds=0.5)
    odd = sorted((folder / "train").glob("*_source_*"))[3]
    audio.write(odd, clip(99, faulty=True, seconds=0.5), RATE)
    machine, path = datasets.load(tmp_path).machines[0], write()

    def unlike(system: Any) -> set[str]:
        return {s["clip"] for s in Detector.fit(machine, system, jobs=jobs).trained_on["unlike"]}

    of_branches = [unlike(branch.load()) for branch in fusion.load(path).branches.values()]
    assert odd.name in of_branches[0] & of_branches[1]
    assert of_branches[0] != of_branches[1]  # or the union would show nothing
    assert unlike(path) == set.union(*of_branches)


def test_parts_without_common_unseen_clips_have_no_scale(fan: Machine, jobs: Jobs, write: Write) -> None:
    path = write(more='"threshold.calibration" = "held_out"')
    path.write_text(path.read_text().replace('"threshold.folds" = 4', '"threshold.folds" = 10'))
    with pytest.raises(ValueError, match=r"training clips? that every branch leaves out of a fit"):
        Detector.fit(fan, path, jobs=jobs)


# what cannot be fitted


@pytest.mark.parametrize(
    ("was", "is_now", "message"),
    [
        ("{near = 0.25, cancelled = 0.75}", '"search"', "weights='search' chooses weights by labels"),
        ("{near = 0.25, cancelled = 0.75}", '"greedy"', "weights='greedy' chooses weights by labels"),
        (
            'system = "spectral_near"',
            'scores = "x.csv"',
            r"branches\.near: a file of scores cannot score new",
        ),
        ('"own_normals_log"', '"selection_fold"', "takes its scale from test clips, and a fit has none"),
        ('calibration = "own_normals_log"\n', "", "the default of a study, takes its scale"),
        ("near = 0.25", "near = 0.5", "the weights have the sum 1.25; it must be 1"),
        ("near = 0.25", "far = 0.25", "weights of far, cancelled, but the branches are near, cancelled"),
        ('"conformal"', '"none"', r"branches\.near: a fusion needs scores of unseen normal clips"),
        ('"spectral_near"', '"spectral_nea"', r"branches\.near: no system 'spectral_nea'"),
        ("[branches.near", '[branches."a/near"', r"branches\.a/near\.\[key\]: String should match"),
        ("summary =", "sumary =", "no key 'sumary'; did you mean 'summary'"),
        ("[fusion]", '[candidates]\na = ["near"]\n[fusion]', "candidates are chosen by labels of test clips"),
        (
            "0.25, cancelled = 0.75}",
            '"x", cancelled = 1}',
            r"fusion\.weights\.table\.near: Input should be a va",
        ),
    ],
)
def test_a_fault_of_the_file_is_named(was: str, is_now: str, message: str, write: Write) -> None:
    path = write()
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, is_now, 1))
    with pytest.raises(ValueError, match=message):
        fusion.load(path)


def test_what_belongs_to_a_study_is_passed_over(write: Write) -> None:
    path = write()
    plain = fusion.load(path)
    path.write_text(path.read_text().replace("[fusion]", "seeds = [3]\n[fusion]\nstep = 0.25", 1))
    assert fusion.load(path) == plain


def test_it_has_a_public_name_and_takes_no_settings() -> None:
    assert nearfar.load_system("best") == fusion.load("best")
    assert nearfar.load_system("spectral", {"branch.view": "near"}).name == "spectral"
    with pytest.raises(ValueError, match="best has several branches; write presets and settings into a copy"):
        nearfar.load_system("best", {"branch.view": "near"})


# the named ones, and the default


@pytest.mark.parametrize("name", named.FUSED)
def test_every_fused_system_can_be_fitted(name: str) -> None:
    loaded = fusion.load_any(name)
    assert isinstance(loaded, fusion.FusedSystem)
    assert loaded.name == name
    assert loaded.fusion.false_alarm_rate == 0.05
    assert sum(loaded.weights.values()) == pytest.approx(1)


def test_the_default_is_the_best_for_which_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pretrained.WEIGHTS_VARIABLE, str(tmp_path))
    assert defaults.default_system() == DEFAULT
    (tmp_path / defaults.WEIGHTS).mkdir()
    (tmp_path / defaults.WEIGHTS / pretrained.RECORD).write_text("{}")
    assert defaults.default_system() == ("best" if is_installed("torch") else DEFAULT)


def test_the_default_names_the_weights_that_it_needs() -> None:
    options = [b.load().branch.encoder_options for b in fusion.load(defaults.BEST).branches.values()]
    assert {own["weights"] for own in options if "weights" in own} == {defaults.WEIGHTS}


# the command line


def test_fit_and_score_tell_what_each_branch_says(root: Path, write: Write, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return " ".join(done.output.replace("│", " ").split()) if arguments[0] == "fit" else done.output

    into, clip = tmp_path / "detector", next((root / "fan" / "test").glob("*_anomaly_*"))
    shown = run("fit", root / "fan", "-o", into, "--system", write(), "--false-alarm-rate", "0.3")
    assert (
        "near (weight 0.25), cancelled (weight 0.75); each on the scale of its own scores of unseen" in shown
    )
    threshold = Detector.load(into).threshold
    assert threshold is not None
    assert threshold.false_alarm_rate == 0.3
    assert "p by branch" in run("score", into, clip)
    said = json.loads(run("score", into, clip, "--json"))
    assert list(said["branches"]) == ["near", "cancelled"]
    (row,) = csv.DictReader(io.StringIO(run("score", into, clip, "--csv")))
    assert float(row["score_cancelled"]) == said["branches"]["cancelled"]["score"]
    assert float(row["p_value_near"]) == said["branches"]["near"]["p_value"]
    contributions = [float(row[f"contribution_{name}"]) for name in ("near", "cancelled")]
    assert sum(contributions) == pytest.approx(said["score"], rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "branch.view=near"], "has several branches"),
        (["--preset", "small"], "has several branches"),
        (["--false-alarm-rate", "2"], "must be above 0 and below 1"),
    ],
)
def test_options_that_are_not_of_a_fused_system(
    options: list[str], message: str, root: Path, write: Write, tmp_path: Path
) -> None:
    arguments = ["fit", str(root / "fan"), "-o", str(tmp_path / "d"), "--system", str(write()), *options]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"
    assert not (tmp_path / "d").exists()


def test_a_recording_without_a_score_has_no_branches(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    verdict = detector.score_file(tmp_path / "broken.wav")
    assert verdict.decision == "unusable"
    assert verdict.branches == ()
