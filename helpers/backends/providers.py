"""Where a model can run for you: one table of providers, their addresses and keys, and what became of them.

    probe("nim")    one sentence: reachable and with which Phi models, key missing, retired, or out of reach

A key comes from the environment, which is where a Codespace puts its secrets, or from the file `.env` beside the
README, which git ignores. It is read when it is needed and shown nowhere: printing it, formatting it or pickling it
gives nothing away.
"""

from __future__ import annotations

import ipaddress
import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from helpers import catalog, settings
from helpers.backends.remote import Key, Route, fetch, no_address
from helpers.errors import (
    CourseError,
    InvalidInput,
    KeyMissing,
    ModelGone,
    ModelUnavailable,
    RemoteError,
    UnknownAddress,
    Unreachable,
)
from helpers.models.files import home
from helpers.records import ModelCard

#: How long `probe` waits for a provider.
PROBE_SECONDS = 5.0
#: How long a server of this machine may take to say that it lives.
NOTE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the table. `tag` is the key under which the catalog's cards keep this provider's model names."""

    name: str
    title: str
    history: str
    sdks: tuple[str, ...]
    documentation: str
    checked: date
    image_bytes: int
    address: str = ""
    address_variable: str = ""
    address_example: str = ""
    host_variable: str = ""
    key_variable: str = ""
    key_help: str = ""
    tag: str = ""
    retired: date | None = None
    our_server: bool = False

    def retired_for(self, card: ModelCard) -> date | None:
        """Since when this provider, or the model at it, is gone; None while both are there."""
        return self.retired or card.retired.get(self.tag)

    def model(self, card: ModelCard) -> str:
        """What this provider calls a model of the catalog."""
        if self.our_server:
            return card.name
        name = card.tags.get(self.tag)
        if name is None:
            others = [c.name for c in catalog.cards() if self.tag in c.tags and not self.retired_for(c)]
            step = f"It was last seen with {', '.join(others)}." if others else ""
            raise ModelUnavailable(f"The course knows no name for {card.title} at {self.title}.", step)
        return name


@cache
def _table() -> dict[str, Provider]:
    rows = tomllib.loads(Path(__file__).with_name("providers.toml").read_text(encoding="utf-8"))["providers"]
    return {row["name"]: Provider(**row | {"sdks": tuple(row["sdks"])}) for row in rows}


def provider(name: str) -> Provider:
    """The row of one provider."""
    if name not in _table():
        raise InvalidInput(f"The course knows no provider {name!r}.", f"Choose one of {', '.join(_table())}.")
    return _table()[name]


def providers() -> list[Provider]:
    """All rows, in the order of the table."""
    return list(_table().values())


def provider_table() -> list[dict[str, Any]]:
    """One row a provider, ready for `pandas.DataFrame`.

    `models` maps the catalog's names to the provider's, without those that it retired.
    """
    return [
        {
            "provider": row.name,
            "title": row.title,
            "state": f"retired {row.retired}" if row.retired else "current",
            "history": row.history,
            "address": row.address or row.address_example,
            "key_variable": row.key_variable or "none needed",
            "key": settings.setting(row.key_variable) is not None if row.key_variable else None,
            "sdks": ", ".join(row.sdks),
            "models": {
                c.name: c.tags[row.tag] for c in catalog.cards() if row.tag in c.tags and not c.retired.get(row.tag)
            },
            "documentation": row.documentation,
            "checked": row.checked.isoformat(),
        }
        for row in _table().values()
    ]


def route(name: str) -> Route:
    """The way to a provider: address and key. Refuses a retired one, and one whose key or address is not set."""
    row = provider(name)
    if row.retired:
        raise ModelGone(
            f"{row.title} was retired on {row.retired}: nothing answers at {row.address}.",
            "Take another provider, as provider='nim'; the rest of your code stays as it is.",
        )
    if row.name == "local" and (running := _running_server()):
        return running
    address = _address(row)
    if not address:
        raise Unreachable(
            f"No address is known for {row.title}: {row.address_variable} is not set.",
            "Start one: server = serve('smollm2-135m')."
            if row.name == "local"
            else f"Set it, in the environment or in .env, to an address like {row.address_example}.",
        )
    key = _key(row.key_variable) if row.key_variable else None
    if row.key_variable and key is None:
        raise KeyMissing(
            f"{row.title} needs a key, and {row.key_variable} is not set.",
            f"{row.key_help} Then write {row.key_variable}=… into .env (see .env.example); never into a notebook.",
        )
    return Route(row.title, address, key)


def _key(variable: str) -> Key | None:
    value = settings.setting(variable)
    return Key(value, variable) if value else None


def _address(row: Provider) -> str:
    """The address that is set for a provider, else the one in its row; empty where there is neither."""
    found = settings.setting(row.address_variable) or ""
    variable, example = row.address_variable, row.address or row.address_example
    if not found and row.host_variable:
        found, variable, example = _at_host(row), row.host_variable, "127.0.0.1:11434"
    trouble = no_address(found) if found else None
    if trouble:
        raise UnknownAddress(f"{variable} is no address of {row.title}: {trouble}.", f"Write it like {example}")
    return (found or row.address).rstrip("/")


def _at_host(row: Provider) -> str:
    """The address that a program's own variable for its place stands for, as in OLLAMA_HOST=0.0.0.0:11434.

    Scheme, host, port and quotes may be there or not, as Ollama itself reads it (ollama/envconfig, Host); but a port
    that is no number is refused and not passed over.
    """
    given = (settings.setting(row.host_variable) or "").strip("\"' ")
    if not given:
        return ""
    usual = urlsplit(row.address)
    scheme, mark, rest = given.rpartition("://")
    place, _, path = rest.partition("/")
    name, colon, port = place.rpartition(":")
    bare = place.strip("[]")
    if not colon or _is_ipv6(bare):
        name, port = bare, ""
    if not mark and place == "ollama.com":
        scheme = "https"
    scheme = scheme.lower() or usual.scheme
    default = {"http": 80, "https": 443}.get(scheme) if mark or scheme == "https" else usual.port
    name = name.strip("[]")
    # A server that listens on every address is told so by the same variable; a client goes to loopback.
    name = "127.0.0.1" if name in ("", "0.0.0.0", "::") else f"[{name}]" if _is_ipv6(name) else name
    return f"{scheme}://{name}:{port or default}/{path}".rstrip("/") + usual.path


def _is_ipv6(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


def offers(name: str, *, seconds: float = PROBE_SECONDS) -> list[str]:
    """The catalog's models that a provider offers now; none where it cannot be asked."""
    row = provider(name)
    try:
        offered = _offered(route(name), seconds)
    except RemoteError:
        return []
    names = {c.name: c.name if row.our_server else c.tags.get(row.tag) for c in catalog.cards()}
    return [ours for ours, theirs in names.items() if theirs in offered]


def _offered(way: Route, seconds: float) -> list[str]:
    return [str(entry["id"]) for entry in fetch(way, "/models", seconds=seconds).get("data", [])]


def probe(name: str, *, seconds: float = PROBE_SECONDS) -> str:
    """In one sentence: reachable and which Phi models it offers, key missing, retired, or unreachable."""
    try:
        way = route(name)
        offered = _offered(way, seconds)
    except CourseError as error:
        return f"{name}: {error.message} {error.next_step}".strip()
    phi = [model for model in offered if "phi" in model.lower()]
    if phi:
        return f"{name}: {way.title} answers and offers {', '.join(phi)}."
    return f"{name}: {way.title} answers and offers no Phi model, but {', '.join(offered[:3]) or 'nothing'}."


#: Servers that this process has started, the newest last; the newest is what provider="local" means.
_servers: list[Route] = []


def announce(server: Route) -> None:
    """Makes a server that runs now the one that provider='local' means, until it is withdrawn."""
    _servers.append(server)


def withdraw(server: Route) -> None:
    """Forgets a server that has ended."""
    if server in _servers:
        _servers.remove(server)


def server_note() -> Path:
    """Where `python -m helpers.server` leaves the address and key of its run for other processes of this user."""
    return home() / "server.json"


@contextmanager
def leave_note(server: Route, run: str) -> Iterator[None]:
    """Leaves address and key for this user alone while the block runs; `run` is what this start of it answers to."""
    note, key = server_note(), server.key.reveal() if server.key else ""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    text = json.dumps({"address": server.address, "key": key, "run": run})
    note.touch(0o600, exist_ok=False)
    note.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        if note.exists() and note.read_text(encoding="utf-8") == text:  # a later server may have left its own
            note.unlink()


def running_note() -> Route:
    """The server that left its address and key, once it has answered that it is the one; else an error.

    The key goes to nobody who only came to have the address of a server that is gone.
    """
    try:
        note: Mapping[str, str] = json.loads(server_note().read_text(encoding="utf-8"))
        found = Route("this course's own server", note["address"], Key(note["key"]))
        if fetch(replace(found, key=None), "/health", seconds=NOTE_SECONDS).get("run") == note["run"]:
            return found
    except (OSError, ValueError, LookupError, RemoteError):
        pass
    raise Unreachable("No server of this course runs here.", "Start one: python -m helpers.server")


def _running_server() -> Route | None:
    if _servers:
        return _servers[-1]
    if settings.setting("SLM_LOCAL_ADDRESS") or not server_note().exists():
        return None
    try:
        return running_note()
    except Unreachable:
        return None
