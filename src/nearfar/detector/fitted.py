"""A detector: everything that was fitted to one machine, saved, loaded, and scoring new clips.

A saved detector holds a recording with its embedding and score. Loading computes these again: so a damaged file, or
a library that computes otherwise, is noticed at once.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.backends import part
from nearfar.decisions.alarms import AlarmRule, Alarms
from nearfar.decisions.alerts import AlertRule, Alerts
from nearfar.decisions.calibration import Calibration
from nearfar.decisions.dependence import Dependence
from nearfar.decisions.fusing import calibrate, fuse
from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import (
    THRESHOLDS,
    Threshold,
    conformal_p_values,
    is_anomaly,
    refuse_unattainable,
)
from nearfar.detector import calibrating, file_format, fitting, learning
from nearfar.detector.file_format import DetectorError, refuse_to_replace
from nearfar.detector.fitting import average, tell_branch
from nearfar.detector.history import CALIBRATE, History, entry
from nearfar.detector.keeping import Kept
from nearfar.detector.normal_sounds import NormalSounds
from nearfar.detector.one_pass import WorkersAre
from nearfar.detector.time_order import dependence_of
from nearfar.embedding.embeddings import VIEWS, embed
from nearfar.embedding.lengths import warn_of_lengths
from nearfar.files import notebooks
from nearfar.files.extras import MissingPackageError
from nearfar.files.memory import keep_freed_memory
from nearfar.files.provenance import library_versions
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.audio import AudioError, Header, Note, Samples
from nearfar.recordings.clips import Clip, DatasetError, Domain, Machine
from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.faults import RecordingFault, each_once, of_notes
from nearfar.recordings.inspection.measured import Levels, Measured, measure
from nearfar.recordings.inspection.training import OFF as NOT_RUNNING
from nearfar.recordings.inspection.training import OddClips
from nearfar.recordings.inspection.usual import Usual, faults_against
from nearfar.recordings.microphones import MICROPHONES, Microphone, MicrophoneError, frame_lengths
from nearfar.recordings.recording import Channel, Recording, missing_track
from nearfar.recordings.transforms import Transforms
from nearfar.systems.branches import Branch, Progress
from nearfar.systems.configuration import System
from nearfar.systems.defaults import default_system
from nearfar.systems.fusion import FusedSystem, load_any
from nearfar.systems.named import SEED
from nearfar.systems.resolved import ResolvedSystem, resolve
from nearfar.training.adapters import Adapter
from nearfar.windows.cutting import LEAST_REST, WINDOW_SECONDS, Cut
from nearfar.windows.long_recordings import HowToCut, cut_if

SELF_CHECK_TOLERANCE = (
    1e-2  # relative, of embedding and score: libraries round differently, not more than that
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BranchScore:
    """What one branch of a fused system says of a recording.

    Attributes
    ----------
    name : str
    score : float
        Its anomaly score, in its own units.
    p_value : float
        How often it would score a normal clip as high, by the clips of the fit that it had not seen.
    contribution : float
        What it adds to the fused score, which is the sum over the branches: its weight times its calibrated score.
    """

    name: str
    score: float
    p_value: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of one recording.

    Attributes
    ----------
    name : str
        The recording's path, or what it was called.
    score : float
        The anomaly score; higher is more anomalous. NaN if the recording could not be read.
    p_value : float
        How often a normal clip would score as high. NaN without a threshold.
    decision : {"normal", "anomaly", "", "unusable"}
        Empty for a detector without a threshold. A recording is also unusable if a fault of it spoils what the
        detector hears: then the score is of the fault, not of the machine.
    faults : tuple of RecordingFault
        What is wrong with the recording itself, compared with the training clips; empty if nothing is.
    error : str
        Why the recording could not be used.
    alarm : bool or None
        Whether there is an alarm after this recording, by several recordings: see ``Detector.score_files``.
        ``None`` if no rule for alarms was given.
    branches : tuple of BranchScore
        Of a fused system, what each branch says; empty of any other, and if there is no score.
    levels : Levels or None
        How loud the microphones are, and other numbers of the sound itself; ``None`` if it could not be read.
    """

    name: str
    score: float
    p_value: float
    decision: Literal["normal", "anomaly", "", "unusable"]
    faults: tuple[RecordingFault, ...] = ()
    error: str = ""
    alarm: bool | None = None
    branches: tuple[BranchScore, ...] = ()
    levels: Levels | None = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        """Whether the machine seems to run; otherwise that is told as a fault of the recording.

        ``fit`` leaves clips out in which it does not, so they would always be above the normal ones
        (``Detector.alerts``).
        """
        return all(fault.kind != NOT_RUNNING for fault in self.faults)


@dataclass(repr=False)
class Detector:
    """What is fitted to one machine.

    Attributes
    ----------
    machine : str
    system : ResolvedSystem
    branches : tuple of Branch
        Of the system's ensemble; the score is the mean of theirs. Of a fused system: of all its parts.
    threshold : Threshold or None
    usual : Usual or None
        What the training clips have in common. Detectors of format 3 and before have none.
    trained_on : dict
        Clips by domain, rate, channels, which of the channels were selected, digest of the audio, seed, microphone
        faults that were seen, the length of a window, which long recordings were cut.
    sample : (channels, samples) array
        The recording of the self-check, at the encoder's rate.
    unseen : mapping from key to float
        Scores of training clips by fits that had not seen them: the threshold is learnt from them. Not saved.
    calibration : Calibration or None
        The scores that the threshold is learnt from, with domain and group of their clips. Detectors of format 4
        and before have none.
    seen : (n_clips,) array of uint64
        Fingerprints of the training clips, ascending; empty for detectors of format 4 and before.
    calibrated_on : dict or None
        If ``calibrate`` set the threshold: number, domains and digest of the recordings, what was left out, and
        what the threshold was before.
    normals : (n_unseen, n_parts) array or None
        Of a fused system: scores of training clips by fits that had not seen them, by each part. They are the
        scale on which the parts are fused.
    dependence : Dependence or None
        How dependent normal windows are that follow each other, by the scores behind the threshold in order of
        time. ``None`` if there were no long recordings, or they were short.
    kept : Kept or None
        What it takes to learn more without the clips. ``None`` if it was told to keep nothing, and for detectors of
        format 6 and before.
    sounds : NormalSounds or None
        How its clips sound; of some, the sound itself. ``None`` if it was told to keep nothing, and for detectors
        that were fitted before there was this.
    history : tuple of dict
        What was added when, the fit first: ``what`` ("fit", "calibrate" or "learn"), ``when`` (in UTC; ``None`` for
        the fit), ``nearfar`` (the version), ``clips``, ``domains``, ``digest`` of the contents; of what was learnt
        also ``left_out``, and ``before``: the threshold until then, and how many of the new clips it flags.
    """

    machine: str
    system: ResolvedSystem
    branches: tuple[Branch, ...]
    threshold: Threshold | None
    usual: Usual | None
    trained_on: dict[str, Any]
    sample: Samples
    unseen: Mapping[str, float] = field(default_factory=dict, compare=False)
    calibration: Calibration | None = field(default=None, compare=False)
    seen: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64), compare=False)
    calibrated_on: dict[str, Any] | None = None
    normals: NDArray[np.float64] | None = field(default=None, compare=False)
    dependence: Dependence | None = None
    kept: Kept | None = field(default=None, compare=False)
    sounds: NormalSounds | None = field(default=None, compare=False)
    history: History = ()

    @classmethod
    def fit(  # noqa: PLR0913  # each is a choice of the user
        cls,
        machine: Machine | Path | str,
        system: System | FusedSystem | ResolvedSystem | Path | str | None = None,
        *,
        false_alarm_rate: float | None = None,
        adapters: Sequence[Adapter | Path | str] = (),
        cut: HowToCut = "long",
        odd_clips: OddClips = "leave out",
        keep: fitting.Keep = "recordings",
        seed: int = SEED,
        workers: int = 1,
        workers_are: WorkersAre = "threads",
        jobs: Jobs | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Fit a system to the normal training clips of a machine.

        Parameters
        ----------
        machine : Machine, Path or str
            Or the folder of its normal clips; or the folder that has them in ``train``.
        system : System, FusedSystem, ResolvedSystem, Path, str or None
            Or its name, or the path of a TOML file. ``None``: "best" if its weights are here, else "spectral".
        false_alarm_rate : float or None
            Share of normal clips that may be flagged; ``None``: as the system says.
        adapters : sequence of Adapter, Path or str
            For a system that is adapted: one for each branch that is, or the files of these.
        cut : Cut, "long" or None
            "long": those of more than 30 s, into windows of 10 s. Or how, such as ``Cut.of(5)``; ``None``: none is.
        odd_clips : {"leave out", "refuse", "keep"}
            What to do with broken clips, and with copies.
        keep : {"recordings", "embeddings", "nothing"}
            "embeddings": to ``learn`` more, and levels in bands. "recordings": also up to 24 clips, to hear them.
        seed : int
            Of everything random. A ``ResolvedSystem`` has its own.
        workers : int
        workers_are : {"threads", "processes"}
            That read the clips. Processes do where clips are so many that it pays; a script that asks for them
            begins under ``if __name__ == "__main__":``. The detector has the same bytes.
        jobs : Jobs or None
            Where steps and embeddings are kept; ``None``: the user's cache.
        progress : callable or None
            Called with (step, done, total).

        Raises
        ------
        DatasetError
            If the clips cannot be used; lists all that is wrong.
        ValueError
            If there is no such system, the clips are too few for it, or adapters are not those that it needs.
        WeightsError
            If the system needs pretrained weights that are not here.
        """
        jobs = jobs or Jobs()
        machine = machine if isinstance(machine, Machine) else datasets.load_machine(Path(machine))
        system = _with_choices(_resolved(system, machine, seed, jobs), adapters, false_alarm_rate)
        found = fitting.fit(machine, system, cut=cut, odd_clips=odd_clips, keep=keep, workers=workers,
                            workers_are=workers_are, jobs=jobs, progress=progress)  # fmt: skip
        return cls(machine.name, system, **vars(found))

    def __repr__(self) -> str:
        return f"Detector({self.machine!r}, {', '.join(f'{k}={v}' for k, v in self._facts().items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = [(name.replace("_", " "), value) for name, value in self._facts().items()]
        return notebooks.table(f"Detector of {self.machine}", rows)

    def _facts(self) -> dict[str, Any]:
        """The few that tell one detector from another."""
        facts: dict[str, Any] = {"system": self.system.name, "clips": self.trained_on["clips"]}
        if self.threshold is not None:
            facts["threshold"] = f"{self.threshold.value:.4g}"
            facts["false_alarm_rate"] = f"{self.threshold.false_alarm_rate:g}"
            facts |= {f"flagged_{d}": f"{x.flagged} of {x.clips}" for d, x in self.flagged().items()}
        return facts

    def flagged(self) -> dict[str, FlaggedShare]:
        """Of each domain, how many clips behind the threshold it flags; empty if their domains are not known."""
        if self.threshold is None or self.calibration is None:
            return {}
        return self.calibration.by_domain(above=self.threshold.value)

    def with_false_alarm_rate(self, rate: float) -> Self:
        """The same detector with another false-alarm rate. Scores and p-values stay; decisions may change.

        Nothing is fitted again: the threshold comes from the same scores of normal clips.

        Parameters
        ----------
        rate : float
            Share of normal clips that may be flagged.

        Raises
        ------
        ValueError
            If the detector has no threshold, the rate is not between 0 and 1, or its normal clips are too few for
            the rate.
        """
        if self.threshold is None:
            raise ValueError(
                f"false_alarm_rate={rate}: the detector of {self.machine!r} was fitted without a threshold, so it "
                "has no scores of normal clips to take one from; fit it again with threshold.method='conformal'"
            )
        system, scores = self.system.with_false_alarm_rate(rate), self.threshold.normal_scores
        refuse = refuse_unattainable if self.calibrated_on is None else calibrating.refuse_too_few
        refuse(system.threshold, len(scores))
        threshold = type(self.threshold).fit(scores, false_alarm_rate=rate)
        return dataclasses.replace(self, system=system, threshold=threshold)

    def calibrate(
        self,
        normals: Path | str | Iterable[Path | str | Clip],
        *,
        false_alarm_rate: float | None = None,
        method: Literal["conformal", "gamma"] | None = None,
        workers: int = 1,
        progress: Progress | None = None,
        when: datetime | None = None,
    ) -> Self:
        """The same detector with a threshold from normal recordings that the fit never saw.

        Nothing is fitted again. The scores of these recordings replace all scores behind the old threshold.
        Recordings that cannot be used, and copies, are left out; ``calibrated_on`` names them. Long recordings
        (``is_long``) are cut into windows as long as the clips of the fit.

        Parameters
        ----------
        normals : Path, str, or iterable of Path, str or Clip
            Files, and folders of normal recordings, of a later session for example; or clips.
        false_alarm_rate : float or None
            Share of normal clips that may be flagged; ``None``: as before.
        method : {"conformal", "gamma"} or None
            As of ``ThresholdConfig``; ``None``: as before. The ranks of n scores attain no rate below 1 / (n + 1).
            A gamma distribution does if it agrees with the scores.
        workers : int
            Threads that read recordings and compute features.
        progress : callable or None
            Called with (step, done, total).
        when : datetime or None
            What the history says; ``None``: now.

        Raises
        ------
        FileNotFoundError
            If there is no such file or folder.
        DatasetError
            If training clips are among the recordings, or some are not normal by their names.
        ValueError
            If the recordings that can be used are too few for the rate.
        """
        system = self._system_with(method, false_alarm_rate)
        self._warn_of_unknown_clips()
        recordings = _normal_clips(normals, self.selected_channels, "calibrate")
        clips, cutting = cut_if(recordings, self.cut, self.is_long)
        heard = learning.Later(self)
        score = partial(self._verdicts, hear=heard.hear, workers=workers)
        found = calibrating.score_normals(clips, score, seen=self.seen, progress=progress)
        config = system.threshold
        calibrating.refuse_too_few(config, len(found.scores), found.left_out)
        threshold = THRESHOLDS[config.method].fit(found.scores, false_alarm_rate=config.false_alarm_rate)
        learnt_from: Literal["fit", "calibration"] = "fit" if self.calibrated_on is None else "calibration"
        told = found.describe(self.threshold, cutting, learnt_from=learnt_from)
        now = datetime.now(UTC) if when is None else when
        new = entry(CALIBRATE, told["clips"], told["domains"], found.digest, when=now)
        return dataclasses.replace(
            self, system=system, threshold=threshold, unseen={}, calibration=found.calibration,
            calibrated_on=told, kept=heard.kept(found.clips),
            history=(*self.history, new), dependence=dependence_of(found.clips, found.scores, cutting),
        )  # fmt: skip

    def _system_with(
        self, method: Literal["conformal", "gamma"] | None, false_alarm_rate: float | None
    ) -> ResolvedSystem:
        """The system with another threshold; a conformal one in place of none."""
        before = self.system.threshold
        chosen = method or ("conformal" if before.method == "none" else before.method)
        system = dataclasses.replace(self.system, threshold=before.model_copy(update={"method": chosen}))
        return system if false_alarm_rate is None else system.with_false_alarm_rate(false_alarm_rate)

    def _warn_of_unknown_clips(self) -> None:
        if not len(self.seen):
            logger.warning(
                "the detector of %r was fitted by an older nearfar and does not know its training clips one by "
                "one; see to it that none of them is among the recordings",
                self.machine,
            )

    def learn(
        self,
        normals: Path | str | Iterable[Path | str | Clip],
        *,
        domain: Domain | None = None,
        odd_clips: OddClips = "leave out",
        workers: int = 1,
        workers_are: WorkersAre = "threads",
        jobs: Jobs | None = None,
        progress: Progress | None = None,
        when: datetime | None = None,
    ) -> Self:
        """The detector that has learnt more normal recordings, without those that it was fitted to.

        Conditioning and back end are fitted again to the embeddings of all clips, old and new, and the threshold is
        learnt again. So the outcome is that of one fit to all clips, whatever is added when. Encoders that are
        fitted to the machine stay as they are: see ``detector.learning``.

        Recordings that it knows already, copies, and recordings with a fault that spoils what it hears are left
        out; the last entry of ``history`` names them. This detector stays as it is.

        Parameters
        ----------
        normals : Path, str, or iterable of Path, str or Clip
            Files, and folders of normal recordings, such as of a new speed; or clips.
        domain : {"source", "target"} or None
            Of all of them; ``None``: as their names or ``domains.csv`` say.
        odd_clips : {"leave out", "refuse", "keep"}
            What to do with recordings whose sound is odd, such as of a machine that does not run.
        workers : int
            That read recordings and compute features.
        workers_are : {"threads", "processes"}
            As of ``fit``.
        jobs : Jobs or None
            Where embeddings are kept; ``None``: the user's cache.
        progress : callable or None
            Called with (step, done, total).
        when : datetime or None
            What the history says; ``None``: now.

        Raises
        ------
        FileNotFoundError
            If there is no such file or folder.
        DatasetError
            If some are not normal by their names, or there is nothing to learn; lists what was left out.
        ValueError
            If the detector keeps nothing to learn on with, a back end cannot learn from what it then has, or the
            domain of a recording is not told.
        """
        recordings = _normal_clips(normals, self.selected_channels, "learn")
        clips, cutting = cut_if(recordings, self.cut, self.is_long)
        given = learning.Given(
            clips, cutting, domain, odd_clips, workers, jobs or Jobs(), progress, workers_are
        )
        found = learning.learn(self, given, when=when)
        return dataclasses.replace(self, **vars(found))

    def alerts(self, false_alerts: str | float, *, cut: Cut | None = None) -> Alerts:
        """A rule that turns the scores of windows into alerts, with a stated mean time between false ones.

        Parameters
        ----------
        false_alerts : str or float
            How often a false alert may come, such as ``"1 per 30 days"``; or the mean time between two, in seconds.
        cut : Cut or None
            How recordings are cut into windows; ``None``: as ``cut``. Dependence counts only if it was measured on
            such windows; ``Alerts.describe`` says whether it does.

        Raises
        ------
        ValueError
            If the detector has no threshold, or the rule cannot be kept with its normal clips (``Alerts``).
        """
        if self.threshold is None:
            raise ValueError(
                f"false alerts of {false_alerts}: the detector of {self.machine!r} was fitted without a threshold, "
                "so it has no scores of normal clips to bet on; fit it again with threshold.method='conformal'"
            )
        cut = cut or self.cut
        times = {"window_s": cut.seconds, "hop_s": cut.hop}
        rule = (
            AlertRule.parse(false_alerts, **times)
            if isinstance(false_alerts, str)
            else AlertRule(false_alerts, **times)
        )
        known = self.dependence
        if known is not None and not known.is_of(cut.seconds, cut.hop):
            known = None
        return Alerts(rule, self.threshold.normal_scores, dependence=known)

    @property
    def sample_rate(self) -> int:
        """At which it listens, in Hz: the highest rate of its branches."""
        return max(branch.encoder.sample_rate for branch in self.branches)

    @property
    def parameters(self) -> int:
        """How many numbers were learnt to make the encoders of all branches."""
        return sum(branch.encoder.parameters for branch in self.branches)

    @property
    def selected_channels(self) -> tuple[Channel, ...]:
        """Which channels of the training clips were used, as chosen for the fit; empty: all."""
        return tuple(self.trained_on.get("selected_channels", ()))

    @property
    def window_seconds(self) -> float:
        """The length of a window: that of the clips of the fit, the median where they differ.

        Detectors of format 6 and before know only the shortest and the longest: then it is the middle of these.
        Those of format 3 and before do not know lengths: 10 s.
        """
        if "window_seconds" in self.trained_on:
            return float(self.trained_on["window_seconds"])
        return WINDOW_SECONDS if self.usual is None else float(self.usual.seconds.mean())

    @property
    def cut(self) -> Cut:
        """How it cuts recordings into windows by default: as those of the fit.

        Windows are as long as the clips of the fit. They lie side by side, unless the fit itself cut recordings
        with another hop.
        """
        known = self.trained_on.get("recordings")
        if known is not None and known["window_seconds"] == self.window_seconds:
            return Cut(self.window_seconds, known["hop_seconds"])
        return Cut.of(self.window_seconds)

    def is_long(self, seconds: float) -> bool:
        """Whether a recording of this length is to be cut into windows.

        It is longer than the longest clip of the fit, and than a window, by more than 1 %.
        """
        longest = 0.0 if self.usual is None else float(self.usual.seconds[1])
        return seconds > (1 + LEAST_REST) * max(longest, self.window_seconds)

    def score(
        self,
        recording: Samples | Recording | Path | str,
        rate: int | None = None,
        *,
        name: str = "",
        notes: Sequence[Note] = (),
        transforms: Transforms | None = None,
    ) -> Verdict:
        """What it says of one recording.

        Parameters
        ----------
        recording : (channels, samples) array, Recording, Path or str
            Samples in [-1, 1), of the channels that are used; or a recording, as of ``score_file``.
        rate : int or None
            Of samples, in Hz: at least ``sample_rate``. A file has its own.
        name : str
            What the verdict calls samples.
        notes : sequence of Note
            What the reader of samples noted.
        transforms : Transforms or None
            Of samples: what they share with windows that overlap. The verdict is the same.

        Raises
        ------
        AudioError, MicrophoneError
            If the samples have too low a rate or too few channels, or no finite score.
        TypeError
            If samples have no rate, or a file is given one.
        """
        if isinstance(recording, Recording | Path | str):
            if rate is not None:
                raise TypeError(f"rate={rate}: the file {recording} has its own rate; omit it")
            return self.score_file(recording)
        if rate is None:
            raise TypeError("rate is missing: samples alone do not tell their sampling rate; give it in Hz")
        return self._score_samples(recording, rate, name, notes, transforms)

    def _score_samples(
        self,
        samples: Samples,
        rate: int,
        name: str,
        notes: Sequence[Note] = (),
        transforms: Transforms | None = None,
        hear: Callable[[list[NDArray[Any]]], None] | None = None,
    ) -> Verdict:
        audio.require_samples(samples, name or "recording")
        if transforms is None:
            transforms = Transforms(samples, wanted=self.frame_lengths(rate))
        measured = measure(samples, rate, transforms)
        faults = self._faults(measured, samples, notes)
        lengths = {name or "recording": samples.shape[-1] / rate}
        for branch in self.branches:
            warn_of_lengths(branch.encoder, branch.resolved.encoder.name, self.machine, lengths)
        embeddings = self._embeddings(samples, rate, name or "recording", transforms)
        try:
            of_parts = self._scores_of_parts(embeddings)
            score = float(self._fuse(of_parts)[0])
            branches = self._branch_scores(of_parts[0])
        except ValueError as error:  # it has no finite embedding, no direction, no finite score
            raise AudioError(f"{name or 'recording'}: cannot be scored: {error}") from error
        if hear is not None:
            hear(embeddings)
        p_value, decision = float("nan"), ""
        if self.threshold is not None:
            p_value = float(self.threshold.p_value(np.array([score]))[0])
            decision = "anomaly" if is_anomaly(self.threshold, np.array([score]))[0] else "normal"
        if any(fault.spoils(self._microphones) for fault in faults):
            decision = "unusable"  # the score is of the fault, not of the machine
        levels = measured.summary()
        return Verdict(name, score, p_value, decision, faults, branches=branches, levels=levels)  # type: ignore[arg-type]

    def frame_lengths(self, rate: int) -> frozenset[int]:
        """Of which lengths its microphone views look at the spectra of frames of a recording with that rate."""
        views = [branch.resolved.view for branch in self.branches if branch.encoder.sample_rate == rate]
        return frozenset(n for view in views for m in VIEWS[view].microphones for n in frame_lengths(m))

    def _faults(
        self, measured: Measured, samples: Samples, notes: Sequence[Note]
    ) -> tuple[RecordingFault, ...]:
        """What is wrong with the recording itself, each kind once for each microphone."""
        known = self.trained_on
        found = of_notes(notes, known.get("faults"), clips=known["clips"])
        found += faults_alone(measured)
        if self.usual is not None:
            found += faults_against(self.usual, measured, lambda: samples)
        return each_once(found)

    @property
    def _microphones(self) -> list[Microphone]:
        return [MICROPHONES[m] for m in self.system.microphones]

    def _embeddings(
        self, samples: Samples, rate: int, name: str = "", transforms: Transforms | None = None
    ) -> list[NDArray[Any]]:
        """Of a recording, by each branch, which hears it at its own rate."""
        heard = {} if transforms is None else {rate: transforms}
        found = []
        for branch in self.branches:
            own = branch.encoder.sample_rate
            if own not in heard:
                heard[own] = Transforms(audio.at_rate(samples, rate, own, name))
            waveforms, resolved = heard[own].samples, branch.resolved
            audio.require_length(waveforms, branch.encoder.min_samples, own, name)
            how = {"view": resolved.view, "pooling": resolved.pooling}
            found.append(embed(waveforms, branch.encoder, **how, transforms=heard[own]))
        return found

    def embeddings(self, samples: Samples, rate: int, name: str = "recording") -> list[NDArray[Any]]:
        """What each branch makes of a recording, before conditioning and back end.

        Parameters
        ----------
        samples : (channels, samples) array
        rate : int
            In Hz, at least ``sample_rate``.
        name : str
            For messages.

        Returns
        -------
        list of (dim,) or (rows, dim) arrays

        Raises
        ------
        AudioError, MicrophoneError
            As ``score``.
        """
        audio.require_samples(samples, name)
        return self._embeddings(samples, rate, name)

    def _scores_of_parts(self, embeddings: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Scores of one recording by each part of the system, (1, n_parts): each the mean over its branches."""
        scores = [branch.anomaly_score([x]) for branch, x in zip(self.branches, embeddings, strict=True)]
        return np.stack([average(own) for own in self.system.by_part(scores)], axis=1)

    def _fuse(self, of_parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score of each recording, (n_clips,), from those of the parts, (n_clips, n_parts)."""
        fusion = self.system.fusion
        if fusion is None:
            return of_parts[:, 0]
        assert self.normals is not None
        return fuse(of_parts, self.normals, weights=fusion.weights, calibration=fusion.calibration)

    def _branch_scores(self, of_parts: NDArray[np.float64]) -> tuple[BranchScore, ...]:
        """What each part of a fused system says of one recording, (n_parts,)."""
        fusion = self.system.fusion
        if fusion is None:
            return ()
        assert self.normals is not None
        calibrated = calibrate(
            of_parts[None], self.normals, branches=list(fusion.weights), calibration=fusion.calibration
        )[0]
        p_values = [
            conformal_p_values(np.sort(normals), score)
            for normals, score in zip(self.normals.T, of_parts[:, None], strict=True)
        ]
        return tuple(
            BranchScore(part.name, score, float(p), part.weight * float(own))
            for part, score, (p,), own in zip(
                fusion.parts, of_parts.tolist(), p_values, calibrated, strict=True
            )
        )

    def score_clips(
        self, clips: Sequence[Clip], *, jobs: Jobs, progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Scores of many recordings, (n_clips,), as of ``score_file``; what frozen encoders make of them is kept.

        Raises
        ------
        DatasetError
            If recordings cannot be used; all that cannot.
        """
        clips = [c if c.channels else dataclasses.replace(c, channels=self.selected_channels) for c in clips]
        scores: list[NDArray[np.float64]] = []
        problems: dict[str, str] = {}
        for number, branch in enumerate(self.branches, start=1):
            told = tell_branch(progress, "", number, len(self.branches))
            X = branch.embed(clips, workers=1, jobs=jobs, progress=told)
            scores.append(np.full(len(clips), np.nan))
            for i, (clip, x) in enumerate(zip(clips, X, strict=True)):
                try:
                    scores[-1][i] = branch.anomaly_score([x])[0]
                except ValueError as error:
                    problems.setdefault(clip.key, f"{clip.path}: cannot be scored: {error}")
        if problems:
            raise DatasetError(problems.values())
        return self._fuse(np.stack([average(own) for own in self.system.by_part(scores)], axis=1))

    def score_file(
        self, recording: Recording | Path | str, *, rate: int | None = None, channels: int | None = None
    ) -> Verdict:
        """What it says of a recording; an unusable one is a verdict with an error, not an exception.

        Its channels are those that the recording chooses, or else those that were chosen for the fit. A named pipe
        or device is read to its end, as by ``score_stream``, for which ``rate`` and ``channels`` are.
        """
        return self._verdict(recording, rate=rate, channels=channels)

    def _verdict(
        self,
        recording: Recording | Path | str,
        *,
        rate: int | None = None,
        channels: int | None = None,
        hear: Callable[[Recording, list[NDArray[Any]]], None] | None = None,
    ) -> Verdict:
        """As ``score_file``; ``hear`` is told what each branch makes of a file."""
        asked = Recording.of(Path(recording) if isinstance(recording, str) else recording)
        name = str(asked)
        try:
            if audio.is_stream(asked.path):
                with asked.path.open("rb") as stream:
                    return self.score_stream(
                        stream, rate=rate, channels=channels, selected=asked.channels, name=name
                    )
            used = asked if asked.channels else dataclasses.replace(asked, channels=self.selected_channels)
            recorded = audio.read_recorded(used)
            told = None if hear is None else partial(hear, asked)
            return self._score_samples(recorded.samples, recorded.rate, name, recorded.notes, hear=told)
        except (AudioError, MicrophoneError, MissingPackageError, OSError) as error:
            message = str(error).removeprefix(f"{name}: ")
            if isinstance(error, MicrophoneError):
                message += missing_track(asked)
            return Verdict(name, float("nan"), float("nan"), "unusable", error=message)

    def _verdicts(
        self,
        recordings: Sequence[Recording],
        *,
        hear: Callable[[Recording, list[NDArray[Any]]], None],
        workers: int,
    ) -> Iterator[Verdict]:
        """As ``score_files``, of files; ``hear`` is told what each branch makes of them."""
        keep_freed_memory()
        return audio.each(recordings, partial(self._verdict, hear=hear), workers=workers)

    def score_files(
        self,
        recordings: Iterable[Recording | Path | str],
        *,
        workers: int = 1,
        rate: int | None = None,
        channels: int | None = None,
        alarm: AlarmRule | str | None = None,
    ) -> Iterator[Verdict]:
        """Verdicts on recordings, in their order, one at a time, as of ``score_file``.

        Parameters
        ----------
        recordings : iterable of Recording, Path or str
        workers : int
            Threads.
        rate, channels : int or None
            As of ``score_file``.
        alarm : AlarmRule, str or None
            Such as ``"3/5"``: the verdicts then say whether at least 3 of the last 5 recordings are anomalous. The
            recordings of each folder are counted on their own. An unusable one takes no place among the 5.

        Raises
        ------
        TypeError
            If one path is given in place of several: the letters of its name are no paths.
        ValueError
            If the rule is none, or the detector has no threshold for it.
        """
        if isinstance(recordings, str | Path):
            given = str(recordings)
            raise TypeError(f"recordings={given!r}: expected several; give [{given!r}], or use score_file")
        rule = AlarmRule.parse(alarm) if isinstance(alarm, str) else alarm
        if rule is not None and self.threshold is None:
            raise ValueError(
                f"alarm={rule}: the detector of {self.machine!r} has no threshold, so no recording is anomalous; "
                "set one with `nearfar calibrate`, or omit the alarm"
            )
        keep_freed_memory()
        score = partial(self.score_file, rate=rate, channels=channels)
        verdicts = audio.each(recordings, score, workers=workers)
        return verdicts if rule is None else _with_alarms(verdicts, Alarms(rule))

    def score_stream(
        self,
        stream: BinaryIO,
        *,
        rate: int | None = None,
        channels: int | None = None,
        selected: Sequence[Channel] = (),
        name: str = "standard input",
    ) -> Verdict:
        """What it says of a stream, read to its end: of a sound file, or raw interleaved little-endian 16-bit PCM.

        Parameters
        ----------
        stream : binary file
        rate, channels : int or None
            Of PCM; ``None``: as of the training clips. A sound file has its own, and must agree.
        selected : sequence of int or str
            Which channels are near, far, and so on; of PCM, ``channels`` must be given. Empty: those chosen for the
            fit; of PCM, all.
        name : str
            What the verdict calls it.

        Raises
        ------
        AudioError, MicrophoneError
            If there is no sound, or it cannot be used.
        """
        pcm_rate, count = self.pcm_format(rate, channels)
        recorded = audio.read_stream(stream, name, rate=pcm_rate, channels=count)
        if recorded.header.format == audio.RAW_FORMAT:
            refuse_unnumbered(selected, channels, name)
        else:
            refuse_contradiction(recorded.header, rate, channels, name)
            selected = selected or self.selected_channels
        used = audio.select(recorded, selected, name)
        return self._score_samples(used.samples, used.rate, name)

    def pcm_format(self, rate: int | None, channels: int | None) -> tuple[int, int]:
        """Rate and number of channels of raw samples: those given, or else those of the training clips.

        Raises
        ------
        AudioError
            If one is below 1.
        """
        count = self.trained_on["channels"] if channels is None else channels
        pcm_rate = self.trained_on["rate"] if rate is None else rate
        if count < 1 or pcm_rate < 1:
            raise AudioError(f"channels={count}, rate={pcm_rate}: both must be at least 1")
        return pcm_rate, count

    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write the detector's folder: whole, or not at all.

        Raises
        ------
        FileExistsError
            If the folder is there, unless ``replace``; and if it holds anything but a detector, even then.
        """
        folder = Path(folder)
        refuse_to_replace(folder, replace=replace)
        embeddings = self._embeddings(self.sample, self.sample_rate)
        arrays: dict[str, NDArray[Any]] = {"self_check.sample": self.sample}
        for i, (branch, embedding) in enumerate(zip(self.branches, embeddings, strict=True)):
            arrays |= {f"branches.{i}.{name}": array for name, array in branch.arrays().items()}
            arrays[f"self_check.embeddings.{i}"] = embedding
        if self.threshold is not None:
            arrays["threshold.normal_scores"] = self.threshold.normal_scores
        if self.calibration is not None:
            arrays |= {f"threshold.{name}": array for name, array in self.calibration.arrays().items()}
        if self.usual is not None:
            arrays |= {f"usual.{name}": array for name, array in self.usual.arrays().items()}
        if len(self.seen):
            arrays["trained_on.seen"] = self.seen
        if self.normals is not None:
            arrays["fusion.normals"] = self.normals
        if self.kept is not None:
            arrays |= {f"kept.{name}": array for name, array in self.kept.arrays().items()}
        readable = {} if self.sounds is None else dict(self.sounds.readable())
        if self.sounds is not None:
            arrays |= {f"sounds.{name}": array for name, array in self.sounds.arrays().items()}
        content = {
            "machine": self.machine,
            "system": self.system.describe(),
            "sample_rate": self.sample_rate,
            "parameters": self.parameters,
            "trained_on": self.trained_on,
            "threshold": self.describe_threshold(),
            "calibrated_on": self.calibrated_on,
            "dependence": None if self.dependence is None else self.dependence.describe(),
            "history": list(self.history),
            "sounds": None if self.sounds is None else self.sounds.describe(readable),
            "self_check_score": float(self._fuse(self._scores_of_parts(embeddings))[0]),
        }
        files = {clip.file: sound for clip, sound in readable.items()}
        file_format.write(folder, content, arrays, files, take_place=replace)

    def describe_threshold(self) -> dict[str, Any] | None:
        """The threshold in numbers, and what is known of the clips behind it; ``None`` without a threshold."""
        if self.threshold is None:
            return None
        told = {
            "value": self.threshold.value,
            "false_alarm_rate": self.threshold.false_alarm_rate,
            "smallest_p_value": self.threshold.floor,
            "normal_clips": len(self.threshold.normal_scores),
        }
        if self.calibration is None:
            return told
        domains = {
            d: {"clips": x.clips, "flagged": x.flagged, "share": x.share, "interval": list(x.interval())}
            for d, x in self.flagged().items()
        }
        return {**told, "domains": domains, **self.calibration.describe()}

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a detector, check that it is whole, and that it still computes what it did.

        Raises
        ------
        FileNotFoundError
            If there is no detector.
        DetectorError
            If it is damaged, of a newer format, or fails its self-check.
        """
        folder = Path(folder)
        content, arrays = file_format.read(folder)
        system = file_format.read_system(content, folder)
        threshold = None
        if content["threshold"] is not None:
            rate = content["threshold"]["false_alarm_rate"]
            threshold = THRESHOLDS[system.threshold.method](arrays["threshold.normal_scores"], rate)
        calibration = file_format.calibration(content, arrays)
        usual = Usual.from_arrays(part(arrays, "usual")) if "usual.rate" in arrays else None
        if usual is None:
            logger.warning(
                "%s: fitted by an older nearfar, so recordings are not compared with its training clips; fit it "
                "again",
                folder,
            )
        branches = tuple(
            Branch(resolved).with_arrays(part(arrays, f"branches.{i}"))
            for i, resolved in enumerate(system.branches)
        )
        sample = arrays["self_check.sample"]
        trained_on = file_format.trained_on(content)
        detector = cls(content["machine"], system, branches, threshold, usual, trained_on, sample)
        detector.calibration = calibration
        detector.seen = arrays.get("trained_on.seen", detector.seen)
        detector.calibrated_on = content.get("calibrated_on")
        detector.normals = arrays.get("fusion.normals")
        if content.get("dependence") is not None:
            detector.dependence = Dependence.restore(content["dependence"])
        detector.history = file_format.history(content)
        if kept := part(arrays, "kept"):
            detector.kept = Kept.from_arrays(kept, len(branches))
        if content.get("sounds") is not None:
            detector.sounds = NormalSounds.restore(content["sounds"], part(arrays, "sounds"), folder)
        detector._check(part(arrays, "self_check.embeddings"), content, folder)
        return detector

    def _check(self, stored: Mapping[str, NDArray[Any]], content: Mapping[str, Any], folder: Path) -> None:
        embeddings = self._embeddings(self.sample, self.sample_rate)
        score = float(self._fuse(self._scores_of_parts(embeddings))[0])
        close = all(
            np.allclose(x, stored[str(i)], rtol=SELF_CHECK_TOLERANCE, atol=SELF_CHECK_TOLERANCE)
            for i, x in enumerate(embeddings)
        )
        if close and np.isclose(score, content["self_check_score"], rtol=SELF_CHECK_TOLERANCE):
            return
        then = content["versions"]
        changed = [
            f"{n} {then.get(n)} -> {now}" for n, now in library_versions().items() if then.get(n) != now
        ]
        raise DetectorError(
            f"{folder}: the self-check fails: its stored recording scored {content['self_check_score']:.6g} when "
            f"it was saved and scores {score:.6g} now (libraries changed since: {', '.join(changed) or 'none'}); "
            "fit it again, or install the libraries that it was saved with"
        )


def _with_alarms(verdicts: Iterable[Verdict], alarms: Alarms) -> Iterator[Verdict]:
    """The same verdicts, each with whether there is an alarm in its folder after it."""
    for verdict in verdicts:
        flagged = None if verdict.decision == "unusable" else verdict.decision == "anomaly"
        yield dataclasses.replace(verdict, alarm=alarms.after(Path(verdict.name).parent, flagged))


def _normal_clips(
    normals: Path | str | Iterable[Path | str | Clip], channels: Sequence[Channel], command: str
) -> list[Clip]:
    """The clips that are meant, with the channels of the fit where they choose none."""
    given = [normals] if isinstance(normals, Path | str) else list(normals)
    clips = [one for one in given if isinstance(one, Clip)]
    clips += datasets.load_normals([one for one in given if not isinstance(one, Clip)], command=command)
    return [one if one.channels else dataclasses.replace(one, channels=tuple(channels)) for one in clips]


def _loaded(given: System | FusedSystem | Path | str | None) -> System | FusedSystem:
    """The system that is meant; ``None`` is the default."""
    if isinstance(given, System | FusedSystem):
        return given
    return load_any(default_system() if given is None else given)


def _resolved(
    given: System | FusedSystem | ResolvedSystem | Path | str | None, machine: Machine, seed: int, jobs: Jobs
) -> ResolvedSystem:
    if isinstance(given, ResolvedSystem):
        return given
    return resolve(_loaded(given), seed=seed, jobs=jobs, machine=machine.name, clips=machine.train)


def _with_choices(
    system: ResolvedSystem, adapters: Sequence[Adapter | Path | str], rate: float | None
) -> ResolvedSystem:
    """The system with the adapters and the false-alarm rate that are given, if any."""
    if adapters:
        given = [one if isinstance(one, Adapter) else Adapter.load(Path(one)) for one in adapters]
        system = system.with_adapters(given)
    return system if rate is None else system.with_false_alarm_rate(rate)


def refuse_unnumbered(selected: Sequence[Channel], channels: int | None, name: str) -> None:
    """Raise if channels of raw samples are chosen, and it was not said how many there are."""
    if selected and channels is None:
        chosen = ",".join(map(str, selected))
        raise AudioError(
            f"{name}: channels {chosen} of raw PCM, which does not tell how many it has; give their number with "
            "--pcm-channels"
        )


def refuse_contradiction(header: Header, rate: int | None, channels: int | None, name: str) -> None:
    """Raise if a sound file on a stream is not what was said of it."""
    for what, said, found in (("rate", rate, header.rate), ("channels", channels, header.channels)):
        if said not in (None, found):
            raise AudioError(
                f"{name}: {what}={said}, but it is a sound file ({header.format}) with {what}={found}; omit {what}"
            )
