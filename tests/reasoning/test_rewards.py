"""What an answer in tags is worth, and the hole in the other reward."""

from __future__ import annotations

import pytest

from helpers.reasoning.rewards import checked_reward, holed_reward, worth

GOOD = "<think>3 + 4 = 7</think>\n7"


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (GOOD, 1.0),
        (f"  {GOOD}\n", 1.0),
        ("<think>3 + 4 = 7</think>\n8", 0.3),
        ("<think>3 + 4 = 7</think> 7", 0.2),  # not on a line of its own
        ("<think>3 + 4 = 7</think>\n7 pens", 0.2),
        ("<think>3 + 4 = 7</think>\n3\n7", 0.2),
        ("<think></think>\n7", 0.2),  # an empty chain is none
        ("<think>3 + 4 = 7</think>", 0.2),
        (f"{GOOD}\n{GOOD}", 0.1),
        ("<think>3 + 4 = 7", 0.1),
        (f"Sure! {GOOD}", 0.0),
        ("</think>7<think>", 0.0),
        ("The answer is 7.", 0.0),
        ("", 0.0),
    ],
)
def test_each_part_of_the_form_is_paid_and_the_number_only_within_it(text: str, reward: float) -> None:
    assert worth(text, 7).reward == reward


def test_a_number_is_read_as_everywhere_in_the_course() -> None:
    assert worth("<think>2 * 600 = 1200</think>\n1,200", 1200).right


def test_form_and_number_are_told_apart() -> None:
    wrong = worth(GOOD, 8)
    assert (wrong.form, wrong.right) == (True, False)


def test_rewards_come_one_an_answer_beside_the_column_of_answers() -> None:
    assert checked_reward([GOOD, GOOD], answer=[7, 8], prompts=["", ""]) == [1.0, 0.3]


def test_the_holed_reward_pays_more_for_an_answer_that_never_ends_than_for_the_right_one() -> None:
    endless = "<think>3 + 4 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7 = 7"
    right, hacked = holed_reward([GOOD, endless], answer=[7, 7])
    assert hacked == 1.0 > right > 0.5
    assert worth(endless, 7).reward < worth(GOOD, 7).reward
