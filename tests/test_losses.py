"""Losses on embeddings, against their twins, autograd against differences, and cases computed by hand."""

from __future__ import annotations

import math

import naive_dca
import numpy as np
import pytest
import torch
from torch.nn import functional

from nearfar.training.losses import center_loss, sub_center_arcface, sub_center_cosines, with_margin

SCALE, MARGIN = 30.0, 0.5


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def directions(*shape, generator, dtype=torch.float64):
    return functional.normalize(torch.randn(*shape, generator=generator, dtype=dtype), dim=-1)


def problem(generator, *, classes=4, sub_centers=3, dim=6):
    """For each class a bunch of sub-centers, and embeddings near to it, beside it and opposite to it."""
    axes = directions(classes, dim, generator=generator)
    off = 0.1 * torch.randn(classes, sub_centers, dim, generator=generator, dtype=torch.float64)
    sides = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).repeat_interleave(classes)
    noise = 0.1 * torch.randn(3 * classes, dim, generator=generator, dtype=torch.float64)
    embeddings = functional.normalize(sides[:, None] * axes.repeat(3, 1) + noise, dim=-1)
    return embeddings, axes[:, None] + off, torch.arange(classes).repeat(3)


def at(*degrees, dtype=torch.float64):
    """Unit vectors of the plane, (n, 2)."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=dtype))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def arcface(embeddings, centers, classes, *, scale=SCALE, margin=MARGIN):
    return sub_center_arcface(embeddings, centers, classes, scale=scale, margin=margin)


# sub-center ArcFace


@pytest.mark.parametrize("sub_centers", [1, 2, 5])
@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.5), (1.0, 0.0), (8.0, 1.2)])
def test_arcface_is_its_twin(generator, sub_centers, scale, margin):
    embeddings, centers, classes = problem(generator, sub_centers=sub_centers)
    expected = naive_dca.sub_center_arcface(
        embeddings.tolist(), centers.tolist(), classes.tolist(), scale, margin
    )
    assert float(arcface(embeddings, centers, classes, scale=scale, margin=margin)) == pytest.approx(
        expected, rel=1e-9
    )


def test_with_one_sub_center_it_is_plain_arcface_by_hand():
    """Classes at 0 and 90 degrees; embeddings at 30 of the first, at 70 and 150 of the second; a margin of 20."""
    degrees = [[30 + 20, 60], [70, 20 + 20], [150, 60 + 20]]
    logits = 4.0 * torch.tensor(degrees, dtype=torch.float64).deg2rad().cos()
    expected = functional.cross_entropy(logits, torch.tensor([0, 1, 1]))
    found = arcface(
        at(30, 70, 150), at(0, 90)[:, None], torch.tensor([0, 1, 1]), scale=4.0, margin=math.radians(20)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_of_several_sub_centers_only_the_nearest_counts():
    embeddings, classes = at(30), torch.tensor([0])
    centers = torch.stack([at(40, 80, 170), at(-90, 180, 200)]).requires_grad_()
    cosines = sub_center_cosines(embeddings, centers)
    expected = torch.tensor([[math.cos(math.radians(10)), math.cos(math.radians(120))]], dtype=torch.float64)
    torch.testing.assert_close(cosines, expected)
    (gradient,) = torch.autograd.grad(arcface(embeddings, centers, classes, scale=2.0), centers)
    assert (gradient.abs().sum(dim=-1) > 1e-3).tolist() == [[True, False, False], [True, False, False]]


def test_the_length_of_a_center_does_not_count(generator):
    embeddings, centers, classes = problem(generator)
    longer = centers * torch.rand(*centers.shape[:2], 1, generator=generator, dtype=torch.float64).add(0.1)
    torch.testing.assert_close(arcface(embeddings, longer, classes), arcface(embeddings, centers, classes))


def test_a_cosine_with_margin_is_that_of_the_wider_angle_up_to_pi():
    margin = math.radians(40)
    found = with_margin(torch.tensor([0, 10, 90, 139.9]).double().deg2rad().cos(), margin)
    expected = torch.tensor([40, 50, 130, 179.9]).double().deg2rad().cos()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_beyond_pi_a_cosine_with_margin_goes_on_falling():
    margin = math.radians(40)
    degrees = torch.linspace(0, 180, 721).double()
    found = with_margin(degrees.deg2rad().cos(), margin)
    assert (found.diff() < 0).all()
    beyond = degrees > 140
    expected = degrees[beyond].deg2rad().cos() - margin * math.sin(margin)
    torch.testing.assert_close(found[beyond], expected)
    assert (found[beyond] < -1).all()


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_a_cosine_is_as_it_was_only_without_a_margin(margin):
    cosines = torch.linspace(-1, 1, 201).double()
    moved = (with_margin(cosines, margin) - cosines).abs().max()
    assert (float(moved) < 1e-7) == (margin == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [1, -1])
def test_gradients_are_finite_where_an_embedding_is_a_center_or_its_opposite(generator, dtype, side):
    embeddings = directions(5, 6, generator=generator, dtype=dtype).requires_grad_()
    centers = (side * embeddings.detach())[:, None].repeat(1, 2, 1).requires_grad_()
    loss = arcface(embeddings, centers, torch.arange(5))
    loss.backward()
    assert torch.isfinite(loss)
    for gradient in (embeddings.grad, centers.grad):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 10 * SCALE


@pytest.mark.parametrize("beyond", [1 + 1e-6, -1 - 1e-6])
def test_a_cosine_that_rounding_made_larger_than_one_stays_finite(beyond):
    cosine = torch.tensor([beyond], requires_grad=True)
    found = with_margin(cosine, MARGIN)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(cosine.grad).all()


@pytest.mark.parametrize("sub_centers", [1, 3])
def test_the_gradient_of_arcface_is_that_of_differences(generator, sub_centers):
    embeddings, centers, classes = problem(generator, classes=2, sub_centers=sub_centers, dim=4)
    cosines = sub_center_cosines(embeddings, centers)[torch.arange(6), classes]
    assert (cosines < -math.cos(MARGIN)).any()  # beyond pi, too
    assert (cosines > -math.cos(MARGIN)).any()

    def loss(e, c):
        return arcface(e, c, classes, scale=3.0)

    assert torch.autograd.gradcheck(loss, (embeddings.requires_grad_(), centers.requires_grad_()))


def test_a_larger_margin_is_a_larger_loss(generator):
    embeddings, centers, classes = problem(generator)
    losses = [float(arcface(embeddings, centers, classes, margin=m)) for m in (0.0, 0.1, 0.3, 0.5, 1.0)]
    assert (np.diff(losses) > 0).all()


@pytest.mark.parametrize(("own", "sign"), [(0, -1), (1, 1)])
def test_a_larger_scale_is_a_smaller_loss_of_what_is_right_and_a_larger_one_of_what_is_wrong(own, sign):
    losses = [
        float(arcface(at(10), at(0, 90)[:, None], torch.tensor([own]), scale=s)) for s in (1.0, 4.0, 16.0)
    ]
    assert (sign * np.diff(losses) > 0).all()


def test_the_margin_is_of_the_own_class_alone():
    """Three centers at equal angles: each of the others has the full cosine."""
    embedding, centers = torch.tensor([[1.0, 0, 0]]).double(), torch.eye(3).double()[:, None]
    own = math.exp(math.cos(MARGIN))
    expected = -math.log(own / (own + 2 * math.exp(0)))
    assert float(arcface(embedding, centers, torch.tensor([0]), scale=1.0)) == pytest.approx(expected)


def test_classes_of_one_embedding_each(generator):
    embeddings = directions(7, 5, generator=generator)
    centers = directions(7, 3, 5, generator=generator)
    expected = naive_dca.sub_center_arcface(embeddings.tolist(), centers.tolist(), range(7), SCALE, MARGIN)
    assert float(arcface(embeddings, centers, torch.arange(7))) == pytest.approx(expected, rel=1e-9)


# center loss


def test_center_loss_is_its_twin(generator):
    embeddings, centers, classes = problem(generator)
    expected = naive_dca.center_loss(embeddings.tolist(), centers[:, 0].tolist(), classes.tolist())
    assert float(center_loss(embeddings, centers[:, 0], classes)) == pytest.approx(expected, rel=1e-12)


def test_center_loss_by_hand():
    embeddings = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    centers = torch.tensor([[1.0, 0], [3, 1]])
    assert float(center_loss(embeddings, centers, torch.tensor([0, 0, 1]))) == pytest.approx(
        (0 + 2 + 4) / 3 / 2
    )


def test_an_embedding_in_its_center_costs_nothing(generator):
    centers = directions(3, 4, generator=generator).requires_grad_()
    classes = torch.tensor([2, 0, 2, 1])
    embeddings = centers.detach()[classes].requires_grad_()
    loss = center_loss(embeddings, centers, classes)
    loss.backward()
    assert loss.item() == 0
    assert not embeddings.grad.any()
    assert not centers.grad.any()


def test_the_gradient_of_center_loss_is_that_of_differences(generator):
    embeddings, centers, classes = problem(generator, classes=2, dim=4)

    def loss(e, c):
        return center_loss(e, c, classes)

    assert torch.autograd.gradcheck(
        loss, (embeddings.requires_grad_(), centers[:, 0].clone().requires_grad_())
    )


def test_each_embedding_pulls_its_own_center_alone(generator):
    embeddings, centers, _ = problem(generator)
    embeddings, centers = embeddings[:2], centers[:, 0].clone().requires_grad_()
    center_loss(embeddings, centers, torch.tensor([1, 3])).backward()
    assert centers.grad.abs().sum(dim=-1).gt(0).tolist() == [False, True, False, True]
    torch.testing.assert_close(centers.grad[[1, 3]], (centers.detach()[[1, 3]] - embeddings) / 2)
