"""What the backends for models that run elsewhere have in common; an SDK adds how a request is made.

Messages in OpenAI's form that hold images, for models that see.

An image travels inside the request as a data address: its bytes in base64, which makes them a third longer. So a
request can grow beyond what a provider takes, and the size is checked before anything is sent.
"""

from __future__ import annotations

import base64
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from helpers import images
from helpers.backends import Backend, providers
from helpers.backends.providers import Provider
from helpers.backends.remote import Call, Patience, fetch
from helpers.errors import BackendUnavailable, ConnectionLost, ContentFiltered, InvalidInput, UnsupportedOption
from helpers.records import Chunk, FinishReason, ModelCard, Prompt, Sampling, Turn

#: The first bytes of the formats that every provider takes.
FORMATS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
#: Enough for a screenshot, and below every documented limit but the smallest.
IMAGE_BYTES = 4_000_000


def conversation(turns: Sequence[Turn], limit: int = IMAGE_BYTES) -> list[dict[str, Any]]:
    """The messages of a conversation; an image that is too large for its share of `limit` goes as a smaller JPEG.

    >>> conversation([Turn("user", "Hi")])
    [{'role': 'user', 'content': 'Hi'}]
    """
    pictures = [picture for turn in turns for picture in turn.images]
    room = limit * 3 // 4 // max(1, len(pictures)) - len("data:image/jpeg;base64,")  # base64: 4 bytes for 3
    files = iter([images.as_small_bytes(picture, room) for picture in pictures])
    messages: list[dict[str, Any]] = []
    for turn in turns:
        shown = [next(files) for _ in turn.images]
        content = message(turn.text, *shown, limit=limit)["content"] if shown else turn.text
        messages.append({"role": turn.role, "content": content})
    _refuse_more_than(limit, [part for m in messages if isinstance(m["content"], list) for part in m["content"][1:]])
    return messages


def message(text: str, *files: Path | str | bytes, limit: int = IMAGE_BYTES) -> dict[str, Any]:
    """A user's message: a text and its images, each a file or its bytes.

    `limit` is what all images of the request may take together, in bytes as they are sent; a provider's own stands
    in its row as `image_bytes`.

    >>> message("What is this?")
    {'role': 'user', 'content': [{'type': 'text', 'text': 'What is this?'}]}
    """
    parts = [{"type": "image_url", "image_url": {"url": data_address(file)}} for file in files]
    _refuse_more_than(limit, parts)
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def _refuse_more_than(limit: int, parts: Sequence[Mapping[str, Any]]) -> None:
    size = sum(len(part["image_url"]["url"]) for part in parts)
    if size > limit:
        raise InvalidInput(
            f"The images take {size:,} bytes as they are sent, above the limit of {limit:,}.",
            "Make them smaller, or save them as JPEG: a model sees little more than 1,000 pixels a side.",
        )


def data_address(image: Path | str | bytes) -> str:
    """An image as a `data:` address (RFC 2397)."""
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    kind = next((kind for start, kind in FORMATS.items() if data.startswith(start)), None)
    if kind is None:
        raise InvalidInput("The image is in no format that every provider takes.", "Save it as PNG, JPEG or JPG.")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


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
        self._reuse = prompt.reuse
        if prompt.turns:
            return self.answer(conversation(prompt.turns, self.provider.image_bytes), sampling)
        if not prompt.tokens:
            raise InvalidInput("The prompt is empty.")
        tokens = prompt.tokens
        return self._run(lambda: _chunks(self._continue(tokens, sampling), self.provider.title))

    def answer(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling) -> Iterator[Chunk]:
        """The answer to messages in OpenAI's form, which may hold images: see `helpers.backends.hosted`."""
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
        return extras | ({"cache_prompt": self._reuse} if self.provider.our_server else {})

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
