"""What a detector says of every window of a recording, however long it is.

Conventions
-----------
A recording is read once. What is said of a window is what ``Detector.score`` says of its samples, whatever comes
before them: verdicts do not depend on where one begins, nor on how the recording is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

from nearfar.detector.fitted import Detector, Verdict, refuse_contradiction, refuse_unnumbered
from nearfar.files.extras import MissingPackageError
from nearfar.files.memory import keep_freed_memory
from nearfar.recordings.audio import RAW_FORMAT, AudioError
from nearfar.recordings.microphones import MicrophoneError
from nearfar.recordings.recording import Channel, Recording, part_name
from nearfar.recordings.transforms import Overlap, Transforms
from nearfar.windows import streaming
from nearfar.windows.cutting import Cut, Window
from nearfar.windows.streaming import Heard, Stream

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    """What a detector says of one window of a recording.

    Attributes
    ----------
    window : Window
    verdict : Verdict
    """

    window: Window
    verdict: Verdict


def listen(
    detector: Detector, recording: Recording | Path | str, *, cut: Cut | None = None, first: int = 0
) -> Iterator[WindowVerdict]:
    """The verdicts on all windows of a recording, in order of time, one at a time.

    A window that touches samples that cannot be read is unusable, with the reason; so is a recording of which
    nothing can be read. Closing the iterator closes the files.

    Parameters
    ----------
    detector : Detector
    recording : Recording, Path or str
        On disk. Its channels are those that it chooses, or else those that were chosen for the fit.
    cut : Cut or None
        ``None``: windows as long as the clips of the fit, side by side.
    first : int
        The index of the first window, to go on with a recording: its verdict and all that follow are those of a run
        from the beginning.

    Raises
    ------
    ValueError
        If ``first`` is negative.
    """
    asked = Recording.of(Path(recording) if isinstance(recording, str) else recording)
    used = asked if asked.channels else replace(asked, channels=detector.selected_channels)
    try:
        stream = streaming.of_recording(used)
    except (AudioError, MissingPackageError, OSError) as error:
        yield WindowVerdict(Window(str(asked), first, 0.0, 0.0), _unusable(str(asked), str(asked), error))
        return
    yield from listen_to(detector, stream, cut=cut, first=first)


def listen_to(
    detector: Detector, stream: Stream, *, cut: Cut | None = None, first: int = 0
) -> Iterator[WindowVerdict]:
    """As ``listen``, of a recording that is opened already: of what a pipe gives, for example."""
    keep_freed_memory()
    scorer = Scorer(detector, stream, cut or detector.cut)
    for heard in scorer.windows(first):
        yield scorer.of(heard)


class Scorer:
    """What a detector says of the windows of one recording, one by one: for who reads and who scores apart.

    Parameters
    ----------
    detector : Detector
    stream : Stream
    cut : Cut
    is_whole : bool
        The recording is one window, as it is, as of ``Detector.score_file``: ``cut`` is longer.
    """

    def __init__(self, detector: Detector, stream: Stream, cut: Cut, *, is_whole: bool = False) -> None:
        self._detector, self._stream, self.cut, self._is_whole = detector, stream, cut, is_whole
        self._lengths = detector.frame_lengths(stream.rate)
        overlaps = cut.hop_samples(stream.rate) < cut.window_samples(stream.rate)
        self._overlap = Overlap() if overlaps else None

    @classmethod
    def of_whole(cls, detector: Detector, stream: Stream, seconds: float) -> Self:
        """Of a recording of that length, which is heard as it is."""
        return cls(detector, stream, Cut.of(seconds + 1.0), is_whole=True)

    def windows(self, first: int = 0) -> Iterator[Heard]:
        """The windows of the recording from that one on, as soon as they are there."""
        return streaming.windows(self._stream, self.cut, first=first)

    def window_of(self, heard: Heard) -> Window:
        """Where a window lies."""
        return Window(self._stream.name, heard.index, heard.span.begins, heard.span.seconds)

    def of(self, heard: Heard) -> WindowVerdict:
        """The verdict on a window; they come in order of time."""
        transforms = None
        if heard.samples is not None:
            origin = heard.span.start
            transforms = Transforms(heard.samples, wanted=self._lengths, overlap=self._overlap, origin=origin)
        name = self._stream.name
        part = name if self._is_whole else part_name(name, heard.span)
        verdict = _verdict(self._detector, self._stream, heard, transforms, part)
        return WindowVerdict(self.window_of(heard), verdict)


@contextmanager
def piped(
    detector: Detector,
    pipe: BinaryIO,
    *,
    rate: int | None = None,
    channels: int | None = None,
    selected: Sequence[Channel] = (),
    name: str = "standard input",
) -> Iterator[Stream]:
    """What a pipe gives, to be given to ``listen_to``; parameters and errors as of ``Detector.score_stream``.

    Raw samples are scored as they come: the verdict on a window is there as soon as the window is.
    """
    pcm_rate, count = detector.pcm_format(rate, channels)
    of_file = detector.selected_channels
    with streaming.of_pipe(
        pipe, name, rate=pcm_rate, channels=count, selected=selected, of_file=of_file
    ) as stream:
        if stream.recorded.header.format == RAW_FORMAT:
            refuse_unnumbered(selected, channels, name)
        else:
            refuse_contradiction(stream.recorded.header, rate, channels, name)
        yield stream


def _verdict(
    detector: Detector, stream: Stream, heard: Heard, transforms: Transforms | None, name: str
) -> Verdict:
    """Of one window; of one that cannot be used, why."""
    try:
        if heard.samples is None:
            assert heard.error is not None
            raise heard.error
        notes = stream.notes
        return detector.score(heard.samples, stream.rate, name=name, notes=notes, transforms=transforms)
    except (AudioError, MicrophoneError) as error:
        return _unusable(name, stream.name, error, stream.hint)


def unusable(recording: str, error: Exception) -> WindowVerdict:
    """Of a recording of which nothing can be read: one window without length, which says why."""
    return WindowVerdict(Window(recording, 0, 0.0, 0.0), _unusable(recording, recording, error))


def _unusable(name: str, recording: str, error: Exception, hint: str = "") -> Verdict:
    message = str(error).removeprefix(f"{name}: ").removeprefix(f"{recording}: ")
    if isinstance(error, MicrophoneError):
        message += hint
    return Verdict(name, NAN, NAN, "unusable", error=message)
