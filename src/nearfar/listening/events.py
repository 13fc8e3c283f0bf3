"""Windows become events: what a machine did for how long, in place of a list of windows.

The rule
--------
An event is made of the anomalous windows of one recording, in order of time. A window belongs to the event
before it if it begins at most ``gap`` seconds after that event's last anomalous window has ended. An event
begins where its first anomalous window begins, and ends where its last one ends. So it is as exact as the hop
between windows.

A stop of the machine is an event of its own: windows in which it seems not to run, with those of the minute after
them, are in no event with windows in which it runs. So a fault is not hidden in the stop before it.

Unusable windows are no evidence, neither for nor against an event: they never begin one and never prolong one.
An event says how many of its windows were unusable. It also says what came just before and just after it:
normal windows, an unusable one, or nothing, because the recording begins or ends there. Only after normal
windows is it known that it had an end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nearfar.decisions.alerts import SETTLE_S
from nearfar.detector.fitted import BranchScore, Verdict
from nearfar.listening.scoring import WindowVerdict
from nearfar.recordings.inspection.faults import BOTH
from nearfar.recordings.inspection.measured import Levels
from nearfar.recordings.microphones import NAMES

Beside = Literal["normal", "unusable", "anomaly", "recording"]
SAME_TIME = 1e-6  # seconds, less than a sample: times of two windows that touch are rounded
OK = "ok"  # the state of a microphone in which nothing was found


@dataclass(frozen=True, slots=True)
class Event:
    """Anomalous windows that belong together.

    Attributes
    ----------
    recording : str
        The recording's path, or what it was called.
    start, end : float
        In seconds of the recording.
    windows : int
        How many windows lie in it; overlapping ones, too.
    anomalous, unusable : int
        How many of these are anomalous, and unusable. The others are normal, in gaps of the event.
    peak_score : float
        The highest anomaly score.
    p_value : float
        Of the window with this score: how often a normal clip would score as high.
    peak_start, peak_end : float
        Where this window lies, in seconds of the recording.
    microphones : mapping from {"near", "far"} to str
        The state of each microphone in its windows: "ok", or the kinds of faults, such as "clipped, offset".
    branches : tuple of BranchScore
        Of a fused system: what each branch says at the peak.
    levels : Levels or None
        How loud each microphone is at the peak, and other numbers of the sound itself.
    before, after : {"normal", "unusable", "anomaly", "recording"}
        The windows just before and just after it: "recording" if the recording begins or ends there; "anomaly"
        if there is another event: the machine stopped or started, or no window hears the sound between them.

    Examples
    --------
    See ``events_of``.
    """

    recording: str
    start: float
    end: float
    windows: int
    anomalous: int
    unusable: int
    peak_score: float
    p_value: float
    peak_start: float
    peak_end: float
    microphones: Mapping[str, str]
    branches: tuple[BranchScore, ...] = ()
    levels: Levels | None = None
    before: Beside = "recording"
    after: Beside = "recording"

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start


@dataclass(slots=True)
class _Open:
    """An event that may go on.

    ``running`` is whether the machine runs in it. ``kinds`` are faults of each microphone so far. ``waiting`` are
    those, and numbers of windows, since its last anomalous window: they belong to it only if another anomalous one
    follows.
    """

    event: Event
    running: bool
    kinds: dict[str, list[str]]
    waiting_windows: int = 0
    waiting_unusable: int = 0
    waiting_kinds: dict[str, list[str]] = field(default_factory=dict)


class Events:
    """Makes events of windows as they come.

    Parameters
    ----------
    gap : float
        Seconds between two anomalous windows, from the end of one to the beginning of the other, up to which
        they belong to one event.

    Raises
    ------
    ValueError
        If the gap is negative or no number.
    """

    def __init__(self, gap: float) -> None:
        self.gap = require_gap(gap)
        self._open: _Open | None = None
        self._last: Beside = "recording"
        self._recording: str | None = None
        self._resumed = -math.inf  # seconds of the recording, from which on the machine runs

    def after(self, heard: WindowVerdict) -> list[Event]:
        """The events that are certain to be over after the next window: at most one.

        Parameters
        ----------
        heard : WindowVerdict
            The next in order of time. One of another recording ends the one before.

        Raises
        ------
        ValueError
            If a verdict has no decision, because the detector has no threshold.
        """
        window, verdict = heard.window, heard.verdict
        if verdict.decision == "":
            raise ValueError(
                f"{window.recording}: no events without a threshold; set one with `nearfar calibrate`, or fit with "
                "threshold.method='conformal'"
            )
        over = self.end() if window.recording != self._recording else []
        self._recording = window.recording
        if not verdict.is_running:
            self._resumed = window.end + SETTLE_S
        running = window.start >= self._resumed - SAME_TIME
        if self._open is not None:
            if self._open.waiting_windows == 0:
                self._open.event = replace(self._open.event, after=verdict.decision)
            other = verdict.decision == "anomaly" and running != self._open.running
            if other or window.start > self._open.event.end + self.gap + SAME_TIME:
                over += [self._open.event]
                self._open = None
        if verdict.decision == "anomaly":
            self._continue(heard, running)
        elif self._open is not None:
            self._wait(self._open, verdict)
        self._last = verdict.decision
        return over

    @property
    def open(self) -> Event | None:
        """The event that may go on, as it is now."""
        return None if self._open is None else self._open.event

    def end(self) -> list[Event]:
        """The event that goes to the end of the recording, if there is one; another recording may follow."""
        over = [] if self._open is None else [self._open.event]
        self._open, self._last, self._recording, self._resumed = None, "recording", None, -math.inf
        return over

    def _continue(self, heard: WindowVerdict, running: bool) -> None:
        """An anomalous window goes on with the event, or begins one."""
        window, verdict = heard.window, heard.verdict
        end = window.start + window.seconds
        if self._open is None:
            kinds = _with_kinds({}, _kinds(verdict))
            event = Event(
                window.recording, window.start, end, 1, 1, 0, verdict.score, verdict.p_value, window.start, end,
                _states(kinds), verdict.branches, verdict.levels, before=self._last,
            )  # fmt: skip
            self._open = _Open(event, running, kinds)
            return
        now, event = self._open, self._open.event
        kinds = _with_kinds(_with_kinds(now.kinds, now.waiting_kinds), _kinds(verdict))
        event = replace(
            event, end=max(event.end, end), windows=event.windows + now.waiting_windows + 1,
            anomalous=event.anomalous + 1, unusable=event.unusable + now.waiting_unusable,
            microphones=_states(kinds), after="recording",
        )  # fmt: skip
        if verdict.score > event.peak_score:
            event = replace(
                event, peak_score=verdict.score, p_value=verdict.p_value, peak_start=window.start, peak_end=end,
                branches=verdict.branches, levels=verdict.levels,
            )  # fmt: skip
        self._open = _Open(event, now.running, kinds)

    def _wait(self, now: _Open, verdict: Verdict) -> None:
        """A window after the event's last anomalous one, which may yet lie in it."""
        now.waiting_windows += 1
        now.waiting_unusable += verdict.decision == "unusable"
        now.waiting_kinds = _with_kinds(now.waiting_kinds, _kinds(verdict))

    def state(self) -> dict[str, Any]:
        """What it knows of the windows so far, as JSON values."""
        return {
            "last": self._last,
            "recording": self._recording,
            "resumed": None if math.isinf(self._resumed) else self._resumed,
            "open": None
            if self._open is None
            else {**asdict(self._open), "event": event_to(self._open.event)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self._last, self._recording, told = state["last"], state["recording"], state["open"]
        self._resumed = -math.inf if state["resumed"] is None else state["resumed"]
        self._open = None if told is None else _Open(**{**told, "event": event_from(told["event"])})


def events_of(windows: Iterable[WindowVerdict], *, gap: float | None = None) -> Iterator[Event]:
    """The events in windows, each as soon as it is certain to be over.

    Parameters
    ----------
    windows : iterable of WindowVerdict
        In order of time, of one recording or of several, one after the other.
    gap : float or None
        Seconds between two anomalous windows up to which they belong to one event; ``None``: the length of a
        window, the longest until then, because a recording that cannot be read or is short has a shorter one.

    Raises
    ------
    ValueError
        If the gap is negative or no number, or the verdicts have no decisions.

    Examples
    --------
    Of windows of ten seconds, one apart from the others, with a gap that is too short for it, and then not:

    >>> from nearfar import Verdict, WindowVerdict, events_of
    >>> from nearfar.windows.cutting import Window
    >>> scores = [1.0, 7.0, 9.0, 1.0, 6.0, 1.0]
    >>> windows = [
    ...     WindowVerdict(
    ...         Window("pump.wav", i, 10.0 * i, 10.0),
    ...         Verdict("pump.wav", score, 0.01, "anomaly" if score > 5 else "normal"),
    ...     )
    ...     for i, score in enumerate(scores)
    ... ]
    >>> [(event.start, event.end, event.peak_score) for event in events_of(windows, gap=0)]
    [(10.0, 30.0, 9.0), (40.0, 50.0, 6.0)]
    >>> [(event.start, event.end, event.after) for event in events_of(windows)]
    [(10.0, 50.0, 'normal')]
    """
    made: Events | None = None
    for heard in windows:
        if made is None:
            made = Events(heard.window.seconds if gap is None else gap)
        elif gap is None:
            made.gap = max(made.gap, heard.window.seconds)
        yield from made.after(heard)
    if made is not None:
        yield from made.end()


def require_gap(gap: float) -> float:
    """The same gap, if it is one.

    Raises
    ------
    ValueError
        If it is negative or no number.
    """
    if not 0 <= gap < math.inf:
        raise ValueError(f"gap={gap}: must be a number of seconds, 0 or more")
    return gap


def event_to(event: Event) -> dict[str, Any]:
    """An event as JSON values, of which ``event_from`` makes it again; a number that is not known is None."""
    content = asdict(event)
    if event.levels is not None:
        content["levels"] = {
            name: None if math.isnan(value) else value for name, value in content["levels"].items()
        }
    return content


def event_from(content: Mapping[str, Any]) -> Event:
    """An event from its JSON values, whatever the order of the keys."""
    levels = content["levels"]
    if levels is not None:
        levels = Levels(**{name: math.nan if value is None else value for name, value in levels.items()})
    return Event(
        **{
            **content,
            "levels": levels,
            "microphones": {name: content["microphones"][name] for name in NAMES},
            "branches": tuple(BranchScore(**one) for one in content["branches"]),
        }
    )


def _kinds(verdict: Verdict) -> dict[str, list[str]]:
    """The kinds of faults of each microphone in a window."""
    found: dict[str, list[str]] = {}
    for fault in verdict.faults:
        for name in NAMES if fault.microphone == BOTH else (fault.microphone,):
            found.setdefault(name, []).append(fault.kind)
    return found


def _with_kinds(known: Mapping[str, list[str]], more: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Both together, each kind once, in the order in which they came."""
    return {name: list(dict.fromkeys([*known.get(name, ()), *more.get(name, ())])) for name in NAMES}


def _states(kinds: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: ", ".join(kinds.get(name, ())) or OK for name in NAMES}
