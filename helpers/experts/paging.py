"""Experts on disk: a mixture whose experts are read only when a token needs them.

A token uses two experts of a layer, so the rest need not be in memory. The last few of each layer are kept, since the
next token often wants the same (Eliseev and Mazur 2023, arXiv 2312.17238, section 3.1). Answers stay the same to the
last bit; what is saved in memory is paid for in reading.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from helpers.errors import DamagedFile, InvalidInput
from helpers.models.files import plain_disk_errors

#: The two matrices of an expert: what goes in, gate and up together, and what comes out.
Expert = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Pager:
    """The experts of a model in one safetensors file, the last `keep` of each layer in memory, and what that cost."""

    file: Path
    keep: int
    reads: int = 0
    hits: int = 0
    bytes_read: int = 0
    _kept: dict[int, OrderedDict[int, Expert]] = field(default_factory=dict, repr=False)

    def expert(self, layer: int, number: int) -> Expert:
        """One expert, from memory if it is there, else from the file."""
        kept = self._kept.setdefault(layer, OrderedDict())
        if number in kept:
            self.hits += 1
            kept.move_to_end(number)
        else:
            if len(kept) >= self.keep:
                kept.popitem(last=False)  # before the new one comes, or both would be in memory at once
            kept[number] = self._read(layer, number)
        return kept[number]

    @property
    def resident_bytes(self) -> int:
        """The bytes of the experts that are in memory now."""
        return sum(_bytes(expert) for kept in self._kept.values() for expert in kept.values())

    def forget(self) -> None:
        """Empties the memory and sets all counts to zero."""
        self._kept.clear()
        self.reads = self.hits = self.bytes_read = 0

    def _read(self, layer: int, number: int) -> Expert:
        names = _names(layer, number)
        try:
            with safe_open(self.file, framework="pt") as file:
                # The file is mapped: only a copy brings the numbers into memory of ours.
                expert = (file.get_tensor(names[0]).clone(), file.get_tensor(names[1]).clone())
        except (OSError, SafetensorError) as error:
            raise DamagedFile(
                f"Expert {number} of layer {layer} cannot be read from {self.file.name}.",
                "Open the model again and page its experts out anew.",
            ) from error
        self.reads += 1
        self.bytes_read += _bytes(expert)
        return expert


class PagedExperts(torch.nn.Module):
    """In place of a layer's experts: the same arithmetic, with weights that come from a pager."""

    def __init__(self, pager: Pager, layer: int, activation: Any) -> None:
        super().__init__()
        self.pager, self.layer, self.activation = pager, layer, activation

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """The weighted sum of each token's experts; tokens × hidden."""
        out = torch.zeros_like(hidden_states)
        for number in top_k_index.unique().tolist():
            tokens, place = torch.where(top_k_index == number)
            into, back = (matrix.to(hidden_states.device) for matrix in self.pager.expert(self.layer, number))
            gate, up = torch.nn.functional.linear(hidden_states[tokens], into).chunk(2, dim=-1)
            found = torch.nn.functional.linear(self.activation(gate) * up, back)
            out.index_add_(0, tokens, found * top_k_weights[tokens, place, None])
        return out


def page_out(model: Any, file: Path, *, keep: int = 2) -> Pager:
    """Moves the experts of a `PhimoeForCausalLM` into a file, in place; the rest of the model stays in memory.

    `keep` experts of every layer may be in memory at a time. The model can then be used, and no longer trained.
    """
    blocks = [layer.mlp for layer in model.model.layers if hasattr(layer.mlp, "router")]
    if not blocks or any(isinstance(block.experts, PagedExperts) for block in blocks):
        raise InvalidInput("This model has no experts in memory that could be paged out.", "Give it a whole mixture.")
    if keep < 1:
        raise InvalidInput(f"A cache of {keep} experts holds nothing to compute with.", "Keep at least one.")
    with plain_disk_errors(file.parent, "the experts"):
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(_tensors(blocks)), file)
    pager = Pager(file, keep)
    for number, block in enumerate(blocks):
        block.experts = PagedExperts(pager, number, block.experts.act_fn)
    model.eval()
    return pager


def _tensors(blocks: list[Any]) -> Any:
    for layer, block in enumerate(blocks):
        for number in range(block.num_experts):
            into, back = _names(layer, number)
            # A copy, since a file cannot hold views into one fused tensor.
            yield into, block.experts.gate_up_proj[number].detach().clone()
            yield back, block.experts.down_proj[number].detach().clone()


def _names(layer: int, number: int) -> tuple[str, str]:
    return f"layers.{layer}.experts.{number}.gate_up", f"layers.{layer}.experts.{number}.down"


def _bytes(expert: Expert) -> int:
    return sum(matrix.nbytes for matrix in expert)
