"""What the arithmetic of an encoder does to a detector: Omega on recordings, beside that in float32.

The detector is that of the system mn04, with the encoder that is asked about: the mean over time of its tokens, and
Mahalanobis distances by domain, of the near microphone after cancellation where there is a far one. It is fitted to
the training clips of each machine, once for each arithmetic, and scores the test clips. Where a data set tells no
labels of test clips, faults are planted into half of the normal clips (``planting``).

A network hears every clip once in each arithmetic. So of each machine there are bounds to how many clips it hears.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from nearfar.encoders.arithmetic import ArithmeticName
from nearfar.encoders.pretrained import PRETRAINED
from nearfar.encoders.remembering import Compared
from nearfar.evaluation.metrics import clip_table, evaluate, omega
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.clips import Dataset, Machine
from nearfar.recordings.recording import digests
from nearfar.research.planting import evenly, planted
from nearfar.systems import configuration
from nearfar.systems.branches import Branch, Progress, attributes, domains
from nearfar.systems.configuration import System
from nearfar.systems.named import SEED
from nearfar.systems.resolved import resolve

SYSTEM = "mn04"
REFERENCE: ArithmeticName = "float32"
MOST = 100  # test clips of a machine, of each label; and twice as many training clips, as of ``planting``
WITH_LABELS, PLANTED = "labels", "planted"
PERCENT = 100


@dataclass(frozen=True)
class Comparison:
    """Omega in several arithmetics, on the same clips.

    Attributes
    ----------
    data : str
        Name of the data set.
    labels : {"labels", "planted"}
        Where anomalies come from: the data set tells them, or they were planted into normal clips.
    machines, fitted, scored : int
        How many machines, training clips and test clips.
    there_are : int
        Clips of these machines: those that were not heard, too.
    view : str
    omega : mapping from arithmetic to float
        As a fraction.
    digest : str
        Of all clips.
    """

    data: str
    labels: str
    machines: int
    fitted: int
    scored: int
    there_are: int
    view: str
    omega: Mapping[ArithmeticName, float]
    digest: str

    @property
    def compared(self) -> dict[ArithmeticName, Compared]:
        """The difference of each arithmetic from float32."""
        exact = self.omega[REFERENCE]
        return {
            name: Compared(PERCENT * (value - exact), f"{self.data} ({self.labels})", self.scored)
            for name, value in self.omega.items()
            if name != REFERENCE
        }


def compare(
    weights: str,
    dataset: Dataset,
    arithmetics: Sequence[ArithmeticName],
    *,
    most: int = MOST,
    workers: int = 1,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Fit and score with an encoder in several arithmetics.

    Parameters
    ----------
    weights : str
        Of ``pretrained.PRETRAINED``.
    dataset : Dataset
        Machines with training clips. If all their test clips have a label, and there are normal and anomalous ones
        of each machine, these are scored; else faults are planted into half of the training clips.
    arithmetics : sequence of str
        Beside float32.
    most : int
        Test clips of each label of a machine that are scored; twice as many training clips are fitted to. Where
        faults are planted, ``planting`` has bounds of its own.
    workers : int
        Threads that read recordings and compute.
    jobs : Jobs or None
        Where embeddings are kept; ``None``: the user's cache.
    progress : callable or None
        Called with ("ARITHMETIC (1 of 5), MACHINE", recordings done, all).

    Raises
    ------
    WeightsError
        If the weights are not here.
    DatasetError
        If recordings cannot be used, or are too few.
    """
    jobs = jobs or Jobs()
    has_labels = all(_tells_labels(machine) for machine in dataset)
    with TemporaryDirectory(prefix="nearfar-planted-") as folder:
        judged = _bounded(dataset, 2 * most, most) if has_labels else planted(dataset, Path(folder))
        view = "cancelled_3taps" if _channels(judged) > 1 else "near"
        clips = clip_table(clip for machine in judged for clip in machine.test)
        found = {}
        names = [*dict.fromkeys((REFERENCE, *arithmetics))]
        for number, name in enumerate(names, start=1):
            system, told = _system(weights, name, view), f"{name} ({number} of {len(names)})"
            scores = [_scores(system, m, told, workers, jobs, progress) for m in judged]
            found[name] = omega(evaluate(clips, pd.concat(scores)))
        content = _digest(judged, jobs)
    fitted = sum(len(machine.train) for machine in judged)
    labels = WITH_LABELS if has_labels else PLANTED
    return Comparison(
        dataset.name, labels, len(judged.machines), fitted, len(clips), len(dataset.clips), view, found,
        digest=content,
    )  # fmt: skip


def _bounded(dataset: Dataset, fitted: int, scored: int) -> Dataset:
    """At most so many training clips of each machine, and test clips of each label; from the first to the last."""
    machines = []
    for machine in dataset:
        tested = [
            evenly([c for c in machine.test if c.label == label], scored) for label in ("normal", "anomaly")
        ]
        machines.append(replace(machine, clips=(*evenly(machine.train, fitted), *tested[0], *tested[1])))
    return replace(dataset, machines=tuple(machines))


def _digest(dataset: Dataset, jobs: Jobs) -> str:
    """Of the keys and contents of all clips."""
    clips = [clip for machine in dataset for clip in machine.clips]
    shas = digests((clip.recording for clip in clips), jobs)
    return digest([[clip.key, sha] for clip, sha in zip(clips, shas, strict=True)])


def _tells_labels(machine: Machine) -> bool:
    """Whether there are normal and anomalous test clips, and all of them are known."""
    return {clip.label for clip in machine.test} == {"normal", "anomaly"}


def _channels(dataset: Dataset) -> int:
    """How many channels every clip has, by one of each machine."""
    return min(audio.read_header(machine.clips[0].recording).channels for machine in dataset)


def _system(weights: str, arithmetic: ArithmeticName, view: str) -> System:
    settings = {
        "branch.encoder": PRETRAINED[weights].encoder,
        "branch.encoder_options": {"weights": weights, "precision": arithmetic},
        "branch.view": view,
        "threshold.method": "none",  # Omega needs no decisions
    }
    return configuration.load(SYSTEM, settings)


def _scores(
    system: System, machine: Machine, name: str, workers: int, jobs: Jobs, progress: Progress | None
) -> pd.Series:
    """Of the test clips of one machine, by key."""

    def told(_: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{name}, {machine.name}", done, total)

    (resolved,) = resolve(system, seed=SEED, jobs=jobs, machine=machine.name).branches
    branch, fitted = Branch(resolved), machine.train
    X = branch.embed([*fitted, *machine.test], workers=workers, jobs=jobs, progress=told)
    branch.fit_backend(X[: len(fitted)], domains(fitted), attributes(fitted))
    return pd.Series(branch.anomaly_score(X[len(fitted) :]), index=[clip.key for clip in machine.test])
