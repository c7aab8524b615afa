"""The folder of a class: who is in it, what the instructor chose, and where each thing lies.

class.toml     what was chosen, a line each with its reason; edited by hand
people.csv     a line a person: name, number on this machine, hash of the PIN
pins.csv       names and PINs, to be handed out and deleted
seed           what hidden cases and pseudonyms come from; keep it to yourself
shared/        the models and the kernel, which everybody reads and nobody writes
homes/         a folder a person, closed to all others
hub/           the Hub's own state
grading/       nbgrader's folders
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.errors import InvalidInput

INSTRUCTOR = "instructor"
#: The numbers of a class's people begin here, above those that systems give out.
FIRST_UID = 20_000
PIN_DIGITS = 8
#: So many wrong PINs in a row are free; then each costs a wait, so that 10⁸ PINs are not tried.
FREE_TRIES, WAIT_SECONDS = 5, 30.0
#: The cost of a PIN's hash: 16 MiB and about 50 ms (RFC 7914).
SCRYPT: dict[str, Any] = {"n": 2**14, "r": 8, "p": 1}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an instructor may change in class.toml."""

    host: str = "127.0.0.1"
    port: int = 8000
    memory_gib: float = 4.0
    cores: float = 1.0
    idle_minutes: float = 60.0
    login: str = "pin"
    models: tuple[str, ...] = ("smollm2-135m", "qwen2.5-coder-0.5b")
    slots: int = 4
    context: int = 2048
    backend: str = ""
    per_minute: int = 20
    at_once: int = 2
    most_new_tokens: int = 256
    certificate: str = ""
    certificate_key: str = ""
    address: str = ""


TEMPLATE = """\
# What this class may take. A line that is left out has the value that is shown here.
host = "127.0.0.1"        # this machine alone; "0.0.0.0" lets the class in, then set the certificate too
port = 8000
certificate = ""          # a file in PEM for HTTPS, and its key; without them PINs and tokens pass in the clear
certificate_key = ""
address = ""              # with HTTPS, by the name in the certificate: "https://slm.example.org:8000"

memory_gib = 4.0          # for one person: the largest notebook peaks at 3.5 GiB, see the README's table
cores = 1.0               # for one person's processes together
idle_minutes = 60.0       # a server that nobody uses so long is stopped; the files stay
login = "pin"             # or "github", "google", "azuread", "generic-oauth": see docs/class.md

models = ["smollm2-135m", "qwen2.5-coder-0.5b"]  # what the shared server offers; the first is what is asked by default
slots = 4                 # requests of one model that are computed together
context = 2048            # tokens of each
backend = ""              # an OpenAI-compatible address to use instead, such as "http://10.0.0.5:8000/v1"
per_minute = 20           # for one person: requests a minute
at_once = 2               # and at once
most_new_tokens = 256     # the longest answer
"""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody of the class: `uid` is the number that their processes run under, `pin` the salted hash."""

    name: str
    uid: int
    pin: str

    def knows(self, pin: str) -> bool:
        """Whether this is their PIN; takes about 50 ms, right or wrong."""
        salt, _, digest = self.pin.partition(":")
        return hmac.compare_digest(hashed(pin.strip(), bytes.fromhex(salt)), digest)


def hashed(pin: str, salt: bytes) -> str:
    """The scrypt hash of a PIN, in hexadecimal."""
    return hashlib.scrypt(pin.encode(), salt=salt, **SCRYPT).hex()


class Door:
    """Lets people in by name and PIN; after FREE_TRIES wrong ones in a row a name waits before each further one."""

    def __init__(self, folder: ClassFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._wrong: dict[str, tuple[int, float]] = {}

    def opens(self, name: str, pin: str) -> bool:
        """Whether this is the PIN of somebody in the class, who need not wait."""
        person = self._folder.people().get(name)
        count, last = self._wrong.get(name, (0, 0.0))
        if person is None or (count >= FREE_TRIES and self._clock() - last < WAIT_SECONDS):
            return False
        right = person.knows(pin)
        self._wrong[name] = (0 if right else count + 1, self._clock())
        return right


class ClassFolder:
    """A class's folder: without a path the one that SLM_CLASS names, else ~/slm-class, or /srv/slm-class for root."""

    def __init__(self, path: Path | str | None = None) -> None:
        usual = "/srv/slm-class" if is_root() else "~/slm-class"
        self.path = Path(path or os.environ.get("SLM_CLASS") or usual).expanduser().absolute()

    def at(self, *parts: str) -> Path:
        """A place in the folder."""
        return self.path.joinpath(*parts)

    def make(self) -> None:
        """Makes what is not there yet; who may look into what is set each time."""
        for name, mode in (("", 0o711), ("homes", 0o711), ("shared", 0o755), ("hub", 0o700), ("grading", 0o700)):
            place = self.at(name)
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(mode)
        if not self.at("class.toml").exists():
            self.at("class.toml").write_text(TEMPLATE, encoding="utf-8")
        if not self.at("seed").exists():
            self.write_secret("seed", secrets.token_hex(32))

    def write_secret(self, name: str, text: str) -> None:
        """Writes a file that only its owner reads, whole or not at all."""
        place = self.at(f".{name}.new")
        place.unlink(missing_ok=True)
        place.touch(0o600, exist_ok=False)
        place.write_text(text, encoding="utf-8")
        os.replace(place, self.at(name))

    @property
    def chosen(self) -> Chosen:
        """What class.toml says, checked name by name."""
        place = self.at("class.toml")
        try:
            found = tomllib.loads(place.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InvalidInput(f"There is no class in {self.path}.", "python3 course.py class people NAME …") from None
        except ValueError as error:
            raise InvalidInput(f"{place} is no TOML: {error}.", "Mend that line.") from None
        for name, value in found.items():
            known = {one.name: one.default for one in fields(Chosen)}
            if name not in known:
                raise InvalidInput(f"{place} has {name!r}, which is no setting.", f"There are: {', '.join(known)}.")
            wanted = type(known[name]) if not isinstance(known[name], tuple) else list
            if type(value) is not wanted and not (wanted is float and type(value) is int):
                raise InvalidInput(f"{place}: {name} must be like {known[name]!r}, not {value!r}.")
        values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in found.items()}
        return Chosen(**values)

    def people(self) -> dict[str, Member]:
        """Everybody by name; read anew each time, so that who was added just now can log in."""
        try:
            rows = csv.reader(io.StringIO(self.at("people.csv").read_text(encoding="utf-8")))
            return {name: Member(name, int(uid), pin) for name, uid, pin in rows}
        except FileNotFoundError:
            return {}

    def add(self, names: Iterable[str]) -> dict[str, str]:
        """Adds people, the instructor first, and leaves their PINs in pins.csv: names and PINs of who is new."""
        there = self.people()
        wanted = dict.fromkeys([INSTRUCTOR, *(name.strip().lower() for name in names)])
        if wrong := [name for name in wanted if not _NAME.fullmatch(name)]:
            raise InvalidInput(f"{wrong[0]!r} cannot be a name here.", "Take letters a-z, digits, dots and dashes.")
        self.make()
        uid = max([FIRST_UID - 1, *(one.uid for one in there.values())])
        new: dict[str, str] = {}
        for name in wanted:
            if name not in there:
                uid, salt = uid + 1, secrets.token_bytes(16)
                new[name] = "".join(secrets.choice("0123456789") for _ in range(PIN_DIGITS))
                there[name] = Member(name, uid, f"{salt.hex()}:{hashed(new[name], salt)}")
        if new:
            pins = self.at("pins.csv")
            before = pins.read_text(encoding="utf-8") if pins.exists() else ""
            self.write_secret("pins.csv", before + "".join(f"{name},{pin}\n" for name, pin in new.items()))
            self.write_secret("people.csv", "".join(f"{one.name},{one.uid},{one.pin}\n" for one in there.values()))
        return new

    @cached_property
    def seed(self) -> str:
        """The secret that hidden cases and pseudonyms are drawn from."""
        return self.at("seed").read_text(encoding="utf-8").strip()

    def pseudonym(self, name: str) -> str:
        """What a person is called where names must not be stored; the same each time, and nobody's guess."""
        return "p" + hmac.new(self.seed.encode(), name.encode(), hashlib.sha256).hexdigest()[:10]


def is_root() -> bool:
    """Whether this process may start others under another user's number."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
