"""The life cycle of alerts: each state, each step, and what is refused."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from nearfar.logbook.life_cycle import (
    CONDITIONS,
    LONGEST_SHELF_S,
    SEVERITIES,
    WHAT,
    Alert,
    LifeCycleError,
    Standing,
)

NOW = 1_800_000_000.0
UNTIL = NOW + 3600.0
PAGE = Path(__file__).parents[1] / "docs" / "alert-life-cycle.md"


@pytest.mark.parametrize(
    ("active", "acked", "retained"),
    [(True, False, True), (True, True, True), (False, False, True), (False, True, False)],
)
def test_an_alert_is_retained_while_it_is_active_or_not_acknowledged(
    active: bool, acked: bool, retained: bool
) -> None:
    assert Alert(active=active, acked=acked).retained is retained


def test_an_alert_begins_active_and_unacknowledged() -> None:
    assert Alert() == Alert(active=True, acked=False)


@pytest.mark.parametrize("active", [True, False])
def test_an_alert_is_acknowledged_once(active: bool) -> None:
    acked = Alert(active=active).acknowledge()
    assert acked == Alert(active=active, acked=True)
    with pytest.raises(LifeCycleError, match="it is acknowledged already") as raised:
        acked.acknowledge()
    assert raised.value.code == "Bad_ConditionBranchAlreadyAcked"


@pytest.mark.parametrize("acked", [True, False])
def test_clearing_leaves_what_people_said(acked: bool) -> None:
    once = Alert(acked=acked).clear()
    assert once == once.clear() == Alert(active=False, acked=acked)


UNSHELVED = Standing()
TIMED = Standing(shelving="timed", shelved_until_at=UNTIL)
ONE_SHOT = Standing(shelving="one shot", shelved_until_at=NOW + LONGEST_SHELF_S)


@pytest.mark.parametrize(
    ("before", "until", "after"),
    [
        (UNSHELVED, UNTIL, TIMED),
        (UNSHELVED, None, ONE_SHOT),
        (TIMED, None, ONE_SHOT),
        (ONE_SHOT, UNTIL, TIMED),
        (TIMED, UNTIL + 60, "it is shelved already, until 2027-01-15 09:00:00 UTC; unshelve it first"),
        (ONE_SHOT, None, "it is shelved already, until it becomes inactive; unshelve it first"),
    ],
)
def test_every_way_onto_a_shelf(before: Standing, until: float | None, after: Standing | str) -> None:
    if isinstance(after, Standing):
        assert before.shelve(now=NOW, until=until) == after
        return
    with pytest.raises(LifeCycleError, match=after) as raised:
        before.shelve(now=NOW, until=until)
    assert raised.value.code == "Bad_ConditionAlreadyShelved"


@pytest.mark.parametrize(
    "until", [NOW, NOW - 1, NOW + LONGEST_SHELF_S + 1, math.inf, -math.inf, math.nan, 1e300]
)
def test_a_shelf_ends_after_now_and_within_thirty_days(until: float) -> None:
    with pytest.raises(LifeCycleError, match=r"must be after now .* and at most 30 days from now") as raised:
        Standing().shelve(now=NOW, until=until)
    assert raised.value.code == "Bad_ShelvingTimeOutOfRange"
    assert Standing().shelve(now=NOW, until=NOW + LONGEST_SHELF_S).shelving == "timed"


def test_every_way_off_a_shelf() -> None:
    assert TIMED.unshelve() == ONE_SHOT.unshelve() == UNSHELVED
    with pytest.raises(LifeCycleError, match="it is not shelved") as raised:
        UNSHELVED.unshelve()
    assert raised.value.code == "Bad_ConditionNotShelved"
    assert (UNSHELVED.after_clear(), TIMED.after_clear(), ONE_SHOT.after_clear()) == (
        UNSHELVED,
        TIMED,
        UNSHELVED,
    )


def test_a_shelf_is_over_when_its_time_has_come() -> None:
    assert [TIMED.is_over(now) for now in (NOW, UNTIL - 0.001, UNTIL, UNTIL + 1)] == [
        False,
        False,
        True,
        True,
    ]
    assert ONE_SHOT.is_over(NOW + LONGEST_SHELF_S)  # MaxTimeShelved holds for one shot, too
    assert not UNSHELVED.is_over(math.inf)


@pytest.mark.parametrize("standing", [UNSHELVED, TIMED, ONE_SHOT])
def test_suppression_and_service_leave_the_shelf(standing: Standing) -> None:
    assert standing.suppress().suppressed
    assert standing.suppress().suppress().unsuppress() == standing.unsuppress() == standing
    out = standing.take_out_of_service()
    assert out.out_of_service
    assert out.return_to_service() == standing
    with pytest.raises(LifeCycleError, match="it is out of service already") as raised:
        out.take_out_of_service()
    assert raised.value.code == "Bad_InvalidState"
    with pytest.raises(LifeCycleError, match="it is in service already"):
        standing.return_to_service()


def test_one_reason_is_enough_to_be_silent() -> None:
    for shelf, suppressed, out in itertools.product(
        (UNSHELVED, TIMED, ONE_SHOT), (False, True), (False, True)
    ):
        standing = shelf.suppress() if suppressed else shelf
        standing = standing.take_out_of_service() if out else standing
        assert standing.annunciates is (shelf is UNSHELVED and not suppressed and not out)


def test_an_error_says_what_it_is_about_and_keeps_its_code() -> None:
    error = LifeCycleError("it is not shelved", "Bad_ConditionNotShelved").of("pump-1, anomaly")
    assert (str(error), error.code) == ("pump-1, anomaly: it is not shelved", "Bad_ConditionNotShelved")


def test_each_condition_has_a_severity() -> None:
    assert set(SEVERITIES) == set(CONDITIONS)
    assert all(1 <= severity <= 1000 for severity in SEVERITIES.values())


def test_the_page_names_all_that_happens_and_all_that_is_refused() -> None:
    text = PAGE.read_text(encoding="utf-8")
    codes = (
        "Bad_ConditionBranchAlreadyAcked",
        "Bad_ConditionAlreadyShelved",
        "Bad_ConditionNotShelved",
        "Bad_ShelvingTimeOutOfRange",
        "Bad_InvalidState",
        "Bad_NotFound",
    )
    assert [name for name in (*WHAT, *codes) if f"`{name}`" not in text] == []
