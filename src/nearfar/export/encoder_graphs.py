"""What an encoder makes of a waveform, as nodes: tokens, (1, blocks, frames, bands, dim)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nearfar.encoders import Encoder
from nearfar.encoders.features import DB_FLOOR, DB_PER_NEPER, Mel, mel_filters
from nearfar.encoders.spectral import Spectral
from nearfar.export.expressions import Expression, joined
from nearfar.export.fourier_graphs import Frames
from nearfar.export.integers import with_integers
from nearfar.files import extras

if TYPE_CHECKING:
    import onnx

Arithmetic = Literal["float32", "int8"]
NetworkModel = Callable[..., "onnx.ModelProto"]  # as of ``encoders.exporting.network_model``

NETWORKS = "nearfar.encoders.exporting"


def tokens(
    waveforms: list[Expression], encoder: Encoder, name: str, samples: int | None, arithmetic: Arithmetic
) -> tuple[Expression, dict[str, str]]:
    """The tokens of what an encoder hears at once, (1, blocks, frames, bands, dim), and metadata of its network.

    Parameters
    ----------
    waveforms : list of (samples,) expressions
        One, or two for an encoder of two microphones.
    encoder : Encoder
    name : str
        Of ``ENCODERS``.
    samples : int or None
        Of a waveform; ``None``: any number.
    arithmetic : {"float32", "int8"}
        Of the network.

    Raises
    ------
    ValueError
        If the network is not exported, or not for any length.
    MissingPackageError
        If it needs torch, and torch is not installed.
    """
    if isinstance(encoder, Spectral):
        return _levels(waveforms[0], encoder), {}
    graph = waveforms[0].graph
    model = _of_networks("network_model", name)(encoder, samples=samples)
    if arithmetic == "int8":
        model = with_integers(model)
    together = joined([one.reshape(1, -1) for one in waveforms], axis=0)
    if len(waveforms) > 1:
        together = together.reshape(1, len(waveforms), -1)
    made = graph.inline(model, {"waveforms": together.value})
    return Expression(graph, made["tokens"], np.float32), {one.key: one.value for one in model.metadata_props}


def takes_any_length(encoder: Encoder, name: str) -> bool:
    """Whether the graph of an encoder takes waveforms of any length."""
    if isinstance(encoder, Spectral):
        return True
    return bool(_of_networks("takes_any_length", name)(encoder))


def weights_notice(encoder: Encoder, name: str) -> str | None:
    """What to tell about the licence of the weights that the graph of an encoder holds, if anything."""
    if isinstance(encoder, Spectral):
        return None
    notice: str | None = _of_networks("weights_notice", name)(encoder)
    return notice


def _of_networks(function: str, name: str) -> Any:
    """A function of the module that writes networks, which needs torch."""
    return extras.resolve(f"{NETWORKS}:{function}", needed_by=f"the export of encoder {name!r}")


def _levels(waveform: Expression, encoder: Spectral) -> Expression:
    """Log-mel levels in dB, as ``Spectral`` has them."""
    power = _mel_power(waveform, encoder.mel)
    if encoder.floor_db is not None:
        pink = mel_filters(encoder.mel)[:, 1:] @ (1 / np.arange(1, 1 + encoder.mel.n_fft // 2))
        floor = 10 ** (encoder.floor_db / 10) * pink / pink.mean()
        power = power + power.mean(0, 1, keepdims=True) * floor[:, None]
    level = power.at_least(DB_FLOOR).log() * DB_PER_NEPER
    return level.transpose(1, 0).reshape(1, 1, -1, encoder.mel.n_mels, 1)


def _mel_power(waveform: Expression, mel: Mel) -> Expression:
    """As ``features.mel_spectrogram``, (n_mels, frames), of frames that are centred in zeros."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.n_fft) / mel.n_fft)
    frames, half = Frames(window, mel.hop), mel.n_fft // 2
    length = waveform.length(0)
    beyond = length // mel.hop * mel.hop + (mel.n_fft - half) - length
    power = frames.spectra(waveform.padded(0, half, beyond)).sum_of_squares(1)
    bins, first = np.unique(frames.bins, return_index=True)
    filters = np.zeros((mel.n_mels, frames.bins.size))
    filters[:, first] = mel_filters(mel)[:, bins]  # of bins that are there twice, one counts
    return filters @ power.reshape(frames.bins.size, -1)
