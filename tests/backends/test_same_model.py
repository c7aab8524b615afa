"""The converted folder is the same model as the GGUF: same tokens, same probabilities, same answers as llama.cpp."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from helpers.backends import Backend
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


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_equal_llamacpp(llama: Backend, reference: Backend, text: str) -> None:
    assert reference.tokenize(text) == llama.tokenize(text)


@pytest.mark.parametrize("text", SPECIAL)
@pytest.mark.parametrize("control", [True, False])
def test_control_tokens_equal_llamacpp(llama: Backend, reference: Backend, text: str, control: bool) -> None:
    assert reference.tokenize(text, control=control) == llama.tokenize(text, control=control)


def test_random_texts_equal_llamacpp(llama: Backend, reference: Backend) -> None:
    different = [text for text in random_texts(400) if reference.tokenize(text) != llama.tokenize(text)]
    assert different == []


def test_tokens_decode_to_the_text(reference: Backend) -> None:
    assert [reference.tokenizer.decode(reference.tokenize(text)) for text in TEXTS] == TEXTS


@pytest.mark.parametrize("text", TEXTS)
def test_chat_template_equals_the_tokenizers_own(llama: Backend, reference: Backend, text: str) -> None:
    turns = [Turn("system", "Be kind."), Turn("user", text), Turn("assistant", "Yes."), Turn("user", text)]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    own = reference.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert reference.encode(turns).tokens == llama.encode(turns).tokens == tuple(own)


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


def log_probabilities(backend: Backend, ids: list[int]) -> list[float]:
    import torch

    with torch.inference_mode():
        logits = backend.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return [logits[n, token].item() for n, token in enumerate(ids[1:])]


def llama_log_probabilities(backend: Backend, ids: list[int]) -> list[float]:
    """llama.cpp's probability of each token after the first, asked for one position at a time."""
    found = []
    for n in range(1, len(ids)):
        body = {
            "prompt": ids[:n],
            "n_predict": 1,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "n_probs": 1000,
        }
        top = backend._ask("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        found.append(next((entry["logprob"] for entry in top if entry["id"] == ids[n]), math.nan))
    return found


def test_perplexity_is_within_one_percent(llama: Backend, reference: Backend) -> None:
    # Prose and legal English, some 340 tokens: llama.cpp also rounds what flows between the weights, to 8 bits, so a
    # single paragraph can be a little more than one per cent off in either direction.
    licence = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    texts = [reference.tokenize(text) for text in (PARAGRAPH, licence)]
    ours = [value for ids in texts for value in log_probabilities(reference, ids)]
    theirs = [value for ids in texts for value in llama_log_probabilities(llama, ids)]
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if not math.isnan(b)]
    assert len(pairs) >= 0.95 * len(ours)
    perplexities = [math.exp(-sum(column) / len(pairs)) for column in zip(*pairs, strict=True)]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=0.01)
    assert sum(abs(a - b) for a, b in pairs) / len(pairs) < 0.1


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of Sweden?",
        "What is the capital of Japan?",
        "What is the chemical symbol for water?",
        "What is the largest planet in the solar system?",
    ],
)
def test_clear_greedy_answers_agree(llama: Backend, reference: Backend, card: ModelCard, question: str) -> None:
    prompt = list(reference.encode([Turn("user", question)]).tokens)
    answer = fresh(reference, card).say(question, max_new_tokens=8).text
    assert margin(reference, prompt + reference.tokenize(answer), len(prompt)) > 0.5, "choose a clearer question"
    assert fresh(llama, card).say(question, max_new_tokens=8).text == answer


def margin(backend: Backend, ids: list[int], start: int) -> float:
    """The smallest gap, in nats, between the chosen token and the runner-up."""
    import torch

    with torch.inference_mode():
        best = backend.model(torch.tensor([ids])).logits[0, start - 1 : -1].float().topk(2).values
    return (best[:, 0] - best[:, 1]).min().item()
