"""OpenVINO: what its options mean, its files when they are damaged, a folder and a GGUF file of one's own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines_here import opened
from helpers.backends import Backend
from helpers.backends.openvino import Engine
from helpers.chat import open_chat
from helpers.errors import BackendUnavailable, DamagedFile, InvalidInput
from helpers.models import engine_files, local, sources
from helpers.records import ModelCard, Prompt, Sampling
from talk import fresh

TEXT = "The weather in the north is"


@pytest.fixture(scope="module")
def engine() -> Backend:
    """The embedded model from its GGUF file."""
    return opened("openvino").backend


# What the options mean


def first_tokens(engine: Engine, draws: int, **options: Any) -> set[str]:
    prompt = Prompt((), tuple(engine.tokenize(TEXT)))
    drawn = [
        "".join(c.text for c in engine.generate(prompt, Sampling(max_new_tokens=1, temperature=5.0, seed=s, **options)))
        for s in range(draws)
    ]
    return set(drawn)


def test_top_k_acts_before_top_p_and_the_temperature_before_both(engine: Engine) -> None:
    # At a temperature of 5 the best five are nearly alike: half of what they share is three of them. Of the whole
    # vocabulary, half would leave all five.
    assert len(first_tokens(engine, 14, top_k=5)) == 5
    assert len(first_tokens(engine, 14, top_k=5, top_p=0.5)) == 3
    assert len(first_tokens(engine, 4, top_p=0.001)) > 1


def test_one_candidate_is_greedy(engine: Engine, card: ModelCard) -> None:
    chat, hot = fresh(engine, card), {"temperature": 5.0, "max_new_tokens": 8, "seed": 3}
    greedy = chat.complete(TEXT, max_new_tokens=8).text
    assert chat.complete(TEXT, top_k=1, **hot).text == greedy
    assert chat.complete(TEXT, top_p=1e-6, **hot).text == greedy


def test_the_repetition_penalty_counts_the_prompt(engine: Engine, card: ModelCard) -> None:
    prompt, chat = "one two one two one two one two", fresh(engine, card, max_new_tokens=3)
    assert chat.complete(prompt).text == " two two two"
    # The whole answer is new: " two" stands in the prompt, and each of these has been taken once.
    penalised = engine.tokenize(chat.complete(prompt, repetition_penalty=2.0).text)
    assert len({*penalised, *engine.tokenize(prompt)}) == len(penalised) + len(set(engine.tokenize(prompt)))


def test_an_earlier_prompt_changes_no_answer(engine: Engine, card: ModelCard) -> None:
    chat = fresh(engine, card, max_new_tokens=8)
    alone = chat.complete(TEXT).text
    chat.complete(f"{TEXT} often cold, and")
    assert chat.complete(TEXT).text == alone


# Which models, which machines


def test_threads_and_the_cache_reach_the_engine(
    engine: Engine, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino_genai

    asked: dict[str, Any] = {}
    monkeypatch.setattr(openvino_genai, "LLMPipeline", lambda *_, **options: asked.update(options))
    monkeypatch.setattr(Engine, "_warm_up", lambda _: None)
    open_chat(card.name, backend="openvino", threads=3)
    assert asked["INFERENCE_NUM_THREADS"] == 3
    assert asked["CACHE_DIR"] == str(engine_files.openvino(card))


def test_another_precision_than_the_files_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="q4_1, not fp32"):
        open_chat("smollm2-135m", backend="openvino", precision="fp32")


@pytest.mark.parametrize(("name", "reason"), [("phi-3-mini", "GGUF file"), ("phi-3.5-vision", "text alone")])
def test_what_it_does_not_serve_is_told(engine: Engine, name: str, reason: str) -> None:
    with pytest.raises(BackendUnavailable, match=reason):
        open_chat(name, backend="openvino")


# Files of one's own


def test_a_folder_of_ones_own_is_counted_and_served(engine: Engine, card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "openvino_model.xml").touch()
    shutil.copy(sources.folder(card) / "config.json", tmp_path)
    own = local.card_of_path(tmp_path)
    assert own.parameters == card.parameters == 134_515_008
    assert Engine.serves(own) is None


def test_a_gguf_of_another_kind_is_a_sentence(
    engine: Engine, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = bytearray(sources.gguf(card).read_bytes())
    start = changed.index(b"llama", changed.index(b"general.architecture"))
    changed[start : start + 5] = b"other"
    (tmp_path / "other.gguf").write_bytes(changed)
    monkeypatch.setattr(engine_files.convert, "tokenizer_to_folder", lambda *_: None)
    own = replace(card, embedded=False)
    with pytest.raises(DamagedFile, match=r"cannot read other\.gguf"):
        engine_files._unpack_for_openvino(own, tmp_path / "other.gguf", tmp_path / "part", "x")
