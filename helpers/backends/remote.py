"""A request to a model that runs elsewhere: when to try again, how long to wait, how to stop.

Both SDKs raise errors of their own, and `faults` makes each one of one family. A request is tried again only where
that helps (a quota, a fault of the server, a line that broke before the first token), never after a token has
arrived, and never for longer than its budget.


The way to a model that runs elsewhere: an address, and a key that shows itself nowhere by accident.

From what went wrong to a sentence: an HTTP status, a broken line or an unreadable answer, as the course's errors."""

from __future__ import annotations

import email.utils
import json
import queue
import random
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn

from helpers import errors
from helpers.errors import CourseError, InvalidInput, RemoteError, TimedOut
from helpers.records import Chunk

#: A provider's own words are quoted up to this length.
QUOTED_CHARACTERS = 160


class Key:
    """A secret that shows itself nowhere by accident; `reveal()` is for the one line that sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Key(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A key is not written to a file.", "Read it again from the environment or .env.")


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a server: who it is, the address that ends before `/chat/completions`, and the key it wants."""

    title: str
    address: str
    key: Key | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine, to which no proxy leads."""
        host = urllib.parse.urlsplit(self.address).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    def quote(self, text: str) -> str:
        """What a server said, short, and without the key should it have repeated it."""
        text = " ".join(text.split())
        if self.key is not None:
            text = text.replace(self.key.reveal(), "…")
        return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}…"


#: For each status: the error, what happened, and what to do. `{who}`, `{what}` and `{again}` are filled in.
STATUSES: dict[int, tuple[type[RemoteError], str, str]] = {
    401: (errors.WrongKey, "{who} does not know the key.", "Check it for missing characters, or get a new one."),
    403: (errors.NoPermission, "The key may not use {what} at {who}.", "Give it the role or scope for this."),
    404: (errors.ModelGone, "{who} does not have {what}.", "probe() lists what it offers today."),
    410: (errors.ModelGone, "{who} has retired {what}.", "probe() lists what it offers today."),
    413: (errors.RequestTooLarge, "The request is larger than {who} takes.", "Send less text, or a smaller image."),
    429: (errors.QuotaExceeded, "{who} has had too many requests with this key.", "Ask again {again}."),
}
FAULT = (errors.ServerFault, "{who} failed with status {status}.", "Ask again {again}.")
OTHER = (errors.RequestRefused, "{who} refuses the request with status {status}.", "Change what it complains of.")


def refusal(route: Route, status: int, headers: Mapping[str, str], body: str, model: str = "") -> CourseError:
    """The error that an HTTP status stands for, with the server's own words where they help."""
    code, words = _words(body)
    # A server may repeat the key that it refuses, so its words on a 401 are left out.
    said = f" It says: {route.quote(words)}" if words and status != 401 else ""
    if "content_filter" in code:
        message = f"The content filter of {route.title} stopped the request.{said}"
        return errors.ContentFiltered(message, "Say it in other words.", status=status)
    if status in (400, 413) and "context" in f"{code} {words}":
        message = f"The text is longer than the context at {route.title}.{said}"
        return errors.ContextOverflow(message, "Send less of it, or call reset().")
    if "image input is not supported" in words:  # llama.cpp says so with a 500, as if it could be asked again
        message = f"The model at {route.title} reads only text: its server has no vision projector.{said}"
        return errors.RequestRefused(message, "Leave the images out, or start it with one (--mmproj).", status=status)
    kind, message, step = STATUSES.get(status, FAULT if status >= 500 else OTHER)
    wait = _retry_after(headers)
    fill = {
        "who": route.title,
        "what": f"the model {model!r}" if model else "what was asked for",
        "again": "later" if wait is None else f"in {wait:.0f} s",
        "status": status,
    }
    return kind(message.format(**fill) + said, step.format(**fill), status=status, retry_after_seconds=wait)


def broken_line(route: Route, error: BaseException) -> RemoteError:
    """The error of a connection that could not be made, or that broke."""
    chain = _chain(error)
    text = " ".join(f"{type(e).__name__} {e}" for e in chain)
    host = urllib.parse.urlsplit(route.address).netloc
    if any(isinstance(e, ssl.SSLError) for e in chain) or "CERTIFICATE_VERIFY" in text:
        return errors.CertificateRefused(
            f"Who answers at {host} cannot prove to be {route.title}: its certificate does not fit.",
            "Check the address and the clock; behind a company's proxy, its certificate must be installed.",
        )
    if any(type(e).__name__ in ("gaierror", "NameResolutionError") for e in chain):
        return errors.UnknownAddress(
            f"The name {host} does not resolve, so {route.title} cannot be found.",
            "Check the address for a typing error, and that this machine has a network.",
        )
    if "Timeout" in text or "timed out" in text:
        return errors.TimedOut(f"{route.title} did not answer in time.", "Ask again later, or with more patience.")
    if "refused" in text or "unreachable" in text.lower() or "ConnectError" in text or "NewConnection" in text:
        return errors.Unreachable(
            f"Nothing answers at {host}.", "Check the address, and that the server runs and no firewall is between."
        )
    return errors.ConnectionLost(
        f"The connection to {route.title} broke before the answer was whole.", "Ask again; what came is in error.reply."
    )


def unreadable(route: Route, why: str) -> errors.UnreadableAnswer:
    """The error of an answer that is no answer of a language model."""
    return errors.UnreadableAnswer(
        f"{route.title} answered, but not as a language model does: {why}.",
        "Check the address: a login page or another service may answer there.",
    )


def _words(body: str) -> tuple[str, str]:
    """The code and the message of an error's body, whatever its form."""
    try:
        parsed = json.loads(body)
        error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
        if isinstance(error, dict):
            return f"{error.get('code')} {error.get('type')}", str(error.get("message") or "")
        return "", str(error)
    except ValueError:
        return "", ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    value = next((v for name, v in headers.items() if name.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _chain(error: BaseException) -> list[BaseException]:
    """An error with all that led to it."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "inner_exception", None), *one.args]
    return found


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
