"""What may pass: the bodies of OpenAI's requests, as models.

A field that is not here is refused by name, a value out of its range too, before anything is computed. Names and
meanings are those of OpenAI's reference, as its SDK 3.54 types them. `top_k`, `repetition_penalty`, `cache_prompt` and
`ignore_eos` are this server's own. Where only OpenAI's default can be honoured, that value alone may be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    Required,  # pydantic reads Python 3.11's own without its Required
)

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import models_json_schema
from typing_extensions import TypedDict

from helpers.records import ModelCard, Sampling
from helpers.server.toolcalls import Allowed, signature

#: Choices of one request, and texts that one request for embeddings may hold.
MOST_CHOICES, MOST_TEXTS = 8, 256
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
