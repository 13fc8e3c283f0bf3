"""Tables that people and other programs write: what clips are, what they were scored, what is true of them."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import write_machine

from fuzz import damage
from fuzz.surfaces import Surface
from nearfar.challenge import check, schema
from nearfar.detector import score_tables
from nearfar.evaluation import official, truth
from nearfar.evaluation.results import Result
from nearfar.recordings import datasets
from nearfar.recordings.datasets import validation
from nearfar.research.score_files import ScoreFile

GOLDEN = Path(__file__).parents[1] / "golden"
WAYS = {".csv": (damage.cells,), ".jsonl": (damage.values, damage.cells), ".json": (damage.values,)}
CELLS = [(label, domain) for label in (0, 1) for domain in (0, 1)] * 3
META = """
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
"""
YAML = """
submission:
  abbreviation: NearFar
  authors:
  - lastname: Doe
    affiliation: {institute: University}
system:
  external_datasets: []
  description: {front_end: none, acoustic_features: [log-mel energies, waveform]}
"""


# What clips are


def _folder(folder: Path) -> None:
    """A machine of a plant: recordings by the names of its people, and a table that says their domains."""
    write_machine(folder, "press", train=3, target=2, test=1, seconds=0.2)
    lines = ["file_name,domain,group"]
    for number, path in enumerate(sorted((folder / "press" / "train").iterdir())):
        path.rename(path.with_name(f"press {number:02d}.wav"))
        lines.append(f"train/press {number:02d}.wav,{'source' if number < 3 else 'target'},{number % 3}")
    shutil.rmtree(folder / "press" / "test")
    (folder / "press" / "domains.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _dcase(folder: Path) -> None:
    write_machine(folder, "fan", train=3, target=2, test=1, seconds=0.2)
    lines = ["file_name,d1p,d1v"]
    lines += [
        f"fan/{p.parent.name}/{p.name},speed,{n % 3}"
        for n, p in enumerate(sorted((folder / "fan").rglob("*.wav")))
    ]
    (folder / "fan" / "attributes_00.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def loaded(case: Path) -> Any:
    """The clips, and what is known of them."""
    return [
        [clip.key, clip.domain, clip.attributes, clip.group]
        for m in datasets.load(case)
        for c in (m.train, m.test)
        for clip in c
    ]


def validated(case: Path) -> Any:
    """As ``nearfar check`` tells it."""
    return [[p.kind, p.where] for p in validation.validate(datasets.load(case))]


# What is true, and what was scored


def _rows(path: Path, rows: list[tuple[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name},{value}\n" for name, value in rows), encoding="utf-8")


def _scored(folder: Path) -> None:
    names = [f"section_00_{i:04d}.wav" for i in range(len(CELLS))]
    values = np.random.default_rng(0).normal(size=len(names)).tolist()
    for machine in ("Sander", "ToyDrone"):
        file = f"{machine}_section_00_test.csv"
        for kind, place in (("data", 0), ("domain", 1)):
            told = [cell[place] for cell in CELLS]
            _rows(
                folder / "truth" / f"ground_truth_{kind}" / f"ground_truth_{file}",
                list(zip(names, told, strict=True)),
            )
        released = [
            f"section_00_{('source', 'target')[d]}_test_{('normal', 'anomaly')[y]}_{i:04d}_spd_{i % 2}"
            for i, (y, d) in enumerate(CELLS)
        ]
        _rows(
            folder / "truth" / "ground_truth_attributes" / f"ground_truth_{file}",
            list(zip(names, released, strict=True)),
        )
        scored = f"scores/anomaly_score_{file}", f"scores/decision_result_{file}"
        _rows(folder / scored[0], list(zip([f"{r}.wav" for r in released], values, strict=True)))
        _rows(folder / scored[1], [(f"{r}.wav", int(v > 0)) for r, v in zip(released, values, strict=True)])


def truth_read(case: Path) -> Any:
    """Labels and domains, and the names that were released."""
    return [truth.read_truth(case / "truth").shape, len(truth.read_released_names(case / "truth"))]


def evaluated(case: Path) -> Any:
    """As ``nearfar evaluate`` does."""
    found = official.evaluate_folder(case / "scores", case / "truth")
    return found.metrics.shape


def scores_read(case: Path) -> Any:
    """The score files alone."""
    return official.read_scores(case / "scores").shape


def _tables(folder: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        f"fan/test/section_00_source_test_normal_{i:04d}.wav,{generator.normal():.6g},{i % 2}"
        for i in range(40)
    ]
    (folder / "scores.csv").write_text("\n".join(["key,ours,theirs", *rows]) + "\n", encoding="utf-8")
    heads = "recording,start,end,score,p_value,decision"
    lines = [f"a.wav,{i},{i + 1},{generator.normal():.6g},0.5,normal" for i in range(40)]
    (folder / "windows.csv").write_text("\n".join([heads, *lines]) + "\n", encoding="utf-8")
    told = [
        json.dumps({"recording": "a.wav", "start": i, "end": i + 1, "score": 0.5, "decision": "normal"})
        for i in range(40)
    ]
    (folder / "windows.jsonl").write_text("\n".join(told) + "\n", encoding="utf-8")


def of_study(case: Path) -> Any:
    """Scores of another program."""
    return len(ScoreFile(scores=str(case / "scores.csv"), column="ours").load())


def of_windows(case: Path) -> Any:
    """What ``nearfar score`` printed, read by ``nearfar drift``."""
    return [len(score_tables.read([case / name]).times) for name in ("windows.csv", "windows.jsonl")]


# Results and packages


def _result(folder: Path) -> None:
    shutil.copytree(GOLDEN / "fused_result", folder / "result")


def result_loaded(case: Path) -> Any:
    """A result of an experiment, and what it says of itself."""
    found = Result.load(case / "result")
    return [repr(found), found.omega, len(found.false_alarms)]


def _package(folder: Path) -> None:
    (folder / "meta.toml").write_text(META, encoding="utf-8")
    (folder / "meta.yaml").write_text(YAML, encoding="utf-8")
    with zipfile.ZipFile(folder / "package.zip", "w") as package:
        label = "Doe_UNI_task2_1"
        package.writestr(f"task2/{label}/{label}.meta.yaml", YAML)
        for kind, value in (("anomaly_score", "0.5"), ("decision_result", "1")):
            rows = "".join(f"{name},{value}\n" for name in schema.CLIP_NAMES)
            package.writestr(f"task2/{label}/{kind}_Sander_section_00_test.csv", rows)


def checked(case: Path) -> Any:
    """A package against the rules of the challenge."""
    return len(check.check(case / "package.zip"))


def meta(case: Path) -> Any:
    """Meta information, as TOML and as YAML."""
    return [
        len(schema.find_problems(schema.read_meta(case / f"meta.{kind}"), extra=False))
        for kind in ("toml", "yaml")
    ]


SURFACES = (
    Surface(
        "table-domains",
        _folder,
        ("press/domains.csv",),
        {"loaded": loaded, "validated": validated},
        WAYS,
        commands=(("check", "press"),),
    ),
    Surface(
        "table-attributes",
        _dcase,
        ("fan/attributes_00.csv",),
        {"loaded": loaded, "validated": validated},
        WAYS,
        commands=(("check", "."),),
    ),
    Surface(
        "table-truth",
        _scored,
        ("truth/*/*.csv",),
        {"truth_read": truth_read, "evaluated": evaluated},
        WAYS,
        commands=(("evaluate", "scores", "--truth", "truth"),),
    ),
    Surface(
        "table-score-files",
        _scored,
        ("scores/*.csv",),
        {"scores_read": scores_read, "evaluated": evaluated},
        WAYS,
        commands=(("evaluate", "scores", "--truth", "truth"),),
    ),
    Surface("table-scores", _tables, ("scores.csv",), {"of_study": of_study}, WAYS),
    Surface("table-windows", _tables, ("windows.*",), {"of_windows": of_windows}, WAYS),
    Surface(
        "result",
        _result,
        ("result/*.*",),
        {"result_loaded": result_loaded},
        WAYS,
        commands=(("compare", "result", "result"),),
    ),
    Surface(
        "package",
        _package,
        ("*.*",),
        {"checked": checked, "meta": meta},
        {".toml": (damage.settings,), ".yaml": (damage.cells,)},
    ),
)
