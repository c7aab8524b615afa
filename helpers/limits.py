"""How much one key may ask of a server: requests a minute, and at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Limits:
    """One key's limits, and what it has used of them."""

    name: str
    requests_per_minute: int | None = None
    at_once: int | None = None
    _times: deque[float] = field(default_factory=deque)
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> float | None:
        """Counts a request in; if a limit is reached, the seconds to wait instead."""
        now = time.monotonic()
        with self._lock:
            while self._times and now - self._times[0] > 60:
                self._times.popleft()
            if self.requests_per_minute is not None and len(self._times) >= self.requests_per_minute:
                return 60 - (now - self._times[0])
            if self.at_once is not None and self._running >= self.at_once:
                return 1.0
            self._times.append(now)
            self._running += 1
        return None

    def leave(self) -> None:
        """Counts a request out."""
        with self._lock:
            self._running -= 1
