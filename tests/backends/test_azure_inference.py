"""The older SDK in the few places where it is not like the other: its client, its errors, its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from faulty_server import FaultyServer
from helpers import errors, settings
from helpers.backends.hosted import Patience
from helpers.chat import Chat, open_chat
from helpers.errors import RemoteError
from helpers.records import Prompt, Sampling, Turn

PLANTED = "planted-key-0123456789"


@pytest.fixture
def at(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Chat]]:
    opened: list[Chat] = []
    server.seen.clear()

    def open_at(fault: str) -> Chat:
        monkeypatch.setenv("AZURE_INFERENCE_ENDPOINT", fault if "://" in fault else server.address(fault))
        monkeypatch.setenv("AZURE_INFERENCE_CREDENTIAL", PLANTED)
        opened.append(open_chat("phi-4-mini", provider="azure-inference"))
        return opened[-1]

    yield open_at
    for chat in opened:
        chat.close()


def test_a_healthy_answer_has_its_counts_and_the_options_arrive(
    at: Callable[[str], Chat], server: FaultyServer
) -> None:
    schema = {"type": "object", "properties": {}}
    reply = at("passing").say("Count.", max_new_tokens=9, stop="six", json_schema=schema)
    assert (reply.text, reply.prompt_tokens, reply.new_tokens) == ("one two three four five", 7, 5)
    body = server.seen[-1]["body"]
    assert (body["max_tokens"], body["stop"], body["stream_options"]) == (9, ["six"], {"include_usage": True})
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert server.seen[-1]["key"] == f"Bearer {PLANTED}"


def test_a_text_is_continued_too(at: Callable[[str], Chat], server: FaultyServer) -> None:
    chunks = list(at("stream-comments").backend.generate(Prompt((), (1, 2)), Sampling()))
    assert "".join(chunk.text for chunk in chunks) == "one two"
    assert server.seen[-1]["body"]["prompt"] == [1, 2]


FAULTS = {
    "echo-401": errors.WrongKey,
    "429": errors.QuotaExceeded,
    "sends-on-307": errors.Unreachable,
    "html": errors.UnreadableAnswer,
    "malformed": errors.UnreadableAnswer,
    "ssh": errors.UnreadableAnswer,
    "cut": errors.ConnectionLost,
    "stream-cut-short": errors.ConnectionLost,
    "stream-no-gzip": errors.UnreadableAnswer,
}


@pytest.mark.parametrize("route", ["chat", "text"])
@pytest.mark.parametrize("fault", FAULTS)
def test_its_faults_are_the_courses(at: Callable[[str], Chat], fault: str, route: str) -> None:
    backend = at(fault).backend
    backend.patience = Patience(attempts=1)
    prompt = Prompt((Turn("user", "Count."),)) if route == "chat" else Prompt((), (1, 2))
    with pytest.raises(RemoteError) as caught:
        list(backend.generate(prompt, Sampling()))
    assert type(caught.value) is FAULTS[fault]
    assert PLANTED not in f"{caught.value}{caught.value.__cause__!r}{vars(backend)}"


@pytest.mark.parametrize("form", ["comments", "crlf", "several-lines", "pings"])
def test_each_form_of_a_stream_is_read(at: Callable[[str], Chat], form: str) -> None:
    assert at(f"stream-{form}").say("Count.").text == "one two"


@pytest.mark.parametrize("variable", settings.TRUST_OF_REQUESTS)
def test_certificates_that_are_gone_are_named(
    at: Callable[[str], Chat], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/gone.pem")
    with pytest.raises(errors.CertificateRefused, match=f"{variable} names"):
        at("https://box.invalid/models")


def test_this_machine_is_asked_without_a_proxy(at: Callable[[str], Chat], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert at("passing").say("Count.").text == "one two three four five"
