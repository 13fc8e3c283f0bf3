"""Settings with which any system is fitted to a few short clips in moments."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import tiny_weights

from nearfar.encoders import lora
from nearfar.files.steps import Jobs
from nearfar.systems import configuration, named
from nearfar.systems.branches import Branch
from nearfar.systems.configuration import BranchConfig, ConditioningStep, System
from nearfar.systems.resolved import ResolvedBranch, resolve, resolve_branch
from nearfar.training.adapters import Adapter

TINY = {
    "autoencoder": {"branch.encoder_options.n_mels": 32, "branch.training.epochs": 1},
    "difference_autoencoder": {"branch.encoder_options.n_mels": 32, "branch.training.epochs": 1},
    "dca": {
        "branch.encoder_options.n_mels": 16,
        "branch.encoder_options.n_fft": 512,
        "branch.encoder_options.frames": 16,
        "branch.encoder_options.channels": 16,
        "branch.training.epochs": 1,
        "branch.backend_options.n_clusters": 1,
        "ensemble.seeds": [1, 2],
    },
    "eat": {"branch.encoder_options.blocks": [1]},
    "spectral": {"branch.encoder_options.n_mels": 32},
    "efficientat": {"branch.encoder_options.blocks": [12]},
}
ADAPTED = {
    "branch.adaptation.blocks": [1],
    "branch.adaptation.rank": 2,
    "branch.adaptation.dim": 8,
    "branch.adaptation.epochs": 1,
    "branch.adaptation.batch_size": 8,
}
FEW_COMPONENTS, FEW_NEIGHBOURS = 2, {"k": 1, "k_target": 1}


def settings(name: str) -> dict[str, Any]:
    """Of a named system: a small encoder, a moment's training, and no more of anything than ten clips allow."""
    branch = configuration.load(name).branch
    found = dict(TINY.get(branch.encoder, {"branch.encoder_options.blocks": [1]}))
    if branch.encoder in tiny_weights.NETWORKS:
        found["branch.encoder_options.weights"] = str(tiny_weights.written(branch.encoder))
    if any(isinstance(step, ConditioningStep) for step in branch.conditioning):
        found["branch.conditioning"] = [_few(step) for step in branch.conditioning]
    if branch.adaptation is not None:
        found |= ADAPTED
    found |= {
        f"branch.backend_options.{k}": n for k, n in FEW_NEIGHBOURS.items() if k in branch.backend_options
    }
    if "rescaling" in branch.backend_options:  # VarMin wants six clips in each fit
        found["branch.backend_options.rescaling"] = "none"
    return found


def _few(step: str | ConditioningStep) -> str | dict[str, Any]:
    if isinstance(step, str):
        return step
    few = {"components": FEW_COMPONENTS} if "components" in step.options else {}
    return {"name": step.name, **step.options, **few}


def built(config: BranchConfig, *, seed: int = 0, jobs: Jobs | None = None) -> Branch:
    """A branch of this configuration, not yet fitted."""
    return Branch(resolve_branch(config, seed=seed, jobs=jobs))


def adapters(system: System, jobs: Jobs, *, seed: int = 0) -> list[Adapter]:
    """One a branch of an adapted system, as of a training over two machines, with random numbers; else none."""
    resolved = resolve(system, seed=0, jobs=jobs)
    branches = resolved.branches if resolved.is_adapted else ()
    return [_random_adapter(branch, seed + number) for number, branch in enumerate(branches)]


def _random_adapter(resolved: ResolvedBranch, seed: int) -> Adapter:
    rng = np.random.default_rng(seed)
    branch, options = Branch(resolved), resolved.adaptation.options.model_dump(mode="json")
    network = branch.encoder.network
    shapes = {}
    for layer in lora.layers_of(network, options["blocks"], targets=options["targets"]):
        outputs, inputs = network.get_submodule(layer).weight.shape[:2]
        shapes |= {
            f"lora.{layer}.down": (options["rank"], inputs),
            f"lora.{layer}.up": (outputs, options["rank"]),
        }
    if resolved.adaptation.owner.TRAINS_HEAD:
        shapes |= {"head.weight": (options["dim"], 4 * network.geometry.dim), "head.bias": (options["dim"],)}
    arrays = {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    told = {"blocks": list(branch.encoder.blocks), "adaptation": options, "seed": seed}
    machines = {"press": {"clips": 3, "digest": "0"}, "saw": {"clips": 4, "digest": "1"}}
    return Adapter(arrays, {**resolved.network, **told, "machines": machines})


@cache
def of_each_kind() -> tuple[str, ...]:
    """The named systems, but those that are another one as soon as both are quick."""
    found: dict[str, str] = {}
    for name in named.SYSTEMS:
        system = configuration.load(name, settings(name))
        found.setdefault(system.model_dump_json(include={"branch", "threshold", "ensemble"}), name)
    return tuple(found.values())


def parts_of(name: str) -> set[tuple[str, object]]:
    """Of which kind each thing is that a named system is made of."""
    system = configuration.load(name, settings(name))
    branch = system.branch
    steps = [step if isinstance(step, str) else step.name for step in branch.conditioning]
    recipe = None if branch.adaptation is None else configuration.recipe_and_options(branch.adaptation)[0]
    of = {"encoder": branch.encoder, "backend": branch.backend, "view": branch.view}
    of |= {"adapted": (branch.encoder, recipe), "pooling": branch.pooling}
    of |= {"members": len(system.ensemble.members) > 1, "seeds": bool(system.ensemble.seeds)}
    of |= {"calibration": system.threshold.calibration}
    return {*of.items(), *(("conditioning", step) for step in steps or [None])}


@cache
def of_each_part() -> tuple[str, ...]:
    """A few of the named systems: whatever one of them is made of, one of these is made of, too."""
    left = {name: parts_of(name) for name in of_each_kind()}
    chosen = []
    while missing := set().union(*left.values()):
        chosen.append(max(left, key=lambda name: len(left[name] & missing)))
        found = left.pop(chosen[-1])
        left = {name: parts - found for name, parts in left.items()}
    return tuple(name for name in of_each_kind() if name in chosen)
