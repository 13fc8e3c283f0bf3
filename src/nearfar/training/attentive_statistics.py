"""Attentive statistics pooling: a mean and a deviation over time and bands, in which some tokens count more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.training.initialization import undrawn_linear

EPSILON = 1e-6  # the least variance: where all tokens are equal, a root has no finite gradient


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation of tokens, with weights that are learnt.

    K. Okabe, T. Koshinaka and K. Shinoda, "Attentive statistics pooling for deep speaker embedding," Proc.
    Interspeech, 2018, arXiv:1803.10963. A token h has the score ``e = v . tanh(W h + b)``, and the weights are the
    softmax of e over all tokens of a clip: here over time and bands. The paper's offset of e changes no weight, and
    is left out.

    Parameters
    ----------
    dim : int
        Of a token.
    hidden : int
        Of the layer W.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = undrawn_linear(dim, hidden)
        self.score = undrawn_linear(hidden, 1, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., frames, bands, dim) to (..., 2 * dim): means, then deviations."""
        every = tokens.flatten(-3, -2)
        weights = self.score(self.hidden(every).tanh()).softmax(dim=-2)
        mean = (weights * every).sum(dim=-2)
        variance = (weights * (every - mean[..., None, :]).square()).sum(dim=-2)
        return torch.cat([mean, variance.clamp(min=EPSILON).sqrt()], dim=-1)
