"""What a report shows of recordings: each is read once, for all that want something of it.

One reading of a clip serves the check of the data set, the maps of embeddings, and what is played. Embeddings that
the store has are not computed. To look at a clip again, the check takes the samples from memory: those of one
machine are kept until it is done, up to ``MOST_HELD``.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding.embeddings import embed
from nearfar.evaluation.results import Result
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Recorded, Samples
from nearfar.recordings.clips import Clip, Dataset, DatasetError
from nearfar.recordings.datasets.validation import Problem, validate
from nearfar.recordings.inspection import training
from nearfar.recordings.inspection.training import Seen
from nearfar.recordings.microphones import MICROPHONES, MicrophoneError, listen
from nearfar.recordings.transforms import Transforms
from nearfar.research.embedded import EmbeddingMap, Recipe, chosen, mapped, points_of_each, recipes_of, stored
from nearfar.systems.branches import Progress

PLAYED = ("near", "far", "cancelled")  # views, as far as a recording has the channels
MOST_SECONDS = 12.0  # of a clip that is played
MOST_HELD = 1 << 30  # bytes of samples in memory

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Heard:
    """A clip that can be played.

    Attributes
    ----------
    clip : Clip
    rate : int
        In Hz, of the recording.
    seconds : float
        Of the whole recording; its first ``MOST_SECONDS`` are in ``sounds``.
    sounds : mapping from view to (samples,) array
        Of ``PLAYED``, as far as the recording has the channels.
    """

    clip: Clip
    rate: int
    seconds: float
    sounds: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Listened:
    """What recordings showed.

    Attributes
    ----------
    problems : tuple of Problem
        Of the data set; files are named by their place in it.
    clips : int
        That were read.
    once : bool
        Whether each was read once. If a machine has more than ``MOST_HELD`` of samples, the check reads those again
        that it looks at closely.
    maps : tuple of EmbeddingMap
        Of each machine, one for each recipe.
    without_map : tuple of str
        Why other embeddings of the results are not shown.
    heard : mapping from key to Heard
    unheard : mapping from key to str
        Clips that were to be played, and why they cannot be.
    machines : tuple of str
        All of the data set.
    """

    problems: tuple[Problem, ...]
    clips: int
    once: bool
    maps: tuple[EmbeddingMap, ...]
    without_map: tuple[str, ...]
    heard: Mapping[str, Heard]
    unheard: Mapping[str, str]
    machines: tuple[str, ...]


def listen_to(
    dataset: Dataset,
    results: Mapping[str, Result],
    *,
    played: Collection[str] = (),
    workers: int = 1,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Listened:
    """Read the recordings of results once.

    Parameters
    ----------
    dataset : Dataset
        The machines of the results are read, the others are not.
    results : mapping from name to Result
    played : collection of str
        Keys of clips that are to be played.
    workers : int
        Threads.
    jobs : Jobs or None
        Whose cache has embeddings; ``None``: the user's.
    progress : callable or None

    Raises
    ------
    DatasetError
        If the data set has no clip of a result, or none of its recordings can be used.
    """
    _refuse_strangers(dataset, results)
    jobs = jobs or Jobs()
    names = {machine for result in results.values() for machine in result.run.machines}
    here = [machine.name for machine in dataset if machine.name in names]
    reading = _Reading.of(dataset.only(here), results, set(played), jobs)
    problems = validate(
        reading.dataset,
        workers=workers,
        progress=None if progress is None else lambda done, total: progress("listening", done, total),
        listen=reading.listen,
    )
    if len(reading.unread) == len(reading.dataset.clips):
        key, why = next(iter(sorted(reading.unread.items())))
        raise DatasetError([f"no recording of {dataset.name} can be used, such as {key}: {why}"])
    absent = f"no such clip in {dataset.name}"
    unheard = {key: reading.unread.get(key, absent) for key in played if key not in reading.heard}
    unheard = {key: _without_place(why, dataset) for key, why in unheard.items()}
    problems = [replace(one, message=_without_place(one.message, dataset)) for one in problems]
    return Listened(
        problems=tuple(problems),
        clips=len(reading.dataset.clips),
        once=reading.held_all,
        maps=reading.maps(),
        without_map=tuple(reading.why_not),
        heard=reading.heard,
        unheard=unheard,
        machines=tuple(machine.name for machine in dataset),
    )


def _without_place(message: str, dataset: Dataset) -> str:
    """A message that names files by their place in the data set, and not on this computer."""
    return message.replace(f"{dataset.root}/", "").replace(str(dataset.root), dataset.name)


def _refuse_strangers(dataset: Dataset, results: Mapping[str, Result]) -> None:
    there = {clip.key for clip in dataset.clips}
    if strangers := [name for name, result in results.items() if there.isdisjoint(result.scores["key"])]:
        raise DatasetError(
            f"{name}: {dataset.name} has none of its test clips; give the data set that it was made of, or report "
            "it without data" for name in strangers
        )  # fmt: skip


@dataclass
class _Reading:
    """The one reading: what is wanted of each clip, and what was found. Threads write to it."""

    dataset: Dataset
    recipes: Mapping[str, Sequence[Recipe]]  # by machine
    shown: Mapping[str, tuple[Clip, ...]]  # clips of the maps, by machine
    embedded: dict[tuple[str, int], dict[str, Array]]  # by machine and number of the recipe
    played: set[str]
    why_not: list[str]
    heard: dict[str, Heard] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)  # bytes, by machine
    held_all: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, dataset: Dataset, results: Mapping[str, Result], played: set[str], jobs: Jobs) -> _Reading:
        found = {machine.name: recipes_of(results, machine.name, jobs, dataset.clips) for machine in dataset}
        recipes = {name: of for name, (of, _) in found.items()}
        n = points_of_each(sum(map(len, recipes.values())))
        scored = {key for result in results.values() for key in result.scores["key"]}
        shown = {machine.name: chosen(machine, n, scored, played) for machine in dataset}
        embedded = {
            (name, number): stored(recipe, shown[name], jobs)
            for name, of_machine in recipes.items()
            for number, recipe in enumerate(of_machine)
        }
        why_not = list(dict.fromkeys(reason for _, reasons in found.values() for reason in reasons))
        return cls(dataset, recipes, shown, embedded, played, why_not)

    def __post_init__(self) -> None:
        self.on_maps = {clip.key for clips in self.shown.values() for clip in clips}

    def listen(self, clip: Clip) -> Seen:
        """Read a clip, and take from it what is wanted."""
        recorded = training.read(clip)
        if isinstance(recorded, Seen):
            why = "" if recorded.error is None else recorded.error[1]
            self.unread[clip.key] = why.removeprefix(f"{clip.recording}: ")
            return recorded
        seen = training.seen(clip, recorded, hold=self._may_hold(clip, recorded))
        if clip.key in self.on_maps:
            self._embed(clip, recorded, seen)
        if clip.key in self.played:
            self.heard[clip.key] = _heard(clip, recorded)
        return seen

    def _may_hold(self, clip: Clip, recorded: Recorded) -> bool:
        """Whether there is room for its samples in memory; those of the machine before are gone."""
        with self.lock:
            held = self.held.get(clip.machine, 0) + recorded.samples.nbytes // 2
            self.held = {clip.machine: held}
            self.held_all &= held <= MOST_HELD
        return held <= MOST_HELD

    def _embed(self, clip: Clip, recorded: Recorded, seen: Seen) -> None:
        heard: dict[int, Transforms | None] = {}
        for number, recipe in enumerate(self.recipes[clip.machine]):
            found = self.embedded[clip.machine, number]
            if clip.key in found:
                continue
            embedding = seen.known.bands[0] if recipe.branch is None else _embedding(recipe, recorded, heard)
            if embedding is not None:
                found[clip.key] = embedding

    def maps(self) -> tuple[EmbeddingMap, ...]:
        """Of each machine and recipe, as far as three clips could be embedded."""
        found = [
            mapped(name, recipe, self.shown[name], self.embedded[name, number])
            for name, recipes in self.recipes.items()
            for number, recipe in enumerate(recipes)
        ]
        return tuple(one for one in found if one is not None)


def _embedding(recipe: Recipe, recorded: Recorded, heard: dict[int, Transforms | None]) -> Array | None:
    """Of one recording, which is resampled once for each rate; ``None`` if the branch cannot hear it."""
    branch = recipe.branch
    assert branch is not None
    rate = branch.encoder.sample_rate
    if rate not in heard:
        heard[rate] = Transforms(_at_rate(recorded, rate)) if recorded.rate >= rate else None
    transforms = heard[rate]
    if transforms is None or transforms.samples.shape[1] < branch.encoder.min_samples:
        return None
    how = {"view": branch.resolved.view, "pooling": branch.resolved.pooling}
    try:
        found = embed(transforms.samples, branch.encoder, **how, transforms=transforms)
    except (AudioError, MicrophoneError, ValueError):
        return None
    return found.mean(axis=0) if found.ndim > 1 else found


def _at_rate(recorded: Recorded, rate: int) -> Samples:
    return audio.resample(recorded.samples, recorded.rate, rate)


def _heard(clip: Clip, recorded: Recorded) -> Heard:
    """The beginning of a recording by each view that it has the channels for."""
    most = round(MOST_SECONDS * recorded.rate)
    samples = recorded.samples[:, :most]
    sounds = {
        view: np.array(listen(samples, view), dtype=np.float32)
        for view in PLAYED
        if len(samples) >= MICROPHONES[view].channels
    }
    return Heard(clip, recorded.rate, recorded.samples.shape[1] / recorded.rate, sounds)
