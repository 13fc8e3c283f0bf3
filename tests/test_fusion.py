"""Fusion: equal to its slow twin, blind to the labels it reports on, and to the other clips it scores."""

from __future__ import annotations

import json
from typing import Any

import naive
import numpy as np
import pandas as pd
import pytest
from scored import lied, make_clips, make_scores

from nearfar.decisions.fusing import Scale
from nearfar.evaluation import protocols
from nearfar.evaluation.metrics import evaluate, omega
from nearfar.research import fusion
from nearfar.research.fusion import Fusion, Search, evaluate_fusion, evaluate_nested, simplex

EFFECTS = {"ae": 0.4, "ced": 1.0, "noise": 0.0}
COARSE = Search(0.25)


@pytest.fixture
def clips() -> pd.DataFrame:
    return make_clips(("fan", "pump", "saw", "valve"))


@pytest.fixture
def scores(clips: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return make_scores(clips, rng, EFFECTS).round(1) * [1, 50, 0.01]


@pytest.fixture
def references(clips: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    keys = [f"{m}/train/{i}.wav" for m in clips["machine"].unique() for i in range(30)]
    return pd.DataFrame(
        rng.normal(size=(len(keys), 3)).round(1) * [1, 50, 0.01], index=keys, columns=list(EFFECTS)
    )


@pytest.mark.parametrize(("n", "step", "size"), [(4, 0.1, 286), (5, 0.05, 10626), (1, 0.5, 1), (3, 1, 3)])
def test_size_of_the_simplex(n: int, step: float, size: int) -> None:
    grid = simplex([str(i) for i in range(n)], step)
    assert grid.shape == (size, n)
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    assert grid.min() >= 0
    assert len(np.unique(grid, axis=0)) == size


def test_simplex_equals_its_twin_in_order() -> None:
    assert simplex(["a", "b", "c"], 0.2).tolist() == naive.simplex(3, 5)


@pytest.mark.parametrize("step", [0.3, 0, -0.5, 2, float("nan")])
def test_a_step_that_does_not_divide_one(step: float) -> None:
    with pytest.raises(ValueError, match=r"step=.*: it must divide 1"):
        simplex(["a", "b"], step)


def test_robust_sigmoid_of_the_selection_fold(scores: pd.DataFrame) -> None:
    weights = {"ced": 0.5, "noise": 0.25, "ae": 0.25}
    fused = Fusion.fit(scores, weights=weights).transform(scores.iloc[:7])
    for key, row in scores.iloc[:7].iterrows():
        expected = sum(w * naive.robust_sigmoid(scores[b], row[b]) for b, w in weights.items())
        assert fused[key] == pytest.approx(expected, abs=1e-14)


def test_calibration_by_own_normals_and_by_rank(scores: pd.DataFrame, references: pd.DataFrame) -> None:
    for calibration, twin in (("own_normals", naive.robust_sigmoid), ("reference_rank", naive.rank)):
        fitted = Fusion.fit(scores, calibration=calibration, references=references)  # type: ignore[arg-type]
        fused = fitted.transform(scores, references)
        for key in scores.index[::17]:
            own = references[references.index.str.startswith(key.split("/")[0])]
            expected = np.mean([twin(own[b].to_numpy(), scores.loc[key, b]) for b in scores])
            assert fused[key] == pytest.approx(expected, abs=1e-14)


def test_searched_weights_are_those_of_the_twin(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    calibrated = np.array([[naive.robust_sigmoid(scores[b], x) for x in scores[b]] for b in scores])

    def omega_of(w: list[float]) -> float:
        fused = sum(a * row for a, row in zip(w, calibrated, strict=True))
        return omega(evaluate(clips, pd.Series(fused, clips.index)))

    best, best_omega = naive.best_weights(naive.simplex(3, 4), omega_of)
    fitted = Fusion.fit(scores, clips, weights=COARSE)
    assert list(fitted.weights.values()) == best
    assert fitted.omega == pytest.approx(best_omega, abs=1e-12)


def test_ties_go_to_equal_weights_then_to_the_first(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    same = pd.DataFrame(dict.fromkeys("abc", scores["ced"]))  # every weight gives the same Omega
    assert list(Fusion.fit(same, clips, weights=Search(1 / 3)).weights.values()) == pytest.approx([1 / 3] * 3)
    assert list(Fusion.fit(same, clips, weights=Search(0.5)).weights.values()) == [0, 0.5, 0.5]


def test_huge_scores_overflow_nothing(scores: pd.DataFrame) -> None:
    fitted = Fusion.fit(scores * 1e-300)
    fused = fitted.transform(
        pd.DataFrame([[1e300] * 3, [-1e300] * 3], index=["a", "b"], columns=scores.columns)
    )
    assert fused.to_list() == [1, 0]


def test_a_score_does_not_depend_on_the_other_clips(scores: pd.DataFrame, references: pd.DataFrame) -> None:
    scores, references = np.exp(scores), np.exp(references)  # one calibration takes logarithms
    for calibration in fusion.CALIBRATIONS:
        fitted = Fusion.fit(scores, calibration=calibration, references=references)  # type: ignore[arg-type]
        whole = fitted.transform(scores, references)
        for i in (0, 5, 50):
            assert fitted.transform(scores.iloc[i : i + 1], references).iloc[0] == whole.iloc[i]


def test_a_fusion_tells_everything_and_comes_back(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    for fitted in (Fusion.fit(scores, clips, weights=COARSE), Fusion({"ae": 1.0}, "own_normals")):
        assert Fusion.restore(json.loads(json.dumps(fitted.describe()))) == fitted


def test_held_out_labels_have_no_influence(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    folds = protocols.leave_one_machine_out(("fan", "pump", "saw", "valve"))
    options: dict[str, Any] = {"weights": COARSE}
    fused, selections = fusion.crossfit(scores, clips, folds, **options)
    of_lies, lied_selections = fusion.crossfit(scores, lied(clips, "saw"), folds, **options)
    own = fused.index.str.startswith("saw/")
    assert set(fused.index) == set(clips.index)
    assert fused[own].equals(of_lies[own])
    assert selections[2] == lied_selections[2]
    assert not fused[~own].equals(of_lies[~own])  # elsewhere they do have influence


def test_cross_fitted_metrics_and_scope(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    found = evaluate_fusion(scores, clips, protocols.CROSS_FITTED, weights=COARSE)
    fold = found.selections[1]
    chosen = Fusion.restore(fold.chosen)
    held_out = clips["machine"] == "pump"
    assert chosen == Fusion.fit(scores[~held_out], clips[~held_out], weights=COARSE)
    expected = evaluate(clips[held_out], chosen.transform(scores[held_out]))
    pd.testing.assert_frame_equal(found.metrics.loc[["pump"]], expected)
    assert found.scope == "calibration and weights selected on 3 other machines for each of 4"


def test_complete_development_is_never_below_its_own_branches(
    clips: pd.DataFrame, scores: pd.DataFrame
) -> None:
    found = evaluate_fusion(scores, clips, protocols.COMPLETE_DEVELOPMENT, weights=COARSE)
    assert found.omega >= max(omega(evaluate(clips, scores[b])) for b in scores) - 1e-12
    assert found.omega == pytest.approx(found.selections[0].chosen["omega"], abs=1e-12)


def test_without_labels_nothing_is_selected(
    clips: pd.DataFrame, scores: pd.DataFrame, references: pd.DataFrame
) -> None:
    found = evaluate_fusion(
        scores, clips, protocols.FIXED_LEAVE_ONE_MACHINE_OUT,
        weights="equal", calibration="own_normals", references=references,
    )  # fmt: skip
    assert found.scope == "nothing was selected; 4 machines reported"


def test_nested_takes_the_candidate_of_the_inner_folds(
    clips: pd.DataFrame, scores: pd.DataFrame, rng: Any
) -> None:
    worse = make_scores(clips, rng, dict.fromkeys(EFFECTS, 0.0))
    candidates = {"worse": worse, "good": scores}
    found = evaluate_nested(candidates, clips, weights=COARSE)
    assert {s.chosen["candidate"] for s in found.selections} == {"good"}
    plain = evaluate_fusion(scores, clips, protocols.CROSS_FITTED, weights=COARSE)
    pd.testing.assert_frame_equal(found.metrics, plain.metrics)
    inner, _ = fusion.crossfit(
        worse[clips["machine"] != "fan"], clips[clips["machine"] != "fan"],
        protocols.leave_one_machine_out(["pump", "saw", "valve"]), weights=COARSE,
    )  # fmt: skip
    expected = omega(evaluate(clips.loc[inner.index], inner))
    assert found.selections[0].chosen["inner_omegas"]["worse"] == pytest.approx(expected, abs=1e-12)
    assert "settings" in found.scope


def test_nested_choices_never_see_the_held_out_labels(
    clips: pd.DataFrame, scores: pd.DataFrame, rng: Any
) -> None:
    candidates = {"a": make_scores(clips, rng, dict.fromkeys(EFFECTS, 0.7)), "b": scores}
    true = evaluate_nested(candidates, clips, weights=COARSE).selections[3]
    of_lies = evaluate_nested(candidates, lied(clips, "valve"), weights=COARSE).selections[3]
    assert true.fold.report == ("valve",)
    assert true == of_lies


def test_of_equal_candidates_the_first(
    clips: pd.DataFrame, scores: pd.DataFrame, references: pd.DataFrame
) -> None:
    found = evaluate_nested(
        {"x": scores, "y": scores}, clips,
        weights="equal", calibration="own_normals", references={"x": references, "y": references},
    )  # fmt: skip
    assert {s.chosen["candidate"] for s in found.selections} == {"x"}


def test_what_each_branch_is_worth(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    found = fusion.without_each_branch(scores, clips, protocols.CROSS_FITTED, weights="equal")
    assert list(found) == ["ae", "ced", "noise"]
    assert found["ced"].omega < found["noise"].omega
    rest = evaluate_fusion(scores[["ae", "noise"]], clips, protocols.CROSS_FITTED, weights="equal")
    assert found["ced"].omega == rest.omega


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"ae": 0.5, "ced": 0.5}}, "weights of ae, ced, but the branches are ae, ced, noise"),
        ({"weights": {"ae": -0.5, "ced": 1, "noise": 0.5}}, r"weights\['ae'\]=-0.5: must not be negative"),
        ({"weights": {"ae": 0.5, "ced": 0.1, "noise": 0}}, "the weights have the sum 0.6; it must be 1"),
        ({"weights": {"ae": float("nan"), "ced": 0.1, "noise": 0}}, r"weights\['ae'\]=nan"),
        ({"weights": "best"}, "weights='best': must be 'equal', a weight for each branch, or Search"),
        ({"weights": COARSE}, r"a search needs clips, with labels"),
        ({"calibration": "minmax"}, "calibration='minmax': must be one of selection_fold, own_normals"),
    ],
)
def test_impossible_fits_are_refused(scores: pd.DataFrame, options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fusion.fit(scores, **options)


def test_bad_scores_are_refused(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"branch 'ced' is not finite for 'fan/test/.*0002_speed_2.wav'"):
        Fusion.fit(scores.assign(ced=scores["ced"].where(np.arange(len(scores)) != 2)))
    with pytest.raises(ValueError, match="scores: branch 'ae' holds int64, not floats"):
        Fusion.fit(scores.assign(ae=1))
    with pytest.raises(ValueError, match=r"a table of 0 clips and 3 branches is empty"):
        Fusion.fit(scores.iloc[:0])
    with pytest.raises(ValueError, match="clips that occur more than once: 'fan/test/"):
        Fusion.fit(pd.concat([scores, scores.iloc[:1]]))
    with pytest.raises(ValueError, match="branches that occur more than once: 'ae'"):
        Fusion.fit(scores[["ae", "ae"]])
    with pytest.raises(ValueError, match=r"branch 'ced': iqr=0 over 96 scores of the selection fold"):
        Fusion.fit(scores.assign(ced=1.0))
    with pytest.raises(ValueError, match=r"no row of scores for 'fan/test/.*0000_speed_0.wav'"):
        Fusion.fit(scores.iloc[1:], clips, weights=COARSE)
    with pytest.raises(ValueError, match="a row of scores, but no clip, for"):
        evaluate_fusion(scores, clips.iloc[1:], protocols.CROSS_FITTED, weights=COARSE)


def test_missing_branches_and_references_are_refused(scores: pd.DataFrame, references: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no scores of branch 'noise'; there are: ae, ced"):
        Fusion.fit(scores).transform(scores[["ae", "ced"]])
    ranked = Fusion.fit(scores, calibration="reference_rank", references=references)
    with pytest.raises(ValueError, match="calibration='reference_rank' needs references"):
        ranked.transform(scores)
    with pytest.raises(ValueError, match="the references have no branch 'ced'"):
        ranked.transform(scores, references[["ae", "noise"]])
    with pytest.raises(ValueError, match="no references of machine 'saw'"):
        ranked.transform(scores, references[~references.index.str.startswith("saw")])
    with pytest.raises(ValueError, match="references that are scored, too: 'fan/test/"):
        ranked.transform(scores, scores)
    flat = references.assign(ae=references["ae"].where(~references.index.str.startswith("saw"), 2.0))
    with pytest.raises(ValueError, match="branch 'ae': iqr=0 over 30 scores of machine 'saw'"):
        Fusion.fit(scores, calibration="own_normals").transform(scores, flat)


def test_a_scale_belongs_to_its_calibration() -> None:
    with pytest.raises(ValueError, match="a scale belongs to 'selection_fold', and to no other"):
        Fusion({"ae": 1.0}, "selection_fold")
    with pytest.raises(ValueError, match="a scale belongs to"):
        Fusion({"ae": 1.0}, "own_normals", Scale({"ae": 0.0}, {"ae": 1.0}))


def test_a_protocol_must_say_what_is_done(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="chooses nothing, but here calibration and weights would be chosen"):
        evaluate_fusion(scores, clips, protocols.FIXED_LEAVE_ONE_MACHINE_OUT, weights=COARSE)
    with pytest.raises(
        ValueError, match="chooses calibration and weights, but here settings would be chosen"
    ):
        evaluate_nested({"a": scores}, clips, weights=COARSE, protocol=protocols.CROSS_FITTED)
    with pytest.raises(ValueError, match="among candidates: give them to evaluate_nested"):
        evaluate_fusion(scores, clips, protocols.NESTED, weights=COARSE)
