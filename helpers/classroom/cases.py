"""Hidden cases of an exercise, drawn from its visible ones by a seed that the instructor keeps.

A case is a tuple of arguments. A new one has each argument within what the visible ones span: numbers between the
least and the largest, lists as long and of the same leaves, and what is never larger than another argument (or longer
than it) stays so. A case counts only where the spec and the reference solution both answer, and agree: that keeps out
what the exercise never spoke of.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from helpers.checks import check

Case = tuple[Any, ...]
#: A spec may be slow; a case that takes it longer than this is left out.
SPEC_SECONDS = 0.5
TRIES_A_CASE = 60


def hidden_cases(
    spec: Callable[..., Any],
    solution: Callable[..., Any],
    visible: Sequence[Case],
    *,
    seed: str,
    count: int = 12,
    close: float = 1e-9,
) -> list[Case]:
    """At most `count` cases that are not among the visible ones; the same for the same seed."""
    draw, found = random.Random(seed), list[Case]()
    known = {repr(case) for case in visible}
    pools = [[case[place] for case in visible] for place in range(len(visible[0]))]
    kept = _orders(visible)
    for _ in range(count * TRIES_A_CASE):
        case = tuple(_varied(draw.choice(pool), pool, draw) for pool in pools)
        if repr(case) in known or not all(_size(case[low]) <= _size(case[high]) for low, high in kept):
            continue
        known.add(repr(case))
        if _agree(spec, solution, case, close):
            found.append(case)
            if len(found) == count:
                break
    return found


def _agree(spec: Callable[..., Any], solution: Callable[..., Any], case: Case, close: float) -> bool:
    try:
        with _at_most(SPEC_SECONDS):
            return check(solution, spec, [deepcopy(case)], close=close).passed
    except Exception:  # noqa: BLE001 - a spec that fails on a case says nothing of it
        return False


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Ends the block with an error after so long, where a signal can do that."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _size(value: Any) -> float:
    """A number, or how long a list or a text is: what the orders between arguments are about; for others, NaN."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return float(len(value)) if isinstance(value, (list, tuple, str)) else float("nan")


def _orders(visible: Sequence[Case]) -> list[tuple[int, int]]:
    """The pairs of arguments of which the first is at most the second in every visible case."""
    sizes = [[_size(one) for one in case] for case in visible]
    ordered = []
    for low in range(len(sizes[0])):
        for high in range(len(sizes[0])):
            pairs = [(case[low], case[high]) for case in sizes]
            if low != high and all(a <= b for a, b in pairs):
                ordered.append((low, high))
    return ordered


def _varied(value: Any, pool: Sequence[Any], draw: random.Random) -> Any:
    """A value like this one, within what the pool spans."""
    if isinstance(value, bool) or value is None:
        return draw.choice(pool)
    if isinstance(value, dict):
        return _mapping(value, [one for one in pool if isinstance(one, dict)], draw)
    if isinstance(value, (int, float)):
        return _number(value, [one for one in pool if type(one) is type(value)], draw)
    if isinstance(value, str):
        return _text(value, draw)
    if isinstance(value, (list, tuple)):
        return _listed(value, pool, draw)
    return value


def _mapping(value: dict[Any, Any], like: Sequence[dict[Any, Any]], draw: random.Random) -> dict[Any, Any]:
    """Keys that all have stay, each with another value; keys that some have come and go."""
    if all(one.keys() == value.keys() for one in like):
        return {key: _varied(one, [other[key] for other in like], draw) for key, one in value.items()}
    items = list({key: one for other in like for key, one in other.items()}.items())
    return dict(draw.sample(items, draw.randint(0, len(items))))


def _number(value: float, like: Sequence[float], draw: random.Random) -> float:
    if isinstance(value, int):
        return draw.randint(int(min(like)), int(max(like)))
    # Two digits, so that a rounding in another order does not make a border of it.
    return float(f"{draw.uniform(min(like), max(like)):.2g}")


def _text(value: str, draw: random.Random) -> str:
    """A text of the same letters: whole, cut, or with two of them exchanged."""
    if len(value) < 2 or (way := draw.randrange(3)) == 0:
        return value
    if way == 1:
        return value[: draw.randint(1, len(value))]
    first, second = sorted(draw.sample(range(len(value)), 2))
    return value[:first] + value[second] + value[first + 1 : second] + value[first] + value[second + 1 :]


def _listed(value: list[Any] | tuple[Any, ...], pool: Sequence[Any], draw: random.Random) -> Any:
    """A list of the same kind: a flat one with as many leaves as one that was seen, a nested one of the same shape."""
    leaves = [leaf for one in pool if isinstance(one, (list, tuple)) for leaf in _leaves(one)]
    if not leaves:
        return type(value)(value)
    if any(isinstance(one, (list, tuple)) for one in value):  # a grid keeps its shape
        return type(value)(_listed(one, [leaves], draw) if isinstance(one, (list, tuple)) else one for one in value)
    flat = [
        one for one in pool if isinstance(one, (list, tuple)) and not any(isinstance(x, (list, tuple)) for x in one)
    ]
    lengths = [len(one) for one in flat] or [len(value)]
    length = draw.randint(min(lengths), max(lengths)) if value in flat else len(value)
    return type(value)(_leaf(draw.choice(leaves), leaves, draw) for _ in range(length))


def _leaf(value: Any, leaves: Sequence[Any], draw: random.Random) -> Any:
    """Half of the leaves are ones that were seen, so that equal ones meet; texts always are."""
    if isinstance(value, str) or draw.random() < 0.5:
        return value
    return _varied(value, leaves, draw)


def _leaves(value: Sequence[Any]) -> Iterator[Any]:
    for one in value:
        if isinstance(one, (list, tuple)):
            yield from _leaves(one)
        else:
            yield one
