"""JupyterHub's parts that know the class: who may log in by PIN, and how a person's server starts on this machine.

Runs in the Hub's environment. Started by root, each person's processes have a number of their own on this system, so
that the system itself keeps people apart; the numbers need no entry among the system's users.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.spawner import SimpleLocalProcessSpawner

from helpers.classroom import bounds
from helpers.classroom.folder import INSTRUCTOR, ClassFolder, Door, is_root
from helpers.data import ROOT


class PinAuthenticator(Authenticator):
    """Lets in who is in people.csv and knows the PIN."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.allow_all = True  # whom `authenticate` knows
        self.admin_users = {INSTRUCTOR}
        self._door = Door(ClassFolder())

    async def authenticate(self, handler: Any, data: dict[str, str] | None) -> str | None:
        """The name of who knows the PIN; None for all others, and for who has to wait."""
        name, pin = (data or {}).get("username", ""), (data or {}).get("password", "")
        return name if await asyncio.to_thread(self._door.opens, name, pin) else None


class LearnerSpawner(SimpleLocalProcessSpawner):
    """Starts a person's JupyterLab in their own home, bound in memory and processor."""

    def make_preexec_fn(self, name: str) -> Any:
        """What the forked process does before it becomes the server; as root, a home and bounds are made ahead."""
        folder = ClassFolder()
        home, chosen, person = folder.at("homes", name), folder.chosen, folder.people().get(name)
        if person is None:
            raise PermissionError(f"{name} is not in people.csv.")
        home.mkdir(exist_ok=True)
        home.chmod(0o700)
        if not is_root():
            return lambda: os.chdir(home)
        os.chown(home, person.uid, person.uid)
        groups = bounds.group(name, memory_gib=chosen.memory_gib, cores=chosen.cores)
        if not groups:
            self.log.warning("No control groups here: memory and processor of %s are not bounded.", name)

        def become() -> None:
            os.chdir(home)
            bounds.become(person.uid, groups)

        return become

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """The person's own environment: nothing of the Hub's, and the kernel of the course."""
        folder = ClassFolder()
        for name in ("PYTHONPATH", "VIRTUAL_ENV"):
            env.pop(name, None)
        name, home = self.user.name, str(folder.at("homes", self.user.name))
        threads = str(max(1, int(folder.chosen.cores)))
        return env | {
            "USER": name, "LOGNAME": name, "HOME": home, "SHELL": "/bin/bash",
            "JUPYTER_PATH": str(folder.at("shared", "jupyter")), "SLM_HOME": f"{home}/.cache/slm-course",
            "SLM_THREADS": threads, "OMP_NUM_THREADS": threads,
        }  # fmt: skip

    def get_args(self) -> list[str]:
        """The command that `start.py` becomes, with JupyterHub's own arguments for it."""
        shared = ClassFolder().at("shared")
        server = str(Path(sys.executable).with_name("jupyterhub-singleuser"))
        return [str(ROOT), str(shared), "--", server, *super().get_args()]
