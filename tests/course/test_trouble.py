"""What pip says, and what a Python or system lacks, become sentences with a next step."""

from __future__ import annotations

import re
from typing import Any

import pytest

from helpers.course import trouble

RETRYING = "WARNING: Retrying (Retry(total=4)) after connection broken by '{}': /simple/torch/\n"
NONE = "ERROR: Could not find a version that satisfies the requirement torch (from versions: none)\n"
LONG_PATH = (
    "HINT: This error might have occurred since this system does not have Windows Long Path support enabled. You can "
    "find information on how to enable this at https://pip.pypa.io/warnings/enable-long-paths"
)

SAID = {
    "a full disk": ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
    "a full disk on Windows": ("OSError: [WinError 112] There is not enough space on the disk", "disk is full"),
    "a quota": ("ERROR: Could not install packages: [Errno 122] Disk quota exceeded: '/home/ada'", "quota"),
    "a quota on macOS": ("OSError: [Errno 69] Disc quota exceeded", "quota"),
    "a path too long": (f"ERROR: [Errno 2] No such file or directory: 'C:\\\\a'\n{LONG_PATH}", "short path"),
    "a name too long": ("OSError: [Errno 36] File name too long: '/home/ada'", "short path"),
    "a file in use": ("PermissionError: [WinError 32] The process cannot access the file", "in use"),
    "a file of somebody else": ("ERROR: [Errno 13] Permission denied: '/course/.venv/lib'", "belong to you"),
    "a file that is guarded": ("ERROR: [WinError 5] Access is denied: 'C:\\\\x.pyd'", "belong to you"),
    "a disk for reading": ("OSError: [Errno 30] Read-only file system: '/course/.venv'", "cannot be written to"),
    "no memory": ("  File 'x.py', line 1\nMemoryError", "memory ran out"),
    "no ssl module": (
        "WARNING: pip is configured with locations that require TLS/SSL, however the ssl module in Python is not "
        "available.\n" + RETRYING.format("SSLError") + NONE,
        "without its ssl module",
    ),
    "no ssl module, told by urllib3": (
        "Could not fetch URL: Can't connect to HTTPS URL because the SSL module is not available. - skipping",
        "without its ssl module",
    ),
    "no pip": ("/usr/bin/python3: No module named pip", "python3-venv"),
    "no ensurepip": ("The virtual environment was not created: ensurepip is not available.", "python3-venv"),
    "a company's certificate": (
        RETRYING.format(
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "self-signed certificate in certificate chain (_ssl.c:1006)'))"
        )
        + NONE,
        "PIP_CERT=",
    ),
    "certificates that are gone": (
        "ERROR: Could not find a suitable TLS CA certificate bundle, invalid path: /gone.pem",
        "file of certificates that is not there",
    ),
    "a proxy with a password": (
        RETRYING.format(
            "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication "
            "Required'))"
        ),
        "asks for a name and a password",
    ),
    "a proxy that refuses": (
        RETRYING.format("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden'))"),
        "proxy that HTTPS_PROXY",
    ),
    "a proxy that is none": ("ERROR: Missing dependencies for SOCKS support.", "proxy's address cannot be used"),
    "TLS cut": (
        RETRYING.format("SSLError(SSLEOFError(8, '[SSL: UNEXPECTED_EOF_WHILE_READING]'))"),
        "did not answer in TLS",
    ),
    "an altered file": (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
        "not the one that",
    ),
    "a lock with a gap": (
        "ERROR: Hashes are required in --require-hashes mode, but they are missing from some requirements",
        "course.py lock",
    ),
    "a conflict": ("ERROR: ResolutionImpossible: for help visit https://pip.pypa.io", "exclude each other"),
    "an index with a password": ("ERROR: HTTP error 403 while getting https://index/a.whl", "wants to know who asks"),
    "an index with a fault": (
        "ERROR: HTTP error 503 while getting https://index/a.whl\nERROR: 503 Server Error: Unavailable for url",
        "a fault of its own",
    ),
    "no network": (
        RETRYING.format("NewConnectionError(...)") + "ERROR: No matching distribution",
        "could not be reached",
    ),
    "no name server": (RETRYING.format("[Errno 11001] getaddrinfo failed"), "could not be reached"),
    "a download cut short": (
        "ERROR: ProtocolError: IncompleteRead(10 bytes read, 20 more expected)",
        "could not be reached",
    ),
    "no wheel": ("error: Microsoft Visual C++ 14.0 or greater is required.", "have to be compiled"),
    "no such version": ("ERROR: No matching distribution found for xllamacpp==1", "does not offer a pinned version"),
    "something new": ("ERROR: something new", "something new"),
    "nothing": ("", "pip gave no reason"),
}


@pytest.mark.fault("set-up")
@pytest.mark.parametrize(("output", "sentence"), SAID.values(), ids=SAID.keys())
def test_what_pip_says_becomes_a_sentence(output: str, sentence: str) -> None:
    assert sentence in trouble.meaning(output)


@pytest.mark.fault("set-up")
def test_pips_own_hint_about_long_paths_is_kept() -> None:
    assert LONG_PATH in trouble.meaning(SAID["a path too long"][0])


@pytest.mark.fault("set-up")
def test_a_pip_that_the_system_killed_is_told_as_memory_that_ran_out() -> None:
    assert "memory ran out" in trouble.meaning("Installing collected packages", status=-9)


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("name", ["a full disk", "a quota", "no ssl module", "a file of somebody else"])
def test_where_this_machine_refuses_no_other_index_is_tried(name: str) -> None:
    assert trouble.is_here(SAID[name][0])
    assert not trouble.is_here(SAID["no such version"][0])


LINUX: dict[str, Any] = {
    "python": [3, 11, 7],
    "kind": "CPython",
    "free_threaded": False,
    "bits": 64,
    "system": "Linux",
    "machine": "x86_64",
    "macos": "",
    "translated": False,
    "musl": False,
    "glibc": "2.36",
    "ssl": True,
}
MAC = LINUX | {"system": "Darwin", "machine": "arm64", "macos": "15.1", "glibc": ""}
WINDOWS = LINUX | {"system": "Windows", "machine": "AMD64", "glibc": ""}


@pytest.mark.parametrize(
    "here",
    [
        LINUX,
        LINUX | {"machine": "aarch64", "python": [3, 14, 1]},
        MAC,
        MAC | {"macos": "10.16"},
        WINDOWS,
        trouble.facts(),
    ],
)
def test_what_the_packages_are_built_for_passes(here: dict[str, Any]) -> None:
    assert trouble.unfit(here) == ""


@pytest.mark.fault("set-up")
@pytest.mark.parametrize(
    ("here", "sentence"),
    [
        (MAC | {"machine": "x86_64"}, r"Intel processor.*Codespace"),
        (MAC | {"machine": "x86_64", "translated": True}, "arch -arm64"),
        (MAC | {"macos": "13.6.1"}, r"macOS 14 or newer, and this is macOS 13\.6\.1"),
        (WINDOWS | {"machine": "ARM64"}, r"not built for Windows on ARM64.*Codespace"),
        (WINDOWS | {"machine": "WIN32", "bits": 32}, "32-bit Python"),
        (LINUX | {"machine": "armv7l", "bits": 32}, "32-bit Python"),
        (LINUX | {"machine": "riscv64"}, "not built for Linux on riscv64"),
        (LINUX | {"musl": True, "glibc": ""}, "musl"),
        (LINUX | {"glibc": "2.17"}, r"glibc 2\.28"),
        (LINUX | {"system": "FreeBSD", "machine": "amd64", "glibc": ""}, "not built for FreeBSD"),
        (LINUX | {"python": [3, 15, 0]}, r"Python 3\.15, newer.*3\.11 to 3\.14"),
        (LINUX | {"kind": "PyPy"}, "CPython"),
        (LINUX | {"free_threaded": True}, "free-threaded"),
        (LINUX | {"ssl": False}, "without its ssl module"),
    ],
)
def test_what_no_package_is_built_for_is_told_with_what_works(here: dict[str, Any], sentence: str) -> None:
    assert re.search(sentence, trouble.unfit(here))
