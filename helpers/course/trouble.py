"""What stands in the way of a set-up, in sentences: a Python or system without packages, and what pip says.

`course.py` asks before any environment exists, so only the standard library is imported here.
"""

from __future__ import annotations

import importlib
import platform
import re
import subprocess
import sys
import sysconfig
from typing import Any

NEWEST = (3, 14)
#: The systems and processors that every pinned package has a build for.
BUILT_FOR = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64",), "Windows": ("AMD64",)}
FULL_DISK = "The disk is full. Free some space, then run the same command again: it continues where it stopped."
ELSEWHERE = (
    "What works from here is a GitHub Codespace: the course's page on GitHub, Code, Codespaces; it runs in the browser."
)
NO_PIP = (
    "This Python lacks what makes environments (venv, ensurepip or pip). On Debian and Ubuntu: sudo apt install "
    "python3-venv; elsewhere take Python from python.org. Then run the same command again."
)
NO_SSL = (
    "This Python was built without its ssl module, so it can download nothing. Take Python 3.11 from python.org or "
    "from your system's packages, and start course.py with it."
)
#: What pip says, and what it means; the first that matches is told. First what this machine refuses, where no other
#: index helps.
MACHINE_SAYS = (
    (r"No space left on device|Errno 28\b|not enough space on the disk|WinError 112\b", FULL_DISK),
    (
        r"[Dd]isk quota exceeded|Errno 122\b|Errno 69\b|WinError 1295\b",
        "Your quota of disk on this machine is used up. Free some of your own space, or put the course on another "
        "disk, and run the same command again.",
    ),
    (
        r"enable-long-paths|File name too long|Errno (36|63)\b|WinError 206\b",
        "A file's path became longer than this system allows. Move the course to a folder with a short path, such as "
        "C:\\course, or allow long paths, and run the same command again.",
    ),
    (
        r"WinError 32\b|being used by another process|Text file busy",
        "A file of .venv is in use: close JupyterLab, notebooks and editors that use this environment, then run the "
        "same command again.",
    ),
    (
        r"Errno 30\b|[Rr]ead-only file system",
        "The course lies on a disk that cannot be written to. Copy it to a folder of your own and run the command "
        "there.",
    ),
    (
        r"Permission denied|Errno 13\b|\[Errno 1\]|Operation not permitted|WinError 5\b|Access is denied",
        "The system refused to let a file be written. See that the course's folder and everything in .venv belong "
        "to you and that no program guards or uses them, then run the same command again.",
    ),
    (
        r"MemoryError|Cannot allocate memory|Errno 12\b",
        "The memory ran out while packages were unpacked. Close other programs and run the same command again.",
    ),
    (
        r"ssl module in Python is not available|SSL module is not available|No module named '?_?ssl",
        NO_SSL,
    ),
    (r"No module named '?(pip|ensurepip|venv)\b|ensurepip is not available", NO_PIP),
)
#: Then what lies between here and the index, what the index answers, and what its files are.
INDEX_SAYS = (
    (
        r"Could not find a suitable TLS CA certificate bundle|invalid path: .*\.(pem|crt|cer)",
        "A variable names a file of certificates that is not there: look at PIP_CERT, REQUESTS_CA_BUNDLE, "
        "CURL_CA_BUNDLE and SSL_CERT_FILE, mend or unset the one that is wrong, and run the same command again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError",
        "The package index was reached, but its certificate could not be verified. Most often a company's proxy or a "
        "virus scanner opens the traffic with a certificate of its own: ask for that certificate's file and set "
        "PIP_CERT=/path/to/it.pem. On a Mac with Python from python.org run 'Install Certificates.command' first; see "
        "also that this machine's date is right. Then run the same command again.",
    ),
    (
        r"407 Proxy Authentication|failed: 407\b",
        "The proxy asks for a name and a password. Set HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT (with special "
        "characters written as %40 and the like) and run the same command again.",
    ),
    (
        r"Missing dependencies for SOCKS|InvalidProxyURL|ProxySchemeUnknown|Not supported proxy scheme|check proxy URL",
        "The proxy's address cannot be used: HTTPS_PROXY has to look like http://HOST:PORT. Set it so, or unset it, "
        "and run the same command again.",
    ),
    (
        r"ProxyError|Cannot connect to proxy|Tunnel connection failed",
        "The proxy that HTTPS_PROXY or HTTP_PROXY names could not be reached, or refuses to pass this on. Correct the "
        "variable, or unset it where no proxy is needed, and run the same command again.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "A file that was sent is not the one that the lock promises: it was damaged on the way, or the index serves "
        "an altered one. It was thrown away. Run the same command again; if it happens twice, tell whoever runs the "
        "index.",
    ),
    (
        r"Hashes are required in --require-hashes|must have their versions pinned with ==|Invalid requirement",
        "A lock does not hold all that the requirements bring. Restore the files requirements*.lock with git, or make "
        "them anew with: python3 course.py lock",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "Two packages ask for versions of a third that exclude each other. Restore requirements*.txt and "
        "requirements*.lock with git, and look for a constraint of your own in pip's configuration (pip config "
        "list).",
    ),
    (
        r"\b(401|403) Client Error|HTTP error (401|403)\b|401 Error|Credentials not correct",
        "The package index wants to know who asks, or refuses to give this out. Look at the address and the "
        "password in pip's configuration (pip config list), or ask whoever runs the index.",
    ),
    (
        r"\b5\d\d Server Error|HTTP error 5\d\d\b|too many 5\d\d error responses",
        "The package index answers that it has a fault of its own. Wait a few minutes and run the same command again: "
        "what is already there is kept.",
    ),
    (
        r"SSLError|SSLEOFError|WRONG_VERSION_NUMBER",
        "The index did not answer in TLS as it should: most often a proxy or a firewall is in between. Set "
        "HTTPS_PROXY to your network's proxy, or try another network, and run the same command again.",
    ),
    (
        r"NewConnectionError|NameResolution|name resolution|getaddrinfo|Max retries exceeded|timed out|IncompleteRead"
        r"|RemoteDisconnected|Connection (refused|reset|aborted|broken)|Network is unreachable|from versions: none",
        "The package index could not be reached, or has nothing for this system. Check the connection and run the same "
        "command again: what is already there is kept.",
    ),
    (
        r"Failed (to build|building)|Microsoft Visual C\+\+|subprocess-exited-with-error|error: command .* failed",
        "A package would have to be compiled, as none is prebuilt for this Python and system. Python 3.11 is the "
        "one that the course is tested with.",
    ),
    (
        r"No matching distribution",
        "The package index does not offer a pinned version for this Python and system. Python 3.11 is the one that "
        "the course is tested with.",
    ),
)


def importable(name: str) -> bool:
    """Whether this Python has a module of that name that loads."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def facts() -> dict[str, Any]:
    """What decides which packages exist for the Python that runs this, as values that JSON can hold."""
    system = platform.system()
    machine = sysconfig.get_platform().rpartition("-")[2].upper() if system == "Windows" else platform.machine()
    translated = ["sysctl", "-n", "sysctl.proc_translated"]  # is an Intel program on an Apple chip
    return {
        "python": list(sys.version_info[:3]),
        "kind": platform.python_implementation(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": system,
        "machine": machine,
        "macos": platform.mac_ver()[0],
        "translated": system == "Darwin" and machine == "x86_64" and subprocess.getoutput(" ".join(translated)) == "1",
        "musl": "musl" in (sysconfig.get_config_var("SOABI") or ""),
        "glibc": platform.libc_ver()[1] if system == "Linux" and platform.libc_ver()[0] == "glibc" else "",
        "ssl": importable("ssl"),
        "pip": importable("pip"),
    }


def at_least(version: str, oldest: tuple[int, int]) -> bool:
    """Whether a version such as 14.6.1 is not older; one that cannot be read is taken for new."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return not numbers or tuple(numbers) >= oldest


def unfit(here: dict[str, Any]) -> str:
    """Why the pinned packages do not exist for this Python or system, and the next step; empty where they do."""
    return unfit_python(here) or unfit_system(here)


def unfit_python(here: dict[str, Any]) -> str:
    """The sentence for a Python that the packages are not built for."""
    version = tuple(here["python"][:2])
    take = f"Start course.py with Python 3.11 to {NEWEST[0]}.{NEWEST[1]}"
    checks = (
        (version > NEWEST, f"This is Python {version[0]}.{version[1]}, newer than the pinned packages. {take}."),
        (here["kind"] != "CPython", f"This is {here['kind']}, and the packages are built for CPython. {take}."),
        (
            here["free_threaded"],
            f"This is a free-threaded Python, which not all packages know. {take}, as usually built.",
        ),
        (not here["ssl"], NO_SSL),
        (
            here["translated"],
            "This Python is built for Intel and runs translated on an Apple chip, and PyTorch has no build for it. "
            "Install Python from python.org, which knows both, and start it so: arch -arm64 python3 course.py lab",
        ),
        (
            here["bits"] == 32,
            f"This is a 32-bit Python, and PyTorch exists for 64 bits only. {take}, built for 64 bits. {ELSEWHERE}",
        ),
    )
    return next((sentence for wrong, sentence in checks if wrong), "")


def unfit_system(here: dict[str, Any]) -> str:
    """The sentence for a system that the packages are not built for."""
    system, machine, macos = here["system"], here["machine"], here["macos"]
    checks = (
        (
            system == "Darwin" and machine == "x86_64",
            "PyTorch publishes no build for Macs with an Intel processor, so the course cannot be installed on this "
            "one.",
        ),
        (
            # 10.16 is what a newer macOS tells a Python that was built on an older one.
            system == "Darwin" and not macos.startswith("10.16") and not at_least(macos, (14, 0)),
            f"The packages need macOS 14 or newer, and this is macOS {macos}: update it, and run the same command "
            "again.",
        ),
        (here["musl"], "This Linux is built on musl, as Alpine is, and PyTorch needs glibc, as in Debian."),
        (
            not at_least(here["glibc"], (2, 28)),
            f"The packages need glibc 2.28 or newer; this Linux has {here['glibc']}.",
        ),
        (machine not in BUILT_FOR.get(system, ()), f"The packages are not built for {system} on {machine or 'this'}."),
    )
    return next((f"{sentence} {ELSEWHERE}" for wrong, sentence in checks if wrong), "")


def is_here(output: str) -> bool:
    """Whether this machine itself refuses, so that no other index helps."""
    return any(re.search(pattern, output) for pattern, _ in MACHINE_SAYS)


def meaning(output: str, status: int = 1) -> str:
    """What pip's failure means for the reader, as a sentence with its next step, and with pip's own hints."""
    if status in (-9, 137):  # SIGKILL, which only the system sends here
        output += "MemoryError"
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    unknown = f"The packages could not be installed ({errors[-1] if errors else 'pip gave no reason'})."
    told = next((sentence for pattern, sentence in MACHINE_SAYS + INDEX_SAYS if re.search(pattern, output)), unknown)
    hints = [line.strip() for line in output.splitlines() if line.strip().startswith("HINT:")]
    return " ".join([told, *dict.fromkeys(hints)])
