"""Texts as vectors in which nearness is likeness of meaning, by a small encoder: all-MiniLM-L6-v2.

An encoder reads a text at once, in both directions, and gives one vector for each token. Their mean is the text's
vector (mean pooling: Reimers and Gurevych 2019, section 3), brought to length 1, so that the dot product of two texts
is the cosine of the angle between them: 1 for the same text, around 0 for texts that have nothing to do with each
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from helpers import catalog, machine
from helpers.errors import InvalidInput
from helpers.models import sources

if TYPE_CHECKING:
    import numpy as np

ENCODER = "all-minilm-l6-v2"
#: Tokens of a text that count; its publisher's limit (`max_seq_length` in sentence_bert_config.json).
LONGEST = 256


def embed(texts: Sequence[str], *, batch: int = 8) -> np.ndarray:
    """A row for each text: its unit vector of 384 numbers, as float32. `a @ b.T` are then all similarities.

    Only the first 256 tokens of a text count, about 190 English words; cut a longer one into passages first. The
    encoder was trained on English. `batch` texts are read at a time. It is fetched (91 MB) when it is not here yet.
    """
    import numpy as np
    import torch

    if isinstance(texts, str):
        raise InvalidInput("embed() takes a list of texts, and this is one text.", "Write embed([text]).")
    tokenizer, model = encoder()
    rows = np.zeros((len(texts), model.size), dtype=np.float32)
    # Texts of like length together, and few at a time, since the short ones of a batch are filled up to its longest.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        read = tokenizer.encode_batch([texts[number] for number in chosen])
        ids, mask = (torch.tensor([getattr(one, name) for one in read]) for name in ("ids", "attention_mask"))
        with torch.inference_mode():
            states = model(ids, mask)  # (texts, tokens, 384)
        attended = mask.unsqueeze(-1)
        mean = (states * attended).sum(1) / attended.sum(1)
        rows[chosen] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return rows


def tokens_read(texts: Sequence[str]) -> int:
    """How many tokens `embed` reads of these texts."""
    tokenizer, _ = encoder()
    return sum(sum(one.attention_mask) for one in tokenizer.encode_batch(list(texts)))


@cache
def encoder() -> tuple[Any, Any]:
    """The tokenizer and the model, loaded once."""
    card = catalog.card(ENCODER)
    machine.require_memory(4 * card.parameters, card.title)
    folder = sources.folder(card)
    import torch
    from tokenizers import Tokenizer

    from helpers.models.bert import load_bert

    torch.set_num_threads(machine.threads())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)  # its own file would cut at 128
    tokenizer.enable_padding()
    return tokenizer, load_bert(folder)
