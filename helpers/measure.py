"""To measure: warm up, repeat, take the median, say the spread and the machine.

An answer costs two things. *Prefill* reads the whole prompt at once and ends with the first token: it is bound by
arithmetic. *Decode* then writes one token after the other and reads every weight for each of them: it is bound by
memory bandwidth. So the time to the first token and the decode rate are told apart, here as everywhere.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import psutil

from helpers import machine
from helpers.chat import Chat
from helpers.errors import InvalidInput
from helpers.records import Measurement, Reply

if TYPE_CHECKING:
    import pandas as pd

RATES = ("ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second", "peak_memory_gib")


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest of its repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if not values:
            raise InvalidInput("A spread needs at least one value.")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def times(self, factor: float) -> Spread:
        """The same spread in another unit, or as a ratio to something."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.repeats)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g}, {self.repeats} repeats)"


@dataclass
class PeakMemory:
    """The highest resident memory of this process while it was watched, in GiB."""

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


def measure(
    chats: Sequence[Chat], prompts: Sequence[str], *, repeats: int = 3, max_new_tokens: int = 64
) -> pd.DataFrame:
    """One row for each chat, prompt and repeat: a table of `Measurement`s.

    Every chat first answers the first prompt once, unmeasured, so that caches and threads are warm. No prompt is
    taken from a KV cache and no history is kept. The memory is the whole process's, all open models together.
    """
    import pandas as pd

    if repeats < 1 or not chats or not prompts:
        raise InvalidInput("Measuring takes at least one chat, one prompt and one repeat.")
    here = str(machine.describe())
    rows = []
    for chat in chats:
        with _fresh_prompts(chat):
            _ask(chat, prompts[0], max_new_tokens)
            for prompt in prompts:
                for repeat in range(repeats):
                    with peak_memory() as peak:
                        reply = _ask(chat, prompt, max_new_tokens)
                    rows.append(asdict(_row(chat, prompt, repeat, reply, peak.gib, here)))
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


def _ask(chat: Chat, prompt: str, max_new_tokens: int) -> Reply:
    chat.reset()
    reply = chat.say(prompt, max_new_tokens=max_new_tokens)
    chat.reset()
    return reply


@contextmanager
def _fresh_prompts(chat: Chat) -> Iterator[None]:
    before = chat.backend.reuse_prompt
    chat.backend.reuse_prompt = False
    try:
        yield
    finally:
        chat.backend.reuse_prompt = before


def _row(chat: Chat, prompt: str, repeat: int, reply: Reply, peak_gib: float, here: str) -> Measurement:
    prefill = reply.prompt_tokens / reply.ttft_seconds if reply.prompt_tokens and reply.ttft_seconds else None
    return Measurement(
        model=reply.model,
        backend=reply.backend,
        precision=chat.backend.precision,
        prompt=prompt,
        repeat=repeat,
        prompt_tokens=reply.prompt_tokens,
        new_tokens=reply.new_tokens,
        ttft_seconds=reply.ttft_seconds,
        prefill_tokens_per_second=prefill,
        decode_tokens_per_second=reply.decode_tokens_per_second,
        peak_memory_gib=peak_gib,
        machine=here,
    )
