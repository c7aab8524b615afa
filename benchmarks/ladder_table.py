"""The ladder's tables: scores with their intervals, what each rung gains over the one below, and both as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from benchmarks.ladder_parts import ALL, CUT_BY_DESIGN, PARTS, Row
from helpers import plots
from helpers.instruct import evaluate
from helpers.intervals import Mean

#: What the README shows: part, group, measure, and the row's name.
SHOWN = (
    ("generation", ALL, "kept", "rules kept in a short text"),
    ("completion", ALL, "right", "right next word"),
    ("extraction", ALL, "exact", "order to JSON, free: exact"),
    ("extraction with a schema", ALL, "exact", "order to JSON, with a schema: exact"),
    ("summarisation", ALL, "rouge_l", "summary, ROUGE-L"),
    ("translation", "Chinese", "chrf", "into Chinese, chrF"),
    ("translation", "French", "chrf", "into French, chrF"),
    ("translation", "Swedish", "chrf", "into Swedish, chrF"),
    ("prompting, plain", ALL, "right", "questions, plain"),
    ("prompting, system message", ALL, "right", "questions, system message: one word or number"),
    ("prompting, few-shot", ALL, "right", "questions, few-shot"),
    ("prompting, step by step", ALL, "right", "questions, step by step"),
    ("agent with a schema", ALL, "tool", "agent with a schema: right tool"),
    ("agent with a schema", ALL, "arguments", "agent with a schema: right arguments"),
    ("agent without a schema", ALL, "tool", "agent without a schema: right tool"),
    ("agent without a schema", ALL, "arguments", "agent without a schema: right arguments"),
    ("code", ALL, "passed", "small functions that pass their tests"),
    ("comprehension", ALL, "right", "a hundred questions, by log-likelihood"),
    ("bias", "gender and occupation", "stereotype", "gender and occupation: crosses with the stereotype"),
    ("bias", "control", "stereotype", "control: the same without a stereotype"),
)
#: The lines of the README's figure.
DRAWN = (
    "right next word",
    "rules kept in a short text",
    "into Chinese, chrF",
    "into Swedish, chrF",
    "questions, plain",
    "agent with a schema: right tool",
    "a hundred questions, by log-likelihood",
)
SPEEDS = {
    "decode_tokens_per_second": "decode, tokens/s",
    "prefill_tokens_per_second": "prefill, tokens/s",
    "open_seconds": "open, s",
    "peak_memory_gib": "peak memory, GiB",
}
#: A group of fewer items has no score of its own: its interval would cover nearly everything.
LEAST_ITEMS = 8
#: What a row holds beside its measures.
BESIDE = ("item", "group", "answer", "new_tokens", "cut", "number", "task", "style", "prompt")


def scores(rungs: Sequence[Row], units: Sequence[Row]) -> list[Row]:
    """One row for each rung, part, group and measure: points of 100 with their 95 % interval, and the answers cut off.

    `task` is the README's name of it, None for what the README leaves out, so that `plots.ladder` can draw a choice.
    `baseline` is what no model gets: chance, the first sentence, the English text, a rule of keywords.
    """
    table, titles = [], {(part, group, name): title for part, group, name, title in SHOWN}
    for rung in rungs:
        for one in [one for one in units if one["rung"] == rung["name"] and one["part"] != "speed"]:
            part = PARTS[one["part"]]
            basis = {(group, name): values for group, name, values, _ in views(part.baseline(), whole=part.whole)}
            for group, name, values, cut in views(one["rows"], whole=part.whole):
                by_rule = basis.get((group, name))
                table.append(
                    {"model": rung["name"], "parameters": rung["parameters"], "part": one["part"], "group": group}
                    | {"measure": name, "task": titles.get((one["part"], group, name))}
                    | _within(0, _rounded(evaluate.interval(list(values.values()))))
                    | {"cut": None if one["part"] in CUT_BY_DESIGN else cut}
                    | {"baseline": _rounded(evaluate.interval(list(by_rule.values())))["score"] if by_rule else None}
                )
    return table


def differences(rungs: Sequence[Row], units: Sequence[Row]) -> list[Row]:
    """What each rung gains over the one below it on the same items: the mean difference with its 95 % interval.

    `better` and `worse` count the items. Where all items differ by as much, the interval is unknown.
    """
    table, kept = [], {(one["rung"], one["part"]): one for one in units if one["part"] != "speed"}
    for small, large in pairwise(rungs):
        for part in PARTS:
            below, above = (kept.get((rung["name"], part)) for rung in (small, large))
            if below and above and below["items_sha256"] == above["items_sha256"]:
                who = {"from": small["name"], "to": large["name"], "part": part}
                table += [who | gain for gain in _gains(below["rows"], above["rows"], whole=PARTS[part].whole)]
    return table


def _gains(below: Sequence[Row], above: Sequence[Row], *, whole: bool) -> Iterator[Row]:
    before = {(group, name): values for group, name, values, _ in views(below, whole=whole)}
    for group, name, values, _ in views(above, whole=whole):
        pairs = [(_points(value), _points(before[group, name][item])) for item, value in values.items()]
        mean = asdict(Mean.of_differences(*zip(*pairs, strict=True)))
        if mean["low"] == mean["high"]:
            mean |= {"low": None, "high": None}
        counts = {"better": sum(a > b for a, b in pairs), "worse": sum(a < b for a, b in pairs)}
        yield {"group": group, "measure": name, **_within(-100, _rounded(mean)), **counts}


def _points(value: bool | float) -> float:
    return 100.0 * value if isinstance(value, bool) else float(value)


def views(rows: Sequence[Row], *, whole: bool) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    """(group, measure, item → value, answers cut off): of all rows if they are a `whole`, and of each group."""
    counts = Counter(row["group"] for row in rows)
    groups = [group for group, items in counts.items() if len(counts) > 1 and items >= LEAST_ITEMS]
    for group in [*([ALL] if whole else []), *groups]:
        part = [row for row in rows if group in (ALL, row["group"])]
        for name in dict.fromkeys(name for row in part for name in row if name not in BESIDE):
            values = {row["item"]: row[name] for row in part if row.get(name) is not None}
            if values:
                yield group, name, values, sum(bool(row.get("cut")) for row in part)


def _rounded(figures: Mapping[str, Any]) -> Row:
    return {key: None if v is None or math.isnan(v) else round(v, 2) for key, v in figures.items()}


def markdown(stored: Row) -> str:
    """The stored scores as a table for the README, and the speeds as another."""
    rungs = [rung["name"] for rung in stored["rungs"]]
    found = {(row["model"], row["part"], row["group"], row["measure"]): row for row in stored["scores"]}
    gains = {(row["to"], row["part"], row["group"], row["measure"]): row for row in stored["differences"]}
    gained = f"{rungs[-1]} − {rungs[-2]}, item by item" if len(rungs) > 1 else ""
    lines = [_line("points of 100 (95 % interval)", "n", *rungs, gained, "to beat")]
    lines.append(_line(*["---"] * (len(rungs) + 4)))
    for part, group, name, title in SHOWN:
        here = [found.get((rung, part, group, name)) for rung in rungs]
        known = [row for row in here if row]
        if known:
            gain = gains.get((rungs[-1], part, group, name))
            beat = "" if known[0]["baseline"] is None else f"{known[0]['baseline']:.0f}"
            lines.append(_line(title, known[0]["items"], *map(_cell, here), _gain(gain), beat))
    return "\n".join([*lines, "", *_speeds(stored, rungs)])


def figure(stored: Row, path: str) -> None:
    """Draws the README's figure into a file."""
    axes = plots.ladder([row for row in stored["scores"] if row["task"] in DRAWN])
    axes.figure.savefig(path, dpi=160, bbox_inches="tight")


def _speeds(stored: Row, rungs: Sequence[str]) -> list[str]:
    units = {one["rung"]: one for one in stored["units"] if one["part"] == "speed"}
    lines = [_line("median (lowest to highest)", *rungs), _line(*["---"] * (len(rungs) + 1))]
    for threads in (1, 2):
        for name, title in SPEEDS.items():
            cells = [
                next((_spread(row[name]) for row in units[rung]["rows"] if row["threads"] == threads), "")
                if rung in units
                else ""
                for rung in rungs
            ]
            lines.append(_line(f"{title}, {threads} thread{'s' if threads > 1 else ''}", *cells))
    return lines if units else []


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    arm = "" if row["low"] is None else f" ({row['low']:.0f} to {row['high']:.0f})"
    return f"{row['score']:.0f}{arm}" + (f", {row['cut']} cut off" if row["cut"] else "")


def _gain(row: Row | None) -> str:
    if row is None:
        return ""
    arm = "" if row["low"] is None else f" ({row['low']:+.0f} to {row['high']:+.0f})"
    return f"{row['value']:+.0f}{arm}; {row['better']} better, {row['worse']} worse"


def _spread(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.3g} ({spread['low']:.3g} to {spread['high']:.3g})"


def _within(least: float, figures: Row) -> Row:
    """The figures, their interval cut to what points can be: `least` to 100. Student's knows no such bounds."""
    low, high = figures["low"], figures["high"]
    return figures if low is None else figures | {"low": max(low, least), "high": min(high, 100)}
