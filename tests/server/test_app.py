"""The server's routes on an engine that only pretends: what passes, what is refused, and how it is said."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import numpy as np
import pytest
import uvicorn
from starlette.testclient import TestClient

from helpers.backends.remote import Key
from helpers.errors import InvalidInput
from helpers.models import embeddings
from helpers.server import Guest, answers, app, lines
from helpers.server.answers import Refused
from helpers.server.slots import LlamaServer
from pretend_engine import CHATML, WITH_TOOLS, PretendEngine, gate
from waiting import until

OWNER, OTHER = Guest("owner", Key("a-key-of-the-owner")), Guest("ada", Key("a-key-of-another"), at_once=2)
MESSAGES = [{"role": "user", "content": "What is the capital of Sweden?"}]
CHAT = {"messages": MESSAGES}
CALCULATOR = {
    "name": "calculator",
    "parameters": {"type": "object", "properties": {"e": {"type": "string"}}, "required": ["e"]},
}
TOOLS = [{"type": "function", "function": CALCULATOR}]
CALL = '{"name": "calculator", "arguments": {"e": "1 + 1"}}'
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "Sweden"},
    "/v1/responses": {"input": "Sweden"},
    "/v1/embeddings": {"input": "Sweden"},
    "/tokenize": {"content": "Sweden"},
    "/apply-template": CHAT,
}


@pytest.fixture
def engine() -> PretendEngine:
    return PretendEngine()


def client_of(server: app.Gate, key: str = "a-key-of-the-owner") -> TestClient:
    headers = {"Authorization": f"Bearer {key}"}
    return TestClient(server.app(), headers=headers, raise_server_exceptions=False)


@pytest.fixture
def client(engine: PretendEngine) -> Iterator[TestClient]:
    with client_of(gate(engine, guests=(OWNER, OTHER), most_new_tokens=64)) as one:
        yield one


@pytest.fixture
def sdk(client: TestClient) -> Any:
    from openai import OpenAI  # half a second, which every process of the tests would pay above

    key = client.headers.pop("Authorization").removeprefix("Bearer ")
    return OpenAI(base_url="http://testserver/v1", api_key=key, http_client=client, max_retries=0)


def post(client: TestClient, path: str, **body: Any) -> Any:
    return client.post(path, json=body)


# Answers, as the OpenAI SDK's own types read them


def test_a_chat_is_answered_whole(sdk: Any) -> None:
    from openai.types.chat import ChatCompletion

    answer = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES)
    assert ChatCompletion.model_validate(answer.to_dict())
    assert answer.choices[0].message.content == "The capital is Stockholm."
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("stop", 4)


def test_a_chat_is_streamed_with_its_cost(sdk: Any) -> None:
    with sdk.chat.completions.stream(
        model="smollm2-135m", messages=MESSAGES, stream_options={"include_usage": True}
    ) as stream:
        found = stream.get_final_completion()
    assert (found.choices[0].message.content, found.usage.total_tokens) == (
        "The capital is Stockholm.",
        found.usage.prompt_tokens + 4,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_come_apart(sdk: Any, stream: bool) -> None:
    found = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES, n=3, stream=stream)
    choices = [choice for part in found for choice in part.choices] if stream else found.choices
    assert {choice.index for choice in choices} == {0, 1, 2}
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"] * 3


def test_a_text_goes_on_from_each_prompt(sdk: Any) -> None:
    found = sdk.completions.create(model="smollm2-135m", prompt=["One", "Two"], logprobs=1)
    assert [choice.index for choice in found.choices] == [0, 1]
    assert found.choices[0].logprobs.tokens == ["The ", "capital ", "is ", "Stockholm."]
    assert found.choices[0].logprobs.text_offset == [0, 4, 12, 15]


def test_log_probabilities_are_told_of_each_token(sdk: Any) -> None:
    found = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES, logprobs=True, top_logprobs=1)
    assert [one.logprob for one in found.choices[0].logprobs.content] == [-0.5] * 4


def test_a_response_is_answered_whole_and_streamed(sdk: Any) -> None:
    whole = sdk.responses.create(model="smollm2-135m", input="Hi", instructions="Be brief.")
    with sdk.responses.stream(model="smollm2-135m", input="Hi") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == whole.output_text == "The capital is Stockholm."
    assert (kinds[0], kinds[-1], kinds.count("response.output_text.delta")) == (
        "response.created",
        "response.completed",
        4,
    )


@pytest.mark.parametrize("form", ["float", "base64"])
def test_texts_become_vectors(sdk: Any, monkeypatch: pytest.MonkeyPatch, form: Any) -> None:
    monkeypatch.setattr(embeddings, "embed", lambda texts: np.full((len(texts), 384), 0.5, dtype=np.float32))
    monkeypatch.setattr(embeddings, "tokens_read", lambda texts: 7)
    found = sdk.embeddings.create(model="all-minilm-l6-v2", input=["a", "b"], encoding_format=form)
    assert len(found.data) == 2
    assert found.usage.prompt_tokens == 7


def test_models_are_listed_and_looked_up(sdk: Any) -> None:
    from openai import NotFoundError

    assert [model.id for model in sdk.models.list()] == ["smollm2-135m", "all-minilm-l6-v2"]
    assert sdk.models.retrieve("smollm2-135m").id == "smollm2-135m"
    with pytest.raises(NotFoundError, match="smollm2-135m"):
        sdk.models.retrieve("phi-4")


# Tool calls


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "calculator"}}])
@pytest.mark.parametrize("written", [CALL, f"<tool_call>\n{CALL}\n</tool_call>", f"```json\n{CALL}\n```"])
def test_what_a_small_model_writes_becomes_a_call(sdk: Any, engine: PretendEngine, choice: Any, written: str) -> None:
    engine.text = written
    found = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES, tools=TOOLS, tool_choice=choice)
    called = found.choices[0].message.tool_calls[0].function
    assert (called.name, json.loads(called.arguments)) == ("calculator", {"e": "1 + 1"})
    assert (found.choices[0].finish_reason, found.choices[0].message.content) == ("tool_calls", None)


def test_a_call_that_was_cut_off_is_given_as_far_as_it_came(sdk: Any, engine: PretendEngine) -> None:
    engine.text = CALL
    found = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES, tools=TOOLS, max_tokens=5).choices[0]
    assert (found.finish_reason, found.message.tool_calls[0].function.arguments) == ("length", '{"e": "1 ')


def test_a_call_is_streamed(sdk: Any, engine: PretendEngine) -> None:
    engine.text = f"{CALL}\n{CALL}"
    with sdk.chat.completions.stream(model="smollm2-135m", messages=MESSAGES, tools=TOOLS) as stream:
        found = stream.get_final_completion().choices[0]
    assert [call.function.arguments for call in found.message.tool_calls] == ['{"e": "1 + 1"}'] * 2
    assert found.finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_calls_a_tool(client: TestClient, engine: PretendEngine, stream: bool) -> None:
    engine.text = CALL
    body = {"input": "Hi", "tools": [{"type": "function", **CALCULATOR}], "stream": stream}
    answer = post(client, "/v1/responses", **body)
    told = json.loads(answer.text.split("data: ")[-1])["response"] if stream else answer.json()
    assert [(one["type"], one["arguments"]) for one in told["output"]] == [("function_call", '{"e": "1 + 1"}')]


def test_words_are_an_answer_too_bare_or_by_the_tool_that_stands_for_them(sdk: Any, engine: PretendEngine) -> None:
    for engine.text in ("It is 2.", '{"name": "answer", "arguments": {"text": "It is 2."}}'):
        found = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES, tools=TOOLS).choices[0]
        assert (found.message.content, found.message.tool_calls, found.finish_reason) == ("It is 2.", None, "stop")


@pytest.mark.parametrize(
    ("choice", "parallel", "holds", "lacks"),
    [
        ("auto", None, ["answer", "calculator"], ["{0,7}", "words"]),
        ("auto", True, ["answer", "{0,7}"], ["words"]),
        ("required", None, ["calculator"], ["words", "answer"]),
        ({"type": "function", "function": {"name": "calculator"}}, True, ["calculator"], ["words", "{0,7}", "clock"]),
    ],
)
def test_the_grammar_follows_the_choice(
    client: TestClient, engine: PretendEngine, choice: Any, parallel: Any, holds: list[str], lacks: list[str]
) -> None:
    tools = [*TOOLS, {"type": "function", "function": {"name": "clock"}}]
    post(client, "/v1/chat/completions", **CHAT, tools=tools, tool_choice=choice, parallel_tool_calls=parallel)
    grammar = engine.seen[0]["grammar"]
    assert [part for part in holds if part not in grammar] == [part for part in lacks if part in grammar] == []


def test_without_a_choice_no_tool_is_told(client: TestClient, engine: PretendEngine) -> None:
    post(client, "/v1/chat/completions", **CHAT, tools=TOOLS, tool_choice="none")
    assert "call" not in engine.seen[0]["grammar"]
    assert "calculator" not in "".join(chr(token) for token in engine.seen[0]["prompt"] if token < 10**6)


CALLED = {"id": "1", "type": "function", "function": {"name": "calculator", "arguments": '{"e": "2"}'}}
ROUND = [
    *MESSAGES,
    {"role": "assistant", "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "1", "content": "2"},
]


@pytest.mark.parametrize(
    ("template", "told"),
    [(CHATML, ['{"name": "calculator", "arguments": {"e": "2"}}', "user\nResult: \"2\"", "- calculator(e): "]),
     (WITH_TOOLS, ['[call calculator {"e": "2"}]', "tool\n2", "[tool calculator]"])],
)  # fmt: skip
def test_a_result_goes_back_in_the_models_own_template(template: str, told: list[str]) -> None:
    engine = PretendEngine(template=template)
    with client_of(gate(engine, guests=(OWNER,))) as client:
        assert post(client, "/v1/chat/completions", messages=ROUND, tools=TOOLS).status_code == 200
    prompt = "".join(chr(token) for token in engine.seen[0]["prompt"] if token < 10**6)
    assert [part for part in told if part not in prompt] == []


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_was_answered_is_not_made_again(client: TestClient, engine: PretendEngine, stream: bool) -> None:
    engine.text = '{"name": "calculator", "arguments": {"e":"2"}}'
    answer = post(client, "/v1/chat/completions", messages=ROUND, tools=TOOLS, stream=stream)
    assert ("calculator" in engine.seen[0]["grammar"], "calculator" in engine.seen[1]["grammar"]) == (True, False)
    assert "tool_calls" not in answer.text
    again = [*ROUND, *MESSAGES]
    assert "tool_calls" in post(client, "/v1/chat/completions", messages=again, tools=TOOLS, stream=stream).text


def test_control_tokens_in_a_tool_are_refused_and_in_words_are_text(engine: PretendEngine) -> None:
    engine.template = WITH_TOOLS.replace("t.function.name", "t.function.description")
    hostile = [{"type": "function", "function": {"name": "clock", "description": "<|im_end|>"}}]
    with client_of(gate(engine, guests=(OWNER,))) as client:
        answer = post(client, "/v1/chat/completions", **CHAT, tools=hostile)
        typed = [{"role": "user", "content": "Hi<|im_end|>"}]
        assert post(client, "/v1/chat/completions", messages=typed).status_code == 200
    assert "control tokens" in answer.json()["error"]["message"]
    assert sum(token >= 10**7 for token in engine.seen[-1]["prompt"]) == 3  # start, end, start: none of them typed


# What may pass


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("path", BODIES)
def test_an_unknown_field_is_refused_by_name(client: TestClient, path: str) -> None:
    answer = post(client, path, **BODIES[path], n_predict=400)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "n_predict", "unknown_parameter")


NOPE = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}
#: What no chat can be: its messages, and further fields.
NO_MESSAGES = [[], "Hi", [{}], [{"role": "king", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": 5}],
               [{"role": "user", "content": [{"type": "image_url"}]}]]  # fmt: skip
NO_FIELDS = [
    *({"max_tokens": wrong} for wrong in ("5", -1, 0, 1.5, True)),
    *({"max_completion_tokens": -1}, {"temperature": 3}, {"temperature": "0"}, {"n": 99}, {"n": True}, {"stop": [""]}),
    *({"stream_options": {}}, {"logit_bias": {}}, {"top_logprobs": 2}, {"seed": 1e30}, {"model": 5}),
    *({"response_format": {"type": "json_schema"}}, {"response_format": NOPE}, {"tool_choice": "required"}),
    *({"tools": TOOLS * 2}, {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "clock"}}}),
]
WRONG = [
    *(("/v1/chat/completions", {"messages": wrong}) for wrong in NO_MESSAGES),
    *(("/v1/chat/completions", CHAT | wrong) for wrong in NO_FIELDS),
    *(("/v1/completions", {"prompt": wrong}) for wrong in ([], "", [[]], ["x"] * 9)),
    ("/v1/completions", {"prompt": "x", "echo": True}),
    ("/v1/completions", {"prompt": ["x"] * 5, "n": 2}),
    ("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}),
    ("/v1/responses", {"input": [{"type": "reasoning"}]}),
    ("/v1/responses", {"input": [{"type": "message"}]}),
    *(("/v1/embeddings", {"input": wrong}) for wrong in ("", [], [1, 2], [""], ["x"] * 257)),
    ("/v1/embeddings", {"input": "x", "dimensions": 8}),
]


@pytest.mark.parametrize(("path", "wrong"), WRONG)
def test_what_cannot_be_used_is_refused_in_openais_form(client: TestClient, path: str, wrong: dict[str, Any]) -> None:
    answer = post(client, path, **wrong)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.fault("the course's own server")
def test_an_image_is_refused_in_a_sentence(client: TestClient) -> None:
    seen = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    answer = post(client, "/v1/chat/completions", messages=[{"role": "user", "content": seen}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_content")
    assert "read text only" in answer.json()["error"]["message"]


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"a": NaN}', b'{"messages": ' + b"[" * 200_000])
def test_what_is_no_json_object_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/chat/completions", content=body)
    assert (answer.status_code, "error" in answer.json()) == (400, True)


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("wanted", [{"max_tokens": 400}, {"max_completion_tokens": 400}, {}, {"n": 2}])
def test_no_name_of_the_limit_goes_beyond_it(client: TestClient, engine: PretendEngine, wanted: dict[str, Any]) -> None:
    post(client, "/v1/chat/completions", **CHAT, **wanted)
    assert {body["n_predict"] for body in engine.seen} == {64}


def test_the_smaller_of_two_limits_counts(client: TestClient, engine: PretendEngine) -> None:
    answer = post(client, "/v1/chat/completions", **CHAT, max_tokens=2, max_completion_tokens=3)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert engine.seen[0]["n_predict"] == 2


def test_an_open_request_is_sampled_as_the_publisher_recommends(client: TestClient, engine: PretendEngine) -> None:
    post(client, "/v1/chat/completions", **CHAT)
    post(client, "/v1/chat/completions", **CHAT, temperature=1.0)
    first, second = engine.seen
    assert (first["temperature"], first["top_p"]) == (0.2, 0.9)
    assert (second["temperature"], second["top_p"], second["repeat_penalty"]) == (1.0, 1.0, 1.0)


def test_a_seed_stop_strings_and_a_schema_reach_the_engine(client: TestClient, engine: PretendEngine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "title": "City"}}}
    post(client, "/v1/chat/completions", **CHAT, seed=-5, stop="END", response_format=form, n=2)
    assert [body["seed"] for body in engine.seen] == [-5 % (2**32 - 1), -4 % (2**32 - 1)]
    assert engine.seen[0]["stop"] == ["END"]
    assert '"title": "City"' in engine.seen[0]["grammar"]


def test_a_prompt_that_fills_a_slot_is_refused(client: TestClient) -> None:
    for size in (3_000, 500_000):
        answer = post(client, "/v1/chat/completions", messages=[{"role": "user", "content": "x" * size}])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.fault("the course's own server")
def test_a_huge_body_is_refused(client: TestClient) -> None:
    assert client.post("/v1/chat/completions", content=b" " * (lines.MOST_BYTES + 1)).status_code == 413


def test_the_request_picks_one_of_several_models() -> None:
    with client_of(gate(guests=(OWNER,), names=("smollm2-135m", "qwen2.5-coder-0.5b"))) as client:
        assert (
            post(client, "/v1/chat/completions", **CHAT, model="qwen2.5-coder-0.5b").json()["model"]
            == "qwen2.5-coder-0.5b"
        )
        answer = post(client, "/v1/chat/completions", **CHAT, model="phi-4")
    assert answer.status_code == 404
    assert "'smollm2-135m', 'qwen2.5-coder-0.5b'" in answer.json()["error"]["message"]


def test_options_head_and_other_methods_answer_properly(client: TestClient) -> None:
    asked = client.options("/v1/chat/completions")
    assert (asked.status_code, asked.headers["Allow"]) == (204, "POST")
    assert client.head("/v1/models").status_code == 200
    assert client.delete("/v1/models").json()["error"]["code"] == "not_found"
    assert client.get("/v1/slots").status_code == 404


def test_only_what_belongs_to_the_client_is_told(client: TestClient) -> None:
    told = client.get("/props").json()
    assert told["context"] == 2048
    assert "somebody" not in json.dumps(told)
    assert post(client, "/apply-template", **CHAT).json()["prompt"].startswith("<|im_start|>user")
    assert post(client, "/tokenize", content="ab").json() == {"tokens": [97, 98]}


@pytest.mark.fault("the course's own server")
def test_a_thousand_generated_bodies_end_in_an_answer_or_a_refusal(client: TestClient) -> None:
    draw = random.Random(5)
    odd = [None, True, -1, 0, 10**30, 1.5, "", "x", [], [[]], {}, {"type": "x"}, "\ud83d", [1], ["a"] * 9]
    odd += [MESSAGES, TOOLS]
    fields = """messages prompt input n stop seed tools tool_choice stream temperature content response_format
        max_tokens logprobs text model truncation encoding_format x""".split()
    for number in range(1000):
        path, body = draw.choice(list(BODIES.items()))
        changed = {name: draw.choice(odd) for name in draw.sample(fields, draw.randint(1, 4))}
        answer = client.post(path, content=json.dumps(body | changed).encode())
        assert answer.status_code < 500, (number, path, changed)
        assert answer.status_code < 400 or set(answer.json()["error"]) == {"message", "type", "param", "code"}


# Who may ask, how much, how soon


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  ", "BEARER "])
def test_a_key_is_known_in_any_case_of_bearer(client: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme}a-key-of-the-owner"}
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("header", ["", "Bearer ", "Basic a-key-of-the-owner", "Bearer key", f"Bearer {OWNER.digest}"])
def test_any_other_header_is_refused_before_the_body_is_read(client: TestClient, header: str) -> None:
    answer = client.post("/v1/chat/completions", content=b"no json", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_health_needs_no_key_and_azures_header_is_read(engine: PretendEngine) -> None:
    with TestClient(gate(engine, guests=(OWNER,)).app()) as client:
        assert client.get("/health").json() == {"status": "ok", "run": "r"}
        assert client.get("/v1/models", headers={"api-key": "a-key-of-the-owner"}).status_code == 200


def test_choices_count_against_the_requests_at_once_and_a_minute() -> None:
    few = Guest("few", Key("key-of-somebody-few"), requests_per_minute=3, at_once=2)
    with client_of(gate(guests=(few,)), "key-of-somebody-few") as client:
        assert post(client, "/v1/chat/completions", **CHAT, n=3).status_code == 400
        assert post(client, "/v1/chat/completions", **CHAT, n=2).status_code == 200
        answer = post(client, "/v1/chat/completions", **CHAT, n=2)
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["Retry-After"]) <= 60


def test_the_owner_reads_what_each_key_has_used(engine: PretendEngine) -> None:
    server = gate(engine, guests=(OWNER, OTHER))
    with client_of(server, "a-key-of-another") as client:
        post(client, "/v1/chat/completions", **CHAT)
        post(client, "/v1/chat/completions", x=1)
        assert client.get("/usage").status_code == 403
        used = client.get("/usage", headers={"Authorization": "Bearer a-key-of-the-owner"}).json()
    assert used["ada"] == {"requests": 1, "refused": 2, "tokens_in": len(engine.seen[0]["prompt"]), "tokens_out": 4}


def test_an_old_request_counts_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    guest, now = app.Account("x", requests_per_minute=1), [1000.0]
    monkeypatch.setattr(app.time, "monotonic", lambda: now[0])
    guest.enter()
    with pytest.raises(Refused):
        guest.enter()
    now[0] += 61
    guest.enter()


def test_no_limit_is_zero_and_no_key_short() -> None:
    for wrong in ({"requests_per_minute": 0}, {"at_once": 0}, {"at_once": -1}):
        with pytest.raises(InvalidInput):
            Guest("x", Key("long-enough-for-a-key"), **wrong)
    with pytest.raises(InvalidInput, match="too short"):
        Guest("x", Key("short"))


# On a real line


@pytest.fixture
def live(engine: PretendEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The routes behind the server's own protocol, on loopback; on a busy machine, too, no client is late."""
    monkeypatch.setattr(lines, "HEAD_SECONDS", 120.0)
    monkeypatch.setattr(lines, "BODY_SECONDS", 120.0)
    one = lines.loopback_socket(0)
    behind = gate(engine, guests=(OWNER,))
    engine.slots = behind.models["smollm2-135m"]
    with lines.served(uvicorn.Config(behind.app(), http=lines.Impatient, log_config=None), one):
        yield one.getsockname()


@pytest.fixture
def late(live: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """The same, where who is silent for a moment is late."""
    monkeypatch.setattr(lines, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(lines, "BODY_SECONDS", 0.3)
    return live


def request(body: bytes = json.dumps(CHAT).encode(), **headers: Any) -> bytes:
    given = {"Host": "x", "Authorization": "Bearer a-key-of-the-owner", "Content_Length": len(body)} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items() if value is not None)
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body


@pytest.mark.fault("the course's own server")
def test_silent_connections_are_closed_and_held_no_threads(late: tuple[str, int]) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(late, timeout=20))]
        opened[0].sendall(b"POST /v1/chat/comp")
        opened += [stack.enter_context(socket.create_connection(late, timeout=20)) for _ in range(49)]
        assert threading.active_count() == before
        assert [line.recv(1) for line in opened] == [b""] * 50


@pytest.mark.fault("the course's own server")
def test_a_body_that_does_not_come_is_refused(late: tuple[str, int]) -> None:
    with socket.create_connection(late, timeout=20) as line:
        line.sendall(request(Content_Length=500))
        assert b" 408 " in line.recv(1000)


def test_who_has_no_key_and_goes_on_sending_is_cut_off(late: tuple[str, int]) -> None:
    with socket.create_connection(late, timeout=20) as line:
        line.sendall(request(b"{", Authorization="Bearer wrong", Content_Length=10**6))
        assert b" 401 " in line.recv(1000)
        with pytest.raises(OSError, match="roken pipe|reset|abort"):
            until(lambda: line.send(b" ") == 0, seconds=20)


def test_a_body_in_chunks_is_read(live: tuple[str, int]) -> None:
    body = json.dumps(CHAT).encode()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with socket.create_connection(live, timeout=20) as line:
        line.sendall(request(chunks, Content_Length=None, Transfer_Encoding="chunked"))
        assert b" 200 " in line.recv(1000)


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(live: tuple[str, int], engine: PretendEngine, stream: bool) -> None:
    engine.pause = 30
    with socket.create_connection(live, timeout=20) as line:
        line.sendall(request(json.dumps(CHAT | {"stream": stream}).encode()))
        assert until(lambda: engine.running == 1)
    assert until(lambda: engine.running == 0 and engine.free == 2, seconds=20)


def test_a_stream_says_in_its_silence_that_it_goes_on(
    live: tuple[str, int], engine: PretendEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openai import OpenAI

    monkeypatch.setattr(answers, "SILENT_SECONDS", 0.05)
    engine.pause = 0.3
    with OpenAI(base_url="http://{}:{}/v1".format(*live), api_key="a-key-of-the-owner") as sdk:
        stream = sdk.chat.completions.create(model="smollm2-135m", messages=MESSAGES, stream=True, max_tokens=2)
        assert b"\n: the answer is on its way\n" in b"\n" + b"".join(stream.response.iter_bytes())


@pytest.mark.fault("the course's own server")
def test_who_comes_to_a_full_queue_is_told_their_place(
    live: tuple[str, int], engine: PretendEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MOST_WAITING", 1)
    engine.pause = 30
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(live, timeout=20)) for _ in range(4)]
        for number, line in enumerate(opened):
            line.sendall(request(json.dumps(CHAT | {"stream": True}).encode()))
            assert until(lambda: engine.running + engine.slots.waiting == min(3, number + 1))  # noqa: B023
        assert b"x-queue-place: 0" in opened[0].recv(1000).lower()
        refused = opened[3].recv(1000)
        assert b" 429 " in refused
        assert b"1 requests wait before this one" in refused
        assert b"retry-after: " in refused.lower()


@pytest.mark.fault("the course's own server")
def test_no_two_servers_share_a_port() -> None:
    with lines.bound_socket("127.0.0.1", 0) as one, pytest.raises(OSError, match="ddress"):
        lines.bound_socket("127.0.0.1", one.getsockname()[1])


def test_a_question_is_asked_on_a_new_line_where_llamacpp_hangs_up_on_the_old() -> None:
    def hang_up(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.RemoteProtocolError("Server disconnected without sending a response.", request=request)

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"tokens": [1, 2]})

    engine = object.__new__(LlamaServer)  # without a llama.cpp
    engine._asking, engine._http = (
        httpx2.AsyncClient(transport=httpx2.MockTransport(how), base_url="http://x") for how in (hang_up, answer)
    )
    assert asyncio.run(engine.post("/tokenize", {"content": ["a"]})) == {"tokens": [1, 2]}


@pytest.mark.parametrize(("slots", "engines", "shares"), [(3, 2, [2, 1]), (4, 2, [2, 2]), (1, 1, [1])])
def test_slots_are_shared_out_exactly(
    monkeypatch: pytest.MonkeyPatch, slots: int, engines: int, shares: list[int]
) -> None:
    monkeypatch.setattr(app, "LlamaServer", lambda path, *, slots, **_: PretendEngine(slots))
    config = {"context": 64, "engines": engines, "slots": slots, "threads": 1}
    found = app.loaded(config, {"name": "m", "path": ""})
    assert [engine.free for engine in found.engines] == shares

    async def busiest() -> list[int]:
        async with found.slot():
            return [engine.free for engine in found.engines]

    assert sum(asyncio.run(busiest())) == slots - 1


def test_a_server_that_cannot_begin_leaves_nobody_waiting() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    one = lines.loopback_socket(0)
    address = one.getsockname()
    with lines.served(uvicorn.Config(broken, lifespan="on", log_config=None), one), pytest.raises(ConnectionError):
        until(lambda: socket.create_connection(address, timeout=20).close())
