"""The way to a model that runs elsewhere: an address, and a key that shows itself nowhere by accident."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import NoReturn

from helpers.errors import InvalidInput

#: A provider's own words are quoted up to this length.
QUOTED_CHARACTERS = 160


class Key:
    """A secret that shows itself nowhere by accident; `reveal()` is for the one line that sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Key(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A key is not written to a file.", "Read it again from the environment or .env.")


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a server: who it is, the address that ends before `/chat/completions`, and the key it wants."""

    title: str
    address: str
    key: Key | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine, to which no proxy leads."""
        host = urllib.parse.urlsplit(self.address).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    def quote(self, text: str) -> str:
        """What a server said, short, and without the key should it have repeated it."""
        text = " ".join(text.split())
        if self.key is not None:
            text = text.replace(self.key.reveal(), "…")
        return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}…"
