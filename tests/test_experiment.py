"""Experiments: resumed, repeated, equal to the byte; and what the result folder holds."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import write_machine

from nearfar.detector.fitted import Detector
from nearfar.evaluation.metrics import clip_table, evaluate, omega
from nearfar.evaluation.results import FILES, REFERENCE_COLUMNS, SCORE_COLUMNS, Result
from nearfar.files import steps
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Dataset, DatasetError, Machine
from nearfar.research import experiment
from nearfar.research.experiment import run
from nearfar.systems import configuration

QUICK = {"branch.training.epochs": 1, "threshold.false_alarm_rate": 0.3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("fan", "pump"):
        write_machine(root, name)
    return root


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("result")
    return run(
        configuration.load("spectral"),
        datasets.load(data),
        folder / "out",
        seeds=[1, 2],
        jobs=Jobs(folder / "cache"),
    )


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def test_the_folder_holds_what_is_promised(result: Result, data: Path) -> None:
    assert sorted(p.name for p in result.folder.iterdir()) == sorted(FILES)
    assert list(result.scores) == SCORE_COLUMNS
    assert len(result.scores) == 2 * 2 * 12
    assert set(result.scores["split"]) == {"test"}
    assert result.run.protocol.selected_on.startswith("nothing")
    assert result.run.seeds == (1, 2)
    assert result.run.machines == ("fan", "pump")
    assert result.run.parameters == {"fan": 0, "pump": 0}
    assert result.run.system["branch"]["view"] == "cancelled_3taps"
    assert str(data) not in (result.folder / "run.json").read_text()


def test_a_folder_reads_back(result: Result) -> None:
    again = Result.load(result.folder)
    pd.testing.assert_frame_equal(again.scores, result.scores, check_dtype=False)
    pd.testing.assert_frame_equal(again.metrics, result.metrics, check_dtype=False)
    pd.testing.assert_frame_equal(again.references, result.references)
    assert again.run == result.run
    with pytest.raises(
        FileNotFoundError,
        match=r"not a folder of results \(scores.csv, metrics.csv, references.csv, run.json missing\)",
    ):
        Result.load(result.folder.parent)


def test_scores_are_those_of_a_detector(result: Result, data: Path, tmp_path: Path) -> None:
    fan = datasets.load(data)["fan"]
    fitted = Detector.fit(fan, configuration.load("spectral"), seed=1, jobs=Jobs(tmp_path))
    rows = result.scores.query("machine == 'fan' and seed == 1").set_index("key")
    verdicts = [fitted.score_file(c.path) for c in fan.test]
    np.testing.assert_allclose(
        rows.loc[[c.key for c in fan.test], "score"], [v.score for v in verdicts], rtol=1e-9
    )
    assert rows["decision"].tolist() == [int(v.decision == "anomaly") for v in verdicts]


def test_references_are_the_scores_of_clips_that_a_fit_had_not_seen(
    result: Result, data: Path, tmp_path: Path
) -> None:
    fan = datasets.load(data)["fan"]
    assert list(result.references) == REFERENCE_COLUMNS
    fitted = Detector.fit(fan, configuration.load("spectral"), seed=2, jobs=Jobs(tmp_path / "cache"))
    rows = result.references.query("machine == 'fan' and seed == 2").set_index("key")["score"]
    assert set(rows.index) == {c.key for c in fan.train}
    assert rows.to_dict() == pytest.approx(dict(fitted.unseen), rel=1e-12)
    assert fitted.threshold is not None
    np.testing.assert_array_equal(np.sort(rows), fitted.threshold.normal_scores)
    undecided = configuration.load("spectral", {"threshold.method": "none"})
    without = run(undecided, datasets.load(data), tmp_path / "out", jobs=Jobs(tmp_path / "cache"))
    assert without.references.empty
    assert list(Result.load(tmp_path / "out").references) == REFERENCE_COLUMNS


def test_metrics_are_those_of_the_scores(result: Result, data: Path) -> None:
    clips = clip_table(c for c in datasets.load(data).clips if c.split == "test")
    for seed, rows in result.scores.groupby("seed"):
        expected = evaluate(clips, rows.set_index("key")["score"]).reset_index()
        found = result.metrics[result.metrics["seed"] == seed].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[list(expected)], expected)


def test_a_run_by_workers_is_equal_to_the_byte(result: Result, data: Path, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "cache")
    run(
        configuration.load("spectral"),
        datasets.load(data),
        tmp_path / "out",
        seeds=[1, 2],
        workers=2,
        jobs=jobs,
    )
    assert content(tmp_path / "out") == content(result.folder)


def test_two_trainings_are_equal_to_the_byte_on_any_number_of_workers(tmp_path: Path) -> None:
    for name in ("fan", "pump"):
        write_machine(tmp_path / "data", name, train=12, test=1, seconds=0.5)
    system = configuration.load("baseline_mahalanobis", {**QUICK, "branch.encoder_options.n_mels": 32})
    for workers in (1, 2):
        out, jobs = tmp_path / f"by {workers}", Jobs(tmp_path / f"cache of {workers}")
        run(system, datasets.load(tmp_path / "data"), out, jobs=jobs, workers=workers)
    assert content(tmp_path / "by 1") == content(tmp_path / "by 2")


def test_a_repeated_run_computes_nothing(
    result: Result, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "fit", None)
    monkeypatch.setattr(Detector, "load", None)
    cache = Jobs(result.folder.parent / "cache")
    run(configuration.load("spectral"), datasets.load(data), tmp_path, seeds=[1, 2], jobs=cache)
    assert content(tmp_path) == content(result.folder)


def test_a_changed_clip_is_scored_anew(tmp_path: Path) -> None:
    own = tmp_path / "data"
    write_machine(own, "fan", test=1)
    jobs = Jobs(tmp_path / "cache")
    first = run(
        configuration.load("spectral"), datasets.load(own), tmp_path / "out", jobs=jobs
    ).scores.set_index("key")
    normal, faulty = (
        next((own / "fan" / "test").glob(f"*source_test_{label}*")) for label in ("normal", "anomaly")
    )
    normal.write_bytes(faulty.read_bytes())
    second = run(
        configuration.load("spectral"), datasets.load(own), tmp_path / "out", jobs=jobs
    ).scores.set_index("key")
    keys = [f"fan/test/{p.name}" for p in (normal, faulty)]
    assert second.loc[keys[0], "score"] == first.loc[keys[1], "score"] == second.loc[keys[1], "score"]


@pytest.mark.parametrize("change", [{"attributes": "spd_9"}, {"domain": "target"}])
def test_another_description_of_training_clips_is_fitted_anew(
    change: dict[str, str], data: Path, tmp_path: Path
) -> None:
    """As a program may give it: names and recordings are the same."""
    found, jobs = datasets.load(data).only(["fan"]), Jobs(tmp_path / "cache")
    (fan,) = found.machines
    first, *rest = fan.train
    changed = Machine(fan.name, (replace(first, **change), *rest, *fan.test))
    for name, machine in (("one", fan), ("other", changed)):
        told = Dataset(found.name, found.root, (machine,))
        run(configuration.load("spectral", {"threshold.method": "none"}), told, tmp_path / name, jobs=jobs)
    assert sum(job.step == "detector" for job in jobs.finished()) == 2


def test_an_interrupted_run_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    whole = Detector.fit.__func__

    def interrupted(cls: type[Detector], machine: object, *args: object, **options: object) -> Detector:
        fitted.append(machine.name)
        if fitted == ["fan", "pump"]:
            raise KeyboardInterrupt
        return whole(cls, machine, *args, **options)

    monkeypatch.setattr(Detector, "fit", classmethod(interrupted))
    arguments = configuration.load("spectral"), datasets.load(data), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(*arguments, jobs=Jobs(tmp_path / "cache"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.part"))
    run(*arguments, jobs=Jobs(tmp_path / "cache"))
    assert fitted == ["fan", "pump", "pump"]


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_ends_the_workers_and_leaves_nothing_half_done(
    data: Path, tmp_path: Path, number: int
) -> None:
    command = [
        sys.executable,
        "-c",
        "from nearfar.cli import main; main()",
        "run",
        "spectral",
        "--data",
        data,
    ]
    command += ["--out", tmp_path / "out", "--cache", tmp_path / "cache", "--workers", "2"]
    command += ["--set", "branch.backend=outlier"]  # a forest, which would take long to grow
    command += ["--set", "branch.backend_options.options.n_estimators=1000000"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # a test run in the background is told to ignore Ctrl-C, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 600
    while len(list(tmp_path.rglob("detector/*/.*.part"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    if number == signal.SIGINT:
        assert b"run the same command again to continue" in b" ".join(said.split())
    assert b"Traceback" not in said
    deadline = time.monotonic() + 60
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(process.pid), "a worker is left"
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "out").exists()


def test_a_full_disk(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(steps.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(
                configuration.load("spectral"),
                datasets.load(data),
                tmp_path / "out",
                jobs=Jobs(tmp_path / "cache"),
            )
    assert not list(tmp_path.rglob("*.part"))
    run(configuration.load("spectral"), datasets.load(data), tmp_path / "out", jobs=Jobs(tmp_path / "cache"))


def test_an_evaluation_set_is_judged_by_the_truth_of_a_folder(tmp_path: Path) -> None:
    own, truth = tmp_path / "data", tmp_path / "truth"
    folder = write_machine(own, "fan", test=2)
    lines: dict[str, list[str]] = {"data": [], "domain": []}
    for i, path in enumerate(sorted((folder / "test").iterdir())):
        new = path.rename(path.with_name(f"section_00_{i:04d}.wav"))
        lines["data"].append(f"{new.name},{int('anomaly' in path.name)}")
        lines["domain"].append(f"{new.name},{int('target' in path.name)}")
    for kind, rows in lines.items():
        (truth / f"ground_truth_{kind}").mkdir(parents=True)
        (truth / f"ground_truth_{kind}" / "ground_truth_fan_section_00_test.csv").write_text(
            "\n".join(rows) + "\n"
        )
    system, found, jobs = configuration.load("spectral"), datasets.load(own), Jobs(tmp_path / "cache")
    blind = run(system, found, tmp_path / "blind", jobs=jobs)
    assert blind.metrics.empty
    assert blind.scores[["domain", "label"]].isna().all(axis=None)
    judged = run(system, found, tmp_path / "judged", truth=truth, jobs=jobs)
    assert judged.metrics["auc_source"].item() == 1.0
    pd.testing.assert_series_equal(judged.scores["score"], blind.scores["score"])


def test_scores_are_kept_where_metrics_are_not_defined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, missing in (("fan", "*anomaly*"), ("pump", "*target_test_normal*")):
        folder = write_machine(tmp_path / "data", name, test=1)
        for path in (folder / "test").glob(missing):
            path.unlink()
    found = datasets.load(tmp_path / "data")
    result = run(configuration.load("spectral"), found, tmp_path / "out", jobs=Jobs(tmp_path / "cache"))
    assert len(result.scores) == 2 + 3
    assert result.metrics.empty
    assert "fan: no metrics: fan, section 00, has no anomalous clips" in caplog.text
    assert "pump: no metrics: pump, section 00, has no normal clips of the target domain" in caplog.text


def test_results_of_something_else_are_not_taken_over(result: Result, data: Path) -> None:
    before = content(result.folder)
    others = [
        (configuration.load("spectral_near"), datasets.load(data)),
        (configuration.load("spectral", {"branch.view": "far"}), datasets.load(data)),
        (configuration.load("spectral"), datasets.load(data).only(["fan"])),
    ]
    for system, found in others:
        with pytest.raises(FileExistsError, match=r"holds results of spectral on fan, pump.*--out"):
            run(system, found, result.folder)
    assert content(result.folder) == before


def test_hopeless_places_are_refused_before_the_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        run(configuration.load("spectral"), datasets.load(data), tmp_path / "file" / "out")
    with pytest.raises(FileNotFoundError, match="no folder of ground truth"):
        run(configuration.load("spectral"), datasets.load(data), tmp_path / "out", truth=tmp_path / "none")
    with pytest.raises(NotADirectoryError, match=r"the cache .*file/cache cannot be used: .*file is a file"):
        Jobs(tmp_path / "file" / "cache")


def test_a_truth_that_is_wrong_is_refused_before_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_tasks", lambda *_: pytest.fail("the work has begun"))
    for folder in ("ground_truth_data", "ground_truth_domain"):
        (tmp_path / "truth" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="no file for the machine fan"):
        run(configuration.load("spectral"), datasets.load(data), tmp_path / "out", truth=tmp_path / "truth")
    assert not (tmp_path / "out").exists()


def test_machines_without_test_clips_and_bad_seeds(data: Path, tmp_path: Path) -> None:
    write_machine(tmp_path / "data", "fan", test=0)
    with pytest.raises(DatasetError, match="fan: no test clips to score"):
        run(configuration.load("spectral"), datasets.load(tmp_path / "data"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"seeds=\[1, 1\]: expected one or more, each once"):
        run(configuration.load("spectral"), datasets.load(data), tmp_path / "out", seeds=[1, 1])
    with pytest.raises(ValueError, match="'x' is not a whole number"):
        experiment.parse_seeds("1,x")
    assert experiment.parse_seeds("1, 2,3") == [1, 2, 3]


def test_broken_test_clips_are_listed_and_the_detector_is_kept(tmp_path: Path) -> None:
    folder = write_machine(tmp_path / "data", "fan", test=2)
    paths = sorted((folder / "test").iterdir())
    whole = paths[0].read_bytes()
    for path in paths[:2]:
        path.write_bytes(whole[:1000])
    arguments = configuration.load("spectral"), datasets.load(tmp_path / "data"), tmp_path / "out"
    with pytest.raises(DatasetError, match=r"truncated, .* bytes of audio are missing") as error:
        run(*arguments, jobs=Jobs(tmp_path / "cache"))
    assert [str(p) in problem for p, problem in zip(paths[:2], error.value.problems, strict=True)] == [
        True,
        True,
    ]
    assert list((tmp_path / "cache" / "jobs" / "detector").rglob("detector.json"))


def test_motors_reach_their_reference(motors: Path, tmp_path: Path) -> None:
    """Omega of the motors' README: 0.76 after cancellation, by statistics of log-mel levels."""
    found = datasets.load(motors)
    system, jobs = configuration.load("spectral"), Jobs(tmp_path / "cache")
    result = run(system, found, tmp_path / "out", workers=2, jobs=jobs)
    assert omega(result.metrics) >= 0.76
    labels = clip_table(c for c in found["motorB"].test)["label"]
    scores = result.scores.set_index("key")["score"].loc[labels.index]
    assert scores[labels == "anomaly"].median() > scores[labels == "normal"].quantile(0.75)
    assert result.run.data.name == "motors"
