"""Export: a detector becomes one file that ONNX Runtime runs, compared with the detector before it is written.

What the file leaves out is told: it judges samples, as they are. It does not look for faults of a recording, cut
long recordings into windows, resample, or choose channels. The runner beside it cuts and chooses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nearfar.detector.fitted import Detector
from nearfar.encoders.graphs import OPSET
from nearfar.export import chain, parity
from nearfar.export.encoder_graphs import Arithmetic
from nearfar.export.parity import Parity
from nearfar.export.runner import NAME as RUNNER
from nearfar.export.runner import write_runner
from nearfar.files.atomic import atomic_file, refuse_file
from nearfar.files.digests import digest_bytes

SUFFIX = ".onnx"
LEFT_OUT = (
    "faults of the recording are not looked for: a silent or clipped microphone gets a score",
    "nothing is resampled: samples are at the detector's rate",
    "long recordings are not cut into windows",
    "channels are not chosen: they come in the order near, far",
)


@dataclass(frozen=True, slots=True)
class Exported:
    """A detector that was exported.

    Attributes
    ----------
    path, runner : Path
        Of the file; of the runner beside it.
    machine, system : str
        As of the detector.
    opset, nodes, size : int
        Of the graph; bytes of the file.
    rate, channels : int
        Of what it takes.
    samples : int or None
        Of what it takes; ``None``: any number, from ``least_samples`` on.
    least_samples : int
    arithmetic : {"float32", "int8"}
    digest : str
        SHA-256 of the file.
    parity : Parity
        How it differs from the detector.
    notices : tuple of str
        On the licences of weights that the file holds.
    left_out : tuple of str
        What a detector does, and the file does not.
    """

    path: Path
    runner: Path
    machine: str
    system: str
    opset: int
    nodes: int
    size: int
    rate: int
    channels: int
    samples: int | None
    least_samples: int
    arithmetic: Arithmetic
    digest: str
    parity: Parity
    notices: tuple[str, ...] = ()
    left_out: tuple[str, ...] = LEFT_OUT

    def contents(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        compared = self.parity
        largest = compared.largest_p_value
        told = {
            "bound": compared.bound,
            "own_clips": compared.own,
            "made_sounds": len(compared.heard) - compared.own,
            "unscored": list(compared.unscored),
            "largest_score_difference": compared.largest_score,
            "largest_score_difference_of_silence": compared.largest_score_of_silence,
            "largest_p_value_difference": None if largest != largest else largest,
            "changed_decisions": compared.changed_decisions,
        }
        paths = {"path": str(self.path), "runner": str(self.runner)}
        beside = paths | {"notices": list(self.notices), "left_out": list(self.left_out)}
        return asdict(self) | beside | {"parity": told}


def export(
    detector: Detector,
    path: Path | str,
    *,
    seconds: float | Literal["any"] | None = None,
    arithmetic: Arithmetic = "float32",
    replace: bool = False,
) -> Exported:
    """Write a detector as one ONNX file, if it says what the detector says, and the runner beside it.

    Parameters
    ----------
    detector : Detector
    path : Path or str
        A name that ends in ``.onnx``.
    seconds : float, "any" or None
        How long the recordings are that it will take. "any": of any length. ``None``: of any length if its networks
        allow it, else as long as the clips of the fit.
    arithmetic : {"float32", "int8"}
        Of networks. "int8": their matrix products are in integers; how far scores then differ is told, and not
        bounded. ``export.labelled`` tells what that costs on labelled clips.
    replace : bool
        Replace a file that is there.

    Returns
    -------
    Exported

    Raises
    ------
    ValueError
        If a part of the detector is not exported, or not for this length.
    ParityError
        If the exported file, in float32, differs from the detector. Nothing is written then.
    FileExistsError
        If the file is there, unless ``replace``.
    MissingPackageError
        If a network is exported, and torch is not installed.
    """
    path = Path(path)
    refuse(path, replace=replace)
    samples = samples_of(detector, seconds)
    model = chain.detector_model(detector, samples=samples, arithmetic=arithmetic)
    content = model.SerializeToString(deterministic=True)
    compared = parity.compared(detector, content, samples=samples)
    if arithmetic == "float32":
        compared.require(_remedy(detector))
    runner = write_runner(path.parent)  # first: without the file it does no harm
    with atomic_file(path) as part:
        part.write_bytes(content)
    return _exported(detector, path, runner, model, content, compared, samples, arithmetic)


def _exported(
    detector: Detector,
    path: Path,
    runner: Path,
    model: Any,
    content: bytes,
    compared: Parity,
    samples: int | None,
    arithmetic: Arithmetic,
) -> Exported:
    """What was written."""
    return Exported(
        path,
        runner,
        detector.machine,
        detector.system.name,
        opset=OPSET,
        nodes=len(model.graph.node),
        size=len(content),
        rate=detector.sample_rate,
        channels=chain.channels(detector),
        samples=samples,
        least_samples=chain.least_samples(detector),
        arithmetic=arithmetic,
        digest=digest_bytes(content),
        parity=compared,
        notices=chain.weights_notices(detector),
    )


def _remedy(detector: Detector) -> str:
    """What to do if the file says something else; the file computes in float32."""
    computed = (b.encoder.options.arguments().get("precision", "float32") for b in detector.system.branches)
    others = sorted({*computed} - {"float32"})
    if not others:
        return ""
    return (
        f"; the detector computes in {', '.join(others)}, and the file in float32: fit it with "
        "branch.encoder_options.precision=float32 to export it"
    )


def refuse(path: Path, *, replace: bool) -> None:
    """Raise before long work whose outcome would have no place.

    Raises
    ------
    ValueError, IsADirectoryError, FileExistsError, PermissionError, NotADirectoryError
        As of ``files.atomic.refuse_file``.
    """
    refuse_file(path, SUFFIX, "an exported detector", replace=replace)
    if (beside := path.parent / RUNNER).is_dir():
        raise IsADirectoryError(f"{beside} is a folder, and the runner's place; move it, or export elsewhere")


def samples_of(detector: Detector, seconds: float | Literal["any"] | None) -> int | None:
    """Of the recordings that the file takes; ``None``: any number."""
    if seconds == "any" or (seconds is None and chain.takes_any_length(detector)):
        return None
    chosen = detector.window_seconds if seconds is None else float(seconds)
    samples = round(chosen * detector.sample_rate)
    if samples < (least := chain.least_samples(detector)):
        raise ValueError(
            f"seconds={chosen:g}: the detector needs at least {least / detector.sample_rate:.3f} s "
            f"({least} samples at {detector.sample_rate} Hz)"
        )
    return samples
