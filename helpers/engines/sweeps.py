"""One thing changed at a time: threads, prompt, requests at once, the KV cache, and where a token's time goes.

Each function returns tidy rows. The roofline (anatomy.py) says what to expect: decoding reads every weight for a token
and waits for memory, prefill reads them once for a whole prompt and waits for arithmetic.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from helpers import anatomy, machine
from helpers.chat import Chat, open_chat
from helpers.cloud.crowd import crowd
from helpers.errors import InvalidInput
from helpers.records import Reply
from helpers.server import serve

MODEL = "smollm2-135m"
#: A word that is one token, so that a prompt has as many tokens as words.
WORD = " river"
STORY = "Tell me a long story about a small river."


def thread_sweep(
    engines: Sequence[str],
    counts: Sequence[int] = (1, 2),
    *,
    repeats: int = 3,
    new_tokens: int = 32,
    seconds: float = 20,
) -> list[dict[str, Any]]:
    """Rates of each engine with so many threads.

    Answers are cut after `seconds`: threads without a core spin. Where already the answer that warms up takes longer,
    its rates are the row, and nothing is repeated.
    """
    rows = []
    for engine in engines:
        for count in counts:
            with open_chat(MODEL, engine, threads=count, context=1024) as chat:
                started, first = time.perf_counter(), _cut(chat, 4, seconds)
                slow = time.perf_counter() - started > seconds
                replies = [first] if slow else [_cut(chat, new_tokens, seconds) for _ in range(repeats)]
                names = {"backend": engine, "precision": chat.backend.precision, "threads": count}
            rows += [names | _rates(reply) for reply in replies]
    return rows


def prompts(
    chat: Chat, lengths: Sequence[int] = (16, 64, 256, 1024), *, repeats: int = 1, new_tokens: int = 8
) -> list[dict[str, Any]]:
    """Time to the first token and rates for prompts of about so many tokens; nothing is taken from a cache."""
    rows = []
    fresh = chat.another(reuse_prompt=False)
    fresh.complete(WORD * 16, max_new_tokens=2)
    for length in lengths:
        rows += [_rates(fresh.complete(WORD * length, max_new_tokens=new_tokens)) for _ in range(repeats)]
    return rows


def batch_sweep(sizes: Sequence[int] = (1, 2, 4, 8), *, repeats: int = 1, new_tokens: int = 24) -> list[dict[str, Any]]:
    """Throughput and waiting of one llama.cpp that computes so many requests at once, on as many threads as for one."""
    with serve(MODEL, slots=max(sizes), context=512, engines=1) as server:
        crowd(server.route, max(sizes), new_tokens=1)
        return [crowd(server.route, size, new_tokens=new_tokens) for size in sizes for _ in range(repeats)]


def without_cache(chat: Chat, *, prompt_tokens: int = 64, new_tokens: int = 8) -> list[dict[str, Any]]:
    """Seconds for each new token with a KV cache and without one, which reads the whole text again; transformers.

    The two take turns at each token, so that whatever else the machine does meets both. The median of `new_tokens`,
    after two that do not count: the prompt is read for the first, and the second is the first of its kind, for which
    torch chooses its kernels.
    """
    import torch

    backend = _torch(chat)
    text = torch.tensor([backend.tokenize(WORD * prompt_tokens)], device=backend.model.device)
    kept, seconds = None, {True: list[float](), False: list[float]()}
    with torch.inference_mode():
        for _ in range(2 + new_tokens):
            for use, spent in seconds.items():
                began = time.perf_counter()
                read = text[:, -1:] if use and kept is not None else text
                out = backend.model(read, past_key_values=kept if use else None, use_cache=use, logits_to_keep=1)
                machine.finish(text.device)
                spent.append(time.perf_counter() - began)
                kept = out.past_key_values if use else kept
            text = torch.cat([text, out.logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return [{"KV cache": use, "seconds_per_token": statistics.median(spent[2:])} for use, spent in seconds.items()]


def operations(chat: Chat, *, steps: int = 4) -> list[dict[str, Any]]:
    """Where the time of one decoded token goes in torch: calls and seconds of matrix products, and of all the rest.

    Each operation of an unfused model is called by itself, reads its numbers from memory and writes them back.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    products, spent = ("aten.mm", "aten.addmm", "aten.bmm"), {True: [0, 0.0], False: [0, 0.0]}

    class Clock(TorchDispatchMode):
        """Times every operation that reaches torch's kernels."""

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            started = time.perf_counter()
            result = operation(*args, **(kwargs or {}))
            machine.finish(ids.device)
            part = spent[str(operation).startswith(products)]
            part[0], part[1] = part[0] + 1, part[1] + time.perf_counter() - started
            return result

    backend = _torch(chat)
    ids = torch.tensor([backend.tokenize(WORD * 16)], device=backend.model.device)
    with torch.no_grad():
        cache = backend.model(ids, use_cache=True).past_key_values
        with Clock():
            for _ in range(steps):
                cache = backend.model(ids[:, -1:], past_key_values=cache, use_cache=True).past_key_values
    names = {True: "matrix products", False: "all the rest"}
    return [{"part": names[key], "calls": n / steps, "seconds": s / steps} for key, (n, s) in spent.items()]


def share_of_bound(rows: Sequence[dict[str, Any]], bandwidth: float, model: str = MODEL) -> list[dict[str, Any]]:
    """The rows of a benchmark that ran, with the bound that `bandwidth` bytes a second set and the share reached.

    The bytes read for a token are those of the largest file that the engine keeps of the model. transformers reads its
    copy in memory, whose precision may be another than the file's.
    """
    found = []
    for row in rows:
        rate = row.get("decode_tokens_per_second")
        size = row.get("weight_bytes")
        if not rate or not size:
            continue
        precision = {"fp32": "fp32", "bf16": "bf16"}.get(row["precision"]) if row["engine"] == "transformers" else None
        read = anatomy.bytes_per_token(model, precision or "bf16", 64, file_bytes=None if precision else size)
        bound = anatomy.predicted_decode(read, bandwidth)
        names = {"model": model, "backend": row["engine"], "precision": f"{row['engine']} {row['precision']}"}
        spread = {"low": row["decode_tokens_per_second_low"], "high": row["decode_tokens_per_second_high"]}
        rates = {"predicted_tokens_per_second": bound, "measured_tokens_per_second": rate, "share": rate / bound}
        found.append(names | rates | spread)
    return found


def _cut(chat: Chat, new_tokens: int, seconds: float) -> Reply:
    """An answer that is stopped when it takes too long; its rates count what came."""
    fresh = chat.another(reuse_prompt=False)
    started, stream = time.perf_counter(), fresh.stream(STORY, max_new_tokens=new_tokens)
    for _ in stream:
        if time.perf_counter() - started > seconds:
            stream.close()
    assert stream.reply is not None
    return stream.reply


def _rates(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "ttft_seconds": reply.ttft_seconds,
        "prefill_tokens_per_second": (reply.prompt_tokens or 0) / reply.ttft_seconds,
        "decode_tokens_per_second": reply.decode_tokens_per_second,
    }


def _torch(chat: Chat) -> Any:
    if chat.backend.name != "transformers":
        raise InvalidInput("Only transformers can be looked into like this.", 'Open the chat with "transformers".')
    return chat.backend
