"""Checkpoints: what a stopped training run needs to go on as if it had never stopped.

The trained weights, the optimizer's two memories of each of them, and the losses so far, in one file that appears whole
or not at all. Batches need no place in it, since they follow from the step.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile, InvalidInput
from helpers.files import plain_disk_errors, remove

#: What is known of one step: step, loss, learning_rate, and the tokens read so far.
Row = dict[str, float]


def save(path: Path, model: Any, optimizer: Any, rows: list[Row], recipe: Mapping[str, float]) -> None:
    """Replaces the checkpoint in one move, so that a crash leaves the old one."""
    import torch

    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state = {"recipe": dict(recipe), "rows": rows, "model": trained, "optimizer": optimizer.state_dict()}
    buffer = io.BytesIO()  # torch would tell of a full disk in words of its own
    torch.save(state, buffer)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with plain_disk_errors(path.parent, "the checkpoint"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(buffer.getbuffer())
            os.replace(part, path)
        finally:
            remove(part)


def restore(path: Path | None, model: Any, optimizer: Any, recipe: Mapping[str, float]) -> list[Row]:
    """The rows of a checkpoint, its weights put into model and optimizer; no rows without one."""
    import torch

    if path is None or not path.exists():
        return []
    again = f"Delete {path} to start anew, or choose another checkpoint."
    try:
        # weights_only: a pickle could run code while it is read.
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != dict(recipe):
            raise InvalidInput(f"The checkpoint belongs to another run, {state['recipe']}, not {dict(recipe)}.", again)
        left = model.load_state_dict(state["model"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
    except InvalidInput:
        raise
    except Exception as error:  # torch tells of a damaged file in many types
        raise DamagedFile(f"The checkpoint {path.name} cannot be read, or is of another model.", again) from error
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    if left.unexpected_keys or trainable & set(left.missing_keys):
        raise InvalidInput(f"The checkpoint {path.name} is of another model.", again)
    return list(state["rows"])
