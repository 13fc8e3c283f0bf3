"""The page of promises names tests that exist; and what no other test holds of it."""

from __future__ import annotations

import ast
import io
import os
import pickle
import re
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import write_machine

from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.places import ray_cluster
from nearfar.places.place import Place
from nearfar.recordings import datasets
from nearfar.research import experiment
from nearfar.systems import configuration

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "promises.md"
SOURCE = ROOT / "src" / "nearfar"
TEST = re.compile(r"`(tests/test_\w+\.py)::(?:(\w+)::)?(\w+)`")
PROMISED = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
ROWS = [line for line in PROMISED if not line.startswith("| promise |")]

PICKLING = {
    "encoders/checkpoints.py", "places/ray_cluster.py", "places/tasks.py", "places/travelling.py",
    "recordings/apart.py",
}  # fmt: skip
LOADS = {
    "places/tasks.py",
    "places/travelling.py",
    "recordings/apart.py",
}  # what our own processes have packed
CONNECTING = {  # modules by which a connection can be opened, and who imports them
    "files/downloads.py": "weights get, data download",
    "places/ray_cluster.py": "--on",
    "recordings/apart.py": "none: it has a pair of sockets, for a process that it starts",
    "serving/protocol.py": "serve",
    "serving/run.py": "serve",
    "watching/sinks/mqtt.py": "watch, if the site's file names a broker",
    "watching/sinks/webhook.py": "watch, if the site's file names an address",
    "watching/sources/network.py": "watch, if the site's file names a port",
}
# and a database that is not a file, which sqlalchemy reaches where its URL is given
NETWORK = {
    "ftplib",
    "http.client",
    "httpx",
    "paho",
    "ray",
    "requests",
    "smtplib",
    "socket",
    "urllib.request",
    "uvicorn",
}


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of the package by its path."""
    paths = sorted(SOURCE.rglob("*.py"))
    return {
        path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths
    }


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Calls of what is written as ``name.attribute``."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                yield f"{module}.{name}", node


@cache
def functions_of(file: str) -> set[tuple[str, str]]:
    """Classes and functions; the class is empty outside of any."""
    found = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        of = node.body if isinstance(node, ast.ClassDef) else [node]
        name = node.name if isinstance(node, ast.ClassDef) else ""
        found |= {(name, each.name) for each in of if isinstance(each, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_promise_is_held_by_tests_that_exist(row: str) -> None:
    named = TEST.findall(row)
    assert named
    for file, group, name in named:
        assert (group, name) in functions_of(file), f"{file}::{name}"


def test_pickle_is_used_between_our_own_processes_alone() -> None:
    users = {
        path for path, tree in trees().items() if {"pickle", "cloudpickle", "joblib"} & {*imported(tree)}
    }
    assert users == PICKLING
    for path, tree in trees().items():
        for name, call in calls(tree):
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
            assert name not in {"pickle.load", "pickle.loads"} or path in LOADS, path
            assert name != "torch.load" or given.get("weights_only") is True, path
            assert not given.get("allow_pickle"), path


def is_pickle(content: bytes) -> bool:
    """Whether it can be loaded as one; nothing in it is executed."""

    class Harmless(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise AttributeError(f"{module}.{name}")

    try:
        Harmless(io.BytesIO(content)).load()
    except AttributeError:
        return True
    except Exception:  # of bytes that are none, whatever pickle makes of them
        return False
    return True


def refused(*_: Any, **__: Any) -> None:
    raise AssertionError("a connection")


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hall")
    write_machine(root, "fan", train=8, target=4, test=1, seconds=0.5)
    return root


@pytest.fixture(scope="module")
def cache_of_a_run(hall: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made without a network: any connection is an error."""
    folder = tmp_path_factory.mktemp("run")
    system = configuration.load("spectral", {"threshold.method": "gamma"})
    data = datasets.load(hall)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "bind", "sendto"):
            patch.setattr(socket.socket, name, refused)
        patch.setattr(socket, "getaddrinfo", refused)
        experiment.run(system, data, folder / "out", jobs=Jobs(folder / "cache"))
        detector = Detector.fit(data["fan"], system, jobs=Jobs(folder / "cache"))
        detector.save(folder / "cache" / "detector")
        verdict = Detector.load(folder / "cache" / "detector").score(data["fan"].test[0].path)
    assert verdict.score is not None
    return folder / "cache"


def test_fit_score_and_run_open_no_connection(cache_of_a_run: Path) -> None:
    assert list(cache_of_a_run.glob("jobs/scores/*/*/scores.csv"))


def test_nothing_of_a_cache_is_a_pickle(cache_of_a_run: Path) -> None:
    files = [path for path in cache_of_a_run.rglob("*") if path.is_file() and path.suffix != ".f32"]
    assert len(files) > 5
    assert not [path for path in files if is_pickle(path.read_bytes())]
    assert is_pickle(pickle.dumps(Path("x")))
    assert is_pickle(pickle.dumps([1, 2]))


def test_only_these_modules_can_open_a_connection() -> None:
    users = {path for path, tree in trees().items() if NETWORK & {*imported(tree)}}
    users |= {
        path for path, tree in trees().items() if any(name.split(".")[0] == "paho" for name in imported(tree))
    }
    assert users == set(CONNECTING)


def test_a_conversion_of_a_network_sends_no_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = pytest.importorskip("openvino_telemetry")
    torch = pytest.importorskip("torch")
    from nearfar.encoders.arithmetic import ARITHMETICS
    from nearfar.encoders.engines.layers import Layers
    from nearfar.encoders.engines.open_vino import OpenVino

    def sent(*_: Any, **__: Any) -> None:
        raise AssertionError("OpenVINO tells its maker of a conversion")

    class Doubled(torch.nn.Module):  # type: ignore[misc, name-defined]
        def outputs(self, spectrogram: Any, blocks: tuple[int, ...]) -> list[Any]:
            return [2 * spectrogram for _ in blocks]

    monkeypatch.setattr(telemetry, "Telemetry", sent)
    given = torch.ones(1, 3, 4)
    made = OpenVino(Doubled(), ARITHMETICS["float32_openvino"]).made(Layers(Doubled(), (1,)), given)
    assert torch.equal(made(given)[0], 2 * given)


def test_a_cluster_of_ours_sends_no_statistics_and_has_a_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a Ray that only notes what it is asked for."""
    begun: dict[str, Any] = {}
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **options: begun.update(options, statistics=os.environ[ray_cluster.USAGE_STATS]),
        exceptions=SimpleNamespace(RayError=OSError),
        _private=SimpleNamespace(worker=SimpleNamespace()),
    )
    for name in (ray_cluster.USAGE_STATS, ray_cluster.AUTH_TOKEN, ray_cluster.AUTH_TOKEN_PATH):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ray_cluster, "_connected", None)
    monkeypatch.setattr(ray_cluster, "resolve", lambda *_, **__: ray)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv(ray_cluster.AUTH_MODE, "token")
    place = Place("ray", workers=2)
    ray_cluster.connect(ray_cluster.load(place), place)
    assert begun["statistics"] == "0"
    assert begun["address"] == "local"
    assert len(os.environ[ray_cluster.AUTH_TOKEN]) == 64
    assert os.environ[ray_cluster.AUTH_MODE] == "token"
