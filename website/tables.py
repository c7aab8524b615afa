"""Pages that are made from data: the catalog of models, stored results, and the helpers' front from its docstrings."""

from __future__ import annotations

import ast
import html
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.ladder_table import markdown as ladder_markdown
from helpers import catalog
from helpers.data import ROOT, stored
from helpers.intervals import Rate

Say = Callable[[str], str]
#: The modules that every notebook may use, in the order of helpers/__init__.py.
FRONT = ("chat", "catalog", "records", "errors", "machine", "data", "images", "measure", "intervals", "scoring")
FRONT += ("anatomy", "plots", "checks", "doctor")


def models(say: Say) -> str:
    """The catalog as a table that sorts."""
    heads = {"model": "Model", "family": "Family", "released": "Released", "parameters": "Parameters, billions"}
    heads |= {"active_parameters": "Active, billions", "context": "Context, tokens", "licence": "Licence"}
    heads |= {"modalities": "Takes", "basis": "Count is", "source": "Source"}
    rows = []
    for row in catalog.table():
        cells = [(row[name], _shown(name, row[name])) for name in heads]
        fields = [f'<td data-value="{html.escape(str(v or 0))}">{html.escape(shown)}</td>' for v, shown in cells]
        rows.append(f'<tr><th scope="row">{html.escape(cells[0][1])}</th>{"".join(fields[1:])}</tr>')
    head = "".join(f'<th scope="col">{html.escape(say(text))}</th>' for text in heads.values())
    table = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    label = html.escape(say("All models of the catalog"))
    return f'<div class="wide" role="region" tabindex="0" aria-label="{label}">{table}</div>'


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9:.3g}" if name.endswith("parameters") else f"{value:,}" if name == "context" else str(value)


def ladder(say: Say) -> str:
    """What size buys: the stored ladder's tables."""
    return ladder_markdown(stored("ladder"))


def reasoning(say: Say) -> str:
    """What thinking longer buys: the stored greedy answers to sums in words."""
    answered = stored("reasoning_08")["rows"]
    first = [row for row in answered if not row["sample"] and row["seed"] == answered[0]["seed"]]
    rungs, ways = (list(dict.fromkeys(row[name] for row in first)) for name in ("model", "way"))
    rows = [
        [way, *(_rate([r["right"] for r in first if (r["model"], r["way"]) == (rung, way)]) for rung in rungs)]
        for way in ways
    ]
    return _table([say("Way to ask"), *rungs], rows)


def speculation(say: Say) -> str:
    """What drafting buys: the stored rates."""
    heads = {"text": "Text", "by": "Drafts by", "drafted": "Drafted at once", "accepted": "Share kept"}
    heads |= {"tokens_per_second": "Tokens a second", "tokens_per_step": "Tokens a step"}
    return _table(map(say, heads.values()), [[row[name] for name in heads] for row in stored("speculation_07")["rows"]])


def roads(say: Say) -> str:
    """The forms in which engines open a model, with what making one took."""
    heads = {"engine": "Engine", "precision": "Precision", "disk_mb": "On disk, MB"}
    heads |= {"making_seconds": "Seconds to make", "making_gib": "Memory to make it, GiB", "perplexity": "Perplexity"}
    rows = [
        [card.title, *(road.get(name) for name in heads)]
        for card in catalog.cards()
        for road in catalog.roads(card.name)
    ]
    return _table([say("Model"), *map(say, heads.values())], rows)


def _rate(right: Iterable[bool]) -> str:
    values = [bool(one) for one in right]
    return str(Rate.of(values)) if values else "–"


def _table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    heads = [str(head).replace("_", " ") for head in heads]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join('–' if cell is None else str(cell) for cell in line)} |" for line in lines)


MADE: dict[str, Callable[[Say], str]] = {
    "models": models,
    "ladder": ladder,
    "reasoning": reasoning,
    "speculation": speculation,
    "roads": roads,
}


# The helpers' front


def api_pages() -> dict[str, str]:
    """A page for each module of the front: what it says of itself and of each public name."""
    return {name: api_page(name, (ROOT / "helpers" / f"{name}.py").read_text(encoding="utf-8")) for name in FRONT}


def api_page(name: str, source: str) -> str:
    """A module's page, as Markdown."""
    tree = ast.parse(source)
    parts = [f"# `helpers.{name}`", *described(tree)]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            parts += [f"## `{node.name}`", _signature(node), *described(node)]
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if (
                    isinstance(method, ast.FunctionDef)
                    and not method.name.startswith("_")
                    and ast.get_docstring(method)
                ):
                    parts += [f"### `{node.name}.{method.name}`", _signature(method), *described(method)]
    return "\n\n".join(parts) + "\n"


def described(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> list[str]:
    """A docstring as Markdown: examples and drawings as code."""
    text = ast.get_docstring(node)
    if not text:
        return []
    blocks = re.split(r"\n\s*\n", text)
    return [_block(block) for block in blocks]


def _block(block: str) -> str:
    lines = block.split("\n")
    if lines[0].lstrip().startswith(">>>"):
        return "```pycon\n" + block.replace("<BLANKLINE>", "") + "\n```"
    if re.match(r"[├└│]|.*\n[├└│]", block) or all(line.startswith("    ") for line in lines):
        return f"```text\n{textwrap.dedent(block)}\n```"
    return block.replace("<", "&lt;") if "`" not in block else block


def _signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        fields = [ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign)]
        shown = [line for line in fields if not line.startswith("_")]
        head = f"class {node.name}({', '.join(map(ast.unparse, node.bases))})".replace("()", "")
        return "```python\n" + "\n    ".join([head + (":" if shown else ""), *shown]) + "\n```"
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    one_line = f"{node.name}({ast.unparse(node.args)}){returned}"
    if len(one_line) > 88:
        one_line = (
            f"{node.name}(\n    "
            + re.sub(r", (?=\*?\w+(?::|=|,|$))", ",\n    ", ast.unparse(node.args))
            + f"\n){returned}"
        )
    return f"```python\n{one_line}\n```"
