"""What a detector keeps of how normal clips sound, to show beside a recording that is unlike them.

Of each clip it keeps levels in bands of 1/6 octave, by each microphone view. Of a few dozen clips it keeps the
sound itself, as FLAC inside the detector's folder: clips that stand for the others (``representatives``). Scores,
thresholds and learning do not use any of this.

Conventions
-----------
Levels are those of ``recordings.bands``, at the rate of the detector: so they are of what it can hear. Sounds have
the rate of the recordings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from nearfar.detector.keeping import Bank
from nearfar.detector.representatives import representatives
from nearfar.files.arrays import save_arrays
from nearfar.files.digests import digest_bytes
from nearfar.files.memory import keep_freed_memory
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, bands
from nearfar.recordings.audio import FAR, Header, Recorded, Samples
from nearfar.recordings.bands import Levels, band_edges, measured_bands
from nearfar.recordings.clips import Clip
from nearfar.recordings.flac import decoded, encoded, holds
from nearfar.recordings.microphones import MICROPHONES, NAMES
from nearfar.recordings.recording import Recording
from nearfar.recordings.transforms import Transforms, Waveform

__all__ = ["DamagedSoundError", "NormalClip", "NormalSounds", "band_edges", "measured_bands"]

FOLDER = "normal"  # in the detector's, of the sounds
MOST_CLIPS, FEWEST_CLIPS = 24, 4  # whose sound is kept
MOST_BYTES = 64 * 2**20  # of all sounds together; where each is large, they are fewer
MOST_SECONDS = 30.0  # of a sound; of a longer clip it is the beginning
LEVELS = "levels.safetensors"  # of a step

Tell = Callable[[int, int], None]

logger = logging.getLogger(__name__)


class DamagedSoundError(ValueError):
    """The recording of a normal clip, inside a detector, is missing or damaged; scores do not need it."""


@dataclass(frozen=True, eq=False)
class NormalClip:
    """A normal clip whose sound the detector keeps.

    Attributes
    ----------
    name, domain, attributes : str
        As of ``keeping.Bank``; empty where nothing is told.
    row : int
        Which row of ``NormalSounds`` it is, and of ``Kept.bank``.
    content : int
        As of ``Bank.contents``; its file is named after it.
    rate : int
        Of the recording, in Hz; of one that FLAC cannot hold, that of the detector.
    channels : int
        Near, then far; 1 or 2.
    samples : int
        In each channel.
    whole_seconds : float
        How long the clip is; more than is kept of one that is longer than ``MOST_SECONDS``.
    exponent : int
        As of ``recordings.flac.Encoded``.
    digest : str
        SHA-256 of its FLAC file.
    source : bytes or Path
        The file's content; or the folder of the detector that it is in.
    """

    name: str
    domain: str
    attributes: str
    row: int
    content: int
    rate: int
    channels: int
    samples: int
    whole_seconds: float
    exponent: int
    digest: str
    source: bytes | Path

    def __repr__(self) -> str:
        return f"NormalClip({', '.join(filter(None, [repr(self.name), self.domain, self.attributes]))})"

    @property
    def file(self) -> str:
        """Its file, below the detector's folder."""
        return f"{FOLDER}/{self.content:016x}.flac"

    @property
    def seconds(self) -> float:
        """How long what is kept is."""
        return self.samples / self.rate

    @property
    def size(self) -> int:
        """Bytes of its file; 0 if it is missing."""
        if isinstance(self.source, bytes):
            return len(self.source)
        path = self.source / self.file
        return path.stat().st_size if path.is_file() else 0

    def read(self) -> bytes:
        """The content of its file.

        Raises
        ------
        DamagedSoundError
            If it is missing, or is no longer what was saved.
        """
        if isinstance(self.source, bytes):
            return self.source
        path = self.source / self.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DamagedSoundError(
                f"{path}: {_cause(error)}. It is the recording of the normal clip {self.name!r}; restore it from a "
                "copy of the detector, or fit again. Scores do not need it"
            ) from error
        if digest_bytes(content) != self.digest:
            raise DamagedSoundError(
                f"{path}: damaged (its digest has changed). It is the recording of the normal clip {self.name!r}; "
                "restore it from a copy of the detector, or fit again. Scores do not need it"
            )
        return content

    def load(self) -> Recorded:
        """Its sound: the samples of the recording, near first, and their rate.

        They are exact where the recording was 16- or 24-bit PCM; else see ``recordings.flac``.

        Raises
        ------
        DamagedSoundError
            As ``read``.
        """
        samples, rate = decoded(self.read(), self.exponent)
        header = Header(rate, len(samples), samples.shape[1], "FLAC")
        return Recorded(samples, rate, header)

    def describe(self) -> dict[str, Any]:
        """All but the sound, JSON-able."""
        kept = (
            "name",
            "attributes",
            "row",
            "rate",
            "channels",
            "samples",
            "whole_seconds",
            "exponent",
            "digest",
        )
        return {name: getattr(self, name) for name in kept}


def _cause(error: OSError) -> str:
    return (
        "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
    )


@dataclass(frozen=True, eq=False)
class NormalSounds:
    """How the clips of a detector sound; C clips, V views, B bands.

    Attributes
    ----------
    rate : int
        At which levels are measured, in Hz: that of the detector.
    edges : (B + 1,) array
        Of the bands, in Hz, as of ``band_edges``.
    views : tuple of str
        Microphone views, of ``MICROPHONES``: "near"; where the clips have two channels, also "far" and what the
        branches of the detector hear.
    levels : (C, V, B) float32 array
        Mean power in each band, in dBFS.
    peaks : (C, V, B) float32 array
        95 % quantile over frames of the level in each band, in dBFS.
    domain : tuple of str
        Of each clip; empty where it is not told.
    contents : (C,) array of uint64
        As of ``Bank``, in the same order.
    clips : tuple of NormalClip
        Whose sound is kept, by row.
    keeps_recordings : bool
        Whether the fit was told to keep sounds; then ``learn`` does, too.
    """

    rate: int
    edges: NDArray[np.float64]
    views: tuple[str, ...]
    levels: Levels
    peaks: Levels
    domain: tuple[str, ...]
    contents: NDArray[np.uint64]
    clips: tuple[NormalClip, ...] = ()
    keeps_recordings: bool = False

    def __len__(self) -> int:
        return len(self.domain)

    def __repr__(self) -> str:
        return f"NormalSounds({len(self)} clips, {len(self.clips)} recordings, views={self.views})"

    def measure(self, samples: Samples, rate: int, name: str = "recording") -> tuple[Levels, Levels]:
        """Levels and peaks of another recording, as those of the clips: (V, B) each.

        Parameters
        ----------
        samples : (channels, samples) array
        rate : int
            In Hz, at least ``rate`` of the class.
        name : str
            For messages.

        Returns
        -------
        levels, peaks : (V, B) float32 arrays
            NaN for a view that needs more channels than there are.

        Raises
        ------
        AudioError
            If the rate is too low.
        """
        heard = audio.at_rate(samples[: FAR + 1], rate, self.rate, name)
        levels, peaks = (np.full(self.levels.shape[1:], np.nan, np.float32) for _ in range(2))
        known = [i for i, view in enumerate(self.views) if MICROPHONES[view].channels <= len(heard)]
        levels[known], peaks[known] = measured_bands(
            heard, self.rate, [self.views[i] for i in known], self.edges
        )
        return levels, peaks

    @property
    def size(self) -> int:
        """Bytes of the sounds that are kept, as FLAC; of those that are there."""
        return sum(clip.size for clip in self.clips)

    def readable(self) -> Iterator[tuple[NormalClip, bytes]]:
        """The clips whose file is as it was saved, and its content; logs which are not."""
        for clip in self.clips:
            try:
                yield clip, clip.read()
            except DamagedSoundError as error:
                logger.warning("%s", error)

    def select(self, order: NDArray[np.intp]) -> Self:
        """The same clips in another order: all positions."""
        places = {old: new for new, old in enumerate(order.tolist())}
        clips = [replace(clip, row=places[clip.row]) for clip in self.clips]
        return replace(
            self,
            levels=self.levels[order],
            peaks=self.peaks[order],
            domain=tuple(self.domain[i] for i in order),
            contents=self.contents[order],
            clips=tuple(sorted(clips, key=lambda clip: clip.row)),
        )

    def joined(
        self,
        clips: Sequence[Clip],
        contents: NDArray[np.uint64],
        *,
        known: Mapping[Recording, tuple[Levels, Levels]] | None = None,
        workers: int = 1,
    ) -> Self:
        """These, and other clips of the same machine after them; of their sounds none yet.

        Parameters
        ----------
        clips : sequence of Clip
            That can be read.
        contents : (n,) array of uint64
            As of ``Bank``.
        known : mapping from Recording to (levels, peaks), or None
            Of recordings that need not be read for it.
        workers : int
            Threads.
        """
        found = dict(known or {})
        missing = [clip for clip in clips if clip.recording not in found]
        if missing:
            read = _measured(missing, self.rate, self.views, workers=workers)
            found |= {clip.recording: (a, b) for clip, a, b in zip(missing, *read, strict=True)}
        levels, peaks = (np.stack(of) for of in zip(*(found[clip.recording] for clip in clips), strict=True))
        return replace(
            self,
            levels=np.concatenate([self.levels, levels]),
            peaks=np.concatenate([self.peaks, peaks]),
            domain=(*self.domain, *(clip.domain or "" for clip in clips)),
            contents=np.concatenate([self.contents, contents]),
        )

    def with_recordings(
        self, clips: Mapping[int, Clip], bank: Bank, *, suspects: Collection[int] = (), workers: int = 1
    ) -> Self:
        """The same with the sounds of clips that stand for the others, if the fit was told to keep any.

        Parameters
        ----------
        clips : mapping from row to Clip
            Whose recordings are there. Beside them, those that are kept already can be chosen, if their files are
            as they were saved.
        bank : Bank
            Of all clips, in the order of the rows.
        suspects : collection of int
            Rows that may be no normal clips.
        workers : int
            Threads.
        """
        if not self.keeps_recordings:
            return self
        if not holds(FAR + 1, self.rate):
            logger.warning("no sound of a clip is kept: FLAC does not hold %d Hz", self.rate)
            return self
        known = {clip.row: clip for clip, _ in self.readable()}
        rows = self._each_once([*known, *sorted({*clips} - {*known})])
        if not rows:
            return self

        def sound_of(row: int) -> NormalClip:
            return known[row] if row in known else self._encoded(clips[row], row, bank)

        available = np.zeros(len(self), bool)
        available[rows] = True
        chosen = representatives(
            self.domain, bank.attributes, self.features(bank), _how_many(sound_of(rows[0]).size),
            available=available, taken=known, suspects=suspects,
        )  # fmt: skip
        return replace(self, clips=tuple(audio.each(chosen, sound_of, workers=workers)))

    def features(self, bank: Bank) -> list[NDArray[np.floating[Any]]]:
        """What clips are compared by: their embeddings; where none are kept, their levels."""
        return [X for X in bank.embeddings if X is not None] or [self.levels]

    def _each_once(self, rows: Sequence[int]) -> list[int]:
        """Of rows with the same recording the first, in their order: of copies, one is enough."""
        found: dict[int, int] = {}
        for row in rows:
            found.setdefault(int(self.contents[row]), row)
        return list(found.values())

    def _encoded(self, clip: Clip, row: int, bank: Bank) -> NormalClip:
        """The sound of a clip, to be kept."""
        recorded = audio.read_recorded(clip.recording)
        samples, rate = recorded.samples[: FAR + 1], recorded.rate
        seconds = samples.shape[1] / rate
        samples = samples[:, : round(MOST_SECONDS * rate)]
        if not holds(len(samples), rate):
            samples, rate = audio.at_rate(samples, rate, self.rate, clip.name), self.rate
        file = encoded(samples, rate)
        return NormalClip(
            name=bank.name[row], domain=bank.domain[row], attributes=bank.attributes[row], row=row,
            content=int(self.contents[row]), rate=rate, channels=len(samples), samples=samples.shape[1],
            whole_seconds=seconds, exponent=file.exponent, digest=digest_bytes(file.content), source=file.content,
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To save it, beside ``describe`` and the files."""
        names = sorted(set(self.domain))
        return {
            "levels": self.levels,
            "peaks": self.peaks,
            "edges": self.edges,
            "contents": self.contents,
            "domain": np.array([names.index(one) for one in self.domain], dtype=np.int32),
        }

    def describe(self, clips: Iterable[NormalClip]) -> dict[str, Any]:
        """What ``arrays`` does not say, JSON-able; with the sounds of these clips."""
        return {
            "rate": self.rate,
            "views": list(self.views),
            "domain_names": sorted(set(self.domain)),
            "keeps_recordings": self.keeps_recordings,
            "recordings": [clip.describe() for clip in clips],
        }

    @classmethod
    def restore(cls, told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], folder: Path) -> Self:
        """What ``describe`` and ``arrays`` saved, of the detector in that folder. No sound is read."""
        names, contents = told["domain_names"], arrays["contents"]
        domain = tuple(names[i] for i in arrays["domain"].tolist())
        clips = (
            NormalClip(
                **one, domain=domain[one["row"]], content=int(contents[one["row"]]), source=folder.absolute()
            )
            for one in told["recordings"]
        )
        return cls(
            rate=told["rate"],
            edges=arrays["edges"],
            views=tuple(told["views"]),
            levels=arrays["levels"],
            peaks=arrays["peaks"],
            domain=domain,
            contents=contents,
            clips=tuple(clips),
            keeps_recordings=told["keeps_recordings"],
        )


@dataclass(frozen=True, eq=False)
class Meter:
    """Measures recordings while an encoder hears them: as ``embeddings.embed_stored`` asks it to.

    Attributes
    ----------
    rate : int
        Of the detector, in Hz. What is heard at another rate is not measured.
    views : tuple of str
        As of ``NormalSounds``.
    found : dict from SHA-256 of a recording to (levels, peaks)
    """

    rate: int
    views: tuple[str, ...]
    found: dict[str, tuple[Levels, Levels]] = field(default_factory=dict)

    def __call__(self, sha: str, transforms: Transforms, waveforms: Mapping[str, Waveform]) -> None:
        if sha not in self.found:
            self.found[sha] = self.measure(transforms, waveforms)

    def measure(self, transforms: Transforms, waveforms: Mapping[str, Waveform]) -> tuple[Levels, Levels]:
        """Levels and peaks of one recording, (views, bands) each.

        Parameters
        ----------
        transforms : Transforms
            Of its samples, at the detector's rate.
        waveforms : mapping from view to (samples,) array
            As far as an encoder has heard them.
        """
        return measured_bands(
            transforms.samples, self.rate, self.views, band_edges(self.rate), transforms=transforms,
            waveforms=waveforms,
        )  # fmt: skip

    def of_clips(
        self,
        clips: Sequence[Clip],
        recordings: Sequence[str],
        *,
        workers: int,
        jobs: Jobs,
        tell: Tell | None = None,
    ) -> tuple[Levels, Levels]:
        """Levels and peaks of clips, (n, views, bands) each; those that it has not heard are read, unless known.

        Parameters
        ----------
        clips : sequence of Clip
        recordings : sequence of str
            SHA-256 of the recording of each.
        workers : int
            Threads.
        jobs : Jobs
            Where levels are kept for another fit to these clips.
        tell : callable or None
            Called with (clips done, all of them).
        """

        def make(part: Path) -> None:
            missing = [i for i, sha in enumerate(recordings) if sha not in self.found]
            read = _measured([clips[i] for i in missing], self.rate, self.views, workers=workers, tell=tell)
            new = {recordings[i]: both for i, both in zip(missing, zip(*read, strict=True), strict=True)}
            levels, peaks = zip(*((self.found | new)[sha] for sha in recordings), strict=True)
            save_arrays(part / LEVELS, {"levels": np.stack(levels), "peaks": np.stack(peaks)})

        inputs = {"clips": list(recordings), "rate": self.rate, "views": list(self.views)}
        arrays = load_file(jobs.do("levels", inputs, make, made_by=(bands.__name__,)) / LEVELS)
        return arrays["levels"], arrays["peaks"]


def heard_in(
    clips: Sequence[Clip],
    bank: Bank,
    levels: tuple[Levels, Levels],
    meter: Meter,
    *,
    keep_recordings: bool,
    suspects: Collection[Clip] = (),
    workers: int = 1,
) -> NormalSounds:
    """How the clips of a fit sound.

    Parameters
    ----------
    clips : sequence of Clip
        Of one rate and number of channels.
    bank : Bank
        Of the same clips.
    levels : pair of (n_clips, views, bands) arrays
        Levels and peaks, as of ``Meter.of_clips``.
    meter : Meter
        That measured them.
    keep_recordings : bool
    suspects : collection of Clip
        That may be no normal ones: their sound is not kept if there are others.
    workers : int
        Threads.
    """
    found = NormalSounds(
        rate=meter.rate,
        edges=band_edges(meter.rate),
        views=meter.views,
        levels=levels[0],
        peaks=levels[1],
        domain=bank.domain,
        contents=bank.contents,
        keeps_recordings=keep_recordings,
    )
    doubtful = {i for i, clip in enumerate(clips) if clip in suspects}
    return found.with_recordings(dict(enumerate(clips)), bank, suspects=doubtful, workers=workers)


def views_of(channels: int, microphones: Sequence[str]) -> tuple[str, ...]:
    """The views whose levels are kept of clips with so many channels, by a detector with these microphone views."""
    found = tuple(dict.fromkeys((*NAMES, *microphones)))
    return tuple(view for view in found if MICROPHONES[view].channels <= channels)


def _how_many(size: int) -> int:
    """Of how many clips the sound is kept, if one takes so many bytes."""
    return int(np.clip(MOST_BYTES // size, FEWEST_CLIPS, MOST_CLIPS))


def _measured(
    clips: Sequence[Clip], rate: int, views: Sequence[str], *, workers: int, tell: Tell | None = None
) -> tuple[Levels, Levels]:
    """Levels and peaks of clips, (n, views, bands) each."""
    keep_freed_memory()
    edges = band_edges(rate)

    def of_clip(clip: Clip) -> tuple[Levels, Levels]:
        return measured_bands(audio.load(clip.recording, rate)[: FAR + 1], rate, views, edges)

    found = np.empty((2, len(clips), len(views), len(edges) - 1), np.float32)
    for i, both in enumerate(audio.each(clips, of_clip, workers=workers)):
        found[:, i] = both
        if tell is not None:
            tell(i + 1, len(clips))
    return found[0], found[1]
