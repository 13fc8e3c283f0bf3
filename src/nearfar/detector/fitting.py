"""How a detector is fitted: look at the clips, fit the branches, score unseen clips, set the threshold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.thresholds import (
    THRESHOLDS,
    Threshold,
    ThresholdConfig,
    folds,
    refuse_unattainable,
)
from nearfar.embedding.embeddings import VIEWS
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import Samples
from nearfar.recordings.clips import MIN_TRAINING_CLIPS, DatasetError, Machine
from nearfar.recordings.inspection import Inspection, inspect
from nearfar.recordings.microphones import MICROPHONES, Placement
from nearfar.recordings.recording import digests
from nearfar.systems.branches import Branch, Progress, attributes, domains
from nearfar.systems.resolved import ResolvedSystem

SELF_CHECK_SECONDS = 2.0  # of a training clip


@dataclass(frozen=True)
class Fitted:
    """What a fit gives.

    Attributes
    ----------
    branches : tuple of Branch
    threshold : Threshold or None
    placement : Placement or None
    trained_on : dict
        As of ``Detector``.
    sample : (channels, samples) array
        The beginning of a training clip, at the encoder's rate.
    unseen : mapping from key to float
        Scores of training clips by fits that had not seen them.
    """

    branches: tuple[Branch, ...]
    threshold: Threshold | None
    placement: Placement | None
    trained_on: dict[str, Any]
    sample: Samples
    unseen: dict[str, float]


@dataclass(frozen=True)
class _Fit:
    """One fit: what is fitted to what, and with which means."""

    machine: Machine
    system: ResolvedSystem
    workers: int
    jobs: Jobs
    progress: Progress | None

    def tell(self, where: str, number: int) -> Progress | None:
        """Progress of one branch; its number is told if there are several."""
        return tell_branch(self.progress, where, number, len(self.system.branches))


def fit(
    machine: Machine,
    system: ResolvedSystem,
    *,
    workers: int = 1,
    jobs: Jobs,
    progress: Progress | None = None,
) -> Fitted:
    """Fit a system to the normal training clips of a machine.

    Parameters
    ----------
    machine : Machine
    system : ResolvedSystem
        With adapters, if it is adapted.
    workers : int
        Threads that read recordings and compute features.
    jobs : Jobs
        Where trained encoders and embeddings are kept.
    progress : callable or None
        Called with (step, done, total).

    Raises
    ------
    DatasetError
        If the clips cannot be used; lists everything that is wrong.
    ValueError
        If the clips are too few for the back end, or for the false-alarm rate; or if the system is adapted and has
        no adapters.
    """
    if system.is_adapted and any(branch.adapter_digest is None for branch in system.branches):
        system.with_adapters(())  # tells how many it needs
    this, clips = _Fit(machine, system, workers, jobs, progress), machine.train
    found = _inspect(this)
    n_unseen = sum(len(held_out) for _, held_out in folds(domains(clips), system.threshold, seed=system.seed))
    refuse_unattainable(system.threshold, n_unseen)
    branches, embedded = [], []
    for number, resolved in enumerate(system.branches, start=1):
        branch, told = Branch(resolved), this.tell("", number)
        branch.fit_encoder(clips, workers=workers, jobs=jobs, progress=told)
        X = branch.embed(clips, workers=workers, jobs=jobs, progress=told)
        branches.append(branch.fit_backend(X, domains(clips), attributes(clips)))
        embedded.append(X)
    unseen = _score_unseen(this, embedded)
    rate = branches[0].encoder.sample_rate
    return Fitted(
        branches=tuple(branches),
        threshold=_fit_threshold(system.threshold, np.array(list(unseen.values()))),
        placement=found.placement,
        trained_on=_describe_training(this, found),
        sample=audio.load(clips[0].recording, rate)[:, : int(SELF_CHECK_SECONDS * rate)],
        unseen=unseen,
    )


def _inspect(this: _Fit) -> Inspection:
    """Look at every training clip, with all that the branches need of one."""
    machine, system, clips = this.machine, this.system, this.machine.train
    if len(clips) < MIN_TRAINING_CLIPS:
        rate = system.threshold.false_alarm_rate
        raise DatasetError(
            [f"{machine.name}: {len(clips)} normal training clips; at least {MIN_TRAINING_CLIPS} are needed, and "
             f"about {round(1 / rate)} for a false-alarm rate of {rate:g}; record more of the machine in normal "
             "operation"]
        )  # fmt: skip
    encoders = [Branch(resolved).encoder for resolved in system.branches]
    rates = sorted({encoder.sample_rate for encoder in encoders})
    if len(rates) > 1:
        raise ValueError(
            f"ensemble.members: the branches take recordings at {rates} Hz, but all branches of an ensemble must "
            "take the same rate"
        )
    progress = this.progress
    return inspect(
        machine,
        needs=[MICROPHONES[m] for m in VIEWS[system.view].microphones],
        rate=rates[0],
        min_samples=max(encoder.min_samples for encoder in encoders),
        workers=this.workers,
        progress=None if progress is None else lambda done, total: progress("inspecting", done, total),
    )


def _describe_training(this: _Fit, found: Inspection) -> dict[str, Any]:
    """What ``Detector.trained_on`` says."""
    clips, system = this.machine.train, this.system
    recordings = digests((c.recording for c in clips), this.jobs)
    bound = [branch.adapter for branch in system.branches if branch.adapter is not None]
    return {
        "clips": len(clips),
        "domains": dict(sorted(Counter(domains(clips).tolist()).items())),
        "digest": digest([[c.key, sha] for c, sha in zip(clips, recordings, strict=True)]),
        "rate": found.header.rate,
        "channels": found.header.channels,
        "selected_channels": list(clips[0].channels),
        "seed": system.seed,
        "weights": [branch.weights for branch in system.branches],
        "adapters": [adapter.describe() for adapter in bound],
        "microphone_faults": found.faults,
    }


def _score_unseen(this: _Fit, embedded: Sequence[Sequence[NDArray[Any]]]) -> dict[str, float]:
    """Scores of training clips by key, each by a fit that has not seen it; empty if no threshold is wanted."""
    system, clips = this.system, this.machine.train
    if system.threshold.method == "none":
        return {}
    scores: dict[str, float] = {}
    for fitted_on, held_out in folds(domains(clips), system.threshold, seed=system.seed):
        rest, unseen = [clips[i] for i in fitted_on], [clips[i] for i in held_out]
        found = []
        for number, (resolved, X) in enumerate(zip(system.branches, embedded, strict=True), start=1):
            branch = Branch(resolved)
            branch.fit_encoder(
                rest, workers=this.workers, jobs=this.jobs, progress=this.tell(" for the threshold", number)
            )
            if branch.encoder.fitted_per_machine:
                of_rest, of_unseen = (
                    branch.embed(some, workers=this.workers, jobs=this.jobs) for some in (rest, unseen)
                )
            else:
                of_rest, of_unseen = [X[i] for i in fitted_on], [X[i] for i in held_out]
            branch.fit_backend(of_rest, domains(rest), attributes(rest))
            found.append(branch.anomaly_score(of_unseen))
        scores |= zip((clip.key for clip in unseen), average(found).tolist(), strict=True)
    return scores


def _fit_threshold(config: ThresholdConfig, normal_scores: NDArray[np.float64]) -> Threshold | None:
    if config.method == "none":
        return None
    return THRESHOLDS[config.method].fit(normal_scores, false_alarm_rate=config.false_alarm_rate)


def average(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over branches of their scores, each (n_clips,); exact, so that company does not change it."""
    return np.array([math.fsum(of_clip) / len(scores) for of_clip in zip(*scores, strict=True)])


def tell_branch(progress: Progress | None, where: str, number: int, members: int) -> Progress | None:
    """Progress of one branch of an ensemble, told with its number if there are several."""
    if progress is None:
        return None
    of = f", branch {number} of {members}" if members > 1 else ""
    return lambda step, done, total: progress(f"{step}{where}{of}", done, total)
