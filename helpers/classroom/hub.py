"""Starts the class's Hub on this machine, with what everybody shares: the kernel and the models, read-only."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from helpers.classroom import bounds, environments
from helpers.classroom.folder import ClassFolder, is_root
from helpers.data import ROOT
from helpers.errors import CourseError, InvalidInput
from helpers.models.files import home
from helpers.settings import DOTENV

HUB_CONFIG = ROOT / "deploy" / "hub" / "jupyterhub_config.py"
#: Where only this machine comes in. (A client takes 0.0.0.0 for its own machine too; a server lets everybody in there.)
ONLY_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def share_kernel(folder: ClassFolder, python: str) -> Path:
    """Puts the course's kernel, under the name that notebooks have, into the shared folder: Jupyter's path to it."""
    kernel = folder.at("shared", "jupyter", "kernels", "python3")
    kernel.mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "Python 3", "language": "python", "env": {"PYTHONPATH": str(ROOT)}}
    (kernel / "kernel.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
    return folder.at("shared", "jupyter")


def share(folder: ClassFolder, python: str) -> None:
    """Puts the kernel and this user's models into the class's shared folder, by link where the disk allows."""
    share_kernel(folder, python)
    for place in sorted(home().iterdir()) if home().is_dir() else []:
        # Only what is a model: a cache may also hold a note with the key of a running server.
        if place.suffix == ".gguf" or (place / "config.json").is_file():
            for source in [place, *sorted(place.rglob("*"))]:
                _link(source, folder.at("shared", "models") / source.relative_to(home()))
    for above in folder.at("shared").rglob("*"):
        above.chmod(0o755 if above.is_dir() else 0o644)


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif source.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.resolve(), target)
        except OSError:
            shutil.copy2(source, target)


def environment(folder: ClassFolder, python: str) -> dict[str, str]:
    """What the Hub's process is told."""
    told = {"SLM_CLASS": str(folder.path), "SLM_CLASS_PYTHON": python, "SLM_CLASS_PROXY": str(environments.proxy())}
    return {**os.environ, **told, "PYTHONPATH": str(ROOT)}


def command() -> list[str]:
    """The Hub's command line."""
    return [str(environments.python_of("hub")), "-m", "jupyterhub", "--config", str(HUB_CONFIG)]


def refuse_other_systems() -> None:
    """Refuses to start where a Hub cannot run, in a sentence."""
    if sys.platform != "linux":
        raise InvalidInput(
            "A class's Hub runs on Linux.", "Give each learner a Codespace or their own machine instead."
        )


def refuse_unsafe(folder: ClassFolder, python: str) -> None:
    """Refuses what would let people reach each other, or keep them from the model server, in a sentence."""
    chosen = folder.chosen
    if chosen.certificate and not chosen.address.startswith("https://"):
        raise InvalidInput(
            "With a certificate, people's notebooks reach the model server by the name that it is for.",
            f'Set it in class.toml: address = "https://the.name:{chosen.port}".',
        )
    if not is_root() and chosen.host not in ONLY_THIS_MACHINE:
        raise InvalidInput(
            "Only root can give each person a user of their own; without that, people could read each other's files.",
            'Start it with sudo, or set host = "127.0.0.1" in class.toml to try it alone.',
        )
    if DOTENV.exists():
        raise InvalidInput(
            f"The keys in {DOTENV} would be everybody's: each person's notebooks read that file.",
            "Move it out of the course's folder; the class's model server needs none of them.",
        )
    needed = (Path(python), environments.python_of("hub"), ROOT, folder.at("shared"))
    closed = [one for one in needed if not bounds.readable_by_all(one)]
    if is_root() and closed:
        raise InvalidInput(
            f"Other users of this machine cannot reach {closed[0].resolve()}.",
            "Put the course, its Python and the class where everybody may read, such as /opt and /srv.",
        )


def refuse_taken(host: str, port: int) -> None:
    """Refuses a start where one of the class's four ports is taken: the Hub would end in a trace."""
    for place, number in ((host, port), *(("127.0.0.1", port + further) for further in (1, 2, 3))):
        family = socket.AF_INET6 if ":" in place else socket.AF_INET
        try:
            socket.create_server((place, number), family=family).close()
        except OSError as error:
            raise InvalidInput(
                f"The class cannot have port {number}: {error.strerror}.",
                "End what is there, perhaps an earlier Hub, or set another port in class.toml; the class takes four.",
            ) from error


def run_hub(folder: ClassFolder) -> int:
    """Starts the Hub and stays until it ends; its exit status."""
    refuse_other_systems()
    environments.ensure("hub")
    folder.make()
    refuse_unsafe(folder, sys.executable)
    share(folder, sys.executable)
    chosen = folder.chosen
    if not folder.people():
        raise InvalidInput("Nobody is in this class yet.", "python3 course.py class people NAME …")
    refuse_taken(chosen.host, chosen.port)
    address = chosen.address or f"http://{chosen.host}:{chosen.port}"
    print(f"The class is at {address}, {len(folder.people())} people. Ctrl+C ends it.")
    if folder.at("pins.csv").exists():
        print(f"Names and PINs are in {folder.at('pins.csv')}: hand them out, then delete that file.", flush=True)
    child = subprocess.Popen(command(), cwd=folder.at("hub"), env=environment(folder, sys.executable))
    try:
        return child.wait()
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(60)
        child.kill()
        raise CourseError(
            "The Hub did not end within a minute and was killed.", "Start it again: it knows all."
        ) from None
