"""Adapters: their file, and what takes them up: branches, detectors, heads; never another network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import quick
import tiny_weights
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError
from synthetic import clip, write_machine

from nearfar.detector.fitted import Detector
from nearfar.embedding.conditioning import Head
from nearfar.embedding.embeddings import embed
from nearfar.files import digests
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.systems import configuration, named
from nearfar.systems.branches import Branch
from nearfar.systems.fusion import FusedSystem
from nearfar.systems.resolved import resolve_branch
from nearfar.training import adapters
from nearfar.training.adapters import Adapter, AdapterError

ADAPTED = [name for name in named.SYSTEMS if configuration.load(name).branch.adaptation is not None]
FEW = {"threshold.false_alarm_rate": 0.3, "threshold.folds": 2}


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "cache")


@pytest.fixture
def system():
    return configuration.load("dualmic", {**quick.settings("dualmic"), **FEW})


@pytest.fixture
def adapter(system, jobs):
    (found,) = quick.adapters(system, jobs)
    return found


@pytest.fixture(scope="module")
def fan(tmp_path_factory):
    folder = write_machine(tmp_path_factory.mktemp("data"), "fan", train=8, target=4, test=2, seconds=0.5)
    return datasets.load_machine(folder)


# the file


def test_a_file_reads_back(adapter, tmp_path):
    adapter.save(tmp_path / "new.safetensors")
    again = Adapter.load(tmp_path / "new.safetensors")
    assert again.made_with == adapter.made_with
    assert again.digest == adapter.digest
    assert again.machines == ("press", "saw")
    assert {k: a.tobytes() for k, a in again.arrays.items()} == {
        k: a.tobytes() for k, a in adapter.arrays.items()
    }
    assert json.loads(json.dumps(again.describe())) == {**adapter.made_with, "digest": adapter.digest}


def test_a_digest_is_of_everything(adapter, system, jobs):
    (other,) = quick.adapters(system, jobs, seed=1)
    renamed = {f"x{name}": array for name, array in adapter.arrays.items()}
    variants = [
        adapter,
        Adapter(other.arrays, adapter.made_with),
        Adapter(renamed, adapter.made_with),
        Adapter(adapter.arrays, {**adapter.made_with, "seed": 99}),
    ]
    assert len({a.digest for a in variants}) == 4


def test_a_file_that_is_no_adapter_is_an_error(tmp_path, adapter, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no adapter here; `nearfar adapt` trains one"):
        Adapter.load(tmp_path / "none.safetensors")
    save_file({"x": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError, match="no adapter, but other tensors"):
        Adapter.load(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    with pytest.raises(AdapterError, match="damaged, or no adapter"):
        Adapter.load(tmp_path / "text.safetensors")
    adapter.save(tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    with pytest.raises(AdapterError, match="damaged, or no adapter"):
        Adapter.load(tmp_path / "cut.safetensors")
    save_file(dict(adapter.arrays), tmp_path / "told.safetensors", metadata={"nearfar": "no JSON"})
    with pytest.raises(AdapterError, match="its description is damaged"):
        Adapter.load(tmp_path / "told.safetensors")
    monkeypatch.setattr(adapters, "FORMAT", 2)
    adapter.save(tmp_path / "newer.safetensors")
    monkeypatch.setattr(adapters, "FORMAT", 1)
    with pytest.raises(AdapterError, match="an adapter of format 2; this nearfar reads up to format 1"):
        Adapter.load(tmp_path / "newer.safetensors")


# branches


def test_a_branch_hears_with_its_adapter(system, adapter, jobs):
    resolved = resolve_branch(system.branch, seed=0, jobs=jobs)
    branch, plain = Branch(resolved.with_adapter(adapter)), Branch(resolved)
    samples = clip(1)
    here, there = (
        embed(samples, b.encoder, view="near", pooling=system.branch.pooling) for b in (branch, plain)
    )
    assert np.abs(here - there).max() > 1e-3
    none = {k: np.zeros_like(a) if k.endswith(".up") else a for k, a in adapter.arrays.items()}
    branch = Branch(resolved.with_adapter(Adapter(none, adapter.made_with)))
    again = embed(samples, branch.encoder, view="near", pooling=system.branch.pooling)
    np.testing.assert_array_equal(again, there)


@pytest.mark.parametrize(
    ("key", "value"), [("weights", "abc"), ("encoder", "ced"), ("options", {"frames": 512}), ("options", {})]
)
def test_an_adapter_of_another_network_is_refused(key, value, system, adapter, jobs):
    other = Adapter(adapter.arrays, {**adapter.made_with, key: value})
    with pytest.raises(AdapterError, match=f"was trained with {key}="):
        resolve_branch(system.branch, seed=0, jobs=jobs).with_adapter(other)


def test_an_adapter_without_options_was_trained_with_their_former_defaults(system, adapter, jobs):
    former = Adapter(adapter.arrays, {**adapter.made_with, "options": {}})
    fixed = {**system.branch.encoder_options, "frames": 1024}
    branch = system.branch.model_copy(update={"encoder_options": fixed})
    assert resolve_branch(branch, seed=0, jobs=jobs).with_adapter(former).adapter == former
    with pytest.raises(
        AdapterError, match=r"options=\{'frames': 1024\}, but here options=\{'frames': 'auto'\}"
    ):
        resolve_branch(system.branch, seed=0, jobs=jobs).with_adapter(former)


def test_a_branch_that_is_not_adapted_takes_none(adapter, jobs):
    plain = configuration.load("eat_raw", quick.settings("eat_raw"))
    with pytest.raises(
        ValueError, match=r"an adapter was given, but the system has no \[branch.adaptation\]"
    ):
        resolve_branch(plain.branch, seed=0, jobs=jobs).with_adapter(adapter)
    with pytest.raises(ValueError, match="encoder 'eat': this system trains nothing over machines"):
        quick.built(plain.branch).train_adapter([], workers=1, jobs=jobs)


def test_a_branch_that_wants_an_adapter_does_not_listen_without(system, fan, jobs):
    with pytest.raises(ValueError, match="but no adapter was given: train one with `nearfar adapt`"):
        quick.built(system.branch).embed(fan.train, workers=1, jobs=jobs)


# the head


def test_a_head_is_linear_and_of_length_one(rng):
    head = Head()
    with pytest.raises(NotFittedError, match="conditioning 'head' has no weights; it needs an adapter"):
        head.fit(np.ones((3, 4)))
    head.weight_, head.bias_ = rng.standard_normal((2, 4)), rng.standard_normal(2)
    X = rng.standard_normal((3, 4))
    found = head.fit_transform(X)
    for row, x in zip(found, X, strict=True):
        z = [
            sum(w * v for w, v in zip(ws, x, strict=True)) + b
            for ws, b in zip(head.weight_, head.bias_, strict=True)
        ]
        length = (z[0] ** 2 + z[1] ** 2) ** 0.5
        np.testing.assert_allclose(row, [z[0] / length, z[1] / length], rtol=1e-12)
    with pytest.raises(ValueError, match="was trained on 4 dimensions, but the embeddings have 6"):
        head.fit(np.ones((3, 6)))


@pytest.mark.parametrize(
    "change",
    [
        {"branch.view": "near_and_contrast"},
        {"branch.view": "near_twice"},
        {"branch.pooling": "mean_std"},
        {"branch.conditioning": ["standardize", "head"]},
    ],
)
def test_a_head_takes_what_it_was_trained_on(change):
    """Of as many dimensions, all of these, or not told by them."""
    with pytest.raises(
        ValueError, match="'head' was trained on view='near_and_far' and pooling='global_mean_"
    ):
        configuration.load("dualmic_head", change)


def test_a_head_of_another_block_is_refused(jobs):
    system = configuration.load("dualmic_head", quick.settings("dualmic_head"))
    (adapter,) = quick.adapters(system, jobs)
    other = Adapter(adapter.arrays, {**adapter.made_with, "blocks": [2]})
    with pytest.raises(
        AdapterError, match=r"the adapter's head was trained on blocks=\[2\], but here blocks=\[1\]"
    ):
        resolve_branch(system.branch, seed=0, jobs=jobs).with_adapter(other)
    near = configuration.load(
        "dualmic", quick.settings("dualmic")
    )  # of its statistics any block may be scored
    resolve_branch(near.branch, seed=0, jobs=jobs).with_adapter(other)


# detectors


@pytest.mark.parametrize("name", ADAPTED)
def test_a_detector_needs_no_file_of_its_adapter(name, fan, jobs, tmp_path):
    system = configuration.load(name, {**quick.settings(name), **FEW})
    fitted = Detector.fit(fan, system, adapters=quick.adapters(system, jobs), jobs=jobs)
    fitted.save(tmp_path / "detector")
    arrays = load_file(tmp_path / "detector" / "arrays.safetensors")
    assert any(key.startswith("branches.0.encoder.") and key.endswith(".down") for key in arrays)
    assert ("branches.0.conditioning.0.weight_" in arrays) == (name == "dualmic_head")
    described = (tmp_path / "detector" / "detector.json").read_text()
    assert json.loads(described)["trained_on"]["adapters"][0]["machines"].keys() == {"press", "saw"}
    assert str(jobs.root) not in described
    loaded = Detector.load(tmp_path / "detector")
    assert [loaded.score_file(c.path) for c in fan.test] == [fitted.score_file(c.path) for c in fan.test]


def test_another_adapter_gives_other_scores(system, fan, jobs):
    one, other = (
        Detector.fit(fan, system, adapters=quick.adapters(system, jobs, seed=seed), jobs=jobs)
        for seed in (0, 5)
    )
    pairs = [(one.score_file(c.path).score, other.score_file(c.path).score) for c in fan.test]
    assert all(a != b for a, b in pairs)


def test_adapters_that_do_not_suit_are_refused_before_the_work(system, fan, adapter, jobs):
    with pytest.raises(ValueError, match="adapters=0, but dualmic needs 1, one for each branch"):
        Detector.fit(fan, system, jobs=jobs)
    with pytest.raises(ValueError, match="spectral is not adapted, so it takes no adapter"):
        Detector.fit(fan, configuration.load("spectral"), adapters=[adapter], jobs=jobs)
    other = Adapter(adapter.arrays, {**adapter.made_with, "weights": "abc"})
    with pytest.raises(AdapterError, match="was trained with weights='abc'"):
        Detector.fit(fan, system, adapters=[other], jobs=jobs)


def test_an_adapter_keeps_the_weights_of_its_file(adapter):
    """What the fixture says it was made with is what the branch says of its network."""
    assert adapter.made_with["weights"] == digests.digest_file(tiny_weights.written("eat"))


# a fused system


def test_each_part_of_a_fused_system_takes_up_its_own_adapter(system, fan, jobs, tmp_path):
    of_eat = {**quick.settings("dualmic"), **FEW}
    plain = {"branch.encoder_options.n_mels": 16, **FEW}
    asked = FusedSystem(
        name="three",
        branches={
            "one": {"system": "dualmic", "settings": of_eat},
            "plain": {"system": "spectral_near", "settings": plain},
            "other": {"system": "dualmic", "settings": of_eat},
        },
        fusion={"calibration": "own_normals", "false_alarm_rate": 0.3},
    )
    pair = [quick.adapters(system, jobs, seed=seed)[0] for seed in (0, 5)]
    with pytest.raises(
        ValueError, match="adapters=1, but three needs 2, one for each branch that is adapted"
    ):
        Detector.fit(fan, asked, adapters=pair[:1], jobs=jobs)
    fitted = Detector.fit(fan, asked, adapters=pair, jobs=jobs)
    fitted.save(tmp_path / "detector")
    verdict = Detector.load(tmp_path / "detector").score_file(fan.test[0].path)
    for number, adapter_of_it in ((0, pair[0]), (2, pair[1])):
        alone = Detector.fit(fan, system, adapters=[adapter_of_it], jobs=jobs)
        expected = alone.score_file(fan.test[0].path).score
        assert verdict.branches[number].score == pytest.approx(expected, rel=1e-9)
    assert verdict.branches[0].score != verdict.branches[2].score


def test_a_changed_number_is_damage(adapter, tmp_path):
    path = tmp_path / "a.safetensors"
    adapter.save(path)
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=r"a\.safetensors: damaged \(its digest has changed\); restore it"):
        Adapter.load(path)


def test_a_file_without_a_digest_is_taken_as_it_is(adapter, tmp_path):
    """As nearfar 0.1 wrote it."""
    told = json.dumps({"format": 1, **adapter.made_with})
    save_file(dict(adapter.arrays), tmp_path / "old.safetensors", metadata={"nearfar": told})
    assert Adapter.load(tmp_path / "old.safetensors").digest == adapter.digest


@pytest.mark.parametrize("told", ["[]", '{"format": "x"}', '{"format": null}', "[" * 100_000])
def test_a_strange_description_is_damage(adapter, tmp_path, told):
    save_file(dict(adapter.arrays), tmp_path / "a.safetensors", metadata={"nearfar": told})
    with pytest.raises(AdapterError, match="its description is damaged"):
        Adapter.load(tmp_path / "a.safetensors")
