"""Ollama by its native routes, through its official client: a server on this machine that keeps models and loads them.

Its OpenAI routes are reached like any provider's: `open_chat("phi-4-mini", provider="ollama")`. The native ones add
what those lack: the size of the context, top-k, the number of threads.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from helpers import machine, ollama_models, providers
from helpers.backends.hosted import Hosted, Piece
from helpers.errors import ModelGone, ModelUnavailable, RemoteError, RequestRefused, Unreachable, UnsupportedOption
from helpers.ollama_models import READ_SECONDS, full_name, plain_errors
from helpers.records import ModelCard, Prompt, Sampling, Turn
from helpers.remote import Patience

#: What Ollama would otherwise set by itself: it means the same here as on every backend.
NEUTRAL = {"repeat_penalty": 1.0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}


class Engine(Hosted):
    """One model of the Ollama that runs on this machine.

    It keeps its tokenizer to itself, so a prompt is counted only after it was read. A conversation that is longer than
    the context is not refused: Ollama drops its oldest turns. `top_p` and the repetition penalty are not offered,
    since their order and reach differ between the engines inside Ollama.
    """

    name = "ollama"
    package = "ollama"
    install = ollama_models.INSTALL
    hosted = False  # a program on this machine, with the models that it keeps here
    honours = frozenset({"max_new_tokens", "temperature", "top_k", "seed", "stop", "json_schema"})

    def __init__(self, card: ModelCard, model: str, *, context: int, threads: int | None = None) -> None:
        tagged = replace(card, tags={**card.tags, "ollama": model})
        patience = Patience(budget_seconds=READ_SECONDS, read_seconds=READ_SECONDS)
        super().__init__(tagged, providers.provider("ollama"), context=context, patience=patience)
        self.threads = threads or machine.threads()

    @classmethod
    def missing(cls) -> str | None:
        reason = super().missing()
        if reason:
            return reason
        try:
            return ollama_models.too_old(ollama_models.version(seconds=0.5))
        except Unreachable as error:
            return f"{error.message.rstrip('.')}: {ollama_models.how_to_start()}"
        except RemoteError as error:
            return error.message

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if "ollama" in card.tags or card.path or card.gguf:
            return None
        return "Ollama's library does not have it, as far as the course knows"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        if precision is not None:
            raise UnsupportedOption(
                f"Ollama computes with the numbers that its file holds, so it takes no precision={precision!r}.",
                "Leave it out; another tag of Ollama's, such as phi3.5:3.8b-mini-instruct-q8_0, is another file.",
            )
        stale = ollama_models.too_old(ollama_models.version())
        if stale:
            raise RequestRefused(f"{stale}.", f"Update it: {ollama_models.how_to_start()}.")
        row = _installed(card)
        engine = cls(card, row["name"], context=context, threads=threads)
        engine.precision = str(row["quantization"] or "as served").lower()
        # The first answer waits until the model is loaded; here, and not in the midst of a measurement.
        for _ in engine.generate(Prompt((Turn("user", "Hi"),)), Sampling(max_new_tokens=1)):
            pass
        return engine

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        raise UnsupportedOption(
            "Ollama keeps its tokenizer to itself: it has no route that counts tokens or continues a plain text.",
            "Open the model on another backend, such as llamacpp, to see its tokens.",
        )

    def _connect(self) -> Any:
        return ollama_models.client()

    def _chat(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling) -> Generator[Piece, None, None]:
        schema = None if sampling.json_schema is None else dict(sampling.json_schema)
        with plain_errors(self.model):
            parts = self.client.chat(
                self.model,
                [_native(message) for message in messages],
                stream=True,
                format=schema,
                options=self._options(sampling),
            )
            with closing(parts):
                yield from _pieces(parts)

    def _continue(self, tokens: Sequence[int], sampling: Sampling) -> Generator[Piece, None, None]:
        raise UnsupportedOption("Ollama takes texts, not tokens.")

    def _options(self, sampling: Sampling) -> dict[str, Any]:
        return NEUTRAL | {
            "num_ctx": self.context,
            "num_thread": self.threads,
            "num_predict": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
        }


def _installed(card: ModelCard) -> dict[str, Any]:
    """The row of a card's model: the one made from the course's own file if it is there, else the library's."""
    rows = {full_name(row["name"]): row for row in ollama_models.installed()}
    for name in (card.name, card.tags.get("ollama", card.name)):
        if full_name(name) in rows:
            return rows[full_name(name)]
    if "ollama" not in card.tags:
        raise ModelUnavailable(
            f"Ollama does not have {card.name!r}, and its library neither.",
            "Make it from the GGUF file: helpers.modelfile.write(card), then the command that it prints.",
        )
    name = card.tags["ollama"]
    raise ModelGone(
        f"This Ollama does not have {card.title}, which it calls {name!r}.",
        f"Type `ollama pull {name}`, or call helpers.ollama_models.pull({card.name!r}).",
    )


def _native(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in OpenAI's form as one in Ollama's, where images stand apart, in base64 alone."""
    if isinstance(message["content"], str):
        return dict(message)
    words = [part["text"] for part in message["content"] if part["type"] == "text"]
    images = [part["image_url"]["url"].partition(",")[2] for part in message["content"] if part["type"] == "image_url"]
    return {"role": message["role"], "content": "\n".join(words), "images": images}


def _pieces(parts: Iterator[Any]) -> Iterator[Piece]:
    for part in parts:
        if part.message and part.message.content:
            yield Piece(part.message.content)
        if part.done:
            yield Piece("", part.done_reason or "stop", part.prompt_eval_count, part.eval_count)
