"""What is set outside the code: a variable of the environment or of `.env`, and whether it can be what it says.

    setting("NVIDIA_API_KEY")    its text, or None
    certificate_troubles()       a sentence for each variable that names certificates which are not there

The environment goes first, which is where a Codespace puts its secrets; `.env` stands beside the README, and git
ignores it. A variable, or a file that one names, which is mended in a running notebook counts at once.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import unicodedata
from collections.abc import Iterable
from functools import cache
from io import StringIO
from pathlib import Path

from helpers.data import ROOT
from helpers.errors import InvalidInput

#: The file of a learner's own settings.
DOTENV = ROOT / ".env"
#: The variables that tell a client whom to trust: OpenSSL's own, which httpx reads too, and those of requests.
TRUST_OF_HTTPX, TRUST_OF_REQUESTS = ("SSL_CERT_FILE", "SSL_CERT_DIR"), ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: How a file begins that says in which encoding it is.
MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def setting(variable: str) -> str | None:
    """The text of a variable, from the environment, else from `.env`; None where it is empty or not set."""
    return os.environ.get(variable, "").strip() or (_from_dotenv().get(variable) or "").strip() or None


def no_key(value: str) -> str | None:
    """Why a text cannot be a key, without showing it: what was pasted along; None where it can be one."""
    if not value:
        return "it is empty"
    if value.lower().startswith("bearer"):
        return "it begins with the word Bearer, which is added when it is sent"
    for place, sign in enumerate(value, start=1):
        if not "!" <= sign <= "~" or sign in "\"'`":
            name = unicodedata.name(sign, "a line break" if sign in "\r\n" else f"U+{ord(sign):04X}").lower()
            return f"character {place} of {len(value)} is {name}"
    return None


def is_loopback(host: str) -> bool:
    """Whether a host's name or number is this machine, to which no proxy leads."""
    name = host.rstrip(".")
    try:
        place = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761, section 6.3
    mapped = getattr(place, "ipv4_mapped", None) or place
    return mapped.is_loopback or mapped.is_unspecified


def certificate_troubles(variables: Iterable[str] = TRUST_OF_HTTPX + TRUST_OF_REQUESTS) -> list[str]:
    """A sentence for each of these variables that names no certificates: no server can prove to be itself then."""
    found = []
    for variable in variables:
        named = os.environ.get(variable)
        if named and (why := _no_certificates(variable, named)):
            found.append(f"{variable} names {why}, so no server can prove to be itself.")
    return found


def _no_certificates(variable: str, named: str) -> str | None:
    folders = [part for part in named.split(os.pathsep) if Path(part).is_dir()]
    if variable == "SSL_CERT_DIR":
        return None if folders else "a folder that is not there"
    if folders and variable in TRUST_OF_REQUESTS:
        return None
    try:
        state = Path(named).stat()
        _read_certificates(named, state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        return "a file that is not there"
    except OSError:  # also ssl.SSLError
        return "a file that cannot be read as certificates"
    return None


@cache
def _read_certificates(named: str, *state: int) -> None:
    """Reads them once for each state of the file: a tenth of a second, and every client and download asks."""
    ssl.create_default_context(cafile=named)


def _from_dotenv() -> dict[str, str | None]:
    from dotenv import dotenv_values

    try:
        data = DOTENV.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(
            f"The file .env cannot be read: {error.strerror}.", "Make it a file of your own, see .env.example."
        ) from error
    return dotenv_values(stream=StringIO(_decoded(data)), interpolate=False)


def _decoded(data: bytes) -> str:
    """The text of a file that an editor or a shell wrote in its own encoding: PowerShell's `>` writes UTF-16.

    Its `>>` writes UTF-16 without a mark behind whatever stood there, so bytes of zero are dropped.
    """
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace").replace("\0", "")
    data = data.replace(b"\0", b"")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
