"""What a detector keeps of how normal clips sound: fitted, saved, loaded, learnt, damaged, left out."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.detector import file_format, normal_sounds
from nearfar.detector.fitted import Detector
from nearfar.detector.normal_sounds import DamagedSoundError, NormalSounds, band_edges, measured_bands
from nearfar.evidence.nearest import BY_LEVELS, nearest_normals
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Machine, parse_clip
from nearfar.report import fitted as report
from nearfar.systems import configuration
from nearfar.windows.cutting import Cut

GOLDEN = Path(__file__).parent / "golden" / "detectors"
SECONDS = 0.4
SMALL = {
    "branch.encoder_options.n_mels": 8,
    "branch.encoder_options.n_fft": 512,
    "branch.pooling": "mean_std",
    "threshold.folds": 2,
    "threshold.false_alarm_rate": 0.3,
}
MONO = {"branch.view": "near"}


def fit(
    what: Path | Machine, jobs: Jobs, *, keep: Any = "recordings", cut: Any = "long", **settings: Any
) -> Detector:
    machine = what if isinstance(what, Machine) else datasets.load_machine(what)
    chosen = configuration.load("spectral", SMALL | {k.replace("__", "."): v for k, v in settings.items()})
    return Detector.fit(machine, chosen, keep=keep, cut=cut, jobs=jobs)


def sounds_of(detector: Detector) -> NormalSounds:
    assert detector.sounds is not None
    return detector.sounds


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def written(folder: Path, clips: Iterable[np.ndarray], rate: int = RATE, subtype: str = "PCM_16") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, samples in enumerate(clips):
        soundfile.write(folder / f"clip {number:02}.wav", samples.T, rate, subtype=subtype)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def jobs(root: Path) -> Jobs:
    return Jobs(root / "cache")


@pytest.fixture(scope="module")
def fan(root: Path) -> Path:
    return write_machine(root, "fan", train=28, target=6, test=2, seconds=SECONDS)


@pytest.fixture(scope="module")
def fitted(fan: Path, jobs: Jobs) -> Detector:
    return fit(fan, jobs)


@pytest.fixture
def saved(fitted: Detector, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "detector")
    return tmp_path / "detector"


@pytest.fixture(scope="module")
def test_clip(fan: Path) -> Path:
    return next((fan / "test").glob("*anomaly*"))


# what a fit keeps


def test_levels_are_those_of_every_clip_in_the_order_of_the_bank(fitted: Detector, fan: Path) -> None:
    sounds = sounds_of(fitted)
    assert fitted.kept is not None
    assert sounds.views == ("near", "far", "cancelled_3taps")
    assert (sounds.rate, len(sounds)) == (RATE, 34)
    np.testing.assert_array_equal(sounds.edges, band_edges(RATE))
    np.testing.assert_array_equal(sounds.contents, fitted.kept.bank.contents)
    assert sounds.domain == fitted.kept.bank.domain
    for row, name in enumerate(fitted.kept.bank.name):
        samples, _ = audio.read(fan / "train" / name)
        expected = measured_bands(samples, RATE, sounds.views, sounds.edges)
        np.testing.assert_array_equal((sounds.levels[row], sounds.peaks[row]), expected)
        np.testing.assert_array_equal(sounds.measure(samples, RATE), expected)


def test_the_sound_of_some_is_kept_bit_by_bit(fitted: Detector, fan: Path) -> None:
    sounds = sounds_of(fitted)
    assert len(sounds.clips) == 24
    assert [one.domain for one in sounds.clips].count("target") == 6
    assert [one.row for one in sounds.clips] == sorted({one.row for one in sounds.clips})
    for one in sounds.clips:
        samples, rate = audio.read(fan / "train" / one.name)
        recorded = one.load()
        np.testing.assert_array_equal(recorded.samples, samples)
        assert recorded.rate == one.rate == rate
        assert one.seconds == one.whole_seconds == recorded.header.seconds == SECONDS
        assert sounds.domain[one.row] == one.domain == parse_clip(fan / "train" / one.name).domain
        assert one.attributes in ("speed_1", "speed_1.2")
        levels, _ = sounds.measure(recorded.samples, recorded.rate)
        np.testing.assert_array_equal(levels, sounds.levels[one.row])


def test_saved_and_loaded_it_is_the_same(fitted: Detector, saved: Path) -> None:
    mine, loaded = sounds_of(fitted), sounds_of(Detector.load(saved))
    for name in ("levels", "peaks", "edges", "contents"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(mine, name))
    for name in ("rate", "views", "domain", "keeps_recordings"):
        assert getattr(loaded, name) == getattr(mine, name)
    assert [replace(c, source=b"") for c in loaded.clips] != []
    for one, other in zip(mine.clips, loaded.clips, strict=True):
        assert one.describe() == other.describe()
        assert one.read() == other.read()
        assert (saved / one.file).read_bytes() == one.read()
    assert {p.name for p in saved.iterdir()} == {"detector.json", "arrays.safetensors", "normal"}
    assert len(list((saved / "normal").iterdir())) == 24


def test_two_fits_and_what_is_saved_again_have_equal_bytes(
    fan: Path, saved: Path, jobs: Jobs, tmp_path: Path
) -> None:
    fit(fan, Jobs(tmp_path / "other cache")).save(
        tmp_path / "cold"
    )  # levels are measured while the encoder hears
    fit(fan, jobs).save(tmp_path / "warm")  # or they are known
    Detector.load(saved).save(tmp_path / "again")
    for name in ("cold", "warm", "again"):
        assert files_in(tmp_path / name) == files_in(saved)


def test_levels_that_no_encoder_heard_are_measured(fan: Path, saved: Path, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "cache")
    fit(fan, jobs)
    for folder in jobs.root.glob("jobs/levels"):
        shutil.rmtree(folder)
    fit(fan, jobs).save(tmp_path / "read")  # the store has the embeddings, so only the levels are missing
    assert files_in(tmp_path / "read") == files_in(saved)


def test_no_recordings_and_nothing(fan: Path, jobs: Jobs, saved: Path, tmp_path: Path) -> None:
    numbers = fit(fan, jobs, keep="embeddings")
    numbers.save(tmp_path / "numbers")
    assert "normal" not in {p.name for p in (tmp_path / "numbers").iterdir()}
    assert sounds_of(Detector.load(tmp_path / "numbers")).clips == ()
    assert numbers.kept is not None
    np.testing.assert_array_equal(sounds_of(numbers).levels, sounds_of(Detector.load(saved)).levels)
    none = fit(fan, jobs, keep="nothing")
    none.save(tmp_path / "none")
    assert none.sounds is None
    assert none.kept is None
    assert Detector.load(tmp_path / "none").sounds is None
    with pytest.raises(
        ValueError, match="keep='recording': must be one of 'recordings', 'embeddings', 'nothing'"
    ):
        fit(fan, jobs, keep="recording")


def test_detectors_of_before_have_none_and_are_saved_without() -> None:
    for name in ("spectral", "ensemble", "wrapped", "members"):
        assert Detector.load(GOLDEN / name).sounds is None


def test_calibration_and_another_rate_leave_it(saved: Path, fan: Path) -> None:
    detector = Detector.load(saved)
    assert detector.with_false_alarm_rate(0.4).sounds is detector.sounds
    normals = sorted((fan / "test").glob("*normal*"))
    assert detector.calibrate(normals, false_alarm_rate=0.4).sounds is detector.sounds


# which recordings, and how they are kept


def test_one_microphone(tmp_path: Path, jobs: Jobs) -> None:
    folder = written(tmp_path / "a", (clip(i, seconds=SECONDS)[:1] for i in range(12)))
    sounds = sounds_of(fit(folder, jobs, **MONO))
    assert sounds.views == ("near",)
    assert {one.channels for one in sounds.clips} == {1}
    assert len(sounds.clips) == 12


def test_two_microphones_of_which_the_system_hears_one(fan: Path, jobs: Jobs) -> None:
    detector = fit(fan, jobs, **MONO)
    sounds = sounds_of(detector)
    assert sounds.views == ("near", "far")  # what far hears tells where a sound comes from
    samples = clip(3, seconds=SECONDS)
    levels, peaks = sounds.measure(samples[:1], RATE)
    np.testing.assert_array_equal(levels[0], sounds.measure(samples, RATE)[0][0])
    assert np.isnan(levels[1]).all()
    assert np.isnan(peaks[1]).all()


def test_of_chosen_channels_near_is_first(tmp_path: Path, jobs: Jobs) -> None:
    clips = [clip(i, seconds=SECONDS) for i in range(12)]
    folder = written(tmp_path / "a", (np.stack([far, 0 * far, near]) for near, far in clips))
    sounds = sounds_of(fit(datasets.load_machine(folder, (3, 1)), jobs))
    for one in sounds.clips:
        recorded = one.load()
        expected, _ = audio.read(folder / one.name)
        np.testing.assert_array_equal(recorded.samples, expected[[2, 0]])


def test_four_channels_without_choice_are_kept_as_near_and_far(tmp_path: Path, jobs: Jobs) -> None:
    clips = [clip(i, seconds=SECONDS) for i in range(12)]
    folder = written(tmp_path / "a", (np.concatenate([c, 0.1 * c]) for c in clips))
    assert {one.channels for one in sounds_of(fit(folder, jobs)).clips} == {2}


@pytest.mark.parametrize(("subtype", "gain"), [("PCM_24", 1.0), ("FLOAT", 1.0), ("FLOAT", 40.0)])
def test_more_than_16_bits_and_beyond_full_scale(
    subtype: str, gain: float, tmp_path: Path, jobs: Jobs
) -> None:
    loud = (gain * clip(i, seconds=SECONDS) for i in range(12))
    folder = written(tmp_path / "a", loud, subtype=subtype)
    for one in sounds_of(fit(folder, jobs)).clips:
        expected, _ = audio.read(folder / one.name)
        largest = np.abs(expected).max()
        assert gain == 1 or largest > 1.5
        error = np.abs(one.load().samples - expected).max()
        assert error <= (0 if subtype == "PCM_24" else largest * 2.0**-23)


def test_of_a_long_recording_only_the_window_is_kept(tmp_path: Path, jobs: Jobs) -> None:
    whole = np.concatenate([clip(i, seconds=SECONDS) for i in range(14)], axis=1)
    folder = written(tmp_path / "a", [whole])
    sounds = sounds_of(fit(folder, jobs, cut=Cut.of(SECONDS), threshold__folds_by="random"))
    heard, _ = audio.read(folder / "clip 00.wav")
    assert len(sounds.clips) == 14
    for one in sounds.clips:
        start = round(float(one.name.partition("#t=")[2].partition(",")[0]) * RATE)
        window = heard[:, start : start + round(SECONDS * RATE)]
        np.testing.assert_array_equal(one.load().samples, window)


def test_a_detector_with_a_lower_rate_keeps_the_recordings_rate(tmp_path: Path, jobs: Jobs) -> None:
    folder = written(tmp_path / "a", (clip(i, seconds=3 * SECONDS) for i in range(12)), rate=48_000)
    sounds = sounds_of(fit(folder, jobs))
    assert (sounds.rate, sounds.edges[-1]) == (RATE, RATE / 2)
    for one in sounds.clips:
        samples, rate = audio.read(folder / one.name)
        assert one.rate == rate == 48_000
        np.testing.assert_array_equal(one.load().samples, samples)
        expected = measured_bands(audio.resample(samples, rate, RATE), RATE, sounds.views, sounds.edges)
        np.testing.assert_array_equal(sounds.levels[one.row], expected[0])


def test_what_flac_cannot_hold_is_kept_at_the_rate_of_the_detector_or_not_at_all(
    fan: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(normal_sounds, "holds", lambda channels, rate: channels <= 2 and rate < RATE)
    slow = fit(fan, jobs, branch__encoder_options__sample_rate=8000)
    assert {one.rate for one in sounds_of(slow).clips} == {8000}
    assert {one.load().samples.shape for one in sounds_of(slow).clips} == {(2, round(8000 * SECONDS))}
    assert sounds_of(fit(fan, jobs)).clips == ()
    assert "no sound of a clip is kept: FLAC does not hold 16000 Hz" in caplog.text


def test_long_and_large_clips_are_kept_in_part(
    fan: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normal_sounds, "MOST_SECONDS", 0.25)
    clips = sounds_of(fit(fan, jobs)).clips
    assert {(one.seconds, one.whole_seconds) for one in clips} == {(0.25, SECONDS)}
    np.testing.assert_array_equal(
        clips[0].load().samples, audio.read(fan / "train" / clips[0].name)[0][:, : RATE // 4]
    )
    monkeypatch.setattr(normal_sounds, "MOST_BYTES", 10 * max(len(one.read()) for one in clips))
    found = sounds_of(fit(fan, jobs)).clips
    assert 10 <= len(found) <= 12
    assert sum(one.domain == "target" for one in found) in (5, 6)
    monkeypatch.setattr(normal_sounds, "MOST_BYTES", 1)
    assert len(sounds_of(fit(fan, jobs)).clips) == 4


def test_of_copies_that_were_kept_one_sound_is_kept(tmp_path: Path, jobs: Jobs) -> None:
    folder = written(tmp_path / "a", [clip(i, seconds=SECONDS) for i in [*range(10), 0, 1]])
    chosen = configuration.load("spectral", SMALL)
    detector = Detector.fit(folder, chosen, odd_clips="keep", jobs=jobs)
    assert len(sounds_of(detector)) == 12
    assert len(sounds_of(detector).clips) == 10


# learning


def new_clips(folder: Path) -> Path:
    folder.mkdir()
    for number in range(5):
        name = f"section_00_target_train_normal_{900 + number:04d}_speed_1.4.wav"
        audio.write(folder / name, clip(900 + number, speed=1.4, seconds=SECONDS), RATE)
    return folder


def test_what_is_learnt_joins_in_the_order_of_the_bank(saved: Path, tmp_path: Path, jobs: Jobs) -> None:
    detector, new = Detector.load(saved), new_clips(tmp_path / "new")
    learnt = detector.learn(new, odd_clips="keep", jobs=jobs)
    sounds, before = sounds_of(learnt), sounds_of(detector)
    assert learnt.kept is not None
    np.testing.assert_array_equal(sounds.contents, learnt.kept.bank.contents)
    assert sounds.domain == learnt.kept.bank.domain
    names = {path.name for path in new.iterdir()}
    rows = [row for row, name in enumerate(learnt.kept.bank.name) if name in names]
    for row in rows:
        samples, _ = audio.read(new / learnt.kept.bank.name[row])
        np.testing.assert_array_equal(sounds.levels[row], sounds.measure(samples, RATE)[0])
    np.testing.assert_array_equal(np.delete(sounds.levels, rows, axis=0), before.levels)
    assert len(sounds.clips) == 24  # the limit stays; the new condition has its part, the old ones make room
    kept = {one.name for one in sounds.clips}
    assert names <= kept
    assert kept - names < {one.name for one in before.clips}
    assert [one.domain for one in sounds.clips].count("target") == 11
    for one in sounds.clips:
        assert learnt.kept.bank.name[one.row] == one.name
        assert one.load().samples.shape == (2, round(RATE * SECONDS))


def test_what_is_learnt_can_take_the_place_of_the_old_detector(
    saved: Path, tmp_path: Path, jobs: Jobs
) -> None:
    learnt = Detector.load(saved).learn(new_clips(tmp_path / "new"), odd_clips="keep", jobs=jobs)
    learnt.save(tmp_path / "elsewhere")
    learnt.save(saved, replace=True)
    assert {n: b for n, b in files_in(saved).items() if n.startswith("normal")} == {
        one.file: one.read() for one in sounds_of(learnt).clips
    }
    shutil.rmtree(saved)  # what was saved elsewhere stands alone
    for one in sounds_of(Detector.load(tmp_path / "elsewhere")).clips:
        one.load()


def test_learning_goes_on_without_sounds_that_are_damaged(
    saved: Path, tmp_path: Path, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    for path in sorted((saved / "normal").iterdir())[::2]:
        path.write_bytes(b"")
    learnt = Detector.load(saved).learn(new_clips(tmp_path / "new"), odd_clips="keep", jobs=jobs)
    assert len(sounds_of(learnt).clips) == 12 + 5
    assert caplog.text.count("damaged (its digest has changed)") == 12
    for one in sounds_of(learnt).clips:
        one.load()


def test_who_keeps_no_recordings_does_not_keep_learnt_ones(fan: Path, jobs: Jobs, tmp_path: Path) -> None:
    fit(fan, jobs, keep="embeddings").save(tmp_path / "numbers")
    learnt = Detector.load(tmp_path / "numbers").learn(
        new_clips(tmp_path / "new"), odd_clips="keep", jobs=jobs
    )
    assert sounds_of(learnt).clips == ()
    assert len(sounds_of(learnt)) == 39


# copies that are not whole


def test_a_damaged_or_missing_sound_spoils_nothing_else(
    saved: Path, fitted: Detector, test_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = sorted((saved / "normal").iterdir())[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    third.unlink()
    third.mkdir()
    detector = Detector.load(saved)
    assert detector.score(test_clip) == fitted.score(test_clip)
    clips = {Path(one.file).name: one for one in sounds_of(detector).clips}
    for path, cause in ((first, "missing"), (second, r"damaged \(its digest"), (third, "cannot be read")):
        with pytest.raises(
            DamagedSoundError, match=rf"{path.name}: {cause}.*'section_00_.*Scores do not need it"
        ):
            clips[path.name].load()
    samples, rate = audio.read(test_clip)
    assert len(nearest_normals(detector, samples, rate)) == 3
    with caplog.at_level(logging.WARNING):
        detector.save(tmp_path / "copy")
    assert sum(f"{path.name}: " in caplog.text for path in (first, second, third)) == 3
    copied = Detector.load(tmp_path / "copy")
    assert len(sounds_of(copied).clips) == 21
    for one in sounds_of(copied).clips:
        one.load()


def test_a_detector_that_was_moved_is_whole(saved: Path, tmp_path: Path) -> None:
    moved = saved.rename(tmp_path / "moved")
    assert len(sounds_of(Detector.load(moved)).clips[0].read()) > 0


def test_a_folder_without_the_sounds_is_a_detector(saved: Path, fitted: Detector, test_clip: Path) -> None:
    shutil.rmtree(saved / "normal")
    assert Detector.load(saved).score(test_clip).score == fitted.score(test_clip).score


def test_sounds_are_replaced_with_the_detector_but_nothing_else_is(
    saved: Path, fitted: Detector, fan: Path, jobs: Jobs
) -> None:
    fit(fan, jobs, keep="embeddings").save(saved, replace=True)
    assert not (saved / "normal").exists()
    fitted.save(saved, replace=True)
    (saved / "normal" / "my own notes.flac").write_text("")
    with pytest.raises(FileExistsError, match="not a detector, so it is not replaced"):
        fitted.save(saved, replace=True)
    shutil.rmtree(saved / "normal")
    (saved / "normal").write_text("a file")
    with pytest.raises(FileExistsError, match="not a detector, so it is not replaced"):
        file_format.refuse_to_replace(saved, replace=True)


# the nearest


def test_the_nearest_are_those_of_the_embeddings(fitted: Detector, test_clip: Path) -> None:
    samples, rate = audio.read(test_clip)
    (new,), kept = fitted.embeddings(samples, rate), fitted.kept
    assert kept is not None
    (X,) = kept.bank.embeddings
    assert X is not None
    expected = [
        float(np.sqrt(np.mean([((x - a) / s) ** 2 for x, a, s in zip(row, new, X.std(axis=0), strict=True)])))
        for row in X
    ]
    found = nearest_normals(fitted, samples, rate, 5)
    assert len(found) == 5
    for one in found:
        assert one.branch == "spectral"
        assert one.distance == pytest.approx(expected[one.clip.row], rel=1e-6)
        assert one.rank_of_all == 1 + sum(d < expected[one.clip.row] for d in expected)
    rows = [one.row for one in sounds_of(fitted).clips]
    assert [one.clip.row for one in found] == sorted(rows, key=lambda row: expected[row])[:5]
    assert nearest_normals(fitted, samples, rate, 5, embeddings=[new]) == found


def test_a_clip_that_is_kept_is_nearest_to_itself(fitted: Detector) -> None:
    one = sounds_of(fitted).clips[7]
    recorded = one.load()
    nearest = nearest_normals(fitted, recorded.samples, recorded.rate, 1)[0]
    assert (nearest.clip.name, nearest.rank_of_all) == (one.name, 1)
    assert nearest.distance == pytest.approx(0, abs=1e-5)


def test_without_embeddings_levels_tell_which_are_nearest(fitted: Detector) -> None:
    one = sounds_of(fitted).clips[3]
    recorded = one.load()
    bare = replace(fitted, kept=None)
    found = nearest_normals(bare, recorded.samples, recorded.rate, 2)
    assert [near.branch for near in found] == [BY_LEVELS] * 2
    assert (found[0].clip.name, found[0].distance, found[0].rank_of_all) == (one.name, 0.0, 1)
    alone = nearest_normals(bare, recorded.samples[:1], recorded.rate, 1)  # without the far microphone
    assert alone[0].clip.name == one.name


FUSED = """
name = "two"
summary = "The near microphone beside the cancelled one."
protocol = "fixed configuration"

[fusion]
weights = { low = 0.25, cancelled = 0.75 }
calibration = "own_normals_log"
false_alarm_rate = 0.2

[branches.low]
system = "spectral_near"
[branches.low.settings]
"branch.encoder_options.n_mels" = 16
"branch.encoder_options.sample_rate" = 8000
"threshold.folds" = 2

[branches.cancelled]
system = "spectral_w1"
[branches.cancelled.settings]
"branch.encoder_options.n_mels" = 16
"threshold.folds" = 2
"""


def test_of_a_fused_system_each_part_has_its_nearest(
    fan: Path, jobs: Jobs, test_clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "two.toml").write_text(FUSED)
    detector = Detector.fit(fan, tmp_path / "two.toml", jobs=jobs)
    sounds, kept = sounds_of(detector), detector.kept
    assert kept is not None
    assert (sounds.rate, sounds.views) == (
        RATE,
        ("near", "far", "cancelled"),
    )  # of the branch that hears most
    samples, rate = audio.read(test_clip)
    found = nearest_normals(detector, samples, rate, 2)
    assert [one.branch for one in found] == ["low", "low", "cancelled", "cancelled"]
    for part, new, X in zip(
        ("low", "cancelled"), detector.embeddings(samples, rate), kept.bank.embeddings, strict=True
    ):
        assert X is not None
        distances = np.sqrt((((X - new) / X.std(axis=0)) ** 2).mean(axis=1))
        own = [one for one in found if one.branch == part]
        assert own[0].distance == pytest.approx(min(distances[one.row] for one in sounds.clips))


def test_of_an_ensemble_all_members_together(fan: Path, jobs: Jobs, test_clip: Path) -> None:
    detector = fit(fan, jobs, ensemble__members=[{}, {"backend": "nearest_neighbour"}])
    found = nearest_normals(detector, *audio.read(test_clip), 2)
    assert [one.branch for one in found] == ["spectral"] * 2


def test_none_without_sounds_and_no_fewer_than_one(fitted: Detector, fan: Path, jobs: Jobs) -> None:
    samples = clip(5, seconds=SECONDS)
    assert nearest_normals(replace(fitted, sounds=None), samples, RATE) == ()
    assert nearest_normals(fit(fan, jobs, keep="embeddings"), samples, RATE) == ()
    with pytest.raises(ValueError, match="n=0: must be at least 1"):
        nearest_normals(fitted, samples, RATE, 0)


# the command, and what it tells


def shown(detector: Detector, folder: Path | None = None) -> str:
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(report.detector(detector, folder))
    return " ".join(console.export_text().replace("│", " ").split())


def test_the_table_says_what_is_kept_how_large_it_is_and_how_to_opt_out(
    fitted: Detector, saved: Path, fan: Path, jobs: Jobs
) -> None:
    sounds = sum(p.stat().st_size for p in (saved / "normal").iterdir())
    whole = sum(p.stat().st_size for p in saved.rglob("*") if p.is_file())
    told = shown(fitted, saved)
    assert f"the sound of 24 normal clips (18 source, 6 target) as FLAC, {sounds / 1e6:.1f} MB" in told
    assert "fit --no-recordings keeps no sound, --no-learning nothing" in told
    assert f"The detector has {whole / 1e6:.1f} MB" in told
    assert "embeddings and levels of 34 clips, and the sound of none" in shown(
        fit(fan, jobs, keep="embeddings")
    )
    assert "keeps nothing of its clips: it cannot learn" in shown(fit(fan, jobs, keep="nothing"))
    assert "keeps nothing of its clips" in shown(Detector.load(GOLDEN / "spectral"))
    assert "not how they sound: it was fitted by an older nearfar" in shown(replace(fitted, sounds=None))


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ([], {"detector.json", "arrays.safetensors", "normal"}),
        (["--no-recordings"], {"detector.json", "arrays.safetensors"}),
        (["--no-learning"], {"detector.json", "arrays.safetensors"}),
        (["--no-learning", "--no-recordings"], {"detector.json", "arrays.safetensors"}),
    ],
)
def test_the_command(option: list[str], names: set[str], fan: Path, jobs: Jobs, tmp_path: Path) -> None:
    made = [
        "fit",
        fan,
        "-o",
        tmp_path / "d",
        "--system",
        "spectral",
        "--cache",
        jobs.root,
        "--workers",
        1,
        *option,
    ]
    result = CliRunner().invoke(app, [str(a) for a in made], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "keeps" in result.output
    assert {p.name for p in (tmp_path / "d").iterdir()} == names
    assert (Detector.load(tmp_path / "d").kept is None) == ("--no-learning" in option)
