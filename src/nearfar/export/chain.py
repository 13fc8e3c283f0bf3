"""A whole detector as one graph: samples of the channels in; score, p-value and decision out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar import __version__
from nearfar.detector.fitted import Detector
from nearfar.embedding.embeddings import VIEWS
from nearfar.encoders.graphs import Graph
from nearfar.export import backend_graphs, decision_graphs, embedding_graphs, encoder_graphs
from nearfar.export.encoder_graphs import Arithmetic
from nearfar.export.expressions import Expression, joined
from nearfar.export.hearing_graphs import Hearing
from nearfar.export.integers import has_integers
from nearfar.files.digests import digest, digest_arrays
from nearfar.systems.branches import Branch

if TYPE_CHECKING:
    import onnx

FORMAT = "1"
PREFIX = "nearfar."  # of the names of metadata


def channels(detector: Detector) -> int:
    """How many channels the detector hears, the first ones of those that were chosen for the fit."""
    return max(VIEWS[branch.resolved.view].channels for branch in detector.branches)


def least_samples(detector: Detector) -> int:
    """Of a recording, at the detector's rate."""
    return max(branch.encoder.min_samples for branch in detector.branches)


def takes_any_length(detector: Detector) -> bool:
    """Whether its graph takes recordings of any length.

    Raises
    ------
    MissingPackageError
        If an encoder needs torch, and torch is not installed.
    """
    return all(
        encoder_graphs.takes_any_length(branch.encoder, branch.resolved.encoder.name)
        for branch in detector.branches
    )


def weights_notices(detector: Detector) -> tuple[str, ...]:
    """What to tell about the licences of the weights that its graph holds; each once."""
    told = (
        encoder_graphs.weights_notice(branch.encoder, branch.resolved.encoder.name)
        for branch in detector.branches
    )
    return tuple(dict.fromkeys(notice for notice in told if notice))


def detector_model(
    detector: Detector, *, samples: int | None = None, arithmetic: Arithmetic = "float32"
) -> onnx.ModelProto:
    """The graph of a detector, with its metadata.

    Parameters
    ----------
    detector : Detector
    samples : int or None
        Of a recording, at the detector's rate; ``None``: any number, from ``least_samples`` on.
    arithmetic : {"float32", "int8"}
        Of its networks; "int8": their matrix products are in integers (``export.integers``).

    Raises
    ------
    ValueError
        If a part of the detector is not exported, or not for any length; or if no network has a matrix product that
        could be in integers.
    MissingPackageError
        If an encoder needs torch, and torch is not installed.
    """
    _refuse_several_rates(detector)
    graph = Graph(f"nearfar {detector.system.name}")
    shape = (channels(detector), "samples" if samples is None else samples)
    given = Expression(graph, graph.input("samples", np.float32, shape), np.float32)
    heard = _Heard(given, samples, arithmetic)
    scores = [heard.score(branch) for branch in detector.branches]
    of_parts = [decision_graphs.average([*own]) for own in detector.system.by_part(scores)]
    score = _fused(detector, of_parts)
    graph.output("score", score.value, np.float64, ())
    if detector.threshold is not None:
        p_value = decision_graphs.p_value(score, detector.threshold)
        decision = decision_graphs.is_anomaly(score, detector.threshold)
        graph.output("p_value", p_value.value, np.float64, ())
        graph.output("is_anomaly", decision.value, np.bool_, ())
    known = metadata(detector, samples) | {PREFIX + "arithmetic": arithmetic}
    model = graph.model(known | heard.metadata)
    if arithmetic == "int8" and not has_integers(model):
        raise ValueError(
            f"system {detector.system.name!r} has no matrix products of a network that could be in 8 bits "
            "(convolutions are slower so); export it without --int8"
        )
    return model


def metadata(detector: Detector, samples: int | None) -> dict[str, str]:
    """What a runner must know of the detector: texts, under names that begin with ``PREFIX``."""
    seconds = ("", "") if detector.usual is None else tuple(map(repr, detector.usual.seconds.tolist()))
    known = {
        "format": FORMAT,
        "version": __version__,
        "machine": detector.machine,
        "system": detector.system.name,
        "rate": str(detector.sample_rate),
        "channels": str(channels(detector)),
        "selected": json.dumps(list(detector.selected_channels[: channels(detector)])),
        "samples": "" if samples is None else str(samples),
        "least_samples": str(least_samples(detector)),
        "window_seconds": repr(detector.window_seconds),
        "shortest_seconds": seconds[0],
        "longest_seconds": seconds[1],
        "threshold": "" if detector.threshold is None else repr(detector.threshold.value),
        "false_alarm_rate": "" if detector.threshold is None else repr(detector.threshold.false_alarm_rate),
        "detector": _digest(detector),
        "arithmetic": "float32",
    }
    return {PREFIX + name: value for name, value in known.items()}


def _digest(detector: Detector) -> str:
    """SHA-256 of all that the graph is made of."""
    arrays: dict[str, Any] = {
        f"{i}.{name}": array
        for i, branch in enumerate(detector.branches)
        for name, array in branch.arrays().items()
    }
    if detector.normals is not None:
        arrays["normals"] = detector.normals
    if detector.threshold is not None:
        arrays["normal_scores"] = detector.threshold.normal_scores
    return digest([detector.machine, detector.system.describe(), digest_arrays(arrays)])


def _refuse_several_rates(detector: Detector) -> None:
    rates = sorted({branch.encoder.sample_rate for branch in detector.branches})
    if len(rates) > 1:
        raise ValueError(
            f"the branches of system {detector.system.name!r} listen at {' and '.join(map(str, rates))} Hz, and "
            "resampling is not exported; export the detectors of its parts, or fit it with one sample_rate"
        )


def _fused(detector: Detector, of_parts: list[Expression]) -> Expression:
    """The score, from those of the parts; of a fused system these are an output of their own."""
    fusion = detector.system.fusion
    if fusion is None:
        return of_parts[0]
    assert detector.normals is not None
    together = joined([one.reshape(1) for one in of_parts], axis=0)
    together.graph.output("branch_scores", together.value, np.float64, (len(of_parts),))
    return decision_graphs.fused(together, detector.normals, fusion.weights, fusion.calibration)


class _Heard:
    """What branches hear of one recording. What several share is computed once: views, and tokens.

    Attributes
    ----------
    metadata : dict
        Of the networks that were taken up.
    """

    def __init__(self, given: Expression, samples: int | None, arithmetic: Arithmetic) -> None:
        self._hearing = Hearing(given)
        self._samples = samples
        self._arithmetic = arithmetic
        self._tokens: dict[str, Expression] = {}
        self.metadata: dict[str, str] = {}

    def score(self, branch: Branch) -> Expression:
        """Of a branch, a scalar in double precision."""
        view, pooling = branch.resolved.view, branch.resolved.pooling
        n_blocks = len(branch.encoder.blocks)
        microphones = VIEWS[view].microphones
        at_once = [microphones] if branch.encoder.microphones > 1 else [(one,) for one in microphones]
        pooled = [
            embedding_graphs.pooled(self._tokens_of(branch, heard), pooling, n_blocks) for heard in at_once
        ]
        x = embedding_graphs.combined(view, pooled)
        for step in branch.conditioning:
            x = embedding_graphs.conditioned(step, x)
        return backend_graphs.score(branch.backend, x.astype(np.float64))

    def _tokens_of(self, branch: Branch, microphones: tuple[str, ...]) -> Expression:
        component, encoder = branch.resolved.encoder, branch.encoder
        key = digest([component.name, component.describe(), digest_arrays(encoder.arrays()), microphones])
        if key not in self._tokens:
            waveforms = [self._hearing.view(microphone) for microphone in microphones]
            made, told = encoder_graphs.tokens(
                waveforms, encoder, component.name, self._samples, self._arithmetic
            )
            self._tokens[key] = made
            for name, text in told.items():
                texts = [*self.metadata.get(name, "").split(", "), text]
                self.metadata[name] = ", ".join(dict.fromkeys(filter(None, texts)))
        return self._tokens[key]
