"""A server of our own that speaks OpenAI's protocol: `with serve("smollm2-135m") as server: …`.

It runs llama.cpp with several slots in a process of its own, on a free port of this machine's loopback, behind a key
made for the run. That process ends with the one that started it, also when that one is killed. While a server runs,
`open_chat(model, provider="local")` finds it.

    python -m helpers.server.serve                                 for yourself, until Ctrl+C
    python -m helpers.server.serve --class class.csv --students 25 --host 0.0.0.0 --port 8080     for a class
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

import psutil

from helpers import catalog, machine
from helpers.backends.providers import announce, leave_note, withdraw
from helpers.backends.remote import Key, Route, fetch
from helpers.data import ROOT
from helpers.errors import BackendUnavailable, CourseError, InvalidInput, Unreachable
from helpers.models import sources
from helpers.server.gate import Guest, class_keys

#: A large model takes its time to load.
START_SECONDS = 180.0


class Server:
    """A running server. Use it in a `with`, or `close` it; it ends with this process in any case."""

    def __init__(self, process: subprocess.Popen[bytes], model: str, slots: int, address: str, key: Key) -> None:
        self.model, self.slots, self.address, self.key = model, slots, address, key
        self.route = Route("the local server", address, key)
        self._process = process
        self._end = weakref.finalize(self, _end, process)  # also at the exit of this process
        announce(self.route)

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process.poll() is None

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        with contextlib.suppress(CourseError):
            return self.is_running() and fetch(self.route, "/health", seconds=5) == {"status": "ok"}
        return False

    def close(self) -> None:
        """Ends the server; closing twice is harmless."""
        withdraw(self.route)
        self._end()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self.is_running() else "ended"
        return f"Server({self.model!r} at {self.address}, {self.slots} slots, {state})"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A running server cannot be written to a file.", "Start one where you need it.")


def serve(
    model: str = "smollm2-135m",
    *,
    slots: int = 4,
    context: int = 2048,
    threads: int | None = None,
    engines: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    guests: Sequence[Guest] = (),
    most_new_tokens: int | None = None,
    latency_seconds: float = 0.0,
) -> Server:
    """A server with `model`, ready to answer.

    `slots` requests are computed together, each with a context of `context` tokens; more wait for a slot. They are
    shared by `engines` that use `threads` each, as many as the cores hold; the weights are in memory once. `port` 0
    takes a free one. Without `guests` the server has one key, made now. `latency_seconds` delays every request, as a
    distant network would.
    """
    if slots < 1 or context < 64 or latency_seconds < 0:
        raise InvalidInput("A server has at least one slot, 64 tokens of context, and no negative latency.")
    if importlib.util.find_spec("xllamacpp") is None:
        raise BackendUnavailable("A server needs the package xllamacpp.", "pip install xllamacpp")
    threads = threads or machine.threads()
    card = catalog.card(model)
    path = sources.gguf(card)
    machine.require_memory(path.stat().st_size, card.title)
    people = list(guests) or [Guest("you", Key(secrets.token_urlsafe(24)))]
    engines = min(slots, engines or max(1, machine.cores() // threads))
    limits = {"most_new_tokens": most_new_tokens, "latency_seconds": latency_seconds}
    sizes = {"slots": slots, "context": context, "threads": threads, "engines": engines}
    where = {"path": str(path), "model": card.name, "host": host, "port": port}
    process, found = _start(where | sizes | limits | {"guests": [guest.entry() for guest in people]})
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return Server(process, card.name, slots, f"http://{shown}:{found}/v1", people[0].key)


def _start(config: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    """The server's process and its port. Keys go through its standard input: other users can read a command line."""
    # A session or group of its own: Ctrl+C in a notebook interrupts the kernel and must not end the server.
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.server.gate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        **apart,
    )
    config |= {"parent": {"parent": os.getpid(), "started": psutil.Process().create_time()}}
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(config).encode() + b"\n")
        process.stdin.flush()
        ready = json.loads(_first_line(process.stdout) or b"{}")
    except BaseException:
        _end(process)
        raise
    if "port" in ready:
        return process, ready["port"]
    _end(process)
    why = f" It says: {ready['error']}" if "error" in ready else ""
    raise Unreachable(
        f"The local server did not start.{why}",
        "Free memory, choose another port, or check with `python course.py doctor` that llama.cpp runs here.",
    )


def _first_line(pipe: IO[bytes]) -> bytes:
    """The first line of a process; nothing if it ends or takes too long."""
    line: list[bytes] = []
    reader = threading.Thread(target=lambda: line.append(pipe.readline()), daemon=True)
    reader.start()
    reader.join(START_SECONDS)
    return line[0] if line else b""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # it keeps nothing that would have to be saved
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    asked = _arguments(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    limits = {"requests_per_minute": asked.per_minute, "at_once": asked.at_once}
    try:
        guests = class_keys(asked.keys, asked.students, **limits) if asked.keys else []
        names = ("slots", "context", "threads", "engines", "host", "port", "most_new_tokens")
        server = serve(asked.model, guests=guests, **{name: getattr(asked, name) for name in names})
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    with server, leave_note(server.route) if not guests else contextlib.nullcontext():
        print(f"{server.model} answers at {server.address}, {server.slots} requests at once. Ctrl+C ends it.")
        if guests:
            print(f"The keys of {len(guests)} people are in {asked.keys}: give each their line.")
            print("In .env they set SLM_LOCAL_ADDRESS, with this machine's name in it, and SLM_LOCAL_KEY.", flush=True)
        else:
            print(f"In a notebook: open_chat({server.model!r}, provider='local').", flush=True)
        while server.is_running() and not stop.wait(0.5):
            pass
    return 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.server.serve", description="A local server with OpenAI's routes."
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--slots", type=int, default=4, help="requests that are computed together (4)")
    parser.add_argument("--context", type=int, default=2048, help="tokens for each of them (2048)")
    parser.add_argument("--threads", type=int, help="threads of one engine")
    parser.add_argument("--engines", type=int, help="engines that share the slots; as many as the cores hold")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; then use --class")
    parser.add_argument("--port", type=int, default=0, help="a free one is found without this")
    parser.add_argument("--class", dest="keys", type=Path, metavar="FILE", help="name,key lines, one a person")
    parser.add_argument("--students", type=int, default=0, help="make FILE with so many keys if it is not there")
    parser.add_argument("--per-minute", type=int, help="requests a minute for each key of a class")
    parser.add_argument("--at-once", type=int, help="requests at once for each key of a class")
    parser.add_argument("--most-new-tokens", type=int, help="the longest answer")
    asked = parser.parse_args(arguments)
    if asked.host not in ("127.0.0.1", "localhost") and asked.keys is None:
        parser.error("a server that others can reach needs --class FILE, so that each has a key and limits")
    return asked


if __name__ == "__main__":
    sys.exit(main())
