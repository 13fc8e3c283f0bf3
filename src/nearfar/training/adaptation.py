"""Training of low-rank adapters: one network learns to hear two microphones, from normal clips of many machines.

J. Lei, technical report, DCASE Challenge 2026, Task 2 ("DualMic-EAT"), section 2.3: both microphones go through one
backbone, of which adapters alone learn (``encoders.lora``); the means and deviations of one block's tokens, near
beside far, become an embedding that is to tell machines, domains and attributes apart::

    L = L_attribute + 0.25 L_machine + 0.15 L_domain + 0.05 L_consistency

Afterwards the embedding's head is of little use, and proxies and classifiers are of none: anomalies are heard in
the block's own statistics, which the sounds of all these machines have shaped. So this is not a trainer of
``TRAINERS``, which fit an encoder to one machine. What the report leaves open is decided here, at the top.

``Recipe`` and ``Adaptation`` are what any training of adapters is made of: options, batches, steps, what is kept.
``AdapterRecipe`` is the recipe of the report. Another one, with soft labels, is in ``training.adacos``.

Everything random of a batch comes from the seed, the epoch, the batch's number and the place of a clip in it. So a
training that goes on from what it kept gives the weights of an unbroken one (to the bit on a CPU, with an equal
number of threads), and how many clips are computed at once changes no more than their sums are rounded.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders import Array, checkpoints, lora
from nearfar.encoders.devices import autocast, chosen
from nearfar.encoders.frozen import Frozen, Network
from nearfar.recordings import audio
from nearfar.training.adapters import HeardClips
from nearfar.training.augmentation import spec_augment
from nearfar.training.initialization import draw_weights, undrawn_linear
from nearfar.training.journal import Journal
from nearfar.training.losses import sub_center_arcface
from nearfar.training.schedules import warm_up_and_cosine

RANK, BLOCKS = 8, (6, 7, 8, 9, 10)  # of the report, which does not tell from what number it counts
EPOCHS, BATCH_SIZE, LEARNING_RATE = 2, 40, 5e-5  # of the report
MACHINE_WEIGHT, DOMAIN_WEIGHT, CONSISTENCY_WEIGHT = 0.25, 0.15, 0.05  # of the report; of attributes it is 1
DIM = 256  # of the report
# What the report does not tell, our choice:
ALPHA, DROPOUT = 16.0, 0.05
SCALE, MARGIN = 30.0, 0.3
WEIGHT_DECAY, WARM_UP_SHARE = 0.01, 0.05
BAND_MASK, FRAME_MASK = 1 / 8, 1 / 16  # masks are at most this part of the bands, and of the frames
MICRO_BATCH = 8  # clips at once; a matter of memory
KEEP_EVERY = 5  # batches; on a processor some twenty minutes of a full-size network, a moment to write
PRECISIONS = ("auto", "float32", "bfloat16")
MICROPHONES = 2
AT_LEAST_ONE = ("dim", "epochs", "batch_size", "micro_batch", "keep_every", "threads")
SHARES = ("band_mask", "frame_mask")

Classes = Mapping[str, NDArray[np.intp]]  # (n_clips,) by term of the loss
Progress = Callable[[int, int], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """What all recipes of adapters have in common; their defaults are those of the report.

    Attributes
    ----------
    rank, alpha, dropout, blocks, targets
        Of the adapters: ``lora.attach``, ``lora.layers_of``.
    dim : int
        Of the embedding that is trained.
    epochs, batch_size : int
    micro_batch : int
        Clips that are computed at once, of one length; their gradients add up to those of the batch.
    learning_rate, weight_decay : float
        Of AdamW.
    warm_up_share : float
        Of all steps, of ``schedules.warm_up_and_cosine``.
    band_mask, frame_mask : float
        The widest mask of ``augmentation.spec_augment``, as a share of the bands, and of the frames.
    precision : {"auto", "float32", "bfloat16"}
        ``"auto"``: bfloat16 on a CUDA device that has it, else float32. What follows the network is in float32.
    keep_every : int
        Batches from one state that is kept to the next.
    threads : int
        Threads of torch, on a CPU.
    MICROPHONES : tuple of str or None
        The microphone views that the training hears; ``None``: those of the branch that is adapted.
    TRAINS_HEAD : bool
        Whether the arrays have a head, which the conditioning ``head`` takes up.
    """

    MICROPHONES: ClassVar[tuple[str, ...] | None] = None
    TRAINS_HEAD: ClassVar[bool] = False

    rank: int = RANK
    alpha: float = ALPHA
    dropout: float = DROPOUT
    blocks: tuple[int, ...] = BLOCKS
    targets: tuple[str, ...] = ()
    dim: int = DIM
    epochs: int = EPOCHS
    batch_size: int = BATCH_SIZE
    micro_batch: int = MICRO_BATCH
    learning_rate: float = LEARNING_RATE
    weight_decay: float = WEIGHT_DECAY
    warm_up_share: float = WARM_UP_SHARE
    band_mask: float = BAND_MASK
    frame_mask: float = FRAME_MASK
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    keep_every: int = KEEP_EVERY
    threads: int = 1

    def train(
        self,
        encoder: Frozen,
        clips: HeardClips,
        *,
        seed: int,
        folder: Path | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """Adapters that have learnt to tell the normal clips of several machines apart.

        Parameters
        ----------
        encoder : Frozen
            Of one block, whose tokens are trained; it is left as it is.
        clips : HeardClips
            What is told apart, as ``classes`` says.
        seed : int
            Of everything random.
        folder : Path or None
            Where the training keeps what it has reached, to go on from there; it belongs to trainings of the same
            clips with the same options. ``None``: nowhere.
        workers : int
            Threads that read ahead.
        progress : callable or None
            Called with (batches done, batches).

        Returns
        -------
        mapping from name to array
            ``lora.{layer}.down`` and ``lora.{layer}.up``, which a ``Frozen`` takes up without their ``lora.``; and
            ``head.weight`` and ``head.bias``, if the recipe ``TRAINS_HEAD``.

        Raises
        ------
        ValueError
            If an option is out of its range, there is nothing to tell apart, a clip is not sound of as many
            microphones, or the loss is not finite.
        """
        self.refuse_options(workers)
        _refuse_encoder(encoder, self)
        classes = self.classes(clips)
        steps = self.epochs * math.ceil(len(clips.machine) / self.batch_size)
        rounds = math.ceil(steps / self.keep_every)
        journal = Journal(folder, rounds, kind="round")
        finished = journal.checkpoint(rounds)
        if finished is not None:
            return finished
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            adaptation = self.begin(encoder, clips, classes, seed=seed, folder=folder)
            adaptation.run(journal, workers, progress)
        finally:
            torch.set_num_threads(before)
        return adaptation.arrays()

    def refuse_options(self, workers: int) -> None:
        """Raise if an option is out of its range.

        Raises
        ------
        ValueError
        """
        self.refuse_out_of_range(AT_LEAST_ONE, SHARES, workers=workers)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r}: must be one of {', '.join(PRECISIONS)}")
        warm_up_and_cosine(0.0, warm_up=self.warm_up_share, length=1.0)

    def refuse_out_of_range(self, at_least_one: Sequence[str], shares: Sequence[str], **others: int) -> None:
        """Raise if one of these options, or of ``others``, is below 1, or one of the shares not between 0 and 1."""
        counts = {**{name: getattr(self, name) for name in at_least_one}, **others}
        if small := [f"{name}={count}" for name, count in counts.items() if count < 1]:
            raise ValueError(f"{', '.join(small)}: must be at least 1")
        of_shares = {name: getattr(self, name) for name in shares}
        if strange := [f"{name}={share:g}" for name, share in of_shares.items() if not 0 <= share <= 1]:
            raise ValueError(f"{', '.join(strange)}: a share, must be from 0 to 1")

    @abstractmethod
    def classes(self, clips: HeardClips) -> Classes:
        """What there is to tell apart, before anything is heard.

        Raises
        ------
        ValueError
            If there is nothing.
        """

    @abstractmethod
    def begin(
        self, encoder: Frozen, clips: HeardClips, classes: Classes, *, seed: int, folder: Path | None
    ) -> Adaptation:
        """The adapters at their beginning."""


@dataclass(frozen=True, kw_only=True)
class AdapterRecipe(Recipe):
    """The second report's: both microphones, the statistics of a block, ArcFace and three smaller terms.

    Its ``head.weight``, (dim, 4 * width), and ``head.bias`` make the embedding of ``statistics``, near before far.
    Told apart is each combination of machine, domain and attributes, and machines, and domains. What all clips have
    in common is left out. Random are initial weights, the order of clips, masks and dropout.

    Attributes
    ----------
    scale, margin : float
        Of ArcFace: ``losses.sub_center_arcface``.
    machine_weight, domain_weight, consistency_weight : float
        Of these terms of the loss.
    """

    MICROPHONES: ClassVar[tuple[str, ...] | None] = ("near", "far")
    TRAINS_HEAD: ClassVar[bool] = True

    scale: float = SCALE
    margin: float = MARGIN
    machine_weight: float = MACHINE_WEIGHT
    domain_weight: float = DOMAIN_WEIGHT
    consistency_weight: float = CONSISTENCY_WEIGHT

    def classes(self, clips: HeardClips) -> Classes:
        """As ``classes_of``."""
        return classes_of(clips.machine, clips.domain, clips.attributes)

    def begin(
        self,
        encoder: Frozen,
        clips: HeardClips,
        classes: Classes,
        *,
        seed: int,
        folder: Path | None,  # noqa: ARG002  # of the contract; only the journal keeps something here
    ) -> Adaptation:
        """The adapters at their beginning."""
        return Adaptation(encoder, clips.hear, classes, self, seed=seed)


def _refuse_encoder(encoder: Frozen, recipe: Recipe) -> None:
    if len(encoder.blocks) != 1:
        raise ValueError(f"blocks={encoder.blocks} of the encoder: the statistics of one block are trained")
    if deaf := [block for block in recipe.blocks if block > encoder.blocks[0]]:
        raise ValueError(
            f"blocks={deaf}: adapters above block {encoder.blocks[0]}, whose statistics are trained, learn nothing"
        )
    if encoder.adapter_digest is not None:
        raise ValueError(
            "the encoder is adapted already, and adapters are not learnt on others: give it without"
        )


def classes_of(
    machine: NDArray[np.str_], domain: NDArray[np.str_], attributes: NDArray[np.str_]
) -> dict[str, NDArray[np.intp]]:
    """What there is to tell apart: the classes of the clips by term of the loss.

    Returns
    -------
    mapping from "attribute", "machine" and "domain" to (n_clips,) arrays of int
        Without machines or domains of which there is only one.

    Raises
    ------
    ValueError
        If all clips are of one machine, domain and attribute.
    """
    if not len(machine) == len(domain) == len(attributes):
        raise ValueError(
            f"{len(machine)} machines, {len(domain)} domains, {len(attributes)} attributes: expected one of each a "
            "clip"
        )
    told = {
        "attribute": np.stack([machine, domain, attributes], axis=1).astype(str),
        "machine": machine[:, None].astype(str),
        "domain": domain[:, None].astype(str),
    }
    found = {term: np.unique(names, axis=0, return_inverse=True) for term, names in told.items()}
    if len(found["attribute"][0]) < 2:
        raise ValueError(
            f"{len(machine)} clips of one machine, domain and attribute: there is nothing to tell apart; give "
            "clips of several machines, or attributes"
        )
    for term, (names, _) in found.items():
        if len(names) == 1:
            logger.info("all clips are of one %s, %r: the loss has no such term", term, str(names[0, 0]))
    return {term: inverse.reshape(-1) for term, (names, inverse) in found.items() if len(names) > 1}


def statistics(tokens: Tensor) -> Tensor:
    """Mean and standard deviation over time and bands: (batch, frames, bands, dim) to (batch, 2 * dim)."""
    deviation, mean = torch.std_mean(tokens, dim=(1, 2), correction=0)
    return torch.cat([mean, deviation], dim=-1)


class Objective(nn.Module):
    """The embedding of the statistics of both microphones, and the loss that it learns by.

    Parameters
    ----------
    width : int
        Of the statistics of one microphone.
    counts : mapping from term to int
        Classes, of what there is to tell apart.
    recipe : AdapterRecipe
    generator : torch.Generator
        Of initial weights; proxies are directions drawn evenly.
    """

    def __init__(
        self, width: int, counts: Mapping[str, int], recipe: AdapterRecipe, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.head = undrawn_linear(MICROPHONES * width, recipe.dim)
        others = {term: count for term, count in counts.items() if term != "attribute"}
        classifiers = {term: undrawn_linear(recipe.dim, count) for term, count in others.items()}
        self.classifiers = nn.ModuleDict(classifiers)
        draw_weights(self, generator)
        drawn = torch.randn(counts["attribute"], recipe.dim, generator=generator)
        self.proxies = nn.Parameter(functional.normalize(drawn, dim=-1))

    def forward(self, heard: Tensor, classes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, means over the clips, of (batch, 2, width) statistics and (batch,) classes by term."""
        embeddings = self.head(heard.flatten(1))
        losses = {
            "attribute": sub_center_arcface(
                functional.normalize(embeddings, dim=-1),
                self.proxies[:, None],
                classes["attribute"],
                scale=self.recipe.scale,
                margin=self.recipe.margin,
            )
        }
        for term, classify in self.classifiers.items():
            losses[term] = functional.cross_entropy(classify(embeddings), classes[term])
        losses["consistency"] = (1 - functional.cosine_similarity(heard[:, 0], heard[:, 1], dim=-1)).mean()
        total = torch.stack([self.weight_of(term) * loss for term, loss in losses.items()]).sum()
        return {"loss": total, **losses}

    def weight_of(self, term: str) -> float:
        """Of a term of the loss."""
        return 1.0 if term == "attribute" else float(getattr(self.recipe, f"{term}_weight"))


def require_hearable(samples: Array, number: int, *, microphones: int, encoder: Frozen) -> None:
    """Raise if a clip, (microphones, samples), cannot be trained on.

    Raises
    ------
    ValueError
        With the clip's number.
    """
    fewest, rate = encoder.min_samples, encoder.sample_rate
    if samples.ndim != 2 or len(samples) != microphones or samples.shape[1] < fewest:
        raise ValueError(
            f"clip {number}: an array of shape {samples.shape}; expected ({microphones}, samples), a row "
            f"for each microphone, at least {fewest} samples ({fewest / rate:.2f} s at {rate} Hz)"
        )
    if not np.isfinite(samples).all():
        raise ValueError(
            f"clip {number} is not finite: a recording with NaN or infinity cannot be trained on"
        )


def of_one_length(waveforms: Sequence[Array]) -> list[list[int]]:
    """Places of (microphones, samples) arrays of equal length, together."""
    found: dict[int, list[int]] = {}
    for place, waveform in enumerate(waveforms):
        found.setdefault(waveform.shape[1], []).append(place)
    return list(found.values())


class Adaptation:
    """Adapters on their way.

    Parameters
    ----------
    encoder : Frozen
        Its weights are read again, for a network of the training's own.
    hear : callable
        As of ``HeardClips``.
    classes : mapping from term to (n_clips,) array of int
    recipe : Recipe
    seed : int
    microphones : int
        Waveforms of a clip.
    """

    def __init__(
        self,
        encoder: Frozen,
        hear: Callable[[int], NDArray[np.float32]],
        classes: Classes,
        recipe: Recipe,
        *,
        seed: int,
        microphones: int = MICROPHONES,
    ) -> None:
        self.encoder, self.hear, self.recipe, self.seed = encoder, hear, recipe, seed
        self.microphones = microphones
        self.device = chosen(encoder.device)
        self.classes = {term: torch.from_numpy(numbers).to(self.device) for term, numbers in classes.items()}
        self.n_clips = len(next(iter(classes.values())))
        generator = torch.Generator().manual_seed(seed)
        self.module = self._frozen()
        self.network = cast(Network, self.module)
        self.adapters = self._attached(generator)
        counts = {term: 1 + int(numbers.max()) for term, numbers in classes.items()}
        self.objective = self.begun(self._dim(), counts, generator)
        learnt = [p for adapter in self.adapters.values() for p in (adapter.down, adapter.up)]
        self.learning = nn.ModuleDict({"adapters": nn.ParameterList(learnt), "objective": self.objective})
        self.learning.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.learning.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def _frozen(self) -> nn.Module:
        path = self.encoder.path
        network = self.encoder.build(checkpoints.read(path), str(path))
        known = cast(Network, network).known_blocks
        if self.encoder.blocks[0] not in known:
            raise ValueError(f"blocks={self.encoder.blocks}: {path} has the blocks {known[0]} to {known[-1]}")
        return network.eval().requires_grad_(False).to(self.device)

    def _attached(self, generator: torch.Generator) -> dict[str, lora.LowRank]:
        recipe = self.recipe
        names = lora.layers_of(self.network, recipe.blocks, targets=recipe.targets)
        return lora.attach(
            self.module,
            names,
            rank=recipe.rank,
            alpha=recipe.alpha,
            dropout=recipe.dropout,
            generator=generator,
        )

    @torch.inference_mode()
    def _dim(self) -> int:
        """Of the block's tokens, found out from the shortest clip."""
        shortest = np.zeros((1, self.encoder.min_samples), np.float32)
        waveform = torch.tensor(self.encoder.prepared(shortest), device=self.device)
        return self.network(waveform, self.encoder.blocks).grid.shape[-1]

    def begun(self, dim: int, counts: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        """What follows the network, at its beginning: from tokens of so many numbers to losses."""
        return Objective(2 * dim, counts, cast(AdapterRecipe, self.recipe), generator)

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return math.ceil(self.n_clips / self.recipe.batch_size)

    @property
    def steps(self) -> int:
        """Batches of the whole training."""
        return self.recipe.epochs * self.batches

    def run(self, journal: Journal, workers: int, progress: Progress | None) -> None:
        """Train to the end, from the last round that the journal knows; a round is ``keep_every`` batches."""
        keep_every = self.recipe.keep_every
        rounds, found = math.ceil(self.steps / keep_every), list[dict[str, float]]()
        first = keep_every * journal.take_up(rounds, self.learning, self.optimizer)
        if journal.rows and journal.rows[-1]["batch"] != min(first, self.steps):
            raise ValueError(
                f"keep_every={keep_every}: {journal.folder} has a training that was kept otherwise; give it the "
                "keep_every that it began with, or another folder"
            )
        waveforms = self._waveforms(first, workers)
        for step in range(first, self.steps):
            found.append(self.step(step, list(islice(waveforms, len(self.batch(step))))))
            done = step + 1
            if done % keep_every == 0 or done == self.steps:
                self._keep(done, found, journal, rounds)
                found = []
            if progress is not None:
                progress(done, self.steps)

    def _keep(self, done: int, found: Sequence[dict[str, float]], journal: Journal, rounds: int) -> None:
        """Tell the journal of one more round, in which these losses were found."""
        row = {name: float(np.mean([losses[name] for losses in found])) for name in found[0]}
        told = ", ".join(f"{name} {loss:.3g}" for name, loss in row.items())
        logger.info("batch %d of %d: %s", done, self.steps, told)
        numbered = {"round": len(journal.rows) + 1, "batch": done, **row}
        weights = self.arrays() if done == self.steps else None
        journal.write(numbered, self.learning, self.optimizer, weights, last=rounds)

    def batch(self, step: int) -> list[int]:
        """The numbers of the clips of a step."""
        epoch, number = divmod(step, self.batches)
        (drawn,) = np.random.SeedSequence([self.seed, epoch, 0]).generate_state(1, np.uint64) >> 1
        order = torch.randperm(self.n_clips, generator=torch.Generator().manual_seed(int(drawn)))
        return order[number * self.recipe.batch_size :][: self.recipe.batch_size].tolist()

    def generators(self, step: int) -> list[torch.Generator]:
        """Of a batch, one a clip: what masks and dropout are drawn from."""
        epoch, number = divmod(step, self.batches)
        seeds = np.random.SeedSequence([self.seed, epoch, 1 + number])  # 0 is of the order
        drawn = seeds.generate_state(len(self.batch(step)), np.uint64) >> 1
        return [torch.Generator(self.device).manual_seed(int(seed)) for seed in drawn]

    def _waveforms(self, first: int, workers: int) -> Iterator[Array]:
        """What is heard of every clip of every step from the first on, in this order, read ahead."""
        numbers = (number for step in range(first, self.steps) for number in self.batch(step))
        return audio.each(numbers, self.heard, workers=workers)

    def heard(self, number: int) -> Array:
        """(microphones, samples) of a clip, as the network takes them."""
        samples = self.hear(number)
        require_hearable(samples, number, microphones=self.microphones, encoder=self.encoder)
        return self.encoder.prepared(samples)

    def step(self, step: int, waveforms: Sequence[Array]) -> dict[str, float]:
        """One step of the optimizer on the batch of that number; the losses before it.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        self._set_learning_rate(step)
        self.optimizer.zero_grad()
        losses = self.accumulate(step, waveforms)
        if not math.isfinite(losses["loss"]):
            listed = ", ".join(f"{name} {loss:g}" for name, loss in losses.items())
            raise ValueError(
                f"the loss of batch {step + 1} is not finite ({listed}): lower learning_rate, or train with "
                "precision='float32'"
            )
        self.optimizer.step()
        return losses

    def _set_learning_rate(self, step: int) -> None:
        """That of the middle of a step."""
        warm_up = self.recipe.warm_up_share * self.steps
        factor = warm_up_and_cosine(step + 0.5, warm_up=warm_up, length=self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.recipe.learning_rate

    def accumulate(self, step: int, waveforms: Sequence[Array]) -> dict[str, float]:
        """Add a batch's gradients to what is there, some clips at a time; its losses."""
        generators = self.generators(step)
        waveforms, targets = self.examples(step, waveforms)
        sums: dict[str, float] = {}
        for part in self._parts(waveforms):
            losses = self.losses(
                np.stack([waveforms[i] for i in part]),
                [generators[i] for i in part],
                {term: of_batch[part] for term, of_batch in targets.items()},
            )
            share = len(part) / len(waveforms)
            torch.autograd.backward(share * losses["loss"])
            sums = {name: sums.get(name, 0.0) + share * loss.item() for name, loss in losses.items()}
        return sums

    def examples(self, step: int, waveforms: Sequence[Array]) -> tuple[Sequence[Array], dict[str, Tensor]]:
        """What is learnt from a batch: its waveforms, and what each of them is, by term of the loss."""
        numbers = torch.tensor(self.batch(step), device=self.device)
        return waveforms, {term: numbers_of[numbers] for term, numbers_of in self.classes.items()}

    def losses(
        self, waveforms: Array, generators: Sequence[torch.Generator], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """By name, means over clips; ``"loss"`` is what is learnt by."""
        found: dict[str, Tensor] = self.objective(self.statistics(waveforms, generators), targets)
        return found

    def _parts(self, waveforms: Sequence[Array]) -> list[list[int]]:
        """Places within a batch of what is computed at once: of one length, and not too many."""
        size, alike = self.recipe.micro_batch, of_one_length(waveforms)
        return [some[i : i + size] for some in alike for i in range(0, len(some), size)]

    def statistics(self, waveforms: Array, generators: Sequence[torch.Generator]) -> Tensor:
        """Of the block's tokens: (batch, 2, samples) and a generator a clip to (batch, 2, width)."""
        tokens = self.tokens(waveforms, generators)
        return torch.unflatten(statistics(tokens.flatten(0, 1)), 0, tokens.shape[:2])

    def tokens(self, waveforms: Array, generators: Sequence[torch.Generator]) -> Tensor:
        """(batch, microphones, samples) to (batch, microphones, frames, bands, dim) of the block, float32."""
        alike = (-1, self.microphones)
        batch = torch.tensor(waveforms, dtype=torch.float32, device=self.device).flatten(0, 1)
        with torch.no_grad():
            spectrograms = torch.unflatten(self.network.spectrogram(batch), 0, alike)
            masked = [self._masked(levels, g) for levels, g in zip(spectrograms, generators, strict=True)]
        for adapter in self.adapters.values():
            adapter.generators = generators
        with autocast(self.device, self.recipe.precision):
            tokens = self.network.hear(torch.cat(masked), self.encoder.blocks).grid
        return torch.unflatten(tokens[:, 0].float(), 0, alike)

    def _masked(self, spectrograms: Tensor, generator: torch.Generator) -> Tensor:
        """(microphones, bands, frames) with masks of each microphone's own."""
        bands, frames = spectrograms.shape[1:]
        recipe = self.recipe
        widest = {"bands": int(recipe.band_mask * bands), "frames": int(recipe.frame_mask * frames)}
        return spec_augment(spectrograms, generator, **widest)

    def arrays(self) -> dict[str, Array]:
        """Adapters, and the head of a recipe that trains one.

        Raises
        ------
        ValueError
            If they are not finite.
        """
        found = {f"lora.{name}": array for name, array in lora.arrays(self.adapters).items()}
        if self.recipe.TRAINS_HEAD:
            head = cast(Objective, self.objective).head
            found |= {f"head.{name}": p.detach().cpu().numpy().copy() for name, p in head.named_parameters()}
        if strange := [name for name, array in found.items() if not np.isfinite(array).all()]:
            raise ValueError(f"{', '.join(strange)}: not finite after the last batch; lower learning_rate")
        return found
