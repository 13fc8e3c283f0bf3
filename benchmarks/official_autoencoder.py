"""A faithful twin of the official autoencoder's training procedure, written from its description.

One dictionary of arrays per vector, a DataLoader that collates them, autograd with its anomaly detection left on,
an Adam that is neither fused nor flat, a validation pass every epoch: slow in the ways the official code is slow,
so that the benchmark compares what users would otherwise run. Facts: the description of the official baseline in
T. Nishida et al., arXiv:2606.01578, and its published behaviour.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from nearfar.encoders.autoencoder import N_FRAMES, network

SEED, EPOCHS, BATCH_SIZE = 13711, 100, 256


class Vectors(Dataset):
    """Every stacked vector with the name of its clip, one item at a time."""

    def __init__(self, log_mels: list[NDArray[np.float32]], names: list[str]) -> None:
        stacked = [np.hstack([m[i : len(m) - N_FRAMES + 1 + i] for i in range(N_FRAMES)]) for m in log_mels]
        self.vectors = np.concatenate(stacked)
        self.names = [name for name, s in zip(names, stacked, strict=True) for _ in s]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], str]:
        return self.vectors[index], self.names[index]


def train(
    log_mels: list[NDArray[np.float32]],
    names: list[str],
    *,
    seed: int = SEED,
    epochs: int = EPOCHS,
    detect_anomaly: bool = True,
) -> tuple[nn.Sequential, dict[str, torch.Tensor]]:
    """The trained network, and the inverse covariance of each domain.

    Parameters
    ----------
    log_mels : list of (frames, bands) arrays
    names : list of str
        File names; ``"target" in name`` tells the domain, as in the official code.
    """
    torch.manual_seed(seed)
    data = Vectors(log_mels, names)
    order = torch.randperm(len(data)).tolist()
    n_valid = -(-len(data) // 10)
    training = DataLoader(Subset(data, order[n_valid:]), BATCH_SIZE, shuffle=True)
    validation = DataLoader(Subset(data, order[:n_valid]), BATCH_SIZE)
    model = network(data.vectors.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with torch.autograd.set_detect_anomaly(detect_anomaly, check_nan=True):
        for _ in range(epochs):
            model.train()
            for x, _ in training:
                if len(x) <= 1:
                    continue
                optimizer.zero_grad()
                score = nn.functional.mse_loss(model(x), x, reduction="none").mean(dim=1)
                loss = score.sum() / len(score)
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for x, _ in validation:
                    nn.functional.mse_loss(model(x), x)
    return model, _precisions(model, training, data.vectors.shape[1] // N_FRAMES)


@torch.no_grad()
def _precisions(model: nn.Module, training: DataLoader, bands: int) -> dict[str, torch.Tensor]:
    model.eval()
    scatter = {d: torch.zeros(bands, bands) for d in ("source", "target")}
    count = dict.fromkeys(scatter, 0)
    for x, names in training:
        residual = x - model(x)
        is_target = torch.tensor(["target" in name for name in names])
        for domain, chosen in (("source", ~is_target), ("target", is_target)):
            if chosen.any():
                rows = residual[chosen].view(-1, bands)
                rows = rows - rows.mean(dim=0)
                scatter[domain] += rows.T @ rows
                count[domain] += int(chosen.sum())
    return {d: torch.inverse(scatter[d] / (count[d] - 1)) for d in scatter}


@torch.no_grad()
def scores(
    model: nn.Module, precisions: dict[str, torch.Tensor], log_mel: NDArray[np.float32]
) -> tuple[float, float]:
    """MSE and MAHALA of one clip, the latter from the whole N x N matrix."""
    x = torch.from_numpy(Vectors([log_mel], [""]).vectors)
    residual = x - model(x)
    rows = residual.view(-1, log_mel.shape[1])
    mahala = min(float((rows @ p @ rows.T).mean()) for p in precisions.values())
    return float((residual**2).mean()), mahala
