"""What a page says, as messages to translate, and the page once more with their translations.

A message is one heading, paragraph, list, table, drawing or picture's description; in code, where nothing else is ever
translated, one comment, docstring or printed sentence. What comes before and after a message stays to the letter.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token
from nbformat import NotebookNode

#: A string or a comment of Python; the f-strings of Python 3.11, where a quote never stands within its own kind.
LITERAL = re.compile(
    r"""[rbfuRBFU]{0,2}(?P<quote>\"\"\"|'''|"|')(?P<body>(?:\\.|(?!(?P=quote)).)*)(?P=quote)|(?P<comment>\#[^\n]*)""",
    re.DOTALL,
)
#: What an f-string computes.
PLACEHOLDER = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}")
#: Comments that speak to a tool.
DIRECTIVE = re.compile(r"noqa\b|type: |fmt: |%%")
KINDS = {"paragraph_open": "paragraph", "table_open": "table", "html_block": "html", "blockquote_open": "paragraph"}
KINDS |= {"bullet_list_open": "list", "ordered_list_open": "list"}


@dataclass(frozen=True)
class PageMessage:
    """One thing that a page says: where (a cell's id or a heading), what kind of thing, and its text."""

    context: str
    kind: str
    english: str


@dataclass(frozen=True)
class MessagePlace:
    """A message's place in its source, and how its translation is written there."""

    start: int
    end: int
    message: PageMessage
    write: Callable[[str], str] = str


Say = Callable[[PageMessage], str]


def replaced(text: str, pieces: list[MessagePlace], say: Say) -> str:
    """The text with each piece said anew."""
    parts, done = [], 0
    for piece in sorted(pieces, key=lambda piece: piece.start):
        parts += [text[done : piece.start], piece.write(say(piece.message))]
        done = piece.end
    return "".join([*parts, text[done:]])


def has_words(text: str) -> bool:
    """Whether something is left to translate beside code, addresses and tags."""
    bare = re.sub(r"`[^`\n]*`|<[^>]+>|\]\([^)]*\)", "", text)
    return bool(re.search(r"[^\W\d_]{2,}", bare))


# Markdown


@cache  # a page is asked for its messages several times: for its store, and for each page that says it anew
def markdown_pieces(text: str, place: str, *, sections: bool = False) -> list[MessagePlace]:
    """The messages of a Markdown text; with `sections` the context is its own heading beside `place`."""
    lines = text.splitlines(keepends=True)
    offsets = [0, *accumulate(map(len, lines))]
    context, found = place, []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.level or not token.map:
            continue
        first, last = token.map
        while last > first and not lines[last - 1].strip():  # a list takes the empty line behind it
            last -= 1
        block = "".join(lines[first:last]).rstrip("\n")
        if sections and token.type == "heading_open":
            context = f"{place} · {block.lstrip('# ')}"
        found += block_pieces(token, block, offsets[first], context)
    return found


def block_pieces(token: Token, block: str, start: int, context: str) -> list[MessagePlace]:
    """The messages of one block."""
    if token.type == "heading_open":
        marks = re.match(r"#+\s+", block)
        skipped = marks.end() if marks else 0
        return _piece(block[skipped:], start + skipped, context, "heading")
    if token.type == "fence":
        return fence_pieces(token.info.strip(), block, start, context)
    if token.type == "paragraph_open" and not re.search(r"(?m)( {2}|\\)$", block):
        # As one line: how a paragraph is wrapped is no part of what it says.
        message = PageMessage(context, "paragraph", " ".join(block.split()))
        return [MessagePlace(start, start + len(block), message)] if has_words(block) else []
    return _piece(block, start, context, KINDS[token.type]) if token.type in KINDS else []


def fence_pieces(language: str, block: str, start: int, context: str) -> list[MessagePlace]:
    """The messages of a fenced block: a drawing is one; in code they are its comments and printed sentences."""
    opening, _, rest = block.partition("\n")
    body, start = rest.rpartition("\n")[0], start + len(opening) + 1
    if language in ("", "text", "mermaid"):
        return _piece(body, start, context, "drawing") if re.search(r"[^\W\d_]{4,}", body) else []
    if language == "python":
        return [_moved(piece, start) for piece in code_pieces(body, context)]
    comments = [(m.start(), m[0]) for m in re.finditer(r"(?m)(?<=\s)#.*$|^#.*$", body) if language in ("bash", "sh")]
    return [_comment(text, start + at, context) for at, text in comments if has_words(text)]


def _piece(text: str, start: int, context: str, kind: str) -> list[MessagePlace]:
    return [MessagePlace(start, start + len(text), PageMessage(context, kind, text))] if has_words(text) else []


def _moved(piece: MessagePlace, by: int) -> MessagePlace:
    return MessagePlace(piece.start + by, piece.end + by, piece.message, piece.write)


def _comment(text: str, start: int, context: str) -> MessagePlace:
    return MessagePlace(
        start, start + len(text), PageMessage(context, "comment", text.lstrip("# ")), lambda said: f"# {said}"
    )


# Code


@cache
def code_pieces(source: str, context: str) -> list[MessagePlace]:
    """The comments, docstrings and printed sentences of Python; of what Python cannot read, the comments."""
    spans, found, done = spoken(source), [], 0
    for match in LITERAL.finditer(source):
        if match.start() < done:
            continue
        if match["comment"]:
            piece = comment_block(source, match.start(), context)
            done = piece.end
            fine = has_words(piece.message.english) and not DIRECTIVE.match(piece.message.english)
            found += [piece] if fine else []
        elif any(start <= match.start() < end for start, end in spans) and has_words(
            PLACEHOLDER.sub("", match["body"])
        ):
            found.append(MessagePlace(*match.span("body"), PageMessage(context, "printed", match["body"])))
    return found


def comment_block(source: str, start: int, context: str) -> MessagePlace:
    """The comment that starts here, with the lines of comment below it if it has its line for itself."""
    line_start = source.rfind("\n", 0, start) + 1
    indent = source[line_start:start]
    end = source.find("\n", start) % (len(source) + 1)
    if indent.strip():
        return _comment(source[start:end], start, context)
    while re.match(rf"\n{indent}#", source[end:]):
        end = source.find("\n", end + 1) % (len(source) + 1)
    lines = [line.strip().removeprefix("#").removeprefix(" ") for line in source[start:end].split("\n")]
    message = PageMessage(context, "comment", "\n".join(lines))
    return MessagePlace(start, end, message, lambda said: f"\n{indent}".join(f"# {line}" for line in said.split("\n")))


def spoken(source: str) -> list[tuple[int, int]]:
    """Where literals stand that a reader sees: what is printed, what an assertion says, docstrings."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    starts = [0, *accumulate(len(line.encode()) for line in source.splitlines(keepends=True))]
    nodes = [literal for node in ast.walk(tree) for literal in _literals(node)]
    raw = source.encode()  # positions in a tree count bytes
    spans = []
    for node in nodes:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        spans.append((len(raw[:start].decode()), len(raw[:end].decode())))
    return spans


def _literals(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
        for argument in node.args:
            yield from _strings(argument)
    elif isinstance(node, ast.Assert) and node.msg:
        yield from _strings(node.msg)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr):
        yield from _strings(node.body[0].value)


def _strings(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node
    elif isinstance(node, ast.BinOp):
        yield from [*_strings(node.left), *_strings(node.right)]
    elif isinstance(node, ast.IfExp):
        yield from [*_strings(node.body), *_strings(node.orelse)]


def code_alone(source: str) -> str:
    """Code without what may be translated in it: two cells that do the same have the same."""
    return replaced(source, [MessagePlace(p.start, p.end, p.message) for p in code_pieces(source, "")], lambda _: "…")


# Notebooks


def notebook_said(notebook: NotebookNode, say: Say) -> None:
    """Says a notebook's cells and pictures anew, in place; its outputs stay as they are stored."""
    for cell in notebook.cells:
        context = f"notebook · {cell.id}"
        find = markdown_pieces if cell.cell_type == "markdown" else code_pieces
        cell.source = replaced(cell.source, find(cell.source, context), say)
        if alt := cell.metadata.get("alt"):
            cell.metadata.alt = say(PageMessage(context, "alt", alt))
            for output in cell.outputs:
                if picture := output.get("metadata", {}).get("image/png"):
                    picture["alt"] = cell.metadata.alt
