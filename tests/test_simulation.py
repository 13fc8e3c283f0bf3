"""The simulated data set: its layout, its determinism, and that it is as hard as was intended."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_ways import known_ways  # noqa: F401
from sklearn.metrics import roc_auc_score

from nearfar.recordings.audio import FAR, NEAR, read, read_header, write
from nearfar.recordings.clips import parse_clip
from nearfar.recordings.datasets import load
from nearfar.simulation import MACHINES, PRESETS, describe, simulate
from nearfar.simulation.catalogue import FOLDER, SCENARIOS, read_description
from nearfar.simulation.dataset import (
    DOMAINS,
    LABELS,
    SEVEN,
    Planned,
    Settings,
    planned,
    record,
    site_of,
)
from nearfar.simulation.machines.mechanics import Condition, dry_sound
from nearfar.simulation.signals import rms

RATE = 8000
pytestmark = pytest.mark.slow
SMALL: dict[str, Any] = {"source_clips": 3, "target_clips": 2, "test_clips": 2, "seconds": 0.5, "rate": RATE}
SIMULATED_DIGEST = "dd54d6eefd849052579b83a7f6b385b21f323579dbbb6c7498bf95b8064c1fac"
MANIFEST_DIGEST = "e821760ada142cc04f90f31d30be0cdcc2b623ba749e2bbf7ca71cd0110e2d9d"
TINY: dict[str, Any] = {**SMALL, "machines": ["fan"], "source_clips": 1, "target_clips": 1, "test_clips": 1}


def settings(**given: Any) -> Settings:
    chosen: dict[str, Any] = {
        "machines": ("fan",), "source_clips": 3, "target_clips": 2, "test_clips": 5, "seconds": 1.0, "rate": RATE,
        "snr": (-8.0, 0.0), "seed": 0, "shift": None, "noise": None, "microphone_faults": (),
        "microphone_fault_share": 0.0, "sources": False, **given,
    }  # fmt: skip
    return Settings(**chosen)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(
        tmp_path_factory.mktemp("simulation") / "made", machines=list(MACHINES), sources=True, **SMALL
    )


@pytest.fixture(scope="module")
def manifest(made: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def recordings(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name.endswith(".wav")}


# The layout


def test_every_recording_parses_as_a_clip_of_the_challenge(
    made: Path, manifest: list[dict[str, Any]]
) -> None:
    for line in manifest:
        clip = parse_clip(made / line["key"])
        assert clip.path.is_file()
        assert (clip.key, clip.section) == (line["key"], 0)
        for field in ("machine", "split", "domain", "label"):
            assert getattr(clip, field) == line[field]


def test_attributes_are_told_of_the_machines_that_have_some(
    made: Path, manifest: list[dict[str, Any]]
) -> None:
    for line in manifest:
        told = parse_clip(made / line["key"]).attributes
        operated = f"{line['speed_unit']}_{line['speed']}_load_{line['load']}"
        unit = f"unit_{line['unit']}_" if line["machine"] == "gearbox" else ""
        assert told == (unit + operated if SCENARIOS[line["machine"]].told else "")


def test_a_reader_finds_the_machines_and_only_them(made: Path) -> None:
    found = load(made)
    assert {machine.name for machine in found.machines} == set(MACHINES)
    assert all((len(machine.train), len(machine.test)) == (5, 8) for machine in found.machines)


def test_the_folder_holds_what_was_asked_for_and_nothing_else(
    made: Path, manifest: list[dict[str, Any]]
) -> None:
    cells = Counter((c["machine"], c["split"], c["domain"], c["label"]) for c in manifest)
    expected = {}
    for machine in MACHINES:
        expected |= {(machine, "train", "source", "normal"): 3, (machine, "train", "target", "normal"): 2}
        expected |= {(machine, "test", domain, label): 2 for domain in DOMAINS for label in LABELS}
    assert cells == expected
    tables = {"manifest.jsonl", "simulated.json", *(f"{m}/attributes_00.csv" for m in MACHINES)}
    sources = {
        f"sources/{c['key'].removesuffix('.wav')}_{part}.wav"
        for c in manifest
        for part in ("dry", "machine", "noise")
    }
    assert set(contents(made)) == tables | sources | {c["key"] for c in manifest}


def test_recordings_are_16_bit_of_two_channels(made: Path, manifest: list[dict[str, Any]]) -> None:
    for line in manifest:
        header = read_header(made / line["key"])
        assert (header.rate, header.channels, header.samples, header.format) == (RATE, 2, 4000, "WAV/PCM_16")


def test_the_near_channel_has_the_level_of_the_manifest(made: Path, manifest: list[dict[str, Any]]) -> None:
    quieter = 0
    for line in manifest:
        samples, _ = read(made / line["key"])
        error_db = 20 * np.log10(rms(samples[NEAR].astype(float))) - line["level_db"]
        assert error_db < 0.1
        quieter += error_db < -0.1  # because it would not have fitted into the file
    assert quieter < 0.05 * len(manifest)


def test_the_attribute_table_lists_every_clip(made: Path, manifest: list[dict[str, Any]]) -> None:
    for machine in MACHINES:
        with (made / machine / "attributes_00.csv").open() as file:
            rows = list(csv.DictReader(file))
        of_machine = [c for c in manifest if c["machine"] == machine]
        assert [row["file_name"] for row in rows] == [c["key"] for c in of_machine]
        for row, clip in zip(rows, of_machine, strict=True):
            told = {row[f"d{i}p"]: row[f"d{i}v"] for i in range(1, len(row) // 2 + 1)}
            expected = {clip["speed_unit"]: str(clip["speed"]), "load": str(clip["load"])}
            expected |= {"unit": clip["unit"]} if machine == "gearbox" else {}
            assert told == (expected if SCENARIOS[machine].told else {})


def test_the_manifest_tells_the_truth(manifest: list[dict[str, Any]]) -> None:
    faults = {d.name: set(d.faults) for d in describe()}
    for line in manifest:
        kind, shift = MACHINES[line["machine"]], SCENARIOS[line["machine"]].shift
        assert (line["fault"] is not None) == (line["severity"] > 0) == (line["label"] == "anomaly")
        shifted = line["domain"] == "target"
        speeds = kind.SPEEDS.shifted if shifted and "speed" in shift else kind.SPEEDS.usual
        loads = kind.LOADS.shifted if shifted and "load" in shift else kind.LOADS.usual
        assert (line["speed"] in speeds, line["load"] in loads) == (True, True)
        assert -8 <= line["snr_db"] <= 0
        assert line["microphone_fault"] is None
        assert all(hertz > 0 for hertz in line["frequencies_hz"].values())
        assert 1 <= len(line["noises"]) <= 4
    for machine, known in faults.items():
        assert {c["fault"] for c in manifest if c["machine"] == machine} - {None} <= known


def test_every_fault_is_as_frequent_as_every_other() -> None:
    for machine in MACHINES:
        clips = planned(settings(machines=(machine,), test_clips=60), machine)
        counts = Counter(clip.fault for clip in clips if clip.fault)
        assert set(counts) == {f for d in describe() if d.name == machine for f in d.faults}
        assert max(counts.values()) - min(counts.values()) <= 2


def test_the_parameters_are_kept(made: Path) -> None:
    kept = json.loads((made / "simulated.json").read_text())
    asked = {**SMALL, "machines": list(MACHINES), "snr": [-8.0, 0.0], "seed": 0, "sources": True}
    assert kept.pop("format") == 2
    assert asked.items() <= kept.items()


# What a clip is made of


def test_sources_add_up_to_the_clip(made: Path, manifest: list[dict[str, Any]]) -> None:
    for line in manifest[::7]:
        clip, _ = read(made / line["key"])
        stem = made / "sources" / line["key"].removesuffix(".wav")
        machine, noise = (read(stem.with_name(f"{stem.name}_{part}.wav"))[0] for part in ("machine", "noise"))
        np.testing.assert_allclose(machine + noise, clip, atol=1 / 32768)


def test_sources_have_the_ratio_of_the_manifest(made: Path, manifest: list[dict[str, Any]]) -> None:
    for line in manifest[::5]:
        stem = made / "sources" / line["key"].removesuffix(".wav")
        machine, noise = (
            read(stem.with_name(f"{stem.name}_{part}.wav"))[0][NEAR].astype(float)
            for part in ("machine", "noise")
        )
        assert 20 * np.log10(rms(machine) / rms(noise)) == pytest.approx(line["snr_db"], abs=0.5)


def test_the_dry_machine_has_no_room(made: Path, manifest: list[dict[str, Any]]) -> None:
    line = manifest[0]
    stem = made / "sources" / line["key"].removesuffix(".wav")
    dry = stem.with_name(f"{stem.name}_dry.wav")
    header = read_header(dry)
    assert (header.channels, header.samples, header.format) == (1, 4000, "WAV/FLOAT")


# Determinism


def test_equal_seeds_give_equal_bytes_on_any_number_of_workers(tmp_path: Path) -> None:
    asked: dict[str, Any] = {**TINY, "machines": ["pump", "valve"]}
    one = contents(simulate(tmp_path / "one", **asked))
    assert contents(simulate(tmp_path / "two", workers=2, **asked)) == one


def test_another_seed_gives_other_recordings(made: Path, tmp_path: Path) -> None:
    other = recordings(simulate(tmp_path / "other", seed=1, **TINY))
    assert not set(recordings(made).values()) & set(other.values())


def test_a_clip_is_the_same_whatever_else_there_is(made: Path, tmp_path: Path) -> None:
    fewer = recordings(simulate(tmp_path / "fewer", **TINY))
    assert len(fewer) == 6
    assert fewer.items() <= recordings(made).items()


# Interruptions


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def stop_at_the_third(done: int, total: int) -> None:
        told.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", progress=stop_at_the_third, **TINY)
    assert told == [(1, 6), (2, 6), (3, 6)]
    assert not (tmp_path / "out").exists()
    unfinished = tmp_path / "out.unfinished"
    kept = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*.wav")}
    assert len(kept) == 3
    told.clear()
    simulate(tmp_path / "out", progress=lambda *counts: told.append(counts), **TINY)
    assert told == [(4, 6), (5, 6), (6, 6)]
    assert not unfinished.exists()
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.wav")}
    assert {path.name: time_ns for path, time_ns in kept.items()}.items() <= times.items()
    assert contents(tmp_path / "out") == contents(simulate(tmp_path / "whole", **TINY))


def test_what_was_begun_with_other_parameters_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", progress=_interrupt, **TINY)
    before = contents(tmp_path)
    with pytest.raises(
        FileExistsError, match=r"out.unfinished was begun with other parameters; continue with those"
    ):
        simulate(tmp_path / "out", seed=1, **TINY)
    assert contents(tmp_path) == before


def _interrupt(*_: int) -> None:
    raise KeyboardInterrupt


def test_a_killed_call_goes_on_and_leaves_no_worker(tmp_path: Path) -> None:
    """SIGKILL in the middle, as for want of memory: what a second call makes is what an unbroken one makes."""
    asked: dict[str, Any] = {**TINY, "test_clips": 12, "seconds": 1.0}
    code = f"""
from nearfar.simulation import simulate
if __name__ == "__main__":
    simulate({str(tmp_path / "out")!r}, workers=2, **{asked!r})
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script])
    while process.poll() is None and len(list(tmp_path.glob("out.unfinished/fan/*/section*.wav"))) < 5:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    simulate(tmp_path / "out", **asked)
    assert contents(tmp_path / "out") == contents(simulate(tmp_path / "whole", **asked))


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        simulate(tmp_path, **TINY)
    assert (tmp_path / "mine.txt").read_text() == "mine"


# Difficulty


@pytest.mark.parametrize("machine", SEVEN)
def test_loudness_does_not_tell_normal_from_anomalous(machine: str) -> None:
    asked = settings(machines=(machine,), test_clips=12, seconds=0.5)
    clips = [clip for clip in planned(asked, machine) if clip.split == "test"]
    site = site_of(asked, machine)
    recorded = [record(site, clip, samples=asked.samples).clip for clip in clips]
    levels = np.array([[rms(channel) for channel in clip] for clip in recorded])
    anomalous = [clip.label == "anomaly" for clip in clips]
    assert 0.45 < roc_auc_score(anomalous, levels[:, NEAR]) < 0.55
    assert 0.40 < roc_auc_score(anomalous, levels[:, FAR]) < 0.60  # its level is not set, and scatters


def test_cells_are_equally_hard_however_small() -> None:
    """Severity, ratio and level are spread evenly over their ranges in every cell."""
    for machine in SEVEN:
        cells: dict[tuple[str, str, str], list[Planned]] = {}
        for clip in planned(settings(machines=(machine,), source_clips=20, test_clips=20), machine):
            cells.setdefault((clip.split, clip.domain, clip.label), []).append(clip)
        for (split, domain, label), clips in cells.items():
            if (split, domain) == ("train", "target"):
                continue
            for name, low, high in (("snr_db", -8, 0), ("level_db", -38, -28), ("severity", 0.4, 1.0)):
                if name == "severity" and label == "normal":
                    continue
                values = np.sort([getattr(clip, name) for clip in clips])
                expected = np.linspace(low, high, 2 * len(clips) + 1)[1::2]
                assert np.abs(values - expected).max() < 0.12 * (high - low)


# Microphone faults


def test_microphone_faults_befall_their_share_of_the_test_clips(tmp_path: Path) -> None:
    kinds = ("dead", "clipped", "hum", "swapped", "delayed")
    out = simulate(
        tmp_path / "out", microphone_faults=kinds, microphone_fault_share=0.5, **{**TINY, "test_clips": 15}
    )
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    befallen = [line for line in lines if line["microphone_fault"]]
    assert {line["split"] for line in befallen} == {"test"}
    assert {line["microphone_fault"] for line in befallen} == set(kinds)
    assert 15 < len(befallen) < 45
    for line in befallen:
        if line["microphone_fault"] == "dead":
            samples, _ = read(out / line["key"])
            assert np.abs(samples[line["channel"]]).max() < 4 / 32768


def test_microphone_faults_change_nothing_else(made: Path, tmp_path: Path) -> None:
    out = simulate(tmp_path / "out", microphone_faults=["swapped"], microphone_fault_share=1.0, **TINY)
    for name in recordings(out):
        found, healthy = read(out / name)[0], read(made / name)[0]
        np.testing.assert_array_equal(found, healthy[::-1] if "/test/" in name else healthy)


# Noise from a folder


def test_a_folder_of_noise_is_heard_and_told(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "noise").mkdir()
    for name in ("one", "two"):
        noise = 0.1 * rng.standard_normal((2, 3 * RATE), dtype=np.float32)
        write(tmp_path / "noise" / f"{name}.wav", noise, RATE)
    out = simulate(tmp_path / "out", noise=tmp_path / "noise", **TINY)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        assert [n["kind"] for n in line["noises"]] == ["recordings"] * len(line["excerpts"])
        expected = {"source": "one.wav", "target": "two.wav"}[line["domain"]]  # the fan's shift is noise
        assert {Path(e["path"]).name for e in line["excerpts"]} == {expected}
    assert contents(simulate(tmp_path / "again", noise=tmp_path / "noise", workers=2, **TINY)) == contents(
        out
    )


def test_other_noise_is_not_taken_up(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "noise").mkdir()
    write(tmp_path / "noise" / "a.wav", 0.1 * rng.standard_normal((1, RATE), dtype=np.float32), RATE)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", noise=tmp_path / "noise", progress=_interrupt, **TINY)
    write(tmp_path / "noise" / "b.wav", 0.1 * rng.standard_normal((1, RATE), dtype=np.float32), RATE)
    with pytest.raises(FileExistsError, match="was begun with other parameters"):
        simulate(tmp_path / "out", noise=tmp_path / "noise", **TINY)


def test_a_folder_without_noise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    with pytest.raises(FileNotFoundError, match="no recordings"):
        simulate(tmp_path / "out", noise=tmp_path / "noise", **TINY)
    assert {path.name for path in tmp_path.iterdir()} == {"noise"}


# Presets, and what is refused


def test_a_preset_is_the_size_of_the_challenge() -> None:
    preset = PRESETS["dcase2026-like"]
    assert len(preset.machines) == 7
    assert (preset.source_clips, preset.target_clips, preset.test_clips, preset.seconds) == (
        990,
        10,
        50,
        10.0,
    )
    assert (preset.noise_field, PRESETS["small"].noise_field) == ("diffuse", "places")


def digest_of(folder: Path, names: list[str]) -> str:
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()


def test_without_the_new_field_nothing_changes(made: Path) -> None:
    """Digests of what the same format held before there were noise fields (numbers rounded to 6 digits).

    They were of five test clips a cell, and those of two come from the code that gave the same for five.
    """
    assert digest_of(made, ["simulated.json"]) == SIMULATED_DIGEST
    lines = (made / "manifest.jsonl").read_text().splitlines()
    told = [json.loads(line, parse_float=lambda text: round(float(text), 6)) for line in lines]
    kept = ("key", "seed", "machine_place", "microphone_places", "gains_db", "noises")
    text = json.dumps([[line[field] for field in kept] for line in told], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == MANIFEST_DIGEST


def test_the_field_can_be_chosen(made: Path, tmp_path: Path) -> None:
    asked = {**TINY, "preset": "dcase2026-like"}
    same = simulate(tmp_path / "places", noise_field="places", **asked)
    assert recordings(same).items() <= recordings(made).items()
    asked["shift"] = ["none"]  # one field for both domains
    out = contents(simulate(tmp_path / "diffuse", **asked))
    assert json.loads(out["simulated.json"])["noise_field"] == "diffuse"
    assert all("noise_field" in json.loads(line) for line in out["manifest.jsonl"].splitlines())
    assert not set(recordings(made).values()) & set(recordings(tmp_path / "diffuse").values())
    small = {**TINY, "noise_field": "diffuse", "shift": ["none"], "workers": 2}
    assert contents(simulate(tmp_path / "again", **small)) == out


def test_an_interrupted_call_in_a_diffuse_field_goes_on(tmp_path: Path) -> None:
    asked = {**TINY, "noise_field": "diffuse", "shift": ["none"]}
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", progress=_interrupt, **asked)
    with pytest.raises(FileExistsError, match="was begun with other parameters"):
        simulate(tmp_path / "out", **{**asked, "noise_field": "places"})
    simulate(tmp_path / "out", **asked)
    assert contents(tmp_path / "out") == contents(simulate(tmp_path / "whole", **asked))


@pytest.mark.parametrize(("clips", "cell"), [(990, 50), (1980, 100), (100, 20), (1, 20)])
def test_test_clips_are_in_the_challenge_s_proportion(clips: int, cell: int, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(
            tmp_path / "out",
            machines=["valve"],
            source_clips=clips,
            seconds=0.5,
            rate=RATE,
            progress=_interrupt,
        )
    kept = json.loads((tmp_path / "out.unfinished" / "simulated.json").read_text())
    assert (kept["source_clips"], kept["target_clips"], kept["test_clips"]) == (clips, 10, cell)


def test_every_kind_of_shift_of_the_challenge_is_in_a_preset() -> None:
    kinds = {kind for machine in SEVEN for kind in SCENARIOS[machine].shift}
    assert kinds == {"none", "speed", "load", "unit", "noise", "microphones"}


def test_shift_can_be_chosen(tmp_path: Path) -> None:
    out = simulate(tmp_path / "out", shift=["speed", "load"], **TINY)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    fan = MACHINES["fan"]
    for line in lines:
        usual = line["domain"] == "source"
        assert line["speed"] in (fan.SPEEDS.usual if usual else fan.SPEEDS.shifted)
        assert line["load"] in (fan.LOADS.usual if usual else fan.LOADS.shifted)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"machines": ["fam"]}, r"no machine 'fam'; did you mean 'fan'\? There are: bearing, fan"),
        ({"machines": []}, r"machines=\(\): expected at least one machine"),
        ({"machines": ["fan", "fan"]}, r"machines=\('fan', 'fan'\): .* each only once"),
        ({"preset": "dcase2026"}, r"no preset 'dcase2026'; did you mean 'dcase2026-like'\?"),
        ({"source_clips": 0}, "source_clips=0: must be between 1 and 10000"),
        ({"target_clips": -1}, "target_clips=-1: must be between 1 and 10000"),
        ({"test_clips": 10001}, "test_clips=10001: must be between 1 and 10000"),
        ({"seconds": 0.4}, "seconds=0.4: must be finite and at least 0.5"),
        ({"seconds": float("nan")}, "seconds=nan: must be finite"),
        ({"rate": 4000}, "rate=4000: must be at least 8000 Hz"),
        ({"snr": (3.0, -3.0)}, r"snr=\(3.0, -3.0\): expected two finite levels in dB, the lower one first"),
        ({"snr": (0.0, float("inf"))}, "snr=.*: expected two finite levels"),
        ({"noise_field": "difuse"}, r"no noise field 'difuse'; did you mean 'diffuse'\?"),
        ({"seed": -1}, "seed=-1: must not be negative"),
        ({"shift": ["sped"]}, r"no kind of shift 'sped'; did you mean 'speed'\?"),
        ({"shift": []}, r"shift=\(\): expected 'none' alone, or one or more kinds of shift"),
        ({"shift": ["none", "speed"]}, r"shift=\('none', 'speed'\): expected 'none' alone"),
        ({"microphone_faults": ["deaf"]}, r"no microphone fault 'deaf'; did you mean 'dead'\?"),
        (
            {"microphone_faults": ["dead"], "microphone_fault_share": 1.1},
            r"microphone_fault_share=1.1: must be from 0 to 1",
        ),
        ({"noise": "nowhere"}, "nowhere: not a folder; expected one with recordings"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_is_written(
    parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        simulate(tmp_path / "out", **parameters)
    assert not list(tmp_path.iterdir())


def test_other_rates_are_recorded_too(tmp_path: Path) -> None:
    asked: dict[str, Any] = {**TINY, "machines": ["valve"], "rate": 44100}
    headers = [read_header(path) for path in simulate(tmp_path / "out", **asked).rglob("*.wav")]
    assert {(h.rate, h.samples) for h in headers} == {(44100, 22050)}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_sounds_at_other_rates_too(name: str) -> None:
    machine = MACHINES[name].manufacture(np.random.default_rng(0))
    condition = Condition(machine.SPEEDS.usual[0], machine.LOADS.usual[0])
    for fault in (None, *machine.faults()):
        sound = dry_sound(
            machine,
            condition,
            fault=fault,
            severity=1.0,
            samples=22050,
            rate=44100,
            rng=np.random.default_rng(1),
        )
        assert np.isfinite(sound).all()
        assert rms(sound) == pytest.approx(1, rel=1e-6)


def test_descriptions_read_from_the_source_are_those_of_the_classes() -> None:
    assert [d.name for d in describe()] == list(MACHINES) == list(SCENARIOS)
    for described in describe():
        kind = MACHINES[described.name]
        module = sys.modules[kind.__module__]
        assert Path(str(module.__file__)) == FOLDER / f"{described.name}.py"
        assert described.summary == str(module.__doc__).rstrip(".")
        assert described.speeds == tuple(sorted({*kind.SPEEDS.usual, *kind.SPEEDS.shifted}))
        assert described.speed_unit == kind.SPEED_UNIT
        assert described.faults == tuple(kind.manufacture(np.random.default_rng(0)).faults())
        assert described.shift == SCENARIOS[described.name].shift


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("SPEEDS: ", "PACES: ", "machine 'fan': 0 classes have SPEEDS; its module must have one class"),
        ("= Offer((1200", "= OFFERS or ((1200", "machine 'fan': SPEEDS is not an Offer"),
        ("SPEED_UNIT: ", "UNIT: ", "machine 'fan': 'SPEED_UNIT'"),
        ('"unbalance": unbalance', "UNBALANCE: unbalance", "returns names that are not written out"),
        ("return {", "return faults or {", "does not return a dict"),
    ],
)
def test_a_machine_that_cannot_be_read_as_text_says_why(before: str, after: str, message: str) -> None:
    source = (FOLDER / "fan.py").read_text()
    assert before in source
    with pytest.raises(ValueError, match=message):
        read_description("fan", source.replace(before, after))
