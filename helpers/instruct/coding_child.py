"""The process in which a model's code is tried: reads a request, calls the function, writes what came back.

    python -I -S -B coding_child.py < request.json > results.json

The request has `code`, `function`, the `arguments` of each call, and the limits. The expected values are not in it:
they stay with the process that compares, so that code which writes results of its own gains nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

#: What plain code may do, by the names of Python's audit events (PEP 578); what is not named here is refused. Opening a
#: file is looked at by itself.
HARMLESS = (
    *("array.__new__", "builtins.id", "code.__new__", "compile", "exec", "function.__new__", "glob.glob", "import"),
    *("marshal.loads", "object.", "os.listdir", "os.scandir", "sys._getframe", "sys.excepthook"),
    *("sys.setrecursionlimit", "sys.unraisablehook", "time.sleep"),
)
#: The results of a task's calls are some hundred bytes; more than this is a flood.
LONGEST_RESULT = 64 * 1024


def limit(memory_bytes: int, seconds: int) -> None:
    """Sets what the system offers: memory, processor time, bytes written, no process started. Windows has none."""
    try:
        import resource
    except ImportError:
        return
    limits = {"RLIMIT_AS": memory_bytes, "RLIMIT_CPU": seconds, "RLIMIT_CORE": 0, "RLIMIT_NPROC": 0}
    limits["RLIMIT_FSIZE"] = LONGEST_RESULT
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, ValueError, OSError):  # a system that lacks it, or refuses to set it
            continue


def refuse_harm() -> None:
    """From here on this process opens no file but Python's own modules, no socket, and starts nothing."""
    library = str(Path(os.__file__).resolve().parent)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode or "") & set("wax+")
            if isinstance(path, str) and not writes and os.path.realpath(path).startswith(library):
                return
        elif event.startswith(HARMLESS):
            return
        raise PermissionError(f"{event} is refused here")

    sys.addaudithook(hook)


def results(request: dict[str, Any]) -> list[dict[str, Any]]:
    """For each call the value that came back, or the error, as a dict with one of these keys."""
    space: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(request["code"], "answer", "exec"), space)
        function = space[request["function"]]
    except BaseException as error:  # noqa: BLE001 - an exit is no way out either
        return [{"error": _told(error)}] * len(request["arguments"])
    return [_called(function, arguments) for arguments in request["arguments"]]


def _called(function: Any, arguments: list[Any]) -> dict[str, Any]:
    try:
        value = function(*arguments)
        json.dumps(value)
        return {"value": value}
    except BaseException as error:  # noqa: BLE001
        return {"error": _told(error)}


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except BaseException:  # noqa: BLE001 - its text is code of the model's, too
        return type(error).__name__


def main() -> None:
    """Tries what standard input asks for; what the code prints goes nowhere."""
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    limit(request["memory_bytes"], request["seconds"])
    refuse_harm()
    out.write(json.dumps(results(request)))
    out.flush()
    os._exit(0)  # threads and exit handlers of the code do not keep it alive


if __name__ == "__main__":
    main()
