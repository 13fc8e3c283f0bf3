"""Killing `nearfar watch`, and looking at what its logbook holds in the end.

    python benchmarks/kill_watch.py [KILLS]

Two simulated machines are watched from recordings: some are clips, some are longer, and some have faults. The watch
is killed (SIGKILL) at random moments and started again, until it has been killed so often. Most kills come while it
hears, some while it starts. Whenever it comes to an end, and after the last kill, the logbook must be equal to that
of a run that nobody killed: every score, event and alert, with its evidence and its sound, and what is known to go
on. Only the time of writing may differ. Every line of the journal must have been told to a file of JSON lines once,
and once only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from nearfar import Detector
from nearfar.cli import main
from nearfar.files.digests import digest_file
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.simulation import simulate

KILLS, WINDOW, RATE = 200, 2.0, 16_000
MACHINES = ("fan", "pump")
MOST_SECONDS = 1.5  # after the logbook has grown, until a kill
PATIENCE = 120.0  # seconds until a run must have heard something
TABLES = ("machines", "recordings", "windows", "events", "alerts", "conditions", "journal")
NUMBERS = ("id", "recording_id", "alert_id", "event_id")  # of rows: which machine is first is left to chance
BY_THE_COMPUTERS_CLOCK = ("written_at", "mode_since_at")


def prepare(folder: Path) -> None:
    """Detectors of simulated machines, and their recordings; the site's files."""
    simulate(
        folder / "hall",
        machines=list(MACHINES),
        source_clips=40,
        target_clips=4,
        test_clips=20,
        seconds=WINDOW,
        seed=3,
    )
    rng = random.Random(0)
    for machine in MACHINES:
        Detector.fit(folder / "hall" / machine, "spectral", jobs=Jobs(folder / "cache")).save(
            folder / machine
        )
        clips = {
            label: [
                audio.read(path)[0]
                for path in sorted((folder / "hall" / machine / "test").glob(f"*_{label}_*"))
            ]
            for label in ("normal", "anomaly")
        }
        recordings = folder / "recordings" / machine
        recordings.mkdir(parents=True)
        for number in range(12):
            parts: list[np.ndarray] = []
            most = 1 if number % 3 == 0 else 20  # clips as they are, and recordings of 40 s
            while len(parts) < most:
                label = "anomaly" if rng.random() < 0.25 else "normal"
                parts += [rng.choice(clips[label]) for _ in range(rng.randrange(1, 8))]
            audio.write(recordings / f"{number:03}.wav", np.concatenate(parts[:most], axis=1), RATE)
        (recordings / "broken.wav").write_bytes(b"RIFF")
    for name in ("whole", "killed"):
        lines = [
            f'state = "{name}.db"',
            "[defaults]",
            'false_alerts = "1 per 10 min"',
            'no_sound_after = "1 h"',
        ]
        for machine in MACHINES:
            source = f'{{ kind = "replay", folder = "recordings/{machine}", speed = "max" }}'
            lines += [f"[machines.{machine}]", f'detector = "{machine}"', f"source = {source}"]
        lines += ["[sinks.lines]", 'kind = "jsonl"', f'path = "{name}.jsonl"']
        (folder / f"{name}.toml").write_text("\n".join(lines))


def watch(folder: Path, name: str) -> None:
    """The command line, in a process that was forked: hundreds of interpreters would take most of the time."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.argv = ["nearfar", "watch", str(folder / f"{name}.toml")]
    main()


def run(folder: Path, name: str) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=watch, args=(folder, name))
    process.start()
    return process


def held(folder: Path, name: str) -> dict[str, Any]:
    """What a logbook holds, but for what depends on the clock of the computer.

    Evidence is made whenever there is time. So its lines of the journal have any number, and say what has become of
    the alert until then.
    """
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(folder / f"{name}.db")) as c:
        c.row_factory = sqlite3.Row
        for table in TABLES:
            rows = [dict(row) for row in c.execute(f"SELECT * FROM {table}")]
            found[table] = [{k: v for k, v in row.items() if k not in BY_THE_COMPUTERS_CLOCK} for row in rows]
    told = [{k: v for k, v in row.items() if k not in NUMBERS} for row in found["journal"]]
    for row in told:
        content = json.loads(row["content"])
        if content.get("alert") is not None:
            del content["alert"]["id"]
        row["content"] = json.dumps(content)
        if row["what"] == "detector":  # when a machine is new
            row["at"] = None
        if row["what"] == "evidence":
            row["content"] = json.loads(row["content"])["words"]
    in_order = Counter(
        json.dumps(row, sort_keys=True) for row in told
    )  # of two machines, lines come in any order
    by_machine = {
        machine["id"]: [
            row for row in told if row["machine_id"] == machine["id"] and row["what"] != "evidence"
        ]
        for machine in found["machines"]
    }
    found = {table: _by_machine(rows) for table, rows in found.items() if table != "journal"}
    sounds = {one.name: digest_file(one) for one in (folder / f"{name}-sounds").iterdir()}
    return {**found, "journal": by_machine, "lines": in_order, "sounds": sounds}


def _by_machine(rows: list[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    """Rows of each machine, in order; without the numbers, which depend on which machine was first."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        kept = {k: v for k, v in row.items() if k not in NUMBERS}
        found.setdefault(row.get("machine_id", row.get("id")), []).append(kept)
    return found


def told_once(folder: Path, name: str) -> bool:
    """Whether each line of the journal was told, and once."""
    with closing(sqlite3.connect(folder / f"{name}.db")) as c:
        written = [f"journal-{number}" for (number,) in c.execute("SELECT id FROM journal ORDER BY id")]
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return [
        one for one in (json.loads(line)["id"] for line in lines) if one.startswith("journal-")
    ] == written


def kill_one(folder: Path, rng: random.Random) -> bool:
    """Start a run, and kill it soon after it begins to write; whether it was killed."""
    log = folder / "killed.db-wal"
    before = _size(log)
    process = run(folder, "killed")
    if rng.random() < 0.1:  # while it starts
        time.sleep(rng.uniform(0, 0.5))
    else:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.is_alive() and _size(log) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, MOST_SECONDS))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _size(file: Path) -> tuple[int, int]:
    try:
        told = file.stat()
    except FileNotFoundError:
        return 0, 0
    return told.st_size, told.st_mtime_ns


def begin_again(folder: Path) -> None:
    for one in folder.glob("killed[.-]*"):
        if one.suffix != ".toml":
            shutil.rmtree(one) if one.is_dir() else one.unlink()


def kill(kills: int) -> None:
    rng, began, ends, equal = random.Random(0), time.perf_counter(), 0, True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        run(folder, "whole").join()
        whole, killed = held(folder, "whole"), 0
        while killed < kills:
            if kill_one(folder, rng):
                killed += 1
            else:  # it had come to its end
                ends += 1
                equal = equal and held(folder, "killed") == whole and told_once(folder, "killed")
                begin_again(folder)
        run(folder, "killed").join()
        last = held(folder, "killed")
        for table, rows in whole.items():
            if last[table] != rows:
                equal = False
                print(f"{table}: NOT EQUAL")
        equal = equal and told_once(folder, "killed")
    counts = {t: sum(map(len, whole[t].values())) for t in ("windows", "events", "alerts")}
    print(f"{kills} kills in {time.perf_counter() - began:.0f} s; {ends + 1} times it came to its end")
    print(
        "{windows} windows, {events} events, {alerts} alerts:".format(**counts),
        "equal" if equal else "NOT EQUAL",
    )
    sys.exit(not equal)


if __name__ == "__main__":
    kill(int(sys.argv[1]) if sys.argv[1:] else KILLS)
