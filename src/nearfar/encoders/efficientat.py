"""EfficientAT: a MobileNetV3 that tags sounds, taught by transformers; the output of any block as tokens.

Conventions
-----------
Block n is the output of ``features.n`` of the published files: 0 of the first convolution, 1 to 15 of the
inverted bottlenecks, 16 of the last convolution. Maps are ``(batch, channels, bands, frames)``, tokens
``(batch, blocks, frames, bands, channels)``. Modules have the names of the published files, so that these load as
they are.

Facts: F. Schmid, K. Koutini and G. Widmer, "Efficient large-scale audio tagging via transformer-to-CNN knowledge
distillation," arXiv:2211.04772 (code and weights MIT); A. Howard et al., "Searching for MobileNetV3,"
arXiv:1905.02244.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.encoders import Array, checkpoints
from nearfar.encoders.arithmetic import Precision
from nearfar.encoders.axes import TimeFrequency, frame_edges, located, mel_edges
from nearfar.encoders.features import Fbank, kaldi_filters
from nearfar.encoders.frozen import Frozen, Tokens
from nearfar.encoders.int8 import is_product
from nearfar.recordings import audio

Activation = Literal["relu", "hard_swish"]

FBANK = Fbank(rate=32000, f_min=0.0, f_max=15000.0)  # frames of 800 samples every 320, transformed as 1024
LOG_OFFSET = 1e-5  # added to power before the logarithm
SHIFT, SCALE = 4.5, 5.0  # of the logarithm, after it

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hard_swish": nn.Hardswish}
BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM = 1e-3, 0.01
DROPOUT = 0.2  # between the layers of the classifier, in training only
SQUEEZED_TO = 4  # channels inside a bottleneck to one of its squeeze; MobileNetV3
DIVISOR, KEPT_SHARE = (
    8,
    0.9,
)  # channels come in eights, and rounding takes no more than a tenth of them; the same

WIDTH = 0.4  # of mn04, of a MobileNetV3-Large
N_CLASSES = 527  # of AudioSet
DEFAULT_RATE = 16000  # Hz; of the challenge's recordings
DEFAULT_BLOCK = 12  # ours; on two motors blocks 11 to 13 did best of 8 to 16


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """An inverted bottleneck: a row of Table 1 of MobileNetV3.

    Attributes
    ----------
    kernel : int
        Of the convolution of single channels.
    expanded, channels : int
        Channels inside, and of the output.
    squeezes : bool
        Whether channels are weighted by what all of them are on average.
    activation : {"relu", "hard_swish"}
    stride : int
        In bands and frames.
    """

    kernel: int
    expanded: int
    channels: int
    squeezes: bool
    activation: Activation
    stride: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a network is made of.

    Attributes
    ----------
    stem : int
        Channels of the first convolution, 3 x 3 with a stride of 2.
    bottlenecks : tuple of Bottleneck
    last, hidden, classes : int
        Channels of the last convolution, units of the classifier, and its classes.
    fbank : Fbank
        Frames, window and filters of the front end; its floor and the place of its frames are Kaldi's, not ours.
    """

    stem: int
    bottlenecks: tuple[Bottleneck, ...]
    last: int
    hidden: int
    classes: int = N_CLASSES
    fbank: Fbank = FBANK

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the output of each block."""
        return (self.stem, *(row.channels for row in self.bottlenecks), self.last)

    @property
    def strides(self) -> tuple[int, ...]:
        """Bands, and frames, of the front end to one of each block."""
        return tuple(accumulate((2, *(row.stride for row in self.bottlenecks), 1), mul))

    def require_one_size(self, blocks: Iterable[int]) -> None:
        """Raise unless the outputs of these blocks, those that there are, are one array.

        Raises
        ------
        ValueError
            If they have different sizes.
        """
        known = [n for n in blocks if 0 <= n < len(self.channels)]
        sizes = {n: (self.channels[n], self.strides[n]) for n in known}
        if len(set(sizes.values())) > 1:
            listed = "; ".join(f"block {n}: {c} channels, stride {s}" for n, (c, s) in sizes.items())
            raise ValueError(
                f"blocks={tuple(known)} have different sizes ({listed}), so they are no one array; take one block "
                "at a time, or blocks of one size"
            )

    @property
    def min_samples(self) -> int:
        """Fewest that have half a frame's mirror image: pre-emphasis takes one, and an end is not mirrored."""
        return self.fbank.n_fft // 2 + 2


LARGE = Geometry(
    stem=16,
    bottlenecks=(
        Bottleneck(3, 16, 16, False, "relu", 1),
        Bottleneck(3, 64, 24, False, "relu", 2),
        Bottleneck(3, 72, 24, False, "relu", 1),
        Bottleneck(5, 72, 40, True, "relu", 2),
        Bottleneck(5, 120, 40, True, "relu", 1),
        Bottleneck(5, 120, 40, True, "relu", 1),
        Bottleneck(3, 240, 80, False, "hard_swish", 2),
        Bottleneck(3, 200, 80, False, "hard_swish", 1),
        Bottleneck(3, 184, 80, False, "hard_swish", 1),
        Bottleneck(3, 184, 80, False, "hard_swish", 1),
        Bottleneck(3, 480, 112, True, "hard_swish", 1),
        Bottleneck(3, 672, 112, True, "hard_swish", 1),
        Bottleneck(5, 672, 160, True, "hard_swish", 2),
        Bottleneck(5, 960, 160, True, "hard_swish", 1),
        Bottleneck(5, 960, 160, True, "hard_swish", 1),
    ),
    last=960,
    hidden=1280,
)  # MobileNetV3-Large, Table 1


def rounded(channels: float) -> int:
    """The nearest multiple of ``DIVISOR`` (of two the larger), or the next if that takes too many channels."""
    nearest = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest if nearest >= KEPT_SHARE * channels else nearest + DIVISOR


def scaled(geometry: Geometry, width: float) -> Geometry:
    """The same with that many times as many channels, rounded."""
    rows = (
        replace(row, expanded=rounded(width * row.expanded), channels=rounded(width * row.channels))
        for row in geometry.bottlenecks
    )
    return replace(
        geometry,
        stem=rounded(width * geometry.stem),
        bottlenecks=tuple(rows),
        last=rounded(width * geometry.last),
        hidden=rounded(width * geometry.hidden),
    )


MN04 = scaled(LARGE, WIDTH)


class LogMel(nn.Module):
    """Log-mel levels: (batch, samples) to (batch, 1, bands, frames), with ``frames = 1 + (samples - 1) // hop``.

    The waveform is pre-emphasized as a whole, y[t] = x[t + 1] - 0.97 x[t]; frames are centred, and beyond its ends
    stands its mirror image.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, fbank: Fbank) -> None:
        super().__init__()
        self.fbank = fbank
        self.register_buffer("window", torch.hann_window(fbank.length, periodic=False), persistent=False)
        filters = torch.tensor(kaldi_filters(fbank), dtype=torch.float32)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            power = self.filters @ self._power(waveforms)
            return (((power + LOG_OFFSET).log() + SHIFT) / SCALE)[:, None]

    def _power(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to (batch, 1 + n_fft // 2, frames)."""
        spectrum = torch.stft(
            waveforms[:, 1:] - self.fbank.pre_emphasis * waveforms[:, :-1],
            self.fbank.n_fft,
            hop_length=self.fbank.hop,
            win_length=self.fbank.length,
            window=self.window,
            pad_mode="reflect",
            return_complex=True,
        )
        return spectrum.real.square() + spectrum.imag.square()


def convolution(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = None,
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, then batch normalization, then the activation."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM),
    ]
    return nn.Sequential(*layers, *([ACTIVATIONS[activation]()] if activation else []))


class Excitation(nn.Module):
    """A weight of each channel, made of the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = rounded(channels // SQUEEZED_TO)
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean(dim=(2, 3))
        return self.fc2(self.fc1(means).relu()).sigmoid()[:, :, None, None]


class SqueezeExcitation(nn.Module):
    """Maps, each times its weight; the published files list several kinds of weights, of which mn04 has one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([Excitation(channels)])

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.conc_se_layers[0](maps)


class InvertedBottleneck(nn.Module):
    """Widen, convolve channel by channel, weigh channels, narrow; added to the input if that has the same form."""

    def __init__(self, inputs: int, row: Bottleneck) -> None:
        super().__init__()
        self.is_residual = row.stride == 1 and row.channels == inputs
        layers: list[nn.Module] = []
        if row.expanded != inputs:
            layers.append(convolution(inputs, row.expanded, activation=row.activation))
        by_channel = convolution(
            row.expanded,
            row.expanded,
            kernel=row.kernel,
            stride=row.stride,
            groups=row.expanded,
            activation=row.activation,
        )
        layers.append(by_channel)
        if row.squeezes:
            layers.append(SqueezeExcitation(row.expanded))
        self.block = nn.Sequential(*layers, convolution(row.expanded, row.channels))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.block(maps) if self.is_residual else self.block(maps)


class Network(nn.Module):
    """Front end, blocks and classifier.

    Parameters
    ----------
    geometry : Geometry
    """

    def __init__(self, geometry: Geometry = MN04) -> None:
        super().__init__()
        self.geometry = geometry
        self.known_blocks = range(len(geometry.channels))
        self.front_end = LogMel(geometry.fbank)
        inputs = geometry.channels
        self.features = nn.Sequential(
            convolution(1, geometry.stem, kernel=3, stride=2, activation="hard_swish"),
            *(InvertedBottleneck(n, row) for n, row in zip(inputs[:-2], geometry.bottlenecks, strict=True)),
            convolution(inputs[-2], geometry.last, activation="hard_swish"),
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(geometry.last, geometry.hidden),
            nn.Hardswish(),
            nn.Dropout(DROPOUT),
            nn.Linear(geometry.hidden, geometry.classes),
        )

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Log-mel levels, (batch, samples) to (batch, bands, frames)."""
        return self.front_end(waveforms)[:, 0]

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to the outputs of these blocks, in this order.

        Raises
        ------
        ValueError
            If they have different sizes, so that they are no one array.
        """
        self.geometry.require_one_size(blocks)
        return Tokens(torch.stack(self.outputs(spectrogram, blocks), dim=1))

    def outputs(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """(batch, bands, frames) to the output of each of these blocks, (batch, frames, bands, channels)."""
        maps, found = spectrogram[:, None], {}
        for number in range(max(blocks) + 1):
            maps = self.features[number](maps)
            if number in blocks:
                found[number] = maps.permute(0, 3, 2, 1)
        return [found[number] for number in blocks]

    def forward(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) to the outputs of these blocks."""
        return self.hear(self.spectrogram(waveforms), blocks)

    def adaptable(self, block: int) -> tuple[str, ...]:
        """The convolutions of single pixels of this block."""
        modules = self.features[block].named_modules(prefix=f"features.{block}")
        return tuple(name for name, m in modules if isinstance(m, nn.Conv2d) and is_product(m))

    def classify(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to the probability of each class, (batch, classes)."""
        return self.classifier(self.features(self.front_end(waveforms))).sigmoid()


class EfficientAt(Frozen):
    """An EfficientAT network of width 0.4, mn04, with weights from a file.

    Parameters
    ----------
    weights : str
        A name of ``pretrained.PRETRAINED``, or the path of a file.
    blocks : tuple of int
        Whose outputs are given, 0 to 16: one, or some of one size.
    sample_rate : int
        Of what it is given, in Hz; the network's own rate, to which that is resampled, is 32,000.
    precision, device : str
        As ``Frozen``.

    Notes
    -----
    For 10 s, block 6 gives (125 frames, 16 bands, 16 channels), block 12 (63, 8, 48), block 15 (32, 4, 64), and
    block 16 (32, 4, 384). ``network.classify`` gives the probabilities of the 527 classes of AudioSet.
    """

    ENCODER: ClassVar[str] = "efficientat"
    GEOMETRY: ClassVar[Geometry] = MN04

    def __init__(
        self,
        *,
        weights: str = "mn04_as",
        blocks: tuple[int, ...] = (DEFAULT_BLOCK,),
        sample_rate: int = DEFAULT_RATE,
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)
        self.GEOMETRY.require_one_size(self.blocks)
        own = self.GEOMETRY.fbank.rate
        if not 0 < sample_rate <= own:
            raise ValueError(f"sample_rate={sample_rate}: must be between 1 and {own} Hz, the network's own")
        self.sample_rate = sample_rate
        self.min_samples = math.ceil(self.GEOMETRY.min_samples * sample_rate / own)

    def prepared(self, waveforms: Array) -> Array:
        """At the network's rate; above the Nyquist frequency of ``sample_rate`` there is then nothing."""
        return audio.resample(waveforms, self.sample_rate, self.GEOMETRY.fbank.rate)

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell around the centre of what each output of a block hears, a stride wide: see ``encoders.Located``.

        The network hears up to 15 kHz; above the Nyquist frequency of ``sample_rate`` there is nothing.
        """
        _, frames, bands, _ = terms.shape
        stride, fbank = self.GEOMETRY.strides[self.blocks[0]], self.GEOMETRY.fbank
        of_bands, of_frames = (np.arange(n + 1) * stride - (stride - 1) / 2 for n in (bands, frames))
        of_bands[-1] = fbank.n_mels  # the last one hears up to the end
        samples = round(n_samples * fbank.rate / self.sample_rate)
        times = frame_edges(fbank, of_frames, samples, centred=True)
        return located(terms, times, mel_edges(fbank, of_bands))

    def build(self, tensors: Mapping[str, Tensor], where: str) -> Network:
        network = Network(self.GEOMETRY)
        checkpoints.matched(tensors, network, where=where)
        return network
