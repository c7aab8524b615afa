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
import time
from pathlib import Path

from helpers.backends.providers import leave_note, running_note, server_note
from helpers.backends.remote import Key, fetch
from helpers.errors import CourseError, InvalidInput
from helpers.server import HASHED, Guest, Server, serve

#: The options that are numbers, with what is taken without them.
OPTIONS = [
    ("slots", 4, "requests of a model that are computed together (4)"), ("context", 2048, "tokens of each (2048)"),
    ("threads", None, "threads of one engine"), ("engines", None, "engines that share the slots; as the cores hold"),
    ("port", 0, "a free one is found without this"), ("students", 0, "make FILE with so many keys if it is not there"),
    ("per-minute", None, "requests a minute for each key"), ("at-once", None, "requests at once for each key"),
    ("most-new-tokens", None, "the longest answer"),
]  # fmt: skip


def class_keys(file: Path, students: int = 0, **limits: int | None) -> list[Guest]:
    """The guests of a class from a file of lines `name,key`; for a file that is not there, that many are made.

    A file that is made holds hashes. The keys themselves stand once beside it, in `….keys.csv`, to be handed out and
    deleted. A file of your own may hold keys or hashes. Both are readable by their owner alone.
    """
    if not file.exists():
        if students < 1:
            raise InvalidInput(f"There is no file {file}.", "Say how many keys to make: --students 25.")
        made = [Guest(f"student{number:02}", Key(secrets.token_urlsafe(24))) for number in range(1, students + 1)]
        handed = {one.name: one.key.reveal() for one in made}
        hashed = {one.name: f"{HASHED}{one.digest}" for one in made}
        for path, rows in ((file.with_suffix(".keys.csv"), handed), (file, hashed)):
            path.touch(0o600, exist_ok=False)
            path.write_text("".join(f"{name},{key}\n" for name, key in rows.items()), encoding="utf-8")
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


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    asked = _arguments(arguments)
    # A list and no Event: a handler that sets an Event while this thread waits for it may wait for itself, forever.
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    options = vars(asked)
    limits = {"requests_per_minute": options.pop("per_minute"), "at_once": options.pop("at_once")}
    keys, students = options.pop("keys"), options.pop("students")
    try:
        if options.pop("usage"):
            print(json.dumps(fetch(running_note(), "/usage"), indent=2))
            return 0
        guests = class_keys(keys, students, **limits) if keys else []
        server = serve(guests=guests, progress=lambda line: print(line, flush=True), **options)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    with server, leave_note(server.owner, server.run):
        print(told(server, keys, shown=sys.stdout.isatty()), flush=True)
        while server.is_running() and not stopped:
            time.sleep(0.2)
    return 0


def told(server: Server, keys: Path | None, *, shown: bool) -> str:
    """Address, key, which is shown on a terminal alone, and three lines that are ready once KEY is set."""
    key = server.owner.key.reveal() if server.owner.key else ""
    where = f"KEY={key}\n" if shown else f"KEY is in {server_note()}, which only you can read.\n"
    where += f"The class's names and hashes are in {keys}: give each person their key.\n" if keys else ""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})
    named = f'{{model_id: local, api_key_name: local, model_name: {server.model}, api_base: "{server.address}"}}'
    return (
        f"{', '.join(server.models)} answers at {server.address}, {server.slots} requests at once. Ctrl+C ends it.\n"
        f"{where}curl {server.address}/chat/completions -H \"Authorization: Bearer $KEY\" -d '{body}'\n"
        f"OpenAI(base_url={server.address!r}, api_key=KEY).responses.create(model={server.model!r}, input='Hello')\n"
        f"""printf -- '- {named}\\n' >> "$(dirname "$(llm logs path)")/extra-openai-models.yaml" """
        f"""&& llm -m local --key "$KEY" Hello\n"""
        f"In a notebook: open_chat({server.model!r}, provider='local')."
    )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helpers.server", description="A server with OpenAI's routes.")
    parser.add_argument("models", nargs="*", default=["smollm2-135m"], help="names of the catalog, or GGUF files")
    for name, default, about in OPTIONS:
        parser.add_argument(f"--{name}", type=int, default=default, help=about)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets others in; then use --class")
    parser.add_argument("--class", dest="keys", type=Path, metavar="FILE", help="name,key lines, one a person")
    parser.add_argument("--usage", action="store_true", help="print what each key of the running server has used")
    asked = parser.parse_args(arguments)
    if asked.host not in ("127.0.0.1", "localhost", "::1") and asked.keys is None:
        parser.error("a server that others can reach needs --class FILE, so that each has a key and limits")
    return asked


if __name__ == "__main__":
    sys.exit(main())
