"""The drawing of fusion leads each passage from both lists to its place in the fused one."""

from __future__ import annotations

from matplotlib.text import Annotation

from helpers.assistant.documents import Passage
from helpers.assistant.drawings import draw_fusion
from helpers.assistant.index import Hit


def test_each_passage_of_the_fused_list_has_its_arrows():
    a, b, c = (Hit(Passage(name, f"{name}.md", f"A long heading of the page {name}"), 0.0) for name in "abc")
    ax = draw_fusion([a, b], [c, a], [a, c])
    assert [text.get_text() for text in ax.texts if text.get_text().startswith("by")] == ["by words", "by meaning"]
    arrows = [text for text in ax.texts if isinstance(text, Annotation)]
    assert len(arrows) == 3  # a twice, c once; b is not in the fused list
    assert any("…" in text.get_text() for text in ax.texts)
