"""A process that ends with the one that started it, on every system and however that one ends."""

from __future__ import annotations

import os
import sys
import threading
import time

import psutil


def end_with(parent: int, started: float) -> None:
    """Ends this process when its parent is gone; `started` is when the parent was created, as psutil tells it.

    The parent holds the other end of our standard input, and the system closes that when the parent dies. Should a
    process that the parent forked still hold it open, a look each second at the parent's number tells; the time of
    its start tells it from a later process with the same number.
    """

    def until_closed() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    def until_gone() -> None:
        while _is_there(parent, started):
            time.sleep(1)
        os._exit(0)

    for watch in (until_closed, until_gone):
        threading.Thread(target=watch, daemon=True).start()


def _is_there(parent: int, started: float) -> bool:
    try:
        process = psutil.Process(parent)
        # Rounded: the clock that psutil adds is read anew in each process. A zombie has died.
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
