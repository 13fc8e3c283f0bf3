"""Learning on: normal recordings are added to a detector, without the recordings that it was fitted to.

Conditioning and back end of each branch are fitted again, to the embeddings of all clips, old and new. The
threshold is learnt again from scores of clips by fits that had not seen them:

* Where no encoder is fitted to the machine, from the same folds over all clips as a fit to all of them deals. So
  the detector is the one that this fit would have made, whatever was added when.
* An encoder that is fitted to the machine stays, and it has heard the clips of the fit. So these keep the scores
  that they got when the encoder was trained without them. The clips that were learnt later are dealt to folds of
  their own: the encoder has not heard them, and each is scored by a back end that has not.

Scores of the new clips by the old detector are unseen scores, too, but they would not do: those of a new condition
are far too high for a detector that has learnt it. Nor would scores that leave one clip out: of a day, all others
stay.

If ``calibrate`` has set the threshold, it comes from those recordings, scored by the new detector, and from the
clips that were learnt since.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.calibration import Calibration
from nearfar.decisions.dependence import Dependence
from nearfar.decisions.folds import deal
from nearfar.decisions.fusing import fuse
from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import Threshold, ThresholdConfig
from nearfar.detector import fitting
from nearfar.detector.calibrating import LATER, fingerprinted, told_of
from nearfar.detector.fitting import Fit, Known, Unseen, average
from nearfar.detector.history import CALIBRATE, LEARN, History, entry
from nearfar.detector.keeping import (
    Bank,
    Kept,
    content_of,
    is_fitted_to_machine,
    learns_nothing,
    refuse_rows,
    stacked,
)
from nearfar.detector.normal_sounds import NormalSounds
from nearfar.detector.one_pass import OnePass, WorkersAre, refuse_nested
from nearfar.detector.time_order import dependence_of
from nearfar.detector.twins import find_twins
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings.bands import Levels
from nearfar.recordings.clips import Clip, DatasetError, Domain, Machine, counted
from nearfar.recordings.datasets.layout import few
from nearfar.recordings.datasets.normals import refuse_anomalies
from nearfar.recordings.inspection import copies
from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.faults import RecordingFault, each_once, of_notes
from nearfar.recordings.inspection.measured import Measured
from nearfar.recordings.inspection.training import (
    MANY,
    OFF,
    OddClips,
    Seen,
    Suspect,
    unlike_by_score,
    warn_of_unlike,
)
from nearfar.recordings.inspection.usual import SURELY, Usual, faults_against, stands_still
from nearfar.recordings.microphones import MICROPHONES
from nearfar.recordings.recording import Recording, Span, digests, fingerprints
from nearfar.systems.branches import UNDISCLOSED, Branch, Progress, attributes, domains
from nearfar.windows.long_recordings import MOST_SHARE, Cutting

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector

BROKEN = ("swapped", "dead", "identical", "short")  # no condition of a machine
_STRETCH = re.compile(r", part \d+ of \d+$")  # of a recording, as ``windows.long_recordings`` calls its group
Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learnt:
    """What learning changes of a detector: see ``Detector``."""

    branches: tuple[Branch, ...]
    threshold: Threshold | None
    usual: Usual | None
    trained_on: dict[str, Any]
    unseen: dict[str, float]
    calibration: Calibration | None
    seen: NDArray[np.uint64]
    calibrated_on: dict[str, Any] | None
    normals: NDArray[np.float64] | None
    kept: Kept
    sounds: NormalSounds | None
    history: History
    dependence: Dependence | None


@dataclass(frozen=True)
class Given:
    """What is to be learnt, and with which means.

    Attributes
    ----------
    clips : sequence of Clip
    cutting : Cutting or None
        Of long recordings, which the clips are windows of.
    domain, odd_clips, workers, workers_are, jobs, progress
        As of ``Detector.learn``.
    """

    clips: Sequence[Clip]
    cutting: Cutting | None
    domain: Domain | None
    odd_clips: OddClips
    workers: int
    jobs: Jobs
    progress: Progress | None
    workers_are: WorkersAre = "threads"


@dataclass(frozen=True)
class Heard:
    """New clips that are learnt, and what was left out.

    Attributes
    ----------
    clips : tuple of Clip
    recordings : tuple of str
        Digests of their recordings.
    files : tuple of int
        Fingerprints of these.
    measured : tuple of Measured
    faults : tuple of str
        What was found in clips that are learnt, by microphone and kind.
    left_out : tuple of dict
        Of each recording that is not learnt: ``clip``, ``kind`` and ``message``.
    levels : mapping from Recording to (levels, peaks)
        As far as they were measured while the clips were read.
    """

    clips: tuple[Clip, ...]
    recordings: tuple[str, ...]
    files: tuple[int, ...]
    measured: tuple[Measured, ...]
    faults: tuple[str, ...]
    left_out: tuple[dict[str, str], ...]
    levels: Mapping[Recording, tuple[Levels, Levels]]


def learn(detector: Detector, given: Given, *, when: datetime | None = None) -> Learnt:
    """What ``Detector.learn`` changes; see there.

    Raises
    ------
    DatasetError, ValueError
        As of ``Detector.learn``.
    """
    refuse_nested(given.workers_are, given.workers)
    kept, workers, jobs, progress = _require_kept(detector), given.workers, given.jobs, given.progress
    refuse_rows(kept.bank, detector.branches)
    refuse_anomalies(given.clips)
    told = _together(_with_domain(given.clips, given.domain, kept.bank), kept.bank)
    heard, embedded = _hear(detector, kept, replace(given, clips=told))
    before = _flagged_before(detector, heard.clips, embedded)
    unordered = _joined(detector, kept, heard, embedded, workers)
    joined = unordered.ordered()
    this = Fit(
        Machine(detector.machine, joined.bank.clips(detector.machine)), detector.system, workers, jobs, progress,
        Known(detector.branches, [str(content) for content in joined.bank.contents.tolist()], joined.far),
    )  # fmt: skip
    branches = _refitted(detector, this, joined.bank)
    scored, how = _unseen(detector, this, joined)
    if joined.unseen is not None:
        joined = replace(joined, unseen=fitting.by_branch(scored, this.machine.train, detector.system))
    joined = _rescored(joined, branches)
    cut = _recordings(detector.trained_on.get("recordings"), given.cutting, heard.clips)
    decided = _decided(detector, this, joined, scored, how, cut)
    usual = detector.usual if joined.traits is None else joined.traits.usual()
    unlike = _unlike(this, heard, scored)
    warn_of_unlike(detector.machine, unlike)
    named = [{"clip": one.clip.name, "kind": one.kind, "message": one.message} for one in unlike]
    new = entry(
        LEARN, len(heard.clips), _count(heard.clips), digest(sorted(heard.recordings)),
        when=when or datetime.now(UTC), left_out=list(heard.left_out), unlike=named, before=before,
        faults=dict(sorted(Counter(heard.faults).items())),
        recordings=None if given.cutting is None else given.cutting.describe(),
    )  # fmt: skip
    return Learnt(
        branches=branches,
        usual=usual,
        trained_on={
            **_trained_on(detector.trained_on, this, joined, heard, named),
            "recordings": cut,
        },
        seen=np.unique(np.concatenate([detector.seen, joined.bank.files])),
        normals=None if detector.system.fusion is None else scored.by_part,
        kept=joined,
        sounds=_sounds(detector, unordered.bank, heard, named, workers),
        history=(*detector.history, new),
        **decided,
    )


@dataclass(frozen=True, eq=False)
class Later:
    """What a detector keeps of recordings that it scores to be calibrated; threads call ``hear``.

    Attributes
    ----------
    detector : Detector
    heard : dict from Recording to (scores, embeddings), by each branch
    """

    detector: Detector
    heard: dict[Recording, tuple[list[float], list[Array | None]]] = field(default_factory=dict)

    def hear(self, recording: Recording, embeddings: Sequence[Array]) -> None:
        """Take the embeddings of a recording, by each branch, if anything is kept; rows are let go at once."""
        detector = self.detector
        if detector.kept is None:
            return
        scores = [float(b.anomaly_score([x])[0]) for b, x in zip(detector.branches, embeddings, strict=True)]
        resolved = zip(detector.system.branches, embeddings, strict=True)
        self.heard[recording] = scores, [x if b.pooling != "rows" else None for b, x in resolved]

    def kept(self, clips: Sequence[Clip]) -> Kept | None:
        """What the detector keeps after the calibration, of these of the recordings, too."""
        if self.detector.kept is None:
            return None
        recordings = [clip.recording for clip in clips]
        scores, embeddings = zip(*(self.heard[recording] for recording in recordings), strict=True)
        vectors = [None if any(x is None for x in X) else X for X in zip(*embeddings, strict=True)]
        bank = Bank.of(clips, digests(recordings, None), fingerprints(recordings), vectors)
        return replace(self.detector.kept, later=bank, later_scores=np.array(scores))


def stays(detector: Detector) -> list[str]:
    """What learning leaves as the fit made it, in sentences; empty if it is as one fit to all clips.

    Parameters
    ----------
    detector : Detector
    """
    told = []
    names = sorted({b.encoder.name for b in detector.system.branches if b.training is not None})
    if names:
        told.append(
            f"the encoder ({', '.join(names)}) is fitted to the clips of the fit, and stays. Clips of the fit keep "
            "their scores behind the threshold"
        )
    if all(learns_nothing(branch) for branch in detector.branches):
        told.append(
            "the back end learns nothing from clips, so scores stay; only the threshold is learnt again"
        )
    if detector.kept is not None and detector.kept.traits is None:
        told.append("what is usual of a recording: the fit was told to keep broken clips")
    return told


def _require_kept(detector: Detector) -> Kept:
    if detector.kept is None:
        raise ValueError(
            f"the detector of {detector.machine!r} keeps nothing to learn on with: it was fitted with "
            "--no-learning (keep='nothing'), or saved by nearfar before format 7; fit it again to all recordings, "
            "the old ones and the new ones"
        )
    return detector.kept


def _with_domain(clips: Sequence[Clip], domain: Domain | None, known: Bank) -> list[Clip]:
    """The clips with the domain that is given; one is needed if the detector's own clips tell theirs."""
    wrong = [clip for clip in clips if domain is not None and clip.domain not in (None, domain)]
    if wrong:
        raise ValueError(
            f"domain={domain!r}: {wrong[0].recording} is of the domain {wrong[0].domain!r}, by its name or "
            f"domains.csv, and {len(wrong) - 1} others; leave the domain out, or learn them apart"
        )
    found = [clip if domain is None else replace(clip, domain=domain) for clip in clips]
    if all(known.domain) and (untold := [clip for clip in found if clip.domain is None]):
        counts = ", ".join(f"{n} {d}" for d, n in sorted(Counter(known.domain).items()))
        raise ValueError(
            f"domain=None: {counted(len(untold), 'recording')} tell no domain, such as {untold[0].recording}, but "
            f"the detector's clips do ({counts}); give --domain source or --domain target, or a domains.csv"
        )
    return found


def _hear(detector: Detector, kept: Kept, given: Given) -> tuple[Heard, list[list[Array]]]:
    """Read the new recordings, and say which of them are learnt; with their embeddings by each branch."""
    clips, files, left_out = _new(detector, given.clips)
    views = None if detector.sounds is None else detector.sounds.views
    one_pass = OnePass.of(detector.branches, clips, views=views, jobs=given.jobs)
    readable = _readable(detector, given, clips, left_out, one_pass)
    faults = {seen.clip: _faults(detector, seen) for seen in readable}
    clean = readable if given.odd_clips == "keep" else _not_odd(detector, readable, faults)
    clips = [seen.clip for seen in clean]
    shas = digests((clip.recording for clip in clips), given.jobs, workers=given.workers)
    embedded = [
        b.embed(
            clips, workers=given.workers, jobs=given.jobs, progress=given.progress, shas=shas,
            ready=one_pass.of_branch(number, clips, shas),
        )
        for number, b in enumerate(detector.branches)
    ]  # fmt: skip
    # after the odd ones: beside its copies, what is odd stays as rare as it was in the old recording
    copied = _copies_of_old(kept.bank, embedded)
    left_out += [
        told_of(clips[i], "copy", f"a copy of {old}, which the detector has learnt")
        for i, old in copied.items()
    ]
    learnt = [seen for i, seen in enumerate(clean) if i not in copied]
    shas = [sha for i, sha in enumerate(shas) if i not in copied]
    embedded = [[x for i, x in enumerate(X) if i not in copied] for X in embedded]
    is_clean = set(clips)
    odd = [seen for seen in readable if seen.clip not in is_clean]
    for seen in odd:
        message = "; ".join(fault.message for fault in faults[seen.clip])
        left_out.append(told_of(seen.clip, _odd(detector, seen, faults[seen.clip])[0].kind, message))
    _refuse(left_out, learnt, given.odd_clips, n_odd=len(odd))
    heard = Heard(
        clips=tuple(seen.clip for seen in learnt),
        recordings=tuple(shas),
        files=tuple(files[seen.clip.recording] for seen in learnt),
        measured=tuple(seen.known for seen in learnt),
        faults=tuple(f"{fault.microphone} {fault.kind}" for seen in learnt for fault in faults[seen.clip]),
        left_out=tuple(left_out),
        levels=one_pass.levels_of([seen.clip for seen in learnt], views),
    )
    return heard, embedded


def _readable(
    detector: Detector,
    given: Given,
    clips: Sequence[Clip],
    left_out: list[dict[str, str]],
    one_pass: OnePass,
) -> list[Seen]:
    """The recordings that can be learnt if their sound is not odd, each once; the others join those left out."""
    progress = given.progress
    readable: list[Seen] = []
    for seen in one_pass.listen_to(
        clips, workers=given.workers, workers_are=given.workers_are,
        progress=None if progress is None else lambda done, total: progress("inspecting", done, total),
    ):  # fmt: skip
        if (wrong := _unusable(detector, seen)) is not None:
            left_out.append(told_of(seen.clip, *wrong))
        else:
            readable.append(seen)
    same = copies.find_copies(
        [s.digest for s in readable],
        [s.known for s in readable],
        lambda i: readable[i].again(),
        recordings=[s.recording for s in readable],
    )
    left_out += [
        told_of(readable[copy].clip, "copy", f"a copy of {readable[of].clip.recording}")
        for copy, of in same.items()
    ]
    return [seen for i, seen in enumerate(readable) if i not in same]


def _copies_of_old(bank: Bank, embedded: Sequence[Sequence[Array]]) -> dict[int, str]:
    """Which clips have the embeddings of one that the detector has learnt, and the name of that."""
    new = [
        None if X is None or not own else stacked(own)
        for X, own in zip(bank.embeddings, embedded, strict=True)
    ]
    if any(X is None and old is not None for X, old in zip(new, bank.embeddings, strict=True)):
        return {}  # none; or of different shapes: no copies of what has one shape
    found = find_twins(new, bank.embeddings, among=bank.embeddings)
    return {i: bank.name[of] for i, of in found.items()}


def _not_odd(
    detector: Detector, seen: Sequence[Seen], faults: Mapping[Clip, Sequence[RecordingFault]]
) -> list[Seen]:
    """The recordings whose sound is not odd.

    A new condition can look like a fault: near is late where the noise comes from another side. So what many of
    the new clips of a domain have is judged once more, beside old and new clips together, as a fit to all of them
    judges. But exchanged channels are exchanged, however many are.
    """
    traits = None if detector.kept is None else detector.kept.traits
    kinds = {one.clip: {fault.kind for fault in _odd(detector, one, faults[one.clip])} for one in seen}
    odd = {clip for clip, found in kinds.items() if found}
    clips_with = Counter((clip.domain, kind) for clip, found in kinds.items() for kind in found)
    of_domain = Counter(clip.domain for clip in kinds)
    many = {(domain, kind) for (domain, kind), n in clips_with.items() if n > MANY * of_domain[domain]}
    out = {
        clip
        for clip in odd
        if traits is None or any(kind in BROKEN or (clip.domain, kind) not in many for kind in kinds[clip])
    }
    while traits is not None and odd - out:
        kept = [one for one in seen if one.clip not in out]
        usual = traits.joined([one.known for one in kept], [one.clip.domain or "" for one in kept]).usual()
        doubtful = [one for one in kept if one.clip in odd]
        still = {o.clip for o in doubtful if _odd(detector, o, _faults(detector, o, usual), usual)}
        if not still:
            break
        out |= still
    return [one for one in seen if one.clip not in out]


def _together(clips: Sequence[Clip], known: Bank) -> list[Clip]:
    """The clips; the windows of one recording are one group, if the detector has others of their domain.

    Alone, a recording that has nearly all clips of a domain is divided into stretches. Beside the clips of the
    detector, it need not be.
    """
    counts = Counter(clip.domain or "" for clip in clips) + Counter(known.domain)
    grouped = {domain for domain, group in zip(known.domain, known.group, strict=True) if group}
    whole = [_STRETCH.sub("", clip.group) if clip.span is not None else clip.group for clip in clips]
    of_recording = Counter((clip.domain or "", group) for clip, group in zip(clips, whole, strict=True))
    found = []
    for clip, group in zip(clips, whole, strict=True):
        domain = clip.domain or ""
        is_one_of_several = domain in grouped and of_recording[domain, group] <= MOST_SHARE * counts[domain]
        found.append(replace(clip, group=group) if is_one_of_several else clip)
    return found


def _new(
    detector: Detector, clips: Sequence[Clip]
) -> tuple[list[Clip], dict[Recording, int], list[dict[str, str]]]:
    """The clips that the detector does not know, each once; fingerprints of all; and what was left out."""
    files, left_out = fingerprinted(clips)
    known = set(detector.seen.tolist())
    first: dict[tuple[int, Span | None], Clip] = {}
    for clip in clips:
        if clip.recording not in files:
            continue
        content = files[clip.recording], clip.span
        if content[0] in known:
            left_out.append(told_of(clip, "known", "the detector knows it already"))
        elif first.setdefault(content, clip) is not clip:
            left_out.append(told_of(clip, "copy", f"a copy of {first[content].recording}"))
    return list(first.values()), files, left_out


def _refuse(
    left_out: Sequence[dict[str, str]], learnt: Sequence[Seen], odd_clips: OddClips, *, n_odd: int
) -> None:
    told = few(f"{one['clip']}: {one['message']}" for one in left_out)
    if odd_clips == "refuse" and left_out:
        raise DatasetError([f"{counted(len(left_out), 'recording')} would be left out; remove them", *told])
    if learnt:
        return
    remedy = (
        f"the sound of {counted(n_odd, 'recording')} is odd. Where it is right all the same, learn it with "
        "--keep-odd (odd_clips='keep')"
        if n_odd
        else "give recordings that it does not know, as its own clips were recorded"
    )
    raise DatasetError(
        [f"nothing to learn: no recording is new to the detector and can be used; {remedy}", *told]
    )


def _unusable(detector: Detector, seen: Seen) -> tuple[str, str] | None:
    """Why a recording cannot be learnt whatever its sound, with the kind."""
    if seen.error is not None:
        return seen.error
    measured, known = seen.known, detector.trained_on
    if measured.rate != known["rate"]:
        return "rate", f"recorded at {measured.rate} Hz, but the training clips at {known['rate']} Hz"
    channels = len(measured.level)
    if channels != min(2, known["channels"]):
        return "channels", f"{counted(channels, 'channel')}, but the training clips have {known['channels']}"
    shortest = max(b.encoder.min_samples / b.encoder.sample_rate for b in detector.branches)
    if measured.seconds < shortest:
        return "short", f"{measured.seconds:.3g} s long; at least {shortest:.3g} s are needed"
    return None


def _faults(detector: Detector, seen: Seen, usual: Usual | None = None) -> tuple[RecordingFault, ...]:
    """What is wrong with a recording, as of ``Detector.score``; or compared with something else that is usual."""
    known = detector.trained_on
    found = of_notes(seen.notes, known.get("faults"), clips=known["clips"]) + faults_alone(seen.known)
    if (compared := usual or detector.usual) is not None:
        found += faults_against(compared, seen.known, seen.again)
    return each_once(found)


def _odd(
    detector: Detector, seen: Seen, faults: Iterable[RecordingFault], usual: Usual | None = None
) -> list[RecordingFault]:
    """The faults that keep a recording from being learnt; a machine is off beyond doubt, as for a fit."""
    needs = [MICROPHONES[m] for m in detector.system.microphones]
    compared = usual or detector.usual

    def is_off() -> bool:
        return compared is not None and stands_still(compared, seen.known, times=SURELY) is not None

    return [fault for fault in faults if fault.spoils(needs) or (fault.kind == OFF and is_off())]


def _flagged_before(
    detector: Detector, clips: Sequence[Clip], embedded: Sequence[Sequence[Array]]
) -> dict[str, Any] | None:
    """The threshold until now, and how many of the new clips it flags: whether there was something to learn."""
    try:
        scores = [b.anomaly_score(X) for b, X in zip(detector.branches, embedded, strict=True)]
    except ValueError as error:
        raise DatasetError([f"a recording cannot be scored, so it is not learnt: {error}"]) from error
    if detector.threshold is None:
        return None
    of_parts = np.stack([average(own) for own in detector.system.by_part(scores)], axis=1)
    above, of_clip = _fused(detector, of_parts, detector.normals) > detector.threshold.value, domains(clips)
    shares = {d: FlaggedShare.of(above[of_clip == d]) for d in np.unique(of_clip).tolist()}
    return {
        "value": detector.threshold.value,
        "normal_clips": len(detector.threshold.normal_scores),
        "flagged": int(above.sum()),
        "domains": {d: {"clips": x.clips, "flagged": x.flagged} for d, x in shares.items()},
    }


def _fused(detector: Detector, of_parts: Float, normals: Float | None) -> NDArray[np.float64]:
    fusion = detector.system.fusion
    if fusion is None:
        return of_parts[:, 0]
    assert normals is not None
    return fuse(of_parts, normals, weights=fusion.weights, calibration=fusion.calibration)


def _joined(
    detector: Detector, kept: Kept, heard: Heard, embedded: Sequence[Sequence[Array]], workers: int
) -> Kept:
    """What is kept of the old clips, then the new ones. What is learnt is no longer behind a calibration."""
    vectors = [None if X is None else new for X, new in zip(kept.bank.embeddings, embedded, strict=True)]
    of_new = Bank.of(heard.clips, heard.recordings, heard.files, vectors)
    bank = kept.bank.joined(of_new)
    n = len(heard.clips)
    far = {
        rate: np.concatenate([levels, fitting.far_levels(heard.clips, rate, workers=workers)])
        for rate, levels in kept.far.items()
    }
    traits = kept.traits
    if traits is not None:
        traits = traits.joined(heard.measured, [clip.domain or "" for clip in heard.clips])
    unseen = kept.unseen
    if unseen is not None:
        unseen = np.concatenate([unseen, _scores_of_fixed(detector, embedded, n)])
    added = np.append(kept.added, np.full(n, len(detector.history), dtype=np.int32)).astype(np.int32)
    later, later_scores = kept.later, kept.later_scores
    if later is not None and later_scores is not None:
        stay = ~np.isin(later.files, np.array(heard.files, dtype=np.uint64))
        stay[list(find_twins(later.embeddings, of_new.embeddings, among=bank.embeddings))] = False
        later, later_scores = later.select(stay), later_scores[stay]
    return Kept(bank, added, traits, far, unseen, later, later_scores)


def _sounds(
    detector: Detector,
    bank: Bank,
    heard: Heard,
    unlike: Sequence[Mapping[str, str]],
    workers: int,
) -> NormalSounds | None:
    """How the clips sound, in the order of what is kept; of the bank, the new ones are the last."""
    before, clips = detector.sounds, heard.clips
    if before is None:
        return None
    first, doubtful = len(before), {one["clip"] for one in unlike}
    found = before.joined(clips, bank.contents[first:], known=heard.levels, workers=workers).with_recordings(
        {first + i: clip for i, clip in enumerate(clips)},
        bank,
        suspects={first + i for i in range(len(clips)) if bank.name[first + i] in doubtful},
        workers=workers,
    )
    return found.select(bank.order)


def _scores_of_fixed(detector: Detector, embedded: Sequence[Sequence[Array]], n: int) -> NDArray[np.float64]:
    """Scores of new clips by the branches that no clip changes, (n, branches); NaN by the others."""
    found = np.full((n, len(detector.branches)), np.nan)
    for number, (branch, X) in enumerate(zip(detector.branches, embedded, strict=True)):
        if learns_nothing(branch):
            found[:, number] = branch.anomaly_score(X)
    return found


def _refitted(detector: Detector, this: Fit, bank: Bank) -> tuple[Branch, ...]:
    """The branches, fitted to the embeddings of all clips."""
    clips, found = this.machine.train, []
    for branch, X in zip(detector.branches, bank.embeddings, strict=True):
        if X is None:
            found.append(branch)
            continue
        try:
            found.append(branch.unfitted().fit_backend(list(X), domains(clips), attributes(clips)))
        except ValueError as error:
            raise ValueError(
                f"the back end cannot learn from the {len(clips)} clips that it then has ({_told(clips)}): {error}"
            ) from error
    return tuple(found)


def _unseen(detector: Detector, this: Fit, kept: Kept) -> tuple[Unseen, dict[str, Any]]:
    """Scores of clips by fits that had not seen them; and how they came to be unseen."""
    system = this.system
    numbers = system.by_part(range(len(system.branches)))
    if system.threshold.method == "none" and system.fusion is None:
        return Unseen.of([{} for _ in system.parts]), {}
    X: list[Any] = list(kept.bank.embeddings)
    of_parts, of_all = [], []
    for part, own in zip(system.parts, numbers, strict=True):
        branches = [system.branches[i] for i in own]
        if is_fitted_to_machine(branches):
            of_parts.append(_of_new_folds(this, kept, part.threshold, own))
        else:
            of_all.append(fitting.folds_of(this, part.threshold, branches))
            of_parts.append(fitting.score_left_out(this, of_all[-1], X, own))
    scored = Unseen.of(of_parts)
    fitting.require_scale(system, len(scored.keys))
    if of_all:
        return scored, fitting.fewest(of_all).describe()
    return scored, {} if detector.calibration is None else dict(detector.calibration.how)


def _of_new_folds(
    this: Fit, kept: Kept, config: ThresholdConfig, numbers: Sequence[int]
) -> dict[str, tuple[float, ...]]:
    """Scores of a part whose encoder is fitted to the machine: those of the fit; of learnt clips by new folds."""
    assert kept.unseen is not None
    clips, learnt = this.machine.train, np.flatnonzero(kept.added > 0)
    own = kept.unseen[:, list(numbers)].copy()
    own[learnt] = np.nan
    for held_out in _folds_of_learnt(this, config, numbers, learnt):
        rest = np.setdiff1d(np.arange(len(clips)), held_out)
        for place, number in enumerate(numbers):
            X = kept.bank.embeddings[number]
            if X is None:  # no clip changes its scores
                own[held_out, place] = kept.unseen[held_out, number]
                continue
            some = [clips[i] for i in rest]
            branch = this.branch(number).fit_backend(list(X[rest]), domains(some), attributes(some))
            own[held_out, place] = branch.anomaly_score(list(X[held_out]))
    rows = zip(clips, own, strict=True)
    return {clip.key: tuple(scores.tolist()) for clip, scores in rows if np.isfinite(scores).all()}


def _folds_of_learnt(
    this: Fit, config: ThresholdConfig, numbers: Sequence[int], learnt: NDArray[np.intp]
) -> list[NDArray[np.intp]]:
    """Which of the learnt clips are scored together by a fit to all others; by groups where two are known."""
    if config.method == "none":
        return []
    groups = fitting.groups_of(this, config, [this.system.branches[i] for i in numbers])
    if config.folds_by != "random":
        config = config.model_copy(update={"folds_by": "group_if_known"})
    recordings = this.recordings
    folds = deal(
        domains([this.machine.train[i] for i in learnt]), config, seed=this.system.seed,
        groups=[groups[i] for i in learnt], recordings=[recordings[i] for i in learnt],
    )  # fmt: skip
    return [learnt[held_out] for _, held_out in folds.pairs]


def _rescored(kept: Kept, branches: Sequence[Branch]) -> Kept:
    """The recordings of a calibration, scored by the new branches."""
    if kept.later is None or kept.later_scores is None:
        return kept
    scores = kept.later_scores.copy()
    for number, (branch, X) in enumerate(zip(branches, kept.later.embeddings, strict=True)):
        if X is not None and len(X):
            scores[:, number] = branch.anomaly_score(list(X))
    return replace(kept, later_scores=scores)


def _decided(
    detector: Detector,
    this: Fit,
    kept: Kept,
    scored: Unseen,
    how: Mapping[str, Any],
    recordings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The threshold, the scores that it is learnt from, and how dependent they are in order of time."""
    config, told = detector.system.threshold, detector.calibrated_on
    unseen = scored.fused(detector.system)
    if config.method == "none":
        none = dict.fromkeys(("threshold", "calibration", "dependence"))
        return {**none, "unseen": unseen, "calibrated_on": told}
    clips = [clip for clip in this.machine.train if clip.key in unseen]
    scores = [unseen[clip.key] for clip in clips]
    if told is not None:
        clips, scores, how = _since_calibration(detector, this, kept, scored)
        recordings = told.get("recordings")
        told = {**told, "learnt_since": how["learnt_since"]}
    cutting = None if recordings is None else Cutting.restore(recordings)
    found = Calibration.of(scores, domains(clips), [clip.group for clip in clips], how)
    return {
        "threshold": fitting.fit_threshold(config, found.scores),
        "unseen": unseen if told is None else {},
        "calibration": found,
        "calibrated_on": told,
        "dependence": dependence_of(clips, scores, cutting),
    }


def _since_calibration(
    detector: Detector, this: Fit, kept: Kept, scored: Unseen
) -> tuple[list[Clip], list[float], dict[str, Any]]:
    """The recordings of the calibration, and clips that were learnt since; their scores; how these are unseen."""
    assert kept.later is not None  # as after each calibration of a detector that keeps something
    assert kept.later_scores is not None
    columns = detector.system.by_part(list(kept.later_scores.T))
    of_parts = np.stack([average(own) for own in columns], axis=1)
    later = _fused(detector, of_parts, scored.by_part).tolist()
    unseen = scored.fused(detector.system)
    since = max(i for i, one in enumerate(detector.history) if one["what"] == CALIBRATE)
    added = zip(this.machine.train, kept.added.tolist(), strict=True)
    learnt = [clip for clip, when in added if when > since and clip.key in unseen]
    how = {"by": LATER, "fits": 0, "groups": {}, "random_in": {}, "learnt_since": len(learnt)}
    scores = [*later, *(unseen[clip.key] for clip in learnt)]
    return [*kept.later.clips(this.machine.name), *learnt], scores, how


def _unlike(this: Fit, heard: Heard, scored: Unseen) -> list[Suspect]:
    """The new clips that are most unlike the others of their domain, by any part of the system."""
    new = {f"{content_of(sha):016x}" for sha in heard.recordings}
    found: dict[str, Suspect] = {}
    for scores in scored.by_part.T.tolist():
        for one in unlike_by_score(this.machine.train, dict(zip(scored.keys, scores, strict=True))):
            name, _, content = one.clip.name.rpartition("#")
            if content in new:
                found.setdefault(one.clip.name, replace(one, clip=replace(one.clip, name=name)))
    return list(found.values())


def _trained_on(
    before: Mapping[str, Any], this: Fit, kept: Kept, heard: Heard, unlike: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """What ``Detector.trained_on`` says, of all clips."""
    return {
        **before,
        "clips": len(this.machine.train),
        "domains": _count(this.machine.train),
        "digest": digest(sorted(kept.bank.contents.tolist())),
        "faults": dict(sorted((Counter(before["faults"]) + Counter(heard.faults)).items())),
        "unlike": [*before["unlike"], *unlike],
    }


def _recordings(
    before: Mapping[str, Any] | None, cutting: Cutting | None, clips: Sequence[Clip]
) -> dict[str, Any] | None:
    """Which long recordings were cut, as of ``Cutting.describe``: those of before, and those that are learnt."""
    if cutting is None:
        return None if before is None else dict(before)
    if before is None:
        return cutting.describe()
    new = cutting.describe()
    learnt = {clip.domain or "" for clip in clips}
    return {
        **before,
        "count": before["count"] + new["count"],
        "seconds": [
            min(before["seconds"][0], new["seconds"][0]),
            max(before["seconds"][1], new["seconds"][1]),
        ],
        "windows": before["windows"] + new["windows"],
        "one_recording": {d: name for d, name in before["one_recording"].items() if d not in learnt},
    }


def _count(clips: Iterable[Clip]) -> dict[str, int]:
    return dict(sorted(Counter(clip.domain or UNDISCLOSED for clip in clips).items()))


def _told(clips: Iterable[Clip]) -> str:
    return ", ".join(f"{n} {domain}" for domain, n in _count(clips).items())
