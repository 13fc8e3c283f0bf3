"""Exported networks give the tokens of their encoders; in integers, nearly."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
torch = pytest.importorskip("torch")

from dataclasses import replace  # noqa: E402

import tiny_weights  # noqa: E402
from onnx import TensorProto  # noqa: E402

from nearfar.encoders import ENCODERS, ced, encoder_class, features  # noqa: E402
from nearfar.encoders.exporting import (  # noqa: E402
    FREE,
    OF_ONE_LENGTH,
    front_ends,
    network_model,
    takes_any_length,
    weights_notice,
)
from nearfar.encoders.features import Fbank, Mel  # noqa: E402
from nearfar.encoders.graphs import Graph  # noqa: E402
from nearfar.encoders.lora import arrays, attach, layers_of  # noqa: E402
from nearfar.encoders.pretrained import PRETRAINED  # noqa: E402
from nearfar.export.integers import has_integers, with_integers  # noqa: E402

CLOSE = 1e-4  # of tokens, of their range
CLOSE_OF_FRONT_END = 1e-6  # root mean square of the difference of spectrograms, of their range
CLOSE_IN_INTEGERS = 0.06  # root mean square of the difference of tokens, of theirs
FROZEN = {  # blocks; lengths, of which one has several parts, or more frames than the network wants
    "beats": ((2, 1), (16001, 40960)),
    "ced": ((1, 2), (16001, 170_000)),
    "eat": ((2,), (16001, 157_000)),
    "efficientat": ((12, 13), (16001, 40_000)),
    "m2d": ((2,), (16001, 100_000)),
}
FITTED = {
    "autoencoder": {},
    "difference_autoencoder": {"n_fft": 512, "hop": 256, "n_mels": 64},
    "dca": {"device": "cpu", "frames": 64, "channels": 32, "heads": 2, "directions": "separate"},
}
LENGTHS = (16001, 9000)
WEIGHTS = {"efficientat": "mn04", "m2d": "m2d"}


def frozen(name, **options):
    return encoder_class(name)(weights=str(tiny_weights.written(name)), device="cpu", **options)


def fitted(name, rng):
    """One with random weights; statistics of normalizations are positive."""
    encoder = encoder_class(name)(**FITTED[name])
    drawn = {
        key: array if array.dtype != np.float32 else rng.uniform(0.1, 0.6, array.shape).astype(np.float32)
        for key, array in encoder.arrays().items()
    }
    signs = {key: rng.choice([-0.2, 0.2], array.shape) for key, array in drawn.items() if array.ndim > 1}
    return encoder.with_arrays(drawn | {key: (drawn[key] * signs[key]).astype(np.float32) for key in signs})


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def heard(model, waveforms):
    (tokens,) = session(model).run(None, {"waveforms": waveforms})
    return tokens


def sound(rng, samples, microphones=1):
    """Noise, loud at first and quiet then, with a tone and an offset."""
    t = np.arange(samples) / 16000
    shape = (1, microphones, samples) if microphones > 1 else (1, samples)
    noise = rng.standard_normal(shape) * np.where(t < 0.3, 0.2, 0.002)
    return (noise + 0.1 * np.sin(2 * np.pi * 440 * t) + 0.01).astype(np.float32)


def difference(found, expected):
    """The largest, over the range of what is expected."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    return np.abs(found - expected).max() / np.ptp(expected)


def require_spectrogram(found, expected):
    """Nearly everywhere; where a band is nearly empty, float32 has few digits, of any transform."""
    assert found.shape == expected.shape
    error = np.sqrt(np.mean((found.astype(float) - expected) ** 2)) / np.ptp(expected)
    assert error < CLOSE_OF_FRONT_END
    assert difference(found, expected) < 200 * CLOSE_OF_FRONT_END


def require_equal(encoder, lengths, rng):
    models = {}
    for samples in lengths:
        of = None if takes_any_length(encoder) else samples
        models[of] = models.get(of) or network_model(encoder, samples=of)
        waveforms = sound(rng, samples, encoder.microphones)
        assert difference(heard(models[of], waveforms), encoder(waveforms)) < CLOSE, samples


def test_every_encoder_with_a_network_can_be_exported():
    assert {*FREE, *OF_ONE_LENGTH} == {*ENCODERS} - {"spectral"} == {*FROZEN, *FITTED}


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_network_gives_its_tokens_at_every_length(name, rng):
    blocks, lengths = FROZEN[name]
    require_equal(frozen(name, blocks=blocks[-1:] if name == "efficientat" else blocks), lengths, rng)


@pytest.mark.parametrize("name", FITTED)
def test_a_fitted_network_gives_its_tokens_at_every_length(name, rng):
    require_equal(fitted(name, rng), LENGTHS, rng)


def test_several_blocks_of_one_size(rng):
    require_equal(frozen("efficientat", blocks=(12, 11)), (16000,), rng)


@pytest.mark.parametrize("frames", [64, 144, "auto", "clip"])
def test_a_clip_that_is_cut_or_filled(frames, rng):
    require_equal(frozen("eat", blocks=(1,), frames=frames), (16000,), rng)


@pytest.mark.parametrize("rate", [8000, 24000, 32000])
def test_a_rate_that_is_resampled(rate, rng):
    require_equal(frozen("efficientat", blocks=(3,), sample_rate=rate), (9001, 12000), rng)


@pytest.mark.parametrize("rate", [22050, 12000])
def test_a_rate_whose_resampling_is_no_convolution(rate):
    with pytest.raises(ValueError, match=f"sample_rate={rate}: cannot be exported, because"):
        network_model(frozen("efficientat", sample_rate=rate), samples=None)


@pytest.mark.parametrize("name", ["beats", "efficientat", "eat"])
def test_adapters_are_merged(name, rng):
    encoder = frozen(name, blocks=(2,))
    before = network_model(encoder, samples=16000)
    network = frozen(name, blocks=(2,)).network
    adapters = attach(
        network, layers_of(network, [2]), rank=2, alpha=2.0, generator=torch.Generator().manual_seed(1)
    )
    drawn = {key: rng.standard_normal(array.shape) * 0.2 for key, array in arrays(adapters).items()}
    adapted = encoder.with_arrays(drawn)
    require_equal(adapted, (16000,), rng)
    waveforms = sound(rng, 16000)
    assert difference(heard(before, waveforms), adapted(waveforms)) > 100 * CLOSE


@pytest.mark.parametrize(
    "mel",
    [
        Mel(),
        Mel(n_fft=400, hop=160, n_mels=80, f_min=50.0, pad="reflect"),
        Mel(n_fft=512, win_length=400, hop=100, n_mels=40, scale="htk", norm=None),
    ],
)
@pytest.mark.parametrize("samples", [16001, 3000])
def test_mel_levels(mel, samples, rng):
    graph = Graph()
    waveforms = graph.input("waveforms", np.float32, (1, "samples"))
    levels = front_ends.mel_levels(graph, waveforms, mel, floor=1e-10, top_db=100.0)
    graph.output("levels", levels, np.float32, (1, None, mel.n_mels))
    given = sound(rng, samples)
    expected = features.log_mel(given, mel, floor=1e-10, top_db=100.0).swapaxes(-1, -2)
    require_spectrogram(heard(graph.model({}), given), expected)


@pytest.mark.parametrize("fbank", [Fbank(), Fbank(rate=8000, window="povey", n_mels=23, f_min=100.0)])
def test_kaldi_features(fbank, rng):
    graph = Graph()
    waveforms = graph.input("waveforms", np.float32, (1, "samples"))
    values = front_ends.kaldi(graph, waveforms, fbank)
    graph.output("values", values, np.float32, (1, None, fbank.n_mels))
    given = sound(rng, 12345)
    expected = features.kaldi_fbank(given, fbank)
    require_spectrogram(heard(graph.model({}), given), expected)


def test_silence():
    encoder = frozen("efficientat")
    silence = np.zeros((1, 16000), np.float32)
    np.testing.assert_allclose(
        heard(network_model(encoder, samples=None), silence), encoder(silence), atol=1e-6
    )


def test_the_same_weights_are_the_same_bytes_and_tell_nothing_of_this_computer():
    encoder = frozen("eat", blocks=(1,))
    one, other = (network_model(encoder, samples=16000) for _ in range(2))
    text = one.SerializeToString()
    assert text == other.SerializeToString()
    assert str(encoder.path.parent).encode() not in text
    assert b".py" not in text
    assert {entry.key: entry.value for entry in one.metadata_props} == {
        "nearfar.weights": "eat.safetensors",
        "nearfar.weights_licence": "",
    }


def test_what_is_exported_is_float32(rng):
    encoder = frozen("beats", blocks=(1,))
    waveforms = sound(rng, 16000)
    model = network_model(frozen("beats", blocks=(1,), precision="bfloat16"), samples=None)
    assert difference(heard(model, waveforms), encoder(waveforms)) < CLOSE


def test_licences_are_told():
    free, bound = (weights_notice(encoder_class(name)(weights=f"{w}_as")) for name, w in WEIGHTS.items())
    assert free.startswith("the file holds the weights mn04_as, licence MIT (https://")
    assert free.endswith(
        "You may use, change and pass on the weights, also commercially, with their copyright notice."
    )
    assert bound.endswith("not to be passed on. Do not pass this file on.")
    assert "licence is not known" in weights_notice(frozen("eat"))
    assert weights_notice(encoder_class("autoencoder")()) is None
    assert [r.name for r in PRETRAINED.values() if not r.licence.may_be_passed_on] == [
        name for name, r in PRETRAINED.items() if r.encoder == "m2d"
    ]


@pytest.mark.parametrize(
    ("make", "samples", "words"),
    [
        (lambda: frozen("eat"), None, "'eat' computes each length by another graph"),
        (lambda: frozen("eat"), 100, "samples=100: encoder 'eat' takes at least 400 samples"),
        (lambda: encoder_class("autoencoder")(), None, "'autoencoder' is not fitted"),
        (lambda: encoder_class("spectral")(), None, "'spectral': has no network that can be exported"),
    ],
)
def test_what_cannot_be_exported(make, samples, words):
    with pytest.raises(ValueError, match=words):
        network_model(make(), samples=samples)


def test_mn04_with_its_weights(shared, rng):
    path = shared / "weights" / "mn04_as_mAP_432.pt"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not here")
    encoder = encoder_class("efficientat")(weights=str(path), device="cpu")
    require_equal(encoder, (16000, 160_000, 100_001), rng)


class TestIntegers:
    @pytest.mark.parametrize("name", ["beats", "ced", "eat", "m2d"])
    def test_tokens_are_nearly_those_in_float32(self, name, rng):
        encoder = frozen(name, blocks=(2,))
        model = network_model(encoder, samples=16000)
        waveforms = sound(rng, 16000)
        expected, found = heard(model, waveforms), heard(with_integers(model), waveforms)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert 0 < error < CLOSE_IN_INTEGERS

    def test_every_product_by_weights_is_in_integers(self):
        model = with_integers(network_model(frozen("eat", blocks=(2,)), samples=16000))
        weights = {
            one.name
            for one in model.graph.initializer
            if one.data_type == TensorProto.FLOAT and len(one.dims) == 2
        }
        left = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]
        done = [n for n in model.graph.node if n.op_type == "MatMulIntegerToFloat"]
        assert not left
        assert len(done) == 8

    def test_a_quiet_row_has_as_many_steps_as_a_loud_one(self, rng):
        weight = rng.standard_normal((64, 32)).astype(np.float32)
        rows = rng.standard_normal((1, 20, 64)).astype(np.float32)
        rows[0, 10:] *= 1e-4
        rows[0, -1] = 0.0
        graph = Graph()
        x = graph.input("waveforms", np.float32, (1, "rows", 64))
        graph.output("tokens", graph.add("MatMul", x, weight), np.float32, (1, None, 32))
        found = heard(with_integers(graph.model({})), rows)
        expected = rows @ weight
        errors = np.linalg.norm(found - expected, axis=-1) / np.maximum(
            np.linalg.norm(expected, axis=-1), 1e-30
        )
        assert (errors < 0.03).all()
        assert (found[0, -1] == 0).all()

    def test_largest_integers_do_not_saturate(self):
        graph = Graph()
        x = graph.input("waveforms", np.float32, (1, "rows", 512))
        graph.output(
            "tokens", graph.add("MatMul", x, np.ones((512, 16), np.float32)), np.float32, (1, None, 16)
        )
        found = heard(with_integers(graph.model({})), np.ones((1, 20, 512), np.float32))
        np.testing.assert_allclose(found, 512.0, rtol=1e-6)

    def test_a_network_of_convolutions_stays_as_it_is(self):
        model = network_model(frozen("efficientat"), samples=None)
        assert not has_integers(model)
        assert with_integers(model) == model


def test_every_switch_of_a_transformer(rng, monkeypatch):
    """Positions, norms and classes that no published network combines so."""
    geometry = replace(
        ced.BASE, **tiny_weights.TINY_VIT, frames=96, positions="table", has_cls=True, norm="post"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = ced.CedNetwork(geometry).eval().requires_grad_(False)
    encoder = frozen("ced", blocks=(1, 2))
    monkeypatch.setitem(vars(encoder), "network", network)
    require_equal(encoder, (16000, 40000), rng)
