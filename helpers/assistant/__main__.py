"""The assistant for a folder of one's own documents: `python -m helpers.assistant DIR`, until Ctrl+C.

python -m helpers.assistant ~/Documents/house                          a page in the browser, on this machine alone
python -m helpers.assistant ~/Documents/house --model smollm2-135m     with another model of the course
python -m helpers.assistant ~/Documents/house --mcp                    its search for other programs, by MCP over stdio
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from helpers.assistant.index import DocumentIndex, open_index
from helpers.assistant.web import AssistantPage
from helpers.backends.remote import Key
from helpers.chat import open_chat
from helpers.errors import CourseError
from helpers.models import files
from helpers.server import serve
from helpers.server.lines import Impatient, loopback_socket

#: Three passages of 120 words, the question and the answer have room in it.
PAGE_CONTEXT = 2048


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.assistant", description="Asks a folder of documents.")
    parser.add_argument("folder", type=Path, help="Markdown, text, PDF and pictures of pages")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name of the catalog, or a GGUF file")
    parser.add_argument("--port", type=int, default=0, help="a free one is found without this")
    parser.add_argument("--mcp", action="store_true", help="serve the search by MCP on standard input and output")
    asked = parser.parse_args(arguments)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # standard output is MCP's

    try:
        with open_index(asked.folder, progress=lambda name: tell(f"reading {name} …")) as index:
            for one in index.left_out:
                tell(f"left out: {one}")
            tell(f"{len(index.passages)} passages of {asked.folder}")
            if asked.mcp:
                from helpers.assistant.mcp_server import run_stdio

                run_stdio(index)
            else:
                _serve_page(index, asked.model, asked.port)
    except CourseError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _serve_page(index: DocumentIndex, model: str, port: int) -> None:
    """The page until Ctrl+C, in front of a server with one slot that ends with it."""
    key = Key(secrets.token_urlsafe(24))
    with (
        loopback_socket(port) as sock,  # first: a port that is taken is told before a model is loaded
        serve(model, slots=1, context=PAGE_CONTEXT, progress=lambda line: print(line, flush=True)),
        open_chat(model, provider="local", context=PAGE_CONTEXT) as chat,
        _link(f"http://127.0.0.1:{sock.getsockname()[1]}/#{key.reveal()}"),
    ):
        config = uvicorn.Config(AssistantPage(index, chat, key).app(), http=Impatient, ws="none", log_level="critical")
        config.timeout_graceful_shutdown = 1
        uvicorn.Server(config).run(sockets=[sock])


@contextlib.contextmanager
def _link(address: str) -> Iterator[None]:
    """Tells the page's address, which holds its key: on a terminal, else in a file that its owner alone can read."""
    if sys.stdout.isatty():
        print(f"Open {address}\nCtrl+C ends it.", flush=True)
        yield
        return
    note = files.home() / "assistant" / "page.txt"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    note.touch(0o600)
    note.write_text(address, encoding="utf-8")
    print(f"The page's address is in {note}, which only you can read.", flush=True)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
