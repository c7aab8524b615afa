"""Fewer bits a weight: absmax rounding by hand, and the formats of llama.cpp by the library `gguf`.

    scale = largest |weight| / (2^(bits−1) − 1)      level = round(weight / scale)      weight' = level · scale

No weight moves by more than half a scale. One large weight makes the scale coarse for all that share it, so scales are
kept for a matrix, for each row (channel), or for each group of 32 (Dettmers et al. 2022, LLM.int8(), section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.models import convert
from helpers.models.files import make_once
from helpers.models.gguf_head import Tensor

if TYPE_CHECKING:
    import torch

#: Bits of a weight in llama.cpp's formats, scales included: blocks of 32 weights share 16 bits of scale (and of
#: offset, in Q4_1).
BITS = {"F16": 16.0, "Q8_0": 8.5, "Q5_0": 5.5, "Q4_1": 5.0, "Q4_0": 4.5}
SCALE_BITS = 16
#: Which weights share a scale: all of a matrix, those of a row, or so many neighbours.
Share = str | int


@dataclass(frozen=True, slots=True)
class Quantized:
    """Whole-number levels, rows × groups × weights, with a scale a group; `bits_per_weight` counts the scales."""

    levels: torch.Tensor
    scales: torch.Tensor
    shape: torch.Size
    bits: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes, its part of a scale included."""
        return self.bits + SCALE_BITS * self.scales.numel() / self.shape.numel()

    def weights(self) -> torch.Tensor:
        """The weights as the model computes with them."""
        return (self.levels * self.scales).reshape(self.shape)

    def bound(self) -> torch.Tensor:
        """How far each weight may have moved: half a scale."""
        return (self.scales / 2).expand_as(self.levels).reshape(self.shape)


def absmax(weight: torch.Tensor, bits: int, share: Share = "channel") -> Quantized:
    """The matrix in so many bits; `share` is "matrix", "channel", or a number of neighbours in a row."""
    import torch

    if not 2 <= bits <= 8:
        raise InvalidInput(f"{bits} bits cannot be done here.", "Choose 2 to 8: one bit leaves no level but zero.")
    if weight.ndim != 2 or not torch.isfinite(weight).all():
        raise InvalidInput("Only a matrix of finite numbers can be quantized.", "Give a weight of two dimensions.")
    rows, columns = weight.shape
    if share == "matrix":
        groups = weight.reshape(1, 1, -1)
    else:
        size = columns if share == "channel" else share
        if not isinstance(size, int) or size < 1 or columns % size:
            raise InvalidInput(
                f"Rows of {columns} weights cannot share a scale by {share!r}.",
                f'Choose "matrix", "channel", or a number that divides {columns}.',
            )
        groups = weight.reshape(rows, columns // size, size)
    highest = 2 ** (bits - 1) - 1
    scales = groups.float().abs().amax(dim=-1, keepdim=True) / highest
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)  # a group of zeros stays zero
    levels = (groups / scales).round_().clamp_(-highest, highest).to(torch.int8)
    return Quantized(levels, scales, weight.shape, bits)


def by_library(weight: torch.Tensor, precision: str) -> torch.Tensor:
    """The matrix after a round trip through one of llama.cpp's formats, done by the library `gguf`."""
    import torch
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType[_known(precision)]
    stored = quants.quantize(weight.float().cpu().numpy(), kind)
    return torch.from_numpy(quants.dequantize(stored, kind)).reshape(weight.shape)


@contextmanager
def quantized(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[Any]:
    """The model with the matrices of its layers changed, for as long as the `with` lasts.

    The embedding table is left alone: it is looked up, not multiplied, and in most files keeps 8 bits.
    """
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    originals = [p.data for p in matrices]  # put aside, not copied
    try:
        for parameter in matrices:
            parameter.data = change(parameter.detach()).to(parameter)
        yield model
    finally:
        for parameter, original in zip(matrices, originals, strict=True):
            parameter.data = original


def megabytes(model: Any, bits_per_weight: float) -> float:
    """The size of the model in 10⁶ bytes with its layers in so many bits and its embedding table in at most 8.5."""
    named = list(model.named_parameters())
    layers = sum(p.numel() for name, p in named if ".layers." in name and p.ndim == 2)
    table = sum(p.numel() for name, p in named if ".layers." not in name and p.ndim == 2)
    norms = sum(p.numel() for _, p in named if p.ndim == 1)
    return (layers * bits_per_weight + table * (16 if bits_per_weight >= 16 else BITS["Q8_0"]) + norms * 32) / 8e6


def requantize(source: Path, target: Path, precision: str) -> Path:
    """A GGUF file like `source` with the matrices of its layers in another format, made once.

    What was rounded before stays rounded: a file in 16 bits made from one in 4 is larger, and no better.
    """
    kind = _known(precision)
    size = int(source.stat().st_size * 4)

    def good(path: Path) -> bool:
        return path.is_file() and path.stat().st_size > 0

    return make_once(target, lambda part: _rewrite(source, part, kind), good, size=size, what=f"a {kind} copy")


def _known(precision: str) -> str:
    name = precision.upper()
    if name not in BITS:
        raise InvalidInput(f"There is no format {precision!r} here.", f"Choose one of {', '.join(BITS)}.")
    return name


def _rewrite(source: Path, target: Path, precision: str) -> None:
    from gguf import GGMLQuantizationType

    kind = GGMLQuantizationType[precision]
    convert.rewrite(source, target, lambda name, tensor: _format_of(name, tensor, kind), f"MOSTLY_{precision}")


def _format_of(name: str, tensor: Tensor, wanted: Any) -> Any:
    """Norms stay as they are, the embedding table keeps at least 8 bits, rows that fill no block 16."""
    from gguf import GGMLQuantizationType as Kind

    if len(tensor.shape) < 2:
        return Kind(tensor.kind)
    if name.startswith(("token_embd", "output")) and wanted != Kind.F16:
        wanted = Kind.Q8_0
    return wanted if wanted == Kind.F16 or tensor.shape[0] % 32 == 0 else Kind.F16
