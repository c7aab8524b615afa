"""Six small tasks for an instruct model, with references, and how each answer is scored.

    generation      a sentence that keeps to a rule              kept: every rule is kept
    completion      the next word of a plain text                right: begins with an accepted one
    summarisation   a paragraph in one sentence                  rouge_1, rouge_l
    translation     English to Swedish, Chinese, French          chrf
    extraction      an order to JSON, freely or with a schema    valid, exact, fields
    prompting       the same questions, asked in four styles     right: the last answer named

The items are the course's own, in data/instruct_*.json. They are few, so that a laptop runs them in minutes: the
interval of a score says more than the score. ROUGE and chrF compare surfaces: a good answer in other words scores low,
and a wrong one that shares many words scores high. They rank systems over many texts, and say little of one text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from helpers.data import stored
from helpers.errors import InvalidInput

#: At so many places a JSON object is looked for: each failure costs a look through the whole answer.
MOST_BRACES = 1000
TASKS = ("generation", "completion", "summarisation", "translation", "extraction", "prompting")


# ROUGE is written out here because its usual package is a source archive of 2022, and the well-kept ones bring a
# natural-language toolkit along for these two definitions. The scores equal rouge-score 0.1.2 without its stemmer.
def rouge_1(text: str, references: Sequence[str]) -> float:
    """ROUGE-1: F1 of the words that text and reference share, 0 to 100, for the best reference (Lin 2004, section 2).

    >>> round(rouge_1("the cat sat on a mat", ["The cat was on the mat."]), 1)
    66.7
    """
    words = _words(text)
    return _best(references, lambda reference: sum((Counter(words) & Counter(reference)).values()), words)


def rouge_l(text: str, references: Sequence[str]) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words, 0 to 100, for the best reference (Lin 2004, section 3.1).

    >>> rouge_l("on the mat the cat", ["the cat on the mat"])
    60.0
    """
    words = _words(text)
    return _best(references, lambda reference: _longest_common_subsequence(words, reference), words)


def chrf(text: str, references: Sequence[str]) -> float:
    """chrF2 of one text, 0 to 100, by sacrebleu: the F-score of its character 1- to 6-grams (Popović 2015, W15-3049).

    Characters need no tokenizer, so the measure works for Chinese as for Swedish.
    """
    return float(_chrf().sentence_score(text, list(references)).score)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _best(references: Sequence[str], shared: Any, words: list[str]) -> float:
    """The highest F1 over the references: 2 × shared ÷ (length of the text + length of the reference)."""
    if not references:
        raise InvalidInput("There is no reference to compare with.", "Give at least one.")
    split = [_words(reference) for reference in references]
    return max(100 * 2 * shared(reference) / max(1, len(words) + len(reference)) for reference in split)


def _longest_common_subsequence(one: list[str], two: list[str]) -> int:
    """How many words both hold in the same order, not necessarily next to each other."""
    row = [0] * (len(two) + 1)
    for word in one:
        above = row
        row = [0]
        for place, other in enumerate(two, start=1):
            row.append(above[place - 1] + 1 if word == other else max(row[-1], above[place]))
    return row[-1]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of a task and all that its score needs.

    `examples` are questions and answers that come before it in the conversation. `template` is false for a text that
    is continued as it stands, without the chat template. `expected` holds what the task's score compares with:
    `references`, `checks`, `fields` or `choices`.
    """

    task: str
    group: str
    style: str
    number: int
    text: str
    prompt: str
    expected: Mapping[str, Any]
    system: str | None = None
    template: bool = True
    max_new_tokens: int = 32
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, object] | None = None
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """The texts that count as right."""
        return tuple(self.expected.get("references", ()))


def styles(task: str) -> tuple[str, ...]:
    """The ways in which a task asks its items, the usual one first."""
    return tuple(_read(task)["styles"])


def groups(task: str) -> tuple[str, ...]:
    """The kinds of items that a task has."""
    return tuple(dict.fromkeys(item["group"] for item in _read(task)["items"]))


def load(task: str, *, group: str | None = None, style: str | None = None, limit: int | None = None) -> list[Item]:
    """The items of a task, asked in one style: all of them, one group's, or the first `limit` of these.

    Groups take turns in the data, so the first few are a fair part of the whole.

    >>> load("completion")[0].prompt
    'The capital of Sweden is'
    """
    style = style or styles(task)[0]
    for name, chosen, known in (("style", style, styles(task)), ("group", group, (None, *groups(task)))):
        if chosen not in known:
            raise InvalidInput(
                f"The task {task} has no {name} {chosen!r}.", f"Choose from {', '.join(k for k in known if k)}."
            )
    if limit is not None and limit < 1:
        raise InvalidInput(f"A limit of {limit} leaves no item.", "Give a limit of 1 or more.")
    raw = [item for item in _read(task)["items"] if group in (None, item["group"])]
    return [_item(task, style, item) for item in raw[:limit]]


def score(item: Item, answer: str) -> dict[str, bool | float]:
    """What an answer to the item is worth: booleans, and points from 0 to 100, by name of the measure."""
    return _SCORES[item.task](item, answer)


def trivial(item: Item) -> str | None:
    """The answer of somebody who did not think, to compare with: the first sentence of what is to be summarised, the
    English of what is to be translated. None where a task has no such answer.
    """
    if item.task == "summarisation":
        return item.text.split(". ")[0] + "."
    return item.text if item.task == "translation" else None


@cache
def _read(task: str) -> dict[str, Any]:
    if task not in TASKS:
        raise InvalidInput(f"There is no task {task!r}.", f"Choose from {', '.join(TASKS)}.")
    content: dict[str, Any] = stored(f"instruct_{task}")
    return content


def _item(task: str, style: str, raw: dict[str, Any]) -> Item:
    data = _read(task)
    how = dict(data["styles"][style])
    examples = data.get("examples", {}).get(style, {}).get(raw["group"], ())
    return Item(
        task=task,
        group=raw["group"],
        style=style,
        number=raw["number"],
        text=raw["text"],
        prompt=how.pop("prompt").format(text=raw["text"], group=raw["group"]),
        stop=tuple(how.pop("stop", ())),
        expected={key: value for key, value in raw.items() if key not in ("number", "group", "text")},
        examples=tuple((question, answer) for question, answer in examples),
        **how,
    )


def _generation(item: Item, answer: str) -> dict[str, bool | float]:
    return {"kept": all(CHECKS[name](answer.strip(), wanted) for name, wanted in item.expected["checks"].items())}


def _completion(item: Item, answer: str) -> dict[str, bool | float]:
    begins = [re.match(rf"{re.escape(reference)}\b", answer.strip(), re.IGNORECASE) for reference in item.references]
    return {"right": any(begins)}


def _summarisation(item: Item, answer: str) -> dict[str, bool | float]:
    return {"rouge_1": rouge_1(answer, item.references), "rouge_l": rouge_l(answer, item.references)}


def _translation(item: Item, answer: str) -> dict[str, bool | float]:
    return {"chrf": chrf(answer.strip(), item.references)}


def _extraction(item: Item, answer: str) -> dict[str, bool | float]:
    """`valid`: JSON of the asked form; `fields`: how many of 100 are right; `exact`: all of them are."""
    wanted, found = item.expected["fields"], first_object(answer) or {}
    same = [_same(found.get(name), value) for name, value in wanted.items()]
    form = found.keys() == wanted.keys() and all(type(found[name]) is type(value) for name, value in wanted.items())
    return {"valid": form, "exact": form and all(same), "fields": 100 * sum(same) / len(same)}


def _prompting(item: Item, answer: str) -> dict[str, bool | float]:
    r"""`right`: the last choice that the answer names, since reasoning comes before it; any number is a choice where
    none are given. `brief`: the answer is one choice and nothing else.

    Models that were trained on mathematics put the answer into a box, as in `\boxed{14} eggs in 7 days`: only what the
    last box holds is read then. The minutes of a time, as in 9:00, are no number of their own.
    """
    choices = item.expected.get("choices")
    pattern = rf"\b(?:{'|'.join(map(re.escape, choices))})\b" if choices else r"(?<![\d:])\d+(?:\.\d+)?"
    boxes = re.findall(r"\\boxed\{([^{}]+)\}", answer)
    named = re.findall(pattern, boxes[-1] if boxes else answer, re.IGNORECASE)
    brief = re.fullmatch(rf"\W*(?:{pattern})\W*", answer, re.IGNORECASE) is not None
    return {"right": bool(named) and _same(named[-1], item.references[0]), "brief": brief}


def first_object(answer: str) -> dict[str, Any] | None:
    """The first JSON object in an answer, whatever stands around it; None where there is none that is whole.

    >>> first_object('I take {tool}: ```json {"city": "Lund"}``` Anything else?')
    {'city': 'Lund'}
    """
    for begin in islice(re.finditer(r'\{\s*["}]', answer), MOST_BRACES):
        try:
            found: dict[str, Any] = json.JSONDecoder().raw_decode(answer, begin.start())[0]
            return found
        except json.JSONDecodeError as error:
            # An object that was cut off is no answer, and neither are the parts of it that are whole.
            if error.msg.startswith("Unterminated") or not answer[error.pos :].strip():
                return None
        except (ValueError, RecursionError):  # a number of thousands of digits, brackets in thousands
            return None
    return None


def _same(found: object, wanted: object) -> bool:
    return str(found).strip().lower() == str(wanted).lower()


def _count(text: str) -> int:
    return len(re.findall(r"\w+(?:['’-]\w+)*", text))


def _has(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


#: What a generated text can be asked to keep to: (answer, value in the data) → kept?
CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "contains": lambda answer, words: all(_has(answer, word) for word in words),
    "lacks": lambda answer, words: bool(answer) and not any(_has(answer, word) for word in words),
    "at_most_words": lambda answer, limit: 0 < _count(answer) <= limit,
    "at_least_words": lambda answer, limit: _count(answer) >= limit,
    "sentences": lambda answer, wanted: len(re.findall(r"[.!?]+(?=\s|$|[\"”’'])", answer)) == wanted,
    "lines": lambda answer, wanted: len([line for line in answer.splitlines() if line.strip()]) == wanted,
    "starts_with": lambda answer, start: answer.lower().startswith(start.lower()),
    "ends_with": lambda answer, end: answer.endswith(end),
}
_SCORES = {
    "generation": _generation,
    "completion": _completion,
    "summarisation": _summarisation,
    "translation": _translation,
    "extraction": _extraction,
    "prompting": _prompting,
}
