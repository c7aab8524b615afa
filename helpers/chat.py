"""One way to talk to a model, whatever runs it.

    with open_chat("smollm2-135m") as chat:
        print(chat.say("What is the capital of Sweden?"))

A model that sees is shown images with the text: `chat.say("What is this?", images=[path_or_PIL_or_array])`.
A chat keeps the history, refuses what does not fit, and times every answer in the same way on every backend: a `Stream`
is one answer while it is written, and the clock that runs beside it.
"""

from __future__ import annotations

import json
import math
import numbers
import reprlib
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers import backends, images
from helpers.backends import Backend
from helpers.backends.streams import LOOK_SECONDS, until_stop
from helpers.errors import ChatClosed, ContextOverflow, InvalidInput, RemoteError
from helpers.models import local
from helpers.records import Chunk, FinishReason, ModelCard, Picture, Prompt, Reply, Sampling, Turn

#: Room for prompt and answer unless `context=` asks for more: a KV cache of 131,072 tokens would fill a laptop.
DEFAULT_CONTEXT = 4096
#: More characters than this for each token of context cannot fit, so there is no need to tokenize them to know.
CHARACTERS_PER_TOKEN = 64
#: What an option of `Sampling` may be: whole or any number, its range, and the words for both.
NUMBERS: dict[str, tuple[type[int] | type[float], Callable[[float], bool], str]] = {
    "max_new_tokens": (int, lambda n: 1 <= n < 2**31, "a whole number from 1 on"),
    "temperature": (float, lambda t: t >= 0, "a number from 0 on"),
    "top_p": (float, lambda p: 0 < p <= 1, "a number above 0 and at most 1"),
    "top_k": (int, lambda k: 0 <= k < 2**31, "a whole number from 0 on"),
    "repetition_penalty": (float, lambda p: p > 0, "a number above 0"),
    "seed": (int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 4,294,967,295"),
}


class Stream(Iterator[str]):
    """An answer as it is written: iterate for its pieces of text; afterwards `reply` is the whole of it.

    Leaving early (`close`) stops the engine; what came until then is the reply, with finish reason "cancelled". Another
    thread may close it too, also while the prompt is still being read.
    The time to the first token runs from the call to the first token's arrival; the decode rate counts the tokens
    after it.
    """

    def __init__(
        self,
        backend: Backend,
        model: str,
        prompt: Prompt,
        sampling: Sampling,
        dropped_turns: int = 0,
        remember: Callable[[Reply], None] | None = None,
    ) -> None:
        self.reply: Reply | None = None
        self._cancelled, self._reading = False, threading.RLock()
        self._backend, self._model, self._dropped, self._remember = backend, model, dropped_turns, remember
        self._started = time.perf_counter()
        self._chunks = until_stop(backend.generate(prompt, sampling), sampling.stop)
        self._text: list[str] = []
        self._last = Chunk("", 0, prompt_tokens=None if prompt.tokens is None else len(prompt.tokens))
        self._first_at = self._last_at = self._started

    def __next__(self) -> str:
        with self._reading:
            return self._next()

    def _next(self) -> str:
        while self.reply is None:
            _refuse_closed(self._backend)
            try:
                chunk = None if self._cancelled else next(self._chunks, None)
            except RemoteError as error:
                # What arrived is kept and marked, and stays out of the history: it is nobody's whole answer.
                self._remember = None
                self._finish("interrupted")
                error.reply = self.reply
                raise
            if chunk is None:
                self._chunks.close()
                self._finish("cancelled" if self._cancelled else self._last.finish_reason or "stop")
                break
            self._read_clock(chunk)
            if chunk.text:
                self._text.append(chunk.text)
                return chunk.text
        raise StopIteration

    def cancel(self) -> None:
        """Asks the engine to stop, and waits for nothing: whoever iterates finds the answer ended."""
        self._cancelled = True
        if self.reply is None:
            self._backend.cancel()

    def close(self, *, keep: bool = True) -> None:
        """Stops the engine if it is still writing; `keep` makes what came until then the reply."""
        while not self._reading.acquire(timeout=LOOK_SECONDS):  # another thread waits for the engine
            self.cancel()
        try:
            if self.reply is None:
                self._chunks.close()
                if keep:
                    self._finish("cancelled")
        finally:
            self._reading.release()

    def _read_clock(self, chunk: Chunk) -> None:
        # A chunk without a new token (the end, a held-back piece) is no time spent on decoding.
        if chunk.new_tokens > self._last.new_tokens:
            self._last_at = time.perf_counter()
            if not self._last.new_tokens:
                self._first_at = self._last_at
        self._last = chunk

    def _finish(self, reason: FinishReason) -> None:
        tokens, seconds = self._last.new_tokens, self._last_at - self._first_at
        self.reply = Reply(
            text="".join(self._text),
            model=self._model,
            backend=self._backend.name,
            prompt_tokens=self._last.prompt_tokens,
            new_tokens=tokens,
            ttft_seconds=self._first_at - self._started,
            decode_tokens_per_second=(tokens - 1) / seconds if tokens > 1 and seconds > 0 else None,
            finish_reason=reason,
            dropped_turns=self._dropped,
        )
        # An answer of which nobody read a word is no turn of the conversation.
        if self._remember is not None and (self._text or reason != "cancelled"):
            self._remember(self.reply)


def open_chat(
    model: str | Path,
    backend: str = "auto",
    *,
    provider: str | None = None,
    sdk: str | None = None,
    system: str | None = None,
    context: int | None = None,
    threads: int | None = None,
    precision: str | None = None,
    history: Sequence[Turn] = (),
    shorten: bool = False,
    reuse_prompt: bool = True,
    **sampling: Any,
) -> Chat:
    """A chat with `model`: a name of the catalog, a folder of safetensors, or a GGUF file.

    `backend` is the name of an engine on this machine or "auto": the fastest that is installed and serves the model.
    With a `provider`, such as "nim" or "local", the model runs there, and `sdk` reaches it: "openai", which is taken
    unless it cannot, or "azure". `context` counts tokens of prompt and answer together (4,096, or the model's own
    limit if that is lower). `shorten` drops the oldest turns instead of refusing a conversation that became too long.
    `history` are turns that went before. `reuse_prompt=False` reads every prompt anew instead of taking what it shares
    with the one before from the KV cache. Further arguments are `Sampling`'s.
    """
    card = local.card_of(model)
    limit = card.shape.context if card.shape else DEFAULT_CONTEXT
    context = min(DEFAULT_CONTEXT, limit) if context is None else _number("context", context, int, "a whole number")
    if not 1 <= context <= limit:
        raise InvalidInput(f"{card.title} has a context of at most {limit} tokens, not {context}.")
    if threads is not None and _number("threads", threads, int, "a whole number") < 1:
        raise InvalidInput(f"An engine computes with at least one thread, not {threads}.")
    options = sampling_of(Sampling(), sampling)
    if provider is not None or sdk is not None:
        opened = backends.reach(card, backend, provider=provider, sdk=sdk, context=context)
    else:
        opened = backends.engine_for(backend, card).open(card, context=context, threads=threads, precision=precision)
    return Chat(
        opened, card, sampling=options, system=system, history=history, shorten=shorten, reuse_prompt=reuse_prompt
    )


def sampling_of(base: Sampling, options: Mapping[str, Any]) -> Sampling:
    """`base` with the options changed, all of them checked for their type and range; numpy's numbers become Python's.

    >>> sampling_of(Sampling(), {"temperature": 1, "stop": "END"}).stop
    ('END',)
    """
    known = Sampling.__slots__
    for name in options:
        if name not in known:
            raise InvalidInput(f"There is no sampling option {name!r}.", f"Choose from {', '.join(known)}.")
    chosen: dict[str, Any] = {name: options.get(name, getattr(base, name)) for name in known}
    for name, (kind, fits, meaning) in NUMBERS.items():
        number = _number(name, chosen[name], kind, meaning)
        if not fits(number):
            raise _not_so(name, chosen[name], meaning)
        chosen[name] = number
    return Sampling(**chosen | {"stop": _stops(chosen["stop"]), "json_schema": _schema(chosen["json_schema"])})


def _number(name: str, value: Any, kind: type[int] | type[float], meaning: str) -> Any:
    wanted: Any = numbers.Integral if kind is int else numbers.Real
    try:
        if type(value) is not bool and isinstance(value, wanted) and math.isfinite(value):
            return kind(value)
    except OverflowError:  # a whole number beyond every float
        pass
    raise _not_so(name, value, meaning)


def _stops(value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else value
    fine = isinstance(stops, list | tuple | set | frozenset)
    # Half a character cannot be sent, nor ever be found.
    if not fine or not all(isinstance(s, str) and s and s == s.encode(errors="replace").decode() for s in stops):
        raise _not_so("stop", value, "a text or a list of texts, none of them empty")
    return tuple(stops)


def _schema(value: Any) -> Mapping[str, object] | None:
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            json.dumps(dict(value), allow_nan=False)
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    raise InvalidInput(
        "json_schema is a dict that can be written as JSON.",
        "For a class of pydantic's, that is Model.model_json_schema(); for a JSON text, json.loads(text).",
    )


def _not_so(name: str, value: Any, meaning: str) -> InvalidInput:
    step = "Leave it out, or see Sampling for its meaning."
    return InvalidInput(f"{name} is {meaning}, not {reprlib.repr(value)}.", step)


class Chat:
    """A conversation with one opened model. Use it in a `with`, or `close` it, to free the model's memory."""

    def __init__(
        self,
        backend: Backend,
        card: ModelCard,
        *,
        sampling: Sampling,
        system: str | None = None,
        history: Sequence[Turn] = (),
        shorten: bool = False,
        reuse_prompt: bool = True,
    ) -> None:
        if not isinstance(history, list | tuple) or not all(isinstance(turn, Turn) for turn in history):
            raise InvalidInput("A history is a list of turns.", "Write them like Turn('user', 'Hello').")
        backend.check(sampling)
        self.backend, self.card, self.sampling = backend, card, sampling
        self.shorten, self.reuse_prompt = shorten, reuse_prompt
        self._system = [Turn("system", _readable(system))] if system is not None else []
        self._turns = list(history)
        self._writing: Stream | None = None

    @property
    def history(self) -> tuple[Turn, ...]:
        """The turns so far, the system message first where there is one."""
        return (*self._system, *self._turns)

    def another(
        self,
        *,
        system: str | None = None,
        history: Sequence[Turn] = (),
        reuse_prompt: bool | None = None,
        **sampling: Any,
    ) -> Chat:
        """A new conversation with the model that is open here, under other settings; this one stays as it is.

        Without `system` it has this chat's own system message. Both share the engine: nothing is loaded again, and
        closing either closes it for both.
        """
        _refuse_closed(self.backend)
        own = self._system[0].text if self._system else None
        return Chat(
            self.backend,
            self.card,
            sampling=sampling_of(self.sampling, sampling),
            system=own if system is None else system,
            history=history,
            shorten=self.shorten,
            reuse_prompt=self.reuse_prompt if reuse_prompt is None else reuse_prompt,
        )

    def reset(self) -> None:
        """Forgets the turns; the system message stays."""
        self._stop_writing()
        self._turns.clear()

    def say(self, text: str, *, images: Sequence[Any] = (), **sampling: Any) -> Reply:
        """The whole answer to `text`, which joins the history. An interrupted answer leaves the history as it was.

        `images` are shown before the text, in their order: paths, PIL images or arrays, as `helpers.images` reads them.
        """
        return self._whole(self.stream(text, images=images, **sampling))

    def stream(self, text: str, *, images: Sequence[Any] = (), **sampling: Any) -> Stream:
        """The answer to `text`, piece by piece as it is written."""
        _refuse_closed(self.backend)
        self._stop_writing()
        options = self._options(sampling)
        asked = Turn("user", _readable(text), self._looked_at(images))
        self._refuse_hopeless(asked.text)
        prompt, kept = self._fit([*self._turns, asked], options)

        def remember(reply: Reply) -> None:
            self._turns = [*kept, Turn("assistant", reply.text)]

        dropped = len(self._turns) + 1 - len(kept)
        self._writing = Stream(self.backend, self.card.name, prompt, options, dropped, remember)
        return self._writing

    def complete(self, text: str, **sampling: Any) -> Reply:
        """`text` continued as plain text, without chat template or history."""
        _refuse_closed(self.backend)
        self._stop_writing()
        options = self._options(sampling)
        self._refuse_hopeless(_readable(text))
        prompt = Prompt((), tuple(self.backend.tokenize(text)), self.reuse_prompt)
        self._refuse_overflow(prompt, options)
        return self._whole(Stream(self.backend, self.card.name, prompt, options))

    def close(self) -> None:
        """Frees the model; closing twice is harmless."""
        self._stop_writing()
        self.backend.close()
        self.backend.closed = True

    def __enter__(self) -> Chat:
        _refuse_closed(self.backend)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Chat({self.card.name!r} on {self.backend.name}, {self.backend.precision}, {len(self._turns)} turns)"

    def _whole(self, stream: Stream) -> Reply:
        """The whole of an answer; if it is interrupted, the engine stops and nothing is remembered."""
        try:
            for _ in stream:
                pass
        except BaseException:
            self._writing = None
            stream.close(keep=False)
            raise
        assert stream.reply is not None
        return stream.reply

    def _looked_at(self, given: Sequence[Any]) -> tuple[Picture, ...]:
        """The images as a model is given them. One that reads text only is not even asked to open the files."""
        if not isinstance(given, list | tuple):
            raise InvalidInput(f"images is a list, not {type(given).__name__}.", "Write images=[…] around the image.")
        if given and not self.backend.sees:
            raise self.backend.blind(self.card.title)
        return tuple(images.read(image) for image in given)

    def _options(self, changes: dict[str, Any]) -> Sampling:
        options = sampling_of(self.sampling, changes)
        self.backend.check(options)
        return options

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _fit(self, turns: Sequence[Turn], options: Sampling) -> tuple[Prompt, list[Turn]]:
        """The prompt, and the turns that it holds: all of them, or the newest that fit where `shorten` is on."""
        kept = list(turns)
        prompt = self.backend.encode([*self._system, *kept])
        while self.shorten and len(kept) > 2 and self._overflow(prompt, options):
            del kept[:2]  # a question goes with its answer
            prompt = self.backend.encode([*self._system, *kept])
        self._refuse_overflow(prompt, options)
        return replace(prompt, reuse=self.reuse_prompt), kept

    def _overflow(self, prompt: Prompt, options: Sampling) -> bool:
        return prompt.tokens is not None and len(prompt.tokens) + options.max_new_tokens > self.backend.context

    def _refuse_overflow(self, prompt: Prompt, options: Sampling) -> None:
        if self._overflow(prompt, options):
            raise ContextOverflow(
                f"The conversation has {len(prompt.tokens or ())} tokens and the answer may take "
                f"{options.max_new_tokens}; the context holds {self.backend.context}.",
                "Send less text or smaller images, lower max_new_tokens, call reset(), or open the chat with "
                "shorten=True or a larger context=.",
            )

    def _refuse_hopeless(self, text: str) -> None:
        """Refuses a text that is so long that tokenizing it would only waste a minute."""
        if len(text) > CHARACTERS_PER_TOKEN * self.backend.context:
            raise ContextOverflow(
                f"The text has {len(text):,} characters; the context holds {self.backend.context} tokens.",
                "Send a part of it.",
            )


def _refuse_closed(backend: Backend) -> None:
    if backend.closed:
        raise ChatClosed(
            "This chat is closed: its model is no longer in memory.",
            "Ask inside the `with` block, or open a new chat with open_chat.",
        )


def _readable(text: str) -> str:
    """`text` if a tokenizer can read it as text, else a refusal that says why."""
    if not isinstance(text, str):
        raise InvalidInput(f"A message is text, not {type(text).__name__}.", "Decode bytes first, as in data.decode().")
    if not text.strip():
        raise InvalidInput("The message is empty.", "Write something for the model to answer.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"The message holds half a character at position {error.start}.", "Read it as UTF-8."
        ) from error
    control = next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r\f\v"), None)
    if control is not None:
        raise InvalidInput(
            f"The message looks like binary data: it holds the control character U+{ord(control):04X}.",
            "Send text; for a file, read the text out of it first.",
        )
    return text
