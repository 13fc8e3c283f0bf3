"""The official DCASE Task 2 baseline: an autoencoder of stacked log-mel frames, and what it fails to rebuild.

Facts: T. Nishida et al., arXiv:2606.01578; N. Harada et al., "First-shot anomaly sound detection for machine
condition monitoring: A domain generalization baseline," Proc. EUSIPCO, 2023, pp. 191-195.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nearfar.encoders import Array
from nearfar.encoders.axes import TimeFrequency, frame_edges, mel_edges
from nearfar.encoders.features import Mel, log_mel, stack_frames

N_FRAMES = 5  # log-mel frames to a vector
WIDTH, CODE, HIDDEN = 128, 8, 4  # width of a hidden layer, of the bottleneck, hidden layers on either side
BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.01, 1e-3


class Autoencoder:
    """Residuals of an autoencoder that was trained on the normal clips of one machine.

    Linear 640-128-128-128-128-8-128-128-128-128-640; each layer but the last is followed by batch
    normalization and ReLU, the 8-D code too.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    n_fft, hop, n_mels : int
        Of the log-mel spectrogram.

    Notes
    -----
    Fitted per machine, by ``training.autoencoder``; before that, or ``with_arrays``, calling it is an error.
    """

    fitted_per_machine: ClassVar[bool] = True
    microphones: ClassVar[int] = 1
    path: ClassVar[None] = None
    blocks: ClassVar[tuple[int, ...]] = (1,)

    def __init__(
        self, *, sample_rate: int = 16000, n_fft: int = 1024, hop: int = 512, n_mels: int = 128
    ) -> None:
        self.sample_rate = sample_rate
        self.n_mels = n_mels
        self.min_samples = (N_FRAMES - 1) * hop
        self.mel = Mel(rate=sample_rate, n_fft=n_fft, hop=hop, n_mels=n_mels, f_max=sample_rate / 2)
        self.network = network(N_FRAMES * n_mels)
        self.is_fitted = False

    def frames(self, waveform: Array) -> Array:
        """The log-mel frames of one waveform, (samples,) to (frames, n_mels), in dB.

        Raises
        ------
        ValueError
            If it is too short for a single vector.
        """
        frames = log_mel(waveform, self.mel).T
        if len(frames) < N_FRAMES:
            raise ValueError(
                f"{waveform.shape[-1]} samples give {len(frames)} frames, but a vector stacks {N_FRAMES}; "
                f"a recording must be at least {(N_FRAMES - 1) * self.mel.hop / self.sample_rate:.2f} s long"
            )
        return np.ascontiguousarray(frames)

    @torch.inference_mode()
    def __call__(self, waveforms: Array) -> Array:
        """(batch, samples) to the rows of the residual, (batch, 1, N_FRAMES * vectors, 1, n_mels), in dB.

        The N_FRAMES rows of a vector follow one another; vectors follow one another by one frame.
        """
        if not self.is_fitted:
            raise ValueError(
                "the autoencoder is not fitted; train it, or give it the arrays of a trained one"
            )
        frames = np.stack([self.frames(waveform) for waveform in waveforms])
        vectors = torch.from_numpy(stack_frames(frames.swapaxes(-1, -2), N_FRAMES))
        residual = vectors - self.network(vectors.flatten(0, 1)).view_as(vectors)
        return residual.reshape(len(waveforms), 1, -1, 1, self.n_mels).numpy()

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell for each frame and mel band, of all vectors that hold the frame: see ``encoders.Located``."""
        by_vector = terms.reshape(-1, N_FRAMES, self.n_mels)
        values = np.zeros((self.n_mels, len(by_vector) + N_FRAMES - 1))
        for place in range(N_FRAMES):
            values[:, place : place + len(by_vector)] += by_vector[:, place].T
        times = frame_edges(self.mel, np.arange(values.shape[1] + 1), n_samples, centred=True)
        return TimeFrequency(times, mel_edges(self.mel, np.arange(self.n_mels + 1)), values)

    @property
    def parameters(self) -> int:
        """Weights, and the running statistics of batch normalization: 269,992 for 128 bands, as published."""
        return sum(a.size for name, a in self.arrays().items() if not name.endswith("num_batches_tracked"))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        try:
            self.network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        except RuntimeError as error:
            raise ValueError(f"these are not the arrays of this autoencoder: {error}") from error
        self.network.eval()
        self.is_fitted = True
        return self


class DifferenceAutoencoder(Autoencoder):
    """The same of how much louder each band is near than far: log-mel levels of near minus those of far, in dB.

    Our reading of a "residual Mahalanobis AE" (J. Lei, technical report, DCASE Challenge 2026, Task 2), beside the
    autoencoder of the near microphone after least squares.
    """

    microphones: ClassVar[int] = 2

    def frames(self, waveform: Array) -> Array:
        """Level differences of two waveforms, (2, samples) to (frames, n_mels), in dB."""
        near, far = (Autoencoder.frames(self, one) for one in waveform)
        return near - far


def widths(n_inputs: int) -> list[int]:
    """Of the layers, from input to output."""
    return [n_inputs, *[WIDTH] * HIDDEN, CODE, *[WIDTH] * HIDDEN, n_inputs]


def network(n_inputs: int) -> nn.Sequential:
    """(vectors, n_inputs) to (vectors, n_inputs)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths(n_inputs)):
        layers += [nn.Linear(before, after), _batch_norm(after), nn.ReLU()]
    return nn.Sequential(*layers[:-2])  # nothing follows the last linear layer


def _batch_norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
