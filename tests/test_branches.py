"""Branches: what may be put together, fitted to recordings, saved as arrays, and what training costs twice."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import naive
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from quick import built
from safetensors.numpy import load_file
from sklearn.decomposition import PCA
from synthetic import RATE, clip, write_machine
from tiny_encoder import Net, Tiny

from nearfar.backends import BACKENDS
from nearfar.backends.mahalanobis import Mahalanobis
from nearfar.embedding.conditioning import Standardize
from nearfar.embedding.embeddings import POOLINGS, VIEWS, embed, heard
from nearfar.embedding.store import Store
from nearfar.encoders import ENCODERS, encoder_class
from nearfar.encoders.checkpoints import write
from nearfar.encoders.spectral import Spectral
from nearfar.files.arrays import save_arrays
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import parse_clip
from nearfar.recordings.microphones import listen
from nearfar.systems.branches import UNDISCLOSED, attributes, domains, listen_ahead
from nearfar.systems.configuration import BranchConfig, ConditioningStep
from nearfar.systems.resolved import resolve_branch
from nearfar.training.autoencoder import AutoencoderRecipe

SPECTRAL = {
    "encoder": "spectral",
    "encoder_options": {"n_mels": 32},
    "view": "near_and_cancelled",
    "pooling": "mean_std",
    "conditioning": ("standardize",),
    "backend": "mahalanobis",
}
AUTOENCODER = {
    "encoder": "autoencoder",
    "encoder_options": {"n_mels": 32},
    "view": "near",
    "pooling": "rows",
    "backend": "selective_mahalanobis",
    "backend_options": {"rows_per_vector": 5, "batch_size": 256},
    "training": {"epochs": 1},
}


def resolved(configs):
    return [resolve_branch(config, seed=0) for config in configs]


ONE_SIGNAL = [name for name, view in VIEWS.items() if len(view.microphones) == 1]
TOGETHER = [  # suit an encoder of two microphones
    "near_and_cancelled",
    "near_and_cancelled_3taps",
    "near_and_far",
    "near_twice",
]
TWO_SIGNALS = [name for name in VIEWS if name not in ONE_SIGNAL]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return datasets.load_machine(
        write_machine(tmp_path_factory.mktemp("data"), "fan", train=9, target=3, seconds=0.6)
    )


@pytest.fixture
def uneven(tmp_path):
    """Training clips of different length."""
    folder = tmp_path / "fan" / "train"
    folder.mkdir(parents=True)
    clips = []
    for i in range(9):
        domain = "target" if i % 3 == 0 else "source"
        path = folder / f"section_00_{domain}_train_normal_{i:04d}.wav"
        audio.write(path, clip(i, seconds=0.8 + 0.1 * i), RATE)
        clips.append(parse_clip(path))
    return clips


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "cache")


def fit(config, clips, jobs, seed=1):
    return built(BranchConfig(**config), seed=seed).fit(clips, workers=2, jobs=jobs)


def scores(branch, clips):
    """Computed now: with a store of its own."""
    with TemporaryDirectory() as cache:
        return branch.anomaly_score(branch.embed(clips, workers=2, jobs=Jobs(Path(cache))))


def forbid_training(monkeypatch):
    def trained_again(*_args, **_options):
        raise AssertionError("trained again")

    monkeypatch.setattr(AutoencoderRecipe, "train", trained_again)


# configuration


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("encoder", "spectrl", "no encoder 'spectrl'; did you mean 'spectral'"),
        ("view", "near_and_canceled", "no view .* did you mean 'near_and_cancelled'"),
        ("pooling", "mean_sdt", "no pooling .* did you mean 'mean_std'"),
        ("backend", "mahalanobi", "no backend .* did you mean 'mahalanobis'"),
        ("conditioning", ("standardize", "standardise"), "no conditioning .* did you mean 'standardize'"),
        ("encoder_options", {"n_mel": 64}, "no encoder_options key .* did you mean 'n_mels'"),
        ("backend_options", {"shrinkage": 0.1}, "no backend_options key 'shrinkage'"),  # Mahalanobis has none
        ("training", {"epochs": 1}, "'spectral' is not trained"),
        ("pool", "mean", "Extra inputs"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_an_unknown_name_is_an_error(field, value, message):
    with pytest.raises(ValidationError, match=message):
        BranchConfig(**{**SPECTRAL, field: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": {"epoch": 1}}, "no training key 'epoch'; did you mean 'epochs'"),
        ({"training": {"seed": 1}}, "no training key 'seed'"),  # it is the branch's to give
        ({"training": {"encoder": 1}}, "no training key 'encoder'"),
        ({"backend_options": {"reductoin": 1}}, "no backend_options key .* did you mean 'reduction'"),
        ({"backend_options": {"self": 1}}, "no backend_options key 'self'"),
    ],
    ids=str,
)
def test_an_unknown_option_is_an_error(options, message):
    with pytest.raises(ValidationError, match=message):
        BranchConfig(**{**AUTOENCODER, **options})


def test_options_reach_what_they_are_for():
    branch = built(BranchConfig(**AUTOENCODER))
    assert branch.encoder.n_mels == 32
    assert branch.backend.get_params()["rows_per_vector"] == 5


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_may_be_named_without_options(name):
    view = "near" if encoder_class(name).microphones == 1 else "near_and_far"
    assert BranchConfig(encoder=name, view=view, pooling="rows", backend="mean_squared_error").encoder == name


@pytest.mark.parametrize("view", [name for name in VIEWS if name not in TOGETHER])
def test_an_encoder_of_two_microphones_needs_both(view):
    with pytest.raises(
        ValidationError, match=f"view='{view}': encoder 'dca' hears 2 microphones at once"
    ) as error:
        BranchConfig(encoder="dca", view=view, pooling="mean", backend="mahalanobis")
    assert all(name in str(error.value) for name in TOGETHER)


@pytest.mark.parametrize("view", TOGETHER)
def test_an_encoder_of_two_microphones_hears_them_side_by_side(view, machine):
    encoder = encoder_class("dca")(n_mels=16, n_fft=512, frames=16, channels=16)
    samples = audio.load(machine.train[0].path, encoder.sample_rate)
    (given,) = heard(samples, encoder, view)
    expected = [listen(samples, m) for m in VIEWS[view].microphones]
    np.testing.assert_array_equal(given, expected)
    alone = heard(samples, encoder_class("spectral")(), view)
    np.testing.assert_array_equal(alone, expected)


# conditioning

WHITEN = {"name": "whiten", "components": 3}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("pcaa",), "no conditioning 'pcaa'; did you mean 'pca'"),
        (({"name": "whitten"},), "no conditioning 'whitten'; did you mean 'whiten'"),
        (
            ({"name": "pca", "component": 3},),
            "no conditioning 'pca' key 'component'; did you mean 'components'",
        ),
        (({"name": "pca", "components": "many"},), "components='many': Input should be a valid integer"),
        (({"name": "standardize", "components": 3},), "no conditioning 'standardize' key 'components'"),
        (({"components": 3},), r"conditioning.0.table.name\s+Field required"),
        ((3,), r"conditioning.0.table\s+Input should be a valid dictionary"),
    ],
    ids=str,
)
def test_a_wrong_step_is_an_error(steps, message):
    with pytest.raises(ValidationError, match=message):
        BranchConfig(**{**SPECTRAL, "conditioning": steps})


def test_a_step_is_a_name_or_a_table():
    config = BranchConfig(**{**SPECTRAL, "conditioning": ["standardize", WHITEN, {"name": "pca"}]})
    assert config.conditioning == (
        "standardize",
        ConditioningStep(name="whiten", components=3),
        ConditioningStep(name="pca"),
    )
    assert config.conditioning[1].options == {"components": 3}
    assert BranchConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="Instance is frozen"):
        config.conditioning[1].name = "pca"
    standardize, whiten, pca = built(config).conditioning
    assert (whiten.components, pca.components) == (3, None)
    assert isinstance(standardize, Standardize)


@pytest.mark.parametrize(("name", "options"), [("pca", {}), ("whiten", {"whiten": True})])
@pytest.mark.parametrize(("n_clips", "components"), [(40, 4), (40, 6), (5, 4)])
def test_components_are_those_of_scikit_learn(rng, name, options, n_clips, components):
    X = rng.normal(size=(n_clips, 6)) @ rng.normal(size=(6, 6)) + 7
    unseen = rng.normal(size=(9, 6))
    step = conditioner(name, components).fit(X.astype(np.float32))
    expected = PCA(components, svd_solver="full", **options).fit(X.astype(np.float32).astype(float))
    np.testing.assert_allclose(step.transform(unseen), expected.transform(unseen), rtol=1e-9, atol=1e-9)
    assert step.transform(unseen.astype(np.float32)).dtype == np.float64


def conditioner(name, components):
    step = {"name": name, "components": components}
    return built(BranchConfig(**{**SPECTRAL, "conditioning": [step]})).conditioning[0]


def test_whitened_clips_have_the_identity_as_covariance(rng):
    X = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)) + 7
    whitened = conditioner("whiten", None).fit_transform(X)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(5), atol=1e-12)


@pytest.mark.parametrize("name", ["pca", "whiten"])
def test_signs_and_rows_do_not_depend_on_the_order_of_clips(rng, name):
    X, order = rng.normal(size=(30, 5)), rng.permutation(30)
    first, second = (conditioner(name, 3).fit(clips).components_ for clips in (X, X[order]))
    np.testing.assert_allclose(first, second, atol=1e-12)
    largest = np.take_along_axis(first, abs(first).argmax(axis=1)[:, None], axis=1)
    assert (largest > 0).all()


@pytest.mark.parametrize("name", ["pca", "whiten"])
@pytest.mark.parametrize(
    ("n_clips", "copies", "components", "spanned"),
    [(6, 1, 6, 5), (30, 1, 9, 8), (5, 6, 5, 4), (30, 1, 0, 8), (30, 1, -1, 8)],
)
def test_more_components_than_the_clips_span_are_an_error(rng, name, n_clips, copies, components, spanned):
    X = np.concatenate([rng.normal(size=(n_clips, 8))] * copies)
    message = (
        f"components={components}, but {n_clips * copies} normal clips of 8 dimensions span {spanned} around their "
        f"mean .* it must be between 1 and {spanned}$"
    )
    with pytest.raises(ValueError, match=message):
        conditioner(name, components).fit(X)
    assert conditioner(name, None).fit(X).components_.shape == (spanned, 8)


def test_rounding_of_a_large_mean_is_no_component(rng):
    X = 1e9 + rng.normal(size=(6, 40))
    assert np.linalg.matrix_rank(X - X.mean(axis=0)) == 6
    assert conditioner("whiten", None).fit(X).components_.shape == (5, 40)


@pytest.mark.parametrize("name", ["pca", "whiten"])
def test_copies_of_one_clip_have_no_components(name):
    with pytest.raises(ValueError, match="5 normal clips of 3 dimensions do not differ; are they copies"):
        conditioner(name, None).fit(np.ones((5, 3)))


# a frozen encoder


@pytest.mark.parametrize(
    ("view", "pooling"),
    [
        *((view, "mean_std") for view in VIEWS),
        *(("near", pooling) for pooling in POOLINGS if pooling != "rows"),
    ],
)
def test_faults_score_higher_than_normal_clips(machine, jobs, view, pooling):
    branch = fit({**SPECTRAL, "view": view, "pooling": pooling}, machine.train, jobs)
    found = scores(branch, machine.test)
    assert np.isfinite(found).all()
    faulty = np.array([c.label == "anomaly" for c in machine.test])
    if view != "far":  # where the fault is hardly heard
        assert found[faulty].mean() > 1.2 * found[~faulty].mean()


def test_a_score_is_what_the_parts_give(machine, jobs):
    branch = fit(SPECTRAL, machine.train, jobs)

    def embeddings(clips):
        samples = [audio.load(c.path, RATE) for c in clips]
        return np.array(
            [embed(s, branch.encoder, view="near_and_cancelled", pooling="mean_std") for s in samples], float
        )

    fitted, unseen = embeddings(machine.train), embeddings(machine.test)
    mean, std = fitted.mean(axis=0), fitted.std(axis=0)
    domain = [c.domain for c in machine.train]
    expected = [
        naive.nearest_domain_distance((fitted - mean) / std, domain, (x - mean) / std) for x in unseen
    ]
    np.testing.assert_allclose(scores(branch, machine.test), expected, rtol=1e-3)  # single precision in there


@pytest.mark.parametrize("config", [SPECTRAL, AUTOENCODER], ids=["spectral", "autoencoder"])
def test_a_score_does_not_depend_on_the_other_clips(machine, jobs, config):
    branch = fit(config, machine.train, jobs)
    together = scores(branch, machine.test)
    alone = np.concatenate([scores(branch, [c]) for c in machine.test])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(scores(branch, machine.test[::-1]), together[::-1])


@pytest.mark.parametrize("config", [SPECTRAL, AUTOENCODER], ids=["spectral", "autoencoder"])
@pytest.mark.parametrize("through_file", [False, True], ids=["in memory", "through a file"])
def test_arrays_are_all_that_was_learnt(machine, jobs, tmp_path, config, through_file):
    branch = fit(config, machine.train, jobs)
    arrays = branch.arrays()
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "fiu" for a in arrays.values())
    if through_file:
        save_arrays(tmp_path / "arrays.safetensors", arrays)
        arrays = load_file(tmp_path / "arrays.safetensors")
    restored = built(BranchConfig(**config)).with_arrays(arrays)
    np.testing.assert_array_equal(scores(restored, machine.test), scores(branch, machine.test))
    again = restored.arrays()
    assert again.keys() == branch.arrays().keys()
    assert all(np.array_equal(again[name].ravel(), a.ravel()) for name, a in branch.arrays().items())


@pytest.mark.parametrize("name", BACKENDS)
def test_every_back_end_is_restored_from_a_file(rng, tmp_path, name):
    """And behind every conditioning; another seed is set by the fit, which is not told when it is loaded."""
    config = BranchConfig(**{**SPECTRAL, "conditioning": ["standardize", "pca", WHITEN], "backend": name})
    domain = np.array(["source"] * 30 + ["target"] * 10)
    X, unseen = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(6, 5)).astype(np.float32)
    attributes = np.array(["speed_1", "speed_2"] * 20)
    fitted = built(config, seed=5).fit_backend(list(X), domain, attributes)
    save_arrays(tmp_path / "arrays.safetensors", fitted.arrays())
    restored = built(config).with_arrays(load_file(tmp_path / "arrays.safetensors"))
    np.testing.assert_array_equal(restored.anomaly_score(unseen), fitted.anomaly_score(unseen))


def test_a_wrapped_back_end_is_restored_from_a_file(rng, tmp_path):
    options = {"backend": "mahalanobis", "folds": 3}
    config = BranchConfig(
        **{**SPECTRAL, "backend": "per_domain_normalized", "backend_options": options, "conditioning": []}
    )
    X, unseen = rng.normal(size=(40, 5)), rng.normal(size=(6, 5))
    fitted = built(config, seed=5).fit_backend(list(X), np.array(["source", "target"] * 20))
    assert "backend.backends_.1.precision_" in fitted.arrays()
    save_arrays(tmp_path / "arrays.safetensors", fitted.arrays())
    restored = built(config).with_arrays(load_file(tmp_path / "arrays.safetensors"))
    np.testing.assert_array_equal(restored.anomaly_score(unseen), fitted.anomaly_score(unseen))


def test_the_back_end_gets_the_attributes_of_the_training_clips(machine, jobs, monkeypatch):
    told = []
    monkeypatch.setattr(Mahalanobis, "fit", lambda self, *data: told.append(data) or self)
    clips = [replace(c, attributes=f"speed_{i % 2}") for i, c in enumerate(machine.train)]
    fit(SPECTRAL, clips, jobs)
    ((_, domain, attributes),) = told
    assert domain.tolist() == [c.domain for c in clips]
    assert attributes.tolist() == [c.attributes for c in clips]


def test_attributes_are_strings(machine):
    clips = [replace(machine.train[0], attributes=""), replace(machine.train[1], attributes="a_1_b_2")]
    assert attributes(clips).tolist() == ["", "a_1_b_2"]
    assert attributes(clips).dtype.kind == "U"


def test_save_arrays_keeps_strided_arrays(tmp_path):
    strided = np.arange(12.0).reshape(3, 4).T[::2]
    save_arrays(tmp_path / "a.safetensors", {"strided": strided})
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["strided"], strided)


def test_clips_of_different_length_give_equal_dimensions(uneven, jobs):
    assert np.isfinite(scores(fit(SPECTRAL, uneven, jobs), uneven)).all()


def test_undisclosed_clips_are_one_domain(machine, jobs):
    hidden = [replace(c, domain=None) for c in machine.train]
    assert set(domains(hidden)) == {UNDISCLOSED}
    assert domains(machine.train).tolist() == [c.domain for c in machine.train]
    named = [replace(c, domain="source") for c in machine.train]
    test = machine.test
    np.testing.assert_array_equal(
        scores(fit(SPECTRAL, hidden, jobs), test), scores(fit(SPECTRAL, named, jobs), test)
    )


@pytest.mark.parametrize(("options", "expected"), [({}, 7), ({"random_state": 3}, 3)])
def test_the_seed_is_the_random_state_unless_one_is_given(rng, options, expected):
    config = {**AUTOENCODER, "backend_options": {**options, "batch_size": 8}}
    branch = built(BranchConfig(**config), seed=7)
    branch.fit_backend(list(rng.normal(size=(20, 6, 3))), np.array(["source"] * 20))
    assert branch.backend.random_state == expected


def test_a_back_end_without_randomness_takes_no_seed(rng):
    branch = built(BranchConfig(**SPECTRAL), seed=7)
    branch.fit_backend(list(rng.normal(size=(20, 3))), np.array(["source"] * 20))
    assert branch.backend.get_params() == {}


# an encoder that is fitted per machine


@pytest.mark.parametrize("view", TWO_SIGNALS)
def test_training_on_two_signals_is_an_error(machine, jobs, view):
    with pytest.raises(ValueError, match=f"view='{view}': encoder 'autoencoder' is fitted to one waveform"):
        fit({**AUTOENCODER, "view": view}, machine.train, jobs)


@pytest.mark.parametrize("view", ONE_SIGNAL)
def test_training_hears_the_view(machine, jobs, monkeypatch, view):
    heard = []

    def listening(recipe, encoder, waveforms, train=AutoencoderRecipe.train, **options):
        heard.extend(waveforms)
        train(recipe, encoder, heard, **options)

    monkeypatch.setattr(AutoencoderRecipe, "train", listening)
    branch = built(BranchConfig(**{**AUTOENCODER, "view": view}))
    branch.fit_encoder(machine.train, workers=2, jobs=jobs)
    (microphone,) = VIEWS[view].microphones
    expected = [listen(audio.load(c.path, RATE), microphone) for c in machine.train]
    np.testing.assert_array_equal(heard, expected)


def test_a_finished_training_is_not_repeated(machine, jobs, monkeypatch):
    first = scores(fit(AUTOENCODER, machine.train, jobs), machine.test)
    forbid_training(monkeypatch)
    np.testing.assert_array_equal(scores(fit(AUTOENCODER, machine.train, jobs), machine.test), first)
    other_backend = {**AUTOENCODER, "backend": "mean_squared_error", "backend_options": {}}
    fit(other_backend, machine.train, jobs)  # shares the encoder


@pytest.mark.parametrize(
    ("change", "seed", "first"),
    [
        ({"training": {"epochs": 2}}, 1, 0),
        ({"encoder_options": {"n_mels": 64}}, 1, 0),
        ({"view": "far"}, 1, 0),
        ({}, 2, 0),
        ({}, 1, 1),
    ],
    ids=["training", "encoder options", "view", "seed", "clips"],
)
def test_another_training_is_not_taken_for_it(machine, jobs, monkeypatch, change, seed, first):
    fit(AUTOENCODER, machine.train, jobs)
    forbid_training(monkeypatch)
    clips = (machine.train + machine.test)[first:][: len(machine.train)]
    with pytest.raises(AssertionError, match="trained again"):
        fit({**AUTOENCODER, **change}, clips, jobs, seed=seed)


def test_training_is_of_the_seed(machine, tmp_path):
    first, again, other = (
        fit(AUTOENCODER, machine.train, Jobs(tmp_path / cache), seed).encoder.arrays()["0.weight"]
        for cache, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("backend", ["selective_mahalanobis", "mean_squared_error"])
def test_rows_of_clips_of_different_length(uneven, jobs, backend):
    branch = fit({**AUTOENCODER, "backend": backend, "backend_options": {}}, uneven, jobs)
    embedded = branch.embed(uneven, workers=1, jobs=jobs)
    assert len({len(x) for x in embedded}) > 1
    assert np.isfinite(branch.anomaly_score(embedded)).all()


def test_progress_is_told(machine, jobs):
    told = []
    branch = built(BranchConfig(**AUTOENCODER))
    branch.fit(machine.train, workers=1, jobs=jobs, progress=lambda *message: told.append(message))
    n = len(machine.train)
    assert told == [("training", 1, 1), *(("listening", i, n) for i in range(1, n + 1))]


# listening ahead


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Configurations of an encoder with two blocks, by its options and the rest; every run of it is noted."""
    torch.manual_seed(0)
    write(tmp_path / "tiny.safetensors", Net().state_dict(), configuration={})
    monkeypatch.setitem(ENCODERS, "tiny", "tiny_encoder:Tiny")
    by_block = Tiny.by_block

    def noted(self, waveforms, blocks):
        tiny.runs.append(tuple(blocks))
        return by_block(self, waveforms, blocks)

    def tiny(options=None, **rest):
        options = {"weights": str(tmp_path / "tiny.safetensors"), **(options or {})}
        of_branch = {
            "encoder": "tiny",
            "encoder_options": options,
            "pooling": "mean",
            "backend": "mahalanobis",
        }
        return BranchConfig(**{**of_branch, **rest})

    tiny.runs = []
    monkeypatch.setattr(Tiny, "by_block", noted)
    return tiny


def embedded(config, clips, jobs):
    return built(config).embed(clips, workers=1, jobs=jobs)


def test_branches_that_share_a_network_are_listened_to_in_one_run(machine, tiny, tmp_path):
    configs = [
        tiny({"blocks": blocks}, view=view, pooling=pooling)
        for blocks in ((1,), (2, 1))
        for view in ("near", "near_and_contrast")
        for pooling in ("mean", "global_mean_std")
    ]
    ahead, alone, n = Jobs(tmp_path / "ahead"), Jobs(tmp_path / "alone"), len(machine.train)
    listen_ahead(resolved([*configs, *configs]), machine.train, workers=2, jobs=ahead)
    assert tiny.runs == [(1, 2)] * 2 * n
    found = [embedded(config, machine.train, ahead) for config in configs]
    assert len(tiny.runs) == 2 * n
    for config, of_one in zip(configs, found, strict=True):
        np.testing.assert_array_equal(of_one, embedded(config, machine.train, alone))
    del tiny.runs[:]
    listen_ahead(resolved(configs), machine.train, workers=1, jobs=ahead)
    assert tiny.runs == []


def test_other_weights_precisions_and_encoders_are_other_networks(machine, tiny, jobs, tmp_path):
    torch.manual_seed(1)
    write(tmp_path / "other.safetensors", Net().state_dict(), configuration={})
    configs = [
        tiny(),
        tiny({"weights": str(tmp_path / "other.safetensors")}),
        tiny({"precision": "bfloat16"}, pooling="mean_std"),
        BranchConfig(**SPECTRAL),
        BranchConfig(**{**SPECTRAL, "encoder_options": {"n_mels": 16}}),
    ]
    listen_ahead(resolved(configs), machine.train, workers=1, jobs=jobs)
    origins = [content.origin for content in Store(jobs.root).contents()]
    assert sorted((o.encoder, o.microphone, o.precision) for o in origins) == [
        *([("spectral", microphone, "float32") for microphone in ("cancelled", "cancelled", "near", "near")]),
        ("tiny", "near", "bfloat16"),
        ("tiny", "near", "float32"),
        ("tiny", "near", "float32"),
    ]
    assert len({o.weights for o in origins}) == 3
    assert {content.entries for content in Store(jobs.root).contents()} == {len(machine.train)}


def test_what_is_not_kept_is_not_listened_to_ahead(machine, jobs):
    rows = BranchConfig(**{**SPECTRAL, "conditioning": (), "pooling": "rows"})
    listen_ahead(resolved([rows, BranchConfig(**AUTOENCODER)]), machine.train, workers=1, jobs=jobs)
    assert Store(jobs.root).contents() == []
    assert [built(BranchConfig(**c)).uses_store for c in (SPECTRAL, AUTOENCODER)] == [True, False]


def test_of_a_clip_listening_ahead_looks_at_the_recording_alone(machine, tmp_path):
    found = []
    other = {"label": "anomaly", "domain": "elsewhere", "attributes": "none"}
    for cache, clips in (("a", machine.train), ("b", [replace(c, **other) for c in machine.train])):
        listen_ahead(resolved([BranchConfig(**SPECTRAL)]), clips, workers=1, jobs=Jobs(tmp_path / cache))
        found.append([path.read_bytes() for path in sorted((tmp_path / cache / "embeddings").iterdir())])
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_listening_ahead_tells_its_progress(machine, jobs):
    told, n = [], len(machine.train)
    arguments = {"workers": 1, "jobs": jobs, "progress": lambda *message: told.append(message)}
    listen_ahead(resolved([BranchConfig(**SPECTRAL)]), machine.train, **arguments)
    listen_ahead(resolved([BranchConfig(**SPECTRAL)]), machine.train, **arguments)
    assert told == [("listening", n, n)]


class Chosen(Spectral):
    """Of one block only, whose number is an option."""

    def __init__(self, *, blocks: tuple[int, ...] = (1,)):
        super().__init__(n_mels=8)
        self.blocks = blocks


def test_a_branch_with_blocks_but_no_choice_of_them_has_an_encoder_of_its_own(machine, jobs, monkeypatch):
    monkeypatch.setitem(ENCODERS, "chosen", "test_branches:Chosen")
    of_branch = {"encoder": "chosen", "pooling": "mean", "backend": "mahalanobis"}
    configs = [BranchConfig(**of_branch, encoder_options={"blocks": [n]}) for n in (1, 2)]
    listen_ahead(resolved(configs), machine.train, workers=1, jobs=jobs)
    (content,) = Store(jobs.root).contents()
    assert content.entries == 2 * len(machine.train)
