"""A comparison asks every chat every prompt, without history, and leaves the chats as they were."""

from __future__ import annotations

import pytest

from helpers.backends import Backend
from helpers.chat import Chat, open_chat
from helpers.errors import InvalidInput
from helpers.measure import answers, compare, plot
from helpers.records import ModelCard, Turn
from talk import fresh

PROMPTS = ["Say hello.", "用中文说你好。", "Säg hej på svenska."]


@pytest.fixture
def echo() -> Chat:
    return open_chat("smollm2-135m", backend="echo", max_new_tokens=8)


def test_there_is_one_row_for_each_prompt_and_chat(echo: Chat) -> None:
    table = compare({"one": echo, "two": echo.another(temperature=1.0)}, PROMPTS)
    assert list(zip(table["prompt"], table["chat"], strict=True)) == [(p, c) for p in PROMPTS for c in ("one", "two")]
    assert list(table["prompt_number"]) == [1, 1, 2, 2, 3, 3]
    assert list(table.loc[table["chat"] == "one", "answer"]) == PROMPTS
    assert {"prompt_tokens", "new_tokens", "seconds", "decode_tokens_per_second"} <= set(table.columns)


def test_two_engines_answer_the_same_clear_question(llama: Backend, reference: Backend, card: ModelCard) -> None:
    table = compare([fresh(llama, card), fresh(reference, card)], ["What is the capital of Sweden?"], max_new_tokens=10)
    named = ["smollm2-135m, llamacpp q4_1", f"smollm2-135m, transformers {reference.precision}"]
    assert list(table["chat"]) == named
    assert set(table["answer"]) == {"The capital of Sweden is Stockholm."}
    assert table["prompt_tokens"].nunique() == 1
    assert (table["seconds"] > 0).all()
    assert (table["decode_tokens_per_second"] > 0).all()


def test_histories_stay_as_they_were_and_system_messages_count(llama: Backend, card: ModelCard) -> None:
    chat = fresh(llama, card, system="Be brief.")
    chat.say("Hi", max_new_tokens=2)
    before = chat.history
    tokens = compare([chat], ["Hi"], max_new_tokens=2)["prompt_tokens"][0]
    assert chat.history == before
    assert tokens == len(llama.encode([Turn("system", "Be brief."), Turn("user", "Hi")]).tokens or ())


def test_another_chat_shares_the_engine_and_keeps_its_own_settings(echo: Chat) -> None:
    other = echo.another(system="S", history=[Turn("user", "a"), Turn("assistant", "b")], temperature=0.5)
    assert other.backend is echo.backend
    assert (other.sampling.temperature, other.sampling.max_new_tokens, echo.sampling.temperature) == (0.5, 8, 0)
    assert [turn.text for turn in other.history] == ["S", "a", "b"]


@pytest.mark.parametrize(("chats", "prompts"), [(1, "Hi"), (1, []), (0, ["Hi"]), (2, ["Hi"])])
def test_what_cannot_be_compared_is_refused(echo: Chat, chats: int, prompts: list[str]) -> None:
    with pytest.raises(InvalidInput):  # two chats of one name are refused, too
        compare([echo] * chats, prompts)


def test_the_picture_has_a_bar_for_each_row_and_a_point_for_each_chat(echo: Chat) -> None:
    left, right = plot(compare({"one": echo, "two": echo.another()}, PROMPTS))
    assert len(left.patches) == 6
    assert [label.get_text() for label in right.get_yticklabels()] == ["one", "two"]
    assert left.get_ylabel() == "whole answer (s)"


def test_the_picture_does_without_a_rate_where_answers_have_one_token(echo: Chat) -> None:
    _, right = plot(compare({"one": echo}, ["Hi"], max_new_tokens=1))
    assert len(right.lines) == 0


@pytest.mark.parametrize(("warm_up", "asked"), [(True, 4), (False, 3)])
def test_a_chat_is_warmed_up_unless_that_is_not_wanted(
    echo: Chat, monkeypatch: pytest.MonkeyPatch, warm_up: bool, asked: int
) -> None:
    prompts, generate = [], echo.backend.generate
    monkeypatch.setattr(echo.backend, "generate", lambda prompt, how: prompts.append(prompt) or generate(prompt, how))
    assert len(compare([echo], PROMPTS, warm_up=warm_up)) == 3
    assert len(prompts) == asked
    prompts.clear()
    assert len(answers([echo], PROMPTS, repeats=1, warm_up=warm_up)) == 3
    assert len(prompts) == asked
