"""The gate in front of llama.cpp's server, in a process of its own: who may ask, how much, and how soon.

llama.cpp's server does the work: slots, continuous batching, streaming, schemas. The gate adds what a class needs
(a key for each person, limits, a model's name that is checked), keeps typed control tokens text, and can delay each
request as a network would. It ends with the process that started it.

Started by `serve`; the first line on its standard input is its configuration, the first line that it prints is its
port. While that input stays open it lives.


How much one key may ask of a server: requests a minute, and at once.

The people who may use a server: a key for each, and their limits."""

from __future__ import annotations

import csv
import hmac
import http.client
import json
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.backends.remote import Key
from helpers.errors import CourseError, InvalidInput
from helpers.server.slots import Slots, as_chat
from helpers.server.watchdog import end_with


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


@dataclass(frozen=True, slots=True)
class Guest:
    """One person's key to a server, with its limits; None is no limit."""

    name: str
    key: Key
    requests_per_minute: int | None = None
    at_once: int | None = None

    def entry(self) -> dict[str, Any]:
        """What the server's process is told, key included."""
        limits = {"requests_per_minute": self.requests_per_minute, "at_once": self.at_once}
        return {"name": self.name, "key": self.key.reveal(), **limits}


def class_keys(file: Path, students: int = 0, **limits: int | None) -> list[Guest]:
    """The guests of a class from a file of `name,key` lines; for a file that is not there, that many are made.

    The file is readable by its owner alone. Give each student their line, and keep the file out of the repository.
    """
    if not file.exists():
        if students < 1:
            raise InvalidInput(f"There is no file {file}.", "Say how many keys to make: --students 25.")
        file.touch(0o600, exist_ok=False)
        lines = [f"student{n:02},{secrets.token_urlsafe(24)}\n" for n in range(1, students + 1)]
        file.write_text("".join(lines), encoding="utf-8")
    with file.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.reader(text) if row]
    if not rows or any(len(row) != 2 for row in rows):
        raise InvalidInput(f"{file} is not a list of keys.", "Each line is a name, a comma and a key.")
    return [Guest(name, Key(key), **limits) for name, key in rows]


MOST_BYTES = 8 * 1024**2
#: Routes of llama.cpp that go through as they are. Its others could change or read what belongs to somebody else.
UNVERSIONED = {"/tokenize", "/apply-template"}
PASSED = {"/chat/completions", "/completions"} | UNVERSIONED


class Refused(Exception):
    """A request that the gate answers itself, with an HTTP status."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class Gate(ThreadingHTTPServer):
    """The HTTP server that people and notebooks talk to."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, config: dict[str, Any]) -> None:
        self.model: str = config["model"]
        self.delay_seconds: float = config["latency_seconds"]
        self.most_new_tokens: int | None = config["most_new_tokens"]
        self.guests = {entry.pop("key"): Limits(**entry) for entry in config["guests"]}
        self.context: int = config["context"]
        sizes = {name: config[name] for name in ("model", "context", "threads")}
        each = -(-config["slots"] // config["engines"])
        self.engines = [Slots(config["path"], slots=each, **sizes) for _ in range(config["engines"])]
        self._busy = [0] * config["engines"]
        self._lock = threading.Lock()
        super().__init__((config["host"], config["port"]), Handler)

    @contextmanager
    def engine(self) -> Iterator[Slots]:
        """The engine with the fewest requests, counted busy while the block runs."""
        with self._lock:
            place = self._busy.index(min(self._busy))
            self._busy[place] += 1
        try:
            yield self.engines[place]
        finally:
            with self._lock:
                self._busy[place] -= 1

    def guest(self, header: str | None) -> Limits:
        """Whose key a request carries."""
        given = (header or "").removeprefix("Bearer ").encode()
        # Every key is compared, in constant time, so that the time of a refusal says nothing.
        found = [guest for key, guest in self.guests.items() if hmac.compare_digest(key.encode(), given)]
        if not found:
            raise Refused(401, "invalid_api_key", "This server does not know the key.")
        return found[0]

    def models(self) -> dict[str, Any]:
        """The list of models in OpenAI's form: one."""
        entry = {"id": self.model, "object": "model", "created": 0, "owned_by": "this course"}
        return {"object": "list", "data": [entry]}

    def properties(self) -> dict[str, Any]:
        """What a client needs to count tokens as the server does; nothing about this machine."""
        names = ("chat_template", "bos_token", "eos_token", "model_ftype")
        return {name: self.engines[0].properties.get(name) for name in names} | {"context": self.context}


class Handler(BaseHTTPRequestHandler):
    """One connection. Nothing is logged: a log could keep keys and what people wrote."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a token is a small packet, and must not wait for the next
    server: Gate

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""

    def do_GET(self) -> None:
        """Health, the list of models, the properties."""
        self._answer()

    def do_POST(self) -> None:
        """Everything that computes."""
        self._answer()

    def _answer(self) -> None:
        try:
            path = self.path.partition("?")[0].removeprefix("/v1")
            if path == "/health":
                return self._json(200, {"status": "ok"})
            guest = self.server.guest(self.headers.get("Authorization") or self.headers.get("api-key"))
            if self.command == "GET":
                time.sleep(self.server.delay_seconds)
                known = {"/models": self.server.models, "/props": self.server.properties}
                if path in known:
                    return self._json(200, known[path]())
            if self.command == "GET" or path not in PASSED:
                raise Refused(404, "not_found", f"There is no route {path!r} here.")
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                raise Refused(413, "too_large", f"A request may have {MOST_BYTES // 1024**2} MiB.")
            self._compute(guest, path, self.rfile.read(int(length)))
        except Refused as error:
            self._refuse(error)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # the client has gone, and the engine stops with its connection

    def _compute(self, guest: Limits, path: str, body: bytes) -> None:
        request = self._checked(body)
        wait = None if path in UNVERSIONED else guest.enter()
        if wait is not None:
            raise Refused(429, "rate_limit_exceeded", "This key has reached its limit.", wait)
        try:
            time.sleep(self.server.delay_seconds)
            with self.server.engine() as engine:
                typed = engine.as_typed(request) if path == "/chat/completions" else None
                target = path if path in UNVERSIONED else f"/v1{'/completions' if typed else path}"
                with engine.send("POST", target, json.dumps(typed or request).encode()) as answer:
                    self._pass_on(answer, to_chat=typed is not None)
        except InvalidInput as error:  # the template refuses the conversation
            raise Refused(400, "invalid_request", error.message) from error
        finally:
            if path not in UNVERSIONED:
                guest.leave()

    def _checked(self, body: bytes) -> dict[str, Any]:
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Refused(400, "invalid_json", "The request is no JSON.") from error
        if not isinstance(request, dict):
            raise Refused(400, "invalid_json", "The request is no JSON object.")
        if request.get("model") not in (None, "", self.server.model):
            raise Refused(404, "model_not_found", f"This server has {self.server.model!r} and no other model.")
        most = self.server.most_new_tokens
        if most is not None:
            request["max_tokens"] = min(most, request.get("max_tokens") or most)
        return request

    def _pass_on(self, answer: http.client.HTTPResponse, *, to_chat: bool) -> None:
        """The engine's answer to the client, as it comes."""
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in _events(answer):
            data = as_chat(event) if to_chat and answer.status == 200 else event
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, error: Refused) -> None:
        # What the client still sends is not read, so the connection cannot serve another request.
        self.close_connection = True
        message = {"error": {"message": str(error), "type": error.code, "code": error.code}}
        self._json(error.status, message, error.retry_after)

    def _json(self, status: int, value: dict[str, Any], retry_after: float | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            self.send_header("Retry-After", f"{max(1, round(retry_after))}")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _events(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """A stream's events one by one; a whole answer as one."""
    event = b""
    for line in iter(answer.readline, b""):
        event += line
        if not line.strip():
            yield event
            event = b""
    if event:
        yield event


def main() -> None:
    """Serves until the parent is gone."""
    config = json.loads(sys.stdin.buffer.readline())
    end_with(**config.pop("parent"))
    try:
        gate = Gate(config)
    except (CourseError, RuntimeError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"port": gate.server_address[1]}), flush=True)
    gate.serve_forever()


if __name__ == "__main__":
    main()
