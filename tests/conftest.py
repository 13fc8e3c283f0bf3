"""Fixtures that every test may use."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # as the command line does; tests run side by side
os.environ["NEARFAR_WEIGHTS"] = os.devnull + "/no-weights"  # the default system depends on which there are
# Nothing of the user's is used, and nothing is left there
_cache = TemporaryDirectory(prefix="nearfar-test-cache-", ignore_cleanup_errors=True)
os.environ["NEARFAR_CACHE"] = _cache.name

import numpy as np  # noqa: E402  # reads the variables when it loads
import pytest  # noqa: E402
import typer.main  # noqa: E402
import typer.testing  # noqa: E402
from forked_workers import ForkedWorkers  # noqa: E402
from hypothesis import settings  # noqa: E402
from postgres_server import Postgres, running_server  # noqa: E402

from nearfar.files import processes  # noqa: E402
from nearfar.files.extras import MissingPackageError  # noqa: E402

settings.register_profile("nearfar", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("nearfar")
processes.ProcessPoolExecutor = ForkedWorkers
# A process of ours runs one command. In a test that runs several, the options of all commands are read once
typer.testing._get_command = typer.main.get_command = functools.cache(typer.main.get_command)

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


def pytest_unconfigure() -> None:
    _cache.cleanup()


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
