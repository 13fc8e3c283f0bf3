"""What is explained: a short recording, or one window of a long one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from nearfar.listening.scoring import listen
from nearfar.recordings import audio
from nearfar.recordings.audio import Samples
from nearfar.recordings.recording import Channel, Recording, Span, part_name
from nearfar.recordings.sound import AudioError, Note

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector, Verdict

STDIN = "standard input"


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A window of a long recording.

    Attributes
    ----------
    recording : str
        What the whole recording is called.
    start, seconds : float
        When it begins, in seconds of the recording, and how long it is.
    chosen : {"asked", "most anomalous"}
    windows : int
        How many windows were listened to; 0 if it was asked for.
    anomalous : int or None
        How many of them are anomalous; ``None`` if the detector has no threshold, or it was asked for.
    """

    recording: str
    start: float
    seconds: float
    chosen: Literal["asked", "most anomalous"]
    windows: int = 0
    anomalous: int | None = None


@dataclass(frozen=True, eq=False)
class Heard:
    """The samples that are explained.

    Attributes
    ----------
    name : str
    samples : (channels, samples) array
    rate : int
    notes : tuple of Note
        Of their reader.
    excerpt : Excerpt or None
        If they are a window of a long recording.
    """

    name: str
    samples: Samples
    rate: int
    notes: tuple[Note, ...] = ()
    excerpt: Excerpt | None = None


def of_file(detector: Detector, recording: Recording, at: float | None) -> Heard:
    """Of a recording on disk; of a long one, the window at that time, or the most anomalous one.

    Raises
    ------
    AudioError, OSError
        If it cannot be read.
    ValueError
        If a time is asked for that the recording does not have.
    """
    used = (
        recording
        if recording.channels
        else dataclasses.replace(recording, channels=detector.selected_channels)
    )
    if audio.is_stream(used.path):
        with used.path.open("rb") as stream:
            return of_stream(detector, stream, at, name=str(recording), selected=recording.channels)
    header = audio.read_header(used)
    if at is None and (recording.span is not None or not detector.is_long(header.seconds)):
        return _read(used, str(recording), None)
    name, rate, length = str(recording), header.rate, header.samples
    if at is not None:
        span = _span_at(detector, at, length, rate, name)
        excerpt = Excerpt(name, span.begins, span.seconds, "asked")
    else:
        found = [(each.window.index, each.verdict) for each in listen(detector, used)]
        at_index = _most_anomalous([verdict for _, verdict in found], name)
        span = detector.cut.span(found[at_index][0], length, rate)
        excerpt = _excerpt(detector, name, span, [verdict for _, verdict in found])
    if recording.span is not None:  # times are of the part that was asked for, spans are of the file
        begin = recording.span.start
        span = Span(begin + span.start, begin + span.stop, rate)
    return _read(dataclasses.replace(used, span=span), part_name(str(recording.path), span), excerpt)


def of_stream(
    detector: Detector,
    stream: BinaryIO,
    at: float | None,
    *,
    rate: int | None = None,
    channels: int | None = None,
    selected: Sequence[Channel] = (),
    name: str = STDIN,
) -> Heard:
    """Of what a pipe gives, read to its end; parameters as of ``Detector.score_stream``, errors as ``of_file``."""
    from nearfar.detector.fitted import refuse_contradiction, refuse_unnumbered

    pcm_rate, count = detector.pcm_format(rate, channels)
    recorded = audio.read_stream(stream, name, rate=pcm_rate, channels=count)
    if recorded.header.format == audio.RAW_FORMAT:
        refuse_unnumbered(selected, channels, name)
    else:
        refuse_contradiction(recorded.header, rate, channels, name)
        selected = selected or detector.selected_channels
    used = audio.select(recorded, selected, name)
    return of_samples(detector, used.samples, used.rate, at, name=name, notes=used.notes)


def of_samples(
    detector: Detector,
    samples: Samples,
    rate: int,
    at: float | None,
    *,
    name: str,
    notes: Sequence[Note] = (),
) -> Heard:
    """Of samples, (channels, samples), with the channels that the detector uses; errors as of ``of_file``."""
    audio.require_samples(samples, name)
    length = samples.shape[1]
    if at is None and not detector.is_long(length / rate):
        return Heard(name, samples, rate, tuple(notes))
    if at is not None:
        span = _span_at(detector, at, length, rate, name)
        excerpt = Excerpt(name, span.begins, span.seconds, "asked")
    else:
        spans = detector.cut.spans(length, rate)
        verdicts = [detector.score(samples[:, one.start : one.stop], rate, name=name) for one in spans]
        span = spans[_most_anomalous(verdicts, name)]
        excerpt = _excerpt(detector, name, span, verdicts)
    return Heard(part_name(name, span), samples[:, span.start : span.stop], rate, tuple(notes), excerpt)


def _read(recording: Recording, name: str, excerpt: Excerpt | None) -> Heard:
    recorded = audio.read_recorded(recording)
    return Heard(name, recorded.samples, recorded.rate, recorded.notes, excerpt)


def _span_at(detector: Detector, at: float, length: int, rate: int, name: str) -> Span:
    """The window that begins at a time, or ends where the recording does."""
    seconds = length / rate
    if not 0 <= at < seconds:
        raise ValueError(f"at={at:g}: must be within the recording; {name} is {seconds:g} s long")
    samples = min(detector.cut.window_samples(rate), length)
    start = min(round(at * rate), length - samples)
    return Span(start, start + samples, rate)


def _most_anomalous(verdicts: Sequence[Verdict], name: str) -> int:
    """Which window has the highest score, of those that can be used."""
    usable = [i for i, verdict in enumerate(verdicts) if verdict.decision != "unusable"]
    if usable:
        return max(usable, key=lambda i: verdicts[i].score)
    if not verdicts:
        raise AudioError(f"{name}: it has no sound")
    if verdicts[0].error:
        raise AudioError(f"{name}: none of its windows can be used: {verdicts[0].error}")
    return 0  # all are spoilt by faults of the microphones, which are to be told


def _excerpt(detector: Detector, name: str, span: Span, verdicts: Sequence[Verdict]) -> Excerpt:
    decides = detector.threshold is not None
    flagged = sum(verdict.decision == "anomaly" for verdict in verdicts) if decides else None
    return Excerpt(name, span.begins, span.seconds, "most anomalous", len(verdicts), flagged)


def as_recording(given: Recording | Path | str) -> Recording:
    """The recording that is meant by a path."""
    return Recording.of(Path(given) if isinstance(given, str) else given)
