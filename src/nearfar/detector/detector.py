"""A detector: everything that was fitted to one machine, saved, loaded, and scoring new clips.

On disk a detector is a folder of two files: ``arrays.safetensors`` and ``detector.json``. There is no pickle in
it, so loading one executes nothing. Both files carry a digest, and a stored recording must give its stored
embedding and score again, so that a damaged file or a library that computes otherwise is noticed at once.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nearfar import __version__
from nearfar.backends import part
from nearfar.decisions.thresholds import (
    THRESHOLDS,
    Threshold,
    ThresholdConfig,
    folds,
    is_anomaly,
    refuse_unattainable,
)
from nearfar.embedding.embeddings import VIEWS, embed
from nearfar.files.atomic import atomic_folder, refuse_existing, write_json
from nearfar.files.digests import digest, digest_file
from nearfar.files.provenance import library_versions
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Header, Samples
from nearfar.recordings.clips import MIN_TRAINING_CLIPS, Clip, DatasetError, Machine
from nearfar.recordings.microphones import (
    MICROPHONES,
    Fault,
    Microphone,
    MicrophoneError,
    Placement,
    contrast,
    health,
)
from nearfar.systems.branches import Branch, BranchConfig, Progress, attributes, domains, save_arrays
from nearfar.systems.configuration import System
from nearfar.training.adapters import Adapter

FORMAT = 2
FILES = {"detector.json", "arrays.safetensors"}
SEED = 13711  # of the official baseline
SELF_CHECK_SECONDS = 2.0  # of a training clip
SELF_CHECK_TOLERANCE = (
    1e-2  # relative, of embedding and score: libraries round differently, not more than that
)

logger = logging.getLogger(__name__)


class DetectorError(ValueError):
    """A detector's folder cannot be used; the message says why and what to do."""


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
        Empty for a detector without a threshold; unusable is also a recording whose microphones are broken.
    faults : tuple of Fault
        Of the microphones.
    error : str
        Why the recording could not be used.
    """

    name: str
    score: float
    p_value: float
    decision: Literal["normal", "anomaly", "", "unusable"]
    faults: tuple[Fault, ...] = ()
    error: str = ""


@dataclass
class Detector:
    """What is fitted to one machine.

    Attributes
    ----------
    machine : str
    system : System
    branches : tuple of Branch
        Of the system's ensemble; the score is the mean of theirs.
    threshold : Threshold or None
    placement : Placement or None
        Of two microphones.
    trained_on : dict
        Clips by domain, rate, channels, digest of the audio, seed, microphone faults that were seen.
    sample : (channels, samples) array
        The recording of the self-check, at the encoder's rate.
    unseen : mapping from key to float
        Scores of training clips by fits that had not seen them: what the threshold was learnt from. Not saved.
    """

    machine: str
    system: System
    branches: tuple[Branch, ...]
    threshold: Threshold | None
    placement: Placement | None
    trained_on: dict[str, Any]
    sample: Samples
    unseen: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)
    _rates_told: set[int] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def fit(
        cls,
        machine: Machine,
        system: System,
        *,
        adapters: Sequence[Adapter] = (),
        seed: int = SEED,
        workers: int = 1,
        jobs: Jobs | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Fit a system to the normal training clips of a machine.

        Parameters
        ----------
        machine : Machine
        system : System
        adapters : sequence of Adapter
            One a branch of the system's ensemble, for systems that are adapted; trained before, and saved with the
            detector.
        seed : int
        workers : int
            Threads that read recordings and compute features.
        jobs : Jobs or None
            Where trained encoders are kept; ``None``: the user's cache.
        progress : callable or None
            Called with (step, done, total).

        Raises
        ------
        DatasetError
            If the clips cannot be used; lists everything that is wrong.
        ValueError
            If the clips are too few for the back end, or for the false-alarm rate; or if the system wants adapters,
            and others are given, or none.
        """
        jobs = jobs or Jobs()
        system = system.of_machine(machine.name)
        refuse_other_adapters(system, adapters, jobs)
        weights = weights_of(system, jobs)
        clips = machine.train
        header, faults, placement = _inspect(machine, system, workers, progress)
        n_unseen = sum(len(held_out) for _, held_out in folds(domains(clips), system.threshold, seed=seed))
        refuse_unattainable(system.threshold, n_unseen)
        members = system.members(seed)
        branches, embedded = [], []
        for number, (config, of_member) in enumerate(members, start=1):
            told = _telling(progress, "", number, len(members))
            branch = _begun(config, adapters, number - 1, jobs)
            branch.fit_encoder(clips, seed=of_member, workers=workers, jobs=jobs, progress=told)
            X = branch.embed(clips, workers=workers, jobs=jobs, progress=told)
            branches.append(branch.fit_backend(X, domains(clips), attributes(clips), seed=of_member))
            embedded.append(X)
        unseen = _unseen_scores(
            system, clips, embedded, adapters, seed=seed, workers=workers, jobs=jobs, progress=progress
        )
        trained_on = {
            "clips": len(clips),
            "domains": dict(sorted(Counter(domains(clips).tolist()).items())),
            "digest": digest(
                [[c.key, sha] for c, sha in zip(clips, jobs.digests_of(c.path for c in clips), strict=True)]
            ),
            "rate": header.rate,
            "channels": header.channels,
            "seed": seed,
            "weights": weights,
            "adapters": [adapter.describe() for adapter in adapters],
            "microphone_faults": faults,
        }
        rate = branches[0].encoder.sample_rate
        sample = audio.load(clips[0].path, rate)[:, : int(SELF_CHECK_SECONDS * rate)]
        threshold = _threshold(system.threshold, np.array(list(unseen.values())))
        return cls(machine.name, system, tuple(branches), threshold, placement, trained_on, sample, unseen)

    @property
    def sample_rate(self) -> int:
        """At which it listens, in Hz."""
        return self.branches[0].encoder.sample_rate

    @property
    def parameters(self) -> int:
        """How many numbers were learnt to make the encoders of all branches."""
        return sum(branch.encoder.parameters for branch in self.branches)

    def score(self, samples: Samples, rate: int, *, name: str = "") -> Verdict:
        """What it says of one recording.

        Parameters
        ----------
        samples : (channels, samples) array
            In [-1, 1).
        rate : int
            In Hz; at least ``sample_rate``.

        Raises
        ------
        AudioError, MicrophoneError
            If the recording has too low a rate or too few channels.
        """
        audio.require_samples(samples, name or "recording")
        samples = audio.at_rate(samples, rate, self.sample_rate, name or "recording")
        self._tell_of_another_rate(rate)
        shortest = max(branch.encoder.min_samples for branch in self.branches)
        audio.require_length(samples, shortest, self.sample_rate, name or "recording")
        score = self._score_of(self._embeddings(samples))
        faults = health(samples, self.placement)
        p_value, decision = float("nan"), ""
        if self.threshold is not None:
            p_value = float(self.threshold.p_value(np.array([score]))[0])
            decision = "anomaly" if is_anomaly(self.threshold, np.array([score]))[0] else "normal"
        if any(m.is_spoilt_by(fault) for m in self._microphones for fault in faults):
            decision = "unusable"  # the score is of a broken microphone, not of the machine
        return Verdict(name, score, p_value, decision, faults)  # type: ignore[arg-type]

    @property
    def _microphones(self) -> list[Microphone]:
        return [MICROPHONES[m] for m in VIEWS[self.system.branch.view].microphones]

    def _tell_of_another_rate(self, rate: int) -> None:
        if rate in {self.trained_on["rate"], *self._rates_told}:
            return
        self._rates_told.add(rate)
        logger.warning(
            "%s: recordings of %d Hz, but the detector was fitted to %d Hz: the filters of recorder and resampling "
            "differ near %d Hz, which alone can raise the score; record as for the fit",
            self.machine, rate, self.trained_on["rate"], self.sample_rate // 2,
        )  # fmt: skip

    def _embeddings(self, samples: Samples) -> list[NDArray[Any]]:
        """Of a recording, by each branch."""
        return [
            embed(samples, branch.encoder, view=branch.config.view, pooling=branch.config.pooling)
            for branch in self.branches
        ]

    def _score_of(self, embeddings: Sequence[NDArray[Any]]) -> float:
        """The mean over the branches, of their embeddings of one recording."""
        scores = [branch.anomaly_score([x]) for branch, x in zip(self.branches, embeddings, strict=True)]
        return float(averaged(scores)[0])

    def score_clips(self, clips: Sequence[Clip], *, jobs: Jobs, tell: Progress) -> NDArray[np.float64]:
        """Scores of many recordings, (n_clips,), as of ``score_file``; what frozen encoders make of them is kept.

        Raises
        ------
        DatasetError
            If recordings cannot be used; all that cannot.
        """
        scores = []
        for number, branch in enumerate(self.branches, start=1):
            told = _telling(tell, "", number, len(self.branches))
            scores.append(branch.anomaly_score(branch.embed(clips, workers=1, jobs=jobs, progress=told)))
        return averaged(scores)

    def score_file(self, path: Path | str) -> Verdict:
        """What it says of the recording in a file; an unusable one is a verdict with an error, not an exception."""
        path = Path(path)
        try:
            samples, rate = audio.read(path)
            return self.score(samples, rate, name=str(path))
        except (AudioError, MicrophoneError, OSError) as error:
            message = str(error).removeprefix(f"{path}: ")
            return Verdict(str(path), float("nan"), float("nan"), "unusable", error=message)

    def score_files(self, paths: Iterable[Path | str], *, workers: int = 1) -> Iterator[Verdict]:
        """Verdicts on files, in their order, one at a time."""
        return audio.each(paths, self.score_file, workers=workers)

    def score_stream(
        self, stream: BinaryIO, *, rate: int | None = None, channels: int | None = None
    ) -> Verdict:
        """What it says of raw interleaved little-endian 16-bit PCM, read to its end.

        Parameters
        ----------
        stream : binary file
        rate, channels : int or None
            ``None``: as of the training clips.
        """
        channels = self.trained_on["channels"] if channels is None else channels
        rate = self.trained_on["rate"] if rate is None else rate
        if channels < 1 or rate < 1:
            raise AudioError(f"channels={channels}, rate={rate}: both must be at least 1")
        return self.score(audio.read_pcm16(stream, channels=channels), rate, name="standard input")

    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write the detector's folder: whole, or not at all.

        Raises
        ------
        FileExistsError
            If the folder is there, unless ``replace``; and if it holds anything but a detector, even then.
        """
        folder = Path(folder)
        refuse_to_replace(folder, replace=replace)
        embeddings = self._embeddings(self.sample)
        arrays: dict[str, NDArray[Any]] = {"self_check.sample": self.sample}
        for i, (branch, embedding) in enumerate(zip(self.branches, embeddings, strict=True)):
            arrays |= {f"branches.{i}.{name}": array for name, array in branch.arrays().items()}
            arrays[f"self_check.embeddings.{i}"] = embedding
        if self.threshold is not None:
            arrays["threshold.normal_scores"] = self.threshold.normal_scores
        if self.placement is not None:
            arrays |= {"placement.mean": self.placement.mean, "placement.precision": self.placement.precision}
        with atomic_folder(folder, replace=replace) as unfinished:
            save_arrays(unfinished / "arrays.safetensors", arrays)
            content = {
                "format": FORMAT,
                "machine": self.machine,
                "system": self.system.model_dump(mode="json"),
                "sample_rate": self.sample_rate,
                "parameters": self.parameters,
                "trained_on": self.trained_on,
                "threshold": self.describe_threshold(),
                "self_check_score": self._score_of(embeddings),
                "versions": {"nearfar": __version__, **library_versions()},
                "arrays": digest_file(unfinished / "arrays.safetensors"),
            }
            write_json(unfinished / "detector.json", {**content, "digest": digest(content)})

    def describe_threshold(self) -> dict[str, float] | None:
        """The threshold in numbers, or ``None``."""
        if self.threshold is None:
            return None
        return {
            "value": self.threshold.value,
            "false_alarm_rate": self.threshold.false_alarm_rate,
            "smallest_p_value": self.threshold.floor,
            "normal_clips": len(self.threshold.normal_scores),
        }

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
        content = _read_description(folder)
        arrays = _as_of_now(_read_arrays(folder, content["arrays"]), content["format"])
        system = _system(content["system"], folder)
        threshold = None
        if content["threshold"] is not None:
            rate = content["threshold"]["false_alarm_rate"]
            threshold = THRESHOLDS[system.threshold.method](arrays["threshold.normal_scores"], rate)
        placement = None
        if "placement.mean" in arrays:
            placement = Placement(arrays["placement.mean"], arrays["placement.precision"])
        branches = tuple(
            Branch(config).with_arrays(part(arrays, f"branches.{i}"))
            for i, (config, _) in enumerate(system.members(content["trained_on"]["seed"]))
        )
        _refuse_other_weights(branches, content["trained_on"].get("weights"), folder)
        sample = arrays["self_check.sample"]
        detector = cls(
            content["machine"], system, branches, threshold, placement, content["trained_on"], sample
        )
        detector._check(part(arrays, "self_check.embeddings"), content, folder)
        return detector

    def _check(self, stored: Mapping[str, NDArray[Any]], content: Mapping[str, Any], folder: Path) -> None:
        embeddings = self._embeddings(self.sample)
        score = self._score_of(embeddings)
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


def weights_of(system: System, jobs: Jobs) -> list[str | None]:
    """SHA-256 of the files that the weights of each branch's encoder come from.

    Raises
    ------
    WeightsError
        If one is not there; says how to get it.
    """
    return [Branch(config).weights(jobs) for config, _ in system.members(SEED)]


def refuse_other_adapters(system: System, adapters: Sequence[Adapter], jobs: Jobs) -> None:
    """Raise before long work with adapters that do not suit the system.

    Raises
    ------
    ValueError
        If the system is adapted and there is not one for each branch; or it is not, and there are some.
    AdapterError
        If one was trained on another network.
    """
    members = system.members(SEED)
    if system.branch.adaptation is None and not adapters:
        return
    if system.branch.adaptation is None:
        raise ValueError(f"{system.name} is not adapted, so it takes no adapter; leave it away")
    if len(adapters) != len(members):
        raise ValueError(
            f"adapters={len(adapters)}, but {system.name} is adapted over several machines before one is fitted, "
            f"and takes {len(members)}, one a branch; train one with `nearfar adapt`, and give it with --adapter"
        )
    for number, (config, _) in enumerate(members):
        _begun(config, adapters, number, jobs)


def _begun(config: BranchConfig, adapters: Sequence[Adapter], number: int, jobs: Jobs) -> Branch:
    """A branch of the ensemble with its adapter, if it has one."""
    branch = Branch(config)
    return branch.adapt(adapters[number], jobs=jobs) if adapters else branch


def refuse_to_replace(folder: Path, *, replace: bool) -> None:
    """Raise before a fit whose detector would have no place, or would take that of something else.

    Raises
    ------
    FileExistsError
        If the folder is there, unless ``replace`` is asked for and it holds a detector and nothing else.
    """
    refuse_existing(folder, replace=replace)
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= FILES):
        raise FileExistsError(f"{folder} is not a detector, so it is not replaced; choose another name")


def _inspect(
    machine: Machine, system: System, workers: int, progress: Progress | None
) -> tuple[Header, dict[str, int], Placement | None]:
    """Look at every training clip before anything is fitted: all problems at once."""
    clips = machine.train
    if len(clips) < MIN_TRAINING_CLIPS:
        raise DatasetError(
            [f"{machine.name}: {len(clips)} normal training clips; at least {MIN_TRAINING_CLIPS} are needed, and "
             f"some {round(1 / system.threshold.false_alarm_rate)} for a false-alarm rate of "
             f"{system.threshold.false_alarm_rate:g}; record more of the machine in normal operation"]
        )  # fmt: skip
    branches = [Branch(config) for config, _ in system.members(SEED)]
    view = VIEWS[system.branch.view]
    header = _headers(machine, view.channels)
    needed = [MICROPHONES[m] for m in view.microphones]
    rates = sorted({branch.encoder.sample_rate for branch in branches})
    if len(rates) > 1:
        raise ValueError(
            f"ensemble.members: branches listen at {rates} Hz, but all of one ensemble must at one rate"
        )
    shortest = max(branch.encoder.min_samples for branch in branches)
    listened = audio.each(clips, lambda clip: _listen(clip, rates[0], shortest), workers=workers)
    problems, faults, contrasts = [], Counter[str](), []
    for done, (clip, (found, heard, problem)) in enumerate(zip(clips, listened, strict=True), start=1):
        problems += [problem] if problem else []
        faults.update(f"{f.microphone} {f.kind}" for f in found)
        problems += [f"{clip.path}: {f.message}" for f in found if any(m.is_spoilt_by(f) for m in needed)]
        contrasts += [] if heard is None else [heard]
        if progress is not None:
            progress("inspecting", done, len(clips))
    if problems:
        raise DatasetError(problems)
    for fault, count in sorted(faults.items()):
        logger.warning("%s: %s in %d of %d training clips", machine.name, fault, count, len(clips))
    if {c.domain for c in clips} == {"source"}:
        logger.warning(
            "%s: no target-domain training clips; the detector knows the source conditions only", machine.name
        )
    return header, dict(sorted(faults.items())), Placement.of(contrasts) if contrasts else None


def _headers(machine: Machine, channels: int) -> Header:
    """The header that all training clips share but for their length."""
    problems, rates, counts, header = [], Counter[int](), Counter[int](), None
    for clip in machine.train:
        try:
            header = audio.read_header(clip.path)
        except (AudioError, FileNotFoundError) as error:
            problems.append(str(error))
            continue
        rates[header.rate] += 1
        counts[header.channels] += 1
    if len(rates) > 1:
        shown = ", ".join(f"{n} clips of {rate} Hz" for rate, n in sorted(rates.items()))
        problems.append(f"{machine.name}: different sampling rates: {shown}; convert all clips to the lowest")
    if len(counts) > 1:
        shown = ", ".join(f"{n} clips of {c} channels" for c, n in sorted(counts.items()))
        problems.append(f"{machine.name}: different numbers of channels: {shown}")
    elif counts and min(counts) < channels:
        problems.append(
            f"{machine.name}: the clips have {min(counts)} channel, but this system listens to {channels} "
            "microphones (near, far); record both, or take a system for one, such as spectral_near"
        )
    if problems or header is None:
        raise DatasetError(problems)
    return header


def _listen(
    clip: Clip, rate: int, shortest: int
) -> tuple[tuple[Fault, ...], NDArray[np.float64] | None, str]:
    """Microphone faults of a clip, its contrast if it has two channels, and why it is unusable."""
    try:
        samples = audio.load(clip.path, rate)
        audio.require_length(samples, shortest, rate, str(clip.path))
    except AudioError as error:
        return (), None, str(error)
    return health(samples), contrast(samples) if len(samples) > 1 else None, ""


def averaged(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over branches of their scores, each (n_clips,); exact, so that company does not change it."""
    return np.array([math.fsum(of_clip) / len(scores) for of_clip in zip(*scores, strict=True)])


def _telling(progress: Progress | None, where: str, number: int, members: int) -> Progress | None:
    """Progress of one branch of an ensemble, told with its number if there are several."""
    if progress is None:
        return None
    of = f", branch {number} of {members}" if members > 1 else ""
    return lambda step, done, total: progress(f"{step}{where}{of}", done, total)


def _unseen_scores(
    system: System,
    clips: Sequence[Clip],
    embedded: Sequence[Sequence[NDArray[Any]]],
    adapters: Sequence[Adapter],
    *,
    seed: int,
    workers: int,
    jobs: Jobs,
    progress: Progress | None,
) -> dict[str, float]:
    """Scores of training clips by key, each by a fit that has not seen it; empty if no threshold is wanted."""
    if system.threshold.method == "none":
        return {}
    domain, members = domains(clips), system.members(seed)
    scores: dict[str, float] = {}
    for fitted_on, held_out in folds(domain, system.threshold, seed=seed):
        rest, unseen = [clips[i] for i in fitted_on], [clips[i] for i in held_out]
        found = []
        for number, ((config, of_member), X) in enumerate(zip(members, embedded, strict=True), start=1):
            told = _telling(progress, " for the threshold", number, len(members))
            branch = _begun(config, adapters, number - 1, jobs)
            branch.fit_encoder(rest, seed=of_member, workers=workers, jobs=jobs, progress=told)
            if branch.encoder.fitted_per_machine:
                of_rest, of_unseen = (
                    branch.embed(some, workers=workers, jobs=jobs) for some in (rest, unseen)
                )
            else:
                of_rest, of_unseen = [X[i] for i in fitted_on], [X[i] for i in held_out]
            branch.fit_backend(of_rest, domain[fitted_on], attributes(rest), seed=of_member)
            found.append(branch.anomaly_score(of_unseen))
        scores |= zip((clip.key for clip in unseen), averaged(found).tolist(), strict=True)
    return scores


def _threshold(config: ThresholdConfig, normal_scores: NDArray[np.float64]) -> Threshold | None:
    if config.method == "none":
        return None
    return THRESHOLDS[config.method].fit(normal_scores, false_alarm_rate=config.false_alarm_rate)


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / "detector.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: no detector here (detector.json is missing); fit one with `nearfar fit`"
        )
    damaged = f"{file}: damaged; restore the folder from a copy, or fit the detector again"
    try:
        content = json.loads(file.read_text())
        said, written = content.pop("digest"), content["format"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DetectorError(damaged) from error
    if isinstance(written, int) and written > FORMAT:
        raise DetectorError(
            f"{folder}: a detector of format {written}; this nearfar {__version__} reads up to format {FORMAT}: "
            "install a newer nearfar"
        )
    if said != digest(content):
        raise DetectorError(damaged)
    return content


def _system(content: dict[str, Any], folder: Path) -> System:
    try:
        return System.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DetectorError(
            f"{folder}: made from a system that nearfar {__version__} does not know ({faults}); install the "
            "version that made it, or a newer one"
        ) from error


def _read_arrays(folder: Path, said: str) -> dict[str, NDArray[Any]]:
    file = folder / "arrays.safetensors"
    try:
        if digest_file(file) == said:
            return load_file(file)
    except (FileNotFoundError, SafetensorError) as error:
        raise DetectorError(f"{file}: missing or unreadable; restore it from a copy, or fit again") from error
    raise DetectorError(f"{file}: damaged (its digest has changed); restore it from a copy, or fit again")


def _as_of_now(arrays: dict[str, NDArray[Any]], written: int) -> dict[str, NDArray[Any]]:
    """Arrays under the names of the present format; in format 1 a detector had one branch."""
    if written == FORMAT:
        return arrays
    named = {name.replace("branch.", "branches.0.", 1): array for name, array in arrays.items()}
    return {**named, "self_check.embeddings.0": named["self_check.embedding"]}


def _refuse_other_weights(
    branches: Sequence[Branch], fitted_with: list[str | None] | None, folder: Path
) -> None:
    """Raise if the encoders' files are not those of the fit."""
    for branch, said in zip(branches, fitted_with or [None] * len(branches), strict=True):
        path = branch.encoder.path
        if path is not None and digest_file(path) != said:
            raise DetectorError(
                f"{folder}: fitted with other weights than those in {path}; bring back the ones with SHA-256 "
                f"{said}, or fit it again"
            )
