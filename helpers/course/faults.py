"""The table of faults that the course survives: `python -m helpers.course.faults` writes docs/faults.md.

A test whose subject is such a fault is marked `@pytest.mark.fault("set-up")`, by where the fault comes from. Its name
is the sentence, so the table says what is tested and nothing else.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from helpers.data import ROOT

FAULTS = ROOT / "docs" / "faults.md"
#: Names that a test's own name cannot write.
PROPER = {
    **{name.lower(): name for name in ("JSON", "TLS", "HEIC", "EXIF", "GGUF", "ASCII", "Python", "Ollama", "Windows")},
    **{"powershell": "PowerShell", "jupyterlab": "JupyterLab", "dotenv": ".env", "pips": "pip's", "gpt 2": "GPT-2"},
}
PREFACE = """# Faults that the course survives

What goes wrong on other people's machines, in networks, in files and in what models write, {count} by name. Each line
is the name of a test that runs with `python3 course.py test --nightly`, most of them with `course.py test` too;
`python -m helpers.course.faults` writes this table from them.
"""


def survived(tests: Path = ROOT / "tests") -> dict[str, list[tuple[str, str]]]:
    """For each source of faults the marked tests as (sentence, file), in the files' order."""
    found = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for area in _areas(node):
                found[area].append((_sentence(node), path.relative_to(tests).as_posix()))
    return dict(sorted(found.items()))


def faults_page(tests: Path = ROOT / "tests") -> str:
    """The whole page, as Markdown."""
    areas = survived(tests)
    page = PREFACE.format(count=sum(map(len, areas.values())))
    for area, rows in areas.items():
        lines = [f"| {sentence} | [{file}](../tests/{file}) |" for sentence, file in rows]
        page += "\n".join(["", f"## {area[0].upper()}{area[1:]}", "", "| Fault | Test |", "|---|---|", *lines, ""])
    return page


def _sentence(test: ast.stmt) -> str:
    words = getattr(test, "name", "").removeprefix("test_").replace("_", " ")
    for written, name in PROPER.items():
        words = re.sub(rf"\b{written}\b", name, words)
    return str(words[0].upper() + words[1:])


def _areas(node: ast.stmt) -> list[str]:
    if not isinstance(node, ast.FunctionDef):
        return []
    calls = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
    return [str(ast.literal_eval(call.args[0])) for call in calls if ast.unparse(call.func) == "pytest.mark.fault"]


if __name__ == "__main__":
    FAULTS.write_text(faults_page(), encoding="utf-8")
