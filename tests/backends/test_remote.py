"""A model elsewhere, at a server that fails in every way on purpose: each fault is one named error with a next step."""

from __future__ import annotations

import gc
import json
import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from faulty_server import RAW, SILENCE_SECONDS, STREAMS, FaultyServer, running
from helpers import errors, settings
from helpers.backends import faults, hosted
from helpers.backends.hosted import Patience
from helpers.backends.messages import message
from helpers.backends.remote import Key, Route, events, fetch
from helpers.chat import Chat, open_chat
from helpers.errors import CourseError, RemoteError, UnknownAddress, WrongKey
from helpers.records import Sampling

PLANTED = "planted-key-0123456789"
QUICK = Patience(budget_seconds=20, attempts=3, first_wait_seconds=0.01, connect_seconds=5, read_seconds=10)
HURRIED = replace(QUICK, read_seconds=SILENCE_SECONDS / 3)
Opener = Callable[..., Chat]


@pytest.fixture
def at(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens a chat whose requests meet a fault, or go to an address."""
    import openai.resources.chat  # noqa: F401 - which a first call would otherwise wait for

    opened: list[Chat] = []
    server.seen.clear()

    def open_at(fault: str, patience: Patience = QUICK, model: str = "phi-4-mini") -> Chat:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", fault if "://" in fault else server.address(fault))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", PLANTED)
        monkeypatch.setattr(hosted, "Patience", lambda: patience)
        opened.append(open_chat(model, provider="foundry"))
        return opened[-1]

    yield open_at
    for chat in opened:
        chat.close()


# A key and an address, before anything is sent


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("“nvapi-1”", "left double quotation mark"),
        ('"nvapi-1"', "character 1 of 9 is quotation mark"),
        ("'nvapi-1'", "apostrophe"),
        ("nvapi 1", "character 6 of 7 is space"),
        ("nvapi-\n1", "a line break"),
        ("nvapi-\t1", r"u\+0009"),
        ("nvåpi-1", "latin small letter a with ring above"),
        ("nvapi-1\u200b", "zero width space"),
        ("nvapi-…", "ellipsis"),
        ("Bearer nvapi-1", "the word Bearer"),
        (" \n", "empty"),
    ],
)
def test_what_cannot_be_a_key_is_said_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(WrongKey, match=f"NVIDIA_API_KEY cannot be a key: .*{said}") as caught:
        Key(text, "NVIDIA_API_KEY")
    assert "1" not in caught.value.message.replace("character 1 of", "") or "api" not in caught.value.message


@pytest.mark.parametrize("text", ["nvapi-1", " nvapi-1\r\n", "\u00a0nvapi-1\n"])
def test_blanks_around_a_key_are_dropped(text: str) -> None:
    assert Key(text).reveal() == "nvapi-1"


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("localhost:8080/v1", "neither with http"),
        ("ftp://box/v1", "neither with http"),
        ("nvapi-pasted-here", "neither with http"),
        ("http://box:abc/v1", "port is no number"),
        ("http://box:99999/v1", "port is no number"),
        ("http://box:0/v1", "port is no number"),
        ("http:///v1", "no host"),
        ("http://a..b/v1", "host is no name"),
        ("http://" + "a" * 70 + ".org", "host is no name"),
        ("http://[::1/v1", "host is no name"),
        ("“http://box/v1”", "quotes"),
        ("http://my box/v1", "blanks"),
        ("https://<resource>.openai.azure.com/", "brackets"),
        ("https://me:secret@box/v1", "a password"),
        ("https://box/v1?api-version=1", r"behind a \?"),
    ],
)
def test_what_cannot_be_an_address_is_said_and_not_shown(address: str, said: str) -> None:
    with pytest.raises(UnknownAddress, match=said) as caught:
        Route("x", address)
    assert "pasted" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_this_machine_is_known_by_all_its_names(host: str) -> None:
    assert Route("x", f"http://{host}:80/v1").is_loopback


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example.org", "[fe80::1]"])
def test_other_machines_are_told_apart(host: str) -> None:
    assert not Route("x", f"http://{host}:80/v1").is_loopback


# What the environment says


PROXIES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://x:y"])
def test_this_machine_is_asked_without_a_proxy(at: Opener, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for variable in PROXIES:
        monkeypatch.setenv(variable, proxy)
    assert at("passing").say("Count.").text == "one two three four five"


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTPS_PROXY", "nonsense://x"), ("HTTPS_PROXY", "http://x:y")],
)
def test_a_proxy_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.Unreachable, match="HTTPS_PROXY"):
        fetch(Route("x", "https://box.invalid/v1"), "/models")


@pytest.mark.fault("keys, settings and networks")
def test_a_proxy_that_refuses_is_named(at: Opener, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.address("501"))
    with pytest.raises(errors.Unreachable, match="proxy"):
        at("https://box.invalid/v1").say("Count.")


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("variable", settings.TRUST_OF_HTTPX)
def test_certificates_that_are_gone_are_named(at: Opener, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/gone.pem")
    with pytest.raises(errors.CertificateRefused, match=f"{variable} names"):
        fetch(Route("x", "https://box.invalid/v1"), "/models")
    with pytest.raises(errors.CertificateRefused, match=f"{variable} names"):
        at("https://box.invalid/v1")
    assert at("passing").say("Count.").text  # this machine needs none


# Peers that speak no HTTP, or break it


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("fault", [*RAW, "malformed", "html", "cut", "401", "503", "sends-on-302"])
def test_whatever_answers_a_fetch_is_json_or_a_sentence(server: FaultyServer, fault: str) -> None:
    with pytest.raises(RemoteError) as caught:
        fetch(Route("x", server.address(fault)), "/models", seconds=1)
    assert caught.value.next_step.endswith(".")


STREAM_FAULTS = {
    "ssh": errors.ConnectionLost,
    "silent": errors.ConnectionLost,
    "binary": errors.UnreadableAnswer,
    "no-number": errors.UnreadableAnswer,
    "stream-cut-short": errors.ConnectionLost,
    "stream-no-chunks": errors.UnreadableAnswer,
    "stream-no-gzip": errors.UnreadableAnswer,
    "deep": errors.UnreadableAnswer,
}


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_broken_stream_is_a_sentence(at: Opener, fault: str) -> None:
    with pytest.raises(STREAM_FAULTS[fault]):
        at(fault).say("Count.")


@pytest.mark.fault("keys, settings and networks")
def test_tls_to_a_plain_server_is_told(at: Opener, server: FaultyServer) -> None:
    with pytest.raises(errors.Unreachable, match="speaks no TLS"):
        at(server.address("passing").replace("http:", "https:")).say("Count.")


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_the_key_nowhere(at: Opener, server: FaultyServer, status: int) -> None:
    with running() as other:
        server.elsewhere = other.server_address[1]
        for ask in (
            at(f"sends-on-{status}").say,
            lambda _: fetch(Route("x", server.address(f"sends-on-{status}")), "/"),
        ):
            with pytest.raises(errors.Unreachable, match=f"sends the request on to 127.0.0.1:{server.elsewhere}"):
                ask("Count.")
        assert other.seen == []


# The forms of a stream


@pytest.mark.parametrize("form", STREAMS)
def test_each_form_of_a_stream_is_read(at: Opener, form: str) -> None:
    reply = at(f"stream-{form}").say("Count.")
    assert (reply.text, reply.finish_reason) == ("one two", "stop")


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("form", STREAMS)
def test_the_network_may_cut_a_stream_anywhere(form: str, size: int) -> None:
    data = STREAMS[form]
    found = [event for event in events(data[i : i + size] for i in range(0, len(data), size)) if "delta" in event]
    assert [json.loads(event)["choices"][0]["delta"].get("content") for event in found] == ["one", " two", None]


@pytest.mark.parametrize("error", ['{"message": "boom"}', '"boom"', '{"message": "boom", "code": 503}'])
def test_an_error_in_the_midst_of_a_stream_has_the_servers_words(at: Opener, server: FaultyServer, error: str) -> None:
    server.words = error
    with pytest.raises(errors.ServerFault, match="boom"):
        at("reports").say("Count.")


NO_EVENTS = [
    "[]",
    "1",
    '{"choices": 5}',
    '{"choices": [5]}',
    '{"choices": {"a": 1}}',
    '{"choices": [{"delta": {"content": 5}}]}',
    '{"choices": [{"delta": {"content": "a"}, "finish_reason": []}]}',
    '{"usage": {"completion_tokens": "5"}}',
]


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("event", NO_EVENTS)
def test_an_event_of_another_form_is_a_sentence(at: Opener, server: FaultyServer, event: str) -> None:
    server.words = event
    with pytest.raises(errors.UnreadableAnswer):
        at("says").say("Count.")


# Faults of a provider


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
        at(fault, HURRIED if kind is errors.TimedOut else QUICK).say("Count.")
    assert type(caught.value) is kind
    assert caught.value.next_step.endswith(".")
    assert caught.value.attempts == attempts == len(server.seen)


@pytest.mark.parametrize(("model", "known"), [("phi-3.5-mini", True), ("phi-4-mini", False)])
def test_a_model_that_its_provider_retired_is_told_with_the_day(at: Opener, model: str, known: bool) -> None:
    with pytest.raises(errors.ModelGone) as caught:
        at("404", model=model).say("Count.")
    assert ("Foundry retired it on 2025-08-30" in caught.value.message) == known
    assert caught.value.status == 404


def test_too_long_a_text_is_the_courses_own_error(at: Opener) -> None:
    with pytest.raises(errors.ContextOverflow):
        at("too-long").say("Count.")


def test_a_healthy_answer_has_its_counts(at: Opener) -> None:
    reply = at("passing").say("Count.")
    assert (reply.text, reply.prompt_tokens, reply.new_tokens) == ("one two three four five", 7, 5)


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("fault", ["cut", "polite-cut", "stall"])
def test_what_arrived_before_the_line_broke_is_kept_and_marked(at: Opener, fault: str) -> None:
    chat = at(fault, HURRIED if fault == "stall" else QUICK)
    with pytest.raises(RemoteError) as caught:
        chat.say("Count.")
    reply = caught.value.reply
    assert (reply.text, reply.finish_reason) == ("one two three", "interrupted")
    assert chat.history == ()


@pytest.mark.fault("keys, settings and networks")
def test_nothing_listens(at: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(errors.Unreachable, match=f"Nothing answers at 127.0.0.1:{port}"):
        at(f"http://127.0.0.1:{port}/v1").say("Count.")


@pytest.mark.fault("keys, settings and networks")
def test_a_name_that_does_not_resolve(at: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # asking a real resolver would need a network
    with pytest.raises(errors.UnknownAddress, match="no-such-host.invalid"):
        at("http://no-such-host.invalid/v1").say("Count.")


@pytest.mark.fault("keys, settings and networks")
def test_a_certificate_that_does_not_fit(at: Opener) -> None:
    with running(tls=True) as strange, pytest.raises(errors.CertificateRefused):
        at(strange.address("passing").replace("http:", "https:")).say("Count.")


# Patience


def test_a_fault_that_passes_is_retried_and_counted(at: Opener, server: FaultyServer) -> None:
    chat, server.failures_left = at("passing"), 2
    assert chat.say("Count.").text.startswith("one")
    assert chat.backend.retries == 2


@pytest.mark.fault("keys, settings and networks")
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
        at("503", Patience(budget_seconds=3, attempts=50, first_wait_seconds=1)).say("Count.")
    assert 1 <= caught.value.attempts <= 4


def test_retry_after_may_be_a_date() -> None:
    error = faults.refusal(Route("x", "http://x"), 429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, "")
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
    expected = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 4, "stop": ["six"]}
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


@pytest.mark.parametrize("fault", ["passing", "echo-401", "echo-403", "cut"])
def test_a_key_is_sent_and_shown_nowhere(
    at: Opener, fault: str, server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chat, shown = at(fault), []
    try:
        shown.append(repr(chat.say("Count.")))
    except RemoteError as error:
        shown += [str(error), repr(error), *error._render_traceback_(), repr(error.__cause__)]
    shown += [repr(chat), repr(chat.backend), repr(chat.backend.route), str(vars(chat.backend))]
    assert server.seen[-1]["key"] == f"Bearer {PLANTED}"
    assert PLANTED not in " ".join(shown) + caplog.text


@pytest.mark.fault("keys, settings and networks")
def test_nothing_that_holds_a_key_can_be_pickled(at: Opener) -> None:
    chat = at("passing")
    for holder in (Key(PLANTED), chat.backend.route, chat.backend, chat):
        with pytest.raises((errors.InvalidInput, TypeError)):
            pickle.dumps(holder)


def test_no_thread_outlives_its_call(at: Opener) -> None:
    before = threading.active_count()
    at("passing").say("Count.")
    gc.collect()
    assert threading.active_count() <= before + 1
