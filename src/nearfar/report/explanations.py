"""What speaks for a verdict: on a terminal, as a page, as a picture."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from nearfar.evidence.explanation import Explanation
from nearfar.evidence.reasons import Reason, course_kind, told_band
from nearfar.files.atomic import atomic_file, refuse_existing, refuse_file
from nearfar.files.names import one_line, printable
from nearfar.report.verdicts import STYLES

PAGE, PICTURE = ".html", ".png"
FAR = {
    "heard": "as loud",
    "heard less": "less",
    "not heard": "no",
    "unknown": "-",
}  # whether the far microphone hears it
DOTS_PER_INCH = 150


def terminal(found: Explanation) -> RenderableType:
    """All sentences, a table of the bands, and the nearest normal clips."""
    headline, *others = found.words
    decided, colon, rest = headline.partition(":")
    style = STYLES[found.verdict.decision]
    head = Text.assemble((one_line(found.name), "bold"))
    first = Text.assemble((printable(decided), style or "bold"), printable(colon + rest))
    parts: list[RenderableType] = [head, first, *(Text(printable(sentence)) for sentence in others)]
    if found.reasons:
        parts += [Padding(_bands(found), (1, 0, 0, 0))]
    if found.neighbours:
        nearest = dict.fromkeys(one.name for one in found.neighbours)  # branches may agree
        names = ", ".join(one_line(name) for name in nearest)
        parts.append(Text(f"Nearest normal clips: {names}"))
    return Group(*parts)


def _bands(found: Explanation) -> Table:
    shown = Table(
        Column("band"),
        Column("view", no_wrap=True),
        Column("dB from median", justify="right"),
        Column("dB from expected", justify="right"),
        Column("share of score", justify="right"),
        Column("heard far"),
        Column("in time"),
    )
    for reason in found.reasons:
        band = "all" if reason.kind == "loudness" else told_band(reason.low_hz, reason.high_hz)
        view = reason.view.partition("_")[0]  # a sentence has the whole name
        share = "-" if reason.score_share is None else f"{100 * reason.score_share:.0f} %"
        numbers = (f"{x:+.1f}" for x in (reason.from_median_db, reason.from_expected_db))
        shown.add_row(band, view, *numbers, share, FAR[reason.far], in_time(reason))
    return shown


def in_time(reason: Reason) -> str:
    """How it sounds in time, in a few words."""
    course = reason.course
    if course is None:
        return "-"
    tone = "" if course.tone_hz is None else f"tone of {course.tone_hz:.4g} Hz, "
    if course.rate_hz is not None:
        return f"{tone}{course_kind(course)}, {course.rate_hz:.3g} Hz"
    if course.begin_s is not None and course.end_s is not None:
        return f"{tone}{course.kind}, {course.begin_s:.1f} to {course.end_s:.1f} s"
    return tone + course.kind


def refuse(page: Path | None, picture: Path | None, *, replace: bool) -> None:
    """Raise before long work whose outcome would have no place.

    Raises
    ------
    ValueError, IsADirectoryError, FileExistsError, PermissionError, NotADirectoryError
        As of ``files.atomic.refuse_file``.
    """
    for path, suffix, what in ((page, PAGE, "a page"), (picture, PICTURE, "a picture")):
        if path is not None:
            refuse_file(path, suffix, what, replace=replace)


def write(
    found: Explanation, page: Path | None, picture: Path | None, *, replace: bool, command: str = ""
) -> None:
    """Write what is asked for: each file whole, or not at all; errors as of ``refuse``.

    Parameters
    ----------
    found : Explanation
    page, picture : Path or None
    replace : bool
    command : str
        That made it, as the page says.
    """
    if page is not None:
        from nearfar.report.pages import explained
        from nearfar.report.pages.page import write as write_page

        write_page(page, explained.page(found, command=command), replace=replace)
    if picture is not None:
        from nearfar.report.figures.explained import explanation

        refuse_existing(picture, replace=replace)
        with atomic_file(picture) as part:
            explanation(found).savefig(part, format="png", dpi=DOTS_PER_INCH)
