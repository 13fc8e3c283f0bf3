"""Copies of clips whose recordings are gone are found by their embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.detector import twins
from nearfar.detector.twins import SAME, find_twins


def embeddings(n: int, seed: int) -> np.ndarray:
    """Of two conditions that are far apart."""
    random = np.random.default_rng(seed)
    return random.standard_normal((n, 4, 8)) + 1e3 * (np.arange(n) % 2)[:, None, None]


def nearest(X: np.ndarray, i: int) -> float:
    return min(float(np.linalg.norm(X[i] - X[j])) for j in range(len(X)) if j != i)


def naive_nearest(X: np.ndarray) -> float:
    return float(np.median([nearest(X, i) for i in range(len(X))]))


@pytest.mark.parametrize("at_once", [3, 256])
def test_it_is_the_distance_between_different_clips_that_counts(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "ROWS_AT_ONCE", at_once)
    old, new = embeddings(20, 0), embeddings(6, 1)
    limit = SAME * naive_nearest(old)
    step = np.full((4, 8), limit / np.sqrt(32))
    new[1], new[4], new[5] = old[7] + 0.9 * step, old[19], old[3] - 1.1 * step
    assert find_twins([new], [old], among=[old]) == {1: 7, 4: 19}


def test_of_many_clips_some_are_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "ROWS_COMPARED", 5)
    old = embeddings(23, 2)
    some = [nearest(old, i) for i in range(0, 23, 5)]
    assert twins._nearest(old.reshape(23, -1)) == pytest.approx(float(np.median(some)))


def test_a_copy_is_one_by_every_branch_that_keeps_embeddings() -> None:
    old, new = embeddings(6, 0), embeddings(2, 1)
    assert find_twins([old[2:4], None], [old, None], among=[old, None]) == {0: 2, 1: 3}
    assert find_twins([old[2:4], new], [old, embeddings(6, 5)], among=[old, old]) == {}
    assert find_twins([None], [None], among=[None]) == {}


def test_single_precision_is_no_difference_though_all_old_clips_are_one() -> None:
    old = np.repeat(embeddings(1, 0), 4, axis=0)
    assert find_twins(
        [
            old[:1].astype(np.float32),
        ],
        [old],
        among=[old],
    ) == {0: 0}
    assert find_twins([old[:1] * (1 + 1e-5)], [old], among=[old]) == {}
    assert find_twins([old[:1]], [old[:1]], among=[old[:1]]) == {0: 0}
    assert find_twins([old[:, :2]], [old], among=[old]) == {}
