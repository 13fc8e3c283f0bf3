"""CED: vision transformers of four sizes that tag sounds, distilled from an ensemble.

Facts: H. Dinkel et al., "CED: Consistent ensemble distillation for audio tagging," arXiv:2308.11957; weights of
``mispeech/ced-*``, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders.arithmetic import Precision
from nearfar.encoders.axes import TimeFrequency, frame_edges, located, mel_edges, patch_positions
from nearfar.encoders.checkpoints import matched
from nearfar.encoders.features import Mel, log_mel
from nearfar.encoders.frozen import Frozen, Tokens
from nearfar.encoders.vit import Geometry, ViT, renamed, sized

MEL = Mel(rate=16000, n_fft=512, hop=160, n_mels=64, f_max=8000.0, scale="htk", norm=None, pad="reflect")
POWER_FLOOR = 1e-10
DYNAMIC_RANGE = 120.0  # dB under each clip's maximum
N_CLASSES = 527  # of AudioSet
NORM_EPSILON = 1e-5  # of batch normalization, and of the head's layer normalization

BASE = Geometry(
    dim=768,
    heads=12,
    depth=12,
    bands=64,
    frames=1012,
    rows="frequency",
    norm="pre",
    positions="axes",
    has_cls=False,
    input_norm=False,
    final_norm=True,
)
LAYOUTS = (  # prefixes of the published files, and what they are here
    ("encoder.", ""),  # of the hub
    ("init_bn.1.", "init_bn."),  # of Zenodo
)
DROPPED = ("front_end.", "init_bn.num_batches_tracked")


class BandNorm(nn.Module):
    """Batch normalization of bands by the statistics of the training data, whatever the mode."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(bands))
        self.bias = nn.Parameter(torch.zeros(bands))
        self.register_buffer("running_mean", torch.zeros(bands))
        self.register_buffer("running_var", torch.ones(bands))

    def forward(self, levels: Tensor) -> Tensor:
        """(batch, bands, frames) to the same."""
        return functional.batch_norm(
            levels, self.running_mean, self.running_var, self.weight, self.bias, eps=NORM_EPSILON
        )


class CedNetwork(ViT):
    """From waveform to tokens and to probabilities of classes.

    Parameters
    ----------
    geometry : Geometry
    classes : int

    Notes
    -----
    A clip of more than ``geometry.frames`` frames is cut into chunks of so many, the last of which is filled with
    zeros after normalization; tokens of the filling are given too, as in the original.
    """

    def __init__(self, geometry: Geometry = BASE, *, classes: int = N_CLASSES) -> None:
        super().__init__(geometry)
        self.init_bn = BandNorm(geometry.bands)
        self.outputlayer = nn.Sequential(
            nn.LayerNorm(geometry.dim, eps=NORM_EPSILON), nn.Linear(geometry.dim, classes)
        )

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Normalized levels, (batch, samples) to (batch, bands, frames)."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.init_bn(log_mel(waveforms, MEL, floor=POWER_FLOOR, top_db=DYNAMIC_RANGE))

    def chunks(self, image: Tensor) -> list[Tensor]:
        """(batch, bands, frames) each, all of equal length if there are several."""
        longest, frames = self.geometry.frames, image.shape[-1]
        if frames > longest:
            image = functional.pad(image, (0, -frames % longest))
        return list(torch.split(image, longest, dim=-1))

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to tokens of these blocks; the last block's are given after the final norm."""
        return self.encode_chunks(self.chunks(spectrogram), blocks)

    def forward(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) to tokens of these blocks."""
        return self.hear(self.spectrogram(waveforms), blocks)

    def probabilities(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to (batch, classes)."""
        tokens = self(waveforms, (self.geometry.depth,)).grid
        return self.outputlayer(tokens.mean(dim=(1, 2, 3))).sigmoid()


class Ced(Frozen):
    """Tokens of CED: a frame each 160 ms, four bands.

    Parameters
    ----------
    weights : str
        ``ced_tiny``, ``ced_mini``, ``ced_small`` or ``ced_base``, or the path of a file in the layout of the hub or
        of Zenodo.
    blocks : tuple of int
        From 1; the last one, 12, is given after the final normalization.
    precision, device : str
        As ``Frozen``.
    """

    ENCODER: ClassVar[str] = "ced"
    takes_any_length: ClassVar[bool] = False
    length_advice: ClassVar[str] = (
        f"so does its authors' program with clips of more than {(BASE.frames * MEL.hop) / MEL.rate:.2f} s"
    )

    def __init__(
        self,
        *,
        weights: str = "ced_base",
        blocks: tuple[int, ...] = (12,),
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)
        self.sample_rate = MEL.rate
        self.min_samples = (BASE.patch[1] - 1) * MEL.hop  # one column of patches

    def cut_and_filled(self, n_samples: int) -> tuple[float, float]:
        """See ``encoders.Limited``; it fills the last part of long clips."""
        frames = 1 + n_samples // MEL.hop
        missing = -frames % BASE.frames if frames > BASE.frames else 0
        return 0.0, (missing * MEL.hop / MEL.rate if missing >= BASE.patch[1] else 0.0)

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell for each patch; those of what is filled up lie after the clip: see ``encoders.Located``."""
        _, frames, bands, _ = terms.shape
        of_bands, of_frames = BASE.patch
        positions = patch_positions(frames, of_frames, BASE.frames)
        times = frame_edges(MEL, positions, n_samples, centred=True)
        return located(terms, times, mel_edges(MEL, np.arange(bands + 1) * of_bands))

    def build(self, tensors: Mapping[str, Tensor], where: str) -> CedNetwork:
        """The network with these weights, strictly."""
        named = renamed(tensors, LAYOUTS, where=where)
        geometry = sized(BASE, named, where=where, dim=self.record.dim if self.record else None)
        with torch.device("meta"):
            network = CedNetwork(geometry)
        matched(named, network, where=where, dropped=DROPPED)
        return network
