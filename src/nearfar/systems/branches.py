"""A branch: one line of evidence about a machine.

Encoder, microphone view, pooling, conditioning and back end, in this order; ``BranchConfig`` names them,
``Branch`` is what is fitted to the normal clips of a machine.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from safetensors.numpy import load_file, save_file

from nearfar.backends import BACKENDS, Arrays, backend_class, learnt, part, restore
from nearfar.embedding import embeddings
from nearfar.embedding.embeddings import NOT_OF_THE_NETWORK, POOLINGS, VIEWS, heard, joined
from nearfar.embedding.store import Origin, Store
from nearfar.encoders import ENCODERS, Encoder, Layered, encoder_class
from nearfar.files.digests import digest
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError
from nearfar.recordings.clips import Clip, DatasetError, unknown
from nearfar.recordings.microphones import listen
from nearfar.training import adapter_trainer, trainer
from nearfar.training.adapters import HEAD, LAYERS, Adapter

Array = NDArray[np.floating[Any]]
Progress = Callable[[str, int, int], None]

CONDITIONING = {
    "standardize": "sklearn.preprocessing:StandardScaler",
    "pca": "nearfar.embedding.conditioning:PrincipalComponents",
    "whiten": "nearfar.embedding.conditioning:Whitening",
    "head": "nearfar.embedding.conditioning:Head",
}
# of a trainer's parameters
GIVEN_BY_US = {
    "self", "encoder", "waveforms", "hear", "machine", "domain", "attributes", "seed", "folder", "workers",
    "progress", "return",
}  # fmt: skip
TRAINS_HEAD = {"view": "near_and_far", "pooling": "global_mean_std"}  # of ``training.adaptation``
ADAPTER = "adapter.safetensors"  # the file of a step
UNDISCLOSED = "undisclosed"  # stands for the domain of clips that do not tell it: they are one domain


class Step(BaseModel):
    """A conditioning with options, which are the other keys of its table."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "table"


# told apart before they are read, so that an error is about the one that was meant
NameOrStep = Annotated[Annotated[str, Tag("name")] | Annotated[Step, Tag("table")], Discriminator(_kind)]


class BranchConfig(BaseModel):
    """What a branch is made of.

    Attributes
    ----------
    encoder : str
        Of ``encoders.ENCODERS``, made with ``encoder_options``, fitted with ``training`` if it needs that.
    adaptation : mapping or None
        Options of ``training.adaptation``: the encoder is frozen but for an adapter, which is trained over machines
        before any of them is fitted. ``None``: there is no adapter.
    view, pooling : str
        Of ``embeddings.VIEWS`` and ``embeddings.POOLINGS``.
    conditioning : tuple of str or Step
        Of ``CONDITIONING``, applied in order to embeddings before the back end; by name, or as a table of name
        and options. In TOML ``conditioning = ["standardize", {name = "whiten", components = 512}]``, on the
        command line ``--set 'branch.conditioning=["standardize", {name = "whiten", components = 512}]'``.
    backend : str
        Of ``backends.BACKENDS``, made with ``backend_options``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    encoder_options: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    adaptation: dict[str, Any] | None = None
    view: str = "near"
    pooling: str
    conditioning: tuple[NameOrStep, ...] = ()
    backend: str
    backend_options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("encoder", "view", "pooling", "backend")
    @classmethod
    def _is_known(cls, value: str, info: Any) -> str:
        registries: dict[str, Mapping[str, Any]] = {
            "encoder": ENCODERS,
            "view": VIEWS,
            "pooling": POOLINGS,
            "backend": BACKENDS,
        }
        known = registries[info.field_name]
        if value not in known:
            raise ValueError(unknown(info.field_name, value, known))
        return value

    @field_validator("conditioning")
    @classmethod
    def _steps_are_known(cls, steps: tuple[str | Step, ...]) -> tuple[str | Step, ...]:
        for name, options in map(_name_and_options, steps):
            if name not in CONDITIONING:
                raise ValueError(unknown("conditioning", name, CONDITIONING))
            if options:
                _check_options(f"conditioning {name!r}", options, _conditioning_class(name))
        return steps

    @field_validator("encoder_options", "training", "backend_options")
    @classmethod
    def _options_are_known(cls, options: dict[str, Any], info: Any) -> dict[str, Any]:
        """Checked even where other fields are wrong, so that an error tells everything."""
        owner = info.data.get("backend" if info.field_name == "backend_options" else "encoder")
        if options and owner is not None:
            _check_options(info.field_name, options, _OWNERS[info.field_name](owner))
        return options

    @model_validator(mode="after")
    def _view_suits_the_encoder(self) -> Self:
        chosen, encoder = VIEWS[self.view], encoder_class(self.encoder)
        needed = encoder.microphones
        if needed == 1 and encoder.fitted_per_machine and len(chosen.microphones) > 1:
            raise ValueError(
                f"view={self.view!r}: encoder {self.encoder!r} is fitted to one waveform a clip; take the view "
                "'near', 'far' or 'cancelled'"
            )
        if needed > 1 and (len(chosen.microphones) != needed or chosen.combine is not joined):
            suitable = [n for n, v in VIEWS.items() if len(v.microphones) == needed and v.combine is joined]
            raise ValueError(
                f"view={self.view!r}: encoder {self.encoder!r} hears {needed} microphones at once; take one of "
                f"{', '.join(suitable)}"
            )
        return self

    @field_validator("adaptation")
    @classmethod
    def _encoder_can_be_adapted(cls, options: dict[str, Any] | None, info: Any) -> dict[str, Any] | None:
        encoder = info.data.get("encoder")
        if options is None or encoder is None:
            return options
        if not hasattr(encoder_class(encoder), "ENCODER"):
            raise ValueError(f"encoder {encoder!r} is not a pretrained network, so there is nothing to adapt")
        _check_options("adaptation", options, adapter_trainer())
        return options

    @model_validator(mode="after")
    def _head_has_what_it_was_trained_on(self) -> Self:
        steps = [name for name, _ in map(_name_and_options, self.conditioning)]
        if HEAD not in steps:
            return self
        if self.adaptation is None:
            raise ValueError("conditioning 'head' comes from an adapter, but there is no [branch.adaptation]")
        found = {"view": self.view, "pooling": self.pooling}
        if found != TRAINS_HEAD or steps.index(HEAD) > 0:
            raise ValueError(
                f"conditioning={steps}, view={self.view!r}, pooling={self.pooling!r}: 'head' was trained on "
                "view='near_and_far' and pooling='global_mean_std'; take these, and the head before other steps"
            )
        return self

    @model_validator(mode="after")
    def _conditioning_has_vectors(self) -> Self:
        if self.conditioning and self.pooling == "rows":
            raise ValueError("conditioning takes one vector a clip, but pooling 'rows' gives many")
        return self


def _name_and_options(step: str | Step) -> tuple[str, dict[str, Any]]:
    return (step, {}) if isinstance(step, str) else (step.name, step.options)


def _conditioning_class(name: str) -> type[Any]:
    return pkgutil.resolve_name(CONDITIONING[name])


_OWNERS: dict[str, Callable[[str], Callable[..., Any]]] = {
    "encoder_options": encoder_class,
    "training": trainer,
    "backend_options": backend_class,
}


def _check_options(kind: str, options: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Raise for every option that the function does not have, or not with such a value."""
    target = function.__init__ if inspect.isclass(function) else function
    hints = {k: v for k, v in get_type_hints(target).items() if k in inspect.signature(function).parameters}
    known = {k: v for k, v in hints.items() if k not in GIVEN_BY_US}
    problems = []
    for name, value in options.items():
        if name not in known:
            problems.append(unknown(f"{kind} key", name, known))
            continue
        try:
            TypeAdapter(known[name]).validate_python(value)
        except ValidationError as error:
            problems.append(f"{name}={value!r}: {error.errors()[0]['msg']}")
    if problems:
        raise ValueError("; ".join(problems))


class Branch:
    """One line of evidence about one machine.

    Parameters
    ----------
    config : BranchConfig

    Attributes
    ----------
    encoder : Encoder
    conditioning, backend : fitted scikit-learn estimators
    """

    def __init__(self, config: BranchConfig) -> None:
        self.config = config
        self.encoder: Encoder = encoder_class(config.encoder)(**config.encoder_options)
        steps = map(_name_and_options, config.conditioning)
        self.conditioning = [_conditioning_class(name)(**options) for name, options in steps]
        self.backend = backend_class(config.backend)(**config.backend_options)

    def fit(
        self, clips: Sequence[Clip], *, seed: int, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> Self:
        """Fit everything to normal clips of one machine."""
        self.fit_encoder(clips, seed=seed, workers=workers, jobs=jobs, progress=progress)
        X = self.embed(clips, workers=workers, jobs=jobs, progress=progress)
        return self.fit_backend(X, domains(clips), attributes(clips), seed=seed)

    def fit_encoder(
        self, clips: Sequence[Clip], *, seed: int, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> None:
        """Train the encoder, if it is one that is fitted per machine; take a finished training from ``jobs``."""
        if not self.encoder.fitted_per_machine:
            return

        def waveform(clip: Clip) -> NDArray[np.float32]:
            (only,) = heard(audio.load(clip.path, self.encoder.sample_rate), self.encoder, self.config.view)
            return only

        def make(folder: Path) -> None:
            trainer(self.config.encoder)(
                self.encoder,
                audio.each(clips, waveform, workers=workers),
                domain=domains(clips),
                attributes=attributes(clips),
                seed=seed,
                folder=jobs.unfinished("training", _without_epochs(inputs)),
                progress=None if progress is None else lambda done, total: progress("training", done, total),
                **self.config.training,
            )
            save_arrays(folder / "arrays.safetensors", self.encoder.arrays())

        inputs = self._inputs(clips, seed, jobs)
        folder = jobs.do("encoder", inputs, make)
        self.encoder = self.encoder.with_arrays(load_file(folder / "arrays.safetensors"))

    def train_adapter(
        self, clips: Sequence[Clip], *, seed: int, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> Path:
        """The file of an adapter trained on normal clips of several machines; of a finished training if any.

        Raises
        ------
        DatasetError
            If recordings cannot be trained on; all that cannot, as far as their headers tell.
        ValueError
            If the branch is not one that is adapted, or as ``training.adaptation.train``.
        """
        if self.config.adaptation is None:
            raise ValueError(f"encoder {self.config.encoder!r}: nothing here is trained over machines")
        options: dict[str, Any] = self.config.adaptation

        def hear(number: int) -> NDArray[np.float32]:
            samples = audio.load(clips[number].path, self.encoder.sample_rate)
            return np.stack(
                [listen(samples, microphone) for microphone in VIEWS[TRAINS_HEAD["view"]].microphones]
            )

        def make(folder: Path) -> None:
            _refuse_untrainable(clips, self.encoder, workers)
            arrays = adapter_trainer()(
                self.encoder,
                hear,
                machine=np.array([clip.machine for clip in clips]),
                domain=domains(clips),
                attributes=attributes(clips),
                seed=seed,
                folder=jobs.unfinished("adaptation", inputs),
                workers=workers,
                progress=None if progress is None else lambda done, total: progress("adapting", done, total),
                **options,
            )
            Adapter(arrays, made_with).save(folder / ADAPTER)

        made_with = {
            **self.network(jobs),
            "blocks": list(self.encoder.blocks),
            "adaptation": options,
            "seed": seed,
            "machines": _told_of_machines(clips, jobs),
        }
        recordings = jobs.digests_of(clip.path for clip in clips)
        told = [[sha, c.machine, c.domain, c.attributes] for sha, c in zip(recordings, clips, strict=True)]
        inputs = {**made_with, "device": self.config.encoder_options.get("device"), "clips": told}
        return jobs.do("adapter", inputs, make) / ADAPTER

    def network(self, jobs: Jobs) -> dict[str, Any]:
        """What an adapter must be of: encoder, options of its network, weights."""
        options = {k: v for k, v in self.config.encoder_options.items() if k not in NOT_OF_THE_NETWORK}
        return {"encoder": self.config.encoder, "options": options, "weights": self.weights(jobs)}

    def adapt(self, adapter: Adapter, *, jobs: Jobs) -> Self:
        """Take up an adapter, for good.

        Raises
        ------
        ValueError
            If the branch is not one that is adapted.
        AdapterError
            If it was trained on another network, or its head is wanted for other blocks.
        """
        if self.config.adaptation is None:
            raise ValueError(
                f"encoder {self.config.encoder!r}: an adapter was given, but there is no [branch.adaptation] that "
                "would take it up"
            )
        adapter.require_network(**self.network(jobs))
        self.encoder = self.encoder.with_arrays(part(adapter.arrays, LAYERS))
        for (name, _), step in zip(
            map(_name_and_options, self.config.conditioning), self.conditioning, strict=True
        ):
            if name == HEAD:
                adapter.require_blocks(self.encoder.blocks)
                restore(step, {f"{k}_": array for k, array in part(adapter.arrays, HEAD).items()})
        return self

    def _require_adapter(self) -> None:
        if self.config.adaptation is not None and not self.encoder.arrays():
            raise ValueError(
                f"encoder {self.config.encoder!r} is adapted over machines before one is fitted, but no adapter "
                "was given: train one with `nearfar adapt`, and give it with --adapter"
            )

    def _inputs(self, clips: Sequence[Clip], seed: int, jobs: Jobs) -> dict[str, Any]:
        """Everything that the weights of a trained encoder depend on."""
        named = self.config.model_dump(include={"encoder", "encoder_options", "training", "view"})
        recordings = jobs.digests_of(c.path for c in clips)
        told = [[sha, c.domain, c.attributes] for sha, c in zip(recordings, clips, strict=True)]
        return {**named, "seed": seed, "clips": told}

    @property
    def uses_store(self) -> bool:
        """Whether its embeddings are kept: if its encoder is frozen, and they are one vector a clip."""
        return not self.encoder.fitted_per_machine and self.config.pooling != "rows"

    def origins(self, jobs: Jobs) -> dict[str, Origin]:
        """Under what its embeddings are kept, by microphone."""
        name, options = self.config.encoder, self.config.encoder_options
        return embeddings.origins(self.encoder, name, options, self.weights(jobs), view=self.config.view)

    def embed(
        self, clips: Sequence[Clip], *, workers: int, jobs: Jobs, progress: Progress | None = None
    ) -> list[Array]:
        """The embedding of each clip; those of a frozen encoder are kept in the store of ``jobs``.

        Raises
        ------
        ValueError
            If the branch wants an adapter, and has taken up none.
        """
        self._require_adapter()
        if not self.uses_store:
            return self._embedded(clips, workers, progress)
        view, shas = VIEWS[self.config.view], jobs.digests_of(clip.path for clip in clips)
        by_microphone = embeddings.embed_stored(
            _of_one_content(shas, clips),
            self.encoder,
            self.origins(jobs),
            Store(jobs.root),
            pooling=self.config.pooling,
            workers=workers,
            tell=_listening(progress),
        )
        return [view.combine(*(by_microphone[m][sha] for m in view.microphones)) for sha in shas]

    def _embedded(self, clips: Sequence[Clip], workers: int, progress: Progress | None) -> list[Array]:
        """The embedding of each clip, computed now."""
        embedded = []
        for array in embeddings.embed_each(
            [c.path for c in clips],
            self.encoder,
            view=self.config.view,
            pooling=self.config.pooling,
            workers=workers,
        ):
            embedded.append(array)
            if progress is not None:
                progress("listening", len(embedded), len(clips))
        return embedded

    def fit_backend(
        self,
        X: Sequence[Array],
        domain: NDArray[np.str_],
        attributes: NDArray[np.str_] | None = None,
        *,
        seed: int,
    ) -> Self:
        """Fit conditioning and back end to the embeddings of normal clips, their domains and attributes."""
        if "random_state" in self.backend.get_params() and "random_state" not in self.config.backend_options:
            self.backend.set_params(random_state=seed)
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

    def weights(self, jobs: Jobs) -> str | None:
        """SHA-256 of the file that the encoder's weights come from, if there is one.

        Raises
        ------
        WeightsError
            If it is not there; says how to get it.
        """
        path = self.encoder.path
        return None if path is None else jobs.digests_of([path])[0]

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


def _refuse_untrainable(clips: Sequence[Clip], encoder: Encoder, workers: int) -> None:
    """Raise before a long training that would end at a recording; all that are wrong by their headers."""
    found = audio.each(clips, lambda clip: _why_untrainable(clip.path, encoder), workers=workers)
    if problems := [problem for problem in found if problem]:
        raise DatasetError(problems)


def _why_untrainable(path: Path, encoder: Encoder) -> str:
    """Why an adapter cannot be trained on a recording; empty if it can."""
    needed, shortest = VIEWS[TRAINS_HEAD["view"]].channels, encoder.min_samples / encoder.sample_rate
    try:
        header = audio.read_header(path)
    except AudioError as error:
        return str(error)
    if header.channels < needed:
        return (
            f"{path}: channels={header.channels}, but an adapter is trained with {needed} microphones (near, far); "
            "record both, or adapt on machines that have both"
        )
    if header.rate < encoder.sample_rate:
        return (
            f"{path}: recorded at {header.rate} Hz, but {encoder.sample_rate} Hz are needed; record at "
            f"{encoder.sample_rate} Hz or more"
        )
    if header.seconds < shortest:
        return f"{path}: {header.seconds:.3f} s long; at least {shortest:.3f} s are needed"
    return ""


def _told_of_machines(clips: Sequence[Clip], jobs: Jobs) -> dict[str, Any]:
    """How many clips each machine has, and their digest."""
    recordings: dict[str, list[str]] = {}
    for sha, clip in zip(jobs.digests_of(clip.path for clip in clips), clips, strict=True):
        recordings.setdefault(clip.machine, []).append(sha)
    return {m: {"clips": len(shas), "digest": digest(shas)} for m, shas in sorted(recordings.items())}


def listen_ahead(
    configs: Iterable[BranchConfig],
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
    configs : iterable of BranchConfig
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
    recordings = _of_one_content(jobs.digests_of(clip.path for clip in clips), clips)
    for branches in _by_network(configs):
        made_by: dict[str, Origin] = {}
        wanted: dict[str, set[tuple[int, str]]] = {}
        for branch in branches:
            made_by |= branch.origins(jobs)
            for microphone in VIEWS[branch.config.view].microphones:
                pairs = {(block, branch.config.pooling) for block in branch.encoder.blocks}
                wanted.setdefault(microphone, set()).update(pairs)
        embeddings.compute_missing(
            recordings,
            branches[0].encoder,
            made_by,
            Store(jobs.root),
            wanted={microphone: sorted(pairs) for microphone, pairs in wanted.items()},
            workers=workers,
            tell=_listening(progress),
        )


def _by_network(configs: Iterable[BranchConfig]) -> list[list[Branch]]:
    """Branches whose embeddings are kept, together if their networks differ in nothing but the blocks."""
    found: dict[str, list[Branch]] = {}
    for branch in map(Branch, configs):
        chosen = {"blocks"} if isinstance(branch.encoder, Layered) else set()
        options = {k: v for k, v in branch.config.encoder_options.items() if k not in chosen}
        if branch.uses_store and branch.config.adaptation is None:
            found.setdefault(digest([branch.config.encoder, options]), []).append(branch)
    return list(found.values())


def _listening(progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress("listening", done, total)


def _of_one_content(shas: Sequence[str], clips: Sequence[Clip]) -> dict[str, list[Path]]:
    """The files of clips by their content."""
    found: dict[str, list[Path]] = {}
    for sha, clip in zip(shas, clips, strict=True):
        found.setdefault(sha, []).append(clip.path)
    return found


def _without_epochs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a longer and a shorter training have in common."""
    return {**inputs, "training": {k: v for k, v in inputs["training"].items() if k != "epochs"}}


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, which stores memory as it lies: hence in C order."""
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


def domains(clips: Sequence[Clip]) -> NDArray[np.str_]:
    """The domain of each clip: (n_clips,)."""
    return np.array([c.domain or UNDISCLOSED for c in clips])


def attributes(clips: Sequence[Clip]) -> NDArray[np.str_]:
    """The attributes of each clip as one string, empty where it has none: (n_clips,)."""
    return np.array([c.attributes for c in clips])
