"""The doctor tells what is there, never a key, and what to do next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ollama_recorded
from helpers import backends, catalog, doctor, machine
from helpers.models import fetching

KEY = "nvapi-do-not-show-me"


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine with 4 GiB free, one key, a cache of one file and no Ollama."""
    for place in doctor.key_holders():
        monkeypatch.delenv(place["variable"], raising=False)
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    monkeypatch.setenv("SLM_HOME", str(tmp_path))
    (tmp_path / "model.bin").write_bytes(b"x" * 2**20)
    monkeypatch.setattr(machine, "free_memory_gib", lambda: 4.0)
    monkeypatch.setattr(machine, "accelerator", lambda: None)
    monkeypatch.setattr(doctor, "ollama_version", lambda: None)
    return doctor.examine()


def test_every_engine_is_told_with_its_version_or_why_not(findings: dict[str, Any]) -> None:
    assert {engine["name"] for engine in findings["engines"]} == {*backends.engines(), *backends.sdks()} - {"echo"}
    assert next(e for e in findings["engines"] if e["name"] == "transformers")["version"]


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "accelerator", lambda: "GeForce GTX 1080, 8 GiB")
    monkeypatch.setattr(machine, "gpu_trouble", lambda: "torch cannot compute on GeForce GTX 1080.")
    assert [said for said in doctor.troubles() if "GTX 1080. The processor computes instead" in said]


def test_a_missing_engine_says_why(findings: dict[str, Any]) -> None:
    findings["engines"][0]["missing"] = "the package xllamacpp is not installed: pip install xllamacpp"
    assert "the package xllamacpp is not installed" in doctor.report(findings)


@pytest.mark.fault("keys, settings and networks")
def test_a_key_is_present_and_never_shown(findings: dict[str, Any]) -> None:
    assert "NVIDIA_API_KEY present" in doctor.report(findings)
    assert "OPENAI_API_KEY not set" in doctor.report(findings)
    assert KEY not in doctor.report(findings) + json.dumps(findings)


def test_a_retired_provider_keeps_its_row_and_date(findings: dict[str, Any]) -> None:
    assert "GITHUB_TOKEN not set, retired on 2026-07-30" in doctor.report(findings)


def test_the_cache_is_measured(findings: dict[str, Any], tmp_path: Path) -> None:
    assert doctor.folder_gib(tmp_path) == 2**20 / machine.GIB
    assert doctor.folder_gib(tmp_path / "absent") == 0


def test_a_missing_model_comes_with_the_command_that_fetches_it(findings: dict[str, Any]) -> None:
    assert findings["cache"]["smollm2-135m"] == "missing"
    assert "course.py lab" in doctor.report(findings)


def test_a_model_that_is_ready_needs_no_advice(findings: dict[str, Any]) -> None:
    findings["cache"]["smollm2-135m"] = "ready"
    assert "fetches it" not in doctor.report(findings)


def test_what_fits_is_arithmetic(findings: dict[str, Any]) -> None:
    names = findings["fits_in_memory_at_4_bits"]
    assert names[0] == "smollm2-135m"
    assert "phi-3.5-mini" in names
    assert "phi-4" not in names  # 14.7B × 0.6 bytes is 8.2 GiB


def test_what_cannot_be_downloaded_never_fits() -> None:
    assert all(card.embedded or card.hub for card in doctor.fitting(10**6))
    assert not doctor.fitting(0.01)


def test_advice_names_the_largest_that_fits(findings: dict[str, Any]) -> None:
    largest = catalog.card(findings["fits_in_memory_at_4_bits"][-1])
    assert f"up to {largest.title}" in doctor.report(findings)


def test_no_room_is_told(findings: dict[str, Any]) -> None:
    findings["fits_in_memory_at_4_bits"] = []
    assert "No model fits" in doctor.report(findings)


def test_a_gpu_stops_the_advice_about_processors(findings: dict[str, Any]) -> None:
    assert "Without a GPU" in doctor.report(findings)
    findings["machine"]["accelerator"] = "NVIDIA T4, 16 GiB"
    assert "Without a GPU" not in doctor.report(findings)


# What is set


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_key_in_dotenv_counts_as_set(dotenv: Path, encoding: str) -> None:
    assert not any(place["key"] for place in doctor.examine()["providers"])
    dotenv.write_text(f"AZURE_OPENAI_API_KEY={KEY}\n", encoding=encoding)
    findings = doctor.examine()
    assert [place["variable"] for place in findings["providers"] if place["key"]] == ["AZURE_OPENAI_API_KEY"]
    assert KEY not in doctor.report(findings) + json.dumps(findings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NVIDIA_API_KEY", f"“{KEY}”"),
        ("OLLAMA_HOST", "localhost:abc"),
        ("AZURE_OPENAI_ENDPOINT", KEY),
        ("SSL_CERT_FILE", "/gone.pem"),
    ],
)
def test_what_cannot_be_what_it_says_is_named(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    told = [line for line in doctor.report(doctor.examine()).splitlines() if line.startswith(variable)]
    assert len(told) == 1
    assert KEY not in told[0]


@pytest.mark.fault("keys, settings and networks")
def test_a_dotenv_that_cannot_be_read_is_told_and_the_rest_too(dotenv: Path) -> None:
    dotenv.mkdir()
    assert ".env cannot be read" in doctor.report(doctor.examine()).splitlines()[-2]


def test_ollama_is_asked_where_its_own_variable_says(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ollama_recorded.running() as server:
        monkeypatch.setenv("OLLAMA_HOST", f"localhost:{server.server_address[1]}/")
        assert doctor.ollama_version() == "0.12.6"
        server.answers["/api/version"] = [ollama_recorded.Answer({"name": "something else"})]
        assert doctor.ollama_version() is None
    assert doctor.ollama_version() is None


@pytest.mark.fault("keys, settings and networks")
def test_the_users_name_is_not_in_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert doctor._tilde(tmp_path / ".cache" / "slm-course") == "~/.cache/slm-course"


def test_json_can_be_read_by_a_program(monkeypatch: pytest.MonkeyPatch, findings: dict[str, Any]) -> None:
    printed: list[str] = []
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert doctor.main(["--json"], printed.append) == 0
    assert json.loads(printed[0]) == findings


def test_looking_fetches_nothing(monkeypatch: pytest.MonkeyPatch, findings: dict[str, Any]) -> None:
    monkeypatch.setattr(fetching, "bring", lambda *_: pytest.fail("the doctor fetched"))
    doctor.examine()


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "a machine of your own"),
        ({"CODESPACES": "true"}, "a Codespace"),
        ({"JUPYTERHUB_API_URL": "http://127.0.0.1:8001/hub/api"}, "a class's Hub"),
    ],
)
def test_it_says_which_of_three_places_this_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    for name in ("CODESPACES", "JUPYTERHUB_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert doctor.where() == place


def test_who_is_in_a_hub_is_told_of_the_classs_model_server(findings: dict[str, Any]) -> None:
    assert "provider='class'" not in " ".join(doctor.advice(findings))
    findings["place"] = "a class's Hub"
    assert "provider='class'" in " ".join(doctor.advice(findings))
