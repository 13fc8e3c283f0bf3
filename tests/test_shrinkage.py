"""The covariance that is shrunk by the formula of Ledoit and Wolf is that of scikit-learn, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage

from nearfar.recordings.inspection.shrinkage import shrinkage_of, shrunk_covariance


@pytest.mark.parametrize(
    ("n", "dim"), [(50, 2), (3, 70), (200, 256), (10, 1), (2, 5), (20, 1000), (15, 2100)]
)
def test_it_is_scikit_learns_to_the_last_bit(rng: np.random.Generator, n: int, dim: int) -> None:
    vectors = rng.standard_normal((n, dim)) * rng.uniform(0.1, 9.0, dim)
    covariance, shrinkage = shrunk_covariance(vectors)
    expected, told = ledoit_wolf(vectors, assume_centered=True)
    np.testing.assert_array_equal(covariance, expected)
    assert shrinkage == shrinkage_of(vectors) == told == ledoit_wolf_shrinkage(vectors, assume_centered=True)


def test_vectors_without_any_spread_are_not_shrunk() -> None:
    covariance, shrinkage = shrunk_covariance(np.zeros((5, 3)))
    assert (covariance == 0).all()
    assert shrinkage == 0
