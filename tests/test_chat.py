"""History, context limits, what a message may be, stop strings and the clock: on the echo, which needs no weights."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from helpers.backends import Backend
from helpers.backends.streams import until_stop
from helpers.chat import NUMBERS, Chat, open_chat, sampling_of
from helpers.errors import ChatClosed, ContextOverflow, CourseError, InvalidInput, UnknownModel, UnsupportedOption
from helpers.models import templates
from helpers.records import Chunk, ModelCard, Sampling, Turn
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


@pytest.mark.fault("conversations")
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


@pytest.mark.fault("conversations")
def test_huge_text_is_refused_before_it_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = echo(context=10)
    monkeypatch.setattr(chat.backend, "tokenize", None)
    with pytest.raises(ContextOverflow, match="1,000,000 characters"):
        chat.say("x" * 1_000_000)


@pytest.mark.fault("conversations")
@pytest.mark.parametrize("text", ["", "  \n", "a\x00b", "\x1b[31m", "half \ud83d", b"bytes", None, 5])
def test_what_is_no_text_is_refused_in_a_sentence(text: object) -> None:
    with pytest.raises(InvalidInput, match=r"empty|binary|half a character|text, not"):
        echo().say(text)


NAN, INF = float("nan"), float("inf")
IMPOSSIBLE = {
    "max_new_tokens": [0, -1, 2.5, 2.0, "5", None, True, NAN, 2**31, np.float64(3), np.array([3]), np.bool_(True)],
    "temperature": [-1, "0.7", None, False, NAN, INF, -INF, 10**400, 1j, np.float32("nan"), [0.7]],
    "top_p": [0, 1.1, "0.5", None, True, NAN],
    "top_k": [-2, 0.5, "5", None, False, 2**40],
    "repetition_penalty": [0, -1, "1", None, True, INF],
    "seed": [-1, 2**32, 1.5, "1", None, True],
    "stop": [None, "", ("",), ["a", ""], ["a", None], 5, b"a", [b"a"], {"a": 1}, "half \ud83d", iter("ab")],
    "json_schema": ["{}", [], 5, True, {"a": {1, 2}}, {"a": NAN}, {"a": np.int64(1)}, Sampling],
    "beams": [4],
}


@pytest.mark.fault("conversations")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in IMPOSSIBLE.items() for value in values])
def test_impossible_sampling_is_refused_by_name(name: str, value: object) -> None:
    chat = echo()
    with pytest.raises(InvalidInput, match=f"{name}(.|\n)*→"):
        chat.say("Hi", **{name: value})
    with pytest.raises(InvalidInput, match=name):
        echo(**{name: value})
    assert chat.history == ()


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({"temperature": 1, "max_new_tokens": np.int64(3)}, Sampling(temperature=1.0, max_new_tokens=3)),
        ({"temperature": np.float32(0.5), "seed": np.uint8(7)}, Sampling(temperature=0.5, seed=7)),
        ({"temperature": Fraction(1, 2), "top_p": 1}, Sampling(temperature=0.5)),
        ({"stop": "END"}, Sampling(stop=("END",))),
        ({"stop": ["a", np.str_("b")]}, Sampling(stop=("a", "b"))),
        ({"json_schema": MappingProxyType({"type": "object"})}, Sampling(json_schema={"type": "object"})),
    ],
)
def test_what_means_a_number_or_a_text_is_taken_as_one(options: dict[str, object], read: Sampling) -> None:
    assert sampling_of(Sampling(), options) == read
    json.dumps([getattr(sampling_of(Sampling(), options), name) for name in NUMBERS])


def test_sampling_made_by_hand_is_checked_too() -> None:
    chat = open_chat("smollm2-135m", backend="echo")
    with pytest.raises(InvalidInput, match="temperature"):
        Chat(chat.backend, chat.card, sampling=Sampling(temperature="0.7")).say("Hi")


@pytest.mark.parametrize(
    ("name", "value"),
    [("context", v) for v in ("4096", 0, -1, 2.5, True, NAN)]
    + [("threads", v) for v in ("2", 0, -1, 1.5, True)]
    + [("history", v) for v in (["Hi"], [{"role": "user", "content": "Hi"}], "Hi", 5)]
    + [("system", v) for v in (5, b"x", "")],
)
def test_what_a_chat_cannot_be_opened_with_is_a_sentence(name: str, value: object) -> None:
    with pytest.raises(InvalidInput):
        echo(**{name: value})


@pytest.mark.parametrize("model", [None, 5, "", ["smollm2-135m"], object()])
def test_what_names_no_model_is_a_sentence(model: object) -> None:
    with pytest.raises(CourseError):
        open_chat(model, backend="echo")


# After the end


AFTER = {
    "say": lambda chat: chat.say("Hi"),
    "stream": lambda chat: chat.stream("Hi"),
    "complete": lambda chat: chat.complete("Hi"),
    "another": lambda chat: chat.another(),
    "with": lambda chat: chat.__enter__(),
}


@pytest.mark.fault("conversations")
@pytest.mark.parametrize(("method", "engine"), [*((method, "echo") for method in AFTER), ("say", "llamacpp")])
def test_a_closed_chat_says_so(method: str, engine: str) -> None:
    with open_chat("smollm2-135m", backend=engine, max_new_tokens=2) as chat:
        chat.say("Hi")
    with pytest.raises(ChatClosed, match="`with` block"):
        AFTER[method](chat)
    assert len(chat.history) == 2
    chat.reset()
    chat.close()


def test_closing_a_chat_closes_those_that_share_its_engine() -> None:
    chat = echo()
    other = chat.another()
    unfinished = other.stream("one two")
    next(unfinished)
    chat.close()
    with pytest.raises(ChatClosed):
        next(unfinished)
    with pytest.raises(ChatClosed):
        other.say("Hi")


@pytest.mark.fault("conversations")
def test_a_stream_that_nobody_read_leaves_no_turn() -> None:
    chat = echo()
    unread = chat.stream("never read")
    assert chat.say("one").text == "one"
    assert [turn.text for turn in chat.history] == ["one", "one"]
    assert unread.reply.finish_reason == "cancelled"
    chat.stream("nor this")
    chat.close()
    assert len(chat.history) == 2


def test_what_was_read_of_a_stream_stays() -> None:
    chat = echo()
    next(chat.stream("one two three"))
    chat.say("four")
    assert [turn.text for turn in chat.history] == ["one two three", "one", "four", "four"]


def test_an_empty_answer_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = echo()
    monkeypatch.setattr(chat.backend, "generate", lambda *_: iter([Chunk("", 0, "stop")]))
    assert chat.say("Hi").text == ""
    assert len(chat.history) == 2


# What is refused


def test_unsupported_sampling_is_refused_when_the_chat_opens() -> None:
    with pytest.raises(UnsupportedOption, match="top_k"):
        echo(top_k=5)


def test_context_beyond_the_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 8192"):
        echo(context=9000)


def test_unknown_model_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownModel, match="phi-3.5-mini"):
        open_chat("phi3.5-mini-instruct")


@pytest.mark.fault("conversations")
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


@pytest.mark.fault("conversations")
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
