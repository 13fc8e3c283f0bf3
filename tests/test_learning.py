"""Learning on: a detector that has learnt more clips is the one that a fit to all of them would have made."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console
from safetensors.numpy import load_file
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner, Result

from nearfar.backends import BACKENDS
from nearfar.cli import app
from nearfar.decisions.thresholds import Conformal
from nearfar.detector import keeping
from nearfar.detector.fitted import Detector
from nearfar.detector.keeping import Bank
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.clips import Clip, DatasetError, parse_clip
from nearfar.recordings.inspection.measured import Measured, measure
from nearfar.recordings.inspection.traits import Traits
from nearfar.recordings.inspection.usual import Usual
from nearfar.recordings.recording import Span
from nearfar.report import fitted as report
from nearfar.systems import configuration
from nearfar.systems.branches import Branch
from nearfar.windows.cutting import Cut

GOLDEN = Path(__file__).parent / "golden" / "detectors"
WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = 0.4
SMALL = {
    "branch.encoder_options.n_mels": 8,
    "branch.encoder_options.n_fft": 512,
    "branch.view": "near",
    "branch.pooling": "mean_std",
    "threshold.folds": 4,
    "threshold.false_alarm_rate": 0.1,
}
OPTIONS: dict[str, dict[str, Any]] = {  # of back ends that ask for more than so few clips have
    "domain_local_density": {"k": 2, "k_target": 2},
    "smote": {"k": 2},
    "selective_mahalanobis": {"shrinkage": 0.1},
    "beam": {"rescaling": "varmin", "bands": 4},
    "outlier": {"options": {"n_estimators": 5}},
}
SYSTEMS: dict[str, dict[str, Any]] = {  # settings that a fit to all clips must be equal under
    "two views": {"branch.view": "near_and_cancelled"},
    "components": {"branch.conditioning": ["standardize", {"name": "pca", "components": 5}]},
    "whitened": {"branch.conditioning": [{"name": "whiten", "components": 4}]},
    "held out": {"threshold.calibration": "held_out", "threshold.false_alarm_rate": 0.2},
    "by attributes": {"threshold.folds_by": "attributes"},
    "by far noise": {"threshold.folds_by": "far"},
    "gamma": {"threshold.method": "gamma"},
    "no threshold": {"threshold.method": "none"},
}


def system(backend: str = "domain_normalized", more: dict[str, Any] | None = None) -> configuration.System:
    options = {f"branch.backend_options.{name}": value for name, value in OPTIONS.get(backend, {}).items()}
    return configuration.load("spectral", {**SMALL, "branch.backend": backend, **options, **(more or {})})


def write(folder: Path, numbers: Iterable[int], *, domain: str = "target", speed: float = 1.3) -> Path:
    """Training clips of another speed, by names of the challenge."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        name = f"section_00_{domain}_train_normal_{number:04d}_speed_{speed:g}.wav"
        audio.write(folder / name, clip(31_000 + number, speed=speed, seconds=SECONDS), RATE)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def fan(root: Path) -> Path:
    folder = write_machine(root / "plant", "fan", train=16, target=6, test=3, seconds=SECONDS)
    for path in sorted((folder / "train").glob("*_source_*"))[::2]:
        path.rename(path.with_name(path.name.replace("speed_1", "speed_0.99")))
    return folder


@pytest.fixture(scope="module")
def new(root: Path) -> Path:
    """What is learnt: another speed of the target domain, and some more source clips, early among the names."""
    write(root / "new", range(3), domain="source", speed=1.01)
    return write(root / "new", range(3, 9))


@pytest.fixture(scope="module")
def everything(root: Path, fan: Path, new: Path) -> Path:
    """The folder of a machine that has both."""
    folder = shutil.copytree(fan, root / "all" / "fan")
    for path in new.iterdir():
        shutil.copy(path, folder / "train")
    return folder


@pytest.fixture(scope="module")
def jobs(root: Path) -> Jobs:
    return Jobs(root / "cache")


@pytest.fixture(scope="module")
def small(fan: Path, jobs: Jobs) -> Detector:
    return Detector.fit(fan, system(), odd_clips="keep", jobs=jobs)


@pytest.fixture(scope="module")
def learnt(small: Detector, new: Path, jobs: Jobs) -> Detector:
    return small.learn(new, odd_clips="keep", jobs=jobs, when=WHEN)


@pytest.fixture(scope="module")
def tests(fan: Path) -> list[Path]:
    """One recording of each kind."""
    return sorted((fan / "test").iterdir())[::3]


def scores(detector: Detector, paths: Iterable[Path]) -> list[float]:
    return [detector.score_file(path).score for path in paths]


def require_equal(made: Detector, expected: Detector, tests: list[Path]) -> None:
    """Scores, threshold and what is known of it."""
    np.testing.assert_allclose(scores(made, tests), scores(expected, tests), rtol=1e-9)
    assert (made.threshold is None) == (expected.threshold is None)
    if made.threshold is None or expected.threshold is None:
        return
    np.testing.assert_allclose(made.threshold.normal_scores, expected.threshold.normal_scores, rtol=1e-9)
    assert made.threshold.value == pytest.approx(expected.threshold.value, rel=1e-9)
    assert made.calibration is not None
    assert expected.calibration is not None
    assert made.calibration.how == expected.calibration.how
    assert made.calibration.domain.tolist() == expected.calibration.domain.tolist()


def test_every_back_end_learns_as_a_fit_to_all(
    fan: Path, new: Path, everything: Path, jobs: Jobs, tests: list[Path], tmp_path: Path
) -> None:
    for name in BACKENDS:
        chosen = system(name)
        Detector.fit(fan, chosen, odd_clips="keep", jobs=jobs).save(tmp_path / name)
        made = Detector.load(tmp_path / name).learn(new, odd_clips="keep", jobs=jobs)
        expected = Detector.fit(everything, chosen, odd_clips="keep", jobs=jobs)
        require_equal(made, expected, tests)
        some = sorted(new.iterdir())[::4]
        before, after = (scores(d, some) for d in (Detector.load(tmp_path / name), made))
        assert (before == after) == (name == "mean_squared_error")  # there was something to learn


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_kind_of_system_learns_as_a_fit_to_all(
    name: str, fan: Path, new: Path, everything: Path, jobs: Jobs, tests: list[Path]
) -> None:
    chosen = system(more=SYSTEMS[name])
    made = Detector.fit(fan, chosen, odd_clips="keep", jobs=jobs).learn(new, odd_clips="keep", jobs=jobs)
    require_equal(made, Detector.fit(everything, chosen, odd_clips="keep", jobs=jobs), tests)


def test_a_fused_system_learns_as_a_fit_to_all(
    fan: Path, new: Path, everything: Path, jobs: Jobs, tests: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "both.toml"
    file.write_text(FUSED)
    made = Detector.fit(fan, file, odd_clips="keep", jobs=jobs).learn(new, odd_clips="keep", jobs=jobs)
    expected = Detector.fit(everything, file, odd_clips="keep", jobs=jobs)
    require_equal(made, expected, tests)
    assert made.normals is not None
    assert expected.normals is not None
    np.testing.assert_allclose(made.normals, expected.normals, rtol=1e-9)
    told, wanted = (detector.score_file(tests[0]).branches for detector in (made, expected))
    assert [b.p_value for b in told] == pytest.approx([b.p_value for b in wanted])


FUSED = """
name = "both"
summary = "Near by two back ends."
protocol = "fixed configuration"

[fusion]
weights = "equal"
calibration = "own_normals_log"
false_alarm_rate = 0.1

[branches.one]
system = "spectral_near"
settings = { "branch.encoder_options.n_mels" = 8, "threshold.folds" = 4 }

[branches.other]
system = "spectral_near"
settings = { "branch.encoder_options.n_mels" = 8, "branch.backend" = "nearest_neighbour", "threshold.folds" = 5 }
"""


def test_in_parts_and_in_any_order_it_learns_the_same(
    small: Detector, learnt: Detector, new: Path, jobs: Jobs, tests: list[Path]
) -> None:
    files = sorted(new.iterdir())
    for parts in ([files[:2], files[2:]], [files[5:], files[:1], files[1:5]], [files[::-1]]):
        made = small
        for part in parts:
            made = made.learn(part, odd_clips="keep", jobs=jobs)
        assert scores(made, tests) == scores(learnt, tests)
        assert made.describe_threshold() == learnt.describe_threshold()
        assert made.trained_on["digest"] == learnt.trained_on["digest"]
        assert made.trained_on["domains"] == learnt.trained_on["domains"] == {"source": 19, "target": 12}
        assert len(made.history) == 1 + len(parts)


def test_groups_of_a_table_stay_together(fan: Path, new: Path, jobs: Jobs, tmp_path: Path) -> None:
    """A day that is learnt is scored by fits without it."""

    def plain(folder: Path, files: Iterable[Path], days: Callable[[int], str]) -> Path:
        folder.mkdir()
        rows = ["file_name,domain,day"]
        for number, path in enumerate(files):
            audio.write(folder / f"{days(number)}-{number:02}.wav", audio.read(path)[0], RATE)
            rows.append(f"{days(number)}-{number:02}.wav,source,{days(number)}")
        (folder / "domains.csv").write_text("\n".join(rows))
        return folder

    old = plain(tmp_path / "old", sorted((fan / "train").iterdir()), lambda i: ["mon", "tue", "wed"][i % 3])
    more = plain(tmp_path / "more", sorted(new.iterdir()), lambda _: "thu")
    made = Detector.fit(old, system(), odd_clips="keep", jobs=jobs).learn(more, odd_clips="keep", jobs=jobs)
    assert made.calibration is not None
    assert made.calibration.how["by"] == "group"
    assert made.calibration.how["groups"] == {"source": 4}
    assert made.kept is not None
    (X,) = made.kept.bank.embeddings
    assert X is not None
    thursday = np.array([group == "day thu" for group in made.kept.bank.group])
    without = made.branches[0].unfitted().fit_backend(list(X[~thursday]), np.array(["source"] * 22))
    expected = np.sort(without.anomaly_score(list(X[thursday])))
    np.testing.assert_allclose(
        made.calibration.scores[made.calibration.group == "day thu"], expected, rtol=1e-12
    )


def test_windows_of_long_recordings_are_learnt_as_by_a_fit(
    jobs: Jobs, tests: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that is learnt stays in one part, as if it had been there from the beginning."""
    monkeypatch.setattr("nearfar.decisions.dependence.FEWEST_WINDOWS", 24)
    for number, folder in enumerate(["old", "old", "old", "more"]):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "all").mkdir(exist_ok=True)
        samples = clip(50 + number, seconds=8 * SECONDS, speed=1 + 0.02 * number)
        for place in (folder, "all"):
            audio.write(tmp_path / place / f"press {number}.wav", samples, RATE)
    means: dict[str, Any] = {"odd_clips": "keep", "jobs": jobs}
    detector = Detector.fit(tmp_path / "old", system(), cut=Cut.of(SECONDS), **means)
    made = detector.learn(tmp_path / "more", **means)
    whole = Detector.fit(tmp_path / "all", system(), cut=Cut.of(SECONDS), **means)
    require_equal(made, whole, tests)
    assert made.trained_on["clips"] == 32
    assert made.dependence is not None
    assert (made.dependence.windows, made.dependence) == (32, whole.dependence)
    assert made.history[-1]["recordings"]["windows"] == 8
    assert made.trained_on["recordings"] == whole.trained_on["recordings"]
    assert "1 recording of 3.2 s: 8 windows of 0.4 s" in plain(made)
    with pytest.raises(
        DatasetError, match=r"nothing to learn(.|\n)*press 3.wav#t=0,0.4: the detector knows it"
    ):
        made.learn(tmp_path / "more", **means)


def test_the_old_detector_stays_as_it_is(fan: Path, new: Path, jobs: Jobs, tmp_path: Path) -> None:
    detector = Detector.fit(fan, system(), odd_clips="keep", jobs=jobs)
    detector.save(tmp_path / "before")
    detector.learn(new, odd_clips="keep", jobs=jobs)
    detector.save(tmp_path / "after")
    for name in ("detector.json", "arrays.safetensors"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_it_is_saved_and_learns_on(
    learnt: Detector, new: Path, jobs: Jobs, tests: list[Path], tmp_path: Path
) -> None:
    learnt.save(tmp_path / "learnt")
    loaded = Detector.load(tmp_path / "learnt")
    assert scores(loaded, tests) == scores(learnt, tests)
    assert loaded.history == learnt.history
    more = [path for path in tests if "source_test_normal" in path.name]
    again, expected = (d.learn(more, odd_clips="keep", jobs=jobs, when=WHEN) for d in (loaded, learnt))
    assert scores(again, tests) == scores(expected, tests)
    for name, array in expected.usual.arrays().items() if expected.usual is not None else ():
        assert again.usual is not None
        np.testing.assert_array_equal(again.usual.arrays()[name], array)
    with pytest.raises(DatasetError, match="6 recordings known to the fit"):
        loaded.calibrate([path for path in sorted(new.iterdir()) if "target" in path.name])


# what is usual


def measured(numbers: Iterable[int], *, speed: float = 1.0, seconds: float = 1.2) -> list[Measured]:
    return [measure(clip(number, speed=speed, seconds=seconds), RATE) for number in numbers]


@pytest.mark.parametrize("of_domain", [2, 6])
def test_what_is_usual_is_learnt_as_of_all_clips(of_domain: int) -> None:
    old, new = measured(range(14)), measured(range(50, 50 + of_domain), speed=1.2)
    told, more = ["source"] * 14, ["target"] * of_domain
    traits = Traits.of(old, told, np.ones(14, bool))
    same(traits.usual(), Usual.of(old, told).allowing(old))
    joined = traits.joined(new[:1], more[:1]).joined(new[1:], more[1:])
    all_clips = [*old, *new]
    expected = Usual.of(all_clips, told + more).allowing(all_clips)
    same(joined.usual(), expected, agreement=0.01)
    again = Traits.from_arrays(joined.arrays(), joined.domain).usual().arrays()
    for name, array in joined.usual().arrays().items():
        np.testing.assert_array_equal(again[name], array)


def same(found: Usual, expected: Usual, *, agreement: float = 1e-5) -> None:
    """To single precision; the agreement of old clips is not computed again."""
    of_expected = expected.arrays()
    for name, array in found.arrays().items():
        rtol = agreement if name == "agreement" else 1e-4
        np.testing.assert_allclose(array, of_expected[name], rtol=rtol, atol=1e-5, err_msg=name)


def test_clips_too_short_for_a_relation_are_learnt_beside_others() -> None:
    short, long = measured(range(4), seconds=0.3), measured(range(10, 24))
    assert short[0].pair is None
    traits = Traits.of(short, [""] * 4, np.ones(4, bool))
    assert len(traits.usual().templates) == 0
    joined = traits.joined(long, [""] * 14)
    expected = Usual.of([*short, *long], [""] * 18).allowing([*short, *long])
    same(joined.usual(), expected)
    back = Traits.of(long, [""] * 14, np.ones(14, bool)).joined(short, [""] * 4)
    same(back.usual(), expected)


def test_clips_whose_channels_are_exchanged_do_not_count() -> None:
    clips = measured(range(10))
    odd = measure(clip(77, seconds=1.2)[::-1].copy(), RATE)
    counted = np.array([True] * 10 + [False])
    same(Traits.of([*clips, odd], [""] * 11, counted).usual(), Usual.of(clips, [""] * 10))


def test_a_learnt_length_is_usual(small: Detector, jobs: Jobs, tmp_path: Path) -> None:
    shorter = clip(5, seconds=SECONDS / 2)
    assert any(fault.kind == "short" for fault in small.score(shorter, RATE).faults)
    path = tmp_path / "section_00_source_train_normal_0099_speed_1.wav"
    audio.write(path, clip(6, seconds=SECONDS / 2), RATE)
    learnt = small.learn(path, odd_clips="keep", jobs=jobs)
    assert learnt.trained_on["faults"] == {**small.trained_on["faults"], "both short": 1}
    assert not any(fault.kind == "short" for fault in learnt.score(shorter, RATE).faults)


# which recordings


def left_out(detector: Detector) -> dict[str, str]:
    return {Path(one["clip"]).name: one["kind"] for one in detector.history[-1]["left_out"]}


@pytest.fixture
def odd(new: Path, fan: Path, tmp_path: Path) -> Path:
    """A good clip, and one of each kind that is left out."""
    folder = tmp_path / "odd"
    folder.mkdir()
    names = iter(f"section_00_target_train_normal_{i:04d}_speed_1.3.wav" for i in range(200, 300))
    good = sorted(new.glob("*_target_*"))[0]
    shutil.copy(good, folder / "section_00_target_train_normal_0003_speed_1.3.wav")
    shutil.copy(good, folder / next(names))  # a copy
    soundfile.write(folder / next(names), audio.read(good)[0].T, RATE, subtype="FLOAT")  # the same sound
    shutil.copy(sorted((fan / "train").iterdir())[0], folder / next(names))  # known
    (folder / next(names)).write_bytes(b"")
    audio.write(folder / next(names), clip(1, seconds=SECONDS)[:1], RATE)
    audio.write(folder / next(names), clip(2, seconds=SECONDS), 2 * RATE)
    audio.write(folder / next(names), clip(3, seconds=0.01), RATE)
    dead = clip(4, seconds=SECONDS)
    dead[0] = 0
    audio.write(folder / next(names), dead, RATE)
    return folder


def test_what_cannot_be_learnt_is_named(small: Detector, odd: Path, jobs: Jobs) -> None:
    made = small.learn(odd, jobs=jobs, when=WHEN)
    kinds = ["copy", "copy", "known", "empty", "channels", "rate", "short", "dead"]
    assert [kind for _, kind in sorted(left_out(made).items())] == kinds
    assert made.history[-1]["clips"] == 1
    assert made.trained_on["clips"] == small.trained_on["clips"] + 1
    assert "the detector knows it already" in plain(made)
    kept = small.learn(odd, odd_clips="keep", jobs=jobs)
    assert "dead" not in left_out(kept).values()
    assert kept.history[-1]["clips"] == 2
    with pytest.raises(
        DatasetError, match=r"8 recordings would be left out; remove them(.|\n)*knows it already"
    ):
        small.learn(odd, odd_clips="refuse", jobs=jobs)


def in_another_format(place: Path, files: Iterable[Path], how: str) -> Path:
    """The same sound as FLAC; or as floating-point numbers that are not steps of 16 bits."""
    place.mkdir()
    for file in files:
        samples = audio.read(file)[0].T
        if how == "flac":
            soundfile.write(place / f"{file.stem}.flac", samples, RATE, subtype="PCM_16")
        else:
            noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples.shape) / 2**15
            soundfile.write(place / file.name, (samples + noise).astype("float32"), RATE, subtype="FLOAT")
    return place


@pytest.mark.parametrize("how", ["flac", "float"])
def test_copies_of_old_clips_in_another_format_are_left_out(
    how: str, small: Detector, learnt: Detector, fan: Path, new: Path, jobs: Jobs, tmp_path: Path
) -> None:
    old = sorted((fan / "train").iterdir())[::4]
    copies = in_another_format(tmp_path / "copies", old, how)
    made = small.learn([copies, *new.iterdir()], odd_clips="keep", jobs=jobs, when=WHEN)
    told = {Path(one["clip"]).stem: (one["kind"], one["message"]) for one in made.history[-1]["left_out"]}
    assert told == {
        file.stem: ("copy", f"a copy of {file.name}, which the detector has learnt") for file in old
    }
    assert made.threshold is not None
    assert learnt.threshold is not None
    np.testing.assert_array_equal(made.threshold.normal_scores, learnt.threshold.normal_scores)
    with pytest.raises(DatasetError, match=r"nothing to learn(.|\n)*a copy of section_00") as error:
        small.learn(copies, jobs=jobs)
    assert "--keep-odd" not in str(error.value)


def test_an_excerpt_of_a_long_recording_is_a_copy_window_by_window(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for number in range(3):
        audio.write(tmp_path / "old" / f"press {number}.wav", clip(50 + number, seconds=8 * SECONDS), RATE)
    samples = audio.read(tmp_path / "old" / "press 1.wav")[0]
    n = round(SECONDS * RATE)
    more = np.concatenate([samples[:, 2 * n : 5 * n], clip(60, seconds=2 * SECONDS)], axis=1)
    audio.write(tmp_path / "excerpt.wav", more, RATE)
    detector = Detector.fit(tmp_path / "old", system(), cut=Cut.of(SECONDS), odd_clips="keep", jobs=jobs)
    made = detector.learn(tmp_path / "excerpt.wav", odd_clips="keep", jobs=jobs)
    assert made.history[-1]["clips"] == 2
    told = {one["clip"].rpartition("#")[2]: one["message"] for one in made.history[-1]["left_out"]}
    assert list(told) == ["t=0,0.4", "t=0.4,0.8", "t=0.8,1.2"]
    assert told["t=0,0.4"] == "a copy of press 1.wav#t=0.8,1.2, which the detector has learnt"


def test_a_copy_of_a_recording_of_a_calibration_is_no_longer_later(
    small: Detector, new: Path, jobs: Jobs, tmp_path: Path
) -> None:
    calibrated = small.calibrate(new, false_alarm_rate=0.2)
    copies = in_another_format(tmp_path / "copies", sorted(new.iterdir())[:4], "flac")
    made = calibrated.learn(copies, odd_clips="keep", jobs=jobs)
    assert calibrated.kept is not None
    assert calibrated.kept.later is not None
    assert made.kept is not None
    assert made.kept.later is not None
    assert (len(calibrated.kept.later), len(made.kept.later)) == (9, 5)


def test_only_what_is_odd_is_said_to_be_learnt_with_an_option(
    small: Detector, jobs: Jobs, tmp_path: Path
) -> None:
    name = "section_00_target_train_normal_{}_speed_1.3.wav"
    short, mono, dead = (tmp_path / name.format(f"000{i}") for i in range(3))
    audio.write(short, clip(3, seconds=0.01), RATE)
    audio.write(mono, clip(1, seconds=SECONDS)[:1], RATE)
    samples = clip(4, seconds=SECONDS)
    samples[0] = 0
    audio.write(dead, samples, RATE)
    for path in (short, mono):
        with pytest.raises(
            DatasetError, match=r"nothing to learn: .*; give recordings that it does not"
        ) as error:
            small.learn(path, jobs=jobs)
        assert "keep-odd" not in str(error.value)
    with pytest.raises(DatasetError, match=r"the sound of 1 recording is odd.*--keep-odd"):
        small.learn([short, dead], jobs=jobs)


def test_windows_that_are_left_out_are_named_once(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    broken = clip(60, seconds=4 * SECONDS)
    broken[:, : RATE // 5] = np.nan
    for place in (tmp_path / "old" / "holes.wav", tmp_path / "new.wav"):
        soundfile.write(place, broken.T, RATE, subtype="FLOAT")
        broken = broken * np.float32(0.9)
    audio.write(tmp_path / "old" / "press.wav", clip(50, seconds=16 * SECONDS), RATE)
    detector = Detector.fit(tmp_path / "old", system(), cut=Cut.of(SECONDS), jobs=jobs)
    made = detector.learn(tmp_path / "new.wav", jobs=jobs)
    for told in (detector.trained_on["left_out"], made.history[-1]["left_out"]):
        (one,) = (one for one in told if one["kind"] == "not_finite")
        assert "#t=0,0.4" in one["clip"]
        assert one["message"].startswith("6400 samples are NaN")


def moved(samples: audio.Samples, how: str) -> audio.Samples:
    """What two microphones hear whose channels are exchanged, or of which near is 4 ms late."""
    return (
        samples[::-1].copy() if how == "swapped" else np.stack([np.roll(samples[0], RATE // 250), samples[1]])
    )


@pytest.mark.parametrize(("how", "n", "n_learnt"), [("late", 5, 5), ("late", 1, 0), ("swapped", 5, 0)])
def test_what_a_new_condition_has_in_common_is_no_fault(
    how: str, n: int, n_learnt: int, jobs: Jobs, tmp_path: Path
) -> None:
    """As in a fit to all clips; but a single one is odd, and exchanged channels are a fault."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    for number in range(12):
        name = f"section_00_source_train_normal_{number:04d}_speed_1.wav"
        audio.write(tmp_path / "old" / name, clip(number, seconds=1.5), RATE)
    for number in range(n):
        name = f"section_00_target_train_normal_{number:04d}_speed_1.wav"
        audio.write(tmp_path / "new" / name, moved(clip(50 + number, seconds=1.5), how), RATE)
    more = {"branch.view": "cancelled_3taps", "threshold.false_alarm_rate": 0.2}
    detector = Detector.fit(tmp_path / "old", system(more=more), jobs=jobs)
    with_good = [tmp_path / "new", _good(tmp_path)]
    made = detector.learn(with_good, jobs=jobs)
    assert made.history[-1]["clips"] == 1 + n_learnt
    assert set(left_out(made).values()) == (set() if n_learnt else {how})
    assert made.history[-1]["faults"].get(f"both {how}", 0) == n_learnt
    if n_learnt:
        assert f"both {how} in 5 clips. Learnt all the same" in plain(made)


def test_what_is_odd_is_odd_beside_copies(jobs: Jobs, tmp_path: Path) -> None:
    """As it was in the old recording: it is not all that is new just because the others are copies."""
    (tmp_path / "old").mkdir()
    for number in range(12):
        audio.write(tmp_path / "old" / f"{number:02}.wav", clip(number, seconds=1.5), RATE)
    more = {"branch.view": "cancelled_3taps", "threshold.false_alarm_rate": 0.2}
    detector = Detector.fit(tmp_path / "old", system(more=more), jobs=jobs)
    copies = in_another_format(tmp_path / "copies", sorted((tmp_path / "old").iterdir())[:5], "flac")
    audio.write(copies / "late.wav", moved(clip(50, seconds=1.5), "late"), RATE)
    good = tmp_path / "good.wav"
    audio.write(good, clip(99, seconds=1.5), RATE)
    kinds = left_out(detector.learn([copies, good], jobs=jobs))
    assert kinds == {"late.wav": "late"} | {f"{number:02}.flac": "copy" for number in range(5)}


def _good(folder: Path) -> Path:
    path = folder / "section_00_source_train_normal_0099_speed_1.wav"
    audio.write(path, clip(99, seconds=1.5), RATE)
    return path


def test_nothing_new_is_an_error(learnt: Detector, new: Path, jobs: Jobs) -> None:
    with pytest.raises(DatasetError, match=r"nothing to learn: no recording is new(.|\n)*knows it already"):
        learnt.learn(new, jobs=jobs)


def test_a_recording_without_a_score_is_not_learnt(
    small: Detector, new: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_score(*_: object) -> None:
        raise ValueError("it has no direction")

    monkeypatch.setattr(Branch, "anomaly_score", no_score)
    with pytest.raises(DatasetError, match="cannot be scored, so it is not learnt: it has no direction"):
        small.learn(new, odd_clips="keep", jobs=jobs)


def test_anomalies_by_their_names_are_refused(small: Detector, fan: Path, jobs: Jobs) -> None:
    with pytest.raises(DatasetError, match="6 of 12 recordings are not normal; give the normal ones alone"):
        small.learn(fan / "test", jobs=jobs)
    anomalous = parse_clip(next((fan / "test").glob("*anomaly*")))
    with pytest.raises(DatasetError, match="1 of 1 recordings are not normal"):
        small.learn([anomalous], jobs=jobs)


def test_the_domain_is_told_by_names_or_given(small: Detector, new: Path, jobs: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "monday.wav"
    shutil.copy(sorted(new.iterdir())[-1], path)
    with pytest.raises(
        ValueError,
        match=r"1 recording tell no domain, such as \S+monday.wav, but .* \(16 source, 6 target\); give --domain",
    ):
        small.learn(path, jobs=jobs)
    made = small.learn(path, domain="target", odd_clips="keep", jobs=jobs)
    assert made.history[-1]["domains"] == {"target": 1}
    assert made.trained_on["domains"] == {"source": 16, "target": 7}
    with pytest.raises(ValueError, match=r"domain='source': \S+ is of the domain 'target', by its name"):
        small.learn(sorted(new.glob("*_target_*")), domain="source", jobs=jobs)


def test_clips_without_a_domain_are_one(fan: Path, new: Path, jobs: Jobs, tmp_path: Path) -> None:
    for folder, source in (("old", fan / "train"), ("more", new)):
        (tmp_path / folder).mkdir()
        for number, path in enumerate(sorted(source.iterdir())):
            shutil.copy(path, tmp_path / folder / f"{folder} {number:02}.wav")
    made = Detector.fit(tmp_path / "old", system(), odd_clips="keep", jobs=jobs)
    assert made.learn(tmp_path / "more", odd_clips="keep", jobs=jobs).trained_on["domains"] == {
        "undisclosed": 31
    }
    of_target = made.learn(tmp_path / "more", domain="target", odd_clips="keep", jobs=jobs)
    assert of_target.trained_on["domains"] == {"target": 9, "undisclosed": 22}


def test_a_fault_among_the_new_clips_is_asked_about(
    fan: Path, jobs: Jobs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "new", range(60, 66), domain="source", speed=1.0)
    name = "section_00_source_train_normal_0099_speed_1.wav"
    audio.write(folder / name, clip(99, faulty=True, seconds=SECONDS), RATE)
    made = Detector.fit(fan, system(), odd_clips="keep", jobs=jobs).learn(folder, odd_clips="keep", jobs=jobs)
    assert name in [one["clip"] for one in made.history[-1]["unlike"]]
    assert name in [one["clip"] for one in made.trained_on["unlike"]]
    assert f"most unlike the other training clips: {name}" in caplog.text
    assert "unlike the others" in plain(made)


# what cannot learn


def test_a_detector_that_keeps_nothing_says_what_to_do(
    fan: Path, new: Path, jobs: Jobs, tmp_path: Path
) -> None:
    message = r"keeps nothing to learn on with: .*--no-learning .*before format 7; fit it again to all"
    small = Detector.fit(fan, system(), odd_clips="keep", keep="nothing", jobs=jobs)
    small.save(tmp_path / "small")
    for detector in (small, Detector.load(tmp_path / "small"), Detector.load(GOLDEN / "spectral")):
        assert detector.kept is None
        with pytest.raises(ValueError, match=message):
            detector.learn(new, jobs=jobs)
    assert not any(name.startswith("kept.") for name in load_file(tmp_path / "small" / "arrays.safetensors"))
    assert Detector.load(GOLDEN / "spectral").history[0]["what"] == "fit"
    calibrated = small.calibrate(sorted((fan / "test").glob("*normal*")), false_alarm_rate=0.2)
    assert calibrated.kept is None


def test_a_back_end_that_refuses_the_clips_says_which(fan: Path, new: Path, jobs: Jobs) -> None:
    source = sorted((fan / "train").glob("*_source_*"))
    clips = [replace(parse_clip(path), name=path.name) for path in source]
    detector = fit_to(clips, system("domain_local_density"), jobs)
    with pytest.raises(
        ValueError,
        match=r"cannot learn from the 17 clips that it then has \(16 source, 1 target\): .*one normal",
    ):
        detector.learn(sorted(new.glob("*_target_*"))[:1], odd_clips="keep", jobs=jobs)


def fit_to(clips: list[Clip], chosen: configuration.System, jobs: Jobs) -> Detector:
    from nearfar.recordings.clips import Machine

    return Detector.fit(Machine("fan", tuple(clips)), chosen, odd_clips="keep", jobs=jobs)


def test_a_fit_that_keeps_broken_clips_leaves_what_is_usual(
    fan: Path, new: Path, jobs: Jobs, tmp_path: Path
) -> None:
    folder = shutil.copytree(fan, tmp_path / "fan")
    first = sorted((folder / "train").glob("*_source_*"))[0]
    shutil.copy(first, folder / "train" / "section_00_source_train_normal_0099_speed_1.wav")
    detector = Detector.fit(folder, system(), odd_clips="keep", jobs=jobs)
    made = detector.learn(new, odd_clips="keep", jobs=jobs)
    assert made.usual is detector.usual
    assert "what is usual of a recording: the fit was told to keep broken clips" in plain(made)


# encoders that are fitted to the machine


def autoencoder(backend: str, pooling: str) -> configuration.System:
    more = {"branch.encoder_options.n_mels": 16, "branch.training.epochs": 1}
    return configuration.load(
        "baseline_mse",
        {**more, "branch.backend": backend, "branch.pooling": pooling, "threshold.false_alarm_rate": 0.1,
         "threshold.method": "conformal", "threshold.calibration": "cross_fit", "threshold.folds": 3},
    )  # fmt: skip


def test_an_encoder_that_is_fitted_stays_and_old_clips_keep_their_scores(
    fan: Path, new: Path, jobs: Jobs, tests: list[Path], tmp_path: Path
) -> None:
    detector = Detector.fit(fan, autoencoder("mahalanobis", "mean_std"), odd_clips="keep", jobs=jobs)
    detector.save(tmp_path / "detector")
    made = Detector.load(tmp_path / "detector").learn(new, odd_clips="keep", jobs=jobs)
    encoder, before = made.branches[0].encoder.arrays(), detector.branches[0].encoder.arrays()
    assert all(np.array_equal(encoder[name], array) for name, array in before.items())
    assert made.kept is not None
    bank, is_new = made.kept.bank, made.kept.added > 0
    (X,) = bank.embeddings
    assert X is not None
    domain = np.array(bank.domain)
    again = detector.branches[0].unfitted().fit_backend(list(X), domain)
    np.testing.assert_allclose(
        scores(made, tests), again.anomaly_score([detector.branches[0].embed([c], workers=1, jobs=jobs)[0] for c in
                                                  map(parse_clip, tests)]), rtol=1e-9,
    )  # fmt: skip
    assert made.kept.unseen is not None
    old = np.sort(made.kept.unseen[~is_new, 0])
    assert detector.threshold is not None
    np.testing.assert_allclose(old, detector.threshold.normal_scores, rtol=1e-12)
    for i in np.flatnonzero(
        is_new
    ):  # each by a fit that had not seen it: between all others, and the old alone
        alone = again.unfitted().fit_backend(list(np.delete(X, i, axis=0)), np.delete(domain, i))
        assert made.kept.unseen[i, 0] > 0.5 * alone.anomaly_score([X[i]])[0]
        assert made.kept.unseen[i, 0] != again.anomaly_score([X[i]])[0]
    in_parts = detector
    for files in (sorted(new.iterdir())[4:], sorted(new.iterdir())[:4]):
        in_parts = in_parts.learn(files, odd_clips="keep", jobs=jobs)
    assert in_parts.describe_threshold() == made.describe_threshold()
    assert "the encoder (autoencoder) is fitted to the clips of the fit, and stays" in plain(made)


def test_an_error_of_reconstruction_learns_a_threshold_only(
    fan: Path, new: Path, jobs: Jobs, tests: list[Path], tmp_path: Path
) -> None:
    detector = Detector.fit(fan, autoencoder("mean_squared_error", "rows"), odd_clips="keep", jobs=jobs)
    detector.save(tmp_path / "detector")
    made = Detector.load(tmp_path / "detector").learn(new, odd_clips="keep", jobs=jobs)
    assert scores(made, tests) == scores(detector, tests)
    assert made.threshold is not None
    assert detector.threshold is not None
    expected = [*detector.threshold.normal_scores, *scores(detector, sorted(new.iterdir()))]
    np.testing.assert_allclose(made.threshold.normal_scores, np.sort(expected), rtol=1e-9)
    assert "the back end learns nothing from clips" in plain(made)


def test_rows_are_not_kept(fan: Path, new: Path, jobs: Jobs) -> None:
    chosen = system(
        "selective_mahalanobis", {"branch.pooling": "rows", "branch.backend_options.shrinkage": 0.1}
    )
    detector = Detector.fit(fan, chosen, odd_clips="keep", jobs=jobs)
    with pytest.raises(
        ValueError, match=r"'selective_mahalanobis' learns from all rows of a clip .* fit again to all"
    ):
        detector.learn(new, jobs=jobs)


# beside a calibration


def test_a_calibrated_threshold_is_that_of_its_recordings_and_of_what_is_learnt_since(
    fan: Path, new: Path, jobs: Jobs, tmp_path: Path
) -> None:
    later = [path for path in sorted((fan / "test").iterdir()) if "normal" in path.name]
    first = Detector.fit(fan, system(), odd_clips="keep", jobs=jobs)
    before = first.learn(
        write(tmp_path / "before", [70], domain="source", speed=1.0), odd_clips="keep", jobs=jobs
    )
    before.calibrate(later, false_alarm_rate=0.2).save(tmp_path / "calibrated")
    made = Detector.load(tmp_path / "calibrated").learn(new, odd_clips="keep", jobs=jobs)
    uncalibrated = before.learn(new, odd_clips="keep", jobs=jobs)
    assert made.threshold is not None
    assert made.calibrated_on is not None
    names = {path.name for path in new.iterdir()}
    unseen = [
        s for key, s in uncalibrated.unseen.items() if key.partition("/train/")[2].partition("#")[0] in names
    ]
    assert len(unseen) == 9
    expected = Conformal.fit(np.array([*scores(made, later), *unseen]), false_alarm_rate=0.2)
    np.testing.assert_allclose(made.threshold.normal_scores, expected.normal_scores, rtol=1e-9)
    assert made.calibrated_on["learnt_since"] == 9
    assert [one["what"] for one in made.history] == ["fit", "learn", "calibrate", "learn"]
    assert made.with_false_alarm_rate(0.3).threshold is not None


def test_a_recording_of_a_calibration_that_is_learnt_is_no_longer_later(
    small: Detector, fan: Path, jobs: Jobs
) -> None:
    later = [path for path in sorted((fan / "test").iterdir()) if "normal" in path.name]
    made = small.calibrate(later, false_alarm_rate=0.2).learn(later[:2], odd_clips="keep", jobs=jobs)
    assert made.kept is not None
    assert made.kept.later is not None
    assert len(made.kept.later) == 4
    assert made.threshold is not None
    assert len(made.threshold.normal_scores) == 6
    assert set(np.round(scores(made, later[2:]), 12)) < set(np.round(made.threshold.normal_scores, 12))


# what is kept, and told


def test_texts_come_back_whatever_they_are() -> None:
    clips = [
        Clip(Path("/a/b.wav"), "fan", 0, "train", "/a/b.wav", None, "normal", "", group=""),
        Clip(
            Path("c/ü\udce9\n.wav"),
            "fan",
            0,
            "train",
            "ü\udce9\n.wav",
            "target",
            "normal",
            "x_1",
            group="day, 1",
        ),
    ]
    bank = Bank.of(clips, ["f" * 64, "0" * 64], [7, 8], [np.ones((2, 3), np.float32), None])
    again = Bank.from_arrays(bank.arrays(), 2)
    for name in keeping.TEXTS:
        assert getattr(again, name) == getattr(bank, name)
    assert again.name == ("b.wav", "ü\udce9\n.wav")
    assert again.contents.tolist() == [2**64 - 1, 0]
    assert again.files.tolist() == [7, 8]
    assert again.embeddings[1] is None
    assert [one.domain for one in again.clips("fan")] == [None, "target"]


def test_clips_are_kept_in_the_order_of_a_fit() -> None:
    """Windows by time, not by their names."""
    parts = [
        Clip(Path(name), "fan", 0, "train", name).part(Span(16 * start, 16 * start + 160, 16))
        for name in ("b.wav", "a.wav")
        for start in (100, 10, 20)
    ]
    bank = Bank.of(parts, ["0" * 64] * 6, range(6), [np.arange(6.0)[:, None]])
    again = Bank.from_arrays(bank.select(bank.order).arrays(), 1)
    assert again.name[:3] == ("a.wav#t=10,20", "a.wav#t=20,30", "a.wav#t=100,110")
    assert again.files.tolist() == [4, 5, 3, 1, 2, 0]
    clips = again.clips("fan")
    assert clips[0].path == Path("a.wav")
    assert clips[0].span == parts[4].span
    assert len({one.key for one in clips}) == 6


def test_the_history_says_what_was_added_when(learnt: Detector, small: Detector) -> None:
    fit, learn = learnt.history
    assert fit == {
        "what": "fit", "when": None, "nearfar": fit["nearfar"], "clips": 22, "domains": {"source": 16, "target": 6},
        "digest": small.trained_on["digest"],
    }  # fmt: skip
    assert learn["when"] == "2026-03-01T12:00:00+00:00"
    assert learn["clips"] == 9
    assert learn["domains"] == {"source": 3, "target": 6}
    assert small.threshold is not None
    assert learn["before"]["value"] == small.threshold.value
    assert learn["before"]["domains"]["target"]["clips"] == 6
    assert "learn 2026-03-01T12:00:00+00:00: 9 clips (3 source, 6 target), digest" in plain(learnt)
    assert json.loads(json.dumps(learnt.history)) == list(learnt.history)


def plain(detector: Detector) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.learnt(detector))
    return " ".join(console.export_text().replace("│", " ").split())


# the command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})


def test_the_command_writes_a_new_detector_or_replaces_the_old(
    small: Detector, new: Path, jobs: Jobs, tests: list[Path], tmp_path: Path
) -> None:
    old, made = tmp_path / "old", tmp_path / "made"
    small.save(old)
    before = (old / "detector.json").read_bytes()
    more = ("--keep-odd", "--cache", jobs.root, "--workers", 1)
    assert "give --out for a new detector" in invoke("learn", old, new, *more).output
    assert "not both" in invoke("learn", old, new, "-o", made, "--strict", *more).output
    refused = invoke("learn", old, new, "-o", old, *more)
    assert isinstance(refused.exception, FileExistsError)
    result = invoke("learn", old, new, "-o", made, *more)
    assert result.exit_code == 0
    assert "9 normal clips (3 source, 6 target)" in result.output
    assert (old / "detector.json").read_bytes() == before
    failed = invoke("learn", made, new, "-o", tmp_path / "none", *more)
    assert isinstance(failed.exception, DatasetError)
    assert not (tmp_path / "none").exists()
    assert invoke("learn", old, new, "--replace", *more).exit_code == 0
    assert scores(Detector.load(old), tests) == scores(Detector.load(made), tests)


def test_a_fit_may_keep_nothing(fan: Path, jobs: Jobs, tmp_path: Path) -> None:
    for name, more in (("whole", ()), ("small", ("--no-learning",))):
        result = invoke(
            "fit", fan, "-o", tmp_path / name, "--system", "spectral", "--cache", jobs.root, *more
        )
        assert result.exit_code == 0
    size = {name: (tmp_path / name / "arrays.safetensors").stat().st_size for name in ("whole", "small")}
    assert size["small"] < size["whole"]
    assert Detector.load(tmp_path / "small").kept is None
