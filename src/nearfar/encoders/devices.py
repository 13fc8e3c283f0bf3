"""Where networks compute."""

from __future__ import annotations

import torch


def chosen(device: str) -> torch.device:
    """The device of that name; ``"auto"`` is a CUDA device where there is one, else the processor.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r}: expected 'auto', 'cpu' or 'cuda'") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r}: torch {torch.__version__} finds no CUDA device here; take 'cpu', or 'auto'"
        )
    return found
