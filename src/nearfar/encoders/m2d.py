"""M2D and M2D-AS: masked modeling duo, a vision transformer that predicts hidden patches.

M2D-AS is the same encoder, trained with labels of AudioSet besides; its head is dropped.

Facts: D. Niizumi et al., "Masked modeling duo: Towards a universal audio pre-training framework,"
arXiv:2404.06095. The weights are for non-commercial evaluation only, and may not be passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nearfar.encoders.arithmetic import Precision
from nearfar.encoders.axes import TimeFrequency, frame_edges, located, mel_edges, patch_positions
from nearfar.encoders.checkpoints import CheckpointError, matched
from nearfar.encoders.features import Mel, mel_spectrogram
from nearfar.encoders.frozen import Frozen, Tokens
from nearfar.encoders.vit import Geometry, ViT, renamed, sized

MEL = Mel(rate=16000, n_fft=400, hop=160, n_mels=80, f_min=50.0, f_max=8000.0, pad="reflect")
LOG_OFFSET = 1.1920929e-07  # of power: the epsilon of float32
NORM_STATS = (-7.1, 4.2)  # mean and standard deviation of log-mel values, where a file has none

BASE = Geometry(
    dim=768,
    heads=12,
    depth=12,
    bands=80,
    frames=608,
    rows="frequency",
    norm="pre",
    positions="table_with_cls",
    has_cls=True,
    input_norm=False,
    final_norm=True,
)
PUBLISHED_FRAMES = (608, 1001)  # longest inputs; 1001 is not a multiple of a patch
ARCHIVE = re.compile(r"-(\d+)x(\d+)p(\d+)x(\d+)(?:p(\d+)k)?")  # BANDSxFRAMESpBANDSxFRAMES[pRATE]
LAYOUTS = (  # prefixes of the published files, and what they are here
    ("module.ar.runtime.", ""),  # fine-tuned
    ("module.", ""),
    ("backbone.", ""),
)
DROPPED = ("mask_token", "decoder_", "target_blocks.", "target_norm.", "offline_predictor.", "head")


class M2dNetwork(ViT):
    """From waveform to tokens.

    Parameters
    ----------
    geometry : Geometry

    Notes
    -----
    A clip of more than ``geometry.frames`` frames is cut into chunks of so many. The last one, or a short clip, is
    filled with zeros after normalization to whole patches.
    """

    norm_stats: Tensor

    def __init__(self, geometry: Geometry = BASE) -> None:
        super().__init__(geometry)
        self.register_buffer("norm_stats", torch.tensor(NORM_STATS))

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Normalized log-mel values, (batch, samples) to (batch, bands, frames)."""
        mean, std = self.norm_stats
        with torch.autocast(waveforms.device.type, enabled=False):
            return ((mel_spectrogram(waveforms, MEL) + LOG_OFFSET).log() - mean) / std

    def chunks(self, image: Tensor) -> list[Tensor]:
        """(batch, bands, frames) each; only the last one may be shorter than the others."""
        longest = self.geometry.frames
        chunks = torch.split(image, longest, dim=-1)
        frames = chunks[-1].shape[-1]
        missing = min(-frames % self.geometry.patch[1], longest - frames)
        return [*chunks[:-1], functional.pad(chunks[-1], (0, missing))]

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to tokens of these blocks; the last block's are given after the final norm."""
        return self.encode_chunks(self.chunks(spectrogram), blocks)

    def forward(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) to tokens of these blocks."""
        return self.hear(self.spectrogram(waveforms), blocks)


class M2d(Frozen):
    """Tokens of M2D or M2D-AS: a frame each 160 ms, five bands, and a CLS token.

    Parameters
    ----------
    weights : str
        ``m2d_as``, ``m2d_as_finetuned`` or ``m2d``, or the path of a file, in a folder that is named as its archive
        (``m2d_as_vit_base-80x608p16x16-240213``); in another folder, its longest input is told by its positions.
    blocks : tuple of int
        From 1; the last one, 12, is given after the final normalization.
    precision, device : str
        As ``Frozen``.
    """

    ENCODER: ClassVar[str] = "m2d"

    def __init__(
        self,
        *,
        weights: str = "m2d_as",
        blocks: tuple[int, ...] = (12,),
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)
        self.sample_rate = MEL.rate
        self.min_samples = MEL.n_fft // 2 + 1  # of a mirror image of half a frame

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell for each patch; those of what is filled up lie after the clip: see ``encoders.Located``."""
        _, frames, bands, _ = terms.shape
        geometry = cast(M2dNetwork, self.network).geometry
        of_bands, of_frames = geometry.patch
        positions = patch_positions(frames, of_frames, geometry.frames)
        times = frame_edges(MEL, positions, n_samples, centred=True)
        return located(terms, times, mel_edges(MEL, np.arange(bands + 1) * of_bands))

    def build(self, tensors: Mapping[str, Tensor], where: str) -> M2dNetwork:
        """The network with these weights, strictly."""
        named = renamed(tensors, LAYOUTS, where=where)
        named.setdefault("norm_stats", torch.tensor(NORM_STATS))
        known = self.record
        shaped = replace(BASE, frames=known.options["frames"]) if known else published_geometry(named, where)
        geometry = sized(shaped, named, where=where, dim=known.dim if known else None)
        with torch.device("meta"):
            network = M2dNetwork(geometry)
        matched(named, network, where=where, dropped=DROPPED)
        return network


def published_geometry(tensors: Mapping[str, Tensor], where: str) -> Geometry:
    """Patch and longest input as the name of a file's folder tells them, else as its positions do.

    Raises
    ------
    CheckpointError
        If it takes other bands, or another rate.
    """
    place = Path(where)
    if (told := ARCHIVE.search(place.parent.name) or ARCHIVE.search(place.name)) is None:
        return replace(BASE, frames=_frames_of(tensors.get("pos_embed")))
    bands, frames, *patch = (int(number) for number in told.groups()[:4])
    if bands != MEL.n_mels or told[5] not in (None, "16"):
        raise CheckpointError(
            f"{where}: {told[0][1:]} is of {bands} bands at {told[5] or 16} kHz; only weights of {MEL.n_mels} "
            f"bands at {MEL.rate // 1000} kHz can be used"
        )
    return replace(BASE, frames=frames, patch=(patch[0], patch[1]))


def _frames_of(positions: Tensor | None) -> int:
    """Longest input whose patches have these positions, (1, 1 + bands * frames, dim)."""
    if positions is None or positions.ndim != 3:
        return BASE.frames  # strict loading says what is wrong
    columns = (positions.shape[1] - 1) // BASE.grid[0]
    known = {frames // BASE.patch[1]: frames for frames in PUBLISHED_FRAMES}
    return known.get(columns, columns * BASE.patch[1])
