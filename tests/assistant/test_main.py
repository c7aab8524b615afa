"""`python -m helpers.assistant DIR` as somebody runs it: a page with a real model behind it, and tools by MCP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from helpers.assistant.__main__ import main
from helpers.assistant.documents import SHOP
from helpers.assistant.mcp_client import reach_tools, server_program
from helpers.data import ROOT
from waiting import until


@pytest.fixture
def page(small_home: Path) -> Iterator[str]:
    """The address of a page for one document, whose program then ends at Ctrl+C and takes its note away."""
    folder = small_home.parent / "papers"
    folder.mkdir()
    shutil.copy(SHOP / "returns.md", folder)
    command = [sys.executable, "-m", "helpers.assistant", str(folder), "--model", "smollm2-135m"]
    environment = {**os.environ, "SLM_HOME": str(small_home), "HF_HUB_OFFLINE": "1"}
    note = small_home / "assistant" / "page.txt"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            assert until(lambda: note.exists() or process.poll() is not None)
            assert until(lambda: note.read_text(encoding="utf-8"))
            yield note.read_text(encoding="utf-8")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert (process.returncode, note.exists()) == (0, False)


@pytest.mark.engine
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+C is sent otherwise there")
def test_a_folder_is_served_and_asked(page: str) -> None:
    address, _, key = page.partition("#")
    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
        about = client.get("/about").json()
        assert (about["folder"], about["documents"], about["left_out"]) == ("papers", 1, [])
        lines = client.post("/ask", json={"question": "How long is the warranty?"}).text.splitlines()
    last = json.loads(lines[-1])
    assert last["passages"][0]["place"] == "returns.md, Returns › Warranty"
    assert last["gate"] in ("answered", "ungrounded", "the model")


@pytest.mark.nightly
@pytest.mark.engine
def test_its_search_is_there_for_other_programs(small_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_HOME", str(small_home))
    with reach_tools(server_program("helpers.assistant", str(SHOP), "--mcp")) as there:
        search = next(one for one in there.tools if one.name == "search_pages")
        assert "warranty of 3 years" in search({"query": "How long is the warranty?"})


def test_a_folder_that_is_not_there_ends_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLM_HOME", str(tmp_path))
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "is no folder" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    empty = nullcontext(SimpleNamespace(left_out=(), passages=()))
    monkeypatch.setattr("helpers.assistant.__main__.open_index", lambda *_, **__: empty)
    monkeypatch.setattr("helpers.assistant.__main__.serve", lambda *_, **__: pytest.fail("a model was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([str(tmp_path), "--port", str(taken.getsockname()[1])]) == 1
    assert "is taken" in capsys.readouterr().err
