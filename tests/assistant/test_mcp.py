"""Tools by MCP, over both transports: for the course's agent, and for the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace

import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from helpers.agents.agent import Agent
from helpers.assistant.mcp_client import lines_by_hand, reach_tools
from helpers.assistant.mcp_server import in_documents, new_key, search_tool, serve_tools
from helpers.assistant.orders import OrderBook, Person, desk_tools
from helpers.backends.remote import Key
from helpers.data import ROOT
from helpers.errors import InvalidInput, RemoteError, Unreachable, WrongKey
from talk import call, scripted

ANNA, BORIS = Person("anna"), Person("boris")
#: A server on standard input and output whose documents say one thing.
SCRIPT = """
from types import SimpleNamespace
from helpers.assistant.mcp_server import run_stdio
from helpers.assistant.orders import Person
hit = SimpleNamespace(passage=SimpleNamespace(text="3 years.", place="returns.md, Warranty"))
run_stdio(SimpleNamespace(search=lambda question, most: [hit]), Person("anna"))
"""
#: The command, with an encoder that needs no model: in a folder of one passage that one is found.
COMMAND = """
import sys
import numpy
from helpers.assistant import index, mcp_server
index.embed = lambda texts: numpy.full((len(texts), index.DIMENSIONS), index.DIMENSIONS**-0.5, dtype=numpy.float32)
sys.exit(mcp_server.main(sys.argv[1:]))
"""
STDIO = StdioServerParameters(command=sys.executable, args=["-c", SCRIPT], cwd=str(ROOT))


@pytest.fixture(scope="module")
def served():
    book, anna, boris = OrderBook.of_the_shop(), new_key(), new_key()
    with serve_tools(lambda person: desk_tools(book, person), {anna: ANNA, boris: BORIS}) as server:
        yield SimpleNamespace(address=server.address, anna=anna, boris=boris, book=book)


@pytest.fixture(scope="module")
def annas(served):
    with reach_tools(served.address, served.anna) as there:
        yield {one.name: one for one in there.tools}


# The course's client


def test_the_tools_come_with_their_schemas(annas):
    assert set(annas) == {"price_of", "calculator", "look_up_order", "place_order", "refund_order"}
    assert annas["place_order"].names == ("lamp", "quantity")
    assert annas["place_order"].schema["properties"]["quantity"]["maximum"] == 20


def test_the_key_says_who_is_asking(served, annas):
    assert annas["look_up_order"].outcome({"number": 1042})[0].startswith("Order 1042: 2 Luna, sent")
    with reach_tools(served.address, served.boris) as there:
        look_up = {one.name: one for one in there.tools}["look_up_order"]
        assert look_up.outcome({"number": 1042}) == ("There is no order 1042 of boris.", True)


def test_the_server_checks_the_arguments(annas):
    assert annas["place_order"].outcome({"lamp": "Luna", "quantity": 900}) == (
        "quantity must be less than or equal to 20, not 900.",
        True,
    )


def test_an_agent_uses_a_tool_that_runs_in_the_server(served, annas):
    chat = scripted(call("place_order", lamp="Vega", quantity=1), call("answer", text="It is noted."))
    assert Agent(chat, annas.values()).run("One Vega, please.").answer == "It is noted."
    assert [(one.customer, one.lamp) for one in served.book.orders if one.status == "noted"] == [("anna", "Vega")]


def test_a_program_that_is_started_serves_over_its_standard_input():
    with reach_tools(STDIO) as there:
        search = {one.name: one for one in there.tools}["search_pages"]
        assert (there.name, search.outcome({"query": "warranty"})) == (
            "course-assistant",
            ("3 years. [returns.md, Warranty]", False),
        )


@pytest.mark.parametrize("key", [None, new_key()])
def test_without_the_right_key_nobody_comes_in(served, key):
    with pytest.raises(WrongKey, match="does not know the key"), reach_tools(served.address, key):
        pass


@pytest.mark.engine
def test_a_folder_is_served_in_a_terminal_behind_a_key_that_is_shown(tmp_path):
    (tmp_path / "care.md").write_text("# Care\n\nWipe the lamp with a damp cloth.\n", encoding="utf-8")
    command = [sys.executable, "-c", COMMAND, str(tmp_path), "--index", str(tmp_path / "i"), "--http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            address, key = (process.stdout.readline().split()[-1] for _ in range(2))
            with reach_tools(address, Key(key)) as there:
                search, _ = there.tools
                assert search.outcome({"query": "cleaning"})[0] == "Wipe the lamp with a damp cloth. [care.md, Care]"
        finally:
            process.kill()


def test_an_address_where_nobody_listens_is_told():
    with pytest.raises(Unreachable, match="does not answer"), reach_tools("http://127.0.0.1:9/mcp"):
        pass


def test_a_program_that_is_no_server_is_told():
    ends = StdioServerParameters(command=sys.executable, args=["-c", ""])
    with pytest.raises(RemoteError, match="holds no session by MCP"), reach_tools(ends):
        pass


def test_a_port_that_is_taken_is_told(served):
    port = int(served.address.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(Unreachable, match="is taken"), serve_tools(lambda _: [], {}, port=port):
        pass


def test_a_search_that_finds_nothing_says_so():
    with pytest.raises(InvalidInput, match="say nothing about 'x'"):
        search_tool(in_documents(SimpleNamespace(search=lambda *_, **__: [])))({"query": "x"})


# Any other client: nobody's


def test_the_lines_of_a_session_can_be_written_by_hand():
    calls = [("tools/list", {}), ("tools/call", {"name": "price_of", "arguments": {"lamp": "Vega"}}), ("no/such", {})]
    _, listed, _, called, _, refused = map(json.loads, lines_by_hand(STDIO, calls))
    assert "search_pages" in [one["name"] for one in listed["result"]["tools"]]
    assert called["result"]["content"] == [{"type": "text", "text": "47"}]
    assert refused["error"]["code"] == -32601


# Any other client: the SDK's own


def test_the_sdks_client_calls_a_tool_over_standard_input(tmp_path):
    async def ask():
        async with Client(stdio_client(STDIO, errlog=said)) as client:
            return await client.call_tool("price_of", {"lamp": "Vega"})

    with (tmp_path / "said").open("w") as said:
        assert asyncio.run(ask()).content[0].text == "47"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_sdks_client_calls_a_tool_over_http(served, mode):
    async def ask():
        headers = {"Authorization": f"Bearer {served.boris.reveal()}"}
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False) as http,
            Client(streamable_http_client(served.address, http_client=http), mode=mode) as client,
        ):
            return await client.call_tool("look_up_order", {"number": 2071})

    assert asyncio.run(ask()).content[0].text == "Order 2071: 1 Aurora, sent, to Mill Lane 4, Leeds"


def test_a_page_of_another_site_is_turned_away(served):
    headers = {"Authorization": f"Bearer {served.anna.reveal()}", "Origin": "http://another.example"}
    assert httpx2.post(served.address, json={}, headers=headers, trust_env=False).status_code == 403
