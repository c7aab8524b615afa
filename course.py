#!/usr/bin/env python3
"""The course from a clone: one file, the standard library, any system.

    python3 course.py lab             sets everything up, then opens the first notebook
    python3 course.py test            proves it: style, types, unit tests, every notebook
    python3 course.py run 01 03       executes notebooks without a browser; all of them without a number
    python3 course.py doctor          tells what this machine has and what it can do
    python3 course.py setup           sets up and opens nothing

`lab --engines` and `setup --engines` also install the engines of requirements-engines.txt, for lesson 07.

Everything installed goes to the folder .venv, everything written to build. Whatever interrupts a step, the same
command continues: a stamp is written only after the requirements are in, and what is half-made is made again.
"""

# An old Python has to read this file far enough to say so: nothing below is newer than Python 3.6.
import argparse
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOG = ROOT / "build" / "install.log"
FIRST = "notebooks/00_start.ipynb"
MODEL = "smollm2-135m"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INSTALL_GIB = 3
ENGINES_GIB = 1.3
FULL_DISK = "The disk is full. Free some space, then run the same command again: it continues where it stopped."
#: What pip says, and what it means. The first that matches is told.
MEANINGS = (
    (r"No space left on device|Errno 28|not enough space on the disk", FULL_DISK),
    (
        r"NewConnectionError|NameResolution|name resolution|Max retries exceeded|timed out|ProxyError"
        r"|Connection (refused|reset|aborted|broken)|Network is unreachable|from versions: none",
        "The package index could not be reached, or has nothing for this system. Check the connection and run the same "
        "command again: what is already there is kept.",
    ),
    (
        r"No matching distribution",
        "The package index does not offer a pinned version for this Python and system. Python 3.11 is the one that "
        "the course is tested with.",
    ),
)


class Stop(Exception):
    """Ends the command with one sentence for the reader."""


def old_python(version) -> str:
    """The sentence for a Python that is too old; empty for one that will do."""
    if tuple(version[:2]) >= OLDEST:
        return ""
    return (
        "This course needs Python {}.{} or newer, and this is Python {}.{}: start course.py with a newer one.".format(
            *OLDEST, *version[:2]
        )
    )


def say(text: str) -> None:
    """Prints at once, also where the output is a file."""
    print(text, flush=True)


class Progress:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self, what: str) -> None:
        self.what, self.began, self.live = what, time.monotonic(), sys.stdout.isatty()
        self.printed = -10.0
        say(f"{what} …")

    def show(self, text: str) -> None:
        """What the step is doing now."""
        seconds = time.monotonic() - self.began
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + f"  {seconds:4.0f} s  {text}"[:width].ljust(width), end="", flush=True)
        elif seconds - self.printed >= 10:
            self.printed = seconds
            say(f"  {seconds:4.0f} s  {text}")

    def end(self, text: str) -> None:
        """The step is over, well or not."""
        if self.live:
            print("\r" + " " * (shutil.get_terminal_size().columns - 1), end="\r")
        say(f"{self.what}: {text} after {time.monotonic() - self.began:.0f} s")


def quiet_environment() -> dict:
    """The environment for the course's own Python, without settings that would mix in another one."""
    strangers = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in strangers}
    return dict(kept, PYTHONUTF8="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")


def end_child(child) -> None:
    """Ends a child process, first politely."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def call(command: list, **more) -> int:
    """Runs a command that talks to the reader itself; the exit status. An interruption ends it too."""
    child = subprocess.Popen([str(part) for part in command], cwd=str(ROOT), env=dict(quiet_environment(), **more))
    try:
        return child.wait()
    except BaseException:
        end_child(child)
        raise


def headline(line: str) -> str:
    """A line of pip's, shortened to what a reader wants to know."""
    line = line.strip()
    found = re.match(r"(Collecting|Downloading|Using cached|Processing) (?:.*/)?([^\s/]+)(.*\(.*B\))?", line)
    if found:
        return f"{found.group(1)} {found.group(2).split('-cp')[0].split('-py')[0]}{found.group(3) or ''}"
    if line.startswith("Installing collected packages"):
        return f"Unpacking {line.count(',') + 1} package{'s' if ',' in line else ''}"
    return ""


def run_logged(command: list, what: str) -> tuple:
    """Runs a long silent command under a live line: (exit status, output). The output is kept in build/install.log."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    progress, lines, shown, written = Progress(what), [], "starting", 0
    child = subprocess.Popen(
        [str(part) for part in command],
        cwd=str(ROOT),
        env=quiet_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    reader = threading.Thread(target=lambda: lines.extend(iter(child.stdout.readline, "")), daemon=True)
    try:
        reader.start()
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {what}\n")
            while reader.is_alive() or written < len(lines):
                reader.join(0.3)
                for line in lines[written:]:
                    shown, written = headline(line) or shown, written + 1
                    log.write(line)
                log.flush()
                progress.show(shown)
        status = child.wait()
    except BaseException:
        progress.end("stopped")
        end_child(child)
        raise
    progress.end("done" if status == 0 else "failed")
    return status, "".join(lines)


def meaning(output: str) -> str:
    """What pip's failure means for the reader, as a sentence with its next step."""
    for pattern, sentence in MEANINGS:
        if re.search(pattern, output):
            return sentence
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    return f"The packages could not be installed ({errors[-1] if errors else 'pip gave no reason'})."


def venv_python() -> Path:
    """The Python of .venv, whether it is there or not."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def probe() -> dict:
    """What the environment's Python says of itself; empty when there is none, it is too old, or it is half-made."""
    question = (
        "import json, pip, platform, sysconfig;"
        "print(json.dumps([platform.python_version(), sysconfig.get_path('purelib')]))"
    )
    try:
        answer = subprocess.check_output(
            [str(venv_python()), "-c", question], env=quiet_environment(), stderr=subprocess.DEVNULL, timeout=120
        )
        version, packages = json.loads(answer.decode())
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    if old_python([int(part) for part in version.split(".")[:2]]) or VENV not in Path(packages).parents:
        return {}
    return {"version": version, "packages": Path(packages)}


def ensure_environment() -> dict:
    """The working .venv, made or repaired when it has to be."""
    found = probe()
    if not found:
        # Started with the broken environment's own Python, we need the one that it was made from.
        inside = Path(sys.prefix).resolve() == VENV
        base = getattr(sys, "_base_executable", sys.executable) if inside else sys.executable
        if VENV.is_symlink() or VENV.is_file():
            VENV.unlink()
        what = "Repairing .venv" if VENV.exists() else "Making .venv"
        status, output = run_logged([base, "-m", "venv", "--clear", VENV], what)
        found = probe() if status == 0 else {}
        if not found:
            if "ensurepip" in output:
                raise Stop("This Python cannot make environments. On Debian and Ubuntu: sudo apt install python3-venv")
            raise Stop(meaning(output) if "Errno 28" in output else f"Python could not make .venv; {LOG} says why.")
    # One line on the environment's path lets notebooks import `helpers` from where the course stands.
    with (found["packages"] / "course.pth").open("w", encoding="locale") as file:
        file.write(f"{ROOT}\n")
    hold_torch()
    return found


def digest(requirements: Path, version: str) -> str:
    """What a stamp holds: a change of the requirements or of Python changes it."""
    return hashlib.sha256(version.encode() + b"\n" + requirements.read_bytes()).hexdigest()


def stamp(requirements: Path) -> Path:
    """The file that says that these requirements are in."""
    return VENV / f"{requirements.stem}.installed"


def is_installed(requirements: Path, version: str) -> bool:
    """Whether these very requirements were installed to the end."""
    try:
        return stamp(requirements).read_text() == digest(requirements, version)
    except OSError:
        return False


def forget_half_installed(packages: Path) -> None:
    """Lets pip see again what a killed pip left half-unpacked: it takes a package with metadata for a whole one."""
    for metadata in packages.glob("*.dist-info"):
        record = metadata / "RECORD"
        # pip adds its own mark to RECORD as the very last step.
        if not record.is_file() or "INSTALLER" not in record.read_text(encoding="utf-8", errors="replace"):
            shutil.rmtree(str(metadata))


def has_nvidia() -> bool:
    """Whether an NVIDIA GPU or its driver is here."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def torch_plans(requirements: str, system: str, nvidia: bool) -> list:
    """Ways to get torch, best first, each as pip's arguments.

    The default build for Linux brings gigabytes of CUDA packages. Without an NVIDIA GPU a CPU build comes first: one
    that pip's own configuration offers, then that of PyTorch's CPU index, which is not waited for long.
    """
    pinned = re.search(r"^torch==(\S+)", requirements, re.MULTILINE).group(0)
    if system != "Linux" or nvidia:
        return [[pinned]]
    cpu = [f"{pinned}+cpu", "--only-binary=:all:", "--timeout=10", "--retries=0"]
    return [cpu, [*cpu, f"--index-url={CPU_INDEX}"], [pinned]]


def pip_settings() -> Path:
    """Where pip keeps what holds for this environment alone."""
    return VENV / ("pip.ini" if os.name == "nt" else "pip.conf")


def hold_torch() -> None:
    """Makes the pin of torch hold for what a learner installs by hand too, wherever the course was moved to."""
    pin = VENV / "torch.txt"
    if pin.exists():
        # As an address, because pip splits a path at its spaces.
        pip_settings().write_text(f"[install]\nconstraint = {pin.as_uri()}\n", encoding="utf-8")


def install_torch(packages: Path, pip=run_logged) -> None:
    """Installs torch ahead of the rest, then pins the very build, so that nothing installed later replaces it."""
    for old_pin in (VENV / "torch.txt", pip_settings()):  # it would forbid a new one
        if old_pin.exists():
            old_pin.unlink()
    plans = torch_plans((ROOT / "requirements.txt").read_text(encoding="utf-8"), platform.system(), has_nvidia())
    for plan in plans:
        last = plan is plans[-1]
        build = "CPU build" if "+cpu" in plan[0] else "default build"
        where = ", from PyTorch's own index" if any("--index-url" in part for part in plan) else ""
        status, output = pip([venv_python(), "-m", "pip", "install", "--no-deps", *plan], f"torch ({build}{where})")
        if status == 0:
            break
        if last or re.search(MEANINGS[0][0], output):
            raise Stop(meaning(output))
    installed = sorted(packages.glob("torch-*.dist-info"))[-1].name[len("torch-") : -len(".dist-info")]
    (VENV / "torch.txt").write_text(f"torch=={installed}\n")
    hold_torch()


def require_space(packages: Path, engines: bool) -> None:
    """Stops before the download where the disk is too small for it."""
    needed = (0 if list(packages.glob("torch-*.dist-info")) else INSTALL_GIB) + (ENGINES_GIB if engines else 0)
    free = shutil.disk_usage(str(ROOT)).free / 1024**3
    if free < needed:
        raise Stop(f"The packages need about {needed} GiB of disk, and {free:.1f} GiB are free at {ROOT}.")


def install(found: dict, dev: bool, engines: bool = False) -> None:
    """Installs the requirements that changed since they were last installed to the end."""
    wanted = [ROOT / "requirements.txt"] + ([ROOT / "requirements-dev.txt"] if dev else [])
    wanted += [ROOT / "requirements-engines.txt"] if engines else []
    stale = [file for file in wanted if not is_installed(file, found["version"])]
    if not stale:
        return
    more = engines and wanted[-1] in stale
    require_space(found["packages"], more)
    if more:
        say(f"The engines are a download of up to {ENGINES_GIB} GB, once: one to five minutes on a usual line.")
    for file in stale:
        if stamp(file).exists():
            stamp(file).unlink()
    forget_half_installed(found["packages"])
    if wanted[0] in stale:
        install_torch(found["packages"])
    command = [venv_python(), "-m", "pip", "install", "--progress-bar=off", f"--constraint={VENV / 'torch.txt'}"]
    for file in wanted:
        command += ["--requirement", file]
    status, output = run_logged(command, "Packages from " + " and ".join(file.name for file in stale))
    if status:
        raise Stop(f"{meaning(output)} The whole story is in {LOG}.")
    for file in stale:
        stamp(file).write_text(digest(file, found["version"]))


def prepare(dev: bool = False, engines: bool = False) -> Path:
    """Everything that a notebook needs: .venv, packages, the embedded model. The environment's Python."""
    if LOG.exists() and LOG.stat().st_size > 10**7:
        LOG.unlink()
    install(ensure_environment(), dev, engines)
    if call([venv_python(), "-m", "helpers.models.sources", "fetch", MODEL]):
        raise Stop("The embedded model is not ready, for the reason above. The same command continues from here.")
    return venv_python()


def free_port(wanted: int) -> int:
    """The first free port from `wanted` on, on loopback."""
    for port in range(wanted, min(wanted + 50, 65536)):
        with socket.socket() as probe_socket:
            if probe_socket.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise Stop(f"No port from {wanted} on is free: choose another with --port.")


def setup(asked) -> int:
    """Sets up and opens nothing."""
    prepare(engines=asked.engines)
    say("Ready. Next: python3 course.py lab")
    return 0


def lab(asked) -> int:
    """Sets up, then opens JupyterLab at the first notebook, for this machine only."""
    python = prepare(engines=asked.engines)
    # Lab would ask each learner whether it may fetch news.
    overrides = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    overrides.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    overrides.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": quiet}))
    port, token = free_port(asked.port), secrets.token_hex(24)
    command = [python, "-m", "jupyterlab", *([] if asked.no_browser else [FIRST]), f"--ServerApp.root_dir={ROOT}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.open_browser={not asked.no_browser}", "--Application.log_level=WARN"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--ServerApp.allow_root=True")  # as in a container; it is on loopback, behind its token
    say(f"JupyterLab: http://127.0.0.1:{port}/lab/tree/{FIRST}?token={token}\nCtrl-C here ends it.")
    try:
        # The token goes by the environment: a command line can be read by every user of the machine.
        status = call(command, JUPYTER_TOKEN=token)
    except KeyboardInterrupt:
        say("\nJupyterLab has ended.")
        return 0
    if status:
        raise Stop("JupyterLab ended with an error, shown above.")
    return 0


def test_steps(python: Path) -> list:
    """Each step of the proof: its name, its command, and what its environment has besides."""
    pytest = [python, "-m", "pytest"]
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-o", "timeout=0", "notebooks"]
    still = {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return [
        ("ruff check", [python, "-m", "ruff", "check", "."], {}),
        ("ruff format", [python, "-m", "ruff", "format", "--check", "."], {}),
        ("mypy", [python, "-m", "mypy", "helpers/"], {}),
        ("unit tests", pytest, still),
        ("notebooks", pytest + nbval, still),
    ]


def test(asked) -> int:
    """The whole proof; every step runs, whatever the one before it said."""
    results = []
    # Linux is where every engine that needs no machine of its own exists; elsewhere those that are here are tested.
    for name, command, more in test_steps(prepare(dev=True, engines=platform.system() == "Linux")):
        say(f"\n── {name}")
        began = time.monotonic()
        results.append((name, call(command, **more), time.monotonic() - began))
    say("\n── summary")
    for name, status, seconds in results:
        say(f"{'passed' if status == 0 else 'FAILED'}  {seconds:6.1f} s  {name}")
    return 1 if any(status for _, status, _ in results) else 0


def run(asked) -> int:
    """Executes notebooks in order and keeps the copies under build."""
    return call([prepare(), "-m", "helpers.course.execute", *asked.notebooks, *(["--save"] if asked.save else [])])


def doctor(asked) -> int:
    """What this machine has; the short version before the set-up."""
    if is_installed(ROOT / "requirements.txt", probe().get("version", "")):
        return call([venv_python(), "-m", "helpers.doctor", *(["--json"] if asked.json else [])])
    free = round(shutil.disk_usage(str(ROOT)).free / 1024**3, 1)
    facts = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "free_disk_gib": free,
        "nvidia": has_nvidia(),
        "environment": "incomplete" if VENV.exists() else "missing",
    }
    if asked.json:
        say(json.dumps(facts, indent=2))
        return 0
    say("\n".join(f"{name.replace('_', ' '):14} {value}" for name, value in facts.items()))
    say(
        f"The set-up needs about {INSTALL_GIB} GiB of disk and has {'' if free > INSTALL_GIB else 'not '}enough. "
        "Next: python3 course.py lab. After it, the doctor tells more."
    )
    return 0


def parse(arguments) -> argparse.Namespace:
    """What the reader asked for."""
    parser = argparse.ArgumentParser(prog="course.py", description="A course on small language models.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for function in (lab, test, run, doctor, setup):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        if function in (lab, setup):
            command.add_argument("--engines", action="store_true", help="also install the engines of lesson 07")
        if function is lab:
            command.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
            command.add_argument("--port", type=int, default=8888, help="the first port to try (8888)")
        elif function is run:
            command.add_argument("notebooks", nargs="*", metavar="NUMBER", help="01 03 …; all without one")
            command.add_argument("--save", action="store_true", help="also store the outputs in notebooks/")
        elif function is doctor:
            command.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(arguments)


def interrupted(*_) -> None:
    """A polite kill is treated as Ctrl-C, so that children end and nothing half-made is stamped."""
    raise KeyboardInterrupt


def main(arguments=None) -> int:
    """The command line; the exit status."""
    sentence = old_python(sys.version_info)
    if sentence:
        print(sentence, file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that lacks a character is no reason to stop
    asked = parse(arguments)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        return asked.function(asked)
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        return 130
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", -1))
        print(f"\n{FULL_DISK if full else f'The system refused a step: {error}.'}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
