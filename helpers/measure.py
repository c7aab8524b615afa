"""To measure and to compare: warm up, repeat, take the median, say the spread and the machine.

An answer costs two things. *Prefill* reads the whole prompt at once and ends with the first token: it is bound by
arithmetic. *Decode* then writes one token after the other and reads every weight for each of them: it is bound by
memory bandwidth. So the time to the first token and the decode rate are told apart, here as everywhere.

    table = compare({"four bits": open_chat("smollm2-135m"), "Phi": open_chat("phi-4-mini")}, ["用中文说你好。"])

To compare settings, open the model once and take `chat.another(…)` for each of them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from helpers import machine
from helpers.chat import Chat
from helpers.errors import InvalidInput
from helpers.intervals import Spread
from helpers.records import Reply

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


RATES = ("ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second", "peak_memory_gib")


@dataclass
class PeakMemory:
    """The highest resident memory of this process while it was watched, in GiB. A GPU's own memory is not in it."""

    gib: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def watch(self) -> None:
        """Reads the memory every 10 ms: often enough for a model, seldom enough to cost less than 1 %."""
        process = psutil.Process()
        while True:
            self.gib = max(self.gib, process.memory_info().rss / machine.GIB)
            if self._stop.wait(0.01):
                return


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """A `PeakMemory` that is read while the block runs."""
    peak = PeakMemory()
    watcher = threading.Thread(target=peak.watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        peak._stop.set()
        watcher.join()


def answers(
    chats: Sequence[Chat],
    prompts: Sequence[str],
    *,
    repeats: int = 3,
    max_new_tokens: int = 64,
    template: bool = True,
    warm_up: bool = True,
) -> pd.DataFrame:
    """One row for each chat, prompt and repeat: what was asked, its tokens, seconds, rates and memory, and the machine.

    Every chat first begins to answer the first prompt, unmeasured, so that caches and threads are warm; `warm_up` may
    be left out where each has answered just before. No prompt is taken from a KV cache and no history is kept. The
    memory is the whole process's, all open models together. Without `template` the prompts are continued as plain text:
    where only decoding counts, there is less to read.
    """
    import pandas as pd

    if repeats < 1 or not chats or not prompts:
        raise InvalidInput("Measuring takes at least one chat, one prompt and one repeat.")
    here = str(machine.describe())
    rows, ask = [], Chat.say if template else Chat.complete
    for chat in chats:
        if warm_up:
            ask(_alone(chat), prompts[0], max_new_tokens=min(2, max_new_tokens))
        for prompt in prompts:
            for repeat in range(repeats):
                with peak_memory() as peak:
                    reply = ask(_alone(chat), prompt, max_new_tokens=max_new_tokens)
                rows.append(_row(chat, prompt, repeat, reply, peak.gib, here))
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame, by: Sequence[str] = ("model", "backend", "precision")) -> pd.DataFrame:
    """The median of each rate with its lowest and highest repeat, one row for each group."""
    figures = {
        f"{rate}{suffix}": (rate, how)
        for rate in RATES
        for suffix, how in (("", "median"), ("_low", "min"), ("_high", "max"))
    }
    return rows.groupby(list(by), sort=False, dropna=False).agg(repeats=("repeat", "size"), **figures).reset_index()


def memory_bandwidth(threads: int | None = None, *, size: int = 256 * 1024**2, repeats: int = 7) -> Spread:
    """The bytes a second that `threads` threads read from memory: a sum over `size` bytes, far beyond any cache."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or machine.threads())
    try:
        numbers = torch.ones(size // 4, dtype=torch.float32)
        numbers.sum()
        rates = []
        for _ in range(repeats):
            started = time.perf_counter()
            numbers.sum()
            rates.append(size / (time.perf_counter() - started))
        return Spread.of(rates)
    finally:
        torch.set_num_threads(before)


def _row(chat: Chat, prompt: str, repeat: int, reply: Reply, peak_gib: float, here: str) -> dict[str, Any]:
    prefill = reply.prompt_tokens / reply.ttft_seconds if reply.prompt_tokens and reply.ttft_seconds else None
    return {
        "model": reply.model,
        "backend": reply.backend,
        "precision": chat.backend.precision,
        "prompt": prompt,
        "repeat": repeat,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        "ttft_seconds": reply.ttft_seconds,
        "prefill_tokens_per_second": prefill,
        "decode_tokens_per_second": reply.decode_tokens_per_second,
        "peak_memory_gib": peak_gib,
        "machine": here,
    }


def compare(
    chats: Mapping[str, Chat] | Sequence[Chat], prompts: Sequence[str], *, warm_up: bool = True, **sampling: Any
) -> pd.DataFrame:
    """One row for each prompt and chat: the answer, its tokens, its seconds and its decode rate.

    Each prompt is asked without history, in any language. Chats without names are called after model, engine and
    precision. `seconds` run from the question to the last token. Each chat is warmed up on the first prompt before;
    `warm_up=False` leaves that out: for a model that was just opened by llama.cpp, which reads all weights once itself,
    or that answered just before.
    """
    import pandas as pd

    named = dict(chats) if isinstance(chats, Mapping) else _names(chats)
    if isinstance(prompts, str) or not prompts or not named:
        raise InvalidInput("A comparison takes at least one chat and a list of at least one prompt.")
    for chat in named.values() if warm_up else ():
        _answer_and_cost(chat, prompts[0], sampling | {"max_new_tokens": 1})
    rows = []
    for number, prompt in enumerate(prompts, start=1):
        for name, chat in named.items():
            rows.append(
                {"prompt_number": number, "prompt": prompt, "chat": name} | _answer_and_cost(chat, prompt, sampling)
            )
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> tuple[Axes, Axes]:
    """Two Axes: seconds for each prompt, by its number, and the decode rate of each chat over all prompts."""
    import matplotlib.pyplot as plt

    from helpers import plots

    plots.use_theme()
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained", width_ratios=(3, 2))
    chats = list(dict.fromkeys(table["chat"]))
    rate = table.dropna(subset=["decode_tokens_per_second"]).groupby("chat", sort=False)["decode_tokens_per_second"]
    shades = plots.series_colours(len(chats))
    hatches = plots.parted(shades, plots.HATCHES)
    for number, (name, shade) in enumerate(zip(chats, shades, strict=True)):
        part, look = table[table["chat"] == name], {"hatch": hatches[number], "hatchcolor": "white"}
        width = 0.8 / len(chats)
        places = part["prompt_number"] + (number - (len(chats) - 1) / 2) * width
        left.bar(places, part["seconds"], width * 0.92, color=shade, label=name, **look)
        if name in rate.groups:
            rates = rate.get_group(name)
            middle = rates.median()
            arms = [[middle - rates.min()], [rates.max() - middle]]
            right.errorbar(middle, -number, xerr=arms, fmt="o", **(plots.SPREAD | {"color": shade}))
    left.set(xlabel="prompt", ylabel="whole answer (s)", xticks=sorted(set(table["prompt_number"])))
    left.grid(axis="x", visible=False)
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(chats))
    right.set(yticks=[-n for n in range(len(chats))], xlabel="decode (tokens/s), median and range")
    right.set_yticklabels(chats)
    right.set_ylim(-len(chats) + 0.4, 0.6)
    right.set_xlim(left=0)
    return left, right


def _names(chats: Sequence[Chat]) -> dict[str, Chat]:
    names = [f"{chat.card.name}, {chat.backend.name} {chat.backend.precision}" for chat in chats]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if twice:
        raise InvalidInput(
            f"Two chats would both be called {min(twice)!r}.",
            'Name them: compare({"cold": one, "warm": two}, prompts).',
        )
    return dict(zip(names, chats, strict=True))


def _answer_and_cost(chat: Chat, prompt: str, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The answer and its cost."""
    started = time.perf_counter()
    reply = _alone(chat).say(prompt, **sampling)
    seconds = time.perf_counter() - started
    return {
        "answer": reply.text,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        "seconds": seconds,
        "decode_tokens_per_second": reply.decode_tokens_per_second,
    }


def _alone(chat: Chat) -> Chat:
    """A conversation of its own for each question: without history, and with nothing taken from a cache."""
    return chat.another(reuse_prompt=False)
