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
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r}: cannot be used here, where there are {torch.cuda.device_count()} CUDA devices; "
            f"take 'cpu', or 'auto' ({error})"
        ) from error
    return found
