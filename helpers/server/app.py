"""The server that people and notebooks talk to: who may ask, how much, how soon; and OpenAI's routes.

It runs in a process of its own and ends with the one that started it. The first line on its standard input is its
configuration; on its standard output it tells, a line of JSON each, the port that it has bound, which model it loads,
and that it is ready. While that input stays open it lives. Nothing that people write is kept or logged.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from helpers.errors import CourseError
from helpers.models import embeddings, local
from helpers.server import answers, bodies, lines
from helpers.server.answers import Refused
from helpers.server.bodies import Body, ChatBody, EmbeddingBody, ResponseBody, TextBody
from helpers.server.slots import LlamaServer, Slots, as_options

#: How many may wait for a model's slots.
MOST_WAITING = 64
#: How much this thread, which passes tokens on, gives way to those that compute them ("nice", 0 to 19). It wakes for
#: each token, and at the same rank llama.cpp waited for a core twice as long: 1 % of the time at 8 streams on 2 cores.
GIVES_WAY = 5
B = TypeVar("B", bound=Body)


@dataclass
class Account:
    """One key's limits, and what was used of them; None is no limit."""

    name: str
    requests_per_minute: int | None = None
    at_once: int | None = None
    owner: bool = False
    used: Counter[str] = field(default_factory=lambda: Counter(requests=0, refused=0, tokens_in=0, tokens_out=0))
    _times: deque[float] = field(default_factory=deque)
    _running: int = 0

    def enter(self, count: int = 1) -> None:
        """Counts so many choices in, or refuses them."""
        now = time.monotonic()
        while self._times and now - self._times[0] > 60:
            self._times.popleft()
        minute, once = self.requests_per_minute or float("inf"), self.at_once or float("inf")
        if count > min(minute, once):
            raise Refused(400, "too_many_choices", f"This key may have {min(minute, once)} choices at once.", param="n")
        if len(self._times) + count > minute:
            wait = 60 - (now - self._times[0])
            raise Refused(429, "rate_limit_exceeded", f"This key may ask {minute} times a minute.", wait=wait)
        if self._running + count > once:
            raise Refused(429, "rate_limit_exceeded", f"This key may ask {once} times at once.", wait=1)
        self._times.extend([now] * count)
        self._running += count
        self.used["requests"] += 1

    def leave(self, count: int = 1) -> None:
        """Counts them out."""
        self._running -= count

    def wrote(self, tokens: int) -> None:
        """Counts what a model wrote for this person."""
        self.used["tokens_out"] += tokens


class Gate:
    """The routes, over models that are asked by name."""

    def __init__(self, models: dict[str, Slots], config: dict[str, Any]) -> None:
        self.models, self.run = models, config["run"]
        self.cards = {model["name"]: local.card_of(model["asked"]) for model in config["models"]}
        self.delay: float = config["latency_seconds"]
        self.most_new_tokens: int = config["most_new_tokens"] or sys.maxsize
        self.guests = {guest.pop("digest"): Account(**guest) for guest in config["guests"]}
        self._embedding = asyncio.Lock()

    def app(self) -> Starlette:
        """The ASGI application."""
        told: list[tuple[str, Callable[[Request], Awaitable[Any]]]] = [
            ("/health", self.health), ("/models", self.list_models), ("/models/{name:path}", self.list_models),
            ("/props", self.properties), ("/usage", self.usage), ("/openapi.json", self.description),
        ]  # fmt: skip
        routes = [Route(f"{start}{path}", call) for start in ("/v1", "") for path, call in told]
        posts = [(f"{start}{path}", getattr(self, call)) for start in ("/v1", "") for path, (call, _) in POSTS.items()]
        routes += [Route(path, call, methods=["POST"]) for path, call in posts]
        kinds = (Refused, ValidationError, CourseError, HTTPException, ClientDisconnect, Exception)
        return Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, self.refuse), lifespan=self._loaded)

    @asynccontextmanager
    async def _loaded(self, _: Starlette) -> AsyncIterator[None]:
        for slots in self.models.values():
            await slots.load()
        yield

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Any error in OpenAI's form."""
        if isinstance(error, ClientDisconnect):
            return Response(status_code=499)  # nobody reads it
        if isinstance(error, HTTPException) and request.method == "OPTIONS" and error.status_code == 405:
            return Response(status_code=204, headers=error.headers)
        refused = answers.as_refused(error)
        if guest := getattr(request.state, "guest", None):
            guest.used["refused"] += 1
        return JSONResponse(answers.form_of(refused), refused.status, headers=refused.headers)

    # Who asks, and what

    def _enter(self, request: Request) -> Account:
        header = request.headers.get("authorization") or f"Bearer {request.headers.get('api-key', '')}"
        scheme, _, key = header.strip().partition(" ")
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        if scheme.lower() != "bearer" or digest not in self.guests:
            raise Refused(401, "invalid_api_key", "This server does not know the key.")
        request.state.guest = self.guests[digest]
        return self.guests[digest]

    async def _read(self, request: Request, kind: type[B]) -> B:
        """The body of a known person's request, bounded in size and time."""
        self._enter(request)
        data = await lines.bounded_body(request)
        await asyncio.sleep(self.delay)
        return kind.model_validate_json(data)

    def _model(self, name: str | None) -> str:
        if name and name not in self.models:
            there = ", ".join(map(repr, self.models))
            raise Refused(404, "model_not_found", f"This server has {there} and no model {name!r}.", param="model")
        return name or next(iter(self.models))

    # What is told

    async def health(self, request: Request) -> Response:
        """That it lives, and by which start: needs no key."""
        return JSONResponse({"status": "ok", "run": self.run})

    async def list_models(self, request: Request) -> Response:
        """Every model, the one for embeddings too, or the one that the path names, in OpenAI's form."""
        self._enter(request)
        await asyncio.sleep(self.delay)
        name, told = request.path_params.get("name"), [*self.models, embeddings.ENCODER]
        if name is not None:
            return JSONResponse(answers.entry(name if name in told else self._model(name)))
        return JSONResponse({"object": "list", "data": [answers.entry(one) for one in told]})

    async def properties(self, request: Request) -> Response:
        """What a client needs to count tokens as the server does; nothing about this machine."""
        self._enter(request)
        return JSONResponse(self.models[self._model(request.query_params.get("model"))].properties)

    async def usage(self, request: Request) -> Response:
        """What each key has used, for the owner."""
        if not self._enter(request).owner:
            raise Refused(403, "not_the_owner", "Only the server's owner may read what each key has used.")
        return JSONResponse({guest.name: guest.used for guest in self.guests.values()})

    async def description(self, request: Request) -> Response:
        """The routes and what they take, as OpenAPI 3.1."""
        return JSONResponse(bodies.description(POSTS))

    # What is computed

    async def tokenize(self, request: Request) -> Response:
        """The token ids of a text."""
        body = await self._read(request, bodies.TokenizeBody)
        slots = self.models[self._model(body.model)]
        return JSONResponse({"tokens": await slots.tokens(body.content, control=body.parse_special)})

    async def apply_template(self, request: Request) -> Response:
        """A conversation as the model reads it."""
        body = await self._read(request, bodies.TemplateBody)
        return JSONResponse({"prompt": self.models[self._model(body.model)].render(body.messages)})

    async def embed(self, request: Request) -> Response:
        """A vector for each text, one request at a time."""
        body = await self._read(request, EmbeddingBody)
        if body.model not in (None, embeddings.ENCODER):
            raise Refused(404, "model_not_found", f"Embeddings come from {embeddings.ENCODER!r} alone.", param="model")
        texts = [body.input] if isinstance(body.input, str) else body.input
        request.state.guest.enter()
        try:
            async with self._embedding:
                rows = await asyncio.to_thread(embeddings.embed, texts)
                read = await asyncio.to_thread(embeddings.tokens_read, texts)
        finally:
            request.state.guest.leave()
        request.state.guest.used["tokens_in"] += read
        packed = body.encoding_format == "base64"
        vectors = [base64.b64encode(row.tobytes()).decode() if packed else row.tolist() for row in rows]
        data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(vectors)]
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse({"object": "list", "model": embeddings.ENCODER, "data": data, "usage": usage})

    async def words(self, request: Request) -> Response:
        """A model's answer to a conversation, or how it goes on from texts."""
        body = await self._read(request, POSTS[request.url.path.removeprefix("/v1")][1])
        asked: Any = body.chat() if isinstance(body, ResponseBody) else body
        name, guest, each = self._model(asked.model), request.state.guest, asked.n or 1
        slots, count = self.models[name], each * (1 if isinstance(asked, ChatBody) else len(asked.prompts))
        if (there := slots.waiting) + count > MOST_WAITING:
            raise Refused(429, "queue_full", f"{there} requests wait before this one.", wait=slots.wait_seconds)
        guest.enter(count)
        leaving = ExitStack()
        leaving.callback(guest.leave, count)
        with leaving:
            options = as_options(asked, self.cards[name], slots)
            options["n_predict"] = min(options["n_predict"], self.most_new_tokens)
            prompts = await slots.prompts(asked)
            read = sum(map(len, prompts))
            kind: Any = answers.Responses if isinstance(body, ResponseBody) else answers.Completions
            form = kind(name, body, read)
            every = [ids for ids in prompts for _ in range(each)]
            guest.used["tokens_in"] += sum(map(len, every))
            sources = [slots.choice(place, ids, options, asked, guest.wrote) for place, ids in enumerate(every)]
            headers = {"X-Queue-Place": str(slots.waiting)}
            if asked.stream:
                return lines.LineStream(answers.events_of(form, sources), leaving.pop_all(), headers)
            pieces = await lines.while_here(request, answers.collected(sources))
            return JSONResponse(form.whole(pieces), headers=headers)


#: The routes that take a body: which method answers, and what it takes.
POSTS: dict[str, tuple[str, type[Body]]] = {
    "/chat/completions": ("words", ChatBody),
    "/completions": ("words", TextBody),
    "/responses": ("words", ResponseBody),
    "/embeddings": ("embed", EmbeddingBody),
    "/tokenize": ("tokenize", bodies.TokenizeBody),
    "/apply-template": ("apply_template", bodies.TemplateBody),
}


def end_with(parent: int) -> None:
    """Ends this process with the one that started it, which holds the other end of our standard input.

    Should a process that the parent forked still hold it open, the number of our parent tells: the system gives an
    orphan another one at once. No clock is asked, and no number that a later process could have.
    """

    def until_closed() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    def until_orphaned() -> None:
        while (
            os.getppid() == parent or sys.platform == "win32"
        ):  # which forks nothing, and tells a dead parent's number
            time.sleep(1)
        os._exit(0)

    for watch in (until_closed, until_orphaned):
        threading.Thread(target=watch, daemon=True).start()


def tell(**what: Any) -> None:
    """Writes a line for the process that started this one."""
    print(json.dumps(what), flush=True)


def loaded(config: dict[str, Any], model: dict[str, Any]) -> Slots:
    """A model's engines; the slots are shared out as evenly as they go."""
    tell(loading=model["name"])
    context, engines = config["context"], config["engines"]
    shares = [config["slots"] // engines + (place < config["slots"] % engines) for place in range(engines)]
    made = [LlamaServer(model["path"], slots=share, context=context, threads=config["threads"]) for share in shares]
    return Slots(made, context=context)


def main() -> None:
    """Binds the port, loads the models, and serves until the parent is gone."""
    config = json.loads(sys.stdin.buffer.readline())
    end_with(config["parent"])
    try:
        one = lines.bound_socket(config["host"], config["port"])
        tell(port=one.getsockname()[1])
        models = {model["name"]: loaded(config, model) for model in config["models"]}
    except (CourseError, RuntimeError, OSError) as error:
        tell(error=str(error))
        return
    gate = Gate(models, config)
    if sys.platform == "linux":  # where a priority is a thread's own
        os.nice(GIVES_WAY)
    tell(ready=True)
    options: dict[str, Any] = {"http": lines.Impatient, "ws": "none", "log_config": None, "server_header": False}
    uvicorn.Server(uvicorn.Config(gate.app(), access_log=False, **options)).run(sockets=[one])


if __name__ == "__main__":
    main()
