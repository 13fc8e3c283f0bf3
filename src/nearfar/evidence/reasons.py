"""Why a clip is anomalous, as far as it can be measured: which bands, by how much, heard by whom, and when.

Conventions
-----------
A ``Reason`` holds numbers; ``words`` says them. What is beyond the normal clips is said in the simplest way in
which it is true: of the level itself; else of the level relative to the rest of the clip; else of the level that
is left when what the rest of the clip lets expect is taken away (``evidence.unusual``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.evidence.courses import Course
from nearfar.evidence.unusual import MOST, WIDEST, Direction, Interval, Scan

Float = NDArray[np.float64]
Kind = Literal["band", "loudness", "combination"]
Measure = Literal["level", "relative", "expected"]
Far = Literal["heard", "heard less", "not heard", "unknown"]

DIRECTIONS: tuple[Direction, Direction] = ("louder", "quieter")
SHARE = 0.99  # of the normal clips that are exceeded; with less than FEWEST of them: all
FEWEST = 100
LEAST_DB = 0.5  # beyond that share, for a statement about levels: less is "as loud as the loudest"
LEAST_SCORE_SHARE = 0.1  # of a band that is told beside a more telling one
LEAST_CHANGE_DB = 0.5  # of a band that is told beside a stronger one: less is not heard
FAR_SHARE = 0.95  # of the normal clips that far must exceed to hear it, too
LESS = 0.5  # of near's change in dB: a source in the hall is heard far as well as near
LEAST_LOUDNESS_DB = 3.0  # beyond the normal clips, of the sound as a whole: twice the power
SLOW_HZ = 2.0  # slower bursts are counted one by one by a listener


@dataclass(frozen=True, slots=True)
class Reason:
    """What is unusual in a clip.

    Attributes
    ----------
    kind : {"band", "loudness", "combination"}
        A band that is unusual by itself; the sound as a whole; or a band that also some normal clips have as far
        from what is expected, and that speaks for the verdict together with others.
    direction : {"louder", "quieter"}
    low_hz, high_hz : float
    peak_hz : float
        The centre of its band with the largest deviation.
    view : str
        The microphone view in which it was measured.
    measure : {"level", "relative", "expected"}
        What ``beyond_db`` is of: the level; the level relative to the rest of the clip; what is left of the level
        without what the rest of the clip lets expect.
    beyond_db : float
        How far beyond the normal clips: beyond their quantile ``share``.
    share : float
        0.99, or 1 for all normal clips.
    normal_clips : int
        How many normal clips it was compared with: all; of "expected", at most some 400 of them.
    from_median_db : float
        From the median of the normal clips; of "expected", from what is expected.
    level_from_median_db : float
        Of the level itself, whatever ``measure`` is.
    from_expected_db : float
        What is left of the level without what the rest of the clip lets expect, whatever ``measure`` is.
    strength : float
        See ``unusual.Interval``; NaN of the loudness.
    score_share : float or None
        Share of the detector's score that comes from this band, by its maps; ``None`` without maps.
    far : {"heard", "heard less", "not heard", "unknown"}
        Whether the far microphone shows the same: what is left of its level goes beyond 95 % of the normal clips
        in the same direction; and by less than half of what is left near.
    far_from_expected_db : float or None
        What is left of far's level without what the rest of its sound lets expect.
    course : Course or None
        How it sounds in time; ``None`` of what is quieter, and of the loudness.
    """

    kind: Kind
    direction: Direction
    low_hz: float
    high_hz: float
    peak_hz: float
    view: str
    measure: Measure
    beyond_db: float
    share: float
    normal_clips: int
    from_median_db: float
    level_from_median_db: float
    from_expected_db: float
    strength: float
    score_share: float | None = None
    far: Far = "unknown"
    far_from_expected_db: float | None = None
    course: Course | None = None

    @property
    def words(self) -> str:
        """The reason as a clause, without a full stop."""
        return _words(self)


@dataclass(frozen=True, eq=False)
class Compared:
    """The levels of a clip beside those of all normal clips.

    Attributes
    ----------
    edges : (n_bands + 1,) array
        In Hz.
    clip : mapping from str to (n_bands,) array
        By microphone view.
    normal : mapping from str to (n_clips, n_bands) array
    domain : tuple of str
        Of the normal clips.
    """

    edges: Float
    clip: Mapping[str, Float]
    normal: Mapping[str, Float]
    domain: tuple[str, ...]

    def scan(self, view: str) -> Scan:
        """All intervals of bands of one view."""
        return Scan.of(self.clip[view], self.normal[view], self.domain)

    def gain(self, view: str) -> tuple[float, Float]:
        """How much louder than the median the sound as a whole is: of the clip, and of each normal clip."""
        median = np.median(self.normal[view], axis=0)
        of_normal = np.median(self.normal[view] - median, axis=1)
        return float(np.median(self.clip[view] - median)), of_normal


def share_of(normal_clips: int) -> float:
    """Of the normal clips that can be said to be exceeded."""
    return SHARE if normal_clips >= FEWEST else 1.0


def find(
    compared: Compared, views: Sequence[str], mass: Float | None = None
) -> list[tuple[Reason, Interval]]:
    """The most telling bands, as one of these views hears them; the first one whatever it is.

    The sound as a whole is one reason; it has no interval of its own and is found by ``loudness``.

    Parameters
    ----------
    compared : Compared
    views : sequence of str
    mass : (n_bands,) array or None
        Share of the detector's score that comes from each band, if that is known.
    """
    scans = {view: compared.scan(view) for view in views}
    found = [(view, one) for view, scan in scans.items() for one in scan.chosen(mass)]
    found.sort(key=lambda each: -each[1].worth)
    kept: list[tuple[str, Interval]] = found[:1]
    for view, one in found[1:]:
        apart = all(one.first >= other.stop or one.stop <= other.first for _, other in kept)
        if apart and _is_news(one):
            kept.append((view, one))
    told = [(_reason(compared, scans[view], view, one), one) for view, one in merged(kept, scans)[:MOST]]
    # a fault adds sound: what is louder lifts what is expected of the other bands, which then seem quieter
    louder = any(reason.direction == "louder" and reason.kind == "band" for reason, _ in told)
    return sorted(told, key=lambda each: louder and each[0].direction == "quieter")


def _is_news(interval: Interval) -> bool:
    """Whether an interval is told beside a more telling one."""
    share = interval.score_share
    counts = share is None or share >= LEAST_SCORE_SHARE
    return counts and interval.strength >= 1 and abs(interval.residual_db) >= LEAST_CHANGE_DB


def merged(found: Sequence[tuple[str, Interval]], scans: Mapping[str, Scan]) -> list[tuple[str, Interval]]:
    """The same intervals, but those of one view and direction with one band between them are one."""
    kept: list[tuple[str, Interval]] = []
    for view, one in found:
        for i, (other_view, other) in enumerate(kept):
            first, stop = min(one.first, other.first), max(one.stop, other.stop)
            close = max(one.first, other.first) - min(one.stop, other.stop) <= 1
            if close and view == other_view and one.direction == other.direction and stop - first <= WIDEST:
                mean, _ = scans[view].at(first, stop)
                both = (one.score_share or 0.0) + (other.score_share or 0.0)
                of_score = None if other.score_share is None else both
                kept[i] = view, Interval(first, stop, other.strength, mean, of_score, other.worth)
                break
        else:
            kept.append((view, one))
    return kept


def _reason(compared: Compared, scan: Scan, view: str, interval: Interval) -> Reason:
    first, stop = interval.first, interval.stop
    clip, normal = compared.clip[view], compared.normal[view]
    gain, gains = compared.gain(view)
    level = 10 * np.log10((10 ** (np.vstack([clip, normal])[:, first:stop] / 10)).sum(axis=1))
    relative = level - np.append(gain, gains)
    own, others = scan.at(first, stop)
    expected = np.append(own, others)
    share = share_of(len(others))
    simple: dict[Measure, Float] = {"level": level, "relative": relative}
    if max(_beyond(np.append(gain, gains), direction, share) for direction in DIRECTIONS) > 0:
        del simple["level"]  # the sound as a whole is louder or quieter: that is no news of this band
    told = [name for name, of in simple.items() if _beyond(of, interval.direction, share) >= LEAST_DB]
    is_beyond = bool(told) or _beyond(expected, interval.direction, share) > 0
    kind: Kind = "band" if interval.strength >= 1 and is_beyond else "combination"
    measure: Measure = told[0] if told and kind == "band" else "expected"
    values = simple.get(measure, expected)
    middle = 0.0 if measure == "expected" else float(np.median(values[1:]))
    low, high = compared.edges[:-1], compared.edges[1:]
    peak = first + int(np.abs(scan.bands(first, stop)).argmax())
    return Reason(
        kind=kind,
        direction=interval.direction,
        low_hz=float(low[first]),
        high_hz=float(high[stop - 1]),
        peak_hz=float(np.sqrt(low[peak] * high[peak])),
        view=view,
        measure=measure,
        beyond_db=_beyond(values, interval.direction, share),
        share=share,
        normal_clips=len(values) - 1,
        from_median_db=float(values[0]) - middle,
        level_from_median_db=float(level[0] - np.median(level[1:])),
        from_expected_db=own,
        strength=interval.strength,
        score_share=interval.score_share,
    )


def _beyond(values: Float, direction: Direction, share: float) -> float:
    """How far the first value is beyond that share of the others."""
    sign = 1 if direction == "louder" else -1
    return float(sign * values[0] - np.quantile(sign * values[1:], share))


def loudness(compared: Compared, view: str) -> Reason | None:
    """Whether the sound as a whole is louder or quieter than that of the normal clips."""
    own, others = compared.gain(view)
    share = share_of(len(others))
    direction: Direction = "louder" if own > float(np.median(others)) else "quieter"
    beyond = _beyond(np.append(own, others), direction, share)
    if beyond < LEAST_LOUDNESS_DB:
        return None
    low, high = float(compared.edges[0]), float(compared.edges[-1])
    change = own - float(np.median(others))
    far, far_change = _far_gain(compared, direction)
    return Reason(
        kind="loudness",
        direction=direction,
        low_hz=low,
        high_hz=high,
        peak_hz=float(np.sqrt(low * high)),
        view=view,
        measure="level",
        beyond_db=beyond,
        share=share,
        normal_clips=len(others),
        from_median_db=change,
        level_from_median_db=change,
        from_expected_db=change,
        strength=float("nan"),
        far=far,
        far_from_expected_db=far_change,
    )


def _far_gain(compared: Compared, direction: Direction) -> tuple[Far, float | None]:
    if "far" not in compared.clip:
        return "unknown", None
    own, others = compared.gain("far")
    heard = _beyond(np.append(own, others), direction, FAR_SHARE) > 0
    return "heard" if heard else "not heard", own - float(np.median(others))


def far_hears(scan: Scan | None, interval: Interval) -> tuple[Far, float | None]:
    """Whether the far microphone shows the same in these bands, and what is left of its level there in dB."""
    if scan is None:
        return "unknown", None
    own, others = scan.at(interval.first, interval.stop)
    change = own - float(np.median(others))
    if _beyond(np.append(own, others), interval.direction, FAR_SHARE) <= 0:
        return "not heard", change
    return "heard" if abs(change) >= LESS * abs(interval.residual_db) else "heard less", change


def _words(reason: Reason) -> str:
    if reason.kind == "loudness":
        return _loudness_words(reason)
    more = "more" if reason.direction == "louder" else "less"
    band = told_band(reason.low_hz, reason.high_hz)
    clips = _clips(reason)
    if reason.kind == "combination":
        said = f"the sound at {band}{_combined(reason, more)}"
    elif reason.measure == "expected":
        of_normal = max(abs(reason.from_expected_db) - reason.beyond_db, 0.0)
        said = (
            f"{told_db(abs(reason.from_expected_db))} {more} energy at {band} than expected from the rest of "
            f"the sound ({clips}: up to {told_db(of_normal)})"
        )
    else:
        rest = ", relative to the rest of the sound," if reason.measure == "relative" else ""
        said = f"{told_db(reason.beyond_db)} {more} energy at {band}{rest} than in {clips}"
    return said + _course_words(reason) + _far_words(reason)


def _combined(reason: Reason, more: str) -> str:
    """What is said of a band that is not unusual by itself."""
    share = reason.score_share
    said = "" if share is None else f" ({100 * share:.0f} % of what speaks for the score)"
    if abs(reason.from_expected_db) < LEAST_CHANGE_DB:
        return f"{said}, where the mean level is as expected"
    change = told_db(abs(reason.from_expected_db))
    return f"{said}, with {change} {more} energy than expected from the rest of the sound"


def _loudness_words(reason: Reason) -> str:
    said = f"the sound as a whole is {told_db(reason.beyond_db)} {reason.direction} than in {_clips(reason)}"
    if reason.far == "heard":
        return f"{said}; so is that of the far microphone: look at the gain of the recorder, and listen to the hall"
    return said + ("" if reason.far == "unknown" else "; that of the far microphone is as usual")


def _clips(reason: Reason) -> str:
    if reason.share == 1:
        return f"all {reason.normal_clips} normal clips"
    return f"{100 * reason.share:.0f} % of {reason.normal_clips} normal clips"


def _course_words(reason: Reason) -> str:
    course = reason.course
    if course is None:
        return ""
    said = [] if course.tone_hz is None else [f"as a tone at {told_hz(course.tone_hz, digits=3)}"]
    match course_kind(course):
        case "swelling" if course.rate_hz is not None:
            said.append(f"swelling {course.rate_hz:.2g} times a second")
        case "bursts" if course.rate_hz is not None:
            said.append(f"in bursts {_rate(course.rate_hz)} times a second")
        case "irregular":
            said.append("in irregular knocks")
        case "once" if course.begin_s is not None and course.end_s is not None:
            said.append(f"once, at {(course.begin_s + course.end_s) / 2:.1f} s")
        case "part" if course.begin_s is not None:
            said.append(f"only from {course.begin_s:.1f} to {course.end_s:.1f} s")
        case "rising" | "falling" if course.change_db is not None:
            said.append(f"{course.kind} by {told_db(abs(course.change_db))} during the clip")
        case "steady" if course.tone_hz is None and reason.kind == "band":
            said.append("steadily")
    return f", {' '.join(said)}" if said else ""


def course_kind(course: Course) -> str:
    """The kind in one word: slow bursts are a swelling."""
    slow = course.kind == "bursts" and course.rate_hz is not None and course.rate_hz < SLOW_HZ
    return "swelling" if slow else course.kind


def _far_words(reason: Reason) -> str:
    told = reason.kind == "band" or abs(reason.from_expected_db) >= LEAST_CHANGE_DB
    if reason.far == "unknown" or not told:
        return ""
    louder = reason.direction == "louder"
    if reason.far == "not heard":
        return f"; the far microphone {'does not hear it' if louder else 'shows no such change'}"
    change = f" ({reason.far_from_expected_db:+.1f} dB)"
    hears = "hears it" if louder else "shows it"
    if reason.far == "heard less":
        return f"; the far microphone {hears}, too, but less{change}"
    return f"; the far microphone {hears}, too{change}, so it may be the hall and not the machine"


def _rate(hz: float) -> str:
    return f"{hz:.1f}" if hz < 10 else f"{hz:.0f}"


def told_db(db: float) -> str:
    """A difference, with as many digits as can be heard."""
    return f"{db:.1f} dB" if db < 1.95 else f"{db:.0f} dB"


def told_hz(hz: float, *, digits: int = 2) -> str:
    """A frequency, in Hz or kHz, to two digits, or more where asked."""
    rounded = float(f"{hz:.{max(digits, 2)}g}")
    return f"{rounded:g} Hz" if rounded < 1000 else f"{rounded / 1000:g} kHz"


def told_band(low: float, high: float) -> str:
    """A band of frequencies.

    Examples
    --------
    >>> from nearfar.evidence.reasons import told_band
    >>> told_band(2136.0, 2563.0), told_band(56.1, 89.3), told_band(891.0, 1260.0)
    ('2.1 to 2.6 kHz', '56 to 89 Hz', '890 Hz to 1.3 kHz')
    """
    first, last = told_hz(low), told_hz(high)
    return f"{first.split()[0]} to {last}" if first.split()[1] == last.split()[1] else f"{first} to {last}"
