"""`python -m helpers.assistant DIR` as somebody runs it: a page with a real model behind it, and tools by MCP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from helpers.assistant.__main__ import main
from helpers.assistant.documents import SHOP
from helpers.assistant.mcp_client import reach_tools, server_program
from helpers.data import ROOT
from helpers.models import files
from waiting import until

NEEDED = ("smollm2-135m", "all-minilm-l6-v2")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache with the smallest model and the encoder, in which the assistant leaves its own files."""
    place = tmp_path / "home"
    place.mkdir()
    for found in files.home().iterdir():
        if found.name.lower().startswith(NEEDED):
            (place / found.name).symlink_to(found, target_is_directory=found.is_dir())
    return place


@pytest.fixture
def page(home: Path) -> Iterator[str]:
    """The address of a page for one document, whose program then ends at Ctrl+C and takes its note away."""
    folder = home.parent / "papers"
    folder.mkdir()
    shutil.copy(SHOP / "returns.md", folder)
    command = [sys.executable, "-m", "helpers.assistant", str(folder), "--model", "smollm2-135m"]
    environment = {**os.environ, "SLM_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    note = home / "assistant" / "page.txt"
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
def test_its_search_is_there_for_other_programs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_HOME", str(home))
    with reach_tools(server_program("helpers.assistant", str(SHOP), "--mcp")) as there:
        search = next(one for one in there.tools if one.name == "search_pages")
        assert "warranty of 3 years" in search({"query": "How long is the warranty?"})


def test_a_folder_that_is_not_there_ends_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLM_HOME", str(tmp_path))
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "is no folder" in capsys.readouterr().err
