"""Where a page's translation lies, and its links as they lead from there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

LINK = re.compile(
    r"(?P<code>```.*?```|(?P<tick>`+)[^\n]*?(?P=tick))|(?P<before>\]\(<?)(?P<target>[^)>\s]+)"
    r"|(?P<attribute>(?:src|href)=[\"'])(?P<named>[^\"']+)",
    re.DOTALL,
)


def target_of(path: Path, language: str, root: Path) -> Path:
    """Where a page's translation is written: README.sv.md, and a folder of the language for all others."""
    if path.parent == root:
        return path.with_suffix(f".{language}{path.suffix}")
    return path.parent / language / path.name


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def relinked(
    text: str,
    path: Path,
    where: Callable[[Path], Path],
    pages: Iterable[Path],
    anchored: Callable[[Path], dict[str, str]],
) -> str:
    """The text of a page with its relative links as they lead from `where` it goes to where the other pages go."""
    here, known = where(path).parent, set(pages)

    def follow(match: re.Match[str]) -> str:
        target = match["target"] or match["named"]
        if match["code"] or re.match(r"[a-z]+:", target):
            return match[0]
        name, mark, anchor = target.partition("#")
        meant = Path(os.path.normpath(path.parent / name)) if name else path
        anchor = anchored(meant).get(anchor, anchor) if anchor else ""
        if meant in known:
            meant = where(meant)
        relative = os.path.relpath(meant, here).replace(os.sep, "/") if name else ""
        return f"{match['before'] or match['attribute']}{relative}{mark}{anchor}"

    return LINK.sub(follow, text)
