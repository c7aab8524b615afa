"""JupyterLab as `course.py lab` starts it, and a notebook made of the course's cells."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.data import ROOT
from waiting import until

#: course.py's own command, in a folder where a run changes nothing of the course, in the environment that tests it.
LAB = """
import sys, pathlib, course
course.ROOT, course.VENV = pathlib.Path(sys.argv[1]), pathlib.Path(sys.prefix)
course.prepare = lambda **_: pathlib.Path(sys.executable)
sys.exit(course.main(["lab", "--no-browser", "--small", "--port", "8930"]))
"""
#: What no cell of the course holds in few lines: a chat box on the model that is open, sliders on made-up logits.
OWN_CELLS = {
    "box": "from helpers.instruct import chatbox\nbox = chatbox.chat_box(chat.another(max_new_tokens=400))",
    "slider": "import torch\nfrom helpers.instruct import decoding\n"
    "decoding.explorer(torch.arange(12.0), 'abcdefghijkl'.__getitem__)",
}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that `course.py lab` started, with copies of the course's notebooks."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("notebooks", "lessons"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("sv", ".*"))
    write_notebook(folder / "notebooks" / "tried.ipynb")
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(folder / ".jupyter"), "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-c", LAB, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        told = next(line for line in server.stdout if line.startswith("JupyterLab: "))
        port = int(re.search(r":(\d+)/", told)[1])
        assert until(lambda: listens(port), 60)  # it tells its address before it listens
        yield re.sub(r"00_start\.ipynb", "{}.ipynb", told.split()[1])
    finally:
        server.terminate()
        server.communicate(timeout=30)


def listens(port: int) -> bool:
    """Whether somebody answers on a port of this machine."""
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def write_notebook(path: Path) -> None:
    """The first cells of notebook 00, its exercise, and our own."""
    book = json.loads((ROOT / "notebooks" / "00_start.ipynb").read_text(encoding="utf-8"))
    wanted = ("c002", "c008", "c010", "c032", "c033")
    cells = [cell for cell in book["cells"] if cell["id"] in wanted]
    own = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    book["cells"] = [*cells, *(own | {"id": name, "source": source} for name, source in OWN_CELLS.items())]
    path.write_text(json.dumps(book), encoding="utf-8")
