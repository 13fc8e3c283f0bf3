"""Branches whose scores are in a file: what is read, what is refused, and that their results are like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scored import make_clips, make_scores
from synthetic import hide_faults, write_machine
from typer.testing import CliRunner
from typer.testing import Result as Invoked

from nearfar.challenge.write import Entry, write
from nearfar.cli import app
from nearfar.evaluation.metrics import evaluate, omega
from nearfar.evaluation.protocols import COMPLETE_DEVELOPMENT, CROSS_FITTED, NESTED
from nearfar.evaluation.results import FILES, SCORE_COLUMNS, Result
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Dataset, DatasetError
from nearfar.report import results
from nearfar.research import experiment, fused
from nearfar.research.fusion import Search, evaluate_fusion
from nearfar.research.score_files import ScoreFile

MACHINES = ("fan", "pump", "valve")
STUDY = """
name = "theirs"
protocol = "{protocol}"

[fusion]
weights = {weights}
step = 0.25

[branches]
one = {{ scores = "scores.csv", column = "One" }}
two = {{ scores = "scores.csv", column = "two" }}
"""
SYSTEM = """
[branches.far]
system = "spectral"
settings = { "branch.view" = "far", "branch.encoder_options.n_mels" = 16, "threshold.method" = "none" }
"""


@pytest.fixture
def clips() -> pd.DataFrame:
    return make_clips(MACHINES)


@pytest.fixture
def scores(clips: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return make_scores(clips, rng, {"one": 0.5, "two": 1.0})


@pytest.fixture
def study(scores: pd.DataFrame, tmp_path: Path) -> Callable[..., Path]:
    """Write a study and its scores in a folder of their own, which is not the working folder."""

    def written(
        protocol: str = CROSS_FITTED.name, weights: str = '"search"', more: str = "", drop: int = 0
    ) -> Path:
        folder = tmp_path / "study"
        folder.mkdir(exist_ok=True)
        scores.iloc[: len(scores) - drop].to_csv(folder / "scores.csv", index_label="key")
        text = STUDY.format(protocol=protocol, weights=weights)
        (folder / "theirs.toml").write_text(text + more)
        return folder / "theirs.toml"

    return written


def run(path: Path, out: Path, dataset: Dataset | None = None) -> fused.StudyResult:
    return fused.run(fused.load(path), dataset, out, jobs=Jobs(out.parent / "cache"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def invoke(*arguments: object) -> Invoked:
    return CliRunner().invoke(app, [str(a) for a in arguments])


class TestTable:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Callable[[str], Path]:
        def written(text: str) -> Path:
            (tmp_path / "s.csv").write_text(text, encoding="utf-8")
            return tmp_path / "s.csv"

        return written

    @pytest.mark.parametrize(
        "text",
        [
            "key,score\nfan/test/a.wav,1.5\nfan/test/b.wav,-2e-3\n",
            "Score,Note,KEY\n1.5,x,fan/test/a.wav\n-2e-3,,fan/test/b.wav\n",
            "key;score\nfan/test/a.wav;1,5\n\nfan/test/b.wav;-0,002\n",
        ],
    )
    def test_is_read_as_people_save_it(self, text: str, file: Callable[[str], Path]) -> None:
        found = ScoreFile(scores=str(file(text)), column="SCORE").load()
        assert found.to_dict() == {"fan/test/a.wav": 1.5, "fan/test/b.wav": -0.002}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("clip,score\nfan/test/a.wav,1\n", r"s\.csv: no column key: the first row is 'clip,score'"),
            ("key,scores\nfan/test/a.wav,1\n", r"no column of scores 'score'; did you mean 'scores'"),
            ("key,score,Score\nfan/test/a.wav,1,2\n", "2 columns are called score; keep one"),
            ("key,score\n", "a header without rows; there is nothing to fuse"),
            (
                "key,score\nfan/test/a.wav,nan\n",
                r"row 2: fan/test/a\.wav has the score 'nan'; expected a fin",
            ),
            ("key,score\nfan/test/a.wav,\n", r"row 2: fan/test/a\.wav has the score ''; expected a finite"),
            ("key,score\nfan/test/a.wav,high\n", r"has the score 'high'; expected a finite number"),
            ("key,score\nfan/test/a.wav,1\nfan/test/a.wav,2\n", r"row 3: .* occurs twice, first in row 2"),
            ("key,score\nfan/train/a.wav,1\n", r"'fan/train/a\.wav' is not the key of a test clip"),
            ("key,score\na.wav,1\n", r"'a\.wav' is not the key of a test clip, MACHINE/test/NAME"),
        ],
    )
    def test_that_is_wrong_is_refused(self, text: str, message: str, file: Callable[[str], Path]) -> None:
        with pytest.raises(ValueError, match=message):
            ScoreFile(scores=str(file(text)), column="score")

    def test_all_rows_that_are_wrong_are_named(self, file: Callable[[str], Path]) -> None:
        text = "key,score\nfan/test/a.wav,x\nb.wav,1\nfan/test/c.wav,inf\n"
        with pytest.raises(ValueError, match="3 problems in the data") as error:
            ScoreFile(scores=str(file(text)), column="score")
        assert all(f"s.csv, row {n}: " in str(error.value) for n in (2, 3, 4))

    def test_without_a_column_says_which_there_are(self, file: Callable[[str], Path]) -> None:
        with pytest.raises(ValueError, match="column is missing; say which of one, two has the scores"):
            ScoreFile(scores=str(file("key,one,two\nfan/test/a.wav,1,2\n")))

    def test_a_digest_that_the_study_says_must_be_right(self, file: Callable[[str], Path]) -> None:
        path = str(file("key,score\nfan/test/a.wav,1\n"))
        found = ScoreFile(scores=path, column="score").sha256
        assert ScoreFile(scores=path, column="score", sha256=found).sha256 == found
        with pytest.raises(ValueError, match=r"sha256='0': .*s\.csv has the SHA-256 '[0-9a-f]{64}'"):
            ScoreFile(scores=path, column="score", sha256="0")

    def test_that_changes_while_a_study_runs_is_refused(self, file: Callable[[str], Path]) -> None:
        read = ScoreFile(scores=str(file("key,score\nfan/test/a.wav,1\n")), column="score")
        file("key,score\nfan/test/a.wav,2\n")
        with pytest.raises(ValueError, match=r"s\.csv: changed after the study was read; run it again"):
            read.load()


class TestFolder:
    """Of the challenge's score files."""

    def test_is_read(self, clips: pd.DataFrame, scores: pd.DataFrame, tmp_path: Path) -> None:
        for machine in MACHINES:
            own = scores["one"][clips["machine"] == machine]
            text = "".join(f"{key.rpartition('/')[2]},{value!r}\n" for key, value in own.items())
            (tmp_path / f"anomaly_score_{machine}_section_00_test.csv").write_text(text)
        found = ScoreFile(scores=str(tmp_path))
        pd.testing.assert_series_equal(
            found.load().loc[scores.index], scores["one"], check_names=False, check_exact=True
        )
        assert found.describe() == {"name": tmp_path.name, "scores": tmp_path.name, "sha256": found.sha256}
        with pytest.raises(ValueError, match="is a folder of score files, which have no columns; omit it"):
            ScoreFile(scores=str(tmp_path), column="one")
        (tmp_path / "run.json").touch()
        with pytest.raises(
            ValueError, match=r"is the folder of a result; give its file .*/scores\.csv, with column ="
        ):
            ScoreFile(scores=str(tmp_path))

    def test_of_something_else_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no scores; expected files anomaly_score_MACHINE"):
            ScoreFile(scores=str(tmp_path))


class TestStudy:
    def test_of_files_alone_needs_no_data(
        self, study: Callable[..., Path], clips: pd.DataFrame, scores: pd.DataFrame, tmp_path: Path
    ) -> None:
        found = run(study(), tmp_path / "out")
        expected = evaluate_fusion(scores, clips, CROSS_FITTED, weights=Search(0.25))
        assert found.result.omega == pytest.approx(expected.omega, abs=1e-15)
        fused_scores = found.result.scores.set_index("key")["score"]
        pd.testing.assert_series_equal(
            fused_scores.loc[expected.scores.index], expected.scores, check_names=False
        )
        for name in scores:
            alone = Result.load(tmp_path / "out" / "branches" / name)
            assert list(alone.scores) == SCORE_COLUMNS
            assert alone.omega == pytest.approx(omega(evaluate(clips, scores[name])), abs=1e-15)
            assert alone.scores["score"].tolist() == scores[name].loc[alone.scores["key"]].tolist()
            assert alone.scores["decision"].isna().all()
            assert alone.run.machines == MACHINES

    def test_says_what_is_known_and_no_place(self, study: Callable[..., Path], tmp_path: Path) -> None:
        run(study(), tmp_path / "out")
        for file in ("run.json", "branches/one/run.json"):
            text = (tmp_path / "out" / file).read_text()
            assert str(tmp_path) not in text
            assert "sample_rate" not in json.loads(text)
            assert json.loads(text)["parameters"] == {}
        branch = json.loads(text)
        assert branch["protocol"]["name"] == "scores from a file"
        assert branch["system"]["column"] == "One"
        assert branch["system"]["scores"] == "scores.csv"
        assert len(branch["system"]["sha256"]) == 64
        assert branch["data"]["machines"]["fan"]["training_clips"] == 0

    def test_can_be_compared_and_shown_and_not_submitted(
        self, study: Callable[..., Path], tmp_path: Path
    ) -> None:
        found = run(study(), tmp_path / "out")
        of = experiment.compare(found.branches["one"], found.result, n_resamples=10)
        assert of.table.loc["all machines", "b"] == pytest.approx(found.result.omega, abs=1e-12)
        assert results.comparison(of, found.branches["one"], found.result).row_count == 4
        assert results.study(found).row_count == 3
        by_machine = results.study_by_machine(found)
        assert by_machine is not None
        assert by_machine.row_count == len(MACHINES)
        for folder in ("out", "out/branches/one"):
            entry = Entry("A_B_task2_1", [tmp_path / folder], {})
            with pytest.raises(
                ValueError, match=r"run\.json: the scores are from a file, so nobody knows the sam"
            ):
                write([entry], tmp_path / "p.zip")

    def test_in_another_folder_gives_equal_bytes(self, study: Callable[..., Path], tmp_path: Path) -> None:
        run(study(), tmp_path / "out")
        before = content(tmp_path / "out")
        run(study(), tmp_path / "out")
        assert content(tmp_path / "out") == before
        shutil.copytree(tmp_path / "study", tmp_path / "moved")
        run(tmp_path / "moved" / "theirs.toml", tmp_path / "again")
        assert content(tmp_path / "again") == before

    def test_does_not_replace_results_of_another_content(
        self, study: Callable[..., Path], tmp_path: Path
    ) -> None:
        run(study(), tmp_path / "out")
        before = content(tmp_path / "out")
        file = tmp_path / "study" / "scores.csv"
        file.write_text(file.read_text() + "\n")  # not even a score has changed
        run(tmp_path / "study" / "theirs.toml", tmp_path / "other")
        with pytest.raises(
            FileExistsError, match=r"results of scores\.csv with another content: the file has ch"
        ):
            run(tmp_path / "study" / "theirs.toml", tmp_path / "out")
        assert content(tmp_path / "out") == before
        shutil.rmtree(tmp_path / "out" / "branches" / "one")
        shutil.copytree(tmp_path / "other" / "branches" / "one", tmp_path / "new" / "branches" / "two")
        with pytest.raises(FileExistsError, match=r"holds results of One on .* with other settings"):
            run(study(), tmp_path / "new")

    def test_takes_labels_from_the_ground_truth(self, tmp_path: Path, rng: np.random.Generator) -> None:
        names = [f"section_00_{i:04d}.wav" for i in range(8)]
        for machine in ("Sander", "Shaver"):
            for kind, period in (("data", 2), ("domain", 4)):
                file = (
                    tmp_path
                    / "truth"
                    / f"ground_truth_{kind}"
                    / f"ground_truth_{machine}_section_00_test.csv"
                )
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("".join(f"{n},{i % period * 2 // period}\n" for i, n in enumerate(names)))
        keys = [f"{machine}/test/{name}" for machine in ("Sander", "Shaver") for name in names]
        table = pd.DataFrame({"one": rng.normal(size=16), "two": np.arange(16) % 2}, index=keys)
        table.to_csv(tmp_path / "scores.csv", index_label="key")
        text = STUDY.format(protocol=CROSS_FITTED.name, weights='"equal"')
        (tmp_path / "theirs.toml").write_text(text)
        read = fused.load(tmp_path / "theirs.toml")
        with pytest.raises(ValueError, match="clips have no label"):
            fused.run(read, None, tmp_path / "out")
        found = fused.run(read, None, tmp_path / "out", truth=tmp_path / "truth")
        assert found.branches["two"].omega == 1
        assert found.result.scores["label"].tolist() == ["normal", "anomaly"] * 8

    @pytest.mark.parametrize(
        ("was", "is_now", "message"),
        [
            ("column", "colum", r"branches\.one: no key 'colum'; did you mean 'column'"),
            ("scores.csv", "score.csv", r"scores='score\.csv': there is no file .*study/score\.csv"),
            (
                'column = "One"',
                'column = "Oen"',
                r"branches\.one: scores\.csv: no column of scores 'oen'; did you m",
            ),
            (
                "step = 0.25",
                'calibration = "own_normals"',
                r"branches\.one: .* a file of scores has test clips only",
            ),
            ('name = "theirs"', 'name = "theirs"\nseeds = [1, 2]', r"seeds=\[1, 2\]: all branches are files"),
        ],
    )
    def test_that_is_wrong_is_refused(
        self, was: str, is_now: str, message: str, study: Callable[..., Path]
    ) -> None:
        path = study(weights='"equal"')
        text = path.read_text()
        assert was in text
        if "own_normals" in is_now:
            text = text.replace(CROSS_FITTED.name, "fixed configuration")
        path.write_text(text.replace(was, is_now, 1))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            fused.load(path)

    def test_of_files_with_different_clips_is_refused(
        self, study: Callable[..., Path], scores: pd.DataFrame, tmp_path: Path
    ) -> None:
        path = study(more='three = { scores = "fewer.csv", column = "one" }\n')
        scores.iloc[2:].to_csv(path.with_name("fewer.csv"), index_label="key")
        with pytest.raises(
            DatasetError, match=r"branches\.three: no score for 'fan/test/.*, though another branch"
        ):
            run(path, tmp_path / "out")

    def test_of_names_that_tell_nothing_is_refused(self, study: Callable[..., Path], tmp_path: Path) -> None:
        path = study()
        path.with_name("scores.csv").write_text("key,one,two\nfan/test/a.wav,1,2\nfan/test/b/c.wav,1,2\n")
        with pytest.raises(
            DatasetError, match=r"fan/test/a\.wav: not the name of a clip\n.*b/c\.wav"
        ) as error:
            run(path, tmp_path / "out")
        assert "else give the data set (--data)" in str(error.value)

    def test_chooses_one_of_its_branches(self, study: Callable[..., Path], tmp_path: Path) -> None:
        more = '[candidates]\none = ["one"]\ntwo = ["two"]\n'
        found = run(study(NESTED.name, '"equal"', more), tmp_path / "out")
        for selection in found.findings[13711].selections:
            assert selection.chosen["weights"] == {selection.chosen["candidate"]: 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("data")
    for name in MACHINES:
        hide_faults(write_machine(root, name, train=8, target=4, test=3, seconds=0.5))
    return datasets.load(root)


class TestBesideSystems:
    @pytest.fixture
    def keys(self, data: Dataset) -> list[str]:
        return [clip.key for clip in data.clips if clip.split == "test"]

    def test_scores_are_of_the_clips_of_the_data_set(
        self,
        study: Callable[..., Path],
        data: Dataset,
        keys: list[str],
        tmp_path: Path,
        rng: np.random.Generator,
    ) -> None:
        path = study(more=SYSTEM)
        table = pd.DataFrame(rng.normal(size=(len(keys), 2)), index=keys, columns=["one", "two"])
        table.sample(frac=1, random_state=1).to_csv(path.with_name("scores.csv"), index_label="key")
        found = run(path, tmp_path / "out", data)
        assert list(found.branches) == ["one", "two", "far"]
        for name in table:
            of = found.branches[name].scores.set_index("key")["score"]
            assert of.to_dict() == table[name].to_dict()
        assert found.result.run.sample_rate == 16000
        assert found.result.run.parameters == {}
        machines, far = found.result.run.data.machines, found.branches["far"].run.data.machines
        assert machines == {name: of.without_network() for name, of in far.items()}
        assert Result.load(tmp_path / "out").run == found.result.run

    def test_everything_that_differs_is_named(
        self, study: Callable[..., Path], data: Dataset, keys: list[str], tmp_path: Path
    ) -> None:
        path = study(more=SYSTEM)
        strange = [*keys[1:], "fan/test/new.wav", "fann/test/a.wav", "fann/test/b.wav"]
        pd.DataFrame(1.0, index=strange, columns=["one", "two"]).to_csv(
            path.with_name("scores.csv"), index_label="key"
        )
        with pytest.raises(DatasetError, match="6 problems in the data") as error:
            run(path, tmp_path / "out", data)
        for branch in ("one", "two"):
            for said in (
                "no machine 'fann'; did you mean 'fan'?",
                "a score, but no clip in the data, for 'fan/test/new.wav'",
                f"no score for {keys[0]!r}, though the data set {data.name!r} has this clip",
            ):
                assert f"branches.{branch}: {said}" in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_a_system_needs_recordings(self, study: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"branches\.far: a system, which needs recordings; give a data set"
        ):
            run(study(more=SYSTEM), tmp_path / "out")


class TestCommand:
    def test_runs_without_data(
        self, study: Callable[..., Path], tmp_path: Path, scores: pd.DataFrame
    ) -> None:
        out = tmp_path / "out"
        ran = invoke(
            "run", study(COMPLETE_DEVELOPMENT.name), "--out", out, "--machine", "fan", "--machine", "pump"
        )
        assert ran.exit_code == 0, ran.output
        assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "branches"])
        found = Result.load(out)
        assert found.run.machines == ("fan", "pump")
        assert len(found.scores) == len(scores) * 2 // 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--machine", "fann"), "scores.csv: no machine 'fann'; did you mean 'fan'?"),
            (("--channels", "1,2"), "--channels has no effect: all branches are files of scores"),
            (("--seeds", "1"), "seeds=[1]: all branches of theirs are files of scores; omit them"),
            (("--false-alarm-rate", "0.1"), "theirs decides nothing, because calibration='selection_fold'"),
        ],
    )
    def test_refuses_what_has_no_effect(
        self, options: tuple[str, ...], message: str, study: Callable[..., Path], tmp_path: Path
    ) -> None:
        refused = invoke("run", study(), "--out", tmp_path / "out", *options)
        assert refused.exit_code != 0
        assert message in f"{refused.exception} " + " ".join(refused.output.replace("│", " ").split())

    def test_needs_data_for_systems(self, study: Callable[..., Path], tmp_path: Path) -> None:
        for asked in ("spectral", study(more=SYSTEM)):
            refused = invoke("run", asked, "--out", tmp_path / "out")
            assert refused.exit_code == 2
            assert "missing option --data" in " ".join(refused.output.replace("│", " ").split())
