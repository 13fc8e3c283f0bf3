"""What fits an encoder to the normal clips of a machine.

A recipe is a frozen dataclass. Its fields are the options of a training; its method fits an encoder in place::

    Recipe(**options).train(encoder, waveforms, *, domain, attributes, seed, folder, progress) -> None

``waveforms`` is what the encoder hears of each clip, to be read once; ``domain`` and ``attributes`` are arrays of
strings, one a clip. ``folder`` is for what a training wants to keep so that it can go on: it belongs to trainings
that differ in the option ``epochs`` only, or is ``None``.

``TRAINERS`` names them by encoder; the lines name classes instead of importing them, because torch should load
only where it is used.

``ADAPTATIONS`` are another kind of training, and none of ``TRAINERS``: they teach low-rank adapters of a pretrained
network on many machines at once, leave the encoder that they are given as it is, and return arrays. Each is a
subclass of ``adaptation.Recipe``. A system names it in ``[branch.adaptation]``, as ``recipe`` beside its options.
"""

from __future__ import annotations

from typing import Any

from nearfar.files import extras
from nearfar.recordings.clips import unknown

TRAINERS = {
    "autoencoder": "nearfar.training.autoencoder:AutoencoderRecipe",
    "dca": "nearfar.training.dca:DcaRecipe",
    "difference_autoencoder": "nearfar.training.autoencoder:AutoencoderRecipe",
}

ADAPTATIONS = {
    "arcface": "nearfar.training.adaptation:AdapterRecipe",
    "adacos": "nearfar.training.adacos:AdaCosRecipe",
}
DEFAULT_ADAPTATION = "arcface"  # there was no other one, and files do not name it


def trainer(encoder: str) -> type[Any]:
    """The recipe that fits this encoder, loaded now.

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


def adapter_trainer(recipe: str = DEFAULT_ADAPTATION) -> type[Any]:
    """The recipe that trains an adapter over machines, loaded now.

    Raises
    ------
    ValueError
        If there is none of this name.
    MissingPackageError
        If torch is not installed.
    """
    if recipe not in ADAPTATIONS:
        raise ValueError(unknown("recipe", recipe, ADAPTATIONS))
    return extras.resolve(ADAPTATIONS[recipe], needed_by="the training of an adapter")
