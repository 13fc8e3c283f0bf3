"""The measures of `benchmarks/realism.py`, on signals whose coherence is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RATE = 16000


@pytest.fixture(scope="module")
def realism() -> Any:
    path = Path(__file__).parents[1] / "benchmarks" / "realism.py"
    spec = importlib.util.spec_from_file_location("realism", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(rng: np.random.Generator, channels: int = 2) -> np.ndarray:
    return 0.1 * rng.standard_normal((channels, 10 * RATE))


def test_equal_channels_are_coherent(realism: Any, rng: np.random.Generator) -> None:
    one = noise(rng, 1)
    duration, level, *bands = realism.measured(np.vstack([one, -0.5 * one]), RATE)
    assert duration == 10.0
    assert level == pytest.approx(0.25)
    np.testing.assert_allclose(bands, 1.0, atol=1e-3)


def test_independent_channels_have_the_bias_of_the_average(realism: Any, rng: np.random.Generator) -> None:
    """(1 - 0.95) / (1 + 0.95) = 0.026 if frames were independent; they overlap, and the first is 1 by itself."""
    _, level, *bands = realism.measured(noise(rng), RATE)
    assert level == pytest.approx(1.0, rel=0.05)
    assert all(0.03 < band < 0.07 for band in bands)


def test_a_mixture_has_the_coherence_of_its_parts(realism: Any, rng: np.random.Generator) -> None:
    """Equal powers of common and own noise: 0.5 x 0.5, and the bias of what is not coherent."""
    own, common = noise(rng), noise(rng, 1)
    bands = realism.measured(own + common, RATE)[2:]
    assert all(0.25 < band < 0.31 for band in bands)


def test_frames_reach_the_end_and_not_beyond(realism: Any) -> None:
    samples = np.zeros((2, 1024 + 512 + 100))
    samples[:, -60] = 1.0
    found = realism.spectra(samples)
    assert found.shape == (2, 3, 513)
    assert np.abs(found[:, 2]).max() > 0 == np.abs(found[:, :2]).max()


def test_an_average_begins_with_the_first_frame(realism: Any, rng: np.random.Generator) -> None:
    values = rng.standard_normal((6, 3)) + 1j * rng.standard_normal((6, 3))
    expected = [values[0]]
    for value in values[1:]:
        expected.append(0.95 * expected[-1] + 0.05 * value)
    np.testing.assert_allclose(realism.averaged(values), expected)


def test_a_median_is_held_against_both_spreads(realism: Any) -> None:
    assert realism.verdict(realism.REAL["valveEmu"]) == "5 of 5 (5)"
    assert realism.verdict(realism.REAL["ToyCarEmu"]) == "5 of 5 (2)"
    assert realism.verdict((10.0, 4.4, 0.5, 0.5, 0.5)) == "2 of 5 (2)"
