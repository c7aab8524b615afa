"""A learner's function, run apart: `%load_ext helpers.classroom.apart`, then `%%apart NAME` above its source.

The function lives in a process of its own (`apart_child.py`), which is asked with arguments and answers with values.
What it returns is data, never code, so the notebook that judges it runs nothing of it: nothing there can be replaced,
read or stopped. A call that takes too long ends that process and counts as an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

from helpers.classroom.apart_child import packed, unpacked
from helpers.data import ROOT

APART_CHILD = Path(__file__).with_name("apart_child.py")
CALL_SECONDS = 10.0
#: The longest answer, in bytes of JSON.
MOST_ANSWER = 1_000_000


class SubmissionTooSlow(Exception):
    """A call that did not end in time."""


def hidden_places() -> list[str]:
    """What a submission must not see where the system lets us hide it: solutions, and the class's own folder."""
    return [str(ROOT / "solutions"), str(ROOT / ".git"), *filter(None, [os.environ.get("SLM_CLASS", "")])]


class Apart:
    """The function `name` of a source, called in a process of its own; `walls` are what holds that process."""

    def __init__(self, name: str, source: str, *, seconds: float = CALL_SECONDS) -> None:
        self.__name__, self._source, self._seconds = name, source, seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._dead = ""
        self.walls: list[str] = []

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns; what it raises is raised under the same name."""
        if self._child is None and not self._dead:
            self._start()
        return unpacked(self._said({"arguments": [packed(one) for one in arguments]})["value"])

    def close(self) -> None:
        """Ends the process and throws its folder away."""
        if self._child is not None:
            self._ending()

    def _start(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="slm-apart-", ignore_cleanup_errors=True)
        Path(folder.name).chmod(0o777)
        # Nothing of this process's environment: it may hold keys.
        environment = {"PATH": os.defpath, "HOME": folder.name, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-I", str(APART_CHILD)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._child = subprocess.Popen(command, cwd=folder.name, env=environment, start_new_session=True, **pipes)
        self._ending = weakref.finalize(self, _end, self._child, folder)
        first = {"name": self.__name__, "source": self._source, "folder": folder.name, "hide": hidden_places()}
        self.walls = self._said(first)["walls"]

    def _said(self, message: dict[str, Any]) -> dict[str, Any]:
        """The child's answer to a message."""
        if self._dead:
            raise SubmissionTooSlow(self._dead)
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        late = threading.Event()
        timer = threading.Timer(self._seconds, _kill_late, (self._child, late))
        timer.start()
        try:
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline(MOST_ANSWER)
        except OSError:
            line = b""
        finally:
            timer.cancel()
        try:
            found: dict[str, Any] = json.loads(line)
            if "error" not in found:
                return found
            kind, said = str(found["error"]), str(found.get("said", ""))
        except (ValueError, TypeError, RecursionError):
            self._dead = f"it took longer than {self._seconds:g} s" if late.is_set() else "its process ended"
            self.close()
            raise SubmissionTooSlow(self._dead) from None
        raise NotImplementedError if kind == "NotImplementedError" else type(kind, (Exception,), {})(said)


def _kill_late(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    child.kill()


def _end(child: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    with child:
        child.kill()
    folder.cleanup()


def load_ipython_extension(shell: Any) -> None:
    """Gives a notebook the magic `%%apart NAME`."""

    def apart(line: str, cell: str) -> None:
        shell.user_ns[line.strip()] = Apart(line.strip(), cell)

    shell.register_magic_function(apart, "cell", "apart")
