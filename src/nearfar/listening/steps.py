"""What follows from a window, given those before it: events, and alerts that begin or end.

A few numbers are kept, however many windows there were. They are JSON values, so whoever listens may stop at any
window and go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from nearfar.decisions.alerts import AlertState
from nearfar.detector.fitted import Verdict
from nearfar.listening.events import Event, Events
from nearfar.listening.scoring import WindowVerdict
from nearfar.windows.cutting import Window


class Tracker(Protocol):
    """A rule for alerts that counts windows, as of ``decisions.alerts``."""

    def after(self, score: float | None, *, running: bool = True) -> AlertState:
        """What the rule says after the next window; ``None`` if the window could not be used.

        ``running``: whether the machine seems to run in it.
        """

    def state(self) -> dict[str, Any]:
        """What it knows of the windows so far, as JSON values."""

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """A rule that goes on from such a state."""


@dataclass(frozen=True, slots=True)
class HeardWindow:
    """A window, and what the rules for alerts say after it.

    Attributes
    ----------
    window : Window
    verdict : Verdict
    rules : mapping from str to (bool, float)
        Of each rule, such as "3/5": whether there is an alert after this window, and the evidence for it, from 0 to
        1.
    """

    window: Window
    verdict: Verdict
    rules: Mapping[str, tuple[bool, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule begins to say that something is wrong with the machine, or ends to.

    Attributes
    ----------
    rule : str
        Such as "1 per 30 days" or "3/5".
    begins : bool
        Whether the alert begins; else it ends.
    window : Window
        After which it does.
    since : int
        For how many windows, this one counted, something has been wrong, as far as the rule knows; else 0.
    """

    rule: str
    begins: bool
    window: Window
    since: int = 0


Heard = HeardWindow | Event | Alert


class Steps:
    """What follows from each window, given those before.

    Parameters
    ----------
    gap : float or None
        Seconds of an event, as of ``events.Events``; ``None``: no events, as of a detector without a threshold.
    rules : mapping from str to Tracker
        By what they are called.
    """

    def __init__(self, gap: float | None, rules: Mapping[str, Tracker]) -> None:
        self._events = None if gap is None else Events(gap)
        self._rules = dict(rules)

    def after(self, heard: WindowVerdict) -> list[Heard]:
        """The window itself, and events and alerts that follow."""
        window, verdict = heard.window, heard.verdict
        score = None if verdict.decision == "unusable" else verdict.score
        running = verdict.is_running
        states = {name: rule.after(score, running=running) for name, rule in self._rules.items()}
        found: list[Heard] = [
            HeardWindow(window, verdict, {name: (one.alert, one.evidence) for name, one in states.items()})
        ]
        if self._events is not None:
            found += self._events.after(heard)
        for name, one in states.items():
            if one.began or one.ended:
                found.append(Alert(name, one.began, window, one.since))
        return found

    @property
    def open_event(self) -> Event | None:
        """The event that may go on, as it is now."""
        return None if self._events is None else self._events.open

    def pause(self) -> list[Heard]:
        """Time goes on for a window, and nobody listens: an event ends; the rules wait as if the machine stood."""
        for rule in self._rules.values():
            rule.after(None, running=False)
        return self.end_of_recording()

    def end_of_recording(self) -> list[Heard]:
        """The event that ends with the recording, if there is one."""
        return [] if self._events is None else list(self._events.end())

    def state(self) -> dict[str, Any]:
        """What they know of the windows so far, as JSON values."""
        return {
            "events": None if self._events is None else self._events.state(),
            "rules": {name: rule.state() for name, rule in self._rules.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        if self._events is not None:
            self._events.restore(state["events"])
        for name, rule in tuple(self._rules.items()):
            self._rules[name] = type(rule).restore(state["rules"][name])
