"""The line to a client: a port that nobody shares, a head that must come in time, and who leaves is noticed at once."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from helpers.errors import Unreachable
from helpers.server.answers import Refused

#: The seconds that a request's head may take to come.
HEAD_SECONDS = 10.0
#: A request's size, and the seconds that its body may take to come.
MOST_BYTES, BODY_SECONDS = 4 * 1024**2, 30.0
_Result = TypeVar("_Result")


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that no other server shares. Who connects while the models load waits in its queue."""
    known = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, _, _, place = known[0]
    one = socket.socket(family, kind)
    try:
        # On Windows SO_REUSEADDR would let two servers share a port.
        alone = "SO_EXCLUSIVEADDRUSE" if sys.platform == "win32" else "SO_REUSEADDR"
        one.setsockopt(socket.SOL_SOCKET, getattr(socket, alone), 1)
        one.bind(place)
        one.listen(256)
    except OSError:
        one.close()
        raise
    return one


def loopback_socket(port: int) -> socket.socket:
    """A socket that only this machine reaches; `port` 0 takes a free one, and one that is taken is `Unreachable`."""
    try:
        return bound_socket("127.0.0.1", port)
    except OSError as error:
        raise Unreachable(f"Port {port} of this machine is taken.", "Leave port out for a free one.") from error


@contextmanager
def served(config: uvicorn.Config, sock: socket.socket) -> Iterator[None]:
    """Serves on a bound socket for as long as the block runs, in a thread of this process."""
    running = uvicorn.Server(config)

    def run() -> None:
        # A server that cannot begin leaves by SystemExit; nobody is then to wait in the socket's queue for ever.
        with sock, suppress(SystemExit):
            running.run(sockets=[sock])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        running.should_exit = True
        thread.join()


async def bounded_body(request: Request, most: int | None = None, seconds: float | None = None) -> bytes:
    """The request's body, refused where it is larger than `most` bytes or takes more than so many seconds to come."""
    most, seconds = most or MOST_BYTES, seconds or BODY_SECONDS
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most:
                    raise Refused(413, "too_large", f"A request may have {most // 1024:,} KiB.")
    except TimeoutError:
        raise Refused(408, "timeout", f"The request did not come within {seconds:g} s.") from None
    return bytes(data)


class Impatient(H11Protocol):
    """A connection that is closed when no whole head of a request comes in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Waits no longer once a request is being answered."""
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self._late is not None:
            self._late.cancel()
            self._late = None
        elif not busy and self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)


class LineStream(StreamingResponse):
    """Events that end when the client goes, and then free what they held."""

    def __init__(self, content: AsyncGenerator[bytes], leaving: ExitStack, headers: dict[str, str]) -> None:
        super().__init__(content, headers=headers | {"Cache-Control": "no-store"}, media_type="text/event-stream")
        self._content, self._leaving = content, leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        with self._leaving:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._content.aclose()


async def while_here(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What the work returns; it is stopped when the client goes."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, left = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)
