"""Messages: one form that stays, which says what was then."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import told
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.files.times import iso
from nearfar.logbook import conditions, journal
from nearfar.logbook.life_cycle import WHAT
from nearfar.watching.messages import of_dropped, of_journal, of_window
from nearfar.watching.sinks import as_json

ENVELOPE = ["format", "id", "site", "machine", "what", "at", "at_s"]
OF_JOURNAL = ["by", "comment", "condition", "annunciated", "written", "alert", "standing", "event", "content"]
ALERT = [
    "id", "condition", "severity", "state", "active", "acked", "annunciated", "was_annunciated", "since", "began",
    "ended", "message", "score", "sound",
]  # fmt: skip


@pytest.fixture
def logbook(tmp_path: Path):
    with told.logbook(tmp_path) as made:
        yield made


def test_the_form_of_an_alert_is_fixed(logbook: told.Logbook) -> None:
    """Receivers rely on each of these keys. Add, and raise FORMAT if one must go."""
    alert = logbook.activate(at=told.BEGAN + 0.25)
    message = logbook.message("activated")
    content = json.loads(as_json(message))
    assert list(content) == ENVELOPE + OF_JOURNAL
    assert list(content["alert"]) == ALERT
    assert {key: content[key] for key in ENVELOPE} == {
        "format": 1,
        "id": message.id,
        "site": "Hall 3",
        "machine": "pump-1",
        "what": "activated",
        "at": "2026-11-30T00:53:20.250Z",
        "at_s": told.BEGAN + 0.25,
    }
    assert datetime.fromisoformat(content["at"]).timestamp() == told.BEGAN + 0.25
    assert content["alert"]["id"] == alert
    assert content["alert"]["state"] == "active, not acknowledged"
    assert content["alert"]["began"] == content["at"]
    assert datetime.fromisoformat(content["alert"]["since"]).timestamp() == told.BEGAN + 0.25 - 60
    assert content["alert"]["ended"] is None
    assert content["standing"] == {
        "shelving": "unshelved", "shelved_until": None, "suppressed": False, "out_of_service": False
    }  # fmt: skip


def test_a_message_that_is_told_late_says_what_was_then(logbook: told.Logbook) -> None:
    alert = logbook.activate()
    before = logbook.message("activated")
    with logbook.database.writing() as c:
        conditions.acknowledge(c, alert, now=told.BEGAN + 50, by="Ada", comment="on my way")
    logbook.clear()
    assert as_json(logbook.message("activated")) == as_json(before)
    acknowledged = logbook.message("acknowledged").content
    assert (acknowledged["by"], acknowledged["comment"]) == ("Ada", "on my way")
    assert acknowledged["alert"]["state"] == "active, acknowledged"
    cleared = logbook.message("cleared").content["alert"]
    assert cleared["state"] == "cleared, acknowledged"
    assert cleared["ended"] == iso(told.BEGAN + 100)


def test_a_window(logbook: told.Logbook) -> None:
    logbook.hear(2)
    (_, message) = logbook.messages("windows")
    assert (message.stream, message.what, message.machine) == ("windows", "window", "pump-1")
    content = json.loads(as_json(message))
    assert list(content) == [*ENVELOPE, "window"]
    assert content["id"] == f"windows-{logbook.rows('windows')[1]['id']}"
    assert content["at_s"] == told.BEGAN + 10
    window = content["window"]
    assert (window["number"], window["score"], window["decision"]) == (1, 1.0, "normal")
    assert window["far_db"] is None  # silence has no level, and JSON no infinity


def test_what_a_sink_has_missed_is_a_message_too() -> None:
    message = of_dropped("windows", 7, 18, "Hall 3", now=told.BEGAN)
    content = json.loads(as_json(message))
    assert list(content) == [*ENVELOPE, "stream", "dropped"]
    assert (message.what, message.stream, message.machine) == ("dropped", "windows", "")
    assert (content["stream"], content["dropped"]) == ("windows", 7)
    assert message.id != of_dropped("windows", 7, 19, "Hall 3", now=told.BEGAN).id


@given(st.floats(min_value=0, max_value=4e9))
def test_times_are_utc_and_exact_to_the_millisecond(at: float) -> None:
    text = iso(at)
    assert text is not None
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text).timestamp() - at) < 1e-3
    assert datetime.fromisoformat(text).tzinfo == UTC


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), ANY), st.text(), st.floats())
def test_whatever_a_row_holds_is_one_line_of_json(content: dict, comment: str, at: float) -> None:
    content = {key: value for key, value in content.items() if key not in ("alert", "standing")}
    row = {
        "id": 1, "machine": "Pumpe \u2028 1", "what": "mode", "at": at, "written_at": at, "by": "",
        "comment": comment, "condition": None, "annunciated": True, "content": content, "event": None,
    }  # fmt: skip
    line = as_json(of_journal(row, "Hall\n3"))
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line)["comment"] == comment
    assert json.loads(line)["site"] == "Hall\n3"


def test_a_window_without_a_score_has_null() -> None:
    columns = (
        "id", "machine_id", "recording_id", "number", "begins_at", "seconds", "score", "p_value", "decision",
        "evidence", "near_db", "far_db", "told",
    )  # fmt: skip
    row = {**dict.fromkeys(columns), "id": 3, "begins_at": 0.0, "machine": "pump-1", "decision": "paused"}
    assert json.loads(as_json(of_window(row, "Hall 3")))["window"]["score"] is None


def test_the_page_names_all_that_happens_and_all_that_is_told_of_it() -> None:
    page = (Path(__file__).parents[1] / "docs" / "messages.md").read_text(encoding="utf-8")
    happens, _, content = page[page.index("### What happens") :].partition("keys of `content`")
    content = content.partition("\n\n")[0]
    for what in (*WHAT, "window", "dropped"):
        assert f"`{what}`" in happens
    for what, keys in journal.CONTENT.items():
        told_apart = [key for key in keys if key not in ("alert", "standing", "was_annunciated")]
        row = [line for line in content.splitlines() if line.startswith(f"| `{what}` |")]
        assert bool(row) == bool(told_apart), what
        assert all(f"`{key}`" in row[0] for key in told_apart), what
