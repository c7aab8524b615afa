"""Eight clients for five minutes, some leaving, some slow, some wrong: what is left of them in the server afterwards.

python -m benchmarks.server_soak [--minutes 5]

Ends with status 1 where a thread, a file, a process or a slot was left, or the memory grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from typing import Any

import psutil

from helpers import machine
from helpers.backends.remote import Route, client
from helpers.server import Server, serve

CLIENTS = 8
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": WEATHER}]


def state(server: Server) -> dict[str, float]:
    """What the server's process holds now."""
    process = psutil.Process(server.pid)
    counts = {"threads": process.num_threads(), "processes": len(process.children(recursive=True))}
    files = process.num_handles() if sys.platform == "win32" else process.num_fds()
    return counts | {"files": files, "memory_mib": process.memory_info().rss / 2**20}


def ask(route: Route, draw: random.Random, kinds: Counter[str]) -> None:
    """One request of a kind that is drawn, and how it ended."""
    kind = draw.choice(["whole", "stream", "leave", "leave whole", "slow", "tool", "wrong body", "wrong key", "huge"])
    body: dict[str, Any] = {"messages": [{"role": "user", "content": f"Tell me of {draw.random()}."}], "max_tokens": 24}
    body |= {"stream": kind in ("stream", "leave", "slow")}
    body |= {"tools": TOOLS, "tool_choice": "required"} if kind == "tool" else {}
    body |= {"n_predict": -1} if kind == "wrong body" else {"ignore_eos": True} if "leave" in kind else {}
    body |= {"user": "x" * 5_000_000} if kind == "huge" else {}
    key = "wrong" if kind == "wrong key" else route.key.reveal() if route.key else ""
    path, headers = f"{route.address}/chat/completions", {"Authorization": f"Bearer {key}"}
    try:
        with (
            client(route, timeout=0.5 if kind == "leave whole" else 120) as http,
            http.stream("POST", path, json=body, headers=headers) as answer,
        ):
            for number, _ in enumerate(answer.iter_raw()):
                if kind == "leave" and number == 3:
                    break
                time.sleep(0.1 if kind == "slow" else 0)
            kinds[f"{kind}: {answer.status_code}"] += 1
    except Exception as error:  # noqa: BLE001 - counted by its name
        kinds[f"{kind}: {type(error).__name__}"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    asked = parser.parse_args()
    kinds: Counter[str] = Counter()
    with serve(slots=4, context=512) as server:
        end = time.monotonic() + 60 * asked.minutes

        def work(number: int, until: float) -> None:
            draw = random.Random(number)
            while time.monotonic() < until:
                ask(server.route, draw, kinds)

        def crowd(until: float) -> None:
            clients = [threading.Thread(target=work, args=(number, until)) for number in range(CLIENTS)]
            for one in clients:
                one.start()
            for one in clients:
                one.join()

        crowd(time.monotonic() + 6 * asked.minutes)  # a tenth of the time warms it
        time.sleep(8)  # idle lines are closed after five seconds
        before = state(server)
        crowd(end)
        time.sleep(8)
        after = state(server)
        started = time.monotonic()
        for _ in range(server.slots):
            ask(server.route, random.Random(1), Counter())
        free = time.monotonic() - started
    for name, count in sorted(kinds.items()):
        print(f"{count:6} {name}")
    left = [name for name in ("threads", "files", "processes") if after[name] > before[name]]
    left += ["memory"] if after["memory_mib"] > 1.1 * before["memory_mib"] else []
    faults = sum(count for name, count in kinds.items() if name.split(": ")[1].startswith("5"))
    told = {"requests": sum(kinds.values()), "before": before, "after": after, "left": left, "faults": faults}
    told["seconds_for_a_request_on_each_slot"] = round(free, 2)
    print(json.dumps({"benchmark": "server_soak", "figures": told, "machine": str(machine.describe())}))
    return 1 if left or faults else 0


if __name__ == "__main__":
    sys.exit(main())
