"""Low-rank adapters: what a frozen network learns when only a few numbers beside its weights may change.

E. Hu et al., "LoRA: Low-rank adaptation of large language models," arXiv:2106.09685. A layer W becomes
``W x + (alpha / rank) up down x``, in which ``down`` is drawn and ``up`` begins at zero, so that nothing changes
before something is learnt.

Conventions
-----------
Layers have their full names within a network, ``blocks.5.attn.qkv``. An adapter as arrays is ``{layer}.down``,
(rank, inputs), and ``{layer}.up``, (outputs, rank), with ``alpha / rank`` already in ``up``: merging is
``W + up @ down`` and needs no other number. A convolution of single pixels is the linear layer of its channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nearfar.encoders import Array
from nearfar.encoders.int8 import is_product

DOWN, UP = ".down", ".up"
SHOWN = 6  # names in an error


class Adaptable(Protocol):
    """What a network tells of where it can be adapted.

    Attributes
    ----------
    known_blocks : range
    """

    known_blocks: range

    def adaptable(self, block: int) -> tuple[str, ...]:
        """Full names of the layers of this block that adapters are usually put on."""


class LowRank(nn.Module):
    """A layer with an adapter beside it.

    Parameters
    ----------
    layer : nn.Linear, or nn.Conv2d of single pixels, ungrouped
    rank : int
    alpha : float
    dropout : float
        Share of the adapter's inputs that are dropped where ``generators`` are set.
    generator : torch.Generator
        Of the initial ``down``, on the processor.

    Attributes
    ----------
    down, up : (rank, inputs), (outputs, rank) nn.Parameter
        float32.
    factor : float
        ``alpha / rank``.
    generators : sequence of torch.Generator
        Of what is dropped, on the layer's device: the batch is as many parts of equal size, one after the other,
        and each is drawn from a generator of its own, so that it does not depend on the others. None by
        default, and none dropped.
    """

    def __init__(
        self, layer: nn.Module, *, rank: int, alpha: float, dropout: float = 0.0, generator: torch.Generator
    ) -> None:
        super().__init__()
        weight = cast(Tensor, layer.weight)
        outputs, inputs = weight.shape[:2]
        self.layer = layer
        self.factor = alpha / rank
        self.dropout = dropout
        self.generators: Sequence[torch.Generator] = ()
        bound = inputs**-0.5  # Kaiming's with a = sqrt(5), as the authors'
        down = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))

    def forward(self, inputs: Tensor) -> Tensor:
        """Of the shapes of the layer."""
        return self.layer(inputs) + self.factor * self.added(self.dropped(inputs))

    def added(self, inputs: Tensor) -> Tensor:
        """What ``up`` and ``down`` make of the inputs."""
        if isinstance(self.layer, nn.Conv2d):
            narrow = functional.conv2d(inputs, self.down[..., None, None])
            return functional.conv2d(narrow, self.up[..., None, None])
        return functional.linear(functional.linear(inputs, self.down), self.up)

    def dropped(self, inputs: Tensor) -> Tensor:
        """The inputs with ``dropout`` of them set to zero, and the others made larger."""
        if not self.generators or not self.dropout:
            return inputs
        shape, kept = (len(inputs) // len(self.generators), *inputs.shape[1:]), 1 - self.dropout
        masks = [
            torch.empty(shape, dtype=torch.bool, device=inputs.device).bernoulli_(kept, generator=generator)
            for generator in self.generators
        ]
        return inputs * torch.cat(masks) / kept


def layers_of(network: Adaptable, blocks: Sequence[int], *, targets: Sequence[str] = ()) -> tuple[str, ...]:
    """Full names of the layers of these blocks that can be adapted.

    Parameters
    ----------
    network : Adaptable
    blocks : sequence of int
    targets : sequence of str
        Which layers of each block, by name from a dot on: ``"attn.qkv"``, ``"attn.proj"``. None given: all that
        the network says.

    Raises
    ------
    ValueError
        If there is no such block, none of its layers can be adapted, or none has such a name.
    """
    known = network.known_blocks
    if strange := [block for block in blocks if block not in known]:
        raise ValueError(f"blocks={strange}: there are blocks {known[0]} to {known[-1]}")
    if not blocks or len(set(blocks)) < len(blocks):
        raise ValueError(f"blocks={tuple(blocks)}: give the numbers of one block or more, each once")
    return tuple(name for block in blocks for name in _of_block(network, block, targets))


def _of_block(network: Adaptable, block: int, targets: Sequence[str]) -> Iterable[str]:
    names = network.adaptable(block)
    if not names:
        raise ValueError(
            f"blocks: block {block} has nothing to adapt, neither a linear layer nor a convolution of single pixels"
        )
    if strange := [target for target in targets if sum(_is(name, target) for name in names) != 1]:
        raise ValueError(
            f"targets={strange}: must name one layer of block {block} each, by all that follows a dot; it has "
            f"{', '.join(names)}"
        )
    return [name for name in names if not targets or any(_is(name, target) for target in targets)]


def _is(name: str, target: str) -> bool:
    return name.endswith(f".{target}")


def attach(
    network: nn.Module,
    names: Iterable[str],
    *,
    rank: int,
    alpha: float,
    generator: torch.Generator,
    dropout: float = 0.0,
) -> dict[str, LowRank]:
    """Put adapters on these layers, in place; nothing else has gradients after that.

    Parameters
    ----------
    network : nn.Module
    names : iterable of str
        Full names of layers.
    rank, alpha, dropout, generator
        Of ``LowRank``; drawn in the order of the names.

    Returns
    -------
    mapping from the layers' names to their adapters

    Raises
    ------
    ValueError
        If an option is out of its range, or there is no such layer that can be adapted.
    """
    if rank < 1 or not alpha > 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"rank={rank}, alpha={alpha:g}, dropout={dropout:g}: at least 1, above 0, from 0 to below 1"
        )
    names, layers = tuple(names), _layers(network)
    if strange := [name for name in names if name not in layers]:
        raise ValueError(
            f"cannot be adapted: {_list(strange)}; only a linear layer or a convolution of single pixels can, "
            "and only once"
        )
    network.requires_grad_(False)
    adapters = {}
    for name in names:
        adapter = LowRank(layers[name], rank=rank, alpha=alpha, dropout=dropout, generator=generator)
        parent, _, own = name.rpartition(".")
        network.get_submodule(parent).add_module(own, adapter)
        adapters[name] = adapter
    return adapters


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """All that can be adapted, by full name; what stands within an adapter cannot."""
    within = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, LowRank))
    return {
        name: module
        for name, module in network.named_modules()
        if (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and is_product(module)))
        and not (within and name.startswith(within))
    }


def arrays(adapters: Mapping[str, LowRank]) -> dict[str, Array]:
    """Adapters by layer as arrays, ready to be merged."""
    found = {}
    for name, adapter in adapters.items():
        found[name + DOWN] = adapter.down.detach().cpu().numpy().copy()
        found[name + UP] = (adapter.factor * adapter.up.detach()).cpu().numpy()
    return found


def paired(arrays: Mapping[str, NDArray[Any]], where: str) -> dict[str, tuple[Array, Array]]:
    """The arrays of each layer, ``down`` and ``up``.

    Raises
    ------
    ValueError
        If they are not pairs of one rank; ``where`` says whose they are.
    """
    layers = sorted({name.removesuffix(DOWN).removesuffix(UP) for name in arrays})
    wanted = {name + end for name in layers for end in (DOWN, UP)}
    if wanted != arrays.keys():
        raise ValueError(
            f"{where}: adapters are pairs of {{layer}}{DOWN} and {{layer}}{UP}, but among "
            f"{_list(sorted(arrays))} is no {_list(sorted(wanted - arrays.keys()))}"
        )
    pairs = {name: (arrays[name + DOWN], arrays[name + UP]) for name in layers}
    wrong = [
        f"{name}: down {down.shape}, up {up.shape}"
        for name, (down, up) in pairs.items()
        if down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1]
    ]
    if wrong:
        raise ValueError(f"{where}: down must be (rank, inputs) and up (outputs, rank): {_list(wrong)}")
    return pairs


def merge(network: nn.Module, arrays: Mapping[str, NDArray[Any]], where: str) -> None:
    """Add adapters to the weights of their layers, in place.

    Parameters
    ----------
    network : nn.Module
    arrays : mapping from name to array
        As of ``arrays``.
    where : str
        What an error begins with: whose network it is.

    Raises
    ------
    ValueError
        If they are not adapters of this network: all layers that it has not, and all that have another shape.
    """
    pairs, layers = paired(arrays, where), _layers(network)
    weights = {name: cast(Tensor, layers[name].weight) for name in pairs if name in layers}
    unknown = [name for name in pairs if name not in layers]
    shapes = {name: (len(up), down.shape[1]) for name, (down, up) in pairs.items()}
    wrong = [
        f"{name}: {shapes[name]} instead of {tuple(weight.shape[:2])}"
        for name, weight in weights.items()
        if shapes[name] != tuple(weight.shape[:2])
    ]
    problems = {"of no layer that can be adapted": unknown, "of another shape": wrong}
    if any(problems.values()):
        listed = "; ".join(f"{len(n)} {kind} ({_list(n)})" for kind, n in problems.items() if n)
        raise ValueError(f"{where}: not the adapters of this network: {listed}")
    with torch.no_grad():
        for name, (down, up) in pairs.items():
            product = torch.tensor(up, dtype=torch.float32) @ torch.tensor(down, dtype=torch.float32)
            weights[name] += product.view(weights[name].shape).to(weights[name])


def _list(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
