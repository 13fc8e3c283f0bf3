"""Sound between threads, and the clocks of sender and computer, against twins that count every sample."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from ears import PATIENCE, as_samples, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Block, Lost, length_of
from nearfar.watching.sources import Arrival, Ear, SourceError
from nearfar.watching.sources import live as live_module
from nearfar.watching.sources.buffered import MOST_RECORDINGS, Beginning, Inbox, Incoming
from nearfar.watching.sources.live import Sending, arrivals_of

RATE = 1000


def never() -> bool:
    return False


def beginning(at: float = 0.0) -> Beginning:
    return Beginning("the sender", at, RATE, 2, "RAW/s16le")


def taken(inbox: Inbox) -> list[tuple[Incoming, list[Block]]]:
    """All recordings of an inbox that is closed, with their blocks."""
    return [(one, list(inbox.blocks(one, [0, 1], never))) for one in inbox.recordings(never)]


def joined(blocks: list[Block]) -> np.ndarray:
    return np.concatenate(
        [np.full((2, b.samples), np.nan, np.float32) if isinstance(b, Lost) else b for b in blocks], axis=1
    )


@given(st.lists(st.integers(1, 700), max_size=30), st.integers(1, 3), st.integers(100, 3000))
def test_what_does_not_fit_is_lost_from_the_oldest_on(sizes: list[int], recordings: int, room: int) -> None:
    """The twin keeps all, and forgets the oldest samples until the rest fits."""
    inbox = Inbox(room / RATE)
    frames = noise(sum(sizes))
    done, ends = 0, []
    for number in range(recordings):
        inbox.begin(beginning(number))
        for size in sizes[number::recordings]:
            inbox.add(frames[done : done + size])
            done += size
        ends.append(done)
    inbox.close()
    found = [joined(blocks) if blocks else np.empty((2, 0)) for _, blocks in taken(inbox)]
    assert [one.shape[1] for one in found] == list(np.diff([0, *ends]))
    expected = as_samples(frames)
    expected[:, : max(0, done - room)] = np.nan
    np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)


def test_what_is_lost_says_why_and_is_little_to_keep() -> None:
    inbox = Inbox(1.0)
    inbox.begin(beginning())
    for _ in range(5000):
        inbox.add(noise(7))
    assert len(inbox._recordings[0].parts) < 60
    inbox.close()
    ((_, blocks),) = taken(inbox)
    assert isinstance(blocks[0], Lost)
    assert sum(map(length_of, blocks)) == 35_000
    assert "no more than 1 s of it may wait" in str(blocks[0].error)
    assert blocks[0].samples >= 34_000


def test_a_sender_that_can_wait_is_made_to_and_nothing_is_lost() -> None:
    inbox, frames = Inbox(0.5, sender_waits=True), noise(20_000)

    def send() -> None:
        inbox.begin(beginning())
        for start in range(0, len(frames), 300):
            inbox.add(frames[start : start + 300])
        inbox.close()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    ((_, blocks),) = taken(inbox)
    np.testing.assert_array_equal(joined(blocks), as_samples(frames))
    sender.join(PATIENCE)
    assert not sender.is_alive()


def test_a_recording_that_is_left_goes_on_as_another_with_the_right_time() -> None:
    inbox, frames = Inbox(60.0), noise(900)
    inbox.begin(beginning(100.0))
    for start in range(0, 900, 300):
        inbox.add(frames[start : start + 300])
    recordings = inbox.recordings(never)
    first = next(recordings)
    blocks = inbox.blocks(first, [0, 1], never)
    np.testing.assert_array_equal(next(blocks), as_samples(frames[:300]))
    second = next(recordings)
    assert second.beginning.began_at == pytest.approx(100.3)
    assert list(blocks) == []
    inbox.close()
    np.testing.assert_array_equal(joined(list(inbox.blocks(second, [0, 1], never))), as_samples(frames[300:]))
    assert list(recordings) == []


def test_an_error_comes_after_what_was_heard() -> None:
    inbox = Inbox(60.0)
    inbox.begin(beginning())
    inbox.add(noise(10))
    inbox.close(SourceError("it is gone"))
    recordings = inbox.recordings(never)
    assert joined(list(inbox.blocks(next(recordings), [0, 1], never))).shape == (2, 10)
    with pytest.raises(SourceError, match="it is gone"):
        next(recordings)


def test_only_so_many_recordings_wait() -> None:
    inbox = Inbox(60.0)
    for number in range(MOST_RECORDINGS):
        inbox.begin(beginning(number))
        inbox.end()
    another = threading.Thread(target=lambda: (inbox.begin(beginning(99.0)), inbox.close()), daemon=True)
    another.start()
    another.join(0.1)
    assert another.is_alive(), "it does not wait"
    assert [one.beginning.began_at for one, _ in taken(inbox)] == [*range(MOST_RECORDINGS), 99.0]


def test_channels_that_are_not_there_are_told_once_for_a_sender() -> None:
    inbox = Inbox(60.0)
    inbox.begin(beginning(7.0))
    for _ in range(10):
        inbox.add(noise(10))
    ear = Ear(lambda _: False, never, lambda _: None, lambda: 0.0, selected=(3, 1))
    arrivals = arrivals_of(inbox, ear, (), "tcp")
    arrival = next(arrivals)
    assert arrival.stream is None
    assert "no channel 3; it has 2 channels" in arrival.error
    inbox.add(noise(10))
    inbox.begin(beginning(9.0))
    inbox.close()
    assert [one.began_at for one in arrivals] == [9.0]


def test_an_inbox_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"buffer=0: must be above 0, the seconds of sound that may wait"):
        Inbox(0)


@dataclass
class Twin:
    """A sender whose clock is wrong, heard by a computer whose clock is right."""

    at: float = 1_000_000.0
    inbox: Inbox = field(default_factory=lambda: Inbox(1e9))
    heard_at: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ear = Ear(
            lambda _: False, never, lambda _: None, lambda: self.at, lambda at: self.heard_at.append(at)
        )
        self.sending = Sending(self.inbox, self.ear, "the sender", RATE, 2, "RAW/s16le", True, never)

    def arrivals(self) -> list[tuple[Arrival, int]]:
        self.inbox.close()
        arrivals = arrivals_of(self.inbox, self.ear, (), "tcp")
        return [(one, sum(map(length_of, one.stream.recorded.blocks(0)))) for one in arrivals if one.stream]


@settings(max_examples=12)
@given(st.floats(-600, 600), st.integers(0, 2**32 - 1))
def test_times_stay_right_while_clocks_part(ppm: float, seed: int) -> None:
    """Four hours, with a network that delays by up to 0.3 s: no sample is ever said to be more than 1.1 s off."""
    rng, twin = np.random.default_rng(seed), Twin()
    seconds, true, worst = 5.0, twin.at, 0.0
    part = np.zeros((int(seconds * RATE), 2), np.int16)
    for _ in range(int(4 * 3600 / seconds)):
        true += seconds * (1 - ppm * 1e-6)
        twin.at = true + rng.uniform(0, 0.3)
        twin.sending.hear(part)
        worst = max(worst, abs(twin.heard_at[-1] - true))
        twin.inbox._recordings[-1].parts.clear()
    drift = abs(ppm) * 1e-6 * 4 * 3600
    cuts = len(twin.inbox._recordings) - 1
    assert worst < 1.45
    assert cuts <= drift / 0.7 + 1
    assert cuts >= drift / 1.4 - 1


def test_a_sender_that_loses_sound_without_a_word_is_put_right_within_two_minutes() -> None:
    twin = Twin()
    part = np.zeros((RATE // 2, 2), np.int16)
    for number in range(1200):
        twin.at += 0.5
        if not 200 <= number < 206:  # 3 s are lost
            twin.sending.hear(part)
    (first, before), (second, after) = twin.arrivals()
    assert before + after == 1194 * RATE // 2
    assert before <= 103 * RATE + 120 * RATE
    assert second.began_at == pytest.approx(first.began_at + before / RATE + 3)
    assert twin.heard_at[-1] == pytest.approx(twin.at)


def test_sound_that_waited_in_the_network_and_comes_late_is_no_reason() -> None:
    twin = Twin()
    part = np.zeros((RATE // 2, 2), np.int16)
    for number in range(1200):
        twin.at += 0.5
        if not 50 <= number % 150 < 62:  # for 6 s, nothing
            twin.sending.hear(part)
        if number % 150 == 62:  # and then all at once
            for _ in range(12):
                twin.sending.hear(part)
    ((_, length),) = twin.arrivals()
    assert length == 1200 * RATE // 2


def test_a_pause_begins_another_recording() -> None:
    twin = Twin()
    part = np.zeros((RATE, 2), np.int16)
    for step in (1.0, 1.0, live_module.PAUSE + 5, 1.0):
        twin.at += step
        twin.sending.hear(part)
    (first, before), (second, after) = twin.arrivals()
    assert (before, after) == (2 * RATE, 2 * RATE)
    assert second.began_at - first.began_at == pytest.approx(1 + live_module.PAUSE + 5)
    assert first.key != second.key


def test_what_is_lost_counts_as_time() -> None:
    twin = Twin()
    twin.sending.hear(np.zeros((RATE, 2), np.int16))
    twin.sending.hear(Lost(500, AudioError("the sound card lost samples")))
    twin.at += 1.5
    twin.sending.hear(np.zeros((RATE, 2), np.int16))
    ((arrival, length),) = twin.arrivals()
    assert length == 2500
    assert twin.heard_at == pytest.approx([arrival.began_at + 1, arrival.began_at + 2.5])
