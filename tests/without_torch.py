"""What must run in an environment without torch: `make light` makes a new one and runs this there.

It needs nothing but the installed package. It runs elsewhere than in the checkout, and stops at the first failure.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NEARFAR = Path(sys.executable).with_name("nearfar")
INSTALL = "pip install 'nearfar[networks]'"
OMEGAS = {
    "far microphone": 50,
    "near microphone": 66,
    "near, noise cancelled": 88,
}  # in whole percent: those of the simulated recordings
OPTIONAL = ("torch", "onnx", "onnxruntime")


def require(condition: object, message: str) -> None:
    if not condition:
        raise SystemExit(message)


def nearfar(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command, and compare its exit code."""
    begun = time.monotonic()
    done = subprocess.run([NEARFAR, *map(str, arguments)], capture_output=True, text=True, check=False)
    shown = " ".join(str(argument) for argument in arguments if not isinstance(argument, Path))
    said = f"nearfar {shown}: exit code {done.returncode}, not {expect}\n{done.stdout}{done.stderr}"
    require(done.returncode == expect, said)
    print(f"nearfar {shown}: as expected, in {time.monotonic() - begun:.1f} s", flush=True)
    return done


def the_demo_runs(folder: Path) -> None:
    shown = nearfar("demo", folder).stdout
    rows = re.findall(r"│ (\w[^│]+?) +│[^│]+│[^│]+│ +([\d.]+) +│", shown)
    found = {name: round(float(omega)) for name, omega in rows if name in OMEGAS}
    require(found == OMEGAS, f"the demo's table has {found}, not {OMEGAS}:\n{shown}")
    offered = re.search(r"nearfar (explain .+? -o \S+)", " ".join(shown.split()))
    require(offered is not None, f"the demo offers no explanation:\n{shown}")
    nearfar(*shlex.split(offered[1]))
    page = (folder / "evidence.html").read_text(encoding="utf-8")
    require(page.startswith("<!DOCTYPE html>") and "Anomaly" in page, "the page does not explain an anomaly")
    offered = re.search(r"nearfar (watch \S+ --replay \S+ --speed \d+)", " ".join(shown.split()))
    require(offered is not None, f"the demo offers no replay:\n{shown}")
    told = nearfar(*shlex.split(offered[1])).stdout
    require(re.search(r"Heard \d+ windows", told) is not None, f"the replay sums nothing up:\n{told}")
    require("  fan  ALERT  anomaly" in told, f"the replay gives no alert among faulty clips:\n{told}")


def a_detector_is_fitted_and_scores(recordings: Path, folder: Path) -> None:
    nearfar("fit", recordings, "-o", folder)
    clips = sorted((recordings / "test").glob("*_anomaly_*"))
    lines = nearfar("score", folder, *clips, "--json").stdout.splitlines()
    decisions = [json.loads(line)["decision"] for line in lines]
    require(len(decisions) == len(clips), f"{len(decisions)} verdicts on {len(clips)} clips")
    require("anomaly" in decisions, f"no faulty clip is an anomaly: {decisions}")


def what_needs_torch_says_so(data: Path, folder: Path) -> None:
    commands: dict[str, list[object]] = {
        "baseline_mse: ": ["fit", data / "fan", "-o", folder, "--system", "baseline_mse"],
        "mn04: ": ["run", "mn04", "--data", data],
        "dualmic: ": ["adapt", "dualmic", "--data", data, "-o", folder],
        "encoder 'efficientat' ": ["weights", "get", "mn04_as"],
    }
    for what, command in commands.items():
        said = nearfar(*command, expect=1).stderr
        require(said.startswith(f"error: {what}"), f"{said!r} does not begin with {what!r}")
        require(said.count("\n") == 1, f"{said!r} has more than one line")
        require("needs torch" in said and INSTALL in said, f"{said!r} lacks {INSTALL!r}")
    require(not folder.exists(), f"{folder} was made all the same")


def main() -> None:
    here = [name for name in OPTIONAL if importlib.util.find_spec(name) is not None]
    require(not here, f"{', '.join(here)} installed in {sys.prefix}: this is no environment without extras")
    os.environ.pop("PYTHONPATH", None)  # it may lead to a checkout
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        os.environ |= {"NEARFAR_CACHE": str(folder / "cache"), "NEARFAR_WEIGHTS": str(folder / "weights")}
        os.environ["TMPDIR"] = str(folder)  # where a replay keeps what it hears
        the_demo_runs(folder / "demo")
        a_detector_is_fitted_and_scores(folder / "demo" / "recordings" / "fan", folder / "detector")
        what_needs_torch_says_so(folder / "demo" / "recordings", folder / "absent")
    print("all that the default system does works without torch")


if __name__ == "__main__":
    main()
