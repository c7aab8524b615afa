"""A server of our own that speaks OpenAI's protocol: `with serve("smollm2-135m") as server: …`.

It runs llama.cpp with several slots in a process of its own, on a free port of this machine's loopback, behind a key
made for the run. That process ends with the one that started it, also when that one is killed. While a server runs,
`open_chat(model, provider="local")` finds it. `python -m helpers.server` starts one in a terminal.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from helpers import machine
from helpers.backends.providers import announce, withdraw
from helpers.backends.remote import Key, Route, fetch
from helpers.data import ROOT
from helpers.errors import BackendUnavailable, CourseError, InvalidInput, Unreachable
from helpers.models import local, sources

#: A large model takes its time to load.
START_SECONDS = 180.0
#: A key's least length, since what is shorter can be guessed; and what stands before the hash of one.
KEY_CHARACTERS, HASHED = 16, "sha256:"


@dataclass(frozen=True, slots=True)
class Guest:
    """One person's key to a server, plain or as `sha256:` and its hash, with its limits; None is no limit."""

    name: str
    key: Key
    requests_per_minute: int | None = None
    at_once: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 1 for limit in (self.requests_per_minute, self.at_once)):
            raise InvalidInput("A limit lets at least one request in.", "Leave it out for no limit.")
        if len(self.key.reveal()) < KEY_CHARACTERS:
            raise InvalidInput(f"The key of {self.name!r} is too short.", f"Take {KEY_CHARACTERS} characters or more.")

    @property
    def digest(self) -> str:
        """The key's SHA-256, which is all that the server is told of it."""
        key = self.key.reveal()
        return key.removeprefix(HASHED) if key.startswith(HASHED) else hashlib.sha256(key.encode()).hexdigest()


class Server:
    """A running server. Use it in a `with`, or `close` it; it ends with this process in any case."""

    def __init__(self, process: subprocess.Popen[bytes], config: dict[str, Any], port: int, keys: list[Key]) -> None:
        shown = "127.0.0.1" if config["host"] in ("0.0.0.0", "::", "") else config["host"]
        self.address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/v1"
        self.models = [model["name"] for model in config["models"]]
        self.model, self.slots, self.run, self.key = self.models[0], config["slots"], config["run"], keys[0]
        self.route = Route("the local server", self.address, keys[0])
        self.owner = Route("the local server", self.address, keys[-1])
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
            return self.is_running() and fetch(self.route, "/health", seconds=5).get("run") == self.run
        return False

    def usage(self) -> dict[str, dict[str, int]]:
        """What each key has used: requests, refused ones, tokens in and out."""
        return fetch(self.owner, "/usage")

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
        return f"Server({', '.join(map(repr, self.models))} at {self.address}, {self.slots} slots, {state})"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A running server cannot be written to a file.", "Start one where you need it.")


def serve(
    model: str | Path = "smollm2-135m",
    *,
    models: Sequence[str | Path] = (),
    slots: int = 4,
    context: int = 2048,
    threads: int | None = None,
    engines: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    guests: Sequence[Guest] = (),
    most_new_tokens: int | None = None,
    latency_seconds: float = 0.0,
    progress: Callable[[str], None] = lambda line: None,
) -> Server:
    """A server with `model`, or with several `models` of which a request picks one by name, ready to answer.

    A model is a name of the catalog or a GGUF file. `slots` requests of each are computed together, each with a context
    of `context` tokens; more wait for a slot. They are shared by `engines` that use `threads` each, as many as the
    cores hold; the weights are in memory once. `port` 0 takes a free one. Without `guests` the server has one key, made
    now. `latency_seconds` delays every request, as a distant network would. `progress` is told what happens meanwhile.
    """
    if slots < 1 or context < 64 or latency_seconds < 0 or (most_new_tokens is not None and most_new_tokens < 1):
        raise InvalidInput("A server has at least one slot, 64 tokens of context, one new token, no negative latency.")
    if importlib.util.find_spec("xllamacpp") is None:
        raise BackendUnavailable("A server needs the package xllamacpp.", "pip install xllamacpp")
    threads = threads or machine.threads()
    engines = min(slots, engines or max(1, machine.cores() // threads))
    people = [*guests, Guest("the owner" if guests else "you", Key(secrets.token_urlsafe(24)))]
    sizes = {"slots": slots, "context": context, "threads": threads, "engines": engines}
    limits = {"most_new_tokens": most_new_tokens, "latency_seconds": latency_seconds, "guests": _told(people)}
    place = {"host": host, "port": port, "run": secrets.token_hex(8), "parent": os.getpid()}
    config = {"models": [_found(str(name)) for name in models or [model]]} | sizes | limits | place
    process = _start(config)
    keys = [one.key for one in people if not one.key.reveal().startswith(HASHED)]
    return Server(process, config, _ready(process, progress), keys)


def _found(model: str) -> dict[str, str]:
    """A model's name, and the file that is served of it."""
    path = sources.gguf(card := local.card_of(model))
    machine.require_memory(path.stat().st_size, card.title)
    return {"name": card.name, "path": str(path), "asked": model}


def _told(people: Sequence[Guest]) -> list[dict[str, Any]]:
    """What the server is told of those who may ask; the last of them owns it."""
    names = ("name", "digest", "requests_per_minute", "at_once")
    return [{name: getattr(one, name) for name in names} | {"owner": one is people[-1]} for one in people]


def _start(config: dict[str, Any]) -> subprocess.Popen[bytes]:
    """The server's process, told its configuration through its standard input."""
    # A session or group of its own: Ctrl+C in a notebook interrupts the kernel and must not end the server.
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "helpers.server.app"], cwd=ROOT, **pipes, **apart)
    assert process.stdin is not None
    process.stdin.write(json.dumps(config).encode() + b"\n")
    process.stdin.flush()
    return process


def _ready(process: subprocess.Popen[bytes], progress: Callable[[str], None]) -> int:
    """The port of a server that is ready; a server that is not by then is ended."""
    assert process.stdout is not None
    late = threading.Timer(START_SECONDS, process.kill)
    late.start()
    told: dict[str, Any] = {}
    try:
        while line := process.stdout.readline():
            told |= json.loads(line)
            if "error" in told:
                break
            if "ready" in told:
                return int(told["port"])
            progress(f"loading {told['loading']} …" if "loading" in told else f"port {told['port']} is ours")
        raise Unreachable(
            f"The local server did not start.{' It says: ' + told['error'] if 'error' in told else ''}",
            "Free memory, choose another port, or check with `python course.py doctor` that llama.cpp runs here.",
        )
    except BaseException:
        _end(process)
        raise
    finally:
        late.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError), process:  # waits for it, and closes its pipes
        process.kill()  # it keeps nothing that would have to be saved
