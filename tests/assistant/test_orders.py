"""Rights stand in the tools: who asks is bound when they are made, and no argument changes it."""

from __future__ import annotations

import pytest

from helpers.agents.tools import tools
from helpers.assistant.orders import MOST_DRAFTS, THE_SHOP, OrderBook, Person, desk_tools
from helpers.errors import InvalidInput

ANNA, BORIS = Person("anna"), Person("boris")


@pytest.fixture
def book() -> OrderBook:
    return OrderBook.of_the_shop()


def called(book, person, name, **arguments):
    one = tools(desk_tools(book, person))[name]
    return one.outcome(one.validate(arguments))


def test_an_order_is_shown_to_whose_it_is(book):
    assert called(book, ANNA, "look_up_order", number=1042)[0].endswith("Birch Street 12, Uppsala")


def test_the_order_of_another_is_told_like_one_that_does_not_exist(book):
    another, none = (called(book, ANNA, "look_up_order", number=number) for number in (2071, 9999))
    assert another == ("There is no order 2071 of anna.", True)
    assert none == ("There is no order 9999 of anna.", True)


def test_no_argument_says_who_is_asking(book):
    with pytest.raises(InvalidInput, match="no argument 'customer'"):
        called(book, ANNA, "look_up_order", number=2071, customer="boris")


def test_only_staff_refunds(book):
    assert called(book, ANNA, "refund_order", number=1057) == ("Only the shop's staff can refund an order.", True)
    assert called(book, THE_SHOP, "refund_order", number=1057) == ("Order 1057 is refunded.", False)
    assert book.find(ANNA, 1057).status == "refunded"


def test_what_a_visitor_orders_counts_once_it_is_confirmed(book):
    assert "73.5 euros" in called(book, ANNA, "place_order", lamp="Luna", quantity=3)[0]
    assert book.find(ANNA, 5001).status == "noted"
    assert book.confirm(ANNA, 5001).status == "ordered"


def test_a_draft_is_confirmed_by_nobody_else_and_only_once(book):
    made = book.place(ANNA, "Luna", 1)
    with pytest.raises(InvalidInput, match="no order 5001 of boris"):
        book.confirm(BORIS, made.number)
    book.confirm(ANNA, made.number)
    with pytest.raises(InvalidInput, match="is ordered and cannot become ordered"):
        book.confirm(ANNA, made.number)


def test_drafts_do_not_fill_the_book(book):
    for _ in range(MOST_DRAFTS):
        book.place(ANNA, "Luna", 1)
    with pytest.raises(InvalidInput, match="orders to confirm first"):
        book.place(ANNA, "Luna", 1)
    assert book.place(BORIS, "Luna", 1).customer == "boris"


def test_a_stored_book_is_new_each_time(book):
    book.refund(THE_SHOP, 1042)
    assert OrderBook.of_the_shop().find(ANNA, 1042).status == "sent"
