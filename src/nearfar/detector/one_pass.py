"""One pass over recordings: each is read once, and inspected, embedded and measured from the same samples.

A detector needs three things of a training clip: what is wrong with it, its embeddings, and its levels in bands.
All begin with the samples, and where their rates agree, with the same spectra and the same cancellation. So what
reads a clip to inspect it embeds and measures it, too, and the clip is not read again.

That is for branches that hear recordings one by one, and whose embeddings are kept by the recording's content, such
as those of ``spectral``. A network gains by hearing several at once, and takes so much longer than reading that it
hears clips after the inspection, which may leave some out.

Threads do it, or worker processes. What is computed between two calls of NumPy holds the interpreter, so two
threads use 1.2 to 1.3 of two cores; two processes use both, and give the same bytes. But a process takes most of a
second to start. So the first clips are heard by threads in any case, and the time that they take tells whether the
others are worth it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, Self, get_args

import numpy as np

from nearfar.detector.normal_sounds import Meter, views_of
from nearfar.embedding.embeddings import Overheard
from nearfar.files.memory import keep_freed_memory
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Recorded
from nearfar.recordings.bands import Levels
from nearfar.recordings.clips import Clip
from nearfar.recordings.inspection import training
from nearfar.recordings.inspection.training import Seen
from nearfar.recordings.microphones import MicrophoneError
from nearfar.recordings.recording import Recording, known_digests
from nearfar.recordings.transforms import Transforms
from nearfar.systems.branches import Branch

WorkersAre = Literal["threads", "processes"]
Measures = tuple[tuple[str, ...], Levels, Levels]  # views, levels and peaks

FIRST = 12  # clips that threads hear in any case
LOADING = 4  # of these, in which code is loaded: they tell no time
PAYS_FROM = 4.0  # seconds, if threads heard the other clips: processes save a third of them, and start in one
AT_ONCE = 10  # clips that a process hears before it hands over what it took from them, some 0.2 MB


@dataclass(frozen=True, eq=False, slots=True)
class Heard:
    """What was taken from one clip.

    Attributes
    ----------
    seen : Seen
    embeddings : mapping from int to Overheard
        By the number of the branch.
    levels : (views, levels, peaks) or None
    """

    seen: Seen
    embeddings: Mapping[int, Overheard]
    levels: Measures | None


@dataclass(frozen=True, eq=False, slots=True)
class Ear:
    """What reads a clip, inspects it, and takes from its samples what is wanted.

    Attributes
    ----------
    branches, rate, views
        As of ``OnePass``.
    """

    branches: Mapping[int, Branch]
    rate: int
    views: tuple[str, ...] | None

    def hear(self, clip: Clip, numbers: Collection[int]) -> Heard:
        """What these of the branches need of a clip."""
        recorded = training.read(clip)
        if isinstance(recorded, Seen):
            return Heard(recorded, {}, None)
        with np.errstate(all="ignore"):  # it may be broken: then the inspection tells it
            return self._take(clip, recorded, numbers)

    def _take(self, clip: Clip, recorded: Recorded, numbers: Collection[int]) -> Heard:
        transforms, name = Transforms(recorded.samples), str(clip.recording)
        seen = training.seen(clip, recorded, transforms=transforms)
        at_rate = {recorded.rate: transforms}
        embeddings: dict[int, Overheard] = {}
        levels: Measures | None = None
        for number in numbers:
            branch = self.branches[number]
            try:
                heard = _at_rate(recorded, branch.encoder.sample_rate, name, at_rate)
                embeddings[number], waveforms = branch.overhear(heard.samples, heard, name)
            except (AudioError, MicrophoneError):  # which the inspection tells, or ``Branch.embed``
                continue
            if self.views is not None and levels is None and branch.encoder.sample_rate == self.rate:
                meter = Meter(self.rate, views_of(len(heard.samples), self.views))
                levels = meter.views, *meter.measure(heard, waveforms)
        return Heard(seen, embeddings, levels)


def _at_rate(recorded: Recorded, rate: int, name: str, known: dict[int, Transforms]) -> Transforms:
    """Of what was recorded, at another rate: made once."""
    if rate not in known:
        known[rate] = Transforms(audio.at_rate(recorded.samples, recorded.rate, rate, name))
    return known[rate]


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Some clips for a worker process, each with the numbers of the branches that hear it."""

    ear: Ear
    clips: tuple[tuple[Clip, tuple[int, ...]], ...]


def _hear(task: Task, tell: Callable[[int], None]) -> list[Heard]:
    """What was taken from the clips of a task; each is told."""
    keep_freed_memory()
    found = []
    for clip, numbers in task.clips:
        found.append(task.ear.hear(clip, numbers))
        tell(1)
    return found


def refuse_nested(workers_are: WorkersAre, workers: int) -> None:
    """Raise if there are no such workers, or they are processes that a worker process would start.

    A script that asks for processes outside of ``if __name__ == "__main__"`` is refused by Python itself, in each
    new process, with an explanation.
    """
    if workers_are not in get_args(WorkersAre):
        raise ValueError(
            f"workers_are={workers_are!r}: must be one of {', '.join(map(repr, get_args(WorkersAre)))}"
        )
    if workers_are == "processes" and workers > 1:
        import multiprocessing  # here, because a verdict does not need it

        if multiprocessing.parent_process() is not None:
            raise ValueError(
                "workers_are='processes': this is a worker process itself, and must not start others; "
                "choose workers=1 or workers_are='threads'"
            )


@dataclass(frozen=True, eq=False)
class OnePass:
    """Reads each of several clips once: ``listen_to``; then ``of_branch`` and ``meter`` tell what it has heard.

    Attributes
    ----------
    branches : mapping from int to Branch
        By their number, those that hear clips in this pass; their back ends need not be fitted.
    rate : int
        At which levels are measured, in Hz: that of the detector.
    views : tuple of str or None
        The microphone views of the detector, whose levels are measured; ``None``: nothing is measured.
    known : mapping from int to set of Recording
        Of each branch, what need not be heard: the cache has its embeddings.
    embeddings : mapping from int to dict from Recording to Overheard
    levels : dict from Recording to (views, levels, peaks)
    """

    branches: Mapping[int, Branch]
    rate: int
    views: tuple[str, ...] | None
    known: Mapping[int, set[Recording]]
    embeddings: Mapping[int, dict[Recording, Overheard]]
    levels: dict[Recording, Measures] = field(default_factory=dict)

    @classmethod
    def of(
        cls, branches: Sequence[Branch], clips: Sequence[Clip], *, views: tuple[str, ...] | None, jobs: Jobs
    ) -> Self:
        """By the branches of a system, all of them, and what the cache knows of the clips.

        Parameters
        ----------
        branches : sequence of Branch
        clips : sequence of Clip
        views, jobs
            As of the class, and of ``Detector.fit``.
        """
        own = {number: branch for number, branch in enumerate(branches) if branch.hears_one_by_one}
        recordings = [clip.recording for clip in clips] if own else []
        shas = known_digests(recordings, jobs)
        told = [(sha, recording) for sha, recording in zip(shas, recordings, strict=True) if sha is not None]
        known: dict[int, set[Recording]] = {}
        for number, branch in own.items():
            stored = branch.knows([sha for sha, _ in told], jobs) if told else set()
            known[number] = {recording for sha, recording in told if sha in stored}
        rate = max(branch.encoder.sample_rate for branch in branches)
        return cls(own, rate, views, known, {number: {} for number in own})

    def listen_to(
        self,
        clips: Sequence[Clip],
        *,
        workers: int = 1,
        workers_are: WorkersAre = "threads",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Seen]:
        """Read clips, inspect them, and take from their samples what is wanted; what they showed, in their order.

        Parameters
        ----------
        clips : sequence of Clip
        workers : int
        workers_are : {"threads", "processes"}
            Processes: as far as there are so many clips that it pays.
        progress : callable or None
            Called with (clips done, all of them).

        Raises
        ------
        OSError
            If a worker process was killed.
        """
        keep_freed_memory()
        done = 0

        def tell(number: int) -> None:
            nonlocal done
            done += number
            if progress is not None:
                progress(done, len(clips))

        ear = Ear(
            {number: branch.unfitted() for number, branch in self.branches.items()}, self.rate, self.views
        )
        tasks = [(clip, self._unknown(clip)) for clip in clips]
        first = FIRST if workers_are == "processes" and workers > 1 else len(clips)
        seen, seconds = self._by_threads(ear, tasks[:first], workers, tell)
        rest = tasks[first:]
        if not rest or seconds * len(rest) < PAYS_FROM:
            return seen + self._by_threads(ear, rest, workers, tell)[0]
        return seen + self._by_processes(ear, rest, workers, tell)

    def _unknown(self, clip: Clip) -> tuple[int, ...]:
        """The branches that need to hear it."""
        return tuple(number for number in self.branches if clip.recording not in self.known[number])

    def _by_threads(
        self,
        ear: Ear,
        tasks: Sequence[tuple[Clip, tuple[int, ...]]],
        workers: int,
        tell: Callable[[int], None],
    ) -> tuple[list[Seen], float]:
        """What clips showed; and how many seconds one took, of those after the first few."""
        seen, times = [], []
        for heard in audio.each(tasks, lambda task: ear.hear(*task), workers=workers):
            seen.append(self._taken(heard))
            times.append(perf_counter())
            tell(1)
        timed = times[LOADING:]
        return seen, (timed[-1] - timed[0]) / (len(timed) - 1) if len(timed) > 1 else 0.0

    def _by_processes(
        self,
        ear: Ear,
        tasks: Sequence[tuple[Clip, tuple[int, ...]]],
        workers: int,
        tell: Callable[[int], None],
    ) -> list[Seen]:
        """What clips showed to worker processes."""
        from concurrent.futures.process import BrokenProcessPool  # here, because a verdict does not need it

        from nearfar.files.processes import Workers

        parts = [Task(ear, tuple(tasks[i : i + AT_ONCE])) for i in range(0, len(tasks), AT_ONCE)]
        seen: list[Seen] = []
        try:
            with Workers(min(workers, len(parts)), tell) as pool:
                waiting = deque([pool.submit(_hear, part) for part in parts])
                while waiting:  # in order, so that the first failure is that of threads
                    seen += [self._taken(heard) for heard in waiting.popleft().result()]
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process was killed, probably because memory ran out, or could not begin; run again with "
                "fewer workers"
            ) from error
        return seen

    def _taken(self, heard: Heard) -> Seen:
        """What a clip showed, when the rest is put where it belongs."""
        recording = heard.seen.clip.recording
        for number, embedded in heard.embeddings.items():
            self.embeddings[number][recording] = embedded
        if heard.levels is not None:
            self.levels[recording] = heard.levels
        return heard.seen

    def of_branch(
        self, number: int, clips: Sequence[Clip], recordings: Sequence[str]
    ) -> dict[str, Overheard]:
        """What that branch has heard of clips, by the digest of each one's recording."""
        found = self.embeddings.get(number, {})
        return {
            sha: found[clip.recording]
            for clip, sha in zip(clips, recordings, strict=True)
            if clip.recording in found
        }

    def meter(self, channels: int, clips: Sequence[Clip], recordings: Sequence[str]) -> Meter | None:
        """What knows the levels of clips with so many channels; ``None`` if they are not to be measured."""
        if self.views is None:
            return None
        meter = Meter(self.rate, views_of(channels, self.views))
        found = self.levels_of(clips, meter.views)
        own = ((sha, found.get(clip.recording)) for clip, sha in zip(clips, recordings, strict=True))
        meter.found.update((sha, both) for sha, both in own if both is not None)
        return meter

    def levels_of(
        self, clips: Sequence[Clip], views: tuple[str, ...] | None
    ) -> dict[Recording, tuple[Levels, Levels]]:
        """Levels and peaks of clips, as far as they were measured by these views: by recording."""
        own = ((clip.recording, self.levels.get(clip.recording)) for clip in clips)
        return {recording: found[1:] for recording, found in own if found is not None and found[0] == views}
