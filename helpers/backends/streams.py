"""Answers as they come: a thread's work as an iterator, and the end of a text at its first stop string.

Engines call back for each token and SDKs block until one comes; whoever asks wants to loop over them, and to leave.
"""

from __future__ import annotations

import asyncio
import math
import platform
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from helpers.records import Chunk

_Item = TypeVar("_Item")
#: How often a wait looks up: Windows sees an interrupt only between two waits.
LOOK_SECONDS = 0.1


def tokens_at_once(weight_bytes: int, system: str = platform.system()) -> int:
    """How many tokens of a prompt an engine reads before it looks whether it shall stop: about a second's work.

    Reading a token passes once through all weights. On a Mac the GPU does, which is fast enough for llama.cpp's own
    number.

    >>> [tokens_at_once(size, "Linux") for size in (98_000_000, 491_000_000, 1_117_000_000)]
    [256, 64, 16]
    """
    if system == "Darwin":
        return 512
    return max(8, min(512, 1 << (2**35 // max(1, weight_bytes)).bit_length() - 1))


def iterate(
    work: Callable[[Callable[[_Item], None], threading.Event], None],
    *,
    cancelled: threading.Event | None = None,
    cancel: threading.Event | None = None,
    longest: Callable[[], float] | None = None,
) -> Generator[_Item, None, None]:
    """What `work(put, cancelled)` puts, as it comes; an exception in the thread is raised here.

    Closing the iterator sets `cancelled` and waits until the thread has seen it, so that an engine is never left
    running behind the learner's back. `work` must look at `cancelled` between two items, and more often where an item
    takes long. Another thread that sets it ends the work too; the iteration then ends as if all had come.

    With `cancel`, which another thread may set, the iteration ends at any moment. With `longest`, the seconds that the
    next item may take, it ends in a TimeoutError that tells them. The thread, which is then in a read that ends by
    itself, is not waited for.
    """
    items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    left = threading.Event() if cancelled is None else cancelled
    thread = threading.Thread(target=_run, args=(work, items, left), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = _next(items, cancel, longest)
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    except BaseException:
        left.set()
        raise
    finally:
        if cancel is None:
            thread.join()
        else:
            left.set()


def _run(work: Callable[..., None], items: queue.SimpleQueue[tuple[str, Any]], left: threading.Event) -> None:
    try:
        work(lambda item: items.put(("item", item)), left)
        items.put(("end", None))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer must hear of it
        items.put(("error", error))


def _next(
    items: queue.SimpleQueue[tuple[str, Any]], cancel: threading.Event | None, longest: Callable[[], float] | None
) -> tuple[str, Any]:
    limit = math.inf if longest is None else longest()
    deadline = time.monotonic() + limit
    while cancel is None or not cancel.is_set():
        try:
            return items.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            if time.monotonic() > deadline:
                raise TimeoutError(limit) from None
    return "end", None


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


async def merged(sources: Sequence[AsyncIterator[_Item]], silent_seconds: float) -> AsyncGenerator[_Item | None]:
    """The pieces of all sources as they come; None after a while of silence. A reader that is slow stops no source."""
    found: asyncio.Queue[_Item | Exception | None] = asyncio.Queue()

    async def drain(source: AsyncIterator[_Item]) -> None:
        try:
            async for piece in source:
                found.put_nowait(piece)
            found.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - handed on to the reader
            found.put_nowait(error)

    tasks = [asyncio.create_task(drain(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            try:
                async with asyncio.timeout(silent_seconds):
                    item = await found.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
