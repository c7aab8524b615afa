"""A real HTTP server on loopback that misbehaves on purpose: the fault is the first part of the path.

`http://127.0.0.1:PORT/429-after/v1` answers every request with status 429 and a Retry-After; `/cut/v1` breaks the
stream after the third token. Requests are kept in `seen`, so that a test can count them and look at what was sent.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from waiting import serving

CERTIFICATE = Path(__file__).with_name("faulty_certificate.pem")
#: How long a silence lasts: longer than the tests wait, short enough to end with them.
SILENCE_SECONDS = 1.0
WORDS = ("one", " two", " three", " four", " five")
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
_JSON, _SSE = _OK % b"application/json", _OK % b"text/event-stream"
_CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}]}'
#: Answers that are no HTTP, or that break it, as bytes.
RAW = {
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "binary": b"\x15\x03\x01\x00\x02\x02\x50",
    "silent": b"",
    "half-a-header": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "cut-short": _JSON + b'Content-Length: 99\r\n\r\n{"data": [',
    "stream-cut-short": _SSE + b"Content-Length: 999\r\n\r\n" + _CHUNK + b"\n\n",
    "too-short": _JSON + b'Content-Length: 5\r\n\r\n{"data": []}',
    "no-number": _JSON + b'Content-Length: many\r\n\r\n{"data": []}',
    "no-chunks": _JSON + b'Transfer-Encoding: chunked\r\n\r\n{"data": []}',
    "stream-no-chunks": _SSE + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNK + b"\n\n",
    "no-gzip": _JSON + b'Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\n{"data": []}',
    "stream-no-gzip": _SSE + b"Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\ndata: no gzip",
    "deep": _JSON + b"\r\n" + b"[" * 100_000,
    "not-utf-8": _JSON + b'\r\n{"data": "\xff\xfe\xfa"}',
}

_EVENTS = [b'{"choices": [{"index": 0, "delta": %s}]}' % d for d in (b'{"content": "one"}', b'{"content": " two"}')]
_EVENTS.append(b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}')
_PLAIN = b"".join(b"data: %s\n\n" % event for event in _EVENTS) + b"data: [DONE]\n\n"
#: The same three events in the forms that the standard allows, and in some that servers send all the same.
STREAMS = {
    "comments": b": keep-alive\n\n" + _PLAIN.replace(b"\n\n", b"\n: still here\n\n:\n\n"),
    "no-blank": _PLAIN.replace(b"data: ", b"data:"),
    "crlf": _PLAIN.replace(b"\n", b"\r\n"),
    "cr": _PLAIN.replace(b"\n", b"\r"),
    "several-lines": _PLAIN.replace(b', "delta"', b',\ndata: "delta"'),
    "other-fields": _PLAIN.replace(b"data:", b"event: message\nid: 7\nretry: 10\nunknown\ndata:"),
    "pings": b"event: ping\n\nevent: ping\ndata: {}\n\ndata:\n\ndata\n\n" + _PLAIN,
    "mark": b"\xef\xbb\xbf" + _PLAIN,
    "no-end": _PLAIN.removesuffix(b"data: [DONE]\n\n"),
    "no-last-line": _PLAIN.removesuffix(b"\ndata: [DONE]\n\n"),
    "null": b'data: {"choices": null, "usage": null}\n\n' + _PLAIN,
    "separators": _PLAIN.replace(b"{}", b'{"role": "\xe2\x80\xa8\xc2\x85"}'),
}


class FaultyServer(ThreadingHTTPServer):
    """Answers in the way that the path asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, Any]] = []
        self.failures_left = self.elsewhere = 0
        self.words = ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is part of the tests."""

    def address(self, fault: str) -> str:
        """The address whose requests meet this fault."""
        return f"http://127.0.0.1:{self.server_address[1]}/{fault}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultyServer

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append({"body": json.loads(body or b"null"), "key": self.headers.get("Authorization")})
        fault = self.path.split("/")[1]
        if fault.startswith("echo-"):
            # What some providers do: repeat the key that they refuse.
            self.status(int(fault[5:]), {}, f"Incorrect key provided: {self.headers.get('Authorization')}")
        elif fault.removeprefix("stream-") in STREAMS:
            self.raw(_SSE + b"\r\n" + STREAMS[fault.removeprefix("stream-")])
        elif fault in RAW:
            self.raw(RAW[fault])
        elif fault.startswith("sends-on"):
            self.sends_on()
        elif fault[:3].isdecimal():
            self.status(int(fault[:3]), {"Retry-After": "0.05"} if fault.endswith("-after") else {})
        elif fault == "long-wait":
            self.status(429, {"Retry-After": "60"})
        elif fault == "passing" and self.server.failures_left > 0:
            self.server.failures_left -= 1
            self.status(503, {"Retry-After": "0.01"})
        else:
            getattr(self, fault.replace("-", "_"), self.passing)()

    def status(self, code: int, headers: dict[str, str], message: str = "as the test asked") -> None:
        self.whole(json.dumps({"error": {"message": message, "code": "a_code"}}).encode(), code, headers=headers)

    def whole(self, body: bytes, code: int = 200, kind: str = "application/json", headers: Any = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, words: tuple[str, ...] = WORDS) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in words:
            self.event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})

    def event(self, value: Any) -> None:
        common = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        self.piece(b"data: " + json.dumps(common | value).encode() + b"\n\n")

    def piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self, reason: str = "stop") -> None:
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}})
        self.piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def passing(self) -> None:
        if self.path.endswith("/models"):
            return self.whole(json.dumps({"data": [{"id": "phi4-mini"}, {"id": "other"}]}).encode())
        self.stream()
        return self.end()

    def malformed(self) -> None:
        self.stream(WORDS[:1])
        self.piece(b'data: {"choices": [{"ind\n\n')
        self.wfile.write(b"0\r\n\r\n")

    def html(self) -> None:
        self.whole(b"<html>Please sign in</html>", kind="text/html")

    def cut(self) -> None:
        self.stream(WORDS[:3])
        self.close_connection = True

    def polite_cut(self) -> None:
        self.stream(WORDS[:3])
        self.wfile.write(b"0\r\n\r\n")

    def stall(self) -> None:
        self.stream(WORDS[:3])
        time.sleep(SILENCE_SECONDS)
        self.close_connection = True

    def slow(self) -> None:
        time.sleep(SILENCE_SECONDS)
        self.passing()

    def sends_on(self) -> None:
        other = f"http://127.0.0.1:{self.server.elsewhere}{self.path}"
        self.whole(b"", int(self.path.split("/")[1][-3:]), headers={"Location": other})

    def raw(self, answer: bytes) -> None:
        """Sends bytes and ends the line, whatever HTTP would want."""
        self.wfile.write(answer)
        self.close_connection = True

    def says(self) -> None:
        self.raw(_SSE + b"\r\ndata: " + self.server.words.encode() + b"\n\n")

    def reports(self) -> None:
        self.raw(_SSE + b'\r\ndata: {"error": ' + self.server.words.encode() + b"}\n\n")

    def filtered(self) -> None:
        self.stream(WORDS[:2])
        self.end("content_filter")

    def filter_400(self) -> None:
        self.whole(b'{"error": {"message": "The prompt was filtered.", "code": "content_filter"}}', 400)

    def too_long(self) -> None:
        self.whole(b'{"error": {"message": "maximum context length", "code": "context_length_exceeded"}}', 400)


@contextmanager
def running(*, tls: bool = False) -> Iterator[FaultyServer]:
    """A faulty server while the block runs; with `tls`, behind a certificate that nobody signed."""
    with FaultyServer() as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        with serving(server):
            yield server
