"""A date as people write it, turned into ISO form: one narrow, useful task, its data, and what a model's rivals get.

The form is ISO 8601-1:2019, section 5.2.2. The data are generated and split by date, so that no held-out date was ever
trained on, in any wording. The rivals of a trained model are rules, and a larger model that is shown a few examples.
"""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.records import Turn
from helpers.words import NUMBER_WORDS, TENS

if TYPE_CHECKING:
    from helpers.chat import Chat


MONTHS = ("January February March April May June July August September October November December").split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2039, 12, 31)
#: Two slips of the pen for each month.
SLIPS = (
    "Janaury Januray Feburary Febuary Marhc Mach Arpil Aprl Mai Maay Jnue Juen Jluy Jully Agust Augsut "
    "Setpember Septmeber Otcober Octobre Novmeber Novemer Decemebr Dicember"
).split()


@dataclass(frozen=True, slots=True)
class DateExample:
    """A date as it was written, in which `form`, and its ISO form."""

    text: str
    iso: str
    form: str


def number(value: int) -> str:
    """A number below 100 in words.

    >>> number(87)
    'eighty-seven'
    """
    if value < 20:
        return NUMBER_WORDS[value]
    return TENS[value // 10] + (f"-{NUMBER_WORDS[value % 10]}" if value % 10 else "")


def ordinal(day: int) -> str:
    """A day of the month in words.

    >>> ordinal(23)
    'twenty-third'
    """
    if day <= 20:
        return ORDINALS[day - 1]
    return "thirtieth" if day == 30 else f"{TENS[day // 10]}-{ORDINALS[day % 10 - 1]}"


def year(value: int) -> str:
    """A year as it is spoken.

    >>> year(1987), year(2004), year(2024)
    ('nineteen eighty-seven', 'two thousand and four', 'twenty twenty-four')
    """
    if 2000 <= value < 2010:
        return "two thousand" + (f" and {number(value % 10)}" if value % 10 else "")
    return f"{number(value // 100)} {number(value % 100)}"


#: Each way of writing a date; `c` is a source of chance.
DATE_FORMS: dict[str, Callable[[datetime.date, random.Random], str]] = {
    "day first": lambda d, c: f"the {ordinal(d.day)} of {MONTHS[d.month - 1]} {d.year}",
    "month first": lambda d, c: f"{MONTHS[d.month - 1]} the {ordinal(d.day)}, {d.year}",
    "spoken year": lambda d, c: f"the {ordinal(d.day)} of {MONTHS[d.month - 1]}, {year(d.year)}",
    "spoken, month first": lambda d, c: f"{MONTHS[d.month - 1]} the {ordinal(d.day)}, {year(d.year)}",
    "misspelt month": lambda d, c: f"the {ordinal(d.day)} of {SLIPS[2 * (d.month - 1) + c.randrange(2)]} {d.year}",
}


def examples(count: int, held_out: int, *, seed: int = 0) -> tuple[list[DateExample], list[DateExample]]:
    """(to train on, held out): different dates, the forms taking turns."""
    days = (LAST - FIRST).days + 1
    if count < 1 or held_out < 1 or count + held_out > days:
        raise InvalidInput(
            f"{count} and {held_out} examples cannot be made: there are {days:,} dates from {FIRST} to {LAST}.",
            "Ask for one or more of each, and fewer in all than there are dates.",
        )
    chance, forms = random.Random(seed), list(DATE_FORMS)
    chosen = [FIRST + datetime.timedelta(n) for n in chance.sample(range(days), count + held_out)]
    made = [
        DateExample(DATE_FORMS[form](day, chance), day.isoformat(), form)
        for n, day in enumerate(chosen)
        for form in [forms[n % len(forms)]]
    ]
    return made[:count], made[count:]


def by_rules(text: str) -> str | None:
    """The ISO form by rules that a programmer would write first; None where they do not fit.

    They know ordinals, months by name and years in digits, in any order, but no spoken years and no
    misspelt months.
    """
    words = re.findall(r"[a-z]+(?:-[a-z]+)?|\d+", text.lower())
    months = [MONTHS.index(word.capitalize()) + 1 for word in words if word.capitalize() in MONTHS]
    years = [int(word) for word in words if len(word) == 4 and word.isdigit()]
    days = [n for n in range(1, 32) if ordinal(n) in words]
    if not (len(months) == len(years) == len(days) == 1):
        return None
    try:
        return datetime.date(years[0], months[0], days[0]).isoformat()
    except ValueError:  # the 31st of April
        return None


#: What an untrained chat is told; the examples follow as turns of the conversation.
INSTRUCTION = "Write the date in ISO form, YYYY-MM-DD, and nothing else."
#: Ten characters, each at most a token, the end of the answer, and room for a model that begins otherwise.
FEW_SHOT_TOKENS = 16


def by_example(chat: Chat, shown: Sequence[DateExample], texts: Sequence[str]) -> list[str]:
    """The first line that an untrained chat writes for each text after the examples shown: a prompt, no training."""
    history = [turn for e in shown for turn in (Turn("user", e.text), Turn("assistant", e.iso))]
    asked = (
        chat.another(system=INSTRUCTION, history=history, max_new_tokens=FEW_SHOT_TOKENS, stop="\n").say(text).text
        for text in texts
    )
    return [answer.strip() for answer in asked]


def exists(iso: str | None) -> bool:
    """Whether a text is a date of the calendar in ISO form.

    >>> exists("1976-01-31"), exists("1976-06-31"), exists("19760131")
    (True, False, False)
    """
    if iso is None or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", iso):
        return False
    try:
        datetime.date.fromisoformat(iso)
    except ValueError:  # the 31st of June
        return False
    return True


def verdicts(examples: Sequence[DateExample], given: Sequence[str | None], method: str) -> list[dict[str, Any]]:
    """One row an example: method, form, text, what was wanted and given, whether it `exists` and whether it is right.

    A method that gives nothing (None) did not answer; what is no date of the calendar is an answer, and wrong.
    """
    return [
        {"method": method, "form": e.form, "text": e.text, "wanted": e.iso, "given": g}
        | {"exists": exists(g), "right": g == e.iso}
        for e, g in zip(examples, given, strict=True)
    ]
