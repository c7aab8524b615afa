"""A run of notebook 06 with keys set: none of them is in its outputs, its logs or its caches afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

from helpers import catalog
from helpers.backends import providers
from helpers.course import execute
from helpers.models import sources

NOTEBOOK = Path(execute.NOTEBOOKS) / "06_cloud_vs_local.ipynb"
#: The part that measures many users says nothing of keys and takes half of the time.
LAST_PART = "## 6."


def shortened(folder: Path) -> Path:
    """The notebook up to its last part, in a folder beside one with the files that it links to."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    end = next(n for n, cell in enumerate(notebook.cells) if cell.source.startswith(LAST_PART))
    notebook.cells = notebook.cells[:end]
    copy = folder / NOTEBOOK.name
    nbformat.write(notebook, copy)
    return copy


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_planted_keys_are_found_nowhere_after_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = {row.key_variable: f"planted-{row.name}-0123456789" for row in providers.providers() if row.key_variable}
    planted.pop("SLM_LOCAL_KEY")
    for variable, key in planted.items():
        monkeypatch.setenv(variable, key)
    # Addresses at which nobody answers: the keys must go nowhere else.
    for variable in ("NVIDIA_NIM_ADDRESS", "AZURE_OPENAI_ENDPOINT", "AZURE_INFERENCE_ENDPOINT"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/v1")
    model = sources.gguf(catalog.card("smollm2-135m"))
    home = tmp_path / "home"
    home.mkdir()
    os.link(model, home / model.name)
    for variable in ("SLM_HOME", "HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.setenv("PYTHONPATH", str(execute.ROOT))
    monkeypatch.setenv("OPENAI_LOG", "debug")
    result = execute.execute(shortened(tmp_path))
    assert result.failure == ""
    execute.keep(result, tmp_path / "build")
    written = [file for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.suffix == ".html" for file in written)
    found = {
        (file.name, name) for file in written for name, key in planted.items() if key.encode() in file.read_bytes()
    }
    assert found == set()
