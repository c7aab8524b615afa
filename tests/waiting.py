"""Waiting for what another process or thread does: a bounded poll instead of a guess at how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(done: Callable[[], object], seconds: float = 120) -> bool:
    """Whether `done` became true within the time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
