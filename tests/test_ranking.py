"""Metrics of many score vectors at once: those of ``metrics``, of scikit-learn and of the slow twin."""

from __future__ import annotations

import naive
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import make_clips, make_scores
from sklearn.metrics import roc_auc_score

from nearfar.evaluation import metrics, ranking
from nearfar.evaluation.ranking import Section, all_metrics, harmonic_means, section_metrics, sections

few = st.integers(0, 4)  # few values: many ties


@st.composite
def tied(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (2, n_clips), domains and labels of 4 to 44 clips, every cell present."""
    cells = [(d, a, draw(st.integers(1, 11))) for d in ("source", "target") for a in (False, True)]
    domain = np.repeat([d for d, _, _ in cells], [n for _, _, n in cells])
    anomalous = np.repeat([a for _, a, _ in cells], [n for _, _, n in cells])
    n = len(domain)
    rows = st.lists(few, min_size=n, max_size=n)
    return np.array([draw(rows) for _ in range(2)], float), domain, anomalous


def section_of(domain: np.ndarray, anomalous: np.ndarray) -> Section:
    label = np.where(anomalous, "anomaly", "normal")
    table = pd.DataFrame({"machine": "fan", "section": 0, "domain": domain, "label": label})
    return sections(table)[0]


@settings(max_examples=40)
@given(tied())
def test_equals_the_metrics_and_scikit_learn(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, domain, anomalous = data
    found = section_metrics(section_of(domain, anomalous), scores)
    for row, score in zip(found, scores, strict=True):
        for value, d in zip(row[:2], ("source", "target"), strict=True):
            used = anomalous | (domain == d)
            assert value == pytest.approx(roc_auc_score(anomalous[used], score[used]), abs=1e-12)
        assert row[2] == pytest.approx(roc_auc_score(anomalous, score, max_fpr=0.1), abs=1e-12)
        assert row[2] == pytest.approx(metrics.pauc(anomalous, score), abs=1e-12)


@settings(max_examples=40)
@given(tied(), st.data())
def test_a_count_is_as_many_clips(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], more: st.DataObject
) -> None:
    scores, domain, anomalous = data
    n = len(domain)
    counts = np.array([more.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) for _ in range(2)])
    first_of_cells = np.unique(domain + anomalous.astype(str), return_index=True)[1]
    counts[:, first_of_cells] += 1
    section = section_of(domain, anomalous)
    for given_scores in (scores, scores[:1]):
        found = section_metrics(section, given_scores, counts)
        for i, row in enumerate(found):
            score = given_scores[i % len(given_scores)]
            np.testing.assert_allclose(
                row, naive.section_metrics(anomalous, domain, score, counts[i]), atol=1e-12
            )


def test_omega_of_all_machines(rng: np.random.Generator) -> None:
    clips = make_clips()
    clips = clips.iloc[rng.permutation(len(clips))]
    scores = rng.integers(0, 6, size=(9, len(clips))).astype(float)
    found = harmonic_means(all_metrics(sections(clips), scores))
    for value, score in zip(found, scores, strict=True):
        table = metrics.evaluate(clips, pd.Series(score, clips.index))
        assert value == pytest.approx(metrics.omega(table), abs=1e-12)


def test_without_domains() -> None:
    clips = make_clips(("fan",)).assign(domain=None)
    score = np.arange(len(clips)) % 7.0
    (section,) = sections(clips)
    assert section.metrics == ("auc", "pauc")
    table = metrics.evaluate(clips, pd.Series(score, clips.index))
    np.testing.assert_allclose(
        section_metrics(section, score[None])[0], table[["auc", "pauc"]].iloc[0], atol=1e-12
    )


def test_a_perfect_and_the_worst_detector() -> None:
    section = section_of(np.array(["source", "target"] * 20), np.arange(40) >= 20)
    rising = np.arange(40.0)
    found = section_metrics(section, np.stack([rising, -rising, np.zeros(40)]))
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[1], [0, 0, 9 / 19], atol=1e-15)
    np.testing.assert_allclose(found[2], 0.5)
    assert harmonic_means(found)[1] < 1e-15


def test_chunks_change_nothing(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = make_clips()
    scores = make_scores(clips, rng, {str(i): 0.5 for i in range(50)}).to_numpy().T.round(1)
    whole = all_metrics(sections(clips), scores)
    monkeypatch.setattr(ranking, "CHUNK", 60)
    assert np.array_equal(all_metrics(sections(clips), scores), whole)


def test_what_cannot_be_ranked_is_refused() -> None:
    section = section_of(np.array(["source", "target"] * 2), np.array([False, False, True, True]))
    with pytest.raises(ValueError, match=r"scores \(1, 3\) must be \(n_rows, 4\)"):
        section_metrics(section, np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"counts \(3, 4\) must be \(n_rows, 4\), beside scores \(2, 4\)"):
        section_metrics(section, np.zeros((2, 4)), np.ones((3, 4), int))
    with pytest.raises(
        ValueError, match="1 of 4 scores are not finite, the first in row 0, of the clip at position 2"
    ):
        section_metrics(section, np.array([[0, 1, np.nan, 2]]))
    with pytest.raises(ValueError, match="fan, section 00: the counts leave no anomalous clip, or no normal"):
        section_metrics(section, np.zeros((1, 4)), np.array([[0, 1, 1, 1]]))
