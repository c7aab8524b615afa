"""Right tool, right arguments and valid calls of an agent on the course's questions, with and without a JSON schema.

python -m benchmarks.agent [--model smollm2-135m] [--backend auto] [--provider local] [--part dev] [--nearest 2]

The shares come with Wilson's 95 % interval. "dev" are the questions on which the prompt was chosen.
"""

from __future__ import annotations

import argparse
import json
import time

import pandas as pd

from helpers import machine
from helpers.agents import examples, toolscore
from helpers.agents.agent import Agent
from helpers.agents.toolbox import course_tools
from helpers.chat import open_chat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--provider")
    parser.add_argument("--part", choices=["questions", "dev"], default="questions")
    parser.add_argument("--nearest", type=int, default=2, help="how many examples stand before a question")
    parser.add_argument("--describe", action="store_true", help="also put the tools' descriptions into the prompt")
    parser.add_argument("--show", action="store_true", help="also print every choice that was wrong")
    asked = parser.parse_args()
    shown, questions = examples.tool_questions("examples"), examples.tool_questions(asked.part)
    with open_chat(asked.model, backend=asked.backend, provider=asked.provider) as chat:
        able = "json_schema" in chat.backend.honours
        agents = {
            "with a schema" if constrained else "without": Agent(
                chat,
                course_tools(chat),
                examples=shown,
                nearest=asked.nearest,
                describe=asked.describe,
                constrained=constrained,
            )
            for constrained in ([True, False] if able else [False])
        }
        started = time.perf_counter()
        rows = toolscore.compare_agents(agents, questions)
        seconds = time.perf_counter() - started
    table = pd.concat([toolscore.agent_shares(rows), toolscore.agent_shares(toolscore.baselines(shown, questions))])
    if asked.show:
        print(rows[~rows["tool"] | (rows["arguments"] == False)][["agent", "question", "choice"]].to_string())  # noqa: E712
    print(table.round(2).to_string(index=False))
    figures = {
        f"{row['agent']}, {row['measure']}": {name: round(row[name], 3) for name in ("share", "low", "high")}
        | {"questions": row["questions"]}
        for row in table.to_dict("records")
    }
    print(f"{len(rows)} choices took {seconds:.0f} s")
    print(json.dumps({"benchmark": "agent", "figures": figures, "machine": str(machine.describe())}))


if __name__ == "__main__":
    main()
