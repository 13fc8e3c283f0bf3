"""EAT is what its equations say, from every layout that its weights were published in."""

from __future__ import annotations

from dataclasses import replace

import naive_vit
import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.numpy import save_file

from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.eat import BASE, Eat, EatNetwork, target_frames
from nearfar.encoders.pretrained import PRETRAINED

DIM, DEPTH, HEADS, CLASSES = 128, 3, 2, 527
IMAGE = "modality_encoders.IMAGE."


@pytest.fixture
def weights(rng):
    return naive_vit.drawn(naive_vit.eat_shapes(DIM, DEPTH, classes=CLASSES), rng)


@pytest.fixture
def waveforms(rng):
    noise = rng.standard_normal((2, 8017)) * np.array([[0.3], [1e-3]]) + 0.01
    return (noise * np.linspace(1, 0.1, 8017)).astype(np.float32)


def without_head(weights):
    return {
        name: array for name, array in weights.items() if not name.startswith(("model.fc_", "model.head"))
    }


def original(weights):
    """The pretrained weights as they left training."""
    named = {}
    for name, array in without_head(weights).items():
        own = name.removeprefix("model.")
        if own.startswith("pre_norm."):
            own = IMAGE + own.replace("pre_norm", "context_encoder.norm")
        elif not own.startswith("blocks."):
            own = IMAGE + own
        named[own] = array
    return named | {
        "_ema.blocks.0.norm1.weight": np.ones(DIM, np.float32),
        f"{IMAGE}decoder.blocks.0.0.weight": np.ones((8, DIM, 3, 3), np.float32),
        f"{IMAGE}decoder.proj.weight": np.ones((256, 8), np.float32),
    }


def fine_tuned_original(weights):
    named = {f"model.{name}": array for name, array in original(weights).items()}
    return named | {name: array for name, array in weights.items() if name not in without_head(weights)}


def fine_tuned_original_with_a_bare_head(weights):
    heads = {
        name.removeprefix("model."): array
        for name, array in weights.items()
        if name not in without_head(weights)
    }
    return {f"model.{name}": array for name, array in original(weights).items()} | heads


LAYOUTS = [dict, without_head, original, fine_tuned_original, fine_tuned_original_with_a_bare_head]


def saved(tmp_path, weights):
    save_file(weights, tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")


def network(weights, dtype=torch.float32, frames="auto"):
    """With the weights that are given, without a file."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return Eat(weights="some.pt", frames=frames).build(tensors, "some.pt").eval().to(dtype)


def doubled(weights):
    return {name: array.astype(np.float64) for name, array in weights.items()}


def expected(waveform, weights, frames):
    return naive_vit.eat(naive_vit.eat_image(waveform, frames), doubled(weights), HEADS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_every_layout_gives_the_tokens_of_the_equations(tmp_path, weights, waveforms, layout):
    encoder = Eat(weights=saved(tmp_path, layout(weights)), blocks=(3, 1), frames=80)
    tokens = encoder.tokens(waveforms)
    assert tokens.grid.shape == (2, 2, 5, 8, DIM)  # 48 frames, filled up to 80
    for i, waveform in enumerate(waveforms):
        grids, cls = expected(waveform, weights, 80)
        for j, block in enumerate((3, 1)):
            np.testing.assert_allclose(tokens.grid[i, j], grids[block], rtol=0, atol=1e-4)
            np.testing.assert_allclose(tokens.cls[i, j], cls[block], rtol=0, atol=1e-4)


def test_the_training_checkpoint_itself(tmp_path, weights, waveforms):
    tensors = {name: torch.from_numpy(array) for name, array in original(weights).items()}
    nested = {"_ema": {"blocks.0.norm1.weight": torch.ones(DIM)}}
    torch.save({"model": tensors | nested}, tmp_path / "original.pt")
    encoder = Eat(weights=str(tmp_path / "original.pt"), blocks=(3,), frames="clip")
    other = Eat(weights=saved(tmp_path, weights), blocks=(3,), frames="clip")
    np.testing.assert_array_equal(encoder(waveforms), other(waveforms))


@pytest.mark.parametrize(
    ("samples", "frames", "columns"),
    [
        (400, "auto", 1),
        (9999, "auto", 4),
        (96_000, "auto", 38),
        (400, "clip", 1),
        (2799, "clip", 1),
        (2800, "clip", 1),  # 16 frames
        (2960, "clip", 2),
        (9999, "clip", 4),
        (9999, 48, 3),  # 60 frames, cut
        (9999, 96, 6),
    ],
)
def test_every_block_in_double_precision(rng, weights, samples, frames, columns):
    waveform = rng.standard_normal(samples) / 5
    with torch.no_grad():
        tokens = network(weights, torch.float64, frames)(torch.from_numpy(waveform)[None], (1, 2, 3))
    assert tokens.grid.shape == (1, 3, columns, 8, DIM)
    grids, cls = expected(waveform, weights, 16 * columns)
    for i, block in enumerate((1, 2, 3)):
        np.testing.assert_allclose(tokens.grid[0, i], grids[block], rtol=0, atol=1e-8)
        np.testing.assert_allclose(tokens.cls[0, i], cls[block], rtol=0, atol=1e-8)


def test_tokens_of_an_image_in_single_precision(rng, weights):
    image = rng.standard_normal((1, 48, 128)).astype(np.float32)
    found = network(weights).encode(torch.from_numpy(image), (1, 2, 3))
    grids, cls = naive_vit.eat(image[0].astype(np.float64), doubled(weights), HEADS)
    for i, block in enumerate((1, 2, 3)):
        np.testing.assert_allclose(found.grid[0, i].detach(), grids[block], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.cls[0, i].detach(), cls[block], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "frames", "filled"),
    [
        (0.025, 16, 15),
        (5, 512, 14),
        (6, 608, 10),
        (9.78, 976, 0),
        (9.79, 1024, 47),
        (10, 1024, 26),
        (10.25, 1024, 1),
        (10.27, 1040, 15),
        (11, 1104, 6),
        (12, 1200, 2),
        (16, 1600, 2),
    ],
)
def test_frames_follow_the_clip(seconds, frames, filled):
    samples = round(seconds * 16000)
    own = 1 + (samples - 400) // 160
    assert target_frames(own, "auto") == frames
    assert frames - own == filled


def tiny_network(**options):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return EatNetwork(replace(BASE, dim=16, heads=2, depth=1), **options).eval()


@pytest.mark.parametrize(("seconds", "columns"), [(6, 38), (10, 64), (16, 100)])
def test_every_second_of_a_clip_is_heard(rng, seconds, columns):
    tiny = tiny_network()
    waveform = torch.from_numpy(rng.standard_normal(seconds * 16000).astype(np.float32))
    other = torch.from_numpy(rng.standard_normal(16000).astype(np.float32))
    with torch.no_grad():
        image, tokens = tiny.image(waveform[None]), tiny(waveform[None], (1,)).grid
        assert tokens.shape[2] == columns == image.shape[1] // 16
        for second in range(seconds):
            changed = waveform.clone()
            changed[second * 16000 : (second + 1) * 16000] = other
            own = slice(max(0, 100 * second - 2), 100 * second + 98)
            moved = (tiny.image(changed[None]) - image).abs().mean(dim=(0, 2))
            assert (moved[own] > 10 * torch.cat([moved[: own.start], moved[own.stop + 2 :]]).max()).all()
            assert (tiny(changed[None], (1,)).grid - tokens).abs().max() > 1e-3


def test_a_fixed_length_cuts_and_fills(rng):
    fixed = tiny_network(frames=1024)
    waveform = torch.from_numpy(rng.standard_normal((1, 256_000)).astype(np.float32))
    with torch.no_grad():
        whole = fixed(waveform, (1,)).grid
        filling = fixed.image(waveform[:, :96_000])[:, 598:]
        end = waveform.clone()
        end[:, 165_000:] = 0
        image = fixed.image(waveform - waveform.mean())
        moved = (fixed.image(end - end.mean()) - image).abs().max()
    np.testing.assert_allclose(filling, 4.268 / (2 * 4.569), rtol=1e-6)
    assert moved < 1e-2  # by the clip's mean alone
    assert whole.shape[2] == 64


def test_ten_seconds_are_as_with_the_published_length(rng):
    waveform = torch.from_numpy(rng.standard_normal((1, 160_000)).astype(np.float32))
    with torch.no_grad():
        found, published = (tiny_network(frames=n)(waveform, (1,)) for n in ("auto", 1024))
    torch.testing.assert_close(found.grid, published.grid, rtol=0, atol=0)
    torch.testing.assert_close(found.cls, published.cls, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("frames", "seconds", "cut", "filled"),
    [
        ("auto", 6, 0, 0),
        ("auto", 10, 0, 0),
        ("auto", 300, 0, 0),
        ("clip", 16, 0, 0),
        (1024, 6, 0, 4.26),
        (1024, 9.78, 0, 0.48),
        (1024, 9.79, 0, 0),
        (1024, 10, 0, 0),
        (1024, 10.3, 0, 0),  # less than a token
        (1024, 16, 5.74, 0),
        (512, 10, 4.86, 0),
    ],
)
def test_what_is_cut_and_filled(frames, seconds, cut, filled):
    encoder = Eat(frames=frames)
    assert encoder.cut_and_filled(round(seconds * 16000)) == pytest.approx((cut, filled))
    assert encoder.takes_any_length == (frames in ("auto", "clip"))


def test_a_clip_of_ten_seconds_is_1024_frames(rng):
    assert Eat().frames == "auto"
    tiny = EatNetwork(replace(BASE, dim=16, heads=2, depth=1)).eval()
    waveform = torch.from_numpy(rng.standard_normal((1, 160_000)).astype(np.float32))
    image = tiny.image(waveform)
    assert image.shape == (1, 1024, 128)
    zero = 4.268 / (2 * 4.569)
    np.testing.assert_allclose(image[:, 998:], zero, rtol=1e-6)
    assert (image[:, 997] != zero).all()
    assert tiny(waveform, (1,)).grid.shape == (1, 1, 64, 8, 16)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2.6e-4 / 9.138), (np.float64, 1e-9)])
def test_the_front_end_is_that_of_its_equations(weights, waveforms, dtype, tolerance):
    plain = network(weights, torch.float64 if dtype is np.float64 else torch.float32)
    values = plain.image(torch.from_numpy(waveforms.astype(dtype)))
    for found, waveform in zip(values, waveforms.astype(dtype), strict=True):
        np.testing.assert_allclose(found, naive_vit.eat_image(waveform, 48), rtol=0, atol=tolerance)


@pytest.mark.parametrize("frames", ["auto", 1024])
def test_the_image_of_the_golden_clip(shared, weights, frames):
    samples, rate = soundfile.read(shared / "golden" / "eat" / "eat_golden_test.wav", dtype="float32")
    waveform = soxr.resample(samples, rate, 16000).astype(np.float32)
    image = network(weights, frames=frames).image(torch.from_numpy(waveform)[None])[0]
    golden = np.load(shared / "golden" / "eat" / "eat_golden_test.npy")
    assert len(golden) == 1 + len(image) // 16 * 8
    np.testing.assert_allclose(image[:998, 3], (-15.942 + 4.268) / (2 * 4.569), atol=1e-4)
    np.testing.assert_allclose(image, naive_vit.eat_image(waveform, 1024), rtol=0, atol=1.2e-3 / 9.138)


def test_probabilities_of_classes(weights, waveforms):
    found = network(weights).probabilities(torch.from_numpy(waveforms)).detach()
    right = [
        naive_vit.eat_probabilities(expected(waveform, weights, 48)[1][DEPTH], doubled(weights))
        for waveform in waveforms
    ]
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-4)


def test_a_network_that_was_only_pretrained_has_no_classes(weights, waveforms):
    with pytest.raises(ValueError, match="only pretrained and know no classes; take fine-tuned ones"):
        network(without_head(weights)).probabilities(torch.from_numpy(waveforms))


def test_a_batch_is_its_clips_one_by_one(tmp_path, weights, waveforms):
    encoder = Eat(weights=saved(tmp_path, weights), blocks=(2,), frames="clip")
    single = np.concatenate([encoder(waveform[None]) for waveform in waveforms])
    np.testing.assert_allclose(encoder(waveforms), single, rtol=0, atol=1e-5)


def test_gradients_reach_the_waveform(weights, waveforms):
    leaf = torch.tensor(waveforms, requires_grad=True)
    tokens = network(weights)(leaf, (3,))
    (tokens.grid.pow(3).mean() + tokens.cls.pow(3).mean()).backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad != 0).any(dim=1).all()


def test_bfloat16_keeps_the_front_end(tmp_path, weights, waveforms):
    path = saved(tmp_path, weights)
    right = Eat(weights=path, blocks=(3,), frames="clip")
    rough = Eat(weights=path, blocks=(3,), frames="clip", precision="bfloat16")
    assert 0 < np.abs(rough(waveforms) - right(waveforms)).mean() < 0.02
    batch = torch.from_numpy(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(rough.network.image(batch), right.network.image(batch), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "dim", "depth", "classes", "count"),
    [
        ("eat_pretrained", 768, 12, None, 89_972_736),
        ("eat", 768, 12, 527, 90_379_535),
        ("eat_large", 1024, 24, 527, PRETRAINED["eat_large"].parameters),
        ("eat_large_pretrained", 1024, 24, None, PRETRAINED["eat_large_pretrained"].parameters),
    ],
)
def test_published_sizes(name, dim, depth, classes, count):
    with torch.device("meta"):
        shapes = naive_vit.eat_shapes(dim, depth, classes=classes)
        built = Eat(weights=name).build({key: torch.empty(shape) for key, shape in shapes.items()}, name)
    assert sum(parameter.numel() for parameter in built.parameters()) == count
    assert PRETRAINED[name].parameters == count
    assert built.geometry == replace(BASE, dim=dim, depth=depth, heads=dim // 64)


SHAPES = naive_vit.eat_shapes(64, 2, classes=CLASSES)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_one_missing_or_misshapen_tensor_is_refused_by_name(name):
    weights = {key: np.zeros(shape, np.float32) for key, shape in SHAPES.items()}
    own = {
        "model.extra_tokens": "cls_token",
        "model.fixed_positional_encoder.positions": "pos_embed",
        "model.local_encoder.proj.weight": "patch_embed.proj.weight",
        "model.local_encoder.proj.bias": "patch_embed.proj.bias",
    }.get(name, name.removeprefix("model."))
    longer = np.zeros((*weights[name].shape[:-1], weights[name].shape[-1] + 1), np.float32)
    with pytest.raises(CheckpointError, match=rf"1 of another shape \({own}: ".replace(".", r"\.")):
        network(weights | {name: longer})
    del weights[name]
    with pytest.raises(CheckpointError, match=rf"1 missing \({own}\)$".replace(".", r"\.")):
        network(weights)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.blocks.2.norm3.weight", f"{IMAGE}alibi_scale"])
def test_one_tensor_more_is_refused_by_name(weights, name):
    own = name.removeprefix("model.").removeprefix(IMAGE)
    with pytest.raises(CheckpointError, match=rf"1 unexpected \({own}\)$"):
        network(weights | {name: np.zeros(DIM, np.float32)})


def test_two_layouts_in_one_file_are_refused(weights):
    both = weights | {"extra_tokens": weights["model.extra_tokens"]}
    with pytest.raises(CheckpointError, match=r"has 'cls_token' twice, once as 'extra_tokens'"):
        network(both)


@pytest.mark.parametrize("frames", [0, -16, 1000, 12_304])
def test_impossible_lengths(frames):
    with pytest.raises(
        ValueError, match=rf"frames={frames}: must be a multiple of 16 from 16 to 12288, or 'auto' or 'clip'"
    ):
        Eat(frames=frames)


def test_a_clip_beyond_the_last_position_is_heard_in_parts(rng):
    tiny = EatNetwork(replace(BASE, dim=16, heads=2, depth=1, frames=64)).eval()
    image = torch.from_numpy(rng.standard_normal((1, 128, 112)).astype(np.float32))
    with torch.no_grad():
        found = tiny.hear(image, (1,))
        parts = [tiny.hear(image[..., part], (1,)) for part in (slice(64), slice(64, None))]
    assert found.grid.shape[2] == 7
    torch.testing.assert_close(found.grid, torch.cat([p.grid for p in parts], dim=2), rtol=0, atol=0)
    torch.testing.assert_close(found.cls, (parts[0].cls + parts[1].cls) / 2)


def test_what_is_too_short(tmp_path, weights):
    encoder = Eat(weights=saved(tmp_path, weights), blocks=(1,), frames="clip")
    assert encoder(np.zeros((1, 400), np.float32)).shape == (1, 1, 1, 8, DIM)
    with pytest.raises(
        ValueError, match=r"waveforms of shape \(1, 399\): 'eat' takes .* at least 400 samples"
    ):
        encoder(np.zeros((1, 399), np.float32))


def test_other_words_for_frames_are_refused_and_whole_numbers_of_numpy_taken():
    with pytest.raises(ValueError, match=r"frames=whole: must be a multiple of 16 .*, or 'auto' or 'clip'"):
        Eat(frames="whole")
    assert not Eat(frames=np.int64(1024)).takes_any_length
