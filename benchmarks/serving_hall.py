"""A hall that is served while it is watched: what `load_api.py` and `hostile_requests.py` ask.

    python benchmarks/serving_hall.py make FOLDER [MACHINES]
    python benchmarks/serving_hall.py watch FOLDER      writes what a watcher writes, until it is ended
    python benchmarks/serving_hall.py serve FOLDER      tells its address on its first line

The watcher here does not hear: it writes the windows of all machines (one each ten seconds), a hundredth of them
anomalous, in transactions as the real one does, with alerts that come and go. It says how long its transactions
took when it ends.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nearfar import Detector
from nearfar.files.steps import Jobs
from nearfar.logbook import conditions, heard
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.serving.run import serve
from nearfar.simulation import simulate
from nearfar.watching import site as sites
from nearfar.watching.site import Site

MACHINES, WINDOW, HOURS, LONG_HOURS, LONG = 400, 10.0, 0.5, 24, 10  # the first ones have windows of a day
EVERY = 0.05  # s between transactions
SOUND = "alert.flac"


def make(folder: Path, machines: int = MACHINES) -> None:
    """A detector, a site, and a logbook with windows, alerts and a sound."""
    simulate(
        folder / "data", machines=["pump"], source_clips=24, target_clips=4, test_clips=4, seconds=2.0, seed=3
    )
    Detector.fit(folder / "data" / "pump", "spectral", jobs=Jobs(folder / "cache")).save(folder / "detector")
    lines = ['name = "Hall"', 'state = "hall.db"', 'sounds = "sounds"', "[serve]", "port = 0"]
    for i in range(machines):
        lines += [
            f'[machines."machine {i:03}"]',
            'detector = "detector"',
            f'source = {{ kind = "replay", folder = "recordings/{i}" }}',
        ]
        (folder / "recordings" / str(i)).mkdir(parents=True)
    (folder / "SITE.toml").write_text("\n".join(lines), encoding="utf-8")
    (folder / "sounds").mkdir()
    sound = next((folder / "data" / "pump" / "test").glob("*_anomaly_*"))
    audio.write(folder / "sounds" / SOUND, *audio.read(sound))
    site, now = site_of(folder), time.time()
    with _opened(site) as database:
        for i, name in enumerate(site.machines):
            with database.writing() as c:
                count = int((LONG_HOURS if i < LONG else HOURS) * 3600 / WINDOW)
                _hear(c, name, str(folder / "detector"), now - count * WINDOW, count)


def _hear(c, name: str, detector: str, began: float, count: int) -> None:
    told = heard.MachineTold(name, detector, "0" * 64, "spectral", WINDOW, WINDOW, 3.0, "1 per 30 days")
    machine = heard.open_machine(c, told, now=began)
    heard.set_mode(c, machine.id, "listening", at=began, now=began)
    recording = heard.begin_recording(
        c,
        machine.id,
        key=f"{name}-1",
        name="1.wav",
        path=None,
        began_at=began,
        rate=16000,
        channels=2,
        now=began,
    )
    rng = np.random.default_rng(machine.id)
    rows = [_window(i, began, float(score)) for i, score in enumerate(rng.gamma(2.0, 0.5, count))]
    heard.add_windows(c, machine.id, recording.id, rows)
    latest = heard.Latest(began + count * WINDOW, rows[-1].score, "normal", 0.1, True)
    heard.save_progress(c, machine.id, recording.id, next_window=count, steps={}, latest=latest, now=began)
    if machine.id % 5 == 1:
        _alert(c, machine.id, began + count * WINDOW)


def _alert(c, machine_id: int, at: float) -> None:
    conditions.activate(
        c, machine_id, "anomaly", at=at, since=at - 60, message="louder than usual at 2.1 to 2.6 kHz", now=at,
        score=4.2, sound=SOUND,
    )  # fmt: skip


def _window(number: int, began: float, score: float) -> heard.WindowRow:
    return heard.WindowRow(
        number,
        began + number * WINDOW,
        WINDOW,
        score,
        0.1,
        "anomaly" if score > 4 else "normal",
        0.1,
        -30.0,
        -31.0,
    )


def watch(folder: Path) -> None:
    """Write what a watcher writes, until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    site, rng, took = site_of(folder), random.Random(0), []
    with _opened(site) as database:
        with database.reading() as c:
            recordings = c.exec_driver_sql(
                "SELECT id, machine_id, began_at, next_window FROM recordings"
            ).all()
        state = {row.machine_id: [row.id, row.began_at, row.next_window] for row in recordings}
        ids, at, due = list(state), 0, 0.0
        print(json.dumps({"machines": len(ids)}), flush=True)
        while not stopped:
            due += EVERY * len(ids) / WINDOW
            begun = time.perf_counter()
            with database.writing() as c:
                for _ in range(int(due)):
                    _one_window(c, ids[at % len(ids)], state, rng)
                    at += 1
            took.append(time.perf_counter() - begun)
            due -= int(due)
            time.sleep(max(0.0, EVERY - took[-1]))
    told = {
        "transactions": len(took), "windows": at, "median_ms": 1000 * float(np.median(took)),
        "longest_ms": 1000 * max(took),
    }  # fmt: skip
    print(json.dumps(told), flush=True)


def _one_window(c, machine_id: int, state: dict, rng: random.Random) -> None:
    recording, began, number = state[machine_id]
    now = time.time()
    heard.add_windows(c, machine_id, recording, [_window(number, began, rng.gammavariate(2.0, 0.5))])
    latest = heard.Latest(began + (number + 1) * WINDOW, 1.0, "normal", 0.1, True)
    heard.save_progress(c, machine_id, recording, next_window=number + 1, steps={}, latest=latest, now=now)
    state[machine_id][2] += 1
    if rng.random() < 0.005:
        if conditions.is_active(c, machine_id, "anomaly"):
            conditions.clear(c, machine_id, "anomaly", at=now, now=now)
        else:
            _alert(c, machine_id, now)


def site_of(folder: Path) -> Site:
    return sites.load(folder / "SITE.toml")


@contextmanager
def _opened(site: Site) -> Iterator[Database]:
    database = Database.open(site.state)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def process(what: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process that serves or watches; gives its first line, and ends it."""
    command = [sys.executable, __file__, what, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            line = started.stdout.readline().strip()
            if not line:
                sys.exit(f"{what} did not start")
            yield line, started
        finally:
            started.terminate()
            started.wait()


if __name__ == "__main__":
    place = Path(sys.argv[2])
    if sys.argv[1] == "make":
        make(place, *map(int, sys.argv[3:4]))
    elif sys.argv[1] == "watch":
        watch(place)
    else:
        serve(site_of(place), told=lambda address: print(address, flush=True))
