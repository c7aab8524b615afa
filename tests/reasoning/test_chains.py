"""Sums in a chain, the wrong ones, and numbers that nothing explains."""

from __future__ import annotations

import pytest

from helpers.reasoning.chains import check_chain, kind_of, split_chain

QUESTION = "Pens cost 3 euros each. Mia buys 4 pens and pays with 20 euros. How much does she get back?"


def test_right_sums_leave_nothing_to_say() -> None:
    found = check_chain(QUESTION, "The pens cost 3 × 4 = 12 euros. She gets 20 - 12 = 8 euros back.\nAnswer: 8")
    assert (found.sums, found.wrong, found.unexplained) == (2, (), ())


def test_a_wrong_sum_is_named() -> None:
    assert check_chain(QUESTION, "3 * 4 = 14, and $20 - $14 = $6").wrong == ("3 * 4 = 14",)


def test_a_changed_number_is_unexplained() -> None:
    assert check_chain(QUESTION, "3 pens * 5 euros = 15").unexplained == ("5",)


def test_units_latex_and_thousands_are_no_obstacle() -> None:
    found = check_chain("A crate holds 1,200 nails; 2 crates.", r"\( 1,200 \text{ nails} \times 2 = 2,400 \)")
    assert (found.sums, found.wrong, found.unexplained) == (1, (), ())


@pytest.mark.parametrize(
    "chain", ["298 + 10 * 22 = 298 + 220 = 518", "Length = 2 * (32 + 11)\nLength = 2 * 43\nLength = 86"]
)
def test_the_middle_of_a_chain_of_equals_is_no_result(chain: str) -> None:
    assert check_chain("298, 10, 22, 32, 11", chain).wrong == ()


def test_a_rounded_quotient_is_right() -> None:
    assert not check_chain("10 shared by 3", "10 / 3 = 3.33").wrong


def test_words_alone_have_no_sums() -> None:
    assert check_chain(QUESTION, "She pays and leaves.").sums == 0


def test_answer_and_chain_are_told_apart() -> None:
    chains = {
        "3 * 4 = 12, and 20 - 12 = 8": "right answer, every sum right",
        "3 * 4 = 14": "right answer, a wrong sum",
        "3 * 5 = 15": "right answer, a number from nowhere",
        "She gets 8 euros back.": "right answer, no sum to check",
    }
    assert {chain: kind_of(check_chain(QUESTION, chain), right=True) for chain in chains} == chains
    assert kind_of(check_chain(QUESTION, "3 * 4 = 12"), right=False) == "wrong answer, every sum right"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think> b", ("a", "b")),
        ("a\n</think>\n\nb", ("a", "b")),  # the template opened it
        ("<think>a and", ("a and", "")),  # cut off
        ("b alone", ("", "b alone")),
    ],
)
def test_chain_and_solution_are_parted(text: str, parts: tuple[str, str]) -> None:
    assert split_chain(text) == parts
