"""What is shipped runs without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from nearfar.research.reproduce import STUDIES
from nearfar.systems.named import FUSED, SYSTEMS

ROOT = Path(__file__).parents[1]
BUILD = ["-m", "pip", "wheel", "--quiet", "--no-deps"]


def test_a_wheel_holds_systems_and_studies_and_runs_elsewhere(tmp_path: Path) -> None:
    subprocess.run([sys.executable, *BUILD, "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("nearfar-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    assert {f"nearfar/systems/{name}.toml" for name in SYSTEMS} | {"nearfar/py.typed"} <= names
    assert {f"nearfar/systems/fused/{name}.toml" for name in FUSED} <= names
    assert {f"nearfar/research/reproduce/{name}.toml" for name in STUDIES} <= names
    source = ROOT / "src"
    for room, least in (("report/pages", 4), ("serving", 20)):
        pages = (source / "nearfar" / room).rglob("*")
        files = [path.relative_to(source) for path in pages if path.suffix in (".j2", ".css", ".js", ".svg")]
        assert len(files) >= least
        assert {path.as_posix() for path in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/", "findings/"))]
    code = "import nearfar; print(nearfar.__file__); print(nearfar.load_system('spectral').name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / "site" / "nearfar" / "__init__.py"), "spectral"]
