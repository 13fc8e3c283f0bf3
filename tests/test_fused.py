"""Studies: what their files may say, and that the fused scores are those of the branches, and honestly chosen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from synthetic import hide_faults, write_machine
from typer.testing import CliRunner
from typer.testing import Result as Invoked

from nearfar.cli import app
from nearfar.encoders.pretrained import WeightsError
from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import clip_table, evaluate, omega
from nearfar.evaluation.protocols import PROTOCOLS
from nearfar.evaluation.results import FILES, SCORE_COLUMNS, Result
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Dataset, DatasetError, Machine
from nearfar.report import results
from nearfar.research import experiment, fused, fusion
from nearfar.research.fused import Study, StudyResult
from nearfar.research.fusion import Search, evaluate_fusion, refuse_impossible
from nearfar.systems import named
from nearfar.systems.fusion import is_fused

MACHINES = ("fan", "pump", "valve")
BRANCH = """
system = "spectral"
[branches.{name}.settings]
"branch.view" = "{view}"
"branch.backend" = "{backend}"
"branch.encoder_options.n_mels" = 16
"threshold.method" = "{method}"
"threshold.folds" = 2
"threshold.false_alarm_rate" = 0.4
"""
HEAD = """
name = "near_and_far"
summary = "Does the far microphone add to the near one?"
protocol = "{protocol}"
seeds = {seeds}

[fusion]
weights = {weights}
step = 0.25
calibration = "{calibration}"
"""
CROSS_FITTED = "cross-fitted, leave one machine out"
FIXED = "fixed configuration, leave one machine out"
NESTED = "strict nested, leave one machine out"

Write = Callable[..., Path]


def text_of(
    protocol: str = CROSS_FITTED,
    *,
    seeds: str = "[3]",
    weights: str = '"search"',
    calibration: str = "selection_fold",
    method: str = "none",
) -> str:
    head = HEAD.format(protocol=protocol, seeds=seeds, weights=weights, calibration=calibration)
    near = BRANCH.format(name="near", view="near", backend="mahalanobis", method=method)
    far = BRANCH.format(name="far", view="far", backend="nearest_neighbour", method=method)
    return f"{head}\n[branches.near]{near}\n[branches.far]{far}"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "own.toml"
        path.write_text(text)
        return path

    return written


@pytest.fixture
def load(write: Write) -> Callable[..., Study]:
    return lambda *arguments, **options: fused.load(write(text_of(*arguments, **options)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in MACHINES:
        hide_faults(write_machine(root, name, train=8, target=4, test=3, seconds=0.5))
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return datasets.load(root)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def searched(data: Dataset, jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("searched")
    (folder / "own.toml").write_text(text_of(seeds="[3, 4]"))
    return fused.run(fused.load(folder / "own.toml"), data, folder / "out", jobs=jobs)


def scores_of(found: StudyResult, seed: int) -> pd.DataFrame:
    """Of the branches, by key."""
    return pd.DataFrame(
        {b: r.scores[r.scores["seed"] == seed].set_index("key")["score"] for b, r in found.branches.items()}
    )


def fused_of(found: StudyResult, seed: int) -> pd.Series:
    scores = found.result.scores
    return scores[scores["seed"] == seed].set_index("key")["score"]


def sigmoid(scores: pd.DataFrame, normals: pd.DataFrame) -> pd.DataFrame:
    q1, median, q3 = (normals.quantile(q) for q in (0.25, 0.5, 0.75))
    return 1 / (1 + np.exp(-(scores - median) / (q3 - q1)))


def rank(scores: pd.DataFrame, normals: pd.DataFrame) -> pd.DataFrame:
    """Pair by pair."""
    return pd.DataFrame(
        {
            b: [np.mean([(n < s) + 0.5 * (n == s) for n in normals[b]]) for s in scores[b]]
            for b in scores.columns
        },
        index=scores.index,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


class TestFile:
    def test_says_what_is_run(self, load: Callable[..., Study]) -> None:
        read = load(seeds="[1, 2]")
        assert read.seeds == (1, 2)
        assert read.fusion.asked == Search(0.25)
        assert list(read.branches) == ["near", "far"]
        assert read.branches["far"].load().branch.view == "far"
        assert load(weights="{near = 0.3, far = 0.7}").fusion.asked == {"near": 0.3, "far": 0.7}

    def test_is_told_from_a_system(self, write: Write) -> None:
        assert is_fused(str(write(text_of())))
        assert not is_fused(str(write("[branch]")))
        assert not is_fused("spectral")

    @pytest.mark.parametrize(
        ("was", "is_now", "message"),
        [
            ("summary =", "sumary =", r"sumary: no key 'sumary'; did you mean 'summary'\?"),
            ("step =", "stap =", r"fusion\.stap: no key 'stap'; did you mean 'step'\?"),
            (
                "[branches.far.settings]",
                "[branches.far.setings]",
                r"branches\.far\.setings: .*mean 'settings'",
            ),
            (
                '"branch.view" = "far"',
                '"branch.vew" = "far"',
                r"branches\.far: spectral.toml:\n    branch\.vew: no key 'vew'; did you mean 'view'",
            ),
            ('"far"', '"farr"', r"branch\.view: no view 'farr'; did you mean 'far'"),
            ("cross-fitted,", "cross-fited,", f"protocol: no protocol .*; did you mean '{CROSS_FITTED}'"),
            ('system = "spectral"', 'system = "spectra"', r"branches\.near: no system .* mean 'spectral'"),
            ("[branches.far", '[branches."../far"', r"branches\.\.\./far\.\[key\]: String should match"),
            ("seeds = [3]", "seeds = []", "seeds: Tuple should have at least 1 item"),
            ("seeds = [3]", "seeds = [-3]", r"seeds\.0: Input should be greater than or equal to 0"),
            ('"search"', '"best"', r"fusion\.weights\.name: Input should be 'equal', 'search' or 'greedy'"),
            ('"search"', '{near = "x", far = 1}', r"fusion\.weights\.table\.near: Input should be a valid n"),
            ("selection_fold", "own", r"fusion\.calibration: Input should be 'selection_fold'"),
            ("step = 0.25", "step = 0.3", "  step=0.3: it must divide 1"),
            ('"search"', "{near = 1}", "  weights of near, but the branches are near, far"),
            ('"search"', "{near = 1, far = 1}", "  the weights have the sum 2; it must be 1"),
            (CROSS_FITTED, FIXED, "chooses nothing, but here calibration and weights would be chosen, too"),
            (
                CROSS_FITTED,
                NESTED,
                r"name subsets of the branches in \[candidates\], or give them to evaluate_nested",
            ),
            (
                "[branches.near]",
                '[candidates]\na = ["far"]\n[branches.near]',
                "chooses none; take 'strict nested, l",
            ),
            (
                "selection_fold",
                "own_normals",
                r"branches\.near: calibration='own_normals' needs scores of unseen .* threshold\.method='none'",
            ),
            ("name =", "name :", "own.toml: not TOML"),
        ],
    )
    def test_a_fault_is_named(self, was: str, is_now: str, message: str, write: Write) -> None:
        assert was in text_of()
        path = write(text_of().replace(was, is_now))
        with pytest.raises(ValueError, match=message) as error:
            fused.load(path)
        assert "own.toml:" in str(error.value)
        assert "Value error" not in str(error.value)

    def test_all_faults_are_named_at_once(self, write: Write) -> None:
        text = text_of().replace("protocol =", "protokol =").replace('"spectral"', '"spectra"')
        with pytest.raises(ValueError, match=r"own\.toml: 4 faults") as error:
            fused.load(write(text))
        places = ("protocol", "protokol", "branches.near", "branches.far")
        assert all(f"\n  {place}: " in str(error.value) for place in places)

    def test_one_branch_alone_is_no_study(self, write: Write) -> None:
        with pytest.raises(ValueError, match="branches: Dictionary should have at least 2 items"):
            fused.load(write(text_of().partition("[branches.far]")[0]))

    def test_files_that_are_not_there_or_no_text(self, tmp_path: Path, write: Write) -> None:
        with pytest.raises(FileNotFoundError, match=r"no\.toml"):
            fused.load(tmp_path / "no.toml")
        with pytest.raises(FileNotFoundError, match=r"mine\.toml"):
            fused.load(write(text_of().replace('system = "spectral"', 'system = "mine.toml"', 1)))
        (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(ValueError, match=r"binary\.toml: not TOML: 'utf-8'"):
            fused.load(tmp_path / "binary.toml")


class TestResult:
    def test_is_a_result_like_any_other(self, searched: StudyResult, data: Dataset) -> None:
        out = searched.result.folder
        assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "branches"])
        assert sorted(p.name for p in (out / "branches").iterdir()) == ["far", "near"]
        assert list(searched.result.scores) == SCORE_COLUMNS
        again = Result.load(out)
        for table in ("scores", "metrics", "references"):
            found, made = (getattr(r, table) for r in (again, searched.result))
            given = list(made.columns[made.notna().any()])  # a fusion takes no decisions
            pd.testing.assert_frame_equal(found[given], made[given], check_dtype=False)
        assert again.scores["decision"].isna().all()
        assert again.run == searched.result.run
        clips = clip_table(c for c in data.clips if c.split == "test")
        for seed, rows in searched.result.metrics.groupby("seed"):
            expected = evaluate(clips, fused_of(searched, seed)).reset_index()
            pd.testing.assert_frame_equal(rows.reset_index(drop=True)[list(expected)], expected)

    def test_says_what_was_chosen_on_what(self, searched: StudyResult) -> None:
        run = json.loads((searched.result.folder / "run.json").read_text())
        assert run["system"]["name"] == "near_and_far"
        assert (
            run["protocol"]["scope"] == "calibration and weights selected on 2 other machines for each of 3"
        )
        assert set(run["branches"]) == {"near", "far"}
        assert run["branches"]["far"]["system"]["branch"]["view"] == "far"
        assert set(run["findings"]) == {"3", "4"}
        for fold in run["findings"]["3"]["folds"]:
            assert sorted([*fold["select"], *fold["report"]]) == sorted(MACHINES)
            assert sum(fold["chosen"]["weights"].values()) == pytest.approx(1)
        assert run["sample_rate"] == 16000
        assert run["parameters"] == dict.fromkeys(MACHINES, 0)
        of_clips = {"training_clips", "test_clips", "training_digest", "test_digest"}
        assert set(run["data"]["machines"]["fan"]) == of_clips

    def test_branches_are_as_if_run_alone(
        self, searched: StudyResult, load: Callable[..., Study], data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        system = load().branches["far"].load()
        experiment.run(system, data, tmp_path / "far", seeds=[3, 4], jobs=jobs)
        assert content(tmp_path / "far") == content(searched.branches["far"].folder)

    def test_can_be_compared_with_a_branch(self, searched: StudyResult) -> None:
        of_study = Result.load(searched.result.folder)
        near = Result.load(searched.result.folder / "branches" / "near")
        found = experiment.compare(near, of_study, n_resamples=10)
        of_all = found.table.iloc[-1]
        expected = [np.mean([omega(t) for _, t in r.metrics.groupby("seed")]) for r in (near, of_study)]
        assert of_all[["a", "b"]].tolist() == pytest.approx(expected, abs=1e-12)
        assert "near_and_far" in rendered(results.comparison(found, near, of_study))

    def test_is_shown_with_its_scope(self, searched: StudyResult) -> None:
        text = rendered(results.study(searched))
        assert "Fused: calibration and weights selected on 2 other machines for each of 3." in text
        assert f"Protocol: {CROSS_FITTED}; selected on the other machines" in text
        for of in (*searched.branches.values(), searched.result):
            value = np.mean([100 * omega(t) for _, t in of.metrics.groupby("seed")])
            assert f"{value:.2f} ± " in text

    def test_is_shown_with_intervals_and_machines(self, searched: StudyResult, data: Dataset) -> None:
        """Means over the seeds, and what the first of them chose."""
        clips = clip_table(c for c in data.clips if c.split == "test")
        near = searched.intervals["near"]
        by_seed = pd.DataFrame({s: scores_of(searched, s)["near"] for s in (3, 4)})
        pd.testing.assert_frame_equal(near, statistics.intervals(clips, by_seed))
        low, high = 100 * near.loc["all machines", ["low", "high"]]
        assert f" {low:.1f} to {high:.1f} " in rendered(results.study(searched))
        assert searched.interval is not None
        by_machine = rendered(results.study_by_machine(searched))
        for machine in MACHINES:
            one = [evaluate(clips, fused_of(searched, s)).xs(machine, level="machine") for s in (3, 4)]
            value = np.mean([omega(of) for of in one])
            assert searched.interval.loc[machine, "value"] == pytest.approx(value, abs=1e-12)
            assert f" {machine} │ {100 * value:.2f} │ " in by_machine
        for selection in searched.findings[3].selections:
            for branch, weight in selection.chosen["weights"].items():
                assert (f"{weight:.2g} {branch}" in by_machine) or weight == 0


def rendered(table: object) -> str:
    console = Console(width=400, no_color=True)
    with console.capture() as captured:
        console.print(table)
    return " ".join(captured.get().split())


class TestCandidates:
    """Of strict nested selection: subsets of the branches."""

    def test_are_chosen_as_from_python(
        self, load: Callable[..., Study], write: Write, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        text = text_of(NESTED, weights='"greedy"')
        both = fused.load(write(f'{text}\n[candidates]\nboth = ["far", "near"]\nfar = ["far"]\n'))
        found = fused.run(both, data, tmp_path / "out", jobs=jobs)
        scores = scores_of(found, 3)
        candidates = {"both": scores[["far", "near"]], "far": scores[["far"]]}
        clips = clip_table(c for c in data.clips if c.split == "test")
        expected = fusion.evaluate_nested(candidates, clips, weights=Search(0.25, "greedy"))
        assert found.findings[3].describe() == expected.describe()
        pd.testing.assert_series_equal(fused_of(found, 3), expected.scores, check_names=False)
        run = json.loads((tmp_path / "out" / "run.json").read_text())
        assert run["system"]["candidates"] == {"both": ["far", "near"], "far": ["far"]}
        assert run["protocol"]["scope"] == (
            "calibration and weights and settings selected on 2 other machines for each of 3"
        )
        assert "candidates" not in load().model_dump(mode="json")  # as it was recorded before there were any

    def test_of_normal_scores_give_decisions(
        self, write: Write, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        text = text_of(NESTED, weights='"equal"', calibration="own_normals", method="conformal")
        text = text.replace("step = 0.25", "step = 0.25\nfalse_alarm_rate = 0.25")
        of = '\n[candidates]\nnear = ["near"]\nboth = ["near", "far"]\n'
        found = fused.run(fused.load(write(text + of)), data, tmp_path / "out", jobs=jobs)
        assert set(found.result.scores["decision"].astype(int)) <= {0, 1}
        assert len(found.result.references) == 12 * len(MACHINES)

    @pytest.mark.parametrize(
        ("of", "weights", "message"),
        [
            ('a = ["near", "near"]', '"equal"', r"candidates\.a: \['near', 'near'\] names a branch twice"),
            ('a = ["nea"]', '"equal"', r"candidates\.a: no branch 'nea'; did you mean 'near'"),
            ("a = []", '"equal"', r"candidates\.a: Tuple should have at least 1 item"),
            (
                'a = ["near"]',
                "{near = 0.5, far = 0.5}",
                "no weights suit all; take 'equal', 'search' or 'greedy'",
            ),
            ('a = ["near"]', '"search"', r"candidates\.a: step=0\.3: it must divide 1"),
        ],
    )
    def test_that_cannot_be_chosen_among(self, of: str, weights: str, message: str, write: Write) -> None:
        text = text_of(NESTED, weights=weights).replace("step = 0.25", "step = 0.3")
        with pytest.raises(ValueError, match=message):
            fused.load(write(f"{text}\n[candidates]\n{of}\n"))

    def test_are_named_in_the_table(self, write: Write, data: Dataset, jobs: Jobs, tmp_path: Path) -> None:
        of = '\n[candidates]\nboth = ["near", "far"]\n'
        found = fused.run(
            fused.load(write(text_of(NESTED, weights='"equal"') + of)), data, tmp_path, jobs=jobs
        )
        text = rendered(results.study_by_machine(found))
        assert text.count(" both: 0.5 near, 0.5 far ") == len(MACHINES)

    def test_need_labels(self, write: Write, data: Dataset, jobs: Jobs, tmp_path: Path) -> None:
        machines = tuple(
            Machine(m.name, tuple(replace(c, label=None if c.split == "test" else c.label) for c in m.clips))
            for m in data
        )
        text = text_of(NESTED, weights='"equal"', calibration="own_normals", method="conformal")
        study = fused.load(write(f'{text}\n[candidates]\na = ["near"]\n'))
        with pytest.raises(ValueError, match="clips have no label 'normal' or 'anomaly'"):
            fused.run(study, Dataset("x", data.root, machines), tmp_path / "out", jobs=jobs)


class TestScores:
    def test_of_searched_weights_are_chosen_on_the_other_machines(
        self, searched: StudyResult, data: Dataset
    ) -> None:
        clips = clip_table(c for c in data.clips if c.split == "test")
        for seed in (3, 4):
            scores, finding = scores_of(searched, seed), searched.findings[seed]
            assert [s.fold.report for s in finding.selections] == [(m,) for m in MACHINES]
            for selection in finding.selections:
                (own,) = selection.fold.report
                here = clips["machine"] == own
                calibrated = sigmoid(scores, scores[~here])
                tried = {w: w * calibrated["near"] + (1 - w) * calibrated["far"] for w in np.arange(5) / 4}
                omegas = {w: omega(evaluate(clips[~here], s[~here])) for w, s in tried.items()}
                weight = selection.chosen["weights"]["near"]
                assert min(omegas.values()) < max(omegas.values()) < 1
                assert omegas[weight] == pytest.approx(max(omegas.values()), abs=1e-12)
                np.testing.assert_allclose(
                    fused_of(searched, seed)[here], tried[weight][here], rtol=1e-12, atol=0
                )

    @pytest.mark.parametrize(
        ("calibration", "calibrated"), [("own_normals", sigmoid), ("reference_rank", rank)]
    )
    def test_of_equal_weights_are_means_on_the_scale_of_own_normals(
        self,
        calibration: str,
        calibrated: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame],
        load: Callable[..., Study],
        data: Dataset,
        jobs: Jobs,
        tmp_path: Path,
    ) -> None:
        asked = load(FIXED, weights='"equal"', calibration=calibration, method="conformal", seeds="[3, 4]")
        found = fused.run(asked, data, tmp_path / "out", jobs=jobs)
        assert found.result.run.protocol.scope == "nothing was selected; 3 machines reported"
        for seed in (3, 4):
            scores, of_all = scores_of(found, seed), fused_of(found, seed)
            for machine in MACHINES:
                keys = [c.key for c in data[machine].train]
                normals = pd.DataFrame(
                    {
                        b: r.references[r.references["seed"] == seed].set_index("key").loc[keys, "score"]
                        for b, r in found.branches.items()
                    }
                )
                own = scores.index.str.startswith(f"{machine}/")
                expected = calibrated(scores[own], normals).mean(axis=1)
                np.testing.assert_allclose(of_all[own], expected, rtol=1e-12, atol=0)

    def test_of_given_weights_with_references_that_one_branch_lacks(
        self, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        """The normal clips count that all branches have left out."""
        text = text_of(
            FIXED, weights="{near = 0.25, far = 0.75}", calibration="reference_rank", method="conformal"
        )
        near, far = text.split("[branches.far.settings]")
        (tmp_path / "held_out.toml").write_text(
            f'{near}[branches.far.settings]\n"threshold.calibration" = "held_out"{far}'
        )
        found = fused.run(fused.load(tmp_path / "held_out.toml"), data, tmp_path / "out", jobs=jobs)
        near_all, far_some = (found.branches[b].references.set_index("key")["score"] for b in ("near", "far"))
        assert len(far_some) < len(near_all)
        scores, of_all = scores_of(found, 3), fused_of(found, 3)
        normals = pd.DataFrame({"near": near_all[far_some.index], "far": far_some})
        own = scores.index.str.startswith("fan/")
        expected = rank(scores[own], normals[normals.index.str.startswith("fan/")]) @ [0.25, 0.75]
        np.testing.assert_allclose(of_all[own], expected, rtol=1e-12, atol=0)

    def test_are_those_of_the_fusion(self, searched: StudyResult, data: Dataset) -> None:
        clips = clip_table(c for c in data.clips if c.split == "test")
        finding = searched.findings[4]
        again = evaluate_fusion(scores_of(searched, 4), clips, finding.protocol, weights=Search(0.25))
        pd.testing.assert_series_equal(fused_of(searched, 4).sort_index(), again.scores.sort_index())
        assert again.omega == finding.omega

    def test_do_not_depend_on_the_order_of_the_machines(
        self, searched: StudyResult, load: Callable[..., Study], data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        turned = Dataset(data.name, data.root, data.machines[::-1])
        found = fused.run(load(), turned, tmp_path / "out", jobs=jobs)
        assert found.result.scores["machine"].iloc[0] == "valve"
        assert fused_of(found, 3).to_dict() == fused_of(searched, 3).to_dict()
        pd.testing.assert_frame_equal(found.findings[3].metrics, searched.findings[3].metrics)

    def test_that_are_not_finite_are_refused(
        self,
        load: Callable[..., Study],
        data: Dataset,
        jobs: Jobs,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        whole = experiment.run

        def spoilt(*arguments: object, **options: object) -> Result:
            found = whole(*arguments, **options)  # type: ignore[arg-type]
            found.scores.loc[0, "score"] = np.nan
            found.references.loc[found.references.index[:1], "score"] = np.nan
            return found

        monkeypatch.setattr(experiment, "run", spoilt)
        with pytest.raises(ValueError, match=r"scores: branch 'near' is not finite for 'fan/test/"):
            fused.run(load(), data, tmp_path / "out", jobs=jobs)


@pytest.fixture(scope="module")
def decided(data: Dataset, jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("decided")
    text = text_of(FIXED, weights='"equal"', calibration="own_normals", method="conformal", seeds="[3, 4]")
    text = text.replace("step = 0.25", "step = 0.25\nfalse_alarm_rate = 0.25")
    (folder / "own.toml").write_text(text)
    return fused.run(fused.load(folder / "own.toml"), data, folder / "out", jobs=jobs)


class TestDecisions:
    """Of fused scores, from fused scores of each machine's own normal clips."""

    def test_are_conformal_with_scores_of_clips_that_no_scale_was_made_with(
        self, decided: StudyResult
    ) -> None:
        for seed in (3, 4):
            table = decided.result.scores.query(f"seed == {seed}").set_index("key")
            unseen = decided.result.references.query(f"seed == {seed}").set_index("key")
            branches = pd.DataFrame(
                {
                    b: r.references.query(f"seed == {seed}").set_index("key")["score"]
                    for b, r in decided.branches.items()
                }
            )
            for machine in MACHINES:
                normal = unseen[unseen["machine"] == machine]["score"]
                own = branches.loc[normal.index]
                assert len(own) == 12
                # ten parts of twelve clips: those of a part are on a scale of all others
                closest = [
                    min(
                        abs(
                            sigmoid(own.loc[[key]], own.drop(index=[key, *other])).mean(axis=1).item()
                            - normal[key]
                        )
                        for other in [[], *([k] for k in own.index if k != key)]
                    )
                    for key in own.index
                ]
                assert max(closest) < 1e-12
                scores = table[table["machine"] == machine]
                p = [(1 + (normal >= s).sum()) / (len(normal) + 1) for s in scores["score"]]
                assert scores["decision"].tolist() == [int(value <= 0.25) for value in p]
        assert set(decided.result.scores["decision"]) == {0, 1}
        assert {"f1", "f1_always"} <= set(decided.result.metrics)

    def test_need_normal_scores_of_each_machine(self, write: Write) -> None:
        text = text_of(FIXED, weights='"equal"', calibration="own_normals", method="conformal")
        text = text.replace("step = 0.25", "false_alarm_rate = 0.05")
        assert fused.load(write(text)).fusion.false_alarm_rate == 0.05
        with pytest.raises(ValueError, match="decisions want normal scores of each machine"):
            fused.load(write(text.replace("own_normals", "selection_fold")))

    def test_that_so_few_clips_cannot_attain_are_refused(
        self, write: Write, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        text = text_of(FIXED, weights='"equal"', calibration="own_normals", method="conformal")
        asked = fused.load(write(text.replace("step = 0.25", "false_alarm_rate = 0.01")))
        with pytest.raises(ValueError, match=r"false_alarm_rate=0\.01: .* attain no rate below"):
            fused.run(asked, data, tmp_path / "out", jobs=jobs)


class TestWithoutLabels:
    def test_given_weights_give_scores_and_decisions_and_no_metrics(
        self, write: Write, root: Path, jobs: Jobs, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As on an evaluation set, which tells neither labels nor domains; of one machine, too."""
        shutil.copytree(root / "fan", tmp_path / "eval" / "fan")
        for i, path in enumerate(sorted((tmp_path / "eval" / "fan" / "test").iterdir())):
            path.rename(path.with_name(f"section_00_{i:04d}.wav"))
        text = text_of(
            "fixed configuration", weights='"equal"', calibration="own_normals", method="conformal"
        )
        asked = fused.load(write(text.replace("step = 0.25", "false_alarm_rate = 0.25")))
        found = fused.run(asked, datasets.load(tmp_path / "eval"), tmp_path / "out", jobs=jobs)
        assert "no metrics" in caplog.text
        assert found.findings == {}
        assert found.result.metrics.empty
        assert found.result.run.protocol.scope == "nothing was selected; 1 machine reported"
        assert found.result.scores["decision"].isin([0, 1]).all()
        known = fused.run(asked, datasets.load(root).only(["fan"]), tmp_path / "known", jobs=jobs)
        assert sorted(known.result.scores["score"]) == sorted(found.result.scores["score"])
        console = Console(width=400, no_color=True)
        with console.capture() as captured:
            console.print(results.study(found))
        assert "nothing was selected" in captured.get()

    def test_a_search_is_refused_before_any_work(
        self, load: Callable[..., Study], data: Dataset, tmp_path: Path
    ) -> None:
        machines = []
        for machine in data:
            test = (replace(c, label=None, domain=None) for c in machine.test)
            machines.append(Machine(machine.name, (*machine.train, *test)))
        with pytest.raises(ValueError, match="clips have no label"):
            fused.run(load(), Dataset("x", data.root, tuple(machines)), tmp_path / "out", jobs=Jobs(tmp_path))


@pytest.mark.parametrize("name", named.FUSED)
def test_every_fused_system_is_a_study_that_decides_and_selects_nothing(name: str) -> None:
    loaded = fused.load(name)
    assert loaded.name == name
    assert is_fused(name)
    assert loaded.source.strip()
    assert loaded.needs is not None
    of_branches = [branch.load() for branch in loaded.branches.values()]
    assert loaded.needs.minutes == sum(system.needs.minutes for system in of_branches)
    assert loaded.needs.channels == max(system.needs.channels for system in of_branches)
    assert loaded.fusion.false_alarm_rate == 0.05
    assert not fusion.choices(loaded.fusion.asked, loaded.fusion.calibration)
    assert PROTOCOLS[loaded.protocol].chooses == ()


def test_seeds_and_rate_can_be_asked_for_in_place_of_the_files(load: Callable[..., Study]) -> None:
    asked = load(FIXED, weights='"equal"', calibration="own_normals", method="conformal")
    other = asked.with_seeds([4, 5]).with_false_alarm_rate(0.3)
    assert (other.seeds, other.fusion.false_alarm_rate) == ((4, 5), 0.3)
    assert other.fusion.calibration == "own_normals"
    with pytest.raises(ValueError, match="false_alarm_rate=1: must be above 0 and below 1"):
        asked.with_false_alarm_rate(1.0)
    with pytest.raises(
        ValueError, match="near_and_far decides nothing, because calibration='selection_fold'"
    ):
        load().with_false_alarm_rate(0.1)


def test_a_greedy_search_of_too_many_rounds_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"for 2 branches these are 100,000 rounds and 200,000 weights, and at"
    ):
        refuse_impossible(
            ["a", "b"], PROTOCOLS[CROSS_FITTED], weights=Search(1e-5, "greedy"), calibration="selection_fold"
        )


class TestRun:
    def test_interrupted_goes_on_and_gives_equal_bytes(
        self,
        searched: StudyResult,
        load: Callable[..., Study],
        data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        whole = experiment.run
        ran: list[int] = []

        def once(*arguments: object, **options: object) -> Result:
            if ran:
                raise KeyboardInterrupt
            ran.append(1)
            return whole(*arguments, **options)  # type: ignore[arg-type]

        asked, own = load(seeds="[3, 4]"), Jobs(tmp_path / "cache")
        with monkeypatch.context() as patched:
            patched.setattr(experiment, "run", once)
            with pytest.raises(KeyboardInterrupt):
                fused.run(asked, data, tmp_path / "out", jobs=own)
        assert not (tmp_path / "out" / "run.json").exists()
        fused.run(asked, data, tmp_path / "out", jobs=own)
        assert content(tmp_path / "out") == content(searched.result.folder)
        fused.run(asked, data, tmp_path / "out", jobs=own)
        assert content(tmp_path / "out") == content(searched.result.folder)

    def test_does_not_take_over_what_is_something_elses(
        self, searched: StudyResult, load: Callable[..., Study], data: Dataset, jobs: Jobs
    ) -> None:
        before = content(searched.result.folder)
        asked = load(seeds="[3, 4]")
        for other, of in (
            (load(seeds="[3]"), data),
            (load(seeds="[3, 4]", weights='"equal"'), data),
            (asked, data.only(MACHINES[:2])),
        ):
            with pytest.raises(FileExistsError, match="holds results of near_and_far on fan, pump, valve"):
                fused.run(other, of, searched.result.folder, jobs=jobs)
        with pytest.raises(FileExistsError, match="holds results of near_and_far"):
            experiment.run(asked.branches["near"].load(), data, searched.result.folder, jobs=jobs)
        assert content(searched.result.folder) == before

    def test_refuses_a_branch_with_other_settings_before_any_work(
        self,
        load: Callable[..., Study],
        data: Dataset,
        jobs: Jobs,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked = load()
        other = asked.branches["near"].load()
        experiment.run(other, data, tmp_path / "out" / "branches" / "far", jobs=jobs)
        monkeypatch.setattr(experiment, "run", None)
        with pytest.raises(FileExistsError, match="branches/far holds results of spectral"):
            fused.run(asked, data, tmp_path / "out", jobs=jobs)

    def test_refuses_what_cannot_be_judged_before_any_work(
        self,
        load: Callable[..., Study],
        data: Dataset,
        root: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(experiment, "run", None)
        with pytest.raises(ValueError, match=r"machines=\('fan',\): the protocol needs 2 or more"):
            fused.run(load(), data.only(["fan"]), tmp_path / "out")
        with pytest.raises(FileNotFoundError, match="ground_truth_data: no such folder"):
            fused.run(load(), data, tmp_path / "out", truth=tmp_path / "no")
        for name in MACHINES:
            (tmp_path / "data" / name).mkdir(parents=True)
            (tmp_path / "data" / name / "train").symlink_to(root / name / "train")
            (tmp_path / "data" / name / "test").mkdir()
            for i, path in enumerate(sorted((root / name / "test").iterdir())):
                (tmp_path / "data" / name / "test" / f"section_00_{i:04d}.wav").symlink_to(path)
        with pytest.raises(ValueError, match=r"36 clips have no label 'normal' or 'anomaly'"):
            fused.run(load(), datasets.load(tmp_path / "data"), tmp_path / "out")
        normal = (Machine(m.name, tuple(c for c in m.clips if c.label == "normal")) for m in data)
        normal_only = Dataset(data.name, data.root, tuple(normal))
        with pytest.raises(
            ValueError, match=r"fan, section 00, has no anomalous clips; .*AUC is not defined"
        ):
            fused.run(load(), normal_only, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_misses_weights_before_any_work(
        self, write: Write, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NEARFAR_WEIGHTS", str(tmp_path / "none"))
        text = text_of().split("[branches.far]")[0] + '[branches.far]\nsystem = "eat_raw"\n'
        with pytest.raises(WeightsError, match="nearfar weights get eat"):
            fused.run(fused.load(write(text)), data, tmp_path / "out", jobs=Jobs(tmp_path / "cache"))
        assert not list((tmp_path / "cache").glob("jobs/*"))
        assert not (tmp_path / "out").exists()

    def test_machines_without_test_clips_and_repeated_seeds(
        self, load: Callable[..., Study], data: Dataset, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=r"seeds=\[3, 3\]: expected one or more, each once"):
            fused.run(load(seeds="[3, 3]"), data, tmp_path / "out")
        untested = Machine("saw", data["fan"].train)
        with pytest.raises(DatasetError, match="saw: no test clips to score"):
            fused.run(load(), Dataset("x", data.root, (*data.machines, untested)), tmp_path / "out")

    def test_by_the_truth_of_a_folder(
        self, searched: StudyResult, load: Callable[..., Study], data: Dataset, root: Path, tmp_path: Path
    ) -> None:
        for kind in ("data", "domain"):
            (tmp_path / "truth" / f"ground_truth_{kind}").mkdir(parents=True)
        former = {}
        for machine in data:
            folder = tmp_path / "data" / machine.name
            (folder / "test").mkdir(parents=True)
            (folder / "train").symlink_to(root / machine.name / "train")
            rows: dict[str, list[str]] = {"data": [], "domain": []}
            for i, clip in enumerate(machine.test):
                name = f"section_00_{i:04d}.wav"
                (folder / "test" / name).symlink_to(clip.path)
                former[f"{machine.name}/test/{name}"] = clip.key
                rows["data"].append(f"{name},{int(clip.label == 'anomaly')}\n")
                rows["domain"].append(f"{name},{int(clip.domain == 'target')}\n")
            for kind, lines in rows.items():
                file = f"ground_truth_{machine.name}_section_00_test.csv"
                (tmp_path / "truth" / f"ground_truth_{kind}" / file).write_text("".join(lines))
        hidden = datasets.load(tmp_path / "data")
        found = fused.run(
            load(), hidden, tmp_path / "out", truth=tmp_path / "truth", jobs=Jobs(tmp_path / "c")
        )
        assert found.findings[3].omega == searched.findings[3].omega
        renamed = fused_of(found, 3).rename(former)
        pd.testing.assert_series_equal(renamed.sort_index(), fused_of(searched, 3).sort_index())

    def test_on_machines_without_domains(
        self, load: Callable[..., Study], root: Path, tmp_path: Path
    ) -> None:
        """As in 2020."""
        for name in MACHINES:
            for split in ("train", "test"):
                (tmp_path / "data" / name / split).mkdir(parents=True)
                for i, path in enumerate(sorted((root / name / split).iterdir())):
                    label = "anomaly" if "anomaly" in path.name else "normal"
                    (tmp_path / "data" / name / split / f"{label}_id_00_{i:08d}.wav").symlink_to(path)
        asked = load(method="conformal", calibration="own_normals")
        found = fused.run(
            asked, datasets.load(tmp_path / "data"), tmp_path / "out", jobs=Jobs(tmp_path / "cache")
        )
        assert {"auc", "pauc"} <= set(found.result.metrics)
        assert "selected on 2 other machines" in rendered(results.study(found))
        pd.testing.assert_frame_equal(
            Result.load(tmp_path / "out").metrics, found.result.metrics, check_dtype=False
        )


class TestCommandLine:
    def test_runs_a_study(self, write: Write, root: Path, jobs: Jobs, tmp_path: Path) -> None:
        done = invoke(
            "run",
            write(text_of()),
            "--data",
            root,
            "--out",
            tmp_path / "out",
            "--cache",
            jobs.root,
            "--workers",
            1,
        )
        assert done.exit_code == 0, done.output
        assert "weights selected on 2 other machines for each of 3" in " ".join(done.output.split())
        assert Result.load(tmp_path / "out").run.name == "near_and_far"

    def test_seeds_take_the_place_of_the_files(
        self, write: Write, root: Path, jobs: Jobs, tmp_path: Path
    ) -> None:
        means = ("--cache", jobs.root, "--workers", 1, "--out", tmp_path / "out")
        done = invoke("run", write(text_of()), "--data", root, "--seeds", "4,3", *means)
        assert done.exit_code == 0, done.output
        assert Result.load(tmp_path / "out").run.seeds == (4, 3)

    @pytest.mark.parametrize("option", [("--set", "branch.view=near"), ("--preset", "small")])
    def test_refuses_what_the_file_says(self, option: tuple[str, str], write: Write, root: Path) -> None:
        done = invoke("run", write(text_of()), "--data", root, *option)
        assert done.exit_code == 2
        assert "is a study; set presets and settings in its file" in " ".join(done.output.split())


def invoke(*arguments: object) -> Invoked:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
