"""Killing `nearfar watch`, and looking at what its logbook holds in the end.

    python benchmarks/kill_watch.py [KILLS]

Simulated machines are watched from recordings: some are clips, some are longer, some have faults, one cannot be
read. The watch is killed (SIGKILL) after a random part of what is left of the run, and started again. What is left
is counted in seconds of the processor, because the computer may be busy with other things. When the watch comes to
its end, the logbook must equal that of a run that nobody killed: machines, recordings, windows, events, alerts
with their evidence, conditions, the journal, the sounds, and what is known to go on. Only numbers of rows and times
of writing may differ. Each row of the journal must have been told to a file of JSON lines exactly once. Then it
begins anew, until there were so many kills.

A kill *in the middle* is one after the first window and before the last one. Most of these hit a recording that is
half heard. The rest come while the watch starts, or ends: when evidence is made and the last lines are told.
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
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from nearfar import Detector
from nearfar.cli import main
from nearfar.evidence import explanation
from nearfar.files.digests import digest_file
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.simulation import simulate
from nearfar.watching import engine, site
from nearfar.watching.sinks import json_lines
from nearfar.watching.sources import replay

KILLS, WINDOW, RATE = 200, 1.0, 16_000
MACHINES = ("fan", "pump", "valve")
RECORDINGS, LONGEST = 6, 25  # of each machine, and windows in one
ENDS = 0.3  # of the time of a run, in which it starts, or windows are heard no more
LOADED = (engine, explanation, json_lines, replay)  # before the fork, so that no run has to import them
TABLES = ("machines", "recordings", "windows", "events", "alerts", "conditions")
BY_THE_COMPUTERS_CLOCK = ("written_at", "mode_since_at")
LOOK_S = 0.005
SHOWN = 3  # rows that differ, of each table

Row = dict[str, Any]
Held = dict[str, list[Row]]


def prepare(folder: Path) -> None:
    """Detectors of simulated machines, and their recordings; the site's files."""
    simulate(
        folder / "hall", machines=list(MACHINES), source_clips=40, target_clips=4, test_clips=20,
        seconds=WINDOW, seed=3,
    )  # fmt: skip
    rng = random.Random(0)
    for machine in MACHINES:
        fitted = Detector.fit(folder / "hall" / machine, "spectral", jobs=Jobs(folder / "cache"))
        fitted.save(folder / machine)
        write_recordings(folder / "hall" / machine / "test", folder / "recordings" / machine, rng)
    for name in ("whole", "killed"):
        lines = [
            f'state = "{name}.db"', "[defaults]", 'false_alerts = "1 per 2 min"', 'no_sound_after = "1 h"',
        ]  # fmt: skip
        for machine in MACHINES:
            source = f'{{ kind = "replay", folder = "recordings/{machine}", speed = "max" }}'
            lines += [f"[machines.{machine}]", f'detector = "{machine}"', f"source = {source}"]
        lines += ["[sinks.lines]", 'kind = "jsonl"', f'path = "{name}.jsonl"']
        (folder / f"{name}.toml").write_text("\n".join(lines))


def write_recordings(clips: Path, folder: Path, rng: random.Random) -> None:
    """Clips as they are, and recordings of several clips, faulty in stretches; one that cannot be read."""
    found = {
        label: [audio.read(path)[0] for path in sorted(clips.glob(f"*_{label}_*"))]
        for label in ("normal", "anomaly")
    }
    folder.mkdir(parents=True)
    for number in range(RECORDINGS):
        parts: list[np.ndarray] = []
        most = 1 if number % 3 == 0 else LONGEST
        while len(parts) < most:
            label = "anomaly" if rng.random() < 0.4 else "normal"
            parts += [rng.choice(found[label]) for _ in range(rng.randrange(1, 8))]
        audio.write(folder / f"{number:03}.wav", np.concatenate(parts[:most], axis=1), RATE)
        os.utime(folder / f"{number:03}.wav", (1_772_359_200, 1_772_359_200))
    (folder / "broken.wav").write_bytes(b"RIFF")


def watch(folder: Path, name: str) -> None:
    """The command line, in a process that was forked: hundreds of interpreters would take most of the time."""
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["nearfar", "watch", str(folder / f"{name}.toml")]
    main()


def run(folder: Path, name: str) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=watch, args=(folder, name))
    process.start()
    return process


def held(folder: Path, name: str) -> Held:
    """What a logbook holds, without numbers of rows and times of writing; machines in order of names.

    Evidence is made whenever there is time. So its lines of the journal may stand anywhere, and what they
    say of the state of the alert is that of then. That a machine is new is told at the time of the computer.
    """
    with closing(sqlite3.connect(folder / f"{name}.db")) as c:
        c.row_factory = sqlite3.Row
        tables = {table: list(rows_of(c, table)) for table in (*TABLES, "journal")}
    known = {
        "machine_id": {row["id"]: row["name"] for row in tables["machines"]},
        "recording_id": {row["id"]: row["key"] for row in tables["recordings"]},
        "event_id": {row["id"]: row["begins_at"] for row in tables["events"]},
        "alert_id": {row["id"]: (row["condition"], row["began_at"]) for row in tables["alerts"]},
    }
    for row in tables["journal"]:
        content = json.loads(row["content"])
        if content.get("alert") is not None:
            del content["alert"]["id"]
        if row["what"] == "evidence":
            content = {key: content[key] for key in ("words", "error")}
        row["content"] = content
        if row["what"] == "detector":
            del row["at"]
    found = {table: [without_numbers(row, known) for row in rows] for table, rows in tables.items()}
    told = found.pop("journal")
    found["evidence"] = [row for row in told if row["what"] == "evidence"]
    found["journal"] = [row for row in told if row["what"] != "evidence"]
    for table, rows in found.items():
        rows.sort(
            key=lambda row: row.get("machine_id") or row.get("name")
        )  # stable: each machine's stay in order
        if table == "evidence":
            rows.sort(key=lambda row: (row["machine_id"], row["alert_id"]))
    sounds = sorted((folder / f"{name}-sounds").iterdir())
    found["sounds"] = [{"name": one.name, "digest": digest_file(one)} for one in sounds]
    return found


def rows_of(c: sqlite3.Connection, table: str) -> Iterator[Row]:
    order = "machine_id, condition" if table == "conditions" else "id"
    for row in c.execute(f"SELECT * FROM {table} ORDER BY {order}"):
        yield {key: value for key, value in dict(row).items() if key not in BY_THE_COMPUTERS_CLOCK}


def without_numbers(row: Row, known: dict[str, dict[int, Any]]) -> Row:
    """A row that names others by what they are."""
    return {
        key: known[key].get(value) if key in known else value for key, value in row.items() if key != "id"
    }


def differences(expected: Held, found: Held) -> list[str]:
    """In words: rows that are missing, and rows that should not be there, or stand elsewhere."""
    told = []
    for table, rows in expected.items():
        if found[table] == rows:
            continue
        one, other = (
            Counter(json.dumps(row, sort_keys=True) for row in each) for each in (rows, found[table])
        )
        missing, more = [*(one - other)], [*(other - one)]
        told.append(f"{table}: NOT EQUAL: {len(missing)} rows missing, {len(more)} rows more")
        told += [f"  missing {row}" for row in missing[:SHOWN]] + [f"  more {row}" for row in more[:SHOWN]]
    return told


def lines_told(folder: Path, name: str) -> list[str]:
    """What is wrong with the JSON lines: each row of the journal must be there once, in order, as it is written."""
    found = site.load(folder / f"{name}.toml")
    with closing(sqlite3.connect(folder / f"{name}.db")) as c:
        c.row_factory = sqlite3.Row
        written = [f"journal-{row['id']}" for row in c.execute("SELECT id FROM journal ORDER BY id")]
    told = [json.loads(line)["id"] for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    journal = [one for one in told if one.startswith("journal-")]
    wrong = [
        f"lines of {found.name}: {one} told {count} times"
        for one, count in Counter(told).items()
        if count > 1
    ]
    if journal != written:
        wrong.append(f"lines: {len(written)} rows in the journal, {len(journal)} told: NOT EQUAL")
    return wrong


@dataclass
class Tally:
    """What became of the kills."""

    windows: int
    kills: int = 0
    middle: int = 0
    in_a_recording: int = 0
    ends: int = 0
    wrong: list[str] = field(default_factory=list)

    def after_kill(self, heard: int, unfinished: int) -> None:
        self.kills += 1
        self.middle += 0 < heard < self.windows
        self.in_a_recording += unfinished > 0


def progress(folder: Path, name: str) -> tuple[int, int]:
    """Windows that are in a logbook, and recordings that are half heard."""
    try:
        with closing(sqlite3.connect(f"file:{folder / name}.db?mode=ro", uri=True)) as c:
            (heard,) = c.execute("SELECT count(*) FROM windows").fetchone()
            (unfinished,) = c.execute("SELECT count(*) FROM recordings WHERE NOT finished").fetchone()
    except sqlite3.OperationalError:  # killed before there was one
        return 0, 0
    return heard, unfinished


def wait(process: BaseProcess, seconds: float) -> float:
    """Until a process has taken so many seconds of the processor, or has ended; how many it took, as last seen.

    Those of the process that makes evidence do not count.
    """
    stat, taken = Path(f"/proc/{process.pid}/stat"), 0.0  # proc_pid_stat(5): fields 14 and 15
    while process.is_alive() and taken < seconds:
        fields = stat.read_text().rpartition(")")[2].split()
        taken = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        time.sleep(LOOK_S)
    return taken


def begin_again(folder: Path) -> None:
    for one in folder.glob("killed[.-]*"):
        if one.suffix != ".toml":
            shutil.rmtree(one) if one.is_dir() else one.unlink()


def kill(kills: int) -> Tally:
    """Kill so often, and compare whenever a run comes to its end."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        process = run(folder, "whole")
        seconds = wait(process, float("inf"))
        process.join()
        whole = held(folder, "whole")
        counts = {table: len(whole[table]) for table in ("windows", "events", "alerts", "journal")}
        print(f"a run: {seconds:.1f} s of the processor, {counts}", flush=True)
        tally = Tally(counts["windows"], wrong=lines_told(folder, "whole"))
        while tally.kills < kills or progress(folder, "killed")[0]:
            left = 1 - progress(folder, "killed")[0] / tally.windows
            process = run(folder, "killed")
            if tally.kills < kills:
                wait(process, rng.uniform(0, (left + ENDS) * seconds))
                process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                tally.after_kill(*progress(folder, "killed"))
                continue
            tally.ends += 1  # it had come to its end
            wrong = differences(whole, held(folder, "killed")) + lines_told(folder, "killed")
            if process.exitcode != 0:
                wrong.append(f"exit {process.exitcode}: {(folder / 'killed.log').read_text()[-2000:]}")
            print(
                f"{tally.kills} kills, {'equal' if not wrong else 'NOT EQUAL'}",
                *wrong,
                sep="\n  ",
                flush=True,
            )
            tally.wrong += wrong
            begin_again(folder)
    return tally


if __name__ == "__main__":
    begun = time.perf_counter()
    found = kill(int(sys.argv[1]) if sys.argv[1:] else KILLS)
    print(
        f"{found.kills} kills in {time.perf_counter() - begun:.0f} s: {found.middle} in the middle, "
        f"{found.in_a_recording} in a recording; {found.ends} times it came to its end: "
        + ("equal" if not found.wrong else "NOT EQUAL")
    )
    sys.exit(bool(found.wrong))
