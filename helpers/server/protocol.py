"""OpenAI's protocol: the models of what may pass, and the forms of what is answered.

A field that is not here is refused by name, a value out of its range too, before anything is computed. Names and
meanings are those of OpenAI's reference, as its SDK 3.54 types them. `top_k`, `repetition_penalty`, `cache_prompt` and
`ignore_eos` are this server's own. Where only OpenAI's default can be honoured, that value alone may be sent.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import (
    Annotated,
    Any,
    Literal,
    Required,  # pydantic reads Python 3.11's own without its Required
)

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from helpers.backends.streams import merged
from helpers.errors import ContextOverflow, CourseError, EngineFault, ModelUnavailable, NotEnough
from helpers.records import ModelCard, Sampling
from helpers.server.toolcalls import Allowed, CallPiece, signature

#: Choices of one request, and texts that one request for embeddings may hold.
MOST_CHOICES, MOST_TEXTS = 8, 256
#: The seconds of silence after which a stream sends a comment, so that nobody takes the line for dead.
SILENT_SECONDS = 10.0
PositiveCount = Annotated[int, Field(ge=1, le=2**31 - 1)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
ToolMode = Literal["none", "auto", "required"]
Schema = dict[str, Any]
Zero = Annotated[float, Field(ge=0, le=0)]


class Part(TypedDict, total=False):
    type: Required[Literal["text", "input_text", "output_text"]]
    text: Required[str]
    annotations: list[Any] | None
    logprobs: list[Any] | None


Content = str | list[Part]


class Called(TypedDict, total=False):
    name: Required[Name]
    arguments: Required[str]
    parsed_arguments: Any  # what OpenAI's SDK makes of a streamed call, and hands back with it


class Call(TypedDict, total=False):
    index: int
    id: Required[str]
    type: Literal["function"]
    function: Required[Called]


class SaidText(TypedDict, total=False):
    role: Required[Literal["system", "developer", "user"]]
    content: Required[Content]
    name: str | None


# An assistant's message may come back as a client keeps it, with what is empty in our answers.
class Answered(TypedDict, total=False):
    role: Required[Literal["assistant"]]
    content: Content | None
    tool_calls: list[Call] | None
    name: str | None
    refusal: None
    parsed: Any
    audio: None
    function_call: None
    annotations: list[Any] | None


class Result(TypedDict, total=False):
    role: Required[Literal["tool"]]
    content: Required[Content]
    tool_call_id: Required[str]
    name: str | None


Message = Annotated[SaidText | Answered | Result, Field(discriminator="role")]


class Function(TypedDict, total=False):
    name: Required[Name]
    description: str | None
    parameters: Schema | None
    strict: bool | None


class FunctionTool(TypedDict):
    type: Literal["function"]
    function: Function


class Named(TypedDict):
    name: Name


class NamedTool(TypedDict):
    type: Literal["function"]
    function: Named


class JsonSchema(TypedDict, total=False):
    name: Required[Name]
    schema: Required[Schema]
    description: str | None
    strict: bool | None


class Format(TypedDict, total=False):
    type: Required[Literal["text", "json_object", "json_schema"]]
    json_schema: JsonSchema


class StreamOptions(TypedDict, total=False):
    include_usage: bool | None
    include_obfuscation: Literal[False] | None


# What /v1/responses writes in other words.
class FlatTool(TypedDict, total=False):
    type: Required[Literal["function"]]
    name: Required[Name]
    description: str | None
    parameters: Schema | None
    strict: bool | None


class FlatName(TypedDict):
    type: Literal["function"]
    name: Name


class FlatFormat(TypedDict, total=False):
    type: Required[Literal["text", "json_object", "json_schema"]]
    name: Name
    schema: Schema
    description: str | None
    strict: bool | None


class TextOptions(TypedDict, total=False):
    format: FlatFormat | None
    verbosity: Literal["medium"] | None


class InputItem(TypedDict, total=False):
    type: Literal["message", "function_call", "function_call_output"]
    id: str | None
    status: str | None
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    call_id: str
    name: Name
    arguments: str
    output: Content


class Body(BaseModel):
    """A JSON object without unknown fields; a number that is written as text is none."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = None


class Sampled(Body):
    """What every request for words may say of how they are chosen."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=10**6)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    stream: bool | None = None
    user: str | None = None

    def sampling(self, card: ModelCard) -> Sampling:
        """A request that names a temperature leaves the rest off; another takes what the publisher recommends."""
        names = ("temperature", "top_p", "top_k", "repetition_penalty")
        named = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Sampling(**named) if "temperature" in named else Sampling.recommended(card, **named)


class Written(Sampled):
    """What a chat and a text have in common."""

    max_tokens: PositiveCount | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    cache_prompt: bool | None = None
    ignore_eos: bool | None = None

    @property
    def limits(self) -> list[int]:
        """Every limit on new tokens that the request names, by whatever name."""
        found = (self.max_tokens, getattr(self, "max_completion_tokens", None))
        return [one for one in found if one is not None]

    @property
    def stops(self) -> list[str]:
        """The texts that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @model_validator(mode="after")
    def _streams(self) -> Written:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream")
        return self


class ChatBody(Written):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: PositiveCount | None = None
    response_format: Format | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolMode | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    store: Literal[False] | None = None

    @property
    def offered(self) -> list[Function]:
        """The functions that the model may call in this turn."""
        functions = [tool["function"] for tool in self.tools or [] if self.tool_choice != "none"]
        if isinstance(self.tool_choice, dict):
            return [one for one in functions if one["name"] == self.tool_choice["function"]["name"]]
        return functions

    def allowed(self, *, several: bool) -> Allowed:
        """What the answer may be; `several` calls in a turn where the request does not say."""
        form: Any = self.response_format or {"type": "text"}
        schema = None if form["type"] == "text" else form.get("json_schema", {}).get("schema", {"type": "object"})
        words = self.tool_choice in (None, "auto", "none") or not self.offered
        several = several if self.parallel_tool_calls is None else self.parallel_tool_calls
        several = several and not isinstance(self.tool_choice, dict)
        roles = [message["role"] for message in self.messages]
        asked = len(roles) - roles[::-1].index("user") if "user" in roles else 0
        told: list[Any] = list(self.messages[asked:])
        calls = [call["function"] for message in told for call in message.get("tool_calls") or ()]
        made = frozenset(signature(call["name"], call["arguments"]) for call in calls)
        made = made if words and roles[-1] == "tool" else frozenset()
        called = bool(self.tools) or "tool" in roles
        return Allowed(self.offered, words, several, schema, after_calls=called, made=made)

    @model_validator(mode="after")
    def _fits(self) -> ChatBody:
        names = [tool["function"]["name"] for tool in self.tools or []]
        if len(set(names)) < len(names):
            raise ValueError("two tools have one name")
        if self.tool_choice not in (None, "none", "auto") and not self.offered:
            raise ValueError("tool_choice asks for a tool that tools does not hold")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        form: Any = self.response_format or {"type": "text"}
        if (form["type"] == "json_schema") != ("json_schema" in form):
            raise ValueError("response_format holds json_schema where that is its type, and only there")
        return self


Prompts = Annotated[list[str] | list[list[int]], Field(min_length=1, max_length=MOST_CHOICES)]


class TextBody(Written):
    """POST /v1/completions."""

    prompt: str | Annotated[list[int], Field(min_length=1)] | Prompts
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None

    def allowed(self, *, several: bool) -> Allowed:
        """A text may be anything."""
        return Allowed()

    @property
    def prompts(self) -> list[Any]:
        """The texts, or lists of token ids, that are continued."""
        return self.prompt if isinstance(self.prompt, list) and not isinstance(self.prompt[0], int) else [self.prompt]

    @model_validator(mode="after")
    def _few(self) -> TextBody:
        if len(self.prompts) * (self.n or 1) > MOST_CHOICES:
            raise ValueError(f"prompts times n is above {MOST_CHOICES}")
        return self


class ResponseBody(Sampled):
    """POST /v1/responses. Nothing is stored, so there is no earlier response to go on from."""

    input: str | Annotated[list[InputItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: PositiveCount | None = None
    tools: list[FlatTool] | None = None
    tool_choice: ToolMode | FlatName | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    store: bool | None = None
    truncation: Literal["disabled"] | None = None
    include: Annotated[list[str], Field(max_length=0)] | None = None

    def chat(self) -> ChatBody:
        """The same request as a chat; a ValidationError where its parts do not make one."""
        items: Any = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        first = [{"role": "system", "content": self.instructions}] if self.instructions else []
        same = ("model", "temperature", "top_p", "top_k", "repetition_penalty", "stream", "parallel_tool_calls")
        body: dict[str, Any] = {name: getattr(self, name) for name in same} | {"max_tokens": self.max_output_tokens}
        body["messages"] = [*first, *map(_message, items)]
        body["tools"] = [nested(tool) for tool in self.tools or []]
        body["tool_choice"] = nested(self.tool_choice) if isinstance(self.tool_choice, dict) else self.tool_choice
        form: Any = dict((self.text or {}).get("format") or {"type": "text"})
        kind = form.pop("type")
        return ChatBody.model_validate(
            body | {"response_format": {"type": kind} | ({"json_schema": form} if form else {})}
        )


def nested(flat: Any) -> dict[str, Any]:
    """A tool of /v1/responses as chats write it."""
    return {"type": "function", "function": {key: value for key, value in flat.items() if key != "type"}}


def _message(item: Any) -> dict[str, Any]:
    if item.get("type", "message") == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if item["type"] == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    call = {"id": item.get("call_id"), "function": {key: item.get(key) for key in ("name", "arguments")}}
    return {"role": "assistant", "tool_calls": [call]}


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Literal[384] | None = None
    user: str | None = None


class TokenizeBody(Body):
    """POST /tokenize: the ids of a text, as this server counts them."""

    content: str
    add_special: Literal[False] = False
    parse_special: bool = False


class TemplateBody(Body):
    """POST /apply-template: a conversation as the model reads it."""

    messages: Annotated[list[Message], Field(min_length=1)]


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
        finish = end and finish_of(end, calls=self.calls[place] > 0)
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


def finish_of(end: Any, *, calls: bool) -> str:
    """Why an answer ended, in OpenAI's words."""
    return "length" if end["stop_type"] == "limit" else "tool_calls" if calls else "stop"


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
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
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


def description(routes: Mapping[str, tuple[str, type[Body]]]) -> dict[str, Any]:
    """Routes, each with its name and what it takes, as OpenAPI 3.1."""
    template = "#/components/schemas/{model}"
    kinds: Any = [(kind, "validation") for _, kind in routes.values()]
    _, shared = models_json_schema(kinds, ref_template=template)
    answers = {code: {"description": what} for code, what in (("200", "An answer."), ("4XX", "A refusal."))}
    paths: dict[str, Any] = {}
    for path, (_, kind) in routes.items():
        content = {"application/json": {"schema": {"$ref": template.format(model=kind.__name__)}}}
        body = {"required": True, "content": content}
        paths[f"/v1{path}"] = {
            "post": {"operationId": path.strip("/").replace("/", "_"), "requestBody": body, "responses": answers}
        }
    head = {"openapi": "3.1.0", "info": {"title": "The course's server", "version": "1"}}
    return head | {"paths": paths, "components": {"schemas": shared["$defs"]}}


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
