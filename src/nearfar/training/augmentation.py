"""What is done to waveforms and spectrograms in training, so that a network relies on no single part of them."""

from __future__ import annotations

import torch
from torch import Tensor

MASKS = 2  # of bands, and as many of frames: the report of DCA, and the paper's "LibriSpeech double" policy


def spec_augment(
    spectrograms: Tensor, generator: torch.Generator, *, bands: int, frames: int, masks: int = MASKS
) -> Tensor:
    """Spectrograms with stripes of bands and of frames set to zero, other ones in each.

    D. S. Park et al., "SpecAugment: A simple data augmentation method for automatic speech recognition," Proc.
    Interspeech, 2019, without time warping.

    Parameters
    ----------
    spectrograms : (..., bands, frames) tensor
        Normalized, so that zero is their mean. Every index in front has masks of its own: two microphones too.
    generator : torch.Generator
        Of the spectrograms' device.
    bands, frames : int
        The widest that a mask can be; widths are drawn from 0 to this.
    masks : int
        Of bands, and of frames.
    """
    *leading, n_bands, n_frames = spectrograms.shape
    masked_bands = _stripes(leading, n_bands, bands, masks, generator)
    masked_frames = _stripes(leading, n_frames, frames, masks, generator)
    return spectrograms.masked_fill(masked_bands[..., :, None] | masked_frames[..., None, :], 0.0)


def _stripes(leading: list[int], size: int, widest: int, masks: int, generator: torch.Generator) -> Tensor:
    """Which of ``size`` places lie under one of the masks: (*leading, size)."""
    drawn = torch.rand(2, *leading, masks, 1, generator=generator, device=generator.device)
    widths = (drawn[0] * (min(widest, size) + 1)).floor()
    starts = (drawn[1] * (size - widths + 1)).floor()
    places = torch.arange(size, device=generator.device)
    return ((places >= starts) & (places < starts + widths)).any(dim=-2)


def mixup(examples: Tensor, labels: Tensor, partners: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Each example and its labels, mixed with those of a partner.

    H. Zhang et al., "mixup: Beyond empirical risk minimization," Proc. ICLR, 2018, arXiv:1710.09412: an example is
    ``w x + (1 - w) x'``, its label ``w y + (1 - w) y'``.

    Parameters
    ----------
    examples : (n, ...) tensor
        Such as waveforms.
    labels : (n, classes) tensor
    partners : (n,) tensor of int
        The number of the example that each is mixed with.
    weights : (n,) tensor
        Of the example itself; 1 leaves it as it is.

    Returns
    -------
    (n, ...), (n, classes) tensors
    """
    own = weights.view(-1, *[1] * (examples.ndim - 1))
    mixed = own * examples + (1 - own) * examples[partners]
    return mixed, weights[:, None] * labels + (1 - weights[:, None]) * labels[partners]
