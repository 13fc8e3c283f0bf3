"""Systems that are adapted over machines: on whose clips, how often, and what a result says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import quick
from synthetic import hide_faults, write_machine
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.protocols import COMPLETE_DEVELOPMENT, CROSS_FITTED, FIXED_LEAVE_ONE_MACHINE_OUT
from nearfar.evaluation.results import FILES
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Dataset, DatasetError, Machine
from nearfar.research import adaptation, experiment, fused
from nearfar.research.experiment import run
from nearfar.research.fused import Study
from nearfar.research.sweep import sweep
from nearfar.systems import configuration, named
from nearfar.training.adaptation import Adaptation
from nearfar.training.adapters import Adapter

MACHINES = ("fan", "pump", "valve")
SEED = 3
FEW = {"threshold.folds": 2, "threshold.false_alarm_rate": 0.3}
SETTINGS = {**quick.settings("dualmic"), **FEW}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in MACHINES:
        hide_faults(write_machine(root, name, train=6, target=4, test=2, seconds=0.5))
    return root


@pytest.fixture(scope="module")
def data(root):
    return datasets.load(root)


@pytest.fixture(scope="module")
def system():
    return configuration.load("dualmic", SETTINGS)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    return Jobs(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", params=["others", "all"])
def adapted_on(request):
    return request.param


@pytest.fixture(scope="module")
def result(adapted_on, system, data, jobs, tmp_path_factory):
    out = tmp_path_factory.mktemp(adapted_on) / "out"
    return run(system, data, out, seeds=[SEED], adapted_on=adapted_on, jobs=jobs)


def adapters_in(jobs):
    return [Adapter.load(path) for path in sorted(jobs.root.glob("jobs/adapter/*/*/*.safetensors"))]


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


# on whose clips


def test_an_adapter_hears_the_machines_that_its_protocol_says(adapted_on, result):
    heard = {m: told.machines for m, [told] in result.run.adapters[str(SEED)].items()}
    if adapted_on == "all":
        assert all(heard[m] == MACHINES for m in MACHINES)
        assert result.run.protocol.name == "fixed configuration, adapted on all machines"
        assert "all machines that are reported" in result.run.protocol.selected_on
    else:
        assert heard == {m: tuple(other for other in MACHINES if other != m) for m in MACHINES}
        assert result.run.protocol.name == FIXED_LEAVE_ONE_MACHINE_OUT.name


def test_each_adapter_is_trained_once_and_none_twice(system, data, tmp_path):
    own = Jobs(tmp_path / "cache")
    run(system, data, tmp_path / "others", seeds=[SEED], jobs=own)
    assert len(adapters_in(own)) == 3
    adaptation.for_machines(system, data, [SEED], "all", jobs=own)
    assert len(adapters_in(own)) == 4
    times = {p: p.stat().st_mtime_ns for p in own.root.rglob("adapter.safetensors")}
    raw = configuration.load("dualmic_raw", {**quick.settings("dualmic_raw"), **FEW})
    adaptation.for_machines(raw, data, [SEED], "others", jobs=own)
    run(system, data, tmp_path / "again", seeds=[SEED], jobs=own)
    assert {p: p.stat().st_mtime_ns for p in own.root.rglob("adapter.safetensors")} == times
    assert contents(tmp_path / "again") == contents(tmp_path / "others")
    adaptation.for_machines(system, data, [SEED + 1], "all", jobs=own)
    assert len(adapters_in(own)) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "adapted_on", ["others"], indirect=True, scope="module"
)  # three of them, side by side
def test_any_number_of_workers_gives_equal_bytes(system, data, result, adapted_on, tmp_path):
    run(
        system,
        data,
        tmp_path / "out",
        seeds=[SEED],
        adapted_on=adapted_on,
        workers=2,
        jobs=Jobs(tmp_path / "cache"),
    )
    assert contents(tmp_path / "out") == contents(result.folder)
    assert str(tmp_path) not in (tmp_path / "out" / "run.json").read_text()


def test_no_test_clip_and_no_clip_of_the_reported_machine_moves_its_adapter(
    system, data, result, jobs, adapted_on
):
    """The others' test clips are gone; the fan has half its normal clips, and other ones of its test clips."""
    fan = data["fan"]
    half = (*fan.train[1::2], *(replace(c, label="normal") for c in fan.test[:2]))
    others = tuple(Machine(m.name, m.train) for m in data if m.name != "fan")
    changed = Dataset(data.name, data.root, (Machine("fan", half), *others))
    before = result.run.adapters[str(SEED)]["fan"][0].digest
    found = adaptation.for_machines(system, changed, [SEED], adapted_on, jobs=jobs)
    after = Adapter.load(found[SEED, "fan"][0]).digest
    assert (after == before) == (adapted_on == "others")


def test_an_adapter_in_a_file_serves_every_machine(system, data, jobs, tmp_path):
    adaptation.train(system, [data["pump"], data["valve"]], seed=SEED, jobs=jobs).save(
        tmp_path / "a.safetensors"
    )
    found = run(
        system, data, tmp_path / "out", seeds=[SEED], adapted_on=tmp_path / "a.safetensors", jobs=jobs
    )
    assert "trained on normal clips of pump, valve" in found.run.protocol.selected_on
    others = run(system, data, tmp_path / "others", seeds=[SEED], jobs=jobs)
    of_fan, of_pump = (found.scores["machine"] == m for m in ("fan", "pump"))
    assert found.scores[of_fan]["score"].tolist() == others.scores[of_fan]["score"].tolist()
    assert found.scores[of_pump]["score"].tolist() != others.scores[of_pump]["score"].tolist()


# what is refused


def test_what_cannot_be_adapted_is_refused(system, data, jobs, tmp_path):
    with pytest.raises(ValueError, match="adapted_on='others', but fan is the only machine"):
        run(system, data.only(["fan"]), tmp_path / "out", jobs=jobs)
    with pytest.raises(ValueError, match="adapted_on='some': must be 'others', 'all', or the file"):
        run(system, data, tmp_path / "out", adapted_on="some", jobs=jobs)
    with pytest.raises(FileNotFoundError, match="no adapter here"):
        run(system, data, tmp_path / "out", adapted_on=tmp_path / "none.safetensors", jobs=jobs)
    with pytest.raises(
        ValueError, match="spectral has 0 branches that are adapted, but a file holds the adapter of one"
    ):
        adaptation.train(configuration.load("spectral"), data.machines, seed=1, jobs=jobs)
    without = Machine("saw", data["fan"].test)
    with pytest.raises(DatasetError, match="saw: no training clips to adapt on"):
        adaptation.train(system, [without], seed=1, jobs=jobs)


def test_recordings_that_cannot_be_trained_on_are_told_together_and_before(
    system, data, jobs, tmp_path, monkeypatch
):
    monkeypatch.setattr(Adaptation, "run", lambda *_: pytest.fail("the training began"))
    sound, fan = np.zeros((2, 8000), np.float32), data["fan"]
    wrong = {"mono": (sound[:1], 16000), "slow": (sound, 8000), "short": (sound[:, :100], 16000)}
    clips = []
    for clip, (name, (samples, rate)) in zip(fan.train[:3], wrong.items(), strict=True):
        audio.write(tmp_path / f"{name}.wav", samples, rate)
        clips.append(replace(clip, path=tmp_path / f"{name}.wav"))
    (tmp_path / "text.wav").write_text("no sound at all")
    clips.append(replace(fan.train[3], path=tmp_path / "text.wav"))
    changed = Machine("fan", (*clips, *fan.train[4:]))
    with pytest.raises(
        DatasetError, match=r"mono\.wav: channels=1, but an adapter is trained with 2"
    ) as error:
        adaptation.train(system, [changed, data["pump"]], seed=SEED, jobs=jobs)
    told = list(zip(("mono", "slow", "short", "text"), error.value.problems, strict=True))
    assert all(f"{name}.wav: " in problem for name, problem in told)


def test_results_of_another_protocol_are_not_taken_over(system, data, result, adapted_on, jobs):
    other = {"others": "all", "all": "others"}[adapted_on]
    with pytest.raises(FileExistsError, match="holds results of the protocol"):
        run(system, data, result.folder, seeds=[SEED], adapted_on=other, jobs=jobs)


# sweeps


def test_a_sweep_tries_settings_on_the_adapters_of_a_run(data, jobs, tmp_path):
    k = "branch.backend_options.k"
    swept = sweep("dualmic", data, {k: [1, 2]}, settings=SETTINGS, seed=SEED, n_resamples=2, jobs=jobs)
    for _, row in swept.table.iterrows():
        chosen = configuration.load("dualmic", {**SETTINGS, k: int(row[k])})
        expected = run(chosen, data, tmp_path / row[k], seeds=[SEED], jobs=jobs)
        assert row["omega"] == pytest.approx(omega(expected.metrics), rel=1e-12)  # summed in another order


def test_a_sweep_of_rows_tells_adapters_apart(data, jobs):
    """The store does not keep rows; the step that does is of one adapter."""
    rows = {k: value for k, value in SETTINGS.items() if not k.startswith("branch.backend_options")}
    rows |= {"branch.pooling": "rows", "branch.conditioning": [], "branch.backend_options": {}}
    options = {"branch.backend": ["mean_squared_error"]}
    for on in ("others", "all"):
        sweep("dualmic", data, options, settings=rows, seed=SEED, adapted_on=on, n_resamples=2, jobs=jobs)
    assert sum(job.step == "embeddings" for job in jobs.finished()) == 2 * len(MACHINES)


def test_a_sweep_says_on_whose_clips_and_refuses_an_adapter_that_it_has_no_use_for(data, jobs, tmp_path):
    file = tmp_path / "a.safetensors"
    adaptation.train(configuration.load("dualmic", SETTINGS), data.machines, seed=SEED, jobs=jobs).save(file)
    options = {"branch.backend_options.k": [1]}
    swept = sweep("dualmic", data, options, settings=SETTINGS, adapted_on=file, n_resamples=2, jobs=jobs)
    assert swept.scope.endswith("; fixed configuration, adapter trained before")
    with pytest.raises(ValueError, match="spectral is not adapted, so it takes no adapter"):
        sweep("spectral", data, {"branch.view": ["near"]}, adapted_on=file, jobs=jobs)


# studies


@pytest.fixture
def asked():
    adapted = {"system": "dualmic_raw", "settings": {**quick.settings("dualmic_raw"), **FEW}}
    plain = {"system": "spectral_near", "settings": {**quick.settings("spectral_near"), **FEW}}
    content = {
        "name": "x", "protocol": COMPLETE_DEVELOPMENT.name, "seeds": [SEED],
        "branches": {"adapted": adapted, "plain": plain}, "fusion": {"weights": "search", "step": 0.5},
    }  # fmt: skip
    return Study.model_validate(content)


@pytest.mark.parametrize("protocol", [COMPLETE_DEVELOPMENT, CROSS_FITTED])
def test_a_study_adapts_as_its_protocol_says(protocol, asked, data, jobs, tmp_path):
    found = fused.run(asked.model_copy(update={"protocol": protocol.name}), data, tmp_path / "out", jobs=jobs)
    heard = found.branches["adapted"].run.adapters[str(SEED)]["fan"][0].machines
    assert heard == (MACHINES if protocol is COMPLETE_DEVELOPMENT else ("pump", "valve"))
    of_branch = adaptation.ON_ALL if protocol is COMPLETE_DEVELOPMENT else adaptation.ON_OTHERS
    assert found.result.run.protocol.scope.endswith(f"; adapted: {of_branch.name}")


def test_a_study_does_not_adapt_on_what_it_leaves_out(asked, data, jobs, tmp_path):
    crossed = asked.model_copy(update={"protocol": CROSS_FITTED.name})
    with pytest.raises(
        ValueError, match=r"adapted_on='all', but protocol='cross-fitted.*' leaves the machine out"
    ):
        fused.run(crossed, data, tmp_path / "out", adapted_on="all", jobs=jobs)


def test_a_study_takes_no_adapter_that_has_heard_what_it_leaves_out(asked, system, data, jobs, tmp_path):
    file = tmp_path / "a.safetensors"
    adaptation.train(system, [data["pump"], data["valve"]], seed=SEED, jobs=jobs).save(file)
    crossed = asked.model_copy(update={"protocol": CROSS_FITTED.name})
    with pytest.raises(
        ValueError, match=r"trained on normal clips of pump, valve, but protocol='cross-fitted"
    ):
        fused.run(crossed, data, tmp_path / "out", adapted_on=file, jobs=jobs)


@pytest.mark.parametrize("on", ["all", "others", "file"])
def test_a_study_without_an_adapted_branch_takes_no_adapter(on, asked, data, jobs, tmp_path):
    plain = {"branches": {"plain": asked.branches["plain"], "twin": asked.branches["plain"]}}
    with pytest.raises(ValueError, match="x has no branch that is adapted, so it takes no adapter"):
        fused.run(
            asked.model_copy(update=plain), data, tmp_path / "out", jobs=jobs,
            adapted_on=tmp_path / "a.safetensors" if on == "file" else on,
        )  # fmt: skip


# the command line


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The file of the small system."""
    text = named.SYSTEMS["dualmic_raw"].read_text()
    weights = quick.settings("dualmic_raw")["branch.encoder_options.weights"]
    changes = {
        'weights = "eat"\n': f'weights = "{weights}"\n',
        "blocks = [10]": "blocks = [1]",
        "blocks = [6, 7, 8, 9, 10]": "blocks = [1]",
        "rank = 8": "rank = 2",
        "epochs = 2": "epochs = 1",
        "k = 8": "k = 1",
        "k_target = 5": "k_target = 1",
        "false_alarm_rate = 0.05": "false_alarm_rate = 0.3",
        "folds = 10": "folds = 2",
    }
    for was, is_now in changes.items():
        assert was in text
        text = text.replace(was, is_now)
    path = tmp_path_factory.mktemp("own") / "own.toml"
    path.write_text(text)
    return str(path)


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_adapt_fit_and_score(own, root, tmp_path):
    file, detector, cache = (
        tmp_path / "a.safetensors",
        tmp_path / "fan.detector",
        ("--cache", tmp_path / "cache"),
    )
    two = ("--machine", "pump", "--machine", "valve")
    made = invoke("adapt", own, "--data", root, *two, "-o", file, *cache)
    assert made.exit_code == 0, made.output
    said = " ".join(made.output.split())
    assert "pump, valve" in said
    assert "normal clips 20" in said
    assert Adapter.load(file).machines == ("pump", "valve")
    fitted = invoke("fit", root / "fan", "--system", own, "--adapter", file, "-o", detector, *cache)
    assert fitted.exit_code == 0, fitted.output
    scored = invoke("score", detector, *sorted((root / "fan" / "test").glob("*.wav"))[:2], "--csv")
    assert scored.exit_code == 0, scored.output
    assert len(scored.stdout.splitlines()) == 3
    without = invoke("fit", root / "fan", "--system", own, "-o", tmp_path / "x", *cache)
    assert "give it with --adapter" in str(without.exception)
    again = invoke("adapt", own, "--data", root, "-o", file, *cache)
    assert isinstance(again.exception, FileExistsError)
    replaced = invoke("adapt", own, "--data", root, "-o", file, "--replace", *cache)
    assert replaced.exit_code == 0, replaced.output
    assert Adapter.load(file).machines == MACHINES


def test_run_on_all_or_with_an_adapter(own, root, tmp_path):
    common = ("run", own, "--data", root, "--cache", tmp_path / "cache", "--workers", "1")
    found = invoke(*common, "--adapted-on", "all", "--out", tmp_path / "all")
    assert found.exit_code == 0, found.output
    assert experiment.Result.load(tmp_path / "all").run.protocol == adaptation.ON_ALL
    (file,) = (tmp_path / "cache").rglob("adapter.safetensors")
    found = invoke(*common, "--adapter", file, "--out", tmp_path / "file")
    assert found.exit_code == 0, found.output
    of_all, of_file = (experiment.Result.load(tmp_path / name).scores["score"] for name in ("all", "file"))
    assert of_all.tolist() == of_file.tolist()


def test_an_option_that_would_have_no_effect_is_refused(own, root, tmp_path):
    common = ("--data", root, "--cache", tmp_path / "cache", "--adapted-on", "all")
    both = invoke("run", own, *common, "--adapter", tmp_path / "a.safetensors", "--out", tmp_path / "both")
    plain = invoke("run", "spectral", *common, "--out", tmp_path / "plain")
    assert (both.exit_code, plain.exit_code) == (2, 2)
    assert "give either --adapter" in both.output
    assert "spectral is not adapted" in plain.output
    assert list(tmp_path.iterdir()) == []
