"""A class of thirty on one model server: seconds to the first token, measured and by the formula.

    python -m benchmarks.class_crowd [--model smollm2-135m] [--people 30] [--think 30] [--seconds 120]

The rates that the formula takes are measured first, in the same run: one request alone, then as many as slots.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from helpers.backends.remote import Key, Route, fetch
from helpers.classroom.capacity import Load, Rates, first_token, most_people, simulate
from helpers.cloud.crowd import ask
from helpers.server import Guest, serve

PROMPT = "Explain in one sentence why the sky is blue, for somebody who hears of it for the first time. " * 2


def rates(route: Route, slots: int, new_tokens: int) -> Rates:
    """The server's rates, each the median of five rounds."""
    ask(route, PROMPT, new_tokens=4)
    alone, together = [], []
    for _ in range(5):
        alone.append(ask(route, PROMPT, new_tokens=new_tokens))
        with ThreadPoolExecutor(slots) as pool:
            every = list(pool.map(lambda _: ask(route, PROMPT, new_tokens=new_tokens), range(slots)))
        together.append(slots / max(one.seconds for one in every))
    text = fetch(route, "/apply-template", {"messages": [{"role": "user", "content": PROMPT}]})["prompt"]
    tokens = len(fetch(route, "/tokenize", {"content": text, "parse_special": True})["tokens"])
    prefill = tokens / statistics.median(one.prefill_seconds for one in alone)
    decode = new_tokens / statistics.median(one.decode_seconds for one in alone)
    return Rates(prefill, decode, slots, statistics.median(together) * statistics.median(one.seconds for one in alone))


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    sizes = {"slots": 4, "people": 30, "think": 30, "seconds": 120, "prompt": 40, "new": 32}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    guests = [Guest(f"person{number}", Key(secrets.token_urlsafe(24))) for number in range(asked.people)]
    load = Load(asked.people, asked.think, asked.prompt, asked.new)
    with serve(asked.model, slots=asked.slots, guests=guests) as server:
        found = rates(server.owner, asked.slots, asked.new)
        routes = [Route("the class", server.address, one.key) for one in guests]
        seen = simulate(routes, server.model, load, seconds=asked.seconds)
    first = [one.first_seconds for one in seen if one.status == 200]
    row = {
        "model": server.model,
        "questions": len(seen),
        "refused": len(seen) - len(first),
        "prefill": round(found.prefill, 1),
        "decode": round(found.decode, 1),
        "gain": round(found.gain, 2),
        "people_within_5_s": most_people(load, found, seconds=5),
    }
    for percent in (50, 95):
        told = {"measured": float(np.percentile(first, percent)), "formula": first_token(load, found, percent)}
        row[f"first_token_p{percent}_seconds"] = {name: round(value, 2) for name, value in told.items()}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
