"""The words of a text in any script: where a language writes no spaces between them, each character counts as one.

And the English words that numbers are spelt with.
"""

from __future__ import annotations

import re

#: Thai, Lao, Myanmar, Khmer, kana of both widths, and Han with its extensions (Unicode's blocks).
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORD = rf"[{_WITHOUT_SPACES}]|[^\W{_WITHOUT_SPACES}]+"

#: Zero to nineteen, and the tens from zero to ninety: a word's place is its number.
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def words(text: str, *, signs: bool = False) -> list[str]:
    """The words in their order; `signs` are words too, where they are asked for.

    >>> words("Hello, 你好!"), words("a_b + 1", signs=True)
    (['Hello', '你', '好'], ['a_b', '+', '1'])
    """
    return re.findall(rf"{_WORD}|[^\w\s]" if signs else _WORD, text)
