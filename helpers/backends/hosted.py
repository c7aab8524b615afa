"""What the backends for models that run elsewhere have in common; an SDK adds how a request is made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from helpers import providers
from helpers.backends import Backend
from helpers.errors import BackendUnavailable, ConnectionLost, ContentFiltered, InvalidInput, UnsupportedOption
from helpers.messages import conversation
from helpers.providers import Provider
from helpers.records import Chunk, FinishReason, ModelCard, Prompt, Sampling, Turn
from helpers.remote import Call, Patience, fetch

#: How providers name the end of an answer. A name that is not here is an ordinary end.
FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
#: More stop strings than this are refused by some providers; the chat applies all of them itself.
MOST_STOPS = 4


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

    def __init__(self, card: ModelCard, provider: Provider, *, context: int, patience: Patience | None = None) -> None:
        self.provider, self.route = provider, providers.route(provider.name)
        self.model = provider.model(card)
        self.patience = patience or Patience()
        self.context, self.precision, self.template = context, "as served", ""
        # The course's own server runs llama.cpp without a vision projector.
        self.sees = "image" in card.modalities and not provider.our_server
        self.retries = 0
        self._call: Call | None = None
        if provider.our_server:
            offered = fetch(self.route, "/props")
            self.template, self.precision = offered["chat_template"], offered["model_ftype"].lower()
            self.template_tokens = {name: offered[name] or "" for name in ("bos_token", "eos_token")}
            self.context = min(context, offered["context"])
        self.client = self._connect()

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        return "it reaches models that run elsewhere: say where, as in open_chat(…, provider='local')"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Hosted:
        raise BackendUnavailable(f"The backend {cls.name!r} needs a provider.", "open_chat(…, provider='local')")

    @classmethod
    def connect(cls, card: ModelCard, *, provider: str, context: int) -> Hosted:
        row = providers.provider(provider)
        if cls.name not in row.sdks:
            raise BackendUnavailable(f"{row.title} is reached with {' or '.join(row.sdks)}, not with {cls.name!r}.")
        return cls(card, row, context=context)

    @abstractmethod
    def _connect(self) -> Any:
        """The SDK's client, with its own retries off."""

    @abstractmethod
    def _chat(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling) -> Generator[Piece, None, None]:
        """The answer to messages as the SDK streams it, its errors as the course's."""

    @abstractmethod
    def _continue(self, tokens: Sequence[int], sampling: Sampling) -> Generator[Piece, None, None]:
        """The continuation of token ids, where the provider has such a route."""

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        if not self.provider.our_server:
            raise UnsupportedOption(
                f"{self.provider.title} keeps its tokenizer to itself.", "Open a model that runs here to see tokens."
            )
        body = {"content": text, "add_special": False, "parse_special": control}
        ids: list[int] = fetch(self.route, "/tokenize", body)["tokens"]
        return ids

    def encode(self, turns: Sequence[Turn]) -> Prompt:
        if self.provider.our_server:
            return super().encode(turns)
        if not self.sees and any(turn.images for turn in turns):
            raise self.blind("The opened model")
        return Prompt(tuple(turns))

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        if prompt.turns:
            return self.answer(conversation(prompt.turns, self.provider.image_bytes), sampling)
        if not prompt.tokens:
            raise InvalidInput("The prompt is empty.")
        tokens = prompt.tokens
        return self._run(lambda: _chunks(self._continue(tokens, sampling), self.provider.title))

    def answer(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling) -> Iterator[Chunk]:
        """The answer to messages in OpenAI's form, which may hold images: see `helpers.messages`."""
        return self._run(lambda: _chunks(self._chat(messages, sampling), self.provider.title))

    def cancel(self) -> None:
        """Ends the call that runs now, from any thread; what came of it stays."""
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        self.cancel()
        self.client.close()

    def _run(self, start: Any) -> Iterator[Chunk]:
        self._call = call = Call(self.patience, self.route)
        try:
            yield from call.chunks(start)
        finally:
            self.retries += max(0, call.attempts - 1)

    def _options(self, sampling: Sampling) -> dict[str, Any]:
        """The options that both SDKs name alike."""
        options: dict[str, Any] = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        if sampling.stop:
            options["stop"] = list(sampling.stop[:MOST_STOPS])
        return options

    def _extras(self) -> dict[str, Any]:
        """Options beyond the SDKs' own: the token counts, and the prompt cache of our server."""
        extras: dict[str, Any] = {"stream_options": {"include_usage": True}}
        return extras | ({"cache_prompt": self.reuse_prompt} if self.provider.our_server else {})

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A connection to a provider cannot be written to a file.", "Open it where you need it.")


def _chunks(pieces: Generator[Piece, None, None], who: str) -> Generator[Chunk, None, None]:
    """The pieces as chunks. Tokens are counted by pieces until the provider tells their number, after the end."""
    new_tokens, prompt_tokens, finish = 0, None, None
    try:
        for piece in pieces:
            finish = piece.finish or finish
            prompt_tokens = piece.prompt_tokens or prompt_tokens
            new_tokens = piece.new_tokens or new_tokens + bool(piece.text)
            if piece.text:
                yield Chunk(piece.text, new_tokens, None, prompt_tokens)
    finally:
        pieces.close()
    if finish is None:
        raise ConnectionLost(
            f"The connection to {who} broke before the answer was whole.", "Ask again; what came is in error.reply."
        )
    if finish == "content_filter":
        raise ContentFiltered(f"The content filter of {who} stopped the answer.", "Ask in other words.")
    yield Chunk("", new_tokens, FINISHES.get(finish, "stop"), prompt_tokens)
