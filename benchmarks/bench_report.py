"""What `nearfar report` takes: time, memory and size of the file, on simulated machines.

    python benchmarks/bench_report.py [--machines 7] [--clips 100] [--folder FOLDER]

Simulates machines (100 training clips, and 100 test clips of 10 s each, by default), runs a study of four branches
on them, and makes the page of it in a process of its own, with two workers: with the store's embeddings, and with
an empty cache, so that all embeddings are computed from the one reading. It counts how often a recording is read.
``--folder`` keeps data and results for another time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nearfar
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.research import fused

MACHINES = ("bearing", "fan", "gearbox", "pump", "slider", "toycar", "valve")
WORKERS = 2
TARGET = 10  # training clips of the target domain, as the simulator has them
STUDY = """
name = "four"
protocol = "cross-fitted, leave one machine out"
[fusion]
weights = "search"
calibration = "own_normals"
false_alarm_rate = 0.1
[branches.cancelled]
system = "spectral"
[branches.near]
system = "spectral_near"
[branches.w1]
system = "spectral_w1"
[branches.neighbour]
system = "spectral"
[branches.neighbour.settings]
"branch.view" = "near_and_far"
"branch.conditioning" = []
"branch.backend" = "nearest_neighbour"
"""


def prepare(folder: Path, machines: int, clips: int) -> None:
    """Data and results, unless they are there."""
    if not (folder / "data").is_dir():
        nearfar.simulate(
            folder / "data", machines=MACHINES[:machines], source_clips=clips - TARGET, target_clips=TARGET,
            test_clips=clips // 4, seed=1, workers=WORKERS,
        )  # fmt: skip
    if not (folder / "result" / "run.json").is_file():
        (folder / "four.toml").write_text(STUDY)
        fused.run(
            fused.load(folder / "four.toml"), datasets.load(folder / "data"), folder / "result",
            workers=WORKERS, jobs=Jobs(folder / "cache"),
        )  # fmt: skip


def page(folder: Path, cache: Path) -> None:
    """Make the page here, and print what it took."""
    from nearfar.report.pages import results
    from nearfar.research import reported

    reads: Counter[Path] = Counter()
    read = audio.read_recorded

    def counted(recording: object) -> object:
        reads[recording.path] += 1
        return read(recording)

    audio.read_recorded = counted
    start = time.perf_counter()
    gathered = reported.gather(
        reported.load_results([folder / "result"]), datasets.load(folder / "data"), clips=20, workers=WORKERS,
        jobs=Jobs(cache),
    )  # fmt: skip
    html = results.page(gathered)
    (folder / "report.html").write_text(html)
    took = {
        "seconds": time.perf_counter() - start,
        "processor time": time.process_time(),
        "megabytes": len(html.encode()) / 1e6,
        "recordings": len(reads),
        "reads of one": max(reads.values()),
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "clips to hear": html.count('id="clip-'),
    }
    print(json.dumps(took))


def main() -> None:
    """Prepare, and make the page twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=7)
    parser.add_argument(
        "--clips", type=int, default=100, help="training clips, and test clips, of each machine"
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--page", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.page is not None:
        page(*asked.page)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = asked.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder, asked.machines, asked.clips)
        for name, cache in (
            ("embeddings of the store", folder / "cache"),
            ("empty cache", Path(place) / "empty"),
        ):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, __file__, "--page", folder, cache], check=True, capture_output=True, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            took = {**json.loads(done.stdout), "seconds with start": time.perf_counter() - start}
            print(name, *(f"{key} {value:.4g}" for key, value in took.items()), sep="; ", flush=True)


if __name__ == "__main__":
    main()
