"""A request to a model that runs elsewhere: when to try again, how long to wait, how to stop.

Both SDKs raise errors of their own, and `faults` makes each one of one family. A request is tried again only where
that helps (a quota, a fault of the server, a line that broke before the first token), never after a token has
arrived, and never for longer than its budget.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from helpers.errors import RemoteError, TimedOut
from helpers.faults import broken_line, refusal, unreadable
from helpers.records import Chunk
from helpers.routes import Route


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may last, in seconds.

    `budget_seconds` is for all attempts and the waits between them until the first token; `read_seconds` is the
    longest silence within one attempt. The waits double from `first_wait_seconds`; a server's Retry-After goes first.
    """

    budget_seconds: float = 60.0
    attempts: int = 4
    first_wait_seconds: float = 0.5
    connect_seconds: float = 5.0
    read_seconds: float = 60.0

    def wait_seconds(self, attempt: int, asked: float | None) -> float:
        """The pause after the attempt of this number; a part of it is chance, so that clients do not come in step."""
        if asked is not None:
            return asked
        return self.first_wait_seconds * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)


class Call:
    """One request while it runs. It is made in a thread, so `cancel()` ends it at any moment, silence included."""

    def __init__(self, patience: Patience, route: Route) -> None:
        self.attempts = 0
        self._patience, self._route = patience, route
        self._cancelled = threading.Event()
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._deadline = time.monotonic() + patience.budget_seconds

    def cancel(self) -> None:
        """Ends the call; its last chunk has the finish reason "cancelled"."""
        self._cancelled.set()
        self._items.put(None)

    def chunks(self, start: Callable[[], Generator[Chunk, None, None]]) -> Iterator[Chunk]:
        """What `start()` yields; it is called again after an error that may pass, while the patience lasts."""
        last = Chunk("", 0)
        try:
            while True:
                self.attempts += 1
                try:
                    for last in self._attempt(start):
                        yield last
                    return
                except RemoteError as error:
                    self._give_up_or_wait(error, started=last.new_tokens > 0)
                if self._cancelled.is_set():
                    yield Chunk("", 0, "cancelled")
                    return
        finally:
            self._cancelled.set()  # tells the thread that nobody listens any more

    def _give_up_or_wait(self, error: RemoteError, *, started: bool) -> None:
        error.attempts = self.attempts
        wait = self._patience.wait_seconds(self.attempts, error.retry_after_seconds)
        too_late = time.monotonic() + wait > self._deadline
        if started or not error.worth_retrying or self.attempts >= self._patience.attempts or too_late:
            raise error
        self._cancelled.wait(wait)

    def _attempt(self, start: Callable[[], Generator[Chunk, None, None]]) -> Iterator[Chunk]:
        def work() -> None:
            try:
                with closing(start()) as chunks:
                    for chunk in chunks:
                        if self._cancelled.is_set():
                            return
                        self._items.put(chunk)
                self._items.put(StopIteration)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
                self._items.put(error)

        threading.Thread(target=work, daemon=True).start()
        last = Chunk("", 0)
        while True:
            item = self._next(first=last.new_tokens == 0)
            if item is StopIteration:
                return
            if item is None:
                yield Chunk("", last.new_tokens, "cancelled", last.prompt_tokens)
                return
            if isinstance(item, BaseException):
                raise item
            last = item
            yield item

    def _next(self, *, first: bool) -> Any:
        longest = self._patience.read_seconds
        if first:
            longest = min(longest, max(0.0, self._deadline - time.monotonic()))
        try:
            return self._items.get(timeout=longest)
        except queue.Empty:
            where = "no first token" if first else "no further token"
            raise TimedOut(
                f"{self._route.title} was reached and sent {where} for {longest:.3g} seconds.",
                "Ask again later, ask for less, or wait longer: patience=Patience(read_seconds=…, budget_seconds=…).",
            ) from None


def fetch(route: Route, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = 10.0) -> dict[str, Any]:
    """The JSON object at `path` below the route's address, or an error of the family."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if route.key is not None:
        headers["Authorization"] = f"Bearer {route.key.reveal()}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(route.address + path, data, headers)
    # A proxy must not see what is meant for this machine.
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if route.is_loopback else []))
    try:
        with opener.open(request, timeout=seconds) as answer:
            result = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(route, error.code, dict(error.headers), error.read().decode(errors="replace")) from None
    except OSError as error:
        raise broken_line(route, error) from None
    except ValueError:
        raise unreadable(route, "it sent no JSON") from None
    if not isinstance(result, dict):
        raise unreadable(route, "it sent JSON of another form")
    return result
