"""Decode rate through open_chat ÷ decode rate of raw xllamacpp, on the same file, in the same run.

python -m benchmarks.helper_overhead [--repeats 11]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import xllamacpp

from benchmarks.report import report
from helpers import catalog, machine, weights
from helpers.chat import open_chat
from helpers.measure import Spread
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    path = weights.gguf(catalog.card("smollm2-135m"))
    with open_chat("smollm2-135m", backend="llamacpp", max_new_tokens=NEW_TOKENS) as chat:
        chat.backend.reuse_prompt = False
        server, tokens = raw_server(str(path)), chat.backend.encode([Turn("user", PROMPT)]).tokens
        ours, raw = [], []
        for _ in range(repeats + 1):
            # One after the other, so that a slow moment of the machine meets both.
            chat.reset()
            ours.append(chat.say(PROMPT).decode_tokens_per_second or 0.0)
            raw.append(raw_rate(server, list(tokens or ())))
    ratios = [a / b for a, b in zip(ours[1:], raw[1:], strict=True)]  # the first of each warms up
    report(
        "helper_overhead",
        helper_to_raw_decode=Spread.of(ratios),
        helper_tokens_per_second=Spread.of(ours[1:]),
        raw_tokens_per_second=Spread.of(raw[1:]),
    )


if __name__ == "__main__":
    main()
