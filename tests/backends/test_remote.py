"""Both SDKs against a server that fails in every way on purpose: each fault is one named error with a next step."""

from __future__ import annotations

import gc
import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faulty_server import SILENCE_SECONDS, FaultyServer, running
from helpers import errors
from helpers.backends import remote
from helpers.backends.hosted import message
from helpers.backends.remote import Key, Patience, Route
from helpers.chat import Chat, open_chat
from helpers.errors import CourseError, RemoteError
from helpers.records import Sampling

PLANTED = "planted-key-0123456789"
QUICK = Patience(budget_seconds=2, attempts=3, first_wait_seconds=0.01, connect_seconds=0.5, read_seconds=0.3)
SDKS = ("openai", "azure-ai-inference")
Opener = Callable[..., Chat]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with running() as one:
        yield one


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def at(sdk: str, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens a chat whose requests meet a fault, or go to an address."""
    opened: list[Chat] = []
    server.seen.clear()

    def open_at(fault: str, patience: Patience = QUICK) -> Chat:
        address = fault if "://" in fault else server.address(fault)
        monkeypatch.setenv("OLLAMA_OPENAI_ADDRESS", address)
        monkeypatch.setattr("helpers.backends.hosted.Patience", lambda: patience)
        opened.append(open_chat("phi-4-mini", sdk, provider="ollama"))
        return opened[-1]

    yield open_at
    for chat in opened:
        chat.close()


FAULTS: list[tuple[str, type[CourseError], int]] = [
    ("401", errors.WrongKey, 1),
    ("403", errors.NoPermission, 1),
    ("404", errors.ModelGone, 1),
    ("410", errors.ModelGone, 1),
    ("413", errors.RequestTooLarge, 1),
    ("422", errors.RequestRefused, 1),
    ("429", errors.QuotaExceeded, 3),
    ("429-after", errors.QuotaExceeded, 3),
    ("500", errors.ServerFault, 3),
    ("503", errors.ServerFault, 3),
    ("malformed", errors.UnreadableAnswer, 1),
    ("html", errors.UnreadableAnswer, 1),
    ("cut", errors.ConnectionLost, 1),
    ("polite-cut", errors.ConnectionLost, 1),
    ("stall", errors.TimedOut, 1),
    ("slow", errors.TimedOut, 1),
    ("filtered", errors.ContentFiltered, 1),
    ("filter-400", errors.ContentFiltered, 1),
]


@pytest.mark.parametrize(("fault", "kind", "attempts"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_each_fault_is_one_named_error_with_a_next_step(
    at: Opener, server: FaultyServer, fault: str, kind: type[RemoteError], attempts: int
) -> None:
    with pytest.raises(RemoteError) as caught:
        at(fault).say("Count.")
    assert type(caught.value) is kind
    assert caught.value.next_step.endswith(".")
    assert caught.value.attempts == attempts == len(server.seen)


def test_too_long_a_text_is_the_courses_own_error(at: Opener) -> None:
    with pytest.raises(errors.ContextOverflow):
        at("too-long").say("Count.")


def test_a_healthy_answer_has_its_counts(at: Opener) -> None:
    reply = at("passing").say("Count.")
    assert (reply.text, reply.prompt_tokens, reply.new_tokens) == ("one two three four five", 7, 5)


@pytest.mark.parametrize("fault", ["cut", "polite-cut", "stall"])
def test_what_arrived_before_the_line_broke_is_kept_and_marked(at: Opener, fault: str) -> None:
    chat = at(fault)
    with pytest.raises(RemoteError) as caught:
        chat.say("Count.")
    reply = caught.value.reply
    assert (reply.text, reply.finish_reason) == ("one two three", "interrupted")
    assert chat.history == ()


def test_nothing_listens(at: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(errors.Unreachable, match=f"Nothing answers at 127.0.0.1:{port}"):
        at(f"http://127.0.0.1:{port}/v1").say("Count.")


def test_a_name_that_does_not_resolve(at: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # asking a real resolver would need a network
    with pytest.raises(errors.UnknownAddress, match="no-such-host.invalid"):
        at("http://no-such-host.invalid/v1").say("Count.")


def test_a_certificate_that_does_not_fit(at: Opener) -> None:
    with running(tls=True) as strange, pytest.raises(errors.CertificateRefused):
        at(strange.address("passing").replace("http:", "https:")).say("Count.")


# Patience


def test_a_fault_that_passes_is_retried_and_counted(at: Opener, server: FaultyServer) -> None:
    chat, server.failures_left = at("passing"), 2
    assert chat.say("Count.").text.startswith("one")
    assert chat.backend.retries == 2


def test_retry_after_beyond_the_budget_gives_up_at_once(at: Opener, server: FaultyServer) -> None:
    with pytest.raises(errors.QuotaExceeded, match="in 60 s") as caught:
        at("long-wait").say("Count.")
    assert caught.value.retry_after_seconds == 60
    assert len(server.seen) == 1


def test_retry_after_goes_before_our_own_wait() -> None:
    assert QUICK.wait_seconds(3, 0.5) == 0.5
    assert 0.03 <= QUICK.wait_seconds(3, None) <= 0.05


def test_the_budget_ends_the_retries(at: Opener) -> None:
    with pytest.raises(errors.ServerFault) as caught:
        at("503", Patience(budget_seconds=0.3, attempts=50, first_wait_seconds=0.1)).say("Count.")
    assert 1 <= caught.value.attempts <= 4


def test_retry_after_may_be_a_date() -> None:
    error = remote.refusal(Route("x", "http://x"), 429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, "")
    assert error.retry_after_seconds == 0


def test_a_call_can_be_cancelled_while_nothing_comes(at: Opener) -> None:
    chat = at("slow", Patience(read_seconds=SILENCE_SECONDS * 9))
    threading.Timer(0.1, chat.backend.cancel).start()
    assert chat.say("Count.").finish_reason == "cancelled"


def test_cancelling_the_wait_before_a_retry(at: Opener, server: FaultyServer) -> None:
    chat = at("503", Patience(first_wait_seconds=30))
    threading.Timer(0.2, chat.backend.cancel).start()
    assert chat.say("Count.").finish_reason == "cancelled"
    assert len(server.seen) == 1


def test_leaving_a_stream_tells_the_server_nothing_more_is_wanted(at: Opener) -> None:
    stream = at("stall").stream("Count.")
    assert next(stream) == "one"
    stream.close()
    assert (stream.reply.text, stream.reply.finish_reason) == ("one", "cancelled")


# What is sent


def test_the_options_reach_the_server(at: Opener, server: FaultyServer) -> None:
    schema = {"type": "object", "properties": {}}
    at("passing").say("Count.", max_new_tokens=9, temperature=0.5, top_p=0.9, seed=4, stop="six", json_schema=schema)
    body = server.seen[-1]["body"]
    expected = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 4, "stop": ["six"], "model": "phi4-mini"}
    assert {name: body[name] for name in expected} == expected
    assert body["response_format"]["json_schema"]["schema"] == schema


def test_an_image_reaches_the_server_as_a_data_address(at: Opener, server: FaultyServer) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    list(at("passing").backend.answer([message("What is this?", picture)], Sampling()))
    parts = server.seen[-1]["body"]["messages"][0]["content"]
    assert parts[0] == {"type": "text", "text": "What is this?"}
    assert parts[1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize(
    ("picture", "complaint"), [(b"GIF8 is no image", "PNG, JPEG"), (b"\xff\xd8\xff" + b"0" * 5000, "limit of 4,000")]
)
def test_an_image_that_cannot_be_sent_is_refused_before(picture: bytes, complaint: str) -> None:
    with pytest.raises(errors.InvalidInput, match=complaint):
        message("What is this?", picture, limit=4000)


# Secrets


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch, server: FaultyServer) -> Callable[[str], Chat]:
    def open_keyed(sdk: str, fault: str) -> Chat:
        address, key = {"openai": ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY")}.get(
            sdk, ("AZURE_INFERENCE_ENDPOINT", "AZURE_INFERENCE_CREDENTIAL")
        )
        monkeypatch.setenv(address, server.address(fault))
        monkeypatch.setenv(key, PLANTED)
        return open_chat("phi-4-mini", sdk, provider="foundry" if sdk == "openai" else "azure-inference")

    return open_keyed


@pytest.mark.parametrize("fault", ["passing", "echo-401", "echo-403", "cut"])
def test_a_key_is_sent_and_shown_nowhere(
    keyed: Any, sdk: str, fault: str, server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chat, shown = keyed(sdk, fault), []
    try:
        shown.append(repr(chat.say("Count.")))
    except RemoteError as error:
        shown += [str(error), repr(error), *error._render_traceback_(), repr(error.__cause__)]
    chat.close()
    shown += [repr(chat), repr(chat.backend), repr(chat.backend.route), str(vars(chat.backend))]
    assert server.seen[-1]["key"] == f"Bearer {PLANTED}"
    assert PLANTED not in " ".join(shown) + caplog.text


def test_nothing_that_holds_a_key_can_be_pickled(keyed: Any, sdk: str) -> None:
    chat = keyed(sdk, "passing")
    for holder in (Key(PLANTED), chat.backend.route, chat.backend, chat):
        with pytest.raises((errors.InvalidInput, TypeError)):
            pickle.dumps(holder)
    chat.close()


def test_no_thread_outlives_its_call(at: Opener) -> None:
    before = threading.active_count()
    at("passing").say("Count.")
    gc.collect()
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://x:y"])
def test_this_machine_is_asked_without_a_proxy(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    assert remote.fetch(Route("x", server.address("passing")), "/models")["data"]
