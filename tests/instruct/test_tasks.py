"""The tasks' data are whole, and each score rewards what it says and nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from helpers.errors import InvalidInput
from helpers.instruct import tasks
from helpers.instruct.tasks import Item, load, score, trivial

every_task = pytest.mark.parametrize("task", tasks.TASKS)
LEAST = {"generation": 12, "completion": 20, "summarisation": 10, "translation": 30, "extraction": 20, "prompting": 36}
JSON = '{{"name": "{}", "quantity": {}, "city": "{}"}}'


def item(task: str, number: int, **which: str) -> Item:
    return next(i for i in load(task, **which) if i.number == number)


@every_task
def test_items_are_enough_numbered_and_different(task: str) -> None:
    items = load(task)
    assert len(items) >= LEAST[task]
    assert [i.number for i in items] == list(range(1, len(items) + 1))
    assert len({(i.group, i.text) for i in items}) == len(items)


@every_task
def test_the_first_items_are_a_fair_part_of_all_groups(task: str) -> None:
    kinds = len(tasks.groups(task))
    counts = Counter(i.group for i in load(task, limit=3 * kinds))
    assert set(counts.values()) == {3}
    assert len(counts) == kinds


@every_task
def test_every_style_asks_the_same_items(task: str) -> None:
    asked = [[(i.number, i.text, i.expected) for i in load(task, style=style)] for style in tasks.styles(task)]
    assert all(one == other for one, other in pairwise(asked))


@every_task
def test_prompts_have_no_open_slots_and_answers_a_limit(task: str) -> None:
    for style in tasks.styles(task):
        for i in load(task, style=style):
            assert i.text in i.prompt
            assert "{text}" not in i.prompt
            assert 1 <= i.max_new_tokens <= 256  # room to finish: an answer that is cut off says nothing


def test_a_right_answer_scores_full_points() -> None:
    for i in [*load("completion"), *load("prompting"), *load("summarisation"), *load("translation")]:
        assert all(value is True or value == pytest.approx(100) for value in score(i, i.references[0]).values()), i
    for i in load("extraction"):
        answer = JSON.format(*(i.expected["fields"][name] for name in ("name", "quantity", "city")))
        assert score(i, answer) == {"valid": True, "exact": True, "fields": 100}


@every_task
def test_no_answer_scores_nothing(task: str) -> None:
    for i in load(task):
        assert not any(score(i, "").values()), i


@pytest.mark.parametrize(
    ("number", "kept", "broken"),
    [
        (1, "A cat sat by the window.", "A cat slept. It was near the window."),
        (2, "Blue, wide and cold.", "The sea is a very wide and very cold and very salty place."),
        (3, "Apple\nPear\n\nPlum", "Apple, pear, plum"),
        (6, "Is the moon round?", "The moon is round."),
        (7, "I ate toast.", "I ate an egg."),
        (8, "The Last Light", "Light"),
        (9, "Yesterday it rained.", "It rained yesterday."),
        (11, "Blue.", "It is blue."),
        (12, "My bicycle is red. It is fast!", "My bicycle is red."),
    ],
)
def test_generation_checks_its_rules(number: int, kept: str, broken: str) -> None:
    assert score(item("generation", number), kept)["kept"]
    assert not score(item("generation", number), broken)["kept"]


@pytest.mark.parametrize("answer", [" Stockholm.\n\nThe", "stockholm", "Stockholm, a city"])
def test_a_completion_begins_with_the_reference(answer: str) -> None:
    assert score(load("completion")[0], answer)["right"]
    assert not score(load("completion")[0], "not " + answer)["right"]


def test_a_completion_ends_at_a_word() -> None:
    assert not score(item("completion", 15), " 100")["right"]
    assert not score(item("completion", 19), " eel")["right"]


@pytest.mark.parametrize(
    ("answer", "valid", "fields"),
    [
        (JSON.format("Anna Berg", 3, "Lund"), True, 100),
        ("Here:\n```json\n" + JSON.format("anna berg", 3, "Lund") + "\n```", True, 100),
        (JSON.format("Anna Berg", 4, "Lund"), True, 200 / 3),
        (JSON.format("Anna Berg", '"3"', "Lund"), False, 100),
        ('{"name": "Anna Berg", "quantity": 3}', False, 200 / 3),
        ('{"name": "Anna Berg", "quantity": 3, "city": "Lu', False, 0),
        ("name: Anna Berg", False, 0),
    ],
)
def test_extraction_tells_form_from_content(answer: str, valid: bool, fields: float) -> None:
    result = score(load("extraction")[0], answer)
    assert result == {"valid": valid, "exact": valid and fields == 100, "fields": pytest.approx(fields)}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('I use {tool}: {"tool": "add"}', {"tool": "add"}),
        ('{"tool": "add"} and {"tool": "sub"}', {"tool": "add"}),
        ('```json\n{"tool":\n "add"}\n``` done', {"tool": "add"}),
        ('a set {1, 2}, a dict {\'tool\': 1}, then {"tool": "add"}', {"tool": "add"}),
        ('{"open: {"tool": "add"}', {"tool": "add"}),
        ('{{"tool": "add"}}', {"tool": "add"}),
        ('{"tool": "add", "arguments": {"a": 1}', None),
        ('{"tool": {}, "text": "cut o', None),
        ('{"a": ' * 9000, None),
        ('{"n": ' + "9" * 5000 + "}", None),
        ("{" * 50_000, None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_the_first_object_that_is_whole_is_found(answer: str, found: dict[str, str] | None) -> None:
    assert tasks.first_object(answer) == found


def test_the_schema_describes_every_extraction() -> None:
    for i in load("extraction", style="schema"):
        assert i.json_schema["required"] == list(i.expected["fields"])
        assert all(str(value) in i.text for name, value in i.expected["fields"].items() if name != "quantity")
    assert {i.json_schema for i in load("extraction", style="free")} == {None}


@pytest.mark.parametrize(
    ("answer", "right", "brief"),
    [
        ("8", True, True),
        ("8.", True, True),
        ("3 + 5 = 8 apples.", True, False),
        ("8? No, 9", False, False),
        ("9", False, True),
        (r"\(3 + 5 = 8\), so Tom has \(\boxed{8}\) apples after 5 days.", True, False),
        (r"It is \boxed{8}. No, it is \boxed{7}, not 8.", False, False),
        ("At 8:00 PM.", True, False),
    ],
)
def test_the_last_number_named_counts(answer: str, right: bool, brief: bool) -> None:
    assert score(item("prompting", 1), answer) == {"right": right, "brief": brief}


def test_repeating_the_question_is_right_no_more_often_than_chance() -> None:
    for group, chance in (("reviews", 1 / 2), ("words", 1 / 3)):
        items = load("prompting", group=group)
        assert sum(score(i, i.text)["right"] for i in items) <= chance * len(items)


def test_examples_are_none_of_the_questions() -> None:
    shown = {question for i in load("prompting", style="few-shot") for question, _ in i.examples}
    assert len(shown) >= 9
    assert not shown & {i.text for i in load("prompting")}


def test_trivial_answers_are_what_they_say() -> None:
    assert trivial(load("translation")[0]) == "The cat is sleeping on the sofa."
    assert (trivial(load("summarisation")[0]) or "").endswith("first of June.")
    assert trivial(load("completion")[0]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "dancing"}, "no task 'dancing'"),
        ({"task": "translation", "group": "Latin"}, "no group 'Latin'"),
        ({"task": "prompting", "style": "loud"}, "no style 'loud'"),
        ({"task": "completion", "limit": 0}, "leaves no item"),
    ],
)
def test_what_is_not_there_is_refused_by_name(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(**arguments)
