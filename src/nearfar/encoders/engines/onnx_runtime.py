"""ONNX Runtime: the layers of a network, exported from torch for each length of its spectrograms."""

from __future__ import annotations

import io
import warnings

import onnxruntime
import torch
from torch import Tensor

from nearfar.encoders.engines.layers import Function, Layers, OfOneShape

OPSET = 18


class OnnxRuntime(OfOneShape):
    """See ``OfOneShape``; with as many threads as torch has when it is made."""

    def made(self, layers: Layers, spectrogram: Tensor) -> Function:
        """See ``OfOneShape``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            exported(layers.eval(), spectrogram), options, providers=["CPUExecutionProvider"]
        )

        def computed(given: Tensor) -> list[Tensor]:
            return [torch.from_numpy(array) for array in session.run(None, {"spectrogram": given.numpy()})]

        return computed


def exported(layers: Layers, spectrogram: Tensor) -> bytes:
    """Layers as an ONNX model for spectrograms of this shape.

    By the older of torch's exporters: the newer one needs another package, and longer.
    """
    stored = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called outdated, and shapes constants
        torch.onnx.export(
            layers,
            (spectrogram.detach().clone(),),
            stored,
            input_names=["spectrogram"],
            opset_version=OPSET,
            dynamo=False,
        )
    return stored.getvalue()
