"""A system that is resolved: every option has its value, weights are located, adapters are bound.

``resolve`` is the one step from what a file says to what is fitted. Everything after it (fit, experiment, sweep,
saved detector) takes its outcome and asks nothing again. What a cached step depends on is computed here, too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Any, Self, TypeVar

from nearfar.backends import FORMER_NAMES
from nearfar.decisions.fusing import NormalCalibration
from nearfar.decisions.thresholds import ThresholdConfig
from nearfar.embedding.embeddings import NOT_OF_THE_NETWORK, VIEWS
from nearfar.encoders import encoder_class
from nearfar.files.digests import digest_file
from nearfar.files.steps import Jobs
from nearfar.recordings.clips import Clip
from nearfar.systems.arithmetics import with_choice, with_former_choice
from nearfar.systems.components import Component, Content, Defaults
from nearfar.systems.configuration import BranchConfig, System, name_and_options, recipe_and_options
from nearfar.systems.fusion import FusedSystem
from nearfar.training import ADAPTATIONS, DEFAULT_ADAPTATION
from nearfar.training.adapters import HEAD, Adapter, AdapterError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ResolvedBranch:
    """A branch of a system, before it is fitted.

    Attributes
    ----------
    encoder : Component
    training : Component or None
        Of an encoder that is fitted to each machine.
    adaptation : Component or None
        Of an encoder that is adapted over machines.
    view, pooling : str
    conditioning : tuple of Component
    backend : Component
    seed : int
    weights : str or None
        SHA-256 of the file that the encoder's weights come from.
    adapter_digest : str or None
        Of the adapter that is bound.
    adapter : Adapter or None
        ``None`` if the branch needs none or has none yet; also in a saved detector, whose arrays hold it.
    """

    encoder: Component
    training: Component | None
    adaptation: Component | None
    view: str
    pooling: str
    conditioning: tuple[Component, ...]
    backend: Component
    seed: int
    weights: str | None = None
    adapter_digest: str | None = None
    adapter: Adapter | None = field(default=None, compare=False, repr=False)

    @property
    def network(self) -> Content:
        """What an adapter must have been trained on: encoder, options of its network, SHA-256 of its weights."""
        options = self.encoder.options.model_dump(mode="json", exclude=set(NOT_OF_THE_NETWORK))
        return {"encoder": self.encoder.name, "options": options, "weights": self.weights}

    @property
    def trained_encoder(self) -> Content:
        """What the weights of an encoder that is fitted to a machine depend on, beside the clips."""
        training = None if self.training is None else self.training.identity
        return {**self._encoder, "training": training, "view": self.view, "seed": self.seed}

    @property
    def embedding(self) -> Content:
        """What an embedding depends on, beside the clips that an encoder is fitted to."""
        return {
            **self.trained_encoder,
            "pooling": self.pooling,
            "adapter": self.adapter_digest,
            "seed": self.seed if self.training is not None else None,
        }

    @property
    def _encoder(self) -> Content:
        """The encoder by the content of its weights, wherever they lie."""
        encoder = self.encoder.identity
        options = {name: value for name, value in encoder["options"].items() if name != "weights"}
        return {"encoder": encoder["class"], "options": options, "weights": self.weights}

    @property
    def identity(self) -> Content:
        """Everything that the fitted branch depends on, beside the clips."""
        return {
            **self.embedding,
            "seed": self.seed,
            "conditioning": [step.identity for step in self.conditioning],
            "backend": self.backend.identity,
        }

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of everything that it is made of."""
        parts = (self.encoder, self.training, *self.conditioning, self.backend)
        return tuple(module for part in parts if part is not None for module in part.modules)

    @property
    def encoder_modules(self) -> tuple[str, ...]:
        """The modules of what fits its encoder."""
        return tuple(part.module for part in (self.encoder, self.training) if part is not None)

    @property
    def adapted_on_microphones(self) -> tuple[str, ...]:
        """The microphone views that the training of its adapter hears; none if it is not adapted."""
        if self.adaptation is None:
            return ()
        recipe: Any = self.adaptation.owner
        return recipe.MICROPHONES or VIEWS[self.view].microphones

    def with_adapter(self, adapter: Adapter) -> Self:
        """The branch with an adapter bound to it.

        Raises
        ------
        ValueError
            If the branch is not one that is adapted.
        AdapterError
            If the adapter was trained on another network, or its head on other blocks.
        """
        if self.adaptation is None:
            raise ValueError(
                f"encoder {self.encoder.name!r}: an adapter was given, but the system has no [branch.adaptation] "
                "that would use it"
            )
        _require_network(adapter, self.network)
        if any(step.name == HEAD for step in self.conditioning):
            adapter.require_blocks(self.encoder.options.arguments()["blocks"])
        return dataclasses.replace(self, adapter=adapter, adapter_digest=adapter.digest)

    def describe(self) -> Content:
        """Everything, JSON-able."""
        return {
            "encoder": self.encoder.describe(),
            "training": _describe(self.training),
            "adaptation": _describe(self.adaptation),
            "view": self.view,
            "pooling": self.pooling,
            "conditioning": [step.describe() for step in self.conditioning],
            "backend": self.backend.describe(),
            "seed": self.seed,
            "weights": self.weights,
            "adapter": self.adapter_digest,
        }

    @classmethod
    def restore(cls, content: Mapping[str, Any]) -> Self:
        """What ``describe`` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something in it is not known.
        """
        training, adaptation = content["training"], content["adaptation"]
        return cls(
            encoder=_restore("encoder", content["encoder"]),
            training=None if training is None else _restore("training", training),
            adaptation=None if adaptation is None else _restore("adaptation", _of_recipe(adaptation)),
            view=content["view"],
            pooling=content["pooling"],
            conditioning=tuple(_restore("conditioning", step) for step in content["conditioning"]),
            backend=_restore("backend", content["backend"]),
            seed=content["seed"],
            weights=content["weights"],
            adapter_digest=content["adapter"],
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One system of a fused one.

    Attributes
    ----------
    name : str
        Of the branch in the fused system's file.
    weight : float
    size : int
        How many of the resolved system's branches are its ensemble; their mean is its score.
    threshold : ThresholdConfig
        Its own, which says where its scores of unseen normal clips come from. Nothing is decided by it.
    """

    name: str
    weight: float
    size: int
    threshold: ThresholdConfig


@dataclass(frozen=True, kw_only=True)
class ResolvedFusion:
    """How the scores of several systems become one: see ``decisions.fusing``.

    Attributes
    ----------
    calibration : str
    parts : tuple of Part
        In the order of the resolved system's branches.
    """

    calibration: NormalCalibration
    parts: tuple[Part, ...]

    @property
    def weights(self) -> dict[str, float]:
        """Of each part by its name."""
        return {part.name: part.weight for part in self.parts}

    def describe(self) -> Content:
        """Everything, JSON-able."""
        parts = [
            {
                "name": p.name,
                "weight": p.weight,
                "size": p.size,
                "threshold": p.threshold.model_dump(mode="json"),
            }
            for p in self.parts
        ]
        return {"calibration": self.calibration, "parts": parts}

    @classmethod
    def restore(cls, content: Mapping[str, Any]) -> Self:
        """What ``describe`` gave."""
        parts = (
            Part(**{**part, "threshold": ThresholdConfig.model_validate(part["threshold"])})
            for part in content["parts"]
        )
        return cls(calibration=content["calibration"], parts=tuple(parts))


@dataclass(frozen=True, kw_only=True)
class ResolvedSystem:
    """A system as it is fitted to one machine with one seed.

    Attributes
    ----------
    name, summary, source : str
        As of ``System``.
    seed : int
        Of the run.
    branches : tuple of ResolvedBranch
        All of the ensemble; they have one encoder and one view. The score of a clip is the mean of theirs. Of a
        fused system: those of one part after the other.
    threshold : ThresholdConfig
    fusion : ResolvedFusion or None
        Of a fused system.
    """

    name: str
    summary: str
    source: str
    seed: int
    branches: tuple[ResolvedBranch, ...]
    threshold: ThresholdConfig
    fusion: ResolvedFusion | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those of a fused system; of any other, itself alone."""
        if self.fusion is not None:
            return self.fusion.parts
        return (Part(name=self.name, weight=1.0, size=len(self.branches), threshold=self.threshold),)

    def by_part(self, of_branches: Sequence[T]) -> list[Sequence[T]]:
        """What is given for each branch, for the branches of each part."""
        ends = list(accumulate(part.size for part in self.parts))
        return [of_branches[end - part.size : end] for part, end in zip(self.parts, ends, strict=True)]

    @property
    def microphones(self) -> tuple[str, ...]:
        """What its branches hear, of ``recordings.microphones.MICROPHONES``; each once."""
        return tuple(dict.fromkeys(m for branch in self.branches for m in VIEWS[branch.view].microphones))

    @property
    def is_adapted(self) -> bool:
        """Whether an encoder of it is adapted over machines."""
        return any(branch.adaptation is not None for branch in self.branches)

    @property
    def identity(self) -> Content:
        """Everything that a fitted detector depends on, beside the clips."""
        fusion = {} if self.fusion is None else {"fusion": self.fusion.describe()}
        return {
            "branches": [branch.identity for branch in self.branches],
            "threshold": self.threshold.model_dump(mode="json"),
            "seed": self.seed,
            **fusion,
        }

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of everything that its branches are made of."""
        return tuple(dict.fromkeys(module for branch in self.branches for module in branch.modules))

    def with_adapters(self, adapters: Sequence[Adapter]) -> Self:
        """The system with an adapter bound to each branch that is adapted; as it is if none is, and none is given.

        Raises
        ------
        ValueError
            If there is not one adapter for each branch that is adapted.
        AdapterError
            If an adapter was trained on another network.
        """
        if not self.is_adapted:
            if adapters:
                raise ValueError(f"{self.name} is not adapted, so it takes no adapter; omit it")
            return self
        needed = sum(branch.adaptation is not None for branch in self.branches)
        if len(adapters) != needed:
            raise ValueError(
                f"adapters={len(adapters)}, but {self.name} needs {needed}, one for each branch that is adapted: "
                "its encoder is adapted over several machines before it is fitted to one. Train an adapter with "
                "`nearfar adapt` and give it with --adapter"
            )
        left = iter(adapters)
        bound = (b if b.adaptation is None else b.with_adapter(next(left)) for b in self.branches)
        return dataclasses.replace(self, branches=tuple(bound))

    def with_former_choices(self) -> Self:
        """The system of a file: where that says "auto", which new ones do not, encoders compute as at its time."""
        branches = (dataclasses.replace(b, encoder=with_former_choice(b.encoder)) for b in self.branches)
        return dataclasses.replace(self, branches=tuple(branches))

    def with_false_alarm_rate(self, rate: float) -> Self:
        """The system with another false-alarm rate to be asked for.

        Raises
        ------
        ValueError
            If it is not between 0 and 1, or the system takes no decisions.
        """
        if not 0 < rate < 1:
            raise ValueError(f"false_alarm_rate={rate}: must be above 0 and below 1, such as 0.05")
        if self.threshold.method == "none":
            raise ValueError(
                f"false_alarm_rate={rate}: {self.name} takes no decisions (threshold.method='none'), so a rate has "
                "no effect; omit it, or choose threshold.method='conformal'"
            )
        threshold = self.threshold.model_copy(update={"false_alarm_rate": rate})
        return dataclasses.replace(self, threshold=threshold)

    def describe(self) -> Content:
        """Everything, JSON-able."""
        return {
            "name": self.name,
            "summary": self.summary,
            "source": self.source,
            "seed": self.seed,
            "branches": [branch.describe() for branch in self.branches],
            "threshold": self.threshold.model_dump(mode="json"),
            "fusion": None if self.fusion is None else self.fusion.describe(),
        }

    @classmethod
    def restore(cls, content: Mapping[str, Any]) -> Self:
        """What ``describe`` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something in it is not known.
        """
        return cls(
            name=content["name"],
            summary=content["summary"],
            source=content["source"],
            seed=content["seed"],
            branches=tuple(ResolvedBranch.restore(branch) for branch in content["branches"]),
            threshold=ThresholdConfig.model_validate(content["threshold"]),
            fusion=ResolvedFusion.restore(content["fusion"]) if content.get("fusion") else None,
        )


def resolve(
    system: System | FusedSystem,
    *,
    seed: int,
    jobs: Jobs | None = None,
    machine: str | None = None,
    adapters: Sequence[Adapter] = (),
    defaults: Defaults | None = None,
    clips: Sequence[Clip] = (),
) -> ResolvedSystem:
    """The one step from what a system's file says to what is fitted.

    ``precision="auto"`` of an encoder becomes the name of an arithmetic here, which is measured if it has not been
    (``encoders.choosing``). So all processes of a run compute in it, and so does a detector on another computer.

    Parameters
    ----------
    system : System or FusedSystem
    seed : int
        Of the run.
    jobs : Jobs or None
        It remembers digests of files of weights; ``None``: they are computed.
    machine : str or None
        For which the system may have settings of its own.
    adapters : sequence of Adapter
        One for each branch that is adapted; none: they can be bound later (``ResolvedSystem.with_adapters``).
    defaults : callable or None
        Defaults of options that take the place of today's, such as ``former_defaults``; "auto" is then what it was.
    clips : sequence of Clip
        That are to be heard: their number and length have a part in which arithmetic is fastest.

    Raises
    ------
    WeightsError
        If weights are not on this computer; says how to get them.
    ValueError, AdapterError
        As ``ResolvedSystem.with_adapters``.
    """
    if isinstance(system, FusedSystem):
        resolved = _resolve_fused(system, seed=seed, jobs=jobs, machine=machine, clips=clips)
    else:
        own = system if machine is None else system.of_machine(machine)
        resolved = ResolvedSystem(
            name=own.name,
            summary=own.summary,
            source=own.source,
            seed=seed,
            branches=tuple(
                resolve_branch(config, seed=of_member, jobs=jobs, defaults=defaults, clips=clips)
                for config, of_member in own.members(seed)
            ),
            threshold=own.threshold,
        )
    return resolved.with_adapters(adapters) if adapters else resolved


def _resolve_fused(
    system: FusedSystem, *, seed: int, jobs: Jobs | None, machine: str | None, clips: Sequence[Clip]
) -> ResolvedSystem:
    """The parts of a fused system, one after the other."""
    found = {
        name: resolve(branch.load(), seed=seed, jobs=jobs, machine=machine, clips=clips)
        for name, branch in system.branches.items()
    }
    weights = system.weights
    parts = tuple(
        Part(name=name, weight=weights[name], size=len(part.branches), threshold=part.threshold)
        for name, part in found.items()
    )
    return ResolvedSystem(
        name=system.name,
        summary=system.summary,
        source=system.source,
        seed=seed,
        branches=tuple(branch for part in found.values() for branch in part.branches),
        threshold=system.threshold(parts[0].threshold),
        fusion=ResolvedFusion(calibration=system.fusion.calibration, parts=parts),
    )


def resolve_branch(
    config: BranchConfig,
    *,
    seed: int,
    jobs: Jobs | None = None,
    defaults: Defaults | None = None,
    clips: Sequence[Clip] = (),
) -> ResolvedBranch:
    """One branch of a system; arguments as of ``resolve``.

    Raises
    ------
    WeightsError
        If its weights are not on this computer; says how to get them.
    """

    def component(kind: str, name: str, given: Mapping[str, Any], **options: Any) -> Component:
        return Component.resolve(kind, name, given, defaults=defaults, **options)

    encoder = component("encoder", config.encoder, config.encoder_options)
    is_fitted, adaptation = encoder_class(config.encoder).fitted_per_machine, config.adaptation
    path = encoder.make().path
    weights = None if path is None else _digest_of(path, jobs)
    if defaults is None:
        cache, microphones = None if jobs is None else jobs.root, len(VIEWS[config.view].microphones)
        encoder = with_choice(encoder, weights, clips, microphones=microphones, cache=cache)
    return ResolvedBranch(
        encoder=with_former_choice(encoder),
        training=component("training", config.encoder, config.training) if is_fitted else None,
        adaptation=None if adaptation is None else component("adaptation", *recipe_and_options(adaptation)),
        view=config.view,
        pooling=config.pooling,
        conditioning=tuple(
            component("conditioning", *name_and_options(step)) for step in config.conditioning
        ),
        backend=component("backend", config.backend, config.backend_options, seed=seed),
        seed=seed,
        weights=weights,
    )


def _digest_of(file: Path, jobs: Jobs | None) -> str:
    return digest_file(file) if jobs is None else jobs.digests_of([file])[0]


def _describe(part: Component | None) -> Content | None:
    return None if part is None else part.describe()


def _restore(kind: str, content: Mapping[str, Any]) -> Component:
    return Component.resolve(kind, content["name"], content["options"])


def _of_recipe(adaptation: Mapping[str, Any]) -> Content:
    """An adaptation under the name of its recipe; before there were several, it had that of its encoder."""
    name = adaptation["name"]
    return {**adaptation, "name": name if name in ADAPTATIONS else DEFAULT_ADAPTATION}


def _require_network(adapter: Adapter, network: Mapping[str, Any]) -> None:
    """Raise if an adapter was trained on another network; its file may leave out options that had their default."""
    made_with = {**adapter.made_with}
    former = former_defaults("encoder", made_with["encoder"])
    of_network = {k: v for k, v in former.items() if k not in NOT_OF_THE_NETWORK}
    made_with["options"] = {**of_network, **made_with["options"]}
    for key, value in network.items():
        if made_with[key] != value:
            raise AdapterError(
                f"the adapter was trained with {key}={made_with[key]!r}, but here {key}={value!r}; take the "
                "encoder and the weights that it was trained on, or train another adapter"
            )


@cache
def _former_defaults() -> dict[str, dict[str, Content]]:
    file = resources.files(__package__) / "former_defaults.json"
    return json.loads(file.read_text(encoding="utf-8"))


def former_defaults(kind: str, name: str) -> Content:
    """The defaults of a component when files did not yet hold the value of every option.

    Those are detectors of format 1 and 2, and adapters of format 1. What came later is not among them. There was
    one recipe of adapters then. Its options stand under the names of encoders, and are the same for all.

    Parameters
    ----------
    kind, name : str
        As of ``Component``.
    """
    of_kind = _former_defaults().get(kind, {})
    if kind == "adaptation" and name == DEFAULT_ADAPTATION:
        name = next(iter(of_kind))
    if kind == "backend":
        name = {present: former for former, present in FORMER_NAMES.items()}.get(name, name)
    return dict(of_kind.get(name, {}))
