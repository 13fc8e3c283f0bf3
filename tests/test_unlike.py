"""Training clips that do not sound like the others: `recordings.inspection.unlike`."""

import numpy as np
import pytest
from naive_unlike import discoveries, distances
from scipy import stats

from nearfar.recordings.inspection import unlike
from nearfar.recordings.inspection.unlike import band_edges, in_what, sound, suspicion, unlikeness

RATE = 16000


def normal_rows(rng, n, dim=20):
    """Rows of correlated numbers."""
    return rng.normal(size=(n, 6)) @ rng.normal(size=(6, dim)) + 0.3 * rng.normal(size=(n, dim))


def of(*sizes):
    names = ("source", "target", "third")[: len(sizes)]
    return [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]


# distances


@pytest.mark.parametrize("sizes", [(40,), (40, 8), (35, 33), (20, 1), (20, 2)])
@pytest.mark.parametrize("share_used", [1.0, 0.8])
def test_leave_one_out_is_that_of_a_new_estimate_without_each_clip(rng, sizes, share_used):
    rows, domains = normal_rows(rng, sum(sizes)), of(*sizes)
    used = np.ones(len(rows), bool)
    used[: int((1 - share_used) * sizes[0])] = False
    got = unlike.leave_one_out(rows, unlike._groups(domains), used)
    np.testing.assert_allclose(got, distances(rows, domains, used, few=unlike.FEW), rtol=1e-8)


def test_the_procedure_of_benjamini_and_hochberg_is_that_of_scipy(rng):
    for _ in range(20):
        p = np.concatenate([rng.random(50), rng.random(10) ** 6])
        assert (unlike.discoveries(p, 0.1) == (stats.false_discovery_control(p) <= 0.1)).all()
        assert unlike.discoveries(p, 0.1).tolist() == discoveries(p.tolist(), 0.1)


def test_no_p_value_is_no_discovery():
    assert unlike.discoveries(np.zeros(0), 0.1).tolist() == []


# suspicion


def test_outliers_that_are_alike_do_not_hide_each_other(rng):
    """A tenth of the clips have the same fault: with a part in the covariance they are inconspicuous."""
    rows = normal_rows(rng, 100)
    rows[:10] += 6 * np.sign(rng.normal(size=20))
    robust, groups = unlikeness(rows, of(100)).suspected, unlike._groups(of(100))
    plain = suspicion(unlike.leave_one_out(rows, groups, np.ones(100, bool)), groups).suspected
    assert robust[:10].all()
    assert robust[10:].sum() <= 2
    assert plain[:10].sum() == 0


@pytest.mark.parametrize("tail", [None, 10])
def test_of_normal_clips_few_are_suspected(rng, tail):
    """Rows of a normal distribution, and of one with heavier tails, in a hundred sets of sixty clips."""
    suspected = []
    for _ in range(100):
        rows = normal_rows(rng, 60)
        if tail:
            rows *= np.sqrt(tail / rng.chisquare(tail, size=(60, 1)))
        suspected.append(unlikeness(rows, of(50, 10)).suspected.sum())
    assert np.mean(np.array(suspected) > 0) <= unlike.SHARE * (1 if tail is None else 4)


def test_ten_clips_of_a_new_domain_are_not_suspected_because_they_are_new(rng):
    """Of three conditions, elsewhere than the source clips, and one of them a single time."""
    rows = normal_rows(rng, 90)
    rows[80:] += 30
    rows[80:85] += 10
    rows[89] += -4 * np.arange(20)
    found = unlikeness(rows, of(80, 10))
    assert not found.suspected[80:89].any()


def test_never_more_than_a_third_of_a_domain_is_suspected(rng):
    rows = normal_rows(rng, 60)
    rows[:25] += 200 * rng.normal(size=(25, 20))
    assert unlikeness(rows, of(60)).suspected.sum() <= 20


@pytest.mark.parametrize("sizes", [(11,), (0,)])
def test_of_too_few_clips_nothing_is_said(rng, sizes):
    found = unlikeness(normal_rows(rng, sum(sizes)), of(*sizes))
    assert np.isnan(found.distance).all()
    assert (found.p_value == 1).all()
    assert not found.suspected.any()


def test_clips_that_are_all_alike_are_not_suspected():
    found = unlikeness(np.ones((30, 4)), of(30))
    assert not found.suspected.any()


def test_the_only_clip_of_a_domain_is_not_judged(rng):
    rows = normal_rows(rng, 31)
    rows[30] += 1000
    found = unlikeness(rows, of(30, 1))
    assert np.isnan(found.distance[30])
    assert not found.suspected.any()


def test_the_order_of_the_clips_does_not_matter(rng):
    rows, domains = normal_rows(rng, 60), np.array(of(50, 10))
    rows[5] += 8
    order = rng.permutation(60)
    a, b = unlikeness(rows, domains.tolist()), unlikeness(rows[order], domains[order].tolist())
    np.testing.assert_allclose(a.distance[order], b.distance, rtol=1e-6)
    assert (a.suspected[order] == b.suspected).all()


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_that_is_none_is_refused(rng, share):
    with pytest.raises(ValueError, match=f"share={share}: must be above 0 and below 1"):
        unlikeness(normal_rows(rng, 30), of(30), share=share)


def test_the_distance_of_a_score_is_judged_alike(rng):
    distance = np.exp(0.1 * rng.normal(size=50))
    distance[7] = 3
    assert np.flatnonzero(suspicion(distance, [np.arange(50)]).suspected).tolist() == [7]


# what a clip sounds like


@pytest.mark.parametrize("rate", [500, 1000, 8000, 16000, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_sound_has_a_mean_and_a_spread_of_each_band_at_any_rate(rng, rate, channels):
    edges = band_edges(rate)
    assert (np.diff(edges) > 0).all()
    row = sound(rng.normal(size=(channels, 2 * rate)).astype(np.float32), rate)
    assert row.shape == (2 * (len(edges) - 1),)
    assert np.isfinite(row).all()
    assert abs(row[: len(edges) - 1].mean()) < 1e-3


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_short_and_silent_clips_have_a_sound(rng, samples):
    assert np.isfinite(sound(np.zeros((2, samples), np.float32), RATE)).all()
    assert np.isfinite(sound(rng.normal(size=(2, samples)).astype(np.float32), RATE)).all()


def test_a_gain_changes_nothing(rng):
    samples = 0.1 * rng.normal(size=(2, 4 * RATE)).astype(np.float32)
    np.testing.assert_allclose(sound(samples, RATE), sound(samples / 8, RATE), atol=1e-3)


def test_a_band_has_the_level_that_it_has(rng):
    """A tone, 40 dB above white noise: the band that holds it stands out, and no other one far from it."""
    time = np.arange(4 * RATE) / RATE
    samples = (0.1 * np.sin(2 * np.pi * 3000 * time) + 1e-3 * rng.normal(size=len(time)))[None].astype(
        np.float32
    )
    row, edges = sound(samples, RATE), band_edges(RATE) * RATE / 1024
    band = int(row[: len(edges) - 1].argmax())
    assert edges[band] <= 3000 <= edges[band + 1]
    assert row[band] > 8 + np.delete(row[: len(edges) - 1], [band - 1, band, band + 1]).max()


def test_the_words_name_the_band_and_by_how_much(rng):
    edges = band_edges(RATE)
    others = rng.normal(size=(50, 2 * (len(edges) - 1))).astype(np.float32)
    row = np.zeros(others.shape[1], np.float32)
    band = int(np.searchsorted(edges, 3000 * 1024 / RATE)) - 1
    row[band] = 9
    low, high = edges[[band, band + 1]] * RATE / 1024000
    by = 9 - np.median(others[:, band])
    said = f"most at {low:.1f} kHz to {high:.1f} kHz, {by:.1f} dB more against its other bands"
    assert in_what(row, others, RATE) == said
    row[band], row[len(edges) - 1] = 0, -7
    less = 7 + np.median(others[:, len(edges) - 1])
    assert in_what(row, others, RATE).endswith(f"where its level varies by {less:.1f} dB less")


def test_a_rare_condition_that_is_told_is_no_outlier(rng):
    """A seventh of the clips are of a speed of their own: known by name, none is suspected for it."""
    rows, speeds = normal_rows(rng, 100), np.repeat(["speed_1", "speed_2"], [86, 14])
    rows[86:] += 6 * np.sign(rng.normal(size=20))
    assert unlikeness(rows, of(100)).suspected[86:].all()
    assert not unlikeness(rows, of(100), speeds.tolist()).suspected[86:].any()


@pytest.mark.parametrize(
    ("conditions", "sizes"),
    [("111111222234", [4, 8]), ("111122223456", [4, 4, 4]), ("123456789abc", [12]), ("111111111111", [12])],
)
def test_conditions_of_few_clips_are_put_together_or_to_the_largest(conditions, sizes):
    strata = unlike._strata(["a"] * 12, list(conditions))
    assert sorted(map(len, strata)) == sizes
    assert sorted(np.concatenate(strata)) == list(range(12))


def test_a_fault_with_a_condition_of_its_own_is_suspected(rng):
    rows = normal_rows(rng, 60)
    rows[7] += 8
    assert unlikeness(rows, of(60), ["other" if i == 7 else "usual" for i in range(60)]).suspected[7]
