"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # as the command line does; tests run side by side
os.environ["NEARFAR_WEIGHTS"] = os.devnull + "/no-weights"  # the default system depends on which there are

import numpy as np  # noqa: E402  # reads the variables when it loads
import pytest  # noqa: E402
from _pytest.runner import runtestprotocol  # noqa: E402
from forked_workers import ForkedWorkers  # noqa: E402
from hypothesis import settings  # noqa: E402
from postgres_server import Postgres, running_server  # noqa: E402

from nearfar.files import processes  # noqa: E402
from nearfar.files.extras import MissingPackageError  # noqa: E402

settings.register_profile("nearfar", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("nearfar")
processes.ProcessPoolExecutor = ForkedWorkers

# Without torch (``make newest``) all tests of networks are skipped. With it, nothing here does anything.

HAS_TORCH = importlib.util.find_spec("torch") is not None


class ModuleWithoutTorch(pytest.Module):
    """A module of tests that is skipped if it cannot be imported without torch."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == "torch":
                pytest.skip("needs torch, which is not installed", allow_module_level=True)
            raise


if not HAS_TORCH:

    def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
        return ModuleWithoutTorch.from_parent(parent, path=module_path)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup() -> Generator[None, None, None]:
        yield from _without_torch()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call() -> Generator[None, None, None]:
        yield from _without_torch()


def _without_torch() -> Generator[None, None, None]:
    try:
        yield
    except MissingPackageError as error:
        if error.name == "torch":
            pytest.skip("needs torch, which is not installed")
        raise


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "of each test run only what its first parameters ask for; of one that is marked `newest`, all"
    parser.addoption("--first-of-each", action="store_true", help=told)
    told = "run also what is marked `exhaustive`: measured on more than a change is likely to spoil"
    parser.addoption("--exhaustive", action="store_true", help=told)


@pytest.hookimpl(trylast=True)  # when those that are not asked for are gone
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is alone with one at the end."""
    if not config.getoption("--exhaustive"):
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if config.getoption("--first-of-each"):
        first = {item.nodeid.partition("[")[0]: item for item in reversed(items)}
        kept = {id(item) for item in first.values()}
        others = [item for item in items if id(item) not in kept and not item.get_closest_marker("newest")]
        config.hook.pytest_deselected(items=others)
        left_out = {id(item) for item in others}
        items[:] = [item for item in items if id(item) not in left_out]


class FewMessages:
    """A worker of xdist tells how a test went in two messages, not in six: half of what 12,000 small ones cost.

    Neither that a test begins and ends is sent, nor that its fixtures were set up and torn down well.
    """

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                item.ihook.pytest_runtest_logreport(report=report)
        return True


def pytest_configure(config: pytest.Config) -> None:
    asked_for_more = (config.getoption(name) for name in ("durations", "maxfail", "xmlpath"))
    if hasattr(config, "workerinput") and not any(asked_for_more):
        config.pluginmanager.register(FewMessages())


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Each worker begins to load the tests at another file, so that together they rewrite each file's asserts once.

    It takes longer than all else here where nothing was kept of it, as in a fresh clone. What cannot be loaded is
    told by the collection, which comes to it again.
    """
    config = session.config
    if hasattr(config, "workerinput") and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
        worker, workers = int(config.workerinput["workerid"][2:]), config.workerinput["workercount"]
        begin = worker * len(names) // workers
        with warnings.catch_warnings(action="error"):
            for name in names[begin:] + names[:begin]:
                with contextlib.suppress(Exception, pytest.skip.Exception):
                    importlib.import_module(name)


def pytest_collection_finish() -> None:
    """What stays until the end, a few million objects, is not looked at again by each collection of garbage."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of third-party material that is not part of the project: real weights, data, golden values."""
    folder = Path(os.environ.get("NEARFAR_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs the shared folder (NEARFAR_SHARED or {folder}), which is not here")
    return folder


@pytest.fixture(scope="session")
def motors(shared: Path) -> Path:
    """Real motor faults in two emulated microphones, in the layout of DCASE 2026."""
    return shared / "data" / "motors"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of its own."""
    with running_server() as server:
        yield server


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
