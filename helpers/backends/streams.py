"""Stop strings, the same on every backend: the answer ends before the first of them, even when tokens split it.

A thread's work as an iterator: engines call back for each token, a learner wants to loop over them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TypeVar

from helpers.records import Chunk

Item = TypeVar("Item")


def iterate(work: Callable[[Callable[[Item], None], threading.Event], None]) -> Iterator[Item]:
    """What `work(put, cancelled)` puts, as it comes; an exception in the thread is raised here.

    Closing the iterator sets `cancelled` and waits until the thread has seen it, so that an engine is never left
    running behind the learner's back. `work` must look at `cancelled` between two items.
    """
    items: queue.SimpleQueue[tuple[str, Item | BaseException | None]] = queue.SimpleQueue()
    cancelled = threading.Event()

    def run() -> None:
        try:
            work(lambda item: items.put(("item", item)), cancelled)
            items.put(("end", None))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer must hear of it
            items.put(("error", error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = items.get()
            if kind == "end":
                return
            if isinstance(value, BaseException):
                raise value
            yield value  # type: ignore[misc]
    finally:
        cancelled.set()
        thread.join()


def until_stop(chunks: Iterator[Chunk], stop: tuple[str, ...]) -> Generator[Chunk, None, None]:
    """The chunks up to the first stop string, which is not part of them; the engine is stopped there.

    Text that may be the beginning of a stop string is held back until the next chunk decides.

    >>> pieces = iter([Chunk("one E", 1), Chunk("ND two", 2), Chunk("", 2, "length")])
    >>> [c.text for c in until_stop(pieces, ("END",))]
    ['one ', '']
    """
    held = ""
    # Closing this generator early closes the engine's, which is how an engine hears that nobody listens any more.
    with closing(chunks) if isinstance(chunks, Generator) else nullcontext():
        if not stop:
            yield from chunks
            return
        for chunk in chunks:
            held += chunk.text
            found = [held.index(s) for s in stop if s in held]
            if found:
                yield replace(chunk, text=held[: min(found)], finish_reason="stop")
                return
            keep = 0 if chunk.finish_reason else _possible_start(held, stop)
            ready, held = held[: len(held) - keep], held[len(held) - keep :]
            yield replace(chunk, text=ready)


def _possible_start(text: str, stop: tuple[str, ...]) -> int:
    """How many characters at the end of `text` may begin a stop string."""
    longest = max((len(s) - 1 for s in stop), default=0)
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stop)), 0)
