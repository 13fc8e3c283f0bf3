"""Training by sub-cluster AdaCos: its loss and scale, pooling, classes, mixtures, equal bytes, what is refused."""

from __future__ import annotations

import logging
import math

import naive_adacos
import numpy as np
import pandas as pd
import pytest
import tiny_weights
import torch
from test_adaptation import CLIPS, LENGTH, N, contents, encoder_of, stop_after, untouchable, weights
from torch.nn import functional

from nearfar.systems import configuration
from nearfar.systems.resolved import resolve
from nearfar.training import ADAPTATIONS, adacos, adapter_trainer
from nearfar.training.adacos import UNTOLD, AdaCosRecipe, pseudo_labels
from nearfar.training.adapters import HeardClips
from nearfar.training.attentive_statistics import AttentiveStatistics
from nearfar.training.losses import adaptive_scale, all_cosines, initial_scale, sub_cluster_adacos

MACHINE = np.array(["fan"] * 4 + ["pump"] * 4)
DOMAIN = np.array(["source"] * 7 + ["target"])
ATTRIBUTES = np.array(["slow", "fast", "slow", "slow", "", "", "", ""])
FAST = {
    "blocks": (1, 2), "rank": 2, "dim": 16, "batch_size": 3, "micro_batch": 2, "learning_rate": 1e-2, "epochs": 2,
    "sub_clusters": 3, "pseudo_classes": 2, "attention_dim": 4, "precision": "float32",
}  # fmt: skip
NEAR = [clip[:1] for clip in CLIPS]


def heard_clips(hear=NEAR.__getitem__, *, microphones=1, **told):
    told = {"machine": MACHINE, "domain": DOMAIN, "attributes": ATTRIBUTES} | told
    return HeardClips(hear, **told, microphones=microphones)


def trained(folder=None, clips=None, *, seed=0, encoder=None, workers=1, progress=None, **options):
    recipe = AdaCosRecipe(**FAST | options)
    return recipe.train(
        encoder or encoder_of(), clips or heard_clips(), seed=seed, folder=folder, workers=workers,
        progress=progress,
    )  # fmt: skip


def on_its_way(clips=None, *, seed=0, encoder=None, **options):
    clips, recipe = clips or heard_clips(), AdaCosRecipe(**FAST | options)
    return recipe.begin(encoder or encoder_of(), clips, recipe.classes(clips), seed=seed, folder=None)


def batch_of(running, step):
    return [running.heard(number) for number in running.batch(step)]


# the loss


@pytest.fixture
def problem():
    """6 embeddings, 3 classes of 4 sub-clusters, labels of which two are mixed."""
    generator = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(6, 5, generator=generator, dtype=torch.float64), dim=-1)
    centers = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    labels = functional.one_hot(torch.tensor([0, 2, 1, 1, 0, 2]), 3).double()
    labels[1], labels[4] = torch.tensor([0.3, 0, 0.7]), torch.tensor([0.5, 0.5, 0])
    return embeddings, centers, labels


@pytest.mark.parametrize("scale", [0.5, 6.0, 40.0])
def test_the_loss_and_the_next_scale_are_their_twins(problem, scale):
    embeddings, centers, labels = problem
    cosines, told = all_cosines(embeddings, centers), [part.tolist() for part in problem]
    assert float(sub_cluster_adacos(cosines, labels, scale=scale)) == pytest.approx(
        naive_adacos.adacos(*told, scale), rel=1e-10
    )
    assert float(adaptive_scale(cosines, labels, scale=scale)) == pytest.approx(
        naive_adacos.next_scale(*told, scale), rel=1e-10
    )


def test_the_scale_of_embeddings_close_to_their_centers_has_their_angle(problem):
    """Below 45 degrees the divisor is not a constant."""
    _, centers, _ = problem
    embeddings = functional.normalize(centers[:, 1] + 0.3 * centers[:, 0], dim=-1)
    labels = torch.eye(3, dtype=torch.float64)
    cosines = all_cosines(embeddings, centers)
    assert cosines.amax(dim=-1).diagonal().median() > math.cos(math.pi / 4)
    told = [part.tolist() for part in (embeddings, centers, labels)]
    assert float(adaptive_scale(cosines, labels, scale=9.0)) == pytest.approx(
        naive_adacos.next_scale(*told, 9.0), rel=1e-10
    )


def test_with_one_sub_cluster_it_is_the_cross_entropy_of_scaled_cosines(problem):
    embeddings, centers, _ = problem
    cosines, classes = all_cosines(embeddings, centers[:, :1]), torch.tensor([0, 2, 1, 1, 0, 2])
    found = sub_cluster_adacos(cosines, functional.one_hot(classes, 3).double(), scale=7.0)
    torch.testing.assert_close(found, functional.cross_entropy(7 * cosines[..., 0], classes))


def test_a_class_may_be_several_directions():
    """Two opposite sub-clusters: an embedding at either is at no loss, one between them is."""
    centers = torch.tensor([[[1.0, 0, 0], [-1, 0, 0]], [[0, 1, 0], [0, -1, 0]]])
    own = torch.tensor([[1.0, 0]])
    at, between = torch.tensor([[-1.0, 0, 0]]), torch.tensor([[0.0, 0, 1]])
    losses = [float(sub_cluster_adacos(all_cosines(e, centers), own, scale=20.0)) for e in (at, between)]
    assert losses[0] < 1e-6
    assert losses[1] == pytest.approx(math.log(2))


def test_the_gradient_is_that_of_differences(problem):
    embeddings, centers, labels = problem

    def loss(e, c):
        return sub_cluster_adacos(all_cosines(e, c), labels, scale=6.0)

    assert torch.autograd.gradcheck(loss, (embeddings.requires_grad_(), centers.requires_grad_()))


def test_a_large_scale_is_finite(problem):
    embeddings, centers, labels = problem
    cosines = all_cosines(embeddings.float(), centers.float())
    assert sub_cluster_adacos(cosines, labels.float(), scale=1e4).isfinite()
    assert adaptive_scale(cosines, labels.float(), scale=1e4).isfinite()


def test_the_first_scale():
    assert initial_scale(7, 16) == pytest.approx(math.sqrt(2) * math.log(111))
    with pytest.raises(
        ValueError, match="classes=2, sub_clusters=1: AdaCos needs at least 3 sub-clusters in all"
    ):
        initial_scale(2, 1)


# pooling


def test_attentive_statistics_are_their_twin(rng):
    pooling = AttentiveStatistics(5, 3).double()
    for parameter in pooling.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    tokens = torch.from_numpy(rng.standard_normal((2, 3, 4, 6, 5)))  # clips, microphones, frames, bands
    found = pooling(tokens)
    assert found.shape == (2, 3, 10)
    weight, bias, score = (parameter.detach().tolist() for parameter in pooling.parameters())
    for clip in range(2):
        for microphone in range(3):
            listed = tokens[clip, microphone].reshape(-1, 5).tolist()
            expected = naive_adacos.attentive_statistics(listed, weight, bias, score[0])
            np.testing.assert_allclose(found[clip, microphone].detach(), expected, rtol=1e-9)


def test_what_is_constant_has_finite_gradients():
    pooling = AttentiveStatistics(3, 2)
    for parameter in pooling.parameters():
        parameter.data.fill_(0.1)
    tokens = torch.ones(1, 2, 2, 3, requires_grad=True)
    pooling(tokens).sum().backward()
    assert tokens.grad.isfinite().all()


# classes


def test_a_class_is_a_machine_with_its_attributes_and_clips_without_are_told_later():
    found = AdaCosRecipe(**FAST).classes(heard_clips())
    assert found["attribute"].tolist() == [1, 0, 1, 1, UNTOLD, UNTOLD, UNTOLD, UNTOLD]
    assert found["machine"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    one = AdaCosRecipe(**FAST, without_attributes="one_class").classes(heard_clips())
    assert one["attribute"].tolist() == [1, 0, 1, 1, 2, 2, 2, 2]


def test_pseudo_classes_are_of_each_machine_and_follow_those_that_are_told():
    numbers = on_its_way().classes["attribute"].tolist()
    assert numbers[:4] == [1, 0, 1, 1]
    assert set(numbers[4:]) == {2, 3}
    nothing_told = on_its_way(heard_clips(attributes=np.array([""] * N))).classes["attribute"].tolist()
    assert set(nothing_told[:4]) == {0, 1}
    assert set(nothing_told[4:]) == {2, 3}


def test_pseudo_classes_are_the_sounds_that_are_alike():
    """Low tones, and high ones."""

    def spectrum(waveforms):
        return np.abs(np.fft.rfft(waveforms))[:, None, None, None]

    places = np.array([0, 2, 4, 3, 6, 7])
    found = pseudo_labels(spectrum, NEAR.__getitem__, places, count=2, seed=0).tolist()
    assert found in ([0, 0, 1, 0, 1, 1], [1, 1, 0, 1, 0, 0])


def test_there_are_no_more_pseudo_classes_than_clips():
    found = pseudo_labels(encoder_of(), NEAR.__getitem__, np.array([0, 5]), count=9, seed=0)
    assert sorted(found) == [0, 1]


def test_pseudo_classes_are_kept_and_heard_once(tmp_path, caplog):
    asked = []
    clips = heard_clips(lambda number: asked.append(number) or NEAR[number])
    with caplog.at_level(logging.INFO, "nearfar.training.adacos"), pytest.raises(KeyboardInterrupt):
        trained(tmp_path, clips, progress=stop_after(1), keep_every=1)
    assert asked[:4] == [4, 5, 6, 7]
    assert "4 clips without attributes: 2 pseudo-classes" in caplog.text
    asked.clear()
    trained(tmp_path, clips, keep_every=1)
    assert len(asked) == 2 * N - 3  # all but the first batch


# batches


def test_some_are_mixed_with_their_labels_and_others_are_as_they_are():
    running = on_its_way(batch_size=8)
    waveforms = batch_of(running, 0)
    mixed, targets = running.examples(0, waveforms)
    labels, numbers = targets["attribute"], running.classes["attribute"][torch.tensor(running.batch(0))]
    own = labels[torch.arange(8), numbers]
    assert labels.sum(dim=1).tolist() == pytest.approx([1.0] * 8)
    draws = running._drawn(0)
    untouched = (draws[1] >= 0.5).tolist()
    assert 0 < sum(untouched) < 8
    for place, is_untouched in enumerate(untouched):
        partner = (place - 1) % 8
        weight = 1.0 if is_untouched else float(draws[2][place])
        expected = weight * waveforms[place] + (1 - weight) * waveforms[partner]
        np.testing.assert_allclose(mixed[place], expected, rtol=1e-5, atol=1e-7)
        shared = bool(numbers[place] == numbers[partner])
        assert float(own[place]) == pytest.approx(1.0 if shared else weight, abs=1e-6)


@pytest.mark.parametrize(("share", "unmixed"), [(0.0, 8), (1.0, 0)])
def test_none_or_all_are_mixed(share, unmixed):
    running = on_its_way(batch_size=8, mixed_share=share)
    waveforms = batch_of(running, 0)
    mixed, _ = running.examples(0, waveforms)
    assert sum(np.array_equal(a, b) for a, b in zip(mixed, waveforms, strict=True)) == unmixed


def test_only_clips_of_one_length_are_mixed():
    lengths = (4000, 6000, 4000, 4000, 4000, 6000, 4000, 4000)
    clips = [np.resize(NEAR[i], (1, length)) for i, length in enumerate(lengths)]
    running = on_its_way(heard_clips(clips.__getitem__), batch_size=8, mixed_share=1.0)
    mixed, _ = running.examples(0, batch_of(running, 0))
    assert sorted(waveform.shape[1] for waveform in mixed) == sorted(lengths)
    assert np.isfinite(running.accumulate(0, batch_of(running, 0))["loss"])


@pytest.mark.parametrize(("name", "factor"), [("eat", 1), ("efficientat", 2)])
def test_parts_of_clips_are_drawn_anew(name, factor):
    encoder = encoder_of(name, blocks=(2,))
    running = on_its_way(encoder=encoder, blocks=(2,), seconds=0.1, mixed_share=0.0, batch_size=8)
    waveforms = batch_of(running, 0)
    found, _ = running.examples(0, waveforms)
    assert {part.shape for part in found} == {(1, 1600 * factor)}
    starts = set()
    for part, whole in zip(found, waveforms, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(whole[0], part.shape[1])
        (start,) = np.flatnonzero((windows == part[0]).all(axis=1))
        starts.add(int(start))
    assert len(starts) > 4
    longer = on_its_way(encoder=encoder, blocks=(2,), seconds=9.0)
    assert {part.shape for part in longer.examples(0, batch_of(longer, 0))[0]} == {(1, LENGTH * factor)}


def test_a_batch_in_parts_has_the_gradients_and_the_next_scale_of_the_whole():
    found = []
    for size in (8, 3, 1):
        running = on_its_way(batch_size=8, micro_batch=size, dropout=0.3)
        for adapter in running.adapters.values():
            adapter.up.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
        losses = running.accumulate(1, batch_of(running, 1))
        gradients = [p.grad.clone() for p in running.learning.parameters()]
        found.append((losses, gradients, float(running.objective.scale)))
    for losses, gradients, scale in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-5)
        assert scale == pytest.approx(found[0][2], rel=1e-6)
        for one, whole in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_the_scale_of_a_batch_comes_from_the_one_before():
    running = on_its_way()
    first, second = (running.step(step, batch_of(running, step))["scale"] for step in (0, 1))
    classes = int(running.classes["attribute"].max()) + 1
    assert first == pytest.approx(initial_scale(classes, 3), rel=1e-6)
    assert second != first
    assert running.objective.seen == []


@pytest.mark.parametrize("name", tiny_weights.NETWORKS)
def test_any_pretrained_network_learns_in_its_adapters_alone(name):
    blocks = {"efficientat": (2, 3)}.get(name, (1, 2))
    running = on_its_way(encoder=encoder_of(name, blocks=blocks[-1:]), blocks=blocks, batch_size=8)
    learnt = {id(p) for p in running.learning.parameters()}
    frozen = {n: t for n, t in running.module.state_dict(keep_vars=True).items() if id(t) not in learnt}
    before = {n: t.detach().numpy().tobytes() for n, t in frozen.items()}
    for step in range(2):
        running.step(step, batch_of(running, step))
    assert {n: t.detach().numpy().tobytes() for n, t in frozen.items()} == before
    assert all(float(p.grad.abs().max()) > 0 for p in running.learning.parameters())


def test_losses_fall(tmp_path):
    trained(tmp_path, epochs=20, keep_every=4, batch_size=8, mixed_share=0.0)
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table) == ["round", "batch", "loss", "scale"]
    assert table["loss"].iloc[-1] < 0.7 * table["loss"].iloc[0]


def test_several_microphones_go_through_one_network_side_by_side():
    running = on_its_way(heard_clips(CLIPS.__getitem__, microphones=2))
    assert running.objective.embedding.in_features == 2 * 2 * 64
    assert np.isfinite(running.step(0, batch_of(running, 0))["loss"])
    with pytest.raises(
        ValueError, match=r"an array of shape \(1, 4000\); expected \(2, samples\), a row for each"
    ):
        trained(clips=heard_clips(microphones=2, attributes=np.array(["a"] * N)))


# what comes out


def test_only_adapters_come_out_and_an_encoder_takes_them_up():
    found = trained()
    assert found
    assert all(name.startswith("lora.") for name in found)
    adapted = encoder_of().with_arrays({name.removeprefix("lora."): array for name, array in found.items()})
    assert np.abs(adapted(NEAR[0]) - encoder_of()(NEAR[0])).max() > 1e-3


def test_one_seed_gives_equal_bytes_and_another_seed_others():
    torch.manual_seed(1)
    first = weights(trained(seed=5, dropout=0.1))
    torch.manual_seed(2)
    assert weights(trained(seed=5, dropout=0.1, workers=2)) == first
    other = weights(trained(seed=6, dropout=0.1))
    assert not [name for name in first if first[name] == other[name]]


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_an_interrupted_training_goes_on_to_the_bytes_of_an_unbroken_one(tmp_path, batch):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "broken", keep_every=2, progress=stop_after(batch))
    found = trained(tmp_path / "broken", keep_every=2)
    assert weights(found) == weights(trained(tmp_path / "unbroken", keep_every=2))
    files = {"state.safetensors", "history.csv", "round_003.safetensors", adacos.PSEUDO_LABELS}
    assert contents(tmp_path / "broken").keys() == files
    assert weights(trained(tmp_path / "broken", heard_clips(untouchable), keep_every=2)) == weights(found)


# what is refused


@pytest.mark.parametrize(
    ("options", "told", "match"),
    [
        ({"sub_clusters": 0}, {}, "sub_clusters=0: must be at least 1"),
        ({"epochs": 0}, {}, "epochs=0: must be at least 1"),
        (
            {"pseudo_classes": 0, "attention_dim": 0},
            {},
            "pseudo_classes=0, attention_dim=0: must be at least 1",
        ),
        ({"mixed_share": 1.5}, {}, r"mixed_share=1\.5: a share, must be from 0 to 1"),
        ({"seconds": 0.0}, {}, "seconds=0: must be above 0; omit it to train on whole clips"),
        ({"without_attributes": "guess"}, {}, "without_attributes='guess': must be 'kmeans' or 'one_class'"),
        (
            {"without_attributes": "one_class"},
            {"machine": np.array(["fan"] * N), "attributes": np.array([""] * N)},
            "8 clips of one machine, attributes '': there is nothing to tell apart; give clips of several machines",
        ),
        (
            {},
            {"machine": np.array(["fan"] * N), "attributes": np.array(["slow"] * N)},
            "8 clips of one machine, attributes 'slow': there is nothing to tell apart",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_heard(tmp_path, options, told, match):
    with pytest.raises(ValueError, match=match):
        trained(tmp_path / "folder", heard_clips(untouchable, **told), **options)
    assert not (tmp_path / "folder").exists()


# in systems


def test_the_recipes_are_there():
    assert list(ADAPTATIONS) == ["arcface", "adacos"]
    assert adapter_trainer("adacos") is AdaCosRecipe
    with pytest.raises(ValueError, match="no recipe 'adacoss'; did you mean 'adacos'"):
        adapter_trainer("adacoss")


def test_the_recipe_has_the_numbers_of_its_source():
    recipe = AdaCosRecipe(blocks=(1,))
    assert (recipe.rank, recipe.sub_clusters, recipe.mixed_share) == (64, 16, 0.5)
    assert (recipe.batch_size, recipe.learning_rate) == (8, 1e-4)
    assert recipe.epochs * math.ceil(7000 / 8) == pytest.approx(37_500, rel=0.01)
    assert recipe.warm_up_share * 37_500 == pytest.approx(5000)
    written = configuration.load("w1_lora").branch.adaptation
    for name in ("rank", "sub_clusters", "mixed_share", "batch_size", "learning_rate"):
        assert written[name] == getattr(recipe, name)
    assert written["warm_up_share"] == pytest.approx(recipe.warm_up_share)


@pytest.mark.parametrize(("name", "microphones"), [("w1_lora", ("cancelled",)), ("dualmic", ("near", "far"))])
def test_a_recipe_hears_the_view_unless_it_has_microphones_of_its_own(name, microphones):
    settings = {
        "branch.encoder_options.weights": str(tiny_weights.written(configuration.load(name).branch.encoder))
    }
    (branch,) = resolve(configuration.load(name, settings), seed=0).branches
    assert branch.adapted_on_microphones == microphones


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"branch.adaptation.recipe": "arkface"}, "no recipe 'arkface'; did you mean 'arcface'"),
        ({"branch.adaptation.margin": 0.3}, "no adaptation key 'margin'"),
        ({"branch.adaptation.rnk": 3}, "no adaptation key 'rnk'; did you mean 'rank'"),
        ({"branch.adaptation": {"recipe": "adacos"}}, "blocks: is missing"),
        ({"machines.fan": {"branch.view": "near"}}, "adaptation and encoder are of all machines together"),
        (
            {
                "branch.conditioning": ["head"],
                "branch.view": "near_and_far",
                "branch.pooling": "global_mean_std",
            },
            "conditioning 'head' comes from an adapter, but the recipe 'adacos' keeps none",
        ),
    ],
)
def test_a_wrong_adaptation_is_an_error(settings, match):
    with pytest.raises(ValueError, match=match):
        configuration.load("w1_lora", settings)


def test_a_clip_that_is_not_finite_is_named_before_k_means():
    def hear(number):
        return np.full_like(NEAR[number], np.nan) if number == 5 else NEAR[number]

    with pytest.raises(ValueError, match="clip 5 is not finite"):
        trained(clips=heard_clips(hear))
