"""Pauses: their forms, against a clock that is looked at minute by minute, and when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_pauses import MINUTE, paused_minutes

from nearfar.watching.pauses import Pauses

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks are changed by half an hour
SPRING, AUTUMN = datetime(2026, 3, 27, tzinfo=BERLIN), datetime(2026, 10, 23, tzinfo=BERLIN)
CHANGES = [SPRING, AUTUMN, datetime(2026, 4, 3, tzinfo=LORD_HOWE), datetime(2026, 10, 2, tzinfo=LORD_HOWE)]
TEXTS = [
    "22:00 - 05:30", "01:30 - 02:30", "02:15 - 02:45", "02:30 - 04:00", "02:30 - 03:10", "12:00 - 12:01",
    "Sat 00:00 - Mon 05:00", "Sun 02:30 - Sun 02:31", "Sun 03:00 - Sat 23:59", "Mon 05:00 - Mon 04:00",
]  # fmt: skip


def at(text: str, zone: ZoneInfo = BERLIN, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("begin", CHANGES, ids=lambda begin: f"{begin.tzinfo}-{begin.month}")
def test_each_minute_is_as_the_clock_on_the_wall_says(text: str, begin: datetime) -> None:
    assert isinstance(begin.tzinfo, ZoneInfo)
    pauses = Pauses.parse([text], begin.tzinfo)
    first = begin.timestamp()
    minutes = [first + MINUTE * number for number in range(4 * 1440)]
    found = {minute for minute in minutes if pauses.is_paused(minute, minute + MINUTE)}
    assert found == paused_minutes(text, begin.tzinfo, begin, 4)


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(TEXTS[:7]), min_size=1, max_size=3),
    st.integers(0, 4 * 1440),
    st.integers(1, 1500),
)
def test_a_span_is_paused_if_one_of_its_minutes_is(texts: list[str], start: int, length: int) -> None:
    pauses = Pauses.parse(texts, BERLIN)
    begin = SPRING.timestamp() + MINUTE * start
    single = [pauses.is_paused(begin + MINUTE * m, begin + MINUTE * (m + 1)) for m in range(length)]
    assert pauses.is_paused(begin, begin + MINUTE * length) is any(single)


def test_the_hour_that_comes_twice_is_the_first_one() -> None:
    pauses = Pauses.parse(["02:30 - 05:00"], BERLIN)
    first, second = at("2026-10-25 02:30"), at("2026-10-25 02:30", fold=1)
    assert second - first == 3600
    assert pauses.is_paused(first, first)
    assert not pauses.is_paused(first - 60, first)
    assert pauses.until(second - 1800) == at("2026-10-25 05:00")


def test_a_pause_that_ends_before_it_begins_by_a_change_is_left_out_on_that_day() -> None:
    pauses = Pauses.parse(["02:30 - 03:10"], BERLIN)
    assert pauses.is_paused(at("2026-03-28 03:00"), at("2026-03-28 03:01"))
    assert not pauses.is_paused(at("2026-03-29 00:00"), at("2026-03-30 00:00"))


def test_a_pause_begins_with_its_first_moment_and_ends_before_its_last() -> None:
    pauses = Pauses.parse(["12:00 - 13:00"], UTC)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    assert not pauses.is_paused(noon - 10, noon)
    assert pauses.is_paused(noon - 10, noon + 0.01)
    assert pauses.is_paused(noon + 3599.99, noon + 3610)
    assert not pauses.is_paused(noon + 3600, noon + 3610)
    assert not pauses.is_paused(noon + 3600, noon + 3600)
    assert pauses.is_paused(noon - 10, noon + 7200)


def test_pauses_that_overlap_or_touch_end_together() -> None:
    pauses = Pauses.parse(
        ["20:00 - 22:00", "21:00 - 23:00", "23:00 - 00:30", "Sat 00:00 - Mon 05:00"], BERLIN
    )
    friday = at("2026-06-05 20:30")
    assert pauses.until(friday) == at("2026-06-08 05:00")
    assert pauses.until(at("2026-06-03 20:30")) == at("2026-06-04 00:30")
    assert pauses.until(at("2026-06-03 12:00")) is None


def test_a_pause_of_months_is_followed_to_its_end() -> None:
    pauses = Pauses.parse(
        ["2026-06-01 00:00 - 2026-12-24 12:00", "2026-12-24T12:00 - 2027-01-02 06:00"], BERLIN
    )
    assert pauses.until(at("2026-07-04 00:00")) == at("2027-01-02 06:00")
    assert pauses.is_paused(at("2026-01-01 00:00"), at("2027-12-31 00:00"))
    assert not pauses.is_paused(at("2027-01-02 06:00"), at("2027-12-31 00:00"))


@pytest.mark.parametrize("seconds", [0.0, 60.0, 7200.0, 86400.0, 400000.0])
def test_time_without_a_pause_is_counted_as_minutes_are(seconds: float) -> None:
    pauses = Pauses.parse(["22:00 - 05:30", "Sat 00:00 - Mon 05:00", "12:00 - 12:30"], BERLIN)
    begin = at("2026-03-27 11:55")
    left, minute = seconds, begin
    while left > 0 or pauses.is_paused(minute, minute):
        left -= 0 if pauses.is_paused(minute, minute) else MINUTE
        minute += MINUTE
    expected = minute if seconds else begin
    assert pauses.after(begin, seconds) == pytest.approx(expected)


def test_without_pauses_time_passes() -> None:
    pauses = Pauses.parse([], BERLIN)
    assert not pauses
    assert pauses.until(0.0) is None
    assert not pauses.is_paused(0.0, 1e9)
    assert pauses.after(5.0, 10.0) == 15.0


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Mon-Fri 12:00 - 12:30", [f"{day} 12:00 - {day} 12:30" for day in ("Mon", "Tue", "Wed", "Thu", "Fri")]),
        ("Fri-Sun, tuesday 22:00 - 01:00", [
            "Fri 22:00 - Sat 01:00", "Sat 22:00 - Sun 01:00", "Sun 22:00 - Mon 01:00", "Tue 22:00 - Wed 01:00",
        ]),
        ("Sun 00:00 - 24:00", ["Sun 00:00 - Mon 00:00"]),
        ("Saturday 0:00 – Monday 5:00", ["Sat 00:00 - Mon 05:00"]),  # noqa: RUF001
        ("22:00 to 05:30", ["22:00 - 05:30"]),
    ],
)  # fmt: skip
def test_forms_that_mean_the_same(text: str, same: list[str]) -> None:
    one, other = Pauses.parse([text], BERLIN), Pauses.parse(same, BERLIN)
    begin = AUTUMN - timedelta(days=3)
    moments = [begin.timestamp() + 30 * MINUTE * number for number in range(48 * 8)]
    assert [one.until(moment) for moment in moments] == [other.until(moment) for moment in moments]
    assert any(one.until(moment) is not None for moment in moments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("05:00 - 05:00", "empty, or of a whole day"),
        ("Mon 05:00 - Mon 05:00", "empty, or without an end"),
        ("2026-05-01 12:00 - 2026-05-01 12:00", "empty: it ends before it begins"),
        ("2026-05-02 12:00 - 2026-05-01 12:00", "empty: it ends before it begins"),
        ("2026-02-30 12:00 - 2026-03-01 12:00", "day is out of range for month"),
        ("24:00 - 05:00", "24:00 is no time of day"),
        ("12:60 - 13:00", "12:60 is no time of day"),
        ("12:00 - 25:00", "25:00 is no time of day"),
        ("weekends", "cannot be read; expected"),
        ("Mon - Tue", "cannot be read; expected"),
        ("Mox 05:00 - Tue 05:00", "cannot be read; expected"),
        ("", "cannot be read; expected"),
        ("22:00", "cannot be read; expected"),
    ],
)
def test_what_is_no_pause_is_refused_by_its_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"pause '{text}': .*{message}"):
        Pauses.parse(["Sat 00:00 - Sun 00:00", text], BERLIN)


@pytest.mark.parametrize(
    "texts",
    [
        ["00:00 - 24:00"],
        ["05:00 - 17:00", "17:00 - 05:00"],
        ["Mon 05:00 - Mon 04:00", "04:00 - 05:00"],
        ["Mon-Fri 00:00 - 24:00", "Sat 00:00 - Mon 00:00"],
    ],
)
def test_pauses_that_leave_nothing_are_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="together they take all of the week"):
        Pauses.parse(texts, BERLIN)
