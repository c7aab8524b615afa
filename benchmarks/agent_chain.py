"""Ten questions that need one tool's result for the next call, on every rung that is here; stored for notebook 05.

python -m benchmarks.agent_chain [--rungs qwen2.5-coder-0.5b]

A price list and a calculator, with their descriptions and two examples. Greedy.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.report import keep
from helpers import machine
from helpers.agents import examples, toolbox, toolscore
from helpers.agents.agent import Agent
from helpers.chat import open_chat
from helpers.data import FOLDER, stored
from helpers.intervals import Rate
from helpers.models.fetching import rungs

STORED = FOLDER / "agent_chain.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rungs", nargs="+", default=[rung.name for rung in rungs()])
    for name in parser.parse_args().rungs:
        found, started = stored("agent_chain"), time.perf_counter()
        with open_chat(name) as chat:
            table = toolscore.score_chains(
                Agent(chat, toolbox.shop_tools(), examples=examples.chain_examples()), found["questions"]
            )
        rows = [{"model": name, **row} for row in table.to_dict("records")]
        kept = [row for row in found.get("rows", []) if row["model"] != name]
        keep(STORED, found | {"machine": str(machine.describe()), "rows": [*kept, *rows]})
        print(name, f"{time.perf_counter() - started:.0f} s;", "handed on:", Rate.of(table["used"]))
        print("right:", Rate.of(table["right"]), flush=True)


if __name__ == "__main__":
    main()
