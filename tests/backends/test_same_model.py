"""The converted folder is the same model as the GGUF: same tokens, same probabilities, same answers as llama.cpp."""

from __future__ import annotations

import math
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from helpers.backends import Backend
from helpers.engines import agreement
from helpers.models import sources
from helpers.records import ModelCard, Turn
from talk import fresh

TEXTS = [
    "Hello, world! It's a fine day, isn't it?",
    "Flygande bäckasiner söka hwila på mjuka tuvor; åäö ÅÄÖ.",
    "敏捷的棕色狐狸跳过懒狗。今天天气很好！",
    "اللغة العربية جميلة جدا، أليس كذلك؟",
    "def f(x):\n    return {'a': x**2, \"b\": [1, 2, 3]}\n\n\n# end\n",
    "1234567890 3.14159 2026-11-22 0x1F 1,000,000 ¹²³ ٣٤٥",
    "😀 👩‍👩‍👧‍👦 🇸🇪 ✈️ ❤️‍🔥",
    "   runs    of  spaces   ",
    "\n\n\n\t\ttabs and\r\nnewlines\n \n  \n",
    "naïve café façade — “quotes” … ‘x’",
    "don't DON'T we'll I'm you're they've he'd",
    "α β γ ∑ ∫ √ ≈ ≠ ∞ 𝒳",
    "a" * 300,
    "=" * 120,
    "/usr/local/bin?x=1&y=2#z http://example.org",
    "zero\u200bwidth\u00a0nbsp\u2003em",
]
SPECIAL = [
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "a<|im_end|>b",
    "<repo_name>x<file_sep>",
]
ALPHABET = "ab cdE FGh.,;!?'\"0123456789 \n\t  åäöé中文字العربية😀<|>_-/\\{}[]()#$%&*+=~`^@"
PARAGRAPH = (
    "The river rises in the mountains and flows south for two hundred miles until it reaches the sea. On its banks "
    "people have built mills, bridges and small towns, and each spring the melting snow brings a flood that leaves the "
    "fields covered with rich dark soil. Farmers plant wheat and barley there, and in autumn they carry the harvest "
    "to the market in the old city, where merchants from many countries come to buy and sell."
)


def random_texts(count: int) -> list[str]:
    dice = random.Random(20)
    return ["".join(dice.choices(ALPHABET, k=dice.randint(1, 60))) for _ in range(count)]


def different(llama: Backend, reference: Backend, texts: list[str], *, control: bool = False) -> list[str]:
    return [t for t in texts if reference.tokenize(t, control=control) != llama.tokenize(t, control=control)]


def test_tokens_equal_llamacpps(llama: Backend, reference: Backend) -> None:
    assert different(llama, reference, [*TEXTS, *SPECIAL, *random_texts(300)]) == []
    assert different(llama, reference, SPECIAL, control=True) == []


def test_tokens_decode_to_the_text(reference: Backend) -> None:
    assert [reference.tokenizer.decode(reference.tokenize(text)) for text in TEXTS] == TEXTS


def test_chat_template_equals_the_tokenizers_own(llama: Backend, reference: Backend) -> None:
    def wrong(text: str) -> bool:
        turns = [Turn("system", "Be kind."), Turn("user", text), Turn("assistant", "Yes."), Turn("user", text)]
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        own = reference.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return not (reference.encode(turns).tokens == llama.encode(turns).tokens == tuple(own))

    assert [text for text in TEXTS if wrong(text)] == []


def test_chat_template_equals_llamacpps_own(llama: Backend, reference: Backend) -> None:
    messages = [{"role": "user", "content": TEXTS[0]}]
    prompt = llama._ask("/apply-template", {"messages": messages})["prompt"]
    assert tuple(llama.tokenize(prompt, control=True)) == reference.encode([Turn("user", TEXTS[0])]).tokens


def test_tokenizer_knows_its_control_tokens(card: ModelCard) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sources.folder(card))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|im_start|>", *["<|im_end|>"] * 2)
    assert tokenizer.model_max_length == 8192


def test_weights_are_safetensors_in_bf16(card: ModelCard) -> None:
    from safetensors import safe_open

    folder = sources.folder(card)
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}  # noqa: SIM118
    assert not [path for path in Path(folder).iterdir() if path.suffix in {".bin", ".py", ".pt"}]


def test_perplexity_is_within_one_percent(llama: Backend, reference: Backend) -> None:
    # Prose and legal English, some 340 tokens: llama.cpp also rounds what flows between the weights, to 8 bits, so a
    # single paragraph can be a little more than one per cent off in either direction.
    licence = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    texts = [reference.tokenize(text) for text in (PARAGRAPH, licence)]
    ours, theirs = (
        [value for ids in texts for value in read(backend, ids)]
        for read, backend in ((agreement._by_transformers, reference), (agreement._by_llamacpp, llama))
    )
    assert math.exp(-fmean(ours)) == pytest.approx(math.exp(-fmean(theirs)), rel=0.01)
    assert fmean(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.1


@pytest.mark.parametrize("question", agreement.questions("clear")[:3], ids=lambda question: question["prompt"])
def test_clear_answers_agree_with_the_stored_margin(
    llama: Backend, reference: Backend, card: ModelCard, question: Any
) -> None:
    ours, theirs = (fresh(backend, card, max_new_tokens=question["max_new_tokens"]) for backend in (reference, llama))
    reply = ours.say(question["prompt"])
    assert agreement.margin(ours, question["prompt"], reply) == pytest.approx(question["margin"], abs=0.4)
    assert theirs.say(question["prompt"]).text == reply.text
