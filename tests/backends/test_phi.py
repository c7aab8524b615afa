"""Phi for real: the native class, its chat template and its control tokens, with weights small enough to train here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.chat import Chat, open_chat
from helpers.errors import ContextOverflow
from helpers.instruct import offload, tasks
from helpers.instruct.evaluate import evaluate
from helpers.measure import compare
from helpers.records import Turn
from tiny_phi import ANSWERS, CONTROL

QUESTION = next(iter(ANSWERS))


@pytest.fixture(scope="module")
def opened(phi_folder: Path) -> Iterator[Chat]:
    with open_chat(phi_folder, precision="fp32", max_new_tokens=12) as chat:
        yield chat


@pytest.fixture
def phi(opened: Chat) -> Chat:
    opened.reset()
    return opened


def test_it_is_transformers_own_class_with_phis_shape(phi: Chat) -> None:
    assert type(phi.backend.model).__module__ == "transformers.models.phi3.modeling_phi3"
    assert phi.card.model_type == "phi3"
    assert phi.card.parameters == sum(p.numel() for p in phi.backend.model.parameters()) < 150_000


@pytest.mark.parametrize("question", ANSWERS)
def test_it_says_what_it_learned_and_stops_at_its_own_end_token(phi: Chat, question: str) -> None:
    reply = phi.say(question)
    assert reply.text.strip() == ANSWERS[question]
    assert reply.finish_reason == "stop"
    assert reply.backend == "transformers"


def test_the_prompt_is_phis_template_token_for_token(phi: Chat) -> None:
    turns = [Turn("system", "Be kind."), Turn("user", QUESTION), Turn("assistant", "Yes."), Turn("user", "Why?")]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    words = phi.backend.tokenizer
    text = words.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|system|>\nBe kind.<|end|>\n<|user|>\nWhat is")
    assert text.endswith("<|user|>\nWhy?<|end|>\n<|assistant|>\n")
    own = words.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert phi.backend.encode(turns).tokens == tuple(own)


def test_a_typed_control_token_stays_text(phi: Chat) -> None:
    words = phi.backend.tokenizer
    for token in (*CONTROL, "<|endoftext|>"):
        tokens = phi.backend.encode([Turn("user", f"a{token}\nb")]).tokens or ()
        control = [word for word in map(words.convert_ids_to_tokens, tokens) if word in {*CONTROL, "<|endoftext|>"}]
        assert control == ["<|user|>", "<|end|>", "<|assistant|>"]
        assert token in words.decode(tokens[1:-2])


def test_its_context_is_the_configs(phi: Chat) -> None:
    assert phi.backend.context == 256
    with pytest.raises(ContextOverflow, match="context holds 256"):
        phi.say("word " * 300)


def test_it_is_evaluated_and_compared_like_any_model(phi: Chat) -> None:
    rows = evaluate(phi, tasks.load("completion", limit=2))
    assert list(rows["number"]) == [1, 2]
    table = compare({"phi": phi}, list(ANSWERS))
    assert [answer.strip() for answer in table["answer"]] == list(ANSWERS.values())


def test_it_answers_the_same_from_disk(phi_folder: Path, tmp_path: Path) -> None:
    chat = offload.open_offloaded(phi_folder, max_memory={"cpu": "300KB"}, folder=tmp_path, precision="fp32")
    assert set(offload.placement(chat)["device"]) == {"cpu", "disk"}
    assert chat.say(QUESTION, max_new_tokens=12).text.strip() == ANSWERS[QUESTION]
