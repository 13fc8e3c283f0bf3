"""The logbook by HTTP: what is asked, what is done, what is told as it happens. All of it by a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

import served  # noqa: E402  # needs them
from served import ACT, ALERT_SOUND, BEGAN, FILE, Served, until  # noqa: E402

from nearfar.detector.fitted import Detector  # noqa: E402
from nearfar.evidence.explanation import explain  # noqa: E402
from nearfar.logbook import asked, conditions, heard  # noqa: E402
from nearfar.recordings import audio  # noqa: E402
from nearfar.serving import answers, changes, run  # noqa: E402

MOST_BEATS = 7  # a minute


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.the_detector(tmp_path_factory)


@pytest.fixture
def hall(detector: Path, tmp_path: Path) -> Iterator[Served]:
    made = served.filled(tmp_path, detector)
    yield made
    made.database.close()


@pytest.fixture
def api(hall: Served) -> Iterator[Any]:
    """One who asks the service of ``hall``."""
    with served.running(hall.app()) as address, served.client(address) as client:
        yield client


def act(api: Any, path: str, **body: Any) -> Any:
    return api.post(f"/api/{path}", json=body, headers=ACT)


@pytest.fixture(scope="module")
def unchanged(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """As ``api``, of a logbook that no test changes."""
    made = served.filled(tmp_path_factory.mktemp("unchanged"), detector)
    with served.running(made.app()) as address, served.client(address) as client:
        yield client
    made.database.close()


# What is asked


def test_every_answer_is_what_openapi_says(unchanged: Any) -> None:
    """Each answer is valid by the schema that describes it, and has no key that the schema does not name."""
    schema = unchanged.get("/openapi.json").json()
    asked_for = {
        "/api/machines": "/api/machines", "/api/machines/{name}": "/api/machines/fan%202",
        "/api/machines/{name}/scores": "/api/machines/pump/scores?points=7",
        "/api/machines/{name}/events": "/api/machines/pump/events", "/api/events/{number}": "/api/events/1",
        "/api/alerts": "/api/alerts?state=all", "/api/alerts/{number}": "/api/alerts/1",
        "/api/journal": "/api/journal", "/api/machines/{name}/learn": "/api/machines/pump/learn",
    }  # fmt: skip
    for route, path in asked_for.items():
        answer = unchanged.get(path)
        assert answer.status_code == 200, path
        told = schema["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        model = getattr(answers, told["$ref"].rpartition("/")[2])
        assert model.model_validate(answer.json()).model_dump(mode="json") == answer.json(), path
    described = {path for path in schema["paths"] if "get" in schema["paths"][path]}
    assert described - set(asked_for) == {
        "/api/changes", "/api/alerts/{number}/sound", "/api/events/{number}/sound",
        "/api/alerts/{number}/evidence", "/api/events/{number}/evidence",
    }  # fmt: skip


def test_a_machine_is_told_as_the_logbook_has_it(api: Any, hall: Served) -> None:
    with hall.database.reading() as c:
        row = asked.machine(c, "pump")
    assert row is not None
    told = api.get("/api/machines/pump").json()
    for key in (
        "name",
        "score",
        "threshold",
        "mode",
        "mode_since_at",
        "heard_until_at",
        "running",
        "unacknowledged",
    ):
        assert told[key] == row[key]
    assert [alert["condition"] for alert in told["alerts"]] == ["no sound", "anomaly"]
    assert "steps" not in told
    assert "detector" not in told, "folders of the server are nobody's business"


def test_scores_are_thinned_and_keep_their_peak(unchanged: Any) -> None:
    every = unchanged.get("/api/machines/pump/scores").json()["points"]
    few = unchanged.get("/api/machines/pump/scores", params={"points": 5}).json()["points"]
    assert len(every) == 60
    assert len(few) <= 5
    assert max(point["highest"] for point in few) == max(point["highest"] for point in every) == 7.0
    part = unchanged.get("/api/machines/pump/scores", params={"begin": BEGAN + 10, "end": BEGAN + 20}).json()[
        "points"
    ]
    assert [point["begins_at"] for point in part] == [BEGAN + 10 + i for i in range(10)]


def test_lists_are_read_page_by_page(unchanged: Any) -> None:
    first = unchanged.get("/api/alerts", params={"most": 1}).json()
    second = unchanged.get("/api/alerts", params={"most": 1, "before": first["before"]}).json()
    last = unchanged.get("/api/alerts", params={"most": 1, "before": second["before"]}).json()
    assert [each["id"] for each in first["alerts"] + second["alerts"]] == [2, 1]
    assert last == {"alerts": [], "before": None}
    rows = unchanged.get("/api/journal", params={"most": 3}).json()["entries"]
    more = unchanged.get("/api/journal", params={"after": rows[-1]["id"]}).json()["entries"]
    ids = [row["id"] for row in rows + more]
    assert ids == sorted(set(ids))
    assert (len(ids), {row["what"] for row in rows + more}) == (7, {"detector", "mode", "event", "activated"})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("machines/none", 404), ("machines/none/scores", 404), ("machines/%00", 404), ("alerts/99", 404),
        ("alerts/0", 422), ("alerts/9007199254740993", 422), ("events/x", 422), ("events/99/sound", 404),
        ("alerts/2/sound", 404), ("alerts/2/evidence", 404), ("machines/pump/scores?points=0", 422),
        ("machines/pump/scores?begin=nan", 422), ("machines/pump/scores?end=1e999", 422), ("alerts?state=no", 422),
        ("alerts?machine=none", 404), ("journal?most=100000", 422), ("nothing", 404),
        ("machines/..%2F..%2Fetc", 404), ("changes?after=-1", 422),
    ],
)  # fmt: skip
def test_what_is_not_there_or_makes_no_sense_is_refused_in_words(
    unchanged: Any, path: str, status: int
) -> None:
    answer = unchanged.get(f"/api/{path}")
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "hint"}
    assert answer.json()["error"]


def test_a_sound_is_given_in_parts(api: Any, hall: Served) -> None:
    content = (Path(hall.site.sounds) / ALERT_SOUND).read_bytes()
    whole = api.get("/api/alerts/1/sound")
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, "audio/flac", content)
    part = api.get("/api/alerts/1/sound", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    beyond = api.get("/api/alerts/1/sound", headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416


def test_no_name_in_the_logbook_leads_out_of_the_folder_of_sounds(api: Any, hall: Served) -> None:
    """Neither a path nor a link: even a logbook that somebody else wrote gives no other file."""
    secret = Path(hall.site.sounds).parent / "secret.flac"
    secret.write_bytes(b"secret")
    (Path(hall.site.sounds) / "link.flac").symlink_to(secret)
    for name in ("../secret.flac", str(secret), "link.flac", "", ".", ".."):
        with hall.database.writing() as c:
            c.exec_driver_sql("UPDATE alerts SET sound = ? WHERE id = 1", (name,))
        answer = api.get("/api/alerts/1/sound")
        assert answer.status_code == 404, name
        assert b"secret" not in answer.content


# What is done


def test_an_alert_is_acknowledged_once_and_says_by_whom(api: Any, hall: Served) -> None:
    assert act(api, "alerts/1/acknowledge", by="anna", comment="I go and look").status_code == 200
    told = api.get("/api/alerts/1").json()
    assert (told["acked"], told["retained"]) == (True, True)
    entry = told["journal"][-1]
    assert (entry["what"], entry["by"], entry["comment"], entry["at"]) == (
        "acknowledged", "anna", "I go and look", hall.now[0],
    )  # fmt: skip
    again = act(api, "alerts/1/acknowledge", by="bert")
    assert again.status_code == 409
    assert again.json()["code"] == "Bad_ConditionBranchAlreadyAcked"
    assert api.get("/api/alerts/1").json() == told


def test_a_condition_is_shelved_for_hours_and_returns(api: Any, hall: Served) -> None:
    def shelving() -> tuple[str, float | None]:
        state = next(
            each
            for each in api.get("/api/machines/pump").json()["conditions"]
            if each["condition"] == "no sound"
        )
        return state["shelving"], state["shelved_until_at"]

    place = "machines/pump/conditions/no-sound"
    assert act(api, f"{place}/shelve", by="anna", hours=2).status_code == 200
    assert shelving() == ("timed", hall.now[0] + 7200)
    assert act(api, f"{place}/unshelve", by="anna").status_code == 200
    assert shelving() == ("unshelved", None)
    assert act(api, f"{place}/shelve", by="anna", one_shot=True).status_code == 200
    assert shelving()[0] == "one shot"


def test_a_condition_is_taken_out_of_service_and_back(api: Any) -> None:
    place = "machines/fan%202/conditions/anomaly"
    assert act(api, f"{place}/out-of-service", by="anna", comment="belt").status_code == 200
    assert api.get("/api/machines/fan%202").json()["conditions"][0]["out_of_service"] is True
    assert act(api, f"{place}/out-of-service", by="anna").status_code == 409
    assert act(api, f"{place}/in-service", by="anna").status_code == 200
    assert api.get("/api/machines/fan%202").json()["conditions"][0]["out_of_service"] is False


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("alerts/1/acknowledge", {}, 422),  # nobody does it
        ("alerts/1/acknowledge", {"by": "a", "name": "b"}, 422),
        ("alerts/1/acknowledge", {"by": "a\x00"}, 422),
        ("alerts/1/acknowledge", {"by": "a" * 101}, 422),
        ("alerts/1/acknowledge", {"by": "two\nlines"}, 422),
        ("alerts/1/comment", {"by": "a"}, 422),
        ("alerts/1/comment", {"by": "a", "comment": "\ud800"}, 422),
        ("alerts/99/acknowledge", {"by": "a"}, 404),
        ("events/99/normal", {"by": "a"}, 404),
        ("alerts/2/normal", {"by": "a"}, 409),  # it has no sound
        ("machines/none/conditions/anomaly/shelve", {"by": "a", "hours": 1}, 404),
        ("machines/pump/conditions/none/shelve", {"by": "a", "hours": 1}, 422),
        ("machines/pump/conditions/anomaly/shelve", {"by": "a"}, 422),
        ("machines/pump/conditions/anomaly/shelve", {"by": "a", "hours": 1, "one_shot": True}, 422),
        ("machines/pump/conditions/anomaly/shelve", {"by": "a", "hours": 1e6}, 422),
        ("machines/pump/conditions/anomaly/shelve", {"by": "a", "hours": -1}, 422),
        ("machines/pump/learn", {"by": "a"}, 409),  # nothing is marked
    ],
)  # fmt: skip
def test_an_action_that_makes_no_sense_changes_nothing(
    unchanged: Any, path: str, body: dict[str, Any], status: int
) -> None:
    before = unchanged.get("/api/journal").json()
    answer = unchanged.post(f"/api/{path}", content=json.dumps(body), headers=ACT)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    assert unchanged.get("/api/journal").json() == before


@pytest.mark.parametrize(
    "body", ["{", "[" * 60_000, '{"by": 1}', "null", '"x"', "", '{"by": "a"} {}', "\ufeff{}"]
)
def test_a_body_that_is_no_action_is_refused(unchanged: Any, body: str) -> None:
    answer = unchanged.post("/api/alerts/1/acknowledge", content=body.encode(), headers=ACT)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


# What a detector says of a recording


def test_a_verdict_is_that_of_the_library(unchanged: Any, detector: Path) -> None:
    path = served.recording_of(detector)
    told = unchanged.post("/api/machines/pump/verdict", content=path.read_bytes(), headers=FILE)
    expected = explain(Detector.load(detector), path).content()
    assert told.status_code == 200
    for key in ("score", "p_value", "decision", "words", "reasons", "threshold", "bands"):
        assert told.json()[key] == expected[key]
    assert told.json()["recording"] == "recording.wav"


def test_a_verdict_as_a_page_runs_no_script_but_its_own(unchanged: Any, detector: Path) -> None:
    content = served.recording_of(detector).read_bytes()
    page = unchanged.post("/api/machines/pump/verdict?page=1", content=content, headers=FILE)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "script-src 'sha256-" in policy
    assert "sandbox allow-scripts" in policy
    assert "unsafe-inline" not in policy
    assert "<audio" in page.text


def test_evidence_of_an_alert_is_of_the_end_of_its_sound(api: Any, hall: Served, detector: Path) -> None:
    """The sound has the window that alerted at its end, and before it what led there."""
    page = api.get("/api/alerts/1/evidence")
    assert page.status_code == 200
    samples, rate = audio.read(Path(hall.site.sounds) / ALERT_SOUND)
    score = Detector.load(detector).score(samples[:, -rate:], rate).score
    assert f"{score:.4g}" in page.text
    assert api.get("/api/events/1/evidence").status_code == 200


def test_what_was_normal_is_learnt_once(api: Any, hall: Served) -> None:
    before = Detector.load(hall.site.machines["pump"].detector)
    assert act(api, "alerts/1/normal", by="anna", comment="the lid was open").status_code == 200
    assert api.get("/api/alerts/1").json()["journal"][-1]["comment"] == "the lid was open"
    assert act(api, "events/1/normal", by="anna").status_code == 200
    assert api.get("/api/machines/pump").json()["normals_to_learn"] == 2
    begun = act(api, "machines/pump/learn", by="anna")
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    assert act(api, "machines/pump/learn", by="bert").status_code == 409
    until(lambda: api.get("/api/machines/pump/learn").json()["state"] != "running")
    assert api.get("/api/machines/pump/learn").json() == {
        "state": "done", "told": "It has learnt from 2 recordings that were marked as normal.",
    }  # fmt: skip
    assert api.get("/api/machines/pump").json()["normals_to_learn"] == 0
    after = Detector.load(hall.site.machines["pump"].detector)
    assert len(after.history) == len(before.history) + 1
    entry = api.get("/api/journal").json()["entries"][-1]
    assert (entry["what"], entry["by"]) == ("detector", "anna")
    assert act(api, "machines/pump/learn", by="anna").status_code == 409


# What is told as it happens


def next_event(lines: Iterator[str]) -> dict[str, Any]:
    """The next event that has a name; it waits for a few heartbeats, not for ever."""
    found: dict[str, Any] = {}
    beats = 0
    for line in lines:
        beats += line.startswith(":")
        assert beats < MOST_BEATS, "nothing was told"
        key, _, value = line.partition(": ")
        if line == "" and "event" in found:
            return {**found, "data": json.loads(found["data"])}
        if line and key:
            found[key] = value
    raise AssertionError("the stream ended")


def test_an_alert_is_told_as_it_happens(api: Any, hall: Served) -> None:
    with api.stream("GET", "/api/changes") as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        with hall.database.writing() as c:
            conditions.activate(
                c, 2, "anomaly", at=BEGAN + 50, since=BEGAN + 40, message="it <i>rattles</i>", now=hall.now[0]
            )
        told = next_event(lines)
        assert told["event"] == "alert"
        assert {k: told["data"][k] for k in ("machine", "what", "condition", "message")} == {
            "machine": "fan 2", "what": "activated", "condition": "anomaly", "message": "it <i>rattles</i>",
        }  # fmt: skip
        assert int(told["id"]) == told["data"]["id"]
        act(api, "alerts/3/acknowledge", by="anna")
        assert next_event(lines)["data"]["what"] == "acknowledged"


def test_what_could_not_be_read_once_is_told_all_the_same(
    api: Any, hall: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()

    def once(connection: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError("the disk did not answer")
        return state(connection)

    state = changes._state
    with api.stream("GET", "/api/changes") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        monkeypatch.setattr(changes, "_state", once)
        with hall.database.writing() as c:
            conditions.activate(c, 2, "anomaly", at=BEGAN, since=BEGAN, message="it rattles", now=hall.now[0])
        assert next_event(lines)["data"]["message"] == "it rattles"
    assert failed.is_set()
    assert "the logbook could not be read; it is tried again" in caplog.text


def test_the_first_window_after_a_page_was_opened_is_told(api: Any, hall: Served) -> None:
    with api.stream("GET", "/api/changes") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        with hall.database.writing() as c:
            heard.add_windows(c, 2, 2, [served.window(60, 2.0)])
            latest = heard.Latest(BEGAN + 61, 2.0, "normal", 0.0, True)
            heard.save_progress(c, 2, 2, next_window=61, steps={}, latest=latest, now=hall.now[0])
        found = next_event(lines)
        assert (found["event"], found["data"]) == ("machine", {"machine": "fan 2", "what": "heard"})


def test_whoever_was_away_is_told_what_was_missed(api: Any) -> None:
    for i in range(3):
        act(api, "alerts/1/comment", by="anna", comment=f"comment {i}")
    rows = api.get("/api/journal").json()["entries"]
    after = rows[-3]["id"]
    with api.stream("GET", "/api/changes", headers={"Last-Event-ID": str(after)}) as stream:
        lines = stream.iter_lines()
        told = [next_event(lines), next_event(lines)]
    assert [each["data"]["comment"] for each in told] == ["comment 1", "comment 2"]


def test_whoever_missed_too_much_is_told_to_load_anew(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.serving.changes.MOST_MISSED", 2)
    with api.stream("GET", "/api/changes", params={"after": 0}) as stream:
        assert next_event(stream.iter_lines())["event"] == "lost"


def test_one_who_reads_nothing_is_cut_off_and_others_are_not(hall: Served) -> None:
    with (
        served.running(hall.app(follower_behind=3, followers=1)) as address,
        served.client(address) as api,
        api.stream("GET", "/api/changes") as first,
    ):
        lines = first.iter_lines()
        next(lines)
        assert api.get("/api/changes").status_code == 429
        assert api.get("/api/changes").headers["retry-after"]
        act(api, "alerts/1/comment", by="a", comment="x")
        assert next_event(lines)["data"]["what"] == "commented"


def test_answers_follow_what_another_process_writes(api: Any, hall: Served) -> None:
    """They are kept until the logbook changes, whoever changes it."""
    assert api.get("/api/alerts").json() == api.get("/api/alerts").json()
    with hall.database.writing() as c:
        conditions.activate(c, 2, "anomaly", at=BEGAN, since=BEGAN, message="x", now=hall.now[0])
    until(lambda: len(api.get("/api/alerts").json()["alerts"]) == 3)


def test_a_watcher_that_was_killed_is_said_at_once(api: Any, hall: Served) -> None:
    """Its machines are not normal: nobody knows how they are. One that was stopped has said so itself."""
    with hall.database.writing() as c:
        heard.set_mode(c, 1, "stopped", at=hall.now[0], now=hall.now[0])
    with api.stream("GET", "/api/changes") as stream:
        lines = stream.iter_lines()
        next(lines)
        hall.is_watched = False
        assert next_event(lines)["data"] == {"what": "not watched"}
    modes = {row["name"]: row["mode"] for row in api.get("/api/machines").json()["machines"]}
    assert modes == {"pump": "stopped", "fan 2": "lost"}
    assert api.get("/api/machines/fan%202").json()["mode"] == "lost"
    for path in ("/", "/machines/fan%202"):
        assert "Nothing is heard" in api.get(path).text
    assert "Nothing is heard" not in api.get("/machines/pump").text
    hall.is_watched = True
    until(lambda: api.get("/api/machines/fan%202").json()["mode"] == "listening")


# The pages, and the service as a whole


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/api/../../etc/passwd", 404),
        ("/machines/", 404),
        ("/alerts?machine=nobody", 404),
        ("/alerts?state=x", 422),
        ("/alerts?before=x", 422),
    ],
)
def test_whoever_looks_for_a_page_is_told_by_a_page(unchanged: Any, path: str, status: int) -> None:
    found = unchanged.get(path)
    assert (found.status_code, found.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "To the hall" in found.text
    assert unchanged.get("/api/nothing").json()["error"] == "not found"


def test_pages_are_asked_for_again_and_not_sent_again(unchanged: Any) -> None:
    for path in ("/", "/machines/pump", "/alerts?state=all", "/static/style.css"):
        first = unchanged.get(path)
        assert first.status_code == 200
        assert first.headers["cache-control"] == "no-cache"
        again = unchanged.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
    assert "<b>pump</b>" not in unchanged.get("/alerts").text
    assert unchanged.get("/static/..%2Fpages.py").status_code == 404


def test_metrics_are_those_of_the_logbook(unchanged: Any) -> None:
    pytest.importorskip("prometheus_client")
    told = unchanged.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    assert 'machine="pump"' in told.text


def test_the_service_ends_while_somebody_follows(hall: Served) -> None:
    listening, server = run.listen("127.0.0.1", 0), run.server_of(hall.app())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    with (
        served.client(run.address_of(listening)) as api,
        api.stream("GET", "/api/changes") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        server.should_exit = True
        for _ in lines:
            pass
        thread.join(30.0)
        assert not thread.is_alive()
