"""The models that the course speaks of, in one table: `card("phi-3.5-mini")`, `cards()`.

The table is data: `models.toml` beside this file, and `models/sources.toml` for the files that the course fetches
itself. Every number says where it comes from: a count of basis `computed` follows from the model's config.json to the
digit, `published` is the publisher's word, `estimate` is nobody's. A hub repository carries the revision that the
course was written against where one is known; where `hub.revision` is None, the commit that the download resolves to
is the one to record.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from helpers.errors import UnknownModel
from helpers.intervals import Rate
from helpers.records import HubFiles, ModelCard, ModelFile, PinnedFiles, Score, Shape, Wheel

#: A weight takes two bytes in bf16, the format that hubs keep these models in.
HUB_BYTES_PER_PARAMETER = 2


def card(name: str) -> ModelCard:
    """The card of one model, by its short name, its title or its hub repository, in any case.

    >>> card("microsoft/Phi-3.5-mini-instruct")
    ModelCard('phi-3.5-mini', 3,821,079,552 parameters, computed)
    """
    found = _by_name().get(name.strip().lower())
    if found is None:
        raise _unknown(name)
    return found


def cards() -> list[ModelCard]:
    """Every card, in the order of the table.

    >>> [c.name for c in cards() if c.family == "Mistral"]
    ['mistral-7b']
    """
    return list(_all_cards())


def table(chosen: Iterable[ModelCard] | None = None) -> list[dict[str, Any]]:
    """One row a card, ready for `pandas.DataFrame`; `download_gib` is what the hub would send, in GiB."""
    return [
        {
            "model": c.name,
            "family": c.family,
            "released": c.released,
            "parameters": c.parameters,
            "active_parameters": c.active_parameters,
            "basis": c.basis,
            "context": c.shape.context if c.shape else None,
            "modalities": ", ".join(c.modalities),
            "licence": c.licence,
            "download_gib": round(c.hub.download_bytes / 2**30, 1) if c.hub and c.hub.download_bytes else None,
            "source": c.source,
        }
        for c in (_all_cards() if chosen is None else chosen)
    ]


def score_table(benchmark: str | None = None, harness: str | None = None) -> list[dict[str, Any]]:
    """Published scores as tidy rows, of the catalog's models and of two whose size nobody knows.

    `percent` has a 95 % interval from `low` to `high` (Wilson 1927) that follows from the number of questions.
    It says how much another draw of questions would change the score, not how much another harness would:
    compare rows of one `harness` only. `parameters` is None where no size is known.

    >>> [r["title"] for r in score_table("MMLU", "Phi-4-mini card")]
    ['Phi-3.5-mini', 'Phi-4-mini']
    """
    data, rows = _data(), []
    sized = {c.name: c.parameters for c in _all_cards()}
    for model in [*data["models"], *data["quoted"]]:
        for score in _scores(model):
            if benchmark in (None, score.benchmark) and harness in (None, score.harness):
                low, high = _interval(score.percent, data["benchmarks"][score.benchmark]["questions"])
                rows.append(
                    {
                        "model": model["name"],
                        "title": model["title"],
                        "family": model["family"],
                        "parameters": sized.get(model["name"]),
                        "benchmark": score.benchmark,
                        "percent": score.percent,
                        "low": low,
                        "high": high,
                        "setting": score.setting,
                        "harness": score.harness,
                        "source": score.source,
                    }
                )
    return rows


def training_tokens(name: str) -> tuple[int, str] | None:
    """How many tokens a model was trained on and who says so, or None where that is not published."""
    wanted = card(name).name
    training = next(m for m in _data()["models"] if m["name"] == wanted).get("training")
    return (training["tokens"], training["source"]) if training else None


def roads(name: str) -> list[dict[str, Any]]:
    """The forms in which engines here open a model, ready for `pandas.DataFrame`; no row where none was tried.

    `making_seconds` and `making_gib` are what it takes to make the form once, `disk_mb` what it takes of disk in 10⁶
    bytes, `perplexity` that of the course's fixed text: the nearer to the first row's, the less was lost on the way.

    >>> [row["engine"] for row in roads("qwen2.5-coder-0.5b") if row["precision"] == "int8"]
    ['onnx-genai']
    """
    wanted = card(name).name
    return [dict(row) for row in next(m for m in _data()["models"] if m["name"] == wanted).get("roads", ())]


def _data() -> dict[str, Any]:
    return _toml("models.toml")


@cache
def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


@cache
def _all_cards() -> tuple[ModelCard, ...]:
    return tuple(_card(entry) for entry in _data()["models"])


@cache
def _by_name() -> dict[str, ModelCard]:
    names: dict[str, ModelCard] = {}
    for c in _all_cards():
        hubs = [hub.repo for hub in (c.hub, c.pinned.hub if c.pinned else None) if hub]
        for known in (c.name, c.title, *hubs):
            names[known.lower()] = c
    return names


def _card(entry: dict[str, Any]) -> ModelCard:
    values = {"active_parameters": entry["parameters"], **entry, "scores": _scores(entry)}
    for aside in ("training", "roads"):
        values.pop(aside, None)
    values["modalities"] = tuple(entry.get("modalities", ("text",)))
    if "shape" in entry:
        values["shape"] = Shape(**entry["shape"])
    if "hub" in entry:
        size = entry["parameters"] * HUB_BYTES_PER_PARAMETER
        values["hub"] = HubFiles(**{"download_bytes": size, **entry["hub"]})
    if sources := _toml("models/sources.toml").get(entry["name"]):
        values["pinned"] = _pinned(sources)
    return ModelCard(**values)


def _pinned(entry: dict[str, Any]) -> PinnedFiles:
    files = tuple(ModelFile(**file) for file in entry["files"])
    hub = HubFiles(**entry["hub"], download_bytes=sum(file.bytes for file in files)) if "hub" in entry else None
    return PinnedFiles(files, tuple(Wheel(**wheel) for wheel in entry.get("wheels", ())), hub)


def _scores(entry: dict[str, Any]) -> tuple[Score, ...]:
    harnesses = _data()["harnesses"]
    return tuple(
        Score(benchmark, percent, setting, harnesses[key]["title"], harnesses[key]["source"])
        for benchmark, percent, setting, key in entry.get("scores", ())
    )


def _unknown(name: str) -> UnknownModel:
    near = get_close_matches(name.strip().lower(), _by_name(), n=6, cutoff=0.5)
    names = list(dict.fromkeys(_by_name()[n].name for n in near))[:3]
    nearest = f" The nearest names are {', '.join(names)}." if names else ""
    return UnknownModel(
        f"The catalog has no model named {name!r}.{nearest}",
        "Take one of its names; [c.name for c in cards()] lists them all.",
    )


def _interval(percent: float, questions: int) -> tuple[float, float]:
    """The 95 % interval of a published share, in percent."""
    low, high = Rate(round(percent / 100 * questions), questions).interval
    return round(100 * low, 2), round(100 * high, 2)
