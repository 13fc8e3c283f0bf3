"""A run goes on while its workers and computers are killed, and equals an unbroken one.

    python benchmarks/kill_tasks.py [--kills 100] [--nodes 10] [--machines 4] [--seeds 20]

A system is run on simulated machines with many seeds, on a cluster of Ray: a head and two nodes on this computer.
Meanwhile so many random workers, and so many nodes with all that runs on them, are killed; a node is replaced.
There are further rounds with further seeds until all kills are done. Then the same is done by worker processes.
Compared are the bytes of all results, and the keys of all finished steps. Looked at is whether a finished step was
made again (the time of change of its folder), and whether the store of embeddings is whole. It ends with 0 if all
is well.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nearfar import simulate
from nearfar.embedding.store import Store
from nearfar.files.steps import DONE, Jobs
from nearfar.places import ray_cluster
from nearfar.places.place import Place
from nearfar.recordings import datasets
from nearfar.research import experiment
from nearfar.systems import configuration

SETTINGS = {"threshold.false_alarm_rate": 0.2, "threshold.folds": 3}


def steps(cache: Path) -> dict[str, int]:
    """Finished steps by name, with the time in ns when each was finished."""
    return {str(p.parent.relative_to(cache)): p.stat().st_mtime_ns for p in cache.glob("jobs/*/*/*/" + DONE)}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def workers() -> list[int]:
    """Processes of Ray that do tasks."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes().startswith(b"ray::on_worker"):
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


class Watched:
    """The steps of a cache, looked at while they are made."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.seen: dict[str, int] = {}
        self.again: set[str] = set()

    def look(self) -> None:
        """Note steps that were finished, and were finished once more."""
        for name, when in steps(self.cache).items():
            if self.seen.setdefault(name, when) != when:
                self.again.add(name)


def kill(cluster: Any, driver: subprocess.Popen[bytes], left: dict[str, int], watched: Watched) -> None:
    """Kill workers and nodes at random moments, as long as the driver works and there are kills left."""
    chance = random.Random(1)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    while driver.poll() is None and any(left.values()):
        time.sleep(chance.uniform(0.2, 1.0))
        watched.look()
        what = chance.choices(list(left), list(left.values()))[0]
        if what == "node":
            cluster.remove_node(nodes.pop(chance.randrange(len(nodes))), allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
        elif running := workers():
            try:
                os.kill(chance.choice(running), signal.SIGKILL)
            except ProcessLookupError:
                continue
        else:
            continue
        left[what] -= 1
        print(f"\rleft: {left['worker']} workers, {left['node']} nodes ", end="", flush=True)


def work(root: Path, place: Place | int, where: str, number: int, seeds: int) -> None:
    """One round."""
    of_round = tuple(range(1 + number * seeds, 1 + (number + 1) * seeds))
    system = configuration.load("spectral", SETTINGS)
    jobs = Jobs(root / f"cache-{where}")
    experiment.run(
        system,
        datasets.load(root / "data"),
        root / f"{where}-{number}",
        seeds=of_round,
        workers=place,
        jobs=jobs,
    )


def drive(root: Path, address: str, seeds: int) -> None:
    """Rounds on the cluster until there is a file that says that it is enough; in a process of its own."""
    number = 0
    while not (root / "enough").exists():
        work(root, Place(address), "ray", number, seeds)
        number += 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--machines", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--drive", nargs=2, metavar=("FOLDER", "ADDRESS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.drive:
        drive(Path(chosen.drive[0]), chosen.drive[1], chosen.seeds)
        return 0
    ray_cluster.load(Place("ray"))
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        machines = ["fan", "pump", "valve", "slider", "gearbox", "bearing", "motor"][: chosen.machines]
        simulate(root / "data", machines=machines, source_clips=20, test_clips=4, seconds=2, workers=2)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        left, watched = {"worker": chosen.kills, "node": chosen.nodes}, Watched(root / "cache-ray")
        begun = time.monotonic()
        command = [sys.executable, __file__, "--seeds", str(chosen.seeds), "--drive", name, cluster.address]
        with subprocess.Popen(command) as driver:
            kill(cluster, driver, left, watched)
            (root / "enough").touch()
            failed = driver.wait()
        watched.look()
        print(f"\nkilled in {time.monotonic() - begun:.0f} s; the driver ended with {failed}")
        cluster.shutdown()
        rounds = len([*root.glob("ray-*")])
        for number in range(rounds):
            work(root, 2, "local", number, chosen.seeds)
        return told(root, rounds, watched) or failed or sum(left.values())


def told(root: Path, rounds: int, watched: Watched) -> int:
    """Compare and print; 1 if anything differs."""
    differing = [
        f"{number}/{name}"
        for number in range(rounds)
        for name, content in files(root / f"local-{number}").items()
        if files(root / f"ray-{number}").get(name) != content
    ]
    here, there = steps(root / "cache-local").keys(), steps(root / "cache-ray").keys()
    print(f"{rounds} rounds, {len(there)} finished steps, the same as by worker processes: {here == there}")
    print(f"files of results that differ: {len(differing)} {differing[:5]}")
    print(f"finished steps that were made again: {len(watched.again)}")
    damaged = Store(root / "cache-ray").verify()
    print(f"damaged embeddings in the store: {len(damaged)}")
    return int(bool(differing or watched.again or damaged or here != there))


if __name__ == "__main__":
    sys.exit(main())
