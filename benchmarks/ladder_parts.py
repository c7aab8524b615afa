"""What the ladder asks: each part of it, with the cap on new tokens, the rows that come back, and the score to beat.

A part's `material` is all that its scores depend on beside the model. A row is what came of one item: its measures are
booleans or points of 100. `baseline` are rows in the same form of what no model gets.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from helpers import catalog, machine, measure, scoring
from helpers.agents import examples, toolscore
from helpers.agents.agent import Agent
from helpers.agents.toolbox import course_tools
from helpers.backends import echo
from helpers.chat import Chat, open_chat
from helpers.instruct import coding, evaluate, tasks
from helpers.intervals import Spread
from helpers.making import dates
from helpers.records import Prompt, Sampling, Turn

Row = dict[str, Any]

DATA = Path(__file__).resolve().parents[1] / "data"
#: The group of all items together.
ALL = "all"
#: Tokens that an agent may write for one call.
CALL_TOKENS = 256
SHORT = "Tell me a long story about a small river."
#: Runs of a process of its own for each number of threads: each opens the model and answers once.
SPEED_REPEATS = 3


class Rung(Protocol):
    """A model of the ladder: what to give to `open_chat`, and a chat with it on a backend."""

    model: str

    def chat(self, backend: str) -> Chat: ...

    def close(self) -> None: ...


class Part(Protocol):
    """One part. `whole` says whether all its groups together make one score."""

    backend: str
    cap: int | None
    whole: bool

    def material(self) -> object: ...

    def rows(self, rung: Rung, limit: int | None) -> list[Row]: ...

    def baseline(self) -> list[Row]: ...


@dataclass(frozen=True)
class Task:
    """Items of `helpers.instruct.tasks` in one style, each answered within `cap` tokens.

    `one_line` keeps the task's own stop strings. Where a model reasons before it answers, a stop at the end of the
    first line would cut the answer off as a cap does, and is left out.
    """

    task: str
    style: str
    cap: int
    one_line: bool = True
    whole: bool = True
    backend: str = "llamacpp"

    def items(self, limit: int | None) -> list[tasks.Item]:
        found = tasks.load(self.task, style=self.style, limit=limit)
        return [replace(i, max_new_tokens=self.cap, stop=i.stop if self.one_line else ()) for i in found]

    def material(self) -> object:
        asked = ("prompt", "system", "examples", "template", "stop", "max_new_tokens", "json_schema", "expected")
        return [{name: getattr(item, name) for name in asked} for item in self.items(None)]

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        found = evaluate.evaluate(rung.chat(self.backend), self.items(limit)).to_dict("records")
        dropped = {"task", "style", "prompt", "prompt_tokens", "seconds", "number"}
        return [{"item": _number(row)} | {k: v for k, v in row.items() if k not in dropped} for row in found]

    def read_again(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with what today's score makes of their answers."""
        items = {f"{one.group} {one.number}": one for one in self.items(None)}
        return [row | tasks.score(items[row["item"]], row["answer"]) for row in rows]

    def baseline(self) -> list[Row]:
        items = self.items(None)
        if self.task in ("translation", "summarisation"):
            return [{"item": _number(row)} | row for row in evaluate.baseline(items).to_dict("records")]
        if self.task == "prompting":
            return [{"item": f"{one.group} {one.number}", "group": one.group, "right": _chance(one)} for one in items]
        return []


class Listener(echo.Engine):
    """An engine that notes what it is asked, word by word."""

    def __init__(self, context: int) -> None:
        super().__init__(context)
        self.heard: list[list[tuple[str, str]]] = []

    def encode(self, turns: Sequence[Turn]) -> Prompt:
        self.heard.append([(turn.role, turn.text) for turn in turns])
        return super().encode(turns)


@dataclass(frozen=True)
class Calls:
    """The agent's thirty questions, with the tools' descriptions in the prompt."""

    constrained: bool
    cap: int = CALL_TOKENS
    whole: bool = True
    backend: str = "llamacpp"

    def agent(self, chat: Chat) -> Agent:
        return Agent(
            chat,
            course_tools(chat),
            examples=examples.tool_questions("examples"),
            max_new_tokens=self.cap,
            constrained=self.constrained,
        )

    def material(self) -> object:
        listener = Listener(context=1 << 15)
        chat = Chat(listener, catalog.card("smollm2-135m"), sampling=Sampling())
        agent, questions = replace(self, constrained=False).agent(chat), examples.tool_questions("questions")
        for question in questions:
            agent.choose(question.question, repair=False)
        return [self.constrained, agent.schema, listener.heard, [asdict(question) for question in questions]]

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        questions = examples.tool_questions("questions")[:limit]
        found = toolscore.score_agent(self.agent(rung.chat(self.backend)), questions).to_dict("records")
        kept = ("cut", "tool", "arguments", "valid")
        return [
            {"item": str(number), "group": row["expected"], "answer": row["choice"]}
            | {name: row[name] for name in kept}
            for number, row in enumerate(found, start=1)
        ]

    def baseline(self) -> list[Row]:
        return [
            {"item": str(number), "group": one.tool, "tool": toolscore.by_keyword(one.question) == one.tool}
            for number, one in enumerate(examples.tool_questions("questions"), start=1)
        ]


@dataclass(frozen=True)
class Code:
    """The twenty functions, each tried by its tests in a process of its own."""

    cap: int = 384
    whole: bool = True
    backend: str = "llamacpp"

    def material(self) -> object:
        return [[task.prompt, task.tests] for task in coding.code_tasks()]

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        found = coding.solve(rung.chat(self.backend), coding.code_tasks()[:limit], max_new_tokens=self.cap)
        kept = ("new_tokens", "cut", "passed")
        return [
            {"item": row["function"], "group": ALL, "answer": row["code"]} | {name: row[name] for name in kept}
            for row in found.to_dict("records")
        ]

    def baseline(self) -> list[Row]:
        return []


@dataclass(frozen=True)
class Comprehension:
    """The hundred questions, by log-likelihood: divided by the option's characters, and undivided.

    A `form` without the question tells what the options alone give away.
    """

    form: str = scoring.QUESTION
    cap: int | None = None
    whole: bool = True
    backend: str = "transformers"

    def items(self, limit: int | None) -> list[Row]:
        return list(json.loads((DATA / "comprehension.json").read_text(encoding="utf-8"))[:limit])

    def material(self) -> object:
        return self.items(None)

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        engine, items = rung.chat(self.backend).backend, self.items(limit)
        divided = scoring.multiple_choice(engine.model, engine.tokenizer, items, "characters", form=self.form)
        undivided = scoring.multiple_choice(engine.model, engine.tokenizer, items, "none", form=self.form)
        both = zip(items, divided.to_dict("records"), undivided["correct"], strict=True)
        return [
            {"item": item["question"], "group": item["field"], "answer": row["chosen"]}
            | {"right": bool(row["correct"]), "right_undivided": bool(plain)}
            for item, row, plain in both
        ]

    def baseline(self) -> list[Row]:
        return [
            {"item": item["question"], "group": item["field"], "right": 100 / len(item["options"])}
            for item in self.items(None)
        ]


@dataclass(frozen=True)
class Bias:
    """The paired sentences, by log-likelihood: how many crosses prefer the stereotype in the mean."""

    cap: int | None = None
    whole: bool = False  # it would mix stereotypes with controls
    backend: str = "transformers"

    def items(self, limit: int | None) -> list[Row]:
        pairs = json.loads((DATA / "bias_pairs.json").read_text(encoding="utf-8"))
        crosses = list(dict.fromkeys((pair["category"], pair["cross"]) for pair in pairs))[:limit]
        return [pair for pair in pairs if (pair["category"], pair["cross"]) in crosses]

    def material(self) -> object:
        return self.items(None)

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        engine = rung.chat(self.backend).backend
        found = scoring.paired_preference(engine.model, engine.tokenizer, self.items(limit))
        means = found.groupby(["category", "cross"], sort=False)["difference"].mean()
        return [
            {"item": f"{category} {cross}", "group": category, "answer": f"{nats:+.3f} nats", "stereotype": nats > 0}
            for (category, cross), nats in means.items()
        ]

    def baseline(self) -> list[Row]:
        pairs = {(pair["category"], pair["cross"]) for pair in self.items(None)}
        return [{"item": f"{group} {cross}", "group": group, "stereotype": 50.0} for group, cross in sorted(pairs)]


@dataclass(frozen=True)
class Dates:
    """Notebook 02's hundred held-out dates, answered by a model that is shown ten examples and is not trained."""

    shown: int = 10
    cap: int | None = dates.FEW_SHOT_TOKENS
    whole: bool = True
    backend: str = "llamacpp"

    def items(self) -> tuple[list[dates.DateExample], list[dates.DateExample]]:
        examples, exam = dates.examples(2000, 100)  # those of the notebook
        return examples[: self.shown], exam

    def material(self) -> object:
        return [dates.INSTRUCTION, *([asdict(one) for one in part] for part in self.items())]

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        shown, exam = self.items()
        given = dates.by_example(rung.chat(self.backend), shown, [one.text for one in exam[:limit]])
        return self._judged(exam[:limit], given)

    def baseline(self) -> list[Row]:
        exam = self.items()[1]
        return self._judged(exam, [dates.by_rules(one.text) for one in exam])

    def _judged(self, exam: Sequence[dates.DateExample], given: Sequence[str | None]) -> list[Row]:
        return [
            {"item": row["text"], "group": row["form"], "answer": row["given"]}
            | {"right": row["right"], "exists": row["exists"]}
            for row in dates.verdicts(exam, given, "few-shot")
        ]


@dataclass(frozen=True)
class Speed:
    """Opening, reading, writing and memory with one thread and with two, each in a process that did nothing before."""

    cap: int | None = 64
    whole: bool = True
    backend: str = "llamacpp"

    @property
    def prompts(self) -> list[str]:
        texts = [item.text for item in tasks.load("summarisation", limit=4)]
        return [SHORT, "Summarise these texts.\n\n" + "\n\n".join(texts)]

    def material(self) -> object:
        return [self.prompts, SPEED_REPEATS, str(machine.describe())]

    def rows(self, rung: Rung, limit: int | None) -> list[Row]:
        rung.close()
        rows = []
        for threads in (1, 2):
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
                given = [(rung.model, self.backend, self.prompts, self.cap, threads)] * SPEED_REPEATS
                found = list(processes.map(_speed, *zip(*given, strict=True)))
            spreads = {name: asdict(Spread.of([one[name] for one in found])) for name in found[0]}
            rows.append({"item": f"{threads} threads", "group": ALL, "threads": threads} | spreads)
        return rows

    def baseline(self) -> list[Row]:
        return []


PARTS: dict[str, Part] = {
    "generation": Task("generation", "plain", 256),
    "completion": Task("completion", "plain", 5),
    "extraction": Task("extraction", "free", 128),
    "extraction with a schema": Task("extraction", "schema", 128),
    "summarisation": Task("summarisation", "plain", 128),
    "translation": Task("translation", "plain", 128, whole=False),
    "prompting, plain": Task("prompting", "plain", 384, one_line=False),
    "prompting, system message": Task("prompting", "system message", 384, one_line=False),
    "prompting, few-shot": Task("prompting", "few-shot", 64),
    "prompting, step by step": Task("prompting", "step by step", 384),
    "agent with a schema": Calls(constrained=True),
    "agent without a schema": Calls(constrained=False),
    "code": Code(),
    "comprehension": Comprehension(),
    "comprehension, no question": Comprehension(scoring.NO_QUESTION),
    "bias": Bias(),
    "dates, few-shot": Dates(),
    "speed": Speed(),
}
#: A completion is read up to its first word, so it is always cut off and loses nothing by it.
CUT_BY_DESIGN = ("completion",)


def _speed(model: str, backend: str, prompts: list[str], cap: int, threads: int) -> dict[str, float]:
    """What one process measures: it opens the model, is warmed up by one answer, and writes one for each prompt."""
    with measure.peak_memory() as peak:
        started = time.perf_counter()
        with open_chat(model, backend=backend, threads=threads) as chat:
            opened = time.perf_counter() - started
            short, long = measure.answers([chat], prompts, repeats=1, max_new_tokens=cap).to_dict("records")
    return {
        "open_seconds": opened,
        "prefill_tokens_per_second": long["prefill_tokens_per_second"],
        "decode_tokens_per_second": short["decode_tokens_per_second"],
        "peak_memory_gib": peak.gib,
    }


def _number(row: Row) -> str:
    return f"{row['group']} {row['number']}"


def _chance(item: tasks.Item) -> float:
    """Points for naming one of the choices blindly; a number cannot be guessed."""
    choices = item.expected.get("choices", ())
    return 100 / len(choices) if choices else 0.0
