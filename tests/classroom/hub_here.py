"""A class's Hub on this machine's loopback, and people who use it as a browser would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import websocket

import waiting
from helpers.classroom import environments, hub
from helpers.classroom.bounds import readable_by_all
from helpers.classroom.folder import ClassFolder, is_root
from helpers.errors import CourseError

SMALL = "smollm2-135m"
#: A Hub is asked five times a second, for a minute.
until = partial(waiting.until, seconds=60, every=0.2)


def four_free_ports() -> int:
    """The first of four ports in a row that are free now."""
    for first in range(18_000, 30_000, 7):
        try:
            for port in range(first, first + 4):
                with socket.socket() as trial:
                    trial.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no ports are free")


def python_for_all(folder: Path) -> str:
    """The Python of this environment, or one like it that other users can run, where this one lies in a closed home."""
    if not is_root() or readable_by_all(Path(sys.executable)):
        return sys.executable
    base = environments.base_python()
    if not readable_by_all(Path(base)):
        pytest.skip("no Python of this version can be run by other users here")
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "same.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return str(folder / "bin" / "python")


class HubHere:
    """A Hub over a class's folder; `settings` are lines of its class.toml."""

    def __init__(self, path: Path, names: list[str], **settings: Any) -> None:
        self.folder = ClassFolder(path)
        self.folder.add(names)
        chosen = {"port": four_free_ports(), "models": [SMALL]} | settings
        lines = [f"{name} = {json.dumps(value)}" for name, value in chosen.items()]
        self.folder.at("class.toml").write_text("\n".join(lines), encoding="utf-8")
        self.address = f"http://127.0.0.1:{chosen['port']}"
        self.log = path / "hub.log"
        self.python = python_for_all(self.folder.at("python"))
        hub.refuse_unsafe(self.folder, self.python)
        hub.share(self.folder, self.python)
        self.process: subprocess.Popen[bytes] | None = None
        self.visitors: list[Visitor] = []
        self.left: list[psutil.Process] = []

    def start(self) -> HubHere:
        """Starts it and waits until it and the model server's service answer."""
        with self.log.open("ab") as log:
            environment = hub.environment(self.folder, self.python)
            options: dict[str, Any] = {"cwd": self.folder.at("hub"), "env": environment, "start_new_session": True}
            self.process = subprocess.Popen(hub.command(), stdout=log, stderr=log, **options)
        assert until(self.is_up, seconds=90)
        return self

    def is_up(self) -> bool:
        """Whether the service behind the proxy answers."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return httpx2.get(f"{self.address}/services/slm/health", trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def pins(self) -> dict[str, str]:
        """The PINs that were handed out."""
        lines = self.folder.at("pins.csv").read_text(encoding="utf-8").splitlines()
        return dict(line.split(",") for line in lines)

    def kill(self) -> None:
        """Kills the Hub alone, as the system would that has no memory left."""
        self.left += psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Ends it, and the servers that it started."""
        for name in self.folder.people():
            visitor = Visitor(self, name)
            if self.process is not None and self.process.poll() is None and visitor.log_in():
                visitor.stop()
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(60)
        for one in self.left:  # what a killed Hub left behind, its culler too
            with suppress(psutil.Error):
                one.kill()
        for visitor in self.visitors:
            visitor.http.close()


class Visitor:
    """One person's browser."""

    def __init__(self, here: HubHere, name: str) -> None:
        self.hub, self.name = here, name
        here.visitors.append(self)
        self.http = httpx2.Client(base_url=here.address, follow_redirects=True, timeout=60, trust_env=False)

    def log_in(self, pin: str | None = None) -> bool:
        """Whether the Hub let them in."""
        self.http.get("/hub/login")
        form = {"username": self.name, "password": pin or self.hub.pins()[self.name], "_xsrf": self._xsrf("/hub/")}
        answer = self.http.post("/hub/login", params={"next": "/hub/home"}, data=form)
        return answer.status_code == 200 and answer.url.path == "/hub/home"

    def _xsrf(self, path: str) -> str:
        return next((one.value or "" for one in self.http.cookies.jar if (one.name, one.path) == ("_xsrf", path)), "")

    def api(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """A call of the Hub's API as its own pages make it."""
        headers = {"X-XSRFToken": self._xsrf("/hub/"), "Referer": f"{self.hub.address}/hub/home"}
        return self.http.request(method, f"/hub/api/{path}", headers=headers, **more)

    def is_running(self) -> bool:
        """Whether their server is up."""
        return bool(self.api("GET", f"users/{self.name}").json().get("server"))

    def start(self) -> None:
        """Starts their server and opens its page, which gives the browser its cookie."""
        # A server that is just being stopped is not started: the Hub says so, and a person tries again.
        asked = f"users/{self.name}/server"
        assert until(lambda: self.api("POST", asked).status_code in (201, 202) or self.is_running())
        assert until(self.is_running)
        assert self.server("GET", "lab").status_code == 200

    def stop(self) -> None:
        """Stops their server."""
        self.api("DELETE", f"users/{self.name}/server")
        assert until(lambda: not self.is_running())

    def server(self, method: str, path: str, owner: str = "", **more: Any) -> httpx2.Response:
        """A request to a person's server, their own without `owner`."""
        base = f"/user/{owner or self.name}/"
        headers = {"X-XSRFToken": self._xsrf(f"/user/{self.name}/"), "Referer": f"{self.hub.address}{base}lab"}
        return self.http.request(method, base + path, headers=headers, **more)

    def run(self, code: str, seconds: float = 120.0) -> str:
        """What a cell prints, in a new kernel of their server; an error's name and sentence where it ends so."""
        kernel = self.server("POST", "api/kernels", json={"name": "python3"}).json()["id"]
        cookies = "; ".join(f"{one.name}={one.value}" for one in self.http.cookies.jar)
        address = f"ws{self.hub.address.removeprefix('http')}/user/{self.name}/api/kernels/{kernel}/channels"
        line = websocket.create_connection(address, cookie=cookies, timeout=seconds, origin=self.hub.address)
        try:
            return _executed(line, code)
        finally:
            line.close()
            self.server("DELETE", f"api/kernels/{kernel}")


def _executed(line: Any, code: str) -> str:
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    head = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": uuid.uuid4().hex}
    message = {"header": head | {"version": "5.3"}, "parent_header": {}, "metadata": {}, "content": content}
    line.send(json.dumps(message | {"channel": "shell"}))
    said = ""
    while True:
        got = json.loads(line.recv())
        if got["parent_header"].get("msg_id") != head["msg_id"]:
            continue
        if got["msg_type"] == "stream" and got["content"]["name"] == "stdout":
            said += got["content"]["text"]
        elif got["msg_type"] == "error":
            said += f"{got['content']['ename']}: {got['content']['evalue']}"
        elif got["msg_type"] == "execute_reply":
            return said


@contextmanager
def prepared(names: list[str], **settings: Any) -> Iterator[HubHere]:
    """A running Hub while the block runs. The environment is made when it is not there, which needs a network once."""
    try:
        environments.ensure("hub")
    except CourseError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="slm-class-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)  # pytest's own folders are closed to the class's people
        here = HubHere(Path(place) / "class", names, **settings)
        try:
            yield here.start()
        finally:
            here.end()
