"""The tools of an MCP server as tools of the course's agent, wherever the server runs.

    with reach_tools(server_program("helpers.assistant.mcp_server", "--person", "anna")) as there:
        Agent(chat, there.tools).run("Where is order 1042?")

The SDK is asynchronous and the agent is not, so a session lives in a thread of its own. What a server tells is a
stranger's text: names, descriptions, schemas and results are bounded, and its descriptions still end in the prompt, so
reach servers that you trust.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.from_thread
import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp import types as mcp_types
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel

from helpers.agents.tools import Tool
from helpers.backends.remote import Key
from helpers.data import ROOT
from helpers.errors import CourseError, InvalidInput, RemoteError, Unreachable, WrongKey

#: What is taken of a server: tools, characters of a description, of a schema, of a result; seconds for an answer.
MOST_TOOLS, MOST_DESCRIPTION, MOST_SCHEMA, MOST_RESULT = 64, 400, 8_000, 10_000
ANSWER_SECONDS = 60.0
#: The protocol's revision that is written by hand here; the SDK agrees with a server on one that both know.
REVISION = "2026-07-28"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class RemoteTool(Tool):
    """A tool that runs in the server, which also checks the arguments: its refusals come back as results."""

    def validate(self, arguments: Any) -> dict[str, Any]:
        """The arguments as they were written, if they are an object."""
        if not isinstance(arguments, Mapping):
            raise InvalidInput(f"The arguments of {self.name} must be a JSON object.")
        return dict(arguments)


@dataclass(frozen=True, slots=True)
class RemoteTools:
    """What a server offers: its `name`, the protocol's `revision` that both speak, and its `tools`."""

    name: str
    revision: str
    tools: list[Tool]


def server_program(module: str, *arguments: str) -> StdioServerParameters:
    """How a module of this project is started as a server on standard input and output."""
    return StdioServerParameters(
        command=sys.executable, args=["-m", module, *arguments], cwd=str(ROOT), env={"PYTHONPATH": str(ROOT)}
    )


def lines_by_hand(program: StdioServerParameters, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """The lines that pass between a client and a server on standard input and output: a request, its answer, and so on.

    A request is a method with its parameters. No SDK is in it: this is all that MCP is on the wire. What a client says
    of itself goes with every request since revision 2026-07-28; before, it went once, with "initialize".
    """
    names = ("protocolVersion", "clientInfo", "clientCapabilities")
    told = zip(names, (REVISION, {"name": "by hand", "version": "1"}, {}), strict=True)
    about = {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in told}}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = os.environ | (program.env or {})
    lines = []
    with subprocess.Popen([program.command, *program.args], cwd=program.cwd, env=environment, **pipes) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for number, (method, parameters) in enumerate(requests, start=1):
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters | about}
            server.stdin.write(f"{json.dumps(request)}\n".encode())
            server.stdin.flush()
            lines += [json.dumps(request), server.stdout.readline().decode().strip()]
        server.stdin.close()  # this is how a client ends a server that it started
    return lines


@contextmanager
def reach_tools(server: StdioServerParameters | str, key: Key | None = None) -> Iterator[RemoteTools]:
    """The tools of a server, for as long as the block runs: a process to start, or an address with the `key` for it."""
    with anyio.from_thread.start_blocking_portal() as portal, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        refusals: list[int] = []
        if isinstance(server, StdioServerParameters):
            way, where = stdio_client(server, errlog=nowhere), "The program that was started"
        else:
            way, where = _over_http(server, key, refusals), server
        session = portal.wrap_async_context_manager(Client(way, read_timeout_seconds=ANSWER_SECONDS))
        try:
            client = session.__enter__()
        except Exception as error:
            raise _no_session(error, where, refusals) from error
        try:
            listed = portal.call(client.list_tools).tools[:MOST_TOOLS]
            said = client.server_info
            yield RemoteTools(
                said.name[:MOST_DESCRIPTION] if said else "",
                client.protocol_version,
                [_tool(one, portal, client) for one in listed],
            )
        finally:
            session.__exit__(None, None, None)


@asynccontextmanager
async def _over_http(address: str, key: Key | None, refusals: list[int]) -> AsyncIterator[Any]:
    """The two streams of a session over HTTP. The SDK hides why it was refused, so the status is noted here."""

    async def note(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            refusals.append(response.status_code)

    headers = {"Authorization": f"Bearer {key.reveal()}"} if key else {}
    own = urlsplit(address).hostname in LOOPBACK  # no proxy leads to this machine
    async with (
        httpx2.AsyncClient(
            headers=headers, timeout=ANSWER_SECONDS, trust_env=not own, event_hooks={"response": [note]}
        ) as client,
        streamable_http_client(address, http_client=client) as streams,
    ):
        yield streams


def _tool(one: mcp_types.Tool, portal: Any, client: Client) -> Tool:
    """The tool as the agent takes it; calling it asks the server."""
    if not one.name.isidentifier() or len(str(one.input_schema)) > MOST_SCHEMA:
        raise InvalidInput(f"The server's tool {one.name[:60]!r} has no usable name or a schema beyond all bounds.")

    def call(**arguments: Any) -> str:
        try:
            answer = portal.call(client.call_tool, one.name, arguments)
        except MCPError as error:
            raise InvalidInput(str(error.error.message)[:MOST_RESULT]) from None
        text = "\n".join(part.text for part in answer.content if isinstance(part, mcp_types.TextContent))[:MOST_RESULT]
        if answer.is_error:
            raise InvalidInput(text or f"{one.name} failed and does not say why.")
        return text

    about = " ".join((one.description or "").split())[:MOST_DESCRIPTION]
    names = tuple(one.input_schema.get("properties", {}))
    return RemoteTool(one.name, about, names, one.input_schema, call, BaseModel)


def _no_session(error: Exception, where: str, refusals: list[int]) -> CourseError:
    """Why no session came about, in a sentence."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if 401 in refusals:
        return WrongKey(f"{where} does not know the key.", "Give a key that the server was started with.")
    if isinstance(cause, httpx2.TransportError | OSError):
        return Unreachable(f"{where} does not answer.", "Start the server first.")
    said = f" It answers with status {refusals[-1]}." if refusals else f" {cause}."
    return RemoteError(f"{where} holds no session by MCP.{said}", "Start it in a terminal to see what it says.")
