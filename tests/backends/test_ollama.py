"""Ollama's native routes against recorded answers; and against a real Ollama where one runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from helpers import catalog, errors, machine
from helpers.backends import ollama, providers
from helpers.backends.hosted import Patience
from helpers.chat import Chat, open_chat
from ollama_recorded import CONFIG, DIGEST, PULLED, Answer, Recorded, layer, running
from ollama_recorded import chat as spoken

pytest.importorskip("ollama", reason="the package ollama is not installed: python3 course.py lab --engines")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    monkeypatch.delenv("OLLAMA_OPENAI_ADDRESS", raising=False)
    with running() as recorded:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{recorded.server_address[1]}")
        yield recorded


@pytest.fixture
def phi(server: Recorded) -> Iterator[Chat]:
    with open_chat("phi-4-mini", "ollama", max_new_tokens=5) as opened:
        server.seen.clear()
        yield opened


def asked(server: Recorded) -> Any:
    return server.bodies("/api/chat")[-1]


# Where it is


HOSTS = {
    "": "http://localhost:11434",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:5000": "http://127.0.0.1:5000",
    ":5000": "http://127.0.0.1:5000",
    "127.0.0.1:5000": "http://127.0.0.1:5000",
    "localhost:": "http://localhost:11434",
    "localhost/": "http://localhost:11434",
    " 'box:5000/' ": "http://box:5000",
    "box/ollama": "http://box:11434/ollama",
    "http://box": "http://box:80",
    "HTTP://box:5000/": "http://box:5000",
    "https://box": "https://box:443",
    "https://box:444/ollama/": "https://box:444/ollama",
    "ollama.com": "https://ollama.com:443",
    "::1": "http://[::1]:11434",
    "[::1]": "http://[::1]:11434",
    "[::1]:5000": "http://[::1]:5000",
    "http://[::1]/": "http://[::1]:80",
    "[::]:5000": "http://127.0.0.1:5000",
    "::": "http://127.0.0.1:11434",
}


@pytest.mark.parametrize("host", HOSTS)
def test_ollamas_own_variable_is_understood_as_ollama_does(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_OPENAI_ADDRESS", raising=False)
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert ollama.native_route().address == HOSTS[host]
    assert providers.route("ollama").address == f"{HOSTS[host]}/v1"


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("host", ["localhost:abc", "box:99999", "box:0", "ftp://box", "my box", "“box”", "a:b@c"])
def test_a_variable_that_names_no_place_is_named(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_OPENAI_ADDRESS", raising=False)
    monkeypatch.setenv("OLLAMA_HOST", host)
    for ask in (ollama.version, ollama.installed, ollama.native_route, lambda: open_chat("phi-4-mini", "ollama")):
        with pytest.raises(errors.CourseError, match="OLLAMA_HOST is no address of Ollama"):
            ask()
    assert "OLLAMA_HOST" in providers.probe("ollama")


def test_a_key_of_ollamas_own_is_checked_too(server: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "“pasted”")
    with pytest.raises(errors.WrongKey, match="OLLAMA_API_KEY"):
        ollama.installed()


def test_a_redirect_is_not_followed(server: Recorded) -> None:
    server.answers["/api/tags"] = [Answer({}, 307)]
    with pytest.raises(errors.Unreachable, match="sends the request on"):
        ollama.installed()


@pytest.mark.parametrize("system", ["Darwin", "Windows", "Linux"])
def test_where_none_runs_it_is_told_how_to_have_one(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setattr("platform.system", lambda: system)
    with pytest.raises(
        errors.BackendUnavailable, match=r"No Ollama answers at http://127\.0\.0\.1:9: .*https?://|winget"
    ):
        open_chat("phi-4-mini", "ollama")
    with pytest.raises(errors.Unreachable, match="To have one here"):
        ollama.installed()


@pytest.mark.fault("keys, settings and networks")
def test_an_old_one_is_told_apart(server: Recorded) -> None:
    server.answers["/api/version"] = [Answer({"version": "0.3.14"})]
    with pytest.raises(errors.BackendUnavailable, match="0.3.14 is too old"):
        open_chat("phi-4-mini", "ollama")


@pytest.mark.fault("keys, settings and networks")
def test_another_program_on_the_port_is_no_ollama(server: Recorded) -> None:
    server.answers["/api/version"] = [Answer({"name": "another"})]
    with pytest.raises(errors.BackendUnavailable, match="not as a language model"):
        open_chat("phi-4-mini", "ollama")


# What it has


def test_the_installed_models_are_rows_with_the_catalogs_names(server: Recorded) -> None:
    rows = {row["name"]: row for row in ollama.installed()}
    assert rows["phi4-mini:latest"]["model"] == "phi-4-mini"
    assert rows["phi4-mini:latest"]["gib"] == pytest.approx(2.32, abs=0.01)
    assert rows["dolphin3:8b"]["model"] is None


def test_a_dolphin_is_no_phi(server: Recorded) -> None:
    assert [row["name"] for row in ollama.phi()] == ["phi4-mini:latest"]


def test_show_tells_sizes_and_abilities(server: Recorded) -> None:
    told = ollama.show("phi-4-mini")
    assert (told["name"], told["context"], told["quantization"]) == ("phi4-mini", 131_072, "Q4_K_M")
    assert server.bodies("/api/show")[0]["model"] == "phi4-mini"


@pytest.mark.parametrize("card", [c for c in catalog.cards() if "ollama" in c.tags], ids=lambda c: c.name)
def test_a_tag_is_a_name_of_ollamas(card: Any) -> None:
    name, _, tag = ollama.full_name(card.tags["ollama"]).partition(":")
    assert name.replace("-", "") in card.name.replace("-", "")
    assert tag


# To talk


def test_an_answer_streams_with_its_counts(phi: Chat) -> None:
    reply = phi.say("What is the capital of Sweden?")
    assert (reply.text, reply.prompt_tokens, reply.new_tokens, reply.finish_reason) == ("Stockholm.", 26, 2, "stop")


def test_options_are_sent_by_ollamas_names(server: Recorded, phi: Chat) -> None:
    phi.say("Hi", temperature=0.7, top_k=5, seed=3, stop="END")
    options = asked(server)["options"]
    wanted = {"num_predict": 5, "temperature": 0.7, "top_k": 5, "seed": 3, "stop": ["END"], "num_ctx": 4096}
    assert options.items() >= wanted.items()
    # Left to itself, Ollama would filter and penalize.
    assert (options["top_p"], options["min_p"], options["repeat_penalty"]) == (1.0, 0.0, 1.0)
    assert options["num_thread"] == machine.threads()


def test_history_and_schema_are_sent(server: Recorded, phi: Chat) -> None:
    phi.say("Hi")
    phi.say("And now?", json_schema={"type": "object"})
    assert [m["role"] for m in asked(server)["messages"]] == ["user", "assistant", "user"]
    assert asked(server)["format"] == {"type": "object"}


def test_the_length_limit_is_told(server: Recorded, phi: Chat) -> None:
    server.answers["/api/chat"] = [Answer(spoken("one", " two", reason="length"))]
    assert phi.say("Count").finish_reason == "length"


def test_the_model_is_loaded_when_it_is_opened(server: Recorded) -> None:
    open_chat("phi-4-mini", "ollama", context=512).close()
    assert [body["options"]["num_predict"] for body in server.bodies("/api/chat")] == [1]


def test_images_go_as_bare_base64(server: Recorded, phi: Chat) -> None:
    import numpy as np

    phi.backend.sees = True
    phi.say("What is this?", images=[np.zeros((4, 4, 3), dtype=np.uint8)])
    (message,) = asked(server)["messages"]
    assert message["content"] == "What is this?"
    assert message["images"][0].startswith("iVBOR")  # how a PNG begins in base64


def test_what_cannot_be_promised_is_refused(phi: Chat) -> None:
    with pytest.raises(errors.UnsupportedOption, match="top_p"):
        phi.say("Hi", top_p=0.5)
    with pytest.raises(errors.UnsupportedOption, match="tokenizer to itself"):
        phi.complete("The capital of Sweden is")


def test_our_own_file_goes_before_the_librarys(server: Recorded) -> None:
    models = [dict(model) for model in server.answers["/api/tags"][0].body["models"]]
    models[1] |= {"name": "smollm2-135m:latest", "model": "smollm2-135m:latest"}
    server.answers["/api/tags"] = [Answer({"models": models})]
    with open_chat("smollm2-135m", "ollama") as opened:
        assert opened.backend.model == "smollm2-135m:latest"
        assert opened.backend.precision == "q4_0"


# What goes wrong


def test_a_model_that_is_not_pulled_names_the_command(server: Recorded) -> None:
    with pytest.raises(errors.ModelGone, match=r"ollama pull phi3\.5"):
        open_chat("phi-3.5-mini", "ollama")


def test_a_model_that_vanished_names_the_command(server: Recorded, phi: Chat) -> None:
    server.answers["/api/chat"] = [Answer({"error": "model 'phi4-mini' not found"}, 404)]
    with pytest.raises(errors.ModelGone, match="ollama pull phi4-mini"):
        phi.say("Hi")


FAILURES = {
    "server": (Answer({"error": "the model failed to generate a response"}, 500), errors.ServerFault, "failed to gen"),
    "request": (Answer({"error": "invalid options"}, 400), errors.RequestRefused, "invalid options"),
    "quota": (Answer({"error": "too many requests"}, 429), errors.QuotaExceeded, "too many"),
    "memory": (
        Answer({"error": "model requires more system memory (9.1 GiB) than is available (5.9 GiB)"}, 500),
        errors.NotEnoughMemory,
        "does not fit",
    ),
    "midst": (
        Answer([*spoken("one")[:1], {"error": "an error was encountered while running the model"}]),
        errors.ServerFault,
        "in the midst",
    ),
    "broken": (Answer(spoken("one", " two")[:2], cut=True), errors.ConnectionLost, "broke"),
    "unfinished": (Answer(spoken("one", " two")[:2]), errors.ConnectionLost, "broke"),
    "damaged": (Answer([*spoken("one")[:1], b'{"model": "phi\n']), errors.UnreadableAnswer, "damaged"),
    "no object": (Answer([b"[1]\n"]), errors.UnreadableAnswer, "another form"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_is_a_sentence(name: str, server: Recorded, phi: Chat) -> None:
    answer, kind, words = FAILURES[name]
    server.answers["/api/chat"] = [answer]
    phi.backend.patience = Patience(attempts=1)
    with pytest.raises(kind, match=words) as raised:
        phi.say("Hi")
    assert raised.value.next_step
    assert phi.history == ()


def test_a_fault_before_the_first_token_is_tried_again(server: Recorded, phi: Chat) -> None:
    server.answers["/api/chat"] = [Answer({"error": "busy"}, 503), Answer(spoken("Now."))]
    assert phi.say("Hi").text == "Now."
    assert phi.backend.retries == 1


# To pull


def test_a_pull_counts_the_bytes_of_every_layer(server: Recorded) -> None:
    with ollama.official_client() as client:
        seen = list(ollama.progress(client.pull("phi4-mini", stream=True)))
    assert [done for _, done, _ in seen] == [0, 0, 400, 1000, 1010, 1010, 1010, 1010, 1010]
    assert seen[-1] == ("success", 1010, 1010)


def test_a_pull_says_the_room_it_needs(server: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    assert ollama.pull("phi-4-mini") == "phi4-mini"
    said = capsys.readouterr().out
    assert "about 2.1 GiB" in said.splitlines()[0]
    assert "are free" in said.splitlines()[0]


def test_a_pull_that_does_not_fit_is_not_begun(server: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_disk_gib", lambda path: 1.0)
    with pytest.raises(errors.NotEnoughDisk):
        ollama.pull("phi-4-mini")
    assert server.bodies("/api/pull") == []


def test_a_broken_pull_goes_on(server: Recorded) -> None:
    server.answers["/api/pull"] = [Answer(PULLED[:3], cut=True), Answer([layer(400), *PULLED[3:]])]
    assert ollama.pull("phi-4-mini") == "phi4-mini"
    assert len(server.bodies("/api/pull")) == 2


def test_a_pull_that_keeps_breaking_says_that_it_can_go_on(server: Recorded) -> None:
    server.answers["/api/pull"] = [Answer(PULLED[:3])]
    with pytest.raises(errors.ConnectionLost, match="Run again"):
        ollama.pull("phi-4-mini", attempts=2)
    assert len(server.bodies("/api/pull")) == 2


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("pull model manifest: file does not exist", errors.ModelGone),
        ("pull model manifest: 412: The model requires a newer version of Ollama.", errors.RequestRefused),
        (f"write /models/blobs/{DIGEST}-partial: no space left on device", errors.NotEnoughDisk),
        (f"max retries exceeded: Get {CONFIG}: EOF", errors.ServerFault),
    ],
)
def test_a_failed_pull_is_a_sentence(said: str, kind: type[Exception], server: Recorded) -> None:
    server.answers["/api/pull"] = [Answer([PULLED[0], {"error": said}])]
    with pytest.raises(kind) as raised:
        ollama.pull("phi-4-mini")
    assert raised.value.next_step


# A real one


def test_a_real_ollama_says_its_version_and_its_models() -> None:
    try:
        assert ollama.too_old(ollama.version(seconds=0.5)) is None
    except errors.RemoteError as error:
        pytest.skip(error.message)
    assert all(row["gib"] > 0 for row in ollama.installed())
