"""History, context limits, what a message may be, stop strings and the clock: on the echo, which needs no weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.backends import Backend
from helpers.backends.streams import until_stop
from helpers.chat import open_chat
from helpers.errors import ContextOverflow, InvalidInput, UnknownModel, UnsupportedOption
from helpers.models import templates
from helpers.records import Chunk, ModelCard, Turn
from talk import fresh


def echo(**options: object):
    return open_chat("smollm2-135m", backend="echo", **options)


def test_history_alternates() -> None:
    chat = echo(system="Be brief.")
    chat.say("one two")
    assert [(t.role, t.text) for t in chat.history[1:]] == [("user", "one two"), ("assistant", "one two")]


def test_reset_keeps_the_system_message() -> None:
    chat = echo(system="Be brief.")
    chat.say("one")
    chat.reset()
    assert chat.history == (Turn("system", "Be brief."),)


def test_overflow_is_refused_with_both_numbers_and_keeps_the_history() -> None:
    chat = echo(context=40, max_new_tokens=10)
    chat.say("one two three")
    before = chat.history
    with pytest.raises(ContextOverflow, match=r"\d+ tokens and the answer may take 10; the context holds 40"):
        chat.say("word " * 40)
    assert chat.history == before


def test_shorten_drops_the_oldest_turns() -> None:
    chat = echo(context=40, max_new_tokens=10, shorten=True, system="Stay.")
    replies = [chat.say(f"{n} two three four five six") for n in range(4)]
    assert replies[0].dropped_turns == 0
    assert replies[-1].dropped_turns >= 2
    assert chat.history[0].text == "Stay."
    assert chat.history[1].role == "user"


def test_shorten_cannot_help_one_long_message() -> None:
    with pytest.raises(ContextOverflow):
        echo(context=20, max_new_tokens=5, shorten=True).say("word " * 30)


def test_huge_text_is_refused_before_it_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = echo(context=10)
    monkeypatch.setattr(chat.backend, "tokenize", None)
    with pytest.raises(ContextOverflow, match="1,000,000 characters"):
        chat.say("x" * 1_000_000)


@pytest.mark.parametrize("text", ["", "  \n", "a\x00b", "\x1b[31m", "half \ud83d", b"bytes", None, 5])
def test_what_is_no_text_is_refused_in_a_sentence(text: object) -> None:
    with pytest.raises(InvalidInput, match=r"empty|binary|half a character|text, not"):
        echo().say(text)


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_k": -2},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"stop": ("",)},
        {"beams": 4},
    ],
)
def test_impossible_sampling_is_refused_by_name(option: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(option))):
        echo().say("Hi", **option)


def test_unsupported_sampling_is_refused_when_the_chat_opens() -> None:
    with pytest.raises(UnsupportedOption, match="top_k"):
        echo(top_k=5)


def test_context_beyond_the_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 8192"):
        echo(context=9000)


def test_unknown_model_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownModel, match="phi-3.5-mini"):
        open_chat("phi3.5-mini-instruct")


def test_a_failing_engine_leaves_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = echo()
    chat.say("one")
    before = chat.history

    def broken(*_: object):
        yield Chunk("half", 1)
        raise RuntimeError("engine fell over")

    monkeypatch.setattr(chat.backend, "generate", broken)
    with pytest.raises(RuntimeError, match="fell over"):
        chat.say("two")
    assert chat.history == before


def test_an_interrupted_answer_leaves_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = echo()

    def interrupted(*_: object):
        yield Chunk("half", 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(chat.backend, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.say("two")
    assert chat.history == ()


@pytest.mark.parametrize("cuts", [[1] * 11, [4, 3, 4], [11]])
def test_stop_is_found_across_tokens(cuts: list[int]) -> None:
    text, pieces = "one END two", []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    chunks = [Chunk(piece, n + 1) for n, piece in enumerate(pieces)]
    got = list(until_stop(iter([*chunks, Chunk("", len(chunks), "length")]), ("END", "zzz")))
    assert ("".join(c.text for c in got), got[-1].finish_reason) == ("one ", "stop")


def test_a_begun_stop_string_is_given_back_at_the_end() -> None:
    got = list(until_stop(iter([Chunk("fine EN", 1), Chunk("", 1, "stop")]), ("END",)))
    assert "".join(c.text for c in got) == "fine EN"


def test_decode_rate_excludes_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 2.5, 3.0])
    monkeypatch.setattr("helpers.chat.time.perf_counter", lambda: next(now))
    reply = echo().say("a b c")
    assert (reply.ttft_seconds, reply.decode_tokens_per_second) == (2.0, 2.0)


def test_template_pieces_join_to_the_prompt() -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
    turns = [Turn("user", "  Hi <|end|> "), Turn("assistant", "Yes")]
    parts = templates.pieces(template, turns)
    assert "".join(text for text, _ in parts) == templates.render(template, turns)
    assert [text for text, typed in parts if typed] == ["Hi <|end|>", "Yes"]


def test_template_that_rewrites_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rewrites"):
        templates.pieces("{% for m in messages %}{{ m.content | upper }}{% endfor %}", [Turn("user", "hi <|end|>")])


def test_template_cannot_reach_python() -> None:
    with pytest.raises(InvalidInput):
        templates.render("{{ messages.__class__.__mro__ }}", [Turn("user", "x")])


def test_template_may_refuse_a_role() -> None:
    with pytest.raises(InvalidInput, match="no system"):
        templates.render("{{ raise_exception('no system') }}", [Turn("system", "x")])


def test_own_folder_opens_like_any_model(tmp_path: Path, reference: Backend, card: ModelCard) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=49152, **size)).save_pretrained(tmp_path / "mine")
    reference.tokenizer.save_pretrained(tmp_path / "mine")
    with open_chat(tmp_path / "mine", max_new_tokens=3) as chat:
        assert chat.say("Hello").new_tokens >= 1
        assert chat.card.parameters == sum(p.numel() for p in chat.backend.model.parameters()) > 0
    assert fresh(reference, card).say("Hello").text


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="neither a GGUF file nor a folder"):
        open_chat(tmp_path)
