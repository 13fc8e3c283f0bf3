"""Commands that are made from the record of a result: they lead to its settings again, and name no place."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scored import make_clips, make_scores
from test_overview import made

from nearfar.cli.options import chosen_system
from nearfar.evaluation.record import ProtocolRecord
from nearfar.evaluation.results import Result
from nearfar.research import fused
from nearfar.research.adaptation import ON_ALL
from nearfar.research.commands import commands_of, report_command, toml
from nearfar.systems import configuration
from nearfar.systems.configuration import System

GOLDEN = Path(__file__).parent / "golden" / "fused_result"


def result_of(system: dict[str, Any], rng: np.random.Generator, **changes: Any) -> Result:
    clips = make_clips(("fan",))
    seeds = changes.pop("seeds", (13711,))
    found = made(
        clips, make_scores(clips, rng, dict.fromkeys(seeds, 1.0)), name=system["name"], system=system
    )
    run = found.run.model_copy(update={"system": system, **changes})
    return Result(found.folder, found.scores, found.metrics, run, found.references)


def options(line: str, name: str) -> list[str]:
    words = shlex.split(line)
    return [words[i + 1] for i, word in enumerate(words) if word == name]


@pytest.mark.parametrize(
    ("name", "preset", "settings"),
    [
        ("spectral", None, {}),
        ("spectral", None, {"branch.view": "near", "threshold.false_alarm_rate": 0.1}),
        ("spectral", None, {"branch.backend": "nearest_neighbour", "branch.encoder_options.n_mels": 64}),
        (
            "spectral",
            None,
            {"branch.conditioning": ["standardize", {"name": "pca", "components": 3}]},
        ),
        ("spectral", None, {"ensemble.seeds": [1, 2]}),
    ],
)
def test_options_lead_to_the_settings_again(
    name: str, preset: str | None, settings: dict[str, Any], rng: np.random.Generator
) -> None:
    system = configuration.load(name, settings, preset=preset).model_dump(mode="json")
    found = commands_of(result_of(system, rng))
    (line,) = found.lines
    assert found.file == ""
    words = shlex.split(line)
    assert words[:3] == ["nearfar", "run", name]
    rate = options(line, "--false-alarm-rate")
    again = chosen_system(name, preset, options(line, "--set"), float(rate[0]) if rate else None)
    told = {"summary", "source", "needs"}
    assert again.model_dump(mode="json", exclude=told) == {k: v for k, v in system.items() if k not in told}
    assert options(line, "--data") == ["DATA"]


def test_a_system_that_is_not_named_is_written_as_a_file(rng: np.random.Generator) -> None:
    system = configuration.load("spectral", {"branch.view": "near"}).model_dump(mode="json")
    system |= {"name": "mine; rm -rf *", "machines": {"fan": {"branch.view": "far"}}}
    found = commands_of(result_of(system, rng))
    assert found.file == "mine__rm_-rf__.toml"
    assert shlex.split(found.lines[0])[:3] == ["nearfar", "run", found.file]
    again = System.model_validate(tomllib.loads(found.settings))
    assert again.model_dump(mode="json") == system
    assert not any("does not lead" in sentence for sentence in found.unknown)


def test_a_setting_of_another_version_is_told(rng: np.random.Generator) -> None:
    system = configuration.load("spectral").model_dump(mode="json")
    system |= {"name": "later", "folds_of_the_future": 3}
    found = commands_of(result_of(system, rng))
    assert "could not be tried here" in found.unknown[0]
    assert "folds_of_the_future = 3" in found.settings


def test_seeds_machines_and_the_folder_are_named(rng: np.random.Generator) -> None:
    system = configuration.load("spectral").model_dump(mode="json")
    result = result_of(system, rng, seeds=(1, 2))
    named = Result(Path("/somewhere/secret/other name"), *(
        getattr(result, name) for name in ("scores", "metrics", "run", "references")
    ))  # fmt: skip
    found = commands_of(named, machines=["fan", "pump"])
    assert options(found.lines[0], "--seeds") == ["1,2"]
    assert options(found.lines[0], "--machine") == ["fan"]
    assert options(found.lines[0], "--out") == ["results/other name"]
    assert "secret" not in repr(found)
    assert options(commands_of(named, machines=["fan"]).lines[0], "--machine") == []
    assert "if so, name these with --machine" in " ".join(commands_of(named).unknown)


def test_adapters_are_named_by_their_digest(rng: np.random.Generator) -> None:
    system = configuration.load("spectral").model_dump(mode="json")
    protocol = ProtocolRecord(name="before", selected_on="nothing", adapter="abc")
    found = commands_of(result_of(system, rng, protocol=protocol))
    assert options(found.lines[0], "--adapter") == ["ADAPTER"]
    assert any("its digest is abc" in sentence for sentence in found.unknown)
    assert options(commands_of(result_of(system, rng, protocol=ON_ALL)).lines[0], "--adapted-on") == ["all"]


def test_labels_that_no_name_tells_are_told(rng: np.random.Generator) -> None:
    system = configuration.load("spectral").model_dump(mode="json")
    result = result_of(system, rng)
    assert not any("--truth" in sentence for sentence in commands_of(result).unknown)
    keys = [f"fan/test/{i}.wav" for i in range(len(result.scores))]
    renamed = Result(
        result.folder, result.scores.assign(key=keys), result.metrics, result.run, result.references
    )
    assert any("--truth" in sentence for sentence in commands_of(renamed).unknown)


def test_a_study_is_a_file(tmp_path: Path) -> None:
    golden = Result.load(GOLDEN)
    found = commands_of(golden)
    assert found.file == "near_and_far.toml"
    (tmp_path / found.file).write_text(found.settings)
    again = fused.load(tmp_path / found.file).model_dump(mode="json")
    assert again["fusion"] == golden.run.system["fusion"]
    assert again["branches"] == golden.run.system["branches"]
    assert found.versions["nearfar"] == "0.1.0"


def test_a_fused_system_has_a_name(rng: np.random.Generator) -> None:
    name = sorted(configuration.FUSED)[0]
    study = fused.load(name).with_seeds([5])
    result = result_of(study.model_dump(mode="json"), rng, seeds=(5,))
    (line,) = commands_of(result).lines
    assert shlex.split(line)[:3] == ["nearfar", "run", name]
    assert options(line, "--seeds") == ["5"]


def test_scores_from_a_file_have_no_command(rng: np.random.Generator) -> None:
    found = commands_of(result_of({"name": "theirs", "scores": "scores.csv", "sha256": "abc"}, rng))
    assert found.lines == ()
    assert "SHA-256 abc" in found.unknown[0]


def test_the_command_of_a_report_has_no_path_of_this_computer(rng: np.random.Generator) -> None:
    result = result_of({"name": "one"}, rng)
    line = report_command([result], data=True, options=["--clips", "3"], file="/tmp/x/of machine.html")
    assert shlex.split(line) == [
        "nearfar", "report", "results/one", "--data", "DATA", "--clips", "3", "-o", "of machine.html"
    ]  # fmt: skip


def test_toml_is_read_as_it_was() -> None:
    content = {
        "a": 1, "b": 0.1, "c": True, "d": 'say "\\ü\x7f\n', "e": [1, [2.5, "x"]], "none": None,
        "t": {"k.k": [{"x": 1, "y": "z"}], "empty": {}, "deep": {"er": -1e-30}},
    }  # fmt: skip
    expected = {key: value for key, value in content.items() if value is not None}
    assert tomllib.loads(toml(content)) == expected
