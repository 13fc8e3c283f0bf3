"""What the pages of the service say of rows of the logbook, without a browser and without a service."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from nearfar.logbook import life_cycle, schema
from nearfar.serving import pages
from nearfar.serving.pages import Around, Viewer

NOW = 1_800_000_000.0
HOSTILE = "<img src=x onerror=alert(1)>\"' & \u202e\udcfc"
AROUND = Around("Hall 3", Viewer())
CALLED = {"aria-labelledby", "aria-describedby", "for", "aria-controls"}  # attributes that name an id


def a_machine(**changed: Any) -> dict[str, Any]:
    return {
        "id": 1, "name": "pump", "detector": "detectors/pump", "detector_digest": "3f" * 32, "system": "spectral",
        "window_s": 10.0, "hop_s": 10.0, "threshold": 3.0, "false_alerts": "1 per 30 days", "mode": "listening",
        "mode_since_at": NOW - 3600, "heard_until_at": NOW - 5, "score": 1.5, "decision": "normal", "evidence": 0.1,
        "running": True, "written_at": NOW, **changed,
    }  # fmt: skip


def an_alert(**changed: Any) -> dict[str, Any]:
    made = {
        "id": 7, "machine_id": 1, "machine": "pump", "condition": "anomaly", "severity": 700,
        "message": "Unlike normal.",
        "since_at": NOW - 600, "began_at": NOW - 300, "ended_at": None, "active": True, "acked": False,
        "score": 7.5, "sound": "7.flac", "evidence_error": "", "has_evidence": False, **changed,
    }  # fmt: skip
    return {**made, "retained": made["active"] or not made["acked"]}


def a_condition(**changed: Any) -> dict[str, Any]:
    return {
        "machine_id": 1, "machine": "pump", "condition": "anomaly", "shelving": "unshelved",
        "shelved_until_at": None,
        "suppressed": False, "out_of_service": False, **changed,
    }  # fmt: skip


def an_event(**changed: Any) -> dict[str, Any]:
    return {
        "id": 3, "machine_id": 1, "machine": "pump", "begins_at": NOW - 400, "ends_at": NOW - 330,
        "peak_begins_at": NOW - 380,
        "peak_ends_at": NOW - 370, "peak_score": 7.5, "p_value": 0.01, "windows": 7, "anomalous": 6, "unusable": 1,
        "sound": "3.flac", **changed,
    }  # fmt: skip


def an_entry(**changed: Any) -> dict[str, Any]:
    """Of a journal."""
    return {
        "id": 70, "what": "commented", "at": NOW, "by": "", "comment": "", "annunciated": True, "content": {},
        **changed,
    }  # fmt: skip


def hall(**changed: Any) -> str:
    given = {"retained": [an_alert()], "conditions": [], "now": NOW, **changed}
    return pages.hall(AROUND, given.pop("machines", [a_machine()]), **given)


def machine(around: Around = AROUND, **changed: Any) -> str:
    given = {
        "conditions": [a_condition(shelving="timed", shelved_until_at=NOW + 3600)], "alerts": [an_alert()],
        "events": [an_event()], "normals": 2, "now": NOW, **changed,
    }  # fmt: skip
    return pages.machine(around, given.pop("row", a_machine()), **given)


def alerts(around: Around = AROUND, **changed: Any) -> str:
    entry = {
        "id": 70,
        "what": "commented",
        "at": NOW,
        "by": "Anna",
        "comment": "Seen.",
        "annunciated": True,
        "content": {},
    }
    given = {
        "state": "retained", "machine": "", "machines": ["pump"], "conditions": [a_condition()],
        "journals": {7: [entry]},
        "older": 5, **changed,
    }  # fmt: skip
    return pages.alerts(around, given.pop("rows", [an_alert()]), **given)


class TestState:
    @pytest.mark.parametrize(
        ("changed", "kind", "words"),
        [
            ({}, "normal", "Normal"),
            ({"decision": "anomaly"}, "normal", "Normal"),
            ({"mode": "paused"}, "paused", "Paused"),
            ({"mode": "no sound"}, "no-sound", "No sound"),
            ({"mode": "stopped"}, "not-watched", "Not watched"),
            ({"mode": "removed"}, "not-watched", "Not watched any more"),
            ({"running": False}, "stopped", "Standing still"),
            ({"running": None}, "normal", "Normal"),
            ({"heard_until_at": None}, "waiting", "No sound yet"),
        ],
    )
    def test_of_a_machine_without_alerts(self, changed, kind, words):
        state = pages.state_of(a_machine(**changed))
        assert (state.kind, state.words) == (kind, words)

    def test_every_mode_and_every_condition_is_known(self):
        assert {pages.state_of(a_machine(mode=mode)).kind for mode in schema.MODES} <= set(pages.KINDS)
        assert set(pages.CONDITIONS) == set(life_cycle.CONDITIONS) == set(pages.SLUGS)

    @pytest.mark.parametrize(
        ("changed", "condition", "kind", "detail", "tone"),
        [
            ({}, {}, "alert", "not acknowledged", "bad"),
            ({"acked": True}, {}, "alert", "acknowledged", "bad"),
            ({"active": False}, {}, "alert", "over, not acknowledged", "doubt"),
            (
                {"condition": "microphones"},
                {"condition": "microphones"},
                "microphones",
                "not acknowledged",
                "doubt",
            ),
            ({"condition": "no sound"}, {"condition": "no sound"}, "no-sound", "not acknowledged", "doubt"),
            ({}, {"shelving": "timed"}, "shelved", "shelved", "quiet"),
            ({}, {"shelving": "one shot"}, "shelved", "shelved", "quiet"),
            ({}, {"suppressed": True}, "shelved", "suppressed by a microphone fault", "quiet"),
            ({}, {"out_of_service": True}, "out-of-service", "out of service", "quiet"),
        ],
    )
    def test_of_a_machine_with_an_alert(self, changed, condition, kind, detail, tone):
        state = pages.state_of(
            a_machine(), retained=[an_alert(**changed)], conditions=[a_condition(**condition)]
        )
        assert (state.kind, state.detail, state.tone, state.since) == (kind, detail, tone, NOW - 300)

    def test_the_worst_is_told(self):
        known = [
            an_alert(condition="no sound", acked=True),
            an_alert(active=False),
            an_alert(condition="microphones"),
        ]
        ranks = []
        for order in itertools.permutations(known):
            found = pages.state_of(a_machine(mode="no sound"), retained=order)
            ranks.append((found.words, found.detail))
        assert set(ranks) == {("Microphone fault", "not acknowledged")}

    def test_no_two_states_of_a_tone_have_the_same_sign_and_other_words(self):
        """Colour and shape together tell what the words tell, but for details."""
        flags = [{}, {"shelving": "timed"}, {"out_of_service": True}]
        states = [pages.state_of(a_machine(mode=mode)) for mode in schema.MODES]
        states += [
            pages.alert_state(an_alert(condition=name, active=active, acked=acked), a_condition(**flag))
            for name in life_cycle.CONDITIONS
            for active, acked in ((True, False), (True, True), (False, False))
            for flag in flags
        ]
        assert len({(state.sign, state.tone) for state in states}) >= 11
        known = set(
            re.findall(r'name == "([\w-]+)"', (pages.HERE / "templates" / "macros.html.j2").read_text())
        )
        assert {state.sign for state in states} <= known | {"normal"}


class TestPages:
    @pytest.mark.parametrize("make", [hall, machine, alerts])
    def test_names_messages_and_comments_are_text(self, make):
        entry = {
            "id": 1,
            "what": "commented",
            "at": NOW,
            "by": HOSTILE,
            "comment": HOSTILE,
            "annunciated": True,
        }
        row, alert = a_machine(name=HOSTILE, system=HOSTILE), an_alert(machine=HOSTILE, message=HOSTILE)
        given: dict[Any, dict[str, Any]] = {
            hall: {"machines": [row], "retained": [alert]},
            machine: {"row": row, "alerts": [alert], "events": [an_event(machine=HOSTILE)]},
            alerts: {"rows": [alert], "machine": HOSTILE, "machines": [HOSTILE], "journals": {7: [entry]}},
        }
        html = make(**given[make])
        html.encode()
        assert "<img" not in html
        assert "\u202e" not in html
        parsed = Parsed(html)
        assert not [name for name, _ in parsed.attributes if name == "style" or name.startswith("on")]

    @pytest.mark.parametrize(
        "html",
        [
            hall(), hall(machines=[], retained=[]), machine(), alerts(), alerts(rows=[]), pages.login(AROUND),
            pages.problem(AROUND, "A", "B"),
        ],
        ids=["hall", "no machine", "machine", "alerts", "no alert", "login", "problem"],
    )  # fmt: skip
    def test_markup_is_whole_and_loads_only_what_there_is(self, html):
        parsed = Parsed(html)
        assert not parsed.open
        ids = [value for name, value in parsed.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        named = {value for name, value in parsed.attributes if name in CALLED}
        assert named <= set(ids)
        loaded = {
            value for name, value in parsed.attributes if name in ("src", "href") and "/static/" in value
        }
        assert loaded
        assert all(pages.static(value.removeprefix("/static/")) is not None for value in loaded)

    def test_an_empty_hall_says_how_to_begin(self):
        assert "nearfar watch SITE.toml" in hall(machines=[], retained=[])
        assert "Nothing needs anybody." in alerts(rows=[])

    def test_trouble_comes_first_then_names_by_their_numbers(self):
        rows = [a_machine(id=i, name=f"pump-{i}") for i in (10, 9, 2)]
        found = re.findall(r'data-name="([^"]*)"', hall(machines=rows, retained=[an_alert(machine_id=9)]))
        assert found == ["pump-9", "pump-2", "pump-10"]

    def test_a_reader_is_offered_no_action(self):
        around = Around("Hall 3", Viewer("Wall", may_act=False))
        for html in (machine(around), alerts(around)):
            assert "data-act=" not in html
        assert "data-act=" in machine()
        assert "data-act=" in alerts()

    def test_the_number_of_alerts_that_wait_is_in_the_title(self):
        assert "<title>(4) Alerts" in alerts(Around("Hall 3", Viewer(), 4))
        assert "<title>Alerts" in alerts()

    def test_evidence_is_told_from_the_row_or_from_the_journal(self):
        entry = an_entry(what="evidence", content={"words": ["Loud."]})
        assert "<li>Loud.</li>" in alerts(journals={7: [entry]})
        assert "<li>Low.</li>" in alerts(rows=[an_alert(evidence='{"words": ["Low."]}')])
        assert "What speaks for it is being worked out." in alerts()
        assert "No evidence could be made: no space" in alerts(rows=[an_alert(evidence_error="no space")])

    def test_a_trend_of_long_ago_ends_where_it_ends(self):
        assert "data-until=" not in machine()
        assert f'data-until="{NOW - 1e6}"' in machine(row=a_machine(heard_until_at=NOW - 1e6))


class Parsed(HTMLParser):
    """Elements that were not closed, and all attributes."""

    VOID = frozenset(("meta", "link", "input", "br", "path", "rect", "circle"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"


class TestStatic:
    def test_only_what_is_listed_is_given(self):
        for name in ("../pages.py", "pages.py", "..", "", "service.css", "style.css/", "%2e%2e/pages.py"):
            assert pages.static(name) is None

    def test_the_style_sheet_has_the_colours_of_reports(self):
        style = pages.static("style.css")
        assert style is not None
        assert style.media_type.startswith("text/css")
        text = style.content.decode()
        assert text.startswith((pages.page.HERE / "style.css").read_text(encoding="utf-8"))
        used = set(re.findall(r"var\((--[\w-]+)", text))
        known = set(re.findall(r"(--[\w-]+):", text))
        assert used - {"--look"} <= known

    def test_no_script_makes_markup_of_data_and_each_import_is_there(self):
        for path in (pages.HERE / "static").glob("*.js"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|https?://(?!www.w3.org/)",
                text,
            ), path.name
            for name in re.findall(r'from "\./([\w.]+)"', text):
                assert pages.static(name) is not None, name

    def test_no_template_has_what_the_policy_forbids(self):
        for path in (pages.HERE / "templates").glob("*.j2"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\s(style|on\w+)=|https?:|\|\s*safe|autoescape false", text), path.name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.25, "0.25 s"),
        (9.95, "10 s"),
        (59.6, "1 min"),
        (3599.7, "1 h"),
        (3661, "1 h 1 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_lengths_of_time_in_words(value, expected):
    assert pages.seconds(value) == expected
