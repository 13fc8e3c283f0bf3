"""DCA, dual-channel cross-attention: two microphones, encoded alike, listen to one another.

Z. Jiang and R. Han, "Dual-channel cross-attention embeddings for noise-aware unsupervised anomalous sound
detection," technical report, DCASE Challenge 2026, Task 2. What the report leaves open is decided here, and
``docs/dca.md`` says where and why.

Shapes, for DCA-128 (128 bands) and, in brackets, DCA-256 (256 bands)::

    waveforms      (batch, 2, samples)
    spectrograms   (batch, 2, 128 [256], 1024)
    tokens         (batch, 2, 1024 [2048], 256)     bands / 16 times frames / 8
    embeddings     (batch, 2, 256)                  of each microphone, of length 1
    their mean     (batch, 1, 1, 1, 256)            one token for the whole clip
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders import Array
from nearfar.encoders.devices import chosen
from nearfar.encoders.features import Mel, log_mel

FRAMES = 1024  # of the report, whatever the clip's length
CHANNELS = 256  # of a token, and dimensions of an embedding; of the report
HEADS, LAYERS = 4, 2  # of the report
# What the report does not tell, our choice:
STRIDES = ((2, 2), (2, 2), (2, 2), (2, 1), (1, 1))  # bands, frames; give the report's numbers of tokens
SHARES = (8, 4, 2, 1, 1)  # of the five convolutions: by what ``channels`` is divided
KERNEL = 3
FEED_FORWARD = 2  # its width, by ``channels``
DROPOUT = 0.1  # of what a layer adds to its tokens
DIRECTIONS = ("shared", "separate")
BAND_STRIDE, FRAME_STRIDE = 16, 8  # products of ``STRIDES``


class Dca:
    """Embeddings of two microphones that attend to each other, trained on the normal clips of one machine.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    n_fft, n_mels : int
        Of the log-mel spectrogram: 1024 and 128 (DCA-128), 2048 and 256 (DCA-256) [1]_.
    frames : int
        Of a clip's spectrogram, whatever its length: the hop is ``samples // frames``, and what is then too much
        is cut, what is missing repeats the last frame.
    channels : int
        Of a token, and dimensions of an embedding.
    heads, layers : int
        Of cross-attention.
    directions : {"shared", "separate"}
        Whether near-to-far and far-to-near have the same weights; our choice is that they do.
    device : str
        Where it computes: ``"cpu"``, ``"cuda"``, or ``"auto"``, which is a CUDA device where there is one.

    Notes
    -----
    Fitted per machine, by ``training.dca``; before that, or ``with_arrays``, calling it is an error.

    References
    ----------
    .. [1] See the module.
    """

    fitted_per_machine: ClassVar[bool] = True
    microphones: ClassVar[int] = 2
    path: ClassVar[None] = None
    blocks: ClassVar[tuple[int, ...]] = (1,)

    def __init__(  # noqa: PLR0913  # its arguments are the options in a system's file
        self,
        *,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        n_mels: int = 128,
        frames: int = FRAMES,
        channels: int = CHANNELS,
        heads: int = HEADS,
        layers: int = LAYERS,
        directions: Literal["shared", "separate"] = "shared",
        device: str = "auto",
    ) -> None:
        _refuse_indivisible(n_mels, frames, channels, heads)
        if layers < 1 or directions not in DIRECTIONS:
            raise ValueError(
                f"layers={layers}, directions={directions!r}: at least 1 layer, and one of {', '.join(DIRECTIONS)}"
            )
        self.sample_rate = sample_rate
        self.min_samples = n_fft
        self.n_mels, self.frames = n_mels, frames
        self.device = chosen(device)
        self.mel = Mel(rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_max=sample_rate / 2)
        self.network = Network(channels, heads=heads, layers=layers, directions=directions).to(self.device)
        self.is_fitted = False

    def spectrograms(self, waveforms: Array) -> Tensor:
        """Levels in dB, (batch, 2, samples) to (batch, 2, n_mels, frames), on the device.

        Raises
        ------
        ValueError
            If they are not of two microphones.
        """
        if waveforms.ndim != 3 or waveforms.shape[1] != self.microphones:
            raise ValueError(
                f"waveforms of shape {waveforms.shape}: expected (batch, 2, samples), near and far"
            )
        mel = replace(self.mel, hop=max(1, waveforms.shape[-1] // self.frames))
        if self.device.type == "cpu":  # NumPy's way is the faster one there
            levels = torch.from_numpy(log_mel(waveforms, mel))
        else:
            levels = log_mel(torch.tensor(waveforms, device=self.device), mel)
        missing = max(0, self.frames - levels.shape[-1])
        return torch.cat([levels[..., : self.frames], levels[..., -1:].expand(*[-1] * 3, missing)], dim=-1)

    @torch.inference_mode()
    def channel_embeddings(self, waveforms: Array) -> Array:
        """Of each microphone, (batch, 2, samples) to (batch, 2, channels), each of length 1."""
        if not self.is_fitted:
            raise ValueError("the network is not fitted; train it, or give it the arrays of a trained one")
        return self.network(self.spectrograms(waveforms)).cpu().numpy()

    def __call__(self, waveforms: Array) -> Array:
        """(batch, 2, samples) to (batch, 1, 1, 1, channels): the mean over the microphones, of length 1 or less."""
        return self.channel_embeddings(waveforms).mean(axis=1)[:, None, None, None]

    @property
    def parameters(self) -> int:
        """Weights only: statistics of batch normalization and of levels are not counted."""
        return sum(p.numel() for p in self.network.parameters())

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        try:
            self.network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        except RuntimeError as error:
            raise ValueError(f"these are not the arrays of this network: {error}") from error
        self.network.eval()
        self.is_fitted = True
        return self


def _refuse_indivisible(n_mels: int, frames: int, channels: int, heads: int) -> None:
    """Raise if the numbers do not come out even; tells all that do not."""
    rules = {"n_mels": (n_mels, BAND_STRIDE), "frames": (frames, FRAME_STRIDE)}
    if heads >= 1:
        rules["channels"] = (channels, math.lcm(SHARES[0], heads))
    problems = [
        f"{name}={value}: must be a positive multiple of {divisor}"
        for name, (value, divisor) in rules.items()
        if value < 1 or value % divisor
    ]
    problems += [] if heads >= 1 else [f"heads={heads}: must be at least 1"]
    if problems:
        raise ValueError("; ".join(problems))


class Network(nn.Module):
    """Levels of two microphones to an embedding of each.

    Parameters
    ----------
    channels : int
        Of a token, and dimensions of an embedding.
    heads, layers : int
        Of cross-attention.
    directions : {"shared", "separate"}
        Whether the two directions of cross-attention have the same weights.
    """

    level: Tensor

    def __init__(
        self,
        channels: int = CHANNELS,
        *,
        heads: int = HEADS,
        layers: int = LAYERS,
        directions: Literal["shared", "separate"] = "shared",
    ) -> None:
        super().__init__()
        widths = [1, *(channels // share for share in SHARES)]
        self.convolutions = nn.Sequential(*(
            convolution(before, after, stride)
            for (before, after), stride in zip(pairwise(widths), STRIDES, strict=True)
        ))  # fmt: skip
        self.attention = nn.ModuleList(Exchange(channels, heads, directions) for _ in range(layers))
        self.projection = nn.Linear(channels, channels)
        self.register_buffer(
            "level", torch.tensor([0.0, 1.0])
        )  # mean and deviation of the training levels, in dB

    def normalized(self, levels: Tensor) -> Tensor:
        """Levels on the scale of those of the training clips: mean 0, standard deviation 1."""
        return (levels - self.level[0]) / self.level[1]

    def tokens(self, spectrograms: Tensor) -> Tensor:
        """Normalized (batch, 2, bands, frames) to (batch, 2, tokens, channels), each microphone by itself."""
        batch, microphones = spectrograms.shape[:2]
        maps = self.convolutions(spectrograms.flatten(0, 1).unsqueeze(1))
        return maps.flatten(2).transpose(1, 2).unflatten(0, (batch, microphones))

    def embeddings(self, spectrograms: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalized (batch, 2, bands, frames) to (batch, 2, channels); drops out if there is a generator."""
        tokens = self.tokens(spectrograms)
        for exchange in self.attention:
            tokens = exchange(tokens, generator)
        return functional.normalize(self.projection(tokens.mean(dim=2)).float(), dim=-1)

    def forward(self, levels: Tensor) -> Tensor:
        """(batch, 2, bands, frames), in dB, to (batch, 2, channels), each of length 1."""
        return self.embeddings(self.normalized(levels))


def convolution(before: int, after: int, stride: tuple[int, int]) -> nn.Sequential:
    """(batch, before, bands, frames) to (batch, after, bands / stride, frames / stride), rounded up."""
    convolved = nn.Conv2d(before, after, KERNEL, stride, padding=KERNEL // 2, bias=False)
    return nn.Sequential(convolved, nn.BatchNorm2d(after), nn.GELU())


class Exchange(nn.Module):
    """One layer of attention in both directions: each microphone's tokens listen to the other's."""

    def __init__(self, channels: int, heads: int, directions: Literal["shared", "separate"]) -> None:
        super().__init__()
        n = 1 if directions == "shared" else 2
        self.listeners = nn.ModuleList(CrossAttention(channels, heads) for _ in range(n))

    def forward(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(batch, 2, tokens, channels) to the same; both directions hear what the other was before."""
        others = tokens.flip(1)
        if len(self.listeners) == 1:
            return self.listeners[0](tokens, others, generator)
        return torch.stack(
            [listen(tokens[:, i], others[:, i], generator) for i, listen in enumerate(self.listeners)], dim=1
        )


class CrossAttention(nn.Module):
    """Tokens attend to others: normalize, attend, add; normalize, feed forward, add.

    Normalization stands before attention, which trains without care; the report does not tell.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key, self.value = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, FEED_FORWARD * channels),
            nn.GELU(),
            nn.Linear(FEED_FORWARD * channels, channels),
        )

    def forward(self, own: Tensor, others: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``own`` and ``others``, (..., tokens, channels), to ``own`` after listening."""
        own = own + dropped(self.attended(self.norm_attention(own), self.norm_attention(others)), generator)
        return own + dropped(self.feed_forward(self.norm_feed_forward(own)), generator)

    def attended(self, own: Tensor, others: Tensor) -> Tensor:
        """What normalized tokens hear of others, all heads together."""
        query, key, value = map(self._by_head, (self.query(own), self.key(others), self.value(others)))
        heard = functional.scaled_dot_product_attention(query, key, value)
        return self.output(heard.transpose(1, 2).reshape(own.shape))

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(..., tokens, channels) to (batch, heads, tokens, channels / heads)."""
        return tokens.reshape(-1, tokens.shape[-2], self.heads, tokens.shape[-1] // self.heads).transpose(
            1, 2
        )


def dropped(added: Tensor, generator: torch.Generator | None) -> Tensor:
    """``DROPOUT`` of the numbers set to zero, the others made larger; all as they are without a generator."""
    if generator is None:
        return added
    kept = torch.empty_like(added).bernoulli_(1 - DROPOUT, generator=generator)
    return added * kept / (1 - DROPOUT)
