"""Detectors: fitted, saved, loaded, scoring; and everything that can be wrong with what they are given."""

from __future__ import annotations

import errno
import inspect
import io
import json
import logging
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import quick
import soundfile
from safetensors.numpy import load_file, save_file
from synthetic import RATE, clip, write_machine

from nearfar.detector import file_format
from nearfar.detector.file_format import DetectorError
from nearfar.detector.fitted import Detector
from nearfar.encoders.spectral import Spectral
from nearfar.files import digests, steps
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.cancellation import Canceller, energy_taken
from nearfar.recordings.clips import DatasetError
from nearfar.report import fitted as report
from nearfar.systems import configuration
from nearfar.systems.options import options_model
from nearfar.systems.resolved import resolve

QUICK = {"branch.training.epochs": 1, "threshold.false_alarm_rate": 0.3}


def fit(folder: Path, system: str = "spectral", **settings: object) -> Detector:
    chosen = configuration.load(system, {k.replace("__", "."): v for k, v in settings.items()})
    return Detector.fit(datasets.load_machine(folder), chosen, jobs=Jobs(folder.parent / "cache"))


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan")


@pytest.fixture(scope="module")
def fitted(fan: Path) -> Detector:
    return fit(fan)


@pytest.fixture
def saved(fitted: Detector, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "detector")
    return tmp_path / "detector"


def test_faults_score_higher_than_normal_clips(fitted: Detector, fan: Path) -> None:
    verdicts = [fitted.score_file(c.path) for c in datasets.load_machine(fan).test]
    normal = [v.score for v in verdicts if "normal" in v.name]
    faulty = [v for v in verdicts if "anomaly" in v.name]
    assert min(v.score for v in faulty) > max(normal)
    assert {v.decision for v in faulty} == {"anomaly"}
    assert all(v.p_value == pytest.approx(fitted.threshold.floor) for v in faulty)
    assert not any(v.faults or v.error for v in verdicts)


def test_what_cancellation_takes_is_told_of_a_median_clip(fitted: Detector, fan: Path) -> None:
    every = [audio.read(c.path)[0] for c in datasets.load_machine(fan).train]
    some = [every[i] for i in (0, 3, 6, 9, 12, 15, 18, 21, 24, 27)]  # of 28, evenly spread
    each = [energy_taken(x[0], Canceller()(x), rate=RATE) for x in some]
    expected = {band: np.median([taken[band] for taken in each]) for band in each[0]}
    assert fitted.trained_on["taken"] == {"cancelled_3taps": pytest.approx(expected)}
    assert max(expected.values()) > 1
    assert Detector.load(GOLDEN / "spectral").trained_on["taken"] == {}


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training clips of half a second, and four for tests."""
    return write_machine(tmp_path_factory.mktemp("brief"), "fan", train=6, target=4, test=1, seconds=0.5)


@pytest.mark.parametrize("name", quick.of_each_part())
def test_a_loaded_detector_scores_alike(name: str, brief: Path, tmp_path: Path) -> None:
    few = {"threshold.folds": 2, "threshold.false_alarm_rate": 0.3}
    system = configuration.load(name, {**quick.settings(name), **few})
    jobs = Jobs(brief.parent / "cache")
    adapters = quick.adapters(system, jobs)
    fitted = Detector.fit(datasets.load_machine(brief), system, adapters=adapters, jobs=jobs)
    fitted.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    clips = datasets.load_machine(brief).test
    assert [loaded.score_file(c.path) for c in clips] == [fitted.score_file(c.path) for c in clips]
    assert loaded.system == fitted.system
    assert loaded.trained_on == fitted.trained_on
    assert loaded.describe_threshold() == fitted.describe_threshold()


def test_saving_twice_gives_equal_bytes(fitted: Detector, saved: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "again")
    for name in ("detector.json", "arrays.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


MEMBERS = [{}, {"backend": "nearest_neighbour"}]


def test_the_score_of_an_ensemble_is_the_mean_of_its_branches(fan: Path) -> None:
    both = fit(fan, ensemble__members=MEMBERS)
    alone = [fit(fan, **{f"branch.{k}": v for k, v in member.items()}) for member in MEMBERS]
    for c in datasets.load_machine(fan).test:
        expected = np.mean([one.score_file(c.path).score for one in alone])
        assert both.score_file(c.path).score == pytest.approx(expected, rel=1e-12)
    for key, score in both.unseen.items():  # what the threshold is learnt from
        assert score == pytest.approx(np.mean([one.unseen[key] for one in alone]), rel=1e-12)


def test_every_branch_of_an_ensemble_has_its_seed(fan: Path) -> None:
    settings = {**quick.settings("baseline_mse"), "threshold.method": "none"}
    both = fit(fan, "baseline_mse", **settings, **{"ensemble.seeds": [5, 6]})
    first, second = (
        Detector.fit(
            datasets.load_machine(fan),
            configuration.load("baseline_mse", settings),
            seed=seed,
            jobs=Jobs(fan.parent / "c"),
        )
        for seed in (5, 6)
    )
    path = datasets.load_machine(fan).test[0].path
    scores = [one.score_file(path).score for one in (first, second)]
    assert scores[0] != scores[1]
    assert both.score_file(path).score == pytest.approx(np.mean(scores), rel=1e-12)
    assert both.parameters == 2 * first.parameters


def test_an_ensemble_tells_which_branch_it_is_at(fan: Path) -> None:
    settings = {"ensemble.seeds": [7, 8], "threshold.false_alarm_rate": 0.3}
    chosen = configuration.load("baseline_mse", {**quick.settings("baseline_mse"), **settings})
    told: list[str] = []
    Detector.fit(
        datasets.load_machine(fan),
        chosen,
        jobs=Jobs(fan.parent / "told"),
        progress=lambda step, *_: told.append(step),
    )
    for step in ("training", "training for the threshold"):
        assert {f"{step}, branch {n} of 2" for n in (1, 2)} <= set(told)


def test_each_branch_of_an_ensemble_listens_at_its_own_rate(fan: Path, tmp_path: Path) -> None:
    half = {"encoder_options": {"sample_rate": 8000}}
    both, one, other = (fit(fan, ensemble__members=m) for m in ([{}, half], [{}], [half]))
    assert both.sample_rate == 16000
    clip = datasets.load_machine(fan).test[0].path
    alone = [detector.score_file(clip).score for detector in (one, other)]
    assert both.score_file(clip).score == pytest.approx(sum(alone) / 2, rel=1e-12)
    both.save(tmp_path / "both")
    assert Detector.load(tmp_path / "both").score_file(clip).score == both.score_file(clip).score


def test_a_machine_can_have_settings_of_its_own(fan: Path) -> None:
    settings = {"machines": {"fan": {"branch.view": "near"}, "pump": {"branch.view": "far"}}}
    fitted = fit(fan, **settings)
    assert fitted.system.microphones == ("near",)
    path = datasets.load_machine(fan).test[0].path
    assert fitted.score_file(path).score == fit(fan, branch__view="near").score_file(path).score


def test_there_is_no_pickle_in_it(saved: Path) -> None:
    assert {p.name for p in saved.iterdir()} == {"detector.json", "arrays.safetensors", "normal"}
    assert {p.suffix for p in (saved / "normal").iterdir()} == {".flac"}
    load_file(saved / "arrays.safetensors")
    json.loads((saved / "detector.json").read_text())


def test_scores_do_not_depend_on_the_company_or_the_workers(fitted: Detector, fan: Path) -> None:
    paths = [c.path for c in datasets.load_machine(fan).test]
    alone = [fitted.score_file(p) for p in paths]
    assert list(fitted.score_files(paths, workers=3)) == alone
    assert list(fitted.score_files(reversed(paths)))[::-1] == alone


def test_a_stream_scores_as_its_file(fitted: Detector, fan: Path) -> None:
    path = datasets.load_machine(fan).test[0].path
    raw = soundfile.read(path, dtype="int16")[0].tobytes()
    assert fitted.score_stream(io.BytesIO(raw)).score == fitted.score_file(path).score
    with pytest.raises(ValueError, match="not whole frames of 2 16-bit channels"):
        fitted.score_stream(io.BytesIO(raw[:-1]))


def test_a_higher_rate_is_scored_but_not_judged(fitted: Detector) -> None:
    high = audio.resample(clip(7, seconds=1), RATE, 44100)
    by_hand = fitted.score(audio.resample(high, 44100, RATE), RATE)
    verdict = fitted.score(high, 44100)
    assert verdict == fitted.score(high, 44100)
    assert (verdict.score, verdict.p_value) == (by_hand.score, by_hand.p_value)
    assert [(f.kind, f.microphone) for f in verdict.faults] == [("rate", "both")]
    assert verdict.decision == "unusable"  # its score may be wrong: the filter cut off the top bands
    assert by_hand.faults == ()
    assert "recorded at 44100 Hz, but the training clips at 16000 Hz" in verdict.faults[0].message


@pytest.mark.parametrize(
    ("seconds", "kind", "decision"),
    [(0.8, "short", "unusable"), (0.85, None, "normal"), (1.19, None, "normal"), (1.3, "long", "normal")],
)
def test_a_clip_that_is_shorter_than_those_of_training_is_not_judged(
    fitted: Detector, seconds: float, kind: str | None, decision: str
) -> None:
    verdict = fitted.score(clip(1, seconds=seconds), RATE)
    assert [f.kind for f in verdict.faults] == ([] if kind is None else [kind])
    assert verdict.decision == decision
    assert np.isfinite(verdict.score)


def test_a_lower_rate_is_refused(fitted: Detector, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="recorded at 8000 Hz, but 16000 Hz are needed"):
        fitted.score(clip(7), 8000)
    assert not caplog.text


# What can be wrong with the recordings that are scored


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "empty"),
        (b"RIFF", "not a readable recording"),
        (None, "truncated"),
    ],
)
def test_an_unusable_file_is_a_verdict(
    fitted: Detector, fan: Path, tmp_path: Path, content: bytes | None, error: str
) -> None:
    path = tmp_path / "new.wav"
    whole = datasets.load_machine(fan).test[0].path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    verdict = fitted.score_file(path)
    assert verdict.decision == "unusable"
    assert error in verdict.error
    assert np.isnan(verdict.score)


def test_a_mono_recording_is_a_verdict_that_tells_what_to_do(fitted: Detector, tmp_path: Path) -> None:
    audio.write(tmp_path / "mono.wav", clip(1)[:1], RATE)
    assert (
        "needs 2 channels (near, far), but the recording has 1"
        in fitted.score_file(tmp_path / "mono.wav").error
    )


def test_nan_samples_are_a_verdict(fitted: Detector, tmp_path: Path) -> None:
    samples = clip(1)
    samples[0, 5] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples.T, RATE, subtype="FLOAT")
    assert "1 sample is NaN" in fitted.score_file(tmp_path / "nan.wav").error


def test_a_dead_far_microphone_is_reported_with_the_score(fitted: Detector) -> None:
    samples = clip(1)
    samples[1] = 0
    verdict = fitted.score(samples, RATE)
    assert [(f.kind, f.microphone) for f in verdict.faults] == [("dead", "far")]
    assert np.isfinite(verdict.score)
    assert verdict.decision == "unusable"  # the view cancels with that microphone


def test_a_dead_microphone_that_nobody_listens_to_spoils_nothing(fan: Path) -> None:
    samples = clip(1)
    samples[1] = 0
    verdict = fit(fan, "spectral_near").score(samples, RATE)
    assert [f.microphone for f in verdict.faults] == ["far"]
    assert verdict.decision == "normal"


@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (clip(1).T, r"shape \(16000, 2\); expected \(channels, samples\)"),
        (clip(1)[0], r"shape \(16000,\); expected \(channels, samples\)"),
        (clip(1)[:, :0], r"shape \(2, 0\)"),
        ((clip(1) * 32767).astype(np.int16), "int16 samples; expected floating point"),
        (np.full((2, 16000), np.nan, np.float32), "32000 samples are NaN"),
        (clip(1)[:, :500], r"0.031 s long; at least 0.064 s are needed"),
    ],
)
def test_arrays_that_are_no_recordings_are_refused(fitted: Detector, samples: np.ndarray, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fitted.score(samples, RATE)


def test_samples_of_double_precision_are_scored_alike(fitted: Detector) -> None:
    double, single = (fitted.score(clip(1).astype(form), RATE) for form in (np.float64, np.float32))
    assert double.score == pytest.approx(single.score, rel=1e-5)
    assert (double.decision, double.faults) == (single.decision, single.faults)


def test_a_file_that_is_gone_does_not_end_the_batch(fitted: Detector, fan: Path, tmp_path: Path) -> None:
    path = datasets.load_machine(fan).test[0].path
    gone, there = fitted.score_files([tmp_path / "gone.wav", path])
    assert (gone.decision, there.error) == ("unusable", "")
    assert "no such file" in gone.error


def test_clips_too_short_for_the_system_are_refused(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    for i, path in enumerate(sorted((folder / "train").iterdir())):
        audio.write(path, clip(i)[:, :1500], RATE)
    with pytest.raises(DatasetError, match=r"fan: the clips are 0\.094 s long; at least .* s are needed"):
        fit(folder, "baseline_mse", **QUICK)


def test_a_few_clips_of_another_length_are_left_out(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    paths = sorted((folder / "train").iterdir())[:2]
    for path in paths:
        audio.write(path, clip(1)[:, :1500], RATE)
    left_out = fit(folder).trained_on["left_out"]
    assert [(one["clip"], one["kind"]) for one in left_out] == [(path.name, "length") for path in paths]


def test_nothing_but_a_detector_is_replaced(fitted: Detector, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not a detector, so it is not replaced"):
        fitted.save(tmp_path, replace=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_swapped_microphones_are_reported(fitted: Detector) -> None:
    assert [f.kind for f in fitted.score(clip(1)[::-1].copy(), RATE).faults] == ["swapped"]


# What can be wrong with the recordings that are fitted


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises((DatasetError, FileNotFoundError), match=r"no \.wav or \.flac file"):
        fit(tmp_path)


def test_one_clip(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", train=1, target=0)
    with pytest.raises(DatasetError, match=r"1 normal training clip; at least 4 are needed.*record more"):
        fit(folder)


def test_too_few_clips_for_the_false_alarm_rate(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", train=8, target=0, test=1)
    with pytest.raises(ValueError, match=r"attain no rate below 1/9 .* fit to 19 normal clips or more"):
        fit(folder)


def test_no_target_clips_are_told_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_machine(tmp_path, "fan", target=0, test=1)
    with caplog.at_level(logging.WARNING):
        found = fit(folder)
    assert "no target-domain training clips" in caplog.text
    assert found.trained_on["domains"] == {"source": 24}


def test_mono_clips_for_a_system_of_two_microphones(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    for path in folder.rglob("*.wav"):
        audio.write(path, audio.read(path)[0][:1], RATE)
    with pytest.raises(DatasetError, match=r"have 1 channel.*needs 2 microphones.*spectral_near"):
        fit(folder)
    found = fit(folder, "spectral_near")
    assert found.usual is not None
    assert (found.usual.channels, len(found.usual.templates)) == (1, 0)


def strictly(folder: Path) -> Detector:
    """A fit that refuses what it would leave out."""
    return Detector.fit(folder, "spectral", odd_clips="refuse", jobs=Jobs(folder.parent / "cache"))


def break_clips(folder: Path) -> list[tuple[str, str]]:
    """Break four training clips; names and kinds."""
    paths = sorted((folder / "train").iterdir())[:4]
    audio.write(paths[0], clip(1), 48000)
    audio.write(paths[1], clip(1)[:1], RATE)
    paths[2].write_bytes(b"")
    paths[3].write_bytes(paths[3].read_bytes()[:2000])
    return [(p.name, kind) for p, kind in zip(paths, ("rate", "channels", "empty", "truncated"), strict=True)]


def test_broken_training_clips_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    broken = break_clips(folder)
    with caplog.at_level(logging.WARNING):
        found = fit(folder)
    assert found.trained_on["clips"] == 24
    assert sorted((one["clip"], one["kind"]) for one in found.trained_on["left_out"]) == broken
    for name, kind in broken:
        assert f"fan: left out 1 of 28 training clips ({kind}): {folder / 'train' / name}: " in caplog.text
    for said in (
        "48000 Hz, but most training clips have 16000",
        "1 channels, but most training clips have 2",
    ):
        assert said in caplog.text
    found.save(tmp_path / "detector")
    assert Detector.load(tmp_path / "detector").trained_on == found.trained_on


def test_a_strict_fit_refuses_broken_training_clips_and_lists_all(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    broken = break_clips(folder)
    with pytest.raises(DatasetError, match=r"truncated, .* bytes of audio are missing") as error:
        strictly(folder)
    assert len(error.value.problems) >= 4
    for name, _ in broken:
        (problem,) = (p for p in error.value.problems if name in p)
        assert problem.count(name) == 1


def test_left_out_clips_do_not_change_the_detector(tmp_path: Path) -> None:
    """As if they had never been there."""
    folder = write_machine(tmp_path, "fan", test=1)
    broken = break_clips(folder)
    with_them = fit(folder)
    for name, _ in broken:
        (folder / "train" / name).unlink()
    assert fit(folder).score(clip(7), RATE) == with_them.score(clip(7), RATE)


def test_more_than_a_third_with_one_fault_is_refused(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    for path in sorted((folder / "train").iterdir())[:10]:
        samples = audio.read(path)[0]
        samples[1] = 0
        audio.write(path, samples, RATE)
    with pytest.raises(DatasetError, match=r"10 of 28 training clips \(dead\), too many to be left out"):
        fit(folder)
    assert fit(folder, "spectral_near").trained_on["faults"] == {"far dead": 10}


def test_a_silent_far_channel(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    for path in (folder / "train").iterdir():
        samples = audio.read(path)[0]
        samples[1] = 0
        audio.write(path, samples, RATE)
    with pytest.raises(DatasetError, match=r"the far microphone is silent.*check its cable"):
        fit(folder)
    assert fit(folder, "spectral_near").trained_on["faults"] == {"far dead": 28}


def test_a_doubled_mono_recording(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "fan", test=1)
    for path in (folder / "train").iterdir():
        audio.write(path, audio.read(path)[0][[0, 0]], RATE)
    with pytest.raises(DatasetError, match="near and far are one signal"):
        fit(folder)


# What can be wrong with a detector's folder


@pytest.mark.parametrize("name", ["detector.json", "arrays.safetensors"])
def test_every_flipped_byte_is_noticed(saved: Path, name: str, rng: np.random.Generator) -> None:
    whole = (saved / name).read_bytes()
    for position in rng.integers(0, len(whole), 20):
        broken = bytearray(whole)
        broken[position] ^= 1
        (saved / name).write_bytes(broken)
        with pytest.raises(DetectorError, match=r"(json|safetensors): damaged|a detector of format"):
            Detector.load(saved)


def test_a_missing_file(saved: Path, tmp_path: Path) -> None:
    (saved / "arrays.safetensors").unlink()
    with pytest.raises(DetectorError, match=r"arrays\.safetensors: missing or unreadable"):
        Detector.load(saved)
    with pytest.raises(FileNotFoundError, match=r"no detector here.*nearfar fit"):
        Detector.load(tmp_path)


def test_a_newer_format(saved: Path) -> None:
    content = json.loads((saved / "detector.json").read_text())
    (saved / "detector.json").write_text(json.dumps({**content, "format": file_format.FORMAT + 1}))
    with pytest.raises(DetectorError, match=r"of format 8.*reads up to format 7: install a newer nearfar"):
        Detector.load(saved)


GOLDEN = Path(__file__).parent / "golden" / "detectors"  # its README says what made them


def rewritten(folder: Path, change: Callable[[dict], None], arrays: dict | None = None) -> None:
    """Change a detector's description, and its arrays if they are given, so that its digests are right."""
    content = json.loads((folder / "detector.json").read_text())
    content.pop("digest")
    if arrays is not None:
        save_file(arrays, folder / "arrays.safetensors")
        content["arrays"] = digests.digest_file(folder / "arrays.safetensors")
    change(content)
    (folder / "detector.json").write_text(json.dumps({**content, "digest": digests.digest(content)}))


def expect_scores(name: str, detector: Detector) -> None:
    for seed, (score, p_value, decision) in zip(
        (101, 102, 103), json.loads((GOLDEN / f"{name}.json").read_text()), strict=True
    ):
        verdict = detector.score(clip(seed), RATE)
        assert verdict.score == pytest.approx(score, rel=1e-9)
        assert verdict.p_value == pytest.approx(p_value, rel=1e-9)
        assert verdict.decision == decision


@pytest.mark.parametrize("name", ["spectral", "ensemble", "wrapped", "members"])
def test_a_detector_of_format_2_scores_as_it_did(name: str, tmp_path: Path) -> None:
    loaded = Detector.load(GOLDEN / name)
    expect_scores(name, loaded)
    loaded.save(tmp_path / "again")  # in the present format
    assert json.loads((tmp_path / "again" / "detector.json").read_text())["format"] == file_format.FORMAT
    again = Detector.load(tmp_path / "again")
    expect_scores(name, again)
    assert again.system == loaded.system
    assert again.system.threshold.folds_by == "random"
    assert again.calibration is loaded.calibration is None
    assert again.describe_threshold() == loaded.describe_threshold()


def test_a_detector_of_format_4_had_random_folds_and_knows_no_domains(saved: Path, tmp_path: Path) -> None:
    assert Detector.load(saved).system.threshold.folds_by == "group_if_known"
    folder = tmp_path / "old"
    shutil.copytree(saved, folder)
    arrays = load_file(folder / "arrays.safetensors")
    del arrays["threshold.domain"], arrays["threshold.group"]

    def change(content: dict) -> None:
        content["format"] = 4
        del content["system"]["threshold"]["folds_by"]
        for name in ("domains", "domain_names", "group_names", "unseen"):
            del content["threshold"][name]

    rewritten(folder, change, arrays)
    old = Detector.load(folder)
    assert old.system.threshold.folds_by == "random"
    assert old.flagged() == {}
    assert set(old.describe_threshold()) == {"value", "false_alarm_rate", "smallest_p_value", "normal_clips"}
    assert old.with_false_alarm_rate(0.5).threshold.false_alarm_rate == 0.5
    assert "would have been flagged" not in str([list(c.cells) for c in report.detector(old).columns])


def test_a_detector_of_format_5_knew_no_fusion(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(saved, folder)

    def change(content: dict) -> None:
        content["format"] = 5
        del content["system"]["fusion"]

    rewritten(folder, change)
    old, new = Detector.load(folder), Detector.load(saved)
    assert old.system == new.system
    assert old.normals is None
    assert old.score(clip(101), RATE) == new.score(clip(101), RATE)


def test_the_threshold_is_told_by_domain(fitted: Detector) -> None:
    told = fitted.describe_threshold()
    assert told["unseen"] == {"by": "random", "fits": 10, "groups": {}, "random_in": {}}
    assert {d: (x["flagged"], x["clips"]) for d, x in told["domains"].items()} == {
        d: (x.flagged, x.clips) for d, x in fitted.flagged().items()
    }
    by_key = {c: s > fitted.threshold.value for c, s in fitted.unseen.items()}
    assert told["domains"]["target"]["flagged"] == sum(f for c, f in by_key.items() if "_target_" in c)
    assert told["domains"]["target"]["clips"] == 4


def test_a_detector_of_format_1_scores_as_it_did(tmp_path: Path) -> None:
    """There a detector had one branch, and a system no ensemble."""
    folder = tmp_path / "old"
    shutil.copytree(GOLDEN / "spectral", folder)
    arrays = load_file(folder / "arrays.safetensors")
    old = {name.replace("branches.0.", "branch."): array for name, array in arrays.items()}
    old["self_check.embedding"] = old.pop("self_check.embeddings.0")

    def change(content: dict) -> None:
        content["format"] = 1
        del content["system"]["ensemble"], content["system"]["machines"]

    rewritten(folder, change, old)
    expect_scores("spectral", Detector.load(folder))


def test_an_older_detector_says_that_it_compares_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loaded = Detector.load(GOLDEN / "spectral")
    assert "fitted by an older nearfar, so recordings are not compared with its training clips" in caplog.text
    assert loaded.usual is None
    assert [loaded.trained_on[key] for key in ("faults", "left_out", "unlike")] == [{}, [], []]
    dead = clip(1) * [[1], [0]]
    assert [(f.kind, f.microphone) for f in loaded.score(dead, RATE).faults] == [("dead", "far")]
    assert loaded.score(clip(1)[::-1].copy(), RATE).faults == ()
    assert "fan" in str(report.detector(loaded).title)


@pytest.mark.parametrize("form", ["2", "present"])
def test_a_changed_default_leaves_saved_detectors_as_they_are(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = GOLDEN / "spectral"
    if form == "present":
        Detector.load(folder).save(tmp_path / "detector")
        folder = tmp_path / "detector"
    former = Spectral.__init__

    @wraps(former)
    def changed(self: Spectral, *, sample_rate: int = 8000, hop: int = 64, **options: int) -> None:
        former(self, sample_rate=sample_rate, hop=hop, **options)

    parameters = [
        p.replace(default={"sample_rate": 8000, "hop": 64}.get(p.name, p.default))
        for p in inspect.signature(former).parameters.values()
    ]
    changed.__signature__ = inspect.Signature(parameters)
    monkeypatch.setattr(Spectral, "__init__", changed)
    options_model.cache_clear()
    try:
        assert configuration_of_default("hop") == 64  # the change is seen by what is fitted now
        expect_scores("spectral", Detector.load(folder))
    finally:
        options_model.cache_clear()


def configuration_of_default(option: str) -> int:
    return resolve(configuration.load("spectral"), seed=0).branches[0].encoder.options.arguments()[option]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b["encoder"].update(name="hydra"), "no encoder 'hydra'"),
        (lambda b: b["backend"]["options"].update(heads=9), "no backend 'domain_normalized' key 'heads'"),
        (lambda b: b.pop("pooling"), "missing 'pooling'"),
    ],
)
def test_a_system_of_a_newer_version(saved: Path, change: Callable[[dict], object], message: str) -> None:
    rewritten(saved, lambda content: change(content["system"]["branches"][0]))
    with pytest.raises(DetectorError, match=rf"does not know \({message}.*newer one"):
        Detector.load(saved)


def test_a_system_of_format_2_that_is_not_known(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "spectral", tmp_path / "old")
    rewritten(tmp_path / "old", lambda content: content["system"]["branch"].update(encoder="hydra"))
    with pytest.raises(
        DetectorError, match=r"does not know \(branch.encoder: .*no encoder 'hydra'.*newer one"
    ):
        Detector.load(tmp_path / "old")


def test_an_unattainable_rate_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfar.systems.branches.Branch.fit_encoder", None)
    with pytest.raises(ValueError, match="fit to 95 normal clips or more"):
        fit(write_machine(tmp_path, "fan", test=1), "baseline_mse")


def test_the_self_check_notices_other_arithmetic(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.encoders.spectral.Spectral._above_floor", lambda _, power: -3 * power)
    with pytest.raises(DetectorError, match=r"self-check fails.*libraries changed since: none"):
        Detector.load(saved)


def test_a_full_disk_leaves_nothing(
    fitted: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(steps.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(tmp_path / "detector")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_keeps_the_old_one(
    saved: Path, fitted: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (saved / "detector.json").read_bytes()
    with pytest.raises(FileExistsError, match="there already"):
        fitted.save(saved)
    monkeypatch.setattr(
        file_format,
        "write_json",
        lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
    )
    with pytest.raises(OSError, match="No space left"):
        fitted.save(saved, replace=True)
    assert (saved / "detector.json").read_bytes() == before
    assert Detector.load(saved).machine == "fan"


@pytest.mark.parametrize("method", ["conformal", "gamma"])
def test_another_false_alarm_rate_is_what_a_fit_with_it_would_decide(
    method: str, fan: Path, tmp_path: Path
) -> None:
    jobs = Jobs(tmp_path / "cache")
    system = configuration.load("spectral", {"threshold.method": method})
    before = Detector.fit(fan, system, jobs=jobs)
    other = before.with_false_alarm_rate(0.2)
    fitted_so = Detector.fit(fan, system, false_alarm_rate=0.2, jobs=jobs)
    assert other.describe_threshold() == fitted_so.describe_threshold()
    assert other.system == fitted_so.system
    assert before.describe_threshold()["false_alarm_rate"] == 0.05  # it is as it was
    assert other.threshold.value < before.threshold.value
    other.save(tmp_path / "other")
    loaded = Detector.load(tmp_path / "other")
    for path in (c.path for c in datasets.load_machine(fan).test):
        assert loaded.score_file(path) == other.score_file(path) == fitted_so.score_file(path)
        assert other.score_file(path).p_value == before.score_file(path).p_value


def test_a_false_alarm_rate_that_the_normal_clips_cannot_attain_is_refused(fitted: Detector) -> None:
    message = (
        r"the scores of 28 unseen normal clips attain no rate below 1/29 .* fit to 99 normal clips or more"
    )
    with pytest.raises(ValueError, match=message):
        fitted.with_false_alarm_rate(0.01)
    with pytest.raises(ValueError, match=r"false_alarm_rate=1\.5: must be above 0 and below 1"):
        fitted.with_false_alarm_rate(1.5)


def test_a_detector_without_a_threshold_takes_no_false_alarm_rate(fan: Path, tmp_path: Path) -> None:
    system = configuration.load("spectral", {"threshold.method": "none"})
    undecided = Detector.fit(fan, system, jobs=Jobs(tmp_path))
    with pytest.raises(
        ValueError, match=r"the detector of 'fan' was fitted without a threshold.*fit it again"
    ):
        undecided.with_false_alarm_rate(0.1)


# scores that are no numbers


@pytest.fixture
def without_a_score(fitted: Detector, fan: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], Path]:
    """Test clips, and the one among them whose score is not a number."""
    paths = [clip.path for clip in datasets.load_machine(fan).test[:5]]
    samples, rate = audio.read(paths[2])
    bad = fitted._embeddings(samples, rate)[0]
    backend = type(fitted.branches[0].backend)
    score, transform = backend._score, fitted.branches[0].conditioning
    assert not transform

    def some_nan(self: object, X: np.ndarray) -> np.ndarray:
        return np.where(np.isclose(X, bad).all(axis=1), np.nan, score(self, X))

    monkeypatch.setattr(backend, "_score", some_nan)
    return paths, paths[2]


def test_a_score_that_is_not_a_number_is_unusable_and_ends_no_batch(
    fitted: Detector, without_a_score: tuple[list[Path], Path]
) -> None:
    paths, bad = without_a_score
    verdicts = list(fitted.score_files(paths))
    assert [v.decision == "unusable" for v in verdicts] == [path == bad for path in paths]
    assert np.isnan(verdicts[2].p_value)
    assert "cannot be scored: the score of X[0] is nan" in verdicts[2].error
    with pytest.raises(audio.AudioError, match=r"^line 3: cannot be scored: the score of X\[0\] is nan"):
        fitted.score(*audio.read(bad), name="line 3")


def test_clips_without_a_finite_score_are_all_named(
    fitted: Detector, fan: Path, without_a_score: tuple[list[Path], Path]
) -> None:
    clips = datasets.load_machine(fan).test[:5]
    with pytest.raises(
        DatasetError, match=r"1 problem in the data:\n .*cannot be scored: the score of X\[0\] is nan"
    ) as error:
        fitted.score_clips(clips, jobs=Jobs(fan.parent / "cache"))
    assert str(without_a_score[1]) in str(error.value)


@pytest.mark.parametrize("kind", [str, Path])
def test_one_path_in_place_of_several_is_an_error(fitted: Detector, fan: Path, kind: type) -> None:
    path = datasets.load_machine(fan).test[0].path
    with pytest.raises(TypeError, match=r"expected several; give \['.*'\], or use score_file"):
        fitted.score_files(kind(path))


@pytest.mark.parametrize(
    "content",
    [
        '{"format": 7, "digest": "x", "a": NaN}',
        '{"format": 7, "digest": "x", "a": Infinity}',
        "[" * 100_000,
        "[]",
        '{"format": 7}',
    ],
    ids=["nan", "infinity", "deep", "list", "no digest"],
)
def test_a_description_that_json_does_not_know_is_damaged(tmp_path, content):
    (tmp_path / "detector.json").write_text(content, encoding="utf-8")
    with pytest.raises(DetectorError, match=r"detector\.json: damaged; restore the folder from a copy"):
        Detector.load(tmp_path)
