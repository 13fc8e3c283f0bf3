"""The form of the findings. Nothing is run here: they install packages of their own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parents[1] / "findings"
LABELS = ["Package", "Guess", "Happens", "Seen", "Matters", "Documented"]
ALL = sorted(FINDINGS.glob("*.sh"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_finding_has_its_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert os.access(path, os.X_OK), "not executable"
    comment = text.split("\nset -euo pipefail\n")[0]
    assert re.findall(r"^# (\w+):", comment, re.MULTILINE) == LABELS
    assert re.search(r"^# Seen:\n#     \S", comment, re.MULTILINE), "no output was pasted"
    assert "CHANGED: " in text
    assert "nearfar" not in text.removeprefix(comment), "a finding runs without nearfar"
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_finding_pins_its_packages(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    (installed,) = re.findall(r"-m pip install (.+)", text)
    packages = [word for word in installed.split() if not word.startswith("-")]
    assert packages
    assert not [package for package in packages if not re.fullmatch(r"[\w.\[\]-]+==[\w.]+", package)]


def test_the_table_names_every_finding_and_no_other() -> None:
    if not FINDINGS.is_dir():
        pytest.skip("findings are in the repository only")
    rows = re.findall(
        r"^\| `(\w+\.sh)` \|", (FINDINGS / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted(path.name for path in FINDINGS.glob("*.sh"))
