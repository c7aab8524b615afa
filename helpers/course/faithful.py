"""What a translation may not change: code, placeholders, links, numbers, the shape of lists and tables.

`unfaithful` gives its findings as sentences for whoever translates. Numbers are compared by value, so that a language
writes them in its own way: 134,515,008 and 0.5 may become 134 515 008 and 0,5.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from helpers.course.messages import PLACEHOLDER, PageMessage, has_words

LONGEST_LINE = 88
CODE_SPAN = re.compile(r"(`+)(?!`)(.*?)(?<!`)\1(?!`)", re.DOTALL)
TARGET = re.compile(
    r"(?<=\]\()<?[^)\s>]+>?(?=[)\s])|(?<=[\"'])[^\"'\s]+\.(?:md|ipynb|png)(?=[\"'])|<?https?://[^\s>)]+>?"
)
TAG = re.compile(r"</?[a-z][^>]*>")
MATHS = re.compile(r"\$[^$\n]+\$")
#: The words in a formula, which are translated.
WORDS = re.compile(r"(?<=\\text\{)[^{}]*(?=\})")
#: The space that parts thousands: no-break, narrow no-break, thin; a plain one where that makes the numbers equal.
FIRM, ANY = "\u00a0\u202f\u2009", "\u00a0\u202f\u2009 "


def bare(text: str) -> str:
    """The text without what is compared to the letter."""
    for pattern in (CODE_SPAN, TARGET, TAG, MATHS):
        text = pattern.sub(" ", text)
    return text


def numbers_in(text: str, thousands: str, decimals: str) -> Counter[str]:
    """The numbers in a text, by value; any of these characters part its thousands, any of those its decimals."""
    found = re.findall(rf"\d{{1,3}}(?:[{thousands}]\d{{3}})+(?!\d)(?:[{decimals}]\d+)?|\d+(?:[{decimals}]\d+)?", text)
    return Counter(re.sub(rf"[{thousands}]", "", number).replace(",", ".") for number in found)


def difference(wanted: Counter[str], given: Counter[str]) -> str:
    """What lacks and what is too much, in words; empty where nothing is."""
    lacks, more = wanted - given, given - wanted
    parts = [
        f"lacks {', '.join(lacks.elements())}" if lacks else "",
        f"has {', '.join(more.elements())}" if more else "",
    ]
    return " and ".join(filter(None, parts))


def unfaithful(message: PageMessage, said: str) -> list[str]:
    """What a translation changed that it may not change, one sentence each; empty where it is faithful."""
    english = message.english
    findings = [f"{name}: {found}" for name, found in _compared(message, said) if found]
    if message.kind in ("heading", "alt") and "\n" in said:
        findings.append("it has to stay one line")
    if message.kind == "drawing" and said.count("\n") != english.count("\n"):
        findings.append("a drawing keeps its number of lines")
    if message.kind == "printed":
        findings += _unlike_literal(english, said)
    if message.kind == "paragraph" and "\n" in said and "\n" not in english:
        findings.append("a paragraph is given as one line")
    if message.kind not in ("printed", "drawing") and re.match(r"#+ ", said):
        findings.append("it starts with #: a heading is given without its marks")
    return [*findings, *([] if has_words(said) or not has_words(english) else ["it says nothing"])]


def _compared(message: PageMessage, said: str) -> Iterable[tuple[str, str]]:
    english = message.english
    if message.kind == "printed":
        yield "placeholders", difference(Counter(PLACEHOLDER.findall(english)), Counter(PLACEHOLDER.findall(said)))
        english, said = PLACEHOLDER.sub(" ", english), PLACEHOLDER.sub(" ", said)
    elif message.kind not in ("drawing", "comment"):
        for name, pattern in (("code", CODE_SPAN), ("links", TARGET), ("tags", TAG), ("formulas", MATHS)):
            yield name, difference(_all(pattern, english), _all(pattern, said))
        for name, find in STRUCTURES.get(message.kind, {}).items():
            yield name, difference(Counter(find(english)), Counter(find(said)))
    if message.kind not in ("comment", "drawing"):
        english, said = bare(english), bare(said)
    wanted = numbers_in(english, ",", ".")
    options = [numbers_in(said, spaces, ",.") for spaces in (FIRM, ANY)]
    yield "numbers", "" if wanted in options else difference(wanted, options[0])


def _all(pattern: re.Pattern[str], text: str) -> Counter[str]:
    if pattern is not CODE_SPAN:
        text = CODE_SPAN.sub(" ", text)
    return Counter(WORDS.sub("", match[0]) for match in pattern.finditer(text))


def _unlike_literal(english: str, said: str) -> list[str]:
    """What would change the literal that a printed sentence stands in."""
    ends = [re.match(r"\s*", text)[0] + "|" + re.search(r"\s*$", text)[0] for text in (english, said)]  # type: ignore[index]
    findings = [] if ends[0] == ends[1] else ["it keeps the spaces at its start and its end"]
    escapes = [Counter(re.findall(r"\\.", text)) for text in (english, said)]
    findings += [] if escapes[0] == escapes[1] else [f"escapes: {difference(*escapes)}"]
    quotes = [quote for quote in "\"'" if quote in said and quote not in english]
    findings += [f"no {quote} in code: use ” or ’" for quote in quotes]
    return findings + (["it has to stay one line"] if "\n" in said and "\n" not in english else [])


def _items(text: str) -> list[str]:
    return [
        f"an item with {len(indent)} spaces before it" for indent in re.findall(r"(?m)^( *)(?:[-*+]|\d+[.)])\s", text)
    ]


def _rows(text: str) -> list[str]:
    """Each row by its bars; one that is escaped is text."""
    counts = [len(re.findall(r"(?<!\\)\|", row)) for row in text.splitlines()]
    return [f"row {number} of {count} bars" for number, count in enumerate(counts, 1)]


STRUCTURES: dict[str, dict[str, Callable[[str], list[str]]]] = {"list": {"items": _items}, "table": {"rows": _rows}}
