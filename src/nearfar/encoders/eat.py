"""EAT: an efficient audio transformer, pretrained on hidden patches, or fine-tuned to tag sounds after that.

Facts: W. Chen et al., "EAT: Self-supervised pre-training with efficient audio transformer," arXiv:2401.03497; code
and weights MIT (``worstchan/EAT-*``). SSLAM's weights have the same layout.

How many frames a clip becomes: the authors' notes on feature extraction (``feature_extract/readme.md`` of
``cwx-worst-one/EAT``) round up to a multiple of 16, the width of a patch. They recommend 1024 frames for clips of
10 s, and 512 for 5 s. They also say that the networks, which were trained on 10 s, are at their best with clips
that are cut or filled to 10 s; here that is a choice (``frames=1024``), because what is cut off is not heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders.arithmetic import Precision
from nearfar.encoders.axes import TimeFrequency, frame_edges, located, mel_edges, patch_positions
from nearfar.encoders.checkpoints import matched
from nearfar.encoders.features import Fbank, kaldi_fbank
from nearfar.encoders.frozen import Frozen, Tokens
from nearfar.encoders.vit import Geometry, ViT, renamed, sized

FBANK = Fbank(rate=16000, n_mels=128, window="hanning")
MEAN, STD = -4.268, 4.569  # of the filter bank's values, over AudioSet
TARGET_FRAMES = 1024  # of the published networks, for clips of 10 s
NEARLY = 48  # frames: clips with so few less than that are "of 10 s", too; 10 s have 26 less. Our choice
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


Frames = int | Literal["auto", "clip"]


def target_frames(frames: int, wanted: Frames) -> int:
    """How many frames a clip of so many is cut or filled to.

    Examples
    --------
    Of 6, 10 and 16 s:

    >>> from nearfar.encoders.eat import target_frames
    >>> [target_frames(frames, "auto") for frames in (598, 998, 1598)]
    [608, 1024, 1600]
    """
    if not isinstance(wanted, str):
        return wanted
    if wanted == "auto" and TARGET_FRAMES - NEARLY < frames <= TARGET_FRAMES:
        return TARGET_FRAMES
    return frames + -frames % BASE.patch[0]


class EatNetwork(ViT):
    """From waveform to tokens and, if it was fine-tuned, to probabilities of classes.

    Parameters
    ----------
    geometry : Geometry
    frames : int, "auto" or "clip"
        As of ``Eat``. What is filled up are zeros, before normalization.
    classes : int or None
        Of the head; ``None`` if there is none.

    Notes
    -----
    The table of positions ends after ``geometry.frames`` frames, 123 s. Longer clips are computed in parts of so
    many.
    """

    def __init__(
        self,
        geometry: Geometry = BASE,
        *,
        frames: Frames = "auto",
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
            missing = target_frames(values.shape[1], self.frames) - values.shape[1]  # below 0 it cuts
            return (functional.pad(values, (0, 0, 0, missing)) - MEAN) / (2 * STD)

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """The image with bands first, (batch, samples) to (batch, bands, frames)."""
        return self.image(waveforms).transpose(-2, -1)

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to tokens of these blocks."""
        return self.encode_chunks(
            torch.split(spectrogram.transpose(-2, -1), self.geometry.frames, dim=1), blocks
        )

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
    frames : int, "auto" or "clip"
        Frames of 10 ms that a clip has in the network. ``"auto"``: as many as the clip has, filled up with zeros to
        a multiple of 16; clips of about 10 s (9.8 to 10.25 s) are filled up to 1024, as those that the network was
        trained on. ``"clip"``: a multiple of 16 for these clips, too. A number: every clip is cut to it, or filled
        up to it; what is cut off is not heard, and what is filled up counts in the embedding.
    precision, device : str
        As ``Frozen``.

    Raises
    ------
    ValueError
        If ``frames`` is not a multiple of 16 up to 12288.
    """

    ENCODER: ClassVar[str] = "eat"
    length_advice: ClassVar[str] = "with branch.encoder_options.frames='auto' it takes clips as they are"

    def __init__(
        self,
        *,
        weights: str = "eat",
        blocks: tuple[int, ...] = (10,),
        frames: Frames = "auto",
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)
        known = isinstance(frames, str) or (frames % BASE.patch[0] == 0 and 0 < frames <= BASE.frames)
        if not known or (isinstance(frames, str) and frames not in ("auto", "clip")):
            raise ValueError(
                f"frames={frames}: must be a multiple of {BASE.patch[0]} from {BASE.patch[0]} to {BASE.frames}, "
                "or 'auto' or 'clip'"
            )
        self.frames = frames
        self.sample_rate = FBANK.rate
        self.min_samples = FBANK.length

    @property
    def takes_any_length(self) -> bool:
        """Whether it neither cuts nor fills any clip by more than ``Limited`` counts as none."""
        return isinstance(self.frames, str)

    def cut_and_filled(self, n_samples: int) -> tuple[float, float]:
        """See ``encoders.Limited``."""
        frames = 1 + (n_samples - FBANK.length) // FBANK.hop
        missing = target_frames(frames, self.frames) - frames
        cut, filled = (-missing if -missing >= BASE.patch[0] else 0), (missing if missing >= NEARLY else 0)
        return cut * FBANK.hop / FBANK.rate, filled * FBANK.hop / FBANK.rate

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell for each patch; those of what is filled up lie after the clip: see ``encoders.Located``."""
        _, frames, bands, _ = terms.shape
        of_frames, of_bands = BASE.patch
        times = frame_edges(FBANK, patch_positions(frames, of_frames), n_samples, centred=False)
        return located(terms, times, mel_edges(FBANK, np.arange(bands + 1) * of_bands))

    def build(self, tensors: Mapping[str, Tensor], where: str) -> EatNetwork:
        """The network with these weights, strictly; with a head if they have any part of one."""
        named = renamed(tensors, LAYOUTS, where=where)
        geometry = sized(BASE, named, where=where, dim=self.record.dim if self.record else None)
        classes = N_CLASSES if any(name.startswith(HEAD) for name in named) else None
        with torch.device("meta"):
            network = EatNetwork(geometry, frames=self.frames, classes=classes)
        matched(named, network, where=where, dropped=DROPPED)
        return network
