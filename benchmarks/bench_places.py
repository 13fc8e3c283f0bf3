"""What a task costs more than its work: worker processes of `--on local`, a cluster of Ray, and a bare pool.

    python benchmarks/bench_places.py [--tasks 2000] [--milliseconds 50] [--workers 2]

Each task sleeps, so that the processor is free for what is measured. Workers are started before the clock is; what
that took is printed beside. A bare pool is `concurrent.futures.ProcessPoolExecutor`, to which all tasks are given
at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import NamedTuple

from nearfar.places import ray_cluster
from nearfar.places.place import Place
from nearfar.places.tasks import each


class Cost(NamedTuple):
    """In seconds, of all tasks; and of the start, whatever belongs to it."""

    tasks: float
    start: float


def rest(item: tuple[int, float], *_: object) -> int:
    """A task."""
    time.sleep(item[1])
    return item[0]


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A bare one, whose processes have started."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as found:
        list(found.map(rest, [(0, 0.2)] * workers))
        yield found


def timed(run: Callable[[list[tuple[int, float]]], list[int]], items: list[tuple[int, float]]) -> float:
    """Seconds of a run whose outcome is looked at."""
    begun = time.perf_counter()
    assert run(items) == [number for number, _ in items]
    return time.perf_counter() - begun


def of_place(place: Place, items: list[tuple[int, float]]) -> Cost:
    """Start and end of workers are those of a run of a few tasks, less these."""
    few = items[: 2 * place.workers]
    begun = time.perf_counter()
    if place.is_cluster:
        ray_cluster.connect(ray_cluster.load(place), place)
    connected = time.perf_counter() - begun
    start = timed(lambda some: each(rest, some, workers=place), few) - 2 * few[0][1]
    if place.is_cluster:
        again = timed(lambda some: each(rest, some, workers=place), few) - 2 * few[0][1]  # its processes stay
        return Cost(timed(lambda some: each(rest, some, workers=place), items) - again, connected + start)
    return Cost(timed(lambda some: each(rest, some, workers=place), items) - start, start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--milliseconds", type=float, default=50.0)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    items = [(number, chosen.milliseconds / 1000) for number in range(chosen.tasks)]
    least = chosen.tasks * chosen.milliseconds / 1000 / chosen.workers
    begun = time.perf_counter()
    with pool(chosen.workers) as bare:
        started = time.perf_counter() - begun
        costs = {"bare pool": Cost(timed(lambda some: list(bare.map(rest, some)), items), started)}
    costs["--on local"] = of_place(Place("local", chosen.workers), items)
    costs["--on ray"] = of_place(Place("ray", chosen.workers), items)
    local = costs["--on local"].tasks
    print(
        f"{chosen.tasks} tasks of {chosen.milliseconds:g} ms on {chosen.workers} workers; at least {least:.1f} s"
    )
    for name, cost in costs.items():
        more = 1000 * (cost.tasks - least) * chosen.workers / chosen.tasks
        print(
            f"{name:10}  {cost.tasks:6.1f} s   {cost.tasks / local:.3f} of --on local   "
            f"{more:5.2f} ms more a task   start {cost.start:.1f} s"
        )


if __name__ == "__main__":
    main()
