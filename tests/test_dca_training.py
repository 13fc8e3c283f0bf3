"""Training of DCA: equal bytes, what is trained on, what is learnt, what is kept, and what is refused."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict

import naive_dca
import numpy as np
import pandas as pd
import pytest
import torch

from nearfar.encoders.dca import Dca, Network
from nearfar.training import dca
from nearfar.training.dca import CollapseError, DcaRecipe, Objective, Training, classes_of
from nearfar.training.initialization import draw_weights
from nearfar.training.losses import sub_center_arcface

RATE = 16_000
TINY = {"n_fft": 128, "n_mels": 16, "frames": 16, "channels": 16, "layers": 1, "device": "cpu"}
N, EACH = 6, 3  # clips, and of each of the two groups
FAST = {"epochs": 3, "schedule_epochs": 6, "warm_up_epochs": 2, "batch_size": 4, "checkpoint_every": 10}


def tones(hertz, count, *, seed, seconds=0.1):
    """A tone at the near microphone, noise at both."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    near = [0.3 * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6)) for _ in range(count)]
    noise = 0.03 * rng.standard_normal((count, 2, len(time)))
    return [(np.stack([tone, 0 * tone]) + n).astype(np.float32) for tone, n in zip(near, noise, strict=True)]


CLIPS = tones(500, EACH, seed=0) + tones(3000, EACH, seed=1)
SOURCE = np.array(["source"] * N)
GROUPS = np.array(["slow"] * EACH + ["fast"] * EACH)
ONE_GROUP = np.array(["noAttribute"] * N)


def train(encoder, waveforms, *, domain, attributes, seed, folder=None, progress=None, **options):
    given = {"domain": domain, "attributes": attributes, "seed": seed, "folder": folder, "progress": progress}
    DcaRecipe(**options).train(encoder, waveforms, **given)


def trained(folder=None, waveforms=CLIPS, *, domain=SOURCE, attributes=GROUPS, seed=0, **options):
    encoder = Dca(**TINY)
    train(
        encoder, waveforms, domain=domain, attributes=attributes, seed=seed, folder=folder, **FAST | options
    )
    return encoder


def weights(encoder):
    return {name: array.tobytes() for name, array in encoder.arrays().items()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def history(folder):
    return pd.read_csv(folder / "history.csv")


def stop_after(epoch):
    def progress(done, _):
        if done == epoch:
            raise KeyboardInterrupt

    return progress


def untouchable():
    """Waveforms that nobody may read."""
    raise AssertionError("the waveforms were read")
    yield


def recipe(**options):
    defaults = {
        "schedule_epochs": 6,
        "warm_up_epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "sub_centers": 3,
        "scale": 30.0,
        "margin": 0.5,
        "center_weight": None,
        "precision": "float32",
    }
    return DcaRecipe(**defaults | options)


# equal bytes


def test_one_seed_gives_equal_bytes_and_another_seed_others():
    torch.manual_seed(1)
    first = weights(trained(seed=5))
    torch.manual_seed(2)  # nothing depends on global state
    assert weights(trained(waveforms=iter(CLIPS), seed=5)) == first
    other = weights(trained(seed=6))
    equal = [name for name in first if first[name] == other[name]]
    assert equal == [name for name in first if name == "level" or "num_batches" in name]


def test_an_encoder_that_was_trained_before_is_trained_anew():
    encoder = trained(seed=5)
    train(encoder, CLIPS, domain=SOURCE, attributes=GROUPS, seed=6, **FAST)
    assert weights(encoder) == weights(trained(seed=6))


def test_training_does_not_draw_from_the_global_generator():
    encoder, before = Dca(**TINY), torch.get_rng_state()
    train(encoder, CLIPS, domain=SOURCE, attributes=GROUPS, seed=0, **FAST)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("attributes", "epoch"), [(GROUPS, 1), (GROUPS, 2), (ONE_GROUP, 2)])
def test_an_interrupted_training_goes_on_to_the_weights_of_an_unbroken_one(tmp_path, attributes, epoch):
    options = {"attributes": attributes, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "broken", **options, progress=stop_after(epoch))
    told = []
    encoder = trained(tmp_path / "broken", **options, progress=lambda *now: told.append(now))
    assert told == [(done, 3) for done in range(epoch + 1, 4)]
    assert (
        weights(encoder) == weights(trained(tmp_path / "unbroken", **options)) == weights(trained(**options))
    )
    ours, theirs = contents(tmp_path / "broken"), contents(tmp_path / "unbroken")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] in ([], ["history.csv"])
    pd.testing.assert_frame_equal(
        history(tmp_path / "broken"), history(tmp_path / "unbroken"), check_like=True
    )


def test_an_interrupted_training_keeps_the_bytes_of_an_unbroken_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "broken", progress=stop_after(1))
    for folder in ("broken", "unbroken"):
        trained(tmp_path / folder)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_a_shorter_training_is_a_checkpoint_of_a_longer_one_with_the_same_schedule(tmp_path):
    trained(tmp_path, epochs=4, checkpoint_every=3)
    shorter = weights(trained(epochs=3))
    assert weights(trained(tmp_path, untouchable(), epochs=3)) == shorter
    assert weights(trained(epochs=3, schedule_epochs=7)) != shorter


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path):
    trained(tmp_path, epochs=2)
    told = []
    longer = trained(tmp_path, epochs=4, progress=lambda *now: told.append(now))
    assert told == [(3, 4), (4, 4)]
    assert weights(longer) == weights(trained(epochs=4))


def test_what_is_finished_is_not_trained_again(tmp_path, rng):
    first = trained(tmp_path)
    before = contents(tmp_path)
    again = trained(tmp_path, untouchable(), seed=1, progress=stop_after(3))
    assert again.is_fitted
    assert weights(again) == weights(first)
    assert contents(tmp_path) == before
    clip = rng.standard_normal((1, 2, 2000)).astype(np.float32)
    np.testing.assert_array_equal(again(clip), first(clip))


def test_a_foreign_checkpoint_is_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(ValueError, match="these are not the arrays of this network"):
        train(
            Dca(**TINY | {"channels": 8}),
            CLIPS,
            domain=SOURCE,
            attributes=GROUPS,
            seed=0,
            folder=tmp_path,
            **FAST,
        )


# classes


@pytest.mark.parametrize(
    ("domain", "attributes", "used", "classes"),
    [
        ("ssss", "abab", [0, 1, 2, 3], [0, 1, 0, 1]),
        ("ssss", "baca", [0, 1, 2, 3], [1, 0, 2, 0]),
        ("stst", "acbd", [0, 2], [0, 1]),  # source groups alone
        ("stst", "abab", [0, 1, 2, 3], [0, 0, 0, 0]),  # one source group, whatever the target has
        ("sstt", "aabc", [0, 1, 2, 3], [0, 0, 0, 0]),
        ("ssss", "aaaa", [0, 1, 2, 3], [0, 0, 0, 0]),
        ("????", "abca", [0, 1, 2, 3], [0, 1, 2, 0]),  # undisclosed domains count as source
        ("?t?s", "abcd", [0, 2, 3], [0, 1, 2]),
        ("tttt", "abcd", [0, 1, 2, 3], [0, 0, 0, 0]),  # no source at all
        ("", "", [], []),
    ],
)
def test_source_groups_are_classes_if_there_are_two(domain, attributes, used, classes):
    names = {"s": "source", "t": "target", "?": "undisclosed"}
    found = classes_of(np.array([names[d] for d in domain], str), np.array(list(attributes), str))
    assert found[0].tolist() == used
    assert found[1].tolist() == classes


@pytest.mark.parametrize(("attributes", "left_out"), [(GROUPS, True), (ONE_GROUP, False)])
def test_target_clips_are_left_out_of_classes_but_not_of_a_single_one(attributes, left_out):
    domain = np.array(["source"] * 2 + ["target"] + ["source"] * 3)
    other = [clip if d == "source" else clip[:, ::-1] / 2 for clip, d in zip(CLIPS, domain, strict=True)]
    found = [weights(trained(waveforms=w, domain=domain, attributes=attributes)) for w in (CLIPS, other)]
    assert (found[0] == found[1]) == left_out
    sources = domain == "source"
    without = [clip for clip, is_source in zip(CLIPS, sources, strict=True) if is_source]
    alone = trained(waveforms=without, domain=domain[sources], attributes=attributes[sources])
    assert (weights(alone) == found[0]) == left_out


# the objective


@pytest.mark.parametrize(("center_weight", "expected"), [(None, 0.01), (0.3, 0.3)])
def test_beside_arcface_the_center_loss_counts_little_and_both_are_means_over_the_microphones(
    center_weight, expected
):
    generator = torch.Generator().manual_seed(0)
    objective = Objective(3, 5, recipe(center_weight=center_weight), generator)
    objective.centers.data.normal_(generator=generator)
    embeddings = torch.nn.functional.normalize(torch.randn(4, 2, 5, generator=generator), dim=-1)
    classes = torch.tensor([2, 0, 1, 2])
    losses = {name: loss.item() for name, loss in objective(embeddings, classes).items()}
    arcface, center = [], []
    for i in range(2):
        one = embeddings[:, i].tolist()
        arcface.append(naive_dca.sub_center_arcface(one, objective.sub_centers.tolist(), classes, 30.0, 0.5))
        center.append(naive_dca.center_loss(one, objective.centers.tolist(), classes))
    assert losses["arcface"] == pytest.approx(np.mean(arcface), rel=1e-5)
    assert losses["center"] == pytest.approx(np.mean(center), rel=1e-5)
    assert losses["loss"] == pytest.approx(np.mean(arcface) + expected * np.mean(center), rel=1e-5)


@pytest.mark.parametrize(("center_weight", "expected"), [(None, 1.0), (0.3, 0.3)])
def test_a_single_class_has_the_center_loss_alone(center_weight, expected):
    generator = torch.Generator().manual_seed(0)
    objective = Objective(1, 5, recipe(center_weight=center_weight), generator)
    assert [name for name, _ in objective.named_parameters()] == ["centers"]
    embeddings = torch.nn.functional.normalize(torch.randn(4, 2, 5, generator=generator), dim=-1)
    losses = objective(embeddings, torch.zeros(4, dtype=torch.int64))
    assert losses.keys() == {"loss", "center"}
    assert losses["center"].item() == pytest.approx(0.5)  # of length one, around zero
    assert losses["loss"].item() == pytest.approx(0.5 * expected)


def test_centers_begin_at_zero_and_sub_centers_in_directions_of_the_seed():
    first, again, other = (
        Objective(4, 5, recipe(sub_centers=2), torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert first.centers.shape == (4, 5)
    assert not first.centers.any()
    assert first.sub_centers.shape == (4, 2, 5)
    torch.testing.assert_close(first.sub_centers.norm(dim=-1), torch.ones(4, 2))
    assert torch.equal(first.sub_centers, again.sub_centers)
    assert not torch.equal(first.sub_centers, other.sub_centers)


def test_scale_and_margin_reach_the_loss(monkeypatch):
    seen = []

    def noted(*tensors, **options):
        seen.append((tensors[1].shape, options))
        return sub_center_arcface(*tensors, **options)

    monkeypatch.setattr(dca, "sub_center_arcface", noted)
    trained(epochs=1, scale=7.0, margin=0.2, sub_centers=5)
    assert seen == [((2, 5, 16), {"scale": 7.0, "margin": 0.2})] * 2


# an epoch


@pytest.fixture
def masked(monkeypatch):
    """What is masked: the normalized levels of every batch, and the widest masks."""
    seen = []

    def noted(levels, generator, *, bands, frames, at=dca.spec_augment):
        seen.append((levels.clone(), (bands, frames)))
        return at(levels, generator, bands=bands, frames=frames)

    monkeypatch.setattr(dca, "spec_augment", noted)
    return seen


def test_every_clip_is_seen_once_an_epoch_in_a_new_order(masked):
    trained(epochs=2)
    assert [len(levels) for levels, _ in masked] == [4, 2] * 2
    seen = [one.numpy().tobytes() for levels, _ in masked for one in levels]
    assert len(set(seen)) == N
    assert set(seen[:N]) == set(seen[N:])
    assert seen[:N] != seen[N:]


def test_a_last_batch_of_one_is_left_out(masked):
    trained(epochs=2, batch_size=5)
    assert [len(levels) for levels, _ in masked] == [5, 5]


def test_levels_are_on_the_scale_of_those_that_are_trained_on(masked):
    domain = np.array(["source"] * 5 + ["target"])
    encoder = trained(epochs=1, domain=domain, batch_size=8)
    levels = encoder.spectrograms(np.stack(CLIPS[:5])).numpy().astype(np.float64)
    np.testing.assert_allclose(encoder.arrays()["level"], [levels.mean(), levels.std()], rtol=5e-4)
    ((normalized, _),) = masked
    assert float(normalized.mean()) == pytest.approx(0, abs=1e-4)
    assert float(normalized.std()) == pytest.approx(1, abs=1e-3)


def test_clips_without_any_sound_do_not_divide_by_zero(masked):
    with pytest.raises(CollapseError, match="the embeddings have collapsed in epoch 1"):
        trained(waveforms=[np.zeros((2, 1600), np.float32)] * N, epochs=1)
    assert all(torch.isfinite(levels).all() for levels, _ in masked)


def test_masks_are_an_eighth_of_the_bands_and_a_sixteenth_of_the_frames(masked):
    trained(epochs=1)
    assert {widest for _, widest in masked} == {(16 // 8, 16 // 16)}
    assert (128 // dca.BAND_SHARE, 256 // dca.BAND_SHARE, 1024 // dca.FRAME_SHARE) == (16, 32, 64)


def test_a_step_hears_what_is_masked_and_drops_out_with_the_same_generator(monkeypatch):
    masks, heard = [], []
    embeddings = Network.embeddings

    def mask(levels, generator, **_):
        masks.append((torch.full_like(levels, len(masks)), generator))
        return masks[-1][0]

    def noted(self, levels, generator=None):
        heard.append((levels, generator, self.training))
        return embeddings(self, levels, generator)

    monkeypatch.setattr(dca, "spec_augment", mask)
    monkeypatch.setattr(Network, "embeddings", noted)
    trained(epochs=2)
    steps = [one for one in heard if one[2]]
    assert len(steps) == len(masks) == 4
    for (levels, generator, _), (masked, of_masks) in zip(steps, masks, strict=True):
        assert levels is masked
        assert generator is of_masks
    assert all(generator is None for _, generator, is_training in heard if not is_training)


def test_masks_and_dropout_are_others_in_each_epoch_and_with_each_seed(monkeypatch):
    seeds = []

    def mask(levels, generator, **_):
        seeds.append(generator.initial_seed())
        return levels

    monkeypatch.setattr(dca, "spec_augment", mask)
    for seed in (0, 1):
        trained(epochs=2, seed=seed, batch_size=8)
    assert len(set(seeds)) == len(seeds) == 4


@pytest.fixture
def steps(monkeypatch):
    """Of every step of the optimizer: learning rate, weight decay, length of the gradient, number of tensors."""
    seen = []

    class Noted(torch.optim.AdamW):
        def step(self, closure=None):
            (group,) = self.param_groups
            squares = [float(p.grad.square().sum()) for p in group["params"]]
            seen.append((group["lr"], group["weight_decay"], math.sqrt(sum(squares)), len(squares)))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Noted)
    return seen


def test_the_learning_rate_follows_the_schedule_step_by_step(steps):
    """Warm-up to the second epoch, the end in the sixth; a step's rate is that of its middle, of two an epoch."""
    trained(epochs=5, learning_rate=0.01)
    middles = [0.25, 0.75, 1.25, 1.75]
    expected = [middle / 2 for middle in middles]
    for middle in (2.25, 2.75, 3.25, 3.75, 4.25, 4.75):
        expected.append((1 + math.cos(math.pi * (middle - 2) / 4)) / 2)
    np.testing.assert_allclose([rate for rate, *_ in steps], 0.01 * np.array(expected), rtol=1e-12)


def test_weight_decay_and_all_that_learns_reach_the_optimizer(steps):
    encoder = trained(epochs=1, weight_decay=0.07)
    centers_and_sub_centers = 2
    tensors = len(list(encoder.network.parameters())) + centers_and_sub_centers
    assert {(decay, count) for _, decay, _, count in steps} == {(0.07, tensors)}


def test_gradients_are_clipped_to_length_one(steps):
    trained(scale=300.0)
    lengths = [length for _, _, length, _ in steps]
    assert max(lengths) == pytest.approx(1, abs=1e-4)
    steps.clear()
    trained(attributes=ONE_GROUP, center_weight=1e-3)
    assert max(length for _, _, length, _ in steps) < 0.1  # those that are short stay as they are


def test_initial_weights_are_drawn_as_torch_draws_them():
    network = Network(16, heads=2)
    for tensor in network.state_dict().values():
        tensor.fill_(7)  # norms and statistics begin anew, too
    draw_weights(network, torch.Generator().manual_seed(7))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = Network(16, heads=2).state_dict()
    ours = network.state_dict()
    assert ours.pop("level").tolist() == [7, 7]  # which is not drawn
    del expected["level"]
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 9])
def test_a_training_begins_with_the_weights_of_its_seed(seed):
    encoder = trained(epochs=1, learning_rate=0.0, seed=seed)  # and ends with them
    expected = Network(16, layers=1)
    draw_weights(expected, torch.Generator().manual_seed(seed))
    found = dict(encoder.network.named_parameters())
    assert all(torch.equal(found[name], parameter) for name, parameter in expected.named_parameters())


def test_initial_weights_reach_their_bounds():
    network = Network(64, heads=2)
    draw_weights(network, torch.Generator().manual_seed(0))
    inputs = {"convolutions.3.0": 3 * 3 * 32, "attention.0.listeners.0.query": 64, "projection": 64}
    for name, count in inputs.items():
        for parameter in network.get_submodule(name).parameters():
            assert 0.9 / math.sqrt(count) < float(parameter.detach().abs().max()) <= 1 / math.sqrt(count)


# precision


@pytest.fixture
def dtypes(monkeypatch):
    """What the last linear layer gives, in training and while it is looked at."""
    seen = {True: set(), False: set()}
    embeddings = Network.embeddings

    def noted(self, *arguments):
        hook = self.projection.register_forward_hook(lambda _, __, out: seen[self.training].add(out.dtype))
        found = embeddings(self, *arguments)
        hook.remove()
        assert found.dtype == torch.float32
        return found

    monkeypatch.setattr(Network, "embeddings", noted)
    return seen


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_a_processor_trains_in_bfloat16_only_if_it_is_told_to(dtypes, precision, dtype):
    trained(epochs=1, precision=precision)
    assert dtypes == {True: {dtype}, False: {torch.float32}}


def test_bfloat16_trains_much_like_float32(tmp_path):
    encoders = [trained(tmp_path / p, precision=p) for p in ("float32", "bfloat16")]
    single, half = (history(tmp_path / precision) for precision in ("float32", "bfloat16"))
    assert np.isfinite(half.to_numpy()).all()
    np.testing.assert_allclose(half["loss"][0], single["loss"][0], rtol=0.1)
    embeddings = [encoder(np.stack(CLIPS)) for encoder in encoders]
    assert embeddings[1].dtype == np.float32
    assert (np.abs(embeddings[0] - embeddings[1]) > 0).any()
    np.testing.assert_allclose(embeddings[1], embeddings[0], rtol=0, atol=0.05)


# what is watched, told and kept


def test_the_history_has_a_row_an_epoch(tmp_path):
    trained(tmp_path / "classes")
    trained(tmp_path / "one", attributes=ONE_GROUP)
    columns = {
        "classes": ["epoch", "loss", "arcface", "center", "spread"],
        "one": ["epoch", "loss", "center", "spread"],
    }
    for folder, names in columns.items():
        table = history(tmp_path / folder)
        assert list(table) == names
        assert table["epoch"].tolist() == [1, 2, 3]
        assert np.isfinite(table.to_numpy()).all()
    np.testing.assert_allclose(table["loss"], table["center"])


def test_the_spread_is_the_mean_squared_distance_of_embeddings_from_their_mean(tmp_path):
    found = trained(tmp_path)(np.stack(CLIPS)).reshape(N, -1).astype(np.float64)
    mean = found.mean(axis=0)
    expected = np.mean([np.sum((embedding - mean) ** 2) for embedding in found])
    assert history(tmp_path)["spread"].iloc[-1] == pytest.approx(expected, rel=1e-4)


def test_of_many_clips_some_are_watched_first_and_last_too(tmp_path, monkeypatch):
    monkeypatch.setattr(dca, "WATCHED", 3)
    found = trained(tmp_path)(np.stack(CLIPS)[[0, 2, 5]]).reshape(3, -1).astype(np.float64)
    expected = found.var(axis=0).sum()
    assert history(tmp_path)["spread"].iloc[-1] == pytest.approx(expected, rel=1e-4)


def test_watching_changes_nothing(monkeypatch):
    watched = trained()
    monkeypatch.setattr(Training, "spread", lambda _: math.inf)
    assert weights(trained()) == weights(watched)


def test_every_epoch_is_logged_with_its_spread(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "nearfar.training.dca"):
        trained(tmp_path)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    spreads = history(tmp_path)["spread"]
    assert len(messages) == 3
    for i, message in enumerate(messages):
        assert message.startswith(f"epoch {i + 1}: loss ")
        assert message.endswith(f"spread {spreads[i]:.3g}")


def test_progress_is_told_after_every_epoch():
    told = []
    trained(progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_is_trained_can_be_called():
    encoder = trained()
    assert encoder.is_fitted
    assert not encoder.network.training
    assert np.isfinite(encoder(np.stack(CLIPS))).all()


# a collapse

EQUAL = CLIPS[:1] * N


@pytest.mark.parametrize(
    ("attributes", "advice"),
    [
        (
            ONE_GROUP,
            "with a single class only the center loss is left, .*: give the clips attributes, train for",
        ),
        (GROUPS, "lower training.learning_rate$"),
    ],
    ids=["single class", "classes"],
)
def test_a_collapse_says_in_which_epoch_and_why(monkeypatch, attributes, advice):
    monkeypatch.setattr(dca, "SMALLEST_SPREAD", 3.5)
    encoder = Dca(**TINY)
    with pytest.raises(CollapseError, match=rf"collapsed in epoch 3: .* is \S+, less than 3\.5; {advice}"):
        train(encoder, CLIPS, domain=SOURCE, attributes=attributes, seed=0, **FAST)
    assert not encoder.is_fitted


def test_clips_that_are_all_the_same_collapse_whatever_the_limit():
    with pytest.raises(ValueError, match="the embeddings have collapsed"):
        trained(waveforms=EQUAL)


@pytest.mark.parametrize(("epochs", "refused"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_a_collapse_is_found_after_the_warm_up_or_at_the_end_and_not_kept(tmp_path, epochs, refused):
    with pytest.raises(CollapseError, match=f"in epoch {refused}:"):
        trained(tmp_path, EQUAL, epochs=epochs)
    kept = history(tmp_path)["epoch"].tolist() if refused > 1 else []
    assert kept == list(range(1, refused))
    assert not list(tmp_path.glob("epoch_*"))


def test_a_collapse_is_an_error_again_when_it_is_taken_up(tmp_path):
    for _ in range(2):
        with pytest.raises(CollapseError, match="in epoch 3:"):
            trained(tmp_path, EQUAL)


@pytest.mark.parametrize("checkpoint_every", [1, 10])
def test_a_shorter_training_takes_no_collapse_from_a_longer_ones_warm_up(tmp_path, checkpoint_every):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, EQUAL, checkpoint_every=checkpoint_every, progress=stop_after(2))
    with pytest.raises(CollapseError, match="in epoch 2:"):
        trained(tmp_path, EQUAL, checkpoint_every=checkpoint_every, epochs=2)


def test_a_training_that_ends_where_a_longer_one_was_interrupted_keeps_its_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, progress=stop_after(2))
    trained(tmp_path, epochs=2)
    assert (tmp_path / "epoch_002.safetensors").is_file()


@pytest.mark.parametrize(("limit", "warned"), [(0.0, False), (3.5, True)])
def test_a_small_spread_is_a_warning(monkeypatch, caplog, limit, warned):
    monkeypatch.setattr(dca, "SMALL_SPREAD", limit)
    assert trained().is_fitted
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == warned
    assert all("the embeddings of all training clips are nearly the same" in message for message in told)


# what is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 0}, "epochs=0, batch_size=4, checkpoint_every=10: at least 1 epoch, 2 clips"),
        ({"batch_size": 1}, "epochs=3, batch_size=1, checkpoint_every=10: at least 1 epoch, 2 clips"),
        (
            {"checkpoint_every": 0},
            "batch_size=4, checkpoint_every=0: .* 1 epoch from checkpoint to checkpoint",
        ),
        ({"warm_up_epochs": 6}, "warm_up=6, length=6: the warm-up must end before the schedule does"),
        ({"warm_up_epochs": -1}, "warm_up=-1, length=6: the warm-up must end before the schedule does"),
        ({"epochs": 7}, "epochs=7: the schedule is over after schedule_epochs=6"),
    ],
)
def test_options_out_of_their_range_are_refused_before_anything_is_read(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        trained(tmp_path / "folder", untouchable(), **options)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(("domain", "attributes", "count"), [("", "", 0), ("s", "a", 1), ("t", "a", 1)])
def test_too_few_clips_are_refused(domain, attributes, count):
    domain = np.array([{"s": "source", "t": "target"}[d] for d in domain], str)
    encoder = Dca(**TINY)
    with pytest.raises(ValueError, match=f"{count} training clips: batch normalization needs 2 or more"):
        train(
            encoder, CLIPS[:count], domain=domain, attributes=np.array(list(attributes), str), seed=0, **FAST
        )
    assert not encoder.is_fitted


def test_two_clips_of_a_class_each_are_enough():
    encoder = trained(waveforms=CLIPS[2:4], domain=SOURCE[2:4], attributes=GROUPS[2:4], epochs=1)
    assert encoder.is_fitted


@pytest.mark.parametrize(("threads", "interrupted"), [(1, False), (2, True)])
def test_the_number_of_threads_is_as_before_even_after_an_interruption(threads, interrupted):
    before, during = torch.get_num_threads(), []
    torch.set_num_threads(3)

    def progress(*_):
        during.append(torch.get_num_threads())
        if interrupted:
            raise KeyboardInterrupt

    try:
        trained(epochs=1, threads=threads, progress=progress)
    except KeyboardInterrupt:
        assert interrupted
    finally:
        after = torch.get_num_threads()
        torch.set_num_threads(before)
    assert after == 3
    assert during == [threads]


# what is learnt


def test_the_defaults_are_those_of_the_report_and_of_the_decisions():
    assert (dca.EPOCHS, dca.WARM_UP_EPOCHS) == (30, 5)
    assert asdict(DcaRecipe()) == {
        "epochs": 30,
        "schedule_epochs": 30,
        "warm_up_epochs": 5,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "sub_centers": 3,
        "scale": 30.0,
        "margin": 0.5,
        "center_weight": None,
        "precision": "auto",
        "checkpoint_every": 10,
        "threads": 1,
    }


def test_two_tones_become_separable(tmp_path):
    clips = tones(500, 8, seed=0) + tones(3000, 8, seed=1)
    groups = np.array(["slow"] * 8 + ["fast"] * 8)
    options = {"epochs": 40, "schedule_epochs": 40, "batch_size": 16, "learning_rate": 5e-3}
    encoder = trained(tmp_path, clips, domain=np.array(["source"] * 16), attributes=groups, **options)
    table = history(tmp_path)
    assert table["arcface"].iloc[-3:].mean() < table["arcface"].iloc[0] / 10
    assert table["spread"].iloc[-1] > 100 * table["spread"].iloc[0]
    unseen = tones(500, 4, seed=2) + tones(3000, 4, seed=3)
    slow, fast = encoder(np.stack(unseen)).reshape(2, 4, -1)
    assert min((slow @ slow.T).min(), (fast @ fast.T).min()) > (slow @ fast.T).max()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sub_centers": 0}, "sub_centers=0, threads=1, precision='auto': at least 1, at least 1"),
        ({"threads": 0}, "threads=0, precision='auto'"),
        ({"precision": "bf16"}, "precision='bf16': .* one of auto"),
    ],
)
def test_options_without_a_meaning_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        trained(**options)


def test_clips_and_what_is_told_of_them_must_be_as_many():
    domain, attributes = np.array(["source"] * 3), np.array(["a", "b"])
    with pytest.raises(ValueError, match="3 domains, but 2 attributes: expected one of each a clip"):
        classes_of(domain, attributes)
    waveforms = [np.zeros((2, 4000), np.float32)] * 4
    told = {"domain": np.array(["source"] * 3), "attributes": np.array([""] * 3)}
    encoder = Dca(n_fft=128, n_mels=16, frames=16, channels=16, device="cpu")
    with pytest.raises(ValueError, match="4 waveforms, but 3 domains: expected one of each a clip"):
        train(encoder, waveforms, **told, seed=1)


def test_waveforms_that_are_not_finite_are_refused_and_leave_nothing_fitted():
    waveforms = [np.full((2, 4000), np.nan, np.float32)] * 3
    told = {"domain": np.array(["source"] * 3), "attributes": np.array([""] * 3)}
    encoder = Dca(n_fft=128, n_mels=16, frames=16, channels=16, device="cpu")
    encoder.is_fitted = True
    with pytest.raises(
        ValueError, match="the waveforms of 3 of 3 clips are not finite, the first at position 0"
    ):
        train(encoder, waveforms, **told, seed=1)
    assert not encoder.is_fitted
