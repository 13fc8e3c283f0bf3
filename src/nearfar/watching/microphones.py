"""When microphones are broken: a window that cannot be used is an accident, many of them are a fault.

They are broken after windows that could not be used for ``BROKEN_S`` seconds, without one between them that could,
and at least ``FEWEST_BROKEN`` of them. They are well again after ``FEWEST_WELL`` windows that could be used, one
after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

BROKEN_S = 60.0  # our choice: a cable that is plugged in again is no alert
FEWEST_BROKEN = 3  # windows; our choice, for windows of a minute and more
FEWEST_WELL = 3  # windows; our choice: a loose contact is one alert


class Microphones:
    """Whether microphones are broken, window by window.

    Attributes
    ----------
    broken : bool
    since : float or None
        When the first of the windows began that could not be used; ``None`` if the last one could.

    Examples
    --------
    >>> from nearfar.watching.microphones import Microphones
    >>> microphones = Microphones()
    >>> [microphones.after(False, 20.0 * i, 20.0) for i in range(4)]
    [None, None, 'broken', None]
    >>> [microphones.after(True, 100.0 + 20.0 * i, 20.0) for i in range(3)]
    [None, None, 'well']
    """

    def __init__(self) -> None:
        self.broken = False
        self.since: float | None = None
        self._unusable = self._usable = 0

    def after(self, usable: bool, begins_at: float, seconds: float) -> Literal["broken", "well"] | None:
        """What is known after the next window: that they are broken, or well again, if that is new.

        Parameters
        ----------
        usable : bool
        begins_at, seconds : float
        """
        if usable:
            self.since, self._unusable, self._usable = None, 0, self._usable + 1
            if self.broken and self._usable >= FEWEST_WELL:
                self.broken = False
                return "well"
            return None
        self.since = begins_at if self.since is None else self.since
        self._unusable, self._usable = self._unusable + 1, 0
        lasts = begins_at + seconds - self.since
        if not self.broken and self._unusable >= FEWEST_BROKEN and lasts >= BROKEN_S:
            self.broken = True
            return "broken"
        return None

    def state(self) -> dict[str, Any]:
        """What it knows, as JSON values."""
        return {
            "broken": self.broken, "since": self.since, "unusable": self._unusable, "usable": self._usable
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.broken, self.since = state["broken"], state["since"]
        self._unusable, self._usable = state["unusable"], state["usable"]
