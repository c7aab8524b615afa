"""Throughput of our server ÷ that of the raw llama.cpp server behind it, at 1, 4 and 8 requests at once.

python -m benchmarks.server_overhead [--repeats 12] [--new-tokens 48]

Both are up with the same model, slots and threads, keep prompts in their slots alone, and take turns, so that a busy
machine slows both; the one that does not work is idle. The same client asks for the same answers, whole and streamed.
A single turn moves by a tenth and more with what else the host does, so fewer than a dozen say little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.report import report
from helpers import catalog, machine
from helpers.backends.remote import Key, Route, client, events
from helpers.cloud.crowd import crowd
from helpers.data import ROOT
from helpers.intervals import Spread
from helpers.models import sources
from helpers.server import serve

MODEL, SLOTS, CONTEXT = "smollm2-135m", 8, 512
AT_ONCE = (1, 4, 8)
#: llama.cpp's own server in a process of its own, until its input closes.
RAW = """
import sys, xllamacpp
options = xllamacpp.CommonParams()
options.model.path, options.n_parallel, options.n_ctx = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = int(sys.argv[4])
options.verbosity, options.ui, options.api_keys, options.cache_ram_mib = -1, False, ["raw"], 0
server = xllamacpp.Server(options)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def raw() -> Iterator[Route]:
    """The raw server's route."""
    path = str(sources.gguf(catalog.card(MODEL)))
    sizes = [path, str(SLOTS), str(SLOTS * CONTEXT), str(machine.threads())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [sys.executable, "-c", RAW, *sizes], cwd=ROOT, encoding="utf-8", errors="replace", **pipes
    ) as process:
        assert process.stdout is not None
        yield Route("llama.cpp", process.stdout.readline().strip() + "/v1", Key("raw"))
        process.kill()


def streamed(route: Route, at_once: int, new_tokens: int) -> float:
    """Tokens a second of so many streams at once."""

    def one(number: int) -> None:
        asked = [{"role": "user", "content": f"Write a story about house number {number}."}]
        body = {"messages": asked, "max_tokens": new_tokens, "temperature": 0, "ignore_eos": True, "stream": True}
        headers = {"Authorization": f"Bearer {route.key.reveal() if route.key else ''}"}
        with (
            client(route, timeout=600) as http,
            http.stream("POST", f"{route.address}/chat/completions", json=body, headers=headers) as answer,
        ):
            assert answer.is_success
            assert sum(1 for _ in events(answer.iter_bytes())) > new_tokens // 2

    count = max(2, at_once)
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as users:
        list(users.map(one, range(count)))
    return count * new_tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--new-tokens", type=int, default=48)
    asked = parser.parse_args()
    tokens, figures = asked.new_tokens, dict[str, Spread]()
    with serve(MODEL, slots=SLOTS, context=CONTEXT, engines=1) as server, raw() as plain:
        for route in (server.route, plain):
            crowd(route, SLOTS, new_tokens=2)  # warms every slot
        for n in AT_ONCE:
            whole, streams = list[float](), list[float]()
            for turn in range(asked.repeats):
                order = (server.route, plain) if turn % 2 else (plain, server.route)
                rates = {one.title: crowd(one, n, new_tokens=tokens)["tokens_per_second"] for one in order}
                whole.append(rates[server.route.title] / rates[plain.title])
                rates = {one.title: streamed(one, n, tokens) for one in order}
                streams.append(rates[server.route.title] / rates[plain.title])
            figures |= {f"whole_at_{n}": Spread.of(whole), f"streamed_at_{n}": Spread.of(streams)}
    report("server_overhead", **figures)


if __name__ == "__main__":
    main()
