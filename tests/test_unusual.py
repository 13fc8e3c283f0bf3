"""Bands that are unusual against what normal clips let expect."""

from __future__ import annotations

from itertools import pairwise

import naive_evidence
import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.evidence import unusual
from nearfar.evidence.unusual import Expectation, Scan, evenly

Float = NDArray[np.float64]
BANDS = 40


def normal_levels(n: int, seed: int, *, shift: float = 0.0) -> Float:
    """Levels of a machine that runs at any of three speeds, in a hall that is more or less loud, at any gain."""
    rng = np.random.default_rng(seed)
    band = np.arange(BANDS)
    shape = -30 + 5 * np.cos(band / 5)
    speed = rng.integers(3, size=n)
    line = 12 * np.exp(-0.5 * (band - 8 - 4 * speed[:, None]) ** 2)
    hall = rng.normal(0, 3, (n, 1)) * np.linspace(1, 0, BANDS)
    gain = rng.uniform(-5, 5, (n, 1))
    return shape + line + hall + gain + shift * (band > 30) + rng.normal(0, 0.5, (n, BANDS))


def scan_of(
    clip: Float, *, n: int = 120, domain: list[str] | None = None, normal: Float | None = None
) -> Scan:
    levels = normal_levels(n, 0) if normal is None else normal
    return Scan.of(clip, levels, domain or ["source"] * len(levels))


def test_the_residual_is_that_of_the_slow_twin() -> None:
    levels = normal_levels(60, 0)
    model = Expectation.of(levels, ["source"] * 50 + ["target"] * 10)
    clips = normal_levels(3, 1)
    clips[:, 20:23] += 6
    for clip, left in zip(clips, model.residuals(clips), strict=True):
        slow = naive_evidence.residual(
            clip,
            model.median,
            model.axes,
            sweeps=unusual.SWEEPS,
            tuning=unusual.TUNING,
            least=unusual.LEAST_SPREAD_DB,
        )
        np.testing.assert_allclose(left, slow, atol=1e-6)


def test_the_strength_is_that_of_the_slow_twin() -> None:
    levels = normal_levels(40, 0)[:, :12]
    domain = ["source"] * 30 + ["target"] * 10
    clip = normal_levels(1, 1)[0, :12]
    scan = Scan.of(clip, levels, domain)
    groups = [list(range(30)), list(range(30, 40))]
    slow = naive_evidence.strength(scan.clip[:12], scan.normal[:, :12], groups, unusual.WIDEST)
    assert len(scan.bounds) == len(slow)
    for (first, stop), found in zip(scan.bounds.tolist(), scan.strength, strict=True):
        assert found == pytest.approx(slow[first, stop], rel=1e-6)


def test_each_normal_clip_is_compared_with_others_only() -> None:
    levels = normal_levels(50, 0)
    scan = scan_of(normal_levels(1, 1)[0], normal=levels)
    others = np.flatnonzero(np.arange(50) % unusual.FOLDS != 7 % unusual.FOLDS)
    left = Expectation.of(levels[others], ["source"] * len(others)).residuals(levels[7:8])[0]
    np.testing.assert_allclose(scan.normal[7, :BANDS], left, atol=1e-9)


@pytest.mark.parametrize("change", [4.0, -4.0])
@pytest.mark.parametrize(("first", "stop"), [(20, 21), (0, 3), (30, 38)])
def test_bands_that_are_off_are_found_with_their_edges(first: int, stop: int, change: float) -> None:
    for seed in (1, 2):
        clip = normal_levels(1, seed)[0]
        clip[first:stop] += change
        found = scan_of(clip).chosen()[0]
        assert abs(found.first - first) <= 1
        assert abs(found.stop - stop) <= 2
        assert found.strength > 1
        assert found.direction == ("louder" if change > 0 else "quieter")
        assert (
            0.3 < found.residual_db / change < 1.2
        )  # of a broad change a part is taken for a change of the hall


def test_few_normal_clips_have_an_unusual_band() -> None:
    new = normal_levels(100, 7)
    unusual_ones = sum(scan_of(clip).chosen()[0].strength > 1 for clip in new)
    assert (
        unusual_ones <= 24
    )  # 5 % are expected of the clips that the limit is from; new ones are a little further


def test_what_normal_clips_do_together_is_no_news() -> None:
    """Another gain, another speed, a louder hall: all are far outside by their levels, and expected."""
    clip = normal_levels(1, 3)[0] + 20
    assert scan_of(clip).chosen()[0].strength < 1.2
    louder = clip + 15 * np.linspace(1, 0, BANDS)
    assert scan_of(louder).chosen()[0].strength < 1.2


def test_a_second_domain_shifts_what_is_expected() -> None:
    source, target = normal_levels(100, 0), normal_levels(10, 1, shift=6.0)
    new = normal_levels(9, 2, shift=6.0)
    together = np.vstack([source, target])
    domain = ["source"] * 100 + ["target"] * 10
    knowing = [Scan.of(clip, together, domain).chosen()[0].strength for clip in new]
    not_knowing = [scan_of(clip, normal=source).chosen()[0].strength for clip in new]
    assert np.median(knowing) < 1 < np.median(not_knowing)


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_few_clips_are_enough_to_say_something(n: int) -> None:
    clip = normal_levels(1, 3)[0]
    clip[20:24] += 15
    found = scan_of(clip, n=n).chosen()
    assert all(np.isfinite([one.strength, one.residual_db]).all() for one in found)


def test_intervals_do_not_touch_and_their_worth_falls() -> None:
    clip = normal_levels(1, 4)[0]
    clip[5:7] += 5
    clip[20:22] -= 6
    clip[33:35] += 4
    found = scan_of(clip).chosen()
    assert len(found) == unusual.MOST
    assert [one.worth for one in found] == sorted((one.worth for one in found), reverse=True)
    ordered = sorted(found, key=lambda one: one.first)
    assert all(one.stop < other.first for one, other in pairwise(ordered))


def test_of_two_strange_bands_the_one_is_told_that_the_score_comes_from() -> None:
    clip = normal_levels(1, 5)[0]
    clip[10:12] += 5
    clip[30:32] += 4
    mass = np.zeros(BANDS)
    mass[29:33] = 1.0
    assert scan_of(clip).chosen()[0].first == 10
    found = scan_of(clip).chosen(mass)[0]
    assert 29 <= found.first <= 30
    assert found.stop <= 33
    assert found.score_share == pytest.approx((found.stop - found.first) / 4)
    assert scan_of(clip).chosen(np.zeros(BANDS))[0].score_share is None


def test_many_normal_clips_are_thinned_but_not_a_small_domain() -> None:
    assert len(evenly(1000, 400)) == 400
    assert evenly(3, 400).tolist() == [0, 1, 2]
    levels = np.vstack([normal_levels(900, 0), normal_levels(10, 1, shift=6.0)])
    scan = Scan.of(normal_levels(1, 2)[0], levels, ["source"] * 900 + ["target"] * 10)
    assert 400 <= len(scan.normal) <= 420


def test_the_mean_of_one_interval() -> None:
    scan = scan_of(normal_levels(1, 6)[0])
    own, others = scan.at(10, 14)
    assert own == pytest.approx(scan.bands(10, 14).mean())
    assert others.shape == (120,)
