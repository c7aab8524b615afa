"""JupyterHub for a class on one machine. `python3 course.py class hub` starts it; class.toml holds what one may change.

Every line replaces a default, and says why. The parts that know the class are in helpers/classroom/.
"""

import os
import sys
from pathlib import Path

from helpers.classroom.folder import INSTRUCTOR, ClassFolder, is_root
from helpers.classroom.gateway import ACCESS
from helpers.classroom.login import LearnerSpawner, PinAuthenticator
from helpers.data import ROOT

c = get_config()  # noqa: F821 - JupyterHub gives it to this file
folder = ClassFolder()
chosen = folder.chosen
state = folder.at("hub")
python = os.environ["SLM_CLASS_PYTHON"]  # the course's own, which kernels and the model server run on

# Where it listens: this machine alone, unless class.toml lets others in.
scheme = "https" if chosen.certificate else "http"
c.JupyterHub.bind_url = f"{scheme}://{chosen.host}:{chosen.port}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{chosen.port + 1}"  # servers and services call it; people never do
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{chosen.port + 2}"  # behind a token that is made for each start
c.ConfigurableHTTPProxy.command = [os.environ["SLM_CLASS_PROXY"]]
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
if chosen.certificate:
    c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = chosen.certificate, chosen.certificate_key

# What it remembers, so that a Hub that was killed knows its people and finds their servers again.
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.cleanup_servers = False
c.JupyterHub.template_vars = {"announcement_login": "Your name and your PIN, from your instructor."}

# Who may log in: by PIN, or by the institution's login, whose names must be those of people.csv.
if chosen.login == "pin":
    c.JupyterHub.authenticator_class = PinAuthenticator
else:  # OAuthenticator: register the Hub there, then set these three before it starts; see docs/class.md
    c.JupyterHub.authenticator_class = chosen.login
    c.OAuthenticator.client_id = os.environ["OAUTH_CLIENT_ID"]
    c.OAuthenticator.client_secret = os.environ["OAUTH_CLIENT_SECRET"]
    c.OAuthenticator.oauth_callback_url = os.environ["OAUTH_CALLBACK_URL"]  # https://…/hub/oauth_callback
    c.OAuthenticator.allowed_users = set(folder.people())
    c.OAuthenticator.admin_users = {INSTRUCTOR, os.environ.get("SLM_CLASS_ADMIN", INSTRUCTOR)}

# A server a person, started from the Hub's environment; its kernel is the course's.
c.JupyterHub.spawner_class = LearnerSpawner
c.Spawner.cmd = [sys.executable, str(ROOT / "helpers" / "classroom" / "start.py")]
c.Spawner.default_url = "/lab/tree/course/notebooks/00_start.ipynb"
c.Spawner.args = [
    "--ServerApp.root_dir=~",
    "--ServerApp.terminals_enabled=False",  # a shell is more than a notebook needs
    "--MappingKernelManager.cull_idle_timeout=0",  # an idle server is stopped whole; a kernel alone never
    "--KernelSpecManager.ensure_native_kernel=False",  # the Hub's Python is nobody's kernel
]
c.Spawner.mem_limit = int(chosen.memory_gib * 1024**3)  # told to JupyterLab; control groups hold it
c.Spawner.cpu_limit = chosen.cores
c.Spawner.start_timeout = 60  # a server is up in about four seconds; a class that starts at once takes longer
c.Spawner.http_timeout = 60
c.JupyterHub.concurrent_spawn_limit = 8  # so many start at once, the rest in turn
c.JupyterHub.active_server_limit = 0
c.JupyterHub.allow_named_servers = False
c.Spawner.environment = {
    # By the name that the certificate is for, where there is one.
    "SLM_CLASS_ADDRESS": f"{chosen.address.rstrip('/') or f'http://127.0.0.1:{chosen.port}'}/services/slm/v1",
}

# The model server: a service of the Hub, which starts it again should it end. It runs as nobody where it can.
c.JupyterHub.services = [
    {
        "name": "slm",
        "url": f"http://127.0.0.1:{chosen.port + 3}",
        "command": [sys.executable, "-m", "helpers.classroom.gateway", python],
        "cwd": str(ROOT),
        "display": False,  # it is asked by programs
        **({"user": "nobody"} if is_root() else {}),
        "environment": {
            name: os.environ[name]
            for name in ("PYTHONPATH", "SLM_CLASS", "SLM_THREADS", "SLM_CLASS_BACKEND_KEY")
            if name in os.environ
        },
    },
    {
        "name": "culler",
        "command": [
            *(sys.executable, "-m", "jupyterhub_idle_culler"),
            f"--timeout={int(chosen.idle_minutes * 60)}",
            f"--cull-every={max(1, int(chosen.idle_minutes * 6))}",
        ],
    },
]

# What each may do: a person and their server may also ask the model server, and nothing more of the Hub.
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", ACCESS]},
    {"name": "server", "scopes": ["users:activity!user", "access:servers!server", ACCESS]},
    {
        "name": "culler",
        "services": ["culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    },
]
assert Path(python).exists(), f"There is no Python at {python}."
