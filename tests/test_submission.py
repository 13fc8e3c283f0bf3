import json
import shutil
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from nearfar.challenge.check import check
from nearfar.challenge.schema import CLIP_NAMES, DEVELOPMENT_MACHINES, EVALUATION_MACHINES, read_meta
from nearfar.challenge.write import Entry, write
from nearfar.evaluation.official import read_scores
from nearfar.evaluation.record import DataRecord, MachineRecord, ProtocolRecord, RunRecord
from nearfar.evaluation.results import METRIC_COLUMNS, REFERENCE_COLUMNS, Result

LABEL = "Doe_UNI_task2_1"
SCORES = f"task2/{LABEL}/anomaly_score_Sander_section_00_test.csv"
DECISIONS = f"task2/{LABEL}/decision_result_Sander_section_00_test.csv"
META_FILE = f"task2/{LABEL}/{LABEL}.meta.yaml"

META_TOML = """
[submission]
abbreviation = "NearFar"

[[submission.authors]]
lastname = "Doe"
firstname = "Jo"
email = "jo.doe@example.org"
corresponding = true
affiliation = { institute = "University", abbreviation = "UNI" }

[system]
external_datasets = []

[system.description]
data_augmentation = "none"
front_end = "none"
acoustic_features = ["log-mel energies", "waveform"]
embeddings = "EAT"
machine_learning_method = "kNN"
aggregation_method = "mean"
domain_adaptation_method = "none"
domain_generalization_method = "local density"
ensemble_method_subsystem_count = 2
decision_making = "quantile of normal scores"
attribute_usage = "none"
external_data_usage = "pre-trained model"
development_data_usage = "choice of weights"
"""


def write_result(folder, scores, *, metrics=None, name="our system", rate=16000):
    machines = scores["machine"].unique()
    of = MachineRecord(training_clips=1000, test_clips=200, training_digest="a", test_digest="b")
    run = RunRecord(
        system={"name": name, "summary": "..."},
        seeds=(0,),
        data=DataRecord(name="data", machines=dict.fromkeys(machines, of)),
        sample_rate=rate,
        parameters={m: 1000 + len(m) for m in machines},
        versions={},
        protocol=ProtocolRecord(name="fixed", selected_on="nothing"),
    )
    metrics = pd.DataFrame(columns=METRIC_COLUMNS) if metrics is None else metrics
    Result(folder, scores, metrics, run, pd.DataFrame(columns=REFERENCE_COLUMNS)).save()
    return folder


def rows_of(machine, names, seed, rng, *, domain=None, label=None):
    score = rng.normal(size=len(names))
    return pd.DataFrame(
        {
            "key": [f"{machine}/test/{name}" for name in names],
            "machine": machine,
            "section": 0,
            "split": "test",
            "domain": domain,
            "label": label,
            "seed": seed,
            "score": score,
            "decision": (score > 0).astype(int),
        }
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results on the evaluation set, of three seeds, and on the development set, of two."""
    folder, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    parts = [rows_of(m, CLIP_NAMES, seed, rng) for m in EVALUATION_MACHINES for seed in range(3)]
    write_result(folder / "evaluation", pd.concat(parts))
    names = ["section_00_source_test_normal_0000.wav", "section_00_source_test_normal_0001.wav"]
    machines = [(seed, m) for seed in (0, 1) for m in DEVELOPMENT_MACHINES]
    parts = [rows_of(m, names, seed, rng, domain="source", label="normal") for seed, m in machines]
    metrics = pd.DataFrame(
        [(seed, m, 0, 0.60 + seed / 100, 0.5, 0.51239) for seed, m in machines],
        columns=["seed", "machine", "section", "auc_source", "auc_target", "pauc"],
    )
    write_result(folder / "development", pd.concat(parts), metrics=metrics)
    return folder


@pytest.fixture
def evaluation(tmp_path, results):
    """A copy that a test may break."""
    return Path(shutil.copytree(results / "evaluation", tmp_path / "evaluation"))


@pytest.fixture
def development(tmp_path, results):
    return Path(shutil.copytree(results / "development", tmp_path / "development"))


@pytest.fixture
def meta():
    return tomllib.loads(META_TOML)


@pytest.fixture
def entry(development, evaluation, meta):
    return Entry(LABEL, [development, evaluation], meta)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    file = tmp_path_factory.mktemp("written") / "package.zip"
    folders = [results / "development", results / "evaluation"]
    write([Entry(LABEL, folders, tomllib.loads(META_TOML))], file)
    return file


@pytest.fixture
def package(tmp_path, written):
    """A copy that a test may break."""
    return Path(shutil.copy(written, tmp_path / "package.zip"))


@pytest.fixture
def files(written):
    """The content of the package's files, by name."""
    with zipfile.ZipFile(written) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_is_written_passes(package):
    assert check(package) == []
    with zipfile.ZipFile(package) as archive:
        assert len(archive.namelist()) == 11
        assert archive.namelist() == sorted(archive.namelist())


def test_scores_are_means_and_decisions_majorities_over_seeds(tmp_path, package, evaluation):
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "unpacked")
        first = archive.read(SCORES).decode().splitlines()[0]
    written = read_scores(tmp_path / "unpacked" / "task2" / LABEL)
    by_key = pd.read_csv(evaluation / "scores.csv").groupby("key")
    np.testing.assert_allclose(written["score"], by_key["score"].mean())
    assert (written["decision"] == (by_key["decision"].sum() >= 2)).all()
    assert first == f"section_00_0000.wav,{float(written.loc['Sander/test/section_00_0000.wav', 'score'])!r}"


def test_meta_is_completed_from_the_results(files):
    content = yaml.safe_load(files[META_FILE])
    assert content["submission"]["label"] == LABEL
    assert content["submission"]["name"] == "our system"
    assert content["system"]["description"]["input_sampling_rate"] == "16kHz"
    assert content["system"]["complexity"]["total_parameters"] == 1000 + len("BlowerDustCollector")
    assert content["system"]["source_code"] is None
    assert list(content["results"]["development_dataset"]) == sorted(DEVELOPMENT_MACHINES)
    expected = {"auc_source": 60.5, "auc_target": 50.0, "pauc": 51.24}  # percent; mean over both seeds
    assert content["results"]["development_dataset"]["fan"] == expected


def test_the_user_has_the_last_word(tmp_path, entry, meta):
    meta["submission"]["name"] = "Far and near"
    meta["system"]["description"]["input_sampling_rate"] = "8kHz"
    write([entry], tmp_path / "package.zip")
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        content = yaml.safe_load(archive.read(META_FILE))
    assert content["submission"]["name"] == "Far and near"
    assert content["system"]["description"]["input_sampling_rate"] == "8kHz"
    assert content["system"]["description"]["embeddings"] == "EAT"


def test_equal_bytes_twice(tmp_path, entry, package):
    write([entry], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == package.read_bytes()


def test_four_systems_and_a_report(tmp_path, entry):
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF")
    entries = [Entry(f"Doe_UNI_task2_{i}", entry.results, entry.meta, report) for i in (1, 2, 3, 4)]
    write(entries, tmp_path / "package.zip")
    assert check(tmp_path / "package.zip") == []
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        assert archive.read("task2/Doe_UNI_task2_4/Doe_UNI_task2_4.technical_report.pdf") == b"%PDF"
    with pytest.raises(ValueError, match="each label may occur once; repeated: Doe_UNI_task2_1"):
        write([entry, entry], tmp_path / "twice.zip")


def test_nothing_is_overwritten(package, entry):
    before = package.read_bytes()
    with pytest.raises(FileExistsError, match="exists; remove it"):
        write([entry], package)
    assert package.read_bytes() == before


def test_results_with_labels_alone_are_nothing_to_submit(tmp_path, entry, development):
    with pytest.raises(ValueError, match=r"every machine has labels.* without --truth"):
        write([Entry(LABEL, [development], entry.meta)], tmp_path / "package.zip")


def test_nothing_is_written_that_breaks_a_rule(tmp_path, entry, development, evaluation):
    folder = tmp_path / "nowhere"
    scores = pd.read_csv(evaluation / "scores.csv")
    scores[scores["machine"] != "ToyDrone"].to_csv(evaluation / "scores.csv", index=False)
    with pytest.raises(
        ValueError, match=r"would break the rules:\n.*anomaly_score_ToyDrone_section_00_test.csv: missing"
    ):
        write([Entry(LABEL, [development, evaluation], entry.meta)], folder / "package.zip")
    assert list(folder.iterdir()) == []
    with pytest.raises(ValueError, match=r"0 systems \(folders task2/LABEL\)"):
        write([], folder / "package.zip")


@pytest.mark.parametrize(
    "label", ["Doe_UNI_task2_5", "Doe_task2_1", "Doe_UNI_task1_1", "../Doe_UNI_task2_1", ""]
)
def test_labels(tmp_path, entry, label):
    with pytest.raises(ValueError, match="must be LASTNAME_INSTITUTE_task2_N"):
        write([Entry(label, entry.results, entry.meta)], tmp_path / "package.zip")


def test_faults_of_meta_information_are_all_listed(tmp_path, entry, meta):
    meta["results"] = {}
    meta["submission"]["abbreviation"] = "much too long"
    description = meta["system"]["description"]
    description["data_augmention"] = description.pop("data_augmentation")
    description["embeddings"] = 7
    description["ensemble_method_subsystem_count"] = "two"
    del meta["system"]["external_datasets"], meta["submission"]["authors"]
    with pytest.raises(ValueError, match=f"the meta information of {LABEL} has 8 problems") as error:
        write([entry], tmp_path / "package.zip")
    for said in (
        "results: omit them; they are taken from the experiments",
        "submission.abbreviation: String should have at most 10 characters, not 'much too long'",
        "submission.authors: missing",
        "system.external_datasets: missing",
        "system.description.data_augmentation: missing",
        "system.description.data_augmention: no such key; did you mean 'data_augmentation'?",
        "system.description.embeddings: Value error, must be a string, a list of strings, or null, not 7",
        "system.description.ensemble_method_subsystem_count: Input should be a valid integer, not 'two'",
    ):
        assert said in str(error.value), said


def test_a_label_of_the_user_must_be_the_folders(tmp_path, entry, meta):
    meta["submission"]["label"] = "Doe_UNI_task2_2"
    with pytest.raises(ValueError, match="label: 'Doe_UNI_task2_2', but the folder is 'Doe_UNI_task2_1'"):
        write([entry], tmp_path / "package.zip")


def test_meta_from_a_file(tmp_path, meta):
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(meta))
    assert read_meta(tmp_path / "meta.yaml") == meta
    (tmp_path / "meta.toml").write_text(META_TOML)
    assert read_meta(tmp_path / "meta.toml") == meta


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("meta.toml", "a = ", "meta.toml: Invalid value"),
        ("meta.yaml", "a: [", "meta.yaml: while parsing"),
        ("meta.yml", "- a", "expected the keys submission and system, found"),
        ("meta.json", "{}", "must be a .toml, .yaml or .yml file"),
    ],
)
def test_meta_that_is_not_readable(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_meta(tmp_path / name)


RESULTS = {
    "scores.csv: 1 rows have a split other than 'test'": lambda t: t.assign(split=["train", *t["split"][1:]]),
    "1 scores are not finite; the first is that of ToyDrone/test/section_00_0000": lambda t: t.assign(
        score=[np.nan, *t["score"][1:]]
    ),
    "ToyDrone/test/section_00_0000.wav occurs twice with the same seed": lambda t: pd.concat([t, t[:1]]),
    "the seeds have scores for different clips": lambda t: t[1:],
    "1 clips have no decision 0 or 1": lambda t: t.assign(decision=[np.nan, *t["decision"][1:]]),
    "some clips of ToyDrone have a label and some have none": lambda t: t.assign(
        label=["normal", *t["label"][1:]]
    ),
    "metrics.csv: no column auc_source, auc_target, pauc": lambda t: t.assign(label="normal"),
    "scores.csv: no column seed, score": lambda t: t.drop(columns=["seed", "score"]),
}


@pytest.mark.parametrize("message", RESULTS)
def test_results_that_cannot_be_used(tmp_path, entry, evaluation, message):
    table = pd.read_csv(evaluation / "scores.csv")
    RESULTS[message](table).to_csv(evaluation / "scores.csv", index=False)
    with pytest.raises(ValueError, match=message):
        write([entry], tmp_path / "package.zip")


def test_results_that_contradict_each_other(tmp_path, entry, rng):
    other = write_result(tmp_path / "other", rows_of("fan", CLIP_NAMES, 0, rng), name="another", rate=8000)
    with pytest.raises(ValueError, match="from different systems: another, our system") as error:
        write([Entry(LABEL, [*entry.results, other], entry.meta)], tmp_path / "package.zip")
    assert "different sampling rates: [8000, 16000] Hz" in str(error.value)
    assert "fan is in 2 of the results; give only one" in str(error.value)


def test_metrics_that_lack_a_machine(tmp_path, entry, development):
    table = pd.read_csv(development / "metrics.csv")
    table[table["machine"] != "fan"].to_csv(development / "metrics.csv", index=False)
    with pytest.raises(ValueError, match="no metrics of fan, though its labels are known"):
        write([entry], tmp_path / "package.zip")


def test_folders_that_are_no_results(tmp_path, entry, evaluation):
    with pytest.raises(ValueError, match="at least one folder of results"):
        write([Entry(LABEL, [], entry.meta)], tmp_path / "package.zip")
    run = json.loads((evaluation / "run.json").read_text())
    del run["sample_rate"], run["system"]["name"]
    (evaluation / "run.json").write_text(json.dumps(run))
    with pytest.raises(
        ValueError, match=r"run.json: 2 problems; .*\n  system: .* a name.*\n  sample_rate: missing"
    ):
        write([entry], tmp_path / "package.zip")
    (evaluation / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"not a folder of results \(run.json missing\)"):
        write([entry], tmp_path / "package.zip")


def without(name):
    return lambda files: files.pop(name)


def replaced(name, old, new):
    def change(files):
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return change


def meta_changed(change):
    def apply(files):
        content = yaml.safe_load(files[META_FILE])
        change(content)
        files[META_FILE] = yaml.safe_dump(content).encode()

    return apply


def relabelled(new):
    def change(files):
        for name in list(files):
            files[name.replace(LABEL, new)] = files.pop(name).replace(LABEL.encode(), new.encode())

    return change


def five_systems(files):
    for name, content in list(files.items()):
        for i in (2, 3, 4, 5):
            label = f"Doe_UNI_task2_{i}"
            files[name.replace(LABEL, label)] = content.replace(LABEL.encode(), label.encode())


BROKEN = {
    f"{SCORES}: missing": without(SCORES),
    f"{DECISIONS}: missing": without(DECISIONS),
    f"{META_FILE}: missing": without(META_FILE),
    f"{SCORES}: the first line is a header, 'file,score'": lambda f: f.update(
        {SCORES: b"file,score\n" + f[SCORES]}
    ),
    f"{SCORES}: 199 rows; expected 200": lambda f: f.update({SCORES: f[SCORES].split(b"\n", 1)[1]}),
    f"{SCORES}: 1 names are missing, the first is 'section_00_0007.wav'": replaced(
        SCORES, b"_0007", b"_0008"
    ),
    f"{SCORES}: 1 names are repeated, the first is 'section_00_0008.wav'": replaced(
        SCORES, b"_0007", b"_0008"
    ),
    f"{SCORES}: 1 names are unknown, the first is 'section_00_0200.wav'": replaced(
        SCORES, b"_0000", b"_0200"
    ),
    f"{SCORES}: 1 scores are not finite numbers, the first in 'section_00_0003.wav,nan'": lambda f: f.update(
        {
            SCORES: b"\n".join(
                b"section_00_0003.wav,nan" if b"_0003" in r else r for r in f[SCORES].split(b"\n")
            )
        }
    ),
    f"{SCORES}: 200 lines are not 'name,value'": replaced(SCORES, b",", b";"),
    f"{SCORES}: all scores are equal": lambda f: f.update({SCORES: f[DECISIONS].replace(b",0", b",1")}),
    f"{SCORES}: not UTF-8 text": lambda f: f.update({SCORES: b"\xff" + f[SCORES]}),
    f"{DECISIONS}: 1 decisions are neither 0 nor 1, the first in 'section_00_0000.wav,0.5'": lambda f: (
        f.update({DECISIONS: b"section_00_0000.wav,0.5" + f[DECISIONS][21:]})
    ),
    "task2/Doe_UNI_task2_7: not a label": relabelled("Doe_UNI_task2_7"),
    "5 systems (folders task2/LABEL); a package must have 1 to 4": five_systems,
    "0 systems": lambda f: f.clear(),
    "notes.txt: unexpected; all files must be in task2/LABEL/": lambda f: f.update({"notes.txt": b""}),
    f"task2/{LABEL}/anomaly_score_sander_section_00_test.csv: unexpected; "
    "did you mean 'anomaly_score_Sander_section_00_test.csv'?": lambda f: f.update(
        {SCORES.replace("Sander", "sander"): f.pop(SCORES)}
    ),
    f"{META_FILE}: not readable as YAML": lambda f: f.update({META_FILE: b"a: ["}),
    f"{META_FILE}: expected the keys submission, system, results, found list": lambda f: f.update(
        {META_FILE: b"- a"}
    ),
    f"{META_FILE}: submission.label: 'Doe_UNI_task2_2', but the folder is": replaced(
        META_FILE, LABEL.encode(), b"Doe_UNI_task2_2"
    ),
    f"{META_FILE}: submission.abbreviation: String should have at most 10 characters": meta_changed(
        lambda m: m["submission"].update(abbreviation="eleven chars")
    ),
    f"{META_FILE}: submission.authors: List should have at least 1 item": meta_changed(
        lambda m: m["submission"].update(authors=[])
    ),
    f"{META_FILE}: system.description.attribute_usage: missing": meta_changed(
        lambda m: m["system"]["description"].pop("attribute_usage")
    ),
    f"{META_FILE}: system.complexity.total_parameters: Input should be a valid integer, not 'many'": meta_changed(
        lambda m: m["system"]["complexity"].update(total_parameters="many")
    ),
    f"{META_FILE}: results: missing": meta_changed(lambda m: m.pop("results")),
    f"{META_FILE}: results.development_dataset.fan: missing": meta_changed(
        lambda m: m["results"]["development_dataset"].pop("fan")
    ),
    f"{META_FILE}: results.development_dataset.fan.pauc: Input should be less than or equal to 100": meta_changed(
        lambda m: m["results"]["development_dataset"]["fan"].update(pauc=101.0)
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_each_rule(tmp_path, files, message):
    BROKEN[message](files)
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    problems = check(tmp_path / "broken.zip")
    assert any(problem.startswith(message) for problem in problems), problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.encode("utf-8-sig"), "begins with a byte order mark; save it as UTF-8 without one"),
        (lambda text: text.encode("utf-16"), "not UTF-8 text, but utf-16; save it as UTF-8"),
        (lambda text: text.replace(",", ";").replace(".", ",").replace(",wav", ".wav").encode(),
         "200 lines are not 'name,value', the first is 'section_00_0000.wav;"),
        (lambda text: f"{text}\n\n".encode(), "2 lines are empty"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_breaks_one_rule(tmp_path, files, change, message):
    files[SCORES] = change(files[SCORES].decode())
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    (problem,) = check(tmp_path / "broken.zip")
    assert problem.startswith(f"{SCORES}: {message}")


def test_foreign_packages_may_say_more(tmp_path, files):
    content = yaml.safe_load(files[META_FILE])
    content["submission"]["note"] = "ours"
    content["results"]["development_dataset"]["overall"] = 60.0
    content["results"]["development_dataset"]["fan"]["f1_source"] = 0.5
    files[META_FILE] = yaml.safe_dump(content).encode()
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("task2")
        archive.writestr("task2/Doe_UNI_task2.technical_report.pdf", b"%PDF")
        for name, content in files.items():
            archive.writestr(name, content)
    assert check(tmp_path / "foreign.zip") == []


def test_archives_that_are_none(tmp_path, package):
    (tmp_path / "text.zip").write_text("no archive")
    assert check(tmp_path / "text.zip") == ["not a readable zip archive: File is not a zip file"]
    content = bytearray(package.read_bytes())
    content[1000] ^= 1
    (tmp_path / "damaged.zip").write_bytes(content)
    assert "not a readable zip archive: Bad CRC-32" in check(tmp_path / "damaged.zip")[0]
    with pytest.raises(FileNotFoundError, match=r"absent\.zip: no such file"):
        check(tmp_path / "absent.zip")


def test_files_that_are_in_the_archive_twice(package):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(package, "a") as archive:
        archive.writestr(SCORES, archive.read(SCORES))
    assert check(package) == [f"{SCORES}: in the archive 2 times"]


def test_an_archive_that_would_fill_the_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(2**28 + 1))
    assert check(tmp_path / "a.zip") == ["not a readable zip archive: unpacked it has more than 256 MiB"]


@pytest.mark.parametrize(
    "error", [OSError(22, "Invalid argument"), NotImplementedError("compression type 7"), ValueError("x")]
)
def test_whatever_the_reader_of_archives_raises_is_told(package, monkeypatch, error):
    def raised(*_):
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "read", raised)
    assert check(package) == [f"not a readable zip archive: {error}"]
