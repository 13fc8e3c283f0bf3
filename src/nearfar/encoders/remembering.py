"""What was measured of frozen encoders on this computer, in the cache.

A JSON file holds what was measured of one encoder (its options, weights, code), with one processor, number of
threads, class of length and versions of libraries. Another one holds how far Omega was from float32 on recordings.
Files are written whole. What is damaged, or of others, counts as absent. Two processes that write at the same time
do no harm: what is written last stays.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfar.encoders.arithmetic import ARITHMETICS, MOST_OMEGA_POINTS, ArithmeticName
from nearfar.encoders.processors import processor
from nearfar.files.atomic import write_json
from nearfar.files.cache_files import MEASURED
from nearfar.files.digests import digest
from nearfar.files.provenance import code_digest
from nearfar.files.steps import default_cache

if TYPE_CHECKING:  # they load torch
    from nearfar.encoders.frozen import Frozen
    from nearfar.encoders.measuring import Impossible, Measured

FORMAT = 1
LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "openvino")
NOT_MEASURED = ("weights", "precision", "device")  # options that count otherwise, or not

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compared:
    """Omega in an arithmetic, on recordings whose labels are known.

    Attributes
    ----------
    points : float
        Percent, above float32 if positive.
    data : str
        What it was compared on.
    clips : int
        That were scored.
    """

    points: float
    data: str
    clips: int

    @property
    def is_beyond(self) -> bool:
        """Whether it is too far from float32 to be chosen without asking."""
        return abs(self.points) > MOST_OMEGA_POINTS


class Remembered:
    """What was measured of an encoder on this computer, in a file of the cache.

    Parameters
    ----------
    encoder : Frozen
    length : float
        Of ``LENGTHS``.
    threads : int or None
        ``None``: as many as torch has now.
    cache : Path or None
        ``None``: the user's cache.
    """

    def __init__(
        self, encoder: Frozen, length: float, *, threads: int | None = None, cache: Path | None = None
    ) -> None:
        import torch

        self.length = length
        self.made_of = {
            **_identity(encoder),
            "processor": processor().name,
            "instruction_sets": list(processor().instruction_sets),
            "threads": threads or torch.get_num_threads(),
            "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
            "seconds": length,
        }
        self.file = _place(self.made_of, cache)

    @property
    def rows(self) -> dict[ArithmeticName, Measured | Impossible]:
        """All that is known; nothing of a file that is damaged or of others."""
        from nearfar.encoders.measuring import Impossible, Measured

        told = _read(self.file, self.made_of)
        found: dict[ArithmeticName, Measured | Impossible] = {}
        for name in ARITHMETICS.keys() & told.keys():
            try:
                why = told[name].get("why")
                row = Impossible(ARITHMETICS[name].name, why) if why else Measured.restore(told[name])
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            found[row.arithmetic] = row
        return found

    def add(self, rows: Mapping[ArithmeticName, Measured | Impossible]) -> None:
        """Remember rows, in place of those before; a folder that cannot be written to is told, and no error."""
        from nearfar.encoders.measuring import Measured

        told: dict[str, Any] = {
            name: row.describe() if isinstance(row, Measured) else {"why": row.why}
            for name, row in {**self.rows, **rows}.items()
        }
        _write(self.file, self.made_of, told)


def compared(encoder: Frozen, *, cache: Path | None = None) -> dict[str, Compared]:
    """How far Omega was from float32 in each arithmetic, as far as it was compared; the farthest, if several times.

    Parameters
    ----------
    encoder : Frozen
        Its weights count, and not its other options.
    cache : Path or None
        As of ``chosen``.
    """
    content = _of_omega(encoder)
    found: dict[str, Compared] = {}
    for name, by_data in _read(_place(content, cache), content).items():
        try:
            rows = [Compared(float(r["points"]), str(r["data"]), int(r["clips"])) for r in by_data.values()]
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if rows:
            found[name] = max(rows, key=lambda row: abs(row.points))
    return found


def note_omega(
    encoder: Frozen, rows: Mapping[ArithmeticName, Compared], *, of: str, cache: Path | None = None
) -> None:
    """Remember how far Omega is from float32, in place of what was found on the same data.

    Parameters
    ----------
    encoder : Frozen
    rows : mapping from arithmetic to Compared
    of : str
        Digest of the data.
    cache : Path or None
    """
    content = _of_omega(encoder)
    file = _place(content, cache)
    told = _read(file, content)
    for name, row in rows.items():
        of_one = told.get(name)
        told[name] = {
            **(of_one if isinstance(of_one, dict) else {}),
            of: {"points": row.points, "data": row.data, "clips": row.clips},
        }
    _write(file, content, told)


def _identity(encoder: Frozen) -> dict[str, Any]:
    """What of an encoder is measured: class, code, weights, adapter and options."""
    kind = type(encoder)
    names = [name for name in inspect.signature(kind).parameters if name not in NOT_MEASURED]
    return {
        "encoder": f"{kind.__module__}:{kind.__qualname__}",
        "code": code_digest("nearfar.encoders.frozen", kind.__module__),
        "options": {
            name: json.loads(json.dumps(getattr(encoder, name, None), default=str)) for name in names
        },
        "weights": [encoder.digest, encoder.adapter_digest],
    }


def _of_omega(encoder: Frozen) -> dict[str, Any]:
    """By what the comparisons of Omega are kept."""
    kind = type(encoder)
    return {
        "omega": f"{kind.__module__}:{kind.__qualname__}",
        "code": code_digest("nearfar.encoders.frozen", kind.__module__),
        "weights": encoder.digest,
        "processor": processor().name,
        "instruction_sets": list(processor().instruction_sets),
    }


def _place(content: Mapping[str, Any], cache: Path | None) -> Path:
    return (default_cache() if cache is None else cache) / MEASURED / f"{digest(content)}.json"


def _read(file: Path, made_of: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of a file, if it is whole and what it should be; else none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = content["rows"]
        whole = content["format"] == FORMAT and content["digest"] == digest([content["made_of"], rows])
        return dict(rows) if whole and content["made_of"] == made_of else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(file: Path, made_of: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
    try:
        write_json(
            file, {"format": FORMAT, "made_of": made_of, "rows": rows, "digest": digest([made_of, rows])}
        )
    except OSError as error:
        logger.warning("what was measured cannot be remembered, and will be measured again: %s", error)


def _version(distribution: str) -> str:
    """Empty if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
