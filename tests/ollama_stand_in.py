"""An independent implementation of Ollama's routes, in front of the course's own server.

The package ollama-proxy-plus streams chats, lists models and holds answers to a schema as Ollama does. It counts words
for tokens, ends every answer with "stop", drops the seed, and has every model that it is asked for. Its default is to
listen on every address of the machine; here it is told loopback.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from helpers.backends import ollama
from helpers.backends.remote import Route, fetch
from helpers.errors import CourseError
from waiting import until

MODEL = "smollm2-135m"  # as the server behind it calls the model


def missing() -> str | None:
    """Why it cannot be started, as a sentence."""
    absent = [name for name in ("ollama", "ollama_proxy") if importlib.util.find_spec(name) is None]
    return f"no Ollama runs here, and for its stand-in {' and '.join(absent)} is not installed" if absent else None


@cache
def running(behind: Route) -> tuple[subprocess.Popen[bytes], int]:
    """Its process and its port, in front of that server; it is started once and ends with the tests."""
    folder = TemporaryDirectory()
    config = Path(folder.name) / "ollama-proxy.yaml"  # looked for where it is started
    config.touch(0o600)
    # A name without a prefix goes to the provider "openai", which is our own server here. JSON is YAML too.
    way = {"base_url": behind.address, "api_key": behind.key.reveal() if behind.key else ""}
    config.write_text(json.dumps({"providers": {"openai": way}, "models": [MODEL]}), encoding="utf-8")
    port = _free_port()
    command = [sys.executable, "-m", "ollama_proxy", "--host", "127.0.0.1", "--port", str(port)]
    keys = ("_KEY", "_TOKEN", "_CREDENTIAL", "_ENDPOINT")  # nobody's key is its business
    environment = {name: value for name, value in os.environ.items() if not name.endswith(keys)}
    process = subprocess.Popen(
        command, cwd=folder.name, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def end() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    assert until(lambda: _answers(port)), "the stand-in did not start"
    return process, port


def real() -> bool:
    """Whether a real Ollama with the embedded model runs here."""
    try:
        return "smollm2-135m" in {row["model"] for row in ollama.installed()}
    except CourseError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        fetch(Route("the stand-in", f"http://127.0.0.1:{port}"), "/api/version", seconds=1)
    except CourseError:
        return False
    return True
