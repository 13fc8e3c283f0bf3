"""The parts of watching, each alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql

from nearfar.logbook import heard, schema
from nearfar.logbook.database import Database
from nearfar.logbook.heard import Latest, MachineTold, WindowRow
from nearfar.recordings import audio
from nearfar.recordings.audio import Header
from nearfar.recordings.recording import Recording, Span
from nearfar.watching import finished, sounds
from nearfar.watching.book import Begun, Book, BookError, Noted, Ticket
from nearfar.watching.listener import Slots
from nearfar.watching.microphones import Microphones
from nearfar.watching.sounds import LiveSound

RATE = 100
TOLD = MachineTold("fan", "detector", "1", "spectral", 1.0, 1.0, 2.0, "1 per day")


# sounds


def pcm(rng: np.random.Generator, samples: int) -> audio.Samples:
    return (rng.integers(-32768, 32768, (2, samples)) / 32768).astype(np.float32)


@pytest.mark.parametrize(("window", "hop"), [(100, 100), (100, 30), (700, 700)])
@pytest.mark.parametrize("form", ["RAW/PCM_16", "WAV/FLOAT"])
def test_live_sound_is_the_end_of_what_came(
    rng: np.random.Generator, window: int, hop: int, form: str
) -> None:
    played = pcm(rng, 9000)
    live = LiveSound(Header(RATE, 2, 0, form), window)
    for start in range(0, len(played[0]) - window, hop):
        stop = start + window
        live.add(Span(start, stop, RATE), played[:, start:stop])
        found = live.cut(start - 500, stop)
        assert found is not None
        np.testing.assert_array_equal(found, played[:, max(0, start - 500) : stop])


def test_live_sound_begins_after_what_was_lost(rng: np.random.Generator) -> None:
    played = pcm(rng, 500)
    live = LiveSound(Header(RATE, 2, 0, "RAW/PCM_16"), 100)
    for start in range(0, 500, 100):
        live.add(Span(start, start + 100, RATE), None if start == 100 else played[:, start : start + 100])
    found = live.cut(0, 500)
    assert found is not None
    np.testing.assert_array_equal(found, played[:, 200:])
    assert live.cut(100, 200) is None
    assert live.cut(400, 600) is None


def test_a_sound_has_its_channels_where_they_were_chosen(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = pcm(rng, 300)
    name = sounds.write(tmp_path, "a", samples, Header(8000, 2, 0, "WAV/PCM_16"), (4, 2))
    assert name == "a.flac"
    whole, _ = audio.read(tmp_path / name)
    assert whole.shape == (4, 300)
    chosen = audio.read_recorded(Recording((tmp_path / name,), (4, 2)))
    np.testing.assert_array_equal(chosen.samples, samples)
    assert not whole[[0, 2]].any()


def test_what_flac_cannot_hold_is_wav(tmp_path: Path) -> None:
    loud = np.full((2, 300), 1.5, np.float32)
    name = sounds.write(tmp_path, "a", loud, Header(8000, 2, 0, "WAV/FLOAT"), ())
    assert name == "a.wav"
    np.testing.assert_array_equal(audio.read(tmp_path / name)[0], loud)


def test_the_oldest_sounds_are_removed(tmp_path: Path) -> None:
    names = ["b", "gone", "a", "c"]
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(100))
    assert sounds.remove_oldest(tmp_path, names, 200) == ["b", "gone"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "c"]
    assert sounds.remove_oldest(tmp_path, ["a", "c"], 200) == []


def test_long_names_and_strange_ones_stay_apart() -> None:
    names = ["a b", "a_b", "x" * 300 + "1", "x" * 300 + "2", "..", "ä"]
    found = {sounds.name_of(name, "alert", 0.0) for name in names}
    assert len(found) == len(names)
    assert all(len(one) < 200 and "/" not in one and not one.startswith(".") for one in found)


# microphones


@pytest.mark.parametrize("seed", range(20))
def test_microphones_are_as_their_definition_says(seed: int) -> None:
    """Against a twin that looks at all windows; restored at a random one, nothing changes."""
    rng = np.random.default_rng(seed)
    usable = np.repeat(rng.random(40) < 0.5, rng.integers(1, 12, 40)).tolist()
    hop = float(rng.choice([5.0, 20.0, 61.0]))
    microphones, broken, said = Microphones(), False, []
    for number, one in enumerate(usable):
        if number == len(usable) // 2:
            again = Microphones()
            again.restore(microphones.state())
            microphones = again
        said.append(microphones.after(one, number * hop, hop))
        bad = 0
        while bad <= number and not usable[number - bad]:
            bad += 1
        expected = None
        if not broken and bad >= 3 and bad * hop >= 60:
            broken, expected = True, "broken"
            assert microphones.since == (number - bad + 1) * hop
        elif broken and number >= 2 and all(usable[number - 2 : number + 1]):
            broken, expected = False, "well"
        assert said[-1] == expected
    assert "broken" in said


# the book


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database.open(tmp_path / "s.db")
    yield found
    found.close()


class Writing:
    """A book that is open, and how often it has committed."""

    def __init__(self, database: Database) -> None:
        self.commits, self.failed = 0, threading.Event()
        self.book = Book(database, written=self._written, failed=self.failed.set)
        self.book.start()

    def _written(self, _is_urgent: bool) -> None:
        self.commits += 1


@pytest.fixture
def writing(database: Database) -> Iterator[Writing]:
    found = Writing(database)
    yield found
    found.book.close()


def noted(number: int, **more: Any) -> Noted:
    """A window of a recording that goes on."""
    row = WindowRow(number, float(number), 1.0, 0.5, 0.5, "normal", 0.0)
    latest = Latest(number + 1.0, 0.5, "normal", 0.0, True)
    begun = Begun("key", "name", None, 0.0, RATE, 2)
    return Noted(begun, number + 1, {"windows": number + 1}, latest, [row], **more)


def opened(book: Book) -> Ticket:
    return Ticket(book.do(lambda c, now: heard.open_machine(c, TOLD, now=now)).id)


def rows(database: Database, table: sql.Table) -> list[dict[str, Any]]:
    with database.reading() as c:
        return [dict(row) for row in c.execute(sql.select(table)).mappings()]


def test_windows_are_written_in_order_and_together(database: Database, writing: Writing) -> None:
    ticket = opened(writing.book)
    before = writing.commits
    for number in range(100):
        writing.book.put(ticket, noted(number))
    writing.book.do(lambda _c, _now: None)
    assert [row["number"] for row in rows(database, schema.windows)] == list(range(100))
    assert rows(database, schema.recordings)[0]["next_window"] == 100
    assert writing.commits - before < 50


def test_what_cannot_be_written_stops_its_own_ticket_only(database: Database, writing: Writing) -> None:
    book = writing.book
    ticket = opened(book)
    other = Ticket(book.do(lambda c, now: heard.open_machine(c, MachineTold("pump", *_rest()), now=now)).id)
    book.put(ticket, noted(0))
    book.do(lambda _c, _now: None)
    begin = threading.Event()
    book_waits = threading.Thread(target=lambda: book.do(lambda _c, _now: begin.wait()))
    book_waits.start()
    for number in (0, 1):  # 0 is there already
        book.put(ticket, noted(number))
        book.put(other, noted(number))
    begin.set()
    book_waits.join()
    book.do(lambda _c, _now: None)
    found = [(row["machine_id"], row["number"]) for row in rows(database, schema.windows)]
    assert found == [(ticket.machine_id, 0), (other.machine_id, 0), (other.machine_id, 1)]
    with pytest.raises(sql.exc.IntegrityError, match="UNIQUE"):
        book.put(ticket, noted(2))
    again = Ticket(ticket.machine_id)
    book.put(again, noted(1))
    book.do(lambda _c, _now: None)
    assert not writing.failed.is_set()
    assert (ticket.machine_id, 1) in [
        (row["machine_id"], row["number"]) for row in rows(database, schema.windows)
    ]


def _rest() -> tuple[Any, ...]:
    return ("detector", "1", "spectral", 1.0, 1.0, 2.0, "1 per day")


def test_an_error_of_what_is_asked_is_given_back(writing: Writing) -> None:
    def fail(_c: sql.Connection, _now: float) -> None:
        raise LookupError("no such alert")

    with pytest.raises(LookupError, match="no such alert"):
        writing.book.do(fail)
    assert writing.book.do(lambda _c, _now: 17) == 17


def test_when_nothing_can_be_written_everybody_is_told(
    database: Database, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = opened(writing.book)

    def full() -> None:
        raise OSError(28, "No space left on device", "s.db")

    monkeypatch.setattr(database, "writing", full)
    with pytest.raises(BookError, match="No space left on device"):
        writing.book.do(lambda _c, _now: None)
    assert writing.failed.wait(10)
    with pytest.raises(BookError, match="No space left on device"):
        writing.book.put(ticket, noted(0))


def test_a_server_that_does_not_answer_is_asked_again(
    database: Database, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfar.watching import book

    monkeypatch.setattr(book, "AGAIN_S", 0.01)
    real, calls = database.writing, []

    def away() -> Any:
        calls.append(1)
        if len(calls) < 4:
            raise ConnectionError("the server does not answer")
        return real()

    monkeypatch.setattr(database, "writing", away)
    assert writing.book.do(lambda _c, _now: 17) == 17
    assert len(calls) == 4


def test_a_server_that_is_away_does_not_keep_watching_from_its_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, failed = threading.Event(), threading.Event()
    book = Book(database, written=lambda _: None, failed=failed.set, stopping=stop.is_set)
    book.start()

    def away() -> None:
        stop.set()
        raise ConnectionError("the server does not answer")

    monkeypatch.setattr(database, "writing", away)
    with pytest.raises(BookError, match="the server does not answer"):
        book.do(lambda _c, _now: None)
    assert failed.wait(10)
    book.close()


def test_a_book_that_is_closed_takes_nothing(database: Database) -> None:
    book = Writing(database).book
    book.close()
    with pytest.raises(BookError, match="watching ends"):
        book.do(lambda _c, _now: None)


# what is finished


def test_finished_recordings_are_those_that_were_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "MOST", 5)
    known, asked = {f"{number}.wav" for number in range(0, 300, 3)}, []

    def is_known(key: str) -> bool:
        asked.append(key)
        return key in known

    found = finished.Finished(known, is_known)
    keys = [f"{number}.wav" for number in range(-5, 305)] + ["", "\udcff"]
    assert [key for key in keys if key in found] == [key for key in keys if key in known]
    assert not asked
    for number in range(1, 11, 2):
        known.add(f"{number}.wav")
        found.add(f"{number}.wav")
    assert [key for key in keys if key in found] == [key for key in keys if key in known]
    assert not asked  # so 100,000 files at a start are no 100,000 questions
    found.add("one more")
    known.add("one more")
    assert [key for key in keys if key in found] == [key for key in keys if key in known]
    assert asked


# slots


def test_who_sleeps_in_a_slot_gives_it_away() -> None:
    slots, stopping, inside = Slots(1, threading.Event()), threading.Event(), threading.Event()

    def other() -> None:
        with slots.one():
            inside.set()
            stopping.wait(10)

    with slots.one():
        thread = threading.Thread(target=other)
        thread.start()
        assert not inside.wait(0.05)
        while not inside.is_set():
            threading.Timer(0.1, stopping.set).start()
            slots.sleep(0.01)
        assert stopping.is_set()  # it was taken again only when the other one had left it
    thread.join()
