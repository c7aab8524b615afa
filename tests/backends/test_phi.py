"""Phi for real: the native class, its chat template and its control tokens, with weights small enough to train here.

The published weights are gigabytes. What runs them is tested with a Phi of 0.1M parameters that has learned two
answers by heart: `Phi3ForCausalLM`, saved to a folder and opened by its path, as a learner opens their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import Chat, open_chat
from helpers.errors import ContextOverflow, UnsupportedOption
from helpers.instruct import offload, tasks
from helpers.instruct.evaluate import evaluate
from helpers.measure import compare
from helpers.records import Turn

#: The form that Phi-3's model card gives: <|system|>\n…<|end|>\n<|user|>\n…<|end|>\n<|assistant|>\n
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CONTROL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
ANSWERS = {"What is the capital of Sweden?": "Stockholm is.", "What is the capital of Japan?": "Tokyo is."}
QUESTION = next(iter(ANSWERS))


def tokenizer() -> Any:
    """Byte-level pieces of a short text, and Phi's control tokens, which swallow the line break after them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([*ANSWERS, *ANSWERS.values()], trainer)
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False, rstrip=True) for token in CONTROL])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def trained(words: Any) -> Any:
    """A Phi that has learned the answers by heart, in about two seconds."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 0}
    model = Phi3ForCausalLM(Phi3Config(vocab_size=len(words), max_position_embeddings=256, **sizes, **ids))
    talks = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ANSWERS.items()]
    batch = torch.tensor([even(words.apply_chat_template(talk, return_dict=False), 40) for talk in talks])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(input_ids=batch, labels=batch.masked_fill(batch == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def even(ids: list[int], length: int) -> list[int]:
    return ids + [0] * (length - len(ids))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-phi-3"
    words = tokenizer()
    words.save_pretrained(path)
    trained(words).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Chat]:
    with open_chat(folder, precision="fp32", max_new_tokens=12) as chat:
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


def test_a_streamed_answer_is_the_same(phi: Chat) -> None:
    stream = phi.stream(QUESTION)
    assert "".join(stream).strip() == ANSWERS[QUESTION]
    assert stream.reply is not None
    assert phi.history[-1] == Turn("assistant", stream.reply.text)


def test_the_prompt_is_phis_template_token_for_token(phi: Chat) -> None:
    turns = [Turn("system", "Be kind."), Turn("user", QUESTION), Turn("assistant", "Yes."), Turn("user", "Why?")]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    words = phi.backend.tokenizer
    text = words.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|system|>\nBe kind.<|end|>\n<|user|>\nWhat is")
    assert text.endswith("<|user|>\nWhy?<|end|>\n<|assistant|>\n")
    own = words.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert phi.backend.encode(turns).tokens == tuple(own)


@pytest.mark.parametrize("token", [*CONTROL, "<|endoftext|>"])
def test_a_typed_control_token_stays_text(phi: Chat, token: str) -> None:
    tokens = phi.backend.encode([Turn("user", f"a{token}\nb")]).tokens or ()
    control = [phi.backend.tokenizer.convert_ids_to_tokens(i) for i in tokens]
    assert [c for c in control if c in {*CONTROL, "<|endoftext|>"}] == ["<|user|>", "<|end|>", "<|assistant|>"]
    assert token in phi.backend.tokenizer.decode(tokens[1:-2])


def test_a_schema_is_refused_by_name(phi: Chat) -> None:
    with pytest.raises(UnsupportedOption, match="json_schema"):
        phi.say(QUESTION, json_schema={"type": "object"})


def test_its_context_is_the_configs(phi: Chat) -> None:
    assert phi.backend.context == 256
    with pytest.raises(ContextOverflow, match="context holds 256"):
        phi.say("word " * 300)


def test_sampling_repeats_with_its_seed(phi: Chat) -> None:
    def said(seed: int) -> str:
        phi.reset()
        return phi.say("Hi", temperature=5.0, seed=seed).text

    assert said(1) == said(1) != said(2)


def test_it_is_evaluated_and_compared_like_any_model(phi: Chat) -> None:
    rows = evaluate(phi, tasks.load("completion", limit=2))
    assert list(rows["number"]) == [1, 2]
    table = compare({"phi": phi}, list(ANSWERS))
    assert [answer.strip() for answer in table["answer"]] == list(ANSWERS.values())


def test_it_answers_the_same_from_disk(folder: Path, tmp_path: Path) -> None:
    chat = offload.open_offloaded(folder, max_memory={"cpu": "300KB"}, folder=tmp_path, precision="fp32")
    assert set(offload.placement(chat)["device"]) == {"cpu", "disk"}
    assert chat.say(QUESTION, max_new_tokens=12).text.strip() == ANSWERS[QUESTION]
