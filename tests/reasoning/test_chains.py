"""Sums in a chain, the wrong ones, and numbers that nothing explains."""

from __future__ import annotations

from helpers.reasoning.chains import check_chain

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


def test_a_rounded_quotient_is_right() -> None:
    assert not check_chain("10 shared by 3", "10 / 3 = 3.33").wrong


def test_words_alone_have_no_sums() -> None:
    assert check_chain(QUESTION, "She pays and leaves.").sums == 0
