"""Clips that an encoder cuts or fills up are told, once for each machine."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import quick
import tiny_weights
from quick import built
from synthetic import RATE, clip, write_machine

from nearfar import Detector
from nearfar.embedding import lengths
from nearfar.embedding.lengths import can_be_unheard, warn_of_lengths
from nearfar.encoders import ENCODERS, Limited, encoder_class
from nearfar.encoders.ced import Ced
from nearfar.encoders.eat import Eat
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.research.sweep import sweep
from nearfar.systems import configuration
from nearfar.systems.configuration import BranchConfig
from nearfar.systems.resolved import former_defaults, resolve_branch


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(lengths, "_said", set())


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "cache")


@pytest.fixture(scope="module")
def fan(tmp_path_factory):
    """Clips of 1 s, 98 frames; one of 2 s."""
    folder = write_machine(tmp_path_factory.mktemp("plant"), "fan", train=10, target=2, test=1)
    audio.write(
        folder / "train" / "section_00_source_train_normal_0003_speed_1.wav", clip(3, seconds=2), RATE
    )
    return folder


def config(frames):
    return BranchConfig(
        encoder="eat",
        encoder_options={"weights": str(tiny_weights.written("eat")), "blocks": (1,), "frames": frames},
        view="near",
        pooling="global_mean_std",
        backend="mahalanobis",
    )


def told(caplog):
    return [r.getMessage() for r in caplog.records if r.name == lengths.__name__]


ADVICE = "with branch.encoder_options.frames='auto' it takes clips as they are"
CUT = (
    "fan: encoder 'eat' does not hear the end of 12 of 12 clips, first "
    f"train/section_00_source_train_normal_0000_speed_1.wav (0.34 s of 1 s are left out); {ADVICE}"
)
CUT_TOO = (
    "fan: encoder 'eat' does not hear the end of 1 of 12 clips, first "
    f"train/section_00_source_train_normal_0003_speed_1.wav (0.38 s of 2 s are left out); {ADVICE}"
)


@pytest.mark.parametrize(("frames", "expected"), [("auto", []), ("clip", []), (208, None), (64, [CUT])])
def test_a_branch_says_which_clips_it_does_not_hear_as_they_are(fan, jobs, caplog, frames, expected):
    clips = datasets.load_machine(fan).train
    found = [built(config(frames)).embed(clips, workers=1, jobs=jobs) for _ in range(2)]
    np.testing.assert_array_equal(found[0], found[1])
    if expected is not None:
        assert told(caplog) == expected
    else:
        assert told(caplog) == [
            f"fan: encoder 'eat' adds zeros to 11 of 12 clips, first train/{clips[0].name} (1.1 s beside 1 s), "
            f"which have a part in the embedding; {ADVICE}"
        ]


def test_what_is_cut_and_what_is_filled_are_told_apart(fan, jobs, caplog):
    clips = datasets.load_machine(fan).train
    built(config(160)).embed(clips, workers=1, jobs=jobs)
    cut, filled = told(caplog)
    assert cut == CUT_TOO
    assert "adds zeros to 11 of 12 clips" in filled
    assert "(0.62 s beside 1 s)" in filled


def test_what_the_store_has_is_told_in_a_later_run(fan, jobs, caplog, monkeypatch):
    clips = datasets.load_machine(fan).train
    built(config(64)).embed(clips, workers=1, jobs=jobs)
    monkeypatch.setattr(lengths, "_said", set())
    built(config(64)).embed(clips, workers=1, jobs=jobs)
    assert told(caplog) == [CUT, CUT]


def test_embeddings_of_another_length_are_not_taken_from_the_store(fan, jobs):
    clips = datasets.load_machine(fan).train
    fixed, own = (built(config(frames)).embed(clips, workers=1, jobs=jobs) for frames in (1024, "auto"))
    assert np.abs(np.array(fixed) - np.array(own)).max() > 1e-3


def quick_eat(frames):
    return {
        **quick.settings("eat_raw"),
        "branch.encoder_options.frames": frames,
        "branch.backend_options": {},
        "branch.backend": "nearest_neighbour",
        "threshold.method": "none",
    }


def eat_raw(frames):
    return configuration.load("eat_raw", quick_eat(frames))


def test_a_detector_says_it_when_it_is_fitted_and_when_it_scores(fan, tmp_path, jobs, caplog, monkeypatch):
    detector = Detector.fit(fan, eat_raw(64), jobs=jobs)
    assert told(caplog) == [CUT.replace("12 of 12", "11 of 11")]  # the one of 2 s is left out
    detector.save(tmp_path / "detector")
    monkeypatch.setattr(lengths, "_said", set())
    caplog.clear()
    paths = sorted((fan / "test").iterdir())
    loaded = Detector.load(tmp_path / "detector")
    assert told(caplog) == []
    scores = [verdict.score for verdict in loaded.score_files(paths)]
    assert told(caplog) == [
        f"fan: encoder 'eat' does not hear the end of {paths[0]} (0.34 s of 1 s are left out); {ADVICE}"
    ]
    samples, rate = audio.read(paths[0])
    assert loaded.score(samples, rate).score == scores[0]


def test_a_saved_detector_keeps_its_length(fan, tmp_path, jobs):
    Detector.fit(fan, eat_raw(64), jobs=jobs).save(tmp_path / "detector")
    again = Detector.load(tmp_path / "detector")
    assert again.system.branches[0].encoder.describe()["options"]["frames"] == 64
    whole = Detector.fit(fan, eat_raw("auto"), jobs=jobs)
    path = next((fan / "test").iterdir())
    assert again.score(path).score != whole.score(path).score


def test_detectors_that_hold_no_length_have_the_former_one():
    plain = config("auto").model_copy(
        update={"encoder_options": {"weights": str(tiny_weights.written("eat"))}}
    )
    frames = [
        resolve_branch(plain, seed=0, defaults=defaults).encoder.describe()["options"]["frames"]
        for defaults in (None, former_defaults)
    ]
    assert frames == ["auto", 1024]


def test_a_sweep_says_it_once(fan, jobs, caplog):
    varied = {"branch.backend": ["nearest_neighbour", "mahalanobis"]}
    sweep("eat_raw", datasets.load(fan.parent), varied, settings=quick_eat(64), jobs=jobs)
    (message,) = told(caplog)
    assert "does not hear the end of 16 of 16 clips" in message


@pytest.mark.parametrize(
    ("seconds", "filled"), [(10.0, 0.0), (10.1, 0.0), (10.11, 0.0), (11.0, 9.23), (20.0, 0.23), (20.1, 0.0)]
)
def test_ced_fills_the_last_part_of_long_clips(seconds, filled, caplog):
    encoder = Ced()
    samples = round(seconds * 16000)
    assert encoder.cut_and_filled(samples) == pytest.approx((0.0, filled))
    warn_of_lengths(encoder, "ced", "fan", {"a.wav": 3.0, "b.wav": seconds})
    expected = (
        f"fan: encoder 'ced' adds zeros to 1 of 2 clips, first b.wav ({filled:.4g} s beside {seconds:.4g} s), "
        "which have a part in the embedding; so does its authors' program with clips of more than 10.12 s"
    )
    assert told(caplog) == ([expected] if filled else [])


@pytest.mark.parametrize("name", ENCODERS)
def test_which_encoders_are_limited(name):
    encoder = encoder_class(name)()
    assert isinstance(encoder, Limited) == (name in ("ced", "eat"))
    assert can_be_unheard(encoder) == (name == "ced")
    assert can_be_unheard(Eat(frames=1024))


def test_machines_and_encoders_are_told_apart(caplog):
    for _ in range(2):
        for machine in ("fan", "pump"):
            for encoder, name in ((Eat(frames=64), "eat"), (Ced(), "ced")):
                warn_of_lengths(encoder, name, machine, {"a.wav": 11.0})
    with caplog.at_level(logging.WARNING):
        assert sorted(m.split(" ")[0] + m.split("'")[1] for m in told(caplog)) == [
            "fan:ced",
            "fan:eat",
            "pump:ced",
            "pump:eat",
        ]
