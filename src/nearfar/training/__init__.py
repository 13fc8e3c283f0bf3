"""What fits an encoder to the normal clips of a machine.

A trainer is a function that fits the encoder in place::

    train(encoder, waveforms, *, domain, attributes, seed, folder, progress, **options) -> None

``waveforms`` is what the encoder hears of each clip, to be read once; ``domain`` and ``attributes`` are arrays of
strings, one a clip. ``folder`` is for what a training wants to keep so that it can go on: it belongs to trainings
that differ in the option ``epochs`` only, or is ``None``.

``TRAINERS`` names them by encoder; the lines name functions instead of importing them, because torch should load
only where it is used.

``adaptation`` is another kind of training, and none of ``TRAINERS``: it teaches low-rank adapters of a pretrained
network on many machines at once, leaves the encoder that it is given as it is, and returns arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nearfar.files import extras

TRAINERS = {
    "autoencoder": "nearfar.training.autoencoder:train",
    "dca": "nearfar.training.dca:train",
    "difference_autoencoder": "nearfar.training.autoencoder:train",
}


def trainer(encoder: str) -> Callable[..., None]:
    """The function that fits this encoder, loaded now.

    Raises
    ------
    ValueError
        If it is not one that is fitted.
    MissingPackageError
        If the training needs torch, and torch is not installed.
    """
    if encoder not in TRAINERS:
        raise ValueError(f"encoder {encoder!r} is not trained, so it has no training options")
    return extras.resolve(TRAINERS[encoder], needed_by=f"the training of encoder {encoder!r}")


def adapter_trainer() -> Callable[..., Any]:
    """The function that trains an adapter over machines, loaded now.

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    """
    return extras.resolve("nearfar.training.adaptation:train", needed_by="the training of an adapter")
