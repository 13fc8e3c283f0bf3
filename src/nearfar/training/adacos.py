"""Training of adapters by sub-cluster AdaCos: a network learns to tell the attributes of machines apart.

This is the recipe of public systems that adapt one pretrained network, such as X. Zheng et al., "Improving
anomalous sound detection via low-rank adaptation fine-tuning of pre-trained audio models," arXiv:2409.07016:
low-rank adapters, attentive statistics pooling, sub-cluster AdaCos, mixup. A class is a combination of machine and
attributes. Clips without attributes get pseudo-classes: clusters, by k-means, of what the network makes of them
before the training.

What was trained above the network is dropped afterwards. It keeps what tells attributes apart, and little of what a
fault changes. Anomalies are heard in the block's own tokens, by any pooling and back end.

The training hears what the branch hears: the microphones of its view, each through the network, side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders import Array
from nearfar.encoders.frozen import Frozen
from nearfar.files.arrays import load_if_whole, save_with_digest
from nearfar.files.atomic import atomic_file
from nearfar.training.adaptation import Adaptation, Classes, Recipe, of_one_length, require_hearable
from nearfar.training.adapters import HeardClips
from nearfar.training.attentive_statistics import AttentiveStatistics
from nearfar.training.augmentation import mixup
from nearfar.training.initialization import draw_weights, undrawn_linear
from nearfar.training.losses import adaptive_scale, all_cosines, initial_scale, sub_cluster_adacos

# of a public system of 2026, BEATs with LoRA (second-hand):
RANK, SUB_CLUSTERS, MIXED_SHARE = 64, 16, 0.5
BATCH_SIZE, LEARNING_RATE = 8, 1e-4
STEPS, WARM_UP_STEPS = 37_500, 5_000
EPOCHS = 43  # of 7,000 clips, which are these steps
# our choice:
ALPHA = 64.0  # as the rank: what is learnt is added as it is
ATTENTION_DIM, PSEUDO_CLASSES = 64, 4
RESTARTS = 10  # of k-means
UNTOLD = -1  # the class of a clip without attributes, until there is one
PSEUDO_LABELS = "pseudo_labels.safetensors"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdaCosRecipe(Recipe):
    """Attributes of machines told apart by sub-cluster AdaCos, of mixed waveforms.

    Random are initial weights, the order of clips, parts of clips, partners and weights of what is mixed, masks,
    dropout, and the first centres of k-means.

    Attributes
    ----------
    rank, alpha, blocks, batch_size, learning_rate, warm_up_share, epochs
        As of ``Recipe``, with the defaults of this recipe. ``blocks`` has none, because it depends on the network.
    sub_clusters : int
        Of each class.
    mixed_share : float
        Of the clips, that are mixed with another one of the batch. The weight is drawn evenly from 0 to 1.
    without_attributes : {"kmeans", "one_class"}
        What a machine's clips without attributes are: pseudo-classes by k-means, or one class.
    pseudo_classes : int
        By k-means, of each machine that has clips without attributes; no more than it has clips.
    attention_dim : int
        Of ``AttentiveStatistics``.
    seconds : float or None
        Of a clip, from a place that is drawn anew each time. ``None``: all of it. Cancellation comes before.
    """

    blocks: tuple[int, ...] = field()  # takes the default away
    rank: int = RANK
    alpha: float = ALPHA
    epochs: int = EPOCHS
    batch_size: int = BATCH_SIZE
    learning_rate: float = LEARNING_RATE
    warm_up_share: float = WARM_UP_STEPS / STEPS
    band_mask: float = 0.0
    frame_mask: float = 0.0
    sub_clusters: int = SUB_CLUSTERS
    mixed_share: float = MIXED_SHARE
    without_attributes: Literal["kmeans", "one_class"] = "kmeans"
    pseudo_classes: int = PSEUDO_CLASSES
    attention_dim: int = ATTENTION_DIM
    seconds: float | None = None

    def refuse_options(self, workers: int) -> None:
        """Raise if an option is out of its range."""
        super().refuse_options(workers)
        self.refuse_out_of_range(("sub_clusters", "pseudo_classes", "attention_dim"), ("mixed_share",))
        if self.without_attributes not in ("kmeans", "one_class"):
            raise ValueError(
                f"without_attributes={self.without_attributes!r}: must be 'kmeans' or 'one_class'"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds={self.seconds:g}: must be above 0; omit it to train on whole clips")

    def classes(self, clips: HeardClips) -> Classes:
        """Machine and attributes of each clip as a number, under ``"attribute"``, and machines under ``"machine"``.

        Clips that are to get pseudo-classes have the number ``UNTOLD``.

        Raises
        ------
        ValueError
            If there is nothing to tell apart.
        """
        names = np.stack([clips.machine, clips.attributes], axis=1).astype(str)
        untold = (names[:, 1] == "") & (self.without_attributes == "kmeans")
        told, numbers = np.unique(names, axis=0, return_inverse=True)
        numbers = np.where(untold, UNTOLD, numbers.reshape(-1))
        if len(told) < 2 and (self.pseudo_classes < 2 or np.count_nonzero(untold) < 2):
            raise ValueError(
                f"{len(names)} clips of one machine, attributes {str(told[0, 1])!r}: there is nothing to tell "
                "apart; give clips of several machines, or attributes, or pseudo-classes: "
                "without_attributes='kmeans' and pseudo_classes=2 or more"
            )
        machines = np.unique(names[:, 0], return_inverse=True)[1]
        return {"attribute": numbers, "machine": machines.reshape(-1)}

    def begin(
        self, encoder: Frozen, clips: HeardClips, classes: Classes, *, seed: int, folder: Path | None
    ) -> Adaptation:
        """The adapters at their beginning, after k-means where that is wanted."""
        numbers, machine = classes["attribute"], classes["machine"]
        if (numbers == UNTOLD).any():

            def hear(number: int) -> NDArray[np.float32]:
                samples = clips.hear(number)
                require_hearable(samples, number, microphones=clips.microphones, encoder=encoder)
                return samples

            numbers = self._with_pseudo_classes(encoder, hear, numbers, machine, seed, folder)
        dense = np.unique(numbers, return_inverse=True)[1].reshape(-1)
        microphones = clips.microphones
        return AdaCosAdaptation(
            encoder, clips.hear, {"attribute": dense}, self, seed=seed, microphones=microphones
        )

    def _with_pseudo_classes(
        self,
        encoder: Frozen,
        hear: Callable[[int], NDArray[np.float32]],
        numbers: NDArray[np.intp],
        machine: NDArray[np.intp],
        seed: int,
        folder: Path | None,
    ) -> NDArray[np.intp]:
        """The classes, with pseudo-classes in place of ``UNTOLD``; kept in the folder, because the network ran."""
        file = None if folder is None else folder / PSEUDO_LABELS
        kept = None if file is None else load_if_whole(file)
        if kept is not None:
            return kept["classes"]
        found = numbers.copy()
        for number in np.unique(machine[numbers == UNTOLD]):
            (places,) = np.nonzero((machine == number) & (numbers == UNTOLD))
            labels = pseudo_labels(encoder, hear, places, count=self.pseudo_classes, seed=seed)
            found[places] = 1 + found.max() + labels
            logger.info("%d clips without attributes: %d pseudo-classes", len(places), 1 + labels.max())
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as part:
                save_with_digest(part, {"classes": found})
        return found


def pseudo_labels(
    encoder: Frozen,
    hear: Callable[[int], NDArray[np.float32]],
    places: NDArray[np.intp],
    *,
    count: int,
    seed: int,
) -> NDArray[np.intp]:
    """Classes of clips by k-means of their mean tokens, as the encoder gives them: (n_places,) from 0.

    Parameters
    ----------
    encoder : Frozen
    hear : callable
        As of ``HeardClips``.
    places : (n_places,) array
        Numbers of clips.
    count : int
        Of classes; no more than there are clips.
    seed : int
    """
    means = [encoder(hear(int(place))).mean(axis=(2, 3)).ravel() for place in places]
    kmeans = KMeans(min(count, len(means)), n_init=RESTARTS, random_state=seed)
    with threadpool_limits(1):  # so that sums are always rounded alike
        return kmeans.fit_predict(np.stack(means).astype(np.float64)).astype(np.intp)


class AdaCosObjective(nn.Module):
    """From tokens to the loss of sub-cluster AdaCos; it keeps the scale, and adapts it batch by batch.

    Parameters
    ----------
    dim : int
        Of a token.
    classes, microphones : int
    recipe : AdaCosRecipe
    generator : torch.Generator
        Of initial weights; centers are directions drawn evenly.
    """

    scale: Tensor

    def __init__(
        self, dim: int, classes: int, microphones: int, recipe: AdaCosRecipe, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.pooling = AttentiveStatistics(dim, recipe.attention_dim)
        self.embedding = undrawn_linear(microphones * 2 * dim, recipe.dim)
        draw_weights(self, generator)
        drawn = torch.randn(classes, recipe.sub_clusters, recipe.dim, generator=generator)
        self.centers = nn.Parameter(functional.normalize(drawn, dim=-1))
        first = initial_scale(classes, recipe.sub_clusters)
        self.register_buffer("scale", torch.tensor(first, dtype=torch.float64))
        self.seen: list[tuple[Tensor, Tensor]] = []  # cosines and labels of the parts of the present batch

    def forward(self, tokens: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses by name, of (batch, microphones, frames, bands, dim) tokens and (batch, classes) labels."""
        embeddings = self.embedding(self.pooling(tokens).flatten(1))
        cosines = all_cosines(functional.normalize(embeddings, dim=-1), self.centers)
        self.seen.append((cosines.detach(), labels))
        loss = sub_cluster_adacos(cosines, labels, scale=self.scale.to(cosines.dtype))
        return {"loss": loss}

    def adapt_scale(self) -> None:
        """The scale of the next batch, from what was seen of this one."""
        cosines, labels = (torch.cat(parts).double() for parts in zip(*self.seen, strict=True))
        self.scale.copy_(adaptive_scale(cosines, labels, scale=self.scale))
        self.seen.clear()


class AdaCosAdaptation(Adaptation):
    """Adapters on their way, by sub-cluster AdaCos. A batch is learnt with the scale that the one before gave."""

    def begun(self, dim: int, counts: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        """Attentive statistics pooling, the embedding, and the centers."""
        self.n_classes = counts["attribute"]
        return AdaCosObjective(dim, self.n_classes, self.microphones, self._own, generator)

    @property
    def _own(self) -> AdaCosRecipe:
        return cast(AdaCosRecipe, self.recipe)

    def accumulate(self, step: int, waveforms: Sequence[Array]) -> dict[str, float]:
        """Add a batch's gradients to what is there; its losses, and the scale that they were found with."""
        objective = cast(AdaCosObjective, self.objective)
        scale = float(objective.scale)
        found = {**super().accumulate(step, waveforms), "scale": scale}
        objective.adapt_scale()
        return found

    def losses(
        self, waveforms: Array, generators: Sequence[torch.Generator], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of mixed waveforms and their labels."""
        found: dict[str, Tensor] = self.objective(self.tokens(waveforms, generators), targets["attribute"])
        return found

    def examples(self, step: int, waveforms: Sequence[Array]) -> tuple[Sequence[Array], dict[str, Tensor]]:
        """Parts of the waveforms, some of them mixed with another one of the same length, and their labels."""
        drawn = self._drawn(step)
        cut = [self._cut(waveform, float(place)) for waveform, place in zip(waveforms, drawn[0], strict=True)]
        numbers = self.classes["attribute"][torch.tensor(self.batch(step), device=self.device)].cpu()
        labels = functional.one_hot(numbers, self.n_classes).float()
        weights = torch.where(drawn[1] < self._own.mixed_share, drawn[2], torch.ones(())).float()
        mixed, of_mixed = list(cut), labels.clone()
        for places in of_one_length(cut):
            partners = torch.tensor(np.roll(np.arange(len(places)), 1))  # the batch is in random order
            some = torch.from_numpy(np.stack([cut[place] for place in places]))
            examples, of_mixed[places] = mixup(some, labels[places], partners, weights[places])
            for place, example in zip(places, examples.numpy(), strict=True):
                mixed[place] = example
        return mixed, {"attribute": of_mixed.to(self.device)}

    def _drawn(self, step: int) -> Tensor:
        """(3, clips of the batch) numbers from 0 to 1: where a clip begins, whether it is mixed, and its weight."""
        epoch, number = divmod(step, self.batches)
        # without the last 1: masks and dropout
        seeds = np.random.SeedSequence([self.seed, epoch, 1 + number, 1])
        (seed,) = seeds.generate_state(1, np.uint64) >> 1
        generator = torch.Generator().manual_seed(int(seed))
        return torch.rand(3, len(self.batch(step)), dtype=torch.float64, generator=generator)

    def _cut(self, waveform: Array, place: float) -> Array:
        """``seconds`` of (microphones, samples), as the network takes them; all of what is shorter."""
        seconds, heard = self._own.seconds, waveform.shape[1]
        if seconds is None:
            return waveform
        fewest = self.encoder.prepared(np.zeros((1, self.encoder.min_samples), np.float32)).shape[1]
        per_second = self.encoder.prepared(np.zeros((1, self.encoder.sample_rate), np.float32)).shape[1]
        length = min(heard, max(fewest, round(seconds * per_second)))
        start = int(place * (heard - length + 1))
        return waveform[:, start : start + length]
