"""The shop's orders, and tools over them that know who is asking.

The rights stand in the tool. Who is asking is bound when a session opens, and is no argument: a model fills in the
number of an order, never a name. What a visitor orders is noted and counts once they confirm it, with a button of the
program's that is no tool: whatever makes a model place an order has made it write a draft.

The book lives in memory: a shop keeps its orders in a database, behind the same four methods.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from helpers.agents.toolbox import PRICES, Lamp, calculator, price_of
from helpers.agents.tools import Tool, tool
from helpers.data import stored
from helpers.errors import InvalidInput

#: Drafts that one visitor may leave lying: a model in a loop must not fill the book.
MOST_DRAFTS = 8
FIRST_NEW_NUMBER = 5001

OrderNumber = Annotated[int, Field(description="the order's number", ge=1000, le=9999)]
Quantity = Annotated[int, Field(description="how many", ge=1, le=20)]
OrderStatus = Literal["noted", "ordered", "sent", "delivered", "refunded"]


@dataclass(frozen=True, slots=True)
class Person:
    """Who is asking. `staff` may see every order, refund it, and order without a confirmation."""

    name: str
    staff: bool = False


#: A program that lends its own rights to whoever talks to it acts as this one ("confused deputy", Hardy 1988).
THE_SHOP = Person("the shop", staff=True)


@dataclass(frozen=True, slots=True)
class Order:
    """So many lamps of one kind for a customer; `note` is what the customer wrote, so nobody of the shop's."""

    number: int
    customer: str
    lamp: Lamp
    quantity: int
    status: OrderStatus
    address: str = ""
    note: str = ""

    def __str__(self) -> str:
        address = f", to {self.address}" if self.address else ""
        note = f". The customer's note: {self.note}" if self.note else ""
        return f"Order {self.number}: {self.quantity} {self.lamp}, {self.status}{address}{note}"


class OrderBook:
    """All orders by number. Every method asks for the `person` on whose behalf it acts; any thread may call it."""

    def __init__(self, orders: Iterable[Order] = ()) -> None:
        self._orders = {one.number: one for one in orders}
        self._lock = threading.Lock()

    @classmethod
    def of_the_shop(cls) -> OrderBook:
        """A new book with the six orders that the course stores."""
        return cls(Order(**one) for one in stored("assistant_orders"))

    @property
    def orders(self) -> tuple[Order, ...]:
        """Every order, in the order of the numbers."""
        with self._lock:
            return tuple(self._orders[number] for number in sorted(self._orders))

    def find(self, person: Person, number: int) -> Order:
        """The order, if it is this person's. Another's is not told from one that does not exist."""
        found = self._orders.get(number)
        if found is None or not (person.staff or found.customer == person.name):
            raise InvalidInput(f"There is no order {number} of {person.name}.")
        return found

    def place(self, person: Person, lamp: Lamp, quantity: int) -> Order:
        """A new order: noted for a visitor until they confirm it, ordered at once by the shop itself."""
        with self._lock:
            drafts = [one for one in self._orders.values() if one.customer == person.name and one.status == "noted"]
            if len(drafts) >= MOST_DRAFTS:
                raise InvalidInput(f"{person.name} has {MOST_DRAFTS} orders to confirm first.")
            number = max([FIRST_NEW_NUMBER - 1, *self._orders]) + 1
            made = Order(number, person.name, lamp, quantity, "ordered" if person.staff else "noted")
            self._orders[number] = made
        return made

    def confirm(self, person: Person, number: int) -> Order:
        """The order, which counts from now on. A program calls this for a button that a person pressed."""
        return self._changed(person, number, "ordered", allowed=("noted",))

    def refund(self, person: Person, number: int) -> Order:
        """The order, paid back. Only the shop's staff may do this."""
        if not person.staff:
            raise InvalidInput("Only the shop's staff can refund an order.")
        return self._changed(person, number, "refunded", allowed=("ordered", "sent", "delivered"))

    def _changed(self, person: Person, number: int, status: OrderStatus, *, allowed: tuple[OrderStatus, ...]) -> Order:
        with self._lock:
            found = self.find(person, number)
            if found.status not in allowed:
                raise InvalidInput(f"Order {number} is {found.status} and cannot become {status}.")
            self._orders[number] = replace(found, status=status)
            return self._orders[number]


def order_tools(book: OrderBook, person: Person) -> list[Tool]:
    """What can be done with orders on behalf of `person`; the book refuses what they may not do."""

    def look_up_order(number: OrderNumber) -> str:
        """Looks up an order: its lamps, where it is, where it goes."""
        return str(book.find(person, number))

    def place_order(lamp: Lamp, quantity: Quantity) -> str:
        """Orders lamps."""
        made = book.place(person, lamp, quantity)
        then = "It counts once it is confirmed with the button." if made.status == "noted" else "It is on its way."
        return f"Order {made.number}: {quantity} {lamp} for {PRICES[lamp] * quantity:g} euros. {then}"

    def refund_order(number: OrderNumber) -> str:
        """Pays an order back."""
        return f"Order {book.refund(person, number).number} is refunded."

    return [tool(one) for one in (look_up_order, place_order, refund_order)]


def desk_tools(book: OrderBook, person: Person) -> list[Tool]:
    """The price list, the calculator, and what `person` may do with orders."""
    return [tool(price_of), tool(calculator), *order_tools(book, person)]
