"""What a page of results shows of recordings: clips to see and to hear, and maps with points that lead there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfar.evidence.spectrograms import Spectrogram, spectrogram
from nearfar.report.pages import charts, sounds
from nearfar.report.pages.charts import Axis, Chart, Point
from nearfar.report.pages.drawing import Look
from nearfar.report.pages.pictures import Picture, image_chart, limits_of
from nearfar.report.pages.sounds import Codec, Player
from nearfar.report.pages.tables import Column, Table
from nearfar.report.pages.text import as_json, number

if TYPE_CHECKING:
    from nearfar.recordings.clips import Clip
    from nearfar.recordings.datasets.validation import Problem
    from nearfar.research.embedded import EmbeddingMap
    from nearfar.research.listened import Heard, Listened
    from nearfar.research.reported import Reported

VIEWS = {"near": "Near microphone", "far": "Far microphone", "cancelled": "Near without what far explains"}
BANDS, COLUMNS = 56, 160  # of a spectrogram
SHORT = 110  # px
MOST_PROBLEMS = 300  # rows
LOOKS: Mapping[str, Look] = {
    "training, source": "source", "training, target": "target", "training": "source",
    "test, normal": "s3", "test, anomaly": "anomaly", "test": "s4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """A clip by one microphone."""

    name: str
    chart: Chart
    player: Player

    @property
    def size(self) -> int:
        """About how many bytes of the page it takes."""
        own = len(self.chart.svg) + len(as_json(self.chart.numbers)) + len(self.player.source)
        return own + 4 * len(self.chart.title) + 1500


@dataclass(frozen=True, slots=True)
class Card:
    """A clip that is played.

    Attributes
    ----------
    id : str
        Of its element.
    name, about : str
    views : tuple of View
    """

    id: str
    name: str
    about: str
    views: tuple[View, ...]

    @property
    def size(self) -> int:
        """About how many bytes of the page it takes."""
        return sum(view.size for view in self.views) + 500


def codec() -> Codec:
    """The one with which more clips fit on a page."""
    return "mp3" if sounds.available("mp3") else "flac"


def cards(reported: Reported, most_bytes: int) -> tuple[tuple[Card, ...], tuple[str, ...]]:
    """The clips that are played, as many as there is room for; and what is said of the others.

    Parameters
    ----------
    reported : Reported
    most_bytes : int
        Of the page, for all of them together.
    """
    listened = reported.listened
    if listened is None:
        return (), ()
    heard = [listened.heard[key] for key in reported.played if key in listened.heard]
    spectra = {(one.clip.key, view): _spectrogram(one, view) for one in heard for view in one.sounds}
    gains, limits = _alike(heard, spectra)
    about = _about(reported)
    found: list[Card] = []
    room = most_bytes
    for one in heard:
        machine, key = one.clip.machine, one.clip.key
        views = tuple(
            _view(one, view, spectra[key, view], limits[machine, view], gains[machine, view])
            for view in one.sounds
        )
        card = Card(f"clip-{len(found) + 1}", one.clip.name, about[key], views)
        room -= card.size
        if room < 0:
            break
        found.append(card)
    return tuple(found), tuple(_remarks(reported, listened, heard, len(found)))


def _alike(
    heard: Sequence[Heard], spectra: Mapping[tuple[str, str], Spectrogram]
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], tuple[float, float]]]:
    """One gain, and the same limits of colours, for all clips of a machine by one view."""
    groups: dict[tuple[str, str], list[Heard]] = {}
    for one in heard:
        for view in one.sounds:
            groups.setdefault((one.clip.machine, view), []).append(one)
    gains = {(m, view): sounds.gain_for([one.sounds[view] for one in of]) for (m, view), of in groups.items()}
    limits = {
        (m, view): limits_of([spectra[one.clip.key, view].levels for one in of])
        for (m, view), of in groups.items()
    }
    return gains, limits


def _spectrogram(heard: Heard, view: str) -> Spectrogram:
    return spectrogram(heard.sounds[view], heard.rate, bands=BANDS, columns=COLUMNS)


def _view(heard: Heard, view: str, found: Spectrogram, limits: tuple[float, float], gain_db: float) -> View:
    name = VIEWS[view]
    picture = Picture(
        "level", found.levels, found.times, found.frequencies, Axis("Time", "s"),
        Axis("Frequency", "Hz", "log"), *limits, unit="dBFS",
    )  # fmt: skip
    chart = image_chart(
        f"{name}: {heard.clip.name}", picture, height=SHORT,
        description=f"Levels from {number(limits[0], 0)} to {number(limits[1], 0, 'dBFS')}.",
    )  # fmt: skip
    (player,) = sounds.players([(name, heard.sounds[view], heard.rate)], codec=codec(), gain_db=gain_db)
    return View(name, chart, player)


def _about(reported: Reported) -> dict[str, str]:
    """What each clip is, by key: of the first result that tells."""
    found: dict[str, str] = {}
    for one in reversed(reported.results):
        for row in one.wrong.to_dict("records"):
            domain = f", {row['domain']}" if isinstance(row["domain"], str) else ""
            side = "" if np.isnan(row["rank"]) else f", {number(100 * row['rank'], 0, '%')} on the wrong side"
            found[str(row["key"])] = (
                f"{row['machine']}{domain}: {row['kind']} of {one.name}, score {number(row['score'])}{side}"
            )
    return found


def _remarks(reported: Reported, listened: Listened, heard: Sequence[Heard], shown: int) -> list[str]:
    found = []
    if heard and shown < len(heard):
        found.append(f"{shown} of {len(heard)} clips are here, because the page would be too large with all.")
    if any(one.seconds > len(next(iter(one.sounds.values()))) / one.rate + 0.01 for one in heard):
        longest = max(len(next(iter(one.sounds.values()))) / one.rate for one in heard)
        found.append(f"Of longer clips, the first {number(longest, 0, 's')} are here.")
    if any(len(one.sounds) < len(VIEWS) for one in heard):
        found.append("Clips with one channel are heard by the near microphone only.")
    found += [f"{key}: {why}" for key, why in listened.unheard.items() if key in reported.played]
    return found


def map_charts(listened: Listened, scores: Mapping[str, float], targets: Mapping[str, str]) -> list[Chart]:
    """A chart for each map of embeddings.

    Parameters
    ----------
    listened : Listened
    scores : mapping from key to float
        Of test clips, by the first result.
    targets : mapping from key to identifier
        Clips that are elsewhere on the page.
    """
    return [_map_chart(one, scores, targets) for one in listened.maps]


def _map_chart(shown: EmbeddingMap, scores: Mapping[str, float], targets: Mapping[str, str]) -> Chart:
    points = [
        Point(float(x), float(y), _group(clip), _said(clip, scores), targets.get(clip.key, ""))
        for clip, (x, y) in zip(shown.clips, shown.places, strict=True)
    ]
    there = {point.group for point in points}
    axes = [
        Axis(f"Component {n + 1}, {number(100 * float(share), 0, '%')} of the variance")
        for n, share in enumerate(shown.shares)
    ]
    used = f" Used by {', '.join(shown.used_by)}." if shown.used_by else ""
    return charts.scatter_chart(
        f"{shown.machine}: {shown.what}", points, x=axes[0], y=axes[1],
        groups={name: look for name, look in LOOKS.items() if name in there},
        description=f"First two principal components of {len(points)} clips.{used} {shown.note}".strip(),
    )  # fmt: skip


def _group(clip: Clip) -> str:
    told = clip.domain if clip.split == "train" else clip.label
    name = "training" if clip.split == "train" else "test"
    return f"{name}, {told}" if told else name


def _said(clip: Clip, scores: Mapping[str, float]) -> str:
    domain = f", {clip.domain}" if clip.domain and clip.split == "test" else ""
    score = f", score {number(scores[clip.key])}" if clip.key in scores else ""
    return f"{clip.name}{domain}{score}"


def problems_table(problems: Sequence[Problem]) -> Table | None:
    """What is wrong with the data set, errors first."""
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    rows = [[one.where, one.severity, one.kind, one.message] for one in ordered[:MOST_PROBLEMS]]
    more = len(problems) - len(rows)
    note = f"{more} more are not shown; `nearfar check` lists all." if more else ""
    columns = [Column("where"), Column("severity"), Column("kind"), Column("message")]
    return Table("Problems of the data set", columns, rows, note) if rows else None
