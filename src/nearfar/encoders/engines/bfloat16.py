"""Networks in bfloat16: weights that are converted once, and on a processor laid out once, for its tiles.

Conventions
-----------
Products and convolutions are in bfloat16 and sum in float32 inside; normalization has weights in float32. What is
not replaced here runs under autocast, which then finds the weights converted already: with autocast alone torch
converts all of them at every call, which took a third of the time of EAT-base.

On a processor torch's compiler calls functions of oneDNN that torch does not document:
``mkldnn._reorder_linear_weight`` lays weights out for the processor's tiles, and ``mkldnn._linear_pointwise``
multiplies by them, with a GELU before the sums leave the registers. They are used here only where they are, and
where they give what the documented functions give, which is tried once (``has_packed_products``). Elsewhere weights
are in bfloat16 as they lie, which is slower and nearly the same.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from nearfar.encoders.vit import Block

CLOSE = 2.0**-6  # relative to the largest number; bfloat16 rounds to 2 ** -9
TRIED = (33, 64, 48)  # rows, inputs, outputs: none of them whole tiles


class PackedLinear(nn.Module):
    """A linear layer whose weight is laid out for the processor; an activation may follow inside.

    Parameters
    ----------
    layer : nn.Linear
    activation : {"none", "gelu"}
        The GELU is by the error function.

    Attributes
    ----------
    n_weights : int
        Of the layer that it stands for.
    """

    def __init__(self, layer: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.n_weights = sum(parameter.numel() for parameter in layer.parameters())
        self.activation, self.algorithm = activation, "none" if activation == "gelu" else ""
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().bfloat16())
        self.bias = None if layer.bias is None else layer.bias.detach().bfloat16()

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), in bfloat16."""
        rows = tokens.to(torch.bfloat16).contiguous()
        return cast(
            Tensor,
            torch.ops.mkldnn._linear_pointwise(
                rows, self.weight, self.bias, self.activation, [], self.algorithm
            ),
        )


class PackedBlock(nn.Module):
    """A block of a vision transformer, all in bfloat16 but for the weights of its normalization.

    Parameters
    ----------
    block : vit.Block
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.is_pre_norm = block.norm == "pre"
        self.heads = block.attn.heads
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv, self.proj = PackedLinear(block.attn.qkv), PackedLinear(block.attn.proj)
        self.fc1, self.fc2 = PackedLinear(block.mlp.fc1, "gelu"), PackedLinear(block.mlp.fc2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same, in bfloat16."""
        tokens = tokens.to(torch.bfloat16)
        if self.is_pre_norm:
            tokens = self.attended(self.norm1(tokens)).add_(tokens)
            return self.fc2(self.fc1(self.norm2(tokens))).add_(tokens)
        tokens = self.norm1(self.attended(tokens).add_(tokens))
        return self.norm2(self.fc2(self.fc1(tokens)).add_(tokens))

    def attended(self, tokens: Tensor) -> Tensor:
        """As ``vit.Attention``."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        heads = scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.proj(heads.transpose(1, 2).flatten(2))


def with_bfloat16(network: nn.Module, *, for_compiler: bool = False) -> nn.Module:
    """The network, in place, with the weights of its products and convolutions in bfloat16.

    Parameters
    ----------
    network : nn.Module
        On its device.
    for_compiler : bool
        Whether torch's compiler lays them out itself.
    """
    if not for_compiler and _is_on_processor(network) and has_packed_products():
        _pack(network)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(torch.bfloat16)
    return network


def _is_on_processor(network: nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in network.parameters())


def _pack(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Block):
                parent.add_module(name, PackedBlock(child))
            elif isinstance(child, nn.Linear) and not isinstance(parent, Block):
                parent.add_module(name, PackedLinear(child))


@cache
def has_packed_products() -> bool:
    """Whether torch has the functions of oneDNN here, and they give what its documented ones give."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    n_rows, inputs, outputs = TRIED
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n_rows, inputs, generator=generator)
    layer = nn.Linear(inputs, outputs)
    with torch.inference_mode():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) * inputs**-0.5)
        expected = linear(rows, layer.weight, layer.bias)
        try:
            return all(
                bool(
                    (PackedLinear(layer, name)(rows).float() - right).abs().max() < CLOSE * right.abs().max()
                )
                for name, right in (("none", expected), ("gelu", gelu(expected)))
            )
        except (RuntimeError, AttributeError):  # of another kind than here, or for other processors
            return False
