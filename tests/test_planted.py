"""The truth of simulated faults in `benchmarks/planted.py`, and the gain of `benchmarks/evidence_maps.py`."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def planted():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("planted")


@pytest.fixture(scope="module")
def evidence_maps(planted):
    assert planted
    return importlib.import_module("evidence_maps")


@pytest.fixture(scope="module")
def looseness(planted):
    of = planted.settings(("bearing",), seed=0, test_clips=8, seconds=3.0)
    clip = next(planted.clips_of(of, "bearing", "test", "anomaly", faults=("looseness",)))
    return of, clip, planted.plant(of, clip)


def test_a_clip_is_what_was_planted_and_the_rest(looseness):
    _, _, one = looseness
    np.testing.assert_allclose(one.planted + one.rest, one.samples[0], atol=1e-6)
    assert not np.allclose(one.planted, 0.0)
    correlation = one.planted @ one.rest / np.linalg.norm(one.planted) / np.linalg.norm(one.rest)
    assert abs(correlation) < 0.05  # a part of the machine itself would correlate with it


def test_the_region_lies_at_the_resonance_of_the_fault(looseness, planted):
    of, clip, one = looseness
    site = planted.dataset.site_of(of, "bearing")
    resonance = site.units[clip.unit].faults()["looseness"].resonance_hz
    low, high = one.region.band()
    assert low < resonance < high
    assert high / low < 1.5
    assert 0 < one.region.share < 0.05
    energy = one.region.energy[one.region.cells]
    assert energy.min() > 0


def test_no_fault_has_no_region(looseness, planted):
    of, clip, _ = looseness
    faint = planted.plant(of, clip, severity=0.01)
    assert not faint.region.cells.any()
    assert faint.region.share == 0.0
    np.testing.assert_allclose(faint.without, planted.plant(of, clip).without)


def test_a_gain_is_of_mass_over_area(looseness, evidence_maps):
    maps = evidence_maps
    region = looseness[2].region
    area = np.diff(maps.mel(region.frequencies))[:, None] * np.diff(region.times)
    share = area[region.cells].sum() / area.sum()

    def gain(mass):
        return maps.gain(region.times, region.frequencies, mass, region)

    assert gain(area) == pytest.approx(1.0)
    assert gain(np.where(region.cells, area, 0.0)) == pytest.approx(1 / share)
    assert gain(np.where(region.cells, 0.0, area)) == 0.0
    assert gain(np.zeros(region.cells.shape)) == 1.0
    coarse = maps.gain(region.times[[0, -1]], region.frequencies[[0, -1]], np.ones((1, 1)), region)
    assert coarse == pytest.approx(1.0)
