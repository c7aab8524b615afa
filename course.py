#!/usr/bin/env python3
"""The course from a clone: the standard library, any system.

    python3 course.py lab             sets everything up, then opens the first notebook
    python3 course.py test            proves it: style, types, unit tests, every notebook
    python3 course.py run 01 03       executes notebooks without a browser; all of them without a number
    python3 course.py doctor          tells what this machine has and what it can do
    python3 course.py setup           sets up and opens nothing
    python3 course.py fetch NAME      fetches a further model ahead of time; --list names them
    python3 course.py lock            locks what the requirements bring, after a change there
    python3 course.py translate       brings locale/ up to date and writes the pages in other languages
    python3 course.py site            builds the course's pages on the web, in all its languages
    python3 course.py class           for instructors: a class's Hub, its exercises collected and graded

`lab` and `setup` take --engines, which also installs the engines of requirements-engines.txt, and --small, which leaves
out the second model. What needs no start lies in helpers/course: the proof, the locks, what pip's messages mean.

Everything installed goes to the folder .venv, everything written to build. Whatever interrupts a step, the same
command continues: a stamp is written only after the requirements are in, and what is half-made is made again. What
somebody else made is never wiped.
"""

# An old Python has to read this file far enough to say so: nothing below is newer than Python 3.6.
import argparse
import contextlib
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
MADE_HERE = "made-by-course"
FIRST = "notebooks/00_start.ipynb"
MODEL = "smollm2-135m"
SECOND_MODEL = "qwen2.5-coder-0.5b"
ENCODER = "all-minilm-l6-v2"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INSTALL_GIB = 3
ENGINES_GIB = 1.3

if sys.version_info >= OLDEST:  # an older one could not read it
    sys.path.insert(0, str(ROOT))
    from helpers.course import trouble


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

    def read() -> None:
        with child.stdout:
            lines.extend(child.stdout)

    reader = threading.Thread(target=read, daemon=True)
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


def venv_python() -> Path:
    """The Python of .venv, whether it is there or not."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def probe() -> dict:
    """`facts` of the environment's Python, its version and its packages' folder; empty when it cannot be used."""
    question = (
        "import json, os, sys, sysconfig; sys.path.insert(0, sys.argv[1]); from helpers.course import trouble;"
        "packages = os.path.relpath(sysconfig.get_path('purelib'), sys.prefix);"
        "print(json.dumps(dict(trouble.facts(), packages=packages, own=os.path.samefile(sys.prefix, sys.argv[2]))))"
    )
    command = [str(venv_python()), "-c", question, str(ROOT), str(VENV)]
    try:
        answer = subprocess.check_output(command, env=quiet_environment(), stderr=subprocess.DEVNULL, timeout=120)
        found = json.loads(answer.decode("ascii"))
    except subprocess.TimeoutExpired:  # it may be sound, on a machine that is too busy
        raise Stop(
            "The Python in .venv did not answer for two minutes. Run again when this machine is less busy."
        ) from None
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    if old_python(found["python"]) or not found["ssl"] or not found["own"]:
        return {}
    version = ".".join(str(number) for number in found["python"])
    return dict(found, version=version, packages=VENV / found["packages"])


def made_here() -> bool:
    """Whether course.py made what lies at .venv, or nobody did: only then may it be made anew."""
    if VENV.is_symlink() or not VENV.is_dir():
        return not os.path.lexists(str(VENV))
    signs = [VENV / MADE_HERE, VENV / "torch.txt", *VENV.glob("*.installed")]
    return any(sign.exists() for sign in signs) or not any(path.is_file() for path in VENV.rglob("*"))


def make_environment() -> dict:
    """A new .venv, in place of a broken one of our own."""
    if not made_here():
        raise Stop(
            f"The folder {VENV} was not made by this course, and its Python does not run or is too old; it was left "
            "as it is. Rename or remove it, then run the same command again."
        )
    sentence = trouble.unfit(trouble.facts())
    if sentence:
        raise Stop(sentence)
    # Started with the broken environment's own Python, we need the one that it was made from.
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    base = getattr(sys, "_base_executable", sys.executable) if inside else sys.executable
    what = "Repairing .venv" if VENV.exists() else "Making .venv"
    # The mark comes first and stays, so that what an interruption leaves is known as our own.
    VENV.mkdir(exist_ok=True)
    (VENV / MADE_HERE).touch()
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path.name != MADE_HERE:
            path.unlink()
    status, output = run_logged([base, "-m", "venv", VENV], what)
    found = probe() if status == 0 else {}
    if not found:
        raise Stop(
            trouble.meaning(output) if trouble.is_here(output) else f"Python could not make .venv; {LOG} says why."
        )
    return found


def add_pip() -> dict:
    """pip in an environment that came without, as uv's do; all that is in it stays."""
    status, _ = run_logged([venv_python(), "-m", "ensurepip", "--default-pip"], "Adding pip to .venv")
    found = probe()
    if status or not found.get("pip"):
        raise Stop(
            f"The environment {VENV} has no pip, and its Python cannot add it; it was left as it is. Make it with pip "
            "(uv venv --seed), or rename it and let the course make its own, then run the same command again."
        )
    return found


def path_line(root: Path) -> str:
    """The line of a .pth file that puts a folder on Python's path, whatever letters are in its name.

    Python 3.11 and 3.12 read such a file in the locale's encoding, later ones in UTF-8. ASCII is the same in both, so a
    folder with other letters is named by its bytes.
    """
    if re.match(r"[!-~]([ -~]*[!-~])?$", str(root)):
        return f"{root}\n"
    return f"import os, sys; sys.path.append(os.fsdecode({os.fsencode(str(root))!r}))\n"


def ensure_environment() -> dict:
    """The working .venv, made or repaired when it has to be."""
    found = probe() or make_environment()
    if not found["pip"]:  # ours was left half-made
        found = make_environment() if made_here() else add_pip()
    sentence = trouble.unfit(found)
    if sentence:
        again = (
            ""
            if trouble.unfit(trouble.facts())
            else f" That is the Python in {VENV}: rename or remove that folder first."
        )
        raise Stop(sentence + again)
    # One line on the environment's path lets notebooks import `helpers` from where the course stands.
    (found["packages"] / "course.pth").write_text(path_line(ROOT), encoding="ascii")
    hold_torch()
    return found


def digest(lock: Path, version: str) -> str:
    """What a stamp holds: a change of the lock or of Python changes it."""
    return hashlib.sha256(version.encode() + b"\n" + lock.read_bytes()).hexdigest()


def stamp(lock: Path) -> Path:
    """The file that says that what this lock names is in."""
    return VENV / f"{lock.stem}.installed"


def is_installed(lock: Path, version: str) -> bool:
    """Whether what this very lock names was installed to the end."""
    try:
        return stamp(lock).read_text() == digest(lock, version)
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
        # What a CUDA build needs besides is in no lock.
        alone = [] if platform.system() == "Linux" and build == "default build" else ["--no-deps"]
        status, output = pip([venv_python(), "-m", "pip", "install", *alone, *plan], f"torch ({build}{where})")
        if status == 0:
            break
        if last or trouble.is_here(output):
            raise Stop(trouble.meaning(output, status))
    installed = sorted(packages.glob("torch-*.dist-info"))[-1].name[len("torch-") : -len(".dist-info")]
    (VENV / "torch.txt").write_text(f"torch=={installed}\n")
    hold_torch()


def require_space(packages: Path, engines: bool) -> None:
    """Stops before the download where the disk is too small for it."""
    needed = (0 if list(packages.glob("torch-*.dist-info")) else INSTALL_GIB) + (ENGINES_GIB if engines else 0)
    free = shutil.disk_usage(str(ROOT)).free / 1024**3
    if free < needed:
        raise Stop(f"The packages need about {needed} GiB of disk, and {free:.1f} GiB are free at {ROOT}.")


def users() -> list:
    """The ids of the JupyterLabs and kernels that run from .venv now; none where psutil is not in it yet."""
    question = (
        "import json, os, psutil, sys;"
        "here = os.path.normcase(os.path.join(sys.argv[1], ''));"
        "lines = [(p.pid, p.info['cmdline'] or ['']) for p in psutil.process_iter(['cmdline'])];"
        "busy = lambda line: any(os.path.basename(word).startswith(('jupyter', 'ipykernel')) for word in line[1:4]);"
        "print(json.dumps([pid for pid, line in lines if os.path.normcase(line[0]).startswith(here) and busy(line)]))"
    )
    try:
        command = [str(venv_python()), "-c", question, str(VENV)]
        return json.loads(
            subprocess.check_output(command, env=quiet_environment(), stderr=subprocess.DEVNULL, timeout=60)
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def locks(dev: bool, engines: bool, site: bool = False) -> list:
    """The locks to install from, the one that all need first."""
    further = (("dev", dev), ("site", site), ("engines", engines))
    return [ROOT / "requirements.lock"] + [ROOT / f"requirements-{name}.lock" for name, wanted in further if wanted]


def install(found: dict, dev: bool, engines: bool = False, site: bool = False) -> None:
    """Installs the requirements that changed since they were last installed to the end."""
    wanted = locks(dev, engines, site)
    stale = [lock for lock in wanted if not is_installed(lock, found["version"])]
    if not stale:
        return
    # What only joins the packages that are there, such as the tests' tools, disturbs no kernel.
    running = users() if wanted[0] in stale else []
    if running:
        raise Stop(
            "The packages in .venv have to change, and JupyterLab or a notebook runs from it (process "
            f"{', '.join(str(pid) for pid in running)}): end it, with Ctrl-C where it was started, then run the same "
            "command."
        )
    more = engines and wanted[-1] in stale
    require_space(found["packages"], more)
    if more:
        say(f"The engines are a download of up to {ENGINES_GIB} GB, once: one to five minutes on a usual line.")
    for lock in stale:
        if stamp(lock).exists():
            stamp(lock).unlink()
    forget_half_installed(found["packages"])
    if wanted[0] in stale:
        install_torch(found["packages"])
    install_locked(wanted, "Packages of " + " and ".join(lock.name for lock in stale))
    for lock in stale:
        stamp(lock).write_text(digest(lock, found["version"]))


def install_locked(wanted: list, what: str) -> None:
    """Installs exactly what the locks name, each file by its hash; nothing is built, as a build fetches more."""
    command = [venv_python(), "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--progress-bar=off"]
    for lock in wanted:
        command += ["--requirement", lock]
    status, output = run_logged(command, what)
    if status:
        raise Stop(f"{trouble.meaning(output, status)} The whole story is in {LOG}.")


def take(file) -> bool:
    """Tries to get the lock on an open file, which ends with the process; a disk without locks counts as taken."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


@contextlib.contextmanager
def alone():
    """Lets one set-up of this clone work at a time: a second one says so and waits for the first."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.with_name("setup.lock").open("a") as file:
        if not take(file):
            say(
                "Another set-up of this course is at work in this folder: waiting until it ends. Ctrl-C stops the "
                "waiting."
            )
            while not take(file):
                time.sleep(0.5)
        yield


def is_ready(found: dict, dev: bool, engines: bool, site: bool = False) -> bool:
    """Whether nothing has to be installed or written, as in a folder that was set up once and may only be read."""
    wanted = locks(dev, engines, site)
    if not found or not found["pip"] or not all(is_installed(lock, found["version"]) for lock in wanted):
        return False
    line = found["packages"] / "course.pth"
    return line.exists() and line.read_bytes().decode("ascii", "replace").strip() == path_line(ROOT).strip()


def prepare(dev: bool = False, engines: bool = False, site: bool = False) -> Path:
    """Everything that a notebook needs: .venv, packages, the embedded model. The environment's Python."""
    if not is_ready(probe(), dev, engines, site):
        with alone():
            if LOG.exists() and LOG.stat().st_size > 10**7:
                LOG.unlink()
            install(ensure_environment(), dev, engines, site)
    if call(fetching(MODEL)):
        raise Stop("The embedded model is not ready, for the reason above. The same command continues from here.")
    return venv_python()


def fetching(*arguments: str) -> list:
    """The command that fetches models ahead of time."""
    return [venv_python(), "-m", "helpers.models.sources", "fetch", *arguments]


def fetch_second() -> None:
    """Fetches the second model; without it everything but the cells that use it works."""
    if call(fetching(SECOND_MODEL)):
        say(
            f"Without {SECOND_MODEL} the cells that use it say so. To try again: python3 course.py fetch {SECOND_MODEL}"
        )


@contextlib.contextmanager
def fetching_second():
    """Fetches the second model in another process meanwhile and prints what it says; ends it with the block."""
    child = subprocess.Popen(
        [str(part) for part in fetching(SECOND_MODEL)],
        cwd=str(ROOT),
        env=quiet_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    ended = threading.Event()

    def relay() -> None:
        with child.stdout:
            for line in child.stdout:
                if line.strip() and not ended.is_set():
                    say(f"  [{SECOND_MODEL}] {line.strip()}")
        if child.wait() and not ended.is_set():
            say(f"  [{SECOND_MODEL}] is not here, for the reason above. Again: python3 course.py fetch {SECOND_MODEL}")

    reader = threading.Thread(target=relay, daemon=True)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        end_child(child)
        reader.join(10)


def free_port(wanted: int) -> int:
    """The first port from `wanted` on, on loopback, that a server can have: it is bound to know."""
    for port in range(max(wanted, 1), min(wanted + 50, 65536)):
        with socket.socket() as trial:
            if os.name == "nt":  # where a second program may otherwise bind the same port
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:  # as servers do, since a port that has just been left is free
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
                trial.listen(1)
            except OSError:
                continue
            return port
    raise Stop(f"No port from {wanted} on is free: choose another with --port.")


def setup(asked) -> int:
    """Sets up and opens nothing."""
    prepare(engines=asked.engines)
    if not asked.small:
        fetch_second()
    say("Ready. Next: python3 course.py lab")
    return 0


def write_changed(path: Path, content: bytes) -> None:
    """Writes a file that is not yet so, and nothing else: the folder may be one that can only be read."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def dress_lab(packages) -> None:
    """No question for news, code that wraps in a narrow window, a width to read at: for the Lab of .venv alone."""
    wanted, looks = Path(trouble.__file__).parent / "lab", VENV / "share" / "jupyter" / "lab" / "settings"
    write_changed(looks / "overrides.json", (wanted / "overrides.json").read_bytes())
    if packages:  # where Lab looks for a style last: a reader's own comes before it
        style = packages / "jupyter_server" / "static" / "custom" / "custom.css"
        write_changed(style, (wanted / "custom.css").read_bytes())


def notebook_in(language: str, python: Path) -> str:
    """The first notebook in a language, whose pages are written anew where it is not English."""
    if language == "en":
        return FIRST
    if call([python, "-m", "helpers.course.translation", "--language", language, "make"]):
        raise Stop("The pages in that language could not be written, for the reason above.")
    folder, _, name = FIRST.rpartition("/")
    return f"{folder}/{language}/{name}"


def lab(asked) -> int:
    """Sets up, then opens JupyterLab at the first notebook, for this machine only."""
    python = prepare(engines=asked.engines)
    first = notebook_in(asked.language, python)
    dress_lab(probe().get("packages"))
    port, token = free_port(asked.port), secrets.token_hex(24)
    command = [python, "-m", "jupyterlab", *([] if asked.no_browser else [first]), f"--ServerApp.root_dir={ROOT}"]
    command += [
        "--LabApp.custom_css=True",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += [f"--ServerApp.open_browser={not asked.no_browser}", "--Application.log_level=WARN"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--ServerApp.allow_root=True")  # as in a container; it is on loopback, behind its token
    say(f"JupyterLab: http://127.0.0.1:{port}/lab/tree/{first}?token={token}\nCtrl-C here ends it.")
    try:
        with contextlib.nullcontext() if asked.small else fetching_second():
            # The token goes by the environment: a command line can be read by every user of the machine.
            status = call(command, JUPYTER_TOKEN=token)
    except KeyboardInterrupt:
        say("\nJupyterLab has ended.")
        return 0
    if status:
        raise Stop("JupyterLab ended with an error, shown above.")
    return 0


def test(asked) -> int:
    """The proof: style, types, contracts, unit tests, notebooks; --quick leaves out what opens an engine."""
    # Linux is where every engine that needs no machine of its own exists; elsewhere those that are here are tested.
    python = prepare(dev=True, engines=platform.system() == "Linux")
    if not asked.quick:
        fetch_second()
        call(fetching(ENCODER))  # without it the tests of it are left out, and say so
    chosen = [f"--{name}" for name in ("quick", "nightly", "class") if getattr(asked, name)]
    return call([python, "-m", "helpers.course.proof", *chosen])


def run(asked) -> int:
    """Executes notebooks in order and keeps the copies under build."""
    python = prepare()
    fetch_second()
    return call([python, "-m", "helpers.course.execute", *asked.notebooks, *(["--save"] if asked.save else [])])


def fetch(asked) -> int:
    """Fetches models ahead of time; --list names them, --from says where to look."""
    prepare()
    return call(fetching(*asked.arguments))


def lock(asked) -> int:
    """Locks, by version and hash, what the requirements bring; after each change there."""
    return call([prepare(dev=True), "-m", "helpers.course.lock", *(["--upgrade"] if asked.upgrade else [])])


def translate(asked) -> int:
    """Takes up what changed in the English pages, and writes those in other languages."""
    return call([prepare(), "-m", "helpers.course.translation", "--language", asked.language])


def site(asked) -> int:
    """Builds the course's pages on the web, in all its languages, under build/site/html."""
    return call([prepare(site=True), "-m", "website.build", *(["--links"] if asked.links else [])])


def class_(asked) -> int:
    """For instructors: a class's Hub, and its exercises collected and graded; `class --help` tells more."""
    return call([prepare(), "-m", "helpers.classroom", *asked.arguments])


def doctor(asked) -> int:
    """What this machine has; the short version before the set-up."""
    if is_installed(ROOT / "requirements.lock", probe().get("version", "")):
        return call([venv_python(), "-m", "helpers.doctor", *(["--json"] if asked.json else [])])
    free = round(shutil.disk_usage(str(ROOT)).free / 1024**3, 1)
    here = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "free_disk_gib": free,
        "nvidia": has_nvidia(),
        "environment": "incomplete" if VENV.exists() else "missing",
        "unfit": trouble.unfit(trouble.facts()),
    }
    if asked.json:
        say(json.dumps(here, indent=2))
        return 0
    say("\n".join(f"{name.replace('_', ' '):14} {value}" for name, value in here.items() if name != "unfit"))
    say(
        here["unfit"]
        or f"The set-up needs about {INSTALL_GIB} GiB of disk and has {'' if free > INSTALL_GIB else 'not '}enough. "
        "Next: python3 course.py lab. After it, the doctor tells more."
    )
    return 0


#: The options of each command: its name, then what argparse is told of it.
OPTIONS = {
    lab: (
        ("--no-browser", {"action": "store_true", "help": "print the address and open nothing"}),
        ("--port", {"type": int, "default": 8888, "help": "the first port to try (8888)"}),
        ("--language", {"default": "en", "help": "of the notebooks: en, sv"}),
    ),
    test: (
        ("--quick", {"action": "store_true", "help": "only what opens no engine; at each save"}),
        ("--class", {"action": "store_true", "help": "only a class: a Hub, three people, submissions"}),
        ("--nightly", {"action": "store_true", "help": "with the tests that are slow for what they prove"}),
    ),
    run: (
        ("notebooks", {"nargs": "*", "metavar": "NUMBER", "help": "01 03 …; all without one"}),
        ("--save", {"action": "store_true", "help": "also store the outputs in notebooks/"}),
    ),
    doctor: (("--json", {"action": "store_true", "help": "for programs"}),),
    setup: (),
    fetch: (("arguments", {"nargs": "*", "metavar": "NAME", "help": "names, --from mirror|hub|index, --list"}),),
    lock: (("--upgrade", {"action": "store_true", "help": "take the newest of what no requirement pins"}),),
    translate: (("--language", {"default": "sv", "help": "its code; sv without it"}),),
    site: (("--links", {"action": "store_true", "help": "ask whether each address on the web answers"}),),
    class_: (),
}


def parse(arguments) -> argparse.Namespace:
    """What the reader asked for."""
    parser = argparse.ArgumentParser(prog="course.py", description="A course on small language models.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for function, options in OPTIONS.items():
        command = commands.add_parser(function.__name__.rstrip("_"), help=function.__doc__)
        command.set_defaults(function=function)
        if function in (lab, setup):
            command.add_argument("--engines", action="store_true", help="also install the engines of lesson 07")
            command.add_argument("--small", action="store_true", help="leave the second model out, 491 MB")
        for name, told in options:
            command.add_argument(name, **told)
    words = sys.argv[1:] if arguments is None else arguments
    # Their options are those of the modules that fetch and teach.
    if words[:1] == ["class"] or (words[:1] == ["fetch"] and not {"-h", "--help"} & set(words)):
        asked = parser.parse_args(words[:1])
        asked.arguments = words[1:]
        return asked
    return parser.parse_args(words)


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
        told = trouble.meaning(str(error)) if trouble.is_here(str(error)) else ""
        print(f"\nThe system refused a step: {error}. {told}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
