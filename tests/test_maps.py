"""Maps of what is abnormal: they add up to the score, of every system; and they point at what was changed."""

from __future__ import annotations

import naive_maps
import numpy as np
import pytest
import quick
import tiny_weights
from synthetic import RATE, clip, write_machine

from nearfar.detector.fitted import Detector
from nearfar.embedding import CONDITIONING
from nearfar.embedding.embeddings import POOLINGS, VIEWS, embed
from nearfar.encoders import ENCODERS, Located, encoder_class
from nearfar.encoders.axes import frame_edges, mel_edges, patch_positions
from nearfar.encoders.features import BASELINE, Fbank, mel_filters
from nearfar.evidence.maps import _Split, corr_max, maps_of
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.audio import AudioError
from nearfar.recordings.transforms import Transforms
from nearfar.systems import configuration, named
from nearfar.systems.configuration import BranchConfig

DOMAIN = np.array(["source"] * 20 + ["target"] * 6)
ONE_TOKEN = ("dca",)  # encoders whose one token is of the whole clip


@pytest.fixture(scope="module")
def fan(tmp_path_factory):
    return datasets.load_machine(write_machine(tmp_path_factory.mktemp("data"), "fan", train=12, test=1))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    return Jobs(tmp_path_factory.mktemp("cache"))


def fitted(fan, jobs, name="spectral", **settings):
    chosen = {**quick.settings(name), "threshold.false_alarm_rate": 0.3, **settings}
    system = configuration.load(name, chosen)
    return Detector.fit(fan, system, adapters=quick.adapters(system, jobs), jobs=jobs)


def made_of(name):
    """What a map depends on, of a named system."""
    branch = configuration.load(name).branch
    return branch.encoder, branch.view, branch.pooling, str(branch.conditioning), branch.backend


DIFFERENT = {made_of(name): name for name in reversed(named.SYSTEMS)}  # of those made of the same, the first


@pytest.mark.parametrize("name", DIFFERENT.values())
def test_the_values_of_every_system_add_up_to_its_score(name, fan, jobs):
    detector = fitted(fan, jobs, name, **{"threshold.method": "none"})
    samples = clip(7, faulty=True)
    found = maps_of(detector, samples, RATE)
    embeddings = detector._embeddings(samples, RATE)
    scores = [float(b.anomaly_score([x])[0]) for b, x in zip(detector.branches, embeddings, strict=True)]
    for branch, score in zip(detector.branches, scores, strict=True):
        own = [m for m in found if m.score == score]
        assert own
        if not isinstance(branch.encoder, Located):
            assert all(m.is_empty and "one embedding of the whole clip" in m.why_not for m in own)
            continue
        assert sum(m.values.sum() for m in own) == pytest.approx(score, rel=1e-9)
        for m in own:
            assert m.adds_up
            assert not m.why_not
            assert m.how
            assert m.values.shape == (len(m.frequencies) - 1, len(m.times) - 1)
            assert (np.diff(m.times) > 0).all()
            assert (np.diff(m.frequencies) > 0).all()


def branch(rng, **settings):
    """A branch with few bands, fitted to noise; without an encoder of its own."""
    config = BranchConfig.model_validate(
        {
            "encoder": "spectral",
            "encoder_options": {"n_mels": 8, "floor_db": -10.0},
            "view": "near",
            "backend": "mahalanobis",
            "pooling": "mean_std",
            **settings,
        }
    )
    found = quick.built(config)
    X = [embedding(found, noise(rng)) for _ in DOMAIN]
    return found.fit_backend(X, DOMAIN)


def noise(rng):
    return (0.1 * rng.standard_normal((2, RATE // 4))).astype(np.float32)


def embedding(branch, samples):
    return embed(samples, branch.encoder, view=branch.resolved.view, pooling=branch.resolved.pooling)


def split(branch, samples):
    return _Split.of(branch, Transforms(samples)).maps("spectral", 1.0)


BACKENDS_OF_VECTORS = ("mahalanobis", "domain_normalized", "nearest_neighbour", "beam", "gaussians")
COSINE = {"backend": "nearest_neighbour", "backend_options": {"metric": "cosine", "k": 2}}
CASES = [
    *({"pooling": p} for p in POOLINGS if p != "rows"),
    *({"pooling": p, **COSINE} for p in POOLINGS if p != "rows"),
    *({"backend": b} for b in BACKENDS_OF_VECTORS),
    *({"view": v, "pooling": "mean"} for v in VIEWS),
    {"pooling": "rows", "backend": "mean_squared_error"},
    *(
        {
            "pooling": "rows",
            "backend": "selective_mahalanobis",
            "backend_options": {"shrinkage": 0.1, "reduction": r},
        }
        for r in ("clip_mean", "per_frame")
    ),
    {"conditioning": ["standardize"]},
    {"conditioning": ["standardize", {"name": "pca", "components": 5}]},
    {"conditioning": ["standardize", {"name": "whiten", "components": 5}], **COSINE},
    {"conditioning": [{"name": "near_minus_far", "fraction": 0.3}, "standardize"], "view": "near_and_far"},
    {"conditioning": ["standardize", "residual", "standardize"], "view": "near_and_far"},
    {"conditioning": [{"name": "residual", "predicts": "near"}], "view": "near_and_far", **COSINE},
    {"backend": "density_normalized", "backend_options": {"normalization": "difference"}},
    {"backend": "per_domain_normalized", "view": "near_and_contrast", "pooling": "shape_mean_std"},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_values_add_up_whatever_a_branch_is_made_of(settings, rng):
    made = branch(rng, **settings)
    for _ in range(3):
        samples = noise(rng)
        score = made.anomaly_score([embedding(made, samples)])[0]
        found = split(made, samples)
        assert [m.microphone for m in found] == list(VIEWS[made.resolved.view].microphones)
        total = sum(float(m.values.sum()) for m in found)
        assert total == pytest.approx(score, rel=1e-9, abs=1e-12)
        if settings.get("backend") != "density_normalized":  # which has a constant, spread over all cells
            mass = sum(float(np.abs(m.values).sum()) for m in found)
            assert _rest(made, samples) < 1e-6 * mass + 1e-12  # of the sum, what no token explains


def _rest(branch, samples):
    """How far the terms of tokens are from adding up before what is left is spread evenly."""
    one = _Split.of(branch, Transforms(samples))
    terms = branch.backend.terms(one.stages[-1])
    by_token = one._of_rows if branch.resolved.pooling == "rows" else one._of_vector
    return abs(sum(by_token(q).sum() for q in terms.quadratics) - one.score)


def test_every_conditioning_is_traced_back():
    tested = {
        step if isinstance(step, str) else step["name"]
        for case in CASES
        for step in case.get("conditioning", ())
    }
    assert tested == set(CONDITIONING) - {"head"}  # which the systems test


@pytest.mark.parametrize("pooling", ["mean", "shape_mean_std"])
def test_a_map_is_that_of_its_formula(pooling, rng):
    made = branch(rng, pooling=pooling)
    samples = noise(rng)
    frames = made.encoder(samples[:1])[0, 0, :, :, 0].astype(float)
    (quadratic,) = made.backend.terms(embedding(made, samples)).quadratics
    twin = {"mean": naive_maps.map_of_means, "shape_mean_std": naive_maps.map_of_shape}[pooling]
    (found,) = split(made, samples)
    np.testing.assert_allclose(
        found.values, twin(frames, quadratic.centre, quadratic.precision), rtol=1e-4, atol=1e-5
    )


def test_corr_max_has_the_form_and_stays_near_its_dimensions(rng):
    A = rng.normal(size=(6, 9)) * np.arange(1, 7)[:, None]
    covariance = A @ A.T
    form = np.linalg.inv(covariance)
    M = corr_max(form)
    np.testing.assert_allclose(M.T @ M, form, rtol=1e-9, atol=1e-12 * np.abs(form).max())
    np.testing.assert_allclose(M, naive_maps.corr_max(form), rtol=1e-7, atol=1e-9)
    cross = M @ covariance / np.sqrt(np.diag(covariance))  # correlations of the y with the dimensions
    np.testing.assert_allclose(cross, cross.T, atol=1e-9)  # which is what makes their trace the largest
    flat = corr_max(np.diag([4.0, 0.0]))
    np.testing.assert_allclose(flat.T @ flat, np.diag([4.0, 0.0]), atol=1e-12)


def test_an_autoencoder_shows_its_squared_residual(fan, jobs):
    detector = fitted(fan, jobs, "baseline_mse", **{"threshold.method": "none"})
    samples = clip(7, faulty=True)
    (found,) = maps_of(detector, samples, RATE)
    rows = detector._embeddings(samples, RATE)[0].reshape(-1, 5, 32).astype(float)
    expected = np.zeros_like(found.values)
    for vector in range(len(rows)):
        for place in range(5):
            expected[:, vector + place] += rows[vector, place] ** 2 / rows.size
    np.testing.assert_allclose(found.values, expected, rtol=1e-6, atol=1e-6 * expected.max())
    assert found.frequencies[[0, -1]].tolist() == [0.0, 8000.0]


def test_a_map_points_at_a_tone_that_comes_and_goes(fan, jobs):
    detector = fitted(fan, jobs, "spectral_near")
    samples = clip(99)
    time = np.arange(samples.shape[1]) / RATE
    samples[0] += 0.05 * np.sin(2 * np.pi * 3000 * time) * ((time > 0.3) & (time < 0.5))
    (found,) = maps_of(detector, samples, RATE)
    band, frame = np.unravel_index(found.values.argmax(), found.values.shape)
    assert found.frequencies[band] < 3000 * 1.1
    assert found.frequencies[band + 1] > 3000 / 1.1
    assert 0.25 < found.times[frame] < 0.55
    assert found.between(2500, 3500) > 0.5 * found.values.sum()
    assert found.between(0, 8000) == pytest.approx(found.score, rel=1e-9)
    middle = (found.times[:-1] > 0.2) & (found.times[1:] < 0.6)
    near_tone = (found.frequencies[:-1] < 3300) & (found.frequencies[1:] > 2700)
    assert (found.shown >= 0).all()
    assert found.shown[np.ix_(near_tone, middle)].sum() > 0.8 * found.shown.sum() > 0


FUSED = """
name = "two"
summary = "Two parts."
protocol = "fixed configuration"
[fusion]
weights = "equal"
calibration = "own_normals_log"
false_alarm_rate = 0.3
[branches.spectral]
system = "spectral"
[branches.mn04]
system = "mn04"
[branches.mn04.settings]
"branch.encoder_options.weights" = "{weights}"
"""


def test_a_fused_system_has_a_map_of_each_part(fan, jobs, tmp_path):
    weights = str(tiny_weights.written("efficientat"))
    path = tmp_path / "best.toml"
    path.write_text(FUSED.format(weights=weights))
    detector = Detector.fit(fan, path, jobs=jobs)
    found = maps_of(detector, clip(7, faulty=True), RATE)
    assert [m.branch for m in found] == ["spectral", "mn04"]
    verdict = detector.score(clip(7, faulty=True), RATE)
    for m, branch in zip(found, verdict.branches, strict=True):
        assert m.values.sum() == pytest.approx(branch.score, rel=1e-9)
    np.testing.assert_allclose([m.typical for m in found], np.median(detector.normals, axis=0))


def test_a_member_of_an_ensemble_has_its_number(fan, jobs):
    detector = fitted(
        fan, jobs, **{"branch.view": "near_and_far", "ensemble.members": [{}, {"pooling": "mean"}]}
    )
    found = maps_of(detector, clip(7), RATE)
    assert [(m.branch, m.microphone) for m in found] == [
        ("spectral (1 of 2)", "near"),
        ("spectral (1 of 2)", "far"),
        ("spectral (2 of 2)", "near"),
        ("spectral (2 of 2)", "far"),
    ]


def test_a_branch_without_a_map_says_why(fan, jobs, rng):
    forest = fitted(fan, jobs, **{"branch.backend": "outlier", "threshold.method": "none"})
    (found,) = maps_of(forest, clip(7), RATE)
    assert found.is_empty
    assert not found.adds_up
    assert found.why_not == "the back end 'outlier' does not say which terms its score has"
    assert found.score == forest.score(clip(7), RATE).score
    assert found.between(0, 8000) == 0.0
    made = branch(rng, conditioning=["standardize"])
    made.conditioning = [Odd().fit(None)]
    (found,) = split(made, noise(rng))
    assert found.why_not == "the conditioning 'standardize' is not known to be linear"


class Odd:
    def fit(self, X):  # noqa: ARG002
        return self

    def transform(self, X):
        return X


def test_what_cannot_be_scored_has_no_map(fan, jobs):
    detector = fitted(fan, jobs)
    with pytest.raises(AudioError, match=r"0\.010 s"):
        maps_of(detector, clip(7)[:, : RATE // 100], RATE)
    samples = clip(7)
    samples[0, 5] = np.nan
    with pytest.raises(AudioError, match="finite"):
        maps_of(detector, samples, RATE)


# axes


def ready(name):
    options = {}
    if name in tiny_weights.NETWORKS:
        options = {"weights": str(tiny_weights.written(name)), "blocks": (1,)}
    encoder = encoder_class(name)(**options)
    return encoder.with_arrays(encoder.arrays())


LOCATED = [name for name in ENCODERS if issubclass(encoder_class(name), Located)]


def test_encoders_say_where_their_tokens_lie():
    ours = {"spectral", "autoencoder", "difference_autoencoder", *tiny_weights.NETWORKS}
    assert ours <= set(LOCATED)
    assert not {*ONE_TOKEN} & {*LOCATED}


@pytest.mark.parametrize("name", LOCATED)
@pytest.mark.parametrize("seconds", [1.5, 12.0])
def test_cells_cover_the_clip_and_keep_the_sum(name, seconds, rng):
    encoder = ready(name)
    n_samples = int(seconds * encoder.sample_rate)
    shape = (n_samples,) if encoder.microphones == 1 else (2, n_samples)
    tokens = encoder(0.1 * rng.standard_normal((1, *shape)).astype(np.float32))[0]
    terms = rng.standard_normal(tokens.shape)
    times, frequencies, values = encoder.located(terms, n_samples)
    assert values.shape == (len(frequencies) - 1, len(times) - 1)
    assert values.sum() == pytest.approx(terms.sum())
    assert (np.diff(times) > 0).all()
    assert (np.diff(frequencies) > 0).all()
    column = np.median(np.diff(times))
    assert 0 <= times[0] < 0.02
    assert (times[-2] < seconds and times[-1] > seconds - column) or times[-1] > seconds
    assert frequencies[0] <= 50
    assert frequencies[-1] >= 7900


@pytest.mark.parametrize("hertz", [700.0, 3500.0])
@pytest.mark.parametrize("name", LOCATED)
def test_tokens_change_where_a_sound_is_added(name, hertz, rng):
    encoder = ready(name)
    rate, seconds = encoder.sample_rate, 4.0
    time = np.arange(int(seconds * rate)) / rate
    quiet = 0.01 * rng.standard_normal((encoder.microphones, len(time))).astype(np.float32)
    heard = quiet.copy()
    heard[0] += 0.3 * np.sin(2 * np.pi * hertz * time) * ((time > 2.0) & (time < 2.3))
    before, after = (encoder(x if encoder.microphones == 1 else x[None])[0] for x in (quiet, heard))
    times, frequencies, change = encoder.located((after - before) ** 2, len(time))
    change = change - np.median(change, axis=1, keepdims=True)  # attention changes all tokens
    frame = change.sum(axis=0).argmax()
    assert times[max(0, frame - 1)] < 2.3
    assert times[min(frame + 2, len(times) - 1)] > 2.0
    band = change[:, (times[:-1] < 2.3) & (times[1:] > 2.0)].sum(axis=1).argmax()
    assert frequencies[max(0, band - 1)] < hertz < frequencies[min(band + 2, len(frequencies) - 1)]


def test_edges_lie_between_the_centres_of_frames_and_bands():
    edges = mel_edges(BASELINE, np.arange(129))
    peaks = mel_filters(BASELINE).argmax(axis=1) * BASELINE.rate / BASELINE.n_fft
    assert ((edges[:-1] <= peaks + 16) & (peaks - 16 <= edges[1:])).all()
    np.testing.assert_allclose(
        frame_edges(BASELINE, np.arange(4), 1100, centred=True), [0, 0.016, 0.048, 0.06875]
    )
    fbank = Fbank()
    times = frame_edges(fbank, [0, 16, 32], 3000, centred=False)
    np.testing.assert_allclose(times, [0.0075, 0.1675, 0.1875])  # a frame's centre is 12.5 ms after its start
    assert frame_edges(fbank, [0, 16, 32], 1000, centred=False)[-1] == pytest.approx(0.3275)  # filled up
    assert patch_positions(5, 16, 40).tolist() == [0, 16, 40, 56, 80, 96]
