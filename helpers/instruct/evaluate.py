"""Many prompts, one table of scores; on one process or on many, with the same scores.

    python -m helpers.instruct.evaluate --task extraction --style schema --model smollm2-135m --processes 2

Items are independent, so they split over processes without loss: each process opens the model for itself, answers its
share, and the rows are gathered in the items' order. With `--processes` this module starts `torchrun` on one machine;
under `torchrun` or `accelerate launch`, on several GPUs or machines, it takes the share that it is given.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from helpers import machine
from helpers.chat import Chat, open_chat
from helpers.errors import CourseError, InvalidInput
from helpers.instruct import tasks
from helpers.instruct.tasks import Item
from helpers.intervals import Mean, Rate
from helpers.records import Reply, Role, Turn

if TYPE_CHECKING:
    import pandas as pd

Scorer = Callable[[Item, str], Mapping[str, bool | float]]
#: The columns of a table of rows that are no measure.
COLUMNS = ("task", "group", "style", "number", "prompt", "answer", "prompt_tokens", "new_tokens", "cut", "seconds")
ROLES: tuple[Role, Role] = ("user", "assistant")


def evaluate(
    chat: Chat, items: Sequence[Item], score: Scorer = tasks.score, *, reuse_prompt: bool = False
) -> pd.DataFrame:
    """One row an item, in the items' order: the answer, its cost, and a column for each measure of its score.

    `cut` is true where the answer ended at the cap on new tokens, which says nothing of what it would have become.

    Each item is asked without history, greedily unless the chat says otherwise. By default nothing is taken from the
    KV cache of the item before, so an answer depends on its prompt alone and the scores do not depend on the split.
    `reuse_prompt` is faster where prompts begin alike, but rounds differently and may tip a near-tie.
    In a group of processes every process gets the whole table.
    """
    import pandas as pd

    if not items:
        raise InvalidInput("There are no items to evaluate.", "Give at least one, as in tasks.load('completion').")
    chat = chat.another(reuse_prompt=reuse_prompt)
    if _processes() == 1:
        rows = [_row(chat, item, score) for item in items]
    else:
        rows = _shared(items, lambda item: _row(chat, item, score))
    return pd.DataFrame(rows)


def baseline(items: Sequence[Item], score: Scorer = tasks.score) -> pd.DataFrame:
    """The rows that `evaluate` would give for `tasks.trivial` answers, in the style "baseline": no model is asked."""
    import pandas as pd

    answers = [(item, tasks.trivial(item)) for item in items]
    rows = [_entry(item, answer) | {"style": "baseline", **score(item, answer)} for item, answer in answers if answer]
    if not rows:
        raise InvalidInput("These items have no trivial answer.", "Translation and summarisation have one.")
    return pd.DataFrame(rows)


def score_means(rows: pd.DataFrame, by: Sequence[str] = ("task", "group", "style")) -> pd.DataFrame:
    """One row for each measure of each group of `by`: `score` with its 95 % interval `low` to `high`, and the `items`.

    All are points of 100. A share has Wilson's interval (`Rate`), a mean Student's (`Mean`).
    """
    import pandas as pd

    table = []
    for key, part in rows.groupby(list(by), sort=False):
        for measure in [name for name in part.columns if name not in (*COLUMNS, *by)]:
            values = part[measure].dropna().tolist()
            if values:
                table.append(dict(zip(by, key, strict=True)) | {"measure": measure, **interval(values)})
    return pd.DataFrame(table)


def interval(values: Sequence[bool | float]) -> dict[str, Any]:
    """`score` in points of 100, `low`, `high` and `items`: of a share where all values are booleans, else of a mean."""
    if all(isinstance(value, bool) for value in values):
        rate = Rate.of(bool(value) for value in values)
        low, high = rate.interval
        return {"score": 100 * rate.share, "low": 100 * low, "high": 100 * high, "items": rate.trials}
    mean = Mean.of(values)
    return {"score": mean.value, "low": mean.low, "high": mean.high, "items": mean.items}


def _row(chat: Chat, item: Item, score: Scorer) -> dict[str, Any]:
    started = time.perf_counter()
    reply = _ask(chat, item)
    seconds = time.perf_counter() - started
    cost: dict[str, Any] = {"prompt_tokens": reply.prompt_tokens, "new_tokens": reply.new_tokens}
    cost |= {"cut": reply.finish_reason == "length", "seconds": seconds}
    return _entry(item, reply.text) | cost | dict(score(item, reply.text))


def _entry(item: Item, answer: str) -> dict[str, Any]:
    who = {"task": item.task, "group": item.group, "style": item.style, "number": item.number}
    return who | {"prompt": item.prompt, "answer": answer}


def _ask(chat: Chat, item: Item) -> Reply:
    options: dict[str, Any] = {"max_new_tokens": item.max_new_tokens, "stop": item.stop}
    if item.json_schema is not None:
        options["json_schema"] = item.json_schema
    history = [Turn(role, text) for pair in item.examples for role, text in zip(ROLES, pair, strict=True)]
    asked = chat.another(system=item.system, history=history)
    return asked.say(item.prompt, **options) if item.template else asked.complete(item.prompt, **options)


def _processes() -> int:
    """How many processes a launcher has started together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _shared(items: Sequence[Item], row: Callable[[Item], dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all processes, in the items' order: each computes its own share of them."""
    from accelerate.utils import gather_object

    with _state().split_between_processes(list(items)) as share:
        rows: list[dict[str, Any]] = gather_object([row(item) for item in share])
    return rows


def _state() -> Any:
    """accelerate's view of the group of processes; the first call joins it and chooses this process's device.

    What is exchanged are rows, which never lie on a GPU: gloo takes them, and NCCL would ask for a GPU a process.
    """
    from accelerate import PartialState

    return PartialState(cpu=machine.device() != "cuda", backend="gloo")


def _launch(processes: int, arguments: Sequence[str]) -> int:
    """This module under torchrun, which, unlike `accelerate launch --cpu`, starts as many processes as it is told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    # One thread a process: threads that wait for a core spin, and two processes would slow each other down.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, "-m", "helpers.instruct.evaluate", *arguments], env=environment).returncode


def _run(asked: argparse.Namespace) -> None:
    state = _state() if _processes() > 1 else None
    items = tasks.load(asked.task, group=asked.group, style=asked.style, limit=asked.limit)
    try:
        with open_chat(asked.model, backend=asked.backend, threads=1 if state else None) as chat:
            started = time.perf_counter()
            rows = evaluate(chat, items)
            seconds = time.perf_counter() - started
        if state is None or state.is_main_process:
            _print(rows, asked, seconds, chat)
    finally:
        if state is not None:
            state.destroy_process_group()


def _print(rows: pd.DataFrame, asked: argparse.Namespace, seconds: float, chat: Chat) -> None:
    scores = score_means(rows)
    print(scores.round(1).to_string(index=False))
    result = {
        "model": chat.card.name,
        "backend": chat.backend.name,
        "precision": chat.backend.precision,
        "processes": _processes(),
        "seconds": round(seconds, 2),
        "new_tokens": int(rows["new_tokens"].sum()),
        "scores": scores.round(4).to_dict("records"),
        "machine": str(machine.describe()),
    }
    print(json.dumps(result, ensure_ascii=False), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status. The last line printed is JSON."""
    parser = argparse.ArgumentParser(prog="python -m helpers.instruct.evaluate", description="Score a model on a task.")
    parser.add_argument("--task", required=True, choices=tasks.TASKS)
    parser.add_argument("--group", help="one kind of items only, such as Swedish")
    parser.add_argument("--style", help="how the items are asked, such as schema or few-shot")
    parser.add_argument("--limit", type=int, help="only the first so many items")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--processes", type=int, default=1, help="processes on this machine, one thread each")
    given = sys.argv[1:] if arguments is None else arguments
    asked = parser.parse_args(given)
    if asked.processes > 1 and "WORLD_SIZE" not in os.environ:
        return _launch(asked.processes, given)
    try:
        _run(asked)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
