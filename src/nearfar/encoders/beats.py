"""BEATs: audio transformers that learnt to predict the labels of an acoustic tokenizer.

Facts: S. Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers," arXiv:2212.09058. Of its parts:
convolutional and gated relative positions, S. Chen et al., "WavLM," arXiv:2110.13900 (the gate is of a head's
projected query); buckets of distances, C. Raffel et al., "T5," arXiv:1910.10683; residual scaling, H. Wang et
al., "DeepNet," arXiv:2203.00555. Modules have the names that they have in the published files.

Conventions
-----------
Between modules, tokens are ``(batch, tokens, dim)``, in the order of time, and at one time in the order of
frequency. Blocks are counted from 1, and are given as they leave the block: there is no norm after the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, scaled_dot_product_attention

from nearfar.encoders import checkpoints
from nearfar.encoders.arithmetic import Precision
from nearfar.encoders.axes import TimeFrequency, frame_edges, located, mel_edges, patch_positions
from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.features import Fbank, kaldi_fbank
from nearfar.encoders.frozen import Frozen, Tokens

FULL_SCALE = 2.0**15  # of the 16-bit samples that the front end was made for; BEATs
FBANK = Fbank(window="povey")
FBANK_MEAN, FBANK_STD = 15.41663, 6.55582  # of AudioSet; BEATs divides by twice the latter
GATE_TERMS = 4  # whose sum is a gate; WavLM

TABLE = "self_attn.relative_attention_bias."  # published under every block, though it is the first one's
HEAD = "predictor."  # of files that were fine-tuned to classes


@dataclass(frozen=True, slots=True)
class Settings:
    """The geometry, as the ``cfg`` of a published file names it; the defaults are what an absent name means.

    Attributes
    ----------
    input_patch_size : int
        Frames and bands of a token.
    embed_dim : int
        Of a patch, before it is projected to a token.
    encoder_layers, encoder_embed_dim, encoder_ffn_embed_dim, encoder_attention_heads : int
        Blocks, numbers of a token, of its hidden layer, and heads.
    conv_pos, conv_pos_groups : int
        Length in tokens and groups of the positional convolution.
    num_buckets, max_distance : int
        How many kinds of distances there are, half of them forward, and from where on in tokens all are of
        one kind.
    gru_rel_pos : bool
        Whether a query scales the bias of its distances.
    deep_norm : bool
        Whether residuals are scaled.
    activation_fn : {"gelu"}
    layer_norm_first, conv_bias : {False}
    relative_position_embedding : {True}
        Anything else is refused.
    """

    input_patch_size: int
    embed_dim: int = 512
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 1280
    gru_rel_pos: bool = False
    deep_norm: bool = False
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    conv_bias: bool = False
    relative_position_embedding: bool = False

    @classmethod
    def of(cls, configuration: Mapping[str, Any], where: str) -> Self:
        """From the ``cfg`` of a checkpoint; what it says of training is left out.

        Raises
        ------
        CheckpointError
            If there is none, or it is of a network that this module does not have.
        """
        if "input_patch_size" not in configuration:
            raise CheckpointError(
                f"{where}: has no 'cfg' with the settings of BEATs (found: {sorted(configuration) or 'none'}); "
                "take the original file, which has it, or convert that again and keep it"
            )
        names = {field.name for field in fields(cls)}
        settings = cls(**{name: value for name, value in configuration.items() if name in names})
        settings._check(where)
        return settings

    def _check(self, where: str) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            if type(value).__name__ != kind or (kind == "int" and not 0 < value <= LARGEST):
                raise CheckpointError(
                    f"{where}: its 'cfg' has {field.name}={str(value)[:SHOWN]!r}; expected {kind}, of numbers one "
                    f"from 1 to {LARGEST}"
                )
        strange = {name: getattr(self, name) for name, value in ONLY.items() if getattr(self, name) != value}
        if strange:
            wanted = {name: ONLY[name] for name in strange}
            raise CheckpointError(f"{where}: its 'cfg' has {strange}, but BEATs is built for {wanted} only")
        if self.max_distance <= self.exact:
            raise CheckpointError(
                f"{where}: its 'cfg' has max_distance={self.max_distance}; must be above {self.exact}, a quarter "
                f"of num_buckets={self.num_buckets}"
            )

    @property
    def exact(self) -> int:
        """Distances below this have a bucket each, forward and backward."""
        return self.num_buckets // 4

    @property
    def residual_scale(self) -> float:
        """DeepNet's alpha of an encoder."""
        return (2 * self.encoder_layers) ** 0.25 if self.deep_norm else 1.0


LARGEST = 2**20  # number in a ``cfg``, far above all that is known
SHOWN = 60  # characters of what is none
ONLY = {
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "conv_bias": False,
    "relative_position_embedding": True,
}
ITERATION_3 = Settings(
    input_patch_size=16,
    max_distance=800,
    gru_rel_pos=True,
    deep_norm=True,
    relative_position_embedding=True,
)


def normalized_fbank(waveforms: Tensor) -> Tensor:
    """The front end: (batch, samples) at 16 kHz to (batch, frames, bands), in the precision of the waveforms."""
    with torch.autocast(waveforms.device.type, enabled=False):
        return (kaldi_fbank(waveforms * FULL_SCALE, FBANK) - FBANK_MEAN) / (2 * FBANK_STD)


def bucket(distances: Tensor, settings: Settings) -> Tensor:
    """The kinds of distances in tokens, from query to key: of any shape, to as many integers.

    Small distances have a bucket each, larger ones share the others by their logarithm; forward ones, which are
    above 0, are in the upper half.
    """
    half, exact = settings.num_buckets // 2, settings.exact
    size = distances.abs()
    ratio = torch.log(size.clamp(min=1) / exact) / math.log(settings.max_distance / exact)
    shared = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(size < exact, size, shared) + half * (distances > 0)


def _drawn(*shape: int) -> Tensor:
    """Normal numbers, drawn on the processor: on the device "meta", torch would load parts of its compiler."""
    return torch.randn(*shape, device="cpu").to(torch.get_default_device())


class PositionalConvolution(nn.Module):
    """Positions from the neighbourhood: a grouped convolution over tokens, its weight normalized a tap at a time.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        dim, length, self.groups = settings.encoder_embed_dim, settings.conv_pos, settings.conv_pos_groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, length))
        self.weight_v = nn.Parameter(_drawn(dim, dim // self.groups, length))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same; of an even length, the convolution's last output is dropped."""
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
        channels, padding = tokens.transpose(1, 2), weight.shape[-1] // 2
        convolved = conv1d(channels, weight, self.bias, padding=padding, groups=self.groups)
        return gelu(convolved[..., : tokens.shape[1]]).transpose(1, 2)


class Attention(nn.Module):
    """Attention to all tokens, with a bias for their distance that a query scales.

    Parameters
    ----------
    settings : Settings
    table : nn.Embedding or None
        The biases, (num_buckets, heads); of the first block, and used by all.
    """

    def __init__(self, settings: Settings, table: nn.Embedding | None) -> None:
        super().__init__()
        dim, self.heads = settings.encoder_embed_dim, settings.encoder_attention_heads
        self.gated = settings.gru_rel_pos
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.relative_attention_bias = table
        if self.gated:
            self.grep_linear = nn.Linear(dim // self.heads, 2 * GATE_TERMS)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """(batch, tokens, dim) and (heads, tokens, tokens) to (batch, tokens, dim)."""
        query, key, value = (self._by_head(p(tokens)) for p in (self.q_proj, self.k_proj, self.v_proj))
        mask = (self.gate(query) * bias).to(query.dtype) if self.gated else bias.to(query.dtype)
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def gate(self, query: Tensor) -> Tensor:
        """What a query scales its biases by: (batch, heads, tokens, dim / heads) to (batch, heads, tokens, 1)."""
        sums = self.grep_linear(query).unflatten(-1, (2, GATE_TERMS)).sum(-1)
        update, reset = torch.sigmoid(sums).chunk(2, dim=-1)
        return update * (reset * self.grep_a - 1.0) + 2.0

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to (batch, heads, tokens, dim / heads)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Attention, then a hidden layer; after each, the sum with its scaled input is normalized."""

    def __init__(self, settings: Settings, table: nn.Embedding | None) -> None:
        super().__init__()
        dim, hidden = settings.encoder_embed_dim, settings.encoder_ffn_embed_dim
        self.residual_scale = settings.residual_scale
        self.self_attn = Attention(settings, table)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """(batch, tokens, dim) and (heads, tokens, tokens) to (batch, tokens, dim)."""
        attended = self.self_attn(tokens, bias)
        tokens = self.self_attn_layer_norm(self.residual_scale * tokens + attended)
        projected = self.fc2(gelu(self.fc1(tokens)))
        return self.final_layer_norm(self.residual_scale * tokens + projected)


class Encoder(nn.Module):
    """Positions and blocks.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        drawn = _drawn(settings.num_buckets, settings.encoder_attention_heads)
        table = nn.Embedding.from_pretrained(drawn, freeze=False)  # type: ignore[no-untyped-call]
        self.pos_conv = nn.Sequential(PositionalConvolution(settings))
        self.layer_norm = nn.LayerNorm(settings.encoder_embed_dim)
        others = range(1, settings.encoder_layers)
        self.layers = nn.ModuleList([Block(settings, table), *(Block(settings, None) for _ in others)])
        self._known: tuple[object, Tensor] | None = None  # biases, and what they were made of

    def forward(self, tokens: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """(batch, tokens, dim) to as many, of each block asked for; those after the last one are not computed."""
        tokens = self.layer_norm(tokens + self.pos_conv(tokens))
        bias, outputs = self.bias(tokens.shape[1]), {}
        for number, block in enumerate(self.layers[: max(blocks)], start=1):
            outputs[number] = tokens = block(tokens, bias)
        return [outputs[number] for number in blocks]

    def bias(self, n_tokens: int) -> Tensor:
        """Of all distances, without a query's scale: (heads, n_tokens, n_tokens), query before key."""
        table = cast(nn.Embedding, cast(Block, self.layers[0]).self_attn.relative_attention_bias)
        weight = table.weight
        if weight.requires_grad:
            return self._computed_bias(table, n_tokens)
        version = -1 if weight.is_inference() else weight._version
        made_of = (n_tokens, id(weight), version, weight.device)
        if self._known is None or self._known[0] != made_of:
            self._known = made_of, self._computed_bias(table, n_tokens)
        return self._known[1]

    @torch.inference_mode(mode=False)
    def _computed_bias(self, table: nn.Embedding, n_tokens: int) -> Tensor:
        """See ``bias``; an ordinary tensor, also for a training of other layers."""
        distances = torch.arange(1 - n_tokens, n_tokens, device=table.weight.device)
        of_distances = table(bucket(distances, self.settings)).T
        places = torch.arange(n_tokens, device=distances.device)
        return of_distances[:, places - places[:, None] + n_tokens - 1]


class BeatsNetwork(nn.Module):
    """Waveforms to tokens.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        patch, dim = settings.input_patch_size, settings.embed_dim
        self.known_blocks = range(1, settings.encoder_layers + 1)
        self.patch_embedding = nn.Conv2d(1, dim, kernel_size=patch, stride=patch, bias=False)
        self.layer_norm = nn.LayerNorm(dim)
        self.post_extract_proj = nn.Linear(dim, settings.encoder_embed_dim)
        self.encoder = Encoder(settings)

    def patches(self, fbank: Tensor) -> Tensor:
        """(batch, frames, bands) to (batch, frames / patch, bands / patch, dim); what is left over is dropped."""
        embedded = self.patch_embedding(fbank.unsqueeze(1)).permute(0, 2, 3, 1)
        return self.post_extract_proj(self.layer_norm(embedded))

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """The front end with bands first, (batch, samples) at 16 kHz to (batch, bands, frames)."""
        return normalized_fbank(waveforms).transpose(-2, -1)

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to tokens of these blocks, (batch, blocks, frames, bands, dim)."""
        grid = self.patches(spectrogram.transpose(-2, -1))
        outputs = self.encoder(grid.flatten(1, 2), blocks)
        return Tokens(torch.stack([tokens.reshape(grid.shape) for tokens in outputs], dim=1))

    def forward(self, waveforms: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, samples) at 16 kHz to tokens of these blocks."""
        return self.hear(self.spectrogram(waveforms), blocks)

    def adaptable(self, block: int) -> tuple[str, ...]:
        """The layers of this block's attention."""
        layers = ("q_proj", "k_proj", "v_proj", "out_proj")
        return tuple(f"encoder.layers.{block - 1}.self_attn.{layer}" for layer in layers)


def built(tensors: Mapping[str, Tensor], settings: Settings, *, where: str) -> BeatsNetwork:
    """The network with the weights of a published file; a classifier's head is dropped.

    Raises
    ------
    CheckpointError
        If they are not its weights, exactly; or if blocks have biases of their own.
    """
    if settings.encoder_layers > len(tensors):
        raise CheckpointError(
            f"{where}: its 'cfg' has encoder_layers={settings.encoder_layers}, but it holds {len(tensors)} tensors"
        )
    first, *others = (f"encoder.layers.{i}.{TABLE}" for i in range(settings.encoder_layers))
    shared = tensors.get(f"{first}weight")
    tables = [name for name in tensors if name.startswith(tuple(others))]
    own = [name for name in tables if shared is not None and not torch.equal(tensors[name], shared)]
    if own:
        raise CheckpointError(
            f"{where}: {', '.join(own)} differ from {first}weight, which all blocks of BEATs have to share"
        )
    with torch.device("meta"):
        network = BeatsNetwork(settings)
    checkpoints.matched(tensors, network, where=where, dropped=(HEAD, *others))
    return network


class Beats(Frozen):
    """Tokens of BEATs, on a grid of 160 ms by 16 mel bands.

    Parameters
    ----------
    weights : str
        A name of ``pretrained.PRETRAINED``, or the path of a file: an original one, or a converted one that has
        the original's ``cfg`` as its configuration.
    blocks : tuple of int
        Counted from 1; the last block is given as it leaves the block.
    precision, device : str
        As ``Frozen``.
    """

    ENCODER: ClassVar[str] = "beats"
    sample_rate = FBANK.rate
    min_samples = FBANK.length + (ITERATION_3.input_patch_size - 1) * FBANK.hop

    def __init__(
        self,
        *,
        weights: str = "beats_iter3_plus",
        blocks: tuple[int, ...] = (12,),
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        super().__init__(weights=weights, blocks=blocks, precision=precision, device=device)

    def located(self, terms: NDArray[Any], n_samples: int) -> TimeFrequency:
        """A cell for each patch: see ``encoders.Located``."""
        _, frames, bands, _ = terms.shape
        patch = cast(BeatsNetwork, self.network).patch_embedding.kernel_size[0]
        times = frame_edges(FBANK, patch_positions(frames, patch), n_samples, centred=False)
        return located(terms, times, mel_edges(FBANK, np.arange(bands + 1) * patch))

    def build(self, tensors: Mapping[str, Tensor], where: str) -> nn.Module:
        """The network of a published file, with the geometry that the file's ``cfg`` gives."""
        settings = Settings.of(checkpoints.configuration(self.path), where)
        return built(tensors, settings, where=where)
