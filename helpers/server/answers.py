"""What is answered, in OpenAI's forms: a chat, a text or a response, whole or as a stream's events, and refusals.

`Completions` and `Responses` make both forms of the pieces that a model's slots give. Whatever goes wrong becomes a
`Refused`: an HTTP status, a code and a sentence. After the first event of a stream it is an event, since the status has
gone out.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import (
    Any,  # pydantic reads Python 3.11's own without its Required
)

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from helpers.backends.streams import merged
from helpers.errors import ContextOverflow, CourseError, EngineFault, ModelUnavailable, NotEnough
from helpers.server.bodies import ChatBody, ResponseBody, TextBody
from helpers.server.toolcalls import CallPiece

#: The seconds of silence after which a stream sends a comment, so that nobody takes the line for dead.
SILENT_SECONDS = 10.0
#: How clients call a part of a message that is an image, in chats and in responses.
IMAGE_PARTS = ("image_url", "input_image")


class Completions:
    """The answers to a chat or a text, whole or as a stream's events."""

    def __init__(self, model: str, body: ChatBody | TextBody, prompt_tokens: int) -> None:
        self.chat, self.prompt_tokens = isinstance(body, ChatBody), prompt_tokens
        self.told = bool(body.stream_options and body.stream_options.get("include_usage"))
        made = {"id": f"{'chatcmpl' if self.chat else 'cmpl'}-{secrets.token_hex(12)}", "created": int(time.time())}
        self.head = made | {"model": model, "object": "chat.completion" if self.chat else "text_completion"}
        self.calls: Counter[int] = Counter()
        self.ends: list[Any] = []

    def whole(self, pieces: Sequence[CallPiece]) -> dict[str, Any]:
        """One JSON object; `timings` are llama.cpp's own, of the first choice."""
        several = {piece.choice for piece in pieces}
        choices = [self._choice([one for one in pieces if one.choice == place]) for place in sorted(several)]
        return self.head | {"choices": choices, "usage": self._usage(), "timings": self.ends[0]["timings"]}

    def begin(self) -> Iterator[bytes]:
        """What stands before the first piece."""
        if self.chat:
            self.head["object"] = "chat.completion.chunk"
            yield self._event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def event(self, piece: CallPiece) -> Iterator[bytes]:
        """A piece as it comes."""
        yield self._event([self._choice([piece], streamed=True)])

    def finish(self) -> Iterator[bytes]:
        """What stands behind the last piece."""
        if self.told:
            yield self._event([], usage=self._usage())
        yield b"data: [DONE]\n\n"

    def _event(self, choices: list[Any], **more: Any) -> bytes:
        told = {"usage": None} if self.told else {}
        return b"data: " + json.dumps(self.head | {"choices": choices} | told | more).encode() + b"\n\n"

    def _choice(self, pieces: list[CallPiece], *, streamed: bool = False) -> dict[str, Any]:
        place, text = pieces[0].choice, "".join(piece.text for piece in pieces)
        calls = []
        for name, arguments in (piece.call for piece in pieces if piece.call):
            call = {"id": f"call_{secrets.token_hex(8)}", "type": "function"}
            index = {"index": self.calls[place]} if streamed else {}
            calls.append(index | call | {"function": {"name": name, "arguments": arguments}})
            self.calls[place] += 1
        end = pieces[-1].end
        self.ends += [end] if end else []
        called = "tool_calls" if self.calls[place] else "stop"
        finish = end and ("length" if end["stop_type"] == "limit" else called)
        choice: dict[str, Any] = {"index": place, "logprobs": self._logprobs(pieces), "finish_reason": finish}
        if not self.chat:
            return choice | {"text": text}
        said: dict[str, Any] = {"content": text} if text or not (calls or streamed) else {}
        said |= {"tool_calls": calls} if calls else {}
        return choice | ({"delta": said} if streamed else {"message": {"role": "assistant", "content": None} | said})

    def _logprobs(self, pieces: list[CallPiece]) -> dict[str, Any] | None:
        tokens = [token for piece in pieces for token in piece.logprobs]
        if not tokens or self.chat:
            return {"content": [_logprob(token) for token in tokens], "refusal": None} if tokens else None
        tops = [{top["token"]: top["logprob"] for top in token["top_logprobs"]} for token in tokens]
        words = [token["token"] for token in tokens]
        offsets = [sum(map(len, words[:place])) for place in range(len(words))]
        numbers = [token["logprob"] for token in tokens]
        return {"tokens": words, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets}

    def _usage(self) -> dict[str, Any]:
        new, cached = sum(end["tokens_predicted"] for end in self.ends), self.ends[0]["timings"].get("cache_n", 0)
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": new}
        return counts | {"total_tokens": self.prompt_tokens + new, "prompt_tokens_details": {"cached_tokens": cached}}


def _logprob(token: Any) -> dict[str, Any]:
    plain = {key: token[key] for key in ("token", "logprob", "bytes")}
    tops = [{key: top[key] for key in plain} for top in token.get("top_logprobs", [])]
    return plain | {"top_logprobs": tops}


class Responses:
    """The answer of /v1/responses, whole or as a stream's events."""

    def __init__(self, model: str, body: ResponseBody, prompt_tokens: int) -> None:
        self.output: list[dict[str, Any]] = []
        self.prompt_tokens, self.number, self.end = prompt_tokens, -1, dict[str, Any]()
        given = body.model_dump(include={"instructions", "temperature", "top_p", "max_output_tokens"})
        self.head = given | {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
        }
        self.head |= {
            "model": model,
            "tools": body.tools or [],
            "tool_choice": body.tool_choice or "auto",
            "store": False,
        }
        self.head |= {"parallel_tool_calls": body.parallel_tool_calls is not False, "metadata": {}, "error": None}
        self.head |= {"text": body.text or {"format": {"type": "text"}}}

    def whole(self, pieces: Sequence[CallPiece]) -> dict[str, Any]:
        """One JSON object."""
        for piece in pieces:
            list(self.event(piece))
        list(self.finish())
        return self._response()

    def begin(self) -> Iterator[bytes]:
        """What stands before the first piece."""
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response())

    def event(self, piece: CallPiece) -> Iterator[bytes]:
        """A piece as it comes."""
        self.end = dict(piece.end or {})
        if piece.text:
            if not self.output or self.output[-1]["type"] != "message":
                yield from self._open({"type": "message", "role": "assistant", "content": []}, "msg")
                part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
                yield self._event("response.content_part.added", content_index=0, part=part, **self._place)
                self.output[-1]["content"].append(part)
            self.output[-1]["content"][0]["text"] += piece.text
            told = {"content_index": 0, "delta": piece.text, "logprobs": []}
            yield self._event("response.output_text.delta", **told, **self._place)
        if piece.call:
            name, arguments = piece.call
            call = {"type": "function_call", "name": name, "arguments": "", "call_id": f"call_{secrets.token_hex(8)}"}
            yield from self._open(call, "fc")
            yield self._event("response.function_call_arguments.delta", delta=arguments, **self._place)
            self.output[-1]["arguments"] = arguments

    def finish(self) -> Iterator[bytes]:
        """What stands behind the last piece."""
        yield from self._close()
        response = self._response()
        yield self._event(f"response.{response['status']}", response=response)

    def _open(self, item: dict[str, Any], prefix: str) -> Iterator[bytes]:
        yield from self._close()
        self.output.append(item | {"id": f"{prefix}_{secrets.token_hex(8)}", "status": "in_progress"})
        yield self._event("response.output_item.added", output_index=len(self.output) - 1, item=self.output[-1])

    def _close(self) -> Iterator[bytes]:
        if not self.output or self.output[-1]["status"] == "completed":
            return
        item = self.output[-1]
        item["status"] = "completed"
        if item["type"] == "message":
            part, place = item["content"][0], self._place | {"content_index": 0}
            yield self._event("response.output_text.done", text=part["text"], logprobs=[], **place)
            yield self._event("response.content_part.done", part=part, **place)
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **done, **self._place)
        yield self._event("response.output_item.done", output_index=len(self.output) - 1, item=item)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1}

    def _event(self, kind: str, **values: Any) -> bytes:
        self.number += 1
        data = json.dumps({"type": kind, "sequence_number": self.number, **values})
        return f"event: {kind}\ndata: {data}\n\n".encode()

    def _response(self) -> dict[str, Any]:
        cut = self.end and self.end["stop_type"] == "limit"
        state: dict[str, Any] = {
            "status": "incomplete" if cut else "completed" if self.end else "in_progress",
            "output": self.output,
        }
        state |= {"incomplete_details": {"reason": "max_output_tokens"} if cut else None, "usage": None}
        if self.end:
            new, cached = self.end["tokens_predicted"], self.end["timings"].get("cache_n", 0)
            usage = {"input_tokens": self.prompt_tokens, "output_tokens": new, "total_tokens": self.prompt_tokens + new}
            details = {
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens_details": {"reasoning_tokens": 0},
            }
            state["usage"] = usage | details
        return self.head | state


class Refused(Exception):
    """A request that is answered with an HTTP status and a sentence."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None, wait: float | None = None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = {"Retry-After": f"{max(1, round(wait))}"} if wait is not None else {}


def entry(name: str) -> dict[str, Any]:
    """A model in OpenAI's list."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "this course"}


def as_refused(error: Exception) -> Refused:
    """Any error as an answer: what the client can mend is a 4xx."""
    match error:
        case Refused():
            return error
        case ValidationError():
            wrong = error.errors(include_url=False, include_context=False)
            if any(one["type"] == "literal_error" and one["input"] in IMAGE_PARTS for one in wrong):
                sentence = "The models here read text only. Leave the image out, or ask a model that sees elsewhere."
                return Refused(400, "unsupported_content", sentence, param="messages")
            first = wrong[0]
            where = ".".join(map(str, first["loc"]))
            kinds = {"extra_forbidden": "unknown_parameter", "json_invalid": "invalid_json"}
            code = kinds.get(first["type"], "invalid_value")
            return Refused(400, code, f"{where or 'The request'}: {first['msg']}.", param=where or None)
        case HTTPException():
            named = {404: "There is no such route here.", 405: "This route takes another method."}
            refused = Refused(error.status_code, "not_found", named.get(error.status_code, error.detail))
            refused.headers = dict(error.headers or {})
            return refused
        case ContextOverflow():
            return Refused(400, "context_length_exceeded", error.message, param="messages")
        case ModelUnavailable():
            return Refused(404, "model_not_found", error.message, param="model")
        case EngineFault() | NotEnough():
            return Refused(503, "engine_failed", error.message, wait=5)
        case CourseError():
            return Refused(400, "invalid_request", error.message)
    return Refused(500, "server_error", f"The server failed: {type(error).__name__}.")


def form_of(error: Refused) -> dict[str, Any]:
    """A refusal in OpenAI's form."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(error.status, "invalid_request_error")
    kind = "server_error" if error.status >= 500 else kind
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


async def collected(sources: Sequence[AsyncIterator[CallPiece]]) -> list[CallPiece]:
    """All pieces."""
    return [piece async for piece in merged(sources, SILENT_SECONDS) if piece is not None]


async def events_of(
    form: Completions | Responses, sources: Sequence[AsyncIterator[CallPiece]]
) -> AsyncGenerator[bytes]:
    """A stream's events; an error after the first is one of them, since the status has gone out."""
    for data in form.begin():
        yield data
    try:
        async with aclosing(merged(sources, SILENT_SECONDS)) as pieces:
            async for piece in pieces:
                for data in form.event(piece) if piece else (b": the answer is on its way\n\n",):
                    yield data
        for data in form.finish():
            yield data
    except CourseError as error:
        yield b"data: " + json.dumps(form_of(as_refused(error))).encode() + b"\n\n"
