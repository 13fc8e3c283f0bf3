"""Training of DCA: one network a machine, from its normal clips alone.

Z. Jiang and R. Han, technical report, DCASE Challenge 2026, Task 2 (see ``encoders.dca``), section 2.3. A machine
whose attributes tell groups apart is trained to tell its source-domain groups apart; any other one is a single
class, of which only the center loss is left. That loss is smallest for a network that gives every clip the same
embedding: how far the embeddings are apart is therefore measured after each epoch, and a training that has
collapsed is an error.

Everything random of an epoch comes from the seed and the epoch's number, so a training that goes on from its
last epoch gives the weights of an unbroken one (to the bit on a CPU, with an equal number of threads).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.encoders.dca import Dca
from nearfar.encoders.devices import autocast
from nearfar.training.augmentation import spec_augment
from nearfar.training.initialization import draw_weights
from nearfar.training.journal import Journal
from nearfar.training.losses import center_loss, sub_center_arcface
from nearfar.training.schedules import warm_up_and_cosine

EPOCHS, WARM_UP_EPOCHS = 30, 5  # of the report
# What the report does not tell, our choice:
BATCH_SIZE = 32
LEARNING_RATE, WEIGHT_DECAY, LARGEST_GRADIENT = 1e-3, 1e-4, 1.0
SUB_CENTERS, SCALE, MARGIN = 3, 30.0, 0.5  # the usual values of the papers of ArcFace
CENTER_WEIGHT, CENTER_WEIGHT_ALONE = 0.01, 1.0  # beside ArcFace, and without it
BAND_SHARE, FRAME_SHARE = 8, 16  # masks are at most this part of the bands, and of the frames
CHECKPOINT_EVERY = 10  # epochs; the report has them at 10, 20 and 30
PRECISIONS = ("auto", "float32", "bfloat16")
WATCHED = 128  # clips whose embeddings are looked at after each epoch
# Of the mean squared distance of embeddings from their mean. They have length 1, and libraries round the numbers of
# such an embedding differently by some 1e-6: below the first the differences between clips are hardly larger. Below
# the second, what ``Gaussians`` adds to each variance outweighs all variances together.
SMALLEST_SPREAD, SMALL_SPREAD = 1e-8, 1e-4

TARGET = "target"  # the domain that is left out of the classes; all others count as source

Progress = Callable[[int, int], None]
logger = logging.getLogger(__name__)


class CollapseError(ValueError):
    """A network gives all clips the same embedding, so that nothing could be heard with it."""


@dataclass(frozen=True, kw_only=True)
class DcaRecipe:
    """How a network of DCA is trained.

    Attributes
    ----------
    epochs, schedule_epochs, warm_up_epochs : int
        How far to train, and how long the learning rate's schedule is: ``schedules.warm_up_and_cosine``.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW.
    sub_centers, scale, margin
        Of ``losses.sub_center_arcface``.
    center_weight : float or None
        Of ``losses.center_loss``; ``None``: 0.01 beside ArcFace, 1 alone.
    precision : {"auto", "float32", "bfloat16"}
        ``"auto"``: bfloat16 on a CUDA device that has it, else float32. Embeddings are always computed in float32.
    checkpoint_every : int
        Epochs from one checkpoint to the next.
    threads : int
        Threads of torch, on a CPU.
    """

    epochs: int = EPOCHS
    schedule_epochs: int = EPOCHS
    warm_up_epochs: int = WARM_UP_EPOCHS
    batch_size: int = BATCH_SIZE
    learning_rate: float = LEARNING_RATE
    weight_decay: float = WEIGHT_DECAY
    sub_centers: int = SUB_CENTERS
    scale: float = SCALE
    margin: float = MARGIN
    center_weight: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: int = CHECKPOINT_EVERY
    threads: int = 1

    def train(
        self,
        encoder: Dca,
        waveforms: Iterable[NDArray[np.float32]],
        *,
        domain: NDArray[np.str_],
        attributes: NDArray[np.str_],
        seed: int,
        folder: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fit the network to normal recordings of one machine, in place.

        Parameters
        ----------
        encoder : Dca
        waveforms : iterable of (2, samples) arrays
            Read once; their spectrograms are kept, 1 MB a clip of DCA-128.
        domain, attributes : (n_clips,) arrays of str
            See ``classes_of``.
        seed : int
            Of initial weights, the order of clips, masks and dropout.
        folder : Path or None
            Where the training keeps checkpoints and its state; ``None``: nowhere.
        progress : callable or None
            Called with (epochs done, epochs).

        Raises
        ------
        CollapseError
            If the embeddings of different clips become the same.
        ValueError
            If there are too few clips, or an option is out of its range.
        """
        _refuse_options(self)
        encoder.is_fitted = False
        journal = Journal(folder, self.checkpoint_every)
        finished = journal.checkpoint(self.epochs)
        if finished is not None:
            encoder.with_arrays(finished)
            return
        used, classes = classes_of(domain, attributes)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            levels = _levels(encoder, waveforms, used, len(domain))
            training = Training(encoder, levels, torch.from_numpy(classes), self, seed=seed)
            training.run(self.epochs, journal, progress)
        finally:
            torch.set_num_threads(before)
        encoder.is_fitted = True


def _refuse_options(recipe: DcaRecipe) -> None:
    epochs, schedule = recipe.epochs, recipe.schedule_epochs
    if epochs < 1 or recipe.batch_size < 2 or recipe.checkpoint_every < 1:
        raise ValueError(
            f"epochs={epochs}, batch_size={recipe.batch_size}, checkpoint_every={recipe.checkpoint_every}: at "
            "least 1 epoch, 2 clips a batch and 1 epoch from checkpoint to checkpoint are needed"
        )
    warm_up_and_cosine(0.0, warm_up=recipe.warm_up_epochs, length=schedule)
    if epochs > schedule:
        raise ValueError(f"epochs={epochs}: the schedule is over after schedule_epochs={schedule}")
    if min(recipe.sub_centers, recipe.threads) < 1 or recipe.precision not in PRECISIONS:
        raise ValueError(
            f"sub_centers={recipe.sub_centers}, threads={recipe.threads}, precision={recipe.precision!r}: at least "
            f"1, at least 1, one of {', '.join(PRECISIONS)}"
        )


def classes_of(
    domain: NDArray[np.str_], attributes: NDArray[np.str_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which clips are trained with, and the class of each of them.

    If the attributes of the source domain (all that is not called "target") tell two or more groups apart, each
    group is a class and target clips are left out; if not, all clips are one class.

    Returns
    -------
    used, classes : (n_used,) arrays of int
    """
    if len(domain) != len(attributes):
        raise ValueError(
            f"{len(domain)} domains, but {len(attributes)} attributes: expected one of each a clip"
        )
    source = np.flatnonzero(domain != TARGET)
    groups, classes = np.unique(attributes[source], return_inverse=True)
    if len(groups) > 1:
        return source, classes
    return np.arange(len(domain)), np.zeros(len(domain), np.intp)


def _levels(
    encoder: Dca, waveforms: Iterable[NDArray[np.float32]], used: NDArray[np.intp], n_clips: int
) -> Tensor:
    """Spectrograms of the clips that are used, (n_used, 2, bands, frames) in dB; the encoder learns their scale."""
    wanted, n_read, spectrograms = set(used.tolist()), 0, []
    for n_read, waveform in enumerate(waveforms, start=1):
        if n_read - 1 in wanted:
            spectrograms.append(encoder.spectrograms(waveform[None]))
    if n_read != n_clips:
        raise ValueError(f"{n_read} waveforms, but {n_clips} domains: expected one of each a clip")
    if len(spectrograms) < 2:
        raise ValueError(f"{len(spectrograms)} training clips: batch normalization needs 2 or more")
    levels = torch.cat(spectrograms)
    finite = levels.flatten(1).isfinite().all(1).tolist()
    if bad := [clip for clip, is_finite in zip(sorted(wanted), finite, strict=True) if not is_finite]:
        raise ValueError(
            f"the waveforms of {len(bad)} of {len(levels)} clips are not finite, the first at position {bad[0]}: "
            "clips with NaN or infinity cannot be trained on"
        )
    deviation, mean = torch.std_mean(levels)
    encoder.network.level.copy_(torch.stack([mean, deviation.clamp(min=torch.finfo(levels.dtype).eps)]))
    return levels


class Objective(nn.Module):
    """The loss of embeddings of both microphones, with the centers that it learns.

    Parameters
    ----------
    n_classes, dim : int
    recipe : DcaRecipe
    generator : torch.Generator
        Of the initial centers: directions drawn evenly.
    """

    def __init__(self, n_classes: int, dim: int, recipe: DcaRecipe, generator: torch.Generator) -> None:
        super().__init__()
        self.recipe = recipe
        drawn = torch.randn(n_classes, recipe.sub_centers, dim, generator=generator)
        self.sub_centers = nn.Parameter(nn.functional.normalize(drawn, dim=-1)) if n_classes > 1 else None
        self.centers = nn.Parameter(torch.zeros(n_classes, dim))
        alone = CENTER_WEIGHT_ALONE if self.sub_centers is None else CENTER_WEIGHT
        self.center_weight = alone if recipe.center_weight is None else recipe.center_weight

    def forward(self, embeddings: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Losses by name, of (batch, 2, dim) embeddings and (batch,) classes; means over both microphones."""
        both, of_both = embeddings.flatten(0, 1), classes.repeat_interleave(embeddings.shape[1])
        center = center_loss(both, self.centers, of_both)
        if self.sub_centers is None:
            return {"loss": self.center_weight * center, "center": center}
        arcface = sub_center_arcface(
            both, self.sub_centers, of_both, scale=self.recipe.scale, margin=self.recipe.margin
        )
        return {"loss": arcface + self.center_weight * center, "arcface": arcface, "center": center}


class Training:
    """A network on its way.

    Parameters
    ----------
    encoder : Dca
    levels : (n_clips, 2, bands, frames) tensor
        In dB, on the encoder's device.
    classes : (n_clips,) tensor of int
    recipe : DcaRecipe
    seed : int
    """

    def __init__(
        self, encoder: Dca, levels: Tensor, classes: Tensor, recipe: DcaRecipe, *, seed: int
    ) -> None:
        self.encoder, self.network, self.recipe, self.seed = encoder, encoder.network, recipe, seed
        self.levels, self.classes = levels, classes.to(encoder.device)
        generator = torch.Generator().manual_seed(seed)
        draw_weights(self.network, generator)
        self.n_classes = int(classes.max()) + 1
        self.objective = Objective(self.n_classes, self.network.projection.out_features, recipe, generator)
        self.learning = nn.ModuleDict({"network": self.network, "objective": self.objective}).to(
            encoder.device
        )
        self.optimizer = torch.optim.AdamW(
            self.learning.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def run(self, epochs: int, journal: Journal, progress: Progress | None) -> None:
        """Train up to that many epochs, from the last one that the journal knows."""
        for epoch in range(journal.take_up(epochs, self.learning, self.optimizer), epochs):
            row = self.epoch(epoch)
            logger.info("epoch %d: %s", epoch + 1, ", ".join(f"{k} {v:.3g}" for k, v in row.items()))
            if (
                epoch >= self.recipe.warm_up_epochs or epoch + 1 == epochs
            ):  # before, embeddings may part again
                _refuse_collapse(row["spread"], epoch + 1, self.n_classes)
            weights = self.encoder.arrays() if row["spread"] >= SMALLEST_SPREAD else None
            journal.write({"epoch": epoch + 1, **row}, self.learning, self.optimizer, weights, last=epochs)
            if progress is not None:
                progress(epoch + 1, epochs)
        self.network.eval()
        spread = journal.rows[-1]["spread"]
        _refuse_collapse(spread, epochs, self.n_classes)
        if (
            journal.checkpoint(epochs) is None
        ):  # where a longer training was interrupted, nothing was left to do
            journal.keep(epochs, self.encoder.arrays())
        if spread < SMALL_SPREAD:
            logger.warning(
                "the embeddings of all training clips are nearly the same (mean squared distance from their mean: "
                "%.2g): Gaussians of them hear differences in all directions alike",
                spread,
            )

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the clips; mean losses, and the spread of the embeddings after it."""
        order, generator = self._drawn(epoch)
        batches = [batch for batch in torch.split(order, self.recipe.batch_size) if len(batch) > 1]
        self.network.train()
        found = []
        for number, batch in enumerate(batches):
            self._set_learning_rate(epoch + (number + 0.5) / len(batches))
            found.append(self.step(batch.to(self.levels.device), generator))
        means = {name: float(torch.stack([losses[name] for losses in found]).mean()) for name in found[0]}
        return {**means, "spread": self.spread()}

    def _drawn(self, epoch: int) -> tuple[Tensor, torch.Generator]:
        """The order of clips in this epoch, and what masks and dropout are drawn from."""
        here, there = np.random.SeedSequence([self.seed, epoch]).generate_state(2, np.uint64) >> 1
        order = torch.randperm(len(self.levels), generator=torch.Generator().manual_seed(int(here)))
        return order, torch.Generator(self.levels.device).manual_seed(int(there))

    def _set_learning_rate(self, epoch: float) -> None:
        recipe = self.recipe
        factor = warm_up_and_cosine(epoch, warm_up=recipe.warm_up_epochs, length=recipe.schedule_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * recipe.learning_rate

    def step(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the optimizer; the losses before it."""
        levels = self.network.normalized(self.levels[batch])
        bands, frames = levels.shape[-2] // BAND_SHARE, levels.shape[-1] // FRAME_SHARE
        masked = spec_augment(levels, generator, bands=bands, frames=frames)
        with autocast(self.levels.device, self.recipe.precision):
            embeddings = self.network.embeddings(masked, generator)
        losses = self.objective(embeddings, self.classes[batch])
        self.optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.learning.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.inference_mode()
    def spread(self) -> float:
        """Mean squared distance of clips' embeddings from their mean, of at most ``WATCHED`` clips."""
        self.network.eval()
        watched = torch.linspace(0, len(self.levels) - 1, min(WATCHED, len(self.levels))).long()
        parts = torch.split(self.levels[watched], self.recipe.batch_size)
        embedded = [self.network(part).mean(dim=1) for part in parts]
        return float(torch.cat(embedded).var(dim=0, correction=0).sum())


def _refuse_collapse(spread: float, epoch: int, n_classes: int) -> None:
    if spread >= SMALLEST_SPREAD:
        return
    why = (
        "with a single class only the center loss is left, and that is smallest for a network which hears "
        "nothing: give the clips attributes, train for fewer epochs, or lower training.learning_rate"
        if n_classes == 1
        else "lower training.learning_rate"
    )
    raise CollapseError(
        f"the embeddings have collapsed in epoch {epoch}: their mean squared distance from their mean is "
        f"{spread:.2g}, less than {SMALLEST_SPREAD:g}; {why}"
    )
