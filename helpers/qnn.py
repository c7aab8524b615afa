"""A block of a language model on Qualcomm's NPU compiler: quantized, placed, compared, and compiled for a phone.

Qualcomm's Hexagon Tensor Processor (HTP) computes with whole numbers. ONNX Runtime's QNN provider takes a graph whose
tensors say how they are quantized (see qdq.py), and compiles it. On x86 Linux the package
`onnxruntime-qnn` holds the same compiler and an emulation of the processor: the numbers are the phone's, the speed is
not. So one feed-forward block is run here, with the embedded model's weights, and not a whole model.

    python -m helpers.qnn                            the whole experiment; the last line is JSON

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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from helpers.errors import BackendUnavailable, CourseError
from helpers.qdq import ROWS, Block, Matrix, Scheme, blocks, quantize, write

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("onnxruntime_qnn", "onnxruntime", "onnx")
PROVIDER = "QNNExecutionProvider"
#: How the block is quantized, the usual way for this processor first.
SCHEMES = (Scheme(), Scheme(activation_bits=8), Scheme(per_channel=True))
#: The HTP generation of some chips, as in Qualcomm's list of supported devices.
TARGETS = {"Snapdragon 8 Gen 2": 73, "Snapdragon X Elite": 73, "Snapdragon 8 Gen 3": 75}


def missing() -> str | None:
    """Why QNN cannot run here, as a sentence; None where it can."""
    here = (platform.system(), platform.machine().lower())
    if here[0] == "Darwin":
        return "QNN exists for Windows, Android and Linux, and emulates its processor on x86 Linux, not on a Mac"
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
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
    command = [sys.executable, "-m", "helpers.qnn", "--layers", *map(str, layers)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"TQDM_DISABLE": "1"}, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["nothing"]
        raise BackendUnavailable(f"The QNN experiment ended with status {done.returncode}; it said: {said[0][:300]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def run(path: Path, inputs: Matrix, provider: str = PROVIDER) -> tuple[Matrix, float, list[str]]:
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


def _experiment(layers: Sequence[int], folder: Path) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for layer, part in blocks(layers).items():
        plain = write(part, folder / "float.onnx")
        wanted = run(plain, part.inputs, "CPUExecutionProvider")[0]
        rows += [{"layer": layer, **_row(plain, part, wanted, scheme)} for scheme in SCHEMES]
    best = quantize(plain, folder / "best.onnx", part.calibration)
    chips = enumerate(TARGETS.items())
    compiled = {name: compile_for(best, folder / f"for{number}.onnx", arch) for number, (name, arch) in chips}
    return {
        "rows": rows,
        "shape": [ROWS, *part.gate.shape],
        "bytes": {"float": plain.stat().st_size, "quantized": best.stat().st_size},
        "compiled_bytes": compiled,
        "refused": _refusal(folder / "refused.onnx"),
    }


def _row(plain: Path, part: Block, wanted: Matrix, scheme: Scheme) -> dict[str, Any]:
    path = quantize(plain, plain.with_name("quantized.onnx"), part.calibration, scheme)
    outputs, seconds, placed = run(path, part.inputs)
    emulated = run(path, part.inputs, "CPUExecutionProvider")[0]
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
        run(path, np.ones((ROWS, ROWS), np.float32))
    except Exception as error:  # noqa: BLE001 - its own exception classes share no base
        return str(error).partition("FAIL : ")[2].splitlines()[0] or str(error)
    return None


def _error(got: Matrix, wanted: Matrix) -> float:
    """The length of the difference in percent of the length of what was wanted."""
    return float(100 * np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m helpers.qnn", description="A block of a model on QNN's emulation.")
    parser.add_argument("--layers", type=int, nargs="+", default=[15, 28])
    asked = parser.parse_args(arguments)
    try:
        reason = missing()
        if reason:
            raise BackendUnavailable(f"QNN cannot run here: {reason}.")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            print(json.dumps(_experiment(asked.layers, Path(folder))), flush=True)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
