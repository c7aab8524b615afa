"""A converted folder is the same model as its GGUF: same tokens, same probabilities, same answers as llama.cpp.

Asked of the embedded model and, in the nightly run, of the two larger rungs, which are of the other family; a tiny
random model of that family is asked in every run (test_tiny_qwen.py).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from helpers import catalog
from helpers.backends import Backend
from helpers.chat import Chat, open_chat
from helpers.engines import agreement
from helpers.errors import NotEnough
from helpers.models import sources
from helpers.records import Reply, Turn
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
    "<|fim_prefix|>a<|fim_suffix|><tool_call>",
]
ALPHABET = "ab cdE FGh.,;!?'\"0123456789 \n\t  åäöé中文字العربية😀<|>_-/\\{}[]()#$%&*+=~`^@"
PARAGRAPH = (
    "The river rises in the mountains and flows south for two hundred miles until it reaches the sea. On its banks "
    "people have built mills, bridges and small towns, and each spring the melting snow brings a flood that leaves the "
    "fields covered with rich dark soil. Farmers plant wheat and barley there, and in autumn they carry the harvest "
    "to the market in the old city, where merchants from many countries come to buy and sell."
)


#: Each model with its tokenizer's control tokens (begin, end, padding) and its context.
MODELS = {
    "smollm2-135m": ("<|im_start|>", "<|im_end|>", "<|im_end|>", 8192),
    "qwen2.5-coder-0.5b": ("<|endoftext|>", "<|im_end|>", "<|endoftext|>", 32768),
    "qwen2.5-coder-1.5b": ("<|endoftext|>", "<|im_end|>", "<|endoftext|>", 32768),
}
RUNGS = [pytest.param(name, marks=[] if name == "smollm2-135m" else pytest.mark.nightly) for name in MODELS]


@pytest.fixture(scope="module", params=RUNGS)
def pair(request: pytest.FixtureRequest, llama: Backend, reference: Backend) -> Iterator[tuple[Chat, Any]]:
    """One model on llama.cpp and on transformers."""
    card = catalog.card(request.param)
    if card.embedded:
        yield fresh(llama, card), fresh(reference, card)
        return
    if sources.state(card.name) != "ready":
        pytest.skip(f"{card.title} has not been fetched: course.py fetch {card.name}")
    try:
        with open_chat(card.name, "llamacpp") as one, open_chat(card.name, "transformers") as other:
            yield one, other
    except NotEnough as error:
        pytest.skip(str(error))


@pytest.fixture
def theirs(pair: tuple[Chat, Chat]) -> Any:
    """llama.cpp with the model."""
    return pair[0].backend


@pytest.fixture
def ours(pair: tuple[Chat, Chat]) -> Any:
    """transformers with the converted folder."""
    return pair[1].backend


def random_texts(count: int) -> list[str]:
    dice = random.Random(20)
    return ["".join(dice.choices(ALPHABET, k=dice.randint(1, 60))) for _ in range(count)]


def different(ours: Backend, theirs: Backend, texts: list[str], *, control: bool = False) -> list[str]:
    return [t for t in texts if ours.tokenize(t, control=control) != theirs.tokenize(t, control=control)]


def test_tokens_equal_llamacpps(ours: Backend, theirs: Backend) -> None:
    assert different(ours, theirs, [*TEXTS, *SPECIAL, *random_texts(300)]) == []
    assert different(ours, theirs, SPECIAL, control=True) == []


def test_tokens_decode_to_the_text(ours: Any) -> None:
    assert [ours.tokenizer.decode(ours.tokenize(text)) for text in TEXTS] == TEXTS


def test_chat_template_equals_the_tokenizers_own(ours: Any, theirs: Backend) -> None:
    def wrong(text: str) -> bool:
        turns = [Turn("system", "Be kind."), Turn("user", text), Turn("assistant", "Yes."), Turn("user", text)]
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        own = ours.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return not (ours.encode(turns).tokens == theirs.encode(turns).tokens == tuple(own))

    assert [text for text in TEXTS if wrong(text)] == []


def test_chat_template_equals_llamacpps_own(ours: Backend, theirs: Any) -> None:
    messages = [{"role": "user", "content": TEXTS[0]}]
    prompt = theirs.request("/apply-template", {"messages": messages})["prompt"]
    assert tuple(theirs.tokenize(prompt, control=True)) == ours.encode([Turn("user", TEXTS[0])]).tokens


def test_tokenizer_knows_its_control_tokens(pair: tuple[Chat, Chat], ours: Any) -> None:
    words = ours.tokenizer
    found = (words.bos_token, words.eos_token, words.pad_token, words.model_max_length)
    assert found == MODELS[pair[1].card.name]


def test_weights_are_safetensors_in_bf16(pair: tuple[Chat, Chat]) -> None:
    from safetensors import safe_open

    folder, kinds = sources.folder(pair[1].card), set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            kinds |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    assert kinds == {"BF16"}
    assert not [path for path in folder.iterdir() if path.suffix in {".bin", ".py", ".pt"}]


def test_perplexity_is_within_one_percent(pair: tuple[Chat, Chat], ours: Any, theirs: Any) -> None:
    # Prose and legal English, some 340 tokens: llama.cpp also rounds what flows between the weights, to 8 bits, so a
    # single paragraph can be a little more than one per cent off in either direction.
    texts = [PARAGRAPH, (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")]
    if pair[1].card.name == "qwen2.5-coder-1.5b":
        # It nearly knows those by heart (perplexity 2.7), where small differences weigh most, and these it never read.
        texts = json.loads(Path(__file__).with_name("unread.json").read_text(encoding="utf-8"))
    texts = [ours.tokenize(text)[:300] for text in texts]
    here, there = (
        [value for ids in texts for value in read(backend, ids)]
        for read, backend in ((agreement._by_transformers, ours), (agreement._by_llamacpp, theirs))
    )
    assert math.exp(-fmean(here)) == pytest.approx(math.exp(-fmean(there)), rel=0.01)
    assert fmean(abs(a - b) for a, b in zip(here, there, strict=True)) < 0.1


def margin(chat: Chat, prompt: str, reply: Reply) -> float:
    """The smallest lead, in nats, that a token of the greedy answer has over the next likeliest.

    The end token of a whole answer counts too.
    """
    import torch

    backend = chat.backend
    asked = list(backend.encode([Turn("user", prompt)]).tokens)
    end = [backend.tokenizer.eos_token_id] if reply.finish_reason == "stop" else []
    ids = torch.tensor([asked + backend.tokenize(reply.text) + end], device=backend.model.device)
    with torch.inference_mode():
        best = backend.model(ids).logits[0, len(asked) - 1 : -1].float().topk(2).values
    return float((best[:, 0] - best[:, 1]).min())


@pytest.mark.parametrize("question", agreement.fixed_questions("clear")[:3], ids=lambda question: question["prompt"])
def test_clear_answers_agree(pair: tuple[Chat, Chat], question: Any) -> None:
    prompt, most = question["prompt"], {"max_new_tokens": question["max_new_tokens"]}
    for chat in pair:
        chat.reset()
    reply = pair[1].say(prompt, **most)
    lead = margin(pair[1], prompt, reply)
    if pair[1].card.embedded:
        assert lead == pytest.approx(question["margin"], abs=0.4)  # as it is stored
    assert lead > 0.3, "choose a clearer question"
    assert pair[0].say(prompt, **most).text == reply.text
