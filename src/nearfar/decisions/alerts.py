"""Stand-in until the branch alert is merged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearfar.decisions.alarms import AlarmRule


@dataclass(frozen=True, slots=True)
class AlertState:
    alert: bool
    began: bool
    ended: bool
    evidence: float
    since: int
    p_value: float


class CountAlerts:
    def __init__(self, rule: AlarmRule, above: float) -> None:
        self.rule, self.above = rule, above
        self._last: deque[bool] = deque(maxlen=rule.of_last)
        self._on = False

    def after(self, score: float | None) -> AlertState:
        if score is not None and not math.isnan(score):
            self._last.append(score > self.above)
        on = sum(self._last) >= self.rule.needed
        was, self._on = self._on, on
        return AlertState(on, on and not was, was and not on, sum(self._last) / self.rule.needed, 0, math.nan)

    def state(self) -> dict[str, Any]:
        return {"last": list(self._last), "on": self._on}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._last.extend(state["last"])
        self._on = state["on"]
