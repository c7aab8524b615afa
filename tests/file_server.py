"""A web server for files on loopback, with the faults that mirrors, hubs and the networks before them have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import waiting


@dataclass
class Files:
    """What the server has, how it fails, and what it was asked: (method, path, first byte)."""

    contents: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    #: The bytes after which it breaks off, answer by answer.
    breaks: list[int] = field(default_factory=list)
    #: What it sends for every path, as a login page does.
    instead: bytes | None = None
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(files: Files) -> Iterator[Files]:
    """The files at `files.address`, as long as the block runs."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            range_asked = self.headers.get("Range", "bytes=0-") if files.ranges else "bytes=0-"
            start = int(range_asked.removeprefix("bytes=").removesuffix("-"))
            files.asked.append((self.command, self.path, start))
            content = files.instead if files.instead is not None else files.contents.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if with_body:
                end = start + files.breaks.pop(0) if files.breaks else len(content)
                self.wfile.write(content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server, waiting.serving(server):
        files.address = f"http://127.0.0.1:{server.server_port}"
        yield files
