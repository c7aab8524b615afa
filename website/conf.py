"""Sphinx's settings for the course's site; build.py gives the language and the folders."""

from __future__ import annotations

import html
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

project = author = "Small language models, hands on"
project_copyright = "the course's authors; code under MIT"
language = os.environ.get("COURSE_LANGUAGE", "en")
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
suppress_warnings = [
    "myst.header",  # a notebook goes from its title to small headings
    "misc.highlighting_failure",
]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
mathjax_path = "vendor/tex-svg.js"

#: OWNER/NAME on GitHub, where the build knows it.
REPOSITORY = os.environ.get("COURSE_REPOSITORY", "")
LANGUAGES = json.loads(os.environ.get("COURSE_LANGUAGES", '{"en": "English"}'))

html_theme = "sphinx_book_theme"
html_title = os.environ.get("COURSE_TITLE", project)
html_static_path = [str(HERE / "static"), *filter(None, [os.environ.get("COURSE_VENDOR")])]
templates_path = [str(HERE / "templates")]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navbar_persistent": [],
    "article_header_end": ["language.html", "codespaces.html", "article-header-buttons.html"],
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_favicon = str(HERE / "static" / "icon.svg")
html_context = {"languages": LANGUAGES, "repository": REPOSITORY, "default_mode": "auto"}
copybutton_exclude = ".linenos, .gp, .go"
linkcheck_timeout = 20
linkcheck_anchors = False


class Mermaid(Directive):
    """A diagram, drawn in the browser; for those who cannot see it, its labels."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The diagram's text, as HTML that course.js draws."""
        text = "\n".join(self.content)
        labels = re.findall(r'"([^"]+)"|\|([^|]+)\|', text)
        told = ", ".join(re.sub(r"<br/?>|\s+", " ", one or other) for one, other in labels)
        attributes = f'class="mermaid" role="img" aria-label="{html.escape(told, quote=True)}"'
        return [nodes.raw("", f"<pre {attributes}>{html.escape(text)}</pre>", format="html")]


def glossary_terms(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Each form of a term → where its explanation stands in the glossary, and how that begins."""
    terms = {}
    for section in app.env.get_doctree("glossary").findall(nodes.section):
        title, paragraph = section.next_node(nodes.title), section.next_node(nodes.paragraph)
        if title and paragraph and section.parent and isinstance(section.parent, nodes.section):
            for form in title.astext().split(" · "):
                terms[form.lower()] = (section["ids"][0], paragraph.astext())
    return terms


def link_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Links each term of the glossary where a page first uses it."""
    if not docname.startswith(("lessons/", "notebooks/")) or app.builder.format != "html":
        return
    terms = glossary_terms(app)
    pattern = re.compile(
        rf"(?<![\w-])({'|'.join(sorted(map(re.escape, terms), key=len, reverse=True))})(?![\w-])", re.I
    )
    base, done = app.builder.get_relative_uri(docname, "glossary"), set()
    for text in list(doctree.findall(nodes.Text)):
        if is_plain(text):
            parts = linked(text.astext(), pattern, terms, base, done)
            if len(parts) > 1:
                text.parent.replace(text, parts)


def linked(text: str, pattern: Any, terms: dict[str, Any], base: str, done: set[str]) -> list[nodes.Node]:
    """A text in parts, with a link for each term that was not linked before."""
    parts, last = [], 0
    for match in pattern.finditer(text):
        anchor, told = terms[match[1].lower()]
        if anchor not in done:
            done.add(anchor)
            parts += [nodes.Text(text[last : match.start()])]
            link = nodes.reference("", match[1], internal=True, refuri=f"{base}#{anchor}", classes=["term"])
            link["reftitle"] = told
            parts, last = [*parts, link], match.end()
    return [*parts, nodes.Text(text[last:])]


def is_plain(text: nodes.Text) -> bool:
    """Whether a text is running text: no code, no link, no heading, nothing that a cell printed."""
    around, node = set(), text.parent
    while node is not None:
        around.add(type(node))
        if "cell_output" in node.get("classes", ()):
            return False
        node = node.parent
    return nodes.paragraph in around and not around & {
        nodes.reference,
        nodes.literal,
        nodes.title,
        nodes.math,
        nodes.raw,
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds diagrams and the glossary's links."""
    app.add_directive("mermaid", Mermaid)
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
