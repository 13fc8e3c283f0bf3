"""The simulator's own faults of microphones are recognized by their kinds."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.simulation import simulate

KINDS = {"dead": "dead", "clipped": "clipped", "swapped": "swapped", "delayed": "late"}


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["fan", "gearbox"])
def test_simulated_faults_of_microphones_are_recognized(tmp_path, machine):
    """As by ``nearfar simulate --microphone-faults``, but in most of the test clips."""
    simulate(
        tmp_path / "data", machines=[machine], source_clips=24, target_clips=6, test_clips=5, seconds=2.0,
        microphone_faults=tuple(KINDS), microphone_fault_share=0.7, seed=1, workers=1,
    )  # fmt: skip
    lines = (tmp_path / "data" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    planted = {clip["key"]: clip["microphone_fault"] for clip in map(json.loads, lines)}
    assert set(planted.values()) == {*KINDS, None}
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "data"), "--json"])
    said = {(problem["where"], problem["kind"]) for problem in json.loads(checked.stdout)}
    assert said == {(key, KINDS[fault]) for key, fault in planted.items() if fault is not None}
