"""Alerts with a stated mean time between false ones.

A user asks for nothing but that time: "1 per 30 days". Windows are heard one after the other. Each is a bet against
"this window is like the normal ones" (``decisions.betting``), and what was won is bet again. Weak evidence adds up
over minutes; a strong fault is told in a few windows.

What is a theorem. The statistic of Shiryaev and Roberts grows by at most 1 in each window, on average, if the
windows are exchangeable with the normal ones. So it reaches c after at least c windows on average, whatever the
distribution of the scores (Shin, Ramdas, Rinaldo, arXiv:2203.03532). The alert is at the c that are the asked time.

What is only measured. Windows of one recording are not exchangeable: they follow each other. How much higher the
statistic then climbs is measured on normal recordings (``decisions.dependence``). The threshold is raised to the
height that is exceeded as rarely as asked; it is never lowered.

Conventions
-----------
* Windows come in order of time, one each ``hop_s`` seconds. One that could not be used is ``None`` or NaN: it
  changes nothing, but time goes on.
* Windows in which the machine does not run are not heard, nor is the minute after them: that it stops and starts is
  another matter, and it sounds unlike a machine that runs.
* An alert that is on is not learnt from: a fault must not become normal.
* Restored from its state, a rule goes on with exactly the same numbers.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.alarms import AlarmRule
from nearfar.decisions.betting import BETS, SECONDS_OF_MEMORY, EDetector, RankBets
from nearfar.decisions.dependence import FEWEST_WINDOWS, Dependence

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("week", "weeks"), 7 * DAY),
    **dict.fromkeys(("month", "months"), 30 * DAY),
    **dict.fromkeys(("year", "years"), 365 * DAY),
}
FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*per\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", re.IGNORECASE)
EXPECTED = (
    'such as "1 per 30 days" or "1 per 2 h": a number, "per", and a time in s, min, h, days, weeks, months (of 30 '
    "days) or years"
)
REST_S = 5 * MINUTE  # an alert lasts at least so long, so that a noisy fault is one alert; our choice
SETTLE_S = MINUTE  # after a machine did not run, nothing is heard for so long; our choice
HIGHEST_LOG = 600.0  # of a threshold: its exponential is still a number


@dataclass(frozen=True, slots=True)
class AlertRule:
    """How often a false alert may come, and how often windows come.

    Attributes
    ----------
    mean_time_s : float
        Between two false alerts, on average, in seconds.
    window_s, hop_s : float
        Length of a window, and from the start of one to the start of the next, in seconds.

    Raises
    ------
    ValueError
        If a time is not above 0 and finite, or the mean time is shorter than ten hops.

    Examples
    --------
    >>> from nearfar.decisions.alerts import AlertRule
    >>> rule = AlertRule.parse("1 per 30 days", window_s=10, hop_s=5)
    >>> rule.windows
    518400.0
    >>> str(rule)
    '1 per 30 days'
    """

    mean_time_s: float
    window_s: float
    hop_s: float

    def __post_init__(self) -> None:
        for name in ("mean_time_s", "window_s", "hop_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value}: must be a time above 0, in seconds")
        if self.mean_time_s < 10 * self.hop_s:
            raise ValueError(
                f"false alerts of {self}, with a window each {_time(self.hop_s)}: ask for a mean time of "
                f"{_time(10 * self.hop_s)} or more; if single windows are to be flagged, use the threshold"
            )

    @classmethod
    def parse(cls, text: str, *, window_s: float, hop_s: float) -> Self:
        """A rule from text such as ``"1 per 30 days"``.

        Raises
        ------
        ValueError
            If it cannot be read, or is no rule.
        """
        return cls(mean_time(text), window_s, hop_s)

    @property
    def windows(self) -> float:
        """The mean time in hops."""
        return self.mean_time_s / self.hop_s

    def __str__(self) -> str:
        return f"1 per {_time(self.mean_time_s)}"


def mean_time(text: str) -> float:
    """The mean time between false alerts, in seconds, of text such as ``"1 per 30 days"``.

    Raises
    ------
    ValueError
        If it cannot be read.

    Examples
    --------
    >>> from nearfar.decisions.alerts import mean_time
    >>> mean_time("1 per 2 h"), mean_time("3 per day")
    (7200.0, 28800.0)
    """
    match = FORM.fullmatch(text)
    if match is None or match[3].lower() not in UNITS:
        raise ValueError(f"false alerts {text!r}: expected a rate {EXPECTED}")
    count, times = float(match[1]), float(match[2] or 1)
    if count == 0 or times == 0:
        raise ValueError(f"false alerts {text!r}: both numbers must be above 0, {EXPECTED}")
    return times * UNITS[match[3].lower()] / count


@dataclass(frozen=True, slots=True)
class AlertState:
    """What is known after a window.

    Attributes
    ----------
    alert : bool
        Whether an alert is on.
    began, ended : bool
        Whether it began or ended with this window.
    evidence : float
        Where the statistic is between 1 and its threshold, on the scale of logarithms, from 0 to 1. Of
        ``CountAlerts``, the share of the flags that an alert needs.
    since : int
        Windows from the likely beginning of the change up to this one, both counted; 0 if nothing points to one.
    p_value : float
        Of this window, among all that were learnt before it. NaN if it could not be used, or is only counted.
    """

    alert: bool
    began: bool
    ended: bool
    evidence: float
    since: int
    p_value: float


class Listener(Protocol):
    """What turns windows into alerts: by bets, or by counts."""

    def after(self, score: float | None, *, running: bool = True) -> AlertState: ...
    def state(self) -> dict[str, Any]: ...


class Alerts:
    """Alerts by bets on ranks: e-detectors of Shiryaev-Roberts kind, one for each of ``BETS``.

    An alert begins when a statistic reaches its threshold. While it is on, all that was won is held there at most.
    It ends once all detectors are at rest, at the earliest ``REST_S`` after one was last at its threshold (or a
    tenth of the mean time, if that is shorter). Then they start again from zero. Each threshold is the number of
    bets times that of the theorem, or more: where one statistic reaches it, the mean of all has reached the
    theorem's.

    Parameters
    ----------
    rule : AlertRule
    normal_scores : (n,) array
        Of windows that are known to be normal, in any order, by fits that had not seen them.
    dependence : Dependence or None
        What was measured on normal recordings in order of time. ``None``: the threshold is that of the theorem.

    Raises
    ------
    ValueError
        If there are no finite normal scores, or so few that the threshold cannot be reached; or if the dependence
        was measured with other windows.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.decisions.alerts import AlertRule, Alerts
    >>> normal = np.random.default_rng(0).normal(size=1000)
    >>> alerts = Alerts(AlertRule.parse("1 per 30 days", window_s=10, hop_s=10), normal)
    >>> alerts.first_after
    4
    >>> [alerts.after(score).alert for score in (0.1, 4.0, 4.1, None, 4.2, 3.9, 4.0)]
    [False, False, False, False, False, True, True]
    """

    def __init__(
        self,
        rule: AlertRule,
        normal_scores: Sequence[float] | NDArray[np.float64],
        *,
        dependence: Dependence | None = None,
    ) -> None:
        self.rule, self.dependence = rule, dependence
        self.normal_windows = len(normal_scores)
        self.thresholds = _thresholds(rule, dependence)
        memory = max(1, round(SECONDS_OF_MEMORY / rule.hop_s))
        self._detectors = [EDetector(RankBets(normal_scores, memory=memory, bet=bet)) for bet in BETS]
        self._rested, self._settling, self._on = 0, 0, False
        self.first_after = self._first_after(memory)

    def _first_after(self, most: int) -> int:
        """Windows until the first alert, if all score above every normal one."""
        trial = [EDetector.restore(detector.state()) for detector in self._detectors]
        for number in range(1, most + 1):
            if any(d.take(math.inf) >= c for d, c in zip(trial, self.thresholds, strict=True)):
                return number
            for detector in trial:
                detector.learn(math.inf)
        raise ValueError(
            f"false alerts of {self.rule}: with {self.normal_windows} normal windows, no fault could give an alert "
            f"within {_time(most * self.rule.hop_s)}; fit to more normal windows, or ask for more false alerts"
        )

    def after(self, score: float | None, *, running: bool = True) -> AlertState:
        """What is known after the next window.

        Parameters
        ----------
        score : float or None
            ``None`` or NaN: the window could not be used.
        running : bool
            Whether the machine runs, as far as that is known.
        """
        was_on = self._on
        p_value = math.nan
        if not self._hears(running):
            score = None
        if score is None or math.isnan(score):
            for detector in self._detectors:
                detector.wait()
        else:
            p_value = self._detectors[0].bets.p_value(score)
            self._take(score)
        began, ended = self._on and not was_on, was_on and not self._on
        evidence, since = max(
            (min(1.0, math.log(max(d.statistic, 1.0)) / math.log(c)), d.since)
            for d, c in zip(self._detectors, self.thresholds, strict=True)
        )
        return AlertState(self._on, began, ended, evidence, since, p_value)

    def _hears(self, running: bool) -> bool:
        """Whether the next window counts, because the machine has been running for a while."""
        if not running:
            self._settling = math.ceil(SETTLE_S / self.rule.hop_s)
            return False
        self._settling -= (settling := self._settling > 0)
        return not settling

    def _take(self, score: float) -> None:
        reached = False
        for detector, threshold in zip(self._detectors, self.thresholds, strict=True):
            reached |= detector.take(score) >= threshold
            detector.hold(threshold)
        self._rested = 0 if reached else self._rested + 1
        if reached:
            self._on = True
        elif self._on and self._rested >= self._rest and all(d.at_rest for d in self._detectors):
            self._on = False
            for detector in self._detectors:
                detector.restart()
        if not self._on:
            for detector in self._detectors:
                detector.learn(score)

    @property
    def _rest(self) -> int:
        return math.ceil(min(REST_S, self.rule.mean_time_s / 10) / self.rule.hop_s)

    def describe(self) -> list[str]:
        """What is promised and what is only measured, in sentences."""
        n, rule, told = self.normal_windows, self.rule, []
        told.append(
            f"Promised: if windows are exchangeable with the {n} normal ones, the mean time to a false alert is at "
            f"least {_time(rule.mean_time_s)}, whatever the distribution of the scores"
        )
        if rule.hop_s < rule.window_s:
            told.append("Windows overlap, so they are not exchangeable: what holds is what was measured")
        if self.dependence is None:
            needed = _time((FEWEST_WINDOWS - 1) * rule.hop_s + rule.window_s)
            told += [
                "Not measured: how dependent windows are that follow each other. False alerts may come more often",
                f"Measuring takes a fit to at least {FEWEST_WINDOWS} windows like these of long recordings, in "
                f"order of time: {needed}, better several recordings",
            ]
        else:
            told.append(self._measured(self.dependence))
        seconds = rule.window_s + (self.first_after - 1) * rule.hop_s
        told.append(
            f"An alert takes at least {self.first_after} windows ({_time(seconds)}), all above every normal score"
        )
        return told

    def _measured(self, of: Dependence) -> str:
        rule = self.rule
        raised = max(map(math.log, self.thresholds)) / math.log(len(self.thresholds) * rule.windows)
        heard = _time(of.windows * rule.hop_s)
        told = f"Measured on {heard} of normal windows in order of time: "
        told += (
            "windows are no more dependent than the theorem allows, so its threshold stands"
            if raised == 1
            else f"they are dependent, so an alert needs {raised:.1f} times the evidence (in logarithms)"
        )
        if rule.mean_time_s > of.windows * rule.hop_s:
            told += f". {_time(rule.mean_time_s)} is longer than what was heard: an extrapolation"
        return told

    def state(self) -> dict[str, Any]:
        """All numbers, JSON-able: ``restore`` gives a rule that goes on exactly the same."""
        return {
            "kind": "bets",
            "rule": asdict(self.rule),
            "dependence": None if self.dependence is None else self.dependence.describe(),
            "normal_windows": self.normal_windows,
            "first_after": self.first_after,
            "thresholds": list(self.thresholds),
            "rested": self._rested,
            "settling": self._settling,
            "on": self._on,
            "detectors": [detector.state() for detector in self._detectors],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """What ``state`` gave.

        Raises
        ------
        ValueError
            If it is not the state of such a rule.
        """
        _require_kind(state, "bets")
        alerts = cls.__new__(cls)
        alerts.rule = AlertRule(**state["rule"])
        told = state["dependence"]
        alerts.dependence = None if told is None else Dependence.restore(told)
        alerts.normal_windows, alerts.first_after = state["normal_windows"], state["first_after"]
        alerts.thresholds = list(state["thresholds"])
        alerts._detectors = [EDetector.restore(detector) for detector in state["detectors"]]
        alerts._rested, alerts._settling, alerts._on = (state[n] for n in ("rested", "settling", "on"))
        return alerts


class CountAlerts:
    """Alerts if at least k of the last n windows are above a threshold; 1 of 1 is a plain threshold.

    Nothing is promised. An alert ends when at most ``(k - 1) // 2`` of the last n windows are above it.

    Parameters
    ----------
    rule : AlarmRule
        k and n.
    above : float
        A window that scores higher counts.

    Raises
    ------
    ValueError
        If the threshold is not a number.

    Examples
    --------
    >>> from nearfar.decisions.alarms import AlarmRule
    >>> from nearfar.decisions.alerts import CountAlerts
    >>> alerts = CountAlerts(AlarmRule.parse("2/3"), above=1.0)
    >>> [alerts.after(score).alert for score in (2.0, None, 3.0, 0.0, 0.5, 0.5)]
    [False, False, True, True, True, False]
    """

    def __init__(self, rule: AlarmRule, *, above: float) -> None:
        if math.isnan(above):
            raise ValueError(
                "above=nan: windows must be compared with a number, such as the detector's threshold"
            )
        self.rule, self.above = rule, above
        self._flags: deque[bool] = deque(maxlen=rule.of_last)
        self._on = False

    def after(self, score: float | None, *, running: bool = True) -> AlertState:
        """What is known after the next window; ``None``, NaN or not ``running``: it does not count."""
        was_on = self._on
        if running and score is not None and not math.isnan(score):
            self._flags.append(score > self.above)
        flagged = sum(self._flags)
        self._on = flagged >= self.rule.needed or (was_on and flagged > (self.rule.needed - 1) // 2)
        since = len(self._flags) - self._flags.index(True) if flagged else 0
        began, ended = self._on and not was_on, was_on and not self._on
        return AlertState(self._on, began, ended, min(1.0, flagged / self.rule.needed), since, math.nan)

    def state(self) -> dict[str, Any]:
        """All numbers, JSON-able."""
        return {
            "kind": "counts",
            "rule": asdict(self.rule),
            "above": self.above,
            "flags": list(self._flags),
            "on": self._on,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """What ``state`` gave; a ``ValueError`` if it is of another rule."""
        _require_kind(state, "counts")
        alerts = cls(AlarmRule(**state["rule"]), above=state["above"])
        alerts._flags.extend(state["flags"])
        alerts._on = state["on"]
        return alerts


def restore(state: Mapping[str, Any]) -> Alerts | CountAlerts:
    """The rule whose ``state`` this is, of either kind.

    Raises
    ------
    ValueError
        If it is of neither.
    """
    return CountAlerts.restore(state) if state.get("kind") == "counts" else Alerts.restore(state)


def _thresholds(rule: AlertRule, dependence: Dependence | None) -> list[float]:
    """Of each statistic: that of the theorem, or the height that normal windows in order of time ask for."""
    least = len(BETS) * rule.windows
    if dependence is None:
        return [least] * len(BETS)
    _require_same_windows(rule, dependence)
    heights = dependence.log_thresholds(least)
    if min(heights) > HIGHEST_LOG:
        raise ValueError(
            f"false alerts of {rule}: as measured on {dependence.windows} normal windows, the statistic climbs so "
            "high by itself that no alert could keep the rate; ask for more false alerts, or fit to more hours of "
            "normal recordings"
        )
    return [max(least, math.exp(min(height, HIGHEST_LOG))) for height in heights]


def _require_same_windows(rule: AlertRule, dependence: Dependence) -> None:
    if not dependence.is_of(rule.window_s, rule.hop_s):
        measured, asked = (dependence.window_s, dependence.hop_s), (rule.window_s, rule.hop_s)
        raise ValueError(
            f"windows of {asked[0]:g} s, one each {asked[1]:g} s; but dependence was measured on windows of "
            f"{measured[0]:g} s, one each {measured[1]:g} s: cut recordings as for the fit, or fit to such windows"
        )


def _require_kind(state: Mapping[str, Any], kind: str) -> None:
    if state.get("kind") != kind:
        raise ValueError(f"kind={state.get('kind')!r}: not the state of alerts by {kind}")


def _time(seconds: float) -> str:
    """In the largest unit of which it is at least one, such as "2 h"."""
    for size, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= size:
            number = f"{seconds / size:.4g}"
            return "1 day" if (number, name) == ("1", "days") else f"{number} {name}"
    return f"{seconds:.4g} s"
