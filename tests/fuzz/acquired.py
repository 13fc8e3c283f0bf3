"""Files of data acquisition: of five libraries, none of which was written for damaged files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import acquisition_files
import numpy as np
from synthetic import RATE, clip

from fuzz.sounds import NAME, OTHERS, USES
from fuzz.surfaces import Surface

NAMES = (NAME, *(f"other{number}" for number in range(OTHERS)))


def _make(suffix: str, write: Callable[..., None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for number, name in enumerate(NAMES):
            near, far = clip(1 + number, seconds=0.2).astype(np.float64)
            write(folder / f"{name}{suffix}", {"near": near, "far": far}, RATE)

    return make


def _counts(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        near, far = (clip(1 + number, seconds=0.2) * 32767).astype(np.int16)
        acquisition_files.daqmx(folder / f"{name}.tdms", {"near": near, "far": far}, RATE, 1e-4, 0.0)


FORMATS = {
    "tdms": _make(".tdms", acquisition_files.tdms),
    "tdms-daqmx": _counts,
    "uff": _make(".uff", acquisition_files.uff),
    "mf4": _make(".mf4", acquisition_files.mdf),
    "mat": _make(".mat", acquisition_files.matlab),
    "mat-7.3": _make(".mat", acquisition_files.matlab73),
    "h5": _make(".h5", acquisition_files.hdf5),
}
SURFACES = tuple(
    Surface(f"acquired-{name}", make, (f"{NAME}.*",), USES, commands=(("check", "."),))
    for name, make in FORMATS.items()
)
