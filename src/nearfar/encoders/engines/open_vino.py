"""OpenVINO: the layers of a network, converted from torch for each length of its spectrograms.

OpenVINO's converter sends statistics of what it converts to a web service of its maker, unless the user has opted
out. For computers without the package that sends, OpenVINO has a stand-in that sends nothing. It is used here.
"""

from __future__ import annotations

import sys
import warnings
from threading import local

import openvino
import torch
from openvino.tools.ovc import telemetry_stub
from torch import Tensor

from nearfar.encoders.engines.layers import Function, Layers, OfOneShape

HINTS = {"float32": "f32", "bfloat16": "bf16"}


def tell_nobody() -> None:
    """Conversions in this process send nothing from now on."""
    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc.") and "tm" in vars(module):
            vars(module)["tm"] = telemetry_stub


class OpenVino(OfOneShape):
    """See ``OfOneShape``; with as many threads as torch has when it is made."""

    def made(self, layers: Layers, spectrogram: Tensor) -> Function:
        """See ``OfOneShape``."""
        tell_nobody()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes become constants, as they are meant to
            given = spectrogram.detach().clone()
            layers(
                given
            )  # what a network keeps is constant then; made inside, OpenVINO gets BEATs' biases wrong
            model = openvino.convert_model(layers.eval(), example_input=given, input=[tuple(given.shape)])
        program = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": HINTS[self.arithmetic.precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )

        own = local()  # of each thread: a request that two share gives one of them the numbers of the other

        def computed(given: Tensor) -> list[Tensor]:
            if not hasattr(own, "request"):
                own.request = program.create_infer_request()
            found = own.request.infer(given.numpy())
            return [torch.from_numpy(found[number].copy()) for number in range(len(program.outputs))]

        return computed
