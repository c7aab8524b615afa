"""What a built site must not do: reach outside by itself, link to what is not there, show a picture without words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

#: Attributes that a browser follows by itself.
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}
OUTSIDE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
#: Kinds of <link> that name an address and load nothing.
NAMES_ONLY = {"canonical", "alternate", "author", "license"}

#: What tells a picture is a sentence, not a title.
FEWEST_WORDS = 6


class PageReader(HTMLParser):
    """What one page loads, links to, and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes down what a tag loads, links to or names."""
        given = {name: value or "" for name, value in attrs}
        if tag == "img" and len(given.get("alt", "").split()) < FEWEST_WORDS:
            self.silent.append(given.get("src", ""))
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name, value in given.items():
            if (tag, name) in LOADED and given.get("rel") not in NAMES_ONLY:
                self.loads.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def faults(site: Path) -> list[str]:
    """What is wrong in a built site, one sentence each; empty where nothing is."""
    pages = {
        path: PageReader(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    found = [f"{path.relative_to(site)} loads {load}" for path, page in pages.items() for load in outside(page)]
    found += [
        f"{path.relative_to(site)} loads by its style {load}" for path in site.rglob("*.css") for load in styles(path)
    ]
    found += [
        f"{path.relative_to(site)} shows {one} without words" for path, page in pages.items() for one in page.silent
    ]
    return found + [f"{path.relative_to(site)} links to {link}" for path in pages for link in broken(path, pages)]


def outside(page: PageReader) -> list[str]:
    """What a page would load from elsewhere."""
    return [load for load in page.loads if OUTSIDE.match(load)]


def styles(path: Path) -> list[str]:
    """What a style sheet would load from elsewhere."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    loads = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", text)
    return [one or other for one, other in loads if OUTSIDE.match(one or other)]


def broken(path: Path, pages: dict[Path, PageReader]) -> Iterator[str]:
    """The links of a page into the site that lead nowhere."""
    for link in dict.fromkeys([*pages[path].links, *pages[path].loads]):
        if re.match(r"[a-z][a-z+.-]*:|//", link, re.IGNORECASE):
            continue
        name, anchor = urldefrag(link)
        target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
        there = target in pages or target.is_file()
        if not there or (anchor and target in pages and unquote(anchor) not in pages[target].anchors):
            yield link
