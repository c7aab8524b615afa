"""llama.cpp's own server with several slots: requests that come together are decoded together.

A slot is a place for one conversation and its KV cache. With continuous batching every step computes one token for
each busy slot, and a request that comes later joins at the next step, so the weights are read once for all of them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from helpers.backends import llamacpp
from helpers.errors import ContextOverflow, CourseError, EngineFault, InvalidInput
from helpers.models import templates
from helpers.records import ModelCard
from helpers.server.bodies import ChatBody, TextBody
from helpers.server.toolcalls import CallPiece, Reader, messages_for, signature

if TYPE_CHECKING:
    import httpx2

#: More characters than this for each token of context cannot fit, so there is no need to tokenize them to know.
LONGEST_TOKEN = 32
#: Stands between two texts that are tokenized in one request; no token has this number.
BETWEEN = -1


class LlamaServer:
    """One llama.cpp, on loopback, behind a key that only this process knows; `free` counts its idle slots."""

    def __init__(self, path: str, *, slots: int, context: int, threads: int) -> None:
        import httpx2
        import xllamacpp

        options = xllamacpp.CommonParams()
        options.model.path = path
        options.n_parallel, options.n_ctx = slots, slots * context
        options.cache_ram_mib = 0  # else prompts that left their slot are kept in memory, up to 8 GiB
        options.fit_params = llamacpp.has_gpu()
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
        options.verbosity, options.ui = -1, False
        key = secrets.token_urlsafe(16)
        options.api_keys = [key]
        self._server = xllamacpp.Server(options)
        self.free = slots
        common: dict[str, Any] = {
            "base_url": self._server.listening_address,
            "headers": {"Authorization": f"Bearer {key}"},
            "trust_env": False,  # no proxy leads to this machine
            "timeout": None,  # the client's leaving ends a request
        }
        # After a stream llama.cpp hangs up without a word, so each answer has a line of its own. Short questions share
        # two, since a new line costs more than they do. An idle one holds one of llama.cpp's threads for five seconds.
        apart = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        kept = httpx2.Limits(max_connections=None, max_keepalive_connections=2, keepalive_expiry=1)
        self._http = httpx2.AsyncClient(**common, limits=apart)
        self._asking = httpx2.AsyncClient(**common, limits=kept)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a short question, which may be asked twice."""
        import httpx2

        with _faults():
            try:
                return _understood(await self._asking.post(path, json=body))
            except httpx2.TransportError:  # it hung up while the question was on its way
                return _understood(await self._http.post(path, json=body))

    async def properties(self) -> dict[str, Any]:
        """What llama.cpp tells of the model."""
        with _faults():
            return _understood(await self._http.get("/props"))

    async def complete(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The events of a completion, one where it is not streamed; leaving early frees the slot."""
        with _faults():
            async with self._http.stream("POST", "/completion", json=body) as answer:
                if answer.status_code != 200 or not body["stream"]:
                    await answer.aread()
                    yield _understood(answer)
                    return
                async for line in answer.aiter_lines():
                    name, _, data = line.partition(": ")
                    if name in ("data", "error"):
                        event = json.loads(data)
                        if name == "error" or "error" in event:
                            raise _fault(event.get("error", event))
                        yield event


@contextmanager
def _faults() -> Iterator[None]:
    """Says in a sentence of the course that llama.cpp was not to be reached."""
    import httpx2

    try:
        yield
    except httpx2.HTTPError as error:
        raise EngineFault(f"llama.cpp broke off: {type(error).__name__}.") from error


def _understood(answer: httpx2.Response) -> dict[str, Any]:
    found = answer.json()
    if answer.status_code != 200:
        raise _fault(found.get("error", {}))
    return found


def _fault(error: Mapping[str, Any]) -> CourseError:
    if error.get("type") == "exceed_context_size_error":
        return ContextOverflow(f"The prompt has {error['n_prompt_tokens']} tokens; a slot holds {error['n_ctx']}.")
    said = str(error.get("message", "nothing"))
    return InvalidInput(said) if error.get("code") == 400 else EngineFault(f"llama.cpp could not go on: {said}")


class Slots:
    """A model in as many slots as there are, shared out over engines; whoever finds none free waits in turn."""

    def __init__(self, engines: Sequence[Any], *, context: int) -> None:
        self.engines, self.context = engines, context
        self.seconds = 1.0  # what a request took of late
        self.count, self.waiting = sum(engine.free for engine in engines), 0
        self._idle = asyncio.Semaphore(self.count)
        self.properties: dict[str, Any] = {}
        self.end: int | None = None

    async def load(self) -> None:
        """Asks the first engine what the template and the tokens are."""
        found = await self.engines[0].properties()
        names = ("chat_template", "bos_token", "eos_token", "model_ftype")
        self.properties = {name: found.get(name) or "" for name in names} | {"context": self.context}
        end = await self.tokens(found.get("eos_token") or "", control=True)
        self.end = end[0] if len(end) == 1 else None

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Any]:
        """An engine with a free slot, kept while the block runs."""
        self.waiting += 1
        try:
            await self._idle.acquire()
        finally:
            self.waiting -= 1
        engine = max(self.engines, key=lambda one: one.free)
        engine.free -= 1
        started = time.monotonic()
        try:
            yield engine
        finally:
            self.seconds += 0.2 * (time.monotonic() - started - self.seconds)
            engine.free += 1
            self._idle.release()

    @property
    def wait_seconds(self) -> float:
        """How long who comes now is likely to wait."""
        return self.seconds * (self.waiting + self._idle.locked()) / self.count

    async def tokens(self, text: str, *, control: bool, beginning: bool = False) -> list[int]:
        """The token ids of a text; `beginning` adds what the model wants before any text."""
        (found,) = await self._each([text], control=control, beginning=beginning)
        return found

    async def _each(self, texts: Sequence[str], *, control: bool, beginning: bool = False) -> list[list[int]]:
        """The token ids of each text, by one request."""
        if (length := max(map(len, texts))) > LONGEST_TOKEN * self.context:
            raise ContextOverflow(f"The text has {length:,} characters; a slot holds {self.context:,} tokens.")
        mixed = [part for text in texts for part in (text, BETWEEN)]
        body = {"content": mixed, "add_special": beginning, "parse_special": control}
        tokens = (await self.engines[0].post("/tokenize", body))["tokens"]
        found: list[list[int]] = [[]]
        for token in tokens:
            if token == BETWEEN:
                found.append([])
            else:
                found[-1].append(token)
        return found[:-1]

    def render(self, messages: Sequence[Mapping[str, Any]], functions: Sequence[Mapping[str, Any]] = ()) -> str:
        """A conversation as the model reads it."""
        told, tools = messages_for(self.properties["chat_template"], messages, functions)
        return templates.render(self.properties["chat_template"], told, tools=tools, **self._names)

    async def prompt(
        self, messages: Sequence[Mapping[str, Any]], functions: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """The token ids of a conversation, in which typed control tokens such as `<|im_end|>` are plain text.

        llama.cpp tokenizes a rendered conversation in one go, so that a typed `<|im_end|>` would end the turn.
        """
        template = self.properties["chat_template"]
        told, tools = messages_for(template, messages, functions)
        whole = templates.render(template, told, tools=tools, **self._names)
        typed = "\n".join(one["content"] for one in told)
        given = json.dumps([tools, [one.get("tool_calls") for one in told]], ensure_ascii=False)
        (plain,), (parsed, ids) = await asyncio.gather(
            self._each([f"{typed}\n{given}"], control=False),
            self._each([f"{typed}\n{given}", whole], control=True),
        )
        if plain == parsed:
            return ids
        if await self.tokens(given, control=False) != await self.tokens(given, control=True):
            raise InvalidInput("A tool, or a call of one, may not hold control tokens of the model.")
        parts = templates.pieces(template, told, tools=tools, **self._names)
        found = await asyncio.gather(*(self.tokens(text, control=not is_typed) for text, is_typed in parts))
        return [token for ids in found for token in ids]

    async def prompts(self, body: ChatBody | TextBody) -> list[list[int]]:
        """The token ids of what a request wants continued, each with room for an answer."""
        if isinstance(body, ChatBody):
            found = [await self.prompt(body.messages, body.allowed(several=self.knows_tools).told)]
        else:
            found = [
                await self.tokens(one, control=True, beginning=True) if isinstance(one, str) else one
                for one in body.prompts
            ]
        for ids in found:
            if not 0 < len(ids) < self.context:
                raise ContextOverflow(f"The prompt has {len(ids)} tokens; a slot holds {self.context} with the answer.")
        return found

    async def choice(
        self,
        place: int,
        ids: Sequence[int],
        options: Mapping[str, Any],
        body: ChatBody | TextBody,
        count: Callable[[int], None],
    ) -> AsyncIterator[CallPiece]:
        """The pieces of one choice, once a slot is free for it; `count` is told at the end how many tokens they are.

        A model that repeats a call which this question has had is asked anew, without tools, for an answer in words.
        """
        allowed = body.allowed(several=self.knows_tools)
        written = 0
        room = min(options["n_predict"], self.context - len(ids))
        sent = {**options, "prompt": list(ids), "n_predict": room}
        if "seed" in options:
            sent["seed"] = (options["seed"] + place) % (2**32 - 1)
        try:
            async with self.slot() as engine:
                async for event, piece in _read(engine, sent, Reader(allowed)):
                    written = event["tokens_predicted"]
                    if piece.call and signature(*piece.call) in allowed.made:
                        break
                    yield replace(piece, choice=place) if place else piece
                else:
                    return
                assert isinstance(body, ChatBody)
                plain = sent | {"grammar": allowed.in_words.grammar(self.end)}
                plain["prompt"] = await self.prompt(body.messages)
                async for event, piece in _read(engine, plain, Reader(allowed.in_words)):  # noqa: B007 - read below
                    yield replace(piece, choice=place)
                written += event["tokens_predicted"]
        finally:
            count(written)

    @property
    def knows_tools(self) -> bool:
        """Whether the model's template has a part for tools."""
        return "tool_calls" in self.properties["chat_template"]

    @property
    def _names(self) -> dict[str, str]:
        return {name: self.properties[name] for name in ("bos_token", "eos_token")}


async def _read(
    engine: Any, body: Mapping[str, Any], reader: Reader
) -> AsyncGenerator[tuple[dict[str, Any], CallPiece]]:
    """llama.cpp's events and the pieces that they bring."""
    async with aclosing(engine.complete(body)) as events:
        async for event in events:
            told = event.get("completion_probabilities", ()) if "n_probs" in body else ()
            for piece in reader.feed(event["content"], last=event["stop"]):
                yield event, replace(piece, logprobs=told) if told else piece
                told = ()
            if event["stop"]:
                yield event, CallPiece(logprobs=told, end=event)


def as_options(body: ChatBody | TextBody, card: ModelCard, slots: Slots) -> dict[str, Any]:
    """A request in llama.cpp's words, but for the prompt; in the order that the course promises: temperature first."""
    sampling, context = body.sampling(card), slots.context
    options: dict[str, Any] = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    options |= {"min_p": 0.0, "repeat_penalty": sampling.repetition_penalty, "repeat_last_n": context}
    options["samplers"] = ["penalties", "temperature", "top_k", "top_p"]
    if sampling.temperature == 0:  # the likeliest token needs no sorting of the whole vocabulary
        options |= {"top_k": 1, "samplers": ["penalties", "top_k"]}
    options |= {"stream": bool(body.stream), "cache_prompt": body.cache_prompt is not False, "stop": body.stops}
    options |= {"ignore_eos": bool(body.ignore_eos), "n_predict": min([context, *body.limits])}
    if body.logprobs is not None and body.logprobs is not False:
        options["n_probs"] = max(1, (body.top_logprobs or 0) if isinstance(body, ChatBody) else body.logprobs)
    options |= {"seed": body.seed} if body.seed is not None else {}
    grammar = body.allowed(several=slots.knows_tools).grammar(slots.end)
    return options | ({"grammar": grammar} if grammar else {})
