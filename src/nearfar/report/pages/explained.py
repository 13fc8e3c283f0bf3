"""The page of an explanation: what a detector says of a recording, and what speaks for it, to see and to hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearfar.evidence.reasons import course_kind
from nearfar.evidence.spectrograms import LOWEST
from nearfar.recordings.clips import counted
from nearfar.report.pages import charts, sounds
from nearfar.report.pages.charts import Axis, Band, Chart, Line, Mark, Span, Strip
from nearfar.report.pages.page import render
from nearfar.report.pages.pictures import Picture, image_chart, limits_of, spectrogram_picture
from nearfar.report.pages.sounds import Codec, Player
from nearfar.report.pages.tables import Cell, Column, Table
from nearfar.report.pages.text import number

if TYPE_CHECKING:
    from nearfar.evidence.courses import Course
    from nearfar.evidence.envelopes import EnvelopeSpectrum
    from nearfar.evidence.explanation import Explanation, NormalNeighbour
    from nearfar.evidence.maps import BranchMap
    from nearfar.evidence.spectra import BandLevels, FineSpectrum

DECISIONS = {"anomaly": "Anomaly", "normal": "Normal", "unusable": "Unusable", "": "No decision"}
MOST_SOUND = 6_500_000  # bytes of the page: the rest is for pictures
TALL, SMALL = 320, 150  # px of maps, and of spectrograms that stand beside each other
CODEC_SAID: dict[Codec, str] = {
    "flac": "Sounds are FLAC with 16 bits, which takes nothing away",
    "mp3": "Sounds are MP3, to keep the page small: what is very quiet or very high may be missing in them",
}
TIME, FREQUENCY = Axis("Time", "s"), Axis("Frequency", "Hz", "log")
LOG = replace(FREQUENCY, low=LOWEST)  # where the edges may begin at 0
MICROPHONES = {
    "near": "Near microphone",
    "far": "Far microphone",
    "cancelled": "Near without what far explains",
}
ENOUGH = 4  # sounds of a microphone: the recording and three normal clips
BRIGHTEST = 99.9  # percentile of a map that gets the last colour
Float = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Listening:
    """One recording by one microphone: its spectrogram and its sound."""

    title: str
    about: str
    chart: Chart
    player: Player


@dataclass(frozen=True, slots=True)
class Row:
    """The recording and its nearest normal clips by one microphone, with one gain and one scale of colours.

    ``more`` are those that are shown when asked for.
    """

    heading: str
    id: str
    heard: tuple[Listening, ...]
    more: tuple[Listening, ...]
    gain_db: float
    volume: float


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is known of a recording in a row, before it is drawn."""

    title: str
    about: str
    samples: Float
    rate: int


def page(explanation: Explanation, *, command: str = "") -> str:
    """The page of an explanation: one file that loads nothing.

    Parameters
    ----------
    explanation : Explanation
    command : str
        The command line that made it, to be shown.

    Returns
    -------
    str
        HTML; see ``pages.page.write``.
    """
    rows, remarks = _listening(explanation)
    elsewhere = {explanation.headline, explanation.p_value_means, *explanation.health, *explanation.missing}
    return render(
        "explained.html.j2",
        title=_last(explanation.name),
        command=command or "nearfar.explain(detector, recording)",
        versions=explanation.versions,
        explanation=explanation,
        decision=explanation.verdict.decision or "undecided",
        headline=_without_decision(explanation.headline),
        decided=DECISIONS[explanation.verdict.decision],
        facts=_facts(explanation),
        score_chart=_score_chart(explanation),
        words=[sentence for sentence in explanation.words if sentence not in elsewhere],
        reasons=_reason_table(explanation),
        branches=_branch_table(explanation),
        maps=[_map_chart(each, explanation) for each in explanation.maps if each.values.size],
        without_map=[f"{each.branch}: {each.why_not}" for each in explanation.maps if not each.values.size],
        spectra=[_band_chart(each, explanation) for each in explanation.bands],
        fine=[_fine_chart(each) for each in explanation.spectra],
        envelope=_envelope_chart(explanation.envelope) if explanation.envelope is not None else None,
        rows=rows,
        remarks=remarks,
        levels=_level_facts(explanation),
    )


def _without_decision(headline: str) -> str:
    """The same without the decision, which stands above it in large letters."""
    decision, colon, rest = headline.partition(": ")
    said = rest if colon and decision in DECISIONS.values() else headline
    return said[:1].upper() + said[1:]


def _last(name: str) -> str:
    """The name without the folders that it lies in."""
    return PurePath(name).name or name


def _facts(explanation: Explanation) -> list[tuple[str, str]]:
    verdict, window = explanation.verdict, explanation.window
    facts = [("Recording", explanation.name if window is None else window.recording)]
    if window is not None:
        chosen = {"asked": "as asked", "most anomalous": f"the most anomalous of {window.windows}"}
        facts.append(("Window", f"{window.seconds:g} s from {window.start:g} s on, {chosen[window.chosen]}"))
    facts += [("Machine", explanation.machine), ("Detector", explanation.system)]
    if not math.isnan(verdict.score):
        facts.append(("Anomaly score", f"{verdict.score:.4g}"))
    if explanation.threshold is not None:
        facts.append(("Threshold", f"{explanation.threshold:.4g}"))
    if not math.isnan(verdict.p_value):
        facts.append(("p-value", f"{verdict.p_value:.2g}"))
    if explanation.false_alarm_rate is not None:
        facts.append(
            ("False alarms that were asked for", number(100 * explanation.false_alarm_rate, unit="%"))
        )
    return facts


def _score_chart(explanation: Explanation) -> Chart | None:
    """Where the score lies among those of normal clips; None where there are none to compare with."""
    normal = np.asarray(explanation.reference_scores, float)
    score = explanation.verdict.score
    if not len(normal) or math.isnan(score):
        return None
    higher = int((normal >= score).sum())
    return charts.strip_chart(
        "Where the score lies",
        [
            Strip("normal clips behind the threshold", normal, "normal"),
            Strip("this recording", [score], "clip", [explanation.name]),
        ],
        x=Axis("Anomaly score"),
        threshold=explanation.threshold,
        description=f"{higher} of {len(normal)} normal clips score as high as this recording or higher.",
    )


def _reason_table(explanation: Explanation) -> Table | None:
    if not explanation.reasons:
        return None
    columns = [
        Column("What"),
        Column("From", "number", unit="Hz"),
        Column("To", "number", unit="Hz"),
        Column("Microphone"),
        Column("Beyond normal clips", "number", 1, unit="dB"),
        Column("From their median", "number", 1, unit="dB"),
        Column("From what is expected", "number", 1, unit="dB"),
        Column("Share of the score", "number", 0, percent=True),
        Column("Far microphone"),
        Column("In time"),
    ]
    rows: list[list[Cell]] = [
        [reason.direction, reason.low_hz, reason.high_hz, _microphone(reason.view), reason.beyond_db,
         reason.from_median_db, reason.from_expected_db, reason.score_share, reason.far, _in_time(reason.course)]
        for reason in explanation.reasons
    ]  # fmt: skip
    return Table("What was measured", columns, rows)


def _in_time(course: Course | None) -> str | None:
    if course is None:
        return None
    rate = "" if course.rate_hz is None else f", {number(course.rate_hz)} a second"
    tone = "" if course.tone_hz is None else f", a tone at {number(course.tone_hz)} Hz"
    return f"{course_kind(course)}{rate}{tone}"


def _branch_table(explanation: Explanation) -> Table | None:
    branches = explanation.verdict.branches
    if not branches:
        return None
    columns = [
        Column("Branch"),
        Column("Score", "number"),
        Column("p-value", "number"),
        Column("Adds to the fused score", "number"),
    ]
    rows: list[list[Cell]] = [
        [branch.name, branch.score, branch.p_value, branch.contribution] for branch in branches
    ]
    return Table("What the branches say", columns, rows)


def _microphone(view: str) -> str:
    """Which microphone a view is of, in words."""
    kind = "cancelled" if view.startswith("cancelled") else view
    return MICROPHONES.get(kind, view)


def _sound_of(view: str, sound: Any) -> NDArray[np.float32] | None:
    """The samples that a view was made of, or the nearest to them that there are."""
    if sound is None:
        return None
    kind = "cancelled" if view.startswith("cancelled") else view
    found: NDArray[np.float32] | None = getattr(sound, kind, None)
    return sound.near if found is None else found


def _map_chart(branch: BranchMap, explanation: Explanation) -> Chart:
    """What stands out of a map, over the spectrogram in grey; the numbers are the parts of the score themselves."""
    shown = np.asarray(branch.shown, np.float64)
    high = float(np.percentile(shown, BRIGHTEST)) or float(shown.max())
    parts = Picture(
        "part of the score",
        branch.values,
        branch.times,
        branch.frequencies,
        TIME,
        LOG,
        0.0,
        high or 1.0,
        colours="over",
    )
    map_ = replace(parts, name="map", values=shown) if high else None
    how = branch.how if high else f"{branch.how} Nothing stands out of this map."
    title = f"Where the score of {branch.branch} comes from: {_microphone(branch.microphone).lower()}"
    samples = _sound_of(branch.microphone, explanation.sound)
    if samples is None or explanation.sound is None:
        return image_chart(title, map_ or parts, told=parts, description=how, height=TALL)
    base = spectrogram_picture(samples, explanation.sound.rate, colours="grey")
    return image_chart(
        title, base, over=map_, told=parts, spans=_spans(explanation), description=how, height=TALL
    )


def _spans(explanation: Explanation) -> list[Span]:
    """The bands that the reasons name."""
    return [
        Span(f"{reason.direction}: {reason.words}", reason.low_hz, reason.high_hz)
        for reason in explanation.reasons
        if reason.kind == "band"
    ]


def _band_chart(levels: BandLevels, explanation: Explanation) -> Chart:
    """Levels in bands against those of all normal clips."""
    middle = np.sqrt(levels.edges[:-1] * levels.edges[1:])
    spans = [
        Span(f"{reason.direction}: {reason.words}", reason.low_hz, reason.high_hz)
        for reason in explanation.reasons
        if reason.kind == "band" and reason.view == levels.view
    ]
    return charts.line_chart(
        f"Levels in bands: {_microphone(levels.view).lower()}",
        [
            Line("this recording", middle, levels.clip, "clip"),
            Line("normal clips, 50 %", middle, levels.normal[2], "normal"),
        ],
        bands=[Band("normal clips, 5 to 95 %", middle, levels.normal[1], levels.normal[3])],
        spans=spans,
        x=FREQUENCY,
        y=Axis("Level", "dBFS"),
        description=f"This recording against {counted(levels.clips, 'normal clip')}.",
    )


def _fine_chart(spectrum: FineSpectrum) -> Chart:
    """Power density against that of the kept normal recordings."""
    x = spectrum.frequencies
    lines, bands = [Line("this recording", x, spectrum.clip, "clip")], []
    about = "The detector keeps no normal recordings to compare with."
    if spectrum.low is not None and spectrum.median is not None and spectrum.high is not None:
        lines.append(Line("normal recordings, 50 %", x, spectrum.median, "normal"))
        bands.append(Band("normal recordings, 5 to 95 %", x, spectrum.low, spectrum.high))
        about = (
            f"This recording against {counted(spectrum.clips, 'normal recording')} that the detector keeps."
        )
    return charts.line_chart(
        f"Spectrum: {_microphone(spectrum.view).lower()}",
        lines,
        bands=bands,
        x=Axis("Frequency", "Hz", "log", low=max(LOWEST, float(x[0]))),
        y=Axis("Power density", "dBFS/Hz"),
        description=about,
    )


def _envelope_chart(found: EnvelopeSpectrum) -> Chart:
    """How often a band gets louder: the peaks that stand out have their rate beside them."""
    x = found.frequencies
    lines = [
        Line("this recording", x, found.clip, "clip"),
        Line("its noise floor", x, found.floor, "limit"),
    ]
    bands = []
    if len(found.normal):
        bands.append(Band("nearest normal clips, all", x, found.normal.min(axis=0), found.normal.max(axis=0)))
    marks = [Mark(f"{number(peak.hz)} Hz", peak.hz, peak.level_db) for peak in found.peaks]
    band = f"{number(found.low_hz)} to {number(found.high_hz)} Hz"
    return charts.line_chart(
        f"Envelope spectrum, {band}: {_microphone(found.view).lower()}",
        lines,
        bands=bands,
        marks=marks,
        x=Axis("Rate of change", "Hz", low=0.0),
        y=Axis("Modulation", "dB"),
        description=f"Peaks that stand out: {len(marks) or 'none'}.",
    )


def _level_facts(explanation: Explanation) -> list[tuple[str, str]]:
    """Loudness and likeness of the microphones."""
    levels = explanation.verdict.levels
    if levels is None:
        return []
    facts = [("Level, near microphone", number(levels.near_dbfs, 1, "dBFS"))]
    if not math.isnan(levels.far_dbfs):
        facts.append(("Level, far microphone", number(levels.far_dbfs, 1, "dBFS")))
    if not math.isnan(levels.coherence):
        facts.append(("Coherence of near and far, from 0 to 1", number(levels.coherence, 2)))
    return facts


def _listening(explanation: Explanation) -> tuple[list[Row], list[str]]:
    """A row for each microphone, and what is to be said of all sounds."""
    if explanation.sound is None:
        return [], []
    heard = {view: _heard_by(view, explanation) for view in MICROPHONES}
    heard = {view: parts for view, parts in heard.items() if parts}
    codec, most = _fitting(heard)
    remarks = [f"{CODEC_SAID[codec]}."]
    longest = max(len(parts) for parts in heard.values())
    if most < longest:
        remarks.append(f"{longest - most} of {longest - 1} normal clips are left out to keep the page small.")
    rows = [_row(view, parts[:most], codec) for view, parts in heard.items()]
    players = [each.player for row in rows for each in (*row.heard, *row.more)]
    resampled = {(p.recorded_rate, p.rate) for p in players if p.rate != p.recorded_rate}
    remarks += [
        f"Recorded at {number(recorded)} Hz and resampled to {number(played)} Hz for the players; pictures and "
        "numbers are of the recording itself."
        for recorded, played in sorted(resampled)
    ]
    return rows, remarks


def _heard_by(view: str, explanation: Explanation) -> list[_Heard]:
    """The recording, then its nearest normal clips, by one microphone."""
    sound = explanation.sound
    assert sound is not None
    samples = getattr(sound, view)
    if samples is None:
        return []
    parts = [_Heard("This recording", explanation.name, samples, sound.rate)]
    for neighbour, branches in _each_once(explanation.neighbours):
        samples = getattr(neighbour.sound, view)
        if samples is not None:
            title = (
                f"Normal clip, nearest of {' and '.join(branches)}" if branches else "Normal clip, nearest"
            )
            about = f"{neighbour.name} ({neighbour.domain})" if neighbour.domain else neighbour.name
            parts.append(_Heard(title, about, samples, neighbour.sound.rate))
    return parts


def _each_once(neighbours: Sequence[NormalNeighbour]) -> list[tuple[NormalNeighbour, list[str]]]:
    """The nearest of each branch first; a clip that several branches find is there once, with their names."""
    found: dict[tuple[str, str], tuple[NormalNeighbour, list[str]]] = {}
    for neighbour in sorted(neighbours, key=lambda each: each.rank):
        _, branches = found.setdefault((neighbour.name, neighbour.domain), (neighbour, []))
        branches += [neighbour.branch] if neighbour.branch else []
    return list(found.values())


def _fitting(heard: Mapping[str, Sequence[_Heard]]) -> tuple[Codec, int]:
    """The codec, and how many sounds of each microphone fit: exact ones, if enough of them do.

    The recording itself is always there.
    """
    longest = max(len(parts) for parts in heard.values())
    tried: list[tuple[Codec, int]] = [("flac", most) for most in range(longest, min(longest, ENOUGH) - 1, -1)]
    last: Codec = "mp3" if sounds.available("mp3") else "flac"
    tried += [(last, most) for most in range(longest, 1, -1)]
    for codec, most in tried:
        total = sum(
            sounds.encoded_bytes(len(part.samples) / part.rate, part.rate, codec)
            for parts in heard.values()
            for part in parts[:most]
        )
        if total <= MOST_SOUND:
            return codec, most
    return last, 1


def _row(view: str, parts: Sequence[_Heard], codec: Codec) -> Row:
    pictures = [spectrogram_picture(part.samples, part.rate, low=0.0, high=1.0) for part in parts]
    low, high = limits_of([picture.values for picture in pictures])
    top = max(float(picture.y_edges[-1]) for picture in pictures)
    players = sounds.players([(f"{p.title}: {p.about}", p.samples, p.rate) for p in parts], codec=codec)
    listening = tuple(
        Listening(
            part.title,
            part.about,
            image_chart(
                f"{MICROPHONES[view]}, {part.title.lower()}: {part.about}",
                replace(picture, low=low, high=high, y=replace(picture.y, high=top)),
                height=SMALL,
            ),
            player,
        )
        for part, picture, player in zip(parts, pictures, players, strict=True)
    )
    return Row(
        MICROPHONES[view],
        f"heard-{view}",
        listening[:ENOUGH],
        listening[ENOUGH:],
        players[0].gain_db,
        players[0].volume,
    )
