"""Long recordings among clips are cut into windows, and what belongs to one recording stays together.

A window is a clip whose ``group`` is its recording: where clips are dealt out, as to the fits behind a threshold,
all windows of a recording come to one part, so that no fit hears the rest of what it scores. A group that was known
before, such as a day, holds more than one recording, and stays. Where one group has nearly all clips of its domain,
a fit without it would have hardly any left; so it is divided into its recordings, and a recording into contiguous
stretches. These share no sound, but they are of one recording: they say little about another day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

from nearfar.files.extras import MissingPackageError
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Header
from nearfar.recordings.clips import Clip, Dataset, counted
from nearfar.recordings.inspection.usual import LENGTH_MARGIN
from nearfar.recordings.recording import Span
from nearfar.windows.cutting import WINDOW_SECONDS, Cut, told_time

LONG_SECONDS = 30.0  # no clip of a DCASE Challenge is as long; longer ones are taken for long recordings
MOST_SHARE = 0.75  # of the clips of a domain that may be of one group: a fit without it has a quarter left
STRETCHES = 10  # of a recording; as many as a threshold has folds by default

HowToCut = Cut | Literal["long"] | None


@dataclass(frozen=True)
class Cutting:
    """Which long recordings were cut, and into what.

    Attributes
    ----------
    cut : Cut
    seconds : tuple of float
        How long each recording is.
    windows : int
        Of all of them together.
    stretches : mapping from domain to str
        The domains of which nearly all clips are of one recording, and which: stretches of it are kept together.
    """

    cut: Cut
    seconds: tuple[float, ...]
    windows: int
    stretches: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shortest, longest = (told_time(s) for s in (min(self.seconds), max(self.seconds)))
        length = shortest if shortest == longest else f"{shortest} to {longest}"
        hop = "" if self.cut.hop == self.cut.seconds else f", one every {told_time(self.cut.hop)}"
        return (
            f"{counted(len(self.seconds), 'recording')} of {length}: {counted(self.windows, 'window')} of "
            f"{told_time(self.cut.seconds)}{hop}"
        )

    def describe(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return {
            "count": len(self.seconds),
            "seconds": [min(self.seconds), max(self.seconds)],
            "windows": self.windows,
            "window_seconds": self.cut.seconds,
            "hop_seconds": self.cut.hop,
            "one_recording": dict(self.stretches),
        }

    @classmethod
    def restore(cls, told: Mapping[str, Any]) -> Cutting:
        """What ``describe`` told; of the lengths, the shortest and the longest are known."""
        shortest, longest = told["seconds"]
        lengths = (shortest, *(longest,) * (told["count"] - 1))
        cut = Cut(told["window_seconds"], told["hop_seconds"])
        return cls(cut, lengths, told["windows"], told["one_recording"])


@dataclass(frozen=True, slots=True)
class _Piece:
    """A clip that stays whole, or a long recording; and the group that its windows are to have."""

    clip: Clip
    header: Header | None
    n_clips: int
    group: str
    n_stretches: int = 1

    @property
    def is_cut(self) -> bool:
        return self.header is not None

    @property
    def recording(self) -> str:
        """The group of its windows by themselves."""
        return f"recording {self.clip.name}"


def cut_long(clips: Sequence[Clip], how: HowToCut = "long") -> tuple[tuple[Clip, ...], Cutting | None]:
    """The same clips, with windows in place of long recordings.

    Only headers are read. What cannot be read stays as it is; whoever reads its samples says why.

    Parameters
    ----------
    clips : sequence of Clip
    how : Cut, "long" or None
        How to cut: then recordings are cut that are longer than a window by more than a factor of 1.2, within which
        lengths are the same to the inspection. ``"long"``: only if one is longer than ``LONG_SECONDS``, into
        windows of 10 s; if at least half of the clips are shorter than that, as long as these. ``None``: nothing.

    Returns
    -------
    clips : tuple of Clip
    cutting : Cutting or None
        ``None`` if no clip was cut.

    Raises
    ------
    ValueError
        If ``how`` is another word.
    """
    if isinstance(how, str) and how != "long":
        raise ValueError(f"cut={how!r}: must be a Cut, such as Cut.of(10), or 'long', or None")
    headers = [None if how is None else _header(clip) for clip in clips]
    cut = _default(headers) if how == "long" else how
    if cut is None:
        return tuple(clips), None
    least = LENGTH_MARGIN * cut.seconds
    return _cut(clips, [None if h is None or h.seconds <= least else h for h in headers], cut)


def cut_dataset(dataset: Dataset) -> tuple[Dataset, dict[str, Cutting]]:
    """The data set with windows in place of long recordings, also of test recordings; and what was cut, by machine.

    Test recordings are cut as the training recordings of their machine are; if these are not cut, into windows as
    long as they are.
    """
    machines, cuttings = [], {}
    for machine in dataset:
        train, cutting = cut_long(machine.train)
        cut = Cut.of(_median_seconds(map(_header, machine.train))) if cutting is None else cutting.cut
        test, of_test = cut_if(machine.test, cut, lambda seconds: seconds > LONG_SECONDS)
        machines.append(replace(machine, clips=(*train, *test)))
        if (first := cutting or of_test) is not None:
            cuttings[machine.name] = first
    return replace(dataset, machines=tuple(machines)), cuttings


def cut_if(
    clips: Sequence[Clip], cut: Cut, is_long: Callable[[float], bool]
) -> tuple[tuple[Clip, ...], Cutting | None]:
    """As ``cut_long``; ``is_long(seconds)`` says of a recording of that length whether it is to be cut."""
    headers = [_header(clip) for clip in clips]
    return _cut(clips, [None if h is None or not is_long(h.seconds) else h for h in headers], cut)


def _cut(
    clips: Sequence[Clip], headers: Sequence[Header | None], cut: Cut
) -> tuple[tuple[Clip, ...], Cutting | None]:
    """As ``cut_long``, of clips of which the long ones have a header."""
    long = [header for header in headers if header is not None]
    if not long:
        return tuple(clips), None
    pieces = [_piece(clip, header, cut) for clip, header in zip(clips, headers, strict=True)]
    pieces, stretches = _divided(pieces)
    found = tuple(window for piece in pieces for window in _windows(piece, cut))
    windows = sum(clip.span is not None for clip in found) - sum(clip.span is not None for clip in clips)
    return found, Cutting(cut, tuple(header.seconds for header in long), windows, stretches)


def _header(clip: Clip) -> Header | None:
    """Of a whole recording that can be read; a part of one is a window already."""
    if clip.span is not None:
        return None
    try:
        return audio.read_header(clip.recording)
    except (AudioError, MissingPackageError, OSError):
        return None


def _default(headers: Sequence[Header | None]) -> Cut | None:
    """How to cut clips of which one is a long recording; ``None`` if none is."""
    lengths = [header.seconds for header in headers if header is not None]
    usual = [seconds for seconds in lengths if seconds <= LONG_SECONDS]
    if len(usual) == len(lengths):
        return None
    return Cut.of(median(usual) if 2 * len(usual) >= len(lengths) else WINDOW_SECONDS)


def _median_seconds(headers: Iterable[Header | None]) -> float:
    """Of clips that can be read; without any, the default of a window."""
    return median([header.seconds for header in headers if header is not None] or [WINDOW_SECONDS])


def _piece(clip: Clip, header: Header | None, cut: Cut) -> _Piece:
    if header is None:
        return _Piece(clip, None, 1, clip.group)
    piece = _Piece(clip, header, cut.count(header.samples, header.rate), clip.group)
    return piece if clip.group else replace(piece, group=piece.recording)


def _divided(pieces: Sequence[_Piece]) -> tuple[list[_Piece], dict[str, str]]:
    """The same, where no group has nearly all clips of its domain; and the domains with stretches."""
    found: list[_Piece] = list(pieces)
    stretches: dict[str, str] = {}
    for domain in dict.fromkeys(piece.clip.domain for piece in pieces):
        while (group := _too_large(found, domain)) is not None:
            own = [p for p in found if p.clip.domain == domain and p.group == group and p.is_cut]
            if not own:
                break
            if all(piece.group == piece.recording for piece in own):
                stretches[domain or ""] = own[0].clip.name
                divided = {id(own[0]): replace(own[0], group="", n_stretches=STRETCHES)}
            else:
                divided = {id(piece): replace(piece, group=piece.recording) for piece in own}
            found = [divided.get(id(piece), piece) for piece in found]
    return found, stretches


def _too_large(pieces: Sequence[_Piece], domain: str | None) -> str | None:
    """The group that has nearly all clips of a domain, if there is one."""
    counts: Counter[str] = Counter()
    for piece in pieces:
        if piece.clip.domain == domain:
            counts[piece.group] += piece.n_clips
    total = counts.total()
    return next((group for group, n in counts.items() if group and n > MOST_SHARE * total), None)


def _windows(piece: _Piece, cut: Cut) -> Iterator[Clip]:
    """The clips that a piece becomes, in order of time."""
    if piece.header is None:
        yield piece.clip
        return
    samples, rate = piece.header.samples, piece.header.rate
    if piece.n_stretches == 1:
        for span in cut.spans(samples, rate):
            yield replace(piece.clip.part(span), group=piece.group)
        return
    length = cut.window_samples(rate)
    whole = samples // length
    number = min(piece.n_stretches, whole)
    ends = [i * whole // number * length for i in range(number)] + [samples]
    for i in range(number):
        start, stop = ends[i], ends[i + 1]
        for span in cut.spans(stop - start, rate):
            part = piece.clip.part(Span(start + span.start, start + span.stop, rate))
            yield replace(part, group=f"{piece.recording}, part {i + 1} of {number}")
