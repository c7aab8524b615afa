"""What the grammar of an answer lets pass, byte by byte, and how calls are told from words as they come."""

from __future__ import annotations

from typing import Any

import llguidance
import pytest

from helpers.errors import InvalidInput
from helpers.server.toolcalls import Allowed, CallPiece, Reader, messages_for, signature

CALCULATOR = {
    "name": "calculator",
    "description": "Reckons.",
    "parameters": {"type": "object", "properties": {"e": {"type": "string", "maxLength": 5}}, "required": ["e"]},
}
CLOCK = {"name": "clock"}
CALL = '{"name": "calculator", "arguments": {"e": "1 + 1"}}'
NOW = '{"name": "clock", "arguments": {}}'


def passes(allowed: Allowed, text: str) -> bool:
    """Whether the whole text may be written, and may end there."""
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, allowed.grammar())
    ids = tokenizer.tokenize_str(text)
    return matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    "text", [CALL, NOW, f"<tool_call>\n{CALL}\n</tool_call>", f"```json\n{CALL}\n```", f"{CALL}\n{NOW}"]
)
def test_a_call_may_be_written_in_each_form_that_models_know(text: str) -> None:
    assert passes(Allowed([CALCULATOR, CLOCK], words=False), text)
    assert passes(Allowed([CALCULATOR, CLOCK]), text)


@pytest.mark.parametrize(
    "text",
    [
        "Two.",
        '{"name": "weather", "arguments": {}}',
        '{"name": "calculator", "arguments": {"e": 2}}',
        '{"name": "calculator", "arguments": {"e": "far too long"}}',
        '{"name": "calculator", "arguments": {}}',
        '{"name": "clock", "arguments": {"e": "1"}}',
        CALL[:-1],
    ],
)
def test_nothing_else_may_where_a_call_is_required(text: str) -> None:
    assert not passes(Allowed([CALCULATOR, CLOCK], words=False), text)


def test_one_call_alone_where_several_are_not_allowed() -> None:
    allowed = Allowed([CALCULATOR], words=False, several=False)
    assert passes(allowed, CALL)
    assert not passes(allowed, f"{CALL}\n{CALL}")


def test_words_never_begin_like_a_call() -> None:
    words = Allowed(after_calls=True)
    assert passes(words, "Åsa says: {two}.\nIt is so.")
    assert not [text for text in (CALL, f"```python\n{CALL}", "<tool_call>", "") if passes(words, text)]


def test_words_may_have_to_obey_a_schema_beside_calls() -> None:
    allowed = Allowed([CLOCK], schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    assert passes(allowed, '{"a": 1}')
    assert passes(allowed, NOW)
    assert not passes(allowed, '{"a": "x"}')


@pytest.mark.parametrize(
    "schema", [{"type": "nope"}, {"not": {}}, {"$ref": "http://x/y"}, {"type": "array", "uniqueItems": True}]
)
def test_a_schema_that_cannot_be_held_to_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="held to this schema"):
        Allowed(schema=schema).grammar()
    with pytest.raises(InvalidInput, match="held to this schema"):
        Allowed([{"name": "x", "parameters": {"type": "object", "properties": {"a": schema}}}]).grammar()


def test_a_schema_of_great_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="above 200,000"):
        Allowed(schema={"enum": ["x" * 300_000]}).grammar()


def test_definitions_of_one_tool_are_not_anothers() -> None:
    def tool(name: str, kind: str) -> dict[str, Any]:
        parameters = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}
        return {"name": name, "parameters": parameters | {"$defs": {"A": {"type": kind}}}}

    allowed = Allowed([tool("one", "integer"), tool("two", "string")], words=False)
    assert passes(allowed, '{"name": "one", "arguments": {"a": 1}}')
    assert not passes(allowed, '{"name": "one", "arguments": {"a": "x"}}')


def read(allowed: Allowed, *texts: str) -> list[CallPiece]:
    reader = Reader(allowed)
    return [piece for number, text in enumerate(texts) for piece in reader.feed(text, last=number == len(texts) - 1)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_calls_are_read_however_they_are_cut(size: int) -> None:
    text = f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{NOW}\n</tool_call>"
    texts = [text[start : start + size] for start in range(0, len(text), size)]
    pieces = read(Allowed([CALCULATOR, CLOCK]), *texts, "")
    assert [piece.call for piece in pieces] == [("calculator", '{"e": "1 + 1"}'), ("clock", "{}")]


def test_words_come_as_they_are_written_and_what_was_cut_off_is_kept() -> None:
    assert [piece.text for piece in read(Allowed([CLOCK]), "It ", "is", "")] == ["It ", "is"]
    assert read(Allowed([CALCULATOR]), CALL[:46])[0].call == ("calculator", '{"e": "1 +')
    assert read(Allowed([CLOCK]), '{"name": "answer", "arguments": {"text": "It i')[0].text == "It i"


def test_the_tool_that_stands_for_words_takes_no_tools_name() -> None:
    assert Allowed([CLOCK]).answer == "answer"
    assert Allowed([{"name": "answer"}]).answer == "answer_in_words"
    assert Allowed([CLOCK], words=False).answer == ""


def test_a_call_is_known_again_however_it_is_spaced() -> None:
    assert signature("x", '{"a":1, "b":2}') == signature("x", '{ "b": 2, "a": 1 }')
    assert signature("x", "{") != signature("x", "{}")


def test_a_template_without_tools_is_told_of_them_in_its_system_message() -> None:
    asked = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    told, tools = messages_for("{{ messages }}", asked, [CALCULATOR])
    assert tools is None
    assert told[0]["content"].startswith("Be brief.\n\nChoose the tool")
    assert "- calculator(e): Reckons." in told[0]["content"]
    assert told[1] == {"role": "user", "content": "Hi"}
