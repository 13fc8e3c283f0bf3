"""The picture of an explanation: what was decided, in words, with what was heard and what is abnormal in it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec

from nearfar.evidence.reasons import told_band
from nearfar.evidence.spectrograms import spectrogram
from nearfar.recordings.clips import counted
from nearfar.report.figures.sounds import draw_envelope, draw_map, draw_spectra, draw_spectrogram
from nearfar.report.figures.style import (
    ANOMALY,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    STYLE,
    new,
    shown,
    styled,
)

if TYPE_CHECKING:
    from nearfar.evidence.envelopes import EnvelopeSpectrum
    from nearfar.evidence.explanation import Explanation
    from nearfar.evidence.maps import BranchMap
    from nearfar.evidence.spectra import BandLevels

WIDTH = 8.27  # inches: a sheet of A4
LETTERS = 100  # of a line
LINE = 0.19  # inches
PANEL, LOWER = 1.75, 2.5  # inches: height of a row that is as wide as the figure, and of spectra
MOST_MAPS = 3
MOST_PEAKS = 4
BRIGHTEST = 99.8  # percent of a map's cells are not brighter than the scale
DECISIONS = {
    "anomaly": ("Anomaly", ANOMALY),
    "normal": ("Normal", GREEN),
    "unusable": ("Cannot be used", GREY),
}
UNDECIDED = ("No decision", INK)


@styled(STYLE)
def explanation(found: Explanation) -> Figure:
    """One picture that explains a verdict: for a mail, a report, or the person who decides.

    From top to bottom: the decision and why, in words; the spectrogram of the near microphone, with marks of the
    abnormal bands; a map of what is abnormal, for each branch that can give one, up to three; the spectrum against
    those of the normal clips, and the spectrum of the envelope. What is not known is left out, and the last lines
    say so.

    Parameters
    ----------
    found : Explanation
        As ``nearfar.explain`` returns it.

    Returns
    -------
    Figure
        As wide as a sheet of A4.
    """
    maps = [one for one in found.maps if not one.is_empty]
    above = _wrapped([sentence for sentence in found.words if sentence not in found.missing])
    below = _wrapped([*found.missing, *_left_out(len(maps) - MOST_MAPS)])
    maps = maps[:MOST_MAPS]
    heights = [PANEL] * ((found.sound is not None) + len(maps)) + [LOWER] * bool(found.bands)
    top, foot = LINE * (len(above) + 3), LINE * (len(below) + 1) if below else 0.0
    figure = new(top + sum(heights) + foot, width=WIDTH)
    parts = [part for part in (top, sum(heights), foot) if part]
    shares = figure.subfigures(len(parts), 1, height_ratios=parts, squeeze=False)[:, 0]
    _write_above(shares[0], found, above)
    if heights:
        _draw_panels(shares[1], found, maps, heights)
    if below:
        _write(shares[-1], below, GREY)
    return figure


def _left_out(maps: int) -> list[str]:
    """What is said of maps that have no room."""
    if maps < 1:
        return []
    return [
        f"{counted(maps, 'more map')} {'is' if maps == 1 else 'are'} on the page of the explanation (-o FILE)."
    ]


def _wrapped(sentences: Sequence[str]) -> list[str]:
    """Lines of text; each sentence begins a line."""
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(shown(sentence, 10 * LETTERS), LETTERS, subsequent_indent="   ")
    ]


def _write_above(part: SubFigure, found: Explanation, lines: Sequence[str]) -> None:
    decision, colour = DECISIONS.get(found.verdict.decision, UNDECIDED)
    height = LINE * (len(lines) + 3)
    part.text(0.02, 1 - 0.1 / height, decision, color=colour, fontsize=16, fontweight="bold", va="top")
    part.text(0.98, 1 - 0.1 / height, _numbers(found), color=GREY, fontsize=9, va="top", ha="right")
    file = found.name.rpartition("/")[2]
    name = shown(f"{found.machine}: {file}" if found.machine else file, 90)
    part.text(0.02, 1 - 0.42 / height, name, color=INK, fontsize=9.5, fontweight="bold", va="top")
    _write(part, lines, INK, first=0.65, height=height)


def _numbers(found: Explanation) -> str:
    """Such as "score 3.21, threshold 1.5, p = 0.012"."""
    verdict, told = found.verdict, []
    if np.isfinite(verdict.score):
        told.append(f"score {verdict.score:.4g}")
    if found.threshold is not None:
        told.append(f"threshold {found.threshold:.4g}")
    if np.isfinite(verdict.p_value):
        told.append(f"p = {verdict.p_value:.3g}")
    return ", ".join([*told, shown(found.system, 30)])


def _write(
    part: SubFigure, lines: Sequence[str], colour: str, *, first: float = 0.1, height: float = 0.0
) -> None:
    """Lines of text, the first so many inches below the upper edge of a part of this height."""
    inches = height or LINE * (len(lines) + 1)
    for n, line in enumerate(lines):
        part.text(0.02, 1 - (first + n * LINE) / inches, line, color=colour, fontsize=9, va="top")


def _draw_panels(
    part: SubFigure, found: Explanation, maps: Sequence[BranchMap], heights: Sequence[float]
) -> None:
    """Spectrogram, maps, and spectra below each other."""
    grid = GridSpec(len(heights), 2, figure=part, height_ratios=heights)  # type: ignore[arg-type]  # takes both
    row, first = 0, None
    if found.sound is not None:
        first = part.add_subplot(grid[row, :])
        _spectrogram(first, found)
        _mark_bands(first, found)
        row += 1
    for one in maps:
        axes = part.add_subplot(grid[row, :], sharex=first, sharey=first)
        limits = None if first is None else (first.get_xlim(), first.get_ylim())
        _map(axes, one)
        if limits is not None:  # a map may end after the sound, and begin at lower frequencies
            axes.set(xlim=limits[0], ylim=limits[1])
        first, row = first or axes, row + 1
    if found.bands:
        envelope = found.envelope
        lower = [part.add_subplot(grid[row, 0] if envelope is not None else grid[row, :])]
        _bands(lower[0], found)
        if envelope is not None:
            lower.append(part.add_subplot(grid[row, 1]))
            _envelope(lower[1], envelope)
        _key(part, lower)


def _spectrogram(axes: Axes, found: Explanation) -> None:
    """Of the near microphone; without what the far one explains, if the first reason was found in that."""
    sound, title = found.sound, "Near microphone"
    assert sound is not None
    samples = sound.near
    if sound.cancelled is not None and found.reasons and found.reasons[0].view == sound.cancelled_view:
        samples, title = (
            sound.cancelled,
            f"Near microphone without what the far one explains ({sound.cancelled_view})",
        )
    seen = spectrogram(samples, sound.rate)
    _bar(axes, draw_spectrogram(axes, seen.times, seen.frequencies, seen.levels), "level (dBFS)")
    _headed(axes, title)


def _map(axes: Axes, one: BranchMap) -> None:
    mesh = draw_map(axes, one.times, one.frequencies, one.shown)
    brightest = float(np.percentile(one.shown, BRIGHTEST))
    if brightest > 0:
        mesh.set_clim(0, brightest)
    _bar(axes, mesh, "part of the score")
    _headed(axes, f"Abnormal in it, by {one.branch} ({one.microphone})")


def _bar(axes: Axes, mesh: QuadMesh, label: str) -> None:
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=14)
    bar.set_label(label)
    bar.outline.set_visible(False)


def _mark_bands(axes: Axes, found: Explanation) -> None:
    """Lines at the ends of each band that is a reason, and a bar beside it: orange if louder, blue if quieter."""
    low, high = axes.get_ylim()
    for reason in found.reasons:
        if reason.kind != "loudness" and reason.low_hz < high and reason.high_hz > low:
            ends = [max(reason.low_hz, low), min(reason.high_hz, high)]
            for end in ends:
                axes.axhline(end, color="white", ls=":", lw=1.1, label="_end")
            axes.plot(
                [1.004, 1.004], ends, color=ORANGE if reason.direction == "louder" else SKY, lw=5,
                transform=axes.get_yaxis_transform(), solid_capstyle="butt", clip_on=False, label="_reason",
            )  # fmt: skip


def _bands(axes: Axes, found: Explanation) -> None:
    view = found.reasons[0].view if found.reasons else found.bands[0].view
    levels: BandLevels = next((one for one in found.bands if one.view == view), found.bands[0])
    draw_spectra(
        axes, levels.edges, levels.clip, levels.normal, quantiles=(0.01, 0.05, 0.5, 0.95, 0.99),
        abnormal=[(r.low_hz, r.high_hz) for r in found.reasons if r.view == levels.view and r.kind != "loudness"],
    )  # fmt: skip
    axes.set_ylabel(f"level (dBFS), {levels.view}")
    _headed(axes, f"Against {levels.clips} normal clips")


def _envelope(axes: Axes, envelope: EnvelopeSpectrum) -> None:
    peaks = [peak.hz for peak in envelope.peaks[:MOST_PEAKS]]
    draw_envelope(axes, envelope.frequencies, envelope.clip, normal=envelope.normal, peaks=peaks)
    axes.set_ylabel("change (dB)")
    _headed(axes, f"How often it swells, {told_band(envelope.low_hz, envelope.high_hz)}")


def _key(part: SubFigure, lower: Sequence[Axes]) -> None:
    """One legend for all lower panels."""
    handles = {label: h for axes in lower for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    part.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=7.5)


def _headed(axes: Axes, title: str) -> None:
    axes.set_title(shown(title, 90), fontsize=9.5, pad=6)
