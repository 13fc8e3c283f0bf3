"""The processor of this computer, and those of its instruction sets by which networks get faster."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # of Linux, the one system that tells all instruction sets in a file
FLAGS = ("flags", "Features")  # the line that lists them: on x86, on ARM
NAMES = ("model name", "Model", "CPU implementer")  # the line that names the processor, the best first
SETS = (  # as Linux calls them: what multiplies in float32, bfloat16 or 8-bit integers
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
    "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Processor:
    """What computes here.

    Attributes
    ----------
    name : str
    instruction_sets : tuple of str
        Of ``SETS``; empty where the operating system does not tell them.
    cores : int
        That this process may use.
    """

    name: str
    instruction_sets: tuple[str, ...]
    cores: int

    def __str__(self) -> str:
        told = " ".join(self.instruction_sets) or "instruction sets unknown"
        return f"{self.name} ({told}; {self.cores} cores)"


@cache
def processor() -> Processor:
    """The processor of this computer."""
    told = _told(CPUINFO)
    names = (told[line] for line in NAMES if told.get(line))
    flags = {flag for line in FLAGS for flag in told.get(line, "").split()}
    return Processor(
        next(names, platform.processor() or platform.machine()),
        tuple(name for name in SETS if name in flags),
        _cores(),
    )


def _told(file: Path) -> dict[str, str]:
    """The lines about the first processor, by what stands before the colon; nothing where there is no such file."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for name, colon, value in (line.partition(":") for line in lines):
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every operating system
        return os.cpu_count() or 1
