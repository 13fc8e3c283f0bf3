"""Sound from a sound card, by PortAudio.

PortAudio gives blocks of samples in a thread of its own, which must not wait: they go into the bounded buffer. What
the sound card lost before is told, by how far its clock went on meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from nearfar.files.extras import MissingPackageError, resolve
from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Lost
from nearfar.recordings.recording import Channel
from nearfar.watching.sources import Arrival, Ear, SourceError
from nearfar.watching.sources.buffered import SLICE, Inbox, Stopping
from nearfar.watching.sources.decoding import required
from nearfar.watching.sources.live import Sending, arrivals_of, receiving

logger = logging.getLogger(__name__)

FORMAT = "float32"  # holds the 24 bits of a good sound card
STALLED = 5.0  # seconds without a block after which a sound card is taken for dead
MOST_LATE = 10.0  # seconds: clocks of drivers that say more are not believed

_in_use = threading.Lock()  # guards the number of streams, and PortAudio's list of devices
_streams = 0


class SoundCard:
    """What a sound card records.

    Parameters
    ----------
    rate : int
        In Hz.
    channels : int
    device : str or int
        A part of its name, or its number; empty: the default one.
    select : tuple of int
        Which channels are near and far, numbered from 1; empty: those of the detector.
    buffer : float
        Seconds of sound that may wait to be heard.

    Raises
    ------
    ValueError
        If an option makes no sense.
    MissingPackageError
        If sounddevice or PortAudio is not installed.
    """

    is_live = True
    follows_clock = True

    def __init__(
        self,
        *,
        rate: int | None = None,
        channels: int | None = None,
        device: str | int = "",
        select: tuple[Channel, ...] = (),
        buffer: float = 60.0,
    ) -> None:
        Inbox(buffer)  # refuses what makes no sense
        self._rate, self._channels = required(rate, channels)
        self._device = int(device) if isinstance(device, str) and device.isdecimal() else device
        self._select = select
        self._buffer = buffer
        self._library = _library()

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        """One recording, until the sound card is gone.

        Raises
        ------
        SourceError
            If there is no such device, it cannot record so, or is gone.
        """
        inbox = Inbox(self._buffer)

        def receive(stopping: Stopping) -> None:
            self._receive(self._library, inbox, ear, stopping)

        with receiving(receive, inbox, ear, "soundcard"):
            yield from arrivals_of(inbox, ear, self._select, "soundcard")

    def _receive(self, library: Any, inbox: Inbox, ear: Ear, stopping: Stopping) -> None:
        with _Devices(library) as devices:
            number, name = devices.chosen(self._device)
            sender = f"sound card {name}"
            sending = Sending(
                inbox, ear, sender, self._rate, self._channels, f"PORTAUDIO/{FORMAT}", True, stopping
            )
            taker = _Taker(sending)
            stream = self._opened(library, number, sender, taker)
            try:
                while not stopping():
                    time.sleep(SLICE)
                    if taker.error is not None:
                        raise taker.error
                    if not stream.active or time.monotonic() - taker.heard > STALLED:
                        raise SourceError(f"{sender}: it gives no sound any more; is it unplugged?")
            finally:
                _close(stream, library)
                sending.end()

    def _opened(self, library: Any, number: int, sender: str, taker: _Taker) -> Any:
        """A stream of PortAudio that records."""
        stream = None
        try:
            stream = library.InputStream(
                device=number,
                samplerate=self._rate,
                channels=self._channels,
                dtype=FORMAT,
                callback=taker.take,
            )
            stream.start()
        except (library.PortAudioError, ValueError) as error:
            if stream is not None:
                _close(stream, library)
            raise SourceError(
                f"{sender}: cannot record {self._channels} channels at {self._rate} Hz ({error})"
            ) from error
        return stream


class _Taker:
    """Takes what PortAudio gives, in its thread.

    Attributes
    ----------
    heard : float
        When it gave something last, by the monotonic clock.
    error : BaseException or None
        What went wrong.
    """

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._next_at: float | None = None  # by the clock of the sound card
        self.heard = time.monotonic()
        self.error: BaseException | None = None

    def take(self, frames: Any, count: int, when: Any, status: Any) -> None:
        """A block of samples; PortAudio writes over it afterwards."""
        self.heard = time.monotonic()
        try:
            self._take(frames.copy(), count, when, status)
        except BaseException as error:  # PortAudio would only print it
            self.error = error

    def _take(self, frames: Any, count: int, when: Any, status: Any) -> None:
        rate = self._sending.rate
        begins, now = float(when.inputBufferAdcTime), float(when.currentTime)
        is_timed = 0 < begins <= now < begins + MOST_LATE
        if status.input_overflow and self._sending.is_begun:
            missing = 1
            if is_timed and self._next_at is not None:
                missing = max(round((begins - self._next_at) * rate), 1)
            error = AudioError(
                f"{self._sending.sender}: the sound card lost samples (input overflow): this computer was too busy",
                fault="truncated",
            )
            self._sending.hear(Lost(missing, error))
        self._next_at = begins + count / rate if is_timed else None
        late = max(now - begins - count / rate, 0.0) if is_timed else 0.0
        self._sending.hear(frames, late=late)


def _close(stream: Any, library: Any) -> None:
    try:
        stream.close()
    except library.PortAudioError as error:  # of a device that is gone
        logger.info("sound card: %s", error)


def _library() -> Any:
    try:
        return resolve("sounddevice", needed_by="the source 'soundcard'")
    except OSError as error:
        raise MissingPackageError(
            "the source 'soundcard' needs PortAudio, which is not installed on this system; install it, on Debian "
            "and Ubuntu with: apt install libportaudio2",
            name="sounddevice",
        ) from error


class _Devices:
    """The sound cards that are there now.

    PortAudio looks for devices once, when it is initialized. So it is initialized anew if no sound card is in use:
    one that was unplugged and plugged in again is found.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def __enter__(self) -> _Devices:
        global _streams
        with _in_use:
            if _streams == 0:
                self._library._terminate()
                self._library._initialize()
            _streams += 1
        return self

    def __exit__(self, *_: object) -> None:
        global _streams
        with _in_use:
            _streams -= 1

    def chosen(self, device: str | int) -> tuple[int, str]:
        """The number and name of the device that is meant.

        Raises
        ------
        SourceError
            If it is not there, cannot record, or its name means several.
        """
        found = list(self._library.query_devices())
        inputs = {
            number: str(one["name"]) for number, one in enumerate(found) if one["max_input_channels"] > 0
        }
        if device == "":
            default = self._library.default.device[0]
            if default in inputs:
                return default, inputs[default]
            raise SourceError(f"sound card: there is no default one to record from; {_listed(inputs)}")
        if isinstance(device, int):
            if device in inputs:
                return device, inputs[device]
            raise SourceError(f"sound card {device}: is not there, or cannot record; {_listed(inputs)}")
        exact = [number for number, name in inputs.items() if name.lower() == device.lower()]
        alike = exact or [number for number, name in inputs.items() if device.lower() in name.lower()]
        if len(alike) == 1:
            return alike[0], inputs[alike[0]]
        what = f"{len(alike)} of that name" if alike else "is not there, or cannot record"
        raise SourceError(f"sound card {device!r}: {what}; {_listed(inputs)}")


def _listed(inputs: dict[int, str]) -> str:
    if not inputs:
        return "no sound card here can record"
    return "these can record: " + ", ".join(f"{number} {name}" for number, name in inputs.items())
