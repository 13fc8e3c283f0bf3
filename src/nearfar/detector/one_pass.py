"""One pass over recordings: each is read once, and inspected, embedded and measured from the same samples.

A detector needs three things of a training clip: what is wrong with it, its embeddings, and its levels in bands.
All begin with the samples, and where their rates agree, with the same spectra and the same cancellation. So what
reads a clip to inspect it embeds and measures it, too, and the clip is not read again.

That is for branches that hear recordings one by one, and whose embeddings are kept by the recording's content, such
as those of ``spectral``. A network gains by hearing several at once, and takes so much longer than reading that it
hears clips after the inspection, which may leave some out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from nearfar.detector.normal_sounds import Meter, views_of
from nearfar.embedding.embeddings import Overheard
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


@dataclass(frozen=True, eq=False)
class OnePass:
    """Reads each of several clips once: ``listen``, which threads call; then ``of_branch`` and ``meter``.

    Attributes
    ----------
    branches : mapping from int to Branch
        By their number, those that hear clips in this pass.
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
    levels: dict[Recording, tuple[tuple[str, ...], Levels, Levels]] = field(default_factory=dict)

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

    def listen(self, clip: Clip) -> Seen:
        """Read a clip, inspect it, and take from its samples what is wanted."""
        recorded = training.read(clip)
        if isinstance(recorded, Seen):
            return recorded
        transforms = Transforms(recorded.samples)
        seen = training.seen(clip, recorded, transforms=transforms)
        heard = {recorded.rate: transforms}
        for number in self.branches:
            if clip.recording not in self.known[number]:
                self._hear(clip.recording, recorded, number, heard)
        return seen

    def _hear(
        self, recording: Recording, recorded: Recorded, number: int, heard: dict[int, Transforms]
    ) -> None:
        """By one branch; what it cannot hear is told by the inspection, or by ``Branch.embed``."""
        branch, name = self.branches[number], str(recording)
        rate = branch.encoder.sample_rate
        try:
            if rate not in heard:
                heard[rate] = Transforms(audio.at_rate(recorded.samples, recorded.rate, rate, name))
            transforms = heard[rate]
            with np.errstate(all="ignore"):  # it may be broken, and is left out then
                embedded, waveforms = branch.overhear(transforms.samples, transforms, name)
        except (AudioError, MicrophoneError):
            return
        self.embeddings[number][recording] = embedded
        if self.views is not None and rate == self.rate and recording not in self.levels:
            meter = Meter(rate, views_of(len(transforms.samples), self.views))
            with np.errstate(all="ignore"):
                self.levels[recording] = (meter.views, *meter.measure(transforms, waveforms))

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
