"""One vision transformer for spectrograms, with a switch for everything in which EAT, CED and M2D differ.

Conventions
-----------
An image is a spectrogram as the patches see it, ``(batch, rows, columns)``; the slow axis of the tokens is that
of its rows. Tokens are given on their grid with time first, ``(batch, blocks, frames, bands, dim)``, whatever
their order inside. Names of parameters are those of the vision transformer's first open implementations.

Facts: A. Dosovitskiy et al., "An image is worth 16x16 words: Transformers for image recognition at scale,"
arXiv:2010.11929; K. He et al., "Masked autoencoders are scalable vision learners," arXiv:2111.06377.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mode
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.frozen import Tokens

EPSILON = 1e-6  # of layer normalization
HEAD_WIDTH = 64  # of every published network: the number of heads cannot be read from shapes
DEPTHS = {192: 12, 256: 12, 384: 12, 768: 12, 1024: 24}  # of published networks, by their width
SLOWEST = 10000.0  # longest period of fixed positions, over 2 pi patches
BLOCK_NORM = re.compile(r"blocks\.(\d+)\.norm[12]\.(?:weight|bias)")
SHOWN = 6  # names in an error


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a network is made of, in plain numbers and switches.

    Attributes
    ----------
    dim, heads, depth : int
        Width of a token, attention heads, blocks.
    bands, frames : int
        Of the longest spectrogram that its positions reach.
    rows : {"time", "frequency"}
        What the rows of an image are.
    norm : {"pre", "post"}
        Layer normalization before attention and perceptron, or after each residual sum.
    positions : {"table", "table_with_cls", "axes"}
        One vector a patch; the same with another for the CLS token before them; or the sum of one vector a
        column and one a row.
    has_cls : bool
        Whether a CLS token stands before the patches.
    input_norm, final_norm : bool
        Layer normalization of all tokens before the first block; after the last one.
    patch : (int, int)
        Rows and columns of a patch.
    mlp_ratio : int
        Width of the perceptron's hidden layer, over ``dim``.
    """

    dim: int
    heads: int
    depth: int
    bands: int
    frames: int
    rows: Literal["time", "frequency"]
    norm: Literal["pre", "post"]
    positions: Literal["table", "table_with_cls", "axes"]
    has_cls: bool
    input_norm: bool
    final_norm: bool
    patch: tuple[int, int] = (16, 16)
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.dim % 4:
            raise ValueError(f"dim={self.dim}: must be a multiple of heads={self.heads}, and of 4")
        if self.bands % self.patch[self.rows == "time"]:
            raise ValueError(
                f"bands={self.bands}: must be whole patches, but patch={self.patch} with rows={self.rows!r}"
            )
        if self.positions == "table_with_cls" and not self.has_cls:
            raise ValueError(
                "positions='table_with_cls', but has_cls=False: there is no token for its first row"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of the longest image."""
        size = (self.frames, self.bands) if self.rows == "time" else (self.bands, self.frames)
        return size[0] // self.patch[0], size[1] // self.patch[1]


class Attention(nn.Module):
    """Multi-head self-attention; rows of ``qkv`` are all queries, all keys, all values, head by head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, width)
        heads = scaled_dot_product_attention(queries, keys, values)
        return self.proj(heads.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two linear layers with a GELU (by the error function) between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same."""
        return self.fc2(self.act(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and a perceptron, each with a residual sum."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        dim = geometry.dim
        self.norm = geometry.norm
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attn = Attention(dim, geometry.heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = Perceptron(dim, geometry.mlp_ratio * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same."""
        if self.norm == "pre":
            tokens = tokens + self.attn(self.norm1(tokens))
            return tokens + self.mlp(self.norm2(tokens))
        tokens = self.norm1(tokens + self.attn(tokens))
        return self.norm2(tokens + self.mlp(tokens))


class PatchEmbed(nn.Module):
    """A linear map of each patch."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, geometry.dim, geometry.patch, geometry.patch)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, rows, columns) to (batch, dim, rows, columns) of patches; what fills no patch is left out."""
        return self.proj(image[:, None])


class ViT(nn.Module):
    """A vision transformer from image to tokens; the networks of this folder add a front end.

    Parameters
    ----------
    geometry : Geometry
    """

    cls_token: Tensor
    pos_embed: Tensor
    time_pos_embed: Tensor
    freq_pos_embed: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.known_blocks = range(1, geometry.depth + 1)
        dim = geometry.dim
        self.patch_embed = PatchEmbed(geometry)
        self._add_positions()
        if geometry.has_cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pre_norm = nn.LayerNorm(dim, eps=EPSILON) if geometry.input_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(geometry) for _ in self.known_blocks)
        self.norm = nn.LayerNorm(dim, eps=EPSILON) if geometry.final_norm else nn.Identity()

    def _add_positions(self) -> None:
        geometry = self.geometry
        rows, columns = geometry.grid
        if geometry.positions == "axes":
            frames, bands = (rows, columns) if geometry.rows == "time" else (columns, rows)
            self.time_pos_embed = nn.Parameter(torch.zeros(1, geometry.dim, 1, frames))
            self.freq_pos_embed = nn.Parameter(torch.zeros(1, geometry.dim, bands, 1))
            return
        table = sine_positions(rows, columns, geometry.dim)
        if geometry.positions == "table_with_cls":
            table = torch.cat([torch.zeros(1, geometry.dim, device="cpu"), table])
        self.pos_embed = nn.Parameter(table[None].to(torch.get_default_device()), requires_grad=False)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Of a smaller grid that begins where the whole one does: (1, dim, rows, columns)."""
        geometry = self.geometry
        if geometry.positions == "axes":
            whole = self.time_pos_embed + self.freq_pos_embed
            whole = whole.transpose(-2, -1) if geometry.rows == "time" else whole
        else:
            first = 1 if geometry.positions == "table_with_cls" else 0
            whole = torch.unflatten(self.pos_embed[:, first:].transpose(-2, -1), -1, geometry.grid)
        return whole[..., :rows, :columns]

    def embed(self, image: Tensor) -> Tensor:
        """What enters the first block: (batch, rows, columns) to (batch, [CLS +] patches, dim).

        Raises
        ------
        ValueError
            If the image has other bands than the network, is longer than its positions, or shorter than a patch.
        """
        rows, columns = self._grid(image)
        patches = self.patch_embed(image) + self.positions(rows, columns)
        tokens = patches.flatten(2).transpose(-2, -1)
        if self.geometry.has_cls:
            tokens = torch.cat([self.placed_cls().expand(len(tokens), -1, -1), tokens], dim=1)
        return self.pre_norm(tokens)

    def placed_cls(self) -> Tensor:
        """The CLS token with its position, if it has one: (1, 1, dim)."""
        if self.geometry.positions == "table_with_cls":
            return self.cls_token + self.pos_embed[:, :1]
        return self.cls_token

    def _grid(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        geometry = self.geometry
        rows, columns = (n // size for n, size in zip(image.shape[1:], geometry.patch, strict=True))
        frames, bands = image.shape[1:] if geometry.rows == "time" else image.shape[:0:-1]
        if bands != geometry.bands or frames > geometry.frames or 0 in (rows, columns):
            raise ValueError(
                f"a spectrogram of {frames} frames and {bands} bands: this network takes {geometry.bands} bands, "
                f"and frames from one patch, patch={geometry.patch}, to its last position, {geometry.frames}"
            )
        return rows, columns

    def encode(self, image: Tensor, blocks: Sequence[int]) -> Tokens:
        """Tokens as they leave these blocks, in this order; the last block's after ``norm``, if there is one.

        Parameters
        ----------
        image : (batch, rows, columns) tensor
        blocks : sequence of int
            From 1. Those after the highest are not computed.

        Raises
        ------
        ValueError
            If the image does not suit, or there is no such block.
        """
        if strange := [block for block in blocks if block not in self.known_blocks]:
            raise ValueError(f"blocks={strange}: there are blocks 1 to {self.geometry.depth}")
        tokens, found = self.embed(image), {}
        for number in range(1, max(blocks) + 1):
            tokens = self.blocks[number - 1](tokens)
            if number in blocks:
                found[number] = self.norm(tokens) if number == self.geometry.depth else tokens
        return self._on_grid(torch.stack([found[number] for number in blocks], dim=1), self._grid(image))

    def adaptable(self, block: int) -> tuple[str, ...]:
        """The layers of this block's attention."""
        return tuple(f"blocks.{block - 1}.attn.{layer}" for layer in ("qkv", "proj"))

    def _on_grid(self, tokens: Tensor, grid: tuple[int, int]) -> Tokens:
        """(batch, blocks, tokens, dim) to the grid with time first, and CLS apart."""
        n_cls = int(self.geometry.has_cls)
        patches = torch.unflatten(tokens[:, :, n_cls:], 2, grid)
        by_time = patches if self.geometry.rows == "time" else patches.transpose(2, 3)
        return Tokens(by_time, tokens[:, :, 0] if n_cls else None)

    def encode_chunks(self, chunks: Sequence[Tensor], blocks: Sequence[int]) -> Tokens:
        """Each chunk by itself, one after the other in time; the CLS token is the mean of theirs."""
        found = [self.encode(chunk, blocks) for chunk in chunks]
        cls = [tokens.cls for tokens in found if tokens.cls is not None]
        grid = torch.cat([tokens.grid for tokens in found], dim=2)
        return Tokens(grid, torch.stack(cls).mean(dim=0) if cls else None)


def sine_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Fixed positions of a masked autoencoder: (rows * columns, dim), row by row.

    The first half of the channels is of the column, the second of the row; each half is the sines, then the
    cosines, of ``index * 10000 ** -(k / (dim / 4))`` with ``k = 0 ... dim / 4 - 1``. Always of the processor: on
    the device "meta", arithmetic in torch loads its compiler, which takes more than a second.
    """
    quarter = dim // 4
    frequencies = SLOWEST ** -(_count(quarter) / quarter)

    def along(n: int) -> Tensor:
        angles = _count(n)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    of_column = along(columns).expand(rows, -1, -1)
    of_row = along(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([of_column, of_row], dim=2).flatten(0, 1).float()


def _count(n: int) -> Tensor:
    """0 to n - 1."""
    return torch.arange(n, dtype=torch.float64, device="cpu")


def renamed(
    tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str]], *, where: str
) -> dict[str, Tensor]:
    """Tensors under the names of this network: of each rule in turn, the first prefix becomes the second.

    Raises
    ------
    CheckpointError
        If two names become one.
    """
    found: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        new = old
        for prefix, other in rules:
            if new.startswith(prefix):
                new = other + new.removeprefix(prefix)
        if new in found:
            raise CheckpointError(f"{where}: has {new!r} twice, once as {old!r}; it mixes two layouts")
        found[new] = tensor
    return found


def sized(geometry: Geometry, tensors: Mapping[str, Tensor], *, where: str, dim: int | None) -> Geometry:
    """A geometry with the width, heads and depth of a checkpoint.

    Parameters
    ----------
    geometry : Geometry
        The architecture.
    tensors : name -> tensor
        With the names of this network.
    where : str
        The file, for errors.
    dim : int or None
        The width, where it is known; else that of most blocks.

    Raises
    ------
    CheckpointError
        If there are no blocks, or no heads of the usual width.
    """
    norms = [(m, tensor) for name, tensor in tensors.items() if (m := BLOCK_NORM.fullmatch(name))]
    if not norms:
        raise CheckpointError(f"{where}: has no transformer blocks, but {sorted(tensors)[:SHOWN]}")
    dim = dim or mode(tensor.numel() for _, tensor in norms)
    if dim % HEAD_WIDTH:
        raise CheckpointError(
            f"{where}: is {dim} wide, which is not a multiple of {HEAD_WIDTH}, the width of a head"
        )
    depth = DEPTHS.get(dim, 1 + max(int(found[1]) for found, _ in norms))
    return replace(geometry, dim=dim, heads=dim // HEAD_WIDTH, depth=depth)
