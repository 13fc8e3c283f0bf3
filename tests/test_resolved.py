"""Resolved systems: every option has a value, whatever they are restored from says the same."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError
from importlib.metadata import version
from pathlib import Path

import pytest
import quick
from pydantic import ValidationError

from nearfar.backends import BACKENDS, backend_class
from nearfar.embedding import CONDITIONING, conditioning_class
from nearfar.encoders import ENCODERS, encoder_class
from nearfar.encoders.pretrained import WeightsError
from nearfar.files.digests import digest_file
from nearfar.files.steps import Jobs
from nearfar.systems import configuration
from nearfar.systems.components import Component
from nearfar.systems.named import SYSTEMS
from nearfar.systems.options import options_model
from nearfar.systems.resolved import ResolvedSystem, former_defaults, resolve
from nearfar.training import TRAINERS, adapter_trainer, trainer


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "cache")


def resolved(name: str, **settings: object) -> ResolvedSystem:
    found = quick.settings(name) | {k.replace("__", "."): v for k, v in settings.items()}
    return resolve(configuration.load(name, found), seed=5)


@pytest.mark.parametrize("name", sorted(SYSTEMS))
class TestEverySystem:
    def test_comes_back_from_what_it_describes(self, name: str) -> None:
        system = resolved(name)
        content = json.loads(json.dumps(system.describe()))
        assert ResolvedSystem.restore(content) == system
        assert ResolvedSystem.restore(content).identity == system.identity

    def test_can_be_sent_to_another_process(self, name: str) -> None:
        system = resolved(name)
        assert pickle.loads(pickle.dumps(system)) == system

    def test_has_a_value_for_every_option(self, name: str) -> None:
        for branch in resolved(name).branches:
            parts = (branch.encoder, branch.training, branch.adaptation, branch.backend, *branch.conditioning)
            for part in parts:
                if part is not None:
                    fields = set(type(part.options).model_fields)
                    assert set(part.describe()["options"]) == set(part.options.arguments()) == fields

    def test_knows_its_weights_by_content_alone(self, name: str) -> None:
        system = resolved(name)
        for branch in system.branches:
            path = branch.encoder.make().path
            assert branch.weights == (None if path is None else digest_file(path))
            assert path is None or str(path) not in json.dumps(system.identity)


def test_another_class_under_the_same_name_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Component.resolve("encoder", "autoencoder", {}).identity
    monkeypatch.setitem(ENCODERS, "autoencoder", ENCODERS["difference_autoencoder"])
    after = Component.resolve("encoder", "autoencoder", {}).identity
    assert before != after
    assert {**before, "class": None} == {**after, "class": None}


def test_the_code_of_a_wrapped_back_end_counts() -> None:
    given = {"branch.backend": "per_domain_normalized", "branch.backend_options.backend": "mahalanobis"}
    (branch,) = resolve(configuration.load("spectral", given), seed=0).branches
    assert {"nearfar.backends.per_domain_normalized", "nearfar.backends.mahalanobis"} <= set(branch.modules)
    assert branch.backend.identity["wraps"]["class"] == "nearfar.backends.mahalanobis:Mahalanobis"


def test_the_library_of_a_detector_that_is_named_counts() -> None:
    forest = Component.resolve("backend", "outlier", {"detector": "sklearn.ensemble:IsolationForest"})
    assert forest.identity["libraries"] == {"sklearn": version("scikit-learn")}
    assert Component.resolve("encoder", "spectral", {}).identity["libraries"] == {}


def test_defaults_are_written_out() -> None:
    (branch,) = resolve(configuration.load("spectral"), seed=5).branches
    assert branch.encoder.describe() == {
        "name": "spectral",
        "options": {"sample_rate": 16000, "n_fft": 1024, "hop": 512, "n_mels": 128, "floor_db": -10.0},
    }


def test_options_are_of_their_types() -> None:
    encoder = Component.resolve("encoder", "eat", {"blocks": [3, 4], "frames": 512.0})
    assert encoder.options.arguments()["blocks"] == (3, 4)
    assert isinstance(encoder.options.arguments()["frames"], int)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_mel": 5}, r"encoder 'spectral' key 'n_mel'; did you mean 'n_mels'"),
        ({"n_mels": "many"}, r"n_mels='many': Input should be a valid integer"),
        ({"n_mels": "many", "hops": 1}, r"n_mels='many'.*; no encoder 'spectral' key 'hops'"),
    ],
)
def test_wrong_options_are_all_told(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Component.resolve("encoder", "spectral", given)


def test_nothing_can_be_changed() -> None:
    system = resolved("spectral")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'seed'"):
        system.seed = 6  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Instance is frozen"):
        system.branches[0].encoder.options.n_mels = 6  # type: ignore[attr-defined]


def test_the_seed_is_that_of_a_random_back_end_unless_it_is_given() -> None:
    options = {"branch.backend": "gaussians", "branch.backend_options.n_clusters": 1}

    def state(**more: object) -> int:
        system = configuration.load("spectral", options | more)
        return resolve(system, seed=5).branches[0].backend.options.arguments()["random_state"]

    assert state() == 5
    assert state(**{"branch.backend_options.random_state": 7}) == 7


def test_options_of_a_wrapped_back_end_are_resolved_too() -> None:
    given = {"backend": "nearest_neighbour", "backend_options": {"k": 3}}
    wrapper = Component.resolve("backend", "per_domain_normalized", given)
    assert wrapper.options.arguments()["backend_options"] == {"k": 3, "metric": "euclidean"}
    with pytest.raises(ValueError, match="no backend 'nearest_neighbour' key 'kk'; did you mean 'k'"):
        Component.resolve("backend", "per_domain_normalized", {"backend_options": {"kk": 3}})


def test_members_of_an_ensemble_are_branches() -> None:
    settings = {"ensemble__seeds": [1, 2], "ensemble__members": [{}, {"training.epochs": 2}]}
    found = [
        (b.seed, b.training.options.arguments()["epochs"])
        for b in resolved("baseline_mse", **settings).branches
    ]
    assert found == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_a_machine_has_settings_of_its_own() -> None:
    system = configuration.load("spectral", {"machines": {"fan": {"branch.view": "near"}}})
    heard = [resolve(system, seed=0, machine=name).microphones for name in ("fan", "pump")]
    assert heard == [("near",), ("cancelled_3taps",)]


def test_weights_that_are_not_here_are_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEARFAR_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="run `nearfar weights get mn04_as`"):
        resolve(configuration.load("mn04"), seed=0)


def test_what_is_not_known_is_refused() -> None:
    content = resolved("spectral").describe()
    for change, message in (
        ({"threshold": {"method": "oracle"}}, "method"),
        (
            {
                "branches": [
                    {**content["branches"][0], "view": "near", "encoder": {"name": "x", "options": {}}}
                ]
            },
            "'x'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            ResolvedSystem.restore({**content, **change})


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_a_false_alarm_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match=r"false_alarm_rate=.*: must be above 0 and below 1"):
        resolved("spectral").with_false_alarm_rate(rate)


def test_a_false_alarm_rate_without_decisions_has_no_effect_and_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spectral takes no decisions \(threshold.method='none'\)"):
        resolved("spectral", threshold__method="none").with_false_alarm_rate(0.1)


# Former defaults: what detectors of format 1 and 2 left out


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        *(("encoder", name, encoder_class) for name in ENCODERS),
        *(("backend", name, backend_class) for name in BACKENDS),
        *(("training", name, trainer) for name in TRAINERS),
        *(("conditioning", name, conditioning_class) for name in CONDITIONING),
        ("adaptation", "arcface", adapter_trainer),
    ],
)
def test_former_defaults_are_options_still(kind: str, name: str, owner: object) -> None:
    """An option that is renamed or removed needs a rule for old detectors, and this test says so."""
    assert set(former_defaults(kind, name)) <= set(options_model(owner(name)).model_fields)  # type: ignore[operator]


def test_former_defaults_are_those_of_format_2() -> None:
    assert former_defaults("encoder", "spectral") == {
        "sample_rate": 16000, "n_fft": 1024, "hop": 512, "n_mels": 128,
    }  # fmt: skip
    assert former_defaults("training", "autoencoder")["epochs"] == 100
    assert former_defaults("encoder", "hydra") == {}
