"""The server in a terminal: `python -m helpers.server [MODEL]`, until Ctrl+C.

python -m helpers.server qwen2.5-coder-0.5b                                  for yourself
python -m helpers.server --class class.csv --students 25 --host 0.0.0.0 --port 8080     for a class
python -m helpers.server --usage                                             what each key of it has used
"""

from __future__ import annotations

import argparse
import csv
import json
import secrets
import signal
import sys
import threading
from pathlib import Path

from helpers.backends.providers import leave_note, running_note, server_note
from helpers.backends.remote import Key, fetch
from helpers.errors import CourseError, InvalidInput
from helpers.server import HASHED, Guest, Server, serve


def class_keys(file: Path, students: int = 0, **limits: int | None) -> list[Guest]:
    """The guests of a class from a file of lines `name,key`; for a file that is not there, that many are made.

    A file that is made holds hashes. The keys themselves stand once beside it, in `….keys.csv`, to be handed out and
    deleted. A file of your own may hold keys or hashes. Both are readable by their owner alone.
    """
    if not file.exists():
        if students < 1:
            raise InvalidInput(f"There is no file {file}.", "Say how many keys to make: --students 25.")
        made = [Guest(f"student{number:02}", Key(secrets.token_urlsafe(24))) for number in range(1, students + 1)]
        _write(file.with_suffix(".keys.csv"), [(one.name, one.key.reveal()) for one in made])
        _write(file, [(one.name, f"{HASHED}{one.digest}") for one in made])
    data = file.read_bytes()
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{file}, line {line}: this is no UTF-8.", "Save the file as CSV in UTF-8.") from None
    guests: dict[str, Guest] = {}
    for number, row in enumerate(csv.reader(lines), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == ["name", "key"]):
            continue
        try:
            if len(cells) != 2 or not all(cells):
                raise InvalidInput("a line is a name, a comma and a key.")
            guest = Guest(cells[0], Key(cells[1]), **limits)
            if guest.digest in guests or guest.name in {one.name for one in guests.values()}:
                raise InvalidInput("the name or the key stands on an earlier line too.")
        except CourseError as error:
            raise InvalidInput(f"{file}, line {number}: {error.message}", error.next_step) from None
        guests[guest.digest] = guest
    if not guests:
        raise InvalidInput(f"{file} is not a list of keys.", "Each line is a name, a comma and a key.")
    return list(guests.values())


def _write(file: Path, rows: list[tuple[str, str]]) -> None:
    file.touch(0o600, exist_ok=False)
    file.write_text("".join(f"{name},{key}\n" for name, key in rows), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    asked = _arguments(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        if asked.usage:
            print(json.dumps(fetch(running_note(), "/usage"), indent=2))
            return 0
        limits = {"requests_per_minute": asked.per_minute, "at_once": asked.at_once}
        guests = class_keys(asked.keys, asked.students, **limits) if asked.keys else []
        names = ("slots", "context", "threads", "engines", "host", "port", "most_new_tokens")
        options = {name: getattr(asked, name) for name in names}
        server = serve(models=asked.models, guests=guests, progress=lambda line: print(line, flush=True), **options)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    with server, leave_note(server.owner, server.run):
        print(told(server, asked.keys, shown=sys.stdout.isatty()), flush=True)
        while server.is_running() and not stop.wait(0.5):
            pass
    return 0


def told(server: Server, keys: Path | None, *, shown: bool) -> str:
    """Address, key and three ready lines; the key itself on a terminal alone."""
    key = server.owner.key.reveal() if shown and server.owner.key else "$KEY"
    where = "" if shown else f"KEY is in {server_note()}, which only you can read.\n"
    people = f"The class's names and hashes are in {keys}: give each person their key.\n" if keys else ""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"{', '.join(server.models)} answers at {server.address}, {server.slots} requests at once. Ctrl+C ends it.\n"
        f"key: {key}\n{where}{people}"
        f"curl {server.address}/chat/completions -H 'Authorization: Bearer {key}' -d '{body}'\n"
        f"OpenAI(base_url={server.address!r}, api_key={key!r}).responses.create(model={server.model!r}, input='Hi')\n"
        f"OPENAI_API_KEY={key} OPENAI_BASE_URL={server.address} llm -m gpt-4o-mini 'Hello'\n"
        f"In a notebook: open_chat({server.model!r}, provider='local')."
    )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helpers.server", description="A server with OpenAI's routes.")
    parser.add_argument("models", nargs="*", default=["smollm2-135m"], help="names of the catalog, or GGUF files")
    for name, default, about in (
        ("slots", 4, "requests of a model that are computed together (4)"),
        ("context", 2048, "tokens for each of them (2048)"),
        ("threads", None, "threads of one engine"),
        ("engines", None, "engines that share the slots; as many as the cores hold"),
        ("port", 0, "a free one is found without this"),
        ("students", 0, "make FILE with so many keys if it is not there"),
        ("per-minute", None, "requests a minute for each key of a class"),
        ("at-once", None, "requests at once for each key of a class"),
        ("most-new-tokens", None, "the longest answer"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=about)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; then use --class")
    parser.add_argument("--class", dest="keys", type=Path, metavar="FILE", help="name,key lines, one a person")
    parser.add_argument("--usage", action="store_true", help="print what each key of the running server has used")
    asked = parser.parse_args(arguments)
    if asked.host not in ("127.0.0.1", "localhost", "::1") and asked.keys is None:
        parser.error("a server that others can reach needs --class FILE, so that each has a key and limits")
    return asked


if __name__ == "__main__":
    sys.exit(main())
