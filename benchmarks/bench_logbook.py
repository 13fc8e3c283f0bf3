"""The logbook: how fast it is written, and what is read of it meanwhile.

    python benchmarks/bench_logbook.py write [--on URL] [--windows N]
    python benchmarks/bench_logbook.py large [--on URL] [--rows N]

``write``: windows of 400 machines, each with what a machine's rule for alerts knows (3.6 kB of JSON): one
transaction for each window, and one for 40 of them. Both are on the disk when the transaction ends. They take
turns, several rounds; the median. ``cpu`` is processor time of this process.

``large``: a logbook of two million windows (16 machines that are heard at once, 10 s each, 14.5 days). How large it
is; how long a trend of 14 days of one machine takes, and other questions, one after the other, while windows are
written as 400 machines have them (40 a second), and how long these wait for their transaction. Then the oldest days
become summaries.

``--on URL``: an empty database of PostgreSQL, in place of a file of SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy as sql

from nearfar.decisions.alerts import AlertRule, Alerts
from nearfar.logbook import asked, compaction, heard
from nearfar.logbook.database import Database
from nearfar.logbook.schema import windows
from nearfar.logbook.sqlite import SQLiteFile

MACHINES, AT_ONCE, ROUNDS = 400, 40, 5
HOP, DAYS, DAY = 10.0, 14, 86400.0
BEGAN = 1_790_000_000.0 // DAY * DAY
LOUD_MACHINES = 16  # of the large logbook
READ_FOR = 20.0  # seconds


@contextmanager
def opened(on: str | None) -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(on or Path(folder) / "hall.db")
        try:
            yield database
        finally:
            database.close()


def machines(c: sql.Connection, count: int) -> list[tuple[int, int]]:
    """Of each machine, the id, and that of a recording that goes on."""
    made = []
    for number in range(count):
        told = heard.MachineTold(f"pump-{number}", "d", "0" * 64, "spectral", HOP, HOP, 1.0, "1 per 30 days")
        machine = heard.open_machine(c, told, now=BEGAN)
        recording = heard.begin_recording(
            c,
            machine.id,
            key="live",
            name="live",
            path=None,
            began_at=BEGAN,
            rate=16000,
            channels=2,
            now=BEGAN,
        )
        made.append((machine.id, recording.id))
    return made


def state_of_a_rule() -> dict[str, object]:
    rng = np.random.default_rng(0)
    alerts = Alerts(AlertRule.parse("1 per 30 days", window_s=HOP, hop_s=HOP), rng.standard_normal(500))
    for score in rng.standard_normal(1000):
        alerts.after(float(score))
    return {"rules": {"1 per 30 days": alerts.state()}}


def window(number: int, score: float = 0.5) -> heard.WindowRow:
    return heard.WindowRow(number, BEGAN + HOP * number, HOP, score, 0.4, "normal", 0.1, -31.5, -40.25)


def put(c: sql.Connection, of: tuple[int, int], number: int, steps: dict[str, object]) -> None:
    """All that the watcher writes of a window."""
    heard.add_windows(c, *of, [window(number)])
    latest = heard.Latest(BEGAN + HOP * (number + 1), 0.5, "normal", 0.1, True)
    heard.save_progress(c, *of, next_window=number + 1, steps=steps, latest=latest, now=BEGAN)


def write(on: str | None, count: int) -> None:
    steps = state_of_a_rule()
    print(f"{count} windows a round, {ROUNDS} rounds, {len(json.dumps(steps))} bytes of state a window")
    print(f"{'':24}{'windows/s':>10}{'cpu, ms/window':>16}")
    with opened(on) as database:
        with database.writing() as c:
            made = machines(c, MACHINES)
        done = 0
        times: dict[int, list[tuple[float, float]]] = {1: [], AT_ONCE: []}
        for _ in range(ROUNDS):
            for together, measured in times.items():
                wall, cpu = time.perf_counter(), time.process_time()
                for first in range(done, done + count, together):
                    with database.writing() as c:
                        for number in range(first, first + together):
                            put(c, made[number % MACHINES], number // MACHINES, steps)
                done += count
                measured.append(((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count))
    median = {
        together: [statistics.median(column) for column in zip(*rows, strict=True)]
        for together, rows in times.items()
    }
    for together, (wall, cpu) in median.items():
        print(f"{f'{together} in a transaction':24}{1 / wall:10.0f}{1000 * cpu:16.3f}")
    print(f"{'ratio':24}{median[1][0] / median[AT_ONCE][0]:10.1f}{median[1][1] / median[AT_ONCE][1]:16.1f}")


def fill(database: Database, rows: int) -> list[tuple[int, int]]:
    """Windows of machines that are heard at once: their rows take turns."""
    rng = np.random.default_rng(0)
    with database.writing() as c:
        made = machines(c, LOUD_MACHINES)
    at_once = 100
    for first in range(0, rows // LOUD_MACHINES, at_once):
        scores = rng.standard_normal((at_once, LOUD_MACHINES)).tolist()
        with database.writing() as c:
            c.execute(
                sql.insert(windows),
                [
                    {
                        "machine_id": machine_id, "recording_id": recording_id, "number": first + n,
                        "begins_at": BEGAN + HOP * (first + n), "seconds": HOP, "score": scores[n][k],
                        "p_value": 0.4, "decision": "normal", "evidence": 0.1, "near_db": -31.5,
                        "far_db": -40.25, "told": "",
                    }
                    for n in range(at_once)
                    for k, (machine_id, recording_id) in enumerate(made)
                ],
            )  # fmt: skip
    return made


class Writer(threading.Thread):
    """Forty windows a second, as 400 machines have them, each with its state."""

    def __init__(self, database: Database, of: tuple[int, int], number: int) -> None:
        super().__init__()
        self.database, self.of, self.number = database, of, number
        self.stopping, self.waits = threading.Event(), list[tuple[float, float]]()

    def run(self) -> None:
        steps = state_of_a_rule()
        while not self.stopping.wait(0.05):
            self.waits.append(measured(lambda: self.put_two(steps)))

    def put_two(self, steps: dict[str, object]) -> None:
        with self.database.writing() as c:
            for _ in range(2):
                put(c, self.of, self.number, steps)
                self.number += 1


def told(name: str, seconds: list[float], cpu: list[float]) -> None:
    ordered = sorted(1000 * one for one in seconds)
    median, high = ordered[len(ordered) // 2], ordered[int(0.99 * len(ordered))]
    print(f"{name:44}{len(ordered):8d}{median:10.2f}{high:10.2f}{1000 * statistics.median(cpu):10.3f}")


def measured(task: Callable[[], object]) -> tuple[float, float]:
    """How long it takes, and how much processor time of this thread."""
    wall, cpu = time.perf_counter(), time.thread_time()
    task()
    return time.perf_counter() - wall, time.thread_time() - cpu


def read_while_writing(
    database: Database, questions: dict[str, Callable[[sql.Connection], object]], writer: Writer
) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in questions}
    writer.start()
    stop = time.perf_counter() + READ_FOR
    while time.perf_counter() < stop:
        for name, question in questions.items():
            with database.reading() as c:
                times[name].append(measured(lambda question=question, c=c: question(c)))
    writer.stopping.set()
    writer.join()
    for name, taken in times.items():
        told(name, *map(list, zip(*taken, strict=True)))
    told("meanwhile: a transaction of two windows", *map(list, zip(*writer.waits, strict=True)))


def large(on: str | None, rows: int) -> None:
    with opened(on) as database:
        start = time.perf_counter()
        made = fill(database, rows)
        took = time.perf_counter() - start
        print(f"{rows} windows, {LOUD_MACHINES} machines: written in {took:.0f} s")
        place = database.place
        if isinstance(place, SQLiteFile):
            size = place.path.stat().st_size
            print(f"{size / 2**20:.0f} MiB, {size / rows:.0f} bytes a window, "
                  f"{size / rows * DAY / HOP / 2**20:.2f} MiB a machine and day")  # fmt: skip
        per_machine = rows // LOUD_MACHINES
        end = BEGAN + HOP * per_machine
        machine_id = made[3][0]
        questions: dict[str, Callable[[sql.Connection], object]] = {
            "trend of 14 days, 1000 points": lambda c: asked.scores(
                c, machine_id, begin=end - DAYS * DAY, end=end, points=1000
            ),
            "trend of an hour, each window": lambda c: asked.scores(c, machine_id, begin=end - 3600, end=end),
            "the hall: all machines": lambda c: asked.machines(c),
        }
        print(f"{'milliseconds':44}{'times':>8}{'median':>10}{'99 %':>10}{'cpu':>10}")
        read_while_writing(database, questions, Writer(database, made[0], per_machine))
        looks = [measured(database.changed) for _ in range(1000)]
        told("whether anything has changed", *map(list, zip(*looks, strict=True)))
        start = time.perf_counter()
        count = compaction.compact(database, now=end, keep_windows_s=(DAYS - 1) * DAY)
        took = time.perf_counter() - start
        print(f"{count} windows became summaries in {took:.1f} s, {count / took:.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("write", "large"))
    parser.add_argument("--on", metavar="URL")
    parser.add_argument("--windows", type=int, default=2000, help="a round of `write`")
    parser.add_argument("--rows", type=int, default=2_000_000, help="of `large`")
    arguments = parser.parse_args()
    if arguments.what == "write":
        write(arguments.on, arguments.windows)
    else:
        large(arguments.on, arguments.rows)


if __name__ == "__main__":
    main()
