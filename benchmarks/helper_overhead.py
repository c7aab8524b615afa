"""Decode rate through open_chat ÷ decode rate of raw xllamacpp, on the same file, in the same run.

python -m benchmarks.helper_overhead [--model smollm2-135m --model my.gguf …] [--repeats 60]

A processor that is shared with others changes its speed from second to second, so turns are short and many. One pause
of the machine moves a turn's mean by a tenth and falls on one side only, so a turn's rate is that of its median token:
of the seconds between each token and the next, on both sides.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
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
NEW_TOKENS = 24


def raw_server(path: str) -> Any:
    """llama.cpp as its own documentation opens it, with the same context and threads."""
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.verbosity = path, 4096, 1, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = machine.threads()
    return xllamacpp.Server(options)


def rate(times: Sequence[float]) -> float:
    """Tokens a second of the median token, of the times at which each came."""
    return 1 / statistics.median(later - one for one, later in itertools.pairwise(times))


def raw_rate(server: Any, tokens: list[int]) -> float:
    """Through llama.cpp's own callback."""
    times: list[float] = []

    def receive(event: dict[str, Any]) -> bool:
        if event["choices"][0]["finish_reason"] is None:
            times.append(time.perf_counter())
        return False

    request = {"prompt": tokens, "max_tokens": NEW_TOKENS, "temperature": 0, "stream": True, "cache_prompt": False}
    server.handle_completions(request, receive)
    return rate(times)


def our_rate(chat: Chat) -> float:
    """Through a chat's stream, as a notebook shows an answer while it is written."""
    return rate([time.perf_counter() for _ in chat.stream(PROMPT)])


def compare(model: str, repeats: int) -> None:
    """Reports the two rates of one model, and their ratio pair by pair.

    Each side is opened first in one half of the turns: where in memory the weights come to lie differs by some percent.
    """
    file = Path(model) if local.is_path(model) else sources.gguf(catalog.card(model))
    ours: list[float] = []
    raw: list[float] = []
    for first in ("ours", "raw"):
        with ExitStack() as stack:
            server = raw_server(str(file)) if first == "raw" else None
            chat = stack.enter_context(open_chat(model, "llamacpp", reuse_prompt=False, max_new_tokens=NEW_TOKENS))
            server = server or raw_server(str(file))
            tokens = list(chat.backend.encode([Turn("user", PROMPT)]).tokens or ())
            pairs = [turn(chat, server, tokens, ours_first=bool(repeat % 2)) for repeat in range(repeats // 2 + 1)]
            del server
        ours += [one for one, _ in pairs[1:]]  # the first warms up
        raw += [other for _, other in pairs[1:]]
    report(
        f"helper_overhead {file.name}",
        helper_to_raw_decode=Spread.of([a / b for a, b in zip(ours, raw, strict=True)]),
        helper_tokens_per_second=Spread.of(ours),
        raw_tokens_per_second=Spread.of(raw),
    )


def turn(chat: Chat, server: Any, tokens: list[int], *, ours_first: bool) -> tuple[float, float]:
    """Our rate and the raw one, one right after the other: a slow moment meets both, and none is always the second."""
    chat.reset()
    if ours_first:
        return our_rate(chat), raw_rate(server, tokens)
    other = raw_rate(server, tokens)
    return our_rate(chat), other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="a name of the catalog or a GGUF file; may be given again")
    parser.add_argument("--repeats", type=int, default=60)
    asked = parser.parse_args()
    for model in asked.model or ["smollm2-135m"]:
        compare(model, asked.repeats)


if __name__ == "__main__":
    main()
