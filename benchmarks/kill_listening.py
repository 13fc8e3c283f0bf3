"""Killing `nearfar score` of a long recording, and looking at what it says in the end.

    python benchmarks/kill_listening.py [KILLS]

A detector hears recordings of some minutes in windows that overlap, with a state. It is killed (SIGKILL) at random
moments and started again, until it has been killed so often. Most kills come in the middle of the listening, some
while the program starts. The last run is not killed. Its windows, events and alerts, and the log, must be equal,
byte for byte, to those of a run that nobody killed. A kill between two states leaves a log with more than the
state counts, which the next run cuts off; how often is counted.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nearfar import Detector
from nearfar.cli import main
from nearfar.files.steps import Jobs
from nearfar.listening.session import LOG, STATE
from nearfar.recordings import audio
from nearfar.simulation import simulate

KILLS, MINUTES, WINDOW, HOP = 100, 10, 2.0, 0.25  # seconds of a window
MOST_SECONDS = 1.0  # after the log has grown, until a kill
PATIENCE = 120.0  # seconds until a run must have heard something
RATE = 16_000


def prepare(folder: Path) -> None:
    """A detector of a simulated gearbox, and two long recordings: normal clips, among them some with a fault."""
    simulate(
        folder / "hall",
        machines=["gearbox"],
        source_clips=40,
        target_clips=4,
        test_clips=20,
        seconds=WINDOW,
        seed=3,
    )
    Detector.fit(folder / "hall" / "gearbox", "spectral", jobs=Jobs(folder / "cache")).save(
        folder / "detector"
    )
    clips = {
        label: [
            audio.read(path)[0]
            for path in sorted((folder / "hall" / "gearbox" / "test").glob(f"*_{label}_*"))
        ]
        for label in ("normal", "anomaly")
    }
    rng = random.Random(0)
    for name in ("a", "b"):
        parts: list[np.ndarray] = []
        while sum(part.shape[1] for part in parts) < MINUTES * 60 * RATE / 2:
            label = "anomaly" if rng.random() < 0.15 else "normal"
            parts += [rng.choice(clips[label]) for _ in range(rng.randrange(1, 6))]
        audio.write(folder / f"{name}.wav", np.concatenate(parts, axis=1), RATE)


def arguments(folder: Path, state: str, *options: str) -> list[str]:
    recordings = [str(folder / f"{name}.wav") for name in "ab"]
    return [
        "score", str(folder / "detector"), *recordings, "--json", "--hop", str(HOP), "--alarm", "3/5",
        "--false-alerts", "1 per 1 h", "--state", str(folder / state), *options,
    ]  # fmt: skip


def said(folder: Path, state: str, *options: str) -> bytes:
    """What the command line prints, in a process of its own."""
    code = "from nearfar.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments(folder, state, *options)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr.decode())
    return done.stdout


def run_command(folder: Path) -> None:
    """The same in a process that was forked: a hundred interpreters would take most of the time to start."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.argv = ["nearfar", *arguments(folder, "killed")]
    main()


def kill_one(folder: Path, rng: random.Random) -> bool:
    """Start a run, and kill it soon after it begins to hear; whether the log has more than its state counts."""
    log, state = (folder / "killed" / name for name in (LOG, STATE))
    before = log.stat().st_size if log.exists() else 0
    process = multiprocessing.get_context("fork").Process(target=run_command, args=(folder,))
    process.start()
    if rng.random() < 0.1:  # while it starts
        time.sleep(rng.uniform(0, 0.5))
    else:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.is_alive():
            if log.exists() and log.stat().st_size != before:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0, MOST_SECONDS))
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:  # it had come to its end: begin again
        if log.read_bytes() != (folder / "whole" / LOG).read_bytes():
            sys.exit("NOT EQUAL, at the end of a run before the last one")
        state.unlink()
        log.unlink()
        return False
    return state.exists() and log.stat().st_size > json.loads(state.read_bytes())["bytes"]


def kill(kills: int) -> None:
    rng, began = random.Random(0), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        windows, events = said(folder, "whole"), said(folder, "whole", "--events")
        cut = sum(kill_one(folder, rng) for _ in range(kills))
        equal = [
            said(folder, "killed") == windows,
            said(folder, "killed", "--events") == events,
            (folder / "killed" / LOG).read_bytes() == (folder / "whole" / LOG).read_bytes(),
        ]
        seconds = time.perf_counter() - began
    found = len(windows.splitlines()), *(events.count(kind) for kind in (b'"event"', b'"alert_begins"'))
    print(f"{kills} kills in {seconds:.0f} s; after {cut} of them the log had more than the state counts")
    print("{} windows, {} events, {} alerts:".format(*found), "equal" if all(equal) else "NOT EQUAL")
    sys.exit(not all(equal))


if __name__ == "__main__":
    kill(int(sys.argv[1]) if sys.argv[1:] else KILLS)
