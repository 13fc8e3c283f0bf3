"""Sound cards: a PortAudio that is made up, with its thread and its clock; and the real one, without a device."""

from __future__ import annotations

import builtins
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ears import Listener, listening

from nearfar.files.extras import MissingPackageError
from nearfar.watching.sources import SourceError, soundcard
from nearfar.watching.sources.soundcard import SoundCard

RATE, COUNT = 1000, 50


class PortAudioError(Exception):
    """As of sounddevice."""


class Stream:
    """A stream that is driven by a test, in a thread of its own as PortAudio does it."""

    def __init__(self, library: Library, **options: Any) -> None:
        if options["samplerate"] != RATE:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        self.library, self.options = library, options
        self.active = False
        self.clock = 1000.0
        self.frames = np.zeros((COUNT, options["channels"]), np.float32)

    def start(self) -> None:
        self.active = True
        self.library.streams.append(self)

    def close(self) -> None:
        self.active = False
        if self.library.breaks:
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")

    def give(self, value: float, *, overflow: bool = False, late: float = 0.0) -> None:
        """A block of samples of one value, in the array that PortAudio uses again and again."""

        def call() -> None:
            self.frames[:] = value
            when = SimpleNamespace(
                inputBufferAdcTime=self.clock, currentTime=self.clock + COUNT / RATE + late
            )
            self.options["callback"](self.frames, COUNT, when, SimpleNamespace(input_overflow=overflow))
            self.frames[:] = np.nan
            self.clock += COUNT / RATE

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()


class Library:
    """What is used of sounddevice."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.initialized = 1
        self.breaks = False
        self.default = SimpleNamespace(device=[2, 1])
        self.devices = [
            {"name": "HDMI", "max_input_channels": 0},
            {"name": "USB Audio: two microphones", "max_input_channels": 2},
            {"name": "USB Audio", "max_input_channels": 2},
            {"name": "Line in", "max_input_channels": 8},
        ]

    def _terminate(self) -> None:
        self.initialized -= 1

    def _initialize(self) -> None:
        self.initialized += 1

    def query_devices(self) -> tuple[dict[str, Any], ...]:
        assert self.initialized == 1
        return tuple(self.devices)

    def InputStream(self, **options: Any) -> Stream:  # noqa: N802  # its name there
        return Stream(self, **options)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made = Library()
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    yield made
    assert made.initialized == 1
    assert soundcard._streams == 0
    assert not any(stream.active for stream in made.streams)


def opened(listener: Listener, library: Library, count: int = 1) -> Stream:
    listener.until(lambda: len(library.streams) == count, "it is opened")
    return library.streams[-1]


def card(**options: Any) -> SoundCard:
    return SoundCard(**{"rate": RATE, "channels": 2, **options})


def test_sound_is_heard_as_it_comes(library: Library) -> None:
    with listening(card(channels=3, select=(2,))) as listener:
        stream = opened(listener, library)
        assert {**stream.options, "callback": None} == {
            "device": 2, "samplerate": RATE, "channels": 3, "dtype": "float32", "callback": None,
        }  # fmt: skip
        for value in (0.25, -0.5, 0.75):
            stream.give(value)
        listener.until(lambda: sum(one.length for one in listener.heard) == 3 * COUNT, "it is heard")
        (one,) = listener.heard
    assert one.arrival.name.startswith("sound card USB Audio 2")
    np.testing.assert_array_equal(one.sound, np.repeat([[0.25, -0.5, 0.75]], COUNT, axis=1))


def test_it_began_when_the_card_says(library: Library) -> None:
    with listening(card(), now=lambda: 5000.0) as listener:
        opened(listener, library).give(0.5, late=0.2)
        listener.until(lambda: bool(listener.heard), "it is heard")
    assert listener.heard[0].arrival.began_at == pytest.approx(5000 - 0.2 - COUNT / RATE)
    assert listener.heard_at == pytest.approx([5000 - 0.2])


@pytest.mark.parametrize("is_timed", [True, False])
def test_what_the_card_lost_is_told(library: Library, is_timed: bool) -> None:
    with listening(card()) as listener:
        stream = opened(listener, library)
        stream.clock = 1000.0 if is_timed else 0.0
        stream.give(0.5, overflow=True)  # before the first sample
        stream.clock = 1000.3 if is_timed else 0.0
        stream.give(0.25, overflow=True)
        missing = 250 if is_timed else 1
        listener.until(
            lambda: sum(one.length for one in listener.heard) == 2 * COUNT + missing, "it is heard"
        )
    (one,) = listener.heard
    assert [lost.samples for lost in one.lost] == [missing]
    assert "the sound card lost samples (input overflow)" in str(one.lost[0].error)
    assert list(one.sound[0, [0, -1]]) == [0.5, 0.25]


@pytest.mark.parametrize("way", ["inactive", "stalled"])
def test_a_card_that_is_unplugged_is_an_error_and_heard_again(
    library: Library, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundcard, "STALLED", 0.3)
    library.breaks = True
    source = card(device="usb audio: two")
    with listening(source) as listener:
        stream = opened(listener, library)
        stream.give(0.5)
        listener.until(lambda: bool(listener.heard), "it is heard")
        if way == "inactive":
            stream.active = False
        error = listener.until_error()
    assert isinstance(error, SourceError)
    assert "sound card USB Audio: two microphones: it gives no sound any more; is it unplugged?" in str(error)
    assert listener.heard[0].length == COUNT
    library.devices = library.devices[:1]
    with listening(source) as listener:
        message = str(listener.until_error())
    assert message == (
        "sound card 'usb audio: two': is not there, or cannot record; no sound card here can record"
    )
    library.devices.append({"name": "USB Audio: two microphones", "max_input_channels": 2})
    with listening(source) as listener:
        opened(listener, library, 2).give(0.25)
        listener.until(lambda: bool(listener.heard), "it is heard again")


@pytest.mark.parametrize(
    ("device", "number"), [("", 2), (3, 3), ("3", 3), ("Line", 3), ("usb audio", 2), ("two micro", 1)]
)
def test_a_device_is_chosen_by_name_or_number(library: Library, device: str | int, number: int) -> None:
    with listening(card(device=device)) as listener:
        assert opened(listener, library).options["device"] == number


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            0,
            "sound card 0: is not there, or cannot record; these can record: 1 USB Audio: two microphones, 2 USB",
        ),
        ("HDMI", "sound card 'HDMI': is not there, or cannot record"),
        ("au", "sound card 'au': 2 of that name"),
    ],
)
def test_a_device_that_is_not_meant_clearly_is_an_error(
    library: Library, device: str | int, message: str
) -> None:
    with listening(card(device=device)) as listener:
        assert message in str(listener.until_error())
    assert library.streams == []


def test_no_default_device(library: Library) -> None:
    library.default.device[0] = -1
    with listening(card()) as listener:
        assert "there is no default one to record from; these can record: 1 USB" in str(
            listener.until_error()
        )


def test_a_rate_that_it_cannot_record_is_an_error(library: Library) -> None:
    with listening(card(rate=44100)) as listener:
        error = listener.until_error()
    assert isinstance(error, SourceError)
    assert "cannot record 2 channels at 44100 Hz (Invalid sample rate [PaErrorCode -9997])" in str(error)
    assert library.streams == []


def test_an_error_in_the_thread_of_portaudio_is_not_lost(library: Library) -> None:
    def now() -> float:
        raise RuntimeError("the clock stands still")

    with listening(card(), now=now) as listener:
        opened(listener, library).give(0.5)
        assert str(listener.until_error()) == "the clock stands still"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError("PortAudio library not found"),
            "install it, on Debian and Ubuntu with: apt install libportaudio2",
        ),
        (
            ModuleNotFoundError("No module named 'sounddevice'", name="sounddevice"),
            r"the source 'soundcard' needs sounddevice, which is not installed; .*nearfar\[live\]",
        ),
    ],
)
def test_what_is_not_installed_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    import_ = builtins.__import__

    def failing(name: str, *args: Any, **options: Any) -> Any:
        if name == "sounddevice":
            raise error
        return import_(name, *args, **options)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", failing)
    monkeypatch.setattr(sys, "meta_path", [_Failing(error), *sys.meta_path])
    with pytest.raises(MissingPackageError, match=message):
        card()


class _Failing:
    """Finds sounddevice, and fails to import it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def find_spec(self, name: str, *_: object) -> None:
        if name == "sounddevice":
            raise self._error


def test_the_real_portaudio_without_a_device() -> None:
    try:
        sounddevice = pytest.importorskip("sounddevice")
    except OSError as error:
        pytest.skip(str(error))
    if any(one["max_input_channels"] for one in sounddevice.query_devices()):
        pytest.skip("there is a sound card")
    begun = time.monotonic()
    for device in ("", "USB", 0):
        with listening(card(device=device)) as listener:
            error = listener.until_error()
        assert isinstance(error, SourceError)
        assert str(error).endswith("no sound card here can record")
    assert time.monotonic() - begun < 60


def test_strange_options_are_refused(library: Library) -> None:  # noqa: ARG001
    with pytest.raises(ValueError, match="channels=0: must be from 1"):
        card(channels=0)
    with pytest.raises(ValueError, match="rate=None, channels=2: both must be given"):
        card(rate=None)
