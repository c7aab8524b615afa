"""A block of a language model on Qualcomm's NPU compiler: quantized, placed, compared, and compiled for a phone.

    y = (silu(x·gate) ∘ (x·up))·down        silu(v) = v · sigmoid(v)

Qualcomm's Hexagon Tensor Processor (HTP) computes with whole numbers: every tensor is levels × scale + offset. In the
graph a pair of nodes, QuantizeLinear and DequantizeLinear (QDQ), stands at each tensor and says so; an engine with
whole-number arithmetic computes what is between two pairs with it. The scales come from *calibration*: the ranges that
the tensors have while real inputs pass through.

ONNX Runtime's QNN provider takes such a graph and compiles it. On x86 Linux the package `onnxruntime-qnn` holds the
same compiler and an emulation of the processor: the numbers are the phone's, the speed is not. So one feed-forward
block is run here, with the embedded model's weights, and not a whole model.

Source: github.com/onnxruntime/onnxruntime-qnn, docs/execution_providers/QNN-ExecutionProvider.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.chat import open_chat
from helpers.data import ROOT
from helpers.engines.agreement import text as calibration_text
from helpers.errors import BackendUnavailable, InvalidInput

#: Rows (tokens) that the graph takes at once: an NPU compiles for fixed shapes. Few, since an emulation is slow.
ROWS = 8
#: What the block is tried on, and not calibrated with.
OTHER_TEXT = "A letter came from the city. Nobody in the house could read it."

Matrix = NDArray[np.float32]
QNN_PACKAGES = ("onnxruntime_qnn", "onnxruntime", "onnx")
PROVIDER = "QNNExecutionProvider"
#: The HTP generation of some chips, as in Qualcomm's list of supported devices.
HTP_VERSIONS = {"Snapdragon 8 Gen 2": 73, "Snapdragon X Elite": 73, "Snapdragon 8 Gen 3": 75}


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
                lambda _, inputs, number=number: seen[number].append(_plain(inputs[0][0]))
            )
        with torch.inference_mode():
            for passage in (calibration_text(), OTHER_TEXT):
                ids = torch.tensor([backend.tokenize(passage)], device=backend.model.device)
                backend.model.model(ids)  # what is read lies before the head
        return {number: _block(layers[number].mlp, *seen[number]) for number in numbers}


def _block(mlp: Any, calibration: Matrix, other: Matrix) -> Block:
    gate, up, down = (_plain(getattr(mlp, f"{name}_proj").weight.T) for name in ("gate", "up", "down"))
    return Block(gate, up, down, calibration, other[-ROWS:])


def _plain(values: Any) -> Matrix:
    """A copy of a tensor's numbers, wherever they lie."""
    copied: Matrix = values.detach().cpu().numpy().copy()
    return copied


def _keep(parts: Mapping[int, Block], path: Path) -> Path:
    """Writes the blocks to one file, from which `_kept` reads them."""
    np.savez(path, **{f"{number} {name}": m for number, part in parts.items() for name, m in asdict(part).items()})
    return path


def _kept(path: Path) -> dict[int, Block]:
    with np.load(path) as file:
        numbers = dict.fromkeys(int(key.split()[0]) for key in file)
        names = [field.name for field in fields(Block)]
        return {number: Block(**{name: file[f"{number} {name}"] for name in names}) for number in numbers}


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


def small_graph(folder: Path, *, width: int = 32) -> tuple[Path, Matrix]:
    """A block of random weights in whole numbers, small enough to be emulated in an instant; and inputs for it."""
    dice = np.random.default_rng(0)
    gate, up, down = (
        dice.normal(0, 0.2, shape).astype(np.float32) for shape in ((width, 64), (width, 64), (64, width))
    )
    seen = dice.normal(0, 1, (8 * ROWS, width)).astype(np.float32)
    plain = write(Block(gate, up, down, seen, seen[:ROWS]), folder / "float.onnx")
    return quantize(plain, folder / "small.onnx", seen), seen[:ROWS]


#: How the block is quantized, the usual way for this processor first.
SCHEMES = (Scheme(), Scheme(activation_bits=8), Scheme(per_channel=True))


def missing() -> str | None:
    """Why QNN cannot run here, as a sentence; None where it can."""
    here = (platform.system(), platform.machine().lower())
    if here[0] == "Darwin":
        return "QNN exists for Windows, Android and Linux, and emulates its processor on x86 Linux, not on a Mac"
    absent = [name for name in QNN_PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return f"the package {absent[0].replace('_', '-')} is not installed: python3 course.py lab --engines"
    if here not in (("Linux", "x86_64"), ("Linux", "amd64")):
        return "the emulation of Qualcomm's processor is in the package for x86 Linux only"
    return None


def experiment(layers: Sequence[int] = (15, 28)) -> dict[str, Any]:
    """What was found for the blocks of these layers, in a process of its own, where native code prints as it likes.

    `rows` has one row a layer and scheme: the error against floating-point numbers on QNN and on ONNX Runtime's own
    processor, and who computed the nodes. `bytes` are file sizes, `compiled_bytes` those of the binaries for chips that
    are not here, and `refused` is QNN's answer to a graph that it cannot place.
    """
    reason = missing()
    if reason:
        raise BackendUnavailable(f"QNN cannot run here: {reason}.", "Read on: the lesson tells what it does.")
    environment = os.environ | {"TQDM_DISABLE": "1", "PYTHONUTF8": "1"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # The model is opened here, where torch is already loaded: to import it again takes longer than all the rest.
        kept = _keep(blocks(layers), Path(folder) / "blocks.npz")
        command = [sys.executable, "-m", "helpers.engines.qnn", str(kept)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", errors="replace"
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["nothing"]
        raise BackendUnavailable(f"The QNN experiment ended with status {done.returncode}; it said: {said[0][:300]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def run_profiled(path: Path, inputs: Matrix, provider: str = PROVIDER) -> tuple[Matrix, float, list[str]]:
    """The outputs, the seconds, and which provider computed each node, from ONNX Runtime's own profile.

    On QNN, falling back to the processor is forbidden: a node that the NPU cannot compute raises here.
    """
    import onnxruntime

    options = _options(provider)
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), sess_options=options)
    started = time.perf_counter()
    outputs = session.run(None, {"x": inputs})[0]
    seconds = time.perf_counter() - started
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    placed = [event["args"]["provider"] for event in events if event.get("cat") == "Node"]
    return outputs, seconds, placed


def compile_for(path: Path, target: Path, htp_arch: int) -> int:
    """Writes the graph compiled for a chip that is not here, as an ONNX file and a binary; the binary's bytes."""
    import onnxruntime

    options = _options(PROVIDER, htp_arch=str(htp_arch))
    for key, value in {"enable": "1", "file_path": str(target), "embed_mode": "0"}.items():
        options.add_session_config_entry(f"ep.context_{key}", value)
    onnxruntime.InferenceSession(str(path), sess_options=options)
    return sum(file.stat().st_size for file in target.parent.glob(f"{target.stem}*.bin"))


def _options(provider: str, **more: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if provider == PROVIDER:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices(_devices()[:1], {"backend_path": _htp(), **more})
    return options


def _devices() -> list[Any]:
    import onnxruntime
    import onnxruntime_qnn

    def known() -> list[Any]:
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == onnxruntime_qnn.EP_NAME]

    if not known():
        onnxruntime.register_execution_provider_library(onnxruntime_qnn.EP_NAME, onnxruntime_qnn.get_library_path())
    return known()


def _htp() -> str:
    import onnxruntime_qnn

    return str(onnxruntime_qnn.get_qnn_htp_path())


def _experiment(parts: Mapping[int, Block], folder: Path) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for layer, part in parts.items():
        plain = write(part, folder / "float.onnx")
        wanted = run_profiled(plain, part.inputs, "CPUExecutionProvider")[0]
        made = [folder / f"quantized{number}.onnx" for number in range(len(SCHEMES))]
        rows += [{"layer": layer, **_row(plain, part, wanted, *how)} for how in zip(SCHEMES, made, strict=True)]
    best, versions = made[0], set(HTP_VERSIONS.values())
    compiled = {version: compile_for(best, folder / f"for{version}.onnx", version) for version in versions}
    return {
        "rows": rows,
        "shape": [ROWS, *part.gate.shape],
        "bytes": {"float": plain.stat().st_size, "quantized": best.stat().st_size},
        "compiled_bytes": {chip: compiled[version] for chip, version in HTP_VERSIONS.items()},
        "refused": _refusal(folder / "refused.onnx"),
    }


def _row(plain: Path, part: Block, wanted: Matrix, scheme: Scheme, target: Path) -> dict[str, Any]:
    path = quantize(plain, target, part.calibration, scheme)
    outputs, seconds, placed = run_profiled(path, part.inputs)
    emulated = run_profiled(path, part.inputs, "CPUExecutionProvider")[0]
    return {
        **asdict(scheme),
        "qnn_error_percent": _error(outputs, wanted),
        "cpu_error_percent": _error(emulated, wanted),
        "nodes_on": sorted(set(placed)),
        "seconds": seconds,
    }


def _refusal(path: Path) -> str | None:
    """What is said to a node whose output has no fixed shape, which no NPU can plan for; None if it is computed."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("NonZero", ["x"], ["y"])
    ends = [("x", TensorProto.FLOAT, [ROWS, ROWS]), ("y", TensorProto.INT64, None)]
    inputs, outputs = ([helper.make_tensor_value_info(*end)] for end in ends)
    graph = helper.make_graph([node], "refused", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    try:
        run_profiled(path, np.ones((ROWS, ROWS), np.float32))
    except Exception as error:  # noqa: BLE001 - its own exception classes share no base
        return str(error).partition("FAIL : ")[2].splitlines()[0] or str(error)
    return None


def _error(got: Matrix, wanted: Matrix) -> float:
    """The length of the difference in percent of the length of what was wanted."""
    return float(100 * np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def main() -> int:
    """What `experiment` starts: reads the file of blocks that it is given, prints what was found; the exit status."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        print(json.dumps(_experiment(_kept(Path(sys.argv[1])), Path(folder))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
