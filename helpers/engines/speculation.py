"""Speculative decoding without a second model: llama.cpp guesses the next tokens from what stands in the text already.

Where the last `SEEN` tokens have occurred before, the tokens that followed them there are the *draft*. The model reads
the whole draft at once, as it reads a prompt, and keeps the tokens that it would have chosen itself; so the answer is
the same. It gains where the text repeats itself, and where reading several tokens costs little more than one: that is
where memory is the limit and not arithmetic (Leviathan, Kalman and Matias 2023, arXiv 2211.17192; Saxena 2023, prompt
lookup decoding).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from helpers import catalog
from helpers.backends import llamacpp
from helpers.backends.remote import fetch
from helpers.errors import BackendUnavailable, InvalidInput
from helpers.models import sources

#: A draft is made where this many tokens have occurred before.
SEEN = 3
CODE = '''def area(width, height):
    """The area of a rectangle, in square metres."""
    if width < 0 or height < 0:
        raise ValueError("a length cannot be negative")
    return width * height


def volume(width, height, depth):
    """The volume of a box, in cubic metres."""
    if width < 0 or height < 0 or depth < 0:
        raise ValueError("a length cannot be negative")
    return width * height * depth
'''
#: A text that the answer repeats, and one that it does not, as the model's template writes them.
TEXTS: Mapping[str, str] = {
    "code, written again": (
        f"<|im_start|>user\nRepeat this code exactly, word for word:\n```python\n{CODE}```<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "a story": "<|im_start|>user\nWrite a story about a fox.<|im_end|>\n<|im_start|>assistant\n",
}


def speculate(
    texts: Mapping[str, str] = TEXTS,
    drafts: Sequence[int] = (0, 3, 6),
    *,
    new_tokens: int = 96,
    repeats: int = 3,
    threads: int | None = None,
) -> list[dict[str, Any]]:
    """One row for each text, length of draft and repeat: the rate, and what became of the draft.

    `accepted` is the share of drafted tokens that the model kept, None where none was drafted. `tokens_per_step` counts
    those that one reading of the weights gave. All answers to a text are equal, or an error is raised: drafts may
    change the speed and nothing else.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise BackendUnavailable("Drafts need the package xllamacpp.", "pip install xllamacpp")
    rows = []
    for draft in drafts:
        server = _Server(draft, threads)
        for name, passage in texts.items():
            server.answer(passage, 1)  # warms up
            rows += [{"text": name, "drafted": draft, **server.answer(passage, new_tokens)} for _ in range(repeats)]
    for name in texts:
        if len({row["answer"] for row in rows if row["text"] == name}) > 1:
            raise InvalidInput(f"The answers to {name!r} differ with the draft.", "Near-ties fall differently there.")
    return rows


class _Server:
    """llama.cpp's server with n-gram drafts of so many tokens; 0 for none."""

    def __init__(self, draft: int, threads: int | None) -> None:
        def adjust(options: Any) -> None:
            import xllamacpp

            if draft:
                options.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
                options.speculative.ngram_simple.size_n, options.speculative.ngram_simple.size_m = SEEN, draft

        path = sources.gguf(catalog.card("smollm2-135m"))
        self._server, self._route = llamacpp.started(str(path), context=2048, threads=threads, adjust=adjust)

    def answer(self, passage: str, new_tokens: int) -> dict[str, Any]:
        """The greedy continuation, of exactly so many tokens, and what llama.cpp counted."""
        body = {"prompt": passage, "n_predict": new_tokens, "temperature": 0, "top_k": 1, "cache_prompt": False}
        found = fetch(self._route, "/completion", body | {"ignore_eos": True}, seconds=300)
        counted = found["timings"]
        drafted, kept = counted.get("draft_n", 0), counted.get("draft_n_accepted", 0)
        return {
            "tokens_per_second": counted["predicted_per_second"],
            "accepted": kept / drafted if drafted else None,
            "tokens_per_step": counted["predicted_n"] / (counted["predicted_n"] - kept),
            "answer": found["content"],
        }
