from pathlib import Path

import naive
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from nearfar.evaluation import metrics
from nearfar.recordings.clips import parse_clip

PUBLISHED = pd.read_csv(Path(__file__).parent / "golden" / "published_2026_dev.csv", comment="#")
DOMAINS, LABELS = ("source", "target"), ("normal", "anomaly")

values = st.integers(0, 6).map(float)  # few values: many ties
labelled = st.tuples(st.lists(values, min_size=1, max_size=30), st.lists(values, min_size=1, max_size=30))


def arrays(normals, anomalies):
    anomalous = np.r_[np.zeros(len(normals), bool), np.ones(len(anomalies), bool)]
    return anomalous, np.array([*normals, *anomalies], float)


def make_clips(machines=("fan", "valve"), per_cell=5):
    names = [
        f"{m}/test/section_00_{domain}_test_{label}_{i:04d}.wav"
        for m in machines
        for domain in DOMAINS
        for label in LABELS
        for i in range(per_cell)
    ]
    return metrics.clip_table(parse_clip(Path(name)) for name in names)


@pytest.fixture
def clips():
    return make_clips()


@pytest.fixture
def scores(clips, rng):
    return pd.Series(rng.integers(0, 5, len(clips)).astype(float), index=clips.index)


@pytest.mark.parametrize("system", PUBLISHED["system"].unique())
def test_omega_of_published_tables(system):
    rows = PUBLISHED[PUBLISHED["system"] == system]
    assert len(rows) == 7
    omega = metrics.omega(rows[list(metrics.METRICS)] / 100)
    assert round(100 * omega, 2) == rows["omega"].iloc[0]


@given(labelled)
def test_auc_counts_pairs(data):
    assert metrics.auc(*arrays(*data)) == pytest.approx(naive.auc(*data), abs=1e-12)


@given(labelled)
def test_pauc_is_the_area_of_the_polygon(data):
    expected = naive.pauc(*data, metrics.MAX_FPR)
    assert metrics.pauc(*arrays(*data)) == pytest.approx(expected, abs=1e-12)


@given(labelled)
def test_areas_are_those_of_scikit_learn(data):
    anomalous, score = arrays(*data)
    assert metrics.auc(anomalous, score) == pytest.approx(roc_auc_score(anomalous, score), abs=1e-12)
    expected = roc_auc_score(anomalous, score, max_fpr=metrics.MAX_FPR)
    assert metrics.pauc(anomalous, score) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=21))
def test_harmonic_mean_has_a_floor(numbers):
    expected = naive.harmonic_mean(numbers, metrics.FLOOR)
    assert metrics.harmonic_mean(np.array(numbers)) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_precision_recall_f1(pairs):
    anomalous, flagged = (np.array([p[i] for p in pairs], bool) for i in (0, 1))
    expected = naive.precision_recall_f1(anomalous.tolist(), flagged.tolist())
    assert metrics.precision_recall_f1(anomalous, flagged) == pytest.approx(expected)


def test_perfect_and_reversed_detectors():
    anomalous, score = arrays(range(100), range(100, 200))
    assert metrics.auc(anomalous, score) == 1
    assert metrics.pauc(anomalous, score) == 1
    assert metrics.auc(anomalous, -score) == 0
    assert metrics.pauc(anomalous, -score) == pytest.approx(0.9 / 1.9)  # 0.47368...


def test_scores_may_be_of_any_size():
    assert metrics.auc(*arrays([-1e308, 1e308], [1e308])) == 0.75


@given(labelled)
def test_swapped_labels_turn_auc_around(data):
    anomalous, score = arrays(*data)
    assert metrics.auc(~anomalous, score) == pytest.approx(1 - metrics.auc(anomalous, score))


def test_a_domain_is_its_normals_against_all_anomalies(clips, scores):
    table = metrics.evaluate(clips, scores)
    of_fan = clips["machine"] == "fan"
    anomalies = scores[of_fan & (clips["label"] == "anomaly")].tolist()
    normals = {
        d: scores[of_fan & (clips["label"] == "normal") & (clips["domain"] == d)].tolist() for d in DOMAINS
    }
    row = table.loc[("fan", 0)]
    for d in DOMAINS:
        assert row[f"auc_{d}"] == pytest.approx(naive.auc(normals[d], anomalies))
    expected = naive.pauc(normals["source"] + normals["target"], anomalies, metrics.MAX_FPR)
    assert row["pauc"] == pytest.approx(expected)
    assert row[["normals_source", "normals_target", "anomalies"]].tolist() == [5, 5, 10]
    assert list(table.columns[:3]) == list(metrics.METRICS)
    assert list(table.index) == [("fan", 0), ("valve", 0)]


def test_the_order_of_rows_does_not_matter(clips, scores):
    expected = metrics.evaluate(clips, scores)
    shuffled = metrics.evaluate(clips.sample(frac=1, random_state=1), scores.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(shuffled, expected)


def test_swapped_labels_swap_the_classes(clips, scores):
    swapped = clips.assign(label=clips["label"].map({"normal": "anomaly", "anomaly": "normal"}), domain=None)
    table, there = metrics.evaluate(clips.assign(domain=None), scores), metrics.evaluate(swapped, scores)
    np.testing.assert_allclose(there["auc"], 1 - table["auc"])


def test_without_domains(clips, scores):
    table = metrics.evaluate(clips.assign(domain=None), scores)
    assert list(table.columns) == ["auc", "pauc", "normals", "anomalies"]
    assert metrics.omega(table) == pytest.approx(metrics.harmonic_mean(table[["auc", "pauc"]].to_numpy()))
    of_fan = clips["machine"] == "fan"
    split = [scores[of_fan & (clips["label"] == label)].tolist() for label in LABELS]
    assert table.loc[("fan", 0), "auc"] == pytest.approx(naive.auc(*split))


def test_sections_are_apart(scores, clips):
    other = clips.assign(section=1).rename(index=lambda key: key.replace("section_00", "section_01"))
    both = pd.concat([clips, other])
    table = metrics.evaluate(both, pd.concat([scores, -scores.set_axis(other.index)]))
    np.testing.assert_allclose(table.loc[("fan", 1), "auc_source"], 1 - table.loc[("fan", 0), "auc_source"])


def test_decisions_of_a_domain_take_its_own_anomalies(clips, scores):
    flagged = scores > 2
    table = metrics.decision_metrics(clips, flagged.astype(int))
    inside = (clips["machine"] == "fan") & (clips["domain"] == "target")
    anomalous = (clips["label"] == "anomaly")[inside].tolist()
    expected = naive.precision_recall_f1(anomalous, flagged[inside].tolist())
    names = ["precision_target", "recall_target", "f1_target"]
    assert table.loc[("fan", 0), names].tolist() == pytest.approx(list(expected))
    assert table.loc[("fan", 0), "f1_always"] == pytest.approx(2 / 3)  # half of the clips are anomalous


def test_decisions_that_divide_by_zero(clips):
    nothing = metrics.decision_metrics(clips, pd.Series(0, index=clips.index))
    assert (nothing[["precision", "recall", "f1", "f1_source"]] == 0.0).all(axis=None)
    normals = clips[clips["label"] == "normal"].assign(domain=None)
    table = metrics.decision_metrics(normals, pd.Series(1, index=normals.index))
    assert list(table.columns) == ["precision", "recall", "f1", "f1_always"]
    assert (table == 0.0).all(axis=None)


FIRST = "fan/test/section_00_source_test_normal_0000.wav"
BROKEN = {
    f"^no score for '{FIRST}'$": lambda c, s: (c, s.drop(FIRST)),
    f"^a score, but no clip, for '{FIRST}'$": lambda c, s: (c.drop(FIRST), s),
    "and 37 more": lambda c, s: (c, s.iloc[:0]),
    f"^2 scores are missing or not finite, the first of '{FIRST}'": lambda c, s: (
        c,
        s.mask(s.index.isin(c.index[:2])),
    ),
    "^1 scores are missing or not finite": lambda c, s: (c, s.where(s.index != FIRST, np.inf)),
    "^valve, section 00, has no anomalous clips: AUC": lambda c, s: (
        c.assign(label=c["label"].where(c["machine"] == "fan", "normal")),
        s,
    ),
    "^fan, section 00, has no normal clips of the target domain;": lambda c, s: (
        c.assign(domain=c["domain"].where(c["label"] == "anomaly", "source")),
        s,
    ),
    "^fan, section 00, has no normal clips;": lambda c, s: (c.assign(domain=None, label="anomaly"), s),
    f"domain is disclosed for some clips, but not for '{FIRST}'": lambda c, s: (
        c.assign(domain=c["domain"].where(c.index != FIRST)),
        s,
    ),
    "clips that occur more than once": lambda c, s: (pd.concat([c, c.iloc[:1]]), s),
    "more than one score for": lambda c, s: (c, pd.concat([s, s.iloc[:1]])),
    "40 clips have no label": lambda c, s: (c.assign(label=None), s),
    r"unknown domains \['aux'\]": lambda c, s: (c.assign(domain="aux"), s),
    "the clips have no column section, label": lambda c, s: (c[["machine", "domain"]], s),
    "clips without machine or section: 'fan": lambda c, s: (c.assign(machine=None), s),
    "no clips to evaluate": lambda c, s: (c.iloc[:0], s.iloc[:0]),
}


@pytest.mark.parametrize("message", BROKEN)
def test_errors_of_evaluate(clips, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(*BROKEN[message](clips, scores))


@pytest.mark.parametrize(
    ("anomalous", "score", "message"),
    [
        ([True, False], [1.0], r"\(2,\) and score \(1,\) must be two arrays"),
        ([True, False], [np.nan, 1.0], "1 scores are not finite, the first at position 0"),
        ([True, True], [0.0, 1.0], "all 2 are of one class"),
        ([], [], "all 0 are of one class"),
    ],
)
def test_errors_of_arrays(anomalous, score, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc(np.array(anomalous, bool), np.array(score))


def test_errors_of_decisions(clips, scores):
    with pytest.raises(ValueError, match="are neither 0 nor 1, the first of 'fan"):
        metrics.decision_metrics(clips, scores + 0.5)
    with pytest.raises(ValueError, match="1 decisions are missing or not finite"):
        metrics.decision_metrics(clips, (scores > 2).astype("Int64").mask(scores.index == clips.index[3]))


def test_errors_of_omega(clips, scores):
    table = metrics.evaluate(clips, scores)
    with pytest.raises(ValueError, match="not percent"):
        metrics.omega(table * 100)
    with pytest.raises(ValueError, match="of at least one machine"):
        metrics.omega(table.iloc[:0])
    with pytest.raises(ValueError, match=r"lacks \['pauc'\]"):
        metrics.omega(table.drop(columns="pauc"))
