"""Folds: which clips are scored by a fit on which others, and what is kept together."""

import shutil
from collections import Counter
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import write_machine

from nearfar.decisions.calibration import Calibration
from nearfar.decisions.folds import CLUSTERS, LEFT, clusters, deal
from nearfar.decisions.thresholds import ThresholdConfig
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.systems import configuration

DOMAINS = ("source", "target")
GROUPS = ("", "mon", "tue", "wed", "thu")
clips = st.lists(st.tuples(st.sampled_from(DOMAINS), st.sampled_from(GROUPS)), min_size=4, max_size=60)
KNOWN, GROUP, RANDOM = (ThresholdConfig(folds_by=by) for by in ("group_if_known", "group", "random"))


def apart(found, n):
    """The number of the fit that scores each clip."""
    part = np.full(n, -1)
    for number, (fitted_on, held_out) in enumerate(found.pairs):
        assert sorted([*fitted_on, *held_out]) == list(range(n))
        part[held_out] = number
    assert (part >= 0).all()
    return part


@given(clips, st.integers(2, 12), st.integers(0, 3))
def test_a_group_is_never_split_where_groups_count(given_clips, folds, seed):
    domain, groups = (np.array(column) for column in zip(*given_clips, strict=True))
    config = ThresholdConfig(folds=folds)
    found = deal(domain, config, seed=seed, groups=groups.tolist())
    part = apart(found, len(domain))
    together = {}
    for d, g, p in zip(domain, groups, part, strict=True):
        if d in found.groups and g:
            together.setdefault(g, set()).add(p)
    assert all(len(parts) == 1 for parts in together.values())
    assert set(found.groups) | set(found.random_in) == ({*domain} if any(groups) else set())
    assert (found.by == "group") == bool(found.groups)
    assert len(found.pairs) <= min(folds, len(domain))


@given(clips, st.integers(2, 12), st.integers(0, 3))
def test_every_fit_keeps_clips_of_every_domain(given_clips, folds, seed):
    domain, groups = (np.array(column) for column in zip(*given_clips, strict=True))
    config = ThresholdConfig(folds=folds)
    found = deal(domain, config, seed=seed, groups=groups.tolist())
    for d, n in Counter(domain.tolist()).items():
        fewest = min(int((domain[fitted_on] == d).sum()) for fitted_on, _ in found.pairs)
        if d in found.groups:
            assert fewest >= min(LEFT, n - -(-n // min(folds, len(domain))))


@given(clips, st.integers(2, 12))
def test_without_groups_the_folds_are_those_of_former_versions(given_clips, folds):
    domain = np.array([d for d, _ in given_clips])
    one, other = (deal(domain, c.model_copy(update={"folds": folds}), seed=3) for c in (KNOWN, RANDOM))
    np.testing.assert_array_equal(apart(one, len(domain)), apart(other, len(domain)))
    rng, part, dealt = np.random.default_rng(3), np.empty(len(domain), int), 0
    for d in np.unique(domain):  # as they were dealt before there were groups
        members = rng.permutation(np.flatnonzero(domain == d))
        part[members] = (dealt + np.arange(len(members))) % min(folds, len(domain))
        dealt += len(members)
    np.testing.assert_array_equal(apart(one, len(domain)), part)
    assert one.describe() == {"by": "random", "fits": len(one.pairs), "groups": {}, "random_in": {}}


def test_a_day_of_both_domains_is_not_split_between_them():
    domain = np.array(["source"] * 12 + ["target"] * 6)
    days = ["mon", "tue", "wed"] * 6
    found = deal(domain, GROUP, seed=0, groups=days)
    for fitted_on, held_out in found.pairs:
        assert {days[i] for i in fitted_on}.isdisjoint(days[i] for i in held_out)
        assert {*domain[fitted_on]} == {*DOMAINS}
    assert found.groups == {"source": 3, "target": 3}


def test_groups_are_dealt_evenly():
    domain = np.repeat(DOMAINS, [60, 20])
    groups = [f"{d} {i // 4}" for d in DOMAINS for i in range({"source": 60, "target": 20}[d])]
    found = deal(domain, ThresholdConfig(folds=5), seed=1, groups=groups)
    assert [Counter(domain[held_out].tolist()) for _, held_out in found.pairs] == [
        {"source": 12, "target": 4}
    ] * 5


def test_groups_are_of_the_seed():
    groups = [f"day {i // 3}" for i in range(60)]
    parts = [apart(deal(np.full(60, "source"), GROUP, seed=s, groups=groups), 60).tolist() for s in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        (["mon"] * 6, "only one group is known, 'mon'"),
        ([f"day {i}" for i in range(6)], "each group has one clip"),
        (
            ["mon"] * 5 + ["tue"],
            r"its groups are too unequal: a fit without one part of them keeps 1 of 6 clips",
        ),
    ],
)
def test_a_domain_whose_groups_do_not_do_is_dealt_at_random_and_says_so(groups, why):
    domain = np.repeat(DOMAINS, 6)
    found = deal(domain, GROUP, seed=0, groups=[*(["a", "b", "c"] * 2), *groups])
    assert found.random_in == {"target": why}
    assert found.groups == {"source": 3}
    scored = [int((domain[held_out] == "target").sum()) for _, held_out in found.pairs]
    assert max(scored) <= 2


def test_groups_that_are_asked_for_and_not_there_are_an_error():
    domain = np.repeat(DOMAINS, 6)
    message = (
        r"folds_by='group': no domain has two groups .* \(source: no group is known; target: no group is k"
    )
    with pytest.raises(ValueError, match=message):
        deal(domain, GROUP, seed=0, groups=[""] * 12)
    with pytest.raises(
        ValueError, match=r"folds_by='attributes'.*two combinations of attributes in the names"
    ):
        deal(domain, ThresholdConfig(folds_by="attributes"), seed=0, groups=["speed_1"] * 12)
    found = deal(domain, KNOWN, seed=0, groups=["mon"] * 12)
    assert found.by == "random"
    assert set(found.random_in) == {*DOMAINS}


@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.integers(0, 3), st.booleans())
def test_copies_are_never_split(contents, seed, grouped):
    if len({*contents}) == 1:
        return
    recordings = [str(content) for content in contents]
    groups = [f"day {i % 3}" for i in range(len(contents))] if grouped else None
    config = KNOWN.model_copy(update={"folds": 2})
    found = deal(np.full(len(contents), "x"), config, seed=seed, groups=groups, recordings=recordings)
    assert len(found.pairs) == 2
    for fitted_on, held_out in found.pairs:
        assert {contents[i] for i in fitted_on}.isdisjoint(contents[i] for i in held_out)


def test_copies_of_one_recording_alone_have_no_unseen_clip():
    with pytest.raises(
        ValueError, match="the 5 normal clips are copies of one recording, so none of them is unseen"
    ):
        deal(np.full(5, "x"), RANDOM, seed=0, recordings=["same"] * 5)


def test_held_out_scores_one_part_of_groups():
    groups = [f"day {i // 5}" for i in range(20)]
    config = ThresholdConfig(folds=4, calibration="held_out")
    found = deal(np.full(20, "x"), config, seed=0, groups=groups)
    assert len(found.pairs) == 1
    assert found.n_unseen == 5
    assert len({groups[i] for i in found.pairs[0][1]}) == 1
    groups = [f"{d} {i // 5}" for d in DOMAINS for i in range(20)]
    domain = np.repeat(DOMAINS, 20)
    ((_, held_out),) = deal(domain, config, seed=0, groups=groups).pairs
    assert Counter(domain[held_out].tolist()) == {"source": 5, "target": 5}


def test_far_noise_is_told_apart(rng):
    centres = rng.normal(scale=50, size=(CLUSTERS, 8))
    truth = np.repeat(np.arange(CLUSTERS), 10)
    found = clusters(centres[truth] + rng.normal(size=(40, 8)), seed=0)
    assert len({*found}) == CLUSTERS
    assert len({*zip(truth.tolist(), found, strict=True)}) == CLUSTERS
    assert clusters(np.ones((5, 3)), seed=0) == ["far noise 1"] * 5  # all alike


# calibration


def test_a_calibration_counts_by_domain_and_group_and_comes_back():
    known = Calibration.of([5, 1, 2, 9], ["a", "b", "a", "b"], ["x", "", "x", "y"], {"by": "group"})
    assert known.scores.tolist() == [1, 2, 5, 9]
    assert {d: (s.flagged, s.clips) for d, s in known.by_domain(above=4).items()} == {
        "a": (1, 2),
        "b": (1, 2),
    }
    assert {d: (s.flagged, s.clips) for d, s in known.by_group(above=2).items()} == {"x": (1, 2), "y": (1, 1)}
    again = Calibration.restore(known.scores, known.arrays(), known.describe())
    for name in ("scores", "domain", "group"):
        np.testing.assert_array_equal(getattr(again, name), getattr(known, name))
    assert again.how == known.how


# fits


def fit(machine, tmp_path, by, **settings):
    system = configuration.load(
        "spectral", {"threshold.folds_by": by, "threshold.false_alarm_rate": 0.2, **settings}
    )
    return Detector.fit(machine, system, jobs=Jobs(tmp_path / "cache"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A plain folder: four days of six clips."""
    root = tmp_path_factory.mktemp("plain")
    source = write_machine(root, "fan", train=24, target=0, test=0) / "train"
    (root / "saw").mkdir()
    for number, file in enumerate(sorted(source.iterdir())):
        shutil.copy(file, root / "saw" / f"2026-03-{1 + number // 6:02}_{number:03}.wav")
    return root / "saw"


def test_a_fit_keeps_days_together_and_the_detector_says_so(plain, tmp_path):
    fitted = fit(plain, tmp_path, "group_if_known")
    told = fitted.describe_threshold()
    assert told["unseen"] == {"by": "group", "fits": 4, "groups": {"undisclosed": 4}, "random_in": {}}
    assert told["group_names"] == [f"day 2026-03-0{day}" for day in range(1, 5)]
    assert told["domains"]["undisclosed"]["clips"] == 24
    assert f"flagged_undisclosed={told['domains']['undisclosed']['flagged']} of 24" in repr(fitted)
    fitted.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert loaded.describe_threshold() == told
    np.testing.assert_array_equal(loaded.calibration.group, fitted.calibration.group)
    more = loaded.with_false_alarm_rate(0.5).describe_threshold()["domains"]["undisclosed"]
    assert more["flagged"] > told["domains"]["undisclosed"]["flagged"]
    at_random = fit(plain, tmp_path, "random")
    assert at_random.unseen != fitted.unseen
    assert at_random.describe_threshold()["unseen"]["by"] == "random"


def test_a_fit_by_attributes_or_far_noise(tmp_path):
    fan = write_machine(tmp_path, "fan", train=12, target=4, test=0)
    for number, file in enumerate(sorted((fan / "train").iterdir())):
        file.rename(file.with_name(file.name.replace("speed_1.", f"speed_{number % 4}.")))
    found = fit(fan, tmp_path, "attributes").describe_threshold()["unseen"]
    assert found["by"] == "attributes"
    assert found["groups"]["source"] == 4
    found = fit(fan, tmp_path, "far").describe_threshold()["unseen"]
    assert found["by"] == "far noise"
    assert sum(found["groups"].values()) >= 2


def test_far_noise_needs_a_far_microphone(tmp_path):
    folder = tmp_path / "saw"
    folder.mkdir()
    for number in range(6):
        samples = np.random.default_rng(number).normal(scale=0.1, size=(1, 16000)).astype(np.float32)
        audio.write(folder / f"{number}.wav", samples, 16000)
    with pytest.raises(ValueError, match=r"folds_by='far': .*\.wav has 1 channel, and no far microphone"):
        fit(folder, tmp_path, "far", **{"branch.view": "near"})


def test_a_back_end_without_enough_clips_names_the_folds(plain, tmp_path):
    options = {"branch.backend": "gaussians", "branch.backend_options.n_clusters": 20}
    with pytest.raises(
        ValueError, match=r"in a fit for the threshold, to 18 clips: 18 undisclosed; .*by group"
    ):
        fit(plain, tmp_path, "group", **options)


def test_copies_that_are_kept_are_scored_by_one_fit(plain, tmp_path):
    folder = tmp_path / "saw"
    shutil.copytree(plain, folder)
    first = sorted(folder.iterdir())[0]
    shutil.copy(first, folder / "2026-03-04_100.wav")
    machine = datasets.load_machine(folder)
    system = configuration.load("spectral", {"threshold.false_alarm_rate": 0.2})
    fitted = Detector.fit(machine, system, odd_clips="keep", jobs=Jobs(tmp_path / "cache"))
    copies = [fitted.unseen[c.key] for c in machine.train if c.name in (first.name, "2026-03-04_100.wav")]
    assert copies[0] == pytest.approx(copies[1], rel=1e-9)
    assert fitted.describe_threshold()["unseen"]["fits"] == 3  # the days of the copy are one


def test_the_distance_of_the_domains_is_that_of_the_twin(rng: np.random.Generator) -> None:
    scores = rng.normal(size=60).round(1)  # some are equal
    domain = rng.choice(["source", "target", "other"], size=60)
    found = Calibration.of(scores, domain).between_domains()
    source, target = (scores[domain == d].tolist() for d in ("source", "target"))
    assert found == pytest.approx(naive.kolmogorov_smirnov(source, target), abs=1e-15)
    assert Calibration.of(-np.exp(scores), domain).between_domains() == pytest.approx(
        found, abs=1e-15
    )  # ranks alone
    assert Calibration.of(scores, np.repeat("source", 60)).between_domains() is None
    assert Calibration.of([1.0, 2.0], ["target", "source"]).between_domains() == 1
