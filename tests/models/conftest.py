"""A machine with an empty cache, a pip of our own, and neither mirror nor hub: where every test of fetching starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import pip_stand_in
from file_server import Files, serving
from helpers import catalog
from helpers.records import ModelCard
from model_stand_ins import in_parts


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that our pip finds everything in."""
    package = tmp_path / "path" / "pip"
    package.mkdir(parents=True)
    shutil.copy(pip_stand_in.__file__, package / "__main__.py")
    (package / "__init__.py").touch()
    (tmp_path / "log").touch()
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(package.parent), *os.environ.get("PYTHONPATH", "").split(":")])
    )
    monkeypatch.setenv("SHOP", str(tmp_path / "shop"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SLM_MIRROR", raising=False)
    return tmp_path / "shop"


@pytest.fixture
def parts(shop: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """A model whose only file lies in three wheels; the catalog has no other."""
    made = in_parts(shop)
    monkeypatch.setattr(catalog, "_all_cards", lambda: (made,))
    monkeypatch.setattr(catalog, "_by_name", lambda: {made.name: made})
    return made


@pytest.fixture
def files() -> Iterator[Files]:
    """A web server on loopback that has nothing yet."""
    with serving(Files()) as running:
        yield running


@pytest.fixture
def hub(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """The same server as the hub, whose cache is empty."""
    monkeypatch.setenv("HF_ENDPOINT", files.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return files
