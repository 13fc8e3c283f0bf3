"""The life of an alert, in the words of OPC UA Part 9 (IEC 62541-9), which follows ISA-18.2 and IEC 62682.

Conventions
-----------
* A *condition* is what may be wrong with a machine. An *alert* is one time that it was wrong: it begins when the
  condition becomes active. A former alert that nobody has acknowledged stays, beside a newer one of the same
  condition (a ``ConditionBranch`` of OPC UA).
* ``Alert`` is the state of one alert, ``Standing`` that of a condition, whether it is active or not. Both are
  values: each step returns another one, or raises ``LifeCycleError``. Nothing here reads a clock or a database.
* Times are seconds since 1970-01-01 in UTC.

``docs/alert-life-cycle.md`` lists all states and steps, and what differs from the standard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, Self, get_args

Condition = Literal["anomaly", "microphones", "no sound"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
SEVERITIES: Mapping[Condition, int] = MappingProxyType(  # 1 to 1000 (OPC UA Part 5); our choice
    {"anomaly": 700, "no sound": 500, "microphones": 400}
)
Shelving = Literal["unshelved", "timed", "one shot"]
LONGEST_SHELF_S = 30 * 86400.0  # MaxTimeShelved of OPC UA; our choice
What = Literal[
    # an alert
    "activated", "annunciated", "acknowledged", "cleared", "re-armed", "evidence", "commented",
    # a condition
    "shelved", "unshelved", "suppressed", "unsuppressed", "out of service", "in service",
    # a machine
    "event", "normal", "mode", "detector", "heard late",
]  # fmt: skip
WHAT: tuple[What, ...] = get_args(What)


class LifeCycleError(ValueError):
    """An action that the life cycle refuses.

    Parameters
    ----------
    message : str
        What is refused and why.
    code : str
        The result code of OPC UA for it (Part 9, 5.13, or the general ones of Part 4).

    Examples
    --------
    >>> from nearfar.logbook.life_cycle import Alert, LifeCycleError
    >>> try:
    ...     Alert(acked=True).acknowledge()
    ... except LifeCycleError as error:
    ...     print(error.code)
    Bad_ConditionBranchAlreadyAcked
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    def of(self, subject: str) -> LifeCycleError:
        """The same error, whose message begins with what it is about."""
        return LifeCycleError(f"{subject}: {self}", self.code)


@dataclass(frozen=True, slots=True)
class Alert:
    """The state of one alert. A new one is active, and not acknowledged.

    Attributes
    ----------
    active : bool
        ActiveState: what is wrong goes on.
    acked : bool
        AckedState: somebody has said that they know of it.

    Examples
    --------
    >>> from nearfar.logbook.life_cycle import Alert
    >>> Alert().clear().retained, Alert().clear().acknowledge().retained
    (True, False)
    """

    active: bool = True
    acked: bool = False

    @property
    def retained(self) -> bool:
        """Whether it is of interest: active, or not acknowledged. Otherwise it is re-armed, and over."""
        return self.active or not self.acked

    def clear(self) -> Self:
        """What is wrong has ended. Of an alert that is not active, the same."""
        return replace(self, active=False)

    def acknowledge(self) -> Self:
        """Somebody knows of it.

        Raises
        ------
        LifeCycleError
            If it is acknowledged already.
        """
        if self.acked:
            raise LifeCycleError("it is acknowledged already", "Bad_ConditionBranchAlreadyAcked")
        return replace(self, acked=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """What people and sensors say of a condition, whether it is active or not.

    Attributes
    ----------
    shelving : "unshelved", "timed" or "one shot"
        ShelvingState: somebody does not want to be told for a while. "timed" ends by time; "one shot" when the
        condition becomes inactive, or by time, whichever comes first.
    shelved_until_at : float or None
        When the shelf ends by time; ``None`` if it is unshelved.
    suppressed : bool
        SuppressedState: its sensors are at fault, so that it tells nothing.
    out_of_service : bool
        OutOfServiceState: somebody works on the machine or on its microphones.

    Examples
    --------
    >>> from nearfar.logbook.life_cycle import Standing
    >>> shelved = Standing().shelve(now=1000.0, until=4600.0)
    >>> shelved.shelving, shelved.annunciates, shelved.is_over(4600.0)
    ('timed', False, True)
    >>> Standing().shelve(now=1000.0, until=None).after_clear() == Standing()
    True
    """

    shelving: Shelving = "unshelved"
    shelved_until_at: float | None = None
    suppressed: bool = False
    out_of_service: bool = False

    @property
    def annunciates(self) -> bool:
        """Whether people are told: neither shelved, nor suppressed, nor out of service."""
        return self.shelving == "unshelved" and not self.suppressed and not self.out_of_service

    def is_over(self, now: float) -> bool:
        """Whether it is shelved, and the time of the shelf is over."""
        return self.shelved_until_at is not None and self.shelved_until_at <= now

    def shelve(self, *, now: float, until: float | None) -> Self:
        """TimedShelve; or OneShotShelve, if ``until`` is ``None``.

        Raises
        ------
        LifeCycleError
            If it is shelved in the same way already; or if the time is not after ``now``, or more than
            ``LONGEST_SHELF_S`` after it.
        """
        kind: Shelving = "one shot" if until is None else "timed"
        if self.shelving == kind:
            end = "it becomes inactive" if kind == "one shot" else _told(self.shelved_until_at)
            raise LifeCycleError(
                f"it is shelved already, until {end}; unshelve it first", "Bad_ConditionAlreadyShelved"
            )
        latest = now + LONGEST_SHELF_S
        if until is not None and not (math.isfinite(until) and now < until <= latest):
            raise LifeCycleError(
                f"it cannot be shelved until {_told(until)}: must be after now ({_told(now)}) and at most "
                f"{LONGEST_SHELF_S / 86400:g} days from now",
                "Bad_ShelvingTimeOutOfRange",
            )
        return replace(self, shelving=kind, shelved_until_at=latest if until is None else until)

    def unshelve(self) -> Self:
        """Unshelve.

        Raises
        ------
        LifeCycleError
            If it is not shelved.
        """
        if self.shelving == "unshelved":
            raise LifeCycleError("it is not shelved", "Bad_ConditionNotShelved")
        return replace(self, shelving="unshelved", shelved_until_at=None)

    def after_clear(self) -> Self:
        """When the condition has become inactive: a shelf of one shot ends."""
        return self.unshelve() if self.shelving == "one shot" else self

    def suppress(self) -> Self:
        """Its sensors are at fault. If that is known already, the same."""
        return replace(self, suppressed=True)

    def unsuppress(self) -> Self:
        """Its sensors are well again. If that is known already, the same."""
        return replace(self, suppressed=False)

    def take_out_of_service(self) -> Self:
        """RemoveFromService.

        Raises
        ------
        LifeCycleError
            If it is out of service.
        """
        if self.out_of_service:
            raise LifeCycleError("it is out of service already", "Bad_InvalidState")
        return replace(self, out_of_service=True)

    def return_to_service(self) -> Self:
        """PlaceInService.

        Raises
        ------
        LifeCycleError
            If it is in service.
        """
        if not self.out_of_service:
            raise LifeCycleError("it is in service already", "Bad_InvalidState")
        return replace(self, out_of_service=False)


def _told(at: float | None) -> str:
    """A time in words; also one that no calendar has."""
    try:
        return datetime.fromtimestamp(at or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at:g} s after 1970"
