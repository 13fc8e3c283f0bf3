"""ROC curves of one machine, against scikit-learn and the official metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from nearfar.evaluation import metrics
from nearfar.evaluation.curves import Curve, curves
from nearfar.evaluation.metrics import MAX_FPR, evaluate, partial_roc, roc

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(params=range(5))
def case(request: pytest.FixtureRequest) -> Case:
    """Clips of both domains, with equal scores among them."""
    rng = np.random.default_rng(request.param)
    n = int(rng.integers(12, 60))
    anomalous, domain = rng.integers(0, 2, n).astype(bool), rng.choice(["source", "target"], n)
    anomalous[:4], domain[:4] = (False, False, True, True), ("source", "target", "source", "target")
    return anomalous, np.round(rng.normal(size=n) + anomalous, 1), domain


def by_name(found: tuple[Curve, ...]) -> dict[str, Curve]:
    return {curve.name: curve for curve in found}


def test_areas_are_the_official_metrics(case: Case) -> None:
    anomalous, score, domain = case
    label = np.where(anomalous, "anomaly", "normal")
    clips = pd.DataFrame({"machine": "fan", "section": 0, "domain": domain, "label": label})
    official = evaluate(clips, pd.Series(score)).loc[("fan", 0)]
    found = by_name(curves(anomalous, score, domain))
    assert list(found) == ["source", "target", "all"]
    for name in ("source", "target"):
        assert found[name].auc == official[f"auc_{name}"]
        assert found[name].normals == official[f"normals_{name}"]
        assert found[name].anomalies == official["anomalies"]
    assert found["all"].pauc == official["pauc"]
    assert found["all"].normals == (~anomalous).sum()


def test_points_are_those_of_scikit_learn(case: Case) -> None:
    anomalous, score, domain = case
    of_target = anomalous | (domain == "target")
    for name, used in (("all", np.ones_like(anomalous)), ("target", of_target)):
        found = by_name(curves(anomalous, score, domain))[name]
        false_alarms, hits, _ = roc_curve(anomalous[used], score[used], drop_intermediate=False)
        np.testing.assert_allclose(found.false_alarms, false_alarms)
        np.testing.assert_allclose(found.hits, hits)


def test_the_partial_curve_has_the_area_of_scikit_learns_pauc(case: Case) -> None:
    anomalous, score, _ = case
    (curve,) = curves(anomalous, score)
    x, y = curve.partial
    assert x[0] == 0
    assert x[-1] == MAX_FPR
    assert (np.diff(x) >= 0).all()
    chance = MAX_FPR**2 / 2
    area = 0.5 * (1 + (np.trapezoid(y, x) - chance) / (MAX_FPR - chance))
    assert area == pytest.approx(roc_auc_score(anomalous, score, max_fpr=MAX_FPR), abs=1e-12)
    assert area == pytest.approx(metrics.pauc(anomalous, score), abs=1e-12)


def test_the_partial_curve_ends_on_the_curve() -> None:
    false_alarms, hits = roc(np.array([False] * 4 + [True] * 4), np.array([5.0, 1, 2, 3, 4, 6, 7, 8]))
    np.testing.assert_allclose(
        partial_roc(false_alarms, hits), [[0, 0, 0, 0, 0.1], [0, 0.25, 0.5, 0.75, 0.75]]
    )


def test_a_domain_without_normal_clips_has_no_curve() -> None:
    found = curves([False, False, True], [1.0, 2.0, 3.0], ["source", "source", "target"])
    assert [curve.name for curve in found] == ["source", "all"]


@pytest.mark.parametrize("domain", [None, [None, None], [float("nan"), float("nan")]])
def test_without_domains_there_is_one_curve(domain: list[str | None] | None) -> None:
    assert [curve.name for curve in curves([False, True], [1.0, 2.0], domain)] == ["all"]


@pytest.mark.parametrize(
    ("anomalous", "score", "domain", "message"),
    [
        ([False, False], [1.0, 2.0], None, "all 2 are of one class"),
        ([False, True], [1.0, np.nan], None, "1 scores are not finite"),
        ([False, True], [1.0], None, r"must be two arrays \(n_clips,\)"),
        ([False, True], [1.0, 2.0], ["source"], "domain: 1 names for 2 clips"),
        ([False, True], [1.0, 2.0], ["source", None], "domain: 1 of 2 are neither source nor target"),
        (["normal", "anomaly"], [1.0, 2.0], None, "must be of bool"),
        ([], [], None, "must be of bool"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    anomalous: list[bool], score: list[float], domain: list[str | None] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        curves(anomalous, score, domain)
