"""Which arithmetic ``precision="auto"`` is: the fastest on this computer, of those that change next to nothing.

Conventions
-----------
An arithmetic is measured once for each encoder (its options, weights, code), processor, number of threads, version
of libraries and class of length, and remembered in the cache: a JSON file for each of these, written whole. What is
damaged, or of others, is measured again. Two processes that measure at the same time do no harm: what is written
last stays.

What is torch alone is measured unasked. Other engines convert a network first, which takes seconds, and a compiler
takes most of a minute. They are measured if the work at hand is ``WORTH`` times as long as that is thought to take,
and taken if they are ahead with what it did take. So what is chosen depends on the work, and a choice is made once,
by the process that knows all of it.

What may be chosen is bounded: by ``LEAST_COSINE`` of embeddings, and by ``MOST_OMEGA_POINTS`` on recordings, where
these have been compared (``note_omega``). This module loads no torch by itself.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from nearfar.encoders.arithmetic import (
    ARITHMETICS,
    LEAST_COSINE,
    MOST_OMEGA_POINTS,
    ArithmeticName,
    EngineName,
)
from nearfar.encoders.processors import processor
from nearfar.files.atomic import write_json
from nearfar.files.digests import digest
from nearfar.files.provenance import code_digest
from nearfar.files.steps import default_cache

if TYPE_CHECKING:
    from nearfar.encoders.frozen import Frozen
    from nearfar.encoders.measuring import Impossible, Measured, Tell

FOLDER = "arithmetics"  # in the cache
FORMAT = 1
LENGTHS = (1.0, 2.0, 5.0, 10.0)  # seconds of clips; longer recordings are mostly heard in windows of 10 s
PATIENCE = 0.4  # seconds that a clip may take in float32; where it takes longer, shorter ones are measured
SHORTENED_TO = 5.0  # seconds; with much shorter ones, what is done once a call would count too much
AHEAD = (
    0.9  # of the time of one that is simpler: else the simpler one is taken, which is the same again tomorrow
)
WORTH = 10.0  # times the preparation
THOUGHT_TO_TAKE: Mapping[
    EngineName, float
] = {  # seconds of preparation of EAT-base, before it has been measured
    "eager": 0.0,
    "onnxruntime": 6.0,
    "openvino": 6.0,
    "compiled": 40.0,
}
LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "openvino")
NOT_MEASURED = ("weights", "precision", "device")  # options that count otherwise, or not

logger = logging.getLogger(__name__)
_one_at_a_time = RLock()  # threads that measured side by side would measure each other


@dataclass(frozen=True, slots=True)
class Work:
    """What an encoder is to hear, roughly.

    Attributes
    ----------
    clips : int
    seconds : float
        Of each.
    """

    clips: int = 1
    seconds: float = 10.0

    @property
    def length(self) -> float:
        """Its class of length, of ``LENGTHS``."""
        return next((length for length in LENGTHS if length >= self.seconds), LENGTHS[-1])


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


def chosen(encoder: Frozen, *, work: Work | None = None, cache: Path | None = None) -> ArithmeticName:
    """The arithmetic that ``precision="auto"`` is, on the device of an encoder.

    On a CUDA device it is bfloat16 where the device has it, else float32. On the processor it is measured, if that
    has not been done.

    Parameters
    ----------
    encoder : Frozen
        Of whatever precision.
    work : Work or None
        That it is to do; ``None``: so little that nothing is worth a preparation.
    cache : Path or None
        Folder where it is remembered; ``None``: the user's cache.

    Raises
    ------
    WeightsError, CheckpointError, ValueError
        If the encoder cannot be computed at all.
    """
    from nearfar.encoders import devices

    if devices.chosen(encoder.device).type != "cpu":
        return unmeasured(encoder)
    work = work or Work()
    with _one_at_a_time:
        remembered = Remembered(encoder, work.length, cache=cache)
        found = remembered.with_missing(candidates(["eager"]), encoder)
        found = remembered.with_missing(candidates(worthwhile(found, work)), encoder)
        return choice(found, work, compared(encoder, cache=cache))


def choice(
    rows: Mapping[ArithmeticName, Measured | Impossible],
    work: Work,
    found: Mapping[str, Compared] | None = None,
) -> ArithmeticName:
    """What "auto" is for some work, of arithmetics that have been measured.

    Parameters
    ----------
    rows : mapping from arithmetic to Measured or Impossible
        What is torch alone among them; of others, those whose preparation the work is not worth have no part.
    work : Work
    found : mapping from arithmetic to Compared, or None
        Omega, as far as it was compared.
    """
    engines = worthwhile(rows, work)
    taken = {name: row for name, row in rows.items() if ARITHMETICS[name].engine in engines}
    return fastest(_allowed(taken, found), work)


def worthwhile(rows: Mapping[ArithmeticName, Measured | Impossible], work: Work) -> list[EngineName]:
    """The engines whose preparation some work is worth; ``rows`` has what is torch alone."""
    eager = {name: row for name, row in rows.items() if ARITHMETICS[name].engine == "eager"}
    quickest = min(_allowed(eager), key=lambda row: row.seconds[1])
    at_work = work.clips * quickest.seconds[1] * work.seconds / quickest.clip_seconds
    return [engine for engine, seconds in THOUGHT_TO_TAKE.items() if at_work >= WORTH * seconds]


def unmeasured(encoder: Frozen) -> ArithmeticName:
    """What "auto" was before it was measured, and is on a GPU: bfloat16 where a device has it, else float32."""
    from nearfar.encoders import devices

    return "bfloat16" if devices.has_bfloat16(devices.chosen(encoder.device)) else "float32"


def fastest(rows: Sequence[Measured], work: Work) -> ArithmeticName:
    """The arithmetic that has done some work first, with its preparation; a simpler one if it is hardly later.

    Parameters
    ----------
    rows : sequence of Measured
        All that may be chosen, float32 among them.
    work : Work

    Examples
    --------
    A preparation of six seconds pays for a thousand clips, but not for ten.

    >>> from nearfar.encoders.choosing import Work, fastest
    >>> from nearfar.encoders.measuring import Measured
    >>> parity = dict(cosine=1.0, least_cosine=1.0, difference=0.0, same_in_batches=True, clip_seconds=10.0)
    >>> rows = [
    ...     Measured("float32", {1: 0.8}, 1.0, 1.0, **parity),
    ...     Measured("float32_openvino", {1: 0.4}, 0.5, 7.0, **parity),
    ... ]
    >>> [fastest(rows, Work(clips=clips)) for clips in (10, 1000)]
    ['float32', 'float32_openvino']
    """
    known = {row.arithmetic: row for row in rows}
    reference = known["float32"]
    a_clip = reference.seconds[1] * work.seconds / reference.clip_seconds
    best, least = reference.arithmetic, math.inf
    for name in ARITHMETICS:  # the simplest first
        if name in known:
            row = known[name]
            extra = max(0.0, row.preparation - reference.preparation)
            taken = extra + work.clips * row.of_float32 * a_clip
            if taken < AHEAD * least:
                best, least = row.arithmetic, taken
    return best


def why_not(row: Measured | Impossible, found: Compared | None = None) -> str:
    """Why an arithmetic may not be chosen without asking; empty if it may.

    Parameters
    ----------
    row : Measured or Impossible
    found : Compared or None
        Its Omega, if that was compared.
    """
    from nearfar.encoders.measuring import Impossible

    if isinstance(row, Impossible):
        return row.why
    if not row.least_cosine >= LEAST_COSINE:
        return f"cosine {row.least_cosine:.5f} is below {LEAST_COSINE}"
    if found is not None and found.is_beyond:
        return f"Omega differs by {found.points:+.2f} points on {found.data}, more than {MOST_OMEGA_POINTS}"
    return ""


def candidates(engines: Collection[EngineName]) -> list[ArithmeticName]:
    """The arithmetics of some engines, as far as what they need is installed."""
    return [a.name for a in ARITHMETICS.values() if a.engine in engines and a.is_installed]


def _allowed(
    rows: Mapping[ArithmeticName, Measured | Impossible], found: Mapping[str, Compared] | None = None
) -> list[Measured]:
    """Those that may be chosen; float32 always."""
    from nearfar.encoders.measuring import Measured

    return [
        row
        for name, row in rows.items()
        if isinstance(row, Measured) and (name == "float32" or not why_not(row, (found or {}).get(name)))
    ]


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

        told = {
            name: row.describe() if isinstance(row, Measured) else {"why": row.why}
            for name, row in {**self.rows, **rows}.items()
        }
        _write(self.file, self.made_of, told)

    def with_missing(
        self, names: Sequence[ArithmeticName], encoder: Frozen, *, tell: Tell | None = None
    ) -> dict[ArithmeticName, Measured | Impossible]:
        """All that is known, once these have been measured, too."""
        from nearfar.encoders.measuring import measure

        known = self.rows
        if missing := [name for name in dict.fromkeys(("float32", *names)) if name not in known]:
            logger.info("measuring %s of %s", ", ".join(missing), self.made_of["encoder"])
            measured = measure(encoder, missing, seconds=_of_patience(encoder, self.length), tell=tell)
            new = {name: row for name, row in measured.items() if name in missing}
            self.add(new)
            known |= new
        return known


def _of_patience(encoder: Frozen, length: float) -> float:
    """The length of clips to measure: of the class, or shorter where a clip would take too long."""
    from nearfar.encoders.measuring import glimpse

    if length <= SHORTENED_TO or length * glimpse(encoder.computing_in("float32")) <= PATIENCE:
        return length
    return SHORTENED_TO


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
    return (default_cache() if cache is None else cache) / FOLDER / f"{digest(content)}.json"


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
