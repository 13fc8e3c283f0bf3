"""Watching that is started again: with files that were half heard, and in another way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import RATE
from watched import (  # noqa: F401
    TAPES,
    Logbook,
    Watching,
    evidence_is_made_here,
    live_site,
    site_of,
    sound,
    watch,
    write_site,
)

from nearfar.recordings import audio
from nearfar.watching.hearing import AFRESH
from nearfar.watching.listener import ANOTHER_CUT
from nearfar.watching.site import SinkSite, Site, SourceSite, of_one
from nearfar.watching.sources import SOURCES

HALF, LATE = "fan_20260301_100000.wav", "fan_20260301_090000.wav"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    write_site(folder)
    audio.write(folder / "recordings" / LATE, sound(3), RATE)
    return folder


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(SOURCES, "given", "watched:Given")
    monkeypatch.setitem(SOURCES, "test", "watched:Live")
    TAPES.clear()
    yield
    TAPES.clear()


def site_of_files(place: Path, state: Path, *names: str, until: float | None = None, **keys: object) -> Site:
    order = ":".join(str(place / "recordings" / name) for name in names)
    options = {"kind": "given", "order": order} | ({} if until is None else {"until": until})
    keys = {"false_alerts": "1 per 2 min", **keys}
    return of_one(place / "detector", SourceSite.of(options), name="fan", state=state, **keys)  # type: ignore[arg-type]


def hear_half(place: Path, state: Path) -> None:
    """The first ten seconds, in which an event begins."""
    with Watching(site_of_files(place, state, HALF, until=10.0)) as watching:
        watching.until("activated", condition="anomaly")


def test_a_late_older_file_ends_none_that_is_half_heard(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    hear_half(place, state)
    half = len(Logbook.of(state)["windows"])
    assert 8 <= half <= 10
    watch(site_of_files(place, state, LATE, HALF))
    found = Logbook.of(state)
    names = {row["id"]: row["name"] for row in found["recordings"]}
    heard = [(names[row["recording_id"]], row["number"]) for row in found["windows"]]
    late = [(LATE, number) for number in range(3)]
    assert heard == [(HALF, n) for n in range(half)] + late + [(HALF, n) for n in range(half, 20)]
    assert [(row["finished"], row["error"]) for row in found["recordings"]] == [(True, "")] * 2
    assert {row["name"]: row["seconds"] for row in found["recordings"]} == {HALF: 20.0, LATE: 3.0}
    assert not found.journal("no sound")
    event, *rest = found["events"]
    assert names[event["recording_id"]] == HALF
    assert json.loads(event["content"])["end"] == half
    samples, _ = audio.read(tmp_path / "s-sounds" / event["sound"])
    recorded, _ = audio.read(place / "recordings" / HALF)
    end = round(json.loads(event["content"])["peak_end"] * RATE)
    assert (samples == recorded[:, end - samples.shape[1] : end]).all()
    assert len(rest) <= 1


def test_a_file_that_is_gone_is_ended(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    (tmp_path / "recordings").mkdir()
    (tmp_path / "detector").symlink_to(place / "detector")
    for name in (HALF, LATE):
        (tmp_path / "recordings" / name).write_bytes((place / "recordings" / name).read_bytes())
    hear_half(tmp_path, state)
    (tmp_path / "recordings" / HALF).unlink()
    watch(site_of_files(tmp_path, state, LATE))
    row = next(row for row in Logbook.of(state)["recordings"] if row["name"] == HALF)
    assert row["finished"]
    assert row["seconds"] == row["next_window"]
    assert "interrupted" in row["error"]


def test_a_half_heard_file_does_not_go_on_in_other_windows(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    hear_half(place, state)
    before = len(Logbook.of(state)["windows"])
    watch(site_of_files(place, state, HALF, LATE, hop=0.5))
    found = Logbook.of(state)
    first, second = found["recordings"]
    assert (first["finished"], first["error"], first["seconds"]) == (True, ANOTHER_CUT, float(before))
    assert [row["number"] for row in found["windows"]] == [*range(before), *range(5)]
    assert second["finished"]
    (cleared,) = found.journal("cleared")
    assert cleared["content"]["reason"] == AFRESH


def play(tape: str, samples: audio.Samples) -> None:
    for start in range(0, samples.shape[1], RATE):
        TAPES[tape].put(samples[:, start : start + RATE])


def test_what_is_active_is_cleared_by_rules_that_begin_afresh(place: Path, tmp_path: Path) -> None:
    """Of the microphones, when they are well again; of the machine, at once, and the journal says why."""
    with Watching(live_site(place, tmp_path / "s.db", "fan")) as watching:
        watching.until("mode", mode="listening")
        play("fan", sound(76, faulty=range(4, 9), dead=range(9, 76)))
        watching.until("activated", condition="microphones")
    TAPES.clear()
    site = live_site(place, tmp_path / "s.db", "fan")
    machine = site.machines["fan"].model_copy(update={"false_alerts": "1 per 3 min"})
    with Watching(site.model_copy(update={"machines": {"fan": machine}})) as watching:
        watching.until("mode", mode="listening")
        play("fan", sound(5))
        watching.until("cleared", condition="microphones")
        watching.until("unsuppressed", condition="anomaly")
    cleared = Logbook.of(tmp_path / "s.db").journal("cleared")
    assert [(row["condition"], row["content"]["reason"]) for row in cleared] == [
        ("anomaly", AFRESH), ("microphones", ""),
    ]  # fmt: skip


def test_the_end_of_watching_is_told(place: Path, tmp_path: Path) -> None:
    site = site_of(place, tmp_path / "s.db", speed=5)
    sink = SinkSite.model_validate({"name": "lines", "kind": "jsonl", "path": str(tmp_path / "lines")})
    with Watching(site.model_copy(update={"sinks": {"lines": sink}})) as watching:
        watching.until("mode", mode="listening")
    told = [json.loads(line)["id"] for line in (tmp_path / "lines").read_text().splitlines()]
    rows = Logbook.of(tmp_path / "s.db").journal()
    assert told == [f"journal-{row['id']}" for row in rows]
    assert rows[-1]["content"]["mode"] == "stopped"
