"""The agent's thirty questions by tool calls of the plain OpenAI SDK to our own server, beside the course's own agent.

python -m benchmarks.tool_calls [--model smollm2-135m] [--part dev] [--nearest 2] [--show]

Both see the same tools and, before each question, the same examples; both are scored on what is written first. The
shares come with Wilson's 95 % interval. "dev" are the questions to try things on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import openai
import pandas as pd

from helpers import machine
from helpers.agents import examples, toolscore
from helpers.agents.agent import Agent, Choice
from helpers.agents.examples import CallExample, Nearest
from helpers.agents.toolbox import course_tools
from helpers.agents.tools import tools
from helpers.chat import open_chat
from helpers.errors import InvalidInput
from helpers.server import serve


class Caller:
    """What a program with the OpenAI SDK gets: it chooses as an agent does, by `tools` and `tool_choice: "auto"`."""

    def __init__(
        self, client: Any, model: str, chosen: Sequence[Any], shown: Sequence[CallExample], nearest: int
    ) -> None:
        self.client, self.model, self.tools, self.nearest = client, model, tools(chosen), nearest
        self.near = Nearest([one for one in shown if one.tool in {"answer", *self.tools}])

    def choose(self, question: str, *, repair: bool) -> Choice:
        found = self.client.chat.completions.create(
            model=self.model,
            messages=[*self.shown(question), {"role": "user", "content": question}],
            tools=[
                {
                    "type": "function",
                    "function": {"name": one.name, "description": one.description, "parameters": one.schema},
                }
                for one in self.tools.values()
            ],
            temperature=0,
            max_tokens=128,
        )
        choice = found.choices[0]
        cut = choice.finish_reason == "length"
        if not choice.message.tool_calls:
            return Choice("answer", {}, choice.message.content or "", cut=cut)
        called = choice.message.tool_calls[0].function
        try:
            return Choice(called.name, self.tools[called.name].validate(json.loads(called.arguments)), str(called))
        except (InvalidInput, ValueError) as error:
            return Choice(called.name, {}, str(called), problem=str(error), cut=cut)

    def shown(self, question: str) -> list[dict[str, Any]]:
        """The nearest examples with their calls, as the agent shows them too before there is a result."""
        turns: list[dict[str, Any]] = []
        for number, one in enumerate(self.near(question, self.nearest)):
            if one.tool == "answer":
                turns += [{"role": "user", "content": one.question}]
                turns += [{"role": "assistant", "content": str(one.arguments["text"])}]
                continue
            called = {"name": one.tool, "arguments": json.dumps(dict(one.arguments))}
            call = {"id": f"call_{number}", "type": "function", "function": called}
            turns += [{"role": "user", "content": one.question}, {"role": "assistant", "tool_calls": [call]}]
        return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--part", choices=["questions", "dev"], default="questions")
    parser.add_argument("--nearest", type=int, default=2, help="how many examples stand before a question")
    parser.add_argument("--show", action="store_true", help="also print every choice that was wrong")
    asked = parser.parse_args()
    shown, questions = examples.tool_questions("examples"), examples.tool_questions(asked.part)
    with (
        serve(asked.model, slots=1, context=2048) as server,
        openai.OpenAI(base_url=server.address, api_key=server.key.reveal(), timeout=600) as client,
        open_chat(asked.model, provider="local", context=2048) as chat,
    ):
        chosen = course_tools(chat)
        both: dict[str, Any] = {"server": Caller(client, asked.model, chosen, shown, asked.nearest)}
        both["agent"] = Agent(chat, chosen, examples=shown, nearest=asked.nearest)
        rows = pd.concat([toolscore.score_agent(one, questions).assign(agent=name) for name, one in both.items()])
    if asked.show:
        wrong = rows[~rows["tool"] | (rows["arguments"] == False)]  # noqa: E712
        print(wrong[["agent", "question", "choice", "cut"]].to_string())
    table = toolscore.agent_shares(rows)
    print(table.round(2).to_string(index=False))
    figures = {
        f"{row['agent']}, {row['measure']}": {
            name: round(row[name], 3) for name in ("share", "low", "high", "questions")
        }
        for row in table.to_dict("records")
    }
    told = {"model": asked.model, "examples": asked.nearest, "machine": str(machine.describe())}
    print(json.dumps({"benchmark": "tool_calls", "figures": figures} | told))


if __name__ == "__main__":
    main()
