"""An engine that writes a text word by word, behind the server's real routes: a token is a character, time is free."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

from helpers.server import Guest
from helpers.server.app import Gate
from helpers.server.slots import Slots

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: With a part for tools, as Qwen's: the tools, calls and results have places of their own.
WITH_TOOLS = (
    "{% for t in tools or [] %}[tool {{ t.function.name }}]{% endfor %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    "[call {{ c.function.name }} {{ c.function.arguments | tojson }}]"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
TIMINGS = {"cache_n": 0, "prompt_ms": 1.0, "predicted_ms": 1.0}


class PretendEngine:
    """`text` is what it writes, `seen` the requests that reached it, `running` how many it is writing now.

    `slots` is what stands before it, where a test looks at that.
    """

    slots: Slots

    def __init__(self, slots: int = 2, *, template: str = CHATML) -> None:
        self.free, self.template = slots, template
        self.text, self.pause, self.running, self.seen = "The capital is Stockholm.", 0.0, 0, list[dict[str, Any]]()

    async def properties(self) -> dict[str, Any]:
        names = {"chat_template": self.template, "bos_token": "", "eos_token": "<|im_end|>", "model_ftype": "Q4_1"}
        return names | {"model_path": "/home/somebody/model.gguf"}

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/tokenize"
        ids: list[int] = []
        for text in body["content"]:
            if isinstance(text, int):
                ids.append(text)
                continue
            parts = re.split(r"(<\|im_end\|>|<\|im_start\|>)", text) if body["parse_special"] else [text]
            for place, part in enumerate(parts):
                ids += [10_000_000 + len(part)] if place % 2 else map(ord, part)
        return {"tokens": ids}

    async def complete(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        self.seen.append(body)
        self.running += 1
        words = re.findall(r"\S+\s*", self.text)
        written = words[: body["n_predict"]]
        try:
            for number, word in enumerate(written, start=1):
                await asyncio.sleep(self.pause)
                if body["stream"]:
                    yield {"content": word, "stop": False, "tokens_predicted": number} | self._logprobs(body, [word])
            text = "" if body["stream"] else "".join(written)
            end = {"stop_type": "limit" if len(written) < len(words) else "eos", "timings": TIMINGS}
            told = self._logprobs(body, [] if body["stream"] else written)
            yield {"content": text, "stop": True, "tokens_predicted": len(written)} | end | told
        finally:
            self.running -= 1

    def _logprobs(self, body: dict[str, Any], words: list[str]) -> dict[str, Any]:
        one = {"id": 1, "logprob": -0.5, "bytes": [65]}
        tokens = [one | {"token": word, "top_logprobs": [one | {"token": word}]} for word in words]
        return {"completion_probabilities": tokens} if "n_probs" in body else {}


def gate(
    *engines: Any, guests: tuple[Guest, ...] = (), names: tuple[str, ...] = ("smollm2-135m",), **config: Any
) -> Gate:
    """The server's routes over such engines, for `guests`; the first of them owns it."""
    people = [
        {"name": one.name, "digest": one.digest, "owner": not place}
        | {"requests_per_minute": one.requests_per_minute, "at_once": one.at_once}
        for place, one in enumerate(guests)
    ]
    models = {name: Slots(engines or [PretendEngine()], context=2048) for name in names}
    asked = [{"name": name, "asked": name} for name in names]
    limits = {"most_new_tokens": None, "latency_seconds": 0.0, "run": "r"}
    return Gate(models, limits | {"guests": people, "models": asked} | config)
