"""llama.cpp's own server with several slots: requests that come together are decoded together.

A slot is a place for one conversation and its KV cache. With continuous batching every step computes one token for
each busy slot, and a request that comes later joins at the next step, so the weights are read once for all of them.
"""

from __future__ import annotations

import http.client
import json
import secrets
from typing import Any

from helpers.errors import InvalidInput
from helpers.models.templates import pieces
from helpers.records import Turn


class Slots:
    """llama.cpp's server, on loopback, behind a key that only this process knows."""

    def __init__(self, path: str, *, model: str, slots: int, context: int, threads: int) -> None:
        import xllamacpp

        options = xllamacpp.CommonParams()
        options.model.path, options.model_alias = path, {model}
        options.n_parallel, options.n_ctx = slots, slots * context
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
        options.verbosity, options.ui = -1, False
        # What a request leaves out means the same as in the course's Sampling: no filter.
        options.sampling.top_k, options.sampling.top_p, options.sampling.min_p = 0, 1.0, 0.0
        options.sampling.temp = 1.0
        self._key = secrets.token_urlsafe(16)
        options.api_keys = [self._key]
        self._server = xllamacpp.Server(options)
        self._address = self._server.listening_address.removeprefix("http://")
        self.properties = self.json("GET", "/props")

    def send(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        """The open response to one request; closing it stops the work on it."""
        connection = http.client.HTTPConnection(self._address, timeout=600)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", "Connection": "close"}
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The whole of a short answer."""
        with self.send(method, path, None if body is None else json.dumps(body).encode()) as answer:
            return json.load(answer)

    def tokens(self, text: str, *, control: bool) -> list[int]:
        """The token ids of a text."""
        body = {"content": text, "add_special": False, "parse_special": control}
        return self.json("POST", "/tokenize", body)["tokens"]

    def as_typed(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The request with its prompt as token ids, if a message holds control tokens; None if none does.

        llama.cpp tokenizes a rendered conversation in one go, so that `<|im_end|>` in a message would end the turn.
        """
        messages = request.get("messages") or []
        typed = "\n".join(json.dumps(m.get("content"), ensure_ascii=False) for m in messages)
        if self.tokens(typed, control=False) == self.tokens(typed, control=True):
            return None
        if request.get("tools") or not all(isinstance(m.get("content"), str) for m in messages):
            raise InvalidInput("With tools or images, a message may not hold control tokens.")
        turns = [Turn(m["role"], m["content"]) for m in messages]
        names = {name: self.properties.get(name, "") for name in ("bos_token", "eos_token")}
        parts = pieces(self.properties["chat_template"], turns, **names)
        changed = {k: v for k, v in request.items() if k not in ("messages", "response_format")}
        schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema")
        prompt = [i for text, is_typed in parts for i in self.tokens(text, control=not is_typed)]
        return changed | {"prompt": prompt} | ({"json_schema": schema} if schema else {})


def as_chat(event: bytes) -> bytes:
    """A piece of a text completion in the form of a chat completion, whole or as an event of a stream."""
    streamed = event.startswith(b"data: ")
    payload = event.removeprefix(b"data: ").strip()
    if payload == b"[DONE]":
        return event
    value = json.loads(payload)
    for choice in value.get("choices", []):
        text = choice.pop("text", "")
        choice["delta" if streamed else "message"] = {"role": "assistant", "content": text}
    value["object"] = "chat.completion.chunk" if streamed else "chat.completion"
    data = json.dumps(value).encode()
    return b"data: " + data + b"\n\n" if streamed else data
