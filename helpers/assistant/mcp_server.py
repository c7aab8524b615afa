"""Tools for any program that speaks MCP, the Model Context Protocol (revision 2026-07-28), over stdio or HTTP.

    python -m helpers.assistant.mcp_server DIR [--person anna]        a program starts this and writes to its input
    python -m helpers.assistant.mcp_server DIR --http                 on loopback, behind a key that is shown
    with serve_tools(offered, {key: anna}) as served: …               on this machine's loopback, behind keys

A client asks `tools/list` and gets names, descriptions and JSON schemas; it asks `tools/call` and gets text. The
course's `Tool` has all of that. Arguments are checked here, whoever sends them, and a refusal is a
sentence that the caller's model reads. Who is asking follows from the key, or
from how the program was started: no argument says it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread
import uvicorn
from mcp import types as mcp_types
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from pydantic import AnyHttpUrl, Field

from helpers.agents.toolbox import calculator
from helpers.agents.tools import Tool, tool, tools
from helpers.assistant.orders import OrderBook, Person, desk_tools
from helpers.backends.remote import Key
from helpers.errors import CourseError, InvalidInput
from helpers.server.lines import loopback_socket, served

if TYPE_CHECKING:
    from helpers.assistant.index import DocumentIndex

#: What a person may use: called anew for each request, so that a right that was taken away is gone at once.
Offered = Callable[[Person], Iterable[Tool]]
#: The largest request.
MOST_REQUEST_BYTES = 64 * 1024
#: Question → what is found for it.
Finder = Callable[[str], str]
NOBODY = Person("nobody")
Sought = Annotated[str, Field(description="a few words", min_length=1, max_length=80)]


def search_tool(find: Finder) -> Tool:
    """The search over documents as a tool; `find` gives what fits a question best."""

    def search_pages(query: Sought) -> str:
        """Looks something up in the documents: delivery, returns, warranty, payment, contact."""
        return find(query)

    return tool(search_pages)


def in_documents(index: DocumentIndex) -> Finder:
    """What the documents of an index say to a question: the best passage, with the place where it stands."""

    def find(question: str) -> str:
        hits = index.search(question, most=1)
        if not hits:
            raise InvalidInput(f"The documents say nothing about {question!r}.")
        return f"{hits[0].passage.text} [{hits[0].passage.place}]"

    return find


def tool_server(offered: Offered) -> Server[Any]:
    """An MCP server with the tools that are `offered`, over HTTP to the key's owner, else to `NOBODY`."""

    async def listed(asked: Any, _: Any) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=[_told(one) for one in tools(offered(_owner(asked))).values()])

    async def called(asked: Any, params: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        there = tools(offered(_owner(asked)))
        if params.name not in there:
            raise MCPError(mcp_types.INVALID_PARAMS, f"There is no tool {params.name!r}; there are {', '.join(there)}.")
        text, failed = await anyio.to_thread.run_sync(_outcome, there[params.name], params.arguments or {})
        return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=text)], is_error=failed)

    return Server("course-assistant", version="1", on_list_tools=listed, on_call_tool=called)


def run_stdio(index: DocumentIndex, person: Person | None = None) -> None:
    """Answers on this process's standard input and output until the input ends.

    Search and calculator; with a `person`, also the shop's tools in that person's name.
    """
    offered = _offered(index, person, OrderBook.of_the_shop())

    async def answer() -> None:
        server = tool_server(lambda _: offered)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(answer)


@dataclass(frozen=True, slots=True)
class ServedTools:
    """An MCP server that listens at `address`; whoever comes without one of its keys is turned away."""

    address: str


@contextmanager
def serve_tools(offered: Offered, keys: Mapping[Key, Person], *, port: int = 0) -> Iterator[ServedTools]:
    """A server on loopback for as long as the block runs, in a thread of this process; `port` 0 takes a free one."""
    sock = loopback_socket(port)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
    # The SDK asks where tokens are issued; here nobody issues any, and no address is handed out.
    settings = AuthSettings(issuer_url=AnyHttpUrl(address), resource_server_url=None)
    app = tool_server(offered).streamable_http_app(
        auth=settings, token_verifier=_Keys(keys), json_response=True, max_request_body_size=MOST_REQUEST_BYTES
    )
    with served(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1), sock):
        yield ServedTools(address)


class _Keys:
    """Keys as the SDK asks after them. Only hashes are kept: comparing them tells nothing of how near a guess was."""

    def __init__(self, keys: Mapping[Key, Person]) -> None:
        self._people = {hashlib.sha256(key.reveal().encode()).hexdigest(): person for key, person in keys.items()}

    async def verify_token(self, token: str) -> AccessToken | None:
        person = self._people.get(hashlib.sha256(token.encode()).hexdigest())
        return None if person is None else _Owned(token="", client_id=person.name, scopes=[], person=person)


class _Owned(AccessToken):
    """A key that was known, and whose it is."""

    person: Person


def new_key() -> Key:
    """A key that nobody guesses."""
    return Key(secrets.token_urlsafe(24))


def _owner(asked: Any) -> Person:
    """Whose key came with the request; over stdio there is none."""
    user = asked.request.scope.get("user") if asked.request is not None else None
    found = getattr(getattr(user, "access_token", None), "person", None)
    return found if isinstance(found, Person) else NOBODY


def _offered(index: DocumentIndex, person: Person | None, book: OrderBook) -> list[Tool]:
    """The search with the shop's tools in a person's name, or with the calculator where there is no shop."""
    return [search_tool(in_documents(index)), *(desk_tools(book, person) if person else [tool(calculator)])]


def _serve_until_stopped(index: DocumentIndex, person: Person | None, port: int) -> None:
    """Serves over HTTP until Ctrl+C; says where, and the key."""
    key, book = new_key(), OrderBook.of_the_shop()
    with serve_tools(lambda _: _offered(index, person, book), {key: person or NOBODY}, port=port) as served:
        print(f"{served.address}\nAuthorization: Bearer {key.reveal()}\nCtrl+C ends it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _told(one: Tool) -> mcp_types.Tool:
    return mcp_types.Tool(name=one.name, description=one.description, input_schema=one.schema)


def _outcome(one: Tool, arguments: dict[str, Any]) -> tuple[str, bool]:
    try:
        return one.outcome(one.validate(arguments))
    except InvalidInput as error:
        return error.message, True


def main(arguments: list[str] | None = None) -> int:
    """The command line: a server on standard input and output for one folder; returns the exit status."""
    from helpers.assistant.documents import SHOP
    from helpers.assistant.index import open_index

    parser = argparse.ArgumentParser(prog="python -m helpers.assistant.mcp_server", description="Tools by MCP.")
    parser.add_argument("folder", nargs="?", type=Path, default=SHOP, help="the documents (the shop's)")
    parser.add_argument("--person", help="whose orders may be seen; without it there is search alone")
    parser.add_argument("--http", type=int, nargs="?", const=0, metavar="PORT", help="over HTTP on loopback, not stdio")
    parser.add_argument("--index", type=Path, help="the index file; in the user's cache without this")
    asked = parser.parse_args(arguments)
    try:
        with open_index(asked.folder, asked.index) as index:
            person = Person(asked.person) if asked.person else None
            if asked.http is None:
                run_stdio(index, person)
            else:
                _serve_until_stopped(index, person, asked.http)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
