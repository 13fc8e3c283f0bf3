"""EAT: an efficient audio transformer, pretrained on hidden patches, or fine-tuned to tag sounds after that.

Facts: W. Chen et al., "EAT: Self-supervised pre-training with efficient audio transformer," arXiv:2401.03497; code
and weights MIT (``worstchan/EAT-*``). SSLAM's weights have the same layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders.checkpoints import matched
from nearfar.encoders.features import Fbank, kaldi_fbank
from nearfar.encoders.frozen import Frozen, Precision, Tokens
from nearfar.encoders.vit import Geometry, ViT, renamed, sized

FBANK = Fbank(rate=16000, n_mels=128, window="hanning")
MEAN, STD = -4.268, 4.569  # of the filter bank's values, over AudioSet
TARGET_FRAMES = 1024  # of the published networks, for clips of 10 s
N_CLASSES = 527  # of AudioSet
HEAD_EPSILON = 1e-5  # of the head's layer normalization

BASE = Geometry(
    dim=768,
    heads=12,
    depth=12,
    bands=128,
    frames=768 * 16,
    rows="time",
    norm="post",
    positions="table",
    has_cls=True,
    input_norm=True,
    final_norm=False,
)
LAYOUTS = (  # prefixes of the published files, and what they are here
    ("model.", ""),  # of the hub, and of a fine-tuned original
    ("modality_encoders.IMAGE.", ""),  # of the original
    ("context_encoder.norm.", "pre_norm."),
    ("extra_tokens", "cls_token"),
    ("local_encoder.", "patch_embed."),
    ("fixed_positional_encoder.positions", "pos_embed"),
)
DROPPED = ("_ema", "decoder.")
HEAD = ("fc_norm.", "head.")


class EatNetwork(ViT):
    """From waveform to tokens and, if it was fine-tuned, to probabilities of classes.

    Parameters
    ----------
    geometry : Geometry
    frames : int or "clip"
        Frames of the filter bank that every clip is cut to, or filled up to with zeros before normalization; or as
        many as it has, filled up to a whole patch.
    classes : int or None
        Of the head; ``None`` if there is none.
    """

    def __init__(
        self,
        geometry: Geometry = BASE,
        *,
        frames: int | Literal["clip"] = TARGET_FRAMES,
        classes: int | None = None,
    ) -> None:
        super().__init__(geometry)
        self.frames = frames
        self.classes = classes
        if classes is not None:
            self.fc_norm = nn.LayerNorm(geometry.dim, eps=HEAD_EPSILON)
            self.head = nn.Linear(geometry.dim, classes)

    def image(self, waveforms: Tensor) -> Tensor:
        """Normalized filter-bank values, (batch, samples) to (batch, frames, bands)."""
        with torch.autocast(waveforms.device.type, enabled=False):
            values = kaldi_fbank(waveforms - waveforms.mean(dim=-1, keepdim=True), FBANK)
            missing = self._target(values.shape[1]) - values.shape[1]  # below 0 it cuts
            return (functional.pad(values, (0, 0, 0, missing)) - MEAN) / (2 * STD)

    def _target(self, frames: int) -> int:
        if self.frames == "clip":
            return frames + -frames % self.geometry.patch[0]
        return self.frames

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """The image with bands first, (batch, samples) to (batch, bands, frames)."""
        return self.image(waveforms).mT

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to tokens of these blocks."""
        return self.encode(spectrogram.mT, blocks)

    def forward(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) to tokens of these blocks."""
        return self.hear(self.spectrogram(waveforms), blocks)

    def probabilities(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to (batch, classes).

        Raises
        ------
        ValueError
            If the network has no head.
        """
        if self.classes is None:
            raise ValueError(
                "these weights were only pretrained and know no classes; take fine-tuned ones, as 'eat'"
            )
        cls = self(waveforms, (self.geometry.depth,)).cls
        return self.head(self.fc_norm(cls[:, 0])).sigmoid()


class Eat(Frozen):
    """Tokens of EAT: a frame each 160 ms, eight bands, and a CLS token.

    Parameters
    ----------
    weights : str
        ``eat``, ``eat_pretrained``, ``eat_large`` or ``eat_large_pretrained``, or the path of a file in the layout
        of the hub or of the original.
    blocks : tuple of int
        From 1 to 12 (24 for the large ones).
    frames : int or "clip"
        Frames of 10 ms that every clip is cut to, or filled up to with zeros: 1024 for clips of 10 s, as published.
        Longer clips need more, since what is cut off is not heard; "clip" takes as many as a clip has.
    precision, device : str
        As ``Frozen``.

    Raises
    ------
    ValueError
        If ``frames`` is not a multiple of 16 up to 12288.
    """

    ENCODER: ClassVar[str] = "eat"

    def __init__(
        self,
        *,
        weights: str = "eat",
        blocks: tuple[int, ...] = (10,),
        frames: int | Literal["clip"] = TARGET_FRAMES,
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)
        if frames != "clip" and (frames % BASE.patch[0] or not 0 < frames <= BASE.frames):
            raise ValueError(
                f"frames={frames}: must be a multiple of {BASE.patch[0]} from {BASE.patch[0]} to {BASE.frames}, "
                "or 'clip'"
            )
        self.frames = frames
        self.sample_rate = FBANK.rate
        self.min_samples = FBANK.length

    def build(self, tensors: Mapping[str, Tensor], where: str) -> EatNetwork:
        """The network with these weights, strictly; with a head if they have any part of one."""
        named = renamed(tensors, LAYOUTS, where=where)
        geometry = sized(BASE, named, where=where, dim=self.record.dim if self.record else None)
        classes = N_CLASSES if any(name.startswith(HEAD) for name in named) else None
        with torch.device("meta"):
            network = EatNetwork(geometry, frames=self.frames, classes=classes)
        matched(named, network, where=where, dropped=DROPPED)
        return network
