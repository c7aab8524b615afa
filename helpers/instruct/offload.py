"""A model larger than memory: its layers spread over GPU, memory and disk by accelerate.

Layers that have no room stay in the model's own file and are read again for every token, so the answers are the same
and come more slowly. Only weights that must be rearranged on the way, as a mixture's experts, are written once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import machine
from helpers.backends.transformers import PRECISION_BYTES, Engine
from helpers.chat import DEFAULT_CONTEXT, Chat, sampling_of
from helpers.errors import InvalidInput, NotEnoughMemory
from helpers.models import files, local, sources
from helpers.records import Sampling

if TYPE_CHECKING:
    import pandas as pd


def open_offloaded(
    model: str | Path,
    *,
    max_memory: Mapping[str | int, str],
    folder: Path | None = None,
    precision: str | None = None,
    **sampling: Any,
) -> Chat:
    """A chat on transformers whose layers fill each device up to its limit, in order, and then the disk.

    `max_memory` holds GPU numbers and "cpu", as in `{0: "4GB", "cpu": "8GB"}`; a device without an entry is left out.
    `folder` takes what must be written once more. See `placement` for what went where.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    card = local.card_of(model)
    source, precision = sources.folder(card), precision or machine.precision()
    options = sampling_of(Sampling(), sampling)
    if precision not in PRECISION_BYTES:
        raise InvalidInput(f"transformers here cannot compute in {precision}.", f"Choose {', '.join(PRECISION_BYTES)}.")
    folder = folder or files.home() / "offload" / card.name
    torch.set_num_threads(machine.threads())
    with files.plain_disk_errors(folder, f"the layers of {card.title}"), _quietly():
        loaded = AutoModelForCausalLM.from_pretrained(
            source,
            dtype={"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision],
            device_map="auto",
            max_memory=_limits(max_memory),
            offload_folder=str(folder),
            use_safetensors=True,
        )
    if loaded.device.type == "meta":
        raise NotEnoughMemory(
            f"With these limits not even the first layer of {card.title} stays in memory.", "Raise max_memory."
        )
    context = min(DEFAULT_CONTEXT, card.shape.context if card.shape else DEFAULT_CONTEXT)
    engine = Engine(loaded, AutoTokenizer.from_pretrained(source), context=context, precision=precision)
    return Chat(engine, card, system=None, sampling=options, shorten=False)


def placement(chat: Chat) -> pd.DataFrame:
    """One row a device, from the fastest to the disk: how many modules it holds, and their parameters."""
    import pandas as pd

    model = getattr(chat.backend, "model", None)
    device = getattr(model, "device", None)
    if model is None or device is None:
        raise InvalidInput("This chat's model was not placed by accelerate.", "Open it with open_offloaded.")
    # No map is kept of a model that is on one device whole.
    whole = device.index if device.type == "cuda" else device.type
    devices = getattr(model, "hf_device_map", None) or {"": whole}
    tied = model.get_output_embeddings() if model.config.tie_word_embeddings else None
    rows = []
    for name, device in devices.items():
        module = model.get_submodule(name)
        # A shape is known even where the numbers are on disk; tied embeddings stand at both ends and count once.
        parameters = 0 if module is tied else sum(p.numel() for p in module.parameters())
        rows.append({"device": str(device), "modules": 1, "parameters": parameters})
    return pd.DataFrame(rows).groupby("device", sort=False, as_index=False).sum()


def _limits(max_memory: Mapping[str | int, str]) -> dict[str | int, Any]:
    """The limits as accelerate takes them, which would fill a GPU that torch cannot compute on."""
    import torch

    if machine.device() == "cuda":
        return dict(max_memory)
    named = {place: most for place, most in max_memory.items() if not isinstance(place, int)}
    return named | dict.fromkeys(range(torch.cuda.device_count()), 0)


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar, and no warning that layers are elsewhere than in memory, which is what was asked for."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
