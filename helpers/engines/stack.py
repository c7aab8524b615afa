"""A drawing of the engines: what stands between a program and the arithmetic, one column for each engine."""

from __future__ import annotations

from collections.abc import Collection

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from helpers import plots

#: What a program calls, what the engine reads, and where it computes, from top to bottom.
STACKS = {
    "transformers": ("model.generate", "safetensors,\n16 or 32 bits", "PyTorch's kernels:\nprocessor, GPU"),
    "llamacpp": ("xllamacpp.Server", "GGUF,\n2 to 32 bits", "its own kernels:\nprocessor, GPU"),
    "ollama": ("ollama.chat,\nover HTTP", "GGUF from\nits library", "llama.cpp's and\nits own kernels"),
    "onnx-genai": ("og.Generator", "ONNX graphs,\n4 to 32 bits", "a provider:\nCPU, GPU, QNN …"),
    "openvino": ("LLMPipeline", "OpenVINO's\ngraph, GGUF", "Intel's CPU,\nGPU, NPU"),
    "mlx": ("mlx_lm.generate", "safetensors,\n4 to 16 bits", "Apple's GPU;\nCUDA; processor"),
    "QNN": ("InferenceSession", "graphs in whole\nnumbers", "Snapdragon's\nNPU"),
}
ROWS_OF_STACK = ("what you call", "what it reads", "what computes")


def draw_stack(absent: Collection[str] = (), *, ax: Axes | None = None) -> Axes:
    """The engines side by side under the one call that the course has for most of them; `absent` ones are faint."""
    if ax is None:
        plots.use_theme()
        ax = plt.subplots(figsize=(9.6, 3.3), layout="constrained")[1]
    reached = len(STACKS) - 1  # QNN runs a graph, and no chat
    plots.box(ax, (reached - 1) / 2, 3.9, 'your program:  open_chat(model, backend="…")', size=(reached - 0.1, 0.5))
    plots.box(ax, reached, 3.9, "your program", size=(0.94, 0.5))
    for column, (name, parts) in enumerate(STACKS.items()):
        shade = None if name in absent else plots.OTHERS[column % len(plots.OTHERS)]
        ax.text(column, 3.28, name, ha="center", va="center", fontsize=8.5, weight="bold")
        for row, text in enumerate(parts):
            plots.box(ax, column, 2.7 - row, text, size=(0.94, 0.62), shade=shade)
            if row:
                plots.arrow(ax, (column, 3.37 - row), (column, 3.03 - row), weak=shade is None)
    for row, text in enumerate(ROWS_OF_STACK):
        ax.text(-0.62, 2.7 - row, text, ha="right", va="center", fontsize=8, color="#555555")
    ax.set(xlim=(-1.5, len(STACKS) - 0.45), ylim=(0.3, 4.25))
    ax.axis("off")
    return ax
