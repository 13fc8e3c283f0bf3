"""The arithmetic that "auto" is: what is measured, what is remembered, and what follows from it."""

from __future__ import annotations

import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import tiny_weights
import torch
from synthetic import write_machine
from tiny_encoder import Net, Tiny
from typer.testing import CliRunner

from nearfar import Clip, Dataset, Detector, load_machine
from nearfar.cli import app
from nearfar.encoders import ENCODERS, choosing, measuring, processors, remembering, weights
from nearfar.encoders.arithmetic import ARITHMETICS, MOST_OMEGA_POINTS
from nearfar.encoders.ced import Ced
from nearfar.encoders.checkpoints import write
from nearfar.encoders.choosing import Work, chosen, fastest, why_not
from nearfar.encoders.measuring import Impossible, Measured, measure, probe_clips
from nearfar.encoders.pretrained import MIT, PRETRAINED, Pretrained, WeightsError
from nearfar.encoders.remembering import Compared, Remembered
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.clips import DatasetError
from nearfar.report import fitted
from nearfar.research import arithmetics, experiment, planting
from nearfar.systems import configuration
from nearfar.systems.arithmetics import work_of
from nearfar.systems.branches import Branch
from nearfar.systems.resolved import resolve

EAGER = {"float32": 1.0, "bfloat16": 0.4}


def row(name, of_float32=1.0, *, seconds=0.8, preparation=1.0, least_cosine=1.0):
    return Measured(
        arithmetic=name,
        seconds={1: seconds * of_float32},
        of_float32=of_float32,
        preparation=preparation,
        cosine=least_cosine,
        least_cosine=least_cosine,
        difference=0.01,
        same_in_batches=True,
        clip_seconds=10.0,
    )


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    write(tmp_path / "tiny.safetensors", Net().state_dict(), configuration={})
    return Tiny(weights=str(tmp_path / "tiny.safetensors"), precision="auto")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def speeds(monkeypatch):
    """What measuring will find: seconds over those of float32, by name; and what was asked of it, call by call."""
    found = {name: row(name, 5.0) for name in ARITHMETICS}
    found |= {name: row(name, ratio) for name, ratio in EAGER.items()}
    asked = []

    def fake(_, arithmetics, **__):
        asked.append(tuple(arithmetics))
        return {name: found[name] for name in ("float32", *arithmetics)}

    monkeypatch.setattr(measuring, "measure", fake)
    monkeypatch.setattr(measuring, "glimpse", lambda _: 0.01)
    return found, asked


def test_of_those_that_may_be_chosen_it_takes_the_fastest(encoder, cache, speeds):
    found, _ = speeds
    assert chosen(encoder) == "bfloat16"
    found["bfloat16"] = row("bfloat16", 0.4, least_cosine=0.9994)
    assert chosen(encoder, cache=cache / "other") == "float32"


def test_a_measurement_is_made_once(encoder, speeds):
    _, asked = speeds
    assert [chosen(encoder), chosen(encoder)] == ["bfloat16", "bfloat16"]
    assert len(asked) == 1
    assert chosen(encoder, work=Work(seconds=2.0)) == "bfloat16"
    assert len(asked) == 2, "clips of another length"
    torch_threads = torch.get_num_threads()
    with measuring.torch_threads(torch_threads + 1):
        chosen(encoder)
    assert len(asked) == 3, "another number of threads"
    assert torch.get_num_threads() == torch_threads


def test_another_encoder_is_measured_by_itself(encoder, speeds, tmp_path):
    _, asked = speeds
    chosen(encoder)
    chosen(Tiny(weights=encoder.weights, blocks=(1,), precision="auto"))
    write(tmp_path / "other.safetensors", Net().state_dict(), configuration={})
    chosen(Tiny(weights=str(tmp_path / "other.safetensors"), precision="auto"))
    assert len(asked) == 3


def test_another_processor_or_library_measures_again(encoder, speeds, monkeypatch):
    _, asked = speeds
    chosen(encoder)
    other = replace(processors.processor(), instruction_sets=("avx2",))
    monkeypatch.setattr(remembering, "processor", lambda: other)
    chosen(encoder)
    monkeypatch.setattr(remembering, "version", lambda _: "99")
    chosen(encoder)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("0.4", "0.1", 1),
        lambda _: json.dumps({"format": 1}),
        lambda _: json.dumps([1, 2]),
        lambda _: "",
    ],
    ids=["cut", "changed", "others", "a list", "empty"],
)
def test_a_file_that_is_not_whole_is_measured_again(encoder, speeds, spoil):
    _, asked = speeds
    chosen(encoder)
    file = Remembered(encoder, 10.0).file
    file.write_text(spoil(file.read_text()))
    assert chosen(encoder) == "bfloat16"
    assert len(asked) == 2
    assert chosen(encoder) == "bfloat16"
    assert len(asked) == 2


def test_rows_of_a_file_that_are_no_rows_are_measured_again(encoder, speeds):
    _, asked = speeds
    remembered = Remembered(encoder, 10.0)
    rows = {"float32": row("float32").describe(), "bfloat16": {"seconds": {}}, "int8": 7, "int4": {}}
    remembering._write(remembered.file, remembered.made_of, rows)
    assert set(remembered.rows) == {"float32"}
    chosen(encoder)
    assert "bfloat16" in asked[0]


@pytest.mark.usefixtures("speeds")
def test_a_cache_that_cannot_be_written_is_no_error(encoder, tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert chosen(encoder, cache=tmp_path / "file") == "bfloat16"
    assert "cannot be remembered" in caplog.text


def test_rows_come_back_as_they_were_written(encoder):
    rows = {"float32": row("float32"), "int8": Impossible("int8", "too old")}
    remembered = Remembered(encoder, 2.0)
    remembered.add(rows)
    remembered.add({"bfloat16": row("bfloat16", 0.5)})
    assert remembered.rows == {**rows, "bfloat16": row("bfloat16", 0.5)}


@pytest.mark.parametrize(
    ("clips", "expected"),
    [(1, "float32"), (14, "float32"), (20, "float32_openvino"), (10_000, "bfloat16_openvino")],
)
def test_a_preparation_must_pay(clips, expected):
    rows = [
        row("float32"),
        row("float32_openvino", 0.5, preparation=6.0),
        row("bfloat16_openvino", 0.2, preparation=106.0),
    ]
    assert fastest(rows, Work(clips=clips)) == expected


def test_a_simpler_one_is_taken_unless_another_is_clearly_ahead():
    rows = [row("float32"), row("bfloat16", 0.5), row("bfloat16_openvino", 0.46)]
    assert fastest(rows, Work(clips=1000)) == "bfloat16"
    rows[2] = row("bfloat16_openvino", 0.44)
    assert fastest(rows, Work(clips=1000)) == "bfloat16_openvino"


def test_engines_are_measured_if_the_work_is_worth_it(encoder, speeds, monkeypatch):
    _, asked = speeds
    monkeypatch.setattr(
        choosing, "candidates", lambda engines: [a.name for a in ARITHMETICS.values() if a.engine in engines]
    )
    a_clip = 0.8 * EAGER["bfloat16"]
    few, many = (
        int(choosing.WORTH * choosing.THOUGHT_TO_TAKE["openvino"][0] / a_clip * f) for f in (0.9, 1.1)
    )
    chosen(encoder, work=Work(few))
    assert not any("openvino" in name for name in asked[-1])
    chosen(encoder, work=Work(many))
    assert "bfloat16_openvino" in asked[-1]
    assert not any("compiled" in name for name in asked[-1])
    chosen(encoder, work=Work(many * 20))
    assert "bfloat16_compiled" in asked[-1]
    before = len(asked)
    assert chosen(encoder, work=Work(few)) == "bfloat16"
    assert len(asked) == before


def test_what_was_measured_for_much_work_has_no_part_in_little(encoder, speeds, monkeypatch):
    found, _ = speeds
    monkeypatch.setattr(
        choosing, "candidates", lambda engines: [a.name for a in ARITHMETICS.values() if a.engine in engines]
    )
    found["float32_openvino"] = row("float32_openvino", 0.1, preparation=0.0)
    assert chosen(encoder, work=Work(1)) == "bfloat16"
    assert chosen(encoder, work=Work(10_000)) == "float32_openvino"
    assert chosen(encoder, work=Work(1)) == "bfloat16"


@pytest.mark.usefixtures("speeds")
def test_what_differs_on_recordings_is_not_chosen(encoder):
    assert chosen(encoder) == "bfloat16"
    near = Compared(MOST_OMEGA_POINTS / 2, "motors", 160)
    remembering.note_omega(encoder, {"bfloat16": near}, of="digest of motors")
    assert chosen(encoder) == "bfloat16"
    beyond = Compared(-2 * MOST_OMEGA_POINTS, "fans", 80)
    remembering.note_omega(encoder, {"bfloat16": beyond}, of="digest of fans")
    assert remembering.compared(encoder) == {"bfloat16": beyond}
    assert chosen(encoder) == "float32"
    remembering.note_omega(encoder, {"bfloat16": near}, of="digest of fans")
    assert chosen(encoder) == "bfloat16"


def test_why_an_arithmetic_is_out():
    assert why_not(row("bfloat16")) == ""
    assert why_not(row("bfloat16", least_cosine=0.99)) == "cosine 0.99000 is below 0.9995"
    assert why_not(row("bfloat16", least_cosine=float("nan"))) == "cosine nan is below 0.9995"
    assert why_not(Impossible("int8", "no compiler")) == "no compiler"
    assert why_not(row("int8"), Compared(0.31, "motors", 80)) == (
        "Omega differs by +0.31 points on motors, more than 0.2"
    )


def test_the_encoder_computes_in_what_was_chosen(encoder, speeds, rng):
    waveforms = rng.standard_normal((2, 40)).astype(np.float32)
    expected = encoder.computing_in("bfloat16")(waveforms)
    np.testing.assert_array_equal(encoder(waveforms), expected)
    _, asked = speeds
    sent = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(sent(waveforms), expected)
    assert len(asked) == 1


def test_another_device_is_not_measured(speeds, monkeypatch):
    from nearfar.encoders import devices

    _, asked = speeds
    monkeypatch.setattr(devices, "chosen", lambda _: torch.device("cuda"))
    monkeypatch.setattr(devices, "has_bfloat16", lambda _: True)
    assert chosen(Tiny()) == "bfloat16"
    monkeypatch.setattr(devices, "has_bfloat16", lambda _: False)
    assert chosen(Tiny()) == "float32"
    assert not asked


class TestMeasuring:
    def test_a_tiny_encoder(self, encoder):
        told = []
        names = [n for n in ("bfloat16", "int8") if ARITHMETICS[n].is_installed]
        found = measure(
            encoder, names, seconds=0.5, batches=(2, 4), threads=1, tell=lambda *t: told.append(t)
        )
        assert list(found) == ["float32", *names]
        assert [set(one.seconds) for one in found.values()] == [{1}, *[{1, 2, 4}] * len(names)]
        assert set(measure(encoder, [], seconds=0.5, batches=(2,))["float32"].seconds) == {1, 2}
        exact, half = found["float32"], found["bfloat16"]
        assert (exact.of_float32, exact.least_cosine, exact.difference) == (1.0, pytest.approx(1.0), 0.0)
        assert 0.99 < half.least_cosine < 1.0
        assert 0 < half.difference < 0.5
        assert half.of_float32 == half.seconds[1] / exact.seconds[1]
        assert told[-1] == (f"measuring {names[-1]}", measuring.ROUNDS, measuring.ROUNDS)

    def test_one_that_cannot_be_computed_is_told(self, encoder, monkeypatch):
        call = Tiny.__call__

        def refuse(self, waveforms):
            if self.precision == "int8":
                raise ValueError("no such thing")
            return call(self, waveforms)

        monkeypatch.setattr(Tiny, "__call__", refuse)
        found = measure(encoder, ["int8", "bfloat16"], seconds=0.5)
        assert found["int8"] == Impossible("int8", "no such thing")
        assert isinstance(found["bfloat16"], Measured)

    def test_one_that_is_too_slow_rests(self, encoder, monkeypatch):
        call, heard = Tiny.__call__, []

        def slow(self, waveforms):
            heard.append(self.precision)
            if self.precision == "bfloat16":
                for _ in range(200):
                    call(self, waveforms)
            return call(self, waveforms)

        monkeypatch.setattr(Tiny, "__call__", slow)
        found = measure(encoder, ["bfloat16"], seconds=0.5, threads=1)
        assert found["bfloat16"].of_float32 > measuring.TOO_SLOW
        assert heard.count("bfloat16") < heard.count("float32") == 1 + measuring.ROUNDS

    def test_a_clip_that_others_change_is_noticed(self, encoder, monkeypatch):
        call = Tiny.__call__
        monkeypatch.setattr(Tiny, "__call__", lambda self, batch: call(self, batch / abs(batch).max()))
        assert not measure(encoder, [], seconds=0.5, batches=(2,))["float32"].same_in_batches
        assert measure(encoder, [], seconds=0.5)["float32"].same_in_batches

    def test_clips_are_the_same_at_each_call_and_of_unequal_levels(self):
        clips = probe_clips(1.0, 8000)
        np.testing.assert_array_equal(clips, probe_clips(1.0, 8000))
        levels = 10 * np.log10((clips.astype(float) ** 2).mean(axis=1))
        assert abs(clips).max() <= 1
        assert levels.max() - levels.min() > 25


def test_long_clips_are_shortened_where_they_take_long(encoder, monkeypatch):
    monkeypatch.setattr(measuring, "glimpse", lambda _: 0.08)
    assert [choosing._of_patience(encoder, length) for length in (2.0, 5.0, 10.0)] == [2.0, 5.0, 5.0]
    monkeypatch.setattr(measuring, "glimpse", lambda _: 0.01)
    assert choosing._of_patience(encoder, 10.0) == 10.0


def test_classes_of_length():
    assert [Work(seconds=s).length for s in (0.3, 1.0, 6.0, 10.0, 3600.0)] == [1.0, 1.0, 10.0, 10.0, 10.0]


def test_the_processor_is_named_with_its_instruction_sets(tmp_path, monkeypatch):
    (tmp_path / "x86").write_text(
        "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 amx_bf16\nprocessor: 1\nflags: sve\n"
    )
    (tmp_path / "arm").write_text("processor : 0\nFeatures : asimd bf16 crc32\nCPU implementer : 0x41\n")
    found = {}
    for name in ("x86", "arm", "none"):
        processors.processor.cache_clear()
        monkeypatch.setattr(processors, "CPUINFO", tmp_path / name)
        found[name] = processors.processor()
    processors.processor.cache_clear()
    assert (found["x86"].name, found["x86"].instruction_sets) == ("Xeon", ("avx2", "amx_bf16"))
    assert (found["arm"].name, found["arm"].instruction_sets) == ("0x41", ("asimd", "bf16"))
    assert found["none"].instruction_sets == ()
    assert "instruction sets unknown" in str(found["none"])
    assert found["none"].cores >= 1


class TestResolved:
    """From "auto" in a system's file to a name in whatever is fitted."""

    SYSTEM: ClassVar = {
        "branch.encoder": "ced",
        "branch.encoder_options": {"blocks": [1], "precision": "auto"},
        "branch.view": "near_and_far",
        "branch.pooling": "mean",
        "threshold.method": "none",
    }

    @pytest.fixture
    def system(self):
        options = self.SYSTEM["branch.encoder_options"] | {"weights": str(tiny_weights.written("ced"))}
        return configuration.load("spectral", {**self.SYSTEM, "branch.encoder_options": options})

    @pytest.fixture
    def machine(self, tmp_path):
        return load_machine(write_machine(tmp_path, "fan", train=8, target=0, test=1, seconds=0.5))

    @pytest.mark.usefixtures("speeds")
    def test_a_resolved_system_has_a_name(self, system, monkeypatch, machine):
        works = []
        monkeypatch.setattr(choosing, "choice", lambda _, work, *__: works.append(work) or "bfloat16")
        (branch,) = resolve(system, seed=0, clips=machine.train).branches
        assert branch.encoder.describe()["options"]["precision"] == "bfloat16"
        assert branch.identity["options"]["precision"] == "bfloat16"
        assert works == [Work(clips=16, seconds=0.5)], "of two microphones"
        (branch,) = resolve(system, seed=0).branches
        assert works[1:] == [Work()]

    @pytest.mark.usefixtures("speeds")
    def test_its_embeddings_are_kept_under_the_name(self, system):
        branch = Branch(resolve(system, seed=0).branches[0])
        assert {origin.precision for origin in branch.origins().values()} == {"bfloat16"}

    def test_all_machines_of_a_run_have_one(self, system, cache, speeds, machine, tmp_path):
        found, asked = speeds
        other = load_machine(write_machine(tmp_path, "pump", train=8, target=0, test=1, seconds=0.5))
        dataset = Dataset("plant", tmp_path, (machine, other))
        prepared = experiment._prepare(system, dataset, tmp_path / "out", (1, 2), "others", None)
        tasks, _ = experiment._tasks(prepared, Jobs(cache), 1, None)
        options = [task.system.branches[0].encoder.describe()["options"] for task in tasks]
        assert [one["precision"] for one in options] == ["bfloat16"] * 4
        assert len(asked) == 1
        found["bfloat16"] = row("bfloat16", 9.0)
        sent = pickle.loads(pickle.dumps(tasks[0].system))
        assert sent == tasks[0].system

    @pytest.mark.usefixtures("speeds")
    def test_a_detector_keeps_it(self, system, cache, machine, tmp_path, monkeypatch):
        detector = Detector.fit(machine, system, jobs=Jobs(cache))
        detector.save(tmp_path / "detector")
        monkeypatch.setattr(choosing, "chosen", None)
        again = Detector.load(tmp_path / "detector")
        assert fitted._arithmetics(again) == ["bfloat16"]
        assert again.branches[0].encoder.precision == "bfloat16"

    @pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
    def test_one_that_says_auto_computes_as_when_it_was_fitted(
        self, system, cache, machine, tmp_path, monkeypatch, arithmetic
    ):
        monkeypatch.setattr(choosing, "unmeasured", lambda _: arithmetic)
        monkeypatch.setattr(choosing, "chosen", lambda *_, **__: arithmetic)
        Detector.fit(machine, system, jobs=Jobs(cache)).save(tmp_path / "detector")
        file = tmp_path / "detector" / "detector.json"
        content = json.loads(file.read_text())
        content.pop("digest")
        content["system"]["branches"][0]["encoder"]["options"]["precision"] = "auto"
        file.write_text(json.dumps({**content, "digest": digest(content)}))
        again = Detector.load(tmp_path / "detector")
        assert again.branches[0].encoder.precision == arithmetic

    def test_recordings_that_cannot_be_read_have_no_part_in_their_length(self, tmp_path, machine):
        (tmp_path / "broken.wav").write_bytes(b"RIFF")
        broken = Clip(tmp_path / "broken.wav", "fan", 0, "train", "broken.wav")
        assert work_of([broken]) == Work()
        assert work_of([broken, *machine.train[:3]]) == Work(clips=4, seconds=0.5)


class TestBench:
    """`nearfar weights bench`, with measurements that are made up, and Omega that is not."""

    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch, tmp_path, speeds):
        monkeypatch.setenv("NEARFAR_WEIGHTS", str(tmp_path / "weights"))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setitem(ENCODERS, "tiny", "tiny_encoder:Tiny")
        known = Pretrained("tiny", "tiny", "tiny.safetensors", None, "page", MIT, "paper", 100, 3, 64)
        monkeypatch.setitem(PRETRAINED, "tiny", known)
        torch.manual_seed(0)
        write(tmp_path / "given.safetensors", Net().state_dict(), configuration={})
        weights.add("tiny", tmp_path / "given.safetensors")
        found, _ = speeds
        for arithmetic in ARITHMETICS.values():
            if arithmetic.name not in EAGER:
                found[arithmetic.name] = Impossible(arithmetic.name, "too small")
        found["bfloat16"] = row("bfloat16", 0.4, least_cosine=0.9997)

    def bench(self, *arguments):
        return CliRunner().invoke(app, ["weights", "bench", "tiny", *map(str, arguments)])

    def test_a_table_says_what_auto_takes_and_why_others_are_out(self, speeds):
        found, _ = speeds
        done = self.bench("--seconds", 2, "--threads", 1)
        assert done.exit_code == 0
        assert "tiny, clips of 2 s, 1 thread" in done.stdout
        assert "precision=auto takes bfloat16 for 1 clip." in done.stdout
        assert "Not float32_compiled, bfloat16_compiled: not measured" in done.stdout
        assert ": too small." in done.stdout
        assert processors.processor().name in " ".join(done.stdout.split())
        found["bfloat16"] = row("bfloat16", 0.4, least_cosine=0.99)
        assert "Not bfloat16: cosine 0.99000 is below 0.9995." in self.bench().stdout

    def test_what_is_measured_is_what_auto_goes_by(self, speeds, tmp_path):
        found, asked = speeds
        encoder = Tiny(weights=str(tmp_path / "weights" / "tiny" / "model.safetensors"), precision="auto")
        assert chosen(encoder) == "bfloat16"
        found["bfloat16"] = row("bfloat16", 2.0)
        assert chosen(encoder) == "bfloat16"
        with measuring.torch_threads(1):
            assert self.bench().exit_code == 0
            before = len(asked)
            assert chosen(encoder) == "float32"
        assert len(asked) == before

    def test_omega_on_clips_with_labels(self, tmp_path):
        write_machine(tmp_path / "data", "fan", train=12, target=2, test=2, seconds=0.5)
        done = self.bench("--data", tmp_path / "data", "--json")
        told = json.loads(done.stdout)["omega"]
        assert (told["labels"], told["machines"], told["fitted"], told["scored"]) == ("labels", 1, 14, 8)
        assert set(told["values"]) == set(EAGER)
        points = 100 * (told["values"]["bfloat16"] - told["values"]["float32"])
        assert told["points"] == {"bfloat16": pytest.approx(points)}

    def test_omega_on_some_of_the_clips(self, tmp_path):
        write_machine(tmp_path / "data", "fan", train=12, target=2, test=3, seconds=0.5)
        done = self.bench("--data", tmp_path / "data", "--clips", 5)
        text = " ".join(done.stdout.split())
        assert "fitted to 10 and scored on 10 clips, of 26 that there are; the data set tells which" in text

    def test_omega_on_normal_clips_alone(self, tmp_path):
        folder = write_machine(tmp_path, "fan", train=24, target=0, test=0, seconds=0.5)
        done = self.bench("--data", folder)
        text = " ".join(done.stdout.split())
        assert "faults planted into half of the normal clips" in text
        assert "fitted to 12 and scored on 24 clips; faults" in text

    def test_what_is_beyond_is_out_from_then_on(self, tmp_path, monkeypatch):
        folder = write_machine(tmp_path, "fan", train=24, target=0, test=0, seconds=0.5)
        monkeypatch.setattr(arithmetics, "evaluate", lambda *_: None)
        values = iter((0.7, 0.71))
        monkeypatch.setattr(arithmetics, "omega", lambda _: next(values))
        done = self.bench("--data", folder)
        told = "Omega differs by +1.00 points on fan (planted), more than 0.2"
        assert told in " ".join(done.stdout.split())
        again = json.loads(self.bench("--json").stdout)
        assert again["arithmetics"]["bfloat16"]["why_not"] == told
        assert again["auto"] == {"1": "float32", "1000": "float32"}

    def test_weights_that_are_not_here(self):
        done = CliRunner().invoke(app, ["weights", "bench", "mn04_as"])
        assert isinstance(done.exception, WeightsError)
        assert "nearfar weights get mn04_as" in str(done.exception)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["own.pt"], "a file does not tell its encoder"),
            (["tiny", "--batches", "2,many"], "give numbers of clips"),
            (["tiny", "--batches", "0"], "give numbers of clips"),
        ],
    )
    def test_wrong_usage(self, arguments, told):
        done = CliRunner().invoke(app, ["weights", "bench", *arguments])
        assert done.exit_code == 2
        assert told in done.stderr


class TestPlanting:
    def test_a_clip_and_its_twin_differ_by_the_fault(self, tmp_path):
        machine = load_machine(write_machine(tmp_path, "fan", train=24, target=0, test=0, seconds=0.5))
        dataset = Dataset("plant", tmp_path, (machine,))
        (made,) = planting.planted(dataset, tmp_path)
        assert (len(made.train), len(made.test)) == (12, 24)
        assert not {clip.path for clip in made.train} & {clip.path for clip in made.test}
        normal, faulty = ([c for c in made.test if c.label == label] for label in ("normal", "anomaly"))
        for place, (before, after) in enumerate(zip(normal, faulty, strict=True)):
            level = planting.LEVELS_DB[place // len(planting.FAULTS) % len(planting.LEVELS_DB)]
            samples, with_fault = (audio.read(clip.recording)[0].astype(float) for clip in (before, after))
            scale = np.sqrt((samples**2).mean(axis=1))
            share = np.sqrt(((with_fault - samples) ** 2).mean(axis=1)) / scale[:1]
            expected = [level, level + planting.FAR_DB]
            np.testing.assert_allclose(20 * np.log10(share), expected, atol=0.1)

    def test_it_is_the_same_at_each_call(self, tmp_path):
        machine = load_machine(write_machine(tmp_path, "fan", train=20, target=0, test=0, seconds=0.2))
        dataset = Dataset("plant", tmp_path, (machine,))
        for name in ("a", "b"):
            planting.planted(dataset, tmp_path / name)
        files = sorted((tmp_path / "a").iterdir())
        assert len(files) == 10
        assert all(file.read_bytes() == (tmp_path / "b" / file.name).read_bytes() for file in files)

    def test_too_few_clips(self, tmp_path):
        machine = load_machine(write_machine(tmp_path, "fan", train=10, target=0, test=0, seconds=0.1))
        with pytest.raises(DatasetError, match="fan: 10 normal clips, but it takes 20"):
            planting.planted(Dataset("plant", tmp_path, (machine,)), tmp_path)


@pytest.mark.parametrize("arithmetic", ["float32_onnxruntime", "float32_openvino"])
def test_threads_that_share_an_encoder_get_the_tokens_of_their_own_clips(arithmetic, rng):
    for package in ARITHMETICS[arithmetic].packages:
        pytest.importorskip(package)
    encoder = Ced(weights=str(tiny_weights.written("ced")), blocks=(1,), precision=arithmetic, device="cpu")
    clips = rng.standard_normal((4, 1, 8000)).astype(np.float32)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: encoder(clips[number % 4]), range(32)))
    expected = [encoder(clip) for clip in clips]
    for number, tokens in enumerate(found):
        np.testing.assert_array_equal(tokens, expected[number % 4])
