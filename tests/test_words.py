"""Words are found in every script."""

from __future__ import annotations

import pytest

from helpers.words import words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("你好吗", 3), ("ひらがなカナ", 6), ("ｶﾅ", 2), ("𠀀𠀁", 2), ("สวัสดี", 6), ("ສະບາຍດີ", 7), ("မင်္ဂ", 5)),
        *(("안녕 세상", 2), ("på ön", 2)),
    ],
)
def test_a_script_without_spaces_has_a_word_a_character(text: str, count: int) -> None:
    assert len(words(text)) == count
