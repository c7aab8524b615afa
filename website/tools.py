"""What the page to try needs: stored choices, the tokenizer's merges, sizes of models and machines, and words for it.

The scripts that a browser gets are written at each build, from the course's own data and the embedded model's file.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import anatomy, catalog
from helpers.data import stored
from helpers.models import sources

TOKENIZER_MODEL = "smollm2-135m"
#: What the tools say; each is a line of words.md.
SAID = (
    *("Text", "Temperature", "Start again", "the other tokens together", "Stored no further: start again."),
    *(
        "Your text",
        "tokens",
        "Model",
        "Bits a weight",
        "Tokens of conversation",
        "Memory of",
        "weights",
        "conversation",
    ),
    *("at most", "tokens a second", "does not fit"),
)


def words(say: Callable[[str], str]) -> str:
    """The tools' words in a language, where their script finds them."""
    said = json.dumps({text: say(text) for text in SAID}, ensure_ascii=False)
    return f'<script type="application/json" id="tool-words">{html.escape(said, quote=False)}</script>'


def write_scripts(folder: Path) -> None:
    """The two scripts with data: tools-data.js at once, tools-merges.js when somebody writes a text."""
    data = json.dumps(tool_data(), ensure_ascii=False, separators=(",", ":"))
    (folder / "tools-data.js").write_text(f"window.COURSE_DATA = {data};\n", encoding="utf-8")
    merges = json.dumps("\n".join(tokenizer_merges()), ensure_ascii=False)
    (folder / "tools-merges.js").write_text(f"window.COURSE_MERGES = {merges};\n", encoding="utf-8")


def tool_data() -> dict[str, Any]:
    """Choices, models and machines."""
    shaped = [card for card in catalog.cards() if card.shape and "text" in card.modalities and card.basis != "estimate"]
    models = [model_numbers(card) for card in shaped if card.shape and card.shape.kv_heads]
    machines = [{"title": d.title, "bandwidth": d.bandwidth, "gib": d.memory_gib} for d in anatomy.DEVICES.values()]
    return {"choices": stored("next_tokens"), "models": models, "machines": machines}


def model_numbers(card: Any) -> dict[str, Any]:
    """What the calculator multiplies: stored and read parameters, and bytes of cache for a token."""
    numbers = {"title": card.title, "parameters": card.parameters, "read": anatomy.multiplied_parameters(card)}
    return numbers | {"cache": anatomy.kv_cache_bytes(card, 1)}


def tokenizer_merges() -> list[str]:
    """The merges of the embedded model's tokenizer, first the pair that is joined first."""
    file = sources.folder(catalog.card(TOKENIZER_MODEL)) / "tokenizer.json"
    return [" ".join(pair) for pair in json.loads(file.read_text(encoding="utf-8"))["model"]["merges"]]
