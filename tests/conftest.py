"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # as the command line does; tests run side by side

import numpy as np  # noqa: E402  # reads the variables when it loads
import pytest  # noqa: E402


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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
