"""An exported detector says what the detector says: node by node against NumPy, and as a whole."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from nearfar.backends import backend_class
from nearfar.cli import app
from nearfar.decisions import fusing
from nearfar.decisions.thresholds import Conformal, Gamma
from nearfar.detector.fitted import Detector
from nearfar.embedding import CONDITIONING, conditioning_class, embeddings
from nearfar.embedding.embeddings import POOLINGS, VIEWS
from nearfar.encoders.graphs import OPSET, Graph
from nearfar.encoders.spectral import Spectral
from nearfar.export import (
    backend_graphs,
    chain,
    decision_graphs,
    embedding_graphs,
    encoder_graphs,
    exporting,
    parity,
)
from nearfar.export.exporting import Exported, export
from nearfar.export.expressions import Expression, joined
from nearfar.export.fourier_graphs import Frames
from nearfar.export.hearing_graphs import Hearing
from nearfar.export.parity import ParityError
from nearfar.files.steps import Jobs
from nearfar.recordings.microphones import MICROPHONES, listen
from nearfar.report.exported import table
from nearfar.systems import configuration, fusion

RATE = synthetic.RATE
seeds = st.integers(0, 2**32 - 1)


def run(build, **given):
    """What a graph makes of arrays; ``build`` makes an expression of the expressions of these, by name."""
    graph = Graph()
    inputs = {
        name: Expression(graph, graph.input(name, a.dtype.type, (None,) * a.ndim), a.dtype.type)
        for name, a in given.items()
    }
    outcome = build(**inputs)
    graph.output("flat", outcome.reshape(-1).value, outcome.dtype, (None,))
    graph.output("shape", graph.add("Shape", outcome.value), np.int64, (None,))
    flat, shape = parity.light_session(graph.model({}).SerializeToString()).run(None, given)
    return flat.reshape(shape)


class TestGraph:
    def test_equal_arrays_are_kept_once_and_what_no_output_needs_not_at_all(self):
        graph = Graph()
        x = graph.input("x", np.float32, (2,))
        graph.add("Sub", x, np.float32(3))
        graph.output(
            "y", graph.add("Add", graph.add("Mul", x, np.float32(2)), np.float32(2)), np.float32, (2,)
        )
        made = graph.model({"b": "2", "a": "1"})
        assert [node.op_type for node in made.graph.node] == ["Mul", "Add", "Identity"]
        assert [float(onnx.numpy_helper.to_array(one)) for one in made.graph.initializer] == [2.0]
        assert [(one.key, one.value) for one in made.metadata_props] == [("a", "1"), ("b", "2")]

    def test_a_model_is_taken_up_twice_with_one_set_of_weights(self):
        def network():
            graph = Graph()
            x = graph.input("x", np.float32, (2,))
            graph.output("y", graph.add("Mul", x, np.array([2, 3], np.float32)), np.float32, (2,))
            return graph.model({})

        graph = Graph()
        x = graph.input("x", np.float32, (2,))
        once = graph.inline(network(), {"x": x})["y"]
        graph.output("z", graph.inline(network(), {"x": once})["y"], np.float32, (2,))
        made = graph.model({})
        assert len(made.graph.initializer) == 1
        (found,) = parity.light_session(made.SerializeToString()).run(None, {"x": np.ones(2, np.float32)})
        assert found.tolist() == [4, 9]

    def test_a_model_of_another_opset_or_with_other_inputs_is_refused(self):
        graph = Graph()
        graph.output("y", graph.input("x", np.float32, (2,)), np.float32, (2,))
        model = graph.model({})
        with pytest.raises(ValueError, match=r"inputs=\['z'\]: the model expects \['x'\]"):
            Graph().inline(model, {"z": "z"})
        model.opset_import[0].version = OPSET + 1
        with pytest.raises(ValueError, match=f"opset {OPSET + 1} of ONNX; expected {OPSET}"):
            Graph().inline(model, {"x": "x"})


class TestFrames:
    @given(seeds, st.sampled_from([(2, 1), (6, 3), (64, 32), (30, 7), (50, 20), (400, 160), (256, 256)]))
    @settings(max_examples=12, deadline=None)
    def test_spectra_are_those_of_a_fast_fourier_transform_in_another_order(self, seed, lengths):
        n_fft, hop = lengths
        rng = np.random.default_rng(seed)
        waveform = rng.standard_normal(n_fft + 3 * hop).astype(np.float32)
        frames = Frames(rng.uniform(0.1, 1, n_fft), hop)
        found = run(lambda x: frames.spectra(x), x=waveform)
        each = np.lib.stride_tricks.sliding_window_view(waveform, n_fft)[::hop] * frames.window
        expected = np.fft.fft(each.astype(np.float64))
        k = np.arange(found.shape[2]) + frames.rows * np.arange(frames.columns)[:, None]
        assert_allclose(
            found[:, 0] + 1j * found[:, 1], np.moveaxis(expected[:, k], 0, -1), atol=1e-6 * n_fft, rtol=1e-5
        )
        assert set(frames.bins.ravel()) == set(range(1 + n_fft // 2))

    @given(seeds, st.sampled_from([(64, 32), (30, 10), (50, 20)]))
    @settings(max_examples=6, deadline=None)
    def test_back_frames_are_added_where_they_lie(self, seed, lengths):
        n_fft, hop = lengths
        rng = np.random.default_rng(seed)
        waveform = rng.standard_normal(n_fft + 3 * hop).astype(np.float32)
        frames, synthesis = Frames(np.ones(n_fft), hop), rng.uniform(0.1, 1, n_fft)
        expected = np.zeros(len(waveform))
        for start in range(0, 4 * hop, hop):
            expected[start : start + n_fft] += synthesis * waveform[start : start + n_fft]
        found = run(lambda x: frames.waveform(frames.spectra(x), synthesis), x=waveform)
        assert_allclose(found, expected, atol=1e-5)


def two_channels(rng, length, kind):
    """A machine near, noise in both channels; or what a cable that is off gives."""
    noise, machine = rng.standard_normal((2, length)).astype(np.float32)
    samples = np.stack([0.1 * machine + np.roll(noise, 30), noise]).astype(np.float32) / 8
    samples[{"far is silent": 1, "near is silent": 0}.get(kind, slice(0, 0))] = 0
    return samples * np.float32(0 if kind == "silence" else 1)


class TestHearing:
    @pytest.mark.parametrize("microphone", MICROPHONES)
    def test_views_are_those_of_the_recording(self, microphone, rng):
        graph = Graph()
        samples = Expression(graph, graph.input("samples", np.float32, (2, None)), np.float32)
        graph.output("heard", Hearing(samples).view(microphone).value, np.float32, (None,))
        session = parity.light_session(graph.model({}).SerializeToString())
        for length in (600, 2048, 6144, 8000, 20_001):  # shorter than the taps need, whole hops, and not
            for kind in ("usual", "far is silent", "near is silent", "silence"):
                given = two_channels(rng, length, kind)
                (found,) = session.run(None, {"samples": given})
                assert_allclose(found, listen(given, microphone), atol=2e-6 * (np.abs(given).max() or 1))


class TestEncoder:
    @pytest.mark.parametrize("options", [{}, {"floor_db": -10.0}, {"n_mels": 20, "n_fft": 400, "hop": 160}])
    def test_levels_are_those_of_the_encoder(self, options, rng):
        encoder = Spectral(**options)
        waveform = rng.standard_normal(5000).astype(np.float32)
        found = run(lambda x: encoder_graphs.tokens([x], encoder, "spectral", None, "float32")[0], x=waveform)
        assert_allclose(found, encoder(waveform[None]), atol=1e-3)  # dB


class TestEmbedding:
    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_poolings(self, pooling, rng):
        tokens = rng.normal(size=(1, 3, 7, 4, 5)).astype(np.float32)
        tokens[:, :, :, 2] = 1  # a band that is constant
        found = run(lambda x: embedding_graphs.pooled(x, pooling, 3), x=tokens)
        expected = embeddings.joined(*embeddings.pooled_blocks(tokens, pooling))
        assert_allclose(found, expected.reshape(found.shape), atol=1e-5)

    @pytest.mark.parametrize("view", VIEWS)
    def test_views(self, view, rng):
        heard = [rng.normal(size=(1, 4)) for _ in VIEWS[view].microphones]
        named = dict(zip("ab"[: len(heard)], heard, strict=True))
        found = run(lambda **x: embedding_graphs.combined(view, [*x.values()]), **named)
        assert_allclose(found, VIEWS[view].combine(*heard))

    @pytest.mark.parametrize("name", sorted(set(CONDITIONING) - {"head"}))
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_conditioning(self, name, dtype, rng):
        X = rng.normal(size=(20, 6)).astype(dtype)
        step = conditioning_class(name)().fit(X)
        x = rng.normal(size=(1, 6)).astype(dtype)
        assert_allclose(
            run(lambda x: embedding_graphs.conditioned(step, x), x=x), step.transform(x), rtol=1e-5
        )

    def test_the_head_of_an_adapter(self, rng):
        step = conditioning_class("head")()
        step.weight_, step.bias_ = rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=3)
        x = rng.normal(size=(1, 6))
        step.fit(x)
        assert_allclose(
            run(lambda x: embedding_graphs.conditioned(step, x), x=x), step.transform(x), rtol=1e-9
        )

    def test_what_is_not_exported_is_refused_by_name(self):
        with pytest.raises(ValueError, match="conditioning dict is not exported; those that are: Head, Near"):
            embedding_graphs.conditioned({}, None)
        with pytest.raises(ValueError, match="pooling 'median' is not exported; those that are: mean, "):
            embedding_graphs.pooled(None, "median", 1)


FITTED = [  # name, options; of all that are exported
    ("beam", {"bands": 2, "rescaling": "varmin"}),
    ("density_normalized", {}),
    ("density_normalized", {"metric": "cosine", "normalization": "difference"}),
    ("domain_local_density", {"k": 3, "k_target": 2}),
    ("domain_local_density", {"k": 3, "k_target": 2, "metric": "cosine", "normalization": "difference"}),
    ("domain_normalized", {}),
    ("gaussians", {"target_centres": "always"}),
    ("mahalanobis", {}),
    ("mean_squared_error", {}),
    ("nearest_neighbour", {"k": 2}),
    ("nearest_neighbour", {"metric": "cosine"}),
    ("per_domain_normalized", {"backend": "nearest_neighbour"}),
    ("selective_mahalanobis", {"reduction": "clip_mean"}),
    ("selective_mahalanobis", {"reduction": "per_frame"}),
    ("smote", {"k": 2}),
]


class TestBackends:
    @pytest.mark.parametrize(("name", "options"), FITTED)
    def test_scores(self, name, options, rng):
        X = rng.normal(size=(24, 4)) @ (np.eye(4) + 0.5 * np.tri(4, k=-1))
        domain = np.array(["source"] * 18 + ["target"] * 6)
        backend = backend_class(name)(**options).fit(X, domain)
        for x in (X[:1], 3 * rng.normal(size=(1, 4)), X[-1:] + 1e-3):
            found = run(lambda x: backend_graphs.score(backend, x), x=x)
            assert found.shape == ()
            assert_allclose(found, backend.anomaly_score(x)[0], rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("name", ["mean_squared_error", "selective_mahalanobis"])
    def test_rows(self, name, rng):
        backend = backend_class(name)().fit(rng.normal(size=(9, 30, 3)), np.array(["source"] * 9))
        rows = rng.normal(size=(11, 3))
        found = run(lambda x: backend_graphs.score(backend, x), x=rows)
        assert_allclose(found, backend.anomaly_score(rows[None])[0], rtol=1e-9)

    def test_one_that_is_not_exported_is_refused_by_name(self):
        with pytest.raises(ValueError, match="back end Outlier is not exported; those that are: Beam, Dens"):
            backend_graphs.score(backend_class("outlier")("sklearn.ensemble:IsolationForest"), None)


class TestDecisions:
    @given(seeds, st.integers(19, 60))
    @settings(max_examples=8, deadline=None)
    def test_ranks(self, seed, n):
        rng = np.random.default_rng(seed)
        threshold = Conformal(rng.normal(size=n), 0.05)
        for score in [*threshold.normal_scores[[0, n // 2, -1]], -9.0, 9.0, rng.normal()]:
            found = run(lambda x: decision_graphs.p_value(x, threshold), x=np.array(score))
            assert found == threshold.p_value(np.array([score]))[0]
            assert run(lambda x: decision_graphs.is_anomaly(x, threshold), x=np.array(score)) == (
                score > threshold.value
            )

    @given(seeds, st.sampled_from([0.3, 1.0, 20.0, 1e4]), st.sampled_from([1e-3, 1.0, 1e5]))
    @settings(max_examples=4, deadline=None)
    def test_a_gamma_distribution_from_its_middle_to_its_far_tail(self, seed, shape, scale):
        normal = 3 + scale * np.random.default_rng(seed).gamma(shape, size=200)
        threshold = Gamma(normal, 0.1)
        spread = normal.std()
        scores = [normal.min() - spread, *np.quantile(normal, (0, 0.3, 0.9, 1))]
        scores += [normal.max() + k * spread for k in (1, 3, 10, 100)]
        for score in scores:
            found = run(lambda x: decision_graphs.p_value(x, threshold), x=np.array(score))
            assert_allclose(found, threshold.p_value(np.array([score]))[0], rtol=2e-6, atol=1e-290)

    @pytest.mark.parametrize("calibration", fusing.CALIBRATIONS)
    def test_fusion(self, calibration, rng):
        normals, weights = rng.gamma(2.0, size=(30, 2)), {"a": 0.25, "b": 0.75}
        for scores in (rng.gamma(2.0, size=2), normals[4], np.array([0.0, 1e3])):
            found = run(lambda x: decision_graphs.fused(x, normals, weights, calibration), x=scores)
            expected = fusing.fuse(scores[None], normals, weights=weights, calibration=calibration)[0]
            assert_allclose(found, expected, rtol=1e-12)

    def test_the_mean_of_an_ensemble(self):
        found = run(
            lambda x: decision_graphs.average([x.cut(0, i, i + 1).reshape() for i in range(3)]),
            x=np.array([1.0, 2, 6]),
        )
        assert found == 3


@pytest.fixture(scope="module")
def fan(tmp_path_factory) -> Path:
    return synthetic.write_machine(tmp_path_factory.mktemp("data"), "fan", train=20, target=4, test=1)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def spectral(fan, jobs) -> Detector:
    return Detector.fit(fan, configuration.load("spectral", {"threshold.folds": 2}), jobs=jobs)


@pytest.fixture(scope="module")
def exported(spectral, tmp_path_factory) -> Exported:
    return export(spectral, tmp_path_factory.mktemp("exported") / "fan.onnx")


SMALL = {"branch.encoder_options.n_mels": 16, "threshold.folds": 2}


def file_and_detector_agree(detector: Detector, path: Path, samples: np.ndarray) -> None:
    """The outputs of an exported file are those of the detector."""
    session = parity.light_session(path.read_bytes())
    (given,) = session.get_inputs()
    found = session.run(None, {"samples": samples[: given.shape[0]]})
    said = detector.score(samples, detector.sample_rate)
    by_name = dict(zip((one.name for one in session.get_outputs()), found, strict=True))
    assert by_name["score"] == pytest.approx(said.score, rel=1e-4)
    assert by_name["score"].dtype == np.float64
    if detector.threshold is not None:
        assert by_name["p_value"] == pytest.approx(said.p_value, rel=1e-4)
        assert by_name["is_anomaly"] == (said.score > detector.threshold.value)
    if said.branches:
        assert_allclose(by_name["branch_scores"], [one.score for one in said.branches], rtol=1e-4)


class TestExport:
    def test_the_default_system_of_any_length(self, spectral, exported):
        made = exported
        assert made.samples is None
        assert made.parity.own == 1 + len(spectral.sounds.clips)
        assert made.parity.largest_score < 1e-4
        for seconds in (0.07, 0.5, 1.33):
            file_and_detector_agree(spectral, made.path, synthetic.clip(7, seconds=seconds))
        file_and_detector_agree(spectral, made.path, synthetic.clip(8, faulty=True))
        assert made.size == made.path.stat().st_size

    def test_the_same_detector_makes_the_same_bytes(self, spectral, tmp_path):
        spectral.save(tmp_path / "saved")
        again = Detector.load(tmp_path / "saved")
        contents = [
            chain.detector_model(one).SerializeToString(deterministic=True) for one in (spectral, again)
        ]
        assert contents[0] == contents[1]

    def test_what_the_metadata_says(self, spectral):
        model = chain.detector_model(spectral, samples=RATE)
        told = {one.key.removeprefix("nearfar."): one.value for one in model.metadata_props}
        assert told["samples"] == told["rate"] == str(RATE)
        assert (told["format"], told["system"], told["machine"]) == ("1", "spectral", "fan")
        assert (told["channels"], told["selected"], told["least_samples"]) == ("2", "[]", "1024")
        assert float(told["threshold"]) == spectral.threshold.value
        assert [float(told[f"{name}_seconds"]) for name in ("window", "shortest", "longest")] == [
            1.0,
            1.0,
            1.0,
        ]
        assert re.fullmatch("[0-9a-f]{64}", told["detector"])
        (given,) = model.graph.input
        assert [one.dim_value for one in given.type.tensor_type.shape.dim] == [2, RATE]

    @pytest.mark.parametrize(
        ("system", "replaced"),
        [
            ("spectral_w1", {"threshold.method": "gamma"}),
            ("spectral_near", {"threshold.method": "none"}),
            ("spectral_w1", {"branch.view": "near_and_contrast", "branch.conditioning": ["standardize"]}),
        ],
    )
    def test_other_systems(self, fan, jobs, tmp_path, system, replaced):
        detector = Detector.fit(fan, configuration.load(system, SMALL | replaced), jobs=jobs)
        made = export(detector, tmp_path / "fan.onnx", seconds=1)
        assert made.channels == (1 if system == "spectral_near" else 2)
        assert made.samples == RATE
        file_and_detector_agree(detector, made.path, synthetic.clip(9))

    def test_a_fused_system(self, fan, jobs, tmp_path):
        (tmp_path / "both.toml").write_text(FUSED)
        detector = Detector.fit(fan, fusion.load(tmp_path / "both.toml"), jobs=jobs)
        made = export(detector, tmp_path / "fan.onnx")
        file_and_detector_agree(detector, made.path, synthetic.clip(9))
        rates = dataclasses.replace(
            detector, branches=(detector.branches[0], _at(8000, detector.branches[1]))
        )
        with pytest.raises(ValueError, match="listen at 8000 and 16000 Hz, and resampling is not exported"):
            chain.detector_model(rates)

    def test_a_file_that_differs_is_not_written(self, spectral, tmp_path, monkeypatch):
        honest = backend_graphs.score
        monkeypatch.setattr(backend_graphs, "score", lambda backend, x: honest(backend, x) * 1.001)
        with pytest.raises(
            ParityError, match=r"not written: \d+ of \d+ sounds differ by more than .* 0.0001"
        ):
            export(spectral, tmp_path / "fan.onnx")
        assert not list(tmp_path.iterdir())

    def test_a_change_of_decisions_or_p_values_is_noticed(self, spectral):
        wrong = dataclasses.replace(
            spectral, threshold=Conformal(spectral.threshold.normal_scores / 50, 0.05)
        )
        content = chain.detector_model(wrong).SerializeToString()
        found = parity.compared(spectral, content, samples=None)
        assert found.largest_score < 1e-4
        assert found.largest_p_value > 0.01
        with pytest.raises(ParityError, match="the exported file does not say what the detector says"):
            found.require()

    def test_lengths_and_names_that_cannot_be(self, spectral, tmp_path):
        with pytest.raises(
            ValueError, match=r"seconds=0.05: the detector needs at least 0.064 s \(1024 samples"
        ):
            export(spectral, tmp_path / "fan.onnx", seconds=0.05)
        with pytest.raises(ValueError, match=r"an exported detector is a file that ends in \.onnx"):
            export(spectral, tmp_path / "fan.bin")
        (tmp_path / "fan.onnx").touch()
        with pytest.raises(FileExistsError, match="replace it with --replace"):
            export(spectral, tmp_path / "fan.onnx")
        (tmp_path / "other" / "nearfar_edge.py").mkdir(parents=True)
        with pytest.raises(IsADirectoryError, match=r"nearfar_edge\.py is a folder, and the runner's place"):
            export(spectral, tmp_path / "other" / "fan.onnx")
        assert [path.name for path in (tmp_path / "other").iterdir()] == ["nearfar_edge.py"]

    def test_a_file_that_cannot_be_run_is_not_written(self, spectral, tmp_path, monkeypatch):
        class Session:
            def __init__(self, content):
                self.true = light_session(content)

            def __getattr__(self, name):
                return getattr(self.true, name)

            def run(self, *_):
                raise RuntimeError("Failed to allocate memory\nat some place")

        light_session = parity.light_session
        monkeypatch.setattr(parity, "light_session", Session)
        with pytest.raises(
            ParityError, match=r"not written \(Failed to allocate memory\); give fewer --seconds"
        ):
            export(spectral, tmp_path / "fan.onnx")
        assert not list(tmp_path.iterdir())

    def test_a_detector_that_computes_otherwise_is_told_how_to_be_exported(self, spectral):
        options = SimpleNamespace(arguments=lambda: {"precision": "bfloat16"})
        branch = SimpleNamespace(encoder=SimpleNamespace(options=options))
        detector = SimpleNamespace(system=SimpleNamespace(branches=(branch,)))
        content = chain.detector_model(spectral).SerializeToString()
        found = parity.compared(spectral, content, samples=None)
        wrong = [dataclasses.replace(one, is_close=False) for one in found.heard]
        with pytest.raises(ParityError, match="computes in bfloat16, and the file in float32: fit it with"):
            dataclasses.replace(found, heard=tuple(wrong)).require(exporting._remedy(detector))
        assert exporting._remedy(spectral) == ""

    def test_a_back_end_that_is_not_exported(self, spectral):
        other = dataclasses.replace(spectral, branches=(_with_backend(spectral.branches[0], object()),))
        with pytest.raises(ValueError, match="back end object is not exported; those that are: Beam"):
            chain.detector_model(other)


FUSED = """
name = "both"
summary = "Near beside cancelled."
protocol = "fixed configuration"
[fusion]
weights = {near = 0.25, cancelled = 0.75}
calibration = "own_normals_log"
false_alarm_rate = 0.1
[branches.near]
system = "spectral_near"
[branches.near.settings]
"branch.encoder_options.n_mels" = 16
"threshold.folds" = 2
[branches.cancelled]
system = "spectral_w1"
[branches.cancelled.settings]
"branch.encoder_options.n_mels" = 16
"threshold.folds" = 2
"""


def _at(rate, branch):
    made = branch.unfitted()
    made.encoder = Spectral(sample_rate=rate)
    return made


def _with_backend(branch, backend):
    made = branch.unfitted()
    made.backend = backend
    return made


def test_what_was_compared_and_what_is_left_out_is_printed(exported):
    console = Console(width=150, file=io.StringIO())
    console.print(table(exported))
    for told in ("any, from 0.064 s", f"opset {OPSET}", "decisions", "0 of 3", *exporting.LEFT_OUT):
        assert told in console.file.getvalue()


class TestCommand:
    def test_it_writes_a_file_and_prints_json(self, spectral, tmp_path):
        spectral.save(tmp_path / "detector")
        arguments = [
            "export",
            tmp_path / "detector",
            "-o",
            tmp_path / "fan.onnx",
            "--seconds",
            "0.5",
            "--json",
        ]
        done = CliRunner().invoke(app, [*map(str, arguments)])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["samples"], told["parity"]["changed_decisions"]) == (RATE // 2, 0)
        assert told["size"] == (tmp_path / "fan.onnx").stat().st_size

    def test_a_length_that_is_none(self, tmp_path):
        done = CliRunner().invoke(app, ["export", str(tmp_path), "-o", "fan.onnx", "--seconds", "long"])
        assert done.exit_code == 2
        assert "--seconds" in done.output


def test_one_expression_alone_is_not_joined():
    graph = Graph()
    x = Expression(graph, graph.input("x", np.float32, (2,)), np.float32)
    assert joined([x], axis=0) is x
