"""The model server as a service of the Hub: a person's own Hub token is the key, with limits and usage by person.

It asks the Hub whose a token is (`HubAuth`, remembered for a minute), counts and bounds what that person asks, and
hands the request on to the course's server, which it starts, or to any OpenAI-compatible address. Runs in the Hub's
environment, below /services/slm/. Nothing that people write is kept or logged.

    /services/slm/v1/chat/completions …    the routes of what is behind it
    /services/slm/v1/usage                 what you used; for the instructor, what everybody did
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from helpers.classroom.folder import Chosen, ClassFolder
from helpers.classroom.start import link_models
from helpers.data import ROOT
from helpers.server import answers, lines
from helpers.server.answers import Refused
from helpers.server.app import Account

#: How long a token is known without asking the Hub again, so how long one lives on that was taken back.
KNOWN_SECONDS = 60
#: What the Hub gives to people and servers so that they may ask here.
ACCESS = "access:services!service=slm"
#: The paths that go on to the server behind; those that compute are counted, the others only need a token.
COUNTED = ("chat/completions", "completions", "responses", "embeddings")
HANDED = ("models", "props", "tokenize", "apply-template", *COUNTED)
#: How the routes name what a request cost, in a chat and in a response.
COSTS = {
    "prompt_tokens": "tokens_in",
    "input_tokens": "tokens_in",
    "completion_tokens": "tokens_out",
    "output_tokens": "tokens_out",
}


class Gateway:
    """The routes, in front of `backend`; `key` is the one that it wants."""

    def __init__(self, auth: Any, backend: str, key: str, chosen: Chosen) -> None:
        self.auth, self.chosen = auth, chosen
        self.people: dict[str, Account] = {}
        self.http = httpx2.AsyncClient(
            base_url=backend,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,
            timeout=httpx2.Timeout(10.0, read=None, pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )

    def app(self) -> Starlette:
        """The ASGI application, below the path that the Hub gives a service."""
        start = "/services/slm/v1"
        routes = [Route("/services/slm/health", self.health), Route(f"{start}/usage", self.usage)]
        routes += [Route(f"{start}/{{path:path}}", self.hand_on, methods=["GET", "POST"])]
        kinds = (Refused, HTTPException, ClientDisconnect, httpx2.HTTPError, Exception)
        return Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, self.refuse))

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Any error in OpenAI's form."""
        if isinstance(error, ClientDisconnect):
            return Response(status_code=499)
        if isinstance(error, httpx2.HTTPError):
            error = Refused(503, "engine_failed", "The class's model server does not answer.", wait=5)
        refused = answers.as_refused(error)
        if person := getattr(request.state, "person", None):
            person.used["refused"] += 1
        return JSONResponse(answers.form_of(refused), refused.status, headers=refused.headers)

    async def health(self, request: Request) -> Response:
        """That it lives; the Hub asks this and has no token here."""
        return JSONResponse({"status": "ok"})

    async def usage(self, request: Request) -> Response:
        """What the asking person used since this service started; an admin of the Hub sees everybody."""
        user = await self._user(request)
        shown = self.people if user.get("admin") else {user["name"]: request.state.person}
        return JSONResponse({name: one.used for name, one in shown.items()})

    async def _user(self, request: Request) -> dict[str, Any]:
        scheme, _, token = (request.headers.get("authorization") or "").strip().partition(" ")
        token = token.strip() or request.headers.get("api-key", "")
        user = None
        if token and scheme.lower() in ("bearer", "token", ""):
            user = await self.auth.user_for_token(token, sync=False)
        if user is None or user.get("kind", "user") != "user":
            raise Refused(401, "invalid_api_key", "The Hub does not know this token.")
        if not self.auth.check_scopes({ACCESS}, user):
            raise Refused(403, "no_access", "This token may not ask the class's model server.")
        limits = (self.chosen.per_minute or None, self.chosen.at_once or None)
        request.state.person = self.people.setdefault(user["name"], Account(user["name"], *limits))
        return dict(user)

    async def hand_on(self, request: Request) -> Response:
        """The answer of the server behind, for a known person and within their limits."""
        await self._user(request)
        path, person = request.path_params["path"], request.state.person
        if path not in HANDED and path.partition("/")[0] != "models":
            raise Refused(404, "not_found", "There is no such route here.")
        if path not in COUNTED:
            data = await lines.bounded_body(request)
            answer = await self.http.request(request.method, path, params=request.query_params, content=data)
            if path == "props" and answer.status_code == 404 and self.chosen.backend:
                return JSONResponse({})  # a server that is not the course's: its client then does without
            return _copied(answer)
        body = self._bounded(await lines.bounded_body(request), path)
        count = body["n"] if isinstance(body.get("n"), int) and body["n"] > 0 else 1
        person.enter(count)
        leaving = ExitStack()
        leaving.callback(person.leave, count)
        with leaving:
            if body.get("stream"):
                return await self._streamed(path, body, person, leaving)
            answer = await lines.while_here(request, self.http.post(path, json=body))
            _count(person, answer)
            return _copied(answer)

    async def _streamed(self, path: str, body: dict[str, Any], person: Account, leaving: ExitStack) -> Response:
        told = path == "responses" or bool((body.get("stream_options") or {}).get("include_usage"))
        if not told:
            body["stream_options"] = {"include_usage": True}
        stream = await self.http.send(self.http.build_request("POST", path, json=body), stream=True)
        if stream.status_code != 200:
            await stream.aread()
            _count(person, stream)
            return _copied(stream)
        return lines.LineStream(_relayed(stream, person, told), leaving.pop_all(), _headers(stream))

    def _bounded(self, data: bytes, path: str) -> dict[str, Any]:
        """The request's object, with an answer no longer than this class allows."""
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(400, "invalid_json", "The request is no JSON.") from None
        if not isinstance(body, dict):
            raise Refused(400, "invalid_json", "The request is no JSON object.")
        if path == "embeddings" or not self.chosen.most_new_tokens:
            return body
        name = "max_output_tokens" if path == "responses" else "max_tokens"
        if "max_completion_tokens" in body and path != "responses":
            name = "max_completion_tokens"
        asked = body.get(name)
        body[name] = min(asked, self.chosen.most_new_tokens) if isinstance(asked, int) else self.chosen.most_new_tokens
        return body


async def _relayed(stream: Any, person: Account, told: bool) -> AsyncGenerator[bytes]:
    """The events of a stream as they come; what it cost is counted, and told only to who asked for it."""
    try:
        async for line in stream.aiter_lines():
            if line.startswith("data: {") and '"usage"' in line:
                event = json.loads(line.removeprefix("data: "))
                usage = event.get("usage") or (event.get("response") or {}).get("usage")
                _add(person, usage)
                if usage and not told and not event.get("choices"):
                    continue
            yield f"{line}\n".encode()
    finally:
        await stream.aclose()


def _count(person: Account, answer: Any) -> None:
    if answer.status_code >= 400:
        person.used["refused"] += 1
        return
    with contextlib.suppress(ValueError, AttributeError):
        _add(person, answer.json().get("usage"))


def _add(person: Account, usage: Any) -> None:
    if isinstance(usage, dict):
        for name, count in usage.items():
            if name in COSTS and isinstance(count, int):
                person.used[COSTS[name]] += count


def _headers(answer: Any) -> dict[str, str]:
    return {name: answer.headers[name] for name in ("retry-after", "x-queue-place") if name in answer.headers}


def _copied(answer: Any) -> Response:
    kind = answer.headers.get("content-type", "application/json")
    return Response(answer.content, answer.status_code, headers=_headers(answer), media_type=kind)


def die_with_parent(by: int = signal.SIGKILL) -> None:
    """Ends this process, by a signal, when the one that started it is gone, or was killed (Linux, prctl)."""
    ctypes.CDLL(None).prctl(1, by)


def start_server(folder: ClassFolder, python: str, stack: ExitStack) -> tuple[str, str, subprocess.Popen[bytes]]:
    """The course's own server in a process of its own: its address, its key, the process."""
    chosen = folder.chosen
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slm-server-")))
    link_models(folder.at("shared", "models"), place / "models")
    key = secrets.token_urlsafe(24)
    keys = place / "keys.csv"
    keys.touch(0o600)
    keys.write_text(f"gateway,{key}\n", encoding="utf-8")
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [python, "-m", "helpers.server", *chosen.models, "--class", str(keys), "--port", str(port)]
    command += ["--slots", str(chosen.slots), "--context", str(chosen.context)]
    # Only what it needs: the Hub's own token stays here.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SLM_THREADS") if name in os.environ}
    environment = kept | {"HOME": str(place), "SLM_HOME": str(place / "models"), "PYTHONPATH": str(ROOT)}
    silent: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=die_with_parent, **silent)
    stack.callback(process.kill)
    return f"http://127.0.0.1:{port}/v1", key, process


async def serve_gateway(folder: ClassFolder, python: str) -> None:
    """Serves until it is told to end, or the server behind has ended, so that the Hub starts both again."""
    from jupyterhub.services.auth import HubAuth  # only the Hub's environment has it

    chosen = folder.chosen
    auth = HubAuth(cache_max_age=KNOWN_SECONDS)
    place = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])  # loopback on one machine, every address in a pod
    with ExitStack() as stack:
        process: subprocess.Popen[bytes] | None = None
        backend, key = chosen.backend, os.environ.get("SLM_CLASS_BACKEND_KEY", "")
        if not backend:
            backend, key, process = start_server(folder, python, stack)
        gateway = Gateway(auth, backend, key, chosen)
        options: dict[str, Any] = {"http": lines.Impatient, "ws": "none", "log_config": None, "server_header": False}
        server = uvicorn.Server(uvicorn.Config(gateway.app(), access_log=False, **options))
        running = asyncio.create_task(
            server.serve(sockets=[await _bound(place.hostname or "127.0.0.1", place.port or 80)])
        )
        while not running.done():
            if process is not None and process.poll() is not None:
                server.should_exit = True
                print("The model server has ended; the Hub starts it again.", file=sys.stderr)
            await asyncio.wait([running], timeout=1)
        await gateway.http.aclose()


async def _bound(host: str, port: int) -> socket.socket:
    """The port that the Hub expects, which a gateway that is just ending may still hold."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            return lines.bound_socket(host, port)
        await asyncio.sleep(0.2)
    return lines.bound_socket(host, port)


def main() -> None:
    """The service's process: `python -m helpers.classroom.gateway COURSE_PYTHON`."""
    die_with_parent(signal.SIGTERM)
    # uvicorn ends politely at this signal and then raises it again: what it started is still to be ended then.
    signal.signal(signal.SIGTERM, lambda *_: None)
    asyncio.run(serve_gateway(ClassFolder(), sys.argv[1]))


if __name__ == "__main__":
    main()
