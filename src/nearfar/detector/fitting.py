"""How a detector is fitted: look at the clips, fit the branches, score unseen clips, set the threshold."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.calibration import Calibration
from nearfar.decisions.dependence import Dependence
from nearfar.decisions.folds import Folds, clusters, deal
from nearfar.decisions.fusing import fuse_left_out
from nearfar.decisions.thresholds import THRESHOLDS, Threshold, ThresholdConfig, refuse_unattainable
from nearfar.detector.history import History, of_fit
from nearfar.detector.keeping import Bank, Kept, is_fitted_to_machine
from nearfar.detector.normal_sounds import Meter, NormalSounds, heard_in
from nearfar.detector.one_pass import OnePass, WorkersAre, refuse_nested
from nearfar.detector.time_order import dependence_of
from nearfar.encoders.features import Mel, log_mel
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.cancellation import energy_taken
from nearfar.recordings.clips import MIN_TRAINING_CLIPS, Clip, DatasetError, Machine, counted
from nearfar.recordings.datasets.layout import few
from nearfar.recordings.inspection.training import (
    Look,
    OddClips,
    Suspect,
    inspect,
    unlike_by_score,
    warn_of_unlike,
)
from nearfar.recordings.inspection.usual import Usual
from nearfar.recordings.microphones import MICROPHONES, NAMES, listen
from nearfar.recordings.recording import digests, fingerprints
from nearfar.systems.branches import Branch, Progress, attributes, domains
from nearfar.systems.resolved import ResolvedBranch, ResolvedSystem
from nearfar.windows.cutting import Cut, told_time
from nearfar.windows.long_recordings import LONG_SECONDS, Cutting, HowToCut, cut_long

Keep = Literal["recordings", "embeddings", "nothing"]

SELF_CHECK_SECONDS = 2.0  # of a training clip
CLIPS_TO_CANCEL = 10  # of which it is told what cancellation takes; spread over all
LARGEST_TAKEN_DB = 100.0  # stands for everything
ONE_RECORDING = (
    "%s: nearly all clips%s are of one recording, %s. Stretches of it are kept together, but all are of the same "
    "session: the threshold may not hold on another day"
)
FEWEST_FOR_SCALE = 3  # unseen clips: without one of them, two are left, which have a range

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What a fit gives.

    Attributes
    ----------
    branches : tuple of Branch
    threshold : Threshold or None
    usual : Usual or None
        What the training clips have in common.
    trained_on : dict
        As of ``Detector``.
    sample : (channels, samples) array
        The beginning of a training clip, at the encoder's rate.
    unseen : mapping from key to float
        Scores of training clips by fits that had not seen them.
    normals : (n_unseen, n_parts) array or None
        Of a fused system, the same clips' scores by each part; ``None`` of any other.
    calibration : Calibration or None
        The same scores, with what is known of their clips; ``None`` without a threshold.
    seen : (n_clips,) array of uint64
        Fingerprints of the training clips, ascending.
    kept : Kept or None
        What it takes to learn more without these clips.
    sounds : NormalSounds or None
        How these clips sound.
    history : tuple of dict
        One entry, of the fit.
    dependence : Dependence or None
        Of the windows of long recordings, by the unseen scores in order of time; ``None`` if they are few, or none.
    """

    branches: tuple[Branch, ...]
    threshold: Threshold | None
    usual: Usual | None
    trained_on: dict[str, Any]
    sample: Samples
    unseen: dict[str, float]
    normals: NDArray[np.float64] | None
    calibration: Calibration | None
    seen: NDArray[np.uint64]
    kept: Kept | None
    sounds: NormalSounds | None
    history: History
    dependence: Dependence | None


@dataclass(frozen=True)
class Unseen:
    """Training clips, scored by fits that had not seen them.

    Attributes
    ----------
    keys : tuple of str
        Of the clips that each part of the system has so scored.
    by_part : (n_clips, n_parts) array
    of_branches : sequence of mapping from key to tuple of float
        Of each part, the scores of the clips that it has so scored, by each of its branches.
    """

    keys: tuple[str, ...]
    by_part: NDArray[np.float64]
    of_branches: Sequence[Mapping[str, tuple[float, ...]]]

    @classmethod
    def of(cls, of_branches: Sequence[Mapping[str, tuple[float, ...]]]) -> Self:
        """The clips that all parts have scored, in the order of the first."""
        first, *others = of_branches
        keys = tuple(key for key in first if all(key in of for of in others))
        by_part = np.array([[mean_score(of[key]) for of in of_branches] for key in keys], dtype=np.float64)
        return cls(keys, by_part.reshape(len(keys), len(of_branches)), of_branches)

    def fused(self, system: ResolvedSystem) -> dict[str, float]:
        """The score of each clip by its key. Of a fused system, the scale of a clip is that of all others."""
        if system.fusion is None:
            return dict(zip(self.keys, self.by_part[:, 0].tolist(), strict=True))
        fusion = system.fusion
        scores = fuse_left_out(self.by_part, weights=fusion.weights, calibration=fusion.calibration)
        return dict(zip(self.keys, scores.tolist(), strict=True))


@dataclass(frozen=True)
class Known:
    """What is known of the clips of a fit beside their recordings, which are gone.

    Attributes
    ----------
    branches : sequence of Branch
        Whose encoders stay.
    recordings : sequence of str
        What each clip contains, such as its fingerprint.
    far : mapping from int to (n_clips, bands) array
        As of ``Kept``.
    """

    branches: Sequence[Branch]
    recordings: Sequence[str]
    far: Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Fit:
    """One fit: what is fitted to what, and with which means.

    Attributes
    ----------
    machine : Machine
    system : ResolvedSystem
    workers : int
    jobs : Jobs
    progress : callable or None
    known : Known or None
        ``None``: the recordings of the clips are there.
    workers_are : {"threads", "processes"}
        That read the clips.
    """

    machine: Machine
    system: ResolvedSystem
    workers: int
    jobs: Jobs
    progress: Progress | None
    known: Known | None = None
    workers_are: WorkersAre = "threads"

    def branch(self, number: int) -> Branch:
        """A branch that is not fitted yet; but for its encoder, if the recordings are gone."""
        if self.known is not None:
            return self.known.branches[number].unfitted()
        return Branch(self.system.branches[number])

    @cached_property
    def recordings(self) -> Sequence[str]:
        """What each training clip contains."""
        if self.known is not None:
            return self.known.recordings
        return digests((clip.recording for clip in self.machine.train), self.jobs, workers=self.workers)

    def far_levels(self, rate: int) -> NDArray[np.float32]:
        """The mean log-mel level of each training clip at the far microphone, in dB: (n_clips, bands)."""
        if self.known is not None:
            return self.known.far[rate]
        return far_levels(self.machine.train, rate, workers=self.workers)

    def tell(self, where: str, number: int) -> Progress | None:
        """Progress of one branch; its number is told if there are several."""
        return tell_branch(self.progress, where, number, len(self.system.branches))


def fit(  # noqa: PLR0913  # as of ``Detector.fit``
    machine: Machine,
    system: ResolvedSystem,
    *,
    cut: HowToCut = "long",
    odd_clips: OddClips = "leave out",
    keep: Keep = "recordings",
    workers: int = 1,
    workers_are: WorkersAre = "threads",
    jobs: Jobs,
    progress: Progress | None = None,
) -> Fitted:
    """Fit a system to the normal training clips of a machine.

    Parameters
    ----------
    machine : Machine
    system : ResolvedSystem
        With adapters, if it is adapted.
    cut : Cut, "long" or None
        As of ``windows.long_recordings.cut_long``.
    odd_clips : {"leave out", "refuse", "keep"}
        What happens to training clips that are broken, or copies: see ``inspection.training.inspect``.
    keep, workers, workers_are, jobs, progress
        As of ``Detector.fit``.

    Raises
    ------
    DatasetError
        If the clips cannot be used; lists everything that is wrong.
    ValueError
        If the clips are too few for the back end or the false-alarm rate, or adapters are lacking.
    """
    _refuse_before(system, keep, workers, workers_are)
    machine, cutting = _cut(machine, cut)
    this = Fit(machine, system, workers, jobs, progress, None, workers_are)
    this, found, heard = _inspect(this, odd_clips, cut, keep)
    clips, folds = this.machine.train, folds_of_parts(this)
    _require_unseen(system, len(_scored(folds)))
    meter = _meter(this, found, heard)
    branches, embedded = _fit_branches(this, meter, heard)
    unseen = (scored := score_unseen(this, folds, embedded)).fused(system)
    found = found if odd_clips == "keep" else _with_unlike_scores(this, found, scored)
    files, told = fingerprints((c.recording for c in clips), jobs), _describe_training(this, found, cutting)
    kept = None if meter is None else _kept(this, found, files, embedded, scored)
    return Fitted(
        branches=branches,
        threshold=fit_threshold(system.threshold, np.array(list(unseen.values()))),
        usual=found.usual,
        trained_on=told,
        sample=_sample(clips[0], max(branch.encoder.sample_rate for branch in branches)),
        unseen=unseen,
        normals=None if system.fusion is None else scored.by_part,
        calibration=calibration_of(this, fewest(folds).describe(), unseen),
        seen=np.array(sorted({*files}), dtype=np.uint64),
        kept=None if kept is None else kept.ordered(),
        sounds=_sounds(this, found, kept, meter, recordings=keep == "recordings"),
        history=of_fit(told),
        dependence=_dependence(this, unseen, cutting),
    )


def _kept(
    this: Fit,
    found: Look,
    files: Sequence[int],
    embedded: Sequence[Sequence[NDArray[Any]]],
    scored: Unseen,
) -> Kept:
    """What the detector keeps of its clips, in their order."""
    clips, system = this.machine.train, this.system
    vectors = [
        None if resolved.pooling == "rows" else X
        for resolved, X in zip(system.branches, embedded, strict=True)
    ]
    return Kept(
        bank=Bank.of(clips, this.recordings, files, vectors),
        added=np.zeros(len(clips), dtype=np.int32),
        traits=found.traits,
        far={rate: this.far_levels(rate) for rate in rates_of_far(system)},
        unseen=by_branch(scored, clips, system) if is_fitted_to_machine(system.branches) else None,
    )


def _sounds(
    this: Fit, found: Look, kept: Kept | None, meter: Meter | None, *, recordings: bool
) -> NormalSounds | None:
    """How the clips sound, in the order that what is kept will have."""
    if kept is None or meter is None:
        return None
    clips, progress = this.machine.train, this.progress
    levels = meter.of_clips(
        clips,
        this.recordings,
        workers=this.workers,
        jobs=this.jobs,
        tell=None if progress is None else lambda done, total: progress("measuring", done, total),
    )
    suspects = {suspect.clip for suspect in found.unlike}
    sounds = heard_in(
        clips, kept.bank, levels, meter, keep_recordings=recordings, suspects=suspects, workers=this.workers
    )
    return sounds.select(kept.bank.order)


def by_branch(scored: Unseen, clips: Sequence[Clip], system: ResolvedSystem) -> NDArray[np.float64]:
    """Scores of clips by fits that had not seen them, (n_clips, branches); NaN where there is none."""
    nothing = [(np.nan,) * part.size for part in system.parts]
    return np.array(
        [
            [x for of, nan in zip(scored.of_branches, nothing, strict=True) for x in of.get(clip.key, nan)]
            for clip in clips
        ]
    )


def rates_of_far(system: ResolvedSystem) -> list[int]:
    """The rates in Hz at which the far microphone decides on folds; none if it does not."""
    parts = zip(system.parts, system.by_part(system.branches), strict=True)
    return sorted({_lowest_rate(own) for part, own in parts if _is_by_far(part.threshold)})


def _is_by_far(config: ThresholdConfig) -> bool:
    return config.method != "none" and config.folds_by == "far"


def _refuse_before(system: ResolvedSystem, keep: Keep, workers: int, workers_are: WorkersAre) -> None:
    """Raise before long work that would be for nothing."""
    refuse_nested(workers_are, workers)
    if keep not in get_args(Keep):
        raise ValueError(f"keep={keep!r}: must be one of {', '.join(map(repr, get_args(Keep)))}")
    if any(b.adaptation is not None and b.adapter_digest is None for b in system.branches):
        system.with_adapters(())  # tells how many it needs


def _cut(machine: Machine, how: HowToCut) -> tuple[Machine, Cutting | None]:
    """The machine with windows in place of long training recordings; logs what that means for the threshold."""
    clips, cutting = cut_long(machine.train, how)
    if cutting is None:
        if isinstance(how, Cut):
            logger.warning(
                "%s: no recording is clearly longer than a window of %s, so none is cut",
                machine.name, told_time(how.seconds),
            )  # fmt: skip
        return machine, None
    logger.info("%s: %s", machine.name, cutting)
    for domain, recording in cutting.stretches.items():
        of = f" of {domain}" if domain else ""
        logger.warning(ONE_RECORDING, machine.name, of, recording)
    return replace(machine, clips=(*clips, *machine.test)), cutting


def _fit_branches(
    this: Fit, meter: Meter | None, heard: OnePass
) -> tuple[tuple[Branch, ...], list[list[NDArray[Any]]]]:
    """All branches, fitted to all clips; and of each branch the embeddings of the clips."""
    clips, branches, embedded = this.machine.train, [], []
    for number in range(1, len(this.system.branches) + 1):
        branch, told = this.branch(number - 1), this.tell("", number)
        branch.fit_encoder(clips, workers=this.workers, jobs=this.jobs, progress=told)
        also = meter if meter is not None and meter.rate == branch.encoder.sample_rate else None
        X = branch.embed(
            clips, workers=this.workers, jobs=this.jobs, progress=told, also=also, shas=this.recordings,
            ready=heard.of_branch(number - 1, clips, this.recordings),
        )  # fmt: skip
        branches.append(branch.fit_backend(X, domains(clips), attributes(clips)))
        embedded.append(X)
    return tuple(branches), embedded


def unseen_scores(
    machine: Machine,
    system: ResolvedSystem,
    embedded: Sequence[Sequence[NDArray[Any]]],
    *,
    workers: int = 1,
    jobs: Jobs,
) -> Calibration | None:
    """What a threshold would be set on, of training clips whose embeddings are known.

    Parameters
    ----------
    machine : Machine
        No clip is left out.
    system : ResolvedSystem
        Whose encoders are not fitted to a machine, else they are fitted once more for each fold.
    embedded : sequence of sequences of arrays
        For each branch, the embeddings of the training clips.
    workers, jobs
        As for ``fit``.

    Returns
    -------
    Calibration or None
        ``None`` if the system has no threshold.

    Raises
    ------
    ValueError
        As ``fit``, but for a false-alarm rate that cannot be attained.
    """
    this = Fit(machine, system, workers, jobs, None)
    folds = folds_of_parts(this)
    return calibration_of(this, fewest(folds).describe(), score_unseen(this, folds, embedded).fused(system))


def _sample(clip: Clip, rate: int) -> Samples:
    """The beginning of a clip, for the self-check."""
    return audio.load(clip.recording, rate)[:, : int(SELF_CHECK_SECONDS * rate)]


def _one_pass(system: ResolvedSystem, clips: Sequence[Clip], keep: Keep, jobs: Jobs) -> OnePass:
    """What reads the training clips, to inspect them and to hear them."""
    views = None if keep == "nothing" else tuple(system.microphones)
    return OnePass.of([Branch(resolved) for resolved in system.branches], clips, views=views, jobs=jobs)


def _meter(this: Fit, found: Look, heard: OnePass) -> Meter | None:
    """What measures the clips while encoders hear them; ``None`` if nothing is kept of them."""
    assert found.header is not None
    return heard.meter(found.header.channels, this.machine.train, this.recordings)


def _inspect(this: Fit, odd_clips: OddClips, cut: HowToCut, keep: Keep) -> tuple[Fit, Look, OnePass]:
    """Look at every training clip, with all that the branches need of one: the fit to those that are kept."""
    machine, system = this.machine, this.system
    _require_clips(this, machine.train, "")
    heard = _one_pass(system, machine.train, keep, this.jobs)
    encoders = [Branch(resolved).encoder for resolved in system.branches]
    rate = max(encoder.sample_rate for encoder in encoders)
    progress = this.progress
    seen = heard.listen_to(
        machine.train, workers=this.workers, workers_are=this.workers_are,
        progress=None if progress is None else lambda done, total: progress("inspecting", done, total),
    )  # fmt: skip
    found = inspect(
        machine,
        seen,
        needs=[MICROPHONES[m] for m in system.microphones],
        rate=rate,
        min_samples=max(math.ceil(e.min_samples * rate / e.sample_rate) for e in encoders),
        odd_clips=odd_clips,
    )
    why = "".join(f"\n    left out {line}" for line in few(map(str, found.left_out)))
    _require_clips(this, found.kept, why)
    if cut is None:
        _warn_of_long(machine.name, found.usual)
    return replace(this, machine=replace(machine, clips=(*found.kept, *machine.test))), found, heard


def _warn_of_long(name: str, usual: Usual | None) -> None:
    """Say if clips are long recordings, which a protocol takes as they are."""
    longest = 0.0 if usual is None else float(usual.seconds[1])
    if longest > LONG_SECONDS:
        logger.warning(
            "%s: training clips of up to %s. Each has one score here, in which a fault of some seconds drowns; "
            "only `nearfar fit` and `nearfar score` cut recordings into windows",
            name, told_time(longest),
        )  # fmt: skip


def _with_unlike_scores(this: Fit, found: Look, scored: Unseen) -> Look:
    """The look, with the clips that the detector finds most unlike the others; each part of a fused system."""
    named = {suspect.clip for suspect in found.unlike}
    unlike: list[Suspect] = []
    for scores in scored.by_part.T.tolist():
        for suspect in unlike_by_score(found.kept, dict(zip(scored.keys, scores, strict=True))):
            if suspect.clip not in named:
                named.add(suspect.clip)
                unlike.append(suspect)
    warn_of_unlike(this.machine.name, unlike)
    return replace(found, unlike=(*found.unlike, *unlike))


def _require_clips(this: Fit, clips: Sequence[Clip], why: str) -> None:
    if len(clips) < MIN_TRAINING_CLIPS:
        rate = this.system.threshold.false_alarm_rate
        raise DatasetError(
            [
                f"{this.machine.name}: {counted(len(clips), 'normal training clip')}; at least "
                f"{MIN_TRAINING_CLIPS} are needed, and about {round(1 / rate)} for a false-alarm rate of {rate:g}; "
                f"record more of the machine in normal operation{why}"
            ]
        )


def _describe_training(this: Fit, found: Look, cutting: Cutting | None) -> dict[str, Any]:
    """What ``Detector.trained_on`` says."""
    clips, system = this.machine.train, this.system
    recordings = this.recordings
    header = found.header
    assert header is not None
    bound = [branch.adapter for branch in system.branches if branch.adapter is not None]
    return {
        "clips": len(clips),
        "domains": dict(sorted(Counter(domains(clips).tolist()).items())),
        "digest": digest([[c.key, sha] for c, sha in zip(clips, recordings, strict=True)]),
        "rate": header.rate,
        "channels": header.channels,
        "selected_channels": list(clips[0].channels),
        "seed": system.seed,
        "weights": [branch.weights for branch in system.branches],
        "adapters": [adapter.describe() for adapter in bound],
        "faults": found.fault_counts,
        "left_out": [_describe_suspect(suspect) for suspect in found.left_out],
        "unlike": [_describe_suspect(suspect) for suspect in found.unlike],
        "taken": _energy_taken(this),
        "window_seconds": found.median_seconds,
        "recordings": None if cutting is None else cutting.describe(),
    }


def _energy_taken(this: Fit) -> dict[str, dict[str, float]]:
    """By how many dB each view that cancels noise lowers near, by band: medians over some training clips."""
    views = [m for m in this.system.microphones if m not in NAMES]
    clips, rate = this.machine.train, _lowest_rate(this.system.branches)
    some = [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, CLIPS_TO_CANCEL).round().astype(int))]
    taken: dict[str, list[dict[str, float]]] = {view: [] for view in views}
    for samples in (audio.load(clip.recording, rate) for clip in (some if views else ())):
        for view in views:
            taken[view].append(energy_taken(samples[NEAR], listen(samples, view), rate=rate))
    return {
        view: {band: min(LARGEST_TAKEN_DB, float(np.median([t[band] for t in found]))) for band in found[0]}
        for view, found in taken.items()
    }


def _describe_suspect(suspect: Suspect) -> dict[str, str]:
    message = suspect.message.removeprefix(f"{suspect.clip.recording}: ")  # what reads it names it, too
    return {"clip": suspect.clip.name, "kind": suspect.kind, "message": message}


def _lowest_rate(branches: Sequence[ResolvedBranch]) -> int:
    """At which an encoder of these listens, in Hz."""
    return min(Branch(resolved).encoder.sample_rate for resolved in branches)


def _require_unseen(system: ResolvedSystem, unseen: int) -> None:
    """Raise, before long work, if so few unseen clips give no scale, or not the false-alarm rate."""
    require_scale(system, unseen)
    refuse_unattainable(system.threshold, unseen)


def require_scale(system: ResolvedSystem, unseen: int) -> None:
    """Raise if the parts of a fused system have too few unseen clips in common to be put on one scale."""
    if system.fusion is not None and unseen < FEWEST_FOR_SCALE:
        raise ValueError(
            f"{system.name}: {counted(unseen, 'training clip')} that every branch leaves out of a fit; a fusion "
            f"needs {FEWEST_FOR_SCALE} or more: give the branches the same threshold.calibration and folds"
        )


def folds_of_parts(this: Fit) -> list[Folds]:
    """Of each part of the system, which clips are scored by a fit on which others."""
    system = this.system
    return [
        folds_of(this, part.threshold, branches)
        for part, branches in zip(system.parts, system.by_part(system.branches), strict=True)
    ]


def folds_of(this: Fit, config: ThresholdConfig, branches: Sequence[ResolvedBranch]) -> Folds:
    """As ``folds_of_parts``, of one part and its branches."""
    if config.method == "none":
        return Folds(())
    groups, told = groups_of(this, config, branches), domains(this.machine.train)
    return deal(told, config, seed=this.system.seed, groups=groups, recordings=this.recordings)


def groups_of(this: Fit, config: ThresholdConfig, branches: Sequence[ResolvedBranch]) -> list[str]:
    """What each training clip belongs to, of the kind that a threshold's folds go by."""
    if config.folds_by == "attributes":
        return [clip.attributes for clip in this.machine.train]
    if _is_by_far(config):
        return clusters(this.far_levels(_lowest_rate(branches)), seed=this.system.seed)
    return [clip.group for clip in this.machine.train]


def far_levels(clips: Sequence[Clip], rate: int, *, workers: int) -> NDArray[np.float32]:
    """As of ``Fit.far_levels``, of recordings that are there."""
    mel = Mel(rate=rate, f_max=rate / 2)

    def levels(clip: Clip) -> NDArray[np.float32]:
        samples = audio.load(clip.recording, rate)
        if len(samples) <= FAR:
            raise ValueError(
                f"threshold.folds_by='far': {clip.path} has {len(samples)} channel, and no far microphone; record "
                "it, or choose folds_by='random' or 'group'"
            )
        return np.asarray(log_mel(samples[FAR], mel).mean(axis=-1))

    return np.stack(list(audio.each(clips, levels, workers=workers)))


def calibration_of(this: Fit, how: Mapping[str, Any], unseen: Mapping[str, float]) -> Calibration | None:
    """The unseen scores, with what is known of their clips, and how these came to be unseen."""
    if this.system.threshold.method == "none":
        return None
    scored = [clip for clip in this.machine.train if clip.key in unseen]
    scores, groups = [unseen[clip.key] for clip in scored], [clip.group for clip in scored]
    return Calibration.of(scores, domains(scored), groups, how)


def _dependence(this: Fit, unseen: Mapping[str, float], cutting: Cutting | None) -> Dependence | None:
    """Of the windows of long recordings."""
    scored = [clip for clip in this.machine.train if clip.key in unseen]
    return dependence_of(scored, [unseen[clip.key] for clip in scored], cutting)


def _scored(folds: Sequence[Folds]) -> list[int]:
    """Which clips are scored by a fit on others in all of these, in the order of the first."""
    first, *others = ([i for _, held_out in of.pairs for i in held_out.tolist()] for of in folds)
    known = [set(of) for of in others]
    return [i for i in first if all(i in of for of in known)]


def fewest(folds: Sequence[Folds]) -> Folds:
    """Those that score the fewest clips: of the parts of a fused system, they say which clips are unseen."""
    return min(folds, key=lambda of: of.n_unseen)


def score_unseen(this: Fit, folds: Sequence[Folds], embedded: Sequence[Sequence[NDArray[Any]]]) -> Unseen:
    """Scores of training clips, each by a fit that has not seen it; of none if no threshold is wanted."""
    numbers = this.system.by_part(range(len(this.system.branches)))
    return Unseen.of(
        [score_left_out(this, of, embedded, own) for of, own in zip(folds, numbers, strict=True)]
    )


def score_left_out(
    this: Fit, folds: Folds, embedded: Sequence[Sequence[NDArray[Any]]], numbers: Sequence[int]
) -> dict[str, tuple[float, ...]]:
    """Scores by key of the clips that these folds leave out, by each of the branches of these numbers."""
    clips = this.machine.train
    scores: dict[str, tuple[float, ...]] = {}
    for fitted_on, held_out in folds.pairs:
        rest, unseen = [clips[i] for i in fitted_on], [clips[i] for i in held_out]
        found = []
        for number in numbers:
            branch, X = this.branch(number), embedded[number]
            if this.known is None:
                branch.fit_encoder(
                    rest, workers=this.workers, jobs=this.jobs,
                    progress=this.tell(" for the threshold", number + 1),
                )  # fmt: skip
            if this.known is None and branch.encoder.fitted_per_machine:
                of_rest, of_unseen = (
                    branch.embed(some, workers=this.workers, jobs=this.jobs) for some in (rest, unseen)
                )
            else:
                of_rest, of_unseen = [X[i] for i in fitted_on], [X[i] for i in held_out]
            _fit_backend(branch, of_rest, rest, folds)
            found.append(branch.anomaly_score(of_unseen).tolist())
        scores |= zip((clip.key for clip in unseen), zip(*found, strict=True), strict=True)
    return scores


def _fit_backend(branch: Branch, X: Sequence[NDArray[Any]], clips: Sequence[Clip], folds: Folds) -> None:
    """Fit the back end for the threshold; an error says what was left to fit to, where that is by groups."""
    try:
        branch.fit_backend(X, domains(clips), attributes(clips))
    except ValueError as error:
        if folds.by == "random":
            raise
        left = ", ".join(f"{n} {domain}" for domain, n in sorted(Counter(domains(clips).tolist()).items()))
        raise ValueError(
            f"{error} (in a fit for the threshold, to {len(clips)} clips: {left}; others are kept together by "
            f"{folds.by}; give more clips, or choose threshold.folds_by='random')"
        ) from error


def fit_threshold(config: ThresholdConfig, normal_scores: NDArray[np.float64]) -> Threshold | None:
    if config.method == "none":
        return None
    return THRESHOLDS[config.method].fit(normal_scores, false_alarm_rate=config.false_alarm_rate)


def average(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over branches of their scores, each (n_clips,); exact, so that company does not change it."""
    return np.array([mean_score(of_clip) for of_clip in zip(*scores, strict=True)])


def mean_score(scores: Sequence[float]) -> float:
    """The mean over branches of the scores of one clip; exact, so that company does not change it."""
    return math.fsum(scores) / len(scores)


def tell_branch(progress: Progress | None, where: str, number: int, members: int) -> Progress | None:
    """Progress of one branch of an ensemble, told with its number if there are several."""
    if progress is None:
        return None
    of = f", branch {number} of {members}" if members > 1 else ""
    return lambda step, done, total: progress(f"{step}{where}{of}", done, total)
