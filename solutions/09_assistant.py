"""Solutions of notebook 09, one function an exercise, named as in the notebook."""

from __future__ import annotations

import re
from collections.abc import Sequence


def recall_at(ranks: Sequence[int | None], k: int) -> float:
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks) if ranks else 0


def numbers_from_nowhere(answer: str, passages: Sequence[str]) -> list[str]:
    number = re.compile(r"\d+(?:\.\d+)?")
    known = {found for passage in passages for found in number.findall(passage)}
    return [found for found in number.findall(answer) if found not in known]


def foreign_hosts(text: str, own: str) -> list[str]:
    hosts = re.findall(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", text.lower())
    return [host for host in hosts if host != own and not host.endswith(f".{own}")]
