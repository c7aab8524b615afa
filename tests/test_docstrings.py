"""What an example in a docstring says is what comes out."""

from __future__ import annotations

import doctest
import importlib

import pytest

from helpers.data import ROOT

FILES = [path for path in sorted((ROOT / "helpers").rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    done = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert (done.failed, done.attempted > 0) == (0, True)
