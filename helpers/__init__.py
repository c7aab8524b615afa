"""Helpers for a course on small language models: a small front that every notebook uses, and a room for each topic.

    the front     chat, catalog, records, errors, machine, data, settings, images, words, measure, intervals, scoring,
                  anatomy, plots, checks, doctor
    models/       where weights come from and what they become
    backends/     one file for each engine here, and for each SDK that reaches a provider
    server/       the OpenAI-compatible server
    making/       notebook 02     instruct/  03     vision/   04     experts/  05     agents/  05
    cloud/        notebook 06     engines/   07     reasoning/ 08     assistant/ 09
    classroom/    for instructors: a class on one machine, its exercises collected and graded
    course/       how notebooks are executed, stored and cleaned: not for learners

Which room may import which stands in pyproject.toml, and import-linter holds it. The names below come from the front,
so that a notebook writes `from helpers import open_chat, plots`. Importing this package imports no engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.catalog import card as card
    from helpers.catalog import cards as cards
    from helpers.chat import open_chat as open_chat
    from helpers.checks import check as check
    from helpers.checks import quiz as quiz
    from helpers.errors import CourseError as CourseError
    from helpers.intervals import Mean as Mean
    from helpers.intervals import Rate as Rate
    from helpers.intervals import Spread as Spread
    from helpers.measure import compare as compare
    from helpers.models.fetching import rungs as rungs
    from helpers.records import Sampling as Sampling
    from helpers.records import Turn as Turn

#: What the front hands on, and the module that it stands in. Each is imported when it is first asked for.
_FRONT = {
    "open_chat": "chat",
    "card": "catalog",
    "cards": "catalog",
    "check": "checks",
    "quiz": "checks",
    "compare": "measure",
    "CourseError": "errors",
    "Mean": "intervals",
    "Rate": "intervals",
    "Spread": "intervals",
    "rungs": "models.fetching",
    "Sampling": "records",
    "Turn": "records",
}


def __getattr__(name: str) -> Any:
    if name not in _FRONT:
        raise AttributeError(f"helpers has no {name!r}; it hands on {', '.join(_FRONT)}.")
    return getattr(import_module(f"helpers.{_FRONT[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRONT})
