"""Where networks compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16 itself, which is then faster than float32.

    Elsewhere torch makes do with float32, several times slower than with float32 alone. Of processors those with
    AVX-512 BF16 or AMX are known to have it; torch tells nothing of others.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products and convolutions in bfloat16, if that is the precision of a training.

    "auto" is bfloat16 on a CUDA device that has it, else float32.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and has_bfloat16(device) else "float32"
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
