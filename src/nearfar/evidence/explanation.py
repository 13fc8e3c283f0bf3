"""What speaks for a verdict: everything that is shown of one recording, computed once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.detector.fitted import Detector, Verdict
from nearfar.detector.normal_sounds import DamagedSoundError, NormalClip
from nearfar.evidence import contents, excerpts, reasons, telling
from nearfar.evidence.courses import Course, course_of, tone_in
from nearfar.evidence.envelopes import (
    Envelope,
    EnvelopeSpectrum,
    envelope,
    envelope_spectrum,
    spectrum_of,
)
from nearfar.evidence.excerpts import Excerpt, Heard
from nearfar.evidence.maps import BranchMap, maps_of, names_of
from nearfar.evidence.nearest import nearest_normals
from nearfar.evidence.reasons import Compared, Reason
from nearfar.evidence.spectra import BandLevels, FineSpectrum
from nearfar.evidence.unusual import FEWEST_CLIPS, Interval, Scan, evenly
from nearfar.files.extras import MissingPackageError
from nearfar.files.provenance import library_versions
from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.microphones import MICROPHONES, MicrophoneError, listen
from nearfar.recordings.recording import Recording, missing_track
from nearfar.recordings.sound import AudioError, Recorded
from nearfar.recordings.transforms import Transforms

Float = NDArray[np.float64]
Waveform = NDArray[np.float32]

FORMAT = 1  # of the JSON object; raised when a key changes its meaning or goes
NEIGHBOURS = 3  # normal clips to see and to hear
SAME_TONE = 0.02  # relative: as far as loads change the speed of one setting
MOST_DECODED = 8  # normal recordings that fine spectra are compared with: reading them takes most of the time


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording to hear: each microphone, and near without what far explains.

    Attributes
    ----------
    rate : int
        In Hz.
    near : (samples,) float32 array
    far, cancelled : (samples,) float32 array or None
        ``None`` without a far microphone.
    cancelled_view : str
        Which microphone view ``cancelled`` is; empty without.
    """

    rate: int
    near: Waveform
    far: Waveform | None
    cancelled: Waveform | None
    cancelled_view: str


@dataclass(frozen=True, eq=False)
class NormalNeighbour:
    """A normal recording that is near to the explained one.

    Attributes
    ----------
    name, domain : str
        Of the normal clip; the domain is empty if it is not told.
    branch : str
        For which branch of the detector it is near.
    distance : float
    rank : int
        Among all normal clips of the fit, from 1: those that are nearer may not be kept as recordings.
    sound : Sound
    """

    name: str
    domain: str
    branch: str
    distance: float
    rank: int
    sound: Sound


@dataclass(frozen=True, eq=False)
class Explanation:
    """A verdict, and what speaks for it.

    Attributes
    ----------
    name : str
        What the recording is called; of a window with its time.
    machine, system : str
        Of the detector.
    verdict : Verdict
    threshold, false_alarm_rate : float or None
        ``None`` if the detector takes no decisions.
    reference_scores : (n_scores,) array
        Of the normal clips behind the threshold, ascending; empty without a threshold.
    headline : str
        One sentence.
    p_value_means : str
        Empty without a p-value.
    reasons : tuple of Reason
        The most telling first. None of a clip that is normal, or unusable; or if the detector has the levels of
        fewer than ``unusual.FEWEST_CLIPS`` normal clips.
    words : tuple of str
        All that is said, sentence by sentence; the headline first.
    health, missing : tuple of str
        Sentences: on the microphones; and what cannot be shown, why, and how to get it.
    window : Excerpt or None
        If it is a window of a long recording.
    bands : tuple of BandLevels
        Of each microphone view, near first.
    spectra : tuple of FineSpectrum
        Near first.
    envelope : EnvelopeSpectrum or None
        Of the first band that is louder than usual.
    maps : tuple of BranchMap
    neighbours : tuple of NormalNeighbour
    sound : Sound or None
        ``None`` if it could not be read.
    versions : mapping from str to str
        Of nearfar and of the libraries that compute.
    """

    name: str
    machine: str
    system: str
    verdict: Verdict
    threshold: float | None
    false_alarm_rate: float | None
    reference_scores: Float
    headline: str
    p_value_means: str
    words: tuple[str, ...]
    health: tuple[str, ...]
    missing: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    window: Excerpt | None = None
    bands: tuple[BandLevels, ...] = ()
    spectra: tuple[FineSpectrum, ...] = ()
    envelope: EnvelopeSpectrum | None = None
    maps: tuple[BranchMap, ...] = ()
    neighbours: tuple[NormalNeighbour, ...] = ()
    sound: Sound | None = field(default=None, repr=False)
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)

    def content(self) -> dict[str, Any]:
        """All but the sounds, as JSON values: ``docs/explain.md`` lists them."""
        told = contents.of_verdict(self.verdict)
        for one in dataclasses.fields(self):
            if one.name not in ("name", "verdict", "sound", "neighbours", "reasons"):
                told[one.name] = contents.plain(getattr(self, one.name))
        told["reasons"] = [{"words": reason.words, **contents.plain(reason)} for reason in self.reasons]
        told["neighbours"] = [
            {
                f.name: contents.plain(getattr(one, f.name))
                for f in dataclasses.fields(one)
                if f.name != "sound"
            }
            for one in self.neighbours
        ]
        return {"format": FORMAT, **told}

    def to_json(self) -> str:
        """The object of ``content``, on one line."""
        return json.dumps(self.content(), ensure_ascii=False, allow_nan=False) + "\n"


def explain(
    detector: Detector | Path | str,
    recording: Samples | Recording | Path | str,
    rate: int | None = None,
    *,
    name: str = "",
    at: float | None = None,
    neighbours: int = NEIGHBOURS,
) -> Explanation:
    """Say what speaks for the verdict on a recording.

    Parameters
    ----------
    detector : Detector, Path or str
        Or the folder of one.
    recording : (channels, samples) array, Recording, Path or str
        Samples in [-1, 1), of the channels that are used; or a recording on disk. Of one that is longer than the
        clips of the fit, one window is explained.
    rate : int or None
        Of samples, in Hz. A file has its own.
    name : str
        What samples are called.
    at : float or None
        In seconds: where the window begins. ``None``: the most anomalous window of a long recording.
    neighbours : int
        How many of the nearest normal recordings are shown.

    Returns
    -------
    Explanation
        Of a recording that cannot be used, it says why.

    Raises
    ------
    ValueError
        If the recording has no such time, or the number of neighbours is negative.
    TypeError
        If samples have no rate, or a file is given one.
    DetectorError
        If the detector is damaged.
    """
    if neighbours < 0:
        raise ValueError(f"neighbours={neighbours}: must be at least 0")
    loaded = detector if isinstance(detector, Detector) else Detector.load(detector)
    if not isinstance(recording, Recording | Path | str):
        if rate is None:
            raise TypeError("rate is missing: samples alone do not tell their sampling rate; give it in Hz")
        heard = excerpts.of_samples(loaded, recording, rate, at, name=name or "recording")
        return explain_heard(loaded, heard, neighbours=neighbours)
    if rate is not None:
        raise TypeError(f"rate={rate}: the file {recording} has its own rate; omit it")
    return _of_file(loaded, excerpts.as_recording(recording), at, neighbours)


def _of_file(detector: Detector, asked: Recording, at: float | None, neighbours: int) -> Explanation:
    try:
        return explain_heard(detector, excerpts.of_file(detector, asked, at), neighbours=neighbours)
    except (AudioError, MicrophoneError, MissingPackageError, OSError) as error:
        message = str(error).removeprefix(f"{asked}: ")
        if isinstance(error, MicrophoneError):
            message += missing_track(asked)
        return unusable(detector, str(asked), message)


def unusable(detector: Detector, name: str, message: str) -> Explanation:
    """Of a recording that cannot be read or scored."""
    nan = float("nan")
    verdict = Verdict(name, nan, nan, "unusable", error=message)
    health = telling.of_health(detector, verdict)
    headline = f"Unusable: {message.rstrip('.')}."
    return Explanation(
        **_of_detector(detector), name=name, verdict=verdict, headline=headline, p_value_means="", health=health,
        words=(headline,), missing=(),
    )  # fmt: skip


def explain_heard(detector: Detector, heard: Heard, *, neighbours: int = NEIGHBOURS) -> Explanation:
    """Of samples that were read.

    Raises
    ------
    AudioError, MicrophoneError
        If the detector cannot use them.
    """
    samples, rate = heard.samples, heard.rate
    transforms = Transforms(samples, wanted=detector.frame_lengths(rate))
    verdict = detector.score(samples, rate, name=heard.name, notes=heard.notes, transforms=transforms)
    sound = _sound(detector, samples, rate, transforms)
    maps = maps_of(detector, samples, rate, name=heard.name, transforms=transforms)
    kept = _Kept()
    near_to = _neighbours(detector, samples, rate, neighbours, kept)
    compared, bands = _compared(detector, samples, rate)
    spectra = _fine_spectra(detector, sound, near_to, kept)
    found: list[Reason] = []
    envelope_of: EnvelopeSpectrum | None = None
    if compared is not None and len(compared.domain) >= FEWEST_CLIPS and verdict.decision in ("anomaly", ""):
        looking = _Looking(detector, compared, maps, sound, near_to, verdict)
        found, envelope_of = looking.reasons()
    why_not = [f"There is no map of {one.branch}: {one.why_not}" for one in maps if one.why_not]
    missing = telling.of_missing(detector, sound.far is not None, why_not, list(kept.damaged.values()))
    health = telling.of_health(detector, verdict)
    headline = _headline(detector, verdict, found)
    meaning = telling.of_p_value(detector, verdict)
    words = _words(detector, verdict, heard.excerpt, (headline, meaning), found)
    told_health = () if verdict.decision == "unusable" else health  # the headline says it already
    return Explanation(
        **_of_detector(detector), name=heard.name, verdict=verdict, headline=headline, p_value_means=meaning,
        words=(*words, *told_health, *missing), health=health, missing=missing, reasons=tuple(found),
        window=heard.excerpt, bands=bands, spectra=spectra, envelope=envelope_of, maps=maps, neighbours=near_to,
        sound=sound,
    )  # fmt: skip


def _of_detector(detector: Detector) -> dict[str, Any]:
    from nearfar import __version__

    threshold = detector.threshold
    return {
        "machine": detector.machine,
        "system": detector.system.name,
        "threshold": None if threshold is None else float(threshold.value),
        "false_alarm_rate": None if threshold is None else threshold.false_alarm_rate,
        "reference_scores": np.empty(0) if threshold is None else np.sort(threshold.normal_scores),
        "versions": {"nearfar": __version__, **library_versions()},
    }


def _cancelled_view(detector: Detector) -> str:
    """The first view that hears both microphones, of those that the detector uses."""
    return next((name for name in detector.system.microphones if len(MICROPHONES[name].hears) > 1), "")


def _sound(detector: Detector, samples: Samples, rate: int, transforms: Transforms | None = None) -> Sound:
    view = _cancelled_view(detector)
    if len(samples) < 2:
        return Sound(rate, samples[NEAR], None, None, "")
    cancelled = listen(samples, view, transforms) if view else None
    return Sound(rate, samples[NEAR], samples[FAR], cancelled, view)


class _Kept:
    """Reads normal recordings of a detector, each once; those that cannot be read are left out, and counted."""

    def __init__(self) -> None:
        self.damaged: dict[str, str] = {}  # messages, by file
        self._read: dict[str, Recorded] = {}

    def load(self, clip: NormalClip) -> Recorded | None:
        """The sound, or ``None`` if it cannot be read."""
        if clip.file not in self._read and clip.file not in self.damaged:
            try:
                self._read[clip.file] = clip.load()
            except DamagedSoundError as error:
                self.damaged[clip.file] = str(error)
        return self._read.get(clip.file)


def _neighbours(
    detector: Detector, samples: Samples, rate: int, count: int, kept: _Kept
) -> tuple[NormalNeighbour, ...]:
    """The nearest normal recordings that can be read, for each branch, with their sound."""
    if detector.sounds is None or not detector.sounds.clips or count == 0:
        return ()
    found: dict[str, list[NormalNeighbour]] = {}
    for one in nearest_normals(detector, samples, rate, len(detector.sounds.clips)):
        of_branch = found.setdefault(one.branch, [])
        recorded = kept.load(one.clip) if len(of_branch) < count else None
        if recorded is not None:
            sound = _sound(detector, recorded.samples, recorded.rate)
            of_branch.append(
                NormalNeighbour(
                    one.clip.name, one.clip.domain, one.branch, one.distance, one.rank_of_all, sound
                )
            )
    return tuple(one for of_branch in found.values() for one in of_branch)


def _compared(
    detector: Detector, samples: Samples, rate: int
) -> tuple[Compared | None, tuple[BandLevels, ...]]:
    """Band levels of the recording, and of all normal clips."""
    sounds = detector.sounds
    if sounds is None:
        return None, ()
    levels, peaks = sounds.measure(samples, rate)
    edges = np.asarray(sounds.edges, dtype=float)
    clip: dict[str, Float] = {}
    normal: dict[str, Float] = {}
    bands = []
    for i, view in enumerate(sounds.views):
        if np.isnan(levels[i]).any() or np.isnan(sounds.levels[:, i]).any():
            continue  # the recording, or one of the normal clips, has no far microphone
        clip[view], normal[view] = levels[i].astype(float), sounds.levels[:, i].astype(float)
        bands.append(BandLevels.of(view, edges, clip[view], peaks[i].astype(float), normal[view]))
    return Compared(edges, clip, normal, tuple(sounds.domain)), tuple(bands)


def _fine_spectra(
    detector: Detector, sound: Sound, near_to: Sequence[NormalNeighbour], kept: _Kept
) -> tuple[FineSpectrum, ...]:
    """Near, far, and what only near hears, beside the nearest normal recordings and some others."""
    normal = list({one.name: one.sound for one in near_to}.values())
    clips = () if detector.sounds is None else detector.sounds.clips
    known = {one.name for one in near_to}
    others = [clip for clip in clips if clip.name not in known]
    for row in evenly(len(others), max(0, MOST_DECODED - len(normal))) if others else ():
        recorded = kept.load(others[row])
        if recorded is None:
            continue
        far = recorded.samples[FAR] if len(recorded.samples) > 1 else None
        normal.append(Sound(recorded.rate, recorded.samples[NEAR], far, None, ""))
    same = [one for one in normal if one.rate == sound.rate]
    found = [FineSpectrum.of("near", sound.near, [one.near for one in same], sound.rate)]
    for view, own, of in (
        ("far", sound.far, [one.far for one in same]),
        (sound.cancelled_view, sound.cancelled, [one.cancelled for one in same]),
    ):
        if own is not None:
            found.append(FineSpectrum.of(view, own, [one for one in of if one is not None], sound.rate))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Looking:
    """For the reasons of one clip."""

    detector: Detector
    compared: Compared
    maps: Sequence[BranchMap]
    sound: Sound
    near_to: Sequence[NormalNeighbour]
    verdict: Verdict

    def reasons(self) -> tuple[list[Reason], EnvelopeSpectrum | None]:
        """The most telling first, and the envelope spectrum of the first one that is louder."""
        heard = [m for m in self.detector.system.microphones if m in self.compared.clip and m != "far"]
        views = heard or ["near"]
        far = self.compared.scan("far") if "far" in self.compared.clip else None
        found: list[Reason] = []
        first: EnvelopeSpectrum | None = None
        for reason, interval in reasons.find(self.compared, views, self._mass()):
            full, spectrum = self._completed(reason, interval, far)
            found.append(full)
            first = first or spectrum
        whole = reasons.loudness(self.compared, "near")
        if whole is not None:
            found = [whole, *found] if found[0].kind == "combination" else [*found, whole]
        return found, first

    def _completed(
        self, reason: Reason, interval: Interval, far: Scan | None
    ) -> tuple[Reason, EnvelopeSpectrum | None]:
        """With what far hears, and how it sounds in time."""
        hears, change = reasons.far_hears(far, interval)
        course, spectrum = self._course(reason) if reason.direction == "louder" else (None, None)
        full = dataclasses.replace(reason, far=hears, far_from_expected_db=change, course=course)
        return full, spectrum

    def _course(self, reason: Reason) -> tuple[Course, EnvelopeSpectrum]:
        own = _of_view(self.sound, reason.view)
        bins = spectrum_of(own)
        low, high = reason.low_hz, reason.high_hz
        of_clip = envelope(bins, len(own), self.sound.rate, low, high)
        of_normal = tuple(
            _envelope(_of_view(one.sound, reason.view), one.sound.rate, low, high) for one in self.near_to
        )
        spectrum = envelope_spectrum(of_clip, of_normal, view=reason.view, low_hz=low, high_hz=high)
        tone = tone_in(bins, len(own), self.sound.rate, low, high)
        usual = (_tone(_of_view(one.sound, reason.view), one.sound.rate, low, high) for one in self.near_to)
        if tone is not None and any(
            other is not None and abs(other / tone - 1) < SAME_TONE for other in usual
        ):
            tone = None  # the nearest normal clips have it, too
        return course_of(of_clip, of_normal, spectrum, tone), spectrum

    def _mass(self) -> Float | None:
        """Share of the score that comes from each band, by the maps; of a fused detector by contribution."""
        contributions = {branch.name: max(branch.contribution, 0.0) for branch in self.verdict.branches}
        weights = {
            name: contributions.get(part.name, 1.0) / part.size
            for part in self.detector.system.parts
            for name in names_of(part)
        }
        total = np.zeros(len(self.compared.edges) - 1)
        for one in self.maps:
            if not one.is_empty:
                summed = np.append(0.0, np.cumsum(_above_typical(one)))
                of_bands = np.diff(np.interp(self.compared.edges, one.frequencies, summed))
                total += weights[one.branch] / max(abs(one.score), 1e-12) * of_bands
        return total / total.sum() if total.sum() > 0 else None


def _above_typical(one: BranchMap) -> Float:
    """What each row of a map adds to the score beyond its part of what a normal clip scores; never negative."""
    rows = one.values.sum(axis=1)
    usual = 0.0 if np.isnan(one.typical) else one.typical / (one.n_maps * len(rows))
    return np.asarray(np.maximum(rows - usual, 0.0))


def _envelope(waveform: Waveform, rate: int, low: float, high: float) -> Envelope:
    return envelope(spectrum_of(waveform), len(waveform), rate, low, high)


def _tone(waveform: Waveform, rate: int, low: float, high: float) -> float | None:
    return tone_in(spectrum_of(waveform), len(waveform), rate, low, high)


def _of_view(sound: Sound, view: str) -> Waveform:
    if view == sound.cancelled_view and sound.cancelled is not None:
        return sound.cancelled
    if view == "far" and sound.far is not None:
        return sound.far
    return (
        sound.near if view == "near" or sound.far is None else listen(np.stack([sound.near, sound.far]), view)
    )


def _headline(detector: Detector, verdict: Verdict, found: Sequence[Reason]) -> str:
    if verdict.decision == "unusable":
        return f"Unusable: {verdict.error or '; '.join(f.message for f in verdict.faults)}".rstrip(".") + "."
    if verdict.decision == "normal":
        return telling.of_normal(detector, verdict)
    decided = telling.of_decision(verdict)
    if not found:
        return f"{decided}."
    if found[0].kind == "combination":
        how = (
            " by the combination of many levels" if verdict.decision else ""
        )  # none was decided without a threshold
        return f"{decided}{how}; most telling is {found[0].words}."
    return f"{decided}: {found[0].words}."


def _words(
    detector: Detector,
    verdict: Verdict,
    excerpt: Excerpt | None,
    first: tuple[str, str],
    found: Sequence[Reason],
) -> list[str]:
    """All sentences but those on the microphones and on what is missing."""
    headline, meaning = first
    said = [headline, *([meaning] if meaning else [])]
    if excerpt is not None and excerpt.chosen == "most anomalous":
        said.append(telling.of_window(detector, excerpt))
    said += [f"Also {reason.words}." for reason in found[1:]]
    if found and all(reason.kind == "combination" for reason in found):
        said.append(
            "No band is unusual by itself: some normal clips have bands that are as far off. See the map."
        )
    views = {reason.view for reason in found} - {"near"}
    if views:
        said.append(
            "Levels are those of the near microphone without what the far one explains "
            f"({', '.join(sorted(views))})."
        )
    shares = [r for r in found if r.kind == "band" and r.score_share is not None]
    if shares:
        first, *rest = (
            (f"{100 * (r.score_share or 0):.0f} %", reasons.told_band(r.low_hz, r.high_hz)) for r in shares
        )
        of = f"{first[0]} of what speaks for the score comes from {first[1]}"
        of += "".join(f", and {share} from {band}" for share, band in rest)
        said.append(f"By the map, {of}.")
    return said + telling.of_branches(verdict)
