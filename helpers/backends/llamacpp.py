"""llama.cpp, through xllamacpp: quantized GGUF files on any processor, several times faster than transformers there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

from helpers import machine
from helpers.backends import Backend
from helpers.backends.remote import Key, Route, fetch
from helpers.backends.streams import iterate, tokens_at_once
from helpers.errors import ContextOverflow, CourseError, DamagedFile, InvalidInput
from helpers.machine import require_memory
from helpers.models import sources
from helpers.records import Chunk, ModelCard, Prompt, Sampling


def started(
    path: str, *, context: int, threads: int | None = None, adjust: Callable[[Any], None] | None = None
) -> tuple[Any, Route]:
    """llama.cpp's own server in this process, and the way to it: on loopback, behind a key made for the run.

    `adjust` may change its `CommonParams` before it starts.
    """
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = path
    options.n_ctx, options.n_parallel = context, 1
    options.n_batch = options.n_ubatch = tokens_at_once(Path(path).stat().st_size)
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads or machine.threads()
    options.verbosity = -1
    # To see how many layers a GPU holds, it reads the file a second time: without one, half of what opening costs.
    options.fit_params = has_gpu()
    options.ui, options.endpoint_metrics = False, True
    key = secrets.token_urlsafe(16)
    options.api_keys = [key]
    if adjust:
        adjust(options)
    try:
        server = xllamacpp.Server(options)
    except RuntimeError as error:
        raise DamagedFile(
            f"llama.cpp cannot load {path}: the file is cut short, or not a GGUF this version knows.",
            "Delete the file and fetch it again.",
        ) from error
    return server, Route("llama.cpp", server.listening_address, Key(key))


def has_gpu() -> bool:
    """Whether this build of llama.cpp finds a GPU to compute on."""
    import xllamacpp

    kinds = xllamacpp.ggml_backend_dev_type
    gpus = {kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU}
    return any(found["type"] in gpus for found in xllamacpp.get_device_info())


class Engine(Backend):
    """One GGUF model in llama.cpp's own server, in this process, on loopback and behind a key made for the run."""

    name = "llamacpp"
    package = "xllamacpp"
    install = "pip install xllamacpp"
    preference = 20
    honours = frozenset(
        {"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "json_schema"}
    )

    def __init__(self, path: str, *, context: int, threads: int | None, precision: str) -> None:
        self._server, self._route = started(path, context=context, threads=threads)
        self.context, self.precision = context, precision
        # Its own loop answers this, so the loop runs from here on: a server closed before that waits for it for ever.
        self._server.handle_metrics()
        properties = self.request("/props")
        self.template = properties["chat_template"]
        self.template_tokens = {name: properties.get(name, "") for name in ("bos_token", "eos_token")}

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if card.gguf or (card.path or "").endswith(".gguf"):
            return None
        return "it needs a GGUF file, and the catalog knows none of this model"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        stored = card.gguf.precision if card.gguf else "gguf"
        if precision not in (None, stored):
            raise InvalidInput(
                f"llama.cpp computes with the numbers its file holds, here {stored}, not {precision}.",
                "Leave precision out, or open the model with backend='transformers'.",
            )
        if card.gguf:
            require_memory(sources.open_memory_bytes(card), card.title)  # before anything is downloaded for it
        path = sources.gguf(card)
        require_memory(path.stat().st_size, card.title)
        return cls(str(path), context=context, threads=threads, precision=stored)

    def request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One of the server's own routes, over loopback."""
        return fetch(self._route, path, body, seconds=60)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": control}
        ids: list[int] = self.request("/tokenize", body)["tokens"]
        return ids

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        request: dict[str, Any] = {
            "prompt": list(prompt.tokens or ()),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": 0.0,
            "repeat_penalty": sampling.repetition_penalty,
            "repeat_last_n": self.context,
            # llama.cpp's own order has temperature last; transformers', which the course promises, before top-k.
            "samplers": ["penalties", "temperature", "top_k", "top_p"],
            "seed": sampling.seed,
            "cache_prompt": prompt.reuse,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,  # an event after each batch of the prompt, at which reading it can end
        }
        if sampling.temperature == 0:
            # The likeliest token needs no sorting of the whole vocabulary: that alone would cost 4 % of the speed.
            request |= {"top_k": 1, "samplers": ["penalties", "top_k"]}
        if sampling.json_schema is not None:
            request["json_schema"] = dict(sampling.json_schema)

        def work(put: Any, cancelled: Event) -> None:
            def receive(event: dict[str, Any]) -> bool:
                if "prompt_progress" not in event:
                    put(event)
                return cancelled.is_set()  # True makes llama.cpp stop

            self._server.handle_completions(request, receive)

        self._cancel = Event()
        events: Iterator[dict[str, Any]] = iterate(work, cancelled=self._cancel)
        for tokens, event in enumerate(events, start=1):
            yield self._chunk(event, tokens, len(prompt.tokens or ()))

    def _chunk(self, event: dict[str, Any], tokens: int, prompt_tokens: int) -> Chunk:
        """One event as a chunk. Each brings one token, but for the last, which brings the count of them all."""
        if "error" in event:
            raise self._error(event["error"])
        choice = event["choices"][0]
        tokens = event.get("usage", {}).get("completion_tokens", tokens)
        return Chunk(choice["text"], tokens, choice["finish_reason"], prompt_tokens)

    def _error(self, error: dict[str, Any]) -> CourseError:
        if error.get("type") == "exceed_context_size_error":
            return ContextOverflow(
                f"The prompt has {error['n_prompt_tokens']} tokens; the context holds {error['n_ctx']}."
            )
        return InvalidInput(f"llama.cpp refuses the request: {error.get('message', error)}")

    def close(self) -> None:
        self._server = None
