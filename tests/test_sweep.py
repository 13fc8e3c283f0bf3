"""Sweeps: every row is what a run with these settings finds, and embeddings are computed once."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from synthetic import RATE, clip, hide_faults, write_machine
from tiny_encoder import Net
from typer.testing import CliRunner, Result

from nearfar.cli import app
from nearfar.embedding.store import Store
from nearfar.encoders import ENCODERS
from nearfar.encoders.checkpoints import write
from nearfar.encoders.spectral import Spectral
from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import clip_table, omega
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Dataset, DatasetError, Machine
from nearfar.report import results
from nearfar.research import experiment
from nearfar.research.sweep import SCOPE, Sweep, grid, sweep
from nearfar.systems import configuration
from nearfar.systems.branches import Branch
from nearfar.systems.settings import parse_options

QUICK = {"branch.encoder_options.n_mels": 16, "threshold.method": "none"}
K, VIEW, BACKEND = "branch.backend_options.k", "branch.view", "branch.backend"
OPTIONS = {VIEW: ["near", "far"], BACKEND: ["mahalanobis", "nearest_neighbour"]}
MACHINES = ("fan", "pump")
RECORDINGS = 45  # of both; three clips of the one have the content of clips of the other
SYSTEM = """
name = "tiny"
summary = "A pretrained encoder with a few dozen weights."
source = "A test."

[needs]
channels = 2
weights = "none"
training = "none"
minutes = 0.0
measured_on = "nothing"

[branch]
encoder = "{encoder}"
encoder_options = {{ weights = {weights} }}
pooling = "mean"
backend = "mahalanobis"

[threshold]
method = "none"
"""


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
def swept(data: Dataset, jobs: Jobs) -> Sweep:
    return sweep("spectral", data, OPTIONS, settings=QUICK, n_resamples=20, jobs=jobs)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many waveforms each call of the spectral encoder is given."""
    counts: list[int] = []
    call = Spectral.__call__

    def counted(self: Spectral, waveforms: Any) -> Any:
        counts.append(len(waveforms))
        return call(self, waveforms)

    monkeypatch.setattr(Spectral, "__call__", counted)
    return counts


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each call of ``Branch.embed`` embeds."""
    counts: list[int] = []
    embed = Branch.embed

    def counted(self: Branch, clips: list[object], **options: object) -> object:
        counts.append(len(clips))
        return embed(self, clips, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Branch, "embed", counted)
    return counts


class TestGrid:
    def test_holds_every_combination_the_last_key_changing_fastest(self) -> None:
        options: dict[str, list[Any]] = {"a": [1, 2], "b": ["x"], "c": [[], ["y"]]}
        assert grid(options) == [
            dict(zip("abc", v, strict=True)) for v in itertools.product([1, 2], ["x"], [[], ["y"]])
        ]
        assert [list(c.values()) for c in grid({"a": [1, 2], "b": [3, 4]})] == [
            [1, 3],
            [1, 4],
            [2, 3],
            [2, 4],
        ]

    def test_of_nothing_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="a sweep needs something to vary"):
            grid({})
        with pytest.raises(ValueError, match="b: no values to try"):
            grid({"a": [1], "b": []})


class TestTable:
    def test_rows_are_what_runs_with_these_settings_find(
        self, swept: Sweep, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        assert swept.settings == (VIEW, BACKEND)
        assert len(swept.table) == 4
        for i, row in swept.table.iterrows():
            system = configuration.load("spectral", {**QUICK, **{key: row[key] for key in OPTIONS}})
            result = experiment.run(system, data, tmp_path / str(i), jobs=jobs)
            assert row["omega"] == pytest.approx(omega(result.metrics), abs=1e-12, rel=0)
            for name in MACHINES:
                own = result.metrics[result.metrics["machine"] == name]
                assert row[name] == pytest.approx(omega(own), abs=1e-12, rel=0)

    def test_is_sorted_and_its_intervals_are_those_of_the_bootstrap(
        self, swept: Sweep, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        table = swept.table
        assert table["omega"].is_monotonic_decreasing
        assert table["omega"].iloc[0] > table["omega"].iloc[-1]
        system = configuration.load("spectral", {**QUICK, **table.loc[0, list(OPTIONS)].to_dict()})
        result = experiment.run(system, data, tmp_path, jobs=jobs)
        clips = clip_table(c for m in data for c in m.test)
        found = statistics.bootstrap(clips, result.scores.set_index("key")["score"], n_resamples=20)
        assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([found.omega.low, found.omega.high])

    def test_is_shown_with_its_scope(self, swept: Sweep) -> None:
        text = shown(swept)
        assert swept.scope == SCOPE
        assert f"Intervals by clips. Scope: {SCOPE}." in text
        assert "descriptive only" in text
        assert f"{100 * swept.table.loc[0, 'omega']:.2f}" in text

    def test_of_another_unit_has_other_intervals(self, data: Dataset, jobs: Jobs) -> None:
        """Three clips a cell, of two recordings; then of one."""
        arguments: dict[str, Any] = {
            "options": {VIEW: ["near"]},
            "settings": QUICK,
            "n_resamples": 50,
            "jobs": jobs,
        }
        machines = []
        for machine in data:
            test = (replace(c, name=f"{c.name[:-5]}{i % 2}.wav") for i, c in enumerate(machine.test))
            machines.append(Machine(machine.name, (*machine.train, *test)))
        renamed = Dataset(data.name, data.root, tuple(machines))
        of_clips, of_recordings = (
            sweep("spectral", renamed, unit=unit, **arguments) for unit in ("clip", "recording")
        )
        assert of_recordings.unit == "recording"
        assert of_recordings.single == ()
        assert of_clips.table["omega"].tolist() == of_recordings.table["omega"].tolist()
        assert of_clips.table["low"].tolist() != of_recordings.table["low"].tolist()
        alone = sweep("spectral", data, unit="recording", **arguments)
        assert len(alone.single) == 8
        assert "too narrow: all clips are from one recording in fan, section 00, anomaly, " in shown(alone)
        assert "too narrow" not in shown(of_recordings)

    def test_of_recordings_that_no_name_tells(self, data: Dataset) -> None:
        test = (replace(c, name=c.name.partition("_speed")[0] + ".wav") for c in data["fan"].test)
        fan = Machine("fan", (*data["fan"].train, *test))
        with pytest.raises(ValueError, match="no attributes, which would name the recording"):
            sweep(
                "spectral",
                Dataset("x", data.root, (fan,)),
                {VIEW: ["near"]},
                unit="recording",
                progress=never,
            )


class TestDistanceOfDomains:
    """The column ``ks``: of unseen normal clips, by no label."""

    JUDGED = {**QUICK, "threshold.method": "conformal", "threshold.folds": 3}  # noqa: RUF012

    def test_is_of_the_scores_that_set_a_threshold(self, data: Dataset, jobs: Jobs, tmp_path: Path) -> None:
        options = {"branch.pooling": ["mean", "mean_std"]}
        found = sweep("spectral", data, options, settings=self.JUDGED, n_resamples=2, jobs=jobs)
        assert found.without_ks == ()
        lowest = {**self.JUDGED, "threshold.false_alarm_rate": 0.4}  # that twelve clips attain
        for i, row in found.table.iterrows():
            system = configuration.load("spectral", {**lowest, "branch.pooling": row["branch.pooling"]})
            unseen = experiment.run(system, data, tmp_path / str(i), jobs=jobs).references
            of_machines = []
            for _, own in unseen.groupby("machine"):
                source, target = (
                    own["score"][own["key"].str.contains(f"_{d}_")] for d in ("source", "target")
                )
                assert (len(source), len(target)) == (8, 4)
                of_machines.append(naive.kolmogorov_smirnov(source.tolist(), target.tolist()))
            assert row["ks"] == pytest.approx(np.mean(of_machines), abs=1e-12)
            assert f" {100 * row['ks']:.1f} " in shown(found)

    def test_needs_a_threshold(self, swept: Sweep) -> None:
        why = "threshold.method='none' gives no scores of unseen normal clips"
        assert swept.without_ks == (why,)
        assert swept.table["ks"].isna().all()
        assert f"No KS, or of fewer machines: {why}." in shown(swept)

    def test_of_an_encoder_that_is_trained_would_take_long(
        self, data: Dataset, tmp_path: Path, listened: list[int]
    ) -> None:
        quick = {"branch.training.epochs": 1, "branch.encoder_options.n_mels": 16}
        options = {BACKEND: ["mean_squared_error"]}
        found = sweep("baseline_mse", data, options, settings=quick, n_resamples=2, jobs=Jobs(tmp_path))
        assert listened == [24] * 2  # one training for each machine
        assert found.table["ks"].isna().all()
        assert "encoder 'autoencoder' is fitted to each machine" in found.without_ks[0]

    def test_of_the_machines_that_have_it(self, data: Dataset, jobs: Jobs) -> None:
        source = tuple(c for c in data["fan"].train if c.domain == "source")
        fan, pump = Machine("fan", (*source, *data["fan"].test)), data["pump"]
        arguments: dict[str, Any] = {"settings": self.JUDGED, "n_resamples": 2, "jobs": jobs}
        found, of_pump = (
            sweep("spectral", Dataset("x", data.root, machines), {VIEW: ["near"]}, **arguments)
            for machines in ((fan, pump), (pump,))
        )
        assert found.without_ks == ("fan: it takes normal clips of source and target, and here are source",)
        assert found.table["ks"].tolist() == of_pump.table["ks"].tolist()
        alone = sweep("spectral", Dataset("x", data.root, (fan,)), {VIEW: ["near"]}, **arguments)
        assert alone.table["ks"].isna().all()

    def test_that_cannot_be_computed_does_not_stop_the_sweep(self, data: Dataset, jobs: Jobs) -> None:
        by_group = {**self.JUDGED, "threshold.folds_by": "group"}
        found = sweep("spectral", data, {VIEW: ["near"]}, settings=by_group, n_resamples=2, jobs=jobs)
        assert len(found.without_ks) == 2
        assert found.without_ks[0].startswith("fan: threshold.folds_by='group': no domain has two groups")


class TestEmbeddings:
    def test_are_computed_once(self, data: Dataset, tmp_path: Path, heard: list[int]) -> None:
        own = Jobs(tmp_path)
        options: dict[str, list[Any]] = {**OPTIONS, "branch.conditioning": [[], ["standardize"]]}
        first = sweep("spectral", data, options, settings=QUICK, n_resamples=2, jobs=own)
        assert sum(heard) == 2 * RECORDINGS  # two views
        second = sweep("spectral", data, options, settings=QUICK, n_resamples=2, jobs=own)
        sweep("spectral", data, {VIEW: ["far"]}, settings=QUICK, seed=5, n_resamples=2, jobs=own)
        assert sum(heard) == 2 * RECORDINGS
        assert not list(own.root.glob("jobs/*"))  # from the store alone
        pd.testing.assert_frame_equal(first.table, second.table)

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_of_changed_clips_are_computed_anew(self, split: str, tmp_path: Path, heard: list[int]) -> None:
        folder = write_machine(tmp_path / "data", "fan", train=6, target=4, test=1, seconds=0.5)
        changed = min((folder / split).glob("*normal*"))

        def swept() -> int:
            data, own = datasets.load(tmp_path / "data"), Jobs(tmp_path / "cache")
            sweep("spectral", data, {VIEW: ["near"]}, settings=QUICK, n_resamples=1, jobs=own)
            return sum(heard)

        assert (swept(), swept()) == (14, 14)
        audio.write(changed, clip(9, seconds=0.5), RATE)
        assert (swept(), swept()) == (15, 15)

    @pytest.mark.parametrize(
        ("option", "runs"),
        [
            (("branch.encoder_options.n_mels", [16, 20]), 2),
            (("branch.pooling", ["mean", "mean_std"]), 1),
            ((VIEW, ["near", "cancelled"]), 2),
        ],
    )
    def test_of_another_encoder_view_or_pooling_are_others(
        self, option: tuple[str, list[object]], runs: int, data: Dataset, tmp_path: Path, heard: list[int]
    ) -> None:
        sweep("spectral", data, dict([option]), settings=QUICK, n_resamples=1, jobs=Jobs(tmp_path))
        assert sum(heard) == runs * RECORDINGS
        entries = [content.entries for content in Store(tmp_path).contents()]
        assert sum(entries) == 2 * RECORDINGS

    def test_of_all_blocks_poolings_and_views_come_from_one_run(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the network, for each recording and microphone."""
        torch.manual_seed(0)
        write(tmp_path / "tiny.safetensors", Net().state_dict(), configuration={})
        monkeypatch.setitem(ENCODERS, "tiny", "tiny_encoder:Tiny")
        runs: list[tuple[bytes, tuple[int, ...]]] = []
        hear = Net.hear

        def noted(self: Net, spectrogram: torch.Tensor, blocks: tuple[int, ...]) -> Any:
            runs.extend((one.numpy().tobytes(), blocks) for one in spectrogram)
            return hear(self, spectrogram, blocks)

        monkeypatch.setattr(Net, "hear", noted)
        (tmp_path / "tiny.toml").write_text(
            SYSTEM.format(encoder="tiny", weights=json.dumps(str(tmp_path / "tiny.safetensors")))
        )
        options: dict[str, list[Any]] = {
            "branch.encoder_options.blocks": [[1], [2]],
            "branch.pooling": ["mean", "mean_std"],
            VIEW: ["near", "near_and_cancelled"],
        }
        arguments: dict[str, Any] = {"n_resamples": 1, "jobs": Jobs(tmp_path / "cache")}
        found = sweep(str(tmp_path / "tiny.toml"), data, options, **arguments)
        assert len(found.table) == 8
        assert len(runs) == len(set(runs)) == 2 * RECORDINGS  # of two microphones
        assert {blocks for _, blocks in runs} == {(1, 2)}
        sweep(str(tmp_path / "tiny.toml"), data, {"branch.backend": ["nearest_neighbour"]}, **arguments)
        assert len(runs) == 2 * RECORDINGS

    def test_are_the_same_by_any_number_of_workers(self, swept: Sweep, data: Dataset, tmp_path: Path) -> None:
        found = sweep(
            "spectral", data, OPTIONS, settings=QUICK, n_resamples=20, workers=2, jobs=Jobs(tmp_path)
        )
        pd.testing.assert_frame_equal(found.table, swept.table, check_exact=True)

    def test_of_an_encoder_that_is_trained(self, data: Dataset, tmp_path: Path, listened: list[int]) -> None:
        quick = {"branch.training.epochs": 1, "branch.encoder_options.n_mels": 16, "threshold.method": "none"}
        options = {BACKEND: ["mean_squared_error", "selective_mahalanobis"]}
        own = Jobs(tmp_path / "cache")
        found = sweep("baseline_mse", data, options, settings=quick, n_resamples=2, jobs=own)
        assert listened == [24] * 2
        for i, row in found.table.iterrows():
            system = configuration.load("baseline_mse", {**quick, BACKEND: row[BACKEND]})
            result = experiment.run(system, data, tmp_path / str(i), jobs=own)
            assert row["omega"] == pytest.approx(omega(result.metrics), abs=1e-12, rel=0)
        before = len(listened)
        sweep("baseline_mse", data, options, settings=quick, n_resamples=2, jobs=own)
        assert len(listened) == before
        sweep("baseline_mse", data, options, settings=quick, seed=5, n_resamples=2, jobs=own)
        assert len(listened) == before + 2  # another training for each machine


class TestErrors:
    def test_of_settings(self, data: Dataset) -> None:
        for options, message in (
            ({"branch.vew": ["near"]}, r"branch\.vew: no key 'vew'; did you mean 'view'"),
            ({VIEW: ["near", "farr"]}, "no view 'farr'; did you mean 'far'"),
            ({}, "a sweep needs something to vary"),
            ({VIEW: []}, "branch.view: no values to try"),
        ):
            with pytest.raises(ValueError, match=message):
                sweep("spectral", data, options)

    def test_of_machines_that_cannot_be_judged(self, data: Dataset) -> None:
        """Before anything is computed."""
        fan = data["fan"]
        normal = tuple(c for c in fan.clips if c.label == "normal")
        for machine, message in (
            (Machine("saw", fan.train), "saw: no test clips to score"),
            (Machine("fan", normal), "fan, section 00, has no anomalous clips: AUC is not defined"),
        ):
            with pytest.raises(ValueError, match=message):
                sweep("spectral", Dataset("x", data.root, (machine,)), {VIEW: ["near"]}, progress=never)
        with pytest.raises(DatasetError, match="saw: no test clips to score"):
            sweep("spectral", Dataset("x", data.root, (Machine("saw", fan.train),)), {VIEW: ["near"]})

    def test_of_labels_that_are_not_known(self, root: Path, tmp_path: Path) -> None:
        for split in ("train", "test"):
            (tmp_path / "fan" / split).mkdir(parents=True)
            for i, path in enumerate((root / "fan" / split).iterdir()):
                name = path.name if split == "train" else f"section_00_{i:04d}.wav"
                (tmp_path / "fan" / split / name).symlink_to(path)
        with pytest.raises(ValueError, match="12 clips have no label"):
            sweep("spectral", datasets.load(tmp_path), {VIEW: ["near"]}, progress=never)

    def test_of_a_back_end_name_it_and_the_machine(self, data: Dataset, jobs: Jobs) -> None:
        settings = {**QUICK, VIEW: "near", BACKEND: "nearest_neighbour"}
        with pytest.raises(ValueError, match="2 of 2 tasks failed") as raised:
            sweep("spectral", data, {K: [1, 40]}, settings=settings, jobs=jobs)
        assert "\n  fan: fan, nearest_neighbour: k=40, but" in str(raised.value)

    def test_of_recordings_name_the_machine(self, tmp_path: Path) -> None:
        folder = write_machine(tmp_path / "data", "fan", train=4, target=4, test=1, seconds=0.5)
        for path in folder.rglob("*.wav"):
            audio.write(path, audio.read(path)[0][:1], RATE)
        mono = datasets.load(tmp_path / "data")
        with pytest.raises(
            ValueError, match=r"(?s)^fan: 12 problems in the data:.*\.wav: .*'cancelled' needs 2 channels"
        ):
            sweep(
                "spectral", mono, {VIEW: ["near", "cancelled"]}, settings=QUICK, jobs=Jobs(tmp_path / "cache")
            )

    def test_of_scores_name_the_settings(
        self, data: Dataset, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Branch, "anomaly_score", lambda _, X: np.full(len(X), np.nan))
        with pytest.raises(ValueError, match=r"branch\.view=near: 24 scores are missing or not finite"):
            sweep("spectral", data, {VIEW: ["near"]}, settings=QUICK, jobs=jobs)


def shown(found: Sweep) -> str:
    console = Console(width=300, file=io.StringIO())
    with console.capture() as captured:
        console.print(results.sweep(found))
    return " ".join(captured.get().split())


def never(*_: object) -> None:
    raise AssertionError("something was computed")


class TestOptionsAsText:
    def test_are_values_joined_by_semicolons(self) -> None:
        assert parse_options([f"{K}=1;2; 4", 'branch.conditioning=[];["standardize"]', "x=near"]) == {
            K: [1, 2, 4],
            "branch.conditioning": [[], ["standardize"]],
            "x": ["near"],
        }
        assert parse_options([]) == {}

    def test_that_are_none_are_errors(self) -> None:
        with pytest.raises(ValueError, match="'k': expected key=value"):
            parse_options(["k"])
        with pytest.raises(ValueError, match="k: given twice; join its values by semicolons"):
            parse_options(["k=1", "k=2"])
        for text in ("k=", "k=1;", "k=1;;2"):
            with pytest.raises(ValueError, match=f"'{text}': a value is empty"):
                parse_options([text])


class TestCommandLine:
    def test_prints_a_table_or_csv_each_with_the_scope(self, swept: Sweep, root: Path, jobs: Jobs) -> None:
        command = ["sweep", "spectral", "--data", root]
        command += [p for k, v in OPTIONS.items() for p in ("--vary", f"{k}={';'.join(v)}")]
        command += [p for k, v in QUICK.items() for p in ("--set", f"{k}={v}")]
        command += ["--cache", jobs.root, "--workers", "1"]
        printed, csv = invoke(*command), invoke(*command, "--csv")
        assert (printed.exit_code, csv.exit_code) == (0, 0), printed.output + csv.output
        assert SCOPE in " ".join(printed.stdout.split())
        table = pd.read_csv(io.StringIO(csv.stdout))
        columns = [*OPTIONS, "omega", *MACHINES]
        pd.testing.assert_frame_equal(table[columns], swept.table[columns])
        assert table["ks"].isna().all()
        said = " ".join(csv.stderr.split())
        assert SCOPE in said
        assert f"No KS: {swept.without_ks[0]}" in said
        as_json = invoke(*command, "--json")
        told = json.loads(as_json.stdout)
        assert (told["scope"], told["unit"], told["without_ks"]) == (SCOPE, "clip", list(swept.without_ks))
        assert [row["ks"] for row in told["settings"]] == [None] * 4
        written = pd.DataFrame(told["settings"])[columns]
        pd.testing.assert_frame_equal(written, swept.table[columns], rtol=0, atol=1e-14)
        both = invoke(*command, "--json", "--csv")
        assert "give either --csv or --json, not both" in " ".join(both.output.replace("│", " ").split())


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
