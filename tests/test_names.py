"""A public name stands once in helpers: whoever reads it knows which one is meant."""

import ast
from collections import defaultdict
from pathlib import Path

from helpers.data import ROOT

#: What every engine's module defines, for `open_chat`, and what `python -m` calls.
CONVENTIONS = {"Engine", "main"}


def public_names(path: Path) -> list[str]:
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def twice(folder: Path) -> dict[str, list[str]]:
    where = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for name in public_names(path):
            where[name].append(path.relative_to(folder).as_posix())
    return {name: found for name, found in where.items() if len(found) > 1 and name not in CONVENTIONS}


def test_every_public_name_stands_once():
    assert twice(ROOT / "helpers") == {}


def test_a_name_that_stands_twice_is_found(tmp_path):
    (tmp_path / "one.py").write_text("def table(): ...\n")
    (tmp_path / "two.py").write_text("class Other: ...\ntable = {}\n")
    assert twice(tmp_path) == {"table": ["one.py", "two.py"]}
