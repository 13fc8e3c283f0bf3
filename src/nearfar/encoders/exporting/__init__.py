"""Encoders as ONNX models: a waveform in, tokens out, with front end and weights inside.

The graphs are written node by node from the weights of a network, and not traced by torch. So the same weights are
the same bytes, whatever torch is installed; nothing of the computer that wrote them is in them; and a network that
takes clips of any length still does. Each network is described twice, then. The tests hold both equal.

What a network computes in is float32, whatever the ``precision`` of its encoder: how far decisions then differ is
for the export of a detector to measure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.encoders import ENCODERS, Encoder
from nearfar.encoders.graphs import Graph, Value
from nearfar.encoders.pretrained import Licence, Pretrained

if TYPE_CHECKING:
    import onnx

FREE = {  # of any length
    "autoencoder": "nearfar.encoders.exporting.autoencoders:tokens",
    "beats": "nearfar.encoders.exporting.beats:tokens",
    "difference_autoencoder": "nearfar.encoders.exporting.autoencoders:tokens_of_difference",
    "efficientat": "nearfar.encoders.exporting.efficientat:tokens",
}
OF_ONE_LENGTH = {
    "ced": "nearfar.encoders.exporting.transformers:ced_tokens",
    "dca": "nearfar.encoders.exporting.dca:tokens",
    "eat": "nearfar.encoders.exporting.transformers:eat_tokens",
    "m2d": "nearfar.encoders.exporting.transformers:m2d_tokens",
}
WEIGHTS, LICENCE = "nearfar.weights", "nearfar.weights_licence"  # of the metadata


def takes_any_length(encoder: Encoder) -> bool:
    """Whether one model of it can take clips of any length."""
    return name_of(encoder) in FREE


def name_of(encoder: Encoder) -> str:
    """Under which ``encoders.ENCODERS`` has its class.

    Raises
    ------
    ValueError
        If it has not, or if it is an encoder without a network.
    """
    place = f"{type(encoder).__module__}:{type(encoder).__qualname__}"
    name = next((name for name, listed in ENCODERS.items() if listed == place), place)
    if name not in FREE and name not in OF_ONE_LENGTH:
        known = ", ".join(sorted([*FREE, *OF_ONE_LENGTH]))
        raise ValueError(f"encoder {name!r}: has no network that can be exported; those of {known} can be")
    return name


def network_model(encoder: Encoder, *, samples: int | None) -> onnx.ModelProto:
    """An encoder as an ONNX model.

    Parameters
    ----------
    encoder : Encoder
        Of a network, with its weights; adapters are merged into them.
    samples : int or None
        Of every waveform, at the encoder's rate; ``None``: of any length, at least its ``min_samples``.

    Returns
    -------
    onnx.ModelProto
        From ``waveforms``, (1, samples), or (1, 2, samples) for an encoder of two microphones, to ``tokens``,
        (1, blocks, frames, bands, dim); both float32. Its metadata name the weights and their licence.

    Raises
    ------
    ValueError
        If the encoder has no network, is not fitted, or takes neither so few samples nor any number of them.
    WeightsError, CheckpointError
        If its weights are not there, or are of another network.
    """
    name = name_of(encoder)
    _require(encoder, name, samples)
    writers = FREE if name in FREE else OF_ONE_LENGTH
    graph = Graph(name)
    length = "samples" if samples is None else samples
    microphones = (encoder.microphones,) if encoder.microphones > 1 else ()
    waveforms = graph.input("waveforms", np.float32, (1, *microphones, length))
    known = () if name in FREE else (samples,)
    tokens = _writer(writers[name])(graph, _in_float32(encoder), waveforms, *known)
    graph.output("tokens", tokens, np.float32, (1, len(encoder.blocks), None, None, None))
    return graph.model(_of_weights(encoder))


def _require(encoder: Encoder, name: str, samples: int | None) -> None:
    if samples is None and name not in FREE:
        raise ValueError(
            f"samples=None: encoder {name!r} computes each length by another graph, so a model of it has one "
            "length; give the number of samples of a clip, or of a window"
        )
    if samples is not None and samples < encoder.min_samples:
        raise ValueError(f"samples={samples}: encoder {name!r} takes at least {encoder.min_samples} samples")
    if not getattr(encoder, "is_fitted", True):
        raise ValueError(f"encoder {name!r} is not fitted; train it, or give it the arrays of a trained one")


def _writer(place: str) -> Callable[..., Value]:
    """A function of graph, encoder, waveforms and, for networks of one length, their number of samples."""
    module, name = place.split(":")
    found: Callable[..., Value] = getattr(import_module(module), name)
    return found


def _in_float32(encoder: Encoder) -> Encoder:
    """The encoder with the network of its file, on the processor."""
    if getattr(encoder, "precision", "float32") == "float32":
        return encoder
    own: Any = copy.copy(encoder)  # without its network
    own.precision, own.device = "float32", "cpu"
    return own


def weights_of(encoder: Encoder) -> tuple[str, Licence | None]:
    """Name and licence of pretrained weights: of a user's file its name alone; empty if there are none."""
    record: Pretrained | None = getattr(encoder, "record", None)
    if record is not None:
        return record.name, record.licence
    return (Path(encoder.path).name if encoder.path else ""), None


def weights_notice(encoder: Encoder) -> str | None:
    """What to know before a file with the weights of this encoder is passed on; None if they are the user's own."""
    name, licence = weights_of(encoder)
    if not name:
        return None
    if licence is None:
        return f"the file holds the weights {name}, whose licence is not known here; respect it if you pass them on"
    told = f"the file holds the weights {name}, licence {licence.name} ({licence.url}). {licence.summary}"
    return told if licence.may_be_passed_on else f"{told} Do not pass this file on."


def _of_weights(encoder: Encoder) -> dict[str, str]:
    name, licence = weights_of(encoder)
    return {WEIGHTS: name, LICENCE: f"{licence.name}: {licence.url}" if licence else ""}
