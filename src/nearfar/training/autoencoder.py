"""Training of the official autoencoder: exactly its arithmetic, without its overhead.

The network is ten small layers, so a step of autograd is mostly bookkeeping: at batch 256 the matrix products
take two fifths of the time of a plain loop. Here forward and backward pass are written out over buffers that
are allocated once, and all parameters lie in one flat vector that one fused Adam call updates. The tests hold
it to autograd and ``torch.optim.Adam`` step by step; ``benchmarks/bench_autoencoder.py`` compares the times.

The exact gradient of a bias before batch normalization is zero, but Adam makes whole steps of its rounding
noise, and the running means that scoring uses follow such a walk only slowly. That jitter is a part of the
official system, so it is kept, although leaving it out would be cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.encoders.autoencoder import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    N_FRAMES,
    Autoencoder,
    widths,
)

EPOCHS, BATCH_SIZE, LEARNING_RATE = 100, 256, 1e-3  # the official baseline's
TRAINING_SHARE = 0.9  # of the vectors; the official baseline only watches its loss on the others
BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8  # torch's defaults, which the official baseline takes

Progress = Callable[[int, int], None]
Shapes = list[tuple[int, ...]]
_aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """How an autoencoder is trained; the defaults are those of the official baseline.

    Attributes
    ----------
    epochs, batch_size : int
    learning_rate : float
    device : str
        Where to train: ``"cpu"`` or ``"cuda"``.
    threads : int
        Threads of torch. Two are a quarter faster than one on an idle machine and far slower on a busy one; two
        trainings side by side with one each do more. Results are equal to the bit for an equal number.
    """

    epochs: int = EPOCHS
    batch_size: int = BATCH_SIZE
    learning_rate: float = LEARNING_RATE
    device: str = "cpu"
    threads: int = 1

    def train(
        self,
        encoder: Autoencoder,
        waveforms: Iterable[NDArray[np.float32]],
        *,
        domain: NDArray[np.str_] | None = None,  # noqa: ARG002  # of the contract; all clips are alike here
        attributes: NDArray[np.str_] | None = None,  # noqa: ARG002
        seed: int,
        folder: Path | None = None,  # noqa: ARG002  # of the contract; a training takes minutes
        progress: Progress | None = None,
    ) -> None:
        """Fit the autoencoder to normal recordings of one machine, in place.

        Parameters
        ----------
        encoder : Autoencoder
        waveforms : iterable of (samples,) arrays
            Read once; only their log-mel frames are kept (512 bytes a frame).
        domain, attributes, folder
            Not used.
        seed : int
            Of initial weights, the split and the order of vectors. The official baseline's is 13711.
        progress : callable or None
            Called with (epochs done, epochs).

        Raises
        ------
        ValueError
            If there are fewer than two training vectors, or options with which nothing is trained.
        """
        if self.batch_size < 2 or self.epochs < 1:
            raise ValueError(
                f"batch_size={self.batch_size}, epochs={self.epochs}: at least 2 vectors and 1 epoch train anything"
            )
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            step = _fit(encoder, waveforms, self, seed, progress)
        finally:
            torch.set_num_threads(before)
        encoder.with_arrays({name: t.cpu().numpy() for name, t in step.state().items()})


def _fit(
    encoder: Autoencoder,
    waveforms: Iterable[NDArray[np.float32]],
    recipe: AutoencoderRecipe,
    seed: int,
    progress: Progress | None,
) -> Step:
    generator, device = torch.Generator().manual_seed(seed), recipe.device
    vectors, starts = _vectors([encoder.frames(w) for w in waveforms], device)
    kept = starts[torch.randperm(len(starts), generator=generator)][: int(TRAINING_SHARE * len(starts))]
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} training vectors are too few for batch normalization; give more clips")
    step = Step(N_FRAMES * encoder.n_mels, recipe.batch_size, recipe.learning_rate, generator, device)
    for epoch in range(recipe.epochs):
        order = kept[torch.randperm(len(kept), generator=generator)]
        for batch in torch.split(order, recipe.batch_size):
            if len(batch) > 1:  # a batch of one has no variance to normalize by
                step(torch.index_select(vectors, 0, batch.to(device), out=step.inputs(len(batch))))
        if progress is not None:
            progress(epoch + 1, recipe.epochs)
    return step


def _vectors(frames: list[NDArray[np.float32]], device: str) -> tuple[Tensor, Tensor]:
    """Every vector of ``N_FRAMES`` consecutive frames, overlapping views, and which of them are of one clip.

    A vector is a run of the frames' memory, so stacking copies nothing.
    """
    if not frames:
        raise ValueError("no recordings to train on; give normal clips of the machine")
    lengths = [len(f) for f in frames]
    flat = torch.from_numpy(np.concatenate(frames)).to(device).view(-1)
    n_mels = frames[0].shape[1]
    first = np.cumsum([0, *lengths[:-1]])
    starts = np.concatenate([np.arange(a, a + n - N_FRAMES + 1) for a, n in zip(first, lengths, strict=True)])
    return flat.unfold(0, N_FRAMES * n_mels, n_mels), torch.from_numpy(starts)


class Step:
    """One step of Adam on the mean squared error of a batch; keeps the weights.

    Parameters
    ----------
    n_inputs : int
        Dimensions of a vector.
    batch_size : int
        The largest batch.
    learning_rate : float
    generator : torch.Generator
        Of the initial weights, drawn as ``torch.nn.Linear`` draws them.
    device : str
    """

    def __init__(
        self, n_inputs: int, batch_size: int, learning_rate: float, generator: torch.Generator, device: str
    ) -> None:
        self.widths = widths(n_inputs)
        self.learning_rate = learning_rate
        self.weights, self.biases, self.scales, self.shifts = self._parameters(device)
        self._draw(generator)
        hidden = self.widths[1:-1]
        self.running_mean = [torch.zeros(w, device=device) for w in hidden]
        self.running_var = [torch.ones(w, device=device) for w in hidden]
        self.steps = torch.zeros((), device=device)
        empty = [torch.empty(batch_size, w, device=device) for w in self.widths]
        self._inputs = empty[0]
        self._linear = empty[1:]  # before batch normalization
        self._active = [torch.empty_like(e) for e in empty[1:-1]]  # after it, and ReLU
        self._gradient = [torch.empty_like(e) for e in empty[1:-1]]  # of the active
        self._mean, self._inverse_std = ([torch.empty(w, device=device) for w in hidden] for _ in range(2))

    def _parameters(self, device: str) -> list[list[Tensor]]:
        """Views of one flat vector of parameters, and in ``gradients`` of one of gradients."""
        pairs: Shapes = [(outputs, inputs) for inputs, outputs in pairwise(self.widths)]
        every: Shapes = [(w,) for w in self.widths[1:]]
        shapes = [pairs, every, every[:-1], every[:-1]]
        count = sum(math.prod(s) for group in shapes for s in group)
        self.flat, self.flat_gradient, self.moment_1, self.moment_2 = (
            torch.zeros(count, device=device) for _ in range(4)
        )
        self.gradients = _views(self.flat_gradient, shapes)
        return _views(self.flat, shapes)

    def _draw(self, generator: torch.Generator) -> None:
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(weight.shape[1])  # nn.Linear's, for both
            for parameter in (weight, bias):
                drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                parameter.copy_(drawn)
        for scale in self.scales:
            scale.fill_(1.0)

    def inputs(self, n: int) -> Tensor:
        """The buffer that a batch of n vectors belongs in."""
        return self._inputs[:n]

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> None:
        """Update the weights with a batch, (n, n_inputs)."""
        error = self._forward(batch)
        self._backward(batch, error.mul_(2 / error.numel()))
        self.steps += 1
        torch._fused_adam_(
            [self.flat],
            [self.flat_gradient],
            [self.moment_1],
            [self.moment_2],
            [],
            [self.steps],
            lr=self.learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=0.0,
            eps=ADAM_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _forward(self, batch: Tensor) -> Tensor:
        """Reconstruction minus input, (n, n_inputs)."""
        n, active = len(batch), batch
        for i in range(len(self.widths) - 2):
            linear = torch.addmm(self.biases[i], active, self.weights[i].t(), out=self._linear[i][:n])
            active = self._active[i][:n]
            _aten.native_batch_norm.out(
                linear,
                self.scales[i],
                self.shifts[i],
                self.running_mean[i],
                self.running_var[i],
                True,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPSILON,
                out=active,
                save_mean=self._mean[i],
                save_invstd=self._inverse_std[i],
            )
            active.relu_()
        output = torch.addmm(self.biases[-1], active, self.weights[-1].t(), out=self._linear[-1][:n])
        return output.sub_(batch)

    def _backward(self, batch: Tensor, gradient: Tensor) -> None:
        """Fill ``flat_gradient``, given the gradient of the loss by the output."""
        n = len(batch)
        of_weights, of_biases, of_scales, of_shifts = self.gradients
        torch.mm(gradient.t(), self._active[-1][:n], out=of_weights[-1])
        torch.sum(gradient, 0, out=of_biases[-1])
        for i in reversed(range(len(self.widths) - 2)):
            of_active = torch.mm(gradient, self.weights[i + 1], out=self._gradient[i][:n])
            _aten.threshold_backward.grad_input(of_active, self._active[i][:n], 0, grad_input=of_active)
            gradient, of_scale, of_shift = _aten.native_batch_norm_backward(
                of_active,
                self._linear[i][:n],
                self.scales[i],
                self.running_mean[i],
                self.running_var[i],
                self._mean[i],
                self._inverse_std[i],
                True,
                BATCH_NORM_EPSILON,
                [True, True, True],
            )
            torch.sum(gradient, 0, out=of_biases[i])
            of_scales[i].copy_(of_scale)
            of_shifts[i].copy_(of_shift)
            below = self._active[i - 1][:n] if i else batch
            torch.mm(gradient.t(), below, out=of_weights[i])

    def state(self) -> dict[str, Tensor]:
        """The weights under the names of ``encoders.autoencoder.network``."""
        state: dict[str, Tensor] = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            state |= {f"{3 * i}.weight": weight, f"{3 * i}.bias": bias}
        for i in range(len(self.widths) - 2):
            state |= {
                f"{3 * i + 1}.weight": self.scales[i],
                f"{3 * i + 1}.bias": self.shifts[i],
                f"{3 * i + 1}.running_mean": self.running_mean[i],
                f"{3 * i + 1}.running_var": self.running_var[i],
                f"{3 * i + 1}.num_batches_tracked": self.steps.long(),
            }
        return state


def _views(flat: Tensor, shapes: list[Shapes]) -> list[list[Tensor]]:
    sizes = [math.prod(s) for group in shapes for s in group]
    parts = iter(torch.split(flat, sizes))
    return [[next(parts).view(s) for s in group] for group in shapes]
