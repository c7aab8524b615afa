"""The table of providers, where keys come from, and what `probe` says."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from faulty_server import FaultyServer
from helpers import catalog
from helpers.backends import providers
from helpers.backends.providers import probe, provider, route
from helpers.backends.remote import Key, Route
from helpers.chat import open_chat
from helpers.errors import BackendUnavailable, InvalidInput, KeyMissing, ModelGone, ModelUnavailable, Unreachable


@pytest.fixture(autouse=True)
def _no_keys_and_no_server(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_servers", [])
    monkeypatch.setattr(providers, "server_note", lambda: dotenv.with_name("server.json"))


def test_every_row_says_what_became_of_it() -> None:
    for row in providers.providers():
        assert row.history.endswith(".")
        assert row.documentation.startswith(("https://", "../lessons/", "../docs/"))
        assert row.checked >= date(2026, 11, 1)
        assert row.address or row.address_example
        assert set(row.sdks) <= {"openai", "azure-ai-inference"}
        assert not row.key_variable or row.key_help


def test_the_table_names_the_models_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "planted-key")
    table = {row["provider"]: row for row in providers.provider_table()}
    assert table["nim"]["models"]["phi-4-mini"] == "microsoft/phi-4-mini-instruct"
    assert (table["nim"]["key"], table["foundry"]["key"], table["ollama"]["key"]) == (True, False, None)
    assert "planted-key" not in repr(table)


def test_a_retired_provider_keeps_its_row_and_its_date() -> None:
    assert provider("github").retired == date(2026, 7, 30)
    with pytest.raises(ModelGone, match="2026-07-30"):
        route("github")


def test_an_unknown_provider_lists_the_known() -> None:
    with pytest.raises(InvalidInput, match="nim, foundry"):
        provider("nowhere")


@pytest.mark.fault("keys, settings and networks")
def test_a_missing_key_says_how_to_get_one() -> None:
    with pytest.raises(KeyMissing, match=r"build\.nvidia\.com"):
        open_chat("phi-4-mini", provider="nim")


def test_a_missing_address_shows_its_form() -> None:
    with pytest.raises(Unreachable, match="<resource>"):
        route("foundry")


def test_without_a_server_local_says_how_to_start_one() -> None:
    with pytest.raises(Unreachable, match=r"serve\('smollm2-135m'\)"):
        open_chat("smollm2-135m", provider="local")


NOTE = json.dumps({"address": "http://127.0.0.1:9/v1", "key": "k", "run": "r"})


def test_a_server_of_another_process_is_found_by_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.json").write_text(NOTE)
    monkeypatch.setattr(providers, "fetch", lambda *_, **__: {"status": "ok", "run": "r"})
    assert route("local") == Route("this course's own server", "http://127.0.0.1:9/v1", Key("k"))


@pytest.mark.fault("the course's own server")
@pytest.mark.parametrize("told", [{"status": "ok", "run": "of another"}, {"status": "ok"}, None])
def test_the_note_of_a_server_that_is_gone_gives_its_key_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str] | None
) -> None:
    (tmp_path / "server.json").write_text(NOTE)
    asked: list[Route] = []
    if told is not None:  # else nothing listens there
        monkeypatch.setattr(providers, "fetch", lambda way, *_, **__: asked.append(way) or told)
    with pytest.raises(Unreachable, match="No address is known"):
        route("local")
    assert not [way for way in asked if way.key]


def test_a_students_own_setting_goes_before_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.json").write_text(NOTE)
    monkeypatch.setenv("SLM_LOCAL_ADDRESS", "http://classroom:8080/v1/")
    monkeypatch.setenv("SLM_LOCAL_KEY", "mine")
    assert route("local") == Route("this course's own server", "http://classroom:8080/v1", Key("mine"))


def test_a_key_may_stand_in_dotenv_and_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("NVIDIA_API_KEY=from-the-file\n")
    assert route("nim").key == Key("from-the-file")
    monkeypatch.setenv("NVIDIA_API_KEY", "from-the-environment")
    assert route("nim").key == Key("from-the-environment")


def test_a_model_that_a_provider_does_not_name_lists_those_it_does() -> None:
    with pytest.raises(ModelUnavailable, match="phi-3-mini"):
        provider("nim").model(catalog.card("smollm2-135m"))


def test_a_model_that_a_provider_retired_is_not_offered_there_any_more() -> None:
    rows = {row["provider"]: row["models"] for row in providers.provider_table()}
    assert "phi-3.5-mini" in rows["nim"]
    assert "phi-3.5-mini" not in rows["foundry"]
    with pytest.raises(ModelUnavailable, match="phi-4-mini") as caught:
        provider("foundry").model(catalog.card("smollm2-135m"))
    assert "phi-3" not in caught.value.next_step
    with pytest.raises(BackendUnavailable) as closed:
        open_chat("phi-3-small")
    assert "Elsewhere it runs at nim: open_chat" in closed.value.next_step


def test_an_sdk_that_a_provider_does_not_answer_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match="not with 'azure-ai-inference'"):
        open_chat("phi-4-mini", provider="foundry", sdk="azure")


@pytest.mark.parametrize("backend", ["llamacpp", "openai", "azure-ai-inference", "nonsense"])
def test_with_a_provider_an_sdk_is_said_and_no_backend(backend: str) -> None:
    with pytest.raises(InvalidInput, match=f"backend='{backend}' names an engine of this machine(.|\n)*sdk=, one of"):
        open_chat("smollm2-135m", backend, provider="local")


@pytest.mark.parametrize("options", [{"backend": "openai"}, {"sdk": "openai"}])
def test_an_sdk_without_a_provider_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="provider='local'"):
        open_chat("smollm2-135m", **options)


def test_an_unknown_sdk_lists_the_known() -> None:
    with pytest.raises(InvalidInput, match="azure-ai-inference, openai"):
        open_chat("smollm2-135m", provider="local", sdk="vllm")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("passing", "answers and offers phi4-mini"),
        ("401", "does not know the key"),
        ("html", "no JSON"),
        ("503", "failed with status 503"),
    ],
)
def test_probe_says_in_one_sentence_what_it_found(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    monkeypatch.setenv("OLLAMA_OPENAI_ADDRESS", server.address(fault))
    assert said in probe("ollama")
    assert "\n" not in probe("ollama")


def test_offers_are_named_as_the_catalog_names_them(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_OPENAI_ADDRESS", server.address("passing"))
    assert providers.offers("ollama") == ["phi-4-mini"]
    assert providers.offers("github") == []


@pytest.mark.parametrize(
    ("name", "said"), [("github", "retired"), ("nim", "NVIDIA_API_KEY is not set"), ("foundry", "is not set")]
)
def test_probe_asks_nobody_where_the_answer_is_known(name: str, said: str) -> None:
    assert said in probe(name)


def test_the_example_file_has_every_variable_and_no_value() -> None:
    lines = (Path(providers.__file__).parents[2] / ".env.example").read_text(encoding="utf-8").splitlines()
    named = dict(line.lstrip("# ").split("=", 1) for line in lines if "=" in line)
    wanted = {v for row in providers.providers() if not row.retired for v in (row.key_variable, row.address_variable)}
    assert (wanted | {"HF_TOKEN"}) - {""} <= named.keys()
    assert not [name for name, value in named.items() if ("KEY" in name or "TOKEN" in name) and value]
