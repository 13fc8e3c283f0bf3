"""Masks of spectrograms: how many, how wide, where, and that nothing else is touched. Mixtures of examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from nearfar.training.augmentation import MASKS, mixup, spec_augment

BANDS, FRAMES = 12, 20


def augmented(*leading, size=(BANDS, FRAMES), seed=0, **options):
    """Ones, masked."""
    return spec_augment(torch.ones(*leading, *size), torch.Generator().manual_seed(seed), **options)


def masked_bands(spectrograms):
    """Which bands have no frame left: (..., bands)."""
    return (spectrograms == 0).all(dim=-1).numpy()


def masked_frames(spectrograms):
    return (spectrograms == 0).all(dim=-2).numpy()


def runs(masked):
    """How many stripes of True stand in a row."""
    return int(np.count_nonzero(np.diff(np.r_[0, masked.astype(int)]) == 1))


def test_there_are_two_masks_of_bands_and_two_of_frames():
    """The report; of many spectrograms some have all of them apart from one another, none has more."""
    assert MASKS == 2
    found = augmented(5000, size=(40, 50), bands=4, frames=5)
    counts = [(runs(b), runs(f)) for b, f in zip(masked_bands(found), masked_frames(found), strict=True)]
    assert set(counts) == {(i, j) for i in range(3) for j in range(3)}


@pytest.mark.parametrize("masks", [0, 1, 3])
def test_any_number_of_masks(masks):
    found = augmented(300, size=(60, 70), bands=4, frames=5, masks=masks)
    assert max(map(runs, masked_bands(found))) == masks
    assert max(map(runs, masked_frames(found))) == masks


@pytest.mark.parametrize(("bands", "frames"), [(3, 0), (0, 5), (3, 5)])
def test_no_mask_is_wider_than_the_widest(bands, frames):
    found = augmented(2000, bands=bands, frames=frames, masks=1)
    assert masked_bands(found).sum(axis=-1).max() == bands
    assert masked_frames(found).sum(axis=-1).max() == frames


def test_no_more_is_masked_than_all_masks_together_are_wide():
    found = augmented(2000, bands=3, frames=5)
    kept = (found != 0).sum(dim=(-2, -1))
    assert int(kept.min()) == (BANDS - 2 * 3) * (FRAMES - 2 * 5)


def test_what_is_masked_is_whole_bands_and_whole_frames():
    found = augmented(200, bands=3, frames=5)
    bands, frames = masked_bands(found), masked_frames(found)
    np.testing.assert_array_equal(found.numpy() == 0, bands[:, :, None] | frames[:, None, :])


def test_masks_of_no_width_change_nothing():
    assert (augmented(50, bands=0, frames=0) == 1).all()


def test_a_width_of_zero_is_drawn_as_well():
    found = augmented(200, bands=1, frames=1)
    assert (found == 1).all(dim=-1).all(dim=-1).any()


@pytest.mark.parametrize(("side", "size", "widest"), [("bands", BANDS, 4), ("frames", FRAMES, 7)])
def test_all_widths_are_equally_frequent(side, size, widest):
    found = augmented(4000, **{"bands": 0, "frames": 0, side: widest}, masks=1)
    masked = (masked_bands if side == "bands" else masked_frames)(found)
    assert masked.shape == (4000, size)
    widths = np.bincount(masked.sum(axis=-1), minlength=widest + 1)
    assert len(widths) == widest + 1
    assert stats.chisquare(widths).pvalue > 0.01


@pytest.mark.parametrize("width", [1, 2, 3])
def test_all_places_of_a_mask_are_equally_frequent(width):
    """From the first band to the last, however narrow it is."""
    masked = masked_bands(augmented(8000, bands=3, frames=0, masks=1))
    of_width = masked[masked.sum(axis=-1) == width]
    starts = np.bincount(of_width.argmax(axis=-1), minlength=BANDS - width + 1)
    assert len(starts) == BANDS - width + 1
    assert stats.chisquare(starts).pvalue > 0.01


def test_each_microphone_of_each_clip_has_masks_of_its_own():
    found = augmented(3000, 2, bands=BANDS, frames=0, masks=1)
    widths = masked_bands(found).sum(axis=-1)
    assert abs(np.corrcoef(widths[:, 0], widths[:, 1])[0, 1]) < 0.05
    assert abs(np.corrcoef(widths[:-1, 0], widths[1:, 0])[0, 1]) < 0.05


def test_masks_of_bands_and_of_frames_are_drawn_apart():
    found = augmented(3000, size=(BANDS, BANDS), bands=BANDS // 2, frames=BANDS // 2, masks=1)
    widths = masked_bands(found).sum(axis=-1), masked_frames(found).sum(axis=-1)
    assert abs(np.corrcoef(*widths)[0, 1]) < 0.05


@pytest.mark.parametrize("widest", [4, 5, 1000])
def test_a_mask_is_at_most_as_wide_as_the_spectrogram(widest):
    masked = masked_bands(augmented(3000, size=(4, 6), bands=widest, frames=0, masks=1))
    widths = np.bincount(masked.sum(axis=-1), minlength=5)
    assert len(widths) == 5
    assert stats.chisquare(widths).pvalue > 0.01


def test_equal_generators_give_equal_masks_and_others_others():
    first = augmented(8, 2, bands=3, frames=5, seed=1)
    assert torch.equal(augmented(8, 2, bands=3, frames=5, seed=1), first)
    assert not torch.equal(augmented(8, 2, bands=3, frames=5, seed=2), first)


def test_a_generator_gives_other_masks_each_time_and_the_global_one_is_left_alone():
    generator, before = torch.Generator().manual_seed(0), torch.get_rng_state()
    first, second = (spec_augment(torch.ones(8, 12, 20), generator, bands=3, frames=5) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_masked_stays_and_so_does_the_argument(dtype):
    generator = torch.Generator().manual_seed(3)
    given = torch.randn(5, 2, BANDS, FRAMES, generator=generator, dtype=dtype)
    copy = given.clone()
    found = spec_augment(given, generator, bands=3, frames=5)
    assert torch.equal(given, copy)
    assert found.dtype == dtype
    assert found.shape == given.shape
    masked = found == 0
    assert masked.any()
    assert torch.equal(found[~masked], given[~masked])


def test_a_single_spectrogram_needs_no_batch():
    assert augmented(bands=3, frames=5, seed=4).shape == (BANDS, FRAMES)


# mixtures


def test_mixup_is_its_sum_number_by_number(rng):
    x, y = rng.standard_normal((4, 2, 5)), rng.random((4, 3))
    partners, weights = [2, 0, 2, 1], [0.25, 1.0, 0.5, 0.0]
    mixed, labels = mixup(
        *map(torch.from_numpy, (x, y)), torch.tensor(partners), torch.tensor(weights).double()
    )
    for i, (j, w) in enumerate(zip(partners, weights, strict=True)):
        expected = [
            [w * a + (1 - w) * b for a, b in zip(*rows, strict=True)] for rows in zip(x[i], x[j], strict=True)
        ]
        np.testing.assert_allclose(mixed[i], expected, rtol=1e-12)
        np.testing.assert_allclose(labels[i], [w * a + (1 - w) * b for a, b in zip(y[i], y[j], strict=True)])
    np.testing.assert_array_equal(mixed[1], x[1])
    np.testing.assert_array_equal(mixed[3], x[1])
