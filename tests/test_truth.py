import pandas as pd
import pytest

from nearfar.evaluation import metrics
from nearfar.evaluation.official import evaluate_folder, read_scores
from nearfar.evaluation.truth import read_released_names, read_truth
from nearfar.recordings.clips import DatasetError

MACHINES = ("Sander", "ToyDrone")
CELLS = [(label, domain) for label in (0, 1) for domain in (0, 1)] * 3  # of 12 clips a machine
NAMES = [f"section_00_{i:04d}.wav" for i in range(len(CELLS))]
WORDS = {"label": ("normal", "anomaly"), "domain": ("source", "target")}


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name},{value}\n" for name, value in rows))


@pytest.fixture
def truth(tmp_path):
    """Ground truth of two machines, in the layout of the official evaluators."""
    folder = tmp_path / "truth"
    for machine in MACHINES:
        file = f"ground_truth_{machine}_section_00_test.csv"
        write_rows(folder / "ground_truth_data" / file, zip(NAMES, [c[0] for c in CELLS], strict=True))
        write_rows(folder / "ground_truth_domain" / file, zip(NAMES, [c[1] for c in CELLS], strict=True))
        released = [
            f"section_00_{WORDS['domain'][domain]}_test_{WORDS['label'][label]}_{i:04d}_spd_{i % 2}"
            for i, (label, domain) in enumerate(CELLS)
        ]
        write_rows(folder / "ground_truth_attributes" / file, zip(NAMES, released, strict=True))
    return folder


@pytest.fixture
def scores(tmp_path, rng):
    """Scores and decisions of these machines, as a system submits them."""
    folder = tmp_path / "scores"
    for machine in MACHINES:
        values = rng.normal(size=len(NAMES)).tolist()
        write_rows(folder / f"anomaly_score_{machine}_section_00_test.csv", zip(NAMES, values, strict=True))
        decisions = [int(v > 0) for v in values]
        write_rows(
            folder / f"decision_result_{machine}_section_00_test.csv", zip(NAMES, decisions, strict=True)
        )
    return folder


def test_truth(truth):
    table = read_truth(truth)
    assert len(table) == 24
    assert list(table.columns) == ["machine", "section", "domain", "label"]
    row = table.loc["ToyDrone/test/section_00_0002.wav"]
    assert row.tolist() == ["ToyDrone", 0, "source", "anomaly"]


def test_truth_of_some_machines(truth):
    assert set(read_truth(truth, ["Sander"])["machine"]) == {"Sander"}
    with pytest.raises(DatasetError, match="ground_truth_data: no file for the machine Polisher"):
        read_truth(truth, ["Sander", "Polisher"])


def test_truth_lists_every_problem(truth):
    data = truth / "ground_truth_data" / "ground_truth_Sander_section_00_test.csv"
    lines = data.read_text().splitlines()
    lines[0] = "section_00_0000.wav,2"
    lines[1] = "section_00_0001.wav"
    lines[2] = "section_01_0002.wav,1"
    lines[3] = "clip3.wav,1"
    lines[5] = lines[4]
    data.write_text("\n".join([*lines, "", ""]))
    (truth / "ground_truth_data" / "ground_truth_ToyDrone.csv").write_text("")
    with pytest.raises(DatasetError, match=r"'clip3\.wav' is not a name of a test clip") as error:
        read_truth(truth)
    for said in (
        "section_00_0000.wav has the value '2'; expected 0 or 1",
        "'section_00_0001.wav' is not a row 'name,value'",
        "section_01_0002.wav is a clip of section 01",
        "'clip3.wav' is not a name of a test clip",
        "section_00_0004.wav occurs twice",
        "Sander/test/section_00_0005.wav: in ground_truth_domain only",
        "ground_truth_ToyDrone.csv: the name must be ground_truth_MACHINE_section_SS_test.csv",
    ):
        assert any(said in problem for problem in error.value.problems), said


def test_no_truth(tmp_path):
    with pytest.raises(FileNotFoundError, match="ground_truth_data: no such folder"):
        read_truth(tmp_path)
    for folder in ("ground_truth_data", "ground_truth_domain"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match="no file ground_truth_MACHINE"):
        read_truth(tmp_path)


def test_released_names_that_repeat(truth):
    file = truth / "ground_truth_attributes" / "ground_truth_Sander_section_00_test.csv"
    write_rows(file, [(name, "the_same") for name in NAMES])
    with pytest.raises(DatasetError, match="11 released names are repeated"):
        read_released_names(truth)


def test_scores_of_a_folder(scores):
    (scores / "result.csv").write_text("left,alone\n")
    table = read_scores(scores)
    assert table.index.is_monotonic_increasing
    assert len(table) == 24
    assert (table["decision"] == (table["score"] > 0)).all()
    for file in scores.glob("decision_result_*"):
        file.unlink()
    assert list(read_scores(scores).columns) == ["score"]


def test_evaluation_of_a_folder(scores, truth):
    found = evaluate_folder(scores, truth)
    table = read_scores(scores)
    pd.testing.assert_frame_equal(found.metrics, metrics.evaluate(read_truth(truth), table["score"]))
    expected = metrics.decision_metrics(read_truth(truth), table["decision"])
    pd.testing.assert_frame_equal(found.decisions, expected)
    of_one = evaluate_folder(scores, truth, machines=["Sander"])
    pd.testing.assert_frame_equal(of_one.metrics, found.metrics.loc[["Sander"]])


def test_the_baselines_names_and_released_names(scores, truth):
    """The official baseline scores an evaluation set under its released names, in files named after the year."""
    expected = evaluate_folder(scores, truth)
    names = {key.rpartition("/")[2]: released for released, key in read_released_names(truth).items()}
    for file in sorted(scores.iterdir()):
        lines = [line.split(",") for line in file.read_text().splitlines()]
        kind, machine = file.name.split("_section")[0].rsplit("_", 1)
        renamed = f"{kind}_DCASE2026T2{machine}_section_00_test_seed13711_id(0_)_Eval.csv"
        write_rows(file.with_name(renamed), [(names[n].rpartition("/")[2], v) for n, v in lines])
        file.unlink()
    with_truth = evaluate_folder(scores, truth)
    by_name = evaluate_folder(scores)  # these names carry the labels themselves
    for found in (with_truth, by_name):
        pd.testing.assert_frame_equal(found.metrics, expected.metrics)
        pd.testing.assert_frame_equal(found.decisions, expected.decisions)


SAVED = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Unicode text": lambda text: text.replace(",", "\t").encode("utf-16"),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "decimal commas": lambda text: text.replace(",", ";").replace(".", ",").replace(",wav", ".wav").encode(),
    "quotes, spaces, empty rows": lambda text: (
        "".join(f'"{name}" , {value}\r\n' for name, value in (line.split(",") for line in text.split()))
        + ",\r\n"
    ).encode(),
}


@pytest.mark.parametrize("save", SAVED.values(), ids=SAVED)
def test_scores_and_truth_are_read_however_they_are_saved(scores, truth, save):
    expected = evaluate_folder(scores, truth)
    for file in [*scores.iterdir(), *truth.rglob("*.csv")]:
        file.write_bytes(save(file.read_text()))
    found = evaluate_folder(scores, truth)
    pd.testing.assert_frame_equal(found.metrics, expected.metrics)
    pd.testing.assert_frame_equal(found.decisions, expected.decisions)


def test_scores_that_are_no_table_and_rows_are_named(scores):
    (scores / "anomaly_score_Sander_section_00_test.csv").write_bytes(b"\xff\xfea")
    file = scores / "anomaly_score_ToyDrone_section_00_test.csv"
    file.write_bytes(file.read_bytes().replace(b",", b"\t", 1) + f"{NAMES[0]},1\n".encode())
    with pytest.raises(DatasetError, match="not readable as text") as error:
        read_scores(scores)
    for said in ("row 13: 'section_00_0000.wav,1' is not a row", "row 2: 'section_00_0001.wav,"):
        assert any(said in problem for problem in error.value.problems), said


def test_real_scores_of_2020(shared):
    """Per-clip scores of the ToyCar test set with their published AUC and pAUC (MLPerf Tiny, MIT)."""
    folder = shared / "golden" / "toycar_2020"
    found = evaluate_folder(folder)
    assert found.decisions is None
    published = pd.read_csv(folder / "result.csv", skiprows=1).set_index("id")
    for section in (1, 2, 3, 4):
        row = found.metrics.loc[("ToyCar", section)]
        assert row["auc"] == pytest.approx(published.loc[f"{section:02d}", "AUC"], abs=1e-12)
        assert row["pauc"] == pytest.approx(published.loc[f"{section:02d}", "pAUC"], abs=1e-12)
    assert found.metrics[["normals", "anomalies"]].to_numpy().sum() == 2459


def test_names_without_labels(scores):
    with pytest.raises(
        ValueError, match="names of 24 clips tell no label, for example 'Sander/test/section_00_0000"
    ):
        evaluate_folder(scores)


def test_no_scores(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no such folder; expected one with files anomaly_score_\*.csv"
    ):
        read_scores(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="no scores; expected files anomaly_score_MACHINE"):
        read_scores(tmp_path)


def test_scores_list_every_problem(scores):
    write_rows(scores / "anomaly_score_Sander_section_00_test_seed1.csv", [(NAMES[0], 1.0), (NAMES[1], 1.0)])
    write_rows(
        scores / "anomaly_score_Polisher_section_00_test.csv",
        [("file", "score"), (NAMES[0], "high"), (NAMES[1], "nan"), ("section_01_0002.wav", 1.0)],
    )
    write_rows(scores / "decision_result_Polisher_section_00_test.csv", [(NAMES[0], "0.5"), (NAMES[3], 1)])
    write_rows(scores / "anomaly_score_Polisher.csv", [])
    with pytest.raises(
        DatasetError, match=r"0000\.wav has the score 'high'; expected a finite number"
    ) as error:
        read_scores(scores)
    for said in (
        "2 clips are in another file too, the first is Sander/test/section_00_0000.wav",
        "'file' is not a name of a test clip",
        "section_00_0000.wav has the score 'high'; expected a finite number",
        "section_00_0001.wav has the score 'nan'; expected a finite number",
        "section_01_0002.wav is a clip of section 01",
        "section_00_0000.wav has the decision '0.5'; expected 0 or 1",
        "Polisher/test/section_00_0003.wav: has a decision, but no score",
        "anomaly_score_Polisher.csv: the name must be anomaly_score_MACHINE_section_SS_test.csv",
    ):
        assert any(said in problem for problem in error.value.problems), said


def test_released_names_that_are_no_names_are_listed(truth):
    file = truth / "ground_truth_attributes" / "ground_truth_Sander_section_00_test.csv"
    write_rows(file, [(NAMES[0], "../x"), (NAMES[1], "a/b"), *[(name, f"n{name}") for name in NAMES[2:]]])
    with pytest.raises(DatasetError, match=r"ground_truth_attributes: '\.\./x' is no name of a file"):
        read_released_names(truth)


def test_clips_without_decision(scores, truth):
    (scores / "decision_result_Sander_section_00_test.csv").unlink()
    with pytest.raises(ValueError, match="12 decisions are missing or not finite, the first of 'Sander"):
        evaluate_folder(scores, truth)
