"""A branch: one line of evidence about a machine.

Encoder, microphone view, pooling, conditioning and back end, in this order. ``Branch`` is what is fitted to the
normal clips of a machine; a ``ResolvedBranch`` says what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from nearfar.backends import Arrays, learnt, part, restore
from nearfar.embedding import embeddings
from nearfar.embedding.embeddings import VIEWS, AlsoHears, Overheard, heard
from nearfar.embedding.lengths import can_be_unheard, warn_of_lengths
from nearfar.embedding.store import Origin, Store
from nearfar.encoders import Encoder, Layered
from nearfar.files.arrays import save_arrays
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Samples
from nearfar.recordings.clips import Clip, DatasetError
from nearfar.recordings.microphones import MICROPHONES, listen
from nearfar.recordings.recording import Recording, digests
from nearfar.recordings.transforms import Transforms
from nearfar.systems.resolved import ResolvedBranch
from nearfar.training.adapters import HEAD, LAYERS, Adapter, HeardClips

Array = NDArray[np.floating[Any]]
Progress = Callable[[str, int, int], None]

ADAPTER = "adapter.safetensors"  # the file of a step
UNDISCLOSED = "undisclosed"  # stands for the domain of clips that do not tell it: they are one domain


class Branch:
    """One line of evidence about one machine.

    Parameters
    ----------
    resolved : ResolvedBranch

    Attributes
    ----------
    encoder : Encoder
        With the adapter that is bound, if there is one.
    conditioning, backend : fitted scikit-learn estimators
    """

    def __init__(self, resolved: ResolvedBranch) -> None:
        self.resolved = resolved
        self.encoder: Encoder = resolved.encoder.make()
        self.conditioning = [step.make() for step in resolved.conditioning]
        self.backend = resolved.backend.make()
        if resolved.adapter is not None:
            self._take_up(resolved.adapter)

    def _take_up(self, adapter: Adapter) -> None:
        self.encoder = self.encoder.with_arrays(part(adapter.arrays, LAYERS))
        for step, fitted in zip(self.resolved.conditioning, self.conditioning, strict=True):
            if step.name == HEAD:
                restore(fitted, {f"{k}_": array for k, array in part(adapter.arrays, HEAD).items()})

    def unfitted(self) -> Branch:
        """The same branch, whose conditioning and back end are not fitted yet; its encoder stays as it is."""
        made = copy(self)
        made.conditioning = [step.make() for step in self.resolved.conditioning]
        made.backend = self.resolved.backend.make()
        for step, new, own in zip(
            self.resolved.conditioning, made.conditioning, self.conditioning, strict=True
        ):
            if step.name == HEAD:  # an adapter has brought it
                restore(new, learnt(own))
        return made

    def fit(
        self, clips: Sequence[Clip], *, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> Self:
        """Fit everything to normal clips of one machine."""
        self.fit_encoder(clips, workers=workers, jobs=jobs, progress=progress)
        X = self.embed(clips, workers=workers, jobs=jobs, progress=progress)
        return self.fit_backend(X, domains(clips), attributes(clips))

    def fit_encoder(
        self, clips: Sequence[Clip], *, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> None:
        """Train the encoder, if it is one that is fitted per machine; take a finished training from ``jobs``."""
        training = self.resolved.training
        if training is None:
            return

        def waveform(clip: Clip) -> NDArray[np.float32]:
            (only,) = heard(
                audio.load(clip.recording, self.encoder.sample_rate), self.encoder, self.resolved.view
            )
            return only

        def make(folder: Path) -> None:
            training.make().train(
                self.encoder,
                audio.each(clips, waveform, workers=workers),
                domain=domains(clips),
                attributes=attributes(clips),
                seed=self.resolved.seed,
                folder=jobs.unfinished("training", _without_epochs(inputs), made_by=made_by),
                progress=None if progress is None else lambda done, total: progress("training", done, total),
            )
            save_arrays(folder / "arrays.safetensors", self.encoder.arrays())

        inputs, made_by = self._training_step(clips, jobs)
        folder = jobs.do("encoder", inputs, make, made_by=made_by)
        self.encoder = self.encoder.with_arrays(load_file(folder / "arrays.safetensors"))

    def _training_step(self, clips: Sequence[Clip], jobs: Jobs) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What the training of the encoder is kept under, and the modules that do it."""
        inputs = {**self.resolved.trained_encoder, "clips": _contents(clips, jobs)}
        return inputs, (__name__, *self.resolved.encoder_modules)

    def has_trained(self, clips: Sequence[Clip], jobs: Jobs) -> bool:
        """Whether ``jobs`` has the training of the encoder on these clips; recordings it knows are not read."""
        inputs, made_by = self._training_step(clips, jobs)
        return jobs.has("encoder", inputs, made_by=made_by)

    def train_adapter(
        self, clips: Sequence[Clip], *, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> Path:
        """The file of an adapter trained on normal clips of several machines; of a finished training if any.

        Raises
        ------
        DatasetError
            If recordings cannot be trained on; all that cannot, as far as their headers tell.
        ValueError
            If the branch is not one that is adapted, or as ``training.adaptation.Recipe.train``.
        """
        resolved, adaptation = self.resolved, self.resolved.adaptation
        if adaptation is None:
            raise ValueError(f"encoder {resolved.encoder.name!r}: this system trains nothing over machines")
        microphones = resolved.adapted_on_microphones

        def hear(number: int) -> NDArray[np.float32]:
            samples = audio.load(clips[number].recording, self.encoder.sample_rate)
            return np.stack([listen(samples, microphone) for microphone in microphones])

        def make(folder: Path) -> None:
            _refuse_untrainable(clips, self.encoder, microphones, workers)
            self._warn_of_lengths(clips, workers)
            machine = np.array([clip.machine for clip in clips])
            arrays = adaptation.make().train(
                self.encoder,
                HeardClips(hear, machine, domains(clips), attributes(clips), len(microphones)),
                seed=resolved.seed,
                folder=jobs.unfinished("adaptation", inputs, made_by=made_by),
                workers=workers,
                progress=None if progress is None else lambda done, total: progress("adapting", done, total),
            )
            Adapter(arrays, made_with).save(folder / ADAPTER)

        made_with, inputs, made_by = self._adapter_step(clips, jobs)
        return jobs.do("adapter", inputs, make, made_by=made_by) / ADAPTER

    def finished_adapter(self, clips: Sequence[Clip], jobs: Jobs) -> Path | None:
        """The file of the adapter that ``jobs`` has of these clips; recordings that it knows are not read."""
        _, inputs, made_by = self._adapter_step(clips, jobs)
        folder = jobs.folder("adapter", inputs, made_by=made_by)
        return folder / ADAPTER if jobs.has("adapter", inputs, made_by=made_by) else None

    def _adapter_step(
        self, clips: Sequence[Clip], jobs: Jobs
    ) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
        """What the file of an adapter tells, what its training is kept under, and the modules that do it.

        Raises
        ------
        ValueError
            If the branch is not one that is adapted.
        """
        resolved, adaptation = self.resolved, self.resolved.adaptation
        if adaptation is None:
            raise ValueError(f"encoder {resolved.encoder.name!r}: this system trains nothing over machines")
        made_with = {
            **resolved.network,
            "blocks": list(self.encoder.blocks),
            "adaptation": adaptation.describe()["options"],
            "recipe": adaptation.name,
            "microphones": list(resolved.adapted_on_microphones),
            "seed": resolved.seed,
            "machines": _describe_machines(clips, jobs),
        }
        told = [
            [sha, c.machine, c.domain, c.attributes]
            for sha, c in zip(digests((clip.recording for clip in clips), jobs), clips, strict=True)
        ]
        device = resolved.encoder.options.arguments().get("device")
        classes = [resolved.encoder.identity["class"], adaptation.identity["class"]]
        inputs = {**made_with, "classes": classes, "device": device, "clips": told}
        return made_with, inputs, (__name__, resolved.encoder.module, adaptation.module)

    def _require_adapter(self) -> None:
        if self.resolved.adaptation is not None and not self.encoder.arrays():
            raise ValueError(
                f"encoder {self.resolved.encoder.name!r} must be adapted over machines before it is fitted to one, "
                "but no adapter was given: train one with `nearfar adapt`, and give it with --adapter"
            )

    @property
    def uses_store(self) -> bool:
        """Whether its embeddings are kept: if its encoder is frozen, and they are one vector a clip."""
        return not self.encoder.fitted_per_machine and self.resolved.pooling != "rows"

    @property
    def hears_one_by_one(self) -> bool:
        """Whether its embeddings are kept, and it gains nothing by hearing several recordings at once."""
        return self.uses_store and not isinstance(self.encoder, Layered)

    def overhear(
        self, samples: Samples, transforms: Transforms, name: str = "recording"
    ) -> tuple[Overheard, dict[str, Samples]]:
        """What it makes of one recording at its rate, for ``embed``: see ``embeddings.overhear``."""
        microphones, pooling = VIEWS[self.resolved.view].microphones, self.resolved.pooling
        how: dict[str, Any] = {"pooling": pooling, "transforms": transforms, "name": name}
        return embeddings.overhear(samples, self.encoder, dict.fromkeys(microphones), **how)

    def knows(self, shas: Iterable[str], jobs: Jobs) -> set[str]:
        """Of which recordings the store of ``jobs`` has its embeddings, by their digests."""
        how = {"view": self.resolved.view, "pooling": self.resolved.pooling}
        return {*embeddings.stored(shas, self.encoder, self.origins(), Store(jobs.root), **how)}

    def origins(self) -> dict[str, Origin]:
        """What its embeddings are kept under, by microphone."""
        resolved = self.resolved
        options = resolved.encoder.describe()["options"]
        return embeddings.origins(
            self.encoder, resolved.encoder.name, options, resolved.weights, view=resolved.view
        )

    def embed(
        self,
        clips: Sequence[Clip],
        *,
        workers: int,
        jobs: Jobs,
        progress: Progress | None = None,
        also: AlsoHears | None = None,
        shas: Sequence[str] | None = None,
        ready: Mapping[str, Overheard] | None = None,
    ) -> list[Array]:
        """The embedding of each clip; those of a frozen encoder are kept in the store of ``jobs``.

        Parameters
        ----------
        clips : sequence of Clip
        workers, jobs, progress
            As of ``fit``.
        also : callable or None
            As of ``embeddings.embed_stored``; of clips whose embeddings are not in the store.
        shas : sequence of str or None
            The digests of the clips' recordings, if they are known.
        ready : mapping from digest to what ``overhear`` gave, or None

        Raises
        ------
        ValueError
            If the branch wants an adapter, and has taken up none.
        """
        self._require_adapter()
        self._warn_of_lengths(clips, workers)
        if not self.uses_store:
            return self._embedded(clips, workers, progress)
        view = VIEWS[self.resolved.view]
        if shas is None:
            shas = digests((clip.recording for clip in clips), jobs)
        by_microphone = embeddings.embed_stored(
            _of_one_content(shas, clips),
            self.encoder,
            self.origins(),
            Store(jobs.root),
            pooling=self.resolved.pooling,
            workers=workers,
            tell=_tell_listening(progress),
            also=also,
            ready=ready,
        )
        return [view.combine(*(by_microphone[m][sha] for m in view.microphones)) for sha in shas]

    def _warn_of_lengths(self, clips: Sequence[Clip], workers: int) -> None:
        """Say which clips the encoder cuts or fills, machine by machine; as far as their headers tell."""
        if not can_be_unheard(self.encoder):
            return
        lengths: dict[str, dict[str, float]] = {}
        found = audio.each(clips, lambda clip: _seconds(clip.recording), workers=workers)
        for clip, seconds in zip(clips, found, strict=True):
            if seconds is not None:
                lengths.setdefault(clip.machine, {})[f"{clip.split}/{clip.name}"] = seconds
        for machine, seconds_of_clips in lengths.items():
            warn_of_lengths(self.encoder, self.resolved.encoder.name, machine, seconds_of_clips)

    def _embedded(self, clips: Sequence[Clip], workers: int, progress: Progress | None) -> list[Array]:
        """The embedding of each clip, computed now."""
        embedded = []
        for array in embeddings.embed_each(
            [c.recording for c in clips],
            self.encoder,
            view=self.resolved.view,
            pooling=self.resolved.pooling,
            workers=workers,
        ):
            embedded.append(array)
            if progress is not None:
                progress("listening", len(embedded), len(clips))
        return embedded

    def fit_backend(
        self, X: Sequence[Array], domain: NDArray[np.str_], attributes: NDArray[np.str_] | None = None
    ) -> Self:
        """Fit conditioning and back end to the embeddings of normal clips, their domains and attributes."""
        # clips of different length have different numbers of rows; then they stay a list
        conditioned: Any = np.stack(X) if len({x.shape for x in X}) == 1 else list(X)
        for step in self.conditioning:
            conditioned = step.fit_transform(conditioned)
        self.backend.fit(conditioned, domain, attributes)
        return self

    def anomaly_score(self, X: Sequence[Array]) -> NDArray[np.float64]:
        """Scores of embeddings, higher for more anomalous clips: (n_clips,)."""
        return np.array([self._score_of(x) for x in X])

    def _score_of(self, x: Array) -> float:
        """Of one clip at a time: in a batch, matrix products round differently, and the clip's score with them."""
        conditioned: Any = x[None]
        for step in self.conditioning:
            conditioned = step.transform(conditioned)
        return float(self.backend.anomaly_score(conditioned)[0])

    def arrays(self) -> Arrays:
        """Everything learnt, as arrays by name."""
        parts: dict[str, Mapping[str, Any]] = {
            "encoder": self.encoder.arrays(),
            "backend": learnt(self.backend),
        }
        parts |= {f"conditioning.{i}": learnt(step) for i, step in enumerate(self.conditioning)}
        return {
            f"{owner}.{name}": np.asarray(a) for owner, arrays in parts.items() for name, a in arrays.items()
        }

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take up what ``arrays`` gave."""
        self.encoder = self.encoder.with_arrays(part(arrays, "encoder"))
        restore(self.backend, part(arrays, "backend"))
        for i, step in enumerate(self.conditioning):
            restore(step, part(arrays, f"conditioning.{i}"))
        return self


def _seconds(recording: Recording) -> float | None:
    """How long a recording is; ``None`` if it cannot be read, which is told when it is loaded."""
    try:
        return audio.read_header(recording).seconds
    except AudioError:
        return None


def _refuse_untrainable(
    clips: Sequence[Clip], encoder: Encoder, microphones: Sequence[str], workers: int
) -> None:
    """Raise before a long training that would end at a recording; all that are wrong by their headers."""
    needed = max(MICROPHONES[microphone].channels for microphone in microphones)
    found = audio.each(clips, lambda clip: _why_untrainable(clip.recording, encoder, needed), workers=workers)
    if problems := [problem for problem in found if problem]:
        raise DatasetError(problems)


def _why_untrainable(recording: Recording, encoder: Encoder, needed: int) -> str:
    """Why an adapter cannot be trained on a recording with so many channels; empty if it can."""
    shortest = encoder.min_samples / encoder.sample_rate
    try:
        header = audio.read_header(recording)
    except AudioError as error:
        return str(error)
    if header.channels < needed:
        return (
            f"{recording}: channels={header.channels}, but an adapter is trained with {needed} microphones (near, "
            "far); record both, or adapt on machines that have both"
        )
    if header.rate < encoder.sample_rate:
        return (
            f"{recording}: recorded at {header.rate} Hz, but {encoder.sample_rate} Hz are needed; record at "
            f"{encoder.sample_rate} Hz or more"
        )
    if header.seconds < shortest:
        return f"{recording}: {header.seconds:.3f} s long; at least {shortest:.3f} s are needed"
    return ""


def _describe_machines(clips: Sequence[Clip], jobs: Jobs) -> dict[str, Any]:
    """How many clips each machine has, and their digest."""
    recordings: dict[str, list[str]] = {}
    for sha, clip in zip(digests((clip.recording for clip in clips), jobs), clips, strict=True):
        recordings.setdefault(clip.machine, []).append(sha)
    return {m: {"clips": len(shas), "digest": digest(shas)} for m, shas in sorted(recordings.items())}


def listen_ahead(
    resolved: Iterable[ResolvedBranch],
    clips: Sequence[Clip],
    *,
    workers: int,
    jobs: Jobs,
    progress: Progress | None = None,
) -> None:
    """Put into the store of ``jobs`` what these branches will take from it, each network's in one run.

    Branches whose networks differ in nothing but the blocks that are asked for share a network. Those whose
    embeddings are not kept, see ``Branch.uses_store``, are left out, and those that want an adapter. Of a clip only
    its recording is looked at.

    Parameters
    ----------
    resolved : iterable of ResolvedBranch
        Such as all of a sweep, or of a study.
    clips : sequence of Clip
    workers : int
        Threads.
    jobs : Jobs
    progress : callable or None

    Raises
    ------
    DatasetError
        If recordings cannot be used; all that cannot, of the first network that has some.
    """
    recordings = _of_one_content(digests((clip.recording for clip in clips), jobs), clips)
    for branches in _by_network(resolved):
        made_by: dict[str, Origin] = {}
        wanted: dict[str, set[tuple[int, str]]] = {}
        for branch in branches:
            made_by |= branch.origins()
            for microphone in VIEWS[branch.resolved.view].microphones:
                pairs = {(block, branch.resolved.pooling) for block in branch.encoder.blocks}
                wanted.setdefault(microphone, set()).update(pairs)
        embeddings.compute_missing(
            recordings,
            branches[0].encoder,
            made_by,
            Store(jobs.root),
            wanted={microphone: sorted(pairs) for microphone, pairs in wanted.items()},
            workers=workers,
            tell=_tell_listening(progress),
        )


def _by_network(resolved: Iterable[ResolvedBranch]) -> list[list[Branch]]:
    """Branches whose embeddings are kept, together if their networks differ in nothing but the blocks."""
    found: dict[str, list[Branch]] = {}
    for branch in map(Branch, resolved):
        chosen = {"blocks"} if isinstance(branch.encoder, Layered) else set()
        options = branch.resolved.encoder.options.model_dump(mode="json", exclude=chosen)
        if branch.uses_store and branch.resolved.adaptation is None:
            found.setdefault(digest([branch.resolved.encoder.name, options]), []).append(branch)
    return list(found.values())


def _contents(clips: Sequence[Clip], jobs: Jobs) -> list[list[Any]]:
    """What a training takes of each clip: the recording by its digest, domain, attributes."""
    recordings = digests((c.recording for c in clips), jobs)
    return [[sha, c.domain, c.attributes] for sha, c in zip(recordings, clips, strict=True)]


def _tell_listening(progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress("listening", done, total)


def _of_one_content(shas: Sequence[str], clips: Sequence[Clip]) -> dict[str, list[Recording]]:
    """The recordings of clips by their content."""
    found: dict[str, list[Recording]] = {}
    for sha, clip in zip(shas, clips, strict=True):
        found.setdefault(sha, []).append(clip.recording)
    return found


def _without_epochs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a longer and a shorter training have in common."""
    training = inputs["training"]
    options = {name: value for name, value in training["options"].items() if name != "epochs"}
    return {**inputs, "training": {**training, "options": options}}


def domains(clips: Sequence[Clip]) -> NDArray[np.str_]:
    """The domain of each clip: (n_clips,)."""
    return np.array([c.domain or UNDISCLOSED for c in clips])


def attributes(clips: Sequence[Clip]) -> NDArray[np.str_]:
    """The attributes of each clip as one string, empty where it has none: (n_clips,)."""
    return np.array([c.attributes for c in clips])
