"""Training of adapters: the terms of its loss, what learns, equal bytes, what is kept, and what is refused."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import naive_adaptation
import numpy as np
import pandas as pd
import pytest
import tiny_weights
import torch

from nearfar.encoders import encoder_class, lora
from nearfar.encoders.eat import EatNetwork
from nearfar.training import TRAINERS, adaptation
from nearfar.training.adaptation import Adaptation, AdapterRecipe, Objective, classes_of, statistics
from nearfar.training.adapters import HeardClips
from nearfar.training.losses import sub_center_arcface

RATE = 16_000
N, LENGTH = 8, 4000
MACHINE = np.array(["fan"] * 4 + ["pump"] * 4)
DOMAIN = np.array(["source", "source", "source", "target"] * 2)
ATTRIBUTES = np.array(["slow", "fast", "slow", "slow"] * 2)
FAST = {"blocks": (1, 2), "rank": 2, "dim": 16, "batch_size": 3, "micro_batch": 2, "learning_rate": 1e-2}
RECIPE = AdapterRecipe(**FAST, alpha=16.0, precision="float32")


def clips(lengths=(LENGTH,) * N, *, rate=RATE):
    """A tone of each machine at the near microphone, noise at both."""
    rng = np.random.default_rng(0)
    found = []
    for machine, attribute, length in zip(MACHINE, ATTRIBUTES, lengths, strict=True):
        hertz = {"fan": 300, "pump": 2000}[machine] * {"slow": 1, "fast": 1.5}[attribute]
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(length) / rate + rng.uniform(0, 6))
        found.append(
            (np.stack([tone, 0 * tone]) + 0.03 * rng.standard_normal((2, length))).astype(np.float32)
        )
    return found


CLIPS = clips()


def encoder_of(name="eat", **options):
    options = {"weights": str(tiny_weights.written(name)), "device": "cpu", "blocks": (2,)} | options
    if name == "eat":
        options["frames"] = "clip"
    return encoder_class(name)(**options)


def trained(folder=None, hear=CLIPS.__getitem__, *, encoder=None, seed=0, **options):
    told = {"machine": MACHINE, "domain": DOMAIN, "attributes": ATTRIBUTES}
    told |= {name: options.pop(name) for name in told if name in options}
    how = {name: options.pop(name) for name in ("workers", "progress") if name in options}
    recipe = AdapterRecipe(**FAST | options)
    return recipe.train(encoder or encoder_of(), HeardClips(hear, **told), seed=seed, folder=folder, **how)


def on_its_way(hear=CLIPS.__getitem__, *, encoder=None, machine=MACHINE, seed=0, **options):
    classes = classes_of(machine, DOMAIN, ATTRIBUTES)
    return Adaptation(encoder or encoder_of(), hear, classes, replace(RECIPE, **options), seed=seed)


def weights(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop_after(batch):
    def progress(done, _):
        if done == batch:
            raise KeyboardInterrupt

    return progress


def untouchable(number):
    raise AssertionError(f"clip {number} was heard")


def gradients(running):
    return [p.grad.clone() for p in running.learning.parameters()]


# the terms of the loss


@pytest.fixture
def heard():
    """Statistics of 6 clips, two microphones, and their classes."""
    drawn = torch.randn(6, 2, 10, generator=torch.Generator().manual_seed(3))
    classes = {"attribute": [0, 3, 1, 2, 3, 0], "machine": [0, 1, 0, 1, 1, 0], "domain": [0, 0, 0, 1, 2, 0]}
    return drawn, {term: torch.tensor(numbers) for term, numbers in classes.items()}


def objective(**options):
    counts = {"attribute": 4, "machine": 2, "domain": 3}
    made = Objective(10, counts, replace(RECIPE, dim=5, **options), torch.Generator().manual_seed(1))
    return made.double()


def test_statistics_are_means_and_deviations_over_time_and_bands(rng):
    tokens = rng.standard_normal((2, 3, 4, 5))
    found = statistics(torch.from_numpy(tokens))
    for one, expected in zip(found, tokens, strict=True):
        np.testing.assert_allclose(one, naive_adaptation.statistics(expected.tolist()), rtol=1e-6)


def test_deviations_of_what_is_constant_have_finite_gradients():
    tokens = torch.ones(1, 2, 2, 3, requires_grad=True)
    statistics(tokens).sum().backward()
    assert tokens.grad.isfinite().all()


def test_the_four_terms_are_those_of_their_equations(heard):
    made, (drawn, classes) = objective(), heard
    found = {name: loss.item() for name, loss in made(drawn.double(), classes).items()}
    near, far = drawn.double().unbind(1)
    joined = [n + f for n, f in zip(near.tolist(), far.tolist(), strict=True)]
    head = made.head.weight.tolist(), made.head.bias.tolist()
    embeddings = [naive_adaptation.linear(*head, vector) for vector in joined]
    numbers = {term: c.tolist() for term, c in classes.items()}
    expected = {
        "attribute": naive_adaptation.arcface(
            embeddings, made.proxies.tolist(), numbers["attribute"], 30.0, 0.3
        ),
        "consistency": naive_adaptation.consistency(near.tolist(), far.tolist()),
    }
    for term, classifier in made.classifiers.items():
        of_class = classifier.weight.tolist(), classifier.bias.tolist()
        logits = [naive_adaptation.linear(*of_class, embedding) for embedding in embeddings]
        expected[term] = naive_adaptation.cross_entropy(logits, numbers[term])
    total = sum(
        {"attribute": 1, "machine": 0.25, "domain": 0.15, "consistency": 0.05}[t] * x
        for t, x in expected.items()
    )
    assert found == pytest.approx({"loss": total, **expected}, rel=1e-6)


def test_weights_of_the_terms_are_options(heard):
    options = {"machine_weight": 2.0, "domain_weight": 3.0, "consistency_weight": 5.0}
    found = {name: loss.item() for name, loss in objective(**options)(heard[0].double(), heard[1]).items()}
    total = found["attribute"] + 2 * found["machine"] + 3 * found["domain"] + 5 * found["consistency"]
    assert found["loss"] == pytest.approx(total, rel=1e-9)


def test_scale_and_margin_reach_the_loss(monkeypatch):
    seen = []

    def noted(*tensors, **options):
        seen.append((tuple(tensors[1].shape), options))
        return sub_center_arcface(*tensors, **options)

    monkeypatch.setattr(adaptation, "sub_center_arcface", noted)
    trained(epochs=1, batch_size=8, micro_batch=8, scale=7.0, margin=0.2)
    assert seen == [((6, 1, 16), {"scale": 7.0, "margin": 0.2})]


def test_initial_weights_are_of_the_seed():
    first, again = (list(on_its_way().learning.parameters()) for _ in range(2))
    other = list(on_its_way(seed=1).learning.parameters())
    equal = [torch.equal(a, b) for a, b in zip(first, again, strict=True)]
    assert all(equal)
    same = [torch.equal(a, b) for a, b in zip(first, other, strict=True)]
    assert sum(same) == 4  # the parts of the adapters that begin at zero


# classes


def test_what_is_told_apart():
    found = classes_of(MACHINE, DOMAIN, ATTRIBUTES)
    assert {term: numbers.tolist() for term, numbers in found.items()} == {
        "attribute": [1, 0, 1, 2, 4, 3, 4, 5],
        "machine": [0, 0, 0, 0, 1, 1, 1, 1],
        "domain": [0, 0, 0, 1] * 2,
    }


@pytest.mark.parametrize(
    ("machine", "domain", "terms"),
    [
        (np.array(["fan"] * N), DOMAIN, {"attribute", "domain"}),
        (MACHINE, np.array(["source"] * N), {"attribute", "machine"}),
        (np.array(["fan"] * N), np.array(["source"] * N), {"attribute"}),
    ],
)
def test_what_all_clips_have_in_common_has_no_term_and_is_told(machine, domain, terms, caplog):
    with caplog.at_level(logging.INFO, "nearfar.training.adaptation"):
        found = trained(machine=machine, domain=domain, epochs=1)
    assert np.isfinite(np.concatenate([a.ravel() for a in found.values()])).all()
    assert classes_of(machine, domain, ATTRIBUTES).keys() == terms
    told = [record.getMessage() for record in caplog.records if "no such term" in record.getMessage()]
    missing = {"machine": "'fan'", "domain": "'source'"}
    assert set(told) >= {
        f"all clips are of one {t}, {missing[t]}: the loss has no such term" for t in missing.keys() - terms
    }
    losses = [record.getMessage() for record in caplog.records if record.getMessage().startswith("batch ")]
    assert all(("machine" in line) == ("machine" in terms) for line in losses)


# what learns


def test_eat_base_and_seven_machines_have_the_numbers_of_the_report():
    """Of 90.4 million frozen ones, with the head of 527 classes, and 0.99 million that are trained."""
    with torch.device("meta"):
        network = EatNetwork(classes=527)
    frozen = sum(p.numel() for p in network.parameters())
    adapters = lora.attach(
        network,
        lora.layers_of(network, adaptation.BLOCKS),
        rank=adaptation.RANK,
        alpha=adaptation.ALPHA,
        generator=torch.Generator(),
    )
    proxies = 70  # the combinations of seven machines, two domains, and five attributes each
    counts = {"attribute": proxies, "machine": 7, "domain": 2}
    made = Objective(2 * 768, counts, replace(RECIPE, dim=256), torch.Generator())
    counted = {
        "adapters": sum(p.numel() for a in adapters.values() for p in (a.down, a.up)),
        "head": sum(p.numel() for p in made.head.parameters()),
        "proxies": made.proxies.numel(),
        "machine": sum(p.numel() for p in made.classifiers["machine"].parameters()),
        "domain": sum(p.numel() for p in made.classifiers["domain"].parameters()),
    }
    assert counted == {
        "adapters": 184_320,
        "head": 786_688,  # 3072 * 256 + 256
        "proxies": 17_920,
        "machine": 1_799,
        "domain": 514,
    }
    trainable = sum(counted.values())
    assert trainable == 991_241
    assert round((frozen + trainable) / 1e6, 1) == 91.4
    assert round(100 * trainable / (frozen + trainable), 1) == 1.1


@pytest.mark.parametrize("name", tiny_weights.NETWORKS)
def test_adapters_and_heads_alone_have_gradients_and_all_else_stays(name):
    blocks = {"efficientat": (2, 3)}.get(name, (1, 2))
    running = on_its_way(encoder=encoder_of(name, blocks=blocks[-1:]), blocks=blocks)
    learnt = {id(p) for p in running.learning.parameters()}
    frozen = {n: t for n, t in running.module.state_dict(keep_vars=True).items() if id(t) not in learnt}
    before = {name: tensor.detach().numpy().tobytes() for name, tensor in frozen.items()}
    assert before
    for step in range(2):  # up begins at zero, so that down has no gradient in the first one
        running.step(step, [running.heard(i) for i in running.batch(step)])
    assert not running.module.training
    assert {n: t.detach().numpy().tobytes() for n, t in frozen.items()} == before
    assert all(tensor.grad is None for tensor in frozen.values())
    assert all(float(p.grad.abs().max()) > 0 for p in running.learning.parameters())


def test_gradients_of_the_adapters_are_those_of_differences():
    running = on_its_way(dropout=0.0, batch_size=3)
    running.module.double()
    running.learning.double()
    for adapter in running.adapters.values():
        adapter.up.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
    spectrograms = torch.randn(6, 128, 32, generator=torch.Generator().manual_seed(3)).double()
    classes = {term: numbers[:3] for term, numbers in running.classes.items()}

    def loss():
        grid = running.network.hear(spectrograms, (2,)).grid[:, 0]
        return running.objective(statistics(grid).unflatten(0, (3, 2)), classes)["loss"]

    loss().backward()
    for adapter in running.adapters.values():
        for weight in (adapter.down, adapter.up):
            places = int(weight.grad.abs().argmax())
            flat, found = weight.data.view(-1), float(weight.grad.view(-1)[places])
            kept = float(flat[places])
            values = []
            for change in (1e-6, -1e-6):
                flat[places] = kept + change
                values.append(float(loss().detach()))
            flat[places] = kept
            assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_the_encoder_is_left_as_it_is():
    encoder = encoder_of()
    clip = CLIPS[0][:1]
    before, file = encoder(clip), encoder.path.read_bytes()
    found = trained(encoder=encoder)
    np.testing.assert_array_equal(encoder(clip), before)
    assert encoder.arrays() == {}
    assert encoder.path.read_bytes() == file
    assert any(np.abs(array).max() > 0 for name, array in found.items() if name.endswith(".up"))


def test_an_encoder_takes_up_what_was_learnt(monkeypatch):
    kept = []
    monkeypatch.setattr(
        Adaptation, "arrays", lambda self, at=Adaptation.arrays: kept.append(self) or at(self)
    )
    found = trained(dropout=0.3)
    layers = [
        f"blocks.{i}.attn.{layer}.{end}"
        for i in (0, 1)
        for layer in ("qkv", "proj")
        for end in ("down", "up")
    ]
    assert set(found) == {f"lora.{layer}" for layer in layers} | {"head.weight", "head.bias"}
    assert found["head.weight"].shape == (16, 4 * 64)
    assert found["head.bias"].shape == (16,)
    adapted = encoder_of().with_arrays({n.removeprefix("lora."): a for n, a in found.items() if "lora." in n})
    network = kept[-1].network
    for adapter in kept[-1].adapters.values():
        adapter.generators = ()
    with torch.no_grad():
        expected = network(torch.from_numpy(CLIPS[0]), (2,)).grid
    np.testing.assert_allclose(adapted(CLIPS[0]), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(adapted(CLIPS[0]) - encoder_of()(CLIPS[0])).max() > 1e-3


def test_targets_choose_what_is_adapted():
    found = trained(blocks=(2,), targets=("attn.proj",), epochs=1)
    assert {name for name in found if name.startswith("lora")} == {
        "lora.blocks.1.attn.proj.down",
        "lora.blocks.1.attn.proj.up",
    }


def test_losses_fall(tmp_path):
    trained(tmp_path, epochs=15, keep_every=3, batch_size=8, micro_batch=8)
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table) == ["round", "batch", "loss", "attribute", "machine", "domain", "consistency"]
    assert table["batch"].tolist() == [3, 6, 9, 12, 15]
    last, first = table.iloc[-1], table.iloc[0]
    assert last["loss"] < 0.7 * first["loss"]
    assert last["machine"] < 0.9 * first["machine"]


# a batch


def test_a_batch_in_parts_has_the_gradients_of_the_whole():
    found = []
    for size in (8, 3, 1):
        running = on_its_way(batch_size=8, micro_batch=size, dropout=0.3)
        for adapter in running.adapters.values():
            adapter.up.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
        losses = running.accumulate(1, [running.heard(i) for i in running.batch(1)])
        found.append((losses, gradients(running)))
    for losses, grads in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-6)
        for one, whole in zip(grads, found[0][1], strict=True):
            torch.testing.assert_close(one, whole, rtol=0, atol=2e-6 * float(whole.abs().max()))


def test_clips_of_different_length_are_computed_apart(monkeypatch):
    lengths = (4000, 6000, 4000, 4000, 6000, 4000, 6000, 4000)
    mixed = clips(lengths)
    seen = []

    def noted(self, waveforms, generators, at=Adaptation.statistics):
        seen.append(waveforms.shape)
        return at(self, waveforms, generators)

    monkeypatch.setattr(Adaptation, "statistics", noted)
    running = on_its_way(mixed.__getitem__, batch_size=8, micro_batch=4)
    whole = running.accumulate(0, [running.heard(i) for i in running.batch(0)])
    assert sorted(seen) == [(1, 2, 4000), (3, 2, 6000), (4, 2, 4000)]
    single = on_its_way(mixed.__getitem__, batch_size=8, micro_batch=1)
    assert single.accumulate(0, [single.heard(i) for i in single.batch(0)]) == pytest.approx(whole, rel=1e-5)


def test_every_clip_is_heard_once_an_epoch_in_a_new_order_whatever_the_workers():
    for workers in (1, 3):
        heard = []
        trained(hear=lambda i, heard=heard: heard.append(i) or CLIPS[i], epochs=2, workers=workers)
        assert sorted(heard) == sorted([*range(N)] * 2)
    running = on_its_way()
    orders = [[i for step in steps for i in running.batch(step)] for steps in ((0, 1, 2), (3, 4, 5))]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(N))
    assert orders[0] != orders[1]
    assert on_its_way(seed=1).batch(0) != running.batch(0)


def test_masks_are_others_for_each_microphone_clip_batch_epoch_and_seed(monkeypatch):
    seen = []

    def noted(levels, generator, *, bands, frames):
        seen.append((generator.initial_seed(), tuple(levels.shape), (bands, frames)))
        return levels

    monkeypatch.setattr(adaptation, "spec_augment", noted)
    for seed in (0, 1):
        trained(seed=seed, epochs=2)
    assert len({seed for seed, *_ in seen}) == len(seen) == 2 * 2 * N
    frames = seen[0][1][2]
    assert {(shape, widest) for _, shape, widest in seen} == {((2, 128, frames), (16, frames // 16))}


def test_the_network_hears_what_is_masked(monkeypatch):
    monkeypatch.setattr(adaptation, "spec_augment", lambda levels, *_, **__: torch.zeros_like(levels))
    running = on_its_way(dropout=0.0)
    heard = running.statistics(np.stack(CLIPS[:2]), running.generators(0)[:2])
    assert heard.shape == (2, 2, 128)
    torch.testing.assert_close(heard[0, 0], heard[1, 1])


def test_near_and_far_are_in_their_places():
    running = on_its_way(dropout=0.0, band_mask=0.0, frame_mask=0.0)
    heard = running.statistics(np.stack(CLIPS[:2]), running.generators(0)[:2]).detach().numpy()
    for clip, found in zip(CLIPS[:2], heard, strict=True):
        tokens = encoder_of()(clip)[:, 0].astype(np.float64)
        expected = np.concatenate([tokens.mean(axis=(1, 2)), tokens.std(axis=(1, 2))], axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_another_rate_hears_at_its_own():
    running = on_its_way(encoder=encoder_of("efficientat", blocks=(2,)), blocks=(2,))
    assert running.heard(0).shape == (2, 2 * LENGTH)


@pytest.fixture
def steps(monkeypatch):
    """Of every step of the optimizer: learning rate, weight decay, number of tensors."""
    seen = []

    class Noted(torch.optim.AdamW):
        def step(self, closure=None):
            (group,) = self.param_groups
            seen.append((group["lr"], group["weight_decay"], len(group["params"])))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Noted)
    return seen


def test_the_learning_rate_warms_up_and_falls_over_all_steps(steps):
    trained(epochs=2, batch_size=2, warm_up_share=0.25, learning_rate=0.01, weight_decay=0.07)  # 8 steps
    middles = np.arange(8) + 0.5
    expected = np.where(middles < 2, middles / 2, (1 + np.cos(math.pi * (middles - 2) / 6)) / 2)
    np.testing.assert_allclose([rate for rate, *_ in steps], 0.01 * expected, rtol=1e-12)
    adapters, head, proxies, classifiers = 8, 2, 1, 4
    assert {(decay, count) for _, decay, count in steps} == {(0.07, adapters + head + proxies + classifiers)}


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_a_processor_trains_in_bfloat16_only_if_it_is_told_to(precision, dtype):
    running = on_its_way(precision=precision)
    seen = []
    running.module.blocks[0].attn.qkv.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    heard = running.statistics(np.stack(CLIPS[:2]), running.generators(0)[:2])
    assert seen == [dtype]
    assert heard.dtype == torch.float32


# equal bytes, and what is kept


def test_one_seed_gives_equal_bytes_and_another_seed_others():
    torch.manual_seed(1)
    first = weights(trained(seed=5))
    torch.manual_seed(2)  # nothing depends on global state
    before = torch.get_rng_state()
    assert weights(trained(seed=5, workers=2)) == first
    assert torch.equal(torch.get_rng_state(), before)
    other = weights(trained(seed=6))
    assert not [name for name in first if first[name] == other[name]]


def test_threads_are_given_back():
    before = torch.get_num_threads()
    seen = []
    trained(threads=2, epochs=1, progress=lambda *_: seen.append(torch.get_num_threads()))
    assert set(seen) == {2}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_an_interrupted_training_goes_on_to_the_bytes_of_an_unbroken_one(tmp_path, batch):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "broken", keep_every=2, progress=stop_after(batch))
    told = []
    found = trained(tmp_path / "broken", keep_every=2, progress=lambda *now: told.append(now))
    assert told == [(done, 6) for done in range(batch // 2 * 2 + 1, 7)]
    assert weights(found) == weights(trained(tmp_path / "unbroken", keep_every=2)) == weights(trained())
    ours, theirs = contents(tmp_path / "broken"), contents(tmp_path / "unbroken")
    assert ours.keys() == theirs.keys() == {"state.safetensors", "history.csv", "round_003.safetensors"}
    assert [name for name in ours if ours[name] != theirs[name]] in ([], ["history.csv"])


def test_what_is_finished_is_not_trained_again(tmp_path):
    first = trained(tmp_path)
    before = contents(tmp_path)
    assert weights(trained(tmp_path, untouchable)) == weights(first)
    assert contents(tmp_path) == before


def test_a_training_that_was_kept_otherwise(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, keep_every=2, progress=stop_after(2))
    with pytest.raises(
        ValueError, match=r"keep_every=3: .* has a training that was kept otherwise; give it the"
    ):
        trained(tmp_path, keep_every=3)


def test_what_is_kept_is_small(tmp_path):
    trained(tmp_path)
    assert not any(b"layer.weight" in content for content in contents(tmp_path).values())


def test_it_is_no_trainer_of_an_encoder():
    assert not any("adaptation" in name for name in TRAINERS.values())


# what is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 0, "dim": 0}, "dim=0, epochs=0: must be at least 1"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"micro_batch": 0, "keep_every": 0}, "micro_batch=0, keep_every=0: must be at least 1"),
        ({"threads": 0, "workers": 0}, "threads=0, workers=0: must be at least 1"),
        ({"band_mask": 1.1}, "band_mask=1.1: a share, must be from 0 to 1"),
        ({"frame_mask": -0.1}, "frame_mask=-0.1: a share, must be from 0 to 1"),
        ({"precision": "int8"}, "precision='int8': must be one of auto, float32, bfloat16"),
        ({"warm_up_share": 1.0}, "warm_up=1, length=1: the warm-up must end before the schedule does"),
        (
            {"blocks": (1, 3)},
            r"blocks=\[3\]: adapters above block 2, whose statistics are trained, learn nothing",
        ),
        ({"blocks": ()}, r"blocks=\(\): give the numbers of one block or more"),
        ({"targets": ("q",)}, r"targets=\['q'\]: must name one layer of block 1"),
        ({"rank": 0}, "rank=0, alpha=16, dropout=0.05: at least 1"),
        ({"machine": MACHINE[:7]}, "7 machines, 8 domains, 8 attributes: expected one of each a clip"),
        (
            {
                "machine": np.array(["fan"] * N),
                "domain": np.array(["s"] * N),
                "attributes": np.array(["a"] * N),
            },
            "8 clips of one machine, domain and attribute: there is nothing to tell apart",
        ),
    ],
)
def test_options_out_of_their_range_are_refused_before_anything_is_heard(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        trained(tmp_path / "folder", untouchable, **options)
    assert not (tmp_path / "folder").exists()


def test_an_encoder_of_several_blocks():
    with pytest.raises(
        ValueError, match=r"blocks=\(1, 2\) of the encoder: the statistics of one block are trai"
    ):
        trained(hear=untouchable, encoder=encoder_of(blocks=(1, 2)))


def test_a_block_that_is_not_there():
    with pytest.raises(ValueError, match=r"blocks=\(3,\): .*eat\.safetensors has the blocks 1 to 2"):
        trained(hear=untouchable, encoder=encoder_of(blocks=(3,)))


def test_an_encoder_that_is_adapted_already():
    arrays = {"blocks.0.attn.qkv.up": np.zeros((192, 1)), "blocks.0.attn.qkv.down": np.zeros((1, 64))}
    with pytest.raises(
        ValueError, match="the encoder is adapted already, and adapters are not learnt on others"
    ):
        trained(hear=untouchable, encoder=encoder_of().with_arrays(arrays))


@pytest.mark.parametrize("shape", [(4000,), (1, 4000), (3, 4000), (2, 399)])
def test_what_is_no_sound_of_two_microphones(shape):
    with pytest.raises(
        ValueError, match=r"clip \d: an array of shape .*; expected \(2, samples\), .* least 400 sam"
    ):
        trained(hear=lambda _: np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_clip_that_is_not_finite(value):
    broken = [clip.copy() for clip in CLIPS]
    broken[5][1, 7] = value
    with pytest.raises(ValueError, match="clip 5 is not finite: a recording with NaN or infinity cannot"):
        trained(hear=broken.__getitem__)


def test_a_loss_that_is_not_finite(tmp_path):
    with pytest.raises(
        ValueError, match=r"the loss of batch 2 is not finite \(loss nan, .*: lower learning_rate"
    ):
        trained(tmp_path, learning_rate=1e30, keep_every=1)
    assert pd.read_csv(tmp_path / "history.csv")["batch"].tolist() == [1]


def test_weights_that_are_not_finite_after_the_last_batch(tmp_path):
    with pytest.raises(
        ValueError, match=r"head\.weight.*: not finite after the last batch; lower learning_rate"
    ):
        trained(tmp_path, learning_rate=math.inf, warm_up_share=0.0, epochs=1, batch_size=8)
    assert not (tmp_path / "round_001.safetensors").exists()
