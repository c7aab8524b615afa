"""The feed-forward block of a language model as a graph for ONNX Runtime, in floating point and in whole numbers.

    y = (silu(x·gate) ∘ (x·up))·down        silu(v) = v · sigmoid(v)

In whole numbers every tensor is levels × scale + offset. A pair of nodes, QuantizeLinear and DequantizeLinear (QDQ),
stands at each tensor and says so; an engine that has whole-number arithmetic computes what is between two pairs with
it. The scales come from *calibration*: the ranges that the tensors have while real inputs pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.agreement import text as calibration_text
from helpers.chat import open_chat
from helpers.errors import InvalidInput

#: Rows (tokens) that the graph takes at once: an NPU compiles for fixed shapes. Few, since an emulation is slow.
ROWS = 8
#: What the block is tried on, and not calibrated with.
OTHER_TEXT = "A letter came from the city. Nobody in the house could read it."

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scheme:
    """Bits of activations and of weights, and whether each channel (column) of weights has a scale of its own."""

    activation_bits: int = 16
    weight_bits: int = 8
    per_channel: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """The matrices of one layer's block, with inputs as the model has them: to calibrate with, and to try."""

    gate: Matrix
    up: Matrix
    down: Matrix
    calibration: Matrix
    inputs: Matrix


def blocks(numbers: Sequence[int]) -> dict[int, Block]:
    """The blocks of these layers of the embedded model, with their inputs for two texts, read while it runs."""
    import torch

    with open_chat("smollm2-135m", "transformers", precision="fp32") as chat:
        backend: Any = chat.backend
        layers = backend.model.model.layers
        wrong = [number for number in numbers if not 0 <= number < len(layers)]
        if wrong:
            raise InvalidInput(f"There is no layer {wrong[0]}.", f"Choose 0 to {len(layers) - 1}.")
        seen: dict[int, list[Matrix]] = {number: [] for number in numbers}
        for number in numbers:
            layers[number].mlp.register_forward_pre_hook(
                lambda _, inputs, number=number: seen[number].append(inputs[0][0].numpy().copy())
            )
        with torch.inference_mode():
            for passage in (calibration_text(), OTHER_TEXT):
                backend.model(torch.tensor([backend.tokenize(passage)]))
        return {number: _block(layers[number].mlp, *seen[number]) for number in numbers}


def _block(mlp: Any, calibration: Matrix, other: Matrix) -> Block:
    gate, up, down = (getattr(mlp, f"{name}_proj").weight.detach().numpy().T.copy() for name in ("gate", "up", "down"))
    return Block(gate, up, down, calibration, other[-ROWS:])


def write(part: Block, path: Path) -> Path:
    """The block as an ONNX graph of floating-point numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    width = part.gate.shape[0]
    steps = [
        ("MatMul", ["x", "gate"], "g"), ("Sigmoid", ["g"], "s"), ("Mul", ["g", "s"], "silu"),
        ("MatMul", ["x", "up"], "u"), ("Mul", ["silu", "u"], "h"), ("MatMul", ["h", "down"], "y"),
    ]  # fmt: skip
    nodes = [helper.make_node(kind, inputs, [output], name=f"make_{output}") for kind, inputs, output in steps]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, width]) for name in "xy"]
    weights = [numpy_helper.from_array(getattr(part, name), name) for name in ("gate", "up", "down")]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def quantize(path: Path, target: Path, calibration: Matrix, scheme: Scheme | None = None) -> Path:
    """The graph with whole numbers: the range of every tensor is what it was while real inputs passed through."""
    import logging

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    whole = len(calibration) // ROWS

    class Batches(CalibrationDataReader):
        """The calibration rows, as many at once as the graph takes."""

        def __init__(self) -> None:
            self._batches = iter(np.split(calibration[: whole * ROWS], whole))

        def get_next(self) -> dict[str, Matrix] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"x": batch}

    scheme = scheme or Scheme()
    kinds = {8: QuantType.QUInt8, 16: QuantType.QUInt16}
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a pre-processing that finds nothing in this graph
    quantize_static(
        path,
        target,
        Batches(),
        quant_format=QuantFormat.QDQ,
        activation_type=kinds[scheme.activation_bits],
        # scales of channels need weights around zero, so signed ones
        weight_type=QuantType.QInt8 if scheme.per_channel else kinds[scheme.weight_bits],
        per_channel=scheme.per_channel,
    )
    return target
