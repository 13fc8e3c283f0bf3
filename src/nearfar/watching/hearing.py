"""What a machine's sound says, window by window, as what is to be written: with no thread and no database.

What is known between two windows is a few JSON values. Restored from them, hearing goes on exactly the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.detector.fitted import Detector, Verdict
from nearfar.listening import scoring
from nearfar.listening.events import Event
from nearfar.listening.scoring import WindowVerdict
from nearfar.listening.session import Listening, digest_of
from nearfar.listening.steps import Alert, Heard, HeardWindow
from nearfar.logbook.heard import Latest, MachineTold, RecordingRow, WindowRow
from nearfar.logbook.life_cycle import Condition
from nearfar.recordings.audio import Header, Samples
from nearfar.recordings.recording import Recording
from nearfar.watching import sounds
from nearfar.watching.book import Begun, Change, Mode, Noted
from nearfar.watching.microphones import Microphones
from nearfar.watching.sounds import LIVE_S, MARGIN, LiveSound, Place
from nearfar.watching.sources import Arrival
from nearfar.windows import streaming
from nearfar.windows.cutting import Cut, Window

if TYPE_CHECKING:
    from nearfar.watching.site import MachineSite

INTERRUPTED = "watching was interrupted before its end, and it cannot be heard again"
AFRESH = "The machine is heard in another way from here on, so the rule for alerts begins afresh"
PAUSED, LISTENING, NO_SOUND = "paused", "listening", "no sound"  # of schema.MODES


def load_lean(folder: Path) -> Detector:
    """A detector without what only learning, calibrating and evidence need: hundreds are in memory at a time."""
    detector = Detector.load(folder)
    detector.kept = detector.sounds = detector.calibration = None
    detector.seen, detector.unseen = np.empty(0, np.uint64), {}
    return detector


@dataclass(slots=True, eq=False)
class _Open:
    """The recording that is heard.

    ``seconds`` is how much of it was heard; ``live`` its last seconds, if it cannot be read again; ``peak`` the
    sound of the open event, if it cannot be either.
    """

    begun: Begun
    header: Header | None
    recording: Recording | None
    is_whole: bool
    next_window: int = 0
    seconds: float = 0.0
    live: LiveSound | None = None
    peak: Samples | None = None


class Hearing:
    """What follows from the windows of one machine.

    Parameters
    ----------
    machine : MachineSite
    detector : Detector
    folder : Path
        Of sounds.

    Attributes
    ----------
    task : Listening
    told : MachineTold
        For the logbook.
    heard_until : float or None
        The latest end of a window, in seconds since 1970 (UTC): an older recording may come late.
    mode : str
        As the logbook has it.
    active : set of Condition
        What is active though the rules do not know it: it is cleared by what is heard next.

    Raises
    ------
    ValueError
        If the rule for alerts cannot be kept, or windows are too short for the detector.
    """

    def __init__(self, machine: MachineSite, detector: Detector, folder: Path) -> None:
        self._machine, self._folder = machine, folder
        cut = machine.cut(detector)
        rule = detector.alerts(machine.false_alerts, cut=cut or detector.cut)
        self._rule = machine.false_alerts
        self.task = Listening(detector, (), cut, None, {self._rule: rule})
        own = self.task.own_cut
        assert detector.threshold is not None  # or there was no rule for alerts
        self.told = MachineTold(
            machine.name, str(machine.detector), digest_of(detector), detector.system.name, own.seconds, own.hop,
            float(detector.threshold.value), machine.false_alerts,
        )  # fmt: skip
        self._steps, self._microphones = self.task.steps(), Microphones()
        self._places: list[Place] = []
        self._open: _Open | None = None
        self.heard_until: float | None = None
        self.mode = ""
        self.active: set[Condition] = set()
        self._pending: list[Change] = []  # before the next window
        self._last: tuple[str, float] | None = (
            None  # key of the recording that was heard last, and how much of it
        )

    @property
    def detector(self) -> Detector:
        return self.task.detector

    def state(self) -> dict[str, Any]:
        """What is known, as JSON values."""
        return {
            "steps": self._steps.state(),
            "microphones": self._microphones.state(),
            "places": [asdict(place) for place in self._places],
            "last": self._last,
        }

    def go_on(
        self, state: Mapping[str, Any] | None, heard_until: float | None, mode: str, active: set[Condition]
    ) -> None:
        """Go on as the logbook says.

        Parameters
        ----------
        state : mapping or None
            ``None`` if rules begin afresh, because the machine is new or is heard in another way.
        heard_until : float or None
        mode : str
        active : set of Condition
            Those that are active.
        """
        self.heard_until, self.mode = heard_until, mode
        self.active = active & {"no sound"}
        if state is None:
            self.active |= active & {"anomaly"}
            self._microphones.broken = "microphones" in active
            return
        self._steps.restore(state["steps"])
        self._microphones.restore(state["microphones"])
        self._places, self._last = [Place(**place) for place in state["places"]], None
        if state["last"] is not None:
            self._last = tuple(state["last"])

    def take_over(self, former: Hearing) -> None:
        """Go on from another detector: events and rules begin afresh, what is heard stays."""
        self._microphones, self._places, self._open = former._microphones, former._places, former._open
        self.heard_until, self.mode, self._last = former.heard_until, former.mode, former._last
        self.active = former.active | {"anomaly"}

    # recordings

    def abandon(self, row: RecordingRow, error: str = INTERRUPTED) -> Noted:
        """A recording that was begun, and of which no more will be heard."""
        self._reopen(row)
        return self.end(error)

    def set_aside(self, row: RecordingRow) -> Noted | None:
        """Another recording is heard before this one goes on: its event is over. ``None`` if there is none."""
        if self._last_key != row.key or self._steps.open_event is None:
            return None
        self._reopen(row)
        noted = self.end()
        noted.finished = None
        return noted

    def _reopen(self, row: RecordingRow) -> None:
        """What was heard of a recording before; its file may be gone."""
        if self._open is not None and self._open.begun.key == row.key:
            return
        recording = next((one.recording for one in reversed(self._places) if one.key == row.key), None)
        header = None if recording is None else sounds.header_of(recording)
        begun = Begun(row.key, row.name, row.path, row.began_at, None, None)
        self._open = _Open(begun, header, recording, False, row.next_window, self._seconds_of(row))

    def _seconds_of(self, row: RecordingRow) -> float:
        """How much of a recording was heard."""
        if self._last is not None and self._last[0] == row.key:
            return self._last[1]
        cut = self.task.own_cut
        return 0.0 if row.next_window == 0 else (row.next_window - 1) * cut.hop + cut.seconds

    @property
    def _last_key(self) -> str | None:
        return None if self._last is None else self._last[0]

    def begin(self, arrival: Arrival, row: RecordingRow | None, *, is_whole: bool, is_live: bool) -> None:
        """A recording begins, or goes on.

        Parameters
        ----------
        arrival : Arrival
        row : RecordingRow or None
            As the logbook knows it, if it does.
        is_whole : bool
            Whether it is one window, as it is.
        is_live : bool
            Whether it cannot be read again.
        """
        header = None if arrival.stream is None else arrival.stream.recorded.header
        recording = None if is_live else arrival.recording
        begun = Begun(
            arrival.key, arrival.name, None if recording is None else str(recording.path),
            arrival.began_at if row is None else row.began_at,
            None if header is None else header.rate, None if header is None else header.channels,
        )  # fmt: skip
        live = None
        if header is not None and recording is None:
            live = LiveSound(header, self.task.own_cut.window_samples(header.rate))
        first = 0 if row is None else row.next_window
        seconds = 0.0 if row is None else self._seconds_of(row)
        self._open = _Open(begun, header, recording, is_whole, first, seconds, live)
        if first == 0:
            self._notice_silence_before(begun.began_at)

    def _notice_silence_before(self, began_at: float) -> None:
        """If there was no sound for too long before that moment, that was noticed when it was."""
        if self.heard_until is not None:
            noticed = silent_from(self._machine, self.heard_until)
            if began_at > noticed:
                self._pending.append(no_sound(self._machine, self.heard_until, noticed))
                self.active.add("no sound")

    def was_set(self, mode: str) -> None:
        """Another thread has set the mode in the logbook."""
        self.mode = mode
        if mode == NO_SOUND:
            self.active.add("no sound")

    # windows

    def is_paused(self, window: Window) -> bool:
        """Whether a window of the recording lies in a pause, or touches one."""
        began_at = self._opened.begun.began_at
        return self._machine.pauses.is_paused(began_at + window.start, began_at + window.end)

    def after(self, heard: streaming.Heard, found: WindowVerdict, *, is_last: bool = False) -> Noted:
        """What follows from the verdict on a window.

        Parameters
        ----------
        heard : streaming.Heard
        found : WindowVerdict
        is_last : bool
            Whether the recording ends with it.
        """
        if self._opened.live is not None:
            self._opened.live.add(heard.span, heard.samples)
        return self._after(found, (heard.span.start, heard.span.stop), is_last)

    def unreadable(self, error: Exception) -> Noted:
        """The recording cannot be read, or not any further: a window without length says why, and it is over."""
        opened = self._opened
        found = scoring.unusable(opened.begun.name, error)
        window = Window(opened.begun.name, opened.next_window, opened.seconds, 0.0)
        noted = self._after(WindowVerdict(window, found.verdict), None, True)
        length = opened.seconds if opened.header is not None else None
        noted.finished = length, found.verdict.error
        return noted

    def pause(self, heard: streaming.Heard, window: Window, *, is_last: bool = False) -> Noted:
        """A window that nobody listens to."""
        opened = self._opened
        if opened.live is not None:
            opened.live.add(heard.span, heard.samples)
        begins_at = opened.begun.began_at + window.start
        noted = self._noted(window)
        self._follow(noted, self._steps.pause(), window)
        noted.windows.append(WindowRow(window.index, begins_at, window.seconds, None, None, PAUSED))
        noted.latest = Latest(self._until, None, PAUSED, None, None)
        self._set_mode(noted, PAUSED, begins_at)
        return self._finished(noted, window, is_last)

    def end(self, error: str = "") -> Noted:
        """The recording is over."""
        opened = self._opened
        noted = Noted(opened.begun, opened.next_window, {}, before=self._pending)
        self._pending = []
        if self._last_key == opened.begun.key:  # else an open event is of another recording
            self._follow(noted, self._steps.end_of_recording(), None)
        noted.finished = opened.seconds, error
        noted.steps = self.state()
        self._open = None
        return noted

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise RuntimeError("no recording was begun")
        return self._open

    @property
    def _until(self) -> float:
        assert self.heard_until is not None  # a window was heard
        return self.heard_until

    def _noted(self, window: Window) -> Noted:
        """A step, of which nothing is known yet but its window; what rules do not know is cleared."""
        opened = self._opened
        opened.next_window, opened.seconds = window.index + 1, max(opened.seconds, window.end)
        self._last = opened.begun.key, opened.seconds
        begins_at = opened.begun.began_at + window.start
        ends_at = begins_at + window.seconds
        self.heard_until = ends_at if self.heard_until is None else max(self.heard_until, ends_at)
        noted = Noted(opened.begun, opened.next_window, {}, before=self._pending)
        for condition in sorted(self.active):
            reason = AFRESH if condition == "anomaly" else ""
            noted.before.append(Change("clear", condition, begins_at, reason))
        self._pending = []
        self.active.clear()
        return noted

    def _after(self, found: WindowVerdict, samples: tuple[int, int] | None, is_last: bool) -> Noted:
        window, verdict, began_at = found.window, found.verdict, self._opened.begun.began_at
        noted = self._noted(window)
        begins_at = began_at + window.start
        if samples is not None and verdict.decision != "unusable":
            self._remember(begins_at, window, verdict.score, samples)
        steps = self._steps.after(found)
        self._keep_peak(window, samples)
        self._follow(noted, steps, window)
        self._follow_microphones(noted, verdict, begins_at, window.seconds)
        said = next(one for one in steps if isinstance(one, HeardWindow))
        noted.windows.append(_row_of(begins_at, said, self._rule))
        noted.latest = Latest(
            self._until, _number(verdict.score), verdict.decision, said.rules[self._rule][1],
            verdict.is_running if verdict.levels is not None else None,
        )  # fmt: skip
        self._set_mode(noted, LISTENING, begins_at)
        return self._finished(noted, window, is_last)

    def _finished(self, noted: Noted, window: Window, is_last: bool) -> Noted:
        """The step, with what is known after it; with the end of the recording, if that is known already."""
        if is_last:
            self._follow(noted, self._steps.end_of_recording(), window)
            noted.finished = self._opened.seconds, ""
        noted.steps = self.state()
        return noted

    def _set_mode(self, noted: Noted, mode: str, at: float) -> None:
        if mode != self.mode:
            noted.mode, self.mode = Mode(mode, at), mode

    def _follow(self, noted: Noted, found: Sequence[Heard], window: Window | None) -> None:
        """Add events that are over, and alerts."""
        began_at = self._opened.begun.began_at
        for one in found:
            if isinstance(one, Event):
                noted.events.append((one, self._sound_of_event(one)))
            elif isinstance(one, Alert) and window is not None:
                at = began_at + window.end
                noted.after.append(self._alert(one, at) if one.begins else Change("clear", "anomaly", at))

    def _follow_microphones(self, noted: Noted, verdict: Verdict, begins_at: float, seconds: float) -> None:
        changed = self._microphones.after(verdict.decision != "unusable", begins_at, seconds)
        at = begins_at + seconds
        if changed == "broken":
            message = f"Windows cannot be used: {_in_words(verdict)}"
            noted.after.append(Change("activate", "microphones", at, message, since=self._microphones.since))
            noted.after.append(Change("suppress", "anomaly", at, "microphones are broken"))
        elif changed == "well":
            noted.after.append(Change("clear", "microphones", at))
            noted.after.append(Change("unsuppress", "anomaly", at))

    # sounds

    def _remember(self, begins_at: float, window: Window, score: float, samples: tuple[int, int]) -> None:
        """A window that may be the peak of an alert that begins soon."""
        opened = self._opened
        recording = opened.recording
        paths = [] if recording is None else [str(path) for path in recording.paths]
        channels = [] if recording is None else list(recording.channels)
        end = begins_at + window.seconds
        recent = [one for one in self._places if begins_at > one.begins_at > end - LIVE_S]
        self._places = [
            *recent, Place(begins_at, window.seconds, score, *samples, opened.begun.key, paths, channels)
        ]  # fmt: skip

    def _alert(self, alert: Alert, at: float) -> Change:
        """That an alert begins, with the sound of its highest window."""
        threshold, recent = self.told.threshold, self._places[-max(1, alert.since) :]
        content: dict[str, Any] = {"rule": alert.rule, "windows": alert.since, "threshold": threshold}
        message, score, sound = "The machine sounds unlike its normal recordings", None, None
        if recent:
            peak = max(recent, key=lambda one: one.score)
            score, sound = peak.score, self._sound_of_alert(peak, at)
            content["peak"] = {
                "begins_at": peak.begins_at, "seconds": peak.seconds, "score": peak.score,
                "recording": Path(peak.paths[0]).name if peak.paths else peak.key,
            }  # fmt: skip
            message += f": score {score:.4g}, threshold {threshold:.4g}"
        return Change(
            "activate", "anomaly", at, message, windows=alert.since, score=score, sound=sound, content=content
        )

    def _sound_of_alert(self, peak: Place, at: float) -> str | None:
        name, opened = sounds.name_of(self.told.name, "alert", at), self._opened
        if peak.recording is not None:
            return self._cut_out(name, peak.recording, peak.start, peak.stop)
        if opened.live is None or peak.key != opened.begun.key or opened.header is None:
            return None
        samples = opened.live.cut(peak.start - round(MARGIN * opened.header.rate), peak.stop)
        return self._written(name, samples, opened.header)

    def _keep_peak(self, window: Window, samples: tuple[int, int] | None) -> None:
        """The sound of the highest window of the open event, if it cannot be read again when the event is over."""
        opened, event = self._opened, self._steps.open_event
        if opened.live is None or opened.header is None or samples is None or event is None:
            return
        if event.peak_start == window.start:
            opened.peak = opened.live.cut(samples[0] - round(MARGIN * opened.header.rate), samples[1])

    def _sound_of_event(self, event: Event) -> str | None:
        opened = self._opened
        if opened.header is None:
            return None
        name = sounds.name_of(self.told.name, "event", opened.begun.began_at + event.start)
        if opened.recording is None:
            samples, opened.peak = opened.peak, None
            return self._written(name, samples, opened.header)
        rate = opened.header.rate
        return self._cut_out(
            name, opened.recording, round(event.peak_start * rate), round(event.peak_end * rate)
        )

    def _cut_out(self, name: str, recording: Recording, start: int, stop: int) -> str | None:
        """The sound of a window of a file, with what is there before it."""
        found = sounds.read_again(recording, start, stop, margin=MARGIN)
        return None if found is None else self._written(name, *found)

    def _written(self, name: str, samples: Samples | None, header: Header) -> str | None:
        if samples is None:
            return None
        return sounds.write(self._folder, name, samples, header, self.detector.selected_channels)


def silent_from(machine: MachineSite, since: float) -> float:
    """When it is to be told that there has been no sound since then, in seconds since 1970 (UTC)."""
    return machine.pauses.after(since, machine.no_sound_after_s)


def no_sound(machine: MachineSite, since: float, at: float) -> Change:
    """That there has been no sound of a machine for too long."""
    shown = datetime.fromtimestamp(since, machine.pauses.zone).isoformat(" ", "seconds")
    return Change("activate", "no sound", at, f"No sound since {shown}", since=since)


def is_same_cut(one: Cut, other: Cut) -> bool:
    """Whether windows lie at the same places."""
    return (one.seconds, one.hop) == (other.seconds, other.hop)


def _row_of(begins_at: float, said: HeardWindow, rule: str) -> WindowRow:
    window, verdict = said.window, said.verdict
    levels = verdict.levels
    return WindowRow(
        window.index, begins_at, window.seconds, _number(verdict.score), _number(verdict.p_value), verdict.decision,
        said.rules[rule][1], None if levels is None else _number(levels.near_dbfs),
        None if levels is None else _number(levels.far_dbfs), _in_words(verdict),
    )  # fmt: skip


def _in_words(verdict: Verdict) -> str:
    """Errors and faults."""
    return verdict.error or "; ".join(fault.message for fault in verdict.faults)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
