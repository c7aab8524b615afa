"""Decode rate through open_chat ÷ decode rate of raw xllamacpp, on the same file, in the same run.

python -m benchmarks.helper_overhead [--model smollm2-135m --model my.gguf …] [--repeats 21]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import xllamacpp

from benchmarks.report import report
from helpers import catalog, machine
from helpers.chat import Chat, open_chat
from helpers.intervals import Spread
from helpers.models import local, sources
from helpers.records import Turn

PROMPT = "Tell me a long story about a small river and the people who live beside it."
NEW_TOKENS = 96


def raw_server(path: str) -> Any:
    """llama.cpp as its own documentation opens it, with the same context and threads."""
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.verbosity = path, 4096, 1, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = machine.threads()
    return xllamacpp.Server(options)


def raw_rate(server: Any, tokens: list[int]) -> float:
    """Tokens a second after the first, by the clock around llama.cpp's own callback."""
    times: list[float] = []

    def receive(event: dict[str, Any]) -> bool:
        if event["choices"][0]["finish_reason"] is None:
            times.append(time.perf_counter())
        return False

    request = {"prompt": tokens, "max_tokens": NEW_TOKENS, "temperature": 0, "stream": True, "cache_prompt": False}
    server.handle_completions(request, receive)
    return (len(times) - 1) / (times[-1] - times[0])


def our_rate(chat: Chat) -> float:
    """Tokens a second after the first, as the chat itself tells."""
    return chat.say(PROMPT).decode_tokens_per_second or 0.0


def compare(model: str, repeats: int) -> None:
    """Reports the two rates of one model, and their ratio pair by pair."""
    file = Path(model) if local.is_path(model) else sources.gguf(catalog.card(model))
    with open_chat(model, "llamacpp", reuse_prompt=False, max_new_tokens=NEW_TOKENS) as chat:
        server, tokens = raw_server(str(file)), list(chat.backend.encode([Turn("user", PROMPT)]).tokens or ())
        sides: dict[str, list[float]] = {"ours": [], "raw": []}
        for repeat in range(repeats + 1):
            # Side by side, so that a slow moment meets both, and in turns, so that none is always the second.
            for side in ("ours", "raw") if repeat % 2 else ("raw", "ours"):
                chat.reset()
                rate = our_rate(chat) if side == "ours" else raw_rate(server, tokens)
                sides[side].append(rate)
    ours, raw = (sides[side][1:] for side in ("ours", "raw"))  # the first of each warms up
    report(
        f"helper_overhead {file.name}",
        helper_to_raw_decode=Spread.of([a / b for a, b in zip(ours, raw, strict=True)]),
        helper_tokens_per_second=Spread.of(ours),
        raw_tokens_per_second=Spread.of(raw),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="a name of the catalog or a GGUF file; may be given again")
    parser.add_argument("--repeats", type=int, default=21)
    asked = parser.parse_args()
    for model in asked.model or ["smollm2-135m"]:
        compare(model, asked.repeats)


if __name__ == "__main__":
    main()
