"""A thread's work as an iterator: engines call back for each token, a learner wants to loop over them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

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
