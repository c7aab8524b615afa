"""The way to a model that runs elsewhere, and one request along it: an address, a key, and whom the request may pass.

A key shows itself nowhere by accident. A call to this machine goes through no proxy, which would not find the way back;
no call follows a redirect, which would take the key to whom nobody chose. What cannot work (a key with its quotes
pasted along, an address without a port's number, a variable that names no certificates) is refused in a sentence before
anything is sent.
"""

from __future__ import annotations

import codecs
import io
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from helpers import settings
from helpers.backends.faults import broken_line, refusal, unreadable
from helpers.errors import (
    CertificateRefused,
    InvalidInput,
    UnknownAddress,
    Unreachable,
    WrongKey,
)

if TYPE_CHECKING:
    import httpx2

#: A provider's own words are quoted up to this length.
QUOTED_CHARACTERS = 160


class Key:
    """A secret that shows itself nowhere by accident; `reveal()` is for the one line that sends it.

    Blanks and line ends around it are dropped. What no key holds (quotes, blanks within, letters beyond ASCII) is
    refused, and `source`, the variable it came from, is named.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str, source: str = "The key") -> None:
        self._value = value.strip()
        trouble = settings.no_key(self._value)
        if trouble:
            raise WrongKey(f"{source} cannot be a key: {trouble}.", "Write the key alone, as its page shows it.")

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

    def __post_init__(self) -> None:
        trouble = no_address(self.address)
        if trouble:
            raise UnknownAddress(f"The address of {self.title} cannot be one: {trouble}.", ADDRESS_FORM)

    @property
    def host(self) -> str:
        """The server's name and port, as a message shows them."""
        return urllib.parse.urlsplit(self.address).netloc

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine, to which no proxy leads."""
        return settings.is_loopback(urllib.parse.urlsplit(self.address).hostname or "")

    def quote(self, text: str) -> str:
        """What a server said, short, and without the key should it have repeated it."""
        text = " ".join(text.split())
        if self.key is not None:
            text = text.replace(self.key.reveal(), "…")
        return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}…"


ADDRESS_FORM = "Write it like http://localhost:8080/v1 or https://name.example/v1."


def no_address(text: str) -> str | None:
    """Why a text is no server's address; None where it is one. The text itself is not shown: it may be a key."""
    if any(not "!" <= sign <= "~" for sign in text if not sign.isalpha()) or any(sign in text for sign in "\"'`\\<>"):
        return "it holds blanks, quotes or brackets"
    try:
        parts = urllib.parse.urlsplit(text)
        port, name = parts.port, parts.hostname or ""
        name.encode("idna")
    except ValueError as error:  # also UnicodeError
        return "its port is no number from 1 to 65535" if "ort" in str(error) else "its host is no name"
    if parts.scheme not in ("http", "https"):
        return "it begins neither with http:// nor with https://"
    if not name or port == 0:
        return "it names no host" if not name else "its port is no number from 1 to 65535"
    if parts.username is not None:
        return "it holds a name or a password: a key has a variable of its own"
    if parts.query or parts.fragment:
        return "it goes on behind a ? or #"
    return None


def client(route: Route, *, trust: Sequence[str] = settings.TRUST_OF_HTTPX, **options: Any) -> httpx2.Client:
    """An HTTP client for this route alone; a variable of this machine that spoils every request is named and refused.

    `trust` are the variables that say whose certificates count.
    """
    import httpx2

    secure = route.address.startswith("https:")
    if route.is_loopback:  # no proxy, and no certificates of authorities, which take a tenth of a second to read
        return httpx2.Client(trust_env=False, verify=secure, follow_redirects=False, **options)
    for trouble in settings.certificate_troubles(trust) if secure else ():
        raise CertificateRefused(trouble, "Set it to a file of certificates, or leave it out.")
    try:
        return httpx2.Client(follow_redirects=False, **options)
    except (ImportError, ValueError, httpx2.InvalidURL):
        raise Unreachable(
            f"The proxy on the way to {route.title} cannot be used: its address cannot be read, or asks for SOCKS.",
            "Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; an address looks like http://proxy.example:3128.",
        ) from None


def fetch(route: Route, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = 10.0) -> dict[str, Any]:
    """The JSON object at `path` below the route's address, or an error of the family."""
    import httpx2

    headers = {"Accept": "application/json"}
    if route.key is not None:
        headers["Authorization"] = f"Bearer {route.key.reveal()}"
    try:
        with client(route, timeout=seconds) as http:
            method = "GET" if body is None else "POST"
            answer = http.request(method, route.address + path, json=body, headers=headers)
    except httpx2.HTTPError as error:
        raise broken_line(route, error) from None
    if not answer.is_success:
        raise refusal(route, answer.status_code, answer.headers, answer.text)
    try:
        result = answer.json()
    except (ValueError, RecursionError):
        raise unreadable(route, "it sent no JSON") from None
    if not isinstance(result, dict):
        raise unreadable(route, "it sent JSON of another form")
    return result


def events(pieces: Iterable[bytes]) -> Iterator[str]:
    r"""The data of each event of a stream, which the network cuts where it likes.

    Comments, which servers send to keep a line alive, other fields and events without data are passed over; a line
    ends in CR, LF or both. (HTML standard, section 9.2.6; here the last event needs no empty line behind it.)

    >>> list(events([b": alive\r\n\r\ndata:one\r\ndata: two\r", b"\n\r\nevent: ping\n\n"]))
    ['one\ntwo']
    """
    plain = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")("replace"), translate=True)
    rest, data = "", []
    for piece in pieces:
        *lines, rest = (rest + plain.decode(piece)).split("\n")
        for line in lines:
            name, _, value = line.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
            elif not line:
                if any(data):
                    yield "\n".join(data)
                data = []
    if any(data):
        yield "\n".join(data)
