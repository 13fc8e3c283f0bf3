"""Real sockets on 127.0.0.1: senders that come, go, are killed, send garbage, or too much."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import numpy as np
import pytest
from ears import PATIENCE, Listener, as_samples, listening, noise
from test_sources_pcm import flac, wav

from nearfar.watching.sources import SourceError, network
from nearfar.watching.sources import live as live_module
from nearfar.watching.sources.network import Tcp, Udp

SECOND = 16000
KILLED = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(bytes(4 * 16000))
    print("sent", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody waits a second after garbage."""
    monkeypatch.setattr(live_module, "AFTER_GARBAGE", 0.05)
    monkeypatch.setattr(network, "AFTER_GARBAGE", 0.05)


@contextmanager
def hearing(source: Tcp | Udp, **options: object) -> Iterator[tuple[Listener, tuple[str, int]]]:
    with listening(source, **options) as listener:
        listener.until(lambda: source.address is not None, "it listens")
        assert source.address is not None
        yield listener, source.address
    assert source.address is None


def tcp(**options: object) -> Tcp:
    return Tcp(0, **{"rate": SECOND, "channels": 2, **options})


def sent(address: tuple[str, int], content: bytes, *, size: int = 1000) -> None:
    """As far as it is taken: what hears garbage may hang up."""
    with socket.create_connection(address) as sender, suppress(ConnectionResetError, BrokenPipeError):
        for start in range(0, len(content), size):
            sender.sendall(content[start : start + size])


@pytest.mark.parametrize("kind", ["raw", "wav", "flac"])
def test_each_connection_is_a_recording(kind: str) -> None:
    first, second = noise(SECOND, seed=1), noise(SECOND // 2, seed=2)
    encode = {"raw": np.ndarray.tobytes, "wav": lambda one: wav(one, size=0xFFFFFFFF), "flac": flac}[kind]
    options = {} if kind == "raw" else {"rate": None, "channels": None}
    begun = time.time()
    with hearing(tcp(**options)) as (listener, address):
        sent(address, encode(first))
        listener.until_ended(1)
        sent(address, encode(second))
        listener.until_ended(2)
    one, two = listener.heard
    np.testing.assert_array_equal(one.sound, as_samples(first))
    np.testing.assert_array_equal(two.sound, as_samples(second))
    assert one.arrival.key != two.arrival.key
    assert begun - 1.1 < one.arrival.began_at < two.arrival.began_at + 0.6
    assert max(listener.heard_at) <= time.time() + 1
    name = one.arrival.name
    assert name.startswith("tcp 127.0.0.1:")
    assert datetime.fromisoformat(name.split()[-1]).timestamp() == pytest.approx(
        one.arrival.began_at, abs=0.001
    )


def test_sound_is_heard_as_it_comes_and_only_the_chosen_channels() -> None:
    frames = noise(3000, 3)
    with (
        hearing(tcp(channels=3, select=(3, 1))) as (listener, address),
        socket.create_connection(address) as sender,
    ):
        for start in range(0, 3000, 1000):
            sender.sendall(frames[start : start + 1000].tobytes())
            listener.until(lambda n=start + 1000: sum(h.length for h in listener.heard) == n, "it is heard")
        assert not listener.heard[0].is_ended
        assert listener.heard[0].arrival.stream.recorded.header.channels == 2
        np.testing.assert_array_equal(listener.heard[0].sound, as_samples(frames[:, [2, 0]]))


def test_a_sender_is_refused_while_another_sends(caplog: pytest.LogCaptureFixture) -> None:
    with hearing(tcp()) as (listener, address), socket.create_connection(address) as sender:
        sender.sendall(bytes(4000))
        listener.until(lambda: bool(listener.heard), "it is heard")
        for _ in range(3):
            with socket.create_connection(address) as other:
                other.settimeout(PATIENCE)
                assert other.recv(1) == b"", "it is not refused"
        sender.sendall(bytes(4000))
        listener.until(lambda: listener.heard[0].length == 2000, "the first goes on")
        assert len(listener.heard) == 1
    messages = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(messages) == 1, "each of them is told"
    assert "is sending (refused: 1)" in messages[0]


def test_a_sender_that_is_killed_ends_its_recording_and_the_next_is_heard() -> None:
    with hearing(tcp()) as (listener, address):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(address[1])], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            listener.until(lambda: sum(h.length for h in listener.heard) == SECOND, "it is heard")
            process.kill()
        listener.until_ended(1)
        sent(address, noise(100).tobytes())
        listener.until_ended(2)
    assert [one.length for one in listener.heard] == [SECOND, 100]


def test_a_connection_that_is_reset_ends_its_recording() -> None:
    with hearing(tcp()) as (listener, address):
        sender = socket.create_connection(address)
        sender.sendall(bytes(4000))
        listener.until(lambda: bool(listener.heard), "it is heard")
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sender.close()
        listener.until_ended(1)


def test_a_sender_that_is_silent_makes_place() -> None:
    with hearing(tcp(silence=0.3)) as (listener, address), socket.create_connection(address) as sender:
        sender.sendall(bytes(4000))
        listener.until_ended(1)
        sender.settimeout(PATIENCE)
        assert sender.recv(1) == b"", "the connection is still there"
        sent(address, bytes(800))
        listener.until_ended(2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "format=flac, but what came does not begin as that"),
        (b"fLaC" + b"\xff" * 3000, "it begins as FLAC, and its header cannot be read"),
    ],
)
def test_garbage_is_told_and_the_next_sender_is_heard(content: bytes, message: str) -> None:
    frames = noise(9000)
    with hearing(tcp(format="flac", rate=None, channels=None)) as (listener, address):
        sent(address, content)
        listener.until_ended(1)
        sent(address, flac(frames))
        listener.until_ended(2)
    garbage, good = listener.heard
    assert garbage.arrival.stream is None
    assert message in garbage.arrival.error
    np.testing.assert_array_equal(good.sound, as_samples(frames))


def test_garbage_in_the_middle_is_lost_and_told() -> None:
    content = flac(noise(50_000))
    with hearing(tcp(format="flac", rate=None, channels=None)) as (listener, address):
        sent(address, content[:40_000] + bytes([content[40_000] ^ 255]) + content[40_001:])
        listener.until_ended(1)
    (one,) = listener.heard
    assert one.length > 4000
    assert [lost.samples for lost in one.lost] == [1]
    assert "the stream of FLAC is damaged" in str(one.lost[0].error)


def test_empty_connections_are_no_recordings() -> None:
    with hearing(tcp()) as (listener, address):
        for _ in range(5):
            socket.create_connection(address).close()
        sent(address, bytes(400))
        listener.until_ended(1)
    assert [one.length for one in listener.heard] == [100]


def test_what_is_not_heard_in_time_is_lost_from_the_oldest_on() -> None:
    frames = noise(10 * SECOND)
    with hearing(tcp(buffer=2.0)) as (listener, address):
        listener.may_take.clear()
        sent(address, frames.tobytes())
        listener.until(lambda: bool(listener.heard_at and listener.heard), "something came")
        listener.until(lambda: listener.heard_at[-1] - listener.heard[0].arrival.began_at >= 9.99, "all came")
        listener.may_take.set()
        listener.until_ended(1)
    (one,) = listener.heard
    assert one.length == len(frames)
    sound = one.sound
    there = ~np.isnan(sound[0])
    np.testing.assert_array_equal(sound[:, there], as_samples(frames)[:, there])
    assert there[-2 * SECOND :].all()
    assert there.sum() <= 2 * SECOND + 2**14, "more than the buffer, and the part that was taken"
    assert "no more than 2 s of it may wait" in str(one.lost[0].error)


def test_a_sender_that_can_wait_waits() -> None:
    frames = noise(20 * SECOND)
    with hearing(tcp(buffer=1.0, live=False)) as (listener, address):
        listener.may_take.clear()
        sender = threading.Thread(target=sent, args=(address, frames.tobytes()), daemon=True)
        sender.start()
        listener.until(lambda: bool(listener.heard_at), "something came")
        listener.may_take.set()
        listener.until_ended(1)
        sender.join(PATIENCE)
    (one,) = listener.heard
    assert not one.lost
    np.testing.assert_array_equal(one.sound, as_samples(frames))


def test_it_connects_to_a_sender_and_again_when_that_has_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        port = server.getsockname()[1]
        with listening(Tcp(port, connect=True, rate=SECOND, channels=1)) as listener:
            for count in (1, 2):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(noise(100 * count, 1).tobytes())
                listener.until_ended(count)
            assert [one.length for one in listener.heard] == [100, 200]


def test_a_sender_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with listening(Tcp(port, connect=True, rate=SECOND, channels=1)) as listener:
        error = listener.until_error()
    assert isinstance(error, SourceError)
    assert f"tcp 127.0.0.1:{port}: the sender is not there" in str(error)


@pytest.mark.parametrize("make", [Tcp, Udp])
def test_a_port_that_is_in_use_is_an_error_and_free_afterwards(make: type[Tcp] | type[Udp]) -> None:
    with hearing(make(0, rate=SECOND, channels=1)) as (_, (_, port)):
        with listening(make(port, rate=SECOND, channels=1)) as second:
            error = second.until_error()
        assert isinstance(error, SourceError)
        assert f":{port}: sound cannot be awaited there" in str(error)
        assert "give another port" in str(error)
    with hearing(make(port, rate=SECOND, channels=1)):
        pass


def test_only_the_sender_that_may_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    with hearing(tcp(sender="192.0.2.1")) as (listener, address):
        with socket.create_connection(address) as sender:
            sender.settimeout(PATIENCE)
            assert sender.recv(1) == b""
        assert listener.heard == []
    assert "only 192.0.2.1 may send" in caplog.text
    with hearing(tcp(sender="127.0.0.1")) as (listener, address):
        sent(address, bytes(400))
        listener.until_ended(1)


def udp(**options: object) -> Udp:
    return Udp(0, **{"rate": SECOND, "channels": 2, **options})


def test_datagrams_are_heard_until_their_sender_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    frames = noise(3000)
    with (
        hearing(udp(silence=0.5)) as (listener, address),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        first.sendto(frames[:1000].tobytes(), address)
        listener.until(lambda: bool(listener.heard), "it is heard")
        second.sendto(bytes(4000), address)
        first.sendto(frames[1000:2000].tobytes(), address)
        listener.until(lambda: listener.heard[0].length == 2000, "the first goes on")
        listener.until_ended(1)
        second.sendto(frames[2000:].tobytes(), address)
        listener.until(
            lambda: len(listener.heard) == 2 and listener.heard[1].length == 1000, "the other is heard"
        )
    np.testing.assert_array_equal(listener.heard[0].sound, as_samples(frames[:2000]))
    np.testing.assert_array_equal(listener.heard[1].sound, as_samples(frames[2000:]))
    assert "is sending (refused: 1)" in caplog.text


def test_a_datagram_that_is_no_whole_frames_is_lost_and_told() -> None:
    with (
        hearing(udp()) as (listener, address),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        for content in (bytes(400), bytes(403), b"", bytes(400)):
            sender.sendto(content, address)
        listener.until(lambda: bool(listener.heard) and listener.heard[0].length == 300, "all is heard")
        (lost,) = listener.heard[0].lost
    assert lost.samples == 100
    assert "a datagram of 403 bytes, which are no whole frames: 2 channels of s16le have 4" in str(lost.error)


def test_datagrams_of_others_are_not_heard(caplog: pytest.LogCaptureFixture) -> None:
    with (
        hearing(udp(sender="192.0.2.1")) as (listener, address),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(bytes(400), address)
        listener.until(lambda: "only 192.0.2.1 may send" in caplog.text, "it is told")
        assert listener.heard == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "port=65536: must be from 0 to 65535"),
        ({"port": 0, "connect": True}, "port=0: must be from 1 to 65535"),
        ({"port": 1, "silence": 0}, "silence=0: must be above 0"),
        ({"port": 1, "buffer": 0}, "buffer=0: must be above 0"),
        ({"port": 1, "rate": 0}, "rate=0: must be from 1"),
        ({"port": 1, "connect": True, "sender": "pi"}, "with connect, host is the sender"),
    ],
)
def test_strange_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tcp(**options)
