"""Other threads and processes: a bounded poll for what they do instead of a guess at its time, and a server in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import BaseServer


def until(done: Callable[[], object], seconds: float = 120, every: float = 0.02) -> bool:
    """Whether `done` became true within the time; it is asked again each `every` seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """The server answers, in a thread, while the block runs."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
