"""Tokens a second of the local server at 1, 2, 4, 8 and 16 requests at once, ÷ that at one; percentiles of latency.

python -m benchmarks.concurrency [--repeats 3] [--engines 1]
"""

from __future__ import annotations

import argparse

from benchmarks.report import report
from helpers.cloud.crowd import crowd
from helpers.intervals import Spread
from helpers.server import serve

AT_ONCE = (1, 2, 4, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--engines", type=int, help="1 shows what batching alone gains")
    asked = parser.parse_args()
    rows = []
    with serve("smollm2-135m", slots=16, context=512, engines=asked.engines) as server:
        crowd(server.route, 16, new_tokens=1)  # warms every slot
        for _ in range(asked.repeats):
            rows += [crowd(server.route, n, requests=max(10, 2 * n), new_tokens=asked.new_tokens) for n in AT_ONCE]

    def of(column: str, n: int) -> list[float]:
        return [row[column] for row in rows if row["at_once"] == n]

    alone = of("tokens_per_second", 1)
    figures = {}
    for n in AT_ONCE:
        gain = [a / b for a, b in zip(of("tokens_per_second", n), alone, strict=True)]
        figures |= {f"speed_up_at_{n}": Spread.of(gain)} if n > 1 else {}
        figures |= {f"{name}_at_{n}": Spread.of(of(name, n)) for name in ("tokens_per_second", "latency_p90_seconds")}
    report("concurrency", **figures)


if __name__ == "__main__":
    main()
