"""Where weights come from and what they become: sources, files, conversion, templates, a learner's own folder.

`models.embed(texts)` turns texts into vectors; it is imported when it is first asked for, since it brings an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.models.embeddings import embed as embed


def __getattr__(name: str) -> Any:
    if name != "embed":
        raise AttributeError(f"helpers.models has no {name!r}")
    from helpers.models.embeddings import embed

    return embed
