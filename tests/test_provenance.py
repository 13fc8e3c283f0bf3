"""Which code has a part in a step: what changes its digest, and what leaves it as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import quick
from synthetic import write_machine

from nearfar.backends import BACKENDS
from nearfar.embedding import CONDITIONING
from nearfar.encoders import ENCODERS
from nearfar.files import provenance
from nearfar.files.provenance import code_digest, library_versions, modules_of
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.research import experiment
from nearfar.research.sweep import sweep
from nearfar.systems import configuration
from nearfar.systems.components import Component
from nearfar.systems.named import SYSTEMS
from nearfar.training import TRAINERS

MODULE = """\
\"\"\"A module.\"\"\"

import numpy as np

from nearfar.room import RATE  # a comment
from nearfar.room.other import doubled


def scaled(x):
    \"\"\"Scale.\"\"\"
    return doubled(x) * RATE
"""
FILES = {
    "room/__init__.py": 'RATE = 2\n\nNAMES = {"one": "nearfar.room.module:scaled"}\n',
    "room/module.py": MODULE,
    "room/other.py": "import soxr\n\n\ndef doubled(x):\n    return 2 * x\n",
    "room/unrelated.py": "X = 1\n",
    "files/place.py": "X = 1\n",
}
Edit = Callable[[str, str, str], str]


def forget() -> None:
    for memory in (code_digest, provenance._file, provenance._parse, provenance._version):
        memory.cache_clear()


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """Replace text in a file of another package; the digest of ``nearfar.room.module`` after that."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    forget()

    def edited(name: str, old: str, new: str) -> str:
        file = tmp_path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        forget()
        return code_digest("nearfar.room.module")

    yield edited
    forget()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("room/module.py", "A module.", "The module."),
        ("room/module.py", "Scale.", "Scale it twice."),
        ("room/module.py", "  # a comment", ""),
        ("room/module.py", "doubled(x) * RATE", "(doubled(x)\n        * RATE)"),
        ("room/__init__.py", '"nearfar.room.module:scaled"', '"nearfar.room.module:scaled", "two": "a.b:c"'),
        ("room/unrelated.py", "X = 1", "X = 2"),
        ("files/place.py", "X = 1", "X = 2"),
        ("room/other.py", "import soxr", "from nearfar.files.place import X\nimport soxr"),
    ],
)
def test_what_computes_nothing_leaves_the_digest(edit: Edit, name: str, old: str, new: str) -> None:
    before = code_digest("nearfar.room.module")
    if "files.place" in new:  # an import counts by itself; what lies in files does not
        before = edit(name, old, new)
        name, old, new = "files/place.py", "X = 1", "X = 3"
    assert edit(name, old, new) == before != ""


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("room/module.py", "doubled(x) * RATE", "doubled(x) + RATE"),
        ("room/__init__.py", "RATE = 2", "RATE = 3"),
        ("room/other.py", "2 * x", "x + x"),
    ],
)
def test_what_computes_changes_the_digest(edit: Edit, name: str, old: str, new: str) -> None:
    before = code_digest("nearfar.room.module")
    assert edit(name, old, new) != before


def test_a_module_that_is_gone_has_no_digest(edit: Edit) -> None:
    assert edit("room/other.py", "soxr", "soxr") != ""
    for asked in (code_digest, modules_of):
        with pytest.raises(ModuleNotFoundError, match=r"nearfar\.room\.gone: no such module"):
            asked("nearfar.room.gone")


@pytest.mark.usefixtures("edit")
def test_only_libraries_that_compute_it_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(**changed: str) -> Callable[[str], str]:
        return lambda name: changed.get(name.replace("-", "_"), "1.0")

    monkeypatch.setattr(provenance, "_version", versions())
    code_digest.cache_clear()
    before = code_digest("nearfar.room.module")
    for changed, same in (({"torch": "2"}, True), ({"soxr": "2"}, False), ({"numpy": "2"}, False)):
        monkeypatch.setattr(provenance, "_version", versions(**changed))
        code_digest.cache_clear()
        assert (code_digest("nearfar.room.module") == before) == same
    monkeypatch.undo()


def test_versions_are_those_of_installed_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"numpy", "scikit-learn", "soundfile"} <= set(library_versions())
    monkeypatch.setitem(provenance.LIBRARIES, "hydra", "hydra-that-is-not-there")
    assert "hydra-that-is-not-there" not in library_versions()


# the package as it is


def test_every_registry_names_modules_that_are_there() -> None:
    for registry in (BACKENDS, CONDITIONING, ENCODERS, TRAINERS):
        for path in registry.values():
            assert code_digest(path.partition(":")[0])


def test_modules_without_a_part_are_there() -> None:
    assert [name for name in provenance.NO_PART if provenance._file(name) is None] == []


def test_a_step_of_the_default_depends_on_no_network() -> None:
    branch = configuration.load("spectral").branch
    parts = [
        Component.resolve("encoder", branch.encoder, {}).module,
        Component.resolve("backend", branch.backend, {}).module,
    ]
    found = modules_of("nearfar.detector.fitting", *parts)
    assert {"nearfar.recordings.audio", "nearfar.recordings.microphones", "nearfar.encoders.features"} <= {
        *found
    }
    assert {"nearfar.systems.branches", "nearfar.decisions.thresholds", *parts} <= {*found}
    strange = {path.partition(":")[0] for path in (*ENCODERS.values(), *BACKENDS.values())} - {*parts}
    assert not strange & {*found}
    assert "torch" not in provenance._libraries(provenance._closure(found).values())


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_the_code_of_every_system_is_found(name: str) -> None:
    branch = configuration.load(name).branch
    encoder = Component.resolve("encoder", branch.encoder, branch.encoder_options)
    assert code_digest("nearfar.systems.branches", encoder.module)


def test_every_step_counts_the_code_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run and a sweep, of an encoder that is trained and of one that is not."""
    done: list[tuple[str, str, tuple[str, ...]]] = []
    do = Jobs.do

    def noted(
        self: Jobs, step: str, inputs: dict, make: Callable[[Path], None], *, made_by: Sequence[str]
    ) -> Path:
        done.append((step, make.__module__, tuple(made_by)))
        return do(self, step, inputs, make, made_by=made_by)

    monkeypatch.setattr(Jobs, "do", noted)
    write_machine(tmp_path / "plant", "fan", test=1)
    dataset, jobs = datasets.load(tmp_path / "plant"), Jobs(tmp_path / "cache")
    quickly = {**quick.settings("baseline_mse"), "threshold.method": "none"}
    experiment.run(configuration.load("baseline_mse", quickly), dataset, tmp_path / "out", jobs=jobs)
    varied = {"branch.view": ["near", "far"]}
    sweep("baseline_mse", dataset, varied, settings=quickly, n_resamples=2, jobs=jobs)
    assert {step for step, _, _ in done} == {"encoder", "detector", "scores", "embeddings"}
    for step, module, made_by in done:
        assert module in modules_of(*made_by), step
