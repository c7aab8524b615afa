"""Speculative decoding in llama.cpp: something cheap guesses the next tokens, and the model reads them all at once.

The guess, the *draft*, comes from the text itself, where the last `SEEN` tokens have occurred before (what followed
them there is the draft), or from a smaller model of the same family. The model keeps the drafted tokens that it would
have chosen itself, so the answer is the same. It gains where drafts are accepted, and where reading several tokens
costs little more than one: that is where memory is the limit and not arithmetic (Leviathan, Kalman and Matias 2023,
arXiv 2211.17192; Saxena 2023, prompt lookup decoding).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from helpers import catalog
from helpers.backends import llamacpp
from helpers.backends.remote import fetch
from helpers.errors import BackendUnavailable
from helpers.models import sources

#: A draft is made where this many tokens have occurred before.
SEEN = 3
AREA_CODE = '''def area(width, height):
    """The area of a rectangle, in square metres."""
    if width < 0 or height < 0:
        raise ValueError("a length cannot be negative")
    return width * height
'''
VOLUME_CODE = '''

def volume(width, height, depth):
    """The volume of a box, in cubic metres."""
    if width < 0 or height < 0 or depth < 0:
        raise ValueError("a length cannot be negative")
    return width * height * depth
'''


def _written_again(code: str) -> str:
    return (
        f"<|im_start|>user\nRepeat this code exactly, word for word:\n```python\n{code}```<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


#: A text that the answer repeats, and one that it does not, as the model's template writes them.
TEXTS: Mapping[str, str] = {
    "code, written again": _written_again(AREA_CODE + VOLUME_CODE),
    "a story": "<|im_start|>user\nWrite a story about a fox.<|im_end|>\n<|im_start|>assistant\n",
}
#: The same with half of the code, for a first look.
SHORT_TEXTS: Mapping[str, str] = {**TEXTS, "code, written again": _written_again(AREA_CODE)}
#: A task whose answer stands nowhere in the prompt.
NEW_CODE = {
    "code, new": (
        "<|im_start|>user\nWrite a Python class for a bank account with deposit, withdraw and a list of "
        "transactions. Code only.<|im_end|>\n<|im_start|>assistant\n"
    )
}


def speculate(
    texts: Mapping[str, str] = TEXTS,
    drafts: Sequence[int] = (0, 3, 6),
    *,
    model: str = "smollm2-135m",
    drafter: str | None = None,
    new_tokens: int = 96,
    repeats: int = 3,
    threads: int | None = None,
    reuse_prompt: bool = False,
) -> list[dict[str, Any]]:
    """One row for each text, length of draft and repeat: the rate, and what became of the draft.

    `drafter` names the smaller model that guesses; without one the text itself does. `accepted` is the share of drafted
    tokens that the model kept, None where none was drafted. `tokens_per_step` counts those that one reading of the
    weights gave. `same` says whether the answer is the one that the model gives without a draft, where `drafts` has a
    0: reading several tokens at once rounds otherwise, so a near-tie may fall differently.
    `reuse_prompt` reads a text once for all its repeats, which saves minutes with a larger model.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise BackendUnavailable("Drafts need the package xllamacpp.", "pip install xllamacpp")
    rows: list[dict[str, Any]] = []
    plain: dict[str, str] = {}
    for draft in sorted(drafts):
        server = _Server(model, draft, drafter, threads, reuse_prompt)
        server.answer("Warm up.", 2)
        for name, passage in texts.items():
            head = {"text": name, "drafted": draft, "by": (drafter or "the text") if draft else "nobody"}
            for _ in range(repeats):
                found = server.answer(passage, new_tokens)
                plain.setdefault(name, found["answer"]) if not draft else None
                rows.append(head | found | {"same": found["answer"] == plain.get(name, found["answer"])})
        server.close()
    return rows


class _Server:
    """llama.cpp's server with drafts of so many tokens at most; 0 for none."""

    def __init__(self, model: str, draft: int, drafter: str | None, threads: int | None, reuse: bool) -> None:
        def adjust(options: Any) -> None:
            import xllamacpp

            kinds, speculative = xllamacpp.common_speculative_type, options.speculative
            if draft and drafter:
                speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
                speculative.draft.mparams.path = str(sources.gguf(catalog.card(drafter)))
                speculative.draft.n_max = draft
                own, cores = options.cpuparams.n_threads, speculative.draft
                cores.cpuparams.n_threads = cores.cpuparams_batch.n_threads = own
            elif draft:
                speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
                speculative.ngram_simple.size_n, speculative.ngram_simple.size_m = SEEN, draft

        self._reuse, path = reuse, sources.gguf(catalog.card(model))
        self._server, self._route = llamacpp.started(str(path), context=2048, threads=threads, adjust=adjust)

    def close(self) -> None:
        """Gives the memory back before the next one opens."""
        self._server = None

    def answer(self, passage: str, new_tokens: int) -> dict[str, Any]:
        """The greedy continuation, of exactly so many tokens, and what llama.cpp counted"""
        body = {"prompt": passage, "n_predict": new_tokens, "temperature": 0, "top_k": 1, "cache_prompt": self._reuse}
        found = fetch(self._route, "/completion", body | {"ignore_eos": True}, seconds=300)
        counted = found["timings"]
        drafted, kept = counted.get("draft_n", 0), counted.get("draft_n_accepted", 0)
        return {
            "tokens_per_second": counted["predicted_per_second"],
            "accepted": kept / drafted if drafted else None,
            "tokens_per_step": counted["predicted_n"] / (counted["predicted_n"] - kept),
            "answer": found["content"],
        }
