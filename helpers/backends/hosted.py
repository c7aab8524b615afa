"""A model that runs elsewhere as a backend: one request, the events of its stream, and how patiently it is asked again.

An SDK adds one method, which opens the stream of a request. Its own retries are off: an SDK sleeps between them where
nobody can stop it, knows no budget for all of them together, and also repeats a request that was waited for in vain.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

from helpers import settings
from helpers.backends import Backend, faults, providers
from helpers.backends.messages import conversation
from helpers.backends.providers import Provider
from helpers.backends.remote import client, events, fetch
from helpers.backends.streams import iterate
from helpers.errors import (
    BackendUnavailable,
    ContentFiltered,
    InvalidInput,
    ModelGone,
    RemoteError,
    TimedOut,
    UnsupportedOption,
)
from helpers.records import Chunk, FinishReason, ModelCard, Prompt, Sampling, Turn

#: How providers name the end of an answer. A name that is not here is an ordinary end.
FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
#: More stop strings than this are refused by some providers; the chat applies all of them itself.
MOST_STOPS = 4


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


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a stream: some text, or why it ended, or what it cost."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None


class Hosted(Backend):
    """One model at one provider. Nothing is loaded; `patience` says how long a call may last.

    `retries` counts the requests that were repeated since the backend was opened. A provider shows no tokenizer, so
    only the course's own server can count a prompt's tokens before it is sent.
    """

    hosted = True
    honours = frozenset({"max_new_tokens", "temperature", "top_p", "seed", "stop", "json_schema"})
    #: The variables that tell its SDK whose certificates count.
    trust: tuple[str, ...] = settings.TRUST_OF_HTTPX

    def __init__(self, card: ModelCard, provider: Provider, *, context: int, patience: Patience | None = None) -> None:
        self.provider, self.route = provider, providers.route(provider.name)
        self.model, self._retired = provider.model(card), provider.retired_for(card)
        self.patience = patience or Patience()
        self.context, self.precision, self.template = context, "as served", ""
        self.retries = 0
        client(self.route, trust=self.trust).close()  # refuses what spoils every request
        offered = fetch(self.route, f"/props?model={quote(self.model)}") if provider.our_server else {}
        # A class's server may have another one behind it, which then shows nothing.
        self.ours = bool(offered)
        # The course's own server runs llama.cpp without a vision projector.
        self.sees = "image" in card.modalities and not self.ours
        if self.ours:
            self.honours = self.honours | {"top_k", "repetition_penalty"}  # type: ignore[misc]
            self.template, self.precision = offered["chat_template"], offered["model_ftype"].lower()
            self.template_tokens = {name: offered[name] or "" for name in ("bos_token", "eos_token")}
            self.context = min(context, offered["context"])
        self.client = self._connect()

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        return "it reaches models that run elsewhere: say where, as in open_chat(…, provider='local')"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Backend:
        raise BackendUnavailable(f"The SDK {cls.name!r} needs a provider.", "open_chat(…, provider='local')")

    @abstractmethod
    def _connect(self) -> Any:
        """The SDK's client, with its own retries and redirects off."""

    @abstractmethod
    def _post(self, body: dict[str, Any]) -> AbstractContextManager[Any]:
        """The open response to a request that streams, with `headers` and `iter_bytes`; errors are the course's.

        A body with `messages` goes to the route for chats, one with a `prompt` to the one for texts.
        """

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        if not self.ours:
            raise UnsupportedOption(
                f"{self.provider.title} keeps its tokenizer to itself.", "Open a model that runs here to see tokens."
            )
        body = {"model": self.model, "content": text, "add_special": False, "parse_special": control}
        ids: list[int] = fetch(self.route, "/tokenize", body)["tokens"]
        return ids

    def encode(self, turns: Sequence[Turn]) -> Prompt:
        if self.ours:
            return super().encode(turns)
        if not self.sees and any(turn.images for turn in turns):
            raise self.blind("The opened model")
        return Prompt(tuple(turns))

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        if prompt.turns:
            return self.answer(conversation(prompt.turns, self.provider.image_bytes), sampling, reuse=prompt.reuse)
        if not prompt.tokens:
            raise InvalidInput("The prompt is empty.")
        body = self._body(sampling, reuse=prompt.reuse) | {"prompt": list(prompt.tokens)}
        return self._run(lambda: self._pieces(body))

    def answer(
        self, messages: Sequence[Mapping[str, Any]], sampling: Sampling, *, reuse: bool = True
    ) -> Iterator[Chunk]:
        """The answer to messages in OpenAI's form, which may hold images: see `helpers.backends.messages`."""
        body = self._body(sampling, reuse=reuse) | {"messages": list(messages)}
        if sampling.json_schema is not None:
            schema = {"name": "answer", "schema": dict(sampling.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return self._run(lambda: self._pieces(body))

    def close(self) -> None:
        self.cancel()
        self.client.close()

    def _body(self, sampling: Sampling, *, reuse: bool) -> dict[str, Any]:
        """A request but for what is asked."""
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop[:MOST_STOPS])
        if not self.ours:
            return body
        own = {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
        return body | own | {"cache_prompt": reuse}

    def _pieces(self, body: dict[str, Any]) -> Generator[Piece, None, None]:
        """The events of one request's stream."""
        with self._post(body) as response:
            kind = response.headers.get("Content-Type", "")
            if "event-stream" not in kind:
                raise faults.unreadable(self.route, f"it sent {kind or 'something without a type'} and no stream")
            for data in events(response.iter_bytes()):
                if data.startswith("[DONE]"):
                    return
                yield self._piece(data)

    def _piece(self, data: str) -> Piece:
        try:
            event = json.loads(data)
            if event.get("error"):
                raise faults.reported(self.route, event, self.model)
            usage, choice = event.get("usage") or {}, (event.get("choices") or [{}])[0]
            text = choice["text"] if "text" in choice else (choice.get("delta") or {}).get("content")
            finish, counts = choice.get("finish_reason"), (usage.get("prompt_tokens"), usage.get("completion_tokens"))
            if all(isinstance(one, str | None) for one in (text, finish)) and all(
                isinstance(one, int | None) for one in counts
            ):
                return Piece(text or "", finish, *counts)
        except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
            pass
        raise faults.unreadable(self.route, "its JSON is damaged or of another form")

    def _run(self, start: Callable[[], Generator[Piece, None, None]]) -> Iterator[Chunk]:
        """The chunks of a call; it is made again after an error that may pass, while the patience lasts."""
        self._cancel = cancel = threading.Event()
        patience = self.patience
        deadline = time.monotonic() + patience.budget_seconds
        for attempt in itertools.count(1):
            last = Chunk("", 0)
            try:
                for last in self._attempt(start, cancel, deadline):
                    yield last
                return
            except ModelGone as error:
                raise faults.gone_for_good(error, self.route.title, self._retired) from None
            except RemoteError as error:
                error.attempts = attempt
                wait = patience.wait_seconds(attempt, error.retry_after_seconds)
                too_late = time.monotonic() + wait > deadline
                if last.new_tokens or not error.worth_retrying or attempt >= patience.attempts or too_late:
                    raise
            if cancel.wait(wait):
                yield Chunk("", 0, "cancelled")
                return
            self.retries += 1

    def _attempt(
        self, start: Callable[[], Generator[Piece, None, None]], cancel: threading.Event, deadline: float
    ) -> Iterator[Chunk]:
        """The chunks of one request, which runs in a thread, so that `cancel` ends it at any moment."""

        def work(put: Callable[[Chunk], None], cancelled: threading.Event) -> None:
            with closing(start()) as pieces:
                for chunk in self._chunks(pieces):
                    put(chunk)
                    if cancelled.is_set():
                        return

        def longest() -> float:
            read = self.patience.read_seconds
            return read if last.new_tokens else min(read, max(0.0, deadline - time.monotonic()))

        last = Chunk("", 0)
        try:
            for last in iterate(work, cancel=cancel, longest=longest):
                yield last
        except TimeoutError as error:
            where = "no further token" if last.new_tokens else "no first token"
            raise TimedOut(
                f"{self.route.title} was reached and sent {where} for {error.args[0]:.3g} seconds.",
                "Ask again later, ask for less, or wait longer: patience=Patience(read_seconds=…, budget_seconds=…).",
            ) from None
        if last.finish_reason is None:
            yield Chunk("", last.new_tokens, "cancelled", last.prompt_tokens)

    def _chunks(self, pieces: Iterator[Piece]) -> Iterator[Chunk]:
        """The pieces as chunks. Tokens are counted by pieces until the provider tells their number, after the end."""
        new_tokens, prompt_tokens, finish = 0, None, None
        for piece in pieces:
            finish = piece.finish or finish
            prompt_tokens = piece.prompt_tokens or prompt_tokens
            new_tokens = piece.new_tokens or new_tokens + bool(piece.text)
            if piece.text:
                yield Chunk(piece.text, new_tokens, None, prompt_tokens)
        if finish is None:
            raise faults.cut_short(self.route)
        if finish == "content_filter":
            who = self.provider.title
            raise ContentFiltered(f"The content filter of {who} stopped the answer.", "Ask in other words.")
        yield Chunk("", new_tokens, FINISHES.get(finish, "stop"), prompt_tokens)

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A connection to a provider cannot be written to a file.", "Open it where you need it.")
