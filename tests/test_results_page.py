"""The page of results: what stands on it, of every kind; how it looks is for ``test_pages_in_browser``."""

from __future__ import annotations

import html as html_of_python
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reports_made
from explanations_made import HOSTILE
from scored import make_clips, make_scores
from synthetic import write_machine
from test_overview import made
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.evaluation.results import Result
from nearfar.report.pages import clips, experiments, results
from nearfar.report.pages.page import MOST_BYTES
from nearfar.research import overview, reported
from nearfar.research.overview import Limit

GOLDEN = Path(__file__).parent / "golden" / "fused_result"


def text_of(page: str) -> str:
    """What is read, without markup."""
    body = re.sub(r"<(script|style).*?</\1>", " ", page[page.index("<body") :], flags=re.DOTALL)
    return " ".join(html_of_python.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def numbers_of(page: str, title: str) -> dict:
    """What a figure or table saves as CSV."""
    places = [
        p for p in re.split(r'<(?:figure|div) class="(?:figure|table)[^>]*>', page)[1:]
        if re.search(rf"<(?:figcaption|caption)>{re.escape(title)}</", p)
    ]  # fmt: skip
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', places[0]).group(1))


def of(*found: Result, **options: object) -> str:
    return results.page(reported.gather(list(found), **options))


@pytest.fixture(scope="module")
def result() -> Result:
    table, rng = make_clips(), np.random.default_rng(0)
    return made(table, make_scores(table, rng, {1: 1.0, 2: 1.2}), rate=0.2, references=30)


@pytest.fixture(scope="module")
def page(result: Result) -> str:
    """Of this result alone; its intervals take most of the time."""
    return of(result)


@pytest.fixture(scope="module")
def golden_page() -> str:
    """Of the golden result, by a path from the root."""
    return of(Result.load(GOLDEN.resolve()))


class TestContent:
    def test_omega_stands_with_its_interval_protocol_and_scope(self, result: Result, page: str) -> None:
        page = text_of(page)
        low, high = 100 * reported.gather([result]).results[0].intervals.loc["all machines", ["low", "high"]]
        assert (
            f"Omega is {100 * result.omega:.1f} % ({low:.1f} to {high:.1f} %), the mean of 2 seeds." in page
        )
        assert "Selected on nothing." in page
        assert "not with other machines, and not with another training" in page
        assert "1,000 resamples of the test clips" in page

    def test_the_heat_map_has_the_metrics(self, result: Result, page: str) -> None:
        table = numbers_of(page, "ours: metrics")
        assert table["columns"] == ["machine", "AUC source", "AUC target", "pAUC", "F1", "F1 if all flagged",
                                    "harmonic mean", "from", "to"]  # fmt: skip
        mean = result.metrics.groupby("machine")["auc_target"].mean()
        assert [row[2] for row in table["rows"]] == pytest.approx(list(mean), rel=1e-5)

    def test_scores_stand_by_domain_and_label_with_the_threshold(self, result: Result, page: str) -> None:
        found = numbers_of(page, "ours: scores of fan")
        first = result.scores[(result.scores["machine"] == "fan") & (result.scores["seed"] == 1)]
        assert {row[0] for row in found["rows"]} == {
            "source, normal", "source, anomaly", "target, normal", "target, anomaly"
        }  # fmt: skip
        assert sorted(row[2] for row in found["rows"]) == pytest.approx(sorted(first["score"]), rel=1e-5)
        assert "A score above the threshold, the dashed line, is flagged." in text_of(page)

    def test_a_threshold_that_is_not_known_is_bounded(self, result: Result) -> None:
        page = text_of(of(replace(result, references=result.references[:0])))
        assert re.search(
            r"The value of the threshold is not in the result; it lies between \S+ and \S+\.", page
        )

    @pytest.mark.parametrize(
        ("limit", "said"),
        [
            (Limit(1.5, 1.0, 2.0), "A score above the threshold, the dashed line, is flagged."),
            (Limit(None, 1.0, 2.0), "it lies between 1 and 2."),
            (Limit(None, 3.0, np.nan), "no clip was flagged."),
            (Limit(None, np.nan, 2.0), "all clips were flagged."),
            (Limit(None, 3.0, 2.0), "some clips were flagged that score lower than others that were not."),
        ],
    )
    def test_no_line_is_spoken_of_that_is_not_there(self, limit: Limit, said: str) -> None:
        told = experiments._where(limit)
        assert told.endswith(said)
        assert ("dashed" in told) == (limit.value is not None)

    def test_the_worst_clips_of_each_result_are_played(self, result: Result) -> None:
        """Of three machines and two kinds, the worst of both results come before the second worst of the first."""
        other = replace(result, scores=result.scores.assign(score=-result.scores["score"]))
        tables = [overview.most_wrong(one, 5) for one in (result, other)]
        played = list(reported._by_turns(tables, 12))
        for table in tables:
            worst = [of.loc[of["rank"].idxmax(), "key"] for _, of in table.groupby(["machine", "kind"])]
            assert set(worst) <= set(played)
        assert len(played) == len(set(played)) <= 12

    def test_false_alarms_are_asked_and_got(self, page: str) -> None:
        found = numbers_of(page, "ours: false alarms")
        assert [row[0] for row in found["rows"][-2:]] == ["all machines"] * 2
        assert {row[2] for row in found["rows"]} == {0.2}

    def test_roc_curves_are_those_of_the_metrics(self, result: Result, page: str) -> None:
        found = numbers_of(page, "ours: ROC of pump")
        curve = np.array([row[1:] for row in found["rows"] if row[0] == "normal clips of target"])
        row = result.metrics[(result.metrics["machine"] == "pump") & (result.metrics["seed"] == 1)].iloc[0]
        assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(row["auc_target"], abs=1e-5)
        area = np.array([row[1:] for row in found["rows"] if row[0] == "what pAUC counts, high"])
        assert area[-1, 0] == 0.1

    def test_seeds_are_compared(self, result: Result, page: str) -> None:
        found = numbers_of(page, "ours: seeds")
        assert [row[1] for row in found["rows"][:2]] == ["seed 1", "seed 2"]
        assert "Seeds" not in text_of(of(only_seed(result, 1)))

    def test_a_fused_result_shows_its_branches(self, golden_page: str) -> None:
        weights = numbers_of(golden_page, "near_and_far: weights of the branches")
        assert weights["rows"][0] == ["fan", 0.25, 0.75]
        adds = numbers_of(golden_page, "near_and_far: what each branch adds")
        assert [row[0] for row in adds["rows"]] == ["far", "near"]
        assert "weights selected on 2 other machines for each of 3" in text_of(golden_page)
        assert "selects on the test labels" in text_of(golden_page)

    def test_commands_versions_and_settings_are_there_and_no_place(self, golden_page: str) -> None:
        page = golden_page
        assert "nearfar run near_and_far.toml --data DATA --out results/fused_result" in text_of(page)
        assert "scikit-learn 1.9.1" in text_of(page)
        assert "nearfar report results/fused_result -o report.html" in text_of(page)
        assert str(GOLDEN.resolve().parent) not in page
        assert "settings below in the file near_and_far.toml" in text_of(page)

    def test_without_recordings_it_says_what_needs_them(self, page: str) -> None:
        assert "need the recordings: give their folder with --data" in text_of(page)

    def test_most_wrong_clips_are_listed(self, page: str) -> None:
        found = numbers_of(page, "ours: the most wrong clips")
        assert {row[3] for row in found["rows"]} == {"missed anomaly", "false alarm"}


def only_seed(result: Result, seed: int) -> Result:
    run = result.run.model_copy(update={"seeds": (seed,)})
    tables = {
        name: table[table["seed"] == seed]
        for name, table in (
            ("scores", result.scores),
            ("metrics", result.metrics),
            ("references", result.references),
        )
    }
    return replace(result, run=run, **tables)


def test_intervals_are_told_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.evaluation.statistics.LEVEL", 0.9)
    monkeypatch.setattr("nearfar.evaluation.statistics.RESAMPLES", 2500)
    assert experiments.over("clip").startswith("Intervals hold 90 % of 2,500 resamples of the test clips ")


class TestEveryResult:
    def test_without_labels(self, rng: np.random.Generator) -> None:
        table = make_clips().assign(label=None, domain=None)
        page = of(made(table, pd.DataFrame({7: rng.normal(size=len(table))}, index=table.index)))
        assert "No labels are known" in text_of(page)
        assert "The highest scores" in text_of(page)
        assert "ROC of" not in text_of(page)
        assert "resamples" not in text_of(page)

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_of_normal_clips_only(self, rng: np.random.Generator) -> None:
        table = make_clips(("fan", "saw")).assign(label="normal")
        scores = pd.DataFrame({7: rng.normal(size=len(table))}, index=table.index)
        page = text_of(of(made(table, scores, rate=0.2, references=30)))
        assert "No machine has labels of all clips, of normal ones and of anomalous ones" in page
        assert "o labels are known" not in page
        assert "resamples" not in page
        table = make_clips(("fan", "saw"))
        table["label"] = table["label"].where(table["machine"] != "saw", "normal")
        page = text_of(of(made(table, scores, rate=0.2, references=30)))
        assert "Of saw, labels are missing or all clips are of one class: these have no metrics" in page
        assert "resamples" in page

    def test_without_domains(self, rng: np.random.Generator) -> None:
        table = make_clips().assign(domain=None)
        page = of(made(table, make_scores(table, rng, {1: 1.0}), rate=0.2, references=30))
        assert numbers_of(page, "ours: metrics")["columns"][1:3] == ["AUC", "pAUC"]
        assert "domain not known" in text_of(page)

    def test_machines_with_and_without_domains_and_labels(self, rng: np.random.Generator) -> None:
        table = make_clips(("fan", "pump", "saw"))
        table["domain"] = table["domain"].where(table["machine"] != "pump", None)
        table["label"] = table["label"].where(table["machine"] != "saw", None)
        page = text_of(of(made(table, make_scores(table, rng, {1: 1.0}))))
        assert results.NO_OMEGA in page
        assert "No labels are known of saw: these have no metrics" in page
        assert "No decisions were taken" in page

    def test_of_a_single_machine_and_one_that_is_perfect(self) -> None:
        table = make_clips(("fan",))
        page = text_of(of(made(table, pd.DataFrame({1: (table["label"] == "anomaly").astype(float)}))))
        assert "No clip is on the wrong side." in page
        assert "Omega is 100.0 %" in page

    def test_of_many_machines_stays_small(self, rng: np.random.Generator) -> None:
        table = make_clips(tuple(f"m{i:02d}" for i in range(20)), per_cell=12)
        found = made(table, make_scores(table, rng, {1: 1.0}))
        page = of(found)
        assert len(page.encode()) < MOST_BYTES / 4
        assert len(table) < experiments.MOST_POINTS

    def test_of_more_clips_than_points_shows_outlines(
        self, result: Result, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(results, "MOST_POINTS", 10)
        assert numbers_of(of(result), "ours: scores of fan")["columns"][0] == "Score, from"

    def test_several_sections_have_their_own_rows(self, rng: np.random.Generator) -> None:
        table = pd.concat([make_clips(("fan",)), make_clips(("fan",)).assign(section=1).rename(
            index=lambda key: key.replace("section_00", "section_01"))])  # fmt: skip
        page = of(made(table, make_scores(table, rng, {1: 1.0}), rate=0.2, references=30))
        assert [row[1] for row in numbers_of(page, "ours: metrics")["rows"]] == [0, 1]
        assert "scores of fan 01" in text_of(page)


class TestSeveral:
    def test_are_compared_in_pairs(self, result: Result) -> None:
        other = replace(only_seed(result, 2), folder=Path("results/other"))
        page = of(result, other)
        assert numbers_of(page, "Paired comparison")["rows"][0][:2] == ["ours (ours)", "ours (other)"]
        assert "ours (other) minus ours (ours)" in text_of(page)

    def test_of_other_clips_have_sections_of_their_own(
        self, result: Result, rng: np.random.Generator
    ) -> None:
        table = make_clips(("saw",))
        page = text_of(of(result, made(table, make_scores(table, rng, {1: 1.0}), name="theirs")))
        assert "ours and theirs: different clips cannot be compared" in page
        assert "theirs: metrics" in page

    def test_given_twice_is_an_error(self, result: Result) -> None:
        with pytest.raises(ValueError, match="ours is given twice; give each result once"):
            reported.gather([result, result])
        with pytest.raises(ValueError, match="no results to report"):
            reported.gather([])

    def test_names_are_told_apart(self, result: Result) -> None:
        others = [replace(result, folder=Path(folder)) for folder in ("a/x", "b/x", "c/y")]
        assert overview.names_of(others) == ["ours (x), 1", "ours (x), 2", "ours (y)"]


class TestRecordings:
    def test_clips_can_be_seen_and_heard_and_are_linked(self) -> None:
        page = results.page(reports_made.report())
        assert page.count("<audio") == 12
        assert page.count('id="clip-') == 4
        for number in range(1, 5):
            assert page.count(f'href="#clip-{number}"') >= 2  # of its score, and of the table
        assert "it cannot be read" in text_of(page)
        assert "recordings were read, each once" in text_of(page)
        assert "First two principal components of" in text_of(page)

    def test_fewer_are_played_where_there_is_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made_ = reports_made.report()
        every, _ = clips.cards(made_, MOST_BYTES)
        few, remarks = clips.cards(made_, every[0].size + every[1].size)
        assert [card.id for card in few] == ["clip-1", "clip-2"]
        assert "2 of 4 clips are here, because the page would be too large with all." in remarks
        monkeypatch.setattr(results, "MOST_BYTES", results.SPARE + 400_000)
        page = results.page(made_)
        assert 1 <= page.count('id="clip-') < 4
        assert len(page.encode()) < results.SPARE + 400_000

    def test_sizes_are_told_before(self) -> None:
        made_ = reports_made.report()
        cards, _ = clips.cards(made_, MOST_BYTES)
        with_, without = (len(results.page(one).encode()) for one in (made_, replace(made_, played=())))
        told = sum(card.size for card in cards)
        assert with_ - without < told + results.SPARE / 10
        assert told < 1.2 * (with_ - without)


def test_names_are_never_markup() -> None:
    page = results.page(reports_made.report())
    assert HOSTILE not in page
    assert "<img" not in page
    assert page.count("<script>") == 1
    assert html_of_python.escape(HOSTILE, quote=False).split("onerror")[0] in page


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(GOLDEN, tmp_path / "results" / "golden"))

    def run(self, *words: object) -> object:
        return CliRunner().invoke(app, ["report", *map(str, words)])

    def test_writes_one_file(self, folder: Path, tmp_path: Path) -> None:
        page = tmp_path / "made" / "page.html"
        done = self.run(folder, folder / "branches" / "near", "-o", page)
        assert done.exit_code == 0, done.output
        assert "near_and_far" in page.read_text()
        assert "page.html (" in done.output.replace("\n", "")
        assert [path.name for path in page.parent.iterdir()] == ["page.html"]

    def test_replaces_nothing_unless_asked_to(self, folder: Path, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        page.write_text("mine")
        done = self.run(folder, "-o", page)
        assert "is there already; choose another name, or replace it with --replace" in str(done.exception)
        assert page.read_text() == "mine"
        assert self.run(folder, "-o", page, "--replace").exit_code == 0
        assert page.read_text() != "mine"

    def test_a_file_of_another_kind_is_never_replaced(self, folder: Path, tmp_path: Path) -> None:
        done = self.run(folder, "-o", folder / "scores.csv", "--replace")
        assert "scores.csv: a page is a file that ends in .html" in str(done.exception)
        assert (folder / "scores.csv").read_bytes() == (GOLDEN / "scores.csv").read_bytes()
        (tmp_path / "pages.html").mkdir()
        done = self.run(folder, "-o", tmp_path / "pages.html", "--replace")
        assert "pages.html is a folder; choose another name for a page" in str(done.exception)
        assert "results: " not in done.output  # told before anything is computed

    def test_damaged_folders_are_all_told(self, folder: Path, tmp_path: Path) -> None:
        (folder / "scores.csv").write_text("key\n")
        done = self.run(folder, tmp_path / "nowhere", "-o", tmp_path / "page.html")
        assert "scores.csv: no column" in str(done.exception)
        assert "nowhere: not a folder of results" in str(done.exception)
        assert not (tmp_path / "page.html").exists()

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda table: table.assign(machine="saw"), "machine 'saw' is not in run.json"),
            (lambda table: table.assign(seed=7), "seeds [7], but run.json has [3]"),
            (lambda table: pd.concat([table, table[:1]]), "has two scores with one seed"),
            (lambda table: table.assign(score=np.nan), "scores that are missing or not finite"),
            (lambda table: table[:0], "no scores"),
            (
                lambda table: table.assign(label=np.nan),
                "labels of fan, section 00 are missing, but metrics.csv",
            ),
            (lambda table: table.assign(label="normal"), "no clip of fan, section 00 is labelled 'anomaly'"),
            (lambda table: table.assign(label="anomaly"), "no clip of fan, section 00 is labelled 'normal'"),
            (lambda table: table[table["machine"] != "fan"], "no scores of fan, section 00, but metrics.csv"),
        ],
    )
    def test_files_of_different_runs_are_told(self, folder: Path, change: Callable, said: str) -> None:
        table = pd.read_csv(folder / "scores.csv")
        change(table).to_csv(folder / "scores.csv", index=False)
        done = self.run(folder, "-o", folder / "page.html")
        assert said in str(done.exception)
        assert "files are of different runs" in str(done.exception)

    def test_an_interrupt_leaves_nothing(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(results, "render", interrupted)
        done = self.run(folder, "-o", tmp_path / "page.html")
        assert done.exit_code == 130
        assert [path.name for path in tmp_path.iterdir()] == ["results"]

    def test_options_of_recordings_need_them(self, folder: Path) -> None:
        done = self.run(folder, "--clips", 3)
        assert done.exit_code == 2
        assert "without --data" in " ".join(done.output.split())

    def test_by_recording_is_said(self, folder: Path, tmp_path: Path) -> None:
        done = self.run(folder, "-o", tmp_path / "page.html", "--by-recording")
        assert done.exit_code == 0, done.output
        text = text_of((tmp_path / "page.html").read_text())
        assert "resamples of the test recordings" in text
        assert "--by-recording -o page.html" in text

    def test_with_recordings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path / "cache"))
        write_machine(tmp_path / "plant", "fan", train=24, target=2, test=2, seconds=0.6)
        settings = ["--set", "branch.encoder_options.n_mels=16", "--set", "branch.view=near"]
        run = ["run", "spectral", "--data", "plant", "--workers", "1", *settings]
        assert CliRunner().invoke(app, run).exit_code == 0
        shutil.move("results/spectral", "results/mine")
        done = self.run("results/mine", "--data", "plant", "--clips", 2, "-o", "page.html", "--workers", 1)
        assert done.exit_code == 0, done.output
        page = Path("page.html").read_text()
        assert "36 recordings were read, each once" not in page
        assert "34 recordings were read, each once" in text_of(page)
        assert "--set 'branch.view=\"near\"'" in text_of(page)
        assert "nearfar report results/mine --data DATA --clips 2 -o page.html" in text_of(page)
        assert str(tmp_path) not in page
