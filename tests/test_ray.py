"""Tasks in a cluster of Ray: the same outcome, lost workers and nodes, GPUs, caches that are not shared."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import synthetic

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

from nearfar.files import extras  # noqa: E402
from nearfar.files.extras import MissingPackageError  # noqa: E402
from nearfar.files.processes import Tell  # noqa: E402
from nearfar.files.steps import DONE, Jobs  # noqa: E402
from nearfar.places import ray_cluster  # noqa: E402
from nearfar.places.place import Needs, Place, PlaceError  # noqa: E402
from nearfar.places.tasks import as_done, cores_of, each  # noqa: E402
from nearfar.recordings import datasets  # noqa: E402
from nearfar.research import experiment  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # what Ray leaves open, and how it compares: none of it is ours
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Any:
    """Of two cores and two GPUs that nobody computes on; it is started by the first test."""
    patch = pytest.MonkeyPatch()
    for variable in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        patch.delenv(variable, raising=False)
    patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
    place = Place("ray", 2)
    init = ray.init
    patch.setattr(ray, "init", lambda **options: init(num_gpus=2, **options))
    ray_cluster.connect(ray_cluster.load(place), place)
    patch.setattr(ray, "init", init)
    yield place
    ray.shutdown()
    patch.undo()


def double(item: int, tell: Tell) -> int:
    tell("doubling", item)
    return 2 * item


def slow(item: int, tell: Tell) -> int:
    for step in range(4):
        time.sleep(0.1)
        tell("slowly", item, step)
    return item


def killed_twice(item: tuple[Path, int], _: Tell) -> int:
    folder, number = item
    marks = len([*folder.glob(f"{number}-*")])
    (folder / f"{number}-{marks}").touch()
    if number == 1 and marks < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return marks


def kill_oneself(_: int, __: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_at_odd(item: int, _: Tell) -> int:
    logging.getLogger("nearfar.here").warning("strange %d", item)
    if item % 2:
        raise ValueError(f"{item} is odd")
    return item


def who(_: int, __: Tell) -> tuple[int, str]:
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "")


def size(item: Path, _: Tell) -> int:
    return item.stat().st_size


def make_a_step(item: int, _: Tell) -> Path:
    def make(folder: Path) -> None:
        (folder / "by").write_text(str(os.getpid()))

    return Jobs().do("ray-test", {"item": item}, make, made_by=["nearfar.files.names"]) / "by"


def test_outcomes_come_in_order_and_all_that_is_told_arrives(cluster: Place) -> None:
    told: list[tuple[Any, ...]] = []
    finished: list[tuple[int, int]] = []
    found = each(
        double,
        range(20),
        workers=cluster,
        tell=lambda *m: told.append(m),
        finished=lambda *c: finished.append(c),
    )
    assert found == [*range(0, 40, 2)]
    assert sorted(told) == [("doubling", item) for item in range(20)]
    assert finished == [(number, 20) for number in range(1, 21)]


def test_a_breakpoint_stays_that_of_the_user(cluster: Place) -> None:
    assert each(double, [1], workers=cluster) == [2]
    assert "PYTHONBREAKPOINT" not in os.environ  # else all that is started later inherits Ray's


def test_what_long_tasks_tell_arrives_in_order(cluster: Place) -> None:
    told: list[tuple[Any, ...]] = []
    each(slow, range(3), workers=cluster, tell=lambda *m: told.append(m))
    for item in range(3):
        assert [step for _, of, step in told if of == item] == [0, 1, 2, 3]


def test_a_task_that_fails_does_not_end_the_others(
    cluster: Place, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="1 is odd") as raised:
        each(fail_at_odd, range(3), workers=cluster, named=lambda i: f"number {i}", cache=tmp_path)
    assert raised.value.__notes__ == ["number 1"]
    assert {"strange 0", "strange 1", "strange 2"} <= {record.getMessage() for record in caplog.records}
    log = (tmp_path / "logs" / "test_ray" / "number_1.log").read_text()
    assert "WARNING nearfar.here: strange 1" in log
    assert "ValueError: 1 is odd" in log
    assert not [*tmp_path.glob(".driver-*")]


def test_the_task_of_a_worker_that_was_killed_runs_again(cluster: Place, tmp_path: Path) -> None:
    assert each(killed_twice, [(tmp_path, number) for number in range(3)], workers=cluster) == [0, 2, 0]


def test_a_task_that_kills_its_workers_is_told(
    cluster: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nearfar.places.tasks.MOST_KILLED", 2)
    with pytest.raises(OSError, match="its worker process was killed 2 times"):
        each(kill_oneself, [1], workers=cluster)
    time.sleep(1)  # what its processes report comes later
    assert capfd.readouterr() == ("", "")


def test_a_cluster_that_is_lost_is_told_as_that(cluster: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ray_cluster.RayCluster(cluster, None, lambda *_: None)
    gone = ray.exceptions.NodeDiedError("gone")
    assert engine.is_lost(gone)
    monkeypatch.setattr(ray_cluster, "_slots_of_all", lambda *_: 0)
    with pytest.raises(PlaceError, match="the cluster ray is lost; run the same command again"):
        engine.is_lost(gone)


def test_what_nobody_has_is_told_at_once(cluster: Place) -> None:
    needy = Place("ray", 2, Needs(cores=64, memory=2**60))
    with pytest.raises(PlaceError, match=r"no computer of the cluster ray has 64 cores, 1\.07e\+09 GiB"):
        each(double, [1, 2], workers=needy)
    assert cluster.address == "ray"


def test_cores_of_a_cluster_are_counted(cluster: Place) -> None:
    assert cores_of(cluster) == cores_of(Place("auto")) == 2
    assert cores_of(Place("auto", needs=Needs(cores=2))) == 1


def test_one_process_is_in_one_cluster(cluster: Place) -> None:
    with pytest.raises(PlaceError, match="this process is in a cluster already; 'auto' takes that one"):
        each(double, [1], workers=Place("127.0.0.1:6379"))
    assert each(double, [1], workers=Place("auto")) == [2]
    assert cluster.is_cluster


def test_a_recording_that_is_gone_fails_its_task_alone(
    cluster: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [tmp_path / f"{number}.wav" for number in range(3)]
    for number, clip in enumerate(clips):
        clip.write_bytes(bytes(number))
    pack = ray_cluster.pack

    def packed(content: Any, *, names: list[str], **options: Any) -> bytes:
        found = pack(content, names=names, **options)
        if str(clips[1]) in names:
            clips[1].unlink()
        return found

    monkeypatch.setattr(ray_cluster, "pack", packed)
    done: list[tuple[int, int]] = []
    with pytest.raises(OSError, match=r"the driver: FileNotFoundError: .*1\.wav"):
        done.extend(as_done(size, clips, workers=cluster))
    assert sorted(done) == [(0, 0), (2, 2)]


def test_another_version_is_refused(cluster: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.__version__", "0.0.0")
    with pytest.raises(PlaceError, match=r"has another nearfar \(.*\) than the computer that sent the task"):
        each(double, [1, 2], workers=cluster)


def test_a_cache_that_is_not_shared_gets_all_steps(
    cluster: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unseen(self: Any) -> None:
        (self._cache / self._mark).unlink()

    enter = ray_cluster.RayCluster.__enter__
    monkeypatch.setattr(ray_cluster.RayCluster, "__enter__", lambda self: (enter(self), unseen(self))[0])
    found = each(make_a_step, range(3), workers=cluster, cache=tmp_path)
    assert [path.parents[4] for path in found] == [tmp_path] * 3
    assert all(path.read_text().isdigit() and (path.parent / DONE).is_file() for path in found)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("data")
    for name in ("fan", "pump"):
        synthetic.write_machine(root, name, train=20, target=2, test=4)
    return datasets.load(root)


def test_a_run_has_the_same_bytes(cluster: Place, data: Any, tmp_path: Path) -> None:
    folders = []
    for name, place in (("local", 1), ("ray", cluster)):
        jobs = Jobs(tmp_path / f"cache-{name}")
        experiment.run("spectral", data, tmp_path / name, seeds=(1, 2), workers=place, jobs=jobs)
        folders.append(tmp_path / name)
    first, second = (
        {p.relative_to(f): p.read_bytes() for p in sorted(f.rglob("*")) if p.is_file()} for f in folders
    )
    assert first.keys() == second.keys()
    differing = [str(name) for name in first if first[name] != second[name]]
    assert not differing, json.dumps(differing)
    steps = [sorted(p.parent.name for p in (tmp_path / f"cache-{n}").rglob(DONE)) for n in ("local", "ray")]
    assert steps[0] == steps[1]


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_: str) -> None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(extras.pkgutil, "resolve_name", hidden)
    with pytest.raises(MissingPackageError, match=r"place 'ray' needs ray, .* pip install 'nearfar\[ray\]'"):
        each(double, [1, 2], workers=Place("ray"))


def test_what_needs_a_gpu_is_done_by_processes_that_stay(cluster: Place) -> None:
    with_gpu = Place("ray", 2, Needs(cores=0.5, gpus=0.5))
    found = each(who, range(12), workers=with_gpu)
    assert len({process for process, _ in found}) == len(set(found)) <= 4
    assert {gpu for _, gpu in found} <= {"0", "1"}
    assert {gpu for _, gpu in each(who, range(2), workers=cluster)} == {""}


def test_a_process_with_a_gpu_that_was_killed_is_replaced(cluster: Place, tmp_path: Path) -> None:
    with_gpu = Place("ray", 2, Needs(gpus=1))
    found = each(killed_twice, [(tmp_path, number) for number in range(4)], workers=with_gpu)
    assert found[1] == 2
    assert max(found) <= 2  # an outcome that was under way when its process was killed is made again
    assert cluster.is_cluster


INTERRUPTED = """
import os, sys, time
from pathlib import Path
from nearfar.places.place import Place
from nearfar.places.tasks import cores_of, each

def work(item, tell):
    (Path(item[1]) / str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    each(work, [(i, sys.argv[1]) for i in range(4)], workers=Place("ray", 2))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_that_was_started_outlives_the_command(tmp_path: Path, number: int) -> None:
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(INTERRUPTED)
    marks.mkdir()
    before = _raylets(os.getpid())
    process = subprocess.Popen(
        [sys.executable, script, marks], stderr=subprocess.PIPE, preexec_fn=_hear_ctrl_c
    )
    try:
        assert _wait(lambda: len([*marks.iterdir()]) >= 2, 90)
        started = _raylets(process.pid)
        assert started
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    workers = [int(path.name) for path in marks.iterdir()]
    assert _wait(lambda: not any(_lives(one) for one in (*workers, *started)), 60)
    assert before == _raylets(os.getpid())  # those of others are left alone


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _raylets(driver: int) -> set[int]:
    """The processes of a cluster that this one has started."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes()
            parent = int(place.with_name("stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == driver and command.split(b"\0")[0].endswith((b"/raylet", b"/gcs_server")):
            found.add(int(place.parent.name))
    return found


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait(condition: Any, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return False
