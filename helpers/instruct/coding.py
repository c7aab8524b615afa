"""Small functions that a model writes, tried by tests in a process of their own.

    task = coding.code_tasks()[0]
    coding.outcome("def vat(price): return price * 1.25", task)

Text can be judged by reading; code is judged by running it. What a model wrote is nobody's code, so it runs apart: in a
fresh Python without site-packages (`-I -S`), in an empty folder, with an empty environment, for at most some seconds
and some memory, and with every event refused that opens a file, a socket or a process (Python's audit hooks, PEP 578).
On Linux and macOS the system's resource limits stand behind that.

**This holds accidents, not attacks.** PEP 578 says of audit hooks that they are no sandbox: code that goes out to break
Python from within can get past them, and then it is your user account that it runs in. For code of strangers use
what an operating system separates: a container without network, a virtual machine, another computer.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from helpers.chat import Chat
from helpers.data import stored
from helpers.instruct.coding_child import LONGEST_RESULT

if TYPE_CHECKING:
    import pandas as pd

CHILD = Path(__file__).with_name("coding_child.py")
MEMORY_BYTES = 256 * 1024**2
SECONDS = 5


@dataclass(frozen=True, slots=True)
class CodeTask:
    """One function to write: what is asked, and `tests`, pairs of a list of arguments and the value expected."""

    function: str
    prompt: str
    tests: tuple[tuple[list[Any], Any], ...]
    solution: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: whether every test passed and, where not, the first that did not in a few words."""

    passed: bool
    reason: str


def code_tasks() -> list[CodeTask]:
    """The course's twenty, in data/code_tasks.json: small functions that a shop could use."""
    data = stored("code_tasks")
    return [
        CodeTask(
            function=item["function"],
            prompt=data["prompt"].format(text=item["text"], function=item["function"]),
            tests=tuple((arguments, expected) for arguments, expected in item["tests"]),
            solution=item["solution"],
        )
        for item in data["items"]
    ]


def code_in(answer: str) -> str:
    r"""The code of an answer: what its first fence holds, to the end where that fence was cut off, else all of it.

    >>> code_in("Here you are:\n```python\nx = 1\n```\nIt sets x.")
    'x = 1'
    """
    fenced = re.search(r"```[a-zA-Z]*[ \t]*\n(.*?)(?:\n```|\Z)", answer, re.DOTALL)
    return (fenced[1] if fenced else answer).strip("\n")


def outcome(code: str, task: CodeTask, *, seconds: int = SECONDS, memory_bytes: int = MEMORY_BYTES) -> Outcome:
    """What the tests of `task` say of `code`, run apart within so many seconds and bytes of memory."""
    request = {"code": code, "function": task.function, "arguments": [arguments for arguments, _ in task.tests]}
    raw, stopped = _run_apart(request | {"seconds": seconds, "memory_bytes": memory_bytes}, seconds, memory_bytes)
    if stopped:
        return Outcome(False, stopped)
    for result, (arguments, expected) in zip(_results(raw, len(task.tests)), task.tests, strict=True):
        if "value" not in result:
            return Outcome(False, str(result.get("error", "ended before its results were written")))
        if not _equal(result["value"], expected):
            called = f"{task.function}({', '.join(map(repr, arguments))})"
            return Outcome(False, f"{called} gave {result['value']!r:.80}, not {expected!r}")
    return Outcome(True, "")


def solve(
    chat: Chat, tasks: Sequence[CodeTask], *, max_new_tokens: int = 256, reuse_prompt: bool = False
) -> pd.DataFrame:
    """One row a task: the code that the chat's model wrote, whether it `passed`, why not, and what it cost.

    Each is asked without history. `cut` is true where the answer ended at the cap on new tokens. `reuse_prompt` reads
    what the prompts share only once, as in `evaluate`.
    """
    import pandas as pd

    rows = []
    for task in tasks:
        started = time.perf_counter()
        reply = chat.another(reuse_prompt=reuse_prompt).say(task.prompt, max_new_tokens=max_new_tokens)
        seconds, code = time.perf_counter() - started, code_in(reply.text)
        verdict = outcome(code, task)
        cost = {"new_tokens": reply.new_tokens, "cut": reply.finish_reason == "length", "seconds": seconds}
        rows.append(
            {"function": task.function, "code": code, "passed": verdict.passed, "reason": verdict.reason} | cost
        )
    return pd.DataFrame(rows)


def _run_apart(request: dict[str, Any], seconds: int, memory_bytes: int) -> tuple[str, str]:
    """What the process wrote, and why it was stopped, empty where it ended by itself. Nothing of it is left behind."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as out:
        asked.write(json.dumps(request).encode())
        asked.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD)],
            stdin=asked,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            # Windows starts no Python without this one.
            env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
            start_new_session=True,
        )
        try:
            stopped = _watch(process, out.fileno(), seconds, memory_bytes)
        finally:
            _end(process)
        out.seek(0)
        return out.read(LONGEST_RESULT).decode(errors="replace"), stopped


def _watch(process: subprocess.Popen[bytes], out: int, seconds: int, memory_bytes: int) -> str:
    """Waits for the end of the process; why it must be stopped, empty where it ended by itself."""
    deadline, watched = time.monotonic() + seconds, psutil.Process(process.pid)
    while process.poll() is None:
        if time.monotonic() > deadline:
            return f"did not end within {seconds} seconds"
        if os.fstat(out).st_size > LONGEST_RESULT:
            return "gave back more than can be read"
        with suppress(psutil.Error):  # it ended just now
            # Where the system has no limit on memory, this is the only one.
            if watched.memory_info().rss > memory_bytes:
                return f"took more than {memory_bytes // 1024**2} MiB of memory"
        time.sleep(0.01)
    return f"was stopped by the system (signal {-process.returncode})" if process.returncode < 0 else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _results(raw: str, calls: int) -> list[dict[str, Any]]:
    """One result a call, empty ones where the process wrote something else: the code may have written it."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    fine = isinstance(found, list) and len(found) == calls and all(isinstance(one, dict) for one in found)
    return found if fine else [{}] * calls


def _equal(found: Any, expected: Any) -> bool:
    """Equal values of like type: 1 is no True; floats to nine digits."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return found is expected
    if isinstance(expected, float) or isinstance(found, float):
        numbers = isinstance(found, int | float) and isinstance(expected, int | float)
        return numbers and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(expected, list):
        same = isinstance(found, list) and len(found) == len(expected)
        return same and all(map(_equal, found, expected))
    return type(found) is type(expected) and bool(found == expected)
